//go:build interop

package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"charkha/internal/vectors"
)

// TestSecretHandshakeConformance runs both suites of npm shs1-test against our two sides of the secret handshake: they
// shake hands properly, and then with every kind of wrong message, which must be refused without another byte.
func TestSecretHandshakeConformance(t *testing.T) {
	t.Parallel()
	suites := filepath.Join(vectors.Root(), "interop", "js", "node_modules", "shs1-test")
	if _, err := os.Stat(suites); err != nil {
		t.Fatalf("the npm peers are not installed, run make interop-peers: %v", err)
	}
	exe := filepath.Join(t.TempDir(), "shs1")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", exe, "charkha/interop/internal/shs1")
	build.Dir = vectors.Root()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, suite := range []string{"server", "client"} {
		for _, seed := range []string{"wheel", "spindle", "thread"} {
			t.Run(suite+"-"+seed, func(t *testing.T) {
				run := exec.CommandContext(t.Context(), "node", filepath.Join(suites, "test-"+suite+".js"), exe, seed)
				out, err := run.CombinedOutput()
				if err != nil {
					t.Fatalf("shs1-test, %s suite: %v\n%s", suite, err, out)
				}
				if !strings.Contains(string(out), "Passed the "+suite+" test suite") {
					t.Fatalf("shs1-test, %s suite, did not say that it passed:\n%s", suite, out)
				}
			})
		}
	}
}
