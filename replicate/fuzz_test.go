package replicate

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"charkha/muxrpc"
)

const fuzzID = `"@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.ed25519"`

// Whatever a peer asks for is a sane range, or is refused.
func FuzzHistoryOptions(f *testing.F) {
	for _, args := range []string{
		``, `null`, `7`, `{}`, `{"id":ID}`, `{"id":ID,"seq":1e300,"limit":-1,"live":true}`, `{"id":ID,"sequence":0.5,"limit":1e300,"old":false}`,
		`{"id":ID,"keys":false,"values":false,"reverse":true,"sync":true}`, `ID,4,true`, `ID,null,null`, `{"id":ID,"seq":-0,"limit":0.1}`,
	} {
		f.Add([]byte("[" + strings.ReplaceAll(args, "ID", fuzzID) + "]"))
	}
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, args []byte) {
		o, err := parseHistoryOptions(&muxrpc.Request{Name: "createHistoryStream", Args: args})
		if err != nil {
			return
		}
		if o.From < 0 || o.From > math.MaxInt32 || o.Limit < -1 || o.Limit > math.MaxInt32 || !o.Old && !o.Live {
			t.Fatalf("%s reads as %+v", args, o)
		}
		// The same said plainly reads the same.
		plain, err := json.Marshal([]any{map[string]any{
			"id": o.ID, "seq": o.From, "limit": o.Limit, "live": o.Live, "old": o.Old, "keys": o.Keys, "values": o.Values,
			"reverse": o.Reverse, "sync": o.SendSync,
		}})
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseHistoryOptions(&muxrpc.Request{Name: "createHistoryStream", Args: plain})
		if err != nil || back != o {
			t.Fatalf("%s reads as %+v, said plainly as %+v, %v", args, o, back, err)
		}
	})
}

// Only version 3 of the classic format is served.
func FuzzEBTOptions(f *testing.F) {
	for _, args := range []string{`[{"version":3}]`, `[{"version":3,"format":"classic"}]`, `[{"version":2}]`, `[]`, `[null]`, `[3]`,
		`[{"version":3.5}]`, `[{"version":"3"}]`, `[{"version":3,"format":"bendybutt-v1"}]`, `[{"version":1e400}]`, `{`} {
		f.Add([]byte(args))
	}
	f.Fuzz(func(t *testing.T, args []byte) {
		if parseEBTOptions(&muxrpc.Request{Name: "ebt.replicate", Args: args}) != nil {
			return
		}
		var said []struct {
			Version float64
			Format  string
		}
		// What is behind the first argument is not looked at.
		var all []json.RawMessage
		if json.Unmarshal(args, &all) != nil || len(all) == 0 {
			t.Fatalf("%s was taken", args)
		}
		first, _ := json.Marshal(all[:1])
		if json.Unmarshal(first, &said) != nil || said[0].Version != 3 || said[0].Format != "" && said[0].Format != "classic" {
			t.Fatalf("%s was taken", args)
		}
	})
}

// What a history stream sends is taken apart without harm, and what is found in it stood in it.
func FuzzHistoryValue(f *testing.F) {
	raw := newAuthor(9).posts(1)[0]
	f.Add(raw)
	f.Add([]byte(`{"key":"x","value":` + string(raw) + `,"timestamp":1.5}`))
	f.Add([]byte(`{"sync":true}`))
	f.Add([]byte(`{"value":7}`))
	f.Add([]byte(`{"value":{"value":{}}}`))
	f.Add([]byte(`7`))
	f.Fuzz(func(t *testing.T, b []byte) {
		value, ok := valueOf(b)
		if ok && !bytes.Contains(b, value) {
			t.Fatalf("%q was found in %q", value, b)
		}
	})
}

// Whatever peers call the blob methods with is refused, or names blobs and numbers that stood in it.
func FuzzBlobArgs(f *testing.F) {
	const id = `"&AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"`
	for _, args := range []string{``, `7`, `ID`, `{"id":ID}`, `{"key":ID,"max":5e6}`, `{"hash":ID,"size":1e400}`, `{"id":ID,"start":-1,"end":1e300}`, `[ID,ID]`, `[]`,
		`{"id":[ID]}`, `"../../secret"`, `{"id":""}`, `[null]`, `{"id":ID,"key":"x"}`} {
		f.Add([]byte("[" + strings.ReplaceAll(args, "ID", id) + "]"))
	}
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, args []byte) {
		// An id may be spelt with escapes.
		var plain any
		_ = json.Unmarshal(args, &plain)
		said, _ := json.Marshal(plain)
		said = bytes.ReplaceAll(said, []byte(`\u0026`), []byte("&"))
		req := &muxrpc.Request{Name: "blobs.get", Args: args}
		if a, err := parseBlobArgs(req); err == nil {
			if !bytes.Contains(said, []byte(a.id.String())) {
				t.Fatalf("%s names %s", args, a.id)
			}
			for _, n := range []*float64{a.size, a.max, a.start, a.end} {
				if n != nil && (math.IsNaN(*n) || math.IsInf(*n, 0)) {
					t.Fatalf("%s has the number %v", args, *n)
				}
			}
		}
		ids, one, err := parseBlobIDs(req)
		if err != nil {
			return
		}
		if one && len(ids) != 1 {
			t.Fatalf("%s names %d blobs", args, len(ids))
		}
		for _, id := range ids {
			if !bytes.Contains(said, []byte(id.String())) {
				t.Fatalf("%s names %s", args, id)
			}
		}
	})
}
