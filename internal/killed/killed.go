// Package killed is for tests of what a process leaves behind that dies in the middle of its work.
package killed

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// After starts the test's own program with env added to its environment, where TestMain makes it work and print a line for each
// step; kills it (SIGKILL) when it has printed so many lines; and hands each line to the test, those included that were printed
// until it was dead. A process that ends by itself, or complains on its standard error, ends the test. Tests that call it are
// not parallel: between fork and exec a child holds what files others have open, the locks of their folders included. On Windows
// the test is skipped.
func After(t *testing.T, lines int, env string, stdin io.Reader, each func(line string)) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGKILL")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), env)
	cmd.Stdin = stdin
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // when each ends the test
	out := bufio.NewScanner(stdout)
	killed := false
	for out.Scan() {
		if lines--; lines <= 0 && !killed {
			killed = true
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		each(out.Text())
	}
	err = cmd.Wait()
	if !killed || out.Err() != nil || stderr.Len() > 0 {
		t.Fatalf("the child ended by itself: %v, %v\n%s", err, out.Err(), &stderr)
	}
}
