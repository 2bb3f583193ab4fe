package replicate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"charkha/blob"
	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/replicate/internal/ebt"
	"charkha/replicate/internal/room"
	"charkha/replicate/internal/sched"
	"charkha/replicate/shs"
)

// Graph is who is wanted and who is blocked. Its methods must be safe for concurrent use and must not wait.
type Graph interface {
	// Wanted reports whether a feed is to be held; WantedFeeds lists all of them, our own included.
	Wanted(feed identity.ID) bool
	WantedFeeds() []identity.ID
	// Blocks and Follows report whether an author blocks or follows a peer.
	Blocks(author, peer identity.ID) bool
	Follows(author, peer identity.ID) bool
	// Changed returns a channel that is closed at the next change of what is wanted or blocked. Then ask again.
	Changed() <-chan struct{}
}

// Options of a Network. Key, NetworkKey, Log, Graph and Dir are needed.
type Options struct {
	Key        identity.KeyPair
	NetworkKey [32]byte
	Log        *log.Log
	Graph      Graph
	Dir        string // where what peers have is kept, in the folder ebt
	Logger     *slog.Logger
	Now        func() time.Time

	// Masters are keys whose holders are served as local programs are, like those who hold Key itself: every method is theirs,
	// and nothing is replicated with them over the connections that they make. A block does not keep them out.
	Masters []identity.ID

	// Blobs holds the blobs that are exchanged with peers. nil: none are, and peers are told so. BlobMax is its Options.Max, 0 for
	// the default of 5 MiB: peers that say to have more bytes of one blob are not asked for it.
	Blobs   *blob.Store
	BlobMax int64
	// BlobSympathy is how many hops away somebody may be for whom a blob is fetched that we do not want: 0 is 3, below 0 nobody.
	BlobSympathy int
	// BlobRate bounds the bytes of blobs a second from and to each peer. 0 is no bound: the blobs that a peer asks for take turns,
	// and give way to messages.
	BlobRate int64

	// OwnFetched is called when a peer's copy of our own feed was fetched whole, possibly often. It may be called on any
	// goroutine, and must not wait.
	OwnFetched func()

	// HistoryAfter is how long a peer who dialled us has to open EBT before we ask with createHistoryStream: 0 is 5 s.
	HistoryAfter time.Duration
	// RedialLeast and RedialMost bound the pause before an address that Keep was told is dialled again: 0 is 1 s and 2 min.
	RedialLeast, RedialMost time.Duration
	// MaxHandshakes bounds the connections that have not said who they are, in all and from one address: 0 is 64 and 8.
	MaxHandshakes, MaxHandshakesAddress int
	// MaxPeers bounds the peers that are connected at once, those that we dialled aside: 0 is 1000.
	MaxPeers int

	dial func(ctx context.Context, hostport string) (net.Conn, error) // nil: TCP
}

// Network is the node's connections.
type Network struct {
	o    Options
	self identity.ID
	log  *slog.Logger

	peers, local *muxrpc.Registry // fixed by Serve, before Run
	running      chan struct{}    // closed by Run once ctx and tasks may be used
	ctx          context.Context  // Run's; what Run started ends with it
	tasks        sync.WaitGroup   // all that Run must wait for

	mu         sync.Mutex
	stopped    bool // no task may begin
	listeners  []net.Listener
	sessions   map[identity.ID]*session
	dialling   map[identity.ID]*dialling
	handshakes map[string]int // by remote address
	shaking    int            // sum of handshakes

	brainMu sync.Mutex // never held over I/O
	brain   *ebt.Brain
	wanted  map[identity.ID]struct{}
	wakers  map[identity.ID]chan struct{} // of the sending goroutines

	schedMu        sync.Mutex // never held over I/O, nor while another lock is taken
	sched          *sched.Scheduler
	replan         chan struct{} // has one when the scheduler should be asked what to do
	rememberedLast []byte        // what conn.json holds; schedule's

	blobs   *blobs // nil: none are exchanged
	tunnels room.Server
	nobody  *muxrpc.Registry // without methods

	overrides *overrides // is o.Graph

	changed  broadcast
	pace     pace
	live     liveHub
	refusals refusals
}

// ErrStopped says that the network is not running.
var ErrStopped = errors.New("the network is not running")

func orDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// New makes a network. It does nothing until Run.
func New(o Options) (*Network, error) {
	if o.Key.IsZero() || o.Log == nil || o.Graph == nil || o.Dir == "" || o.NetworkKey == [32]byte{} {
		return nil, errors.New("replicate: Key, NetworkKey, Log, Graph and Dir are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OwnFetched == nil {
		o.OwnFetched = func() {}
	}
	if o.dial == nil {
		dialer := net.Dialer{Timeout: dialTimeout}
		o.dial = func(ctx context.Context, hostport string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, "tcp", hostport)
			if err == nil {
				keepUnsentSmall(conn)
			}
			return conn, err
		}
	}
	orDefault(&o.HistoryAfter, 5*time.Second)
	orDefault(&o.RedialLeast, time.Second)
	orDefault(&o.RedialMost, 2*time.Minute)
	orDefault(&o.MaxHandshakes, 64)
	orDefault(&o.MaxHandshakesAddress, 8)
	orDefault(&o.MaxPeers, 1000)
	o.Masters = slices.Clone(o.Masters)
	asked := &overrides{Graph: o.Graph, wanted: map[identity.ID]bool{}, blocks: map[[2]identity.ID]bool{}}
	o.Graph = asked
	n := &Network{
		o: o, overrides: asked, self: o.Key.ID(), log: o.Logger, running: make(chan struct{}),
		sessions: map[identity.ID]*session{}, dialling: map[identity.ID]*dialling{}, handshakes: map[string]int{},
		wanted: map[identity.ID]struct{}{}, wakers: map[identity.ID]chan struct{}{},
	}
	n.replan, n.changed = make(chan struct{}, 1), newBroadcast()
	n.tunnels = room.Server{Self: n.self, Room: isRoom, Accept: n.welcomeTunnel}
	var err error
	if n.nobody, err = muxrpc.NewRegistry(); err != nil {
		return nil, err
	}
	n.openSchedule()
	n.brain = ebt.New(ebt.Options{Self: n.self, Blocks: o.Graph.Blocks})
	if o.Blobs != nil {
		if n.o.BlobMax <= 0 {
			n.o.BlobMax = blob.DefaultMax
		}
		n.blobs = n.newBlobs()
	}
	n.live.feeds = map[identity.ID]map[*liveSub]struct{}{}
	return n, nil
}

// Serve sets what peers and what local programs may call. It is called once, before Run and ServeLocal.
func (n *Network) Serve(peers, local *muxrpc.Registry) { n.peers, n.local = peers, local }

// ParseListen reads "net:HOST:PORT", an address to listen on. HOST may be empty or an IPv6 address in brackets, PORT 0 for any.
func ParseListen(addr string) (host, port string, err error) {
	hostport, ok := strings.CutPrefix(addr, "net:")
	if ok {
		host, port, err = net.SplitHostPort(hostport)
	}
	if !ok || err != nil {
		return "", "", fmt.Errorf("%q is not of the form net:HOST:PORT", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", fmt.Errorf("%q: the port must be a number from 0 to 65535 (0: any that is free)", addr)
	}
	return host, port, nil
}

// Listen listens on "net:HOST:PORT" and returns the address that peers can dial. Connections are taken when Run runs.
func (n *Network) Listen(addr string) (identity.Address, error) {
	host, port, err := ParseListen(addr)
	if err != nil {
		return identity.Address{}, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return identity.Address{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return identity.Address{}, errors.Join(ErrStopped, l.Close())
	}
	n.listeners = append(n.listeners, l)
	select {
	case <-n.running:
		n.tasks.Go(func() { n.accept(l) })
	default:
	}
	return n.addressOf(l, host), nil
}

// addressOf is where a listener can be dialled. A listener on all interfaces gives the first one that is not loopback.
func (n *Network) addressOf(l net.Listener, host string) identity.Address {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	p, _ := strconv.Atoi(port)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		addrs, _ := net.InterfaceAddrs() // none: loopback
		for _, a := range addrs {
			ipn, ok := a.(*net.IPNet)
			if !ok || !ipn.IP.IsGlobalUnicast() {
				continue
			}
			if ipn.IP.To4() != nil {
				host = ipn.IP.String()
				break
			}
			if host == "127.0.0.1" && (ip == nil || ip.To4() == nil) { // IPv6 is listened to
				host = ipn.IP.String()
			}
		}
	}
	return identity.Address{Proto: "net", Host: host, Port: p, Key: n.self}
}

// Addresses are where the network listens.
func (n *Network) Addresses() (all []identity.Address) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.listeners {
		host, _, _ := net.SplitHostPort(l.Addr().String())
		all = append(all, n.addressOf(l, host))
	}
	return all
}

// tickEvery is how often the brain is told the time.
const tickEvery = 2500 * time.Millisecond

// Run exchanges feeds until ctx ends and all that it started has ended. It returns nil then, or why the log failed.
func (n *Network) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	heads := map[identity.ID]int64{}
	from := n.o.Log.Len()
	for id, h := range n.o.Log.Heads() {
		heads[id] = h.Sequence
	}
	n.event(func(b *ebt.Brain, now time.Time) {
		for id, seq := range heads {
			b.Stored(now, id, seq, identity.ID{})
		}
	})
	changed := n.o.Graph.Changed()
	n.regraph()

	n.mu.Lock()
	if n.stopped || n.ctx != nil {
		n.mu.Unlock()
		return ErrStopped
	}
	n.ctx = ctx
	for _, l := range n.listeners {
		n.tasks.Go(func() { n.accept(l) })
	}
	close(n.running)
	n.mu.Unlock()

	g.Go(func() error { return n.follow(ctx, from) })
	g.Go(func() error {
		n.schedule(ctx)
		return nil
	})
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			}
			changed = n.o.Graph.Changed()
			n.regraph()
		}
	})
	if n.blobs != nil {
		g.Go(func() error {
			n.blobs.run(ctx)
			return nil
		})
	}
	g.Go(func() error {
		ticker := time.NewTicker(tickEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
				n.event(func(b *ebt.Brain, now time.Time) { b.Tick(now) })
				n.tickPace(n.o.Now())
			}
		}
	})
	g.Go(func() error {
		<-ctx.Done()
		return n.Close()
	})
	err := g.Wait()
	n.tasks.Wait()
	return err
}

// Close stops listening. What runs ends with Run.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped = true
	var errs []error
	for _, l := range n.listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// task runs do on a goroutine that Run waits for. ErrStopped: it cannot.
func (n *Network) task(do func()) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx == nil || n.stopped {
		return ErrStopped
	}
	n.tasks.Go(do)
	return nil
}

// event tells the brain something and wakes the goroutines for whose peers there is something new.
func (n *Network) event(do func(b *ebt.Brain, now time.Time)) {
	n.brainMu.Lock()
	defer n.brainMu.Unlock()
	do(n.brain, n.o.Now())
	n.changed.wake()
	for _, id := range n.brain.Woken() {
		if w := n.wakers[id]; w != nil {
			select {
			case w <- struct{}{}:
			default: // it is awake already
			}
		}
	}
}

// follow tells the brain and the live streams what is new in the log.
func (n *Network) follow(ctx context.Context, from log.Offset) error {
	for m, err := range n.o.Log.Follow(ctx, from) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		author, seq := m.Author(), m.Sequence()
		n.live.news(author)
		n.brainMu.Lock()
		known := n.brain.Head(author) >= seq
		n.brainMu.Unlock()
		if !known {
			n.event(func(b *ebt.Brain, now time.Time) { b.Stored(now, author, seq, identity.ID{}) })
		}
	}
	return nil
}

// regraph takes over what the graph wants, and drops those whom we block.
func (n *Network) regraph() {
	feeds := n.o.Graph.WantedFeeds()
	wanted := make(map[identity.ID]struct{}, len(feeds))
	for _, id := range feeds {
		wanted[id] = struct{}{}
	}
	n.event(func(b *ebt.Brain, now time.Time) {
		for id := range n.wanted {
			if _, ok := wanted[id]; !ok {
				b.Want(now, id, false)
			}
		}
		for id := range wanted {
			if _, ok := n.wanted[id]; !ok {
				b.Want(now, id, true)
			}
		}
		n.wanted = wanted
		b.Recheck(now)
	})
	n.mu.Lock()
	sessions := make([]*session, 0, len(n.sessions))
	for _, s := range n.sessions {
		sessions = append(sessions, s)
	}
	n.mu.Unlock()
	for _, s := range sessions {
		if n.o.Graph.Blocks(n.self, s.id) {
			_ = n.task(func() { s.end(errBlocked) }) // stopped: all sessions end
			continue
		}
		s.regraph()
		s.offerAttendants(s.attendants())
	}
	n.plan(func(s *sched.Scheduler, now time.Time) { s.Recheck(now) })
	n.live.recheck()
}

// accept takes connections until the listener is closed.
func (n *Network) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, most likely: let others end first.
			n.log.Warn("accept", "err", err)
			select {
			case <-n.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		release, ok := n.mayShake(conn)
		if !ok {
			conn.Close()
			continue
		}
		if err := n.task(func() { n.welcome(conn, release) }); err != nil {
			release()
			conn.Close()
		}
	}
}

// mayShake counts a connection that has not said who it is, unless there are too many.
func (n *Network) mayShake(conn net.Conn) (release func(), ok bool) { return n.count(origin(conn)) }

// origin is the address that a connection counts for. All that come through one room count as from one address: where else they come
// from is the room's word.
func origin(conn net.Conn) string {
	if tunnel, ok := conn.RemoteAddr().(room.Addr); ok {
		return tunnel.Room.String()
	}
	host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return conn.RemoteAddr().String()
	}
	return host
}

// count counts a connection for an address until release is called, unless there are too many.
func (n *Network) count(host string) (release func(), ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.shaking >= n.o.MaxHandshakes || n.handshakes[host] >= n.o.MaxHandshakesAddress {
		return nil, false
	}
	n.shaking++
	n.handshakes[host]++
	return sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.shaking--
		if n.handshakes[host]--; n.handshakes[host] == 0 {
			delete(n.handshakes, host)
		}
	}), true
}

var errBlocked = errors.New("the peer is blocked")

// ServePeer serves a connection that somebody made to us elsewhere than where Listen listens, once Run has begun and until the
// connection or Run has ended. It owns conn, over which nothing has been said yet. The error says why it was not taken: ctx
// ended before Run began, the network has stopped, or too many are in their handshakes.
func (n *Network) ServePeer(ctx context.Context, conn net.Conn) error {
	select {
	case <-n.running:
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), conn.Close())
	}
	// Counted apart: pages in the user's browser open WebSockets from loopback, and must not keep out the programs there.
	release, ok := n.count("elsewhere " + origin(conn))
	if !ok {
		return errors.Join(errors.New("too many connections are in their handshakes"), conn.Close())
	}
	ended := make(chan struct{})
	err := n.task(func() {
		defer close(ended)
		n.welcome(conn, release)
	})
	if err != nil {
		release()
		return errors.Join(err, conn.Close())
	}
	<-ended
	return nil
}

// master reports whether a key gives its holder every method.
func (n *Network) master(id identity.ID) bool {
	return id == n.self || slices.Contains(n.o.Masters, id)
}

// welcome serves a connection that somebody made to us.
func (n *Network) welcome(socket net.Conn, release func()) {
	n.serve(n.ctx, socket, release, func(identity.ID) error { return nil })
}

// serve does the handshake with whoever made a connection to us, and serves it. may says whom it is refused to, besides those whom
// we block; release is called when the peer is known.
func (n *Network) serve(ctx context.Context, socket net.Conn, release func(), may func(client identity.ID) error) {
	cfg := shs.Config{Key: n.o.Key, NetworkKey: n.o.NetworkKey, Admit: func(client identity.ID) error {
		if n.master(client) {
			return nil
		}
		if n.o.Graph.Blocks(n.self, client) {
			return errBlocked
		}
		if err := may(client); err != nil {
			return err
		}
		if n.oursStays(client) {
			return errOther // before the handshake is done, or a JS peer takes this one for the newer, and drops ours
		}
		n.schedMu.Lock()
		defer n.schedMu.Unlock()
		return n.sched.Admit(n.o.Now(), client)
	}}
	keepUnsentSmall(socket)
	conn, err := shs.Server(ctx, socket, cfg)
	release()
	if err != nil {
		n.log.Debug("handshake", "err", err)
		return
	}
	if n.master(conn.Remote()) {
		if err := n.ServeLocal(ctx, conn); err != nil {
			n.log.Debug("local connection ended", "err", err)
		}
		return
	}
	s := n.newSession(conn, identity.Address{}, false)
	if err := n.enter(s); err != nil {
		conn.Close()
		n.log.Debug("peer turned away", "peer", s.id, "err", err)
		return
	}
	s.run(ctx)
}

// ServeLocal serves a connection of a local program, until it or ctx ends.
func (n *Network) ServeLocal(ctx context.Context, conn net.Conn) error {
	return muxrpc.New(conn, muxrpc.Options{Registry: n.local, Logger: n.log}).Run(ctx)
}

// Disconnect closes the connection with a peer and reports whether there was one.
func (n *Network) Disconnect(id identity.ID) bool {
	n.mu.Lock()
	s := n.sessions[id]
	n.mu.Unlock()
	if s == nil {
		return false
	}
	s.end(errors.New("disconnected by the operator"))
	<-s.done
	return true
}
