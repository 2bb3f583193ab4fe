package wants

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"charkha/identity"
	"charkha/internal/vectors"

	"github.com/google/go-cmp/cmp"
)

func blobID(n int) identity.BlobID {
	return identity.BlobID{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), 1}
}

func peerID(n int) identity.ID { return identity.ID{byte(n), byte(n >> 8), 2} }

// What recorded JS peers said on blobs.createWants is understood.
func TestVectorTranscripts(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectors.Dir(t, "muxrpc-transcripts"), "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	found := 0
	for _, file := range files {
		asked := map[string]map[int32]bool{"send": {}, "recv": {}} // createWants streams, by who called and number
		for i, p := range vectors.JSON[struct {
			Packets []struct {
				Dir, Body string
				Flags     byte
				Req       int32
			}
		}](t, "muxrpc-transcripts", filepath.Base(file)).Packets {
			other := map[string]string{"send": "recv", "recv": "send"}[p.Dir]
			switch {
			case strings.Contains(p.Body, `"createWants"],"args"`):
				asked[p.Dir][p.Req] = true
			case p.Req < 0 && asked[other][-p.Req] && p.Flags&4 == 0:
				found++
				if said, err := Parse([]byte(p.Body), 10); err != nil || string(JSON(said)) != p.Body {
					t.Errorf("%s packet %d: %s is read as %v, %v", file, i, p.Body, said, err)
				}
			}
		}
	}
	if found == 0 {
		t.Error("nobody said anything on createWants")
	}
}

func TestParse(t *testing.T) {
	a, b := blobID(1), blobID(2)
	for _, c := range []struct {
		text string
		want []Entry
		err  bool
	}{
		{`{}`, nil, false},
		{`{"A":-1}`, []Entry{{a, -1}}, false},
		{`{"A":-1,"B":123456}`, []Entry{{a, -1}, {b, 123456}}, false},
		{`{"A":-1.0,"B":1e3}`, []Entry{{a, -1}, {b, 1000}}, false},
		{`{"A":1,"A":2}`, []Entry{{a, 2}}, false},
		{`{"A":1e300,"B":-1e300}`, []Entry{{a, maxInteger}, {b, -maxInteger}}, false},
		{`{"A":1e400,"B":-1e400}`, nil, false},
		{`{"A":0,"B":0.5}`, nil, false},
		{`{"A":"7","B":null}`, nil, false},
		{`{"A":{"B":1}}`, nil, false},
		{`{"../../secret":5,"@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.ed25519":5,"%AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256":5,"":5}`, nil, false},
		{`{"A?unbox=x":5}`, nil, false},
		{`null`, nil, true},
		{`[]`, nil, true},
		{`7`, nil, true},
		{`{"A":-1`, nil, true},
		{`{"A":NaN}`, nil, true},
		{``, nil, true},
	} {
		text := strings.NewReplacer(`"A"`, `"`+a.String()+`"`, `"B"`, `"`+b.String()+`"`, `"A?`, `"`+a.String()+`?`).Replace(c.text)
		got, err := Parse([]byte(text), 8)
		if (err != nil) != c.err || len(got) != len(c.want) || len(got) > 0 && !cmp.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.text, got, err, c.want)
		}
	}
	var many []byte
	for i := range 9 {
		many = fmt.Appendf(many, `,"%s":-1`, blobID(i))
	}
	many = append(many, '}')
	many[0] = '{'
	if got, err := Parse(many, 8); err == nil {
		t.Errorf("9 entries were taken where 8 may be: %v", got)
	}
}

// What is read says itself again, is sorted, and is never more than allowed.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"&AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256":-1}`))
	f.Add([]byte(`{"&AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256":1e15,"x":[1,{"y":2}]}`))
	f.Add([]byte(`{"&AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256":9007199254740993}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		said, err := Parse(b, 16)
		if err != nil {
			return
		}
		if len(said) > 16 {
			t.Fatalf("%d entries", len(said))
		}
		if !slices.IsSortedFunc(said, func(a, b Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) }) {
			t.Fatal("not sorted")
		}
		out := JSON(said)
		if !json.Valid(out) {
			t.Fatalf("%s is not JSON", out)
		}
		again, err := Parse(out, 16)
		if err != nil || len(again) != len(said) || len(said) > 0 && !cmp.Equal(again, said) {
			t.Fatalf("%s is read as %v, and that as %v, %v", b, said, again, err)
		}
	})
}
