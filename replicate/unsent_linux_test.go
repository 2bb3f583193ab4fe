package replicate

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// A peer that does not read makes the kernel take little more than its own buffer holds.
func TestUnsentIsSmall(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := func(tune bool) (n int) {
		ours, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		theirs, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		if err := theirs.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
			t.Fatal(err)
		}
		if tune {
			keepUnsentSmall(ours)
		}
		for idle := 0; idle < 2; { // a deadline may pass before the kernel was asked
			if err := ours.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			m, err := ours.Write(make([]byte, 16<<10))
			n += m
			switch {
			case m > 0:
				idle = 0
			case errors.Is(err, os.ErrDeadlineExceeded):
				idle++
			default:
				t.Fatal(err)
			}
		}
		return n
	}
	before, after := taken(false), taken(true)
	t.Logf("the kernel takes %d bytes by itself, and now %d", before, after)
	if after > before/2 || after > 1<<20 {
		t.Errorf("the kernel takes %d bytes, %d by itself", after, before)
	}
	ours, theirs := net.Pipe()
	keepUnsentSmall(ours) // is none of its business
	ours.Close()
	theirs.Close()
}
