//go:build unix && !linux && !solaris

package lan

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// shareAddress lets several programs bind one UDP port, each of which gets every broadcast and multicast. The BSDs and macOS
// need SO_REUSEPORT for that, which JS peers set there.
func shareAddress(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	}); cerr != nil {
		return cerr
	}
	return err
}
