package netns

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestHostsSeeEachOtherAndNothingElse(t *testing.T) {
	b := NewBridge(t)
	one := b.Host("eth0", "10.9.0.1/24", "fe80::1/64")
	two := b.Host("lan7", "10.9.0.2/24", "fe80::2/64")

	for _, dial := range []struct{ network, listen, dial string }{
		{"tcp4", "10.9.0.1:4711", "10.9.0.1:4711"},
		{"tcp6", "[fe80::1%eth0]:4712", "[fe80::1%lan7]:4712"},
	} {
		var ln net.Listener
		if err := one.Do(func() (err error) { ln, err = net.Listen(dial.network, dial.listen); return err }); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		if err := two.Do(func() error {
			c, err := net.Dial(dial.network, dial.dial)
			if err == nil {
				err = c.Close()
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	var names []string
	if err := two.Do(func() error {
		all, err := net.Interfaces()
		for _, i := range all {
			names = append(names, i.Name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"lan7", "lo"}) {
		t.Errorf("the host has the interfaces %q", names)
	}
}

func TestAProgramRunsOnItsHost(t *testing.T) {
	b := NewBridge(t)
	h := b.Host("")
	h.Plug("eth5", "10.9.1.1/24")
	var out strings.Builder
	cmd := exec.Command("cat", "/proc/self/net/dev")
	cmd.Stdout = &out
	wait, err := h.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), " eth5:") || strings.Count(out.String(), ":") != 2 {
		t.Errorf("the program sees other interfaces than lo and eth5:\n%s", out.String())
	}
	h.Unplug("eth5")
	if err := h.Do(func() error { _, err := net.InterfaceByName("eth5"); return err }); err == nil {
		t.Error("the interface is still there")
	}
}

// What the kernel itself says of a host, not by way of netlink.
func TestAHostHasTheAddressesGivenAndNoOthers(t *testing.T) {
	b := NewBridge(t)
	h := b.Host("eth0", "10.9.2.1/20", "fd09::1/64")
	h.Address("eth0", "fe80::1/64")
	h.DefaultRoute("eth0")
	if err := h.Do(func() error {
		inet6, err := os.ReadFile("/proc/thread-self/net/if_inet6")
		if err != nil {
			return err
		}
		var got []string // address, prefix length, flags, interface
		for line := range strings.Lines(string(inet6)) {
			f := strings.Fields(line)
			got = append(got, strings.Join([]string{f[0], f[2], f[4], f[5]}, " "))
		}
		slices.Sort(got)
		const usable = "82" // permanent, not to be checked for duplicates, not tentative
		want := []string{
			"00000000000000000000000000000001 80 80 lo",
			"fd090000000000000000000000000001 40 " + usable + " eth0",
			"fe800000000000000000000000000001 40 " + usable + " eth0",
		}
		if !slices.Equal(got, want) {
			t.Errorf("IPv6 addresses %q, want %q", got, want)
		}

		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(s) }()
		for request, want := range map[uint]string{
			unix.SIOCGIFADDR: "10.9.2.1", unix.SIOCGIFNETMASK: "255.255.240.0", unix.SIOCGIFBRDADDR: "10.9.15.255",
		} {
			r, err := unix.NewIfreq("eth0")
			if err != nil {
				return err
			}
			if err := unix.IoctlIfreq(s, request, r); err != nil {
				return err
			}
			if got, err := r.Inet4Addr(); err != nil || net.IP(got).String() != want {
				t.Errorf("IPv4: %v, %v, want %s", got, err, want)
			}
		}
		// ENETUNREACH without the default route.
		c, err := net.Dial("udp4", "255.255.255.255:8008")
		if err != nil {
			return err
		}
		return c.Close()
	}); err != nil {
		t.Fatal(err)
	}
}

func TestABridgeForwardsMulticastsWithoutAQuerier(t *testing.T) {
	b := NewBridge(t)
	br, err := b.space.links.LinkByName("br0")
	if err != nil {
		t.Fatal(err)
	}
	if s := br.(*netlink.Bridge).MulticastSnooping; s == nil || *s {
		t.Error("it snoops, and loses a multicast that nobody asked it for")
	}
}

func TestOnlyTheKernelsNoIsForbidden(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("unshare: %w", unix.EPERM): true,
		unix.EOPNOTSUPP:                       true, // RTM_NEWLINK of an unknown type
		unix.EEXIST:                           false,
		unix.ENODEV:                           false,
		unix.EMFILE:                           false,
		nil:                                   false,
	} {
		if forbidden(err) != want {
			t.Errorf("forbidden(%v) is %v", err, !want)
		}
	}
	// The kernel's word for a type of device that it does not have.
	s, err := newSpace(t)
	if forbidden(err) {
		t.Skipf("NO NETWORK NAMESPACES: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	link := &netlink.GenericLink{LinkAttrs: netlink.NewLinkAttrs(), LinkType: "charkha"}
	link.Name = "none0"
	if err := s.links.LinkAdd(link); !forbidden(err) {
		t.Errorf("an unknown type of device is %v", err)
	}
}
