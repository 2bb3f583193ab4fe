package main

import (
	"context"
	"io"
)

// interruptible is a stream whose reads and writes return when ctx ends, with its cause: what stands at the other
// end of a pipe, or a person at a terminal, must not hold up a command that was interrupted. The system's call may go on
// until the process ends. Reads and writes are made by one goroutine at a time.
type interruptible struct {
	ctx context.Context
	r   io.Reader
	w   io.Writer
	buf []byte // what the system's call works on, which nobody uses again after ctx ended
}

// mostRead is the longest single read: as much as a pipe holds.
const mostRead = 64 << 10

func (s *interruptible) Read(p []byte) (int, error) {
	if s.buf == nil {
		s.buf = make([]byte, mostRead)
	}
	buf := s.buf[:min(len(p), len(s.buf))]
	n, err := s.await(func() (int, error) { return s.r.Read(buf) })
	copy(p, buf[:n])
	return n, err
}

func (s *interruptible) Write(p []byte) (int, error) {
	if s.ctx.Err() == nil {
		s.buf = append(s.buf[:0], p...)
	}
	return s.await(func() (int, error) { return s.w.Write(s.buf) })
}

// await makes a call that may block, and waits for it or for the end of ctx.
func (s *interruptible) await(call func() (int, error)) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := call()
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-s.ctx.Done():
		return 0, context.Cause(s.ctx)
	}
}
