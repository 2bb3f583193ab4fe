package muxrpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// Body is what one frame carries. The receiver may keep Data and change it: it is shared with nobody, but the bodies of
// one stream are cut from common blocks of up to 16 KiB, so whoever keeps few of many for long should clone them.
type Body struct {
	Type BodyType
	Data []byte
}

// bodies are the memory of bodies of the size in which blobs are sent.
var bodies = sync.Pool{New: func() any { return new([maxBinary]byte) }}

// Release gives the memory of a received body back, so that another body can use it. Nobody has to; who does must not look at Data
// any more, nor release it twice.
func (b Body) Release() {
	if cap(b.Data) == maxBinary {
		bodies.Put((*[maxBinary]byte)(b.Data[:maxBinary]))
	}
}

// Stream is one call with a body flow in one direction or both. One goroutine may receive while another sends.
type Stream struct {
	// Fixed when it was made, except id, which Open sets.
	c       *Conn
	id      int32 // what frames of this side carry: positive in our own calls, negative in answers
	kind    Kind
	theirs  bool // the other side made the call
	patient bool
	maxBody int
	ctx     context.Context // its end is the stream's end
	cancel  context.CancelCauseFunc
	stop    func() bool // undoes the watch over ctx

	block []byte // owned by the read loop: what bodies are cut from

	// Under c.mu.
	more    sync.Cond
	waiting int    // how many wait for more
	queue   []Body // [head:] was received and not yet taken
	head    int
	batch   []Body      // what RecvBatch handed out last
	queued  int         // cost of what waits in queue
	recvErr error       // set when nothing more will be received: io.EOF after a clean end
	sent    bool        // the sending side has ended
	gone    atomic.Bool // not known to the connection any more; written under c.mu

	sendErr error // under c.wmu: why nothing can be sent any more
}

// Context ends with the stream when the other side made the call; else it is the one that the call was made with.
func (s *Stream) Context() context.Context { return s.ctx }

// Recv returns the next body. After the last one it returns io.EOF if the other side ended cleanly, a *RemoteError if it
// ended with an error, else why the stream or the connection ended.
func (s *Stream) Recv() (Body, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for s.head == len(s.queue) {
		if s.recvErr != nil {
			return Body{}, s.recvErr
		}
		s.waiting++
		s.more.Wait()
		s.waiting--
	}
	b := s.queue[s.head]
	s.queue[s.head] = Body{}
	s.head++
	s.taken(len(b.Data) + frameCost)
	return b, nil
}

// RecvBatch waits until something was received and returns what is there, but no more than most bodies when most is
// positive. It ends like Recv. The slice is valid until the next RecvBatch; what its bodies hold may be kept.
func (s *Stream) RecvBatch(most int) ([]Body, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for s.head == len(s.queue) {
		if s.recvErr != nil {
			return nil, s.recvErr
		}
		s.waiting++
		s.more.Wait()
		s.waiting--
	}
	clear(s.batch)
	waiting := s.queue[s.head:]
	cost := s.queued
	if most > 0 && len(waiting) > most {
		s.batch = append(s.batch[:0], waiting[:most]...)
		clear(waiting[:most])
		s.head += most
		cost = 0
		for _, b := range s.batch {
			cost += len(b.Data) + frameCost
		}
		s.taken(cost)
		return s.batch, nil
	}
	s.batch, s.queue = s.queue, s.batch[:0]
	batch := s.batch[s.head:]
	s.head = 0
	s.taken(cost)
	return batch, nil
}

// taken accounts for bodies that left the queue. mu is held.
func (s *Stream) taken(cost int) {
	if s.head == len(s.queue) {
		s.queue, s.head = s.queue[:0], 0
	} else if s.head >= 1024 && s.head > len(s.queue)/2 {
		n := copy(s.queue, s.queue[s.head:])
		clear(s.queue[n:])
		s.queue, s.head = s.queue[:n], 0
	}
	s.queued -= cost
	s.c.buffered -= cost
	if s.c.waiting {
		s.c.room.Broadcast()
	}
	s.forget()
}

// push gives a body to the receiver. mu is held.
func (s *Stream) push(b Body, cost int) {
	s.queue = append(s.queue, b)
	s.queued += cost
	s.c.buffered += cost
	if !s.kind.streams() {
		s.recvErr, s.sent = io.EOF, true // a call has one answer
	}
	if s.waiting > 0 {
		s.more.Signal()
	}
}

// stopReceiving notes that nothing more will be received. Without keep, what was received and not yet taken is thrown
// away. mu is held.
func (s *Stream) stopReceiving(err error, keep bool) {
	if s.recvErr == nil || !keep && s.head < len(s.queue) {
		s.recvErr = err
	}
	if !keep {
		s.c.buffered -= s.queued
		s.queued = 0
		clear(s.queue)
		s.queue, s.head = nil, 0
	}
	s.more.Broadcast()
	if s.c.waiting {
		s.c.room.Broadcast()
	}
	s.forget()
}

// forget removes a call of this side from the connection once both directions have ended and all was taken. Calls of the
// other side are removed when their handler returns. mu is held.
func (s *Stream) forget() {
	if s.theirs || s.gone.Load() || s.recvErr == nil || !s.sent || s.head < len(s.queue) {
		return
	}
	s.gone.Store(true)
	if s.c.ours[s.id] == s {
		delete(s.c.ours, s.id)
	}
	if s.stop != nil {
		s.stop()
	}
}

// stopSending makes every Send fail with err, those that wait included.
func (s *Stream) stopSending(err error) {
	s.c.wmu.Lock()
	if s.sendErr == nil || s.sendErr == ErrEnded {
		s.sendErr = err
	}
	s.c.space.Broadcast()
	s.c.wmu.Unlock()
}

func (s *Stream) endFlags() byte {
	if s.kind.streams() {
		return flagEnd | flagStream | byte(JSON)
	}
	return flagEnd | byte(JSON)
}

var errSource = errors.New("muxrpc: a source is only received from")

// Send sends a body. It waits while the other side does not read. The bytes are not kept. Binary bodies are cut to 64 KiB;
// an empty binary body has no form on the wire and is not sent; an empty text is sent as a JSON string. JSON must be
// valid, because JS peers hang up on what is not: Send does not look.
func (s *Stream) Send(b Body) error {
	if s.kind == Source && !s.theirs {
		return errSource
	}
	for b.Type == Binary && len(b.Data) > maxBinary {
		if err := s.c.frame(s, flagStream, s.id, b.Data[:maxBinary], true); err != nil {
			return err
		}
		b.Data = b.Data[maxBinary:]
	}
	if len(b.Data) == 0 {
		switch b.Type {
		case Binary:
			return nil
		case Text:
			b = Body{Type: JSON, Data: []byte(`""`)}
		default:
			return errors.New("muxrpc: empty JSON")
		}
	}
	return s.c.frame(s, flagStream|byte(b.Type&typeMask), s.id, b.Data, true)
}

// SendJSON sends v, which must be valid JSON already.
func (s *Stream) SendJSON(v []byte) error { return s.Send(Body{Type: JSON, Data: v}) }

// CloseSend ends the sending direction: cleanly when err is nil, else with an error. On a source or sink that ends the
// stream; on a duplex the other side may go on sending until it ends its own direction.
func (s *Stream) CloseSend(err error) error {
	ferr := s.c.frame(s, s.endFlags(), s.id, endBody(err), s.theirs)
	s.c.mu.Lock()
	s.sent = true
	s.forget()
	s.c.mu.Unlock()
	if ferr == ErrEnded {
		return nil
	}
	return ferr
}

// Close ends both directions and throws away what was not received yet. It may be called at any time and never waits.
func (s *Stream) Close() error {
	s.abort(nil)
	return nil
}

// abort ends the stream from this side. It never waits.
func (s *Stream) abort(why error) {
	over := why
	if over == nil {
		over = ErrEnded
	}
	c := s.c
	c.wmu.Lock()
	c.mu.Lock()
	answered := !s.kind.streams() && s.recvErr != nil
	s.sent = true
	s.stopReceiving(over, false) // before the other side is told: what it answers to that is not why the stream ended
	c.mu.Unlock()
	if s.sendErr == nil && c.werr == nil && s.id != 0 && !answered {
		end := why
		if s.kind == Source {
			end = nil // how a reader says that it wants no more
		}
		c.put(s.endFlags(), s.id, endBody(end))
	}
	if s.sendErr == nil {
		s.sendErr = over
	}
	c.space.Broadcast()
	c.wmu.Unlock()
}

const (
	minBlock = 512
	maxBlock = 16 << 10
)

// cut copies what was received into memory of the stream's own.
func (s *Stream) cut(src []byte) []byte {
	if len(src) > maxBlock/4 {
		return bytes.Clone(src) // which clears nothing before it copies
	}
	dst := s.alloc(len(src))
	copy(dst, src)
	return dst
}

// alloc cuts n bytes from the stream's block. Blocks grow with the traffic.
func (s *Stream) alloc(n int) []byte {
	if n == maxBinary {
		return bodies.Get().(*[maxBinary]byte)[:]
	}
	if n > maxBlock/4 || !s.kind.streams() {
		return make([]byte, n)
	}
	if cap(s.block)-len(s.block) < n {
		s.block = make([]byte, 0, min(max(2*cap(s.block), 2*n, minBlock), maxBlock))
	}
	i := len(s.block)
	s.block = s.block[:i+n]
	return s.block[i : i+n : i+n]
}
