package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"charkha/identity"
)

func tell(dest any, more ...any) object {
	o := object{"type": "about", "about": dest}
	for i := 0; i < len(more); i += 2 {
		o[more[i].(string)] = more[i+1]
	}
	return o
}

func (w *world) wantAnswer(want, method string, args ...any) {
	w.Helper()
	if got := w.call(method, args...); !sameJSON(got, want) {
		w.Errorf("%s %v: %s, want %s", method, args, got, want)
	}
}

// sameJSON reports whether two JSON texts say the same.
func sameJSON(x, y string) bool {
	var a, b any
	return json.Unmarshal([]byte(x), &a) == nil && json.Unmarshal([]byte(y), &b) == nil && reflect.DeepEqual(a, b)
}

var removed = object{"remove": true}

func TestAboutValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me, bob := w.api.Key.ID(), identity.ID{77}
	a, b, c := w.writer(2), w.writer(3), w.writer(4)
	name := object{"dest": bob, "key": "name"}
	want := func(social, latest string) {
		t.Helper()
		w.wantAnswer(social, "about.socialValue", name)
		w.wantAnswer(latest, "about.latestValue", name)
	}
	want("null", "null")
	w.wantAnswer("{}", "about.socialValues", name)
	a.say(tell(bob, "name", "Rob"))
	want(`"Rob"`, `"Rob"`)
	b.say(tell(bob, "name", "Bobby"))
	want(`"Rob"`, `"Bobby"`) // of two that are as common, the first
	c.say(tell(bob, "name", object{"link": bob, "x": 1}))
	a.say(tell(bob, "name", "Bobby", "image", object{"link": "&x"}))
	want(`"Bobby"`, `"Bobby"`)
	c.say(tell(bob, "name", 7))
	c.say(tell(bob, "name", ""))
	c.say(tell(bob, "other", "x"))
	c.say(tell(a.id, "name", "Alice"))
	c.say(tell(object{"link": bob}, "name", "of no form"))
	c.say(object{"type": "post", "about": bob, "name": "no about"})
	w.wantAnswer(fmt.Sprintf(`{%q:"Bobby",%q:"Bobby",%q:7}`, a.id, b.id, c.id), "about.socialValues", name)
	want(`"Bobby"`, `""`)
	// Somebody takes back what they said.
	a.say(tell(bob, "name", removed))
	b.say(tell(bob, "name", removed))
	want(`null`, `""`)
	c.say(tell(bob, "name", removed))
	want(`null`, `null`)
	w.wantAnswer("{}", "about.socialValues", name)
	// Ours counts, whatever it is.
	a.say(tell(bob, "name", "Rob"))
	w.say(tell(bob, "name", object{"any": "thing"}))
	want(`{"any":"thing"}`, `{"any":"thing"}`)
	w.say(tell(bob, "name", removed))
	want(`"Rob"`, `"Rob"`)
	// What is said in private counts for us.
	w.say(tell(bob, "name", "Between us", "recps", []any{me}))
	want(`"Between us"`, `"Between us"`)

	// Then what it says itself.
	for _, say := range []struct {
		wr   *writer
		name string
	}{{a, "1"}, {b, "1"}, {c, "self"}, {a, "2"}} {
		say.wr.say(tell(c.id, "name", say.name, "image", "&"+say.name, "hosting", false))
	}
	w.wantAnswer(`"self"`, "about.socialValue", object{"dest": c.id, "key": "name"})
	w.wantAnswer(`{"hosting":false,"name":"2"}`, "about.latestValues", object{"dest": c.id, "keys": []string{"name", "hosting", "nothing"}})
	w.wantAnswer(`{}`, "about.latestValues", object{"dest": c.id, "keys": []string{}})
	w.wantAnswer(`false`, "about.latestValue", object{"dest": c.id, "key": "hosting"})
	w.wantAnswer(`null`, "about.socialValue", object{"dest": c.id, "key": "hosting"})

	// Of a message, its author counts.
	gathering := a.say(object{"type": "gathering"})
	b.say(tell(gathering.Key, "title", "Spinning"))
	c.say(tell(gathering.Key, "title", "Spinning"))
	a.say(tell(gathering.Key, "title", "Carding"))
	title := object{"dest": gathering.Key, "key": "title"}
	w.wantAnswer(`"Carding"`, "about.socialValue", title)
	for _, bad := range []any{nil, 7, object{}, object{"key": "name"}, object{"dest": bob}, object{"dest": identity.MsgID{4}, "key": "title"}} {
		w.refused("about.socialValue", bad)
	}
	w.wantAnswer(`null`, "about.socialValue", object{"dest": "nothing", "key": "title"})
	w.refused("about.latestValues", object{"dest": bob})

	// A blocked one has a say on nothing but their own.
	w.call("friends.block", a.id)
	w.call("friends.block", c.id)
	w.wantAnswer(fmt.Sprintf(`{%q:"Carding",%q:"Spinning"}`, a.id, b.id), "about.socialValues", title)
	w.wantAnswer(`"self"`, "about.socialValue", object{"dest": c.id, "key": "name"})
}

func TestAboutByClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.writer(2), w.writer(3)
	a.say(tell(a.id, "colour", "red"))
	b.now = b.now.AddDate(-40, 0, 0)
	b.say(tell(a.id, "colour", "grey"))
	w.wantAnswer(`"red"`, "about.latestValue", object{"dest": a.id, "key": "colour"})
}

func TestAboutStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.writer(2), w.writer(3)
	dest := a.id
	name := func(more ...any) object { return tell(dest, append([]any{"name"}, more...)...) }
	opts := options{"dest": dest, "key": "name"}
	b.say(name("one"))
	social, all, latest := w.open("about.socialValueStream", opts.with()), w.open("about.socialValuesStream", opts.with()), w.open("about.latestValueStream", opts.with())
	of := w.open("about.latestValueStream", opts.with("authorId", w.api.Key.ID()))
	read := w.open("about.read", object{"dest": dest, "live": true})
	want := func(wantSocial, wantAll, wantLatest string) {
		t.Helper()
		for i, got := range []string{w.recv(social), w.recv(all), w.recv(latest)} {
			if want := []string{wantSocial, wantAll, wantLatest}[i]; got != want {
				t.Errorf("%s: %s, want %s", []string{"socialValueStream", "socialValuesStream", "latestValueStream"}[i], got, want)
			}
		}
	}
	want(`"one"`, fmt.Sprintf(`{%q:"one"}`, b.id), `"one"`)
	if got := w.recv(of); got != "null" {
		t.Errorf("latestValueStream of who said nothing: %s", got)
	}
	contents := func(items ...string) (all []string) {
		for _, item := range items {
			m := w.parse(item)
			var content map[string]any
			w.check(json.Unmarshal(m.Value.Content, &content))
			all = append(all, fmt.Sprint(content["name"], content["image"]))
		}
		return all
	}
	// What is said after this is new to all of the streams.
	if got := contents(w.recv(read)); got[0] != "one<nil>" {
		t.Errorf("read: %v", got)
	}
	if got := w.recv(read); got != `{"sync":true}` {
		t.Errorf("read: %s", got)
	}
	b.say(tell(dest, "image", "&x")) // nothing of the name
	a.say(name("self"))
	want(`"self"`, fmt.Sprintf(`{%q:"self"}`, a.id), `"self"`)
	w.say(name("mine"))
	want(`"mine"`, fmt.Sprintf(`{%q:"mine"}`, w.api.Key.ID()), `"mine"`)
	b.say(name("two"))
	want(`"mine"`, fmt.Sprintf(`{%q:"two"}`, b.id), `"two"`)
	w.say(name(removed))
	want(`"self"`, fmt.Sprintf(`{%q:{"remove":true}}`, w.api.Key.ID()), `"two"`)
	for _, want := range []string{`"mine"`, "null"} {
		if got := w.recv(of); got != want {
			t.Errorf("latestValueStream of one: %s, want %s", got, want)
		}
	}
	if got := contents(w.recv(read), w.recv(read)); !slices.Equal(got, []string{"<nil>&x", "self<nil>"}) {
		t.Errorf("read: %v", got)
	}
	if got := contents(w.all("about.read", object{"dest": dest, "reverse": true, "limit": 2})...); len(got) != 2 || got[1] != "two<nil>" {
		t.Errorf("read: %v", got)
	}
	if got := w.all("about.read", object{"dest": dest, "limit": 0}); len(got) != 0 {
		t.Errorf("read: %v", got)
	}
	got := w.since("about.read", object{"dest": dest, "live": true, "old": false}, func() string {
		return fmt.Sprintf(`"key":%q`, b.say(name("tick")).Key)
	}, func() { a.say(name("three")) })
	if got := contents(got...); !slices.Equal(got, []string{"three<nil>"}) {
		t.Errorf("read of what is new: %v", got)
	}
}

func TestAboutSelf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.writer(2), w.writer(3)
	w.wantAnswer("{}", "aboutSelf.get", a.id)
	a.say(tell(a.id, "name", "A", "image", object{"link": "&1"}))
	b.say(tell(a.id, "name", "not this"))
	a.say(tell(b.id, "name", "nor this"))
	a.say(tell(a.id, "name", 7, "description", "d", "publicWebHosting", true))
	want := `{"name":"A","description":"d","image":"&1","publicWebHosting":true}`
	w.wantAnswer(want, "aboutSelf.get", a.id)
	s := w.open("aboutSelf.stream", a.id)
	if got := w.recv(s); !sameJSON(got, want) {
		t.Errorf("stream: %s, want %s", got, want)
	}
	a.say(tell(a.id, "image", "&2", "publicWebHosting", false))
	if got, want := w.recv(s), `{"name":"A","description":"d","image":"&2","publicWebHosting":false}`; !sameJSON(got, want) {
		t.Errorf("stream: %s, want %s", got, want)
	}
	w.refused("aboutSelf.get")
	w.refused("aboutSelf.get", "x")
}

func TestNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.api.Key.ID()
	near, near2, far, stranger := w.writer(2), w.writer(3), w.writer(4), w.writer(5)
	w.call("friends.follow", near.id)
	w.call("friends.follow", near2.id)
	near.say(object{"type": "contact", "contact": far.id, "following": true})
	image := func(n byte) string { return identity.BlobID{n}.String() }
	who := identity.ID{77}
	want := func(name, img string) {
		t.Helper()
		w.wantAnswer(name, "names.getSignifier", who)
		w.wantAnswer(img, "names.getImageFor", who)
	}
	quoted := func(text string) string { return fmt.Sprintf("%q", text) }
	want(quoted(who.String()), "null")
	stranger.say(tell(who, "name", "strange", "image", image(1)))
	want(quoted(who.String()), "null")
	far.say(tell(who, "name", "fern", "image", object{"link": image(2)}))
	want(`"fern"`, quoted(image(2)))
	near2.say(tell(who, "name", "nah", "image", image(3)))
	near.say(tell(who, "name", "near"))
	want(`"nah"`, quoted(image(3))) // of two that are as common, the first in order
	near2.say(tell(who, "name", "near"))
	want(`"near"`, quoted(image(3)))
	w.say(tell(who, "name", "nearest"))
	want(`"nearest"`, quoted(image(3)))
	stranger.say(tell(stranger.id, "name", "Strange"))
	w.wantAnswer(`"Strange"`, "names.getSignifier", stranger.id)

	type signified struct {
		Name, Named string
		ID          identity.ID
		Rank        []int
	}
	var found []signified
	w.check(json.Unmarshal([]byte(w.call("names.getSignifies", "ne")), &found))
	if fmt.Sprint(found) != fmt.Sprint([]signified{{"nearest", "nearest", who, []int{1, 0, 0}}, {"near", "nearest", who, []int{0, 2, 0}}}) {
		t.Errorf("getSignifies: %v", found)
	}
	w.wantAnswer("[]", "names.getSignifies", "Ne")
	w.refused("names.getSignifies")
	var all map[identity.ID]map[identity.ID]string
	for _, method := range []string{"names.get", "names.dump"} {
		w.check(json.Unmarshal([]byte(w.call(method, object{})), &all))
		if len(all) != 4 || all[me][who] != "nearest" || all[far.id][who] != "fern" || all[stranger.id] != nil {
			t.Errorf("%s: %v", method, all)
		}
	}
	if got := w.call("names.getImages"); !strings.Contains(got, image(2)) || strings.Contains(got, image(1)) || strings.Contains(got, "fern") {
		t.Errorf("getImages: %s", got)
	}
	w.refused("names.getImageFor", "x")
	w.refused("names.getSignifier")
}
