package replicate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
)

// soakNode is a node that stops and starts again. Unlike testNode it leaves nothing behind when it stops.
type soakNode struct {
	n     byte
	key   identity.KeyPair
	addr  identity.Address
	dir   string
	graph *fakeGraph
	offer []offer
	room  identity.Address // zero: none

	net    *Network // nil: it is stopped
	log    *log.Log
	cancel context.CancelFunc
	ran    chan error
	starts int
}

type offer struct {
	addr identity.Address
	kind Kind
}

func newSoakNode(t *testing.T, n byte) *soakNode {
	key := testKey(n)
	return &soakNode{
		n: n, key: key, addr: identity.Address{Proto: "net", Host: "node", Port: int(n), Key: key.ID()}, dir: t.TempDir(), graph: newGraph(key.ID()),
	}
}

func (s *soakNode) start(t *testing.T, m *memNet) {
	l, err := log.Open(log.Options{Dir: s.dir + "/log"})
	if err != nil {
		t.Fatal(err)
	}
	net, err := New(Options{Key: s.key, NetworkKey: testNetwork, Log: l, Graph: s.graph, Dir: s.dir, dial: m.dial})
	if err != nil {
		t.Fatal(err)
	}
	r, err := muxrpc.NewRegistry(net.Methods())
	if err != nil {
		t.Fatal(err)
	}
	net.Serve(r, r)
	net.listeners = append(net.listeners, m.listen(s.addr.HostPort()))
	ctx, cancel := context.WithCancel(context.Background())
	s.net, s.log, s.cancel, s.ran = net, l, cancel, make(chan error, 1)
	s.starts++
	go func() { s.ran <- net.Run(ctx) }()
	if !s.room.Key.IsZero() {
		net.Keep(s.room)
	}
	for _, o := range s.offer {
		net.Offer(o.addr, o.kind, "friend")
	}
}

func (s *soakNode) stop(t *testing.T) {
	if s.net == nil {
		return
	}
	s.cancel()
	if err := <-s.ran; err != nil {
		t.Error(err)
	}
	if err := s.log.Close(); err != nil {
		t.Error(err)
	}
	s.net, s.log, s.cancel, s.ran = nil, nil, nil, nil
}

func (s *soakNode) publish(t *testing.T) {
	if err := s.log.Confirm(s.key.ID()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.log.Publish(s.key, []byte(`{"type":"post","text":"a few words about the day"}`)); err != nil {
		t.Fatal(err)
	}
}

// soak is how long nodes run, and how many.
type soak struct {
	nodes    int
	day      time.Duration // virtual
	from, to int           // days at whose ends is counted
}

// Nodes that run for long, with peers that come and go, connections that rotate and a few messages a day, take no more memory,
// goroutines and open files at the end than near the beginning, and hold each other's messages.
//
// Plain go test has a few nodes and short days. The whole of it, 50 nodes and 30 days, is for make soak, which sets CHARKHA_SOAK=1; it
// takes half an hour. There, Badger looks for something to compact once a minute: two goroutines of each store look every 50 ms
// otherwise, which is two thirds of all that happens in idle nodes.
//
// Badger begins a new value log at each start at which something is stored, and the log merges them: these files are counted apart, for
// there are some more of them at one time than at another.
func TestSoak(t *testing.T) {
	o := soak{nodes: 5, day: 10 * time.Minute, from: 1, to: 3}
	if os.Getenv("CHARKHA_SOAK") != "" {
		o = soak{nodes: 50, day: 24 * time.Hour, from: 5, to: 30}
	}
	bubble(t, func(t *testing.T, m *memNet) { o.run(t, m) })
}

func (o soak) run(t *testing.T, m *memNet) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var all []*soakNode
	for n := range o.nodes {
		all = append(all, newSoakNode(t, byte(n+1)))
	}
	// Two of the nodes are pubs: they are known to all and want all. Everybody wants some of the others and knows where they are; a
	// fifth of them know more people than they have slots for, so that connections rotate.
	const pubs = 2
	for i, s := range all {
		for j, other := range all {
			switch {
			case i == j:
			case j < pubs:
				s.offer = append(s.offer, offer{other.addr, KindPub})
				s.graph.wanted[other.key.ID()] = true
			case i < pubs:
				s.graph.wanted[other.key.ID()] = true
			}
		}
		friends := 3
		if i%5 == 0 {
			friends = 5
		}
		for range friends {
			if other := all[rnd.IntN(o.nodes)]; other != s {
				s.graph.wanted[other.key.ID()] = true
				s.offer = append(s.offer, offer{other.addr, KindOther})
			}
		}
	}
	// Half of the others are in a room, and each knows somebody there whom it can only reach through it.
	r := newRoom(t, m)
	var inside []*soakNode
	for i, s := range all {
		if i >= pubs && i%4 <= 1 {
			s.room = r.addr
			inside = append(inside, s)
		}
	}
	for i, s := range inside {
		s.graph.wanted[inside[(i+1)%len(inside)].key.ID()] = true
		s.graph.wanted[inside[(i+len(inside)-1)%len(inside)].key.ID()] = true
	}
	for _, s := range all {
		s.start(t, m)
	}
	defer func() {
		for _, s := range all {
			s.stop(t)
		}
	}()
	var before usage
	for day := 1; day <= o.to; day++ {
		for range 24 {
			for _, s := range all {
				switch {
				case s.net == nil && rnd.IntN(4) == 0:
					s.start(t, m)
				case s.net != nil && rnd.IntN(24) == 0:
					s.stop(t)
				case s.net != nil && rnd.IntN(8) == 0:
					s.publish(t)
				}
			}
			time.Sleep(o.day / 24)
		}
		for _, s := range all {
			if s.net == nil {
				s.start(t, m)
			}
		}
		pass(o.day / 24)
		for _, s := range all {
			for _, other := range all {
				id := other.key.ID()
				want, _ := other.log.Head(id)
				if has, _ := s.log.Head(id); s.graph.Wanted(id) && has.Sequence != want.Sequence {
					t.Errorf("day %d: %s holds %d of %d messages of %s", day, s.key.ID().Short(), has.Sequence, want.Sequence, id.Short())
				}
			}
		}
		m.forget()
		r.forget()
		now := measure(t, all)
		t.Logf("day %d: %s", day, now)
		if day == o.from {
			before = now
		}
	}
	o.compare(t, before, measure(t, all))
}

// usage is what the nodes take.
type usage struct {
	connections, goroutines, messages int
	files, valueLogs                  int // open, the latter apart
	starts                            int
	heap                              int64
}

func (u usage) String() string {
	return fmt.Sprintf("%d connections, %d goroutines, %.1f MB of heap, %d open files and %d value logs after %d starts, %d messages stored",
		u.connections, u.goroutines, float64(u.heap)/1e6, u.files, u.valueLogs, u.starts, u.messages)
}

func measure(t *testing.T, all []*soakNode) (u usage) {
	t.Helper()
	for _, s := range all {
		for _, p := range s.net.Peers() {
			if p.State == Connected {
				u.connections++
			}
		}
		u.messages += int(s.log.Len())
		u.starts += s.starts
	}
	for range 3 {
		runtime.GC()
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	u.heap, u.goroutines = int64(mem.HeapAlloc), runtime.NumGoroutine()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Log(err) // not Linux
	}
	for _, fd := range open {
		if name, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasSuffix(name, ".vlog") {
			u.valueLogs++
		} else {
			u.files++
		}
	}
	return u
}

// compare fails when there is more than before.
func (o soak) compare(t *testing.T, before, after usage) {
	t.Helper()
	// There are some ten goroutines to a connection, twenty to one through a room, and there may be some more connections at one time than at another.
	if most := before.goroutines + 20*max(0, after.connections-before.connections); after.goroutines > most {
		t.Errorf("%d goroutines, before %d", after.goroutines, before.goroutines)
	}
	// A store keeps some of what is stored in memory: numbers, and what Badger knows of its tables.
	if most := before.heap + int64(o.nodes)*100_000 + 100*int64(after.messages-before.messages); after.heap > most {
		t.Errorf("%d bytes of heap, before %d", after.heap, before.heap)
	}
	// Badger has up to eight small tables before it makes one of them.
	if most := before.files + 8*o.nodes; after.files > most {
		t.Errorf("%d open files, before %d", after.files, before.files)
	}
	// Four of a size are merged, and there are few sizes.
	if most := 16 * o.nodes; after.valueLogs > most {
		t.Errorf("%d value logs are open after %d starts", after.valueLogs, after.starts)
	}
}
