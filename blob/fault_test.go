package blob

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"charkha/identity"
)

var errFault = errors.New("fault")

// world is what the outside knows of a store.
type world struct {
	must    map[identity.BlobID]Why // is there, and for these reasons at least
	mustNot map[identity.BlobID]bool
}

func newWorld() *world {
	return &world{map[identity.BlobID]Why{}, map[identity.BlobID]bool{}}
}

func (w *world) clone() *world { return &world{maps.Clone(w.must), maps.Clone(w.mustNot)} }

// check compares a store with what is known of it.
func (w *world) check(t testing.TB, s *Store) {
	t.Helper()
	check(t, s)
	for id, why := range w.must {
		info, ok := s.Stat(id)
		if !ok || why.Own && !info.Why.Own || why.Pinned && !info.Why.Pinned || info.Why.Author != why.Author {
			t.Errorf("%s was acknowledged as %+v: %v, %+v", id, why, ok, info.Why)
			continue
		}
		if idOf(read(t, s, id)) != id {
			t.Errorf("%s is not whole", id)
		}
	}
	for id := range w.mustNot {
		if has(s, id) {
			t.Errorf("%s was removed, and is there", id)
		}
	}
}

// action is a part of the life of a store. It may be done again when it failed.
type action func(t testing.TB, s *Store, w *world) error

func adds(b []byte, why Why, stays bool) action {
	return func(t testing.TB, s *Store, w *world) error {
		id := idOf(b)
		delete(w.mustNot, id)
		info, err := s.Add(t.Context(), bytes.NewReader(b), nil, why)
		if err == nil && stays {
			w.must[id] = info.Why
		}
		return err
	}
}

// receives receives a blob in halves, the second one first; one of whole blocks in order, so that it is written past the page cache.
func receives(b []byte, why Why, then func(s *Store, id identity.BlobID) error) action {
	halves := []int{len(b) / 2, 0}
	if len(b)%block == 0 {
		slices.Reverse(halves)
	}
	return func(t testing.TB, s *Store, w *world) error {
		r, err := s.Receive(idOf(b), int64(len(b)), why)
		if err == nil {
			defer r.Abort()
			for _, off := range halves {
				if _, err := r.WriteAt(b[off:off+len(b)/2], int64(off)); err != nil {
					return err
				}
			}
			_, err = r.Commit(t.Context())
		}
		if err == nil || errors.Is(err, fs.ErrExist) {
			err = then(s, idOf(b))
		}
		if err == nil {
			info, _ := s.Stat(idOf(b))
			w.must[idOf(b)] = info.Why
		}
		return err
	}
}

func pins(b []byte, pinned bool) action {
	return func(t testing.TB, s *Store, w *world) error {
		id := idOf(b)
		if !pinned {
			delete(w.must, id)
		}
		err := s.Pin(id, pinned)
		if info, ok := s.Stat(id); ok && err == nil && pinned {
			w.must[id] = info.Why
		}
		return err
	}
}

func removes(b []byte) action {
	return func(t testing.TB, s *Store, w *world) error {
		delete(w.must, idOf(b))
		err := s.Remove(idOf(b))
		if errors.Is(err, fs.ErrNotExist) {
			// The first attempt said that it failed. So it may come back after a crash.
			return nil
		}
		if err == nil {
			w.mustNot[idOf(b)] = true
		}
		return err
	}
}

// script is a small life of a store in which everything that writes happens. Near ones' blobs are within their shares, and so
// stay; those of who floods it leave.
func script() (actions []action) {
	own, mine, pinned := data(1, 100), data(2, 2*block), data(3, block+2)
	shared, near := data(4, 50), data(5, block)
	actions = append(actions,
		adds(own, Why{Own: true, Author: someone(1)}, true),
		adds(shared, byAuthor(100), true),
		receives(pinned, byAuthor(300), func(s *Store, id identity.BlobID) error { return s.Pin(id, true) }),
		adds(shared, Why{Own: true}, true),
		func(t testing.TB, s *Store, w *world) error {
			f, err := s.Open(t.Context(), idOf(shared))
			if err != nil {
				return err
			}
			return f.Close()
		})
	for i := range 4 {
		actions = append(actions, adds(data(10+i, block), byAuthor(300), false))
	}
	return append(actions,
		receives(near, byAuthor(101), func(*Store, identity.BlobID) error { return nil }),
		func(t testing.TB, s *Store, w *world) error {
			id := idOf([]byte("what was promised"))
			if _, err := s.Add(t.Context(), strings.NewReader("what came"), &id, Why{}); !errors.Is(err, ErrWrongHash) {
				return err
			}
			return nil
		},
		removes(own),
		adds(data(14, block), byAuthor(301), false),
		pins(near, true),
		pins(near, false),
		pins(pinned, false),
		func(t testing.TB, s *Store, w *world) error { s.Trim(); return nil },
		adds(mine, Why{Own: true}, true),
		adds(own, Why{Pinned: true, Author: someone(2)}, true),
	)
}

func faultOptions(dir string, f func(step, path string, done bool) error) Options {
	return Options{Dir: dir, Max: 2 * block, Budget: 4 * block, Rank: hops, Now: (&clock{}).Now, fault: f, noSync: true, slack: 4,
		bulkFrom: 1, bulkSize: block}
}

// faults counts the steps, and fails one of them.
type faults struct {
	mu    sync.Mutex
	count map[string]int
	steps []string

	step string
	nth  int // 1 is the first; 0: none fails
	done bool
	hit  bool
}

func (f *faults) fault(step, path string, done bool) error {
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
		return fmt.Errorf("%s %s: %w", step, filepath.Base(path), errFault)
	}
	return nil
}

// Every step that writes fails, before or after it took effect, each time that it occurs. Who called is told, or it does not
// matter; nothing is left behind; the same can be done again in the same store; and the next start finds everything that was
// acknowledged.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	record := &faults{}
	lifeWithFault(t, record)
	if len(record.steps) == 0 || record.count["remove"] == 0 || record.count["rename"] == 0 {
		t.Fatal("no step that writes was found")
	}
	t.Logf("%d steps: %v", len(record.steps), record.count)
	for step, n := range record.count {
		for nth := 1; nth <= n; nth++ {
			for _, done := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %d %v", step, nth, done), func(t *testing.T) {
					t.Parallel()
					f := &faults{step: step, nth: nth, done: done}
					lifeWithFault(t, f)
					if !f.hit {
						t.Error("the step did not occur")
					}
				})
			}
		}
	}
}

func lifeWithFault(t *testing.T, f *faults) {
	dir, w := quick(t), newWorld()
	s, err := Open(faultOptions(dir, f.fault))
	if f.hit {
		if !errors.Is(err, errFault) {
			t.Fatalf("Open says %v", err)
		}
		s, err = Open(faultOptions(dir, f.fault))
	}
	if err != nil {
		t.Fatal(err)
	}
	told := f.hit
	for i, do := range script() {
		before := f.hit
		err := do(t, s, w)
		if err != nil {
			if before || !errors.Is(err, errFault) {
				t.Fatalf("action %d: %v", i, err)
			}
			told = true
		}
		if f.hit && !before && f.step == "remove" {
			// What cannot be removed stays half-written; the next start removes it.
			files, _ := filepath.Glob(filepath.Join(s.tmp, "*"))
			for _, file := range files {
				os.Remove(file)
			}
		}
		w.check(t, s)
		if err != nil {
			if err := do(t, s, w); err != nil {
				t.Fatalf("action %d again: %v", i, err)
			}
			w.check(t, s)
		}
	}
	before := f.hit
	if err := s.Close(); err != nil {
		if before || !errors.Is(err, errFault) {
			t.Errorf("close: %v", err)
		}
		told = true
	}
	// When a victim cannot be removed another one leaves; what is not synced when a victim leaves, and when a blob was opened, is
	// not told to who calls.
	if f.hit && !told && f.step != "remove" && f.step != "write" {
		t.Errorf("nobody was told that %s failed", f.step)
	}
	for range 2 {
		s, err := Open(faultOptions(dir, nil))
		if err != nil {
			t.Fatal(err)
		}
		w.check(t, s)
		w.goOn(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// goOn does something in a store that was opened again.
func (w *world) goOn(t testing.TB, s *Store) {
	t.Helper()
	b := fmt.Append(nil, rand.Uint64())
	if err := adds(b, Why{Own: true}, true)(t, s, w); err != nil {
		t.Error(err)
	}
	for id := range w.must {
		if err := s.Pin(id, true); err != nil {
			t.Error(err)
		}
	}
	w.check(t, s)
}

// model follows what is on disk for sure.
type model struct {
	mu    sync.Mutex
	dir   string
	files []modelFile               // by number
	names map[string]map[string]int // of each synced folder: what its names led to then; folder is no number of a file
}

const folder = -1

type modelFile struct {
	now  os.FileInfo // to know it again by
	sure []byte      // what was in it when it was synced last; nil: never
}

// number returns which file a path leads to now.
func (m *model) number(path string) int {
	st, err := os.Lstat(path)
	if err != nil {
		return folder
	}
	for i := len(m.files) - 1; i >= 0; i-- { // from the last: the numbers of the file system are used again
		if os.SameFile(m.files[i].now, st) {
			return i
		}
	}
	m.files = append(m.files, modelFile{now: st})
	return len(m.files) - 1
}

func (m *model) done(t testing.TB, step, path string) {
	switch step {
	case "create":
		if st, err := os.Lstat(path); err == nil {
			m.files = append(m.files, modelFile{now: st})
		}
	case "sync":
		n := m.number(path)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		m.files[n].sure = append([]byte{}, b...)
	case "sync folder":
		if path != filepath.Dir(m.dir) {
			m.names[path] = m.list(path)
		}
	}
}

func (m *model) list(path string) map[string]int {
	names := map[string]int{}
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		names[e.Name()] = folder
		if !e.IsDir() {
			names[e.Name()] = m.number(filepath.Join(path, e.Name()))
		}
	}
	return names
}

// cut makes a folder that a power cut may leave of this one: names that were not synced are there or not, and of what was written
// since a file was synced any part.
func (m *model) cut(t testing.TB, rng *rand.Rand, to string) {
	m.cutFolder(t, rng, m.dir, to, 0)
}

func (m *model) cutFolder(t testing.TB, rng *rand.Rand, from, to string, depth int) {
	now, sure := m.list(from), m.names[from]
	all := map[string]bool{}
	for name := range now {
		all[name] = true
	}
	for name := range sure {
		all[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n, there := now[name]
		if rng.IntN(2) == 0 {
			n, there = sure[name]
		}
		if name == "lock" || !there {
			continue
		}
		path := filepath.Join(to, name)
		if n == folder {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			m.cutFolder(t, rng, filepath.Join(from, name), path, depth+1)
			continue
		}
		f := m.files[n]
		content := bytes.Clone(f.sure)
		if b, err := os.ReadFile(filepath.Join(from, name)); err == nil && now[name] == n && !bytes.Equal(b, f.sure) {
			kind := rng.IntN(4)
			const sector = 512
			for at := 0; at < len(b); at += sector {
				end := min(at+sector, len(b))
				if end <= len(content) && bytes.Equal(b[at:end], content[at:end]) {
					continue
				}
				if kind == 0 || kind == 1 && rng.IntN(2) == 0 {
					continue // not written
				}
				part := bytes.Clone(b[at:end])
				if kind == 2 && at >= len(f.sure) && rng.IntN(2) == 0 { // something else was there
					for i := range part {
						part[i] = byte(rng.Uint32())
					}
				}
				for len(content) < end {
					content = append(content, 0)
				}
				copy(content[at:], part)
			}
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Before each step of a life the process is killed, and after it the power is cut: the next start finds all that was acknowledged,
// and life goes on. CHARKHA_POWER_CUTS is how many power cuts are tried at each place, at least 1.
func TestKilledOrCutAtEachStep(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dir, w := quick(t), newWorld()
	m := &model{dir: dir, names: map[string]map[string]int{}}
	type moment struct {
		name, dir string
		w         *world
	}
	var moments []moment
	rng := rand.New(rand.NewPCG(seed, 0))
	cuts := 1
	fmt.Sscan(os.Getenv("CHARKHA_POWER_CUTS"), &cuts)
	keep := quick(t)
	folder := func(kind, name string) string {
		to := filepath.Join(keep, fmt.Sprint(len(moments)))
		if err := os.Mkdir(to, 0o700); err != nil {
			t.Fatal(err)
		}
		moments = append(moments, moment{kind + " " + name, to, w.clone()})
		return to
	}
	kill := func(name string) {
		if err := os.CopyFS(folder("killed", name), os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	cut := func(name string) {
		for range max(cuts, 1) {
			m.cut(t, rng, folder("cut", name))
		}
	}
	s, err := Open(faultOptions(dir, func(step, path string, done bool) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		rel, _ := filepath.Rel(dir, path)
		if done {
			m.done(t, step, path)
			cut("after " + step + " " + rel)
		} else {
			kill("before " + step + " " + rel)
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	for i, do := range script() {
		if err := do(t, s, w); err != nil {
			t.Fatalf("action %d: %v", i, err)
		}
		w.check(t, s)
		m.mu.Lock()
		cut(fmt.Sprintf("after action %d", i))
		m.mu.Unlock()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d moments", len(moments))
	t.Run("moments", func(t *testing.T) {
		for _, at := range moments {
			t.Run(at.name, func(t *testing.T) {
				t.Parallel()
				s, err := Open(faultOptions(at.dir, nil))
				if err != nil {
					t.Fatal(err)
				}
				at.w.check(t, s)
				at.w.goOn(t, s)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	})
}
