package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
	"charkha/replicate/internal/room"
	"charkha/replicate/internal/sched"
	"charkha/replicate/shs"
)

// Room is a room that we are in.
type Room struct {
	ID         identity.ID   `json:"key"`
	Name       string        `json:"name,omitempty"`
	Version    int           `json:"version"`  // 1 or 2
	Member     bool          `json:"member"`   // as it says; rooms of version 1 have no members
	Features   []string      `json:"features"` // as it says, such as "alias"
	Attendants []identity.ID `json:"attendants"`
	Turned     []identity.ID `json:"turnedAway"` // who wanted to connect through it lately and is nobody whom we follow
}

// roomState is what a session knows of a room at its other side. It is under session.mu.
type roomState struct {
	client     *room.Room
	info       room.Info
	attendants map[identity.ID]struct{}
	turned     []identity.ID
}

// maxTurned bounds those who are remembered as turned away.
const maxTurned = 32

// followRoom finds out whether the peer is a room, and if so enters it and offers those in it whose feeds we want to the scheduler. It
// ends with the connection.
func (s *session) followRoom(ctx context.Context) {
	n := s.n
	client := room.New(s.conn, s.id, n.self)
	info, err := client.Detect(ctx)
	if err != nil {
		if !errors.Is(err, room.ErrNotRoom) {
			n.log.Debug("is it a room?", "peer", s.id, "err", err)
		}
		s.mu.Lock()
		s.noRoom = true
		s.mu.Unlock()
		n.changed.wake()
		return
	}
	s.mu.Lock()
	s.room = &roomState{client: client, info: info, attendants: map[identity.ID]struct{}{}}
	s.mu.Unlock()
	n.plan(func(b *sched.Scheduler, now time.Time) { b.Offer(now, s.addr, sched.Pub, "room") })
	n.log.Info("in a room", "peer", s.id, "name", info.Name, "version", info.Version)
	pause := time.Second
	for ctx.Err() == nil {
		began := n.o.Now()
		err := client.Follow(ctx, info, func(c room.Change) { s.attend(c) })
		s.mu.Lock()
		left := room.Change{}
		for id := range s.room.attendants {
			left.Left = append(left.Left, id)
		}
		s.mu.Unlock()
		s.attend(left)
		if ctx.Err() != nil {
			return
		}
		n.log.Debug("the room's list of attendants ended", "peer", s.id, "err", err)
		if n.o.Now().Sub(began) > time.Minute {
			pause = time.Second
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, 5*time.Minute)
	}
}

// attend takes over who came into the room and who left it.
func (s *session) attend(c room.Change) {
	s.mu.Lock()
	for _, id := range c.Left {
		delete(s.room.attendants, id)
	}
	for _, id := range c.Joined {
		s.room.attendants[id] = struct{}{}
	}
	s.mu.Unlock()
	for _, id := range c.Left {
		s.n.Withdraw(identity.Tunnel(s.id, id))
	}
	s.offerAttendants(c.Joined)
}

// offerAttendants has those dialled whom we follow, and those in range who follow us. Others in the room would turn us away, as
// tunnels are for friends (see welcomeTunnel).
func (s *session) offerAttendants(ids []identity.ID) {
	g := s.n.o.Graph
	for _, id := range ids {
		switch addr := identity.Tunnel(s.id, id); {
		case id == s.n.self:
		case g.Follows(s.n.self, id) || g.Wanted(id) && g.Follows(id, s.n.self):
			s.n.Offer(addr, KindRoom, "room "+s.roomName())
		default:
			s.n.Withdraw(addr)
		}
	}
}

func (s *session) roomName() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == nil || s.room.info.Name == "" {
		return s.id.Short()
	}
	return s.room.info.Name
}

// attendants lists who is in the room; none: the peer is no room.
func (s *session) attendants() (ids []identity.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room != nil {
		for id := range s.room.attendants {
			ids = append(ids, id)
		}
	}
	return ids
}

// Rooms lists the rooms that we are in.
func (n *Network) Rooms() (rooms []Room) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sessions {
		s.mu.Lock()
		if r := s.room; r != nil {
			is := Room{ID: s.id, Name: r.info.Name, Version: r.info.Version, Member: r.info.Member, Features: append([]string{}, r.info.Features...),
				Attendants: []identity.ID{}, Turned: append([]identity.ID{}, r.turned...)}
			for id := range r.attendants {
				is.Attendants = append(is.Attendants, id)
			}
			slices.SortFunc(is.Attendants, compareIDs)
			rooms = append(rooms, is)
		}
		s.mu.Unlock()
	}
	slices.SortFunc(rooms, func(a, b Room) int { return compareIDs(a.ID, b.ID) })
	return rooms
}

func compareIDs(a, b identity.ID) int { return bytes.Compare(a[:], b[:]) }

// errNoRoom says that there is no connection with the room of a tunnel, or that it is none.
var errNoRoom = errors.New("not connected with the room")

// roomClient is the client of a room that we are in.
func (n *Network) roomClient(id identity.ID) (*room.Room, error) {
	n.mu.Lock()
	s := n.sessions[id]
	n.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("%w %s", errNoRoom, id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == nil {
		return nil, fmt.Errorf("%s: %w", id, room.ErrNotRoom)
	}
	return s.room.client, nil
}

// dialTunnel opens a tunnel.
func (n *Network) dialTunnel(ctx context.Context, addr identity.Address) (net.Conn, error) {
	client, err := n.roomClient(addr.Room)
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, addr.Key)
}

// isRoom reports with whom a connection is, and whether that is a room that we are in.
func isRoom(peer any) (id identity.ID, in bool) {
	s, ok := peer.(*session)
	if !ok {
		return id, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id, s.room != nil
}

var errStranger = errors.New("the peer is nobody whom we follow, and such may not connect through rooms")

// welcomeTunnel serves a connection that somebody made to us through a room. Only those whom we follow may, as the specification
// of rooms 2 has it ("tunneled authentication"): rooms let anybody knock.
func (n *Network) welcomeTunnel(ctx context.Context, conn net.Conn, origin identity.ID) {
	release, ok := n.mayShake(conn)
	if !ok {
		conn.Close()
		return
	}
	n.serve(ctx, conn, release, func(client identity.ID) error {
		if !n.o.Graph.Follows(n.self, client) {
			n.turnAway(conn, client)
			return errStranger
		}
		return nil
	})
}

// turnAway notes whom a room's tunnel was refused to.
func (n *Network) turnAway(conn net.Conn, client identity.ID) {
	addr, ok := conn.LocalAddr().(room.Addr)
	if !ok {
		return
	}
	n.mu.Lock()
	s := n.sessions[addr.Room]
	n.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == nil || slices.Contains(s.room.turned, client) {
		return
	}
	s.room.turned = append(s.room.turned, client)
	if len(s.room.turned) > maxTurned {
		s.room.turned = s.room.turned[1:]
	}
}

// RegisterAlias gives our feed a name in a room that we are in, and returns the address of its web page.
func (n *Network) RegisterAlias(ctx context.Context, in identity.ID, name string) (*url.URL, error) {
	client, err := n.roomClient(in)
	if err != nil {
		return nil, err
	}
	return client.RegisterAlias(ctx, n.o.Key, name)
}

// RevokeAlias gives a name in a room up.
func (n *Network) RevokeAlias(ctx context.Context, in identity.ID, name string) error {
	client, err := n.roomClient(in)
	if err != nil {
		return err
	}
	return client.RevokeAlias(ctx, name)
}

// Aliases lists the names that a feed has in a room that we are in; not all rooms tell.
func (n *Network) Aliases(ctx context.Context, in, of identity.ID) ([]string, error) {
	client, err := n.roomClient(in)
	if err != nil {
		return nil, err
	}
	return client.ListAliases(ctx, of)
}

// ConnectAlias connects to the person who has an alias in a room: first to the room, then to the person through it. text is the
// alias' web address, or an ssb: URI.
func (n *Network) ConnectAlias(ctx context.Context, text string) (identity.ID, error) {
	alias, err := room.ResolveAlias(ctx, text)
	if err != nil {
		return identity.ID{}, err
	}
	if err := n.Connect(ctx, alias.Room); err != nil {
		return alias.User, fmt.Errorf("the room of %q: %w", alias.Name, err)
	}
	if err := n.AwaitRoom(ctx, alias.Room.Key); err != nil {
		return alias.User, err
	}
	if err := n.Connect(ctx, alias.Address()); err != nil {
		return alias.User, fmt.Errorf("%q: %w", alias.Name, err)
	}
	return alias.User, nil
}

// roomAnswers is how long a peer has to say that it is a room.
const roomAnswers = 10 * time.Second

// AwaitRoom waits until a peer with whom we are connected is known to be a room. The error says that it is none, or does not answer.
func (n *Network) AwaitRoom(ctx context.Context, id identity.ID) error {
	ctx, cancel := context.WithTimeout(ctx, roomAnswers)
	defer cancel()
	for {
		changed := n.Changed()
		_, err := n.roomClient(id)
		if err == nil || n.saidNoRoom(id) {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return err
		}
	}
}

// saidNoRoom reports whether a peer was asked whether it is a room, and is not known to be one.
func (n *Network) saidNoRoom(id identity.ID) bool {
	n.mu.Lock()
	s := n.sessions[id]
	n.mu.Unlock()
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noRoom
}

// CallAs makes one connection with another key than ours, such as that of an invite, and gives it to do. It takes no part in
// replication. HTTP and rooms aside, it can reach what Connect can.
func (n *Network) CallAs(ctx context.Context, key identity.KeyPair, addr identity.Address, do func(context.Context, *muxrpc.Conn) error) error {
	if err := CanDial(addr); err != nil {
		return err
	}
	socket, err := n.dialSocket(ctx, addr)
	if err != nil {
		return fmt.Errorf("dial %s: %w", addr, err)
	}
	conn, err := shs.Client(ctx, socket, shs.Config{Key: key, NetworkKey: n.o.NetworkKey}, addr.Key)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", addr, err)
	}
	peer := muxrpc.New(conn, muxrpc.Options{Registry: n.nobody, Anonymous: true, Logger: n.log})
	ctx, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- peer.Run(ctx) }()
	err = do(ctx, peer)
	cancel()
	<-ran
	return err
}
