package mfr

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// value is a JS value as JSON text without white space around it. Values are not decoded: a filter looks at a few members of
// a message and skips the rest, and what passes is given on byte for byte. nil is undefined. Inside a pipeline, numbers that
// JSON does not have stand as NaN, Infinity and -Infinity, and undefined as such in an array; clean makes null of them.
//
// Text that is no JSON gives some answer or other, in bounded time.
type value []byte

type kind uint8

const (
	undefined kind = iota
	null
	boolean
	number
	text
	array
	object
)

var (
	vTrue  = value("true")
	vFalse = value("false")
)

var typeNames = [...]value{
	undefined: value(`"undefined"`), null: value(`"object"`), boolean: value(`"boolean"`), number: value(`"number"`), text: value(`"string"`),
	array: value(`"object"`), object: value(`"object"`),
}

func boolValue(b bool) value {
	if b {
		return vTrue
	}
	return vFalse
}

func (v value) kind() kind {
	if len(v) == 0 {
		return undefined
	}
	switch v[0] {
	case '{':
		return object
	case '[':
		return array
	case '"':
		return text
	case 't', 'f':
		return boolean
	case 'n':
		return null
	case 'u':
		return undefined
	}
	return number
}

// nullish is what JS writes as v == null.
func (v value) nullish() bool { return len(v) == 0 || v[0] == 'n' || v[0] == 'u' }

// typeof is the JS operator.
func (v value) typeof() value { return typeNames[v.kind()] }

func (v value) truthy() bool {
	switch v.kind() {
	case undefined, null:
		return false
	case boolean:
		return v[0] == 't'
	case number:
		f := parseNumber(v)
		return f != 0 && f == f
	case text:
		return len(v) > 2
	}
	return true
}

// trim takes the white space away that may stand around a JSON text.
func trim(b []byte) value { return bytes.Trim(b, " \t\r\n") }

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns where the string that begins at b[i] ends: behind its closing quote.
func skipString(b []byte, i int) int {
	start := i + 1
	for i = start; ; i++ {
		n := bytes.IndexByte(b[min(i, len(b)):], '"')
		if n < 0 {
			return len(b)
		}
		i += n
		slashes := 0
		for k := i - 1; k >= start && b[k] == '\\'; k-- {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
}

// skip returns where the value that begins at b[i] ends.
func skip(b []byte, i int) int {
	if i >= len(b) {
		return len(b)
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return len(b)
	}
	for ; i < len(b); i++ {
		switch b[i] {
		case ',', ':', ']', '}', ' ', '\t', '\r', '\n':
			return i
		}
	}
	return i
}

// members walks through an object or array.
type members struct {
	b []byte
	i int // where the next member begins, or the comma before it
}

// next returns the next member. key is what stands between the quotes, with its escapes; an array's members have none.
func (m *members) next(keys bool) (key []byte, v value, ok bool) {
	i := skipSpace(m.b, max(m.i, 1))
	if i < len(m.b) && m.b[i] == ',' {
		i = skipSpace(m.b, i+1)
	}
	if i >= len(m.b) || m.b[i] == '}' || m.b[i] == ']' {
		return nil, nil, false
	}
	if keys {
		if m.b[i] != '"' {
			return nil, nil, false
		}
		end := skipString(m.b, i)
		if end < i+2 {
			return nil, nil, false
		}
		key = m.b[i+1 : end-1]
		if i = skipSpace(m.b, end); i >= len(m.b) || m.b[i] != ':' {
			return nil, nil, false
		}
		i = skipSpace(m.b, i+1)
	}
	end := skip(m.b, i)
	if end == i {
		return nil, nil, false
	}
	m.i = end
	return key, value(m.b[i:end]), true
}

// sameString reports whether raw, what stands between the quotes of a string, spells s.
func sameString(raw []byte, s string) bool {
	if len(raw) == len(s) {
		return string(raw) == s && bytes.IndexByte(raw, '\\') < 0 // an escape is longer than what it stands for
	}
	return len(raw) > len(s) && bytes.IndexByte(raw, '\\') >= 0 && string(unescape(raw)) == s
}

// prop is a property's name.
type prop struct {
	name  string
	index int64 // the name as the index of an array, or -1
}

func propOf(name string) prop {
	p := prop{name, -1}
	if len(name) > 0 && len(name) <= 10 && (name[0] != '0' || len(name) == 1) {
		if n, err := strconv.ParseUint(name, 10, 32); err == nil && n < math.MaxUint32 {
			p.index = int64(n)
		}
	}
	return p
}

// get is v[p] of JS, without what objects inherit, and undefined where v is null or undefined.
func (v value) get(p prop) (found value) {
	switch v.kind() {
	case object:
		m := members{b: v}
		for {
			key, member, ok := m.next(true)
			if !ok {
				return found
			}
			if sameString(key, p.name) { // the last of equal keys counts
				found = member
			}
		}
	case array:
		m := members{b: v}
		n := int64(0)
		for ; ; n++ {
			_, member, ok := m.next(false)
			if !ok {
				break
			}
			if n == p.index {
				return member
			}
		}
		if p.name == "length" {
			return numberValue(float64(n))
		}
	case text:
		if p.index < 0 && p.name != "length" {
			return nil
		}
		u := units{b: v.text()}
		n := int64(0)
		for ; ; n++ {
			c := u.next()
			if c < 0 {
				break
			}
			if n == p.index {
				return quote(appendUnit(nil, c))
			}
		}
		if p.name == "length" {
			return numberValue(float64(n))
		}
	}
	return nil
}

// text is what a string value stands for, in UTF-8 where lone surrogates are encoded, too. It may share v's memory.
func (v value) text() []byte {
	if len(v) < 2 {
		return nil
	}
	raw := v[1 : len(v)-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	return unescape(raw)
}

func unescape(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' || i+1 == len(raw) {
			out = append(out, raw[i])
			continue
		}
		i++
		switch c := raw[i]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			if i+5 > len(raw) {
				return out
			}
			n, err := strconv.ParseUint(string(raw[i+1:i+5]), 16, 16)
			if err != nil {
				return out
			}
			out = appendUnit(out, int(n))
			i += 4
		default:
			out = append(out, c)
		}
	}
	return out
}

// appendUnit appends a UTF-16 unit; the second half of a pair joins the first.
func appendUnit(b []byte, u int) []byte {
	if u >= 0xdc00 && u < 0xe000 && len(b) >= 3 && b[len(b)-3] == 0xed && b[len(b)-2] >= 0xa0 && b[len(b)-2] < 0xb0 {
		high := 0xd000 | int(b[len(b)-2]&0x3f)<<6 | int(b[len(b)-1]&0x3f)
		return utf8.AppendRune(b[:len(b)-3], rune(0x10000+(high-0xd800)<<10+(u-0xdc00)))
	}
	if u >= 0xd800 && u < 0xe000 {
		return append(b, 0xe0|byte(u>>12), 0x80|byte(u>>6)&0x3f, 0x80|byte(u)&0x3f)
	}
	return utf8.AppendRune(b, rune(u))
}

// units walks through the UTF-16 units of a text.
type units struct {
	b   []byte
	low int // the second half of the pair of which the first was returned
}

// next returns the next unit, or -1 at the end.
func (u *units) next() int {
	if u.low != 0 {
		low := u.low
		u.low = 0
		return low
	}
	if len(u.b) == 0 {
		return -1
	}
	if u.b[0] == 0xed && len(u.b) >= 3 && u.b[1] >= 0xa0 { // a lone surrogate
		c := 0xd000 | int(u.b[1]&0x3f)<<6 | int(u.b[2]&0x3f)
		u.b = u.b[3:]
		return c
	}
	r, n := utf8.DecodeRune(u.b)
	u.b = u.b[n:]
	if r >= 0x10000 {
		u.low = 0xdc00 + int(r-0x10000)&0x3ff
		return 0xd800 + int(r-0x10000)>>10
	}
	return int(r)
}

// compareText orders by UTF-16 units, as JS does: what UTF-8 writes with four bytes stands before U+E000.
func compareText(a, b []byte) int {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	if i == len(a) || i == len(b) {
		return len(a) - len(b)
	}
	if a[i] < 0xed && b[i] < 0xed {
		return int(a[i]) - int(b[i])
	}
	for i > 0 && !utf8.RuneStart(a[i]) {
		i--
	}
	x, y := units{b: a[i:]}, units{b: b[i:]}
	for {
		c, d := x.next(), y.next()
		if c != d || c < 0 {
			return c - d
		}
	}
}

// quote writes a text as JSON.stringify does.
func quote(s []byte) value {
	out := append(make([]byte, 0, len(s)+2), '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < ' ':
			if j := bytes.IndexByte([]byte("\b\t\n\f\r"), c); j >= 0 {
				out = append(out, '\\', "btnfr"[j])
			} else {
				out = append(out, `\u00`...)
				out = append(out, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
			}
		case c == 0xed && i+2 < len(s) && s[i+1] >= 0xa0:
			out = append(out, `\u`...)
			out = strconv.AppendUint(out, 0xd000|uint64(s[i+1]&0x3f)<<6|uint64(s[i+2]&0x3f), 16)
			i += 2
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}

var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// parseNumber reads a number value. Up to 15 digits and a point are read exactly without strconv: both parts are then exact
// floats, and their quotient is rounded once.
func parseNumber(v value) float64 {
	digits, point := 0, -1
	var mantissa uint64
	i := 0
	if len(v) > 0 && v[0] == '-' {
		i = 1
	}
	for ; i < len(v); i++ {
		if c := v[i]; c >= '0' && c <= '9' && digits < 15 {
			mantissa = mantissa*10 + uint64(c-'0')
			digits++
		} else if c == '.' && point < 0 {
			point = digits
		} else {
			f, err := strconv.ParseFloat(string(v), 64)
			if err != nil && f == 0 {
				return math.NaN()
			}
			return f
		}
	}
	f := float64(mantissa)
	if point >= 0 {
		f /= powers[digits-point]
	}
	if len(v) > 0 && v[0] == '-' {
		f = -f
	}
	return f
}

// numberValue writes a number as JS does.
func numberValue(f float64) value { return appendNumber(nil, f) }

func appendNumber(b []byte, f float64) []byte {
	switch {
	case f != f:
		return append(b, "NaN"...)
	case math.IsInf(f, 1):
		return append(b, "Infinity"...)
	case math.IsInf(f, -1):
		return append(b, "-Infinity"...)
	case f == 0:
		return append(b, '0') // of -0, too
	}
	if abs := math.Abs(f); abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	e := start + bytes.IndexByte(b[start:], 'e') + 2 // behind the sign
	if b[e] == '0' {
		b = append(b[:e], b[e+1:]...)
	}
	return b
}

// toNumber is Number(v) of JS.
func (v value) toNumber() float64 {
	switch v.kind() {
	case null:
		return 0
	case boolean:
		if v[0] == 't' {
			return 1
		}
		return 0
	case number:
		return parseNumber(v)
	case text:
		return textToNumber(v.text())
	case array:
		return textToNumber(v.toString())
	}
	return math.NaN()
}

// spaces are what JS takes for white space around a number.
const spaces = "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"

func textToNumber(b []byte) float64 {
	b = bytes.Trim(b, spaces)
	if len(b) == 0 {
		return 0
	}
	if len(b) > 2 && b[0] == '0' {
		base := 0
		switch b[1] | 0x20 {
		case 'x':
			base = 16
		case 'o':
			base = 8
		case 'b':
			base = 2
		}
		if base != 0 {
			return digitsToNumber(b[2:], base)
		}
	}
	digits := b
	if digits[0] == '+' || digits[0] == '-' {
		digits = digits[1:]
	}
	if string(digits) == "Infinity" {
		if b[0] == '-' {
			return math.Inf(-1)
		}
		return math.Inf(1)
	}
	for _, c := range digits { // strconv knows more spellings than JS
		if (c < '0' || c > '9') && c != '.' && c != 'e' && c != 'E' && c != '+' && c != '-' {
			return math.NaN()
		}
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil && !math.IsInf(f, 0) {
		return math.NaN()
	}
	return f
}

func digitsToNumber(b []byte, base int) float64 {
	n, err := strconv.ParseUint(string(b), base, 64)
	if err == nil {
		return float64(n)
	}
	f := 0.0
	for _, c := range b { // no digits, or more than 64 bits, where nobody minds the last one
		if c >= 'A' && c <= 'F' {
			c += 'a' - 'A'
		}
		d := strings.IndexByte("0123456789abcdef", c)
		if d < 0 || d >= base {
			return math.NaN()
		}
		f = f*float64(base) + float64(d)
	}
	return f
}

// toString is String(v) of JS.
func (v value) toString() []byte {
	switch v.kind() {
	case undefined:
		return []byte("undefined")
	case text:
		return v.text()
	case number:
		return appendNumber(nil, parseNumber(v))
	case object:
		return []byte("[object Object]")
	case array:
		return appendJoined(nil, v, 0)
	}
	return v
}

// appendJoined appends an array's elements with commas between them; null and undefined are left out.
func appendJoined(b []byte, v value, depth int) []byte {
	m := members{b: v}
	for n := 0; ; n++ {
		_, member, ok := m.next(false)
		if !ok {
			return b
		}
		if n > 0 {
			b = append(b, ',')
		}
		switch {
		case member.kind() == array:
			if depth < maxDepth {
				b = appendJoined(b, member, depth+1)
			}
		case !member.nullish():
			b = append(b, member.toString()...)
		}
	}
}

// equal is === of JS.
func equal(a, b value) bool {
	k := a.kind()
	if k != b.kind() {
		return false
	}
	switch k {
	case number:
		return parseNumber(a) == parseNumber(b)
	case text:
		return bytes.Equal(a, b) || (bytes.IndexByte(a, '\\') >= 0 || bytes.IndexByte(b, '\\') >= 0) && bytes.Equal(a.text(), b.text())
	case boolean:
		return a[0] == b[0]
	case array, object: // two of them are never the same one
		return false
	}
	return true
}

// less is a < b of JS, orEqual makes a <= b of it.
func less(a, b value, orEqual bool) bool {
	if (a.kind() == text || a.kind() >= array) && (b.kind() == text || b.kind() >= array) {
		c := compareText(a.toString(), b.toString())
		return c < 0 || orEqual && c == 0
	}
	x, y := a.toNumber(), b.toNumber()
	return x < y || orEqual && x == y
}

// rank is the order of types of npm typewiselite 1.0: null, boolean, number, string, array, undefined.
var rank = [...]int{null: 0, boolean: 1, number: 2, text: 4, array: 6, undefined: 7}

// compare is the order of npm typewiselite. It has none for objects.
func compare(a, b value) (int, error) { return compareDeep(a, b, 0) }

func compareDeep(a, b value, depth int) (int, error) {
	x, y := a.kind(), b.kind()
	if x == object || y == object || depth > maxDepth {
		return 0, ErrOrder
	}
	if x != y {
		return rank[x] - rank[y], nil
	}
	switch x {
	case boolean:
		return int(a[0]) - int(b[0]), nil // 'f' is less than 't'
	case number:
		f, g := parseNumber(a), parseNumber(b)
		if f == g {
			return 0, nil
		}
		if f < g {
			return -1, nil
		}
		return 1, nil
	case text:
		return compareText(a.text(), b.text()), nil
	case array:
		m, n := members{b: a}, members{b: b}
		for {
			_, c, more := m.next(false)
			_, d, also := n.next(false)
			switch {
			case !more && !also:
				return 0, nil
			case !more:
				return -1, nil
			case !also:
				return 1, nil
			}
			if r, err := compareDeep(c, d, depth+1); r != 0 || err != nil {
				return r, err
			}
		}
	}
	return 0, nil
}

// clean makes JSON of a value that was computed: what JSON does not have becomes null.
func clean(v value) value {
	if len(v) == 0 {
		return value("null")
	}
	out := make([]byte, 0, len(v))
	for i := 0; i < len(v); {
		end := i + 1
		switch c := v[i]; {
		case c == '"':
			end = skipString(v, i)
			out = append(out, v[i:end]...)
		case c == '-' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z': // a word or number, from its beginning
			end = skip(v, i)
			if word := v[i:end]; c == 'N' || c == 'I' || c == 'u' || string(word) == "-Infinity" {
				out = append(out, "null"...)
			} else {
				out = append(out, word...)
			}
		default:
			out = append(out, c)
		}
		i = end
	}
	return out
}
