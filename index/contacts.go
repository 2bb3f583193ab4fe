package index

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
	"charkha/log"
)

// edge is what an author last said of another feed.
type edge int8

const (
	follows edge = 1
	blocks  edge = -1
	neither edge = -2
)

// contacts is the follow graph and the distances in it.
type contacts struct {
	self identity.ID
	hops int

	pending []contact // of the transaction; the follower's

	mu      sync.RWMutex
	graph   map[identity.ID]map[identity.ID]edge
	dist    map[identity.ID]int
	changed chan struct{}
}

// contact is one edge that a message sets.
type contact struct {
	from, to identity.ID
	edge     edge
}

func newContacts(self identity.ID, hops int) *contacts {
	c := &contacts{self: self, hops: hops, changed: make(chan struct{})}
	c.clear()
	return c
}

func (*contacts) name() string    { return "contacts" }
func (*contacts) version() uint32 { return 1 }
func (*contacts) prefix() byte    { return 'K' }

func (c *contacts) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = nil
	c.graph = map[identity.ID]map[identity.ID]edge{}
	c.measure()
}

func (c *contacts) load(txn *badger.Txn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := rows(txn, c.prefix(), func(key, value []byte) error {
		if len(key) != 64 || len(value) != 1 {
			return errRow
		}
		c.set(contact{from: identity.ID(key[:32]), to: identity.ID(key[32:]), edge: edge(int8(value[0]))})
		return nil
	})
	c.measure()
	return err
}

func (c *contacts) set(e contact) (changed bool) {
	out := c.graph[e.from]
	if out == nil {
		out = map[identity.ID]edge{}
		c.graph[e.from] = out
	}
	changed = out[e.to] != e.edge
	out[e.to] = e.edge
	return changed
}

func (c *contacts) add(txn *badger.Txn, m *log.Message) error {
	if m.Type() != "contact" {
		return nil
	}
	to, e, ok := parseContact(m.Content())
	if !ok {
		return nil
	}
	from := m.Author()
	key := append(append([]byte{c.prefix()}, from[:]...), to[:]...)
	if err := txn.Set(key, []byte{byte(e)}); err != nil {
		return err
	}
	c.pending = append(c.pending, contact{from, to, e})
	return nil
}

// parseContact reads the content of a contact message as ssb-friends does.
func parseContact(content []byte) (to identity.ID, e edge, ok bool) {
	var fields struct {
		Contact   json.RawMessage `json:"contact"`
		Following json.RawMessage `json:"following"`
		Blocking  json.RawMessage `json:"blocking"`
		Flagged   json.RawMessage `json:"flagged"`
	}
	if json.Unmarshal(content, &fields) != nil {
		return to, 0, false
	}
	var text string
	if json.Unmarshal(fields.Contact, &text) != nil {
		return to, 0, false
	}
	to, err := identity.ParseID(text)
	if err != nil {
		return to, 0, false
	}
	switch {
	case truthy(fields.Blocking) || truthy(fields.Flagged):
		return to, blocks, true
	case string(fields.Following) == "true":
		return to, follows, true
	}
	return to, neither, true
}

// truthy is JavaScript's truth of a JSON value in canonical spelling.
func truthy(v json.RawMessage) bool {
	switch string(v) {
	case "", "null", "false", "0", `""`:
		return false
	}
	return true
}

func (c *contacts) committed() {
	if len(c.pending) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false
	for _, e := range c.pending {
		changed = c.set(e) || changed
	}
	c.pending = c.pending[:0]
	if changed {
		c.measure()
	}
}

// measure computes the distances anew, and tells that they changed. mu is held for writing.
func (c *contacts) measure() {
	c.dist = distances(c.graph, c.self, c.hops)
	close(c.changed)
	c.changed = make(chan struct{})
}

// distances measures from a feed on: 0 itself, positive over follows up to most, negative where a block or an ended
// relation is nearer.
func distances(graph map[identity.ID]map[identity.ID]edge, self identity.ID, most int) map[identity.ID]int {
	dist := map[identity.ID]int{self: 0}
	// The candidates by how far they are; from distance a come a+1 and, for "neither", a+2.
	near := [3]struct{ yes, no []identity.ID }{}
	expand := func(id identity.ID, at int) {
		for to, e := range graph[id] {
			switch e {
			case follows:
				near[1].yes = append(near[1].yes, to)
			case blocks:
				near[1].no = append(near[1].no, to)
			default:
				near[2].no = append(near[2].no, to)
			}
		}
	}
	if most > 0 {
		expand(self, 0)
	}
	for at := 1; at <= most+1; at++ {
		near[0], near[1], near[2] = near[1], near[2], struct{ yes, no []identity.ID }{}
		var reached []identity.ID
		for _, id := range near[0].yes {
			if _, ok := dist[id]; !ok {
				dist[id] = at
				reached = append(reached, id)
			}
		}
		for _, id := range near[0].no {
			if _, ok := dist[id]; !ok {
				dist[id] = -at
			}
		}
		if at < most {
			for _, id := range reached {
				expand(id, at)
			}
		}
	}
	return dist
}

// Hops is the distance of a feed, see the package doc; false: it is not known.
func (x *Index) Hops(feed identity.ID) (int, bool) {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	d, ok := c.dist[feed]
	return d, ok
}

// HopsAll is the distance of every feed that is known.
func (x *Index) HopsAll() map[identity.ID]int {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	return maps.Clone(c.dist)
}

// Wanted reports whether a feed is in range.
func (x *Index) Wanted(feed identity.ID) bool {
	d, ok := x.Hops(feed)
	return ok && d >= 0
}

// WantedFeeds lists the feeds in range, our own first.
func (x *Index) WantedFeeds() []identity.ID {
	c := x.contacts
	c.mu.RLock()
	feeds := make([]identity.ID, 0, len(c.dist))
	dist := c.dist // replaced, never changed
	c.mu.RUnlock()
	for id, d := range dist {
		if d >= 0 {
			feeds = append(feeds, id)
		}
	}
	slices.SortFunc(feeds, func(a, b identity.ID) int {
		if dist[a] != dist[b] {
			return dist[a] - dist[b]
		}
		return slices.Compare(a[:], b[:])
	})
	return feeds
}

func (x *Index) edge(from, to identity.ID) edge {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.graph[from][to]
}

// Blocks reports whether an author blocks a feed.
func (x *Index) Blocks(author, feed identity.ID) bool { return x.edge(author, feed) == blocks }

// Follows reports whether an author follows a feed.
func (x *Index) Follows(author, feed identity.ID) bool { return x.edge(author, feed) == follows }

// Changed returns a channel that is closed when distances or blocks change.
func (x *Index) Changed() <-chan struct{} {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.changed
}
