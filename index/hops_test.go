package index

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"charkha/identity"
)

// edges is a follow graph as plain as can be.
type edges map[identity.ID]map[identity.ID]edge

func (g edges) set(from, to identity.ID, e edge) {
	if g[from] == nil {
		g[from] = map[identity.ID]edge{}
	}
	g[from][to] = e
}

// modelHops finds distances by looking, for each distance in turn, at every edge there is: slow, and simple enough to believe.
func modelHops(g edges, self identity.ID, most int) map[identity.ID]int {
	dist := map[identity.ID]int{self: 0}
	for n := 1; n <= most+1; n++ {
		found := map[identity.ID]int{}
		for from, out := range g {
			at, known := dist[from]
			if !known || at < 0 || at >= most {
				continue // its word does not count
			}
			for to, e := range out {
				_, nearer := dist[to]
				switch {
				case nearer:
				case e == follows && at+1 == n:
					found[to] = n
				case (e == blocks && at+1 == n || e == neither && at+2 == n) && found[to] == 0:
					found[to] = -n
				}
			}
		}
		maps.Copy(dist, found)
	}
	return dist
}

// The distances that npm layered-graph finds in random graphs; the model that other tests go by is held to them too.
func TestVectorHopsOfLayeredGraph(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/hops/graphs.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Max   int
		Graph map[string]map[string]edge
		Hops  map[string]int
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for i, tc := range cases {
		names := map[identity.ID]string{}
		id := func(name string) identity.ID {
			var id identity.ID
			copy(id[:], name)
			names[id] = name
			return id
		}
		c := newContacts(id("p0"), tc.Max)
		plain := edges{}
		for from, out := range tc.Graph {
			for to, e := range out {
				c.graph.set(contact{id(from), id(to), e})
				plain.set(id(from), id(to), e)
			}
		}
		c.measure()
		got := map[string]int{}
		for feed, d := range (&Index{contacts: c}).HopsAll() {
			got[names[feed]] = d
		}
		if diff := cmp.Diff(tc.Hops, got); diff != "" {
			t.Errorf("case %d: distances (-want +got):\n%s", i, diff)
		}
		model := map[string]int{}
		for feed, d := range modelHops(plain, id("p0"), tc.Max) {
			model[names[feed]] = d
		}
		if diff := cmp.Diff(tc.Hops, model); diff != "" {
			t.Errorf("case %d: the model (-want +got):\n%s", i, diff)
		}
	}
}

// The distances are right after each of many random edges, whether or not they were computed anew.
func TestHopsAfterEachEdge(t *testing.T) {
	t.Parallel()
	skipped, total := 0, 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		ids := make([]identity.ID, 4+rng.IntN(20))
		for i := range ids {
			ids[i] = identity.ID{byte(i), 1}
		}
		most := rng.IntN(5)
		c := newContacts(ids[0], most)
		x := &Index{contacts: c}
		plain := edges{}
		kinds := []edge{follows, follows, follows, blocks, neither}
		before := maps.Clone(x.HopsAll())
		for n := range 150 {
			changed := x.Changed()
			c.begin()
			blocked := false
			for range 1 + rng.IntN(2)*rng.IntN(4) { // as many as one transaction has
				e := contact{ids[rng.IntN(len(ids))], ids[rng.IntN(len(ids))], kinds[rng.IntN(len(kinds))]}
				if old := plain[e.from][e.to]; old != e.edge && (old == blocks || e.edge == blocks) {
					blocked = true
				}
				plain.set(e.from, e.to, e.edge)
				c.pending = append(c.pending, e)
			}
			was := &c.dist[0]
			c.committed()
			if total++; was == &c.dist[0] {
				skipped++
			}
			want := modelHops(plain, ids[0], most)
			got := x.HopsAll()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d, hops %d, after transaction %d (-want +got):\n%s", seed, most, n, diff)
			}
			told := false
			select {
			case <-changed:
				told = true
			default:
			}
			if must := blocked || !maps.Equal(before, got); told != must {
				t.Fatalf("seed %d, transaction %d: Changed told %v, want %v", seed, n, told, must)
			}
			before = got
		}
	}
	if skipped == 0 || skipped == total {
		t.Errorf("distances were left as they are after %d of %d transactions", skipped, total)
	}
}

// Contact messages of many authors arrive in random order, each feed's own order kept: the index says the same as the model
// after each, and an index built anew at the end has the same rows.
func TestHopsAsMessagesArrive(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 2))
			people := newAuthors(14)
			type message struct {
				raw  []byte
				edge contact
			}
			queues := make([][]message, len(people))
			for i, p := range people {
				for range 12 {
					to := people[rng.IntN(len(people))].id()
					var m message
					switch rng.IntN(8) {
					default:
						m = message{p.sign(t, contentFollow(to)), contact{p.id(), to, follows}}
					case 0:
						m = message{p.sign(t, contentBlock(to)), contact{p.id(), to, blocks}}
					case 1:
						m = message{p.sign(t, contentUnfollow(to)), contact{p.id(), to, neither}}
					case 2:
						m = message{p.sign(t, contentUnblock(to)), contact{p.id(), to, neither}}
					case 3:
						m = message{raw: p.sign(t, contentPost("hello"))}
					}
					queues[i] = append(queues[i], m)
				}
			}
			l := openLog(t)
			self, hops := people[0].id(), 1+rng.IntN(3)
			x := start(t, Options{Log: l, Self: self, Hops: hops})
			plain := edges{}
			for left := len(people) * 12; left > 0; {
				i := rng.IntN(len(queues))
				if len(queues[i]) == 0 {
					continue
				}
				m := queues[i][0]
				queues[i] = queues[i][1:]
				left--
				store(t, l, m.raw)
				x.caughtUp()
				if m.edge.edge != 0 {
					plain.set(m.edge.from, m.edge.to, m.edge.edge)
				}
				want := modelHops(plain, self, hops)
				if diff := cmp.Diff(want, x.HopsAll()); diff != "" {
					t.Fatalf("hops %d, %d messages left (-want +got):\n%s", hops, left, diff)
				}
				last := 0
				for _, feed := range x.WantedFeeds() {
					d, ok := want[feed]
					if !ok || d < last || !x.Wanted(feed) {
						t.Fatalf("WantedFeeds has %s at %d (%v) after one at %d", feed.Short(), d, ok, last)
					}
					last = d
					delete(want, feed)
				}
				for feed, d := range want {
					if d >= 0 || x.Wanted(feed) {
						t.Fatalf("%s at %d is not among WantedFeeds", feed.Short(), d)
					}
				}
			}
			again := start(t, Options{Log: l, Self: self, Hops: hops}).caughtUp()
			if diff := cmp.Diff(dump(t, x.Index), dump(t, again.Index)); diff != "" {
				t.Errorf("an index built anew has other rows (-first +anew):\n%s", diff)
			}
			if diff := cmp.Diff(x.HopsAll(), again.HopsAll()); diff != "" {
				t.Errorf("an index built anew has other distances (-first +anew):\n%s", diff)
			}
		})
	}
}

func TestHopsOfEachRelation(t *testing.T) {
	t.Parallel()
	p := newAuthors(6)
	me, friend, foaf, far, other := p[0], p[1], p[2], p[3], p[4]
	l := openLog(t)
	x := start(t, Options{Log: l, Self: me.id(), Hops: 2})
	for _, step := range []struct {
		say  string
		raw  []byte
		want map[*author]int
	}{
		{"nobody", me.sign(t, contentPost("alone")), map[*author]int{me: 0}},
		{"a follow is a step", me.sign(t, contentFollow(friend.id())), map[*author]int{me: 0, friend: 1}},
		{"two", friend.sign(t, contentFollow(foaf.id())), map[*author]int{me: 0, friend: 1, foaf: 2}},
		{"at the range, no further", foaf.sign(t, contentFollow(far.id())), map[*author]int{me: 0, friend: 1, foaf: 2}},
		{"at the range, a block does not count either", foaf.sign(t, contentBlock(other.id())), map[*author]int{me: 0, friend: 1, foaf: 2}},
		{"following myself", me.sign(t, contentFollow(me.id())), map[*author]int{me: 0, friend: 1, foaf: 2}},
		{"blocking myself", me.sign(t, contentBlock(me.id())), map[*author]int{me: 0, friend: 1, foaf: 2}},
		{"a friend blocks me", friend.sign(t, contentBlock(me.id())), map[*author]int{me: 0, friend: 1, foaf: 2}},
		{"a friend blocks somebody unknown", friend.sign(t, contentBlock(other.id())), map[*author]int{me: 0, friend: 1, foaf: 2, other: -2}},
		{"my own follow is nearer than a friend's block", me.sign(t, contentFollow(other.id())), map[*author]int{me: 0, friend: 1, foaf: 2, other: 1}},
		{"whom I block is blocked, whoever follows them", me.sign(t, contentBlock(foaf.id())), map[*author]int{me: 0, friend: 1, foaf: -1, other: 1}},
		{"whom I unblock is as far as others say", me.sign(t, contentUnblock(foaf.id())), map[*author]int{me: 0, friend: 1, foaf: 2, other: 1}},
		{"of a blocked person the follows do not count", me.sign(t, contentBlock(friend.id())), map[*author]int{me: 0, friend: -1, foaf: -2, other: 1}},
		{"an ended relation is a step further", me.sign(t, contentUnfollow(friend.id())), map[*author]int{me: 0, friend: -2, foaf: -2, other: 1}},
		{"the follow is back, and so is all that hung on it", me.sign(t, contentFollow(friend.id())), map[*author]int{me: 0, friend: 1, foaf: 2, other: 1}},
	} {
		store(t, l, step.raw)
		x.caughtUp()
		want := map[identity.ID]int{}
		for a, d := range step.want {
			want[a.id()] = d
		}
		if diff := cmp.Diff(want, x.HopsAll()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.say, diff)
		}
	}
	if d, ok := x.Hops(far.id()); ok {
		t.Errorf("somebody out of range is at %d", d)
	}
}

// The range is what Options say now, whatever it was when the index was made.
func TestHopsOfAnotherRange(t *testing.T) {
	t.Parallel()
	p := newAuthors(4)
	l := openLog(t)
	for i := range 3 {
		store(t, l, p[i].sign(t, contentFollow(p[i+1].id())))
	}
	dir := subdir(t)
	for _, tc := range []struct{ hops, want int }{{2, 3}, {-1, 1}, {0, 1}, {1, 2}, {3, 4}, {math.MaxInt, 4}} {
		x := start(t, Options{Dir: dir, Log: l, Self: p[0].id(), Hops: tc.hops}).caughtUp()
		if got := x.WantedFeeds(); len(got) != tc.want || got[0] != p[0].id() {
			t.Errorf("with %d hops %d feeds are wanted, want %d", tc.hops, len(got), tc.want)
		}
		if err := x.stop(); err != nil {
			t.Error(err)
		}
	}
}
