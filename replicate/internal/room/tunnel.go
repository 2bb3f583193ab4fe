package room

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
)

const (
	maxBody   = 256 << 10 // of one body in a tunnel; JS peers send 4 KiB, we up to 64 KiB
	readAhead = 256 << 10 // bytes that wait for Read
	writeMost = 64 << 10  // bytes that wait for the room
	linger    = 5 * time.Second
)

// ErrAbsent says that the room does not know the peer whom a tunnel was to lead to: mostly, that they are not there now.
var ErrAbsent = errors.New("the peer is not in the room")

// Addr is where an end of a tunnel is: at a peer in a room.
type Addr struct{ Room, Peer identity.ID }

// Network is "tunnel".
func (Addr) Network() string { return "tunnel" }

// String is the form "tunnel:ROOM:PEER", a multiserver address without its transform.
func (a Addr) String() string { return "tunnel:" + a.Room.String() + ":" + a.Peer.String() }

// tunnel is a net.Conn over a duplex stream of a connection with a room. It has two goroutines, reader and writer, so that
// deadlines work, which a muxrpc stream has none of.
type tunnel struct {
	// Fixed when it was made.
	stream        *muxrpc.Stream
	local, remote Addr
	ended         func()        // called once, when reader and writer have ended
	done          chan struct{} // closed then

	mu       sync.Mutex
	changed  sync.Cond // of anything below
	running  int       // of reader and writer
	in       [][]byte  // received and not yet read; each is shared with nobody
	cost     int       // of what is in in
	readErr  error     // why nothing more is received: io.EOF after a clean end
	out      []byte
	spare    []byte // the writer's, between two sends
	writeErr error  // why nothing more is sent
	closed   bool
	rd, wd   deadline
}

// deadline is one direction's. Its fields are under the tunnel's mu.
type deadline struct {
	timer *time.Timer
	past  bool
	turn  int // of the timer: one that was replaced does nothing
}

// chunkCost is what a received body costs besides its bytes.
const chunkCost = 64

// newTunnel begins a tunnel. ended is called when nothing of it runs any more.
func newTunnel(stream *muxrpc.Stream, local, remote Addr, ended func()) *tunnel {
	t := &tunnel{stream: stream, local: local, remote: remote, ended: ended, done: make(chan struct{}), running: 2}
	t.changed.L = &t.mu
	go t.receive()
	go t.send()
	return t
}

// leave is the last that reader and writer do. mu is held, and released.
func (t *tunnel) leave() {
	t.running--
	last := t.running == 0
	t.mu.Unlock()
	if last {
		close(t.done)
		t.ended()
	}
}

// receive is the reader: it takes from the stream what Read will want.
func (t *tunnel) receive() {
	for {
		b, err := t.stream.Recv()
		if err == nil && b.Type != muxrpc.Binary {
			err = fmt.Errorf("%s sent %s in a tunnel, which is for bytes", t.remote.Room.Short(), b.Type)
		}
		t.mu.Lock()
		if err != nil {
			t.end(err)
			t.leave()
			return
		}
		for t.cost > readAhead && !t.closed {
			t.changed.Wait()
		}
		if !t.closed {
			t.in = append(t.in, b.Data)
			t.cost += len(b.Data) + chunkCost
			t.changed.Broadcast()
		}
		t.mu.Unlock()
	}
}

// send is the writer: it gives the stream what was written, and ends it when that is all and nothing more will be read.
func (t *tunnel) send() {
	t.mu.Lock()
	for {
		for len(t.out) == 0 && t.writeErr == nil && !t.closed {
			t.changed.Wait()
		}
		if len(t.out) == 0 || t.writeErr != nil {
			break
		}
		chunk := t.out
		t.out = t.spare[:0]
		t.changed.Broadcast()
		t.mu.Unlock()
		err := t.stream.Send(muxrpc.Body{Type: muxrpc.Binary, Data: chunk})
		t.mu.Lock()
		t.spare = chunk
		if err != nil && t.writeErr == nil {
			t.writeErr = t.explain(err)
			t.changed.Broadcast()
		}
	}
	for !t.closed && t.readErr == nil {
		t.changed.Wait() // Close would throw away what the reader has not taken yet
	}
	t.mu.Unlock()
	_ = t.stream.CloseSend(nil) // when it cannot be sent, nobody waits for it
	t.stream.Close()
	t.mu.Lock()
	t.leave()
}

// end notes that the stream has ended. mu is held.
func (t *tunnel) end(err error) {
	if t.readErr == nil {
		if t.readErr = t.explain(err); err == io.EOF {
			t.readErr = io.EOF
		}
	}
	if t.writeErr == nil {
		if t.writeErr = t.readErr; err == io.EOF {
			t.writeErr = fmt.Errorf("%s ended the tunnel: %w", t.remote.Peer.Short(), io.ErrClosedPipe)
		}
	}
	t.changed.Broadcast()
}

// explain says in plain words why the stream ended.
func (t *tunnel) explain(err error) error {
	var remote *muxrpc.RemoteError
	if errors.As(err, &remote) {
		if absent(remote.Message) {
			return fmt.Errorf("%s, room %s: %w", t.remote.Peer.Short(), t.remote.Room.Short(), ErrAbsent)
		}
		return fmt.Errorf("room %s refuses the tunnel to %s: %w", t.remote.Room.Short(), t.remote.Peer.Short(), err)
	}
	return fmt.Errorf("tunnel to %s through %s: %w", t.remote.Peer.Short(), t.remote.Room.Short(), err)
}

// absent knows the words of npm ssb-room and ssb-room-client ("could not connect to: ID"), and of go-ssb-room.
func absent(text string) bool {
	return strings.Contains(text, "could not connect to") || strings.Contains(text, "no such endpoint")
}

// fault is what package net answers in the same case.
func fault(op string, err error) error { return &net.OpError{Op: op, Net: "tunnel", Err: err} }

// Read reads what the other end wrote. io.EOF comes after it ended the tunnel cleanly, but a room can make it look so.
func (t *tunnel) Read(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		switch {
		case t.closed:
			return 0, fault("read", net.ErrClosed)
		case t.rd.past:
			return 0, fault("read", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case len(t.in) > 0:
			n, full := 0, t.cost > readAhead
			for n < len(p) && len(t.in) > 0 {
				k := copy(p[n:], t.in[0])
				n += k
				t.cost -= k
				if t.in[0] = t.in[0][k:]; len(t.in[0]) == 0 {
					t.in[0] = nil
					t.in = t.in[1:]
					t.cost -= chunkCost
				}
			}
			if full {
				t.changed.Broadcast() // the reader may wait
			}
			return n, nil
		case t.readErr == io.EOF:
			return 0, io.EOF
		case t.readErr != nil:
			return 0, t.readErr
		}
		t.changed.Wait()
	}
}

// Write hands p to the writer, and waits while 64 KiB wait for the room already. What was handed over may be lost when the
// tunnel ends.
func (t *tunnel) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for {
		switch {
		case t.closed:
			return n, fault("write", net.ErrClosed)
		case t.writeErr != nil:
			return n, t.writeErr
		case t.wd.past:
			return n, fault("write", os.ErrDeadlineExceeded)
		}
		if room := writeMost - len(t.out); room > 0 && n < len(p) {
			k := min(room, len(p)-n)
			t.out = append(t.out, p[n:n+k]...)
			n += k
			t.changed.Broadcast()
		}
		if n == len(p) {
			return n, nil
		}
		t.changed.Wait()
	}
}

// Close ends both directions. What was written is still sent if the room takes it within five seconds; Close does not wait
// for that.
func (t *tunnel) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return fault("close", net.ErrClosed)
	}
	t.closed = true
	t.in, t.cost = nil, 0
	for _, d := range []*deadline{&t.rd, &t.wd} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
	t.changed.Broadcast()
	t.mu.Unlock()
	time.AfterFunc(linger, func() { t.stream.Close() })
	return nil
}

func (t *tunnel) LocalAddr() net.Addr  { return t.local }
func (t *tunnel) RemoteAddr() net.Addr { return t.remote }

func (t *tunnel) SetDeadline(at time.Time) error      { return t.setDeadline(at, &t.rd, &t.wd) }
func (t *tunnel) SetReadDeadline(at time.Time) error  { return t.setDeadline(at, &t.rd) }
func (t *tunnel) SetWriteDeadline(at time.Time) error { return t.setDeadline(at, &t.wd) }

func (t *tunnel) setDeadline(at time.Time, all ...*deadline) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fault("set", net.ErrClosed)
	}
	for _, d := range all {
		if d.timer != nil {
			d.timer.Stop()
		}
		d.timer, d.past = nil, false
		d.turn++
		if at.IsZero() {
			continue
		}
		left := time.Until(at)
		if left <= 0 {
			d.past = true
			continue
		}
		turn := d.turn
		d.timer = time.AfterFunc(left, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if d.turn == turn {
				d.past = true
				t.changed.Broadcast()
			}
		})
	}
	t.changed.Broadcast()
	return nil
}

// Dial opens a tunnel to a peer in the room. ctx bounds the asking alone. A peer who is not there is only noticed by reading:
// the error then wraps ErrAbsent.
func (r *Room) Dial(ctx context.Context, target identity.ID) (net.Conn, error) {
	switch {
	case target == r.self:
		return nil, errors.New("that is our own key")
	case target == r.id:
		return nil, errors.New("that is the room itself")
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	// The stream lives as long as the connection with the room does, or until the tunnel is closed.
	opened, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	o := muxrpc.CallOptions{Kind: muxrpc.Duplex, Patient: true, MaxBody: maxBody}
	stream, err := r.conn.Open(opened, o, "tunnel.connect", map[string]any{"portal": r.id, "target": target})
	if err == nil && !stop() {
		err = context.Cause(ctx)
		stream.Close()
	}
	if err != nil {
		cancel(err)
		return nil, fmt.Errorf("tunnel to %s through %s: %w", target.Short(), r.id.Short(), err)
	}
	return newTunnel(stream, Addr{r.id, r.self}, Addr{r.id, target}, func() { cancel(nil) }), nil
}
