package replicate

import (
	"sync"
	"sync/atomic"
	"time"
)

// Progress is how far the exchange with the connected peers has come. What is missing is what peers with EBT say to have: others do not
// say.
type Progress struct {
	Feeds    int     `json:"feeds"`             // wanted feeds of which somebody says to have more
	Missing  int64   `json:"missing"`           // messages that are missing of them
	Fetched  int64   `json:"fetched"`           // messages that came from peers since the node was last up to date
	Verified int64   `json:"verified"`          // of these, how many are verified and stored
	Rate     float64 `json:"rate"`              // messages stored a second, over the last ten seconds
	Left     float64 `json:"leftSec,omitempty"` // seconds until nothing is missing, at that rate; 0: not known, or nothing is
}

// paceSamples are what the rate is measured over: the last of so many ticks.
const paceSamples = 5

// pace is the counters behind Progress.
type pace struct {
	fetched, stored atomic.Int64 // since Run began

	mu      sync.Mutex
	samples [paceSamples]paceSample // the newest last; none: zero
	behind  bool                    // something was missing at the last tick
	from    paceSample              // where the counters were when the node was last up to date
}

type paceSample struct {
	at              time.Time
	fetched, stored int64
}

func (p *pace) sample(now time.Time) paceSample {
	return paceSample{now, p.fetched.Load(), p.stored.Load()}
}

// tickPace takes a sample. Asking the brain what is missing takes long when there are many peers, so that an idle node does not.
func (n *Network) tickPace(now time.Time) {
	p := &n.pace
	p.mu.Lock()
	last := p.samples[paceSamples-1]
	s := p.sample(now)
	copy(p.samples[:], p.samples[1:])
	p.samples[paceSamples-1] = s
	look := p.behind || s.fetched != last.fetched
	p.mu.Unlock()
	if !look {
		return
	}
	_, missing := n.behind()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.behind = missing > 0; !p.behind {
		p.from = s
	}
}

func (n *Network) behind() (feeds int, messages int64) {
	n.brainMu.Lock()
	defer n.brainMu.Unlock()
	return n.brain.Behind()
}

// Progress tells what is missing, as far as the connected peers say, and how fast it comes.
func (n *Network) Progress() (p Progress) {
	p.Feeds, p.Missing = n.behind()
	c := &n.pace
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.sample(n.o.Now())
	p.Fetched, p.Verified = now.fetched-c.from.fetched, now.stored-c.from.stored
	for _, s := range c.samples {
		if s.at.IsZero() {
			continue
		}
		if d := now.at.Sub(s.at).Seconds(); d >= tickEvery.Seconds() {
			p.Rate = float64(now.stored-s.stored) / d
			break
		}
	}
	if p.Missing > 0 && p.Rate > 0 {
		p.Left = float64(p.Missing) / p.Rate
	}
	return p
}
