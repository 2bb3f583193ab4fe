package replicate

import (
	"sync/atomic"
	"testing"
	"time"
)

// A part of our own feed is not taken for the whole of it because a peer has less, or nothing: publishing after that part would
// fork the feed.
func TestPartOfOwnFeedIsNotTheWhole(t *testing.T) {
	for _, via := range []string{"history", "EBT"} {
		t.Run(via, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				var fetched atomic.Int64
				node := startNode(t, 1, newGraph(), nodeOptions{mem: m, set: func(o *Options) { o.OwnFetched = func() { fetched.Add(1) } }})
				own := newAuthor(1).posts(6)
				node.hold(own[:3]...)
				for has, peer := range []byte{0: 10, 1: 11, 2: 12} {
					if via == "EBT" {
						e := dialRaw(t, m, testKey(peer), node).ebt()
						e.note(node.id, int64(has), true)
					} else {
						h := newHistoryPeer(t, peer)
						h.add(own[:has]...)
						h.accept(m, node)
					}
					pass(time.Minute)
					if fetched.Load() != 0 {
						t.Fatalf("a peer with %d messages of our feed, of which we hold 3, told that this is all", has)
					}
				}
				h := newHistoryPeer(t, 20)
				h.add(own...)
				h.accept(m, node)
				pass(time.Minute)
				node.holds(node.id, 6)
				if fetched.Load() == 0 {
					t.Error("the whole feed was fetched, and nobody was told")
				}
			})
		})
	}
}
