package log

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
	"charkha/log/internal/classic"
)

// Status is what became of a message that Append was given.
type Status uint8

const (
	// Invalid: not a message, or not signed by its author. Err says why.
	Invalid Status = iota
	// Stored: it is on its way to disk, and visible.
	Stored
	// Duplicate: it was there already.
	Duplicate
	// Gap: what comes before it in its feed is missing here.
	Gap
	// Forked: it contradicts what is held of its feed, or the feed is known to be forked.
	Forked
)

func (s Status) String() string {
	return [...]string{"invalid", "stored", "duplicate", "gap", "fork"}[s]
}

// Result is what became of one message. Key, Author and Sequence are zero when the bytes are not a message.
type Result struct {
	Status   Status
	Key      identity.MsgID
	Author   identity.ID
	Sequence int64
	Err      error // the reason for Gap, Fork and Invalid
}

const (
	appendMost = 2048     // messages in one commit
	chunkLeast = 64       // messages that are worth a goroutine of their own
	syncBytes  = 32 << 20 // others' messages are synced after so much
	syncAfter  = 2 * time.Second
)

// parsed is a message on its way through Append.
type parsed struct {
	m         classic.Message // its slices are copies: Value is kept, Signed is the worker's
	err       error
	duplicate bool // seen to be stored before anything was checked
	signed    bool // the signature is good
}

// worker is what one goroutine needs to parse and verify.
type worker struct {
	scanner classic.Scanner
	signed  []byte
	batch   []identity.Signed
	ok      []bool
	index   []int
}

var workers = sync.Pool{New: func() any { return new(worker) }}

// Append takes raw messages of any feeds, in any mixture, and returns one result for each. Messages of one feed are chained
// in the order in which they stand. raws are not kept. An error means that the store failed: the log takes nothing more.
func (l *Log) Append(raws [][]byte) ([]Result, error) {
	results := make([]Result, len(raws))
	for at := 0; at < len(raws); at += appendMost {
		end := min(at+appendMost, len(raws))
		ps, ws := l.parse(raws[at:end])
		err := l.chain(ps, results[at:end])
		for _, w := range ws {
			workers.Put(w)
		}
		if err != nil {
			return results[:at], err
		}
	}
	return results, nil
}

// parse reads and verifies messages on all cores. The workers go back to their pool when the messages are done with.
func (l *Log) parse(raws [][]byte) ([]parsed, []*worker) {
	ps := make([]parsed, len(raws))
	n := min(runtime.GOMAXPROCS(0), (len(raws)+chunkLeast-1)/chunkLeast)
	ws := make([]*worker, n)
	var wg sync.WaitGroup
	for k := range n {
		ws[k] = workers.Get().(*worker)
		from, to := k*len(raws)/n, (k+1)*len(raws)/n
		if k == n-1 {
			l.work(ws[k], raws[from:to], ps[from:to])
			break
		}
		wg.Go(func() { l.work(ws[k], raws[from:to], ps[from:to]) })
	}
	wg.Wait()
	return ps, ws
}

func (l *Log) work(w *worker, raws [][]byte, ps []parsed) {
	total := 0
	for _, raw := range raws {
		total += len(raw)
	}
	values := make([]byte, 0, total)
	w.signed, w.batch, w.index = w.signed[:0], w.batch[:0], w.index[:0]
	for i, raw := range raws {
		p := &ps[i]
		m, err := w.scanner.Scan(raw)
		if err != nil {
			p.err = err
			continue
		}
		p.m = *m
		p.m.Type = nil
		content := cap(m.Value) - cap(m.Content) // where the content begins: it is part of Value
		at := len(values)
		values = append(values, m.Value...)
		p.m.Value = values[at:len(values):len(values)]
		p.m.Content = p.m.Value[content : content+len(m.Content)]
		at = len(w.signed)
		w.signed = append(w.signed, m.SignedBytes(l.o.HMACKey)...)
		p.m.Signed = w.signed[at:len(w.signed):len(w.signed)]
		if p.duplicate = l.holds(&p.m); !p.duplicate {
			w.index = append(w.index, i)
			w.batch = append(w.batch, identity.Signed{ID: m.Author, Msg: p.m.Signed, Sig: m.Signature})
		}
	}
	if cap(w.ok) < len(w.batch) {
		w.ok = make([]bool, len(w.batch))
	}
	w.ok = w.ok[:len(w.batch)]
	identity.VerifyAll(w.batch, w.ok)
	for k, i := range w.index {
		ps[i].signed = w.ok[k]
	}
}

// holds reports whether a message is stored.
func (l *Log) holds(m *classic.Message) bool {
	l.mu.RLock()
	n, known := l.numbers[m.Author]
	there := known && m.Sequence > 0 && m.Sequence <= l.feeds[n].head.Sequence
	l.mu.RUnlock()
	if !there {
		return false
	}
	key, err := l.keyAt(n, m.Sequence)
	return err == nil && key == m.Key
}

// keyAt reads the id of a stored message.
func (l *Log) keyAt(author uint32, seq int64) (key identity.MsgID, err error) {
	err = l.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(messageKey(author, seq))
		if err != nil {
			return err
		}
		return item.Value(func(rec []byte) error {
			key, err = recordKey(rec)
			return err
		})
	})
	return key, err
}

// batch is what one commit will change.
type batch struct {
	l        *Log
	newIDs   []identity.ID
	newNums  map[identity.ID]uint32
	feeds    map[identity.ID]*staged
	order    []*staged // the feeds that change
	messages []Message
	parts    []parts
	runs     []run
	received float64
}

// staged is a feed as it will be.
type staged struct {
	id      identity.ID
	number  uint32
	known   bool // has a number
	changed bool // is in order
	head    Head
	base    int64 // the sequence of the head before
	keys    []identity.MsgID
	fork    *Fork
	newFork bool
}

func (l *Log) newBatch() *batch {
	return &batch{l: l, feeds: map[identity.ID]*staged{}, received: l.lastReceived}
}

// number returns the number of an author, a new one if need be.
func (b *batch) number(id identity.ID) uint32 {
	if n, ok := b.l.numbers[id]; ok { // only the writer changes it
		return n
	}
	if n, ok := b.newNums[id]; ok {
		return n
	}
	if b.newNums == nil {
		b.newNums = map[identity.ID]uint32{}
	}
	n := uint32(len(b.l.feeds) + len(b.newIDs))
	b.newNums[id] = n
	b.newIDs = append(b.newIDs, id)
	return n
}

func (b *batch) setAuthors(txn *badger.Txn) error {
	for _, id := range b.newIDs {
		if err := txn.Set(authorKey(b.newNums[id]), id[:]); err != nil {
			return err
		}
	}
	return nil
}

// showAuthors makes new authors known. mu is held.
func (b *batch) showAuthors() {
	for _, id := range b.newIDs {
		b.l.numbers[id] = b.newNums[id]
		b.l.feeds = append(b.l.feeds, feed{id: id})
	}
}

// feed returns a feed as it stands in this batch.
func (b *batch) feed(id identity.ID) *staged {
	st := b.feeds[id]
	if st == nil {
		st = &staged{id: id}
		if n, ok := b.l.numbers[id]; ok {
			f := &b.l.feeds[n]
			st.number, st.known, st.head, st.fork = n, true, f.head, f.fork
		}
		st.base = st.head.Sequence
		b.feeds[id] = st
	}
	return st
}

// change notes that a feed changes. Only now does a new author get a number: those of whom nothing is kept have none.
func (b *batch) change(st *staged) {
	if !st.known {
		st.number, st.known = b.number(st.id), true
	}
	if !st.changed {
		st.changed = true
		b.order = append(b.order, st)
	}
}

// add stages a message that follows its feed's head.
func (b *batch) add(st *staged, m *classic.Message) {
	b.change(st)
	n := st.number
	off := b.l.committed + Offset(len(b.messages))
	b.received = math.Max(float64(b.l.o.Now().UnixMilli()), b.received+0.001)
	content := int32(cap(m.Value) - cap(m.Content))
	b.messages = append(b.messages, Message{
		key: m.Key, previous: m.Previous, author: m.Author, sequence: m.Sequence, timestamp: m.Timestamp,
		received: b.received, offset: off, value: m.Value, content: content, after: content + int32(len(m.Content)),
	})
	b.parts = append(b.parts, parts{signature: m.Signature, seqFirst: m.SequenceFirst})
	if k := len(b.runs) - 1; k >= 0 && b.runs[k].author == n {
		b.runs[k].count++
	} else {
		b.runs = append(b.runs, run{first: off, author: n, seq: m.Sequence, count: 1})
	}
	st.head = Head{Sequence: m.Sequence, Key: m.Key}
	st.keys = append(st.keys, m.Key)
}

// chain decides about messages in order and commits those that are next in their feeds.
func (l *Log) chain(ps []parsed, results []Result) error {
	l.write.Lock()
	defer l.write.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	b := l.newBatch()
	for i := range ps {
		results[i] = b.decide(&ps[i])
	}
	return b.commit("append", false)
}

// decide says what becomes of one message, and stages it if it is the next of its feed.
func (b *batch) decide(p *parsed) Result {
	if p.err != nil {
		return Result{Status: Invalid, Err: p.err}
	}
	m := &p.m
	r := Result{Status: Invalid, Key: m.Key, Author: m.Author, Sequence: m.Sequence}
	if p.duplicate {
		r.Status = Duplicate
		return r
	}
	if !p.signed {
		r.Err = ErrSignature
		return r
	}
	if m.Sequence < 1 {
		r.Err = errors.New("sequence is below 1")
		return r
	}
	st := b.feed(m.Author)
	if m.Sequence <= st.head.Sequence {
		kept, err := b.keyAt(st, m)
		if err != nil {
			r.Err = fmt.Errorf("the held message cannot be read: %w", err)
			return r
		}
		if kept == m.Key {
			r.Status = Duplicate
			return r
		}
		return b.forked(st, m, r, kept)
	}
	if st.fork != nil {
		r.Status = Forked
		r.Err = fmt.Errorf("%w at %d", ErrForked, st.fork.Sequence)
		return r
	}
	switch err := m.CheckNext(st.head.Sequence, st.head.Key); {
	case err == nil:
		b.add(st, m)
		r.Status = Stored
	case errors.Is(err, classic.ErrGap):
		r.Status, r.Err = Gap, err
	case errors.Is(err, classic.ErrFork):
		return b.forked(st, m, r, st.head.Key)
	default:
		r.Err = err
	}
	return r
}

// keyAt is the id that the feed has at the sequence of m.
func (b *batch) keyAt(st *staged, m *classic.Message) (identity.MsgID, error) {
	if m.Sequence > st.base {
		return st.keys[m.Sequence-st.base-1], nil
	}
	return b.l.keyAt(st.number, m.Sequence)
}

// forked notes that the author signed m beside what is held.
func (b *batch) forked(st *staged, m *classic.Message, r Result, kept identity.MsgID) Result {
	if st.fork == nil {
		b.change(st)
		st.newFork = true
		st.fork = &Fork{
			Feed: m.Author, Sequence: m.Sequence, Kept: kept, Other: m.Key,
			Value: append([]byte(nil), m.Value...), Seen: b.l.o.Now(),
		}
	}
	r.Status = Forked
	r.Err = fmt.Errorf("%w: %s at %d contradicts %s", ErrForked, m.Key, m.Sequence, kept)
	return r
}

// commit writes the batch and makes it visible: when durable is set, after it was synced.
func (b *batch) commit(step string, durable bool) error {
	l := b.l
	evidence := false
	for _, st := range b.order {
		evidence = evidence || st.newFork
	}
	if len(b.messages) == 0 && !evidence {
		return nil
	}
	bytes := 0
	err := l.commit(step, false, func(txn *badger.Txn) error {
		if err := b.setAuthors(txn); err != nil {
			return err
		}
		total := 0
		for i := range b.messages {
			total += len(b.messages[i].value) + recordHead + 64
		}
		var scratch []byte
		arena := make([]byte, 0, total) // records and keys, alive until the commit
		cut := func(from int) []byte { return arena[from:len(arena):len(arena)] }
		for i := range b.messages {
			m := &b.messages[i]
			n := b.feeds[m.author].number
			at := len(arena)
			arena, scratch = appendRecord(arena, m, &b.parts[i], scratch)
			rec := cut(at)
			at = len(arena)
			arena = appendPlace(append(arena, 'm'), n, m.sequence)
			key := cut(at)
			if err := txn.Set(key, rec); err != nil {
				return err
			}
			if err := txn.Set(idKey(m.key), key[1:]); err != nil {
				return err
			}
			bytes += len(rec) + 64
		}
		for rest := b.runs; len(rest) > 0; {
			first := rest[0].first
			var value []byte
			for len(rest) > 0 && len(value) < maxRuns-15 {
				value = rest[0].append(value)
				rest = rest[1:]
			}
			if err := txn.Set(orderKey(first), value); err != nil {
				return err
			}
		}
		for _, st := range b.order {
			if len(st.keys) > 0 {
				head := binary.BigEndian.AppendUint32(nil, uint32(st.head.Sequence))
				if err := txn.Set(headKey(st.number), append(head, st.head.Key[:]...)); err != nil {
					return err
				}
			}
			if st.newFork {
				value, err := json.Marshal(st.fork)
				if err != nil {
					return err
				}
				if err := txn.Set(forkKey(st.number), value); err != nil {
					return err
				}
			}
		}
		return l.mark(txn)
	})
	if err != nil {
		return err
	}
	l.committed += Offset(len(b.messages))
	l.unsynced += bytes
	l.lastReceived = b.received
	if durable || evidence {
		if err := l.sync(); err != nil {
			err = fmt.Errorf("log: %s: %w", step, err)
			l.fail(err)
			return err
		}
	}
	b.show()
	if l.unsynced > syncBytes || l.unsynced > 0 && l.o.Now().Sub(l.synced) > syncAfter {
		if err := l.sync(); err != nil {
			err = fmt.Errorf("log: sync: %w", err)
			l.fail(err)
			return err
		}
	}
	return nil
}

// show makes the batch visible.
func (b *batch) show() {
	l := b.l
	l.mu.Lock()
	b.showAuthors()
	for _, st := range b.order {
		l.feeds[st.number].head = st.head
		l.feeds[st.number].fork = st.fork
	}
	for i := range b.messages {
		m := &b.messages[i]
		l.recent[m.offset%recentSize] = *m
	}
	if len(b.messages) > 0 {
		l.next = l.committed
		close(l.more)
		l.more = make(chan struct{})
	}
	l.mu.Unlock()
	for _, st := range b.order {
		if st.newFork {
			l.o.Logger.Warn("feed is forked and stops here", "feed", st.fork.Feed, "seq", st.fork.Sequence,
				"kept", st.fork.Kept, "other", st.fork.Other)
		}
	}
}

// Publish signs content as the next message of a feed. When it returns, the message is on disk; nobody saw it before.
// Content is JSON, an object with a type or an encrypted string; what is wrong with it is told by an error that no other
// errors.Is. ErrUnconfirmed and ErrForked say that the feed may not be published to.
func (l *Log) Publish(k identity.KeyPair, content []byte) (Message, error) {
	l.write.Lock()
	defer l.write.Unlock()
	if err := l.usable(); err != nil {
		return Message{}, err
	}
	id := k.ID()
	if !l.Confirmed(id) {
		return Message{}, ErrUnconfirmed
	}
	b := l.newBatch()
	st := b.feed(id)
	if st.fork != nil {
		return Message{}, fmt.Errorf("%w at %d", ErrForked, st.fork.Sequence)
	}
	now := float64(l.o.Now().UnixMilli())
	raw, err := classic.Encode(k, l.o.HMACKey, st.head.Key, st.head.Sequence+1, now, content)
	if err != nil {
		return Message{}, err
	}
	w := workers.Get().(*worker)
	defer workers.Put(w)
	ps := make([]parsed, 1)
	l.work(w, [][]byte{raw}, ps)
	if r := b.decide(&ps[0]); r.Status != Stored {
		return Message{}, fmt.Errorf("log: internal error: own message %d is %s: %w", r.Sequence, r.Status, r.Err)
	}
	if err := b.commit("publish", true); err != nil {
		return Message{}, err
	}
	return b.messages[0], nil
}
