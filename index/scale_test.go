package index

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
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

// What clients ask for, of generated messages.
func BenchmarkScaleQuery(b *testing.B) {
	l, self := scaleLog(b)
	dir := os.Getenv("CHARKHA_BENCH_INDEX") // kept there, when it is set
	if dir == "" {
		dir = b.TempDir()
	}
	x := start(b, Options{Dir: dir, Log: l, Self: self, Hops: 3}).caughtUp()
	ctx := b.Context()
	count := func(want int, msgs func(func(log.Message, error) bool)) error {
		n := 0
		for _, err := range msgs {
			if err != nil {
				return err
			}
			n++
		}
		if n < want {
			return fmt.Errorf("%d messages, want %d", n, want)
		}
		return nil
	}
	run := func(name string, do func(i int) error) {
		b.Run(name, func(b *testing.B) { percentiles(b, do) })
	}
	feeds := x.WantedFeeds()
	feed := func(i int) identity.ID { return feeds[i*7919%min(len(feeds), 100)] }
	run("newest 50 of all, claimed", func(int) error {
		return count(50, x.Query(ctx, Query{Claimed: true, Reverse: true, Limit: 50}))
	})
	run("newest 50 posts", func(int) error {
		return count(50, x.Query(ctx, Query{Where: OfType("post"), Reverse: true, Limit: 50}))
	})
	run("newest 50 posts, claimed", func(int) error {
		return count(50, x.Query(ctx, Query{Where: OfType("post"), Claimed: true, Reverse: true, Limit: 50}))
	})
	run("newest 50 of type and author", func(i int) error {
		return count(0, x.Query(ctx, Query{Where: And(By(feed(i)), OfType("post")), Reverse: true, Limit: 50}))
	})
	run("newest 50 of type and author, claimed", func(i int) error {
		return count(0, x.Query(ctx, Query{Where: And(By(feed(i)), OfType("post")), Claimed: true, Reverse: true, Limit: 50}))
	})
	run("newest 50 of hashtag, claimed", func(i int) error {
		tag := strings.Fields("gardening ssb solarpunk music")[i%4]
		return count(50, x.Query(ctx, Query{Where: Tagged(tag), Claimed: true, Reverse: true, Limit: 50}))
	})
	run("newest 50 mentions", func(i int) error {
		return count(0, x.Query(ctx, Query{Where: Links(feed(i).String(), "mentions"), Reverse: true, Limit: 50}))
	})
	run("newest 50 of two words", func(i int) error {
		text := strings.Fields("garden boat network letter winter café naïve piñata gossip weaving")
		return count(1, x.Query(ctx, Query{Where: Word(text[i%len(text)]+" "+text[(i*3+1)%len(text)], false), Reverse: true, Limit: 50}))
	})
	run("newest 50 of a word and a beginning", func(i int) error {
		return count(1, x.Query(ctx, Query{Where: Word("garden be", true), Reverse: true, Limit: 50}))
	})
	var roots []identity.MsgID
	run("newest 50 threads", func(int) error {
		n := 0
		roots = roots[:0]
		for t, err := range x.Threads(ThreadQuery{Limit: 50}) {
			if err != nil {
				return err
			}
			roots = append(roots, t.Root.Key())
			n++
		}
		if n != 50 {
			return fmt.Errorf("%d threads", n)
		}
		return nil
	})
	run("newest 50 threads with a hashtag", func(i int) error {
		tag := strings.Fields("gardening ssb solarpunk music")[i%4]
		n := 0
		for _, err := range x.Threads(ThreadQuery{Limit: 50, Where: Tagged(tag)}) {
			if err != nil {
				return err
			}
			n++
		}
		if n != 50 {
			return fmt.Errorf("%d threads", n)
		}
		return nil
	})
	big := biggestThread(b, x.Index)
	posts, _, err := x.Thread(big, false, 0)
	if err != nil {
		b.Fatal(err)
	}
	run(fmt.Sprintf("thread of %d", len(posts)), func(i int) error {
		_, _, err := x.Thread(big, false, 0)
		return err
	})
	run("profile", func(i int) error {
		x.Name(feed(i))
		return count(0, x.Query(ctx, Query{Where: And(Links(feed(i).String(), "about"), OfType("about"))}))
	})
	run("votes", func(i int) error {
		_, err := x.Votes(roots[i%len(roots)])
		return err
	})
	run("hashtags that begin", func(int) error {
		_, err := x.Tags("so", 10)
		return err
	})
}

// biggestThread is the thread with most answers among the latest.
func biggestThread(b *testing.B, x *Index) (big identity.MsgID) {
	most := -1
	for t, err := range x.Threads(ThreadQuery{Limit: 2000}) {
		if err != nil {
			b.Fatal(err)
		}
		if t.Replies > most && t.Replies < 200 {
			most, big = t.Replies, t.Root.Key()
		}
	}
	return big
}

// Taking messages in, without an index and with one that follows: the same messages, from memory, 1,000 at a time. ratio is how
// much of the speed is left, by processor time.
func BenchmarkScaleIngest(b *testing.B) {
	o := gen.Options{Messages: 50_000, Authors: 200, Seed: 1}
	var raws [][]byte
	if err := gen.Generate(o, func(m *gen.Message) error { raws = append(raws, m.Value); return nil }); err != nil {
		b.Fatal(err)
	}
	ingest := func(indexed bool) (cpu, took time.Duration) {
		l := openLog(b)
		var x *running
		if indexed {
			x = start(b, Options{Log: l, Self: o.Key(0).ID(), Hops: 2})
		}
		runtime.GC()
		begun, at := cpuTime(), time.Now()
		for piece := range slices.Chunk(raws, 1000) {
			if _, err := l.Append(piece); err != nil {
				b.Fatal(err)
			}
		}
		if indexed {
			x.caughtUp()
		}
		cpu, took = cpuTime()-begun, time.Since(at)
		if indexed {
			if err := x.stop(); err != nil {
				b.Fatal(err)
			}
		}
		return cpu, took
	}
	for b.Loop() {
		without, tookWithout := ingest(false)
		with, took := ingest(true)
		b.ReportMetric(float64(without.Microseconds())/float64(len(raws)), "cpu-us/msg-without")
		b.ReportMetric(float64(with.Microseconds())/float64(len(raws)), "cpu-us/msg-with")
		b.ReportMetric(float64(without)/float64(with), "ratio-cpu")
		b.ReportMetric(float64(tookWithout)/float64(took), "ratio-time")
	}
}

// What an index costs while a sync goes on: 100,000 messages are appended in the largest pieces that the log commits at once, and the
// measurement ends when the views that replication asks are where the log is. The claim: below 5 us of processor time a message more
// than without an index. later-us is what the other views cost after the sync.
func BenchmarkScaleSync(b *testing.B) {
	o := gen.Options{Messages: 100_000, Authors: 200, Seed: 1}
	var raws [][]byte
	if err := gen.Generate(o, func(m *gen.Message) error { raws = append(raws, m.Value); return nil }); err != nil {
		b.Fatal(err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(50)) // as charkha does
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(len(raws)) }
	ingest := func(indexed bool) (cpu, took, later time.Duration) {
		l := openLog(b)
		var x *running
		if indexed {
			x = start(b, Options{Log: l, Self: o.Key(0).ID(), Hops: 2})
		}
		runtime.GC()
		begun, at := cpuTime(), time.Now()
		for piece := range slices.Chunk(raws, 4096) {
			if _, err := l.Append(piece); err != nil {
				b.Fatal(err)
			}
		}
		if indexed {
			for x.at("contacts") < l.Len() || x.at("names") < l.Len() || x.at("pubs") < l.Len() {
				time.Sleep(time.Millisecond)
			}
		}
		cpu, took = cpuTime()-begun, time.Since(at)
		if indexed {
			x.caughtUp()
			later = cpuTime() - begun - cpu
			if err := x.stop(); err != nil {
				b.Fatal(err)
			}
		}
		return cpu, took, later
	}
	for b.Loop() {
		without, tookWithout, _ := ingest(false)
		with, took, later := ingest(true)
		b.ReportMetric(per(without), "without-us/msg")
		b.ReportMetric(per(with), "with-us/msg")
		b.ReportMetric(per(with-without), "index-us/msg")
		b.ReportMetric(per(later), "later-us/msg")
		b.ReportMetric(float64(took)/float64(tookWithout), "time-ratio")
	}
}
