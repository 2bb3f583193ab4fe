package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"charkha/identity"
)

// Receiving is a blob that is coming in, from one peer or in pieces from several. It ends with Commit or Abort.
type Receiving struct {
	s    *Store
	b    *booking
	file *os.File

	// io is held for reading by writers, and for writing by who ends it.
	io sync.RWMutex

	mu      sync.Mutex
	ended   bool
	err     error // of a write; nothing comes after it
	spans   []span
	hash    hash.Hash // of the bytes before hashed; used by who set hashing
	hashed  int64
	hashing bool
	bulk    *bulk // of a large blob, else nil; used by who set hashing, and by who ends it
}

// span is bytes that came, or are being written: from from up to before to.
type span struct {
	from, to int64
	done     bool
}

// Receive begins to take in a blob of a size that a peer told, in bytes. Room for it in the budget is made first, so that
// others may leave for it. Errors: ErrTooLarge, ErrFull, fs.ErrExist when it is there already.
func (s *Store) Receive(id identity.BlobID, size int64, why Why) (*Receiving, error) {
	if size < 0 || size > s.o.Max {
		return nil, fmt.Errorf("blob %s: %w: %d bytes, at most %d", id, ErrTooLarge, size, s.o.Max)
	}
	s.mu.Lock()
	_, held := s.slots[id]
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, os.ErrClosed
	}
	if held {
		return nil, fmt.Errorf("blob %s: %w", id, fs.ErrExist)
	}
	b, err := s.book(id, size, why)
	if err != nil {
		return nil, err
	}
	f, err := s.disk.create(s.half(), os.O_EXCL)
	if err != nil {
		s.unbook(b)
		return nil, fmt.Errorf("blob %s: %w", id, err)
	}
	r := &Receiving{s: s, b: b, file: f, hash: sha256.New()}
	if size >= s.o.bulkFrom {
		select {
		case s.bulks <- struct{}{}:
			if r.bulk = newBulk(s.disk, f, s.o.bulkSize, s.o.direct); r.bulk == nil {
				<-s.bulks
			}
		default:
		}
	}
	return r, nil
}

// WriteAt takes in the bytes from off on. It may be called at the same time by many, in any order. Of bytes that came already the
// first ones stay, so that each byte is written once, and what was hashed is what is in the file. Beyond the size nothing is
// taken: ErrTooLarge. After a failure of the disk nothing is taken any more. p is not kept.
func (r *Receiving) WriteAt(p []byte, off int64) (int, error) {
	r.io.RLock()
	defer r.io.RUnlock()
	if off < 0 || off > r.b.size || int64(len(p)) > r.b.size-off {
		return 0, fmt.Errorf("blob %s: %w: bytes %d to %d of %d", r.b.id, ErrTooLarge, off, off+int64(len(p)), r.b.size)
	}
	r.mu.Lock()
	if err := r.over(); err != nil {
		r.mu.Unlock()
		return 0, err
	}
	free := r.claim(off, off+int64(len(p)))
	if len(free) == 1 && r.bulk != nil && !r.hashing && free[0].from == r.hashed {
		defer r.mu.Unlock()
		return len(p), r.inOrder(p[free[0].from-off:free[0].to-off], free[0])
	}
	r.mu.Unlock()
	for _, f := range free {
		if err := r.writePlain(p[f.from-off:f.to-off], f.from); err != nil {
			err = fmt.Errorf("blob %s: %w", r.b.id, err)
			r.mu.Lock()
			r.err = err
			r.mu.Unlock()
			return 0, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range free {
		r.wrote(f)
	}
	for _, f := range free {
		if !r.hashing && f.from <= r.hashed && r.hashed < f.to {
			at := r.hashed
			r.hashing = true
			r.mu.Unlock()
			r.hash.Write(p[at-off : f.to-off]) // still in the processor's cache
			r.mu.Lock()
			r.hashing, r.hashed = false, f.to
		}
	}
	return len(p), r.catchUp(context.Background())
}

func (r *Receiving) writePlain(p []byte, off int64) error {
	if r.bulk != nil {
		r.bulk.beside.RLock()
		defer r.bulk.beside.RUnlock()
	}
	return r.s.disk.writeAt(r.file, p, off)
}

// inOrder takes in the bytes of a large blob that are next to be hashed. They are hashed before they are written: when that fails,
// nothing is kept. mu is held, and not while it writes.
func (r *Receiving) inOrder(p []byte, f span) error {
	r.hashing = true
	r.mu.Unlock()
	r.hash.Write(p)
	err := r.bulk.writeAt(p, f.from)
	r.mu.Lock()
	r.hashing = false
	if err != nil {
		r.err = fmt.Errorf("blob %s: %w", r.b.id, err)
		return r.err
	}
	r.hashed = f.to
	r.wrote(f)
	return r.catchUp(context.Background())
}

// over says why nothing is taken any more. mu is held.
func (r *Receiving) over() error {
	if r.ended {
		return fmt.Errorf("blob %s: %w", r.b.id, os.ErrClosed)
	}
	return r.err
}

// claim notes the bytes from from to to as being written, where they did not come yet, and returns these. mu is held.
func (r *Receiving) claim(from, to int64) (free []span) {
	i, _ := slices.BinarySearchFunc(r.spans, from, func(s span, at int64) int {
		if s.to <= at {
			return -1
		}
		return 1
	})
	for from < to {
		end := to
		if i < len(r.spans) {
			if s := r.spans[i]; s.from <= from {
				from = s.to
				i++
				continue
			}
			end = min(end, r.spans[i].from)
		}
		free = append(free, span{from: from, to: end})
		r.spans = slices.Insert(r.spans, i, span{from: from, to: end})
		from = end
		i++
	}
	return free
}

// wrote notes that claimed bytes are in the file. Neighbours become one. mu is held.
func (r *Receiving) wrote(f span) {
	i := slices.Index(r.spans, f)
	r.spans[i].done = true
	if i+1 < len(r.spans) && r.spans[i+1].done && r.spans[i+1].from == f.to {
		r.spans[i].to = r.spans[i+1].to
		r.spans = slices.Delete(r.spans, i+1, i+2)
	}
	if i > 0 && r.spans[i-1].done && r.spans[i-1].to == f.from {
		r.spans[i-1].to = r.spans[i].to
		r.spans = slices.Delete(r.spans, i, i+1)
	}
}

// prefix is how many bytes are there from the first on. mu is held.
func (r *Receiving) prefix() int64 {
	if len(r.spans) > 0 && r.spans[0].from == 0 && r.spans[0].done {
		return r.spans[0].to
	}
	return 0
}

// catchUp hashes from the file what came before its turn, unless somebody else is hashing, who goes on then. mu is held, and
// not while it reads.
func (r *Receiving) catchUp(ctx context.Context) error {
	if r.hashing || r.prefix() <= r.hashed {
		return nil
	}
	r.hashing = true
	defer func() { r.hashing = false }()
	buf := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buf)
	for r.hashed < r.prefix() {
		p := buf[:min(chunk, r.prefix()-r.hashed)]
		at := r.hashed
		r.mu.Unlock()
		_, err := r.file.ReadAt(p, at)
		if err == nil {
			r.hash.Write(p)
			err = ctx.Err()
		}
		r.mu.Lock()
		if err != nil {
			r.err = fmt.Errorf("blob %s: %w", r.b.id, err)
			return r.err
		}
		r.hashed = at + int64(len(p))
	}
	return nil
}

// Commit stores the blob, when all bytes came and are what its id says: then it is on disk. Otherwise nothing is left behind:
// ErrWrongHash, io.ErrUnexpectedEOF with the first bytes that are missing, or what the disk or ctx said. It ends the receiving
// either way.
func (r *Receiving) Commit(ctx context.Context) (Info, error) {
	r.io.Lock()
	defer r.io.Unlock()
	err := r.finish(ctx)
	if errors.Is(err, os.ErrClosed) {
		return Info{}, err
	}
	r.unbulk()
	if err != nil {
		r.discard()
		return Info{}, err
	}
	return r.s.keep(r.file, r.b)
}

// finish ends the receiving and says why it cannot be kept.
func (r *Receiving) finish(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return fmt.Errorf("blob %s: %w", r.b.id, os.ErrClosed)
	}
	r.ended = true
	if r.err != nil {
		return r.err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("blob %s: %w", r.b.id, context.Cause(ctx))
	}
	if at := r.prefix(); at < r.b.size {
		to := r.b.size
		if i := slices.IndexFunc(r.spans, func(s span) bool { return s.from > at }); i >= 0 {
			to = r.spans[i].from
		}
		return fmt.Errorf("blob %s: bytes %d to %d have not come: %w", r.b.id, at, to, io.ErrUnexpectedEOF)
	}
	if err := r.catchUp(ctx); err != nil {
		return err
	}
	if r.bulk != nil {
		if err := r.bulk.flush(); err != nil {
			return fmt.Errorf("blob %s: %w", r.b.id, err)
		}
	}
	if id := identity.BlobID(r.hash.Sum(nil)); id != r.b.id {
		return fmt.Errorf("blob %s: %w: %s came", r.b.id, ErrWrongHash, id)
	}
	return nil
}

// Abort gives up. After Commit it does nothing, so that it can be deferred.
func (r *Receiving) Abort() {
	r.io.Lock()
	defer r.io.Unlock()
	r.mu.Lock()
	ended := r.ended
	r.ended = true
	r.mu.Unlock()
	if !ended {
		r.discard()
	}
}

// unbulk ends what writes a large blob. What it has not written is lost.
func (r *Receiving) unbulk() {
	if r.bulk != nil {
		r.bulk.close()
		r.bulk = nil
		<-r.s.bulks
	}
}

func (r *Receiving) discard() {
	r.unbulk()
	r.s.discard(r.file)
	r.s.unbook(r.b)
}
