package log

import "testing"

// The allocations for a message are bounded. Badger makes most of them: DESIGN.md has what was measured.
func TestAllocations(t *testing.T) {
	raws := fixtures(t)
	if len(raws) == 0 {
		t.Fatal("no messages")
	}
	perMessage := func(runs int, do func()) float64 { return testing.AllocsPerRun(runs, do) / float64(len(raws)) }
	dir := ""
	var l *Log
	bound := func(what string, got, most float64) {
		t.Helper()
		t.Logf("%s: %.1f allocations", what, got)
		if got > most {
			t.Errorf("%s: %.1f allocations for a message, at most %.0f are allowed", what, got, most)
		}
	}
	bound("append", perMessage(1, func() {
		dir = t.TempDir()
		l = open(t, Options{Dir: dir})
		appendAll(t, l, raws...)
	}), 42)
	bound("append again", perMessage(1, func() { appendAll(t, l, raws...) }), 16)
	messages := collect(t, l.Arrivals(0, false))
	if len(messages) != len(raws) {
		t.Fatalf("%d of %d messages", len(messages), len(raws))
	}
	reopen := func() { // nothing is in memory then, and all is in tables
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, Options{Dir: dir})
	}
	reopen()
	bound("get", perMessage(1, func() {
		for i := range messages {
			if _, err := l.Get(messages[i].Key()); err != nil {
				t.Fatal(err)
			}
		}
	}), 42)
	bound("at", perMessage(1, func() {
		for i := range messages {
			if _, err := l.At(messages[i].Author(), messages[i].Sequence()); err != nil {
				t.Fatal(err)
			}
		}
	}), 23)
	bound("at many", perMessage(1, func() {
		if _, err := l.AtMany(nil, placesOf(messages)); err != nil {
			t.Fatal(err)
		}
	}), 22)
	bound("feed", perMessage(1, func() {
		for id := range l.Heads() {
			collect(t, l.Feed(id, Range{}))
		}
	}), 4)
	bound("arrivals", perMessage(1, func() { collect(t, l.Arrivals(0, false)) }), 25)
	reopen()
	last := l.Len() - recentSize/2
	collect(t, l.Arrivals(l.Len(), true)) // keeps what is read
	bound("what came last", perMessage(1, func() { collect(t, l.Arrivals(last, false)) }), 1)
}
