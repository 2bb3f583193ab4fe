package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"charkha/api"
	"charkha/bench/gen"
	"charkha/identity"
	"charkha/index"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/node"
)

// question is something that programs ask, many times, each time about something else.
type question struct {
	name  string // of the samples, and of the rival's question unless that is ""
	rival string
	about []any // what it is about, in turn
	ask   func(about any) (method string, arg any)
	call  bool // an async call; else a source is read to its end
	least int  // answers there must be on average, so that what is measured is found
}

const (
	askWarm  = 30  // questions that are not counted: what begins cold is told apart
	askMany  = 300 // questions that are
	askTimed = 20  // seconds for which the rival is asked one of them at most
)

// filter is a query of map-filter-reduce of one filter.
func filter(f any) any {
	return map[string]any{"query": []any{map[string]any{"$filter": f}}, "reverse": true, "limit": 50}
}

func post(more map[string]any) map[string]any {
	value := map[string]any{"content": map[string]any{"type": "post"}}
	for k, v := range more {
		value[k] = v
	}
	return value
}

// questions are those of the index, about what is in a data set.
func questions(d *feeds) ([]question, error) {
	long, err := d.longThreads()
	if err != nil {
		return nil, err
	}
	var authors, tags, words []any
	for i := range d.ids {
		authors = append(authors, d.ids[i*37%len(d.ids)]) // those who write much and those who write little
	}
	// ssb-db2 makes a bitmap of the mentions of each person out of the whole log when it is first asked: for half a second each, which
	// is not counted.
	mentioned := authors[:min(len(authors), 20)]
	for tag := range strings.FieldsSeq("gardening ssb solarpunk music bicycles bread sailing books new-people permaculture radio cats") {
		tags = append(tags, tag)
	}
	// None of these is a stop word of ssb-search2.
	list := strings.Fields("garden boat winter island bicycle kitchen library mountain river harvest wheel weaving")
	for i, word := range list {
		for _, other := range list[i+1:] {
			words = append(words, word+" "+other)
		}
	}
	object := func(pairs ...any) map[string]any {
		o := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			o[pairs[i].(string)] = pairs[i+1]
		}
		return o
	}
	return []question{
		{name: "threads", rival: "threads", about: []any{0}, least: 50, ask: func(any) (string, any) {
			return "threads.publicSummary", object("allowlist", []string{"post"}, "limit", 50)
		}},
		{name: "thread", rival: "thread", about: long, least: 1, ask: func(root any) (string, any) { return "threads.thread", object("root", root) }},
		{name: "profile", rival: "profile", about: authors, call: true, ask: func(id any) (string, any) { return "aboutSelf.get", id }},
		{name: "hashtag", rival: "hashtag", about: tags, least: 50, ask: func(tag any) (string, any) {
			return "backlinks.read", filter(object("dest", "#"+tag.(string)))
		}},
		{name: "mentions", rival: "mentions", about: mentioned, least: 1, ask: func(id any) (string, any) {
			return "backlinks.read", filter(object("dest", id, "value", post(nil)))
		}},
		{name: "typed", rival: "typed", about: authors, least: 5, ask: func(id any) (string, any) {
			return "query.read", filter(object("value", post(object("author", id))))
		}},
		{name: "words", rival: "words", about: words, least: 50, ask: func(text any) (string, any) {
			return "search2.query", object("text", text, "limit", 50)
		}},
		{name: "log", rival: "log", about: []any{0}, least: 1000, ask: func(any) (string, any) {
			return "createLogStream", object("reverse", true, "limit", 1000)
		}},
		// What no target is set for, and clients ask for.
		{name: "search.query", about: words, least: 50, ask: func(text any) (string, any) { return "search.query", object("query", text, "limit", 50) }},
		{name: "about.socialValue", about: authors, call: true, ask: func(id any) (string, any) {
			return "about.socialValue", object("key", "name", "dest", id)
		}},
		{name: "threads.hashtagSummary", about: tags, least: 50, ask: func(tag any) (string, any) {
			return "threads.hashtagSummary", object("hashtag", tag, "allowlist", []string{"post"}, "limit", 50)
		}},
		{name: "threads.profile", about: authors, least: 1, ask: func(id any) (string, any) {
			return "threads.profile", object("id", id, "allowlist", []string{"post"}, "limit", 10, "threadMaxSize", 3)
		}},
	}, nil
}

// longThreads are the messages that began the data set's long threads.
func (d *feeds) longThreads() (roots []any, err error) {
	raws, err := read(d.file)
	if err != nil {
		return nil, err
	}
	answers := map[string]int{}
	for _, raw := range raws {
		var v struct{ Content struct{ Root string } }
		if json.Unmarshal(raw, &v) != nil || v.Content.Root == "" {
			continue // encrypted, or no answer
		}
		if answers[v.Content.Root]++; answers[v.Content.Root] == gen.LongThread-1 {
			roots = append(roots, v.Content.Root)
		}
	}
	if len(roots) != d.Long {
		return nil, fmt.Errorf("%d long threads in %s, want %d", len(roots), d.file, d.Long)
	}
	return roots, nil
}

// quantiles keeps how long half of some calls and 99 of 100 took at most.
func (r *run) quantiles(name string, took []float64) {
	slices.Sort(took)
	r.add("index "+name+", p50", took[len(took)/2], "ms")
	r.add("index "+name+", p99", took[len(took)*99/100], "ms")
}

// kept is a folder for a store with a data set in it, which stays for the next run: fill puts it there.
func (r *run) kept(d *feeds, name string, fill func(dir string) error) (string, error) {
	dir := strings.TrimSuffix(d.file, ".jsonl") + "-" + name
	if _, err := os.Stat(dir + "/filled"); err == nil {
		return dir, nil
	}
	if err := errors.Join(os.RemoveAll(dir), fill(dir)); err != nil {
		return "", err
	}
	return dir, os.WriteFile(dir+"/filled", nil, 0o644)
}

// indexRival measures what programs ask of the indexes of ssb-db2.
func (r *run) indexRival(d *feeds) error {
	all, err := questions(d)
	if err != nil {
		return err
	}
	dir, err := r.kept(d, "db2", func(dir string) error {
		p, err := startRival(r.root, "index.js", map[string]any{"dir": dir})
		if err != nil {
			return err
		}
		return errors.Join(p.load(d.file), p.stop())
	})
	if err != nil {
		return err
	}
	p, err := startRival(r.root, "index.js", map[string]any{"dir": dir, "rebuild": true})
	if err != nil {
		return err
	}
	defer func() { p.stop() }()
	peak := p.watch()
	var took float64
	if err := p.call(&took, "build"); err != nil {
		return err
	}
	r.add("index build ssb-db2", float64(d.Messages)/took, "messages/s")
	r.add("index build ssb-db2, peak", peak(), "MB anonymous")
	for _, q := range all {
		if q.rival == "" {
			continue
		}
		var about []any
		for i := range askWarm + askMany {
			about = append(about, q.about[i%len(q.about)])
		}
		var got struct {
			Took  []float64
			Found int
		}
		if err := p.call(&got, "time", q.rival, about, askWarm, askTimed); err != nil {
			// Of a million messages it may want more memory than it is given (8 GB), and ends. That is told, and the others are asked.
			fmt.Fprintf(os.Stderr, "index %s ssb-db2: %v\n", q.name, err)
			r.failed["index "+q.name+" ssb-db2"] = true
			p.stop()
			if p, err = startRival(r.root, "index.js", map[string]any{"dir": dir}); err != nil {
				return err
			}
			continue
		}
		if got.Found < q.least*len(got.Took) {
			return fmt.Errorf("%s: %d answers to %d questions", q.name, got.Found, len(got.Took))
		}
		r.quantiles(q.name+" ssb-db2", got.Took)
	}
	var lives []float64
	if err := p.call(&lives, "live", 30); err != nil {
		return fmt.Errorf("live: %w", err)
	}
	r.quantiles("live ssb-db2", lives)
	return nil
}

// indexCharkha measures what programs ask of our views.
func (r *run) indexCharkha(d *feeds) error {
	all, err := questions(d)
	if err != nil {
		return err
	}
	dir, err := r.kept(d, "charkha", func(dir string) error {
		c, err := startCharkha(r.bin, dir)
		if err != nil {
			return err
		}
		return errors.Join(c.load(d.file), c.request(d.ids), c.stop())
	})
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
		return err
	}
	began := time.Now()
	c, err := startCharkha(r.bin, dir)
	if err != nil {
		return err
	}
	defer c.stop()
	peak := c.watch()
	if err := c.settled(); err != nil {
		return err
	}
	r.add("index build charkha", float64(d.Messages)/time.Since(began).Seconds(), "messages/s")
	r.add("index build charkha, peak", peak(), "MB anonymous")
	r.add("index build charkha, cpu", c.cpu().Seconds()/float64(d.Messages)*1e6, "us of CPU a message")
	c.rests()
	for _, q := range all {
		var took []float64
		found := 0
		for i := range askWarm + askMany {
			method, arg := q.ask(q.about[i%len(q.about)])
			began := time.Now()
			n, err := c.ask(q.call, method, arg)
			if err != nil {
				return fmt.Errorf("%s: %w", method, err)
			}
			if i < askWarm {
				continue
			}
			took = append(took, float64(time.Since(began).Nanoseconds())/1e6)
			found += n
		}
		if found < q.least*askMany {
			return fmt.Errorf("%s: %d answers to %d questions", q.name, found, askMany)
		}
		r.quantiles(q.name+" charkha", took)
	}
	return r.shown(c)
}

// rests waits until a node does next to nothing, for a minute at most: after an index was built, its files are put in order for a
// while.
func (c *charkha) rests() {
	for range 60 {
		before := c.cpu()
		time.Sleep(time.Second)
		if c.cpu()-before < 50*time.Millisecond {
			return
		}
	}
}

// ask asks a node, and returns how many answers came.
func (c *charkha) ask(call bool, method string, arg any) (n int, err error) {
	if call {
		return 1, c.call(nil, method, arg)
	}
	s, err := c.conn.Open(context.Background(), muxrpc.CallOptions{Kind: muxrpc.Source, Patient: true}, method, arg)
	if err != nil {
		return 0, err
	}
	for {
		bodies, err := s.RecvBatch(1000)
		n += len(bodies)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// shown publishes posts, one after the other, and takes the time until a live query on another connection shows each.
func (r *run) shown(c *charkha) error {
	sock, err := node.DialLocal(context.Background(), c.dir)
	if err != nil {
		return err
	}
	watcher := muxrpc.New(sock, muxrpc.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		watcher.Run(ctx)
		close(ended)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	live := filter(map[string]any{"value": post(nil)}).(map[string]any)
	s, err := watcher.Source(ctx, "query.read", map[string]any{"query": live["query"], "live": true, "old": false})
	if err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond) // it follows
	var took []float64
	for i := range askWarm + askMany {
		text := fmt.Sprint("live ", i)
		began := time.Now()
		if err := c.call(nil, "publish", map[string]string{"type": "post", "text": text}); err != nil {
			return err
		}
		body, err := s.Recv()
		if err != nil {
			return err
		}
		if at := time.Since(began); i >= askWarm {
			took = append(took, float64(at.Nanoseconds())/1e6)
		}
		var m struct {
			Value struct{ Content struct{ Text string } }
		}
		if err := json.Unmarshal(body.Data, &m); err != nil || m.Value.Content.Text != text {
			return fmt.Errorf("a live query shows %s instead of %q: %w", body.Data, text, err)
		}
	}
	r.quantiles("live charkha", took)
	return nil
}

// ingest appends a data set to an empty log, without views and with all of them following.
func (r *run) ingest(d *feeds) error {
	for _, views := range []string{"without", "with"} {
		dir, remove := r.temp("ingest")
		defer remove()
		cmd := exec.Command(r.self, "ingest", views, d.file, dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("ingest: %w", err)
		}
		var stored, viewed float64
		if _, err := fmt.Sscan(string(out), &stored, &viewed); err != nil {
			return fmt.Errorf("ingest says %q: %w", out, err)
		}
		r.add("index ingest, "+views, float64(d.Messages)/stored, "messages/s stored")
		r.add("index ingest, "+views+", shown", float64(d.Messages)/viewed, "messages/s until all views have them")
	}
	return nil
}

// ingestWorker appends the messages of a file to a new log, as replication does, with views that follow it or without. It prints the
// seconds until all are on disk, and until all views have them.
func ingestWorker(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: bench ingest with|without FILE DIR")
	}
	raws, err := read(args[1])
	if err != nil {
		return err
	}
	l, err := log.Open(log.Options{Dir: filepath.Join(args[2], "log")})
	if err != nil {
		return err
	}
	me := identity.FromSeed([32]byte{1})
	ctx, cancel := context.WithCancel(context.Background())
	stop := func() error { cancel(); return nil }
	wait := func() error { return nil }
	if args[0] == "with" {
		x, err := index.Open(index.Options{Dir: filepath.Join(args[2], "index"), Log: l, Self: me.ID(), Hops: 2,
			Unbox: func(m *log.Message) ([]byte, bool) { return api.Unbox(m, me) }})
		if err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() { ended <- x.Run(ctx) }()
		wait = func() error { return x.Wait(ctx, l.Len()) }
		stop = func() error {
			cancel()
			return errors.Join(<-ended, x.Close())
		}
	}
	runtime.GC()
	began := time.Now()
	for piece := range slices.Chunk(raws, 1000) {
		results, err := l.Append(piece)
		if err != nil {
			return err
		}
		for _, res := range results {
			if res.Status != log.Stored {
				return fmt.Errorf("%s: %w", res.Status, res.Err)
			}
		}
	}
	if err := l.Sync(); err != nil {
		return err
	}
	stored := time.Since(began)
	if err := wait(); err != nil {
		return err
	}
	fmt.Println(stored.Seconds(), time.Since(began).Seconds())
	return errors.Join(stop(), l.Close())
}

// indexTable writes the rows of the index in Markdown.
func (r *run) indexTable(d *feeds) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## The local API and its indexes\n\n%s messages of %d authors, %d questions each; Charkha over its unix socket, ssb-db2 inside its own process.\n\n",
		number(float64(d.Messages)), d.Authors, askMany)
	b.WriteString("| what | Charkha p50 | p99 | ssb-db2 p50 | p99 | bar | holds |\n|---|---|---|---|---|---|---|\n")
	ms := func(name string) string {
		base, _, _ := strings.Cut(name, ",")
		switch {
		case r.failed[base]:
			return "out of memory"
		case len(r.samples[name]) == 0:
			return ""
		}
		return strconv.FormatFloat(r.median(name), 'f', 2, 64) + " ms"
	}
	row := func(what, name, rival string, p50, p99 float64) {
		bar, holds := "", ""
		switch {
		case p50 > 0 && p99 > 0:
			bar = fmt.Sprintf("p50 below %v ms, p99 below %v ms", p50, p99)
		case p50 > 0:
			bar = fmt.Sprintf("p50 below %v ms", p50)
		case p99 > 0:
			bar = fmt.Sprintf("p99 below %v ms", p99)
		}
		if bar != "" {
			ok := (p50 == 0 || r.median("index "+name+" charkha, p50") < p50) && (p99 == 0 || r.median("index "+name+" charkha, p99") < p99)
			holds = yes(ok)
		}
		theirs := "index " + rival + " ssb-db2"
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", what, ms("index "+name+" charkha, p50"), ms("index "+name+" charkha, p99"), ms(theirs+", p50"), ms(theirs+", p99"), bar, holds)
	}
	row("newest 50 public threads with how many answers (`threads.publicSummary`)", "threads", "threads", 1, 5)
	row("a thread of 200 (`threads.thread`)", "thread", "thread", 1, 5)
	row("a profile (`aboutSelf.get`)", "profile", "profile", 1, 5)
	row("newest 50 of a hashtag (`backlinks.read`)", "hashtag", "hashtag", 1, 5)
	row("posts that mention somebody, newest 50 (`backlinks.read`)", "mentions", "mentions", 1, 5)
	row("posts of an author, newest 50 (`query.read`)", "typed", "typed", 1, 5)
	row("full text, two words, newest 50 (`search2.query`)", "words", "words", 0, 20)
	row("`createLogStream {reverse: true, limit: 1000}`", "log", "log", 5, 0)
	row("publish until a live query shows it (`query.read`)", "live", "live", 0, 5)
	row("two words as npm ssb-search asks (`search.query`)", "search.query", "", 0, 0)
	row("what most call somebody (`about.socialValue`)", "about.socialValue", "", 0, 0)
	row("newest 50 threads of a hashtag (`threads.hashtagSummary`)", "threads.hashtagSummary", "", 0, 0)
	row("newest 10 threads of a person (`threads.profile`)", "threads.profile", "", 0, 0)

	b.WriteString("\n| what | Charkha | beside it | ratio | bar | holds |\n|---|---|---|---|---|---|\n")
	speed := func(what, ours, rival, bar string, least, ratio float64) {
		if len(r.samples[ours]) == 0 {
			return
		}
		theirs, times := "", ""
		holds := r.median(ours) >= least
		if x := r.median(rival); x > 0 {
			theirs, times = number(x)+" /s", fmt.Sprintf("%.2f", r.median(ours)/x)
			holds = holds && r.median(ours) >= ratio*x
		}
		fmt.Fprintf(&b, "| %s | %s /s | %s | %s | %s | %s |\n", what, number(r.median(ours)), theirs, times, bar, yes(holds))
	}
	speed("all views from nothing; beside ssb-db2 with ssb-search2 and ssb-threads", "index build charkha", "index build ssb-db2", "at least 40,000 /s, 6 times", 40_000, 6)
	if peak := r.median("index build charkha, peak"); peak > 0 {
		fmt.Fprintf(&b, "| peak anonymous memory meanwhile | %s MB | %s MB | | below 200 MB | %s |\n", number(peak), number(r.median("index build ssb-db2, peak")), yes(peak < 200))
		fmt.Fprintf(&b, "| CPU of the start and the views from nothing | %s us a message | | | | |\n", number(r.median("index build charkha, cpu")))
	}
	speed("taking in with all views following, until stored; beside without", "index ingest, with", "index ingest, without", "at least 0.6 times", 0, 0.6)
	speed("the same until all views show all", "index ingest, with, shown", "index ingest, without", "at least 0.6 times", 0, 0.6)
	return b.String()
}

func yes(holds bool) string {
	if holds {
		return "yes"
	}
	return "NO"
}
