//go:build interop && unix

package room

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"charkha/identity"
	"charkha/interop"
	"charkha/muxrpc"
	"charkha/replicate/shs"
)

// These tests are here and not in package interop because that one may not import this package. They need what it needs.

// accepted is a tunnel that somebody opened to us, after the handshake inside.
type accepted struct {
	conn   *shs.Conn
	origin identity.ID
	err    error
}

// client is somebody in a real room.
type client struct {
	*Room
	key      identity.KeyPair
	network  [32]byte
	conn     *muxrpc.Conn
	accepted chan accepted

	mu    sync.Mutex
	here  map[identity.ID]bool
	moved chan struct{} // closed and made anew at each change
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// enter makes a client of a room until the test ends.
func enter(t *testing.T, network [32]byte, key identity.KeyPair, at *interop.Peer) *client {
	t.Helper()
	socket, err := (&net.Dialer{}).DialContext(within(t), "tcp", at.Address.HostPort())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := shs.Client(within(t), socket, shs.Config{Key: key, NetworkKey: network}, at.ID)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{key: key, network: network, accepted: make(chan accepted, 10), here: map[identity.ID]bool{}, moved: make(chan struct{})}
	s := &Server{
		Self: key.ID(),
		Room: func(who any) (identity.ID, bool) { return who.(identity.ID), who == at.ID },
		Accept: func(ctx context.Context, tunnel net.Conn, origin identity.ID) {
			conn, err := shs.Server(ctx, tunnel, shs.Config{Key: key, NetworkKey: network})
			c.accepted <- accepted{conn, origin, err}
		},
	}
	reg, err := muxrpc.NewRegistry(s.Methods())
	if err != nil {
		t.Fatal(err)
	}
	c.conn = muxrpc.New(conn, muxrpc.Options{Registry: reg, Anonymous: true, Peer: at.ID})
	done := make(chan struct{})
	go func() { defer close(done); _ = c.conn.Run(context.Background()) }()
	t.Cleanup(func() { c.conn.Close(); <-done })
	c.Room = New(c.conn, at.ID, key.ID())
	return c
}

// follow enters the room and keeps who is there up to date.
func (c *client) follow(t *testing.T, info Info) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Follow(ctx, info, func(change Change) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, id := range change.Joined {
				c.here[id] = true
			}
			for _, id := range change.Left {
				delete(c.here, id)
			}
			close(c.moved)
			c.moved = make(chan struct{})
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// wait waits until somebody is in the room, or no longer is.
func (c *client) wait(t *testing.T, id identity.ID, here bool) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		c.mu.Lock()
		is, moved := c.here[id], c.moved
		c.mu.Unlock()
		if is == here {
			return
		}
		select {
		case <-moved:
		case <-timeout:
			t.Fatalf("%s is in the room: %v, want %v", id.Short(), is, here)
		}
	}
}

// reach opens a tunnel and shakes hands in it.
func (c *client) reach(t *testing.T, id identity.ID) (*shs.Conn, error) {
	t.Helper()
	tunnel, err := c.Dial(within(t), id)
	if err != nil {
		t.Fatal(err)
	}
	return shs.Client(within(t), tunnel, shs.Config{Key: c.key, NetworkKey: c.network}, id)
}

func networkKey(t *testing.T) (key [32]byte) {
	t.Helper()
	if _, err := rand.Read(key[:]); err != nil {
		t.Fatal(err)
	}
	return key
}

// exchange sends data both ways at once, then ends the connection.
func exchange(t *testing.T, a, b *shs.Conn) {
	t.Helper()
	const size = 2 << 20
	deadline := time.Now().Add(30 * time.Second)
	var all sync.WaitGroup
	for _, end := range []struct{ from, to *shs.Conn }{{a, b}, {b, a}} {
		if err := end.from.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		data := make([]byte, size)
		rand.Read(data)
		all.Go(func() {
			if _, err := end.from.Write(data); err != nil {
				t.Errorf("write: %v", err)
			}
		})
		all.Go(func() {
			got := make([]byte, size)
			if _, err := io.ReadFull(end.to, got); err != nil || !bytes.Equal(got, data) {
				t.Errorf("read: %v", err)
			}
		})
	}
	all.Wait()
	a.Close()
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d bytes, %v", n, err)
	}
	b.Close()
}

// Two of us in npm ssb-room.
func TestInteropTwoInARoom(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	at := interop.Start(t, interop.Config{Script: interop.Room, NetworkKey: network})
	a, b := enter(t, network, key(1), at), enter(t, network, key(2), at)
	if info, err := a.Detect(within(t)); err != nil || info.Version != 1 || info.Name != "" {
		t.Fatalf("%+v, %v", info, err)
	}
	at.Ask(nil, "name", "Attic", "dusty")
	info, err := b.Detect(within(t))
	if err != nil || info.Version != 1 || info.Name != "Attic" || info.Description != "dusty" {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, err := New(a.conn, at.ID, a.key.ID()).RegisterAlias(within(t), a.key, "alice"); err == nil {
		t.Error("an old room has aliases")
	}

	// Nobody is there before they enter.
	if c, err := a.reach(t, b.key.ID()); !errors.Is(err, ErrAbsent) {
		t.Fatalf("%v, %v: want ErrAbsent", c, err)
	}
	a.follow(t, info)
	b.follow(t, Info{Version: 2}) // told wrongly, it finds the older list
	a.wait(t, b.key.ID(), true)
	b.wait(t, a.key.ID(), true)

	for _, pair := range [][2]*client{{a, b}, {b, a}} {
		ours, err := pair[0].reach(t, pair[1].key.ID())
		if err != nil {
			t.Fatal(err)
		}
		theirs := <-pair[1].accepted
		if theirs.err != nil || theirs.conn.Remote() != pair[0].key.ID() || theirs.origin != pair[0].key.ID() {
			t.Fatalf("accepted %+v", theirs)
		}
		exchange(t, ours, theirs.conn)
	}
	// The wrong network inside: both sides learn of it, and the room's connection stays.
	tunnel, err := a.Dial(within(t), b.key.ID())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shs.Client(within(t), tunnel, shs.Config{Key: a.key, NetworkKey: [32]byte{1}}, b.key.ID()); err == nil {
		t.Error("a handshake in another network")
	}
	if c := <-b.accepted; c.err == nil {
		t.Error("a handshake in another network was accepted")
	}

	// One leaves, one hangs up.
	if err := b.Leave(within(t)); err != nil {
		t.Fatal(err)
	}
	a.wait(t, b.key.ID(), false)
	at.Ask(nil, "waitHere", b.key.ID(), false)
	a.conn.Close()
	at.Ask(nil, "waitHere", a.key.ID(), false)
	var here []identity.ID
	if at.Ask(&here, "here"); len(here) != 0 {
		t.Errorf("still in the room: %v", here)
	}
}

// One of us and a JS peer with ssb-room-client, in npm ssb-room.
func TestInteropWithAJSPeerInARoom(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	at := interop.Start(t, interop.Config{Script: interop.Room, NetworkKey: network})
	js := interop.Start(t, interop.Config{Script: interop.DB2, NetworkKey: network, Rooms: true})
	js.Connect(at.Address)
	at.Ask(nil, "waitHere", js.ID)
	us := enter(t, network, key(1), at)
	info, err := us.Detect(within(t))
	if err != nil {
		t.Fatal(err)
	}
	us.follow(t, info)
	us.wait(t, js.ID, true)
	js.Ask(nil, "waitMet", at.ID, us.key.ID())

	// We dial; JS serves.
	ours, err := us.reach(t, js.ID)
	if err != nil {
		t.Fatal(err)
	}
	c := muxrpc.New(ours, muxrpc.Options{})
	done := make(chan error, 1)
	go func() { done <- c.Run(context.Background()) }()
	if answer, err := c.Async(within(t), "tunnel.ping"); err != nil || len(answer) < 13 {
		t.Errorf("tunnel.ping of %s: %s, %v", js.ID.Short(), answer, err)
	}
	if _, err := New(c, js.ID, us.key.ID()).Detect(within(t)); !errors.Is(err, ErrNotRoom) {
		t.Errorf("a JS peer is a room? %v", err)
	}
	var peers []identity.ID
	if js.Ask(&peers, "peers"); !slices.Contains(peers, us.key.ID()) {
		t.Errorf("JS is connected with %v, not with us", peers)
	}
	c.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	js.WaitPeer(us.key.ID(), false)

	// JS dials; we serve.
	called := make(chan accepted, 1)
	go func() {
		got := <-us.accepted
		if got.err == nil {
			reg, _ := muxrpc.NewRegistry()
			c := muxrpc.New(got.conn, muxrpc.Options{Registry: reg, Anonymous: true})
			_ = c.Run(context.Background())
		}
		called <- got
	}()
	js.Connect(identity.Tunnel(at.ID, us.key.ID()))
	js.WaitPeer(us.key.ID(), true)
	js.Disconnect(us.key.ID())
	select {
	case got := <-called:
		if got.err != nil || got.conn.Remote() != js.ID || got.origin != js.ID {
			t.Errorf("%+v", got)
		}
	case <-within(t).Done():
		t.Error("JS did not come, or did not go")
	}
	js.Close()
	us.wait(t, js.ID, false)
}
