package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"charkha/identity"
	"charkha/muxrpc"
)

func (a *API) friends() []muxrpc.Method {
	return []muxrpc.Method{
		{Name: "friends.follow", Kind: muxrpc.Async, Doc: "publish that we follow a feed, or with {state:false} no longer", Call: a.follow},
		{Name: "friends.block", Kind: muxrpc.Async, Doc: "publish that we block a feed, or with {state:false} no longer", Call: a.block},
		{Name: "friends.isFollowing", Kind: muxrpc.Async, Doc: "whether {source} follows {dest}", Call: a.isFollowing},
		{Name: "friends.isBlocking", Kind: muxrpc.Async, Doc: "whether {source} blocks {dest}", Call: a.isBlocking},
		{Name: "friends.hops", Kind: muxrpc.Async, Doc: "{feed: distance from us}: 0 ourselves, 1 followed, negative blocked", Call: a.hops},
	}
}

// contact is the content of a contact message, keys in the order that JS clients write.
type contact struct {
	Type      string      `json:"type"`
	Contact   identity.ID `json:"contact"`
	Following *bool       `json:"following,omitempty"`
	Blocking  *bool       `json:"blocking,omitempty"`
	Reason    string      `json:"reason,omitempty"`
}

// edge is what friends.follow and friends.block take: a feed id and optional {state, reason}.
func (a *API) edge(req *muxrpc.Request) (feed identity.ID, state bool, reason string, err error) {
	opts := struct {
		State  *bool           `json:"state"`
		Reason string          `json:"reason"`
		Recps  json.RawMessage `json:"recps"`
	}{}
	if err := req.Decode(&feed, &opts); err != nil {
		return feed, false, "", err
	}
	if feed.IsZero() {
		return feed, false, "", errors.New("the feed id is missing")
	}
	if feed == a.Key.ID() {
		return feed, false, "", fmt.Errorf("%s is this node's own feed", feed)
	}
	if len(opts.Recps) > 0 && string(opts.Recps) != "null" {
		// Never publish in the open what was meant to be private.
		return feed, false, "", errors.New("private contact messages (recps) are not supported")
	}
	return feed, isTrue(opts.State), opts.Reason, nil
}

// follow publishes following only, as ssb-friends does: the contact rules make it end an earlier block.
func (a *API) follow(_ context.Context, req *muxrpc.Request) (any, error) {
	feed, state, _, err := a.edge(req)
	if err != nil {
		return nil, err
	}
	return a.publishContact(contact{Contact: feed, Following: &state})
}

func (a *API) block(_ context.Context, req *muxrpc.Request) (any, error) {
	feed, state, reason, err := a.edge(req)
	if err != nil {
		return nil, err
	}
	return a.publishContact(contact{Contact: feed, Blocking: &state, Reason: reason})
}

func (a *API) publishContact(c contact) (any, error) {
	c.Type = "contact"
	content, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return a.sign(content)
}

func (a *API) pair(req *muxrpc.Request) (source, dest identity.ID, err error) {
	var opts struct {
		Source *identity.ID `json:"source"`
		Dest   *identity.ID `json:"dest"`
	}
	if err := req.Decode(&opts); err != nil {
		return source, dest, err
	}
	if opts.Source == nil || opts.Dest == nil {
		return source, dest, errors.New(req.Name + ": the options source and dest are both needed")
	}
	return *opts.Source, *opts.Dest, nil
}

func (a *API) isFollowing(ctx context.Context, req *muxrpc.Request) (any, error) {
	source, dest, err := a.pair(req)
	if err != nil {
		return nil, err
	}
	a.settle(ctx)
	return a.Index.Follows(source, dest), nil
}

func (a *API) isBlocking(ctx context.Context, req *muxrpc.Request) (any, error) {
	source, dest, err := a.pair(req)
	if err != nil {
		return nil, err
	}
	a.settle(ctx)
	return a.Index.Blocks(source, dest), nil
}

func (a *API) hops(ctx context.Context, _ *muxrpc.Request) (any, error) {
	a.settle(ctx)
	return a.Index.HopsAll(), nil
}
