package blob

import (
	"errors"
	"strings"
	"testing"

	"charkha/identity"
)

// A budget can be made smaller and larger, or taken back, while the store is in use.
func TestSetBudget(t *testing.T) {
	t.Parallel()
	s := room(t, 0)
	var ids []identity.BlobID
	for n := range 10 {
		ids = append(ids, add(t, s, []byte{byte(n)}, byAuthor(100)))
	}
	own := add(t, s, []byte("mine"), Why{Own: true})
	for _, c := range []struct{ blocks, left int }{{20, 10}, {4, 4}, {100, 4}, {1, 1}, {0, 1}} {
		s.SetBudget(int64(c.blocks) * block)
		u := s.Usage()
		if u.Blobs != int64(c.left)+1 || u.Budget != int64(c.blocks)*block {
			t.Errorf("a budget of %d blocks: %+v, want %d blobs", c.blocks, u, c.left)
		}
	}
	if _, here := s.Stat(ids[9]); !here {
		t.Error("the newest one left")
	}
	if _, here := s.Stat(own); !here {
		t.Error("the own one left")
	}
	for n := range 50 {
		add(t, s, []byte{byte(n), 1}, byAuthor(100))
	}
	if u := s.Usage(); u.Blobs != 52 {
		t.Errorf("without a budget: %+v", u)
	}
}

// What nobody asked for has a bound of its own.
func TestAutoMax(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: quick(t), noSync: true, Max: 1000, AutoMax: 100})
	for _, c := range []struct {
		size int64
		why  Why
		want bool
	}{
		{100, byAuthor(100), true}, {101, byAuthor(100), false}, {-1, Why{}, true}, {101, Why{Asked: true}, true}, {1000, Why{Own: true}, true},
		{101, Why{Pinned: true}, true}, {1001, Why{Asked: true}, false},
	} {
		if got := s.Wants(identity.BlobID{1}, c.size, c.why); got != c.want {
			t.Errorf("%d bytes, %+v: %t", c.size, c.why, got)
		}
	}
	// Whoever waits for a blob is told what is in its way.
	for size, want := range map[int64]string{101: "for what nobody here asked for: 101 bytes, at most 100", 1001: "1001 bytes, at most 1000"} {
		if err := s.Objection(identity.BlobID{1}, size, byAuthor(100)); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v, want %s", size, err, want)
		}
	}
}
