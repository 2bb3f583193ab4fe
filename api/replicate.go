package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
)

// replication has the methods of npm ssb-ebt and ssb-replicate for local programs.
func (a *API) replication() []muxrpc.Method {
	request := args(either(need("feed", "FeedId|object", "the feed, or an object"), may("id", "FeedId", "the feed"), may("replicate", "boolean", "as want")),
		may("want", "boolean", "false: do not fetch it"))
	block := args(either(need("author", "FeedId|object", "whose feed, or an object"), may("from", "FeedId", "whose feed"), may("to", "FeedId", "from whom"), may("block", "boolean", "as keep")),
		may("peer", "FeedId", "from whom"), may("keep", "boolean", "false: no longer"))
	return []muxrpc.Method{
		{Name: "ebt.request", Kind: muxrpc.Sync, Doc: "fetch a feed, or do not, whatever the follow graph says, until the node stops", Args: request, Call: a.request},
		{Name: "ebt.block", Kind: muxrpc.Sync, Doc: "keep an author's feed from a peer, or no longer, until the node stops", Args: block, Call: a.blockFeed},
		{Name: "ebt.forget", Kind: muxrpc.Sync, Doc: "do not fetch a feed any more, until the node stops", Args: args(feedArg), Call: a.forgetFeed},
		{Name: "ebt.peerStatus", Kind: muxrpc.Sync, Doc: "{id, seq, peers: {peer: {seq, replicating: {tx, rx, sent, requested}}}} of a feed", Args: args(may("feed", "FeedId", "the feed; ours, if it is missing")), Call: a.peerStatus},
		{Name: "replicate.request", Kind: muxrpc.Sync, Doc: "the same as ebt.request", Args: request, Call: a.request},
		{Name: "replicate.block", Kind: muxrpc.Sync, Doc: "the same as ebt.block", Args: block, Call: a.blockFeed},
		{Name: "replicate.upto", Kind: muxrpc.Source, Doc: "{id, sequence} of each feed that is wanted", Args: opts(may("live", "boolean", "go on with what comes")), Stream: a.upto},
		{Name: "replicate.changes", Kind: muxrpc.Source, Doc: "{id, rate, feeds, pendingPeers, incompleteFeeds, progress, total} with each change", Stream: a.replicateChanges},
	}
}

func (a *API) request(_ context.Context, req *muxrpc.Request) (any, error) {
	var arg json.RawMessage
	want := true
	if err := req.Decode(&arg, &want); err != nil {
		return nil, err
	}
	var feed identity.ID
	if len(arg) > 0 && arg[0] == '{' {
		o := struct {
			ID        *identity.ID `json:"id"`
			Replicate *bool        `json:"replicate"`
		}{ID: &feed, Replicate: &want}
		if err := json.Unmarshal(arg, &o); err != nil {
			return nil, fmt.Errorf("%s: %w", req.Name, err)
		}
	} else if err := json.Unmarshal(arg, &feed); err != nil {
		return nil, fmt.Errorf("%s: the feed id is missing: %w", req.Name, err)
	}
	if feed.IsZero() {
		return nil, fmt.Errorf("%s: the feed id is missing", req.Name)
	}
	a.Network.Request(feed, want)
	return nil, nil
}

func (a *API) forgetFeed(_ context.Context, req *muxrpc.Request) (any, error) {
	var feed identity.ID
	if err := req.Decode(&feed); err != nil {
		return nil, err
	}
	if feed.IsZero() {
		return nil, errors.New("ebt.forget: the feed id is missing")
	}
	a.Network.Request(feed, false)
	return nil, nil
}

func (a *API) blockFeed(_ context.Context, req *muxrpc.Request) (any, error) {
	var first json.RawMessage
	o := struct {
		From  identity.ID `json:"from"`
		To    identity.ID `json:"to"`
		Block bool        `json:"block"`
	}{Block: true}
	if err := req.Decode(&first, &o.To, &o.Block); err != nil {
		return nil, err
	}
	var err error
	if len(first) > 0 && first[0] == '{' {
		err = json.Unmarshal(first, &o)
	} else {
		err = json.Unmarshal(first, &o.From)
	}
	if err != nil || o.From.IsZero() || o.To.IsZero() {
		return nil, fmt.Errorf("%s: the author and the peer are both needed, as feed ids", req.Name)
	}
	a.Network.Block(o.From, o.To, o.Block)
	return nil, nil
}

func (a *API) peerStatus(_ context.Context, req *muxrpc.Request) (any, error) {
	feed := a.Key.ID()
	if err := req.Decode(&feed); err != nil {
		return nil, err
	}
	type replicating struct {
		Tx        bool  `json:"tx"`
		Rx        bool  `json:"rx"`
		Sent      int64 `json:"sent"`
		Requested int64 `json:"requested"`
	}
	type status struct {
		Seq         int64       `json:"seq"`
		Replicating replicating `json:"replicating"`
	}
	state := a.Network.Feed(feed)
	peers := map[identity.ID]status{}
	for _, c := range state.Claims {
		peers[c.Peer] = status{c.Sequence, replicating{c.Sending, c.Asking, c.Sent, c.Told}}
	}
	return struct {
		ID    identity.ID            `json:"id"`
		Seq   int64                  `json:"seq"`
		Peers map[identity.ID]status `json:"peers"`
	}{feed, state.Head, peers}, nil
}

func (a *API) upto(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o struct {
		Live bool `json:"live"`
		Sync bool `json:"sync"`
	}
	if err := req.Decode(&o); err != nil {
		return err
	}
	type upto struct {
		ID       identity.ID `json:"id"`
		Sequence int64       `json:"sequence"`
	}
	from := a.Log.Len()
	for _, id := range a.Network.WantedFeeds() {
		head, _ := a.Log.Head(id)
		if err := sendJSON(s, upto{id, head.Sequence}); err != nil {
			return err
		}
	}
	if !o.Live {
		return nil
	}
	if err := s.SendJSON([]byte(`{"sync":true}`)); err != nil {
		return err
	}
	for m, err := range a.Log.Follow(ctx, from) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		if err := sendJSON(s, upto{m.Author(), m.Sequence()}); err != nil {
			return err
		}
	}
	return nil
}

// replicateChanges tells of the exchange as npm ssb-replicate does: progress and total count messages.
func (a *API) replicateChanges(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	type changes struct {
		ID         identity.ID `json:"id"`
		Rate       float64     `json:"rate"`
		Feeds      int         `json:"feeds"`
		Pending    int         `json:"pendingPeers"`
		Incomplete int         `json:"incompleteFeeds"`
		Progress   int64       `json:"progress"`
		Total      int64       `json:"total"`
	}
	var last changes
	for {
		changed := a.Network.Changed()
		p := a.Network.Progress()
		now := changes{ID: a.Key.ID(), Rate: p.Rate, Feeds: len(a.Network.WantedFeeds()), Incomplete: p.Feeds}
		now.Progress = int64(a.Log.Len())
		now.Total = now.Progress + p.Missing
		for _, peer := range a.Network.Peers() {
			if peer.Missing > 0 {
				now.Pending++
			}
		}
		if now != last {
			if err := sendJSON(s, now); err != nil {
				return err
			}
			last = now
		}
		if !pause(ctx, watchLeast, nil, nil) || !pause(ctx, watchMost, changed, nil) {
			return nil
		}
	}
}

// progressSteps is how far something is: it began at Start, is at Current, and has to get to Target.
type progressSteps struct {
	Start   int64 `json:"start"`
	Current int64 `json:"current"`
	Target  int64 `json:"target"`
}

// progress answers as npm secret-stack's status does: equal numbers are done.
func (a *API) progress(context.Context) (map[string]progressSteps, error) {
	p := a.Network.Progress()
	end := int64(a.Log.Len())
	return map[string]progressSteps{
		"indexes": {0, int64(min(a.Index.Cursor(), log.Offset(end))), end},
		"ebt":     {0, end, end + p.Missing},
	}, nil
}

// dbStatus answers as npm ssb-db's status does.
func (a *API) dbStatus(ctx context.Context) (any, error) {
	progress, err := a.progress(ctx)
	if err != nil {
		return nil, err
	}
	type stats struct {
		RTT  int64 `json:"rtt"`
		Skew int64 `json:"skew"`
	}
	type peer struct {
		Address     string  `json:"address"`
		Source      string  `json:"source"`
		State       string  `json:"state"`
		StateChange float64 `json:"stateChange"`
		Failure     int     `json:"failure"`
		Client      bool    `json:"client"`
		Stats       stats   `json:"stats"`
	}
	gossip := map[identity.ID]peer{}
	peers, err := a.gossipPeers(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range peers {
		if p.State != "connected" {
			continue
		}
		g := peer{Address: p.Address, Source: p.Source, State: p.State, StateChange: p.StateChange, Failure: p.Failure, Client: p.Client}
		if p.Ping != nil {
			g.Stats = stats(*p.Ping)
		}
		gossip[p.Key] = g
	}
	since, done := int64(a.Log.Len())-1, int64(a.Index.Cursor())-1
	return map[string]any{
		"progress": progress,
		"db":       map[string]any{},
		"sync":     map[string]any{"since": since, "plugins": map[string]int64{"index": done}, "sync": done >= since},
		"gossip":   gossip,
	}, nil
}
