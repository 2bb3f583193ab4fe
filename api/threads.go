package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"charkha/identity"
	"charkha/index"
	"charkha/log"
	"charkha/muxrpc"
)

// What threads.* take. As in npm ssb-threads 10.8 all types of messages make threads, unless a list says otherwise; limit is ours.
var (
	threadTypes = []muxrpc.Arg{
		{Name: "allowlist", Type: "array", Optional: true, Doc: "the types of messages that there are; the others there are not"},
		{Name: "blocklist", Type: "array", Optional: true, Doc: "the types of messages that there are not"},
	}
	threadFollowing = muxrpc.Arg{Name: "following", Type: "boolean", Optional: true, Doc: "only threads that we began, or somebody whom we follow"}
	threadSelf      = muxrpc.Arg{Name: "includeSelf", Type: "boolean", Optional: true, Doc: "what we wrote, too"}
	threadSize      = muxrpc.Arg{Name: "threadMaxSize", Type: "number", Optional: true, Doc: "most messages of a thread: its first, and the latest"}
	threadProfile   = muxrpc.Arg{Name: "id", Type: "FeedId", Doc: "who wrote in them"}
	threadRoot      = muxrpc.Arg{Name: "root", Type: "MsgId", Doc: "the message that began the thread"}
	threadPrivate   = muxrpc.Arg{Name: "private", Type: "boolean", Optional: true, Doc: "private messages instead of public ones"}
	threadHashtag   = muxrpc.Arg{Name: "hashtag", Type: "string", Optional: true, Doc: "with or without its #"}
	threadHashtags  = muxrpc.Arg{Name: "hashtags", Type: "array", Optional: true, Doc: "instead of hashtag: any of them"}
	threadList      = []muxrpc.Arg{
		{Name: "reverse", Type: "boolean", Optional: true, Doc: "the newest first; true unless it is false"},
		{Name: "limit", Type: "number", Optional: true, Doc: "most threads; -1 for all, as without it"},
	}
)

// threadArgs is the one argument of threads.*: an object of all options that there are, with or without these.
func threadArgs(with ...muxrpc.Arg) []muxrpc.Arg {
	needed := slices.ContainsFunc(with, func(o muxrpc.Arg) bool { return !o.Optional })
	return []muxrpc.Arg{{Name: "opts", Type: "object", Doc: "options", Optional: !needed, Options: slices.Concat(with, threadTypes)}}
}

// listArgs is threadArgs of what lists threads.
func listArgs(with ...muxrpc.Arg) []muxrpc.Arg { return threadArgs(slices.Concat(with, threadList)...) }

func (a *API) threads() []muxrpc.Method {
	methods := []muxrpc.Method{
		{Name: "threads.public", Doc: "public threads as {messages, full}, that with the newest message first", Args: listArgs(threadSize, threadFollowing), Stream: a.threadsPublic},
		{Name: "threads.publicSummary", Doc: "public threads as {root, replyCount, timestamp of the newest message}", Args: listArgs(threadFollowing), Stream: a.threadsPublicSummary},
		{Name: "threads.publicUpdates", Doc: "the ids of messages that come to public threads", Args: threadArgs(threadSelf, threadFollowing), Stream: a.threadsPublicUpdates},
		{Name: "threads.hashtagSummary", Doc: "public threads that have a hashtag, as {root, replyCount, timestamp}", Args: listArgs(threadHashtag, threadHashtags), Stream: a.threadsHashtagSummary},
		{Name: "threads.hashtagUpdates", Doc: "the ids of threads to which a message with a hashtag comes", Args: threadArgs(threadHashtag, threadHashtags), Stream: a.threadsHashtagUpdates},
		{Name: "threads.private", Doc: "private threads that are for us, as {messages, full}", Args: listArgs(threadSize), Stream: a.threadsPrivate},
		{Name: "threads.privateUpdates", Doc: "the ids of private threads to which a message comes", Args: threadArgs(threadSelf), Stream: a.threadsPrivateUpdates},
		{Name: "threads.profile", Doc: "public threads in which somebody wrote, as {messages, full}", Args: listArgs(threadProfile, threadSize), Stream: a.threadsProfile},
		{Name: "threads.profileSummary", Doc: "public threads in which somebody wrote, as {root, replyCount, timestamp}", Args: listArgs(threadProfile), Stream: a.threadsProfileSummary},
		{Name: "threads.thread", Doc: "one thread as {messages, full}; of posts, unless a list says otherwise", Args: threadArgs(threadRoot, threadPrivate, threadSize), Stream: a.threadsThread},
		{Name: "threads.threadUpdates", Doc: "the messages that come to a thread", Args: threadArgs(threadRoot, threadPrivate), Stream: a.threadsThreadUpdates},
		{Name: "tangles.thread", Doc: "the messages that name one as their root, as go-ssb has it, in the order of arrival", Args: streamArgs("time of arrival, in ms", threadRoot), Stream: a.tanglesThread},
		{Name: "threads.hashtagCount", Doc: "how many public threads have a hashtag", Args: threadArgs(threadHashtag), Call: a.threadsHashtagCount},
		{Name: "threads.hashtagsMatching", Doc: "[[hashtag, how many messages have it]] of those that begin so, the most common first", Args: []muxrpc.Arg{{Name: "opts", Type: "object", Doc: "options", Options: []muxrpc.Arg{
			{Name: "query", Type: "string", Doc: "the beginning"},
			{Name: "limit", Type: "number", Optional: true, Doc: "most hashtags: 10"},
		}}}, Call: a.threadsHashtagsMatching},
		{Name: "threads.recentHashtags", Doc: "the hashtags that were used last", Args: []muxrpc.Arg{{Name: "opts", Type: "object", Doc: "options", Options: []muxrpc.Arg{
			{Name: "limit", Type: "number", Doc: "most hashtags"},
			{Name: "preserveCase", Type: "boolean", Optional: true, Doc: "as they were written last, not in lower case"},
		}}}, Call: a.threadsRecentHashtags},
	}
	for i := range methods {
		if methods[i].Kind = muxrpc.Source; methods[i].Call != nil {
			methods[i].Kind = muxrpc.Async
		}
	}
	return methods
}

// threadOptions are the options of threads.*.
type threadOptions struct {
	Reverse       *bool           `json:"reverse"`
	Limit         *float64        `json:"limit"`
	ThreadMaxSize *float64        `json:"threadMaxSize"`
	Allowlist     []string        `json:"allowlist"` // nil: not there; an empty one lets nothing through
	Blocklist     []string        `json:"blocklist"`
	Following     bool            `json:"following"`
	IncludeSelf   bool            `json:"includeSelf"`
	ID            identity.ID     `json:"id"`
	Root          identity.MsgID  `json:"root"`
	Private       bool            `json:"private"`
	Hashtag       string          `json:"hashtag"`
	Hashtags      json.RawMessage `json:"hashtags"`
}

func threadOpts(req *muxrpc.Request) (o threadOptions, err error) {
	err = req.Decode(&o)
	return o, err
}

// types is the messages that the lists let through, readable: public ones, or private ones that are for us.
func (o *threadOptions) types(private bool) index.Set {
	var typed []index.Set
	if o.Allowlist != nil {
		for _, t := range o.Allowlist {
			typed = append(typed, inside(index.OfType(t), private))
		}
		return index.Or(typed...)
	}
	for _, t := range o.Blocklist {
		typed = append(typed, index.Not(inside(index.OfType(t), private)))
	}
	if private {
		return index.And(append(typed, index.Opened())...)
	}
	return index.And(append(typed, index.Not(index.Boxed()))...)
}

// inside makes a set look into private messages that are for us, instead of public ones.
func inside(s index.Set, private bool) index.Set {
	if private {
		return s.Private(false)
	}
	return s
}

// passes reports whether the lists let a type through.
func (o *threadOptions) passes(typ string) bool {
	if o.Allowlist != nil {
		return slices.Contains(o.Allowlist, typ)
	}
	return !slices.Contains(o.Blocklist, typ)
}

// posts reports whether the lists let nothing but posts through. The index knows their threads.
func (o *threadOptions) posts() bool { return len(o.Allowlist) == 1 && o.Allowlist[0] == "post" }

// hashtagged is what has the hashtag of the options, or one of them.
func (o *threadOptions) hashtagged() (index.Set, error) {
	var tags []string
	switch {
	case len(o.Hashtags) > 0 && o.Hashtags[0] == '[':
		if err := json.Unmarshal(o.Hashtags, &tags); err != nil || slices.Contains(tags, "") {
			return index.None(), fmt.Errorf("opts.hashtags must be an array of strings, but got: %s", o.Hashtags)
		}
		if len(tags) == 0 {
			return index.None(), errors.New("opts.hashtags must have at least one")
		}
	case o.Hashtag != "":
		tags = []string{o.Hashtag}
	default:
		return index.None(), errors.New("opts.hashtag or opts.hashtags is required")
	}
	var tagged []index.Set
	for _, tag := range tags[:min(len(tags), hashtagsMost)] {
		tagged = append(tagged, index.Tagged(tag))
	}
	return index.Or(tagged...), nil
}

// hashtagsMost is how many hashtags of one call count.
const hashtagsMost = 100

// content is what a message says, opened if that is asked for; nil: it is encrypted, and not for us or not asked for.
func (a *API) content(m *log.Message, opened bool) []byte {
	if !m.Private() {
		return m.Content()
	}
	if opened {
		if content, ok := Unbox(m, a.Key); ok {
			return content
		}
	}
	return nil
}

// fieldsOf are the fields of a content, none if it is no object. (A struct would take "Root" for "root".)
func fieldsOf(content []byte) (fields map[string]json.RawMessage) {
	if json.Unmarshal(content, &fields) != nil {
		return nil
	}
	return fields
}

// textIn is the text in a field, "" if it is none.
func textIn(field json.RawMessage) (text string) {
	if len(field) == 0 || field[0] != '"' || json.Unmarshal(field, &text) != nil {
		return ""
	}
	return text
}

// truthy reports whether a value is what JS takes for true.
func truthy(v json.RawMessage) bool {
	switch string(v) {
	case "", "null", "false", "0", `""`:
		return false
	}
	return true
}

// rootIn is the message that a content answers or forks from, else the message itself; begins: it names neither root, branch nor
// fork.
func rootIn(m *log.Message, fields map[string]json.RawMessage) (root identity.MsgID, begins bool) {
	begins = !truthy(fields["root"]) && !truthy(fields["branch"]) && !truthy(fields["fork"])
	for _, field := range []string{"fork", "root"} {
		if id, err := identity.ParseMsgID(textIn(fields[field])); err == nil {
			return id, begins
		}
	}
	return m.Key(), begins
}

// claimed yields messages of people whom we do not block, in the order of the times that they claim, as of now; likely is how many
// will be wanted.
func (a *API) claimed(ctx context.Context, where index.Set, reverse bool, likely int) iter.Seq2[log.Message, error] {
	return a.paged(ctx, index.Query{Where: where, Claimed: true, Reverse: reverse, Unblocked: true}, likely)
}

// paged yields what a query by claimed time finds, as of now. It asks the index for as many as are likely to be wanted, and then
// for more: the index looks for few of the newest in another way than for all.
func (a *API) paged(ctx context.Context, q index.Query, likely int) iter.Seq2[log.Message, error] {
	return func(yield func(log.Message, error) bool) {
		q := q
		q.Limit, q.To = likely, a.Log.Len()
		for {
			n := 0
			var last index.Point
			for m, err := range a.Index.Query(ctx, q) {
				if !yield(m, err) || err != nil {
					return
				}
				n++
				last = index.PointOf(&m)
			}
			if n < q.Limit {
				return
			}
			q.Behind, q.Limit = &last, min(4*q.Limit, 65536)
		}
	}
}

// threadSearch is which threads are looked for.
type threadSearch struct {
	o       *threadOptions
	in      []index.Set // a message of the thread is in all of them, beside what the options say
	private bool
	inner   bool // its first message may itself name a root, branch or fork
}

// begun yields threads by the messages that began them, that with the newest message first, or with reverse: false that with the
// oldest. Replies is -1 where they were not counted.
func (a *API) begun(ctx context.Context, t threadSearch) iter.Seq2[index.Thread, error] {
	only := func(m *log.Message) bool {
		return !a.Index.Blocks(a.Key.ID(), m.Author()) && (!t.o.Following || a.near(m.Author()))
	}
	if t.o.posts() && isTrue(t.o.Reverse) && !t.inner {
		q := index.ThreadQuery{Private: t.private, Only: only}
		if len(t.in) > 0 {
			q.Where = index.And(t.in...)
		}
		return a.Index.Threads(q)
	}
	return func(yield func(index.Thread, error) bool) {
		seen := map[identity.MsgID]bool{}
		for m, err := range a.claimed(ctx, index.And(append(t.in, t.o.types(t.private))...), isTrue(t.o.Reverse), 64) {
			if err != nil {
				yield(index.Thread{}, err)
				return
			}
			fields := fieldsOf(a.content(&m, t.private))
			id, begins := rootIn(&m, fields)
			if seen[id] {
				continue
			}
			seen[id] = true
			if id != m.Key() {
				m, err = a.Log.Get(id)
				if errors.Is(err, log.ErrNotFound) {
					continue
				}
				if err != nil {
					yield(index.Thread{}, err)
					return
				}
				if fields = fieldsOf(a.content(&m, t.private)); fields == nil || m.Private() != t.private || !t.o.passes(textIn(fields["type"])) {
					continue
				}
				_, begins = rootIn(&m, fields)
			}
			if (begins || t.inner) && only(&m) && !yield(index.Thread{Root: m, Replies: -1}, nil) {
				return
			}
		}
	}
}

// near reports whether we are somebody, or follow them.
func (a *API) near(id identity.ID) bool {
	return id == a.Key.ID() || a.Index.Follows(a.Key.ID(), id)
}

// answers is the messages that name a message in some of their fields, of those that the options let through.
func (o *threadOptions) answers(root identity.MsgID, private bool, fields ...string) index.Set {
	if o.posts() && len(fields) == 1 && fields[0] == "root" {
		return inside(index.Replies(root), private)
	}
	return index.And(inside(index.Links(root.String(), fields...), private), o.types(private))
}

// names reports whether one of some fields is a message's id, and nothing more.
func names(content map[string]json.RawMessage, id string, fields ...string) bool {
	return slices.ContainsFunc(fields, func(field string) bool { return textIn(content[field]) == id })
}

// threadBytes bounds what is shown of one thread: the latest so many bytes of it. Anybody can write to a thread.
const threadBytes = 4 << 20

// thread is a thread as {messages, full}: the message that began it and those that name it as their root, in the order in which
// they came, but none before those that it refers to. Of more than threadMaxSize, the latest.
func (a *API) thread(ctx context.Context, root log.Message, o *threadOptions, private bool) ([]byte, error) {
	most, left, full := index.ThreadMost, threadBytes, true
	if o.ThreadMaxSize != nil {
		most = int(max(1, min(float64(most), *o.ThreadMaxSize)))
	}
	id := root.Key().String()
	var replies []reply
	for m, err := range a.claimed(ctx, o.answers(root.Key(), private, "root"), true, min(most, 256)) {
		if err != nil {
			return nil, err
		}
		content := a.content(&m, private)
		if m.Key() == root.Key() || !o.posts() && !names(fieldsOf(content), id, "root") {
			continue
		}
		r := reply{m: m, content: content}
		if m.Private() {
			r.shown = a.shown(m, private)
		}
		if left -= r.size(); left < 0 {
			full = false
			break
		}
		if replies = append(replies, r); len(replies) == most {
			break // with the first one that is more than there may be
		}
	}
	full = full && len(replies) < most
	replies = inOrder(replies)
	if len(replies) == most && most > 1 { // ssb-threads shows one answer even of a thread of one message
		replies = replies[1:]
	}
	first := a.shown(root, private)
	size := len(first) + 64
	for i := range replies {
		size += replies[i].size()
	}
	out := append(append(make([]byte, 0, size), `{"messages":[`...), first...)
	for i := range replies {
		if out = append(out, ','); replies[i].shown != nil {
			out = append(out, replies[i].shown...)
		} else {
			out = replies[i].m.AppendKVT(out)
		}
	}
	return fmt.Appendf(out, `],"full":%t}`, full), nil
}

// reply is a message of a thread.
type reply struct {
	m       log.Message
	content []byte // opened
	shown   []byte // as KVT, when it is not as it was signed
}

// size is about how many bytes it takes to show it.
func (r *reply) size() int {
	const around = 128 // a KVT, around the value
	return max(len(r.shown), len(r.m.Value())) + around
}

// inOrder puts messages in the order in which they came, but behind those that they refer to in their contents.
func inOrder(all []reply) []reply {
	slices.SortFunc(all, func(x, y reply) int { return cmp.Compare(x.m.Offset(), y.m.Offset()) })
	at := make(map[identity.MsgID]int, len(all))
	for i := range all {
		at[all[i].m.Key()] = i
	}
	ordered := make([]reply, 0, len(all))
	state := make([]byte, len(all)) // 1: what it refers to is being put, 2: it was put
	for i := range all {
		for stack := []int{i}; len(stack) > 0; {
			k := stack[len(stack)-1]
			if state[k] == 0 {
				state[k] = 1
				idsIn(all[k].content, func(id identity.MsgID) {
					if before, ok := at[id]; ok && state[before] == 0 {
						stack = append(stack, before)
					}
				})
				continue
			}
			if stack = stack[:len(stack)-1]; state[k] == 1 {
				state[k] = 2
				ordered = append(ordered, all[k])
			}
		}
	}
	return ordered
}

// idsIn calls do with the message ids that are whole texts in compact JSON, but for names of fields.
func idsIn(text []byte, do func(identity.MsgID)) {
	const length = 1 + 44 + len(".sha256")
	for at := 0; ; at += 2 {
		i := bytes.Index(text[at:], []byte(`"%`))
		if at += i; i < 0 || at+length+2 > len(text) {
			return
		}
		if at > 0 && text[at-1] == '\\' || text[at+1+length] != '"' || at+length+2 < len(text) && text[at+length+2] == ':' {
			continue
		}
		if id, err := identity.ParseMsgID(text[at+1 : at+1+length]); err == nil {
			do(id)
		}
	}
}

// summary is a thread as {root, replyCount, timestamp}.
func (a *API) summary(ctx context.Context, t index.Thread, o *threadOptions) ([]byte, error) {
	if t.Replies < 0 {
		t.Replies, t.Latest = 0, index.PointOf(&t.Root)
		id := t.Root.Key().String()
		q := index.Query{Where: o.answers(t.Root.Key(), false, "root", "fork"), Unblocked: true, Reverse: true, Limit: index.ThreadMost}
		for m, err := range a.Index.Query(ctx, q) {
			if err != nil {
				return nil, err
			}
			if names(fieldsOf(m.Content()), id, "root", "fork") {
				t.Replies++
				t.Latest.Time = max(t.Latest.Time, index.PointOf(&m).Time)
			}
		}
	}
	timestamp, err := json.Marshal(t.Latest.Time)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"root":%s,"replyCount":%d,"timestamp":%s}`, kvt(t.Root), t.Replies, timestamp), nil
}

// listThreads sends threads, as summaries or with their messages.
func (a *API) listThreads(ctx context.Context, s *muxrpc.Stream, t threadSearch, summaries bool) error {
	left := math.Inf(1)
	if t.o.Limit != nil && *t.o.Limit >= 0 {
		left = math.Floor(*t.o.Limit)
	}
	if left == 0 {
		return nil
	}
	a.settle(ctx)
	for thread, err := range a.begun(ctx, t) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		var body []byte
		if summaries {
			body, err = a.summary(ctx, thread, t.o)
		} else {
			body, err = a.thread(ctx, thread.Root, t.o, t.private)
		}
		if err != nil {
			return ctxEnd(ctx, err)
		}
		if err := s.SendJSON(body); err != nil {
			return err
		}
		if left--; left == 0 {
			return nil
		}
	}
	return nil
}

func (a *API) threadsPublic(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, err := threadOpts(req)
	if err != nil {
		return err
	}
	return a.listThreads(ctx, s, threadSearch{o: &o}, false)
}

func (a *API) threadsPublicSummary(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, err := threadOpts(req)
	if err != nil {
		return err
	}
	return a.listThreads(ctx, s, threadSearch{o: &o}, true)
}

func (a *API) threadsHashtagSummary(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, err := threadOpts(req)
	if err != nil {
		return err
	}
	tagged, err := o.hashtagged()
	if err != nil {
		return err
	}
	return a.listThreads(ctx, s, threadSearch{o: &o, in: []index.Set{tagged}}, true)
}

func (a *API) threadsPrivate(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, err := threadOpts(req)
	if err != nil {
		return err
	}
	return a.listThreads(ctx, s, threadSearch{o: &o, private: true}, false)
}

// threadsProfile shows also what stands below messages that are answers themselves, as ssb-threads does.
func (a *API) threadsProfile(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, err := threadOpts(req)
	if err != nil {
		return err
	}
	return a.listThreads(ctx, s, threadSearch{o: &o, in: []index.Set{index.By(o.ID)}, inner: true}, false)
}

func (a *API) threadsProfileSummary(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, err := threadOpts(req)
	if err != nil {
		return err
	}
	return a.listThreads(ctx, s, threadSearch{o: &o, in: []index.Set{index.By(o.ID)}}, true)
}

func (a *API) threadsThread(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, err := threadOpts(req)
	if err != nil {
		return err
	}
	if o.Allowlist == nil && o.Blocklist == nil {
		o.Allowlist = []string{"post"}
	}
	a.settle(ctx)
	root, err := a.Log.Get(o.Root)
	if errors.Is(err, log.ErrNotFound) || err == nil && root.Private() && !o.Private {
		return nil
	}
	if err != nil {
		return err
	}
	if a.Index.Blocks(a.Key.ID(), root.Author()) {
		//lint:ignore ST1005 the text is that of npm ssb-threads
		return fmt.Errorf("Author Blocked:%s", root.Author())
	}
	body, err := a.thread(ctx, root, &o, o.Private)
	if err != nil {
		return ctxEnd(ctx, err)
	}
	return s.SendJSON(body)
}

// arriving calls send with the messages of a set that come from now on, but for those of people whom we block.
func (a *API) arriving(ctx context.Context, where index.Set, send func(m log.Message) error) error {
	a.settle(ctx)
	for m, err := range a.Index.Query(ctx, index.Query{Where: where, Live: true, New: true, Unblocked: true}) {
		if err != nil {
			return ctxEnd(ctx, err)
		}
		if err := send(m); err != nil {
			return err
		}
	}
	return nil
}

// others is what others than we wrote; all, if that is included.
func (a *API) others(o *threadOptions) index.Set {
	if o.IncludeSelf {
		return index.Set{}
	}
	return index.Not(index.By(a.Key.ID()))
}

func (a *API) threadsPublicUpdates(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, err := threadOpts(req)
	if err != nil {
		return err
	}
	return a.arriving(ctx, index.And(o.types(false), a.others(&o)), func(m log.Message) error {
		root := m
		id, _ := rootIn(&m, fieldsOf(m.Content()))
		if id != m.Key() {
			root, err = a.Log.Get(id)
			if errors.Is(err, log.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			if !o.passes(root.Type()) || a.Index.Blocks(a.Key.ID(), root.Author()) {
				return nil
			}
		}
		if o.Following && !a.near(root.Author()) && m.Author() != a.Key.ID() {
			return nil
		}
		return sendJSON(s, m.Key())
	})
}

// rootUpdates sends the roots of the messages of a set that come.
func (a *API) rootUpdates(ctx context.Context, s *muxrpc.Stream, where index.Set, private bool) error {
	return a.arriving(ctx, where, func(m log.Message) error {
		root, _ := rootIn(&m, fieldsOf(a.content(&m, private)))
		return sendJSON(s, root)
	})
}

func (a *API) threadsHashtagUpdates(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, err := threadOpts(req)
	if err != nil {
		return err
	}
	tagged, err := o.hashtagged()
	if err != nil {
		return err
	}
	return a.rootUpdates(ctx, s, index.And(tagged, o.types(false)), false)
}

func (a *API) threadsPrivateUpdates(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, err := threadOpts(req)
	if err != nil {
		return err
	}
	return a.rootUpdates(ctx, s, index.And(o.types(true), a.others(&o)), true)
}

func (a *API) threadsThreadUpdates(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o, err := threadOpts(req)
	if err != nil {
		return err
	}
	return a.arriving(ctx, o.answers(o.Root, o.Private, "root"), func(m log.Message) error {
		if !names(fieldsOf(a.content(&m, o.Private)), o.Root.String(), "root") {
			return nil
		}
		return s.SendJSON(a.shown(m, o.Private))
	})
}

// tanglesThread does not show the message that began the thread, as go-ssb does not.
func (a *API) tanglesThread(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o struct {
		streamOptions
		Root identity.MsgID `json:"root"`
	}
	if err := req.Decode(&o); err != nil {
		return err
	}
	a.settle(ctx)
	set := index.Links(o.Root.String(), "root")
	if o.Private {
		set = set.Private(true)
	}
	q := index.Query{Where: set}
	o.times(&q)
	return a.stream(ctx, s, &o.streamOptions, q, func(m log.Message) ([]byte, error) {
		if !names(fieldsOf(a.content(&m, o.Private)), o.Root.String(), "root") {
			return nil, nil
		}
		return a.encode(&o.streamOptions, m), nil
	})
}

func (a *API) threadsHashtagCount(ctx context.Context, req *muxrpc.Request) (any, error) {
	o, err := threadOpts(req)
	if err != nil {
		return nil, err
	}
	if o.Hashtag == "" {
		return nil, errors.New("opts.hashtag is required")
	}
	a.settle(ctx)
	n := 0
	for _, err := range a.begun(ctx, threadSearch{o: &o, in: []index.Set{index.Tagged(o.Hashtag)}}) {
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, errStopping
		}
		n++
	}
	return n, nil
}

func (a *API) threadsHashtagsMatching(ctx context.Context, req *muxrpc.Request) (any, error) {
	o := struct {
		Query string  `json:"query"`
		Limit float64 `json:"limit"`
	}{}
	if err := req.Decode(&o); err != nil {
		return nil, err
	}
	if o.Query == "" {
		return nil, errors.New("opts.query must be non-empty string")
	}
	if o.Limit < 0 {
		return nil, errors.New("opts.limit must be number greater than 0")
	}
	if o.Limit == 0 {
		o.Limit = 10
	}
	found := [][2]any{}
	if index.NormalizeChannel(o.Query) == "" {
		return found, nil // it is nothing but punctuation, and not the beginning of all
	}
	a.settle(ctx)
	tags, err := a.Index.Tags(o.Query, int(min(max(1, o.Limit), math.MaxInt32)))
	for _, t := range tags {
		found = append(found, [2]any{t.Name, t.Count})
	}
	return found, err
}

// hashtagScan is how many messages are looked at for the hashtags that were used last.
const hashtagScan = 20_000

func (a *API) threadsRecentHashtags(ctx context.Context, req *muxrpc.Request) (any, error) {
	o := struct {
		Limit        float64 `json:"limit"`
		PreserveCase bool    `json:"preserveCase"`
	}{}
	if err := req.Decode(&o); err != nil {
		return nil, err
	}
	if o.Limit <= 0 {
		//lint:ignore ST1005 the text is that of npm ssb-threads
		return nil, errors.New("Limit must be number greater than 0")
	}
	a.settle(ctx)
	found, seen := []string{}, map[string]bool{}
	full := func() bool { return float64(len(found)) >= o.Limit }
	take := func(tag string) {
		tag = strings.TrimPrefix(tag, "#")
		low := strings.ToLower(tag)
		if low == "" || seen[low] || full() {
			return
		}
		seen[low] = true
		if !o.PreserveCase {
			tag = low
		}
		found = append(found, tag)
	}
	for m, err := range limited(a.claimed(ctx, index.Not(index.Boxed()), true, 64), hashtagScan) {
		if err != nil {
			return nil, err
		}
		if content := m.Content(); bytes.Contains(content, []byte(`"#`)) || bytes.Contains(content, []byte(`"channel":`)) {
			hashtagsOf(fieldsOf(content), take)
		}
		if full() {
			break
		}
	}
	return found, nil
}

// hashtagsOf calls take with the channel of a content, or else with the hashtags that it mentions.
func hashtagsOf(fields map[string]json.RawMessage, take func(string)) {
	if channel := textIn(fields["channel"]); channel != "" {
		take(channel)
		return
	}
	for _, mention := range mentionsIn(fields) {
		if link := textIn(mention["link"]); strings.HasPrefix(link, "#") {
			take(link)
		}
	}
}

// mentionsIn are the objects in the mentions of a content.
func mentionsIn(fields map[string]json.RawMessage) (all []map[string]json.RawMessage) {
	var list []json.RawMessage
	if json.Unmarshal(fields["mentions"], &list) != nil {
		list = []json.RawMessage{fields["mentions"]}
	}
	for _, item := range list {
		if mention := fieldsOf(item); mention != nil {
			all = append(all, mention)
		}
	}
	return all
}
