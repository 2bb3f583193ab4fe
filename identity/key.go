package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"log/slog"
)

// KeyPair is an identity that can sign. The zero value is no identity; one is made by Generate, FromSeed, ParseSecret or
// LoadSecret. It prints as its public id: the secret half does not leave the package but through CreateSecret.
type KeyPair struct {
	private [ed25519.PrivateKeySize]byte // seed, then public key
}

// Generate makes a new identity from the operating system's randomness.
func Generate() (KeyPair, error) {
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return KeyPair{}, fmt.Errorf("generate a key: %w", err)
	}
	return FromSeed(seed), nil
}

// FromSeed makes the identity that the 32-byte seed stands for. The same seed gives the same identity everywhere.
func FromSeed(seed [32]byte) KeyPair {
	return KeyPair{private: [64]byte(ed25519.NewKeyFromSeed(seed[:]))}
}

// ID is the public half, the name of the feed that this key signs.
func (k KeyPair) ID() ID { return ID(k.private[32:]) }

// IsZero reports whether k is the zero value, which is no identity.
func (k KeyPair) IsZero() bool { return k == KeyPair{} }

// Sign returns the detached Ed25519 signature of msg. It is deterministic.
func (k KeyPair) Sign(msg []byte) [64]byte {
	return [64]byte(ed25519.Sign(k.private[:], msg))
}

// X25519 is the secret scalar of the same key for Diffie-Hellman, clamped; ID.X25519 gives its public half.
func (k KeyPair) X25519() [32]byte {
	h := sha512.Sum512(k.private[:32])
	h[0] &= 248
	h[31] &= 127
	h[31] |= 64
	return [32]byte(h[:32])
}

// String is the public id, so that printing a key pair by accident gives nothing away.
func (k KeyPair) String() string { return "KeyPair(" + k.ID().String() + ")" }

// LogValue keeps slog from printing the secret.
func (k KeyPair) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Format keeps every fmt verb, %x and %#v among them, from printing the secret.
func (k KeyPair) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }
