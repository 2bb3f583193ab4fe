package log

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"charkha/identity"
	"charkha/log/internal/classic"
)

// Errors that callers tell apart.
var (
	// ErrNotFound: the message is not held.
	ErrNotFound = errors.New("message not found")
	// ErrClosed: the log was closed, or an earlier write failed.
	ErrClosed = errors.New("log is closed")
	// ErrUnconfirmed: Publish to a feed that Confirm was not called for.
	ErrUnconfirmed = errors.New("the feed was not confirmed")
	// ErrForked: the feed is forked and stops where it is.
	ErrForked = errors.New("the feed is forked")
	// ErrNetwork: the log was made with another HMAC key, or without one.
	ErrNetwork = errors.New("the log belongs to another network")
	// ErrSignature: the author did not sign the message.
	ErrSignature = errors.New("invalid signature")
)

// Options for Open. Dir is needed.
type Options struct {
	Dir     string           // made when it is not there; one process at a time
	HMACKey *[32]byte        // on networks that sign with a key
	Logger  *slog.Logger     // nil: nothing is logged
	Now     func() time.Time // nil: time.Now

	// Check reads every message in Open, not only what came since the last sync, and cuts damaged feeds back to their last
	// whole message, so that peers can send the rest again. It takes seconds for a million messages.
	Check bool

	// fault is called before and after each step that writes; an error stands for a failure of the step before or after it
	// took effect. Tests only.
	fault func(step string, done bool) error
	// journalSize is the size of the journal of own messages: 0 is journalSize. Tests only.
	journalSize int
}

// Log is an open log. Its methods may be used by many goroutines at once.
type Log struct {
	o  Options    // fixed after Open
	db *badger.DB // fixed after Open; safe for concurrent use

	// write is held by the one writer, over its commit. Taken before all other locks.
	write        sync.Mutex
	lastReceived float64
	committed    Offset  // the offset that the next message gets; above next while a commit is not visible, and after a crash
	markedTo     Offset  // the place in the store's own mark of what was synced
	floor        Offset  // what the mark says that committed is at least; fixed after Open
	own          journal // changed by the writer only

	// reading is held for reading over each look into the store, so that Close does not take its memory away below it.
	reading sync.RWMutex

	mu      sync.RWMutex // never held over I/O
	numbers map[identity.ID]uint32
	feeds   []feed // by number; changed by the writer only. A zero id is a number that nobody has
	next    Offset // after the last visible message
	recent  [recentSize]Message
	more    chan struct{} // closed when next rises
	failed  error         // why nothing is written any more

	syncer syncer
	merger merger
}

// recentSize is how many messages are kept in memory for followers: some more than two pieces, or who follows a sync reads the store.
const recentSize = 8192

// feed is what is known of an author.
type feed struct {
	id        identity.ID
	head      Head
	fork      *Fork // never changed once set
	confirmed bool
}

// Fork is the evidence that an author signed two messages of which only one can follow the others.
type Fork struct {
	Feed     identity.ID    `json:"feed"`
	Sequence int64          `json:"sequence"` // of the other message
	Kept     identity.MsgID `json:"kept"`     // the one that is held at Sequence, or the head that Other does not follow
	Other    identity.MsgID `json:"other"`
	Value    []byte         `json:"value"` // the other message
	Seen     time.Time      `json:"seen"`
}

const layoutVersion = "1"

// Sizes for a small computer; DESIGN.md has what was tried.
const (
	memTableSize   = 8 << 20
	valueLogSize   = 64 << 20
	tableSize      = 2 << 20 // Badger takes twice that for each table that it builds, up to ten at once
	valueThreshold = 128     // longer values go into the value log: the records, and nothing else of weight
	maxRuns        = valueThreshold - 8
)

// Open opens the log in a folder, or makes one. A log that is damaged at its end by a power cut is cut back to what is
// whole. The caller closes it.
func Open(o Options) (*Log, error) {
	if o.Dir == "" {
		return nil, errors.New("log: the folder is missing")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.journalSize == 0 {
		o.journalSize = journalSize
	}
	if o.fault == nil {
		o.fault = func(string, bool) error { return nil }
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	oldWAL, err := newestWAL(o.Dir)
	if err != nil {
		return nil, err
	}
	logger := &badgerLogger{log: o.Logger, opening: true}
	bo := badger.DefaultOptions(o.Dir).
		WithLogger(logger).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithMemTableSize(memTableSize).
		WithNumMemtables(2).
		WithNumLevelZeroTables(8).
		WithNumLevelZeroTablesStall(16).
		WithNumCompactors(2).
		WithBaseTableSize(tableSize).
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(valueLogSize).
		WithVerifyValueChecksum(true).
		WithMetricsEnabled(false)
	bo.TableSizeMultiplier = 1
	if err := errors.Join(checkTables(o.Dir, bo), cutTails(o.Dir)); err != nil {
		return nil, openError(o.Dir, err)
	}
	db, err := badger.Open(bo)
	if err != nil {
		return nil, openError(o.Dir, err)
	}
	if err := logger.damaged(); err != nil {
		return nil, openError(o.Dir, errors.Join(err, db.Close()))
	}
	l := &Log{o: o, db: db, numbers: map[identity.ID]uint32{}, more: make(chan struct{})}
	if err := l.open(oldWAL > 0); err != nil {
		return nil, errors.Join(err, l.syncer.files.close(), l.own.close(), db.Close())
	}
	logger.opened()
	l.syncer.start(l)
	l.startMerger(oldWAL)
	return l, nil
}

// openError says what to do when the store cannot be opened.
func openError(dir string, err error) error {
	if strings.Contains(err.Error(), "Another process is using this") {
		return fmt.Errorf("log: %s is in use by another process; stop that one first: %w", dir, err)
	}
	return fmt.Errorf("log: the store in %s cannot be opened; if it is damaged, put a backup in its place or move it away, "+
		"then the feeds are fetched from peers again: %w", dir, err)
}

// open reads what is there. crashed: the store was not closed in order, because its write-ahead logs were there.
func (l *Log) open(crashed bool) (err error) {
	if l.syncer.files, err = openSyncFiles(l.o.Dir, l.db); err != nil {
		return err
	}
	if err := l.own.open(l.o.Dir, l.o.journalSize); err != nil {
		return err
	}
	if err := l.repairMerge(crashed); err != nil {
		return err
	}
	if err := l.load(); err != nil {
		return err
	}
	err = l.recover(crashed)
	l.own.unkept = nil
	return err
}

// badgerLogger passes on what an operator should know. What is an error while opening is collected, and what cannot be read then is
// told by recover.
type badgerLogger struct {
	log *slog.Logger

	mu      sync.Mutex
	opening bool
	damage  []error
}

// damaged returns what Badger only prints. It goes on without a table that it finds damaged, for one: what is missing then
// would be signed a second time.
func (b *badgerLogger) damaged() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.damage...)
}

func (b *badgerLogger) opened() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opening, b.damage = false, nil
}

func (b *badgerLogger) Errorf(f string, a ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opening {
		if len(b.damage) < 10 {
			b.damage = append(b.damage, fmt.Errorf(strings.TrimSpace(f), a...))
		}
		return
	}
	b.log.Error("store", "err", fmt.Sprintf(f, a...))
}
func (b *badgerLogger) Warningf(f string, a ...any) { b.log.Warn("store", "err", fmt.Sprintf(f, a...)) }
func (b *badgerLogger) Infof(string, ...any)        {}
func (b *badgerLogger) Debugf(string, ...any)       {}

// Keys of the store. Numbers are big-endian so that they sort.
func messageKey(author uint32, seq int64) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{'m'}, author), uint32(seq))
}
func idKey(id identity.MsgID) []byte { return append([]byte{'i'}, id[:16]...) }
func orderKey(o Offset) []byte       { return binary.BigEndian.AppendUint64([]byte{'o'}, uint64(o)) }
func headKey(author uint32) []byte   { return binary.BigEndian.AppendUint32([]byte{'h'}, author) }
func authorKey(author uint32) []byte { return binary.BigEndian.AppendUint32([]byte{'a'}, author) }
func forkKey(author uint32) []byte   { return binary.BigEndian.AppendUint32([]byte{'f'}, author) }
func confirmKey(id identity.ID) []byte {
	return append([]byte{'c'}, id[:]...)
}

func headValue(h Head) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 36), uint32(h.Sequence)), h.Key[:]...)
}

var (
	syncedKey  = []byte{'s'}
	versionKey = []byte{'v'}
)

func appendPlace(dst []byte, author uint32, seq int64) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dst, author), uint32(seq))
}

// layout is the value of versionKey: the version of the layout, and which HMAC key the messages are signed with.
func (o *Options) layout() string {
	if o.HMACKey == nil {
		return layoutVersion
	}
	sum := sha256.Sum256(append([]byte("charkha HMAC key "), o.HMACKey[:]...))
	return fmt.Sprintf("%s hmac %x", layoutVersion, sum[:8])
}

// checkLayout refuses a log that another program or another network made: a message that is signed with another HMAC key is
// invalid to everybody, and so is all that its author writes after it.
func (l *Log) checkLayout(is string) error {
	if want := l.o.layout(); is == want {
		return nil
	}
	version, _, signed := strings.Cut(is, " ")
	switch {
	case version != layoutVersion:
		return fmt.Errorf("log: %s has layout %q, this program knows %q; use the program that wrote it", l.o.Dir, version, layoutVersion)
	case !signed:
		return fmt.Errorf("log: %s: %w: its messages are signed without an HMAC key", l.o.Dir, ErrNetwork)
	case l.o.HMACKey == nil:
		return fmt.Errorf("log: %s: %w: its messages are signed with an HMAC key, and none is given", l.o.Dir, ErrNetwork)
	}
	return fmt.Errorf("log: %s: %w: its messages are signed with another HMAC key", l.o.Dir, ErrNetwork)
}

// load reads what is kept in memory.
func (l *Log) load() error {
	fresh := false
	err := l.db.View(func(txn *badger.Txn) error {
		version, err := get(txn, versionKey)
		if errors.Is(err, badger.ErrKeyNotFound) {
			fresh = true
			it := txn.NewIterator(badger.IteratorOptions{})
			defer it.Close()
			if it.Rewind(); it.Valid() {
				return openError(l.o.Dir, errors.New("the version of its layout is missing"))
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := l.checkLayout(string(version)); err != nil {
			return err
		}
		if err := each(txn, 'a', func(key, value []byte) error {
			n := binary.BigEndian.Uint32(key[1:])
			if len(value) != 32 {
				return openError(l.o.Dir, fmt.Errorf("the id of author %d is damaged", n))
			}
			l.growFeeds(n)
			l.feeds[n].id = identity.ID(value)
			l.numbers[identity.ID(value)] = n
			return nil
		}); err != nil {
			return err
		}
		if err := each(txn, 'h', func(key, value []byte) error {
			n := binary.BigEndian.Uint32(key[1:])
			if len(value) != 36 {
				return openError(l.o.Dir, fmt.Errorf("the head of author %d is damaged", n))
			}
			l.growFeeds(n)
			l.feeds[n].head = Head{Sequence: int64(binary.BigEndian.Uint32(value)), Key: identity.MsgID(value[4:])}
			return nil
		}); err != nil {
			return err
		}
		if err := l.loadForks(txn); err != nil {
			return err
		}
		for i := range l.feeds {
			if _, err := txn.Get(confirmKey(l.feeds[i].id)); err == nil {
				l.feeds[i].confirmed = true
			} else if !errors.Is(err, badger.ErrKeyNotFound) {
				return err
			}
		}
		it := txn.NewIterator(badger.IteratorOptions{Reverse: true, Prefix: []byte{'o'}, PrefetchValues: false})
		defer it.Close()
		if it.Seek([]byte{'o', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}); it.Valid() {
			return it.Item().Value(func(value []byte) error {
				runs, err := parseRuns(Offset(binary.BigEndian.Uint64(it.Item().Key()[1:])), value)
				if err == nil {
					l.next = runs[len(runs)-1].end()
				}
				return err
			})
		}
		return nil
	})
	if err != nil || !fresh {
		return err
	}
	err = l.update("version", func(txn *badger.Txn) error { return txn.Set(versionKey, []byte(l.o.layout())) })
	if err != nil {
		return err
	}
	return l.sync()
}

// loadForks reads the evidence of forks. It lies in the value log, so a power cut may have taken what nobody was told of.
func (l *Log) loadForks(txn *badger.Txn) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{'f'}})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		n := binary.BigEndian.Uint32(it.Item().Key()[1:])
		f := new(Fork)
		err := it.Item().Value(func(value []byte) error { return json.Unmarshal(value, f) })
		if err == nil && (int(n) >= len(l.feeds) || f.Feed != l.feeds[n].id) {
			err = errors.New("it belongs to no feed")
		}
		if err != nil {
			l.o.Logger.Warn("evidence of a fork is damaged and left out", "author", n, "err", err)
			continue
		}
		l.feeds[n].fork = f
	}
	return nil
}

// growFeeds makes room for an author's number.
func (l *Log) growFeeds(n uint32) {
	for int(n) >= len(l.feeds) {
		l.feeds = append(l.feeds, feed{})
	}
}

// get returns a copy of a value.
func get(txn *badger.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}

// each calls do with the keys that begin with a byte.
func each(txn *badger.Txn, prefix byte, do func(key, value []byte) error) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefix}, PrefetchValues: true, PrefetchSize: 100})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key := it.Item().Key()
		if err := it.Item().Value(func(value []byte) error { return do(key, value) }); err != nil {
			return err
		}
	}
	return nil
}

// Close syncs everything and releases the folder. Followers end.
func (l *Log) Close() error {
	l.merger.stop()
	l.write.Lock()
	defer l.write.Unlock()
	failed := l.fail(ErrClosed)
	if errors.Is(failed, ErrClosed) {
		return nil
	}
	l.syncer.stop()
	var err error
	if failed == nil {
		if err = l.sync(); err == nil {
			err = l.update("mark", l.mark)
		}
	}
	l.reading.Lock()
	defer l.reading.Unlock()
	err = errors.Join(err, l.syncer.files.close(), l.own.close(), l.db.Close())
	if err == nil && failed == nil {
		l.dropLogs(true)
	}
	return err
}

// fail makes the log refuse writes and ends followers. It returns the error that did so before, if any. After ErrClosed the
// first error is forgotten.
func (l *Log) fail(err error) (before error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.failed
	if before == nil || errors.Is(err, ErrClosed) {
		l.failed = err
	}
	if before == nil {
		close(l.more)
	}
	return before
}

// Head returns the newest message of a feed; false: none is held.
func (l *Log) Head(id identity.ID) (Head, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if n, ok := l.numbers[id]; ok && l.feeds[n].head.Sequence > 0 {
		return l.feeds[n].head, true
	}
	return Head{}, false
}

// Heads yields the feeds of which messages are held, as they were when it was called.
func (l *Log) Heads() iter.Seq2[identity.ID, Head] {
	l.mu.RLock()
	feeds := slices.Clone(l.feeds)
	l.mu.RUnlock()
	return func(yield func(identity.ID, Head) bool) {
		for i := range feeds {
			if feeds[i].head.Sequence > 0 && !yield(feeds[i].id, feeds[i].head) {
				return
			}
		}
	}
}

// Len is the offset after the last message: the next one gets it, or a higher one.
func (l *Log) Len() Offset {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.next
}

// Forked returns the evidence that a feed is forked.
func (l *Log) Forked(id identity.ID) (Fork, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if n, ok := l.numbers[id]; ok && l.feeds[n].fork != nil {
		return *l.feeds[n].fork, true
	}
	return Fork{}, false
}

// Forks returns the evidence for all forked feeds.
func (l *Log) Forks() []Fork {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var forks []Fork
	for i := range l.feeds {
		if f := l.feeds[i].fork; f != nil {
			forks = append(forks, *f)
		}
	}
	return forks
}

// Confirmed reports whether the feed may be published to.
func (l *Log) Confirmed(id identity.ID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n, ok := l.numbers[id]
	return ok && l.feeds[n].confirmed
}

// Confirm opens a feed for Publish, for good: somebody has made sure that nothing of it is missing here. It is on disk when
// Confirm returns.
func (l *Log) Confirm(id identity.ID) error {
	l.write.Lock()
	defer l.write.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if l.Confirmed(id) {
		return nil
	}
	b := l.newBatch()
	n := b.number(id)
	err := l.commit("confirm", true, func(txn *badger.Txn) error {
		if err := b.setAuthors(txn); err != nil {
			return err
		}
		return txn.Set(confirmKey(id), []byte{1})
	})
	if err == nil {
		var head Head
		if int(n) < len(l.feeds) {
			head = l.feeds[n].head
		}
		err = l.noteOwn(id, head)
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b.showAuthors()
	l.feeds[n].confirmed = true
	return nil
}

func (l *Log) usable() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.failed
}

// Peek finds author and sequence of a raw message without checking its signature, for those who want to know whether it is worth the
// check, or was asked for. They are what Append finds. false: Append will refuse it.
func Peek(raw []byte) (author identity.ID, sequence int64, ok bool) { return classic.Peek(raw) }

// commit writes in one transaction, and syncs it when asked. The writer's lock is held. An error is final.
func (l *Log) commit(step string, sync bool, do func(txn *badger.Txn) error) error {
	err := l.update(step, do)
	if err == nil && sync {
		err = l.sync()
	}
	if err != nil {
		err = fmt.Errorf("log: %s: %w", step, err)
		l.fail(err)
	}
	return err
}

// update writes in one transaction.
func (l *Log) update(step string, do func(txn *badger.Txn) error) error {
	return l.step(step, func() error { return l.db.Update(do) })
}

// step does what writes. Each step may fail before or after it took effect.
func (l *Log) step(name string, do func() error) error {
	err := l.o.fault(name, false)
	if err == nil {
		err = do()
	}
	if err == nil {
		err = l.o.fault(name, true)
	}
	return err
}
