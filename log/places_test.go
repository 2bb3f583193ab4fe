package log

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"charkha/identity"
)

func placesOf(msgs []Message) (places []Place) {
	for i := range msgs {
		places = append(places, Place{msgs[i].Author(), msgs[i].Sequence(), msgs[i].Offset()})
	}
	return places
}

func TestAtMany(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	raws := generate(t, recentSize+2000, 50) // some are in memory, others are not
	appendAll(t, l, raws...)
	check := func(l *Log) {
		t.Helper()
		all := collect(t, l.Arrivals(0, false))
		if len(all) != len(raws) {
			t.Fatalf("%d of %d", len(all), len(raws))
		}
		rng := rand.New(rand.NewPCG(1, 1))
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, n := range []int{0, 1, 2, placesChunk - 1, placesChunk + 1, len(all)} {
			places := placesOf(all[:n])
			dst := []Message{all[7]}
			got, err := l.AtMany(dst, places)
			if err != nil || len(got) != n+1 || got[0].Key() != all[7].Key() {
				t.Fatalf("%d places: %d messages, %v", n, len(got)-1, err)
			}
			for i := range places {
				if m := got[i+1]; m.Key() != all[i].Key() || string(m.Value()) != string(all[i].Value()) || m.Offset() != all[i].Offset() {
					t.Fatalf("%d of %d: %+v, want %+v", i, n, m, all[i])
				}
			}
		}
		// What is not there leaves a hole.
		for _, m := range []Message{all[0], collect(t, l.Arrivals(l.Len()-1, false))[0]} {
			right := placesOf([]Message{m})[0]
			places := []Place{right, right, right, right, right, right, {}, right}
			places[1].Author = key(99).ID()
			places[2].Sequence = 1 << 40
			places[3].Sequence = -1
			places[4].Offset++
			places[5].Offset += 1 << 40
			got, err := l.AtMany(nil, places)
			if err != nil || len(got) != len(places) {
				t.Fatal(len(got), err)
			}
			for i := range got {
				if there := i == 0 || i == 7; there != (got[i].Sequence() == right.Sequence) || !there && got[i].Sequence() != 0 {
					t.Errorf("place %d: %v", i, got[i].Sequence())
				}
			}
		}
	}
	check(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := l.AtMany(nil, []Place{{}}); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	l = open(t, Options{Dir: dir})
	check(l)
	places := placesOf(collect(t, l.Arrivals(0, false)))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := l.AtMany(nil, places[:100]); !errors.Is(err, ErrClosed) || len(got) != 0 {
		t.Fatalf("closed: %d, %v", len(got), err)
	}
}

// What is near to each other in one feed is read in one go: forwards, backwards, with gaps, with others between, and with places where
// something else is.
func TestAtManyOfOneFeed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	raws := generate(t, 3000, 3)
	appendAll(t, l, raws...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{Dir: dir}) // nothing is in memory
	var feeds [][]Message
	for _, id := range slices.SortedFunc(maps.Keys(l.numbers), func(a, b identity.ID) int { return bytes.Compare(a[:], b[:]) }) {
		feeds = append(feeds, collect(t, l.Feed(id, Range{})))
	}
	rng := rand.New(rand.NewPCG(4, 4))
	stretches := 0
	for round := range 300 {
		var want []Message
		var places []Place
		for len(places) < 200 {
			feed := feeds[rng.IntN(len(feeds))]
			at, gap, step := rng.IntN(len(feed)), 1+rng.IntN(2*stretchGaps), 1-2*rng.IntN(2)
			for range rng.IntN(40) {
				if at < 0 || at >= len(feed) {
					break
				}
				m := feed[at]
				p := placesOf([]Message{m})[0]
				if rng.IntN(20) == 0 {
					p.Offset++
					m = Message{}
				}
				want, places = append(want, m), append(places, p)
				at += step * (1 + rng.IntN(gap))
			}
		}
		numbers := make([]uint32, len(places))
		for i := range places {
			numbers[i] = l.numbers[places[i].Author]
		}
		for i := range places {
			if stretch(numbers[i:], places[i:]) > 0 {
				stretches++
			}
		}
		got, err := l.AtMany(nil, places)
		if err != nil || len(got) != len(want) {
			t.Fatalf("round %d: %d messages, %v", round, len(got), err)
		}
		for i := range want {
			if got[i].Key() != want[i].Key() || string(got[i].Value()) != string(want[i].Value()) {
				t.Fatalf("round %d, place %d of %d, %+v: %d, want %d", round, i, len(places), places[i], got[i].Sequence(), want[i].Sequence())
			}
		}
	}
	if stretches < 300 {
		t.Errorf("only %d stretches", stretches)
	}
}

// BenchmarkAtMany reads 50 messages that lie anywhere in 100,000, as a query does; a round is 50 messages.
func BenchmarkAtMany(b *testing.B) {
	l := open(b, Options{Dir: b.TempDir()})
	appendAll(b, l, generated()...)
	all := placesOf(collect(b, l.Arrivals(0, false)))
	dir := l.o.Dir
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	l = open(b, Options{Dir: dir})
	rng := rand.New(rand.NewPCG(7, 7))
	places := make([]Place, 50)
	pick := func() {
		for i := range places {
			places[i] = all[rng.IntN(len(all))]
		}
	}
	b.Run("one by one", func(b *testing.B) {
		b.ReportAllocs()
		cpu := cpuTime()
		defer func() { b.ReportMetric((cpuTime()-cpu).Seconds()*1e6/float64(b.N*len(places)), "cpu-us/msg") }()
		for b.Loop() {
			pick()
			for _, p := range places {
				if m, err := l.At(p.Author, p.Sequence); err != nil || m.Offset() != p.Offset {
					b.Fatal(p, err)
				}
			}
		}
	})
	b.Run("together", func(b *testing.B) {
		b.ReportAllocs()
		cpu := cpuTime()
		defer func() { b.ReportMetric((cpuTime()-cpu).Seconds()*1e6/float64(b.N*len(places)), "cpu-us/msg") }()
		var got []Message
		for b.Loop() {
			pick()
			var err error
			if got, err = l.AtMany(got[:0], places); err != nil {
				b.Fatal(err)
			}
			for i := range got {
				if got[i].Offset() != places[i].Offset {
					b.Fatal(places[i])
				}
			}
		}
	})
}
