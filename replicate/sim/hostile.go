package main

import (
	"strings"
	"time"

	"charkha/identity"
	"charkha/replicate/internal/ebt"
	"charkha/replicate/internal/sched"
)

// hostility is how a node behaves.
type hostility uint8

const (
	honest     hostility = iota
	silent               // claims to have more of every feed that it hears of, and sends nothing
	mute                 // takes connections and says nothing at all
	flooder              // claims like silent, and sends what nobody wants, what is known, and what is not valid
	forker               // honest but for its own feed, which it continues in two ways
	falseClock           // has an honest brain, whose notes name other sequences than it has
	hostilities
)

// ownBrain reports whether a node has a brain that speaks for it.
func (h hostility) ownBrain() bool { return h == honest || h == forker || h == falseClock }

// acts reports whether a node dials whomever it can, all the time, rather than whom a scheduler chooses.
func (h hostility) acts() bool { return !h.ownBrain() }

const (
	hostileEvery = 5 * time.Second
	forkAt       = 3 // messages from this sequence on are of one branch or the other
	floodSize    = 200
	lie          = 20
)

// attack has a hostile node dial somebody, again and again.
func (s *sim) attack(n *node, gen int) {
	if n.gen != gen {
		return
	}
	var all []identity.Address
	for _, c := range n.known {
		all = append(all, c.addr)
	}
	if n.lan >= 0 {
		for _, m := range s.lans[n.lan] {
			all = append(all, lanAddr(m))
		}
	}
	for _, r := range n.rooms {
		for _, m := range r.members {
			all = append(all, roomAddr(r, m))
		}
	}
	if len(all) > 0 {
		addr := all[s.rng.IntN(len(all))]
		if addr.Key != n.id && n.with(num(addr.Key)) == nil && !n.dialling[addr] {
			n.dialling[addr] = true
			s.dial(n, addr)
		}
	}
	if n.hostile == flooder {
		for _, l := range n.links {
			s.flood(n, l)
		}
	}
	s.after(hostileEvery, func() { s.attack(n, gen) })
}

// flood sends what nobody asked for.
func (s *sim) flood(n *node, l *link) {
	to := l.other(n)
	s.after(l.latency, func() {
		if !to.on || !l.up[l.side(to)] || !to.hostile.ownBrain() {
			return
		}
		notes := ebt.Notes{}
		for range floodSize {
			stranger := idOf(1<<20 + s.rng.IntN(1<<20))
			notes[stranger] = ebt.MakeNote(int64(s.rng.IntN(1000)), true)
			to.brain.Received(s.now, n.id, stranger, 1)
		}
		to.brain.Notes(s.now, n.id, notes)
		for range 10 {
			known := to.wants[s.rng.IntN(len(to.wants))]
			if h := to.heads[known]; h > 0 {
				to.brain.Received(s.now, n.id, known, 1+s.rng.Int64N(h)) // the log calls it a duplicate
			}
		}
		s.touch(to)
		s.wake(to)
		side := l.side(to)
		if l.invalid[side] += 10; l.invalid[side] > maxInvalid {
			s.end(l, to, "it sent more than 100 invalid messages")
		}
	})
}

// hostileOpened is that somebody opened EBT with a hostile node.
func (s *sim) hostileOpened(l *link, n *node) {
	from := l.ends[0]
	if n.hostile == mute || !from.hostile.ownBrain() {
		return
	}
	notes := ebt.Notes{}
	for _, id := range n.wants {
		notes[id] = ebt.MakeNote(s.nodes[num(id)].heads[id]+lie, true)
	}
	s.after(l.latency, func() { s.hear(from, n, l, notes) })
}

// hostileHears answers notes with lies.
func (s *sim) hostileHears(n, from *node, l *link, notes ebt.Notes) {
	if n.hostile == mute || !from.hostile.ownBrain() {
		return
	}
	answer := ebt.Notes{}
	for feed, note := range notes {
		if note.Replicate() {
			answer[feed] = ebt.MakeNote(note.Sequence()+lie, true)
		}
	}
	if len(answer) > 0 {
		s.after(l.latency+time.Second, func() { s.hear(from, n, l, answer) })
	}
}

// falsify makes notes lie.
func (s *sim) falsify(notes ebt.Notes) {
	for _, id := range sorted(notes) {
		if note := notes[id]; note.Replicate() && s.rng.IntN(3) == 0 {
			notes[id] = ebt.MakeNote(max(0, note.Sequence()+int64(s.rng.IntN(2*lie+1)-lie)), note.Receive())
		}
	}
}

// otherBranch reports whether a message continues a fork on the other side than the log of n has.
func (s *sim) otherBranch(n, from *node, author int, seq int64) bool {
	if s.nodes[author].hostile != forker || seq < forkAt {
		return false
	}
	branch := n.n & 1 // which the forker himself sends depends on to whom
	if from.n != author {
		b, ok := from.branch[author]
		if !ok {
			return false
		}
		branch = b
	}
	if own, ok := n.branch[author]; ok {
		return own != branch
	}
	n.branch[author] = branch
	return false
}

// judge takes down what it means that a scheduler drops somebody.
func (s *sim) judge(n *node, l *link, why string) {
	if n.hostile != honest || !strings.Contains(why, "sent nothing for") && !strings.Contains(why, "said nothing for") {
		return
	}
	other := l.other(n)
	switch {
	case other.hostile != honest:
		s.watchdog++
	case l.up[l.side(other)] && other.on:
		s.banned = append(s.banned, "the watchdog dropped an honest node: "+why)
	}
}

// kindOf tells how an address leads to its node, and through which room.
func kindOf(addr identity.Address) (sched.Kind, int) {
	switch addr.Host[0] {
	case 'l':
		return sched.LAN, 0
	case 'r':
		return sched.Room, addr.Port
	}
	return sched.Pub, 0
}

func publicAddr(n int) identity.Address {
	return identity.Address{Proto: "net", Host: "public.example", Port: 8008, Key: idOf(n)}
}

func lanAddr(n *node) identity.Address {
	return identity.Address{Proto: "net", Host: "lan.example", Port: 8008, Key: n.id}
}

// roomAddr stands for the tunnel address of a node in a room: to the scheduler an address is only a name.
func roomAddr(r *room, n *node) identity.Address {
	return identity.Address{Proto: "net", Host: "room.example", Port: r.n, Key: n.id}
}
