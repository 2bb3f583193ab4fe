package ebt

import (
	"bytes"
	"encoding/binary"
	"iter"
	"maps"
	"slices"
	"time"

	"charkha/identity"
)

// Options of a Brain. Self is needed.
type Options struct {
	Self identity.ID
	// Blocks reports whether an author blocks a peer. nil: nobody blocks anybody. After a change, call Recheck.
	Blocks func(author, peer identity.ID) bool
	// StallAfter is how long a peer may owe messages without sending any: 0 is 10 s.
	StallAfter time.Duration
	// LazyEvery is how often a peer is told about progress that it does not wait for: 0 is 200 ms.
	LazyEvery time.Duration
	// ThankAfter is for how long nothing new must come from a peer before it is told what became of what it sent: 0 is 1 s.
	ThankAfter time.Duration
	// MaxRange is the most messages of one Send, so that long feeds do not hold up others: 0 is 1000.
	MaxRange int64
}

// Brain decides what to say and send to each peer. It is for one goroutine at a time.
type Brain struct {
	o     Options
	feeds map[identity.ID]*feed
	list  []*feed // all feeds, in the order in which they came: each peer's table has it
	peers map[identity.ID]*peer
	order []*peer       // all of them, in the order in which they came: the same events give the same actions
	woken []identity.ID // peers for whom there is something new
	// Feeds of which somebody has more than the source, or may have. It may get it in a moment: Tick looks whether it did.
	behind map[*feed]struct{}
	// Feeds whose source was asked or said that it has more, until Tick finds that it has not.
	waiting map[*feed]struct{}
	// Who was asked beside the source because one before it let us wait, until any of them sends something.
	racing map[*feed][]*peer
	// When peers last let us wait for what they claimed to have, this connection or before: who lies about one feed lies about
	// others, and comes back.
	doubted map[identity.ID]time.Time
}

// feed is a feed that is or was wanted.
type feed struct {
	id     identity.ID
	n      int // its place in Brain.list
	want   bool
	head   int64     // maxSequence at most
	source *peer     // who was asked for what follows; nil: nobody
	since  time.Time // when the source was asked, or last sent something of it
}

// peer is a connected peer.
type peer struct {
	id       identity.ID
	started  bool      // our first notes are made
	table    []state   // by feed.n; shorter than Brain.list, or nil, when the rest of it is zero
	notes    Notes     // to say now; nil: nothing
	lazy     []*feed   // heads to say when it is time; those in whose state isLazy is
	lazyAt   time.Time // when they were last said
	thanks   []*feed   // that it sent messages of, and may be told that we have them; those in whose state isThanks is
	thankAt  time.Time // at the latest
	remind   []*feed   // that it may have lost messages of, since remindAt; those in whose state isRemind is
	remindAt time.Time
	queue    []*feed   // with messages to send
	lastNews time.Time // when it last sent something that was stored, or was asked for the first thing
	woken    bool
	gave     bool // something that was stored
	spoke    bool // it said or sent anything
	failed   map[*feed]failure
	dropped  map[*feed]state       // ended by a None that is in notes still: the peer has not heard of it
	owed     map[*feed]struct{}    // stalled and not told by Owed yet; nil: none
	declined map[identity.ID]int32 // from where on it asked for feeds that are not exchanged with it, maxDeclined of them
}

// state is how a feed stands between us and a peer. It is small because there is one of each wanted feed for each peer: a node
// that wants ten thousand feeds and has a hundred peers keeps a million.
type state struct {
	has  int32 // how far the peer has the feed, None when it does not replicate it; meant when isKnown is set
	sent int32 // it has this, or it is on its way there
	told int32 // the head that we last told
	is   flags
}

type flags uint8

const (
	isKnown  flags = 1 << iota // the peer said how far it has the feed, now or on an earlier connection: an entry of its Clock
	isOpen                     // the feed was spoken of on this connection: sent, told, isTx and isRx mean something
	isTx                       // it asked us to send
	isRx                       // we asked it to send
	isQueued                   // it is in peer.queue
	isLazy                     // it is in peer.lazy
	isThanks                   // it is in peer.thanks
	isRemind                   // it is in peer.remind
)

func (x *state) set(f flags, on bool) {
	if x.is &^= f; on {
		x.is |= f
	}
}

// small makes a sequence fit a state.
func small(seq int64) int32 { return int32(max(None, min(seq, maxSequence))) }

// at is a peer's entry for a feed, for changing. It is good until a new feed comes.
func (b *Brain) at(p *peer, f *feed) *state {
	if f.n >= len(p.table) {
		p.table = slices.Grow(p.table, len(b.list)-len(p.table))[:len(b.list)]
	}
	return &p.table[f.n]
}

// of is a peer's entry for a feed, for reading.
func (p *peer) of(f *feed) state {
	if f.n < len(p.table) {
		return p.table[f.n]
	}
	return state{}
}

// has is how far a peer has a feed, as far as we know: 0 when we do not.
func (p *peer) has(f *feed) int64 { return int64(p.of(f).has) }

// knows notes how far a peer has a feed.
func (x *state) knows(seq int64) {
	x.has = small(seq)
	x.is |= isKnown
}

func (p *peer) fail(f *feed, how failure) {
	if p.failed == nil {
		p.failed = map[*feed]failure{}
	}
	p.failed[f] = how
}

// failure is that a peer did not give what it claimed to have of a feed.
type failure struct {
	at      time.Time
	refused bool // it gave something that the log refuses: it is not asked again on this connection
}

// Send asks the session to send a feed's messages From..To to the peer.
type Send struct {
	Feed     identity.ID
	From, To int64
}

// New makes a brain that wants nothing yet.
func New(o Options) *Brain {
	if o.Blocks == nil {
		o.Blocks = func(_, _ identity.ID) bool { return false }
	}
	if o.StallAfter == 0 {
		o.StallAfter = 10 * time.Second
	}
	if o.LazyEvery == 0 {
		o.LazyEvery = 200 * time.Millisecond
	}
	if o.ThankAfter == 0 {
		o.ThankAfter = time.Second
	}
	if o.MaxRange == 0 {
		o.MaxRange = 1000
	}
	return &Brain{o: o, feeds: map[identity.ID]*feed{}, peers: map[identity.ID]*peer{},
		behind: map[*feed]struct{}{}, waiting: map[*feed]struct{}{}, racing: map[*feed][]*peer{}, doubted: map[identity.ID]time.Time{}}
}

// Woken returns the peers for whom Next has something new since the last call.
func (b *Brain) Woken() []identity.ID {
	w := b.woken
	b.woken = b.woken[len(b.woken):]
	slices.SortFunc(w, func(a, b identity.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range w {
		if p := b.peers[id]; p != nil {
			p.woken = false
		}
	}
	return w
}

func (b *Brain) wake(p *peer) {
	if !p.woken {
		p.woken = true
		b.woken = append(b.woken, p.id)
	}
}

// say puts a note for the peer.
func (b *Brain) say(p *peer, f *feed, receive bool) {
	x := b.at(p, f)
	x.set(isRx, receive)
	x.told = small(f.head)
	p.put(f.id, MakeNote(f.head, receive))
	b.wake(p)
}

func (p *peer) put(id identity.ID, n Note) {
	if p.notes == nil {
		p.notes = Notes{}
	}
	p.notes[id] = n
}

// ask makes the peer the source of a feed.
func (b *Brain) ask(now time.Time, p *peer, f *feed) {
	if f.source != nil && f.source != p {
		b.stop(f.source, f)
	}
	if now.Sub(p.lastNews) >= b.o.StallAfter {
		p.lastNews = now // it was not asked for anything: its time begins now
	}
	f.source, f.since = p, now
	b.waiting[f] = struct{}{}
	b.exchange(p, f)
	b.say(p, f, true)
}

// stop tells a peer that was asked for a feed not to send it.
func (b *Brain) stop(p *peer, f *feed) {
	if b.peers[p.id] == p && p.of(f).is&isRx != 0 {
		b.say(p, f, false)
	}
}

// exchange returns how a feed stands with a peer, which speaks of it from now on at least.
func (b *Brain) exchange(p *peer, f *feed) *state {
	x := b.at(p, f)
	if x.is&isOpen == 0 {
		x.is |= isOpen
		x.sent = x.has
		if d, ok := p.dropped[f]; ok {
			x.set(isTx, d.is&isTx != 0) // for the peer it has never ended
			x.sent = d.sent
			delete(p.dropped, f)
			b.enqueue(p, f, x)
		}
	}
	return x
}

func (b *Brain) shared(f *feed, p *peer) bool { return f.want && !b.o.Blocks(f.id, p.id) }

// Connect begins to exchange with a peer. remembered is what Clock returned when it was last connected. dialled says that
// the connection is ours: then the peer's notes come first.
func (b *Brain) Connect(now time.Time, id identity.ID, remembered Clock, dialled bool) {
	p := &peer{id: id, lastNews: now}
	for feed, seq := range remembered {
		if f := b.feeds[feed]; f != nil && b.shared(f, p) {
			b.at(p, f).knows(seq)
		}
	}
	if old := b.peers[id]; old != nil {
		b.order = slices.DeleteFunc(b.order, func(q *peer) bool { return q == old })
	}
	b.peers[id] = p
	b.order = append(b.order, p)
	if !dialled {
		b.start(now, p)
	}
}

// start makes the first notes: of feeds where the peer was elsewhere than we are, and of feeds that we know nothing of.
func (b *Brain) start(now time.Time, p *peer) {
	p.started = true
	p.notes = Notes{} // the first are said even when they are empty
	b.wake(p)
	for _, f := range b.list {
		b.begin(now, p, f)
	}
}

// begin makes a peer's first note of a feed.
func (b *Brain) begin(now time.Time, p *peer, f *feed) {
	if !b.shared(f, p) {
		return
	}
	at, asked := p.declined[f.id]
	if seq := p.has(f); !asked && (seq == None || seq == f.head && f.head > 0) {
		return
	}
	x := b.exchange(p, f)
	if asked {
		delete(p.declined, f.id)
		x.knows(int64(at))
		x.sent = at
		x.set(isTx, true)
	}
	if f.source == nil && !p.failed[f].refused {
		b.ask(now, p, f)
	} else {
		b.say(p, f, false)
	}
	b.enqueue(p, f, x)
}

// Disconnect ends the exchange with a peer and returns what is to be remembered of it.
func (b *Brain) Disconnect(now time.Time, id identity.ID) Clock {
	p := b.peers[id]
	if p == nil {
		return nil
	}
	delete(b.peers, id)
	b.order = slices.DeleteFunc(b.order, func(q *peer) bool { return q == p })
	for _, f := range b.list[:len(p.table)] {
		if f.source == p {
			f.source = nil
			b.another(now, f)
		}
	}
	return b.clock(p)
}

// Connected reports whether the brain exchanges with a peer.
func (b *Brain) Connected(id identity.ID) bool { return b.peers[id] != nil }

// better reports whether p is to be asked for a feed rather than another peer: who did not let us wait lately, with any feed;
// who did not with this one, or longest ago; who has given anything; who has more.
func (b *Brain) better(now time.Time, f *feed, p, than *peer) bool {
	if d := b.doubts(now, p); d != b.doubts(now, than) {
		return !d
	}
	if a, c := p.failed[f].at, than.failed[f].at; !a.Equal(c) {
		return a.Before(c) // zero: never failed
	}
	if p.gave != than.gave {
		return p.gave
	}
	return p.has(f) > than.has(f)
}

const (
	doubtFor   = 60   // times StallAfter
	maxDoubted = 1024 // peers; beyond, no more are doubted until some are not
)

func (b *Brain) doubts(now time.Time, p *peer) bool {
	at, ok := b.doubted[p.id]
	return ok && now.Sub(at) < doubtFor*b.o.StallAfter
}

// doubt notes that a peer let us wait.
func (b *Brain) doubt(now time.Time, p *peer) {
	if _, ok := b.doubted[p.id]; !ok && len(b.doubted) >= maxDoubted {
		maps.DeleteFunc(b.doubted, func(_ identity.ID, at time.Time) bool { return now.Sub(at) >= doubtFor*b.o.StallAfter })
		if len(b.doubted) >= maxDoubted {
			return
		}
	}
	b.doubted[p.id] = now
}

// from yields the peers, beginning with another one for each feed, so that not all feeds are asked from the same.
func (b *Brain) from(f *feed) iter.Seq[*peer] {
	return func(yield func(*peer) bool) {
		if len(b.order) == 0 {
			return
		}
		first := int(binary.LittleEndian.Uint16(f.id[:])) % len(b.order)
		for i := range b.order {
			if !yield(b.order[(first+i)%len(b.order)]) {
				return
			}
		}
	}
}

// another finds a new source for a feed among those that have more of it than we.
func (b *Brain) another(now time.Time, f *feed) {
	var best *peer
	for p := range b.from(f) {
		if !p.started || p.has(f) <= f.head || p.failed[f].refused || !b.shared(f, p) {
			continue
		}
		if best == nil || b.better(now, f, p, best) {
			best = p
		}
	}
	if best != nil && best != f.source {
		b.ask(now, best, f)
	}
}

// Clock returns what a connected peer is known to have.
func (b *Brain) Clock(id identity.ID) Clock {
	if p := b.peers[id]; p != nil {
		return b.clock(p)
	}
	return nil
}

func (b *Brain) clock(p *peer) Clock {
	clock := make(Clock, len(p.table))
	for i, x := range p.table {
		if x.is&isKnown != 0 {
			clock[b.list[i].id] = int64(x.has)
		}
	}
	return clock
}

// maxAnswers is with how many notes waiting for a peer it gets no answers about feeds that are not wanted.
const maxAnswers = 1 << 15

// Notes takes what a peer says.
func (b *Brain) Notes(now time.Time, id identity.ID, notes Notes) {
	p := b.peers[id]
	if p == nil {
		return
	}
	p.spoke = true
	if !p.started {
		b.start(now, p)
	}
	type said struct {
		f    *feed
		note Note
	}
	all := make([]said, 0, len(notes))
	for feed, note := range notes {
		f := b.feeds[feed]
		if f != nil && b.shared(f, p) {
			all = append(all, said{f, note})
			continue
		}
		// Nothing is kept, only answered; a peer that says None itself needs no answer. One that does not take the answers
		// gets no more of them; it asks again when it comes back.
		if note.Replicate() && len(p.notes) < maxAnswers {
			p.put(feed, None)
			b.wake(p)
		}
		p.decline(feed, note)
		if f == nil {
			continue
		}
		if f.n < len(p.table) {
			p.table[f.n].forget()
		}
		if d, ok := p.dropped[f]; ok {
			d.set(isTx, note.Receive() && note.Replicate())
			d.sent = small(note.Sequence())
			p.dropped[f] = d
		}
	}
	slices.SortFunc(all, func(a, b said) int { return a.f.n - b.f.n }) // the same events give the same actions
	for _, s := range all {
		b.note(now, p, s.f, s.note)
	}
}

// maxDeclined is of how many feeds it is remembered that a peer asked for them and was told that they are not wanted.
const maxDeclined = 1024

// decline remembers that a peer asks for a feed that is not exchanged with it, should it be soon: epidemic-broadcast-trees 7 and 9 take
// what they asked for as asked for, whatever they are told since, and do not ask again.
func (p *peer) decline(feed identity.ID, note Note) {
	switch _, ok := p.declined[feed]; {
	case !note.Replicate() || !note.Receive():
		delete(p.declined, feed)
		return
	case !ok && len(p.declined) >= maxDeclined:
		return
	}
	if p.declined == nil {
		p.declined = map[identity.ID]int32{}
	}
	p.declined[feed] = small(note.Sequence())
}

// forget drops how far a peer has a feed.
func (x *state) forget() {
	x.has = 0
	x.is &^= isKnown
}

func (b *Brain) note(now time.Time, p *peer, f *feed, note Note) {
	seq := note.Sequence()
	x := b.at(p, f)
	if x.is&isOpen != 0 && seq != None && int64(x.sent) > seq && !note.Receive() && x.is&isRemind == 0 {
		if len(p.remind) == 0 {
			p.remindAt = now
		}
		x.is |= isRemind
		p.remind = append(p.remind, f)
	}
	first := x.has == None // what it was told while it said None it has not kept
	if f.source == p && int64(x.has) > f.head && seq <= f.head {
		b.behind[f] = struct{}{} // it takes back what it was asked for, which others may have
	}
	x.knows(seq)
	if x.is&isOpen == 0 {
		b.exchange(p, f)
		x.told, first = None, true
	}
	x.set(isTx, note.Receive() && note.Replicate())
	x.sent = x.has
	if !note.Replicate() {
		x.is &^= isRx
		x.told = small(f.head)
		if f.source == p {
			f.source = nil
			b.another(now, f)
		}
		return
	}
	switch {
	case seq > f.head && f.source == p:
		b.waiting[f] = struct{}{}
		if x.is&isRx == 0 || first {
			b.say(p, f, true)
		}
	case seq > f.head && b.mayAsk(now, p, f):
		b.ask(now, p, f)
	case first || f.head > seq && x.is&isTx == 0 && int64(x.told) != f.head:
		// Say where we are: the peer speaks of it for the first time, or may want what we have.
		b.say(p, f, x.is&isRx != 0)
	}
	if f.head > seq && x.is&isTx != 0 {
		b.enqueue(p, f, x)
	}
}

// retryAfter is for how many times StallAfter a peer that failed with a feed is passed over.
const retryAfter = 6

// mayAsk reports whether a peer that has more of a feed should become its source now.
func (b *Brain) mayAsk(now time.Time, p *peer, f *feed) bool {
	fail, failed := p.failed[f]
	if fail.refused {
		return false
	}
	if f.source == nil {
		return true
	}
	if failed && now.Sub(fail.at) < retryAfter*b.o.StallAfter {
		return false
	}
	return f.source.has(f) <= f.head || b.doubts(now, f.source) && !b.doubts(now, p)
}

func (b *Brain) enqueue(p *peer, f *feed, x *state) {
	if x.is&(isTx|isQueued) == isTx && int64(x.sent) < f.head {
		x.is |= isQueued
		p.queue = append(p.queue, f)
		b.wake(p)
	}
}

// Received notes that a peer sent messages of a feed up to seq, whatever becomes of them, and reports whether they are to be
// looked at: the feed is exchanged with the peer, and nothing that it sent of it was refused.
func (b *Brain) Received(now time.Time, id, feed identity.ID, seq int64) bool {
	p, f := b.peers[id], b.feeds[feed]
	if p == nil {
		return false
	}
	p.spoke = true
	if f == nil || !b.shared(f, p) || p.failed[f].refused {
		return false
	}
	x := b.exchange(p, f)
	x.knows(max(int64(x.has), seq))
	x.sent = max(x.sent, small(seq))
	if f.source == p {
		b.waiting[f] = struct{}{}
	}
	return true
}

// Stored notes a feed's new head in the log. from is the peer that sent it, the zero ID when nobody did.
func (b *Brain) Stored(now time.Time, id identity.ID, head int64, from identity.ID) {
	f := b.feed(id)
	if head = min(head, maxSequence); head <= f.head {
		return
	}
	f.head = head
	if p := b.peers[from]; p != nil {
		p.lastNews, p.gave = now, true
		if x := b.at(p, f); f.want && x.is&(isOpen|isThanks) == isOpen {
			if len(p.thanks) == 0 {
				p.thankAt = now.Add(thankMost * b.o.ThankAfter)
				b.wake(p)
			}
			x.is |= isThanks
			p.thanks = append(p.thanks, f)
		}
		b.won(p, f)
		if f.source == p {
			f.since = now
		}
		if !p.failed[f].refused {
			delete(p.failed, f)
		}
	}
	if !f.want {
		return
	}
	for _, p := range b.order {
		if has := p.has(f); !p.started || has >= head || !b.shared(f, p) {
			if has > head && f.source != p {
				b.behind[f] = struct{}{}
			}
			continue
		}
		x := b.at(p, f)
		// A peer that does not want the feed hears once that we have any of it: epidemic-broadcast-trees 7 (ssb-server 16), told
		// 0 before, would not ask when it begins to want the feed, as it has 0 too.
		if x.has == None && (x.is&isOpen == 0 || x.told != 0) {
			continue
		}
		if x.is&isTx != 0 {
			b.enqueue(p, f, x)
			continue
		}
		if len(p.lazy) == 0 {
			b.wake(p)
		}
		if x.is&isLazy == 0 {
			x.is |= isLazy
			p.lazy = append(p.lazy, f)
		}
	}
}

// Refused notes that the log did not take what a peer sent of a feed: the peer is not asked for it again on this connection.
func (b *Brain) Refused(now time.Time, id, feed identity.ID) {
	p, f := b.peers[id], b.feeds[feed]
	if p == nil || f == nil {
		return
	}
	p.fail(f, failure{at: now, refused: true})
	b.stop(p, f)
	if f.source == p {
		f.source = nil
		b.another(now, f)
	}
}

// AskAgain tells a peer anew where we are in a feed, after something was lost in between.
func (b *Brain) AskAgain(now time.Time, id, feed identity.ID) {
	if p, f := b.peers[id], b.feeds[feed]; p != nil && f != nil && f.source == p {
		b.say(p, f, true)
	}
}

// feed returns what is kept of a feed, from now on at least.
func (b *Brain) feed(id identity.ID) *feed {
	f := b.feeds[id]
	if f == nil {
		f = &feed{id: id, n: len(b.list)}
		b.feeds[id] = f
		b.list = append(b.list, f)
	}
	return f
}

// Want says that a feed is wanted or no longer.
func (b *Brain) Want(now time.Time, id identity.ID, want bool) {
	if b.feeds[id] == nil && !want {
		return
	}
	f := b.feed(id)
	if f.want == want {
		return
	}
	f.want = want
	f.source = nil
	delete(b.racing, f)
	for p := range b.from(f) {
		if !want {
			b.drop(p, f)
		} else if p.started {
			b.begin(now, p, f)
		}
	}
}

// drop ends the exchange of a feed with a peer.
func (b *Brain) drop(p *peer, f *feed) {
	x := b.at(p, f)
	if x.is&isOpen == 0 {
		return
	}
	if p.dropped == nil {
		p.dropped = map[*feed]state{}
	}
	p.dropped[f] = *x
	if !p.failed[f].refused {
		delete(p.failed, f)
	}
	// Nothing is remembered of what is not exchanged: should it be wanted again, it has to be spoken of again, for the peer
	// takes our None for lasting.
	*x = state{is: x.is & isQueued} // Next takes it out of the queue
	if f.source == p {
		f.source = nil
	}
	p.put(f.id, None)
	b.wake(p)
}

// Recheck looks at Blocks anew.
func (b *Brain) Recheck(now time.Time) {
	for _, p := range b.order {
		for _, f := range b.list {
			switch open := p.of(f).is&isOpen != 0; {
			case open && !b.shared(f, p):
				b.drop(p, f)
				b.another(now, f)
			case !open && p.started:
				b.begin(now, p, f)
			}
		}
	}
}

// Tick lets time pass: sources that stall are left for others. Call it every StallAfter/4 or so.
func (b *Brain) Tick(now time.Time) {
	for f := range b.behind {
		if f.source == nil || f.source.has(f) <= f.head {
			b.another(now, f)
		}
	}
	clear(b.behind)
	for _, p := range b.order {
		if len(p.lazy) > 0 {
			b.wake(p)
		}
		b.reminders(now, p)
	}
	// First all that stalls is found, then others are asked: whom depends on who lets us wait.
	var stalled, slow []*feed
	for f := range b.waiting {
		p := f.source
		if p == nil || p.has(f) <= f.head {
			delete(b.waiting, f)
			continue
		}
		if now.Sub(f.since) < b.o.StallAfter {
			continue
		}
		// One feed after the other is sent: as long as any comes, all may come. But not for ever, and not if somebody else has it.
		if now.Sub(p.lastNews) >= b.o.StallAfter || now.Sub(f.since) >= retryAfter*b.o.StallAfter {
			stalled = append(stalled, f)
		} else if !p.passed(now, f, b.o.StallAfter) {
			slow = append(slow, f)
		}
	}
	byID := func(a, b *feed) int { return bytes.Compare(a.id[:], b.id[:]) }
	slices.SortFunc(stalled, byID)
	slices.SortFunc(slow, byID)
	for _, f := range stalled {
		b.late(now, f.source, f)
		f.since = now
		for _, p := range b.racing[f] {
			if p == f.source || b.peers[p.id] != p || p.of(f).is&isRx == 0 {
				continue
			}
			if p.has(f) > f.head && now.Sub(p.lastNews) >= b.o.StallAfter {
				b.late(now, p, f)
			}
			b.stop(p, f)
		}
		delete(b.racing, f)
	}
	for _, f := range stalled {
		b.another(now, f)
		b.race(now, f)
	}
	moved := 0
	for _, f := range slow {
		if moved < maxMoved && b.pass(now, f) {
			moved++
		}
	}
}

// late notes that a peer owes messages of a feed and let us wait.
func (b *Brain) late(now time.Time, p *peer, f *feed) {
	_, again := p.failed[f]
	p.fail(f, failure{at: now})
	if !again && p == f.source {
		b.say(p, f, true) // in case that it takes our request for withdrawn
	}
	if p.owed == nil {
		p.owed = map[*feed]struct{}{}
	}
	p.owed[f] = struct{}{}
	b.doubt(now, p)
	b.wake(p)
}

// maxRacing is how many peers are asked for a feed beside its source, after one let us wait. What they send of it at the same time
// comes more than once: with four, a fifth more messages do in a network with as many liars as package sim's, with two a tenth.
const maxRacing = 2

// race asks some peers for a feed beside its new source, if nothing speaks against them: one liar after the other could hold the
// feed back, each for StallAfter.
func (b *Brain) race(now time.Time, f *feed) {
	var others []*peer
	for p := range b.from(f) {
		if p != f.source && p.started && p.has(f) > f.head && !p.failed[f].refused && !p.passed(now, f, b.o.StallAfter) &&
			b.shared(f, p) && !b.doubts(now, p) {
			others = append(others, p)
		}
	}
	slices.SortStableFunc(others, func(p, q *peer) int {
		switch {
		case b.better(now, f, p, q):
			return -1
		case b.better(now, f, q, p):
			return 1
		}
		return 0
	})
	others = others[:min(len(others), maxRacing)]
	for _, p := range others {
		if now.Sub(p.lastNews) >= b.o.StallAfter {
			p.lastNews = now // as in ask
		}
		b.exchange(p, f)
		b.say(p, f, true)
	}
	if len(others) > 0 {
		b.racing[f] = others
	}
}

// won makes the peer that sent something of a feed its source, if it was asked in a race, and ends the race.
func (b *Brain) won(p *peer, f *feed) {
	others, ok := b.racing[f]
	if !ok || p != f.source && (!slices.Contains(others, p) || p.of(f).is&isRx == 0) {
		return
	}
	delete(b.racing, f)
	if f.source != nil {
		others = append(others, f.source)
	}
	for _, q := range others {
		if q != p {
			b.stop(q, f)
		}
	}
	f.source = p
	b.waiting[f] = struct{}{}
}

// maxMoved is how many feeds are asked of somebody else in a Tick whose source is only busy: with many feeds to fetch, each
// source has a long list.
const maxMoved = 100

// passed reports whether a peer was passed over for a feed of late.
func (p *peer) passed(now time.Time, f *feed, stall time.Duration) bool {
	fail, ok := p.failed[f]
	return ok && now.Sub(fail.at) < retryAfter*stall
}

// pass asks somebody else for a feed whose source sends other things, if there is anybody whom nothing speaks against. It
// reports whether there was.
func (b *Brain) pass(now time.Time, f *feed) bool {
	old := f.source
	for p := range b.from(f) {
		if p == old || !p.started || p.has(f) <= f.head || p.passed(now, f, b.o.StallAfter) || p.failed[f].refused ||
			!b.shared(f, p) || b.doubts(now, p) {
			continue
		}
		old.fail(f, failure{at: now})
		b.ask(now, p, f)
		return true
	}
	return false
}

// Owed returns the feeds that a peer claims to have more of and does not send, once each time that one stalls.
func (b *Brain) Owed(id identity.ID) (owed []identity.ID) {
	if p := b.peers[id]; p != nil {
		for f := range p.owed {
			owed = append(owed, f.id)
		}
		p.owed = nil
	}
	return owed
}

// Next returns what to tell a peer and what to send to it now: notes go first, and either may be empty. What was returned is
// taken as done. later is when there will be more even without an event, zero for never.
func (b *Brain) Next(now time.Time, id identity.ID) (notes Notes, send Send, later time.Time) {
	p := b.peers[id]
	if p == nil {
		return nil, Send{}, time.Time{}
	}
	if len(p.lazy) > 0 {
		if due := p.lazyAt.Add(b.o.LazyEvery); now.Before(due) {
			later = due
		} else {
			p.lazyAt = now
			lazy := p.lazy
			p.lazy = nil
			for _, f := range lazy {
				x := b.at(p, f)
				if x.is&isLazy == 0 {
					continue // dropped meanwhile
				}
				x.is &^= isLazy
				b.exchange(p, f)
				if f.head > int64(x.has) && int64(x.told) != f.head {
					b.say(p, f, x.is&isRx != 0)
				}
			}
		}
	}
	if len(p.thanks) > 0 {
		due := p.lastNews.Add(b.o.ThankAfter)
		if p.thankAt.Before(due) {
			due = p.thankAt
		}
		if now.Before(due) {
			if later.IsZero() || due.Before(later) {
				later = due
			}
		} else {
			b.thank(p)
		}
	}
	notes, p.notes, p.dropped = p.notes, nil, nil
	for len(p.queue) > 0 {
		f := p.queue[0]
		p.queue = p.queue[1:]
		x := b.at(p, f)
		x.is &^= isQueued
		if x.is&isTx == 0 || int64(x.sent) >= f.head || !b.shared(f, p) {
			continue
		}
		send = Send{Feed: f.id, From: int64(x.sent) + 1, To: min(f.head, int64(x.sent)+b.o.MaxRange)}
		x.sent = small(send.To)
		b.enqueue(p, f, x)
		break
	}
	return notes, send, later
}

// thankMost is after how many times ThankAfter a peer is told even though more comes from it.
const thankMost = 5

// thank tells a peer that we have what it sent, of feeds of which nothing more is on its way: a note while messages follow
// would have it send them again.
func (b *Brain) thank(p *peer) {
	for _, f := range p.thanks {
		x := b.at(p, f)
		if x.is&isThanks != 0 && f.head == int64(x.has) && int64(x.told) != f.head {
			b.say(p, f, x.is&isRx != 0)
		}
		x.is &^= isThanks
	}
	p.thanks = nil
}

// reminders tells a peer once more what we have of feeds that it may have lost messages of: it has said since that it has less
// than we sent it, and not to send more. Two who send it the same messages at once lose some of them for it, if it runs ssb-db2 8
// (throttle-batch.js, where one duplicate spoils all of a feed that came with it), and tell it nothing new ever after
// (epidemic-broadcast-trees 9, events.js, asks nobody who was told to stop, unless he speaks of the feed again).
func (b *Brain) reminders(now time.Time, p *peer) {
	if len(p.remind) == 0 || now.Sub(p.remindAt) < b.o.StallAfter {
		return
	}
	for _, f := range p.remind {
		x := b.at(p, f)
		if x.is&(isOpen|isRemind|isTx) == isOpen|isRemind && x.has != None && int64(x.has) < f.head && int64(x.told) == f.head {
			b.say(p, f, x.is&isRx != 0)
		}
		x.is &^= isRemind
	}
	p.remind = nil
}

// Holds notes that a peer was seen to have a feed up to a sequence that we sent it.
func (b *Brain) Holds(id, feed identity.ID, seq int64) {
	p, f := b.peers[id], b.feeds[feed]
	if p == nil || f == nil || !b.shared(f, p) {
		return
	}
	if x := b.at(p, f); x.is&isOpen != 0 && int64(x.sent) >= seq && int64(x.has) < seq && x.has != None {
		x.knows(seq)
	}
}

// Unsent takes back a part of what Next gave to send: the messages of a feed from a sequence on did not go to the peer. They
// go when the feed has news or the peer asks again.
func (b *Brain) Unsent(id, feedID identity.ID, from int64) {
	if p, f := b.peers[id], b.feeds[feedID]; p != nil && f != nil {
		if x := b.at(p, f); x.is&isOpen != 0 {
			x.sent = min(x.sent, small(from-1))
			if x.is&isQueued != 0 {
				x.is &^= isQueued
				p.queue = slices.DeleteFunc(p.queue, func(q *feed) bool { return q == f })
			}
		}
	}
}

// Claimed is the highest sequence that a connected peer says it has of a feed, and how many say that they have any.
func (b *Brain) Claimed(feed identity.ID) (seq int64, peers int) {
	f := b.feeds[feed]
	if f == nil {
		return 0, 0
	}
	for _, p := range b.order {
		if s := p.has(f); s > 0 {
			seq = max(seq, s)
			peers++
		}
	}
	return seq, peers
}

// Head is the head that the brain knows of a feed.
func (b *Brain) Head(feed identity.ID) int64 {
	if f := b.feeds[feed]; f != nil {
		return f.head
	}
	return 0
}

// Size is how many entries the brain's tables have, for tests of whether they grow.
func (b *Brain) Size() int {
	n := len(b.feeds) + len(b.list) + len(b.peers) + len(b.order) + len(b.woken) + len(b.behind) + len(b.waiting) + len(b.doubted)
	for _, p := range b.order {
		n += len(p.table) + len(p.notes) + len(p.lazy) + len(p.thanks) + len(p.remind) + len(p.queue) + len(p.failed) + len(p.dropped) + len(p.owed) + len(p.declined)
	}
	return n
}
