package muxrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// Options configure a connection. The zero value is usable: it offers no methods and has the default limits.
type Options struct {
	Registry  *Registry // what the other side may call; nil: nothing but manifest
	Anonymous bool      // the other side is a stranger: only methods marked Anonymous
	Peer      any       // handed to handlers as Request.Peer
	Logger    *slog.Logger

	// Limits; 0 means the default.
	MaxBody      int // bytes of one received body: 64 KiB
	StreamBuffer int // bytes received and not yet taken, per stream: 1 MiB
	ConnBuffer   int // the same for all streams together: 8 MiB
	WriteBuffer  int // bytes waiting to be written before Send waits: 64 KiB
	MaxStreams   int // requests of the other side that are served at once: 1024

	// Patience is how long reading may stand still for one patient stream before that stream is ended after all: 2
	// minutes.
	Patience time.Duration
	// CloseTimeout is how long a close waits for the other side to take what is left and to say goodbye: 500 ms.
	CloseTimeout time.Duration
}

const (
	// frameCost is what a received frame costs in memory besides its body.
	frameCost = 64
	// maxControl bounds the bytes of answers that the reading goroutine gave and that wait to be written.
	maxControl = 1 << 20
	// maxBinary is the size that long binary bodies are cut to when they are sent on a stream.
	maxBinary = 64 << 10
)

func orDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Stats counts what went over a connection. Messages are frames of any kind.
type Stats struct {
	BytesIn, BytesOut       int64
	MessagesIn, MessagesOut int64
}

// Conn is a connection that both sides make calls on. Its methods may be used by many goroutines at once.
type Conn struct {
	o    Options // fixed after New
	rwc  io.ReadWriteCloser
	done chan struct{} // closed when the transport is

	closing sync.Once // guards rwc.Close

	// Owned by the goroutine of Run's read loop.
	in        frameReader
	used      window
	newBytes  int64 // not yet in bytesIn
	newFrames int64
	last      *Stream // of the last frame: most frames follow one of the same stream
	lastID    int32
	handlers  sync.WaitGroup
	ctx       context.Context // parent of the handlers'; set by Run

	mu       sync.Mutex
	room     sync.Cond         // the read loop waits here for a patient stream's reader
	waiting  bool              // it does
	ours     map[int32]*Stream // requests that this side made
	theirs   map[int32]*Stream // requests that the other side made and that are being served
	next     int32             // the last number that this side used
	widest   int               // the largest limit of bodies that a stream had: its late frames may be as large
	buffered int               // cost of all that was received and not yet taken
	asked    int               // bytes of the requests that are being served
	err      error             // why no new streams can be made; set once
	started  bool
	timer    *time.Timer // of a close that waits for the other side
	bytesIn  int64
	framesIn int64

	// Where both locks are held, in Open and abort, wmu was taken first.
	wmu       sync.Mutex
	wake      sync.Cond // the writer waits here for something to write
	space     sync.Cond // senders wait here for the writer
	senders   int       // how many do
	wbuf      []byte    // frames to be written
	control   int       // bytes in wbuf that the read loop added without waiting
	werr      error     // why nothing can be sent any more
	bye       bool      // write what is there, then no more
	bytesOut  int64
	framesOut int64
}

// New makes a connection over a transport. Nothing is read or written before Run.
func New(rwc io.ReadWriteCloser, o Options) *Conn {
	if o.Registry == nil {
		o.Registry, _ = NewRegistry()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	orDefault(&o.MaxBody, 64<<10)
	orDefault(&o.StreamBuffer, 1<<20)
	orDefault(&o.ConnBuffer, 8<<20)
	orDefault(&o.WriteBuffer, 64<<10)
	orDefault(&o.MaxStreams, 1024)
	orDefault(&o.Patience, 2*time.Minute)
	orDefault(&o.CloseTimeout, 500*time.Millisecond)
	c := &Conn{
		o: o, rwc: rwc, done: make(chan struct{}), in: frameReader{r: rwc},
		ours: map[int32]*Stream{}, theirs: map[int32]*Stream{},
	}
	c.room.L, c.wake.L, c.space.L = &c.mu, &c.wmu, &c.wmu
	return c
}

// Run serves the connection until it ends or ctx does. When it returns, the transport is closed, every stream and call
// has ended, and every handler has returned. The error is nil after Close and after a goodbye of the other side; after
// the end of ctx it is the cause of that.
func (c *Conn) Run(ctx context.Context) error {
	hctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.mu.Lock()
	if c.started {
		c.mu.Unlock()
		return errors.New("muxrpc: Run called twice, or after Close")
	}
	c.started = true
	c.ctx = hctx
	c.mu.Unlock()

	defer context.AfterFunc(ctx, func() { c.end(context.Cause(ctx), true) })()
	var writer sync.WaitGroup
	writer.Go(c.write)

	err := c.read()
	if errors.Is(err, errGoodbye) {
		c.end(ErrClosed, true)
	} else {
		c.end(err, false)
	}
	writer.Wait()
	c.closeTransport()
	c.mu.Lock()
	err = c.err
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	close(c.done)
	cancel(err)
	c.handlers.Wait()
	if err == ErrClosed {
		return nil
	}
	return err
}

// Close ends all streams, writes what waits to be written and a goodbye, and closes the transport. It waits for the other
// side's goodbye for no longer than Options.CloseTimeout.
func (c *Conn) Close() error {
	c.mu.Lock()
	started := c.started
	c.started = true // Run must not begin any more
	c.mu.Unlock()
	c.end(ErrClosed, true)
	if started {
		<-c.done
		return nil
	}
	c.closeTransport()
	close(c.done)
	return nil
}

// closeTransport closes the transport, once. Its error would tell nothing new: what counted was written.
func (c *Conn) closeTransport() { c.closing.Do(func() { _ = c.rwc.Close() }) }

// Done is closed when the transport is.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Stats returns what was read and written until now.
func (c *Conn) Stats() Stats {
	var s Stats
	c.mu.Lock()
	s.BytesIn, s.MessagesIn = c.bytesIn, c.framesIn
	c.mu.Unlock()
	c.wmu.Lock()
	s.BytesOut, s.MessagesOut = c.bytesOut, c.framesOut
	c.wmu.Unlock()
	return s
}

// end ends the connection, once: all streams with err, then the transport, after a goodbye if that is asked for.
func (c *Conn) end(err error, goodbye bool) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
	}
	var all []*Stream
	if first {
		for _, streams := range []map[int32]*Stream{c.ours, c.theirs} {
			for _, s := range streams {
				s.sent = true
				s.stopReceiving(err, true) // what was received before may still be taken
				all = append(all, s)
			}
		}
		c.room.Broadcast()
	}
	c.mu.Unlock()
	for _, s := range all {
		if s.cancel != nil {
			s.cancel(err)
		}
	}

	c.wmu.Lock()
	if c.werr == nil {
		c.werr = err
		c.bye = goodbye
		if goodbye {
			c.wbuf = append(c.wbuf, make([]byte, headerSize)...)
		}
	}
	if !goodbye {
		c.bye = false
	}
	c.wake.Broadcast()
	c.space.Broadcast()
	c.wmu.Unlock()
	switch {
	case !goodbye:
		c.closeTransport()
	case first:
		t := time.AfterFunc(c.o.CloseTimeout, func() { c.closeTransport() })
		c.mu.Lock()
		c.timer = t
		c.mu.Unlock()
	}
}

// write is the writer: it takes all frames that are there and writes them at once, again and again.
func (c *Conn) write() {
	var out []byte
	for {
		c.wmu.Lock()
		if len(c.wbuf) == 0 && c.werr == nil {
			recycle(out)
			recycle(c.wbuf)
			out, c.wbuf = nil, nil
		}
		for len(c.wbuf) == 0 && c.werr == nil {
			c.wake.Wait()
		}
		if c.werr != nil && (!c.bye || len(c.wbuf) == 0) {
			c.wbuf = nil
			c.wmu.Unlock()
			return
		}
		if cap(out) > poolBuffer {
			out = nil // was made for one long body
		}
		out, c.wbuf = c.wbuf, out[:0]
		c.control = 0
		c.bytesOut += int64(len(out))
		c.space.Signal() // the first of those who wait, who wakes the next while there is room
		c.wmu.Unlock()

		if _, err := c.rwc.Write(out); err != nil {
			c.end(fmt.Errorf("muxrpc: write: %w", err), false)
			return
		}
	}
}

// frame appends one frame for the writer. s may be nil. With wait it waits while too much waits to be written; without,
// it never does. The frame of a stream whose sending side has ended is not sent: the error says why.
func (c *Conn) frame(s *Stream, flags byte, req int32, body []byte, wait bool) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	err := c.mayPut(s, wait)
	if err == nil {
		if s != nil && flags&flagEnd != 0 {
			s.sendErr = ErrEnded
		}
		c.put(flags, req, body)
	}
	c.pass()
	return err
}

// mayPut waits, if it should, until there is room for a frame, and says whether it may be put there. wmu is held; pass
// must follow.
func (c *Conn) mayPut(s *Stream, wait bool) error {
	for {
		if s != nil && s.sendErr != nil {
			return s.sendErr
		}
		if c.werr != nil {
			return c.werr
		}
		if !wait || len(c.wbuf) < c.o.WriteBuffer {
			return nil
		}
		c.senders++
		c.space.Wait()
		c.senders--
	}
}

// pass wakes the next sender that waits, if there is room for its frame. wmu is held.
func (c *Conn) pass() {
	if c.senders > 0 && len(c.wbuf) < c.o.WriteBuffer {
		c.space.Signal()
	}
}

// put is the tail of frame. wmu is held.
func (c *Conn) put(flags byte, req int32, body []byte) {
	if len(c.wbuf) == 0 {
		c.wake.Signal()
	}
	if c.wbuf == nil {
		c.wbuf = buffers.Get().(*[poolBuffer]byte)[:0]
	}
	c.wbuf = appendFrame(c.wbuf, flags, req, body)
	c.framesOut++
}

// Write buffers come from a pool and go back as soon as nothing waits to be written: idle connections have none.
const poolBuffer = 80 << 10 // a full WriteBuffer and one usual frame more

var buffers = sync.Pool{New: func() any { return new([poolBuffer]byte) }}

func recycle(b []byte) {
	if cap(b) == poolBuffer {
		buffers.Put((*[poolBuffer]byte)(b[:poolBuffer]))
	}
}

// answer is how the read loop writes: never waiting, so a remote that asks and does not read is cut off at a bound.
func (c *Conn) answer(s *Stream, flags byte, req int32, body []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.werr != nil || s != nil && s.sendErr != nil {
		return nil
	}
	if s != nil && flags&flagEnd != 0 {
		s.sendErr = ErrEnded
		c.space.Broadcast()
	}
	c.control += headerSize + len(body)
	if c.control > maxControl {
		return errors.New("muxrpc: the other side does not read the answers to its requests")
	}
	c.put(flags, req, body)
	return nil
}

var errGoodbye = errors.New("goodbye")

// read is the read loop. It never waits for a handler, except for one of a patient method that does not receive.
func (c *Conn) read() error {
	for {
		h, err := c.in.header()
		switch {
		case err == io.EOF:
			return fmt.Errorf("muxrpc: connection ended without goodbye: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return fmt.Errorf("muxrpc: read: %w", err)
		case h.length == 0:
			return errGoodbye
		case h.bodyType() > JSON:
			return fmt.Errorf("muxrpc: request %d: unknown body type %d", h.req, h.bodyType())
		}
		if err := c.receive(h); err != nil {
			return err
		}
	}
}

// receive takes one frame.
func (c *Conn) receive(h header) error {
	c.newBytes += headerSize + int64(h.length)
	c.newFrames++
	s := c.last
	late := 0 // the limit for what comes late and is skipped
	if h.req != c.lastID || s == nil || s.gone.Load() {
		c.mu.Lock()
		c.count()
		late = c.widest
		switch {
		case h.req > 0:
			s = c.theirs[h.req]
		case h.req < 0:
			s = c.ours[-h.req] // the most negative number negates to itself, which is nobody's
		default:
			s = nil
		}
		c.last, c.lastID = s, h.req
		closed := c.err != nil
		c.mu.Unlock()
		if closed {
			return c.skip(h)
		}
	}

	most := c.most(s)
	if s == nil && (h.req < 0 || h.req > 0 && h.stream() && c.used.has(h.req)) {
		most = max(most, late)
	}
	if int64(h.length) > int64(most) {
		return fmt.Errorf("muxrpc: request %d: a body of %d bytes is over the limit of %d", h.req, h.length, most)
	}
	switch {
	case s != nil && h.end():
		body, err := c.in.bigBody(int(h.length))
		if err != nil {
			return fmt.Errorf("muxrpc: read: %w", err)
		}
		return c.receiveEnd(s, parseEnd(h.bodyType(), body))
	case s != nil && h.req > 0 && (!h.stream() || !s.kind.streams()):
		return fmt.Errorf("muxrpc: request %d: its number is in use", h.req)
	case s != nil:
		return c.receiveBody(s, h)
	case h.req > 0:
		fresh := c.used.use(h.req)
		if h.end() || !fresh && h.stream() {
			return c.skip(h) // a late frame of a stream that has ended here
		}
		body, err := c.in.bigBody(int(h.length))
		if err != nil {
			return fmt.Errorf("muxrpc: read: %w", err)
		}
		if !fresh {
			return c.refuse(h, errors.New("a request with this number was made before"))
		}
		return c.request(h, body)
	default:
		return c.skip(h) // a late answer, or a message to nobody in particular, which nobody uses
	}
}

// most is the limit of bodies for s, or, when that is nil, for what belongs to no stream.
func (c *Conn) most(s *Stream) int {
	if s != nil && s.maxBody > 0 {
		return s.maxBody
	}
	return c.o.MaxBody
}

// count hands the read loop's counts over to Stats. mu is held.
func (c *Conn) count() {
	c.bytesIn += c.newBytes
	c.framesIn += c.newFrames
	c.newBytes, c.newFrames = 0, 0
}

func (c *Conn) skip(h header) error {
	if err := c.in.skip(int64(h.length)); err != nil {
		return fmt.Errorf("muxrpc: read: %w", err)
	}
	return nil
}

// receiveBody takes the body of h, which is for s, and the frames after it that were read already and are for s, too:
// most frames follow one of the same stream, and a run of them costs one lock and one copy.
func (c *Conn) receiveBody(s *Stream, h header) error {
	n := int(h.length)
	var block []byte
	if ahead := c.in.buf[c.in.i:c.in.j]; len(ahead) < n {
		var err error
		if n > maxReadBuffer {
			block, err = c.in.bigBody(n)
		} else {
			block = s.alloc(n)
			err = c.in.body(block)
		}
		if err != nil {
			return fmt.Errorf("muxrpc: read: %w", err)
		}
	} else {
		run := n
		for s.kind.streams() && len(ahead)-run > headerSize {
			h2 := parseHeader((*[headerSize]byte)(ahead[run:]))
			next := int64(run) + headerSize + int64(h2.length)
			if h2.req != h.req || h2.end() || !h2.stream() || h2.bodyType() > JSON || h2.length == 0 ||
				int64(h2.length) > int64(c.most(s)) || next > maxBlock || next > int64(len(ahead)) {
				break
			}
			run = int(next)
		}
		block = s.cut(ahead[:run])
		c.in.i += run
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		c.count()
		if err := c.deliver(s, Body{Type: h.bodyType(), Data: block[:n:n]}); err != nil {
			return err
		}
		if block = block[n:]; len(block) == 0 {
			return nil
		}
		h = parseHeader((*[headerSize]byte)(block))
		n = int(h.length)
		block = block[headerSize:]
		c.newBytes += headerSize + int64(n)
		c.newFrames++
	}
}

// deliver gives a body to the stream's reader, within the limits: it waits for a reader that is patient, and ends the
// stream of one that is not. mu is held; it is released meanwhile.
func (c *Conn) deliver(s *Stream, b Body) error {
	cost := len(b.Data) + frameCost
	for !s.gone.Load() && s.recvErr == nil {
		over := s
		switch {
		case s.queued > 0 && s.queued+cost > c.o.StreamBuffer:
		case c.buffered > 0 && c.buffered+cost > c.o.ConnBuffer:
			over = c.fullest()
		default:
			over = nil
		}
		if over == nil {
			s.push(b, cost)
			return nil
		}
		if !over.patient || !c.waitForRoom(s, cost) {
			c.mu.Unlock()
			err := c.drop(over, ErrLagging)
			c.mu.Lock()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// fullest returns the stream that should suffer when the connection's budget is used up: the impatient one with the most
// waiting, or, when only patient ones wait, the fullest of those. mu is held.
func (c *Conn) fullest() *Stream {
	var most *Stream
	for _, streams := range []map[int32]*Stream{c.ours, c.theirs} {
		for _, s := range streams {
			if s.queued > 0 && (most == nil || most.patient && !s.patient || most.patient == s.patient && s.queued > most.queued) {
				most = s
			}
		}
	}
	return most
}

// waitForRoom waits until one more frame of this cost fits for s, or s is over. It says false when patience is over.
// mu is held.
func (c *Conn) waitForRoom(s *Stream, cost int) bool {
	patient := true
	timer := time.AfterFunc(c.o.Patience, func() {
		c.mu.Lock()
		patient = false
		c.room.Broadcast()
		c.mu.Unlock()
	})
	defer timer.Stop()
	c.waiting = true
	for patient && !s.gone.Load() && s.recvErr == nil &&
		(s.queued > 0 && s.queued+cost > c.o.StreamBuffer || c.buffered > 0 && c.buffered+cost > c.o.ConnBuffer) {
		c.room.Wait()
	}
	c.waiting = false
	return patient
}

// receiveEnd takes the end of a stream or the answer of a call. On a duplex, and on a sink that is served here, a clean end
// leaves the other direction open. Everything else ends the stream both ways, which is answered with an end at once: JS
// keeps the stream until then.
func (c *Conn) receiveEnd(s *Stream, err error) error {
	half := err == io.EOF && (s.kind == Duplex || s.kind == Sink && s.theirs)
	if err == io.EOF && !s.kind.streams() && !s.theirs {
		err = &RemoteError{Name: "Error", Message: "the call ended without a result"}
	}
	if half {
		c.mu.Lock()
		s.stopReceiving(err, true)
		c.mu.Unlock()
		return nil
	}
	why := err
	if why == io.EOF {
		why = ErrEnded
	}
	var aerr error
	if s.kind.streams() {
		aerr = c.answer(s, flagEnd|flagStream|byte(JSON), s.id, endBody(nil))
	}
	s.stopSending(why)
	c.mu.Lock()
	s.sent = true
	s.stopReceiving(err, true)
	c.mu.Unlock()
	if s.cancel != nil {
		s.cancel(why)
	}
	return aerr
}

// drop ends a stream from this side, throwing away what it received, and tells the other side why.
func (c *Conn) drop(s *Stream, why error) error {
	err := c.answer(s, s.endFlags(), s.id, endBody(why))
	s.stopSending(why)
	c.mu.Lock()
	s.sent = true
	s.stopReceiving(why, false)
	c.mu.Unlock()
	if s.cancel != nil {
		s.cancel(why)
	}
	return err
}

// refuse answers a request with an error.
func (c *Conn) refuse(h header, why error) error {
	c.o.Logger.Debug("request refused", "req", h.req, "err", why)
	return c.answer(nil, flagEnd|h.flags&flagStream|byte(JSON), -h.req, endBody(why))
}

// request begins to serve a new request.
func (c *Conn) request(h header, body []byte) error {
	name, shown, kind, args, err := parseEnvelope(h, body)
	if err != nil {
		return c.refuse(h, err)
	}
	m := c.o.Registry.byName[name]
	if c.o.Anonymous && (m == nil || !m.Anonymous) {
		return c.refuse(h, fmt.Errorf("method:%s is not in list of allowed methods", excerpt([]byte(shown))))
	}
	if m == nil || m.Kind != kind && (m.Kind != Sync || kind != Async) {
		return c.refuse(h, fmt.Errorf("no %s:%s", kind, excerpt([]byte(shown))))
	}
	ctx, cancel := context.WithCancelCause(c.ctx)
	s := &Stream{c: c, id: -h.req, kind: m.Kind, theirs: true, patient: m.Patient, maxBody: m.MaxBody, ctx: ctx, cancel: cancel}
	s.more.L = &c.mu
	c.mu.Lock()
	switch {
	case c.err != nil:
		err = c.err
	case len(c.theirs) >= c.o.MaxStreams:
		err = fmt.Errorf("too many requests at once on this connection, the limit is %d", c.o.MaxStreams)
	case c.asked > 0 && c.asked+len(body) > c.o.ConnBuffer:
		err = fmt.Errorf("too many arguments at once on this connection, the limit is %d bytes", c.o.ConnBuffer)
	default:
		c.theirs[h.req] = s
		c.widest = max(c.widest, s.maxBody)
		c.asked += len(body)
	}
	c.mu.Unlock()
	if err != nil {
		cancel(err)
		return c.refuse(h, err) // to nobody, if the connection has ended
	}
	req := &Request{Name: name, Kind: m.Kind, Args: args, Conn: c, Peer: c.o.Peer, declared: m.Args}
	c.handlers.Go(func() { c.serve(s, m, req, len(body)) })
	return nil
}

// serve runs a handler and ends its stream. It is the goroutine that a request has; size is that of its request frame.
func (c *Conn) serve(s *Stream, m *Method, req *Request, size int) {
	defer func() {
		c.mu.Lock()
		delete(c.theirs, -s.id)
		c.asked -= size
		s.stopReceiving(ErrEnded, false)
		s.gone.Store(true)
		c.mu.Unlock()
		s.cancel(ErrEnded)
	}()
	if m.Kind.streams() {
		err := c.guard(req, func() error {
			if err := req.check(); err != nil {
				return err
			}
			return m.Stream(s.ctx, req, s)
		})
		_ = s.CloseSend(err) // when it cannot be sent, nobody waits for it
		return
	}
	var typ BodyType
	var body []byte
	err := c.guard(req, func() error {
		if err := req.check(); err != nil {
			return err
		}
		result, err := m.Call(s.ctx, req)
		if err == nil {
			typ, body, err = encodeResult(result)
		}
		return err
	})
	if err != nil {
		_ = c.frame(s, s.endFlags(), s.id, endBody(err), true)
	} else {
		_ = c.frame(s, byte(typ), s.id, body, true)
	}
}

// guard keeps a handler's panic from ending the node: the caller gets an error, the operator the stack.
func (c *Conn) guard(req *Request, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.o.Logger.Error("muxrpc: internal error: handler panicked", "method", req.Name, "err", p, "stack", string(debug.Stack()))
			err = errors.New("internal error")
		}
	}()
	return f()
}

// Async calls an async or sync method and waits for its answer: JSON as it was sent, a text as a JSON string, bytes as a
// JSON string of base64. A *RemoteError is what the method answered instead. When ctx ends, the call is given up and the
// other side is told.
func (c *Conn) Async(ctx context.Context, method string, args ...any) (json.RawMessage, error) {
	s, err := c.Open(ctx, CallOptions{Kind: Async}, method, args...)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	body, err := s.Recv()
	if err != nil {
		return nil, err
	}
	switch body.Type {
	case Text:
		return marshal(string(body.Data))
	case Binary:
		return marshal(body.Data)
	}
	return body.Data, nil
}

// Source calls a source method. The stream must be received from until it ends, or closed, or its ctx cancelled.
func (c *Conn) Source(ctx context.Context, method string, args ...any) (*Stream, error) {
	return c.Open(ctx, CallOptions{Kind: Source}, method, args...)
}

// Sink calls a sink method. After CloseSend, Recv returns io.EOF when the other side has taken everything.
func (c *Conn) Sink(ctx context.Context, method string, args ...any) (*Stream, error) {
	return c.Open(ctx, CallOptions{Kind: Sink}, method, args...)
}

// Duplex calls a duplex method.
func (c *Conn) Duplex(ctx context.Context, method string, args ...any) (*Stream, error) {
	return c.Open(ctx, CallOptions{Kind: Duplex}, method, args...)
}

// CallOptions say how to call a method.
type CallOptions struct {
	Kind    Kind
	Patient bool // as Method.Patient
	MaxBody int  // as Method.MaxBody
}

// Open calls a method. ctx is that of the whole stream: when it ends, the stream is aborted.
func (c *Conn) Open(ctx context.Context, o CallOptions, method string, args ...any) (*Stream, error) {
	if o.Kind == Sync {
		o.Kind = Async
	}
	if o.Kind != Async && !o.Kind.streams() {
		return nil, fmt.Errorf("muxrpc: %s: unknown kind %q", method, o.Kind)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	body, err := appendEnvelope(nil, method, o.Kind, args)
	if err != nil {
		return nil, err
	}
	s := &Stream{c: c, kind: o.Kind, patient: o.Patient, maxBody: o.MaxBody, ctx: ctx}
	s.more.L = &c.mu
	if ctx.Done() != nil {
		c.mu.Lock()
		s.stop = context.AfterFunc(ctx, func() { s.abort(context.Cause(ctx)) })
		c.mu.Unlock()
	}
	// The number is taken and the request written under one lock: numbers reach the other side in rising order.
	c.wmu.Lock()
	if err = c.mayPut(s, true); err == nil {
		c.mu.Lock()
		if err = c.err; err == nil {
			c.widest = max(c.widest, s.maxBody)
			for {
				if c.next++; c.next <= 0 {
					c.next = 1
				}
				if c.ours[c.next] == nil {
					break
				}
			}
			s.id = c.next
			c.ours[s.id] = s
		}
		c.mu.Unlock()
	}
	if err == nil {
		c.put(s.endFlags()&^flagEnd, s.id, body)
	}
	c.pass()
	c.wmu.Unlock()
	if err != nil {
		s.abort(err)
		return nil, err
	}
	return s, nil
}
