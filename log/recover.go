package log

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"charkha/log/internal/classic"
)

// recover reads what came since the last sync that the store knows of, and cuts each feed back to its last whole message.
// After a clean Close that is nothing.
func (l *Log) recover() error {
	var from Offset
	err := l.db.View(func(txn *badger.Txn) error {
		value, err := get(txn, syncedKey)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err == nil && len(value) != 8 {
			err = errors.New("log: the mark of the last sync is damaged")
		}
		if err == nil {
			from = Offset(binary.BigEndian.Uint64(value))
		}
		return err
	})
	if err != nil {
		return err
	}
	l.committed, l.syncedTo, l.markedTo = l.next, from, from
	if err := l.loadReceived(); err != nil {
		return err
	}
	if from >= l.next {
		return nil
	}
	damaged := map[uint32]int64{} // author -> first sequence that is not whole
	var s classic.Scanner
	for at := from; at < l.next; {
		runs, err := l.runsAt(at)
		if err != nil {
			return err
		}
		for _, r := range runs {
			if err := l.check(&s, r, damaged); err != nil {
				return err
			}
		}
		at = runs[len(runs)-1].end()
	}
	for n, seq := range damaged {
		if err := l.cut(n, seq); err != nil {
			return err
		}
	}
	if err := l.sync(); err != nil {
		return err
	}
	return l.db.Update(l.mark)
}

// check reads the messages of a run and notes where a feed is damaged.
func (l *Log) check(s *classic.Scanner, r run, damaged map[uint32]int64) error {
	if int(r.author) >= len(l.feeds) {
		return errRuns
	}
	f := &l.feeds[r.author]
	return l.db.View(func(txn *badger.Txn) error {
		for k := range r.count {
			seq := r.seq + k
			if seq > f.head.Sequence {
				return nil // cut off before
			}
			if bad, ok := damaged[r.author]; ok && bad <= seq {
				return nil
			}
			m, err := readPlace(txn, r.author, f.id, seq)
			if err == nil {
				var c *classic.Message
				if c, err = s.Scan(m.value); err == nil && (c.Key != m.key || c.Author != f.id || c.Sequence != seq) {
					err = errRecord
				}
			}
			if err != nil {
				l.o.Logger.Debug("message is damaged", "feed", f.id, "seq", seq, "err", err)
				damaged[r.author] = seq
				return nil
			}
		}
		return nil
	})
}

// cut removes a feed's messages from a sequence on.
func (l *Log) cut(n uint32, seq int64) error {
	f := &l.feeds[n]
	var head Head
	if seq > 1 {
		key, err := l.keyAt(n, seq-1)
		if err != nil {
			return fmt.Errorf("log: cut %s at %d: %w", f.id.Short(), seq, err)
		}
		head = Head{Sequence: seq - 1, Key: key}
	}
	for to := f.head.Sequence; to >= seq; {
		// From the newest down, in pieces that fit a transaction: a crash in between leaves a feed without a hole, with a
		// head that is damaged and cut again.
		from := max(seq, to-appendMost+1)
		err := l.db.Update(func(txn *badger.Txn) error {
			for s := from; s <= to; s++ {
				if key, err := l.keyAt(n, s); err == nil {
					if place, err := get(txn, idKey(key)); err == nil && string(place) == string(appendPlace(nil, n, s)) {
						if err := txn.Delete(idKey(key)); err != nil {
							return err
						}
					}
				}
				if err := txn.Delete(messageKey(n, s)); err != nil {
					return err
				}
			}
			if from > seq {
				return nil
			}
			if head.Sequence == 0 {
				return txn.Delete(headKey(n))
			}
			value := binary.BigEndian.AppendUint32(nil, uint32(head.Sequence))
			return txn.Set(headKey(n), append(value, head.Key[:]...))
		})
		if err != nil {
			return err
		}
		to = from - 1
	}
	l.o.Logger.Warn("feed was damaged at its end and is cut back; peers can send the rest again",
		"feed", f.id, "seq", head.Sequence, "lost", f.head.Sequence-head.Sequence)
	f.head = head
	return nil
}

// loadReceived finds the last receive time, which later ones must be above.
func (l *Log) loadReceived() error {
	for m, err := range l.Arrivals(l.next, true) {
		if err != nil {
			return nil // damaged, which is for the check to find: the clock goes on without
		}
		l.lastReceived = m.received
		break
	}
	return nil
}
