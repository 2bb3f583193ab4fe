package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"
)

// seed is a new one for each run of make sim, where one that failed belongs into failedSeeds, and else always the same: the bars are
// of what is to be expected, and a change should not fail for a network that no other run has seen.
func seed(t *testing.T) uint64 {
	n := uint64(1)
	if os.Getenv("CHARKHA_SIM") != "" {
		n = rand.Uint64()
	}
	t.Logf("seed %d", n)
	return n
}

// hold is the bar of the whole: after an hour of churn and hostility, and a while of calm, every honest node has all that it
// wants, little came twice, nobody honest holds anything against anybody honest, and whatever an honest peer offered was there
// within a watchdog period.
func hold(t *testing.T, c config, lively, calm time.Duration) {
	s := newSim(c)
	for _, n := range s.nodes {
		if n.hostile == honest || n.hostile == forker {
			for range 3 {
				s.after(s.between(0, lively), func() { s.publish(n, int64(1+s.rng.IntN(4))) })
			}
		}
	}
	s.run(lively)
	before, all := s.missing()
	s.calm()
	s.run(calm)
	missing, _ := s.missing()
	redundancy := float64(s.copies) / float64(s.stored)
	t.Logf("%d nodes: %d of %d wanted feeds were not whole when calm began, %d at the end; %d messages stored, %.3f copies of each; "+
		"%d dials, %d failed; %d links; the watchdog dropped %d hostile nodes, %d were not admitted; waited at most %s for what was offered; %d held against honest ones",
		len(s.nodes), before, all, missing, s.stored, redundancy, s.dials, s.failed, s.links[0]+s.links[1],
		s.watchdog, s.admitted, s.exposed, len(s.banned))
	if missing > 0 {
		t.Errorf("seed %d: %d of %d wanted feeds are not whole", c.seed, missing, all)
	}
	if redundancy >= 1.3 {
		t.Errorf("seed %d: %.3f copies received of each message stored", c.seed, redundancy)
	}
	if len(s.banned) > 0 {
		t.Errorf("seed %d: %d times, e.g. %s", c.seed, len(s.banned), s.banned[0])
	}
	if s.exposed > 30*time.Second {
		t.Errorf("seed %d: somebody waited %s for what an honest peer offered", c.seed, s.exposed)
	}
	if c.hostile > 0 && s.watchdog == 0 {
		t.Errorf("seed %d: the watchdog dropped nobody", c.seed)
	}
}

func lively(persons int, seed uint64) config {
	return config{
		seed: seed, persons: persons, hostile: 0.05, churn: 0.2, cycle: 30 * time.Minute, linkLife: time.Hour, loss: 0.02, history: 5, watch: true,
	}
}

func TestLivelyNetwork(t *testing.T) {
	t.Parallel()
	hold(t, lively(80, seed(t)), 20*time.Minute, 30*time.Minute)
}

// failedSeeds are networks that once failed, each because several liars in turn held a feed back, for 31 to 39 s.
var failedSeeds = []struct {
	persons      int
	seed         uint64
	lively, calm time.Duration
}{
	{150, 5815766764156171577, 30 * time.Minute, time.Hour},
	{150, 8363818151415172443, 30 * time.Minute, time.Hour},
	{80, 13985516093808926919, 20 * time.Minute, 30 * time.Minute},
	{80, 9170123069218233676, 20 * time.Minute, 30 * time.Minute},
}

func TestSeedsThatFailed(t *testing.T) {
	t.Parallel()
	for _, c := range failedSeeds {
		t.Run(fmt.Sprint(c.seed), func(t *testing.T) {
			if c.persons > 80 && os.Getenv("CHARKHA_SIM") == "" {
				t.Skip("takes half a minute: set CHARKHA_SIM=1, as make sim does")
			}
			hold(t, lively(c.persons, c.seed), c.lively, c.calm)
		})
	}
}

func TestThousandNodes(t *testing.T) {
	if os.Getenv("CHARKHA_SIM") == "" {
		t.Skip("takes some minutes: set CHARKHA_SIM=1, as make sim does")
	}
	hold(t, lively(1000, seed(t)), time.Hour, time.Hour)
}

// In a quiet network, in which each person's slots for pubs are taken for ever by those that were there first, every post reaches all
// who want it: announced pubs get their turn. Before they did, 7 of the 200 posts of this seed stayed away from somebody for good.
func TestEveryPostArrives(t *testing.T) {
	t.Parallel()
	c := scenarios[0].config
	c.persons, c.perPub, c.seed = 200, 6, 2
	r := measure(c, scenarios[0].name)
	took, never := r.arrivals()
	t.Logf("a post took %s in the median, %s at p99, %s at most", quantile(took, 0.5), quantile(took, 0.99), quantile(took, 1))
	if _, reached := r.until(1); reached < posts || never > 0 {
		t.Errorf("seed %d: %d of %d posts reached all who want them, %d copies are missing", c.seed, reached, posts, never)
	}
}

// A seed gives the same network again.
func TestSameSeedSameRun(t *testing.T) {
	t.Parallel()
	n := rand.Uint64()
	run := func() string {
		s := newSim(lively(60, n))
		trace := ""
		for range 20 {
			s.publish(s.nodes[s.rng.IntN(60)], 1)
			s.run(time.Minute)
			trace += fmt.Sprintln(s.stored, s.copies, s.dials, s.noteB, s.order)
		}
		return trace
	}
	first := run()
	if again := run(); again != first {
		t.Errorf("seed %d gave\n%s\nand then\n%s", n, first, again)
	}
}

// Thirty days of fifty nodes that come and go leave the brains as large as the first two did; as a plain test, fewer of both.
func TestThirtyDays(t *testing.T) {
	t.Parallel()
	persons, days := 49, 30
	if os.Getenv("CHARKHA_SIM") == "" {
		persons, days = 20, 4 // what takes seconds
	}
	c := lively(persons, seed(t))
	c.cycle = 12 * time.Hour
	s := newSim(c)
	var least, most, heapFirst uint64
	for day := range days {
		for range 20 {
			n := s.nodes[s.rng.IntN(len(s.nodes))]
			s.after(s.between(0, 24*time.Hour), func() { s.publish(n, 1) })
		}
		s.run(24 * time.Hour)
		size := uint64(s.tables())
		var mem runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&mem)
		if day < 2 {
			least, heapFirst = max(least, size), max(heapFirst, mem.HeapAlloc)
		}
		most = max(most, size)
		t.Logf("day %d: %d entries in tables, %d kB, %d links made", day+1, size, mem.HeapAlloc>>10, s.links[0]+s.links[1])
	}
	if most > least+least/4 {
		t.Errorf("seed %d: the tables grew from %d entries to %d", c.seed, least, most)
	}
}
