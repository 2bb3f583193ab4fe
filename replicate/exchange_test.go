package replicate

import (
	"fmt"
	"testing"
	"time"

	"charkha/identity"
)

func ids(numbers ...byte) (all []identity.ID) {
	for _, n := range numbers {
		all = append(all, testKey(n).ID())
	}
	return all
}

// The node in the middle carries the feeds of two who never meet, and of a third who is nowhere.
func TestMiddleNodeCarriesFeeds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  nodeOptions
	}{{"EBT", nodeOptions{}}, {"history streams", nodeOptions{noEBT: true}}} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				third := newAuthor(9)
				all := ids(1, 2, 3, 9)
				c.end.mem = m
				a := startNode(t, 1, newGraph(all...), nodeOptions{mem: m})
				b := startNode(t, 2, newGraph(all...), nodeOptions{mem: m})
				z := startNode(t, 3, newGraph(all...), c.end)
				a.publish(40)
				z.publish(30)
				a.hold(third.posts(60)...)
				a.connect(b)
				b.connect(z)
				pass(10 * time.Second)
				a.publish(1)
				z.publish(1)
				a.hold(third.posts(1)...)
				pass(10 * time.Second)
				for _, n := range []*testNode{a, b, z} {
					n.holds(a.id, 41)
					n.holds(z.id, 31)
					n.holds(third.id(), 61)
				}
			})
		})
	}
}

// In a diamond, a message comes from one of the two sides only. The side that speaks first after a pause becomes the source,
// so one or two messages come from both then, and no more.
func TestDiamondDoesNotDoubleMessages(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		all := ids(1, 2, 3, 4)
		top := startNode(t, 1, newGraph(all...), nodeOptions{mem: m})
		left := startNode(t, 2, newGraph(all...), nodeOptions{mem: m})
		right := startNode(t, 3, newGraph(all...), nodeOptions{mem: m})
		bottom := startNode(t, 4, newGraph(all...), nodeOptions{mem: m})
		for _, n := range []*testNode{left, right} {
			n.connect(top)
			bottom.connect(n)
		}
		pass(5 * time.Second)
		const rounds = 30
		for range rounds {
			top.publish(10)
			pass(time.Second)
		}
		bottom.holds(top.id, 10*rounds)
		var sent int64
		for _, n := range []*testNode{left, right} {
			for _, p := range n.Peers() {
				if p.ID == bottom.id {
					sent += p.Sent
				}
			}
		}
		t.Logf("%d messages were sent to bring %d", sent, 10*rounds)
		if sent > (10+2)*rounds {
			t.Errorf("%d messages were sent to bring %d", sent, 10*rounds)
		}
	})
}

// Two nodes that meet again say only what changed: also after both were started anew, as clocks are kept on disk.
func TestReconnectSendsOnlyWhatChanged(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				const feeds = 100
				authors := map[byte]*author{}
				var wanted []identity.ID
				for n := range byte(feeds) {
					authors[n] = newAuthor(n + 100)
					wanted = append(wanted, authors[n].id())
				}
				wanted = append(wanted, ids(1, 2)...)
				dirs := []string{t.TempDir(), t.TempDir()}
				start := func() (a, b *testNode) {
					return startNode(t, 1, newGraph(wanted...), nodeOptions{mem: m, dir: dirs[0]}),
						startNode(t, 2, newGraph(wanted...), nodeOptions{mem: m, dir: dirs[1]})
				}
				a, b := start()
				for _, au := range authors {
					a.hold(au.posts(3)...)
				}
				b.connect(a)
				pass(5 * time.Second)
				for _, au := range authors {
					b.holds(au.id(), 3)
				}
				// Who sent does not know what arrived: that is said at the next meeting, and remembered from then on.
				meet := func(change int) (p Peer) {
					t.Helper()
					if restart {
						a.stop()
						b.stop()
						a, b = start()
					} else {
						b.Disconnect(a.id)
						pass(time.Second)
					}
					a.hold(authors[7].posts(change)...)
					b.connect(a)
					pass(5 * time.Second)
					b.holds(authors[7].id(), authors[7].seq)
					p = a.Peers()[0]
					t.Logf("%d messages, %d bytes out, %d in", p.Sent, p.BytesOut, p.BytesIn)
					if p.Sent != int64(change) {
						t.Errorf("%d messages were sent, %d are new", p.Sent, change)
					}
					return p
				}
				if p := a.Peers()[0]; p.Sent != 3*feeds {
					t.Errorf("%d messages were sent at first", p.Sent)
				}
				meet(2)
				for _, change := range []int{0, 3} {
					// The notes of all feeds take some 6 KB each way.
					if p := meet(change); p.BytesOut > 3000 || p.BytesIn > 1000 {
						t.Errorf("%d bytes went out and %d came in", p.BytesOut, p.BytesIn)
					}
				}
			})
		})
	}
}

// A peer without EBT is asked with createHistoryStream, and asks with it; what is published later goes on, and so does a feed
// that is wanted later, while one that is no longer wanted stops.
func TestWithoutEBT(t *testing.T) {
	for _, weDial := range []bool{true, false} {
		t.Run(fmt.Sprintf("we dial %v", weDial), func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				late, live := newAuthor(9), newAuthor(8)
				a := startNode(t, 1, newGraph(ids(1, 8)...), nodeOptions{mem: m})
				a.publish(20)
				b := newHistoryPeer(t, 2)
				b.add(live.posts(30)...)
				b.add(late.posts(5)...)
				var p *rawPeer
				if weDial {
					p = b.accept(m, a)
				} else {
					p = dialRaw(t, m, b.key, a, b.method())
				}
				pass(20 * time.Second)
				a.holds(live.id(), 30)
				a.holds(late.id(), 0)
				if got := a.Peers()[0].Via; got != "history" {
					t.Errorf("via %q", got)
				}
				asked := p.history(`{"id":"%s","live":true,"keys":false}`, a.id)
				for range 3 {
					a.publish(1)
					b.add(live.posts(1)...)
					pass(time.Second)
				}
				a.holds(live.id(), 33)
				if got := len(asked.messages()); got != 23 {
					t.Errorf("the peer got %d of 23", got)
				}
				a.graph.change(func() { a.graph.wanted[late.id()] = true })
				pass(time.Second)
				a.holds(late.id(), 5)
				b.add(late.posts(1)...)
				pass(time.Second)
				a.holds(late.id(), 6)
				if n := b.open(late.id()); n != 1 {
					t.Errorf("%d live streams of a wanted feed", n)
				}
				a.graph.change(func() { delete(a.graph.wanted, late.id()) })
				pass(time.Second)
				if n := b.open(late.id()); n != 0 {
					t.Errorf("%d live streams of a feed that is not wanted any more", n)
				}
			})
		})
	}
}
