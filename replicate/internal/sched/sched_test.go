package sched

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"charkha/identity"
)

var epoch = time.Unix(1700000000, 0)

func id(n int) identity.ID { return identity.ID{byte(n), byte(n >> 8), 1} }

func addr(n int) identity.Address {
	return identity.Address{Proto: "net", Host: fmt.Sprintf("10.0.%d.%d", n>>8&255, n&255), Port: 8008, Key: id(n)}
}

// world drives a scheduler and holds it to its promises.
type world struct {
	t       testing.TB
	s       *Scheduler
	now     time.Time
	blocked map[identity.ID]bool
	known   map[identity.ID]bool
	dials   map[identity.ID]identity.Address // under way
	conns   map[identity.ID]bool             // outgoing?
	drop    map[identity.ID]string           // what Next said last
	tried   map[identity.ID]time.Time
}

func newWorld(t testing.TB, o Options, saved ...Saved) *world {
	w := &world{
		t: t, now: epoch, blocked: map[identity.ID]bool{}, known: map[identity.ID]bool{},
		dials: map[identity.ID]identity.Address{}, conns: map[identity.ID]bool{}, drop: map[identity.ID]string{},
		tried: map[identity.ID]time.Time{},
	}
	o.Self = id(0)
	o.Blocked = func(id identity.ID) bool { return w.blocked[id] }
	o.Known = func(id identity.ID) bool { return w.known[id] }
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(1, 2))
	}
	w.s = New(w.now, o, saved)
	return w
}

// next asks once and checks what comes.
func (w *world) next() (dial []identity.Address, again time.Time) {
	w.t.Helper()
	dial, drop, again := w.s.Next(w.now)
	for _, a := range dial {
		if _, ok := w.dials[a.Key]; ok {
			w.t.Errorf("%s: two dials of one key at once", a)
		}
		if _, ok := w.conns[a.Key]; ok {
			w.t.Errorf("%s: dialled while connected", a)
		}
		if w.blocked[a.Key] {
			w.t.Errorf("%s: dialled while blocked", a)
		}
		if a.Key == id(0) {
			w.t.Error("our own key was dialled")
		}
		w.dials[a.Key] = a
		w.tried[a.Key] = w.now
	}
	for _, d := range drop {
		if _, ok := w.conns[d.ID]; !ok || d.Why == "" {
			w.t.Errorf("drops %s, which is not connected, because %q", d.ID.Short(), d.Why)
		}
		w.drop[d.ID] = d.Why
	}
	if !again.IsZero() && !again.After(w.now) {
		w.t.Errorf("asks to be asked at %s, which is not after %s", again, w.now)
	}
	return dial, again
}

func (w *world) connected(n int) {
	a, ok := w.dials[id(n)]
	if !ok {
		w.t.Fatalf("%d was not dialled", n)
	}
	delete(w.dials, id(n))
	w.conns[id(n)] = true
	w.s.Connected(w.now, id(n), a, true)
}

func (w *world) incoming(n int) {
	w.conns[id(n)] = false
	w.s.Connected(w.now, id(n), identity.Address{}, false)
}

func (w *world) failed(n int) {
	a := w.dials[id(n)]
	delete(w.dials, id(n))
	w.s.Failed(w.now, a, errors.New("connection refused"))
}

func (w *world) disconnected(n int) {
	delete(w.conns, id(n))
	delete(w.drop, id(n))
	w.s.Disconnected(w.now, id(n), "the link broke")
}

// until lets time pass, asking when it is time to. Every dial is answered by do.
func (w *world) until(d time.Duration, do func(a identity.Address)) {
	w.t.Helper()
	for end := w.now.Add(d); ; {
		dial, again := w.next()
		for _, a := range dial {
			do(a)
		}
		if len(dial) > 0 {
			continue
		}
		if again.IsZero() || again.After(end) {
			w.now = end
			return
		}
		w.now = again
	}
}

func (w *world) why(n int) string {
	w.t.Helper()
	of := w.s.Of(w.now, id(n))
	if len(of) == 0 {
		w.t.Fatalf("%d is not known", n)
	}
	return string(of[0].State) + ": " + of[0].Why
}

func (w *world) wantWhy(n int, want string) {
	w.t.Helper()
	if got := w.why(n); !strings.Contains(got, want) {
		w.t.Errorf("%d is told to be %q, want %q in it", n, got, want)
	}
}

func dialled(dial []identity.Address) (ns []int) {
	for _, a := range dial {
		ns = append(ns, int(a.Key[0])|int(a.Key[1])<<8)
	}
	slices.Sort(ns)
	return ns
}

func TestEachKindHasItsSlots(t *testing.T) {
	w := newWorld(t, Options{Slots: [4]int{2, 2, 1, 1}})
	for n := 1; n <= 12; n++ {
		w.s.Offer(w.now, addr(n), Kind((n-1)%4), "test")
	}
	dial, _ := w.next()
	if got := dialled(dial); !slices.Equal(got, []int{1, 2, 3, 4, 5, 6}) {
		t.Errorf("dialled %v", got)
	}
	w.connected(1)
	if dial, _ := w.next(); len(dial) > 0 {
		t.Errorf("a connection freed a slot: %v", dial)
	}
	w.wantWhy(9, "waits for one of the 2 slots for neighbours, all taken")
	w.wantWhy(5, "connecting: being dialled")
	w.now = w.now.Add(time.Minute)
	w.wantWhy(1, "connected for 60 s")
	w.disconnected(1)
	if dial, _ := w.next(); !slices.Equal(dialled(dial), []int{9}) {
		t.Errorf("after one left, %v were dialled", dialled(dial))
	}
	w.incoming(20)
	w.incoming(13)
	w.s.Offer(w.now, addr(13), LAN, "test")
	if got := w.why(13); !strings.Contains(got, "they dialled") {
		t.Error(got)
	}
}

func TestPausesGrowAndEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		kind Kind
		keep bool
		most time.Duration
	}{{"neighbour", LAN, false, 2 * time.Minute}, {"pub", Pub, false, time.Hour}, {"kept", Pub, true, 2 * time.Minute}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, Options{})
			w.s.Offer(w.now, addr(1), c.kind, "test")
			if c.keep {
				w.s.Keep(w.now, addr(1))
			}
			var pauses []time.Duration
			last := w.now
			w.until(24*time.Hour, func(identity.Address) {
				pauses = append(pauses, w.now.Sub(last))
				last = w.now
				w.failed(1)
			})
			want := 2 * time.Second
			for i, p := range pauses[1:] {
				if p < want/2 || p > want {
					t.Errorf("pause %d is %s, want between %s and %s", i, p, want/2, want)
				}
				want = min(2*want, c.most)
			}
			if len(pauses) < 20 {
				t.Errorf("%d attempts in a day", len(pauses))
			}
			w.wantWhy(1, "failures: connection refused")
			// It comes back: the pauses begin anew.
			w.until(c.most, func(identity.Address) {})
			w.connected(1)
			w.now = w.now.Add(time.Minute)
			w.disconnected(1)
			before := w.now
			w.until(3*time.Second, func(identity.Address) {})
			if !w.tried[id(1)].After(before) {
				t.Error("after a connection that held, it was not dialled within seconds")
			}
		})
	}
}

func TestConnectionsThatEndAtOnceAreFailures(t *testing.T) {
	w := newWorld(t, Options{})
	w.s.Offer(w.now, addr(1), Pub, "test")
	dials := 0
	w.until(time.Hour, func(identity.Address) {
		dials++
		w.connected(1)
		w.now = w.now.Add(time.Second)
		w.disconnected(1)
	})
	if dials > 15 {
		t.Errorf("a pub that turns us away was dialled %d times in an hour", dials)
	}
	w.wantWhy(1, "ended at once: the link broke")
}

// The network tells of such a connection twice, the second time as of a dial that was at nobody's fault: that does not end the pause.
func TestPauseOutlastsAFaultlessEnd(t *testing.T) {
	w := newWorld(t, Options{})
	w.s.Offer(w.now, addr(1), Pub, "test")
	dials := 0
	w.until(time.Hour, func(a identity.Address) {
		dials++
		w.connected(1)
		w.disconnected(1)
		w.s.Failed(w.now, a, nil)
	})
	if dials > 15 {
		t.Errorf("a pub that turns us away was dialled %d times in an hour", dials)
	}
}

// Nor does a connection that ends by itself, however late, if nothing came over it: a link that is dead from the start.
func TestDeadLinksAreFailures(t *testing.T) {
	w := newWorld(t, Options{})
	w.s.Offer(w.now, addr(1), Pub, "test")
	dials := 0
	for range 60 {
		w.until(2*time.Minute, func(identity.Address) {
			dials++
			w.connected(1)
			w.s.Mute(w.now, id(1), true)
		})
		if _, ok := w.conns[id(1)]; ok {
			w.disconnected(1)
		}
	}
	if dials > 15 {
		t.Errorf("dialled %d times in two hours", dials)
	}
}

// A peer that hangs up on us at once, and calls us now and then to hang up again, is not dialled more often for that.
func TestBriefCallsEndNoPause(t *testing.T) {
	w := newWorld(t, Options{})
	w.s.Offer(w.now, addr(1), Pub, "test")
	dials := 0
	for range 360 {
		w.until(10*time.Second, func(identity.Address) {
			dials++
			w.connected(1)
			w.disconnected(1)
		})
		w.incoming(1)
		w.now = w.now.Add(time.Second)
		w.disconnected(1)
	}
	if dials > 15 {
		t.Errorf("dialled %d times in an hour", dials)
	}
}

// Who takes our EBT call, answers pings, and says nothing loses its slot and waits ever longer.
func TestMutePeersAreDropped(t *testing.T) {
	w := newWorld(t, Options{Slots: [4]int{8, 5, 1, 3}})
	w.s.Offer(w.now, addr(1), Pub, "test")
	dials := 0
	answer := func(identity.Address) {
		dials++
		w.connected(1)
		w.s.Mute(w.now, id(1), true)
	}
	w.until(179*time.Second, answer)
	w.wantWhy(1, "it has said nothing yet")
	if len(w.drop) > 0 {
		t.Errorf("dropped too early: %v", w.drop)
	}
	w.until(time.Second, answer)
	if w.drop[id(1)] != "it said nothing for 3 min, though it took our call" {
		t.Errorf("dropped %v", w.drop)
	}
	w.disconnected(1)
	w.wantWhy(1, "it said nothing for 3 min")
	dials = 0
	for range 2 * 60 * 10 {
		w.until(6*time.Second, answer)
		if len(w.drop) > 0 {
			w.disconnected(1)
		}
	}
	if dials > 7 {
		t.Errorf("a mute pub was dialled %d times in two hours", dials)
	}
	if err := w.s.Admit(w.now, id(1)); err != nil {
		t.Errorf("it may not call us: %v", err)
	}
	// One that speaks after a while stays, and so does one that called us.
	w.s.Offer(w.now, addr(2), LAN, "test")
	w.until(time.Second, func(a identity.Address) { w.connected(int(a.Key[0])) })
	w.incoming(3)
	for n := 2; n <= 3; n++ {
		w.s.Mute(w.now, id(n), true)
	}
	w.until(time.Minute, func(identity.Address) {})
	w.s.Mute(w.now, id(2), false)
	w.until(time.Hour, func(a identity.Address) {})
	if len(w.drop) > 0 {
		t.Errorf("dropped %v", w.drop)
	}
}

func TestKeyWithManyAddresses(t *testing.T) {
	w := newWorld(t, Options{})
	for n := range 20 {
		a := addr(1)
		a.Port = 1000 + n
		w.s.Offer(w.now, a, Pub, "test")
	}
	if n, _ := w.s.Sizes(); n != 8 {
		t.Errorf("%d addresses of one key", n)
	}
	ports := map[int]int{}
	w.until(time.Minute, func(a identity.Address) { ports[a.Port]++; w.failed(1) })
	if len(ports) != 8 {
		t.Errorf("in a minute %d of the 8 addresses were tried", len(ports))
	}
	total := 0
	w.until(time.Hour, func(identity.Address) { total++; w.failed(1) })
	if total > 60 {
		t.Errorf("the key was dialled %d times in an hour", total)
	}
}

func TestKeptAddressesTakeNoSlots(t *testing.T) {
	w := newWorld(t, Options{Slots: [4]int{1, 1, 1, 1}})
	for n := 1; n <= 3; n++ {
		w.s.Keep(w.now, addr(n))
	}
	w.s.Offer(w.now, addr(4), Other, "test")
	w.s.Offer(w.now, addr(5), Other, "test")
	if dial, _ := w.next(); len(dial) != 4 {
		t.Errorf("dialled %v", dialled(dial))
	}
	for n := 1; n <= 4; n++ {
		w.connected(n)
	}
	w.until(3*time.Hour, func(identity.Address) {})
	for n := 1; n <= 3; n++ {
		if why := w.drop[id(n)]; why != "" {
			t.Errorf("kept %d was dropped: %s", n, why)
		}
	}
	w.s.Unkeep(w.now, addr(1))
	w.disconnected(1)
	w.s.Withdraw(w.now, addr(2))
	w.disconnected(2)
	w.now = w.now.Add(time.Minute)
	if dial, _ := w.next(); !slices.Contains(dialled(dial), 2) || slices.Contains(dialled(dial), 1) {
		t.Errorf("dialled %v, want 2, which is kept, and not 1, which waits for a slot", dialled(dial))
	}
}

// While dialling is paused nobody is dialled, nothing is held against anybody, and Statuses says so; then it goes on.
func TestPause(t *testing.T) {
	w := newWorld(t, Options{})
	kept, other := addr(1), addr(2)
	w.s.Keep(w.now, kept)
	w.s.Offer(w.now, other, Pub, FromMessage)
	w.s.Pause(true)
	for range 50 {
		if dial, _ := w.next(); len(dial) > 0 {
			t.Fatalf("%v is dialled", dial)
		}
		w.now = w.now.Add(time.Minute)
	}
	all := w.s.Statuses(w.now)
	if len(all) != 2 {
		t.Fatalf("%d addresses are known", len(all))
	}
	for _, st := range all {
		if st.Failures != 0 || st.State != Waiting || st.Why != "dialling is paused by a local program" {
			t.Errorf("%+v", st)
		}
	}
	w.s.Pause(false)
	if dial, _ := w.next(); len(dial) != 2 {
		t.Errorf("afterwards %v are dialled", dial)
	}
}

func TestTheBlockedAreLeftAlone(t *testing.T) {
	w := newWorld(t, Options{})
	w.blocked[id(1)] = true
	for n := 1; n <= 3; n++ {
		w.s.Offer(w.now, addr(n), LAN, "test")
	}
	w.s.Keep(w.now, addr(1))
	w.next()
	w.connected(2)
	w.incoming(9)
	if err := w.s.Admit(w.now, id(1)); err == nil {
		t.Error("a blocked peer is admitted")
	}
	w.wantWhy(1, "blocked: ")
	w.blocked[id(2)], w.blocked[id(9)] = true, true
	w.s.Recheck(w.now)
	w.next()
	for _, n := range []int{2, 9} {
		if w.drop[id(n)] != "it is blocked" {
			t.Errorf("%d: %q", n, w.drop[id(n)])
		}
		w.disconnected(n)
	}
	w.until(24*time.Hour, func(a identity.Address) { w.failed(int(a.Key[0])) })
	w.blocked = map[identity.ID]bool{}
	w.s.Recheck(w.now)
	if dial, _ := w.next(); !slices.Contains(dialled(dial), 1) || !slices.Contains(dialled(dial), 2) {
		t.Errorf("no longer blocked, %v are dialled", dialled(dial))
	}
}

func TestNeighboursWhoLeaveAndComeBack(t *testing.T) {
	w := newWorld(t, Options{})
	w.s.Offer(w.now, addr(1), LAN, "beacon")
	w.until(5*time.Minute, func(identity.Address) { w.failed(1) })
	w.s.Withdraw(w.now, addr(1))
	tried := w.tried[id(1)]
	w.wantWhy(1, "gone: ")
	// One that flickers is not dialled each time.
	for range 100 {
		w.s.Offer(w.now, addr(1), LAN, "beacon")
		w.next()
		w.s.Withdraw(w.now, addr(1))
		w.now = w.now.Add(100 * time.Millisecond)
	}
	if !w.tried[id(1)].Equal(tried) {
		t.Error("a flickering neighbour was dialled again and again")
	}
	w.now = w.now.Add(10 * time.Minute)
	if dial, _ := w.next(); len(dial) > 0 {
		t.Error("a neighbour who is gone was dialled")
	}
	w.s.Offer(w.now, addr(1), LAN, "beacon")
	if dial, _ := w.next(); len(dial) != 1 {
		t.Error("a neighbour who is back was not dialled at once")
	}
	w.failed(1)
	w.s.Withdraw(w.now, addr(1))
	w.until(2*time.Hour, func(identity.Address) { t.Error("dialled") })
	if a, k := w.s.Sizes(); a+k > 0 {
		t.Errorf("%d addresses and %d keys are remembered of one who left hours ago", a, k)
	}
}

func TestPreference(t *testing.T) {
	w := newWorld(t, Options{Slots: [4]int{8, 5, 1, 3}})
	// All are reached once, one after the other; 3 had news, 4 is known.
	w.known[id(4)] = true
	for n := 1; n <= 5; n++ {
		w.s.Offer(w.now, addr(n), Pub, "test")
		w.next()
		w.connected(n)
		w.now = w.now.Add(time.Minute)
		if n == 3 {
			w.s.News(w.now, id(n), 5)
		}
		w.disconnected(n)
		w.blocked[id(n)] = true // so that it is out of the way
	}
	w.now = w.now.Add(10 * time.Second)
	clear(w.blocked)
	w.s.Recheck(w.now)
	var order []int
	for range 5 {
		dial, _ := w.next()
		order = append(order, dialled(dial)...)
		if len(dial) != 1 {
			break
		}
		n := int(dial[0].Key[0])
		w.connected(n)
		w.now = w.now.Add(time.Minute)
		w.blocked[id(n)] = true
		w.s.Recheck(w.now)
		w.next()
		w.disconnected(n)
	}
	if !slices.Equal(order, []int{3, 4, 1, 2, 5}) {
		t.Errorf("dialled in the order %v, want who had news, who is known, and then who waited longest", order)
	}
}

func TestNobodyStarves(t *testing.T) {
	for _, news := range []bool{false, true} {
		t.Run(fmt.Sprintf("news %v", news), func(t *testing.T) {
			w := newWorld(t, Options{})
			const n = 30
			for i := 1; i <= n; i++ {
				w.s.Offer(w.now, addr(i), Pub, "test")
				w.known[id(i)] = i%2 == 0
			}
			seen := map[int]int{}
			for end := w.now.Add(12 * time.Hour); w.now.Before(end); {
				w.until(30*time.Second, func(a identity.Address) {
					w.connected(int(a.Key[0]))
					seen[int(a.Key[0])]++
				})
				if len(w.conns) > 4 {
					t.Fatalf("%d connections in 4 slots", len(w.conns))
				}
				for c := range w.conns {
					if news {
						w.s.News(w.now, c, 1)
					}
				}
				for c := range w.drop {
					w.disconnected(int(c[0]))
				}
			}
			least, most := 1000, 0
			for i := 1; i <= n; i++ {
				least, most = min(least, seen[i]), max(most, seen[i])
			}
			t.Logf("in 12 h each of %d was connected %d to %d times", n, least, most)
			if least == 0 {
				t.Errorf("some were never connected: %v", seen)
			}
		})
	}
}

func TestUnprovenAddressesWaitAndAreForgotten(t *testing.T) {
	w := newWorld(t, Options{Slots: [4]int{8, 5, 2, 3}, MaxUnproven: 10})
	for n := 1; n <= 50; n++ {
		w.s.Offer(w.now, addr(n), Pub, FromMessage)
	}
	if n, _ := w.s.Sizes(); n != 10 {
		t.Fatalf("%d unproven addresses are remembered", n)
	}
	w.s.Offer(w.now, addr(100), Pub, "operator")
	if w.s.entry(addr(100)) != nil {
		t.Log("an address that was told took the place of one that never failed")
	}
	w.next()
	w.connected(1)
	w.connected(2)
	// The slots are taken: one after the other is tried beside them, and nobody gives way to those that lead nowhere.
	tried := map[identity.ID]bool{}
	w.until(time.Minute, func(a identity.Address) { tried[a.Key] = true; w.failed(int(a.Key[0])) })
	if len(tried) != 1 {
		t.Errorf("%d unproven addresses were tried in a minute", len(tried))
	}
	w.until(20*time.Minute, func(a identity.Address) { tried[a.Key] = true; w.failed(int(a.Key[0])) })
	if len(tried) != 8 {
		t.Errorf("%d of 8 unproven addresses were tried in 21 minutes", len(tried))
	}
	if len(w.drop) > 0 {
		t.Errorf("gave way to the unproven: %v", w.drop)
	}
	w.wantWhy(3, "nobody has reached it yet")
	if saved := w.s.Saved(); len(saved) != 2 {
		t.Errorf("%d are saved of 2 that were reached", len(saved))
	}
	w.disconnected(2)
	w.until(48*time.Hour, func(a identity.Address) { w.failed(int(a.Key[0])) })
	if n, k := w.s.Sizes(); n != 2 || k != 2 {
		t.Errorf("%d addresses of %d keys are remembered after all but two failed for two days", n, k)
	}
}

// A pub that somebody near announced, and that can be reached, gets its turn though others have all slots for ever: it may be the
// only way to a feed.
func TestAnnouncedPubsGetTheirTurn(t *testing.T) {
	w := newWorld(t, Options{})
	for n := 1; n <= 4; n++ {
		w.s.Offer(w.now, addr(n), Pub, "invite")
	}
	seen := map[int]time.Duration{}
	answer := func(a identity.Address) {
		n := int(a.Key[0])
		w.connected(n)
		if _, ok := seen[n]; !ok {
			seen[n] = w.now.Sub(epoch)
		}
	}
	w.until(time.Minute, answer)
	for n := 5; n <= 12; n++ {
		w.s.Offer(w.now, addr(n), Pub, FromMessage)
	}
	for range 60 * 6 {
		w.until(10*time.Second, answer)
		if len(w.conns) > 5 {
			t.Fatalf("%d connections in 4 slots and one beside them", len(w.conns))
		}
		for c := range w.drop {
			w.disconnected(int(c[0]))
		}
	}
	if len(seen) != 12 {
		t.Errorf("in an hour only these were connected: %v", seen)
	}
	t.Log(seen)
}

// Without a network all addresses are tried, one after the other, and their pauses grow.
func TestNoNetwork(t *testing.T) {
	w := newWorld(t, Options{})
	tried := noNetwork(w, 1000)
	if len(tried) != 1000 {
		t.Errorf("%d of 1000 addresses were tried in a minute", len(tried))
	}
	total := 0
	w.until(time.Hour, func(a identity.Address) { total++; w.failed(int(a.Key[0]) | int(a.Key[1])<<8) })
	if least, most := 1000*5, 1000*15; total < least || total > most {
		t.Errorf("%d attempts in an hour, want %d to %d", total, least, most)
	}
}

// noNetwork offers n addresses and lets all dials of a minute fail.
func noNetwork(w *world, n int) (tried map[identity.ID]bool) {
	w.s.o.MaxUnproven = n
	for i := 1; i <= n; i++ {
		w.s.Offer(w.now, addr(i), Pub, "test")
	}
	tried = map[identity.ID]bool{}
	w.until(time.Minute, func(a identity.Address) {
		tried[a.Key] = true
		w.failed(int(a.Key[0]) | int(a.Key[1])<<8)
	})
	return tried
}

func BenchmarkNoNetwork(b *testing.B) {
	for b.Loop() {
		noNetwork(newWorld(b, Options{}), 4096)
	}
}

func TestAFloodPushesNobodyOut(t *testing.T) {
	w := newWorld(t, Options{MaxUnproven: 20, MaxAddresses: 60, Slots: [4]int{4, 4, 4, 4}})
	w.s.Keep(w.now, addr(1))
	w.s.Offer(w.now, addr(2), LAN, "beacon")
	w.s.Offer(w.now, addr(3), Pub, "invite")
	w.next()
	for n := 1; n <= 3; n++ {
		w.connected(n)
	}
	w.now = w.now.Add(time.Minute)
	w.disconnected(3)
	w.until(10*time.Second, func(identity.Address) {})
	for n := 10; n < 5000; n++ {
		w.s.Offer(w.now, addr(n), Kind(n%4), []string{"beacon", FromMessage}[n%2])
		if n%10 == 0 {
			w.next()
			for k := range w.dials {
				w.failed(int(k[0]) | int(k[1])<<8)
			}
			w.now = w.now.Add(time.Second)
		}
		if a, k := w.s.Sizes(); a > 61 || k > 61 {
			t.Fatalf("%d addresses, %d keys", a, k)
		}
	}
	for n := 1; n <= 3; n++ {
		w.why(n)
	}
}

func TestWatchdog(t *testing.T) {
	w := newWorld(t, Options{})
	for n := 1; n <= 3; n++ {
		w.s.Offer(w.now, addr(n), Pub, "test")
	}
	w.next()
	for n := 1; n <= 3; n++ {
		w.connected(n)
	}
	w.incoming(4)
	for n := 1; n <= 4; n++ {
		w.s.Promised(w.now, id(n), 12)
	}
	for range 29 {
		w.until(time.Second, func(identity.Address) { t.Error("dialled") })
		w.s.News(w.now, id(2), 1)
	}
	w.s.Promised(w.now, id(3), 0)
	if len(w.drop) > 0 {
		t.Errorf("dropped too early: %v", w.drop)
	}
	w.until(time.Second, func(identity.Address) {})
	w.next()
	if len(w.drop) != 2 || w.drop[id(1)] != "it says that it has more of 12 feeds and sent nothing for 30 s" {
		t.Errorf("dropped %v", w.drop)
	}
	w.disconnected(1)
	w.disconnected(4)
	w.wantWhy(1, "sent nothing for 30 s")
	// Once may have been the link.
	w.incoming(4)
	w.s.Promised(w.now, id(4), 1)
	w.until(30*time.Second, func(identity.Address) {})
	w.next()
	w.disconnected(4)
	if err := w.s.Admit(w.now, id(1)); err != nil {
		t.Errorf("not admitted after one offence: %v", err)
	}
	if err := w.s.Admit(w.now, id(4)); err == nil || !strings.Contains(err.Error(), "did not send what it promised") {
		t.Errorf("admitted after two offences: %v", err)
	}
	before := w.now
	w.until(time.Hour, func(a identity.Address) {
		if w.now.Sub(before) < time.Minute {
			t.Error("dialled again too early")
		}
		w.connected(int(a.Key[0]))
	})
	if err := w.s.Admit(w.now, id(4)); err != nil {
		t.Errorf("not admitted an hour later: %v", err)
	}
	w.until(2*time.Hour, func(identity.Address) {})
	if _, k := w.s.Sizes(); k != 3 {
		t.Errorf("%d keys are remembered", k)
	}
}

// Strangers with ever new keys that earn penalties are not remembered without bound.
func TestPenaltiesAreCapped(t *testing.T) {
	w := newWorld(t, Options{Penalty: time.Hour})
	for n := 1; n < maxPenalties+200; n++ {
		w.incoming(n)
		w.s.Promised(w.now, id(n), 1)
		w.now = w.now.Add(30 * time.Second / 20)
		w.next()
		for k := range w.drop {
			w.disconnected(int(k[0]) | int(k[1])<<8)
		}
	}
	if _, k := w.s.Sizes(); k > maxPenalties+30 {
		t.Errorf("%d keys", k)
	}
	w.until(48*time.Hour, func(identity.Address) {})
	for range 2 {
		for k := range w.drop {
			w.disconnected(int(k[0]) | int(k[1])<<8)
		}
		w.until(48*time.Hour, func(identity.Address) {})
	}
	if _, k := w.s.Sizes(); k > 0 {
		t.Errorf("%d keys two days later", k)
	}
}

func TestWaking(t *testing.T) {
	w := newWorld(t, Options{})
	for n := 1; n <= 6; n++ {
		w.s.Offer(w.now, addr(n), []Kind{LAN, Room, Pub}[n%3], "test")
	}
	w.next()
	w.connected(1)
	w.connected(2)
	w.until(8*time.Hour, func(a identity.Address) { w.failed(int(a.Key[0])) })
	for n := 3; n <= 6; n++ {
		if _, ok := w.dials[id(n)]; ok {
			w.failed(n)
		}
	}
	w.now = w.now.Add(8 * time.Hour)
	w.s.Woke(w.now)
	woke := w.now
	w.next()
	for n := 1; n <= 2; n++ {
		if !strings.Contains(w.drop[id(n)], "slept") {
			t.Errorf("%d: %q", n, w.drop[id(n)])
		}
		w.disconnected(n)
	}
	w.until(5*time.Second, func(identity.Address) {})
	for n := 1; n <= 6; n++ {
		if w.tried[id(n)].Before(woke) {
			t.Errorf("%d was not dialled within seconds: %s", n, w.why(n))
		}
	}
}

func TestIncomingSlots(t *testing.T) {
	w := newWorld(t, Options{Incoming: 5})
	for n := 1; n <= 5; n++ {
		w.incoming(n)
		w.now = w.now.Add(time.Second)
	}
	w.known[id(1)] = true
	w.incoming(6)
	w.next()
	if len(w.drop) != 1 || w.drop[id(6)] != "every slot for incoming connections is taken" {
		t.Fatalf("dropped %v, want the newcomer", w.drop)
	}
	w.disconnected(6)
	w.now = w.now.Add(time.Hour)
	w.s.News(w.now, id(2), 1)
	w.incoming(7)
	w.next()
	if len(w.drop) != 1 || w.drop[id(3)] == "" {
		t.Fatalf("dropped %v, want 3: the longest without news of those not known", w.drop)
	}
	w.disconnected(3)
	// They take no slots of ours.
	w.s.Offer(w.now, addr(20), LAN, "test")
	if dial, _ := w.next(); len(dial) != 1 {
		t.Error("no slot for a neighbour")
	}
}

func TestBothDialAtOnce(t *testing.T) {
	w := newWorld(t, Options{})
	w.s.Offer(w.now, addr(1), LAN, "test")
	w.next()
	w.incoming(1)
	w.now = w.now.Add(time.Second)
	w.disconnected(1) // while our own attempt is under way
	w.now = w.now.Add(time.Minute)
	w.next() // checks that there are never two
	w.connected(1)
	w.incoming(1) // replaces it
	w.now = w.now.Add(time.Second)
	if got := w.why(1); !strings.Contains(got, "they dialled") {
		t.Error(got)
	}
	if st := w.s.Of(w.now, id(1))[0]; st.Failures > 0 {
		t.Error("that both sides dialled counts as a failure")
	}
}

// Random events: what Next promises holds, everyone who may be is tried in a bounded time, and nothing is left in the end.
func TestRandomEvents(t *testing.T) {
	for range 10 {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 3))
		o := Options{Slots: [4]int{2, 2, 2, 2}, Incoming: 6, MaxUnproven: 30, MaxAddresses: 100, Rand: rng}
		w := newWorld(t, o)
		const n = 60
		for step := range 3000 {
			k := 1 + rng.IntN(n)
			a := addr(k)
			a.Port += rng.IntN(3)
			switch rng.IntN(12) {
			case 0, 1:
				w.s.Offer(w.now, a, Kind(rng.IntN(4)), []string{"x", FromMessage}[rng.IntN(2)])
			case 2:
				w.s.Withdraw(w.now, a)
			case 3:
				if rng.IntN(10) == 0 {
					w.s.Keep(w.now, a)
				} else {
					w.s.Unkeep(w.now, a)
				}
			case 4:
				w.blocked[id(k)] = rng.IntN(3) == 0
				w.s.Recheck(w.now)
			case 5:
				if err := w.s.Admit(w.now, id(k)); err == nil {
					w.incoming(k)
				}
			case 6:
				w.s.News(w.now, id(k), 1)
			case 7:
				w.s.Promised(w.now, id(k), rng.IntN(3))
				w.s.Mute(w.now, id(k), rng.IntN(2) == 0)
			case 8:
				if rng.IntN(50) == 0 {
					w.s.Woke(w.now)
				}
				w.s.Forget(w.now, a)
			case 9, 10:
				w.now = w.now.Add(time.Duration(rng.IntN(10000)) * time.Millisecond)
				for c := range w.drop {
					w.disconnected(int(c[0]))
				}
			case 11:
				for c := range w.conns {
					if rng.IntN(4) == 0 {
						w.disconnected(int(c[0]))
					}
				}
			}
			w.next()
			for c := range w.dials {
				switch rng.IntN(4) {
				case 0:
					w.connected(int(c[0]))
				case 1:
					w.failed(int(c[0]))
				}
			}
			addrs, keys := w.s.Sizes()
			if addrs > 100+n*3 || keys > n {
				t.Fatalf("seed %d: %d addresses, %d keys", seed, addrs, keys)
			}
			var out [kinds]int
			for _, p := range w.s.peers {
				if e := p.dialling; e != nil && !e.kept {
					out[e.kind]++
				}
				if p.conn.takesSlot() {
					out[p.conn.kind]++
				}
			}
			for k, used := range out {
				// Offers may have made an address one of a better kind while it was dialled, and Unkeep puts one into the slots.
				if used > o.Slots[k]+4 {
					t.Fatalf("seed %d: %d of %d slots of %s", seed, used, o.Slots[k], Kind(k))
				}
			}
			if step%20 > 0 {
				continue
			}
			for _, st := range w.s.Statuses(w.now) {
				if st.Why == "" || st.State == Waiting && st.Why == "about to be dialled" && !w.s.dirty && len(w.dials) == 0 {
					t.Fatalf("seed %d: %+v", seed, st)
				}
			}
		}
		// Everyone who is there and not blocked is dialled within a bounded time, even when all connect and stay.
		from := w.now
		var there []identity.ID
		for _, p := range w.s.peers {
			if slices.ContainsFunc(p.addrs, func(e *entry) bool { return e.gone.IsZero() && !e.unproven() }) && p.conn == nil && !w.blocked[p.id] {
				there = append(there, p.id)
			}
		}
		for c := range w.dials {
			w.failed(int(c[0]))
		}
		for end := w.now.Add(12 * time.Hour); w.now.Before(end); {
			w.until(20*time.Second, func(a identity.Address) { w.connected(int(a.Key[0])) })
			for c := range w.drop {
				w.disconnected(int(c[0]))
			}
		}
		for _, p := range there {
			if w.tried[p].Before(from) && w.s.keys[p] != nil {
				t.Errorf("seed %d: %s was not tried in 12 h: %s", seed, p.Short(), w.why(int(p[0])))
			}
		}
		for c := range w.conns {
			w.disconnected(int(c[0]))
		}
		for _, e := range slices.Clone(w.s.entries) {
			w.s.Forget(w.now, e.addr)
		}
		w.s.Next(w.now.Add(time.Hour))
		if a, k := w.s.Sizes(); a+k+len(w.s.active)+len(w.s.keys) > 0 {
			t.Errorf("seed %d: %d addresses and %d keys are left", seed, a, k)
		}
	}
}
