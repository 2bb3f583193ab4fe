package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	Hops   int          // the range: how many follows away a feed may be; 0 is only our own
	Logger *slog.Logger // nil: nothing is logged

	// Unbox opens an encrypted message: its content in JSON; false: it is not for us. It is called by several goroutines at once,
	// and must say the same each time. nil: nothing is opened. Whether there is one is a part of the version of the views that
	// see opened messages: they are built anew when that changes.
	Unbox func(m *log.Message) (content []byte, ok bool)

	// fault is called before and after each commit, with the names of the views that it is of; an error stands for its failure.
	// Tests only.
	fault func(views string, done bool) error
	// batch is how many messages are in one transaction at most. 0: 2000.
	batch int
	// bulk is how many messages arrive in a second when it is a sync. 0: 2000.
	bulk float64
	// pause is how long the large views rest wholly in a sync. 0: 30 seconds.
	pause time.Duration
}

// Index answers what the feeds mean. Its methods may be used by many goroutines at once, Open and Close apart.
type Index struct {
	o        Options     // fixed after Open
	db       *badger.DB  // fixed after Open; safe for concurrent use
	contacts *contacts   // fixed after Open; has its own lock
	names    names       // has no state
	messages *messages   // fixed after Open; has its own lock
	links    *links      // keeps nothing between transactions
	words    *words      // keeps nothing between transactions
	pubs     *pubs       // fixed after Open; has its own lock
	views    []*follower // fixed after Open

	shown shown        // has its own lock
	asked atomic.Int64 // when the store was last looked into for an answer, in nanoseconds since 1970

	// turn is held over each batch of the front, so that a view that was behind joins it between two batches.
	turn sync.Mutex

	pace pace // has its own lock

	again chan rebuild   // to Run
	late  chan departure // to Run

	// emptying is held for writing while a view is emptied: the store takes no transactions then. For reading, over each.
	emptying sync.RWMutex

	// reading is held for reading over each look into the store, so that Close does not take its memory away below it.
	reading sync.RWMutex

	mu    sync.Mutex
	moved chan struct{} // closed when a cursor moves
	front []*follower   // the views that read the log together, all at one place; changed with turn held
	place log.Offset    // of the front
}

// departure is of views that leave the front to follow at their leisure.
type departure struct {
	views []*follower
	at    log.Offset
}

// rebuild asks for a view to be built anew.
type rebuild struct {
	view *follower
	done chan error // it was begun, or why not
}

// ErrClosed: the index was closed.
var ErrClosed = errors.New("index is closed")

// view is a part of the index. Its methods are called by one goroutine at a time, the follower's.
type view interface {
	name() string
	version() uint32 // another one, and the view is built anew
	prefix() byte    // of all its rows, and of nobody else's
	// kind is the type of the only messages that it looks at, public ones; "": it looks at all.
	kind() string
	// load reads what is kept in memory, which is empty. errRow: a row is damaged, and the view must be built anew.
	load(txn *badger.Txn) error
	// begin is called before the first message of a transaction; the one before may have failed.
	begin()
	// add makes the rows of a message.
	add(txn *badger.Txn, m *message) error
	// finish writes what add has gathered, at the end of the transaction.
	finish(txn *badger.Txn) error
	// committed is called when the rows of all messages since begin are on disk.
	committed()
	// clear forgets everything in memory.
	clear()
}

// stateless is a view that keeps nothing in memory and writes each row at once.
type stateless struct{}

func (stateless) load(*badger.Txn) error   { return nil }
func (stateless) begin()                   {}
func (stateless) finish(*badger.Txn) error { return nil }
func (stateless) committed()               {}
func (stateless) clear()                   {}

// message is what views see of a message: what several of them ask is made once.
type message struct {
	log.Message
	content []byte // an object; nil when it is encrypted and we cannot open it
	kind    string // content.type, "" if there is none
	opened  bool   // the content was encrypted
}

// Type is the type of a public message, "" when it is encrypted.
func (m *message) Type() string {
	if m.opened {
		return ""
	}
	return m.kind
}

// read makes what views see of a message.
func (x *Index) read(m log.Message) message {
	if !m.Private() {
		return message{Message: m, content: m.Content(), kind: m.Type()}
	}
	if x.o.Unbox != nil {
		content, ok := x.o.Unbox(&m)
		if content = bytes.TrimSpace(content); ok && len(content) > 0 && content[0] == '{' && json.Valid(content) {
			kind := ""
			top(content, func(key, value []byte) {
				if text, ok := spelledText(value); ok && string(key) == "type" {
					kind = unquote(text)
				}
			})
			return message{Message: m, content: content, kind: kind, opened: true}
		}
	}
	return message{Message: m}
}

// follower keeps one view up to date.
type follower struct {
	view
	x      *Index
	cursor log.Offset // the first place that is not in the view; written by the follower, under x.mu
}

const (
	batchMost  = 1000 // messages in one transaction, by default
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
	if o.bulk == 0 {
		o.bulk = bulkRate
	}
	if o.pause == 0 {
		o.pause = bulkPause
	}
	if o.batch == 0 {
		o.batch = batchMost
	}
	if o.fault == nil {
		o.fault = func(string, bool) error { return nil }
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	bo := badger.DefaultOptions(o.Dir).
		WithLogger(nil).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithMemTableSize(4 << 20).
		WithValueThreshold(64 << 10).
		WithNumMemtables(2).
		WithNumCompactors(2).
		WithBaseTableSize(1 << 20).
		WithValueLogFileSize(16 << 20).
		WithMetricsEnabled(false)
	bo.TableSizeMultiplier = 1 // building large tables needs much memory
	// Which files are in the way must be known before Badger has looked at them, and whether they are nobody else's, after.
	empty := emptyLogs(o.Dir)
	db, err := badger.Open(bo)
	if err != nil && len(empty) > 0 && !strings.Contains(err.Error(), "Another process is using this") {
		for _, name := range empty {
			_ = os.Remove(name) // what stays is told by Badger
		}
		db, err = badger.Open(bo)
	}
	if err != nil {
		return nil, fmt.Errorf("index: open %s (if it is damaged, delete it, and it is built anew): %w", o.Dir, err)
	}
	x := &Index{o: o, db: db, moved: make(chan struct{}), again: make(chan rebuild), late: make(chan departure)}
	x.pace = pace{at: time.Now(), end: o.Log.Len(), slow: paceSlow}
	x.contacts, x.pubs, x.messages = newContacts(o.Self, o.Hops), newPubs(), newMessages()
	x.links, x.words = &links{}, &words{}
	x.shown.init()
	for _, v := range []view{x.contacts, x.names, x.pubs, x.messages, x.links, x.words} {
		f := &follower{view: v, x: x}
		x.views = append(x.views, f)
		if err := f.open(); err != nil {
			return nil, errors.Join(fmt.Errorf("index: open view %s in %s: %w", v.name(), o.Dir, err), db.Close())
		}
	}
	return x, nil
}

// emptyLogs lists the write-ahead logs of the store that are empty, whose process died just after it had made the file: Badger
// refuses to open with one.
func emptyLogs(dir string) (empty []string) {
	names, _ := filepath.Glob(filepath.Join(dir, "*.mem")) // the pattern is good
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.Size() == 0 {
			empty = append(empty, name)
		}
	}
	return empty
}

// Close releases the folder. Run must have ended. Who asks for something that is on disk gets ErrClosed from then on.
func (x *Index) Close() error {
	x.reading.Lock()
	defer x.reading.Unlock()
	return x.db.Close()
}

// askedLately reports whether somebody waits for answers, or has just got one.
func (x *Index) askedLately() bool {
	return time.Now().UnixNano()-x.asked.Load() < int64(100*time.Millisecond)
}

// look reads from the store, or fails with ErrClosed. It must not be called within itself.
func (x *Index) look(do func(txn *badger.Txn) error) error {
	x.reading.RLock()
	defer x.reading.RUnlock()
	x.asked.Store(time.Now().UnixNano())
	if x.db.IsClosed() {
		return ErrClosed
	}
	return x.db.View(do)
}

// versionNow is the version of the rows that the view would write.
func (f *follower) versionNow() uint32 {
	if f.x.o.Unbox != nil && bytes.IndexByte([]byte(seeOpened), f.prefix()) >= 0 {
		return f.version() | withOpened
	}
	return f.version()
}

// seeOpened are the prefixes of the views that see opened messages.
const seeOpened = "TLW"

// withOpened marks the versions of views that were built with Options.Unbox.
const withOpened = 1 << 31

func (f *follower) cursorKey() []byte { return []byte{cursorByte, f.prefix()} }

// cursor is what is kept of how far a view is: its version, the first place in the log that is not in it, and the id of the
// message before that place.
type cursor struct {
	version uint32
	at      log.Offset
	last    identity.MsgID
}

func (c cursor) bytes() []byte {
	b := binary.BigEndian.AppendUint32(nil, c.version)
	b = binary.BigEndian.AppendUint64(b, uint64(c.at))
	return append(b, c.last[:]...)
}

func parseCursor(b []byte) (c cursor, ok bool) {
	if len(b) != 4+8+32 {
		return c, false
	}
	return cursor{binary.BigEndian.Uint32(b), log.Offset(binary.BigEndian.Uint64(b[4:])), identity.MsgID(b[12:])}, true
}

// open loads the view, or empties it when it does not belong to this log or program.
func (f *follower) open() error {
	var c cursor
	found := false
	err := f.x.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(f.cursorKey())
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return item.Value(func(b []byte) error {
			c, found = parseCursor(b)
			return nil
		})
	})
	if err != nil {
		return err
	}
	logger := f.x.o.Logger.With("view", f.name())
	switch {
	case !found:
	case c.version != f.versionNow():
		logger.Info("view has another version and is built anew", "version", c.version, "want", f.versionNow())
	case !f.x.holds(c.at, c.last):
		logger.Warn("view does not belong to the log and is built anew", "at", c.at, "msg", c.last)
	default:
		err := f.x.db.View(f.load)
		if !errors.Is(err, errRow) {
			f.cursor = c.at
			return err
		}
		logger.Warn("view is damaged and is built anew")
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
	f.x.emptying.Lock()
	defer f.x.emptying.Unlock()
	if err := f.x.db.Update(func(txn *badger.Txn) error { return txn.Delete(f.cursorKey()) }); err != nil {
		return err
	}
	if err := f.x.db.DropPrefix([]byte{f.prefix()}); err != nil {
		return err
	}
	f.clear()
	f.x.mu.Lock()
	defer f.x.mu.Unlock()
	f.cursor = 0
	return nil
}

// Run keeps the index up to date until ctx ends, and returns nil then, or else why it cannot. It may be called again.
//
// The views that have come furthest are the front: the log is read once for all of them. Those that are behind, such as a view
// that is built anew, catch up on their own, once for those that are at one place, and then join the front.
func (x *Index) Run(ctx context.Context) error {
	places := map[log.Offset][]*follower{}
	most := log.Offset(0)
	for _, f := range x.views {
		places[f.cursor] = append(places[f.cursor], f)
		most = max(most, f.cursor)
	}
	x.mu.Lock()
	x.front, x.place = places[most], most
	x.mu.Unlock()
	delete(places, most)
	g, ctx := errgroup.WithContext(ctx)
	run := func(do func(ctx context.Context) error) {
		g.Go(func() error {
			if err := do(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			return nil
		})
	}
	run(func(ctx context.Context) error { return x.follow(ctx, most) })
	for at, views := range places {
		run(func(ctx context.Context) error { return x.catchUp(ctx, views, at) })
	}
	run(func(ctx context.Context) error {
		for {
			select {
			case r := <-x.again:
				err := x.takeOut(r.view)
				r.done <- err
				switch {
				case errors.Is(err, errBuilding):
				case err != nil:
					return err
				default:
					run(func(ctx context.Context) error { return x.catchUp(ctx, []*follower{r.view}, 0) })
				}
			case d := <-x.late:
				run(func(ctx context.Context) error { return x.catchUp(ctx, d.views, d.at) })
			case <-ctx.Done():
				return nil
			}
		}
	})
	return g.Wait()
}

var errBuilding = errors.New("the view is being built")

// Rebuild begins to build a view anew, of which Views says the name, while the others go on: it returns when the view is empty. What
// asks the view is answered from as much of it as is there. Run must be running.
func (x *Index) Rebuild(ctx context.Context, view string) error {
	for _, f := range x.views {
		if f.name() != view {
			continue
		}
		r := rebuild{f, make(chan error, 1)}
		select {
		case x.again <- r:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := <-r.done; err != nil {
			return fmt.Errorf("index: rebuild %s: %w", view, err)
		}
		return nil
	}
	return fmt.Errorf("index: rebuild %s: there is no such view", view)
}

// takeOut empties a view of the front.
func (x *Index) takeOut(f *follower) error {
	x.turn.Lock()
	defer x.turn.Unlock()
	i := slices.Index(x.front, f)
	if i < 0 {
		return errBuilding
	}
	x.setFront(slices.Delete(slices.Clone(x.front), i, i+1))
	return f.reset()
}

// piece is messages that came one after the other, without those that no view looks at for whom it was made.
type piece struct {
	kinds []string   // the types that they look at; nil: all
	from  log.Offset // where the first one may stand
	at    log.Offset // behind the last one
	last  identity.MsgID
	seen  int // how many there were
	of    []message
}

// kindsOf are the types of what views look at; nil: all messages.
func kindsOf(views []*follower) []string {
	kinds := make([]string, 0, len(views))
	for _, f := range views {
		if f.kind() == "" {
			return nil
		}
		kinds = append(kinds, f.kind())
	}
	return kinds
}

// holds reports whether nothing was left out that views look at.
func (p *piece) holds(views []*follower) bool {
	if p.kinds == nil {
		return true
	}
	kinds := kindsOf(views)
	return kinds != nil && !slices.ContainsFunc(kinds, func(kind string) bool { return !slices.Contains(p.kinds, kind) })
}

// reset empties a piece, for what views look at from a place on.
func (p *piece) reset(views []*follower, from log.Offset) {
	clear(p.of)
	*p = piece{kinds: kindsOf(views), from: from, at: from, of: p.of[:0]}
}

// put adds the next message.
func (x *Index) put(p *piece, m log.Message) {
	p.at, p.last = m.Offset()+1, m.Key()
	p.seen++
	if p.kinds == nil {
		p.of = append(p.of, x.read(m))
		return
	}
	// Nothing is opened here: these views look at public messages.
	if kind := m.Type(); kind != "" && slices.Contains(p.kinds, kind) {
		p.of = append(p.of, message{Message: m, content: m.Content(), kind: kind})
	}
}

// full reports whether the piece is to be written.
func (x *Index) full(p *piece) bool { return len(p.of) >= x.o.batch || p.seen >= seenMost*x.o.batch }

// seenMost is how many batches of messages a piece is made of at most, if few of them are looked at.
const seenMost = 8

// background is at most one thing that goes on beside its owner.
type background struct{ done chan error }

// wait waits for what goes on, and returns its error once.
func (b *background) wait() error {
	if b.done == nil {
		return nil
	}
	defer func() { b.done = nil }()
	return <-b.done
}

// start begins something when what went on before has ended, with its error if there is one.
func (b *background) start(do func() error) error {
	if err := b.wait(); err != nil {
		return err
	}
	done := make(chan error, 1)
	b.done = done
	go func() { done <- do() }()
	return nil
}

// follow writes what comes to the views of the front, until ctx ends.
func (x *Index) follow(ctx context.Context, at log.Offset) (err error) {
	var writing background
	defer func() { err = errors.Join(err, writing.wait()) }()
	var took atomic.Int64 // by the last piece, in nanoseconds
	p, other := &piece{}, &piece{}
	p.reset(x.frontViews(), at)
	for m, err := range x.o.Log.Follow(ctx, at) {
		if err != nil {
			return err
		}
		x.put(p, m)
		// Write when there is no more at once: the last message stands right before Len.
		more := p.at < x.o.Log.Len()
		if !x.full(p) {
			if more {
				continue
			}
			if p.seen < x.o.batch && x.bulk() {
				// A transaction costs the same for few messages and for many, and new distances are told to many.
				if err := rest(ctx, min(max(restWhole*time.Duration(took.Load()), restLeast), restMost)); err != nil {
					return err
				}
				if p.at < x.o.Log.Len() {
					continue
				}
			}
		}
		// While one piece is written, the next one is read.
		whole := p
		err := writing.start(func() error {
			began := time.Now()
			at, err := x.writeFront(ctx, whole)
			took.Store(int64(time.Since(began)))
			if behind := x.o.Log.Len() - at; err == nil && behind > bulkBehind*log.Offset(x.o.batch) && x.bulk() {
				err = x.dismiss(ctx)
			}
			return err
		})
		if err == nil && !more {
			err = writing.wait()
		}
		if err != nil {
			return err
		}
		p, other = other, p
		p.reset(x.frontViews(), m.Offset()+1)
	}
	return nil
}

const (
	// In a sync the front rests when it has caught up, this many times as long as it worked, within bounds.
	restWhole = 10
	restLeast = 5 * time.Millisecond
	restMost  = 10 * time.Millisecond
)

// rest waits, or fails when ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// frontViews are the views of the front.
func (x *Index) frontViews() []*follower {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.front
}

// setFront changes the front. turn is held.
func (x *Index) setFront(views []*follower) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.front = views
}

// writeFront writes a piece to the front, and returns its end.
func (x *Index) writeFront(ctx context.Context, p *piece) (to log.Offset, err error) {
	x.turn.Lock()
	defer x.turn.Unlock()
	to = p.at
	if p.holds(x.front) {
		err = x.writeAll(x.front, p)
	} else {
		// A view has come to the front that looks at what was left out.
		for from := p.from; from < to && err == nil; {
			from, err = x.catchUpTo(ctx, p, x.front, from, to)
		}
	}
	if err != nil {
		return to, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.place = to
	return to, nil
}

const (
	// bulkRate is how many messages arrive in a second when a sync goes on.
	bulkRate = 2000
	// bulkBehind is how many batches the front must be behind in a sync for the large views to leave it.
	bulkBehind = 2
	// The large views rest while a sync goes on: it needs the processor, and what it is to fetch depends on the others. Of a sync
	// that does not end they see something after bulkPause; from then on they rest bulkRest times as long as they work.
	bulkPause = 30 * time.Second
	bulkRest  = 5
)

// pace measures how fast the log grows.
type pace struct {
	mu   sync.Mutex
	at   time.Time // of the last measurement
	end  log.Offset
	slow int // how many times in a row it was slow
}

const (
	paceEvery = 100 * time.Millisecond // how often it is measured
	paceSlow  = 3                      // so many times in a row it is slow when a sync has ended
)

// bulk reports whether a sync goes on.
func (x *Index) bulk() bool {
	p := &x.pace
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := time.Since(p.at); d >= paceEvery || x.o.bulk < 1 {
		end := x.o.Log.Len()
		p.slow++
		if float64(end-p.end)/max(d.Seconds(), 1e-9) > x.o.bulk {
			p.slow = 0
		}
		p.at, p.end = time.Now(), end
	}
	return p.slow < paceSlow
}

// dismiss lets the large views leave the front; they come back when they have caught up.
func (x *Index) dismiss(ctx context.Context) error {
	x.turn.Lock()
	var stay, leave []*follower
	for _, f := range x.front {
		if f.kind() == "" {
			leave = append(leave, f)
		} else {
			stay = append(stay, f)
		}
	}
	d := departure{leave, x.frontAt()}
	x.setFront(stay)
	x.turn.Unlock()
	if len(leave) == 0 {
		return nil
	}
	select {
	case x.late <- d:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// catchUp brings views that are at one place to where the front is, and makes them a part of it.
func (x *Index) catchUp(ctx context.Context, views []*follower, at log.Offset) (err error) {
	var writing background
	defer func() { err = errors.Join(err, writing.wait()) }()
	p, other, began := &piece{}, &piece{}, time.Now()
	large := kindsOf(views) == nil
	for {
		for large && x.bulk() && time.Since(began) < x.o.pause {
			if err := rest(ctx, paceEvery); err != nil {
				return err
			}
		}
		if at+log.Offset(x.o.batch) >= x.frontAt() {
			break
		}
		worked := time.Now()
		if at, err = x.gather(ctx, p, views, at, x.frontAt()); err != nil {
			return err
		}
		whole, asked := p, x.askedLately()
		if err := writing.start(func() error {
			if !asked {
				return x.writeAll(views, whole)
			}
			// One after the other, so that there is a processor for the answers.
			for i := range views {
				if err := x.writeAll(views[i:i+1], whole); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		p, other = other, p
		slow := large && x.bulk()
		if slow || asked {
			if err := writing.wait(); err != nil {
				return err
			}
		}
		if !slow {
			continue
		}
		if err := rest(ctx, bulkRest*time.Since(worked)); err != nil {
			return err
		}
	}
	if err := writing.wait(); err != nil {
		return err
	}
	// The last pieces are written while the front waits, so that they end at one place.
	x.turn.Lock()
	defer x.turn.Unlock()
	for front := x.frontAt(); at < front; {
		if at, err = x.catchUpTo(ctx, p, views, at, front); err != nil {
			return err
		}
	}
	x.setFront(append(slices.Clip(x.front), views...))
	return nil
}

// frontAt is the place of the front.
func (x *Index) frontAt() log.Offset {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.place
}

// catchUpTo writes what stands between two places, a piece at most, and returns how far that is.
func (x *Index) catchUpTo(ctx context.Context, p *piece, views []*follower, from, to log.Offset) (log.Offset, error) {
	to, err := x.gather(ctx, p, views, from, to)
	if err != nil {
		return from, err
	}
	return to, x.writeAll(views, p)
}

// gather reads what stands between two places, a piece at most, and returns how far that is.
func (x *Index) gather(ctx context.Context, p *piece, views []*follower, from, to log.Offset) (log.Offset, error) {
	p.reset(views, from)
	for m, err := range x.o.Log.Arrivals(from, false) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return from, err
		}
		if m.Offset() >= to {
			break
		}
		if x.put(p, m); x.full(p) {
			return p.at, nil
		}
	}
	return to, nil // what is missing before it, is gone for good
}

// fewMessages are written to all views in one transaction; of more, each of the large views has one, and all are written at once.
const fewMessages = 20

// writeAll adds messages to views.
func (x *Index) writeAll(views []*follower, p *piece) error {
	if p.seen == 0 {
		return nil
	}
	if len(p.of) <= fewMessages {
		return x.write(views, p)
	}
	var g errgroup.Group
	var light []*follower
	for _, f := range views {
		if f.kind() != "" {
			light = append(light, f)
			continue
		}
		g.Go(func() error { return x.write([]*follower{f}, p) })
	}
	if len(light) > 0 {
		g.Go(func() error { return x.write(light, p) })
	}
	return g.Wait()
}

// write adds messages to views in one transaction, in several if they are too big for one.
func (x *Index) write(views []*follower, p *piece) error {
	err := x.commit(views, p)
	if half := len(p.of) / 2; half > 0 && errors.Is(err, badger.ErrTxnTooBig) {
		first, second := *p, *p
		first.of, second.of = p.of[:half:half], p.of[half:]
		first.at, first.last = first.of[half-1].Offset()+1, first.of[half-1].Key()
		if err = x.write(views, &first); err == nil {
			err = x.write(views, &second)
		}
	}
	return err
}

// commit adds messages to views in one transaction.
func (x *Index) commit(views []*follower, p *piece) error {
	names := namesOf(views)
	if err := x.o.fault(names, false); err != nil {
		return fmt.Errorf("views %s at %d: %w", names, p.from, err)
	}
	x.emptying.RLock()
	err := x.db.Update(func(txn *badger.Txn) error {
		for _, f := range views {
			if err := f.fill(txn, p); err != nil {
				return fmt.Errorf("view %s at %d: %w", f.name(), f.cursor, err)
			}
		}
		return nil
	})
	x.emptying.RUnlock()
	if err != nil {
		return err
	}
	if err := x.o.fault(names, true); err != nil {
		return fmt.Errorf("views %s at %d: %w", names, p.from, err)
	}
	for _, f := range views {
		f.committed()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range views {
		f.cursor = p.at
	}
	close(x.moved)
	x.moved = make(chan struct{})
	return nil
}

func namesOf(views []*follower) string {
	names := make([]string, len(views))
	for i, f := range views {
		names[i] = f.name()
	}
	return strings.Join(names, " ")
}

// fill makes the rows of messages, and the cursor.
func (f *follower) fill(txn *badger.Txn, p *piece) error {
	f.begin()
	for i := range p.of {
		m := &p.of[i]
		if kind := f.kind(); kind != "" && kind != m.Type() {
			continue
		}
		if err := f.add(txn, m); err != nil {
			return fmt.Errorf("message %s/%d: %w", m.Author().Short(), m.Sequence(), err)
		}
	}
	if err := f.finish(txn); err != nil {
		return err
	}
	return txn.Set(f.cursorKey(), cursor{f.versionNow(), p.at, p.last}.bytes())
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

// Wait waits until everything before a place in the log is in the index, which Run must be writing; or until ctx ends, and returns
// its error.
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

// rows calls do with the rows below a prefix, which is cut off from the keys. Both are only valid during the call.
func rows(txn *badger.Txn, prefix []byte, do func(key, value []byte) error) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, PrefetchValues: true, PrefetchSize: 100})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key := it.Item().Key()[len(prefix):]
		if err := it.Item().Value(func(value []byte) error { return do(key, value) }); err != nil {
			return err
		}
	}
	return nil
}

// errRow says that a row is none of its view.
var errRow = errors.New("damaged row")
