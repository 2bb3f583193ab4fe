package muxrpc

import (
	"net"
	"syscall"
	"testing"
)

// JS peers answer a call in 88 ms instead of under 1 ms where Nagle's algorithm is on.
func TestNagleIsOff(t *testing.T) {
	t.Parallel()
	a, b := tcpPair(t)
	for _, conn := range []net.Conn{a, b} {
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var on int
		if cerr := raw.Control(func(fd uintptr) { on, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY) }); cerr != nil || err != nil {
			t.Fatal(cerr, err)
		}
		if on == 0 {
			t.Error("Nagle's algorithm is on")
		}
		conn.Close()
	}
}
