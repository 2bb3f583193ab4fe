package log

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

// merger keeps the number of value log files bounded by what is stored. Badger begins a new one at each start and never adds to
// an older one, so a log that is often started would collect small ones without end, all of them open and mapped.
//
// When there are mergeFrom files of about the same size, what is still referred to in them is written again, as a new version of
// its key, into the file that is being written, and they are removed. Sizes count in steps of four, so that a message is
// written again once a step, five times at most, and of each step fewer than mergeFrom files stay. It happens on a goroutine that Open
// starts, in small transactions. Close waits until it has read closeMerge bytes, so that short lives get on with it, too.
//
// A power cut may leave the new version of a key and take its value (dgraph-io/badger#2000), and what was synced long ago
// must survive. So the names of the files are noted in the file "merging" before anything is written, and a file is removed
// when all is synced and has left the write-ahead log for a table. An Open that finds the note after a crash reads the new
// versions, and writes once more what is not whole.
type merger struct {
	quit chan struct{}  // fixed after start
	once sync.Once      // closes quit
	done sync.WaitGroup // the goroutine

	mu   sync.Mutex
	dead []deadLog
}

// deadLog is a value log to which nothing refers any more, when the write-ahead logs up to one are gone.
type deadLog struct {
	name  string
	until int
}

const (
	mergeFrom  = 4         // files of a step
	mergeLeast = 64 << 10  // all files below are one step
	mergeMost  = 16 << 20  // files from here on stay as they are
	mergeBatch = 128 << 10 // bytes in a transaction
	closeMerge = 2 << 20

	mergingNote = "merging"

	// mergedCopy is the meta byte of what was written by a merge.
	mergedCopy = 1
)

// mergeable returns the names of the value logs that are worth to be merged.
func mergeable(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir) // in order of their names
	if err != nil {
		return nil, err
	}
	steps := map[int][]string{}
	newest := ""
	for _, e := range entries {
		if !isValueLog(e.Name()) {
			continue
		}
		newest = e.Name()
		st, err := e.Info()
		if err != nil {
			return nil, err
		}
		step := 0
		for size := st.Size(); size >= mergeLeast; size /= 4 {
			step++
		}
		if st.Size() < mergeMost {
			steps[step] = append(steps[step], e.Name())
		}
	}
	for _, of := range steps {
		if len(of) > 0 && of[len(of)-1] == newest { // it is being written
			of = of[:len(of)-1]
		}
		if len(of) >= mergeFrom {
			names = append(names, of...)
		}
	}
	slices.Sort(names)
	return names, nil
}

func isValueLog(name string) bool { return numberOfFile(name, "%06d.vlog") >= 0 }

// numberOfFile returns the number in a file's name, -1 if it has another form.
func numberOfFile(name, pattern string) int {
	var id int
	if _, err := fmt.Sscanf(name, pattern, &id); err != nil || fmt.Sprintf(pattern, id) != name {
		return -1
	}
	return id
}

// newestWAL returns the number of the newest write-ahead log, 0 if there is none.
func newestWAL(dir string) (newest int, err error) {
	_, newest, err = walRange(dir)
	return newest, err
}

func walRange(dir string) (oldest, newest int, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	for _, name := range names {
		if id := numberOfFile(filepath.Base(name), "%05d.mem"); id > 0 {
			newest = max(newest, id)
			if oldest == 0 || id < oldest {
				oldest = id
			}
		}
	}
	return oldest, newest, err
}

// valueEntry is what stands in a value log.
type valueEntry struct {
	key     []byte
	version uint64
	value   []byte
}

var errValueLog = errors.New("the value log is damaged")

// eachEntry calls do with the entries of a value log that is complete. errValueLog: something in it is not whole.
func eachEntry(name string, do func(valueEntry) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	at := int64(logHead)
	r := bufio.NewReaderSize(f, 1<<16)
	if _, err := r.Discard(logHead); err != nil {
		return errors.Join(errValueLog, err)
	}
	var b []byte
	for at < st.Size() {
		size, ok := entrySize(r, st.Size()-at)
		if !ok {
			return errValueLog
		}
		if size == 0 { // zeros behind the last entry are what a power cut leaves of a file that was made shorter
			rest, err := io.ReadAll(r)
			if err == nil && len(bytes.Trim(rest, "\x00")) > 0 {
				err = errValueLog
			}
			return err
		}
		b = append(b[:0], make([]byte, size)...)
		if _, err := io.ReadFull(r, b); err != nil {
			return errors.Join(errValueLog, err)
		}
		at += size
		body := b[:size-crc32.Size]
		if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
			return errValueLog
		}
		body = body[2:]
		key, n := binary.Uvarint(body)
		body = body[n:]
		for range 2 { // length of the value, time of expiry
			_, n = binary.Uvarint(body)
			body = body[n:]
		}
		if key < 8 || key > uint64(len(body)) {
			return errValueLog
		}
		// Behind a key stands the version, so that the newest one comes first.
		version := math.MaxUint64 - binary.BigEndian.Uint64(body[key-8:key])
		if err := do(valueEntry{key: body[:key-8], version: version, value: body[key:]}); err != nil {
			return err
		}
	}
	return nil
}

// repairMerge looks at what a merge has written that a crash interrupted. The value logs that it was taken from are still there.
func (l *Log) repairMerge(crashed bool) error {
	note := filepath.Join(l.o.Dir, mergingNote)
	b, err := os.ReadFile(note)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if crashed {
		if err := l.repair(strings.Fields(string(b))); err != nil {
			return err
		}
	}
	return l.step("merged", func() error { return os.Remove(note) })
}

func (l *Log) repair(names []string) error {
	each := func(do func(valueEntry) error) error {
		for _, name := range names {
			if !isValueLog(name) {
				continue
			}
			err := eachEntry(filepath.Join(l.o.Dir, name), do)
			if errors.Is(err, errValueLog) || errors.Is(err, fs.ErrNotExist) {
				l.o.Logger.Warn("a value log cannot be read", "file", name, "err", err)
			} else if err != nil {
				return err
			}
		}
		return nil
	}
	// All is read before anything is written: what is written may come to lie where a lost value was.
	lost := map[string]int{} // by key, the last entry in these files, the first is 1: versions may be given again after a crash
	n := 0
	err := each(func(e valueEntry) error {
		n++
		return l.db.View(func(txn *badger.Txn) error {
			item, err := txn.Get(e.key)
			if errors.Is(err, badger.ErrKeyNotFound) {
				return nil
			}
			if err != nil || item.UserMeta() != mergedCopy {
				return err
			}
			value, err := item.ValueCopy(nil)
			if err != nil || len(value) == 0 { // of a value that it cannot read Badger tells its logger, and gives an empty one
				lost[string(e.key)] = n
			}
			return nil
		})
	})
	if err != nil || len(lost) == 0 {
		return err
	}
	n = 0
	err = each(func(e valueEntry) error {
		n++
		if lost[string(e.key)] != n {
			return nil
		}
		return l.update("repair", func(txn *badger.Txn) error {
			return txn.SetEntry(badger.NewEntry(bytes.Clone(e.key), bytes.Clone(e.value)).WithMeta(mergedCopy))
		})
	})
	if err != nil {
		return err
	}
	l.o.Logger.Info("what a crash took of a merge of value logs was written again", "messages", len(lost))
	return l.sync()
}

// startMerger begins to merge, if there is something to merge. oldWAL is the newest write-ahead log of the time before Open.
func (l *Log) startMerger(oldWAL int) {
	l.merger.quit = make(chan struct{})
	names, err := mergeable(l.o.Dir)
	if err != nil {
		l.o.Logger.Warn("small value logs are not merged", "err", err)
	}
	if len(names) == 0 {
		return
	}
	l.merger.done.Go(func() {
		if err := l.mergeLogs(names, oldWAL); err != nil {
			l.fail(fmt.Errorf("log: merge value logs: %w", err))
		}
	})
}

// stop ends the goroutine.
func (m *merger) stop() {
	m.once.Do(func() { close(m.quit) })
	m.done.Wait()
}

// errMergeStops says that the log is closed before the merge is done.
var errMergeStops = errors.New("the merge stops")

// mergeLogs writes again what is in value logs, and notes them as dead. An error is final.
func (l *Log) mergeLogs(names []string, oldWAL int) error {
	if err := l.step("merging", func() error { return writeNote(l.o.Dir, names) }); err != nil {
		return err
	}
	var empty, emptied []string // of what counts before this and after it
	moved, read := 0, 0
	var batch []valueEntry
	size := 0
	flush := func() error {
		n, err := l.moveLive(batch)
		moved += n
		batch, size = batch[:0], 0
		return err
	}
	for _, name := range names {
		before := moved
		err := eachEntry(filepath.Join(l.o.Dir, name), func(e valueEntry) error {
			select {
			case <-l.merger.quit:
				if read > closeMerge {
					return errMergeStops
				}
			default:
			}
			n := len(e.key) + len(e.value)
			both := append(append(make([]byte, 0, n), e.key...), e.value...)
			e.key, e.value = both[:len(e.key):len(e.key)], both[len(e.key):]
			batch = append(batch, e)
			read += n
			if size += n; size < mergeBatch {
				return nil
			}
			return flush()
		})
		if err == nil {
			err = flush()
		}
		switch {
		case err == nil && moved == before:
			empty = append(empty, name)
		case err == nil:
			emptied = append(emptied, name)
		case errors.Is(err, errMergeStops), errors.Is(err, ErrClosed):
			return nil
		case errors.Is(err, errValueLog):
			batch, size = batch[:0], 0
			l.o.Logger.Warn("a value log is damaged and stays as it is; open the log with Check, which cuts what is damaged back", "file", name)
		default:
			return err
		}
	}
	var dead []deadLog
	for _, name := range empty {
		dead = append(dead, deadLog{name, oldWAL})
	}
	if moved > 0 {
		all, err := l.syncAll()
		if err != nil {
			return err
		}
		newest, err := newestWAL(l.o.Dir)
		if err != nil {
			return err
		}
		if !all {
			newest = math.MaxInt
		}
		for _, name := range emptied {
			dead = append(dead, deadLog{name, newest})
		}
	}
	if err := l.step("merged", func() error { return os.Remove(filepath.Join(l.o.Dir, mergingNote)) }); err != nil {
		return err
	}
	m := &l.merger
	m.mu.Lock()
	m.dead = dead
	m.mu.Unlock()
	l.dropLogs(false)
	return nil
}

// writeNote notes the names of the value logs that a merge is about to begin with.
func writeNote(dir string, names []string) error {
	f, err := os.OpenFile(filepath.Join(dir, mergingNote), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(names, "\n") + "\n")
	return errors.Join(err, f.Sync(), f.Close(), syncDir(dir))
}

// moveLive writes again those of the entries that are what their keys refer to, and returns how many these are.
func (l *Log) moveLive(entries []valueEntry) (moved int, err error) {
	if len(entries) == 0 {
		return 0, nil
	}
	l.write.Lock() // nobody else writes meanwhile
	defer l.write.Unlock()
	if err := l.usable(); err != nil {
		return 0, err
	}
	live, bytes := entries[:0], 0
	if err := l.view(func(txn *badger.Txn) error {
		for _, e := range entries {
			item, err := txn.Get(e.key)
			if errors.Is(err, badger.ErrKeyNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if item.Version() != e.version {
				continue
			}
			// After a crash Badger gives versions again: what it lost stands in the value log with the version of something else.
			if err := item.Value(func(value []byte) error {
				if string(value) == string(e.value) {
					live = append(live, e)
					bytes += len(e.key) + len(e.value)
				}
				return nil
			}); err != nil {
				l.o.Logger.Debug("value is damaged", "key", e.key, "err", err)
			}
		}
		return nil
	}); err != nil || len(live) == 0 {
		return 0, err
	}
	if err := l.commit("merge", false, func(txn *badger.Txn) error {
		for _, e := range live {
			if err := txn.SetEntry(badger.NewEntry(e.key, e.value).WithMeta(mergedCopy)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return 0, err
	}
	if l.syncer.wrote(bytes) {
		err = l.sync()
	}
	return len(live), err
}

// dropLogs removes the value logs that are dead, when what took their place is in tables; closed: it is, and nobody has them open.
func (l *Log) dropLogs(closed bool) {
	m := &l.merger
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.dead) == 0 {
		return
	}
	oldest, _, err := walRange(l.o.Dir)
	m.dead = slices.DeleteFunc(m.dead, func(d deadLog) bool {
		if !closed && (err != nil || oldest <= d.until) {
			return false
		}
		// Badger still has the file open, which Windows minds: then Close removes it.
		err := l.step("drop", func() error { return os.Remove(filepath.Join(l.o.Dir, d.name)) })
		return err == nil || errors.Is(err, fs.ErrNotExist)
	})
}
