package mfr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"charkha/internal/vectors"
)

func mustParse(t testing.TB, query string) *Query {
	t.Helper()
	q, err := Parse(json.RawMessage(query))
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return q
}

func raws(values ...string) []json.RawMessage {
	var all []json.RawMessage
	for _, v := range values {
		all = append(all, json.RawMessage(v))
	}
	return all
}

func TestParseForms(t *testing.T) {
	t.Parallel()
	values := raws(`{"a":1}`, `{"a":2}`)
	for query, want := range map[string]string{
		"":                              `[{"a":1},{"a":2}]`,
		"null":                          `[{"a":1},{"a":2}]`,
		"[]":                            `[{"a":1},{"a":2}]`,
		`"[]"`:                          `[{"a":1},{"a":2}]`,
		`""`:                            `[{"a":1},{"a":2}]`,
		` [ { "$filter" : {"a":2} } ] `: `[{"a":2}]`,
		`"[{\"$filter\":{\"a\":2}}]"`:   `[{"a":2}]`,
		`[null,{"$filter":{"a":2}},0]`:  `[{"a":2}]`,
		`{"$map":"a"}`:                  `[1,2]`,
		`{"a":2}`:                       `[{"a":2}]`,
		`{}`:                            `[{"a":1},{"a":2}]`,
		`[{"$filter":{"a":1}, "$filter":{"a":2}}]`: `[{"a":2}]`,
		`[{"$filter":{"\u0061":2}}]`:               `[{"a":2}]`,
	} {
		q, err := Parse(json.RawMessage(query))
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if got, err := collect(q, values); got != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", query, got, err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"[":                             "no JSON",
		`"["`:                           "no JSON",
		`"\"[]\""`:                      "no array of stages",
		"5":                             "no array of stages",
		"true":                          "no array of stages",
		`[{"$filter":{}},{"$mpa":"a"}]`: "stage 1 ($mpa)",
		`[{"$filter":{}},5]`:            "stage 1: 5 is no stage",
		`[[]]`:                          "stage 0: [] is no stage",
		`[{"a":1}]`:                     "stage 0 (a)",
		`[{"$filter":{"value":{"content":{"$foo":1}}}}]`:        `stage 0 ($filter): "value": "content": {"$foo":1}`,
		`[{"$filter":{"a":{"$in":5}}}]`:                         `stage 0 ($filter): "a": $in: 5`,
		`[{"$filter":{"a":{"$prefix":null}}}]`:                  `$prefix: null`,
		`[{"$filter":{"a":{"$sum":true}}}]`:                     `$sum stands outside of $reduce`,
		`[{"$map":{"a":{"$reduce":{"$sum":true}}}}]`:            `$reduce stands outside of $reduce`,
		`[{"$map":{"a":false}}]`:                                `stage 0 ($map): "a": false`,
		`[{"$map":["a",null]}]`:                                 `null cannot`,
		`[{"$reduce":{"a":{"$sum":null}}}]`:                     `stage 0 ($reduce): "a": $sum: null`,
		`[{"$reduce":"a"}]`:                                     `neither a reduce function`,
		`[{"$reduce":{"$count":true},"$is":"object"}]`:          `beside an operator`,
		`[{"$sort":"a"}]`:                                       `stage 0 ($sort): "a" is no array`,
		`[{"$sort":[["a"],true]}]`:                              `true is no path`,
		`[{"$sort":[{"a":1}]}]`:                                 `is no path`,
		"[" + strings.Repeat("{\"$filter\":{}},", 65) + "null]": "66 stages",
		strings.Repeat("[", 200) + strings.Repeat("]", 200):     "nested",
		`[{"$filter":"` + strings.Repeat("x", maxQuery) + `"}]`: "bytes",
	} {
		_, err := Parse(json.RawMessage(query))
		if !errors.Is(err, ErrQuery) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200s: %v; want %s", query, err, want)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%.200s: an error of %d bytes", query, len(err.Error()))
		}
	}
}

// What passes is given on as it is, down to the order of keys and the spelling of numbers and strings.
func TestBytesAreKept(t *testing.T) {
	t.Parallel()
	const in = "{ \"z\":1.50,\"a\" : \"\\u0061\\/\", \"2\":{},\n\"1\":[1 , 2],\"z\":2e0}"
	for query, want := range map[string]string{
		`[{"$filter":{"a":"a/"}}]`:      in,
		`[{"$filter":{"z":2}}]`:         in, // the last of equal keys
		`[{"$sort":[["z"]]}]`:           in,
		`[{"$map":"a"}]`:                `"\u0061\/"`,
		`[{"$map":{"b":"1","a":true}}]`: `{"b":[1 , 2],"a":"\u0061\/"}`,
		`[{"$map":"z"}]`:                `2e0`,
		`[{"$map":["1",0]}]`:            `1`,
		`[{"$map":{"x":"none"}}]`:       `{}`,
	} {
		if got, err := collect(mustParse(t, query), raws(" \n"+in+"\t")); got != "["+want+"]" || err != nil {
			t.Errorf("%s: %s, %v; want %s", query, got, err, want)
		}
	}
}

// JS sorts undefined last. It can only come out of $collect; answers.json has none of that.
func TestSortUndefined(t *testing.T) {
	t.Parallel()
	got, err := collect(mustParse(t, `[{"$reduce":{"$collect":"x"}},{"$sort":[["a"]]}]`), raws(`{}`, `{"x":[1]}`, `{"y":1}`, `{"x":2}`))
	if want := `[[1],2,null,null]`; got != want || err != nil {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

// Filters and maps answer at once, and stop reading when nobody wants more.
func TestRunStreams(t *testing.T) {
	t.Parallel()
	for query, ends := range map[string]bool{
		`[]`: false, `[{"$filter":{"a":{"$gte":0}}},{"$map":"a"},{"$map":{"b":[]}}]`: false,
		`[{"$filter":{}},{"$sort":[["a"]]}]`: true, `[{"$reduce":{"$collect":"a"}},{"$filter":{}}]`: true,
	} {
		q := mustParse(t, query)
		if q.Ends() != ends {
			t.Errorf("%s ends: %v", query, q.Ends())
		}
		read := 0
		endless := func(yield func(json.RawMessage, error) bool) {
			for read < 100 && yield(json.RawMessage(fmt.Sprintf(`{"a":%d}`, read+1)), nil) {
				read++
			}
		}
		got := 0
		for _, err := range q.Run(endless, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if !ends && read != got {
				t.Errorf("%s: %d read before result %d", query, read, got)
			}
			if got++; got == 3 {
				break
			}
		}
		if got != 3 || ends != (read == 100) {
			t.Errorf("%s: %d results from %d values", query, got, read)
		}
	}
}

func TestRunErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, query := range []string{`[]`, `[{"$reduce":{"$count":true}}]`} {
		var errs []error
		results := 0
		for _, err := range mustParse(t, query).Run(func(yield func(json.RawMessage, error) bool) {
			_ = yield(json.RawMessage("1"), nil) && yield(nil, broken)
		}, 0) {
			if err != nil {
				errs = append(errs, err)
			} else {
				results++
			}
		}
		if len(errs) != 1 || !errors.Is(errs[0], broken) || results > 1 {
			t.Errorf("%s: %d results, %v", query, results, errs)
		}
	}
	for _, query := range []string{
		`[{"$sort":[["a"]]}]`, `[{"$reduce":{"a":"a","n":{"$count":true}}}]`,
	} {
		_, err := collect(mustParse(t, query), raws(`{"a":{}}`, `{"a":{}}`))
		if !errors.Is(err, ErrOrder) {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// Each way to hold or make much has an end.
func TestLimits(t *testing.T) {
	t.Parallel()
	many := func(yield func(json.RawMessage, error) bool) {
		for i := range 200_000 {
			if !yield(json.RawMessage(fmt.Sprintf(`{"a":%d,"b":"0123456789","c":{"d":[1]}}`, i)), nil) {
				return
			}
		}
	}
	last := func(q *Query) (err error) {
		for _, e := range q.Run(many, 1<<20) {
			err = e
		}
		return err
	}
	for _, query := range []string{
		`[{"$sort":[["b"]]}]`, `[{"$sort":[]}]`, `[{"$reduce":{"$collect":"a"}}]`, `[{"$reduce":{"x":{"$collect":"b"}}}]`,
		`[{"$reduce":{"a":"a"}}]`, `[{"$reduce":{"b":"b","x":{"$reduce":{"a":"a"}}}}]`, `[{"$reduce":{"$collect":"none"}}]`,
	} {
		if err := last(mustParse(t, query)); !errors.Is(err, ErrTooMuch) {
			t.Errorf("%s: %v", query, err)
		}
	}
	for _, query := range []string{
		`[{"$reduce":{"b":"b","n":{"$count":true},"max":{"$max":"a"}}}]`, `[{"$reduce":{"$sum":"a"}}]`, `[{"$filter":{"a":7}},{"$sort":[["b"]]}]`,
	} {
		if err := last(mustParse(t, query)); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
	double := strings.TrimSuffix(strings.Repeat(`{"$map":{"a":[],"b":[]}},`, maxStages), ",")
	if _, err := collect(mustParse(t, "["+double+"]"), raws(`{"a":"x"}`)); !errors.Is(err, ErrTooMuch) {
		t.Errorf("doubled %d times: %v", maxStages, err)
	}
	twice := strings.TrimSuffix(strings.Repeat(`{"$map":{"a":[],"b":[]}},`, 8000), ",")
	same := strings.TrimSuffix(strings.Repeat(`{"$map":{"a":"a"}},`, 8000), ",")
	big := `{"a":"` + strings.Repeat("x", 20_000) + `"}`
	for _, steps := range []string{twice, same} {
		for _, query := range []string{`[{"$map":[` + steps + `]}]`, `[{"$filter":{"$map":[` + steps + `]}}]`, `[{"$reduce":{"$collect":[` + steps + `]}}]`} {
			if _, err := collect(mustParse(t, query), raws(big)); !errors.Is(err, ErrTooMuch) {
				t.Errorf("%.80s: %v", query, err)
			}
		}
	}
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	for _, query := range []string{`[{"$filter":{"$gt":1}}]`, `[{"$filter":{"$gt":[]}}]`, `[{"$reduce":{"x":[],"n":{"$count":true}}}]`, `[{"$sort":[[]]}]`} {
		_, err := collect(mustParse(t, query), raws(deep, deep))
		if err != nil && !errors.Is(err, ErrOrder) {
			t.Errorf("%s: %v", query, err)
		}
	}
}

func TestConstraints(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		`[]`: ``, `[{"$map":true},{"$filter":{"a":1}}]`: ``, `[{"$filter":{}}]`: ``, `[{"$filter":{"a":1},"$is":"object"}]`: ``,
		`[{"$filter":{"value":{"author":"@a","content":{"type":"post","root":{"$prefix":"%"}}},"timestamp":{"$gt":5,"$lte":9.5}}}]`: `value.author =="@a"; value.content.type =="post"; value.content.root ^%; timestamp >5 <=9.5`,
		`[{"$filter":{"dest":{"$eq":"%a"},"rts":{"$gte":1,"$lt":"2","$ne":3}}},{"$filter":{"b":1}}]`:                                `dest =="%a"; rts >=1 <"2"`,
		`[{"$filter":{"a":{"$in":[1,"x",[],null]},"b":{"$not":true},"c":null,"d":[1,{"$gt":2}]}}]`:                                  `a in[1 "x" null]; c ==null; d.0 ==1; d.1 >2`,
		`[{"$filter":{"a":{"$filter":{"b":1}},"c":{"$eq":{}},"d":{"$gt":[1]},"e":{"$prefix":["x"]}}}]`:                              ``,
		`[null,{"$filter":"x"}]`:           ` =="x"`,
		`{"value":{"sequence":{"$gt":3}}}`: `value.sequence >3`,
		`"[{\"$filter\":{\"a\":true}}]"`:   `a ==true`,
	} {
		var got []string
		for _, c := range mustParse(t, query).Constraints() {
			s := strings.Join(c.Path, ".") + " "
			for _, d := range []struct {
				op string
				v  json.RawMessage
			}{{"==", c.Eq}, {">", c.Gt}, {">=", c.Gte}, {"<", c.Lt}, {"<=", c.Lte}} {
				if d.v != nil {
					s += d.op + string(d.v) + " "
				}
			}
			if c.In != nil {
				s += fmt.Sprintf("in%s ", c.In)
			}
			if c.Prefix != "" {
				s += "^" + c.Prefix
			}
			got = append(got, strings.TrimSuffix(s, " "))
		}
		if got := strings.Join(got, "; "); got != want {
			t.Errorf("%s:\n got %s\nwant %s", query, got, want)
		}
	}
	q := mustParse(t, `[{"$filter":{"value":{"author":"@é\u0061","sequence":{"$gt":3,"$lte":7}}}}]`)
	if s, ok := q.Constraint("value", "author").Text(); !ok || s != "@éa" {
		t.Errorf("%q, %v", s, ok)
	}
	if low, high, ok := q.Constraint("value", "sequence").Range(); !ok || low != 3 || high != 7 {
		t.Errorf("%v to %v, %v", low, high, ok)
	}
	if _, _, ok := q.Constraint("timestamp").Range(); ok {
		t.Error("a range of nothing")
	}
	if _, ok := q.Constraint("value", "sequence").Text(); ok {
		t.Error("a text of a range")
	}
}

func TestSortedBy(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		`[]`: `[]`, `[{"$sort":[["dest"],["rts"]]},{"$map":true}]`: `[]`, `[{"$sort":[{"$reverse":["a"]}]}]`: `[]`, `[{"$sort":["a",[]]}]`: `[]`,
		`[{"$filter":{"dest":"x"}},{"$sort":[["dest"],["value","content","type"],"a"]}]`: `[[dest] [value content type] [a]]`,
	} {
		q := mustParse(t, query)
		if got := fmt.Sprint(q.SortedBy()); got != want {
			t.Errorf("%s: %s", query, got)
		}
		if less := q.WithoutSort(); q.SortedBy() != nil && (less.Ends() || len(less.Constraints()) != len(q.Constraints())) {
			t.Errorf("%s: still sorted", query)
		}
	}
}

// fixtures are 3000 messages as clients see them.
func fixtures(t testing.TB) []json.RawMessage {
	t.Helper()
	var all []json.RawMessage
	vectors.Lines(t, "feeds-fixtures", "messages.jsonl.gz", func(_ int, line []byte) { all = append(all, bytes.Clone(line)) })
	return all
}

// A filter over real messages finds what decoding them finds, and what it finds satisfies its constraints.
func TestVectorFixtures(t *testing.T) {
	t.Parallel()
	type message struct {
		Value struct {
			Author   string
			Sequence int
			Content  json.RawMessage
		}
		Timestamp float64
	}
	values := fixtures(t)
	q := mustParse(t, `[{"$filter":{"value":{"content":{"type":"post"},"sequence":{"$gt":20,"$lte":50}}}}]`)
	got := []string{}
	for v, err := range q.Run(seq(values), 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(v))
	}
	want := []string{}
	for _, v := range values {
		var m message
		var content struct{ Type string }
		if err := json.Unmarshal(v, &m); err != nil {
			t.Fatal(err)
		}
		_ = json.Unmarshal(m.Value.Content, &content)
		if content.Type == "post" && m.Value.Sequence > 20 && m.Value.Sequence <= 50 {
			want = append(want, string(v))
		}
	}
	if !slices.Equal(got, want) || len(got) == 0 {
		t.Errorf("%d messages, want %d", len(got), len(want))
	}
}

// satisfies is what a constraint says, checked by other means than a filter.
func (c Constraint) satisfies(v value) bool {
	for _, name := range c.Path {
		v = v.get(propOf(name))
	}
	return (c.Eq == nil || equal(v, value(c.Eq))) &&
		(c.In == nil || slices.ContainsFunc(c.In, func(item json.RawMessage) bool { return equal(v, value(item)) })) &&
		(c.Prefix == "" || v.kind() == text && bytes.HasPrefix(v.text(), []byte(c.Prefix))) &&
		(c.Gt == nil || less(value(c.Gt), v, false)) && (c.Gte == nil || less(value(c.Gte), v, true)) &&
		(c.Lt == nil || less(v, value(c.Lt), false)) && (c.Lte == nil || less(v, value(c.Lte), true))
}

func FuzzQuery(f *testing.F) {
	a := readAnswers(f)
	for i, c := range a.Cases {
		f.Add([]byte(c.Query), []byte(a.values(c.Values)[i%5]))
	}
	f.Add([]byte(`[{"$map":{"a":[],"b":[]}},{"$map":{"a":[],"b":[]}},{"$reduce":{"x":["a",{"$type":1}],"y":{"$collect":"b"}}},{"$sort":["x"]}]`), []byte(`{"a":"\ud83d","b":[[1]]}`))
	f.Fuzz(func(t *testing.T, query, v []byte) {
		q, err := Parse(query)
		if err != nil {
			if !errors.Is(err, ErrQuery) {
				t.Fatal(err)
			}
			return
		}
		valid := json.Valid(v)
		for out, err := range q.Run(seq([]json.RawMessage{v, v, json.RawMessage(`{"a":1}`)}), 1<<20) {
			if err != nil {
				break
			}
			if valid && !json.Valid(out) {
				t.Fatalf("%s over %s: %s is no JSON", query, v, out)
			}
		}
		if constraints := q.Constraints(); valid && len(constraints) > 0 && q.stages[0].fn(&run{}, trim(v)).truthy() {
			for _, c := range constraints {
				if !c.satisfies(trim(v)) {
					t.Errorf("%s passes %s and does not satisfy %+v", v, query, c)
				}
			}
		}
	})
}

// Numbers and strings are written and read as JSON does it.
func FuzzValue(f *testing.F) {
	for _, s := range []string{`1.5e-7`, `-0.00001`, `123456789012345678`, `"\ud83d\ude00\n"`, `"é\\\""`, `[1,[2,null]]`, `{"a":"\u0000"}`, `1e400`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := trim(b)
		_ = v.toString()
		_ = clean(v)
		_, _ = compare(v, v)
		if !json.Valid(b) {
			return
		}
		if end := skip(v, 0); end != len(v) {
			t.Fatalf("%s ends at %d", v, end)
		}
		var want any
		if json.Unmarshal(v, &want) != nil {
			return // a number that is too large
		}
		switch want := want.(type) {
		case float64:
			if got := parseNumber(v); got != want {
				t.Errorf("%s: %v, want %v", v, got, want)
			}
			if got := parseNumber(numberValue(want)); got != want {
				t.Errorf("%v: written as %s", want, numberValue(want))
			}
		case string:
			if got := v.text(); string(got) != want && !strings.Contains(want, "\ufffd") {
				t.Errorf("%s: %q, want %q", v, got, want)
			}
			if again := quote(v.text()); !bytes.Equal(again.text(), v.text()) || !equal(v, again) {
				t.Errorf("%s: written as %s", v, again)
			}
		}
	})
}

// One message of a scan. decode is what it would cost to decode each message instead, before any filter.
func BenchmarkScan(b *testing.B) {
	values := fixtures(b)
	bytesAll := 0
	for _, v := range values {
		bytesAll += len(v)
	}
	for name, query := range map[string]string{
		"none":   `[{"$filter":{"key":"x"}}]`,
		"type":   `[{"$filter":{"value":{"content":{"type":"post"}}}}]`,
		"author": `[{"$filter":{"value":{"author":"@x","content":{"type":"post"},"timestamp":{"$gt":1}}}}]`,
		"group":  `[{"$filter":{"value":{"content":{"type":"post"}}}},{"$reduce":{"author":["value","author"],"n":{"$count":true},"ts":{"$max":["value","timestamp"]}}}]`,
		"map":    `[{"$map":{"a":["value","author"],"t":["value","content","type"]}}]`,
	} {
		q := mustParse(b, query)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(bytesAll / len(values)))
			for n := 0; n < b.N; n += len(values) {
				for _, err := range q.Run(seq(values[:min(len(values), b.N-n)]), 0) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(bytesAll / len(values)))
		for i := range b.N {
			var v any
			if err := json.Unmarshal(values[i%len(values)], &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
