package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside is set in the environment of tests that Main has already put into a user namespace.
const inside = "CHARKHA_NETNS_INSIDE"

// Main runs the tests and returns their exit status. A user who is not root is made root of a user namespace for that, when the
// kernel allows it, where there is no network but loopback; else the tests run as they are, and NewBridge skips.
func Main(m *testing.M) int {
	if os.Getenv(inside) != "" {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "loopback is down: %v\n%s", err, out)
		}
		return m.Run()
	}
	if os.Geteuid() == 0 {
		return m.Run()
	}
	self, err := os.Executable()
	if err != nil {
		return m.Run()
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		return m.Run()
	}
	if err := cmd.Wait(); err != nil {
		return max(cmd.ProcessState.ExitCode(), 1)
	}
	return 0
}

// space is a network namespace.
type space struct{ file *os.File }

func newSpace() (*space, error) {
	var s space
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		var err error
		s.file, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		return err
	})
	return &s, err
}

// onThread runs f on a thread that ends with it, because it is in another namespace then.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		defer close(done)      // also when f ends the goroutine
		runtime.LockOSThread() // and never unlocked
		done <- f()
	}()
	return <-done
}

func (s *space) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return f()
	})
}

// path names the namespace for ip.
func (s *space) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.file.Fd()) }

// ip runs the program ip in the namespace.
func (s *space) ip(args ...string) error {
	return s.do(func() error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}

// Bridge is a network. Its methods end the test when they fail, and may be called from the test's goroutine only.
type Bridge struct {
	t     testing.TB
	space *space
	ports int
}

// NewBridge makes an empty network, which ends with the test.
func NewBridge(t testing.TB) *Bridge {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Fatalf("the program ip is needed (Debian: apt-get install iproute2): %v", err)
	}
	s, err := newSpace()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOSPC) {
		t.Skipf("NO NETWORK NAMESPACES: the kernel forbids them: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.file.Close() })
	b := &Bridge{t: t, space: s}
	// Without snooping the bridge needs no querier to know who wants a multicast.
	if err := s.ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0"); err != nil {
		b.skipIfForbidden(err)
		t.Fatal(err)
	}
	b.must(s.ip("link", "set", "br0", "up"))
	return b
}

func (b *Bridge) skipIfForbidden(err error) {
	b.t.Helper()
	for _, s := range []string{"Unknown device type", "not supported", "not permitted"} {
		if strings.Contains(err.Error(), s) {
			b.t.Skipf("NO NETWORK NAMESPACES: the kernel has no bridges or veth pairs for us: %v", err)
		}
	}
}

func (b *Bridge) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// Host is a computer on a bridge.
type Host struct {
	b     *Bridge
	space *space
}

// Host makes a computer. With ifName == "" it has no interface but lo; else it is plugged in as by Plug.
func (b *Bridge) Host(ifName string, addrs ...string) *Host {
	b.t.Helper()
	s, err := newSpace()
	b.must(err)
	b.t.Cleanup(func() { _ = s.file.Close() })
	h := &Host{b: b, space: s}
	b.must(s.ip("link", "set", "lo", "up"))
	if ifName != "" {
		h.Plug(ifName, addrs...)
	}
	return h
}

// Plug gives the host an interface on its bridge, up, with the addresses given ("10.0.0.1/24", "fd00::1/64", "fe80::1/64") and
// no others: a link-local one is not made by itself. The addresses can be used at once.
func (h *Host) Plug(ifName string, addrs ...string) {
	h.b.t.Helper()
	h.b.Join(h, ifName, addrs...)
}

// Join plugs a host of any bridge into this one, as Plug does.
func (b *Bridge) Join(h *Host, ifName string, addrs ...string) {
	b.t.Helper()
	b.ports++
	port := fmt.Sprintf("port%d", b.ports)
	if err := h.space.ip("link", "add", ifName, "type", "veth", "peer", "name", port, "netns", b.space.path()); err != nil {
		b.skipIfForbidden(err)
		b.t.Fatal(err)
	}
	b.must(h.space.ip("link", "set", "dev", ifName, "addrgenmode", "none"))
	b.must(b.space.ip("link", "set", "dev", port, "addrgenmode", "none"))
	b.must(b.space.ip("link", "set", "dev", port, "master", "br0", "up"))
	b.must(h.space.ip("link", "set", "dev", ifName, "up"))
	for _, a := range addrs {
		h.Address(ifName, a)
	}
}

// Address adds an address to an interface.
func (h *Host) Address(ifName, addr string) {
	h.b.t.Helper()
	p, err := netip.ParsePrefix(addr)
	h.b.must(err)
	if p.Addr().Is4() {
		h.b.must(h.space.ip("addr", "add", addr, "brd", "+", "dev", ifName))
	} else {
		h.b.must(h.space.ip("addr", "add", addr, "dev", ifName, "nodad"))
	}
}

// Unplug takes an interface away.
func (h *Host) Unplug(ifName string) {
	h.b.t.Helper()
	h.b.must(h.space.ip("link", "del", "dev", ifName))
}

// IP runs the program ip on the host.
func (h *Host) IP(args ...string) {
	h.b.t.Helper()
	h.b.must(h.space.ip(args...))
}

// Do runs f on a thread that is on the host, and returns its error. What it opens stays there; a goroutine that it starts does
// not.
func (h *Host) Do(f func() error) error { return h.space.do(f) }

// Start starts a program on the host, which is killed and waited for when the test ends, if the test did not wait for it. With
// SysProcAttr.Setpgid its whole process group is killed. Pdeathsig must not be set: the thread that starts it ends at once.
func (h *Host) Start(cmd *exec.Cmd) (wait func() error, err error) {
	if err := h.space.do(cmd.Start); err != nil {
		return nil, err
	}
	var ended atomic.Bool // and its id may be another's by now
	wait = sync.OnceValue(func() error {
		defer ended.Store(true)
		return cmd.Wait()
	})
	h.b.t.Cleanup(func() {
		if ended.Load() {
			return
		}
		if pid := cmd.Process.Pid; cmd.SysProcAttr != nil && cmd.SysProcAttr.Setpgid {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		} else {
			_ = cmd.Process.Kill()
		}
		_ = wait()
	})
	return wait, nil
}
