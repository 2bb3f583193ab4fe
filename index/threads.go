package index

import (
	"encoding/json"
	"errors"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
	"charkha/log"
)

// Thread is a message that began one, how many answers it has, and where the latest stands. Posts of people whom we block do not
// count.
type Thread struct {
	Root    log.Message
	Replies int   // posts that name the root as theirs, or as what they forked from
	Latest  Point // of the posts, the root being one; those that forked to elsewhere do not count here
}

// ThreadQuery says which threads are asked for.
type ThreadQuery struct {
	Private bool                      // of opened posts, else of public ones
	Only    func(m *log.Message) bool // of the root; nil: all
	Where   Set                       // at least one post of the thread is in it; the zero value: all. With Private, see Set.Private
	Behind  *Point                    // to go on: the Latest of the last thread
	Limit   int                       // most threads, 0 for all
}

// Threads yields threads of posts, that with the newest post first, as ssb-threads does (npm, publicSummary with type post): those
// of which the root is here, a post, and neither root, branch nor fork itself; and not of somebody whom we block.
func (x *Index) Threads(q ThreadQuery) iter.Seq2[Thread, error] {
	return func(yield func(Thread, error) bool) {
		left := q.Limit
		if left <= 0 {
			left = math.MaxInt
		}
		seen := map[identity.MsgID]bool{}
		blocking := x.blocking()
		want := byte(isPost)
		if q.Private {
			want |= isBoxed | isOpened
		}
		give := func(r row) (more bool) {
			if blocking && x.isBlocked(r.author) {
				return true
			}
			t, ok, err := x.threadOf(r, q, seen, blocking)
			if err != nil {
				yield(Thread{}, err)
				return false
			}
			if !ok {
				return true
			}
			left--
			return yield(t, nil) && left > 0
		}
		if q.Where.kind != 0 {
			x.threadsIn(q, want, give, yield)
			return
		}
		from := allTimes(true)
		if q.Behind != nil {
			from = timeKey(max(0, q.Behind.Time), q.Behind.Place)
		}
		for r, err := range x.byTime(from, true) {
			if err != nil {
				yield(Thread{}, err)
				return
			}
			if r.flags&(isPost|isBoxed|isOpened) == want && !give(r) {
				return
			}
		}
	}
}

// threadsIn finds threads by the messages of a set.
func (x *Index) threadsIn(q ThreadQuery, want byte, give func(row) bool, yield func(Thread, error) bool) {
	until, stop := x.queryable(), false
	err := x.claimed(Query{Where: And(q.Where, typedPost(q.Private)), Reverse: true, Behind: q.Behind, Limit: q.Limit}, until, func(places []place) error {
		for some := range slices.Chunk(places, fetchMost) {
			rows := make([]row, 0, len(some))
			err := x.look(func(txn *badger.Txn) error {
				for _, p := range some {
					item, err := txn.Get(timeKey(p.time, p.at))
					if errors.Is(err, badger.ErrKeyNotFound) {
						continue
					}
					if err != nil {
						return err
					}
					if err := item.Value(func(value []byte) error {
						r, err := parseTimeRow(item.Key(), value)
						rows = append(rows, r)
						return err
					}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			for _, r := range rows {
				if r.flags&(isPost|isBoxed|isOpened) != want {
					continue
				}
				if stop = !give(r); stop {
					return nil
				}
			}
		}
		return nil
	}, &stop)
	if err != nil {
		yield(Thread{}, err)
	}
}

func typedPost(private bool) Set {
	s := OfType("post")
	if private {
		s = s.Private(false)
	}
	return s
}

// blocking reports whether we block anybody.
func (x *Index) blocking() bool {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, e := range c.graph.out[0] {
		if e == blocks {
			return true
		}
	}
	return false
}

// threadOf makes the thread that a post is in, if it was not seen.
func (x *Index) threadOf(r row, q ThreadQuery, seen map[identity.MsgID]bool, blocking bool) (t Thread, ok bool, err error) {
	t.Latest = Point{r.time, r.at}
	if r.flags&isReply != 0 {
		if seen[r.root] {
			return t, false, nil
		}
		seen[r.root] = true
		t.Root, err = x.root(r.root)
		if errors.Is(err, log.ErrNotFound) {
			return t, false, nil
		}
	} else {
		if r.flags&isWhole == 0 {
			return t, false, nil
		}
		t.Root, ok, err = x.message(r.place)
		if !ok || err != nil || seen[t.Root.Key()] {
			return t, false, err
		}
		seen[t.Root.Key()] = true
	}
	if err != nil {
		return t, false, err
	}
	root := x.read(t.Root)
	if root.content == nil || root.opened != q.Private || root.kind != "post" || x.Blocks(x.o.Self, root.Author()) {
		return t, false, nil
	}
	if _, _, whole := rootOf(root.content); !whole || q.Only != nil && !q.Only(&t.Root) {
		return t, false, nil
	}
	err = x.look(func(txn *badger.Txn) error {
		key := t.Root.Key()
		of := func(kind byte) []byte { return append(messageSet(nil, q.Private, kind), key[:]...) }
		if !blocking && q.Where.kind == 0 && q.Behind == nil {
			roots, err := sizeOf(txn, of(setRoot))
			if err != nil {
				return err
			}
			forks, err := sizeOf(txn, of(setFork))
			t.Replies = int(roots + forks)
			return err
		}
		// Without Where and Behind this post is the latest: it comes first.
		exact := q.Where.kind != 0 || q.Behind != nil
		forked := map[log.Offset]bool{}
		cols := x.columns(txn)
		if exact {
			t.Latest = PointOf(&t.Root)
			err = eachPlace(cols, of(setForked), func(p place) { forked[p.at] = true })
		}
		for _, kind := range []byte{setRoot, setFork} {
			if err == nil {
				err = eachPlace(cols, of(kind), func(p place) {
					if x.isBlocked(p.author) {
						return
					}
					t.Replies++
					if at := (Point{p.time, p.at}); exact && (kind == setFork || !forked[p.at]) && at.compare(t.Latest) > 0 {
						t.Latest = at
					}
				})
			}
		}
		return err
	})
	if q.Behind != nil && t.Latest.compare(*q.Behind) >= 0 {
		return t, false, err // it stands before
	}
	return t, err == nil, err
}

// eachPlace calls do with the places of a set, in the order of arrival.
func eachPlace(cols *columns, term []byte, do func(p place)) error {
	f, err := openSet(cols.txn, term, false)
	if err != nil {
		return err
	}
	defer f.close()
	for at, ok := uint64(0), true; ok; {
		p, found, err := f.seek(at)
		if err != nil || !found {
			return err
		}
		pl, known, err := cols.at(log.Offset(p))
		if err != nil {
			return err
		}
		if known {
			do(pl)
		}
		at, ok = beyond(p, false)
	}
	return nil
}

// ThreadMost is how many answers of a thread are read, the latest.
const ThreadMost = 10_000

// Thread is a thread: its root, which must be here (log.ErrNotFound), and the posts that answer it, but for those of people whom
// we block: the latest most of them, 0 for 10,000. They stand in the order of their times, but never before a post of the
// thread that they name in their branch. full: none was left out.
func (x *Index) Thread(root identity.MsgID, private bool, most int) (posts []log.Message, full bool, err error) {
	first, err := x.root(root)
	if err != nil {
		return nil, false, err
	}
	if most <= 0 || most > ThreadMost {
		most = ThreadMost
	}
	var all []place
	err = x.look(func(txn *badger.Txn) error {
		return eachPlace(x.columns(txn), append(messageSet(nil, private, setRoot), root[:]...), func(p place) {
			if !x.isBlocked(p.author) {
				all = append(all, p)
			}
		})
	})
	if err != nil {
		return nil, false, err
	}
	slices.SortFunc(all, func(a, b place) int { return Point{a.time, a.at}.compare(Point{b.time, b.at}) })
	full = len(all) <= most
	all = all[max(0, len(all)-most):]
	posts = append(make([]log.Message, 0, len(all)+1), first)
	if posts, err = x.fetch(posts, all); err != nil {
		return nil, false, err
	}
	posts = slices.DeleteFunc(posts, func(m log.Message) bool { return m.Sequence() == 0 })
	x.orderByBranch(posts[1:])
	return posts, full, nil
}

// orderByBranch puts posts behind those that they name in their branch, and changes nothing else of their order.
func (x *Index) orderByBranch(posts []log.Message) {
	at := make(map[identity.MsgID]int, len(posts))
	for i := range posts {
		at[posts[i].Key()] = i
	}
	after := make([][]int, len(posts))
	early := false
	for i := range posts {
		top(x.read(posts[i]).content, func(key, value []byte) {
			if string(key) != "branch" {
				return
			}
			name := func(text []byte) {
				id, err := identity.ParseMsgID(text)
				if k, ok := at[id]; err == nil && ok && k != i {
					after[i] = append(after[i], k)
					early = early || k > i
				}
			}
			if text, ok := spelledText(value); ok {
				name(text)
				return
			}
			var scan textScanner
			scan.each(value, func(in []frame, text []byte) {
				if len(in) == 1 {
					name(text)
				}
			})
		})
	}
	if !early {
		return
	}
	// Ids are hashes, so nobody can make a circle; but nobody should be able to make this endless either.
	ordered := make([]log.Message, 0, len(posts))
	state := make([]byte, len(posts)) // 1: what it names is being put, 2: it was put
	for i := range posts {
		stack := []int{i}
		for len(stack) > 0 {
			k := stack[len(stack)-1]
			if state[k] == 0 {
				state[k] = 1
				for _, b := range slices.Backward(after[k]) {
					if state[b] == 0 {
						stack = append(stack, b)
					}
				}
				continue
			}
			if stack = stack[:len(stack)-1]; state[k] == 1 {
				state[k] = 2
				ordered = append(ordered, posts[k])
			}
		}
	}
	copy(posts, ordered)
}

// Tag is a hashtag or channel, without "#", and how many messages have it.
type Tag struct {
	Name  string
	Count int
}

// tagsMost is how many hashtags are looked at.
const tagsMost = 1000

// Tags lists hashtags and channels that begin with a text, those that most have first, at most limit of them. Of more than a
// thousand the first in order are looked at. What is blocked counts too.
func (x *Index) Tags(prefix string, limit int) (tags []Tag, err error) {
	prefix = NormalizeChannel(prefix)
	count := map[string]int{}
	err = x.look(func(txn *badger.Txn) error {
		begin := []byte{x.links.prefix(), 's', publicSet, '#'}
		it := txn.NewIterator(badger.IteratorOptions{Prefix: append(begin, prefix...)})
		defer it.Close()
		for it.Rewind(); it.Valid() && len(count) < tagsMost; {
			key := it.Item().Key()[len(begin):]
			name, rest, ok := cutText(key)
			if !ok {
				it.Next()
				continue
			}
			tag := string(name)
			if _, again := count[tag]; !again {
				terms := x.terms(txn, Tagged(tag))
				n := uint64(0)
				for _, term := range terms {
					size, err := sizeOf(txn, term)
					if err != nil {
						return err
					}
					n += size
				}
				count[tag] = int(n)
			}
			// The next hashtag is behind all that follows this one.
			next := append(append([]byte(nil), begin...), key[:len(key)-len(rest)]...)
			next[len(next)-1] = 2
			it.Seek(next)
		}
		return nil
	})
	for tag, n := range count {
		if n > 0 {
			tags = append(tags, Tag{tag, n})
		}
	}
	slices.SortFunc(tags, func(a, b Tag) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(a.Name, b.Name)
	})
	if limit > 0 {
		tags = tags[:min(limit, len(tags))]
	}
	return tags, err
}

// Vote is what somebody last said of a message: usually 1, 0 to take that back.
type Vote struct {
	Author  identity.ID
	Value   float64
	Message log.Message
}

// votesMost is how many votes on one message are read, the latest.
const votesMost = 10_000

// Votes are the last votes of each author on a message, of content {type: "vote", vote: {link, value}}, the latest first: public
// ones of people whom we do not block. Those that were taken back, with a value of 0, are among them.
func (x *Index) Votes(id identity.MsgID) (votes []Vote, err error) {
	var all []place
	err = x.look(func(txn *badger.Txn) error {
		f, err := x.find(txn, And(Links(id.String(), "vote"), OfType("vote")), true)
		if err != nil {
			return err
		}
		defer f.close()
		cols := x.columns(txn)
		seen := map[uint32]bool{}
		for at, ok := uint64(math.MaxUint64), true; ok && len(seen) < votesMost; {
			p, found, err := f.seek(at)
			if err != nil || !found {
				return err
			}
			pl, known, err := cols.at(log.Offset(p))
			if err != nil {
				return err
			}
			if known && !seen[pl.author] {
				seen[pl.author] = true
				all = append(all, pl)
			}
			at, ok = beyond(p, true)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	msgs, err := x.fetch(nil, slices.DeleteFunc(all, func(p place) bool { return x.isBlocked(p.author) }))
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		if m.Sequence() == 0 {
			continue
		}
		var value float64
		top(m.Content(), func(key, vote []byte) {
			if string(key) == "vote" {
				top(vote, func(key, v []byte) {
					if string(key) == "value" {
						_ = json.Unmarshal(v, &value) // what is no number is 0
					}
				})
			}
		})
		votes = append(votes, Vote{m.Author(), value, m})
	}
	return votes, err
}
