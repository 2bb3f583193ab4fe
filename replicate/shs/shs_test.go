package shs

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/nacl/secretbox"

	"charkha/identity"
)

// person is a config with a key of its own, the same for the same seed.
func person(seed byte) Config {
	return Config{Key: identity.FromSeed([32]byte{seed, 1}), NetworkKey: [32]byte{0: 0xc4, 31: 0x9e}}
}

type result struct {
	conn *Conn
	err  error
}

// shake lets a client and a server meet over a pipe.
func shake(t testing.TB, client, server Config, want identity.ID) (c, s result, sockets [2]*watched) {
	t.Helper()
	a, b := net.Pipe()
	sockets = [2]*watched{{Conn: a}, {Conn: b}}
	done := make(chan result)
	go func() {
		conn, err := Server(t.Context(), sockets[1], server)
		done <- result{conn, err}
	}()
	c.conn, c.err = Client(t.Context(), sockets[0], client, want)
	return c, <-done, sockets
}

// watched counts what passes a socket.
type watched struct {
	net.Conn
	wrote, closes int
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.wrote += n
	return n, err
}

func (w *watched) Close() error {
	w.closes++
	return w.Conn.Close()
}

// wantReasons fails unless err wraps exactly these of the Err variables, and says so.
func wantReasons(t *testing.T, who string, err error, reasons ...error) {
	t.Helper()
	for _, e := range []error{ErrNetwork, ErrRefused, ErrKey, ErrProof, ErrTimeout} {
		want := false
		for _, r := range reasons {
			want = want || r == e
		}
		if errors.Is(err, e) != want {
			t.Errorf("%s: error %q, is it %q: %v, want %v", who, err, e, !want, want)
		}
	}
}

func wantClosed(t *testing.T, sockets ...*watched) {
	t.Helper()
	for i, s := range sockets {
		if s.closes == 0 {
			t.Errorf("socket %d was left open", i)
		}
	}
}

func TestBothLearnWhoIsThere(t *testing.T) {
	t.Parallel()
	var clientLog, serverLog bytes.Buffer
	client, server := person(1), person(2)
	client.KeyLog, server.KeyLog = &clientLog, &serverLog
	var asked identity.ID
	server.Admit = func(id identity.ID) error { asked = id; return nil }
	c, s, sockets := shake(t, client, server, server.Key.ID())
	if c.err != nil || s.err != nil {
		t.Fatal(c.err, s.err)
	}
	if got := c.conn.Remote(); got != server.Key.ID() {
		t.Errorf("the client met %s", got)
	}
	if got := s.conn.Remote(); got != client.Key.ID() || asked != got {
		t.Errorf("the server met %s and was asked for %s", got, asked)
	}
	if sockets[0].wrote != challengeSize+authSize || sockets[1].wrote != challengeSize+acceptSize {
		t.Errorf("the handshake took %d and %d bytes", sockets[0].wrote, sockets[1].wrote)
	}
	mine, theirs := strings.Fields(clientLog.String()), strings.Fields(serverLog.String())
	if len(mine) != 5 || len(theirs) != 5 || mine[1] != theirs[3] || mine[2] != theirs[4] || mine[3] != theirs[1] || mine[4] != theirs[2] {
		t.Errorf("key logs do not mirror each other:\n%s%s", &clientLog, &serverLog)
	}

	for _, way := range []struct {
		name     string
		from, to *Conn
	}{{"to the server", c.conn, s.conn}, {"to the client", s.conn, c.conn}} {
		sent := make([]byte, 200_001)
		for i := range sent {
			sent[i] = byte(i * 31 >> 3)
		}
		go way.from.Write(sent)
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(way.to, got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%s: %v, equal %v", way.name, err, bytes.Equal(got, sent))
		}
	}
	go c.conn.Close()
	if n, err := s.conn.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Errorf("after a goodbye: %d, %v", n, err)
	}
	s.conn.Close()
	wantClosed(t, sockets[:]...)
}

func TestAnotherNetwork(t *testing.T) {
	t.Parallel()
	client, server := person(1), person(2)
	server.NetworkKey[7]++
	c, s, sockets := shake(t, client, server, server.Key.ID())
	wantReasons(t, "client", c.err, ErrNetwork, ErrRefused)
	wantReasons(t, "server", s.err, ErrNetwork)
	wantClosed(t, sockets[:]...)
	if sockets[1].wrote != 0 {
		t.Errorf("the server wrote %d bytes to a client of another network", sockets[1].wrote)
	}

	// A server that does show its challenge, of another network.
	a, b := net.Pipe()
	go func() {
		io.ReadFull(b, make([]byte, challengeSize))
		b.Write(make([]byte, challengeSize))
	}()
	socket := &watched{Conn: a}
	_, err := Client(t.Context(), socket, client, server.Key.ID())
	wantReasons(t, "client", err, ErrNetwork)
	wantClosed(t, socket)
	if socket.wrote != challengeSize {
		t.Errorf("the client went on to write %d bytes", socket.wrote-challengeSize)
	}
}

func TestAnotherKeyThanExpected(t *testing.T) {
	t.Parallel()
	client, server, other := person(1), person(2), person(3)
	c, s, sockets := shake(t, client, server, other.Key.ID())
	wantReasons(t, "client", c.err, ErrKey, ErrRefused)
	wantReasons(t, "server", s.err, ErrKey)
	if !strings.Contains(c.err.Error(), other.Key.ID().String()) {
		t.Errorf("%q does not name the key that was looked for", c.err)
	}
	wantClosed(t, sockets[:]...)
	if sockets[1].wrote != challengeSize {
		t.Errorf("the server went on to write %d bytes", sockets[1].wrote-challengeSize)
	}
}

func TestTurnedAway(t *testing.T) {
	t.Parallel()
	client, server := person(1), person(2)
	blocked := errors.New("blocked here")
	server.Admit = func(identity.ID) error { return blocked }
	c, s, sockets := shake(t, client, server, server.Key.ID())
	wantReasons(t, "client", c.err, ErrRefused, ErrKey)
	wantReasons(t, "server", s.err)
	if !errors.Is(s.err, blocked) || !strings.Contains(s.err.Error(), client.Key.ID().String()) {
		t.Errorf("server: %v", s.err)
	}
	wantClosed(t, sockets[:]...)
	if sockets[1].wrote != challengeSize {
		t.Errorf("the server proved itself to a client that it turned away")
	}
}

func TestImpostor(t *testing.T) {
	t.Parallel()
	client, server := person(1), person(2)
	a, b := net.Pipe()
	go func() {
		// Answers as somebody else would who cannot open message 3, and goes on regardless.
		h, _ := newHandshake(server, identity.ID{})
		var hello [challengeSize]byte
		io.ReadFull(b, hello[:])
		h.readChallenge(&hello)
		hello = h.challenge()
		b.Write(hello[:])
		io.ReadFull(b, make([]byte, authSize))
		b.Write(make([]byte, acceptSize))
	}()
	socket := &watched{Conn: a}
	_, err := Client(t.Context(), socket, client, server.Key.ID())
	wantReasons(t, "client", err, ErrKey)
	wantClosed(t, socket)
}

// worthless are points of small order, in some of their spellings: what anybody multiplies with them is zero.
func worthless() [][32]byte {
	return [][32]byte{
		{}, {1},
		{0: 0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
			0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
		{0: 0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
			0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57},
		topped(0xec), topped(0xed), topped(0xee),
	}
}

// topped is 2^255 - 256 + low: near the field's order.
func topped(low byte) (b [32]byte) {
	for i := range b {
		b[i] = 0xff
	}
	b[0], b[31] = low, 0x7f
	return b
}

func TestWorthlessEphemeralKeysAreRefused(t *testing.T) {
	t.Parallel()
	client, server := person(1), person(2)
	for _, point := range worthless() {
		for _, high := range []byte{0, 0x80} {
			point[31] |= high // ignored by X25519
			mac := (&handshake{network: client.NetworkKey}).mac(point[:])
			hello := append(mac[:], point[:]...)

			h, err := newHandshake(client, server.Key.ID())
			if err != nil {
				t.Fatal(err)
			}
			peer := &scripted{in: bytes.NewReader(hello)}
			wantReasons(t, fmt.Sprintf("client, %x", point), h.client(peer), ErrProof)
			if peer.out.Len() != challengeSize {
				t.Errorf("client, %x: went on to write", point)
			}

			if h, err = newHandshake(server, identity.ID{}); err != nil {
				t.Fatal(err)
			}
			peer = &scripted{in: bytes.NewReader(hello)}
			wantReasons(t, fmt.Sprintf("server, %x", point), h.server(peer, nil), ErrProof)
			if peer.out.Len() != 0 {
				t.Errorf("server, %x: went on to write", point)
			}
		}
	}
}

// badKeys are long-term keys that nobody can have.
func badKeys() map[string]identity.ID {
	return map[string]identity.ID{
		"not on the curve":          {2},
		"zero":                      {},
		"small order":               {1},
		"small order, not reduced":  identity.ID(topped(0xee)),
		"no curve point at the top": identity.ID(topped(0xff)),
	}
}

func TestServersThatCannotBeAreNotDialled(t *testing.T) {
	t.Parallel()
	for name, id := range badKeys() {
		socket := &memory{}
		_, err := Client(t.Context(), socket, person(1), id)
		wantReasons(t, name, err, ErrKey)
		if socket.written.Len() > 0 || socket.closed == 0 {
			t.Errorf("%s: wrote %d bytes, closed %d times", name, socket.written.Len(), socket.closed)
		}
	}
}

func TestClientsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	for name, id := range badKeys() {
		server, err := newHandshake(person(2), identity.ID{})
		if err != nil {
			t.Fatal(err)
		}
		client, err := newHandshake(person(1), person(2).Key.ID())
		if err != nil {
			t.Fatal(err)
		}
		a, b := client.challenge(), server.challenge()
		if err := errors.Join(server.readChallenge(&a), client.readChallenge(&b), client.meet()); err != nil {
			t.Fatal(err)
		}
		// A signature of zeros verifies under keys of small order wherever small orders are let through.
		var hello [96]byte
		hello[0] = 1
		copy(hello[64:], id[:])
		key := client.box3()
		var msg [authSize]byte
		secretbox.Seal(msg[:0], hello[:], &noNonce, &key)
		wantReasons(t, name, server.readAuth(&msg), ErrProof)
	}
}

func TestReflectionIsRefused(t *testing.T) {
	t.Parallel()
	// Somebody who only sends back what a client says does not pass for the client itself.
	a, b := net.Pipe()
	go io.Copy(b, b)
	_, err := Client(t.Context(), a, person(1), person(1).Key.ID())
	if err == nil {
		t.Fatal("an echo was taken for a peer")
	}
	b.Close()
}

// stage is a peer that falls silent after so many messages of an honest conversation.
func stage(t *testing.T, server bool, messages int) (socket net.Conn, stop func()) {
	t.Helper()
	a, b := net.Pipe()
	go func() {
		cfg, id := person(2), identity.ID{}
		if server {
			id = person(1).Key.ID()
		}
		h, err := newHandshake(cfg, id)
		if err != nil {
			t.Error(err)
			return
		}
		sent := &limited{Conn: b, left: messages}
		if server {
			h.client(sent)
		} else {
			h.server(sent, nil)
		}
	}()
	return a, func() { b.Close() }
}

// limited swallows writes after the first ones.
type limited struct {
	net.Conn
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left--; l.left < 0 {
		return len(p), nil
	}
	return l.Conn.Write(p)
}

func TestSlowPeersTimeOut(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"client", "server"} {
		for messages := range 2 {
			for _, timeout := range []time.Duration{0, 3 * time.Second} {
				t.Run(fmt.Sprintf("%s-%d-%v", role, messages, timeout), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						socket, stop := stage(t, role == "server", messages)
						defer stop()
						w := &watched{Conn: socket}
						cfg := person(1)
						cfg.Timeout = timeout
						begun := time.Now()
						var err error
						if role == "client" {
							_, err = Client(t.Context(), w, cfg, person(2).Key.ID())
						} else {
							_, err = Server(t.Context(), w, cfg)
						}
						wantReasons(t, role, err, ErrTimeout)
						if !errors.Is(err, os.ErrDeadlineExceeded) {
							t.Errorf("%v is no os.ErrDeadlineExceeded", err)
						}
						want := timeout
						if want == 0 {
							want = 10 * time.Second
						}
						if took := time.Since(begun); took != want {
							t.Errorf("gave up after %v, want %v", took, want)
						}
						wantClosed(t, w)
					})
				})
			}
		}
	}
}

func TestDrippingDoesNotStretchTheTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				if _, err := b.Write([]byte{1}); err != nil {
					return
				}
				time.Sleep(900 * time.Millisecond)
			}
		}()
		begun := time.Now()
		_, err := Server(t.Context(), a, person(1))
		wantReasons(t, "server", err, ErrTimeout)
		if took := time.Since(begun); took != DefaultTimeout {
			t.Errorf("gave up after %v", took)
		}
		<-done
	})
}

func TestTheContextEndsTheHandshake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		a, b := net.Pipe()
		w := &watched{Conn: a}
		done := make(chan error)
		go func() {
			_, err := Server(ctx, w, person(1))
			done <- err
		}()
		synctest.Wait()
		cancel(why)
		if err := <-done; !errors.Is(err, why) {
			t.Errorf("error %v, want %v", err, why)
		}
		wantClosed(t, w)
		b.Close()
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a, b := net.Pipe()
		_, err := Server(ctx, a, person(1))
		wantReasons(t, "server", err, ErrTimeout)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		b.Close()
	})
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		a.SetDeadline(time.Now().Add(time.Second))
		_, err := Client(t.Context(), a, person(1), person(2).Key.ID())
		wantReasons(t, "client", err, ErrTimeout)
		b.Close()
	})
}

// A context that ends after the handshake is of no concern to the connection.
func TestTheContextIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a, b := net.Pipe()
		met := make(chan result)
		go func() {
			conn, err := Server(ctx, b, person(2))
			met <- result{conn, err}
		}()
		client, err := Client(ctx, a, person(1), person(2).Key.ID())
		if err != nil {
			t.Fatal(err)
		}
		server := <-met
		if server.err != nil {
			t.Fatal(server.err)
		}
		cancel()
		time.Sleep(time.Minute)
		go client.Write([]byte("still there"))
		got := make([]byte, 11)
		if _, err := io.ReadFull(server.conn, got); err != nil || string(got) != "still there" {
			t.Errorf("%q, %v", got, err)
		}
		server.conn.Close()
		client.Close()
	})
}

func TestConfigMistakes(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"no key":         {NetworkKey: MainNetwork},
		"no network key": {Key: person(1).Key},
	} {
		socket := &memory{}
		if _, err := Client(t.Context(), socket, cfg, person(2).Key.ID()); err == nil {
			t.Errorf("%s: no error", name)
		}
		if socket.closed == 0 {
			t.Errorf("%s: the socket was left open", name)
		}
	}
	socket := &watched{Conn: &memory{}}
	if _, err := Server(t.Context(), socket, person(1)); err == nil {
		t.Error("a hang-up before the first message was taken for a handshake")
	} else {
		wantReasons(t, "server", err, ErrRefused)
	}
}

func FuzzServer(f *testing.F) {
	// Recorded between fixed keys, so that changed messages get past the first check.
	client, server := fixedPair(f)
	hello, theirs := client.challenge(), server.challenge()
	if err := errors.Join(client.meet(), client.readChallenge(&theirs)); err != nil {
		f.Fatal(err)
	}
	auth, err := client.makeAuth()
	if err != nil {
		f.Fatal(err)
	}
	good := append(hello[:], auth[:]...)
	f.Add(good)
	f.Add(good[:100])
	f.Add([]byte{})
	for _, point := range worthless() {
		mac := server.mac(point[:])
		f.Add(append(mac[:], point[:]...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, h := fixedPair(t)
		peer := &scripted{in: bytes.NewReader(data)}
		err := h.server(peer, nil)
		if same := bytes.HasPrefix(data, good); (err == nil) != same {
			t.Fatalf("error %v, is it the good conversation: %v", err, same)
		}
		if wrote := peer.out.Len(); err != nil && wrote != 0 && wrote != challengeSize {
			t.Fatalf("wrote %d bytes to whom it refused", wrote)
		}
	})
}

func FuzzClient(f *testing.F) {
	client, server := fixedPair(f)
	theirs, hello := client.challenge(), server.challenge()
	if err := errors.Join(client.meet(), client.readChallenge(&hello), server.readChallenge(&theirs)); err != nil {
		f.Fatal(err)
	}
	auth, err := client.makeAuth()
	if err != nil {
		f.Fatal(err)
	}
	if err := server.readAuth(&auth); err != nil {
		f.Fatal(err)
	}
	accept := server.makeAccept()
	good := append(hello[:], accept[:]...)
	f.Add(good)
	f.Add(good[:70])
	f.Add([]byte{})
	for _, point := range worthless() {
		mac := server.mac(point[:])
		f.Add(append(mac[:], point[:]...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, _ := fixedPair(t)
		peer := &scripted{in: bytes.NewReader(data)}
		err := h.client(peer)
		if same := bytes.HasPrefix(data, good); (err == nil) != same {
			t.Fatalf("error %v, is it the good conversation: %v", err, same)
		}
	})
}

// fixedPair is a client and a server that wants it, with the same ephemeral keys each time.
func fixedPair(t testing.TB) (client, server *handshake) {
	t.Helper()
	ephemeral := func(seed byte) *ecdh.PrivateKey {
		key, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{seed}, 32))
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	a, b := person(1), person(2)
	return &handshake{network: a.NetworkKey, key: a.Key, remote: b.Key.ID(), ephemeral: ephemeral(3)},
		&handshake{network: b.NetworkKey, key: b.Key, ephemeral: ephemeral(4)}
}

// One side of a handshake, all of its arithmetic: what a connection costs. Claim: below 0.3 ms.
func BenchmarkHandshake(b *testing.B) {
	client, server := person(1), person(2)
	for _, side := range []string{"client", "server"} {
		b.Run(side, func(b *testing.B) {
			b.ReportAllocs()
			c, s := fixedPair(b)
			c.ephemeral, _ = ecdh.X25519().GenerateKey(rand.Reader)
			s.ephemeral, _ = ecdh.X25519().GenerateKey(rand.Reader)
			hello, theirs := c.challenge(), s.challenge()
			if err := errors.Join(c.meet(), c.readChallenge(&theirs), s.readChallenge(&hello)); err != nil {
				b.Fatal(err)
			}
			auth, err := c.makeAuth()
			if err != nil {
				b.Fatal(err)
			}
			if err := s.readAuth(&auth); err != nil {
				b.Fatal(err)
			}
			accept := s.makeAccept()
			for b.Loop() {
				if side == "client" {
					h, err := newHandshake(client, server.Key.ID())
					if err != nil {
						b.Fatal(err)
					}
					h.challenge()
					h.ephemeral = c.ephemeral
					if err := errors.Join(h.meet(), h.readChallenge(&theirs)); err != nil {
						b.Fatal(err)
					}
					if _, err = h.makeAuth(); err != nil {
						b.Fatal(err)
					}
					if err := h.readAccept(&accept); err != nil {
						b.Fatal(err)
					}
					h.outcome()
					continue
				}
				h, err := newHandshake(server, identity.ID{})
				if err != nil {
					b.Fatal(err)
				}
				h.challenge()
				h.ephemeral = s.ephemeral
				if err := h.readChallenge(&hello); err != nil {
					b.Fatal(err)
				}
				if err := h.readAuth(&auth); err != nil {
					b.Fatal(err)
				}
				h.makeAccept()
				h.outcome()
			}
		})
	}
}
