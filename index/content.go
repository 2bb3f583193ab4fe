package index

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// frame is an object or array that a value of a content is in.
type frame struct {
	array bool
	key   []byte // of the member that is being read, as it is spelled between its quotes; of an object
}

// textScanner finds the strings in a content. Its frames are used again.
type textScanner struct {
	frames []frame
}

// each calls do with every string value in a JSON text: where it stands, from the outermost on, and how it is
// spelled between its quotes. Both are only valid during the call.
func (t *textScanner) each(content []byte, do func(in []frame, spelled []byte)) {
	frames := t.frames[:0]
	key := false // the next string is a key
	for i := 0; i < len(content); i++ {
		switch c := content[i]; c {
		case '{':
			frames = append(frames, frame{})
			key = true
		case '[':
			frames = append(frames, frame{array: true})
			key = false
		case '}', ']':
			key = false
			if len(frames) > 0 {
				frames = frames[:len(frames)-1]
			}
		case ',':
			key = len(frames) > 0 && !frames[len(frames)-1].array
		case '"':
			end := stringEnd(content, i+1)
			if end == len(content) {
				t.frames = frames
				return
			}
			spelled := content[i+1 : end]
			i = end
			if key {
				frames[len(frames)-1].key = spelled
				key = false
			} else {
				do(frames, spelled)
			}
		}
	}
	t.frames = frames[:0]
}

// stringEnd is where the quote stands that ends a JSON string of which the characters begin at i; the length of the text if there is none.
func stringEnd(text []byte, i int) int {
	for i < len(text) {
		n := bytes.IndexByte(text[i:], '"')
		if n < 0 {
			break
		}
		escape := bytes.IndexByte(text[i:i+n], '\\')
		if escape < 0 {
			return i + n
		}
		i += escape + 2
	}
	return len(text)
}

// top calls do with the members of an object: their keys as they are spelled, and their values.
func top(object []byte, do func(key, value []byte)) {
	depth, from := 0, 0
	var key []byte
	for i := 0; i < len(object); i++ {
		switch object[i] {
		case '{', '[':
			depth++
			if depth == 1 {
				if object[i] != '{' {
					return
				}
				from = i + 1
			}
		case '}', ']':
			if depth--; depth > 0 {
				continue
			}
			if key != nil {
				do(key, bytes.TrimSpace(object[from:i]))
			}
			return
		case ',':
			if depth == 1 {
				if key != nil {
					do(key, bytes.TrimSpace(object[from:i]))
				}
				key, from = nil, i+1
			}
		case ':':
			if depth == 1 && key == nil {
				if k := bytes.TrimSpace(object[from:i]); len(k) >= 2 {
					key = k[1 : len(k)-1]
				}
				from = i + 1
			}
		case '"':
			i = stringEnd(object, i+1)
		}
	}
}

// unquote is the text of a JSON string that is spelled so between its quotes.
func unquote(spelled []byte) string {
	n := bytes.IndexByte(spelled, '\\')
	if n < 0 {
		return string(spelled)
	}
	text := append(make([]byte, 0, len(spelled)), spelled[:n]...)
	for rest := spelled[n:]; ; {
		if len(rest) < 2 {
			return unquoteRare(spelled)
		}
		c := rest[1]
		rest = rest[2:]
		switch c {
		case 'n':
			c = '\n'
		case 't':
			c = '\t'
		case 'r':
			c = '\r'
		case '"', '\\', '/':
		default:
			return unquoteRare(spelled)
		}
		text = append(text, c)
		if n = bytes.IndexByte(rest, '\\'); n < 0 {
			text = append(text, rest...)
			break
		}
		text = append(text, rest[:n]...)
		rest = rest[n:]
	}
	if !utf8.Valid(text) {
		return unquoteRare(spelled)
	}
	return string(text)
}

// unquoteRare is unquote, of anything that encoding/json takes; of other things it is "".
func unquoteRare(spelled []byte) string {
	quoted := make([]byte, 0, len(spelled)+2)
	quoted = append(append(append(quoted, '"'), spelled...), '"')
	var text string
	if json.Unmarshal(quoted, &text) != nil {
		return ""
	}
	return text
}

// spelledText is what stands between the quotes of a JSON string; false: the value is none.
func spelledText(value []byte) ([]byte, bool) {
	if len(value) < 2 || value[0] != '"' {
		return nil, false
	}
	return value[1 : len(value)-1], true
}
