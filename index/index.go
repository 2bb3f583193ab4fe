package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sync/errgroup"

	"charkha/identity"
	"charkha/log"
)

// Options for Open. Dir, Log and Self are needed.
type Options struct {
	Dir    string // made when it is not there
	Log    *log.Log
	Self   identity.ID
	Hops   int // the range
	Logger *slog.Logger
	Now    func() time.Time

	// fault is called before and after each commit; an error stands for its failure. Tests only.
	fault func(step string, done bool) error
}

// Index answers what the feeds mean. Its methods may be used by many goroutines at once.
type Index struct {
	o        Options
	db       *badger.DB
	contacts *contacts
	names    *names
	timeline *timeline
	views    []*follower

	mu    sync.Mutex
	moved chan struct{} // closed when a cursor moves
}

// view is a part of the index.
type view interface {
	name() string
	version() uint32
	prefix() byte // of all its rows, and of nobody else's
	// load reads what is kept in memory, which is empty.
	load(txn *badger.Txn) error
	// add makes the rows of a message.
	add(txn *badger.Txn, m *log.Message) error
	// committed is called when the rows of all messages since the last call are on disk.
	committed()
	// clear forgets everything in memory.
	clear()
}

// follower keeps one view up to date.
type follower struct {
	view
	x      *Index
	cursor log.Offset // the first message that is not in the view; under x.mu
}

const (
	batchMost  = 2000 // messages in one transaction
	cursorByte = 'c'  // prefix of the cursors; views have capitals
)

// Open opens the index in a folder, or makes one. It follows the log when Run runs.
func Open(o Options) (*Index, error) {
	if o.Dir == "" || o.Log == nil || o.Self.IsZero() {
		return nil, errors.New("index: Dir, Log and Self are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.fault == nil {
		o.fault = func(string, bool) error { return nil }
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	db, err := badger.Open(badger.DefaultOptions(o.Dir).
		WithLogger(nil).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithMemTableSize(8 << 20).
		WithNumMemtables(2).
		WithNumCompactors(2).
		WithBaseTableSize(2 << 20).
		WithValueLogFileSize(16 << 20).
		WithMetricsEnabled(false))
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	x := &Index{o: o, db: db, moved: make(chan struct{})}
	x.contacts, x.names, x.timeline = newContacts(o.Self, o.Hops), newNames(), newTimeline()
	for _, v := range []view{x.contacts, x.names, x.timeline} {
		f := &follower{view: v, x: x}
		x.views = append(x.views, f)
		if err := f.open(); err != nil {
			return nil, errors.Join(fmt.Errorf("index: view %s: %w", v.name(), err), db.Close())
		}
	}
	return x, nil
}

// Close releases the folder. Run must have ended.
func (x *Index) Close() error { return x.db.Close() }

func (f *follower) cursorKey() []byte { return []byte{cursorByte, f.prefix()} }

// open loads the view, or empties it when it does not belong to this log or program.
func (f *follower) open() error {
	var version uint32
	var last identity.MsgID
	found := false
	err := f.x.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(f.cursorKey())
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			if found = len(v) == 4+8+32; found {
				version = binary.BigEndian.Uint32(v)
				f.cursor = log.Offset(binary.BigEndian.Uint64(v[4:]))
				last = identity.MsgID(v[12:])
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	switch {
	case !found:
	case version != f.version():
		f.x.o.Logger.Info("view has another version and is built anew", "view", f.name(), "version", version, "want", f.version())
	case !f.x.holds(f.cursor, last):
		f.x.o.Logger.Warn("view does not belong to the log and is built anew", "view", f.name())
	default:
		return f.x.db.View(f.load)
	}
	return f.reset()
}

// holds reports whether the message before a place in the log is the one that a view saw there.
func (x *Index) holds(at log.Offset, last identity.MsgID) bool {
	if at == 0 {
		return last.IsZero()
	}
	if at > x.o.Log.Len() {
		return false
	}
	for m, err := range x.o.Log.Arrivals(at-1, false) {
		return err == nil && m.Offset() == at-1 && m.Key() == last
	}
	return false
}

// reset empties the view. The cursor goes first: rows without one are emptied again.
func (f *follower) reset() error {
	if err := f.x.db.Update(func(txn *badger.Txn) error { return txn.Delete(f.cursorKey()) }); err != nil {
		return err
	}
	if err := f.x.db.DropPrefix([]byte{f.prefix()}); err != nil {
		return err
	}
	f.clear()
	f.cursor = 0
	return nil
}

// Run keeps the index up to date until ctx ends, and returns nil then, or why it cannot.
func (x *Index) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range x.views {
		g.Go(func() error {
			if err := f.run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("view %s: %w", f.name(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (f *follower) run(ctx context.Context) error {
	batch := make([]log.Message, 0, batchMost)
	for m, err := range f.x.o.Log.Follow(ctx, f.cursor) {
		if err != nil {
			return err
		}
		batch = append(batch, m)
		// Write when there is no more at once.
		if len(batch) == batchMost || m.Offset()+1 >= f.x.o.Log.Len() {
			if err := f.write(batch); err != nil {
				return err
			}
			clear(batch)
			batch = batch[:0]
		}
	}
	return nil
}

// write adds messages to the view in one transaction, in several if it grows too big.
func (f *follower) write(batch []log.Message) error {
	if err := f.x.o.fault(f.name(), false); err != nil {
		return err
	}
	last := &batch[len(batch)-1]
	err := f.x.db.Update(func(txn *badger.Txn) error {
		for i := range batch {
			if err := f.add(txn, &batch[i]); err != nil {
				return err
			}
		}
		cursor := binary.BigEndian.AppendUint32(nil, f.version())
		cursor = binary.BigEndian.AppendUint64(cursor, uint64(last.Offset()+1))
		key := last.Key()
		return txn.Set(f.cursorKey(), append(cursor, key[:]...))
	})
	if err != nil {
		return err
	}
	if err := f.x.o.fault(f.name(), true); err != nil {
		return err
	}
	f.committed()
	f.x.mu.Lock()
	defer f.x.mu.Unlock()
	f.cursor = last.Offset() + 1
	close(f.x.moved)
	f.x.moved = make(chan struct{})
	return nil
}

// Cursor is the place in the log up to which every view has seen everything.
func (x *Index) Cursor() log.Offset {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.least()
}

func (x *Index) least() log.Offset {
	at := x.views[0].cursor
	for _, f := range x.views {
		at = min(at, f.cursor)
	}
	return at
}

// Wait waits until everything before a place in the log is in the index, or ctx ends.
func (x *Index) Wait(ctx context.Context, until log.Offset) error {
	for {
		x.mu.Lock()
		at, moved := x.least(), x.moved
		x.mu.Unlock()
		if at >= until {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// rows calls do with the rows of a view, the prefix byte cut off.
func rows(txn *badger.Txn, prefix byte, do func(key, value []byte) error) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefix}, PrefetchValues: true, PrefetchSize: 100})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key := it.Item().Key()[1:]
		if err := it.Item().Value(func(value []byte) error { return do(key, value) }); err != nil {
			return err
		}
	}
	return nil
}

var errRow = errors.New("damaged row")
