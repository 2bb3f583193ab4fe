package sched

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"charkha/identity"
)

// connJSON is in the form that npm ssb-conn-db 1.0.5 writes.
const connJSON = `{
  "net:hermies.club:8008~shs:uMiN0TRVMGVNTQUb6KCbiOi/8UQYcyojiA83rCghxGo=": {
    "key": "@uMiN0TRVMGVNTQUb6KCbiOi/8UQYcyojiA83rCghxGo=.ed25519",
    "type": "pub", "source": "pub", "birth": 1552390130000, "failure": 3, "stateChange": 1700000000000,
    "duration": {"mean": 200, "stdev": 10, "count": 4, "sum": 800, "sqsum": 160400},
    "ping": {"rtt": {"mean": 3}}, "note": "the club"
  },
  "net:room.example:8008~shs:V9nXgu2MYzbFQW2ysGAlpUmhYIdsEGKD9XXB5ssVmD4=": {"type": "room", "membership": true, "autoconnect": true},
  "net:far.example:8008~shs:51w4nYL0k7mVzDGw20KqCjt35y8qLiopLRJcnpDXv3Y=": {"type": "pub", "autoconnect": false},
  "bt:B0C6A1~shs:51w4nYL0k7mVzDGw20KqCjt35y8qLiopLRJcnpDXv3Y=": {"type": "bt", "birth": 5},
  "nonsense": 7
}` + "}}"

func TestConnJSON(t *testing.T) {
	saved, err := Parse([]byte(connJSON))
	if err != nil {
		t.Fatal(err)
	}
	if len(saved) != 4 {
		t.Fatalf("%d entries: %+v", len(saved), saved)
	}
	var club Saved
	for _, v := range saved {
		if v.Address.Host == "hermies.club" {
			club = v
		}
	}
	if club.Kind != Pub || club.Source != "pub" || club.Failures != 3 || !club.StateChange.Equal(time.UnixMilli(1700000000000)) ||
		club.Birth.UnixMilli() != 1552390130000 || club.Duration.Count != 4 || club.Extra["note"] == nil {
		t.Errorf("%+v", club)
	}
	back := Marshal(saved)
	again, err := Parse(back)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(Marshal(again), back) {
		t.Errorf("written and read:\n%s\n%s", back, Marshal(again))
	}
	// Every field is there again, whatever it means.
	var want, got map[string]map[string]any
	_ = json.NewDecoder(strings.NewReader(strings.Replace(connJSON, `"nonsense": 7`, `"x": {}`, 1))).Decode(&want)
	delete(want, "x")
	if err := json.Unmarshal(back, &got); err != nil {
		t.Fatal(err)
	}
	for text, fields := range want {
		for name, v := range fields {
			if diff := cmp.Diff(v, got[text][name]); diff != "" {
				t.Errorf("%s %s: %s", text, name, diff)
			}
		}
	}

	// The pause goes on where it was.
	now := club.StateChange.Add(time.Second)
	s := New(now, Options{Self: id(0)}, saved)
	if n, _ := s.Sizes(); n != 3 {
		t.Fatalf("%d addresses", n)
	}
	dial, _, _ := s.Next(now)
	if slices.ContainsFunc(dial, func(a identity.Address) bool { return a == club.Address }) || len(dial) != 2 {
		t.Errorf("dials %v a second after the third failure", dial)
	}
	if st := s.Of(now, club.Address.Key)[0]; st.State != Waiting || !strings.Contains(st.Why, "after 3 failures") {
		t.Errorf("%+v", st)
	}
	out := Marshal(s.Saved())
	for _, part := range []string{`"note": "the club"`, `"bt:B0C6A1`, `"membership": true`, `"autoconnect": true`} {
		if !strings.Contains(string(out), part) {
			t.Errorf("%s is not written back:\n%s", part, out)
		}
	}
}

func TestGossipJSON(t *testing.T) {
	saved, err := Parse([]byte(`[
		{"host": "pub.example", "port": 8008, "key": "@uMiN0TRVMGVNTQUb6KCbiOi/8UQYcyojiA83rCghxGo=.ed25519", "source": "friends", "state": "connected", "failure": 1, "stateChange": 1600000000000},
		{"address": "net:p2.example:8008~shs:V9nXgu2MYzbFQW2ysGAlpUmhYIdsEGKD9XXB5ssVmD4=", "source": "pub", "announcers": {"length": 2}},
		{"host": "192.168.1.5", "port": "8008", "key": "@51w4nYL0k7mVzDGw20KqCjt35y8qLiopLRJcnpDXv3Y=.ed25519", "source": "local"},
		{"host": "x"}, 5, null]`))
	if err != nil {
		t.Fatal(err)
	}
	if len(saved) != 2 || saved[0].Address.String() != "net:pub.example:8008~shs:uMiN0TRVMGVNTQUb6KCbiOi/8UQYcyojiA83rCghxGo=" ||
		saved[0].Failures != 1 || saved[1].Kind != Pub || saved[1].Extra["announcers"] == nil {
		t.Errorf("%+v", saved)
	}
	for _, bad := range []string{`7`, `"x"`, `{"a"`, `null`} {
		if v, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s reads as %v", bad, v)
		}
	}
	if v, err := Parse([]byte(" \n")); err != nil || v != nil {
		t.Errorf("an empty file: %v %v", v, err)
	}
}

// What one node saved, the next one goes on with: no address is dialled earlier because of a restart.
func TestPausesSurviveRestarts(t *testing.T) {
	w := newWorld(t, Options{})
	for n := 1; n <= 3; n++ {
		w.s.Offer(w.now, addr(n), Pub, "invite")
	}
	w.until(6*time.Hour, func(a identity.Address) {
		if a.Key == id(3) {
			w.connected(3)
			w.s.News(w.now, id(3), 1)
		} else {
			w.failed(int(a.Key[0]))
		}
	})
	saved, err := Parse(Marshal(w.s.Saved()))
	if err != nil || len(saved) != 3 {
		t.Fatalf("%v %v", saved, err)
	}
	w2 := newWorld(t, Options{}, saved...)
	w2.now = w.now.Add(time.Second)
	w2.s = New(w2.now, w2.s.o, saved)
	dial, _ := w2.next()
	if !slices.Equal(dialled(dial), []int{3}) {
		t.Errorf("after the restart %v are dialled", dialled(dial))
	}
	if st := w2.s.Of(w2.now, id(1)); st[0].Failures < 8 || st[0].Until.IsZero() {
		t.Errorf("%+v", st)
	}
	w2.until(time.Hour+time.Minute, func(identity.Address) {})
	if w2.tried[id(1)].IsZero() {
		t.Error("not dialled when the pause was over")
	}
	// A clock that went back does not make it wait for years.
	w3 := newWorld(t, Options{}, saved...)
	w3.now = w.now.Add(-1000 * time.Hour)
	w3.s = New(w3.now, w3.s.o, saved)
	w3.until(time.Hour+time.Minute, func(identity.Address) {})
	if w3.tried[id(1)].IsZero() {
		t.Error("not dialled within an hour though the clock went back")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(connJSON))
	f.Add([]byte(`[{"host":"a","port":1,"key":"@uMiN0TRVMGVNTQUb6KCbiOi/8UQYcyojiA83rCghxGo=.ed25519"}]`))
	f.Add([]byte(`{"net:a:1~shs:uMiN0TRVMGVNTQUb6KCbiOi/8UQYcyojiA83rCghxGo=":{"failure":1e9,"duration":{"sqsum":1e308,"count":1}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		saved, err := Parse(b)
		if err != nil {
			return
		}
		out := Marshal(saved)
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if got := Marshal(again); !bytes.Equal(got, out) {
			t.Fatalf("%s\nthen\n%s", out, got)
		}
		s := New(epoch, Options{Self: id(0)}, saved)
		dial, _, _ := s.Next(epoch)
		for _, a := range dial {
			s.Failed(epoch, a, nil)
		}
		for _, st := range s.Statuses(epoch) {
			if st.Why == "" {
				t.Fatalf("%+v", st)
			}
		}
		if _, err := Parse(Marshal(s.Saved())); err != nil {
			t.Fatal(err)
		}
	})
}
