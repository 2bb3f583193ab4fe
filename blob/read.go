package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"charkha/identity"
)

// Reader reads a blob. ReadAt may be called at the same time by many. A blob that is removed meanwhile can be read to its end.
type Reader struct {
	file *os.File
	size int64
}

// Size is the blob's, in bytes.
func (r *Reader) Size() int64 { return r.size }

// ReadAt is io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) { return r.file.ReadAt(p, off) }

// Read is io.Reader.
func (r *Reader) Read(p []byte) (int, error) { return r.file.Read(p) }

// Seek is io.Seeker.
func (r *Reader) Seek(offset int64, whence int) (int64, error) { return r.file.Seek(offset, whence) }

// Close closes the file.
func (r *Reader) Close() error { return r.file.Close() }

// Read opens a blob for a peer: that does not count as use. fs.ErrNotExist: it is not there.
func (s *Store) Read(id identity.BlobID) (*Reader, error) {
	s.mu.Lock()
	slot, ok := s.slots[id]
	var size int64
	if ok {
		size = int64(s.entries[slot].size)
	}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, os.ErrClosed
	}
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", id, fs.ErrNotExist)
	}
	f, err := os.Open(s.path(id))
	if err == nil {
		var st fs.FileInfo
		if st, err = f.Stat(); err == nil && st.Mode().IsRegular() && st.Size() == size {
			return &Reader{f, size}, nil
		}
		f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", id, err)
	}
	// It left just now, or somebody else changed the folder.
	s.shards[id[0]].Lock()
	defer s.shards[id[0]].Unlock()
	s.whole(id)
	return nil, fmt.Errorf("blob %s: %w", id, fs.ErrNotExist)
}

// Open opens a blob for somebody here: it counts as used now. fs.ErrNotExist: it is not there. It is a *Reader.
func (s *Store) Open(ctx context.Context, id identity.BlobID) (io.ReadSeekCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("blob %s: %w", id, err)
	}
	r, err := s.Read(id)
	if err != nil {
		return nil, err
	}
	s.use(id)
	return r, nil
}

// use notes that a blob was opened. It is written once an hour: what a crash takes of that matters little.
func (s *Store) use(id identity.BlobID) {
	const hour = int64(time.Hour / time.Millisecond)
	now := max(0, s.o.Now().UnixMilli())
	s.mu.Lock()
	slot, ok := s.slots[id]
	write := false
	if ok {
		e := &s.entries[slot]
		write = e.opened/hour != now/hour
		s.count(slot, -1)
		e.opened = max(e.opened, now)
		s.count(slot, 1)
	}
	s.mu.Unlock()
	if !write {
		return
	}
	s.shards[id[0]].Lock()
	defer s.shards[id[0]].Unlock()
	if err := s.begin(); err != nil {
		return
	}
	defer s.end()
	s.mu.Lock()
	slot, ok = s.slots[id]
	var r record
	if ok {
		r = s.record(slot)
	}
	s.mu.Unlock()
	if ok {
		if err := s.known.append(&r, false); err != nil {
			s.log.Warn("when a blob was opened is not written", "blob", id, "err", err)
		}
	}
}

// whole reports whether a blob is there. One whose file is gone or has another size is not any more, which the log is told. Its
// shard is held.
func (s *Store) whole(id identity.BlobID) bool {
	s.mu.Lock()
	slot, ok := s.slots[id]
	var size int64
	if ok {
		size = int64(s.entries[slot].size)
	}
	s.mu.Unlock()
	if !ok {
		return false
	}
	st, err := os.Lstat(s.path(id))
	if err == nil && st.Mode().IsRegular() && st.Size() == size {
		return true
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true // the disk is broken; what is there is not known
	}
	s.log.Warn("somebody else removed or changed a blob", "blob", id)
	if err := s.drop(id); err != nil {
		s.log.Warn("a damaged blob does not leave", "blob", id, "err", err)
	}
	return false
}
