package log

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"charkha/identity"
)

var errFault = errors.New("fault")

// copyStore copies the folder of a log as it is at this moment: what a process that is killed now would leave behind. It
// copies again when Badger made a table of a write-ahead log, or moved tables, meanwhile.
func copyStore(t testing.TB, from string) (to string) {
	t.Helper()
	for {
		to = t.TempDir()
		before := fileNames(t, from)
		for name := range strings.Lines(before) {
			name = strings.TrimSpace(name)
			b, err := readLog(filepath.Join(from, name))
			if err != nil {
				break // it is gone: the comparison below tells
			}
			st, err := os.Stat(filepath.Join(from, name))
			if err != nil {
				break
			}
			if err := errors.Join(os.WriteFile(filepath.Join(to, name), b, 0o600), os.Truncate(filepath.Join(to, name), st.Size())); err != nil {
				t.Fatal(err)
			}
			if name == "MANIFEST" {
				before += string(b)
			}
		}
		after := fileNames(t, from)
		manifest, err := os.ReadFile(filepath.Join(from, "MANIFEST"))
		if err != nil {
			t.Fatal(err)
		}
		if before == after+strings.TrimRight(string(manifest), "\x00") {
			return to
		}
	}
}

// fileNames returns the names of the files in a folder, one a line.
func fileNames(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names strings.Builder
	for _, e := range entries {
		fmt.Fprintln(&names, e.Name())
	}
	return names.String()
}

// world is what the outside knows of a log: what it was told, and what a follower with a cursor saw.
type world struct {
	cursor Offset
	seen   map[Offset]identity.MsgID
	place  map[identity.ID]map[int64]identity.MsgID // what was acknowledged or seen, by feed and sequence
}

func newWorld() *world {
	return &world{seen: map[Offset]identity.MsgID{}, place: map[identity.ID]map[int64]identity.MsgID{}}
}

// know notes that a message is there. Another one at its place would be a fork.
func (w *world) know(t testing.TB, author identity.ID, seq int64, key identity.MsgID) {
	t.Helper()
	feed := w.place[author]
	if feed == nil {
		feed = map[int64]identity.MsgID{}
		w.place[author] = feed
	}
	if old, ok := feed[seq]; ok && old != key {
		t.Errorf("%s/%d is %s and was %s", author.Short(), seq, key, old)
	}
	feed[seq] = key
}

// follow reads on from the cursor.
func (w *world) follow(t testing.TB, l *Log) {
	t.Helper()
	for m, err := range l.Arrivals(w.cursor, false) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Offset() < w.cursor {
			t.Errorf("offset %d comes after %d", m.Offset(), w.cursor)
		}
		if _, ok := w.seen[m.Offset()]; ok {
			t.Errorf("offset %d comes again", m.Offset())
		}
		w.seen[m.Offset()] = m.Key()
		w.cursor = m.Offset() + 1
		w.know(t, m.Author(), m.Sequence(), m.Key())
	}
}

// check compares all ways of reading with each other and with what is known.
func (w *world) check(t testing.TB, l *Log) {
	t.Helper()
	for author, feed := range w.place {
		for seq, key := range feed {
			m, err := l.Get(key)
			if err != nil || m.Author() != author || m.Sequence() != seq {
				t.Errorf("%s/%d was acknowledged or seen: %v", author.Short(), seq, err)
			}
		}
	}
	arrived := map[identity.MsgID]Offset{}
	last := Offset(0)
	for m, err := range l.Arrivals(0, false) {
		if err != nil {
			t.Fatal(err)
		}
		if key, ok := w.seen[m.Offset()]; ok && key != m.Key() {
			t.Errorf("offset %d holds another message than a follower saw there", m.Offset())
		}
		if _, ok := arrived[m.Key()]; ok || len(arrived) > 0 && m.Offset() <= last {
			t.Errorf("%s at %d arrives out of order or twice", m.Key(), m.Offset())
		}
		arrived[m.Key()], last = m.Offset(), m.Offset()
	}
	if len(arrived) > 0 && l.Len() != last+1 {
		t.Errorf("length %d, last offset %d", l.Len(), last)
	}
	n := 0
	for id, head := range l.Heads() {
		if h, ok := l.Head(id); !ok || h != head {
			t.Errorf("head of %s: %v and %v", id.Short(), h, head)
		}
		want := Head{}
		for m, err := range l.Feed(id, Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			if m.Sequence() != want.Sequence+1 || m.Previous() != want.Key {
				t.Errorf("%s/%d does not follow %d", id.Short(), m.Sequence(), want.Sequence)
			}
			want = Head{Sequence: m.Sequence(), Key: m.Key()}
			if off, ok := arrived[m.Key()]; !ok || off != m.Offset() {
				t.Errorf("%s/%d at offset %d did not arrive there", id.Short(), m.Sequence(), m.Offset())
			}
			if g, err := l.Get(m.Key()); err != nil || g.Offset() != m.Offset() || string(g.Value()) != string(m.Value()) {
				t.Errorf("get %s: %v", m.Key(), err)
			}
			n++
		}
		if want != head {
			t.Errorf("%s ends at %v, head %v", id.Short(), want, head)
		}
	}
	if n != len(arrived) {
		t.Errorf("%d messages in feeds, %d arrivals", n, len(arrived))
	}
}

// publish publishes and checks that the message follows all that is known of the feed.
func (w *world) publish(t testing.TB, l *Log, k identity.KeyPair, text string) error {
	t.Helper()
	before, _ := l.Head(k.ID())
	m, err := l.Publish(k, fmt.Appendf(nil, `{"type":"post","text":%q}`, text))
	if err != nil {
		return err
	}
	if m.Sequence() != before.Sequence+1 || m.Previous() != before.Key {
		t.Errorf("published %d after %d", m.Sequence(), before.Sequence)
	}
	w.know(t, m.Author(), m.Sequence(), m.Key())
	return nil
}

func (w *world) append(t testing.TB, l *Log, raws [][]byte) error {
	results, err := l.Append(raws)
	for _, r := range results {
		switch r.Status {
		case Stored, Duplicate:
			w.know(t, r.Author, r.Sequence, r.Key)
		case Forked:
		default:
			t.Errorf("%s/%d is %s: %v", r.Author.Short(), r.Sequence, r.Status, r.Err)
		}
	}
	return err
}

// faultScript is a small life of a log. It may be run again after it was interrupted.
type faultScript struct {
	own, second identity.KeyPair
	a, b, c     [][]byte // c belongs to second
	fork        []byte   // of b
}

func newFaultScript(t testing.TB) *faultScript {
	s := &faultScript{own: key(1), second: key(4)}
	s.a = (&writer{k: key(2)}).many(t, 5)
	s.b = (&writer{k: key(3)}).many(t, 3)
	s.c = (&writer{k: s.second}).many(t, 2)
	s.fork = (&writer{k: key(3)}).next(t, "another")
	return s
}

func (s *faultScript) run(t testing.TB, l *Log, w *world) error {
	for i, do := range []func() error{
		func() error { return w.append(t, l, [][]byte{s.a[0], s.b[0], s.b[1], s.a[1]}) },
		func() error { return l.Confirm(s.own.ID()) },
		func() error { return w.publish(t, l, s.own, "one") },
		func() error { return w.append(t, l, s.a[2:]) },
		func() error { return w.publish(t, l, s.own, "two") },
		func() error { return l.Confirm(s.second.ID()) },
		func() error { return w.append(t, l, append([][]byte{s.b[2]}, s.c...)) },
		func() error { return w.append(t, l, [][]byte{s.fork}) },
		func() error { return w.publish(t, l, s.own, "three") },
	} {
		if err := do(); err != nil {
			return fmt.Errorf("action %d: %w", i, err)
		}
		w.follow(t, l)
	}
	return nil
}

// faults counts the steps, and fails one of them.
type faults struct {
	mu    sync.Mutex
	count map[string]int // occurrences begun
	steps []string       // in order

	step string
	nth  int // 1 is the first; 0: none fails
	done bool
	hit  bool
}

func (f *faults) fault(step string, done bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !done {
		if f.count == nil {
			f.count = map[string]int{}
		}
		f.count[step]++
		f.steps = append(f.steps, step)
	}
	if step == f.step && done == f.done && f.count[step] == f.nth && !f.hit {
		f.hit = true
		return fmt.Errorf("%s %d: %w", step, f.nth, errFault)
	}
	return nil
}

// life opens a log, runs the script, and closes it.
func (s *faultScript) life(t testing.TB, dir string, f *faults, w *world) error {
	l, err := Open(Options{Dir: dir, journalSize: 600, fault: f.fault})
	if err != nil {
		return err
	}
	err = s.run(t, l, w)
	return errors.Join(err, l.Close())
}

// Every step that writes fails, before or after it took effect, each time that it occurs: in a log that is made, used and
// closed. Then the folder is opened as it is after a Close, or as a killed process leaves it, and life goes on.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	s := newFaultScript(t)
	record := &faults{}
	if err := s.life(t, t.TempDir(), record, newWorld()); err != nil {
		t.Fatal(err)
	}
	if len(record.steps) == 0 {
		t.Fatal("no step that writes was found")
	}
	t.Logf("%d steps: %s", len(record.steps), strings.Join(record.steps, ", "))
	for step, n := range record.count {
		for nth := 1; nth <= n; nth++ {
			for _, done := range []bool{false, true} {
				when := "before"
				if done {
					when = "after"
				}
				t.Run(fmt.Sprintf("%s %d %s", step, nth, when), func(t *testing.T) {
					t.Parallel()
					s.interrupted(t, &faults{step: step, nth: nth, done: done})
				})
			}
		}
	}
}

func (s *faultScript) interrupted(t *testing.T, f *faults) {
	dir, w := t.TempDir(), newWorld()
	l, err := Open(Options{Dir: dir, journalSize: 600, fault: f.fault})
	if err == nil {
		err = s.run(t, l, w)
		if err != nil {
			s.refuses(t, l, w)
			// A killed process leaves the folder as it is now. Its copy goes through the same checks as the closed log.
			killed := copyStore(t, dir)
			if cerr := l.Close(); cerr != nil {
				t.Errorf("close after a failure: %v", cerr)
			}
			s.goOn(t, killed, w.clone(), 1)
		} else {
			err = l.Close()
		}
	}
	if !errors.Is(err, errFault) {
		t.Fatalf("the step failed, and what was told is: %v", err)
	}
	s.goOn(t, dir, w, 2)
}

func (w *world) clone() *world {
	c := newWorld()
	c.cursor = w.cursor
	for off, key := range w.seen {
		c.seen[off] = key
	}
	for author, feed := range w.place {
		c.place[author] = map[int64]identity.MsgID{}
		for seq, key := range feed {
			c.place[author][seq] = key
		}
	}
	return c
}

// refuses checks that a log that failed takes nothing more, shows what was acknowledged, and nothing that was not.
func (s *faultScript) refuses(t *testing.T, l *Log, w *world) {
	length := l.Len()
	if _, err := l.Publish(s.own, []byte(`{"type":"post"}`)); !errors.Is(err, errFault) {
		t.Errorf("publish after a failure: %v", err)
	}
	if results, err := l.Append(s.a); !errors.Is(err, errFault) || len(results) != 0 {
		t.Errorf("append after a failure: %d results, %v", len(results), err)
	}
	if err := l.Confirm(key(9).ID()); !errors.Is(err, errFault) {
		t.Errorf("confirm after a failure: %v", err)
	}
	var last error
	for m, err := range l.Follow(context.Background(), 0) {
		if last = err; err == nil && m.Offset() >= length {
			t.Errorf("offset %d is visible after the failure", m.Offset())
		}
	}
	if !errors.Is(last, errFault) {
		t.Errorf("a follower ends with: %v", last)
	}
	w.follow(t, l)
	if l.Len() != length {
		t.Errorf("length %d became %d", length, l.Len())
	}
	w.check(t, l)
}

// goOn opens a folder after a failure, and lives on in it, some lives long.
func (s *faultScript) goOn(t *testing.T, dir string, w *world, lives int) {
	for range lives {
		l, err := Open(Options{Dir: dir, journalSize: 600})
		if err != nil {
			t.Fatal(err)
		}
		w.check(t, l)
		if err := s.run(t, l, w); err != nil {
			t.Error(err)
		}
		w.check(t, l)
		checkStore(t, l)
		if f, ok := l.Forked(key(3).ID()); !ok || string(f.Value) != string(s.fork) {
			t.Errorf("evidence of the fork: %v", ok)
		}
		if got, want := len(w.place), 4; got != want {
			t.Errorf("%d feeds, want %d", got, want)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(w.seen) != sum(w.place) {
		t.Errorf("the follower saw %d messages of %d", len(w.seen), sum(w.place))
	}
}

func sum(place map[identity.ID]map[int64]identity.MsgID) (n int) {
	for _, feed := range place {
		n += len(feed)
	}
	return n
}

// A sync in the background that fails makes the next write fail, and ends followers.
func TestBackgroundSyncFails(t *testing.T) {
	t.Parallel()
	w := &writer{k: key(1)}
	text := strings.Repeat("x", 7500)
	var raws [][]byte
	for range syncBytes/len(text) + 50 {
		raws = append(raws, w.next(t, text))
	}
	more := w.next(t, "more")
	var armed bool
	var mu sync.Mutex
	l := open(t, Options{fault: func(step string, done bool) error {
		mu.Lock()
		defer mu.Unlock()
		if armed && step == "sync" {
			return errFault
		}
		return nil
	}})
	mu.Lock()
	armed = true
	mu.Unlock()
	if _, err := l.Append(raws); err != nil && !errors.Is(err, errFault) {
		t.Fatal(err)
	}
	var last error
	for _, err := range l.Follow(t.Context(), 0) {
		last = err
	}
	if !errors.Is(last, errFault) {
		t.Errorf("the follower ended with: %v", last)
	}
	if _, err := l.Append([][]byte{more}); !errors.Is(err, errFault) {
		t.Errorf("append: %v", err)
	}
}

// A sync in the background fails while a batch is being committed: the batch is refused, as those after it, and found again by
// the next Open.
func TestSyncFailsDuringCommit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var l *Log
	l, err := Open(Options{Dir: dir, fault: func(step string, done bool) error {
		if step == "append" && done {
			l.fail(errFault)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	raws := (&writer{k: key(1)}).many(t, 3)
	if results, err := l.Append(raws); !errors.Is(err, errFault) || len(results) != 0 {
		t.Errorf("%d results, %v", len(results), err)
	}
	if l.Len() != 0 {
		t.Errorf("%d messages are visible", l.Len())
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if got := statuses(appendAll(t, open(t, Options{Dir: dir}), raws...)); got != "duplicate duplicate duplicate" {
		t.Error(got)
	}
}

// Until its last step is done, nobody sees a message of a feed that is published to: neither one that is published, nor one that
// a peer brings back.
func TestOwnMessagesAreOnDiskBeforeTheyAreSeen(t *testing.T) {
	t.Parallel()
	var l *Log
	var mu sync.Mutex
	var steps []string
	var length Offset
	own := key(1)
	l = open(t, Options{fault: func(step string, done bool) error {
		if l == nil { // in Open
			return nil
		}
		head, _ := l.Head(own.ID())
		if l.Len() != length || head.Sequence != int64(length) {
			t.Errorf("step %s: length %d, head %d, before the write %d", step, l.Len(), head.Sequence, length)
		}
		if done {
			mu.Lock()
			steps = append(steps, step)
			mu.Unlock()
		}
		return nil
	}})
	synced := func(what string) {
		t.Helper()
		at := strings.Join(steps, " ")
		if write, sync := strings.Index(at, what), strings.Index(at, "sync"); write < 0 || sync < write {
			t.Errorf("steps of %s: %s", what, at)
		}
		steps = nil
	}
	if err := l.Confirm(own.ID()); err != nil {
		t.Fatal(err)
	}
	synced("confirm")
	m, err := l.Publish(own, []byte(`{"type":"post"}`))
	if err != nil {
		t.Fatal(err)
	}
	if slices.Sort(steps); !slices.Equal(steps, []string{"journal", "publish"}) {
		t.Errorf("steps of publish: %s", steps)
	}
	steps = nil
	length = l.Len()
	w := &writer{k: own, seq: 1, prev: m.Key()}
	appendAll(t, l, w.many(t, 3)...)
	synced("append")
	length = l.Len() // for Close
}
