package log

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
)

// Everybody writes, reads and follows at once, and then the log is closed under them: each follower sees each message once and in
// order, what was answered is there after a restart, and nobody touches the store after Close.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	w := newWorld()
	know := func(author identity.ID, seq int64, key identity.MsgID) {
		mu.Lock()
		defer mu.Unlock()
		w.know(t, author, seq, key)
	}
	const each = 60
	var working, reading sync.WaitGroup
	for n := range byte(2) { // two local apps publish to one feed each, and both to a third
		for _, k := range []identity.KeyPair{key(1 + n), key(9)} {
			if err := l.Confirm(k.ID()); err != nil {
				t.Fatal(err)
			}
			working.Go(func() {
				for i := range each {
					m, err := l.Publish(k, fmt.Appendf(nil, `{"type":"post","n":%d}`, i))
					if err != nil {
						t.Error(err)
						return
					}
					know(m.Author(), m.Sequence(), m.Key())
				}
			})
		}
	}
	wr := &writer{k: key(20)}
	raws := wr.many(t, 10*each)
	for range 2 { // two peers bring the same feed, each at its own pace
		working.Go(func() {
			rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
			for at := 0; at < len(raws); {
				n := min(1+rng.IntN(30), len(raws)-at)
				results, err := l.Append(raws[at : at+n])
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range results {
					if r.Status != Stored && r.Status != Duplicate {
						t.Errorf("%d is %s: %v", r.Sequence, r.Status, r.Err)
					}
					know(r.Author, r.Sequence, r.Key)
				}
				at += n
			}
		})
	}
	seen := make([]map[Offset]identity.MsgID, 3)
	for i := range seen {
		seen[i] = map[Offset]identity.MsgID{}
		reading.Go(func() {
			next := Offset(0)
			for m, err := range l.Follow(context.Background(), 0) {
				if err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Errorf("follower %d ends with: %v", i, err)
					}
					return
				}
				if m.Offset() != next {
					t.Errorf("follower %d: offset %d after %d", i, m.Offset(), next)
				}
				next = m.Offset() + 1
				seen[i][m.Offset()] = m.Key()
				if g, err := l.Get(m.Key()); err == nil && g.Offset() != m.Offset() || err != nil && !errors.Is(err, ErrClosed) {
					t.Errorf("get %s: %v", m.Key(), err)
				}
			}
		})
	}
	for range 2 {
		reading.Go(func() {
			for {
				for id, head := range l.Heads() {
					n := int64(0)
					for _, err := range l.Feed(id, Range{To: head.Sequence}) {
						if errors.Is(err, ErrClosed) {
							return
						}
						if err != nil {
							t.Error(err)
							return
						}
						n++
					}
					if n != head.Sequence {
						t.Errorf("feed of %d has %d messages", head.Sequence, n)
					}
				}
			}
		})
	}
	working.Wait()
	// Some still write while the log is closed: they are refused, or what they were told is there.
	var late sync.WaitGroup
	more := wr.many(t, 200)
	late.Go(func() {
		for {
			m, err := l.Publish(key(1), []byte(`{"type":"late"}`))
			if err != nil {
				if !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				return
			}
			know(m.Author(), m.Sequence(), m.Key())
		}
	})
	late.Go(func() {
		for {
			for _, raw := range more {
				results, err := l.Append([][]byte{raw})
				if err != nil {
					if !errors.Is(err, ErrClosed) || len(results) != 0 {
						t.Errorf("%d results, %v", len(results), err)
					}
					return
				}
				know(results[0].Author, results[0].Sequence, results[0].Key)
			}
		}
	})
	for range 2 {
		late.Go(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	late.Wait()
	reading.Wait()
	l = open(t, Options{Dir: dir})
	w.check(t, l)
	checkStore(t, l)
	for i := range seen {
		if len(seen[i]) == 0 {
			t.Errorf("follower %d saw nothing", i)
		}
		for off, key := range seen[i] {
			if m, err := l.Get(key); err != nil || m.Offset() != off {
				t.Errorf("follower %d saw %s at %d: %v", i, key, off, err)
			}
		}
	}
}

// Two followers that stand still hold up nobody; when they go on, nothing is missing for them.
func TestSlowFollowersDelayNobody(t *testing.T) {
	t.Parallel()
	l := open(t, Options{})
	first, other := (&writer{k: key(1)}).many(t, 1), &writer{k: key(2)}
	appendAll(t, l, first...)
	goOn := make(chan struct{})
	stopped := make(chan struct{})
	var followers sync.WaitGroup
	const n = recentSize + 1024 // they find what they missed on disk, and then in memory
	for range 2 {
		followers.Go(func() {
			at := Offset(0)
			for m, err := range l.Follow(t.Context(), 0) {
				if err != nil {
					t.Error(err)
					return
				}
				if m.Offset() != at {
					t.Errorf("offset %d, want %d", m.Offset(), at)
					return
				}
				if at == 0 {
					stopped <- struct{}{}
					<-goOn
				}
				if at++; at == n+1 {
					return
				}
			}
		})
	}
	<-stopped
	<-stopped
	for at := 0; at < n; at += 512 {
		appendAll(t, l, other.many(t, 512)...)
	}
	quick := collect(t, l.Arrivals(0, false))
	if len(quick) != n+1 {
		t.Errorf("%d messages", len(quick))
	}
	close(goOn)
	followers.Wait()
}

// The evidence of a fork lies in the value log: a power cut may leave its key alone. Nobody was told of it then, and the log opens.
func TestLostEvidenceIsLeftOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{k: key(1)}
	raws := w.many(t, 2)
	appendAll(t, l, raws...)
	fork := (&writer{k: key(1)}).next(t, "another")
	for _, value := range []string{``, `{"feed`, `{"feed":"` + key(2).ID().String() + `"}`} {
		if err := l.db.Update(func(txn *badger.Txn) error { return txn.Set(forkKey(0), []byte(value)) }); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err = Open(Options{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		if f, ok := l.Forked(key(1).ID()); ok {
			t.Errorf("of %q became %+v", value, f)
		}
	}
	// Found again, it is kept again.
	if got := statuses(appendAll(t, l, raws[0], fork, w.next(t, "third"))); got != "duplicate fork fork" {
		t.Error(got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{Dir: dir})
	if f, ok := l.Forked(key(1).ID()); !ok || string(f.Value) != string(fork) {
		t.Errorf("evidence %+v %t", f, ok)
	}
}
