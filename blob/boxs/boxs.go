// Package boxs makes and opens the encrypted blobs that links of the form "&ID.sha256?unbox=KEY.boxs" lead to. It is pure: bytes
// in, bytes out.
//
// Who has the link can read the blob; who only passes it on, by its id, cannot. Facts, from npm packages pull-box-stream (the
// form), ssb-blob-files and ssb-secret-blob (the key), ssb-ws and ssb-serve-blobs (the link):
//
//   - The blob is a box stream: packets of a 34-byte header, sealed, that holds the body's length and its tag, and the sealed body
//     of at most 4,096 bytes; then a header of zeros. The nonce, 24 bytes in big-endian order, begins at zero and grows by one
//     with each header and each body.
//   - The key is the SHA-256 of what is encrypted. The first nonce can be the same each time because no key is used for two
//     contents. The same content gives the same blob, so whoever has a content can find out who keeps it.
//   - In the link the key stands in base64, and what follows is ".boxs".
//
// A Reader can seek where the blob can: the headers, which say how long the bodies are, are opened on the way, one after the other.
package boxs

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/nacl/secretbox"

	"charkha/identity"
)

const (
	// maxBody is how long a body is at most as all known programs write it.
	maxBody    = 4096
	headSize   = 2 + secretbox.Overhead        // a body's length and tag
	headerSize = headSize + secretbox.Overhead // sealed
	suffix     = ".boxs"
)

// ErrKey: a text is no key. ErrDamaged: what is read is no box stream with this key.
var (
	ErrKey     = errors.New("not a key of 32 bytes in base64 and .boxs")
	ErrDamaged = errors.New("it is not encrypted with this key, or damaged")
)

// Key opens a blob.
type Key [32]byte

// ParseKey reads "<base64>.boxs"; the suffix and the padding may be missing. A space is taken for a '+', which a query may have
// made of it.
func ParseKey(text string) (key Key, err error) {
	text = strings.ReplaceAll(strings.TrimSuffix(text, suffix), " ", "+")
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(data) != len(key) {
		return key, ErrKey
	}
	return Key(data), nil
}

// Text is the key as it stands in a link.
func (k Key) Text() string { return base64.StdEncoding.EncodeToString(k[:]) + suffix }

// String hides the key: it must not come into a log.
func (Key) String() string { return "(key)" }

// Link is the link to an encrypted blob.
func Link(id identity.BlobID, key Key) string { return id.String() + "?unbox=" + key.Text() }

// ParseLink reads the link to a blob, as an id or an ssb: URI, with its key when it has one.
func ParseLink(text string) (id identity.BlobID, key *Key, err error) {
	if ref, uerr := identity.ParseURI(text); uerr == nil {
		if id, ok := ref.(identity.BlobID); ok {
			return id, nil, nil
		}
	}
	ref, query, err := identity.ParseLink(text)
	if err != nil {
		return id, nil, err
	}
	id, ok := ref.(identity.BlobID)
	if !ok {
		return id, nil, fmt.Errorf("%s is no blob", text)
	}
	if query.Has("unbox") {
		k, err := ParseKey(query.Get("unbox"))
		if err != nil {
			return id, nil, err
		}
		key = &k
	}
	return id, key, nil
}

// KeyFor is the key for a content.
func KeyFor(content io.Reader) (key Key, err error) {
	h := sha256.New()
	_, err = io.Copy(h, content)
	return Key(h.Sum(nil)), err
}

// nonceOf is the nth nonce after the first one.
func nonceOf(first *[24]byte, n uint64) *[24]byte {
	nonce := *first
	for i := len(nonce) - 1; i >= 0 && n > 0; i-- {
		n += uint64(nonce[i])
		nonce[i] = byte(n)
		n >>= 8
	}
	return &nonce
}

// Seal encrypts a content.
func Seal(w io.Writer, content io.Reader, key Key) error {
	return seal(w, content, key, [24]byte{})
}

func seal(w io.Writer, content io.Reader, key Key, nonce [24]byte) error {
	var plain [maxBody]byte
	boxed := make([]byte, 0, headerSize+secretbox.Overhead+maxBody)
	for n := uint64(0); ; n += 2 {
		size, err := io.ReadFull(content, plain[:])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		var head [headSize]byte // stays zero at the end
		var body []byte
		if size > 0 {
			body = secretbox.Seal(boxed[headerSize:headerSize], plain[:size], nonceOf(&nonce, n+1), (*[32]byte)(&key))
			binary.BigEndian.PutUint16(head[:], uint16(size))
			copy(head[2:], body)
			body = body[secretbox.Overhead:]
		}
		if _, err := w.Write(secretbox.Seal(boxed[:0], head[:], nonceOf(&nonce, n), (*[32]byte)(&key))); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
		if _, err := w.Write(body); err != nil {
			return err
		}
	}
}

// Reader is the content of an encrypted blob. It is for one goroutine.
type Reader struct {
	r     io.Reader
	key   Key
	nonce [24]byte // the first one

	// The packet whose header was opened last: its number, where that stands, and which byte of the content its first one is.
	packet uint64
	at     int64
	first  int64
	tag    [secretbox.Overhead]byte
	length int
	body   []byte // opened; nil: not yet
	last   bool   // it is the header of zeros: first is the size of the content
	buf    []byte // for sealed bodies
	plain  []byte // for bodies

	want int64 // the byte of the content that is read next
	err  error // sticks: of what is read, not of a seek to nowhere
}

// Open begins to read a blob, which is at its beginning. A key that is not this blob's is told at once, ErrDamaged. A blob that is an
// io.Seeker can be read in any order, others only forwards.
func Open(blob io.Reader, key Key) (*Reader, error) { return open(blob, key, [24]byte{}) }

func open(blob io.Reader, key Key, nonce [24]byte) (*Reader, error) {
	r := &Reader{r: blob, key: key, nonce: nonce}
	return r, r.header()
}

// jump goes to a place in the blob.
func (r *Reader) jump(to int64) error {
	s, ok := r.r.(io.Seeker)
	if !ok {
		return errors.New("boxs: this blob can only be read forwards")
	}
	_, err := s.Seek(to, io.SeekStart)
	return err
}

// header opens the header of the present packet, at which r.r stands.
func (r *Reader) header() error {
	var sealed [headerSize]byte
	if _, err := io.ReadFull(r.r, sealed[:]); err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it ends before its end", ErrDamaged)
	} else if err != nil {
		return err
	}
	var head [headSize]byte
	if _, ok := secretbox.Open(head[:0], sealed[:], nonceOf(&r.nonce, r.packet), (*[32]byte)(&r.key)); !ok {
		return ErrDamaged
	}
	r.body = nil
	if head == [headSize]byte{} {
		r.last = true
		return nil
	}
	r.length = int(binary.BigEndian.Uint16(head[:]))
	copy(r.tag[:], head[2:])
	if r.length > maxBody {
		return fmt.Errorf("%w: a packet of %d bytes", ErrDamaged, r.length)
	}
	return nil
}

// next goes on to the packet after the present one.
func (r *Reader) next() error {
	r.at += headerSize + int64(r.length)
	if r.body == nil {
		if err := r.jump(r.at); err != nil {
			return err
		}
	}
	r.first += int64(r.length)
	r.packet += 2
	return r.header()
}

// rewind goes back to the first packet.
func (r *Reader) rewind() error {
	r.packet, r.at, r.first, r.last, r.body, r.length = 0, 0, 0, false, nil, 0
	if err := r.jump(0); err != nil {
		return err
	}
	return r.header()
}

// unseal opens the body of the present packet.
func (r *Reader) unseal() error {
	if r.buf == nil {
		r.buf, r.plain = make([]byte, secretbox.Overhead+maxBody), make([]byte, 0, maxBody)
	}
	copy(r.buf, r.tag[:])
	sealed := r.buf[:secretbox.Overhead+r.length]
	if _, err := io.ReadFull(r.r, sealed[secretbox.Overhead:]); err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it ends before its end", ErrDamaged)
	} else if err != nil {
		return err
	}
	body, ok := secretbox.Open(r.plain[:0], sealed, nonceOf(&r.nonce, r.packet+1), (*[32]byte)(&r.key))
	if !ok {
		return ErrDamaged
	}
	r.body = body
	return nil
}

// Read reads on. Nothing is given that was not verified; io.EOF comes at the stream's own end only.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	if r.want < r.first {
		r.err = r.rewind()
	}
	for r.err == nil && !r.last && r.want >= r.first+int64(r.length) {
		r.err = r.next()
	}
	switch {
	case r.err == nil && r.last:
		return 0, io.EOF
	case r.err == nil && r.body == nil:
		r.err = r.unseal()
	}
	if r.err != nil {
		return 0, r.err
	}
	n := copy(p, r.body[r.want-r.first:])
	r.want += int64(n)
	return n, nil
}

// Seek says where to read on. To know the end, all headers are opened.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.want
	case io.SeekEnd:
		for r.err == nil && !r.last {
			r.err = r.next()
		}
		if r.err != nil {
			return 0, r.err
		}
		offset += r.first
	}
	if offset < 0 {
		return 0, errors.New("boxs: seek before the beginning")
	}
	r.want = offset
	return offset, nil
}
