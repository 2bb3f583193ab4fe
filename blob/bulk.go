package blob

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

const (
	// bulkSize is how much of a large blob is written at once: each write waits for the disk, so it should be worth it.
	bulkSize = 1 << 20
	// bulkAlign is what places, sizes and memory of such writes have to be multiples of. No usual file system asks for more.
	bulkAlign = 4 << 10
	// bulkFrom is the size from which on a blob is large. A smaller one, such as a picture, is likely to be looked at soon, from
	// the page cache; of a large one new pages there cost more than all else that the disk takes of the processor.
	bulkFrom = 8 << 20
	// maxBulks is how many blobs at once have a buffer for that. The others go through the page cache.
	maxBulks = 4
)

// bulk writes bytes of a file that come in order in large pieces, past the page cache.
type bulk struct {
	disk  disk
	plain *os.File // for what is not a whole piece
	file  *os.File // the same, opened for that; nil: the file system has refused it
	buf   []byte   // bytes that are not written yet, with room for a piece
	at    int64    // where they belong, a multiple of bulkAlign

	// beside is held for reading by who writes other bytes through the page cache, and for writing by who writes past it: Linux
	// promises nothing of pages that are changed in one way and in the other at the same time.
	beside sync.RWMutex
}

// newBulk returns nil when direct does not open f to be written so. size is that of a piece, a multiple of bulkAlign.
func newBulk(d disk, f *os.File, size int, direct func(path string) (*os.File, error)) *bulk {
	file, err := direct(f.Name())
	if err != nil {
		return nil
	}
	buf := make([]byte, size+bulkAlign)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(buf))) % bulkAlign)
	return &bulk{disk: d, plain: f, file: file, buf: buf[skip : skip : skip+size]}
}

// writeAt takes bytes, which are in the file after flush. p is not kept.
func (b *bulk) writeAt(p []byte, off int64) error {
	if off != b.at+int64(len(b.buf)) {
		if err := b.flush(); err != nil {
			return err
		}
		if head := min(int64(len(p)), -off&(bulkAlign-1)); head > 0 {
			if err := b.disk.writeAt(b.plain, p[:head], off); err != nil {
				return err
			}
			p, off = p[head:], off+head
		}
		b.at = off
	}
	for len(p) > 0 {
		n := copy(b.buf[len(b.buf):cap(b.buf)], p)
		b.buf, p = b.buf[:len(b.buf)+n], p[n:]
		if len(b.buf) == cap(b.buf) {
			if err := b.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes what waits: whole blocks past the page cache, when the file system allows it.
func (b *bulk) flush() error {
	blocks := 0
	if b.file != nil {
		blocks = len(b.buf) / bulkAlign * bulkAlign
	}
	if blocks > 0 {
		b.beside.Lock()
		err := b.disk.writeAt(b.file, b.buf[:blocks], b.at)
		b.beside.Unlock()
		if errors.Is(err, syscall.EINVAL) {
			b.close()
			blocks = 0
		} else if err != nil {
			return err
		}
	}
	if blocks < len(b.buf) {
		if err := b.disk.writeAt(b.plain, b.buf[blocks:], b.at+int64(blocks)); err != nil {
			return err
		}
	}
	b.at, b.buf = b.at+int64(len(b.buf)), b.buf[:0]
	return nil
}

// close ends writing past the page cache.
func (b *bulk) close() {
	if b.file != nil {
		b.file.Close()
		b.file = nil
	}
}
