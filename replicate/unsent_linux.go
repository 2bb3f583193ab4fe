package replicate

import (
	"net"

	"golang.org/x/sys/unix"
)

// maxUnsent is how many bytes of a connection the kernel takes that are not on their way yet.
const maxUnsent = 512 << 10

// keepUnsentSmall has the kernel take no more bytes of a connection than it can soon send. By itself it takes megabytes, and on a
// slow link a message would wait for all the bytes of blobs that were taken before it. What is on its way is not bounded by that:
// throughput stays.
func keepUnsentSmall(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		// Without it, messages wait a little longer.
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent) })
	}
}
