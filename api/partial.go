package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"charkha/identity"
	"charkha/index"
	"charkha/log"
	"charkha/muxrpc"
)

// PeerMethods are the methods of this package that peers may call, too. They show nobody what is private, nor what those wrote
// who block the caller.
func (a *API) PeerMethods() []muxrpc.Method {
	return append(a.partial(), a.oooPeers()...)
}

// partial are the methods of npm ssb-partial-replication 3, with which programs that keep few feeds fetch parts of them, and
// getSubset, which go-ssb has.
func (a *API) partial() []muxrpc.Method {
	id := need("id", "FeedId", "the feed")
	limit := may("limit", "number", "most messages")
	keys, values := may("keys", "boolean", "false: no keys, the bare value"), may("values", "boolean", "false: no values, the bare key")
	methods := []muxrpc.Method{
		{Name: "partialReplication.getFeed", Kind: muxrpc.Source, Doc: "the messages of a feed, as createHistoryStream sends them", Args: opts(id,
			may("seq", "number", "from this sequence on"), limit, keys, values, may("live", "boolean", "go on with what comes")), Stream: a.getFeed},
		{Name: "partialReplication.getFeedReverse", Kind: muxrpc.Source, Doc: "the latest messages of a feed, the oldest of them first", Args: opts(id, limit, keys, values), Stream: a.getFeedReverse},
		{Name: "partialReplication.getTangle", Kind: muxrpc.Async, Doc: "the values of a message and of the public ones that name it as their root, as an array; of very many the latest", Args: args(
			need("msg", "MsgId", "the message that began it")), Call: a.getTangle},
		{Name: "partialReplication.getMessagesOfType", Kind: muxrpc.Source, Doc: "the values of the public messages of a type in a feed", Args: opts(id,
			need("type", "string", "the type"), may("seq", "number", "from behind this sequence"), limit), Stream: a.getMessagesOfType},
		{Name: "partialReplication.getSubset", Kind: muxrpc.Source, Doc: "what a query of the language ssb-ql-1 finds, in the order of arrival", Args: args(
			need("query", "object|string", `{op: "type", string}, {op: "author", feed}, {op: "and", args} or {op: "or", args}; or as JSON`),
			either(may("opts", "object", "options"), may("querylang", "string", "ssb-ql-1"), keys, may("descending", "boolean", "the latest first"),
				may("pageLimit", "number", "most messages"))), Stream: a.getSubset},
	}
	for i := range methods {
		methods[i].Anonymous = true
	}
	return methods
}

// caller is the peer that calls; false: it is a local program.
func caller(req *muxrpc.Request) (identity.ID, bool) {
	if peer, ok := req.Peer.(interface{ Remote() identity.ID }); ok {
		return peer.Remote(), true
	}
	return identity.ID{}, false
}

// hidden reports whether the caller is not to see what a feed says, because it blocks him.
func (a *API) hidden(req *muxrpc.Request, feed identity.ID) bool {
	peer, ok := caller(req)
	return ok && a.Index.Blocks(feed, peer)
}

func (a *API) getFeed(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	for _, m := range a.Network.Methods() {
		if m.Name == "createHistoryStream" {
			return m.Stream(ctx, req, s)
		}
	}
	return errors.New("api: internal error: no createHistoryStream")
}

func (a *API) getFeedReverse(_ context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o struct {
		ID     identity.ID `json:"id"`
		Limit  *float64    `json:"limit"`
		Keys   *bool       `json:"keys"`
		Values *bool       `json:"values"`
	}
	if err := req.Decode(&o); err != nil {
		return err
	}
	if a.hidden(req, o.ID) {
		return nil
	}
	r := log.Range{From: 1}
	if o.Limit != nil && *o.Limit >= 0 {
		head, _ := a.Log.Head(o.ID)
		r.From = max(1, head.Sequence-int64(min(*o.Limit, math.MaxInt32))+1)
		if r.To = head.Sequence; r.To < r.From {
			return nil
		}
	}
	form := streamOptions{Keys: o.Keys, Values: o.Values}
	for m, err := range a.Log.Feed(o.ID, r) {
		if err != nil {
			return err
		}
		if err := s.SendJSON(a.encode(&form, m)); err != nil {
			return err
		}
	}
	return nil
}

// A tangle for a peer has at most so many messages, and bytes.
const (
	tangleMost  = 1000
	tangleBytes = 1 << 20
)

func (a *API) getTangle(ctx context.Context, req *muxrpc.Request) (any, error) {
	var id identity.MsgID
	if err := req.Decode(&id); err != nil {
		return nil, err
	}
	root, err := a.Log.Get(id)
	if err == nil && a.hidden(req, root.Author()) {
		err = log.ErrNotFound
	}
	if err != nil {
		return nil, notFound(id, err)
	}
	a.settle(ctx)
	var found []reply
	left := tangleBytes
	// Peers get also what those wrote whom we block, as of whole feeds.
	for m, err := range a.Index.Query(ctx, index.Query{Where: index.Links(id.String(), "root"), Claimed: true, Reverse: true}) {
		if err != nil {
			return nil, err
		}
		if m.Key() == id || a.hidden(req, m.Author()) || !names(fieldsOf(m.Content()), id.String(), "root") {
			continue
		}
		if left -= len(m.Value()); left < 0 || len(found) == tangleMost {
			break
		}
		found = append(found, reply{m: m, content: m.Content()})
	}
	values := []json.RawMessage{root.Value()}
	for _, r := range inOrder(found) {
		values = append(values, r.m.Value())
	}
	return values, nil
}

func (a *API) getMessagesOfType(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o struct {
		ID    identity.ID `json:"id"`
		Type  string      `json:"type"`
		Seq   float64     `json:"seq"`
		Limit float64     `json:"limit"`
	}
	if err := req.Decode(&o); err != nil {
		return err
	}
	if a.hidden(req, o.ID) {
		return nil
	}
	a.settle(ctx)
	left := most(o.Limit)
	for m, err := range a.Index.Query(ctx, index.Query{Where: index.And(index.By(o.ID), index.OfType(o.Type))}) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		if float64(m.Sequence()) <= o.Seq {
			continue
		}
		if err := s.SendJSON(m.Value()); err != nil {
			return err
		}
		if left--; left == 0 {
			return nil
		}
	}
	return nil
}

func (a *API) getSubset(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var query json.RawMessage
	var o struct {
		Lang       string  `json:"querylang"`
		Keys       *bool   `json:"keys"`
		Descending bool    `json:"descending"`
		PageLimit  float64 `json:"pageLimit"`
	}
	if err := req.Decode(&query, &o); err != nil {
		return err
	}
	if o.Lang != "" && o.Lang != "ssb-ql-1" {
		return fmt.Errorf("%s: the query language %q is not known here; ssb-ql-1 is", req.Name, o.Lang)
	}
	if text := textIn(query); text != "" {
		query = json.RawMessage(text)
	}
	left := subsetMost
	where, err := subset(query, &left)
	if err != nil {
		return fmt.Errorf("%s: %w", req.Name, err)
	}
	a.settle(ctx)
	limit := most(o.PageLimit)
	form := streamOptions{Keys: o.Keys}
	for m, err := range a.Index.Query(ctx, index.Query{Where: where, Reverse: o.Descending}) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		if a.hidden(req, m.Author()) {
			continue
		}
		if err := s.SendJSON(a.encode(&form, m)); err != nil {
			return err
		}
		if limit--; limit == 0 {
			return nil
		}
	}
	return nil
}

// subsetMost is how many operations a query of ssb-ql-1 may have.
const subsetMost = 100

// subset reads a query of ssb-ql-1 (npm ssb-subset-ql, ql1.js), of which left operations are left.
func subset(query json.RawMessage, left *int) (index.Set, error) {
	var q struct {
		Op     string            `json:"op"`
		String *string           `json:"string"`
		Feed   *identity.ID      `json:"feed"`
		Args   []json.RawMessage `json:"args"`
	}
	if *left--; *left < 0 {
		return index.None(), fmt.Errorf("more than %d operations", subsetMost)
	}
	if err := json.Unmarshal(query, &q); err != nil {
		return index.None(), fmt.Errorf("the query: %w", err)
	}
	switch q.Op {
	case "type":
		if q.String == nil {
			return index.None(), errors.New("the operation type needs a string")
		}
		return index.OfType(*q.String), nil
	case "author":
		if q.Feed == nil {
			return index.None(), errors.New("the operation author needs a feed")
		}
		return index.By(*q.Feed), nil
	case "and", "or":
		if len(q.Args) == 0 {
			return index.None(), fmt.Errorf("the operation %s needs args", q.Op)
		}
		var of []index.Set
		for _, arg := range q.Args {
			set, err := subset(arg, left)
			if err != nil {
				return set, err
			}
			of = append(of, set)
		}
		if q.Op == "and" {
			return index.And(of...), nil
		}
		return index.Or(of...), nil
	}
	return index.None(), fmt.Errorf("there is no operation %q", q.Op)
}
