package index

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Words are the same whether a text is folded whole or where it needs to be.
func TestWordsOfFoldedPieces(t *testing.T) {
	t.Parallel()
	pieces := []string{" ", " ", "\n", "a", "Word", "stra\u00dfe", "\u0301", "e\u0301", "\u00c9", "\u212a", "\ufb01", "\u00a0", "\u4e2d\u6587", "\u0130", "\u03a3",
		"\U0001f980", "x\u0327\u0301", "\u1100\u1161", "-", "don't", "\u2163", strings.Repeat("\u0308", 40), "\x80", "9", "\u0e01\u0e33", "\u200d"}
	rng := rand.New(rand.NewPCG(1, 12))
	of := func(each func(do func([]byte) bool)) (words []string) {
		each(func(word []byte) bool { words = append(words, string(word)); return true })
		return words
	}
	strange := 0
	for range 20_000 {
		var b strings.Builder
		for range rng.IntN(12) {
			b.WriteString(pieces[rng.IntN(len(pieces))])
		}
		text := b.String()
		whole := norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text)))
		want := of(func(do func([]byte) bool) { eachFolded(whole, do) })
		got := of(func(do func([]byte) bool) { eachWord(text, do) })
		if !slices.Equal(want, got) {
			t.Fatalf("words of %q (-whole +pieces):\n%s", text, cmp.Diff(want, got))
		}
		if plain, n := foldLater(text); plain > 0 && n > 0 && plain+n < len(text) {
			strange++
		}
	}
	if strange < 100 {
		t.Errorf("%d texts with something to fold in the middle", strange)
	}
}

// A string is read as encoding/json reads it.
func FuzzUnquote(f *testing.F) {
	for _, text := range []string{``, `a`, `a\n\t\r\"\\\/b`, `\u00e9`, `\ud83e\udd80`, `\ud83e`, `\b\f`, "\x80\\n", `\`, `\x`, `a\`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, spelled []byte) {
		if !slices.Contains(spelled, '\\') {
			return // nothing to read
		}
		var want string
		if json.Unmarshal([]byte(`"`+string(spelled)+`"`), &want) != nil {
			return // never in a content
		}
		if got := unquote(spelled); got != want {
			t.Errorf("%q is %q, want %q", spelled, got, want)
		}
	})
}
