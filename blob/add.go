package blob

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"charkha/identity"
)

const chunk = 128 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// Add reads a blob to its end and stores it. want is the id that it must have, nil when it may be any. When Add returns without an
// error the blob and why it is kept are on disk; otherwise nothing is left behind: ErrTooLarge (more than Options.Max was
// read), ErrWrongHash, ErrFull, what r or ctx said, or a failure of the disk. ctx is looked at between reads.
//
// A blob that is there already stays as it is, but is kept for the new reason, too: Own and Pinned are added, and who it
// counts for when that was nobody.
func (s *Store) Add(ctx context.Context, r io.Reader, want *identity.BlobID, why Why) (info Info, err error) {
	f, err := s.disk.create(s.half(), os.O_EXCL)
	if err != nil {
		return Info{}, fmt.Errorf("add a blob: %w", err)
	}
	kept := false
	defer func() {
		if !kept {
			s.discard(f)
		}
	}()
	buf := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buf)
	h := sha256.New()
	size := int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return Info{}, fmt.Errorf("add a blob: %w", context.Cause(ctx))
		}
		n, rerr := r.Read(buf[:])
		if int64(n) > s.o.Max-size {
			return Info{}, fmt.Errorf("add a blob: %w: more than %d bytes", ErrTooLarge, s.o.Max)
		}
		if n > 0 {
			if err := s.disk.writeAt(f, buf[:n], size); err != nil {
				return Info{}, fmt.Errorf("add a blob: %w", err)
			}
			h.Write(buf[:n])
			size += int64(n)
		}
		if rerr == io.EOF {
			break
		}
		if rerr != nil {
			return Info{}, fmt.Errorf("add a blob: %w", rerr)
		}
	}
	id := identity.BlobID(h.Sum(nil))
	if want != nil && *want != id {
		return Info{}, fmt.Errorf("blob %s: %w: %s came", *want, ErrWrongHash, id)
	}
	b, err := s.book(id, size, why)
	if err != nil {
		return Info{}, err
	}
	kept = true
	return s.keep(f, b)
}

// half is the name of a new half-written file.
func (s *Store) half() string { return filepath.Join(s.tmp, rand.Text()) }

// discard closes and removes a half-written file.
func (s *Store) discard(f *os.File) {
	f.Close()
	if err := s.disk.remove(f.Name()); err != nil {
		s.log.Warn("a half-written blob stays until the next start", "file", f.Name(), "err", err)
	}
}

// keep gives a blob that was written and hashed its name. The file is closed, and gone when there is an error; what was booked is
// not any more.
func (s *Store) keep(f *os.File, b *booking) (info Info, err error) {
	defer s.unbook(b)
	kept := false
	defer func() {
		if !kept {
			s.discard(f)
		}
	}()
	// What has a name in sha256 is whole, and has a record: both are on disk before the name is.
	if err := s.disk.sync(f); err != nil {
		return Info{}, fmt.Errorf("blob %s: %w", b.id, err)
	}
	s.shards[b.id[0]].Lock()
	defer s.shards[b.id[0]].Unlock()
	if s.whole(b.id) {
		return s.mark(b.id, func(r *record) {
			r.own, r.pinned = r.own || b.why.Own, r.pinned || b.why.Pinned
			if r.author.IsZero() {
				r.author = b.why.Author
			}
			if r.peer.IsZero() {
				r.peer = b.why.Peer
			}
		})
	}
	if err := s.begin(); err != nil {
		return Info{}, err
	}
	defer s.end()
	r := record{id: b.id, size: b.size, stored: max(0, s.o.Now().UnixMilli()), own: b.why.Own, pinned: b.why.Pinned,
		author: b.why.Author, peer: b.why.Peer}
	if err := s.known.append(&r, true); err != nil {
		return Info{}, fmt.Errorf("blob %s: %w", b.id, err)
	}
	if err := f.Close(); err != nil {
		return Info{}, fmt.Errorf("blob %s: %w", b.id, err)
	}
	path := s.path(b.id)
	err = s.makeShard(b.id[0])
	if err == nil {
		err = s.disk.rename(f.Name(), path)
	}
	if err == nil {
		err = s.disk.syncDir(filepath.Dir(path))
	}
	if err != nil {
		// When the rename took effect the blob is whole, but nobody was told that it is there.
		if rerr := s.disk.remove(path); rerr != nil {
			s.log.Warn("a blob that was refused is found by the next start", "blob", b.id, "err", rerr)
		}
		return Info{}, fmt.Errorf("blob %s: %w", b.id, err)
	}
	kept = true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unbookLocked(b)
	s.put(&r)
	close(s.news)
	s.news = make(chan struct{})
	return r.info(), nil
}
