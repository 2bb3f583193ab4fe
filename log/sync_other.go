//go:build !linux

package log

import (
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
)

// syncFiles syncs the store with badger.DB.Sync: the write-ahead log and the value log that are being written. On Windows
// Badger does not write its memory maps through (ristretto's Msync is empty there): a power cut may take what the
// system had not written yet; of our own messages what the journal no longer has.
type syncFiles struct {
	dir string
	db  *badger.DB
}

func openSyncFiles(dir string, db *badger.DB) (*syncFiles, error) { return &syncFiles{dir, db}, nil }

// sync makes durable what was committed last; all reports that this is everything, which it is not while an earlier
// write-ahead log has not become a table yet.
func (s *syncFiles) sync() (all bool, err error) {
	logs, err := filepath.Glob(filepath.Join(s.dir, "*.mem"))
	if err != nil {
		return false, err
	}
	return len(logs) <= 1, s.db.Sync()
}

func (s *syncFiles) close() error { return nil }

// syncData makes what was written to a file durable.
func syncData(f *os.File) error { return f.Sync() }
