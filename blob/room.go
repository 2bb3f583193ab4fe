package blob

import (
	"container/heap"
	"fmt"
	"io/fs"
	"math"

	"charkha/identity"
)

// booking is room that was made for a blob that is not there yet.
type booking struct {
	id     identity.BlobID
	size   int64
	why    Why
	counts bool   // the sums below have size in them; under mu
	author uint32 // people, of each one use
	peer   uint32
}

// cost is what a blob takes of the budget: as on disk, whole blocks, one at least. So what is bounded is how many there are, too,
// and with it memory.
func cost(size int64) int64 {
	const block = 4096
	return max(1, (size+block-1)/block) * block
}

// share is how much of the budget one account may hold while others need room: an eighth, but one blob at least, and never more
// than a half.
func (o *Options) share() int64 { return min(max(o.Budget/8, cost(o.Max)), o.Budget/2) }

// far is the rank of somebody who is out of range, for comparing.
const far = math.MaxInt

// ranks tells how far those are of whom something may leave, and who, by number and id.
type ranks struct {
	who    int // rank of who the room is for
	others map[account]ranked
}

type ranked struct {
	id   identity.ID
	rank int
}

// rank asks how far everybody is of whom something may leave, and how far the author of what comes is. No lock is held.
func (s *Store) rank(why Why) ranks {
	s.mu.Lock()
	r := ranks{who: far, others: map[account]ranked{}}
	for n := range s.people.all {
		for kind := range account(2) {
			if p := &s.people.all[n]; p.holds[kind].first != 0 {
				r.others[account(n)<<1|kind] = ranked{id: p.id, rank: far}
			}
		}
	}
	s.mu.Unlock()
	hops := func(id identity.ID) int {
		if n := s.o.Rank(id); n >= 0 {
			return n
		}
		return far
	}
	for a, p := range r.others {
		if a&1 == 0 {
			r.others[a] = ranked{id: p.id, rank: hops(p.id)}
		}
	}
	if !why.Author.IsZero() {
		r.who = hops(why.Author)
	}
	return r
}

// book makes room for a blob, or says ErrFull.
func (s *Store) book(id identity.BlobID, size int64, why Why) (*booking, error) {
	b := &booking{id: id, size: size, why: why}
	if s.bookFree(b) {
		return b, nil
	}
	if all := s.budget(); all > 0 && cost(size) > all {
		return nil, fmt.Errorf("blob %s: %w: %d bytes, all may have %d", id, ErrFull, size, all)
	}
	r := s.rank(why)
	s.room.Lock()
	defer s.room.Unlock()
	stuck := map[identity.BlobID]bool{}
	for !s.bookFree(b) {
		s.mu.Lock()
		leave, ok := s.plan(cost(size), why, r, stuck)
		s.mu.Unlock()
		if !ok {
			return nil, fmt.Errorf("blob %s: %w: %d bytes", id, ErrFull, size)
		}
		s.evict(leave, stuck)
	}
	return b, nil
}

// bookFree takes room that is free.
func (s *Store) bookFree(b *booking) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, held := s.slots[b.id]
	b.counts = !b.why.Own && !b.why.Pinned && !held
	if !b.counts {
		return true
	}
	if s.o.Budget > 0 && s.leaving+cost(b.size) > s.o.Budget {
		b.counts = false
		return false
	}
	b.author, b.peer = s.people.use(b.why.Author), s.people.use(b.why.Peer)
	s.people.account(accountOf(b.author, b.peer)).bytes += cost(b.size)
	s.leaving += cost(b.size)
	return true
}

// unbook gives back what was booked. It may be called again.
func (s *Store) unbook(b *booking) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unbookLocked(b)
}

func (s *Store) unbookLocked(b *booking) {
	if !b.counts {
		return
	}
	b.counts = false
	s.leaving -= cost(b.size)
	s.people.account(accountOf(b.author, b.peer)).bytes -= cost(b.size)
	s.people.release(b.author)
	s.people.release(b.peer)
}

// evict removes blobs that may leave. One that cannot be removed, because of the disk or because it is read on Windows, is stuck.
func (s *Store) evict(leave []identity.BlobID, stuck map[identity.BlobID]bool) {
	for _, id := range leave {
		if err := s.evictOne(id); err != nil {
			s.log.Warn("a blob does not leave", "blob", id, "err", err)
			stuck[id] = true
		}
	}
}

func (s *Store) evictOne(id identity.BlobID) error {
	s.shards[id[0]].Lock()
	defer s.shards[id[0]].Unlock()
	s.mu.Lock()
	slot, ok := s.slots[id]
	ok = ok && !s.entries[slot].stays()
	s.mu.Unlock()
	if !ok {
		return nil // removed or pinned since it was planned
	}
	if err := s.drop(id); err != nil {
		return err
	}
	s.mu.Lock()
	s.evicted++
	s.mu.Unlock()
	s.log.Debug("evicted", "blob", id)
	return nil
}

// plan chooses who leaves so that size more bytes of the budget are free, in the order of leaving. It says no when that is not
// enough, and nobody leaves then. mu is held.
func (s *Store) plan(size int64, why Why, r ranks, stuck map[identity.BlobID]bool) (leave []identity.BlobID, ok bool) {
	need := s.leaving + size - s.o.Budget
	if need <= 0 || s.o.Budget == 0 {
		return nil, true
	}
	p := planner{s: s, share: s.o.share(), all: size == 0 || why.Asked, rank: r.who, holds: size}
	author, known := s.people.numbers[why.Author]
	peer, knownPeer := s.people.numbers[why.Peer]
	if p.who = accountOf(author, peer); why.Author.IsZero() && (knownPeer || why.Peer.IsZero()) || known {
		p.holds += s.people.account(p.who).bytes
	} else {
		p.who = math.MaxUint32 // nothing of theirs is here
	}
	p.over = p.rank != 0 && p.holds > p.share
	for a, other := range r.others {
		if s.people.all[a>>1].id == other.id { // else it is somebody else by now
			h := s.people.account(a)
			p.add(candidate{account: a, rank: other.rank, held: h.bytes, next: h.first})
		}
	}
	heap.Init(&p.heap)
	for need > 0 && len(p.heap) > 0 {
		a := p.heap[0]
		e := &s.entries[a.next]
		if !stuck[e.id] {
			leave = append(leave, e.id)
			need -= cost(int64(e.size))
			a.held -= cost(int64(e.size))
		}
		a.next = e.next
		heap.Pop(&p.heap)
		p.push(a)
	}
	return leave, need <= 0
}

// planner chooses who leaves: first what accounts hold over their share, then the farther ones', then what nobody used for
// longest.
type planner struct {
	s     *Store
	share int64

	// Who the room is for.
	all   bool // may take from everybody
	who   account
	rank  int
	holds int64 // with the room that is asked for
	over  bool

	heap candidates
}

// candidate is an account of which blobs may leave, from the blob next on.
type candidate struct {
	account account
	rank    int
	held    int64
	next    uint32
	over    bool
	used    int64 // ms, of next
}

// look completes an account, and reports whether its next blob may leave for what comes.
func (p *planner) look(a *candidate) bool {
	if a.next == 0 {
		return false
	}
	a.over = a.rank != 0 && a.held > p.share
	a.used = p.s.entries[a.next].used()
	switch {
	case p.all || a.account == p.who:
		return true
	case p.over: // who has more than its share takes from those who have still more
		return a.over && a.held > p.holds && a.rank >= p.rank
	}
	return a.over || a.rank >= p.rank
}

func (p *planner) add(a candidate) {
	if p.look(&a) {
		p.heap = append(p.heap, a)
	}
}

func (p *planner) push(a candidate) {
	if p.look(&a) {
		heap.Push(&p.heap, a)
	}
}

type candidates []candidate

func (h candidates) Len() int { return len(h) }
func (h candidates) Less(i, j int) bool {
	a, b := &h[i], &h[j]
	switch {
	case a.over != b.over:
		return a.over
	case a.rank != b.rank:
		return a.rank > b.rank
	}
	return a.used < b.used
}
func (h candidates) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *candidates) Push(x any)   { *h = append(*h, x.(candidate)) }
func (h *candidates) Pop() any {
	old := *h
	a := old[len(old)-1]
	*h = old[:len(old)-1]
	return a
}

// Wants reports whether a blob that is not there should be fetched; see Objection.
func (s *Store) Wants(id identity.BlobID, size int64, why Why) bool {
	return s.Objection(id, size, why) == nil
}

// Objection says why a blob should not be fetched: it is there (fs.ErrExist), too large, or, unless somebody asked for it, larger than
// Options.AutoMax (ErrTooLarge) or refused (ErrRefused), or Receive would not find room, nor make it by letting those leave who stand
// before it in the order of leaving (ErrFull). A negative size is not known yet, and counts as one byte.
func (s *Store) Objection(id identity.BlobID, size int64, why Why) error {
	if size < 0 {
		size = 1
	}
	if !why.Asked && !why.Own && !why.Pinned {
		if s.Refused(id) {
			return ErrRefused
		}
		if s.o.AutoMax > 0 && size > s.o.AutoMax && size <= s.o.Max {
			return fmt.Errorf("%w for what nobody here asked for: %d bytes, at most %d", ErrTooLarge, size, s.o.AutoMax)
		}
	}
	if size > s.o.Max {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, s.o.Max)
	}
	s.mu.Lock()
	_, held := s.slots[id]
	free := why.Own || why.Pinned || s.o.Budget == 0 || s.leaving+cost(size) <= s.o.Budget
	all := s.o.Budget
	s.mu.Unlock()
	switch {
	case held:
		return fs.ErrExist
	case free:
		return nil
	case all > 0 && cost(size) > all:
		return fmt.Errorf("%w: %d bytes, all may have %d", ErrFull, size, all)
	}
	r := s.rank(why)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.plan(cost(size), why, r, nil); !ok {
		return fmt.Errorf("%w: what is here is worth more, by the order of leaving", ErrFull)
	}
	return nil
}

// SetBudget changes Options.Budget, and lets blobs leave in their order until what is there is within it. Until the store is opened
// again.
func (s *Store) SetBudget(bytes int64) {
	s.mu.Lock()
	s.o.Budget = max(bytes, 0)
	s.mu.Unlock()
	s.Trim()
}

func (s *Store) budget() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.o.Budget
}

// Trim lets blobs leave in their order until what is there is within the budget: when that was made smaller, or something was
// unpinned. To be called once Options.Rank can answer.
func (s *Store) Trim() {
	s.mu.Lock()
	within := s.o.Budget == 0 || s.leaving <= s.o.Budget
	s.mu.Unlock()
	if within {
		return
	}
	r := s.rank(Why{})
	s.room.Lock()
	defer s.room.Unlock()
	s.mu.Lock()
	leave, _ := s.plan(0, Why{}, r, nil)
	s.mu.Unlock()
	s.evict(leave, map[identity.BlobID]bool{})
}
