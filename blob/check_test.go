package blob

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"charkha/identity"
)

// rot changes one byte of the file of a blob.
func rot(t *testing.T, s *Store, id identity.BlobID) (damaged []byte) {
	t.Helper()
	damaged, err := os.ReadFile(s.path(id))
	if err != nil {
		t.Fatal(err)
	}
	damaged[len(damaged)/2] ^= 1
	if err := os.WriteFile(s.path(id), damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	return damaged
}

func TestCheckSetsDamagedBlobsAside(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: quick(t)})
	good := add(t, s, data(1, 3*block), Why{Own: true})
	own := add(t, s, data(2, 2*block), Why{Own: true})
	foreign := add(t, s, data(3, 100), byAuthor(1))
	o := s.o
	damaged := map[identity.BlobID][]byte{own: rot(t, s, own), foreign: rot(t, s, foreign)}
	s = reopen(t, s)
	if !has(s, own) || !has(s, foreign) {
		t.Error("without a check, what a file holds is looked at")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o.Check = true
	s = open(t, o)
	check(t, s)
	if !has(s, good) || !bytes.Equal(read(t, s, good), data(1, 3*block)) {
		t.Error("a good blob is not there any more")
	}
	for id, want := range damaged {
		if has(s, id) {
			t.Errorf("%s is damaged, and there", id)
		}
		if got, err := os.ReadFile(filepath.Join(o.Dir, "damaged", hex.EncodeToString(id[:]))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("what is left of %s was not kept: %v", id, err)
		}
	}
	if u := s.Usage(); u.Blobs != 1 {
		t.Errorf("%d blobs count, want 1", u.Blobs)
	}
	add(t, s, data(2, 2*block), byAuthor(2))
	if got := read(t, s, own); idOf(got) != own {
		t.Error("what was damaged did not come again")
	}
}

// What is known of blobs may be damaged, too: then nothing tells that a rotten one was the user's own.
func TestCheckWithoutRecords(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: quick(t)})
	good, bad := add(t, s, data(1, 100), Why{Own: true}), add(t, s, data(2, 100), Why{Own: true})
	want := rot(t, s, bad)
	o := s.o
	if err := errors.Join(s.Close(), os.Remove(filepath.Join(o.Dir, "known"))); err != nil {
		t.Fatal(err)
	}
	o.Check = true
	s = open(t, o)
	check(t, s)
	if !has(s, good) || has(s, bad) {
		t.Errorf("the good one is there: %v, the damaged one: %v", has(s, good), has(s, bad))
	}
	if got, err := os.ReadFile(filepath.Join(o.Dir, "damaged", hex.EncodeToString(bad[:]))); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what is left was not kept: %v", err)
	}
}

// A blob that is set aside may fail to be, at any step: it stays damaged where it is or is gone, and good ones stay.
func TestCheckFails(t *testing.T) {
	t.Parallel()
	for step := 0; ; step++ {
		s := open(t, Options{Dir: quick(t)})
		good, bad := add(t, s, data(1, 100), Why{Own: true}), add(t, s, data(2, 100), Why{Own: true})
		rot(t, s, bad)
		o := s.o
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		o.Check = true
		left, failed := step, false
		o.fault = func(string, string, bool) error {
			if left--; left == -1 {
				failed = true
				return errFault
			}
			return nil
		}
		s, err := Open(o)
		if err == nil {
			err = s.Close()
		}
		if failed && !errors.Is(err, errFault) {
			t.Errorf("step %d failed, and Open said %v", step, err)
		}
		o.fault = nil
		s = open(t, o)
		check(t, s)
		if !has(s, good) || has(s, bad) {
			t.Errorf("step %d failed, and then the good one is there: %v, the damaged one: %v", step, has(s, good), has(s, bad))
		}
		if !failed {
			if step < 6 {
				t.Errorf("only %d steps", step)
			}
			return
		}
	}
}
