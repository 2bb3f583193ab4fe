package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"charkha/blob"
	"charkha/blob/boxs"
	"charkha/identity"
	"charkha/muxrpc"
)

// blobMax is the most bytes of one blob in these tests.
const blobMax = 1 << 20

func blobID(content string) identity.BlobID { return sha256.Sum256([]byte(content)) }

// addBlob sends a blob in pieces of at most so many bytes, and returns how the call ended.
func (w *world) addBlob(content string, piece int, args ...any) error {
	w.Helper()
	s, err := w.conn.Sink(w.Context(), "blobs.add", args...)
	w.check(err)
	for len(content) > 0 {
		n := min(piece, len(content))
		if s.Send(muxrpc.Body{Type: muxrpc.Binary, Data: []byte(content[:n])}) != nil {
			break // why, it tells below
		}
		content = content[n:]
	}
	s.CloseSend(nil)
	if _, err := s.Recv(); err != io.EOF {
		return err
	}
	return nil
}

func (w *world) keep(content string) identity.BlobID {
	w.Helper()
	w.check(w.addBlob(content, 1000))
	return blobID(content)
}

// began pokes until a stream tells of it: then it follows.
func (w *world) began(s *muxrpc.Stream, poke func()) {
	w.Helper()
	told := make(chan string)
	go func() {
		defer close(told)
		if body, err := s.Recv(); err == nil {
			told <- string(body.Data)
		}
	}()
	for {
		poke()
		select {
		case _, ok := <-told:
			if !ok {
				w.Fatal("the stream ends")
			}
			<-told // closed
			return
		default:
		}
	}
}

func (w *world) get(method string, args ...any) (content string, err error) {
	w.Helper()
	s := w.open(method, args...)
	for {
		body, err := s.Recv()
		if err == io.EOF {
			return content, nil
		}
		if err != nil {
			return content, err
		}
		if body.Type != muxrpc.Binary {
			w.Errorf("%s: a body of type %d", method, body.Type)
		}
		content += string(body.Data)
	}
}

func TestBlobsThereAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, content := range []string{"", "x", strings.Repeat("12345678", 8<<10), strings.Repeat("12345678", 8<<10) + "9", strings.Repeat("0123456789", 50_001)} {
		id := blobID(content)
		for _, args := range [][]any{nil, {id}, {object{"id": id}}, {nil}} {
			w.check(w.addBlob(content, 70_000, args...))
			if got, err := w.get("blobs.get", id); got != content || err != nil {
				t.Errorf("%d bytes: %d come back, %v", len(content), len(got), err)
			}
			w.call("blobs.has", id)
		}
		if info, ok := w.api.Blobs.Stat(id); !ok || !info.Why.Own || info.Why.Author != w.api.Key.ID() || info.Size != int64(len(content)) {
			t.Errorf("%d bytes: %+v %t", len(content), info, ok)
		}
	}
}

// What is not the blob, or too large, or ends in an error, leaves nothing behind.
func TestBlobsAddRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const content = "some bytes"
	for _, c := range []struct {
		arg     any
		content string
		want    string
	}{
		{blobID("other bytes"), content, "the bytes are not those of the blob"},
		{object{"key": blobID("other bytes")}, content, "the bytes are not those of the blob"},
		{"nonsense", content, `blobs.add: invalid id:"nonsense"`},
		{object{}, content, `blobs.add: invalid id:""`},
		{7, content, "a number does not fit here"},
		{nil, strings.Repeat("x", blobMax+1), "the blob is larger than allowed"},
		{nil, strings.Repeat("x", 20*blobMax), "the blob is larger than allowed"},
	} {
		if err := w.addBlob(c.content, 60_000, c.arg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, %d bytes: %v, want %s", c.arg, len(c.content), err, c.want)
		}
	}
	s, err := w.conn.Sink(t.Context(), "blobs.add")
	w.check(err)
	w.check(s.SendJSON([]byte(`{"not":"bytes"}`)))
	if _, err := s.Recv(); err == nil || !strings.Contains(err.Error(), "bytes, not as JSON") {
		t.Errorf("JSON: %v", err)
	}
	s, err = w.conn.Sink(t.Context(), "blobs.add")
	w.check(err)
	w.check(s.Send(muxrpc.Body{Type: muxrpc.Binary, Data: []byte(content)}))
	w.check(s.CloseSend(errors.New("the file cannot be read")))
	if _, err := s.Recv(); err == nil {
		t.Error("a caller's error is success")
	}
	if u := w.api.Blobs.Usage(); u.Blobs != 0 || w.call("blobs.has", blobID(content)) != "false" {
		t.Errorf("left behind: %+v", u)
	}
	w.check(w.addBlob(strings.Repeat("x", blobMax), 60_000)) // just so many
}

func TestBlobsGetShapes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := strings.Repeat("0123456789", 10_000)
	id := w.keep(content)
	for _, c := range []struct {
		method string
		arg    any
		want   string
	}{
		{"blobs.get", id, content}, {"blobs.get", object{"id": id}, content}, {"blobs.get", object{"key": id, "max": 100_000}, content},
		{"blobs.get", object{"hash": id, "size": 100_000, "max": nil}, content}, {"blobs.get", object{"key": id, "start": 5, "end": 7}, content},
		{"blobs.getSlice", object{"id": id, "start": 0, "end": 3}, "012"}, {"blobs.getSlice", object{"key": id, "start": 99_998, "end": 200_000}, "89"},
		{"blobs.getSlice", object{"hash": id, "start": 70_001, "end": 70_004, "size": 100_000}, "123"}, {"blobs.getSlice", object{"id": id, "start": 5, "end": 5}, ""},
		{"blobs.getSlice", object{"id": id, "start": 7, "end": 5}, ""}, {"blobs.getSlice", object{"id": id, "start": 1e300, "end": 1e301}, ""},
		{"blobs.getSlice", object{"id": id, "start": -5, "end": 2}, "01"},
	} {
		if got, err := w.get(c.method, c.arg); got != c.want || err != nil {
			t.Errorf("%s %v: %d bytes, %v; want %d", c.method, c.arg, len(got), err, len(c.want))
		}
	}
	for _, c := range []struct {
		method string
		arg    any
		want   string
	}{
		{"blobs.get", blobID("not here"), "could not get blob"}, {"blobs.getSlice", object{"id": blobID("not here"), "start": 0, "end": 1}, "stat failed"},
		{"blobs.get", object{"id": id, "size": 5}, "incorrect file length, requested:5 file was:100000 for file:" + id.String()},
		{"blobs.get", object{"id": id, "max": 99_999}, "incorrect file length, requested:99999 file was:100000 for file:" + id.String()},
		{"blobs.getSlice", object{"id": id, "start": 0}, "the option end is missing"}, {"blobs.getSlice", object{"id": id, "start": "x", "end": 5}, "a string does not fit here"},
		{"blobs.get", nil, "is missing"}, {"blobs.get", identity.MsgID{1}, "invalid id:"}, {"blobs.get", object{"id": "../../secret"}, `invalid id:"../../secret"`},
		{"blobs.get", id.String() + "?unbox=x", "invalid id:"}, {"blobs.get", []any{id}, "an array does not fit here"},
	} {
		if _, err := w.get(c.method, c.arg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: %v, want %s", c.method, c.arg, err, c.want)
		}
	}
}

func TestBlobsHasSizeMeta(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, gone := w.keep("here"), blobID("not here")
	for _, c := range []struct {
		method string
		arg    any
		want   string
	}{
		{"blobs.has", id, "true"}, {"blobs.has", gone, "false"}, {"blobs.has", []any{id, gone, id}, "[true,false,true]"}, {"blobs.has", []any{}, "[]"},
		{"blobs.has", object{"id": id}, "true"}, {"blobs.has", emptyBlob, "true"},
		{"blobs.size", id, "4"}, {"blobs.size", gone, "null"}, {"blobs.size", []any{gone, id, emptyBlob}, "[null,4,0]"}, {"blobs.size", object{"key": id}, "4"},
	} {
		if got := w.call(c.method, c.arg); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.method, c.arg, got, c.want)
		}
	}
	info, _ := w.api.Blobs.Stat(id)
	if got, want := w.call("blobs.meta", id), fmt.Sprintf(`{"id":%q,"size":4,"ts":%d}`, id, info.Stored.UnixMilli()); got != want {
		t.Errorf("meta: %s, want %s", got, want)
	}
	if got := w.refused("blobs.meta", gone); got != "could not get blob" {
		t.Error(got)
	}
	for _, method := range []string{"blobs.has", "blobs.size", "blobs.meta", "blobs.want", "blobs.push", "blobs.rm"} {
		if got := w.refused(method, "nonsense"); got != method+`: invalid id:"nonsense"` {
			t.Errorf("%s: %s", method, got)
		}
		if got := w.refused(method); !strings.Contains(got, "is missing") {
			t.Errorf("%s: %s", method, got)
		}
	}
	if got := w.refused("blobs.has", []any{id, "nonsense"}); got != `blobs.has: invalid id:"nonsense"` {
		t.Error(got)
	}
	if got := w.call("blobs.want", id); got != "true" {
		t.Error(got)
	}
	if got := w.call("blobs.want", emptyBlob); got != "true" {
		t.Error(got)
	}
	if got := w.call("blobs.rm", id); got != "false" || w.call("blobs.has", id) != "false" {
		t.Error(got)
	}
	if got := w.refused("blobs.rm", id); !strings.Contains(got, "is not here") {
		t.Error(got)
	}
	if !w.api.Blobs.Refused(id) {
		t.Error("what was removed may come again")
	}
	if w.keep("here"); w.api.Blobs.Refused(id) {
		t.Error("what was added again is refused")
	}
}

func TestBlobsList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := []string{w.keep("a").String(), w.keep("b").String(), w.keep("c").String()}
	slices.SortFunc(ids, func(a, b string) int {
		x, _ := identity.ParseBlobID(a)
		y, _ := identity.ParseBlobID(b)
		return bytes.Compare(x[:], y[:])
	})
	for _, args := range [][]any{nil, {object{}}, {object{"old": true, "live": false}}, {object{"meta": false}}} {
		if got := w.all("blobs.ls", args...); !slices.Equal(got, ids) {
			t.Errorf("%v: %q, want %q", args, got, ids)
		}
	}
	for _, name := range []string{"meta", "long", "size"} {
		got := w.all("blobs.ls", object{name: true})
		if len(got) != 3 {
			t.Fatalf("%s: %d", name, len(got))
		}
		for i, item := range got {
			var m struct {
				ID       string
				Size, TS int64
			}
			if w.check(json.Unmarshal([]byte(item), &m)); m.ID != ids[i] || m.Size != 1 || m.TS == 0 {
				t.Errorf("%s: %s", name, item)
			}
		}
	}
	live, silent, only, changes := w.open("blobs.ls", object{"live": true}), w.open("blobs.ls", object{"live": true, "sync": false, "meta": true}), w.open("blobs.ls", object{"old": false}), w.open("blobs.changes")
	for _, id := range append(slices.Clone(ids), `{"sync":true}`) {
		if got := w.recv(live); got != id {
			t.Errorf("live: %s, want %s", got, id)
		}
	}
	for range ids {
		w.recv(silent)
	}
	probe := 0
	for _, s := range []*muxrpc.Stream{only, changes} {
		w.began(s, func() { probe++; w.keep(fmt.Sprint("probe ", probe)) })
	}
	// All know of the last probe once they have told of it.
	last := w.keep("last probe").String()
	for _, s := range []*muxrpc.Stream{live, only, changes, silent} {
		for !strings.Contains(w.recv(s), last) {
		}
	}
	var news []string
	for i := range 20 {
		news = append(news, w.keep(fmt.Sprint("news ", i)).String())
	}
	for _, id := range news {
		if a, b, c := w.recv(live), w.recv(only), w.recv(changes); a != id || b != id || c != id {
			t.Errorf("%s %s %s, want %s", a, b, c, id)
		}
		if got := w.recv(silent); !strings.HasPrefix(got, `{"id":"`+id+`"`) {
			t.Errorf("%s, want %s", got, id)
		}
	}
}

// What a program is told of what is wanted, in words and as the bare protocol has it.
func TestBlobWants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, mine := blobID("wanted"), w.keep("mine")
	w.call("publish", object{"type": "post", "text": "look", "mentions": []any{object{"link": id}, object{"link": mine}}})
	wants := w.open("blobs.createWants")
	if got := w.recv(wants); got != "{}" {
		t.Errorf("at first: %s", got)
	}
	state := func(id identity.BlobID) (b BlobState) {
		w.check(json.Unmarshal([]byte(w.call("charkha.blob", id)), &b))
		return b
	}
	if b := state(id); b.Verdict != BlobUnwanted || b.Here != nil || b.Want != nil || len(b.LinkedBy) != 1 || b.LinkedBy[0].ID != w.api.Key.ID() {
		t.Errorf("%+v", b)
	}
	w.api.Network.WishBlob(id, blob.Why{})
	if got, want := w.recv(wants), fmt.Sprintf(`{%q:-1}`, id); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if b := state(id); b.Verdict != BlobNoPeers || b.Want == nil || b.Hint == "" {
		t.Errorf("%+v", b)
	}
	if got := w.call("charkha.blobWants"); !strings.Contains(got, id.String()) {
		t.Error(got)
	}
	if b := state(mine); b.Verdict != BlobHere || b.Here == nil || !b.Here.Own || b.Here.Size != 4 {
		t.Errorf("%+v", b)
	}
	// Removing what is not here ends the wish, too, and it is not wanted again before somebody asks.
	w.call("blobs.rm", id)
	w.refused("blobs.rm", id)
	if b := state(id); b.Verdict != BlobRefused || !b.Refused || w.api.Blobs.Wants(id, 5, blob.Why{}) {
		t.Errorf("%+v", b)
	}
	if err := w.api.WantLinked(t.Context(), id, id.String()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a page asks for what was removed: %v", err)
	}
	if got := w.call("charkha.blobWants"); got != "[]" {
		t.Error(got)
	}
}

// For a page, others make room only for what somebody in range linked, with or without its key.
func TestWantLinked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, boxed := blobID("wanted"), blobID("encrypted")
	link := boxs.Link(boxed, boxs.Key{1})
	w.call("publish", object{"type": "post", "text": "look", "mentions": []any{object{"link": id}, object{"link": link}}})
	w.api.settle(t.Context())
	me := w.api.Key.ID()
	for _, c := range []struct {
		id   identity.BlobID
		link string
		want identity.ID
	}{{id, id.String(), me}, {boxed, link, me}, {boxed, boxed.String(), identity.ID{}}, {blobID("nobody linked it"), "", identity.ID{}}} {
		if got := w.api.author(t.Context(), c.id, c.link); got != c.want {
			t.Errorf("%s counts for %s, want %s", c.link, got, c.want)
		}
	}
	if w.api.Index.Wanted(identity.ID{}) {
		t.Error("nobody is in range")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.api.WantLinked(ctx, boxed, link); err == nil || len(w.api.Network.BlobWants()) == 0 {
		t.Errorf("not wanted: %v", err)
	}
	if err := w.api.WantLinked(ctx, w.keep("here"), ""); err != nil {
		t.Error(err)
	}
}

func TestJudgeBlob(t *testing.T) {
	t.Parallel()
	a := &API{BlobMax: 1000}
	one, two := []Person{{ID: identity.ID{1}, Name: "alice"}}, []Person{{ID: identity.ID{1}, Name: "alice"}, {ID: identity.ID{2}}}
	wanted := func(from []Person, size, got int64, last string) *WantedBlob {
		w := &WantedBlob{From: from}
		w.Size, w.Got, w.Last, w.Hops = size, got, last, 1
		return w
	}
	for _, c := range []struct {
		here      *KeptBlob
		want      *WantedBlob
		connected int
		verdict   BlobVerdict
		text      string
	}{
		{&KeptBlob{Own: true}, nil, 0, BlobHere, "added by a program"},
		{&KeptBlob{Pinned: true}, nil, 0, BlobHere, "pinned"},
		{&KeptBlob{Author: &one[0]}, nil, 0, BlobHere, "because alice"},
		{&KeptBlob{Peer: &one[0]}, nil, 0, BlobHere, "from or for alice"},
		{&KeptBlob{}, nil, 0, BlobHere, "it is here"},
		{nil, nil, 3, BlobUnwanted, "not asked for"},
		{nil, wanted(nil, -1, 0, ""), 0, BlobNoPeers, "no peer is connected"},
		{nil, wanted(one, 1001, 0, ""), 1, BlobTooLarge, "1001 bytes"},
		{nil, wanted(nil, 1001, 0, "it is larger than what is taken"), 1, BlobTooLarge, "1001 bytes, as a peer says"},
		{nil, wanted(two, 1000, 500, ""), 2, BlobArriving, "500 of 1000 bytes have come from alice"},
		{nil, wanted(two, 1000, 0, "it hung up"), 2, BlobFailing, "1 other say to have it, and it did not come so far: it hung up"},
		{nil, wanted(one, 1000, 0, ""), 2, BlobFound, "says to have it"},
		{nil, wanted(nil, -1, 0, ""), 1, BlobNobody, "the peer that is connected"},
		{nil, wanted(nil, -1, 0, "wrong bytes"), 4, BlobNobody, "4 connected peers were asked, and none has it so far; before: wrong bytes"},
	} {
		b := BlobState{Here: c.here, Want: c.want}
		if a.judgeBlob(&b, c.connected); b.Verdict != c.verdict || !strings.Contains(b.Text, c.text) {
			t.Errorf("%s: %s, want %s: %s", b.Verdict, b.Text, c.verdict, c.text)
		}
	}
	b := BlobState{Want: wanted(nil, -1, 0, "")}
	b.Want.Hops, b.Want.For = 2, one
	if a.judgeBlob(&b, 1); !strings.Contains(b.Text, "it is wanted for alice") {
		t.Error(b.Text)
	}
}

func TestBlobUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.keep("mine")
	other := identity.FromSeed([32]byte{8}).ID()
	if _, err := w.api.Blobs.Add(t.Context(), strings.NewReader("theirs!"), nil, blob.Why{Author: other, Peer: identity.ID{9}}); err != nil {
		t.Fatal(err)
	}
	var st Status
	w.check(json.Unmarshal([]byte(w.call("charkha.status")), &st))
	u := st.Blobs
	if u == nil || u.Blobs != 2 || u.Bytes != 11 || u.Own != 4 || len(u.Authors) != 2 || u.Authors[0].Bytes != 7 || u.Authors[0].ID != other || len(u.Peers) != 1 || u.Peers[0].Bytes != 7 {
		t.Errorf("%+v", u)
	}
	list := w.all("charkha.blobs")
	if text := strings.Join(list, "\n"); len(list) != 2 || !strings.Contains(text, `"own":true`) || !strings.Contains(text, other.String()) {
		t.Errorf("%q", list)
	}
	pinned := func() bool {
		info, _ := w.api.Blobs.Stat(id)
		return info.Why.Pinned
	}
	if w.call("charkha.pinBlob", id); !pinned() {
		t.Error("not pinned")
	}
	if w.call("charkha.pinBlob", id, false); pinned() {
		t.Error("still pinned")
	}
	if got := w.refused("charkha.pinBlob", blobID("not here")); !strings.Contains(got, "not here") {
		t.Error(got)
	}
}

// A node without blobs says so.
func TestNoBlobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.api.Blobs = nil
	for _, method := range []string{"blobs.has", "blobs.want", "blobs.rm", "charkha.blob", "charkha.pinBlob"} {
		if got := w.refused(method, emptyBlob); got != errNoBlobs.Error() {
			t.Errorf("%s: %s", method, got)
		}
	}
	if _, err := w.get("blobs.get", emptyBlob); err == nil || err.Error() != errNoBlobs.Error() {
		t.Error(err)
	}
	if got := w.call("charkha.status"); strings.Contains(got, `"blobs"`) {
		t.Error(got)
	}
}

// A purge lets others' blobs go until they fit, and tells so; what was added here stays. When it is stopped, the node's own limit holds again.
func TestBlobsPurge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mine := w.keep("mine")
	theirs := func(n int) (id identity.BlobID) {
		info, err := w.api.Blobs.Add(t.Context(), strings.NewReader(fmt.Sprint("theirs ", n)), nil, blob.Why{Author: identity.ID{9}})
		w.check(err)
		return info.ID
	}
	for n := range 5 {
		theirs(n)
	}
	changes := w.open("blobsPurge.changes")
	w.began(changes, func() { w.call("blobsPurge.start") })
	if got := w.call("blobsPurge.start", object{"storageLimit": 2 * 4096, "cpuMax": 50, "maxPause": 15000}); got != "null" {
		t.Error(got)
	}
	var got string
	for got = w.recv(changes); strings.Contains(got, "ed\"}"); got = w.recv(changes) { // resumed and paused again and again, before
	}
	for range 3 {
		if !strings.HasPrefix(got, `{"event":"deleted","blobId":"&`) {
			t.Error(got)
		}
		got = w.recv(changes)
	}
	if got != `{"event":"paused"}` {
		t.Error(got)
	}
	if u := w.api.Blobs.Usage(); u.Blobs != 3 || w.call("blobs.has", mine) != "true" {
		t.Errorf("%+v", u)
	}
	theirs(6)
	if u := w.api.Blobs.Usage(); u.Blobs != 3 {
		t.Errorf("the limit does not hold later: %+v", u)
	}
	w.call("blobsPurge.stop")
	if theirs(7); w.api.Blobs.Usage().Blobs != 4 {
		t.Errorf("the limit holds for ever: %+v", w.api.Blobs.Usage())
	}
	w.api.BlobBudget = 100
	if w.call("blobsPurge.start"); w.api.Blobs.Usage().Budget != 100 {
		t.Error("the limit of who started the node does not count")
	}
	for _, bad := range []float64{-1, 1e300} {
		if got := w.refused("blobsPurge.start", object{"storageLimit": bad}); !strings.Contains(got, "storageLimit") {
			t.Error(got)
		}
	}
}
