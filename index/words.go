package index

import (
	"unicode"
	"unicode/utf8"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// words is the full text: which messages have a word in their content.text. A set for each word.
type words struct {
	stateless
	sets setWriter
	term []byte
}

func (*words) name() string                   { return "words" }
func (*words) version() uint32                { return 2 }
func (*words) prefix() byte                   { return 'W' }
func (*words) kind() string                   { return "" }
func (v *words) begin()                       { v.sets.begin() }
func (v *words) committed()                   { v.sets.committed() }
func (v *words) clear()                       { v.sets.clear() }
func (v *words) finish(txn *badger.Txn) error { return v.sets.flush(txn) }

const (
	wordsMost = 500 // different words of a message that are kept: one of 8 KB may have 2,000
	wordMost  = 40  // bytes of a word
)

func (v *words) add(_ *badger.Txn, m *message) error {
	if m.content == nil {
		return nil
	}
	text := ""
	top(m.content, func(key, value []byte) {
		if spelled, ok := spelledText(value); ok && string(key) == "text" {
			text = unquote(spelled)
		}
	})
	if text == "" {
		return nil
	}
	left := wordsMost
	eachWord(text, func(word []byte) bool {
		v.term = append(append(v.term[:0], v.prefix(), 's', namespace(m.opened)), word...)
		v.term = append(v.term, 0, 1) // as appendText; a word has no zeros
		if v.sets.add(v.term, uint64(m.Offset())) {
			left--
		}
		return left > 0
	})
	return nil
}

func wordSet(opened bool, word string) []byte {
	return appendText([]byte{(*words).prefix(nil), 's', namespace(opened)}, word)
}

// eachWord finds the words of a text until do returns false: runs of letters, marks and digits, folded, so that case, and how
// letters and their marks are put together, make no difference. Each character of a script that is written without spaces, and
// each symbol such as an emoji, is a word. References are not words. A word is only valid during the call.
func eachWord(text string, do func(word []byte) bool) {
	for len(text) > 0 {
		plain, strange := foldLater(text)
		if !eachFolded(text[:plain], do) {
			return
		}
		if strange > 0 {
			// Folding may change what is a letter of its own, so it comes first.
			folded := cases.Fold().String(norm.NFKC.String(text[plain : plain+strange])) // a Caser is for one goroutine
			if !eachFolded(norm.NFKC.String(folded), do) {
				return
			}
		}
		text = text[plain+strange:]
	}
}

// foldLater is how much of a text is ASCII, and how much follows that is not, up to a space before the next ASCII word: of most texts only
// a word or two need to be folded. Nothing is composed over a space.
func foldLater(text string) (plain, strange int) {
	from := 0 // of the word
	found := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c >= utf8.RuneSelf:
			if found = true; strange == 0 {
				plain, strange = from, 1
			}
		case c == ' ' || c == '\n':
			if strange > 0 && !found {
				return plain, from - plain
			}
			from, found = i+1, false
		}
	}
	if strange == 0 {
		return len(text), 0
	}
	if !found {
		return plain, from - plain
	}
	return plain, len(text) - plain
}

// eachFolded is eachWord, of a text that is folded but for its ASCII letters. It reports whether do wants more.
func eachFolded(text string, do func(word []byte) bool) bool {
	var buf [wordMost + utf8.UTFMax]byte
	word := buf[:0]
	end := func() bool {
		ok := len(word) == 0 || do(word)
		word = buf[:0]
		return ok
	}
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			switch {
			case 'A' <= c && c <= 'Z':
				c += 'a' - 'A'
				fallthrough
			case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
				if len(word) < wordMost {
					word = append(word, c)
				}
			default:
				if !end() {
					return false
				}
				if n := referenceLen(text[i:]); n > 0 {
					i += n
					continue
				}
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		i += n
		switch {
		case alone(r):
			if !end() || !do(utf8.AppendRune(buf[:0], r)) {
				return false
			}
		case unicode.In(r, unicode.L, unicode.M, unicode.N):
			if len(word)+n <= wordMost {
				word = utf8.AppendRune(word, r)
			}
		default:
			if !end() {
				return false
			}
		}
	}
	return end()
}

// alone reports whether a character is a word of its own.
func alone(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.So) &&
		!unicode.Is(unicode.M, r)
}

// referenceLen is how long the reference is that a text begins with: a sigil, 44 characters of base64, a dot. 0: it is none.
func referenceLen(text string) int {
	if c := text[0]; c != '@' && c != '%' && c != '&' || len(text) < 46 || text[44] != '=' || text[45] != '.' {
		return 0
	}
	for i := 1; i < 44; i++ {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '+', c == '/':
		default:
			return 0
		}
	}
	n := 46
	for n < len(text) && ('a' <= text[n] && text[n] <= 'z' || '0' <= text[n] && text[n] <= '9') {
		n++
	}
	return n
}

// Words are the words of a text as the full text keeps them, each once, at most 500.
func Words(text string) (all []string) {
	seen := map[string]bool{}
	eachWord(text, func(word []byte) bool {
		if !seen[string(word)] {
			seen[string(word)] = true
			all = append(all, string(word))
		}
		return len(all) < wordsMost
	})
	return all
}
