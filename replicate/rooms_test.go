package replicate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
	"charkha/replicate/shs"
)

// fakeRoom is a room server of version 2 (npm ssb-room 2, go-ssb-room): honest, but where a test says otherwise.
type fakeRoom struct {
	*host
	attend func(ctx context.Context, s *muxrpc.Stream) error // nil: as it is
	tunnel func(ctx context.Context, target identity.ID, s *muxrpc.Stream) error

	mu      sync.Mutex
	inside  map[identity.ID]*hosted
	changed chan struct{} // closed when that changes
	lists   []time.Time   // when the list of attendants was asked for
	tunnels []time.Time   // when a tunnel was
}

func newRoom(t *testing.T, m *memNet) *fakeRoom {
	r := &fakeRoom{inside: map[identity.ID]*hosted{}, changed: make(chan struct{})}
	r.host = newHost(t, m, 50,
		muxrpc.Method{Name: "room.metadata", Kind: muxrpc.Async, Call: func(context.Context, *muxrpc.Request) (any, error) {
			return map[string]any{"name": "the room", "membership": true, "features": []string{"tunnel", "room2"}}, nil
		}},
		muxrpc.Method{Name: "room.attendants", Kind: muxrpc.Source, Stream: r.attendants},
		muxrpc.Method{Name: "tunnel.connect", Kind: muxrpc.Duplex, Patient: true, MaxBody: 1 << 20, Stream: r.connect})
	return r
}

// lay puts somebody in or out.
func (r *fakeRoom) lay(id identity.ID, c *hosted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c == nil {
		delete(r.inside, id)
	} else {
		r.inside[id] = c
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *fakeRoom) attendants(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	r.mu.Lock()
	r.lists = append(r.lists, time.Now())
	r.mu.Unlock()
	if r.attend != nil {
		return r.attend(ctx, s)
	}
	c := req.Peer.(*hosted)
	r.lay(c.id, c)
	defer r.lay(c.id, nil)
	told := map[identity.ID]bool{}
	first := true
	for {
		r.mu.Lock()
		changed := r.changed
		var events [][]byte
		var all []identity.ID
		for id := range r.inside {
			if all = append(all, id); !told[id] {
				events = append(events, fmt.Appendf(nil, `{"type":"joined","id":"%s"}`, id))
			}
		}
		for id := range told {
			if r.inside[id] == nil {
				delete(told, id)
				events = append(events, fmt.Appendf(nil, `{"type":"left","id":"%s"}`, id))
			}
		}
		r.mu.Unlock()
		if first {
			state, _ := json.Marshal(map[string]any{"type": "state", "ids": all})
			events, first = [][]byte{state}, false
		}
		for _, id := range all {
			told[id] = true
		}
		for _, b := range events {
			if err := s.SendJSON(b); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// connect carries bytes between the caller and the target.
func (r *fakeRoom) connect(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var args struct{ Portal, Target identity.ID }
	if err := req.Decode(&args); err != nil {
		return err
	}
	r.mu.Lock()
	r.tunnels = append(r.tunnels, time.Now())
	to := r.inside[args.Target]
	r.mu.Unlock()
	if r.tunnel != nil {
		return r.tunnel(ctx, args.Target, s)
	}
	if to == nil {
		return fmt.Errorf("could not connect to: %s", args.Target)
	}
	far, err := openTunnel(ctx, to, r.key.ID(), args.Target, req.Peer.(*hosted).id.String())
	if err != nil {
		return err
	}
	var both sync.WaitGroup
	carry := func(to, from *muxrpc.Stream) {
		for {
			b, err := from.Recv()
			if err == nil {
				err = to.Send(b)
			}
			if err != nil {
				_ = to.CloseSend(nil)
				return
			}
		}
	}
	both.Go(func() { carry(far, s) })
	both.Go(func() { carry(s, far) })
	both.Wait()
	return far.Close()
}

func (r *fakeRoom) asked() (lists, tunnels []time.Time) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lists), slices.Clone(r.tunnels)
}

// forget drops what was taken down.
func (r *fakeRoom) forget() {
	r.mu.Lock()
	r.lists, r.tunnels = nil, nil
	r.mu.Unlock()
	r.host.mu.Lock()
	defer r.host.mu.Unlock()
	r.conns = slices.DeleteFunc(r.conns, func(c *hosted) bool { return !c.until.IsZero() })
}

// openTunnel is how a room opens a tunnel to somebody who is in it.
func openTunnel(ctx context.Context, to *hosted, portal, target identity.ID, origin string) (*muxrpc.Stream, error) {
	return to.Open(ctx, muxrpc.CallOptions{Kind: muxrpc.Duplex, Patient: true, MaxBody: 1 << 20}, "tunnel.connect",
		map[string]string{"portal": portal.String(), "target": target.String(), "origin": origin})
}

// connOf makes a net.Conn of a tunnel's stream.
func connOf(s *muxrpc.Stream) net.Conn {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		for {
			b, err := s.Recv()
			if err != nil {
				return
			}
			if _, err := theirs.Write(b.Data); err != nil {
				return
			}
		}
	}()
	go func() {
		defer s.CloseSend(nil)
		buf := make([]byte, 4096)
		for {
			n, err := theirs.Read(buf)
			if err != nil {
				return
			}
			if s.Send(muxrpc.Body{Type: muxrpc.Binary, Data: slices.Clone(buf[:n])}) != nil {
				return
			}
		}
	}()
	return ours
}

// knock connects to a node through a room that it is in, as key.
func (r *fakeRoom) knock(to *testNode, key identity.KeyPair, portal identity.ID, origin string) (*rawPeer, error) {
	r.t.Helper()
	open := r.open()
	i := slices.IndexFunc(open, func(c *hosted) bool { return c.id == to.id })
	if i < 0 {
		r.t.Fatal("the node is not in the room")
	}
	stream, err := openTunnel(r.t.Context(), open[i], portal, to.id, origin)
	if err != nil {
		return nil, err
	}
	socket := connOf(stream)
	conn, err := shs.Client(r.t.Context(), socket, shs.Config{Key: key, NetworkKey: testNetwork}, to.id)
	if err != nil {
		socket.Close()
		return nil, err
	}
	return runRaw(r.t, key, conn), nil
}

// Two who meet in a room exchange their feeds over a tunnel; when the room is gone, so is the tunnel, and this is told; when the room
// is back, so is the tunnel.
func TestMeetInARoom(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		r := newRoom(t, m)
		a := startNode(t, 1, newGraph(ids(1, 2)...), nodeOptions{mem: m})
		b := startNode(t, 2, newGraph(ids(1, 2)...), nodeOptions{mem: m})
		stranger := startNode(t, 3, newGraph(), nodeOptions{mem: m})
		for _, n := range []*testNode{a, b, stranger} {
			n.Keep(r.addr)
		}
		a.publish(5)
		b.publish(7)
		pass(10 * time.Second)
		a.holds(b.id, 7)
		b.holds(a.id, 5)
		for _, c := range []struct{ of, with *testNode }{{a, b}, {b, a}} {
			p, ok := c.of.peer(c.with.id)
			if !ok || p.State != Connected || p.Kind != KindRoom || p.Source != "room the room" || p.Via != "ebt" ||
				p.Outgoing && *p.Address != identity.Tunnel(r.key.ID(), c.with.id) {
				t.Errorf("%+v", p)
			}
			if _, ok := c.of.peer(stranger.id); ok {
				t.Error("a stranger in the room is told as a peer")
			}
			rooms := c.of.Rooms()
			if len(rooms) != 1 || rooms[0].Name != "the room" || rooms[0].Version != 2 || !rooms[0].Member || len(rooms[0].Attendants) != 2 {
				t.Errorf("%+v", rooms)
			}
			if p, _ := c.of.peer(r.key.ID()); !p.Room || p.Kind != KindPub || !p.Kept {
				t.Errorf("the room: %+v", p)
			}
		}
		pa, _ := a.peer(b.id)
		pb, _ := b.peer(a.id)
		if pa.Outgoing == pb.Outgoing {
			t.Error("there are two tunnels")
		}

		r.stop()
		pass(5 * time.Second)
		if rooms := a.Rooms(); len(rooms) != 0 {
			t.Errorf("when the room is gone: %+v", rooms)
		}
		if p, _ := a.peer(b.id); p.State != Gone || !strings.Contains(p.Why, "not seen for") {
			t.Errorf("when the room is gone: %+v", p)
		}
		kept := identity.Tunnel(r.key.ID(), testKey(4).ID())
		a.Keep(kept)
		pass(5 * time.Second)
		if p, _ := a.peer(kept.Key); p.State != Waiting || !strings.Contains(p.LastError, "not connected with the room "+r.key.ID().String()) {
			t.Errorf("a peer in a room that is gone: %+v", p)
		}
		if err := a.Connect(t.Context(), identity.Tunnel(r.key.ID(), b.id)); !errors.Is(err, errNoRoom) {
			t.Errorf("dialled through a room that is gone: %v", err)
		}
		a.publish(1)
		pass(10 * time.Minute)
		r.listen()
		pass(a.o.RedialMost + 10*time.Second)
		b.holds(a.id, 6)
		if p, _ := a.peer(b.id); p.State != Connected {
			t.Errorf("when the room is back: %+v", p)
		}
		pass(a.o.RedialMost + 10*time.Second)
		if p, _ := a.peer(kept.Key); !strings.Contains(p.LastError, "not in the room") {
			t.Errorf("who is not in the room: %+v", p)
		}
	})
}

// Who knocks through a room is let in if we follow them, whatever the room says of them, and else turned away, which is listed.
func TestKnocksThroughARoom(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		author := newAuthor(8)
		book := &book{}
		node := startNode(t, 1, newGraph(append(ids(2), author.id())...), nodeOptions{mem: m, book: book})
		node.hold(author.posts(3)...)
		r := newRoom(t, m)
		node.connectHost(r.host)
		pass(time.Second)
		turned := func() []identity.ID {
			t.Helper()
			rooms := node.Rooms()
			if len(rooms) != 1 {
				t.Fatalf("%+v", rooms)
			}
			return rooms[0].Turned
		}
		room := r.key.ID()

		friend, err := r.knock(node, testKey(2), room, testKey(2).ID().String())
		if err != nil {
			t.Fatal(err)
		}
		e := friend.ebt()
		e.note(author.id(), 0, true)
		if got := e.got(author.id()); got != 3 {
			t.Errorf("%d of 3 messages came through the tunnel", got)
		}
		if p, ok := node.peer(friend.key.ID()); !ok || p.State != Connected || p.Outgoing {
			t.Errorf("%+v", p)
		}

		// A second connection of the same key takes the place of the first, also when the room lies about who it is.
		liar, err := r.knock(node, testKey(2), testKey(77).ID(), testKey(66).ID().String())
		if err != nil {
			t.Fatalf("with a false portal and origin: %v", err)
		}
		pass(time.Second)
		if friend.connected() || !liar.connected() {
			t.Errorf("the first connection is open: %v, the second: %v", friend.connected(), liar.connected())
		}

		// A stranger is not let in by calling himself a friend.
		if _, err := r.knock(node, testKey(3), room, testKey(2).ID().String()); err == nil {
			t.Error("a stranger was let in")
		}
		if got := turned(); !slices.Equal(got, ids(3)) {
			t.Errorf("turned away: %v", got)
		}
		node.block(node.id, testKey(4).ID(), true)
		if _, err := r.knock(node, testKey(4), room, ""); err == nil {
			t.Error("a blocked one was let in")
		}
		if got := turned(); !slices.Equal(got, ids(3)) {
			t.Errorf("turned away: %v", got)
		}
		for n := range byte(60) {
			_, _ = r.knock(node, testKey(100+n), room, "")
			_, _ = r.knock(node, testKey(100+n), room, "")
		}
		got := turned()
		if len(got) != maxTurned || got[len(got)-1] != testKey(159).ID() {
			t.Errorf("%d turned away are listed", len(got))
		}

		// What a room can say wrong.
		for _, c := range []struct{ args, want string }{
			{fmt.Sprintf(`{"portal":"%s","target":"%s","origin":"%s"}`, room, testKey(9).ID(), testKey(2).ID()), "could not connect"},
			{fmt.Sprintf(`{"portal":"%s","target":"nobody"}`, room), "could not connect"},
			{fmt.Sprintf(`{"portal":"%s"}`, room), "could not connect"},
			{fmt.Sprintf(`{"target":"%s","origin":"nobody"}`, node.id), "no feed id"},
			{fmt.Sprintf(`{"target":"%s","origin":"%s"}`, node.id, node.id), "origin is the target"},
			{fmt.Sprintf(`{"target":{"a":"%s"}}`, node.id), ""},
			{`null`, "could not connect"},
			{`7`, ""},
		} {
			stream, err := r.open()[0].Duplex(t.Context(), "tunnel.connect", json.RawMessage(c.args))
			if err != nil {
				t.Fatal(err)
			}
			if h := follow(stream); h.ended() == nil || !strings.Contains(h.ended().Error(), c.want) || len(h.messages()) != 0 {
				t.Errorf("%s: %v, want %q", c.args, h.ended(), c.want)
			}
		}
		if !liar.connected() {
			t.Error("the friend's connection was lost")
		}

		// Only a room may bring tunnels.
		plain := dialRaw(t, m, testKey(5), node)
		stream, err := plain.conn.Duplex(t.Context(), "tunnel.connect", map[string]string{"target": node.id.String()})
		if err != nil {
			t.Fatal(err)
		}
		if err := follow(stream).ended(); err == nil || !strings.Contains(err.Error(), "only accepted from rooms") {
			t.Errorf("a tunnel of who is no room: %v", err)
		}
		// A block ends what is open.
		node.block(node.id, testKey(2).ID(), true)
		pass(time.Second)
		if liar.connected() {
			t.Error("who was blocked is connected still")
		}
	})
}

// A room that opens tunnels without end, with a new name for each origin, takes nobody else's place in the door.
func TestFloodOfTunnels(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		node := startNode(t, 1, newGraph(ids(2)...), nodeOptions{mem: m})
		r := newRoom(t, m)
		node.connectHost(r.host)
		pass(time.Second)
		room := r.open()[0]
		var tunnels []*rawHistory
		for n := range 400 {
			stream, err := openTunnel(t.Context(), room, r.key.ID(), node.id, identity.ID{byte(n), byte(n >> 8), 1}.String())
			if err != nil {
				t.Fatal(err)
			}
			tunnels = append(tunnels, follow(stream))
		}
		open := 0
		for _, h := range tunnels {
			if h.ended() == nil {
				open++
			}
		}
		if open == 0 || open > node.o.MaxHandshakesAddress {
			t.Errorf("%d tunnels are open of which nothing is known, %d are allowed", open, node.o.MaxHandshakesAddress)
		}
		// Others get in meanwhile.
		if p, err := tryRaw(t, m, testKey(3), node); err != nil || !p.connected() {
			t.Errorf("a peer that dials meanwhile: %v", err)
		}
		pass(shs.DefaultTimeout + 10*time.Second)
		for i, h := range tunnels {
			if h.ended() == nil {
				t.Errorf("tunnel %d is open still", i)
			}
		}
		if _, err := r.knock(node, testKey(2), r.key.ID(), ""); err != nil {
			t.Errorf("a friend afterwards: %v", err)
		}
	})
}

// Whatever a room says about who is in it, what we remember of it and do about it is bounded, and other peers are served.
func TestHostileRoomList(t *testing.T) {
	t.Parallel()
	const friends = 400 // of all that a room may name: more than are remembered
	fake := func(n int) identity.ID {
		if n < friends {
			return identity.FromSeed([32]byte{byte(n), byte(n >> 8), 7}).ID()
		}
		return identity.ID{byte(n), byte(n >> 8), byte(n >> 16), 7} // need not be a key
	}
	joined := func(n int) []byte { return fmt.Appendf(nil, `{"type":"joined","id":"%s"}`, fake(n)) }
	type (
		attendFunc = func(ctx context.Context, s *muxrpc.Stream) error
		tunnelFunc = func(ctx context.Context, target identity.ID, s *muxrpc.Stream) error
	)
	siegeBy := func(t *testing.T, attend attendFunc, tunnel tunnelFunc, do func(s *siege, r *fakeRoom)) {
		besiege(t, func(s *siege) {
			r := newRoom(s.t, s.m)
			r.attend, r.tunnel = attend, tunnel
			s.node.graph.change(func() {
				for n := range friends {
					s.node.graph.wanted[fake(n)] = true
				}
			})
			s.node.connectHost(r.host)
			do(s, r)
		})
	}
	siegeOf := func(t *testing.T, attend attendFunc, do func(s *siege, r *fakeRoom)) { siegeBy(t, attend, nil, do) }
	t.Run("tens of thousands of attendants", func(t *testing.T) {
		siegeOf(t, func(ctx context.Context, s *muxrpc.Stream) error {
			for part := range 3 {
				var all []identity.ID
				for n := range 10000 {
					all = append(all, fake(10000*part+n))
				}
				state, _ := json.Marshal(map[string]any{"type": "state", "ids": all})
				if err := s.SendJSON(state); err != nil {
					return err
				}
			}
			for n := range 10000 {
				if err := s.SendJSON(joined(n)); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return nil
		}, func(s *siege, r *fakeRoom) {
			pass(time.Minute)
			for _, room := range s.node.Rooms() {
				if len(room.Attendants) > 4096 {
					t.Errorf("%d attendants are remembered", len(room.Attendants))
				}
			}
			if peers := s.node.Peers(); len(peers) > 400 {
				t.Errorf("%d peers are known", len(peers))
			}
			// What of it is too much for a stream ends that, or the connection: both are made anew, with pauses that grow.
			if lists, _ := r.asked(); len(lists) > 30 {
				t.Errorf("the list was asked for %d times in a minute", len(lists))
			}
		})
	})
	t.Run("friends whom nobody can reach", func(t *testing.T) {
		siegeOf(t, func(ctx context.Context, s *muxrpc.Stream) error {
			for n := range friends {
				if err := s.SendJSON(joined(n)); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return nil
		}, func(s *siege, r *fakeRoom) {
			// 300 of them are remembered, and none is dialled more than every minute or two after a while.
			pass(3 * time.Minute)
			_, before := r.asked()
			pass(2 * time.Minute)
			_, tunnels := r.asked()
			if got := len(tunnels) - len(before); got == 0 || got > 1000 {
				t.Errorf("%d tunnels were asked for in two minutes", got)
			}
		})
	})
	t.Run("tunnels in which nobody speaks", func(t *testing.T) {
		var mu sync.Mutex
		open, most := 0, 0
		siegeBy(t, func(ctx context.Context, s *muxrpc.Stream) error {
			for n := range friends {
				if err := s.SendJSON(joined(n)); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return nil
		}, func(_ context.Context, _ identity.ID, stream *muxrpc.Stream) error {
			mu.Lock()
			open++
			most = max(most, open)
			mu.Unlock()
			for {
				if _, err := stream.Recv(); err != nil {
					break
				}
			}
			mu.Lock()
			open--
			mu.Unlock()
			return nil
		}, func(*siege, *fakeRoom) {
			pass(2 * time.Minute)
			mu.Lock()
			defer mu.Unlock()
			if most < 5 || most > 10 { // at one time some end and as many begin
				t.Errorf("%d tunnels were open at once", most)
			}
		})
	})
	t.Run("ids that are none", func(t *testing.T) {
		siegeOf(t, func(ctx context.Context, s *muxrpc.Stream) error {
			for _, b := range []string{
				`{"type":"state","ids":[7,null,"nobody",{"id":[]},"%AAAA=.sha256","@AAAA.ed25519"]}`, `{"type":"joined","id":7}`,
				`{"type":"joined"}`, `{"type":"left","id":{}}`, `{"type":"left","id":"nobody"}`, `{"type":"party"}`, `{}`,
				fmt.Sprintf(`{"type":"joined","id":"%s"}`, testKey(1).ID()), fmt.Sprintf(`{"type":"joined","id":"%s"}`, testKey(50).ID()),
				fmt.Sprintf(`{"type":"joined","id":"%s"}`, fake(1)),
			} {
				if err := s.SendJSON([]byte(b)); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return nil
		}, func(s *siege, r *fakeRoom) {
			pass(time.Minute)
			if rooms := s.node.Rooms(); len(rooms) != 1 || len(rooms[0].Attendants) != 1 || rooms[0].Attendants[0] != fake(1) {
				t.Errorf("%+v", rooms)
			}
			if _, ok := s.node.peer(s.node.id); ok {
				t.Error("we are a peer of ours")
			}
		})
	})
	t.Run("no list at all", func(t *testing.T) {
		siegeOf(t, func(_ context.Context, s *muxrpc.Stream) error { return s.SendJSON([]byte(`"everybody"`)) }, func(s *siege, r *fakeRoom) {
			pass(5 * time.Minute)
			lists, _ := r.asked()
			if len(lists) < 5 || len(lists) > 10 {
				t.Errorf("the list was asked for %d times in 5 minutes", len(lists))
			}
			if got := len(r.all()); got != 1 {
				t.Errorf("connected %d times", got)
			}
		})
	})
	t.Run("a list that ends over and over", func(t *testing.T) {
		siegeOf(t, func(_ context.Context, s *muxrpc.Stream) error { return s.SendJSON(joined(1)) }, func(s *siege, r *fakeRoom) {
			pass(5 * time.Minute)
			lists, tunnels := r.asked()
			if len(lists) < 5 || len(lists) > 10 || len(tunnels) > 100 {
				t.Errorf("the list was asked for %d times in 5 minutes, tunnels %d times", len(lists), len(tunnels))
			}
		})
	})
	t.Run("who comes and goes", func(t *testing.T) {
		siegeOf(t, func(ctx context.Context, s *muxrpc.Stream) error {
			for {
				if err := errors.Join(s.SendJSON(joined(1)), s.SendJSON(joined(2))); err != nil {
					return err
				}
				select {
				case <-time.After(150 * time.Millisecond):
				case <-ctx.Done():
					return nil
				}
				if err := s.SendJSON(fmt.Appendf(nil, `{"type":"left","id":"%s"}`, fake(1))); err != nil {
					return err
				}
				select {
				case <-time.After(150 * time.Millisecond):
				case <-ctx.Done():
					return nil
				}
			}
		}, func(s *siege, r *fakeRoom) {
			pass(3 * time.Minute)
			if _, tunnels := r.asked(); len(tunnels) > 30 {
				t.Errorf("tunnels were asked for %d times in 3 minutes", len(tunnels))
			}
		})
	})
}
