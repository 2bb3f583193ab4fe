package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"charkha/internal/vectors"
)

func TestMain(m *testing.M) {
	// Under the race detector every command would sleep for a second before it ends.
	if err := os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0")); err != nil {
		panic(err)
	}
	testscript.Main(hosts(m), map[string]func(){"charkha": main})
}

// running is a `charkha start` that runs beside a script.
type running struct {
	cmd    *exec.Cmd
	stdout io.Reader
	stderr bytes.Buffer
}

// TestScripts runs the stories in testdata/script. Beside testscript's own commands they have
//
//	node NAME ARGS...   run `charkha start ARGS...` in the background; goes on once it prints that it is ready, and leaves
//	                    what it printed as the output of this command
//	interrupt NAME      interrupt it and wait: it must end with status 0; leaves what it logged as the error output
//	crash NAME          kill it and wait
//	status N COMMAND... run a command that must end with this exit status
//
// and $PORT1 to $PORT3, TCP ports of loopback that are free; $FIXTURES, the folder of the outside vectors
// feeds-fixtures, and $AUTHOR, one of their authors. After node, $ADDRESS is where it listens.
func TestScripts(t *testing.T) {
	var author string
	vectors.Lines(t, "feeds-fixtures", "messages.jsonl.gz", func(_ int, line []byte) {
		var kvt struct{ Value struct{ Author string } }
		if err := json.Unmarshal(line, &kvt); err != nil {
			t.Fatal(err)
		}
		author = kvt.Value.Author
	})
	var nodes sync.Map // *running by work folder and name
	end := func(ts *testscript.TestScript, name string, sig os.Signal) *running {
		v, ok := nodes.LoadAndDelete(ts.Getenv("WORK") + name)
		if !ok {
			ts.Fatalf("no node %s runs", name)
		}
		n := v.(*running)
		ts.Check(n.cmd.Process.Signal(sig))
		return n
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GORACE", os.Getenv("GORACE"))
			for i, port := range freePorts(t, 3) {
				env.Setenv(fmt.Sprintf("PORT%d", i+1), port)
			}
			env.Setenv("FIXTURES", vectors.Dir(t, "feeds-fixtures"))
			env.Setenv("AUTHOR", author)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"node": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 1 {
					ts.Fatalf("usage: node NAME ARGS...")
				}
				bin, err := exec.LookPath("charkha")
				ts.Check(err)
				n := &running{cmd: exec.Command(bin, append([]string{"start", "--listen", "net:127.0.0.1:0", "--ws", ""}, args[1:]...)...)}
				n.cmd.Dir = ts.MkAbs(".")
				n.cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("WORK"))
				n.cmd.Stderr = &n.stderr
				pipe, err := n.cmd.StdoutPipe()
				ts.Check(err)
				n.stdout = pipe
				ts.Check(n.cmd.Start())
				name := ts.Getenv("WORK") + args[0]
				ts.Defer(func() {
					if nodes.CompareAndDelete(name, n) {
						n.cmd.Process.Kill()
						n.cmd.Wait()
					}
				})
				nodes.Store(name, n)
				sc := bufio.NewScanner(pipe)
				for sc.Scan() {
					fmt.Fprintln(ts.Stdout(), sc.Text())
					if addr, ok := strings.CutPrefix(sc.Text(), "address  "); ok {
						ts.Setenv("ADDRESS", addr)
					}
					if strings.HasPrefix(sc.Text(), "path") {
						return
					}
				}
				n.cmd.Wait()
				nodes.Delete(name)
				ts.Fatalf("node %s did not start: %s", args[0], n.stderr.String())
			},
			"interrupt": func(ts *testscript.TestScript, neg bool, args []string) {
				n := end(ts, args[0], os.Interrupt)
				err := n.cmd.Wait()
				fmt.Fprint(ts.Stderr(), n.stderr.String())
				ts.Check(err)
			},
			"crash": func(ts *testscript.TestScript, neg bool, args []string) {
				end(ts, args[0], syscall.SIGKILL).cmd.Wait()
			},
			"status": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: status N COMMAND...")
				}
				got := 0
				var exit *exec.ExitError
				if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
					got = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if want, err := strconv.Atoi(args[0]); err != nil || got != want {
					ts.Fatalf("exit status %d, want %s", got, args[0])
				}
			},
		},
	})
}

// freePorts finds TCP ports of loopback on which nobody listens now, each of them once. The system gives them to nobody who asks for any
// port: on Linux those begin at 32768, elsewhere above that.
func freePorts(t *testing.T, n int) (ports []string) {
	t.Helper()
	for len(ports) < n {
		port := strconv.Itoa(10_000 + rand.IntN(20_000))
		if _, given := givenPorts.LoadOrStore(port, true); given {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue // another program's
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}

var givenPorts sync.Map // of texts: what freePorts gave out

// missing skips a test for want of something that the computer does not have; in CI it fails.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("MISSING: %s", what)
	}
	t.Skipf("MISSING: %s", what)
}

// TestReadmeTour runs the console examples of README.md as they stand there, in one shell, and compares what they print:
// "..." stands for any text, and alone on a line for any lines.
func TestReadmeTour(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		missing(t, "bash, with which the examples of README.md are run")
	}
	readme, err := os.ReadFile(filepath.Join(vectors.Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(readme)
	for i, port := range freePorts(t, 2) {
		text = strings.ReplaceAll(text, []string{"18008", "18009"}[i], port)
	}
	type example struct{ cmd, want string }
	var tour []example
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(block[1]) {
			if cmd, ok := strings.CutPrefix(line, "$ "); ok {
				tour = append(tour, example{cmd: strings.TrimSpace(cmd)})
			} else {
				tour[len(tour)-1].want += line
			}
		}
	}
	if len(tour) < 10 {
		t.Fatalf("README.md has only %d examples", len(tour))
	}

	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "charkha")); err != nil {
		t.Fatal(err)
	}
	const mark = "--- end of example, status "
	var script strings.Builder
	// start runs a node in the background and goes on when it is ready.
	script.WriteString(`start() { mkfifo f$1; shift_=$1; shift; "$@" > f$shift_ 2> log$shift_ & pids="$pids $!"
		while read -r line; do echo "$line"; case $line in path*) break;; esac; done < f$shift_; }
		trap 'kill -9 $pids 2>/dev/null' EXIT
`)
	for i, ex := range tour {
		cmd := ex.cmd
		if strings.HasPrefix(cmd, "charkha start") {
			cmd = fmt.Sprintf("start %d %s", i, cmd)
		}
		fmt.Fprintf(&script, "%s\necho \"%s$?\"\n", cmd, mark)
	}
	script.WriteString("kill -INT $pids\nfor p in $pids; do wait $p || echo stop: $?; done\ntrap - EXIT\n")

	sh := exec.Command("bash", "-c", script.String())
	sh.Dir = dir
	sh.Env = append(os.Environ(), "HOME="+dir, "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	var stderr bytes.Buffer
	sh.Stderr = &stderr
	out, err := sh.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr.Bytes())
	}
	rest := string(out)
	for _, ex := range tour {
		var got, status string
		got, rest, _ = strings.Cut(rest, mark)
		status, rest, _ = strings.Cut(rest, "\n")
		if status != "0" {
			t.Fatalf("$ %s\nstatus %s\n%s%s", ex.cmd, status, got, stderr.Bytes())
		}
		pattern := regexp.QuoteMeta(ex.want)
		pattern = regexp.MustCompile(`(?m)^\\\.\\\.\\\.$\n`).ReplaceAllString(pattern, `(?s:.*)`)
		pattern = strings.ReplaceAll(pattern, `\.\.\.`, `.*`)
		if !regexp.MustCompile(`^` + pattern + `$`).MatchString(got) {
			t.Errorf("$ %s\nprints\n%sand README.md says\n%s", ex.cmd, got, ex.want)
		}
	}
	if rest != "" {
		t.Errorf("at the end: %s%s", rest, stderr.Bytes())
	}
}
