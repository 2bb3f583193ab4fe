package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"charkha/identity"
	"charkha/index"
	"charkha/log"
	"charkha/muxrpc"
)

// reads are the streams of messages that the index finds.
func (a *API) reads() []muxrpc.Method {
	return []muxrpc.Method{
		{Name: "createFeedStream", Kind: muxrpc.Source, Doc: "all messages in the order of the times that they claim, or of arrival where that is earlier", Args: streamArgs("time, in ms"), Stream: a.createFeedStream},
		{Name: "messagesByType", Kind: muxrpc.Source, Doc: "the messages of a type in the order they arrived", Args: args(
			either(need("select", "string|object", "the type, or an object"), standard("time of arrival, in ms", may("type", "string", "the type"))...)), Stream: a.messagesByType},
		{Name: "links", Kind: muxrpc.Source, Doc: "references from a feed to a feed, message or blob, as {source, rel, dest, key}", Args: opts(
			may("source", "string", "a feed's id, or @"),
			may("dest", "string", "the id of a feed, message or blob; or of all such: @ or feed, % or msg, & or blob"),
			may("rel", "string", "the field in which the reference stands"),
			may("meta", "boolean", "false: no source, rel and dest"),
			may("keys", "boolean", "false: no keys of the messages"),
			may("values", "boolean", "the messages' values, too"),
			may("reverse", "boolean|number", "the other way round"),
			may("limit", "number", "most references of those that are there; -1 for all"),
			may("live", "boolean|number", "go on with what comes"),
			may("old", "boolean", "false: only what comes"),
			may("sync", "boolean", "false: no {sync: true} between what is there and what comes"),
			may("private", "boolean", "open what is encrypted for us, in the values")), Stream: a.links},
	}
}

// stream sends what a query finds, in the form that the options ask for.
func (a *API) stream(ctx context.Context, s *muxrpc.Stream, o *streamOptions, q index.Query, encode func(log.Message) ([]byte, error)) error {
	left := o.limit()
	if left == 0 && !o.live() {
		return nil
	}
	q.Reverse, q.Live, q.New = bool(o.Reverse), o.live(), !isTrue(o.Old) || left == 0
	if q.Live && isTrue(o.Old) && isTrue(o.Sync) {
		q.Caught = func() error { return s.SendJSON([]byte(`{"sync":true}`)) }
	}
	if left > 0 && !q.New {
		old := q
		if old.Limit = left; q.Live {
			// What is there is bounded and what comes is not: two queries, with a place between them that the index knows.
			old.To, old.Live = a.Log.Len(), false
			if err := a.Index.Wait(ctx, old.To); err != nil {
				return ctxEnd(ctx, err)
			}
			q.From = old.To
		}
		if err := a.sendFound(ctx, s, old, encode); err != nil || !q.Live {
			return err
		}
	}
	return a.sendFound(ctx, s, q, encode)
}

// sendFound sends what a query finds.
func (a *API) sendFound(ctx context.Context, s *muxrpc.Stream, q index.Query, encode func(log.Message) ([]byte, error)) error {
	for m, err := range a.Index.Query(ctx, q) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		body, err := encode(m)
		if err != nil {
			return err
		}
		if body == nil {
			continue
		}
		if err := s.SendJSON(body); err != nil {
			return err
		}
	}
	return nil
}

// times makes the bounds of a query of those of the options, both included.
func (o *streamOptions) times(q *index.Query) {
	low, high := math.Inf(-1), math.Inf(1)
	if o.Gte != nil {
		low = max(low, *o.Gte)
	}
	if o.Gt != nil {
		low = max(low, math.Nextafter(*o.Gt, math.Inf(1)))
	}
	if o.Lte != nil {
		high = min(high, *o.Lte)
	}
	if o.Lt != nil {
		high = min(high, math.Nextafter(*o.Lt, math.Inf(-1)))
	}
	// 0 is no bound for a query.
	if low > 0 && !math.IsInf(low, 1) {
		q.Since = low
	}
	if !math.IsInf(high, 1) {
		if q.Until = high; high <= 0 {
			q.Until = math.SmallestNonzeroFloat64
		}
	}
}

func (a *API) createFeedStream(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o streamOptions
	if err := req.Decode(&o); err != nil {
		return err
	}
	a.settle(ctx)
	// npm ssb-db has the author behind the time in its keys, and so counts messages of a time as later than that time.
	q := index.Query{Claimed: true}
	if o.Gt != nil && (o.Gte == nil || *o.Gt > *o.Gte) {
		o.Gt, o.Gte = nil, o.Gt
	}
	if o.Lte != nil && (o.Lt == nil || *o.Lte < *o.Lt) {
		o.Lt, o.Lte = o.Lte, nil
	}
	o.times(&q)
	return a.stream(ctx, s, &o, q, func(m log.Message) ([]byte, error) { return a.encode(&o, m), nil })
}

func (a *API) messagesByType(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var arg json.RawMessage
	if err := req.Decode(&arg); err != nil {
		return err
	}
	var o struct {
		streamOptions
		Type string `json:"type"`
	}
	if json.Unmarshal(arg, &o.Type) != nil {
		if err := json.Unmarshal(arg, &o); err != nil {
			return fmt.Errorf("messagesByType: %w", err)
		}
	}
	if o.Type == "" {
		return errors.New("must provide {type: string} to messagesByType") // as npm ssb-db says it
	}
	a.settle(ctx)
	// What is encrypted is found by its type, too, and opened only when that is asked for.
	q := index.Query{Where: index.OfType(o.Type).Private(true)}
	o.times(&q)
	return a.stream(ctx, s, &o.streamOptions, q, func(m log.Message) ([]byte, error) { return a.encode(&o.streamOptions, m), nil })
}

// link is a reference in a message: {rel: REF}, {rel: {link: REF}}, or an array of these.
type link struct {
	source    identity.ID
	rel, dest string
	m         log.Message
}

// linksOf lists the references of a message as npm ssb-msgs does, indexLinks.
func linksOf(m log.Message, content []byte) (all []link) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(content, &fields) != nil {
		return nil
	}
	add := func(rel string, v json.RawMessage) {
		var text string
		var object struct {
			Link string `json:"link"`
		}
		if json.Unmarshal(v, &text) != nil && json.Unmarshal(v, &object) == nil {
			text = object.Link
		}
		if isRef(text) && !slices.ContainsFunc(all, func(l link) bool { return l.rel == rel && l.dest == text }) {
			all = append(all, link{m.Author(), rel, text, m})
		}
	}
	for rel, v := range eachField(content, fields) {
		var list []json.RawMessage
		if len(v) > 0 && v[0] == '[' && json.Unmarshal(v, &list) == nil {
			for _, item := range list {
				add(rel, item)
			}
			continue
		}
		add(rel, v)
	}
	return all
}

// eachField yields the fields of an object as they stand in it.
func eachField(object []byte, fields map[string]json.RawMessage) func(func(string, json.RawMessage) bool) {
	return func(yield func(string, json.RawMessage) bool) {
		dec := json.NewDecoder(bytes.NewReader(object))
		if _, err := dec.Token(); err != nil {
			return
		}
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return
			}
			var v json.RawMessage
			if dec.Decode(&v) != nil {
				return
			}
			if name, ok := name.(string); ok && !yield(name, fields[name]) {
				return
			}
		}
	}
}

// isRef reports whether a text is the id of a feed, message or blob.
func isRef(text string) bool {
	if len(text) != 52 && len(text) != 53 {
		return false
	}
	switch text[0] {
	case '@':
		_, err := identity.ParseID(text)
		return err == nil
	case '%':
		_, err := identity.ParseMsgID(text)
		return err == nil
	case '&':
		_, err := identity.ParseBlobID(text)
		return err == nil
	}
	return false
}

// class is what a filter of links asks for: all that begins with a sigil, or one id. "": all.
func class(text string) string {
	switch text {
	case "feed":
		return "@"
	case "msg":
		return "%"
	case "blob":
		return "&"
	}
	return text
}

func inClass(text, class string) bool {
	return class == "" || text == class || len(class) == 1 && strings.HasPrefix(text, class)
}

// maxLinks bounds the links that are put in order for one call.
const maxLinks = 1_000_000

// links answers in the order of npm ssb-db: by source, rel, dest; with a dest and no source by dest, rel, source; then by sequence.
// What comes live follows in the order in which it comes.
func (a *API) links(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o struct {
		streamOptions
		Source string `json:"source"`
		Dest   string `json:"dest"`
		Rel    string `json:"rel"`
		Meta   *bool  `json:"meta"`
		Values bool   `json:"values"`
	}
	if err := req.Decode(&o); err != nil {
		return err
	}
	keys, meta := isTrue(o.Keys), isTrue(o.Meta)
	if !keys && !meta && !o.Values {
		return errors.New("links: makes no sense to return a stream without results: set at least one of {keys, values, meta} to true")
	}
	for name, text := range map[string]string{"source": o.Source, "dest": o.Dest} {
		if c := class(text); len(c) > 1 && !isRef(c) {
			return fmt.Errorf("links: %s: %q is neither an id nor one of @, %%, &, feed, msg, blob", name, text)
		}
	}
	source, dest := class(o.Source), class(o.Dest)
	var sets []index.Set
	if len(source) > 1 {
		id, err := identity.ParseID(source)
		if err != nil {
			return fmt.Errorf("links: source: %w", err)
		}
		sets = append(sets, index.By(id))
	}
	if len(dest) > 1 {
		var rels []string
		if o.Rel != "" {
			rels = []string{o.Rel}
		}
		sets = append(sets, index.Links(dest, rels...).Private(true))
	}
	encode := func(l link) ([]byte, error) {
		type row struct {
			Source *identity.ID    `json:"source,omitempty"`
			Rel    string          `json:"rel,omitempty"`
			Dest   string          `json:"dest,omitempty"`
			Key    *identity.MsgID `json:"key,omitempty"`
			Value  json.RawMessage `json:"value,omitempty"`
		}
		var r row
		key := l.m.Key()
		if meta {
			r.Source, r.Rel, r.Dest = &l.source, l.rel, l.dest
		}
		if keys {
			r.Key = &key
		}
		if o.Values {
			r.Value = a.value(l.m, o.Private)
		}
		switch {
		case !meta && keys && !o.Values:
			return json.Marshal(key)
		case !meta && !keys:
			return r.Value, nil
		}
		return json.Marshal(r)
	}
	find := func(m log.Message) (found []link) {
		content := m.Content()
		if opened, ok := Unbox(&m, a.Key); ok {
			content = opened
		}
		for _, l := range linksOf(m, content) {
			if inClass(l.dest, dest) && (o.Rel == "" || l.rel == o.Rel) && inClass(l.source.String(), source) {
				found = append(found, l)
			}
		}
		return found
	}
	a.settle(ctx)
	left := o.limit()
	next := a.Log.Len()
	if o.live() {
		if err := a.Index.Wait(ctx, next); err != nil { // or what is between would be missed
			return ctxEnd(ctx, err)
		}
	}
	if isTrue(o.Old) {
		var all []link
		for m, err := range a.Index.Query(ctx, index.Query{Where: index.And(sets...), To: next}) {
			if err != nil {
				return ctxEnd(ctx, err)
			}
			if all = append(all, find(m)...); len(all) > maxLinks {
				return fmt.Errorf("links: more than %d: ask for less, with source, dest or rel", maxLinks)
			}
		}
		back := dest != "" && source == ""
		slices.SortFunc(all, func(x, y link) int {
			bySource, byDest := strings.Compare(x.source.String(), y.source.String()), strings.Compare(x.dest, y.dest)
			first, last := bySource, byDest
			if back {
				first, last = byDest, bySource
			}
			return cmp.Or(first, strings.Compare(x.rel, y.rel), last, cmp.Compare(x.m.Sequence(), y.m.Sequence()))
		})
		if o.Reverse {
			slices.Reverse(all)
		}
		for _, l := range all[:min(uint(len(all)), uint(left))] { // -1 is all
			body, err := encode(l)
			if err != nil {
				return err
			}
			if err := s.SendJSON(body); err != nil {
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
	for m, err := range a.Index.Query(ctx, index.Query{Where: index.And(sets...), From: next, Live: true}) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		for _, l := range find(m) {
			body, err := encode(l)
			if err != nil {
				return err
			}
			if err := s.SendJSON(body); err != nil {
				return err
			}
		}
	}
	return nil
}

// withFields is a KVT with further fields behind the others.
func withFields(kvt []byte, fields ...any) []byte {
	out := bytes.TrimSuffix(kvt, []byte("}"))
	for i := 0; i+1 < len(fields); i += 2 {
		data, _ := json.Marshal(fields[i+1]) // numbers and texts
		out = append(fmt.Appendf(out, ",%q:", fields[i]), data...)
	}
	return append(out, '}')
}
