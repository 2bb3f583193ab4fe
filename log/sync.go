package log

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
)

const (
	syncAfter = 2 * time.Second // others' messages are synced after this time,
	syncBytes = 8 << 20         // or after so much,
	syncMost  = 32 << 20        // and the writer waits for it when there is more than this
)

// syncer writes what was committed through to the disk: at once for the writer who asks, and now and then on a goroutine of
// its own, so that taking in messages goes on meanwhile. Its goroutine begins in Open and has ended when Close returns.
type syncer struct {
	one   sync.Mutex // held over one sync; taken after write
	files *syncFiles // under one

	mu       sync.Mutex
	unsynced int    // bytes committed since
	syncedTo Offset // all below is on disk

	dirty, much, quit chan struct{} // fixed after start
	done              sync.WaitGroup
}

func (s *syncer) start(l *Log) {
	s.dirty, s.much, s.quit = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	s.done.Go(func() {
		timer := time.NewTimer(0)
		<-timer.C
		for {
			select {
			case <-s.dirty:
			case <-s.quit:
				return
			}
			timer.Reset(syncAfter)
			select {
			case <-s.much:
				timer.Stop()
			case <-timer.C:
			case <-s.quit:
				timer.Stop()
				return
			}
			if err := l.sync(); err != nil {
				l.fail(fmt.Errorf("log: sync: %w", err))
			} else {
				l.dropLogs(false)
			}
		}
	})
}

func (s *syncer) stop() {
	close(s.quit)
	s.done.Wait()
}

// wrote notes that bytes were committed. It reports whether there are so many that the writer should wait for a sync.
func (s *syncer) wrote(n int) (wait bool) {
	s.mu.Lock()
	s.unsynced += n
	n = s.unsynced
	s.mu.Unlock()
	if n > 0 {
		notify(s.dirty)
	}
	if n > syncBytes {
		notify(s.much)
	}
	return n > syncMost
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *syncer) place() Offset {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.syncedTo
}

// Sync makes all that was appended durable: what Append alone leaves to the next seconds. After an error the log takes nothing more.
func (l *Log) Sync() error {
	l.write.Lock()
	defer l.write.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		l.fail(fmt.Errorf("log: sync: %w", err))
		return l.usable()
	}
	return nil
}

// sync makes all that is visible durable, and, for the holder of the writer's lock, all that was committed.
func (l *Log) sync() error {
	_, err := l.syncAll()
	return err
}

// syncAll is sync; all reports whether really everything is on disk, which is not so on every system.
func (l *Log) syncAll() (all bool, err error) {
	s := &l.syncer
	s.one.Lock()
	defer s.one.Unlock()
	// What is visible was committed before. The writer's own commit may be ahead of that: it is synced too, but its place is
	// noted by the next sync.
	to := l.Len()
	s.mu.Lock()
	pending := s.unsynced
	s.mu.Unlock()
	err = l.step("sync", func() (err error) {
		all, err = s.files.sync()
		return err
	})
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsynced -= pending
	if all {
		s.syncedTo = max(s.syncedTo, to)
	}
	return all, nil
}

// mark notes in a transaction how far everything was synced, if that has changed. The mark itself is not synced: an older one
// only makes the next Open read more.
func (l *Log) mark(txn *badger.Txn) error {
	if l.markedTo == l.syncer.place() {
		return nil
	}
	return l.setMark(txn)
}

func (l *Log) setMark(txn *badger.Txn) error {
	to := l.syncer.place()
	l.markedTo = to
	value := binary.BigEndian.AppendUint64(nil, uint64(to))
	return txn.Set(syncedKey, binary.BigEndian.AppendUint64(value, uint64(l.floor)))
}
