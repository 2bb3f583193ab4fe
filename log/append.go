package log

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

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
	appendMost  = 4096    // messages in one commit
	appendBytes = 2 << 20 // of raw messages in one commit, from which on no more are added
	chunkLeast  = 64      // messages that are worth a goroutine of their own
)

// parsed is a message on its way through Append.
type parsed struct {
	m         classic.Message // its slices are copies: Value is kept, Signed is the worker's
	err       error
	duplicate bool // seen to be stored before anything was checked
	unchecked bool // the signature was not looked at, because the message cannot be the next one
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

// piece is a part of what Append was given, which is committed at once.
type piece struct {
	raws    [][]byte
	ps      []parsed
	workers []*worker
}

var (
	workers = sync.Pool{New: func() any { return new(worker) }}
	pieces  = sync.Pool{New: func() any { return new(piece) }}
)

// Append takes raw messages of any feeds, in any mixture, and returns one result for each. Messages of one feed are chained
// in the order in which they stand. raws are not kept. An error means that the store failed: the log takes nothing more, and
// the results end where that was.
func (l *Log) Append(raws [][]byte) ([]Result, error) {
	results := make([]Result, len(raws))
	ahead := ahead{}
	first := l.verify(&raws, ahead)
	if first == nil {
		return results, nil
	}
	// While one piece is committed, those after it are verified: one waits, one is in the works.
	verified, stop := make(chan *piece, 1), make(chan struct{})
	verified <- first
	go func() {
		defer close(verified)
		for len(raws) > 0 {
			p := l.verify(&raws, ahead)
			select {
			case verified <- p:
			case <-stop:
				p.free()
				return
			}
		}
	}()
	at := 0
	var err error
	for p := range verified {
		if err == nil {
			if err = l.chain(p.ps, results[at:at+len(p.ps)]); err == nil {
				at += len(p.ps)
			} else {
				close(stop)
			}
		}
		p.free()
	}
	return results[:at], err
}

func (p *piece) free() {
	for _, w := range p.workers {
		workers.Put(w)
	}
	clear(p.ps)
	p.ps, p.workers, p.raws = p.ps[:0], p.workers[:0], nil
	pieces.Put(p)
}

// verify takes a piece from the front of raws, reads it and checks the signatures, on all cores. The caller frees it.
func (l *Log) verify(raws *[][]byte, ahead ahead) *piece {
	n, size := 0, 0
	for n < len(*raws) && n < appendMost && size < appendBytes {
		size += len((*raws)[n])
		n++
	}
	if n == 0 {
		return nil
	}
	p := pieces.Get().(*piece)
	p.raws = (*raws)[:n]
	*raws = (*raws)[n:]
	p.ps = slices.Grow(p.ps[:0], n)[:n]
	for range min(runtime.GOMAXPROCS(0), (n+chunkLeast-1)/chunkLeast) {
		p.workers = append(p.workers, workers.Get().(*worker))
	}
	p.parallel(func(w *worker, raws [][]byte, ps []parsed) { l.scan(w, raws, ps) })
	l.screen(p.ps, ahead)
	p.parallel(func(w *worker, _ [][]byte, ps []parsed) { w.verify(ps, l.o.HMACKey) })
	return p
}

// parallel calls do with equal shares of the piece, one for each worker.
func (p *piece) parallel(do func(w *worker, raws [][]byte, ps []parsed)) {
	var wg sync.WaitGroup
	n := len(p.workers)
	for k, w := range p.workers {
		from, to := k*len(p.ps)/n, (k+1)*len(p.ps)/n
		if k == n-1 {
			do(w, p.raws[from:to], p.ps[from:to])
			break
		}
		wg.Go(func() { do(w, p.raws[from:to], p.ps[from:to]) })
	}
	wg.Wait()
}

// scan reads messages and looks whether they are stored.
func (l *Log) scan(w *worker, raws [][]byte, ps []parsed) {
	total := 0
	for _, raw := range raws {
		total += len(raw)
	}
	values := make([]byte, 0, total)
	w.signed = w.signed[:0]
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
		w.signed = append(w.signed, m.Signed...)
		p.m.Signed = w.signed[at:len(w.signed):len(w.signed)]
		p.duplicate = l.holds(&p.m)
	}
}

// ahead is, by feed, the highest sequence that it may have when what was screened before is stored.
type ahead map[identity.ID]int64

// screen finds the messages whose signature decides nothing: those that leave a gap, and those of forked feeds.
func (l *Log) screen(ps []parsed, ahead ahead) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := range ps {
		p := &ps[i]
		if p.err != nil || p.duplicate {
			continue
		}
		n, known := l.numbers[p.m.Author]
		if known && l.feeds[n].fork != nil {
			p.unchecked = true
			continue
		}
		top := ahead[p.m.Author]
		if known {
			top = max(top, l.feeds[n].head.Sequence)
		}
		switch {
		case p.m.Sequence > top+1:
			p.unchecked = true
		case p.m.Sequence == top+1:
			ahead[p.m.Author] = top + 1
		}
	}
}

// verify checks the signatures that count.
func (w *worker) verify(ps []parsed, hmac *[32]byte) {
	w.batch, w.index = w.batch[:0], w.index[:0]
	for i := range ps {
		if p := &ps[i]; p.err == nil && !p.duplicate && !p.unchecked {
			w.index = append(w.index, i)
			w.batch = append(w.batch, identity.Signed{ID: p.m.Author, Msg: p.m.SignedBytes(hmac), Sig: p.m.Signature})
		}
	}
	w.ok = slices.Grow(w.ok[:0], len(w.batch))[:len(w.batch)]
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
	err = l.view(func(txn *badger.Txn) error {
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
	return b.commit("append", nil)
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
	if m.Sequence < 1 {
		r.Err = errors.New("sequence is below 1")
		return r
	}
	st := b.feed(m.Author)
	if p.unchecked {
		switch {
		case st.fork != nil:
			r.Status, r.Err = Forked, fmt.Errorf("%w at %d", ErrForked, st.fork.Sequence)
			return r
		case m.Sequence > st.head.Sequence+1:
			r.Status, r.Err = Gap, m.CheckNext(st.head.Sequence, st.head.Key)
			return r
		}
		// Somebody else has filled the gap since.
		p.signed = m.VerifySignature(b.l.o.HMACKey)
	}
	if !p.signed {
		r.Err = ErrSignature
		return r
	}
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

// commit writes the batch and makes it visible: after it was synced, when it holds a fork or messages of a confirmed feed. Where
// those are in the journal already, or soon will be, it waits for that instead.
func (b *batch) commit(step string, journaled func() error) error {
	l := b.l
	evidence := false
	var own []*staged // confirmed feeds: what was seen of them must never be lost, whoever brought it
	for _, st := range b.order {
		evidence = evidence || st.newFork
		if len(st.keys) > 0 && int(st.number) < len(l.feeds) && l.feeds[st.number].confirmed {
			own = append(own, st)
		}
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
				if err := txn.Set(headKey(st.number), headValue(st.head)); err != nil {
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
	l.lastReceived = b.received
	wait := l.syncer.wrote(bytes)
	if evidence || wait || len(own) > 0 && journaled == nil {
		if err := l.sync(); err != nil {
			err = fmt.Errorf("log: %s: %w", step, err)
			l.fail(err)
			return err
		}
	}
	if journaled != nil {
		if err := journaled(); err != nil {
			err = fmt.Errorf("log: %s: %w", step, err)
			l.fail(err)
			return err
		}
		return b.show()
	}
	for _, st := range own {
		if err := l.noteOwn(st.id, st.head); err != nil {
			return err
		}
	}
	return b.show()
}

// show makes the batch visible, unless a sync in the background has failed meanwhile.
func (b *batch) show() error {
	l := b.l
	l.mu.Lock()
	if l.failed != nil {
		defer l.mu.Unlock()
		return l.failed
	}
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
	return nil
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
	if err := l.roomInJournal(len(raw)); err != nil {
		return Message{}, err
	}
	// What we sign is checked like anything else, while it is written. Should it be wrong, it is on disk and nobody saw it.
	journaled := l.journalMessage(raw)
	defer journaled()
	raws := [][]byte{raw}
	p := l.verify(&raws, ahead{})
	defer p.free()
	if r := b.decide(&p.ps[0]); r.Status != Stored {
		err := fmt.Errorf("log: internal error: own message %d is %s: %w", r.Sequence, r.Status, errors.Join(r.Err, journaled()))
		l.fail(err)
		return Message{}, err
	}
	if err := b.commit("publish", journaled); err != nil {
		return Message{}, err
	}
	l.own.end += journalHead + int64(len(raw))
	l.own.set(id, st.head)
	return b.messages[0], nil
}
