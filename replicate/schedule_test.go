package replicate

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	t.Parallel()
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

// Nor by sending again and again what is known.
func TestStallWatchdogSeesThroughDuplicates(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		victim := newAuthor(8)
		raws := victim.posts(2)
		node := startNode(t, 1, newGraph(victim.id()), nodeOptions{mem: m})
		echo := newHost(t, m, 3, ebtMethod(map[identity.ID]int64{victim.id(): 9}, func(ctx context.Context, s *muxrpc.Stream) {
			for {
				for _, raw := range raws {
					if s.SendJSON(raw) != nil {
						return
					}
				}
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
					return
				}
			}
		}))
		node.Offer(echo.addr, KindOther, "test")
		pass(stallsWithin + time.Second)
		node.holds(victim.id(), 2)
		if all := echo.all(); len(all) != 1 || all[0].until.IsZero() {
			t.Errorf("a peer that sends duplicates: %+v", all)
		}
	})
}

// A peer that takes our EBT call, answers pings and says nothing is dropped after some minutes, with a reason, and dialled ever less.
func TestMutePeerIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		node := startNode(t, 1, newGraph(), nodeOptions{mem: m})
		takes := muxrpc.Method{Name: "ebt.replicate", Kind: muxrpc.Duplex, MaxBody: maxNotesBody, Anonymous: true,
			Stream: func(_ context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
				_, err := s.Recv()
				return err
			}}
		mute := newHost(t, m, 3, takes, pingMethod(func() []byte { return []byte("1700000000000") }))
		node.Offer(mute.addr, KindOther, "test")
		pass(3*time.Minute - time.Second)
		if p, _ := node.peer(mute.key.ID()); p.State != Connected || !strings.Contains(p.Why, "it has said nothing yet") {
			t.Errorf("while it is waited for: %+v", p)
		}
		pass(2 * time.Second)
		if all := mute.all(); len(all) != 1 || all[0].until.IsZero() {
			t.Fatalf("it is connected still, or again: %+v", all)
		}
		if p, _ := node.peer(mute.key.ID()); p.State != Waiting || p.Failures != 1 || !strings.Contains(p.Why, "it said nothing for 3 min") {
			t.Errorf("afterwards: %+v", p)
		}
		pass(2 * time.Hour)
		if n := len(mute.all()); n > 7 {
			t.Errorf("it was dialled %d times in two hours", n)
		}
	})
}

// When the computer wakes from sleep, what waited is dialled within seconds, and connections of before are made anew.
func TestWakingFromSleep(t *testing.T) {
	t.Parallel()
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

// connFile reads what a node remembers.
func (n *testNode) connFile() map[string]map[string]any {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dir, "conn.json"))
	if err != nil {
		n.t.Fatal(err)
	}
	var all map[string]map[string]any
	if err := json.Unmarshal(b, &all); err != nil {
		n.t.Fatalf("%v: %s", err, b)
	}
	return all
}

// What was learned of peers is written within a minute and when the node stops, and counts after a restart.
func TestConnFile(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		node := startNode(t, 1, newGraph(), nodeOptions{mem: m})
		good, bad := newHost(t, m, 2), far("bad", 3)
		neighbour := newHost(t, m, 4)
		node.Offer(good.addr, KindPub, "invite")
		node.Keep(bad)
		node.Offer(neighbour.addr, KindLAN, "beacon")
		pass(rememberEvery + lookEvery)
		all := node.connFile()
		if len(all) != 2 || all[good.addr.String()]["type"] != "pub" || all[good.addr.String()]["source"] != "invite" {
			t.Errorf("after a minute: %v", all)
		}
		if f, _ := all[bad.String()]["failure"].(float64); f < 3 || all[bad.String()]["key"] != bad.Key.String() {
			t.Errorf("after a minute: %v", all[bad.String()])
		}
		if info, err := os.Stat(filepath.Join(node.dir, "conn.json")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		late := newHost(t, m, 5)
		node.Offer(late.addr, KindOther, "test")
		pass(time.Second)
		before, _ := node.peer(bad.Key)
		node.stop()
		if all := node.connFile(); len(all) != 3 || all[late.addr.String()] == nil {
			t.Errorf("after the end: %v", all)
		}

		dialled := len(m.dialled(bad.HostPort()))
		node = startNode(t, 1, newGraph(), nodeOptions{mem: m, dir: node.dir})
		pass(time.Second)
		if len(good.open()) != 1 || len(late.open()) != 1 || len(neighbour.open()) != 0 {
			t.Errorf("after a restart, connected with %d, %d and %d", len(good.open()), len(late.open()), len(neighbour.open()))
		}
		after, ok := node.peer(bad.Key)
		if !ok || after.Failures != before.Failures || after.Kept {
			t.Errorf("after a restart: %+v; before: %+v", after, before)
		}
		pass(10 * time.Second)
		if n := len(m.dialled(bad.HostPort())) - dialled; n != 0 {
			t.Errorf("whom nobody could reach was dialled %d times at once after a restart", n)
		}
		pass(10 * time.Minute)
		if n := len(m.dialled(bad.HostPort())) - dialled; n == 0 {
			t.Error("whom nobody could reach is not dialled any more after a restart")
		}
	})
}

// The files that JS peers left are taken over: the addresses are dialled, and what means nothing to us is written back.
func TestTakesOverJSFiles(t *testing.T) {
	for _, c := range []struct{ name, entry string }{
		// As npm ssb-conn-db 1.0.5 writes it, and npm ssb-gossip before.
		{"conn.json", `{"ADDRESS":{"key":"KEY","source":"dht","type":"internet","birth":946684700000,"stateChange":946684700000,
			"duration":{"mean":1000,"stdev":0,"count":1,"sum":1000,"sqsum":1000000},"failure":0,"hashPrefix":"x"},
			"dht:seed:KEY~noauth":{"type":"dht","pool":"db"},"net:garbage":{"a":1},"":{},"x":7}`},
		{"gossip.json", `[{"host":"host","port":2,"key":"KEY","address":"ADDRESS","source":"manual","state":"connected","failure":2,"stateChange":946684700000,
			"duration":{"mean":0,"stdev":0,"count":0,"sum":0,"sqsum":0}},{"host":"10.0.0.1","port":8008,"key":"KEY","source":"local"},7,null]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				pub := newHost(t, m, 2)
				dir := t.TempDir()
				text := strings.NewReplacer("ADDRESS", pub.addr.String(), "KEY", pub.key.ID().String()).Replace(c.entry)
				if err := os.WriteFile(filepath.Join(dir, c.name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				node := startNode(t, 1, newGraph(), nodeOptions{mem: m, dir: dir})
				pass(5 * time.Second)
				if len(pub.open()) != 1 {
					t.Errorf("not dialled: %+v", node.Peers())
				}
				node.stop()
				all := node.connFile()
				if entry := all[pub.addr.String()]; entry == nil || entry["failure"] != 0.0 {
					t.Errorf("written: %v", all)
				}
				if c.name == "conn.json" && (len(all) != 3 || all["net:garbage"]["a"] != 1.0 || all[pub.addr.String()]["hashPrefix"] != "x") {
					t.Errorf("written: %v", all)
				}
			})
		})
	}
}

// A file of far more addresses than are read costs a moment at the start, and what is known of it is bounded.
func TestHugeConnFile(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, m *memNet) {
		pub := newHost(t, m, 2)
		var b strings.Builder
		fmt.Fprintf(&b, `{"%s":{"type":"pub","stateChange":946684700000,"duration":{"mean":1000,"count":1,"sum":1000}}`, pub.addr)
		for n := range 21_000 {
			id := identity.ID{byte(n), byte(n >> 8), byte(n >> 16), 9}
			fmt.Fprintf(&b, `,"net:pub%d.example:8008~shs:%s":{"key":"%s","type":"pub","failure":%d,"stateChange":946684700000}`, n, id.String()[1:45], id, n%3)
		}
		b.WriteString("}")
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "conn.json"), []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		node := startNode(t, 1, newGraph(), nodeOptions{mem: m, dir: dir, book: &book{}, set: func(o *Options) {
			o.dial = func(ctx context.Context, hostport string) (net.Conn, error) {
				if hostport == pub.addr.HostPort() {
					return m.dial(ctx, hostport)
				}
				select {
				case <-time.After(dialTimeout):
					return nil, errNobody
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		}})
		pass(time.Minute)
		if n := len(node.Peers()); n < 100 || n > 4096 {
			t.Errorf("%d addresses are known", n)
		}
		if len(pub.all()) != 1 {
			t.Error("the only one that can be reached was not reached in a minute")
		}
		node.stop()
		if n := len(node.connFile()); n < 100 || n > 4096 {
			t.Errorf("%d addresses are remembered", n)
		}
	})
}

// Pubs that messages name are tried. Who was reached once is remembered; who never was is forgotten, unless nobody could be
// reached: a computer that starts without a network does not lose them.
func TestAnnouncedPubs(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, m *memNet) {
		node := startNode(t, 1, newGraph(), nodeOptions{mem: m})
		good, bad := newHost(t, m, 2), far("bad", 3)
		good.stop()
		node.Offer(good.addr, KindPub, FromMessage)
		node.Offer(bad, KindPub, FromMessage)
		pass(40 * time.Minute)
		for _, id := range []identity.ID{good.key.ID(), bad.Key} {
			if p, ok := node.peer(id); !ok || p.Failures < 5 || p.Source != FromMessage {
				t.Fatalf("after forty minutes without a network: %+v", p)
			}
		}
		if all := node.connFile(); len(all) != 0 {
			t.Errorf("remembered before it was reached: %v", all)
		}
		good.listen()
		node.NetworkChanged()
		pass(time.Minute)
		if len(good.open()) != 1 {
			t.Fatal("not dialled when the network is back")
		}
		pass(time.Hour)
		if p, ok := node.peer(bad.Key); ok {
			t.Errorf("who was never reached: %+v", p)
		}
		if all := node.connFile(); len(all) != 1 || all[good.addr.String()] == nil {
			t.Errorf("remembered: %v", all)
		}
		// A new one that cannot be reached is forgotten soon.
		node.Offer(far("bad", 4), KindPub, FromMessage)
		pass(5 * time.Minute)
		if p, ok := node.peer(testKey(4).ID()); ok {
			t.Errorf("who was never reached: %+v", p)
		}
	})
}

// A conn.json that cannot be understood, or not be read, is put aside, not written over.
func TestDamagedConnFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		make  func(file string) error
		aside func(file string) bool
	}{
		{"no JSON", func(file string) error { return os.WriteFile(file, []byte("what is this"), 0o600) }, func(file string) bool {
			b, err := os.ReadFile(file)
			return err == nil && string(b) == "what is this"
		}},
		{"not to be read", func(file string) error { return os.Mkdir(file, 0o700) }, func(file string) bool {
			info, err := os.Stat(file)
			return err == nil && info.IsDir()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := c.make(filepath.Join(dir, "conn.json")); err != nil {
				t.Fatal(err)
			}
			var told strings.Builder
			n := &Network{log: slog.New(slog.NewTextHandler(&told, nil))}
			n.o.Dir = dir
			if saved := n.remembered(); len(saved) != 0 {
				t.Errorf("%d peers", len(saved))
			}
			if !c.aside(filepath.Join(dir, "conn.json.damaged")) {
				t.Error("it was not put aside")
			}
			if !strings.Contains(told.String(), "put aside") {
				t.Errorf("told: %s", told.String())
			}
		})
	}
}

// lateConn is a connection on which what is written arrives later.
type lateConn struct {
	net.Conn
	late   func() time.Duration
	queue  chan []byte
	once   sync.Once
	closed chan struct{}
}

func newLateConn(conn net.Conn, late func() time.Duration) *lateConn {
	c := &lateConn{Conn: conn, late: late, queue: make(chan []byte, 1000), closed: make(chan struct{})}
	go func() {
		defer conn.Close()
		for {
			select {
			case b := <-c.queue:
				select {
				case <-time.After(c.late()):
				case <-c.closed:
				}
				if _, err := conn.Write(b); err != nil {
					return
				}
			case <-c.closed:
				if len(c.queue) == 0 {
					return
				}
			}
		}
	}()
	return c
}

func (c *lateConn) Write(b []byte) (int, error) {
	select {
	case c.queue <- slices.Clone(b):
		return len(b), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *lateConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		_ = c.Conn.SetReadDeadline(time.Now())
		_ = c.Conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	})
	return nil
}

func (c *lateConn) SetWriteDeadline(time.Time) error { return nil } // Write does not wait

func (c *lateConn) SetDeadline(at time.Time) error { return c.SetReadDeadline(at) }

// When both sides dial at about the same time, over links of any speed, one connection is left, the same on both sides, and nothing
// that is said meanwhile is lost.
func TestOneConnectionPerKey(t *testing.T) {
	t.Parallel()
	for seed := range uint64(15) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				rnd := rand.New(rand.NewPCG(seed, 8))
				var mu sync.Mutex
				upTo := func(d time.Duration) time.Duration {
					mu.Lock()
					defer mu.Unlock()
					return time.Duration(rnd.Int64N(int64(d)))
				}
				slowest := []time.Duration{time.Millisecond, 20 * time.Millisecond, 300 * time.Millisecond}[seed%3]
				start := func(n byte) *testNode {
					return startNode(t, n, newGraph(ids(1, 2)...), nodeOptions{mem: m, set: func(o *Options) {
						o.dial = func(ctx context.Context, hostport string) (net.Conn, error) {
							time.Sleep(upTo(slowest))
							conn, err := m.dial(ctx, hostport)
							if err != nil {
								return nil, err
							}
							return newLateConn(conn, func() time.Duration { return upTo(slowest) }), nil
						}
					}})
				}
				a, b := start(1), start(2)
				a.publish(3)
				b.publish(3)
				sent := int64(3)
				for range 3 {
					a.Keep(b.addr)
					b.Keep(a.addr)
					for range 4 {
						pass(upTo(2 * slowest))
						a.publish(1)
						b.publish(1)
						sent++
					}
					pass(10 * time.Second)
					pa, oka := a.peer(b.id)
					pb, okb := b.peer(a.id)
					if !oka || !okb || pa.State != Connected || pb.State != Connected || pa.Outgoing == pb.Outgoing || len(a.Peers()) != 1 || len(b.Peers()) != 1 {
						t.Fatalf("a has %+v, b has %+v", a.Peers(), b.Peers())
					}
					a.holds(b.id, sent)
					b.holds(a.id, sent)
					// It lasts.
					since := pa.Since
					pass(time.Minute)
					if pa, _ := a.peer(b.id); !pa.Since.Equal(since) {
						t.Errorf("it was made anew after %v", pa.Since.Sub(since))
					}
					// Both lose it at once.
					a.Disconnect(b.id)
				}
			})
		})
	}
}
