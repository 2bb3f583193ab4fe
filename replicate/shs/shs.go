package shs

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"charkha/identity"
)

// DefaultTimeout is the Timeout of a Config that names none.
const DefaultTimeout = 10 * time.Second

// MainNetwork is the network key of the public Scuttlebutt network, 1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s= in base64.
var MainNetwork = [32]byte{
	0xd4, 0xa1, 0xcb, 0x88, 0xa6, 0x6f, 0x02, 0xf8, 0xdb, 0x63, 0x5c, 0xe2, 0x64, 0x41, 0xcc, 0x5d,
	0xac, 0x1b, 0x08, 0x42, 0x0c, 0xea, 0xac, 0x23, 0x08, 0x39, 0xb7, 0x55, 0x84, 0x5a, 0x9f, 0xfb,
}

// Config is our side of a handshake.
type Config struct {
	Key        identity.KeyPair
	NetworkKey [32]byte      // must be set; only who has the same can connect
	Timeout    time.Duration // of the whole handshake; DefaultTimeout when not positive

	// Admit, when set, is asked by Server when it knows the client and has not yet shown itself. An error turns the client
	// away; it is wrapped in Server's. Called on Server's goroutine.
	Admit func(client identity.ID) error

	// KeyLog, when set, is written a line per connection, for reading recorded traffic and for conformance tests: the
	// remote's key, then key and nonce of our sealing and of our opening direction, in hex. Whoever reads it reads the
	// connections.
	KeyLog io.Writer
}

// Client does the handshake with the server at the other end of socket, which has to have the key server. It owns socket
// from now on: when it fails, or ctx ends before it is done, the socket is closed. The error says why in a sentence, and
// wraps the Err variables that can be the reason, or ctx's cause.
func Client(ctx context.Context, socket net.Conn, cfg Config, server identity.ID) (*Conn, error) {
	return begin(ctx, socket, cfg, server, (*handshake).client)
}

// Server does the handshake with a client, who is then known by the Conn's Remote. Otherwise it is like Client.
func Server(ctx context.Context, socket net.Conn, cfg Config) (*Conn, error) {
	return begin(ctx, socket, cfg, identity.ID{}, func(h *handshake, rw io.ReadWriter) error {
		return h.server(rw, cfg.Admit)
	})
}

// begin runs the steps of one side under the time limit.
func begin(ctx context.Context, socket net.Conn, cfg Config, remote identity.ID, steps func(*handshake, io.ReadWriter) error) (*Conn, error) {
	h, err := newHandshake(cfg, remote)
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	slow := refuse(fmt.Sprintf("the remote did not finish within %v", cfg.Timeout), ErrTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, slow)
	defer cancel()
	// The end of ctx closes the socket, which ends every read and write; so nothing depends on the socket's deadlines,
	// which stay the caller's.
	closeSocket := sync.OnceValue(socket.Close)
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		closeSocket()
	})
	err = steps(h, socket)
	if !stop() {
		<-closed
		err = interrupted(context.Cause(ctx))
	}
	if err != nil {
		closeSocket() // err says more than its error could
		return nil, err
	}
	seal, open := h.outcome()
	if cfg.KeyLog != nil {
		line := fmt.Sprintf("%x %x %x %x %x\n", h.remote[:], seal.key, seal.nonce, open.key, open.nonce)
		if _, err := io.WriteString(cfg.KeyLog, line); err != nil {
			return nil, errors.Join(fmt.Errorf("secret handshake: key log: %w", err), closeSocket())
		}
	}
	return newConn(socket, h.remote, seal, open), nil
}

// interrupted says why the handshake was not waited for.
func interrupted(cause error) error {
	switch {
	case errors.Is(cause, ErrTimeout):
		return cause
	case errors.Is(cause, context.DeadlineExceeded):
		return refuse("the remote did not finish in the time that was left", ErrTimeout, cause)
	default:
		return fmt.Errorf("secret handshake: %w", cause)
	}
}

func newHandshake(cfg Config, remote identity.ID) (*handshake, error) {
	if cfg.Key.IsZero() {
		return nil, errors.New("secret handshake: no key of our own")
	}
	if cfg.NetworkKey == [32]byte{} {
		return nil, errors.New("secret handshake: no network key")
	}
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("secret handshake: %w", err)
	}
	return &handshake{network: cfg.NetworkKey, key: cfg.Key, remote: remote, ephemeral: ephemeral}, nil
}

// client is the client's side of the conversation.
func (h *handshake) client(rw io.ReadWriter) error {
	if err := h.meet(); err != nil {
		return err
	}
	hello := h.challenge()
	if _, err := rw.Write(hello[:]); err != nil {
		return hungUp(err, "the remote hung up at once", ErrRefused)
	}
	if _, err := io.ReadFull(rw, hello[:]); err != nil {
		return hungUp(err, "the remote hung up on our first message: most likely it has another network key, or takes no connections now",
			ErrNetwork, ErrRefused)
	}
	if err := h.readChallenge(&hello); err != nil {
		return err
	}
	auth, err := h.makeAuth()
	if err != nil {
		return err
	}
	var accept [acceptSize]byte
	if _, err = rw.Write(auth[:]); err == nil {
		_, err = io.ReadFull(rw, accept[:])
	}
	if err != nil {
		return hungUp(err, "the remote hung up when we said who we are: it does not want us, or its key is not "+h.remote.String(),
			ErrRefused, ErrKey)
	}
	return h.readAccept(&accept)
}

// server is the server's.
func (h *handshake) server(rw io.ReadWriter, admit func(identity.ID) error) error {
	var hello [challengeSize]byte
	if _, err := io.ReadFull(rw, hello[:]); err != nil {
		return hungUp(err, "the client hung up before its first message", ErrRefused)
	}
	if err := h.readChallenge(&hello); err != nil {
		return err
	}
	hello = h.challenge()
	var auth [authSize]byte
	_, err := rw.Write(hello[:])
	if err == nil {
		_, err = io.ReadFull(rw, auth[:])
	}
	if err != nil {
		return hungUp(err, "the client hung up on our first message", ErrRefused)
	}
	if err := h.readAuth(&auth); err != nil {
		return err
	}
	if admit != nil {
		if err := admit(h.remote); err != nil {
			return fmt.Errorf("secret handshake: turned away %s: %w", h.remote, err)
		}
	}
	accept := h.makeAccept()
	if _, err := rw.Write(accept[:]); err != nil {
		return hungUp(err, "the client hung up when it was let in", ErrRefused)
	}
	return nil
}

// hungUp makes an error of one of the socket's: a deadline that the caller had set, else an end.
func hungUp(err error, says string, may ...error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return refuse("the socket's deadline has passed", ErrTimeout, err)
	}
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		says += " (" + err.Error() + ")"
	}
	return refuse(says, append(may, err)...)
}
