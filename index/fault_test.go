package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"charkha/identity"
	"charkha/log"
)

var errFault = errors.New("the disk is on fire")

// mixed makes messages of a few authors that leave rows in every view, some overwriting others.
func mixed(t testing.TB, seed uint64, n int) (raws [][]byte) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 3))
	people := newAuthors(8)
	for i := range n {
		p, to := people[rng.IntN(len(people))], people[rng.IntN(len(people))].id()
		switch rng.IntN(7) {
		case 6:
			raws = append(raws, p.sign(t, contentPub(fmt.Sprintf("pub%d.example", i), 8008, to)))
		case 0:
			raws = append(raws, p.sign(t, contentPost(fmt.Sprint("post ", i))))
		case 1:
			raws = append(raws, p.sign(t, contentAbout(to, fmt.Sprintf(`"name %d"`, i))))
		case 2:
			raws = append(raws, p.sign(t, contentAbout(to, `{"remove":true}`)))
		case 3:
			raws = append(raws, p.sign(t, contentBlock(to)))
		default:
			raws = append(raws, p.sign(t, contentFollow(to)))
		}
	}
	return raws
}

// checkSame compares an index with one that is built anew from the same log.
func checkSame(t testing.TB, x *running) {
	t.Helper()
	anew := start(t, Options{Log: x.o.Log, Self: x.o.Self, Hops: x.o.Hops}).caughtUp()
	if diff := cmp.Diff(dump(t, anew.Index), dump(t, x.Index)); diff != "" {
		t.Errorf("rows differ from those of an index built anew (-anew +got):\n%s", diff)
	}
	if diff := cmp.Diff(graphOf(anew.Index), graphOf(x.Index)); diff != "" {
		t.Errorf("the graph differs from that of an index built anew (-anew +got):\n%s", diff)
	}
	if diff := cmp.Diff(anew.HopsAll(), x.HopsAll()); diff != "" {
		t.Errorf("distances differ from those of an index built anew (-anew +got):\n%s", diff)
	}
	if diff := cmp.Diff(placesOf(timelineOf(t, anew.Index, 0)), placesOf(timelineOf(t, x.Index, 0))); diff != "" {
		t.Errorf("the timeline differs from that of an index built anew (-anew +got):\n%s", diff)
	}
	if err := anew.stop(); err != nil {
		t.Error(err)
	}
}

func placesOf(posts []log.Message) (all []string) {
	for _, m := range posts {
		all = append(all, fmt.Sprintf("%s/%d", m.Author().Short(), m.Sequence()))
	}
	return all
}

// Each commit of each view fails before or after it took effect: Run says so, and the index that is opened again goes on, in
// the same process or in the next.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	raws := mixed(t, 1, 60)
	self := key(0).ID()
	for _, view := range []string{"contacts", "names", "pubs", "messages", "links", "words"} {
		for _, done := range []bool{false, true} {
			for nth := range 2 {
				t.Run(fmt.Sprint(view, " ", nth, " done ", done), func(t *testing.T) {
					t.Parallel()
					l, dir := openLog(t), subdir(t)
					var mu sync.Mutex
					left := nth
					x := start(t, Options{Dir: dir, Log: l, Self: self, Hops: 2, fault: func(views string, d bool) error {
						mu.Lock()
						defer mu.Unlock()
						if !strings.Contains(views, view) || d != done {
							return nil
						}
						if left--; left == -1 {
							return errFault
						}
						return nil
					}})
					for k := range nth {
						store(t, l, raws[k*20:(k+1)*20]...)
						x.caughtUp()
					}
					store(t, l, raws[nth*20:]...)
					<-x.ended
					err := x.stop()
					if !errors.Is(err, errFault) || !strings.Contains(err.Error(), view) {
						t.Fatalf("Run returned %v, want the fault of view %s", err, view)
					}
					again := start(t, Options{Dir: dir, Log: l, Self: self, Hops: 2}).caughtUp()
					checkSame(t, again)
				})
			}
		}
	}
}

// In a sync the large views leave the front and come back: nothing is missed, and what they hold is the same.
func TestLargeViewsFollowASyncLater(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		for _, pause := range []time.Duration{time.Nanosecond, time.Minute} {
			t.Run(fmt.Sprint("asked ", asked, " pause ", pause), func(t *testing.T) {
				t.Parallel()
				testSync(t, asked, pause)
			})
		}
	}
}

func testSync(t *testing.T, asked bool, pause time.Duration) {
	l := openLog(t)
	raws := mixed(t, 11, 3000)
	store(t, l, raws[:2000]...)
	var mu sync.Mutex
	alone := map[string]bool{} // views that were written while another one was elsewhere
	var x *Index
	x, err := Open(Options{Dir: t.TempDir(), Log: l, Self: key(0).ID(), Hops: 2, batch: 20, bulk: 1e-9, pause: pause, fault: func(views string, done bool) error {
		mu.Lock()
		defer mu.Unlock()
		if x != nil && !done {
			for _, view := range strings.Fields(views) {
				if x.at(view) < x.at("contacts") {
					alone[view] = true
				}
			}
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if asked {
		x.asked.Store(math.MaxInt64) // always lately
	}
	r := run(t, x)
	for i := 2000; i < len(raws); i += 10 {
		store(t, l, raws[i:i+10]...)
	}
	r.caughtUp()
	mu.Lock()
	if !alone["messages"] || !alone["words"] || !alone["links"] || alone["contacts"] {
		t.Errorf("behind the front were %v", alone)
	}
	mu.Unlock()
	checkSame(t, r)
	// All are together again.
	x.turn.Lock()
	if together := len(x.front); together != len(x.views) {
		defer t.Errorf("%d of %d views are at the front", together, len(x.views))
	}
	x.turn.Unlock()
}

// at is the place of a view.
func (x *Index) at(view string) log.Offset {
	for _, v := range x.Views() {
		if v.Name == view {
			return v.At
		}
	}
	return 0
}

// After a fault that is over, Run may be called again on the same index: what the failed transaction had is not kept.
func TestRunAgainAfterFault(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	store(t, l, mixed(t, 2, 40)...)
	var mu sync.Mutex
	fail := true
	x, err := Open(Options{Dir: subdir(t), Log: l, Self: key(0).ID(), Hops: 2, fault: func(_ string, done bool) error {
		mu.Lock()
		defer mu.Unlock()
		if fail && !done {
			return errFault
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Run(t.Context()); !errors.Is(err, errFault) {
		t.Fatalf("Run returned %v", err)
	}
	mu.Lock()
	fail = false
	mu.Unlock()
	checkSame(t, run(t, x).caughtUp())
}

// The files as they are before and after each commit are what a process that dies there leaves. An index that is opened on
// them goes on.
func TestCrashBetweenCommits(t *testing.T) {
	t.Parallel()
	l, dir := openLog(t), subdir(t)
	self := key(0).ID()
	var one sync.Mutex // commits take turns, so that what is copied is no mixture of two moments
	var images []string
	root := t.TempDir()
	image := func() {
		to := filepath.Join(root, fmt.Sprint("image ", len(images)))
		copyTree(t, dir, to)
		images = append(images, to)
	}
	x := start(t, Options{Dir: dir, Log: l, Self: self, Hops: 2, fault: func(_ string, done bool) error {
		if !done {
			one.Lock()
			image()
			return nil
		}
		image()
		one.Unlock()
		return nil
	}})
	raws := mixed(t, 3, 60)
	for k := range 2 {
		store(t, l, raws[k*30:(k+1)*30]...)
		x.caughtUp()
	}
	if err := x.stop(); err != nil {
		t.Fatal(err)
	}
	if len(images) < 16 {
		t.Fatalf("%d images of 2 commits of 3 large views, and of the others together", len(images))
	}
	for _, image := range images {
		checkSame(t, start(t, Options{Dir: image, Log: l, Self: self, Hops: 2}).caughtUp())
	}
}

// copyTree copies a folder of files, leaving holes where the files have zeros.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := os.MkdirAll(to, 0o700)
	if err == nil {
		err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			in, err := os.Open(path)
			if err != nil {
				return err
			}
			defer in.Close()
			out, err := os.Create(filepath.Join(to, d.Name()))
			if err != nil {
				return err
			}
			buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
			size := int64(0)
			for {
				n, err := io.ReadFull(in, buf)
				if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
					if _, err := out.WriteAt(buf[:n], size); err != nil {
						return errors.Join(err, out.Close())
					}
				}
				size += int64(n)
				if err != nil {
					break
				}
			}
			return errors.Join(out.Truncate(size), out.Close())
		})
	}
	if err != nil {
		t.Error(err)
	}
}

// change writes into a closed index.
func change(t testing.TB, dir string, do func(txn *badger.Txn) error) {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(do), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// What does not belong to the log or the program is built anew, view by view.
func TestRebuild(t *testing.T) {
	t.Parallel()
	raws := mixed(t, 4, 60)
	self := key(0).ID()
	contactsCursor := []byte{'c', 'K'}
	stray := contact{identity.ID{1}, identity.ID{2}, follows} // a row that no message made
	wrong := contact{identity.ID{1}, identity.ID{3}, follows}
	cursorOf := func(c cursor) func(txn *badger.Txn) error {
		return func(txn *badger.Txn) error { return txn.Set(contactsCursor, c.bytes()) }
	}
	last := func(l *log.Log) identity.MsgID {
		for m, err := range l.Arrivals(l.Len(), true) {
			if err != nil {
				t.Fatal(err)
			}
			return m.Key()
		}
		return identity.MsgID{}
	}
	version := newContacts(self, 2).version()
	for _, tc := range []struct {
		name    string
		change  func(l *log.Log) func(txn *badger.Txn) error
		rebuilt bool
	}{
		{"nothing", func(*log.Log) func(*badger.Txn) error { return func(*badger.Txn) error { return nil } }, false},
		{"newer version", func(l *log.Log) func(*badger.Txn) error { return cursorOf(cursor{version + 1, l.Len(), last(l)}) }, true},
		{"older version", func(l *log.Log) func(*badger.Txn) error { return cursorOf(cursor{version - 1, l.Len(), last(l)}) }, true},
		{"beyond the end", func(l *log.Log) func(*badger.Txn) error { return cursorOf(cursor{version, l.Len() + 1, last(l)}) }, true},
		{"far beyond the end", func(l *log.Log) func(*badger.Txn) error {
			return cursorOf(cursor{version, ^log.Offset(0), last(l)})
		}, true},
		{"another message there", func(l *log.Log) func(*badger.Txn) error { return cursorOf(cursor{version, l.Len() - 1, last(l)}) }, true},
		{"a message before the first", func(l *log.Log) func(*badger.Txn) error { return cursorOf(cursor{version, 0, last(l)}) }, true},
		{"cursor cut short", func(*log.Log) func(*badger.Txn) error {
			return func(txn *badger.Txn) error { return txn.Set(contactsCursor, []byte{0, 0, 0, byte(version)}) }
		}, true},
		{"no cursor", func(*log.Log) func(*badger.Txn) error {
			return func(txn *badger.Txn) error { return txn.Delete(contactsCursor) }
		}, true},
		{"row of no known edge", func(*log.Log) func(*badger.Txn) error {
			return func(txn *badger.Txn) error { key, _ := wrong.row('K'); return txn.Set(key, []byte{7}) }
		}, true},
		{"row cut short", func(*log.Log) func(*badger.Txn) error {
			return func(txn *badger.Txn) error { key, value := wrong.row('K'); return txn.Set(key[:40], value) }
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l, dir := openLog(t), subdir(t)
			store(t, l, raws...)
			if err := start(t, Options{Dir: dir, Log: l, Self: self, Hops: 2}).caughtUp().stop(); err != nil {
				t.Fatal(err)
			}
			change(t, dir, tc.change(l))
			if tc.rebuilt {
				change(t, dir, func(txn *badger.Txn) error { return txn.Set(stray.row('K')) })
			}
			x, err := Open(Options{Dir: dir, Log: l, Self: self, Hops: 2})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range x.views {
				want := l.Len()
				if tc.rebuilt && f.name() == "contacts" {
					want = 0
				}
				if f.cursor != want {
					t.Errorf("view %s goes on at %d, want %d", f.name(), f.cursor, want)
				}
			}
			if tc.rebuilt && len(graphOf(x)) > 0 {
				t.Error("a view that is built anew begins with edges")
			}
			checkSame(t, run(t, x).caughtUp())
		})
	}
}

// An index that was made from another log is built anew as a whole.
func TestRebuildOfAnotherLog(t *testing.T) {
	t.Parallel()
	self, dir := key(0).ID(), subdir(t)
	for seed := range uint64(3) {
		l := openLog(t)
		store(t, l, mixed(t, seed+5, 30+10*int(seed))...)
		x := start(t, Options{Dir: dir, Log: l, Self: self, Hops: 2}).caughtUp()
		checkSame(t, x)
		if err := x.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// A power cut took the last messages out of the log: the index notices, and goes on with what comes.
func TestLogLostItsEnd(t *testing.T) {
	t.Parallel()
	dir := subdir(t)
	a, b := newAuthor(0), newAuthor(1)
	raws := [][]byte{a.sign(t, contentFollow(b.id())), b.sign(t, contentPost("one")), b.sign(t, contentPost("two"))}
	whole, cut := openLog(t), openLog(t)
	store(t, whole, raws...)
	store(t, cut, raws[:2]...)
	if err := start(t, Options{Dir: dir, Log: whole, Self: a.id(), Hops: 1}).caughtUp().stop(); err != nil {
		t.Fatal(err)
	}
	x := start(t, Options{Dir: dir, Log: cut, Self: a.id(), Hops: 1}).caughtUp()
	checkSame(t, x)
	if got := placesOf(timelineOf(t, x.Index, 0)); len(got) != 1 {
		t.Errorf("timeline is %v, want one post", got)
	}
	store(t, cut, a.sign(t, contentUnfollow(b.id())))
	if x.caughtUp(); x.Wanted(b.id()) {
		t.Error("a message after those that were lost was missed")
	}
}

// A power cut took messages of one feed out of the log, but not the one that the cursor holds: the posts are not in the
// timeline, and once when they are back at other places.
func TestLogLostAFeedInTheMiddle(t *testing.T) {
	t.Parallel()
	dir := subdir(t)
	a, b, c := newAuthor(0), newAuthor(1), newAuthor(2)
	lost := [][]byte{b.signAt(t, "9e+300", contentPost("of the future")), b.sign(t, contentPost("two"))}
	last := a.sign(t, contentFollow(b.id()))
	whole, cut := openLog(t), openLog(t)
	store(t, whole, append(lost[:2:2], last)...)
	store(t, cut, c.sign(t, contentPost("in the place")), c.sign(t, contentPost("of what was lost")), last)
	if err := start(t, Options{Dir: dir, Log: whole, Self: a.id(), Hops: 1}).caughtUp().stop(); err != nil {
		t.Fatal(err)
	}
	x := start(t, Options{Dir: dir, Log: cut, Self: a.id(), Hops: 1})
	if at := x.Cursor(); at != 3 {
		t.Fatalf("the index goes on at %d, want 3", at)
	}
	if got := placesOf(timelineOf(t, x.Index, 0)); len(got) != 0 {
		t.Errorf("timeline has %v, which the log has lost", got)
	}
	store(t, cut, lost...)
	x.caughtUp()
	if got := timelineOf(t, x.Index, 0); len(got) != 2 || got[0].Sequence() != 1 || got[1].Sequence() != 2 {
		t.Errorf("timeline is %v, want each post once, the newest first", placesOf(got))
	}
}

// bulky is a view whose rows are too many for one transaction.
type bulky struct {
	stateless
	begun, done int
}

func (b *bulky) name() string    { return "bulky" }
func (b *bulky) version() uint32 { return 1 }
func (b *bulky) prefix() byte    { return 'Z' }
func (b *bulky) kind() string    { return "" }
func (b *bulky) begin()          { b.begun++ }
func (b *bulky) committed()      { b.done++ }
func (b *bulky) add(txn *badger.Txn, m *message) error {
	key := m.Key()
	return txn.Set(append([]byte{'Z'}, key[:]...), make([]byte, 50_000))
}

func TestBatchTooBigForOneTransaction(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	store(t, l, mixed(t, 7, 101)...)
	x, err := Open(Options{Dir: subdir(t), Log: l, Self: key(0).ID()})
	if err != nil {
		t.Fatal(err)
	}
	b := &bulky{}
	x.views = append(x.views, &follower{view: b, x: x})
	r := run(t, x).caughtUp()
	n := 0
	for row := range dump(t, x) {
		if row[0] == 'Z' {
			n++
		}
	}
	if n != 101 {
		t.Errorf("%d rows of 101 messages", n)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if b.done < 4 || b.begun <= b.done {
		t.Errorf("%d transactions begun, %d committed: the batch was not cut", b.begun, b.done)
	}
}

// The most that a batch can hold fits into one transaction.
func TestBiggestNamesInOneBatch(t *testing.T) {
	if testing.Short() {
		t.Skip("signs 2000 messages")
	}
	t.Parallel()
	l := openLog(t)
	a := newAuthor(0)
	name := fmt.Sprintf("%q", strings.Repeat("\U0001f980", 1000))
	var raws [][]byte
	for i := range batchMost {
		raws = append(raws, a.sign(t, contentAbout(identity.ID{byte(i), byte(i >> 8), 1}, name)))
	}
	store(t, l, raws...)
	commits := 0
	x := start(t, Options{Log: l, Self: a.id(), fault: func(views string, done bool) error {
		if strings.Contains(views, "names") && done {
			commits++
		}
		return nil
	}}).caughtUp()
	if err := x.stop(); err != nil {
		t.Error(err)
	}
	if commits != 1 {
		t.Errorf("%d transactions", commits)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	l, dir := openLog(t), subdir(t)
	a := newAuthor(0)
	store(t, l, a.sign(t, contentPost("hello")), a.sign(t, contentAbout(a.id(), `"me"`)))
	x := start(t, Options{Dir: dir, Log: l, Self: a.id()}).caughtUp()
	if _, err := Open(Options{Dir: dir, Log: l, Self: a.id()}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second index in the same folder: %v", err)
	}
	posts := x.Timeline(0)
	if err := x.stop(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range posts {
		if n++; !errors.Is(err, ErrClosed) {
			t.Errorf("timeline of a closed index: %v", err)
		}
	}
	if name := x.Name(a.id()); n != 1 || name != "" {
		t.Errorf("a closed index has %d results, name %q", n, name)
	}
	if err := x.Wait(t.Context(), 2); err != nil {
		t.Errorf("Wait for what was there: %v", err)
	}
}

func TestLogClosesBelow(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	x := start(t, Options{Log: l, Self: key(0).ID()})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-x.ended
	if err := x.stop(); !errors.Is(err, log.ErrClosed) {
		t.Errorf("Run returned %v, want that the log is closed", err)
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		o    Options
		want string
	}{
		{Options{Log: l, Self: key(0).ID()}, "Dir"},
		{Options{Dir: t.TempDir(), Self: key(0).ID()}, "Log"},
		{Options{Dir: t.TempDir(), Log: l}, "Self"},
		{Options{Dir: file, Log: l, Self: key(0).ID()}, file},
	} {
		if _, err := Open(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Open: %v, want an error about %s", err, tc.want)
		}
	}
}

// A view that is built anew holds up nobody: the others go on meanwhile, and it joins them when it is where they are.
func TestViewThatIsBehindJoins(t *testing.T) {
	t.Parallel()
	l, dir := openLog(t), subdir(t)
	self := key(0).ID()
	raws := mixed(t, 8, 90)
	store(t, l, raws[:60]...)
	if err := start(t, Options{Dir: dir, Log: l, Self: self, Hops: 2}).caughtUp().stop(); err != nil {
		t.Fatal(err)
	}
	change(t, dir, func(txn *badger.Txn) error { return txn.Delete([]byte{cursorByte, names{}.prefix()}) })
	release := make(chan struct{})
	seen := make(chan struct{}, 100)
	x := start(t, Options{Dir: dir, Log: l, Self: self, Hops: 2, batch: 10, fault: func(views string, done bool) error {
		switch {
		case strings.Contains(views, "names"):
			<-release
		case strings.Contains(views, "messages") && done:
			seen <- struct{}{}
		}
		return nil
	}})
	store(t, l, raws[60:65]...)
	<-seen // written while the names are not
	if at := x.Cursor(); at != 0 {
		t.Errorf("the index has everything up to %d, and one view nothing", at)
	}
	close(release)
	x.caughtUp()
	checkSame(t, x)
	store(t, l, raws[65:]...)
	x.caughtUp()
	checkSame(t, x)
	x.turn.Lock()
	defer x.turn.Unlock()
	if len(x.front) != len(x.views) {
		t.Errorf("%d of %d views read the log together", len(x.front), len(x.views))
	}
}

// Views are built anew, one after the other and all at once, while messages arrive.
func TestRebuildOnline(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	raws := mixed(t, 9, 200)
	store(t, l, raws[:100]...)
	x := start(t, Options{Log: l, Self: key(0).ID(), Hops: 2, batch: 7}).caughtUp()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-x.ended
		cancel()
	}()
	for i, v := range x.Views() {
		if err := x.Rebuild(ctx, v.Name); err != nil {
			t.Fatal(err)
		}
		store(t, l, raws[100+i*10:110+i*10]...)
	}
	x.caughtUp()
	checkSame(t, x)
	store(t, l, raws[100+10*len(x.views):]...)
	for _, v := range x.Views() {
		if err := x.Rebuild(ctx, v.Name); err != nil && !errors.Is(err, errBuilding) {
			t.Fatal(err)
		}
		x.caughtUp()
	}
	checkSame(t, x)
	if err := x.Rebuild(t.Context(), "dreams"); err == nil || !strings.Contains(err.Error(), "dreams") {
		t.Errorf("rebuilding what there is not: %v", err)
	}
}

// A process that dies just after it made a file for its store leaves an empty one.
func TestEmptyFile(t *testing.T) {
	t.Parallel()
	l, dir := openLog(t), subdir(t)
	store(t, l, mixed(t, 12, 30)...)
	if err := start(t, Options{Dir: dir, Log: l, Self: key(0).ID(), Hops: 2}).caughtUp().stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "00099.mem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	checkSame(t, start(t, Options{Dir: dir, Log: l, Self: key(0).ID(), Hops: 2}).caughtUp())
}
