package index

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"charkha/bench/gen"
	"charkha/identity"
	"charkha/log"
)

// scaleLog is a log of generated messages: $CHARKHA_BENCH_MESSAGES of them, 20,000 if that is not set, in the folder
// $CHARKHA_BENCH_LOG, where they stay, or in one for this run. Author 0 is we.
func scaleLog(b *testing.B) (*log.Log, identity.ID) {
	b.Helper()
	o := gen.Options{Messages: 20_000, Authors: 200, Seed: 1}
	if n, err := strconv.Atoi(os.Getenv("CHARKHA_BENCH_MESSAGES")); err == nil {
		o.Messages = n
		o.Authors = max(n/1000, 200)
	}
	dir := os.Getenv("CHARKHA_BENCH_LOG")
	if dir == "" {
		dir = b.TempDir()
	}
	l, err := log.Open(log.Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	self := o.Key(0).ID()
	if l.Len() > 0 {
		return l, self
	}
	var raws [][]byte
	flush := func() {
		if _, err := l.Append(raws); err != nil {
			b.Fatal(err)
		}
		raws = raws[:0]
	}
	err = gen.Generate(o, func(m *gen.Message) error {
		if raws = append(raws, m.Value); len(raws) == 4096 {
			flush()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	flush()
	return l, self
}

// Building the index of generated messages, all views and each alone. peak-MB is anonymous memory, where the system tells.
func BenchmarkScaleBuild(b *testing.B) {
	l, self := scaleLog(b)
	build := func(b *testing.B, only string) {
		for b.Loop() {
			b.StopTimer()
			x, err := Open(Options{Dir: b.TempDir(), Log: l, Self: self, Hops: 2})
			if err != nil {
				b.Fatal(err)
			}
			if only != "" {
				for _, f := range x.views {
					if f.name() == only {
						x.views = []*follower{f}
					}
				}
			}
			runtime.GC()
			peak := peakMemory(b)
			cpu := cpuTime()
			b.StartTimer()
			r := run(b, x).caughtUp()
			b.StopTimer()
			b.ReportMetric(float64(cpuTime()-cpu)/1e3/float64(l.Len()), "cpu-us/msg")
			b.ReportMetric(peak(), "peak-MB")
			if err := r.stop(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(dirSize(x.o.Dir))/float64(l.Len()), "B/msg")
			b.StartTimer()
		}
		b.ReportMetric(float64(l.Len())*float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	}
	b.Run("all", func(b *testing.B) { build(b, "") })
	for _, name := range []string{"contacts", "names", "pubs", "messages", "links", "words"} {
		b.Run(name, func(b *testing.B) { build(b, name) })
	}
}

// peakMemory watches how much anonymous memory the process has, in MB, until the function that it returns is called.
func peakMemory(b *testing.B) func() float64 {
	stop, done := make(chan struct{}), make(chan float64)
	go func() {
		peak := 0.0
		for {
			status, _ := os.ReadFile("/proc/self/status")
			for line := range strings.Lines(string(status)) {
				if f := strings.Fields(line); len(f) > 1 && f[0] == "RssAnon:" {
					kb, _ := strconv.ParseFloat(f[1], 64)
					peak = max(peak, kb/1024)
				}
			}
			select {
			case <-stop:
				done <- peak
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() float64 {
		close(stop)
		return <-done
	}
}

func dirSize(dir string) (n int64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".sst") {
			n += info.Size()
		}
	}
	return n
}

// percentiles runs a query many times and reports how long half of them and 99 of 100 took at most.
func percentiles(b *testing.B, do func(i int) error) {
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		at := time.Now()
		if err := do(i); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}
