// Command bench measures Charkha beside its rivals, in one run on one machine, and writes what it found to RESULTS.md. README.md in
// this folder says what each row compares.
//
//	go run ./bench [-messages 100000] [-big 1000000] [-runs 3] [-only REGEXP] [-out bench/RESULTS.md]
//	go run ./bench -only index [-index-messages 1000000]
//	go run ./bench gen -messages N -authors M [-seed S]     writes JSON lines to standard output
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"charkha/bench/gen"
	"charkha/identity"
)

func main() {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == "gen":
		err = generate(os.Args[2:])
	case len(os.Args) > 1 && os.Args[1] == "append":
		err = appendWorker(os.Args[2:])
	case len(os.Args) > 1 && os.Args[1] == "ingest":
		err = ingestWorker(os.Args[2:])
	default:
		err = measure(os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func generate(args []string) error {
	var o gen.Options
	f := flag.NewFlagSet("gen", flag.ExitOnError)
	f.IntVar(&o.Messages, "messages", 100_000, "how many messages")
	f.IntVar(&o.Authors, "authors", 200, "of how many authors")
	f.Uint64Var(&o.Seed, "seed", 1, "the same seed makes the same messages")
	f.IntVar(&o.Long, "long", 0, "how many threads of 200 messages there are")
	if err := f.Parse(args); err != nil {
		return err
	}
	return writeLines(os.Stdout, o)
}

func writeLines(file *os.File, o gen.Options) error {
	w := bufio.NewWriterSize(file, 1<<20)
	var line []byte
	err := gen.Generate(o, func(m *gen.Message) error {
		line = m.AppendLine(line[:0])
		_, err := w.Write(line)
		return err
	})
	return errors.Join(err, w.Flush())
}

// run is one run of this program.
type run struct {
	root    string // of the repository
	dir     string // for everything that is made
	self    string // this program
	bin     string // charkha
	runs    int
	samples map[string][]float64
	failed  map[string]bool // what a rival could not do
}

// add keeps a sample and says it.
func (r *run) add(name string, value float64, unit string) {
	r.samples[name] = append(r.samples[name], value)
	fmt.Fprintf(os.Stderr, "%-60s %12.4g %s\n", name, value, unit)
}

// median returns the median of the samples of a name, 0 when there are none.
func (r *run) median(name string) float64 {
	s := slices.Clone(r.samples[name])
	if len(s) == 0 {
		return 0
	}
	slices.Sort(s)
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// feeds is generated data in a file.
type feeds struct {
	gen.Options
	file string
	ids  []identity.ID
	json int64 // bytes of the messages' compact JSON
}

// data makes a data set, or finds it from an earlier run.
func (r *run) data(o gen.Options) (*feeds, error) {
	long := ""
	if o.Long > 0 {
		long = fmt.Sprintf("-%d", o.Long)
	}
	d := &feeds{Options: o, file: filepath.Join(r.dir, fmt.Sprintf("v%d-%d-%d-%d%s.jsonl", gen.Version, o.Messages, o.Authors, o.Seed, long))}
	for a := range o.Authors {
		d.ids = append(d.ids, o.Key(a).ID())
	}
	if _, err := os.Stat(d.file); err != nil {
		fmt.Fprintf(os.Stderr, "generate %d messages of %d authors\n", o.Messages, o.Authors)
		f, err := os.Create(d.file + ".new")
		if err != nil {
			return nil, err
		}
		if err := errors.Join(writeLines(f, o), f.Close()); err != nil {
			return nil, err
		}
		if err := os.Rename(f.Name(), d.file); err != nil {
			return nil, err
		}
	}
	raws, err := read(d.file)
	for _, raw := range raws {
		d.json += int64(len(raw))
	}
	return d, err
}

// temp makes an empty folder and returns a function that removes it.
func (r *run) temp(name string) (dir string, remove func()) {
	dir, err := os.MkdirTemp(r.dir, name+"-")
	if err != nil {
		panic(err)
	}
	return dir, func() { os.RemoveAll(dir) }
}

func measure(args []string) error {
	var messages, big, viewed int
	var only, out string
	r := &run{samples: map[string][]float64{}, failed: map[string]bool{}}
	f := flag.NewFlagSet("bench", flag.ExitOnError)
	f.IntVar(&messages, "messages", 100_000, "messages of the rows that are compared with JS")
	f.IntVar(&big, "big", 1_000_000, "messages of the large log; 0 leaves those rows out")
	f.IntVar(&viewed, "index-messages", 100_000, "messages of the rows of the local API and its indexes")
	f.IntVar(&r.runs, "runs", 3, "how often each thing is measured; medians are told")
	f.StringVar(&only, "only", "", "measure only what matches: verify, append, replicate, mixed, big, feed, live, publish, reconnect, blobs, index")
	f.StringVar(&out, "out", "bench/RESULTS.md", "the file that is written; empty: none")
	f.StringVar(&r.dir, "dir", filepath.Join(os.TempDir(), "charkha-bench"), "where data and stores are made; generated data stays there")
	if err := f.Parse(args); err != nil {
		return err
	}
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	root, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return err
	}
	r.root = filepath.Dir(strings.TrimSpace(string(root)))
	if r.self, err = os.Executable(); err != nil {
		return err
	}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	r.bin = filepath.Join(r.dir, "charkha")
	build := exec.Command("go", "build", "-o", r.bin, "./cmd/charkha")
	build.Dir = r.root
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build charkha: %w\n%s", err, text)
	}
	small, err := r.data(gen.Options{Messages: messages, Authors: 200, Seed: 1})
	if err != nil {
		return err
	}
	var views *feeds // when it is needed
	indexed := func(do func(*feeds) error) (err error) {
		if views == nil {
			views, err = r.data(gen.Options{Messages: viewed, Authors: max(200, viewed/1000), Seed: 5, Long: viewed / 10_000})
		}
		if err != nil {
			return err
		}
		return do(views)
	}
	parts := []struct {
		name string
		do   func() error
	}{
		{"verify", r.verify},
		{"publish", r.publish},
		{"append", func() error { return r.append(small) }},
		{"replicate", func() error { return r.replicate(small) }},
		{"mixed", func() error { return r.mixed(small) }},
		{"feed", r.feed},
		{"live", r.live},
		{"reconnect", r.reconnect},
		{"blobs", r.blobs},
		{"big", func() error {
			if big == 0 {
				return nil
			}
			d, err := r.data(gen.Options{Messages: big, Authors: 1000, Seed: 2})
			if err != nil {
				return err
			}
			return r.big(d)
		}},
		{"index-rival", func() error { return indexed(r.indexRival) }},
		{"index-charkha", func() error { return indexed(r.indexCharkha) }},
		{"index-ingest", func() error { return indexed(r.ingest) }},
	}
	for range r.runs { // interleaved: what disturbs the machine disturbs all rows
		for _, p := range parts {
			if !match.MatchString(p.name) {
				continue
			}
			if err := p.do(); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	text := r.table(small, big)
	if views != nil {
		text += r.indexTable(views)
	}
	fmt.Print(text)
	if out == "" {
		return nil
	}
	return os.WriteFile(out, []byte(text), 0o644)
}
