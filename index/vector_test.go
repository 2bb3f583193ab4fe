package index

import (
	"encoding/json"
	"regexp"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"charkha/identity"
	"charkha/internal/vectors"
	"charkha/log"
)

const fixtures = "feeds-fixtures"

var (
	reportMain  = regexp.MustCompile(`The main feed is (@\S+)`)
	reportTypes = regexp.MustCompile(`There are (\d+) msgs of type "(\w+)"`)
	reportHops  = regexp.MustCompile(`There are (\d+) msgs from hop (\d+)(\+?)`)
)

// loadFixtures appends the messages of the set to a new log.
func loadFixtures(t *testing.T) (l *log.Log, report string, self identity.ID) {
	t.Helper()
	report = string(vectors.Read(t, fixtures, "report.md"))
	found := reportMain.FindStringSubmatch(report)
	if found == nil {
		t.Fatal("report.md names no main feed")
	}
	self, err := identity.ParseID(found[1])
	if err != nil {
		t.Fatal(err)
	}
	l = openLog(t)
	var raws [][]byte
	for _, m := range vectors.JSONLines[struct{ Value json.RawMessage }](t, fixtures, "messages.jsonl.gz") {
		raws = append(raws, m.Value)
	}
	store(t, l, raws...)
	return l, report, self
}

// The graph that ssb-friends computed of the same messages: true a follow, false a block, null neither.
func TestVectorFollowGraph(t *testing.T) {
	t.Parallel()
	l, _, self := loadFixtures(t)
	x := start(t, Options{Log: l, Self: self, Hops: 2}).caughtUp()
	want := map[identity.ID]map[identity.ID]edge{}
	cases := 0
	for from, out := range vectors.JSON[map[identity.ID]map[identity.ID]*bool](t, fixtures, "follow-graph.json") {
		for to, follow := range out {
			e := neither
			switch {
			case follow != nil && *follow:
				e = follows
			case follow != nil:
				e = blocks
			}
			if want[from] == nil {
				want[from] = map[identity.ID]edge{}
			}
			want[from][to] = e
			cases++
			if got := x.Follows(from, to); got != (e == follows) {
				t.Errorf("Follows(%s, %s) = %v", from.Short(), to.Short(), got)
			}
			if got := x.Blocks(from, to); got != (e == blocks) {
				t.Errorf("Blocks(%s, %s) = %v", from.Short(), to.Short(), got)
			}
		}
	}
	if cases == 0 {
		t.Fatal("no edges in follow-graph.json")
	}
	if diff := cmp.Diff(want, graphOf(x.Index)); diff != "" {
		t.Errorf("graph differs from that of ssb-friends (-want +got):\n%s", diff)
	}
	// The graph that is read from disk is the one that was built.
	dir := x.o.Dir
	if err := x.stop(); err != nil {
		t.Fatal(err)
	}
	again := start(t, Options{Dir: dir, Log: l, Self: self, Hops: 2})
	if diff := cmp.Diff(want, graphOf(again.Index)); diff != "" {
		t.Errorf("graph after reopening (-want +got):\n%s", diff)
	}
}

// report.md counts the messages of each type and of the feeds at each distance from the main feed.
func TestVectorReport(t *testing.T) {
	t.Parallel()
	l, report, self := loadFixtures(t)
	types := map[string]int{}
	authors := map[identity.ID]int{}
	for m, err := range l.Arrivals(0, false) {
		if err != nil {
			t.Fatal(err)
		}
		authors[m.Author()]++
		switch typ := m.Type(); typ {
		case "":
			types["private"]++
		case "post", "vote", "about", "contact":
			types[typ]++
		default:
			types["other"]++
		}
	}
	// What the index goes by is what the report's author saw.
	wantTypes := map[string]int{}
	for _, m := range reportTypes.FindAllStringSubmatch(report, -1) {
		wantTypes[m[2]], _ = strconv.Atoi(m[1])
	}
	for typ := range wantTypes {
		if _, ok := types[typ]; !ok && wantTypes[typ] > 0 {
			t.Errorf("no messages of type %q", typ)
		}
	}
	for _, typ := range []string{"post", "vote", "about", "contact", "private"} {
		if types[typ] != wantTypes[typ] {
			t.Errorf("%d messages of type %q, want %d", types[typ], typ, wantTypes[typ])
		}
	}

	rows := reportHops.FindAllStringSubmatch(report, -1)
	if len(rows) == 0 {
		t.Fatal("report.md counts no messages per hop")
	}
	most := 0
	for _, row := range rows {
		if row[3] == "" {
			n, _ := strconv.Atoi(row[2])
			most = max(most, n)
		}
	}
	// The report goes by a simpler graph than ssb-friends: a block neither ends a follow nor hides anybody.
	followed := graph{numbers: map[identity.ID]uint32{}}
	followed.number(self)
	for m, err := range l.Arrivals(0, false) {
		if err != nil {
			t.Fatal(err)
		}
		var c struct {
			Contact   identity.ID
			Following *bool
		}
		if m.Type() != "contact" || json.Unmarshal(m.Content(), &c) != nil || c.Following == nil {
			continue
		}
		e := neither
		if *c.Following {
			e = follows
		}
		followed.set(contact{m.Author(), c.Contact, e})
	}
	reported := map[identity.ID]int{}
	for n, d := range followed.distances(0, most) {
		if d >= 0 {
			reported[followed.ids[n]] = int(d)
		}
	}
	got := map[string]int{}
	for feed, n := range authors {
		if d, ok := reported[feed]; ok {
			got[strconv.Itoa(d)] += n
		} else {
			got["beyond"] += n
		}
	}
	want := map[string]int{}
	for _, row := range rows {
		n, _ := strconv.Atoi(row[1])
		if n == 0 {
			continue
		}
		if row[3] == "" {
			want[row[2]] = n
		} else {
			want["beyond"] += n
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages per distance (-want +got):\n%s", diff)
	}

	// Blocks only ever take people out of range, or make the way to them longer.
	x := start(t, Options{Log: l, Self: self, Hops: most}).caughtUp()
	for feed, d := range x.HopsAll() {
		if r, ok := reported[feed]; d >= 0 && (!ok || d < r) {
			t.Errorf("%s is at %d, without blocks at %d (%v)", feed.Short(), d, r, ok)
		}
	}
	posts := 0
	for m, err := range l.Arrivals(0, false) {
		if err == nil && m.Type() == "post" && x.Wanted(m.Author()) {
			posts++
		}
	}
	if got := timelineOf(t, x.Index, 0); len(got) != posts {
		t.Errorf("timeline has %d posts, the feeds in range %d", len(got), posts)
	}
}

// graphOf is a copy of the graph.
func graphOf(x *Index) map[identity.ID]map[identity.ID]edge {
	c := x.contacts
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := map[identity.ID]map[identity.ID]edge{}
	for from, edges := range c.graph.out {
		if len(edges) > 0 {
			out[c.graph.ids[from]] = map[identity.ID]edge{}
		}
		for to, e := range edges {
			out[c.graph.ids[from]][c.graph.ids[to]] = e
		}
	}
	return out
}

func timelineOf(t testing.TB, x *Index, limit int) (all []log.Message) {
	t.Helper()
	for m, err := range x.Timeline(limit) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}
