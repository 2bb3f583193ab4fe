package index

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"charkha/identity"
)

var bob = key(2).ID()

func TestParseContact(t *testing.T) {
	t.Parallel()
	id := bob.String()
	for _, tc := range []struct {
		content string
		want    edge // 0: no contact
	}{
		{`{"type":"contact","contact":"ID","following":true}`, follows},
		{`{"type":"contact","contact":"ID","following":true,"autofollow":true}`, follows},
		{`{"type":"contact","contact":"ID","following":true,"blocking":false}`, follows},
		{`{"type":"contact","contact":"ID","following":false}`, neither},
		{`{"type":"contact","contact":"ID"}`, neither},
		{`{"type":"contact","contact":"ID","blocking":true}`, blocks},
		{`{"type":"contact","contact":"ID","blocking":true,"following":true}`, blocks},
		{`{"type":"contact","contact":"ID","following":true,"flagged":true}`, blocks},
		{`{"type":"contact","contact":"ID","flagged":{"reason":"spam"}}`, blocks},
		// following must be true, blocking and flagged JavaScript's true.
		{`{"type":"contact","contact":"ID","following":1}`, neither},
		{`{"type":"contact","contact":"ID","following":"true"}`, neither},
		{`{"type":"contact","contact":"ID","following":[true]}`, neither},
		{`{"type":"contact","contact":"ID","blocking":0,"following":true}`, follows},
		{`{"type":"contact","contact":"ID","blocking":"","following":true}`, follows},
		{`{"type":"contact","contact":"ID","blocking":null,"following":true}`, follows},
		{`{"type":"contact","contact":"ID","blocking":"0"}`, blocks},
		{`{"type":"contact","contact":"ID","blocking":"false"}`, blocks},
		{`{"type":"contact","contact":"ID","blocking":-1}`, blocks},
		{`{"type":"contact","contact":"ID","blocking":[]}`, blocks},
		{`{"type":"contact","contact":"ID","blocking":{}}`, blocks},
		// Keys are themselves and nothing like them.
		{`{"type":"contact","contact":"ID","following":true,"Following":false}`, follows},
		{`{"type":"contact","contact":"ID","following":true,"BLOCKING":true}`, follows},
		{`{"type":"contact","contact":"ID","following":true,"bloc` + "\u212a" + `ing":true}`, follows},
		{`{"type":"contact","contact":"ID","Following":true}`, neither},
		{`{"type":"contact","Contact":"ID","following":true}`, 0},
		{`{"type":"contact","contact":"ID","x":{"blocking":true},"following":true}`, follows},
		// Whom?
		{`{"type":"contact","following":true}`, 0},
		{`{"type":"contact","contact":null,"following":true}`, 0},
		{`{"type":"contact","contact":["ID"],"following":true}`, 0},
		{`{"type":"contact","contact":{"id":"ID"},"following":true}`, 0},
		{`{"type":"contact","contact":7,"following":true}`, 0},
		{`{"type":"contact","contact":"","following":true}`, 0},
		{`{"type":"contact","contact":"ID ","following":true}`, 0},
		{`{"type":"contact","contact":" ID","following":true}`, 0},
		{`{"type":"contact","contact":"ID\u0000","following":true}`, 0},
		{`{"type":"contact","contact":"@bob","following":true}`, 0},
		{`{"type":"contact","contact":"%` + id[1:45] + `.sha256","following":true}`, 0},
		{`{"type":"contact","contact":"#channel","following":true}`, 0},
		{`{"type":"contact","contact":"` + strings.Repeat("@", 8000) + `","following":true}`, 0},
		{`{"type":"contact","contact":` + strings.Repeat("[", 4000) + strings.Repeat("]", 4000) + `,"following":true}`, 0},
		{`{"type":"contact","deep":` + strings.Repeat(`{"a":`, 1500) + `1` + strings.Repeat("}", 1500) + `,"contact":"ID","following":true}`, follows},
		// No contents, but they must do no harm.
		{``, 0}, {`null`, 0}, {`[]`, 0}, {`"ID"`, 0}, {`{`, 0}, {`{"contact":"ID"`, 0}, {"\xff", 0},
	} {
		content := strings.ReplaceAll(tc.content, "ID", id)
		to, e, ok := parseContact([]byte(content))
		if ok != (tc.want != 0) || ok && (e != tc.want || to != bob) {
			t.Errorf("%.120s\n\tis %d of %s (%v), want %d", content, e, to.Short(), ok, tc.want)
		}
	}
}

func TestParseAbout(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		content, want string
		ok            bool
	}{
		{`{"type":"about","about":"ID","name":"Bob"}`, "Bob", true},
		{`{"type":"about","about":"ID","name":"Bob","image":"&x","Name":"Eve","NAME":"Eve"}`, "Bob", true},
		{`{"type":"about","about":"ID","name":{"remove":true}}`, "", true},
		{`{"type":"about","about":"ID","name":{"remove":"Bob"}}`, "", false},
		{`{"type":"about","about":"ID","name":{"remove":false}}`, "", false},
		{`{"type":"about","about":"ID","name":{"Remove":true}}`, "", false},
		{`{"type":"about","about":"ID","name":{}}`, "", false},
		{`{"type":"about","about":"ID","name":""}`, "", false},
		{`{"type":"about","about":"ID","name":" \n"}`, "", false},
		{`{"type":"about","about":"ID","name":null}`, "", false},
		{`{"type":"about","about":"ID","name":7}`, "", false},
		{`{"type":"about","about":"ID","name":true}`, "", false},
		{`{"type":"about","about":"ID","name":["Bob"]}`, "", false},
		{`{"type":"about","about":"ID","name":[[[[[[["Bob"]]]]]]]}`, "", false},
		{`{"type":"about","about":"ID","name":{"link":"ID"}}`, "", false},
		{`{"type":"about","about":"ID"}`, "", false},
		{`{"type":"about","about":"ID","Name":"Bob"}`, "", false},
		{`{"type":"about","name":"Bob"}`, "", false},
		{`{"type":"about","about":["ID"],"name":"Bob"}`, "", false},
		{`{"type":"about","about":{"link":"ID"},"name":"Bob"}`, "", false},
		{`{"type":"about","about":"%aaaa","name":"Bob"}`, "", false},
		{``, "", false}, {`null`, "", false}, {`[]`, "", false}, {`{"name":`, "", false},
	} {
		content := strings.ReplaceAll(tc.content, "ID", bob.String())
		feed, name, ok := parseAbout([]byte(content))
		if ok != tc.ok || ok && (name != tc.want || feed != bob) {
			t.Errorf("%s\n\tis %q of %s (%v), want %q (%v)", content, name, feed.Short(), ok, tc.want, tc.ok)
		}
	}
}

func TestCleanName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Bob":                            "Bob",
		" Bob  the\tbuilder\n":           "Bob the builder",
		"Bob\r\nERROR all is lost":       "Bob ERROR all is lost",
		"\x1b[31mBob\x07\x00":            "[31mBob",
		"\u202egnp.exe":                  "gnp.exe",
		"\u2066Bob\u2069\u200e\u200f":    "Bob",
		"B\u200bo\u00adb\ufeff":          "Bob",
		"Bob\u2028Eve\u2029Mallory":      "Bob Eve Mallory",
		"\u3164\u115f":                   "",
		"\u200d\u200c":                   "",
		"\u00a0\u3000":                   "",
		"":                               "",
		"\ufffd\xff":                     "",
		"Ελένη":                          "Ελένη",
		"李四 🦀":                           "李四 🦀",
		"می\u200cخواهم":                  "می\u200cخواهم",
		"👩\u200d💻":                       "👩\u200d💻",
		"❤\ufe0f":                        "❤\ufe0f",
		"@bob":                           "@bob",
		strings.Repeat("a", 8000):        strings.Repeat("a", nameMost),
		strings.Repeat("a b ", 2000):     strings.TrimRight(strings.Repeat("a b ", nameMost/4), " "),
		strings.Repeat("\u202e", 8000):   "",
		strings.Repeat(" ", 8000) + "Bo": "Bo",
	} {
		if got := cleanName(name); got != want {
			t.Errorf("cleanName(%.40q) = %.140q, want %.140q", name, got, want)
		}
	}
}

// checkName fails the test when a name could not be shown in a line.
func checkName(t *testing.T, name string) {
	t.Helper()
	if n := utf8.RuneCountInString(name); n > nameMost || !utf8.ValidString(name) {
		t.Errorf("name has %d characters, valid %v: %.100q", n, utf8.ValidString(name), name)
	}
	for _, r := range name {
		if unicode.IsControl(r) || unicode.IsSpace(r) && r != ' ' || unicode.Is(unicode.Bidi_Control, r) {
			t.Errorf("name has the character %U: %.100q", r, name)
		}
	}
	if strings.TrimSpace(name) != name || cleanName(name) != name {
		t.Errorf("name is not clean: %.100q", name)
	}
}

// fieldsOf decodes an object, numbers as they are spelled.
func fieldsOf(content []byte) (fields map[string]any) {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	if !json.Valid(content) || dec.Decode(&fields) != nil {
		return nil
	}
	return fields
}

// contactOf is what parseContact must say, by way of decoding everything.
func contactOf(content []byte) (to string, e edge) {
	fields := fieldsOf(content)
	to, _ = fields["contact"].(string)
	if _, err := identity.ParseID(to); err != nil {
		return "", 0
	}
	is := func(v any) bool {
		switch v := v.(type) {
		case nil:
			return false
		case bool:
			return v
		case json.Number:
			f, err := v.Float64()
			return err != nil || f != 0
		case string:
			return v != ""
		}
		return true
	}
	switch {
	case is(fields["blocking"]) || is(fields["flagged"]):
		return to, blocks
	case fields["following"] == true:
		return to, follows
	}
	return to, neither
}

func FuzzParseContact(f *testing.F) {
	for _, content := range []string{contentFollow(bob), contentBlock(bob), contentUnfollow(bob), contentUnblock(bob),
		fmt.Sprintf(`{"type":"contact","contact":"%s","Following":true,"flagged":{"a":[1,null]}}`, bob), `[[[]]]`, `{"contact":"`} {
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		to, e, ok := parseContact(content)
		wantTo, want := contactOf(content)
		if ok != (want != 0) || ok && to.String() != wantTo {
			t.Fatalf("%q is a contact: %v (%s), want %d (%s)", content, ok, to, want, wantTo)
		}
		// The log spells values one way only; of other spellings only their harmlessness is asked.
		if ok && e != want && canonical(content) {
			t.Fatalf("%q is %d, want %d", content, e, want)
		}
	})
}

// canonical reports whether no number is spelled in a way that the log does not: a zero that is not "0".
func canonical(content []byte) bool {
	fields := fieldsOf(content)
	for _, v := range fields {
		if n, ok := v.(json.Number); ok {
			if f, err := n.Float64(); err != nil || f == 0 && n != "0" {
				return false
			}
		}
	}
	return true
}

func FuzzParseAbout(f *testing.F) {
	for _, name := range []string{`"Bob"`, `{"remove":true}`, `null`, `"\u202e\u0000"`, `"\ud800"`, `[[["a"]]]`, `"` + strings.Repeat("a ", 200) + `"`} {
		f.Add([]byte(contentAbout(bob, name)))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		feed, name, ok := parseAbout(content)
		if !ok {
			return
		}
		checkName(t, name)
		fields := fieldsOf(content)
		if fields["about"] != feed.String() {
			t.Fatalf("%q is an about of %s", content, feed)
		}
		switch v := fields["name"].(type) {
		case string:
			if name != cleanName(v) || name == "" {
				t.Fatalf("%q has the name %q", content, name)
			}
		case map[string]any:
			if v["remove"] != true || name != "" {
				t.Fatalf("%q takes the name back: %q", content, name)
			}
		default:
			t.Fatalf("%q has a name", content)
		}
	})
}

func FuzzCleanName(f *testing.F) {
	for _, s := range []string{"Bob", " a\u202eb ", "\u200d a \u200c", "\xff\xfe", strings.Repeat("x ", 100) + "\u200d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkName(t, cleanName(s)) })
}

// Rows and cursors are read from a disk that may be damaged: what is accepted is what is written.
func FuzzRows(f *testing.F) {
	e := contact{bob, key(3).ID(), blocks}
	key, value := e.row('K')
	f.Add(key, value)
	r := row{place: place{at: 7, author: 3, seq: 9, time: 1.5e12}, flags: isPost | isReply, root: identity.MsgID{1}}
	f.Add(timeKey(r.time, r.at), r.value())
	tl := tail{frozen: 256, n: 2, first: 300, last: 301, body: []byte{0xac, 2, 1}}
	f.Add([]byte{}, tl.bytes())
	f.Add([]byte{}, cursor{2, 7, identity.MsgID{1}}.bytes())
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if len(key) > 0 {
			if e, err := parseContactRow(key[1:], value); err == nil {
				if k, v := e.row(key[0]); string(k) != string(key) || string(v) != string(value) {
					t.Errorf("contact row %x %x is written as %x %x", key, value, k, v)
				}
			}
		}
		if r, err := parseTimeRow(key, value); err == nil {
			again, err := parseTimeRow(timeKey(r.time, r.at), r.value())
			if err != nil || again.value2() != r.value2() {
				t.Errorf("time row %x %x is read as %v, and then as %v", key, value, r, again)
			}
		}
		if tl, err := parseTail(value); err == nil {
			again, err := parseTail(tl.bytes())
			if err != nil || again.n != tl.n || again.frozen != tl.frozen || string(again.body) != string(tl.body) {
				t.Errorf("tail %x is read as %v, and then as %v", value, tl, again)
			}
		}
		if all, err := parsePlaces(nil, value); err == nil && !slices.IsSorted(all) {
			t.Errorf("places %x are out of order", value)
		}
		if c, ok := parseCursor(value); ok && string(c.bytes()) != string(value) {
			t.Errorf("cursor %x is written as %x", value, c.bytes())
		}
	})
}

// value2 is all of a row, in a form that can be compared: not every number is equal to itself.
func (r row) value2() string { return string(timeKey(r.time, r.at)) + string(r.value()) }
