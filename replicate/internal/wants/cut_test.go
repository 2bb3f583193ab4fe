package wants

import "testing"

// However quick a peer is, a piece is no larger than what may be; and no piece has a length that ends a connection with JS.
func TestPieces(t *testing.T) {
	for _, rate := range []int64{0, 1, 5 << 20, 1 << 30} {
		for _, most := range []int64{leastPiece, 1 << 20, mostPiece} {
			for _, size := range []int64{1 << 20, 50<<20 - 1, 50 << 20} {
				p := &peer{rate: rate}
				cuts := p.cut(size, most)
				if cuts[0] != 0 || cuts[len(cuts)-1] != size {
					t.Fatalf("pieces of %d bytes from %d to %d", size, cuts[0], cuts[len(cuts)-1])
				}
				for i, to := range cuts[1:] {
					if n := to - cuts[i]; n <= 0 || n > most || n%jsChunk == 0 {
						t.Errorf("rate %d, at most %d: a piece of %d bytes of %d", rate, most, n, size)
					}
				}
			}
		}
	}
}
