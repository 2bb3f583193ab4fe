package lan

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// shareAddress lets several programs bind one UDP port, each of which gets every broadcast and multicast. Linux needs
// SO_REUSEADDR for that, which JS peers set; SO_REUSEPORT would ask the same of all of them.
func shareAddress(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }); cerr != nil {
		return cerr
	}
	return err
}
