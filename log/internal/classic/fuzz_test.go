package classic

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"charkha/identity"
	"charkha/internal/vectors"
)

// FuzzScan: what Scan takes reads back from its Value as the same message, and its parts agree with each other.
func FuzzScan(f *testing.F) {
	type probe struct {
		Raw string `json:"raw"`
	}
	for i, p := range vectors.JSONLines[probe](f, "legacy-probes", "cases.jsonl") {
		if i%4 == 0 {
			f.Add([]byte(p.Raw))
		}
	}
	f.Add([]byte(first().String()))
	f.Add([]byte(first().with("timestamp", "-1e400").with("content", `{"a":"é","type":"\ud83d\ude00a\ud83d","1":1.50,"a":[{}]}`).String()))
	f.Add([]byte(first().with("previous", `[["`+id(1).String()+`"]]`).with("content", `".box\\n"`).String()))
	for _, raw := range hostile() {
		f.Add([]byte(raw[:min(len(raw), 4000)]))
	}
	var s, again Scanner
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := string(raw)
		m, err := s.Scan(raw)
		if string(raw) != before {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if m != nil || err.Error() == "" || len(err.Error()) > 500 {
				t.Fatalf("%v with error %q", m, err)
			}
			return
		}
		if !json.Valid(raw) || !utf8.Valid(raw) {
			t.Fatalf("accepted what is not JSON in UTF-8: %q", raw)
		}
		full, err := Canonical(nil, m.Value)
		if err != nil {
			t.Fatal(err)
		}
		units := latin1(string(full))
		if len(units) > MaxLength || identity.MsgID(sha256.Sum256(units)) != m.Key {
			t.Fatalf("key %s of %d units: %s", m.Key, len(units), full)
		}
		end := bytes.LastIndex(full, []byte(",\n  \"signature\": "))
		if end < 0 || string(full[:end])+"\n}" != string(m.Signed) {
			t.Fatalf("signed %s\nof %s", m.Signed, full)
		}
		if !utf8.Valid(m.Type) || TypeOf(m.Content) != string(m.Type) {
			t.Fatalf("type %q, and %q", m.Type, TypeOf(m.Content))
		}
		if at := cap(m.Value) - cap(m.Content); !bytes.Equal(m.Value[at:at+len(m.Content)], m.Content) {
			t.Fatal("the content is no part of the value")
		}
		b, err := again.Scan(m.Value)
		if err != nil {
			t.Fatalf("value %s: %v", m.Value, err)
		}
		if d := same(m, b); d != "" {
			t.Fatalf("read back otherwise: %s", d)
		}
		for _, text := range [][]byte{raw, m.Value} {
			if author, seq, ok := Peek(text); ok != (m.Sequence > 0 && !m.Author.IsZero()) || ok && (author != m.Author || seq != m.Sequence) {
				t.Fatalf("peeked %v %v %d in %s", ok, author, seq, text)
			}
		}
	})
}

// FuzzCanonical: both spellings against another way of making them, with encoding/json as the parser.
func FuzzCanonical(f *testing.F) {
	type syntax struct {
		Input []byte `json:"input_b64"`
	}
	for _, c := range vectors.JSONLines[syntax](f, "json-syntax", "cases.jsonl.gz") {
		if len(c.Input) < 2000 {
			f.Add(c.Input)
		}
	}
	f.Add([]byte(`{"b":[1e400,-0,1.50,{}],"2":{"1":0,"0":[]},"1":"\u0007\n\ud800","b":true}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		pretty, err := Canonical(nil, src)
		if err != nil {
			if json.Valid(src) && utf8.Valid(src) && depth(src) < maxDepth && len(src) < MaxRaw {
				t.Fatalf("refused: %v", err)
			}
			return
		}
		if !json.Valid(src) || !utf8.Valid(src) {
			t.Fatal("accepted what is not JSON in UTF-8")
		}
		compact, err := Compact([]byte("x"), src)
		if err != nil || compact[0] != 'x' {
			t.Fatalf("%q, %v", compact, err)
		}
		compact = compact[1:]
		for _, in := range [][]byte{pretty, compact} {
			if again, err := Canonical(nil, in); err != nil || !bytes.Equal(again, pretty) {
				t.Fatalf("%q spelled again: %q, %v", in, again, err)
			}
			if again, err := Compact(nil, in); err != nil || !bytes.Equal(again, compact) {
				t.Fatalf("%q made compact again: %q, %v", in, again, err)
			}
		}
		if bytes.Contains(pretty, []byte(`\ud`)) { // encoding/json has no lone surrogates
			return
		}
		dec := json.NewDecoder(bytes.NewReader(src))
		dec.UseNumber()
		want, ok := model(t, dec, "\n")
		if ok && want != string(pretty) {
			t.Fatalf("%q, want %q", pretty, want)
		}
		var wide bytes.Buffer
		if err := json.Indent(&wide, compact, "", "  "); err != nil || wide.String() != string(pretty) {
			t.Fatalf("%q, but indented %q, %v", pretty, wide.String(), err)
		}
	})
}

// depth is the most brackets that are open at once, those in strings counted too.
func depth(src []byte) (most int) {
	n := 0
	for _, c := range src {
		switch c {
		case '{', '[':
			n++
			most = max(most, n)
		case '}', ']':
			n--
		}
	}
	return most
}

// model spells a value by ECMA-262's rules, written for being read. ok is false when it holds a number that
// strconv.ParseFloat alone does not read right.
func model(t *testing.T, dec *json.Decoder, newline string) (text string, ok bool) {
	tok, err := dec.Token()
	if err != nil {
		t.Fatal(err)
	}
	ok = true
	list := func(open, shut string, items []string) string {
		if len(items) == 0 {
			return open + shut
		}
		return open + newline + "  " + strings.Join(items, ","+newline+"  ") + newline + shut
	}
	switch v := tok.(type) {
	case json.Delim:
		var items []string
		if v == '[' {
			for dec.More() {
				item, good := model(t, dec, newline+"  ")
				items, ok = append(items, item), ok && good
			}
			_, _ = dec.Token()
			return list("[", "]", items), ok
		}
		var keys []string
		values := map[string]string{}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				t.Fatal(err)
			}
			k := key.(string)
			if _, seen := values[k]; !seen {
				keys = append(keys, k)
			}
			item, good := model(t, dec, newline+"  ")
			values[k], ok = item, ok && good
		}
		_, _ = dec.Token()
		index := func(key string) int64 {
			n, err := strconv.ParseUint(key, 10, 32)
			if err != nil || n == math.MaxUint32 || strconv.FormatUint(n, 10) != key {
				return math.MaxInt64
			}
			return int64(n)
		}
		slices.SortStableFunc(keys, func(a, b string) int {
			return int(min(max(index(a)-index(b), -1), 1)) // indices are no more than 2^32 apart, or MaxInt64
		})
		for _, k := range keys {
			items = append(items, quote(k)+": "+values[k])
		}
		return list("{", "}", items), ok
	case string:
		return quote(v), true
	case json.Number:
		x, _ := strconv.ParseFloat(string(v), 64)
		_, exp, _ := strings.Cut(strings.ToLower(string(v)), "e")
		return string(AppendNumber(nil, x)), len(v) < 800 && len(exp) <= 5
	case bool:
		return strconv.FormatBool(v), true
	}
	return "null", true
}

func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		if short := strings.IndexRune("\b\t\n\f\r\"\\", r); short >= 0 {
			b.WriteString(`\` + `btnfr"\`[short:short+1])
		} else if r < 0x20 {
			b.WriteString(`\u00` + strconv.FormatInt(int64(r)+0x100, 16)[1:])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}

// FuzzAppendNumber: every double prints in the form that ECMA-262 chooses, with the fewest digits, and reads back.
func FuzzAppendNumber(f *testing.F) {
	for _, x := range []float64{0, math.Copysign(0, -1), 1, -1.5, 1e21, 123e18, 1e-6, 1e-7, 1.5e-7, 5e-324, math.MaxFloat64, math.Inf(1), math.NaN(), 1 << 53, 1<<53 + 2, 1567190273951.0159} {
		f.Add(math.Float64bits(x))
	}
	f.Fuzz(func(t *testing.T, bits uint64) {
		x := math.Float64frombits(bits)
		got := string(AppendNumber([]byte("x"), x))[1:]
		if math.IsNaN(x) || math.IsInf(x, 0) {
			if got != "null" {
				t.Fatalf("%v: %s", x, got)
			}
			return
		}
		want := strconv.FormatFloat(x, 'f', -1, 64)
		if abs := math.Abs(x); abs >= 1e21 || abs > 0 && abs < 1e-6 {
			want = strconv.FormatFloat(x, 'e', -1, 64)
			want = strings.NewReplacer("e-0", "e-", "e+0", "e+").Replace(want)
		}
		if x == 0 {
			want = "0"
		}
		if got != want {
			t.Fatalf("%x: %s, want %s", bits, got, want)
		}
		if back := parseNumber([]byte(got)); back != x {
			t.Fatalf("%s reads as %v, want %v", got, back, x)
		}
		for _, spell := range []func(dst, src []byte) ([]byte, error){Canonical, Compact} {
			if again, err := spell(nil, []byte(got)); err != nil || string(again) != got {
				t.Fatalf("%s spelled again: %s, %v", got, again, err)
			}
		}
	})
}
