package index

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
)

// edge is what an author last said of another feed. 0: nothing.
type edge int8

const (
	follows edge = 1
	blocks  edge = -1
	neither edge = -2 // a follow or a block was taken back, or there never was one
)

// contacts is the follow graph and the distances in it. A row is from, to -> edge.
type contacts struct {
	stateless
	self identity.ID // fixed
	hops int         // fixed

	pending []contact // of the transaction; the follower's

	mu      sync.RWMutex
	graph   graph
	dist    []int16       // by number
	changed chan struct{} // closed when distances or blocks change
	edges   chan struct{} // closed when any edge does
}

// contact is one edge that a message sets.
type contact struct {
	from, to identity.ID
	edge     edge
}

// graph is who said what of whom. Feeds have numbers in it: with 5,000 people who follow 100 others each that takes 14 bytes an
// edge and 3.5 ms for all distances, where a map of maps by id takes 52 bytes and 21 ms (BenchmarkGraphMemory, BenchmarkEdge).
//
// A known hole: what one author in range may say is not bounded. Each feed that somebody names costs some 100 bytes of memory
// for as long as the log holds the message, as it does in ssb-friends.
type graph struct {
	numbers map[identity.ID]uint32
	ids     []identity.ID     // by number
	out     []map[uint32]edge // by number
}

func newContacts(self identity.ID, hops int) *contacts {
	c := &contacts{self: self, hops: min(hops, maxHops), changed: make(chan struct{}), edges: make(chan struct{})}
	c.clear()
	return c
}

func (*contacts) name() string    { return "contacts" }
func (*contacts) version() uint32 { return 2 }
func (*contacts) prefix() byte    { return 'K' }
func (*contacts) kind() string    { return "contact" }
func (c *contacts) begin()        { c.pending = c.pending[:0] }

func (c *contacts) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = nil
	c.graph = graph{numbers: map[identity.ID]uint32{}}
	c.graph.number(c.self)
	c.measure()
	c.tell()
	c.tellEdges()
}

func (c *contacts) load(txn *badger.Txn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := rows(txn, []byte{c.prefix()}, func(key, value []byte) error {
		e, err := parseContactRow(key, value)
		if err == nil {
			c.graph.set(e)
		}
		return err
	})
	c.measure()
	return err
}

func (e contact) row(prefix byte) (key, value []byte) {
	key = append(append([]byte{prefix}, e.from[:]...), e.to[:]...)
	return key, []byte{byte(e.edge)}
}

// parseContactRow reads a row; the prefix is cut off from the key.
func parseContactRow(key, value []byte) (contact, error) {
	if len(key) != 64 || len(value) != 1 {
		return contact{}, errRow
	}
	e := contact{from: identity.ID(key[:32]), to: identity.ID(key[32:]), edge: edge(int8(value[0]))}
	if e.edge != follows && e.edge != blocks && e.edge != neither {
		return contact{}, errRow
	}
	return e, nil
}

func (c *contacts) add(txn *badger.Txn, m *message) error {
	to, e, ok := parseContact(m.Content())
	if !ok {
		return nil
	}
	row := contact{m.Author(), to, e}
	c.pending = append(c.pending, row)
	return txn.Set(row.row(c.prefix()))
}

// parseContact reads the content of a contact message as ssb-friends does. The content is in the log's compact spelling, in
// which each value has one spelling only.
func parseContact(content []byte) (to identity.ID, e edge, ok bool) {
	var fields map[string]json.RawMessage // not a struct: encoding/json would take "Following" for "following"
	if json.Unmarshal(content, &fields) != nil {
		return to, 0, false
	}
	to, ok = parseFeed(fields["contact"])
	switch {
	case !ok:
		return to, 0, false
	case truthy(fields["blocking"]) || truthy(fields["flagged"]):
		return to, blocks, true
	case string(fields["following"]) == "true":
		return to, follows, true
	}
	return to, neither, true
}

// parseFeed reads a JSON string that is a feed id and nothing else.
func parseFeed(value json.RawMessage) (identity.ID, bool) {
	var text *string
	if json.Unmarshal(value, &text) != nil || text == nil {
		return identity.ID{}, false
	}
	id, err := identity.ParseID(*text)
	return id, err == nil
}

// truthy is JavaScript's truth of a JSON value in canonical spelling; a value that is not there is not true.
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
	moved, changed, any := false, false, false
	for _, e := range c.pending {
		from, to, old := c.graph.set(e)
		if old == e.edge {
			continue
		}
		any = true
		changed = changed || old == blocks || e.edge == blocks
		c.grow()
		moved = moved || c.matters(from, to, old, e.edge)
	}
	c.pending = c.pending[:0]
	if any {
		c.tellEdges()
	}
	if moved && c.measure() || changed {
		c.tell()
	}
}

// number returns the number of a feed, a new one if need be.
func (g *graph) number(id identity.ID) uint32 {
	n, ok := g.numbers[id]
	if !ok {
		n = uint32(len(g.ids))
		g.numbers[id] = n
		g.ids = append(g.ids, id)
		g.out = append(g.out, nil)
	}
	return n
}

// set sets an edge and returns what it was.
func (g *graph) set(e contact) (from, to uint32, old edge) {
	from, to = g.number(e.from), g.number(e.to)
	if g.out[from] == nil {
		g.out[from] = map[uint32]edge{}
	}
	old = g.out[from][to]
	g.out[from][to] = e.edge
	return from, to, old
}

func (g *graph) edge(from, to identity.ID) edge {
	f, known := g.numbers[from]
	t, knownTo := g.numbers[to]
	if !known || !knownTo {
		return 0
	}
	return g.out[f][t]
}

const (
	unknown = -1 << 15 // the distance of a feed that nobody in range speaks of
	maxHops = 1000     // more is no range but everybody, and distances must fit
)

// step is the distance that an edge gives from a feed at distance at, which must be 0 or above.
func step(at int16, e edge) int16 {
	switch e {
	case follows:
		return at + 1
	case blocks:
		return -(at + 1)
	case neither:
		return -(at + 2)
	}
	return unknown
}

// nearer reports whether distance a counts more than b: it is nearer to 0, or as near and a follow.
func nearer(a, b int16) bool {
	if a == unknown || b == unknown {
		return a != unknown && b == unknown
	}
	if abs(a) != abs(b) {
		return abs(a) < abs(b)
	}
	return a > b
}

func abs(a int16) int16 { return max(a, -a) }

// grow gives new feeds the distance unknown.
func (c *contacts) grow() {
	for len(c.dist) < len(c.graph.ids) {
		c.dist = append(c.dist, unknown)
	}
}

// matters reports whether the distances may change when an edge does. Most edges change none: their author is too far away,
// or others who are as near say the same; this costs 70 ns instead of a millisecond. To follow a change through the graph would
// spare more, but has a case for each pair of edges. mu is held for writing, and the distances are those before the change.
func (c *contacts) matters(from, to uint32, old, now edge) bool {
	at, is := c.dist[from], c.dist[to]
	if at < 0 || int(at) >= c.hops {
		return false // its word does not count
	}
	return nearer(step(at, now), is) || step(at, old) == is && old != 0
}

// measure computes the distances anew and reports whether one changed. mu is held for writing.
func (c *contacts) measure() bool {
	old := c.dist
	c.dist = c.graph.distances(0, c.hops)
	for len(old) < len(c.dist) {
		old = append(old, unknown)
	}
	return !slices.Equal(old, c.dist)
}

// tell wakes those who wait for a change. mu is held for writing.
func (c *contacts) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *contacts) tellEdges() {
	close(c.edges)
	c.edges = make(chan struct{})
}

// distances measures from a feed on, by number: 0 itself, positive over follows up to most, negative where a block or
// an ended relation is nearer, unknown else.
func (g *graph) distances(start uint32, most int) []int16 {
	dist := make([]int16, len(g.ids))
	for i := range dist {
		dist[i] = unknown
	}
	dist[start] = 0
	level := []uint32{start} // the feeds at distance at
	for at := int16(0); int(at) < most && len(level) > 0; at++ {
		var next []uint32
		for _, from := range level {
			for to, e := range g.out[from] {
				d := step(at, e)
				if !nearer(d, dist[to]) {
					continue
				}
				dist[to] = d
				if d > 0 {
					next = append(next, to)
				}
			}
		}
		level = next
	}
	return dist
}

// Hops is the distance of a feed, see the package doc; false: it is not known.
func (x *Index) Hops(feed identity.ID) (int, bool) {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	n, ok := c.graph.numbers[feed]
	if !ok || c.dist[n] == unknown {
		return 0, false
	}
	return int(c.dist[n]), true
}

// HopsAll is the distance of every feed that is known. The map is the caller's.
func (x *Index) HopsAll() map[identity.ID]int {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := map[identity.ID]int{}
	for n, d := range c.dist {
		if d != unknown {
			all[c.graph.ids[n]] = int(d)
		}
	}
	return all
}

// Wanted reports whether a feed is in range.
func (x *Index) Wanted(feed identity.ID) bool {
	d, ok := x.Hops(feed)
	return ok && d >= 0
}

// WantedFeeds lists the feeds in range, the nearest first: our own, then those that we follow.
func (x *Index) WantedFeeds() []identity.ID {
	c := x.contacts
	type wanted struct {
		id identity.ID
		at int16
	}
	c.mu.RLock()
	var all []wanted
	for n, d := range c.dist {
		if d >= 0 {
			all = append(all, wanted{c.graph.ids[n], d})
		}
	}
	c.mu.RUnlock()
	slices.SortFunc(all, func(a, b wanted) int {
		if a.at != b.at {
			return int(a.at) - int(b.at)
		}
		return slices.Compare(a.id[:], b.id[:])
	})
	feeds := make([]identity.ID, len(all))
	for i, w := range all {
		feeds[i] = w.id
	}
	return feeds
}

func (x *Index) edge(from, to identity.ID) edge {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.graph.edge(from, to)
}

// Blocks reports whether an author blocks a feed.
func (x *Index) Blocks(author, feed identity.ID) bool { return x.edge(author, feed) == blocks }

// Follows reports whether an author follows a feed.
func (x *Index) Follows(author, feed identity.ID) bool { return x.edge(author, feed) == follows }

// Followers lists those in range who follow a feed, the nearest first: through the first of them it is as near as it is.
func (x *Index) Followers(feed identity.ID) []identity.ID { return x.saying(feed, follows) }

// Blockers lists those in range who block a feed, the nearest first.
func (x *Index) Blockers(feed identity.ID) []identity.ID { return x.saying(feed, blocks) }

func (x *Index) saying(feed identity.ID, e edge) (who []identity.ID) {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	to, ok := c.graph.numbers[feed]
	if !ok {
		return nil
	}
	var from []uint32
	for n, out := range c.graph.out {
		if c.dist[n] >= 0 && out[to] == e {
			from = append(from, uint32(n))
		}
	}
	slices.SortFunc(from, func(a, b uint32) int {
		return cmp.Or(int(c.dist[a])-int(c.dist[b]), slices.Compare(c.graph.ids[a][:], c.graph.ids[b][:]))
	})
	for _, n := range from {
		who = append(who, c.graph.ids[n])
	}
	return who
}

// Changed returns a channel that is closed when a distance or a block changes. Ask for it before looking at what it tells
// of, so that no change is missed.
func (x *Index) Changed() <-chan struct{} {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.changed
}
