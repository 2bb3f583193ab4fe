package lan

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"charkha/identity"
)

// Means is the way of announcing that a packet belongs to.
type Means string

// The three means, see the package's doc.
const (
	Plain  Means = "plain"
	Signed Means = "signed"
	MDNS   Means = "mdns"
)

const (
	maxNeighbours    = 256 // addresses
	maxFromOneSource = 16  // of these, that packets from one source address brought
	maxFromMDNS      = 64  // of these, that mDNS brought, which does not tell sources apart
	maxSources       = 256 // with a budget of their own, per port
)

// budget is how many packets are looked at: per second, and at once after a pause.
type budget struct{ rate, burst float64 }

var (
	// A JS peer sends one in a second, and several peers may share a computer.
	beaconBudget = budget{10, 20}
	// New sources in a second. Ten seconds of a flood from forged sources fill the table; those in it keep their budget.
	strangerBudget = budget{20, 40}
)

// bucket is a budget in use.
type bucket struct {
	tokens float64
	at     time.Time // when tokens was counted; zero: never, and full
}

func (b *bucket) take(now time.Time, of budget) bool {
	if b.at.IsZero() {
		b.tokens = of.burst
	} else if d := now.Sub(b.at); d > 0 {
		b.tokens = min(of.burst, b.tokens+d.Seconds()*of.rate)
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// limiter bounds the packets of one port that are looked at. A source that is known draws on its own budget only, so that a
// flood from forged sources does not silence it.
type limiter struct {
	each      budget
	idle      time.Duration // a source that is silent for so long may be forgotten
	sources   map[netip.Addr]*bucket
	strangers bucket
	swept     time.Time
}

func (l *limiter) allow(now time.Time, src netip.Addr) bool {
	b := l.sources[src]
	if b == nil {
		if !l.strangers.take(now, strangerBudget) {
			return false
		}
		if len(l.sources) >= maxSources && now.Sub(l.swept) >= time.Second {
			l.swept = now
			for src, b := range l.sources {
				if now.Sub(b.at) > l.idle {
					delete(l.sources, src)
				}
			}
		}
		if len(l.sources) >= maxSources {
			return false
		}
		b = &bucket{}
		l.sources[src] = b
	}
	return b.take(now, l.each)
}

// sighting is an address that a packet announced, as it can be dialled from here.
type sighting struct {
	addr     identity.Address
	means    Means
	verified bool
	src      netip.Addr // not valid by mdns
	ifName   string
	lasts    time.Duration // forgotten then
}

// neighbour is an entry of the table.
type neighbour struct {
	sighting            // the newest; verified once is verified for good
	last     time.Time  // when
	until    time.Time  // forgotten then
	by       [3]bool    // in the order of allMeans
	charged  netip.Addr // the source that is charged with the entry
}

var allMeans = [3]Means{Plain, Signed, MDNS}

// table holds the neighbours. Its rule when full: what is verified takes the place of what is not; else the source with the most
// entries gives up its longest silent one to a source with fewer; else the newcomer is refused. Nothing verified gives way to
// what is not.
type table struct {
	m    map[identity.Address]*neighbour
	lost []identity.Address // dropped since takeLost; some may be back
}

// drop takes an entry out.
func (t *table) drop(addr identity.Address) {
	delete(t.m, addr)
	t.lost = append(t.lost, addr)
}

// takeLost lists who was dropped since the last time and is not back.
func (t *table) takeLost() []identity.Address {
	gone := slices.DeleteFunc(t.lost, func(addr identity.Address) bool { return t.m[addr] != nil })
	t.lost = nil
	return gone
}

// see takes a sighting in. It reports whether the address is new, or was silent for too long.
func (t *table) see(now time.Time, s sighting) bool {
	n := t.m[s.addr]
	fresh := n == nil || now.After(n.until)
	if fresh {
		t.expire(now)
		if !t.makeRoom(s) {
			return false
		}
		n = &neighbour{charged: s.src}
		t.m[s.addr] = n
	}
	s.verified = s.verified || n.verified
	n.sighting, n.last = s, now
	// Who sends beacons is gone when they end, however long mDNS would remember him.
	if s.means != MDNS || !n.by[0] && !n.by[1] {
		n.until = now.Add(s.lasts)
	}
	n.by[slices.Index(allMeans[:], s.means)] = true
	return fresh
}

func (t *table) expire(now time.Time) {
	for addr, n := range t.m {
		if now.After(n.until) {
			t.drop(addr)
		}
	}
}

// forget drops who was heard by an interface that is gone: when it comes back, they are new.
func (t *table) forget(ifName string) {
	for addr, n := range t.m {
		if n.ifName == ifName {
			t.drop(addr)
		}
	}
}

func (t *table) makeRoom(s sighting) bool {
	from := map[netip.Addr]int{}
	for _, n := range t.m {
		from[n.charged]++
	}
	mine, most := from[s.src], maxFromOneSource
	if s.means == MDNS {
		most = maxFromMDNS
	}
	if mine < most && len(t.m) < maxNeighbours {
		return true
	}
	// worse says that a gives way before b.
	worse := func(a, b *neighbour) bool {
		switch {
		case b == nil:
			return true
		case a.verified != b.verified:
			return b.verified
		case from[a.charged] != from[b.charged]:
			return from[a.charged] > from[b.charged]
		}
		return a.last.Before(b.last)
	}
	var victim *neighbour
	for _, n := range t.m {
		gives := s.verified && !n.verified || s.verified == n.verified && from[n.charged] > mine+1
		if mine >= most {
			gives = s.verified && !n.verified && n.charged == s.src
		}
		if gives && worse(n, victim) {
			victim = n
		}
	}
	if victim == nil {
		return false
	}
	t.drop(victim.addr)
	return true
}

// netif is an interface as the system lists it.
type netif struct {
	index    int
	name     string
	flags    net.Flags
	prefixes []netip.Prefix // its addresses, each with the size of its network; no zones
}

func (a netif) equal(b netif) bool {
	return a.index == b.index && a.name == b.name && a.flags == b.flags && slices.Equal(a.prefixes, b.prefixes)
}

// onLink reports whether ip is in one of the interface's networks.
func (a netif) onLink(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() && ip.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(a.prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// system is the interface as package net has it.
func (a netif) system() *net.Interface {
	return &net.Interface{Index: a.index, Name: a.name, Flags: a.flags}
}

// speaks reports whether the interface has an address of a family.
func (a netif) speaks(family int) bool {
	return slices.ContainsFunc(a.prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() == (family == ipv4Family) })
}

// hosts are the addresses of the interface that others on the link can dial: IPv4, IPv6 that needs no zone, and IPv6
// link-local.
func (a netif) hosts() (v4, v6, local []netip.Addr) {
	for _, p := range a.prefixes {
		switch ip := p.Addr(); {
		case ip.IsLoopback() || ip.IsMulticast() || ip.IsUnspecified():
		case ip.Is4():
			v4 = append(v4, ip)
		case ip.IsLinkLocalUnicast():
			local = append(local, ip)
		default:
			v6 = append(v6, ip)
		}
	}
	return v4, v6, local
}

// broadcast is the address that reaches everybody in a network, and whether there is one.
func broadcast(p netip.Prefix) (netip.Addr, bool) {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}, false
	}
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b), true
}

// announced is what one packet says on an interface: the listeners with the interface's own addresses. Those that begin with
// first come first, because JS peers look at the first alternative only. Link-local IPv6 ones are in it when local is true.
func announced(listeners []identity.Address, self identity.ID, ifi netif, first netip.Addr, local bool) []identity.Address {
	v4, v6, v6local := ifi.hosts()
	var hosts []netip.Addr
	if local {
		hosts = slices.Concat(v6[:min(len(v6), 3)], v6local[:min(len(v6local), 1)], v4)
	} else {
		if i := slices.Index(v4, first); i > 0 {
			v4 = slices.Insert(slices.Delete(v4, i, i+1), 0, first)
		}
		hosts = slices.Concat(v4[:min(len(v4), 4)], v6)
	}
	ordered := slices.Clone(listeners)
	slices.SortStableFunc(ordered, func(a, b identity.Address) int { return protoRank(a.Proto) - protoRank(b.Proto) })
	var out []identity.Address
	for _, l := range ordered {
		if protoRank(l.Proto) < 0 || l.Port < 1 || l.Port > 65535 || !l.Key.IsZero() && l.Key != self {
			continue
		}
		l.Key = self
		if l.Proto == "" {
			l.Proto = "net"
		}
		bound := netip.Addr{}
		if l.Host != "" {
			ip, err := netip.ParseAddr(l.Host)
			if err != nil {
				continue // a name says nothing about interfaces
			}
			bound = ip.Unmap()
		}
		for _, host := range hosts {
			switch {
			case !bound.IsValid() || bound == netip.IPv6Unspecified():
			case bound == netip.IPv4Unspecified() && host.Is4():
			case bound.WithZone("") == host && (bound.Zone() == "" || bound.Zone() == ifi.name):
			default:
				continue
			}
			l.Host = host.String()
			if !slices.Contains(out, l) && len(out) < maxAnnounced {
				out = append(out, l)
			}
		}
	}
	return out
}

// protoRank orders protocols: what more peers speak comes first. Negative: not for a LAN.
func protoRank(proto string) int {
	switch proto {
	case "", "net":
		return 0
	case "ws":
		return 1
	case "wss":
		return 2
	}
	return -1
}

// reachable turns what a packet from src on interface ifi announced into what can be dialled from here. asSigned says that it
// is what was announced. The result may be empty.
func reachable(addrs []identity.Address, src netip.Addr, ifi netif) (out []identity.Address, asSigned bool) {
	var elsewhere []identity.Address
	add := func(to []identity.Address, a identity.Address, ip netip.Addr) []identity.Address {
		if a.Host = ip.WithZone("").String(); ip.Is6() && ip.IsLinkLocalUnicast() {
			a.Host = ip.WithZone(ifi.name).String()
		}
		if slices.Contains(to, a) {
			return to
		}
		return append(to, a)
	}
	for _, a := range addrs {
		ip, err := netip.ParseAddr(a.Host)
		if ip = ip.Unmap(); err != nil || ip.IsLoopback() || ip.IsMulticast() || ip.IsUnspecified() || isBroadcast(ip, ifi) {
			continue
		}
		if ifi.onLink(ip) || ip.WithZone("") == src.WithZone("") {
			out = add(out, a, ip)
		} else {
			elsewhere = add(elsewhere, a, src)
		}
	}
	if len(out) == 0 {
		return elsewhere, false
	}
	return out, true
}

func isBroadcast(ip netip.Addr, ifi netif) bool {
	return ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || slices.ContainsFunc(ifi.prefixes, func(p netip.Prefix) bool {
		b, ok := broadcast(p)
		return ok && b == ip
	})
}
