package log

import (
	"encoding/binary"
	"errors"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
)

// Place is where a message is: in its feed, and in the order of arrival.
type Place struct {
	Author   identity.ID
	Sequence int64
	Offset   Offset
}

// placesChunk is how many messages are read in one transaction: an open one keeps old files alive.
const placesChunk = 256

// AtMany appends the messages of places to dst, one for each, in their order. It is cheaper than as many calls of At: the reads
// share a transaction, and what came last is taken from memory. Where no message is, or one with another offset, the zero
// Message stands: its Sequence is 0. When one cannot be read, only those before it are appended.
func (l *Log) AtMany(dst []Message, places []Place) ([]Message, error) {
	for len(places) > 0 {
		chunk := places[:min(placesChunk, len(places))]
		places = places[len(chunk):]
		var err error
		if dst, err = l.atMany(dst, chunk); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (l *Log) atMany(dst []Message, places []Place) ([]Message, error) {
	first := len(dst)
	var room [placesChunk]uint32
	numbers := room[:len(places)]
	missing := 0
	l.mu.RLock()
	for i := range places {
		p := &places[i]
		var m Message
		numbers[i] = noNumber
		if r := &l.recent[p.Offset%recentSize]; r.value != nil && r.offset == p.Offset {
			if r.author == p.Author && r.sequence == p.Sequence {
				m = *r
			}
		} else if n, known := l.numbers[p.Author]; known && p.Sequence >= 1 && p.Sequence <= l.feeds[n].head.Sequence {
			numbers[i] = n
			missing++
		}
		dst = append(dst, m)
	}
	l.mu.RUnlock()
	if missing == 0 {
		return dst, nil
	}
	at := 0
	err := l.view(func(txn *badger.Txn) error {
		for ; at < len(places); at++ {
			n, p := numbers[at], &places[at]
			if n == noNumber {
				continue
			}
			if k := stretch(numbers[at:], places[at:]); k > 0 {
				if err := readStretch(txn, n, places[at:at+k], dst[first+at:]); err != nil {
					return err
				}
				at += k - 1
				continue
			}
			m, err := readPlace(txn, n, p.Author, p.Sequence)
			switch {
			case errors.Is(err, ErrNotFound):
			case err != nil:
				return err
			case m.offset == p.Offset:
				dst[first+at] = m
			}
		}
		return nil
	})
	return dst[:first+at], err
}

const (
	stretchGap  = 16 // sequences between two messages of a stretch at most
	stretchGaps = 4  // and in the mean of all
)

// stretch is how many of places, from the first on, are of one feed, and so near to each other, forwards or backwards, that going over what
// lies between them is cheaper than looking each up; 0: none.
func stretch(numbers []uint32, places []Place) int {
	down, k := false, 1
	for ; k < len(places) && numbers[k] == numbers[0]; k++ {
		gap := places[k].Sequence - places[k-1].Sequence
		if k == 1 {
			down = gap < 0
		}
		if down {
			gap = -gap
		}
		if gap < 1 || gap > stretchGap {
			break
		}
	}
	span := places[k-1].Sequence - places[0].Sequence
	if down {
		span = -span
	}
	if k < iterateLeast || span > int64(k)*stretchGaps {
		return 0
	}
	return k
}

// readStretch reads a stretch of the feed with number n into dst.
func readStretch(txn *badger.Txn, n uint32, places []Place, dst []Message) error {
	at, step := 0, 1
	if places[0].Sequence > places[1].Sequence {
		at, step = len(places)-1, -1
	}
	it := txn.NewIterator(badger.IteratorOptions{Prefix: messageKey(n, 0)[:5], PrefetchValues: false})
	defer it.Close()
	for it.Seek(messageKey(n, places[at].Sequence)); it.Valid(); it.Next() {
		seq := int64(binary.BigEndian.Uint32(it.Item().Key()[5:]))
		for places[at].Sequence < seq { // it is gone
			if at += step; at < 0 || at == len(places) {
				return nil
			}
		}
		if places[at].Sequence > seq {
			continue
		}
		m, err := decodeItem(it.Item(), places[at].Author, seq)
		if err != nil {
			return err
		}
		if m.offset == places[at].Offset {
			dst[at] = m
		}
		if at += step; at < 0 || at == len(places) {
			return nil
		}
	}
	return nil
}

// noNumber is no author's number.
const noNumber = 1<<32 - 1
