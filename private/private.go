// Package private closes and opens private messages of the kind "box1": a message whose content is a text instead of an
// object, and which up to seven people can read. It computes and does nothing else.
//
//	plaintext + recipients -> Box   -> "<base64>.box", the content of a message
//	"<base64>.box" + our key -> Unbox -> plaintext, or: not for us
//
// # The format
//
// Under the base64 stand a nonce of 24 bytes, the public half of an X25519 key made for this message, then for each
// recipient a slot of 49 bytes, then the body. A slot is the number of slots and the message's key of 32 bytes, sealed for
// one recipient; the body is the plaintext sealed with the message's key. Sealed means secretbox of NaCl, always with the
// one nonce; a slot's key is the X25519 product of the recipient's key and the message's. Feed keys are converted from
// Ed25519. (npm private-box 0.3 design.md, ssb-keys 8.5 box and unbox.)
//
// # What holds
//
// Nobody can tell for whom a message is but by trying. A node tries each private message of its log once, so a message for
// others costs little: one multiplication, and at most eight slots, whatever its length. That is 35 microseconds on an EPYC
// core of 2026, most of them the multiplication. Nothing is allocated and the body is not even decoded. Only the author of a
// message can make its opening slow or strange, and only within these bounds. All functions are safe for concurrent use.
//
// A message can also be opened by its own key (Key), which a reader may hand on; get has it as unbox. The package does not know
// what is inside; JS peers take content that is not JSON as not for them. It does not sign, and knows nothing of "box2".
package private

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/oasisprotocol/curve25519-voi/primitives/x25519"
	"golang.org/x/crypto/nacl/secretbox"

	"charkha/identity"
)

// MaxRecipients is how many people a message may have. The format could hold 255, but JS peers make seven slots at most and
// look into the first eight.
const MaxRecipients = 7

const (
	tries     = MaxRecipients + 1 // the slots that npm private-box 0.3.1 looks into: its loop ends one too late
	nonceSize = 24
	headSize  = nonceSize + x25519.PublicKeySize
	keySize   = 1 + 32 // number of slots, secretbox key
	slotSize  = keySize + secretbox.Overhead

	leadSize = (headSize + tries*slotSize + 2) / 3 * 3 // the part of a message that says whether it is for us, in whole quanta
)

// suffix ends the text of a message. Old peers wrote more behind it, and JS peers look no further than the dot.
const suffix = ".box"

// Errors of Box and Recipients.
var (
	// ErrRecipients says that a message cannot be closed for those it is meant for. It must not be published in the open instead.
	ErrRecipients = errors.New("not a usable list of recipients")
	// ErrKey says that a text is not the key of a message.
	ErrKey = errors.New("not the key of a private message")
)

// Box closes plaintext, which is the JSON of a content object, for one to seven recipients; the author is one of them only
// when listed. A recipient who is listed twice takes two places. It fails with ErrRecipients when there are none or too many,
// or when an id is a key that nobody can have.
func Box(plaintext []byte, recipients []identity.ID) (string, error) {
	return box(rand.Reader, plaintext, recipients)
}

// box reads nonce, message key and the scalar of the one-time key from random, in this order, 88 bytes in all.
func box(random io.Reader, plaintext []byte, recipients []identity.ID) (string, error) {
	if n := len(recipients); n == 0 || n > MaxRecipients {
		return "", fmt.Errorf("box for %d recipients, which must be 1 to %d: %w", n, MaxRecipients, ErrRecipients)
	}
	var (
		nonce   [nonceSize]byte
		key     [32]byte
		onetime x25519.PrivateKey
		slot    [keySize]byte
	)
	for _, b := range [][]byte{nonce[:], key[:], onetime[:]} {
		if _, err := io.ReadFull(random, b); err != nil {
			return "", fmt.Errorf("box: %w", err)
		}
	}
	slot[0] = byte(len(recipients))
	copy(slot[1:], key[:])
	out := make([]byte, 0, headSize+len(recipients)*slotSize+secretbox.Overhead+len(plaintext))
	out = append(out, nonce[:]...)
	out = append(out, onetime.Public()[:]...)
	for _, id := range recipients {
		public, err := id.X25519()
		if err != nil {
			return "", fmt.Errorf("box for %s: %w: %w", id, err, ErrRecipients)
		}
		shared := onetime.DiffieHellman((*x25519.PublicKey)(&public))
		out = secretbox.Seal(out, slot[:], &nonce, (*[32]byte)(shared))
	}
	out = secretbox.Seal(out, plaintext, &nonce, &key)
	return base64.StdEncoding.EncodeToString(out) + suffix, nil
}

// Unbox opens a message's text with the key of one of its recipients. When ok is false the message is not for them, or is no
// box1 message at all; nobody can tell which. It accepts what unbox of npm ssb-keys 8.5 accepts, as far as the text could be
// the content of a message: canonical base64, then ".box" and anything but a "2". It does not keep text.
func Unbox[T string | []byte](text T, key identity.KeyPair) (plaintext []byte, ok bool) {
	k, ok := UnboxKey(text, key)
	if !ok {
		return nil, false
	}
	return unboxBody(text, &k)
}

// UnboxKey finds a message's own key with the key of one of its recipients. It looks only at the beginning of the message:
// the key may yet not open its body.
func UnboxKey[T string | []byte](text T, key identity.KeyPair) (k Key, ok bool) {
	digits, size, ok := measure(text)
	if !ok || size < headSize+slotSize+secretbox.Overhead || key.IsZero() {
		return k, false
	}
	var chars [leadSize / 3 * 4]byte
	var lead [leadSize]byte
	n := copy(chars[:], text[:min(digits, len(chars))])
	n, err := strict.Decode(lead[:], chars[:n])
	if err != nil || n != min(size, leadSize) { // fewer: encoding/base64 skips line ends
		return k, false
	}
	// crypto/ecdh would allocate and multiply twice, once for the public half of our key; the assembly of cloudflare/circl was
	// no quicker than this.
	secret := x25519.PrivateKey(key.X25519())
	shared := secret.DiffieHellman((*x25519.PublicKey)(lead[nonceSize:headSize]))
	if shared.IsZero() {
		return k, false // a one-time key of small order: libsodium refuses, and anybody could open it
	}
	// What does not open may be the body, or that of a message with more slots than these.
	for at := headSize; at <= headSize+(tries-1)*slotSize && at+slotSize <= size-secretbox.Overhead; at += slotSize {
		if _, ok := secretbox.Open(k[:0], lead[at:at+slotSize], (*[nonceSize]byte)(lead[:]), (*[32]byte)(shared)); ok {
			return k, true
		}
	}
	return Key{}, false
}

// measure says how many base64 characters text begins with and how many bytes they stand for. They are not checked.
func measure[T string | []byte](text T) (digits, size int, ok bool) {
	for digits < len(text) && text[digits] != '.' {
		digits++
	}
	rest := text[digits:]
	if digits == 0 || digits%4 != 0 || len(rest) < len(suffix) || string(rest[:len(suffix)]) != suffix ||
		len(rest) > len(suffix) && rest[len(suffix)] == '2' {
		return 0, 0, false
	}
	size = digits / 4 * 3
	for i := digits - 1; i >= digits-2 && text[i] == '='; i-- {
		size--
	}
	return digits, size, true
}

var strict = base64.StdEncoding.Strict()

// Key opens one message, whoever holds it: the number of its slots and the key of its body. It does not print.
type Key [keySize]byte

// ParseKey reads the base64 of a key, as Text and the value.unbox of JS peers give it. A dot and what follows it is left
// out: links to blobs and messages write ".boxs" there.
func ParseKey(s string) (Key, error) {
	for i := range len(s) {
		if s[i] == '.' {
			s = s[:i]
			break
		}
	}
	if b, err := strict.DecodeString(s); err == nil && len(b) == keySize {
		return Key(b), nil
	}
	return Key{}, ErrKey
}

// Unbox opens the message that k belongs to. When ok is false it is another one's.
func (k Key) Unbox(text string) (plaintext []byte, ok bool) { return unboxBody(text, &k) }

func unboxBody[T string | []byte](text T, k *Key) (plaintext []byte, ok bool) {
	digits, size, ok := measure(text)
	start := headSize + int(k[0])*slotSize
	if !ok || size < start+secretbox.Overhead {
		return nil, false
	}
	raw := make([]byte, size)
	chars := make([]byte, digits) // what Decode wants; then the place of the plaintext
	copy(chars, text[:digits])
	if n, err := strict.Decode(raw, chars); err != nil || n != size {
		return nil, false
	}
	return secretbox.Open(chars[:0], raw[start:], (*[nonceSize]byte)(raw), (*[32]byte)(k[1:]))
}

// Text is the base64 of the key, what JS peers show as value.unbox.
func (k Key) Text() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Format keeps every fmt verb from printing the key.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "private.Key") }
