package log

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"charkha/identity"
)

// logFiles are the files that Badger appends to.
func logFiles(dir string) (files []string) {
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		names, _ := filepath.Glob(filepath.Join(dir, pattern))
		files = append(files, names...)
	}
	return files
}

// tail is how many bytes behind the last one that is not zero may have been written: a checksum may end with zeros.
const tail = 4

// readLog reads what was written to a log file. The file is allocated ahead, and what follows is zero.
func readLog(file string) (b []byte, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for part := make([]byte, 256<<10); ; {
		n, err := io.ReadFull(f, part)
		kept := len(bytes.TrimRight(part[:n], "\x00"))
		if kept == 0 {
			return bytes.TrimRight(b, "\x00"), nil
		}
		b = append(b, part[:n]...)
		if err != nil {
			return bytes.TrimRight(b, "\x00"), nil
		}
	}
}

// sure is what is on disk whatever happens.
type sure struct {
	files map[string]int64 // how far the files are, by name
	heads map[identity.ID]int64
}

// look notes how far the feeds and the files of a live log have come. It is called as a sync begins: what is there then is
// sure when the sync is done.
func look(l *Log) *sure {
	s := &sure{files: map[string]int64{}, heads: map[identity.ID]int64{}}
	for id, h := range l.Heads() {
		s.heads[id] = h.Sequence
	}
	for _, name := range logFiles(l.o.Dir) {
		if b, err := readLog(name); err == nil { // a write-ahead log may become a table meanwhile
			s.files[filepath.Base(name)] = int64(len(b)) + tail
		}
	}
	return s
}

// journalLength is where the entries of the journal end.
func journalLength(t testing.TB, dir string) int64 {
	b, err := readLog(filepath.Join(dir, "own"))
	if err != nil {
		t.Error(err)
	}
	return int64(len(b)) + tail
}

const page = 4096

// cutPower makes of a copied folder what a power cut may leave of it: up to what is sure, the files are as they were; of the
// pages behind, some were written, some were not, and some hold bytes of something else.
func cutPower(t testing.TB, rng *rand.Rand, dir string, sure map[string]int64) {
	t.Helper()
	for _, name := range append(logFiles(dir), filepath.Join(dir, "own")) {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := readLog(name)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, make([]byte, tail)...)
		end := int64(len(b))
		from := min(max(sure[filepath.Base(name)], 20), end) // the head of a file is synced when it is made
		size := st.Size()
		kind := rng.IntN(5)
		for at := from; at < end; {
			to := min((at/page+1)*page, end)
			switch {
			case kind == 0: // nothing was written
				clear(b[at:to])
			case kind == 1: // everything was written
			case kind == 2 && rng.IntN(2) == 0: // some pages, in any order
				clear(b[at:to])
			case kind == 3 && rng.IntN(3) == 0: // the disk's own cache mixed something up
				mask := byte(rng.Uint32() | rng.Uint32()) // often bytes that are all high: long varints
				for i := at; i < to; i++ {
					b[i] = byte(rng.Uint32()) | mask
				}
			case kind == 4: // the beginning, up to any byte
				clear(b[at+rng.Int64N(to-at):])
				to = end
			}
			at = to
		}
		if rng.IntN(4) == 0 && filepath.Base(name) != "own" { // the file was not grown on disk yet
			size = end
		}
		if err := errors.Join(os.WriteFile(name, b, 0o600), os.Truncate(name, size)); err != nil {
			t.Fatal(err)
		}
	}
}

// At any moment of a life the power is cut: own messages that were seen are there, what else was synced is there, each feed
// is whole up to its head, the next message chains, cursors go on without missing anything, and what was lost can come again.
// CHARKHA_POWER_CUTS is how many lives of three cuts each are tried, at least 5.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	cuts, lost := 0, 0
	t.Run("cuts", func(t *testing.T) {
		lives, _ := strconv.ParseUint(os.Getenv("CHARKHA_POWER_CUTS"), 10, 64)
		for n := range max(lives, 5) {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				c, m := powerCut(t, rand.New(rand.NewPCG(seed, n)))
				mu.Lock()
				defer mu.Unlock()
				cuts += c
				lost += m
			})
		}
	})
	t.Logf("%d cuts lost %d messages", cuts, lost)
	if cuts == 0 || lost == 0 {
		t.Error("no cut lost a message: nothing was tried")
	}
}

func powerCut(t *testing.T, rng *rand.Rand) (cuts, lost int) {
	own := key(1)
	writers := []*writer{{k: key(2)}, {k: key(3)}, {k: key(4)}}
	var all [][]byte // of the others, in order
	dir, w := t.TempDir(), newWorld()
	for range 3 {
		var mu sync.Mutex
		var opened *Log
		var next, last *sure // last is of the last sync that was done
		journal := int64(0)  // how far the journal is sure
		l, err := Open(Options{Dir: dir, journalSize: 2000, fault: func(step string, done bool) error {
			mu.Lock()
			defer mu.Unlock()
			if done && (step == "journal" || step == "new journal") {
				journal = journalLength(t, dir)
			}
			switch {
			case step != "sync" || opened == nil:
			case !done:
				next = look(opened)
			case next != nil:
				last = next
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		opened, last = l, look(l) // Open syncs what it finds
		journal = journalLength(t, dir)
		mu.Unlock()
		// A synced message is never lost, an own one that was seen neither.
		w.check(t, l)
		checkStore(t, l)
		if err := l.Confirm(own.ID()); err != nil {
			t.Fatal(err)
		}
		appendAll(t, l, all...)
		w.follow(t, l)
		for range 1 + rng.IntN(12) {
			if rng.IntN(3) == 0 {
				if err := w.publish(t, l, own, fmt.Sprint(rng.Uint64())); err != nil {
					t.Fatal(err)
				}
			} else {
				var raws [][]byte
				for range 1 + rng.IntN(40) {
					raws = append(raws, writers[rng.IntN(len(writers))].next(t, strings.Repeat("z", rng.IntN(400))))
				}
				all = append(all, raws...)
				if err := w.append(t, l, raws); err != nil {
					t.Fatal(err)
				}
			}
			if rng.IntN(2) == 0 {
				w.follow(t, l)
			}
		}
		mu.Lock()
		copied, kept := copyStore(t, dir), last
		kept.files["own"] = journal
		mu.Unlock()
		cutPower(t, rng, copied, kept.files)
		before := sum(w.place)
		_ = l.Close()
		dir = copied
		cuts++

		// What was not synced may be gone, except ours.
		for author, feed := range w.place {
			for seq := range feed {
				if author != own.ID() && seq > kept.heads[author] {
					delete(feed, seq)
				}
			}
		}
		l2, err := Open(Options{Dir: dir, journalSize: 2000})
		if err != nil {
			t.Fatalf("after a power cut: %v", err)
		}
		lost += before - int(count(l2))
		if !l2.Confirmed(own.ID()) {
			t.Error("the own feed was closed, though nothing of it was lost")
		}
		// The cursor goes on: everything that comes now is new to it, or was lost and comes again.
		checkCursor(t, l2, w)
		w.check(t, l2)
		checkStore(t, l2)
		if err := w.publish(t, l2, own, "after the cut"); err != nil {
			t.Fatal(err)
		}
		for _, r := range appendAll(t, l2, all...) {
			if r.Status != Stored && r.Status != Duplicate {
				t.Errorf("again %s/%d: %s: %v", r.Author.Short(), r.Sequence, r.Status, r.Err)
			}
			w.know(t, r.Author, r.Sequence, r.Key)
		}
		checkCursor(t, l2, w)
		w.check(t, l2)
		checkStore(t, l2)
		if err := l2.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return cuts, lost
}

func count(l *Log) (n int64) {
	for _, h := range l.Heads() {
		n += h.Sequence
	}
	return n
}

// checkCursor lets the follower go on. Between what it saw and what comes from its cursor on, nothing is left out.
func checkCursor(t testing.TB, l *Log, w *world) {
	t.Helper()
	w.follow(t, l)
	seen := map[identity.MsgID]bool{}
	for _, key := range w.seen {
		seen[key] = true
	}
	for m, err := range l.Arrivals(0, false) {
		if err != nil {
			t.Fatal(err)
		}
		if !seen[m.Key()] {
			t.Errorf("offset %d never came to a follower that is at %d", m.Offset(), w.cursor)
		}
		if key, ok := w.seen[m.Offset()]; ok && key != m.Key() {
			t.Errorf("offset %d holds another message than the follower saw there", m.Offset())
		}
	}
}

// Bytes rot anywhere in any file, in a folder that was closed and in one that was not. Either Open says so, or what can be read is
// right, and the own feed goes on from what was acknowledged or is closed for Publish. Then Check leaves a whole log, which takes
// in again what was lost. CHARKHA_ROT is how many times each file is damaged, at least 2.
func TestRot(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	own := key(1)
	dir, w := t.TempDir(), newWorld()
	l, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Confirm(own.ID()); err != nil {
		t.Fatal(err)
	}
	a, b := &writer{k: key(2)}, &writer{k: key(3)}
	var others [][]byte
	for i := range 60 {
		if i == 30 { // a second value log begins
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if l, err = Open(Options{Dir: dir}); err != nil {
				t.Fatal(err)
			}
		}
		raws := append(a.many(t, 2), b.next(t, strings.Repeat("y", 300)))
		others = append(others, raws...)
		appendAll(t, l, raws...)
		if err := w.publish(t, l, own, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	w.follow(t, l)
	live := copyStore(t, dir)
	mine := collect(t, l.Feed(own.ID(), Range{}))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for i := range mine {
		all = append(all, mine[i].Value())
	}
	all = append(all, others...)
	tried := 0
	places, _ := strconv.ParseUint(os.Getenv("CHARKHA_ROT"), 10, 64)
	for folder, from := range map[string]string{"closed": dir, "killed": live} {
		for name := range strings.Lines(fileNames(t, from)) {
			name = strings.TrimSpace(name)
			content, err := readLog(filepath.Join(from, name))
			if err != nil {
				t.Fatal(err)
			}
			if name == "LOCK" || len(content) == 0 {
				continue
			}
			for n := range max(places, 2) {
				tried++
				t.Run(fmt.Sprintf("%s %s %d", folder, name, n), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(seed, uint64(tried)))
					rotten := copyStore(t, from)
					file := filepath.Join(rotten, name)
					at := rng.IntN(len(content))
					switch rng.IntN(8) {
					case 0:
						err = os.Truncate(file, int64(at))
						t.Logf("%d of %d bytes are left", at, len(content))
					case 1:
						err = os.Remove(file)
						t.Log("the file is gone")
					default:
						bad := make([]byte, min(1+rng.IntN(16), len(content)-at))
						for i := range bad {
							bad[i] = content[at+i] ^ byte(1+rng.IntN(255))
						}
						err = overwrite(file, int64(at), bad)
						t.Logf("%d of %d bytes, from %d on, are wrong", len(bad), len(content), at)
					}
					if err != nil {
						t.Fatal(err)
					}
					checkRotten(t, rotten, w, own, all)
				})
			}
		}
	}
	if tried == 0 {
		t.Error("no file was tried")
	}
}

func overwrite(file string, at int64, b []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}

func checkRotten(t *testing.T, dir string, w *world, own identity.KeyPair, all [][]byte) {
	acked := w.place[own.ID()]
	var told strings.Builder // by either
	for _, check := range []bool{false, true} {
		l, err := Open(Options{Dir: dir, Check: check, Logger: slog.New(slog.NewTextHandler(&told, nil))})
		if err != nil {
			if !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "backup") {
				t.Errorf("what to do is not said: %v", err)
			}
			t.Logf("Open: %v", err)
			return
		}
		// Whatever is read is right.
		held, unread := 0, 0
		for author, feed := range w.place {
			for seq, key := range feed {
				m, err := l.Get(key)
				switch {
				case err == nil && m.Author() == author && m.Sequence() == seq && m.Key() == key:
					held++
				case err == nil:
					t.Errorf("%s/%d is read as %s/%d", author.Short(), seq, m.Author().Short(), m.Sequence())
				case !errors.Is(err, ErrNotFound):
					unread++
					if !strings.Contains(err.Error(), "Check") {
						t.Errorf("what to do is not said: %v", err)
					}
				}
			}
		}
		head, _ := l.Head(own.ID())
		if lost := sum(w.place) - held; lost > 0 {
			t.Logf("%d of %d lost, %d of them cannot be read; own head %d, confirmed %t", lost, sum(w.place), unread, head.Sequence, l.Confirmed(own.ID()))
			if lost > unread && told.Len() == 0 {
				t.Error("messages are gone, and nobody was told")
			}
		}
		if l.Confirmed(own.ID()) && (head.Sequence < int64(len(acked)) || acked[int64(len(acked))] != head.Key && head.Sequence == int64(len(acked))) {
			t.Errorf("the own feed had %d messages, has %d, and may be published to: that is a fork", len(acked), head.Sequence)
		}
		if check {
			if unread > 0 {
				t.Errorf("%d messages cannot be read after Check", unread)
			}
			checkStore(t, l)
			for _, r := range appendAll(t, l, all...) {
				if r.Status != Stored && r.Status != Duplicate {
					t.Errorf("again %s/%d: %s: %v", r.Author.Short(), r.Sequence, r.Status, r.Err)
				}
			}
			if err := l.Confirm(own.ID()); err != nil {
				t.Fatal(err)
			}
			w.check(t, l)
			checkStore(t, l)
			if err := w.clone().publish(t, l, own, "on"); err != nil {
				t.Error(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A process may die after it has made the next file of a log and before it has written anything to it.
func TestEmptyLogFiles(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{".mem", ".vlog"} {
		dir := t.TempDir()
		l := open(t, Options{Dir: dir})
		w := &writer{k: key(1)}
		appendAll(t, l, w.many(t, 3)...)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		digits := map[string]string{".mem": "00099", ".vlog": "000099"}[kind]
		if err := os.WriteFile(filepath.Join(dir, digits+kind), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		l = open(t, Options{Dir: dir})
		if head, _ := l.Head(w.k.ID()); head.Sequence != 3 {
			t.Errorf("%s: the head is %d, want 3", kind, head.Sequence)
		}
		if got := statuses(appendAll(t, l, w.many(t, 2)...)); got != "stored stored" {
			t.Errorf("%s: %s", kind, got)
		}
		checkStore(t, l)
	}
}
