package index

import (
	"encoding/json"
	"net"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
)

// pubs is where people say that pubs are: the last address that each author gave for each pub, in messages of type "pub" (npm
// ssb-invite writes them, ssb-gossip and ssb-conn read them). A row is author, pub -> multiserver address.
type pubs struct {
	stateless
	added bool // a row, in the transaction; the follower's

	mu      sync.Mutex
	changed chan struct{} // closed when rows were added
}

func newPubs() *pubs { return &pubs{changed: make(chan struct{})} }

func (*pubs) name() string    { return "pubs" }
func (*pubs) version() uint32 { return 1 }
func (*pubs) prefix() byte    { return 'P' }
func (*pubs) kind() string    { return "pub" }
func (p *pubs) begin()        { p.added = false }

func (p *pubs) committed() {
	if !p.added {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pubs) add(txn *badger.Txn, m *message) error {
	addr, ok := parsePub(m.Content())
	if !ok {
		return nil
	}
	p.added = true
	author := m.Author()
	key := append(append([]byte{p.prefix()}, author[:]...), addr.Key[:]...)
	return txn.Set(key, []byte(addr.String()))
}

// parsePub reads the address in a pub message: {host, port, key}, or a text. One that leads back to whoever reads it, or to
// nowhere, is none.
func parsePub(content []byte) (addr identity.Address, ok bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(content, &fields) != nil {
		return addr, false
	}
	var text string
	var err error
	if json.Unmarshal(fields["address"], &text) == nil {
		addr, err = identity.ParseAddress(text)
	} else {
		var parts map[string]json.RawMessage
		var host, key string
		var port int
		if json.Unmarshal(fields["address"], &parts) != nil || json.Unmarshal(parts["host"], &host) != nil ||
			json.Unmarshal(parts["port"], &port) != nil || json.Unmarshal(parts["key"], &key) != nil {
			return addr, false
		}
		addr = identity.Address{Proto: "net", Host: host, Port: port}
		if addr.Key, err = identity.ParseID(key); err == nil {
			addr, err = identity.ParseAddress(addr.String()) // is all of it an address?
		}
	}
	if err != nil || addr.Proto != "net" || addr.Port == 0 || nowhere(addr.Host) {
		return identity.Address{}, false
	}
	return addr, true
}

// nowhere reports whether a host means something else on each computer, or none.
func nowhere(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip := net.ParseIP(host); ip != nil {
		return !ip.IsGlobalUnicast() // private networks are: a pub may be in one
	}
	return host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || strings.ContainsAny(host, "%")
}

// Announcement is the address of a pub, and who says so.
type Announcement struct {
	Author identity.ID
	Pub    identity.Address
}

const (
	maxAnnouncements       = 1000
	maxAnnouncementsAuthor = 50
)

// Pubs lists the pubs that people announce who are at most so many hops away: at most 50 of each, 1,000 in all. The nearest
// authors come first.
func (x *Index) Pubs(hops int) (all []Announcement, err error) {
	for _, author := range x.WantedFeeds() {
		if d, ok := x.Hops(author); !ok || d > hops || len(all) >= maxAnnouncements {
			break
		}
		of := 0
		err := x.look(func(txn *badger.Txn) error {
			it := txn.NewIterator(badger.IteratorOptions{Prefix: append([]byte{x.pubs.prefix()}, author[:]...), PrefetchValues: true})
			defer it.Close()
			for it.Rewind(); it.Valid() && of < maxAnnouncementsAuthor && len(all) < maxAnnouncements; it.Next() {
				value, err := it.Item().ValueCopy(nil)
				if err != nil {
					return err
				}
				addr, err := identity.ParseAddress(string(value))
				if err != nil {
					return errRow
				}
				all = append(all, Announcement{author, addr})
				of++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// PubsChanged returns a channel that is closed when somebody announces a pub. Ask for it before Pubs. Who is near enough to be
// heard is another matter: see Changed.
func (x *Index) PubsChanged() <-chan struct{} {
	x.pubs.mu.Lock()
	defer x.pubs.mu.Unlock()
	return x.pubs.changed
}
