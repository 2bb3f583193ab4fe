package index

import (
	"cmp"
	"context"
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"sort"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
	"charkha/log"
)

// Set is a set of messages. The zero value is all messages. Sets that look into contents see public ones only: see Private.
type Set struct {
	kind    byte
	text    string
	author  identity.ID
	rels    []string
	of      []Set
	private byte // 0: public contents, 1: opened ones, 2: both
}

// By is what an author wrote.
func By(author identity.ID) Set { return Set{kind: 'a', author: author} }

// OfType is the messages of a type.
func OfType(typ string) Set { return Set{kind: 't', text: typ} }

// Boxed is what is encrypted, whether we can open it or not.
func Boxed() Set { return Set{kind: 'b'} }

// Opened is what is encrypted and could be opened: the private inbox.
func Opened() Set { return Set{kind: 'e', private: 1} }

// Refers is the messages that refer to a message, feed, blob or hashtag, as ssb-backlinks sees it: in a field of any depth. rels
// are the names of the outermost fields to look at; none: all of them, the first 200.
func Refers(dest string, rels ...string) Set { return Set{kind: 'l', text: dest, rels: rels} }

// Links is what Refers is, as far as ssb-msgs' indexLinks sees it, and with it createLinks: {rel: REF}, {rel: {link: REF}}, or an array of
// these.
func Links(dest string, rels ...string) Set { return Set{kind: 'L', text: dest, rels: rels} }

// Replies is the posts that name a message as their root.
func Replies(root identity.MsgID) Set { return Set{kind: 'r', text: string(root[:])} }

// Tagged is what has a hashtag in its mentions, or is in that channel. The "#" may be left out.
func Tagged(hashtag string) Set { return Set{kind: '#', text: hashtag} }

// Word is what has all words of a text in its own. Of the last one the beginning is enough, if prefix is set.
func Word(text string, prefix bool) Set {
	words := Words(text)
	if len(words) == 0 {
		return None()
	}
	var all []Set
	for i, w := range words[:min(len(words), queryWordsMost)] {
		kind := byte('w')
		if prefix && i == len(words)-1 {
			kind = 'p'
		}
		all = append(all, Set{kind: kind, text: w})
	}
	return And(all...)
}

const (
	queryWordsMost = 20  // words of a query that count
	prefixMost     = 200 // words that a prefix stands for: the first in order
)

// None is no message.
func None() Set { return Set{kind: '|'} }

// And is what is in all of some sets.
func And(sets ...Set) Set { return Set{kind: '&', of: sets} }

// Or is what is in at least one of some sets.
func Or(sets ...Set) Set { return Set{kind: '|', of: sets} }

// Not is what is not in a set.
func Not(s Set) Set { return Set{kind: '!', of: []Set{s}} }

// Private makes a set look into opened contents instead of public ones; with both, into all of them.
func (s Set) Private(both bool) Set {
	s.private = 1
	if both {
		s.private = 2
	}
	of := make([]Set, len(s.of))
	for i := range s.of {
		of[i] = s.of[i].Private(both)
	}
	s.of = of
	return s
}

// find opens a set for reading in one direction.
func (x *Index) find(txn *badger.Txn, s Set, reverse bool) (finder, error) {
	switch s.kind {
	case '&':
		return x.findAll(txn, s.of, reverse)
	case '!':
		return x.findAll(txn, []Set{s}, reverse)
	case '|':
		return x.findAny(txn, s.of, reverse)
	}
	return openAny(txn, x.terms(txn, s), reverse)
}

// terms are the sets on disk that make up a set that is not made of others.
func (x *Index) terms(txn *badger.Txn, s Set) (terms [][]byte) {
	for _, opened := range [][]bool{{false}, {true}, {false, true}}[s.private] {
		switch s.kind {
		case 'a':
			if n, ok := x.messages.numberOf(s.author); ok {
				return [][]byte{binary.BigEndian.AppendUint32(messageSet(nil, false, setAuthor), n)}
			}
			return nil
		case 'b':
			return [][]byte{messageSet(nil, false, setBoxed)}
		case 0:
			return [][]byte{messageSet(nil, false, setEvery)}
		case 'e':
			terms = append(terms, messageSet(nil, opened, setEvery))
		case 't':
			terms = append(terms, typeSet(nil, opened, s.text))
		case 'r':
			terms = append(terms, append(messageSet(nil, opened, setRoot), s.text...))
		case 'l':
			terms = append(terms, linkTerms(txn, opened, s.text, []byte{linkDeep, linkObject, linkPlain}, s.rels)...)
		case 'L':
			terms = append(terms, linkTerms(txn, opened, s.text, []byte{linkObject, linkPlain}, s.rels)...)
		case '#':
			base := appendHashtag([]byte{x.links.prefix(), 's', namespace(opened)}, s.text)
			if len(base) == 3 {
				continue
			}
			base = slices.Clip(base)
			terms = append(terms, appendText(append(base, linkPlain), "channel"), appendText(append(base, linkObject), "mentions"))
		case 'w':
			terms = append(terms, wordSet(opened, s.text))
		case 'p':
			begin := []byte{x.words.prefix(), 's', namespace(opened)}
			terms = append(terms, termsFrom(txn, begin, s.text, prefixMost)...)
		}
	}
	return terms
}

func openAny(txn *badger.Txn, terms [][]byte, reverse bool) (finder, error) {
	if len(terms) == 1 {
		return openSet(txn, terms[0], reverse)
	}
	var all []finder
	for _, term := range terms {
		f, err := openSet(txn, term, reverse)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		if _, none := f.(noPlaces); !none {
			all = append(all, f)
		}
	}
	switch len(all) {
	case 0:
		return noPlaces{}, nil
	case 1:
		return all[0], nil
	}
	return &anyOf{reverse: reverse, sets: all}, nil
}

func closeAll(all []finder) {
	for _, f := range all {
		f.close()
	}
}

func (x *Index) findAny(txn *badger.Txn, of []Set, reverse bool) (finder, error) {
	var all []finder
	for _, s := range of {
		f, err := x.find(txn, s, reverse)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, f)
	}
	switch len(all) {
	case 0:
		return noPlaces{}, nil
	case 1:
		return all[0], nil
	}
	return &anyOf{reverse: reverse, sets: all}, nil
}

func (x *Index) findAll(txn *badger.Txn, of []Set, reverse bool) (finder, error) {
	a := &allOf{reverse: reverse}
	type sized struct {
		s    Set
		size uint64
	}
	var in []sized
	for _, s := range of {
		if s.kind == '!' {
			f, err := x.find(txn, s.of[0], reverse)
			if err != nil {
				a.close()
				return nil, err
			}
			a.out = append(a.out, f)
			continue
		}
		size, err := x.sizeAtMost(txn, s)
		if err != nil {
			a.close()
			return nil, err
		}
		in = append(in, sized{s, size})
	}
	if len(in) == 0 {
		in = append(in, sized{})
	}
	// The smallest leads.
	slices.SortStableFunc(in, func(a, b sized) int { return cmp.Compare(a.size, b.size) })
	for i, s := range in {
		if kind := columnKind(s.s.text); i > 0 && s.s.kind == 't' && s.s.private == 0 && kind != 0 {
			if a.cols == nil {
				a.cols = x.columns(txn)
			}
			a.kinds = append(a.kinds, kind)
			continue
		}
		f, err := x.find(txn, s.s, reverse)
		if err != nil {
			a.close()
			return nil, err
		}
		a.in = append(a.in, f)
	}
	if len(a.in) == 1 && len(a.out) == 0 && len(a.kinds) == 0 {
		return a.in[0], nil
	}
	return a, nil
}

// sizeAtMost is how many messages a set can have at most.
func (x *Index) sizeAtMost(txn *badger.Txn, s Set) (size uint64, err error) {
	switch s.kind {
	case '&':
		size = math.MaxUint64
		for _, s := range s.of {
			n, err := x.sizeAtMost(txn, s)
			if err != nil {
				return 0, err
			}
			size = min(size, n)
		}
		return size, nil
	case '|':
		for _, s := range s.of {
			n, err := x.sizeAtMost(txn, s)
			if err != nil {
				return 0, err
			}
			size = max(size, size+n)
		}
		return size, nil
	case '!':
		return math.MaxUint64, nil
	}
	for _, term := range x.terms(txn, s) {
		n, err := sizeOf(txn, term)
		if err != nil {
			return 0, err
		}
		size += n
	}
	return size, nil
}

// Count is how many messages are in a set at most: exactly so many if it is not made of others, and the log has lost none.
func (x *Index) Count(s Set) (n uint64, err error) {
	err = x.look(func(txn *badger.Txn) error {
		n, err = x.sizeAtMost(txn, s)
		return err
	})
	return n, err
}

// Point is where a message stands in the order of the times that are claimed.
type Point struct {
	Time  float64    // what is claimed, or when it arrived if that is earlier
	Place log.Offset // decides between equal times
}

// PointOf is where a message stands.
func PointOf(m *log.Message) Point { return Point{timeOf(m), m.Offset()} }

func (p Point) compare(q Point) int {
	return cmp.Or(cmp.Compare(p.Time, q.Time), cmp.Compare(p.Place, q.Place))
}

// Query asks for messages. The zero value asks for all that are there, in the order in which they arrived.
type Query struct {
	Where   Set
	Claimed bool // in the order of the times that are claimed, else of arrival
	Reverse bool // the newest first
	Limit   int  // most messages, 0 for all

	// From and To bound the places, To not included; 0 is no bound. A query that goes on where another one ended, gives the
	// place of the last message: so nothing comes twice, and nothing that was there at first is left out, whatever arrives.
	From, To log.Offset
	// Since and Until bound the times, both included: those that are claimed with Claimed, else those of arrival. 0 is no
	// bound. They bound what is there, and not what comes.
	Since, Until float64
	// Behind leaves out what stands before a point, and the point: to go on with Claimed where another query ended.
	Behind *Point

	// Live waits for what comes, after what is there, in the order of arrival, until ctx ends. Nothing is missed and nothing
	// comes twice. New leaves out what is there.
	Live, New bool
	// Caught is called once in a live query, when all that was there has been yielded.
	Caught func() error

	// Unblocked leaves out whom we block, as of when a message is yielded.
	Unblocked bool
}

// Query yields messages. Without Live it ends where the index was when it began. An error ends it; ctx's, when ctx ends.
func (x *Index) Query(ctx context.Context, q Query) iter.Seq2[log.Message, error] {
	return func(yield func(log.Message, error) bool) {
		left := q.Limit
		if left <= 0 {
			left = math.MaxInt
		}
		stop := false
		var msgs []log.Message
		give := func(places []place) (err error) {
			for len(places) > 0 {
				// A slow reader holds no more than these.
				some := places[:min(len(places), left, fetchMost)]
				places = places[len(some):]
				msgs, err = x.fetch(msgs[:0], some)
				for i := range msgs {
					if err := ctx.Err(); err != nil {
						return err
					}
					if msgs[i].Sequence() == 0 || q.Unblocked && x.isBlocked(some[i].author) {
						continue
					}
					left--
					if stop = !yield(msgs[i], nil) || left == 0; stop {
						return nil
					}
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
		now := x.queryable()
		until := now
		if q.To > 0 {
			until = min(until, q.To)
		}
		var err error
		if !q.New {
			if q.Claimed {
				err = x.claimed(q, until, give, &stop)
			} else {
				err = x.arrived(q, until, give, &stop)
			}
		}
		if err == nil && !stop && q.Live && q.Caught != nil {
			err = q.Caught()
		}
		// What comes: the same loop over the store as before, from where it ended.
		for err == nil && !stop && q.Live && (q.To == 0 || now < q.To) {
			var next log.Offset
			if next, err = x.waitQueryable(ctx, now); err != nil {
				break
			}
			to := next
			if q.To > 0 {
				to = min(to, q.To)
			}
			err = x.between(q.Where, max(now, q.From), to, false, give, &stop)
			now = next
		}
		if err != nil && !stop {
			yield(log.Message{}, err)
		}
	}
}

// isBlocked reports whether we block an author.
func (x *Index) isBlocked(author uint32) bool {
	id, ok := x.messages.author(author)
	return ok && x.Blocks(x.o.Self, id)
}

// queryable is the place up to which the views that queries read have seen everything.
func (x *Index) queryable() log.Offset {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.leastQueryable()
}

func (x *Index) leastQueryable() log.Offset {
	at := log.Offset(math.MaxUint64)
	for _, f := range x.views {
		switch f.view {
		case x.messages, x.links, x.words:
			at = min(at, f.cursor)
		}
	}
	return at
}

// waitQueryable waits until there is more to query than up to a place.
func (x *Index) waitQueryable(ctx context.Context, at log.Offset) (log.Offset, error) {
	for {
		x.mu.Lock()
		now, moved := x.leastQueryable(), x.moved
		x.mu.Unlock()
		if now > at {
			return now, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return at, ctx.Err()
		}
	}
}

// arrived gives what is there, in the order of arrival.
func (x *Index) arrived(q Query, until log.Offset, give func([]place) error, stop *bool) error {
	from := q.From
	if q.Since > 0 {
		at, err := x.placeAt(q.Since, until)
		if err != nil {
			return err
		}
		from = max(from, at)
	}
	if q.Until > 0 {
		at, err := x.placeAt(math.Nextafter(q.Until, math.Inf(1)), until)
		if err != nil {
			return err
		}
		until = min(until, at)
	}
	if q.Behind != nil {
		if q.Reverse {
			until = min(until, q.Behind.Place)
		} else {
			from = max(from, q.Behind.Place+1)
		}
	}
	return x.between(q.Where, from, until, q.Reverse, give, stop)
}

// placeAt is the first place below end of a message that arrived at a time or later: end, if there is none.
func (x *Index) placeAt(received float64, end log.Offset) (log.Offset, error) {
	var failed error
	n := sort.Search(int(end), func(i int) bool {
		for m, err := range x.o.Log.Arrivals(log.Offset(i), false) {
			if err != nil {
				failed = err
				return true
			}
			return m.Received() >= received
		}
		return true
	})
	return log.Offset(n), failed
}

// between gives the messages of a set in from..to-1, in the order of arrival. It holds no transaction while it gives.
func (x *Index) between(where Set, from, to log.Offset, reverse bool, give func([]place) error, stop *bool) error {
	found := make([]place, 0, 64)
	for size := 64; from < to && !*stop; size = min(2*size, 1024) {
		found = found[:0]
		err := x.look(func(txn *badger.Txn) error {
			f, err := x.find(txn, where, reverse)
			if err != nil {
				return err
			}
			defer f.close()
			cols := x.columns(txn)
			at := uint64(from)
			if reverse {
				at = uint64(to) - 1
			}
			for {
				p, ok, err := f.seek(at)
				if err != nil {
					return err
				}
				if !ok || p < uint64(from) || p >= uint64(to) {
					from = to
					return nil
				}
				pl, known, err := cols.at(log.Offset(p))
				if err != nil {
					return err
				}
				if known {
					found = append(found, pl)
				}
				if at, ok = beyond(p, reverse); !ok {
					from = to
					return nil
				}
				if len(found) == size {
					if reverse {
						to = log.Offset(p)
					} else {
						from = log.Offset(p) + 1
					}
					return nil
				}
			}
		})
		if err != nil {
			return err
		}
		if err := give(found); err != nil || *stop {
			return err
		}
	}
	return nil
}

// columns reads where messages are. Whole chunks are those of the transaction: the cursor may have moved since it began, and a chunk
// that it made whole would be kept without its last messages.
func (x *Index) columns(txn *badger.Txn) *columns {
	c := &columns{v: x.messages, txn: txn}
	if item, err := txn.Get([]byte{cursorByte, x.messages.prefix()}); err == nil {
		_ = item.Value(func(b []byte) error {
			if at, ok := parseCursor(b); ok {
				c.whole = uint64(at.at) / columnRows
			}
			return nil
		})
	}
	return c
}

// gatherMost is how many messages are put in order in memory, at 32 bytes each. For larger sets, all messages are gone through
// in order.
const gatherMost = 100_000

// claimed gives what is there, in the order of the times that are claimed.
func (x *Index) claimed(q Query, until log.Offset, give func([]place) error, stop *bool) error {
	behind := q.Behind
	in := func(p place) bool {
		if p.at < q.From || p.at >= until || q.Since > 0 && p.time < q.Since || q.Until > 0 && p.time > q.Until {
			return false
		}
		if behind == nil {
			return true
		}
		c := Point{p.time, p.at}.compare(*behind)
		return q.Reverse && c < 0 || !q.Reverse && c > 0
	}
	for k := q.Limit; q.Reverse && q.Limit > 0 && q.Where.kind != 0; k *= 2 {
		newest, whole, err := x.newest(q, in, until, k)
		if err != nil {
			return err
		}
		if err := give(newest); err != nil || *stop {
			return err
		}
		if len(newest) > 0 {
			last := newest[len(newest)-1]
			behind = &Point{last.time, last.at}
		}
		if whole && len(newest) < k {
			return nil
		}
		if !whole {
			q.Behind = behind
			break
		}
	}
	var size uint64
	var all []place
	limit := uint64(until)
	if q.Limit > 0 {
		limit = min(limit, uint64(q.Limit))
	}
	gathered := false
	err := x.look(func(txn *badger.Txn) (err error) {
		if size, err = x.sizeAtMost(txn, q.Where); err != nil {
			return err
		}
		// Of a set of n out of N messages, limit are found among limit*N/n by time: is that more than all of it?
		if size > gatherMost || q.Where.kind == 0 || size > 0 && limit*uint64(until)/size < size {
			return nil
		}
		gathered = true
		f, err := x.find(txn, q.Where, false)
		if err != nil {
			return err
		}
		defer f.close()
		cols := x.columns(txn)
		for at := uint64(q.From); ; {
			p, ok, err := f.seek(at)
			if err != nil || !ok || p >= uint64(until) {
				return err
			}
			pl, known, err := cols.at(log.Offset(p))
			if err != nil {
				return err
			}
			if known && in(pl) {
				all = append(all, pl)
			}
			if at, ok = beyond(p, false); !ok {
				return nil
			}
		}
	})
	if err != nil {
		return err
	}
	if gathered {
		slices.SortFunc(all, func(a, b place) int { return Point{a.time, a.at}.compare(Point{b.time, b.at}) })
		if q.Reverse {
			slices.Reverse(all)
		}
		return give(all)
	}
	return x.walkTimes(q, in, give, stop)
}

// blocksMost is how many blocks newest looks into.
const blocksMost = 24

// newest finds the k newest messages of a set by their times, in order: it looks first where the latest times are. Most messages
// arrive in about the order in which they were written, so that it has not to look far. whole: it had not, and these are
// the newest; fewer than k are all.
func (x *Index) newest(q Query, in func(place) bool, until log.Offset, k int) (all []place, whole bool, err error) {
	type block struct {
		n      uint64
		latest float64
	}
	later := func(a, b block) int { return cmp.Or(cmp.Compare(b.latest, a.latest), cmp.Compare(b.n, a.n)) }
	blocks := make([]block, 0, blocksMost+2) // the latest, and how many there are
	n := 0
	x.messages.mu.RLock()
	for at, latest := range x.messages.latest {
		if at*blockRows >= uint64(until) || (at+1)*blockRows <= uint64(q.From) || latest < q.Since {
			continue
		}
		n++
		b := block{at, latest}
		if i, _ := slices.BinarySearchFunc(blocks, b, later); i <= blocksMost {
			blocks = slices.Insert(blocks, i, b)
			blocks = blocks[:min(len(blocks), blocksMost+1)]
		}
	}
	x.messages.mu.RUnlock()
	err = x.look(func(txn *badger.Txn) error {
		// Are they to be expected in so few blocks?
		size, err := x.sizeAtMost(txn, q.Where)
		if err != nil {
			return err
		}
		if n > blocksMost && size < uint64(k*n/blocksMost) {
			if whole = size <= gatherMost; whole {
				all, err = x.newestOfFew(txn, q, in, until, k)
			}
			return err
		}
		cols := x.columns(txn)
		// One block after the other would be fewest, and a set costs as much to open as a block to read: so always twice as many.
		for i, size := 0, 1; i < len(blocks); size *= 2 {
			slices.SortFunc(all, newer)
			if all = all[:min(k, len(all))]; len(all) == k && all[k-1].time > blocks[i].latest {
				whole = true
				return nil
			}
			if i == blocksMost {
				return nil
			}
			some := blocks[i:min(i+size, blocksMost, len(blocks))]
			i += len(some)
			slices.SortFunc(some, func(a, b block) int { return cmp.Compare(b.n, a.n) })
			f, err := x.find(txn, q.Where, true)
			if err != nil {
				return err
			}
			p, ok := uint64(math.MaxUint64), true
			for _, b := range some {
				for from, to := b.n*blockRows, min((b.n+1)*blockRows, uint64(until)); ok; {
					if p >= to {
						p, ok, err = f.seek(to - 1)
					}
					if !ok || p < from || err != nil {
						break
					}
					var pl place
					var known bool
					if pl, known, err = cols.at(log.Offset(p)); err != nil {
						break
					}
					if known && in(pl) {
						all = append(all, pl)
					}
					if to = p; to == from {
						break
					}
				}
				if err != nil {
					f.close()
					return err
				}
			}
			f.close()
		}
		slices.SortFunc(all, newer)
		all, whole = all[:min(k, len(all))], true
		return nil
	})
	if err != nil || !whole {
		return nil, false, err
	}
	return all, true, nil
}

// newer puts places in the order of their times, the newest first.
func newer(a, b place) int { return Point{b.time, b.at}.compare(Point{a.time, a.at}) }

// newestOfFew finds the k newest messages of a small set by their times, in order: it goes back in the order of arrival, until all
// that arrived before is older.
func (x *Index) newestOfFew(txn *badger.Txn, q Query, in func(place) bool, until log.Offset, k int) (all []place, err error) {
	before := make([]float64, uint64(until)/blockRows+1) // by block: the latest time in it and those before it
	x.messages.mu.RLock()
	for at, latest := range x.messages.latest {
		if at < uint64(len(before)) {
			before[at] = latest
		}
	}
	x.messages.mu.RUnlock()
	for at := 1; at < len(before); at++ {
		before[at] = max(before[at], before[at-1])
	}
	f, err := x.find(txn, q.Where, true)
	if err != nil {
		return nil, err
	}
	defer f.close()
	cols := x.columns(txn)
	for at, ok := uint64(until)-1, until > 0; ok; {
		p, found, err := f.seek(at)
		if err != nil {
			return nil, err
		}
		if !found || p < uint64(q.From) {
			break
		}
		if len(all) >= 2*k {
			slices.SortFunc(all, newer)
			if all = all[:k]; all[k-1].time > before[p/blockRows] {
				break
			}
		}
		pl, known, err := cols.at(log.Offset(p))
		if err != nil {
			return nil, err
		}
		if known && in(pl) {
			all = append(all, pl)
		}
		at, ok = beyond(p, true)
	}
	slices.SortFunc(all, newer)
	return all[:min(k, len(all))], nil
}

// walkTimes gives the messages of a large set in the order of their times: it goes through all messages in that order, and asks
// of some hundred at a time which are in the set.
func (x *Index) walkTimes(q Query, in func(place) bool, give func([]place) error, stop *bool) error {
	var chunk []place
	flush := func() error {
		keep := make(map[log.Offset]bool, len(chunk))
		if q.Where.kind != 0 {
			order := make([]log.Offset, len(chunk))
			for i, p := range chunk {
				order[i] = p.at
			}
			slices.Sort(order)
			slices.Reverse(order)
			err := x.look(func(txn *badger.Txn) error {
				f, err := x.find(txn, q.Where, true)
				if err != nil {
					return err
				}
				defer f.close()
				for _, at := range order {
					p, ok, err := f.seek(uint64(at))
					if err != nil || !ok {
						return err
					}
					keep[at] = p == uint64(at)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		if q.Where.kind != 0 {
			chunk = slices.DeleteFunc(chunk, func(p place) bool { return !keep[p.at] })
		}
		err := give(chunk)
		chunk = chunk[:0]
		return err
	}
	from := allTimes(q.Reverse)
	switch {
	case q.Behind != nil:
		from = timeKey(max(0, q.Behind.Time), q.Behind.Place)
	case q.Reverse && q.Until > 0:
		from = timeKey(q.Until, math.MaxUint64)
	case !q.Reverse && q.Since > 0:
		from = timeKey(q.Since, 0)[:2+8] // before all rows of that time
	}
	size := 64
	for r, err := range x.byTime(from, q.Reverse) {
		if err != nil {
			return err
		}
		if q.Reverse && q.Since > 0 && r.time < q.Since || !q.Reverse && q.Until > 0 && r.time > q.Until {
			break
		}
		if !in(r.place) {
			continue
		}
		if chunk = append(chunk, r.place); len(chunk) < size {
			continue
		}
		if err := flush(); err != nil || *stop {
			return err
		}
		size = min(2*size, 1024)
	}
	return flush()
}

// termsFrom lists the terms behind a beginning that continue a text, at most n.
func termsFrom(txn *badger.Txn, begin []byte, text string, n int) [][]byte {
	prefix := append([]byte(nil), begin...)
	for i := 0; i < len(text); i++ {
		if prefix = append(prefix, text[i]); text[i] == 0 {
			prefix = append(prefix, 0xff)
		}
	}
	return termsWith(txn, prefix, n)
}

// ViewState says how far a view is.
type ViewState struct {
	Name string
	At   log.Offset // the first place that is not in it
}

// Views says how far each view is.
func (x *Index) Views() (all []ViewState) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range x.views {
		all = append(all, ViewState{f.name(), f.cursor})
	}
	return all
}
