package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"charkha/identity"
	"charkha/index"
	"charkha/muxrpc"
)

func (a *API) friends() []muxrpc.Method {
	pair := opts(may("source", "FeedId", "who"), may("dest", "FeedId", "whom"), may("details", "boolean", "answer {response, private}"))
	return []muxrpc.Method{
		{Name: "friends.follow", Kind: muxrpc.Async, Doc: "publish that we follow a feed, or no longer; answers with the message", Args: args(feedArg,
			either(may("opts", "object", "options"), may("state", "boolean", "false: no longer"))), Call: a.follow},
		{Name: "friends.block", Kind: muxrpc.Async, Doc: "publish that we block a feed, or no longer; answers with the message", Args: args(feedArg,
			either(may("opts", "object", "options"), may("state", "boolean", "false: no longer"), may("reason", "any", "why, for everybody to read; a text"))), Call: a.block},
		{Name: "friends.isFollowing", Kind: muxrpc.Async, Doc: "whether a feed follows another", Args: pair, Call: a.isFollowing},
		{Name: "friends.isBlocking", Kind: muxrpc.Async, Doc: "whether a feed blocks another", Args: pair, Call: a.isBlocking},
		{Name: "friends.blocks", Kind: muxrpc.Source, Doc: "the feeds that somebody blocks, as go-ssb has it", Args: opts(may("who", "FeedId", "who blocks them; we, if it is missing")), Stream: a.blocks},
		{Name: "friends.hops", Kind: muxrpc.Async, Doc: "{feed: distance}: 0 ourselves, 1 followed, negative blocked", Args: opts(
			may("start", "FeedId", "from whom; we, if it is missing"), may("max", "number", "the greatest distance"),
			may("reverse", "boolean", "against the follows: who has start in reach")), Call: a.hops},
		{Name: "friends.hopStream", Kind: muxrpc.Source, Doc: "{feed: distance} of those whose distance changes", Args: opts(liveArg, oldArg), Stream: a.hopStream},
		{Name: "friends.graph", Kind: muxrpc.Async, Doc: "{from: {to: 1 follows, -1 blocks, -2 neither any more}}", Call: a.graph},
		{Name: "friends.graphStream", Kind: muxrpc.Source, Doc: "what changes of the answer of friends.graph", Args: opts(liveArg, oldArg), Stream: a.graphStream},
		{Name: "friends.get", Kind: muxrpc.Async, Doc: "the graph of older programs, true follows, false blocks, null neither: {from: {to}}, {to} of a source, {from} of a dest, or that of both", Args: opts(
			may("source", "FeedId", "only who this one follows and blocks"), may("dest", "FeedId", "only who follows and blocks this one")), Call: a.friendsGet},
		{Name: "friends.stream", Kind: muxrpc.Source, Doc: "what friends.get answers, then each change as {from, to, value}", Stream: a.friendsStream},
		{Name: "friends.createFriendStream", Kind: muxrpc.Source, Doc: "the feeds in range", Args: opts(liveArg, may("meta", "boolean", "{id, hops} of all instead")), Stream: a.friendStream},
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
		Reason any             `json:"reason"`
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
	reason, _ = opts.Reason.(string) // anything else is left out, as by npm ssb-friends
	return feed, isTrue(opts.State), reason, nil
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

func (a *API) pair(req *muxrpc.Request, is func(source, dest identity.ID) bool) (any, error) {
	var opts struct {
		Source  string `json:"source"`
		Dest    string `json:"dest"`
		Details bool   `json:"details"`
	}
	if err := req.Decode(&opts); err != nil {
		return nil, err
	}
	source, noSource := identity.ParseID(opts.Source)
	dest, noDest := identity.ParseID(opts.Dest)
	answer := noSource == nil && noDest == nil && is(source, dest) // who is nobody follows nobody, as in npm ssb-friends
	if opts.Details {
		return map[string]bool{"response": answer, "private": false}, nil // private contact messages are not read
	}
	return answer, nil
}

func (a *API) isFollowing(ctx context.Context, req *muxrpc.Request) (any, error) {
	a.settle(ctx)
	return a.pair(req, a.Index.Follows)
}

func (a *API) isBlocking(ctx context.Context, req *muxrpc.Request) (any, error) {
	a.settle(ctx)
	return a.pair(req, a.Index.Blocks)
}

func (a *API) blocks(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o := struct {
		Who identity.ID `json:"who"`
	}{a.Key.ID()}
	if err := req.Decode(&o); err != nil {
		return err
	}
	a.settle(ctx)
	var blocked []identity.ID
	for id, r := range a.Index.Relations(o.Who) {
		if r == -1 {
			blocked = append(blocked, id)
		}
	}
	slices.SortFunc(blocked, func(x, y identity.ID) int { return slices.Compare(x[:], y[:]) })
	for _, id := range blocked {
		if err := sendJSON(s, id); err != nil {
			return err
		}
	}
	return nil
}

func (a *API) hops(ctx context.Context, req *muxrpc.Request) (any, error) {
	var o struct {
		Start   *identity.ID `json:"start"`
		Max     *int         `json:"max"`
		Reverse bool         `json:"reverse"`
	}
	if err := req.Decode(&o); err != nil {
		return nil, err
	}
	a.settle(ctx)
	if o.Start == nil && o.Max == nil && !o.Reverse {
		return a.Index.HopsAll(), nil
	}
	start, most := a.Key.ID(), a.Hops
	if o.Start != nil {
		start = *o.Start
	}
	if o.Max != nil && *o.Max > 0 { // 0 is the default, as in npm ssb-friends
		most = *o.Max
	}
	if start == a.Key.ID() && !o.Reverse && most <= a.Hops { // it leaves out who is farther, and does not look at them as nearer ones do
		all := a.Index.HopsAll()
		maps.DeleteFunc(all, func(_ identity.ID, d int) bool { return d > most })
		return all, nil
	}
	return a.Index.HopsFrom(start, most, o.Reverse), nil
}

// liveOptions are those of streams that are live unless they are told not to be, and begin with what there is when told to.
type liveOptions struct {
	Live *bool `json:"live"`
	Old  bool  `json:"old"`
	Meta bool  `json:"meta"`
}

// changes calls do with what look finds, first and whenever the graph has changed, until the stream's options or ctx end it.
func (a *API) changes(ctx context.Context, o liveOptions, do func(first bool) error) error {
	for first := true; ; first = false {
		changed := a.Index.GraphChanged()
		if err := do(first); err != nil || !isTrue(o.Live) {
			return err
		}
		if !pause(ctx, graphPause, nil, nil) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// graphPause is the least time between two looks at the graph for one stream: in a sync it changes all the time.
const graphPause = 250 * time.Millisecond

// hopChanges sends the distances that changed since the last time, as objects, the first time all of them when it is asked to.
func (a *API) hopChanges(ctx context.Context, o liveOptions, send func(map[identity.ID]int) error) error {
	a.settle(ctx)
	was := map[identity.ID]int{}
	o.Old = o.Old || !isTrue(o.Live) // else there would be nothing to tell
	return a.changes(ctx, o, func(first bool) error {
		now := a.Index.HopsAll()
		moved := map[identity.ID]int{}
		for id, d := range now {
			if old, ok := was[id]; !ok || old != d {
				moved[id] = d
			}
		}
		for id, d := range was {
			if _, ok := now[id]; !ok && d >= 0 {
				moved[id] = -2 // nobody speaks of it any more
			}
		}
		was = now
		if first && !o.Old || len(moved) == 0 && !first {
			return nil
		}
		return send(moved)
	})
}

// sendJSON sends a value as JSON, with the characters of HTML as they are.
func sendJSON(s *muxrpc.Stream, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	return s.SendJSON(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func (a *API) hopStream(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o liveOptions
	if err := req.Decode(&o); err != nil {
		return err
	}
	return a.hopChanges(ctx, o, func(moved map[identity.ID]int) error { return sendJSON(s, moved) })
}

// friendStream sends the feeds in range; with meta also the others, and each with its distance. It tells all, whatever old says: that
// is what programs of its day expect.
func (a *API) friendStream(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o liveOptions
	if err := req.Decode(&o); err != nil {
		return err
	}
	o.Old = true
	first := true
	return a.hopChanges(ctx, o, func(moved map[identity.ID]int) error {
		ids := slices.SortedFunc(maps.Keys(moved), func(a, b identity.ID) int {
			return cmp.Or(moved[a]-moved[b], slices.Compare(a[:], b[:]))
		})
		for _, id := range ids {
			if first && moved[id] < 0 {
				continue
			}
			var item any = id
			if o.Meta {
				item = struct {
					ID   identity.ID `json:"id"`
					Hops int         `json:"hops"`
				}{id, moved[id]}
			}
			if err := sendJSON(s, item); err != nil {
				return err
			}
		}
		first = false
		return nil
	})
}

type relations map[identity.ID]map[identity.ID]index.Relation

func (a *API) allRelations() relations {
	all := relations{}
	for pair, r := range a.Index.Graph() {
		if all[pair[0]] == nil {
			all[pair[0]] = map[identity.ID]index.Relation{}
		}
		all[pair[0]][pair[1]] = r
	}
	return all
}

// since is what of a graph is not in an older one.
func (r relations) since(was relations) relations {
	moved := relations{}
	for from, out := range r {
		for to, v := range out {
			if old, ok := was[from][to]; ok && old == v {
				continue
			}
			if moved[from] == nil {
				moved[from] = map[identity.ID]index.Relation{}
			}
			moved[from][to] = v
		}
	}
	return moved
}

func (a *API) graph(ctx context.Context, _ *muxrpc.Request) (any, error) {
	a.settle(ctx)
	return a.allRelations(), nil
}

func (a *API) graphStream(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o liveOptions
	if err := req.Decode(&o); err != nil {
		return err
	}
	a.settle(ctx)
	was := relations{}
	o.Old = o.Old || !isTrue(o.Live) // else there would be nothing to tell
	return a.changes(ctx, o, func(first bool) error {
		now := a.allRelations()
		moved := now.since(was)
		was = now
		if first && !o.Old || len(moved) == 0 && !first {
			return nil
		}
		return sendJSON(s, moved)
	})
}

// legacy is a relation in the words of ssb-friends before 5: true follows, false blocks, null neither.
func legacy(r index.Relation) *bool {
	follows := r >= 0
	if r == -2 {
		return nil
	}
	return &follows
}

func (r relations) legacy() map[identity.ID]map[identity.ID]*bool {
	all := map[identity.ID]map[identity.ID]*bool{}
	for from, out := range r {
		all[from] = map[identity.ID]*bool{}
		for to, v := range out {
			all[from][to] = legacy(v)
		}
	}
	return all
}

func (a *API) friendsGet(ctx context.Context, req *muxrpc.Request) (any, error) {
	var o struct {
		Source *identity.ID `json:"source"`
		Dest   *identity.ID `json:"dest"`
	}
	if err := req.Decode(&o); err != nil {
		return nil, err
	}
	a.settle(ctx)
	found := map[identity.ID]*bool{}
	switch {
	case o.Source != nil:
		for to, r := range a.Index.Relations(*o.Source) {
			found[to] = legacy(r)
		}
		if o.Dest != nil && len(found) > 0 { // npm ssb-friends has {} of whom it knows nothing
			return found[*o.Dest], nil
		}
		return found, nil
	case o.Dest != nil:
		for pair, r := range a.Index.Graph() {
			if pair[1] == *o.Dest {
				found[pair[0]] = legacy(r)
			}
		}
		return found, nil
	}
	return a.allRelations().legacy(), nil
}

func (a *API) friendsStream(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	a.settle(ctx)
	was := relations{}
	return a.changes(ctx, liveOptions{}, func(first bool) error {
		now := a.allRelations()
		moved := now.since(was)
		was = now
		if first {
			return sendJSON(s, now.legacy())
		}
		for from, out := range moved {
			for to, v := range out {
				change := struct {
					From  identity.ID `json:"from"`
					To    identity.ID `json:"to"`
					Value *bool       `json:"value"`
				}{from, to, legacy(v)}
				if err := sendJSON(s, change); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
