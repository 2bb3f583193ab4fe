package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"charkha/identity"
	"charkha/muxrpc"
)

// stranger is a peer's session, as far as handlers look at it.
type stranger identity.ID

func (s stranger) Remote() identity.ID { return identity.ID(s) }

// as is the world as a peer sees it.
func (w *world) as(id identity.ID) *world {
	w.Helper()
	registry, err := muxrpc.NewRegistry(w.api.PeerMethods())
	w.check(err)
	near, far := net.Pipe()
	server := muxrpc.New(far, muxrpc.Options{Registry: registry, Anonymous: true, Peer: stranger(id)})
	seen := *w
	seen.conn = muxrpc.New(near, muxrpc.Options{MaxBody: 2 << 20})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 2)
	go func() { server.Run(ctx); ended <- struct{}{} }()    // ends with ctx
	go func() { seen.conn.Run(ctx); ended <- struct{}{} }() // the same
	w.Cleanup(func() {
		cancel()
		<-ended
		<-ended
	})
	return &seen
}

func TestPartialReplication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada, blocked := w.writer(21), identity.ID{9}
	root := ada.say(post("root"))
	first := w.say(post("first", "root", root.Key, "branch", root.Key))
	ada.say(post("second", "root", root.Key, "branch", first.Key))
	ada.say(object{"type": "vote", "vote": object{"link": root.Key, "value": 1}})
	w.say(object{"type": "post", "text": "between us", "root": root.Key, "recps": []any{w.api.Key.ID()}})
	last := ada.say(post("last"))
	ada.say(object{"type": "contact", "contact": blocked, "blocking": true})

	textsOf := func(items []string) (all []string) {
		for _, item := range items {
			var v struct{ Content struct{ Type, Text string } }
			w.check(json.Unmarshal([]byte(item), &v))
			all = append(all, v.Content.Type+" "+v.Content.Text)
		}
		return all
	}
	tangle := func(w *world) (all []string) {
		var values []json.RawMessage
		w.check(json.Unmarshal([]byte(w.call("partialReplication.getTangle", root.Key)), &values))
		for _, v := range values {
			all = append(all, string(v))
		}
		return textsOf(all)
	}
	// A friend sees what we see ourselves.
	for who, w := range map[string]*world{"we": w, "a friend": w.as(identity.ID{8})} {
		check := func(what string, got []string, want ...string) {
			t.Helper()
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s: %q, want %q", who, what, got, want)
			}
		}
		values := func(method string, args ...any) []string {
			return textsOf(w.all("partialReplication."+method, args...))
		}
		check("feed", values("getFeed", object{"id": ada.id, "keys": false, "seq": 3, "limit": 2}), "vote ", "post last")
		check("reverse", values("getFeedReverse", object{"id": ada.id, "keys": false, "limit": 2}), "post last", "contact ")
		check("reverse, all", values("getFeedReverse", object{"id": ada.id, "keys": false})[:2], "post root", "post second")
		check("reverse, more than there are", values("getFeedReverse", object{"id": ada.id, "keys": false, "limit": 1e12})[:1], "post root")
		check("reverse, none", values("getFeedReverse", object{"id": ada.id, "limit": 0}))
		check("reverse of nobody", values("getFeedReverse", object{"id": identity.ID{7}, "limit": 3}))
		check("type", values("getMessagesOfType", object{"id": ada.id, "type": "post"}), "post root", "post second", "post last")
		check("type from behind", values("getMessagesOfType", object{"id": ada.id, "type": "post", "seq": 1, "limit": 1}), "post second")
		check("type of ours", values("getMessagesOfType", object{"id": w.api.Key.ID(), "type": "post"}), "post first")
		check("tangle", tangle(w), "post root", "post first", "post second")
		by := object{"op": "author", "feed": ada.id}
		posts := object{"op": "type", "string": "post"}
		check("subset", values("getSubset", object{"op": "and", "args": []any{by, posts}}, object{"keys": false}), "post root", "post second", "post last")
		check("subset, latest", values("getSubset", posts, object{"keys": false, "descending": true, "pageLimit": 2, "querylang": "ssb-ql-1"}), "post last", "post second")
		check("subset, either, as a text", values("getSubset", fmt.Sprintf(`{"op":"or","args":[{"op":"type","string":"vote"},{"op":"and","args":[{"op":"author","feed":%q}]}]}`, identity.ID{7}),
			object{"keys": false}), "vote ")
		if got := w.texts(w.all("partialReplication.getSubset", posts, object{"descending": true, "pageLimit": 1})); !slices.Equal(got, []string{"last"}) {
			t.Errorf("%s: subset with keys: %v", who, got)
		}
		for _, bad := range []any{object{"op": "and"}, object{"op": "or", "args": []any{}}, object{"op": "type"}, object{"op": "author"}, object{"op": "author", "feed": "x"}, object{}, "nonsense", object{"op": "not"}} {
			if _, err := w.open("partialReplication.getSubset", bad).Recv(); err == nil || !strings.Contains(err.Error(), "getSubset: ") {
				t.Errorf("%s: the query %v: %v", who, bad, err)
			}
		}
		if _, err := w.open("partialReplication.getSubset", posts, object{"querylang": "ssb-ql-0"}).Recv(); err == nil || !strings.Contains(err.Error(), "ssb-ql-0") {
			t.Errorf("%s: another query language: %v", who, err)
		}
		if text := w.refused("partialReplication.getTangle", first.Key.String()[:10]); text == "" {
			t.Errorf("%s: a tangle of what is no id", who)
		}
		if text := w.refused("partialReplication.getTangle", "%"+strings.Repeat("A", 43)+"=.sha256"); !strings.Contains(text, "Key not found in database") {
			t.Errorf("%s: a tangle that is not here: %s", who, text)
		}
	}
	// Whom somebody blocks is shown nothing of theirs.
	w = w.as(blocked)
	for method, arg := range map[string]any{"getFeedReverse": object{"id": ada.id}, "getMessagesOfType": object{"id": ada.id, "type": "post"}, "getSubset": object{"op": "author", "feed": ada.id}} {
		if got := w.all("partialReplication."+method, arg); len(got) > 0 {
			t.Errorf("%s shows somebody who is blocked %s", method, got)
		}
	}
	if text := w.refused("partialReplication.getTangle", root.Key); !strings.Contains(text, "Key not found") {
		t.Errorf("getTangle shows somebody who is blocked: %s", text)
	}
	if got := w.texts(w.all("partialReplication.getSubset", object{"op": "type", "string": "post"})); !slices.Equal(got, []string{"first"}) {
		t.Errorf("getSubset shows somebody who is blocked %v", got)
	}
	if got := w.call("partialReplication.getTangle", first.Key); !strings.HasPrefix(got, "[{") || strings.Contains(got, "second") {
		t.Errorf("a tangle of ours: %s", got)
	}
	_ = last
}

// A query may be deep or wide, but not endless.
func TestLargeSubsets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post("here")
	w = w.as(identity.ID{8})
	deep := strings.Repeat(`{"op":"and","args":[`, 99) + `{"op":"type","string":"post"}` + strings.Repeat(`]}`, 99)
	if got := w.all("partialReplication.getSubset", json.RawMessage(deep)); len(got) != 1 {
		t.Errorf("99 operations around one find %d messages", len(got))
	}
	for _, much := range []string{
		strings.Repeat(`{"op":"and","args":[`, 100) + `{"op":"type","string":"post"}` + strings.Repeat(`]}`, 100),
		`{"op":"or","args":[` + strings.Repeat(`{"op":"type","string":"post"},`, 99) + `{"op":"type","string":"post"}]}`,
	} {
		if _, err := w.open("partialReplication.getSubset", json.RawMessage(much)).Recv(); err == nil || !strings.Contains(err.Error(), "more than 100 operations") {
			t.Errorf("too much: %v", err)
		}
	}
}

// Of a tangle that many wrote to, a peer gets the latest.
func TestLargeTangle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.post("root")
	contents := make([]string, tangleMost+5)
	for i := range contents {
		contents[i] = fmt.Sprintf(`{"type":"post","text":"%d","root":%q}`, i, root.Key)
	}
	_, raws := w.feed(30, contents...)
	w.add(raws)
	var values []struct{ Content struct{ Text string } }
	w.check(json.Unmarshal([]byte(w.as(identity.ID{8}).call("partialReplication.getTangle", root.Key)), &values))
	if len(values) != tangleMost+1 || values[0].Content.Text != "root" || values[len(values)-1].Content.Text != fmt.Sprint(len(contents)-1) {
		t.Errorf("%d messages from %q to %q", len(values), values[0].Content.Text, values[len(values)-1].Content.Text)
	}
}

func TestGoSSBReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.writer(21)
	root := ada.say(post("root"))
	w.say(post("first", "root", root.Key))
	ada.say(post("second", "root", root.Key))
	w.say(object{"type": "post", "text": "quiet", "root": root.Key, "recps": []any{w.api.Key.ID()}})
	w.wantTexts("tangles.thread", object{"root": root.Key}, "first", "second")
	w.wantTexts("tangles.thread", object{"root": root.Key, "reverse": true, "limit": 1}, "second")
	w.wantTexts("tangles.thread", object{"root": root.Key, "private": true}, "first", "second", "(quiet)")

	bob, eve := identity.ID{5}, identity.ID{6}
	w.say(object{"type": "contact", "contact": eve, "blocking": true})
	w.say(object{"type": "contact", "contact": bob, "following": true})
	ada.say(object{"type": "contact", "contact": bob, "blocking": true})
	if got, want := w.all("friends.blocks"), []string{fmt.Sprintf("%q", eve)}; !slices.Equal(got, want) {
		t.Errorf("we block %v, want %v", got, want)
	}
	if got, want := w.all("friends.blocks", object{"who": ada.id}), []string{fmt.Sprintf("%q", bob)}; !slices.Equal(got, want) {
		t.Errorf("ada blocks %v, want %v", got, want)
	}
}

func TestUnread(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.post("a"), w.post("b")
	w.call("unread.markRead", a.Key)
	if got := w.call("unread.isRead", a.Key) + w.call("unread.isRead", b.Key); got != "truefalse" {
		t.Errorf("isRead of one that was, and of one that was not: %s", got)
	}
	if text := w.refused("unread.isRead", "nonsense"); !strings.Contains(text, "unread.isRead") {
		t.Errorf("isRead of no id: %s", text)
	}
}

// What was read outlives the node, and a file that was cut; there is a most, and what was read first is forgotten.
func TestReadMarks(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "unread", "read")
	id := func(i int) string { return identity.MsgID{byte(i), byte(i >> 8), byte(i >> 16), 1}.String() }
	request := func(i int) *muxrpc.Request {
		return &muxrpc.Request{Name: "unread", Args: json.RawMessage(`["` + id(i) + `"]`)}
	}
	mark := func(r *readMarks, i int) {
		t.Helper()
		if _, err := r.markRead(t.Context(), request(i)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(r *readMarks, i int, read bool) {
		t.Helper()
		if got, err := r.isRead(t.Context(), request(i)); err != nil || got != read {
			t.Errorf("message %d is read: %v, %v; want %v", i, got, err, read)
		}
	}
	r := &readMarks{file: file}
	mark(r, 1)
	mark(r, 2)
	mark(r, 1)
	if data, err := os.ReadFile(file); err != nil || len(data) != 64 {
		t.Errorf("%d bytes for two messages, %v", len(data), err)
	}
	if err := os.Truncate(file, 60); err != nil {
		t.Fatal(err)
	}
	r = &readMarks{file: file}
	want(r, 1, true)
	want(r, 2, false)
	mark(r, 3)
	r = &readMarks{file: file}
	want(r, 3, true)

	for i := len(r.order); i < marksMost; i++ { // without a file for each
		raw := identity.MsgID{byte(i), byte(i >> 8), byte(i >> 16), 2}
		r.add(raw)
	}
	mark(r, 4)
	for _, r := range []*readMarks{r, {file: file}} {
		want(r, 1, false)
		want(r, 4, true)
		if len(r.order) != marksMost-marksMost/4+1 || len(r.marks) != len(r.order) {
			t.Errorf("%d messages and %d in order remembered of %d", len(r.marks), len(r.order), marksMost)
		}
	}
}
