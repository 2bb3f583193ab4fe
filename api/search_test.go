package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"charkha/identity"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me, friend, foe := w.api.Key.ID(), w.writer(2), w.writer(3)
	one := friend.say(post("Spinning wool on a charkha"))
	two := w.say(post("more wool, spun", "root", one.Key, "branch", one.Key))
	friend.say(post("woollen things by the wheel", "root", one.Key, "branch", []identity.MsgID{two.Key}))
	w.say(post("secret wool", "recps", []any{me}))
	foe.say(post("wool of a foe", "root", two.Key))
	w.say(post("Smörgås, 中文 and <b>wool</b> too"))
	w.say(post("no such word"))
	w.call("friends.block", foe.id)

	find := func(query any, limit any) (found []string) {
		t.Helper()
		for _, item := range w.all("search.query", object{"query": query, "limit": limit}) {
			var r struct {
				Key  identity.MsgID
				Rank *int
			}
			w.check(json.Unmarshal([]byte(item), &r))
			if !strings.Contains(item, `"signature":`) {
				t.Errorf("without a value: %s", item)
			}
			text := w.texts([]string{item})[0]
			if r.Rank != nil {
				text += fmt.Sprint(" ", *r.Rank)
			}
			found = append(found, text)
		}
		return found
	}
	// By how many of the others link to it, in root and branch, then the newest: the friend's claim is ahead of the clock.
	all := []string{"Spinning wool on a charkha 3", "more wool, spun 1", "woollen things by the wheel", "Smörgås, 中文 and <b>wool</b> too", "(secret wool)"}
	for _, c := range []struct {
		query, limit any
		want         []string
	}{
		{"wool", nil, all},
		{"WOOL", 0, all},
		{" woo, ", 2, all[:2]},
		{"wool spin", nil, []string{"Spinning wool on a charkha"}},
		{"spin of wool", nil, []string{"Spinning wool on a charkha"}}, // "of" is too short to count
		{"wo", nil, nil},
		{"", nil, nil},
		{nil, nil, nil},
		{"smörgås", nil, all[3:4]},
		{"文", nil, all[3:4]},
		{"wool zebra", nil, nil},
		{"of_a___ _", nil, nil},
	} {
		if got := find(c.query, c.limit); !slices.Equal(got, c.want) {
			t.Errorf("%v: %q, want %q", c.query, got, c.want)
		}
	}
	if got := w.all("search.query"); len(got) != 0 {
		t.Errorf("search for nothing: %v", got)
	}
	w.refusedStream("search.query", object{"query": 7})

	w.wantTexts("search2.query", object{"text": "wool spu"}, "more wool, spun")
	w.wantTexts("search2.query", object{"text": "woo"}, "Smörgås, 中文 and <b>wool</b> too", "(secret wool)", "woollen things by the wheel", "more wool, spun", "Spinning wool on a charkha")
	w.wantTexts("search2.query", object{"text": "spin wool"}) // only the last word may be a beginning
	w.wantTexts("search2.query", object{"text": "a", "limit": 0})
	w.wantTexts("search2.query", object{"text": ""})
	var pages []string
	before := any(nil)
	for range 4 {
		page := w.all("search2.query", object{"text": "wool", "limit": 2, "before": before})
		pages = append(pages, w.texts(page)...)
		if len(page) == 0 {
			break
		}
		before = w.parse(page[len(page)-1]).Key
		w.say(post("new wool")) // what comes meanwhile stands before
	}
	if want := []string{"Smörgås, 中文 and <b>wool</b> too", "(secret wool)", "more wool, spun", "Spinning wool on a charkha"}; !slices.Equal(pages[:2], want[:2]) || !slices.Contains(pages, want[3]) || len(pages) != 5 {
		t.Errorf("pages: %q", pages)
	}
	for _, bad := range []any{nil, object{}, object{"text": "x", "before": "x"}, object{"text": "x", "before": identity.MsgID{3}}} {
		w.refusedStream("search2.query", bad)
	}
}

func TestSuggest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.api.Key.ID()
	type person struct {
		ID          identity.ID
		Name, Image *string
		Names       []string
		Following   *bool
		MatchedName string
		Aliases     []string
	}
	ask := func(opts any) (all []person) {
		t.Helper()
		w.check(json.Unmarshal([]byte(w.call("suggest.profile", opts)), &all))
		return all
	}
	short := func(opts any) (all []string) {
		t.Helper()
		for _, p := range ask(opts) {
			text := "?"
			if p.Name != nil {
				text = *p.Name
			}
			if p.MatchedName != "" && p.MatchedName != text {
				text += " as " + p.MatchedName
			}
			if *p.Following {
				text += "!"
			}
			all = append(all, text)
		}
		return all
	}
	want := func(opts any, want ...string) {
		t.Helper()
		if got := short(opts); !slices.Equal(got, want) {
			t.Errorf("%v: %q, want %q", opts, got, want)
		}
	}
	mina, mino, far, stranger, dead, foe := w.writer(2), w.writer(3), w.writer(4), w.writer(5), w.writer(6), w.writer(7)
	for _, p := range []*writer{mina, mino, dead, foe} {
		w.call("friends.follow", p.id)
	}
	mina.say(object{"type": "contact", "contact": far.id, "following": true})
	image := identity.BlobID{1}.String()
	mina.say(tell(mina.id, "name", "mina", "image", object{"link": image}))
	mino.say(tell(mino.id, "name", "Mino-Taur"))
	mina.say(tell(mino.id, "name", "mi"))
	far.say(tell(far.id, "name", "Min A Far"))
	stranger.say(tell(stranger.id, "name", "mina the stranger"))
	dead.say(tell(dead.id, "name", "deadmina"))
	mina.say(tell(dead.id, "name", "mina old"))
	foe.say(tell(foe.id, "name", "mina the foe"))
	w.call("friends.block", foe.id)
	w.say(tell(me, "name", "Mïnda"))

	want(object{"text": "mi"}, "Mino-Taur as mi!", "Mïnda!", "mina!", "Min A Far", "deadmina as mina old!")
	want(object{"text": "mina"}, "mina!", "Min A Far", "deadmina as mina old!")
	want(object{"text": "mina", "limit": 1}, "mina!")
	want(object{"text": " MINOT "}, "Mino-Taur!")
	want(object{"text": "mina t", "defaultIds": []any{stranger.id, stranger.id, me, "x", 7}}, "mina the stranger")
	want(object{"text": "-_ "})
	want(object{"text": "zz"})
	want(object{"defaultIds": []any{stranger.id, foe.id, me, mina.id, stranger.id, "x"}}, "mina the stranger", "mina!")
	// Who wrote last, without the blocked one.
	want(object{}, "Mïnda!", "mina!", "deadmina!", "mina the stranger", "Min A Far", "Mino-Taur!")
	want(object{"text": "", "limit": 2}, "Mïnda!", "mina!")
	got := ask(object{"text": "Mino"})
	if len(got) != 1 || got[0].ID != mino.id || !slices.Equal(got[0].Names, []string{"Mino-Taur", "mi"}) && !slices.Equal(got[0].Names, []string{"mi", "Mino-Taur"}) || !slices.Equal(got[0].Aliases, []string{"mi"}) || got[0].Image != nil {
		t.Errorf("Mino: %+v", got)
	}
	if got := ask(object{"text": "mina"}); *got[0].Image != image {
		t.Errorf("image: %v", *got[0].Image)
	}
	w.call("suggest.profile")
	w.refused("suggest.profile", object{"text": 7})
}

func TestTangleBranch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me, a, b, foe := w.api.Key.ID(), w.writer(2), w.writer(3), w.writer(4)
	root := a.say(post("root"))
	want := func(tips ...message) {
		t.Helper()
		keys := []string{}
		for _, m := range tips {
			keys = append(keys, m.Key.String())
		}
		slices.Sort(keys)
		data, err := json.Marshal(keys)
		w.check(err)
		w.wantAnswer(string(data), "tangle.branch", root.Key)
	}
	want(root)
	one := a.say(post("one", "root", root.Key, "branch", root.Key))
	two := b.say(post("two", "root", root.Key, "branch", root.Key))
	want(one, two)
	a.say(post("one and a half")) // not in the thread
	want(one, two)
	three := w.say(object{"type": "gathering", "root": root.Key, "deep": object{"er": []any{two.Key}}, "recps": []any{me}})
	want(one, three)
	four := a.say(post("four", "root", root.Key, "branch", three.Key, "text", "mentions \""+one.Key.String()))
	want(one, four) // what stands before it in its feed is not in the thread
	five := a.say(post("five", "root", root.Key, "branch", root.Key))
	want(one, five) // it comes right after four
	foe.say(post("foe", "root", root.Key, "branch", five.Key))
	w.say(post("not so", "root", object{"link": root.Key}, "branch", five.Key))
	w.call("friends.block", foe.id)
	want(one, five)
	unknown := identity.MsgID{9}
	w.wantAnswer(fmt.Sprintf("[%q]", unknown), "tangle.branch", unknown)
	w.refused("tangle.branch")
	w.refused("tangle.branch", "x")
}

func TestMemes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	foe := w.writer(2)
	cat, dog := identity.BlobID{1}, identity.BlobID{2}
	pictures := func(text string, more ...any) object {
		return post(text, append([]any{"mentions", []any{
			object{"link": cat, "name": "grumpy-cat.jpg"}, object{"link": dog, "name": "happy dog"}, object{"link": dog}, object{"link": w.api.Key.ID(), "name": "grumpy"}, 7}}, more...)...)
	}
	one := w.say(pictures("![grumpy-cat.jpg](&x) ![happy dog](&y)"))
	two := w.say(post("the Grumpy_Cat again", "mentions", object{"link": cat, "name": "Grumpy_Cat"}))
	w.say(post("grumpy, without a picture"))
	foe.say(pictures("![grumpy-cat.jpg](&x)"))
	w.call("friends.block", foe.id)
	want := func(arg any, want map[identity.BlobID][]meme) {
		t.Helper()
		all := map[string]any{}
		for id, memes := range want {
			all[id.String()] = memes
		}
		data, err := json.Marshal(all)
		w.check(err)
		w.wantAnswer(string(data), "meme.search", arg)
	}
	me := w.api.Key.ID()
	grumpy := []meme{{Name: "Grumpy_Cat", Author: me, Msg: two.Key}, {Name: "grumpy-cat.jpg", Author: me, Msg: one.Key}}
	want("grumpy", map[identity.BlobID][]meme{cat: grumpy})
	want(object{"query": "GRUMPY_cat"}, map[identity.BlobID][]meme{cat: grumpy})
	want(object{"query": "grumpy", "limit": 1}, map[identity.BlobID][]meme{cat: grumpy[:1]})
	want("dog", map[identity.BlobID][]meme{dog: {{Name: "happy dog", Author: me, Msg: one.Key}}})
	want("grumpy dog", nil)
	want("do", nil)
	if got := w.texts(w.all("meme.query", "grumpy")); len(got) != 2 || got[0] != "the Grumpy_Cat again" {
		t.Errorf("meme.query: %v", got)
	}
	if got := w.all("meme.query", object{"query": "grumpy", "limit": 1}); len(got) != 1 {
		t.Errorf("meme.query: %v", got)
	}
	for _, bad := range []any{nil, 7, object{}, object{"query": 7}} {
		w.refused("meme.search", bad)
	}
}
