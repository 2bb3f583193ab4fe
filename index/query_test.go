package index

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"charkha/bench/gen"
	"charkha/identity"
	"charkha/log"
)

// generated is a log of messages such as people write.
func generated(t testing.TB, n int, seed uint64) (*log.Log, identity.ID) {
	t.Helper()
	l := openLog(t)
	o := gen.Options{Messages: n, Authors: 30, Seed: seed}
	var raws [][]byte
	if err := gen.Generate(o, func(m *gen.Message) error { raws = append(raws, m.Value); return nil }); err != nil {
		t.Fatal(err)
	}
	// Not in the order of their times: feed after feed within each piece.
	for piece := range slices.Chunk(raws, 300) {
		slices.SortStableFunc(piece, func(a, b []byte) int {
			p, _, _ := log.Peek(a)
			q, _, _ := log.Peek(b)
			return slices.Compare(p[:], q[:])
		})
	}
	store(t, l, raws...)
	return l, o.Key(0).ID()
}

func everything(t testing.TB, l *log.Log) (all []log.Message) {
	t.Helper()
	for m, err := range l.Arrivals(0, false) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func keysOf(t testing.TB, msgs func(func(log.Message, error) bool)) (keys []string) {
	t.Helper()
	for m, err := range msgs {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, fmt.Sprint(m.Offset(), " ", m.Key()))
	}
	return keys
}

// matches is what a set means, found without an index.
type matches struct {
	set  Set
	name string
	is   func(m *log.Message) bool
}

func contentOf(m *log.Message) map[string]any {
	if c, ok := contents.Load(m.Key()); ok {
		return c.(map[string]any)
	}
	var c map[string]any
	if !m.Private() && json.Unmarshal(m.Content(), &c) != nil {
		panic("the log has a content that is no object")
	}
	contents.Store(m.Key(), c)
	return c
}

var contents sync.Map // of contentOf, by id

func wordsOf(m *log.Message) []string {
	text, _ := contentOf(m)["text"].(string)
	if w, ok := wordLists.Load(text); ok {
		return w.([]string)
	}
	w := Words(text)
	wordLists.Store(text, w)
	return w
}

var wordLists sync.Map // of wordsOf, by text

// anyText reports whether a value, or one below it, is a text of which is says so.
func anyText(v any, is func(string) bool) bool {
	switch v := v.(type) {
	case string:
		return is(v)
	case []any:
		return slices.ContainsFunc(v, func(v any) bool { return anyText(v, is) })
	case map[string]any:
		for _, v := range v {
			if anyText(v, is) {
				return true
			}
		}
	}
	return false
}

// someMatches are sets of what is in a log, at random.
func someMatches(all []log.Message, rng *rand.Rand) matches {
	m := &all[rng.IntN(len(all))]
	c := contentOf(m)
	switch rng.IntN(11) {
	case 0:
		author := m.Author()
		return matches{By(author), "by " + author.Short(), func(m *log.Message) bool { return m.Author() == author }}
	case 1, 2:
		typ := []string{"post", "vote", "about", "gathering", "contact", "nothing"}[rng.IntN(6)]
		return matches{OfType(typ), "type " + typ, func(m *log.Message) bool { return m.Type() == typ }}
	case 3:
		return matches{Boxed(), "boxed", func(m *log.Message) bool { return m.Private() }}
	case 4:
		var refs []string
		anyText(c, func(s string) bool {
			if len(s) > 50 && strings.ContainsAny(s[:1], "@%&") && !strings.Contains(s, " ") {
				refs = append(refs, s)
			}
			return false
		})
		if len(refs) > 0 {
			dest := refs[rng.IntN(len(refs))]
			return matches{Refers(dest), "refers to " + dest[:8], func(m *log.Message) bool {
				return anyText(contentOf(m), func(s string) bool { return s == dest })
			}}
		}
	case 5:
		if root, ok := c["root"].(string); ok {
			id, err := identity.ParseMsgID(root)
			if err != nil {
				panic(err)
			}
			return matches{Replies(id), "replies to " + root[:8], func(m *log.Message) bool {
				return m.Type() == "post" && contentOf(m)["root"] == root
			}}
		}
	case 6:
		tag := strings.Fields("gardening ssb solarpunk bread new-people")[rng.IntN(5)]
		return matches{Tagged(tag), "#" + tag, func(m *log.Message) bool {
			c := contentOf(m)
			return c["channel"] == tag || anyText(c["mentions"], func(s string) bool { return s == "#"+tag })
		}}
	case 7, 8:
		word := strings.Fields("the garden NAÏVE 🌱 日 nowhere cloth über Größe")[rng.IntN(9)]
		folded := strings.ReplaceAll(strings.ToLower(word), "ß", "ss")
		return matches{Word(word, false), "word " + word, func(m *log.Message) bool {
			return slices.Contains(wordsOf(m), folded)
		}}
	case 9:
		return matches{Word("bea", true), "word bea...", func(m *log.Message) bool {
			return slices.ContainsFunc(wordsOf(m), func(w string) bool { return strings.HasPrefix(w, "bea") })
		}}
	}
	return matches{Set{}, "all", func(m *log.Message) bool { return true }}
}

// combined are sets of sets.
func combined(all []log.Message, rng *rand.Rand, depth int) matches {
	if depth == 0 || rng.IntN(3) == 0 {
		return someMatches(all, rng)
	}
	a, b := combined(all, rng, depth-1), combined(all, rng, depth-1)
	switch rng.IntN(4) {
	case 0:
		return matches{Or(a.set, b.set), "(" + a.name + " or " + b.name + ")", func(m *log.Message) bool { return a.is(m) || b.is(m) }}
	case 1:
		return matches{And(a.set, Not(b.set)), "(" + a.name + " and not " + b.name + ")", func(m *log.Message) bool { return a.is(m) && !b.is(m) }}
	case 2:
		return matches{Not(a.set), "not " + a.name, func(m *log.Message) bool { return !a.is(m) }}
	}
	return matches{And(a.set, b.set), "(" + a.name + " and " + b.name + ")", func(m *log.Message) bool { return a.is(m) && b.is(m) }}
}

// A query says what going through all messages says, whatever is asked.
func TestQueryAgreesWithScan(t *testing.T) {
	t.Parallel()
	l, self := generated(t, 2500, 1)
	x := start(t, Options{Log: l, Self: self, Hops: 2, batch: 333}).caughtUp()
	all := everything(t, l)
	byTime := slices.Clone(all)
	slices.SortFunc(byTime, func(a, b log.Message) int { return PointOf(&a).compare(PointOf(&b)) })
	rng := rand.New(rand.NewPCG(1, 2))
	found := 0
	for n := range 250 {
		s := combined(all, rng, rng.IntN(4))
		q := Query{Where: s.set, Claimed: rng.IntN(2) == 0, Reverse: rng.IntN(2) == 0}
		some := func() *log.Message { return &all[rng.IntN(len(all))] }
		if rng.IntN(3) == 0 {
			q.Limit = 1 + rng.IntN(60)
		}
		if rng.IntN(4) == 0 {
			q.From = some().Offset()
		}
		if rng.IntN(4) == 0 {
			q.To = some().Offset() + 1
		}
		clock := func(m *log.Message) float64 {
			if q.Claimed {
				return timeOf(m)
			}
			return m.Received()
		}
		if rng.IntN(4) == 0 {
			q.Since = clock(some())
		}
		if rng.IntN(4) == 0 {
			q.Until = clock(some())
		}
		if rng.IntN(4) == 0 {
			p := PointOf(some())
			q.Behind = &p
		}
		var want []string
		in := all
		if q.Claimed {
			in = byTime
		}
		for i := range in {
			m := &in[i]
			if q.Reverse {
				m = &in[len(in)-1-i]
			}
			c := cmp2(PointOf(m), q.Behind, q.Claimed)
			if !s.is(m) || m.Offset() < q.From || q.To > 0 && m.Offset() >= q.To || q.Since > 0 && clock(m) < q.Since ||
				q.Until > 0 && clock(m) > q.Until || q.Behind != nil && (q.Reverse && c >= 0 || !q.Reverse && c <= 0) {
				continue
			}
			if want = append(want, fmt.Sprint(m.Offset(), " ", m.Key())); len(want) == q.Limit {
				break
			}
		}
		found += len(want)
		if diff := cmp.Diff(want, keysOf(t, x.Query(t.Context(), q))); diff != "" {
			t.Fatalf("query %d of %s, %+v (-want +got):\n%s", n, s.name, q, diff)
		}
	}
	if found < 5_000 {
		t.Errorf("only %d messages were found", found)
	}
	checkSame(t, x)
}

func cmp2(p Point, q *Point, claimed bool) int {
	switch {
	case q == nil:
		return 0
	case claimed:
		return p.compare(*q)
	}
	return int(p.Place) - int(q.Place)
}

// Large sets are walked by time instead of being gathered; both say the same.
func TestClaimedOrderOfLargeAndSmallSets(t *testing.T) {
	t.Parallel()
	l, self := generated(t, 1500, 2)
	x := start(t, Options{Log: l, Self: self, Hops: 2}).caughtUp()
	for _, limit := range []int{1, 10, 2000} {
		for _, reverse := range []bool{false, true} {
			q := Query{Where: OfType("post"), Claimed: true, Reverse: reverse, Limit: limit}
			var walked []string
			stop := false
			err := x.walkTimes(q, func(place) bool { return true }, func(places []place) error {
				for _, p := range places[:min(len(places), limit-len(walked))] {
					m, _, err := x.message(p)
					if err != nil {
						return err
					}
					walked = append(walked, fmt.Sprint(m.Offset(), " ", m.Key()))
				}
				stop = len(walked) == limit
				return nil
			}, &stop)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(walked, keysOf(t, x.Query(t.Context(), q))); diff != "" {
				t.Errorf("limit %d (-walked +query):\n%s", limit, diff)
			}
		}
	}
}

// The newest of a set are those of all of it in order, however much of it is looked at.
func TestNewest(t *testing.T) {
	t.Parallel()
	l, self := generated(t, 5000, 4)
	x := start(t, Options{Log: l, Self: self, Hops: 2}).caughtUp()
	until := x.queryable()
	for _, where := range []Set{By(self), OfType("post"), OfType("vote"), Boxed(), None(), And(OfType("about"), Not(By(self)))} {
		for _, q := range []Query{{Where: where}, {Where: where, From: until / 2}} {
			var want []place
			err := x.look(func(txn *badger.Txn) error {
				f, err := x.find(txn, where, false)
				if err != nil {
					return err
				}
				defer f.close()
				cols := x.columns(txn)
				for at := uint64(q.From); ; at++ {
					var ok bool
					if at, ok, err = f.seek(at); !ok || err != nil {
						return err
					}
					p, _, err := cols.at(log.Offset(at))
					if err != nil {
						return err
					}
					want = append(want, p)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(want, newer)
			for _, k := range []int{1, 2, 7, 50, 5000} {
				var got []place
				err := x.look(func(txn *badger.Txn) (err error) {
					got, err = x.newestOfFew(txn, q, func(place) bool { return true }, until, k)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want[:min(k, len(want))]) {
					t.Errorf("the newest %d of %d of %+v from %d are other ones", k, len(want), where, q.From)
				}
				got, whole, err := x.newest(q, func(p place) bool { return p.at >= q.From }, until, k)
				if err != nil {
					t.Fatal(err)
				}
				if !whole || !slices.Equal(got, want[:min(k, len(want))]) {
					t.Errorf("the newest %d of %d of %+v from %d are other ones, of those in blocks", k, len(want), where, q.From)
				}
			}
		}
	}
}

// A live query never misses and never repeats, whatever is being written.
func TestLiveQuery(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	people := newAuthors(3)
	x := start(t, Options{Log: l, Self: people[0].id(), Hops: 2})
	const each = 60
	written := make(chan error, 1)
	go func() {
		for i := range each * 3 {
			if _, err := l.Append([][]byte{people[i%3].sign(t, contentPost(fmt.Sprint("post ", i)))}); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	caught := 0
	seq := int64(0)
	for m, err := range x.Query(ctx, Query{Where: And(By(people[1].id()), OfType("post")), Live: true,
		Caught: func() error { caught++; return nil }}) {
		if err != nil {
			t.Fatal(err)
		}
		if seq++; m.Sequence() != seq {
			t.Fatalf("message %d comes after %d", m.Sequence(), seq-1)
		}
		if seq == each {
			cancel()
			break
		}
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if caught > 1 {
		t.Errorf("caught up %d times", caught)
	}
	x.caughtUp()
	// Only what is new, with a limit.
	got := make(chan []string)
	ready := make(chan struct{})
	go func() {
		got <- texts(t, collect(t, x.Query(t.Context(), Query{Where: OfType("post"), Live: true, New: true, Limit: 2,
			Caught: func() error { close(ready); return nil }})))
	}()
	<-ready
	store(t, l, people[0].sign(t, contentPost("new")), people[0].sign(t, contentFollow(people[1].id())), people[0].sign(t, contentPost("newer")))
	if diff := cmp.Diff([]string{"new", "newer"}, <-got); diff != "" {
		t.Errorf("new ones (-want +got):\n%s", diff)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	for _, err := range x.Query(ctx, Query{Live: true, New: true}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a live query ends with %v", err)
		}
	}
}

func collect(t testing.TB, msgs func(func(log.Message, error) bool)) (all []log.Message) {
	t.Helper()
	for m, err := range msgs {
		if err != nil {
			t.Error(err)
			return all
		}
		all = append(all, m)
	}
	return all
}

// Pages of a query join without a gap, while more is written.
func TestPagesWhileMoreIsWritten(t *testing.T) {
	t.Parallel()
	l, self := generated(t, 1200, 3)
	x := start(t, Options{Log: l, Self: self, Hops: 2}).caughtUp()
	a := newAuthor(90)
	for _, claimed := range []bool{false, true} {
		want := keysOf(t, x.Query(t.Context(), Query{Where: OfType("vote"), Claimed: claimed, Reverse: true}))
		var got []string
		q := Query{Where: OfType("vote"), Claimed: claimed, Reverse: true, Limit: 37, To: l.Len()}
		for {
			page := collect(t, x.Query(t.Context(), q))
			for _, m := range page {
				got = append(got, fmt.Sprint(m.Offset(), " ", m.Key()))
			}
			if len(page) == 0 {
				break
			}
			p := PointOf(&page[len(page)-1])
			q.Behind = &p
			store(t, l, a.signAt(t, "1500000100000", `{"type":"vote","vote":{"link":"x","value":1}}`))
			x.caughtUp()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages, claimed %v (-want +got):\n%s", claimed, diff)
		}
	}
}

// A set gives the same places, however it is asked.
func TestSetOfManyRows(t *testing.T) {
	t.Parallel()
	x := start(t, Options{Log: openLog(t), Self: key(0).ID()})
	rng := rand.New(rand.NewPCG(1, 9))
	var all []uint64
	at := uint64(0)
	for range 5 * chunkMost {
		at += 1 + rng.Uint64N(1+1<<rng.IntN(40))
		all = append(all, at)
	}
	term := appendText([]byte{'Z'}, "te\x00rm")
	var w setWriter
	for left := all; len(left) > 0; {
		n := min(1+rng.IntN(200), len(left))
		w.begin()
		w.add([]byte("Zother"), left[0])
		for _, p := range left[:n] {
			w.add(term, p)
			w.add(term, p)
		}
		if err := x.db.Update(w.flush); err != nil {
			t.Fatal(err)
		}
		if err := x.db.Update(w.flush); err != nil { // again, as after a power cut
			t.Fatal(err)
		}
		left = left[n:]
	}
	err := x.db.View(func(txn *badger.Txn) error {
		if n, err := sizeOf(txn, term); n != uint64(len(all)) || err != nil {
			t.Errorf("the set has %d of %d, %v", n, len(all), err)
		}
		for range 300 {
			reverse := rng.IntN(2) == 0
			f, err := openSet(txn, term, reverse)
			if err != nil {
				return err
			}
			p := uint64(0)
			if reverse {
				p = math.MaxUint64
			}
			leap := uint64(1) << rng.IntN(45)
			for {
				got, ok, err := f.seek(p)
				if err != nil {
					return err
				}
				i, exact := slices.BinarySearch(all, p)
				if reverse && !exact {
					i--
				}
				if there := i >= 0 && i < len(all); ok != there || ok && got != all[i] {
					t.Fatalf("seek(%d) reverse %v: %d, %v", p, reverse, got, ok)
				}
				if !ok {
					break
				}
				step := rng.Uint64N(leap + 1)
				switch {
				case reverse && got < step+1:
					p = 0
					if got == 0 {
						ok = false
					}
				case reverse:
					p = got - step - 1
				default:
					p = got + step + 1
				}
				if reverse && p == 0 {
					break
				}
			}
			f.close()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Whom we block is left out where that is asked for, at once, and comes back.
func TestQueryWithoutBlocked(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	p := newAuthors(3)
	x := start(t, Options{Log: l, Self: p[0].id(), Hops: 1})
	for i := range 6 {
		store(t, l, p[1+i%2].sign(t, contentPost(fmt.Sprint(i))))
	}
	x.caughtUp()
	for _, claimed := range []bool{false, true} {
		got := func(unblocked bool, limit int) []string {
			return texts(t, collect(t, x.Query(t.Context(), Query{Where: OfType("post"), Claimed: claimed, Reverse: true, Limit: limit, Unblocked: unblocked})))
		}
		all := got(true, 0)
		store(t, l, p[0].sign(t, contentBlock(p[2].id())))
		x.caughtUp()
		if n := len(got(true, 0)); len(all) != 6 || n != 3 {
			t.Errorf("%d posts, %d of them by people we do not block", len(all), n)
		}
		if n := len(got(true, 2)); n != 2 {
			t.Errorf("%d of the first 2 posts", n)
		}
		if n := len(got(false, 0)); n != 6 {
			t.Errorf("%d posts of everybody", n)
		}
		store(t, l, p[0].sign(t, contentUnblock(p[2].id())))
		x.caughtUp()
		if diff := cmp.Diff(all, got(true, 0)); diff != "" {
			t.Errorf("after making up (-want +got):\n%s", diff)
		}
	}
	if err := x.stop(); err != nil {
		t.Fatal(err)
	}
	for _, q := range []Query{{}, {Claimed: true}, {Where: OfType("post"), Claimed: true, Reverse: true, Limit: 5}} {
		n := 0
		for _, err := range x.Query(t.Context(), q) {
			if n++; !errors.Is(err, ErrClosed) {
				t.Errorf("a query of a closed index: %v", err)
			}
		}
		if n != 1 {
			t.Errorf("a query of a closed index yields %d", n)
		}
	}
}

// A chunk of columns that becomes whole while a query reads an older state is not kept with the holes of that state.
func TestChunkFilledDuringQuery(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	someone := newAuthors(1)[0]
	x := start(t, Options{Log: l, Self: someone.id(), Hops: 2})
	for range columnRows - 1 {
		store(t, l, someone.sign(t, contentPost("before")))
	}
	x.caughtUp()
	err := x.look(func(txn *badger.Txn) error {
		store(t, l, someone.sign(t, contentPost("last of the chunk")))
		x.caughtUp()
		_, _, err := x.columns(txn).at(0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(keysOf(t, x.Query(t.Context(), Query{Where: OfType("post")}))); n != columnRows {
		t.Errorf("%d messages, want %d", n, columnRows)
	}
}
