package api

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"charkha/identity"
	"charkha/index"
	"charkha/log"
	"charkha/mfr"
	"charkha/muxrpc"
)

// queries are the reads by map-filter-reduce, see package mfr: npm ssb-query, ssb-backlinks, ssb-links and ssb-private.
func (a *API) queries() []muxrpc.Method {
	read := func(doc string, more ...muxrpc.Arg) []muxrpc.Arg {
		return args(either(may("opts", "object|array|string", "options, or the query itself; either may be a string of JSON"), append(more,
			may("query", "array|object|string", doc),
			may("limit", "number", "most answers; 0 and less for all"),
			may("reverse", "boolean", "the last ones first"),
			may("live", "boolean", "go on with what comes"),
			may("old", "boolean", "false: only what comes"),
			may("sync", "boolean", "false: no {sync: true} between what is there and what comes"))...))
	}
	const stages = "stages of map-filter-reduce: [{$filter}, {$map}, {$reduce}, {$sort}]"
	return []muxrpc.Method{
		{Name: "query.read", Kind: muxrpc.Source, Doc: "messages through map-filter-reduce, opened where they are for us", Args: read(stages), Stream: a.queryRead},
		{Name: "query.explain", Kind: muxrpc.Sync, Doc: "how query.read would be answered: {scan, index, gte, lte, live, old, sync}", Args: read(stages), Call: a.queryExplain},
		{Name: "backlinks.read", Kind: muxrpc.Source, Doc: "the messages that refer to a message, feed, blob or #hashtag, with dest and rts", Args: read("[{$filter: {dest}}], and further stages; without a dest, or with one of a kind, a row of each reference",
			may("index", "string", "the order: DTA by the time that they claim, DTS by arrival")), Stream: a.backlinksRead},
		{Name: "private.read", Kind: muxrpc.Source, Doc: "the private messages that are for us, through map-filter-reduce", Args: read(stages), Stream: a.privateRead},
		{Name: "links2.read", Kind: muxrpc.Source, Doc: "references as {source, rel, dest, ts} through map-filter-reduce", Args: read(stages), Stream: a.links2Read},
	}
}

// queryOptions are what the reads take.
type queryOptions struct {
	Query   json.RawMessage `json:"query"`
	Limit   *int            `json:"limit"`
	Reverse bool            `json:"reverse"`
	Live    bool            `json:"live"`
	Old     *bool           `json:"old"`
	Sync    *bool           `json:"sync"`
	Index   string          `json:"index"`
}

// parseQuery reads the options, or the query itself in their place.
func parseQuery(req *muxrpc.Request) (o queryOptions, q *mfr.Query, err error) {
	var arg json.RawMessage
	if err := req.Decode(&arg); err != nil {
		return o, nil, err
	}
	var text string
	switch {
	case json.Unmarshal(arg, &text) == nil:
		if json.Unmarshal([]byte(text), &o) != nil {
			o.Query = json.RawMessage(text)
		}
	case len(arg) > 0 && arg[0] == '[':
		o.Query = arg
	case len(arg) > 0:
		if err := json.Unmarshal(arg, &o); err != nil {
			return o, nil, fmt.Errorf("%s: %w", req.Name, err)
		}
	}
	if o.Old != nil && !*o.Old {
		o.Live = true
	}
	q, err = mfr.Parse(o.Query)
	if err != nil {
		return o, nil, fmt.Errorf("%s: %w", req.Name, err)
	}
	if o.Live && q.Ends() {
		return o, nil, fmt.Errorf("%s: a live query has no end at which to sort or reduce", req.Name)
	}
	return o, q, nil
}

// plan chooses what the index is asked for: a set that holds all that the query lets through, and in which order.
func plan(q *mfr.Query) (ask index.Query, why []string) {
	var sets []index.Set
	use := func(s index.Set, what string) { sets, why = append(sets, s), append(why, what) }
	for _, c := range q.Constraints() {
		text, ok := c.Text()
		path := c.Path
		if !ok || len(path) < 2 || path[0] != "value" {
			continue
		}
		id, noFeed := identity.ParseID(text)
		switch {
		case path[1] == "author" && len(path) == 2:
			if noFeed == nil {
				use(index.By(id), "author")
			}
		case path[1] != "content" || len(path) < 3:
		case path[2] == "type" && len(path) == 3:
			use(index.OfType(text).Private(true), "type")
		case path[2] == "channel" && len(path) == 3 && index.NormalizeChannel(text) == text:
			use(index.Tagged(text).Private(true), "channel")
		case isRef(text):
			use(index.Refers(text, path[2]).Private(true), path[2])
		}
	}
	ask.Where = index.And(sets...)
	bound := func(low, high float64) {
		if low > 0 && !math.IsInf(low, 1) {
			ask.Since = low
		}
		if high > 0 && !math.IsInf(high, 1) {
			ask.Until = high
		}
	}
	if low, high, ok := q.Constraint("timestamp").Range(); ok {
		bound(low, high)
		why = append(why, "timestamp")
	} else if low, high, ok := q.Constraint("rts").Range(); ok {
		ask.Claimed = true
		bound(low, high)
		why = append(why, "rts")
	} else if _, high, ok := q.Constraint("value", "timestamp").Range(); ok {
		ask.Claimed = true
		bound(0, high) // the order is by the claim or the arrival, whichever is earlier
		why = append(why, "claimed")
	}
	if by := q.SortedBy(); len(by) > 0 {
		last := by[0][len(by[0])-1]
		ask.Claimed = ask.Claimed || last == "timestamp" && len(by[0]) == 2 || last == "rts"
	}
	return ask, why
}

// run sends what comes out of a query over the messages that the index finds; row makes the value that goes in, nil for none.
func (a *API) run(ctx context.Context, s *muxrpc.Stream, o queryOptions, q *mfr.Query, ask index.Query, row func(log.Message) []json.RawMessage) error {
	left := -1
	if o.Limit != nil && *o.Limit > 0 { // 0 is no limit in npm flumeview-query
		left = *o.Limit
	}
	ask.Reverse, ask.Live = o.Reverse, o.Live
	ask.New = o.Live && !isTrue(o.Old)
	if o.Live && !ask.New && isTrue(o.Sync) {
		ask.Caught = func() error { return s.SendJSON([]byte(`{"sync":true}`)) }
	}
	a.settle(ctx)
	found := a.Index.Query(ctx, ask)
	if ask.Claimed && !ask.Live && left > 0 && !q.Ends() {
		found = a.paged(ctx, ask, max(64, min(left, 1024)))
	}
	values := func(yield func(json.RawMessage, error) bool) {
		for m, err := range found {
			if err != nil {
				yield(nil, err)
				return
			}
			for _, v := range row(m) {
				if !yield(v, nil) {
					return
				}
			}
		}
	}
	for v, err := range q.Run(iter.Seq2[json.RawMessage, error](values), 0) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		if err := s.SendJSON(v); err != nil {
			return err
		}
		if left--; left == 0 {
			return nil
		}
	}
	return nil
}

// withRTS is a message as the reads show it: opened, and with the time by which it is sorted.
func (a *API) withRTS(m log.Message) []byte {
	return withFields(a.shown(m, true), "rts", index.PointOf(&m).Time)
}

func (a *API) queryRead(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, q, err := parseQuery(req)
	if err != nil {
		return err
	}
	ask, _ := plan(q)
	return a.run(ctx, s, o, q, ask, func(m log.Message) []json.RawMessage { return []json.RawMessage{a.withRTS(m)} })
}

func (a *API) queryExplain(_ context.Context, req *muxrpc.Request) (any, error) {
	o, q, err := parseQuery(req)
	if err != nil {
		return nil, err
	}
	ask, why := plan(q)
	explained := map[string]any{"scan": len(why) == 0, "live": o.Live, "old": isTrue(o.Old), "sync": isTrue(o.Sync), "index": append([]string{}, why...)}
	if ask.Since > 0 {
		explained["gte"] = ask.Since
	}
	if ask.Until > 0 {
		explained["lte"] = ask.Until
	}
	return explained, nil
}

func (a *API) privateRead(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, q, err := parseQuery(req)
	if err != nil {
		return err
	}
	ask, _ := plan(q)
	ask.Where = index.And(ask.Where, index.Opened())
	return a.run(ctx, s, o, q, ask, func(m log.Message) []json.RawMessage { return []json.RawMessage{a.withRTS(m)} })
}

// backlinksRead answers in the order of arrival, or by claimed time with the index "DTA" or when a type is asked for, as npm
// ssb-backlinks chooses.
func (a *API) backlinksRead(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, q, err := parseQuery(req)
	if err != nil {
		return err
	}
	ask, _ := plan(q)
	switch o.Index {
	case "DTA", "TDT":
		ask.Claimed = true
	case "DTS":
		ask.Claimed = false
	case "":
		_, typed := q.Constraint("value", "content", "type").Text()
		ask.Claimed = ask.Claimed || typed
	default:
		//lint:ignore ST1005 the text is that of npm ssb-backlinks
		return fmt.Errorf("Invalid index: %s", o.Index)
	}
	dest, ok := q.Constraint("dest").Text()
	if !ok {
		return a.allBacklinks(ctx, s, o, q, ask)
	}
	refers := index.Refers(dest)
	if len(dest) > 0 && dest[0] == '#' {
		refers = index.Or(refers, index.Tagged(dest))
	}
	ask.Where = index.And(ask.Where, refers.Private(true))
	return a.run(ctx, s, o, q, ask, func(m log.Message) []json.RawMessage {
		return []json.RawMessage{withFields(a.shown(m, true), "dest", dest, "rts", index.PointOf(&m).Time)}
	})
}

// allBacklinks makes a row of each reference, when no single dest is asked for: npm patchcore counts the messages of channels by
// {dest: {$prefix: "#"}}.
func (a *API) allBacklinks(ctx context.Context, s *muxrpc.Stream, o queryOptions, q *mfr.Query, ask index.Query) error {
	prefix := q.Constraint("dest").Prefix
	ask.Where = index.And(ask.Where, index.Or(index.Not(index.Boxed()), index.Opened()))
	return a.run(ctx, s, o, q, ask, func(m log.Message) (rows []json.RawMessage) {
		content := m.Content()
		if opened, ok := Unbox(&m, a.Key); ok {
			content = opened
		}
		var shown []byte
		for _, dest := range index.Destinations(content) {
			if !strings.HasPrefix(dest, prefix) {
				continue
			}
			if shown == nil {
				shown = a.shown(m, true)
			}
			rows = append(rows, withFields(slices.Clone(shown), "dest", dest, "rts", index.PointOf(&m).Time))
		}
		return rows
	})
}

// links2Read makes a row of each reference, with what is to be known of it in rel.
func (a *API) links2Read(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, q, err := parseQuery(req)
	if err != nil {
		return err
	}
	var sets []index.Set
	if dest, ok := q.Constraint("dest").Text(); ok {
		sets = append(sets, index.Links(dest).Private(true))
	}
	if source, ok := q.Constraint("source").Text(); ok {
		if id, err := identity.ParseID(source); err == nil {
			sets = append(sets, index.By(id))
		}
	}
	return a.run(ctx, s, o, q, index.Query{Where: index.And(sets...)}, func(m log.Message) (rows []json.RawMessage) {
		content := m.Content()
		if opened, ok := Unbox(&m, a.Key); ok {
			content = opened
		}
		for _, l := range linksOf(m, content) {
			data, err := json.Marshal(struct {
				Source identity.ID     `json:"source"`
				Rel    json.RawMessage `json:"rel"`
				Dest   string          `json:"dest"`
				TS     float64         `json:"ts"`
			}{l.source, relData(l, content), l.dest, m.Received()})
			if err == nil {
				rows = append(rows, data)
			}
		}
		return rows
	})
}

// relData is a reference's name and what npm ssb-links keeps of it.
func relData(l link, content []byte) json.RawMessage {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(content, &fields) // it is an object: there is a link in it
	var object struct {
		Value, Reason, Type, Size, Name, Filename json.RawMessage
	}
	var list []json.RawMessage
	if json.Unmarshal(fields[l.rel], &list) == nil {
		for _, item := range list {
			var o struct {
				Link string `json:"link"`
			}
			if json.Unmarshal(item, &o) == nil && o.Link == l.dest {
				_ = json.Unmarshal(item, &object)
			}
		}
	} else {
		_ = json.Unmarshal(fields[l.rel], &object)
	}
	rel := []any{l.rel}
	null := func(v json.RawMessage) any {
		if len(v) == 0 {
			return nil
		}
		return v
	}
	switch l.rel {
	case "vote":
		rel = append(rel, null(object.Value))
	case "flag":
		rel = append(rel, null(object.Reason))
	case "image":
		rel = append(rel, null(object.Type), null(object.Size))
	case "contact":
		rel = append(rel, null(fields["following"]), null(fields["blocking"]))
	case "about":
		var name string
		if json.Unmarshal(fields["name"], &name) == nil && len(fields["name"]) > 0 {
			rel = append(rel, name)
		}
	case "mentions":
		switch {
		case l.dest[0] == '@':
			var name string
			_ = json.Unmarshal(object.Name, &name) // else none
			rel = append(rel, "@"+strings.ToLower(name))
		case l.dest[0] == '&' && len(object.Filename) > 0:
			rel = append(rel, object.Filename, null(object.Size))
		case l.dest[0] == '&':
			rel = append(rel, null(object.Name), null(object.Size))
		}
	}
	data, err := json.Marshal(rel)
	if err != nil {
		return json.RawMessage("[]")
	}
	return data
}
