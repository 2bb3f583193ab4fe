package log

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"testing"

	"charkha/log/internal/classic"
)

// BenchmarkVerify is what Append does before any lock: parse, canonical bytes, id and signatures, in batches. "standard" does no
// more than crypto/ed25519.Verify over signed bytes that it is given, encoding/json.Unmarshal and the hash.
// Claim: in batches of 256 and more at least 3.5 times as fast on one core, and with as many messages a core 1.8 times that on two.
// Run it with -cpu 1 and then with -cpu 2: after both in one run the first ones were measured with two cores, too.
func BenchmarkVerify(b *testing.B) {
	raws := generated()
	raws = raws[:min(len(raws), 16384)]
	for _, size := range []int{1, 16, 64, 256, 1024, 2048} {
		b.Run(fmt.Sprint("bulk/", size), func(b *testing.B) {
			l := open(b, Options{})
			b.ReportAllocs()
			for b.Loop() {
				left, ahead := raws, ahead{}
				for len(left) > 0 {
					some := left[:min(size, len(left))]
					left = left[len(some):]
					for p := l.verify(&some, ahead); p != nil; p = l.verify(&some, ahead) {
						for i := range p.ps {
							if !p.ps[i].signed {
								b.Fatal(p.ps[i].err)
							}
						}
						p.free()
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(raws)), "ns/msg")
		})
	}
	b.Run("standard", func(b *testing.B) {
		var s classic.Scanner
		type parts struct {
			author [32]byte
			sig    [64]byte
			signed []byte
		}
		prepared := make([]parts, len(raws))
		for i, raw := range raws {
			m, err := s.Scan(raw)
			if err != nil {
				b.Fatal(err)
			}
			prepared[i] = parts{m.Author, m.Signature, append([]byte(nil), m.Signed...)}
		}
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			raw := raws[n%len(raws)]
			var v struct {
				Previous, Author, Signature string
				Sequence                    int64
				Timestamp                   float64
				Content                     any
			}
			if err := json.Unmarshal(raw, &v); err != nil {
				b.Fatal(err)
			}
			p := &prepared[n%len(raws)]
			if !ed25519.Verify(p.author[:], p.signed, p.sig[:]) {
				b.Fatal("bad signature")
			}
			sha256.Sum256(raw)
			n++
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/msg")
	})
}
