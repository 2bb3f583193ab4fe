package log

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// crashWithout copies a live log and takes away what Badger wrote since it was opened.
func crashWithout(t *testing.T, l *Log) (dir string) {
	t.Helper()
	dir = copyStore(t, l.o.Dir)
	files := logFiles(dir)
	if len(files) == 0 {
		t.Fatal("no file of the store to take away")
	}
	for _, f := range files {
		if err := os.Truncate(f, logHead); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What the store loses of our own feed comes from the journal: the feed stays open, cursors go on, and nothing is forked.
func TestJournalRestores(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1500} { // the small one is made anew on the way
		k, w, o := key(1), newWorld(), Options{Dir: t.TempDir(), journalSize: size}
		l := open(t, o)
		if err := l.Confirm(k.ID()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := w.publish(t, l, k, "before"); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, o)
		for range 20 {
			if err := w.publish(t, l, k, strings.Repeat("after ", 20)); err != nil {
				t.Fatal(err)
			}
			if size > 0 { // so that all but the last few are on disk
				if err := l.Sync(); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.follow(t, l)
		o.Dir = crashWithout(t, l)
		var told strings.Builder
		o.Logger = slog.New(slog.NewTextHandler(&told, nil))
		l = open(t, o)
		head, _ := l.Head(k.ID())
		if size > 0 {
			// More was taken than a power cut can take: what left the journal had been synced.
			if head.Sequence >= 23 || l.Confirmed(k.ID()) || !strings.Contains(told.String(), "nothing is published") {
				t.Errorf("head %d, confirmed %t, told: %s", head.Sequence, l.Confirmed(k.ID()), told.String())
			}
			continue
		}
		if head.Sequence != 23 || !l.Confirmed(k.ID()) || !strings.Contains(told.String(), "messages=23") {
			t.Errorf("head %d, confirmed %t, told: %s", head.Sequence, l.Confirmed(k.ID()), told.String())
		}
		checkCursor(t, l, w)
		w.check(t, l)
		checkStore(t, l)
		if err := w.publish(t, l, k, "on"); err != nil {
			t.Error(err)
		}
	}
}

// A journal that tells another history than the store is no reason to call the feed forked: it is closed for Publish.
func TestJournalOfAnotherHistory(t *testing.T) {
	t.Parallel()
	k, o := key(1), Options{Dir: t.TempDir()}
	l := open(t, o)
	if err := l.Confirm(k.ID()); err != nil {
		t.Fatal(err)
	}
	if err := newWorld().publish(t, l, k, "here"); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	other := &writer{k: k}
	entries := appendEntry(nil, messageEntry, other.next(t, "there"))
	entries = appendEntry(entries, messageEntry, other.next(t, "and there"))
	if err := os.WriteFile(filepath.Join(o.Dir, "own"), entries, 0o600); err != nil {
		t.Fatal(err)
	}
	l = open(t, o)
	if _, forked := l.Forked(k.ID()); forked {
		t.Error("the feed is called forked")
	}
	if head, _ := l.Head(k.ID()); head.Sequence != 1 || l.Published(k.ID()) != 2 {
		t.Errorf("head %d, published %d", head.Sequence, l.Published(k.ID()))
	}
	if _, err := l.Publish(k, []byte(`{"type":"post"}`)); !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("publish: %v", err)
	}
}
