package lan

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/zeroconf/v2"
	"golang.org/x/crypto/nacl/secretbox"

	"charkha/identity"
	"charkha/internal/vectors"
)

// mainNetwork is the key of the network that most of SSB is on.
var mainNetwork = [32]byte{
	0xd4, 0xa1, 0xcb, 0x88, 0xa6, 0x6f, 0x02, 0xf8, 0xdb, 0x63, 0x5c, 0xe2, 0x64, 0x41, 0xcc, 0x5d,
	0xac, 0x1b, 0x08, 0x42, 0x0c, 0xea, 0xac, 0x23, 0x08, 0x39, 0xb7, 0x55, 0x84, 0x5a, 0x9f, 0xfb,
}

type vector struct {
	ID       identity.ID `json:"id"`
	Private  string      `json:"private"`
	Address  string      `json:"address"`
	Legacy   string      `json:"legacy_packet_utf8"`
	Packet   string      `json:"packet_hex"`
	Verified *bool       `json:"verified"`
	What     string      `json:"what"`
}

// A beacon holds JSON, in which names are told apart by their case, and of equal ones the last counts.
func TestNamesInBeacon(t *testing.T) {
	t.Parallel()
	k := key(1)
	address := "net:192.168.1.2:8008~shs:" + k.ID().String()[1:45]
	for text, want := range map[string]bool{
		`{"address":"` + address + `"}`:                           true,
		`{"address":"` + address + `","ADDRESS":"net:x:1~shs"}`:   true,
		`{"address":7,"\u0061ddress":"` + address + `","x":[1]} `: true,
		`{"Address":"` + address + `"}`:                           false,
		`{"address":null}`:                                        false,
		`["` + address + `"]`:                                     false,
		`null`:                                                    false,
	} {
		sig := k.Sign(signedText(address))
		packet := secretbox.Seal(nil, []byte(text), (*[24]byte)(mainNetwork[:24]), &mainNetwork)
		id, addrs, verified, err := decodeSigned(&mainNetwork, append(packet, sig[:]...))
		if good := err == nil && verified && id == k.ID() && len(addrs) == 1; good != want {
			t.Errorf("%s: %v %v %v %v", text, id, addrs, verified, err)
		}
	}
}

func TestVectors(t *testing.T) {
	all := vectors.JSON[[]vector](t, "lan-discovery", "packets.json")
	encoded, unverified, dropped := 0, 0, 0
	for i, v := range all {
		packet, err := hex.DecodeString(v.Packet)
		if err != nil {
			t.Fatal(err)
		}
		id, addrs, err := decodePlain([]byte(v.Legacy))
		if err != nil || id != v.ID || len(addrs) != strings.Count(v.Address, "~shs:") {
			t.Errorf("vector %d: plain: %v %v %v", i, id, addrs, err)
		}
		plain := addrs
		id, addrs, verified, err := decodeSigned(&mainNetwork, packet)
		switch {
		case v.Verified == nil:
			dropped++
			if err == nil {
				t.Errorf("vector %d (%s) is taken", i, v.What)
			}
			continue
		case err != nil || id != v.ID || verified != *v.Verified || !slices.Equal(addrs, plain):
			t.Errorf("vector %d: signed: %v %v %v %v", i, id, addrs, verified, err)
		}
		if !*v.Verified {
			unverified++
			continue
		}
		key, err := identity.ParseSecret([]byte(`{"curve":"ed25519","private":"` + v.Private + `"}`))
		if err != nil {
			t.Fatal(err)
		}
		encoded++
		if got := sealed(key, &mainNetwork, v.Address); !bytes.Equal(got, packet) {
			t.Errorf("vector %d: sealed as %x, want %x", i, got, packet)
		}
		if strings.Contains(v.Address, "ws:") {
			continue // we write ws://
		}
		if got := encodeSigned(key, &mainNetwork, plain); !bytes.Equal(got, packet) {
			t.Errorf("vector %d: encoded as %x, want %x", i, got, packet)
		}
		if got := encodePlain(plain); string(got) != v.Legacy {
			t.Errorf("vector %d: encoded as %q, want %q", i, got, v.Legacy)
		}
	}
	if encoded == 0 || unverified == 0 || dropped == 0 {
		t.Errorf("of %d vectors %d were encoded, %d not verified, %d dropped", len(all), encoded, unverified, dropped)
	}
}

var (
	start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	eth0  = netif{2, "eth0", net.FlagUp | net.FlagBroadcast | net.FlagMulticast, prefixes("10.0.0.1/24", "fd00::1/64", "fe80::1/64")}
	lo    = netif{1, "lo", net.FlagUp | net.FlagLoopback, prefixes("127.0.0.1/8", "::1/128")}
)

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func key(n int) identity.KeyPair {
	return identity.FromSeed([32]byte{byte(n), byte(n >> 8), byte(n >> 16), 77})
}

func addr(host string, port int, k identity.KeyPair) identity.Address {
	return identity.Address{Proto: "net", Host: host, Port: port, Key: k.ID()}
}

// bench is a LAN with interfaces and no sockets: packets are handed to it, and time is told.
type bench struct {
	*LAN
	t     *testing.T
	found []identity.Address
	lost  []string // hosts
	went  int      // how often there was an interface again
	at    time.Time
}

func newBench(t *testing.T, ifaces ...netif) *bench {
	t.Helper()
	b := &bench{t: t, at: start}
	l, err := New(Options{
		Key: key(1), NetworkKey: mainNetwork,
		Found:  func(a identity.Address) { b.found = append(b.found, a) },
		Lost:   func(a identity.Address) { b.lost = append(b.lost, a.Host) },
		Online: func() { b.went++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	l.list = func() ([]netif, error) { return ifaces, nil }
	l.now = func() time.Time { return b.at }
	b.LAN = l
	l.look(b.at)
	return b
}

func (b *bench) get(means Means, packet []byte, src string) {
	b.packet(b.at, means, packet, netip.MustParseAddr(src), 2)
}

func (b *bench) signed(k identity.KeyPair, src string, a ...identity.Address) {
	b.get(Signed, encodeSigned(k, &mainNetwork, a), src)
}

func (b *bench) want(addrs ...string) {
	b.t.Helper()
	got := []string{}
	for _, a := range b.found {
		got = append(got, a.Host)
	}
	if diff := cmp.Diff(append([]string{}, addrs...), got); diff != "" {
		b.t.Errorf("found (-want +got):\n%s", diff)
	}
	b.found = nil
}

func TestFoundIsCalledOnceUntilSilence(t *testing.T) {
	b := newBench(t, eth0)
	other := key(2)
	for range 20 {
		b.signed(other, "10.0.0.2", addr("10.0.0.2", 8008, other))
		b.get(Plain, encodePlain([]identity.Address{addr("10.0.0.2", 8008, other)}), "10.0.0.2")
		b.at = b.at.Add(2 * time.Second)
	}
	b.want("10.0.0.2")
	if n := b.Neighbours(); len(n) != 1 || !n[0].Verified || !slices.Equal(n[0].By, []Means{Plain, Signed}) {
		t.Errorf("neighbours: %+v", n)
	}
	b.at = b.at.Add(9 * time.Second)
	if n := b.Neighbours(); len(n) != 0 { // 11 s since the last
		t.Errorf("after silence: %+v", n)
	}
	b.signed(other, "10.0.0.2", addr("10.0.0.2", 8008, other))
	b.want("10.0.0.2")
}

func TestLostIsCalledOfTheSilentAndOfLostInterfaces(t *testing.T) {
	b := newBench(t, eth0)
	one, two := key(2), key(3)
	b.signed(one, "10.0.0.2", addr("10.0.0.2", 8008, one))
	b.signed(two, "10.0.0.3", addr("10.0.0.3", 8008, two))
	b.at = b.at.Add(9 * time.Second)
	b.signed(two, "10.0.0.3", addr("10.0.0.3", 8008, two))
	b.beat(t.Context(), b.at)
	if len(b.lost) != 0 {
		t.Errorf("lost %v within the time of silence", b.lost)
	}
	b.at = b.at.Add(2 * time.Second)
	b.beat(t.Context(), b.at)
	b.beat(t.Context(), b.at)
	if !slices.Equal(b.lost, []string{"10.0.0.2"}) {
		t.Errorf("lost %v, want the one that is silent, once", b.lost)
	}
	// Who comes back before he is told to be gone is not.
	b.lost, b.found = nil, nil
	b.at = b.at.Add(20 * time.Second)
	b.signed(one, "10.0.0.2", addr("10.0.0.2", 8008, one)) // expires the other one, too
	b.signed(two, "10.0.0.3", addr("10.0.0.3", 8008, two))
	b.beat(t.Context(), b.at)
	b.want("10.0.0.2", "10.0.0.3")
	if len(b.lost) != 0 {
		t.Errorf("lost %v, who are back", b.lost)
	}
	none := b.list
	b.list = func() ([]netif, error) { return nil, nil }
	b.beat(t.Context(), b.at)
	slices.Sort(b.lost)
	if !slices.Equal(b.lost, []string{"10.0.0.2", "10.0.0.3"}) || b.went != 0 {
		t.Errorf("with the interface: lost %v, online %d times", b.lost, b.went)
	}
	b.list = none
	b.beat(t.Context(), b.at)
	b.beat(t.Context(), b.at)
	if b.went != 1 {
		t.Errorf("online %d times, want 1", b.went)
	}
}

func TestForgedAndForeignPackets(t *testing.T) {
	b := newBench(t, eth0)
	victim, thief := key(2), key(3)
	a := []identity.Address{addr("10.0.0.3", 8008, victim)}
	b.signed(thief, "10.0.0.3", a...)
	other := [32]byte{9}
	b.get(Signed, encodeSigned(victim, &other, a), "10.0.0.3")
	b.get(Signed, []byte("nonsense"), "10.0.0.3")
	b.get(Plain, []byte("nonsense"), "10.0.0.3")
	b.get(Signed, encodeSigned(victim, &mainNetwork, a), "192.0.2.7") // not on the link
	b.get(Plain, encodePlain(a), "192.0.2.7")
	b.want()
	if diff := cmp.Diff(Dropped{OffLink: 2, Garbage: 3, Forged: 1}, b.Report().Dropped); diff != "" {
		t.Error(diff)
	}
	// What is not signed is a candidate, and stays one until its key signs the same address.
	b.get(Plain, encodePlain(a), "10.0.0.3")
	b.want("10.0.0.3")
	if n := b.Neighbours(); len(n) != 1 || n[0].Verified {
		t.Errorf("neighbours: %+v", n)
	}
	b.signed(victim, "10.0.0.3", a...)
	b.want()
	if n := b.Neighbours(); len(n) != 1 || !n[0].Verified {
		t.Errorf("neighbours: %+v", n)
	}
}

func TestOurOwnPacketsAreNoNeighbours(t *testing.T) {
	b := newBench(t, eth0)
	own := []identity.Address{addr("10.0.0.1", 8008, key(1)), addr("10.0.0.99", 8008, key(1))}
	b.signed(key(1), "10.0.0.1", own...)
	b.get(Plain, encodePlain(own), "10.0.0.1")
	b.told([]string{"fe80::1"}, "address="+own[0].String())
	b.want()
	want := map[Means]time.Time{Plain: start, Signed: start, MDNS: start}
	if got := b.Report().Interfaces[0].HeardOurselves; !maps.Equal(got, want) {
		t.Errorf("heard ourselves: %v", got)
	}
}

func TestWhatIsAnnouncedIsMadeReachable(t *testing.T) {
	o := key(2)
	for _, c := range []struct {
		name     string
		src      string
		hosts    []string
		want     []string
		verified bool
	}{
		{"on the link", "10.0.0.2", []string{"10.0.0.2", "fd00::2"}, []string{"10.0.0.2", "fd00::2"}, true},
		{"another one on the link", "10.0.0.2", []string{"10.0.0.3"}, []string{"10.0.0.3"}, true},
		{"link-local, over IPv6", "fe80::2%eth0", []string{"fe80::2"}, []string{"fe80::2%eth0"}, true},
		{"link-local, over IPv4", "10.0.0.2", []string{"fe80::2"}, []string{"fe80::2%eth0"}, true},
		{"link-local, with a zone of its own", "fe80::2%eth0", []string{"fe80::2%wlan7"}, []string{"fe80::2%eth0"}, true},
		{"of another network of its", "10.0.0.2", []string{"192.168.7.7"}, []string{"10.0.0.2"}, false},
		{"of both networks", "10.0.0.2", []string{"192.168.7.7", "10.0.0.2"}, []string{"10.0.0.2"}, true},
		{"elsewhere, over IPv6", "fe80::2%eth0", []string{"192.0.2.1"}, []string{"fe80::2%eth0"}, false},
		{"loopback and nonsense", "10.0.0.2", []string{"127.0.0.1", "::1", "0.0.0.0", "224.0.0.251", "10.0.0.255", "255.255.255.255"}, nil, false},
		{"names", "10.0.0.2", []string{"localhost", "example.com"}, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, lo, eth0)
			var addrs []identity.Address
			for _, h := range c.hosts {
				addrs = append(addrs, addr(h, 8008, o))
			}
			b.signed(o, c.src, addrs...)
			b.want(c.want...)
			for _, n := range b.Neighbours() {
				if n.Verified != c.verified {
					t.Errorf("%s: verified %v", n.Address, n.Verified)
				}
				if back, err := identity.ParseAddress(n.Address.String()); err != nil || back != n.Address {
					t.Errorf("%s reads back as %v, %v", n.Address, back, err)
				}
			}
		})
	}
}

func TestOnlyTheFirstKeyOfAPacketCounts(t *testing.T) {
	b := newBench(t, eth0)
	b.signed(key(2), "10.0.0.2", addr("10.0.0.2", 8008, key(2)), addr("10.0.0.3", 8008, key(3)))
	b.want("10.0.0.2")
	var many []identity.Address
	for i := range 12 {
		many = append(many, addr(fmt.Sprintf("10.0.0.%d", 10+i), 8008, key(4)))
	}
	b.signed(key(4), "10.0.0.4", many...)
	if len(b.found) != maxAnnounced {
		t.Errorf("%d addresses of one packet were taken", len(b.found))
	}
}

func TestAFloodFromOneSourceCostsItsBudget(t *testing.T) {
	b := newBench(t, eth0)
	taken := 0
	for i := range 1000 {
		k := key(100 + i)
		b.get(Plain, encodePlain([]identity.Address{addr("10.0.0.66", 1+i, k)}), "10.0.0.66")
		b.get(Signed, []byte("nonsense"), "10.0.0.66")
	}
	if len(b.found) != maxFromOneSource {
		t.Errorf("one source made %d neighbours", len(b.found))
	}
	taken = int(b.Report().Dropped.Garbage)
	if taken != int(beaconBudget.burst) {
		t.Errorf("%d packets of a flood were looked at", taken)
	}
	// Others are not touched by it.
	b.found = nil
	b.signed(key(2), "10.0.0.2", addr("10.0.0.2", 8008, key(2)))
	b.want("10.0.0.2")
	// And the source itself has its budget again later.
	b.at = b.at.Add(time.Second)
	for range 1000 {
		b.get(Signed, []byte("nonsense"), "10.0.0.66")
	}
	if got := int(b.Report().Dropped.Garbage) - taken; got != int(beaconBudget.rate) {
		t.Errorf("a second later %d packets were looked at", got)
	}
}

func TestAFloodFromForgedSourcesHasACap(t *testing.T) {
	wide := eth0
	wide.prefixes = prefixes("10.0.0.1/8")
	b := newBench(t, wide)
	friend := key(2)
	b.signed(friend, "10.0.0.2", addr("10.0.0.2", 8008, friend))
	b.want("10.0.0.2")
	n := 0
	for sec := range 60 {
		b.at = start.Add(time.Duration(sec) * time.Second)
		for range 200 {
			n++
			src := fmt.Sprintf("10.%d.%d.%d", 1+n>>16, n>>8&255, n&255)
			b.get(Plain, encodePlain([]identity.Address{addr(src, 8008, key(1000+n))}), src)
			b.get(Signed, []byte("nonsense"), src)
		}
		b.signed(friend, "10.0.0.2", addr("10.0.0.2", 8008, friend))
		for i, l := range b.limits {
			if len(l.sources) > maxSources {
				t.Fatalf("%d sources of %s are remembered", len(l.sources), allMeans[i])
			}
		}
		if len(b.table.m) > maxNeighbours {
			t.Fatalf("%d neighbours", len(b.table.m))
		}
	}
	if most := int(60*strangerBudget.rate + strangerBudget.burst); len(b.found) > most {
		t.Errorf("Found was called %d times, over %d", len(b.found), most)
	}
	if slices.ContainsFunc(b.found, func(a identity.Address) bool { return a.Key == friend.ID() }) {
		t.Error("a neighbour that was never silent was pushed out")
	}
	// When it is over, newcomers are found as ever.
	b.at, b.found = b.at.Add(11*time.Second), nil
	b.signed(key(3), "10.0.0.3", addr("10.0.0.3", 8008, key(3)))
	b.want("10.0.0.3")
}

func TestAFullTableIsShared(t *testing.T) {
	tab := table{m: map[identity.Address]*neighbour{}}
	see := func(src string, n int, verified bool) bool {
		return tab.see(start.Add(time.Duration(n)), sighting{
			addr: addr("10.0.0.9", 1+n, key(5)), means: Signed, verified: verified, src: netip.MustParseAddr(src), lasts: time.Minute,
		})
	}
	n := 0
	for s := range 16 {
		for range maxFromOneSource {
			n++
			if !see(fmt.Sprintf("10.0.1.%d", s), n, s > 0) {
				t.Fatalf("entry %d is refused", n)
			}
		}
	}
	if len(tab.m) != maxNeighbours {
		t.Fatalf("%d entries", len(tab.m))
	}
	has := func(port int) bool { return tab.m[addr("10.0.0.9", 1+port, key(5))] != nil }
	if see("10.0.1.5", 1000, true) {
		t.Error("a source got more than its share")
	}
	if !see("10.0.2.1", 1001, true) || has(1) {
		t.Error("a verified newcomer does not take the place of the longest silent unverified one")
	}
	if !see("10.0.2.2", 1002, false) || has(2) {
		t.Error("an unverified newcomer does not take the place of one whose source has many")
	}
	for i := 3; i <= maxFromOneSource+2; i++ { // until nothing unverified is left
		see(fmt.Sprintf("10.0.3.%d", i), 2000+i, true)
	}
	if see("10.0.2.3", 1003, false) {
		t.Error("an unverified newcomer pushed a verified one out")
	}
	if !see("10.0.2.4", 1004, true) || has(maxFromOneSource+1) {
		t.Error("a source with many entries does not give one up")
	}
	if len(tab.m) != maxNeighbours {
		t.Errorf("%d entries", len(tab.m))
	}
}

// told is what a browser of mdns tells of a host that offers the service.
func (b *bench) told(hosts []string, texts ...string) {
	e := &zeroconf.ServiceEntry{Text: texts}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip.To4() != nil {
			e.AddrIPv4 = append(e.AddrIPv4, ip)
		} else {
			e.AddrIPv6 = append(e.AddrIPv6, ip)
		}
	}
	b.service(b.at, e)
}

func TestMDNSFinds(t *testing.T) {
	b := newBench(t, eth0)
	o := key(2)
	v4, v6 := "address="+addr("10.0.0.2", 8008, o).String(), addr("fe80::2", 8008, o).String()
	b.told([]string{"10.0.0.2", "fe80::2"}, v4, v6)
	b.want("10.0.0.2", "fe80::2%eth0")
	b.at = b.at.Add(2 * mdnsTerm)
	if n := b.Neighbours(); len(n) != 2 || n[0].Verified || !slices.Equal(n[0].By, []Means{MDNS}) || n[0].Source != "" {
		t.Errorf("neighbours: %+v", n)
	}
	b.at = b.at.Add(mdnsTerm / 2)
	if n := b.Neighbours(); len(n) != 0 {
		t.Errorf("after silence: %+v", n)
	}
	// Who sends beacons is gone when they end, whatever mdns says.
	b.signed(o, "10.0.0.2", addr("10.0.0.2", 8008, o))
	b.told([]string{"10.0.0.2", "fe80::2"}, v4, v6)
	b.at = b.at.Add(11 * time.Second)
	if n := b.Neighbours(); len(n) != 1 || n[0].Address.Host != "fe80::2%eth0" {
		t.Errorf("eleven seconds after the last beacon: %+v", n)
	}
}

// What mdns tells of is dialled on a link of ours, and nowhere else.
func TestMDNSServicesAreOfALink(t *testing.T) {
	o, other := key(2), key(3)
	at := func(host string) string { return "address=" + addr(host, 8008, o).String() }
	eth1 := netif{3, "eth1", eth0.flags, prefixes("10.0.1.1/24", "fe80::1:1/64")}
	one, two := []netif{lo, eth0}, []netif{lo, eth0, eth1}
	for _, c := range []struct {
		name   string
		ifaces []netif
		hosts  []string
		texts  []string
		want   []string
	}{
		{"on the link", one, []string{"10.0.0.2"}, []string{at("10.0.0.2")}, []string{"10.0.0.2"}},
		{"without a prefix", one, []string{"10.0.0.2"}, []string{addr("10.0.0.2", 8008, o).String()}, []string{"10.0.0.2"}},
		{"the prefix in capitals", one, []string{"10.0.0.2"}, []string{"ADDRESS=" + addr("10.0.0.2", 8008, o).String()}, []string{"10.0.0.2"}},
		{"by what the host has on the link", one, []string{"192.0.2.5", "10.0.0.2"}, []string{at("192.0.2.5")}, []string{"10.0.0.2"}},
		{"elsewhere", one, []string{"192.0.2.5"}, []string{at("192.0.2.5")}, nil},
		{"a text from elsewhere, of which the host is not told", one, nil, []string{at("10.0.0.2")}, nil},
		{"the other link", two, []string{"10.0.1.2"}, []string{at("10.0.0.2"), at("10.0.1.2")}, []string{"10.0.1.2"}},
		{"link-local, of one interface", one, []string{"fe80::2"}, []string{at("fe80::2")}, []string{"fe80::2%eth0"}},
		{"link-local, of which interface?", two, []string{"fe80::2"}, []string{at("fe80::2")}, nil},
		{"link-local, of which the host says the link", two, []string{"10.0.1.2", "fe80::2"}, []string{at("fe80::2")}, []string{"fe80::2%eth1"}},
		{"link-local on another link of its own", one, []string{"fd00::2"}, []string{at("fd00::2"), at("fe80::7")}, []string{"fd00::2"}},
		{"loopback", one, []string{"127.0.0.1"}, []string{at("127.0.0.1")}, nil},
		{"a name", one, []string{"10.0.0.2"}, []string{at("example.com")}, nil},
		{"our own interface", one, []string{"10.0.0.1"}, []string{at("10.0.0.1")}, []string{"10.0.0.1"}}, // another node on this computer
		{"no address", one, []string{"10.0.0.2"}, []string{"address=nobody", ""}, nil},
		{"nothing", one, []string{"10.0.0.2"}, nil, nil},
		{"the first key", one, []string{"10.0.0.2"}, []string{at("10.0.0.2"), addr("10.0.0.3", 8008, other).String()}, []string{"10.0.0.2"}},
		{"too late in the text", one, []string{"10.0.0.2"}, append(slices.Repeat([]string{"x"}, maxRecords), at("10.0.0.2")), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.ifaces...)
			b.told(c.hosts, c.texts...)
			b.want(c.want...)
		})
	}
}

// Whoever tells of many by mdns has a part of the table, and gives way to others in it.
func TestMDNSHasAPartOfTheTable(t *testing.T) {
	b := newBench(t, eth0)
	for i := range 1000 {
		host := fmt.Sprintf("10.0.0.%d", 2+i%200)
		b.told([]string{host}, addr(host, 1000+i, key(1000+i)).String())
	}
	if got := len(b.Neighbours()); got != maxFromMDNS {
		t.Errorf("%d neighbours", got)
	}
	// One service may have many addresses, too.
	b = newBench(t, eth0)
	var texts []string
	for i := range 100 {
		texts = append(texts, addr("10.0.0.2", 1000+i, key(2)).String())
	}
	b.told([]string{"10.0.0.2"}, texts...)
	if got := len(b.Neighbours()); got != maxAnnounced {
		t.Errorf("%d addresses of one", got)
	}
}

func TestAnnounced(t *testing.T) {
	self := key(1).ID()
	listen := func(proto, host string) identity.Address {
		return identity.Address{Proto: proto, Host: host, Port: 8008}
	}
	for _, c := range []struct {
		name  string
		in    []identity.Address
		local bool
		want  []string
	}{
		{"everything", []identity.Address{listen("", "")}, false, []string{"net:10.0.0.1", "net:fd00::1"}},
		{"everything, over IPv6", []identity.Address{listen("net", "::")}, true, []string{"net:fd00::1", "net:fe80::1", "net:10.0.0.1"}},
		{"IPv4 only", []identity.Address{listen("net", "0.0.0.0")}, true, []string{"net:10.0.0.1"}},
		{"net before ws", []identity.Address{listen("ws", "0.0.0.0"), listen("net", "0.0.0.0")}, false, []string{"net:10.0.0.1", "ws:10.0.0.1"}},
		{"bound to one", []identity.Address{listen("net", "fd00::1")}, false, []string{"net:fd00::1"}},
		{"bound to one of another interface", []identity.Address{listen("net", "192.168.1.1")}, true, nil},
		{"bound to a link-local one here", []identity.Address{listen("net", "fe80::1%eth0")}, true, []string{"net:fe80::1"}},
		{"bound to a link-local one elsewhere", []identity.Address{listen("net", "fe80::1%eth1")}, true, nil},
		{"loopback", []identity.Address{listen("net", "127.0.0.1"), listen("net", "::1"), listen("net", "localhost")}, true, nil},
		{"unix", []identity.Address{listen("unix", "/tmp/socket"), listen("onion", "abc.onion")}, true, nil},
		{"somebody else's", []identity.Address{{Proto: "net", Port: 8008, Key: key(2).ID()}}, true, nil},
		{"no port", []identity.Address{{Proto: "net"}}, true, nil},
		{"nothing", nil, true, nil},
	} {
		var got []string
		for _, a := range announced(c.in, self, eth0, netip.Addr{}, c.local) {
			got = append(got, a.Proto+":"+a.Host)
			if a.Port != 8008 || a.Key != self {
				t.Errorf("%s: %+v", c.name, a)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if got := announced([]identity.Address{listen("", "")}, self, lo, netip.Addr{}, true); len(got) > 0 {
		t.Errorf("loopback's addresses are announced: %v", got)
	}
	// The address that a packet leaves from comes first, and a crowded interface still fits into one packet.
	crowded := netif{3, "eth1", net.FlagUp, nil}
	for i := range 30 {
		crowded.prefixes = append(crowded.prefixes, prefixes(fmt.Sprintf("10.0.1.%d/24", 1+i), fmt.Sprintf("fd00:1111:2222:3333:4444:5555:6666:%x/64", 0x7000+i))...)
	}
	crowded.prefixes = append(crowded.prefixes, prefixes("fe80::1111:2222:3333:4444/64")...)
	got := announced([]identity.Address{listen("net", ""), listen("ws", "")}, self, crowded, netip.MustParseAddr("10.0.1.17"), false)
	if got[0].Host != "10.0.1.17" || len(got) > maxAnnounced {
		t.Errorf("announced: %v", got)
	}
	for _, local := range []bool{false, true} {
		got := announced([]identity.Address{listen("net", ""), listen("ws", "")}, self, crowded, netip.Addr{}, local)
		if n := len(encodeSigned(key(1), &mainNetwork, got)); n > 1400 {
			t.Errorf("a beacon has %d bytes", n)
		}
		if local && !slices.ContainsFunc(got, func(a identity.Address) bool { return strings.HasPrefix(a.Host, "fe80:") }) {
			t.Errorf("the link-local address is not announced: %v", got)
		}
	}
}

func TestReportSaysWhyThereIsNothing(t *testing.T) {
	down := netif{3, "wlan0", net.FlagBroadcast, nil}
	for _, c := range []struct {
		chosen []string
		ifaces []netif
		want   string
	}{
		{nil, nil, "no interface is up but loopback"},
		{nil, []netif{lo, down}, "no interface is up but loopback"},
		{[]string{"eth7"}, []netif{lo, eth0}, "there is no interface eth7"},
		{[]string{"wlan0"}, []netif{lo, eth0, down}, "interface wlan0 is down"},
		{nil, []netif{lo, {4, "eth0", net.FlagUp, nil}}, "no port can be listened at"}, // nothing is open in this test
	} {
		b := newBench(t)
		b.o.Interfaces = c.chosen
		b.list = func() ([]netif, error) { return c.ifaces, nil }
		b.errs[&socket{means: Plain, port: plainPort}] = fmt.Errorf("address in use")
		b.look(start)
		if got := b.Report().Problem; !strings.HasPrefix(got, c.want) {
			t.Errorf("with %v of %v: %q, want %q", c.chosen, c.ifaces, got, c.want)
		}
	}
}

// One of several interfaces that were chosen may be mistyped.
func TestReportSaysWhichInterfaceIsNotThere(t *testing.T) {
	b := newBench(t)
	b.o.Interfaces = []string{"eth0", "eth7"}
	b.list = func() ([]netif, error) { return []netif{lo, eth0}, nil }
	b.look(start)
	b.ifaces[eth0.index].announced = []identity.Address{addr("10.0.0.1", 8008, key(1))}
	if got := b.Report().Problem; got != "there is no interface eth7" {
		t.Errorf("%q", got)
	}
	b.o.Interfaces = b.o.Interfaces[:1]
	if got := b.Report().Problem; got != "" {
		t.Errorf("%q", got)
	}
}

// What goes wrong once is in the report, and in the log when it stays; once, until it was well.
func TestWhatStaysWrongIsLoggedOnce(t *testing.T) {
	var out strings.Builder
	b := newBench(t, eth0)
	b.o.Logger = slog.New(slog.NewTextHandler(&out, nil))
	st := b.ifaces[eth0.index]
	one, two := []error{errors.New("one")}, []error{errors.New("two")}
	for i, c := range []struct {
		errs   []error
		beacon bool
		logged int // so far
	}{
		{one, true, 0}, {nil, false, 0}, {one, true, 1}, {one, true, 1}, {two, true, 1}, {two, true, 2}, {nil, true, 2}, {two, true, 2}, {two, true, 3},
	} {
		b.note(st, c.errs, c.beacon, false)
		if got := strings.Count(out.String(), "cannot announce"); got != c.logged {
			t.Errorf("after step %d: logged %d times, want %d", i, got, c.logged)
		}
	}
	if got := b.Report().Interfaces[0].SendError; got != "two" {
		t.Errorf("the report says %q", got)
	}
}

func TestReportIsPlainJSON(t *testing.T) {
	b := newBench(t, lo, eth0)
	b.signed(key(2), "fe80::2%eth0", addr("fe80::2", 8008, key(2)))
	b.signed(key(1), "fe80::1%eth0", addr("fe80::1", 8008, key(1)))
	out, err := json.Marshal(b.Report())
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(out, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.Report(), back); diff != "" {
		t.Error(diff)
	}
	var names func(v any)
	names = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, v := range v {
				if k == "" || k[0] < 'a' || k[0] > 'z' {
					t.Errorf("the name %q", k)
				}
				names(v)
			}
		case []any:
			for _, v := range v {
				names(v)
			}
		case nil:
			t.Error("a null")
		}
	}
	var v any
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatal(err)
	}
	names(v)
}

func TestNeighboursOfALostInterfaceAreForgotten(t *testing.T) {
	b := newBench(t, eth0)
	b.signed(key(2), "10.0.0.2", addr("10.0.0.2", 8008, key(2)))
	b.want("10.0.0.2")
	with := b.list
	b.list = func() ([]netif, error) { return []netif{lo}, nil }
	b.look(b.at)
	if n := b.Neighbours(); len(n) != 0 {
		t.Errorf("neighbours: %+v", n)
	}
	b.signed(key(2), "10.0.0.2", addr("10.0.0.2", 8008, key(2)))
	b.want()
	b.list = with
	b.look(b.at)
	b.signed(key(2), "10.0.0.2", addr("10.0.0.2", 8008, key(2)))
	b.want("10.0.0.2")
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for _, o := range []Options{{}, {Key: key(1)}, {NetworkKey: mainNetwork}, {Key: key(1), NetworkKey: mainNetwork, Poll: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
