package ebt

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"charkha/identity"
	"charkha/internal/vectors"
)

func id(n int) identity.ID { return identity.ID{byte(n), byte(n >> 8), byte(n >> 16), 1} }

var epoch = time.Unix(1700000000, 0)

// What is not an integer of at least -1 says None here. To JS most of these are "replicate, but have nothing", which its
// other code does not expect; nobody sends them.
func TestVectorNotes(t *testing.T) {
	set := vectors.JSON[map[string][]struct {
		Note      json.RawMessage `json:"note"`
		Sequence  int64           `json:"sequence"`
		Receive   bool            `json:"receive"`
		Replicate bool            `json:"replicate"`
		Src       string          `json:"src"`
	}](t, "ebt-notes", "notes.json")
	if len(set["decode"]) == 0 || len(set["encode"]) == 0 || len(set["habitat"]) == 0 {
		t.Fatal("no cases")
	}
	for _, kind := range []string{"decode", "habitat"} {
		for _, c := range set[kind] {
			notes, err := ParseNotes(fmt.Appendf(nil, `{"%s":%s}`, id(1), c.Note), 10)
			if err != nil {
				t.Errorf("%s %s: %v", kind, c.Note, err)
				continue
			}
			n, ok := notes[id(1)]
			var value int64
			if json.Unmarshal(c.Note, &value) != nil || value < None || string(c.Note) == "null" {
				if ok && n != None {
					t.Errorf("%s reads as %d", c.Note, n)
				}
				continue
			}
			want := c.Sequence
			if !c.Replicate {
				want = None // habitat says 0
			}
			if !ok || n.Sequence() != want || n.Replicate() != c.Replicate || n.Replicate() && n.Receive() != c.Receive {
				t.Errorf("%s %s: %d %v %v", kind, c.Note, n.Sequence(), n.Receive(), n.Replicate())
			}
		}
	}
	for _, c := range set["encode"] {
		if c.Sequence > maxSequence {
			if got := MakeNote(c.Sequence, c.Receive); got.Sequence() != maxSequence {
				t.Errorf("%d, which JS cannot say, is said as %d", c.Sequence, got)
			}
			continue
		}
		if got := fmt.Sprint(int64(MakeNote(c.Sequence, c.Receive))); got != string(c.Note) {
			t.Errorf("note of %d %v is %s, want %s", c.Sequence, c.Receive, got, c.Note)
		}
	}
}

func TestParseNotes(t *testing.T) {
	for _, bad := range []string{``, `[]`, `7`, `{"a"`, `null`, `"x"`} {
		if n, err := ParseNotes([]byte(bad), 10); err == nil {
			t.Errorf("%s reads as %v", bad, n)
		}
	}
	n, err := ParseNotes(fmt.Appendf(nil, `{"clock":{"%s":4},"other":1}`, id(1)), 10)
	if err != nil || n[id(1)] != 4 {
		t.Errorf("%v %v", n, err)
	}
	many := Notes{}
	for i := range 5000 {
		many[id(i)] = Note(i)
	}
	back := Notes{}
	pieces := 0
	for b := range many.JSON() {
		if len(b) > 64<<10 {
			t.Errorf("a piece of %d bytes", len(b))
		}
		part, err := ParseNotes(b, 5000)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range part {
			back[k] = v
		}
		pieces++
	}
	if len(back) != 5000 || pieces < 2 || back[id(77)] != 77 {
		t.Errorf("%d entries in %d pieces", len(back), pieces)
	}
	for b := range many.JSON() {
		if _, err := ParseNotes(b, 10); err == nil {
			t.Error("more entries than allowed were read")
		}
	}
	for b := range (Notes{}).JSON() {
		if string(b) != "{}" {
			t.Errorf("empty notes are %s", b)
		}
	}
}

func FuzzParseNotes(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add(fmt.Appendf(nil, `{"%s":4,"%s":-1,"x":true}`, id(1), id(2)))
	f.Add([]byte(`{"clock":{"a":1e400}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		notes, err := ParseNotes(b, 100)
		if err != nil {
			return
		}
		back := Notes{}
		for piece := range notes.JSON() {
			part, err := ParseNotes(piece, 100)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range part {
				back[k] = v
			}
		}
		if len(back) != len(notes) {
			t.Fatalf("%v reads back as %v", notes, back)
		}
		for k, v := range notes {
			if back[k] != v || v < None || v.Sequence() > maxSequence {
				t.Fatalf("%v reads back as %v", notes, back)
			}
		}
	})
}

// The simulator: brains with stores that are only heads, links with latency, and a clock that jumps from event to event.

type sim struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Time
	queue events
	order int
	nodes []*simNode
	// what went over the links
	messages, notes, entries int
}

// speaker is a brain: ours, or one that behaves like another implementation's.
type speaker interface {
	Connect(now time.Time, id identity.ID, remembered Clock, dialled bool)
	Disconnect(now time.Time, id identity.ID) Clock
	Notes(now time.Time, id identity.ID, notes Notes)
	Received(now time.Time, id, feed identity.ID, seq int64) bool
	Stored(now time.Time, id identity.ID, head int64, from identity.ID)
	Want(now time.Time, id identity.ID, want bool)
	Recheck(now time.Time)
	Tick(now time.Time)
	Next(now time.Time, id identity.ID) (notes Notes, send Send, later time.Time)
	Woken() []identity.ID
	Clock(id identity.ID) Clock
}

type simNode struct {
	n       int
	brain   speaker
	heads   map[identity.ID]int64
	stored  int
	copies  int
	peers   map[int]*simLink // by the other's number
	clocks  map[identity.ID]Clock
	pumping map[int]time.Time
	silent  bool // claims everything and sends nothing
	blocks  map[identity.ID]map[identity.ID]bool
}

type simLink struct{ latency time.Duration }

type event struct {
	at    time.Time
	order int
	do    func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].order < q[j].order
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	e := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return e
}

func newSim(t *testing.T, seed uint64, n int) *sim {
	t.Logf("seed %d", seed)
	s := &sim{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: epoch}
	for i := range n {
		node := &simNode{
			n: i, heads: map[identity.ID]int64{}, peers: map[int]*simLink{}, clocks: map[identity.ID]Clock{},
			pumping: map[int]time.Time{}, blocks: map[identity.ID]map[identity.ID]bool{},
		}
		node.brain = New(Options{Self: id(i), Blocks: func(a, p identity.ID) bool { return node.blocks[a][p] }})
		s.nodes = append(s.nodes, node)
		s.after(time.Duration(s.rng.IntN(2000))*time.Millisecond, func() { s.tick(node) })
	}
	return s
}

func (s *sim) after(d time.Duration, do func()) {
	s.order++
	heap.Push(&s.queue, event{s.now.Add(d), s.order, do})
}

func (s *sim) run(d time.Duration) {
	end := s.now.Add(d)
	for len(s.queue) > 0 && !s.queue[0].at.After(end) {
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		e.do()
	}
	s.now = end
}

func (s *sim) tick(n *simNode) {
	n.brain.Tick(s.now)
	s.wake(n)
	s.after(2500*time.Millisecond, func() { s.tick(n) })
}

func (s *sim) connect(a, b *simNode) {
	if a == b || a.peers[b.n] != nil {
		return
	}
	link := &simLink{latency: time.Duration(5+s.rng.IntN(100)) * time.Millisecond}
	a.peers[b.n], b.peers[a.n] = link, link
	a.brain.Connect(s.now, id(b.n), a.clocks[id(b.n)], true)
	b.brain.Connect(s.now, id(a.n), b.clocks[id(a.n)], false)
	s.wake(a)
	s.wake(b)
}

func (s *sim) disconnect(a, b *simNode) {
	if a.peers[b.n] == nil {
		return
	}
	delete(a.peers, b.n)
	delete(b.peers, a.n)
	a.clocks[id(b.n)] = a.brain.Disconnect(s.now, id(b.n))
	b.clocks[id(a.n)] = b.brain.Disconnect(s.now, id(a.n))
	s.wake(a)
	s.wake(b)
}

func (s *sim) wake(n *simNode) {
	for _, p := range n.brain.Woken() {
		s.pump(n, p)
	}
}

func num(p identity.ID) int { return int(p[0]) | int(p[1])<<8 | int(p[2])<<16 }

// pump sends what there is for a peer: notes at once, messages at 1000 a second.
func (s *sim) pump(n *simNode, p identity.ID) {
	link := n.peers[num(p)]
	if link == nil || n.pumping[num(p)].After(s.now) {
		return
	}
	notes, send, later := n.brain.Next(s.now, p)
	to := s.nodes[num(p)]
	if notes != nil {
		s.notes++
		s.entries += len(notes)
		s.after(link.latency, func() {
			if to.peers[n.n] == link {
				to.brain.Notes(s.now, id(n.n), notes)
				s.wake(to)
			}
		})
	}
	busy := time.Duration(0)
	if send.To > 0 && !n.silent {
		if send.To > n.heads[send.Feed] {
			s.t.Fatalf("node %d was asked to send %d of a feed of %d", n.n, send.To, n.heads[send.Feed])
		}
		for seq := send.From; seq <= send.To; seq++ {
			busy += time.Millisecond
			s.messages++
			s.after(busy+link.latency, func() {
				if to.peers[n.n] == link {
					s.receive(to, n, send.Feed, seq)
				}
			})
		}
	}
	if notes != nil || send.To > 0 {
		n.pumping[num(p)] = s.now.Add(busy)
		s.after(busy, func() { s.pump(n, p) })
	} else if !later.IsZero() {
		s.after(later.Sub(s.now), func() { s.pump(n, p) })
	}
}

func (s *sim) receive(n, from *simNode, feed identity.ID, seq int64) {
	if !n.brain.Received(s.now, id(from.n), feed, seq) {
		return
	}
	n.copies++
	if n.heads[feed] == seq-1 {
		n.heads[feed] = seq
		n.stored++
		n.brain.Stored(s.now, feed, seq, id(from.n))
	}
	s.wake(n)
}

func (s *sim) publish(n *simNode, count int64) {
	n.heads[id(n.n)] += count
	n.brain.Stored(s.now, id(n.n), n.heads[id(n.n)], identity.ID{})
	s.wake(n)
}

func (s *sim) want(n *simNode, feed int) {
	n.brain.Want(s.now, id(feed), true)
	s.wake(n)
}

// missing counts the feeds that somebody wants and has not whole.
func (s *sim) missing(wants map[int][]int) (missing int) {
	for n, feeds := range wants {
		for _, f := range feeds {
			if s.nodes[n].heads[id(f)] != s.nodes[f].heads[id(f)] {
				missing++
			}
		}
	}
	return missing
}

// Hundreds of nodes in one random network: everyone ends with every wanted feed that somebody on the way wants too, however often
// links break, and the traffic stays in proportion.
func TestSimulatedNetwork(t *testing.T) {
	for _, c := range []struct{ nodes, links, feeds int }{{10, 3, 10}, {60, 4, 40}, {250, 5, 15}} {
		t.Run(fmt.Sprint(c.nodes), func(t *testing.T) {
			t.Parallel()
			s := newSim(t, rand.Uint64(), c.nodes)
			wants := map[int][]int{}
			for n, node := range s.nodes {
				for f := range c.feeds {
					wants[n] = append(wants[n], f)
					s.want(node, f)
				}
			}
			for f := range c.feeds {
				s.publish(s.nodes[f], int64(1+s.rng.IntN(60)))
			}
			// A ring and random links: connected, and never less.
			for n, node := range s.nodes {
				s.connect(node, s.nodes[(n+1)%c.nodes])
				for range c.links - 2 {
					s.connect(node, s.nodes[s.rng.IntN(c.nodes)])
				}
			}
			s.run(20 * time.Second)
			for range 10 {
				for range c.nodes / 4 {
					a, b := s.nodes[s.rng.IntN(c.nodes)], s.nodes[s.rng.IntN(c.nodes)]
					if s.rng.IntN(2) == 0 {
						s.disconnect(a, b)
					} else {
						s.connect(a, b)
					}
					s.publish(s.nodes[s.rng.IntN(c.feeds)], int64(1+s.rng.IntN(5)))
				}
				s.run(3 * time.Second)
			}
			for n, node := range s.nodes {
				s.connect(node, s.nodes[(n+1)%c.nodes])
			}
			s.run(time.Minute)
			if m := s.missing(wants); m > 0 {
				t.Errorf("%d of %d wanted feeds are not whole", m, c.nodes*c.feeds)
			}
			stored, copies := 0, 0
			for _, n := range s.nodes {
				stored += n.stored
				copies += n.copies
			}
			ratio, perMessage := float64(copies)/float64(stored), float64(s.entries)/float64(stored)
			t.Logf("%d messages stored, %.3f copies received of each, %.2f note entries", stored, ratio, perMessage)
			if ratio > 1.3 {
				t.Errorf("%.3f copies of each message were received", ratio)
			}
			if perMessage > 12 {
				t.Errorf("%.2f note entries for each message", perMessage)
			}
			before := s.entries + s.messages
			s.run(time.Minute)
			if quiet := s.entries + s.messages - before; quiet > 0 {
				t.Errorf("%d entries and messages went round in a network in sync", quiet)
			}
		})
	}
}

// The same events give the same actions, so that a simulated network that failed can be run again by its seed.
func TestSameSeedSameNetwork(t *testing.T) {
	seed := rand.Uint64()
	run := func() string {
		s := newSim(t, seed, 40)
		for _, node := range s.nodes {
			for f := range 20 {
				s.want(node, f)
			}
		}
		trace := ""
		for range 30 {
			s.publish(s.nodes[s.rng.IntN(20)], int64(1+s.rng.IntN(20)))
			for range 6 {
				s.connect(s.nodes[s.rng.IntN(40)], s.nodes[s.rng.IntN(40)])
				s.disconnect(s.nodes[s.rng.IntN(40)], s.nodes[s.rng.IntN(40)])
			}
			liar := s.nodes[s.rng.IntN(40)]
			liar.silent = !liar.silent
			s.run(time.Duration(s.rng.IntN(4000)) * time.Millisecond)
			trace += fmt.Sprintln(s.messages, s.notes, s.entries, s.order)
		}
		return trace
	}
	first := run()
	for range 3 {
		if again := run(); again != first {
			t.Fatalf("seed %d gave\n%s\nand then\n%s", seed, first, again)
		}
	}
}

// Liars say that they have more of each feed than there is, and send nothing. Two cost as much time as one.
func TestLiarsCostOneStall(t *testing.T) {
	s := newSim(t, rand.Uint64(), 6)
	for f := range 2 {
		for _, n := range s.nodes {
			s.want(n, f)
		}
	}
	for _, liar := range s.nodes[2:4] {
		liar.silent = true
		for f := range 2 {
			liar.heads[id(f)] = 1000
			liar.brain.Stored(s.now, id(f), 1000, identity.ID{})
		}
	}
	s.publish(s.nodes[0], 50)
	s.publish(s.nodes[1], 50)
	victim := s.nodes[5]
	for _, liar := range s.nodes[2:4] {
		s.connect(victim, liar)
	}
	s.run(time.Second)
	s.connect(victim, s.nodes[0])
	s.connect(victim, s.nodes[1])
	s.run(10*time.Second + 5*time.Second)
	for f := range 2 {
		if got := victim.heads[id(f)]; got != 50 {
			t.Errorf("feed %d: %d of 50 after a stall", f, got)
		}
		asked := 0
		for _, c := range victim.brain.(*Brain).Claims(id(f)) {
			if c.Asking {
				asked++
			}
		}
		if asked != 1 {
			t.Errorf("feed %d is asked from %d when the race is over", f, asked)
		}
	}
	s.publish(s.nodes[0], 7)
	s.run(15 * time.Second)
	if got := victim.heads[id(0)]; got != 57 {
		t.Errorf("%d of 57 a stall later", got)
	}
}

// A liar who comes back again and again costs one stall in all, not one each time.
func TestLiarsWhoComeBackAreDoubted(t *testing.T) {
	s := newSim(t, rand.Uint64(), 3)
	author, victim, liar := s.nodes[0], s.nodes[1], s.nodes[2]
	for _, n := range s.nodes {
		s.want(n, 0)
	}
	liar.silent = true
	s.publish(author, 5)
	s.connect(victim, author)
	s.run(time.Second)
	late := 0
	for i := range 30 {
		liar.heads[id(0)] = 1000 + int64(i)
		liar.brain.Stored(s.now, id(0), liar.heads[id(0)], identity.ID{})
		s.connect(liar, victim)
		s.run(2 * time.Second)
		s.publish(author, 1)
		s.run(2 * time.Second)
		if victim.heads[id(0)] != author.heads[id(0)] {
			late++
		}
		s.run(9 * time.Second)
		s.disconnect(liar, victim)
	}
	if late > 1 {
		t.Errorf("%d of 30 messages were late", late)
	}
}

// Who says to have more and then that he has not is not waited for when somebody else has it.
func TestSourceThatTakesItsClaimBack(t *testing.T) {
	b := New(Options{Self: id(0)})
	now := epoch
	b.Want(now, id(1), true)
	for p := 2; p <= 3; p++ {
		b.Connect(now, id(p), nil, false)
		b.Notes(now, id(p), Notes{id(1): MakeNote(10, true)})
	}
	source := func() identity.ID { return b.feeds[id(1)].source.id }
	liar := source()
	now = now.Add(time.Second)
	b.Notes(now, liar, Notes{id(1): MakeNote(0, true)})
	now = now.Add(2500 * time.Millisecond)
	b.Tick(now)
	if source() == liar {
		t.Error("nobody else was asked")
	}
}

// Who sends one thing and lets us wait for another is not waited for when somebody else has it.
func TestBusySourceGivesWay(t *testing.T) {
	b := New(Options{Self: id(0)})
	now := epoch
	for p := 2; p <= 3; p++ {
		b.Connect(now, id(p), nil, false)
		b.Notes(now, id(p), Notes{})
	}
	b.Want(now, id(1), true)
	b.Want(now, id(4), true)
	b.Notes(now, id(2), Notes{id(1): MakeNote(10, true), id(4): MakeNote(1000, true)})
	b.Notes(now, id(3), Notes{id(1): MakeNote(10, true)})
	asked := func(p int) bool {
		f := b.feeds[id(1)]
		return f.source == b.peers[id(p)]
	}
	if !asked(2) {
		b.Disconnect(now, id(3))
		b.Connect(now, id(3), nil, false)
		b.Notes(now, id(3), Notes{id(1): MakeNote(10, true)})
	}
	if !asked(2) {
		t.Fatal("the first peer is not the source")
	}
	for head := range int64(15) {
		now = now.Add(time.Second)
		b.Received(now, id(2), id(4), head+1)
		b.Stored(now, id(4), head+1, id(2))
		b.Tick(now)
		if head == 8 && !asked(2) {
			t.Error("gave up too early")
		}
	}
	if !asked(3) {
		t.Error("the busy source is waited for")
	}
	if len(b.Owed(id(2))) > 0 || len(b.doubted) > 0 {
		t.Error("the busy source is doubted")
	}
}

// Whoever an author blocks gets nothing of that author, and is told so; when the block ends, it comes.
func TestBlockedPeersGetNothing(t *testing.T) {
	s := newSim(t, 1, 2)
	a, b := s.nodes[0], s.nodes[1]
	s.want(a, 0)
	s.want(b, 0)
	s.publish(a, 5)
	a.blocks[id(0)] = map[identity.ID]bool{id(1): true}
	s.connect(a, b)
	s.run(time.Minute)
	if b.heads[id(0)] != 0 {
		t.Error("the feed went to a peer whom its author blocks")
	}
	if got := b.brain.Clock(id(0))[id(0)]; got != None {
		t.Errorf("the peer believes that we have %d", got)
	}
	a.blocks = map[identity.ID]map[identity.ID]bool{}
	a.brain.Recheck(s.now)
	s.wake(a)
	s.run(time.Minute)
	if b.heads[id(0)] != 5 {
		t.Errorf("after the block %d of 5 came", b.heads[id(0)])
	}
}

// Two peers in sync say almost nothing when they meet again, however many feeds there are.
func TestReconnectSaysOnlyWhatChanged(t *testing.T) {
	const feeds = 10000
	s := newSim(t, 1, 2)
	a, b := s.nodes[0], s.nodes[1]
	for f := range feeds {
		for _, n := range s.nodes {
			n.heads[id(f)] = 3
			n.brain.Stored(s.now, id(f), 3, identity.ID{})
			s.want(n, f)
		}
	}
	s.connect(a, b)
	s.run(time.Minute)
	if s.entries < feeds {
		t.Fatalf("%d entries at the first meeting", s.entries)
	}
	for range 2 {
		s.disconnect(a, b)
		s.run(time.Second)
		s.entries = 0
		a.heads[id(7)]++
		a.brain.Stored(s.now, id(7), a.heads[id(7)], identity.ID{})
		s.connect(a, b)
		s.run(time.Minute)
		if s.entries > 6 {
			t.Errorf("%d entries to say that one feed changed", s.entries)
		}
		if b.heads[id(7)] != a.heads[id(7)] {
			t.Errorf("the feed that changed has %d of %d", b.heads[id(7)], a.heads[id(7)])
		}
	}
}

// Who sent messages learns that they arrived, a second after the last, and at the latest some seconds after the first.
func TestSendersLearnWhatArrived(t *testing.T) {
	us, from, feed, other := New(Options{}), id(2), id(9), id(10)
	now := epoch
	us.Want(now, feed, true)
	us.Want(now, other, true)
	us.Connect(now, from, nil, false)
	us.Next(now, from)
	us.Notes(now, from, Notes{feed: MakeNote(3, false), other: MakeNote(1000, false)})
	us.Next(now, from)
	get := func(feed identity.ID, seq int64) {
		us.Received(now, from, feed, seq)
		us.Stored(now, feed, seq, from)
	}
	for seq := range int64(3) {
		get(feed, seq+1)
	}
	get(other, 1)
	if notes, _, later := us.Next(now, from); len(notes) > 0 || later != now.Add(time.Second) {
		t.Fatalf("at once: %v, and more at %v", notes, later)
	}
	now = now.Add(time.Second)
	// Of the other feed more is on its way: a note would have it sent anew.
	if notes, _, later := us.Next(now, from); len(notes) != 1 || notes[feed].Sequence() != 3 || !notes[feed].Receive() || !later.IsZero() {
		t.Errorf("after a second: %v, and more at %v", notes, later)
	}
	now = now.Add(time.Minute)
	get(feed, 3) // again
	if notes, _, later := us.Next(now, from); len(notes) > 0 || !later.IsZero() {
		t.Errorf("for what we had: %v, and more at %v", notes, later)
	}
	// It does not wait for the end of what never ends.
	begin, seq := now, int64(3)
	for {
		seq++
		get(feed, seq)
		if notes, _, _ := us.Next(now, from); len(notes) > 0 {
			break
		}
		if now = now.Add(300 * time.Millisecond); now.Sub(begin) > time.Minute {
			t.Fatal("never told")
		}
	}
	if after := now.Sub(begin); after > thankMost*time.Second+time.Second {
		t.Errorf("told after %v", after)
	}
	// A feed that is not wanted any more is not spoken of.
	get(feed, seq+1)
	us.Want(now, feed, false)
	now = now.Add(time.Minute)
	if notes, _, _ := us.Next(now, from); len(notes) != 1 || notes[feed] != None {
		t.Errorf("of a feed that is not wanted: %v", notes)
	}
}

// A peer that says to have less than it was sent, and wants no more, is told once more what there is, and not before it had time to
// get it from somebody else.
func TestWhoLostMessagesIsReminded(t *testing.T) {
	us, peer, feed := New(Options{}), id(2), id(9)
	now := epoch
	us.Want(now, feed, true)
	us.Stored(now, feed, 4, identity.ID{})
	us.Connect(now, peer, nil, false)
	us.Next(now, peer)
	us.Notes(now, peer, Notes{feed: MakeNote(0, true)})
	if _, send, _ := us.Next(now, peer); send != (Send{Feed: feed, From: 1, To: 4}) {
		t.Fatalf("sends %+v", send)
	}
	wait := func(d time.Duration) Notes {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(2500 * time.Millisecond)
			us.Tick(now)
			for _, woken := range us.Woken() {
				if notes, send, _ := us.Next(now, woken); send.To > 0 {
					t.Fatalf("sends %+v", send)
				} else if notes != nil {
					return notes
				}
			}
		}
		return nil
	}
	us.Notes(now, peer, Notes{feed: MakeNote(2, false)})
	said := now
	if notes := wait(time.Minute); notes[feed].Sequence() != 4 || now.Sub(said) < 10*time.Second {
		t.Fatalf("reminded %v after %v", notes, now.Sub(said))
	}
	if notes := wait(time.Hour); notes != nil {
		t.Fatalf("reminded again: %v", notes)
	}
	us.Notes(now, peer, Notes{feed: MakeNote(2, true)})
	if _, send, _ := us.Next(now, peer); send != (Send{Feed: feed, From: 3, To: 4}) {
		t.Fatalf("asked again, sends %+v", send)
	}
	// It got them elsewhere.
	us.Notes(now, peer, Notes{feed: MakeNote(2, false)})
	us.Notes(now, peer, Notes{feed: MakeNote(4, false)})
	if notes := wait(time.Hour); notes != nil {
		t.Errorf("has all, and is reminded: %v", notes)
	}
}

func TestHolds(t *testing.T) {
	us, to, feed := New(Options{}), id(2), id(9)
	us.Want(epoch, feed, true)
	us.Stored(epoch, feed, 5, identity.ID{})
	us.Connect(epoch, to, nil, false)
	us.Notes(epoch, to, Notes{feed: MakeNote(2, true)})
	us.Holds(to, feed, 4)
	if got := us.Clock(to)[feed]; got != 2 {
		t.Errorf("%d is believed of a peer to whom nothing was sent", got)
	}
	us.Next(epoch, to)
	us.Holds(to, feed, 4)
	us.Holds(to, feed, 3)
	us.Holds(to, feed, 99)
	us.Holds(id(77), feed, 4)
	us.Holds(to, id(78), 4)
	if got := us.Clock(to)[feed]; got != 4 {
		t.Errorf("the peer is known to have %d, want 4", got)
	}
}

func TestRefusedPeerIsNotAskedAgain(t *testing.T) {
	b := New(Options{Self: id(0)})
	b.Want(epoch, id(1), true)
	b.Connect(epoch, id(2), nil, false)
	b.Notes(epoch, id(2), Notes{id(1): MakeNote(10, true)})
	notes, _, _ := b.Next(epoch, id(2))
	if n := notes[id(1)]; n.Sequence() != 0 || !n.Receive() {
		t.Fatalf("asked with %v", notes)
	}
	b.Refused(epoch, id(2), id(1))
	notes, _, _ = b.Next(epoch, id(2))
	if n := notes[id(1)]; n.Receive() {
		t.Fatalf("after a refusal: %v", notes)
	}
	b.Notes(epoch, id(2), Notes{id(1): MakeNote(11, true)})
	b.Tick(epoch.Add(time.Hour))
	notes, _, _ = b.Next(epoch, id(2))
	if n, ok := notes[id(1)]; ok && n.Receive() {
		t.Fatalf("asked again: %v", notes)
	}
	// Another peer is.
	b.Connect(epoch, id(3), nil, false)
	b.Notes(epoch, id(3), Notes{id(1): MakeNote(10, true)})
	notes, _, _ = b.Next(epoch, id(3))
	if n := notes[id(1)]; !n.Receive() {
		t.Fatalf("the honest peer is asked with %v", notes)
	}
}

// A peer that was told 0 and said None hears once when there is more than 0: as an old JS peer it asks, when it comes to want
// the feed, only where the last that it heard differs from its own 0.
func TestUninterestedPeerHearsThatThereIsSomething(t *testing.T) {
	b := New(Options{Self: id(0)})
	b.Want(epoch, id(1), true)
	b.Connect(epoch, id(2), nil, false)
	if notes, _, _ := b.Next(epoch, id(2)); notes[id(1)].Sequence() != 0 {
		t.Fatalf("began with %v", notes)
	}
	b.Notes(epoch, id(2), Notes{id(1): None})
	now := epoch
	var told []Notes
	for head := range int64(5) {
		b.Stored(now, id(1), head+1, identity.ID{})
		now = now.Add(time.Hour)
		if notes, _, _ := b.Next(now, id(2)); len(notes) > 0 {
			told = append(told, notes)
		}
	}
	if len(told) != 1 || told[0][id(1)] != MakeNote(1, false) {
		t.Fatalf("told %v", told)
	}
	b.Notes(now, id(2), Notes{id(1): MakeNote(0, true)})
	if _, send, _ := b.Next(now, id(2)); send != (Send{Feed: id(1), From: 1, To: 5}) {
		t.Errorf("sends %+v", send)
	}
}

// Nothing is kept about what a peer names and nobody wants.
func TestUnwantedFeedsLeaveNothing(t *testing.T) {
	b := New(Options{Self: id(0)})
	b.Connect(epoch, id(1), nil, false)
	b.Next(epoch, id(1))
	notes := Notes{}
	for i := range 5000 {
		notes[id(i)] = MakeNote(5, true)
	}
	b.Notes(epoch, id(1), notes)
	answer, _, _ := b.Next(epoch, id(1))
	if len(answer) != 5000 || answer[id(77)] != None {
		t.Errorf("%d answers", len(answer))
	}
	p := b.peers[id(1)]
	if len(b.feeds)+len(b.list)+len(p.table)+len(p.notes) != 0 || len(p.declined) > maxDeclined {
		t.Errorf("%d feeds, %d in the peer's table, %d declined", len(b.feeds), len(p.table), len(p.declined))
	}
}

// A peer that asked for a feed when it was not wanted gets it when it is: it takes its request for standing.
func TestWhoAskedTooEarlyIsServed(t *testing.T) {
	for _, withdrawn := range []bool{false, true} {
		b := New(Options{Self: id(0)})
		b.Connect(epoch, id(1), nil, false)
		b.Next(epoch, id(1))
		b.Notes(epoch, id(1), Notes{id(5): MakeNote(2, true), id(6): MakeNote(4, true), id(7): MakeNote(0, false)})
		if withdrawn {
			b.Notes(epoch, id(1), Notes{id(5): MakeNote(2, false), id(6): None})
		}
		b.Next(epoch, id(1))
		for n := range 3 {
			b.Stored(epoch, id(5+n), 4, identity.ID{})
			b.Want(epoch, id(5+n), true)
		}
		notes, send, _ := b.Next(epoch, id(1))
		for n := range 3 {
			if notes[id(5+n)].Sequence() != 4 {
				t.Errorf("withdrawn %v: told %v", withdrawn, notes)
			}
		}
		want := Send{Feed: id(5), From: 3, To: 4}
		if withdrawn {
			want = Send{}
		}
		if send != want {
			t.Errorf("withdrawn %v: sends %+v, want %+v", withdrawn, send, want)
		}
		if _, send, _ = b.Next(epoch, id(1)); send.To != 0 {
			t.Errorf("withdrawn %v: also sends %+v", withdrawn, send)
		}
		if p := b.peers[id(1)]; len(p.declined) != 0 {
			t.Errorf("withdrawn %v: still declined: %v", withdrawn, p.declined)
		}
	}
}

// Events in any order leave the brain whole: one source a feed, which knows that it is asked.
func FuzzBrain(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13})
	f.Fuzz(func(t *testing.T, ops []byte) {
		blocked := false
		b := New(Options{Self: id(0), Blocks: func(a, p identity.ID) bool { return blocked && a == id(10) && p == id(1) }})
		now := epoch
		heads := map[identity.ID]int64{}
		for len(ops) >= 3 {
			op, x, y := ops[0], ops[1], ops[2]
			ops = ops[3:]
			peer, feed := id(1+int(x%3)), id(10+int(y%3))
			switch op % 12 {
			case 0:
				if !b.Connected(peer) {
					b.Connect(now, peer, Clock{feed: int64(y>>4) - 1}, op&16 != 0)
				}
			case 1:
				b.Disconnect(now, peer)
			case 2:
				b.Notes(now, peer, Notes{feed: Note(int64(op>>3) - 1)})
			case 3:
				b.Received(now, peer, feed, int64(op>>3))
			case 4:
				heads[feed] += int64(op >> 5)
				b.Stored(now, feed, heads[feed], peer)
			case 5:
				b.Refused(now, peer, feed)
			case 6:
				b.Want(now, feed, op&16 != 0)
			case 7:
				blocked = !blocked
				b.Recheck(now)
			case 8:
				now = now.Add(time.Duration(x) * time.Second)
				b.Tick(now)
			case 9:
				_, send, _ := b.Next(now, peer)
				if send.To > 0 && (send.To > heads[send.Feed] || send.From > send.To || send.From < 1) {
					t.Fatalf("%+v of a feed of %d", send, heads[send.Feed])
				}
			case 10:
				b.Unsent(peer, feed, 1+int64(op>>4))
			case 11:
				b.Owed(peer)
			}
			b.Woken()
			for _, f := range b.feeds {
				var asked []identity.ID
				for _, p := range b.peers {
					if p.of(f).is&isRx != 0 && (p == f.source || !slices.Contains(b.racing[f], p)) {
						asked = append(asked, p.id)
					}
				}
				if len(b.racing[f]) > maxRacing || len(b.racing[f]) > 0 && !f.want {
					t.Fatalf("feed %v is asked from %d beside its source; it is wanted: %v", f.id, len(b.racing[f]), f.want)
				}
				if len(asked) > 1 || len(asked) == 1 && (f.source == nil || f.source.id != asked[0]) {
					t.Fatalf("feed %v is asked from %v, its source is %v", f.id, asked, f.source)
				}
				if f.source != nil && b.peers[f.source.id] != f.source {
					t.Fatal("the source is gone")
				}
				if f.source != nil && !slices.Contains(asked, f.source.id) {
					t.Fatal("the source was not asked")
				}
			}
		}
	})
}

func BenchmarkStored(b *testing.B) {
	brain := New(Options{Self: id(0)})
	brain.Want(epoch, id(1), true)
	for p := range 10 {
		brain.Connect(epoch, id(100+p), nil, false)
		brain.Notes(epoch, id(100+p), Notes{id(1): MakeNote(0, p%2 == 0)})
	}
	head := int64(0)
	for b.Loop() {
		head++
		brain.Received(epoch, id(101), id(1), head)
		brain.Stored(epoch, id(1), head, id(101))
		brain.Woken()
	}
}
