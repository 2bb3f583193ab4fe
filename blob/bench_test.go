package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"charkha/identity"
)

// manyBlobs makes the folder of a store of n small blobs of some thousand authors, which Open takes for what a store made.
func manyBlobs(t testing.TB, dir string, n int) {
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		b := binary.BigEndian.AppendUint64(nil, uint64(i))
		id := identity.BlobID(sha256.Sum256(b))
		r := record{id: id, size: 8, stored: int64(i), author: someone(1 + i%5000), peer: someone(1 + i%7)}
		if err := s.known.append(&r, false); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(s.folder(id[0]), 0o700), os.WriteFile(s.path(id), b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// How long Open takes for many blobs, and how much memory they need.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1000, 300_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			manyBlobs(b, dir, n)
			var before, after runtime.MemStats
			var size float64
			for b.Loop() {
				b.StopTimer()
				runtime.GC()
				runtime.ReadMemStats(&before)
				b.StartTimer()
				s, err := Open(Options{Dir: dir})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				runtime.GC()
				runtime.GC()
				runtime.ReadMemStats(&after)
				size = float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
				if u := s.Usage(); u.Blobs != int64(n) {
					b.Fatal(u.Blobs)
				}
				s.Close()
				b.StartTimer()
			}
			b.ReportMetric(size, "B/blob")
		})
	}
}

// A small blob that comes into a full store, so that another one leaves.
func BenchmarkEvict(b *testing.B) {
	const n = 100_000
	dir := b.TempDir()
	manyBlobs(b, dir, n)
	s, err := Open(Options{Dir: dir, Budget: cost(8) * n, Max: 8, Rank: func(identity.ID) int { return 1 }})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	i := n
	for b.Loop() {
		data := binary.BigEndian.AppendUint64(nil, uint64(i))
		if _, err := s.Add(context.Background(), bytes.NewReader(data), nil, Why{Author: someone(1 + i%5000)}); err != nil {
			b.Fatal(err)
		}
		i++
	}
	if s.Usage().Evicted == 0 {
		b.Fatal("nothing left")
	}
}

// Whether a blob would find room in a full store of 5000 authors.
func BenchmarkWants(b *testing.B) {
	const n = 100_000
	dir := b.TempDir()
	manyBlobs(b, dir, n)
	s, err := Open(Options{Dir: dir, Budget: cost(8) * n, Max: 8, Rank: func(identity.ID) int { return 1 }})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		if !s.Wants(identity.BlobID{1}, 8, Why{Author: someone(3)}) {
			b.Fatal("no")
		}
	}
}

func BenchmarkAddSmall(b *testing.B) {
	s, err := Open(Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	i := 0
	for b.Loop() {
		data := make([]byte, 1000)
		binary.BigEndian.PutUint64(data, uint64(i))
		if _, err := s.Add(context.Background(), bytes.NewReader(data), nil, Why{Own: true}); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// 50 MiB in pieces as a connection brings them.
func BenchmarkReceive(b *testing.B) {
	const size = 50 << 20
	s, err := Open(Options{Dir: b.TempDir(), Max: size})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	data := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{})
	io.ReadFull(rng, data)
	id := idOf(data)
	b.SetBytes(size)
	var commit time.Duration
	for b.Loop() {
		r, err := s.Receive(id, size, Why{})
		if err != nil {
			b.Fatal(err)
		}
		for off := 0; off < size; off += 64 << 10 {
			if _, err := r.WriteAt(data[off:off+64<<10], int64(off)); err != nil {
				b.Fatal(err)
			}
		}
		start := time.Now()
		if _, err := r.Commit(context.Background()); err != nil {
			b.Fatal(err)
		}
		commit += time.Since(start)
		if err := s.Remove(id); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(commit.Milliseconds())/float64(b.N), "ms/commit")
	if files, _ := filepath.Glob(filepath.Join(s.tmp, "*")); len(files) > 0 {
		b.Fatal(files)
	}
}
