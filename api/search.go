package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"charkha/identity"
	"charkha/index"
	"charkha/log"
	"charkha/muxrpc"
)

// search is what finds messages and people by words: npm ssb-search 1.3, ssb-suggest 1.3, ssb-tangle 1.0 and ssb-meme 1.1, and
// search2.query, which is ours. Blocked people are not found.
func (a *API) search() []muxrpc.Method {
	limit := muxrpc.Arg{Name: "limit", Type: "number", Optional: true, Doc: "most answers"}
	query := []muxrpc.Arg{{Name: "opts", Type: "string|object", Doc: "the words, or an object", Options: []muxrpc.Arg{
		{Name: "query", Type: "string", Doc: "words of 3 letters or more, or how they begin"}, limit}}}
	return []muxrpc.Method{
		{Name: "search.query", Kind: muxrpc.Source, Doc: "messages that have words that begin so, as {key, value, rank}: those first to which most of the others link, then the newest", Args: []muxrpc.Arg{{Name: "opts", Type: "object", Doc: "options", Optional: true, Options: []muxrpc.Arg{
			{Name: "query", Type: "string", Optional: true, Doc: "words of 3 letters or more, or how they begin"}, limit}}}, Stream: a.searchQuery},
		{Name: "search2.query", Kind: muxrpc.Source, Doc: "messages that have all of some words, the newest first; of the last word the beginning is enough", Args: []muxrpc.Arg{{Name: "opts", Type: "object", Doc: "options", Options: []muxrpc.Arg{
			{Name: "text", Type: "string", Doc: "the words"},
			{Name: "limit", Type: "number", Optional: true, Doc: "most messages: 50; -1 for all"},
			{Name: "before", Type: "MsgId", Optional: true, Doc: "go on behind this one, the last of the answers before"}}}}, Stream: a.search2Query},
		{Name: "suggest.profile", Kind: muxrpc.Async, Doc: "people whose name begins so, as {id, name, names, image, following, matchedName}; without a text, some whom one could mean", Args: []muxrpc.Arg{{Name: "opts", Type: "object", Doc: "options", Optional: true, Options: []muxrpc.Arg{
			{Name: "text", Type: "string", Optional: true, Doc: "the beginning of a name"},
			{Name: "limit", Type: "number", Optional: true, Doc: "most people: 20"},
			{Name: "defaultIds", Type: "array", Optional: true, Doc: "feeds to suggest without a text, instead of those who wrote last"}}}}, Call: a.suggestProfile},
		{Name: "tangle.branch", Kind: muxrpc.Async, Doc: "the messages of a thread that no other one of it refers to: what an answer has in its branch",
			Args: []muxrpc.Arg{{Name: "root", Type: "MsgId", Doc: "the message that began the thread"}}, Call: a.tangleBranch},
		{Name: "meme.search", Kind: muxrpc.Async, Doc: "{blob: [{name, author, msg}]} of images in messages, by words in their names", Args: query, Call: a.memeSearch},
		{Name: "meme.query", Kind: muxrpc.Source, Doc: "the messages that meme.search finds, the newest first", Args: query, Stream: a.memeQuery},
	}
}

// searchMost is how many messages are put in order for one search, the newest ones that are found.
const searchMost = 5000

// terms are the words of a query that count: those of three letters or more, as in npm flumeview-search, and those of other alphabets
// than ours, in which a word may be shorter.
func terms(query string) (all []string) {
	for _, word := range strings.FieldsFunc(query, func(r rune) bool {
		return r != '_' && !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.So)
	}) {
		if (len(word) >= 3 || word[0] >= 0x80) && len(index.Words(word)) > 0 {
			all = append(all, word)
		}
	}
	return all
}

// withTerms is what has words that begin like all of some.
func withTerms(all []string) index.Set {
	var sets []index.Set
	for _, term := range all[:min(len(all), termsMost)] {
		sets = append(sets, index.Word(term, true).Private(true))
	}
	return index.And(sets...)
}

// termsMost is how many words of a query count.
const termsMost = 20

// most is a limit as JS takes it: none, 0 and what is no number for all.
func most(limit float64) int {
	if limit >= 1 && limit < math.MaxInt32 {
		return int(limit)
	}
	return math.MaxInt32
}

type searchOptions struct {
	Query string  `json:"query"`
	Limit float64 `json:"limit"`
}

func (a *API) searchQuery(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o searchOptions
	if err := req.Decode(&o); err != nil {
		return err
	}
	words := terms(o.Query)
	if len(words) == 0 {
		return nil
	}
	a.settle(ctx)
	var found []log.Message
	rank := map[identity.MsgID]int{} // how many links the others have to each
	for m, err := range a.Index.Query(ctx, index.Query{Where: withTerms(words), Reverse: true, Limit: searchMost, Unblocked: true}) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		found = append(found, m)
		rank[m.Key()] = 0
	}
	for _, m := range found {
		content, near := a.content(&m, true), false
		idsIn(content, func(id identity.MsgID) {
			_, ok := rank[id]
			near = near || ok
		})
		if !near {
			continue // most have no links: spare the work to find where they are
		}
		for _, l := range linksOf(m, content) {
			if id, err := identity.ParseMsgID(l.dest); err == nil {
				if n, ok := rank[id]; ok {
					rank[id] = n + 1
				}
			}
		}
	}
	slices.SortStableFunc(found, func(x, y log.Message) int {
		return cmp.Or(rank[y.Key()]-rank[x.Key()], cmp.Compare(y.Timestamp(), x.Timestamp()))
	})
	for _, m := range found[:min(len(found), most(o.Limit))] {
		body := fmt.Appendf(nil, `{"key":"%s","value":%s`, m.Key(), a.value(m, true))
		if n := rank[m.Key()]; n > 0 { // JS leaves out what is undefined
			body = fmt.Appendf(body, `,"rank":%d`, n)
		}
		if err := s.SendJSON(append(body, '}')); err != nil {
			return err
		}
	}
	return nil
}

func (a *API) search2Query(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o := struct {
		Text   string          `json:"text"`
		Limit  *float64        `json:"limit"`
		Before *identity.MsgID `json:"before"`
	}{}
	if err := req.Decode(&o); err != nil {
		return err
	}
	q := index.Query{Where: index.Word(o.Text, true).Private(true), Claimed: true, Reverse: true, Limit: 50, Unblocked: true}
	if o.Limit != nil {
		if q.Limit = max(0, int(min(*o.Limit, math.MaxInt32))); *o.Limit == 0 {
			return nil
		}
	}
	if o.Before != nil {
		last, err := a.Log.Get(*o.Before)
		if err != nil {
			return fmt.Errorf("before: %s: %w", o.Before, err)
		}
		behind := index.PointOf(&last)
		q.Behind = &behind
	}
	a.settle(ctx)
	for m, err := range a.Index.Query(ctx, q) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		if err := s.SendJSON(a.shown(m, true)); err != nil {
			return err
		}
	}
	return nil
}

// suggestion is somebody whom one could mean.
type suggestion struct {
	ID          identity.ID `json:"id"`
	Name        *string     `json:"name"`
	Names       []string    `json:"names"` // that we and those whom we follow give them
	Image       *string     `json:"image"`
	Following   bool        `json:"following"`
	MatchedName string      `json:"matchedName,omitempty"`
	Aliases     []string    `json:"aliases,omitempty"` // the names but for the matched one

	class int // how well the name matches, 0 best
}

const (
	suggestRecent = 300 // messages whose authors are suggested without a text
	suggestMost   = 20  // people that are suggested, unless a limit is asked for
	suggestScan   = 500 // people with such a name that are looked at: whom we follow first, then the shortest names
)

// suggestProfile looks among all people in range, where ssb-suggest knows only those whom we follow and who wrote lately.
func (a *API) suggestProfile(ctx context.Context, req *muxrpc.Request) (any, error) {
	o := struct {
		Text       string            `json:"text"`
		Limit      float64           `json:"limit"`
		DefaultIDs []json.RawMessage `json:"defaultIds"`
	}{}
	if err := req.Decode(&o); err != nil {
		return nil, err
	}
	a.settle(ctx)
	var ids []identity.ID
	add := func(id identity.ID) {
		if !a.Index.Blocks(a.Key.ID(), id) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for _, text := range o.DefaultIDs[:min(len(o.DefaultIDs), 1000)] {
		if id, err := identity.ParseID(textIn(text)); err == nil && id != a.Key.ID() {
			add(id)
		}
	}
	text := strings.TrimSpace(o.Text)
	limit := suggestMost
	if o.Limit >= 1 {
		limit = most(o.Limit)
	}
	if text == "" {
		if len(ids) > 0 {
			return a.suggestions(ids)
		}
		for m, err := range limited(a.Log.Arrivals(a.Log.Len(), true), suggestRecent) {
			if err != nil {
				return nil, err
			}
			add(m.Author())
		}
		return a.suggestions(ids[:min(len(ids), limit)])
	}
	called, err := a.calledLike(text, ids)
	if err != nil {
		return nil, err
	}
	found, err := a.suggestions(called)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(s *suggestion) bool { return !s.match(text) })
	slices.SortFunc(found, func(x, y *suggestion) int {
		return cmp.Or(before(!x.dead(), !y.dead()), x.class-y.class, before(x.Following, y.Following), strings.Compare(x.MatchedName, y.MatchedName), slices.Compare(x.ID[:], y.ID[:]))
	})
	return found[:min(len(found), limit)], nil
}

// calledLike finds people in range, or of some others, to whom somebody gave a name that begins so.
func (a *API) calledLike(text string, others []identity.ID) ([]identity.ID, error) {
	plain := plainName(text)
	if plain == "" {
		return nil, nil
	}
	shortest := map[identity.ID]int{}
	for said, err := range a.Index.Said(identity.ID{}) {
		if err != nil {
			return nil, err
		}
		if said.Field != index.FieldName || !strings.HasPrefix(plainName(said.Text), plain) || !a.Index.Wanted(said.Feed) && !slices.Contains(others, said.Feed) {
			continue
		}
		if n, ok := shortest[said.Feed]; !ok || len(said.Text) < n {
			shortest[said.Feed] = len(said.Text)
		}
	}
	called := slices.SortedFunc(maps.Keys(shortest), func(x, y identity.ID) int {
		return cmp.Or(before(a.near(x), a.near(y)), shortest[x]-shortest[y], slices.Compare(x[:], y[:]))
	})
	return called[:min(len(called), suggestScan)], nil
}

// before puts what is so before what is not.
func before(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return -1
	}
	return 1
}

// suggestions are the people with some ids.
func (a *API) suggestions(ids []identity.ID) ([]*suggestion, error) {
	all := make([]*suggestion, 0, len(ids))
	for _, id := range ids {
		p, err := a.Index.Profile(id)
		if err != nil {
			return nil, err
		}
		s := &suggestion{ID: id, Names: []string{}, Following: a.near(id)}
		if p.Name != "" {
			s.Name = &p.Name
		}
		if p.Image != "" {
			s.Image = &p.Image
		}
		for said, err := range a.Index.Said(id) {
			if err != nil {
				return nil, err
			}
			if said.Field == index.FieldName && a.near(said.Author) && !slices.Contains(s.Names, said.Text) && len(s.Names) < namesMost {
				s.Names = append(s.Names, said.Text)
			}
		}
		all = append(all, s)
	}
	return all, nil
}

// namesMost is how many names of one feed are suggested.
const namesMost = 100

// match finds the name that is like a text, in the order of ssb-suggest: just that name; the name that counts, when it begins so; just
// that but for case, spaces and accents; a name that begins so; and a name that begins so but for spaces.
func (s *suggestion) match(text string) bool {
	names, preferred := s.Names, ""
	if s.Name != nil {
		preferred = *s.Name
		names = append([]string{preferred}, slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == preferred })...)
	}
	s.class = math.MaxInt
	plain := plainName(text)
	for _, name := range names {
		class := 5
		switch {
		case !strings.HasPrefix(plainName(name), plain):
			continue
		case name == text && name == preferred:
			class = 0
		case name == text:
			class = 1
		case name == preferred:
			class = 2
		case plainName(name) == plain:
			class = 3
		case strings.HasPrefix(strings.ToLower(name), strings.ToLower(text)):
			class = 4
		}
		if class < s.class {
			s.class, s.MatchedName = class, name
		}
	}
	for _, name := range s.Names {
		if name != s.MatchedName {
			s.Aliases = append(s.Aliases, name)
		}
	}
	return s.class < math.MaxInt
}

// dead reports whether a name says that nobody writes there any more.
func (s *suggestion) dead() bool {
	names := s.Names
	if s.Name != nil {
		names = append([]string{*s.Name}, names...)
	}
	return slices.ContainsFunc(names, func(name string) bool {
		return strings.HasPrefix(name, "deprecated") || strings.HasPrefix(name, "dead")
	})
}

// plainName is a name without what makes no difference in a search: case, accents, spaces, "-" and "_".
func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == '-' || r == '_' || unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(name))
}

// tangleBranch looks at the latest messages of a thread, private ones that are for us among them, as ssb-sort's heads: what any other
// refers to anywhere is no tip, be it as what came before in a feed.
func (a *API) tangleBranch(ctx context.Context, req *muxrpc.Request) (any, error) {
	var root identity.MsgID
	if err := req.Decode(&root); err != nil {
		return nil, err
	}
	a.settle(ctx)
	tips := map[identity.MsgID]bool{root: true}
	var referred []identity.MsgID
	refer := func(id identity.MsgID) { referred = append(referred, id) }
	q := index.Query{Where: index.Links(root.String(), "root").Private(true), Reverse: true, Limit: index.ThreadMost, Unblocked: true}
	for m, err := range a.Index.Query(ctx, q) {
		if err != nil {
			return nil, err
		}
		content := a.content(&m, true)
		if textIn(fieldsOf(content)["root"]) != root.String() {
			continue
		}
		tips[m.Key()] = true
		idsIn(content, refer)
		refer(m.Previous())
	}
	for _, id := range referred {
		delete(tips, id)
	}
	all := []string{}
	for id := range tips {
		all = append(all, id.String())
	}
	slices.Sort(all)
	return all, nil
}

// meme is an image that somebody named.
type meme struct {
	link   string
	Name   string         `json:"name"`
	Author identity.ID    `json:"author"`
	Msg    identity.MsgID `json:"msg"`
}

// memes calls do with the messages of which an image is named like all words of a query, and with these images. The name of an
// image stands in the text of the message too, as programs write it, and is found there.
func (a *API) memes(ctx context.Context, req *muxrpc.Request, do func(m log.Message, found []meme) error) error {
	var arg json.RawMessage
	var o searchOptions
	if err := req.Decode(&arg); err != nil {
		return err
	}
	if json.Unmarshal(arg, &o.Query) != nil {
		if err := json.Unmarshal(arg, &o); err != nil {
			return fmt.Errorf("%s: %w", req.Name, err)
		}
	}
	words := terms(strings.ReplaceAll(strings.ToLower(o.Query), "_", " "))
	if len(words) == 0 {
		return nil
	}
	left := most(o.Limit)
	a.settle(ctx)
	q := index.Query{Where: withTerms(words), Reverse: true, Limit: searchMost, Unblocked: true}
	for m, err := range a.Index.Query(ctx, q) {
		if err != nil {
			return err
		}
		var found []meme
		for _, mention := range mentionsIn(fieldsOf(a.content(&m, true))) {
			link, name := textIn(mention["link"]), textIn(mention["name"])
			if !strings.HasPrefix(link, "&") || !isRef(link) || len(name) < 3 {
				continue
			}
			low := strings.ToLower(name)
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(low, word) }) {
				found = append(found, meme{link, name, m.Author(), m.Key()})
			}
		}
		if len(found) == 0 {
			continue
		}
		if err := do(m, found); err != nil {
			return err
		}
		if left--; left == 0 {
			return nil
		}
	}
	return nil
}

func (a *API) memeSearch(ctx context.Context, req *muxrpc.Request) (any, error) {
	all := map[string][]meme{}
	err := a.memes(ctx, req, func(_ log.Message, found []meme) error {
		for _, image := range found {
			all[image.link] = append(all[image.link], image)
		}
		return nil
	})
	return all, err
}

func (a *API) memeQuery(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	return ctxEnd(ctx, a.memes(ctx, req, func(m log.Message, _ []meme) error { return s.SendJSON(a.shown(m, true)) }))
}
