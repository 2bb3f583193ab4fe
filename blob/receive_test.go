package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"

	"charkha/identity"
)

func receive(t testing.TB, s *Store, id identity.BlobID, size int) *Receiving {
	t.Helper()
	r, err := s.Receive(id, int64(size), Why{Peer: someone(1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Abort)
	return r
}

// Pieces come in any order from several goroutines, some twice: the blob is whole, and hashed when the last byte came.
func TestReceivePieces(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, round))
		s := open(t, Options{Dir: quick(t), noSync: true, bulkFrom: 500_000, bulkSize: block << rng.IntN(6)})
		b := make([]byte, 1+rng.IntN(1_000_000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		r := receive(t, s, idOf(b), len(b))
		var pieces []span
		for at := 0; at < len(b); {
			to := min(at+1+rng.IntN(50_000), len(b))
			pieces = append(pieces, span{from: int64(at), to: int64(to)})
			if rng.IntN(4) == 0 { // again, and some of its neighbours
				pieces = append(pieces, span{from: int64(max(0, at-rng.IntN(60_000))), to: int64(min(to+rng.IntN(60_000), len(b)))})
			}
			at = to
		}
		if round%3 > 0 {
			rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		}
		var wg sync.WaitGroup
		const writers = 4
		for n := range writers {
			wg.Go(func() {
				for i := n; i < len(pieces); i += writers {
					p := bytes.Clone(b[pieces[i].from:pieces[i].to])
					if n, err := r.WriteAt(p, pieces[i].from); n != len(p) || err != nil {
						t.Errorf("%d, %v", n, err)
					}
					clear(p) // it is not kept
				}
			})
		}
		wg.Wait()
		if r.hashed != int64(len(b)) || len(r.spans) != 1 {
			t.Errorf("all came, %d of %d bytes are hashed, %d spans", r.hashed, len(b), len(r.spans))
		}
		info, err := r.Commit(t.Context())
		if err != nil || info.Size != int64(len(b)) || info.Why.Peer != someone(1) {
			t.Fatal(info, err)
		}
		if !bytes.Equal(read(t, s, info.ID), b) {
			t.Error("the file holds something else")
		}
		check(t, s)
	}
}

// Two peers send the same ranges, and one of them lies: either the blob is right, or it is refused. What was hashed is never
// something else than what is stored.
func TestReceiveFromALiar(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	stored, refused := 0, 0
	for round := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, round))
		s := open(t, Options{Dir: quick(t), noSync: true})
		b := data(int(round), 1+rng.IntN(200_000))
		r := receive(t, s, idOf(b), len(b))
		lie := bytes.Clone(b)
		lie[rng.IntN(len(lie))] ^= 1
		var wg sync.WaitGroup
		for i, content := range [][]byte{b, lie} {
			step := 1 + rng.IntN(30_000)
			if i == 1 && round%2 == 0 { // the liar begins elsewhere
				content = content[:len(content)/2]
			}
			wg.Go(func() {
				for at := 0; at < len(content); at += step {
					p := content[at:min(at+step, len(content))]
					if _, err := r.WriteAt(p, int64(at)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		switch info, err := r.Commit(t.Context()); {
		case err == nil:
			stored++
			if !bytes.Equal(read(t, s, info.ID), b) {
				t.Error("a lie was stored")
			}
		case errors.Is(err, ErrWrongHash):
			refused++
			if has(s, idOf(b)) {
				t.Error("refused, and there")
			}
		default:
			t.Error(err)
		}
		check(t, s)
	}
	t.Logf("%d stored, %d refused", stored, refused)
}

// What is refused leaves nothing behind, whatever is called in whatever order.
func TestReceiveRefuses(t *testing.T) {
	t.Parallel()
	const size = 1000
	b := data(1, size)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name  string
		write func(t *testing.T, r *Receiving)
		ctx   context.Context
		err   error
		says  string
	}{
		{name: "nothing came", write: func(*testing.T, *Receiving) {}, err: io.ErrUnexpectedEOF, says: "bytes 0 to 1000"},
		{name: "the beginning is missing", write: func(t *testing.T, r *Receiving) { write(t, r, b[10:], 10) }, err: io.ErrUnexpectedEOF, says: "bytes 0 to 10 "},
		{name: "a hole", write: func(t *testing.T, r *Receiving) { write(t, r, b[:400], 0); write(t, r, b[500:], 500) }, err: io.ErrUnexpectedEOF, says: "bytes 400 to 500"},
		{name: "the end is missing", write: func(t *testing.T, r *Receiving) { write(t, r, b[:999], 0) }, err: io.ErrUnexpectedEOF, says: "bytes 999 to 1000"},
		{name: "wrong bytes", write: func(t *testing.T, r *Receiving) { write(t, r, data(2, size), 0) }, err: ErrWrongHash},
		{name: "cancelled", write: func(t *testing.T, r *Receiving) { write(t, r, b, 0) }, ctx: cancelled, err: context.Canceled},
		{name: "too much", write: func(t *testing.T, r *Receiving) {
			for _, off := range []int64{1, size, size + 1, -1, 1 << 62} {
				if n, err := r.WriteAt(b, off); n != 0 || !errors.Is(err, ErrTooLarge) {
					t.Errorf("at %d: %d, %v", off, n, err)
				}
			}
		}, err: io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, Options{Budget: 100_000})
			r := receive(t, s, idOf(b), size)
			if free := s.Usage().Free; free != 100_000-cost(size) {
				t.Errorf("while it comes %d bytes are free", free)
			}
			c.write(t, r)
			if c.ctx == nil {
				c.ctx = t.Context()
			}
			_, err := r.Commit(c.ctx)
			if !errors.Is(err, c.err) || !bytes.Contains([]byte(err.Error()), []byte(c.says)) {
				t.Errorf("%v, want %v %s", err, c.err, c.says)
			}
			check(t, s)
			r.Abort()
			if _, err := r.WriteAt(b[:1], 0); !errors.Is(err, os.ErrClosed) {
				t.Errorf("written after its end: %v", err)
			}
			if _, err := r.Commit(t.Context()); !errors.Is(err, os.ErrClosed) {
				t.Errorf("a second commit: %v", err)
			}
			check(t, s)
			if len(s.people.numbers) > 0 {
				t.Error("somebody is still counted")
			}
		})
	}
	s := open(t, Options{Max: 10})
	for _, size := range []int64{-1, 11, 1 << 62} {
		if _, err := s.Receive(idOf(b), size, Why{}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if size > 0 && s.Wants(idOf(b), size, Why{}) {
			t.Errorf("%d bytes are wanted", size)
		}
	}
	check(t, s)
}

func write(t testing.TB, r *Receiving, p []byte, off int64) {
	t.Helper()
	if n, err := r.WriteAt(p, off); n != len(p) || err != nil {
		t.Error(n, err)
	}
}

// An abort while others write, and after a commit, which it does not touch.
func TestAbort(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	b := data(1, 300_000)
	r := receive(t, s, idOf(b), len(b))
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for at := n * 1000; at < len(b); at += 4000 {
				if _, err := r.WriteAt(b[at:at+1000], int64(at)); err != nil {
					if !errors.Is(err, os.ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	r.Abort()
	wg.Wait()
	check(t, s)
	r = receive(t, s, idOf(b), len(b))
	if _, err := s.Receive(idOf(b), 5, Why{}); err != nil {
		t.Errorf("a second one, of another size: %v", err)
	} // it is left as it is: half-written
	write(t, r, b, 0)
	if _, err := r.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	r.Abort()
	if !bytes.Equal(read(t, s, idOf(b)), b) {
		t.Error("it is not there")
	}
	if _, err := s.Receive(idOf(b), int64(len(b)), Why{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("it is there: %v", err)
	}
	if s.Wants(idOf(b), int64(len(b)), Why{}) {
		t.Error("what is there is wanted")
	}
	s = reopen(t, s)
	check(t, s) // what was left half-written is gone
}

// The blob came from elsewhere meanwhile.
func TestReceiveWhatCameMeanwhile(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Budget: 1 << 20})
	b := []byte("from two sides")
	r := receive(t, s, idOf(b), len(b))
	again := receive(t, s, idOf(b), len(b))
	add(t, s, b, Why{Own: true})
	for _, r := range []*Receiving{r, again} {
		write(t, r, b, 0)
		if info, err := r.Commit(t.Context()); err != nil || !info.Why.Own || info.Why.Peer != someone(1) {
			t.Error(info, err)
		}
	}
	check(t, s)
}

// An empty blob is complete at once.
func TestReceiveNothing(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	r := receive(t, s, idOf(nil), 0)
	if _, err := r.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	r, err := s.Receive(idOf([]byte("x")), 0, Why{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Commit(t.Context()); !errors.Is(err, ErrWrongHash) {
		t.Error(err)
	}
	check(t, s)
}

// Not even all that is allocated, and collected again, comes near the size of a blob.
func TestLargeBlobsInLittleMemory(t *testing.T) {
	const size = 20 << 20
	s := open(t, Options{Max: size})
	big := io.LimitReader(&endless{}, size) // zeros
	piece := make([]byte, 64<<10)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	whole, err := s.Add(t.Context(), big, nil, Why{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(whole.ID); err != nil {
		t.Fatal(err)
	}
	r := receive(t, s, whole.ID, size)
	for off := size / 2; off >= 0; off -= size / 2 { // the second half first
		for at := range size / 2 / len(piece) {
			write(t, r, piece, int64(off+at*len(piece)))
		}
	}
	if _, err := r.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := s.Read(whole.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{f}, piece); n != size || err != nil {
		t.Error(n, err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 2<<20 {
		t.Errorf("%d bytes were allocated for a blob of %d", n, size)
	}
}
