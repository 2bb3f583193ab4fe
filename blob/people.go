package blob

import "charkha/identity"

// people are the authors and peers of what is there, by number. 0 is nobody.
type people struct {
	all     []person
	numbers map[identity.ID]uint32
	unused  []uint32
}

// person is somebody as an author, and as a peer.
type person struct {
	id                identity.ID
	uses              int64      // by blobs and by what is being received; of nobody it is not counted
	authored, brought int64      // bytes
	holds             [2]holding // as an author, and as the peer who brought what has no author
}

// holding is what counts for an account of the budget.
type holding struct {
	bytes       int64  // of the budget, what is booked included
	first, last uint32 // the blobs, by last use; 0 is none
}

func (p *people) init() { p.all, p.numbers = make([]person, 1), map[identity.ID]uint32{} }

// use returns the number of somebody, for one use more.
func (p *people) use(id identity.ID) uint32 {
	if id.IsZero() {
		return 0
	}
	n, ok := p.numbers[id]
	if !ok {
		if u := len(p.unused); u > 0 {
			n, p.unused = p.unused[u-1], p.unused[:u-1]
		} else {
			n = uint32(len(p.all))
			p.all = append(p.all, person{})
		}
		p.all[n] = person{id: id}
		p.numbers[id] = n
	}
	p.all[n].uses++
	return n
}

// release takes back one use.
func (p *people) release(n uint32) {
	if n == 0 {
		return
	}
	who := &p.all[n]
	if who.uses--; who.uses == 0 {
		delete(p.numbers, who.id)
		*who = person{}
		p.unused = append(p.unused, n)
	}
}

// account is whose share of the budget a blob counts for: the author's number and 0, or when nobody is the author, the number of
// who brought it and 1.
type account uint32

func accountOf(author, peer uint32) account {
	if author != 0 {
		return account(author << 1)
	}
	return account(peer<<1 | 1)
}

func (p *people) account(a account) *holding { return &p.all[a>>1].holds[a&1] }

// link puts a blob into a list, behind those that were used before it. mu is held.
func (s *Store) link(p *holding, slot uint32) {
	e := &s.entries[slot]
	prev := p.last
	for prev != 0 && s.entries[prev].used() > e.used() {
		prev = s.entries[prev].prev
	}
	e.prev = prev
	if prev == 0 {
		e.next, p.first = p.first, slot
	} else {
		e.next, s.entries[prev].next = s.entries[prev].next, slot
	}
	if e.next == 0 {
		p.last = slot
	} else {
		s.entries[e.next].prev = slot
	}
}

func (s *Store) unlink(p *holding, slot uint32) {
	e := &s.entries[slot]
	if e.prev == 0 {
		p.first = e.next
	} else {
		s.entries[e.prev].next = e.next
	}
	if e.next == 0 {
		p.last = e.prev
	} else {
		s.entries[e.next].prev = e.prev
	}
	e.prev, e.next = 0, 0
}
