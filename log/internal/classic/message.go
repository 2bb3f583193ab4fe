package classic

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"sync"

	"charkha/identity"
)

// hmacSize is the size of the keyed hash that is signed on networks with an HMAC key: libsodium's crypto_auth, the first
// half of HMAC-SHA-512.
const hmacSize = 32

// SignedBytes returns what the signature is over: Signed itself, or its keyed hash on a network with an HMAC key.
func (m *Message) SignedBytes(key *[32]byte) []byte { return authenticate(m.Signed, key) }

func authenticate(signed []byte, key *[32]byte) []byte {
	if key == nil {
		return signed
	}
	h := hmac.New(sha512.New, key[:])
	h.Write(signed)
	return h.Sum(nil)[:hmacSize]
}

// VerifySignature reports whether the author signed the message.
func (m *Message) VerifySignature(key *[32]byte) bool {
	return identity.Verify(m.Author, m.SignedBytes(key), &m.Signature)
}

// CheckNext checks that m follows the message with the given sequence and key in its feed; sequence 0 is the empty feed.
// The error is ErrGap when the sequence is another than the next, ErrFork when it is and previous is not key, or an *Error.
func (m *Message) CheckNext(sequence int64, key identity.MsgID) error {
	if m.Sequence != sequence+1 {
		return fmt.Errorf("%w: have %d, got %d", ErrGap, sequence, m.Sequence)
	}
	if sequence == 0 {
		if !m.Previous.IsZero() || m.oddPrevious {
			return invalid("previous of the first message is not null")
		}
		if m.noNumber {
			return invalid("timestamp of the first message is not a number")
		}
		return nil
	}
	if m.oddPrevious || m.Previous != key {
		return fmt.Errorf("%w than %s", ErrFork, key)
	}
	return nil
}

// Standalone checks what can be said of a message without its feed, beyond what Scan checks.
func (m *Message) Standalone() error {
	if m.noNumber {
		return invalid("timestamp is not a number")
	}
	return nil
}

// Encode makes and signs a message and returns its Value. content is JSON, an object with a type or an encrypted string, in
// any spelling; timestamp is in milliseconds since 1970. previous and sequence are those of the new message: a zero previous
// is null and goes with sequence 1 alone. An *Error says what cannot be a message.
func Encode(k identity.KeyPair, hmacKey *[32]byte, previous identity.MsgID, sequence int64, timestamp float64, content []byte) ([]byte, error) {
	switch {
	case sequence < 1 || sequence > math.MaxInt32:
		return nil, invalid("sequence %d is not between 1 and %d", sequence, math.MaxInt32)
	case previous.IsZero() != (sequence == 1):
		return nil, invalid("previous must be null in the first message and nowhere else, sequence is %d", sequence)
	case math.IsNaN(timestamp) || math.IsInf(timestamp, 0):
		return nil, invalid("timestamp is not a finite number")
	case len(content) > MaxRaw:
		return nil, invalid("content of %d bytes is too long for a message", len(content))
	}
	var s Scanner
	s.reset(content, maxPretty)
	if _, err := s.document(); err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	draft := make([]byte, 0, len(s.compact)+512)
	draft = append(draft, `{"previous":`...)
	if previous.IsZero() {
		draft = append(draft, "null"...)
	} else {
		draft = append(draft, '"')
		draft, _ = previous.AppendText(draft)
		draft = append(draft, '"')
	}
	draft = append(draft, `,"author":"`...)
	draft, _ = k.ID().AppendText(draft)
	draft = append(draft, `","sequence":`...)
	draft = strconv.AppendInt(draft, sequence, 10)
	draft = append(draft, `,"timestamp":`...)
	draft = AppendNumber(draft, timestamp)
	draft = append(draft, `,"hash":"sha256","content":`...)
	draft = append(draft, s.compact...)
	draft = append(draft, `,"signature":"`...)
	at := len(draft)
	var sig [64]byte
	draft = base64.StdEncoding.AppendEncode(draft, sig[:])
	draft = append(draft, sigSuffix+`"}`...)
	m, err := s.Scan(draft) // all of the rules, and what is to be signed
	if err != nil {
		return nil, err
	}
	sig = k.Sign(m.SignedBytes(hmacKey))
	base64.StdEncoding.Encode(draft[at:], sig[:])
	return draft, nil
}

// Peek finds author and sequence of a message without checking the rest of it, most times in a fraction of the time of Scan. What it
// finds in a message that Scan takes is what Scan finds. false: Scan takes no message of anybody with a sequence above 0 here.
//
// It reads the two orders of keys that messages have, as JSON.stringify writes them with any white space, and looks for nothing else
// that could be one of the two keys behind them: of equal keys the last one counts. Where that is not enough, it scans.
func Peek(raw []byte) (author identity.ID, sequence int64, ok bool) {
	p := peeker{raw}
	author, sequence, ok = p.head()
	if ok && !maybe(p.rest, `"author"`, `"sequence"`) || !ok && !maybe(raw, `"signature"`) {
		return author, sequence, ok
	}
	s := peekers.Get().(*Scanner)
	defer peekers.Put(s)
	m, err := s.Scan(raw)
	if err != nil {
		return author, sequence, ok
	}
	return m.Author, m.Sequence, m.Sequence > 0 && !m.Author.IsZero()
}

// peekers are for messages that cannot be read from the beginning alone. A Scanner keeps some multiples of MaxRaw.
var peekers = sync.Pool{New: func() any { return new(Scanner) }}

// maybe reports whether JSON may hold one of some strings, as it stands or in escapes.
func maybe(json []byte, texts ...string) bool {
	for _, text := range texts {
		if bytes.Contains(json, []byte(text)) {
			return true
		}
	}
	return bytes.Contains(json, []byte(`\u`))
}

type peeker struct{ rest []byte }

// head reads the beginning of a message up to the comma behind author and sequence.
func (p *peeker) head() (author identity.ID, sequence int64, ok bool) {
	if !p.token("{") || !p.token(`"previous"`) || !p.token(":") {
		return author, 0, false
	}
	if !p.token("null") {
		if _, ok := p.text(); !ok {
			return author, 0, false
		}
	}
	if !p.token(",") {
		return author, 0, false
	}
	for i := range 2 {
		switch {
		case p.token(`"author"`) && p.token(":"):
			text, good := p.text()
			if !good {
				return author, 0, false
			}
			var err error
			if author, err = identity.ParseID(text); err != nil {
				return author, 0, false
			}
		case p.token(`"sequence"`) && p.token(":"):
			p.space()
			n := 0
			for n < len(p.rest) && n < 10 && p.rest[n] >= '0' && p.rest[n] <= '9' {
				sequence = sequence*10 + int64(p.rest[n]-'0')
				n++
			}
			if n == 0 {
				return author, 0, false
			}
			p.rest = p.rest[n:]
		default:
			return author, 0, false
		}
		if i == 0 && !p.token(",") {
			return author, 0, false
		}
	}
	return author, sequence, p.token(",") && !author.IsZero() && sequence > 0
}

func (p *peeker) space() {
	for len(p.rest) > 0 && (p.rest[0] == ' ' || p.rest[0] == '\n' || p.rest[0] == '\r' || p.rest[0] == '\t') {
		p.rest = p.rest[1:]
	}
}

func (p *peeker) token(t string) bool {
	p.space()
	if len(p.rest) < len(t) || string(p.rest[:len(t)]) != t {
		return false
	}
	p.rest = p.rest[len(t):]
	return true
}

// text reads a string without escapes.
func (p *peeker) text() ([]byte, bool) {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != '"' {
		return nil, false
	}
	n := bytes.IndexByte(p.rest[1:], '"')
	if n < 0 || bytes.IndexByte(p.rest[1:1+n], '\\') >= 0 {
		return nil, false
	}
	text := p.rest[1 : 1+n]
	p.rest = p.rest[n+2:]
	return text, true
}

// TypeOf returns content.type of a content in the spelling of Message.Content, "" when it has none.
func TypeOf(content []byte) string {
	typ := typeOf(content)
	if bytes.IndexByte(typ, '\\') >= 0 {
		var s Scanner
		typ, _ = s.unescape(typ)
	}
	return string(typ)
}
