package classic

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"charkha/identity"
)

const (
	// MaxRaw is the most bytes of input that are looked at.
	MaxRaw = 64 << 10
	// MaxLength is the most UTF-16 units of a message in its signed spelling, signature included.
	MaxLength = 8192

	maxPretty = 256 << 10 // bytes of the signed spelling while it is made
	maxAlone  = 64 << 20  // the same of a value that is no message
	maxDepth  = 1000      // of nesting; 8192 units hold 63
	maxMoved  = 4 << 20   // bytes rewritten to bring keys in order, over all depths; 8192 units of a message move below 3 MiB
)

// Error says why bytes are not a message, and where.
type Error struct {
	Reason string
	Offset int // in the input; -1: the message as a whole
}

func (e *Error) Error() string {
	if e.Offset < 0 {
		return e.Reason
	}
	return fmt.Sprintf("%s at byte %d", e.Reason, e.Offset)
}

// The chain errors of CheckNext.
var (
	ErrGap  = errors.New("sequence does not follow")
	ErrFork = errors.New("previous is another message")
)

// Message is a classic message that is valid but for its signature and its place in the feed. Slices point into the
// Scanner and are valid until its next Scan.
type Message struct {
	Key       identity.MsgID
	Author    identity.ID
	Sequence  int64          // int32 by the format; not checked to be above 0
	Previous  identity.MsgID // zero: null, or see oddPrevious
	Timestamp float64        // claimed, milliseconds since 1970; 0 when it is no number
	Signature [64]byte
	Value     []byte // compact JSON: what is stored and sent on
	Content   []byte // the content in Value
	Type      []byte // content.type; nil when the content is a string
	Signed    []byte // what the signature is over, before any HMAC

	SequenceFirst bool // sequence stands before author

	noNumber    bool // the timestamp is no number
	oddPrevious bool // previous is neither null nor a message id
}

// Scanner reads messages. The zero value is ready. It must not be used by two goroutines at once.
type Scanner struct {
	raw     []byte
	i       int
	pretty  []byte
	compact []byte
	latin   []byte // the low bytes of the UTF-16 units of pretty, when it is not ASCII
	scratch []byte
	typ     []byte
	ascii   bool
	members []member // of the objects that are open
	table   []int32
	limit   int // on len(pretty)
	moved   int // by rearrange
	msg     Message
}

// member is one key and value of an object, as spans of what was written.
type member struct {
	key, keyEnd int // in compact, quotes included
	p, pEnd     int // key and value in pretty
	value, cEnd int // value in compact; the member is compact[key:cEnd]
	index       uint32
	isIndex     bool
	kind        byte // as value returns it
	overwritten bool
}

func (s *Scanner) fail(format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...), Offset: s.i}
}

func (s *Scanner) reset(raw []byte, limit int) {
	s.raw, s.i, s.limit = raw, 0, limit
	s.pretty, s.compact, s.members = s.pretty[:0], s.compact[:0], s.members[:0]
	s.ascii, s.moved = true, 0
}

// document reads one JSON value and nothing but white space around it.
func (s *Scanner) document() (kind byte, err error) {
	s.space()
	if kind, err = s.value(0); err != nil {
		return 0, err
	}
	s.space()
	if s.i != len(s.raw) {
		return 0, s.fail("something follows the JSON value")
	}
	return kind, nil
}

func (s *Scanner) space() {
	for s.i < len(s.raw) {
		switch s.raw[s.i] {
		case ' ', '\n', '\r', '\t':
			s.i++
		default:
			return
		}
	}
}

// line is a comma, a line end, and room for the indentation of a depth that is common.
const line = ",\n                                "

// newline begins a line of the signed spelling, after a comma or not (comma is 1 or 0).
func (s *Scanner) newline(depth, comma int) error {
	if len(s.pretty) > s.limit {
		return s.fail("too long")
	}
	n := 2*depth + 2
	s.pretty = append(s.pretty, line[1-comma:min(n, len(line))]...)
	for ; n > len(line); n -= 2 {
		s.pretty = append(s.pretty, "  "...)
	}
	return nil
}

// value reads a value and writes it in both spellings. It returns the byte that it begins with, or the kind of a number.
func (s *Scanner) value(depth int) (kind byte, err error) {
	if s.i >= len(s.raw) {
		return 0, s.fail("the JSON ends too early")
	}
	switch c := s.raw[s.i]; c {
	case '{':
		return c, s.object(depth)
	case '[':
		return c, s.array(depth)
	case '"':
		return c, s.str()
	case 't':
		return c, s.literal("true")
	case 'f':
		return c, s.literal("false")
	case 'n':
		return c, s.literal("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return s.number()
	default:
		return 0, s.fail("%s where a JSON value should begin", show(s.raw[s.i:]))
	}
}

// show quotes the first character of b.
func show(b []byte) string {
	_, n := utf8.DecodeRune(b)
	return fmt.Sprintf("%q", b[:n])
}

func (s *Scanner) literal(word string) error {
	if len(s.raw)-s.i < len(word) || string(s.raw[s.i:s.i+len(word)]) != word {
		return s.fail("a word that JSON does not have")
	}
	s.i += len(word)
	s.pretty = append(s.pretty, word...)
	s.compact = append(s.compact, word...)
	return nil
}

func (s *Scanner) array(depth int) error {
	if depth >= maxDepth {
		return s.fail("nested too deeply")
	}
	s.i++
	s.pretty = append(s.pretty, '[')
	s.compact = append(s.compact, '[')
	for comma := 0; ; comma = 1 {
		s.space()
		if s.i >= len(s.raw) {
			return s.fail("the JSON ends inside an array")
		}
		c := s.raw[s.i]
		if comma == 0 && c == ']' {
			s.i++
			break
		}
		if err := s.newline(depth+1, comma); err != nil {
			return err
		}
		if _, err := s.value(depth + 1); err != nil {
			return err
		}
		s.space()
		if s.i >= len(s.raw) {
			return s.fail("the JSON ends inside an array")
		}
		c = s.raw[s.i]
		s.i++
		if c == ']' {
			if err := s.newline(depth, 0); err != nil {
				return err
			}
			break
		}
		if c != ',' {
			s.i--
			return s.fail("%s where an array should go on", show(s.raw[s.i:]))
		}
		s.compact = append(s.compact, ',')
	}
	s.pretty = append(s.pretty, ']')
	s.compact = append(s.compact, ']')
	return nil
}

// object reads an object. That of depth 0 leaves its members in s.members.
func (s *Scanner) object(depth int) error {
	if depth >= maxDepth {
		return s.fail("nested too deeply")
	}
	s.i++
	s.pretty = append(s.pretty, '{')
	s.compact = append(s.compact, '{')
	base := len(s.members)
	indices := false
	for comma := 0; ; comma = 1 {
		s.space()
		if s.i >= len(s.raw) {
			return s.fail("the JSON ends inside an object")
		}
		if comma == 0 && s.raw[s.i] == '}' {
			s.i++
			break
		}
		if s.raw[s.i] != '"' {
			return s.fail("%s where a key should begin", show(s.raw[s.i:]))
		}
		if err := s.newline(depth+1, comma); err != nil {
			return err
		}
		m := member{key: len(s.compact), p: len(s.pretty)}
		if err := s.str(); err != nil {
			return err
		}
		m.keyEnd = len(s.compact)
		if m.index, m.isIndex = arrayIndex(s.compact[m.key+1 : m.keyEnd-1]); m.isIndex {
			indices = true
		}
		s.space()
		if s.i >= len(s.raw) || s.raw[s.i] != ':' {
			return s.fail("no colon after a key")
		}
		s.i++
		s.pretty = append(s.pretty, ": "...)
		s.compact = append(s.compact, ':')
		m.value = len(s.compact)
		s.space()
		kind, err := s.value(depth + 1)
		if err != nil {
			return err
		}
		m.kind, m.pEnd, m.cEnd = kind, len(s.pretty), len(s.compact)
		s.members = append(s.members, m)
		s.space()
		if s.i >= len(s.raw) {
			return s.fail("the JSON ends inside an object")
		}
		c := s.raw[s.i]
		if c != ',' && c != '}' {
			return s.fail("%s where an object should go on", show(s.raw[s.i:]))
		}
		s.i++
		if c == '}' {
			if indices || s.repeats(s.members[base:]) {
				if err := s.rearrange(base, depth); err != nil {
					return err
				}
			}
			if err := s.newline(depth, 0); err != nil {
				return err
			}
			break
		}
		s.compact = append(s.compact, ',')
	}
	s.pretty = append(s.pretty, '}')
	s.compact = append(s.compact, '}')
	if depth > 0 {
		s.members = s.members[:base]
	}
	return nil
}

// arrayIndex reads a key that V8 treats as an array index.
func arrayIndex(key []byte) (uint32, bool) {
	if len(key) == 0 || key[0] > '9' || len(key) > 10 || key[0] == '0' && len(key) > 1 {
		return 0, false
	}
	n := uint64(0)
	for _, c := range key {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return uint32(n), n <= 4294967294
}

func (s *Scanner) keyOf(m *member) []byte { return s.compact[m.key:m.keyEnd] }

// pairwise is up to how many keys an object's are compared each with each.
const pairwise = 10

// repeats reports whether two members have the same key. Keys stand in their canonical spelling, so equal keys are equal
// bytes.
func (s *Scanner) repeats(ms []member) bool {
	if len(ms) > pairwise {
		return s.firsts(ms, func(i, j int) {}) > 0
	}
	for i := range ms {
		a := &ms[i]
		for j := range i {
			b := &ms[j]
			if a.keyEnd-a.key == b.keyEnd-b.key && bytes.Equal(s.keyOf(a), s.keyOf(b)) {
				return true
			}
		}
	}
	return false
}

var seed = maphash.MakeSeed()

// firsts calls again(i, j) for each member i whose key stood before, first at j, and returns how many there are. It takes
// time in proportion to the keys, whoever chose them.
func (s *Scanner) firsts(ms []member, again func(i, j int)) (n int) {
	size := 16
	for size < 2*len(ms) {
		size *= 2
	}
	s.table = slices.Grow(s.table[:0], size)[:size]
	clear(s.table)
	for i := range ms {
		key := s.keyOf(&ms[i])
		slot := int(maphash.Bytes(seed, key)) & (size - 1)
		for ; ; slot = (slot + 1) & (size - 1) {
			j := int(s.table[slot]) - 1
			if j < 0 {
				s.table[slot] = int32(i) + 1
				break
			}
			if bytes.Equal(s.keyOf(&ms[j]), key) {
				again(i, j)
				n++
				break
			}
		}
	}
	return n
}

// rearrange writes the members of an object anew as V8 orders them: equal keys once, with the last value at the place of
// the first, and array indices first. An object deep inside others is moved with each of them, so what is moved is bounded.
func (s *Scanner) rearrange(base, depth int) error {
	ms := s.members[base:]
	p0, c0 := ms[0].p, ms[0].key
	if s.moved += len(s.pretty) - p0 + len(s.compact) - c0; s.moved > maxMoved {
		return s.fail("too many keys out of order")
	}
	s.firsts(ms, func(i, j int) {
		index, isIndex := ms[j].index, ms[j].isIndex
		ms[j] = ms[i]
		ms[j].index, ms[j].isIndex = index, isIndex
		ms[i].overwritten = true
	})
	ms = slices.DeleteFunc(ms, func(m member) bool { return m.overwritten })
	slices.SortStableFunc(ms, func(a, b member) int {
		switch {
		case a.isIndex && b.isIndex:
			if a.index < b.index {
				return -1
			}
			return 1
		case a.isIndex:
			return -1
		case b.isIndex:
			return 1
		}
		return 0
	})
	s.members = s.members[:base+len(ms)]
	s.scratch = append(append(s.scratch[:0], s.pretty[p0:]...), s.compact[c0:]...)
	oldP := s.scratch[:len(s.pretty)-p0]
	oldC := s.scratch[len(oldP):]
	s.pretty, s.compact = s.pretty[:p0], s.compact[:c0]
	for i := range ms {
		m := &ms[i]
		if i > 0 {
			_ = s.newline(depth+1, 1) // it is shorter than before
			s.compact = append(s.compact, ',')
		}
		shift := len(s.compact) - m.key
		pAt := len(s.pretty)
		s.pretty = append(s.pretty, oldP[m.p-p0:m.pEnd-p0]...)
		s.compact = append(s.compact, oldC[m.key-c0:m.cEnd-c0]...)
		m.p, m.pEnd = pAt, len(s.pretty)
		m.key, m.keyEnd, m.value, m.cEnd = m.key+shift, m.keyEnd+shift, m.value+shift, m.cEnd+shift
	}
	return nil
}

// Eight bytes at once: a word with each byte 1, and one with each byte's high bit.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks the bytes of x that do not stand for themselves in a string, ", \ and control characters, by their high bits.
// The lowest mark is right, those above it may not be: a subtraction borrows from there.
func special(x uint64) uint64 {
	return ((x - 0x20*ones) | ((x ^ '"'*ones) - ones) | ((x ^ '\\'*ones) - ones)) &^ x & highs
}

// plain returns where the bytes of a string that stand for themselves end, from i on, and whether all of them are ASCII.
func plain(raw []byte, i int) (end int, ascii bool) {
	high := uint64(0)
	for ; i+8 <= len(raw); i += 8 {
		x := binary.LittleEndian.Uint64(raw[i:])
		if m := special(x); m != 0 {
			m &= -m
			high |= x & (m>>7 - 1)
			return i + bits.TrailingZeros64(m)>>3, high&highs == 0
		}
		high |= x
	}
	for ; i < len(raw) && raw[i] >= 0x20 && raw[i] != '"' && raw[i] != '\\'; i++ {
		high |= uint64(raw[i])
	}
	return i, high&highs == 0
}

// str reads a string and writes it to both spellings.
func (s *Scanner) str() error {
	raw, i := s.raw, s.i
	if end, ascii := plain(raw, i+1); ascii && end < len(raw) && raw[end] == '"' {
		s.i = end + 1
		s.pretty = append(s.pretty, raw[i:end+1]...)
		s.compact = append(s.compact, raw[i:end+1]...)
		return nil
	}
	at := len(s.compact)
	err := s.oddStr()
	s.pretty = append(s.pretty, s.compact[at:]...)
	return err
}

// oddStr reads a string with escapes or beyond ASCII and writes it to compact.
func (s *Scanner) oddStr() error {
	raw := s.raw
	i := s.i + 1
	out := append(s.compact, '"')
	for {
		end, ascii := plain(raw, i)
		run := raw[i:end]
		if !ascii {
			s.ascii = false
			if !utf8.Valid(run) {
				for s.i = i; ; {
					r, n := utf8.DecodeRune(raw[s.i:end])
					if r == utf8.RuneError && n <= 1 {
						return s.fail("bytes that are not UTF-8")
					}
					s.i += n
				}
			}
		}
		out = append(out, run...)
		i, s.i = end, end
		if i >= len(raw) {
			return s.fail("the JSON ends inside a string")
		}
		switch raw[i] {
		case '"':
			s.i = i + 1
			s.compact = append(out, '"')
			return nil
		case '\\':
			var err error
			if out, i, err = s.escape(out, i); err != nil {
				return err
			}
		default:
			return s.fail("a control character inside a string")
		}
	}
}

const hexDigits = "0123456789abcdef"

// escape reads an escape sequence at i and writes what it stands for.
func (s *Scanner) escape(out []byte, i int) ([]byte, int, error) {
	raw := s.raw
	s.i = i
	if i+1 >= len(raw) {
		return out, i, s.fail("the JSON ends inside a string")
	}
	var u rune
	switch raw[i+1] {
	case '"', '\\', '/':
		u, i = rune(raw[i+1]), i+2
	case 'b':
		u, i = '\b', i+2
	case 'f':
		u, i = '\f', i+2
	case 'n':
		u, i = '\n', i+2
	case 'r':
		u, i = '\r', i+2
	case 't':
		u, i = '\t', i+2
	case 'u':
		var ok bool
		if u, ok = hex4(raw[i+2:]); !ok {
			return out, i, s.fail("a \\u without four hex digits")
		}
		i += 6
	default:
		return out, i, s.fail("an escape that JSON does not have")
	}
	switch {
	case u == '"' || u == '\\':
		return append(out, '\\', byte(u)), i, nil
	case u < 0x20:
		return appendControl(out, byte(u)), i, nil
	case u < 0x80:
		return append(out, byte(u)), i, nil
	case u >= 0xd800 && u < 0xe000:
		if u < 0xdc00 && i+1 < len(raw) && raw[i] == '\\' && raw[i+1] == 'u' {
			if low, ok := hex4(raw[i+2:]); ok && low >= 0xdc00 && low < 0xe000 {
				s.ascii = false
				return utf8.AppendRune(out, (u-0xd800)<<10+(low-0xdc00)+0x10000), i + 6, nil
			}
		}
		return append(out, '\\', 'u', hexDigits[u>>12], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15]), i, nil
	}
	s.ascii = false
	return utf8.AppendRune(out, u), i, nil
}

func appendControl(out []byte, c byte) []byte {
	switch c {
	case '\b':
		return append(out, '\\', 'b')
	case '\t':
		return append(out, '\\', 't')
	case '\n':
		return append(out, '\\', 'n')
	case '\f':
		return append(out, '\\', 'f')
	case '\r':
		return append(out, '\\', 'r')
	}
	return append(out, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

func hex4(b []byte) (u rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		u = u<<4 | rune(c)
	}
	return u, true
}

// Canonical appends the spelling of a JSON value that is signed: JSON.stringify(JSON.parse(src), null, 2).
func Canonical(dst, src []byte) ([]byte, error) {
	var s Scanner
	s.reset(src, maxAlone)
	if _, err := s.document(); err != nil {
		return dst, err
	}
	return append(dst, s.pretty...), nil
}

// Compact appends a JSON value in the spelling that is stored: JSON.stringify(JSON.parse(src)).
func Compact(dst, src []byte) ([]byte, error) {
	var s Scanner
	s.reset(src, maxAlone)
	if _, err := s.document(); err != nil {
		return dst, err
	}
	return append(dst, s.compact...), nil
}

// AppendLatin1 appends the low byte of each UTF-16 unit of text, which must be UTF-8: what ids are made from. The length of
// what is appended is the text's length in UTF-16 units.
func AppendLatin1(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		start := i
		for i+8 <= len(text) && binary.LittleEndian.Uint64(text[i:])&highs == 0 {
			i += 8
		}
		for i < len(text) && text[i] < utf8.RuneSelf {
			i++
		}
		dst = append(dst, text[start:i]...)
		for i < len(text) && text[i] >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(text[i:])
			if r >= 0x10000 {
				dst = append(dst, byte((r-0x10000)>>10))
			}
			dst = append(dst, byte(r)) // of a pair, too: the surrogates begin at multiples of 0x400
			i += n
		}
	}
	return dst
}

const sigSuffix = ".sig.ed25519"

var strict = base64.StdEncoding.Strict()

// Scan reads a message. What it returns is valid until the next Scan. Errors are *Error.
func (s *Scanner) Scan(raw []byte) (*Message, error) {
	m := &s.msg
	*m = Message{}
	if len(raw) > MaxRaw {
		return nil, &Error{Reason: fmt.Sprintf("%d bytes are too long for a message", len(raw)), Offset: -1}
	}
	s.reset(raw, maxPretty)
	kind, err := s.document()
	if err != nil {
		return nil, err
	}
	if kind != '{' {
		return nil, invalid("not a JSON object")
	}
	names := [...]string{`"previous"`, `"author"`, `"sequence"`, `"timestamp"`, `"hash"`, `"content"`, `"signature"`}
	if len(s.members) != len(names) {
		return nil, invalid("%d keys, a message has 7", len(s.members))
	}
	order := [...]int{0, 1, 2, 3, 4, 5, 6}
	if string(s.keyOf(&s.members[1])) == names[2] {
		order[1], order[2] = 2, 1
		m.SequenceFirst = true
	}
	if at := &s.members[3]; at.kind == kindHuge || at.kind == kindMinus {
		s.hugeTimestamp(at)
	}
	var f [7][]byte
	var kinds [7]byte
	for i, name := range names {
		mb := &s.members[order[i]]
		if string(s.keyOf(mb)) != name {
			return nil, invalid("key %d is %s, not %s", order[i]+1, excerpt(s.keyOf(mb)), name)
		}
		f[i], kinds[i] = s.compact[mb.value:mb.cEnd], mb.kind
	}
	if kinds[1] != '"' {
		return nil, invalid("author is not a feed id")
	}
	if m.Author, err = identity.ParseID(f[1][1 : len(f[1])-1]); err != nil {
		return nil, invalid("author: %v", err)
	}
	if kinds[2] != kindNumber {
		return nil, invalid("sequence is not a number that a double holds")
	}
	if m.Sequence, err = strconv.ParseInt(unsafe.String(unsafe.SliceData(f[2]), len(f[2])), 10, 32); err != nil {
		return nil, invalid("sequence %s is not an int32", excerpt(f[2]))
	}
	if kinds[0] != 'n' {
		m.Previous, m.oddPrevious = previous(f[0])
	}
	switch kinds[3] {
	case kindNumber:
		m.Timestamp = parseNumber(f[3])
	case kindHuge:
		m.Timestamp = math.Inf(1)
	case kindMinus:
		m.Timestamp = math.Inf(-1)
	default:
		m.noNumber = true
	}
	if string(f[4]) != `"sha256"` {
		return nil, invalid("hash is %s, not \"sha256\"", excerpt(f[4]))
	}
	if err := s.signature(kinds[6], f[6]); err != nil {
		return nil, err
	}
	if err := s.content(kinds[5], f[5]); err != nil {
		return nil, err
	}
	full := s.pretty
	if !s.ascii {
		s.latin = AppendLatin1(s.latin[:0], s.pretty)
		full = s.latin
	}
	if len(full) > MaxLength {
		return nil, invalid("too long: %d UTF-16 units in its signed form, at most %d are allowed", len(full), MaxLength)
	}
	m.Key = sha256.Sum256(full)
	m.Value = s.compact
	// Without the signature, the signed spelling ends after the content: ",\n" goes and "\n}" comes.
	end := s.members[5].pEnd
	s.pretty = append(s.pretty[:end], '\n', '}')
	m.Signed = s.pretty
	return m, nil
}

// hugeTimestamp puts a number back into the compact form where the spelling has null: the type of a feed's first timestamp
// is looked at, so the message has to read back as it was read.
func (s *Scanner) hugeTimestamp(at *member) {
	number := "1e400"
	if at.kind == kindMinus {
		number = "-1e400"
	}
	longer := len(number) - (at.cEnd - at.value)
	s.compact = slices.Replace(s.compact, at.value, at.cEnd, []byte(number)...)
	at.cEnd += longer
	for i := 4; i < len(s.members); i++ {
		m := &s.members[i]
		m.key, m.keyEnd, m.value, m.cEnd = m.key+longer, m.keyEnd+longer, m.value+longer, m.cEnd+longer
	}
}

// previous reads a previous that is not null. JS compares it with the right id by ==, for which an array of one
// element is that element. odd: it is, as it stands, neither null nor a message id.
func previous(text []byte) (id identity.MsgID, odd bool) {
	n := 0
	for n < len(text) && text[n] == '[' {
		n++
	}
	inner := text[n : len(text)-min(n, len(text)-n)]
	for _, c := range text[n+len(inner):] {
		if c != ']' {
			return id, true
		}
	}
	if len(inner) < 2 || inner[0] != '"' {
		return id, true
	}
	id, err := identity.ParseMsgID(inner[1 : len(inner)-1])
	return id, err != nil || id.IsZero()
}

func invalid(format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...), Offset: -1}
}

func excerpt(b []byte) []byte {
	if len(b) > 40 {
		return append(bytes.Clone(b[:37]), "..."...)
	}
	return b
}

func (s *Scanner) signature(kind byte, text []byte) error {
	if kind != '"' || len(text) != 1+88+len(sigSuffix)+1 || string(text[89:len(text)-1]) != sigSuffix {
		return invalid("signature is not 64 bytes in base64 and %s", sigSuffix)
	}
	for _, c := range text[1:89] {
		if c == '\\' { // and with it the line ends that encoding/base64 passes over
			return invalid("signature is not canonical base64")
		}
	}
	// 88 characters hold up to 66 bytes. JS peers hand all of them to libsodium, which looks at the first 64.
	var sig [66]byte
	if n, err := strict.Decode(sig[:], text[1:89]); err != nil || n < 64 {
		return invalid("signature is not canonical base64")
	}
	s.msg.Signature = [64]byte(sig[:64])
	return nil
}

func (s *Scanner) content(kind byte, text []byte) error {
	m := &s.msg
	m.Content = text
	switch kind {
	case '"':
		if !encrypted(text[1 : len(text)-1]) {
			return invalid("content is a string but not base64 and .box")
		}
		return nil
	case '{':
		typ := typeOf(text)
		if typ == nil {
			return invalid("content has no type that is a string")
		}
		units := len(typ)
		if !s.ascii || bytes.IndexByte(typ, '\\') >= 0 {
			typ, units = s.unescape(typ)
		}
		if units < 3 || units > 52 {
			return invalid("content.type has %d UTF-16 units, must have 3 to 52", units)
		}
		m.Type = typ
		return nil
	}
	return invalid("content is neither an object nor an encrypted string")
}

// typeOf finds the string at the key "type" of an object in compact spelling, its escapes not undone; nil: there is none.
func typeOf(obj []byte) []byte {
	const first = `{"type":"`
	i := len(first)
	if !bytes.HasPrefix(obj, []byte(first)) {
		if i = findType(obj); i < 0 {
			return nil
		}
	}
	for j := i; ; j++ {
		switch obj[j] {
		case '"':
			return obj[i:j]
		case '\\':
			j++
		}
	}
}

// findType finds where the string at the key "type" of an object begins, after its quote; -1: nowhere.
func findType(obj []byte) int {
	depth := 0
	for i := 0; i < len(obj); i++ {
		switch obj[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			start := i
			for i++; obj[i] != '"'; i++ {
				if obj[i] == '\\' {
					i++
				}
			}
			if depth == 1 && obj[i+1] == ':' && string(obj[start:i+1]) == `"type"` {
				if obj[i+2] == '"' {
					return i + 3
				}
				return -1
			}
		}
	}
	return -1
}

// unescape undoes the escapes of a string in canonical spelling and counts its UTF-16 units. A surrogate without its
// partner becomes U+FFFD.
func (s *Scanner) unescape(text []byte) (out []byte, units int) {
	out = s.typ[:0]
	for i := 0; i < len(text); units++ {
		c := text[i]
		switch {
		case c == '\\' && text[i+1] == 'u':
			u, _ := hex4(text[i+2:])
			out = utf8.AppendRune(out, u) // U+FFFD for surrogates
			i += 6
		case c == '\\':
			switch c = text[i+1]; c {
			case 'b':
				c = '\b'
			case 't':
				c = '\t'
			case 'n':
				c = '\n'
			case 'f':
				c = '\f'
			case 'r':
				c = '\r'
			}
			out = append(out, c)
			i += 2
		default:
			r, n := utf8.DecodeRune(text[i:])
			if r >= 0x10000 {
				units++
			}
			out = append(out, text[i:i+n]...)
			i += n
		}
	}
	s.typ = out
	return out, units
}

// encrypted reports whether a string, in canonical spelling, is canonical base64, ".box", and anything but line ends.
func encrypted(text []byte) bool {
	n := 0
	for n < len(text) && base64Value[text[n]] >= 0 {
		n++
	}
	pad := 0
	for n+pad < len(text) && text[n+pad] == '=' {
		pad++
	}
	switch {
	case pad == 0 && n%4 == 0:
	case pad == 2 && n%4 == 2 && base64Value[text[n-1]]&15 == 0:
	case pad == 1 && n%4 == 3 && base64Value[text[n-1]]&3 == 0:
	default:
		return false
	}
	rest, ok := bytes.CutPrefix(text[n+pad:], []byte(".box"))
	for i := 0; i < len(rest); i++ {
		if rest[i] == '\\' {
			i++
			ok = ok && rest[i] != 'n' && rest[i] != 'r'
		}
	}
	return ok && !bytes.Contains(rest, []byte("\u2028")) && !bytes.Contains(rest, []byte("\u2029"))
}

// base64Value is the six bits that a character stands for, -1 for what is none.
var base64Value = func() (t [256]int8) {
	for c := range t {
		t[c] = -1
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range len(alphabet) {
		t[alphabet[i]] = int8(i)
	}
	return t
}()
