package muxrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRegistryRefuses(t *testing.T) {
	t.Parallel()
	ask := func(context.Context, *Request) (any, error) { return nil, nil }
	stream := func(context.Context, *Request, *Stream) error { return nil }
	for want, methods := range map[string][]Method{
		`"a" is there twice`:                      {{Name: "a", Kind: Async, Call: ask}, {Name: "a", Kind: Source, Stream: stream}},
		`"manifest" is there twice`:               {{Name: "manifest", Kind: Async, Call: ask}},
		`"a" is a method and a folder of methods`: {{Name: "a.b", Kind: Async, Call: ask}, {Name: "a", Kind: Async, Call: ask}},
		`"b.c" is a method and a folder`:          {{Name: "b.c.d", Kind: Async, Call: ask}, {Name: "b.c", Kind: Async, Call: ask}},
		`"x": kind source needs Stream`:           {{Name: "x", Kind: Source, Call: ask}},
		`"y": kind async needs Call`:              {{Name: "y", Kind: Async, Stream: stream}},
		`"z": kind sync needs Call`:               {{Name: "z", Kind: Sync}},
		`"q": unknown kind "promise"`:             {{Name: "q", Kind: "promise", Call: ask}},
		`"": empty part`:                          {{Name: "", Kind: Async, Call: ask}},
		`"a..b": empty part`:                      {{Name: "a..b", Kind: Async, Call: ask}},
		`"m": negative MaxBody`:                   {{Name: "m", Kind: Sink, Stream: stream, MaxBody: -1}},
	} {
		if _, err := NewRegistry(methods[:1], methods[1:]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestManifest(t *testing.T) {
	t.Parallel()
	r := registry(t, demo...)
	const want = `{"count":{"help":"sync","to":"source"},"double":"duplex","echo":"async","fail":"async","help":"sync","manifest":"sync","sum":"sink"}`
	if got := string(r.Manifest()); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if n := len(r.Methods()); n != len(demo)+3 {
		t.Errorf("%d methods", n)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	type options struct {
		ID    string `json:"id"`
		Limit int    `json:"limit"`
		Old   bool   `json:"old"`
	}
	type out struct {
		S   string
		N   int64
		O   options
		Raw json.RawMessage
	}
	start := out{S: "s", N: 5, O: options{Limit: -1, Old: true}}
	for _, tt := range []struct {
		args string
		want out
		err  string
	}{
		{`[]`, start, ""},
		{`[null,null,null,null]`, start, ""},
		{`["x"]`, out{S: "x", N: 5, O: start.O}, ""},
		{`["x",7,{"id":"@","limit":3},[1, 2],"more",{}]`, out{"x", 7, options{"@", 3, true}, json.RawMessage("[1, 2]")}, ""},
		{`[null,null,{"old":false}]`, out{S: "s", N: 5, O: options{Limit: -1}}, ""},
		{`[7]`, start, "m: argument 1: a number does not fit here"},
		{`["s","x"]`, start, "m: argument 2: a string does not fit here"},
		{`["s",1.5]`, start, "m: argument 2: a number 1.5 does not fit here"},
		{`["s",5,{"limit":"x"}]`, start, "m: argument 3 limit: a string does not fit here"},
		{`["s",5,[]]`, start, "m: argument 3: a array does not fit here"},
		{`{}`, start, "m: arguments are no array"},
		{``, start, "m: arguments are no array"},
		{`[1`, start, "m: arguments are no array"},
	} {
		got := start
		err := (&Request{Name: "m", Args: json.RawMessage(tt.args)}).Decode(&got.S, &got.N, &got.O, &got.Raw)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: got error %v, want %s", tt.args, err, tt.err)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", tt.args, err, diff)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`["@x",{"id":"@x","seq":1,"limit":-1,"live":true},[1,null]]`))
	f.Add([]byte(`[null]`))
	f.Add([]byte(`[1e999,"\ud800"]`))
	f.Fuzz(func(t *testing.T, args []byte) {
		type options struct {
			ID    string
			Seq   int64
			Limit *int
			Live  bool
			Raw   json.RawMessage
		}
		var s string
		var o options
		var list []any
		keep := bytes.Clone(args)
		err := (&Request{Name: "m", Args: args}).Decode(&s, &o, &list)
		if !bytes.Equal(keep, args) {
			t.Error("Decode changed its input")
		}
		if err != nil && !strings.HasPrefix(err.Error(), "m: argument") {
			t.Errorf("error without its place: %v", err)
		}
		if err == nil && !json.Valid(args) {
			t.Error("accepts broken JSON")
		}
	})
}

// A request that was read is written back with the same meaning.
func FuzzEnvelope(f *testing.F) {
	f.Add(true, []byte(`{"name":["blobs","get"],"args":["&x"],"type":"source"}`))
	f.Add(false, []byte(`{"name":"manifest","args":[]}`))
	f.Add(false, []byte(`{"name":["a.b"],"args":null}`))
	f.Fuzz(func(t *testing.T, stream bool, body []byte) {
		h := header{flags: byte(JSON), length: uint32(len(body)), req: 1}
		if stream {
			h.flags |= flagStream
		}
		name, _, kind, args, err := parseEnvelope(h, body)
		if err != nil {
			if len(err.Error()) > 400 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		var list []any
		if json.Unmarshal(args, &list) != nil {
			t.Fatalf("arguments are no array: %s", args)
		}
		raw := make([]any, 0)
		var each []json.RawMessage
		if err := json.Unmarshal(args, &each); err != nil {
			t.Fatal(err)
		}
		for _, a := range each {
			raw = append(raw, a)
		}
		again, err := appendEnvelope(nil, name, kind, raw)
		if err != nil {
			t.Fatal(err)
		}
		name2, _, kind2, args2, err := parseEnvelope(h, again)
		var list2 []any
		if err == nil {
			err = json.Unmarshal(args2, &list2)
		}
		if name2 != name || kind2 != kind || err != nil || !cmp.Equal(list, list2) {
			t.Errorf("%s\nbecame %s: %v", body, again, err)
		}
	})
}
