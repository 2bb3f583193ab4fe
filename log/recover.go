package log

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
	"charkha/log/internal/classic"
)

// offsetsLost is more than the number of messages that can be visible and not on disk: syncMost bytes of the smallest ones.
const offsetsLost = 1 << 18

// recover looks at what came since the last sync that the store knows of. A power cut may have taken any of it: records
// whose keys are there, and whole transactions, also such as were followed by others that stayed (each of Badger's
// write-ahead logs keeps a whole beginning of what was written to it). A feed that lost something is cut back to its last
// whole message. After a clean Close there is nothing to look at.
//
// When the last message is not whole after that, more was damaged than a power cut explains (Badger cuts the last value
// log at the first bad byte), and everything is read.
//
// After a crash the next offset is above all that a follower can have seen, so that a cursor never stands behind messages that
// its follower did not see.
func (l *Log) recover(crashed bool) error {
	from, floor, err := l.readMark()
	if err != nil {
		return err
	}
	end := l.next
	l.committed, l.floor = max(end, floor), floor
	l.syncer.syncedTo, l.markedTo = from, from
	lost := l.nameless()
	clean := from >= end && len(lost) == 0
	for all := l.o.Check; ; all = true {
		if all {
			// Should this be interrupted, the next Open goes on with it.
			l.syncer.syncedTo, from, clean = 0, 0, false
			if err := l.update("mark", l.mark); err != nil {
				return err
			}
		}
		if err := l.cutDamaged(from, lost); err != nil {
			return err
		}
		err := l.checkEnd(end)
		if err == nil {
			break
		}
		if all {
			return openError(l.o.Dir, err)
		}
		l.o.Logger.Warn("the newest messages are damaged: all are read", "err", err)
	}
	short := l.shortFeeds()
	crashed = crashed || len(short) > 0
	if clean && !crashed {
		return nil
	}
	if err := l.sync(); err != nil {
		return err
	}
	l.syncer.syncedTo = end
	if crashed {
		l.committed += offsetsLost
		l.floor = l.committed
	}
	if err := l.update("mark", l.setMark); err != nil || !crashed {
		return err
	}
	if err := l.sync(); err != nil { // the offset, too, must outlive what is shown at it
		return err
	}
	if len(short) == 0 {
		return nil
	}
	return l.restoreOwn(short)
}

// cutDamaged cuts back the feeds that are not whole from an offset on.
func (l *Log) cutDamaged(from Offset, lost []uint32) error {
	suspect, err := l.suspects(from)
	if err != nil {
		return err
	}
	for _, n := range lost {
		suspect[n] = true
	}
	orphans := false
	for n := range suspect {
		unread, err := l.cutBack(n)
		if err != nil {
			return err
		}
		orphans = orphans || unread
	}
	if orphans {
		return l.dropOrphans()
	}
	return nil
}

// checkEnd reads the last message and the heads of confirmed feeds, and sets what follows from them.
func (l *Log) checkEnd(end Offset) error {
	l.next, l.lastReceived = end, 0
	last := Offset(0)
	for m, err := range l.Arrivals(end, true) {
		if err != nil {
			return err
		}
		l.lastReceived, last = m.received, m.offset+1
		break
	}
	for n := range l.feeds {
		f := &l.feeds[n]
		if !f.confirmed || f.head.Sequence == 0 {
			continue
		}
		key, err := l.keyAt(uint32(n), f.head.Sequence)
		if err == nil && key != f.head.Key {
			err = errRecord
		}
		if err != nil {
			return fmt.Errorf("read %s/%d: %w", f.id.Short(), f.head.Sequence, err)
		}
	}
	l.next = last
	return nil
}

func (l *Log) readMark() (from, floor Offset, err error) {
	err = l.db.View(func(txn *badger.Txn) error {
		value, err := get(txn, syncedKey)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err == nil && len(value) != 16 {
			err = openError(l.o.Dir, errors.New("the mark of the last sync is damaged"))
		}
		if err == nil {
			from, floor = Offset(binary.BigEndian.Uint64(value)), Offset(binary.BigEndian.Uint64(value[8:]))
		}
		return err
	})
	return from, floor, err
}

// nameless returns the numbers whose author's id was lost.
func (l *Log) nameless() (lost []uint32) {
	for n := range l.feeds {
		if f := &l.feeds[n]; f.id.IsZero() && f.head.Sequence > 0 {
			lost = append(lost, uint32(n))
		}
	}
	return lost
}

// suspects reads the messages from an offset on and returns the authors of whose feeds something is not as it should be.
func (l *Log) suspects(from Offset) (suspect map[uint32]bool, err error) {
	suspect = map[uint32]bool{}
	good := map[uint32]Head{} // the last whole message that was read, by author
	var s classic.Scanner
	for at := from; at < l.next; {
		runs, err := l.runsAt(at)
		if err != nil {
			return nil, err
		}
		if len(runs) == 0 {
			break
		}
		for _, r := range runs {
			l.growFeeds(r.author)
			f := &l.feeds[r.author]
			if suspect[r.author] {
				continue
			}
			last, seen := good[r.author]
			seq := r.seq
			if !seen && seq > 1 {
				// What is before was synced, or the transaction that wrote it was lost.
				key, err := l.keyAt(r.author, seq-1)
				if err != nil {
					suspect[r.author] = true
					continue
				}
				last = Head{Sequence: seq - 1, Key: key}
			}
			for ; seq < r.seq+r.count && seq <= f.head.Sequence; seq++ {
				m, err := l.whole(&s, r.author, seq, last)
				if err != nil {
					l.o.Logger.Debug("message is damaged", "feed", f.id, "seq", seq, "err", err)
					suspect[r.author] = true
					break
				}
				last = Head{Sequence: seq, Key: m.key}
			}
			good[r.author] = last
		}
		at = runs[len(runs)-1].end()
	}
	for n, last := range good {
		if f := &l.feeds[n]; f.id.IsZero() || last != f.head {
			suspect[n] = true
		}
	}
	return suspect, nil
}

// whole reads a message and checks that it is what was stored, and that it follows last.
func (l *Log) whole(s *classic.Scanner, n uint32, seq int64, last Head) (m Message, err error) {
	err = l.db.View(func(txn *badger.Txn) error {
		m, err = readPlace(txn, n, l.feeds[n].id, seq)
		return err
	})
	if err != nil {
		return m, err
	}
	c, err := s.Scan(m.value)
	if err != nil {
		return m, err
	}
	if c.Key != m.key || c.Author != m.author || c.Sequence != seq {
		return m, errRecord
	}
	return m, c.CheckNext(last.Sequence, last.Key)
}

// cutBack finds a feed's last whole message and removes what is above it. unread reports that some of that could not be
// read, so that an id may still lead to it.
func (l *Log) cutBack(n uint32) (unread bool, err error) {
	f := &l.feeds[n]
	var head Head
	var s classic.Scanner
	for !f.id.IsZero() {
		m, err := l.whole(&s, n, head.Sequence+1, head)
		if err != nil {
			break
		}
		head = Head{Sequence: m.sequence, Key: m.key}
	}
	if head == f.head && !f.id.IsZero() {
		return false, nil
	}
	// The head goes last: after a crash in between it is damaged, and the feed cut again.
	batch := l.db.NewWriteBatch()
	defer batch.Cancel()
	err = l.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: messageKey(n, 0)[:5], PrefetchValues: false})
		defer it.Close()
		for it.Seek(messageKey(n, head.Sequence+1)); it.Valid(); it.Next() {
			item := it.Item()
			if err := batch.Delete(item.KeyCopy(nil)); err != nil {
				return err
			}
			var id identity.MsgID
			if err := item.Value(func(rec []byte) (err error) {
				id, err = recordKey(rec)
				return err
			}); err != nil {
				unread = true
				continue
			}
			place, err := get(txn, idKey(id))
			if err == nil && string(place) == string(item.Key()[1:]) {
				err = batch.Delete(idKey(id))
			}
			if err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = l.step("cut", batch.Flush)
	}
	if err == nil {
		err = l.update("cut head", func(txn *badger.Txn) error {
			if head.Sequence == 0 {
				return txn.Delete(headKey(n))
			}
			return txn.Set(headKey(n), headValue(head))
		})
	}
	if err != nil {
		return unread, fmt.Errorf("log: cut %s at %d: %w", f.id.Short(), head.Sequence+1, err)
	}
	l.o.Logger.Warn("feed was damaged and is cut back to its last whole message; peers can send the rest again",
		"feed", f.id, "seq", head.Sequence, "lost", f.head.Sequence-head.Sequence)
	f.head = head
	return unread, nil
}

// dropOrphans removes the ids that lead to no message.
func (l *Log) dropOrphans() error {
	batch := l.db.NewWriteBatch()
	defer batch.Cancel()
	err := l.db.View(func(txn *badger.Txn) error {
		return each(txn, 'i', func(key, place []byte) error {
			if len(place) == 8 {
				n, seq := binary.BigEndian.Uint32(place), int64(binary.BigEndian.Uint32(place[4:]))
				if int(n) < len(l.feeds) && seq <= l.feeds[n].head.Sequence {
					return nil
				}
			}
			return batch.Delete(append([]byte(nil), key...))
		})
	})
	if err != nil {
		return err
	}
	return l.step("drop orphans", batch.Flush)
}
