package lan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"charkha/identity"
)

// Options configure a LAN. Key and NetworkKey are needed; the rest may be left at zero.
type Options struct {
	Key        identity.KeyPair
	NetworkKey [32]byte

	// Addresses says what is listened at for TCP, and is called before each beacon; nil or an empty answer means that nothing
	// is announced and others are still heard. Proto, Port and the Host that the listener is bound to matter: with "", "::" or
	// "0.0.0.0" the addresses of each interface are announced there; with one IP only that one, on the interface that has it;
	// with a loopback address or a name nothing. Entries with another key than our own, port 0, or another Proto than net, ws
	// and wss are passed over.
	Addresses func() []identity.Address

	// Interfaces are the names of those to use. Empty: all that are up, but loopback.
	Interfaces []string

	// Found is told each neighbour's address once, and again when it was silent and came back, verified or not (see the
	// package's doc). It is called from several goroutines at once and must not block. Host is an IP, with a zone when it is
	// link-local.
	Found func(identity.Address)

	// Lost is told an address that Found was told and that nobody announces any more, within a second or so. Run's goroutine calls
	// it, and it must not block.
	Lost func(identity.Address)

	// Online is called when there is an interface to use after there was none. As for Lost.
	Online func()

	Logger *slog.Logger // nil: discard

	Interval time.Duration // between two beacons; 0: 2 s, as JS peers do it
	Poll     time.Duration // between two looks at the interfaces; 0: 1 s
	Silence  time.Duration // after which a neighbour is forgotten; 0: 10 s
}

// LAN announces a node and hears others. Its methods are safe for concurrent use; Run is called once.
type LAN struct {
	o    Options // fixed after New
	self identity.ID
	list func() ([]netif, error) // replaced by tests
	now  func() time.Time        // replaced by tests

	// Owned by Run.
	sockets []*socket
	mdns    dnssd // but for its term, which is fixed
	offline bool  // no interface has an address

	mu       sync.Mutex
	table    table
	limits   [2]limiter          // in the order of allMeans; mdns has none
	ifaces   map[int]*ifaceState // those in use, by index
	others   []netif             // those that are not
	errs     map[*socket]error   // why a socket is not there; nil: it is
	mdnsErrs map[int]error       // the same of mdns, by family
	listErr  error               // of the last look at the interfaces
	ran      bool
	counters struct{ budget, offLink, garbage, forged uint64 }
}

// ifaceState is an interface in use.
type ifaceState struct {
	netif

	// Owned by Run.
	senders map[netip.Addr]*sender
	due     time.Time          // of the next beacon
	all     []identity.Address // what is announced; of each family the best first
	warned  string             // the error that was logged

	// Under LAN.mu.
	announced []identity.Address
	sent      time.Time
	sendErr   error
	own       [3]time.Time // when a packet of our own was heard, in the order of allMeans
}

// New checks the options. Nothing is opened before Run.
func New(o Options) (*LAN, error) {
	if o.Key.IsZero() {
		return nil, errors.New("lan: the key is missing")
	}
	if o.NetworkKey == [32]byte{} {
		return nil, errors.New("lan: the network key is missing")
	}
	for _, d := range []*time.Duration{&o.Interval, &o.Poll, &o.Silence} {
		if *d < 0 {
			return nil, fmt.Errorf("lan: an interval of %s", *d)
		}
	}
	if o.Interval == 0 {
		o.Interval = 2 * time.Second
	}
	if o.Poll == 0 {
		o.Poll = time.Second
	}
	if o.Silence == 0 {
		o.Silence = 10 * time.Second
	}
	if o.Addresses == nil {
		o.Addresses = func() []identity.Address { return nil }
	}
	if o.Found == nil {
		o.Found = func(identity.Address) {}
	}
	if o.Lost == nil {
		o.Lost = func(identity.Address) {}
	}
	if o.Online == nil {
		o.Online = func() {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &LAN{
		o: o, self: o.Key.ID(), list: listInterfaces, now: time.Now,
		table:    table{m: map[identity.Address]*neighbour{}},
		ifaces:   map[int]*ifaceState{},
		errs:     map[*socket]error{},
		mdnsErrs: map[int]error{},
		mdns:     dnssd{term: mdnsTerm},
	}
	for i := range l.limits {
		l.limits[i] = limiter{each: beaconBudget, idle: o.Silence, sources: map[netip.Addr]*bucket{}}
	}
	return l, nil
}

// Run announces and listens until ctx ends, and returns nil then. What goes wrong with a network is logged, shown in the
// report and tried again, and ends nothing.
func (l *LAN) Run(ctx context.Context) error {
	var readers sync.WaitGroup
	l.sockets = newSockets()
	defer readers.Wait()
	defer l.shut()
	defer l.stopMDNS()
	tick := time.NewTicker(l.o.Poll)
	defer tick.Stop()
	for {
		l.openSockets(ctx, &readers)
		l.serveMDNS(ctx, l.now(), l.beat(ctx, l.now()))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// openSockets opens those that are not there. One that is in other hands is tried again at each beat.
func (l *LAN) openSockets(ctx context.Context, readers *sync.WaitGroup) {
	for _, s := range l.sockets {
		if s.conn != nil || ctx.Err() != nil {
			continue
		}
		err := s.open(ctx)
		l.mu.Lock()
		old, tried := l.errs[s]
		l.errs[s] = err
		l.mu.Unlock()
		switch {
		case err == nil:
			readers.Go(func() { l.read(s) })
		case !tried || old == nil || old.Error() != err.Error():
			l.o.Logger.Warn("cannot listen for neighbours", "port", s.port, "family", s.family(), "err", err)
		}
	}
}

// shut closes everything, which ends the readers.
func (l *LAN) shut() {
	for _, s := range l.sockets {
		if s.conn != nil {
			_ = s.conn.Close()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, st := range l.ifaces {
		st.close()
	}
}

func (st *ifaceState) close() {
	for _, s := range st.senders {
		_ = s.conn.Close()
	}
	clear(st.senders)
}

// read takes the packets of one socket in until it is closed.
func (l *LAN) read(s *socket) {
	buf := make([]byte, 1<<16) // Windows calls a longer packet an error
	for {
		n, src, ifIndex, err := s.receive(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// An ICMP error for a packet that was sent, or a network that went down; neither stays.
			l.o.Logger.Debug("cannot receive", "port", s.port, "err", err)
			time.Sleep(10 * time.Millisecond) // should one stay after all
			continue
		}
		l.packet(l.now(), s.means, buf[:n], src, ifIndex)
	}
}

// packet handles a beacon that came in by an interface, 0 for one that is not known.
func (l *LAN) packet(now time.Time, means Means, packet []byte, src netip.Addr, ifIndex int) {
	m := slices.Index(allMeans[:], means)
	l.mu.Lock()
	st := l.arrived(src, ifIndex)
	if st == nil {
		l.counters.offLink++
		l.mu.Unlock()
		return
	}
	ifi := st.netif
	allowed := l.limits[m].allow(now, src)
	if !allowed {
		l.counters.budget++
	}
	l.mu.Unlock()
	if !allowed {
		return
	}

	var (
		id       identity.ID
		addrs    []identity.Address
		verified bool
		err      error
	)
	if means == Plain {
		id, addrs, err = decodePlain(packet)
	} else {
		id, addrs, verified, err = decodeSigned(&l.o.NetworkKey, packet)
	}
	switch {
	case err != nil:
		l.count(&l.counters.garbage)
		return
	case means == Signed && !verified:
		l.count(&l.counters.forged)
		return
	}

	var fresh []sighting
	l.mu.Lock()
	if id == l.self {
		// Anybody can say so in clear; it only tells whether sending works.
		st.own[m] = now
		addrs = nil
	}
	addrs, asSigned := reachable(addrs, src, ifi)
	for _, a := range addrs {
		s := sighting{addr: a, means: means, verified: verified && asSigned, src: src, ifName: ifi.name, lasts: l.o.Silence}
		if l.table.see(now, s) {
			fresh = append(fresh, s)
		}
	}
	l.mu.Unlock()
	l.tellFound(fresh)
}

// tellFound tells of those that are new.
func (l *LAN) tellFound(fresh []sighting) {
	for _, s := range fresh {
		l.o.Logger.Debug("neighbour", "peer", s.addr.Key, "address", s.addr, "by", s.means, "verified", s.verified, "interface", s.ifName)
		l.o.Found(s.addr)
	}
}

func (l *LAN) count(c *uint64) {
	l.mu.Lock()
	*c++
	l.mu.Unlock()
}

// arrived finds the interface that a packet came in by, when that is in use and src is on its link. Callers hold mu.
func (l *LAN) arrived(src netip.Addr, ifIndex int) *ifaceState {
	if !src.IsValid() {
		return nil
	}
	if ifIndex != 0 {
		if st := l.ifaces[ifIndex]; st != nil && st.onLink(src) {
			return st
		}
		// What we sent ourselves may be told to have come by loopback: it is from an address of the interface it left by.
	}
	for _, st := range l.ifaces {
		if src.Zone() != "" && src.Zone() != st.name {
			continue
		}
		if ifIndex == 0 && st.onLink(src) || st.has(src) {
			return st
		}
	}
	return nil
}

// has reports whether ip is the interface's own.
func (a netif) has(ip netip.Addr) bool {
	ip = ip.WithZone("")
	return slices.ContainsFunc(a.prefixes, func(p netip.Prefix) bool { return p.Addr() == ip })
}

// look lists the interfaces, and sets up those that are new or other than before.
func (l *LAN) look(now time.Time) {
	all, err := l.list()
	l.mu.Lock()
	l.listErr = err
	known := slices.Collect(maps.Values(l.ifaces))
	l.mu.Unlock()
	if err != nil {
		return
	}
	use, others := map[int]netif{}, []netif{}
	for _, ifi := range all {
		if l.skip(ifi) == "" {
			use[ifi.index] = ifi
		} else {
			others = append(others, ifi)
		}
	}
	l.mu.Lock()
	l.others, l.ran = others, true
	l.mu.Unlock()
	for _, st := range known {
		ifi, ok := use[st.index]
		if ok && ifi.equal(st.netif) {
			delete(use, st.index)
			continue
		}
		st.close()
		fresh := &ifaceState{netif: ifi, senders: map[netip.Addr]*sender{}, due: now}
		same := ok && ifi.name == st.name
		if !same {
			for _, s := range l.sockets {
				s.leave(st.netif)
			}
			l.o.Logger.Info("interface is gone", "interface", st.name)
		}
		l.mu.Lock()
		delete(l.ifaces, st.index)
		if same { // only its addresses or flags changed
			fresh.own, fresh.sent = st.own, st.sent
			l.ifaces[st.index] = fresh
		} else {
			l.table.forget(st.name)
		}
		l.mu.Unlock()
		if same {
			delete(use, st.index)
		}
	}
	for _, ifi := range use {
		l.o.Logger.Info("looking for neighbours", "interface", ifi.name)
		l.mu.Lock()
		l.ifaces[ifi.index] = &ifaceState{netif: ifi, senders: map[netip.Addr]*sender{}, due: now}
		l.mu.Unlock()
	}
	online := slices.ContainsFunc(all, func(ifi netif) bool { return l.skip(ifi) == "" && len(ifi.prefixes) > 0 })
	if online && l.offline {
		l.o.Online()
	}
	l.offline = !online
}

// skip says why an interface is not used, or nothing.
func (l *LAN) skip(ifi netif) string {
	switch {
	case ifi.flags&net.FlagLoopback != 0:
		return "loopback"
	case len(l.o.Interfaces) > 0 && !slices.Contains(l.o.Interfaces, ifi.name):
		return "not among the interfaces that were chosen"
	case ifi.flags&net.FlagUp == 0:
		return "down"
	}
	return ""
}

// beat follows the interfaces, forgets the silent and sends the beacons that are due. It returns the interfaces in use.
func (l *LAN) beat(ctx context.Context, now time.Time) []*ifaceState {
	l.look(now)
	l.mu.Lock()
	l.table.expire(now)
	lost := l.table.takeLost()
	ifaces := slices.SortedFunc(maps.Values(l.ifaces), func(a, b *ifaceState) int { return a.index - b.index })
	l.mu.Unlock()
	for _, addr := range lost {
		l.o.Logger.Debug("neighbour is gone", "peer", addr.Key, "address", addr)
		l.o.Lost(addr)
	}
	listeners := l.o.Addresses()
	for _, st := range ifaces {
		if ctx.Err() != nil {
			break
		}
		l.serve(ctx, now, st, listeners)
	}
	return ifaces
}

// serve sends what is due on one interface.
func (l *LAN) serve(ctx context.Context, now time.Time, st *ifaceState, listeners []identity.Address) {
	var errs []error
	try := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	multicast6 := st.flags&net.FlagMulticast != 0 && st.speaks(ipv6Family)
	if multicast6 {
		for _, s := range l.sockets {
			try(string(s.means)+" over "+s.family(), s.join(st.netif))
		}
	}
	if now.Before(st.due) {
		l.note(st, errs, false, false)
		return
	}
	st.due = now.Add(l.o.Interval - l.o.Poll/2) // the ticker is not exact

	sent := false
	all := announced(listeners, l.self, st.netif, netip.Addr{}, true)
	if st.flags&net.FlagBroadcast != 0 {
		for _, p := range st.prefixes {
			addrs := announced(listeners, l.self, st.netif, p.Addr(), false)
			if _, ok := broadcast(p); !ok || len(addrs) == 0 {
				continue
			}
			s := st.senders[p.Addr()]
			if s == nil {
				var err error
				if s, err = newSender(ctx, p); err != nil {
					try("broadcast", err)
					continue
				}
				st.senders[p.Addr()] = s
			}
			sent = true
			try("plain beacon", s.send(encodePlain(addrs), plainPort, p.Addr(), st.netif))
			try("signed beacon", s.send(encodeSigned(l.o.Key, &l.o.NetworkKey, addrs), signedPort, p.Addr(), st.netif))
		}
	}
	for _, s := range l.sockets {
		if s.group.IsValid() && s.conn != nil && multicast6 && len(all) > 0 {
			sent = true
			try(string(s.means)+" beacon over "+s.family(), s.send(encodeSigned(l.o.Key, &l.o.NetworkKey, all), st.netif))
		}
	}
	st.all = all
	l.mu.Lock()
	st.announced = all
	l.mu.Unlock()
	l.note(st, errs, true, sent)
}

// note keeps what became of sending on an interface. beacon says that it was time for one; sent, that there was something to say.
// What goes wrong is logged when it does so twice in a row, and once: an IPv6 address cannot be sent from for the first second
// or two, while the system asks whether somebody else has it (RFC 4862 section 5.4).
func (l *LAN) note(st *ifaceState, errs []error, beacon, sent bool) {
	err := errors.Join(errs...)
	l.mu.Lock()
	old := st.sendErr
	if err != nil || beacon {
		st.sendErr = err
	}
	if sent {
		st.sent = l.now()
	}
	l.mu.Unlock()
	switch {
	case err == nil && beacon:
		st.warned = ""
	case err != nil && old != nil && old.Error() == err.Error() && st.warned != err.Error():
		st.warned = err.Error()
		l.o.Logger.Warn("cannot announce everywhere", "interface", st.name, "err", err)
	}
}
