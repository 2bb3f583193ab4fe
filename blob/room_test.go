package blob

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"charkha/identity"
)

// clock is a time that goes on by a second at each look.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now.IsZero() {
		c.now = time.UnixMilli(1_700_000_000_000)
	}
	c.now = c.now.Add(time.Second)
	return c.now
}

// hops ranks someone(n) as n/100, and those from 900 on as out of range.
func hops(id identity.ID) int {
	n := int(id[6])<<8 | int(id[7])
	if n >= 900 || id[31] != 1 {
		return -1
	}
	return n / 100
}

const block = 4096

// room is a store of a budget of so many blocks, for blobs of one block.
func room(t testing.TB, blocks int) *Store {
	return open(t, Options{Dir: quick(t), noSync: true, Budget: int64(blocks) * block, Max: block, Rank: hops, Now: (&clock{}).Now})
}

// within checks that the store keeps to its budget.
func within(t testing.TB, s *Store) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving > s.o.Budget {
		t.Errorf("%d bytes count for the budget of %d", s.leaving, s.o.Budget)
	}
}

func byAuthor(n int) Why { return Why{Author: someone(n)} }

// order lets one blob leave after the other, and tells their names.
func order(t *testing.T, s *Store, names map[identity.BlobID]string) string {
	t.Helper()
	var left []string
	seen := map[identity.BlobID]bool{}
	for range names {
		u := s.Usage()
		if s.leaving == 0 {
			break
		}
		r := s.rank(Why{})
		s.mu.Lock()
		leave, ok := s.plan(s.o.Budget-s.leaving+1, Why{Asked: true}, r, nil)
		s.mu.Unlock()
		if !ok || len(leave) != 1 {
			t.Fatalf("%d leave of %+v", len(leave), u)
		}
		s.evict(leave, nil)
		if has(s, leave[0]) || seen[leave[0]] {
			t.Errorf("%s did not leave", names[leave[0]])
		}
		seen[leave[0]] = true
		left = append(left, names[leave[0]])
	}
	return strings.Join(left, " ")
}

// The stated order: what is over somebody's share, then farther ones first, and of the same rank what was not used for
// longest; mine last, own and pinned ones never.
func TestOrderOfLeaving(t *testing.T) {
	t.Parallel()
	s := room(t, 32) // a share is 4 blobs
	names := map[identity.BlobID]string{}
	n := 0
	put := func(name string, why Why) identity.BlobID {
		n++
		id := add(t, s, data(n, 100), why)
		names[id] = name
		return id
	}
	put("own", Why{Own: true, Author: someone(900)})
	put("pinned", Why{Pinned: true, Author: someone(900)})
	put("me", byAuthor(1))
	put("me", byAuthor(1))
	put("me", byAuthor(1))
	put("me", byAuthor(1))
	put("me", byAuthor(1))
	put("me'", byAuthor(1))
	for i := range 6 {
		put(fmt.Sprint("flood", i), byAuthor(100))
	}
	opened := put("3a", byAuthor(300))
	put("3b", byAuthor(301))
	put("2a", byAuthor(200))
	put("out", byAuthor(900))
	put("nobody", Why{})
	put("peer", Why{Peer: someone(100)})
	put("2b", byAuthor(201))
	unpinned := put("3c", Why{Pinned: true, Author: someone(302)})
	put("1", byAuthor(101))
	if err := s.Pin(unpinned, false); err != nil {
		t.Fatal(err)
	}
	if f, err := s.Open(t.Context(), opened); err != nil {
		t.Fatal(err)
	} else {
		f.Close()
	}
	if r, err := s.Read(opened); err != nil { // by a peer: that is no use
		t.Fatal(err)
	} else {
		r.Close()
	}
	check(t, s)
	within(t, s)
	s = reopen(t, s) // the order is kept
	check(t, s)
	within(t, s)
	const want = "flood0 flood1 out nobody peer 3b 3c 3a 2a 2b flood2 flood3 flood4 flood5 1 me me me me me me'"
	if got := order(t, s, names); got != want {
		t.Errorf("they leave in the order\n%s, want\n%s", got, want)
	}
	if u := s.Usage(); u.Blobs != 2 || u.Own != 200 || u.Evicted != 21 {
		t.Errorf("%+v", u)
	}
	check(t, s)
	within(t, s)
}

// Whoever floods the store, each of the others keeps a share, and those who are nearer keep everything that is within theirs.
func TestShares(t *testing.T) {
	t.Parallel()
	s := room(t, 80) // a share is 10 blobs
	n := 0
	try := func(why Why) bool {
		n++
		wanted := s.Wants(idOf(data(n, 9)), 9, why)
		_, err := s.Add(t.Context(), bytes.NewReader(data(n, 9)), nil, why)
		if err != nil && !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		if wanted != (err == nil) {
			t.Errorf("wanted: %v, added: %v", wanted, err)
		}
		return err == nil
	}
	of := func(n int) int64 { return s.Usage().Authors[someone(n)] / 9 }
	// One comes first and takes all that is free. That is lent.
	for range 90 {
		if !try(byAuthor(100)) {
			t.Fatal("one who is over the share cannot exchange one's own")
		}
	}
	if of(100) != 80 {
		t.Errorf("%d blobs of the one who came first", of(100))
	}
	// Others get their share of it, farther ones too.
	for range 12 {
		if !try(byAuthor(200)) {
			t.Fatal("no room for one who is farther, and within a share")
		}
	}
	if of(200) != 10 {
		t.Errorf("%d blobs of one who is farther", of(200))
	}
	for range 30 {
		try(byAuthor(101)) // equals share what is over
	}
	if of(101) < 29 || of(100) > 41 || of(200) != 10 {
		t.Errorf("%d and %d of equals, %d of one farther", of(100), of(101), of(200))
	}
	// A crowd out of range takes what is over the shares, and nothing else.
	for i := range 120 {
		try(byAuthor(900 + i))
	}
	if of(100) != 10 || of(101) != 10 || of(200) != 10 {
		t.Errorf("a crowd left %d, %d and %d", of(100), of(101), of(200))
	}
	// So does one from whom much comes that nobody linked.
	for range 30 {
		try(Why{Peer: someone(102)})
	}
	if of(100) != 10 || of(101) != 10 || of(200) != 10 {
		t.Errorf("a peer left %d, %d and %d", of(100), of(101), of(200))
	}
	// Those in range push the crowd out.
	for i := range 8 {
		for range 10 {
			if !try(byAuthor(110 + i)) {
				t.Error("no room for one in range")
			}
		}
	}
	// Now all is within shares and near: a farther one finds no room, and nothing leaves for it.
	before := s.Usage()
	if try(byAuthor(300)) || try(byAuthor(900)) || try(Why{Peer: someone(100)}) || try(Why{}) {
		t.Error("one who is farther than all found room")
	}
	if after := s.Usage(); after.Evicted != before.Evicted || after.Blobs != before.Blobs {
		t.Errorf("%+v became %+v for nothing", before, after)
	}
	// But a person who asks gets it, as does whatever is own.
	asked := byAuthor(300)
	asked.Asked = true
	if !try(asked) || !try(Why{Asked: true}) || !try(Why{Own: true}) || !try(Why{Pinned: true}) {
		t.Error("no room for what a person asked for")
	}
	if u := s.Usage(); u.Evicted != before.Evicted+2 {
		t.Errorf("%d left for two", u.Evicted-before.Evicted)
	}
	check(t, s)
	within(t, s)
}

// Room is booked before a byte comes, so that what comes at the same time never goes over the budget, and is given back.
func TestBooking(t *testing.T) {
	t.Parallel()
	s := room(t, 8)
	var coming []*Receiving
	for i := range 8 {
		r, err := s.Receive(idOf(data(i, block)), block, byAuthor(200+i))
		if err != nil {
			t.Fatal(err)
		}
		coming = append(coming, r)
	}
	if _, err := s.Receive(idOf(data(8, block)), 1, byAuthor(100)); !errors.Is(err, ErrFull) {
		t.Errorf("what comes does not leave for others: %v", err)
	}
	if s.Wants(idOf(data(8, block)), -1, byAuthor(100)) {
		t.Error("wanted, and there is no room")
	}
	if u := s.Usage(); u.Free != 0 || u.Bytes != 0 {
		t.Errorf("%+v", u)
	}
	for i, r := range coming {
		if i%2 == 0 {
			r.Abort()
			continue
		}
		write(t, r, data(i, block), 0)
		if _, err := r.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	}
	check(t, s)
	within(t, s)
	if u := s.Usage(); u.Free != 4*block || u.Blobs != 4 {
		t.Errorf("%+v", u)
	}
	if _, err := s.Receive(idOf([]byte("large")), 9*block, byAuthor(100)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	s.Close()
	o := s.o
	o.Max = 10 * block
	s = open(t, o)
	if _, err := s.Receive(idOf([]byte("large")), 9*block, Why{Asked: true}); !errors.Is(err, ErrFull) {
		t.Errorf("larger than the budget: %v", err)
	}
	if u := s.Usage(); u.Blobs != 4 {
		t.Errorf("%d blobs left for one that can never come", 4-u.Blobs)
	}
}

// A budget that was made smaller, and blobs that are unpinned.
func TestTrim(t *testing.T) {
	t.Parallel()
	s := room(t, 20)
	pinned := add(t, s, data(100, 10), Why{Pinned: true, Author: someone(900)})
	for i := range 20 {
		add(t, s, data(i, 10), byAuthor(100+i*10))
	}
	s.Trim()
	if u := s.Usage(); u.Blobs != 21 {
		t.Errorf("%+v", u)
	}
	if err := s.Pin(pinned, false); err != nil {
		t.Fatal(err)
	}
	s.Trim()
	if has(s, pinned) || s.Usage().Blobs != 20 {
		t.Error("what was unpinned last and is farthest is still there")
	}
	s.Close()
	o := s.o
	o.Budget = 5 * block
	s = open(t, o)
	if s.Usage().Blobs != 20 {
		t.Error("Open evicts, though nobody can tell yet how far the authors are")
	}
	s.Trim()
	check(t, s)
	within(t, s)
	for i := range 20 {
		// Of those of one hop the newest stay.
		if got, want := has(s, idOf(data(i, 10))), i >= 5 && i < 10; got != want {
			t.Errorf("number %d, %d hops, is there: %v, want %v", i, hops(someone(100+i*10)), got, want)
		}
	}
}

// The plan is the same as what the order says when it is written down without any lists.
func TestPlanAgainstTheOrder(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	taken, refused := 0, 0
	for round := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, round))
		budget := int64(8+rng.IntN(60)) * block
		s := &Store{o: Options{Budget: budget, Max: 4 * block, Rank: hops}, slots: map[identity.BlobID]uint32{}, entries: make([]entry, 1)}
		s.people.init()
		all := map[identity.BlobID]record{}
		someWhy := func() Why {
			var w Why
			if rng.IntN(10) > 0 {
				w.Author = someone(rng.IntN(5)*100 + 50*rng.IntN(2))
			}
			if rng.IntN(3) > 0 {
				w.Peer = someone(rng.IntN(2) * 100)
			}
			return w
		}
		for i := 0; s.leaving < budget; i++ {
			w := someWhy()
			r := record{id: idOf(fmt.Append(nil, i)), size: int64(rng.IntN(3*block + 1)), stored: int64(rng.IntN(1000))<<10 | int64(i),
				author: w.Author, peer: w.Peer, own: rng.IntN(20) == 0}
			if s.leaving+cost(r.size) > budget {
				break
			}
			all[r.id] = r
			s.put(&r)
		}
		for range 10 {
			why, size := someWhy(), cost(int64(rng.IntN(4*block)))
			why.Asked = rng.IntN(5) == 0
			got, ok := s.plan(size, why, s.rank(why), nil)
			want, wantOK := leaveByTheOrder(s, all, size, why)
			if ok != wantOK || ok && !slices.Equal(got, want) {
				t.Fatalf("round %d: %d leave, %v; want %d, %v", round, len(got), ok, len(want), wantOK)
			}
			if ok {
				taken++
			} else {
				refused++
			}
		}
	}
	t.Logf("%d found room, %d did not", taken, refused)
	if taken == 0 || refused == 0 {
		t.Error("only one kind was tried")
	}
}

// leaveByTheOrder says who leaves, one after the other.
func leaveByTheOrder(s *Store, all map[identity.BlobID]record, size int64, why Why) (leave []identity.BlobID, ok bool) {
	type key struct {
		id     identity.ID
		author bool
	}
	accountOf := func(author, peer identity.ID) key {
		if !author.IsZero() {
			return key{author, true}
		}
		return key{peer, false}
	}
	rank := func(k key) int {
		if n := hops(k.id); k.author && n >= 0 {
			return n
		}
		return 1000
	}
	holds := map[key]int64{}
	there := map[identity.BlobID]record{}
	total := int64(0)
	for id, r := range all {
		if !r.own && !r.pinned {
			there[id] = r
			holds[accountOf(r.author, r.peer)] += cost(r.size)
			total += cost(r.size)
		}
	}
	over := func(k key) bool { return rank(k) > 0 && holds[k] > s.o.share() }
	who := accountOf(why.Author, why.Peer)
	mine := holds[who] + size
	for total+size > s.o.Budget {
		var first *record
		for _, r := range there {
			k := accountOf(r.author, r.peer)
			if !why.Asked && k != who {
				if rank(who) > 0 && mine > s.o.share() {
					if !over(k) || holds[k] <= mine || rank(k) < rank(who) {
						continue
					}
				} else if !over(k) && rank(k) < rank(who) {
					continue
				}
			}
			before := func() bool {
				f := accountOf(first.author, first.peer)
				if over(k) != over(f) {
					return over(k)
				}
				if rank(k) != rank(f) {
					return rank(k) > rank(f)
				}
				return r.stored < first.stored
			}
			if first == nil || before() {
				first = &r
			}
		}
		if first == nil {
			return nil, false
		}
		delete(there, first.id)
		holds[accountOf(first.author, first.peer)] -= cost(first.size)
		total -= cost(first.size)
		leave = append(leave, first.id)
	}
	return leave, true
}
