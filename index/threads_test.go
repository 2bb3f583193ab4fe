package index

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"charkha/identity"
	"charkha/log"
)

func contentReply(text string, root identity.MsgID, branch ...identity.MsgID) string {
	fields := fmt.Sprintf(`{"type":"post","text":%q,"root":"%s"`, text, root)
	if len(branch) > 0 {
		b, _ := json.Marshal(branch)
		fields += `,"branch":` + string(b)
	}
	return fields + "}"
}

// said is a thread as its root's text, its answers and its time.
func said(t testing.TB, x *Index, q ThreadQuery) (all []string) {
	t.Helper()
	for th, err := range x.Threads(q) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s +%d at %.0f", texts(t, []log.Message{th.Root})[0], th.Replies, th.Latest.Time))
	}
	return all
}

func TestThreads(t *testing.T) {
	t.Parallel()
	p := newAuthors(4)
	me, friend, enemy, other := p[0], p[1], p[2], p[3]
	l := openLog(t)
	x := start(t, Options{Log: l, Self: me.id(), Hops: 2})
	clock := 1600000000000
	say := func(a *author, content string) identity.MsgID {
		clock += 10
		store(t, l, a.signAt(t, fmt.Sprint(clock), content))
		return a.prev
	}
	one := say(friend, contentPost("one"))
	two := say(other, contentPost("two"))
	three := say(enemy, contentPost("three"))
	say(friend, contentReply("two!", two, two))
	say(other, contentReply("one!", one, one))
	say(enemy, contentReply("one?", one, one))
	say(friend, contentReply("three!", three, three))
	say(friend, fmt.Sprintf(`{"type":"vote","vote":{"link":"%s","value":1},"root":"%s"}`, two, two)) // no post
	say(me, contentReply("of a message that is not here", identity.MsgID{1}, identity.MsgID{1}))     // no root
	say(me, fmt.Sprintf(`{"type":"post","text":"aside","root":"%s","fork":"%s"}`, one, two))         // counts for its fork
	say(me, fmt.Sprintf(`{"type":"post","text":"astray","branch":"%s"}`, two))                       // neither root nor reply
	say(me, `{"type":"post","text":"#odd","root":7,"mentions":[{"link":"#Gardening!"}]}`)            // no reference, but a root
	tagged := say(me, `{"type":"post","text":"tagged","channel":"Gar dening"}`)
	x.caughtUp()
	want := []string{"tagged +0 at 1600000000130", "two +2 at 1600000000100", "three +1 at 1600000000070", "one +3 at 1600000000060"}
	if diff := cmp.Diff(want, said(t, x.Index, ThreadQuery{})); diff != "" {
		t.Errorf("threads (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[:2], said(t, x.Index, ThreadQuery{Limit: 2})); diff != "" {
		t.Errorf("two threads (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[2:], said(t, x.Index, ThreadQuery{Behind: &Point{1600000000100, 9}})); diff != "" {
		t.Errorf("the next threads (-want +got):\n%s", diff)
	}
	only := func(m *log.Message) bool { return m.Author() == friend.id() }
	if diff := cmp.Diff(want[3:], said(t, x.Index, ThreadQuery{Only: only})); diff != "" {
		t.Errorf("threads of a friend (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"tagged +0 at 1600000000130"}, said(t, x.Index, ThreadQuery{Where: Tagged("#gardening")})); diff != "" {
		t.Errorf("threads of a hashtag (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{want[0], want[1]}, said(t, x.Index, ThreadQuery{Where: By(me.id())})); diff != "" {
		t.Errorf("threads that I am in (-want +got):\n%s", diff)
	}
	tags, err := x.Tags("#GAR", 10)
	if diff := cmp.Diff([]Tag{{"gardening", 2}}, tags); diff != "" || err != nil {
		t.Errorf("hashtags, %v (-want +got):\n%s", err, diff)
	}
	// A block takes threads and answers away at once, and an unblock brings them back.
	store(t, l, me.sign(t, contentBlock(enemy.id())))
	x.caughtUp()
	if diff := cmp.Diff([]string{want[0], want[1], "one +2 at 1600000000050"}, said(t, x.Index, ThreadQuery{})); diff != "" {
		t.Errorf("threads without an enemy (-want +got):\n%s", diff)
	}
	posts, full, err := x.Thread(one, false, 0)
	if diff := cmp.Diff([]string{"one", "one!", "aside"}, texts(t, posts)); diff != "" || err != nil || !full {
		t.Errorf("a thread without an enemy, %v %v (-want +got):\n%s", full, err, diff)
	}
	store(t, l, me.sign(t, contentUnblock(enemy.id())))
	x.caughtUp()
	if diff := cmp.Diff(want, said(t, x.Index, ThreadQuery{})); diff != "" {
		t.Errorf("threads after making up (-want +got):\n%s", diff)
	}
	posts, full, err = x.Thread(one, false, 1)
	if diff := cmp.Diff([]string{"one", "aside"}, texts(t, posts)); diff != "" || err != nil || full {
		t.Errorf("the end of a thread, %v %v (-want +got):\n%s", full, err, diff)
	}
	if _, _, err := x.Thread(identity.MsgID{1}, false, 0); !errors.Is(err, log.ErrNotFound) {
		t.Errorf("a thread that is not here: %v", err)
	}
	if posts, _, err := x.Thread(tagged, false, 0); err != nil || len(posts) != 1 {
		t.Errorf("a thread of one post: %d, %v", len(posts), err)
	}
	checkSame(t, x)
}

// Whatever clocks say, nobody is answered before he spoke.
func TestThreadOrder(t *testing.T) {
	t.Parallel()
	a, b := newAuthor(0), newAuthor(1)
	l := openLog(t)
	store(t, l, a.signAt(t, "1600000000000", contentPost("root")))
	root := a.prev
	store(t, l, a.signAt(t, "1600000009000", contentReply("question", root, root)))
	question := a.prev
	store(t, l, b.signAt(t, "1600000001000", contentReply("answer", root, root, question)))
	answer := b.prev
	store(t, l, a.signAt(t, "1600000000500", contentReply("thanks", root, answer)), b.signAt(t, "1600000000700", contentReply("by the way", root, root)))
	x := start(t, Options{Log: l, Self: a.id(), Hops: 2}).caughtUp()
	posts, _, err := x.Thread(root, false, 0)
	if diff := cmp.Diff([]string{"root", "question", "answer", "thanks", "by the way"}, texts(t, posts)); diff != "" || err != nil {
		t.Errorf("thread, %v (-want +got):\n%s", err, diff)
	}
}

func TestVotes(t *testing.T) {
	t.Parallel()
	p := newAuthors(4)
	l := openLog(t)
	store(t, l, p[0].sign(t, contentPost("hello")))
	id := p[0].prev
	vote := func(a *author, value string) {
		store(t, l, a.sign(t, fmt.Sprintf(`{"type":"vote","vote":{"link":"%s","value":%s,"expression":"Like"}}`, id, value)))
	}
	vote(p[1], "1")
	vote(p[2], "1")
	vote(p[1], "0")
	vote(p[3], `"much"`)
	store(t, l, p[3].sign(t, fmt.Sprintf(`{"type":"post","vote":{"link":"%s","value":1}}`, id)))
	x := start(t, Options{Log: l, Self: p[0].id(), Hops: 2}).caughtUp()
	of := func() (all []string) {
		votes, err := x.Votes(id)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range votes {
			all = append(all, fmt.Sprint(v.Author.Short(), " ", v.Value))
		}
		return all
	}
	want := []string{p[3].id().Short() + " 0", p[1].id().Short() + " 0", p[2].id().Short() + " 1"}
	if diff := cmp.Diff(want, of()); diff != "" {
		t.Errorf("votes (-want +got):\n%s", diff)
	}
	store(t, l, p[0].sign(t, contentBlock(p[2].id())))
	x.caughtUp()
	if diff := cmp.Diff(want[:2], of()); diff != "" {
		t.Errorf("votes without somebody blocked (-want +got):\n%s", diff)
	}
}

// Encrypted messages that can be opened are found where they are asked for, and nowhere else.
func TestOpenedMessages(t *testing.T) {
	t.Parallel()
	me, friend := newAuthor(0), newAuthor(1)
	l, dir := openLog(t), subdir(t)
	const boxed = `"c2VjcmV0.box"`
	store(t, l, friend.sign(t, contentPost("garden in public")), friend.sign(t, boxed))
	first := friend.prev
	store(t, l, me.sign(t, boxed), friend.sign(t, boxed), friend.sign(t, `"bm90IGZvciB1cw==.box"`))
	unbox := func(m *log.Message) ([]byte, bool) {
		switch {
		case m.Author() == friend.id() && m.Sequence() == 2:
			return []byte(` {"type":"post", "text":"secret g\u0061rden","recps":["` + me.id().String() + `"]} `), true
		case m.Author() == me.id():
			return []byte(contentReply("secret answer", first, first)), true
		case m.Sequence() == 3:
			return []byte(`{"type":`), true // whoever wrote it may have sealed anything
		}
		return nil, false
	}
	x := start(t, Options{Dir: dir, Log: l, Self: me.id(), Hops: 1}).caughtUp()
	count := func(x *running, s Set) int { return len(collect(t, x.Query(t.Context(), Query{Where: s}))) }
	if n := count(x, Opened()); n != 0 {
		t.Errorf("%d opened messages without a key", n)
	}
	if err := x.stop(); err != nil {
		t.Fatal(err)
	}
	// With a key, the views that see opened messages are built anew.
	x = start(t, Options{Dir: dir, Log: l, Self: me.id(), Hops: 1, Unbox: unbox}).caughtUp()
	for _, tc := range []struct {
		name string
		set  Set
		want int
	}{
		{"boxed", Boxed(), 4},
		{"opened", Opened(), 2},
		{"public garden", Word("garden", false), 1},
		{"private garden", Word("garden", false).Private(false), 1},
		{"any garden", Word("garden", false).Private(true), 2},
		{"public post", OfType("post"), 1},
		{"private post", OfType("post").Private(false), 2},
		{"private post by me", And(By(me.id()), OfType("post")).Private(false), 1},
		{"public reference", Refers(me.id().String()), 0},
		{"private reference", Refers(me.id().String()).Private(false), 1},
		{"public reply", Replies(first), 0},
		{"private reply", Replies(first).Private(false), 1},
	} {
		if n := count(x, tc.set); n != tc.want {
			t.Errorf("%s: %d messages, want %d", tc.name, n, tc.want)
		}
	}
	n, replies := 0, 0
	for th, err := range x.Threads(ThreadQuery{Private: true}) {
		if err != nil {
			t.Fatal(err)
		}
		n, replies = n+1, replies+th.Replies
	}
	if n != 1 || replies != 1 {
		t.Errorf("%d private threads with %d answers", n, replies)
	}
	for th, err := range x.Threads(ThreadQuery{}) {
		if err != nil || th.Root.Private() {
			t.Errorf("a public thread is private, %v", err)
		}
	}
	if posts, _, err := x.Thread(first, true, 0); err != nil || len(posts) != 2 {
		t.Errorf("the private thread has %d posts, %v", len(posts), err)
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	a := newAuthor(0)
	l := openLog(t)
	feed, msg := key(70).ID().String(), identity.MsgID{7}.String()
	blob := identity.BlobID{8}.String()
	uri := "ssb:message/bendybutt-v1/" + strings.Repeat("A", 43) + "="
	cloaked := "%" + strings.Repeat("B", 43) + "=.cloaked"
	add := func(fields string) {
		fields = strings.NewReplacer("FEED", feed, "MSG", msg, "BLOB", blob, "URI", uri, "CLOAKED", cloaked).Replace(fields)
		store(t, l, a.sign(t, `{"type":"test",`+fields+`}`))
	}
	add(`"plain":"MSG"`)                                                                 // 1
	add(`"object":{"link":"MSG"}`)                                                       // 2
	add(`"array":["FEED","MSG"]`)                                                        // 3
	add(`"array":[{"link":"MSG"},{"link":"MSG"}]`)                                       // 4
	add(`"deep":{"a":{"b":[{"link":"MSG"}]}}`)                                           // 5
	add(`"text":"see MSG","MSG":"key","list":["MSG "]`)                                  // 6: none
	add(`"other":{"uri":"URI","x":"CLOAKED","blob":"BLOB"}`)                             // 7
	add(`"channel":"Gardening","mentions":[{"link":"#b,read"}]`)                         // 8
	add(`"channel":"#ssb","tags":["#ssb","#no tag","#` + strings.Repeat("x", 40) + `"]`) // 9
	x := start(t, Options{Log: l, Self: a.id()}).caughtUp()
	for _, tc := range []struct {
		set  Set
		want string
	}{
		{Refers(msg), "1 2 3 4 5"},
		{Links(msg), "1 2 3 4"},
		{Links(msg, "array"), "3 4"},
		{Links(msg, "array", "plain"), "1 3 4"},
		{Links(msg, "arra"), ""},
		{Refers(msg, "deep"), "5"},
		{Refers(feed), "3"},
		{Refers(blob), "7"},
		{Refers(uri), "7"},
		{Refers(cloaked), "7"},
		{Refers("#gardening"), "8"},
		{Refers("#bread"), "8"},
		{Refers("#GARDENING"), "8"},
		{Tagged("gardening"), "8"},
		{Tagged("bread"), "8"},
		{Tagged("#ssb"), "9"},
		{Refers("#ssb", "tags"), "9"},
		{Refers("#no tag"), ""},
		{Refers("#notag"), ""},
		{Refers("nothing"), ""},
		{Refers(""), ""},
	} {
		var got []string
		for _, m := range collect(t, x.Query(t.Context(), Query{Where: tc.set})) {
			got = append(got, fmt.Sprint(m.Sequence()))
		}
		if got := strings.Join(got, " "); got != tc.want {
			t.Errorf("%+v: messages %q, want %q", tc.set, got, tc.want)
		}
	}
}

// What one message can put into the index is bounded.
func TestHostileMessageIsBounded(t *testing.T) {
	t.Parallel()
	a := newAuthor(0)
	l := openLog(t)
	var tags, words []string
	for i := range 400 {
		tags = append(tags, fmt.Sprintf(`"#%d"`, i))
	}
	for i := range 1500 {
		words = append(words, fmt.Sprintf("%x", i+0x100))
	}
	store(t, l,
		a.sign(t, `{"type":"post","x":[`+strings.Join(tags, ",")+`]}`),
		a.sign(t, contentPost(strings.Join(words, " "))),
		a.sign(t, contentPost(strings.Repeat("a", 7000))),
		a.sign(t, `{"type":"post","x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`,"`+strings.Repeat("r", 3000)+`":"`+a.id().String()+`"}`))
	x := start(t, Options{Log: l, Self: a.id()}).caughtUp()
	count := map[byte]int{}
	for row, value := range dump(t, x.Index) {
		count[row[0]]++
		if len(row) > 300 || len(value) > columnRows*columnSize {
			t.Errorf("a row of %d and %d bytes", len(row), len(value))
		}
	}
	if count['L'] != linksMost+1 || count['W'] != wordsMost+1 {
		t.Errorf("%d rows of links and %d of words, want %d and %d", count['L'], count['W'], linksMost+1, wordsMost+1)
	}
	if got := collect(t, x.Query(t.Context(), Query{Where: Links(a.id().String(), strings.Repeat("r", 3000))})); len(got) != 1 {
		t.Errorf("%d messages with a long relation", len(got))
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"The quick, quick FOX!":               "the quick fox",
		"naïve NAÏVE nai\u0308ve":             "naïve",
		"Größe GRÖSSE":                        "grösse",
		"ΣΊΣΥΦΟΣ σίσυφος":                     "σίσυφοσ",
		"Привет, мир":                         "привет мир",
		"日本語":                                 "日 本 語",
		"ｆｕｌｌ width":                          "full width",
		"seed🌱bomb":                           "seed 🌱 bomb",
		"it's e-mail":                         "it s e mail",
		"२०२६ 2026":                           "२०२६ 2026",
		"":                                    "",
		" \n\t.,;":                            "",
		"see [@bob](" + bob.String() + ") ok": "see bob ok",
		"é " + bob.String() + " ok":           "é ok",
		strings.Repeat("a", 100):              strings.Repeat("a", wordMost),
	} {
		if got := strings.Join(Words(text), " "); got != want {
			t.Errorf("words of %q: %q, want %q", text, got, want)
		}
	}
	if n := len(Words(strings.Join(strings.Split(fmt.Sprint(make([]int, 10)), ""), " "))); n != 1 {
		t.Errorf("%d words", n)
	}
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{"The naïve 日本 fox", "&\xff\xfe", bob.String(), "\u0130\u0131 ß ﬃ", strings.Repeat("ab ", 600)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words := Words(s)
		if len(words) > wordsMost {
			t.Errorf("%d words", len(words))
		}
		for _, w := range words {
			if w == "" || len(w) > wordMost+4 || strings.ContainsRune(w, 0) {
				t.Errorf("word %q", w)
			}
			if again := Words(w); len(w) < wordMost-4 && (len(again) != 1 || again[0] != w) {
				t.Errorf("word %q of %q is found as %q", w, s, again)
			}
		}
	})
}

// Contents are read alike by the quick scanner and by encoding/json.
func FuzzContent(f *testing.F) {
	for _, s := range []string{`{"a":"b","c":{"link":"d"},"e":["f",{"link":"g"}],"h":7}`, `{"\"":"\\"}`, `{"a":{}, "b" : [ ] , "c":"\u0061"}`, `{}`, `[]`, `{"a":[[["x"]]]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		var scan textScanner
		var got []string
		scan.each(content, func(in []frame, text []byte) { got = append(got, unquote(text)) })
		members := map[string]string{}
		top(content, func(key, value []byte) { members[unquote(key)] = string(value) })
		var want map[string]json.RawMessage
		if json.Unmarshal(content, &want) != nil {
			return
		}
		if len(members) != len(want) {
			t.Fatalf("%q has %d members, want %d", content, len(members), len(want))
		}
		for k, v := range want {
			if string(v) != members[k] {
				t.Errorf("%q: %q is %q, want %q", content, k, members[k], v)
			}
		}
		dec := json.NewDecoder(strings.NewReader(string(content)))
		dec.UseNumber()
		var tree any
		_ = dec.Decode(&tree)
		var all []string
		anyText(tree, func(s string) bool { all = append(all, s); return false })
		slices.Sort(all)
		slices.Sort(got)
		if !strings.Contains(string(content), `\u`) && fieldsOnce(content) && !slices.Equal(all, got) {
			t.Errorf("%q has the texts %q, want %q", content, got, all)
		}
	})
}

// fieldsOnce reports whether no object in a JSON text has a member twice, of which a decoder sees the last alone.
func fieldsOnce(content []byte) bool {
	dec := json.NewDecoder(strings.NewReader(string(content)))
	var stack []map[string]bool
	key := false
	for {
		tok, err := dec.Token()
		if err != nil {
			return true
		}
		switch tok := tok.(type) {
		case json.Delim:
			switch tok {
			case '{':
				stack = append(stack, map[string]bool{})
				key = true
				continue
			case '[':
				stack = append(stack, nil)
			default:
				stack = stack[:len(stack)-1]
			}
		case string:
			if key {
				if top := stack[len(stack)-1]; top[tok] {
					return false
				} else {
					top[tok] = true
				}
				key = false
				continue
			}
		}
		key = len(stack) > 0 && stack[len(stack)-1] != nil
	}
}

// The messages of npm ssb-fixtures: what is found by index is what a scan finds, of every thread, type and author.
func TestVectorThreadsAndSets(t *testing.T) {
	t.Parallel()
	l, _, self := loadFixtures(t)
	x := start(t, Options{Log: l, Self: self, Hops: 3}).caughtUp()
	all := everything(t, l)
	types, authors, replies := map[string]int{}, map[identity.ID]int{}, map[string]int{}
	refs := map[string]int{}
	for i := range all {
		m := &all[i]
		types[m.Type()]++
		authors[m.Author()]++
		c := contentOf(m)
		if root, ok := c["root"].(string); ok && m.Type() == "post" {
			replies[root]++
		}
		seen := map[string]bool{}
		anyText(c, func(s string) bool {
			if len(s) > 50 && len(s) < 54 && strings.ContainsAny(s[:1], "@%&") && !seen[s] {
				seen[s] = true
				refs[s]++
			}
			return false
		})
	}
	if len(replies) == 0 || len(refs) == 0 || len(types) < 5 {
		t.Fatalf("%d threads, %d references, %d types", len(replies), len(refs), len(types))
	}
	count := func(s Set) int {
		n, err := x.Count(s)
		if err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
	boxed := types[""]
	delete(types, "")
	if got := count(Boxed()); got != boxed {
		t.Errorf("%d encrypted messages, want %d", got, boxed)
	}
	for typ, n := range types {
		if got := count(OfType(typ)); got != n {
			t.Errorf("%d messages of type %s, want %d", got, typ, n)
		}
	}
	for id, n := range authors {
		if got := count(By(id)); got != n {
			t.Errorf("%d messages by %s, want %d", got, id.Short(), n)
		}
	}
	for root, n := range replies {
		id, err := identity.ParseMsgID(root)
		if err != nil {
			t.Fatal(err)
		}
		if got := count(Replies(id)); got != n {
			t.Errorf("%d answers to %s, want %d", got, root, n)
		}
	}
	for ref, n := range refs {
		if got := len(collect(t, x.Query(t.Context(), Query{Where: Refers(ref)}))); got != n {
			t.Errorf("%d references to %s, want %d", got, ref, n)
		}
	}
}

func TestProfile(t *testing.T) {
	t.Parallel()
	p := newAuthors(4)
	me, friend, other, stranger := p[0], p[1], p[2], p[3]
	l := openLog(t)
	x := start(t, Options{Log: l, Self: me.id(), Hops: 1})
	blob := func(n byte) string { return identity.BlobID{n}.String() }
	about := func(a *author, fields string) {
		store(t, l, a.sign(t, fmt.Sprintf(`{"type":"about","about":"%s",%s}`, friend.id(), fields)))
	}
	store(t, l, me.sign(t, contentFollow(friend.id())), me.sign(t, contentFollow(other.id())))
	about(stranger, `"image":"`+blob(9)+`","description":"evil"`)
	check := func(say string, want Profile) {
		t.Helper()
		got, err := x.caughtUp().Profile(friend.id())
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s, %v (-want +got):\n%s", say, err, diff)
		}
	}
	check("of strangers", Profile{})
	about(other, `"image":{"link":"`+blob(1)+`","size":7},"description":"a friend"`)
	check("of somebody in range", Profile{Image: blob(1), Description: "a friend"})
	about(friend, `"name":"Fred","image":"`+blob(2)+`?unbox=x","description":"one\n`+"\u202e"+`two\u0007 "`)
	check("its own", Profile{"Fred", blob(2), "one\ntwo"})
	about(friend, `"name":7,"image":"&x","description":["no"]`)
	check("what is nothing", Profile{"Fred", blob(2), "one\ntwo"})
	about(me, `"image":"`+blob(3)+`"`)
	check("ours", Profile{"Fred", blob(3), "one\ntwo"})
	about(me, `"image":{"remove":true}`)
	about(friend, `"image":{"remove":true,"link":"`+blob(4)+`"},"description":"`+strings.Repeat("é", 3000)+`"`)
	check("taken back", Profile{"Fred", blob(1), strings.Repeat("é", textMost)})
	var all []string
	for _, feed := range []identity.ID{friend.id(), {}} {
		n := 0
		for said, err := range x.Said(feed) {
			if err != nil {
				t.Fatal(err)
			}
			if said.Feed != friend.id() {
				t.Errorf("said of %s", said.Feed)
			}
			if n++; said.Field == FieldImage {
				all = append(all, said.Author.Short()+" "+said.Text)
			}
		}
		if n != 6 {
			t.Errorf("%d things said, want 6", n)
		}
	}
	slices.Sort(all)
	want := []string{other.id().Short() + " " + blob(1), stranger.id().Short() + " " + blob(9)}
	want = []string{want[0], want[0], want[1], want[1]}
	slices.Sort(want)
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	checkSame(t, x)
}
