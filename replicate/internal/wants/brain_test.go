package wants

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"charkha/identity"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// bench is a brain, a store that is a map, and a clock.
type bench struct {
	*Brain
	t    testing.TB
	now  time.Time
	held map[identity.BlobID]int64
	gets map[uint64]Action // under way
	jobs map[uint64]Action // with a Commit or Drop to be done
}

func newBench(t testing.TB, o Options) *bench {
	x := &bench{t: t, now: epoch, held: map[identity.BlobID]int64{}, gets: map[uint64]Action{}, jobs: map[uint64]Action{}}
	o.Have = func(id identity.BlobID) (int64, bool) { size, ok := x.held[id]; return size, ok }
	x.Brain = New(o)
	return x
}

// check checks what always holds.
func (x *bench) check() {
	x.t.Helper()
	b := x.Brain
	bytesOut, own, others, asks := int64(0), 0, 0, 0
	outs, under, unproven := map[*peer]int{}, map[*job]int{}, 0
	peerBytes := map[*peer]int64{}
	for id, o := range b.outs {
		cost := min(o.to-o.from, maxCost)
		bytesOut += cost
		if o.unproven {
			unproven++
		}
		outs[o.p]++
		peerBytes[o.p] += cost
		under[o.j]++
		if o.id != id || o.j.state[o.piece] != taken || o.from >= o.to || o.to > o.j.size || (o.to-o.from)%jsChunk == 0 && !(o.j.whole && o.p.noSlice) {
			x.t.Fatalf("piece %+v", o)
		}
		if outs[o.p] > maxPeerOuts {
			x.t.Fatalf("%d pieces are under way from a peer", outs[o.p])
		}
	}
	for p, n := range outs {
		if p.outs != n || p.bytes != peerBytes[p] {
			x.t.Fatalf("peer has %d pieces of %d bytes, counted %d of %d", p.outs, p.bytes, n, peerBytes[p])
		}
	}
	for _, p := range b.order {
		if b.peers[p.id] != p {
			x.t.Fatal("a peer that is gone is in order")
		}
		if p.outs != outs[p] {
			x.t.Fatal("pieces are counted that are none")
		}
		asks += len(p.asks)
		if len(p.asks) > maxAsks || len(p.haves) > maxHaves || len(p.queue) > 2*maxAsks+128 {
			x.t.Fatalf("a peer takes room: %d asks, %d in a queue, %d answers", len(p.asks), len(p.queue), len(p.haves))
		}
	}
	if unproven != b.unproven || unproven > maxOuts/2 {
		x.t.Fatalf("%d pieces from peers that gave nothing, counted %d", unproven, b.unproven)
	}
	if len(b.order) != len(b.peers) || b.bytes != bytesOut || len(b.outs) > maxOuts || b.bytes > maxBytes+maxCost {
		x.t.Fatalf("%d pieces, %d bytes of %d, %d peers of %d", len(b.outs), bytesOut, b.bytes, len(b.order), len(b.peers))
	}
	for id, w := range b.wants {
		if w.id != id || len(w.havers) > maxHavers || len(w.askers) > maxAskers {
			x.t.Fatalf("want %+v", w)
		}
		if w.own {
			own++
		} else {
			others++
			if !slices.Contains(b.strangers[w.charge], w) {
				x.t.Fatal("a stranger's want is nobody's")
			}
		}
		_, ready := slices.BinarySearchFunc(b.ready, w, compareWants)
		if ready != (len(w.havers) > 0) {
			x.t.Fatalf("ready: %v, with %d who have it", ready, len(w.havers))
		}
		if b.lineOf[id] == 0 {
			x.t.Fatal("a want that nobody is told of")
		}
	}
	n := 0
	for id, ws := range b.strangers {
		n += len(ws)
		if len(ws) == 0 || len(ws) > maxPerStranger || ws[0].charge != id {
			x.t.Fatalf("%d wants of a stranger", len(ws))
		}
	}
	if own != b.own || others != b.numOthers || n != others || asks != b.asks || own > maxOwn || others > maxStrangers || asks > maxAsksAll {
		x.t.Fatalf("%d of %d own, %d of %d and %d others, %d of %d asks", own, b.own, others, b.numOthers, n, asks, b.asks)
	}
	if !slices.IsSortedFunc(b.ready, compareWants) || len(b.lines) > 2*(maxOwn+maxStrangers+maxPushes)+128 {
		x.t.Fatalf("not in order, or %d lines", len(b.lines))
	}
	for _, w := range b.ready {
		if b.wants[w.id] != w {
			x.t.Fatal("ready, and not wanted")
		}
	}
	for id := range b.lineOf {
		if b.wants[id] == nil && b.pushes[id] == nil {
			x.t.Fatal("told of without reason")
		}
	}
	if len(b.jobs) > maxJobs {
		x.t.Fatalf("%d jobs", len(b.jobs))
	}
	for _, j := range b.jobs {
		done, busy := 0, 0
		for _, s := range j.state {
			if s == fetched {
				done++
			}
			if s == taken {
				busy++
			}
		}
		if j.done != done || j.under != busy || j.under != under[j] || j.got < 0 || j.got > j.size || j.w.job != j {
			x.t.Fatalf("job %+v", j)
		}
	}
}

// next takes what is to be done.
func (x *bench) next() []Action {
	x.t.Helper()
	actions, _ := x.Next(x.now)
	for _, a := range actions {
		switch a.Act {
		case Get:
			x.gets[a.Out] = a
		case Commit, Drop:
			x.jobs[a.Job] = a
		}
	}
	x.check()
	return actions
}

func (x *bench) only(act Act) Action {
	x.t.Helper()
	actions := x.next()
	if len(actions) != 1 || actions[0].Act != act {
		x.t.Fatalf("%+v, want one of %d", actions, act)
	}
	return actions[0]
}

// connect connects a peer that reads, and takes what it is told first.
func (x *bench) connect(n int) map[identity.BlobID]int64 {
	x.Connect(x.now, peerID(n))
	x.Open(peerID(n))
	return x.says(n)
}

// says is what a peer is told.
func (x *bench) says(n int) map[identity.BlobID]int64 {
	all := map[identity.BlobID]int64{}
	for {
		said, ok := x.Say(peerID(n))
		if !ok {
			return all
		}
		if len(said) > maxSaid {
			x.t.Fatalf("%d entries in one body", len(said))
		}
		for _, e := range said {
			all[e.ID] = e.N
		}
	}
}

func (x *bench) heard(n int, said ...Entry) { x.Heard(x.now, peerID(n), said) }

// give ends a Get well.
func (x *bench) give(a Action) {
	x.Progress(x.now, a.Out, a.To-a.From)
	delete(x.gets, a.Out)
	x.Got(x.now, a.Out, OK, "")
}

func (x *bench) fail(a Action, r Result) {
	delete(x.gets, a.Out)
	x.Got(x.now, a.Out, r, "because")
}

// dropped does what Drop asks for.
func (x *bench) dropped(a Action) {
	delete(x.jobs, a.Job)
	x.Dropped(x.now, a.Job)
}

func (x *bench) commit(a Action, r Result) {
	delete(x.jobs, a.Job)
	if r == OK {
		x.held[a.ID] = a.Size
	}
	x.Committed(x.now, a.Job, r, "because")
}

func TestWantedIsToldAndFetched(t *testing.T) {
	x := newBench(t, Options{})
	if got := x.connect(1); len(got) != 0 {
		t.Errorf("told %v, wanting nothing", got)
	}
	id := blobID(7)
	x.Want(x.now, id, true)
	if got, want := x.says(1), map[identity.BlobID]int64{id: -1}; !cmp.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	if got := x.connect(2); !cmp.Equal(got, map[identity.BlobID]int64{id: -1}) {
		t.Errorf("told %v at first", got)
	}
	x.heard(2, Entry{id, 1000})
	a := x.only(Get)
	if a.ID != id || a.Peer != peerID(2) || a.From != 0 || a.To != 1000 || !a.Whole || !a.Own || !a.Waited {
		t.Errorf("%+v", a)
	}
	x.heard(1, Entry{id, 1000})
	if more := x.next(); len(more) != 0 {
		t.Errorf("fetched twice: %+v", more)
	}
	x.give(a)
	c := x.only(Commit)
	x.commit(c, OK)
	x.Stored(x.now, id, 1000) // the store tells, too
	if x.next() != nil || len(x.Wants()) != 0 {
		t.Errorf("still wanted: %+v", x.Wants())
	}
	if got := x.connect(3); len(got) != 0 {
		t.Errorf("told %v, wanting nothing any more", got)
	}
}

func TestWhatIsWantedOfUsIsTold(t *testing.T) {
	x := newBench(t, Options{})
	held, later := blobID(1), blobID(2)
	x.held[held] = 99
	x.connect(1)
	x.heard(1, Entry{held, -1}, Entry{later, -1})
	// What we do not have is wanted, too, one deeper, and the one who asked is asked: who pushes a blob has it.
	if got, want := x.says(1), map[identity.BlobID]int64{held: 99, later: -2}; !cmp.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	x.held[later] = 5
	x.Stored(x.now, later, 5)
	if got, want := x.says(1), map[identity.BlobID]int64{later: 5}; !cmp.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	// Nobody is told who did not ask.
	if got := x.connect(2); len(got) != 0 {
		t.Errorf("told %v", got)
	}
	// Who asks before it reads is told when it does.
	x.Connect(x.now, peerID(3))
	x.heard(3, Entry{held, -3})
	x.Open(peerID(3))
	if got := x.says(3); !cmp.Equal(got, map[identity.BlobID]int64{held: 99}) {
		t.Errorf("told %v", got)
	}
}

func TestSympathy(t *testing.T) {
	for _, c := range []struct {
		sympathy int
		said     int64
		want     int64 // what others are told
	}{
		{0, -1, -2}, {0, -2, -3}, {0, -3, 0}, {0, -100, 0}, {0, -maxInteger, 0}, {-1, -1, 0}, {1, -1, 0}, {2, -1, -2}, {2, -2, 0}, {5, -4, -5},
	} {
		x := newBench(t, Options{Sympathy: c.sympathy})
		x.connect(1)
		x.connect(2)
		x.heard(1, Entry{blobID(1), c.said})
		if got := x.says(2)[blobID(1)]; got != c.want {
			t.Errorf("sympathy %d, %d was said: others are told %d, want %d", c.sympathy, c.said, got, c.want)
		}
		x.check()
	}
	x := newBench(t, Options{})
	x.connect(1)
	x.connect(2)
	x.heard(1, Entry{blobID(1), -2})
	x.says(2)
	x.heard(2, Entry{blobID(1), -1}) // closer
	if got := x.says(1)[blobID(1)]; got != -2 {
		t.Errorf("told %d after somebody closer asked", got)
	}
	x.Want(x.now, blobID(1), false)
	if got := x.says(1)[blobID(1)]; got != -1 {
		t.Errorf("told %d of our own want", got)
	}
	x.Forget(x.now, blobID(1))
	x.check()
	// A stranger's want is fetched up to a size.
	x.heard(1, Entry{blobID(2), -1})
	x.heard(2, Entry{blobID(2), 5<<20 + 1})
	if a := x.next(); len(a) != 0 {
		t.Errorf("%+v", a)
	}
	// It is forgotten when nobody repeats it.
	x.now = x.now.Add(strangerFor + strangerFor/12)
	x.next()
	if w := x.Wants(); len(w) != 0 {
		t.Errorf("still wanted: %+v", w)
	}
}

func TestPush(t *testing.T) {
	x := newBench(t, Options{})
	id := blobID(1)
	x.held[id] = 10
	x.connect(1)
	if !x.Push(id, nil) {
		t.Fatal("not taken")
	}
	if got := x.says(1)[id]; got != -1 {
		t.Errorf("told %d of what is pushed", got)
	}
	for n := 1; n <= 5; n++ {
		if n > 1 && x.connect(n)[id] != -1 {
			t.Errorf("peer %d is not told of what is pushed", n)
		}
		x.heard(n, Entry{id, 11}) // not its size
		x.heard(n, Entry{id, 10})
		x.heard(n, Entry{id, 10})
		if done := x.Pushed(); (n == 3) != (len(done) == 1) || n == 3 && done[0] != (Pushed{id, 3}) {
			t.Errorf("after %d: %v", n, done)
		}
		if n == 3 {
			break
		}
	}
	if got := x.connect(6); len(got) != 0 {
		t.Errorf("told %v of what is pushed no more", got)
	}
	// Who has it survives a restart.
	y := newBench(t, Options{})
	y.held[id] = 10
	y.Push(id, []identity.ID{peerID(1), peerID(2)})
	if got := y.Pushing(); !cmp.Equal(got, map[identity.BlobID][]identity.ID{id: {peerID(1), peerID(2)}}) {
		t.Errorf("%v", got)
	}
	y.connect(2)
	y.heard(2, Entry{id, 10})
	y.connect(3)
	if y.Pushed() != nil {
		t.Error("one was counted twice")
	}
	y.heard(3, Entry{id, 10})
	if len(y.Pushed()) != 1 {
		t.Error("not pushed")
	}
	for i := range maxPushes + 1 {
		if got := y.Push(blobID(100+i), nil); got != (i < maxPushes) {
			t.Fatalf("%d pushes: %v", i, got)
		}
	}
	y.check()
}

// Who wants a blob that we push hears both that it is pushed, so that he tells when he has it, and that it is here; not in one
// body, of which only the last number counts.
func TestPushToWhoWantsIt(t *testing.T) {
	x := newBench(t, Options{})
	id := blobID(1)
	x.held[id] = 10
	x.Connect(x.now, peerID(1))
	x.heard(1, Entry{id, -1})
	x.Push(id, nil)
	x.Open(peerID(1))
	var got [][]Entry
	for said, ok := x.Say(peerID(1)); ok; said, ok = x.Say(peerID(1)) {
		got = append(got, said)
	}
	if want := [][]Entry{{{id, -1}}, {{id, 10}}}; !cmp.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

// Own wants that somebody waits for come first, then the newest wish, then strangers'.
func TestOrder(t *testing.T) {
	x := newBench(t, Options{})
	x.connect(1)
	x.connect(2)
	var all []Entry
	size := int64(1 << 20) // two fit at once
	for i := range 4 {
		x.Want(x.now, blobID(i), false)
	}
	x.heard(2, Entry{blobID(10), -1})
	x.Want(x.now, blobID(5), true)
	x.Want(x.now, blobID(1), false) // again
	for _, i := range []int{0, 1, 2, 3, 5, 10} {
		all = append(all, Entry{blobID(i), size - 1})
	}
	x.heard(1, all...)
	var order []identity.BlobID
	for len(x.Wants()) > 0 {
		for _, a := range x.next() {
			switch a.Act {
			case Get:
				order = append(order, a.ID)
			case Commit:
				x.commit(a, OK)
			}
		}
		for _, a := range x.gets {
			x.give(a)
			break
		}
	}
	if want := []identity.BlobID{blobID(5), blobID(1), blobID(3), blobID(2), blobID(0), blobID(10)}; !cmp.Equal(order, want) {
		t.Errorf("fetched %v, want %v", order, want)
	}
}

// A large blob comes in pieces from all who have it, and the pieces make up all of it.
func TestPiecesFromSeveralPeers(t *testing.T) {
	for _, size := range []int64{65536, 131072, 1<<20 + 1, 5 << 20, 50<<20 + 7, 4*(252<<10) + 65536} {
		x := newBench(t, Options{Max: 100 << 20})
		id := blobID(1)
		x.Want(x.now, id, false)
		from := map[identity.ID]int64{}
		for n := range 3 {
			x.connect(n)
			x.heard(n, Entry{id, size})
		}
		covered := map[int64]int64{}
		var commit *Action
		for commit == nil {
			for _, a := range x.next() {
				if a.Act == Commit {
					commit = &a
				}
			}
			for _, a := range x.gets {
				if a.Whole {
					t.Fatalf("%d bytes were asked for at once", size)
				}
				covered[a.From] = a.To
				from[a.Peer] += a.To - a.From
				x.now = x.now.Add(10 * time.Millisecond)
				x.give(a)
			}
		}
		at := int64(0)
		for range covered {
			at = covered[at]
		}
		if at != size || commit.Size != size {
			t.Errorf("%d bytes of %d were fetched", at, size)
		}
		if size > 4<<20 && len(from) != 3 {
			t.Errorf("%d bytes came from %d peers", size, len(from))
		}
		x.commit(*commit, OK)
		x.check()
	}
}

func TestNextPeerOnFailure(t *testing.T) {
	for name, r := range map[string]Result{"error": Failed, "gone": Gone} {
		for _, size := range []int64{1000, 10 << 20} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				x := newBench(t, Options{Max: 100 << 20})
				id := blobID(1)
				x.Want(x.now, id, false)
				x.connect(1)
				x.connect(2)
				x.heard(1, Entry{id, size})
				for _, a := range x.next() {
					if a.Peer != peerID(1) {
						t.Fatalf("%+v", a)
					}
				}
				x.heard(2, Entry{id, size})
				if r == Gone {
					for _, a := range x.gets { // it is not asked again, even if nobody said yet that it is gone
						x.fail(a, r)
						for _, again := range x.next() {
							if again.Act == Get && again.Peer == a.Peer {
								t.Fatal("asked again")
							}
						}
						break
					}
					x.Disconnect(x.now, peerID(1))
				}
				x.next()
				for range 100 {
					for _, a := range x.gets {
						if a.Peer == peerID(1) {
							x.fail(a, r)
						} else {
							x.give(a)
						}
					}
					for _, a := range x.jobs {
						if a.Act == Drop {
							x.dropped(a)
						} else {
							x.commit(a, OK)
						}
					}
					x.next()
				}
				if x.held[id] != size {
					t.Errorf("not fetched: %+v", x.Wants())
				}
			})
		}
	}
}

// Who gives nothing, or next to nothing, gives way.
func TestStall(t *testing.T) {
	for _, trickle := range []int64{0, 100} {
		x := newBench(t, Options{Max: 100 << 20})
		id := blobID(1)
		x.Want(x.now, id, false)
		x.connect(1)
		x.heard(1, Entry{id, 500_000})
		a := x.only(Get)
		x.connect(2)
		x.heard(2, Entry{id, 500_000})
		for range 21 {
			x.now = x.now.Add(time.Second)
			x.Progress(x.now, a.Out, trickle)
			for _, s := range x.next() {
				if s.Act == Stop && s.Out == a.Out {
					x.fail(a, Failed)
				}
			}
		}
		if len(x.gets) != 0 {
			t.Fatalf("it was waited for 21 s")
		}
		x.next()
		for _, d := range x.jobs {
			x.dropped(d)
		}
		b := x.only(Get)
		if b.Peer != peerID(2) {
			t.Errorf("%+v", b)
		}
		// It is asked for another blob only when nobody else has that.
		other := blobID(2)
		x.Want(x.now, other, false)
		x.heard(1, Entry{other, 5})
		if c := x.only(Get); c.Peer != peerID(1) {
			t.Errorf("%+v", c)
		}
		third := blobID(3)
		x.heard(1, Entry{third, 5})
		x.heard(2, Entry{third, 5})
		x.Want(x.now, third, false)
		x.heard(1, Entry{third, 5})
		x.now = x.now.Add(time.Millisecond)
		for _, a := range x.next() {
			if a.Peer == peerID(1) {
				x.fail(a, Failed)
			}
		}
	}
	// Slow, but not standing still: it gives way when somebody else has it, and only then.
	x := newBench(t, Options{Max: 100 << 20})
	x.Want(x.now, blobID(1), false)
	x.connect(1)
	x.heard(1, Entry{blobID(1), 5_000_000})
	x.next()
	slow := func(d time.Duration) (stopped bool) {
		for until := x.now.Add(d); x.now.Before(until); {
			x.now = x.now.Add(time.Second)
			for _, a := range x.gets {
				if a.Peer == peerID(1) {
					x.Progress(x.now, a.Out, 300)
				} else {
					x.give(a)
				}
			}
			for _, a := range x.next() {
				stopped = stopped || a.Act == Stop
			}
		}
		return stopped
	}
	if slow(5 * time.Minute) {
		t.Error("the only one who has it was stopped")
	}
	x.connect(2)
	x.heard(2, Entry{blobID(1), 5_000_000})
	if !slow(10 * time.Second) {
		t.Error("slow, and not stopped")
	}
}

// A wrong hash is the fault of who gave all of it. When several did, the next try is from one.
func TestWrongHash(t *testing.T) {
	x := newBench(t, Options{Max: 100 << 20})
	id := blobID(1)
	size := int64(9 << 20)
	x.Want(x.now, id, false)
	for n := 1; n <= 3; n++ {
		x.connect(n)
		x.heard(n, Entry{id, size})
	}
	liar := peerID(2)
	tries, byLiar := 0, 0
	for range 2000 {
		x.next()
		for _, a := range x.gets {
			x.give(a)
		}
		for _, a := range x.jobs {
			if a.Act == Drop {
				x.dropped(a)
				continue
			}
			tries++
			gave := x.Brain.jobs[a.Job].gave
			lied := false
			for p := range gave {
				lied = lied || p.id == liar
			}
			if tries > 1 && len(gave) != 1 {
				t.Fatalf("%d peers gave after a wrong mixture", len(gave))
			}
			if lied {
				byLiar++
				x.commit(a, Wrong)
			} else {
				x.commit(a, OK)
			}
		}
	}
	if x.held[id] != size || byLiar > 2 {
		t.Errorf("%d tries, %d with the liar: %+v", tries, byLiar, x.Wants())
	}
}

// Who fails again and again is asked less and less often, but not never: it may have been the link.
func TestFailsAgainAndAgain(t *testing.T) {
	x := newBench(t, Options{})
	x.Want(x.now, blobID(1), false)
	x.connect(1)
	x.heard(1, Entry{blobID(1), 100})
	var tries []time.Duration
	for len(tries) < 6 {
		actions, again := x.Next(x.now)
		x.check()
		for _, a := range actions {
			if a.Act == Get {
				tries = append(tries, x.now.Sub(epoch))
				x.fail(a, Failed)
			} else {
				x.dropped(a)
			}
		}
		if len(actions) == 0 {
			x.now = again
		}
	}
	if want := []time.Duration{0, 5 * time.Second, 15 * time.Second, 15*time.Second + doubtFor, 15*time.Second + 2*doubtFor, 15*time.Second + 3*doubtFor}; !cmp.Equal(tries, want) {
		t.Errorf("tried after %v, want %v", tries, want)
	}
}

func TestSizesThatLie(t *testing.T) {
	x := newBench(t, Options{})
	id := blobID(1)
	x.Want(x.now, id, false)
	x.connect(1)
	x.connect(2)
	x.heard(1, Entry{id, 5<<20 + 1}, Entry{blobID(2), 7}) // too large, and not wanted
	x.heard(1, Entry{id, maxInteger})
	if a := x.next(); len(a) != 0 {
		t.Fatalf("%+v", a)
	}
	if w := x.Wants()[0]; w.Size != maxInteger || len(w.From) != 0 || w.Last == "" {
		t.Errorf("what is too large is not told: %+v", w)
	}
	x.heard(1, Entry{id, 3_000_000})
	for _, a := range x.next() {
		x.fail(a, Failed) // it ended early
	}
	x.heard(2, Entry{id, 1234})
	x.heard(1, Entry{id, 1235}) // it says something else now: it is not believed any more
	for range 5 {
		x.next()
		for _, a := range x.jobs {
			if a.Act == Drop {
				x.dropped(a)
			} else {
				x.commit(a, OK)
			}
		}
		for _, a := range x.gets {
			if a.Peer != peerID(2) || a.Size != 1234 {
				t.Fatalf("%+v", a)
			}
			x.give(a)
		}
	}
	if x.held[id] != 1234 {
		t.Errorf("%+v", x.Wants())
	}
}

// What came of a blob is kept for a while after its only peer went, in whichever order its pieces and its connection end.
func TestPiecesEndBeforeTheConnection(t *testing.T) {
	x := newBench(t, Options{})
	x.Want(x.now, blobID(1), false)
	x.connect(1)
	x.heard(1, Entry{blobID(1), 3 << 20})
	x.give(x.next()[0])
	x.next()
	for _, a := range x.gets {
		x.fail(a, Gone)
	}
	x.Disconnect(x.now, peerID(1))
	if a := x.next(); len(a) != 0 {
		t.Fatalf("at once: %+v", a)
	}
	_, x.now = x.Next(x.now)
	if got := x.now.Sub(epoch); got != keepPartial {
		t.Fatalf("it is looked at after %v, want %v", got, keepPartial)
	}
	x.dropped(x.only(Drop))
	if len(x.Brain.jobs) != 0 {
		t.Error("a half blob is kept for ever")
	}
}

// Who knows no slices is asked for all of it.
func TestWithoutSlices(t *testing.T) {
	x := newBench(t, Options{Max: 100 << 20})
	x.Want(x.now, blobID(1), false)
	x.connect(1)
	x.heard(1, Entry{blobID(1), 50 << 20})
	for _, a := range x.next() {
		x.fail(a, NoSlice)
	}
	d := x.next()
	if len(d) == 0 || d[len(d)-1].Act != Drop {
		t.Fatalf("%+v", d)
	}
	x.dropped(d[len(d)-1])
	a := x.only(Get)
	if !a.Whole || a.To != 50<<20 {
		t.Errorf("%+v", a)
	}
	x.give(a)
	x.commit(x.only(Commit), OK)
}

// A disk that fails, or no room, is nobody's fault.
func TestLocalFailures(t *testing.T) {
	for _, r := range []Result{Local, NoRoom} {
		x := newBench(t, Options{})
		x.Want(x.now, blobID(1), false)
		x.connect(1)
		x.heard(1, Entry{blobID(1), 100})
		x.fail(x.only(Get), r)
		x.dropped(x.only(Drop))
		if a := x.next(); len(a) != 0 {
			t.Errorf("%+v at once", a)
		}
		_, again := x.Next(x.now)
		if again.IsZero() || again.Sub(x.now) > noRoomPause {
			t.Errorf("again at %v", again)
		}
		x.now = again
		x.give(x.only(Get))
		x.commit(x.only(Commit), r)
		if a := x.next(); len(a) != 0 {
			t.Errorf("%+v at once", a)
		}
		x.Want(x.now, blobID(1), true) // somebody waits: now
		x.give(x.only(Get))
		x.commit(x.only(Commit), OK)
	}
}

// No peer is asked for more bytes a second than the rate.
func TestRate(t *testing.T) {
	x := newBench(t, Options{Max: 1 << 30, Rate: 100_000})
	x.connect(1)
	var all []Entry
	for i := range 50 {
		x.Want(x.now, blobID(i), false)
		all = append(all, Entry{blobID(i), 40_000})
	}
	x.heard(1, all...)
	began, asked := x.now, int64(0)
	for len(x.Wants()) > 0 {
		actions, again := x.Next(x.now)
		for _, a := range actions {
			if a.Act == Get {
				asked += a.To - a.From
				x.give(a)
			} else {
				x.commit(a, OK)
			}
		}
		if len(actions) == 0 {
			if again.IsZero() {
				t.Fatalf("never again, with %d wants", len(x.Wants()))
			}
			x.now = again
		}
	}
	if took := x.now.Sub(began).Seconds(); took < float64(asked)/100_000-2 || took > float64(asked)/100_000+2 {
		t.Errorf("%d bytes took %v s", asked, took)
	}
}

// A disk that is slow to store what came holds up the fetching of more.
func TestJobs(t *testing.T) {
	x := newBench(t, Options{})
	x.connect(1)
	for i := range 3 * maxJobs {
		x.Want(x.now, blobID(i), false)
		x.heard(1, Entry{blobID(i), 100})
	}
	var commits []Action
	for range 3 * maxJobs {
		for _, a := range x.next() {
			if a.Act == Get {
				x.give(a)
			} else {
				commits = append(commits, a)
			}
		}
	}
	if len(commits) != maxJobs { // of a peer that gives
		t.Errorf("%d blobs wait to be stored", len(commits))
	}
	x.commit(commits[0], OK)
	x.only(Get)
}

// However many strangers stall, and leave jobs behind that nobody goes on with, others are asked.
func TestStallersLeaveRoom(t *testing.T) {
	x := newBench(t, Options{Max: 100 << 20})
	const last = 200
	for i := range last + 1 {
		x.Want(x.now, blobID(i), false)
	}
	x.connect(0)
	x.heard(0, Entry{blobID(last), 100})
	x.give(x.only(Get))
	x.commit(x.only(Commit), OK) // it gave something
	for p := 1; p <= last; p++ {
		x.connect(p)
		for i := range last {
			x.heard(p, Entry{blobID(i), 10 << 20})
		}
	}
	x.next()
	for range 100 { // some give a piece and go
		for _, a := range x.gets {
			x.give(a)
			x.Disconnect(x.now, a.Peer)
			break
		}
		for _, a := range x.jobs {
			if a.Act == Drop {
				x.dropped(a)
			}
		}
		x.next()
	}
	id := blobID(5000)
	x.Want(x.now, id, true)
	x.heard(0, Entry{id, 100})
	for range 10 {
		for _, a := range x.next() {
			if a.Act == Get && a.ID == id && a.Peer == peerID(0) {
				return
			}
			if a.Act == Drop {
				x.dropped(a)
			}
		}
	}
	t.Errorf("what is waited for is not asked for: %d pieces are under way, %d jobs", len(x.outs), len(x.Brain.jobs))
}

// Each table keeps its bound, whatever peers say.
func TestBounds(t *testing.T) {
	x := newBench(t, Options{})
	// Very many wants of one peer.
	x.connect(1)
	for i := range 50_000 {
		x.heard(1, Entry{blobID(i), -1})
	}
	x.check()
	if n := len(x.Brain.wants); n != maxPerStranger {
		t.Errorf("%d blobs are wanted for one stranger", n)
	}
	// Many peers with many wants each.
	for p := 2; p < 20; p++ {
		x.connect(p)
		for i := range 5000 {
			x.heard(p, Entry{blobID(p<<20 + i), -2})
		}
	}
	x.check()
	if x.numOthers != maxStrangers || x.asks != maxAsksAll {
		t.Errorf("%d wants, %d asks", x.numOthers, x.asks)
	}
	// Own wants are not pushed out by them, and the oldest wishes go.
	for i := range maxOwn + 100 {
		if !x.Want(x.now, blobID(1<<28+i), i < 10) {
			t.Fatalf("want %d was not taken", i)
		}
	}
	x.check()
	forgotten := x.Forgotten()
	if len(forgotten) != 100 || forgotten[0] != blobID(1<<28+10) {
		t.Errorf("%d forgotten, first %v", len(forgotten), forgotten[:1])
	}
	for i := range maxOwn {
		x.Want(x.now, blobID(1<<28+i), true)
	}
	if x.Want(x.now, blobID(1<<30), true) {
		t.Error("more are waited for than there is room for")
	}
	x.check()
	// A want for every id that we hold is answered, as fast as it is read.
	y := newBench(t, Options{})
	y.connect(1)
	const held = 20_000
	var said []Entry
	for i := range held {
		y.held[blobID(i)] = int64(i + 1)
		said = append(said, Entry{blobID(i), -1})
	}
	answers := map[identity.BlobID]int64{}
	for len(said) > 0 {
		room := y.Room(peerID(1))
		if room == 0 {
			maps.Copy(answers, y.says(1))
			continue
		}
		room = min(room, len(said))
		y.heard(1, said[:room]...)
		said = said[room:]
		y.check()
	}
	maps.Copy(answers, y.says(1))
	if len(answers) != held {
		t.Errorf("%d of %d were answered", len(answers), held)
	}
	// More liars than are remembered say to have what one honest peer has.
	z := newBench(t, Options{})
	z.Want(z.now, blobID(1), false)
	for n := range 3 * maxHavers {
		z.connect(n)
		z.heard(n, Entry{blobID(1), 10})
	}
	for range 1000 {
		actions, again := z.Next(z.now)
		z.check()
		for _, a := range actions {
			switch {
			case a.Act == Get && a.Peer == peerID(3*maxHavers-1):
				z.give(a)
			case a.Act == Get:
				z.fail(a, Failed)
			case a.Act == Drop:
				z.dropped(a)
			case a.Act == Commit:
				z.commit(a, OK)
			}
		}
		for n := range 3 * maxHavers { // who is asked again, says again
			if z.says(n)[blobID(1)] == -1 {
				z.heard(n, Entry{blobID(1), 10})
			}
		}
		if len(actions) == 0 && !again.IsZero() {
			z.now = again
		}
	}
	if z.held[blobID(1)] != 10 {
		t.Errorf("the honest one was not found in %v", z.now.Sub(epoch))
	} else {
		t.Logf("the honest one was found after %v", z.now.Sub(epoch))
	}
}

// What was told once and is wanted no more takes no room, nor does a peer that reads nothing.
func TestNothingStays(t *testing.T) {
	x := newBench(t, Options{})
	x.Connect(x.now, peerID(1))
	x.Open(peerID(1))
	for i := range 100_000 {
		x.Want(x.now, blobID(i), false)
		x.Forget(x.now, blobID(i))
	}
	x.check()
	if len(x.lines) > 200 || len(x.Brain.wants) != 0 || len(x.lineOf) != 0 {
		t.Errorf("%d lines, %d wants", len(x.lines), len(x.Brain.wants))
	}
	x.Disconnect(x.now, peerID(1))
	x.Got(x.now, 77, OK, "")
	x.Committed(x.now, 77, OK, "")
	x.Dropped(x.now, 77)
	x.Progress(x.now, 77, 5)
	x.heard(9, Entry{blobID(1), 1})
	x.check()
}
