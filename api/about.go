package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"charkha/identity"
	"charkha/index"
	"charkha/log"
	"charkha/muxrpc"
)

var (
	aboutKey  = muxrpc.Arg{Name: "key", Type: "string", Doc: "the field, such as name or image"}
	aboutDest = muxrpc.Arg{Name: "dest", Type: "string", Doc: "the feed or message that it is about"}
)

func aboutArgs(options ...muxrpc.Arg) []muxrpc.Arg {
	return []muxrpc.Arg{{Name: "opts", Type: "object", Doc: "options", Options: options}}
}

// about is what people say of feeds and messages, in messages {type: "about", about: DEST, FIELD: VALUE}: npm ssb-about 2 with
// ssb-social-index 1.2, ssb-about-self 1.1 and ssb-names 3.1. A value {remove: true} takes back what its author said before. What people whom
// we block say of others does not count.
func (a *API) about() []muxrpc.Method {
	one := aboutArgs(aboutKey, aboutDest)
	feed := []muxrpc.Arg{{Name: "id", Type: "FeedId", Doc: "the feed"}}
	return []muxrpc.Method{
		{Name: "about.socialValue", Kind: muxrpc.Async, Doc: "what we say of it, else what it or its author says, else what most say", Args: one, Call: a.socialValue},
		{Name: "about.latestValue", Kind: muxrpc.Async, Doc: "what was said of it last", Args: one, Call: a.latestValue},
		{Name: "about.socialValues", Kind: muxrpc.Async, Doc: "{author: what they say of it}", Args: one, Call: a.socialValues},
		{Name: "about.latestValues", Kind: muxrpc.Async, Doc: "{key: what was said of it last}, of some keys", Args: aboutArgs(
			muxrpc.Arg{Name: "keys", Type: "array", Doc: "the fields"}, aboutDest), Call: a.latestValues},
		{Name: "about.socialValueStream", Kind: muxrpc.Source, Doc: "what about.socialValue answers, then each time that somebody says something", Args: one, Stream: a.socialValueStream},
		{Name: "about.socialValuesStream", Kind: muxrpc.Source, Doc: "what about.socialValues answers, then {author: value} of who says something", Args: one, Stream: a.socialValuesStream},
		{Name: "about.latestValueStream", Kind: muxrpc.Source, Doc: "what about.latestValue answers, then each time that somebody says something", Args: aboutArgs(
			aboutKey, aboutDest, muxrpc.Arg{Name: "authorId", Type: "FeedId", Optional: true, Doc: "only what they say"}), Stream: a.latestValueStream},
		{Name: "about.read", Kind: muxrpc.Source, Doc: "the messages that say something of it", Args: aboutArgs(aboutDest,
			may("reverse", "boolean|number", "the newest first"), may("limit", "number", "most messages; -1 for all"),
			may("live", "boolean|number", "go on with what comes"), may("old", "boolean", "false: only what comes")), Stream: a.aboutRead},
		{Name: "aboutSelf.get", Kind: muxrpc.Async, Doc: "{name, description, image, publicWebHosting} as a feed says of itself", Args: feed, Call: a.aboutSelfGet},
		{Name: "aboutSelf.stream", Kind: muxrpc.Source, Doc: "what aboutSelf.get answers, then each time that the feed says something", Args: feed, Stream: a.aboutSelfStream},
		{Name: "names.get", Kind: muxrpc.Async, Doc: "{from: {to: name}}, of people in range", Call: a.namesGet},
		{Name: "names.getImages", Kind: muxrpc.Async, Doc: "{from: {to: blob id}}, of people in range", Call: a.namesGetImages},
		{Name: "names.getImageFor", Kind: muxrpc.Async, Doc: "the image that we gave a feed, else most of those whom we follow, else most of those whom they follow, else itself", Args: feed, Call: a.namesGetImageFor},
		{Name: "names.getSignifier", Kind: muxrpc.Async, Doc: "the name of a feed, by the same rule; its id, if it has none", Args: feed, Call: a.namesGetSignifier},
		{Name: "names.getSignifies", Kind: muxrpc.Async, Doc: "[{name, id, rank, named}] of the feeds with a name that begins so; rank: how many of us, of those whom we follow, and of those whom they follow say so",
			Args: []muxrpc.Arg{{Name: "name", Type: "string", Doc: "the beginning"}}, Call: a.namesGetSignifies},
		{Name: "names.dump", Kind: muxrpc.Sync, Doc: "the same as names.get", Call: a.namesGet},
	}
}

// aboutOptions are the options of about.*.
type aboutOptions struct {
	streamOptions
	Key      string       `json:"key"`
	Keys     []string     `json:"keys"`
	Dest     string       `json:"dest"`
	AuthorID *identity.ID `json:"authorId"`
}

// saying is what a message says of its subject.
type saying struct {
	author identity.ID
	fields map[string]json.RawMessage
	m      log.Message
}

// subject is whose word on something counts before that of others: a feed's own, or the author's of a message. false: it is neither,
// or the message is not here.
func (a *API) subject(dest string) (identity.ID, bool, error) {
	if id, err := identity.ParseID(dest); err == nil {
		return id, true, nil
	}
	key, err := identity.ParseMsgID(dest)
	if err != nil {
		return identity.ID{}, false, nil
	}
	m, err := a.Log.Get(key)
	if errors.Is(err, log.ErrNotFound) {
		return identity.ID{}, false, nil
	}
	return m.Author(), err == nil, err
}

// spoken yields what messages say of something, in the order of the times that they claim, and with q.Live what comes.
func (a *API) spoken(ctx context.Context, dest string, q index.Query) iter.Seq2[saying, error] {
	return func(yield func(saying, error) bool) {
		subject, _, err := a.subject(dest)
		if err != nil {
			yield(saying{}, err)
			return
		}
		a.settle(ctx)
		q.Claimed = true
		q.Where = index.And(q.Where, index.OfType("about").Private(true), index.Links(dest, "about").Private(true))
		for m, err := range a.Index.Query(ctx, q) {
			if err != nil {
				yield(saying{}, err)
				return
			}
			if m.Author() != subject && a.Index.Blocks(a.Key.ID(), m.Author()) {
				continue
			}
			// {about: {link: DEST}} has a link to it, too, but is of no form that anybody reads.
			fields := fieldsOf(a.content(&m, true))
			if textIn(fields["about"]) == dest && !yield(saying{m.Author(), fields, m}, nil) {
				return
			}
		}
	}
}

// lastWords are what each author said last, of one field of one subject.
type lastWords struct {
	by map[identity.ID]lastWord
	n  int
}

type lastWord struct {
	json        json.RawMessage
	first, last int // when they began to say anything, and when they said this
}

// add takes what somebody says.
func (v *lastWords) add(author identity.ID, said json.RawMessage) {
	if v.by == nil {
		v.by = map[identity.ID]lastWord{}
	}
	v.n++
	old, ok := v.by[author]
	switch {
	case truthy(fieldsOf(said)["remove"]):
		delete(v.by, author)
	case ok:
		v.by[author] = lastWord{bytes.Clone(said), old.first, v.n}
	default:
		v.by[author] = lastWord{bytes.Clone(said), v.n, v.n}
	}
}

// latest is what was said last, null for nothing.
func (v *lastWords) latest() json.RawMessage {
	newest := lastWord{json: json.RawMessage("null")}
	for _, said := range v.by {
		if said.last > newest.last {
			newest = said
		}
	}
	return newest.json
}

// social is what self says, else what the subject says, else what most say, of the first two kinds whatever it is, of the others a
// text or a link. Of what equally many say, that which came to be said by so many first, in the order in which they began.
func (v *lastWords) social(self, subject identity.ID) json.RawMessage {
	for _, author := range []identity.ID{self, subject} {
		if said, ok := v.by[author]; ok {
			return said.json
		}
	}
	all := slices.SortedFunc(maps.Values(v.by), func(x, y lastWord) int { return cmp.Compare(x.first, y.first) })
	count, best := map[string]int{}, ""
	for _, said := range all {
		text := plainValue(said.json)
		if text == "" {
			continue
		}
		if count[text]++; count[text] > count[best] {
			best = text
		}
	}
	if best == "" {
		return json.RawMessage("null")
	}
	text, _ := json.Marshal(best)
	return text
}

// plainValue is a text, or the link of {link}; "": it is neither.
func plainValue(v json.RawMessage) string {
	if text := textIn(v); text != "" {
		return text
	}
	link := textIn(fieldsOf(v)["link"])
	if _, _, err := identity.ParseLink(link); err != nil {
		return ""
	}
	return link
}

func (a *API) socialOf(ctx context.Context, o *aboutOptions) (v lastWords, err error) {
	for said, err := range a.spoken(ctx, o.Dest, index.Query{}) {
		if err != nil {
			return v, err
		}
		if truthy(said.fields[o.Key]) {
			v.add(said.author, said.fields[o.Key])
		}
	}
	return v, nil
}

func (a *API) socialValue(ctx context.Context, req *muxrpc.Request) (any, error) {
	var o aboutOptions
	if err := req.Decode(&o); err != nil {
		return nil, err
	}
	subject, ok, err := a.subject(o.Dest)
	if err == nil && !ok && strings.HasPrefix(o.Dest, "%") {
		err = fmt.Errorf("%s: %w", o.Dest, log.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	v, err := a.socialOf(ctx, &o)
	return v.social(a.Key.ID(), subject), err
}

func (a *API) socialValues(ctx context.Context, req *muxrpc.Request) (any, error) {
	var o aboutOptions
	if err := req.Decode(&o); err != nil {
		return nil, err
	}
	v, err := a.socialOf(ctx, &o)
	return v.all(), err
}

func (v *lastWords) all() map[identity.ID]json.RawMessage {
	all := map[identity.ID]json.RawMessage{}
	for author, said := range v.by {
		all[author] = said.json
	}
	return all
}

// latestOf is what was said last for each key; of what nobody says there is nothing.
func (a *API) latestOf(ctx context.Context, dest string, keys ...string) (map[string]json.RawMessage, error) {
	by := make(map[string]*lastWords, len(keys))
	for _, key := range keys {
		by[key] = &lastWords{}
	}
	for said, err := range a.spoken(ctx, dest, index.Query{}) {
		if err != nil {
			return nil, err
		}
		for key, v := range by {
			if text, ok := said.fields[key]; ok {
				v.add(said.author, text)
			}
		}
	}
	latest := map[string]json.RawMessage{}
	for key, v := range by {
		if len(v.by) > 0 {
			latest[key] = v.latest()
		}
	}
	return latest, nil
}

func (a *API) latestValue(ctx context.Context, req *muxrpc.Request) (any, error) {
	var o aboutOptions
	if err := req.Decode(&o); err != nil {
		return nil, err
	}
	latest, err := a.latestOf(ctx, o.Dest, o.Key)
	if err != nil || latest[o.Key] == nil {
		return nil, err
	}
	return latest[o.Key], nil
}

func (a *API) latestValues(ctx context.Context, req *muxrpc.Request) (any, error) {
	var o aboutOptions
	if err := req.Decode(&o); err != nil {
		return nil, err
	}
	return a.latestOf(ctx, o.Dest, o.Keys...)
}

// speaking gathers what is said of one thing: it calls show with all of that, and then with each who says something.
func (a *API) speaking(ctx context.Context, o *aboutOptions, where index.Set, is func(said json.RawMessage) bool, show func(v *lastWords, now *saying) error) error {
	var v lastWords
	caught := false
	q := index.Query{Where: where, Live: true, Caught: func() error {
		caught = true
		return show(&v, nil)
	}}
	for said, err := range a.spoken(ctx, o.Dest, q) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		text, ok := said.fields[o.Key]
		if !ok || !is(text) {
			continue
		}
		v.add(said.author, text)
		if caught {
			if err := show(&v, &said); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *API) socialValueStream(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o aboutOptions
	if err := req.Decode(&o); err != nil {
		return err
	}
	return a.speaking(ctx, &o, index.Set{}, truthy, func(v *lastWords, _ *saying) error {
		subject, _, err := a.subject(o.Dest)
		if err != nil {
			return err
		}
		return s.SendJSON(v.social(a.Key.ID(), subject))
	})
}

func (a *API) socialValuesStream(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o aboutOptions
	if err := req.Decode(&o); err != nil {
		return err
	}
	return a.speaking(ctx, &o, index.Set{}, truthy, func(v *lastWords, now *saying) error {
		if now == nil {
			return sendJSON(s, v.all())
		}
		return sendJSON(s, map[identity.ID]json.RawMessage{now.author: now.fields[o.Key]})
	})
}

func (a *API) latestValueStream(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o aboutOptions
	if err := req.Decode(&o); err != nil {
		return err
	}
	var where index.Set
	if o.AuthorID != nil {
		where = index.By(*o.AuthorID)
	}
	all := func(json.RawMessage) bool { return true }
	return a.speaking(ctx, &o, where, all, func(v *lastWords, _ *saying) error { return s.SendJSON(v.latest()) })
}

func (a *API) aboutRead(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o aboutOptions
	if err := req.Decode(&o); err != nil {
		return err
	}
	left := o.limit()
	if left == 0 {
		return nil
	}
	q := index.Query{Reverse: bool(o.Reverse), Live: o.live(), New: !isTrue(o.Old)}
	if !q.New {
		q.Caught = func() error { return s.SendJSON([]byte(`{"sync":true}`)) }
	}
	for said, err := range a.spoken(ctx, o.Dest, q) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		if err := s.SendJSON(a.shown(said.m, true)); err != nil {
			return err
		}
		if left--; left == 0 {
			return nil
		}
	}
	return nil
}

// selfProfile is what a feed says of itself.
type selfProfile struct {
	Name             *string `json:"name,omitempty"`
	Description      *string `json:"description,omitempty"`
	Image            *string `json:"image,omitempty"`
	PublicWebHosting *bool   `json:"publicWebHosting,omitempty"`
}

// add takes what a message says. What it says in another form than these is left as it was.
func (p *selfProfile) add(fields map[string]json.RawMessage) {
	text := func(to **string, v json.RawMessage) {
		if len(v) > 0 && v[0] == '"' {
			said := textIn(v)
			*to = &said
		}
	}
	text(&p.Name, fields["name"])
	text(&p.Description, fields["description"])
	text(&p.Image, fields["image"])
	text(&p.Image, fieldsOf(fields["image"])["link"])
	if v := string(fields["publicWebHosting"]); v == "true" || v == "false" {
		yes := v == "true"
		p.PublicWebHosting = &yes
	}
}

func (p *selfProfile) empty() bool {
	return (p.Name == nil || *p.Name == "") && (p.Description == nil || *p.Description == "") && (p.Image == nil || *p.Image == "")
}

// selfSpoken yields what a feed says of itself in public, in the order in which it says so, up to now or live.
func (a *API) selfSpoken(ctx context.Context, id identity.ID, q index.Query) iter.Seq2[map[string]json.RawMessage, error] {
	return func(yield func(map[string]json.RawMessage, error) bool) {
		a.settle(ctx)
		q.Where = index.And(index.By(id), index.OfType("about"), index.Links(id.String(), "about"))
		for m, err := range a.Index.Query(ctx, q) {
			if err != nil {
				yield(nil, err)
				return
			}
			if fields := fieldsOf(m.Content()); textIn(fields["about"]) == id.String() && !yield(fields, nil) {
				return
			}
		}
	}
}

func (a *API) aboutSelfGet(ctx context.Context, req *muxrpc.Request) (any, error) {
	var id identity.ID
	if err := req.Decode(&id); err != nil {
		return nil, err
	}
	var p selfProfile
	for fields, err := range a.selfSpoken(ctx, id, index.Query{}) {
		if err != nil {
			return nil, err
		}
		p.add(fields)
	}
	return p, nil
}

func (a *API) aboutSelfStream(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var id identity.ID
	if err := req.Decode(&id); err != nil {
		return err
	}
	var p selfProfile
	caught := false
	q := index.Query{Live: true, Caught: func() error {
		caught = true
		if p.empty() {
			return nil
		}
		return sendJSON(s, p)
	}}
	for fields, err := range a.selfSpoken(ctx, id, q) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		p.add(fields)
		if caught {
			if err := sendJSON(s, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// namesBytes bounds what names.get and names.getImages answer: there is no end of the names that people can give.
const namesBytes = 16 << 20

// given is {from: {to: text}} of what people in range say of others.
func (a *API) given(ctx context.Context, field index.Field) (any, error) {
	a.settle(ctx)
	all := map[identity.ID]map[identity.ID]string{}
	left := namesBytes
	for said, err := range a.Index.Said(identity.ID{}) {
		if err != nil {
			return nil, err
		}
		if said.Field != field || !a.Index.Wanted(said.Author) {
			continue
		}
		if left -= len(said.Text) + 64; left < 0 {
			break
		}
		if all[said.Author] == nil {
			all[said.Author] = map[identity.ID]string{}
		}
		all[said.Author][said.Feed] = said.Text
	}
	return all, nil
}

func (a *API) namesGet(ctx context.Context, _ *muxrpc.Request) (any, error) {
	return a.given(ctx, index.FieldName)
}

func (a *API) namesGetImages(ctx context.Context, _ *muxrpc.Request) (any, error) {
	return a.given(ctx, index.FieldImage)
}

// ring is 0 for ourselves, 1 for those whom we follow, 2 for those whom they follow; false: none of these.
func (a *API) ring(id identity.ID) (int, bool) {
	if id == a.Key.ID() {
		return 0, true
	}
	hops, ok := a.Index.Hops(id)
	return hops, ok && (hops == 1 || hops == 2)
}

// signifier is what we call a feed, else what most of those whom we follow do, else most of those whom they follow, else itself; "":
// nobody of these says anything. Of what equally many say, the first in order.
func (a *API) signifier(feed identity.ID, field index.Field) (string, error) {
	var rings [3]map[string]int
	own := ""
	for said, err := range a.Index.Said(feed) {
		if err != nil {
			return "", err
		}
		if said.Field != field {
			continue
		}
		if said.Author == feed {
			own = said.Text
		}
		if ring, ok := a.ring(said.Author); ok {
			if rings[ring] == nil {
				rings[ring] = map[string]int{}
			}
			rings[ring][said.Text]++
		}
	}
	for _, count := range rings {
		best := ""
		for text, n := range count {
			if c := n - count[best]; best == "" || c > 0 || c == 0 && text < best {
				best = text
			}
		}
		if best != "" {
			return best, nil
		}
	}
	return own, nil
}

func (a *API) namesGetImageFor(ctx context.Context, req *muxrpc.Request) (any, error) {
	var feed identity.ID
	if err := req.Decode(&feed); err != nil {
		return nil, err
	}
	a.settle(ctx)
	image, err := a.signifier(feed, index.FieldImage)
	if err != nil || image == "" {
		return nil, err
	}
	return image, nil
}

func (a *API) namesGetSignifier(ctx context.Context, req *muxrpc.Request) (any, error) {
	var feed identity.ID
	if err := req.Decode(&feed); err != nil {
		return nil, err
	}
	a.settle(ctx)
	name, err := a.signifier(feed, index.FieldName)
	if err != nil || name == "" {
		return feed, err
	}
	return name, nil
}

// signified is a feed that is called something.
type signified struct {
	Name  string      `json:"name"`
	ID    identity.ID `json:"id"`
	Rank  [3]int      `json:"rank"`
	Named string      `json:"named"`
}

const (
	signifiesMost = 1000    // feeds that names.getSignifies answers with
	signifiesScan = 100_000 // of so many, the best ones
)

func (a *API) namesGetSignifies(ctx context.Context, req *muxrpc.Request) (any, error) {
	var prefix string
	if err := req.Decode(&prefix); err != nil {
		return nil, err
	}
	a.settle(ctx)
	type call struct {
		feed identity.ID
		name string
	}
	found := map[call]*signified{}
	for said, err := range a.Index.Said(identity.ID{}) {
		if err != nil {
			return nil, err
		}
		ring, ok := a.ring(said.Author)
		if !ok || said.Field != index.FieldName || !strings.HasPrefix(said.Text, prefix) {
			continue
		}
		c := call{said.Feed, said.Text}
		if found[c] == nil && len(found) == signifiesScan {
			continue
		}
		if found[c] == nil {
			found[c] = &signified{Name: said.Text, ID: said.Feed}
		}
		found[c].Rank[ring]++
	}
	all := slices.SortedFunc(maps.Values(found), func(x, y *signified) int {
		return cmp.Or(slices.Compare(y.Rank[:], x.Rank[:]), strings.Compare(x.Name, y.Name), bytes.Compare(x.ID[:], y.ID[:]))
	})
	all = all[:min(len(all), signifiesMost)]
	for _, s := range all {
		name, err := a.signifier(s.ID, index.FieldName)
		if err != nil {
			return nil, err
		}
		s.Named = cmp.Or(name, s.ID.String())
	}
	return append([]*signified{}, all...), nil
}
