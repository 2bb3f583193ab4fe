package shs

import (
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"

	"charkha/identity"
)

// Lengths of the messages 1 and 2, 3, and 4.
const (
	challengeSize = 64
	authSize      = 112
	acceptSize    = 80
)

// handshake is what one side knows. Its methods are the steps, without I/O; each refuses by an error, after which no other
// step may be taken.
//
//	client: challenge, readChallenge, makeAuth,  readAccept, outcome
//	server: challenge, readChallenge, readAuth,  makeAccept, outcome
//
// (The server's readChallenge comes before its challenge.)
type handshake struct {
	network   [32]byte
	key       identity.KeyPair
	remote    identity.ID // known to a client from the start, to a server after readAuth
	ephemeral *ecdh.PrivateKey

	theirs [32]byte // the remote's ephemeral key, known from readChallenge on, as is ab
	ab     [32]byte // a·b
	aB     [32]byte // a·B, known when message 3 is
	box4   [32]byte // the key of message 4; the root of what comes after
	hello  [96]byte // message 3, opened
}

// challenge is message 1 of a client and message 2 of a server.
func (h *handshake) challenge() (msg [challengeSize]byte) {
	public := h.ephemeral.PublicKey().Bytes()
	mac := h.mac(public)
	copy(msg[:], mac[:])
	copy(msg[32:], public)
	return msg
}

// mac is libsodium's crypto_auth with the network key.
func (h *handshake) mac(msg []byte) [32]byte {
	m := hmac.New(sha512.New, h.network[:])
	m.Write(msg)
	return [32]byte(m.Sum(nil)[:32])
}

// readChallenge takes the other side's challenge.
func (h *handshake) readChallenge(msg *[challengeSize]byte) error {
	mac := h.mac(msg[32:])
	if !hmac.Equal(mac[:], msg[:32]) {
		return refuse("the remote has another network key, or speaks another protocol", ErrNetwork)
	}
	h.theirs = [32]byte(msg[32:])
	var err error
	if h.ab, err = product(h.ephemeral, &h.theirs); err != nil {
		return refuse("the remote's key for this connection is worthless", ErrProof)
	}
	return nil
}

// product multiplies as libsodium's crypto_scalarmult does: a product of zero, from a point of small order, is an error.
func product(secret *ecdh.PrivateKey, public *[32]byte) ([32]byte, error) {
	point, err := ecdh.X25519().NewPublicKey(public[:])
	if err != nil {
		return [32]byte{}, err
	}
	shared, err := secret.ECDH(point)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(shared), nil
}

// longTerm multiplies our long-term key.
func (h *handshake) longTerm(public *[32]byte) ([32]byte, error) {
	scalar := h.key.X25519()
	secret, err := ecdh.X25519().NewPrivateKey(scalar[:])
	if err != nil {
		return [32]byte{}, err
	}
	return product(secret, public)
}

// withRemote multiplies the remote's long-term key with our ephemeral one.
func (h *handshake) withRemote() ([32]byte, error) {
	public, err := h.remote.X25519()
	if err != nil {
		return [32]byte{}, err
	}
	return product(h.ephemeral, &public)
}

// meet is a client's product with the key of the server it wants, which needs no message. It fails when that is no key.
func (h *handshake) meet() error {
	var err error
	if h.aB, err = h.withRemote(); err != nil {
		return refuse(fmt.Sprintf("%s is no key that anybody can have", h.remote), ErrKey)
	}
	return nil
}

// helloText is what the client signs, acceptText what the server signs.
func (h *handshake) helloText(server identity.ID) []byte {
	shared := sha256.Sum256(h.ab[:])
	return join(h.network[:], server[:], shared[:])
}

func (h *handshake) acceptText() []byte {
	shared := sha256.Sum256(h.ab[:])
	return join(h.network[:], h.hello[:], shared[:])
}

// box3 is the key of message 3.
func (h *handshake) box3() [32]byte { return sha256.Sum256(join(h.network[:], h.ab[:], h.aB[:])) }

// agree mixes in the last product, A·b, which makes the key of message 4.
func (h *handshake) agree(Ab *[32]byte) {
	h.box4 = sha256.Sum256(join(h.network[:], h.ab[:], h.aB[:], Ab[:]))
}

// noNonce is right because each of these keys seals one box.
var noNonce [24]byte

// makeAuth is message 3: a client says who it is.
func (h *handshake) makeAuth() (msg [authSize]byte, err error) {
	sig := h.key.Sign(h.helloText(h.remote))
	id := h.key.ID()
	copy(h.hello[:], sig[:])
	copy(h.hello[64:], id[:])
	key := h.box3()
	secretbox.Seal(msg[:0], h.hello[:], &noNonce, &key)
	Ab, err := h.longTerm(&h.theirs)
	if err != nil {
		return msg, refuse("the remote's key for this connection is worthless", ErrProof)
	}
	h.agree(&Ab)
	return msg, nil
}

// readAuth takes message 3: a server learns who the client is.
func (h *handshake) readAuth(msg *[authSize]byte) error {
	var err error
	if h.aB, err = h.longTerm(&h.theirs); err != nil {
		return refuse("the remote's key for this connection is worthless", ErrProof)
	}
	key := h.box3()
	if _, ok := secretbox.Open(h.hello[:0], msg[:], &noNonce, &key); !ok {
		return refuse("the client looked for another key than ours", ErrKey)
	}
	remote := identity.ID(h.hello[64:])
	if !identity.Verify(remote, h.helloText(h.key.ID()), (*[64]byte)(h.hello[:64])) {
		return refuse("the client could not prove that it is "+remote.String(), ErrProof)
	}
	h.remote = remote
	Ab, err := h.withRemote()
	if err != nil {
		return refuse(remote.String()+" is no key that anybody can have", ErrProof)
	}
	h.agree(&Ab)
	return nil
}

// makeAccept is message 4: a server proves who it is.
func (h *handshake) makeAccept() (msg [acceptSize]byte) {
	sig := h.key.Sign(h.acceptText())
	secretbox.Seal(msg[:0], sig[:], &noNonce, &h.box4)
	return msg
}

// readAccept takes message 4.
func (h *handshake) readAccept(msg *[acceptSize]byte) error {
	var sig [64]byte
	_, ok := secretbox.Open(sig[:0], msg[:], &noNonce, &h.box4)
	if !ok || !identity.Verify(h.remote, h.acceptText(), &sig) {
		return refuse("the server could not prove that it is "+h.remote.String(), ErrKey)
	}
	return nil
}

// outcome is the two directions of the box stream: what we seal with, what we open with.
func (h *handshake) outcome() (seal, open direction) {
	root := sha256.Sum256(h.box4[:])
	ours := h.key.ID()
	mine, theirs := h.mac(h.ephemeral.PublicKey().Bytes()), h.mac(h.theirs[:])
	seal.key = sha256.Sum256(join(root[:], h.remote[:]))
	open.key = sha256.Sum256(join(root[:], ours[:]))
	copy(seal.nonce[:], theirs[:])
	copy(open.nonce[:], mine[:])
	return seal, open
}

func join(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
