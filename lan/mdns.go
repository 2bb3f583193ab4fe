package lan

import (
	"context"
	"encoding/base32"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/zeroconf/v2"

	"charkha/identity"
)

const (
	mdnsService = "_ssb._tcp"
	mdnsDomain  = "local."
	mdnsPort    = 5353
	textKey     = "address=" // of the TXT strings that hold an address

	mdnsTTL = 2 * time.Minute // how long others may remember our records
	// mdnsTerm is how long a browser lives. It tells of each service once, so another one takes its place to hear who is still there.
	// A neighbour that two of them did not tell of is forgotten.
	mdnsTerm = 2 * time.Minute

	maxTexts    = 12              // strings in our TXT record: they and the rest must fit a packet that is not fragmented
	maxRecords  = 64              // strings, or host addresses, of a service that are looked at
	maxServices = 256             // that a browser may tell of; one that tells of more is ended,
	mdnsPause   = 1 * time.Minute // and there is none for so long
)

// family is IPv4 or IPv6, the index of what there is for each.
const (
	ipv4Family = iota
	ipv6Family
)

// dnssd announces by multicast DNS and asks for others. It belongs to Run.
type dnssd struct {
	term     time.Duration // of a browser
	links    []netif       // those it was started on
	texts    []identity.Address
	server   *zeroconf.Server // nil: nothing is announced, or it cannot be
	refused  string           // why it cannot be, as it was logged last
	browsers [2]*browser
	resume   [2]time.Time // when there may be another browser
	running  sync.WaitGroup
}

// browser asks for services by one family.
type browser struct {
	until time.Time // its term
	stop  context.CancelFunc
	ended chan struct{} // closed at its end, after which the rest may be read
	err   error
	full  bool // it told of too many
}

// instance is the name of our service and host: base32 of the key, 52 characters, so that nobody else has it.
func instance(id identity.ID) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:]))
}

// serveMDNS follows the interfaces and what is announced on them.
func (l *LAN) serveMDNS(ctx context.Context, now time.Time, ifaces []*ifaceState) {
	d := &l.mdns
	var links []netif
	var texts []identity.Address
	for _, st := range ifaces {
		if st.flags&net.FlagMulticast != 0 && len(st.prefixes) > 0 {
			links = append(links, st.netif)
			texts = append(texts, spoken(st.all)...)
		}
	}
	texts = texts[:min(len(texts), maxTexts)]
	if !slices.EqualFunc(links, d.links, netif.equal) {
		l.stopMDNS()
		d.links, d.resume = links, [2]time.Time{}
	}
	if !slices.Equal(texts, d.texts) {
		d.withdraw()
		d.texts = texts
	}
	if len(links) == 0 || ctx.Err() != nil {
		return
	}
	if d.server == nil && len(texts) > 0 {
		l.announceMDNS()
	}
	for f := range d.browsers {
		l.browse(ctx, now, f)
	}
}

// spoken chooses the addresses of an interface that go into TXT: one for each family.
func spoken(all []identity.Address) (out []identity.Address) {
	var have [2]bool
	for _, a := range all { // the best come first
		f := ipv6Family
		if ip, err := netip.ParseAddr(a.Host); err == nil && ip.Is4() {
			f = ipv4Family
		}
		if !have[f] && len(textKey+a.String()) <= 255 {
			have[f], out = true, append(out, a)
		}
	}
	return out
}

// announceMDNS starts the server.
func (l *LAN) announceMDNS() {
	d := &l.mdns
	var texts, ips []string
	for _, a := range d.texts {
		texts = append(texts, textKey+a.String())
	}
	// Without addresses the server gives those of the interface that it answers by, but Windows does not tell it which that is.
	if runtime.GOOS == "windows" {
		for _, a := range d.texts {
			ips = append(ips, a.Host)
		}
	}
	name := instance(l.self)
	server, err := zeroconf.RegisterProxy(name, mdnsService, mdnsDomain, d.texts[0].Port, name, ips, texts, interfaces(d.links), zeroconf.TTL(uint32(mdnsTTL/time.Second)))
	if err != nil {
		if err.Error() != d.refused {
			d.refused = err.Error()
			l.o.Logger.Warn("cannot announce by mdns", "err", err)
		}
		return
	}
	d.server, d.refused = server, ""
}

// withdraw takes our records back.
func (d *dnssd) withdraw() {
	if d.server != nil {
		d.server.Shutdown()
		d.server = nil
	}
}

// stopMDNS ends all that is under way.
func (l *LAN) stopMDNS() {
	d := &l.mdns
	d.withdraw()
	for f, b := range d.browsers {
		if b != nil {
			b.stop()
			d.browsers[f] = nil
		}
	}
	d.running.Wait()
}

// browse sees to it that there is a browser for the family, while an interface has an address of it.
func (l *LAN) browse(ctx context.Context, now time.Time, f int) {
	d := &l.mdns
	old := d.browsers[f]
	if old != nil {
		select {
		case <-old.ended:
			d.browsers[f] = nil
			l.tell(f, old.err)
			d.resume[f] = now
			if old.full {
				d.resume[f] = now.Add(mdnsPause)
				l.o.Logger.Warn("too many services are announced by mdns; it is not listened to for a while", "family", families[f], "limit", maxServices)
			}
		default:
			l.tell(f, nil)
			if now.Before(old.until) {
				return
			}
			old.stop() // another one begins at once: they may listen side by side
			d.browsers[f] = nil
		}
	}
	if !slices.ContainsFunc(d.links, func(ifi netif) bool { return ifi.speaks(f) }) {
		l.mu.Lock()
		delete(l.mdnsErrs, f)
		l.mu.Unlock()
		return
	}
	if now.Before(d.resume[f]) {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &browser{until: now.Add(d.term), stop: cancel, ended: make(chan struct{})}
	d.browsers[f] = b
	services := make(chan *zeroconf.ServiceEntry)
	returned := make(chan error, 1)
	by, on := []zeroconf.IPType{ipv4Family: zeroconf.IPv4, ipv6Family: zeroconf.IPv6}[f], interfaces(d.links)
	d.running.Go(func() {
		returned <- zeroconf.Browse(ctx, mdnsService, mdnsDomain, services, zeroconf.SelectIPTraffic(by), zeroconf.SelectIfaces(on))
	})
	d.running.Go(func() {
		defer close(b.ended)
		defer cancel()
		told := 0
		for {
			select {
			case s, open := <-services:
				if !open {
					services = nil
					continue
				}
				if told++; told <= maxServices {
					l.service(l.now(), s)
					continue
				}
				b.full = true
				l.count(&l.counters.budget)
				cancel() // and what it has still to say is taken off it, or it would not end
			case b.err = <-returned: // it says nothing after this
				return
			}
		}
	})
}

// tell keeps why a family is not listened to, for the report, and logs what is new.
func (l *LAN) tell(f int, err error) {
	l.mu.Lock()
	old, tried := l.mdnsErrs[f]
	l.mdnsErrs[f] = err
	l.mu.Unlock()
	if err != nil && (!tried || old == nil || old.Error() != err.Error()) {
		l.o.Logger.Warn("cannot listen for neighbours", "port", mdnsPort, "family", families[f], "err", err)
	}
}

// service takes in what a browser tells of. Nothing in it is proven, not even where it came from.
func (l *LAN) service(now time.Time, s *zeroconf.ServiceEntry) {
	id, addrs, ok := readTexts(s.Text)
	if !ok {
		l.count(&l.counters.garbage)
		return
	}
	hosts := hostsOf(s)
	l.mu.Lock()
	st, host := l.linkOf(hosts)
	if st == nil {
		l.counters.offLink++
		l.mu.Unlock()
		return
	}
	if id == l.self {
		st.own[slices.Index(allMeans[:], MDNS)] = now
		l.mu.Unlock()
		return
	}
	// The text names addresses on all links of its owner. A link-local one says nothing of which of them it is on, but for those
	// of the host.
	addrs = slices.DeleteFunc(addrs, func(a identity.Address) bool {
		ip, err := netip.ParseAddr(a.Host)
		return err != nil || ip.IsLinkLocalUnicast() && !slices.Contains(hosts, ip.WithZone(""))
	})
	addrs, _ = reachable(addrs, host, st.netif)
	var fresh []sighting
	for _, a := range addrs[:min(len(addrs), maxAnnounced)] {
		seen := sighting{addr: a, means: MDNS, ifName: st.name, lasts: l.mdns.term * 9 / 4}
		if l.table.see(now, seen) {
			fresh = append(fresh, seen)
		}
	}
	l.mu.Unlock()
	l.tellFound(fresh)
}

// hostsOf are the addresses of the host that offers a service.
func hostsOf(s *zeroconf.ServiceEntry) (out []netip.Addr) {
	for _, ips := range [][]net.IP{s.AddrIPv4[:min(len(s.AddrIPv4), maxRecords)], s.AddrIPv6[:min(len(s.AddrIPv6), maxRecords)]} {
		for _, ip := range ips {
			if a, ok := netip.AddrFromSlice(ip); ok {
				out = append(out, a.Unmap())
			}
		}
	}
	return out
}

// linkOf finds the interface that has one of the hosts on its link, and which host. A link-local one says nothing when there
// are several interfaces. Callers hold mu.
func (l *LAN) linkOf(hosts []netip.Addr) (*ifaceState, netip.Addr) {
	for _, host := range hosts {
		for _, st := range l.ifaces {
			if host.Is6() && host.IsLinkLocalUnicast() {
				if len(l.ifaces) == 1 || st.has(host) {
					return st, host
				}
			} else if st.onLink(host) {
				return st, host
			}
		}
	}
	return nil, netip.Addr{}
}

// readTexts takes the strings of a TXT record that are addresses, with or without "address=" before them. They have one key.
func readTexts(texts []string) (id identity.ID, addrs []identity.Address, ok bool) {
	for _, s := range texts[:min(len(texts), maxRecords)] {
		if len(s) >= len(textKey) && strings.EqualFold(s[:len(textKey)], textKey) {
			s = s[len(textKey):]
		}
		one, more, err := addresses(s)
		if err != nil || len(addrs) > 0 && one != id {
			continue
		}
		id, addrs = one, append(addrs, more...)
	}
	addrs = addrs[:min(len(addrs), maxRecords)]
	return id, addrs, len(addrs) > 0
}

// interfaces are links as the library wants them.
func interfaces(links []netif) (out []net.Interface) {
	for _, ifi := range links {
		out = append(out, *ifi.system())
	}
	return out
}
