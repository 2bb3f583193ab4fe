package identity

import (
	"encoding/base64"
	"errors"
	"fmt"
)

// ID is a feed's name: the Ed25519 public key of the person who signs it. Its text form is the sigil
// "@<44 characters of base64>.ed25519".
type ID [32]byte

// MsgID names a classic message: the SHA-256 of its encoding. Its text form is "%<base64>.sha256".
type MsgID [32]byte

// BlobID names a blob: the SHA-256 of its bytes. Its text form is "&<base64>.sha256".
type BlobID [32]byte

// ErrRef says that a text is not the reference that was asked for.
var ErrRef = errors.New("not a valid reference")

// ParseID reads the sigil form of a feed id. Only the canonical base64 of 32 bytes is accepted: JS peers compare ids as
// strings, so a second spelling would be a second feed to them.
func ParseID[T string | []byte](s T) (ID, error) {
	key, ok := parseSigil(s, '@', ".ed25519")
	if !ok {
		return ID{}, fmt.Errorf("feed id %s: %w", clip(s), ErrRef)
	}
	return ID(key), nil
}

// ParseMsgID reads the sigil form of a message id.
func ParseMsgID[T string | []byte](s T) (MsgID, error) {
	key, ok := parseSigil(s, '%', ".sha256")
	if !ok {
		return MsgID{}, fmt.Errorf("message id %s: %w", clip(s), ErrRef)
	}
	return MsgID(key), nil
}

// ParseBlobID reads the sigil form of a blob id, without a query.
func ParseBlobID[T string | []byte](s T) (BlobID, error) {
	key, ok := parseSigil(s, '&', ".sha256")
	if !ok {
		return BlobID{}, fmt.Errorf("blob id %s: %w", clip(s), ErrRef)
	}
	return BlobID(key), nil
}

// clip quotes the start of a text for an error message; what a peer sends may be long.
func clip[T string | []byte](s T) string {
	if len(s) > 64 {
		return fmt.Sprintf("%q...", string(s[:64]))
	}
	return fmt.Sprintf("%q", string(s))
}

var strict = base64.StdEncoding.Strict()

// parseSigil reads sigil + canonical base64 of 32 bytes + suffix, without allocating.
func parseSigil[T string | []byte](s T, sigil byte, suffix string) (key [32]byte, ok bool) {
	if len(s) != 45+len(suffix) || s[0] != sigil || string(s[45:]) != suffix {
		return key, false
	}
	var text [44]byte
	copy(text[:], s[1:45])
	for _, c := range text {
		if c == '\n' || c == '\r' { // encoding/base64 skips these
			return key, false
		}
	}
	var buf [33]byte
	n, err := strict.Decode(buf[:], text[:])
	if err != nil || n != 32 {
		return key, false
	}
	return [32]byte(buf[:32]), true
}

func appendSigil(b []byte, sigil byte, key *[32]byte, suffix string) []byte {
	b = append(b, sigil)
	b = base64.StdEncoding.AppendEncode(b, key[:])
	return append(b, suffix...)
}

func (id ID) String() string     { return string(appendSigil(nil, '@', (*[32]byte)(&id), ".ed25519")) }
func (id MsgID) String() string  { return string(appendSigil(nil, '%', (*[32]byte)(&id), ".sha256")) }
func (id BlobID) String() string { return string(appendSigil(nil, '&', (*[32]byte)(&id), ".sha256")) }

// Short is the first characters of the sigil form, for logs.
func (id ID) Short() string    { return id.String()[:9] }
func (id MsgID) Short() string { return id.String()[:9] }

// AppendText implements encoding.TextAppender.
func (id ID) AppendText(b []byte) ([]byte, error) {
	return appendSigil(b, '@', (*[32]byte)(&id), ".ed25519"), nil
}

// AppendText implements encoding.TextAppender.
func (id MsgID) AppendText(b []byte) ([]byte, error) {
	return appendSigil(b, '%', (*[32]byte)(&id), ".sha256"), nil
}

// AppendText implements encoding.TextAppender.
func (id BlobID) AppendText(b []byte) ([]byte, error) {
	return appendSigil(b, '&', (*[32]byte)(&id), ".sha256"), nil
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// MarshalText implements encoding.TextMarshaler.
func (id MsgID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// MarshalText implements encoding.TextMarshaler.
func (id BlobID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) (err error) { *id, err = ParseID(b); return err }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *MsgID) UnmarshalText(b []byte) (err error) { *id, err = ParseMsgID(b); return err }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *BlobID) UnmarshalText(b []byte) (err error) { *id, err = ParseBlobID(b); return err }

// IsZero reports whether id is the zero value, which no feed has.
func (id ID) IsZero() bool { return id == ID{} }

// IsZero reports whether id is the zero value, which stands for "no message".
func (id MsgID) IsZero() bool { return id == MsgID{} }
