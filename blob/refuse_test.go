package blob

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"charkha/identity"
)

// What is refused is not wanted by itself, also after the store was opened again, until it is refused no more.
func TestRefuse(t *testing.T) {
	t.Parallel()
	o := Options{Dir: quick(t), noSync: true}
	s := open(t, o)
	id, other := identity.BlobID{1}, identity.BlobID{2}
	check := func(want bool) {
		t.Helper()
		if s.Wants(id, 5, byAuthor(1)) != want || s.Wants(id, -1, Why{}) != want || s.Refused(id) == want {
			t.Errorf("wanted: %t, want %t", !want, want)
		}
		if !s.Wants(id, 5, Why{Asked: true}) || !s.Wants(other, 5, byAuthor(1)) {
			t.Error("asked for, or another one, and not wanted")
		}
	}
	check(true)
	for range 2 {
		if err := s.Refuse(id, true); err != nil {
			t.Fatal(err)
		}
	}
	check(false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Refuse(other, true); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed store: %v", err)
	}
	s = open(t, o)
	check(false)
	if err := errors.Join(s.Refuse(id, false), s.Refuse(other, false)); err != nil {
		t.Fatal(err)
	}
	check(true)
	if err := errors.Join(s.Refuse(id, true), s.Close()); err != nil {
		t.Fatal(err)
	}

	// A file that somebody edited: what is an id counts.
	if err := os.WriteFile(filepath.Join(o.Dir, "refused"), []byte("nonsense\r\n"+id.String()+"\r\n\n"+other.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	if !s.Refused(id) || !s.Refused(other) {
		t.Error("refused in the file, and not in the store")
	}
}

func TestRefusedAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: quick(t), noSync: true})
	for n := range refusedMost {
		s.refused = append(s.refused, identity.BlobID(sha256.Sum256(fmt.Append(nil, n))))
	}
	first := s.refused[0]
	if err := s.Refuse(identity.BlobID{1}, true); err != nil {
		t.Fatal(err)
	}
	if len(s.refused) != refusedMost || s.Refused(first) || !s.Refused(identity.BlobID{1}) {
		t.Errorf("%d are refused", len(s.refused))
	}
}

// When the disk fails, what was refused before stays so, and nothing is left behind.
func TestRefuseFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var fail string
	s := open(t, Options{Dir: quick(t), noSync: true, fault: func(step, path string, done bool) error {
		if step == fail && !done {
			return broken
		}
		return nil
	}})
	if err := s.Refuse(identity.BlobID{1}, true); err != nil {
		t.Fatal(err)
	}
	for _, fail = range []string{"write", "sync", "rename"} {
		if err := s.Refuse(identity.BlobID{2}, true); !errors.Is(err, broken) {
			t.Errorf("%s: %v", fail, err)
		}
		if s.Refused(identity.BlobID{2}) || !s.Refused(identity.BlobID{1}) {
			t.Errorf("%s: %v are refused", fail, s.refused)
		}
		if files, err := os.ReadDir(s.tmp); len(files) > 0 || err != nil {
			t.Errorf("%s: %v is left, %v", fail, files, err)
		}
	}
	fail = ""
}
