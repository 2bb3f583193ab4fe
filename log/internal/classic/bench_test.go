package classic

import (
	"encoding/json"
	"testing"
)

func benchRaws(b *testing.B) (raws [][]byte, bytes int64) {
	feedLines(b, func(_, _ string, value []byte) {
		if len(raws) < 4000 {
			raws = append(raws, append([]byte(nil), value...))
			bytes += int64(len(value))
		}
	})
	return raws, bytes / int64(len(raws))
}

func BenchmarkScan(b *testing.B) {
	raws, size := benchRaws(b)
	b.Run("classic", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		var s Scanner
		i := 0
		for b.Loop() {
			if _, err := s.Scan(raws[i%len(raws)]); err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
	b.Run("json.Unmarshal", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			var v any
			if err := json.Unmarshal(raws[i%len(raws)], &v); err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
	b.Run("json.Valid", func(b *testing.B) {
		b.SetBytes(size)
		i := 0
		for b.Loop() {
			if !json.Valid(raws[i%len(raws)]) {
				b.Fatal()
			}
			i++
		}
	})
}
