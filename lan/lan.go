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
	offline bool // no interface has an address

	mu       sync.Mutex
	table    table
	limits   [3]limiter          // in the order of allMeans
	ifaces   map[int]*ifaceState // those in use, by index
	others   []netif             // those that are not
	errs     map[*socket]error   // why a socket is not there; nil: it is
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
	all     []identity.Address // what is announced
	said    bool               // by mDNS, once at least
	repeat  int                // announcements by mDNS that are still to be made
	query   time.Time          // when the next question is asked by mDNS
	gap     time.Duration      // between the last one and that

	// Under LAN.mu.
	announced []identity.Address
	sent      time.Time
	sendErr   error
	own       [3]time.Time // when a packet of our own was heard, in the order of allMeans
	answered  [2]time.Time // when mDNS was last sent: IPv4, IPv6
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
		table:  table{m: map[identity.Address]*neighbour{}},
		ifaces: map[int]*ifaceState{},
		errs:   map[*socket]error{},
	}
	for i, each := range []budget{beaconBudget, beaconBudget, mdnsBudget} {
		l.limits[i] = limiter{each: each, idle: o.Silence, sources: map[netip.Addr]*bucket{}}
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
	tick := time.NewTicker(l.o.Poll)
	defer tick.Stop()
	for {
		l.openSockets(ctx, &readers)
		l.beat(ctx, l.now())
		select {
		case <-ctx.Done():
			l.goodbye()
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
		if l.packet(l.now(), s.means, buf[:n], src, ifIndex) {
			l.answer(s, ifIndex, src)
		}
	}
}

// packet handles what came in by an interface, 0 for one that is not known. It reports whether mDNS asks for us.
func (l *LAN) packet(now time.Time, means Means, packet []byte, src netip.Addr, ifIndex int) (asks bool) {
	m := slices.Index(allMeans[:], means)
	l.mu.Lock()
	st := l.arrived(src, ifIndex)
	if st == nil {
		l.counters.offLink++
		l.mu.Unlock()
		return false
	}
	ifi := st.netif
	allowed := l.limits[m].allow(now, src)
	if !allowed {
		l.counters.budget++
	}
	l.mu.Unlock()
	if !allowed {
		return false
	}

	type claim struct {
		id       identity.ID
		addrs    []identity.Address
		verified bool
		ttl      time.Duration
	}
	var claims []claim
	switch means {
	case Plain:
		id, addrs, err := decodePlain(packet)
		if err != nil {
			l.count(&l.counters.garbage)
			return false
		}
		claims = []claim{{id, addrs, false, l.o.Silence}}
	case Signed:
		id, addrs, verified, err := decodeSigned(&l.o.NetworkKey, packet)
		if err != nil {
			l.count(&l.counters.garbage)
			return false
		}
		if !verified {
			l.count(&l.counters.forged)
			return false
		}
		claims = []claim{{id, addrs, true, l.o.Silence}}
	case MDNS:
		p := decodeMDNS(packet, l.self)
		for _, rec := range p.finds {
			claims = append(claims, claim{rec.id, rec.addrs, false, rec.ttl})
		}
		asks = p.asks
	}

	var fresh []sighting
	l.mu.Lock()
	for _, c := range claims {
		if c.id == l.self {
			// Anybody can say so in clear; it only tells whether sending works.
			st.own[m] = now
			continue
		}
		addrs, asSigned := reachable(c.addrs, src, ifi)
		for _, a := range addrs {
			if c.ttl == 0 {
				l.table.takeBack(now, a, src)
				continue
			}
			s := sighting{addr: a, means: means, verified: c.verified && asSigned, src: src, ifName: ifi.name, lasts: c.ttl}
			if l.table.see(now, s) {
				fresh = append(fresh, s)
			}
		}
	}
	l.mu.Unlock()
	for _, s := range fresh {
		l.o.Logger.Debug("neighbour", "peer", s.addr.Key, "address", s.addr, "by", s.means, "verified", s.verified, "interface", s.ifName)
		l.o.Found(s.addr)
	}
	return asks
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
		fresh := &ifaceState{netif: ifi, senders: map[netip.Addr]*sender{}, due: now, query: now}
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
			fresh.own, fresh.sent, fresh.answered = st.own, st.sent, st.answered
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
		l.ifaces[ifi.index] = &ifaceState{netif: ifi, senders: map[netip.Addr]*sender{}, due: now, query: now}
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

// beat follows the interfaces, forgets the silent and sends what is due.
func (l *LAN) beat(ctx context.Context, now time.Time) {
	l.look(now)
	l.mu.Lock()
	l.table.expire(now)
	lost := l.table.takeLost()
	ifaces := slices.Collect(maps.Values(l.ifaces))
	l.mu.Unlock()
	for _, addr := range lost {
		l.o.Logger.Debug("neighbour is gone", "peer", addr.Key, "address", addr)
		l.o.Lost(addr)
	}
	listeners := l.o.Addresses()
	for _, st := range ifaces {
		if ctx.Err() != nil {
			return
		}
		l.serve(ctx, now, st, listeners)
	}
}

// serve sends what is due on one interface.
func (l *LAN) serve(ctx context.Context, now time.Time, st *ifaceState, listeners []identity.Address) {
	var errs []error
	try := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	v4, v6, local := st.hosts()
	has6 := len(v6)+len(local) > 0
	multicast := st.flags&net.FlagMulticast != 0
	if multicast {
		for _, s := range l.sockets {
			if s.v6 && has6 || !s.v6 && len(v4) > 0 {
				try(string(s.means)+" over "+s.family(), s.join(st.netif))
			}
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
	if multicast {
		for _, s := range l.sockets {
			if s.means == Signed && s.v6 && s.conn != nil && has6 && len(all) > 0 {
				sent = true
				try("signed beacon over ipv6", s.send(encodeSigned(l.o.Key, &l.o.NetworkKey, all), st.netif))
			}
		}
		l.serveMDNS(now, st, all, try)
	}
	st.all = all
	l.mu.Lock()
	st.announced = all
	l.mu.Unlock()
	l.note(st, errs, true, sent)
}

// serveMDNS announces what is new, twice, and asks in growing intervals (RFC 6762 sections 5.2 and 8.3).
func (l *LAN) serveMDNS(now time.Time, st *ifaceState, all []identity.Address, try func(string, error)) {
	if !slices.Equal(all, st.all) {
		st.repeat = 2
	}
	if len(all) > 0 && st.repeat > 0 {
		st.repeat--
		st.said = true
		try("mdns", l.multicast(st, all, mdnsTTL))
	}
	if now.Before(st.query) {
		return
	}
	st.gap = min(max(2*st.gap, 2*time.Second), mdnsTTL/2)
	st.query = now.Add(st.gap)
	for _, s := range l.sockets {
		if s.means == MDNS && s.conn != nil && s.joined[st.index] {
			try("mdns over "+s.family(), s.send(encodeQuery(), st.netif))
		}
	}
}

// multicast sends our records by mDNS on one interface.
func (l *LAN) multicast(st *ifaceState, all []identity.Address, ttl time.Duration) error {
	v4, v6, local := st.hosts()
	packet, err := encodeAnswer(l.self, all, slices.Concat(v4, v6, local), ttl)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range l.sockets {
		if s.means == MDNS && s.conn != nil && s.joined[st.index] {
			errs = append(errs, s.send(packet, st.netif))
		}
	}
	return errors.Join(errs...)
}

// answer answers a question that came in by mDNS. An interface gets one answer in a second, whoever asks (RFC 6762 section 6).
func (l *LAN) answer(s *socket, ifIndex int, src netip.Addr) {
	now := l.now()
	family := 0
	if s.v6 {
		family = 1
	}
	l.mu.Lock()
	st := l.arrived(src, ifIndex)
	if st == nil || len(st.announced) == 0 || now.Sub(st.answered[family]) < time.Second {
		l.mu.Unlock()
		return
	}
	st.answered[family] = now
	ifi, all := st.netif, st.announced
	l.mu.Unlock()
	v4, v6, local := ifi.hosts()
	packet, err := encodeAnswer(l.self, all, slices.Concat(v4, v6, local), mdnsTTL)
	if err == nil {
		err = s.send(packet, ifi)
	}
	if err != nil {
		l.o.Logger.Debug("cannot answer by mdns", "interface", ifi.name, "err", err)
	}
}

// goodbye takes our mDNS records back. A beacon has no goodbye.
func (l *LAN) goodbye() {
	l.mu.Lock()
	ifaces := slices.Collect(maps.Values(l.ifaces))
	l.mu.Unlock()
	for _, st := range ifaces {
		if st.said && len(st.all) > 0 {
			_ = l.multicast(st, st.all, 0)
		}
	}
}

// note keeps what became of sending on an interface, and logs what changed. beacon says that it was time for one; sent, that
// there was something to say.
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
	if err != nil && (old == nil || old.Error() != err.Error()) {
		l.o.Logger.Warn("cannot announce everywhere", "interface", st.name, "err", err)
	}
}
