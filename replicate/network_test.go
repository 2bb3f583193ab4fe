package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
)

// fakeGraph is a Graph that tests set.
type fakeGraph struct {
	mu      sync.Mutex
	wanted  map[identity.ID]bool // and followed by everybody
	blocks  map[[2]identity.ID]bool
	changed chan struct{}
}

func newGraph(wanted ...identity.ID) *fakeGraph {
	g := &fakeGraph{wanted: map[identity.ID]bool{}, blocks: map[[2]identity.ID]bool{}, changed: make(chan struct{})}
	for _, id := range wanted {
		g.wanted[id] = true
	}
	return g
}

func (g *fakeGraph) change(do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	do()
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *fakeGraph) Wanted(id identity.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wanted[id]
}

func (g *fakeGraph) WantedFeeds() []identity.ID {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.wanted))
}

func (g *fakeGraph) Blocks(a, p identity.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.blocks[[2]identity.ID{a, p}]
}

func (g *fakeGraph) Follows(_, p identity.ID) bool { return g.Wanted(p) }

func (g *fakeGraph) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

func testKey(n byte) identity.KeyPair { return identity.FromSeed([32]byte{n, 42}) }

var testNetwork = [32]byte{1, 2, 3}

// testNode is a Network with a log, on loopback.
type testNode struct {
	*Network
	t     testing.TB
	key   identity.KeyPair
	id    identity.ID
	log   *log.Log
	graph *fakeGraph
	dir   string
	addr  identity.Address
	stop  func()
}

type nodeOptions struct {
	noEBT bool // to peers, it looks like a node without EBT
	dir   string
	mem   *memNet // nil: TCP on loopback
	book  *book   // takes down what is logged
	set   func(*Options)
}

func startNode(t testing.TB, n byte, graph *fakeGraph, o nodeOptions) *testNode {
	t.Helper()
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	key := testKey(n)
	l, err := log.Open(log.Options{Dir: o.dir + "/log"})
	if err != nil {
		t.Fatal(err)
	}
	graph.wanted[key.ID()] = true
	var out io.Writer = testWriter{t, key.ID()}
	if o.book != nil {
		out = o.book
	}
	logger := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	opts := Options{Key: key, NetworkKey: testNetwork, Log: l, Graph: graph, Dir: o.dir, Logger: logger, HistoryAfter: 1}
	if !o.noEBT {
		opts.HistoryAfter = 0
	}
	if o.mem != nil {
		opts.dial = o.mem.dial
	}
	if o.set != nil {
		o.set(&opts)
	}
	net, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	methods := net.Methods()
	if o.noEBT {
		methods = slices.DeleteFunc(methods, func(m muxrpc.Method) bool { return m.Name == "ebt.replicate" })
	}
	r, err := muxrpc.NewRegistry(methods, net.BlobMethods())
	if err != nil {
		t.Fatal(err)
	}
	net.Serve(r, r)
	var addr identity.Address
	if o.mem != nil {
		addr = identity.Address{Proto: "net", Host: "node", Port: int(n), Key: key.ID()}
		net.listeners = append(net.listeners, o.mem.listen(addr.HostPort()))
	} else if addr, err = net.Listen("net:127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- net.Run(ctx) }()
	<-net.running
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &testNode{Network: net, t: t, key: key, id: key.ID(), log: l, graph: graph, dir: o.dir, addr: addr, stop: stop}
}

type testWriter struct {
	t  testing.TB
	id identity.ID
}

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s %s", w.id.Short(), b)
	return len(b), nil
}

// publish appends messages to the node's own feed.
func (n *testNode) publish(count int) {
	n.t.Helper()
	if err := n.log.Confirm(n.id); err != nil {
		n.t.Fatal(err)
	}
	for i := range count {
		if _, err := n.log.Publish(n.key, fmt.Appendf(nil, `{"type":"post","text":"message %d"}`, i)); err != nil {
			n.t.Fatal(err)
		}
	}
}

// wait waits until the node holds a feed up to a sequence.
func (n *testNode) wait(feed identity.ID, seq int64) {
	n.t.Helper()
	ctx := n.t.Context()
	if h, _ := n.log.Head(feed); h.Sequence >= seq {
		return
	}
	for m, err := range n.log.Follow(ctx, 0) {
		if err != nil {
			n.t.Fatal(err)
		}
		if m.Author() == feed && m.Sequence() >= seq {
			return
		}
	}
}

func (n *testNode) connect(to *testNode) {
	n.t.Helper()
	if err := n.Connect(n.t.Context(), to.addr); err != nil {
		n.t.Fatal(err)
	}
}

func TestTwoNodesExchangeFeeds(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b nodeOptions
		via  string
	}{
		{"EBT", nodeOptions{}, nodeOptions{}, "ebt"},
		{"the dialled one has no EBT", nodeOptions{}, nodeOptions{noEBT: true}, "history"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids := []identity.ID{testKey(1).ID(), testKey(2).ID()}
			a, b := startNode(t, 1, newGraph(ids...), c.a), startNode(t, 2, newGraph(ids...), c.b)
			a.publish(50)
			b.publish(70)
			a.connect(b)
			a.wait(b.id, 70)
			b.wait(a.id, 50)
			// live, both ways
			a.publish(1)
			b.wait(a.id, 51)
			b.publish(1)
			a.wait(b.id, 71)
			var p []Peer
			for changed := a.Changed(); ; changed = a.Changed() { // messages are counted a moment after they can be seen
				if p = a.Peers(); len(p) == 1 && p[0].Received == 71 {
					break
				}
				select {
				case <-changed:
				case <-time.After(10 * time.Second):
					t.Fatalf("%+v", p)
				}
			}
			if p[0].ID != b.id || p[0].Via != c.via || !p[0].Outgoing {
				t.Errorf("%+v", p)
			}
			a.stop()
			b.stop()
		})
	}
}

func TestConnectSaysWhyNot(t *testing.T) {
	a := startNode(t, 1, newGraph(), nodeOptions{})
	b := startNode(t, 2, newGraph(), nodeOptions{set: func(o *Options) { o.NetworkKey = [32]byte{9} }})
	if err := a.Connect(t.Context(), b.addr); err == nil {
		t.Error("connected to another network")
	} else {
		t.Log(err)
	}
	wrong := b.addr
	wrong.Key = testKey(77).ID()
	if err := a.Connect(t.Context(), wrong); err == nil {
		t.Error("connected with the wrong key")
	} else {
		t.Log(err)
	}
	a.graph.change(func() { a.graph.blocks[[2]identity.ID{a.id, b.id}] = true })
	if err := a.Connect(t.Context(), b.addr); !errors.Is(err, errBlocked) {
		t.Errorf("blocked: %v", err)
	}
}
