package shs

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// memory is a socket whose remote has sent toRead and hung up. It hands that out in random pieces when rnd is set, and
// keeps what is written.
type memory struct {
	toRead  []byte
	rnd     *rand.Rand
	written bytes.Buffer
	writes  int
	reads   int
	closed  int
}

func (m *memory) Read(p []byte) (int, error) {
	m.reads++
	if len(m.toRead) == 0 {
		return 0, io.EOF
	}
	if m.rnd != nil {
		p = p[:min(len(p), 1+m.rnd.IntN([]int{1, 3, 40, 5000}[m.rnd.IntN(4)]))]
	}
	n := copy(p, m.toRead)
	m.toRead = m.toRead[n:]
	return n, nil
}

func (m *memory) Write(p []byte) (int, error) {
	m.writes++
	return m.written.Write(p)
}

func (m *memory) Close() error                     { m.closed++; return nil }
func (m *memory) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (m *memory) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// readAll reads to the end in pieces of random size; a clean end is no error.
func readAll(r io.Reader, rnd *rand.Rand) ([]byte, error) {
	var all []byte
	for {
		p := make([]byte, 1+rnd.IntN([]int{1, 20, 5000, 70000}[rnd.IntN(4)]))
		n, err := r.Read(p)
		all = append(all, p[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}
