package blob

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeEarly has the system begin to write a range of a file to disk, and waits for nothing. When that is not possible, the sync at
// the end does it all.
func writeEarly(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
