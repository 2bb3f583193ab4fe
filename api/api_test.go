package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"charkha/blob"
	"charkha/identity"
	"charkha/index"
	"charkha/lan"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/replicate"
)

// world is an API over an empty log of its own, and a local program's connection to it.
type world struct {
	testing.TB
	api  *API
	conn *muxrpc.Conn
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t}
	dir := t.TempDir()
	key := identity.FromSeed([32]byte{1})
	now := time.Unix(1700000000, 0)
	feeds, err := log.Open(log.Options{Dir: filepath.Join(dir, "log"), Now: func() time.Time { now = now.Add(time.Second); return now }})
	w.check(err)
	w.check(feeds.Confirm(key.ID()))
	views, err := index.Open(index.Options{Dir: filepath.Join(dir, "index"), Log: feeds, Self: key.ID(), Hops: 2, Unbox: func(m *log.Message) ([]byte, bool) { return Unbox(m, key) }})
	w.check(err)
	blobs, err := blob.Open(blob.Options{Dir: filepath.Join(dir, "blobs"), Max: blobMax})
	w.check(err)
	network, err := replicate.New(replicate.Options{Key: key, NetworkKey: [32]byte{9}, Log: feeds, Graph: views, Dir: dir, Blobs: blobs, BlobMax: blobMax})
	w.check(err)
	w.api = &API{Blobs: blobs, BlobMax: blobMax, Key: key, Log: feeds, Index: views, Network: network, Hops: 2, Version: "1.2.3", settleFor: time.Minute, LAN: func() lan.Report { return lan.Report{Problem: "off"} }}
	registry, err := muxrpc.NewRegistry(w.api.Methods())
	w.check(err)
	near, far := net.Pipe()
	server := muxrpc.New(far, muxrpc.Options{Registry: registry})
	w.conn = muxrpc.New(near, muxrpc.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 3)
	go func() { views.Run(ctx); ended <- struct{}{} }()  // ends with ctx
	go func() { server.Run(ctx); ended <- struct{}{} }() // the same
	go func() { w.conn.Run(ctx); ended <- struct{}{} }() // the same
	t.Cleanup(func() {
		cancel()
		for range 3 {
			<-ended
		}
		w.check(errors.Join(network.Close(), blobs.Close(), views.Close(), feeds.Close()))
	})
	return w
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// call gives an answer as its JSON text.
func (w *world) call(method string, args ...any) string {
	w.Helper()
	answer, err := w.conn.Async(w.Context(), method, args...)
	if err != nil {
		w.Fatalf("%s: %v", method, err)
	}
	return string(answer)
}

// refused gives the text of the error that a call is answered with.
func (w *world) refused(method string, args ...any) string {
	w.Helper()
	answer, err := w.conn.Async(w.Context(), method, args...)
	var remote *muxrpc.RemoteError
	if !errors.As(err, &remote) {
		w.Fatalf("%s%v answers %s, %v; want an error", method, args, answer, err)
	}
	return remote.Message
}

func (w *world) open(method string, args ...any) *muxrpc.Stream {
	w.Helper()
	s, err := w.conn.Source(w.Context(), method, args...)
	w.check(err)
	return s
}

// all gives what a source sends until it ends.
func (w *world) all(method string, args ...any) (items []string) {
	w.Helper()
	s := w.open(method, args...)
	for {
		body, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return items
		}
		if err != nil {
			w.Fatalf("%s: %v", method, err)
		}
		items = append(items, string(body.Data))
	}
}

func (w *world) recv(s *muxrpc.Stream) string {
	w.Helper()
	body, err := s.Recv()
	w.check(err)
	return string(body.Data)
}

type message struct {
	Key       identity.MsgID
	Timestamp float64
	Value     struct {
		Author   identity.ID
		Sequence int64
		Content  json.RawMessage
	}
}

func (w *world) parse(text string) (m message) {
	w.Helper()
	w.check(json.Unmarshal([]byte(text), &m))
	return m
}

func (w *world) post(text string) message {
	w.Helper()
	return w.parse(w.call("publish", map[string]string{"type": "post", "text": text}))
}

// feed makes the messages of another author, in a log of their own.
func (w *world) feed(seed byte, contents ...string) (id identity.ID, raws []json.RawMessage) {
	w.Helper()
	key := identity.FromSeed([32]byte{seed})
	l, err := log.Open(log.Options{Dir: w.TempDir()})
	w.check(err)
	w.check(l.Confirm(key.ID()))
	for _, content := range contents {
		m, err := l.Publish(key, []byte(content))
		w.check(err)
		raws = append(raws, m.Value())
	}
	w.check(l.Close())
	return key.ID(), raws
}

func (w *world) add(raws []json.RawMessage) {
	w.Helper()
	var bs [][]byte
	for _, raw := range raws {
		bs = append(bs, raw)
	}
	results, err := w.api.Log.Append(bs)
	w.check(err)
	for _, r := range results {
		w.check(r.Err)
	}
}

func TestIdentityMethods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got, want := w.call("whoami"), fmt.Sprintf(`{"id":"%s"}`, w.api.Key.ID()); got != want {
		t.Errorf("whoami: %s, want %s", got, want)
	}
	if got := w.call("version"); got != `"1.2.3"` {
		t.Errorf("version: %s", got)
	}
	if got := w.call("address"); got != "null" {
		t.Errorf("address: %s of a node that listens nowhere", got)
	}
	var manifest map[string]any
	w.check(json.Unmarshal([]byte(w.call("manifest")), &manifest))
	if manifest["publish"] != "async" || manifest["createLogStream"] != "source" {
		t.Errorf("manifest: %v", manifest)
	}
	if kinds, _ := manifest["charkha"].(map[string]any); kinds["import"] != "duplex" {
		t.Errorf("manifest: %v", manifest)
	}
}

func TestPublishAndGet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.api.Key.ID()
	if got := w.call("getLatest", me); got != "false" {
		t.Errorf("getLatest of an empty feed: %s", got)
	}
	text := w.call("publish", json.RawMessage(`{"type":"post","text":"hello","2":[1.0]}`))
	m := w.parse(text)
	if m.Value.Author != me || m.Value.Sequence != 1 || string(m.Value.Content) != `{"2":[1],"type":"post","text":"hello"}` || m.Timestamp == 0 {
		t.Errorf("published %s", text)
	}
	for _, arg := range []any{map[string]any{"id": m.Key, "meta": true}, map[string]any{"key": m.Key, "meta": true}} {
		if got := w.call("get", arg); got != text {
			t.Errorf("get %v: %s, want %s", arg, got, text)
		}
	}
	value := w.call("get", m.Key)
	if !strings.Contains(text, `"value":`+value) {
		t.Errorf("get: %s, which is not in %s", value, text)
	}
	if got := w.call("get", map[string]any{"id": m.Key}); got != value {
		t.Errorf("get: %s, want %s", got, value)
	}
	if got := w.call("getLatest", me); !strings.HasPrefix(text, strings.TrimSuffix(got, "}")+`,"timestamp":`) {
		t.Errorf("getLatest: %s, want %s", got, text)
	}
	boxed := w.parse(w.call("publish", "AAAA.box"))
	if string(boxed.Value.Content) != `"AAAA.box"` || boxed.Value.Sequence != 2 {
		t.Errorf("published %+v", boxed)
	}
	if got := w.call("latestSequence", me); got != "2" {
		t.Errorf("latestSequence: %s", got)
	}
	if got, want := w.call("getVectorClock"), fmt.Sprintf(`{"%s":2}`, me); got != want {
		t.Errorf("getVectorClock: %s, want %s", got, want)
	}
}

func TestWhatCannotBePublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		content any
		want    string
	}{
		{nil, "content"},
		{42, "content"},
		{"no box", "content"},
		{[]int{1}, "content"},
		{map[string]any{"text": "no type"}, "type"},
		{map[string]any{"type": "ab"}, "type"},
		{map[string]any{"type": "post", "text": strings.Repeat("x", 8193)}, "8192"},
	} {
		if got := w.refused("publish", c.content); !strings.Contains(got, c.want) {
			t.Errorf("publish %.40v: %q, want an error about %q", c.content, got, c.want)
		}
	}
	if got := w.refused("publish"); !strings.Contains(got, "content") {
		t.Errorf("publish of nothing: %q", got)
	}
	if got := w.call("getVectorClock"); got != "{}" {
		t.Errorf("after what was refused: %s", got)
	}
	unknown := identity.MsgID{5}
	if got := w.refused("get", unknown); !strings.Contains(got, unknown.String()) {
		t.Errorf("get: %q does not name the id", got)
	}
	for _, arg := range []any{nil, 7, "%abc.sha256", map[string]any{}, map[string]any{"id": 1}} {
		w.refused("get", arg)
	}
	w.refused("latestSequence", identity.ID{3})
	w.refused("createUserStreamX")
}

func TestAnUnconfirmedKeyMayNotPublish(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.api.Key = identity.FromSeed([32]byte{2})
	if got := w.refused("publish", map[string]string{"type": "post", "text": "x"}); !strings.Contains(got, "--new-feed") || !strings.Contains(got, "peer") {
		t.Errorf("%q does not say what to do", got)
	}
}

func TestUserStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, raws := w.feed(7, `{"type":"post","n":1}`, `{"type":"post","n":2}`, `{"type":"post","n":3}`, `{"type":"post","n":4}`, `{"type":"post","n":5}`)
	w.add(raws)
	_, others := w.feed(8, `{"type":"post"}`)
	w.add(others)
	for _, c := range []struct {
		options string
		want    []int64
	}{
		{`{}`, []int64{1, 2, 3, 4, 5}},
		{`{"reverse":true}`, []int64{5, 4, 3, 2, 1}},
		{`{"limit":2}`, []int64{1, 2}},
		{`{"limit":2,"reverse":true}`, []int64{5, 4}},
		{`{"limit":0}`, nil},
		{`{"limit":-1}`, []int64{1, 2, 3, 4, 5}},
		{`{"gt":2}`, []int64{3, 4, 5}},
		{`{"gte":2,"lt":4}`, []int64{2, 3}},
		{`{"gt":1.5,"lte":2.5}`, []int64{2}},
		{`{"lte":3,"reverse":true,"limit":1}`, []int64{3}},
		{`{"gt":5}`, nil},
		{`{"lt":1}`, nil},
		{`{"gte":-1e300,"lte":1e300}`, []int64{1, 2, 3, 4, 5}},
		{`{"gt":1e300}`, nil},
		{`{"reverse":1,"limit":1,"live":0}`, []int64{5}},
	} {
		options := map[string]any{}
		w.check(json.Unmarshal([]byte(c.options), &options))
		options["id"] = id
		var got []int64
		for _, item := range w.all("createUserStream", options) {
			got = append(got, w.parse(item).Value.Sequence)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.options, got, c.want)
		}
	}
	values := w.all("createUserStream", map[string]any{"id": id, "keys": false})
	for i, v := range values {
		if v != string(raws[i]) {
			t.Errorf("value %s, want %s", v, raws[i])
		}
	}
	keys := w.all("createUserStream", map[string]any{"id": id, "values": false, "limit": 1})
	var key identity.MsgID
	if len(keys) != 1 || json.Unmarshal([]byte(keys[0]), &key) != nil || w.call("get", key) != string(raws[0]) {
		t.Errorf("keys %v", keys)
	}
	if both := w.all("createUserStream", map[string]any{"id": id, "keys": false, "values": false, "limit": 1}); len(both) != 1 || both[0] != string(raws[0]) {
		t.Errorf("neither keys nor values: %v", both)
	}
	s := w.open("createUserStream", map[string]any{})
	if _, err := s.Recv(); err == nil || !strings.Contains(err.Error(), "id") {
		t.Errorf("without an id: %v", err)
	}
}

func TestLiveStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.api.Key.ID()
	w.post("old")
	user := w.open("createUserStream", map[string]any{"id": me, "live": true})
	news := w.open("createUserStream", map[string]any{"id": me, "old": false, "limit": 1}) // live, too
	all := w.open("createLogStream", map[string]any{"live": true, "sync": false, "limit": 1})
	if m := w.parse(w.recv(user)); m.Value.Sequence != 1 {
		t.Errorf("old: %+v", m)
	}
	if got := w.recv(user); got != `{"sync":true}` {
		t.Errorf("between old and live: %s", got)
	}
	// news is open when its first answer could come: a call after it on the same connection is served after it began.
	_, raws := w.feed(8, `{"type":"post"}`)
	w.add(raws)
	w.post("new")
	if m := w.parse(w.recv(user)); m.Value.Sequence != 2 {
		t.Errorf("live: %+v", m)
	}
	if m := w.parse(w.recv(all)); m.Value.Sequence != 1 || m.Value.Author != me {
		t.Errorf("log: %+v", m)
	}
	if m := w.parse(w.recv(all)); m.Value.Author == me {
		t.Errorf("log: %+v", m)
	}
	if m := w.parse(w.recv(all)); m.Value.Sequence != 2 || m.Value.Author != me {
		t.Errorf("log: %+v", m)
	}
	// It may have begun before or after "new": what it sends is live. A limit is for what is old.
	w.post("newer")
	w.post("newest")
	first := w.parse(w.recv(news))
	if first.Value.Sequence < 2 {
		t.Errorf("only new: %+v", first)
	}
	if m := w.parse(w.recv(news)); m.Value.Sequence != first.Value.Sequence+1 {
		t.Errorf("after the limit: %+v", m)
	}
	// The same of a stream that the index serves: one old, what comes, none twice and none left out.
	byType := w.open("messagesByType", map[string]any{"type": "post", "live": true, "reverse": true, "limit": 1})
	w.recv(byType)
	if got := w.recv(byType); got != `{"sync":true}` {
		t.Errorf("messagesByType after the limit: %s", got)
	}
	last := w.post("last")
	if m := w.parse(w.recv(byType)); m.Key != last.Key {
		t.Errorf("messagesByType live: %+v", m)
	}
	user.Close()
	news.Close()
	all.Close()
	byType.Close()
}

func TestLogStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var times []float64
	for i := range 5 {
		times = append(times, w.post(fmt.Sprint(i)).Timestamp)
	}
	for _, c := range []struct {
		options map[string]any
		want    []int64
	}{
		{nil, []int64{1, 2, 3, 4, 5}},
		{map[string]any{"reverse": true, "limit": 2}, []int64{5, 4}},
		{map[string]any{"limit": 3}, []int64{1, 2, 3}},
		{map[string]any{"gt": times[1]}, []int64{3, 4, 5}},
		{map[string]any{"gte": times[1], "lt": times[3]}, []int64{2, 3}},
	} {
		var args []any
		if c.options != nil {
			args = append(args, c.options)
		}
		var got []int64
		for _, item := range w.all("createLogStream", args...) {
			got = append(got, w.parse(item).Value.Sequence)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.options, got, c.want)
		}
	}
}

func TestFriends(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me, other := w.api.Key.ID(), identity.ID{7}
	content := func(text string) string { return string(w.parse(text).Value.Content) }
	is := func(method string) string {
		return w.call(method, map[string]any{"source": me, "dest": other})
	}
	if got, want := content(w.call("friends.follow", other)), fmt.Sprintf(`{"type":"contact","contact":"%s","following":true}`, other); got != want {
		t.Errorf("follow: %s, want %s", got, want)
	}
	if is("friends.isFollowing") != "true" || is("friends.isBlocking") != "false" {
		t.Error("followed, but not so")
	}
	hops := map[identity.ID]float64{}
	w.check(json.Unmarshal([]byte(w.call("friends.hops")), &hops))
	if len(hops) != 2 || hops[me] != 0 || hops[other] != 1 {
		t.Errorf("hops: %v", hops)
	}
	w.call("friends.follow", other, map[string]any{"state": false})
	if is("friends.isFollowing") != "false" {
		t.Error("unfollowed, but not so")
	}
	if got, want := content(w.call("friends.block", other, map[string]any{"state": true, "reason": "spam"})), fmt.Sprintf(`{"type":"contact","contact":"%s","blocking":true,"reason":"spam"}`, other); got != want {
		t.Errorf("block: %s, want %s", got, want)
	}
	if is("friends.isBlocking") != "true" {
		t.Error("blocked, but not so")
	}
	before := w.call("getVectorClock")
	for _, args := range [][]any{{}, {nil}, {"@abc"}, {me}, {other, map[string]any{"recps": []any{me}}}} {
		w.refused("friends.follow", args...)
		w.refused("friends.block", args...)
	}
	if got := w.refused("friends.follow", me); strings.Contains(got, "friends.") { // people read it who never heard of the method
		t.Errorf("following oneself: %s", got)
	}
	if got := w.call("friends.isFollowing", map[string]any{"source": me}); got != "false" {
		t.Errorf("we follow nobody in particular: %s", got)
	}
	if after := w.call("getVectorClock"); after != before {
		t.Errorf("refused calls published: %s, then %s", before, after)
	}
}

func TestImportAndExport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, raws := w.feed(7, `{"type":"post","n":1}`, `{"type":"post","n":2}`, `{"type":"post","n":3}`)
	_, gap := w.feed(8, `{"type":"post"}`, `{"type":"post"}`)
	// The same key, another feed: its second message forks.
	_, fork := w.feed(7, `{"type":"post","n":1}`, `{"type":"post","n":"other"}`)
	bad := json.RawMessage(strings.Replace(string(raws[2]), `"n":3`, `"n":4`, 1))

	s, err := w.conn.Open(w.Context(), muxrpc.CallOptions{Kind: muxrpc.Duplex}, "charkha.import")
	w.check(err)
	for _, raw := range []json.RawMessage{raws[0], raws[1], raws[1], gap[1], bad, raws[2], fork[1], json.RawMessage(`{"a":1}`)} {
		w.check(s.SendJSON(raw))
	}
	w.check(s.CloseSend(nil))
	var last ImportReport
	refused := map[int64]Refusal{}
	for {
		body, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		w.check(err)
		last = ImportReport{}
		w.check(json.Unmarshal(body.Data, &last))
		for _, r := range last.Refused {
			refused[r.Number] = r
		}
	}
	if want := (Imported{Stored: 3, Duplicate: 1, Gap: 1, Fork: 1, Invalid: 2}); last.Imported != want {
		t.Errorf("imported %+v, want %+v", last.Imported, want)
	}
	for number, want := range map[int64]string{4: "gap", 5: "invalid", 7: "fork", 8: "invalid"} {
		if r := refused[number]; r.Status != want || r.Error == "" {
			t.Errorf("message %d: %+v, want %s and why", number, r, want)
		}
	}
	if len(refused) != 4 {
		t.Errorf("refused: %v", refused)
	}
	var st Status
	w.check(json.Unmarshal([]byte(w.call("charkha.status")), &st))
	if len(st.Forks) != 1 || st.Forks[0].Feed != id || st.Forks[0].Kept == st.Forks[0].Other || st.Messages != 3 || st.Feeds != 1 {
		t.Errorf("status: %+v", st)
	}
	exported := w.all("charkha.export")
	if len(exported) != 3 {
		t.Fatalf("exported %v", exported)
	}
	for i, item := range exported {
		if !strings.Contains(item, `"value":`+string(raws[i])) {
			t.Errorf("exported %s, without the value %s", item, raws[i])
		}
	}
	if one := w.all("charkha.export", map[string]any{"id": id}); !slices.Equal(one, exported) {
		t.Errorf("exported of one feed: %v", one)
	}
	if none := w.all("charkha.export", map[string]any{"id": identity.ID{9}}); len(none) != 0 {
		t.Errorf("exported of an unknown feed: %v", none)
	}
}

// An import of nothing but refusals says every one of them, in reports that fit into a body.
func TestImportTellsEveryRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, err := w.conn.Open(w.Context(), muxrpc.CallOptions{Kind: muxrpc.Duplex}, "charkha.import")
	w.check(err)
	const n = 2500
	sent := make(chan error, 1)
	go func() {
		for range n {
			if err := s.SendJSON([]byte(`{"no":"message"}`)); err != nil {
				sent <- err
				return
			}
		}
		sent <- s.CloseSend(nil)
	}()
	told := 0
	for {
		body, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		w.check(err)
		var r ImportReport
		w.check(json.Unmarshal(body.Data, &r))
		told += len(r.Refused)
	}
	w.check(<-sent)
	if told != n {
		t.Errorf("%d refusals told, want %d", told, n)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, raws := w.feed(7, `{"type":"post","n":1}`, `{"type":"post","n":2}`)
	w.add(raws[:1])
	if got := w.call("charkha.wait", map[string]any{"id": id, "seq": 1}); got != "1" {
		t.Errorf("wait for what is there: %s", got)
	}
	answer := make(chan string, 1)
	go func() {
		got, err := w.conn.Async(w.Context(), "charkha.wait", map[string]any{"id": id, "seq": 2})
		answer <- fmt.Sprint(string(got), err)
	}()
	w.add(raws[1:])
	if got := <-answer; got != "2<nil>" {
		t.Errorf("wait for what comes: %s", got)
	}
	for _, arg := range []any{nil, map[string]any{}, map[string]any{"id": id}, map[string]any{"id": id, "seq": 0}, map[string]any{"id": "x", "seq": 1}} {
		w.refused("charkha.wait", arg)
	}
}

func TestTimelineNamesAuthors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.api.Key.ID()
	w.call("publish", map[string]any{"type": "about", "about": me, "name": "alice"})
	w.post("first")
	w.post("second")
	rows := w.all("charkha.timeline", map[string]any{"limit": 1})
	var row struct {
		Name  string
		Value struct{ Content struct{ Text string } }
	}
	if len(rows) != 1 || json.Unmarshal([]byte(rows[0]), &row) != nil || row.Name != "alice" || row.Value.Content.Text != "second" {
		t.Errorf("timeline: %v", rows)
	}
	if rows := w.all("charkha.timeline"); len(rows) != 2 {
		t.Errorf("timeline: %v", rows)
	}
}

func TestConnectSaysWhyNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for arg, want := range map[string]string{
		"":         "address",
		"nonsense": "address",
		"net:127.0.0.1:1~shs:" + w.api.Key.ID().String()[1:45]: "own",
	} {
		if got := w.refused("conn.connect", arg); !strings.Contains(got, want) {
			t.Errorf("connect %q: %q, want %q in it", arg, got, want)
		}
	}
	blocked := identity.ID{5}
	w.call("friends.block", blocked)
	w.call("friends.isBlocking", map[string]any{"source": w.api.Key.ID(), "dest": blocked}) // waits for the index
	if got := w.refused("conn.connect", identity.Address{Host: "127.0.0.1", Port: 1, Key: blocked}.String()); !strings.Contains(got, "blocked; following") {
		t.Errorf("connect to who is blocked: %q", got)
	}
	if got := w.refused("conn.disconnect", "x"); !strings.Contains(got, "neither") {
		t.Errorf("disconnect: %q", got)
	}
	if got := w.call("conn.disconnect", identity.ID{4}); got != "false" {
		t.Errorf("disconnect of nobody: %s", got)
	}
}

// Why a peer was not reached comes with what to look at, and stays what it was.
func TestConnectAdvises(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "; is the peer running"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}, "; is the host's name right?"},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, "; is the peer online"},
		{errors.New("not on our network"), ""},
	} {
		got := advise(fmt.Errorf("dial x: %w", c.err))
		if text := "dial x: " + c.err.Error(); !errors.Is(got, c.err) || !strings.HasPrefix(got.Error(), text+c.want) || c.want == "" && got.Error() != text {
			t.Errorf("%v, want %s%s...", got, text, c.want)
		}
	}
}
