package main

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

func main() {
	sizes := flag.String("sizes", "100,1000,10000", "how many persons the networks have")
	out := flag.String("out", "replicate/sim", "the folder for RESULTS.md and spread.svg")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "where all chance comes from")
	flag.Parse()
	debug.SetMemoryLimit(5 << 30) // ten thousand nodes take gigabytes: rather collect more often than take more
	if err := report(*sizes, *out, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

// scenario is a kind of network to measure.
type scenario struct {
	name, what string
	config     config
}

var scenarios = []scenario{
	{"calm", "everyone is on; links break after two hours on average; 2 % of the dials get no answer",
		config{linkLife: 2 * time.Hour, loss: 0.02}},
	{"lively", "at any time 20 % of the persons are off, for 12 minutes on average, and count as waiting all the same; 5 % are hostile; " +
		"links break after an hour on average",
		config{linkLife: time.Hour, loss: 0.02, churn: 0.2, cycle: time.Hour, hostile: 0.05}},
}

const (
	warmUp   = 15 * time.Minute // until all have met and turned to their slots
	posting  = 10 * time.Minute
	watching = 50 * time.Minute // after that
	posts    = 200
)

// heapNow is how much memory the process has from the system and did not give back, in bytes.
func heapNow() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Sys - m.HeapReleased
}

// row is what was measured of one network.
type row struct {
	persons   int
	scenario  string
	spreads   []*spread
	nodes     int
	stored    int
	perNeeded float64 // messages sent for each that somebody needed and got
	bytes     float64 // likewise, with notes and handshakes
	copies    float64
	person    float64 // connections
	pub       float64
	first     float64 // bytes of notes when two meet for the first time
	again     float64 // when they meet again
	took      time.Duration
	memory    uint64 // at the end, with other networks that run beside this one
}

// measure runs a network in which all is known and then posts are made.
func measure(c config, name string) row {
	began := time.Now()
	c.synced, c.history = true, 5
	s := newSim(c)
	s.run(warmUp)
	first := ratio(s.clockB[0], int64(s.links[0]))
	s.stats = stats{}
	for range posts {
		s.after(s.between(0, posting), func() {
			for {
				if n := s.nodes[s.rng.IntN(c.persons)]; n.on && n.hostile == honest {
					s.follow(n)
					return
				}
			}
		})
	}
	s.run(posting + watching)
	r := row{persons: c.persons, scenario: name, nodes: len(s.nodes), stored: s.stored, first: first}
	for _, p := range s.posts {
		r.spreads = append(r.spreads, p)
	}
	slices.SortFunc(r.spreads, func(a, b *spread) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.wanters, b.wanters)) })
	r.perNeeded = ratio(int64(s.sent), int64(s.stored))
	r.bytes = ratio(s.messageB+s.noteB+s.greetB, int64(s.stored))
	r.copies = ratio(int64(s.copies), int64(s.stored))
	r.again = ratio(s.clockB[1], int64(s.links[1]))
	var links, on [2]int64
	for _, n := range s.nodes {
		if n.hostile == honest && n.on {
			k := 0
			if n.pub {
				k = 1
			}
			links[k] += int64(len(n.links))
			on[k]++
		}
	}
	r.person, r.pub = ratio(links[0], on[0]), ratio(links[1], on[1])
	r.took, r.memory = time.Since(began), heapNow()
	return r
}

func ratio(a, b int64) float64 { return float64(a) / float64(max(1, b)) }

// until is how long it took, in the median of the posts, until a part of those who want a post had it, and in how many of the
// posts they had it in the end.
func (r *row) until(part float64) (median time.Duration, reached int) {
	all := make([]time.Duration, 0, len(r.spreads))
	for _, p := range r.spreads {
		if k := int(math.Ceil(part * float64(p.wanters))); k > 0 && k <= len(p.got) {
			all = append(all, p.got[k-1])
			reached++
		} else {
			all = append(all, math.MaxInt64)
		}
	}
	slices.Sort(all)
	if len(all) > 0 {
		median = all[len(all)/2]
	}
	return median, reached
}

// arrivals is how long it took a post to one who wants it, over all of them, in order; never is how many had not got it in the end.
func (r *row) arrivals() (took []time.Duration, never int) {
	for _, p := range r.spreads {
		took = append(took, p.got...)
		never += p.wanters - len(p.got)
	}
	slices.Sort(took)
	return took, never
}

// quantile is an element of what is in order.
func quantile(took []time.Duration, q float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	return took[min(len(took)-1, int(q*float64(len(took))))]
}

func words(d time.Duration) string {
	switch {
	case d == math.MaxInt64:
		return fmt.Sprintf("over %d min", int(watching.Minutes()))
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f min", d.Minutes())
}

func report(sizes, out string, seed uint64) error {
	fmt.Println("seed", seed)
	var rows []row
	for _, text := range strings.Split(sizes, ",") {
		persons, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || persons < 40 {
			return fmt.Errorf("%q: the size of a network is a number of persons, 40 or more", text)
		}
		// Each network is on one goroutine; those of one size are run side by side if there is room.
		same := make([]row, len(scenarios))
		var wait sync.WaitGroup
		for i, sc := range scenarios {
			run := func() {
				c := sc.config
				c.persons, c.seed = persons, seed
				same[i] = measure(c, sc.name)
				runtime.GC()
			}
			if persons > 2000 { // each takes gigabytes
				run()
			} else {
				wait.Go(run)
			}
		}
		wait.Wait()
		for _, r := range same {
			rows = append(rows, r)
			half, _ := r.until(0.5)
			most, _ := r.until(0.95)
			fmt.Printf("%d persons, %s: half in %s, 95 %% in %s (%s of computing, %d MB)\n",
				persons, r.scenario, words(half), words(most), r.took.Round(time.Second), r.memory>>20)
		}
		// After each size: the largest takes long.
		if err := os.WriteFile(filepath.Join(out, "RESULTS.md"), []byte(table(rows, seed)), 0o644); err != nil {
			return err
		}
		if err := draw(rows, filepath.Join(out, "spread.svg")); err != nil {
			return err
		}
	}
	return nil
}

func table(rows []row, seed uint64) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# How far a post gets, in the simulator

Written by `+"`make sim`"+` with the seed %d: the real brains in virtual time. README.md says what is modelled and what is left out.
Hops 2, a small-world follow graph, %d posts in %d minutes after all were in sync, watched for %d minutes more.

`, seed, posts, int(posting.Minutes()), int(watching.Minutes()))
	for _, sc := range scenarios {
		fmt.Fprintf(&b, "- **%s**: %s.\n", sc.name, sc.what)
	}
	b.WriteString(`
How long until a part of those who want a post have it, in the median of the posts; and how many posts all had in the end:

| persons | network | who want a post | 50 % have it | 95 % | 100 % | posts that all got |
|--:|---|--:|--:|--:|--:|--:|
`)
	for _, r := range rows {
		half, _ := r.until(0.5)
		most, _ := r.until(0.95)
		whole, reached := r.until(1)
		wanters := 0
		for _, p := range r.spreads {
			wanters += p.wanters
		}
		fmt.Fprintf(&b, "| %d | %s | %.0f | %s | %s | %s | %d of %d |\n", r.persons, r.scenario, ratio(int64(wanters), int64(len(r.spreads))),
			words(half), words(most), words(whole), reached, len(r.spreads))
	}
	b.WriteString(`
How long it takes a post to one who wants it, over all posts and all who want them:

| persons | network | p50 | p90 | p99 | p99.9 | max | not within the time watched |
|--:|---|--:|--:|--:|--:|--:|--:|
`)
	for _, r := range rows {
		took, never := r.arrivals()
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s | %s | %d of %d |\n", r.persons, r.scenario, words(quantile(took, 0.5)), words(quantile(took, 0.9)),
			words(quantile(took, 0.99)), words(quantile(took, 0.999)), words(quantile(took, 1)), never, never+len(took))
	}
	b.WriteString(`
What it costs:

| persons | network | messages sent per message needed | bytes sent per message needed | connections of a person | of a pub | clock bytes, first meeting | clock bytes, reconnect |
|--:|---|--:|--:|--:|--:|--:|--:|
`)
	for _, r := range rows {
		fmt.Fprintf(&b, "| %d | %s | %.3f | %.0f | %.1f | %.1f | %.0f | %.0f |\n", r.persons, r.scenario, r.perNeeded, r.bytes, r.person, r.pub, r.first, r.again)
	}
	b.WriteString(`
Bytes are messages, notes and handshakes of honest nodes, those of the connections that
rotation and churn make included, for as few posts as there are here: in a quiet network most of them are not messages.
Clock bytes are the notes that both sides say in the first seconds of a connection.

![How many of those who want a post have it, after how long](spread.svg)
`)
	return b.String()
}

// draw plots the part of all who want a post that have it, over time.
func draw(rows []row, file string) error {
	p := plot.New()
	p.Title.Text = "Who wants a post has it"
	p.X.Label.Text = "seconds after it was made"
	p.Y.Label.Text = "% of those who want it"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.X.Min, p.X.Max = 0.03, (posting + watching).Seconds()
	p.Y.Min, p.Y.Max = 0, 100
	p.Legend.XOffs, p.Legend.YOffs = -vg.Points(8), vg.Points(8) // at the bottom right, where there are no lines
	p.Legend.Padding = vg.Points(3)
	p.Add(plotter.NewGrid())
	for i, r := range rows {
		var all []time.Duration
		wanters := 0
		for _, s := range r.spreads {
			all = append(all, s.got...)
			wanters += s.wanters
		}
		slices.Sort(all)
		points := plotter.XYs{}
		for k := 0; k < len(all); k += max(1, len(all)/400) {
			points = append(points, plotter.XY{X: max(p.X.Min, all[k].Seconds()), Y: 100 * float64(k+1) / float64(wanters)})
		}
		if len(all) == 0 {
			continue
		}
		points = append(points, plotter.XY{X: p.X.Max, Y: 100 * float64(len(all)) / float64(wanters)})
		line, err := plotter.NewLine(points)
		if err != nil {
			return err
		}
		line.Color = plotutil.Color(i / len(scenarios))
		line.Dashes = plotutil.Dashes(i % len(scenarios))
		line.Width = vg.Points(1.5)
		p.Add(line)
		p.Legend.Add(fmt.Sprintf("%d, %s", r.persons, r.scenario), line)
	}
	return p.Save(18*vg.Centimeter, 11*vg.Centimeter, file)
}
