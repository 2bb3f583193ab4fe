package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"charkha/identity"
	"charkha/log"
)

// messages is where messages are: by author, by type, by the time that they claim, posts by thread. A message's time is what
// its author claims, or when it arrived, whichever is earlier: a claim of the future does not keep a message on top.
//
//	T a number           the feed id of an author: authors have numbers, in the order in which they appear
//	T c place/64         columns: type, author, sequence and time of 64 places in the order of arrival, 16 bytes each
//	T m place/1024       the latest time of 1,024 places
//	T s ...              sets
//	T t time, place      flags, author, sequence; and of a post, which thread it is in
type messages struct {
	sets    setWriter
	term    []byte                 // used again
	pending map[uint64][]byte      // columns of the transaction, by place/64; the follower's
	fresh   []identity.ID          // authors of the transaction; the follower's
	added   map[identity.ID]uint32 // the same
	later   map[uint64]float64     // changes of latest; the same

	mu      sync.RWMutex
	numbers map[identity.ID]uint32
	ids     []identity.ID      // by number
	latest  map[uint64]float64 // the latest time in each block of places: 16 bytes for 1,024 messages

	cache columnCache
}

func newMessages() *messages {
	v := &messages{}
	v.clear()
	return v
}

func (*messages) name() string    { return "messages" }
func (*messages) version() uint32 { return 4 }
func (*messages) prefix() byte    { return 'T' }
func (*messages) kind() string    { return "" }

func (v *messages) clear() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.numbers, v.ids, v.latest = map[identity.ID]uint32{}, nil, map[uint64]float64{}
	v.cache.clear()
	v.sets.clear()
}

func (v *messages) load(txn *badger.Txn) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	err := rows(txn, []byte{v.prefix(), 'm'}, func(key, value []byte) error {
		if len(key) != 8 || len(value) != 8 {
			return errRow
		}
		v.latest[binary.BigEndian.Uint64(key)] = math.Float64frombits(binary.BigEndian.Uint64(value))
		return nil
	})
	if err != nil {
		return err
	}
	return rows(txn, []byte{v.prefix(), 'a'}, func(key, value []byte) error {
		if len(key) != 4 || len(value) != 32 || binary.BigEndian.Uint32(key) != uint32(len(v.ids)) {
			return errRow
		}
		id := identity.ID(value)
		v.numbers[id] = uint32(len(v.ids))
		v.ids = append(v.ids, id)
		return nil
	})
}

func (v *messages) begin() {
	v.sets.begin()
	v.pending, v.added, v.fresh = map[uint64][]byte{}, map[identity.ID]uint32{}, nil
	v.later = map[uint64]float64{}
}

// number is the number of an author, a new one if need be.
func (v *messages) number(txn *badger.Txn, id identity.ID) (uint32, error) {
	if n, ok := v.numbers[id]; ok { // only committed changes it, on this goroutine
		return n, nil
	}
	n, ok := v.added[id]
	if ok {
		return n, nil
	}
	n = uint32(len(v.ids) + len(v.fresh))
	if n >= authorsMost {
		return 0, fmt.Errorf("more than %d authors", authorsMost)
	}
	v.added[id] = n
	v.fresh = append(v.fresh, id)
	return n, txn.Set(binary.BigEndian.AppendUint32([]byte{v.prefix(), 'a'}, n), id[:])
}

func (v *messages) committed() {
	v.sets.committed()
	v.mu.Lock()
	defer v.mu.Unlock()
	maps.Copy(v.latest, v.later)
	for _, id := range v.fresh {
		v.numbers[id] = uint32(len(v.ids))
		v.ids = append(v.ids, id)
	}
	v.fresh, v.added = nil, nil
}

// author is the feed id of an author's number.
func (v *messages) author(n uint32) (identity.ID, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if int(n) >= len(v.ids) {
		return identity.ID{}, false
	}
	return v.ids[n], true
}

func (v *messages) numberOf(id identity.ID) (uint32, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	n, ok := v.numbers[id]
	return n, ok
}

// timeOf is a message's time, which is never negative: such floats sort like their bits. Claims before 1970 are all 0.
func timeOf(m *log.Message) float64 { return max(0, min(m.Timestamp(), m.Received())) }

// place is where a message is: what the columns say of it.
type place struct {
	at     log.Offset
	kind   byte // what columnKind says of its type, if its content is public
	author uint32
	seq    uint32
	time   float64
}

// authorsMost is how many authors there may be, because the kind stands in the first byte of their numbers.
const authorsMost = 1 << 24

// columnKinds are the common types. Their sets have a row for each thousand messages or so, and who leaps from one message to the next
// of somebody would read another row each time: the columns are read anyway.
var columnKinds = []string{"post", "vote", "contact", "about", "channel", "pub"}

// columnKind is what a column says of a type; 0: it is another one.
func columnKind(typ string) byte { return byte(slices.Index(columnKinds, typ) + 1) }

const (
	columnRows = 64
	columnSize = 16
	blockRows  = 1024
)

func columnKey(chunk uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{(*messages).prefix(nil), 'c'}, chunk)
}

func (p place) put(row []byte) {
	b := row[uint64(p.at)%columnRows*columnSize:]
	binary.BigEndian.PutUint32(b, p.author)
	b[0] = p.kind
	binary.BigEndian.PutUint32(b[4:], p.seq)
	binary.BigEndian.PutUint64(b[8:], math.Float64bits(p.time))
}

// placeIn reads a column; false: there is no message.
func placeIn(row []byte, at log.Offset) (place, bool) {
	b := row[uint64(at)%columnRows*columnSize:]
	p := place{at, b[0], binary.BigEndian.Uint32(b) % authorsMost, binary.BigEndian.Uint32(b[4:]), math.Float64frombits(binary.BigEndian.Uint64(b[8:]))}
	return p, p.seq != 0
}

// What a row of the messages by time says of a message.
const (
	isBoxed  = 1 << iota // encrypted
	isOpened             // and we could open it
	isPost               // of type post; opened, if it is boxed
	isReply              // a post in a thread that it did not begin
	isWhole              // begins a thread: it has neither root, branch nor fork
)

// row is a message in the order of their times.
type row struct {
	place
	flags byte
	root  identity.MsgID // of a reply
}

func timeKey(time float64, at log.Offset) []byte {
	key := binary.BigEndian.AppendUint64([]byte{(*messages).prefix(nil), 't'}, math.Float64bits(time))
	return binary.BigEndian.AppendUint64(key, uint64(at))
}

func (r *row) value() []byte {
	b := make([]byte, 0, 1+10+32)
	b = append(b, r.flags)
	b = binary.AppendUvarint(b, uint64(r.author))
	b = binary.AppendUvarint(b, uint64(r.seq))
	if r.flags&isReply != 0 {
		b = append(b, r.root[:]...)
	}
	return b
}

func parseTimeRow(key, value []byte) (r row, err error) {
	if len(key) != 2+8+8 || len(value) < 1 {
		return r, errRow
	}
	r.time = math.Float64frombits(binary.BigEndian.Uint64(key[2:]))
	r.at = log.Offset(binary.BigEndian.Uint64(key[10:]))
	r.flags, value = value[0], value[1:]
	for _, v := range []*uint32{&r.author, &r.seq} {
		x, n := binary.Uvarint(value)
		if n <= 0 || x > math.MaxUint32 {
			return r, errRow
		}
		*v, value = uint32(x), value[n:]
	}
	if r.flags&isReply != 0 {
		if len(value) != 32 {
			return r, errRow
		}
		r.root = identity.MsgID(value)
	}
	return r, nil
}

// rootOf is the message that a content answers, and the one that it forked from, each zero if it names none. whole: it names
// neither, nor a branch, and so begins a thread, as ssb-threads sees it.
func rootOf(content []byte) (root, fork identity.MsgID, whole bool) {
	whole = true
	top(content, func(key, value []byte) {
		to := &root
		switch string(key) {
		case "fork":
			to = &fork
		case "root":
		case "branch":
			to = nil
		default:
			return
		}
		whole = whole && !truthy(value)
		if text, ok := spelledText(value); ok && to != nil {
			if id, err := identity.ParseMsgID(text); err == nil {
				*to = id
			}
		}
	})
	return root, fork, whole
}

// The kinds of sets that messages keeps, behind the letters of whom their terms come from: public contents, or opened ones.
const (
	setEvery  = 'e'
	setAuthor = 'a'
	setType   = 't'
	setBoxed  = 'b'
	setRoot   = 'r' // posts whose root is a message
	setFork   = 'f' // posts whose fork is a message, and their root another
	setForked = 'x' // posts whose root is a message, and their fork another
)

const (
	publicSet = 'p'
	openedSet = 'o'
)

func messageSet(term []byte, opened bool, kind byte) []byte {
	return append(term, (*messages).prefix(nil), 's', namespace(opened), kind)
}

func namespace(opened bool) byte {
	if opened {
		return openedSet
	}
	return publicSet
}

// typeMost is how many bytes of a type are kept. Those of public messages have 52 characters at most, but opened contents say
// what they like.
const typeMost = 160

func typeSet(term []byte, opened bool, typ string) []byte {
	return appendText(messageSet(term, opened, setType), typ[:min(len(typ), typeMost)])
}

func (v *messages) add(txn *badger.Txn, m *message) error {
	author, err := v.number(txn, m.Author())
	if err != nil {
		return err
	}
	r := row{place: place{at: m.Offset(), author: author, seq: uint32(m.Sequence()), time: timeOf(&m.Message)}}
	if m.content != nil && !m.opened {
		r.kind = columnKind(m.kind)
	}
	at := uint64(m.Offset())
	put := func(opened bool, kind byte, rest ...byte) {
		v.term = append(messageSet(v.term[:0], opened, kind), rest...)
		v.sets.add(v.term, at)
	}
	put(false, setEvery)
	put(false, setAuthor, binary.BigEndian.AppendUint32(nil, author)...)
	if m.Private() {
		r.flags |= isBoxed
		put(false, setBoxed)
	}
	if m.opened {
		r.flags |= isOpened
		put(true, setEvery)
	}
	if m.content != nil {
		v.term = typeSet(v.term[:0], m.opened, m.kind)
		v.sets.add(v.term, at)
		if m.kind == "post" {
			r.flags |= isPost
			root, fork, whole := rootOf(m.content)
			if whole {
				r.flags |= isWhole
			}
			// ssb-threads counts it for both, and takes it to be in the thread of the fork.
			if r.root = fork; fork.IsZero() {
				r.root = root
			}
			if !r.root.IsZero() {
				r.flags |= isReply
			}
			if !root.IsZero() {
				put(m.opened, setRoot, root[:]...)
			}
			if !fork.IsZero() && fork != root {
				put(m.opened, setFork, fork[:]...)
				if !root.IsZero() {
					put(m.opened, setForked, root[:]...)
				}
			}
		}
	}
	column := v.pending[at/columnRows]
	if column == nil {
		column = make([]byte, columnRows*columnSize)
		item, err := txn.Get(columnKey(at / columnRows))
		if err == nil {
			err = item.Value(func(b []byte) error { copy(column, b); return nil })
		}
		if err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
			return err
		}
		v.pending[at/columnRows] = column
	}
	r.put(column)
	block := at / blockRows
	latest, ok := v.later[block]
	if !ok {
		latest, ok = v.latest[block] // only committed changes it, on this goroutine
	}
	if !ok || r.time > latest {
		v.later[block] = r.time
	}
	return txn.Set(timeKey(r.time, r.at), r.value())
}

func (v *messages) finish(txn *badger.Txn) error {
	for chunk, column := range v.pending {
		if err := txn.Set(columnKey(chunk), column); err != nil {
			return err
		}
	}
	for block, latest := range v.later {
		key := binary.BigEndian.AppendUint64([]byte{v.prefix(), 'm'}, block)
		if err := txn.Set(key, binary.BigEndian.AppendUint64(nil, math.Float64bits(latest))); err != nil {
			return err
		}
	}
	return v.sets.flush(txn)
}

const cacheRows = 16384

// columnCache keeps the columns that were read lately and that do not change any more: 16 MB, a million messages.
type columnCache struct {
	mu   sync.Mutex
	of   [cacheRows]uint64 // chunk+1
	rows [cacheRows][]byte
}

func (c *columnCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of, c.rows = [cacheRows]uint64{}, [cacheRows][]byte{}
}

func (c *columnCache) get(chunk uint64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := chunk % cacheRows; c.of[i] == chunk+1 {
		return c.rows[i]
	}
	return nil
}

func (c *columnCache) put(chunk uint64, column []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[chunk%cacheRows], c.rows[chunk%cacheRows] = chunk+1, column
}

// columns reads where messages are.
type columns struct {
	v     *messages
	txn   *badger.Txn
	whole uint64 // chunks below it do not change
	chunk uint64 // in hand, +1
	row   []byte
}

// at is where a message is; false: there is none.
func (c *columns) at(at log.Offset) (place, bool, error) {
	chunk := uint64(at) / columnRows
	if c.chunk != chunk+1 {
		column := c.v.cache.get(chunk)
		if column == nil {
			item, err := c.txn.Get(columnKey(chunk))
			if errors.Is(err, badger.ErrKeyNotFound) {
				return place{}, false, nil
			}
			if err == nil {
				column, err = item.ValueCopy(nil)
			}
			if err == nil && len(column) != columnRows*columnSize {
				err = errRow
			}
			if err != nil {
				return place{}, false, err
			}
			if chunk < c.whole {
				c.v.cache.put(chunk, column)
			}
		}
		c.chunk, c.row = chunk+1, column
	}
	p, ok := placeIn(c.row, at)
	return p, ok, nil
}

// message reads the message of a place; false: it is not there any more. A power cut may have taken it, and it may have come
// again at another place.
func (x *Index) message(p place) (m log.Message, ok bool, err error) {
	msgs, err := x.fetch(nil, []place{p})
	if err != nil {
		return m, false, err
	}
	return msgs[0], msgs[0].Sequence() != 0, nil
}

// fetchMost is how many messages a query reads from the log at once.
const fetchMost = 64

// fetch appends the messages of places, one for each: with the sequence 0 where there is none any more. When one cannot be read, only
// those before it are appended.
func (x *Index) fetch(dst []log.Message, places []place) ([]log.Message, error) {
	for len(places) > 0 {
		some := places[:min(len(places), fetchMost)]
		places = places[len(some):]
		var err error
		if dst, err = x.fetchSome(dst, some); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (x *Index) fetchSome(dst []log.Message, places []place) ([]log.Message, error) {
	var ask [fetchMost]log.Place
	var of [fetchMost]int // where each stands in dst
	n := 0
	x.shown.mu.Lock()
	for _, p := range places {
		m, ok := x.shown.of.Get(p.at)
		if !ok {
			if id, ok := x.messages.author(p.author); ok {
				ask[n], of[n] = log.Place{Author: id, Sequence: int64(p.seq), Offset: p.at}, len(dst)
				n++
			}
		}
		dst = append(dst, m)
	}
	x.shown.mu.Unlock()
	if n == 0 {
		return dst, nil
	}
	var room [fetchMost]log.Message
	found, err := x.o.Log.AtMany(room[:0], ask[:n])
	x.shown.mu.Lock()
	defer x.shown.mu.Unlock()
	for i, m := range found {
		dst[of[i]] = m
		x.shown.keep(m)
	}
	if err != nil {
		return dst[:of[len(found)]], fmt.Errorf("index: %w", err)
	}
	return dst, nil
}

// shownBytes is how many bytes of messages, of their values, are kept.
const shownBytes = 8 << 20

// shown keeps messages that were read lately: what is asked for is mostly asked for again. A message never changes, and a place is
// never that of another one.
type shown struct {
	mu    sync.Mutex
	of    *simplelru.LRU[log.Offset, log.Message]
	bytes int
	roots [rootsMost]log.Message // by id, those of threads
}

const rootsMost = 512

// root reads the message that began a thread. log.ErrNotFound: it is not here.
func (x *Index) root(id identity.MsgID) (m log.Message, err error) {
	slot := &x.shown.roots[binary.BigEndian.Uint16(id[:])%rootsMost]
	x.shown.mu.Lock()
	m = *slot
	x.shown.mu.Unlock()
	if m.Value() != nil && m.Key() == id {
		return m, nil
	}
	if m, err = x.o.Log.Get(id); err == nil {
		x.shown.mu.Lock()
		defer x.shown.mu.Unlock()
		*slot = m
	}
	return m, err
}

func (s *shown) init() {
	s.of, _ = simplelru.NewLRU(math.MaxInt, func(_ log.Offset, m log.Message) { s.bytes -= len(m.Value()) })
}

// keep keeps a message that is not kept yet, for those that were used least lately. mu is held.
func (s *shown) keep(m log.Message) {
	if m.Sequence() == 0 || s.of.Contains(m.Offset()) {
		return
	}
	s.of.Add(m.Offset(), m)
	for s.bytes += len(m.Value()); s.bytes > shownBytes; {
		s.of.RemoveOldest()
	}
}

// rowsChunk is how many rows are read in one transaction: an open one keeps old files alive.
const rowsChunk = 200

// byTime yields the rows of messages by time, from one behind a key on; those of prefix only. It holds no transaction while
// it yields.
func (x *Index) byTime(behind []byte, reverse bool) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		prefix := []byte{x.messages.prefix(), 't'}
		from := behind
		chunk := make([]row, 0, rowsChunk)
		for size := 32; ; size = min(2*size, rowsChunk) {
			chunk = chunk[:0]
			err := x.look(func(txn *badger.Txn) error {
				it := txn.NewIterator(badger.IteratorOptions{Reverse: reverse, Prefix: prefix})
				defer it.Close()
				for it.Seek(from); it.Valid() && len(chunk) < size; it.Next() {
					key := it.Item().Key()
					if string(key) == string(from) {
						continue // the last of the chunk before
					}
					err := it.Item().Value(func(value []byte) error {
						r, err := parseTimeRow(key, value)
						chunk = append(chunk, r)
						return err
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				yield(row{}, err)
				return
			}
			for _, r := range chunk {
				if !yield(r, nil) {
					return
				}
			}
			if len(chunk) < size {
				return
			}
			last := chunk[len(chunk)-1]
			from = timeKey(last.time, last.at)
		}
	}
}

// latest and earliest are behind no row, seen in a direction.
func allTimes(reverse bool) []byte {
	if reverse {
		return []byte{(*messages).prefix(nil), 't' + 1}
	}
	return []byte{(*messages).prefix(nil), 't'}
}

// Timeline yields the public posts of the feeds in range, the newest first, at most limit of them; 0 is no limit. Range and
// blocks are those of when a post is yielded; what arrives meanwhile is in the next call's. An error ends it.
func (x *Index) Timeline(limit int) iter.Seq2[log.Message, error] {
	return func(yield func(log.Message, error) bool) {
		left := limit
		for r, err := range x.byTime(allTimes(true), true) {
			if err != nil {
				yield(log.Message{}, err)
				return
			}
			if r.flags&(isPost|isBoxed) != isPost {
				continue
			}
			id, ok := x.messages.author(r.author)
			if !ok || !x.Wanted(id) {
				continue
			}
			m, ok, err := x.message(r.place)
			if err != nil {
				yield(log.Message{}, err)
				return
			}
			if !ok {
				continue
			}
			if !yield(m, nil) {
				return
			}
			if left--; left == 0 {
				return
			}
		}
	}
}
