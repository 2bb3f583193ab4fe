package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"charkha/identity"
)

// Everybody adds, receives, reads, pins, removes and evicts the same few blobs at once, records are written anew, and then the
// store is closed under them: what is read is always whole, sums are right, and what nobody may remove stays.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: quick(t), noSync: true, Max: 4 * block, Budget: 20 * block, Rank: hops, slack: 10})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const kinds = 30
	var contents [kinds][]byte
	for i := range contents {
		contents[i] = data(i, 1+i*500)
	}
	// Of these nothing leaves but by Remove, which nobody calls.
	var fixed []identity.BlobID
	for i := range 5 {
		fixed = append(fixed, add(t, s, data(100+i, 1000), Why{Own: true, Author: someone(300)}))
	}
	mine := add(t, s, data(200, block), byAuthor(1)) // no other is as near
	var reads, evicted atomic.Int64
	fine := func(what string, err error, allowed ...error) {
		for _, a := range append(allowed, os.ErrClosed) {
			if errors.Is(err, a) {
				return
			}
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	var working, following sync.WaitGroup
	for worker := range 8 {
		working.Go(func() {
			rng := rand.New(rand.NewPCG(rand.Uint64(), uint64(worker)))
			for range 250 {
				n := rng.IntN(kinds)
				b, id := contents[n], idOf(contents[n])
				why := byAuthor([]int{101, 200, 300, 900}[rng.IntN(4)])
				switch rng.IntN(8) {
				case 0, 1:
					_, err := s.Add(ctx, bytes.NewReader(b), &id, why)
					fine("add", err, ErrFull)
				case 2:
					r, err := s.Receive(id, int64(len(b)), why)
					fine("receive", err, ErrFull, fs.ErrExist)
					if err != nil {
						continue
					}
					var wg sync.WaitGroup
					for part := range 3 {
						wg.Go(func() {
							from, to := len(b)*part/3, len(b)*(part+1)/3
							_, err := r.WriteAt(b[from:to], int64(from))
							fine("write", err)
						})
					}
					wg.Wait()
					if rng.IntN(4) == 0 {
						r.Abort()
						continue
					}
					_, err = r.Commit(ctx)
					fine("commit", err, ErrFull)
				case 3, 4:
					var r io.ReadCloser
					var err error
					if rng.IntN(2) == 0 {
						r, err = s.Open(ctx, id)
					} else {
						r, err = s.Read(id)
					}
					fine("read", err, fs.ErrNotExist)
					if err != nil {
						continue
					}
					got, err := io.ReadAll(r)
					if err != nil || !bytes.Equal(got, b) {
						t.Errorf("read %d bytes of %d: %v", len(got), len(b), err)
					}
					reads.Add(1)
					r.Close()
				case 5:
					fine("remove", s.Remove(id), fs.ErrNotExist)
				case 6:
					fine("pin", s.Pin(id, rng.IntN(4) == 0), fs.ErrNotExist)
				case 7:
					s.Wants(id, int64(len(b)), why)
					s.Usage()
					for range s.All() {
					}
					s.Trim()
				}
			}
		})
	}
	for range 2 {
		following.Go(func() {
			for info := range s.Follow(ctx, true) {
				if info.Size == 0 {
					t.Errorf("%+v", info)
				}
			}
		})
	}
	working.Wait()
	evicted.Store(s.Usage().Evicted)
	s.Trim()
	check(t, s)
	within(t, s)
	for _, id := range append(fixed, mine) {
		if idOf(read(t, s, id)) != id {
			t.Error("what may not leave is damaged")
		}
	}
	if reads.Load() == 0 || evicted.Load() == 0 {
		t.Errorf("%d reads, %d left", reads.Load(), evicted.Load())
	}
	// Closed under them.
	for range 4 {
		working.Go(func() {
			for i := 0; ; i++ {
				if _, err := s.Add(ctx, bytes.NewReader(fmt.Append(nil, rand.Uint64())), nil, byAuthor(200)); err != nil {
					fine("add", err, ErrFull)
					return
				}
			}
		})
	}
	for s.Usage().Evicted < evicted.Load()+20 {
		_, err := s.Add(ctx, bytes.NewReader(fmt.Append(nil, rand.Uint64())), nil, byAuthor(300))
		fine("add", err, ErrFull)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	working.Wait()
	following.Wait() // followers end with the store
	s = open(t, s.o)
	check(t, s)
	for _, id := range append(fixed, mine) {
		if !has(s, id) {
			t.Error("what may not leave left")
		}
	}
}

// Many add the same blob at once: all are told that it is there, once.
func TestTheSameAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	b := data(1, 50_000)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := s.Add(t.Context(), bytes.NewReader(b), nil, Why{Own: i == 5, Pinned: i == 6}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if info, ok := s.Stat(idOf(b)); !ok || !info.Why.Own || !info.Why.Pinned || s.Usage().Blobs != 1 {
		t.Errorf("%v, %+v", ok, info)
	}
	check(t, s)
}
