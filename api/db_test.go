package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"charkha/identity"
	"charkha/muxrpc"
)

func TestAddSignedMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, raws := w.feed(7, `{"type":"post","n":1}`, `{"type":"post","n":2}`, `{"type":"post","n":3}`)
	if got := w.refused("add", raws[1]); !strings.Contains(got, "gap") {
		t.Errorf("out of order: %s", got)
	}
	first := w.call("add", raws[0])
	if m := w.parse(first); m.Value.Author != id || m.Value.Sequence != 1 || m.Timestamp == 0 {
		t.Errorf("added: %s", first)
	}
	if got := w.call("add", map[string]any{"key": "x", "value": raws[0]}); got != first {
		t.Errorf("again, with its key: %s, want %s", got, first)
	}
	for _, bad := range []any{nil, 7, "x", map[string]any{}, map[string]any{"value": 7}} {
		w.refused("add", bad)
	}
	s, err := w.conn.Open(w.Context(), muxrpc.CallOptions{Kind: muxrpc.Sink}, "createWriteStream")
	w.check(err)
	for _, body := range [][]byte{raws[2], []byte(`{"no":"message"}`), raws[1], raws[2]} {
		w.check(s.SendJSON(body))
	}
	w.check(s.CloseSend(nil))
	if got := w.call("charkha.wait", map[string]any{"id": id, "seq": 3}); got != "3" {
		t.Errorf("after the stream: %s", got)
	}
	latest := w.call("getLatest", id)
	if got, want := w.call("getFeedState", id), fmt.Sprintf(`{"id":"%s","sequence":3}`, w.parse(latest).Key); got != want {
		t.Errorf("getFeedState: %s, want %s", got, want)
	}
	if got := w.call("getFeedState", identity.ID{9}); got != `{"id":null,"sequence":0}` {
		t.Errorf("getFeedState of nobody: %s", got)
	}
	for _, arg := range []any{[]any{id, 3}, id.String() + ":3"} {
		if got := w.call("getAtSequence", arg); !strings.HasPrefix(got, strings.TrimSuffix(latest, "}")+`,"timestamp":`) {
			t.Errorf("getAtSequence %v: %s, want %s", arg, got, latest)
		}
	}
	for _, arg := range []any{nil, "x", []any{id}, []any{id, 0}, []any{id, 4}, id.String(), id.String() + ":x", map[string]any{}} {
		w.refused("getAtSequence", arg)
	}
	if got, want := w.all("latest"), fmt.Sprintf(`{"id":"%s","sequence":3,"ts":`, id); len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("latest: %s", got)
	}
}

func TestRebuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 20 {
		w.post(fmt.Sprint("post ", i))
	}
	before := w.all("messagesByType", "post")
	if got := w.call("rebuild"); got != "null" {
		t.Errorf("rebuild: %s", got)
	}
	if after := w.all("messagesByType", "post"); len(before) != 20 || strings.Join(after, "") != strings.Join(before, "") {
		t.Errorf("%d posts before, %d after, or others", len(before), len(after))
	}
}

func TestRawLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	places := w.open("createSequenceStream")
	if got := w.recv(places); got != "-1" {
		t.Errorf("the place of nothing: %s", got)
	}
	var posts []message
	for i := range 4 {
		posts = append(posts, w.post(fmt.Sprint(i)))
	}
	for got := ""; got != "3"; got = w.recv(places) {
	}
	type raw struct {
		Seq   int64
		Value json.RawMessage
	}
	for _, c := range []struct {
		method  string
		options map[string]any
		want    []int64
	}{
		{"createRawLogStream", map[string]any{}, []int64{0, 1, 2, 3}},
		{"createRawLogStream", map[string]any{"gt": 0, "lte": 2}, []int64{1, 2}},
		{"createRawLogStream", map[string]any{"reverse": true, "gte": 2}, []int64{3, 2}},
		{"createRawLogStream", map[string]any{"reverse": true, "limit": 1}, []int64{3}},
		{"createLogStream", map[string]any{"raw": true, "limit": 2}, []int64{0, 1}},
		{"createLogStream", map[string]any{"raw": true, "lt": posts[2].Timestamp}, []int64{0, 1}},
		{"createLogStream", map[string]any{"raw": true, "gt": posts[2].Timestamp, "reverse": true}, []int64{3}},
	} {
		items := w.all(c.method, c.options)
		if len(items) != len(c.want) {
			t.Errorf("%s %v: %v", c.method, c.options, items)
			continue
		}
		for i, item := range items {
			var r raw
			w.check(json.Unmarshal([]byte(item), &r))
			if r.Seq != c.want[i] || w.parse(string(r.Value)).Key != posts[r.Seq].Key {
				t.Errorf("%s %v: %s, want place %d", c.method, c.options, item, c.want[i])
			}
		}
	}
	if got := w.all("createRawLogStream", map[string]any{"values": false}); strings.Join(got, " ") != "0 1 2 3" {
		t.Errorf("places alone: %v", got)
	}
	if got := w.all("createRawLogStream", map[string]any{"keys": false, "limit": 1}); len(got) != 1 || w.parse(got[0]).Key != posts[0].Key {
		t.Errorf("values alone: %v", got)
	}
}

func TestFriendStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me, one, two := w.api.Key.ID(), identity.ID{1}, identity.ID{2}
	w.call("friends.follow", one)
	graph := func(text string) (g map[identity.ID]map[identity.ID]any) {
		t.Helper()
		w.check(json.Unmarshal([]byte(text), &g))
		return g
	}
	hops, edges, legacy := w.open("friends.hopStream", map[string]any{"old": true}), w.open("friends.graphStream"), w.open("friends.stream")
	if got := w.recv(hops); !strings.Contains(got, fmt.Sprintf(`"%s":0`, me)) || !strings.Contains(got, fmt.Sprintf(`"%s":1`, one)) {
		t.Errorf("hops: %s", got)
	}
	if g := graph(w.recv(legacy)); g[me][one] != true {
		t.Errorf("stream: %v", g)
	}
	w.call("friends.block", two)
	if got, want := w.recv(hops), fmt.Sprintf(`{"%s":-1}`, two); got != want {
		t.Errorf("hops: %s, want %s", got, want)
	}
	if got, want := w.recv(legacy), fmt.Sprintf(`{"from":"%s","to":"%s","value":false}`, me, two); got != want {
		t.Errorf("stream: %s, want %s", got, want)
	}
	// graphStream may have begun before the block or after it.
	w.call("friends.follow", one, map[string]bool{"state": false})
	for g := graph(w.recv(edges)); g[me][one] != -2.0; g = graph(w.recv(edges)) {
	}
	if g := graph(w.call("friends.graph")); g[me][one] != -2.0 || g[me][two] != -1.0 {
		t.Errorf("graph: %v", g)
	}
	if g := graph(w.call("friends.get")); g[me][one] != nil || g[me][two] != false || len(g[me]) != 2 {
		t.Errorf("get: %v", g)
	}
	for _, c := range []struct {
		args map[string]any
		want string
	}{
		{map[string]any{"source": me, "dest": two}, "false"},
		{map[string]any{"source": me, "dest": one}, "null"},
		{map[string]any{"source": one}, "{}"},
		{map[string]any{"dest": two}, fmt.Sprintf(`{"%s":false}`, me)},
	} {
		if got := w.call("friends.get", c.args); got != c.want {
			t.Errorf("get %v: %s, want %s", c.args, got, c.want)
		}
	}
	if got := w.all("friends.createFriendStream", map[string]any{"live": false}); len(got) != 1 || got[0] != fmt.Sprintf("%q", me) {
		t.Errorf("createFriendStream: %v", got)
	}
	if got := w.all("friends.createFriendStream", map[string]any{"live": false, "meta": true}); len(got) != 1 || got[0] != fmt.Sprintf(`{"id":"%s","hops":0}`, me) {
		t.Errorf("createFriendStream: %v", got)
	}
	if got := w.call("friends.isBlocking", map[string]any{"source": me, "dest": two, "details": true}); got != `{"private":false,"response":true}` {
		t.Errorf("isBlocking: %s", got)
	}
	if got, want := w.call("friends.hops", map[string]any{"start": two, "reverse": true}), fmt.Sprintf(`"%s":-1`, me); !strings.Contains(got, want) {
		t.Errorf("hops: %s, want %s in it", got, want)
	}
	if got, want := w.call("friends.hops", map[string]any{"max": 0}), w.call("friends.hops"); got != want {
		t.Errorf("hops: %s, want %s", got, want)
	}
}
