package identity

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Ref is a reference of any kind: an ID, MsgID, BlobID or Multi.
type Ref interface {
	String() string // the sigil or multiserver form
	URI() string    // the ssb: form

	ref()
}

func (ID) ref()     {}
func (MsgID) ref()  {}
func (BlobID) ref() {}
func (Multi) ref()  {}

// URI is the form "ssb:feed/classic/<base64url>".
func (id ID) URI() string { return uri("feed", (*[32]byte)(&id)) }

// URI is the form "ssb:message/classic/<base64url>".
func (id MsgID) URI() string { return uri("message", (*[32]byte)(&id)) }

// URI is the form "ssb:blob/classic/<base64url>".
func (id BlobID) URI() string { return uri("blob", (*[32]byte)(&id)) }

// URI is the form "ssb:address/multiserver?multiserverAddress=<percent-encoded>".
func (m Multi) URI() string { return addressURI + componentEscape(m.String()) }

const addressURI = "ssb:address/multiserver?multiserverAddress="

var (
	toURL   = strings.NewReplacer("+", "-", "/", "_")
	fromURL = strings.NewReplacer("-", "+", "_", "/")
)

func uri(kind string, key *[32]byte) string {
	return "ssb:" + kind + "/classic/" + toURL.Replace(strict.EncodeToString(key[:]))
}

// componentEscape escapes as encodeURIComponent of JS does.
func componentEscape(s string) string {
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-_.!~*'()", c) >= 0:
			b = append(b, c)
		default:
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

// ParseURI reads the common ssb: URIs: feeds, messages and blobs of the classic format, also with that format's older
// names ed25519 and sha256, and multiserver addresses. Between the parts may stand slashes or colons, and "//" after
// "ssb:" when they are slashes. A query or fragment after an id is left out. The result is an ID, MsgID, BlobID or Multi.
func ParseURI(s string) (Ref, error) {
	if len(s) > 3*maxAddress {
		return nil, fmt.Errorf("uri %s: over %d bytes: %w", clip(s), 3*maxAddress, ErrRef)
	}
	bad := func() error { return fmt.Errorf("uri %s: %w", clip(s), ErrRef) }
	rest, ok := strings.CutPrefix(s, "ssb:")
	if !ok {
		return nil, bad()
	}
	rest, _, _ = strings.Cut(rest, "#")
	path, query, _ := strings.Cut(rest, "?")
	for _, prefix := range []string{"address/multiserver", "address:multiserver", "//address/multiserver"} {
		if !strings.HasPrefix(path, prefix) {
			continue // ssb-uri2 looks no further in the path
		}
		for pair := range strings.SplitSeq(query, "&") {
			if name, value, _ := strings.Cut(pair, "="); unescape(name) == "multiserverAddress" {
				m, err := ParseMulti(unescape(value))
				if err != nil {
					return nil, fmt.Errorf("uri %s: %w", clip(s), err)
				}
				return m, nil
			}
		}
		return nil, bad()
	}
	sep := "/"
	if p, ok := strings.CutPrefix(path, "//"); ok {
		path = p
	} else if i := strings.IndexAny(path, ":/"); i >= 0 {
		sep = path[i : i+1]
	}
	kind, path, _ := strings.Cut(path, sep)
	format, data, more := strings.Cut(path, sep)
	if !more || strings.ContainsAny(data, "+/") {
		return nil, bad()
	}
	data = fromURL.Replace(data)
	switch {
	case kind == "feed" && (format == "classic" || format == "ed25519"):
		if id, err := ParseID("@" + data + ".ed25519"); err == nil {
			return id, nil
		}
	case kind == "message" && (format == "classic" || format == "sha256"):
		if id, err := ParseMsgID("%" + data + ".sha256"); err == nil {
			return id, nil
		}
	case kind == "blob" && (format == "classic" || format == "sha256"):
		if id, err := ParseBlobID("&" + data + ".sha256"); err == nil {
			return id, nil
		}
	}
	return nil, bad()
}

// ParseLink reads the sigil form of a feed, message or blob id that may be followed by '?' and a query, as links in
// messages are: "&<base64>.sha256?unbox=<base64>.boxs". Values are unescaped; a '+' in one means a space, but in unbox it
// stays what it is, because the writers of such links do not escape it.
func ParseLink(s string) (Ref, url.Values, error) {
	sigil, text, _ := strings.Cut(s, "?")
	var ref Ref
	var err error
	switch {
	case strings.HasPrefix(sigil, "@"):
		ref, err = ParseID(sigil)
	case strings.HasPrefix(sigil, "%"):
		ref, err = ParseMsgID(sigil)
	default:
		ref, err = ParseBlobID(sigil)
	}
	if err != nil {
		return nil, nil, err
	}
	if text == "" {
		return ref, nil, nil
	}
	query := parseQuery(text)
	for i, key := range query["unbox"] {
		query["unbox"][i] = strings.ReplaceAll(key, " ", "+")
	}
	return ref, query, nil
}

// ParseExperimental reads the query of an ssb:experimental URI, as URLs of JS do: what is no escape stands for itself. Behind
// "ssb://experimental" may stand a path, which some programs that hand such links on put there (npm ssb-uri2 2.4 and
// ssb-room-client 2 do not look at it).
func ParseExperimental(s string) (query url.Values, ok bool) {
	if len(s) > 3*maxAddress {
		return nil, false
	}
	s, _, _ = strings.Cut(s, "#")
	path, text, ok := strings.Cut(s, "?")
	if !ok || path != "ssb:experimental" && path != "ssb://experimental" && !strings.HasPrefix(path, "ssb://experimental/") {
		return nil, false
	}
	return parseQuery(text), true
}

// parseQuery reads the pairs of a query.
func parseQuery(text string) url.Values {
	query := url.Values{}
	for pair := range strings.SplitSeq(text, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		query.Add(unescape(name), unescape(value))
	}
	return query
}

// unescape reads a part of a query as JS does: what is no escape stands for itself.
func unescape(s string) string {
	if !strings.ContainsAny(s, "+%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b = append(b, ' ')
		case s[i] == '%' && i+2 < len(s) && nibble(s[i+1]) >= 0 && nibble(s[i+2]) >= 0:
			b = append(b, byte(nibble(s[i+1])<<4|nibble(s[i+2])))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return lossy(b)
}

// lossy reads UTF-8 as JS does: each byte that begins no character becomes U+FFFD, and so does all of a character that breaks off.
func lossy(b []byte) string {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError {
			for n < len(b) && n < utf8.UTFMax && !utf8.FullRune(b[:n+1]) {
				n++
			}
		}
		out, b = utf8.AppendRune(out, r), b[n:]
	}
	return string(out)
}

// nibble is the value of a hex digit, or -1.
func nibble(c byte) int { return strings.IndexByte("0123456789abcdef", c|0x20) }
