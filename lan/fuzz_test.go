package lan

import (
	"net/netip"
	"slices"
	"testing"
	"time"

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

func FuzzMDNS(f *testing.F) {
	answer, err := encodeAnswer(key(2).ID(), []identity.Address{addr("10.0.0.2", 8008, key(2))}, []netip.Addr{netip.MustParseAddr("10.0.0.2")}, mdnsTTL)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(answer)
	f.Add(encodeQuery())
	f.Fuzz(func(t *testing.T, packet []byte) {
		out := decodeMDNS(packet, key(1).ID())
		if len(out.finds) > maxAnnounced || out.asks && len(out.finds) > 0 {
			t.Fatalf("%+v", out)
		}
		for _, rec := range out.finds {
			checkClaim(t, rec.id, rec.addrs)
			if rec.ttl < 0 || rec.ttl > mdnsTTL {
				t.Fatalf("a TTL of %s", rec.ttl)
			}
		}
	})
}

// FuzzPackets hands a LAN whatever packets, from whatever sources.
func FuzzPackets(f *testing.F) {
	f.Add(uint8(0), encodePlain([]identity.Address{addr("10.0.0.2", 8008, key(2))}), []byte{10, 0, 0, 2})
	f.Add(uint8(1), encodeSigned(key(2), &mainNetwork, []identity.Address{addr("fe80::2", 8008, key(2))}), []byte{10, 0, 0, 2})
	f.Add(uint8(2), encodeQuery(), []byte{0xfe, 0x80, 15: 2})
	f.Fuzz(func(t *testing.T, means uint8, packet, src []byte) {
		ip, _ := netip.AddrFromSlice(src)
		b := newBench(t, lo, eth0)
		for i := range 3 {
			b.packet(start.Add(time.Duration(i)*time.Second), allMeans[means%3], packet, ip, 2)
		}
		for _, a := range b.found {
			ip, err := netip.ParseAddr(a.Host)
			if err != nil || ip.IsLoopback() || ip.IsUnspecified() || a.Key == b.self || !eth0.onLink(ip) {
				t.Fatalf("found %s", a)
			}
		}
	})
}
