package replicate

import (
	"maps"
	"sync"

	"charkha/identity"
)

// overrides is a Graph with what local programs asked for beside it: feeds that are wanted or not whatever the graph says, and
// blocks. They last until the node stops, as with npm ssb-ebt and ssb-replicate.
type overrides struct {
	Graph

	mu     sync.RWMutex
	wanted map[identity.ID]bool
	blocks map[[2]identity.ID]bool
}

// maxOverrides bounds each kind: local programs are trusted, but may be wrong.
const maxOverrides = 100_000

func (o *overrides) Wanted(feed identity.ID) bool {
	o.mu.RLock()
	want, ok := o.wanted[feed]
	o.mu.RUnlock()
	if ok {
		return want
	}
	return o.Graph.Wanted(feed)
}

func (o *overrides) WantedFeeds() []identity.ID {
	feeds := o.Graph.WantedFeeds()
	o.mu.RLock()
	extra := maps.Clone(o.wanted)
	o.mu.RUnlock()
	if len(extra) == 0 {
		return feeds
	}
	kept := feeds[:0:0]
	for _, id := range feeds {
		if want, ok := extra[id]; !ok || want {
			kept = append(kept, id)
		}
		delete(extra, id)
	}
	for id, want := range extra {
		if want {
			kept = append(kept, id)
		}
	}
	return kept
}

func (o *overrides) Blocks(author, peer identity.ID) bool {
	o.mu.RLock()
	block, ok := o.blocks[[2]identity.ID{author, peer}]
	o.mu.RUnlock()
	if ok {
		return block
	}
	return o.Graph.Blocks(author, peer)
}

// Request has a feed fetched, or no longer, whatever the follow graph says, until the node stops.
func (n *Network) Request(feed identity.ID, want bool) {
	o := n.overrides
	o.mu.Lock()
	if _, known := o.wanted[feed]; known || len(o.wanted) < maxOverrides {
		o.wanted[feed] = want
	}
	o.mu.Unlock()
	n.regraph()
}

// Block keeps an author's feed from a peer, or no longer, whatever the follow graph says, until the node stops.
func (n *Network) Block(author, peer identity.ID, block bool) {
	o := n.overrides
	o.mu.Lock()
	pair := [2]identity.ID{author, peer}
	if _, known := o.blocks[pair]; known || len(o.blocks) < maxOverrides {
		o.blocks[pair] = block
	}
	o.mu.Unlock()
	n.regraph()
}

// WantedFeeds lists the feeds that are fetched.
func (n *Network) WantedFeeds() []identity.ID { return n.o.Graph.WantedFeeds() }
