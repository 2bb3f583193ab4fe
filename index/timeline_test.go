package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"charkha/identity"
	"charkha/log"
)

// texts is the text of posts, quotes and all.
func texts(t testing.TB, posts []log.Message) (all []string) {
	t.Helper()
	for _, m := range posts {
		fields := fieldsOf(m.Content())
		all = append(all, fmt.Sprint(fields["text"]))
	}
	return all
}

func TestTimelineOrder(t *testing.T) {
	t.Parallel()
	me, friend := newAuthor(0), newAuthor(1)
	l := openLog(t)
	store(t, l,
		me.sign(t, contentFollow(friend.id())),
		// The author's order, not that of arrival.
		friend.signAt(t, "1500000000000", contentPost("2017")),
		friend.signAt(t, "1600000000000", contentPost("2020")),
		me.signAt(t, "1550000000000", contentPost("2019")),
		// Fractions count; of one time, the later message of a feed is the newer one.
		friend.signAt(t, "1600000000000.5", contentPost("2020 and a bit")),
		friend.signAt(t, "1600000000000", contentPost("2020 again")),
		// Before 1970.
		friend.signAt(t, "-1", contentPost("before")),
		friend.signAt(t, "0", contentPost("at")),
		friend.signAt(t, "-1e+300", contentPost("big bang")),
		friend.signAt(t, "5e-324", contentPost("smallest")),
		// The future is when it arrived.
		friend.signAt(t, "1.7976931348623157e+308", contentPost("end of time")),
		friend.signAt(t, "9007199254740993000", contentPost("far future")),
		me.signAt(t, "99999999999999", contentPost("year 5138")),
	)
	x := start(t, Options{Log: l, Self: me.id(), Hops: 1}).caughtUp()
	want := []string{"year 5138", "far future", "end of time", "2020 and a bit", "2020 again", "2020", "2019", "2017",
		"smallest", "big bang", "at", "before"}
	if diff := cmp.Diff(want, texts(t, timelineOf(t, x.Index, 0))); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
	for limit := range len(want) + 2 {
		got := texts(t, timelineOf(t, x.Index, limit))
		if n := min(limit, len(want)); limit > 0 && !slices.Equal(got, want[:n]) {
			t.Errorf("with limit %d: %q", limit, got)
		}
	}
	// What comes next stands above all claims of the future, and they stay in the order in which they came.
	store(t, l, friend.signAt(t, "99999999999999", contentPost("newest")))
	x.caughtUp()
	want = append([]string{"newest"}, want...)
	if diff := cmp.Diff(want, texts(t, timelineOf(t, x.Index, 0))); diff != "" {
		t.Errorf("timeline after one more post (-want +got):\n%s", diff)
	}
	// Nothing moves when the index is built anew.
	again := start(t, Options{Log: l, Self: me.id(), Hops: 1}).caughtUp()
	if diff := cmp.Diff(want, texts(t, timelineOf(t, again.Index, 0))); diff != "" {
		t.Errorf("timeline of an index built anew (-want +got):\n%s", diff)
	}
}

// Null is what JSON makes of a number too big, or not a number: the signature covers that.
func TestTimelineOfTimestampsThatAreNone(t *testing.T) {
	t.Parallel()
	l := openLog(t)
	a := newAuthor(0)
	store(t, l, a.sign(t, contentPost("first")))
	raw := a.signAt(t, "null", contentPost("none"))
	results, err := l.Append([][]byte{raw})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"first"}
	if results[0].Status == log.Stored {
		want = append(want, "none")
	}
	x := start(t, Options{Log: l, Self: a.id()}).caughtUp()
	if diff := cmp.Diff(want, texts(t, timelineOf(t, x.Index, 0))); diff != "" {
		t.Errorf("timeline, null being %s (-want +got):\n%s", results[0].Status, diff)
	}
}

func TestTimelineHasPublicPostsInRange(t *testing.T) {
	t.Parallel()
	p := newAuthors(5)
	me, friend, foaf, stranger, enemy := p[0], p[1], p[2], p[3], p[4]
	l := openLog(t)
	for _, a := range p {
		store(t, l, a.sign(t, contentPost("of "+a.id().Short())))
	}
	store(t, l,
		me.sign(t, contentFollow(friend.id())),
		friend.sign(t, contentFollow(foaf.id())),
		friend.sign(t, contentFollow(enemy.id())),
		me.sign(t, contentBlock(enemy.id())),
		foaf.sign(t, contentFollow(stranger.id())),
		// None of these is a public post.
		me.sign(t, `"c2VjcmV0.box"`),
		me.sign(t, `{"type":"Post","text":"no"}`),
		me.sign(t, `{"type":"posts","text":"no"}`),
		me.sign(t, `{"type":"vote","post":{"type":"post"}}`),
		// These are, whatever is in them.
		me.sign(t, `{"type":"post"}`),
		me.sign(t, `{"type":"post","text":[[[{"a":null}]]],"root":7}`),
		me.sign(t, `{"text":"type at the end","type":"post"}`),
	)
	x := start(t, Options{Log: l, Self: me.id(), Hops: 2}).caughtUp()
	of := func() map[identity.ID]int {
		all := map[identity.ID]int{}
		for _, m := range timelineOf(t, x.Index, 0) {
			all[m.Author()]++
		}
		return all
	}
	if diff := cmp.Diff(map[identity.ID]int{me.id(): 4, friend.id(): 1, foaf.id(): 1}, of()); diff != "" {
		t.Errorf("posts by author (-want +got):\n%s", diff)
	}
	// Live: a block takes posts away at once, an unblock and a follow bring them back.
	store(t, l, me.sign(t, contentBlock(friend.id())))
	x.caughtUp()
	if diff := cmp.Diff(map[identity.ID]int{me.id(): 4}, of()); diff != "" {
		t.Errorf("after blocking a friend (-want +got):\n%s", diff)
	}
	store(t, l, me.sign(t, contentFollow(friend.id())), me.sign(t, contentUnblock(enemy.id())), me.sign(t, contentFollow(stranger.id())))
	x.caughtUp()
	if diff := cmp.Diff(map[identity.ID]int{me.id(): 4, friend.id(): 1, foaf.id(): 1, enemy.id(): 1, stranger.id(): 1}, of()); diff != "" {
		t.Errorf("after making up with everybody (-want +got):\n%s", diff)
	}
}

// The timeline is read in pieces: those add up to the whole, also when some of it is out of range, and when more comes or people
// are blocked in the middle.
func TestTimelineOverManyPieces(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 4))
	me, friend, stranger := newAuthor(0), newAuthor(1), newAuthor(2)
	l := openLog(t)
	raws := [][]byte{me.sign(t, contentFollow(friend.id()))}
	type stamp struct {
		at  int64
		who *author
		seq int64
	}
	var want []stamp
	for i := range 5 * rowsChunk / 2 {
		a := []*author{me, friend, stranger}[rng.IntN(3)]
		at := 1500000000000 + rng.Int64N(300)
		raws = append(raws, a.signAt(t, fmt.Sprint(at), contentPost(fmt.Sprint(i))))
		if a != stranger {
			want = append(want, stamp{at, a, a.seq})
		}
	}
	store(t, l, raws...)
	x := start(t, Options{Log: l, Self: me.id(), Hops: 1}).caughtUp()
	all := timelineOf(t, x.Index, 0)
	if len(all) != len(want) {
		t.Fatalf("%d posts, want %d", len(all), len(want))
	}
	got := map[stamp]bool{}
	for i, m := range all {
		a := me
		if m.Author() == friend.id() {
			a = friend
		}
		s := stamp{int64(m.Timestamp()), a, m.Sequence()}
		if i > 0 {
			last := all[i-1]
			if s.at > int64(last.Timestamp()) || s.at == int64(last.Timestamp()) && last.Author() == m.Author() && last.Sequence() < s.seq {
				t.Errorf("post %d of time %d/%d stands after one of %f/%d", i, s.at, s.seq, last.Timestamp(), last.Sequence())
			}
		}
		got[s] = true
	}
	for _, s := range want {
		if !got[s] {
			t.Errorf("post %v is not in the timeline", s)
		}
	}
	for _, limit := range []int{1, rowsChunk - 1, rowsChunk, rowsChunk + 1, len(all) - 1, len(all), len(all) + 1, -1} {
		part := timelineOf(t, x.Index, limit)
		n := limit
		if limit < 0 || limit > len(all) {
			n = len(all)
		}
		if diff := cmp.Diff(placesOf(all[:n]), placesOf(part)); diff != "" {
			t.Errorf("with limit %d (-want +got):\n%s", limit, diff)
		}
	}

	n := 0
	for m, err := range x.Timeline(0) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 10 {
			store(t, l, me.sign(t, contentBlock(friend.id())), me.sign(t, contentPost("meanwhile")))
			x.caughtUp()
		}
		if n > 10 && m.Author() != me.id() {
			t.Fatal("a post of somebody who was blocked in the middle")
		}
	}
	if first := timelineOf(t, x.Index, 1); len(first) != 1 || texts(t, first)[0] != "meanwhile" {
		t.Errorf("the next timeline begins with %q", texts(t, first))
	}
}

func TestTimelineOfNobody(t *testing.T) {
	t.Parallel()
	x := start(t, Options{Log: openLog(t), Self: key(0).ID()}).caughtUp()
	if got := timelineOf(t, x.Index, 0); len(got) != 0 {
		t.Errorf("timeline of an empty log has %d posts", len(got))
	}
	if got := x.WantedFeeds(); len(got) != 1 || got[0] != key(0).ID() {
		t.Errorf("wanted with an empty log: %v", got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	p := newAuthors(8)
	me, friend, other, third, stranger, enemy := p[0], p[1], p[2], p[3], p[4], p[5]
	l := openLog(t)
	for _, a := range []*author{friend, other, third} {
		store(t, l, me.sign(t, contentFollow(a.id())))
	}
	store(t, l, me.sign(t, contentBlock(enemy.id())))
	x := start(t, Options{Log: l, Self: me.id(), Hops: 1})
	about := func(by *author, name string) []byte { return by.sign(t, contentAbout(friend.id(), name)) }
	for _, step := range []struct {
		say, want string
		raw       []byte
	}{
		{"nobody gave one", "", me.sign(t, contentPost("hello"))},
		{"a stranger's does not count", "", about(stranger, `"Evil"`)},
		{"nor an enemy's", "", about(enemy, `"Evil"`)},
		{"somebody's", "Frank", about(other, `"Frank"`)},
		{"of two, always the same", "Fran", about(third, `"Fran"`)},
		{"its own", "Fred", about(friend, `"Fred"`)},
		{"its own last one", "Freddy", about(friend, `"Freddy"`)},
		{"others change nothing", "Freddy", about(third, `"Frank"`)},
		{"what is no name changes nothing", "Freddy", about(friend, `["Evil"]`)},
		{"nor an empty one", "Freddy", about(friend, `""`)},
		{"nor one that cannot be seen", "Freddy", about(friend, "\"\u202e\u2066\"")},
		{"nor a message that says something else", "Freddy", friend.sign(t, fmt.Sprintf(`{"type":"about","about":"%s","description":"me"}`, friend.id()))},
		{"it is cleaned", "Fred the great", about(friend, "\"\u202eFred \u2066 the\u200b   great\"")},
		{"mine", "My friend", about(me, `"My friend"`)},
		{"mine, not its newest", "My friend", about(friend, `"Bob"`)},
		{"I take mine back", "Bob", about(me, `{"remove":true}`)},
		{"it takes its own back: what most say", "Frank", about(friend, `{"remove":true}`)},
		{"all but one take theirs back", "Frank", about(third, `{"remove":true}`)},
		{"all do", "", about(other, `{"remove":true}`)},
		{"an enemy is called what it calls itself", "", enemy.sign(t, contentAbout(enemy.id(), `"Eve"`))},
	} {
		store(t, l, step.raw)
		if got := x.caughtUp().Name(friend.id()); got != step.want {
			t.Errorf("%s: %q, want %q", step.say, got, step.want)
		}
	}
	if got := x.Name(enemy.id()); got != "Eve" {
		t.Errorf("the enemy's name is %q", got)
	}
	checkSame(t, x)
}
