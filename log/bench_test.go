package log

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"charkha/identity"
	"charkha/internal/vectors"
	"charkha/log/internal/classic"
)

// generate makes n messages of some authors, a few of which wrote most: of the sizes that people write, in the order of
// their time, the same ones each time.
func generate(t testing.TB, n, authors int) [][]byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(authors)))
	zipf := rand.NewZipf(rng, 1.2, 8, uint64(authors-1))
	seqs := make([]int64, authors)
	queue := make([][]int, authors) // per author, the places of its messages
	raws := make([][]byte, n)
	for i := range raws {
		a := int(zipf.Uint64())
		queue[a] = append(queue[a], i)
	}
	words := strings.Fields(`the a of to and in it is that scuttlebutt was with you for on feed peer gossip butt crab hermit as they be at one
		have this from or had by hot word but what some we can out other were all there when up use your how said an each she`)
	contents := make([]string, n)
	for i := range contents {
		switch k := rng.IntN(10); {
		case k < 4:
			contents[i] = fmt.Sprintf(`{"type":"vote","channel":null,"vote":{"link":%q,"value":1,"expression":"Like"}}`, identity.MsgID{byte(i), byte(i >> 8), 3})
		case k < 5:
			contents[i] = fmt.Sprintf(`{"type":"contact","contact":%q,"following":true}`, identity.ID{byte(i), 7})
		default:
			var text strings.Builder
			for range 5 + rng.IntN(20)*rng.IntN(12) {
				text.WriteString(words[rng.IntN(len(words))] + " ")
			}
			root := ""
			if k > 6 {
				root = fmt.Sprintf(`,"root":%q,"branch":%[1]q`, identity.MsgID{byte(i), 9})
			}
			contents[i] = fmt.Sprintf(`{"type":"post","text":%q%s,"mentions":[]}`, text.String(), root)
		}
	}
	var wg sync.WaitGroup
	next := make(chan int, authors)
	for a := range authors {
		next <- a
	}
	close(next)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			var s classic.Scanner
			for a := range next {
				k := identity.FromSeed([32]byte{byte(a), byte(a >> 8), 5, 5})
				var prev identity.MsgID
				for _, i := range queue[a] {
					raw, err := classic.Encode(k, nil, prev, seqs[a]+1, 1.6e12+1000*float64(i), []byte(contents[i]))
					if err != nil {
						panic(err)
					}
					m, err := s.Scan(raw)
					if err != nil {
						panic(err)
					}
					seqs[a], prev, raws[i] = seqs[a]+1, m.Key, raw
				}
			}
		})
	}
	wg.Wait()
	return raws
}

var generated = sync.OnceValue(func() [][]byte {
	n, _ := strconv.Atoi(os.Getenv("CHARKHA_BENCH_MESSAGES"))
	if n == 0 {
		n = 100_000
	}
	return generate(&testing.B{}, n, 200)
})

// memory returns the anonymous and the file-backed memory of this process in MB, where the system tells.
func memory() (anon, file float64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(status)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "RssAnon: %f", &kb); err == nil {
			anon = kb / 1024
		}
		if _, err := fmt.Sscanf(line, "RssFile: %f", &kb); err == nil {
			file = kb / 1024
		}
	}
	return anon, file
}

// cpuTime returns what this process used of the cores up to now, in steps of 10 ms, where the system tells: on a machine that does
// other things, too, it says more than the clock.
func cpuTime() (t time.Duration) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	for i, f := range bytes.Fields(rest) {
		if i == 11 || i == 12 { // user, system
			ticks, _ := strconv.Atoi(string(f))
			t += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return t
}

func diskSize(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if st, err := d.Info(); err == nil {
				n += st.Size()
			}
		}
		return nil
	})
	return n
}

// BenchmarkStore is a life in numbers: messages of 200 authors, interleaved, are appended, the log is closed and opened,
// each feed is read, all is read in the order of arrival, and single messages by id. One round is one store of
// CHARKHA_BENCH_MESSAGES messages (100,000), so run it with -benchtime 1x. Its own
// messages fill the memory of this process: BenchmarkMemory looks at another one.
func BenchmarkStore(b *testing.B) {
	raws := generated()
	size := 0
	for _, r := range raws {
		size += len(r)
	}
	n := float64(len(raws))
	for b.Loop() {
		dir := b.TempDir()
		l, err := Open(Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		t, cpu := time.Now(), cpuTime()
		const piece = 10_000
		for at := 0; at < len(raws); at += piece {
			if _, err := l.Append(raws[at:min(at+piece, len(raws))]); err != nil {
				b.Fatal(err)
			}
		}
		if int(l.Len()) != len(raws) {
			b.Fatalf("%d of %d", l.Len(), len(raws))
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(n/time.Since(t).Seconds(), "append/s")
		b.ReportMetric((cpuTime()-cpu).Seconds()*1e6/n, "append-cpu-us")
		b.ReportMetric(float64(diskSize(dir))/n, "disk-B/msg")
		b.ReportMetric(float64(size)/n, "json-B/msg")
		t = time.Now()
		if l, err = Open(Options{Dir: dir}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(t).Seconds()*1000, "open-ms")
		t = time.Now()
		read := 0
		for id := range l.Heads() {
			for _, err := range l.Feed(id, Range{}) {
				if err != nil {
					b.Fatal(err)
				}
				read++
			}
		}
		b.ReportMetric(float64(read)/time.Since(t).Seconds(), "feed/s")
		t = time.Now()
		read = 0
		var keys []identity.MsgID
		for m, err := range l.Arrivals(0, false) {
			if err != nil {
				b.Fatal(err)
			}
			if read++; read%10 == 0 {
				keys = append(keys, m.Key())
			}
		}
		b.ReportMetric(float64(read)/time.Since(t).Seconds(), "arrivals/s")
		rand.New(rand.NewPCG(3, 3)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		t = time.Now()
		for _, key := range keys {
			if _, err := l.Get(key); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(time.Since(t).Seconds()*1e6/float64(len(keys)), "get-us")
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// memoryEnv holds a file of messages and a folder for a child that measures memory.
const memoryEnv = "CHARKHA_LOG_TEST_MEMORY"

// measureMemory streams messages from a file into a log, and prints in MB: the peak of anonymous memory meanwhile, what is left
// of it afterwards, file-backed memory, and anonymous memory after opening again.
func measureMemory(file, dir string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	l, err := Open(Options{Dir: dir})
	if err != nil {
		return err
	}
	stop, done, peak := make(chan struct{}), make(chan struct{}), 0.0
	go func() {
		defer close(done)
		for {
			anon, _ := memory()
			peak = max(peak, anon)
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	lines := bufio.NewScanner(in)
	for more := true; more; {
		var raws [][]byte
		for len(raws) < 2000 {
			if more = lines.Scan(); !more {
				break
			}
			raws = append(raws, bytes.Clone(lines.Bytes()))
		}
		if _, err := l.Append(raws); err != nil {
			return err
		}
	}
	close(stop)
	<-done
	debug.FreeOSMemory()
	after, mapped := memory()
	if err := errors.Join(lines.Err(), l.Close()); err != nil {
		return err
	}
	if l, err = Open(Options{Dir: dir}); err != nil {
		return err
	}
	debug.FreeOSMemory()
	again, _ := memory()
	fmt.Println(peak, after, mapped, again)
	return l.Close()
}

// BenchmarkMemory measures the memory of a process that does nothing but take in CHARKHA_BENCH_MESSAGES messages (100,000).
func BenchmarkMemory(b *testing.B) {
	file := filepath.Join(b.TempDir(), "messages")
	if err := os.WriteFile(file, bytes.Join(generated(), []byte("\n")), 0o600); err != nil {
		b.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), memoryEnv+"="+file, childEnv+"="+b.TempDir())
		out, err := cmd.Output()
		if err != nil {
			b.Fatal(err)
		}
		for i, value := range strings.Fields(string(out)) {
			mb, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(mb, []string{"anon-peak-MB", "anon-after-MB", "file-MB", "anon-reopened-MB"}[i])
		}
	}
}

// BenchmarkPublish publishes one message after the other, each on disk before the next; beside it what the file system
// needs to append and sync as many bytes. DESIGN.md has what was measured.
func BenchmarkPublish(b *testing.B) {
	content := []byte(`{"type":"post","text":"` + strings.Repeat("hello world ", 20) + `"}`)
	b.Run("log", func(b *testing.B) {
		l := open(b, Options{})
		k := key(1)
		if err := l.Confirm(k.ID()); err != nil {
			b.Fatal(err)
		}
		var took []time.Duration
		for b.Loop() {
			t := time.Now()
			if _, err := l.Publish(k, content); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(t))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	})
	b.Run("append+fsync", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "file"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		value := make([]byte, 700)
		var took []time.Duration
		for b.Loop() {
			t := time.Now()
			if _, err := f.Write(value); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(t))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	})
}

func fixtures(t testing.TB) (raws [][]byte) {
	vectors.Lines(t, "feeds-fixtures", "messages.jsonl.gz", func(_ int, line []byte) {
		var kvt struct{ Value json.RawMessage }
		if err := json.Unmarshal(line, &kvt); err != nil {
			t.Fatal(err)
		}
		raws = append(raws, kvt.Value)
	})
	return raws
}

// BenchmarkAppendFixtures appends real-looking messages in one call, unsynced.
func BenchmarkAppendFixtures(b *testing.B) {
	raws := fixtures(b)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		l, err := Open(Options{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := l.Append(raws); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if int(l.Len()) != len(raws) {
			b.Fatal(l.Len())
		}
		l.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(len(raws)*b.N)/b.Elapsed().Seconds(), "msgs/s")
}
