package log

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// What is checked while the part before it is committed ends up as what is appended in one piece does: with duplicates, bad signatures,
// gaps and forks among it, in parts of all sizes.
func TestIntakeStoresWhatAppendStores(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var feeds [][][]byte
		for n := range byte(12) {
			w := &writer{k: key(30 + n)}
			feed := w.many(t, 50+rng.IntN(200))
			switch n {
			case 0: // a bad signature: all that follows leaves a gap
				feed[10] = bytes.Replace(feed[10], []byte(`"text":"`), []byte(`"text":"x`), 1)
			case 1: // a message is missing
				feed = slices.Delete(feed, 12, 13)
			case 2: // the other branch of a fork
				other := &writer{k: w.k}
				other.many(t, 20)
				feed = slices.Insert(feed, 30, other.next(t, "something else"))
			case 3: // twice
				feed = slices.Insert(feed, 18, slices.Clone(feed[3:15])...)
			}
			feeds = append(feeds, feed)
		}
		var raws [][]byte
		for len(feeds) > 0 {
			i := rng.IntN(len(feeds))
			k := min(1+rng.IntN(9), len(feeds[i]))
			raws = append(raws, feeds[i][:k]...)
			if feeds[i] = feeds[i][k:]; len(feeds[i]) == 0 {
				feeds = slices.Delete(feeds, i, i+1)
			}
		}

		whole := open(t, Options{Dir: t.TempDir()})
		want := appendAll(t, whole, raws...)
		parts := open(t, Options{Dir: t.TempDir()})
		in := parts.NewIntake()
		var got []Result
		committing := make(chan []Result, 1)
		committing <- nil
		for left := raws; len(left) > 0; {
			n := min(1+rng.IntN(300), len(left))
			checked := in.Check(left[:n])
			left = left[n:]
			got = append(got, <-committing...)
			go func() {
				results, err := checked.Append()
				if err != nil {
					t.Error(err)
				}
				committing <- results
			}()
		}
		got = append(got, <-committing...)
		if a, b := statuses(got), statuses(want); a != b {
			t.Errorf("seed %d: in parts\n%s\nin one piece\n%s", seed, a, b)
		}
		for n := range byte(12) {
			a, _ := parts.Head(key(30 + n).ID())
			b, _ := whole.Head(key(30 + n).ID())
			if a != b {
				t.Errorf("seed %d: feed %d ends at %d in parts, at %d in one piece", seed, n, a.Sequence, b.Sequence)
			}
		}
		checkStore(t, parts)
	}
}
