package classic

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf16"

	"charkha/identity"
)

// fields are the values of a message's keys, as JSON.
type fields [7]string

var names = [...]string{"previous", "author", "sequence", "timestamp", "hash", "content", "signature"}

// first is a first message with a signature that is well formed and wrong.
func first() fields {
	return fields{
		"null", `"` + identity.FromSeed([32]byte{1}).ID().String() + `"`, "1", "1500000000000", `"sha256"`,
		`{"type":"post"}`, `"` + base64.StdEncoding.EncodeToString(make([]byte, 64)) + sigSuffix + `"`,
	}
}

func (f fields) String() string {
	var b strings.Builder
	for i, v := range f {
		fmt.Fprintf(&b, "%c%q:%s", "{,"[min(i, 1)], names[i], v)
	}
	return b.String() + "}"
}

// with returns a copy with another value at one key.
func (f fields) with(name, value string) fields {
	for i := range names {
		if names[i] == name {
			f[i] = value
			return f
		}
	}
	panic("no field " + name)
}

func id(n byte) identity.MsgID { return identity.MsgID{n} }

func TestErrorsNameTheField(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ field, value, want string }{
		{"author", `"@abc.ed25519"`, "author"},
		{"author", `1`, "author"},
		{"author", `"\u0041"`, "author"},
		{"sequence", `"1"`, "sequence"},
		{"sequence", `1.5`, "sequence"},
		{"sequence", `2147483648`, "sequence"},
		{"sequence", `1e400`, "sequence"},
		{"hash", `"sha1"`, "hash"},
		{"content", `null`, "content"},
		{"content", `[]`, "content"},
		{"content", `"text"`, "content"},
		{"content", `"AAAA.box\n"`, "content"},
		{"content", `{}`, "content"},
		{"content", `{"type":"ab"}`, "content.type"},
		{"content", `{"x":{"type":"post"}}`, "content"},
		{"content", `{"type":"` + strings.Repeat("😀", 27) + `"}`, "content.type"},
		{"content", `{"type":"post","text":"` + strings.Repeat("€", 8192) + `"}`, "UTF-16 units"},
		{"signature", `"AAAA.sig.ed25519"`, "signature"},
		{"signature", `"` + strings.Repeat("A", 86) + `=B.sig.ed25519"`, "signature"},
		{"signature", `"` + strings.Repeat("A", 85) + `B==.sig.ed25519"`, "signature"},
		{"signature", `"` + strings.Repeat("A", 87) + `.sig.ed25519"`, "signature"},
		{"signature", `"` + strings.Repeat("A", 86) + `B=.sig.ed25519"`, "signature"},
		{"signature", `"` + strings.Repeat("A", 84) + `\nA==.sig.ed25519"`, "signature"},
		{"signature", `null`, "signature"},
	} {
		var s Scanner
		_, err := s.Scan([]byte(first().with(c.field, c.value).String()))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %.60s: error %v, want an *Error about %s", c.field, c.value, err, c.want)
		}
	}
}

// Where in the input it went wrong.
func TestErrorOffsets(t *testing.T) {
	t.Parallel()
	for in, at := range map[string]int{
		"":                     0,
		"\ufeff{}":             0,
		"{} x":                 3,
		`{"a" 1}`:              5,
		`["abcdefghij` + "\n":  12,
		`["ab` + "\xff" + `"]`: 4,
		`["é` + "\xed\xa0\x80": 4,
		`[1,]`:                 3,
		`[01]`:                 3,
		`["\x"]`:               2,
		`{"a":nul}`:            5,
	} {
		_, err := Canonical(nil, []byte(in))
		var e *Error
		if !errors.As(err, &e) || e.Offset != at {
			t.Errorf("%q: error %v, want one at byte %d", in, err, at)
		}
	}
}

// Numbers that strconv.ParseFloat alone reads otherwise than V8, and others at the edges. The right side is what node prints.
func TestNumbersAreReadAsV8ReadsThem(t *testing.T) {
	t.Parallel()
	zeros := func(n int) string { return strings.Repeat("0", n) }
	for in, want := range map[string]string{
		"0." + zeros(9999) + "1e100000":             "null",
		"-0." + zeros(9999) + "1e100000":            "null",
		"1" + zeros(20000) + "e-100000":             "0",
		"0." + zeros(99999) + "1e100000":            "1",
		"0." + zeros(99999) + "12345e0000000100001": "12.345",
		"0." + zeros(99999) + "1e100308":            "1e+308",
		"0." + zeros(99999) + "1e100309":            "null",
		"35" + zeros(1600) + ".5e-1601":             "3.5",
		"-35" + zeros(1600) + "e-1601":              "-3.5",
		"1" + zeros(900) + "1e-900":                 "10",
		"9007199254740993" + zeros(900) + "1e-901":  "9007199254740994",
		"9007199254740993" + zeros(900) + "e-900":   "9007199254740992",
		"1e00000000000000000001":                    "10",
		"1e-99999999999999999999999":                "0",
		"1e99999999999999999999999":                 "null",
		"0e99999999999999999999999":                 "0",
		"0." + zeros(900) + "e99999999999999999":    "0",
		"-0":                                        "0",
		"-0.0e5":                                    "0",
		"1.0":                                       "1",
		"1.50":                                      "1.5",
		"0.5":                                       "0.5",
		"10e-1":                                     "1",
		"123456789012345":                           "123456789012345",
		"1234567890123456789":                       "1234567890123456800",
		"12345678901234.5":                          "12345678901234.5",
		"1567190273951.0159":                        "1567190273951.0159",
		"0.000001":                                  "0.000001",
		"0.0000001":                                 "1e-7",
		"999999999999999999999":                     "1e+21",
		"-1e21":                                     "-1e+21",
		"5e-324":                                    "5e-324",
		"2e-324":                                    "0",
		"1.7976931348623158e308":                    "1.7976931348623157e+308",
		"1.7976931348623159e308":                    "null",
	} {
		for _, spell := range []func(dst, src []byte) ([]byte, error){Canonical, Compact} {
			if got, err := spell(nil, []byte(in)); err != nil || string(got) != want {
				t.Errorf("%.30s... (%d bytes): %s, error %v, want %s", in, len(in), got, err, want)
			}
		}
	}
}

func TestKeysAreOrderedAsV8OrdersThem(t *testing.T) {
	t.Parallel()
	many, manyWant := `{"k0":0`, `{"k0":1`
	for i := 1; i < 3000; i++ {
		many += fmt.Sprintf(`,"k%d":%d`, i, i)
		manyWant += fmt.Sprintf(`,"k%d":%d`, i, i)
	}
	for in, want := range map[string]string{
		`{"a":1,"b":2,"a":[3]}`:                                 `{"a":[3],"b":2}`,
		`{"b":0,"10":1,"9":2,"\u0031":3}`:                       `{"1":3,"9":2,"10":1,"b":0}`,
		`{"4294967295":0,"4294967294":1,"01":2,"-1":3,"1.0":4}`: `{"4294967294":1,"4294967295":0,"01":2,"-1":3,"1.0":4}`,
		`{"1":1,"a":2,"1":{"z":1,"0":2}}`:                       `{"1":{"0":2,"z":1},"a":2}`,
		`{"\u0061":1,"a":2}`:                                    `{"a":2}`,
		`{"__proto__":1,"constructor":2,"__proto__":3}`:         `{"__proto__":3,"constructor":2}`,
		`{"\ud800":1,"\uD800":2}`:                               `{"\ud800":2}`,
		`{"":1,"":2}`:                                           `{"":2}`,
		many + `,"k0":1}`:                                       manyWant + `}`,
	} {
		if got, err := Compact(nil, []byte(in)); err != nil || string(got) != want {
			t.Errorf("%.80s: %.200s, error %v, want %.200s", in, got, err, want)
		}
	}
}

func TestPreviousMustBeNullInTheFirst(t *testing.T) {
	t.Parallel()
	var s Scanner
	for value, ok := range map[string]bool{
		"null":                                  true,
		`"` + (identity.MsgID{}).String() + `"`: false, // all zero, but not null
		`"` + id(1).String() + `"`:              false,
		`""`:                                    false,
		"0":                                     false,
		"[]":                                    false,
		"[null]":                                false,
	} {
		m, err := s.Scan([]byte(first().with("previous", value).String()))
		if err != nil {
			t.Errorf("%s: %v", value, err)
		} else if err := m.CheckNext(0, identity.MsgID{}); (err == nil) != ok {
			t.Errorf("previous %s in the first message: %v", value, err)
		}
	}
}

func TestCheckNext(t *testing.T) {
	t.Parallel()
	var s Scanner
	next := first().with("sequence", "3").with("previous", `"`+id(2).String()+`"`)
	for _, c := range []struct {
		name string
		f    fields
		seq  int64
		want error
	}{
		{"follows", next, 2, nil},
		{"timestamp of any type", next.with("timestamp", `"yesterday"`), 2, nil},
		{"timestamp below", next.with("timestamp", "-5"), 2, nil},
		{"sequence as a decimal", next.with("sequence", "3.0"), 2, nil},
		{"previous in arrays, which == looks through", next.with("previous", `[["`+id(2).String()+`"]]`), 2, nil},
		{"previous in an array of two", next.with("previous", `["`+id(2).String()+`",1]`), 2, ErrFork},
		{"previous is another", next.with("previous", `"`+id(3).String()+`"`), 2, ErrFork},
		{"previous null", next.with("previous", "null"), 2, ErrFork},
		{"previous no id", next.with("previous", `"x"`), 2, ErrFork},
		{"sequence above", next, 1, ErrGap},
		{"sequence below", next, 3, ErrGap},
		{"not the first", next, 0, ErrGap},
		{"first", first(), 0, nil},
		{"sequence 0", first().with("sequence", "0"), 0, ErrGap},
		{"sequence negative", first().with("sequence", "-1"), 0, ErrGap},
	} {
		m, err := s.Scan([]byte(c.f.String()))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := m.CheckNext(c.seq, id(2)); !errors.Is(err, c.want) || err != nil && c.want == nil {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
	}
	for value, ok := range map[string]bool{"1e400": true, "-1e400": true, "-0": true, "null": false, `"1"`: false, "{}": false} {
		m, err := s.Scan([]byte(first().with("timestamp", value).String()))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.CheckNext(0, identity.MsgID{}); (err == nil) != ok {
			t.Errorf("timestamp %s in the first message: %v", value, err)
		}
		if err := m.Standalone(); (err == nil) != ok {
			t.Errorf("timestamp %s alone: %v", value, err)
		}
	}
}

// same says how two messages differ, "" when they do not.
func same(a, b *Message) string {
	if a.Key != b.Key || a.Author != b.Author || a.Sequence != b.Sequence || a.Previous != b.Previous ||
		a.Signature != b.Signature || a.SequenceFirst != b.SequenceFirst || a.noNumber != b.noNumber || a.oddPrevious != b.oddPrevious {
		return fmt.Sprintf("%+v\n%+v", a, b)
	}
	if a.Timestamp != b.Timestamp {
		return fmt.Sprintf("timestamps %v and %v", a.Timestamp, b.Timestamp)
	}
	for _, pair := range [][2][]byte{{a.Value, b.Value}, {a.Content, b.Content}, {a.Type, b.Type}, {a.Signed, b.Signed}} {
		if !bytes.Equal(pair[0], pair[1]) {
			return fmt.Sprintf("%q\n%q", pair[0], pair[1])
		}
	}
	return ""
}

// What Value says of overflowing numbers, and that it reads back as the same message.
func TestValueReadsBack(t *testing.T) {
	t.Parallel()
	var s, again Scanner
	for _, f := range []fields{
		first().with("timestamp", "1e400"),
		first().with("timestamp", "-1e999"),
		first().with("timestamp", " -0.0 "),
		first().with("timestamp", `{"b":1,"0":1e400}`),
		first().with("content", `{"type":"post","n":[1e400,-1e400]}`),
		first().with("content", `{"n":1e400,"type":"a\u0062\u0063","n":2,"7":"\ud83d\ude00\ud83d"}`),
		first().with("content", `{"type":"\ud800\u0000x"}`),
		first().with("previous", ` [ "`+id(1).String()+`" ]`),
	} {
		m, err := s.Scan([]byte(f.String()))
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		b, err := again.Scan(m.Value)
		if err != nil {
			t.Fatalf("%s: value %s: %v", f, m.Value, err)
		}
		if d := same(m, b); d != "" {
			t.Errorf("%s: read back otherwise: %s", f, d)
		}
		if strings.Contains(string(m.Content), "e400") {
			t.Errorf("%s: content %s", f, m.Content)
		}
	}
	if m, err := s.Scan([]byte(first().with("timestamp", "-1e400").String())); err != nil || !math.IsInf(m.Timestamp, -1) {
		t.Errorf("timestamp -1e400: %v, %v", m, err)
	}
}

func TestType(t *testing.T) {
	t.Parallel()
	var s Scanner
	for content, want := range map[string]string{
		`{"type":"post"}`:                                       "post",
		`{"x":"\"type\":\"no\"","type":"about"}`:                "about",
		`{"x":{"type":"no"},"y":[{"type":"no"}],"type":"vote"}`: "vote",
		`{"ty\u0070e":"a\u0062\nc\/\\\""}`:                      "ab\nc/\\\"",
		`{"type":"old","type":"new"}`:                           "new",
		`{"type":"héé😀"}`:                                       "héé😀",
		`{"type":"\ud83d\ude00abc"}`:                            "😀abc",
		`"AAAA.box"`:                                            "",
		`".box2 what follows"`:                                  "",
	} {
		m, err := s.Scan([]byte(first().with("content", content).String()))
		if err != nil {
			t.Errorf("%s: %v", content, err)
			continue
		}
		if string(m.Type) != want || (m.Type == nil) != (content[0] == '"') {
			t.Errorf("%s: type %q, want %q", content, m.Type, want)
		}
		if got := TypeOf(m.Content); got != want {
			t.Errorf("%s: TypeOf says %q, want %q", content, got, want)
		}
		if at := cap(m.Value) - cap(m.Content); !bytes.Equal(m.Value[at:at+len(m.Content)], m.Content) {
			t.Errorf("%s: the content is no part of the value", content)
		}
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	k := identity.FromSeed([32]byte{7})
	key := &[32]byte{1, 2, 3}
	var s Scanner
	for _, hmac := range []*[32]byte{nil, key} {
		var previous identity.MsgID
		for i, content := range []string{
			`{"type":"post","text":"hello"}`,
			" {\"text\" : \"\\u00e9\\ud800\",\n\"2\":1e400, \"type\":\"post\", \"1\":1.0, \"2\":2.50}",
			`"AAAA.box"`,
			`{"type":"post","text":"` + strings.Repeat("€", 7700) + `"}`,
		} {
			seq := int64(i + 1)
			value, err := Encode(k, hmac, previous, seq, 1.5e12+0.25, []byte(content))
			if err != nil {
				t.Fatalf("%.80s: %v", content, err)
			}
			m, err := s.Scan(value)
			if err != nil {
				t.Fatalf("%s: %v", value, err)
			}
			compact, _ := Compact(nil, []byte(content))
			if string(m.Value) != string(value) || string(m.Content) != string(compact) {
				t.Errorf("%s: value %s", value, m.Value)
			}
			if m.Author != k.ID() || m.Sequence != seq || m.Timestamp != 1500000000000.25 || m.SequenceFirst {
				t.Errorf("%s: read as %+v", value, m)
			}
			if err := m.CheckNext(int64(i), previous); err != nil {
				t.Errorf("%s: %v", value, err)
			}
			other := key
			if hmac != nil {
				other = nil
			}
			if !m.VerifySignature(hmac) || m.VerifySignature(other) {
				t.Errorf("%s: signature good %v, under the other key %v", value, m.VerifySignature(hmac), m.VerifySignature(other))
			}
			m.Signed[len(m.Signed)/2] ^= 1
			if m.VerifySignature(hmac) {
				t.Errorf("%s: signature covers anything", value)
			}
			previous = m.Key
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	k := identity.FromSeed([32]byte{7})
	const post = `{"type":"post"}`
	for _, c := range []struct {
		previous  identity.MsgID
		sequence  int64
		timestamp float64
		content   string
		want      string
	}{
		{id(0), 0, 1, post, "sequence"},
		{id(1), -5, 1, post, "sequence"},
		{id(1), 1 << 31, 1, post, "sequence"},
		{id(0), 2, 1, post, "previous"},
		{id(1), 1, 1, post, "previous"},
		{id(0), 1, math.NaN(), post, "timestamp"},
		{id(0), 1, math.Inf(1), post, "timestamp"},
		{id(0), 1, 1, ``, "content"},
		{id(0), 1, 1, `{"type":"post"`, "content"},
		{id(0), 1, 1, `{"type":"post"},"x":1`, "content"},
		{id(0), 1, 1, `{"type":"post"},"timestamp":{}`, "content"},
		{id(0), 1, 1, `"text"`, "content"},
		{id(0), 1, 1, `[1]`, "content"},
		{id(0), 1, 1, `{"type":"po"}`, "content.type"},
		{id(0), 1, 1, `{"type":"post","x":"` + strings.Repeat("x", 8192) + `"}`, "UTF-16 units"},
		{id(0), 1, 1, `{"type":"post","x":"` + strings.Repeat("x", MaxRaw) + `"}`, "content"},
		{id(0), 1, 1, "{\"type\":\"post\",\"x\":\"\xff\"}", "UTF-8"},
	} {
		value, err := Encode(k, nil, c.previous, c.sequence, c.timestamp, []byte(c.content))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || value != nil {
			t.Errorf("sequence %d, timestamp %v, content %.40s: %s, error %v, want one about %s", c.sequence, c.timestamp, c.content, value, err, c.want)
		}
	}
}

// latin1 is AppendLatin1 by another way.
func latin1(text string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(text)) {
		b = append(b, byte(u))
	}
	return b
}

func TestAppendLatin1(t *testing.T) {
	t.Parallel()
	for _, pad := range []string{"", "a", "abcdefg", "abcdefgh", "0123456789abcdef!"} {
		for _, r := range []rune{0x7f, 0x80, 0x7ff, 0x800, 0xfffd, 0xffff, 0x10000, 0x1f600, 0x103ff, 0x10400, 0x10ffff} {
			text := pad + string(r) + pad + string(r) + string(r)
			if got := AppendLatin1([]byte("x"), []byte(text)); string(got) != "x"+string(latin1(text)) {
				t.Errorf("%q: %x, want %x", text, got[1:], latin1(text))
			}
		}
	}
}

// A signature of 88 characters can hold 65 or 66 bytes. npm ssb-validate 4.1.4 and ssb-classic 1.1.0 take these two messages, and
// these are the ids that they give.
func TestLongSignature(t *testing.T) {
	t.Parallel()
	for end, id := range map[string]string{
		"E=": "%fBu2Wc7DBtcmGBUTer+Ubf+H1jT5bym3gCsOZeamofs=.sha256",
		"FB": "%4UnO6eGtkjXhTp+EbGAIVIkF1aF+f1wYTf8MtSx07F0=.sha256",
	} {
		raw := `{"previous":null,"sequence":1,"author":"@6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=.ed25519","timestamp":1000000000000,` +
			`"hash":"sha256","content":{"type":"post","text":"x"},"signature":"MxLyyGt66nn2rvMWuy37CRkD6ZjLptyZBrvJmqWZOsWevHIG72YpjmJZ` +
			`zxsFPIJHNpW5okurmVDw1t+BmUvDAk` + end + `.sig.ed25519"}`
		var s Scanner
		m, err := s.Scan([]byte(raw))
		if err != nil {
			t.Errorf("ends in %s: %v", end, err)
			continue
		}
		if m.Key.String() != id || !m.VerifySignature(nil) || string(m.Value) != raw {
			t.Errorf("ends in %s: %s, %s", end, m.Key, m.Value)
		}
	}
}

func TestPeek(t *testing.T) {
	t.Parallel()
	f := first().with("sequence", "77")
	author := identity.FromSeed([32]byte{1}).ID()
	swapped := f.String()
	swapped = strings.Replace(swapped, `"author":`+f[1]+`,"sequence":77`, `"sequence":77,"author":`+f[1], 1)
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(f.with("previous", `"`+id(1).String()+`"`).String()), "", "  "); err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{f.String(), swapped, pretty.String(), " \n" + f.String()} {
		if a, seq, ok := Peek([]byte(raw)); !ok || a != author || seq != 77 {
			t.Errorf("%.120s: %v %v %d", raw, ok, a, seq)
		}
	}
	for _, raw := range []string{
		"", "{", "null", `{"author":1}`, f.with("sequence", "0").String(), f.with("sequence", "-1").String(), f.with("sequence", "1.5").String(),
		f.with("sequence", "12345678901").String(), f.with("author", `"x"`).String(), f.with("author", "1").String(),
		strings.Replace(f.String(), `"sequence"`, `"author"`, 1), f.String()[:90], f.String()[:20],
	} {
		if a, seq, ok := Peek([]byte(raw)); ok {
			t.Errorf("%.120s: peeked %v %d", raw, a, seq)
		}
	}
	// Odd spellings, and keys that stand twice: the last value counts, which may stand far behind.
	other := identity.FromSeed([32]byte{2}).ID()
	plain := f.String()
	for _, c := range []struct {
		raw    string
		author identity.ID
		seq    int64
	}{
		{f.with("sequence", "77.0").String(), author, 77},
		{f.with("sequence", "7.7e1").String(), author, 77},
		{strings.Replace(plain, `"author"`, `"\u0061uthor"`, 1), author, 77},
		{strings.Replace(plain, `"previous":null`, `"previous":[null]`, 1), author, 77},
		{f.with("content", `{"type":"post","author":"`+other.String()+`","sequence":5,"text":"\u0000"}`).String(), author, 77},
		{plain[:len(plain)-1] + `,"author":"` + other.String() + `"}`, other, 77},
		{plain[:len(plain)-1] + `,"sequence":5}`, author, 5},
		{plain[:len(plain)-1] + `,"sequenc\u0065":5}`, author, 5},
		{strings.Replace(plain, `"hash"`, ` "\u0061uthor" : "`+other.String()+`", "hash"`, 1), other, 77},
	} {
		m, err := new(Scanner).Scan([]byte(c.raw))
		if err != nil || m.Author != c.author || m.Sequence != c.seq {
			t.Errorf("%s: scanned %v, %v", c.raw, m, err)
		}
		if a, seq, ok := Peek([]byte(c.raw)); !ok || a != c.author || seq != c.seq {
			t.Errorf("%s: peeked %v %v %d", c.raw, ok, a, seq)
		}
	}
}

// Scanning costs no allocation, however many fields a message has.
func TestScanAllocates(t *testing.T) {
	fields := `"text":"hello","link":"` + id(1).String() + `"`
	var s Scanner
	allocs := func(raw []byte) float64 {
		return testing.AllocsPerRun(100, func() {
			if _, err := s.Scan(raw); err != nil {
				t.Fatal(err)
			}
		})
	}
	few := allocs([]byte(first().with("content", `{"type":"post",`+fields+`}`).String()))
	var many strings.Builder
	for i := range 50 {
		fmt.Fprintf(&many, `,"k%d":{%s,"n":[1.5,%d,null]}`, i, `"text":"h\u00e9llo"`, i)
	}
	more := allocs([]byte(first().with("content", `{"type":"post"`+many.String()+`}`).String()))
	if few > 0 || more > 0 {
		t.Errorf("%v allocations for a message of two fields, %v for one of two hundred", few, more)
	}
}

// hostile are messages written to be a burden, each of about 60 KiB.
func hostile() map[string]string {
	const size = 60 << 10
	nest := func(open, inner, shut string, depth int) string {
		return strings.Repeat(open, depth) + inner + strings.Repeat(shut, depth)
	}
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	var keys, hexKeys strings.Builder
	for i := range size / 10 {
		fmt.Fprintf(&keys, `"k%x":0,`, i)
		fmt.Fprintf(&hexKeys, `"%d":0,`, size-i)
	}
	object := func(members string) string { return `{` + members + `"type":"post"}` }
	m := map[string]string{
		"other keys":              object(keys.String()),
		"equal keys":              object(fill(`"a":0,`)),
		"indices falling":         object(hexKeys.String()),
		"deep arrays":             object(`"a":` + nest("[", "", "]", size/2) + `,`),
		"deep, keys in order":     object(`"a":` + nest(`{"a":`, "0", "}", 900) + `,`),
		"deep, out of order":      object(`"a":` + nest(`{"a":0,"0":`, "0", "}", 350) + `,`),
		"deep around much":        object(`"a":` + nest(`{"a":0,"0":`, `"`+strings.Repeat("x", 50<<10)+`"`, "}", 60) + `,`),
		"equal keys around much":  object(`"a":` + nest(`{"a":0,"a":`, `"`+strings.Repeat("x", 50<<10)+`"`, "}", 60) + `,`),
		"indentation":             object(`"a":` + nest("[", strings.Repeat("0,", 20<<10)+"0", "]", 200) + `,`),
		"escapes":                 object(`"a":"` + fill(`\u0000`) + `",`),
		"surrogates":              object(`"a":"` + fill(`\ud800`) + `",`),
		"beyond ASCII":            object(`"a":"` + fill("é") + `",`),
		"digits":                  object(`"a":` + strings.Repeat("1", size) + `,`),
		"digits with an exponent": object(`"a":` + strings.Repeat("1", size) + `e-60000,`),
		"many odd numbers":        object(`"a":[` + fill("1.7976931348623157e308,") + `0],`),
		"many long numbers":       object(`"a":[` + fill(strings.Repeat("1", 801)+"e-801,") + `0],`),
		"white space":             object(fill(" ")),
		"empty arrays":            object(`"a":[` + fill("[],") + `0],`),
	}
	for name, content := range m {
		m[name] = first().with("content", content).String()
	}
	return m
}

// The bytes that a message makes the Scanner hold and move stay within bounds, whoever wrote it.
func TestHostileMessagesAreBounded(t *testing.T) {
	t.Parallel()
	for name, raw := range hostile() {
		if len(raw) > MaxRaw {
			t.Errorf("%s: %d bytes, which are refused unread", name, len(raw))
		}
		var s Scanner
		m, err := s.Scan([]byte(raw))
		if err == nil && len(m.Signed) > 3*MaxLength {
			t.Errorf("%s: accepted with %d bytes signed", name, len(m.Signed))
		}
		held := cap(s.pretty) + cap(s.compact) + cap(s.latin) + cap(s.scratch) + cap(s.typ) + 4*cap(s.table) + 72*cap(s.members)
		if held > 4<<20 {
			t.Errorf("%s: holds %d bytes", name, held)
		}
		if s.moved > maxMoved+2*maxPretty {
			t.Errorf("%s: moved %d bytes", name, s.moved)
		}
	}
	for _, raw := range []string{strings.Repeat(" ", MaxRaw+1), strings.Repeat("[", MaxRaw), strings.Repeat(`{"":`, MaxRaw/4)} {
		if _, err := new(Scanner).Scan([]byte(raw)); err == nil {
			t.Errorf("%.10s... accepted", raw)
		}
	}
}

// What 8192 units can hold at most of depth, of disorder and of spelling on the wire is within the Scanner's own bounds: none of
// them refuses what ssb-validate takes, unless keys are overwritten.
func TestBoundsTakeTheLargestMessages(t *testing.T) {
	t.Parallel()
	largest := func(content func(n int) string) string {
		last := ""
		var s Scanner
		lo, hi := 0, 8192
		for lo < hi {
			n := (lo + hi + 1) / 2
			raw := first().with("content", content(n)).String()
			pretty, err := Canonical(nil, []byte(raw))
			if err != nil {
				t.Fatal(err)
			}
			if len(AppendLatin1(nil, pretty)) <= MaxLength {
				lo, last = n, raw
			} else {
				hi = n - 1
			}
		}
		if last == "" {
			t.Fatal("nothing fits")
		}
		if _, err := s.Scan([]byte(last)); err != nil {
			t.Errorf("%.200s... (%d bytes) is refused: %v", last[300:], len(last), err)
		}
		return last
	}
	largest(func(n int) string {
		return `{"type":"post","a":` + strings.Repeat("[", n/16) + "0" + strings.Repeat("]", n/16) + `}`
	})
	for depth := 5; depth < 45; depth += 6 {
		largest(func(n int) string {
			return `{"type":"post","a":` + strings.Repeat(`{"a":0,"0":`, depth) + `"` + strings.Repeat("€", n) + `"` + strings.Repeat("}", depth) + `}`
		})
	}
	raw := largest(func(n int) string { return `{"type":"post","a":"` + strings.Repeat(`\u20ac`, n) + `"}` })
	if len(raw) < 6*7000 {
		t.Errorf("a message of escapes has %d bytes", len(raw))
	}
}
