package replicate

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"charkha/identity"
	"charkha/log"
)

const (
	// askHeldFor bounds how long a peer may take to show a message that it is asked for, and askHeldEvery is how often it is
	// asked for one of the same feed.
	askHeldFor   = 2 * time.Second
	askHeldEvery = time.Second
	// maxAskHeld is how many peers are asked at once.
	maxAskHeld = 64
	// maxHeld is of how many feeds is remembered what a peer showed.
	maxHeld = 256
)

// shown is what a peer showed of a feed when it was asked.
type shown struct {
	seq   int64     // it has this
	asked time.Time // last
}

// shows reports whether the peer has a message, as far as it shows it: JS peers do not say over EBT what arrived. It is asked for
// that message with createHistoryStream, which every SSB peer serves.
func (s *session) shows(ctx context.Context, feed identity.ID, seq int64) bool {
	now := s.n.o.Now()
	s.mu.Lock()
	was := s.held[feed]
	if was.seq >= seq || now.Sub(was.asked) < askHeldEvery {
		s.mu.Unlock()
		return was.seq >= seq
	}
	if s.held == nil || len(s.held) >= maxHeld {
		s.held = map[identity.ID]shown{}
	}
	s.held[feed] = shown{was.seq, now}
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, askHeldFor)
	defer cancel()
	args := map[string]any{"id": feed, "seq": seq, "limit": 1, "live": false, "keys": false}
	stream, err := s.conn.Source(ctx, "createHistoryStream", args)
	if err != nil {
		return false
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	defer stop()
	body, err := stream.Recv()
	if err != nil {
		return false
	}
	if author, has, ok := log.Peek(body.Data); !ok || author != feed || has < seq {
		return false
	}
	s.n.brainMu.Lock()
	s.n.brain.Holds(s.id, feed, seq)
	s.n.brainMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[feed] = shown{seq, now}
	return true
}

// askHolders asks those of the connected peers for a message who do not say to have it, and returns those who do.
func (n *Network) askHolders(ctx context.Context, feed identity.ID, seq int64, known map[identity.ID]bool) (have []identity.ID) {
	n.mu.Lock()
	var ask []*session
	for id, s := range n.sessions {
		// Whom the author blocks has nothing of the feed from us, and does not learn from us that there is anything.
		if !known[id] && !n.o.Graph.Blocks(feed, id) {
			ask = append(ask, s)
		}
	}
	n.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(maxAskHeld)
	var mu sync.Mutex
	for _, s := range ask {
		g.Go(func() error {
			if s.shows(ctx, feed, seq) {
				mu.Lock()
				defer mu.Unlock()
				have = append(have, s.id)
			}
			return nil
		})
	}
	_ = g.Wait() // nobody fails
	return have
}
