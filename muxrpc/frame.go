package muxrpc

import (
	"encoding/binary"
	"fmt"
	"io"
)

// BodyType says how the bytes of a body are to be understood.
type BodyType uint8

// The three body types there are. A frame with the fourth value, 3, ends the connection, as it does in JS.
const (
	Binary BodyType = 0
	Text   BodyType = 1 // UTF-8
	JSON   BodyType = 2
)

func (t BodyType) String() string {
	switch t {
	case Binary:
		return "binary"
	case Text:
		return "text"
	case JSON:
		return "json"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// The bits of a frame's first byte. Bits 4 to 7 are ignored on receipt.
const (
	typeMask   = 3
	flagEnd    = 4
	flagStream = 8
)

const headerSize = 9

// header is what stands before each body: one byte of flags, the body's length, the request it belongs to. The side that
// made the request counts it upwards from 1; the other side answers under the negated number.
type header struct {
	flags  byte
	length uint32
	req    int32
}

func (h header) bodyType() BodyType { return BodyType(h.flags & typeMask) }
func (h header) end() bool          { return h.flags&flagEnd != 0 }
func (h header) stream() bool       { return h.flags&flagStream != 0 }

func parseHeader(b *[headerSize]byte) header {
	return header{
		flags:  b[0],
		length: binary.BigEndian.Uint32(b[1:5]),
		req:    int32(binary.BigEndian.Uint32(b[5:9])),
	}
}

// appendFrame appends a header and its body. An empty body is written as such: that is a goodbye to every JS peer,
// whatever the header says, so only a goodbye has one.
func appendFrame(dst []byte, flags byte, req int32, body []byte) []byte {
	var h [headerSize]byte
	h[0] = flags
	binary.BigEndian.PutUint32(h[1:5], uint32(len(body)))
	binary.BigEndian.PutUint32(h[5:9], uint32(req))
	dst = append(dst, h[:]...)
	return append(dst, body...)
}

const (
	minReadBuffer = 4 << 10
	maxReadBuffer = 64 << 10
)

// frameReader cuts the byte stream into headers and bodies. Its buffer grows with the traffic: a read that fills it
// doubles it, and many small reads in a row shrink it again: an idle connection costs little and a busy one few system
// calls.
type frameReader struct {
	r    io.Reader
	buf  []byte
	i, j int // buf[i:j] was read and not yet consumed
	idle int // how many reads in a row would have fitted the smallest buffer
}

// fill reads once, after making room for at least one byte more.
func (f *frameReader) fill() error {
	if f.i == f.j {
		f.i, f.j = 0, 0
		if f.idle >= 16 && len(f.buf) > minReadBuffer {
			f.buf = make([]byte, minReadBuffer)
		}
	}
	if len(f.buf) == 0 {
		f.buf = make([]byte, minReadBuffer)
	}
	if f.i > 0 && len(f.buf)-f.j < minReadBuffer { // a small read costs as much as a large one
		f.j = copy(f.buf, f.buf[f.i:f.j])
		f.i = 0
	}
	if f.j == len(f.buf) {
		f.grow()
	}
	for range 100 {
		n, err := f.r.Read(f.buf[f.j:])
		f.j += n
		if n > 0 {
			if f.idle++; n >= minReadBuffer {
				f.idle = 0
			}
			if f.j == len(f.buf) && f.i == 0 && len(f.buf) < maxReadBuffer {
				f.grow()
			}
			return nil // an error comes again
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

func (f *frameReader) grow() {
	buf := make([]byte, 2*len(f.buf))
	f.j = copy(buf, f.buf[f.i:f.j])
	f.i, f.buf = 0, buf
}

// header returns the next header. The error is io.EOF only when the stream ends between two frames.
func (f *frameReader) header() (header, error) {
	for f.j-f.i < headerSize {
		if err := f.fill(); err != nil {
			if err == io.EOF && f.j > f.i {
				err = io.ErrUnexpectedEOF
			}
			return header{}, err
		}
	}
	h := parseHeader((*[headerSize]byte)(f.buf[f.i:]))
	f.i += headerSize
	return h, nil
}

// body fills dst with the next bytes.
func (f *frameReader) body(dst []byte) error {
	for {
		n := copy(dst, f.buf[f.i:f.j])
		f.i += n
		if dst = dst[n:]; len(dst) == 0 {
			return nil
		}
		var err error
		if len(dst) >= maxReadBuffer {
			_, err = io.ReadFull(f.r, dst)
			dst = dst[:0]
		} else {
			err = f.fill()
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
}

// bigBody returns the next n bytes, taking memory only as they arrive.
func (f *frameReader) bigBody(n int) ([]byte, error) {
	const step = 64 << 10
	body := make([]byte, 0, min(n, step))
	for len(body) < n {
		more := min(n-len(body), max(step, len(body)))
		have := len(body)
		if cap(body)-have < more {
			body = append(make([]byte, 0, have+more), body...)
		}
		body = body[:have+more]
		if err := f.body(body[have:]); err != nil {
			return nil, err
		}
	}
	return body, nil
}

// skip drops the next n bytes.
func (f *frameReader) skip(n int64) error {
	for {
		have := min(n, int64(f.j-f.i))
		f.i += int(have)
		if n -= have; n == 0 {
			return nil
		}
		if err := f.fill(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
}

// window remembers which request numbers of the remote side were used: exactly for the 1024 below the highest one, and
// everything further below counts as used. So a late frame of a finished stream is told from a new request without
// keeping anything per finished request, and peers whose requests overtake each other by a little are understood.
// Numbers run from 1 to 2^31-1 and begin again.
type window struct {
	high int64 // the highest number seen, counted on through every wrap; 0: none was seen
	bits [windowSize / 64]uint64
}

const (
	windowSize = 1024
	idPeriod   = 1<<31 - 1
)

// has reports whether id, which must be positive, is marked or too old to tell.
func (w window) has(id int32) bool { return !w.use(id) }

// use marks id, which must be positive, and says whether it was new.
func (w *window) use(id int32) bool {
	if w.high == 0 {
		w.high = idPeriod*4 + int64(id) // room below for those that come late
		w.set(w.high)
		return true
	}
	ahead := (int64(id) - w.high) % idPeriod
	if ahead < 0 {
		ahead += idPeriod
	}
	if ahead > 0 && ahead < idPeriod/2 {
		if ahead >= windowSize {
			w.bits = [windowSize / 64]uint64{}
		} else {
			for n := w.high + 1; n <= w.high+ahead; n++ {
				w.bits[n%windowSize/64] &^= 1 << (n % 64)
			}
		}
		w.high += ahead
		w.set(w.high)
		return true
	}
	behind := int64(0)
	if ahead > 0 {
		behind = idPeriod - ahead
	}
	n := w.high - behind
	if behind >= windowSize || w.bits[n%windowSize/64]&(1<<(n%64)) != 0 {
		return false
	}
	w.set(n)
	return true
}

func (w *window) set(n int64) { w.bits[n%windowSize/64] |= 1 << (n % 64) }
