package sched

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"charkha/identity"
)

// Kind says how a peer is reached. The lower one is preferred when a key has several.
type Kind uint8

// The kinds of addresses, each with slots of its own.
const (
	LAN   Kind = iota // a neighbour on the local network
	Room              // a peer reached through a room
	Pub               // a pub or a room server
	Other             // anything else
	kinds
)

var kindNames = [kinds]string{"lan", "room", "pub", "other"}

func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return "?"
}

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// FromMessage is the source of an address that a `pub` message named. Such an address is unproven.
const FromMessage = "pub"

// Options of a Scheduler. Self is needed.
type Options struct {
	Self identity.ID
	// Blocked reports whether we block a peer. nil: nobody. After a change, call Recheck.
	Blocked func(identity.ID) bool
	// Known reports whether a peer is somebody whose feed we want: strangers give way to them. nil: nobody is.
	Known func(identity.ID) bool
	// Rand is where jitter comes from. nil: seeded by chance.
	Rand *rand.Rand

	// Slots are how many connections of each kind we make: 0 is 8, 5, 4 and 3.
	Slots [4]int
	// Incoming is how many connections others may make: 0 is 1000.
	Incoming int

	// Least is the pause after a first failure, 0: 2 s. It doubles up to MostNear for addresses that somebody just told to be
	// there (LAN, Room) and kept ones, 0: 2 min, and up to Most for others, 0: 1 h.
	Least, MostNear, Most time.Duration
	// Brief is how long a connection without news must hold for not to count as a failure: 0 is 20 s.
	Brief time.Duration
	// Mute is for how long a peer that we dialled may say nothing after it took our EBT call: 0 is 3 min. Then it is dropped, and
	// its key waits for Penalty and longer each time.
	Mute time.Duration
	// Rotate is how long a peer without news keeps its slot while others wait, RotateNews how long one with news: 0 is 10 min
	// and 1 h. The more wait for each slot, the shorter. Rotate is also for the pauses between the unproven addresses that are tried
	// beside the slots when these are taken: for each slot one in that time, or more when many wait.
	Rotate, RotateNews time.Duration
	// Head is how much longer somebody with news is taken to have waited, half of it somebody known; and how much shorter an
	// unproven address: 0 is 20 min.
	Head time.Duration
	// Watchdog is for how long a peer may owe feeds and transfer nothing: 0 is 30 s. Penalty is how long its key waits then, and
	// from the second time on is not admitted either: 0 is 2 min. It doubles each time.
	Watchdog, Penalty time.Duration
	// WakeSpread is the time over which dials are spread after Woke: 0 is 3 s.
	WakeSpread time.Duration

	// MaxAddresses bounds the addresses that are remembered, kept ones aside: 0 is 4096. MaxUnproven bounds those of one kind
	// among them that never led anywhere, and MaxPerKey those of one key: 0 is 300 and 8.
	MaxAddresses, MaxUnproven, MaxPerKey int
}

const (
	maxPenalties    = 1024          // keys without an address that are not admitted for a while
	maxForeign      = 1024          // saved addresses that mean nothing here
	unprovenTries   = 5             // after so many failures an unproven address is forgotten
	offenceFor      = time.Hour     // for how long after its end a penalty makes the next one longer
	goneFor         = time.Hour     // how long a neighbour that is gone is remembered, for its failures
	returnsAfter    = time.Minute   // who was gone for so long may come back at once
	maxFailures     = 60            // more make no difference
	newsIsNewFor    = 2 * time.Hour // for how long news earn preference
	rotateLeast     = time.Minute   // nobody's slot is taken before
	maxErrorText    = 200           // bytes kept of an error
	maxKeptIncoming = 64            // incoming connections of kept keys that may go beyond Incoming
	manyAddresses   = 256           // with more, they are gone through every lookEvery at most, not whenever one is due
	lookEvery       = 250 * time.Millisecond
	lineFor         = time.Minute // how long the order of those who wait is good
)

// entry is an address.
type entry struct {
	addr     identity.Address
	p        *peer
	kind     Kind
	source   string
	kept     bool
	gone     time.Time // since when nobody says that it is there; zero: it is there
	proven   bool      // there was a connection over it
	birth    time.Time
	changed  time.Time // when it was last dialled, connected or disconnected
	failures int
	err      string
	until    time.Time // not dialled before
	news     time.Time
	duration Duration // of its connections
	saved    *Saved   // as read from the file, for what is written back; nil: it was not in the file
}

// peer is a key: with addresses, connected, or both.
type peer struct {
	id       identity.ID
	addrs    []*entry
	dialling *entry
	conn     *conn
	failures int // over all addresses, since it was last connected well
	until    time.Time
	offences int       // how often the watchdog dropped it, or it was mute, since it last had news
	penalty  time.Time // not admitted before
	forgiven time.Time // when the offences are forgotten
	waiting  time.Time // since when it waits for a slot
	active   bool      // it is in Scheduler.active
}

// conn is a connection.
type conn struct {
	since    time.Time
	outgoing bool
	via      *entry // nil when they dialled
	kind     Kind
	news     time.Time // zero: none
	owes     int       // feeds
	owesFrom time.Time // since when
	dropping string    // Next said to drop it, for this reason
	atFault  bool      // and it counts as a failure, and as an offence
	mute     bool      // it took our EBT call and said nothing
	stale    bool      // it is from before we slept
}

// waitsFrom is since when a peer that owes feeds lets us wait. Only what is stored ends that: duplicates do not.
func (c *conn) waitsFrom() time.Time { return later(c.owesFrom, c.news) }

// takesSlot reports whether a connection takes a slot of its kind: we dialled it, and the operator did not ask for it.
func (c *conn) takesSlot() bool { return c != nil && c.outgoing && c.via != nil && !c.via.kept }

// Scheduler decides whom to dial. It is for one goroutine at a time.
type Scheduler struct {
	o        Options
	entries  []*entry // in the order in which they came
	keys     map[identity.ID]*peer
	peers    []*peer
	active   []*peer // those connected or being dialled, and some who were until the last pass
	foreign  []Saved
	rotated  [kinds]time.Time // when a slot was last taken from somebody
	probed   [kinds]time.Time // when an unproven address was last tried beside the slots
	paused   bool             // nobody is dialled
	dirty    bool
	again    time.Time
	expireAt time.Time // when somebody may be to be forgotten; zero: never

	// Who waits, in order: made anew when lineOld is set, at lookAt, and when it is older than lineFor. In between, those who are
	// not to be dialled any more are skipped.
	line    [kinds]line
	lineAt  time.Time
	lineOld bool
	lookAt  time.Time // when somebody else may be dialled; zero: nobody waits for a time
}

// line is who waits for a slot of a kind: of each key the best address that is due, best first.
type line struct {
	told, unproven []candidate
}

type candidate struct {
	e    *entry
	rank time.Time // since when it is taken to wait
}

// Drop is a connection to close, and why, for people.
type Drop struct {
	ID  identity.ID
	Why string
}

func orDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// New makes a scheduler that knows what was saved.
func New(now time.Time, o Options, saved []Saved) *Scheduler {
	if o.Blocked == nil {
		o.Blocked = func(identity.ID) bool { return false }
	}
	if o.Known == nil {
		o.Known = func(identity.ID) bool { return false }
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	for k, d := range [kinds]int{8, 5, 4, 3} {
		orDefault(&o.Slots[k], d)
	}
	orDefault(&o.Incoming, 1000)
	orDefault(&o.Least, 2*time.Second)
	orDefault(&o.MostNear, 2*time.Minute)
	orDefault(&o.Most, time.Hour)
	orDefault(&o.Brief, 20*time.Second)
	orDefault(&o.Mute, 3*time.Minute)
	orDefault(&o.Rotate, 10*time.Minute)
	orDefault(&o.RotateNews, time.Hour)
	orDefault(&o.Head, 20*time.Minute)
	orDefault(&o.Watchdog, 30*time.Second)
	orDefault(&o.Penalty, 2*time.Minute)
	orDefault(&o.WakeSpread, 3*time.Second)
	orDefault(&o.MaxAddresses, 4096)
	orDefault(&o.MaxUnproven, 300)
	orDefault(&o.MaxPerKey, 8)
	s := &Scheduler{o: o, keys: map[identity.ID]*peer{}, dirty: true, lineOld: true}
	for _, v := range saved {
		s.load(now, v)
	}
	return s
}

// load takes over an address from the file.
func (s *Scheduler) load(now time.Time, v Saved) {
	if v.Address.Key.IsZero() {
		if len(s.foreign) < maxForeign {
			s.foreign = append(s.foreign, v)
		}
		return
	}
	source := v.Source
	if auto, ok := peek[bool](v.Extra, "autoconnect"); ok && !auto && source == "" {
		source = FromMessage // so ssb-conn marks what it has from a message or was told not to dial by itself
	}
	e := s.offer(now, v.Address, v.Kind, source, v.proven())
	if e == nil || e.saved != nil {
		return
	}
	e.saved, e.duration = &v, v.Duration
	e.proven = v.proven()
	e.failures = min(max(v.Failures, 0), maxFailures)
	if !v.Birth.IsZero() && v.Birth.Before(now) {
		e.birth = v.Birth
	}
	e.changed, e.news = v.StateChange, v.News
	if e.changed.After(now) {
		e.changed = now // the clock went back
	}
	if e.news.After(now) {
		e.news = now
	}
	if e.failures > 0 && !e.changed.IsZero() {
		e.until = e.changed.Add(s.pause(e))
		e.p.failures = max(e.p.failures, e.failures)
	}
	e.p.waiting = now
}

// clean makes of an address what can be compared.
func clean(addr identity.Address) identity.Address {
	if addr.Proto == "" {
		addr.Proto = "net"
	}
	return addr
}

// look has Next see to everything anew.
func (s *Scheduler) look() { s.dirty, s.lineOld = true, true }

// entry is what is known of an address.
func (s *Scheduler) entry(addr identity.Address) *entry {
	if p := s.keys[addr.Key]; p != nil {
		for _, e := range p.addrs {
			if e.addr == addr {
				return e
			}
		}
	}
	return nil
}

// Offer says that a peer may be reached at an address. source says who told so, for people; FromMessage is special. It
// reports whether the address is remembered.
func (s *Scheduler) Offer(now time.Time, addr identity.Address, kind Kind, source string) bool {
	return s.offer(now, addr, kind, source, false) != nil
}

func (s *Scheduler) offer(now time.Time, addr identity.Address, kind Kind, source string, proven bool) *entry {
	if kind >= kinds {
		kind = Other
	}
	addr = clean(addr)
	if addr.Key.IsZero() || addr.Key == s.o.Self {
		return nil
	}
	e := s.entry(addr)
	if e != nil {
		if !e.gone.IsZero() {
			if now.Sub(e.gone) >= returnsAfter {
				e.until, e.p.until = time.Time{}, time.Time{}
			}
			e.gone = time.Time{}
			e.kind, e.source = kind, source
			s.look()
		} else if kind < e.kind || e.source == FromMessage && source != FromMessage {
			e.kind, e.source = min(kind, e.kind), source
			s.look()
		}
		return e
	}
	p := s.keys[addr.Key]
	if p != nil && len(p.addrs) >= s.o.MaxPerKey && !s.forget(now, func(x *entry) bool { return x.p == p }) {
		return nil
	}
	unproven := 0
	for _, x := range s.entries {
		if x.kind == kind && !x.proven && !x.kept {
			unproven++
		}
	}
	if !proven && unproven >= s.o.MaxUnproven && !s.forget(now, func(x *entry) bool { return x.kind == kind && !x.proven }) {
		return nil
	}
	if len(s.entries) >= s.o.MaxAddresses && !s.forget(now, func(*entry) bool { return true }) {
		return nil
	}
	return s.add(now, addr, kind, source)
}

func (s *Scheduler) add(now time.Time, addr identity.Address, kind Kind, source string) *entry {
	p := s.key(addr.Key)
	if len(p.addrs) == 0 {
		p.waiting = now
	}
	e := &entry{addr: addr, p: p, kind: kind, source: source, birth: now}
	p.addrs = append(p.addrs, e)
	s.entries = append(s.entries, e)
	s.look()
	return e
}

func (s *Scheduler) key(id identity.ID) *peer {
	p := s.keys[id]
	if p == nil {
		p = &peer{id: id}
		s.keys[id] = p
		s.peers = append(s.peers, p)
	}
	return p
}

func (e *entry) busy() bool { return e.p.dialling == e || e.p.conn != nil && e.p.conn.via == e }

// forget makes room by forgetting one address among some: one that is gone, else an unproven one that failed, the one that
// failed longest ago first; else one that has been failing for long. It reports whether there was one.
func (s *Scheduler) forget(now time.Time, among func(*entry) bool) bool {
	var worst *entry
	rank := func(e *entry) int {
		switch {
		case !e.gone.IsZero():
			return 0
		case !e.proven && e.failures > 0:
			return 1
		case e.failures >= unprovenTries:
			return 2
		}
		return 3
	}
	for _, e := range s.entries {
		if e.kept || e.busy() || rank(e) == 3 || !among(e) {
			continue
		}
		if worst == nil || rank(e) < rank(worst) || rank(e) == rank(worst) && e.changed.Before(worst.changed) {
			worst = e
		}
	}
	if worst != nil {
		s.remove(now, worst)
	}
	return worst != nil
}

func (s *Scheduler) remove(now time.Time, e *entry) {
	if e.gone.IsZero() {
		e.gone = now // out of the line, too
	}
	s.entries = slices.DeleteFunc(s.entries, func(x *entry) bool { return x == e })
	e.p.addrs = slices.DeleteFunc(e.p.addrs, func(x *entry) bool { return x == e })
	s.tidy(now, e.p)
}

// tidy forgets a key of which there is nothing to remember.
func (s *Scheduler) tidy(now time.Time, p *peer) {
	if len(p.addrs) > 0 || p.conn != nil || p.dialling != nil || p.offences > 0 && now.Before(p.forgiven) || s.keys[p.id] != p {
		return
	}
	delete(s.keys, p.id)
	s.peers = slices.DeleteFunc(s.peers, func(x *peer) bool { return x == p })
}

// Withdraw says that nobody is at an address any more: a neighbour fell silent, an attendant left the room. A connection over
// it stays, and so does an address that is kept.
func (s *Scheduler) Withdraw(now time.Time, addr identity.Address) {
	if e := s.entry(clean(addr)); e != nil && e.gone.IsZero() {
		e.gone = now
		s.dirty = true
		s.expireBy(now.Add(goneFor))
	}
}

// Keep has an address dialled whenever there is no connection with its key, outside the slots.
func (s *Scheduler) Keep(now time.Time, addr identity.Address) {
	addr = clean(addr)
	if addr.Key.IsZero() || addr.Key == s.o.Self {
		return
	}
	e := s.entry(addr)
	if e == nil {
		kind := Other
		if addr.Proto == "tunnel" {
			kind = Room
		}
		e = s.add(now, addr, kind, "operator")
	}
	e.kept = true
	s.look()
}

// Unkeep makes a kept address one like any other.
func (s *Scheduler) Unkeep(now time.Time, addr identity.Address) {
	if e := s.entry(clean(addr)); e != nil && e.kept {
		e.kept = false
		s.look()
		s.idle(now, e.p)
	}
}

// Forget drops an address from memory, unless it is in use: then when it no longer is. It is no longer kept.
func (s *Scheduler) Forget(now time.Time, addr identity.Address) {
	e := s.entry(clean(addr))
	if e == nil {
		return
	}
	e.kept, e.proven, e.gone = false, false, now.Add(-goneFor)
	if !e.busy() {
		s.remove(now, e)
	}
	s.look()
}

// Admit returns an error, for people, when a peer that dials us should be turned away.
func (s *Scheduler) Admit(now time.Time, id identity.ID) error {
	if s.o.Blocked(id) {
		return fmt.Errorf("%s is blocked", id.Short())
	}
	if p := s.keys[id]; p != nil && now.Before(p.penalty) {
		return fmt.Errorf("%s did not send what it promised, it may come back in %s", id.Short(), about(p.penalty.Sub(now)))
	}
	return nil
}

// Connected says that there is a connection with a peer. addr is what was dialled; it is ignored when outgoing is false.
// A connection with the same key before this one ends with that, at nobody's fault: Disconnected need not be called for it.
func (s *Scheduler) Connected(now time.Time, id identity.ID, addr identity.Address, outgoing bool) {
	p := s.key(id)
	if p.conn != nil {
		s.ended(now, p)
	}
	c := &conn{since: now, outgoing: outgoing}
	if outgoing {
		if e := s.entry(clean(addr)); e != nil {
			c.via, c.kind = e, e.kind
			e.changed, e.proven, e.err = now, true, ""
		}
		if p.dialling != nil && p.dialling.addr == clean(addr) {
			p.dialling = nil
		}
	}
	p.conn = c
	s.acts(p)
	s.dirty = true
}

// acts notes that a key is connected or being dialled.
func (s *Scheduler) acts(p *peer) {
	if !p.active {
		p.active = true
		s.active = append(s.active, p)
	}
}

// idle notes that a key may have ceased to be busy: it waits from now on.
func (s *Scheduler) idle(now time.Time, p *peer) {
	for _, e := range p.addrs {
		if e.kept || e.gone.IsZero() {
			s.lookBy(later(e.until, p.until))
		} else {
			s.expireBy(later(now, e.gone.Add(goneFor)))
		}
	}
}

// lookBy has those who wait gone through at a time.
func (s *Scheduler) lookBy(t time.Time) {
	if len(s.entries) > manyAddresses {
		t = later(t, s.lineAt.Add(lookEvery))
	}
	if s.lookAt.IsZero() || t.Before(s.lookAt) {
		s.lookAt = t
	}
}

// expireBy has those who are to be forgotten looked for at a time.
func (s *Scheduler) expireBy(t time.Time) {
	if s.expireAt.IsZero() || t.Before(s.expireAt) {
		s.expireAt = t
	}
}

// Failed says what became of a dial that led nowhere. err is nil when nobody is at fault: the peer reached us meanwhile, or
// we are stopping.
func (s *Scheduler) Failed(now time.Time, addr identity.Address, err error) {
	addr = clean(addr)
	p := s.keys[addr.Key]
	if p == nil {
		return
	}
	if p.dialling != nil && p.dialling.addr == addr {
		p.dialling = nil
	}
	s.dirty = true
	if e := s.entry(addr); e != nil {
		e.changed = now
		if err == nil {
			// Not sooner: a connection that ended at once may have been told to Disconnected before.
			e.until = later(e.until, now.Add(s.jitter(s.o.Least)))
		} else {
			s.fail(now, e, err.Error())
		}
	}
	s.idle(now, p)
	s.tidy(now, p)
}

// fail notes a failure of an address.
func (s *Scheduler) fail(now time.Time, e *entry, why string) {
	p := e.p
	e.failures = min(e.failures+1, maxFailures)
	e.err = why[:min(len(why), maxErrorText)]
	e.changed = now
	e.duration.add(0)
	e.until = now.Add(s.pause(e))
	s.failKey(now, p, e)
	if !e.kept && !e.proven && e.source == FromMessage && e.failures >= unprovenTries && s.reachesFar() {
		s.remove(now, e)
	}
}

// reachesFar reports whether there is a connection that we made with somebody beyond the local network. While there is none, that an
// address cannot be reached says nothing about it.
func (s *Scheduler) reachesFar() bool {
	return slices.ContainsFunc(s.active, func(p *peer) bool { return p.conn != nil && p.conn.outgoing && p.conn.kind != LAN })
}

// failKey lets a key wait: only shortly as long as it has addresses that were not tried, then longer after each round.
func (s *Scheduler) failKey(now time.Time, p *peer, e *entry) {
	p.failures = min(p.failures+1, maxFailures)
	p.waiting = now
	most := s.o.MostNear
	if e != nil {
		most = s.most(e)
	}
	p.until = now.Add(s.backoff(p.failures/max(1, len(p.addrs)), most))
}

func (s *Scheduler) most(e *entry) time.Duration {
	if e.kept || (e.kind == LAN || e.kind == Room) && e.gone.IsZero() {
		return s.o.MostNear
	}
	return s.o.Most
}

func (s *Scheduler) pause(e *entry) time.Duration { return s.backoff(e.failures, s.most(e)) }

func (s *Scheduler) backoff(failures int, most time.Duration) time.Duration {
	d := s.o.Least
	for i := 1; i < failures && d < most; i++ {
		d *= 2
	}
	return s.jitter(min(d, most))
}

// jitter makes half of a time chance, so that those who lost the same peer do not all come back at once.
func (s *Scheduler) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(s.o.Rand.Int64N(int64(d/2)+1))
}

// Disconnected says that the connection with a peer has ended.
func (s *Scheduler) Disconnected(now time.Time, id identity.ID, why string) {
	p := s.keys[id]
	if p == nil || p.conn == nil {
		return
	}
	c := s.ended(now, p)
	held := now.Sub(c.since)
	switch {
	case c.atFault:
		if c.via != nil {
			s.fail(now, c.via, c.dropping)
		} else {
			s.failKey(now, p, nil)
		}
		// Once may be a link that died without a word, so that who dials us again is admitted. Twice is too often.
		p.offences = min(p.offences+1, maxFailures)
		wait := s.o.Penalty
		for i := 2; i < p.offences && wait < s.o.Most; i++ {
			wait *= 2
		}
		p.until = later(p.until, now.Add(wait))
		if p.offences > 1 && !c.mute { // who only says nothing may call us
			p.penalty = p.until
		}
		p.forgiven = now.Add(wait + offenceFor)
		s.expireBy(p.forgiven)
		s.limitPenalties(now)
	case c.dropping == "" && c.via != nil && c.mute:
		s.fail(now, c.via, why)
	case c.dropping == "" && held < s.o.Brief && c.news.IsZero():
		if c.via != nil {
			s.fail(now, c.via, "ended at once: "+why)
		} else {
			p.until = later(p.until, now.Add(s.jitter(s.o.Least))) // they dialled: that ends no pause
		}
	default:
		p.failures = 0
		if c.via != nil {
			c.via.failures = 0
			c.via.err = why[:min(len(why), maxErrorText)]
		}
		p.until = now.Add(s.jitter(s.o.Least))
	}
	s.idle(now, p)
	s.tidy(now, p)
}

// ended closes the account of a connection.
func (s *Scheduler) ended(now time.Time, p *peer) *conn {
	c := p.conn
	p.conn, p.waiting, s.dirty = nil, now, true
	if e := c.via; e != nil {
		e.changed = now
		e.duration.add(float64(now.Sub(c.since).Milliseconds()))
	}
	return c
}

// limitPenalties forgets the oldest penalties of keys that we have no address of.
func (s *Scheduler) limitPenalties(now time.Time) {
	count := 0
	var oldest *peer
	for _, p := range s.peers {
		if len(p.addrs) == 0 && p.conn == nil && p.dialling == nil {
			if count++; oldest == nil || p.forgiven.Before(oldest.forgiven) {
				oldest = p
			}
		}
	}
	if count > maxPenalties {
		oldest.offences = 0
		s.tidy(now, oldest)
	}
}

// News says that messages which a peer sent were stored.
func (s *Scheduler) News(now time.Time, id identity.ID, messages int) {
	p := s.keys[id]
	if p == nil || p.conn == nil || messages <= 0 {
		return
	}
	p.conn.news, p.conn.mute = now, false
	p.offences = 0
	for _, e := range p.addrs {
		e.news = now
	}
}

// Mute says whether a peer has said nothing at all on a connection, though it took our EBT call.
func (s *Scheduler) Mute(now time.Time, id identity.ID, mute bool) {
	if p := s.keys[id]; p != nil && p.conn != nil && p.conn.mute != mute {
		p.conn.mute = mute
		s.dirty = true
	}
}

// Promised says how many feeds a peer claims to have more of, was asked for, and has let wait; 0: none any more.
func (s *Scheduler) Promised(now time.Time, id identity.ID, feeds int) {
	p := s.keys[id]
	if p == nil || p.conn == nil || p.conn.owes == feeds {
		return
	}
	if p.conn.owes == 0 {
		p.conn.owesFrom = now
	}
	s.dirty = s.dirty || p.conn.owes == 0
	p.conn.owes = feeds
}

// Woke says that the machine slept or that its network is another: pauses end, and the connections of before, of which nobody
// knows whether they live, are made anew within Options.WakeSpread or so.
func (s *Scheduler) Woke(now time.Time) {
	for _, p := range s.peers {
		spread := now.Add(time.Duration(s.o.Rand.Int64N(int64(s.o.WakeSpread) + 1)))
		if p.until.After(spread) && !now.Before(p.penalty) {
			p.until = spread
		}
		for _, e := range p.addrs {
			if e.until.After(spread) {
				e.until = spread
			}
		}
		if p.conn != nil {
			p.conn.stale = true
		}
	}
	s.look()
}

// Recheck looks at Options.Blocked and Options.Known anew.
func (s *Scheduler) Recheck(now time.Time) { s.look() }

// Pause stops all dialling, or goes on with it. Nobody is at fault for that. Connections stay, and none rotates.
func (s *Scheduler) Pause(pause bool) {
	s.paused = pause
	s.look()
}

// Next returns what to dial and what to drop now, and when to ask again if nothing happens before; zero: never. What was
// returned is taken as begun: each dial must end in Connected or Failed, each drop in Disconnected.
func (s *Scheduler) Next(now time.Time) (dial []identity.Address, drop []Drop, again time.Time) {
	if !s.dirty && (s.again.IsZero() || now.Before(s.again)) {
		return nil, nil, s.again
	}
	s.dirty, s.again = false, time.Time{}
	if !s.expireAt.IsZero() && !now.Before(s.expireAt) {
		s.expire(now)
	}
	s.active = slices.DeleteFunc(s.active, func(p *peer) bool {
		p.active = p.conn != nil || p.dialling != nil
		return !p.active
	})
	drop = s.drops(now)
	if s.paused {
		s.at(s.expireAt)
		return nil, drop, s.again
	}
	if s.lineOld || !s.lookAt.IsZero() && !now.Before(s.lookAt) || now.Sub(s.lineAt) > lineFor {
		for _, e := range s.lineUp(now) {
			s.begin(now, e)
			dial = append(dial, e.addr)
		}
	}
	var used, connected [kinds]int // slots
	for _, p := range s.active {
		if e := p.dialling; e != nil && !e.kept {
			used[e.kind]++
		}
		if p.conn.takesSlot() {
			used[p.conn.kind]++
			connected[p.conn.kind]++
		}
	}
	for k := range kinds {
		l := &s.line[k]
		begin := func(from *[]candidate) {
			e := (*from)[0].e
			*from = (*from)[1:]
			used[k]++
			s.begin(now, e)
			dial = append(dial, e.addr)
		}
		for used[k] < s.o.Slots[k] {
			told, unproven := s.first(now, &l.told), s.first(now, &l.unproven)
			switch {
			case told && !(unproven && l.unproven[0].rank.Before(l.told[0].rank)):
				begin(&l.told)
			case unproven:
				begin(&l.unproven)
			}
			if !told && !unproven {
				break
			}
		}
		if used[k] < s.o.Slots[k] {
			continue
		}
		// An unproven address would wait for ever when no slot becomes free. It is tried beside them; should it be reached, somebody
		// else gives a slot up when his time is over, and until then none more is tried.
		if used[k] == s.o.Slots[k] && connected[k] == used[k] && s.first(now, &l.unproven) {
			if next := s.probed[k].Add(s.hold(s.o.Rotate, k, len(l.unproven)) / time.Duration(s.o.Slots[k])); now.Before(next) {
				s.at(next)
			} else {
				s.probed[k] = now
				begin(&l.unproven)
			}
		}
		waiting := 0
		if s.first(now, &l.told) {
			waiting = len(l.told)
		}
		if waiting += max(0, connected[k]-s.o.Slots[k]); waiting > 0 {
			drop = append(drop, s.rotate(now, k, waiting)...)
		}
	}
	s.at(s.expireAt)
	s.at(s.lookAt)
	return dial, drop, s.again
}

func (s *Scheduler) begin(now time.Time, e *entry) {
	e.p.dialling = e
	e.changed = now
	s.acts(e.p)
}

// first removes from the front of a line who is not to be dialled any more, and reports whether somebody is left.
func (s *Scheduler) first(now time.Time, line *[]candidate) bool {
	for ; len(*line) > 0; *line = (*line)[1:] {
		if e := (*line)[0].e; !e.kept && e.gone.IsZero() && s.free(e.p) && !now.Before(later(e.until, e.p.until)) {
			return true
		}
	}
	return false
}

// at remembers a time at which Next has to look again.
func (s *Scheduler) at(t time.Time) {
	if !t.IsZero() && (s.again.IsZero() || t.Before(s.again)) {
		s.again = t
	}
}

// expire forgets who has been gone for long, and penalties that are over.
func (s *Scheduler) expire(now time.Time) {
	s.expireAt = time.Time{}
	for i := len(s.entries) - 1; i >= 0; i-- {
		if e := s.entries[i]; !e.gone.IsZero() && !e.kept && !e.busy() {
			if over := e.gone.Add(goneFor); now.Before(over) {
				s.expireBy(over)
			} else {
				s.remove(now, e)
			}
		}
	}
	for i := len(s.peers) - 1; i >= 0; i-- {
		p := s.peers[i]
		if p.offences == 0 {
			continue
		}
		if now.Before(p.forgiven) {
			s.expireBy(p.forgiven)
		} else {
			p.offences = 0
			s.tidy(now, p)
		}
	}
}

// free reports whether a key may be dialled at all: there is neither a connection nor an attempt, and no block.
func (s *Scheduler) free(p *peer) bool {
	return p.conn == nil && p.dialling == nil && !s.o.Blocked(p.id)
}

// due reports whether an address may be dialled now, and else remembers when.
func (s *Scheduler) due(now time.Time, e *entry) bool {
	until := later(e.until, e.p.until)
	if now.Before(until) {
		s.lookBy(until)
		return false
	}
	return true
}

func (e *entry) unproven() bool { return e.source == FromMessage && !e.proven }

// better reports whether e is to be tried before another address of the same key and kind.
func (e *entry) better(than *entry) bool {
	switch {
	case e.unproven() != than.unproven():
		return !e.unproven()
	case e.failures != than.failures:
		return e.failures < than.failures
	}
	return e.changed.Before(than.changed)
}

// lineUp lists for each kind who may be dialled now, best first: who waited longest, with a head start for those who had news
// and for those who are known; unproven ones are that much behind. It returns the kept addresses that are to be dialled.
func (s *Scheduler) lineUp(now time.Time) (kept []*entry) {
	s.lineAt, s.lineOld, s.lookAt = now, false, time.Time{}
	for k := range s.line {
		s.line[k] = line{s.line[k].told[:0], s.line[k].unproven[:0]}
	}
	for _, e := range s.entries {
		if e.kept && s.free(e.p) && s.due(now, e) && !slices.ContainsFunc(kept, func(x *entry) bool { return x.p == e.p }) {
			kept = append(kept, e)
		}
	}
	for _, p := range s.peers {
		if len(p.addrs) == 0 || p.conn != nil || p.dialling != nil {
			continue
		}
		var best [kinds]*entry
		for _, e := range p.addrs {
			if e.kept || !e.gone.IsZero() {
				continue
			}
			if b := best[e.kind]; (b == nil || e.better(b)) && s.due(now, e) {
				best[e.kind] = e
			}
		}
		if best == [kinds]*entry{} || s.o.Blocked(p.id) {
			continue
		}
		known := s.o.Known(p.id)
		for k, e := range best {
			if e == nil {
				continue
			}
			rank := p.waiting
			if !e.news.IsZero() && now.Sub(e.news) < newsIsNewFor {
				rank = rank.Add(-s.o.Head)
			}
			if known {
				rank = rank.Add(-s.o.Head / 2)
			}
			if l := &s.line[k]; e.unproven() {
				l.unproven = append(l.unproven, candidate{e, rank.Add(s.o.Head)})
			} else {
				l.told = append(l.told, candidate{e, rank})
			}
		}
	}
	for _, l := range s.line {
		for _, c := range [][]candidate{l.told, l.unproven} {
			slices.SortStableFunc(c, func(a, b candidate) int { return a.rank.Compare(b.rank) })
		}
	}
	return kept
}

// hold is how long something of a kind's slots is kept when some wait: the more, the shorter.
func (s *Scheduler) hold(d time.Duration, k Kind, waiting int) time.Duration {
	share := math.Sqrt(1 + float64(waiting)/float64(s.o.Slots[k]))
	return max(time.Duration(float64(d)/share), min(rotateLeast, d))
}

// rotate takes a slot of a kind from somebody, for one of those who wait.
func (s *Scheduler) rotate(now time.Time, k Kind, waiting int) []Drop {
	hold := func(d time.Duration) time.Duration { return s.hold(d, k, waiting) }
	// One after the other: the slots are not all given away at once.
	if next := s.rotated[k].Add(hold(s.o.Rotate) / time.Duration(s.o.Slots[k])); now.Before(next) {
		s.at(next)
		return nil
	}
	var longest *peer
	var longestDue time.Time
	for _, p := range s.active {
		c := p.conn
		if !c.takesSlot() || c.kind != k {
			continue
		}
		if c.dropping != "" {
			return nil // a slot is about to be free
		}
		due := c.since.Add(hold(s.o.Rotate))
		if !c.news.IsZero() {
			due = c.news.Add(hold(s.o.Rotate))
			if most := c.since.Add(hold(s.o.RotateNews)); most.Before(due) {
				due = most
			}
		}
		if longest == nil || due.Before(longestDue) {
			longest, longestDue = p, due
		}
	}
	if longest == nil {
		return nil
	}
	if now.Before(longestDue) {
		s.at(longestDue)
		return nil
	}
	s.rotated[k] = now
	c := longest.conn
	why := fmt.Sprintf("gives its %s slot to others who wait: it had no news for %s", k, about(now.Sub(later(c.since, c.news))))
	if c.news.Add(hold(s.o.Rotate)).After(now) {
		why = fmt.Sprintf("gives its %s slot to others who wait after %s", k, about(now.Sub(c.since)))
	}
	c.dropping = why
	return []Drop{{longest.id, why}}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// drops lists the connections that are to end.
func (s *Scheduler) drops(now time.Time) (drop []Drop) {
	end := func(p *peer, why string) {
		p.conn.dropping = why
		drop = append(drop, Drop{p.id, why})
	}
	incoming := 0
	for _, p := range s.active {
		c := p.conn
		if c == nil {
			continue
		}
		if !c.outgoing {
			incoming++
		}
		switch {
		case c.dropping != "":
			if !c.outgoing {
				incoming--
			}
		case s.o.Blocked(p.id):
			end(p, "it is blocked")
		case c.stale:
			end(p, "the computer slept or its network changed: connecting anew")
		case c.owes > 0:
			over := c.waitsFrom().Add(s.o.Watchdog)
			if now.Before(over) {
				s.at(over)
				continue
			}
			feeds := "a feed"
			if c.owes > 1 {
				feeds = fmt.Sprintf("%d feeds", c.owes)
			}
			c.atFault = true
			end(p, fmt.Sprintf("it says that it has more of %s and sent nothing for %s", feeds, about(now.Sub(c.waitsFrom()))))
		case c.mute && c.outgoing:
			if over := c.since.Add(s.o.Mute); now.Before(over) {
				s.at(over)
			} else {
				c.atFault = true
				end(p, fmt.Sprintf("it said nothing for %s, though it took our call", about(now.Sub(c.since))))
			}
		}
	}
	for ; incoming > s.o.Incoming; incoming-- {
		if p := s.yields(now); p != nil {
			end(p, "every slot for incoming connections is taken")
		} else {
			break
		}
	}
	return drop
}

// yields chooses which incoming connection ends when there are too many: of strangers before known ones, the longest without
// news that had its time; when nobody had, the newest.
func (s *Scheduler) yields(now time.Time) *peer {
	var best *peer
	kept := 0
	class := func(p *peer) int {
		n := 0
		if s.o.Known(p.id) {
			n = 2
		}
		if now.Sub(later(p.conn.since, p.conn.news)) < s.o.Rotate {
			n++
		}
		return n
	}
	for _, p := range s.active {
		if p.conn == nil || p.conn.outgoing || p.conn.dropping != "" {
			continue
		}
		if slices.ContainsFunc(p.addrs, func(e *entry) bool { return e.kept }) && kept < maxKeptIncoming {
			kept++
			continue
		}
		if best == nil {
			best = p
			continue
		}
		a, b := class(p), class(best)
		last, bestLast := later(p.conn.since, p.conn.news), later(best.conn.since, best.conn.news)
		switch {
		case a != b:
			if a < b {
				best = p
			}
		case a&1 == 0 && last.Before(bestLast), a&1 == 1 && last.After(bestLast):
			best = p
		}
	}
	return best
}

// Sizes is how much the scheduler remembers: addresses, and keys of which it has addresses, connections or penalties.
func (s *Scheduler) Sizes() (addresses, keys int) { return len(s.entries), len(s.peers) }
