package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"charkha/identity"
	"charkha/index"
	"charkha/log"
)

// writer is somebody else, whose messages reach the world as soon as they are written.
type writer struct {
	w   *world
	key identity.KeyPair
	id  identity.ID
	log *log.Log
	now time.Time // what they claim
}

// writer begins a feed. The world's clock is at 1700000000 s at first, and moves on with each message: what claims a later time counts
// by its arrival.
func (w *world) writer(seed byte) *writer {
	w.Helper()
	wr := &writer{w: w, key: identity.FromSeed([32]byte{seed}), now: time.Unix(1800000000, 0)}
	l, err := log.Open(log.Options{Dir: w.TempDir(), Now: func() time.Time { wr.now = wr.now.Add(time.Second); return wr.now }})
	w.check(err)
	wr.id, wr.log = wr.key.ID(), l
	w.check(l.Confirm(wr.id))
	w.Cleanup(func() { w.check(l.Close()) })
	return wr
}

func (wr *writer) say(content object) message {
	wr.w.Helper()
	text, err := json.Marshal(content)
	wr.w.check(err)
	m, err := wr.log.Publish(wr.key, text)
	wr.w.check(err)
	wr.w.add([]json.RawMessage{m.Value()})
	return wr.w.parse(string(m.AppendKVT(nil)))
}

func post(text string, more ...any) object {
	o := object{"type": "post", "text": text}
	for i := 0; i < len(more); i += 2 {
		o[more[i].(string)] = more[i+1]
	}
	return o
}

func (w *world) say(content object) message {
	w.Helper()
	return w.parse(w.call("publish", content))
}

// shownThreads are threads in short: "root, reply, reply", with "..." behind those that are not full.
func (w *world) shownThreads(method string, opts object) (all []string) {
	w.Helper()
	for _, item := range w.all(method, opts) {
		var t struct {
			Messages []json.RawMessage
			Full     *bool
		}
		w.check(json.Unmarshal([]byte(item), &t))
		if t.Full == nil {
			w.Fatalf("%s: %s", method, item)
		}
		var kvts []string
		for _, m := range t.Messages {
			kvts = append(kvts, string(m))
		}
		text := strings.Join(w.texts(kvts), ", ")
		if !*t.Full {
			text += " ..."
		}
		all = append(all, text)
	}
	return all
}

// summaries are threads in short: "root 3", and in times when their newest message was written.
func (w *world) summaries(method string, opts object) (all []string, times []float64) {
	w.Helper()
	for _, item := range w.all(method, opts) {
		var t struct {
			Root       json.RawMessage
			ReplyCount *int
			Timestamp  float64
		}
		w.check(json.Unmarshal([]byte(item), &t))
		if t.ReplyCount == nil {
			w.Fatalf("%s: %s", method, item)
		}
		all = append(all, fmt.Sprint(w.texts([]string{string(t.Root)})[0], " ", *t.ReplyCount))
		times = append(times, t.Timestamp)
	}
	return all, times
}

func (w *world) wantThreads(method string, opts object, want ...string) {
	w.Helper()
	var got []string
	if strings.HasSuffix(method, "Summary") {
		got, _ = w.summaries(method, opts)
	} else {
		got = w.shownThreads(method, opts)
	}
	if !slices.Equal(got, want) {
		w.Errorf("%s %v: %q, want %q", method, opts, got, want)
	}
}

// options are those of a call; with gives them and some more.
type options object

func (o options) with(more ...any) object {
	all := object{}
	for k, v := range o {
		all[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		all[more[i].(string)] = more[i+1]
	}
	return all
}

var (
	// posts and posts2 ask for the same: the one is answered by the index's threads, the other one message by message.
	posts  = options{"allowlist": []string{"post"}}
	posts2 = options{"allowlist": []string{"post", "nothing"}}
)

// What is expected here npm ssb-threads 10.8 answers, too, with ssb-db2 6.3 and these messages; but that it counts the private answer to
// "three", and shows "one" in the profile of who is blocked.
func TestPublicThreads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me, alice, bob := w.api.Key.ID(), w.writer(2), w.writer(3)
	one := alice.say(post("one", "mentions", []object{{"link": "#Spinning"}}))
	two := w.say(post("two", "channel", "spinning"))
	a := bob.say(post("a", "root", one.Key, "branch", one.Key))
	b := w.say(post("b", "root", one.Key, "branch", []identity.MsgID{a.Key}, "mentions", []object{{"link": "#loom"}}))
	bob.say(object{"type": "vote", "text": "vote", "vote": object{"link": two.Key, "value": 1}})
	bob.say(object{"type": "gathering", "text": "gathering"})
	c := bob.say(post("c", "root", one.Key, "fork", a.Key, "branch", a.Key))
	alice.say(post("under c", "root", c.Key, "branch", c.Key))
	alice.say(post("lost", "root", identity.MsgID{9}, "branch", identity.MsgID{9}))
	alice.say(post("branch only", "branch", two.Key))
	w.say(post("not this", "root", object{"link": one.Key}))
	three := bob.say(post("three"))
	w.say(post("secret", "root", three.Key, "recps", []any{me}))

	for _, list := range []options{posts, posts2} {
		w.wantThreads("threads.publicSummary", list.with(), "three 0", "one 3", "two 0")
		w.wantThreads("threads.publicSummary", list.with("limit", 1), "three 0")
		w.wantThreads("threads.publicSummary", list.with("limit", 0))
		w.wantThreads("threads.publicSummary", list.with("limit", -1, "reverse", false), "one 3", "two 0", "three 0")
		w.wantThreads("threads.public", list.with(), "three", "one, a, b, c", "two")
		w.wantThreads("threads.public", list.with("reverse", false, "limit", 2), "one, a, b, c", "two")
		// As ssb-threads: the first and the latest, and never less than one answer.
		w.wantThreads("threads.public", list.with("threadMaxSize", 4, "limit", 2), "three", "one, a, b, c")
		w.wantThreads("threads.public", list.with("threadMaxSize", 3, "limit", 2), "three", "one, b, c ...")
		w.wantThreads("threads.public", list.with("threadMaxSize", 2, "limit", 2), "three", "one, c ...")
		w.wantThreads("threads.public", list.with("threadMaxSize", 1, "limit", 2), "three", "one, c ...")
		w.wantThreads("threads.public", list.with("threadMaxSize", nil, "limit", 2), "three", "one, a, b, c")
		w.wantThreads("threads.publicSummary", list.with("following", true), "two 0")
		w.wantThreads("threads.public", list.with("following", true), "two")
		w.wantThreads("threads.hashtagSummary", list.with("hashtag", "#SPINNING"), "two 0", "one 3")
		w.wantThreads("threads.hashtagSummary", list.with("hashtag", "loom"), "one 3")
		w.wantThreads("threads.hashtagSummary", list.with("hashtags", []string{"loom", "nothing"}, "hashtag", "spinning"), "one 3")
		w.wantThreads("threads.hashtagSummary", list.with("hashtag", "spin"))
		w.wantThreads("threads.profileSummary", list.with("id", bob.id), "three 0", "one 3")
		w.wantThreads("threads.profileSummary", list.with("id", alice.id, "limit", 1), "one 3")
		// Also what stands below an answer.
		w.wantThreads("threads.profile", list.with("id", alice.id), "branch only", "c, under c", "one, a, b, c")
		w.wantThreads("threads.profile", list.with("id", me, "threadMaxSize", 2), "not this", "one, c ...", "two")
		if got := w.call("threads.hashtagCount", list.with("hashtag", "spinning")); got != "2" {
			t.Errorf("hashtagCount: %s", got)
		}
		if _, times := w.summaries("threads.publicSummary", list.with("limit", 1, "hashtag", "x")); times[0] != w.counted(three) {
			t.Errorf("time of %v: %v", three.Key, times)
		}
	}
	w.wantThreads("threads.publicSummary", object{"allowlist": []string{}})
	w.wantThreads("threads.publicSummary", object{"allowlist": []string{"gathering", "vote"}}, "gathering 0", "vote 0")
	w.wantThreads("threads.publicSummary", object{"blocklist": []string{"post"}}, "gathering 0", "vote 0")
	if got := w.all("threads.publicSummary"); len(got) != 5 {
		t.Errorf("without a list: %v", got)
	}
	for _, bad := range []any{7, object{"reverse": 1}, object{"allowlist": "post"}, object{"allowlist": []int{1}}, object{"threadMaxSize": "x"}} {
		w.refusedStream("threads.public", bad)
	}
	for _, bad := range []any{object{}, object{"hashtag": ""}, object{"hashtags": []string{}}, object{"hashtags": []any{1}}, object{"hashtags": []string{""}}} {
		if got := w.refusedStream("threads.hashtagSummary", bad); !strings.Contains(got, "hashtag") {
			t.Errorf("%v: %s", bad, got)
		}
	}
	w.refusedStream("threads.profile", object{})
	w.refused("threads.hashtagCount", object{})

	w.wantThreads("threads.thread", object{"root": one.Key}, "one, a, b, c")
	w.wantThreads("threads.thread", object{"root": one.Key, "threadMaxSize": 3}, "one, b, c ...")
	w.wantThreads("threads.thread", object{"root": a.Key}, "a")
	w.wantThreads("threads.thread", object{"root": three.Key, "private": true}, "three, (secret)")
	w.wantThreads("threads.thread", object{"root": identity.MsgID{7}})
	w.refusedStream("threads.thread", object{})
	w.refusedStream("threads.thread", object{"root": "x"})

	// Who is blocked vanishes, with the threads that they began, and comes back.
	w.call("friends.block", bob.id)
	for _, list := range []options{posts, posts2} {
		w.wantThreads("threads.publicSummary", list.with(), "one 1", "two 0")
		w.wantThreads("threads.public", list.with(), "one, b", "two")
		w.wantThreads("threads.profileSummary", list.with("id", bob.id))
		if _, times := w.summaries("threads.publicSummary", list.with("limit", 1)); times[0] != w.counted(b) {
			t.Errorf("time of a thread with blocked answers: %v", times)
		}
	}
	w.wantThreads("threads.thread", object{"root": one.Key}, "one, b")
	if got := w.refusedStream("threads.thread", object{"root": three.Key}); got != "Author Blocked:"+bob.id.String() {
		t.Errorf("thread of who is blocked: %s", got)
	}
	w.call("friends.block", bob.id, object{"state": false})
	w.wantThreads("threads.publicSummary", posts.with(), "three 0", "one 3", "two 0")
	w.call("friends.follow", alice.id)
	w.wantThreads("threads.publicSummary", posts.with("following", true), "one 3", "two 0")
	w.wantThreads("threads.publicSummary", posts2.with("following", true), "one 3", "two 0")
}

// counted is the time by which a message is sorted.
func (w *world) counted(m message) float64 {
	w.Helper()
	stored, err := w.api.Log.Get(m.Key)
	w.check(err)
	return index.PointOf(&stored).Time
}

// refusedStream gives the text of the error that a stream ends with at once.
func (w *world) refusedStream(method string, args ...any) string {
	w.Helper()
	s := w.open(method, args...)
	body, err := s.Recv()
	if err == nil || err.Error() == "EOF" {
		w.Fatalf("%s%v sends %s, %v; want an error", method, args, body.Data, err)
	}
	return err.Error()
}

// Answers stand in the order in which they came, but behind those that they name.
func TestThreadOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other, bob := w.writer(2), w.writer(3)
	root := bob.say(post("root"))
	other.now = time.Unix(1600000000, 0) // an old claim: by it this is the oldest answer
	first := other.say(post("late", "root", root.Key, "branch", root.Key))
	// What is named arrives after what names it.
	bob.now = time.Unix(1900000000, 0)
	content, err := json.Marshal(post("named", "root", root.Key, "branch", first.Key))
	w.check(err)
	m, err := bob.log.Publish(bob.key, content)
	w.check(err)
	other.say(post("names it", "root", root.Key, "branch", []identity.MsgID{first.Key, m.Key()}))
	w.add([]json.RawMessage{m.Value()})
	w.wantThreads("threads.thread", object{"root": root.Key}, "root, late, named, names it")
	w.wantThreads("threads.thread", object{"root": root.Key, "allowlist": []string{"post", "x"}}, "root, late, named, names it")
	// The latest are the latest by their claims; of these, that which stands first is left out.
	other.say(post("old", "root", root.Key))
	w.wantThreads("threads.thread", object{"root": root.Key, "threadMaxSize": 3}, "root, names it, old ...")
	w.wantThreads("threads.thread", object{"root": root.Key, "threadMaxSize": 4}, "root, named, names it, old ...")
}

// Nobody can make a thread so long that it cannot be shown: of one that is too long, the latest are.
func TestLongThread(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.post("root")
	var contents []string
	for i := range 600 {
		contents = append(contents, fmt.Sprintf(`{"type":"post","text":"%d %s","root":"%s"}`, i, strings.Repeat("x", 7700), root.Key))
	}
	_, raws := w.feed(2, contents...)
	w.add(raws)
	w.call("friends.hops") // waits for the index
	m, err := w.api.Log.Get(root.Key)
	w.check(err)
	for _, list := range [][]string{posts["allowlist"].([]string), nil} {
		body, err := w.api.thread(t.Context(), m, &threadOptions{Allowlist: list}, false)
		w.check(err)
		var thread struct {
			Messages []message
			Full     bool
		}
		w.check(json.Unmarshal(body, &thread))
		n := len(thread.Messages)
		if thread.Full || len(body) < threadBytes*9/10 || len(body) > threadBytes*11/10 || thread.Messages[0].Key != root.Key ||
			!strings.Contains(string(thread.Messages[n-1].Value.Content), `"599 x`) {
			t.Errorf("%d messages in %d bytes, full: %t", n, len(body), thread.Full)
		}
	}
}

func TestPrivateThreads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me, friend, foe := w.api.Key.ID(), w.writer(2), w.writer(3)
	closed := func(wr *writer, content object, recps ...any) message {
		t.Helper()
		text, err := json.Marshal(content)
		w.check(err)
		ids := []identity.ID{}
		for _, r := range recps {
			ids = append(ids, r.(identity.ID))
		}
		boxed, err := box(text, ids)
		w.check(err)
		m, err := wr.log.Publish(wr.key, boxed)
		w.check(err)
		w.add([]json.RawMessage{m.Value()})
		return w.parse(string(m.AppendKVT(nil)))
	}
	w.post("public")
	one := closed(friend, post("one"), me, friend.id)
	two := w.say(post("two", "recps", []any{me}))
	w.say(post("a", "root", one.Key, "branch", one.Key, "recps", []any{me, friend.id}))
	closed(friend, post("not for us"), friend.id)
	closed(foe, post("b", "root", one.Key, "branch", one.Key), me)
	w.say(post("in the open", "root", one.Key, "branch", one.Key))
	closed(foe, object{"type": "gathering", "text": "three"}, me)

	for _, list := range []options{posts, posts2} {
		w.wantThreads("threads.private", list.with(), "(one), (a), (b)", "(two)")
		w.wantThreads("threads.private", list.with("reverse", false), "(one), (a), (b)", "(two)")
		w.wantThreads("threads.private", list.with("threadMaxSize", 2), "(one), (b) ...", "(two)")
	}
	w.wantThreads("threads.private", object{}, "(three)", "(one), (a), (b)", "(two)")
	w.wantThreads("threads.private", object{"blocklist": []string{"post"}}, "(three)")
	w.wantThreads("threads.public", object{"allowlist": []string{"post"}}, "public")
	w.wantThreads("threads.thread", object{"root": one.Key})
	w.wantThreads("threads.thread", object{"root": one.Key, "private": true}, "(one), (a), (b)")
	w.wantThreads("threads.thread", object{"root": two.Key, "private": true}, "(two)")
	w.call("friends.block", foe.id)
	w.wantThreads("threads.private", object{"allowlist": []string{"post", "gathering"}}, "(one), (a)", "(two)")

	var ticks int
	got := w.since("threads.privateUpdates", object{}, func() string {
		ticks++
		return closed(friend, post(fmt.Sprint("tick", ticks)), me).Key.String()
	}, func() {
		w.say(post("mine", "recps", []any{me}))
		closed(foe, post("blocked"), me)
		friend.say(post("public"))
		closed(friend, post("an answer", "root", two.Key), me)
	})
	if want := []string{fmt.Sprintf("%q", two.Key)}; !slices.Equal(got, want) {
		t.Errorf("privateUpdates: %v, want %v", got, want)
	}
	got = w.since("threads.threadUpdates", object{"root": one.Key, "private": true}, func() string {
		return fmt.Sprintf(`"key":%q`, closed(friend, post("tick", "root", one.Key), me).Key)
	}, func() {
		w.say(post("mine", "root", one.Key, "recps", []any{me}))
		friend.say(post("public", "root", one.Key))
		closed(friend, post("another", "root", two.Key), me)
	})
	if texts := w.texts(got); !slices.Equal(texts, []string{"(mine)"}) {
		t.Errorf("threadUpdates: %v", texts)
	}
}

// since gives what a live stream sends because of what do does. tick makes the stream send something with the text that it returns: it
// tells when the stream has begun, and when it has sent all.
func (w *world) since(method string, opts object, tick func() string, do func()) (items []string) {
	w.Helper()
	s := w.open(method, opts)
	sent := make(chan string, 1000)
	go func() {
		defer close(sent)
		for {
			body, err := s.Recv()
			if err != nil {
				return
			}
			sent <- string(body.Data)
		}
	}()
	defer s.Close()
	var ticks []string
	for begun := false; !begun; {
		ticks = append(ticks, tick())
		w.call("friends.hops") // it waits for the index
		select {
		case item, ok := <-sent:
			if !ok || !slices.ContainsFunc(ticks, func(tick string) bool { return strings.Contains(item, tick) }) {
				w.Fatalf("%s: %s is no answer to %v", method, item, ticks)
			}
			begun = true
		default:
		}
	}
	do()
	last := tick()
	for item := range sent {
		if strings.Contains(item, last) {
			return items
		}
		if !slices.ContainsFunc(ticks, func(tick string) bool { return strings.Contains(item, tick) }) {
			items = append(items, item)
		}
	}
	w.Fatalf("%s ended", method)
	return nil
}

func TestThreadUpdates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	friend, foe := w.writer(2), w.writer(3)
	root := friend.say(post("root"))
	bad := foe.say(post("bad root"))
	w.call("friends.block", foe.id)
	quoted := func(ms ...message) (all []string) {
		for _, m := range ms {
			all = append(all, fmt.Sprintf("%q", m.Key))
		}
		return all
	}
	var want []message
	say := func(expected bool, m message) {
		if expected {
			want = append(want, m)
		}
	}
	check := func(name string, opts object, tick func() string, do func()) {
		t.Helper()
		want = nil
		got := w.since(name, opts, tick, do)
		if want := quoted(want...); !slices.Equal(got, want) {
			t.Errorf("%s %v: %v, want %v", name, opts, got, want)
		}
	}
	tick := func() string { return friend.say(post("tick")).Key.String() }
	check("threads.publicUpdates", posts.with(), tick, func() {
		say(true, friend.say(post("a root")))
		say(true, friend.say(post("an answer", "root", root.Key)))
		say(false, friend.say(object{"type": "vote"}))
		say(false, friend.say(post("without its root", "root", identity.MsgID{9})))
		say(false, friend.say(post("to who is blocked", "root", bad.Key)))
		say(false, foe.say(post("blocked")))
		say(false, w.say(post("mine")))
		say(false, w.say(post("secret", "recps", []any{w.api.Key.ID()})))
	})
	check("threads.publicUpdates", object{"includeSelf": true, "blocklist": []string{"vote"}}, tick, func() {
		say(true, w.say(post("mine")))
		say(true, friend.say(object{"type": "gathering"}))
		say(false, friend.say(object{"type": "vote"}))
	})
	mine := w.say(post("a root of mine"))
	check("threads.publicUpdates", object{"following": true}, func() string {
		return friend.say(post("tick", "root", mine.Key)).Key.String()
	}, func() {
		say(true, friend.say(post("to us", "root", mine.Key)))
		say(false, friend.say(post("to themselves", "root", root.Key)))
		say(false, w.say(post("mine")))
	})
	check("threads.hashtagUpdates", posts.with("hashtags", []string{"wool", "#Linen"}), func() string {
		return friend.say(post("tick", "channel", "wool")).Key.String()
	}, func() {
		friend.say(post("an answer", "root", root.Key, "mentions", []object{{"link": "#linen"}}))
		say(true, root)
		say(true, w.say(post("mine", "channel", "linen")))
		say(false, friend.say(post("other", "channel", "cotton")))
		say(false, friend.say(object{"type": "gathering", "channel": "wool"}))
		say(false, foe.say(post("blocked", "channel", "wool")))
	})
	got := w.since("threads.threadUpdates", object{"root": root.Key}, func() string {
		return fmt.Sprintf(`"key":%q`, friend.say(post("tick", "root", root.Key)).Key)
	}, func() {
		friend.say(post("one", "root", root.Key))
		w.say(object{"type": "gathering", "text": "two", "root": root.Key})
		foe.say(post("blocked", "root", root.Key))
		friend.say(post("elsewhere", "root", mine.Key))
		friend.say(post("not so", "root", object{"link": root.Key}))
	})
	if texts := w.texts(got); !slices.Equal(texts, []string{"one", "two"}) {
		t.Errorf("threadUpdates: %v", texts)
	}
}

func TestHashtags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	foe := w.writer(2)
	w.say(post("1", "channel", "Loom"))
	w.say(post("2", "channel", "#loom", "mentions", []object{{"link": "#unseen"}}))
	w.say(post("3", "mentions", []any{object{"link": "#Wool"}, object{"link": w.api.Key.ID()}, nil, 7, object{"link": "#logs"}}))
	w.say(post("4", "mentions", object{"link": "#lone"}))
	w.say(post("5", "text", `"#text is no hashtag`))
	foe.say(post("6", "channel", "foes"))
	w.say(post("7", "channel", "secret", "recps", []any{w.api.Key.ID()}))
	w.call("friends.block", foe.id)

	check := func(method string, opts object, want string) {
		t.Helper()
		if got := w.call(method, opts); got != want {
			t.Errorf("%s %v: %s, want %s", method, opts, got, want)
		}
	}
	check("threads.hashtagsMatching", object{"query": "LO"}, `[["loom",2],["logs",1],["lone",1]]`)
	check("threads.hashtagsMatching", object{"query": "lo", "limit": 1}, `[["loom",2]]`)
	check("threads.hashtagsMatching", object{"query": "lo", "limit": 0}, `[["loom",2],["logs",1],["lone",1]]`)
	check("threads.hashtagsMatching", object{"query": "#"}, `[]`)
	check("threads.hashtagsMatching", object{"query": "zz"}, `[]`)
	for _, bad := range []any{nil, object{}, object{"query": ""}, object{"query": 7}, object{"query": "a", "limit": -1}} {
		w.refused("threads.hashtagsMatching", bad)
	}
	check("threads.recentHashtags", object{"limit": 10}, `["lone","wool","logs","loom"]`)
	check("threads.recentHashtags", object{"limit": 10, "preserveCase": true}, `["lone","Wool","logs","loom"]`)
	check("threads.recentHashtags", object{"limit": 2}, `["lone","wool"]`)
	for _, bad := range []any{nil, object{}, object{"limit": 0}, object{"limit": -3}, object{"limit": "x"}} {
		w.refused("threads.recentHashtags", bad)
	}
}

// More than one page of the index: nothing is left out, and nothing comes twice.
func TestManyThreads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var contents []string
	for i := range 700 {
		contents = append(contents, fmt.Sprintf(`{"type":"post","text":"%d"}`, i))
	}
	_, raws := w.feed(2, contents...)
	w.add(raws)
	for _, list := range []options{posts, posts2} {
		got, _ := w.summaries("threads.publicSummary", list.with())
		if len(got) != 700 || got[0] != "699 0" || got[699] != "0 0" {
			t.Errorf("%v: %d threads, %v", list, len(got), got[:min(len(got), 3)])
		}
		seen := map[string]bool{}
		for _, s := range got {
			if seen[s] {
				t.Errorf("%s twice", s)
			}
			seen[s] = true
		}
	}
}

func TestIDsIn(t *testing.T) {
	t.Parallel()
	id := identity.MsgID{1}.String()
	for text, want := range map[string]int{
		`{"root":"` + id + `"}`:                         1,
		`{"root":["` + id + `",{"link":"` + id + `"}]}`: 2,
		`"` + id + `"`:                                  1,
		`{"` + id + `":1}`:                              0,
		`{"text":"\"` + id + `"}`:                       0,
		`{"text":"see ` + id + `"}`:                     0,
		`{"text":"` + id + ` there"}`:                   0,
		`{"text":"%"}`:                                  0,
		`{"root":"` + id[:51]:                           0,
		`{"root":"` + id:                                0,
		``:                                              0,
	} {
		n := 0
		idsIn([]byte(text), func(identity.MsgID) { n++ })
		if n != want {
			t.Errorf("%s: %d ids, want %d", text, n, want)
		}
	}
}
