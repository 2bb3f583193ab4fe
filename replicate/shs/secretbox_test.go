package shs

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/crypto/nacl/secretbox"
)

// Our boxes are those of golang.org/x/crypto, of all lengths; each opens the other's, and nothing that was changed.
func TestSecretbox(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{1})
	lengths := []int{0, 1, 16, 31, 32, 33}
	for n := range 5 {
		for _, d := range []int{-65, -64, -33, -32, -31, -1, 0, 1, 31, 32, 33, 64} {
			lengths = append(lengths, (n+1)*eight+d)
		}
	}
	lengths = append(lengths, 4064, 4095, 4096, 4097, 65536, 1<<20+7)
	for _, n := range lengths {
		var key [32]byte
		var nonce [24]byte
		message := make([]byte, n)
		rng.Read(key[:])
		rng.Read(nonce[:])
		rng.Read(message)
		before := []byte("before")
		want := secretbox.Seal(before[:len(before):len(before)], message, &nonce, &key)
		if got := sealBox(before[:len(before):len(before)], message, &nonce, &key); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes are boxed otherwise", n)
		}
		room := append(make([]byte, 0, 1<<21), before...)
		if got := sealBox(room, message, &nonce, &key); !bytes.Equal(got, want) || &got[0] != &room[0] {
			t.Fatalf("%d bytes are boxed otherwise where there is room", n)
		}
		box := want[len(before):]
		got, ok := openBox(before[:len(before):len(before)], box, &nonce, &key)
		if !ok || !bytes.Equal(got, append(before, message...)) {
			t.Fatalf("a box of %d bytes is not opened", n)
		}
		for _, at := range []int{0, 15, 16, len(box) / 2, len(box) - 1} {
			bad := bytes.Clone(box)
			bad[min(at, len(bad)-1)] ^= 0x40
			if got, ok := openBox(nil, bad, &nonce, &key); ok || got != nil {
				t.Fatalf("a box of %d bytes was opened that is changed at %d", n, at)
			}
		}
		for _, short := range []int{0, 15, 16, len(box) - 1} {
			if _, ok := openBox(nil, box[:min(short, len(box)-1)], &nonce, &key); ok {
				t.Fatalf("%d of %d bytes were opened", short, len(box))
			}
		}
	}
}

func FuzzSecretbox(f *testing.F) {
	f.Add([]byte("key"), []byte("nonce"), bytes.Repeat([]byte("message"), 100))
	f.Fuzz(func(t *testing.T, k, n, message []byte) {
		var key [32]byte
		var nonce [24]byte
		copy(key[:], k)
		copy(nonce[:], n)
		want := secretbox.Seal(nil, message, &nonce, &key)
		if got := sealBox(nil, message, &nonce, &key); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes are boxed otherwise", len(message))
		}
		if got, ok := openBox(nil, want, &nonce, &key); !ok || !bytes.Equal(got, message) {
			t.Fatalf("%d bytes are opened otherwise", len(message))
		}
		_, ours := openBox(nil, message, &nonce, &key)
		if _, theirs := secretbox.Open(nil, message, &nonce, &key); ours != theirs {
			t.Fatalf("opened: %v, by the other: %v", ours, theirs)
		}
	})
}

func BenchmarkBox(b *testing.B) {
	var key [32]byte
	var nonce [24]byte
	message := make([]byte, maxBody)
	out := make([]byte, 0, 2*maxBody)
	for _, c := range []struct {
		name string
		seal func(out, message []byte, nonce *[24]byte, key *[32]byte) []byte
	}{{"ours", sealBox}, {"x-crypto", secretbox.Seal}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(maxBody)
			b.ReportAllocs()
			for b.Loop() {
				c.seal(out, message, &nonce, &key)
			}
		})
	}
}
