package netns

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
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
	cmd := exec.Command("ip", "-o", "-4", "addr")
	cmd.Stdout = &out
	wait, err := h.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "10.9.1.1/24 brd 10.9.1.255") {
		t.Errorf("ip says %q", out.String())
	}
	h.Unplug("eth5")
	if err := h.Do(func() error { _, err := net.InterfaceByName("eth5"); return err }); err == nil {
		t.Error("the interface is still there")
	}
}
