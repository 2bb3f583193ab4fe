package log

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
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/table"
)

// What Badger does not look out for before it opens a store.

// cutTails truncates the logs that Badger reads when it opens, at the first entry that is no entry by its lengths. That is
// where Badger would stop, too, but for bytes that it did not write (a power cut may leave such behind the last sync) it may
// ask for gigabytes, panic, or refuse to open. A log that is still empty, whose process died just after it had made the
// file, is removed: Badger refuses to open with one.
func cutTails(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return err
	}
	values, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil {
		return err
	}
	if len(values) > 0 {
		logs = append(logs, slices.Max(values)) // the names have leading zeros
	}
	for _, name := range logs {
		if err := cutTail(name); err != nil {
			return fmt.Errorf("cut %s: %w", name, err)
		}
	}
	return nil
}

// logHead is the size of the head of a log file of Badger.
const logHead = 20

func cutTail(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() == 0 {
		f.Close() // Windows removes no open file
		return os.Remove(name)
	}
	if st.Size() < logHead {
		return nil
	}
	if _, err := f.Seek(logHead, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(f, 1<<16)
	for at := int64(logHead); ; {
		size, ok := entrySize(r, st.Size()-at)
		if !ok {
			return f.Truncate(at)
		}
		if size == 0 {
			return nil
		}
		if _, err := r.Discard(int(size)); err != nil {
			return err
		}
		at += size
	}
}

// entrySize returns the size of the next entry of a log file, 0 at the end; not ok: no entry begins here. An entry is: two
// bytes; length of the key, length of the value, and time of expiry as varints; key; value; CRC in 4 bytes.
func entrySize(r *bufio.Reader, left int64) (size int64, ok bool) {
	b, _ := r.Peek(2 + 3*binary.MaxVarintLen64)
	if len(b) < 5 {
		return 0, true
	}
	size = 2
	var v [3]uint64
	for i := range v {
		n := 0
		if v[i], n = binary.Uvarint(b[size:]); n <= 0 {
			return 0, false
		}
		size += int64(n)
	}
	key, value := v[0], v[1]
	if key > 1<<16 || value > uint64(left) {
		return 0, false
	}
	if key == 0 {
		return 0, true // zeros
	}
	size += int64(key) + int64(value) + crc32.Size
	return size, size <= left
}

// checkTables reads the tables of the store before Badger opens them, and compares their checksums. Badger can do so itself, but
// of a damaged table it makes a panic, the end of the process, or a line in a log and a store without that table; a head that
// is missing then would be signed a second time. Tables that the manifest does not name are remains that Badger removes.
func checkTables(dir string, o badger.Options) error {
	manifest, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a new store
		}
		return err
	}
	defer manifest.Close()
	m, _, err := badger.ReplayManifestFile(manifest, 0, o)
	if err != nil {
		return err
	}
	for id := range m.Tables {
		name := table.NewFilename(id, dir)
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // Badger says so, or that another process has the store open, and moves its tables
		}
		if err != nil {
			return err
		}
		if !wholeTable(b) {
			return fmt.Errorf("%s is damaged", name)
		}
	}
	return nil
}

// wholeTable reports whether the checksums of a table without encryption and compression are right. It is: blocks; index;
// length of the index; checksum of the index; length of that. A block ends with a checksum and its length, too. Lengths have 4
// bytes.
func wholeTable(b []byte) bool {
	rest, sum, ok := cutChecksum(b)
	if !ok || len(rest) < 4 {
		return false
	}
	n := binary.BigEndian.Uint32(rest[len(rest)-4:])
	rest = rest[:len(rest)-4]
	if n < 8 || uint64(n) > uint64(len(rest)) {
		return false
	}
	index := rest[len(rest)-int(n):]
	if crc(index) != sum {
		return false
	}
	blocks := fb.GetRootAsTableIndex(index, 0)
	for i := range blocks.OffsetsLength() {
		var at fb.BlockOffset
		if !blocks.Offsets(&at, i) || uint64(at.Offset())+uint64(at.Len()) > uint64(len(b)) {
			return false
		}
		block, sum, ok := cutChecksum(b[at.Offset():][:at.Len()])
		if !ok || crc(block) != sum {
			return false
		}
	}
	return true
}

// cutChecksum takes a checksum and its length from the end of bytes. It is a protobuf: field 1 the algorithm, left out
// when it is CRC-32C, and field 2 the sum.
func cutChecksum(b []byte) (rest []byte, sum uint64, ok bool) {
	if len(b) < 4 {
		return nil, 0, false
	}
	n := binary.BigEndian.Uint32(b[len(b)-4:])
	b = b[:len(b)-4]
	if uint64(n) > uint64(len(b)) {
		return nil, 0, false
	}
	rest, b = b[:len(b)-int(n)], b[len(b)-int(n):]
	if len(b) == 0 {
		return rest, 0, true // the sum is 0
	}
	if b[0] != 2<<3 {
		return nil, 0, false
	}
	sum, read := binary.Uvarint(b[1:])
	return rest, sum, read == len(b)-1
}

func crc(b []byte) uint64 { return uint64(crc32.Checksum(b, castagnoli)) }
