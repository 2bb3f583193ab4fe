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

// The names are as npm ssb-ref 2.16.0 makes them.
func TestNormalizeChannel(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"#New-People":                 "new-people",
		"a b\u00a0c\u2028d\ufeffe":    "abcde",
		"next\u0085line":              "next\u0085line",
		"ΟΔΟΣ":                        "οδος",
		"ΟΔΟΣ ΣΑΣ":                    "οδοςσας", // lower case comes first
		"İstanbul":                    "i\u0307stanbul",
		"Straße":                      "straße",
		"(a)[b]<c>\"d\",e.f?g!":       "abcdefg",
		strings.Repeat("Ä", 40):       strings.Repeat("ä", 30),
		strings.Repeat("a", 29) + "🧶": strings.Repeat("a", 29), // ssb-ref leaves half of it
		"# ,.":                        "",
	} {
		if got := NormalizeChannel(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
