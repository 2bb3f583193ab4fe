package blob

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// large returns a store in which blobs of 8 blocks are large, and what is written of them is noted. Where the file system cannot be
// written past the page cache, they are written as if it could.
func large(t *testing.T, fault func(path string) error) (s *Store, writes func() int) {
	var mu sync.Mutex
	n := 0
	s = open(t, Options{Dir: t.TempDir(), bulkFrom: 8 * block, bulkSize: 4 * block, direct: directOrPlain, fault: func(step, path string, done bool) error {
		mu.Lock()
		defer mu.Unlock()
		if step != "write" || filepath.Base(filepath.Dir(path)) != "tmp" {
			return nil
		}
		if done {
			n++
		}
		return fault(path)
	}})
	return s, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

func noFault(string) error { return nil }

func directOrPlain(path string) (*os.File, error) {
	if f, err := openDirect(path); err == nil {
		return f, nil
	}
	return os.OpenFile(path, os.O_WRONLY, 0)
}

// Where the file system does not allow it, a large blob is written as any other.
func TestLargeBlobWithoutDirect(t *testing.T) {
	t.Parallel()
	s, writes := large(t, noFault)
	s.o.direct = func(string) (*os.File, error) { return nil, errors.ErrUnsupported }
	b := data(5, 10*block+100)
	r := receive(t, s, idOf(b), len(b))
	write(t, r, b[:len(b)/2], 0)
	write(t, r, b[len(b)/2:], int64(len(b)/2))
	commit(t, s, r, b)
	if n := writes(); n != 2 {
		t.Errorf("%d writes", n)
	}
}

func commit(t *testing.T, s *Store, r *Receiving, b []byte) {
	t.Helper()
	if _, err := r.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(s.path(idOf(b))); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(b))
	}
	if len(s.bulks) != 0 {
		t.Errorf("%d buffers are kept", len(s.bulks))
	}
}

// What comes in order is written in large pieces, and the last bytes, which are no whole block, by themselves.
func TestLargeBlobInOrder(t *testing.T) {
	t.Parallel()
	s, writes := large(t, noFault)
	b := data(1, 10*block+100)
	r := receive(t, s, idOf(b), len(b))
	for at := 0; at < len(b); at += 1000 {
		write(t, r, b[at:min(at+1000, len(b))], int64(at))
	}
	commit(t, s, r, b)
	if n := writes(); n != 4 { // of 4, 4 and 2 blocks, and of 100 bytes
		t.Errorf("%d writes", n)
	}
}

// A gap ends a piece; what comes after it begins within a block.
func TestLargeBlobWithGap(t *testing.T) {
	t.Parallel()
	s, _ := large(t, noFault)
	b := data(2, 12*block)
	r := receive(t, s, idOf(b), len(b))
	for _, p := range [][2]int{{0, 5000}, {6000, 7000}, {5000, 6000}, {7000, 30_000}, {40_000, len(b)}, {30_000, 40_000}} {
		write(t, r, b[p[0]:p[1]], int64(p[0]))
	}
	commit(t, s, r, b)
}

// A file system may refuse when it is written what it allowed when the file was opened.
func TestLargeBlobRefused(t *testing.T) {
	t.Parallel()
	refused := 0
	s, _ := large(t, func(string) error {
		if refused++; refused == 1 {
			return syscall.EINVAL
		}
		return nil
	})
	b := data(3, 12*block+1)
	r := receive(t, s, idOf(b), len(b))
	write(t, r, b, 0)
	commit(t, s, r, b)
	if refused < 2 {
		t.Errorf("%d writes", refused)
	}
}

// A full disk is told by the write that meets it or by Commit, and nothing is left behind.
func TestLargeBlobOnFullDisk(t *testing.T) {
	t.Parallel()
	for fits := range 4 {
		n := 0
		s, _ := large(t, func(string) error {
			if n++; n > 2*fits {
				return syscall.ENOSPC
			}
			return nil
		})
		b := data(4, 10*block+100)
		r := receive(t, s, idOf(b), len(b))
		_, err := r.WriteAt(b, 0)
		if err == nil {
			_, err = r.Commit(t.Context())
		} else {
			r.Abort()
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%d writes fit: %v", fits, err)
		}
		if files, _ := os.ReadDir(s.tmp); len(files) != 0 || len(s.bulks) != 0 {
			t.Errorf("%d writes fit: %d files and %d buffers are left", fits, len(files), len(s.bulks))
		}
	}
}

// Of many large blobs at once a few have a buffer: a remote cannot have more taken.
func TestManyLargeBlobs(t *testing.T) {
	t.Parallel()
	s, _ := large(t, noFault)
	var all []*Receiving
	var blobs [][]byte
	buffers := 0
	for i := range 3 * maxBulks {
		b := data(10+i, 9*block)
		r := receive(t, s, idOf(b), len(b))
		if r.bulk != nil {
			buffers++
		}
		write(t, r, b, 0)
		all, blobs = append(all, r), append(blobs, b)
	}
	if buffers > maxBulks {
		t.Errorf("%d buffers", buffers)
	}
	for i, r := range all {
		if _, err := r.Commit(t.Context()); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(s.path(idOf(blobs[i]))); err != nil || !bytes.Equal(got, blobs[i]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	if len(s.bulks) != 0 {
		t.Errorf("%d buffers are kept", len(s.bulks))
	}
}
