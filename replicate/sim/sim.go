package main

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"charkha/identity"
	"charkha/replicate/internal/ebt"
	"charkha/replicate/internal/sched"
)

// What package replicate does around the brains, in numbers.
const (
	dialTimeout  = 15 * time.Second        // of a TCP connection that nobody answers
	bothDialled  = 10 * time.Second        // how close two connections are that both sides dialled at once
	tickEvery    = 2500 * time.Millisecond // how often the EBT brain is told the time
	watchEach    = 2                       // with how many of these the scheduler is told who lets us wait
	maxInvalid   = 100                     // more invalid messages end a connection
	pingTimeout  = time.Minute             // after which a dead connection is noticed when nothing else tells
	beaconEvery  = 2 * time.Second         // of the neighbours on a local network
	silentAfter  = 10 * time.Second        // after which a neighbour is gone
	perMessage   = time.Millisecond        // on any link: about 650 kB/s
	quietAfter   = 70 * time.Second        // a brain that nothing happened to for so long has nothing to do when it ticks
	messageBytes = 650                     // a message of 600 bytes with what muxrpc and box stream add
	entryBytes   = 60                      // of one feed in notes
	bodyBytes    = 43                      // what muxrpc and box stream add to a body of notes
	greetBytes   = 500                     // handshake and the opening of EBT
)

// event is something to do at a time.
type event struct {
	at    time.Duration // since epoch
	order int           // of those at one time, the first made comes first
	do    func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.order < o.order }

// events is a heap, the next event first. Package container/heap would allocate for each.
type events []event

func (q *events) push(e event) {
	*q = append(*q, e)
	h := *q
	i := len(h) - 1
	for up := (i - 1) / 2; i > 0 && e.before(&h[up]); up = (i - 1) / 2 {
		h[i] = h[up]
		i = up
	}
	h[i] = e
}

func (q *events) pop() event {
	h := *q
	first, e := h[0], h[len(h)-1]
	h[len(h)-1] = event{}
	h = h[:len(h)-1]
	*q = h
	i := 0
	for down := 1; down < len(h); down = 2*i + 1 {
		if down+1 < len(h) && h[down+1].before(&h[down]) {
			down++
		}
		if e.before(&h[down]) {
			break
		}
		h[i] = h[down]
		i = down
	}
	if len(h) > 0 {
		h[i] = e
	}
	return first
}

// sim is a network in virtual time. Everything happens on one goroutine, in an order that follows from the seed.
type sim struct {
	c     config
	rng   *rand.Rand
	now   time.Time
	queue events
	order int
	nodes []*node
	rooms []*room
	lans  [][]*node
	posts map[post]*spread
	stats
}

// stats is what is counted.
type stats struct {
	stored        int   // messages taken into logs
	copies        int   // messages that honest nodes sent and honest ones received
	sent          int   // messages that honest nodes sent
	messageB      int64 // bytes of messages, of notes, of handshakes
	noteB, greetB int64
	dials, failed int
	links         [2]int        // made with somebody never met before, met before
	clockB        [2]int64      // bytes of notes in their first seconds, both ways
	banned        []string      // what an honest node holds against another
	watchdog      int           // hostile nodes that the watchdog dropped
	admitted      int           // hostile nodes that were turned away
	exposed       time.Duration // the longest that anybody waited for what an honest peer offered
}

// post is a message that is followed on its way.
type post struct {
	author int
	seq    int64
}

// spread is how far a post has come.
type spread struct {
	at      time.Time
	wanters int
	got     []time.Duration // how long it took to each, in the order in which they got it
}

// room is a room server: it is never down.
type room struct {
	n         int
	attendant map[int]bool
	members   []*node
}

// node is a person's node, a pub, or a hostile node.
type node struct {
	n       int
	id      identity.ID
	pub     bool
	hostile hostility
	nat     bool // can be dialled on its local network and through rooms only
	lan     int  // -1: none
	rooms   []*room
	follows []int
	pubs    []int // that it was invited to
	known   []candidate
	wants   []identity.ID
	wanted  map[identity.ID]bool
	ping    time.Duration // to the middle of the network

	on       bool
	asleep   bool // off, but with all of its memory
	gen      int  // counts what ends with being off
	brain    *ebt.Brain
	sched    *sched.Scheduler
	links    []*link // in the order of the other ends
	dialling map[identity.Address]bool
	heads    map[identity.ID]int64 // the log
	branch   map[int]int           // of forked feeds: which side of the fork the log has
	clocks   map[int]clock         // what peers were last known to have: a file in a real node
	conns    []byte                // conn.json
	schedAt  time.Time
	ticks    bool
	ticked   int
	waits    bool      // somebody let it wait when it looked
	laggards int       // how many let it wait or said nothing then
	tickLast time.Time // ticks go on until then
	exposed  map[identity.ID]exposure
}

// exposure is that an honest peer said that it has more of a feed.
type exposure struct {
	l    *link
	seq  int64
	from time.Time
}

// clock is a remembered clock in little space: the sequences of the feeds that a node wants, in their order.
type clock []int32

const unknown = ebt.None - 1 // no entry

func (n *node) pack(c ebt.Clock) clock {
	if c == nil {
		return nil
	}
	all := make(clock, len(n.wants))
	for i, id := range n.wants {
		if seq, ok := c[id]; ok {
			all[i] = int32(seq)
		} else {
			all[i] = unknown
		}
	}
	return all
}

func (n *node) unpack(all clock) ebt.Clock {
	c := make(ebt.Clock, len(all))
	for i, seq := range all {
		if seq != unknown {
			c[n.wants[i]] = int64(seq)
		}
	}
	return c
}

// candidate is an address that a node learns in one way or another when it starts.
type candidate struct {
	addr   identity.Address
	kind   sched.Kind
	source string
}

// link is a connection.
type link struct {
	ends    [2]*node // the first one dialled
	addr    identity.Address
	kind    sched.Kind
	latency time.Duration
	since   time.Time
	again   int     // 1: they were connected before
	up      [2]bool // as each end sees it
	busy    [2]time.Time
	lazy    [2]time.Time
	stalled [2]bool // each end's scheduler was told that the other lets it wait
	mute    [2]bool // and that the other said nothing
	invalid [2]int  // what each end got
}

// find tells where in a node's links the one with another node is, or would be.
func (n *node) find(other int) (int, bool) {
	return slices.BinarySearchFunc(n.links, other, func(l *link, other int) int { return l.other(n).n - other })
}

// with is a node's connection with another one, nil when there is none.
func (n *node) with(other int) *link {
	if i, ok := n.find(other); ok {
		return n.links[i]
	}
	return nil
}

// other is the far end.
func (l *link) other(n *node) *node { return l.ends[1-l.side(n)] }

func (l *link) side(n *node) int {
	if l.ends[0] == n {
		return 0
	}
	return 1
}

func idOf(n int) identity.ID { return identity.ID{byte(n), byte(n >> 8), byte(n >> 16), 1} }
func num(id identity.ID) int { return int(id[0]) | int(id[1])<<8 | int(id[2])<<16 }

func (s *sim) after(d time.Duration, do func()) {
	s.order++
	s.queue.push(event{s.now.Sub(epoch) + d, s.order, do})
}

// run lets time pass.
func (s *sim) run(d time.Duration) {
	end := s.now.Add(d)
	for len(s.queue) > 0 && s.queue[0].at <= end.Sub(epoch) {
		e := s.queue.pop()
		s.now = epoch.Add(e.at)
		e.do()
	}
	s.now = end
}

// exp is a random time with a mean.
func (s *sim) exp(mean time.Duration) time.Duration {
	return time.Duration(s.rng.ExpFloat64() * float64(mean))
}

func (s *sim) between(a, b time.Duration) time.Duration {
	return a + time.Duration(s.rng.Int64N(int64(b-a)+1))
}

// start turns a node on: as a process that begins with what is on disk, or as a machine that wakes.
func (s *sim) start(n *node) {
	if n.on {
		return
	}
	n.on = true
	n.gen++
	n.ticks, n.waits, n.schedAt = false, false, time.Time{}
	if !n.asleep {
		saved, err := sched.Parse(n.conns)
		if err != nil {
			panic("sim: internal error: " + err.Error())
		}
		n.links, n.dialling = nil, map[identity.Address]bool{}
		n.sched = sched.New(s.now, sched.Options{
			Self: n.id, Rand: rand.New(rand.NewPCG(s.rng.Uint64(), 1)),
			Known: func(id identity.ID) bool { return n.wanted[id] },
		}, saved)
		n.brain = ebt.New(ebt.Options{Self: n.id})
		for _, id := range n.wants {
			if h := n.heads[id]; h > 0 {
				n.brain.Stored(s.now, id, h, identity.ID{})
			}
		}
		for _, id := range n.wants {
			n.brain.Want(s.now, id, true)
		}
		for _, c := range n.known {
			n.sched.Offer(s.now, c.addr, c.kind, c.source)
		}
	} else {
		addrs := slices.Collect(maps.Keys(n.dialling))
		slices.SortFunc(addrs, func(a, b identity.Address) int { return strings.Compare(a.String(), b.String()) })
		for _, addr := range addrs {
			n.sched.Failed(s.now, addr, nil)
		}
		clear(n.dialling)
		n.sched.Woke(s.now)
	}
	n.asleep = false
	s.touch(n)
	s.schedule(n)
	gen := n.gen
	if n.lan >= 0 {
		s.after(s.between(0, beaconEvery), func() {
			if n.gen == gen {
				s.beacon(n)
			}
		})
	}
	for _, r := range n.rooms {
		s.after(s.between(200*time.Millisecond, 3*time.Second), func() {
			if n.gen == gen {
				s.join(n, r)
			}
		})
	}
	if n.hostile.acts() {
		s.after(s.between(0, hostileEvery), func() { s.attack(n, gen) })
	}
}

// stop turns a node off: cleanly, or as a machine that falls asleep, whose peers notice only later.
func (s *sim) stop(n *node, sleeps bool) {
	if !n.on {
		return
	}
	if !sleeps {
		for _, l := range slices.Clone(n.links) {
			s.end(l, n, "the node stops")
		}
		n.conns = sched.Marshal(n.sched.Saved())
	} else {
		for _, l := range n.links {
			other := l.other(n)
			s.after(pingTimeout, func() { s.end(l, other, "no answer to pings") })
		}
	}
	n.on, n.asleep = false, sleeps
	n.gen++
	clear(n.exposed)
	for _, r := range n.rooms {
		if r.attendant[n.n] {
			r.attendant[n.n] = false
			gone := time.Duration(0)
			if sleeps {
				gone = pingTimeout
			}
			for _, m := range r.members {
				s.after(gone+m.ping, func() {
					if m.on && !r.attendant[n.n] {
						m.sched.Withdraw(s.now, roomAddr(r, n))
						s.schedule(m)
					}
				})
			}
		}
	}
	if n.lan >= 0 {
		for _, m := range s.lans[n.lan] {
			s.after(silentAfter, func() {
				if m.on && !n.on {
					m.sched.Withdraw(s.now, lanAddr(n))
					s.schedule(m)
				}
			})
		}
	}
}

// beacon tells a node and its neighbours of each other.
func (s *sim) beacon(n *node) {
	for _, m := range s.lans[n.lan] {
		if m == n {
			continue
		}
		if !m.on {
			n.sched.Withdraw(s.now, lanAddr(m))
			continue
		}
		n.sched.Offer(s.now, lanAddr(m), sched.LAN, "beacon")
		m.sched.Offer(s.now, lanAddr(n), sched.LAN, "beacon")
		s.schedule(m)
	}
	s.schedule(n)
}

// join enters a room: everybody there hears of it.
func (s *sim) join(n *node, r *room) {
	r.attendant[n.n] = true
	for _, m := range r.members {
		if m == n {
			continue
		}
		if !r.attendant[m.n] {
			n.sched.Withdraw(s.now, roomAddr(r, m))
			continue
		}
		n.sched.Offer(s.now, roomAddr(r, m), sched.Room, "room")
		s.after(m.ping, func() {
			if m.on && r.attendant[n.n] {
				m.sched.Offer(s.now, roomAddr(r, n), sched.Room, "room")
				s.schedule(m)
			}
		})
	}
	s.schedule(n)
}

// schedule does what a node's scheduler wants, and asks again when it wants that.
func (s *sim) schedule(n *node) {
	if !n.on || n.hostile.acts() {
		return
	}
	for {
		dial, drop, again := n.sched.Next(s.now)
		for _, d := range drop {
			l := n.with(num(d.ID))
			if l == nil {
				panic("sim: internal error: the scheduler drops who is not connected")
			}
			s.judge(n, l, d.Why)
			s.end(l, n, d.Why)
		}
		for _, addr := range dial {
			n.dialling[addr] = true
			s.dial(n, addr)
		}
		if len(dial)+len(drop) > 0 {
			continue
		}
		if !again.IsZero() && (n.schedAt.IsZero() || again.Before(n.schedAt)) {
			n.schedAt = again
			gen := n.gen
			s.after(again.Sub(s.now), func() {
				if n.gen == gen && n.schedAt.Equal(again) {
					n.schedAt = time.Time{}
					s.schedule(n)
				}
			})
		}
		return
	}
}

var (
	errTimeout = errors.New("no answer")
	errRefused = errors.New("connection refused")
	errAway    = errors.New("the peer is not in the room")
	errAdmit   = errors.New("the peer closed the connection")
)

// dial tries an address.
func (s *sim) dial(n *node, addr identity.Address) {
	s.dials++
	gen := n.gen
	fail := func(d time.Duration, err error) {
		s.after(d, func() {
			if n.gen == gen {
				s.failed++
				delete(n.dialling, addr)
				n.sched.Failed(s.now, addr, err)
				s.schedule(n)
			}
		})
	}
	to := num(addr.Key)
	kind, r := kindOf(addr)
	if to >= len(s.nodes) || s.rng.Float64() < s.c.loss {
		fail(dialTimeout, errTimeout)
		return
	}
	m := s.nodes[to]
	latency := n.ping + m.ping
	switch {
	case kind == sched.Room && !(s.rooms[r].attendant[n.n] && s.rooms[r].attendant[m.n]):
		fail(2*n.ping, errAway)
		return
	case kind == sched.LAN:
		latency = 2 * time.Millisecond
	case kind != sched.Room && m.nat:
		fail(dialTimeout, errTimeout)
		return
	}
	if !m.on {
		if s.rng.IntN(4) == 0 {
			fail(latency, errRefused)
		} else {
			fail(dialTimeout, errTimeout)
		}
		return
	}
	s.greetB += greetBytes
	s.after(4*latency, func() { // TCP and the handshake
		if n.gen != gen {
			return
		}
		delete(n.dialling, addr)
		if !m.on {
			n.sched.Failed(s.now, addr, errTimeout)
		} else if !m.hostile.acts() && m.sched.Admit(s.now, n.id) != nil {
			if n.hostile == honest {
				s.banned = append(s.banned, "an honest node was not admitted")
			} else {
				s.admitted++
			}
			n.sched.Failed(s.now, addr, errAdmit)
		} else if s.enter(n, m) {
			s.establish(n, m, addr, kind, latency)
		} else {
			n.sched.Failed(s.now, addr, nil)
		}
		s.schedule(n)
		s.schedule(m)
	})
}

// enter makes place for a connection that a dialled with b, and reports whether it stays.
func (s *sim) enter(a, b *node) bool {
	old := a.with(b.n)
	if old != nil && old == b.with(a.n) && old.ends[0] == b && s.now.Sub(old.since) < bothDialled && bytes.Compare(a.id[:], b.id[:]) > 0 {
		return false // both dialled at once: what the smaller id dialled stays
	}
	for _, n := range []*node{a, b} {
		other := a.n + b.n - n.n
		if old := n.with(other); old != nil {
			s.leave(old, n) // Connected tells the scheduler
		}
	}
	return true
}

// establish makes a connection.
func (s *sim) establish(a, b *node, addr identity.Address, kind sched.Kind, latency time.Duration) {
	l := &link{ends: [2]*node{a, b}, addr: addr, kind: kind, latency: latency, since: s.now, up: [2]bool{true, true}}
	if len(a.clocks[b.n])+len(b.clocks[a.n]) > 0 {
		l.again = 1
	}
	s.links[l.again]++
	for _, n := range l.ends {
		i, _ := n.find(l.other(n).n)
		n.links = slices.Insert(n.links, i, l)
	}
	a.sched.Connected(s.now, b.id, addr, true)
	b.sched.Connected(s.now, a.id, identity.Address{}, false)
	if a.hostile.ownBrain() {
		a.brain.Connect(s.now, b.id, a.unpack(a.clocks[b.n]), true)
	}
	s.after(latency, func() { // ebt.replicate is called
		if l.up[1] {
			s.opened(l, b)
		}
	})
	// Links break: seen at once by both, or by one end only.
	if s.c.linkLife > 0 {
		s.after(s.exp(s.c.linkLife), func() {
			first := s.rng.IntN(2)
			if s.rng.IntN(4) > 0 {
				s.end(l, l.ends[first], "the link broke")
				return
			}
			if !l.up[0] || !l.up[1] {
				return
			}
			s.leave(l, l.ends[first])
			l.ends[first].sched.Disconnected(s.now, l.ends[1-first].id, "the link broke")
			s.schedule(l.ends[first])
			s.after(pingTimeout, func() { s.end(l, l.ends[1-first], "no answer to pings") })
		})
	}
}

// opened is that EBT is open at the end that was dialled.
func (s *sim) opened(l *link, b *node) {
	a := l.ends[0]
	if b.hostile.ownBrain() {
		b.brain.Connect(s.now, a.id, b.unpack(b.clocks[a.n]), false)
		s.touch(b)
		s.wake(b)
	} else {
		s.hostileOpened(l, b)
	}
}

// leave takes a connection out of one end's tables, but for its scheduler's.
func (s *sim) leave(l *link, n *node) {
	side := l.side(n)
	if !l.up[side] {
		return
	}
	l.up[side] = false
	other := l.other(n)
	if i, ok := n.find(other.n); ok && n.links[i] == l {
		n.links = slices.Delete(n.links, i, i+1)
	}
	if clock := n.brain.Disconnect(s.now, other.id); clock != nil {
		n.clocks[other.n] = n.pack(clock)
	}
	for feed, x := range n.exposed {
		if x.l == l {
			delete(n.exposed, feed)
		}
	}
	if n.on {
		s.touch(n)
		s.wake(n)
	}
}

// end closes a connection at one end; the other hears of it.
func (s *sim) end(l *link, n *node, why string) {
	side := l.side(n)
	if !l.up[side] || !n.on {
		return // a sleeping machine notices nothing
	}
	s.leave(l, n)
	other := l.other(n)
	n.sched.Disconnected(s.now, other.id, why)
	s.schedule(n)
	s.after(l.latency, func() { s.end(l, other, "the peer closed the connection") })
}

// touch says that something happened to a brain: it ticks for a while.
func (s *sim) touch(n *node) {
	n.tickLast = s.now.Add(quietAfter)
	if n.ticks || !n.on {
		return
	}
	n.ticks = true
	gen := n.gen
	var tick func()
	tick = func() {
		if n.gen != gen {
			return
		}
		n.brain.Tick(s.now)
		s.wake(n)
		if n.ticked++; n.ticked%watchEach == 0 {
			n.waits = s.watch(n)
		}
		if n.ticks = n.waits || s.now.Before(n.tickLast); n.ticks {
			s.after(tickEvery, tick)
		}
	}
	s.after(s.between(0, tickEvery), tick)
}

// watch tells the scheduler which peers let us wait and which say nothing. It reports whether any lets us wait.
func (s *sim) watch(n *node) (waits bool) {
	laggards := n.brain.Laggards()
	if len(laggards) == 0 && n.laggards == 0 {
		return false
	}
	n.laggards = len(laggards)
	told := false
	for _, l := range n.links {
		side, p := l.side(n), l.other(n).id
		var lag ebt.Laggard
		if i := slices.IndexFunc(laggards, func(l ebt.Laggard) bool { return l.Peer == p }); i >= 0 {
			lag = laggards[i]
		}
		if lag.Stalled > 0 || l.stalled[side] {
			l.stalled[side] = lag.Stalled > 0
			waits = waits || lag.Stalled > 0
			n.sched.Promised(s.now, p, lag.Stalled)
			told = true
		}
		if lag.Mute != l.mute[side] {
			l.mute[side] = lag.Mute
			n.sched.Mute(s.now, p, lag.Mute)
			told = true
		}
	}
	if told {
		s.schedule(n)
	}
	return waits
}

// wake sends what brains have to say.
func (s *sim) wake(n *node) {
	for _, p := range slices.Clone(n.brain.Woken()) {
		if l := n.with(num(p)); l != nil {
			s.pump(n, l)
		}
	}
}

// pump says and sends what there is for a peer: notes at once, messages at the speed of the link.
func (s *sim) pump(n *node, l *link) {
	side := l.side(n)
	if !n.on || !l.up[side] || l.busy[side].After(s.now) {
		return
	}
	to := l.other(n)
	notes, send, later := n.brain.Next(s.now, to.id)
	n.brain.Owed(to.id) // no history streams here
	if notes != nil {
		if n.hostile == falseClock {
			s.falsify(notes)
		}
		s.count(n, l, len(notes))
		s.after(l.latency, func() { s.hear(to, n, l, notes) })
	}
	busy := time.Duration(0)
	if send.To > 0 {
		count := int(send.To - send.From + 1)
		busy = time.Duration(count) * perMessage
		if n.hostile == honest {
			s.sent += count
			s.messageB += int64(count) * messageBytes
		}
		s.after(busy+l.latency, func() { s.receive(to, n, l, send) })
	}
	if notes != nil || send.To > 0 {
		l.busy[side] = s.now.Add(busy)
		s.after(busy, func() { s.pump(n, l) })
	} else if !later.IsZero() && !l.lazy[side].Equal(later) {
		l.lazy[side] = later
		s.after(later.Sub(s.now), func() { s.pump(n, l) })
	}
}

func (s *sim) count(n *node, l *link, entries int) {
	if n.hostile != honest {
		return
	}
	b := int64(bodyBytes + entries*entryBytes)
	s.noteB += b
	if s.now.Sub(l.since) < 3*time.Second {
		s.clockB[l.again] += b
	}
}

// hear takes notes.
func (s *sim) hear(n, from *node, l *link, notes ebt.Notes) {
	if !n.on || !l.up[l.side(n)] {
		return
	}
	if !n.hostile.ownBrain() {
		s.hostileHears(n, from, l, notes)
		return
	}
	n.brain.Notes(s.now, from.id, notes)
	if s.c.watch && n.hostile == honest && from.hostile == honest {
		for feed, note := range notes {
			if _, ok := n.exposed[feed]; !ok && n.wanted[feed] && note.Sequence() > n.heads[feed] && s.nodes[num(feed)].hostile == honest {
				n.exposed[feed] = exposure{l, note.Sequence(), s.now}
			}
		}
	}
	s.touch(n)
	s.wake(n)
}

// receive takes messages of a feed, as package replicate's intake does.
func (s *sim) receive(n, from *node, l *link, send ebt.Send) {
	side := l.side(n)
	if !n.on || !l.up[side] || !n.hostile.ownBrain() {
		return
	}
	author := num(send.Feed)
	head := n.heads[send.Feed]
	stored, refused, gap := 0, false, false
	for seq := send.From; seq <= send.To; seq++ {
		if n.hostile == honest && from.hostile == honest {
			s.copies++
		}
		if !n.brain.Received(s.now, from.id, send.Feed, seq) {
			continue
		}
		switch {
		case seq > head+1:
			gap = true
		case s.otherBranch(n, from, author, seq):
			refused = true
		case seq == head+1:
			head++
			stored++
			if n.hostile == honest {
				s.stored++
				s.arrived(n, author, seq)
			}
		}
	}
	n.heads[send.Feed] = head
	if stored > 0 {
		n.brain.Stored(s.now, send.Feed, head, from.id)
		n.sched.News(s.now, from.id, stored)
		if x, ok := n.exposed[send.Feed]; ok && head >= x.seq {
			delete(n.exposed, send.Feed)
			if d := s.now.Sub(x.from); d > s.stats.exposed {
				s.stats.exposed = d
			}
		}
	}
	if refused {
		n.brain.Refused(s.now, from.id, send.Feed)
		if from.hostile == honest && s.nodes[author].hostile == honest && n.hostile == honest {
			s.banned = append(s.banned, "an honest feed from an honest peer was refused")
		}
	} else if gap {
		n.brain.AskAgain(s.now, from.id, send.Feed)
	}
	s.touch(n)
	s.wake(n)
}

// arrived follows posts on their way.
func (s *sim) arrived(n *node, author int, seq int64) {
	if p := s.posts[post{author, seq}]; p != nil {
		p.got = append(p.got, s.now.Sub(p.at))
	}
}

// publish appends messages to a node's own feed, as soon as it is on.
func (s *sim) publish(n *node, count int64) {
	if !n.on {
		s.after(time.Minute, func() { s.publish(n, count) })
		return
	}
	n.heads[n.id] += count
	n.brain.Stored(s.now, n.id, n.heads[n.id], identity.ID{})
	s.touch(n)
	s.wake(n)
}

// follow publishes one message and follows it on its way.
func (s *sim) follow(n *node) {
	wanters := 0
	for _, m := range s.nodes {
		if m != n && m.hostile == honest && m.wanted[n.id] {
			wanters++
		}
	}
	s.posts[post{n.n, n.heads[n.id] + 1}] = &spread{at: s.now, wanters: wanters}
	s.publish(n, 1)
}

// missing counts the feeds of honest authors that honest nodes want and have not whole, and all that they want.
func (s *sim) missing() (missing, all int) {
	for _, n := range s.nodes {
		if n.hostile != honest {
			continue
		}
		for _, id := range n.wants {
			if author := s.nodes[num(id)]; author.hostile == honest {
				all++
				if n.heads[id] != author.heads[id] {
					missing++
				}
			}
		}
	}
	return missing, all
}

// tables counts what the schedulers and the remembered clocks hold.
func (s *sim) tables() (entries int) {
	for _, n := range s.nodes {
		if n.sched != nil {
			a, k := n.sched.Sizes()
			entries += a + k
		}
		if n.brain != nil {
			entries += n.brain.Size()
		}
		for _, clock := range n.clocks {
			entries += len(clock)
		}
	}
	return entries
}
