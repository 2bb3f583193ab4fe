package replicate

import (
	"testing"
	"time"

	"charkha/blob"
)

// One blob of 50 MiB over loopback TCP, both nodes in this process.
func BenchmarkBlob(b *testing.B) {
	quiet := nodeOptions{book: &book{}}
	from, to := startBlobs(b, 1, 60<<20, quiet), startBlobs(b, 2, 60<<20, quiet)
	if err := to.Connect(b.Context(), from.addr); err != nil {
		b.Fatal(err)
	}
	const size = 50<<20 - 1
	b.SetBytes(size)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		id := from.add(bytesOf(uint64(i), size))
		time.Sleep(100 * time.Millisecond)
		b.StartTimer()
		if err := to.WantBlob(b.Context(), id, blob.Why{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		for _, n := range []*blobNode{from, to} {
			if err := n.store.Remove(id); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
}
