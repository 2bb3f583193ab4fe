package room

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"charkha/identity"
	"charkha/muxrpc"
	"charkha/replicate/shs"
)

// inRoom makes us the client of a room, who is a peer that accepts tunnels to itself: all that is between two peers but the
// room's forwarding. What others have on accepted goes to a channel.
func inRoom(t testing.TB) (r *Room, accepted <-chan net.Conn, theirs *muxrpc.Conn) {
	t.Helper()
	tunnels := make(chan net.Conn, MaxTunnels)
	s := &Server{
		Self:   peer,
		Room:   func(who any) (identity.ID, bool) { return portal, who == "room" },
		Accept: func(_ context.Context, c net.Conn, _ identity.ID) { tunnels <- c },
	}
	caller, callee := connect(t, muxrpc.Options{Anonymous: true, Peer: "room"}, s.Methods()...)
	return New(caller, portal, self), tunnels, callee
}

func pipe(t testing.TB) (ours, theirs net.Conn) {
	t.Helper()
	r, accepted, _ := inRoom(t)
	ours, err := r.Dial(t.Context(), peer)
	if err != nil {
		t.Fatal(err)
	}
	theirs = <-accepted
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// A tunnel is a net.Conn in all that the tests of golang.org/x/net ask of one.
func TestTunnelIsAConn(t *testing.T) {
	for _, side := range []string{"dialled", "accepted"} {
		t.Run(side, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				a, b := pipe(t)
				if side == "accepted" {
					a, b = b, a
				}
				return a, b, func() { a.Close(); b.Close() }, nil
			})
		})
	}
}

func TestTunnelAddresses(t *testing.T) {
	t.Parallel()
	ours, theirs := pipe(t)
	for _, c := range []struct {
		addr net.Addr
		peer identity.ID
	}{{ours.LocalAddr(), self}, {ours.RemoteAddr(), peer}, {theirs.LocalAddr(), peer}, {theirs.RemoteAddr(), identity.ID{}}} {
		if c.peer.IsZero() { // the room of this test sends what it was sent, without an origin
			c.peer = identity.ID{}
		}
		if want := "tunnel:" + portal.String() + ":" + c.peer.String(); c.addr.String() != want || c.addr.Network() != "tunnel" {
			t.Errorf("%s %s, want %s", c.addr.Network(), c.addr, want)
		}
	}
	a, err := identity.ParseAddress(ours.RemoteAddr().String() + "~shs:" + peer.String()[1:45])
	if err != nil || a != identity.Tunnel(portal, peer) {
		t.Errorf("%v, %v", a, err)
	}
}

// What it is for: the handshake end to end, and everything above it as ever.
func TestHandshakeInATunnel(t *testing.T) {
	t.Parallel()
	ours, theirs := pipe(t)
	network := [32]byte{9}
	type end struct {
		c   *shs.Conn
		err error
	}
	server := make(chan end, 1)
	go func() {
		c, err := shs.Server(context.Background(), theirs, shs.Config{Key: key(2), NetworkKey: network})
		server <- end{c, err}
	}()
	c, err := shs.Client(t.Context(), ours, shs.Config{Key: key(1), NetworkKey: network}, peer)
	if err != nil {
		t.Fatal(err)
	}
	s := <-server
	if s.err != nil || s.c.Remote() != self || c.Remote() != peer {
		t.Fatalf("server sees %v", s.err)
	}
	data := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	go func() {
		c.Write(data)
		c.Close()
	}()
	got, err := io.ReadAll(s.c)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes, %v", len(got), len(data), err)
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		words  string
		absent bool
	}{
		{"could not connect to: " + peer.String(), true}, // npm ssb-room
		{"no such endpoint", true},                       // go-ssb-room
		{"external user are not allowed to connect", false},
	} {
		r := roomOf(t, muxrpc.Method{Name: "tunnel.connect", Kind: muxrpc.Duplex, Stream: func(context.Context, *muxrpc.Request, *muxrpc.Stream) error {
			return errors.New(c.words)
		}})
		conn, err := r.Dial(t.Context(), peer)
		if err != nil {
			t.Fatal(err)
		}
		_, err = shs.Client(t.Context(), conn, shs.Config{Key: key(1), NetworkKey: [32]byte{9}}, peer)
		if err == nil || errors.Is(err, ErrAbsent) != c.absent || !c.absent && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", c.words, err)
		}
	}
	r := roomOf(t) // no such method
	conn, err := r.Dial(t.Context(), peer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "refuses the tunnel") {
		t.Errorf("not a room: %v", err)
	}
	conn.Close()
	for _, id := range []identity.ID{self, portal} {
		if c, err := r.Dial(t.Context(), id); err == nil {
			t.Errorf("a tunnel to %s: %v", id.Short(), c)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Dial(ctx, peer); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// The tunnel outlives the context that it was dialled with, and not the connection with the room.
func TestTunnelEndsWithTheRoom(t *testing.T) {
	t.Parallel()
	r, accepted, theirs := inRoom(t)
	ctx, cancel := context.WithCancel(t.Context())
	ours, err := r.Dial(ctx, peer)
	if err != nil {
		t.Fatal(err)
	}
	other := <-accepted
	cancel()
	go ours.Write([]byte("hi"))
	b := make([]byte, 2)
	if _, err := io.ReadFull(other, b); err != nil || string(b) != "hi" {
		t.Fatalf("%q, %v", b, err)
	}
	theirs.Close()
	for name, c := range map[string]net.Conn{"ours": ours, "theirs": other} {
		if n, err := c.Read(b); err == nil {
			t.Errorf("%s: read %d bytes after the room had gone", name, n)
		}
		if _, err := c.Write(b); err == nil {
			t.Errorf("%s: written after the room had gone", name)
		}
	}
}

// What was written before Close arrives, and the end is a clean one.
func TestCloseSendsWhatWasWritten(t *testing.T) {
	t.Parallel()
	ours, theirs := pipe(t)
	data := bytes.Repeat([]byte("x"), writeMost)
	if _, err := ours.Write(data); err != nil {
		t.Fatal(err)
	}
	ours.Close()
	got, err := io.ReadAll(theirs)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := theirs.Write(data); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("written to one who has gone: %v", err)
	}
	if err := ours.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if err := ours.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("deadline after close: %v", err)
	}
}

// A room that reads nothing cannot keep a closed tunnel.
func TestCloseDoesNotWaitForTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe() // nobody reads b
		defer b.Close()
		conn := muxrpc.New(a, muxrpc.Options{})
		done := make(chan struct{})
		go func() { defer close(done); _ = conn.Run(t.Context()) }()
		c, err := New(conn, portal, self).Dial(t.Context(), peer)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Write(make([]byte, 1<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n > 4*writeMost {
			t.Errorf("wrote %d, %v", n, err)
		}
		began := time.Now()
		c.Close()
		<-c.(*tunnel).done
		if took := time.Since(began); took > linger {
			t.Errorf("it lasted %v", took)
		}
		conn.Close()
		<-done
	})
}

// When nobody reads, the sender waits, and nothing is lost when somebody does.
func TestSenderWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const total = 16 << 20
		ours, theirs := pipe(t)
		var written atomic.Int64
		go func() {
			chunk := bytes.Repeat([]byte("0123456789abcdef"), 1024)
			for written.Load() < total {
				n, err := ours.Write(chunk)
				written.Add(int64(n))
				if err != nil {
					t.Error(err)
					return
				}
			}
		}()
		synctest.Wait() // nobody does anything any more
		if n := written.Load(); n < readAhead || n > 3<<20 {
			t.Errorf("%d bytes were taken though nobody reads", n)
		}
		n, err := io.Copy(io.Discard, io.LimitReader(theirs, total))
		if err != nil || n != total {
			t.Errorf("read %d, %v", n, err)
		}
	})
}

// Bodies of one byte cost more than a byte.
func TestSmallBodiesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, accepted, _ := inRoom(t)
		stream, err := r.conn.Duplex(t.Context(), "tunnel.connect", map[string]any{"portal": portal, "target": peer})
		if err != nil {
			t.Fatal(err)
		}
		tun := (<-accepted).(*tunnel)
		go func() {
			for stream.Send(muxrpc.Body{Data: []byte{1}}) == nil {
			}
		}()
		synctest.Wait()
		tun.mu.Lock()
		n := len(tun.in)
		tun.mu.Unlock()
		if n == 0 || n > readAhead/chunkCost+1 {
			t.Errorf("%d bodies wait", n)
		}
		tun.Close()
	})
}

func TestWhoMayOpenTunnels(t *testing.T) {
	t.Parallel()
	s := &Server{
		Self: peer,
		Room: func(who any) (identity.ID, bool) { return portal, who == "room" },
		Accept: func(_ context.Context, c net.Conn, origin identity.ID) {
			fmt.Fprint(c, origin)
			c.Close()
		},
	}
	for _, c := range []struct {
		name, who string
		args      any
		want, err string
	}{
		{"as npm ssb-room calls", "room", map[string]any{"target": peer, "portal": portal, "origin": self}, self.String(), ""},
		{"the portal is not looked at", "room", map[string]any{"target": peer, "portal": "x", "origin": self}, self.String(), ""},
		{"no origin", "room", map[string]any{"target": peer}, identity.ID{}.String(), ""},
		{"no room", "peer", map[string]any{"target": peer, "portal": portal, "origin": self}, "", "only accepted from rooms"},
		{"somebody else", "room", map[string]any{"target": self, "portal": portal, "origin": peer}, "", "could not connect to that target"},
		{"ourselves", "room", map[string]any{"target": peer, "portal": portal, "origin": peer}, "", "origin is the target"},
		{"nobody", "room", map[string]any{"target": peer, "origin": "@x"}, "", "origin is no feed id"},
		{"no arguments", "room", nil, "", "could not connect to that target"},
		{"other types", "room", []int{1}, "", "argument"},
	} {
		caller, _ := connect(t, muxrpc.Options{Anonymous: true, Peer: c.who}, s.Methods()...)
		stream, err := caller.Duplex(t.Context(), "tunnel.connect", c.args)
		if err != nil {
			t.Fatal(err)
		}
		body, err := stream.Recv()
		if c.err == "" && (err != nil || string(body.Data) != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %q, %v; want %q, %q", c.name, body.Data, err, c.want, c.err)
		}
	}
	caller, _ := connect(t, muxrpc.Options{Anonymous: true}, s.Methods()...)
	if got, err := caller.Async(t.Context(), "tunnel.ping"); err != nil || len(got) < 13 {
		t.Errorf("ping: %s, %v", got, err)
	}
}

// One room has no more tunnels open than it may, and gets new ones when old ones end.
func TestTunnelsAreCounted(t *testing.T) {
	t.Parallel()
	r, accepted, _ := inRoom(t)
	var open []net.Conn
	for range MaxTunnels {
		c, err := r.Dial(t.Context(), peer)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, <-accepted)
	}
	b := make([]byte, 1)
	c, err := r.Dial(t.Context(), peer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(b); err == nil || !strings.Contains(err.Error(), errTunnels.Error()) {
		t.Errorf("one too many: %v", err)
	}
	c.Close()
	open[0].Close()
	<-open[0].(*tunnel).done
	for { // the count goes down just after
		c, err := r.Dial(t.Context(), peer)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(b)
		refused := make(chan error, 1)
		go func() { _, err := c.Read(make([]byte, 1)); refused <- err }()
		select {
		case other := <-accepted:
			other.Close()
			c.Close()
			return
		case <-refused:
			c.Close()
		}
	}
}

// Whatever a room sends in a tunnel that is not bytes ends it.
func TestTextInATunnel(t *testing.T) {
	t.Parallel()
	r := roomOf(t, muxrpc.Method{Name: "tunnel.connect", Kind: muxrpc.Duplex, Stream: func(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
		_ = s.SendJSON([]byte(`{"a":1}`))
		<-ctx.Done()
		return nil
	}})
	c, err := r.Dial(t.Context(), peer)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "which is for bytes") {
		t.Errorf("%v", err)
	}
}
