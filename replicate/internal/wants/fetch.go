package wants

import (
	"slices"
	"time"

	"charkha/identity"
)

// Next returns what is to be done now, and when to ask again at the latest; zero: after the next event.
func (b *Brain) Next(now time.Time) (actions []Action, again time.Time) {
	b.sweep(now)
	b.watch(now)
	b.plan(now)
	actions, b.actions = b.actions, nil
	soon := func(t time.Time) {
		if !t.IsZero() && (again.IsZero() || t.Before(again)) {
			again = t
		}
	}
	for _, o := range b.outs {
		if !o.stopped {
			soon(o.window.Add(b.o.StallAfter))
		}
	}
	for _, w := range b.ready {
		switch j := w.job; {
		case j == nil && w.notBefore.After(now):
			soon(w.notBefore)
		case j == nil || !j.ending && !j.committing && j.done+j.under < len(j.state):
			for _, h := range w.havers {
				if h.dead {
					continue
				}
				if h.notBefore.After(now) {
					soon(h.notBefore)
				} else if t, ok := b.affords(now, h.p); !ok {
					soon(t)
				}
			}
		}
		if j := w.job; j != nil && !j.idle.IsZero() && !j.ending {
			soon(j.idle.Add(keepPartial))
		}
	}
	for _, j := range b.jobs {
		if !j.idle.IsZero() && !j.ending {
			soon(j.idle.Add(keepPartial))
		}
	}
	if len(b.strangers) > 0 {
		soon(b.swept.Add(strangerFor / 24))
	}
	return actions, again
}

// sweep forgets strangers' wants that nobody repeated for long.
func (b *Brain) sweep(now time.Time) {
	if now.Sub(b.swept) < strangerFor/24 {
		return
	}
	b.swept = now
	var old []*want
	for _, ws := range b.strangers {
		for _, w := range ws {
			if now.Sub(w.asked) >= strangerFor {
				old = append(old, w)
			}
		}
	}
	for _, w := range old {
		b.remove(now, w)
	}
}

// watch stops what stalls, and what is slow while somebody else has it.
func (b *Brain) watch(now time.Time) {
	var late []*out
	slow := map[*job]time.Duration{}
	for _, o := range b.outs {
		if o.stopped {
			continue
		}
		w := o.j.w
		if now.Sub(o.window) >= b.o.StallAfter {
			if o.inWin < min(leastBytes, o.to-o.from-o.got+o.inWin) {
				o.stalled = true
			}
			o.window, o.inWin = now, 0
		}
		ran := now.Sub(o.began)
		if patience := max(w.patience, slowAfter); !o.stalled && ran >= patience && float64(o.got) < ran.Seconds()*slowRate && b.elsewhere(now, o) {
			o.stalled = true
			slow[o.j] = patience
		}
		if o.stalled {
			late = append(late, o)
		}
	}
	slices.SortFunc(late, func(a, b *out) int { return int(int64(a.id) - int64(b.id)) })
	for _, o := range late {
		b.stop(o)
	}
	for j, patience := range slow {
		j.w.patience = 2 * patience
	}
	for _, j := range b.sorted() {
		if !j.idle.IsZero() && !j.ending && now.Sub(j.idle) >= keepPartial {
			b.drop(j)
		}
	}
}

func (b *Brain) sorted() []*job {
	all := make([]*job, 0, len(b.jobs))
	for _, j := range b.jobs {
		all = append(all, j)
	}
	slices.SortFunc(all, func(a, b *job) int { return int(int64(a.id) - int64(b.id)) })
	return all
}

// elsewhere reports whether somebody else could be asked for what a piece is of.
func (b *Brain) elsewhere(now time.Time, o *out) bool {
	for _, h := range o.j.w.havers {
		if h.p != o.p && !h.dead && !h.notBefore.After(now) && b.mayTake(now, h.p) {
			return true
		}
	}
	return false
}

func (b *Brain) stop(o *out) {
	if !o.stopped {
		o.stopped = true
		b.actions = append(b.actions, Action{Act: Stop, Job: o.j.id, Out: o.id, ID: o.j.w.id, Peer: o.p.id})
	}
}

// affords reports whether a peer may be asked for more bytes now, and else from when on.
func (b *Brain) affords(now time.Time, p *peer) (from time.Time, ok bool) {
	if b.o.Rate <= 0 {
		return now, true
	}
	if d := now.Sub(p.counted); d > 0 {
		p.tokens = min(b.o.Rate, p.tokens+int64(d.Seconds()*float64(b.o.Rate)))
		p.counted = now
	}
	if p.tokens > 0 {
		return now, true
	}
	return now.Add(time.Duration(float64(1-p.tokens)/float64(b.o.Rate)*float64(time.Second)) + time.Millisecond), false
}

// mayTake reports whether a peer may be asked for anything more now.
func (b *Brain) mayTake(now time.Time, p *peer) bool {
	if p.gone || p.outs >= maxPeerOuts || len(b.outs) >= maxOuts || !p.gave && b.unproven >= maxOuts/2 {
		return false
	}
	_, ok := b.affords(now, p)
	return ok
}

// fits reports whether a piece of some bytes may be asked from a peer beside what is under way.
func (b *Brain) fits(p *peer, n int64) bool {
	cost := min(n, maxCost)
	most := int64(maxBytes)
	if !p.gave {
		most /= 2
	}
	return (p.bytes == 0 || p.bytes+cost <= p.most()) && (b.bytes == 0 || b.bytes+cost <= most)
}

// plan gives out pieces, as far as there is room for them.
func (b *Brain) plan(now time.Time) {
	if !slices.ContainsFunc(b.order, func(p *peer) bool { return b.mayTake(now, p) }) {
		return
	}
	for _, w := range b.ready {
		if len(b.outs) >= maxOuts {
			return
		}
		if w.job == nil {
			if w.notBefore.After(now) || !b.begin(now, w) {
				continue
			}
		}
		b.give(now, w.job)
	}
}

// choose finds the best peer for a piece of a want: one who may be asked now, who has not let us wait lately, who failed least
// with this blob, who has given something before, of whom least is under way.
func (b *Brain) choose(now time.Time, w *want, fit func(h *have) bool) *have {
	var best *have
	better := func(h, than *have) bool {
		if a, c := h.p.doubt.After(now), than.p.doubt.After(now); a != c {
			return c
		}
		if h.fails != than.fails {
			return h.fails < than.fails
		}
		if h.p.gave != than.p.gave {
			return h.p.gave
		}
		return h.p.bytes < than.p.bytes
	}
	for _, h := range w.havers {
		if h.dead || h.notBefore.After(now) || !b.mayTake(now, h.p) || !fit(h) {
			continue
		}
		if best == nil || better(h, best) {
			best = h
		}
	}
	return best
}

// most is how many bytes may be under way from a peer beside another piece.
func (p *peer) most() int64 {
	if p.rate == 0 {
		return 2 * guessedRate
	}
	return max(leastUnder, min(p.rate/2, maxPeerBytes))
}

// whole reports whether a blob of a size is fetched from a peer with one call.
func (p *peer) whole(size int64) bool {
	if p.noSlice {
		return true
	}
	most := int64(mostWhole)
	if p.rate > 0 {
		most = max(leastWhole, min(p.rate, mostWhole))
	}
	return size <= most && size%jsChunk != 0
}

// cut divides a size into pieces for a peer of some bytes at most, none of whose lengths is a multiple of jsChunk.
func (p *peer) cut(size, most int64) (cuts []int64) {
	rate := p.rate
	if rate == 0 {
		rate = guessedRate
	}
	piece := max(leastPiece, min(rate/4, most))/jsChunk*jsChunk - 4096
	for at := int64(0); at < size; at += piece {
		cuts = append(cuts, at)
	}
	if last := cuts[len(cuts)-1]; (size-last)%jsChunk == 0 {
		cuts = append(cuts, size-1)
	}
	return append(cuts, size)
}

// measure takes down how fast a peer gives.
func (p *peer) measure(now time.Time) {
	took := now.Sub(p.busyAt)
	if took <= 0 {
		return
	}
	rate := int64(float64(p.busyGot) / took.Seconds())
	if p.rate > 0 {
		rate = (p.rate + rate) / 2
	}
	p.rate, p.busyAt, p.busyGot = max(rate, 1), now, 0
}

// begin makes a job for a want, if somebody may be asked.
func (b *Brain) begin(now time.Time, w *want) bool {
	if len(b.jobs) >= maxJobs {
		b.makeWay()
		return false
	}
	h := b.choose(now, w, func(h *have) bool {
		return b.fits(h.p, min(h.size, leastPiece)) && (h.p.gave || len(b.jobs) < maxJobs/2)
	})
	if h == nil {
		return false
	}
	b.lastID++
	j := &job{id: b.lastID, w: w, size: h.size, gave: map[*peer]struct{}{}}
	if j.whole = h.p.whole(h.size); j.whole {
		j.cuts = []int64{0, h.size}
		j.only = h.p
	} else {
		most := int64(mostPiece)
		if b.o.Rate > 0 { // what comes in a burst is followed by silence
			most = min(most, b.o.Rate)
		}
		j.cuts = h.p.cut(h.size, most)
		if w.alone {
			j.only = h.p
		}
	}
	j.state = make([]pieceState, len(j.cuts)-1)
	w.job, w.got = j, 0
	b.jobs[j.id] = j
	return true
}

// makeWay drops the job for which nobody gives anything for longest, if there is one, so that others can begin.
func (b *Brain) makeWay() {
	var idle *job
	for _, j := range b.jobs {
		if j.ending {
			return // it is being done
		}
		if j.under == 0 && !j.committing && (idle == nil || j.id < idle.id) {
			idle = j
		}
	}
	if idle != nil {
		b.drop(idle)
	}
}

// give gives out the free pieces of a job.
func (b *Brain) give(now time.Time, j *job) {
	if j.ending || j.committing {
		return
	}
	for j.firstFree < len(j.state) {
		if j.state[j.firstFree] != free {
			j.firstFree++
			continue
		}
		from, to := j.cuts[j.firstFree], j.cuts[j.firstFree+1]
		h := b.choose(now, j.w, func(h *have) bool {
			return h.size == j.size && (j.only == nil || j.only == h.p) && (j.whole || !h.p.noSlice) && b.fits(h.p, to-from)
		})
		if h == nil {
			break
		}
		b.lastID++
		o := &out{id: b.lastID, j: j, p: h.p, piece: j.firstFree, from: from, to: to, began: now, window: now, unproven: !h.p.gave}
		b.outs[o.id] = o
		if o.unproven {
			b.unproven++
		}
		j.state[j.firstFree] = taken
		j.under++
		j.idle = time.Time{}
		if h.p.outs == 0 {
			h.p.busyAt, h.p.busyGot = now, 0
		}
		h.p.outs++
		h.p.bytes += min(to-from, maxCost)
		b.bytes += min(to-from, maxCost)
		h.p.tokens -= to - from
		w := j.w
		b.actions = append(b.actions, Action{Act: Get, Job: j.id, Out: o.id, ID: w.id, Peer: h.p.id, Size: j.size, From: from, To: to,
			Whole: j.whole, Asker: w.charge, Own: w.own, Waited: w.waited})
	}
	b.settle(now, j)
}

// settle looks what becomes of a job that nothing is under way of.
func (b *Brain) settle(now time.Time, j *job) {
	if j.ending || j.committing || j.under > 0 {
		return
	}
	if j.done == len(j.state) {
		j.committing = true
		b.actions = append(b.actions, Action{Act: Commit, Job: j.id, ID: j.w.id, Size: j.size})
		return
	}
	// Can anybody go on with it, now or soon? Or begin anew?
	var soon, others, othersNow bool
	for _, h := range j.w.havers {
		if h.dead {
			continue
		}
		now := !h.notBefore.After(now)
		if h.size == j.size && (j.only == nil || j.only == h.p) && (j.whole || !h.p.noSlice) {
			if now {
				return
			}
			soon = true
		} else {
			others = true
			othersNow = othersNow || now
		}
	}
	switch {
	case j.done == 0 && (j.whole || othersNow || !soon):
		b.drop(j)
	case soon:
	case others:
		b.drop(j)
	case j.idle.IsZero():
		j.idle = now // they may come back
	}
}

// drop ends a job without result.
func (b *Brain) drop(j *job) {
	if j.ending || j.committing {
		return
	}
	j.ending = true
	b.actions = append(b.actions, Action{Act: Drop, Job: j.id, ID: j.w.id})
}

// Progress says that a Get brought n more bytes.
func (b *Brain) Progress(now time.Time, id uint64, n int64) {
	o := b.outs[id]
	if o == nil {
		return
	}
	o.got += n
	o.inWin += n
	o.j.got += n
	o.j.gave[o.p] = struct{}{} // even what failed later may be in the file
	o.j.w.got = o.j.got
	if o.p.busyGot += n; now.Sub(o.p.busyAt) >= rateWindow {
		o.p.measure(now)
	}
	if now.Sub(o.window) >= b.o.StallAfter && o.inWin >= leastBytes {
		o.window, o.inWin = now, 0
	}
}

// Got says how a Get ended.
func (b *Brain) Got(now time.Time, id uint64, r Result, why string) {
	o := b.outs[id]
	if o == nil {
		return
	}
	delete(b.outs, id)
	if o.unproven {
		b.unproven--
	}
	j, p := o.j, o.p
	cost := min(o.to-o.from, maxCost)
	if p.outs--; p.outs == 0 && p.busyGot >= leastPiece {
		p.measure(now)
	}
	p.bytes -= cost
	b.bytes -= cost
	j.under--
	if o.stalled && r != OK {
		r, why = Failed, "the peer stalled"
	}
	if r != OK {
		p.tokens += o.to - o.from - o.got // what was not given was not taken
		j.got -= o.got
		j.w.got = j.got
		j.state[o.piece] = free
		j.firstFree = min(j.firstFree, o.piece)
		if why != "" {
			j.w.last = why
		}
	}
	switch r {
	case OK:
		j.state[o.piece] = fetched
		j.done++
		p.gave = true
	case NoSlice:
		p.noSlice = true
	case Local, NoRoom:
		b.hold(now, j.w, r)
		b.drop(j)
	case Gone:
		p.gone = true // Disconnect will follow
	default:
		if !j.ending { // else we ended it
			b.fault(now, j.w, p, o.stalled)
		}
	}
	b.plan(now)
	if b.jobs[j.id] == j {
		b.settle(now, j)
	}
}

// hold leaves a want alone for a while, for a reason of our own.
func (b *Brain) hold(now time.Time, w *want, r Result) {
	w.notBefore = now.Add(localPause)
	if r == NoRoom {
		w.notBefore = now.Add(noRoomPause)
	}
}

// fault notes that a peer did not give what it said to have.
func (b *Brain) fault(now time.Time, w *want, p *peer, doubt bool) {
	if doubt {
		p.doubt = now.Add(doubtFor)
	}
	alive := false
	for _, h := range w.havers {
		if h.p == p {
			h.notBefore = now.Add(failedFor << h.fails)
			if h.fails++; h.fails >= maxFails {
				h.fails = maxFails
				p.doubt = now.Add(doubtFor)
				h.notBefore = p.doubt
			}
		}
		alive = alive || !h.hopeless()
	}
	b.askAgain(now, w, alive)
}

// askAgain has others asked who said to have a blob when there were too many of them, once all the others have failed.
func (b *Brain) askAgain(now time.Time, w *want, alive bool) {
	if alive || !w.dropped || b.wants[w.id] != w {
		return
	}
	w.dropped = false
	w.notBefore = now.Add(reaskedAfter)
	b.tell(w.id)
}

// Committed says how a Commit ended. After OK the blob is held.
func (b *Brain) Committed(now time.Time, id uint64, r Result, why string) {
	j := b.jobs[id]
	if j == nil {
		return
	}
	delete(b.jobs, id)
	w := j.w
	w.job = nil
	if b.wants[w.id] != w {
		b.plan(now)
		return
	}
	if why != "" {
		w.last = why
	}
	switch r {
	case OK:
		b.Stored(now, w.id, j.size)
		return
	case Wrong:
		if len(j.gave) == 1 {
			for p := range j.gave {
				p.doubt = now.Add(doubtFor)
				p.gave = false
				alive := false
				for _, h := range w.havers {
					h.dead = h.dead || h.p == p
					alive = alive || !h.hopeless()
				}
				b.askAgain(now, w, alive)
			}
		} else {
			w.alone = true
		}
	default:
		b.hold(now, w, r)
	}
	b.plan(now)
}

// Dropped says that a job has ended after a Drop.
func (b *Brain) Dropped(now time.Time, id uint64) {
	j := b.jobs[id]
	if j == nil {
		return
	}
	delete(b.jobs, id)
	j.w.job = nil
	j.w.got = 0
	b.plan(now)
}

// Status is how a wanted blob stands.
type Status struct {
	ID     identity.BlobID
	Own    bool
	Since  time.Time
	Hops   int           // 1: for ourselves
	Askers []identity.ID // others who want it, a few of them
	Size   int64         // as peers say, those who have it first, then one of whom it is not taken because it is too large; -1: not known
	Got    int64         // bytes fetched until now
	From   []identity.ID // who has it, the ones that are fetched from first
	Last   string        // what went wrong last
}

// Wants lists what is wanted: our own first, in the order in which they are fetched if somebody has them.
func (b *Brain) Wants() []Status {
	all := make([]*want, 0, len(b.wants))
	for _, w := range b.wants {
		all = append(all, w)
	}
	slices.SortFunc(all, compareWants)
	list := make([]Status, len(all))
	for i, w := range all {
		s := Status{ID: w.id, Own: w.own, Since: w.since, Hops: w.hops, Askers: slices.Clone(w.askers), Size: -1, Got: w.got, Last: w.last}
		for _, h := range w.havers {
			if h.dead {
				continue
			}
			if s.Size < 0 {
				s.Size = h.size
			}
			gives := w.job != nil && hasGiven(w.job, h.p)
			if gives {
				s.From = slices.Insert(s.From, 0, h.p.id)
			} else {
				s.From = append(s.From, h.p.id)
			}
		}
		if s.Size < 0 && w.tooLarge > 0 {
			s.Size = w.tooLarge
		}
		if w.job != nil {
			s.Size = w.job.size
		}
		list[i] = s
	}
	return list
}

func hasGiven(j *job, p *peer) bool {
	_, ok := j.gave[p]
	return ok
}
