//go:build unix

package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"charkha/internal/vectors"
)

// command is a charkha process on a data folder.
func command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("charkha", append(args, "--path", dir)...)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	return cmd
}

// runNode starts a node, which is killed at the end of the test unless it has ended.
func runNode(t *testing.T) (dir string, node *exec.Cmd) {
	t.Helper()
	dir = t.TempDir()
	node = command(dir, "start", "--listen", "net:127.0.0.1:0", "--ws", "")
	var stderr bytes.Buffer
	node.Stderr = &stderr
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		node.Process.Kill()
		node.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "path") {
			return dir, node
		}
	}
	t.Fatalf("the node did not start: %s", stderr.String())
	return
}

// fixtures is the outside feeds as JSON lines.
func fixtures(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join(vectors.Dir(t, "feeds-fixtures"), "messages.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) < 4*mostRead {
		t.Fatalf("%d bytes are too few to fill a pipe with", len(data))
	}
	return data
}

// ended waits for a process and checks its exit status.
func ended(t *testing.T, cmd *exec.Cmd, status int) {
	t.Helper()
	_ = cmd.Wait() // the status is looked at
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Errorf("%s: %v, want status %d; %v", cmd.Args[1], cmd.ProcessState, status, cmd.Stderr)
	}
}

// An import that waits for more ends when it is interrupted, and says what it stored: not a message more or less.
func TestInterruptImport(t *testing.T) {
	t.Parallel()
	dir, _ := runNode(t)
	cmd := command(dir, "import", "-")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// More than a pipe holds: when it is written, the process is at work.
	if _, err := stdin.Write(fixtures(t)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended(t, cmd, 1)
	m := regexp.MustCompile(`^charkha: import -: interrupted \((\S+) messages stored before\)\n$`).FindStringSubmatch(stderr.String())
	if m == nil {
		t.Fatalf("it says %q", stderr.String())
	}
	held, err := command(dir, "export").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(bytes.Count(held, []byte{'\n'})); got != strings.ReplaceAll(m[1], ",", "") {
		t.Errorf("it stored %s messages and says %s", got, m[1])
	}
}

// An export that nobody reads ends when it is interrupted.
func TestInterruptExport(t *testing.T) {
	t.Parallel()
	dir, _ := runNode(t)
	fill := command(dir, "import", "-")
	fill.Stdin = bytes.NewReader(fixtures(t))
	if out, err := fill.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := command(dir, "export")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended(t, cmd, 1)
	if got := stderr.String(); got != "charkha: interrupted\n" {
		t.Errorf("it says %q", got)
	}
}

// interruptedAfter starts a command, waits until it has written a line, which begins so, interrupts a process, and returns what the command says
// of that. The command ends with status 1. whom nil: the command itself.
func interruptedAfter(t *testing.T, line string, whom *exec.Cmd, cmd *exec.Cmd) (says string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(got, line) {
		t.Fatalf("%q, %v", got, err)
	}
	if whom == nil {
		whom = cmd
	}
	if err := whom.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended(t, cmd, 1)
	return stderr.String()
}

// A post that waits for holders says that it was interrupted, and not that the node stopped.
func TestInterruptPost(t *testing.T) {
	t.Parallel()
	dir, _ := runNode(t)
	if got := interruptedAfter(t, "%", nil, command(dir, "post", "--wait", "1", "hello")); got != "charkha: interrupted\n" {
		t.Errorf("it says %q", got)
	}
}

// What watches ends with an error when the node stops: nobody asked it to end.
func TestWatchEndsWithTheNode(t *testing.T) {
	t.Parallel()
	dir, node := runNode(t)
	if got := interruptedAfter(t, "id", node, command(dir, "status", "--watch")); !strings.HasPrefix(got, "charkha: the node stopped") {
		t.Errorf("it says %q", got)
	}
}

// A full disk is told once.
func TestExportToFullDisk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		missing(t, "/dev/full, the disk that is full")
	}
	defer full.Close()
	dir, _ := runNode(t)
	if out, err := command(dir, "post", "hello").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := command(dir, "export")
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = full, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended(t, cmd, 1)
	if strings.Count(stderr.String(), "no space left") != 1 {
		t.Errorf("it says %q", stderr.String())
	}
}

// Content that does not come is not waited for after an interrupt.
func TestInterruptPublish(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	stdin, keyboard := io.Pipe()
	defer keyboard.Close()
	root := newRoot(&interruptible{ctx: ctx, r: stdin}, io.Discard)
	root.SetArgs([]string{"publish", "--path", t.TempDir()})
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(ctx) }()
	if _, err := keyboard.Write([]byte("{")); err != nil { // returns when it was read
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// The second interrupt ends a command that waits for what does not come, here for a node that stands still.
func TestSecondInterruptKills(t *testing.T) {
	t.Parallel()
	dir, node := runNode(t)
	if err := node.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	cmd := command(dir, "import", "-")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write(fixtures(t)[:mostRead*3/2]); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	again := time.NewTicker(10 * time.Millisecond) // signals that come at once are one
	defer again.Stop()
	for running := true; running; {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		select {
		case <-done:
			running = false
		case <-again.C:
		}
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v, want the signal", cmd.ProcessState)
	}
}

// Who waits for a node hears that it stopped, in whichever way.
func TestNodeStops(t *testing.T) {
	t.Parallel()
	const feed = "@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.ed25519"
	for _, how := range []os.Signal{os.Interrupt, os.Kill} {
		dir, node := runNode(t)
		wait := command(dir, "wait", "--feed", feed, "--seq", "1")
		stderr, err := wait.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		load := command(dir, "import", "-")
		var loadSays bytes.Buffer
		load.Stderr = &loadSays
		stdin, err := load.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(wait.Start(), load.Start()); err != nil {
			t.Fatal(err)
		}
		says := bufio.NewReader(stderr)
		if note, err := says.ReadString('\n'); err != nil || !strings.Contains(note, "not in range") {
			t.Fatalf("it says %q, %v", note, err)
		}
		if _, err := stdin.Write(fixtures(t)); err != nil {
			t.Fatal(err)
		}
		if err := node.Process.Signal(how); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(says)
		if err != nil || !strings.Contains(string(rest), "charkha: the node stopped before") || !strings.Contains(string(rest), "start") {
			t.Errorf("%v: wait says %q, %v", how, rest, err)
		}
		ended(t, wait, 1)
		ended(t, load, 1) // its standard input is still open
		if !strings.Contains(loadSays.String(), "import -: the node stopped before") {
			t.Errorf("%v: import says %q", how, loadSays.String())
		}
	}
}
