package replicate

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
)

// stallsWithin is how long a peer keeps its connection that says it has more and sends nothing: until the brain finds that, until the
// scheduler is told, its watchdog, and the goodbye.
const stallsWithin = 10*time.Second + tickEvery + lookEvery + 30*time.Second + time.Second

// A peer that says it has more of a feed and never sends it is not waited for: another one is asked, and its connection is closed,
// with a reason, and not made anew for a while.
func TestStallWatchdog(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		victim := newAuthor(8)
		wanted := append(ids(1, 2), victim.id())
		node := startNode(t, 1, newGraph(wanted...), nodeOptions{mem: m})
		silent := newHost(t, m, 3, ebtMethod(map[identity.ID]int64{victim.id(): 9}, nil))
		node.Offer(silent.addr, KindOther, "test")
		pass(time.Second)
		if len(silent.open()) != 1 {
			t.Fatal("the silent peer was not dialled")
		}
		honest := startNode(t, 2, newGraph(wanted...), nodeOptions{mem: m})
		honest.hold(victim.posts(5)...)
		node.connect(honest)
		pass(15 * time.Second)
		node.holds(victim.id(), 5)
		if p, _ := node.peer(silent.key.ID()); p.State != Connected || p.Missing != 1 || p.Stalled != 1 || !strings.Contains(p.Why, "owes us 1 feed") {
			t.Errorf("while it is waited for: %+v", p)
		}

		pass(stallsWithin - 15*time.Second)
		all := silent.all()
		if len(all) != 1 || all[0].until.IsZero() {
			t.Fatalf("the silent peer is connected still, or again: %+v", all)
		}
		if held := all[0].until.Sub(all[0].since); held < 30*time.Second {
			t.Errorf("the silent peer was given no more than %v", held)
		}
		p, _ := node.peer(silent.key.ID())
		if p.State != Waiting || p.Failures == 0 || !strings.Contains(p.LastError, "it says that it has more of a feed and sent nothing for") ||
			!strings.Contains(p.Why, p.LastError) || p.Until.Sub(all[0].until) < 100*time.Second {
			t.Errorf("afterwards: %+v", p)
		}
		if p, _ := node.peer(honest.id); p.State != Connected {
			t.Errorf("the honest one: %+v", p)
		}

		// It may come back once. When it does the same again, it may not, for longer.
		pass(2*time.Minute + 10*time.Second)
		if all = silent.all(); len(all) != 2 {
			t.Fatalf("it was connected %d times", len(all))
		}
		if waited := all[1].since.Sub(all[0].until); waited < 2*time.Minute-time.Second {
			t.Errorf("it was dialled again after %v", waited)
		}
		pass(stallsWithin)
		if all = silent.all(); all[1].until.IsZero() {
			t.Fatal("it is connected still")
		}
		if p, _ := node.peer(silent.key.ID()); !strings.Contains(p.Why, "because it did not send what it promised") {
			t.Errorf("after the second time: %+v", p)
		}
		if err := silent.dial(node); err == nil {
			t.Error("it was let in again at once")
		}
		pass(2*time.Minute - 30*time.Second)
		if n := len(silent.all()); n != 2 {
			t.Errorf("it was connected %d times", n)
		}
	})
}

// A peer that is slow and sends is left alone, however slow, as long as something comes.
func TestSlowPeerIsNotDropped(t *testing.T) {
	for _, every := range []time.Duration{8 * time.Second, 25 * time.Second} {
		t.Run(every.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				author := newAuthor(8)
				raws := author.posts(40)
				node := startNode(t, 1, newGraph(author.id()), nodeOptions{mem: m})
				slow := newHost(t, m, 3, ebtMethod(map[identity.ID]int64{author.id(): int64(len(raws))}, func(ctx context.Context, s *muxrpc.Stream) {
					for _, raw := range raws {
						select {
						case <-time.After(every):
						case <-ctx.Done():
							return
						}
						if s.SendJSON(raw) != nil {
							return
						}
					}
				}))
				node.Offer(slow.addr, KindOther, "test")
				pass(time.Duration(len(raws))*every + time.Minute)
				node.holds(author.id(), int64(len(raws)))
				if all := slow.all(); len(all) != 1 || !all[0].until.IsZero() {
					t.Errorf("%+v", all)
				}
			})
		})
	}
}

// A peer that owes a feed keeps its connection by sending what nobody asked it for neither for ever nor at all.
func TestStallWatchdogSeesThroughChatter(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		victim, stranger := newAuthor(8), newAuthor(9)
		raws := stranger.posts(500)
		node := startNode(t, 1, newGraph(victim.id()), nodeOptions{mem: m})
		chatty := newHost(t, m, 3, ebtMethod(map[identity.ID]int64{victim.id(): 9}, func(ctx context.Context, s *muxrpc.Stream) {
			for i, raw := range raws {
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
					return
				}
				note := fmt.Appendf(nil, `{"%s":%d}`, victim.id(), (9+i)<<1)
				if s.SendJSON(raw) != nil || s.SendJSON(note) != nil {
					return
				}
			}
		}))
		node.Offer(chatty.addr, KindOther, "test")
		pass(stallsWithin + time.Second)
		if all := chatty.all(); len(all) != 1 || all[0].until.IsZero() {
			t.Errorf("a peer that sends strangers' messages and promises: %+v", all)
		}
	})
}

// When the computer wakes from sleep, what waited is dialled within seconds, and connections of before are made anew.
func TestWakingFromSleep(t *testing.T) {
	for _, slept := range []time.Duration{2 * time.Minute, time.Hour} {
		t.Run(slept.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				var clock wallClock
				node := startNode(t, 1, newGraph(), nodeOptions{mem: m, set: func(o *Options) { o.Now = clock.now }})
				friend := newHost(t, m, 2)
				other := newHost(t, m, 4)
				// One that will listen again, with a pause of about an hour by then; one whose connection dies in the sleep; one that
				// dialled us, of which the same is true.
				friend.stop()
				node.Offer(friend.addr, KindOther, "test")
				node.Offer(other.addr, KindOther, "test")
				guest := dialRaw(t, m, testKey(5), node)
				for range 120 {
					pass(time.Minute)
					if p, _ := node.peer(friend.key.ID()); p.Until.Sub(clock.now()) > 4*time.Minute {
						break
					}
				}
				if p, _ := node.peer(friend.key.ID()); p.State != Waiting || p.Until.Sub(clock.now()) < 3*time.Minute {
					t.Fatalf("no long pause to cut short: %+v", p)
				}
				if len(other.open()) != 1 || !guest.connected() {
					t.Fatal("not connected before the sleep")
				}
				friend.listen()
				clock.jump(slept)
				pass(12 * time.Second)
				if len(friend.open()) != 1 {
					p, _ := node.peer(friend.key.ID())
					t.Errorf("the peer that waited: %+v", p)
				}
				if all := other.all(); len(all) != 2 || all[0].until.IsZero() || !all[1].until.IsZero() {
					t.Errorf("the connection of before the sleep: %+v", all)
				}
				if guest.connected() {
					t.Error("the connection of who dialled us is taken for alive")
				}
				// Once is enough.
				pass(10 * time.Minute)
				if len(friend.all()) != 1 || len(other.all()) != 2 {
					t.Errorf("connected %d and %d times", len(friend.all()), len(other.all()))
				}
			})
		})
	}
}

// A clock that is set is no sleep when it goes back, and does not keep anybody waiting.
func TestClockGoesBack(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		var clock wallClock
		node := startNode(t, 1, newGraph(), nodeOptions{mem: m, set: func(o *Options) { o.Now = clock.now }})
		friend := newHost(t, m, 2)
		node.Offer(friend.addr, KindOther, "test")
		pass(time.Minute)
		clock.jump(-3 * time.Hour)
		pass(time.Minute)
		if len(friend.all()) != 1 || len(friend.open()) != 1 {
			t.Errorf("%+v", friend.all())
		}
		friend.stop()
		friend.listen()
		pass(time.Minute)
		if len(friend.open()) != 1 {
			p, _ := node.peer(friend.key.ID())
			t.Errorf("after the clock went back, a lost peer is not dialled: %+v", p)
		}
	})
}

// A conn.json that cannot be understood is put aside, not written over.
func TestDamagedConnFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "conn.json"), []byte("what is this"), 0o600); err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	n := &Network{log: slog.New(slog.NewTextHandler(&told, nil))}
	n.o.Dir = dir
	if saved := n.remembered(); len(saved) != 0 {
		t.Errorf("%d peers", len(saved))
	}
	if b, err := os.ReadFile(filepath.Join(dir, "conn.json.damaged")); err != nil || string(b) != "what is this" {
		t.Errorf("%q, %v", b, err)
	}
	if !strings.Contains(told.String(), "put aside") {
		t.Errorf("told: %s", told.String())
	}
}
