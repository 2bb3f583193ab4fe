package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"charkha/api"
	"charkha/blob"
	"charkha/identity"
	"charkha/index"
	"charkha/lan"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/replicate"
	"charkha/web"
)

// Config is what a node is made of. Dir and NetworkKey are needed; the zero value of everything else works.
type Config struct {
	Dir        string             // the data folder; made when it is not there
	Listen     []string           // addresses to listen on, "net:HOST:PORT"; none: listen nowhere
	WS         string             // where WebSockets and GET are served, "ws://HOST:PORT"; "": nowhere
	WSOptional bool               // do without, and say so, when it cannot be had
	Masters    []identity.ID      // keys whose holders may call every method, as the node's own
	Connect    []identity.Address // peers to keep dialling
	LAN        bool               // announce the node on the local network, and look for others there; not when it listens on loopback only
	Interfaces []string           // the network interfaces to do that on, by name; none: all that are up
	BlobBudget int64              // most bytes of all blobs that may leave again; 0: no limit
	BlobMax    int64              // most bytes of one blob, at most 1 GiB; 0: blob.DefaultMax
	BlobAuto   int64              // most bytes of a blob that nobody here asked for; 0: as BlobMax; below 0: none is fetched because somebody links it
	BlobRate   int64              // most bytes of blobs a second to each peer, and from each; 0: no limit
	Hops       int                // range of the feeds that are replicated: 0 only ours, 1 who we follow, 2 whom they follow
	NetworkKey [32]byte           // the secret handshake's network (replicate/shs.MainNetwork is the public one)
	HMACKey    *[32]byte          // for networks whose messages are signed with a key
	NewFeed    bool               // the operator says that this key never published anywhere
	Check      bool               // read every stored message and blob first; see log.Options.Check and blob.Options.Check
	Logger     *slog.Logger       // nil: nothing is logged
}

// Node is a running SSB peer with its local API.
type Node struct {
	cfg     Config
	log     *slog.Logger
	lock    *flock.Flock
	key     identity.KeyPair
	feeds   *log.Log
	index   *index.Index
	blobs   *blob.Store
	network *replicate.Network
	api     *api.API
	lan     *lan.LAN // nil: not wanted
	local   net.Listener

	web         *web.Server // nil, as webListener: not wanted
	webListener net.Listener
	webHost     string // that was asked for
}

// ErrLocked says that another node runs on the same data folder.
var ErrLocked = errors.New("another node is running on this folder")

// ErrNotNew says that a key published before, though Config.NewFeed says that it did not.
var ErrNotNew = errors.New("this feed is not new")

// Version is the version that this binary was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

// Open makes a node ready to run. The caller closes it.
func Open(cfg Config) (_ *Node, err error) {
	if cfg.Dir == "" {
		return nil, errors.New("node: the data folder is missing")
	}
	if cfg.NetworkKey == [32]byte{} {
		return nil, errors.New("node: the network key is missing")
	}
	if cfg.Hops < 0 {
		return nil, fmt.Errorf("node: hops %d: must be 0 or more", cfg.Hops)
	}
	if cfg.BlobMax < 0 || cfg.BlobMax > 1<<30 || cfg.BlobBudget < 0 || cfg.BlobRate < 0 {
		return nil, fmt.Errorf("node: blobs of %d bytes, %d in all, %d a second: at most 1 GiB a blob", cfg.BlobMax, cfg.BlobBudget, cfg.BlobRate)
	}
	if err := cfg.checkDoors(); err != nil {
		return nil, err
	}
	for _, addr := range cfg.Connect {
		if err := replicate.CanDial(addr); err != nil {
			return nil, fmt.Errorf("node: %w", err)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Logger}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()

	// Two writers on one key fork the feed: nothing is read before the lock is held.
	n.lock = flock.New(filepath.Join(cfg.Dir, "lock"))
	if held, err := n.lock.TryLock(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", n.lock.Path(), err)
	} else if !held {
		return nil, fmt.Errorf("%s: %w; stop it first, or give this one a --path of its own", cfg.Dir, ErrLocked)
	}
	secret := filepath.Join(cfg.Dir, "secret")
	fresh := false
	n.key, err = identity.LoadSecret(secret)
	if errors.Is(err, fs.ErrNotExist) {
		fresh = true
		n.key, err = identity.Generate()
	}
	if err != nil {
		return nil, err
	}
	n.feeds, err = log.Open(log.Options{Dir: filepath.Join(cfg.Dir, "log"), HMACKey: cfg.HMACKey, Check: cfg.Check, Logger: cfg.Logger})
	if errors.Is(err, log.ErrNetwork) {
		return nil, fmt.Errorf("%w; start with the --hmac-key that it was made with, or give this network a --path of its own", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	if err := n.confirm(fresh); err != nil {
		return nil, err
	}
	if fresh {
		// After Confirm: dying between the two leaves a mark for a key that nobody has, not a key that may not publish.
		if err := identity.CreateSecret(secret, n.key); err != nil {
			return nil, err
		}
	}
	n.index, err = index.Open(index.Options{
		Dir: filepath.Join(cfg.Dir, "index"), Log: n.feeds, Self: n.key.ID(), Hops: cfg.Hops, Logger: cfg.Logger,
		Unbox: func(m *log.Message) ([]byte, bool) { return api.Unbox(m, n.key) },
	})
	if err != nil {
		return nil, fmt.Errorf("open the index (it can be deleted, and is built anew then): %w", err)
	}
	if err := n.openBlobs(); err != nil {
		return nil, fmt.Errorf("open the blobs: %w", err)
	}
	if err := n.assemble(); err != nil {
		return nil, err
	}
	for _, addr := range cfg.Listen {
		if _, err := n.network.Listen(addr); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
	}
	if err := n.openWeb(); err != nil {
		return nil, err
	}
	for _, addr := range cfg.Connect {
		n.network.Keep(addr)
	}
	if cfg.LAN && !n.loopbackOnly() {
		n.lan, err = lan.New(lan.Options{
			Key: n.key, NetworkKey: cfg.NetworkKey, Addresses: n.bound, Interfaces: cfg.Interfaces, Logger: cfg.Logger,
			Found:  func(addr identity.Address) { n.network.Offer(addr, replicate.KindLAN, "lan") },
			Lost:   n.network.Withdraw,
			Online: n.network.NetworkChanged,
		})
		if err != nil {
			return nil, fmt.Errorf("local network: %w", err)
		}
	}
	if n.local, err = listenLocal(cfg.Dir); err != nil {
		return nil, fmt.Errorf("listen on the local socket: %w", err)
	}
	return n, nil
}

// bound are the addresses that are listened at, with the hosts that were asked for.
func (n *Node) bound() (all []identity.Address) {
	for i, addr := range n.network.Addresses() {
		if addr.Host, _, _ = replicate.ParseListen(n.cfg.Listen[i]); addr.Host == "localhost" {
			addr.Host = "127.0.0.1"
		}
		all = append(all, addr)
	}
	return all
}

// loopbackOnly reports whether the node listens, and only where nobody else can reach it: then it is not to be found either.
func (n *Node) loopbackOnly() bool {
	for _, addr := range n.bound() {
		if ip := net.ParseIP(addr.Host); ip == nil || !ip.IsLoopback() {
			return false
		}
	}
	return len(n.cfg.Listen) > 0
}

// lanReport tells how the search of the local network goes, or why there is none.
func (n *Node) lanReport() lan.Report {
	if n.lan != nil {
		return n.lan.Report()
	}
	r := lan.Report{Key: n.key.ID(), Interfaces: []lan.Interface{}, Neighbours: []lan.Neighbour{}, Sockets: []lan.Socket{}}
	if r.Problem = "the node listens on loopback only, and so stays to itself; see --listen"; !n.cfg.LAN {
		r.Problem = "switched off: the node was started with --no-lan"
	}
	return r
}

// confirm opens the own feed for publishing when it is new: its key was made just now, or the operator says so and nothing tells
// otherwise.
func (n *Node) confirm(fresh bool) error {
	self := n.key.ID()
	if n.feeds.Confirmed(self) || !fresh && !n.cfg.NewFeed {
		return nil
	}
	head, _ := n.feeds.Head(self)
	if had := max(head.Sequence, n.feeds.Published(self)); had > 0 {
		return fmt.Errorf("%w: message %d of %s exists, and another first message would fork the feed for ever; "+
			"start without --new-feed and connect to a peer that has the feed: it is fetched, and publishing is open then", ErrNotNew, had, self)
	}
	return n.feeds.Confirm(self)
}

// assemble joins log, index, blobs, replicate and api.
func (n *Node) assemble() (err error) {
	opts := replicate.Options{
		Key: n.key, NetworkKey: n.cfg.NetworkKey, Log: n.feeds, Graph: n.index,
		Dir: n.cfg.Dir, Logger: n.log, OwnFetched: n.ownFetched, Masters: n.cfg.Masters, Blobs: n.blobs, BlobMax: n.cfg.BlobMax, BlobRate: n.cfg.BlobRate,
	}
	if n.network, err = replicate.New(opts); err != nil {
		return err
	}
	n.api = &api.API{
		Key: n.key, Log: n.feeds, Index: n.index, Network: n.network, Hops: n.cfg.Hops, Version: Version(), LAN: n.lanReport,
		Addresses: n.addressesFor, Dir: n.cfg.Dir, Blobs: n.blobs, BlobMax: cmp.Or(n.cfg.BlobMax, blob.DefaultMax), BlobBudget: n.cfg.BlobBudget,
	}
	peers, err := muxrpc.NewRegistry(n.network.Methods(), n.network.BlobMethods(), n.api.PeerMethods())
	if err != nil {
		return err
	}
	program := []muxrpc.Method{{Kind: muxrpc.Group, Doc: "Charkha, a Secure Scuttlebutt node"}}
	all, err := muxrpc.NewRegistry(program, n.network.Methods(), n.api.Methods())
	if err != nil {
		return err
	}
	n.network.Serve(peers, all)
	return os.WriteFile(filepath.Join(n.cfg.Dir, "manifest.json"), append(all.Manifest(), '\n'), 0o644)
}

// ownFetched is called by replicate when a peer's copy of our own feed was fetched whole.
func (n *Node) ownFetched() {
	self := n.key.ID()
	if n.feeds.Confirmed(self) {
		return
	}
	if err := n.feeds.Confirm(self); err != nil {
		n.log.Error("own feed cannot be confirmed", "feed", self, "err", err)
		return
	}
	head, _ := n.feeds.Head(self)
	n.log.Info("own feed fetched, publishing is open", "feed", self, "seq", head.Sequence)
}

// ID is the node's feed id.
func (n *Node) ID() identity.ID { return n.key.ID() }

// Confirmed reports whether the node may publish; see the package doc.
func (n *Node) Confirmed() bool { return n.feeds.Confirmed(n.key.ID()) }

// Run works until ctx ends and everything that it started has ended, and returns nil then, or the error that made the node
// stop by itself.
func (n *Node) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ended(ctx, "index", n.index.Run(ctx)) })
	g.Go(func() error { return ended(ctx, "replicate", n.network.Run(ctx)) })
	g.Go(func() error { return ended(ctx, "local socket", n.serveLocal(ctx)) })
	if n.web != nil {
		g.Go(func() error { return ended(ctx, "websocket", n.web.Run(ctx, n.webListener)) })
	}
	if n.lan != nil {
		g.Go(func() error {
			// Nobody is found then, and all else goes on.
			if err := n.lan.Run(ctx); err != nil && ctx.Err() == nil {
				n.log.Warn("the local network is not searched for peers", "err", err)
			}
			return nil
		})
	}
	g.Go(func() error {
		n.offerPubs(ctx)
		return nil
	})
	g.Go(func() error {
		n.giveBack(ctx)
		return nil
	})
	g.Go(func() error {
		n.blobs.Trim() // the budget may be smaller than last time
		if n.cfg.BlobAuto >= 0 {
			n.fetchLinked(ctx)
		}
		return nil
	})
	g.Go(func() error { // the listener waits for nothing but its Close
		<-ctx.Done()
		return n.local.Close()
	})
	return g.Wait()
}

const (
	// pubHops is how near somebody must be for the pubs that he announces to be tried: announcements are an old way to send a
	// whole network against a victim.
	pubHops = 1
	// pubsPause is the least time between two looks at what is announced: in a sync there is always something new.
	pubsPause = 10 * time.Second
)

// offerPubs has the pubs tried that people near us announce, until ctx ends.
func (n *Node) offerPubs(ctx context.Context) {
	told := map[identity.Address]bool{} // one that was tried and forgotten is not offered again
	for {
		announced, graph := n.index.PubsChanged(), n.index.Changed()
		all, err := n.index.Pubs(pubHops)
		if err != nil {
			n.log.Warn("announced pubs cannot be read", "err", err)
		}
		now := map[identity.Address]bool{}
		for _, a := range all {
			if now[a.Pub] = true; !told[a.Pub] {
				n.network.Offer(a.Pub, replicate.KindPub, replicate.FromMessage)
			}
		}
		told = now
		select {
		case <-time.After(pubsPause):
		case <-ctx.Done():
			return
		}
		select {
		case <-announced:
		case <-graph:
		case <-ctx.Done():
			return
		}
	}
}

// giveBackAfter is how long nothing arrives before memory goes back to the system.
const giveBackAfter = 5 * time.Second

// giveBack returns to the system the memory that opening or a long sync needed, once it is over. Left to itself, the Go runtime
// keeps most of it for a node that has little to do afterwards.
func (n *Node) giveBack(ctx context.Context) {
	ticker := time.NewTicker(giveBackAfter)
	defer ticker.Stop()
	var at log.Offset
	busy := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch end := n.feeds.Len(); {
		case end > at+giveBackLeast:
			at, busy = end, true
		case busy:
			debug.FreeOSMemory()
			at, busy = end, false
		}
	}
}

// giveBackLeast is how many messages have to arrive in giveBackAfter for it to be a sync, not conversation.
const giveBackLeast = 1000

// ended says which part stopped the node; the end of ctx is no error.
func ended(ctx context.Context, part string, err error) error {
	if ctx.Err() != nil || err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", part, err)
}

// maxLocal bounds the programs connected to the local socket at once.
const maxLocal = 256

func (n *Node) serveLocal(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(maxLocal)
	defer g.Wait()
	for {
		conn, err := n.local.Accept()
		if err != nil {
			return err
		}
		g.Go(func() error {
			if err := n.network.ServeLocal(ctx, conn); err != nil && ctx.Err() == nil {
				n.log.Debug("local connection ended", "err", err)
			}
			return nil
		})
	}
}

// Close flushes and releases everything. A node that runs must be stopped first.
func (n *Node) Close() error {
	var errs []error
	if n.local != nil {
		if err := n.local.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
		if err := os.Remove(filepath.Join(n.cfg.Dir, SocketName)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if n.webListener != nil {
		if err := n.webListener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if n.network != nil {
		errs = append(errs, n.network.Close())
	}
	if n.blobs != nil {
		errs = append(errs, n.blobs.Close())
	}
	if n.index != nil {
		errs = append(errs, n.index.Close())
	}
	if n.feeds != nil {
		errs = append(errs, n.feeds.Close())
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Unlock())
	}
	return errors.Join(errs...)
}
