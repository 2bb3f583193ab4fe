package log

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"charkha/identity"
	"charkha/internal/vectors"
	"charkha/log/internal/classic"
)

func open(t testing.TB, o Options) *Log {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// key makes a fixed key pair.
func key(n byte) identity.KeyPair { return identity.FromSeed([32]byte{n, 1, 2, 3}) }

// writer signs messages of one feed without a log.
type writer struct {
	k    identity.KeyPair
	seq  int64
	prev identity.MsgID
}

func (w *writer) next(t testing.TB, text string) []byte {
	t.Helper()
	content := fmt.Sprintf(`{"type":"post","text":%q}`, text)
	raw, err := classic.Encode(w.k, nil, w.prev, w.seq+1, float64(1700000000000+w.seq), []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	var s classic.Scanner
	m, err := s.Scan(raw)
	if err != nil {
		t.Fatal(err)
	}
	w.seq, w.prev = w.seq+1, m.Key
	return raw
}

func (w *writer) many(t testing.TB, n int) (raws [][]byte) {
	t.Helper()
	for i := range n {
		raws = append(raws, w.next(t, fmt.Sprint("message ", i)))
	}
	return raws
}

func appendAll(t testing.TB, l *Log, raws ...[]byte) []Result {
	t.Helper()
	results, err := l.Append(raws)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(raws) {
		t.Fatalf("%d results for %d messages", len(results), len(raws))
	}
	return results
}

func statuses(results []Result) string {
	var words []string
	for _, r := range results {
		words = append(words, r.Status.String())
	}
	return strings.Join(words, " ")
}

// collect takes all of a sequence.
func collect(t testing.TB, seq iter.Seq2[Message, error]) (all []Message) {
	t.Helper()
	for m, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func sequences(msgs []Message) (seqs []int64) {
	for _, m := range msgs {
		seqs = append(seqs, m.Sequence())
	}
	return seqs
}

// checkStore walks everything that is stored and compares the keys with each other: what must be there is, whole, once.
func checkStore(t testing.TB, l *Log) {
	t.Helper()
	messages := 0
	err := l.db.View(func(txn *badger.Txn) error {
		var s classic.Scanner
		heads := map[uint32]Head{}
		if err := each(txn, 'm', func(k, rec []byte) error {
			n, seq := binary.BigEndian.Uint32(k[1:]), int64(binary.BigEndian.Uint32(k[5:]))
			m, err := decodeRecord(rec, l.feeds[n].id, seq)
			if err != nil {
				return err
			}
			c, err := s.Scan(m.value)
			if err != nil {
				return err
			}
			if c.Key != m.key || string(c.Content) != string(m.Content()) || c.Previous != m.previous || c.Timestamp != m.timestamp {
				t.Errorf("record %s/%d disagrees with its value", m.author.Short(), seq)
			}
			if err := c.CheckNext(heads[n].Sequence, heads[n].Key); err != nil {
				t.Errorf("stored %s/%d: %v", m.author.Short(), seq, err)
			}
			if !c.VerifySignature(l.o.HMACKey) {
				t.Errorf("stored %s/%d: bad signature", m.author.Short(), seq)
			}
			heads[n] = Head{Sequence: seq, Key: m.key}
			place, err := get(txn, idKey(m.key))
			if err != nil || string(place) != string(k[1:]) {
				t.Errorf("id of %s/%d leads to %x (%v)", m.author.Short(), seq, place, err)
			}
			runs, err := l.runsAt(m.offset)
			if err != nil {
				return err
			}
			found := false
			for _, r := range runs {
				if m.offset >= r.first && m.offset < r.end() {
					found = r.author == n && r.seq+int64(m.offset-r.first) == seq
				}
			}
			if !found {
				t.Errorf("%s/%d is not at its offset %d", m.author.Short(), seq, m.offset)
			}
			messages++
			return nil
		}); err != nil {
			return err
		}
		ids := 0
		if err := each(txn, 'i', func(_, _ []byte) error { ids++; return nil }); err != nil {
			return err
		}
		if ids != messages {
			t.Errorf("%d ids for %d messages", ids, messages)
		}
		for n := range l.feeds {
			if l.feeds[n].head != heads[uint32(n)] {
				t.Errorf("head of %s is %v, its last message %v", l.feeds[n].id.Short(), l.feeds[n].head, heads[uint32(n)])
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	var last Message
	arrived := 0
	for m, err := range l.Arrivals(0, false) {
		if err != nil {
			t.Error(err)
			return
		}
		if arrived > 0 && (m.offset <= last.offset || m.received <= last.received) {
			t.Errorf("offset %d received %f after offset %d received %f", m.offset, m.received, last.offset, last.received)
		}
		last = m
		arrived++
	}
	if arrived != messages {
		t.Errorf("%d arrivals for %d messages", arrived, messages)
	}
}

func TestAppendSaysWhatBecameOfEach(t *testing.T) {
	l := open(t, Options{})
	a, b := &writer{k: key(1)}, &writer{k: key(2)}
	as, bs := a.many(t, 5), b.many(t, 3)
	damaged := []byte(strings.Replace(string(bs[2]), "message 2", "message 3", 1))
	got := appendAll(t, l, as[0], bs[0], as[1], as[1], as[3], []byte("{}"), as[2], as[3], bs[2], bs[1], damaged, bs[2], damaged, as[0])
	want := "stored stored stored duplicate gap invalid stored stored gap stored invalid stored invalid duplicate"
	if statuses(got) != want {
		t.Errorf("got  %s\nwant %s", statuses(got), want)
	}
	for _, r := range got {
		if (r.Err == nil) != (r.Status == Stored || r.Status == Duplicate) {
			t.Errorf("%s with error %v", r.Status, r.Err)
		}
	}
	if got := statuses(appendAll(t, l, as...)); got != "duplicate duplicate duplicate duplicate stored" {
		t.Errorf("again: %s", got)
	}
	head, ok := l.Head(a.k.ID())
	if !ok || head.Sequence != 5 || head.Key != a.prev {
		t.Errorf("head %v %v", head, ok)
	}
	heads := map[identity.ID]int64{}
	for id, h := range l.Heads() {
		heads[id] = h.Sequence
	}
	if diff := cmp.Diff(map[identity.ID]int64{a.k.ID(): 5, b.k.ID(): 3}, heads); diff != "" {
		t.Error(diff)
	}
	checkStore(t, l)
}

// What nobody stored leaves nothing behind: a peer cannot fill the author table with names.
func TestRefusedMessagesLeaveNoAuthor(t *testing.T) {
	l := open(t, Options{})
	good := &writer{k: key(1)}
	raws := good.many(t, 1)
	for n := range byte(50) {
		w := &writer{k: key(100 + n)}
		raws = append(raws, w.many(t, 2)[1])
	}
	appendAll(t, l, raws...)
	if len(l.feeds) != 1 || len(l.numbers) != 1 {
		t.Errorf("%d authors are known after one message was stored", len(l.feeds))
	}
}

func TestReading(t *testing.T) {
	l := open(t, Options{})
	w, other := &writer{k: key(1)}, &writer{k: key(2)}
	const n = 3*feedChunk + 7
	for i := range n {
		raws := [][]byte{w.next(t, fmt.Sprint(i))}
		if i%50 == 0 {
			raws = append(raws, other.next(t, "x"))
		}
		if i%100 == 0 || i > n-20 {
			appendAll(t, l, raws...)
			continue
		}
		appendAll(t, l, raws...)
	}
	id := w.k.ID()
	for _, c := range []struct {
		r                 Range
		first, last, size int64
	}{
		{Range{}, 1, n, n},
		{Range{Reverse: true}, n, 1, n},
		{Range{From: 5, To: 9}, 5, 9, 5},
		{Range{From: 5, To: 9, Reverse: true}, 9, 5, 5},
		{Range{Limit: 300}, 1, 300, 300},
		{Range{Limit: 300, Reverse: true}, n, n - 299, 300},
		{Range{From: n}, n, n, 1},
		{Range{From: n + 1}, 0, 0, 0},
		{Range{To: n + 100, From: n - 1}, n - 1, n, 2},
	} {
		got := sequences(collect(t, l.Feed(id, c.r)))
		if int64(len(got)) != c.size || c.size > 0 && (got[0] != c.first || got[len(got)-1] != c.last) {
			t.Errorf("%+v: %d messages", c.r, len(got))
		}
	}
	if got := collect(t, l.Feed(key(9).ID(), Range{})); len(got) != 0 {
		t.Errorf("an unknown feed has %d messages", len(got))
	}
	up := collect(t, l.Arrivals(0, false))
	down := collect(t, l.Arrivals(l.Len(), true))
	if len(up) != int(l.Len()) || len(down) != len(up) {
		t.Fatalf("%d up, %d down, %d in all", len(up), len(down), l.Len())
	}
	for i := range up {
		if up[i].Key() != down[len(down)-1-i].Key() || up[i].Offset() != Offset(i) {
			t.Fatalf("arrival %d differs between the directions", i)
		}
		m, err := l.Get(up[i].Key())
		if err != nil {
			t.Fatal(err)
		}
		if string(m.AppendKVT(nil)) != string(up[i].AppendKVT(nil)) {
			t.Fatalf("%s\n%s", m.AppendKVT(nil), up[i].AppendKVT(nil))
		}
		at, err := l.At(m.Author(), m.Sequence())
		if err != nil || at.Key() != m.Key() {
			t.Fatalf("at %d: %v", m.Sequence(), err)
		}
	}
	if got := collect(t, l.Arrivals(l.Len()-3, false)); len(got) != 3 {
		t.Errorf("%d of the last 3", len(got))
	}
	if _, err := l.Get(identity.MsgID{1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown id: %v", err)
	}
	if _, err := l.At(id, n+1); !errors.Is(err, ErrNotFound) {
		t.Errorf("beyond the head: %v", err)
	}
	var kvt struct {
		Key       string
		Value     json.RawMessage
		Timestamp float64
	}
	if err := json.Unmarshal(up[0].AppendKVT(nil), &kvt); err != nil || kvt.Key != up[0].Key().String() || kvt.Timestamp != up[0].Received() {
		t.Errorf("%+v %v", kvt, err)
	}
	if up[0].Type() != "post" || up[0].Private() || string(up[0].Content()) != `{"type":"post","text":"0"}` {
		t.Errorf("%s %s", up[0].Type(), up[0].Content())
	}
}

// Every feed of the sets arrives whole, with the ids and bytes that the sets give, from any mixture; and again after a
// restart.
func TestVectorFeeds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var raws [][]byte
	want := map[string]string{}
	read := func(set, name string) {
		vectors.Lines(t, set, name, func(n int, line []byte) {
			var kvt struct {
				Key   string
				Value json.RawMessage
			}
			if err := json.Unmarshal(line, &kvt); err != nil {
				t.Fatal(err)
			}
			raws = append(raws, kvt.Value)
			want[kvt.Key] = string(kvt.Value)
		})
	}
	read("feeds-fixtures", "messages.jsonl.gz")
	files, _ := filepath.Glob(filepath.Join(vectors.Dir(t, "feeds-real"), "*.jsonl.gz"))
	if len(files) == 0 {
		t.Fatal("feeds-real: no feeds")
	}
	for _, f := range files {
		read("feeds-real", filepath.Base(f))
	}
	// Some lines come late, some twice, some twist their order: nothing is stored wrongly, and at the end all is there.
	rng := rand.New(rand.NewPCG(7, 7))
	twisted := append([][]byte(nil), raws...)
	for range 200 {
		i := rng.IntN(len(twisted) - 1)
		twisted[i], twisted[i+1] = twisted[i+1], twisted[i]
		twisted = append(twisted, raws[rng.IntN(len(raws))])
	}
	for len(twisted) > 0 {
		n := min(1+rng.IntN(700), len(twisted))
		appendAll(t, l, twisted[:n]...)
		twisted = twisted[n:]
	}
	for _, r := range appendAll(t, l, raws...) {
		if r.Status != Stored && r.Status != Duplicate {
			t.Fatalf("%s/%d: %s: %v", r.Author, r.Sequence, r.Status, r.Err)
		}
	}
	for range 2 {
		if int(l.Len()) != len(want) {
			t.Fatalf("%d messages, want %d", l.Len(), len(want))
		}
		for m, err := range l.Arrivals(0, false) {
			if err != nil {
				t.Fatal(err)
			}
			if want[m.Key().String()] != string(m.Value()) {
				t.Fatalf("%s:\n%s\nwant\n%s", m.Key(), m.Value(), want[m.Key().String()])
			}
		}
		checkStore(t, l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err = Open(Options{Dir: dir}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestForkStopsTheFeedAndKeepsBoth(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, w *writer) []byte // after three messages, one that contradicts them
		seq  int64
		kept int64
	}{
		{"another message at a held sequence", func(t *testing.T, w *writer) []byte {
			v := &writer{k: w.k}
			v.next(t, "0")
			return v.next(t, "another")
		}, 2, 2},
		{"another first message", func(t *testing.T, w *writer) []byte { return (&writer{k: w.k}).next(t, "another") }, 1, 1},
		{"a next message on another history", func(t *testing.T, w *writer) []byte {
			v := &writer{k: w.k}
			v.many(t, 2)
			v.next(t, "another")
			return v.next(t, "fourth")
		}, 4, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			l, err := Open(Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			w, other := &writer{k: key(1)}, &writer{k: key(2)}
			var mine [][]byte
			for i := range 3 {
				mine = append(mine, w.next(t, fmt.Sprint(i)))
			}
			appendAll(t, l, mine...)
			contradiction := c.make(t, w)
			next := w.next(t, "next")
			got := appendAll(t, l, contradiction, next, mine[1], other.next(t, "fine"))
			if s := statuses(got); s != "fork fork duplicate stored" {
				t.Fatal(s)
			}
			for _, r := range got[:2] {
				if !errors.Is(r.Err, ErrForked) {
					t.Error(r.Err)
				}
			}
			if err := l.Confirm(w.k.ID()); err != nil {
				t.Fatal(err)
			}
			for range 2 { // and after a restart
				f, ok := l.Forked(w.k.ID())
				if !ok || f.Sequence != c.seq || string(f.Value) != string(contradiction) || f.Other != got[0].Key || len(l.Forks()) != 1 {
					t.Fatalf("evidence %+v %v", f, ok)
				}
				kept, err := l.Get(f.Kept)
				if err != nil || kept.Sequence() != c.kept || string(kept.Value()) != string(mine[c.kept-1]) {
					t.Errorf("kept %v %v", kept.Sequence(), err)
				}
				if s := statuses(appendAll(t, l, next)); s != "fork" {
					t.Errorf("the feed goes on: %s", s)
				}
				if _, err := l.Publish(w.k, []byte(`{"type":"post"}`)); !errors.Is(err, ErrForked) {
					t.Errorf("publish: %v", err)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if l, err = Open(Options{Dir: dir}); err != nil {
					t.Fatal(err)
				}
			}
			checkStore(t, l)
			l.Close()
		})
	}
}

// A message that only looks like a contradiction, but which the author did not sign, is no fork.
func TestForgedContradictionIsNoFork(t *testing.T) {
	l := open(t, Options{})
	w := &writer{k: key(1)}
	raws := w.many(t, 2)
	appendAll(t, l, raws...)
	forged := []byte(strings.Replace(string(raws[1]), "message 1", "message X", 1))
	if s := statuses(appendAll(t, l, forged, w.next(t, "third"))); s != "invalid stored" {
		t.Error(s)
	}
}

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	hmac := &[32]byte{9}
	l, err := Open(Options{Dir: dir, HMACKey: hmac})
	if err != nil {
		t.Fatal(err)
	}
	k := key(1)
	if _, err := l.Publish(k, []byte(`{"type":"post"}`)); !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("without Confirm: %v", err)
	}
	if err := l.Confirm(k.ID()); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{``, `{`, `[]`, `"text"`, `{"type":"ab"}`, `{"type":7}`, `{"type":"post","text":"` + strings.Repeat("x", 8200) + `"}`} {
		if m, err := l.Publish(k, []byte(bad)); err == nil {
			t.Errorf("published %s as %s", bad, m.Value())
		}
	}
	var prev identity.MsgID
	for i := range int64(3) {
		m, err := l.Publish(k, []byte(` { "type" : "post", "n": 1.0 }`))
		if err != nil {
			t.Fatal(err)
		}
		if m.Sequence() != i+1 || m.Previous() != prev || string(m.Content()) != `{"type":"post","n":1}` {
			t.Errorf("%s", m.Value())
		}
		prev = m.Key()
	}
	checkStore(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Publish(k, []byte(`{"type":"post"}`)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if l, err = Open(Options{Dir: dir, HMACKey: hmac}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if m, err := l.Publish(k, []byte(`{"type":"post"}`)); err != nil || m.Sequence() != 4 || m.Previous() != prev {
		t.Errorf("after a restart: %d %v", m.Sequence(), err)
	}
	// Another network's signatures are not ours.
	w := &writer{k: key(2)}
	if s := statuses(appendAll(t, l, w.next(t, "no hmac"))); s != "invalid" {
		t.Error(s)
	}
}

// The newest messages are in memory, after the first reading also when the log was opened anew; the order is the same with them
// and without.
func TestReadingBackwards(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	a, b := &writer{k: key(60)}, &writer{k: key(61)}
	for range recentSize/250 + 4 { // more than is kept in memory
		appendAll(t, l, a.many(t, 150)...)
		appendAll(t, l, b.many(t, 100)...)
	}
	check := func(l *Log, what string) {
		t.Helper()
		up := collect(t, l.Arrivals(0, false))
		for _, from := range []Offset{l.Len(), l.Len() - 1, l.Len() - recentSize, l.Len() - recentSize + 7, 10, 0} {
			down := collect(t, l.Arrivals(from, true))
			if len(down) != int(from) {
				t.Errorf("%s: %d messages below %d", what, len(down), from)
			}
			for i, m := range down {
				if want := up[int(from)-1-i]; m.Key() != want.Key() || m.Offset() != want.Offset() || m.Received() != want.Received() {
					t.Fatalf("%s: below %d, message %d is %d, want %d", what, from, i, m.Offset(), want.Offset())
				}
			}
		}
	}
	check(l, "in one go")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{Dir: dir})
	check(l, "opened anew")
	check(l, "read before")
	for n, m := range collect(t, l.Arrivals(l.Len(), true)) {
		if n < recentSize && l.recent[m.Offset()%recentSize].Key() != m.Key() {
			t.Fatalf("message %d is not in memory", m.Offset())
		}
	}
	appendAll(t, l, a.many(t, 5)...)
	check(l, "with new ones")
}

func TestFollowSeesEachMessageOnce(t *testing.T) {
	l := open(t, Options{})
	w := &writer{k: key(1)}
	raws := w.many(t, 500)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan int64, len(raws)+1)
	done := make(chan error, 1)
	go func() {
		var last error
		for m, err := range l.Follow(ctx, 0) {
			if err != nil {
				last = err
				break
			}
			got <- m.Sequence()
		}
		done <- last
	}()
	for len(raws) > 0 {
		n := min(37, len(raws))
		appendAll(t, l, raws[:n]...)
		raws = raws[n:]
	}
	for want := int64(1); want <= 500; want++ {
		if seq := <-got; seq != want {
			t.Fatalf("got %d, want %d", seq, want)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

// A follower far behind reads from disk and catches up with what is in memory, without a gap or a repetition.
func TestFollowFromBehind(t *testing.T) {
	l := open(t, Options{})
	a, b := &writer{k: key(1)}, &writer{k: key(2)}
	n := 0
	for range recentSize/130 + 10 {
		var raws [][]byte
		for i := range 100 {
			raws = append(raws, a.next(t, "a"))
			if i%3 == 0 {
				raws = append(raws, b.next(t, "b"))
			}
		}
		n += len(raws)
		appendAll(t, l, raws...)
	}
	if n < recentSize+500 {
		t.Fatal("too few messages to leave memory")
	}
	for _, from := range []Offset{0, 1, 777, Offset(n - recentSize - 3), Offset(n - 1)} {
		at := from
		for m, err := range l.Follow(t.Context(), from) {
			if err != nil {
				t.Fatal(err)
			}
			if m.Offset() != at {
				t.Fatalf("from %d: offset %d, want %d", from, m.Offset(), at)
			}
			if at++; int(at) == n {
				break
			}
		}
	}
}

func TestFollowEndsWithTheLog(t *testing.T) {
	l, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		for _, err := range l.Follow(t.Context(), 0) {
			done <- err
		}
		close(done)
	}()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("ended with %v", err)
	}
	<-done
}

func TestSecondOpenIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, Options{Dir: dir})
	l, err := Open(Options{Dir: dir})
	if err == nil {
		l.Close()
		t.Fatal("opened twice")
	}
	if !strings.Contains(err.Error(), "in use by another process") {
		t.Error(err)
	}
}

func TestSync(t *testing.T) {
	t.Parallel()
	l := open(t, Options{})
	appendAll(t, l, (&writer{k: key(1)}).many(t, 10)...)
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := l.syncer.place(); got != l.Len() {
		t.Errorf("on disk up to %d of %d", got, l.Len())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Sync(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A log stays with the HMAC key that it was made with.
func TestAnotherNetworkIsRefused(t *testing.T) {
	t.Parallel()
	keys := []*[32]byte{nil, {1}, {2}}
	for i, made := range keys {
		dir := t.TempDir()
		l, err := Open(Options{Dir: dir, HMACKey: made})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for j, other := range keys {
			l, err := Open(Options{Dir: dir, HMACKey: other})
			if (err == nil) != (i == j) || err != nil && (!errors.Is(err, ErrNetwork) || !strings.Contains(err.Error(), "HMAC key")) {
				t.Errorf("made with key %d, opened with key %d: %v", i, j, err)
			}
			if err == nil {
				l.Close()
			}
		}
	}
}

func TestReceivedRisesWhenTheClockStands(t *testing.T) {
	at := time.UnixMilli(1800000000000)
	dir := t.TempDir()
	o := Options{Dir: dir, Now: func() time.Time { return at }}
	w := &writer{k: key(1)}
	last := 0.0
	for range 3 {
		l, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		appendAll(t, l, w.many(t, 100)...)
		for m, err := range l.Arrivals(l.Len()-100, false) {
			if err != nil {
				t.Fatal(err)
			}
			if m.Received() <= last {
				t.Fatalf("%f after %f", m.Received(), last)
			}
			last = m.Received()
		}
		at = at.Add(-time.Hour)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
