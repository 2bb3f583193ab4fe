package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"charkha/bench/gen"
	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
)

// read gives the messages of a file of JSON lines.
func read(file string) (raws [][]byte, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 1<<16), 1<<20)
	for sc.Scan() {
		var line struct{ Value json.RawMessage }
		if err := json.Unmarshal(sc.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		raws = append(raws, line.Value)
	}
	return raws, sc.Err()
}

var metric = regexp.MustCompile(`([0-9.e+-]+) ([A-Za-z0-9/-]+)`)

// goBench runs Go benchmarks of a package and gives do each result: its name without "Benchmark", the number of processors, and
// its metrics by unit.
func (r *run) goBench(pkg, bench, cpus, benchtime, tags string, do func(name string, cpu int, metrics map[string]float64)) error {
	cmd := exec.Command("go", "test", "-tags", tags, "-run", "^$", "-bench", bench, "-cpu", cpus, "-benchtime", benchtime, pkg)
	cmd.Dir = r.root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	found := false
	for line := range strings.Lines(string(out)) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok || !strings.HasPrefix(name, "Benchmark") {
			continue
		}
		name, cpu := strings.TrimSpace(strings.TrimPrefix(name, "Benchmark")), 1
		if at := strings.LastIndexByte(name, '-'); at > 0 {
			if n, err := strconv.Atoi(name[at+1:]); err == nil {
				name, cpu = name[:at], n
			}
		}
		metrics := map[string]float64{}
		for _, m := range metric.FindAllStringSubmatch(rest, -1) {
			if v, err := strconv.ParseFloat(m[1], 64); err == nil {
				metrics[m[2]] = v
			}
		}
		found = true
		do(name, cpu, metrics)
	}
	if !found {
		return fmt.Errorf("%s printed no result:\n%s", cmd, out)
	}
	return nil
}

func (r *run) verify() error {
	for _, cpus := range []string{"1", "2"} { // in one run the first of -cpu 1,2 has two, too, below b.Run
		if err := r.goBench("./log", "^BenchmarkVerify$", cpus, "1s", "", func(name string, cpu int, m map[string]float64) {
			r.add(fmt.Sprintf("%s, %d cores", name, cpu), m["ns/msg"]/1000, "us")
		}); err != nil {
			return err
		}
	}
	return r.goBench("./log", "^BenchmarkVerify$/^bulk$|^standard$/^1024$", "1", "1s", "purego", func(name string, _ int, m map[string]float64) {
		r.add(name+", purego", m["ns/msg"]/1000, "us")
	})
}

func (r *run) publish() error {
	return r.goBench("./log", "^BenchmarkPublish$", "2", "2s", "", func(name string, _ int, m map[string]float64) {
		r.add(name, m["p50-us"], "us")
	})
}

// appendWorker appends the messages of a file to a new log and prints the seconds from the first one until all are on
// disk.
func appendWorker(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: bench append FILE DIR")
	}
	raws, err := read(args[0])
	if err != nil {
		return err
	}
	l, err := log.Open(log.Options{Dir: args[1]})
	if err != nil {
		return err
	}
	runtime.GC()
	began := time.Now()
	for at := 0; at < len(raws); at += 10_000 {
		results, err := l.Append(raws[at:min(at+10_000, len(raws))])
		if err != nil {
			return err
		}
		for i, res := range results {
			if res.Status != log.Stored {
				return fmt.Errorf("line %d: %s: %w", at+i+1, res.Status, res.Err)
			}
		}
	}
	if err := l.Sync(); err != nil {
		return err
	}
	fmt.Println(time.Since(began).Seconds())
	return l.Close()
}

func (r *run) append(d *feeds) error {
	dir, remove := r.temp("append")
	defer remove()
	cmd := exec.Command(r.self, "append", d.file, filepath.Join(dir, "log"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	took, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		return err
	}
	r.add("append charkha", float64(d.Messages)/took, "messages/s")

	p, err := startPeer(r.root, filepath.Join(dir, "db2"))
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.call(&took, "load", d.file); err != nil {
		return err
	}
	r.add("append ssb-db2", float64(d.Messages)/took, "messages/s")
	return nil
}

// side is one end of a replication.
type side interface {
	load(file string) error
	request(ids []identity.ID) error
	connect(address string) error
	take(n int64) error
	stop() error
}

// pass replicates a data set from one side to the other, and returns the seconds from the call that connects until the receiver
// holds all of it.
func pass(d *feeds, from, to side, fromAddress string) (float64, error) {
	if err := from.request(d.ids); err != nil {
		return 0, err
	}
	if err := to.request(d.ids); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := to.connect(fromAddress); err != nil {
		return 0, err
	}
	err := to.take(int64(d.Messages))
	return time.Since(began).Seconds(), err
}

func (r *run) replicate(d *feeds) error {
	if err := r.passCharkha(d, "replicate charkha"); err != nil {
		return err
	}
	dir, remove := r.temp("replicate")
	defer remove()
	from, err := r.loadedPeer(d, dir)
	if err != nil {
		return err
	}
	defer from.stop()
	to, err := startPeer(r.root, filepath.Join(dir, "to"))
	if err != nil {
		return err
	}
	defer to.stop()
	took, err := pass(d, from, to, from.address)
	if err != nil {
		return err
	}
	r.add("replicate ssb-db2", float64(d.Messages)/took, "messages/s")
	return nil
}

func (r *run) loadedPeer(d *feeds, dir string) (*peer, error) {
	p, err := startPeer(r.root, filepath.Join(dir, "from"))
	if err != nil {
		return nil, err
	}
	return p, p.load(d.file)
}

// loadedCharkha starts a node that holds a data set, and whose index has read it.
func (r *run) loadedCharkha(d *feeds, dir string) (*charkha, error) {
	c, err := startCharkha(r.bin, filepath.Join(dir, "from"))
	if err != nil {
		return nil, err
	}
	if err := c.load(d.file); err != nil {
		return nil, err
	}
	return c, c.settled()
}

// passCharkha replicates from one charkha process to another.
func (r *run) passCharkha(d *feeds, name string) error {
	dir, remove := r.temp("replicate")
	defer remove()
	from, err := r.loadedCharkha(d, dir)
	if err != nil {
		return err
	}
	defer from.stop()
	to, err := startCharkha(r.bin, filepath.Join(dir, "to"))
	if err != nil {
		return err
	}
	defer func() { to.stop() }()
	peak := to.watch()
	took, err := pass(d, from, to, from.address)
	if err != nil {
		return err
	}
	r.add(name, float64(d.Messages)/took, "messages/s")
	if err := to.settled(); err != nil {
		return err
	}
	r.add(name+", peak", peak(), "MB anonymous, receiver")
	_, file := to.memory()
	r.add(name+", file", file, "MB file-backed, receiver")
	r.add(name+", cpu", to.cpu().Seconds()/float64(d.Messages)*1e6, "us of CPU a message, receiver")
	if err := to.stop(); err != nil {
		return err
	}
	r.add(name+", disk", float64(diskSize(filepath.Join(to.dir, "log")))/float64(d.json), "of the compact JSON")
	r.add(name+", index", float64(diskSize(filepath.Join(to.dir, "index")))/float64(d.Messages), "bytes a message of index")

	again, err := startCharkha(r.bin, to.dir)
	if err != nil {
		return err
	}
	defer again.stop()
	r.add(name+", start", again.ready.Seconds(), "s to the first answer")
	if err := again.settled(); err != nil {
		return err
	}
	time.Sleep(12 * time.Second) // what is done at start has been done
	anon, _ := again.memory()
	r.add(name+", idle", anon, "MB anonymous")
	return nil
}

// mixed replicates from Charkha to a JS peer and the other way.
func (r *run) mixed(d *feeds) error {
	dir, remove := r.temp("mixed")
	defer remove()
	if err := func() error {
		from, err := r.loadedCharkha(d, dir)
		if err != nil {
			return err
		}
		defer from.stop()
		to, err := startPeer(r.root, filepath.Join(dir, "to"))
		if err != nil {
			return err
		}
		defer to.stop()
		took, err := pass(d, from, to, from.address)
		if err == nil {
			r.add("charkha to ssb-db2", float64(d.Messages)/took, "messages/s")
		}
		return err
	}(); err != nil {
		return err
	}
	from, err := r.loadedPeer(d, filepath.Join(dir, "second"))
	if err != nil {
		return err
	}
	defer from.stop()
	to, err := startCharkha(r.bin, filepath.Join(dir, "second-to"))
	if err != nil {
		return err
	}
	defer to.stop()
	took, err := pass(d, from, to, from.address)
	if err == nil {
		r.add("ssb-db2 to charkha", float64(d.Messages)/took, "messages/s")
	}
	return err
}

func (r *run) big(d *feeds) error { return r.passCharkha(d, "big") }

// feed reads one feed of 1,000 messages with createHistoryStream, again and again, over the local socket.
func (r *run) feed() error {
	d, err := r.data(gen.Options{Messages: 1000, Authors: 1, Seed: 3})
	if err != nil {
		return err
	}
	dir, remove := r.temp("feed")
	defer remove()
	c, err := r.loadedCharkha(d, dir)
	if err != nil {
		return err
	}
	defer c.stop()
	const rounds = 300
	began := time.Now()
	for range rounds {
		s, err := c.conn.Open(context.Background(), muxrpc.CallOptions{Kind: muxrpc.Source, Patient: true}, "createHistoryStream",
			map[string]any{"id": d.ids[0], "keys": false})
		if err != nil {
			return err
		}
		n := 0
		for {
			bodies, err := s.RecvBatch(1000)
			n += len(bodies)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
		if n != d.Messages {
			return fmt.Errorf("%d messages in the feed", n)
		}
	}
	r.add("feed", rounds*float64(d.Messages)/time.Since(began).Seconds(), "messages/s")
	return nil
}

// reconnect lets two nodes that hold the same 10,000 feeds meet again. It takes the time from the call that connects until a message
// that was published meanwhile is there, and the bytes that went over the connection.
// traffic is what charkha.peers tells of a peer that is needed here.
type traffic struct {
	State             string
	BytesIn, BytesOut float64
}

// connected are the peers that a node is connected with: pubs that messages announce are peers, too.
func (c *charkha) connected() (peers []traffic, err error) {
	err = c.call(&peers, "charkha.peers")
	return slices.DeleteFunc(peers, func(p traffic) bool { return p.State != "connected" }), err
}

func (r *run) reconnect() error {
	d, err := r.data(gen.Options{Messages: 20_000, Authors: 10_000, Seed: 4})
	if err != nil {
		return err
	}
	dir, remove := r.temp("reconnect")
	defer remove()
	a, err := r.loadedCharkha(d, dir)
	if err != nil {
		return err
	}
	defer a.stop()
	b, err := startCharkha(r.bin, filepath.Join(dir, "to"))
	if err != nil {
		return err
	}
	defer b.stop()
	if _, err := pass(d, a, b, a.address); err != nil {
		return err
	}
	if err := b.request([]identity.ID{a.id}); err != nil {
		return err
	}
	wait := func(seq int64) error { return b.call(nil, "charkha.wait", map[string]any{"id": a.id, "seq": seq}) }
	post := func() (seq int64, err error) {
		var m struct{ Value struct{ Sequence int64 } }
		err = a.call(&m, "publish", map[string]string{"type": "post", "text": "while you were away"})
		return m.Value.Sequence, err
	}
	seq, err := post()
	if err == nil {
		err = wait(seq)
	}
	if err != nil {
		return err
	}
	for range 5 {
		time.Sleep(time.Second) // notes about what was stored last go out
		if err := b.call(nil, "conn.disconnect", a.id); err != nil {
			return err
		}
		for { // until a has noticed, too
			peers, err := a.connected()
			if err != nil {
				return err
			}
			if len(peers) == 0 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if seq, err = post(); err != nil {
			return err
		}
		began := time.Now()
		if err := b.connect(a.address); err != nil {
			return err
		}
		if err := wait(seq); err != nil {
			return err
		}
		r.add("reconnect", float64(time.Since(began).Microseconds())/1000, "ms")
		time.Sleep(time.Second)
		peers, err := b.connected()
		if err != nil {
			return err
		}
		if len(peers) != 1 {
			return fmt.Errorf("%d peers", len(peers))
		}
		r.add("reconnect, bytes", peers[0].BytesIn+peers[0].BytesOut, "bytes both ways, the message of about 400 included")
	}
	return nil
}

// live publishes on one of two connected nodes, and takes the time until the publisher has its answer, its message being on disk, and
// until the other node holds the message.
func (r *run) live() error {
	dir, remove := r.temp("live")
	defer remove()
	a, err := startCharkha(r.bin, filepath.Join(dir, "a"))
	if err != nil {
		return err
	}
	defer a.stop()
	b, err := startCharkha(r.bin, filepath.Join(dir, "b"))
	if err != nil {
		return err
	}
	defer b.stop()
	if err := errors.Join(b.request([]identity.ID{a.id}), b.connect(a.address)); err != nil {
		return err
	}
	var answers, arrivals []float64
	for seq := range 200 {
		held := make(chan error, 1)
		began := time.Now()
		var at time.Duration
		go func() {
			err := b.call(nil, "charkha.wait", map[string]any{"id": a.id, "seq": seq + 1})
			at = time.Since(began)
			held <- err
		}()
		if err := a.call(nil, "publish", map[string]string{"type": "post", "text": "live"}); err != nil {
			return err
		}
		answers = append(answers, float64(time.Since(began).Microseconds()))
		if err := <-held; err != nil {
			return err
		}
		arrivals = append(arrivals, float64(at.Microseconds()))
	}
	slices.Sort(answers)
	slices.Sort(arrivals)
	r.add("live, answered", answers[len(answers)/2], "us until the publisher has its answer")
	r.add("live, held", arrivals[len(arrivals)/2], "us until the other node holds it")
	return nil
}
