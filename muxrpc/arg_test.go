package muxrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// declared are methods that say what they take: alone, together, and in an object of options.
var declared = []Method{
	{Kind: Group, Doc: "a program"},
	{Name: "feed", Kind: Group, Doc: "feeds"},
	{Name: "get", Kind: Async, Doc: "one message", Call: ok, Args: []Arg{
		{Name: "id", Type: "MsgId|object", Doc: "which", Options: []Arg{{Name: "meta", Type: "boolean", Doc: "all of it"}}},
	}},
	{Name: "feed.read", Kind: Source, Doc: "one feed", Stream: empty, Args: []Arg{
		{Name: "options", Type: "object", Options: []Arg{
			{Name: "id", Type: "FeedId", Doc: "whose"},
			{Name: "limit", Type: "integer", Doc: "how many", Optional: true},
			{Name: "gt", Type: "number", Optional: true},
		}},
	}},
	{Name: "feed.follow", Kind: Async, Doc: "begin to follow", Call: ok, Args: []Arg{
		{Name: "id", Type: "FeedId", Doc: "whom"},
		{Name: "tags", Type: "array", Optional: true},
		{Name: "options", Type: "object", Optional: true, Options: []Arg{{Name: "state", Type: "boolean"}}},
	}},
	{Name: "publish", Kind: Async, Call: ok, Args: []Arg{{Name: "content", Type: "any"}}},
	{Name: "whoami", Kind: Sync, Doc: "who", Call: ok, Anonymous: true},
}

func ok(context.Context, *Request) (any, error) { return true, nil }

func empty(context.Context, *Request, *Stream) error { return nil }

func TestArgumentsAreChecked(t *testing.T) {
	t.Parallel()
	c, _ := pair(t, Options{}, Options{Registry: registry(t, declared...)})
	for _, tt := range []struct{ method, args, want string }{
		{"whoami", `[]`, ""},
		{"whoami", `[1,{}]`, ""},
		{"get", `["%x"]`, ""},
		{"get", `["%x",7,null]`, ""},
		{"get", `[{"meta":true,"more":[]}]`, ""},
		{"get", `[]`, "get: the argument id is missing"},
		{"get", `[null]`, "get: the argument id is missing"},
		{"get", `[7]`, "get: argument id: a number does not fit here, MsgId or object is wanted"},
		{"get", `[["%x"]]`, "get: argument id: an array does not fit here, MsgId or object is wanted"},
		{"get", `[{}]`, "get: the option meta is missing"},
		{"get", `[ {"meta" : "yes"} ]`, "get: option meta: a string does not fit here, boolean is wanted"},
		{"feed.follow", `["@x"]`, ""},
		{"feed.follow", `["@x",[],{"state":false}]`, ""},
		{"feed.follow", `["@x",null,null]`, ""},
		{"feed.follow", `["@x",{}]`, "feed.follow: argument tags: an object does not fit here, array is wanted"},
		{"feed.follow", `["@x",[],{}]`, "feed.follow: the option state is missing"},
		{"feed.follow", `[true]`, "feed.follow: argument id: a boolean does not fit here, FeedId is wanted"},
		{"feed.read", `[{"id":"@x","limit":1e3,"gt":1.5}]`, ""},
		{"feed.read", `[{"id":"@x","limit":null}]`, ""},
		{"feed.read", `[{"id":"@x","limit":-1.0}]`, ""},
		{"feed.read", `[{"id":"@x","limit":1.5}]`, "feed.read: option limit: a number does not fit here, integer is wanted"},
		{"feed.read", `[{"id":"@x","limit":1e300}]`, "feed.read: option limit: a number does not fit here, integer is wanted"},
		{"feed.read", `[{"limit":1}]`, "feed.read: the option id is missing"},
		{"feed.read", `[{"id":7}]`, "feed.read: option id: a number does not fit here, FeedId is wanted"},
		{"feed.read", `["@x"]`, "feed.read: argument options: a string does not fit here, object is wanted"},
		{"feed.read", `[]`, "feed.read: the argument options is missing"},
		{"publish", `[[1]]`, ""},
		{"publish", `[false]`, ""},
		{"publish", `[]`, "publish: the argument content is missing"},
	} {
		var args []any
		if err := json.Unmarshal([]byte(tt.args), &args); err != nil {
			t.Fatal(err)
		}
		raw := []any{}
		var each []json.RawMessage
		if err := json.Unmarshal([]byte(tt.args), &each); err != nil {
			t.Fatal(err)
		}
		for _, a := range each {
			raw = append(raw, a)
		}
		var err error
		if tt.method == "feed.read" {
			s, oerr := c.Source(t.Context(), tt.method, raw...)
			if oerr != nil {
				t.Fatal(oerr)
			}
			if _, err = s.Recv(); err == io.EOF {
				err = nil
			}
		} else {
			_, err = c.Async(t.Context(), tt.method, raw...)
		}
		if got := errText(err); got != tt.want {
			t.Errorf("%s%s: got %q, want %q", tt.method, tt.args, got, tt.want)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// What a handler cannot decode is told with the name of the argument, too.
func TestDecodeNamesArguments(t *testing.T) {
	t.Parallel()
	req := &Request{Name: "m", Args: json.RawMessage(`["x",{"a":"y"},1]`), declared: []Arg{{Name: "id"}, {Name: "options"}}}
	var n, third int
	var s string
	var o struct {
		A int `json:"a"`
	}
	if got := errText(req.Decode(&n)); got != "m: argument id: a string does not fit here" {
		t.Error(got)
	}
	if got := errText(req.Decode(&s, &o)); got != "m: argument options a: a string does not fit here" {
		t.Error(got)
	}
	o2 := map[string]string{}
	var text string
	if got := errText(req.Decode(&s, &o2, &third)); got != "" || third != 1 {
		t.Error(got)
	}
	if got := errText(req.Decode(&s, &o2, &text)); got != "m: argument 3: a number does not fit here" {
		t.Error(got)
	}
}

func TestRegistryRefusesArguments(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]Arg{
		`"": the name is missing`:              {{Type: "string"}},
		`"a": the name is missing or there tw`: {{Name: "a", Type: "string"}, {Name: "a", Type: "string"}},
		`"b": the name is missing or there tw`: {{Name: "b", Type: "string"}, {Name: "o", Type: "object", Options: []Arg{{Name: "b", Type: "any"}}}},
		`"c": unknown type "text"`:             {{Name: "c", Type: "text"}},
		`"d": unknown type ""`:                 {{Name: "d", Type: "string|"}},
		`"e": options need an object`:          {{Name: "e", Type: "string", Options: []Arg{{Name: "x", Type: "any"}}}},
		`"g": it must be optional`:             {{Name: "f", Type: "any", Optional: true}, {Name: "g", Type: "any"}},
		`"h": options of an option`: {{Name: "o", Type: "object", Options: []Arg{
			{Name: "h", Type: "object", Options: []Arg{{Name: "x", Type: "any"}}},
		}}},
	} {
		if _, err := NewRegistry([]Method{{Name: "m", Kind: Async, Call: ok, Args: args}}); err == nil || !strings.Contains(err.Error(), `method "m": argument `+want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for want, list := range map[string][]Method{
		`group "x" has no methods`: {{Name: "x", Kind: Group, Doc: "x"}},
		`group "a": it must be`:    {{Name: "a.b", Kind: Async, Call: ok}, {Name: "a", Kind: Group}},
		`group "b": it must be`:    {{Name: "b.c", Kind: Async, Call: ok}, {Name: "b", Kind: Group, Doc: "b"}, {Name: "b", Kind: Group, Doc: "b"}},
		`group "c": it must be`:    {{Name: "c.d", Kind: Async, Call: ok}, {Name: "c", Kind: Group, Doc: "c", Call: ok}},
	} {
		if _, err := NewRegistry(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Help is in the form that npm muxrpc-usage 2 and muxrpcli 3 read, and the manifest names it.
func TestHelp(t *testing.T) {
	t.Parallel()
	reg := registry(t, declared...)
	c, _ := pair(t, Options{}, Options{Registry: reg})
	for name, want := range map[string]string{
		"help": `{"description":"a program","commands":{
			"get":{"type":"async","description":"one message","args":{
				"id":{"type":"MsgId|object","description":"which"},
				"meta":{"type":"boolean","description":"all of it","optional":true}}},
			"help":{"type":"sync","description":"what can be called, and how","args":{}},
			"manifest":{"type":"sync","description":"the names and kinds of all methods","args":{}},
			"publish":{"type":"async","description":"","args":{"content":{"type":"any","description":""}}},
			"whoami":{"type":"sync","description":"who","args":{}}}}`,
		"feed.help": `{"description":"feeds","commands":{
			"read":{"type":"source","description":"one feed","args":{
				"id":{"type":"FeedId","description":"whose","optional":false},
				"limit":{"type":"integer","description":"how many","optional":true},
				"gt":{"type":"number","description":"","optional":true}}},
			"help":{"type":"sync","description":"what can be called, and how","args":{}},
			"follow":{"type":"async","description":"begin to follow","args":{
				"id":{"type":"FeedId","description":"whom"},
				"tags":{"type":"Array","description":"","optional":true},
				"state":{"type":"boolean","description":"","optional":true}}}}}`,
	} {
		answer, err := c.Async(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		var got, wanted any
		if err := json.Unmarshal(answer, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(want), &wanted); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	const manifest = `{"feed":{"follow":"async","help":"sync","read":"source"},"get":"async","help":"sync","manifest":"sync","publish":"async","whoami":"sync"}`
	if got := string(reg.Manifest()); got != manifest {
		t.Errorf("got %s\nwant %s", got, manifest)
	}
	for _, m := range reg.Methods() {
		if m.Kind == Group {
			t.Errorf("%q is among the methods", m.Name)
		}
	}
}

// Methods with nothing but a Doc have a help, and so have folders that nobody describes; a help of one's own stays.
func TestHelpWithoutArguments(t *testing.T) {
	t.Parallel()
	mine := Method{Name: "b.help", Kind: Sync, Call: func(context.Context, *Request) (any, error) { return "mine", nil }}
	c, _ := pair(t, Options{}, Options{Registry: registry(t,
		Method{Name: "a.x", Kind: Async, Call: ok}, Method{Name: "a.y.z", Kind: Async, Call: ok}, mine, Method{Name: "b.x", Kind: Async, Call: ok})})
	for name, want := range map[string]string{
		"a.help":   `{"description":"x","commands":{"help":{"type":"sync","description":"what can be called, and how","args":{}},"x":{"type":"async","description":"","args":{}}}}`,
		"a.y.help": `{"description":"z","commands":{"help":{"type":"sync","description":"what can be called, and how","args":{}},"z":{"type":"async","description":"","args":{}}}}`,
		"b.help":   `"mine"`,
	} {
		if got, err := c.Async(t.Context(), name); err != nil || string(got) != want {
			t.Errorf("%s: %s %v", name, got, err)
		}
	}
}

// Strangers are told of what they may call, and of no more.
func TestManifestForStrangers(t *testing.T) {
	t.Parallel()
	c, _ := pair(t, Options{}, Options{Registry: registry(t, declared...), Anonymous: true})
	if got, err := c.Async(t.Context(), "manifest"); err != nil || string(got) != `{"manifest":"sync","whoami":"sync"}` {
		t.Errorf("%s %v", got, err)
	}
	for _, name := range []string{"help", "feed.help"} {
		want := "method:" + strings.ReplaceAll(name, ".", ",") + " is not in list of allowed methods"
		if _, err := c.Async(t.Context(), name); errText(err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, args := range []string{`[]`, `["%x"]`, `[{"id":"@x","limit":-1,"gt":1e9}]`, `[ null , [1] ]`, `{}`, `[{"id":7}`, `[1e999]`, `[-0,true]`} {
		f.Add([]byte(args))
	}
	f.Fuzz(func(t *testing.T, args []byte) {
		keep := bytes.Clone(args)
		for _, m := range declared {
			err := (&Request{Name: m.Name, Args: args, declared: m.Args}).check()
			if !bytes.Equal(keep, args) {
				t.Error("check changed its input")
			}
			if len(m.Args) == 0 {
				continue
			}
			if err != nil && !strings.HasPrefix(err.Error(), m.Name+": ") {
				t.Errorf("error without its place: %v", err)
			}
			if err == nil && !json.Valid(args) {
				t.Error("accepts broken JSON")
			}
		}
	})
}
