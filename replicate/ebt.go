package replicate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/replicate/internal/ebt"
	"charkha/replicate/internal/sched"
)

const (
	// maxNotesBody is the most bytes of one body on an EBT stream: JS peers say all that they have in one, at some 60 bytes a
	// feed.
	maxNotesBody = 4 << 20
	// maxNotesEntries bounds the feeds that one body may name.
	maxNotesEntries = 100_000
	// maxMessage is the most bytes of one message as a peer may spell it: one of 8192 units takes some 50 KB when each is
	// written as an escape.
	maxMessage = 64 << 10
	// drainMost is how many bodies are taken from a stream at once.
	drainMost = 4096
)

// ebtOptions is the argument of ebt.replicate.
type ebtOptions struct {
	Version int    `json:"version"`
	Format  string `json:"format,omitempty"`
}

// openEBT opens EBT as the dialling side and exchanges until it ends.
func (s *session) openEBT(ctx context.Context) error {
	stream, err := s.conn.Open(ctx, muxrpc.CallOptions{Kind: muxrpc.Duplex, Patient: true, MaxBody: maxNotesBody},
		"ebt.replicate", ebtOptions{Version: 3, Format: "classic"})
	if err != nil {
		return err
	}
	defer stream.Close()
	return s.exchange(ctx, stream, true)
}

// ebtReplicate serves ebt.replicate to a peer who dialled.
func (n *Network) ebtReplicate(ctx context.Context, req *muxrpc.Request, stream *muxrpc.Stream) error {
	if err := parseEBTOptions(req); err != nil {
		return err
	}
	s, ok := req.Peer.(*session)
	if !ok {
		return errors.New("ebt.replicate is for peers")
	}
	return s.exchange(ctx, stream, false)
}

// ebtClock answers with what we hold of the feeds that we exchange.
func (n *Network) ebtClock(_ context.Context, req *muxrpc.Request) (any, error) {
	var o struct {
		Format string `json:"format"`
	}
	if err := req.Decode(&o); err != nil {
		return nil, err
	}
	if o.Format != "" && o.Format != "classic" {
		//lint:ignore ST1005 the text is that of npm ssb-ebt
		return nil, fmt.Errorf("Unknown format: %.40s", o.Format)
	}
	clock := map[identity.ID]int64{}
	for _, id := range n.o.Graph.WantedFeeds() {
		if head, ok := n.o.Log.Head(id); ok {
			clock[id] = head.Sequence
		}
	}
	return clock, nil
}

// parseEBTOptions refuses all but version 3 of the classic format.
func parseEBTOptions(req *muxrpc.Request) error {
	var o ebtOptions
	if err := req.Decode(&o); err != nil {
		return err
	}
	if o.Version != 3 {
		return errors.New("expected ebt.replicate({version: 3})")
	}
	if o.Format != "" && o.Format != "classic" {
		//lint:ignore ST1005 the text is that of npm ssb-ebt
		return fmt.Errorf("Unknown format: %.40s", o.Format)
	}
	return nil
}

// exchange is one EBT connection: notes and messages both ways.
func (s *session) exchange(ctx context.Context, stream *muxrpc.Stream, dialled bool) error {
	n := s.n
	begun := func() error { // on the first sign of life
		if s.choose("ebt") {
			return nil
		}
		return errors.New("EBT is open already")
	}
	if !dialled {
		if err := begun(); err != nil {
			return err
		}
	}
	remembered := n.loadClock(s.id)
	wake := make(chan struct{}, 1)
	n.brainMu.Lock()
	if n.brain.Connected(s.id) {
		n.brainMu.Unlock()
		return errors.New("EBT is open already")
	}
	n.wakers[s.id] = wake
	n.brainMu.Unlock()
	n.event(func(b *ebt.Brain, now time.Time) { b.Connect(now, s.id, remembered, dialled) })
	defer func() {
		var clock ebt.Clock
		n.event(func(b *ebt.Brain, now time.Time) {
			delete(n.wakers, s.id)
			clock = b.Disconnect(now, s.id)
		})
		n.saveClock(s.id, clock)
	}()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	owed := make(chan []identity.ID)
	g.Go(func() error {
		defer cancel()
		defer stream.Close()
		return s.send(ctx, stream, wake, owed)
	})
	g.Go(func() error {
		s.fetchOwed(ctx, owed)
		return nil
	})
	g.Go(func() error {
		defer cancel()
		in := intake{s: s, log: n.o.Log.NewIntake(), stop: func(err error) {
			_ = stream.CloseSend(err) // so that the peer learns the reason
			s.end(err)
		}}
		defer in.settle()
		for first := true; ; first = false {
			bodies, err := stream.RecvBatch(drainMost)
			if first && len(bodies) > 0 && dialled {
				if err := begun(); err != nil {
					return err
				}
			}
			if terr := in.take(bodies); terr != nil {
				_ = stream.CloseSend(terr) // so that the peer learns the reason
				return terr
			}
			if errors.Is(err, io.EOF) {
				return in.settle()
			}
			if err != nil {
				return err
			}
		}
	})
	err := g.Wait()
	if s.speaks("ebt") {
		// Neither side opens EBT twice on a connection: without it, this one is of no use.
		if err == nil {
			err = errors.New("the peer ended EBT")
		}
		s.end(err)
	}
	return err
}

// fetchOwed fetches feeds by history stream that the peer claims to have and does not send over EBT.
//
// epidemic-broadcast-trees up to version 7 (ssb-server 16) never believes that a peer has less than it once said. A node whose
// log lost something, or was lost as a whole, would wait for ever. Our own feed is asked for at once while it may not be
// published to.
func (s *session) fetchOwed(ctx context.Context, owed <-chan []identity.ID) {
	var feeds []identity.ID
	if !s.n.o.Log.Confirmed(s.n.self) {
		feeds = []identity.ID{s.n.self}
	}
	for {
		for _, feed := range feeds {
			if !s.mayAsk(feed) {
				continue
			}
			if err := s.fetch(ctx, feed, false); err != nil && ctx.Err() == nil {
				s.n.log.Debug("history stream", "peer", s.id, "feed", feed, "err", err)
			}
		}
		select {
		case feeds = <-owed:
		case <-ctx.Done():
			return
		}
	}
}

// send says and sends what the brain has for the peer. The feeds that the peer owes go to owed, when somebody takes them.
func (s *session) send(ctx context.Context, stream *muxrpc.Stream, wake <-chan struct{}, owed chan<- []identity.ID) error {
	n := s.n
	for ctx.Err() == nil {
		n.brainMu.Lock()
		now := n.o.Now()
		notes, send, later := n.brain.Next(now, s.id)
		stalled := n.brain.Owed(s.id)
		n.brainMu.Unlock()
		if len(stalled) > 0 {
			select {
			case owed <- stalled:
			default: // some are being fetched: what is owed still will stall again
			}
		}
		if notes != nil {
			for piece := range notes.JSON() {
				if err := stream.SendJSON(piece); err != nil {
					return err
				}
			}
		}
		if send.To > 0 {
			if err := s.sendRange(stream, send); err != nil {
				return err
			}
		}
		if notes != nil || send.To > 0 {
			continue
		}
		var timer <-chan time.Time
		if !later.IsZero() {
			t := time.NewTimer(later.Sub(now))
			timer = t.C
		}
		select {
		case <-wake:
		case <-timer:
		case <-ctx.Done():
		}
	}
	return nil
}

// sendRange sends messages of a feed, as long as the peer may have them.
func (s *session) sendRange(stream *muxrpc.Stream, send ebt.Send) error {
	n := s.n
	defer s.sending()()
	gate := gate{n: n, feed: send.Feed, peer: s.id}
	for m, err := range n.o.Log.Feed(send.Feed, log.Range{From: send.From, To: send.To}) {
		if err != nil {
			return err
		}
		open, err := gate.open(&m)
		if err != nil {
			return err
		}
		if !open {
			n.event(func(b *ebt.Brain, _ time.Time) { b.Unsent(s.id, send.Feed, m.Sequence()) })
			return nil
		}
		if err := stream.SendJSON(m.Value()); err != nil {
			return err
		}
		s.sent.Add(1)
	}
	return nil
}

// intake takes in what a peer sends on EBT. It belongs to the receiving goroutine. While much comes, one part of it is checked while
// the part before it is committed.
type intake struct {
	s     *session
	log   *log.Intake
	stop  func(error) // ends the exchange
	raws  [][]byte
	next  map[identity.ID]int64 // the sequence that the next message of a feed should have
	early early
	asked map[identity.ID]int64 // where a feed was when it was asked for again

	peeked []peeked // of the bodies that take was given

	committing chan error  // tells the end of the part that is being committed; nil: there is none
	refused    atomic.Bool // some of it was not stored: next is wrong
}

// peeked is what log.Peek says of a body.
type peeked struct {
	author identity.ID
	seq    int64
	ok     bool
}

// overlapLeast is how many messages that wait are worth a goroutine of their own.
const overlapLeast = 512

// take takes bodies in their order.
func (in *intake) take(bodies []muxrpc.Body) error {
	n := in.s.n
	if in.next == nil {
		in.next = map[identity.ID]int64{}
		in.asked = map[identity.ID]int64{}
	}
	if in.refused.Load() || len(in.committing) > 0 {
		if err := in.settle(); err != nil {
			return err
		}
	}
	if in.committing == nil {
		clear(in.next)
	}
	in.raws = in.raws[:0]
	var gaps []identity.ID
	in.peeked = in.peeked[:0]
	for _, b := range bodies { // before the lock: an odd message is scanned for it
		author, seq, ok := log.Peek(b.Data)
		in.peeked = append(in.peeked, peeked{author, seq, ok})
	}
	heads := in.peeked
	for len(bodies) > 0 {
		// A run of messages under one lock, then what is no message.
		run := 0
		n.brainMu.Lock()
		now := n.o.Now()
		for ; run < len(bodies); run++ {
			author, seq := heads[run].author, heads[run].seq
			if !heads[run].ok || len(bodies[run].Data) > maxMessage {
				break
			}
			if !n.brain.Received(now, in.s.id, author, seq) {
				continue // nobody asked for it
			}
			next := in.next[author]
			if next == 0 {
				next = n.brain.Head(author) + 1
			}
			switch {
			case seq == next:
				in.raws = append(in.raws, bodies[run].Data)
				in.raws, next = in.early.take(in.raws, author, next+1)
			case seq > next:
				in.early.put(author, seq, bodies[run].Data)
				gaps = append(gaps, author)
			default: // a duplicate, or the other branch of a fork: the log tells
				in.raws = append(in.raws, bodies[run].Data)
			}
			in.next[author] = next
		}
		n.brainMu.Unlock()
		bodies, heads = bodies[run:], heads[run:]
		if len(bodies) == 0 {
			break
		}
		body, author, seq, ok := bodies[0].Data, heads[0].author, heads[0].seq, heads[0].ok
		bodies, heads = bodies[1:], heads[1:]
		var notes ebt.Notes
		var err error
		if ok {
			err = fmt.Errorf("a message of %d bytes", len(body))
		} else if notes, err = ebt.ParseNotes(body, maxNotesEntries); err != nil {
			err = fmt.Errorf("neither notes nor a message: %w", err)
		}
		if err != nil {
			in.s.refuse(refusal{in.s.id, author, log.Invalid.String()}, 1, seq, err)
			if in.s.bad(1) {
				return errTooBad
			}
			continue
		}
		if err := in.flush(); err != nil {
			return err
		}
		if err := in.settle(); err != nil {
			return err
		}
		n.event(func(b *ebt.Brain, now time.Time) { b.Notes(now, in.s.id, notes) })
		n.checkOwn()
	}
	if err := in.flush(); err != nil {
		return err
	}
	if len(gaps) == 0 {
		return nil
	}
	if err := in.settle(); err != nil {
		return err
	}
	for _, author := range gaps {
		if len(in.early.feeds[author]) == 0 {
			continue
		}
		n.event(func(b *ebt.Brain, now time.Time) {
			if head := b.Head(author); in.asked[author] != head+1 {
				in.asked[author] = head + 1
				b.AskAgain(now, in.s.id, author)
			}
		})
	}
	return nil
}

// flush appends what was gathered to the log, or has it appended when it is much.
func (in *intake) flush() error {
	switch {
	case len(in.raws) == 0:
		return nil
	case len(in.raws) < overlapLeast:
		if err := in.settle(); err != nil {
			return err
		}
		_, err := in.s.ingest(in.raws)
		in.raws = in.raws[:0]
		clear(in.next)
		return err
	}
	raws := in.raws
	in.raws = nil
	checked := in.log.Check(raws)
	if err := in.settle(); err != nil {
		return err
	}
	done := make(chan error, 1)
	in.committing = done
	go func() {
		results, err := checked.Append()
		if err == nil {
			var refusals int
			if refusals, err = in.s.took(raws, results); refusals > 0 {
				in.refused.Store(true)
			}
		}
		if err != nil {
			in.stop(err)
		}
		done <- err // last: settle waits for all of this
	}()
	return nil
}

// settle waits for what is being committed.
func (in *intake) settle() error {
	if in.committing == nil {
		return nil
	}
	err := <-in.committing
	in.committing = nil
	if in.refused.Swap(false) {
		clear(in.next)
	}
	return err
}

// bad counts messages that nobody honest sends; true: too many.
func (s *session) bad(n int64) bool { return s.invalid.Add(n) > maxInvalid }

var errTooBad = fmt.Errorf("it sent more than %d invalid messages", maxInvalid)

// refuse counts n messages that are not taken, for a reason, and says so.
func (s *session) refuse(k refusal, n, seq int64, why error) {
	s.refused.Add(n)
	if total, tell := s.n.refusals.add(k, n); tell {
		s.n.log.Warn("message refused", "peer", k.peer, "feed", k.feed, "seq", seq, "status", k.status, "err", why, "count", total)
	}
}

// ingest appends messages that the peer sent to the log, and is like took else.
func (s *session) ingest(raws [][]byte) (refusals int, err error) {
	results, err := s.n.o.Log.Append(raws)
	if err != nil {
		return 0, err
	}
	return s.took(raws, results)
}

// took tells the brain what became of messages that the peer sent and the log was given. It returns how many the log refused. An
// error ends the session.
func (s *session) took(raws [][]byte, results []log.Result) (refusals int, err error) {
	n := s.n
	n.pace.fetched.Add(int64(len(raws)))
	type first struct {
		count, seq int64
		err        error
	}
	heads := map[identity.ID]int64{}
	refused := map[refusal]first{}
	bad, stored := int64(0), 0
	for i := range results {
		r := &results[i]
		switch r.Status {
		case log.Stored:
			stored++
			heads[r.Author] = r.Sequence
		case log.Duplicate, log.Gap:
		default:
			refusals++
			author, seq := r.Author, r.Sequence
			if author.IsZero() {
				author, seq, _ = log.Peek(raws[i])
			}
			if r.Status == log.Invalid {
				bad++
			}
			k := refusal{s.id, author, r.Status.String()}
			f, ok := refused[k]
			if !ok {
				f.seq, f.err = seq, r.Err
			}
			f.count++
			refused[k] = f
		}
	}
	for k, f := range refused {
		s.refuse(k, f.count, f.seq, f.err)
	}
	n.event(func(b *ebt.Brain, now time.Time) {
		for author, head := range heads {
			b.Stored(now, author, head, s.id)
		}
		for k := range refused {
			b.Refused(now, s.id, k.feed)
		}
	})
	s.received.Add(int64(stored))
	n.pace.stored.Add(int64(stored))
	if stored > 0 { // duplicates are no progress
		n.plan(func(b *sched.Scheduler, now time.Time) { b.News(now, s.id, stored) })
	}
	n.checkOwn()
	if s.bad(bad) {
		return refusals, errTooBad
	}
	return refusals, nil
}

// checkOwn tells when a peer's copy of our own feed was fetched whole. A peer that claims less than we hold knows nothing of what
// may follow.
func (n *Network) checkOwn() {
	if n.o.Log.Confirmed(n.self) {
		return
	}
	n.brainMu.Lock()
	claimed, _ := n.brain.Claimed(n.self)
	n.brainMu.Unlock()
	if head, ok := n.o.Log.Head(n.self); ok && claimed > 0 && head.Sequence == claimed {
		n.o.OwnFetched()
	}
}

// clockFile is where what a peer has is kept.
func (n *Network) clockFile(id identity.ID) string {
	name := strings.NewReplacer("/", "_", "+", "-").Replace(id.String()[1:45])
	return filepath.Join(n.o.Dir, "ebt", name+".json")
}

// loadClock reads what a peer was known to have. Without it, more is said than needs to be.
func (n *Network) loadClock(id identity.ID) ebt.Clock {
	data, err := os.ReadFile(n.clockFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var clock ebt.Clock
	if err == nil {
		err = json.Unmarshal(data, &clock)
	}
	if err != nil {
		n.log.Warn("what the peer has is not known any more", "peer", id, "err", err)
		return nil
	}
	return clock
}

// maxClocks is with how many peers remembered strangers are not remembered any more: anybody can make keys and connect.
const maxClocks = 4096

// saveClock keeps what a peer has.
func (n *Network) saveClock(id identity.ID, clock ebt.Clock) {
	file := n.clockFile(id)
	if !n.o.Graph.Wanted(id) {
		if files, err := os.ReadDir(filepath.Dir(file)); err == nil && len(files) >= maxClocks {
			return
		}
	}
	data, err := json.Marshal(clock)
	if err == nil {
		err = replaceFile(file, data)
	}
	if err != nil {
		n.log.Warn("what the peer has cannot be kept", "peer", id, "err", err)
	}
}
