package shs

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"charkha/identity"
)

const (
	smallBuffer = 8 << 10  // of a connection that waits; at least a packet
	largeBuffer = 64 << 10 // of one that is busy
	perWrite    = 15       // packets handed to the socket at once: just below 64 KiB

	// goodbyeWait is how long Close lets the socket take the last write and the goodbye. It takes them at once but when its
	// buffer is full, because the remote does not read; then the remote will do without.
	goodbyeWait = 50 * time.Millisecond
)

var (
	readBuffers  = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	writeBuffers = sync.Pool{New: func() any { return new([perWrite * packetSize]byte) }}
)

// Conn is a private connection to a known remote; Client and Server make one. All methods may be called at any time from
// any goroutine; deadlines are the socket's. A Read that reached its deadline can be repeated, a Write cannot: what was
// cut off would be missing, so all later ones fail too.
type Conn struct {
	socket net.Conn    // fixed, as is remote
	remote identity.ID //

	reading sync.Mutex // guards what stands below it, and is held while the socket is read
	opener  opener
	small   [smallBuffer]byte
	large   *[largeBuffer]byte // borrowed when a read filled what there was
	buf     []byte             // what was read and not opened: a part of large, else of small
	plain   []byte             // what was opened and not taken: a part of packet
	packet  *[maxBody]byte     // for a reader that takes less than a packet at a time
	readErr error              // how the stream ended; sticks

	// writing is a lock: who has put something in it may use what stands below it, and writes to the socket. It is a channel
	// because a stuck peer lets it be waited for long, and tests in a synctest bubble could not wait for a mutex.
	writing  chan struct{}
	sealer   direction
	writeErr error // sticks

	closing  sync.Once
	closeErr error // after closing: what closing the socket said
}

func newConn(socket net.Conn, remote identity.ID, seal, open direction) *Conn {
	return &Conn{socket: socket, remote: remote, opener: opener{direction: open}, writing: make(chan struct{}, 1), sealer: seal}
}

// Remote is the key that the remote proved to have.
func (c *Conn) Remote() identity.ID { return c.remote }

// Read reads what the remote wrote: at least one byte, and as much as is there without waiting again. io.EOF comes only
// after the remote's goodbye. A connection that ends without is an error that wraps io.ErrUnexpectedEOF; one that was
// meddled with, ErrDamaged.
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	n := 0
	for n < len(p) {
		switch {
		case len(c.plain) > 0:
			m := copy(p[n:], c.plain)
			n, c.plain = n+m, c.plain[m:]
		case c.readErr != nil:
			if n > 0 {
				return n, nil
			}
			return 0, c.readErr
		case len(c.buf) < c.opener.need():
			if n > 0 {
				return n, nil
			}
			if err := c.fill(); err != nil {
				return 0, err
			}
		case !c.opener.inBody:
			rest, err := c.opener.header(c.buf)
			c.buf = rest
			c.end(err)
		default:
			n += c.unseal(p[n:])
		}
	}
	return n, nil
}

// unseal opens the body that is at the front of the buffer: into p when all of it fits, and returns how much that was,
// else beside. reading is held.
func (c *Conn) unseal(p []byte) int {
	dst := p[:0]
	if len(p) < c.opener.body {
		if c.packet == nil {
			c.packet = new([maxBody]byte)
		}
		dst = c.packet[:0]
	}
	plain, rest, err := c.opener.open(dst, c.buf)
	c.buf = rest
	c.end(err)
	if len(p) < c.opener.body {
		c.plain = plain
		return 0
	}
	return len(plain)
}

// fill reads once from the socket. It sets readErr to what ends the stream; a deadline does not, and is only returned.
// reading is held.
func (c *Conn) fill() error {
	room := c.small[:]
	if c.large != nil {
		room = c.large[:]
	}
	used := copy(room, c.buf)
	n, err := c.socket.Read(room[used:])
	c.buf = room[:used+n]
	switch {
	case n > 0: // an error that came with bytes comes again
		c.fit(len(room))
		return nil
	case err == nil:
		return nil // allowed, if odd; Read asks again
	case errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case err == io.EOF:
		err = fmt.Errorf("connection cut without a goodbye: %w", io.ErrUnexpectedEOF)
	}
	c.end(err)
	return nil
}

// end ends the stream, when err is one: nothing is read any more. reading is held.
func (c *Conn) end(err error) {
	if err != nil {
		c.readErr, c.buf = err, nil
		c.giveBack()
	}
}

// fit borrows the large buffer when the present one of size bytes was filled by a read, and gives it back when what is
// there would fit the small one. reading is held.
func (c *Conn) fit(size int) {
	switch {
	case c.large == nil && len(c.buf) == size:
		c.large = readBuffers.Get().(*[largeBuffer]byte)
		c.buf = c.large[:copy(c.large[:], c.buf)]
	case c.large != nil && len(c.buf) < smallBuffer/2:
		c.buf = c.small[:copy(c.small[:], c.buf)]
		c.giveBack()
	}
}

func (c *Conn) giveBack() {
	if c.large != nil {
		readBuffers.Put(c.large)
		c.large = nil
	}
}

// Write sends p, cut into packets of 4096 bytes, in writes to the socket of up to 64 KiB. It returns how many bytes of p
// the socket took in whole packets; fewer than all come with an error.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	if c.writeErr != nil || len(p) == 0 {
		return 0, c.writeErr
	}
	room := writeBuffers.Get().(*[perWrite * packetSize]byte)
	defer writeBuffers.Put(room)
	n := 0
	for n < len(p) {
		out := room[:0]
		rest := p[n:]
		for len(rest) > 0 && len(out) < len(room) {
			body := rest[:min(maxBody, len(rest))]
			out = c.sealer.seal(out, body)
			rest = rest[len(body):]
		}
		took, err := c.socket.Write(out)
		if err != nil {
			c.writeErr = fmt.Errorf("box stream ended by an earlier write: %w", err)
			if took < len(out) {
				return n + took/packetSize*maxBody, err
			}
		}
		n = len(p) - len(rest)
	}
	return n, c.writeErr
}

// Close says goodbye if the socket takes it soon, after the Write that is under way, and closes the socket in any case.
// The error is of either. Later calls do nothing and return the socket's error again.
func (c *Conn) Close() error {
	// Closing the socket ends any Write that waits for it, so the lock below is never waited for much longer.
	late := time.AfterFunc(goodbyeWait, func() { c.closeSocket() })
	defer late.Stop()
	var bye error
	c.writing <- struct{}{}
	if c.writeErr == nil {
		_, bye = c.socket.Write(c.sealer.goodbye(nil))
		c.writeErr = net.ErrClosed
	}
	<-c.writing
	return errors.Join(bye, c.closeSocket())
}

func (c *Conn) closeSocket() error {
	c.closing.Do(func() { c.closeErr = c.socket.Close() })
	return c.closeErr
}

// LocalAddr is the socket's.
func (c *Conn) LocalAddr() net.Addr { return c.socket.LocalAddr() }

// RemoteAddr is the socket's.
func (c *Conn) RemoteAddr() net.Addr { return c.socket.RemoteAddr() }

// SetDeadline sets the socket's deadlines.
func (c *Conn) SetDeadline(t time.Time) error { return c.socket.SetDeadline(t) }

// SetReadDeadline sets the socket's deadline for reading.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.socket.SetReadDeadline(t) }

// SetWriteDeadline sets the socket's deadline for writing.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.socket.SetWriteDeadline(t) }
