package replicate

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A conn.json that cannot be understood is put aside, not written over.
func TestDamagedConnFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "conn.json"), []byte("what is this"), 0o600); err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	n := &Network{log: slog.New(slog.NewTextHandler(&told, nil))}
	n.o.Dir = dir
	if saved := n.remembered(); len(saved) != 0 {
		t.Errorf("%d peers", len(saved))
	}
	if b, err := os.ReadFile(filepath.Join(dir, "conn.json.damaged")); err != nil || string(b) != "what is this" {
		t.Errorf("%q, %v", b, err)
	}
	if !strings.Contains(told.String(), "put aside") {
		t.Errorf("told: %s", told.String())
	}
}
