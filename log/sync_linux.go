package log

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
)

// syncFiles syncs Badger's files through descriptors of its own. badger.DB.Sync syncs the write-ahead log and then the value
// log, one after the other, and leaves out a write-ahead log that was full and has not become a table yet; here both
// are synced at once, which takes little longer than one (the file system commits its journal once), and none is left out.
// On Linux syncing any descriptor of a file writes what was changed through a memory map, too.
type syncFiles struct {
	dir  *os.File
	logs [2]growingLog
}

// growingLog is one of the two sequences of numbered files to which Badger appends, newest last.
type growingLog struct {
	pattern string
	id      int
	file    *os.File // of id
}

func openSyncFiles(dir string, _ *badger.DB) (*syncFiles, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	s := &syncFiles{dir: d, logs: [2]growingLog{{pattern: "%05d.mem"}, {pattern: "%06d.vlog"}}}
	names, err := os.ReadDir(dir)
	if err != nil {
		return s, err
	}
	for i := range s.logs {
		g := &s.logs[i]
		ids := g.ids(names)
		if len(ids) == 0 {
			return s, fmt.Errorf("log: %s: no file like %s", dir, g.pattern)
		}
		g.id = ids[len(ids)-1]
		if g.file, err = g.open(dir, g.id); err != nil {
			return s, err
		}
	}
	// The names of the files, and of the folder, are on disk before anything in them is said to be.
	up, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return s, err
	}
	defer up.Close()
	return s, errors.Join(d.Sync(), up.Sync())
}

// sync makes durable what was committed before the call; all reports that this is everything.
func (s *syncFiles) sync() (all bool, err error) {
	var wg sync.WaitGroup
	var errs [3]error
	var advanced [2]bool
	wg.Go(func() { advanced[1], errs[1] = s.logs[1].sync(s.dir.Name()) })
	advanced[0], errs[0] = s.logs[0].sync(s.dir.Name())
	wg.Wait()
	if advanced[0] || advanced[1] {
		errs[2] = s.dir.Sync()
	}
	err = errors.Join(errs[:]...)
	return err == nil, err
}

// sync syncs the file that was the newest one at the last call, and those that followed.
func (g *growingLog) sync(dir string) (advanced bool, err error) {
	for {
		if err := syncData(g.file); err != nil {
			return advanced, err
		}
		next, err := g.next(dir)
		if next == nil || err != nil {
			return advanced, err
		}
		g.file.Close()
		g.file = next
		advanced = true
	}
}

// next opens the file that follows, if there is one, and counts on.
func (g *growingLog) next(dir string) (*os.File, error) {
	f, err := g.open(dir, g.id+1)
	if err == nil {
		g.id++
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// A write-ahead log goes away when its table is on disk, the oldest first. So while ours is there, none follows it.
	var st unix.Stat_t
	if err := unix.Fstat(int(g.file.Fd()), &st); err != nil || st.Nlink > 0 {
		return nil, err
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, id := range g.ids(names) {
		if id <= g.id {
			continue
		}
		if f, err := g.open(dir, id); err == nil || !errors.Is(err, fs.ErrNotExist) {
			g.id = id
			return f, err
		}
	}
	return nil, nil
}

// ids returns the numbers of the files that are there, in ascending order.
func (g *growingLog) ids(names []os.DirEntry) (ids []int) {
	for _, e := range names {
		var id int
		if _, err := fmt.Sscanf(e.Name(), g.pattern, &id); err == nil && e.Name() == fmt.Sprintf(g.pattern, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (g *growingLog) open(dir string, id int) (*os.File, error) {
	return os.Open(filepath.Join(dir, fmt.Sprintf(g.pattern, id)))
}

func (s *syncFiles) close() error {
	if s == nil {
		return nil
	}
	errs := []error{s.dir.Close()}
	for i := range s.logs {
		if s.logs[i].file != nil {
			errs = append(errs, s.logs[i].file.Close())
		}
	}
	return errors.Join(errs...)
}

// syncData makes what was written to a file durable, without its times.
func syncData(f *os.File) error {
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", f.Name(), err)
	}
	return nil
}
