package main

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"time"

	"charkha/identity"
	"charkha/replicate/internal/ebt"
	"charkha/replicate/internal/sched"
)

// config is what a network is like.
type config struct {
	seed     uint64
	persons  int           // honest ones and hostile ones
	perPub   int           // persons for each pub; 0: 50
	hostile  float64       // the part of the persons that is hostile, of all kinds in turn
	churn    float64       // the part of the persons that is off at any time
	cycle    time.Duration // of being on and off, on average
	linkLife time.Duration // after which a link breaks, on average; 0: never
	loss     float64       // the part of the dials that get no answer
	history  int64         // messages in each feed at first
	synced   bool          // everyone has all that he wants at first
	watch    bool          // measure how long one waits for what an honest peer offers
}

// The follow graph is a small world: a ring on which each follows those next to him, some replaced by anybody.
const (
	followed   = 10   // by each, besides pubs
	rewired    = 0.15 // of these are anywhere
	perPub     = 50   // persons for each pub, if config does not say; the pub follows them
	perRoom    = 40   // persons for each room
	secondPub  = 0.25 // have been invited to another pub, anywhere
	behindNAT  = 0.75
	atHome     = 0.2 // share a local network with two others
	knowPublic = 0.3 // know the address of somebody whom they follow and who has a public one
	deadPubs   = 0.1 // of the pubs that messages name are no more
)

var epoch = time.Unix(1700000000, 0)

// newSim makes a network in which everything is about to be turned on.
func newSim(c config) *sim {
	s := &sim{c: c, rng: rand.New(rand.NewPCG(c.seed, 4)), now: epoch, posts: map[post]*spread{}}
	if c.perPub == 0 {
		c.perPub = perPub
	}
	pubs := max(1, c.persons/c.perPub)
	rooms := max(1, c.persons/perRoom)
	for i := range c.persons + pubs {
		s.nodes = append(s.nodes, &node{
			n: i, id: idOf(i), pub: i >= c.persons, lan: -1, ping: s.between(5*time.Millisecond, 60*time.Millisecond),
			heads: map[identity.ID]int64{}, branch: map[int]int{}, clocks: map[int]clock{}, wanted: map[identity.ID]bool{},
			exposed: map[identity.ID]exposure{},
		})
	}
	for i := range rooms {
		s.rooms = append(s.rooms, &room{n: i, attendant: map[int]bool{}})
	}
	hostiles := int(c.hostile * float64(c.persons))
	for i := range hostiles {
		s.nodes[i*c.persons/hostiles].hostile = 1 + hostility(i)%(hostilities-1)
	}
	for i, n := range s.nodes[:c.persons] {
		for d := 1; d <= followed/2; d++ {
			for _, j := range []int{i + d, i - d + c.persons} {
				if s.rng.Float64() < rewired {
					j = s.rng.IntN(c.persons)
				}
				if j %= c.persons; j != i {
					n.follows = append(n.follows, j)
				}
			}
		}
		n.pubs = []int{c.persons + i*pubs/c.persons}
		if s.rng.Float64() < secondPub {
			n.pubs = append(n.pubs, c.persons+s.rng.IntN(pubs))
		}
		for _, p := range n.pubs {
			n.follows = append(n.follows, p)
			s.nodes[p].follows = append(s.nodes[p].follows, i)
		}
		n.nat = s.rng.Float64() < behindNAT
		r := s.rooms[i*rooms/c.persons]
		n.rooms = []*room{r}
		r.members = append(r.members, n)
		if i%3 == 2 && s.rng.Float64() < atHome {
			for _, m := range s.nodes[i-2 : i+1] {
				m.lan = len(s.lans)
			}
			s.lans = append(s.lans, s.nodes[i-2:i+1])
		}
	}
	for _, n := range s.nodes {
		want := func(j int) {
			if id := idOf(j); !n.wanted[id] {
				n.wanted[id] = true
				n.wants = append(n.wants, id)
			}
		}
		want(n.n)
		announced := map[int]bool{}
		for _, p := range n.pubs {
			announced[p] = true
			n.known = append(n.known, candidate{publicAddr(p), sched.Pub, "invite"})
		}
		for _, j := range n.follows {
			m := s.nodes[j]
			want(j)
			for _, k := range m.follows {
				want(k)
			}
			if !m.pub && !m.nat && s.rng.Float64() < knowPublic {
				n.known = append(n.known, candidate{publicAddr(j), sched.Other, "operator"})
			}
			for _, p := range m.pubs {
				if p != n.n && !announced[p] {
					announced[p] = true
					n.known = append(n.known, candidate{publicAddr(p), sched.Pub, sched.FromMessage})
				}
			}
			if s.rng.Float64() < deadPubs {
				n.known = append(n.known, candidate{publicAddr(1<<20 + s.rng.IntN(1000)), sched.Pub, sched.FromMessage})
			}
		}
		slices.SortFunc(n.wants, func(a, b identity.ID) int { return bytes.Compare(a[:], b[:]) })
	}
	for _, n := range s.nodes {
		n.heads[n.id] = c.history
		if c.synced {
			for _, id := range n.wants {
				n.heads[id] = c.history
			}
		}
	}
	for _, n := range s.nodes {
		s.after(s.between(0, time.Minute), func() {
			if !n.pub && s.rng.Float64() < c.churn && n.hostile == honest {
				s.later(n, false)
				return
			}
			s.start(n)
			s.later(n, true)
		})
	}
	return s
}

// later turns a person's node off, or on, after a while: half of the time it is a machine that sleeps and wakes.
func (s *sim) later(n *node, off bool) {
	if s.c.churn == 0 || n.pub || n.hostile.acts() {
		return
	}
	mean := time.Duration(float64(s.c.cycle) * s.c.churn)
	if off {
		mean = s.c.cycle - mean
	}
	s.after(s.exp(mean), func() {
		if s.c.churn > 0 {
			if off {
				s.stop(n, s.rng.IntN(2) == 0)
			} else {
				s.start(n)
			}
		}
		s.later(n, !off)
	})
}

// calm ends the churn: everyone is turned on and stays.
func (s *sim) calm() {
	s.c.churn = 0
	for _, n := range s.nodes {
		s.after(s.between(0, 10*time.Second), func() { s.start(n) })
	}
}

func sorted(notes ebt.Notes) []identity.ID {
	ids := make([]identity.ID, 0, len(notes))
	for id := range notes {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b identity.ID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}
