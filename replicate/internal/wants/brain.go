package wants

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"charkha/identity"
)

// Options of a Brain. Have is needed.
type Options struct {
	// Have reports whether a blob is held, and its size. It is called often, and must not wait.
	Have func(id identity.BlobID) (size int64, ok bool)
	// Max is the most bytes of a blob that is fetched, MaxStranger of one that only others want: 0 is 5 MiB, and the less of Max
	// and 5 MiB.
	Max, MaxStranger int64
	// Sympathy is the largest distance of a want that is passed on: 0 is 3; below 0, no stranger's want is.
	Sympathy int
	// Pushy is how many peers must have a blob that is pushed: 0 is 3.
	Pushy int
	// Rate bounds the bytes a second that are asked from one peer: 0 is no bound.
	Rate int64
	// StallAfter is how long a piece may bring next to nothing: 0 is 20 s.
	StallAfter time.Duration
}

// The bounds that the package doc tells of.
const (
	maxOwn         = 8192
	maxPushes      = 1024
	maxStrangers   = 4096
	maxPerStranger = 256
	strangerFor    = 24 * time.Hour
	maxAsks        = 4096
	maxAsksAll     = 65536
	maxHaves       = 1024
	maxHavers      = 16
	maxAskers      = 8

	maxJobs      = 64 // of these and the next, peers that never gave anything get half: strangers that stall leave room for others
	maxOuts      = 64
	maxPeerOuts  = 8
	maxPeerBytes = 4 << 20 // and less of slow ones
	maxBytes     = 32 << 20
	// maxCost is what a piece counts for at most: no more of it waits in memory.
	maxCost = 2 << 20
	// maxSaid is how many entries are said in one body: some 55 KB, less than what peers take as one.
	maxSaid = 800
)

const (
	// jsChunk is a length of which no blob or slice that a peer is asked for is a multiple: JS peers (pull-file 1.1,
	// packet-stream-codec 1.2) end the whole connection after they sent such a one, because they send an empty frame at its end,
	// which means goodbye. A blob whose size is such a multiple is fetched in two slices at least.
	jsChunk = 64 << 10
	// How much is asked for at once depends on how fast a peer gives, for what it was asked for may come before its messages: JS
	// peers put all of it into the connection at once. A blob is fetched with one call of blobs.get up to a second's worth, within
	// leastWhole and mostWhole. Pieces of larger ones are a quarter of a second, and half a second is under way, but for what one
	// piece is. Of a peer that has not given much yet, a guess is made.
	leastWhole, mostWhole = 128 << 10, 1 << 20
	leastPiece, mostPiece = 64 << 10, 8 << 20
	leastUnder            = 512 << 10
	guessedRate           = 1 << 20
	rateWindow            = 250 * time.Millisecond
)

const (
	maxFails     = 3
	failedFor    = 5 * time.Second // doubled at each failure
	doubtFor     = 10 * time.Minute
	leastBytes   = 4 << 10 // that a piece must bring in StallAfter
	slowRate     = 10 << 10
	slowAfter    = time.Minute // doubled at each change of peers for that reason
	localPause   = time.Minute
	noRoomPause  = 10 * time.Minute
	keepPartial  = 10 * time.Minute
	reaskedAfter = 30 * time.Second
)

// Brain decides what to say about blobs and what to fetch. It is for one goroutine at a time.
type Brain struct {
	o     Options
	peers map[identity.ID]*peer
	order []*peer // in the order in which they came
	woken []identity.ID

	wants  map[identity.BlobID]*want
	own    int
	wished []wish // own wants in the order in which they were wished, and some that are none any more
	turn   uint64
	ready  []*want // those that somebody has, in the order in which they are to be fetched
	pushes map[identity.BlobID]*push

	lines    []line // what all peers are told
	lineOf   map[identity.BlobID]uint64
	lastLine uint64

	asks      int                     // of all peers
	strangers map[identity.ID][]*want // wants that are counted for an asker
	numOthers int                     // of wants that are not own
	swept     time.Time               // when strangers' wants were last looked through
	outs      map[uint64]*out         // pieces under way
	jobs      map[uint64]*job         // that have not ended
	unproven  int                     // of outs, those whose peers had not given anything
	bytes     int64                   // cost of outs
	lastID    uint64                  // of an out or job
	actions   []Action                // for Next
	forgotten []identity.BlobID       // for Forgotten
	pushed    []Pushed                // for Pushed
}

// line is one thing that all peers are told: that a blob is wanted or pushed. What is said is looked up when it is.
type line struct {
	seq uint64
	id  identity.BlobID
}

// wish is an own want as it was wished; when that was not the last time, it means nothing.
type wish struct {
	w    *want
	turn uint64
}

// want is a blob that is wanted.
type want struct {
	id     identity.BlobID
	own    bool
	waited bool // somebody waits for it
	hops   int  // what is said: 1 for ourselves
	since  time.Time
	turn   uint64 // of equals the higher one comes first
	askers []identity.ID
	asked  time.Time   // when somebody last asked; of strangers' wants
	charge identity.ID // the asker it counts for

	havers    []*have
	dropped   bool // more say to have it than there is room for
	alone     bool // a mixture was wrong: one peer at a time
	notBefore time.Time
	patience  time.Duration // for slow peers
	job       *job
	got       int64 // of the last job
	tooLarge  int64 // a size that somebody said, and that is not taken; 0: none
	last      string
}

// have is that a peer said to have a wanted blob.
type have struct {
	p         *peer
	size      int64
	notBefore time.Time
	fails     int
	dead      bool // it lied
}

// hopeless reports whether the peer failed so often that anybody else is asked before.
func (h *have) hopeless() bool { return h.dead || h.fails >= maxFails }

type push struct {
	has map[identity.ID]struct{}
}

// peer is a connected peer.
type peer struct {
	id     identity.ID
	open   bool // it reads what we say
	hello  bool // it has not been told anything
	cursor uint64
	haves  map[identity.BlobID]int64
	asks   map[identity.BlobID]struct{} // what it asked for and we do not have
	queue  []identity.BlobID            // asks in their order, and some that are none any more
	again  bool                         // look through asks for what we have
	woken  bool

	noSlice bool
	gone    bool // its connection ended while something was under way
	gave    bool
	doubt   time.Time // until then
	outs    int
	bytes   int64
	tokens  int64 // bytes that may be asked for
	counted time.Time
	rate    int64     // bytes a second that it gives; 0: not known
	busyAt  time.Time // when counting for rate began
	busyGot int64     // bytes since
}

// job is the fetching of one blob.
type job struct {
	id         uint64
	w          *want
	size       int64
	cuts       []int64 // piece i is [cuts[i], cuts[i+1])
	state      []pieceState
	firstFree  int // no piece before this one is free
	done       int
	under      int // way
	got        int64
	only       *peer // nil: anybody
	whole      bool
	gave       map[*peer]struct{}
	ending     bool
	committing bool
	idle       time.Time // since when nobody gives; zero: somebody does
}

type pieceState uint8

const (
	free pieceState = iota
	taken
	fetched
)

// out is a piece under way.
type out struct {
	id      uint64
	j       *job
	p       *peer
	piece   int
	from    int64
	to      int64
	got     int64
	began   time.Time
	window  time.Time // when the time for the next few bytes began
	inWin   int64
	stopped bool
	stalled bool

	unproven bool // the peer had not given anything
}

// Act is what the one who asked Next is to do.
type Act int

// The actions.
const (
	// Get fetches bytes [From, To) of a blob from a peer: with blobs.get when Whole, else with blobs.getSlice. It ends in Got.
	// The first Get of a job makes room for Size bytes, and may end with NoRoom.
	Get Act = iota
	// Stop ends a Get whose peer stalls. It still ends in Got.
	Stop
	// Commit checks what a job fetched, all of whose pieces are there, and keeps it. It ends in Committed.
	Commit
	// Drop ends all Gets of a job and throws away what was fetched. It ends in Dropped.
	Drop
)

// Action is something to do. Job and Out are numbers, never used again.
type Action struct {
	Act      Act
	Job      uint64
	Out      uint64 // of Get and Stop
	ID       identity.BlobID
	Peer     identity.ID // of Get and Stop
	Size     int64
	From, To int64
	Whole    bool
	Asker    identity.ID // who first wanted it, when it is not for ourselves
	Own      bool
	Waited   bool // somebody waits for it: it need not be worth as much as what is there
}

// Result is how a Get or a Commit ended.
type Result int

// The results.
const (
	OK      Result = iota
	Failed         // the peer ended early, gave an error, more bytes than asked for, or nothing for too long
	Wrong          // of Commit: the hash is another
	NoSlice        // the peer does not know blobs.getSlice
	Gone           // the connection ended
	Local          // our own disk's fault
	NoRoom         // the store has no room for it
)

// Pushed is a blob that enough peers have.
type Pushed struct {
	ID    identity.BlobID
	Peers int
}

// New makes a brain that wants nothing yet.
func New(o Options) *Brain {
	if o.Max <= 0 {
		o.Max = 5 << 20
	}
	if o.MaxStranger <= 0 {
		o.MaxStranger = min(o.Max, 5<<20)
	}
	if o.Sympathy == 0 {
		o.Sympathy = 3
	}
	if o.Pushy <= 0 {
		o.Pushy = 3
	}
	if o.StallAfter <= 0 {
		o.StallAfter = 20 * time.Second
	}
	return &Brain{o: o, peers: map[identity.ID]*peer{}, wants: map[identity.BlobID]*want{}, pushes: map[identity.BlobID]*push{},
		lineOf: map[identity.BlobID]uint64{}, strangers: map[identity.ID][]*want{}, outs: map[uint64]*out{}, jobs: map[uint64]*job{}}
}

func (b *Brain) wake(p *peer) {
	if p.open && !p.woken {
		p.woken = true
		b.woken = append(b.woken, p.id)
	}
}

// Woken returns the peers for whom Say has something since the last call.
func (b *Brain) Woken() []identity.ID {
	w := b.woken
	b.woken = nil
	for _, id := range w {
		if p := b.peers[id]; p != nil {
			p.woken = false
		}
	}
	return w
}

// Forgotten returns the own wants that were given up for newer ones since the last call.
func (b *Brain) Forgotten() []identity.BlobID {
	f := b.forgotten
	b.forgotten = nil
	return f
}

// Pushed returns the pushed blobs that enough peers have since the last call. They are no longer pushed.
func (b *Brain) Pushed() []Pushed {
	p := b.pushed
	b.pushed = nil
	return p
}

// tell has all peers told of a blob, those who were told before, too.
func (b *Brain) tell(id identity.BlobID) {
	b.lastLine++
	b.lineOf[id] = b.lastLine
	b.lines = append(b.lines, line{b.lastLine, id})
	if len(b.lines) > 2*len(b.lineOf)+64 {
		b.lines = slices.DeleteFunc(b.lines, func(l line) bool { return b.lineOf[l.id] != l.seq })
	}
	for _, p := range b.order {
		b.wake(p)
	}
}

// silence has nobody told of a blob any more, unless there is another reason to.
func (b *Brain) silence(id identity.BlobID) {
	if b.wants[id] == nil && b.pushes[id] == nil {
		delete(b.lineOf, id)
	}
}

// Want says that we want a blob; waited, that somebody waits for it. It reports whether that was taken: when there are too many
// wants that somebody waits for, none is. A blob that is wanted already is wanted anew: it comes before the others.
func (b *Brain) Want(now time.Time, id identity.BlobID, waited bool) bool {
	if _, ok := b.o.Have(id); ok {
		return true
	}
	w := b.wants[id]
	if w == nil || !w.own {
		if b.own >= maxOwn && !b.forgetOldest(now) {
			return false
		}
	}
	if w == nil {
		w = &want{id: id, since: now}
		b.wants[id] = w
	}
	b.unready(w) // its place there changes
	if !w.own {
		b.uncharge(w)
		w.own, w.since, w.tooLarge, w.last = true, now, 0, "" // that was about others
		b.own++
	}
	b.turn++
	w.turn = b.turn
	b.wished = append(b.wished, wish{w, w.turn})
	if len(b.wished) > 2*b.own+64 {
		b.wished = slices.DeleteFunc(b.wished, func(v wish) bool { return !b.counts(v) })
	}
	w.waited = w.waited || waited
	if waited {
		w.notBefore = time.Time{}
	}
	b.makeReady(w)
	if w.hops != 1 {
		w.hops = 1
		b.tell(id)
	}
	b.plan(now)
	return true
}

// Unwait says that nobody waits for a blob any more. It stays wanted.
func (b *Brain) Unwait(id identity.BlobID) {
	if w := b.wants[id]; w != nil && w.waited {
		b.unready(w)
		w.waited = false
		b.makeReady(w)
	}
}

// Forget says that we do not want a blob any more.
func (b *Brain) Forget(now time.Time, id identity.BlobID) {
	if w := b.wants[id]; w != nil && w.own {
		b.remove(now, w)
		b.plan(now)
	}
}

// counts reports whether a wish is of a blob that is wanted, and the last one of it.
func (b *Brain) counts(v wish) bool { return v.w.own && v.w.turn == v.turn && b.wants[v.w.id] == v.w }

// forgetOldest gives up the oldest wish that nobody waits for and that is not being fetched.
func (b *Brain) forgetOldest(now time.Time) bool {
	for i, v := range b.wished {
		if !b.counts(v) || v.w.waited || v.w.job != nil {
			continue
		}
		b.wished = slices.Delete(b.wished, i, i+1)
		b.forgotten = append(b.forgotten, v.w.id)
		b.remove(now, v.w)
		return true
	}
	return false
}

// remove drops a want, and what was fetched of it.
func (b *Brain) remove(now time.Time, w *want) {
	b.unready(w)
	if w.own {
		b.own--
	} else {
		b.uncharge(w)
	}
	delete(b.wants, w.id)
	b.silence(w.id)
	if w.job != nil {
		b.drop(w.job)
	}
}

// uncharge takes a stranger's want off the asker that it counts for.
func (b *Brain) uncharge(w *want) {
	if w.charge.IsZero() {
		return
	}
	left := slices.DeleteFunc(b.strangers[w.charge], func(v *want) bool { return v == w })
	if len(left) == 0 {
		delete(b.strangers, w.charge)
	} else {
		b.strangers[w.charge] = left
	}
	w.charge = identity.ID{}
	b.numOthers--
}

// Push has a blob advertised until enough peers have it; has are those who are known to. It reports whether there was room for
// it.
func (b *Brain) Push(id identity.BlobID, has []identity.ID) bool {
	if b.pushes[id] != nil {
		return true
	}
	if len(b.pushes) >= maxPushes {
		return false
	}
	p := &push{has: map[identity.ID]struct{}{}}
	for _, peer := range has {
		p.has[peer] = struct{}{}
	}
	b.pushes[id] = p
	b.tell(id)
	b.checkPush(id, p)
	return true
}

func (b *Brain) checkPush(id identity.BlobID, p *push) {
	if len(p.has) < b.o.Pushy {
		return
	}
	delete(b.pushes, id)
	b.silence(id)
	b.pushed = append(b.pushed, Pushed{id, len(p.has)})
}

// Unpush has a blob advertised no longer.
func (b *Brain) Unpush(id identity.BlobID) {
	delete(b.pushes, id)
	b.silence(id)
}

// Pushing yields the blobs that are pushed, and who has them, in the order of their ids.
func (b *Brain) Pushing() map[identity.BlobID][]identity.ID {
	all := make(map[identity.BlobID][]identity.ID, len(b.pushes))
	for id, p := range b.pushes {
		has := slices.Collect(maps.Keys(p.has))
		slices.SortFunc(has, compareIDs)
		all[id] = has
	}
	return all
}

func compareIDs(a, b identity.ID) int { return bytes.Compare(a[:], b[:]) }

// Connect begins with a peer.
func (b *Brain) Connect(now time.Time, id identity.ID) {
	if b.peers[id] != nil {
		b.Disconnect(now, id)
	}
	p := &peer{id: id, haves: map[identity.BlobID]int64{}, asks: map[identity.BlobID]struct{}{}, counted: now, tokens: b.o.Rate}
	b.peers[id] = p
	b.order = append(b.order, p)
}

// Disconnect ends with a peer. What is under way from it still ends in Got.
func (b *Brain) Disconnect(now time.Time, id identity.ID) {
	p := b.peers[id]
	if p == nil {
		return
	}
	delete(b.peers, id)
	b.order = slices.DeleteFunc(b.order, func(q *peer) bool { return q == p })
	b.asks -= len(p.asks)
	for _, w := range slices.Clone(b.ready) {
		n := len(w.havers)
		w.havers = slices.DeleteFunc(w.havers, func(h *have) bool { return h.p == p })
		if len(w.havers) == n {
			continue
		}
		if len(w.havers) == 0 {
			b.unready(w)
		}
		if w.job != nil {
			b.settle(now, w.job) // the last piece of it may have ended before the connection
		}
	}
	b.plan(now)
}

// Open says that a peer begins to read what we say.
func (b *Brain) Open(id identity.ID) {
	if p := b.peers[id]; p != nil {
		p.open, p.hello, p.cursor, p.again, p.woken = true, true, 0, true, false
		b.wake(p)
	}
}

// Close says that a peer reads no more.
func (b *Brain) Close(id identity.ID) {
	if p := b.peers[id]; p != nil {
		p.open = false
		for id := range p.haves {
			b.ask(p, id) // what it did not read, it is told when it reads again
		}
		clear(p.haves)
	}
}

// Say returns what a peer is to be told next, in one body; false: nothing. The first body may be empty.
func (b *Brain) Say(id identity.ID) ([]Entry, bool) {
	p := b.peers[id]
	if p == nil || !p.open {
		return nil, false
	}
	var said []Entry
	if p.again {
		b.lookAgain(p)
	}
	for id, size := range p.haves {
		if len(said) == maxSaid {
			break
		}
		if b.lineOf[id] > p.cursor {
			continue // it is pushed, which comes first, in a body of its own: of two numbers for one blob only the last is heard
		}
		said = append(said, Entry{id, size})
		delete(p.haves, id)
	}
	slices.SortFunc(said, func(a, b Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	at, _ := slices.BinarySearchFunc(b.lines, p.cursor+1, func(l line, seq uint64) int {
		switch {
		case l.seq < seq:
			return -1
		case l.seq > seq:
			return 1
		}
		return 0
	})
	for ; at < len(b.lines) && len(said) < maxSaid; at++ {
		l := b.lines[at]
		p.cursor = l.seq
		if b.lineOf[l.id] != l.seq {
			continue // told anew later, or not wanted any more
		}
		if w := b.wants[l.id]; b.pushes[l.id] == nil && w != nil {
			said = append(said, Entry{l.id, -int64(w.hops)})
		} else {
			said = append(said, Entry{l.id, -1})
		}
	}
	hello := p.hello
	p.hello = false
	return said, hello || len(said) > 0
}

// lookAgain answers what was asked for before and is there now.
func (b *Brain) lookAgain(p *peer) {
	p.again = false
	for id := range p.asks {
		size, ok := b.o.Have(id)
		if !ok {
			continue
		}
		if len(p.haves) >= maxHaves {
			p.again = true
			return
		}
		b.unask(p, id)
		p.haves[id] = size
	}
}

// Room is how many entries may be heard from a peer now. 0: it must read some answers first.
func (b *Brain) Room(id identity.ID) int {
	p := b.peers[id]
	if p == nil || !p.open {
		return maxHaves
	}
	return maxHaves - len(p.haves)
}

// Heard takes what a peer says, no more than Room entries of it.
func (b *Brain) Heard(now time.Time, id identity.ID, said []Entry) {
	p := b.peers[id]
	if p == nil {
		return
	}
	for _, e := range said {
		if e.N < 0 {
			b.askedFor(now, p, e.ID, -e.N)
		} else {
			b.toldOf(now, p, e.ID, e.N)
		}
	}
	b.plan(now)
}

func (b *Brain) unask(p *peer, id identity.BlobID) {
	if _, ok := p.asks[id]; ok {
		delete(p.asks, id)
		b.asks--
	}
}

// askedFor takes a peer's want.
func (b *Brain) askedFor(now time.Time, p *peer, id identity.BlobID, distance int64) {
	size, ok := b.o.Have(id)
	if ok && p.open {
		b.unask(p, id)
		p.haves[id] = size
		b.wake(p)
		return
	}
	b.ask(p, id)
	if ok || distance >= int64(b.o.Sympathy) || b.o.MaxStranger <= 0 {
		return
	}
	hops := int(distance) + 1
	w := b.wants[id]
	if w == nil {
		if !b.roomForStranger(now, p) {
			return
		}
		b.turn++
		w = &want{id: id, hops: hops, since: now, turn: b.turn, charge: p.id}
		b.wants[id] = w
		b.strangers[p.id] = append(b.strangers[p.id], w)
		b.numOthers++
		b.tell(id)
	} else if hops < w.hops {
		w.hops = hops
		b.tell(id)
	}
	w.asked = now
	if !slices.Contains(w.askers, p.id) && len(w.askers) < maxAskers {
		w.askers = append(w.askers, p.id)
	}
}

// ask remembers what a peer asked for, to tell it when it is there.
func (b *Brain) ask(p *peer, id identity.BlobID) {
	if _, ok := p.asks[id]; ok {
		return
	}
	if len(p.asks) >= maxAsks {
		b.unaskOldest(p)
	} else if b.asks >= maxAsksAll {
		most := p
		for _, q := range b.order {
			if len(q.asks) > len(most.asks) {
				most = q
			}
		}
		b.unaskOldest(most)
	}
	p.asks[id] = struct{}{}
	p.queue = append(p.queue, id)
	b.asks++
	if len(p.queue) > 2*len(p.asks)+64 {
		p.queue = slices.DeleteFunc(p.queue, func(id identity.BlobID) bool { _, ok := p.asks[id]; return !ok })
	}
}

func (b *Brain) unaskOldest(p *peer) {
	for len(p.queue) > 0 {
		id := p.queue[0]
		p.queue = p.queue[1:]
		if _, ok := p.asks[id]; ok {
			b.unask(p, id)
			return
		}
	}
}

// roomForStranger makes room for one more want of a peer.
func (b *Brain) roomForStranger(now time.Time, p *peer) bool {
	from := b.strangers[p.id]
	if len(from) < maxPerStranger {
		if b.numOthers < maxStrangers {
			return true
		}
		for _, ws := range b.strangers {
			if len(ws) > len(from) || len(ws) == len(from) && len(ws) > 0 && compareIDs(ws[0].charge, from[0].charge) < 0 {
				from = ws
			}
		}
	}
	for _, w := range from {
		if w.job == nil {
			b.remove(now, w)
			return true
		}
	}
	return false // all are being fetched
}

// toldOf takes that a peer has a blob.
func (b *Brain) toldOf(now time.Time, p *peer, id identity.BlobID, size int64) {
	// It stays among those who asked, if it did: who pushes a blob waits to hear that we have it.
	if push := b.pushes[id]; push != nil {
		if ours, ok := b.o.Have(id); ok && ours == size {
			push.has[p.id] = struct{}{}
			b.checkPush(id, push)
		}
	}
	w := b.wants[id]
	if w == nil {
		return
	}
	if size > b.o.Max || !w.own && size > b.o.MaxStranger {
		w.tooLarge, w.last = size, "it is larger than what is taken"
		if size <= b.o.Max {
			w.last = "it is larger than what is fetched for others"
		}
		return
	}
	for _, h := range w.havers {
		if h.p == p {
			if h.size != size { // only a liar says so
				h.dead = true
			}
			return
		}
	}
	h := &have{p: p, size: size}
	if len(w.havers) >= maxHavers {
		w.dropped = true
		worse := slices.IndexFunc(w.havers, (*have).hopeless)
		if worse < 0 && !p.doubt.After(now) {
			worse = slices.IndexFunc(w.havers, func(h *have) bool { return h.p.doubt.After(now) })
		}
		if worse < 0 {
			return
		}
		w.havers[worse] = h
	} else {
		w.havers = append(w.havers, h)
	}
	b.makeReady(w)
}

// Stored says that a blob is held now, wherever it came from. An own want of it, and its fetching, end.
func (b *Brain) Stored(now time.Time, id identity.BlobID, size int64) {
	if w := b.wants[id]; w != nil {
		b.remove(now, w)
	}
	for _, p := range b.order {
		if _, ok := p.asks[id]; !ok {
			continue
		}
		if !p.open || len(p.haves) >= maxHaves {
			p.again = true
			continue
		}
		b.unask(p, id)
		p.haves[id] = size
		b.wake(p)
	}
	b.plan(now)
}

// before reports whether a want is to be fetched before another one.
func (w *want) before(v *want) bool {
	if w.waited != v.waited {
		return w.waited
	}
	if w.own != v.own {
		return w.own
	}
	return w.turn > v.turn
}

// makeReady puts a want among those that may be fetched, if somebody has it.
func (b *Brain) makeReady(w *want) {
	if len(w.havers) == 0 {
		return
	}
	at, found := slices.BinarySearchFunc(b.ready, w, compareWants)
	if !found {
		b.ready = slices.Insert(b.ready, at, w)
	}
}

func (b *Brain) unready(w *want) {
	if at, found := slices.BinarySearchFunc(b.ready, w, compareWants); found {
		b.ready = slices.Delete(b.ready, at, at+1)
	}
}

func compareWants(w, v *want) int {
	switch {
	case w == v:
		return 0
	case w.before(v):
		return -1
	}
	return 1
}
