package blob

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"testing"

	"charkha/identity"
)

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

func idOf(b []byte) identity.BlobID { return sha256.Sum256(b) }

// What was added is there, whole, after a restart, too.
func TestAddReadRemove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	b := bytes.Repeat([]byte("blob"), 100_000)
	info, err := s.Add(t.Context(), bytes.NewReader(b), nil, Why{Own: true})
	if err != nil || info.ID != idOf(b) || info.Size != int64(len(b)) {
		t.Fatal(info, err)
	}
	r, err := s.Receive(idOf([]byte("hello")), 5, Why{})
	if err != nil {
		t.Fatal(err)
	}
	r.WriteAt([]byte("lo"), 3)
	r.WriteAt([]byte("hel"), 0)
	if _, err := r.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f, err := s.Open(t.Context(), info.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, b) {
			t.Fatal(len(got), err)
		}
		f.Close()
		if st, ok := s.Stat(info.ID); !ok || !st.Why.Own {
			t.Error(st, ok)
		}
		s.Close()
		s = open(t, Options{Dir: dir})
	}
	if err := s.Remove(info.ID); err != nil {
		t.Error(err)
	}
	if _, err := s.Read(info.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
