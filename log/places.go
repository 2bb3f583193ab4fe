package log

import (
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

// noNumber is no author's number.
const noNumber = 1<<32 - 1
