//go:build linux

package lan

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/libp2p/zeroconf/v2"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"

	"charkha/identity"
	"charkha/internal/netns"
)

// TestMain is also the program that the tests run on hosts of their own: a LAN, a listener that answers with the key's name,
// and a dialler of everything that is found.
func TestMain(m *testing.M) {
	if arg := os.Getenv("CHARKHA_LAN_HOST"); arg != "" {
		if err := beHost(arg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(netns.Main(m))
}

// hostConfig is what such a program is told, as JSON in its environment.
type hostConfig struct {
	Seed     byte
	Listen   string // host, with port 4000; "-": nowhere
	Silence  time.Duration
	Term     time.Duration // of a browser of mdns; 0: the usual one
	Zeroconf string        // not a LAN, but libp2p/zeroconf, which announces this address of an interface
}

// said is a line that it writes.
type said struct {
	Up     bool
	Found  string // an address
	Answer string // what was said there, or why nothing
	Report *Report
}

var testNetwork = [32]byte{1, 2, 3}

func beHost(arg string) error {
	var c hostConfig
	if err := json.Unmarshal([]byte(arg), &c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	key := identity.FromSeed([32]byte{c.Seed})
	var mu sync.Mutex
	say := func(s said) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(os.Stdout).Encode(s)
	}
	var listeners []identity.Address
	if c.Listen != "-" {
		ln, err := net.Listen("tcp", net.JoinHostPort(c.Listen, "4000"))
		if err != nil {
			return err
		}
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, key.ID().String())
				_ = conn.Close()
			}
		}()
		listeners = []identity.Address{{Proto: "net", Host: c.Listen, Port: 4000, Key: key.ID()}}
	}
	found := func(a identity.Address) {
		go func() {
			answer := ""
			conn, err := net.DialTimeout("tcp", a.HostPort(), 5*time.Second)
			if err == nil {
				var b []byte
				b, err = io.ReadAll(conn)
				answer = string(b)
			}
			if err != nil {
				answer = err.Error()
			}
			say(said{Found: a.String(), Answer: answer})
		}()
	}
	if c.Zeroconf != "" {
		go func() {
			defer cancel()
			_, _ = io.Copy(io.Discard, os.Stdin)
		}()
		return beZeroconf(ctx, identity.Address{Proto: "net", Host: c.Zeroconf, Port: 4000, Key: key.ID()}, found, func() { say(said{Up: true}) })
	}
	l, err := New(Options{
		Key: key, NetworkKey: testNetwork, Silence: c.Silence,
		Addresses: func() []identity.Address { return listeners }, Found: found,
	})
	if err != nil {
		return err
	}
	l.mdns.term = cmp.Or(c.Term, l.mdns.term)
	go func() { // ends with its standard input
		defer cancel()
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			r := l.Report()
			say(said{Report: &r})
		}
	}()
	say(said{Up: true})
	return l.Run(ctx)
}

// beZeroconf announces an address with the DNS-SD library that other programs use, and tells of the addresses that it finds.
func beZeroconf(ctx context.Context, own identity.Address, found func(identity.Address), up func()) error {
	server, err := zeroconf.Register("somebody", "_ssb._tcp", "local.", own.Port, []string{"address=" + own.String()}, nil)
	if err != nil {
		return err
	}
	defer server.Shutdown()
	entries := make(chan *zeroconf.ServiceEntry)
	go func() {
		for e := range entries {
			for _, text := range e.Text {
				a, err := identity.ParseAddress(strings.TrimPrefix(text, "address="))
				if err == nil && a.Key != own.Key && a.Port == e.Port && len(e.AddrIPv4) > 0 && a.Host == e.AddrIPv4[0].String() {
					found(a)
				}
			}
		}
	}()
	up()
	return zeroconf.Browse(ctx, "_ssb._tcp", "local.", entries)
}

// testHost is such a program.
type testHost struct {
	*netns.Host
	t     *testing.T
	id    identity.ID
	stdin io.WriteCloser
	lines chan said
	wait  func() error
	pid   func() int
}

func startHost(t *testing.T, h *netns.Host, c hostConfig) *testHost {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	arg, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "CHARKHA_LAN_HOST="+string(arg))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &testHost{Host: h, t: t, id: identity.FromSeed([32]byte{c.Seed}).ID(), lines: make(chan said, 1000)}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.wait, err = h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	p.pid = func() int { return cmd.Process.Pid }
	go func() {
		defer close(p.lines)
		d := json.NewDecoder(stdout)
		for {
			var s said
			if d.Decode(&s) != nil {
				return
			}
			p.lines <- s
		}
	}()
	p.until(30*time.Second, "come up", func(s said) bool { return s.Up })
	return p
}

// until reads what the host says until ok says that it is enough.
func (p *testHost) until(limit time.Duration, what string, ok func(said) bool) said {
	p.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case s, open := <-p.lines:
			if !open {
				p.t.Fatalf("the host ended; it should %s", what)
			}
			if ok(s) {
				return s
			}
		case <-timer.C:
			p.t.Fatalf("the host did not %s within %s; it says of itself:\n%s", what, limit, p.dump())
		}
	}
}

func (p *testHost) report() Report {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, "\n"); err != nil {
		p.t.Fatal(err)
	}
	return *p.until(10*time.Second, "report", func(s said) bool { return s.Report != nil }).Report
}

func (p *testHost) dump() string {
	_, _ = io.WriteString(p.stdin, "\n")
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	for {
		select {
		case s, open := <-p.lines:
			if !open {
				return "(it ended)"
			}
			if s.Report != nil {
				b, _ := json.MarshalIndent(s.Report, "", " ")
				return string(b)
			}
		case <-timer.C:
			return "(nothing)"
		}
	}
}

// finds waits until the host has found the others and each answered, by an address that holds part.
func (p *testHost) finds(limit time.Duration, part string, others ...*testHost) {
	p.t.Helper()
	missing := map[string]bool{}
	for _, o := range others {
		if o != p {
			missing[o.id.String()] = true
		}
	}
	p.until(limit, fmt.Sprintf("find %d others at %q", len(missing), part), func(s said) bool {
		if s.Found != "" && strings.Contains(s.Found, part) {
			a, err := identity.ParseAddress(s.Found)
			if err == nil && s.Answer == a.Key.String() {
				delete(missing, s.Answer)
			}
		}
		return len(missing) == 0
	})
}

// foundWithin is what the project promises.
const foundWithin = 5 * time.Second

func TestHostsOnOneBridgeFindEachOther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		addrs []string // of host %d
		parts []string // what is in the addresses found
		means []Means
	}{
		{"ipv4", []string{"10.1.1.%d/24"}, []string{"net:10.1.1."}, []Means{Plain, Signed, MDNS}},
		{"ipv6 link-local", []string{"fe80::%d/64"}, []string{"net:fe80::"}, []Means{Signed, MDNS}},
		{"ipv6", []string{"fd77::%d/64", "fe80::%d/64"}, []string{"net:fd77::"}, []Means{Signed, MDNS}},
		{"both", []string{"10.1.2.%d/16", "fd78::%d/64", "fe80::%d/64"}, []string{"net:10.1.2."}, []Means{Plain, Signed, MDNS}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := netns.NewBridge(t)
			var hosts []*testHost
			for i := 1; i <= 3; i++ {
				var addrs []string
				for _, a := range c.addrs {
					addrs = append(addrs, fmt.Sprintf(a, i))
				}
				hosts = append(hosts, startHost(t, b.Host("eth0", addrs...), hostConfig{Seed: byte(i)}))
			}
			for _, h := range hosts {
				h.finds(foundWithin, c.parts[0], hosts...)
			}
			for _, h := range hosts {
				r := h.hears(foundWithin, c.means...)
				if r.Problem != "" || len(r.Interfaces) != 2 || r.Interfaces[0].Name != "eth0" || r.Interfaces[1].Unused != "loopback" {
					t.Errorf("problem %q, interfaces %+v", r.Problem, r.Interfaces)
				}
				for _, n := range r.Neighbours {
					if n.Key == h.id || n.Interface != "eth0" {
						t.Errorf("a neighbour %+v", n)
					}
				}
			}
		})
	}
}

// hears waits until the host hears others, and itself on its first interface, by all the means.
func (p *testHost) hears(limit time.Duration, means ...Means) Report {
	p.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) { // the other side is a process
		r := p.report()
		missing := slices.DeleteFunc(slices.Clone(means), func(m Means) bool {
			return !r.Interfaces[0].HeardOurselves[m].IsZero() &&
				slices.ContainsFunc(r.Neighbours, func(n Neighbour) bool { return slices.Contains(n.By, m) })
		})
		if len(missing) == 0 {
			return r
		}
		if time.Since(began) > limit {
			p.t.Fatalf("it does not hear others and itself by %v; it heard itself at %v; neighbours: %+v", missing, r.Interfaces[0].HeardOurselves, r.Neighbours)
		}
	}
}

// A program that announces with a library for DNS-SD is found, and finds this node: its records are all that such a library wants.
func TestZeroconfFindsAndIsFound(t *testing.T) {
	t.Parallel()
	b := netns.NewBridge(t)
	ours := startHost(t, b.Host("eth0", "10.9.1.1/24", "fe80::1/64"), hostConfig{Seed: 1, Term: time.Second})
	theirs := startHost(t, b.Host("eth0", "10.9.1.2/24", "fe80::2/64"), hostConfig{Seed: 2, Zeroconf: "10.9.1.2"})
	ours.finds(foundWithin, "net:10.9.1.2:4000~", theirs)
	theirs.finds(foundWithin, "net:10.9.1.1:4000~", ours)
	known := func() Neighbour {
		all := ours.report().Neighbours
		if len(all) != 1 {
			return Neighbour{}
		}
		return all[0]
	}
	first := known()
	if !slices.Equal(first.By, []Means{MDNS}) {
		t.Errorf("found as %+v", first)
	}
	// It is heard of again and again, and forgotten when it is gone.
	heard, gone := false, false
	for began := time.Now(); !gone; time.Sleep(50 * time.Millisecond) { // the other side is a process
		if time.Since(began) > 30*time.Second {
			t.Fatalf("heard of again: %v, forgotten: %v", heard, gone)
		}
		switch n := known(); {
		case heard:
			gone = n.Last.IsZero()
		case n.Last.IsZero():
			t.Fatal("forgotten while it is there")
		case n.Last.Sub(first.Last) > 5*time.Second:
			heard = true
			if err := theirs.stdin.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestTwoNodesOnOneHostFindEachOther(t *testing.T) {
	t.Parallel()
	b := netns.NewBridge(t)
	h := b.Host("eth0", "10.2.1.1/24", "fe80::1/64")
	one := startHost(t, h, hostConfig{Seed: 1})
	two := startHost(t, h, hostConfig{Seed: 2, Listen: "-"})
	two.finds(foundWithin, "net:10.2.1.1:4000~", one)
	if r := two.report(); !strings.HasPrefix(r.Problem, "nothing is announced") {
		t.Errorf("the one that does not listen has the problem %q", r.Problem)
	}
}

func TestInterfacesThatComeAndGoAreFollowed(t *testing.T) {
	t.Parallel()
	b := netns.NewBridge(t)
	stays := startHost(t, b.Host("eth0", "10.3.1.1/24", "fe80::1/64"), hostConfig{Seed: 1, Silence: 3 * time.Second})
	moves := startHost(t, b.Host(""), hostConfig{Seed: 2, Silence: 3 * time.Second})
	r := moves.report()
	for r.Problem == "not running" { // it said so before Run looked
		r = moves.report()
	}
	if r.Problem != "no interface is up but loopback" {
		t.Errorf("without an interface, the problem is %q", r.Problem)
	}
	for i, name := range []string{"eth0", "wlan0"} {
		moves.Plug(name, fmt.Sprintf("10.3.1.%d/24", 2+i), fmt.Sprintf("fe80::%d/64", 2+i))
		stays.finds(foundWithin, fmt.Sprintf("net:10.3.1.%d:", 2+i), moves)
		moves.finds(foundWithin, "net:10.3.1.1:", stays)
		moves.Unplug(name)
		for limit := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // the other side is a process
			old := stays.report().Neighbours
			r := moves.report()
			if len(old) == 0 && len(r.Neighbours) == 0 && r.Problem == "no interface is up but loopback" {
				break
			}
			if time.Now().After(limit) {
				t.Fatalf("after unplugging %s: %+v is known, and there %+v, problem %q", name, old, r.Neighbours, r.Problem)
			}
		}
	}
}

func TestAddressesOfTwoInterfacesAreNotMixed(t *testing.T) {
	t.Parallel()
	left, right := netns.NewBridge(t), netns.NewBridge(t)
	middle := left.Host("eth0", "10.4.1.9/24", "fe80::9/64")
	right.Join(middle, "eth1", "10.4.2.9/24", "fe80::8/64")
	m := startHost(t, middle, hostConfig{Seed: 9})
	l := startHost(t, left.Host("eth0", "10.4.1.1/24", "fe80::1/64"), hostConfig{Seed: 1})
	r := startHost(t, right.Host("eth0", "10.4.2.1/24", "fe80::1/64"), hostConfig{Seed: 2})
	l.finds(foundWithin, "net:10.4.1.9:", m)
	r.finds(foundWithin, "net:10.4.2.9:", m)
	m.finds(foundWithin, "net:10.4.1.1:", l)
	for _, c := range []struct {
		h     *testHost
		wrong string
	}{{l, "10.4.2."}, {r, "10.4.1."}} {
		for _, n := range c.h.report().Neighbours {
			if strings.Contains(n.Address.Host, c.wrong) {
				t.Errorf("an address of the other network was announced: %s", n.Address)
			}
		}
	}
	for _, n := range m.report().Neighbours { // the same link-local address is somebody else on each side
		if want := map[identity.ID]string{l.id: "eth0", r.id: "eth1"}[n.Key]; n.Interface != want ||
			strings.HasPrefix(n.Address.Host, "fe80") && n.Address.Host != "fe80::1%"+want {
			t.Errorf("%s was heard by %s", n.Address, n.Interface)
		}
	}
}

func TestAListenerBoundToOneAddress(t *testing.T) {
	t.Parallel()
	b := netns.NewBridge(t)
	bound := startHost(t, b.Host("eth0", "10.5.1.1/24", "10.5.1.11/24", "fe80::1/64"), hostConfig{Seed: 1, Listen: "10.5.1.11"})
	local := startHost(t, b.Host("eth0", "10.5.1.2/24", "fe80::2/64"), hostConfig{Seed: 2, Listen: "127.0.0.1"})
	other := startHost(t, b.Host("eth0", "10.5.1.3/24", "fe80::3/64"), hostConfig{Seed: 3})
	other.finds(foundWithin, "net:10.5.1.11:", bound)
	local.finds(foundWithin, "net:10.5.1.11:", bound)
	for _, n := range other.report().Neighbours {
		if n.Key == local.id || n.Address.Host != "10.5.1.11" {
			t.Errorf("a neighbour %s", n.Address)
		}
	}
}

// TestAFloodDoesNotHideNeighbours floods a host from the network, in a namespace that only it and its hosts are in.
func TestAFloodDoesNotHideNeighbours(t *testing.T) {
	t.Parallel()
	b := netns.NewBridge(t)
	victim := startHost(t, b.Host("eth0", "10.6.1.1/16", "fe80::1/64"), hostConfig{Seed: 1})
	friend := startHost(t, b.Host("eth0", "10.6.1.2/16", "fe80::2/64"), hostConfig{Seed: 2})
	victim.finds(foundWithin, "net:10.6.1.2:", friend)

	hostile := b.Host("eth0", "10.6.2.1/16")
	const sources, each = 20, 500
	for i := 2; i <= sources; i++ {
		hostile.Address("eth0", fmt.Sprintf("10.6.2.%d/16", i))
	}
	for i := 1; i <= sources; i++ {
		if err := hostile.Do(func() error {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 6, 2, byte(i))})
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			for j := range each {
				key := identity.FromSeed([32]byte{7, byte(i), byte(j), byte(j >> 8)})
				a := []identity.Address{{Proto: "net", Host: fmt.Sprintf("10.6.3.%d", j%200), Port: 1 + j, Key: key.ID()}}
				for port, packet := range map[int][]byte{
					plainPort: encodePlain(a), signedPort: encodeSigned(key, &testNetwork, a), mdnsPort: make([]byte, 100),
				} {
					if _, err := c.WriteToUDP(packet, &net.UDPAddr{IP: net.IPv4(10, 6, 255, 255), Port: port}); err != nil {
						return err
					}
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	r := victim.report()
	if len(r.Neighbours) > maxNeighbours || r.Dropped.Budget == 0 {
		t.Errorf("%d neighbours; dropped %+v", len(r.Neighbours), r.Dropped)
	}
	// The friend is still there, and one who comes during it is found.
	late := startHost(t, b.Host("eth0", "10.6.1.3/16", "fe80::3/64"), hostConfig{Seed: 3})
	victim.finds(foundWithin, "10.6.1.3:", late)
	for _, n := range victim.report().Neighbours {
		if n.Key == friend.id && n.Verified {
			return
		}
	}
	t.Error("the friend is forgotten")
}

// mdnsGroup is where questions and answers go over IPv4 (RFC 6762 section 3).
var mdnsGroup = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: mdnsPort}

// listenMDNS joins the group on a host's eth0. It is called on the host.
func listenMDNS() (*net.UDPConn, error) {
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return nil, err
	}
	c, err := net.ListenMulticastUDP("udp4", eth0, mdnsGroup)
	if err != nil {
		return nil, err
	}
	// What is sent goes out by eth0 and comes back, too.
	p := ipv4.NewPacketConn(c)
	return c, errors.Join(p.SetMulticastInterface(eth0), p.SetMulticastLoopback(true), c.SetReadBuffer(1<<20))
}

// TestRecords reads the records as they go over the wire: they are those of RFC 6763 sections 4 to 6, for the link only where
// they name a host, and are taken back at the end.
func TestRecords(t *testing.T) {
	t.Parallel()
	b := netns.NewBridge(t)
	node := startHost(t, b.Host("eth0", "10.8.1.1/24"), hostConfig{Seed: 1})
	ask := func(b *dnsmessage.Builder) error {
		return errors.Join(b.StartQuestions(),
			b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName("_ssb._tcp.local."), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}))
	}
	name := instance(node.id)
	var want = []string{
		"PTR _ssb._tcp.local. -> " + name + "._ssb._tcp.local.",
		"SRV " + name + "._ssb._tcp.local. -> " + name + ".local.:4000",
		"TXT " + name + "._ssb._tcp.local. -> address=net:10.8.1.1:4000~shs:" + strings.TrimSuffix(node.id.String()[1:], ".ed25519"),
		"A " + name + ".local. -> 10.8.1.1",
	}
	if err := b.Host("eth0", "10.8.1.66/24").Do(func() error {
		c, err := listenMDNS()
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		builder := dnsmessage.NewBuilder(nil, dnsmessage.Header{})
		if err := ask(&builder); err != nil {
			return err
		}
		question, err := builder.Finish()
		if err != nil {
			return err
		}
		buf := make([]byte, 1<<16)
		answered := false
		for began := time.Now(); time.Since(began) < 30*time.Second; {
			if !answered {
				if _, err := c.WriteToUDP(question, mdnsGroup); err != nil {
					return err
				}
			}
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				return err
			}
			for {
				n, src, err := c.ReadFromUDPAddrPort(buf)
				if err != nil {
					break // the deadline
				}
				var m dnsmessage.Message
				if err := m.Unpack(buf[:n]); err != nil {
					return fmt.Errorf("a packet of %s: %w", src, err)
				}
				if src.Addr().Unmap() != netip.MustParseAddr("10.8.1.1") || !m.Response {
					continue
				}
				got, ttls := records(m)
				switch {
				case !answered && slices.Max(ttls) > 0 && len(m.Additionals) > 0: // an answer; an announcement has none
					if diff := gocmp.Diff(want, got); diff != "" {
						return fmt.Errorf("records (-want +got):\n%s", diff)
					}
					if slices.Max(ttls) != 120 || slices.Min(ttls) != 120 {
						return fmt.Errorf("remembered for %v seconds", ttls)
					}
					answered = true
					if err := node.stdin.Close(); err != nil {
						return err
					}
				case answered && slices.Max(ttls) == 0 && slices.Contains(got, want[0]):
					return nil
				}
			}
		}
		return fmt.Errorf("answered: %v, and not taken back", answered)
	}); err != nil {
		t.Error(err)
	}
}

// records lists what a packet says, but for links between services.
func records(m dnsmessage.Message) (out []string, ttls []uint32) {
	for _, r := range slices.Concat(m.Answers, m.Additionals) {
		what := ""
		switch b := r.Body.(type) {
		case *dnsmessage.PTRResource:
			what = "PTR %s -> " + b.PTR.String()
		case *dnsmessage.SRVResource:
			what = fmt.Sprintf("SRV %%s -> %s:%d", b.Target, b.Port)
		case *dnsmessage.TXTResource:
			what = "TXT %s -> " + strings.Join(b.TXT, " ")
		case *dnsmessage.AResource:
			what = "A %s -> " + netip.AddrFrom4(b.A).String()
		default:
			what = r.Header.Type.String() + " %s"
		}
		out, ttls = append(out, fmt.Sprintf(what, r.Header.Name)), append(ttls, r.Header.TTL)
	}
	return out, ttls
}

// TestHostileServices tells a host of thousands of services by mdns, in the packets that cost the most memory: each service of
// a packet has each address of it. The host stops listening to it for a while, and finds others as ever.
func TestHostileServices(t *testing.T) {
	t.Parallel()
	b := netns.NewBridge(t)
	victim := startHost(t, b.Host("eth0", "10.10.1.1/16"), hostConfig{Seed: 1})
	if err := b.Host("eth0", "10.10.2.1/16").Do(func() error {
		c, err := listenMDNS()
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		buf := make([]byte, 1<<16)
		for i := range 60 {
			packet, err := hostileServices(i)
			if err != nil {
				return err
			}
			if _, err := c.WriteToUDP(packet, mdnsGroup); err != nil {
				return err
			}
			// It comes back here, too, and some time after that the victim has it: a host that is flooded faster hears less of it.
			if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				return err
			}
			for err == nil {
				_, _, err = c.ReadFromUDP(buf)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	late := startHost(t, b.Host("eth0", "10.10.1.3/16"), hostConfig{Seed: 3})
	victim.finds(foundWithin, "10.10.1.3:", late)
	r := victim.report()
	if len(r.Neighbours) > maxFromMDNS+1 || r.Dropped.Budget == 0 {
		t.Errorf("%d neighbours; dropped %+v", len(r.Neighbours), r.Dropped)
	}
	t.Logf("at most %d MB, dropped %+v", victim.peak()>>20, r.Dropped)
	if peak := victim.peak(); peak > 1<<30 { // the race detector takes most of it
		t.Errorf("the host took %d MB at most", peak>>20)
	}
}

// hostileServices is a packet of some 60 kB.
func hostileServices(n int) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{Response: true})
	b.EnableCompression()
	host := dnsmessage.MustNewName("h.")
	header := func(name dnsmessage.Name) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 1 << 30}
	}
	err := b.StartAnswers()
	for i := range 1100 {
		name := dnsmessage.MustNewName(fmt.Sprintf("%x._ssb._tcp.local.", n<<12|i))
		err = errors.Join(err, b.SRVResource(header(name), dnsmessage.SRVResource{Port: 4000, Target: host}))
	}
	for i := range 2000 {
		err = errors.Join(err, b.AResource(header(host), dnsmessage.AResource{A: [4]byte{10, 10, 3, byte(i)}}))
	}
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

// peak is the most memory that the host's program had, in bytes.
func (p *testHost) peak() uint64 {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kb uint64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	p.t.Fatal("the system does not tell of memory")
	return 0
}

func TestAHostEndsWhenTold(t *testing.T) {
	t.Parallel()
	b := netns.NewBridge(t)
	one := startHost(t, b.Host("eth0", "10.7.1.1/24"), hostConfig{Seed: 1})
	two := startHost(t, b.Host("eth0", "10.7.1.2/24"), hostConfig{Seed: 2})
	two.finds(foundWithin, "net:10.7.1.1:", one)
	if err := one.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := one.wait(); err != nil {
		t.Error(err)
	}
}
