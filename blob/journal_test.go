package blob

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"charkha/identity"
)

func TestRecord(t *testing.T) {
	t.Parallel()
	for _, r := range []record{
		{},
		{id: identity.BlobID{1, 31: 2}, size: limit, stored: 1 << 62, opened: 1, own: true, pinned: true, author: someone(1), peer: someone(2)},
		{id: identity.BlobID{3}, size: 1, stored: 2, own: true},
		{id: identity.BlobID{4}, pinned: true},
	} {
		b := r.appendTo(nil)
		if got, err := parseRecord(b); err != nil || got != r || len(b) != recordSize {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
		for i := range b {
			b[i] ^= 1 << (i % 8)
			if _, err := parseRecord(b); err == nil {
				t.Errorf("byte %d is wrong, and was taken", i)
			}
			b[i] ^= 1 << (i % 8)
		}
		if _, err := parseRecord(b[:recordSize-1]); err == nil {
			t.Error("a short record was taken")
		}
	}
	r := record{size: limit + 1}
	if _, err := parseRecord(r.appendTo(nil)); err == nil {
		t.Error("too large a size was taken")
	}
}

// Records have the bytes that the doc says: what an older version wrote is read.
func TestRecordFormat(t *testing.T) {
	t.Parallel()
	r := record{id: identity.BlobID(bytes.Repeat([]byte{0xaa}, 32)), size: 5, stored: 0x0102030405060708, opened: 9, own: true,
		author: identity.ID(bytes.Repeat([]byte{0xbb}, 32)), peer: identity.ID(bytes.Repeat([]byte{0xcc}, 32))}
	want := "6201" + "0000" + "0000000000000005" + "0102030405060708" + "0000000000000009" +
		strings.Repeat("aa", 32) + strings.Repeat("bb", 32) + strings.Repeat("cc", 32)
	if got := hex.EncodeToString(r.appendTo(nil)); got[8:] != want {
		t.Errorf("%s, want %s", got[8:], want)
	}
}

// The file does not grow without bound, while the store runs or over restarts, and never says less than is known.
func TestRecordsAreWrittenAnew(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: quick(t), noSync: true, slack: 50})
	ids := map[identity.BlobID]bool{} // pinned
	for i := range 10 {
		ids[add(t, s, data(i, 10), Why{Own: i%2 == 0})] = false
	}
	for round := range 200 {
		for id := range ids {
			ids[id] = round%3 == 0
			if err := s.Pin(id, round%3 == 0); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.known.records(); n > 2*10+50+1 {
			t.Fatalf("%d records of 10 blobs", n)
		}
		if round%50 == 0 {
			s = reopen(t, s)
		}
	}
	s = reopen(t, s)
	for id, pinned := range ids {
		if info, ok := s.Stat(id); !ok || info.Why.Pinned != pinned {
			t.Errorf("%v, %+v", ok, info)
		}
	}
	if st, err := os.Stat(s.known.path); err != nil || st.Size() > 3*growth {
		t.Error(st.Size(), err)
	}
	check(t, s)
}

// When a blob was opened is kept by Close, and by a crash to the hour.
func TestOpenedIsKept(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_000)
	s := room(t, 2)
	s.o.Now = func() time.Time { return now }
	a, b := add(t, s, data(1, 10), byAuthor(100)), add(t, s, data(2, 10), byAuthor(100))
	now = now.Add(2 * time.Hour)
	f, err := s.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	crashed := quick(t)
	if err := os.CopyFS(crashed, os.DirFS(s.o.Dir)); err != nil {
		t.Fatal(err)
	}
	o := s.o
	o.Dir = crashed
	for _, s := range []*Store{reopen(t, s), open(t, o)} {
		add(t, s, data(3, 10), byAuthor(100))
		if !has(s, a) || has(s, b) {
			t.Errorf("opened: %v; not opened for longer: %v", has(s, a), has(s, b))
		}
		check(t, s)
	}
}

// Whatever is in the file of records: no blob is lost, and what nothing is known of any more stays.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	first := open(t, Options{Dir: quick(t), noSync: true})
	whys := map[identity.BlobID]Why{}
	for i := range 30 {
		why := byAuthor(i + 1)
		why.Own, why.Pinned = i%3 == 0, i%5 == 0
		whys[add(t, first, data(i, 20), why)] = why
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for round := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, round))
		dir := quick(t)
		if err := os.CopyFS(dir, os.DirFS(first.o.Dir)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "known")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		used := 31 * recordSize
		bad := map[int]bool{} // places of damaged records
		switch round % 5 {
		case 0:
			err = os.Remove(file)
			for i := range 31 {
				bad[i] = true
			}
		case 1:
			at := rng.IntN(used)
			err = os.Truncate(file, int64(at))
			for i := at / recordSize; i < 31; i++ {
				bad[i] = true
			}
		case 2: // noise behind the end
			for i := used; i < used+rng.IntN(2000); i++ {
				b[i] = byte(rng.Uint32())
			}
			err = os.WriteFile(file, b, 0o600)
		default:
			for range 1 + rng.IntN(5) {
				at := rng.IntN(used)
				b[at] ^= byte(1 + rng.IntN(255))
				bad[at/recordSize] = true
			}
			err = os.WriteFile(file, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		var told strings.Builder
		for range 2 {
			s := open(t, Options{Dir: dir, noSync: true, Logger: slog.New(slog.NewTextHandler(&told, nil))})
			check(t, s)
			unknown := 0
			for id, why := range whys {
				info, ok := s.Stat(id)
				if !ok {
					t.Errorf("round %d: a blob is lost", round)
					continue
				}
				if info.Why != why {
					unknown++
					if info.Why != (Why{Pinned: true}) {
						t.Errorf("round %d: %+v became %+v", round, why, info.Why)
					}
				}
			}
			delete(bad, 0)
			if unknown > len(bad) {
				t.Errorf("round %d: nothing is known of %d blobs, %d records are damaged", round, unknown, len(bad))
			}
			if unknown > 0 && !strings.Contains(told.String(), "pinned") {
				t.Errorf("round %d: the log was told %q", round, &told)
			}
			add(t, s, fmt.Append(nil, "more", round), Why{})
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A file of a later version is not touched.
func TestLaterVersion(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	add(t, s, []byte("x"), Why{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.known.path)
	if err != nil {
		t.Fatal(err)
	}
	head := appendVersionOf(nil, formatVersion+1)
	copy(b, head)
	if err := os.WriteFile(s.known.path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.o); err == nil || !strings.Contains(err.Error(), "later") {
		t.Error(err)
	}
	if again, err := os.ReadFile(s.known.path); err != nil || !bytes.Equal(again, b) {
		t.Error("it was changed")
	}
	if err := os.Remove(s.known.path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.known.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.o); err == nil {
		t.Error("a folder in its place was taken")
	}
}

// A file that only says that it is one, as a crash may leave it.
func TestEmptyRecords(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{nil, make([]byte, 5), make([]byte, growth), appendVersion(nil)} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "known"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, Options{Dir: dir})
		id := add(t, s, []byte("x"), Why{Own: true})
		if s = reopen(t, s); !has(s, id) {
			t.Errorf("after %d bytes: it is not there", len(b))
		}
	}
}

func FuzzRecord(f *testing.F) {
	r := record{id: identity.BlobID{1}, size: 5, stored: 6, opened: 7, own: true, author: someone(1), peer: someone(2)}
	f.Add(r.appendTo(nil))
	f.Add(appendVersion(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			if r != (record{}) || !errors.Is(err, errRecord) {
				t.Errorf("%+v, %v", r, err)
			}
			return
		}
		if !bytes.Equal(r.appendTo(nil), b) {
			t.Error("another record says the same")
		}
	})
}

// What stands in the file is read up to its end, in memory that does not depend on it, and what is right in it is found.
func FuzzJournal(f *testing.F) {
	r := record{id: identity.BlobID{1}, size: 5}
	f.Add([]byte{}, []byte{})
	f.Add(appendVersion(nil), bytes.Repeat([]byte{1}, 3*recordSize))
	f.Add(r.appendTo(appendVersion(nil)), make([]byte, 5000))
	f.Fuzz(func(t *testing.T, before, after []byte) {
		before = append(before, make([]byte, (recordSize-len(before)%recordSize)%recordSize)...)
		mine := record{id: identity.BlobID{7}, size: 77, stored: 777}
		b := append(mine.appendTo(bytes.Clone(before)), after...)
		found := 0
		end, bad, err := readJournal(bytes.NewReader(b), func(r record) {
			if r == mine {
				found++
			}
		})
		if err != nil {
			return // another version
		}
		if found == 0 || end < int64(len(before)+recordSize) || end > int64(len(b)) || end%recordSize != 0 || bad > len(b)/recordSize+1 {
			t.Errorf("found %d, end %d of %d, bad %d", found, end, len(b), bad)
		}
	})
}

// A name is that of one blob, and no two names of the same are taken.
func FuzzName(f *testing.F) {
	f.Add("ab", strings.Repeat("cd", 31))
	f.Add("AB", strings.Repeat("CD", 31))
	f.Add("..", "../../secret")
	f.Add("00", strings.Repeat("0", 61)+"\x00")
	s := &Store{o: Options{Dir: "dir"}}
	f.Fuzz(func(t *testing.T, folder, name string) {
		b, ok := parseFolder(folder)
		if ok && s.folder(b) != filepath.Join("dir", "sha256", folder) {
			t.Errorf("folder %q is that of %x", folder, b)
		}
		id, named := parseName(b, name)
		if ok && named && s.path(id) != filepath.Join("dir", "sha256", folder, name) {
			t.Errorf("%q in %q is that of %x", name, folder, id)
		}
		if named && (len(name) != 62 || strings.ContainsAny(name, "/\\.")) {
			t.Errorf("%q was taken", name)
		}
	})
}
