package index

import (
	"encoding/json"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
	"charkha/log"
)

// names is what people call people: the last name that each author gave each feed.
type names struct {
	pending []naming // of the transaction; the follower's

	mu    sync.RWMutex
	given map[identity.ID]map[identity.ID]string // feed -> author -> name
}

type naming struct {
	feed, author identity.ID
	name         string // "": taken back
}

func newNames() *names {
	n := &names{}
	n.clear()
	return n
}

func (*names) name() string    { return "names" }
func (*names) version() uint32 { return 1 }
func (*names) prefix() byte    { return 'N' }

func (n *names) clear() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending = nil
	n.given = map[identity.ID]map[identity.ID]string{}
}

func (n *names) load(txn *badger.Txn) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return rows(txn, n.prefix(), func(key, value []byte) error {
		if len(key) != 64 {
			return errRow
		}
		n.set(naming{feed: identity.ID(key[:32]), author: identity.ID(key[32:]), name: string(value)})
		return nil
	})
}

func (n *names) set(g naming) {
	by := n.given[g.feed]
	if g.name == "" {
		delete(by, g.author)
		return
	}
	if by == nil {
		by = map[identity.ID]string{}
		n.given[g.feed] = by
	}
	by[g.author] = g.name
}

func (n *names) add(txn *badger.Txn, m *log.Message) error {
	if m.Type() != "about" {
		return nil
	}
	feed, name, ok := parseAbout(m.Content())
	if !ok {
		return nil
	}
	author := m.Author()
	key := append(append([]byte{n.prefix()}, feed[:]...), author[:]...)
	var err error
	if name == "" {
		err = txn.Delete(key)
	} else {
		err = txn.Set(key, []byte(name))
	}
	n.pending = append(n.pending, naming{feed, author, name})
	return err
}

// parseAbout reads what an about message says of a feed's name: a text, or "" for {remove: true}.
func parseAbout(content []byte) (feed identity.ID, name string, ok bool) {
	var fields struct {
		About json.RawMessage `json:"about"`
		Name  json.RawMessage `json:"name"`
	}
	if json.Unmarshal(content, &fields) != nil || len(fields.Name) == 0 {
		return feed, "", false
	}
	var text string
	if json.Unmarshal(fields.About, &text) != nil {
		return feed, "", false
	}
	feed, err := identity.ParseID(text)
	if err != nil {
		return feed, "", false
	}
	if json.Unmarshal(fields.Name, &name) == nil {
		return feed, name, name != ""
	}
	var remove struct {
		Remove bool `json:"remove"`
	}
	return feed, "", json.Unmarshal(fields.Name, &remove) == nil && remove.Remove
}

func (n *names) committed() {
	if len(n.pending) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, g := range n.pending {
		n.set(g)
	}
	n.pending = n.pending[:0]
}

// Name is what a feed is called: by us, else by itself, else by most; "": nobody gave it a name.
func (x *Index) Name(feed identity.ID) string {
	n := x.names
	n.mu.RLock()
	defer n.mu.RUnlock()
	by := n.given[feed]
	for _, author := range []identity.ID{x.o.Self, feed} {
		if name := by[author]; name != "" {
			return name
		}
	}
	count := map[string]int{}
	best := ""
	for _, name := range by {
		count[name]++
		// The smaller of two equally common ones, so that it does not change from call to call.
		if c := count[name] - count[best]; best == "" || c > 0 || c == 0 && name < best {
			best = name
		}
	}
	return best
}
