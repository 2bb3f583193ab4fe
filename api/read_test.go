package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"charkha/identity"
)

// texts are the texts of the posts in some KVTs, private ones in brackets.
func (w *world) texts(items []string) (all []string) {
	w.Helper()
	for _, item := range items {
		var m struct {
			Value struct {
				Private bool
				Content json.RawMessage
			}
		}
		w.check(json.Unmarshal([]byte(item), &m))
		var content struct{ Text string }
		if json.Unmarshal(m.Value.Content, &content) != nil {
			content.Text = "boxed"
		}
		if m.Value.Private {
			content.Text = "(" + content.Text + ")"
		}
		all = append(all, content.Text)
	}
	return all
}

func (w *world) wantTexts(method string, arg any, want ...string) {
	w.Helper()
	if got := w.texts(w.all(method, arg)); !slices.Equal(got, want) {
		w.Errorf("%s %v: %v, want %v", method, arg, got, want)
	}
}

type object = map[string]any

func filter(f any) object { return object{"query": []any{object{"$filter": f}}} }

func TestPrivateMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me, friend := w.api.Key.ID(), identity.FromSeed([32]byte{8})
	content := object{"type": "post", "text": "between us", "recps": []any{me, object{"link": friend.ID()}}}
	published := w.call("publish", content)
	var kvt struct {
		Key   identity.MsgID
		Value struct{ Content json.RawMessage }
	}
	w.check(json.Unmarshal([]byte(published), &kvt))
	if !strings.HasSuffix(string(kvt.Value.Content), `.box"`) {
		t.Fatalf("published in the open: %s", published)
	}
	plain, ok := unboxText(kvt.Value.Content, friend)
	if !ok || !strings.Contains(string(plain), `"text":"between us"`) {
		t.Errorf("the friend reads %s, %t", plain, ok)
	}
	for _, bad := range []any{7, []any{}, []any{"nobody"}, []any{me, 7}, "nobody", object{"link": "x"}} {
		w.refused("publish", object{"type": "post", "text": "secret", "recps": bad})
	}
	if got := w.call("latestSequence", me); got != "1" {
		t.Errorf("what was refused was published: %s", got)
	}
	// By itself: sealed for the recipients, and for nobody else.
	other := w.call("private.publish", object{"type": "post", "text": "not for me"}, []any{friend.ID()})
	if got := w.call("private.unbox", json.RawMessage(other)); got != "false" {
		t.Errorf("unboxed what is not for us: %s", got)
	}
	// What is sealed needs no type: npm ssb-private looks at none.
	if got := w.call("private.unbox", json.RawMessage(w.call("private.publish", object{"text": "untyped"}, []any{me}))); !strings.Contains(got, `{"text":"untyped"}`) {
		t.Errorf("sealed without a type: %s", got)
	}
	for _, args := range [][]any{{}, {object{"type": "post"}}, {object{"type": "post"}, []any{}}, {"x", []any{me}}, {object{"type": "post"}, []any{"x"}}} {
		w.refused("private.publish", args...)
	}
	if got := w.call("private.unbox", kvt.Value.Content); !strings.Contains(got, `"text":"between us"`) {
		t.Errorf("unbox of a text: %s", got)
	}
	if got := w.call("private.unbox", json.RawMessage(published)); !strings.Contains(got, `"text":"between us"`) || !strings.Contains(got, `"private":true`) || !strings.Contains(got, kvt.Key.String()) {
		t.Errorf("unbox of a message: %s", got)
	}
	for _, bad := range []any{nil, 7, object{}, object{"value": 7}, "nonsense.box"} {
		if got := w.call("private.unbox", bad); got != "false" {
			t.Errorf("unbox of %v: %s", bad, got)
		}
	}
	// What was signed is given out unless it is asked for otherwise.
	if got := w.call("get", kvt.Key); !strings.Contains(got, string(kvt.Value.Content)) || strings.Contains(got, "between us") {
		t.Errorf("get: %s", got)
	}
	opened := w.call("get", object{"id": kvt.Key, "private": true})
	var v struct {
		Content struct{ Text string }
		Private bool
		Unbox   string
		Cypher  string `json:"cyphertext"`
		Meta    struct {
			Private  bool
			Unbox    string
			Original struct{ Content string }
		}
	}
	w.check(json.Unmarshal([]byte(opened), &v))
	if v.Content.Text != "between us" || !v.Private || !v.Meta.Private || v.Unbox == "" || v.Unbox != v.Meta.Unbox || v.Cypher != v.Meta.Original.Content ||
		fmt.Sprintf("%q", v.Cypher) != string(kvt.Value.Content) {
		t.Errorf("get opened: %s", opened)
	}
	// Who was handed the key reads it, too.
	stranger := identity.FromSeed([32]byte{77})
	w.api.Key = stranger
	for _, arg := range []any{object{"id": kvt.Key, "unbox": v.Unbox}, kvt.Key.String() + "?unbox=" + v.Unbox} {
		if got := w.call("get", arg); got != opened {
			t.Errorf("get %v: %s, want %s", arg, got, opened)
		}
	}
	if got := w.call("get", object{"id": kvt.Key, "private": true}); strings.Contains(got, "between us") {
		t.Errorf("a stranger reads %s", got)
	}
	w.refused("get", object{"id": kvt.Key, "unbox": strings.Repeat("A", 43) + "="})
	w.refused("get", object{"id": kvt.Key, "unbox": "x"})
	if got := w.call("get", 0); !strings.Contains(got, string(kvt.Value.Content)) {
		t.Errorf("get by place: %s", got)
	}
	w.refused("get", 99)
	w.refused("get", -1)
}

func TestReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.api.Key.ID()
	one := w.post("one")
	two := w.parse(w.call("publish", object{"type": "post", "text": "two", "root": one.Key, "branch": one.Key, "channel": "charkha",
		"mentions": []any{object{"link": one.Value.Author, "name": "Me"}, object{"link": "#spinning"}}}))
	w.call("publish", object{"type": "vote", "text": "vote", "vote": object{"link": two.Key, "value": 1}})
	w.call("publish", object{"type": "post", "text": "secret", "root": one.Key, "recps": []any{me}})
	other, raws := w.feed(9, `{"type":"post","text":"theirs"}`, fmt.Sprintf(`{"type":"contact","text":"contact","contact":"%s","following":true}`, me))
	w.add(raws) // they claim a time after ours

	w.wantTexts("createFeedStream", object{}, "one", "two", "vote", "boxed", "theirs", "contact")
	w.wantTexts("createFeedStream", object{"reverse": true, "limit": 2, "private": true}, "contact", "theirs")
	w.wantTexts("createFeedStream", object{"gt": one.Timestamp - 1000, "lte": two.Timestamp - 1000, "private": true}, "one") // as npm ssb-db
	w.wantTexts("createFeedStream", object{"gte": one.Timestamp - 1000, "lt": two.Timestamp - 1000, "private": true}, "one")
	w.wantTexts("createFeedStream", object{"lt": 0})
	w.wantTexts("messagesByType", "post", "one", "two", "boxed", "theirs")
	w.wantTexts("messagesByType", object{"type": "post", "private": true, "reverse": true}, "theirs", "(secret)", "two", "one")
	w.wantTexts("messagesByType", object{"type": "post", "limit": 1}, "one")
	w.wantTexts("messagesByType", object{"type": "post", "limit": 0})
	w.wantTexts("messagesByType", object{"type": "post", "gt": one.Timestamp, "lt": two.Timestamp})
	w.wantTexts("messagesByType", object{"type": "post", "gte": one.Timestamp, "lte": two.Timestamp}, "one", "two")
	w.wantTexts("messagesByType", "nothing")

	w.wantTexts("query.read", filter(object{"value": object{"author": other}}), "theirs", "contact")
	w.wantTexts("query.read", filter(object{"value": object{"content": object{"type": "post"}}}), "one", "two", "(secret)", "theirs")
	w.wantTexts("query.read", filter(object{"value": object{"content": object{"root": one.Key}}}), "two", "(secret)")
	w.wantTexts("query.read", filter(object{"value": object{"content": object{"channel": "charkha"}}}), "two")
	w.wantTexts("query.read", filter(object{"value": object{"content": object{"vote": object{"link": two.Key}}}}), "vote")
	w.wantTexts("query.read", filter(object{"value": object{"content": object{"text": object{"$prefix": "t"}}}}), "two", "theirs")
	w.wantTexts("query.read", filter(object{"timestamp": object{"$gt": two.Timestamp}, "value": object{"author": me}}), "vote", "(secret)")
	w.wantTexts("query.read", filter(object{"value": object{"sequence": object{"$gte": 2, "$lt": 4}, "author": me}}), "two", "vote")
	limited := filter(object{"value": object{"content": object{"type": "post"}}})
	limited["limit"], limited["reverse"] = 2, true
	w.wantTexts("query.read", limited, "theirs", "(secret)")
	w.wantTexts("query.read", nil, "one", "two", "vote", "(secret)", "theirs", "contact")
	w.wantTexts("private.read", filter(object{"value": object{"content": object{"type": "post"}}}), "(secret)")
	w.wantTexts("private.read", filter(object{"value": object{"content": object{"type": "vote"}}}))
	for _, text := range []string{`[{"$filter":{"value":{"author":"%s"}}},{"$reduce":{"author":["value","author"],"count":{"$count":true}}}]`,
		`{"query":[{"$filter":{"value":{"author":"%s"}}},{"$reduce":{"author":["value","author"],"count":{"$count":true}}}]}`} {
		if got, want := w.all("query.read", fmt.Sprintf(text, me)), fmt.Sprintf(`{"author":"%s","count":4}`, me); len(got) != 1 || got[0] != want {
			t.Errorf("reduced: %v, want %s", got, want)
		}
	}
	if got := w.all("query.read", filter(object{"key": one.Key})); len(got) != 1 || !strings.Contains(got[0], `"rts":`) {
		t.Errorf("by key: %v", got)
	}
	if got := w.call("query.explain", filter(object{"value": object{"author": me, "content": object{"type": "post"}}})); !strings.Contains(got, `"index":["author","type"]`) || !strings.Contains(got, `"scan":false`) {
		t.Errorf("explain: %s", got)
	}
	for _, bad := range []any{7, "nonsense", []any{object{"$nothing": 1}}, object{"query": 7}, object{"query": []any{object{"$sort": 7}}},
		object{"live": true, "query": []any{object{"$reduce": object{"$count": true}}}}} {
		if _, err := w.open("query.read", bad).Recv(); err == nil {
			t.Errorf("query.read %v has an answer", bad)
		}
	}

	w.wantTexts("backlinks.read", filter(object{"dest": one.Key}), "two", "(secret)")
	w.wantTexts("backlinks.read", filter(object{"dest": two.Key}), "vote")
	w.wantTexts("backlinks.read", filter(object{"dest": me}), "two", "(secret)", "contact")
	w.wantTexts("backlinks.read", filter(object{"dest": me, "value": object{"content": object{"type": "contact"}}}), "contact")
	w.wantTexts("backlinks.read", filter(object{"dest": "#spinning"}), "two")
	reversed := filter(object{"dest": one.Key})
	reversed["reverse"], reversed["index"] = true, "DTA"
	w.wantTexts("backlinks.read", reversed, "(secret)", "two")
	if got := w.all("backlinks.read", filter(object{"dest": two.Key})); !strings.Contains(got[0], fmt.Sprintf(`"dest":"%s","rts":`, two.Key)) {
		t.Errorf("backlinks: %v", got)
	}
	reversed["index"] = "XYZ"
	if _, err := w.open("backlinks.read", reversed).Recv(); err == nil {
		t.Errorf("backlinks.read %v has an answer", reversed)
	}

	type row struct {
		Source, Rel, Dest, Key string
		Value                  json.RawMessage
	}
	links := func(arg any) (rows []row) {
		t.Helper()
		for _, item := range w.all("links", arg) {
			var r row
			w.check(json.Unmarshal([]byte(item), &r))
			rows = append(rows, r)
		}
		return rows
	}
	rels := func(rows []row) (rels []string) {
		for _, r := range rows {
			rels = append(rels, r.Rel)
		}
		return rels
	}
	if got := rels(links(object{"dest": one.Key})); !slices.Equal(got, []string{"branch", "root", "root"}) {
		t.Errorf("links to a message: %v", got)
	}
	if got := links(object{"source": me, "rel": "vote", "values": true}); len(got) != 1 || got[0].Dest != two.Key.String() || got[0].Source != me.String() || len(got[0].Value) == 0 {
		t.Errorf("votes: %v", got)
	}
	if got := rels(links(object{"source": me, "dest": "%"})); !slices.Equal(got, []string{"branch", "root", "root", "vote"}) {
		t.Errorf("links to messages: %v", got)
	}
	if got := rels(links(object{"dest": "feed"})); !slices.Equal(got, []string{"contact", "mentions", "recps"}) {
		t.Errorf("links to feeds: %v", got)
	}
	if got := rels(links(object{"dest": one.Key, "reverse": true, "limit": 1})); !slices.Equal(got, []string{"root"}) {
		t.Errorf("the last link: %v", got)
	}
	if got := w.all("links", object{"dest": two.Key, "meta": false}); len(got) != 1 || !strings.HasPrefix(got[0], `"%`) {
		t.Errorf("keys alone: %v", got)
	}
	if _, err := w.open("links", object{"keys": false, "meta": false}).Recv(); err == nil {
		t.Error("links without results")
	}
	if got := w.all("links2.read", filter(object{"dest": two.Key})); len(got) != 1 || !strings.HasPrefix(got[0], fmt.Sprintf(`{"source":"%s","rel":["vote",1],"dest":"%s","ts":`, me, two.Key)) {
		t.Errorf("links2: %v", got)
	}
	if got := w.all("links2.read", filter(object{"source": me, "rel": []any{"mentions", object{"$prefix": "@m"}}})); len(got) != 1 {
		t.Errorf("links2 of mentions: %v", got)
	}
}

func TestLiveReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.post("one")
	live := func(o object) object { o["live"] = true; return o }
	byType := w.open("messagesByType", live(object{"type": "post"}))
	feed := w.open("createFeedStream", live(object{"keys": false}))
	back := w.open("backlinks.read", live(filter(object{"dest": one.Key})))
	query := filter(object{"value": object{"content": object{"type": "post"}}})
	query["sync"] = true
	q := w.open("query.read", live(query))
	links := w.open("links", live(object{"dest": one.Key}))
	sync := func(name, got string) {
		t.Helper()
		if got != `{"sync":true}` {
			t.Errorf("%s: %s, want the end of the old", name, got)
		}
	}
	if got := w.texts([]string{w.recv(byType)}); got[0] != "one" {
		t.Errorf("old: %v", got)
	}
	sync("messagesByType", w.recv(byType))
	w.recv(feed)
	sync("createFeedStream", w.recv(feed))
	sync("backlinks.read", w.recv(back))
	w.recv(q)
	sync("query.read", w.recv(q))
	sync("links", w.recv(links))
	w.call("publish", object{"type": "post", "text": "two", "root": one.Key})
	for name, got := range map[string]string{"messagesByType": w.recv(byType), "backlinks.read": w.recv(back), "query.read": w.recv(q)} {
		if texts := w.texts([]string{got}); texts[0] != "two" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := w.recv(feed); !strings.Contains(got, `"text":"two"`) || strings.Contains(got, `"key"`) {
		t.Errorf("createFeedStream: %s", got)
	}
	if got := w.recv(links); !strings.Contains(got, `"rel":"root"`) {
		t.Errorf("links: %s", got)
	}
}
