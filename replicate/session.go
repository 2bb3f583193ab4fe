package replicate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"charkha/identity"
	"charkha/muxrpc"
	"charkha/replicate/internal/sched"
	"charkha/replicate/internal/wants"
	"charkha/replicate/shs"
)

// session is the connection with one peer.
type session struct {
	n        *Network
	id       identity.ID
	addr     identity.Address // as dialled; zero when they dialled
	remote   string           // the address of the socket's other end
	outgoing bool
	since    time.Time
	conn     *muxrpc.Conn
	done     chan struct{} // closed when all of it has ended

	received, sent, refused atomic.Int64
	invalid                 atomic.Int64 // messages that nobody honest sends

	stalled, mute bool // as the scheduler was told; watch's

	blobRoom chan struct{} // has one when the peer has read something of createWants
	serving  chan struct{} // holds one for each blob that is being sent
	blobTurn chan struct{} // holds one while a chunk of a blob is being sent
	blobPace pacer         // of whose turn it is
	slices   sliceTurns    // of blobs that are being sent

	mu      sync.Mutex
	room    *roomState    // nil: not a room, as far as we know
	noRoom  bool          // it was asked, and is not known to be one
	pinged  bool          // rtt and skew are measured
	rtt     time.Duration // of a ping
	skew    time.Duration // of the peer's clock
	via     string        // "ebt", "history", or not yet
	opened  chan struct{} // closed when EBT was opened
	changed chan struct{} // closed and made anew when the graph changed
	err     error         // why it ended
	held    map[identity.ID]shown
	busy    int           // how many send messages now
	quiet   chan struct{} // closed when none do; nil: none ever did
}

// Remote is the peer's feed id, for handlers of other packages to whom the session is Request.Peer.
func (s *session) Remote() identity.ID { return s.id }

// streamBuffer is how much of an EBT or history stream may wait while the log takes in what came before: enough for Append to
// verify one piece while it commits the other.
const streamBuffer = 2 << 20

// maxInvalid is how many messages that are not valid a peer may send before the connection is closed.
const maxInvalid = 100

func (n *Network) newSession(conn *shs.Conn, addr identity.Address, outgoing bool) *session {
	s := &session{
		n: n, id: conn.Remote(), remote: conn.RemoteAddr().String(), addr: addr, outgoing: outgoing, since: n.o.Now(),
		done: make(chan struct{}), opened: make(chan struct{}), changed: make(chan struct{}),
		blobRoom: make(chan struct{}, 1), serving: make(chan struct{}, maxServed), blobTurn: make(chan struct{}, 1),
		blobPace: pacer{rate: n.o.BlobRate},
	}
	s.conn = muxrpc.New(conn, muxrpc.Options{StreamBuffer: streamBuffer, Registry: n.peers, Anonymous: true, Peer: s, Logger: n.log})
	return s
}

// errOther says that there is a connection with the same key, which stays.
var errOther = errors.New("there is a connection with this peer already")

// bothDialled is how close in time two connections are that both sides dialled at once.
const bothDialled = 10 * time.Second

// enter makes s the connection with its peer. When both sides dialled at once, the connection that the smaller id dialled
// stays, on both sides. Else the newer one stays: the peer has lost the older one, or it would not have dialled.
func (n *Network) enter(s *session) error {
	for {
		n.mu.Lock()
		old := n.sessions[s.id]
		if n.stopped {
			n.mu.Unlock()
			return ErrStopped
		}
		if old == nil {
			if !s.outgoing && len(n.sessions) >= n.o.MaxPeers {
				n.mu.Unlock()
				return fmt.Errorf("%d peers are connected already", n.o.MaxPeers)
			}
			n.sessions[s.id] = s
			n.mu.Unlock()
			n.plan(func(b *sched.Scheduler, now time.Time) { b.Connected(now, s.id, s.addr, s.outgoing) })
			return nil
		}
		n.mu.Unlock()
		if old.outgoing != s.outgoing && s.since.Sub(old.since) < bothDialled {
			oursIsSmaller := string(n.self[:]) < string(s.id[:])
			if s.outgoing != oursIsSmaller {
				return errOther
			}
		}
		old.end(errors.New("the peer connected anew"))
		<-old.done
	}
}

// oursStays reports whether both sides dialled at once, and the connection that we dialled is the one that stays.
func (n *Network) oursStays(peer identity.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.sessions[peer]
	return old != nil && old.outgoing && n.o.Now().Sub(old.since) < bothDialled && string(n.self[:]) < string(peer[:])
}

// run serves the connection until it ends.
func (s *session) run(ctx context.Context) {
	n := s.n
	n.log.Info("connected", "peer", s.id, "outgoing", s.outgoing)
	ctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	if x := n.blobs; x != nil {
		x.event(func(b *wants.Brain, now time.Time) { b.Connect(now, s.id) })
		g.Go(func() error {
			s.hearBlobs(ctx)
			return nil
		})
	}
	g.Go(func() error {
		defer cancel()
		return s.conn.Run(ctx)
	})
	g.Go(func() error {
		s.replicate(ctx)
		return nil
	})
	g.Go(func() error {
		s.keepAlive(ctx)
		return nil
	})
	if s.outgoing && s.addr.Proto != "tunnel" { // rooms dial nobody
		g.Go(func() error {
			s.followRoom(ctx)
			return nil
		})
	}
	err := g.Wait()
	s.end(err)
	if x := n.blobs; x != nil {
		x.event(func(b *wants.Brain, now time.Time) { b.Disconnect(now, s.id) })
	}
	n.mu.Lock()
	if n.sessions[s.id] == s {
		delete(n.sessions, s.id)
	}
	n.mu.Unlock()
	why := s.why()
	if why == nil {
		why = errors.New("the connection was closed")
	}
	n.log.Info("disconnected", "peer", s.id, "err", why)
	n.plan(func(b *sched.Scheduler, now time.Time) { b.Disconnected(now, s.id, why.Error()) })
	close(s.done)
}

// end closes the connection, for a reason. The first one counts.
func (s *session) end(why error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = why
	}
	s.mu.Unlock()
	s.conn.Close()
}

func (s *session) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// regraph tells the history streams that the graph changed.
func (s *session) regraph() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *session) graphChanged() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// choose says how messages are exchanged, once; it reports whether that is so.
func (s *session) choose(via string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.via == "ebt" || s.via == via {
		return false
	}
	s.via = via
	if via == "ebt" {
		close(s.opened)
	}
	return true
}

// speaks reports whether messages are exchanged in a way.
func (s *session) speaks(via string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.via == via
}

// replicate exchanges messages: by EBT if the peer speaks it, else with history streams. The side that dialled opens EBT.
func (s *session) replicate(ctx context.Context) {
	if s.outgoing {
		err := s.openEBT(ctx)
		if ctx.Err() != nil || s.speaks("ebt") {
			return
		}
		s.n.log.Debug("no EBT", "peer", s.id, "err", err)
	} else {
		timer := time.NewTimer(s.n.o.HistoryAfter)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return
		case <-s.opened:
			return // served by ebtReplicate
		case <-timer.C:
		}
	}
	if s.choose("history") {
		s.history(ctx)
	}
}
