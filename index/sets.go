package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"charkha/log"
)

// A set is the places of the messages that have something in common, such as a type or a word: its term. The newest places are
// in one row, the tail, under the term itself; whenever 256 have gathered, they become a row of their own, under the term and
// the first of them, which is never written again. So a message costs each of its sets a small row, read and written once for
// all messages of a transaction, however large the set is.
//
//	term                 uvarints: places in rows of their own, places here, last place; then the places, as differences
//	term, first place    the places, as differences
//
// No term is the beginning of another one.
const chunkMost = 256

// setWriter gathers what the messages of a transaction add to sets.
type setWriter struct {
	// sets of the transaction, and those that were written lately, with their tails as they are on disk: what every message has, such
	// as a type, is not read again for each transaction.
	sets    map[string]*writtenSet
	used    []*writtenSet // those of the transaction
	nth     uint32        // of the transaction
	written bool          // to tails, in a transaction that was not committed
}

type writtenSet struct {
	term   string
	places []uint64 // what the transaction adds
	tail   tail
	known  bool   // tail is what is on disk
	nth    uint32 // the last transaction that it was in
}

func (w *setWriter) begin() {
	if w.sets == nil || w.written {
		w.sets, w.written = map[string]*writtenSet{}, false
	}
	for _, s := range w.used {
		if s.places = s.places[:0]; cap(s.places) > spareCap {
			s.places = nil
		}
	}
	clear(w.used)
	w.used = w.used[:0]
	w.nth++
}

const (
	spareCap  = 32
	tailsMost = 5000 // with some 300 bytes each
	tailsAge  = 16   // transactions that a tail waits for its next message, if there is room
)

// committed keeps the tails that were written.
func (w *setWriter) committed() {
	w.written = false
	for age := uint32(tailsAge); len(w.sets) > tailsMost; age /= 2 {
		for term, s := range w.sets {
			if w.nth-s.nth >= age {
				delete(w.sets, term)
			}
		}
	}
}

// clear forgets everything.
func (w *setWriter) clear() { w.sets, w.used = nil, nil }

// add puts a place into a set, and reports whether it was not there. Places only rise.
func (w *setWriter) add(term []byte, place uint64) bool {
	s, ok := w.sets[string(term)]
	if !ok {
		s = &writtenSet{term: string(term)}
		w.sets[s.term] = s
	}
	if s.nth != w.nth {
		s.nth = w.nth
		w.used = append(w.used, s)
	}
	if n := len(s.places); n > 0 && s.places[n-1] == place {
		return false
	}
	s.places = append(s.places, place)
	return true
}

// flush writes the rows.
func (w *setWriter) flush(txn *badger.Txn) error {
	// In order, so that what is looked for is near to what was found before.
	slices.SortFunc(w.used, func(a, b *writtenSet) int { return strings.Compare(a.term, b.term) })
	w.written = len(w.used) > 0
	for _, s := range w.used {
		t := &s.tail
		if !s.known {
			var err error
			if *t, err = readTail(txn, []byte(s.term)); err != nil {
				return err
			}
			s.known = true
		}
		for _, place := range s.places {
			if t.n+t.frozen > 0 && place <= t.last {
				continue // it was written before
			}
			if t.n == 0 {
				t.first = place
				t.body = binary.AppendUvarint(t.body[:0:0], place)
			} else {
				t.body = binary.AppendUvarint(t.body, place-t.last)
			}
			t.last = place
			if t.n++; t.n == chunkMost {
				if err := txn.Set(binary.BigEndian.AppendUint64([]byte(s.term), t.first), t.body); err != nil {
					return err
				}
				t.frozen, t.n, t.body = t.frozen+chunkMost, 0, nil
			}
		}
		if err := txn.Set([]byte(s.term), t.bytes()); err != nil {
			return err
		}
	}
	return nil
}

type tail struct {
	frozen, n   uint64 // how many places are in rows of their own, and how many here
	first, last uint64 // first of those here
	body        []byte
}

func (t *tail) bytes() []byte {
	b := make([]byte, 0, len(t.body)+12)
	b = binary.AppendUvarint(b, t.frozen)
	b = binary.AppendUvarint(b, t.n)
	b = binary.AppendUvarint(b, t.last)
	return append(b, t.body...)
}

func parseTail(b []byte) (t tail, err error) {
	for _, v := range []*uint64{&t.frozen, &t.n, &t.last} {
		x, n := binary.Uvarint(b)
		if n <= 0 {
			return t, errRow
		}
		*v, b = x, b[n:]
	}
	t.body = b
	if t.n > 0 {
		first, n := binary.Uvarint(b)
		if n <= 0 || t.n >= chunkMost {
			return t, errRow
		}
		t.first = first
	}
	return t, nil
}

// readTail reads the tail of a set, which is empty when there is none.
func readTail(txn *badger.Txn, term []byte) (t tail, err error) {
	item, err := txn.Get(term)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	verr := item.Value(func(b []byte) error {
		// Room for some more: the tail is mostly read to be written again.
		t, err = parseTail(append(make([]byte, 0, len(b)+16), b...))
		return err
	})
	return t, verr
}

// sizeOf is how many places a set has.
func sizeOf(txn *badger.Txn, term []byte) (uint64, error) {
	t, err := readTail(txn, term)
	return t.frozen + t.n, err
}

func parsePlaces(dst []uint64, b []byte) ([]uint64, error) {
	at := uint64(0)
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 || len(dst) > 0 && (d == 0 || at+d < at) {
			return nil, errRow
		}
		at += d
		dst = append(dst, at)
		b = b[n:]
	}
	return dst, nil
}

// finder finds the places of a set, or of what is made of several, in one direction.
type finder interface {
	// seek returns the first place at p or behind it, in the direction; false: there is none. p never goes back.
	seek(p uint64) (uint64, bool, error)
	close()
}

// noPlaces is the empty set.
type noPlaces struct{}

func (noPlaces) seek(uint64) (uint64, bool, error) { return 0, false, nil }
func (noPlaces) close()                            {}

// setPlaces reads one set, the rows as they are needed.
type setPlaces struct {
	txn     *badger.Txn
	term    []byte
	reverse bool
	tail    tail
	chunk   []uint64 // what was read last, ascending
	at      int      // in chunk, where the last seek ended
	isTail  bool     // chunk is that of the tail
	it      *badger.Iterator
}

// openSet opens a set.
func openSet(txn *badger.Txn, term []byte, reverse bool) (finder, error) {
	t, err := readTail(txn, term)
	if err != nil {
		return nil, err
	}
	if t.frozen+t.n == 0 {
		return noPlaces{}, nil
	}
	s := &setPlaces{txn: txn, term: term, reverse: reverse, tail: t}
	if reverse || t.frozen == 0 {
		err = s.takeTail()
	}
	return s, err
}

func (s *setPlaces) takeTail() (err error) {
	s.chunk, err = parsePlaces(s.chunk[:0], s.tail.body)
	s.isTail, s.at = true, 0
	if s.reverse {
		s.at = len(s.chunk) - 1
	}
	return err
}

func (s *setPlaces) close() {
	if s.it != nil {
		s.it.Close()
		s.it = nil
	}
}

func (s *setPlaces) seek(p uint64) (uint64, bool, error) {
	if s.reverse {
		return s.seekDown(p)
	}
	return s.seekUp(p)
}

// find sets at to the place of the first entry at or behind p in the chunk; false: there is none.
func (s *setPlaces) find(p uint64) bool {
	if len(s.chunk) == 0 {
		return false
	}
	if s.reverse {
		if s.chunk[0] > p {
			return false
		}
		for step := 0; s.chunk[s.at] > p; step++ {
			if step == 8 { // it is far: the rest by halves
				i, found := slices.BinarySearch(s.chunk[:s.at], p)
				if !found {
					i--
				}
				s.at = i
				break
			}
			s.at--
		}
		return true
	}
	if s.chunk[len(s.chunk)-1] < p {
		return false
	}
	for step := 0; s.chunk[s.at] < p; step++ {
		if step == 8 {
			i, _ := slices.BinarySearch(s.chunk[s.at:], p)
			s.at += i
			break
		}
		s.at++
	}
	return true
}

func (s *setPlaces) open() {
	if s.it == nil {
		s.it = s.txn.NewIterator(badger.IteratorOptions{Prefix: s.term, Reverse: s.reverse})
	}
}

// take reads the row that the iterator is at; false: there is no more.
func (s *setPlaces) take() (ok bool, err error) {
	if !s.it.Valid() || len(s.it.Item().Key()) != len(s.term)+8 {
		return false, nil
	}
	err = s.it.Item().Value(func(b []byte) error {
		s.chunk, err = parsePlaces(s.chunk[:0], b)
		return err
	})
	if err == nil && len(s.chunk) == 0 {
		err = errRow
	}
	s.isTail, s.at = false, 0
	if s.reverse {
		s.at = len(s.chunk) - 1
	}
	return err == nil, err
}

func (s *setPlaces) seekDown(p uint64) (uint64, bool, error) {
	if s.find(p) {
		return s.chunk[s.at], true, nil
	}
	if s.tail.frozen == 0 {
		s.chunk = nil
		return 0, false, nil
	}
	s.open()
	s.it.Seek(binary.BigEndian.AppendUint64(slices.Clip(s.term), p))
	ok, err := s.take()
	if !ok || err != nil {
		s.chunk, s.tail.frozen = nil, 0
		return 0, false, err
	}
	if !s.find(p) {
		return 0, false, errRow
	}
	return s.chunk[s.at], true, nil
}

func (s *setPlaces) seekUp(p uint64) (uint64, bool, error) {
	if s.find(p) {
		return s.chunk[s.at], true, nil
	}
	if s.isTail {
		s.chunk = nil
		return 0, false, nil
	}
	// The row that holds p begins at it or before it; it may also end before it.
	if s.tail.n == 0 || p < s.tail.first {
		if s.it == nil {
			first, err := s.before(p)
			if err != nil {
				return 0, false, err
			}
			s.open()
			s.it.Seek(binary.BigEndian.AppendUint64(slices.Clip(s.term), first))
		} else {
			s.it.Next()
		}
		for {
			ok, err := s.take()
			if err != nil {
				return 0, false, err
			}
			if !ok {
				break
			}
			if s.find(p) {
				return s.chunk[s.at], true, nil
			}
			s.it.Next()
		}
	}
	if err := s.takeTail(); err != nil {
		return 0, false, err
	}
	if s.find(p) {
		return s.chunk[s.at], true, nil
	}
	s.chunk = nil
	return 0, false, nil
}

// before is the first place of the last row that begins at p or before it, 0 if there is none.
func (s *setPlaces) before(p uint64) (uint64, error) {
	it := s.txn.NewIterator(badger.IteratorOptions{Prefix: s.term, Reverse: true})
	defer it.Close()
	it.Seek(binary.BigEndian.AppendUint64(slices.Clip(s.term), p))
	if !it.Valid() || len(it.Item().Key()) != len(s.term)+8 {
		return 0, nil
	}
	return binary.BigEndian.Uint64(it.Item().Key()[len(s.term):]), nil
}

// beyond is the place behind p in a direction; false: there is none.
func beyond(p uint64, reverse bool) (uint64, bool) {
	if reverse {
		return p - 1, p > 0
	}
	return p + 1, p < math.MaxUint64
}

// allOf are the places that are in all of some sets, whose columns say all of some types, and that are in none of other sets.
type allOf struct {
	reverse bool
	in, out []finder
	cols    *columns
	kinds   []byte // see columnKind
}

func (a *allOf) seek(p uint64) (uint64, bool, error) {
	agreed := 0
	for i := 0; ; i = (i + 1) % len(a.in) {
		q, ok, err := a.in[i].seek(p)
		if !ok || err != nil {
			return 0, false, err
		}
		if q != p {
			p, agreed = q, 0
		}
		if agreed++; agreed < len(a.in) {
			continue
		}
		yes, err := a.admits(p)
		if yes || err != nil {
			return p, yes, err
		}
		if p, ok = beyond(p, a.reverse); !ok {
			return 0, false, nil
		}
		agreed = 0
	}
}

// admits reports whether a place that is in all sets of in is one of those looked for.
func (a *allOf) admits(p uint64) (bool, error) {
	if len(a.kinds) > 0 {
		at, ok, err := a.cols.at(log.Offset(p))
		if !ok || err != nil {
			return false, err
		}
		for _, kind := range a.kinds {
			if at.kind != kind {
				return false, nil
			}
		}
	}
	for _, o := range a.out {
		q, ok, err := o.seek(p)
		if err != nil || ok && q == p {
			return false, err
		}
	}
	return true, nil
}

func (a *allOf) close() {
	for _, s := range slices.Concat(a.in, a.out) {
		s.close()
	}
}

// anyOf are the places that are in one of some sets at least.
type anyOf struct {
	reverse bool
	sets    []finder
	at      []uint64 // where each is
	ok      []bool   // it is somewhere
	begun   bool
}

func (a *anyOf) seek(p uint64) (best uint64, found bool, err error) {
	if !a.begun {
		a.at, a.ok = make([]uint64, len(a.sets)), make([]bool, len(a.sets))
	}
	for i, s := range a.sets {
		behind := a.reverse && a.at[i] > p || !a.reverse && a.at[i] < p
		if !a.begun || a.ok[i] && behind {
			if a.at[i], a.ok[i], err = s.seek(p); err != nil {
				return 0, false, err
			}
		}
		if a.ok[i] && (!found || a.reverse && a.at[i] > best || !a.reverse && a.at[i] < best) {
			best, found = a.at[i], true
		}
	}
	a.begun = true
	return best, found, nil
}

func (a *anyOf) close() {
	for _, s := range a.sets {
		s.close()
	}
}

// appendText appends a text to a term, so that no text's bytes are the beginning of another one's, and texts sort as they are.
func appendText(term []byte, text string) []byte {
	for i := 0; i < len(text); i++ {
		if term = append(term, text[i]); text[i] == 0 {
			term = append(term, 0xff)
		}
	}
	return append(term, 0, 1)
}

// cutText reads a text from the beginning of what follows in a term.
func cutText(b []byte) (text, rest []byte, ok bool) {
	for i := 0; ; {
		n := bytes.IndexByte(b[i:], 0)
		if n < 0 || i+n+1 >= len(b) {
			return nil, nil, false
		}
		text = append(text, b[i:i+n]...)
		i += n + 2
		if b[i-1] == 1 {
			return text, b[i:], true
		}
		text = append(text, 0)
	}
}
