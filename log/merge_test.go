package log

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// valueLogs returns the names of the value logs in a folder.
func valueLogs(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%d value logs, %v", len(names), err)
	}
	return names
}

// However often a log is started, it has a few files, and all messages.
func TestFilesDoNotGrowWithStarts(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), &writer{k: key(1)}
	most, starts := 0, 60
	for range starts {
		l, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if got := statuses(appendAll(t, l, w.next(t, strings.Repeat("hello ", 50)))); got != "stored" {
			t.Fatal(got)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		most = max(most, len(valueLogs(t, dir)))
	}
	t.Logf("at most %d value logs, %d at the end: %s", most, len(valueLogs(t, dir)), fileNames(t, dir))
	if most > 15 {
		t.Errorf("%d value logs after %d starts", most, starts)
	}
	l := open(t, Options{Dir: dir})
	if head, _ := l.Head(w.k.ID()); head.Sequence != int64(starts) {
		t.Errorf("the head is %d", head.Sequence)
	}
	checkStore(t, l)
	// Nothing is added by starts alone.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	before := len(valueLogs(t, dir))
	for range 5 {
		l = open(t, Options{Dir: dir})
		l.merger.done.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := len(valueLogs(t, dir)); after > before+2 { // Badger removes empty ones one start later
		t.Errorf("%d value logs became %d, and nothing was written", before, after)
	}
}

// mergeWorld makes a folder with more value logs than are left alone, each with messages of an own feed and of others.
func mergeWorld(t testing.TB) (dir string, w *world) {
	t.Helper()
	dir, w = t.TempDir(), newWorld()
	own, a, b := key(1), &writer{k: key(2)}, &writer{k: key(3)}
	for n := range mergeFrom {
		l, err := Open(Options{Dir: dir, journalSize: 600})
		if err != nil {
			t.Fatal(err)
		}
		l.merger.done.Wait()
		if err := l.Confirm(own.ID()); err != nil {
			t.Fatal(err)
		}
		if err := w.append(t, l, append(a.many(t, 5), b.next(t, strings.Repeat("y", 200)))); err != nil {
			t.Fatal(err)
		}
		if n == 2 { // evidence of a fork lies in a value log, too
			if err := w.append(t, l, [][]byte{(&writer{k: key(3)}).next(t, "another")}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.publish(t, l, own, fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
		w.follow(t, l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(valueLogs(t, dir)); n != mergeFrom {
		t.Fatalf("%d value logs", n)
	}
	return dir, w
}

func checkMerged(t testing.TB, dir string, w *world) {
	t.Helper()
	l, err := Open(Options{Dir: dir, journalSize: 600})
	if err != nil {
		t.Fatal(err)
	}
	w.check(t, l)
	checkStore(t, l)
	l.merger.done.Wait()
	w.check(t, l)
	checkStore(t, l)
	if _, ok := l.Forked(key(3).ID()); !ok {
		t.Error("the evidence of the fork is lost")
	}
	if err := w.publish(t, l, key(1), "on"); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if names, err := mergeable(dir); err != nil || len(names) != 0 {
		t.Errorf("left to be merged: %v, %v", names, err)
	}
	if _, err := os.Stat(filepath.Join(dir, mergingNote)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the note of a merge is there: %v", err)
	}
}

// Every step of a merge fails, before or after it took effect. The log refuses writes, and the next Open goes on, with the folder as it
// is after Close and as a killed process leaves it.
func TestMergeFails(t *testing.T) {
	t.Parallel()
	from, w := mergeWorld(t)
	merge := func(dir string, f *faults) (killed string, failed error) {
		l, err := Open(Options{Dir: dir, journalSize: 600, fault: f.fault})
		if err != nil {
			t.Fatal(err)
		}
		l.merger.done.Wait()
		failed = l.usable()
		w.check(t, l)
		killed = copyStore(t, dir)
		return killed, errors.Join(failed, l.Close())
	}
	record := &faults{}
	if _, failed := merge(copyStore(t, from), record); failed != nil {
		t.Fatal(failed)
	}
	t.Logf("%d steps: %s", len(record.steps), strings.Join(record.steps, ", "))
	for _, step := range []string{"merging", "merge", "sync", "merged", "drop"} {
		if record.count[step] == 0 {
			t.Errorf("no step %q", step)
		}
	}
	for step, n := range record.count {
		for nth := 1; nth <= n; nth++ {
			for _, done := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %d %t", step, nth, done), func(t *testing.T) {
					dir := copyStore(t, from)
					killed, failed := merge(dir, &faults{step: step, nth: nth, done: done})
					if step != "drop" && !errors.Is(failed, errFault) {
						t.Errorf("the step failed, and what was told is: %v", failed)
					}
					checkMerged(t, dir, w.clone())
					checkMerged(t, killed, w.clone())
				})
			}
		}
	}
}

// The power is cut while value logs are merged: nothing that was synced before is lost, whatever of the merge is on disk.
// CHARKHA_POWER_CUTS is how many cuts are tried, at least 8.
func TestPowerCutWhileMerging(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	from, w := mergeWorld(t)
	cuts, _ := strconv.Atoi(os.Getenv("CHARKHA_POWER_CUTS"))
	repaired := 0
	for n := 0; n < max(cuts, 8) || repaired == 0 && n < 60; n++ {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		dir := copyStore(t, from)
		left := rng.IntN(4)
		cut := ""
		var sure map[string]int64
		var mu sync.Mutex
		var opened *Log
		ready := make(chan struct{})
		l, err := Open(Options{Dir: dir, journalSize: 600, fault: func(step string, done bool) error {
			if step == "merging" && !done {
				<-ready
			}
			mu.Lock()
			defer mu.Unlock()
			if step == "merging" && !done {
				sure = look(opened).files
			}
			if sure != nil && done && (step == "merge" || step == "sync") {
				if left--; left <= 0 && cut == "" {
					cut = copyStore(t, dir)
				}
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		opened = l
		mu.Unlock()
		close(ready)
		l.merger.done.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		sure["own"] = journalLength(t, cut)
		cutPower(t, rng, cut, sure)
		l, err = Open(Options{Dir: cut, journalSize: 600, fault: func(step string, done bool) error {
			if step == "repair" && done {
				repaired++
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		l.merger.done.Wait()
		w.check(t, l)
		checkStore(t, l)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		checkMerged(t, cut, w.clone())
	}
	t.Logf("%d messages were written once more", repaired)
	if repaired == 0 {
		t.Error("nothing was lost: nothing was tried")
	}
}

// A log whose process is killed each time keeps no more files than one that is closed.
func TestFilesDoNotGrowWithKills(t *testing.T) {
	t.Parallel()
	dir, w := t.TempDir(), &writer{k: key(1)}
	const lives = 25
	for range lives {
		l, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		appendAll(t, l, w.next(t, "hello"))
		l.merger.done.Wait()
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		for walTables(t, l) { // Badger makes tables of what the process before left
		}
		l.dropLogs(false)
		killed := copyStore(t, dir)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		dir = killed
	}
	n := len(valueLogs(t, dir))
	t.Logf("%d value logs after %d lives", n, lives)
	if n > 15 {
		t.Error("these are too many")
	}
	l := open(t, Options{Dir: dir})
	if head, _ := l.Head(w.k.ID()); head.Sequence != lives {
		t.Errorf("the head is %d", head.Sequence)
	}
	checkStore(t, l)
}

// walTables reports whether write-ahead logs of the time before Open are there.
func walTables(t testing.TB, l *Log) bool {
	t.Helper()
	oldest, newest, err := walRange(l.o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return oldest < newest
}

// Starts that leave logs of all sizes, closed or killed, while others are merged and read: all messages stay, and the files are few.
func TestMergeOfAllSizes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir, most, starts := t.TempDir(), 0, 0
	raws := generate(t, 8000, 40)
	want := len(raws)
	for ; len(raws) > 0; starts++ {
		l, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		n := min(len(raws), 1+rng.IntN(1<<rng.IntN(11)))
		for _, r := range appendAll(t, l, raws[:n]...) {
			if r.Status != Stored && r.Status != Duplicate { // a kill leaves all: the system has it
				t.Fatalf("%s: %v", r.Status, r.Err)
			}
		}
		raws = raws[n:]
		read := 0
		for _, err := range l.Arrivals(0, rng.IntN(2) == 0) {
			if err != nil {
				t.Fatal(err)
			}
			if read++; read > 500 {
				break
			}
		}
		if rng.IntN(3) == 0 {
			l.merger.done.Wait()
		}
		killed := ""
		if rng.IntN(8) == 0 {
			killed = copyStore(t, dir)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if killed != "" {
			dir = killed
		}
		most = max(most, len(valueLogs(t, dir)))
	}
	l := open(t, Options{Dir: dir})
	l.merger.done.Wait()
	checkStore(t, l)
	if n := int(count(l)); n != want {
		t.Errorf("%d of %d messages", n, want)
	}
	t.Logf("%d starts, at most %d value logs", starts, most)
	if most > 20 {
		t.Errorf("%d value logs", most)
	}
}
