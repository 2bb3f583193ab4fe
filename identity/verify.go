package identity

import (
	"encoding/binary"
	"errors"
	"sync/atomic"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// ErrPoint says that a public key cannot take part in a Diffie-Hellman exchange.
var ErrPoint = errors.New("not a usable curve point")

// Verify reports whether sig is id's signature of msg, saying yes exactly where libsodium 1.0.18 does: what one node
// takes and another refuses splits a feed in two. The group equation is the cofactorless one of RFC 8032 with the
// encoding of R compared byte by byte, as everywhere in the SSB world; on top of it libsodium refuses, by their bytes,
// R and public keys of small order in any spelling, and public keys that are not written canonically
// (libsodium:src/libsodium/crypto_sign/ed25519/ref10/open.c). A signature's S must be below the group order.
//
// It is safe for concurrent use and does not keep its arguments.
func Verify(id ID, msg []byte, sig *[64]byte) bool {
	if smallOrder((*[32]byte)(sig[:32])) || !canonicalY((*[32]byte)(&id)) || smallOrder((*[32]byte)(&id)) {
		return false
	}
	key, ok := expanded(id)
	return ok && ed25519.VerifyExpandedWithOptions(key, msg, sig[:], cofactorless)
}

var cofactorless = &ed25519.Options{Verify: ed25519.VerifyOptionsStdLib}

// keys remembers the decoded form of the keys last used: the messages of one feed come in runs, and decoding the key is
// a sixth of a verification. A slot is chosen by one byte of the key, so whoever grinds keys only loses that sixth.
var keys [256]atomic.Pointer[ed25519.ExpandedPublicKey]

func expanded(id ID) (*ed25519.ExpandedPublicKey, bool) {
	slot := &keys[id[0]]
	if key := slot.Load(); key != nil && ID(key.CompressedY()) == id {
		return key, true
	}
	key, err := ed25519.NewExpandedPublicKey(id[:])
	if err != nil {
		return nil, false // not on the curve
	}
	slot.Store(key)
	return key, true
}

// X25519 converts the public key for Diffie-Hellman, refusing what libsodium 1.0.18's
// crypto_sign_ed25519_pk_to_curve25519 refuses: what is not on the curve, has small order, or has a small-order part.
// That test passes a key whose small-order part is the point of order 2 (corrected in 1.0.20); so does this one, because
// the part vanishes under a clamped scalar and the peers in use take such a key.
func (id ID) X25519() ([32]byte, error) {
	if smallOrder((*[32]byte)(&id)) {
		return [32]byte{}, ErrPoint
	}
	y := curve.CompressedEdwardsY(id)
	var p, double curve.EdwardsPoint
	if _, err := p.SetCompressedY(&y); err != nil {
		return [32]byte{}, ErrPoint
	}
	if !double.Add(&p, &p).IsTorsionFree() {
		return [32]byte{}, ErrPoint
	}
	var u curve.MontgomeryPoint
	return [32]byte(*u.SetEdwards(&p)), nil
}

// words is a 32-byte little-endian number; the top bit of the last word is the sign bit of x in a point's encoding.
type words [4]uint64

func wordsOf(b *[32]byte) words {
	return words{
		binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:]),
		binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:]) &^ (1 << 63),
	}
}

const (
	pLow = 0xffffffffffffffed // p = 2^255 - 19
	full = 0xffffffffffffffff
	pTop = 0x7fffffffffffffff
)

// small lists the y coordinates of the eight points of small order, with the two that fit unreduced.
var small = [...]words{
	{0, 0, 0, 0}, // order 4
	{1, 0, 0, 0}, // order 1
	{0xb027b2c28f95e826, 0xf098eff289f4c345, 0x3933c6d305acdfd5, 0x05fc536d880238b1}, // order 8
	{0x4fd84d3d706a17c7, 0x0f67100d760b3cba, 0xc6cc392cfa53202a, 0x7a03ac9277fdc74e}, // order 8, the other
	{pLow - 1, full, full, pTop}, // p-1: order 2
	{pLow, full, full, pTop},     // p, that is 0
	{pLow + 1, full, full, pTop}, // p+1, that is 1
}

// smallOrder reports whether b, its sign bit left out, spells a point of small order. Encodings are public: the time it
// takes may depend on them.
func smallOrder(b *[32]byte) bool {
	w := wordsOf(b)
	for i := range small {
		if w == small[i] {
			return true
		}
	}
	return false
}

// canonicalY reports whether the y of a point's encoding is below p.
func canonicalY(b *[32]byte) bool {
	w := wordsOf(b)
	return w[3] != pTop || w[2] != full || w[1] != full || w[0] < pLow
}
