package replicate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
)

// Methods returns what peers may call. Local programs may, too.
func (n *Network) Methods() []muxrpc.Method {
	return append(n.tunnels.Methods(), []muxrpc.Method{
		{Name: "createHistoryStream", Kind: muxrpc.Source, Anonymous: true, Stream: n.createHistoryStream,
			Doc: "the messages of one feed {id} from a sequence {seq} on; live, old, limit, keys, values, reverse"},
		{Name: "ebt.replicate", Kind: muxrpc.Duplex, Anonymous: true, Stream: n.ebtReplicate, Patient: true, MaxBody: maxNotesBody,
			Doc: "exchange feeds by EBT {version: 3, format: classic}"},
		{Name: "ebt.clock", Kind: muxrpc.Async, Anonymous: true, Call: n.ebtClock, Doc: "{feed: highest sequence held} of the feeds that are exchanged"},
		{Name: "gossip.ping", Kind: muxrpc.Duplex, Anonymous: true, Stream: n.ping, Doc: "answer each number with our clock in milliseconds"},
		{Name: "conn.ping", Kind: muxrpc.Duplex, Anonymous: true, Stream: n.ping, Doc: "the same as gossip.ping"},
	}...)
}

// historyOptions are the options of createHistoryStream, as JS peers send them.
type historyOptions struct {
	ID       identity.ID
	From     int64 // the first sequence, included
	Limit    int   // -1: all
	Live     bool
	Old      bool
	Keys     bool
	Values   bool
	Reverse  bool
	SendSync bool // send {"sync":true} between old and live
}

// parseHistoryOptions reads {id, seq|sequence, limit, live, old, keys, values, reverse, sync}, or the old positional form
// id, seq, live. Numbers are JS numbers; null is absent.
func parseHistoryOptions(req *muxrpc.Request) (o historyOptions, err error) {
	o = historyOptions{Limit: -1, Old: true, Keys: true, Values: true}
	var first json.RawMessage
	var seq *float64
	var live *bool
	if err := req.Decode(&first, &seq, &live); err != nil {
		return o, err
	}
	if len(first) > 0 && first[0] == '"' {
		if o.ID, err = identity.ParseID(bytes.Trim(first, `"`)); err != nil {
			return o, fmt.Errorf("createHistoryStream: %w", err)
		}
		o.Live = live != nil && *live
	} else {
		var opts struct {
			ID       *identity.ID `json:"id"`
			Seq      *float64     `json:"seq"`
			Sequence *float64     `json:"sequence"`
			Limit    *float64     `json:"limit"`
			Live     *bool        `json:"live"`
			Old      *bool        `json:"old"`
			Keys     *bool        `json:"keys"`
			Values   *bool        `json:"values"`
			Reverse  *bool        `json:"reverse"`
			Sync     *bool        `json:"sync"`
		}
		if len(first) == 0 {
			first = json.RawMessage("{}")
		}
		if err := json.Unmarshal(first, &opts); err != nil {
			return o, fmt.Errorf("createHistoryStream: options: %w", err)
		}
		if opts.ID == nil {
			return o, errors.New("createHistoryStream: the option id is missing")
		}
		is := func(b *bool, otherwise bool) bool {
			if b == nil {
				return otherwise
			}
			return *b
		}
		o.ID = *opts.ID
		o.Live = is(opts.Live, false)
		o.Old, o.Keys, o.Values = is(opts.Old, true), is(opts.Keys, true), is(opts.Values, true)
		o.Reverse, o.SendSync = is(opts.Reverse, false), is(opts.Sync, false)
		if opts.Limit != nil && *opts.Limit >= 0 {
			o.Limit = int(min(*opts.Limit, math.MaxInt32))
		}
		if seq = opts.Sequence; seq == nil {
			seq = opts.Seq
		}
	}
	if seq != nil && *seq > 0 { // and not NaN, which JSON cannot say
		o.From = int64(min(math.Ceil(*seq), math.MaxInt32))
	}
	if !o.Old && !o.Live {
		o.Live = true // "only what is new" makes no sense otherwise (old:false implies live)
	}
	return o, nil
}

// createHistoryStream sends a feed. Whom the author blocks gets an empty stream, and is cut off when a block comes by: the
// answer is that of a peer who has nothing.
func (n *Network) createHistoryStream(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, err := parseHistoryOptions(req)
	if err != nil {
		return err
	}
	if err := n.serveHistory(ctx, o, req, s); err != errCold {
		return err
	}
	return nil
}

// errCold ends a stream whose feed's author blocks the peer.
var errCold = errors.New("the author blocks the peer")

func (n *Network) serveHistory(ctx context.Context, o historyOptions, req *muxrpc.Request, s *muxrpc.Stream) error {
	peer, _ := req.Peer.(*session)
	cold := func() bool { return peer != nil && n.o.Graph.Blocks(o.ID, peer.id) }
	if cold() {
		return errCold
	}
	gate := gate{n: n, feed: o.ID}
	if peer != nil {
		gate.peer = peer.id
	}
	sub := n.live.subscribe(o.ID, o.Live)
	defer n.live.unsubscribe(o.ID, sub)
	left := o.Limit
	next := max(o.From, 1)
	send := func(m log.Message) error {
		var out []byte
		switch {
		case o.Keys && o.Values:
			out = m.AppendKVT(nil)
		case o.Values:
			out = m.Value()
		default:
			out, _ = json.Marshal(m.Key())
		}
		if err := s.SendJSON(out); err != nil {
			return err
		}
		if peer != nil {
			peer.sent.Add(1)
		}
		if left > 0 {
			left--
		}
		return nil
	}
	// part sends what there is from next on.
	part := func(reverse bool) error {
		if left == 0 {
			return nil
		}
		if peer != nil {
			defer peer.sending()()
		}
		r := log.Range{From: next, Reverse: reverse, Limit: max(left, 0)}
		for m, err := range n.o.Log.Feed(o.ID, r) {
			if err != nil {
				return err
			}
			if peer != nil {
				open, err := gate.open(&m)
				if err != nil {
					return err
				}
				if !open {
					return errCold
				}
			}
			if err := send(m); err != nil {
				return err
			}
			next = max(next, m.Sequence()+1)
		}
		return nil
	}
	if o.Old {
		if err := part(o.Reverse); err != nil {
			return err
		}
	} else if head, ok := n.o.Log.Head(o.ID); ok {
		next = max(next, head.Sequence+1)
	}
	if !o.Live || left == 0 {
		return nil
	}
	if o.SendSync && o.Old {
		if err := s.SendJSON([]byte(`{"sync":true}`)); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sub.news:
		}
		if cold() {
			return errCold
		}
		if err := part(false); err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
	}
}

// liveHub wakes live streams when their feed has news: one follower of the log serves them all.
type liveHub struct {
	mu    sync.Mutex
	feeds map[identity.ID]map[*liveSub]struct{}
}

type liveSub struct {
	news chan struct{} // of one place: it says "look", not what
}

func (h *liveHub) subscribe(id identity.ID, live bool) *liveSub {
	sub := &liveSub{news: make(chan struct{}, 1)}
	if !live {
		return sub
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.feeds[id] == nil {
		h.feeds[id] = map[*liveSub]struct{}{}
	}
	h.feeds[id][sub] = struct{}{}
	return sub
}

func (h *liveHub) unsubscribe(id identity.ID, sub *liveSub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.feeds[id], sub)
	if len(h.feeds[id]) == 0 {
		delete(h.feeds, id)
	}
}

func (h *liveHub) news(id identity.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for sub := range h.feeds[id] {
		sub.wake()
	}
}

// recheck wakes all streams, so that they look whether they are still welcome.
func (h *liveHub) recheck() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, subs := range h.feeds {
		for sub := range subs {
			sub.wake()
		}
	}
}

func (sub *liveSub) wake() {
	select {
	case sub.news <- struct{}{}:
	default:
	}
}

const (
	// historyParallel is how many feeds are fetched from a peer at once.
	historyParallel = 10
	// historyLive is how many live streams are open to a peer at once. Feeds beyond that are looked at again every
	// historyEvery.
	historyLive  = 200
	historyEvery = time.Minute
)

// history fetches the wanted feeds with createHistoryStream, from a peer without EBT: first what there is, a few feeds at a
// time, then with live streams, as many as are allowed; the other feeds again and again.
func (s *session) history(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	live := map[identity.ID]context.CancelFunc{} // live streams that are open
	done := map[identity.ID]bool{}               // looked at since the last time when all were
	refused := map[identity.ID]bool{}            // it sent what the log does not take
	ended := make(chan identity.ID)              // a live stream has ended
	every := time.NewTicker(historyEvery)
	defer every.Stop()
	for {
		changed := s.graphChanged()
		var due []identity.ID
		for _, feed := range s.n.o.Graph.WantedFeeds() {
			if live[feed] == nil && !done[feed] && !refused[feed] && s.mayAsk(feed) {
				due = append(due, feed)
			}
		}
		for feed, stop := range live {
			if !s.mayAsk(feed) {
				stop()
			}
		}
		slices.SortFunc(due, func(a, b identity.ID) int { // our own feed comes first
			if (a == s.n.self) != (b == s.n.self) {
				return map[bool]int{true: -1, false: 1}[a == s.n.self]
			}
			return slices.Compare(a[:], b[:])
		})
		var mu sync.Mutex
		var fetch errgroup.Group
		fetch.SetLimit(historyParallel)
		for _, feed := range due {
			if ctx.Err() != nil {
				break
			}
			done[feed] = true
			fetch.Go(func() error {
				err := s.fetch(ctx, feed, false)
				if errors.Is(err, errRefusedFeed) {
					mu.Lock()
					refused[feed] = true
					mu.Unlock()
				} else if err != nil && ctx.Err() == nil {
					s.n.log.Debug("history stream", "peer", s.id, "feed", feed, "err", err)
				}
				return nil
			})
		}
		_ = fetch.Wait()
		for _, feed := range due {
			if len(live) >= historyLive || ctx.Err() != nil {
				break
			}
			if refused[feed] {
				continue
			}
			fctx, stop := context.WithCancel(ctx)
			live[feed] = stop
			g.Go(func() {
				defer stop()
				_ = s.fetch(fctx, feed, true) // a refusal is found again, and remembered, by the next look
				select {
				case ended <- feed:
				case <-ctx.Done():
				}
			})
		}
	wait:
		for {
			select {
			case feed := <-ended:
				delete(live, feed)
			case <-changed:
				break wait
			case <-every.C:
				clear(done)
				break wait
			case <-s.opened: // the peer speaks EBT after all
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// mayAsk reports whether the peer may be asked for a feed.
func (s *session) mayAsk(feed identity.ID) bool {
	return s.n.o.Graph.Wanted(feed) && !s.n.o.Graph.Blocks(feed, s.id)
}

// errRefusedFeed says that the peer sent what the log does not take.
var errRefusedFeed = errors.New("the peer's copy of the feed was refused")

// fetch asks for what follows our head of a feed and appends it, until there is no more.
func (s *session) fetch(ctx context.Context, feed identity.ID, live bool) error {
	for {
		before, _ := s.n.o.Log.Head(feed)
		from := before.Sequence + 1
		own := feed == s.n.self && !live && !s.n.o.Log.Confirmed(feed)
		if own {
			from = max(before.Sequence, 1) // our head, too: only who has it can tell that nothing follows
		}
		last, err := s.fetchOnce(ctx, feed, from, live)
		if err != nil {
			return err
		}
		head, _ := s.n.o.Log.Head(feed)
		if own && last > 0 && last == head.Sequence {
			s.n.o.OwnFetched()
		}
		if head.Sequence >= last || head.Sequence == before.Sequence {
			return nil
		}
	}
}

// fetchOnce is one history stream from a sequence on. It returns the highest sequence that came, 0 when none did. Our head is below
// that when messages were left over whose predecessors did not come, or came too late.
func (s *session) fetchOnce(ctx context.Context, feed identity.ID, from int64, live bool) (last int64, err error) {
	n := s.n
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opts := struct {
		ID   identity.ID `json:"id"`
		Seq  int64       `json:"seq"`
		Live bool        `json:"live"`
		Keys bool        `json:"keys"`
	}{ID: feed, Seq: from, Live: live}
	stream, err := s.conn.Open(ctx, muxrpc.CallOptions{Kind: muxrpc.Source, Patient: true}, "createHistoryStream", opts)
	if err != nil {
		return last, err
	}
	defer stream.Close()
	var early early // ssb-db2 sends messages of one millisecond in any order
	for {
		bodies, err := stream.RecvBatch(drainMost)
		head, _ := n.o.Log.Head(feed)
		raws, next := early.take(nil, feed, head.Sequence+1)
		for _, b := range bodies {
			raw, ok := valueOf(b.Data)
			if !ok {
				continue // {"sync":true}
			}
			author, seq, ok := log.Peek(raw)
			last = max(last, seq)
			switch {
			case ok && author != feed:
				err := fmt.Errorf("%w: a message of %s was sent in its place", errRefusedFeed, author)
				s.refuse(refusal{s.id, feed, "not asked for"}, 1, seq, err)
				if s.bad(1) {
					s.end(errTooBad)
				}
				return last, err
			case ok && seq > next:
				early.put(feed, seq, raw)
			case ok && seq == next:
				raws = append(raws, raw)
				raws, next = early.take(raws, feed, next+1)
			default: // a duplicate, a fork, or no message at all: the log tells
				raws = append(raws, raw)
			}
		}
		if len(raws) > 0 {
			if !s.mayAsk(feed) {
				return 0, nil
			}
			refusals, err := s.ingest(raws)
			if err != nil {
				s.end(err)
				return last, err
			}
			if refusals > 0 {
				return last, errRefusedFeed
			}
		}
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return last, err
		}
	}
}

// valueOf finds the message in what a history stream sends: the message itself, or a KVT around it.
func valueOf(b []byte) ([]byte, bool) {
	if _, _, ok := log.Peek(b); ok {
		return b, true
	}
	var kvt struct {
		Sync  bool            `json:"sync"`
		Value json.RawMessage `json:"value"`
	}
	if json.Unmarshal(b, &kvt) != nil || kvt.Sync {
		return b, !kvt.Sync
	}
	if len(kvt.Value) > 0 && kvt.Value[0] == '{' {
		return kvt.Value, true
	}
	return b, true
}
