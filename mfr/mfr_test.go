package mfr

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"
)

// answers are what npm map-filter-reduce said: see testdata/generate.js.
type answers struct {
	Zoo     []json.RawMessage `json:"zoo"`
	People  []json.RawMessage `json:"people"`
	Numbers []json.RawMessage `json:"numbers"`
	Cases   []struct {
		Query  json.RawMessage   `json:"query"`
		Values string            `json:"values"`
		Passes string            `json:"passes"` // one letter for each value: 0, 1, or E for an error
		Each   []json.RawMessage `json:"each"`   // the answer to each value by itself
		Answer json.RawMessage   `json:"answer"` // the answer to all of them
	} `json:"cases"`
}

func readAnswers(t testing.TB) answers {
	t.Helper()
	data, err := os.ReadFile("testdata/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var a answers
	if err := json.Unmarshal(data, &a); err != nil {
		t.Fatal(err)
	}
	if len(a.Cases) == 0 || len(a.Zoo) == 0 || len(a.People) == 0 || len(a.Numbers) == 0 {
		t.Fatal("no cases")
	}
	return a
}

func (a answers) values(name string) []json.RawMessage {
	return map[string][]json.RawMessage{"zoo": a.Zoo, "people": a.People, "numbers": a.Numbers}[name]
}

func seq(values []json.RawMessage) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		for _, v := range values {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func collect(q *Query, values []json.RawMessage) (string, error) {
	out := []string{}
	for v, err := range q.Run(seq(values), 0) {
		if err != nil {
			return "", err
		}
		if !json.Valid(v) {
			return "", fmt.Errorf("%s is no JSON", v)
		}
		out = append(out, string(v))
	}
	return "[" + strings.Join(out, ",") + "]", nil
}

const failed = `"error"`

// kinder are the queries that JS answers, with nonsense, and Parse refuses; stricter those that throw at some value in JS and
// have an answer here.
var (
	kinder = []string{
		`[{"$filter":{"v":{"$count":true}}}]`, `[{"$reduce":true}]`, `[{"$reduce":"x"}]`,
	}
	stricter = []string{
		`[{"$map":["v",0]}]`, `[{"$map":["v",-1]}]`, `[{"$map":["v",-2]}]`, `[{"$map":["v",1]}]`, // an index of null
		`[{"$reduce":{"last":["tags",-1],"n":{"$count":true}}}]`,
		`[{"$filter":{"v":{"$get":"a"}}}]`, `[{"$filter":{"v":{"$get":"length"}}}]`, // a member of null
		`[{"$reduce":{"$collect":"country"}},{"$filter":{"$is":"string"}}]`, // undefined as an item of the stream
	}
)

func TestAnswersOfJS(t *testing.T) {
	t.Parallel()
	a := readAnswers(t)
	met := map[string]bool{}
	for _, c := range a.Cases {
		query := string(c.Query)
		values := a.values(c.Values)
		q, err := Parse(c.Query)
		if err != nil {
			if !errors.Is(err, ErrQuery) || !strings.Contains(err.Error(), "stage 0") {
				t.Errorf("%s: %v", query, err)
			}
			all := !slices.ContainsFunc(c.Each, func(e json.RawMessage) bool { return string(e) != failed })
			if slices.Contains(kinder, query) {
				met[query] = true
			} else if strings.Trim(c.Passes, "E") != "" || !all || len(c.Answer) > 0 && string(c.Answer) != failed {
				t.Errorf("%s: %v, but JS takes it", query, err)
			}
			continue
		}
		compare := func(values []json.RawMessage, want string) {
			got, err := collect(q, values)
			switch {
			case want == failed && slices.Contains(stricter, query):
				met[query] = true
			case want == failed && err == nil:
				t.Errorf("%s over %s: %s, but JS throws", query, values, got)
			case want != failed && (err != nil || got != want):
				t.Errorf("%s over %s:\n got %s, %v\nwant %s", query, values, got, err, want)
			}
		}
		switch {
		case c.Passes != "":
			for i, v := range values {
				compare([]json.RawMessage{v}, map[byte]string{'0': "[]", '1': "[" + string(v) + "]", 'E': failed}[c.Passes[i]])
			}
		case c.Each != nil:
			for i, v := range values {
				compare([]json.RawMessage{v}, string(c.Each[i]))
			}
		default:
			compare(values, string(c.Answer))
		}
	}
	for _, query := range slices.Concat(kinder, stricter) {
		if !met[query] {
			t.Errorf("%s is a known difference, and there is none", query)
		}
	}
}
