package index

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"charkha/identity"
	"charkha/log"
)

// A graph of some size: people who each follow others, a few of whom are popular.
const (
	benchPeople = 5000
	benchEdges  = 100 // of each
)

func benchContacts(hops int) (*Index, []identity.ID) {
	rng := rand.New(rand.NewPCG(1, 5))
	ids := make([]identity.ID, benchPeople)
	for i := range ids {
		for k := range ids[i] {
			ids[i][k] = byte(rng.Uint32())
		}
	}
	c := newContacts(ids[0], hops)
	zipf := rand.NewZipf(rng, 1.1, 50, benchPeople-1)
	for _, from := range ids {
		for range benchEdges {
			to := ids[rng.IntN(benchPeople)]
			if rng.IntN(2) == 0 {
				to = ids[zipf.Uint64()]
			}
			c.graph.set(contact{from, to, follows})
		}
	}
	c.measure()
	return &Index{contacts: c}, ids
}

// A contact message of somebody, committed on its own, with a range that takes in nearly everybody.
func BenchmarkEdge(b *testing.B) {
	x, ids := benchContacts(3)
	c := x.contacts
	var near []identity.ID // whom we follow
	var far identity.ID    // whose word does not count
	for _, id := range ids {
		switch d, _ := x.Hops(id); d {
		case 1:
			near = append(near, id)
		case 3:
			far = id
		}
	}
	one := func(from, to identity.ID) func(b *testing.B) {
		return func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				c.pending = append(c.pending, contact{from, to, []edge{follows, neither}[i%2]})
				c.committed()
			}
		}
	}
	b.Run("all distances", func(b *testing.B) {
		for b.Loop() {
			c.measure()
		}
	})
	b.Run("that moves somebody", one(c.self, identity.ID{1}))
	b.Run("between those near", one(near[0], near[1]))
	b.Run("of somebody far", one(far, near[0]))
}

func BenchmarkHops(b *testing.B) {
	x, ids := benchContacts(2)
	b.Run("one", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			x.Hops(ids[i%len(ids)])
		}
	})
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			x.HopsAll()
		}
	})
	b.Run("wanted", func(b *testing.B) {
		for b.Loop() {
			x.WantedFeeds()
		}
	})
}

// Memory of the graph, per edge.
func BenchmarkGraphMemory(b *testing.B) {
	var before, after runtime.MemStats
	bytes, edges := 0.0, 0
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		x, _ := benchContacts(2)
		runtime.GC()
		runtime.ReadMemStats(&after)
		bytes, edges = float64(after.HeapAlloc)-float64(before.HeapAlloc), 0
		for _, out := range x.contacts.graph.out {
			edges += len(out)
		}
		runtime.KeepAlive(x)
	}
	b.ReportMetric(bytes/float64(edges), "B/edge")
	b.ReportMetric(float64(edges), "edges")
}

// benchLog holds contact messages of people who follow each other.
func benchLog(b *testing.B, n int) (*log.Log, identity.ID) {
	l := openLog(b)
	rng := rand.New(rand.NewPCG(1, 6))
	people := newAuthors(200)
	var raws [][]byte
	for i := range n {
		p := people[rng.IntN(len(people))]
		switch i % 4 {
		case 0:
			raws = append(raws, p.sign(b, contentPost(fmt.Sprint("post ", i))))
		case 1:
			raws = append(raws, p.sign(b, contentAbout(people[rng.IntN(200)].id(), fmt.Sprintf(`"name %d"`, i))))
		default:
			raws = append(raws, p.sign(b, contentFollow(people[rng.IntN(200)].id())))
		}
	}
	store(b, l, raws...)
	return l, people[0].id()
}

// Building an index anew: half contacts, a quarter names, a quarter posts.
func BenchmarkBuild(b *testing.B) {
	const n = 20_000
	l, self := benchLog(b, n)
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		b.StartTimer()
		x := start(b, Options{Dir: dir, Log: l, Self: self, Hops: 2}).caughtUp()
		b.StopTimer()
		if err := x.stop(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// One message at a time, as in a node that has caught up.
func BenchmarkLive(b *testing.B) {
	l := openLog(b)
	people := newAuthors(50)
	x := start(b, Options{Log: l, Self: people[0].id(), Hops: 2})
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		raw := people[i%50].sign(b, contentFollow(people[i*7%50].id()))
		store(b, l, raw)
		b.StartTimer()
		if err := x.Wait(b.Context(), l.Len()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	l, self := benchLog(b, 20_000)
	x := start(b, Options{Log: l, Self: self, Hops: 2}).caughtUp()
	feeds := x.WantedFeeds()
	b.Run("name", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			x.Name(feeds[i%len(feeds)])
		}
	})
	b.Run("timeline of 50", func(b *testing.B) {
		for b.Loop() {
			for _, err := range x.Timeline(50) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
