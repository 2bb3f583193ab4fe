package room

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
)

// MaxTunnels is how many tunnels that others opened one room may hold open to us.
const MaxTunnels = 128

// Server accepts the tunnels that others open to us through rooms. Its fields are fixed before Methods is called.
type Server struct {
	Self identity.ID

	// Room says which peer a connection is with, given its muxrpc.Options.Peer, and whether that is a room that we are in. Only
	// such a one may open tunnels: anybody else would only be able to pretend.
	Room func(peer any) (id identity.ID, in bool)

	// Accept is given each tunnel. It is called on a goroutine of the tunnel's own and should return when it is done with conn
	// and has closed it; the tunnel stays until conn is closed or ends. origin is who the room says is at the other end: a hint
	// for logs and limits, zero when it said none, nothing else before the secret handshake inside of conn.
	Accept func(ctx context.Context, conn net.Conn, origin identity.ID)

	mu   sync.Mutex
	open map[identity.ID]int // by room
}

// Methods are what rooms and those behind them call: tunnel.connect, tunnel.ping, and tunnel.isRoom, which we are not.
func (s *Server) Methods() []muxrpc.Method {
	return []muxrpc.Method{
		{
			Name: "tunnel.connect", Kind: muxrpc.Duplex, Anonymous: true, Patient: true, MaxBody: maxBody,
			Doc: "a connection through the room that calls this, from origin", Stream: s.connect,
		},
		{
			Name: "tunnel.ping", Kind: muxrpc.Sync, Anonymous: true, Doc: "this node's clock, in milliseconds since 1970",
			Call: func(context.Context, *muxrpc.Request) (any, error) { return time.Now().UnixMilli(), nil },
		},
		{
			Name: "tunnel.isRoom", Kind: muxrpc.Async, Anonymous: true, Doc: "false: this node is no room",
			Call: func(context.Context, *muxrpc.Request) (any, error) { return false, nil },
		},
	}
}

var errTunnels = fmt.Errorf("too many tunnels through this room, the limit is %d", MaxTunnels)

func (s *Server) connect(ctx context.Context, req *muxrpc.Request, stream *muxrpc.Stream) error {
	var args struct {
		Portal, Target, Origin string
	}
	if err := req.Decode(&args); err != nil {
		return err
	}
	room, in := s.Room(req.Peer)
	if !in {
		return errors.New("tunnels are only accepted from rooms")
	}
	// The portal that is named is not looked at, as in npm ssb-room-client: who calls is known better.
	if args.Target != s.Self.String() {
		return errors.New("could not connect to that target") // the words that other peers look for
	}
	origin, err := identity.ParseID(args.Origin)
	switch {
	case err != nil && args.Origin != "":
		return errors.New("origin is no feed id")
	case origin == s.Self:
		return errors.New("origin is the target")
	}
	s.mu.Lock()
	if s.open[room] >= MaxTunnels {
		s.mu.Unlock()
		return errTunnels
	}
	if s.open == nil {
		s.open = map[identity.ID]int{}
	}
	s.open[room]++
	s.mu.Unlock()
	t := newTunnel(stream, Addr{room, s.Self}, Addr{room, origin}, func() {})
	defer func() {
		s.mu.Lock()
		if s.open[room]--; s.open[room] == 0 {
			delete(s.open, room)
		}
		s.mu.Unlock()
	}()
	returned := false
	defer func() {
		if !returned { // it panicked
			t.Close()
		}
		<-t.done // what was received and not yet read stays readable after this
	}()
	s.Accept(ctx, t, origin)
	returned = true
	return nil
}
