package ebt

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"charkha/identity"
)

// jsBrain behaves as npm epidemic-broadcast-trees 9.0.4 does, as far as peers can tell, without blocks: it answers notes only
// when it begins to ask or is ahead, takes a pending note for a sign that a feed is being received elsewhere, does not say when
// it no longer wants a feed, and keeps what a peer said of feeds that it does not want. A stubborn one never believes that a peer
// has less than it once said, as version 7 does, which ssb-server 16 uses.
type jsBrain struct {
	heads    map[identity.ID]int64
	follows  map[identity.ID]bool
	peers    map[identity.ID]*jsPeer
	woken    []identity.ID
	stubborn bool
}

type jsPeer struct {
	clock    Clock
	started  bool // its first notes are made
	repl     map[identity.ID]*jsRepl
	notes    Notes
	messages []Send
	retrieve []identity.ID
	heard    time.Time // when it last sent something new, or was asked
}

type jsRepl struct {
	tx, rx bool
	sent   int64 // -1: nothing, -2: not known
}

func newJSBrain(stubborn bool) *jsBrain {
	return &jsBrain{
		heads: map[identity.ID]int64{}, follows: map[identity.ID]bool{}, peers: map[identity.ID]*jsPeer{}, stubborn: stubborn,
	}
}

func (b *jsBrain) Woken() []identity.ID {
	w := b.woken
	b.woken = nil
	return w
}

// wakeAll wakes everybody: the peers for whom there is nothing are asked in vain.
func (b *jsBrain) wakeAll() {
	b.woken = nil
	for id := range b.peers {
		b.woken = append(b.woken, id)
	}
}

func (p *jsPeer) say(feed identity.ID, seq int64, receive bool) {
	if p.notes == nil {
		p.notes = Notes{}
	}
	p.notes[feed] = MakeNote(seq, receive)
	if r := p.repl[feed]; r != nil {
		r.rx = receive
	}
}

// elsewhere reports whether a feed seems to be received from another peer, and from which.
func (b *jsBrain) elsewhere(feed, except identity.ID) (identity.ID, bool) {
	for id, p := range b.peers {
		if id == except {
			continue
		}
		if p.notes != nil {
			if n, ok := p.notes[id]; !ok || n.Receive() {
				return id, true
			}
		}
		if own := p.repl[id]; own != nil && own.sent != -1 && p.repl[feed] != nil && p.repl[feed].rx {
			return id, true
		}
	}
	return identity.ID{}, false
}

// same reports whether a peer has a feed as far as we; a feed of which we have nothing is like no peer's.
func (b *jsBrain) same(feed identity.ID, seq int64) bool {
	head, ok := b.heads[feed]
	return ok && head == seq
}

func (b *jsBrain) Connect(_ time.Time, id identity.ID, remembered Clock, dialled bool) {
	p := &jsPeer{clock: maps.Clone(remembered), repl: map[identity.ID]*jsRepl{}}
	if p.clock == nil {
		p.clock = Clock{}
	}
	b.peers[id] = p
	if !dialled {
		b.start(id, p)
	}
	b.wakeAll()
}

func (b *jsBrain) start(id identity.ID, p *jsPeer) {
	p.started = true
	p.notes = Notes{}
	for feed := range b.follows {
		if seq := p.clock[feed]; seq != None && !b.same(feed, seq) {
			_, taken := b.elsewhere(feed, id)
			p.repl[feed] = &jsRepl{rx: !taken, sent: -2}
			p.say(feed, b.heads[feed], !taken)
		}
	}
}

func (b *jsBrain) Disconnect(_ time.Time, id identity.ID) Clock {
	p := b.peers[id]
	delete(b.peers, id)
	return p.clock
}

func (b *jsBrain) Clock(id identity.ID) Clock { return b.peers[id].clock }
func (b *jsBrain) Recheck(time.Time)          {}

func (b *jsBrain) Want(_ time.Time, feed identity.ID, want bool) {
	if b.follows[feed] == want {
		return
	}
	if !want {
		delete(b.follows, feed)
		return
	}
	b.follows[feed] = true
	asked := false
	for _, p := range b.peers {
		if seq := p.clock[feed]; p.started && seq != None && !b.same(feed, seq) {
			p.repl[feed] = &jsRepl{rx: true, sent: -1}
			p.say(feed, b.heads[feed], !asked)
			asked = true
		}
	}
	b.wakeAll()
}

func (b *jsBrain) Received(now time.Time, id, feed identity.ID, seq int64) bool {
	p := b.peers[id]
	r := p.repl[feed]
	if r == nil {
		return false
	}
	p.clock[feed] = max(p.clock[feed], seq)
	r.sent = max(r.sent, seq)
	defer b.wakeAll()
	if b.heads[feed] >= seq {
		if r.rx {
			p.say(feed, b.heads[feed], false)
		}
		return false
	}
	p.heard = now
	return b.follows[feed]
}

func (b *jsBrain) Stored(_ time.Time, feed identity.ID, head int64, _ identity.ID) {
	for seq := b.heads[feed] + 1; seq <= head; seq++ {
		b.heads[feed] = seq
		for _, p := range b.peers {
			if !p.started || !b.follows[feed] {
				continue
			}
			has, known := p.clock[feed]
			r := p.repl[feed]
			switch {
			case r != nil && r.tx && r.sent == seq-1 && seq > has:
				p.messages = append(p.messages, Send{Feed: feed, From: seq, To: seq})
				r.sent++
			case has != None && (!known || seq > has) && (r == nil || !r.tx && r.sent != -2):
				p.say(feed, seq, false)
			}
		}
	}
	b.wakeAll()
}

func (b *jsBrain) Notes(now time.Time, id identity.ID, notes Notes) {
	p := b.peers[id]
	if !p.started {
		b.start(id, p)
	}
	for feed, note := range notes {
		seq := note.Sequence()
		if b.stubborn && seq != None && p.clock[feed] != None {
			seq = max(seq, p.clock[feed])
		}
		p.clock[feed] = seq
		head := b.heads[feed]
		if !b.follows[feed] {
			if p.repl[feed] == nil {
				p.say(feed, None, false)
			}
			p.repl[feed] = &jsRepl{sent: -1}
			continue
		}
		r := p.repl[feed]
		other, taken := b.elsewhere(feed, id)
		if r == nil {
			r = &jsRepl{tx: true, rx: true, sent: seq}
			p.repl[feed] = r
			p.say(feed, head, head < seq && !taken)
		} else if !r.rx && seq > head {
			if !taken {
				p.heard = now
				p.say(feed, head, true)
			} else if q := b.peers[other]; seq > q.clock[feed] {
				p.heard = now
				p.say(feed, head, true)
				q.say(feed, head, false)
			}
		}
		r.tx = note.Receive()
		r.sent = seq
		if head > seq {
			if r.tx {
				p.retrieve = append(p.retrieve, feed)
			} else if note.Replicate() {
				p.say(feed, head, r.rx)
			}
		}
	}
	b.wakeAll()
}

func (b *jsBrain) Tick(now time.Time) {
	left := map[identity.ID]identity.ID{}
	for id, p := range b.peers {
		if now.Sub(p.heard) <= 3*time.Second {
			continue
		}
		for feed, r := range p.repl {
			if !r.rx {
				continue
			}
			for other, q := range b.peers {
				if other != id && q.clock[feed] > b.heads[feed] && b.follows[feed] {
					left[feed] = id
					p.say(feed, b.heads[feed], false)
					break
				}
			}
		}
	}
	for feed, except := range left {
		for id, p := range b.peers {
			if id == except || p.clock[feed] == 0 {
				continue
			}
			if p.repl[feed] == nil {
				p.repl[feed] = &jsRepl{rx: true, sent: -1}
			}
			p.say(feed, b.heads[feed], true)
			p.heard = now
			break
		}
	}
	b.wakeAll()
}

func (b *jsBrain) Next(_ time.Time, id identity.ID) (Notes, Send, time.Time) {
	p := b.peers[id]
	for len(p.retrieve) > 0 {
		feed := p.retrieve[0]
		p.retrieve = p.retrieve[1:]
		if r := p.repl[feed]; r != nil && r.tx && r.sent >= 0 && r.sent < b.heads[feed] {
			p.messages = append(p.messages, Send{Feed: feed, From: r.sent + 1, To: b.heads[feed]})
			r.sent = b.heads[feed]
		}
	}
	if len(p.messages) > 0 {
		send := p.messages[0]
		p.messages = p.messages[1:]
		return nil, send, time.Time{}
	}
	notes := p.notes
	p.notes = nil
	return notes, Send{}, time.Time{}
}

// Peers as they are in JS get everything from our brain and give everything to it: feeds of those who never meet, feeds wanted
// before and after anybody has anything, after disconnects, and what is published in between.
func TestSimulatedJSPeers(t *testing.T) {
	for _, stubborn := range []bool{false, true} {
		t.Run(fmt.Sprintf("stubborn %v", stubborn), func(t *testing.T) {
			for range 40 {
				s := newSim(t, rand.Uint64(), 6)
				hub := s.nodes[0]
				for _, n := range s.nodes[1:] {
					n.brain = newJSBrain(stubborn)
				}
				wants := map[int][]int{}
				later := []func(){}
				for n, node := range s.nodes {
					for f := range s.nodes {
						wants[n] = append(wants[n], f)
						if do := func() { s.want(node, f) }; s.rng.IntN(3) == 0 && n != f {
							later = append(later, do)
						} else {
							do()
						}
					}
				}
				meet := func(n *simNode) {
					if s.rng.IntN(2) == 0 {
						s.connect(hub, n)
					} else {
						s.connect(n, hub)
					}
				}
				for range 60 {
					n := s.nodes[1+s.rng.IntN(5)]
					switch s.rng.IntN(5) {
					case 0:
						meet(n)
					case 1:
						s.disconnect(hub, n)
					case 2, 3:
						s.publish(s.nodes[s.rng.IntN(6)], int64(1+s.rng.IntN(5)))
					case 4:
						s.run(time.Duration(s.rng.IntN(3000)) * time.Millisecond)
					}
					if len(later) > 0 && s.rng.IntN(8) == 0 {
						later[0]()
						later = later[1:]
					}
				}
				for _, do := range later {
					do()
				}
				for _, n := range s.nodes[1:] {
					s.disconnect(hub, n)
					meet(n)
				}
				s.run(time.Minute)
				for range 10 {
					s.publish(s.nodes[s.rng.IntN(6)], 1)
					s.run(time.Second)
				}
				s.run(time.Minute)
				for n, feeds := range wants {
					for _, f := range feeds {
						if got, want := s.nodes[n].heads[id(f)], s.nodes[f].heads[id(f)]; got != want {
							t.Errorf("node %d has %d of %d of feed %d (the hub has %d)", n, got, want, f, hub.heads[id(f)])
						}
					}
				}
				if t.Failed() {
					return
				}
				before := s.entries + s.messages
				s.run(time.Minute)
				if quiet := s.entries + s.messages - before; quiet > 0 {
					t.Fatalf("%d entries and messages went round in a network in sync", quiet)
				}
			}
		})
	}
}
