package replicate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"charkha/muxrpc"
)

const (
	// volleyEvery is how long a side of npm pull-ping waits, after it has answered, before it sends again: what JS peers use.
	volleyEvery = 5 * time.Minute
	// quietMost is for how long nothing may come from a peer before it is asked for a sign of life, and answerMost how long that may
	// take.
	quietMost  = time.Minute
	answerMost = 30 * time.Second
)

var errSilent = fmt.Errorf("the peer fell silent: nothing came for %s, and no answer to a ping in %s", quietMost, answerMost)

// ping serves npm pull-ping: who has got a number answers with his own clock in milliseconds, and is the first to send again, some
// minutes later.
func (n *Network) ping(ctx context.Context, _ *muxrpc.Request, stream *muxrpc.Stream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	got := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		for {
			if _, err := stream.Recv(); err != nil {
				ended <- err
				return
			}
			select {
			case got <- struct{}{}:
			case <-ctx.Done():
				ended <- ctx.Err()
				return
			}
		}
	}()
	serve := time.NewTimer(volleyEvery)
	serve.Stop()
	defer serve.Stop()
	served := false
	for {
		select {
		case <-ctx.Done():
			stream.Close() // the receiver ends
			if err := <-ended; !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		case <-got:
			if served {
				served = false
				continue
			}
			serve.Reset(volleyEvery)
		case <-serve.C:
			served = true
		}
		if err := stream.SendJSON(n.clock()); err != nil {
			cancel()
		}
	}
}

func (n *Network) clock() []byte { return fmt.Appendf(nil, "%d", n.o.Now().UnixMilli()) }

// keepAlive asks the peer for a sign of life when nothing came from it for a while, and ends the connection when none comes. It
// measures how far away the peer is, and how wrong its clock.
func (s *session) keepAlive(ctx context.Context) {
	ticker := time.NewTicker(quietMost / 2)
	defer ticker.Stop()
	s.probe(ctx)
	heard, at := s.conn.Stats().BytesIn, s.n.o.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := s.n.o.Now()
		if in := s.conn.Stats().BytesIn; in != heard {
			heard, at = in, now
			continue
		}
		if now.Sub(at) < quietMost {
			continue
		}
		s.probe(ctx)
		if s.conn.Stats().BytesIn == heard && ctx.Err() == nil {
			s.end(errSilent)
			return
		}
	}
}

// probe pings the peer once. Any answer is a sign of life, also that it knows no ping.
func (s *session) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, answerMost)
	defer cancel()
	stream, err := s.conn.Duplex(ctx, "gossip.ping", map[string]any{"timeout": volleyEvery.Milliseconds()})
	if err != nil {
		return
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	defer stop()
	sent := s.n.o.Now()
	if stream.SendJSON(s.n.clock()) != nil {
		return
	}
	body, err := stream.Recv()
	if err != nil {
		return
	}
	var theirs *float64
	if json.Unmarshal(body.Data, &theirs) != nil || theirs == nil {
		return // a sign of life, but no time
	}
	got := s.n.o.Now()
	rtt := got.Sub(sent)
	middle := float64(sent.Add(rtt/2).UnixMicro()) / 1000
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinged, s.rtt = true, rtt
	s.skew = time.Duration(min(max((*theirs-middle)*1e6, -maxSkew), maxSkew))
}

// maxSkew bounds what is told of a clock, in nanoseconds: a century.
const maxSkew = 100 * 365 * 24 * 3600 * 1e9
