package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// inside is set in the environment of tests that Main has already put into a user namespace.
const inside = "CHARKHA_NETNS_INSIDE"

// powerless is the exit status of tests that got a user namespace and no rights in it. Those of m.Run are 0, 1 and 2.
const powerless = 77

// Main runs the tests and returns their exit status. A user who is not root is made root of a user namespace for that, when the
// kernel allows it, where there is no network but loopback; else the tests run as they are, and NewBridge skips.
func Main(m *testing.M) int {
	if os.Getenv(inside) != "" {
		err := loopback(&netlink.Handle{})
		if forbidden(err) {
			return powerless
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
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
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() == powerless { // so AppArmor does it on Ubuntu
		return m.Run()
	}
	if err != nil {
		return max(cmd.ProcessState.ExitCode(), 1)
	}
	return 0
}

// forbidden tells a kernel that has no namespaces, bridges or veth pairs, or none for us, from a fault. EOPNOTSUPP is also its word
// for an unknown type of device.
func forbidden(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) }

func loopback(links *netlink.Handle) error {
	lo, err := links.LinkByName("lo")
	if err == nil {
		err = links.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("loopback up: %w", err)
	}
	return nil
}

// space is a network namespace.
type space struct {
	file  *os.File
	links *netlink.Handle // its socket is in the namespace, so any thread may use it
}

// newSpace makes a namespace that ends with the test.
func newSpace(t testing.TB) (*space, error) {
	var s space
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		var err error
		if s.file, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())); err != nil {
			return err
		}
		t.Cleanup(func() { _ = s.file.Close() })
		if s.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		t.Cleanup(s.links.Close)
		return nil
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

// Bridge is a network. Its methods end the test when they fail, and may be called from the test's goroutine only.
type Bridge struct {
	t     testing.TB
	space *space
	ports int
}

// NewBridge makes an empty network, which ends with the test.
func NewBridge(t testing.TB) *Bridge {
	t.Helper()
	s, err := newSpace(t)
	if forbidden(err) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOSPC) {
		t.Skipf("NO NETWORK NAMESPACES: the kernel forbids them: %v", err)
	}
	b := &Bridge{t: t, space: s}
	b.must("a namespace", err)
	br := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	br.Name = "br0"
	br.MulticastSnooping = new(false) // with it, a bridge needs a querier to know who wants a multicast
	b.mustLink("make a bridge", s.links.LinkAdd(br))
	b.must("bridge up", s.links.LinkSetUp(br))
	return b
}

func (b *Bridge) must(what string, err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// mustLink is must for the making of a device, which the kernel may forbid.
func (b *Bridge) mustLink(what string, err error) {
	b.t.Helper()
	if forbidden(err) {
		b.t.Skipf("NO NETWORK NAMESPACES: the kernel has no bridges or veth pairs for us: %s: %v", what, err)
	}
	b.must(what, err)
}

// Host is a computer on a bridge.
type Host struct {
	b     *Bridge
	space *space
}

// Host makes a computer. With ifName == "" it has no interface but lo; else it is plugged in as by Plug.
func (b *Bridge) Host(ifName string, addrs ...string) *Host {
	b.t.Helper()
	s, err := newSpace(b.t)
	b.must("a namespace", err)
	h := &Host{b: b, space: s}
	b.must("host", loopback(s.links))
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
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs()}
	veth.Name = ifName
	veth.PeerName = fmt.Sprintf("port%d", b.ports)
	veth.PeerNamespace = netlink.NsFd(b.space.file.Fd())
	b.mustLink("make a veth pair for "+ifName, h.space.links.LinkAdd(veth))
	port, err := b.space.links.LinkByName(veth.PeerName)
	b.must(veth.PeerName, err)
	b.must(ifName+" without addresses", h.space.links.LinkSetIP6AddrGenMode(veth, nl.IN6_ADDR_GEN_MODE_NONE))
	b.must(veth.PeerName+" without addresses", b.space.links.LinkSetIP6AddrGenMode(port, nl.IN6_ADDR_GEN_MODE_NONE))
	br, err := b.space.links.LinkByName("br0")
	b.must("br0", err)
	b.must(veth.PeerName+" into the bridge", b.space.links.LinkSetMaster(port, br))
	b.must(veth.PeerName+" up", b.space.links.LinkSetUp(port))
	b.must(ifName+" up", h.space.links.LinkSetUp(veth))
	for _, a := range addrs {
		h.Address(ifName, a)
	}
}

// link is an interface of the host.
func (h *Host) link(ifName string) netlink.Link {
	h.b.t.Helper()
	l, err := h.space.links.LinkByName(ifName)
	h.b.must("interface "+ifName, err)
	return l
}

// Address adds an address to an interface, for IPv4 with the broadcast address of its network.
func (h *Host) Address(ifName, addr string) {
	h.b.t.Helper()
	a, err := netlink.ParseAddr(addr)
	h.b.must("address "+addr, err)
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD // or it is tentative for a second
	}
	h.b.must("address "+addr, h.space.links.AddrAdd(h.link(ifName), a))
}

// Unplug takes an interface away.
func (h *Host) Unplug(ifName string) {
	h.b.t.Helper()
	h.b.must("unplug "+ifName, h.space.links.LinkDel(h.link(ifName)))
}

// DefaultRoute sends out by an interface what is for none of the host's IPv4 networks, 255.255.255.255 included.
func (h *Host) DefaultRoute(ifName string) {
	h.b.t.Helper()
	h.b.must("default route by "+ifName, h.space.links.RouteAdd(&netlink.Route{
		LinkIndex: h.link(ifName).Attrs().Index,
		Scope:     netlink.SCOPE_LINK,
		Dst:       &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
	}))
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
