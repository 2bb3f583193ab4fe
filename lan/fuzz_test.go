package lan

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/zeroconf/v2"

	"charkha/identity"
)

// checkClaim holds what every decoder promises.
func checkClaim(t *testing.T, id identity.ID, addrs []identity.Address) {
	t.Helper()
	if len(addrs) == 0 || len(addrs) > maxAnnounced {
		t.Fatalf("%d addresses", len(addrs))
	}
	for _, a := range addrs {
		if a.Key != id || a.Port < 1 || protoRank(a.Proto) < 0 {
			t.Fatalf("address %+v of %s", a, id)
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add(encodePlain([]identity.Address{addr("10.0.0.2", 8008, key(2)), addr("fe80::2", 8008, key(2))}))
	f.Add([]byte("10.0.0.2:8008:" + key(2).ID().String()))
	f.Add([]byte("onion:abc.onion:8008~shs:AAAA;net:10.0.0.2:0~shs:AAAA"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		id, addrs, err := decodePlain(packet)
		if err != nil {
			return
		}
		checkClaim(t, id, addrs)
		id2, again, err := decodePlain(encodePlain(addrs))
		if err != nil && len(encodePlain(addrs)) <= maxBeacon || err == nil && (id2 != id || !slices.Equal(again, addrs)) {
			t.Fatalf("%v encoded and decoded is %v, %v", addrs, again, err)
		}
	})
}

func FuzzSigned(f *testing.F) {
	f.Add(encodeSigned(key(2), &mainNetwork, []identity.Address{addr("10.0.0.2", 8008, key(2))}))
	f.Add(make([]byte, 80))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if id, addrs, verified, err := decodeSigned(&mainNetwork, packet); err == nil {
			checkClaim(t, id, addrs)
			if verified && id != key(2).ID() {
				t.Fatalf("%s signed", id)
			}
		}
		// What is inside the box is written by whoever knows the network key, which is everybody.
		id, addrs, verified, err := decodeSigned(&mainNetwork, sealed(key(2), &mainNetwork, string(packet)))
		if err != nil {
			return
		}
		checkClaim(t, id, addrs)
		if verified != (id == key(2).ID()) {
			t.Fatalf("%q, signed by %s: verified %v", packet, key(2).ID(), verified)
		}
	})
}

// FuzzServices hands a LAN whatever a browser of mdns may tell of.
func FuzzServices(f *testing.F) {
	f.Add("address="+addr("10.0.0.2", 8008, key(2)).String(), []byte{10, 0, 0, 2}, []byte{0xfe, 0x80, 15: 2})
	f.Add(addr("fe80::2", 8008, key(2)).String()+"\n"+addr("10.0.0.3", 0, key(2)).String(), []byte{192, 0, 2, 1}, []byte{0xfe, 0x80, 15: 2})
	f.Fuzz(func(t *testing.T, texts string, v4, v6 []byte) {
		b := newBench(t, lo, eth0)
		split := strings.Split(texts, "\n")
		if id, addrs, ok := readTexts(split); ok {
			for _, a := range addrs {
				checkClaim(t, id, []identity.Address{a})
			}
		}
		b.service(start, &zeroconf.ServiceEntry{Text: split, AddrIPv4: []net.IP{v4}, AddrIPv6: []net.IP{v6}})
		checkFound(t, b)
	})
}

// FuzzPackets hands a LAN whatever packets, from whatever sources.
func FuzzPackets(f *testing.F) {
	f.Add(uint8(0), encodePlain([]identity.Address{addr("10.0.0.2", 8008, key(2))}), []byte{10, 0, 0, 2})
	f.Add(uint8(1), encodeSigned(key(2), &mainNetwork, []identity.Address{addr("fe80::2", 8008, key(2))}), []byte{10, 0, 0, 2})
	f.Fuzz(func(t *testing.T, means uint8, packet, src []byte) {
		ip, _ := netip.AddrFromSlice(src)
		b := newBench(t, lo, eth0)
		for i := range 3 {
			b.packet(start.Add(time.Duration(i)*time.Second), allMeans[means%2], packet, ip, 2)
		}
		checkFound(t, b)
	})
}

// checkFound holds what is promised of those whom Options.Found is told.
func checkFound(t *testing.T, b *bench) {
	t.Helper()
	for _, a := range b.found {
		ip, err := netip.ParseAddr(a.Host)
		if err != nil || ip.IsLoopback() || ip.IsUnspecified() || a.Key == b.self || !eth0.onLink(ip) {
			t.Fatalf("found %s", a)
		}
	}
}
