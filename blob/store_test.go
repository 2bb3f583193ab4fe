package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"charkha/identity"
)

// What web serves blobs from.
var _ interface {
	Open(context.Context, identity.BlobID) (io.ReadSeekCloser, error)
} = (*Store)(nil)

func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// quick returns a folder for a test that makes thousands of files and needs no disk: in memory, where the system has a folder for
// that.
func quick(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "charkha-blob-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, s.o)
}

func idOf(b []byte) identity.BlobID { return sha256.Sum256(b) }

// someone makes an author or peer.
func someone(n int) (id identity.ID) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	id[31] = 1
	return id
}

// data makes bytes that only n has.
func data(n, size int) []byte {
	b := bytes.Repeat([]byte{byte(n)}, size)
	copy(b, fmt.Sprint(n))
	return b
}

func add(t testing.TB, s *Store, b []byte, why Why) identity.BlobID {
	t.Helper()
	info, err := s.Add(t.Context(), bytes.NewReader(b), nil, why)
	if err != nil {
		t.Fatal(err)
	}
	if info.ID != idOf(b) || info.Size != int64(len(b)) {
		t.Fatalf("added %s of %d bytes as %s of %d", idOf(b), len(b), info.ID, info.Size)
	}
	return info.ID
}

func has(s *Store, id identity.BlobID) bool {
	_, ok := s.Stat(id)
	return ok
}

// check compares the files with what the store says, and its sums with its parts.
func check(t testing.TB, s *Store) {
	t.Helper()
	if files, err := os.ReadDir(s.tmp); err != nil || len(files) > 0 {
		t.Errorf("half-written files: %v, %v", files, err)
	}
	files := map[identity.BlobID]bool{}
	err := filepath.WalkDir(filepath.Join(s.o.Dir, "sha256"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[idOf(b)] = true
		if s.path(idOf(b)) != path {
			t.Errorf("%s holds %s", path, idOf(b))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	u, sum := s.Usage(), Usage{Authors: map[identity.ID]int64{}, Peers: map[identity.ID]int64{}}
	var last identity.BlobID
	leaving := int64(0)
	for info := range s.All() {
		if sum.Blobs > 0 && bytes.Compare(last[:], info.ID[:]) >= 0 {
			t.Errorf("%s comes after %s", info.ID, last)
		}
		last = info.ID
		if !files[info.ID] {
			t.Errorf("%s has no file", info.ID)
		}
		delete(files, info.ID)
		sum.Blobs++
		sum.Bytes += info.Size
		if info.Why.Own || info.Why.Pinned {
			sum.Own += info.Size
		} else {
			leaving += cost(info.Size)
		}
		if info.Size > 0 {
			sum.Authors[info.Why.Author] += info.Size
			sum.Peers[info.Why.Peer] += info.Size
		}
	}
	for id := range files {
		t.Errorf("%s has a file, and is not there", id)
	}
	if u.Blobs != sum.Blobs || u.Bytes != sum.Bytes || u.Own != sum.Own || s.leaving != leaving {
		t.Errorf("usage %+v, and %d for the budget; the blobs' %+v, and %d", u, s.leaving, sum, leaving)
	}
	for what, m := range map[string][2]map[identity.ID]int64{"author": {u.Authors, sum.Authors}, "peer": {u.Peers, sum.Peers}} {
		if fmt.Sprint(m[0]) != fmt.Sprint(m[1]) {
			t.Errorf("bytes by %s: %v, want %v", what, m[0], m[1])
		}
	}
	if s.o.Budget > 0 && u.Free != max(0, s.o.Budget-leaving) {
		t.Errorf("%d bytes count for the budget of %d, free are %d", leaving, s.o.Budget, u.Free)
	}
	// The lists by last use hold each blob that may leave once, and in order.
	listed := int64(0)
	for n := range s.people.all {
		for kind := range account(2) {
			h := s.people.account(account(n)<<1 | kind)
			used, bytes := int64(0), int64(0)
			for slot := h.first; slot != 0; slot = s.entries[slot].next {
				e := &s.entries[slot]
				if e.used() < used {
					t.Error("a list is out of order")
				}
				used = e.used()
				bytes += cost(int64(e.size))
			}
			if bytes != h.bytes {
				t.Errorf("account %d.%d has blobs of %d bytes and counts %d", n, kind, bytes, h.bytes)
			}
			listed += bytes
		}
	}
	if listed != leaving {
		t.Errorf("the lists hold %d bytes of %d", listed, leaving)
	}
}

func read(t testing.TB, s *Store, id identity.BlobID) []byte {
	t.Helper()
	r, err := s.Read(id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || r.Size() != int64(len(b)) {
		t.Fatalf("%d of %d bytes: %v", len(b), r.Size(), err)
	}
	return b
}

// What was added is there, whole, and with why, after a restart, too.
func TestAddAndRead(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_123)
	s := open(t, Options{Now: func() time.Time { return now }})
	want := map[identity.BlobID]Info{}
	for i, b := range [][]byte{{}, []byte("x"), data(1, chunk), data(2, chunk+1), data(3, 3*chunk-1), data(4, DefaultMax)} {
		why := Why{Own: i%2 == 0, Pinned: i%3 == 0, Author: someone(i), Peer: someone(i % 2)}
		if i == 1 {
			why.Author, why.Peer = identity.ID{}, identity.ID{}
		}
		now = now.Add(time.Second)
		id := add(t, s, b, why)
		want[id] = Info{ID: id, Size: int64(len(b)), Stored: now, Why: why}
		if got := read(t, s, id); !bytes.Equal(got, b) {
			t.Errorf("%d bytes are not those that were added", len(got))
		}
	}
	for range 2 {
		check(t, s)
		for id, info := range want {
			got, ok := s.Stat(id)
			if !ok || !got.Stored.Equal(info.Stored) {
				t.Errorf("stat %s: %v, stored %v, want %v", id, ok, got.Stored, info.Stored)
			}
			got.Stored = info.Stored
			if got != info {
				t.Errorf("stat %+v, want %+v", got, info)
			}
		}
		if n := s.Usage().Blobs; n != int64(len(want)) {
			t.Errorf("%d blobs, want %d", n, len(want))
		}
		s = reopen(t, s)
	}
	for id := range want {
		if err := s.Remove(id); err != nil {
			t.Error(err)
		}
		if err := s.Remove(id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("removed twice: %v", err)
		}
	}
	check(t, s)
	s = reopen(t, s)
	if u := s.Usage(); u.Blobs != 0 || u.Bytes != 0 || len(u.Authors) != 0 || len(s.people.numbers) != 0 {
		t.Errorf("after all were removed: %+v", u)
	}
}

func TestNamesAreThoseOfMultiblob(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	id := add(t, s, []byte("hello\n"), Why{})
	// $ echo hello | sha256sum
	const hash = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
	if hex.EncodeToString(id[:]) != hash {
		t.Fatal(id)
	}
	if b, err := os.ReadFile(filepath.Join(s.o.Dir, "sha256", hash[:2], hash[2:])); err != nil || string(b) != "hello\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// endless never ends, and counts what was read of it.
type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.read += int64(len(p))
	clear(p)
	return len(p), nil
}

// What is refused leaves nothing behind.
func TestAddRefuses(t *testing.T) {
	t.Parallel()
	const max = 100_000
	cut := errors.New("the line was cut")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	other := idOf([]byte("other"))
	right := data(7, max)
	rightID := idOf(right)
	midway, cancelMidway := context.WithCancel(t.Context())
	defer cancelMidway()
	e := &endless{}
	for _, c := range []struct {
		name string
		ctx  context.Context
		r    io.Reader
		want *identity.BlobID
		err  error
	}{
		{name: "wrong hash", r: strings.NewReader("hello"), want: &other, err: ErrWrongHash},
		{name: "nothing", r: strings.NewReader(""), want: &other, err: ErrWrongHash},
		{name: "a byte too many", r: bytes.NewReader(data(1, max+1)), err: ErrTooLarge},
		{name: "a byte too many of the right ones", r: io.MultiReader(bytes.NewReader(right), strings.NewReader("x")), want: &rightID, err: ErrTooLarge},
		{name: "a byte too few", r: bytes.NewReader(right[1:]), want: &rightID, err: ErrWrongHash},
		{name: "endless", r: e, err: ErrTooLarge},
		{name: "cut", r: io.MultiReader(bytes.NewReader(right[:max/2]), iotest.ErrReader(cut)), want: &rightID, err: cut},
		{name: "cancelled before", ctx: cancelled, r: strings.NewReader("hello"), err: context.Canceled},
		{name: "cancelled midway", ctx: midway, err: context.Canceled, r: io.MultiReader(strings.NewReader("hello"), readerFunc(func([]byte) (int, error) {
			cancelMidway()
			return 0, nil
		}))},
	} {
		s := open(t, Options{Max: max})
		held := add(t, s, []byte("held"), Why{})
		if c.ctx == nil {
			c.ctx = t.Context()
		}
		if _, err := s.Add(c.ctx, c.r, c.want, Why{Own: true}); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		check(t, s)
		if u := s.Usage(); u.Blobs != 1 || !has(s, held) {
			t.Errorf("%s: %+v", c.name, u)
		}
	}
	if e.read > max+2*chunk {
		t.Errorf("%d bytes were read of a blob that never ends", e.read)
	}
	// What is right and as large as allowed is taken.
	s := open(t, Options{Max: max})
	if _, err := s.Add(t.Context(), iotest.OneByteReader(bytes.NewReader(right)), &rightID, Why{}); err != nil {
		t.Error(err)
	}
	check(t, s)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A blob that comes again is kept for both reasons, and an Own mark is never lost by that.
func TestAddAgain(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	b := []byte("again")
	id := add(t, s, b, Why{})
	for _, step := range []struct{ why, want Why }{
		{Why{Peer: someone(1)}, Why{Peer: someone(1)}},
		{Why{Author: someone(2), Peer: someone(3)}, Why{Author: someone(2), Peer: someone(1)}},
		{Why{Author: someone(4)}, Why{Author: someone(2), Peer: someone(1)}},
		{Why{Own: true}, Why{Own: true, Author: someone(2), Peer: someone(1)}},
		{Why{}, Why{Own: true, Author: someone(2), Peer: someone(1)}},
		{Why{Pinned: true}, Why{Own: true, Pinned: true, Author: someone(2), Peer: someone(1)}},
	} {
		add(t, s, b, step.why)
		for range 2 {
			if info, _ := s.Stat(id); info.Why != step.want {
				t.Errorf("%+v, want %+v", info.Why, step.want)
			}
			check(t, s)
			s = reopen(t, s)
		}
	}
	if err := s.Pin(id, false); err != nil {
		t.Error(err)
	}
	s = reopen(t, s)
	if info, _ := s.Stat(id); !info.Why.Own || info.Why.Pinned {
		t.Errorf("unpinned: %+v", info.Why)
	}
	if err := s.Pin(idOf([]byte("no")), true); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Ranges are read, at the same time, and from what was removed meanwhile, too.
func TestReader(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	b := make([]byte, 300_000)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	id := add(t, s, b, Why{})
	r, err := s.Read(id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for off := n * 100; off < len(b); off += 7777 {
				p := make([]byte, min(5000, len(b)-off))
				if _, err := r.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, b[off:off+len(p)]) {
					t.Errorf("bytes from %d on: %v", off, err)
				}
			}
		})
	}
	wg.Wait()
	if n, err := r.ReadAt(make([]byte, 10), r.Size()-3); n != 3 || err != io.EOF {
		t.Errorf("over the end: %d, %v", n, err)
	}
	f, err := s.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if runtime.GOOS != "windows" {
		if err := s.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := iotest.TestReader(f, b); err != nil {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Open(cancelled, id); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := s.Open(t.Context(), idOf([]byte("never"))); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Somebody else removes or changes files under a running store: what is gone is not there any more, and comes again.
func TestFilesChangedByOthers(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		"removed":  os.Remove,
		"cut":      func(path string) error { return os.Truncate(path, 3) },
		"a folder": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		for _, how := range []string{"read", "add"} {
			var told strings.Builder
			s := open(t, Options{Logger: slog.New(slog.NewTextHandler(&told, nil))})
			b := []byte("changed by others")
			id := add(t, s, b, Why{Own: true})
			if err := change(s.path(id)); err != nil {
				t.Fatal(err)
			}
			if !has(s, id) {
				t.Error("Stat looked at the disk")
			}
			if how == "read" {
				if _, err := s.Read(id); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: %v", name, err)
				}
				if has(s, id) {
					t.Errorf("%s: it is still there", name)
				}
			}
			add(t, s, b, Why{})
			if got := read(t, s, id); !bytes.Equal(got, b) {
				t.Errorf("%s, %s: %q", name, how, got)
			}
			check(t, s)
			if !strings.Contains(told.String(), "somebody else removed or changed a blob") {
				t.Errorf("%s, %s: the log was told %q", name, how, &told)
			}
		}
	}
}

// Open removes what does not belong there, tells it, and touches nothing else.
func TestOpenCleans(t *testing.T) {
	t.Parallel()
	var told strings.Builder
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	s := open(t, Options{})
	id := add(t, s, []byte("mine"), Why{Own: true})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dir := s.o.Dir
	hash := hex.EncodeToString(id[:])
	stranger := idOf([]byte("copied here"))
	bad := map[string]string{ // what is told of each
		"tmp/123":                              "half-written",
		"tmp/folder":                           "half-written",
		"tmp/link":                             "half-written",
		"known.new":                            "half-written",
		"sha256/file":                          "not a file of a blob",
		"sha256/zz":                            "not a name of a blob",
		"sha256/AB":                            "not a name of a blob",
		"sha256/abc":                           "not a name of a blob",
		"sha256/link":                          "a symbolic link",
		"sha256/00/short":                      "not a name of a blob",
		"sha256/00/" + strings.Repeat("0", 64): "not a name of a blob",
		"sha256/00/" + strings.Repeat("F", 62): "not a name of a blob",
		"sha256/00/" + strings.Repeat("0", 61) + ".":           "not a name of a blob",
		"sha256/01/" + strings.Repeat("1", 62):                 "a symbolic link",
		"sha256/02/" + strings.Repeat("2", 62):                 "not a file of a blob",
		"sha256/03/" + strings.Repeat("3", 62):                 "not the blob of its name",
		"sha256/" + hash[:2] + "/" + strings.ToUpper(hash[2:]): "not a name of a blob",
	}
	for name, why := range bad {
		path := filepath.Join(dir, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasSuffix(name, "link") || why == "a symbolic link":
			to := outside
			if strings.HasPrefix(name, "sha256/01/") {
				to = secret
			}
			err = os.Symlink(to, path)
		case name == "tmp/folder" || name == "sha256/zz" || name == "sha256/AB" || name == "sha256/abc" || strings.HasPrefix(name, "sha256/02/"):
			err = errors.Join(os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "in it"), nil, 0o600), os.Symlink(outside, filepath.Join(path, "away")))
		default:
			err = os.WriteFile(path, []byte("half"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(secret, []byte("secret"), 0o600), os.MkdirAll(s.folder(stranger[0]), 0o700),
		os.WriteFile(s.path(stranger), []byte("copied here"), 0o600),
		os.WriteFile(filepath.Join(dir, "push.json"), []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&told, nil))})
	for name, why := range bad {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
		if !slices.ContainsFunc(strings.Split(told.String(), "\n"), func(line string) bool {
			return strings.Contains(line, path+" ") && strings.Contains(line, why) && strings.Contains(line, "level=WARN")
		}) {
			t.Errorf("%s: the log is not told that it is %s", name, why)
		}
	}
	if lines := strings.Count(told.String(), "\n"); lines != len(bad)+1 || !strings.Contains(told.String(), "pinned") {
		t.Errorf("%d lines for %d files and one blob that was adopted:\n%s", lines, len(bad), &told)
	}
	check(t, s)
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("what a link led to: %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "push.json")); err != nil {
		t.Error(err)
	}
	if info, ok := s.Stat(id); !ok || !info.Why.Own {
		t.Errorf("%+v, %v", info, ok)
	}
	// What nothing is known of may be the only copy.
	if info, ok := s.Stat(stranger); !ok || !info.Why.Pinned || info.Size != 11 || info.Stored.IsZero() {
		t.Errorf("%+v, %v", info, ok)
	}
	told.Reset()
	s = reopen(t, s)
	if told.Len() > 0 {
		t.Errorf("a clean folder: %s", &told)
	}
	if info, ok := s.Stat(stranger); !ok || !info.Why.Pinned {
		t.Errorf("%+v, %v", info, ok)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Max: -1}, {Max: limit + 1}, {Budget: -1}} {
		o.Dir = t.TempDir()
		if _, err := Open(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	s := open(t, Options{Max: limit})
	if _, err := Open(Options{Dir: s.o.Dir}); err == nil || !strings.Contains(err.Error(), s.o.Dir) {
		t.Errorf("a second store in one folder: %v", err)
	}
	for _, name := range []string{"tmp", "sha256"} {
		dir := t.TempDir()
		if err := os.Symlink(t.TempDir(), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is a link: %v", name, err)
		}
	}
	// The whole folder may be elsewhere.
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: link})
	id := add(t, s, []byte("elsewhere"), Why{})
	if s = reopen(t, s); !has(s, id) {
		t.Error("it is not there")
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	id := add(t, s, []byte("hello"), Why{})
	reader, err := s.Read(id)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	receiving, err := s.Receive(idOf([]byte("late")), 4, Why{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(reader); err != nil || string(b) != "hello" {
		t.Errorf("an open file: %q, %v", b, err)
	}
	_, err = receiving.WriteAt([]byte("late"), 0)
	if err != nil {
		t.Error(err)
	}
	_, commit := receiving.Commit(t.Context())
	_, add := s.Add(t.Context(), strings.NewReader("x"), nil, Why{})
	_, read := s.Read(id)
	_, opened := s.Open(t.Context(), id)
	_, receive := s.Receive(idOf([]byte("x")), 1, Why{})
	for what, err := range map[string]error{"commit": commit, "add": add, "read": read, "open": opened, "receive": receive,
		"remove": s.Remove(id), "pin": s.Pin(id, true)} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for range s.Follow(t.Context(), false) {
		t.Error("something arrives in a closed store")
	}
	s = open(t, s.o)
	check(t, s)
}

// A follower is told of each blob once and in order, whenever it began, and holds few of them.
func TestFollow(t *testing.T) {
	t.Parallel()
	const n = 700
	s := open(t, Options{})
	var ids []identity.BlobID
	for i := range n {
		id := idOf(data(i, 20))
		ids = append(ids, id)
		if i < n/2 {
			s.mu.Lock()
			s.put(&record{id: id, size: 20, stored: int64(i)})
			s.mu.Unlock()
		}
	}
	pull, stop := iter.Pull(s.Follow(t.Context(), true))
	defer stop()
	for i := range 10 {
		if info, ok := pull(); !ok || info.ID != ids[i] {
			t.Fatalf("%d: %v, %v", i, info, ok)
		}
	}
	// Others leave and arrive while it rests, so many that the order is written anew.
	gone := map[identity.BlobID]bool{}
	s.mu.Lock()
	for i := 300; i < n/2; i++ {
		gone[ids[i]] = true
		s.take(s.slots[ids[i]])
	}
	for i := range 5000 {
		id := idOf(fmt.Append(nil, "passing", i))
		s.put(&record{id: id})
		s.take(s.slots[id])
	}
	if len(s.order) > 3000 {
		t.Errorf("the order of %d blobs has %d places", len(s.slots), len(s.order))
	}
	for i := n / 2; i < n-1; i++ {
		s.put(&record{id: ids[i], size: 20, stored: int64(i)})
	}
	s.mu.Unlock()
	for i := 10; i < n-1; i++ {
		if gone[ids[i]] && i >= 256 { // the first 256 it was told of already
			continue
		}
		if info, ok := pull(); !ok || info.ID != ids[i] {
			t.Fatalf("%d: %v, %v", i, info, ok)
		}
	}
	// It waits for what comes, and so does one that wants nothing old.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	live := make(chan Info)
	follow := s.Follow(ctx, false)
	go func() {
		defer close(live)
		for info := range follow {
			live <- info
		}
	}()
	add(t, s, data(n-1, 20), Why{Own: true})
	if info, ok := pull(); !ok || info.ID != ids[n-1] || !info.Why.Own {
		t.Errorf("live: %v, %v", info, ok)
	}
	if info := <-live; info.ID != ids[n-1] {
		t.Errorf("live only: %v", info)
	}
	cancel()
	if info, ok := <-live; ok {
		t.Errorf("after the end: %v", info)
	}
	s.Close()
	if info, ok := pull(); ok {
		t.Errorf("after Close: %v", info)
	}
	if u := s.Usage(); u.Free != math.MaxInt64 {
		t.Errorf("without a budget %d are free", u.Free)
	}
}

// The order of arrival is kept over a restart, and opening a blob does not change it.
func TestFollowAfterRestart(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_000)
	s := open(t, Options{Now: func() time.Time { return now }})
	var ids []identity.BlobID
	for i := range 20 {
		now = now.Add(time.Duration(i%2) * time.Millisecond) // two in one ms
		ids = append(ids, add(t, s, data(i, 10), Why{}))
	}
	now = now.Add(time.Hour)
	for _, i := range []int{3, 0, 7} {
		f, err := s.Open(t.Context(), ids[i])
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if err := s.Pin(ids[5], true); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		i := 0
		for info := range s.Follow(t.Context(), true) {
			if info.ID != ids[i] {
				t.Errorf("place %d: %s, want %s", i, info.ID, ids[i])
			}
			if i++; i == len(ids) {
				break
			}
		}
		s = reopen(t, s)
		check(t, s)
	}
}
