package blob

import (
	"os"

	"golang.org/x/sys/unix"
)

// openDirect opens a file to be written past the page cache. Some file systems refuse that here, others when it is written.
func openDirect(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|unix.O_DIRECT, 0)
}
