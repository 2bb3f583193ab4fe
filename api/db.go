package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
)

func (a *API) db() []muxrpc.Method {
	feed := args(feedArg)
	return []muxrpc.Method{
		{Name: "whoami", Kind: muxrpc.Sync, Doc: "the node's feed id, as {id}", Call: a.whoami},
		{Name: "version", Kind: muxrpc.Sync, Doc: "the version of the node", Call: a.version},
		{Name: "publish", Kind: muxrpc.Async, Doc: "sign content as the next message of the node's own feed; answers with the message", Args: args(
			need("content", "object|string", "what to publish, with a type of 3 to 52 characters; for its recps only, if it names any; a string is content that is encrypted already")), Call: a.publish},
		{Name: "get", Kind: muxrpc.Async, Doc: "a message's value, by its id or place", Args: args(
			either(need("msg", "MsgId|integer|object", "the message's id, with ?unbox=KEY if need be, or its place in the log, or an object"),
				may("id", "MsgId", "the message's id"), may("key", "MsgId", "the same"), may("meta", "boolean", "as {key, value, timestamp}"),
				may("private", "boolean", "open it if it is encrypted for us"), may("unbox", "string", "the key with which it opens"),
				may("ooo", "boolean", "ask the connected peers if it is not here, for five seconds; it is checked, and not kept"))), Call: a.get},
		{Name: "getLatest", Kind: muxrpc.Async, Doc: "the newest message held of a feed as {key, value}, or false", Args: feed, Call: a.getLatest},
		{Name: "latestSequence", Kind: muxrpc.Async, Doc: "the highest sequence held of a feed", Args: feed, Call: a.latestSequence},
		{Name: "getVectorClock", Kind: muxrpc.Async, Doc: "{feed: highest sequence held}", Call: a.getVectorClock},
		{Name: "getFeedState", Kind: muxrpc.Async, Doc: "{id, sequence} of the newest message held of a feed; id is null when there is none", Args: feed, Call: a.getFeedState},
		{Name: "getAtSequence", Kind: muxrpc.Async, Doc: "the message of a feed with a sequence", Args: args(
			need("at", "array|string", "[feed, sequence] or \"feed:sequence\"")), Call: a.getAtSequence},
		{Name: "add", Kind: muxrpc.Async, Doc: "take in a signed message that follows what is held of its feed; answers with it", Args: args(
			need("msg", "object", "the message's value, or {value}")), Call: a.add},
		{Name: "progress", Kind: muxrpc.Sync, Doc: "{indexes, ebt: {start, current, target}}: equal is done", Call: answer0(a.progress)},
		{Name: "status", Kind: muxrpc.Sync, Doc: "{progress, db, sync, gossip}, in the form of npm ssb-db; charkha.status says more", Call: answer0(a.dbStatus)},
		{Name: "rebuild", Kind: muxrpc.Async, Doc: "build the indexes anew, one after the other, but for the follow graph, which the exchange with peers needs all the time", Call: answer0(a.rebuild)},
		{Name: "latest", Kind: muxrpc.Source, Doc: "{id, sequence, ts} of each feed held", Stream: a.latest},
		{Name: "createSequenceStream", Kind: muxrpc.Source, Doc: "the place of the newest message in the log, -1 for none, with each change", Stream: a.createSequenceStream},
		{Name: "createRawLogStream", Kind: muxrpc.Source, Doc: "{seq: place in the log, value: message} in the order they arrived", Args: streamArgs("place in the log"), Stream: a.createRawLogStream},
		{Name: "createWriteStream", Kind: muxrpc.Sink, Doc: "signed messages to take in; what is not taken is passed over", Stream: a.createWriteStream, Patient: true},
		{Name: "createUserStream", Kind: muxrpc.Source, Doc: "the messages of one feed by sequence", Args: streamArgs("sequence", need("id", "FeedId", "the feed")), Stream: a.createUserStream},
		{Name: "createLogStream", Kind: muxrpc.Source, Doc: "all messages in the order they arrived", Args: streamArgs("time of arrival, in ms",
			may("raw", "boolean", "as {seq: place in the log, value: message}")), Stream: a.createLogStream},
	}
}

func (a *API) whoami(context.Context, *muxrpc.Request) (any, error) {
	return map[string]identity.ID{"id": a.Key.ID()}, nil
}

func (a *API) version(context.Context, *muxrpc.Request) (any, error) { return a.Version, nil }

func (a *API) publish(_ context.Context, req *muxrpc.Request) (any, error) {
	var content json.RawMessage
	if err := req.Decode(&content); err != nil {
		return nil, err
	}
	if len(content) == 0 {
		return nil, errors.New("the content is missing, or null")
	}
	if content, err := closed(content); err != nil {
		return nil, err
	} else {
		return a.sign(content)
	}
}

// sign publishes content and answers with the stored message.
func (a *API) sign(content []byte) (json.RawMessage, error) {
	m, err := a.Log.Publish(a.Key, content)
	if errors.Is(err, log.ErrUnconfirmed) {
		return nil, fmt.Errorf("%w: the key is older than this copy of its feed, and publishing now could fork it; "+
			"connect to a peer that has the feed and wait until it was fetched, or start with --new-feed if the key never published", err)
	}
	if err != nil {
		return nil, err
	}
	return kvt(m), nil
}

func (a *API) get(ctx context.Context, req *muxrpc.Request) (any, error) {
	var arg json.RawMessage
	if err := req.Decode(&arg); err != nil {
		return nil, err
	}
	var opts struct {
		ID      string `json:"id"`
		Key     string `json:"key"`
		Meta    bool   `json:"meta"`
		Private bool   `json:"private"`
		Unbox   string `json:"unbox"`
		OOO     bool   `json:"ooo"`
	}
	var place log.Offset
	if len(arg) > 0 && arg[0] == '"' {
		if err := json.Unmarshal(arg, &opts.ID); err != nil {
			return nil, fmt.Errorf("get: %w", err)
		}
	} else if json.Unmarshal(arg, &place) == nil && len(arg) > 0 {
		return a.getPlace(place)
	} else if err := json.Unmarshal(arg, &opts); err != nil {
		return nil, fmt.Errorf("get: the argument is neither a message id nor {id}: %w", err)
	}
	if opts.ID == "" {
		opts.ID = opts.Key
	}
	if opts.ID == "" {
		return nil, errors.New("get: the message id is missing")
	}
	text, key := splitUnbox(opts.ID)
	if opts.Unbox == "" {
		opts.Unbox = key
	}
	id, err := identity.ParseMsgID(text)
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	m, err := a.Log.Get(id)
	if errors.Is(err, log.ErrNotFound) && opts.OOO {
		if value, _ := a.ask(ctx, id, oooTime); value != nil {
			if opts.Meta {
				return outside(id, value), nil
			}
			return value, nil
		}
	}
	if err != nil {
		return nil, notFound(id, err)
	}
	value := a.value(m, opts.Private)
	if opts.Unbox != "" {
		if value, err = withKey(m, opts.Unbox); err != nil {
			return nil, fmt.Errorf("get: %w", err)
		}
	}
	if opts.Meta {
		return json.RawMessage(wrap(m, value)), nil
	}
	return json.RawMessage(value), nil
}

// notFound says that a message cannot be had. Clients look at the name, and at the text.
func notFound(id identity.MsgID, err error) error {
	if errors.Is(err, log.ErrNotFound) {
		return &muxrpc.RemoteError{Name: "NotFoundError", Message: fmt.Sprintf("Key not found in database [%s]", id)}
	}
	return fmt.Errorf("get %s: %w", id, err)
}

// getPlace is the message at a place in the log.
func (a *API) getPlace(place log.Offset) (any, error) {
	if place < a.Log.Len() {
		for m, err := range a.Log.Arrivals(place, false) {
			if err != nil {
				return nil, err
			}
			if m.Offset() == place {
				return json.RawMessage(m.Value()), nil
			}
			break
		}
	}
	return nil, fmt.Errorf("get: there is no message at place %d", place)
}

// undefined is what JS clients get where a method of npm ssb-server answers with undefined.
var undefined = json.RawMessage("false")

func (a *API) getLatest(_ context.Context, req *muxrpc.Request) (any, error) {
	var feed identity.ID
	if err := req.Decode(&feed); err != nil {
		return nil, err
	}
	head, ok := a.Log.Head(feed)
	if !ok {
		return undefined, nil
	}
	m, err := a.Log.At(feed, head.Sequence)
	if err != nil {
		return nil, err
	}
	return struct {
		Key   identity.MsgID  `json:"key"`
		Value json.RawMessage `json:"value"`
	}{m.Key(), m.Value()}, nil
}

func (a *API) latestSequence(_ context.Context, req *muxrpc.Request) (any, error) {
	var feed identity.ID
	if err := req.Decode(&feed); err != nil {
		return nil, err
	}
	head, ok := a.Log.Head(feed)
	if !ok {
		return nil, fmt.Errorf("not found:%s", feed)
	}
	return head.Sequence, nil
}

func (a *API) getVectorClock(context.Context, *muxrpc.Request) (any, error) {
	clock := map[identity.ID]int64{}
	for feed, head := range a.Log.Heads() {
		clock[feed] = head.Sequence
	}
	return clock, nil
}

func (a *API) rebuild(ctx context.Context) (any, error) {
	for _, v := range a.Index.Views() {
		if v.Name == "contacts" {
			continue
		}
		if err := a.Index.Rebuild(ctx, v.Name); err != nil {
			return nil, err
		}
		if err := a.Index.Wait(ctx, a.Log.Len()); err != nil {
			return nil, errStopping
		}
	}
	return nil, nil
}

func (a *API) getFeedState(_ context.Context, req *muxrpc.Request) (any, error) {
	var feed identity.ID
	if err := req.Decode(&feed); err != nil {
		return nil, err
	}
	state := struct {
		ID       *identity.MsgID `json:"id"`
		Sequence int64           `json:"sequence"`
	}{}
	if head, ok := a.Log.Head(feed); ok {
		m, err := a.Log.At(feed, head.Sequence)
		if err != nil {
			return nil, err
		}
		key := m.Key()
		state.ID, state.Sequence = &key, head.Sequence
	}
	return state, nil
}

func (a *API) getAtSequence(_ context.Context, req *muxrpc.Request) (any, error) {
	var arg json.RawMessage
	if err := req.Decode(&arg); err != nil {
		return nil, err
	}
	var feed identity.ID
	var seq int64
	var text string
	pair := []any{&feed, &seq}
	err := json.Unmarshal(arg, &pair)
	if json.Unmarshal(arg, &text) == nil {
		id, number, _ := strings.Cut(text, ":")
		if feed, err = identity.ParseID(id); err == nil {
			seq, err = strconv.ParseInt(number, 10, 64)
		}
	}
	if err != nil || feed.IsZero() || seq < 1 {
		return nil, errors.New("getAtSequence: neither [feed, sequence] nor \"feed:sequence\"")
	}
	m, err := a.Log.At(feed, seq)
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", feed, seq, err)
	}
	return kvt(m), nil
}

// add takes in one message. Programs that sign by themselves publish so, and what is answered outlives a power cut.
func (a *API) add(_ context.Context, req *muxrpc.Request) (any, error) {
	var value json.RawMessage
	if err := req.Decode(&value); err != nil {
		return nil, err
	}
	if len(value) == 0 {
		return nil, errors.New("add: the message is missing")
	}
	var wrapped struct {
		Value json.RawMessage `json:"value"`
	}
	if json.Unmarshal(value, &wrapped) == nil && len(wrapped.Value) > 0 {
		value = wrapped.Value
	}
	results, err := a.Log.Append([][]byte{value})
	if err != nil {
		return nil, err
	}
	switch r := results[0]; r.Status {
	case log.Stored, log.Duplicate:
		if err := a.Log.Sync(); err != nil {
			return nil, err
		}
		m, err := a.Log.At(r.Author, r.Sequence)
		if err != nil {
			return nil, err
		}
		return kvt(m), nil
	default:
		return nil, fmt.Errorf("%s: %w", r.Status, r.Err)
	}
}

func (a *API) createWriteStream(_ context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	for {
		bodies, err := s.RecvBatch(importBatch)
		var raws [][]byte
		for _, b := range bodies {
			raws = append(raws, b.Data)
		}
		if len(raws) > 0 {
			if _, aerr := a.Log.Append(raws); aerr != nil {
				return aerr
			}
		}
		if errors.Is(err, io.EOF) {
			return a.Log.Sync()
		}
		if err != nil {
			return err
		}
	}
}

func (a *API) latest(_ context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	type latest struct {
		ID       identity.ID `json:"id"`
		Sequence int64       `json:"sequence"`
		TS       float64     `json:"ts"` // when it says that it was written, in ms
	}
	for feed, head := range a.Log.Heads() {
		m, err := a.Log.At(feed, head.Sequence)
		if err != nil {
			return err
		}
		if err := sendJSON(s, latest{feed, head.Sequence, m.Timestamp()}); err != nil {
			return err
		}
	}
	return nil
}

func (a *API) createSequenceStream(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	at := a.Log.Len()
	if err := sendJSON(s, int64(at)-1); err != nil {
		return err
	}
	for m, err := range a.Log.Follow(ctx, at) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		if end := a.Log.Len(); m.Offset()+1 < end {
			continue // a newer one is there already
		}
		if err := sendJSON(s, int64(m.Offset())); err != nil {
			return err
		}
	}
	return nil
}

// createRawLogStream has ranges over places in the log.
func (a *API) createRawLogStream(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o streamOptions
	if err := req.Decode(&o); err != nil {
		return err
	}
	return a.streamLog(ctx, &o, s, func(m log.Message) float64 { return float64(m.Offset()) }, func(m log.Message) []byte {
		switch {
		case isTrue(o.Keys) && isTrue(o.Values): // "seqs" is what flumelog calls the place
			return slices.Concat(fmt.Appendf(nil, `{"seq":%d,"value":`, m.Offset()), kvt(m), []byte("}"))
		case isTrue(o.Values):
			return kvt(m)
		}
		return fmt.Appendf(nil, "%d", m.Offset())
	})
}

// flag is an option that is off when it is absent. JS clients write numbers, too: 0 is off.
type flag bool

// UnmarshalJSON implements json.Unmarshaler.
func (f *flag) UnmarshalJSON(data []byte) error {
	var number float64
	if json.Unmarshal(data, &number) == nil {
		*f = number != 0
		return nil
	}
	return json.Unmarshal(data, (*bool)(f))
}

// streamOptions are the standard options of a source over messages. Pointers tell absent from zero.
type streamOptions struct {
	ID      *identity.ID `json:"id"`
	Gt      *float64     `json:"gt"`
	Gte     *float64     `json:"gte"`
	Lt      *float64     `json:"lt"`
	Lte     *float64     `json:"lte"`
	Limit   *int         `json:"limit"`
	Reverse flag         `json:"reverse"`
	Live    flag         `json:"live"`
	Old     *bool        `json:"old"`
	Keys    *bool        `json:"keys"`
	Values  *bool        `json:"values"`
	Sync    *bool        `json:"sync"`
	Private bool         `json:"private"` // open what is for us
}

func isTrue(b *bool) bool { return b == nil || *b }

// live reports whether the stream goes on with what comes: who does not want what is there, wants that.
func (o *streamOptions) live() bool { return bool(o.Live) || !isTrue(o.Old) }

// limit is the number of messages asked for, -1 for all. What comes live is not counted, as in npm ssb-db.
func (o *streamOptions) limit() int {
	if o.Limit == nil || *o.Limit < 0 {
		return -1
	}
	return *o.Limit
}

// within reports whether x is in the range that the options ask for.
func (o *streamOptions) within(x float64) bool {
	return (o.Gt == nil || x > *o.Gt) && (o.Gte == nil || x >= *o.Gte) &&
		(o.Lt == nil || x < *o.Lt) && (o.Lte == nil || x <= *o.Lte)
}

// encode gives a message in the form that the options ask for: KVT, the bare value, or the bare key; who wants
// neither gets the value, as from npm ssb-db.
func (a *API) encode(o *streamOptions, m log.Message) []byte {
	switch {
	case isTrue(o.Keys) && isTrue(o.Values):
		return a.shown(m, o.Private)
	case isTrue(o.Keys):
		key, _ := json.Marshal(m.Key())
		return key
	}
	return a.value(m, o.Private)
}

// createUserStream sends one feed. Its ranges are over sequence numbers.
func (a *API) createUserStream(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o streamOptions
	if err := req.Decode(&o); err != nil {
		return err
	}
	if o.ID == nil {
		return errors.New("createUserStream: the option id is missing")
	}
	r := log.Range{Reverse: bool(o.Reverse), From: 1}
	clampUp := func(x float64) int64 { return int64(min(max(math.Ceil(x), 1), math.MaxInt32)) }
	clampDown := func(x float64) int64 { return int64(min(max(math.Floor(x), -1), math.MaxInt32)) }
	upper := int64(math.MaxInt32)
	if o.Gte != nil {
		r.From = max(r.From, clampUp(*o.Gte))
	}
	if o.Gt != nil {
		r.From = max(r.From, clampUp(math.Floor(*o.Gt)+1))
	}
	if o.Lte != nil {
		upper = min(upper, clampDown(*o.Lte))
	}
	if o.Lt != nil {
		upper = min(upper, clampDown(math.Ceil(*o.Lt)-1))
	}
	if upper < r.From {
		return nil
	}
	head, _ := a.Log.Head(*o.ID)
	r.To = upper
	if o.live() {
		r.To = min(upper, head.Sequence) // what is behind comes live
	}
	if isTrue(o.Old) {
		for m, err := range limited(a.Log.Feed(*o.ID, r), o.limit()) {
			if err != nil {
				return err
			}
			if err := s.SendJSON(a.encode(&o, m)); err != nil {
				return err
			}
		}
	}
	if !o.live() {
		return nil
	}
	if isTrue(o.Old) && isTrue(o.Sync) {
		if err := s.SendJSON([]byte(`{"sync":true}`)); err != nil {
			return err
		}
	}
	return a.followFeed(ctx, *o.ID, max(r.From, head.Sequence+1), upper, func(m log.Message) error { return s.SendJSON(a.encode(&o, m)) })
}

// followFeed gives do the messages of a feed with sequences from..to as they arrive, the ones already there included.
func (a *API) followFeed(ctx context.Context, feed identity.ID, from, to int64, do func(log.Message) error) error {
	for _, err := range a.arrivalsOf(ctx, feed) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		for m, err := range a.Log.Feed(feed, log.Range{From: from, To: to}) {
			if err != nil {
				return err
			}
			if err := do(m); err != nil {
				return err
			}
			from = m.Sequence() + 1
		}
		if from > to {
			return nil
		}
	}
	return nil
}

// arrivalsOf yields once at once, then once after each arrival of a message of feed.
func (a *API) arrivalsOf(ctx context.Context, feed identity.ID) func(func(struct{}, error) bool) {
	return func(yield func(struct{}, error) bool) {
		from := a.Log.Len()
		if !yield(struct{}{}, nil) {
			return
		}
		for m, err := range a.Log.Follow(ctx, from) {
			if err != nil {
				yield(struct{}{}, err)
				return
			}
			if m.Author() == feed && !yield(struct{}{}, nil) {
				return
			}
		}
	}
}

// ctxEnd turns the error of a stream whose caller went away into a clean end.
func ctxEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// createLogStream sends all messages. Its ranges are over receive times.
func (a *API) createLogStream(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o struct {
		streamOptions
		Raw bool `json:"raw"`
	}
	if err := req.Decode(&o); err != nil {
		return err
	}
	return a.streamLog(ctx, &o.streamOptions, s, func(m log.Message) float64 { return m.Received() }, func(m log.Message) []byte {
		if o.Raw { // opened, as npm ssb-db has it
			return slices.Concat(fmt.Appendf(nil, `{"seq":%d,"value":`, m.Offset()), a.shown(m, true), []byte("}"))
		}
		return a.encode(&o.streamOptions, m)
	})
}

// streamLog sends messages in the order in which they arrived, those whose place is in the range that the options ask for. Places
// grow with each message.
func (a *API) streamLog(ctx context.Context, o *streamOptions, s *muxrpc.Stream, place func(log.Message) float64, encode func(log.Message) []byte) error {
	left, next := o.limit(), a.Log.Len()
	send := func(m log.Message) error {
		if !o.within(place(m)) {
			return nil
		}
		if left > 0 {
			left--
		}
		return s.SendJSON(encode(m))
	}
	if isTrue(o.Old) {
		from := log.Offset(0)
		if o.Reverse {
			from = next
		}
		for m, err := range a.Log.Arrivals(from, bool(o.Reverse)) {
			if err != nil {
				return err
			}
			if left == 0 || !bool(o.Reverse) && m.Offset() >= next || o.past(place(m)) {
				break
			}
			if err := send(m); err != nil {
				return err
			}
		}
	}
	if !o.live() {
		return nil
	}
	if isTrue(o.Old) && isTrue(o.Sync) {
		if err := s.SendJSON([]byte(`{"sync":true}`)); err != nil {
			return err
		}
	}
	left = -1
	for m, err := range a.Log.Follow(ctx, next) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		if err := send(m); err != nil {
			return err
		}
	}
	return nil
}

// past reports whether nothing more of the range can come, going up or down in the order of x.
func (o *streamOptions) past(x float64) bool {
	if o.Reverse {
		return o.Gt != nil && x <= *o.Gt || o.Gte != nil && x < *o.Gte
	}
	return o.Lt != nil && x >= *o.Lt || o.Lte != nil && x > *o.Lte
}
