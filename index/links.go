package index

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/text/cases"
	"golang.org/x/text/language"

	"charkha/identity"
)

// links is what contents refer to: messages, feeds, blobs, hashtags. A reference is a whole string in a content; text is not
// searched. It is kept in a set of its destination, how it is written, and its relation: the name of the outermost field that
// it is in. Which strings are references is as in ssb-backlinks 2 (emit-links.js).
type links struct {
	stateless
	sets setWriter
	scan textScanner
	term []byte
}

func (*links) name() string                   { return "links" }
func (*links) version() uint32                { return 3 }
func (*links) prefix() byte                   { return 'L' }
func (*links) kind() string                   { return "" }
func (v *links) begin()                       { v.sets.begin() }
func (v *links) committed()                   { v.sets.committed() }
func (v *links) clear()                       { v.sets.clear() }
func (v *links) finish(txn *badger.Txn) error { return v.sets.flush(txn) }

// How a reference is written.
const (
	linkDeep   = '0' + iota // anywhere else, where only ssb-backlinks sees it
	linkObject              // {rel: {link}}, {rel: [REF]} or {rel: [{link}]}: ssb-msgs sees it too
	linkPlain               // {rel: REF}
)

// linksMost is how many references of a message are kept: a message of 8 KB that is full of hashtags has some 1,600.
const linksMost = 200

// relMost is how many bytes of the name of a field are kept.
const relMost = 64

func (v *links) add(_ *badger.Txn, m *message) error {
	if m.content == nil {
		return nil
	}
	left := linksMost
	v.scan.each(m.content, func(in []frame, text []byte) {
		if left == 0 || len(in) == 0 || len(text) == 0 {
			return
		}
		rel := in[0].key
		channel := string(rel) == "channel"
		if c := text[0]; c != '@' && c != '%' && c != '&' && c != '#' && c != 's' && !channel {
			return
		}
		v.term = append(v.term[:0], v.prefix(), 's', namespace(m.opened))
		n := len(v.term)
		// ssb-backlinks takes what stands in the field channel for a channel, with or without its "#".
		if channel {
			v.term = appendHashtag(v.term, unquote(text))
		}
		if len(v.term) == n {
			v.term = appendDest(v.term, text)
		}
		if len(v.term) == n {
			return
		}
		v.term = append(v.term, linkForm(in))
		v.term = appendText(v.term, string(rel[:min(len(rel), relMost)]))
		if v.sets.add(v.term, uint64(m.Offset())) {
			left--
		}
	})
	return nil
}

// Destinations lists what a content refers to, each once, as Refers finds it; hashtags and channels as NormalizeChannel makes them,
// with "#". They are the first 200.
func Destinations(content []byte) (all []string) {
	var scan textScanner
	var term []byte
	scan.each(content, func(in []frame, text []byte) {
		if len(all) == linksMost || len(in) == 0 || len(text) == 0 {
			return
		}
		dest := ""
		if string(in[0].key) == "channel" {
			dest = NormalizeChannel(unquote(text))
		}
		switch {
		case dest != "":
			dest = "#" + dest
		default:
			if term = appendDest(term[:0], text); len(term) == 0 {
				return
			}
			if dest = unquote(text); dest[0] == '#' {
				dest = "#" + NormalizeChannel(dest)
			}
		}
		if !slices.Contains(all, dest) {
			all = append(all, dest)
		}
	})
	return all
}

// linkForm is how a reference is written that stands so deep.
func linkForm(in []frame) byte {
	switch {
	case len(in) == 1:
		return linkPlain
	case len(in) == 2 && (in[1].array || string(in[1].key) == "link"),
		len(in) == 3 && in[1].array && !in[2].array && string(in[2].key) == "link":
		return linkObject
	}
	return linkDeep
}

// reference is a reference with a sigil, in a form that identity does not know: of other formats, cloaked messages, or a blob
// with its key. See ssb-ref.
var reference = regexp.MustCompile(`^(?:[@%&][A-Za-z0-9+/]{43}=\.[A-Za-z0-9_-]{1,40}(?:\?unbox=[A-Za-z0-9+/]{43}=(?:\.boxs)?)?|` +
	`ssb:(?://)?(?:message|feed|blob)[/:][A-Za-z0-9_/:=.-]{1,200})$`)

// appendDest appends what stands for a destination in a term; nothing, when a text is no reference.
func appendDest(term, text []byte) []byte {
	switch text[0] {
	case '@':
		if id, err := identity.ParseID(text); err == nil {
			return append(append(term, '@'), id[:]...)
		}
	case '%':
		if id, err := identity.ParseMsgID(text); err == nil {
			return append(append(term, '%'), id[:]...)
		}
	case '&':
		if id, err := identity.ParseBlobID(text); err == nil {
			return append(append(term, '&'), id[:]...)
		}
	case '#':
		tag := unquote(text)
		if strings.ContainsFunc(tag[1:], func(r rune) bool { return unicode.IsSpace(r) || r == '#' }) || utf16Len(tag) >= 30 {
			return term
		}
		return appendHashtag(term, tag[1:])
	}
	if (text[0] != 's' && len(text) > 50 || bytes.HasPrefix(text, []byte("ssb:"))) && reference.Match(text) {
		return appendText(append(term, '~'), string(text))
	}
	return term
}

// appendHashtag appends a hashtag or channel as a destination; nothing, when nothing of it is left.
func appendHashtag(term []byte, tag string) []byte {
	if tag = NormalizeChannel(tag); tag == "" {
		return term
	}
	return appendText(append(term, '#'), tag)
}

// NormalizeChannel is the name of a channel or hashtag as ssb-ref's normalizeChannel makes it: in lower case, without spaces
// and punctuation, of 30 UTF-16 units at most. "": it is none.
func NormalizeChannel(name string) string {
	var b strings.Builder
	left := 30
	for _, r := range lower(name) {
		if unicode.IsSpace(r) && r != '\u0085' || r == '\ufeff' || strings.ContainsRune(`,.?!<>()[]"#`, r) {
			continue
		}
		n := 1
		if r > 0xffff {
			n = 2
		}
		if left -= n; left < 0 {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// lower is a text in lower case as JavaScript writes it: "ΟΔΟΣ" ends in another sigma than strings.ToLower gives it.
func lower(text string) string {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return cases.Lower(language.Und).String(text)
		}
	}
	return strings.ToLower(text)
}

// utf16Len is how long JavaScript takes a text to be.
func utf16Len(text string) (n int) {
	for _, r := range text {
		if n++; r > 0xffff {
			n++
		}
	}
	return n
}

// linkTerms are the terms of the sets of what refers to a destination, of some relations or of any.
func linkTerms(txn *badger.Txn, opened bool, dest string, forms []byte, rels []string) (terms [][]byte) {
	if dest == "" {
		return nil
	}
	base := []byte{(*links).prefix(nil), 's', namespace(opened)}
	n := len(base)
	if base = appendDest(base, []byte(dest)); len(base) == n {
		return nil
	}
	if len(rels) > 0 {
		for _, form := range forms {
			for _, rel := range rels {
				term := append(base[:len(base):len(base)], form)
				terms = append(terms, appendText(term, rel[:min(len(rel), relMost)]))
			}
		}
		return terms
	}
	for _, form := range forms {
		terms = append(terms, termsWith(txn, append(base[:len(base):len(base)], form), relsMost)...)
	}
	return terms
}

// relsMost is how many relations to one destination are looked at when none is given. Fields can have any name.
const relsMost = 200

// termsWith lists the terms that begin with some bytes, at most n.
func termsWith(txn *badger.Txn, prefix []byte, n int) (terms [][]byte) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Seek(prefix); it.Valid() && len(terms) < n; {
		_, rest, ok := cutText(it.Item().Key()[len(prefix):])
		if !ok {
			it.Next()
			continue
		}
		key := it.Item().KeyCopy(nil)
		term := key[:len(key)-len(rest)]
		terms = append(terms, term)
		if it.Next(); it.Valid() && len(it.Item().Key()) == len(term)+8 && string(it.Item().Key()[:len(term)]) == string(term) {
			// The rows of a set of many follow: the next term is behind them.
			it.Seek(append(term[:len(term)-1:len(term)-1], 2))
		}
	}
	return terms
}
