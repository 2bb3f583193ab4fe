package replicate

import (
	"fmt"
	"io"
	"testing"
	"time"

	"charkha/identity"
)

// What a feed's author blocks gets nothing of it by EBT, nor by history streams: an empty one, as if there were nothing.
func TestBlockedByTheAuthor(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		blocker, other := newAuthor(8), newAuthor(9)
		node := startNode(t, 1, newGraph(blocker.id(), other.id()), nodeOptions{mem: m})
		node.hold(blocker.posts(10)...)
		node.hold(other.posts(10)...)
		peer := testKey(2)
		node.block(blocker.id(), peer.ID(), true)
		p := dialRaw(t, m, peer, node)
		e := p.ebt()
		e.note(blocker.id(), 0, true)
		e.note(other.id(), 0, true)
		streams := map[string]*rawHistory{
			"old":     p.history(`{"id":"%s"}`, blocker.id()),
			"live":    p.history(`{"id":"%s","live":true}`, blocker.id()),
			"only":    p.history(`{"id":"%s","live":true,"old":false}`, blocker.id()),
			"reverse": p.history(`{"id":"%s","reverse":true,"limit":1}`, blocker.id()),
			"by id":   p.history(`"%s"`, blocker.id()),
		}
		node.hold(blocker.posts(1)...)
		pass(10 * time.Second)
		if got := e.got(blocker.id()); got != 0 {
			t.Errorf("%d messages came by EBT", got)
		}
		if n, ok := e.noted(blocker.id()); !ok || n != -1 {
			t.Errorf("the note about the feed is %d, want -1", n)
		}
		if got := e.got(other.id()); got != 10 {
			t.Errorf("%d of 10 messages of another feed came", got)
		}
		for name, h := range streams {
			if got := len(h.messages()); got != 0 {
				t.Errorf("%d messages came on the stream %s", got, name)
			}
			if err := h.ended(); err != io.EOF {
				t.Errorf("the stream %s ended with %v", name, err)
			}
		}
		// When the block is over, all of it comes: the peer asked for it.
		node.block(blocker.id(), peer.ID(), false)
		pass(time.Second)
		if got := e.got(blocker.id()); got != 11 {
			t.Errorf("%d of 11 messages came after the block", got)
		}
	})
}

// A block that comes while streams are open ends what is sent: also inside the range that is on its way to a peer who reads
// slowly, and also when the graph learns of the block later than the log.
func TestBlockWhileStreamsAreOpen(t *testing.T) {
	for _, c := range []struct {
		name  string
		block func(node *testNode, author *author, peer identity.ID)
	}{
		{"the graph says so", func(node *testNode, author *author, peer identity.ID) {
			node.block(author.id(), peer, true)
			node.hold(author.posts(5)...)
		}},
		{"only the feed says so", func(node *testNode, author *author, peer identity.ID) {
			node.hold(author.contact(peer, true))
			node.hold(author.posts(5)...)
		}},
		{"all at once", func(node *testNode, author *author, peer identity.ID) {
			node.hold(append([][]byte{author.contact(peer, true)}, author.posts(5)...)...)
			node.block(author.id(), peer, true)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				author := newAuthor(9)
				node := startNode(t, 1, newGraph(author.id()), nodeOptions{mem: m})
				node.hold(author.posts(10)...)
				p := dialRaw(t, m, testKey(2), node)
				e := p.ebt()
				e.note(author.id(), 0, true)
				live := p.history(`{"id":"%s","live":true}`, author.id())
				fresh := p.history(`{"id":"%s","live":true,"old":false}`, author.id())
				pass(time.Second)
				if e.got(author.id()) != 10 || len(live.messages()) != 10 {
					t.Fatalf("before the block: %d by EBT, %d by history", e.got(author.id()), len(live.messages()))
				}
				c.block(node, author, p.key.ID())
				pass(10 * time.Second)
				if got := e.got(author.id()); got != 10 {
					t.Errorf("%d messages came by EBT, 10 were allowed", got)
				}
				if got := len(live.messages()); got != 10 || live.ended() != io.EOF {
					t.Errorf("%d messages came on the live stream, 10 were allowed; it ended with %v", got, live.ended())
				}
				if got := len(fresh.messages()); got != 0 {
					t.Errorf("%d messages came on the stream of what is new", got)
				}
				if !p.connected() {
					t.Error("the connection was closed, though we do not block the peer")
				}
			})
		})
	}
}

// A block that was taken back later in the feed does not hold up the feed.
func TestBlockTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		author, peer := newAuthor(9), testKey(2)
		node := startNode(t, 1, newGraph(author.id()), nodeOptions{mem: m})
		node.hold(author.posts(2)...)
		node.hold(author.contact(peer.ID(), true))
		node.hold(author.posts(2)...)
		p := dialRaw(t, m, peer, node)
		e := p.ebt()
		e.note(author.id(), 0, true)
		old := p.history(`{"id":"%s"}`, author.id())
		pass(time.Second)
		if e.got(author.id()) != 2 || len(old.messages()) != 2 {
			t.Errorf("%d came by EBT and %d by history before the block", e.got(author.id()), len(old.messages()))
		}
		node.hold(author.contact(peer.ID(), false))
		pass(time.Second)
		old = p.history(`{"id":"%s"}`, author.id())
		if e.got(author.id()) != 6 || len(old.messages()) != 6 {
			t.Errorf("%d came by EBT and %d by history after the block was taken back", e.got(author.id()), len(old.messages()))
		}
	})
}

// The names of fields are looked at with their case, as in JS: what only looks like a block holds up nothing.
func TestNoBlockByOtherNames(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		author, peer := newAuthor(9), testKey(2)
		node := startNode(t, 1, newGraph(author.id()), nodeOptions{mem: m})
		node.hold(
			author.message(fmt.Sprintf(`{"type":"contact","contact":"%s","following":true,"Blocking":true,"FLAGGED":1}`, peer.ID())),
			author.message(fmt.Sprintf(`{"type":"contact","Contact":"%s","blocking":true}`, peer.ID())),
		)
		p := dialRaw(t, m, peer, node)
		e := p.ebt()
		e.note(author.id(), 0, true)
		pass(time.Second)
		if got := e.got(author.id()); got != 2 {
			t.Errorf("%d of 2 messages came", got)
		}
	})
}

// A peer that does not read has a range of messages on its way. What was not written when the block comes stays here.
func TestBlockInsideARange(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		author := newAuthor(9)
		node := startNode(t, 1, newGraph(author.id()), nodeOptions{mem: m})
		const all = 900 // one range; more than fits into the buffers on the way
		node.hold(author.posts(all)...)
		p := dialRaw(t, m, testKey(2), node)
		e := p.ebt()
		p.valve.stop()
		e.note(author.id(), 0, true)
		h := p.history(`{"id":"%s"}`, author.id())
		pass(time.Second)
		node.block(author.id(), p.key.ID(), true)
		pass(time.Second)
		p.valve.read()
		pass(10 * time.Second)
		got, old := e.got(author.id()), len(h.messages())
		t.Logf("%d messages by EBT and %d by history were on their way", got, old)
		if got == 0 || old == 0 || got+old >= all {
			t.Errorf("%d messages came by EBT and %d by history", got, old)
		}
	})
}

// Whom we block cannot connect, is cut off when the block comes, and is not dialled.
func TestBlockedByUs(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		node := startNode(t, 1, newGraph(ids(2)...), nodeOptions{mem: m})
		other := startNode(t, 2, newGraph(ids(1)...), nodeOptions{mem: m})
		node.publish(3)
		p := dialRaw(t, m, testKey(3), node)
		e := p.ebt()
		node.connect(other)
		pass(time.Second)
		other.holds(node.id, 3)
		node.block(node.id, p.key.ID(), true)
		node.block(node.id, other.id, true)
		pass(time.Second)
		if p.connected() || e.got(node.id) != 0 {
			t.Error("the peer that we block is still connected")
		}
		if got := len(node.Peers()) + len(other.Peers()); got != 0 {
			t.Errorf("%d connections with blocked peers", got)
		}
		if _, err := tryRaw(t, m, testKey(3), node); err == nil {
			t.Error("a peer that we block could connect")
		}
		if err := other.Connect(t.Context(), node.addr); err == nil {
			t.Error("a node that we block could connect")
		}
		before := len(m.dialled(other.addr.HostPort()))
		node.Keep(other.addr)
		pass(time.Minute)
		if n := len(m.dialled(other.addr.HostPort())) - before; n != 0 {
			t.Errorf("a peer that we block was dialled %d times", n)
		}
		node.block(node.id, other.id, false)
		pass(5 * time.Minute)
		if len(node.Peers()) != 1 {
			t.Error("after the block the kept peer was not dialled")
		}
	})
}

// Nobody is asked for a feed that is not wanted, as those that we block are, nor a peer for the feed of somebody who blocks it.
func TestBlockedFeedsAreNotAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		blocked, shy := newAuthor(8), newAuthor(9)
		node := startNode(t, 1, newGraph(blocked.id(), shy.id()), nodeOptions{mem: m})
		peer := newHistoryPeer(t, 2)
		peer.add(blocked.posts(3)...)
		peer.add(shy.posts(3)...)
		node.block(shy.id(), peer.key.ID(), true)
		e := dialRaw(t, m, testKey(3), node).ebt()
		peer.accept(m, node)
		pass(time.Second)
		node.holds(blocked.id(), 3)
		node.holds(shy.id(), 0)
		if n := peer.asked(shy.id()); n != 0 {
			t.Errorf("asked %d times for the feed of somebody who blocks the peer", n)
		}
		// We block the author: the graph does not want the feed any more.
		node.graph.change(func() {
			delete(node.graph.wanted, blocked.id())
			node.graph.blocks[[2]identity.ID{node.id, blocked.id()}] = true
		})
		pass(time.Second)
		asked := peer.asked(blocked.id())
		if peer.open(blocked.id()) != 0 {
			t.Error("a live stream of a feed that we block is open")
		}
		raws := blocked.posts(3)
		peer.add(raws...)
		e.note(blocked.id(), 6, true)
		e.send(raws...)
		pass(5 * time.Minute)
		node.holds(blocked.id(), 3)
		if n := peer.asked(blocked.id()) - asked; n != 0 {
			t.Errorf("asked %d times for a feed that we block", n)
		}
		if n, ok := e.noted(blocked.id()); !ok || n != -1 {
			t.Errorf("the note about a feed that we block is %d", n)
		}
	})
}
