package index

import (
	"iter"

	"charkha/identity"
)

// Relation is what one feed last said of another, in the numbers of ssb-friends: 1 it follows, -1 it blocks, -2 neither, any more.
type Relation int8

// Graph yields who said what of whom. It holds a lock: do little in between.
func (x *Index) Graph() iter.Seq2[[2]identity.ID, Relation] {
	return func(yield func([2]identity.ID, Relation) bool) {
		c := x.contacts
		c.mu.RLock()
		defer c.mu.RUnlock()
		for from, out := range c.graph.out {
			for to, e := range out {
				if !yield([2]identity.ID{c.graph.ids[from], c.graph.ids[to]}, Relation(e)) {
					return
				}
			}
		}
	}
}

// Relations yields what one feed says of others.
func (x *Index) Relations(from identity.ID) iter.Seq2[identity.ID, Relation] {
	return func(yield func(identity.ID, Relation) bool) {
		c := x.contacts
		c.mu.RLock()
		defer c.mu.RUnlock()
		n, ok := c.graph.numbers[from]
		if !ok {
			return
		}
		for to, e := range c.graph.out[n] {
			if !yield(c.graph.ids[to], Relation(e)) {
				return
			}
		}
	}
}

// HopsFrom measures distances as Hops does, but from any feed, up to most steps; reverse follows the graph backwards: how far others
// are from it who look for it.
func (x *Index) HopsFrom(start identity.ID, most int, reverse bool) map[identity.ID]int {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := map[identity.ID]int{start: 0}
	from, ok := c.graph.numbers[start]
	if !ok {
		return all
	}
	g := &c.graph
	if reverse {
		g = g.turned()
	}
	for n, d := range g.distances(from, min(most, maxHops)) {
		if d != unknown {
			all[g.ids[n]] = int(d)
		}
	}
	return all
}

// turned is the graph with all edges the other way round.
func (g *graph) turned() *graph {
	t := &graph{numbers: g.numbers, ids: g.ids, out: make([]map[uint32]edge, len(g.ids))}
	for from, out := range g.out {
		for to, e := range out {
			if t.out[to] == nil {
				t.out[to] = map[uint32]edge{}
			}
			t.out[to][uint32(from)] = e
		}
	}
	return t
}

// GraphChanged returns a channel that is closed when anybody says something else of anybody. Ask for it before Graph.
func (x *Index) GraphChanged() <-chan struct{} {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.edges
}
