package log

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
)

// run is a piece of the order of arrival: messages of one feed that came one after the other.
type run struct {
	first  Offset
	author uint32
	seq    int64
	count  int64
}

func (r run) end() Offset { return r.first + Offset(r.count) }

// append writes a run, at most 15 bytes. Where it begins follows from the key and the runs before it.
func (r run) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(r.author))
	dst = binary.AppendUvarint(dst, uint64(r.seq))
	return binary.AppendUvarint(dst, uint64(r.count))
}

var errRuns = errors.New("log: the order of arrival is damaged")

func parseRuns(first Offset, b []byte) (runs []run, err error) {
	for len(b) > 0 {
		var v [3]uint64
		for i := range v {
			n := 0
			if v[i], n = binary.Uvarint(b); n <= 0 || v[i] > math.MaxUint32 {
				return nil, errRuns
			}
			b = b[n:]
		}
		r := run{first: first, author: uint32(v[0]), seq: int64(v[1]), count: int64(v[2])}
		if r.count == 0 {
			return nil, errRuns
		}
		first = r.end()
		runs = append(runs, r)
	}
	if len(runs) == 0 {
		return nil, errRuns
	}
	return runs, nil
}

// author returns the feed id of an author's number.
func (l *Log) author(n uint32) (identity.ID, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if int(n) >= len(l.feeds) {
		return identity.ID{}, false
	}
	return l.feeds[n].id, true
}

func (l *Log) numberOf(id identity.ID) (n uint32, head int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n, ok := l.numbers[id]
	if !ok {
		return 0, 0
	}
	return n, l.feeds[n].head.Sequence
}

func decodeItem(item *badger.Item, author identity.ID, seq int64) (m Message, err error) {
	verr := item.Value(func(rec []byte) error {
		m, err = decodeRecord(rec, author, seq)
		return nil
	})
	if err = errors.Join(err, verr); err != nil {
		err = fmt.Errorf("read %s/%d: %w", author.Short(), seq, err)
	}
	return m, err
}

// readPlace reads the message at a place of a feed. ErrNotFound: it is not there.
func readPlace(txn *badger.Txn, n uint32, author identity.ID, seq int64) (Message, error) {
	item, err := txn.Get(messageKey(n, seq))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return Message{}, ErrNotFound
	}
	if err != nil {
		return Message{}, err
	}
	return decodeItem(item, author, seq)
}

// At returns the message of a feed with a sequence, or ErrNotFound.
func (l *Log) At(feed identity.ID, seq int64) (m Message, err error) {
	n, head := l.numberOf(feed)
	if seq < 1 || seq > head {
		return Message{}, ErrNotFound
	}
	err = l.view(func(txn *badger.Txn) error {
		m, err = readPlace(txn, n, feed, seq)
		return err
	})
	return m, err
}

// Get returns a message by its id, or ErrNotFound.
func (l *Log) Get(id identity.MsgID) (m Message, err error) {
	err = l.view(func(txn *badger.Txn) error {
		place, err := get(txn, idKey(id))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		if len(place) != 8 {
			return errRecord
		}
		author, ok := l.author(binary.BigEndian.Uint32(place))
		if !ok {
			return ErrNotFound // not visible yet
		}
		m, err = readPlace(txn, binary.BigEndian.Uint32(place), author, int64(binary.BigEndian.Uint32(place[4:])))
		if err == nil && (m.key != id || m.offset >= l.Len()) {
			return ErrNotFound
		}
		return err
	})
	return m, err
}

// view reads. After Close it fails with ErrClosed instead of touching the store. It must not be called within itself.
func (l *Log) view(do func(txn *badger.Txn) error) error {
	l.reading.RLock()
	defer l.reading.RUnlock()
	if l.db.IsClosed() {
		return ErrClosed
	}
	return l.db.View(do)
}

// Range is a part of a feed. The zero value is all of it.
type Range struct {
	From, To int64 // sequences, both included; 0 is the feed's begin and its present end
	Reverse  bool  // the newest first
	Limit    int   // most messages, 0 for all
}

// feedChunk is how many messages are read in one transaction: an open one keeps old files alive.
const feedChunk = 256

// Feed yields messages of a feed by sequence, up to the head as it was when the iteration began.
func (l *Log) Feed(feed identity.ID, r Range) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		n, head := l.numberOf(feed)
		from, to := max(r.From, 1), head
		if r.To > 0 {
			to = min(to, r.To)
		}
		left := r.Limit
		if left <= 0 {
			left = math.MaxInt
		}
		var chunk []Message
		for from <= to && left > 0 {
			size := min(int64(feedChunk), to-from+1, int64(left))
			lo := from
			if r.Reverse {
				lo = to - size + 1
			}
			var err error
			if chunk, err = l.readRun(chunk[:0], n, feed, lo, size); err != nil {
				yield(Message{}, err)
				return
			}
			for i := range chunk {
				k := i
				if r.Reverse {
					k = len(chunk) - 1 - i
				}
				if !yield(chunk[k], nil) {
					return
				}
			}
			left -= int(size)
			if r.Reverse {
				to -= size
			} else {
				from += size
			}
		}
	}
}

// iterateLeast is from how many messages in a row on an iterator is cheaper than single reads.
const iterateLeast = 8

// readRun appends count messages of a feed from a sequence on. All of them must be there.
func (l *Log) readRun(dst []Message, n uint32, author identity.ID, seq, count int64) ([]Message, error) {
	err := l.view(func(txn *badger.Txn) error {
		if count < iterateLeast {
			for s := seq; s < seq+count; s++ {
				m, err := readPlace(txn, n, author, s)
				if err != nil {
					return err
				}
				dst = append(dst, m)
			}
			return nil
		}
		prefix := messageKey(n, 0)[:5]
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, PrefetchValues: false})
		defer it.Close()
		for it.Seek(messageKey(n, seq)); it.Valid() && count > 0; it.Next() {
			key := it.Item().Key()
			if s := int64(binary.BigEndian.Uint32(key[5:])); s != seq {
				break
			}
			m, err := decodeItem(it.Item(), author, seq)
			if err != nil {
				return err
			}
			dst = append(dst, m)
			seq++
			count--
		}
		if count > 0 {
			return fmt.Errorf("read %s/%d: %w", author.Short(), seq, ErrNotFound)
		}
		return nil
	})
	return dst, err
}

// Arrivals yields messages in the order in which they arrived, from an offset up to the present end; reverse, from the
// offset before `from` down to the first.
func (l *Log) Arrivals(from Offset, reverse bool) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		end := l.Len()
		if reverse {
			l.arrivalsDown(min(from, end), yield)
			return
		}
		l.arrivals(from, end, yield)
	}
}

// arrivals yields the messages from..end. It reports whether the caller wants more.
func (l *Log) arrivals(from, end Offset, yield func(Message, error) bool) bool {
	buf := make([]Message, 0, feedChunk)
	together := 1
	for from < end {
		// What came last is in memory.
		if buf = l.fromRecent(buf[:0], from, end); len(buf) > 0 {
			for i := range buf {
				if !yield(buf[i], nil) {
					return false
				}
			}
			from = buf[len(buf)-1].offset + 1
			continue
		}
		runs, err := l.runsAt(from)
		if err != nil {
			return yield(Message{}, err) && false
		}
		if len(runs) == 0 {
			return true
		}
		last := runs[len(runs)-1].end()
		wanted := runs[:0]
		for _, r := range runs {
			if r.end() <= from {
				continue
			}
			if skip := int64(from) - int64(r.first); skip > 0 {
				r.first, r.seq, r.count = from, r.seq+skip, r.count-skip
			}
			if r.first >= end {
				break
			}
			r.count = min(r.count, int64(end-r.first))
			wanted = append(wanted, r)
		}
		if !l.yieldRuns(wanted, false, &together, yield) {
			return false
		}
		from = last
	}
	return true
}

func (l *Log) arrivalsDown(end Offset, yield func(Message, error) bool) {
	var buf []Message
	together := 1
	for end > 0 {
		// What came last is in memory.
		if buf == nil {
			buf = make([]Message, 0, feedChunk)
		}
		if buf = l.fromRecentDown(buf[:0], end); len(buf) > 0 {
			for i := range buf {
				if !yield(buf[i], nil) {
					return
				}
			}
			end = buf[len(buf)-1].offset
			continue
		}
		runs, err := l.runsBefore(end)
		if err != nil {
			yield(Message{}, err)
			return
		}
		if len(runs) == 0 {
			return
		}
		next := runs[0].first
		for len(runs) > 0 && runs[len(runs)-1].first >= end {
			runs = runs[:len(runs)-1]
		}
		if n := len(runs); n > 0 {
			runs[n-1].count = min(runs[n-1].count, int64(end-runs[n-1].first))
		}
		slices.Reverse(runs)
		if !l.yieldRuns(runs, true, &together, func(m Message, err error) bool {
			if err == nil {
				l.keepRecent(&m)
			}
			return yield(m, err)
		}) {
			return
		}
		end = next
	}
}

// togetherMost is how many short runs are read in one transaction.
const togetherMost = 32

// yieldRuns yields the messages of runs, in the order of the runs, those of each run from its end if reverse. Short runs are read
// together: first one, then more, since many a caller wants one message only.
func (l *Log) yieldRuns(runs []run, reverse bool, together *int, yield func(Message, error) bool) bool {
	var buf []Message
	for len(runs) > 0 {
		n := 0
		for n < min(*together, len(runs)) && runs[n].count < iterateLeast {
			n++
		}
		*together = min(2**together, togetherMost)
		if n < 2 {
			if !l.yieldRun(runs[0], reverse, yield) {
				return false
			}
			runs = runs[1:]
			continue
		}
		var err error
		buf, err = l.readShort(buf[:0], runs[:n], reverse)
		for i := range buf {
			if !yield(buf[i], nil) {
				return false
			}
		}
		if err != nil {
			return yield(Message{}, err) && false
		}
		runs = runs[n:]
	}
	return true
}

// readShort appends the messages of runs that are still there, see yieldRun, up to the first that cannot be read.
func (l *Log) readShort(dst []Message, runs []run, reverse bool) ([]Message, error) {
	err := l.view(func(txn *badger.Txn) error {
		for _, r := range runs {
			author, ok := l.author(r.author)
			if !ok {
				continue
			}
			for k := range r.count {
				if reverse {
					k = r.count - 1 - k
				}
				m, err := readPlace(txn, r.author, author, r.seq+k)
				if errors.Is(err, ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				if m.offset == r.first+Offset(k) {
					dst = append(dst, m)
				}
			}
		}
		return nil
	})
	return dst, err
}

// yieldRun yields the messages of a run that are still there. A run may be a piece of a feed that was cut and came again:
// then the messages have other offsets.
func (l *Log) yieldRun(r run, reverse bool, yield func(Message, error) bool) bool {
	author, ok := l.author(r.author)
	if !ok {
		return true // all that the author had was cut off
	}
	for k := int64(0); k < r.count; k += feedChunk {
		size := min(feedChunk, r.count-k)
		at := k
		if reverse {
			at = r.count - k - size
		}
		chunk, err := l.readRun(nil, r.author, author, r.seq+at, size)
		if errors.Is(err, ErrNotFound) {
			err = nil // what follows was cut off
		}
		if err != nil {
			return yield(Message{}, err) && false
		}
		for i := range chunk {
			j := i
			if reverse {
				j = len(chunk) - 1 - i
			}
			if chunk[j].offset != r.first+Offset(at+int64(j)) {
				continue
			}
			if !yield(chunk[j], nil) {
				return false
			}
		}
	}
	return true
}

// fromRecent appends the messages from an offset on that are in memory, if the first one is.
func (l *Log) fromRecent(dst []Message, from, end Offset) []Message {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for ; from < end && len(dst) < cap(dst); from++ {
		m := &l.recent[from%recentSize]
		if m.value == nil || m.offset != from {
			break
		}
		dst = append(dst, *m)
	}
	return dst
}

// fromRecentDown appends the messages below an offset that are in memory, the newest first, if the one right below is.
func (l *Log) fromRecentDown(dst []Message, end Offset) []Message {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for ; end > 0 && len(dst) < cap(dst); end-- {
		m := &l.recent[(end-1)%recentSize]
		if m.value == nil || m.offset != end-1 {
			break
		}
		dst = append(dst, *m)
	}
	return dst
}

// keepRecent keeps a message that was read in memory when it is one of the newest: after a start there are none.
func (l *Log) keepRecent(m *Message) {
	l.mu.RLock()
	slot := &l.recent[m.offset%recentSize]
	keep := slot.value == nil && m.offset+recentSize >= l.next
	l.mu.RUnlock()
	if !keep {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if slot.value == nil && m.offset+recentSize >= l.next {
		*slot = *m
	}
}

// runsBefore reads the last piece of the order of arrival that begins below an offset; nil: there is none.
func (l *Log) runsBefore(off Offset) (runs []run, err error) {
	if off == 0 {
		return nil, nil
	}
	err = l.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Reverse: true, Prefix: []byte{'o'}, PrefetchValues: false})
		defer it.Close()
		it.Seek(orderKey(off - 1))
		runs, err = iteratorRuns(it)
		return err
	})
	return runs, err
}

// runsAt reads the piece of the order of arrival that holds an offset, or else the first one after it; nil: there is none.
func (l *Log) runsAt(off Offset) (runs []run, err error) {
	runs, err = l.runsBefore(off + 1)
	if err != nil || len(runs) > 0 && runs[len(runs)-1].end() > off {
		return runs, err
	}
	err = l.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{'o'}, PrefetchValues: false})
		defer it.Close()
		it.Seek(orderKey(off + 1))
		runs, err = iteratorRuns(it)
		return err
	})
	return runs, err
}

func iteratorRuns(it *badger.Iterator) (runs []run, err error) {
	if !it.Valid() {
		return nil, nil
	}
	item := it.Item()
	verr := item.Value(func(value []byte) error {
		runs, err = parseRuns(Offset(binary.BigEndian.Uint64(item.Key()[1:])), value)
		return err
	})
	return runs, verr
}

// Follow yields the messages from an offset on in the order of their arrival, and waits for more. It ends when ctx does, with
// ctx's error, or when the log is closed or fails, with that error.
func (l *Log) Follow(ctx context.Context, from Offset) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			l.mu.RLock()
			end, more, failed := l.next, l.more, l.failed
			l.mu.RUnlock()
			goOn := l.arrivals(from, end, func(m Message, err error) bool {
				if err == nil && ctx.Err() != nil {
					err = ctx.Err()
				}
				if err != nil {
					yield(Message{}, err)
					return false
				}
				return yield(m, nil)
			})
			if !goOn {
				return
			}
			from = max(from, end)
			if failed != nil {
				yield(Message{}, failed)
				return
			}
			select {
			case <-more:
			case <-ctx.Done():
				yield(Message{}, ctx.Err())
				return
			}
		}
	}
}
