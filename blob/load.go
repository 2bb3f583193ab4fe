package blob

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"charkha/identity"
)

// folder is where the blobs lie whose ids begin with b.
func (s *Store) folder(b byte) string {
	return filepath.Join(s.o.Dir, "sha256", hex.EncodeToString([]byte{b}))
}

// path is where a blob lies: sha256/ab/cdef..., as npm multiblob names it.
func (s *Store) path(id identity.BlobID) string {
	return filepath.Join(s.folder(id[0]), hex.EncodeToString(id[1:]))
}

// parseName reads the name of a blob's file in the folder of those whose ids begin with b.
func parseName(b byte, name string) (id identity.BlobID, ok bool) {
	if len(name) != 2*len(id)-2 {
		return id, false
	}
	id[0] = b
	if n, err := hex.Decode(id[1:], []byte(name)); err != nil || n != len(id)-1 {
		return id, false
	}
	return id, hex.EncodeToString(id[1:]) == name // no capitals
}

// parseFolder reads the name of a folder of blobs.
func parseFolder(name string) (b byte, ok bool) {
	text, err := hex.DecodeString(name)
	if err != nil || len(text) != 1 || hex.EncodeToString(text) != name {
		return 0, false
	}
	return text[0], true
}

// load reads what is there. Nobody else has the store yet.
func (s *Store) load() error {
	if err := s.clean(s.tmp); err != nil {
		return err
	}
	if _, err := os.Lstat(s.known.next()); err == nil {
		if err := s.odd(s.known.next(), "half-written"); err != nil {
			return err
		}
	}
	many := s.known.guess()
	records := make([]record, 0, many) // the last one of each blob, in the order of their first ones
	at := make(map[identity.BlobID]uint32, many)
	fresh, bad, err := s.known.read(func(r record) {
		if n, ok := at[r.id]; ok {
			records[n] = r
			return
		}
		at[r.id] = uint32(len(records))
		records = append(records, r)
	})
	if err != nil {
		return err
	}
	held := make([]bool, len(records))
	var unknown []identity.BlobID
	if err := s.scan(func(id identity.BlobID) error {
		n, ok := at[id]
		if ok && s.o.Check {
			if _, err := s.hash(id); err != nil {
				return s.setAside(id, err)
			}
		}
		if ok {
			held[n] = true
		} else {
			unknown = append(unknown, id)
		}
		return nil
	}); err != nil {
		return err
	}
	at = nil
	if bad > 0 {
		s.log.Warn("what is known of blobs was damaged", "records", bad, "unknown", len(unknown))
	}
	n := 0
	for i := range records {
		if held[i] {
			records[n] = records[i]
			n++
		}
	}
	records = records[:n]
	s.fill(records)
	adopted := 0
	for _, id := range unknown {
		ok, err := s.adopt(id)
		if err != nil {
			return err
		}
		if ok {
			adopted++
		}
	}
	if adopted > 0 {
		s.log.Warn("blobs of which nothing was known are pinned", "blobs", adopted)
	}
	if fresh || bad > 0 || adopted > 0 || s.known.file == nil || s.known.records() > 2*int64(len(s.slots))+s.o.slack/2 {
		return s.rewrite()
	}
	return nil
}

// fill takes the blobs that are there into memory: numbered in order of arrival, listed by last use.
func (s *Store) fill(records []record) {
	slices.SortStableFunc(records, func(a, b record) int { return cmp.Compare(a.stored, b.stored) })
	byUse := make([]uint32, len(records))
	for i := range byUse {
		byUse[i] = uint32(i)
	}
	slices.SortStableFunc(byUse, func(a, b uint32) int {
		return cmp.Compare(max(records[a].stored, records[a].opened), max(records[b].stored, records[b].opened))
	})
	s.entries = make([]entry, len(records)+1, len(records)+len(records)/8+1)
	s.slots = make(map[identity.BlobID]uint32, len(records))
	for _, i := range byUse {
		slot := i + 1 // and the number of its arrival
		s.entries[slot] = records[i].entry(&s.people, uint64(slot))
		s.slots[records[i].id] = slot
		s.count(slot, 1)
	}
	s.order = make([]arrival, 0, cap(s.entries))
	for i := range records {
		s.order = append(s.order, arrival{uint64(i + 1), uint32(i + 1)})
	}
	s.arrived = uint64(len(records))
}

func (r *record) entry(p *people, seq uint64) entry {
	return entry{id: r.id, stored: r.stored, opened: r.opened, seq: seq, size: uint32(r.size), own: r.own, pinned: r.pinned,
		author: p.use(r.author), peer: p.use(r.peer)}
}

// clean empties a folder, or makes it.
func (s *Store) clean(dir string) error {
	if err := s.makeFolder(dir); err != nil {
		return err
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if err := s.odd(filepath.Join(dir, e.Name()), "half-written"); err != nil {
			return err
		}
	}
	return nil
}

// makeFolder makes a folder that is not there. One that is a link to elsewhere is refused: what is in it could not be moved in
// one step.
func (s *Store) makeFolder(dir string) error {
	st, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.disk.mkdir(dir); err != nil {
			return err
		}
		return s.disk.syncDir(filepath.Dir(dir))
	}
	if err == nil && !st.IsDir() {
		return fmt.Errorf("%s is no folder; the whole folder %s may be a link, but nothing in it", dir, s.o.Dir)
	}
	return err
}

// odd removes what does not belong there, and tells it. Links are not followed.
func (s *Store) odd(path, why string) error {
	s.log.Warn("removed from among the blobs", "file", path, "why", why)
	return s.disk.step("remove", path, func() error { return os.RemoveAll(path) })
}

// scan tells of each file that has a blob's name, and removes everything else.
func (s *Store) scan(each func(identity.BlobID) error) error {
	dir := filepath.Join(s.o.Dir, "sha256")
	if err := s.makeFolder(dir); err != nil {
		return err
	}
	folders, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range folders {
		path := filepath.Join(dir, e.Name())
		b, ok := parseFolder(e.Name())
		if !ok || !e.IsDir() {
			if err := s.odd(path, strange(e, true)); err != nil {
				return err
			}
			continue
		}
		s.made[b] = true
		if err := s.scanFolder(path, b, each); err != nil {
			return err
		}
	}
	return s.disk.syncDir(dir) // a crash may have left folders whose names are not on disk
}

// makeShard makes the folder of the blobs whose ids begin with b, when it is not there. The shard is held.
func (s *Store) makeShard(b byte) error {
	if s.made[b] {
		return nil
	}
	path := s.folder(b)
	if err := s.disk.mkdir(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.disk.syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	s.made[b] = true
	return nil
}

func (s *Store) scanFolder(path string, b byte, each func(identity.BlobID) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		files, err := f.ReadDir(1024)
		for _, e := range files {
			id, ok := parseName(b, e.Name())
			var err error
			if ok && e.Type().IsRegular() {
				err = each(id)
			} else {
				err = s.odd(filepath.Join(path, e.Name()), strange(e, false))
			}
			if err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// strange says what is wrong with a file or folder among the blobs.
func strange(e fs.DirEntry, folder bool) string {
	switch {
	case e.Type()&fs.ModeSymlink != 0:
		return "a symbolic link"
	case e.IsDir() != folder, !folder && !e.Type().IsRegular():
		return "not a file of a blob"
	}
	return "not a name of a blob"
}

// hash reads a file among the blobs, and tells how large it is. ErrWrongHash: it is not the blob of its name.
func (s *Store) hash(id identity.BlobID) (size int64, err error) {
	f, err := os.Open(s.path(id))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, io.LimitReader(f, limit+1))
	if err == nil && (size > limit || identity.BlobID(h.Sum(nil)) != id) {
		err = ErrWrongHash
	}
	return size, err
}

// setAside takes a damaged file from among the blobs and keeps it under its id: it may be the only copy.
func (s *Store) setAside(id identity.BlobID, why error) error {
	from, dir := s.path(id), filepath.Join(s.o.Dir, "damaged")
	if err := s.makeFolder(dir); err != nil {
		return err
	}
	to := filepath.Join(dir, hex.EncodeToString(id[:]))
	s.log.Warn("damaged blob set aside", "blob", id, "file", to, "err", why)
	return errors.Join(s.disk.rename(from, to), s.disk.syncDir(dir), s.disk.syncDir(filepath.Dir(from)))
}

// adopt takes in a file of which nothing is known, when it is what its name says, and otherwise removes it, or with Options.Check sets
// it aside.
func (s *Store) adopt(id identity.BlobID) (bool, error) {
	size, err := s.hash(id)
	if errors.Is(err, ErrWrongHash) && s.o.Check {
		return false, s.setAside(id, err)
	}
	if errors.Is(err, ErrWrongHash) {
		return false, s.odd(s.path(id), "not the blob of its name")
	}
	if err != nil {
		return false, err // the disk is broken rather than the blob
	}
	// It may have been copied here a moment ago.
	f, err := os.Open(s.path(id))
	if err != nil {
		return false, err
	}
	st, err := f.Stat()
	if err := errors.Join(err, s.disk.sync(f), f.Close(), s.disk.syncDir(s.folder(id[0]))); err != nil {
		return false, err
	}
	s.put(&record{id: id, size: size, stored: max(0, st.ModTime().UnixMilli()), pinned: true})
	return true, nil
}
