package blob

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"charkha/identity"
)

// journal is the file "known": what is known of each blob besides its bytes.
//
// It is a row of records of recordSize bytes, each with a checksum. The last one of a blob counts. Records are only appended,
// into room that was filled with zeros before: so a sync writes one block and no size. When most records are old ones, the
// file is written anew and renamed. The first record names the version of the format.
type journal struct {
	disk disk
	path string

	mu      sync.Mutex // held while records are written
	file    *os.File
	end     int64 // where the next record begins
	size    int64 // of the file; zeros from end on
	lost    error // a sync failed: what is on disk is not known any more, and the file must be written anew
	syncing sync.Mutex
	synced  int64 // up to which the records are on disk; under syncing and mu
}

const (
	recordSize    = 128
	growth        = 512 * recordSize
	formatVersion = 1

	versionRecord = 'v'
	blobRecord    = 'b'

	flagOwn    = 1
	flagPinned = 2
)

// record is what is known of one blob.
type record struct {
	id             identity.BlobID
	size           int64
	stored, opened int64 // ms since 1970; opened is 0 when it never was
	own, pinned    bool
	author, peer   identity.ID
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errRecord  = errors.New("not a record")
)

// appendTo appends the record's bytes: a CRC-32C of the rest, the kind, flags, two zeros, size, stored and opened in 8 bytes each,
// the blob's id, the author, the peer.
func (r *record) appendTo(b []byte) []byte {
	var flags byte
	if r.own {
		flags |= flagOwn
	}
	if r.pinned {
		flags |= flagPinned
	}
	at := len(b)
	b = append(b, 0, 0, 0, 0, blobRecord, flags, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(r.size))
	b = binary.BigEndian.AppendUint64(b, uint64(r.stored))
	b = binary.BigEndian.AppendUint64(b, uint64(r.opened))
	b = append(b, r.id[:]...)
	b = append(b, r.author[:]...)
	b = append(b, r.peer[:]...)
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli))
	return b
}

// parseRecord reads one record.
func parseRecord(b []byte) (r record, err error) {
	if len(b) != recordSize || crc32.Checksum(b[4:], castagnoli) != binary.BigEndian.Uint32(b) {
		return record{}, errRecord
	}
	flags := b[5]
	r.size = int64(binary.BigEndian.Uint64(b[8:]))
	r.stored = int64(binary.BigEndian.Uint64(b[16:]))
	r.opened = int64(binary.BigEndian.Uint64(b[24:]))
	if b[4] != blobRecord || flags&^(flagOwn|flagPinned) != 0 || b[6] != 0 || b[7] != 0 ||
		r.size < 0 || r.size > limit || r.stored < 0 || r.opened < 0 {
		return record{}, errRecord
	}
	r.own, r.pinned = flags&flagOwn != 0, flags&flagPinned != 0
	copy(r.id[:], b[32:])
	copy(r.author[:], b[64:])
	copy(r.peer[:], b[96:])
	return r, nil
}

// appendVersion appends the first record.
func appendVersion(b []byte) []byte { return appendVersionOf(b, formatVersion) }

func appendVersionOf(b []byte, version byte) []byte {
	at := len(b)
	b = append(b, make([]byte, recordSize)...)
	b[at+4], b[at+5] = versionRecord, version
	copy(b[at+8:], "what Charkha knows of its blobs")
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli))
	return b
}

// readJournal reads records in their order. bad counts places that hold neither a record nor zeros, and end is where the last
// record ends. An error that is not of reading says that a later version wrote it.
func readJournal(r io.Reader, each func(record)) (end int64, bad int, err error) {
	in := bufio.NewReaderSize(r, 1<<20)
	var b [recordSize]byte
	for at := int64(0); ; at += recordSize {
		_, err := io.ReadFull(in, b[:])
		if err == io.ErrUnexpectedEOF {
			return end, bad + 1, nil
		}
		if err == io.EOF {
			return end, bad, nil
		}
		if err != nil {
			return end, bad, err
		}
		if b == [recordSize]byte{} {
			continue
		}
		if rec, err := parseRecord(b[:]); err == nil {
			each(rec)
		} else if b[4] != versionRecord || crc32.Checksum(b[4:], castagnoli) != binary.BigEndian.Uint32(b[:]) {
			bad++
			continue
		} else if b[5] != formatVersion {
			return end, bad, fmt.Errorf("version %d of the file of blobs is not known: a later Charkha wrote it", b[5])
		}
		end = at + recordSize
	}
}

// guess is about how many blobs the file tells of, for tables that grow no further then.
func (j *journal) guess() int64 {
	st, err := os.Stat(j.path)
	if err != nil {
		return 0
	}
	return min(st.Size()/recordSize, 1<<20)
}

// read reads the journal that is there. When fresh, there is none.
func (j *journal) read(each func(record)) (fresh bool, bad int, err error) {
	f, err := os.OpenFile(j.path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return true, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", j.path)
	}
	var end int64
	if err == nil {
		end, bad, err = readJournal(f, each)
	}
	if err != nil {
		return false, bad, errors.Join(err, f.Close())
	}
	j.file, j.end, j.size = f, end, st.Size()
	return end == 0 && bad == 0, bad, nil
}

// next is where a new file is written.
func (j *journal) next() string { return j.path + ".new" }

// rewrite puts a new file of all records in the place of the old one.
func (j *journal) rewrite(records func(yield func(*record) bool)) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	next := j.next()
	f, err := j.disk.create(next, os.O_TRUNC)
	if err != nil {
		return err
	}
	b := appendVersion(make([]byte, 0, growth))
	end := int64(0)
	for r := range records {
		b = r.appendTo(b)
		if len(b) == growth {
			if err = j.disk.writeAt(f, b, end); err != nil {
				break
			}
			end += growth
			b = b[:0]
		}
	}
	used := end + int64(len(b))
	if err == nil {
		b = b[:growth]
		clear(b[used-end:])
		err = j.disk.writeAt(f, b, end)
	}
	if err == nil {
		err = j.disk.sync(f)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = j.disk.rename(next, j.path)
	}
	if err == nil {
		err = j.disk.syncDir(filepath.Dir(j.path))
	}
	if err == nil {
		f, err = os.OpenFile(j.path, os.O_RDWR, 0)
	}
	if err != nil {
		// The old file may be gone by now, and the new one not be durable: whatever comes next begins with a new one.
		j.lost = err
		_ = os.Remove(next)
		return err
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.end, j.size, j.synced, j.lost = f, used, end+growth, used, nil
	return nil
}

// records is how many records the file holds, the first one included.
func (j *journal) records() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.end / recordSize
}

// broken tells why the file must be written anew.
func (j *journal) broken() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lost
}

// append writes a record, and when sure is set it is on disk then. Those that wait for a sync at the same time share one.
func (j *journal) append(r *record, sure bool) error {
	j.mu.Lock()
	if j.lost != nil {
		defer j.mu.Unlock()
		return j.lost
	}
	b := r.appendTo(make([]byte, 0, recordSize))
	if j.end+recordSize > j.size {
		b = append(b, make([]byte, growth-recordSize)...)
	}
	if err := j.disk.writeAt(j.file, b, j.end); err != nil {
		// A part may have been written. The next record takes the same place, but the file may be longer than it was.
		j.lost = err
		j.mu.Unlock()
		return err
	}
	j.size = max(j.size, j.end+int64(len(b)))
	j.end += recordSize
	end := j.end
	j.mu.Unlock()
	if !sure {
		return nil
	}
	return j.sync(end)
}

// sync makes the records before end durable.
func (j *journal) sync(end int64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	done, lost, to, file := j.synced >= end, j.lost, j.end, j.file
	j.mu.Unlock()
	if done || lost != nil {
		return lost
	}
	err := j.disk.sync(file)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.lost = err
		return err
	}
	j.synced = to
	return nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	j.mu.Lock()
	end := j.end
	j.mu.Unlock()
	var err error
	if j.lost == nil {
		err = j.sync(end)
	}
	return errors.Join(err, j.file.Close())
}
