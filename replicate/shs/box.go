package shs

import (
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/crypto/nacl/secretbox"
)

const (
	maxBody    = 4096
	headerSize = 2 + 2*secretbox.Overhead // the body's length and tag, and the tag of both
	packetSize = headerSize + maxBody
)

// direction is one half of a box stream: a key and the nonce of the next box.
type direction struct {
	key   [32]byte
	nonce [24]byte
}

// increment adds one to the big-endian nonce; after the last comes zero.
func increment(nonce *[24]byte) {
	for i := len(nonce) - 1; i >= 0; i-- {
		nonce[i]++
		if nonce[i] != 0 {
			return
		}
	}
}

// sealHeader writes the box of a header to dst, which has room, and returns its end.
func (d *direction) sealHeader(dst []byte, header *[2 + secretbox.Overhead]byte, nonce *[24]byte) []byte {
	return secretbox.Seal(dst, header[:], nonce, &d.key)
}

// seal appends one packet with the body p, 1 to 4096 bytes that do not overlap dst's array. Where dst has room for the
// packet nothing is allocated and p is read once.
func (d *direction) seal(dst, p []byte) []byte {
	nonce := d.nonce
	increment(&d.nonce)
	// The body's box goes where its tag takes the last bytes of the header. The tag moves into the header, which then is
	// sealed over it.
	const at = headerSize - secretbox.Overhead
	start := len(dst)
	dst = append(dst, make([]byte, at)...)
	dst = secretbox.Seal(dst, p, &d.nonce, &d.key)
	increment(&d.nonce)
	var header [2 + secretbox.Overhead]byte
	binary.BigEndian.PutUint16(header[:], uint16(len(p)))
	copy(header[2:], dst[start+at:])
	d.sealHeader(dst[:start], &header, &nonce)
	return dst
}

// goodbye appends the last packet.
func (d *direction) goodbye(dst []byte) []byte {
	nonce := d.nonce
	increment(&d.nonce)
	return d.sealHeader(dst, new([2 + secretbox.Overhead]byte), &nonce)
}

// opener takes packets apart: header, body, header, body. It is fed by whoever owns the buffer.
//
// Between header and body the body's tag lies in the buffer, over the end of the header: the buffer has to keep its bytes
// from step to step, though not their place.
type opener struct {
	direction
	inBody bool // a header was opened, its body comes next
	body   int  // how long that is
}

// need is how many bytes must be at the front of the buffer for the next step.
func (o *opener) need() int {
	if o.inBody {
		return secretbox.Overhead + o.body
	}
	return headerSize
}

// header opens the header at the front of buf and returns what is left: the body's tag and what came after the header.
// io.EOF is the goodbye. Any error is final.
func (o *opener) header(buf []byte) (rest []byte, err error) {
	var header [2 + secretbox.Overhead]byte
	if _, ok := secretbox.Open(header[:0], buf[:headerSize], &o.nonce, &o.key); !ok {
		return buf, fmt.Errorf("%w: a header does not verify", ErrDamaged)
	}
	increment(&o.nonce)
	if header == [len(header)]byte{} {
		return buf[headerSize:], io.EOF
	}
	o.body = int(binary.BigEndian.Uint16(header[:]))
	if o.body > maxBody {
		return buf, fmt.Errorf("%w: a body of %d bytes, more than %d", ErrDamaged, o.body, maxBody)
	}
	o.inBody = true
	buf = buf[headerSize-secretbox.Overhead:]
	copy(buf, header[2:])
	return buf, nil
}

// open appends the body at the front of buf to dst, whose array does not overlap buf, and returns what is left of buf. An
// error is final, and nothing was appended.
func (o *opener) open(dst, buf []byte) (plain, rest []byte, err error) {
	n := o.need()
	plain, ok := secretbox.Open(dst, buf[:n], &o.nonce, &o.key)
	if !ok {
		return dst, buf, fmt.Errorf("%w: a body does not verify", ErrDamaged)
	}
	increment(&o.nonce)
	o.inBody = false
	return plain, buf[n:], nil
}
