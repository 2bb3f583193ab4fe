package blob

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"charkha/identity"
)

// refusedMost is how many refused blobs are remembered; of more, the one refused first is forgotten.
const refusedMost = 10_000

// Refuse remembers that somebody here does not want to have a blob, or no longer: Wants is false for it unless somebody asks for
// it, so that neither a message that links it nor a peer who wants it brings it here. It is durable when Refuse returns. What is
// here stays; see Remove. The file has an id on each line.
func (s *Store) Refuse(id identity.BlobID, refuse bool) error {
	s.refusing.Lock()
	defer s.refusing.Unlock()
	s.mu.Lock()
	closed, at := s.closed, slices.Index(s.refused, id)
	list := slices.Clone(s.refused)
	s.mu.Unlock()
	switch {
	case closed:
		return os.ErrClosed
	case refuse == (at >= 0):
		return nil
	case refuse:
		if list = append(list, id); len(list) > refusedMost {
			list = list[1:]
		}
	default:
		list = slices.Delete(list, at, at+1)
	}
	var text []byte
	for _, id := range list {
		text = append(append(text, id.String()...), '\n')
	}
	if err := s.replace("refused", text); err != nil {
		return fmt.Errorf("blob: refused: %w", err)
	}
	s.mu.Lock()
	s.refused = list
	s.mu.Unlock()
	return nil
}

// Refused reports whether a blob is refused.
func (s *Store) Refused(id identity.BlobID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.refused, id)
}

// loadRefused reads what was refused. What is no id in the file is told in the log, and left out.
func (s *Store) loadRefused() error {
	text, err := os.ReadFile(filepath.Join(s.o.Dir, "refused"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		id, err := identity.ParseBlobID(bytes.TrimSpace(line))
		if err != nil {
			s.log.Warn("what is refused cannot be read in part", "err", err)
		} else if len(s.refused) < refusedMost {
			s.refused = append(s.refused, id)
		}
	}
	return nil
}

// replace writes a file in the folder anew: it is there as it was, or as it shall be.
func (s *Store) replace(name string, data []byte) (err error) {
	f, err := os.CreateTemp(s.tmp, name)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // perhaps again
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(s.disk.writeAt(f, data, 0), s.disk.sync(f), f.Close()); err != nil {
		return err
	}
	if err := s.disk.rename(f.Name(), filepath.Join(s.o.Dir, name)); err != nil {
		return err
	}
	return s.disk.syncDir(s.o.Dir)
}
