package index

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestDestinations(t *testing.T) {
	t.Parallel()
	msg, blob := "%"+strings.Repeat("A", 43)+"=.sha256", "&"+strings.Repeat("B", 43)+"=.sha256"
	feed := "@" + strings.Repeat("C", 43) + "=.ed25519"
	for content, want := range map[string][]string{
		fmt.Sprintf(`{"type":"post","root":%q,"branch":[%q],"mentions":[{"link":%q},{"link":"#Spin-Ning"},{"link":%q}],"text":"see %s"}`, msg, msg, feed, blob, feed): {msg, feed, "#spin-ning", blob},
		`{"type":"post","channel":"Hello World"}`:                              {"#helloworld"},
		`{"type":"post","channel":"#x","mentions":["#X"],"text":"#two words"}`: {"#x"},
		`{"channel":"","root":"%x","branch":"@","x":{"y":[["#deep\u00fc"]]}}`:  {"#deepü"},
		`{"type":"post","channel":"X","a":"@","b":"#","c":["%","&","s",""]}`:   {"#x"},
		`"boxed"`:                nil,
		`{"channel":{"a":"bb"}}`: {"#bb"},
		``:                       nil,
	} {
		if got := Destinations([]byte(content)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", content, got, want)
		}
	}
	var many strings.Builder
	for i := range 300 {
		fmt.Fprintf(&many, `,"#t%d"`, i)
	}
	if got := Destinations([]byte("[" + many.String()[1:] + "]")); len(got) != linksMost {
		t.Errorf("%d destinations", len(got))
	}
}
