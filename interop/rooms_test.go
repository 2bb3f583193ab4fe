//go:build interop && unix

package interop

import (
	"slices"
	"strings"
	"testing"
	"time"

	"charkha/identity"
	"charkha/replicate"
)

// through checks that a node is connected with a peer through a room, and by no other way.
func (n *Node) through(room, peer identity.ID) (outgoing bool) {
	n.t.Helper()
	outgoing = n.connected(peer)[peer]
	var peers []struct {
		Key     identity.ID
		Kind    string
		Address string
	}
	n.call(&peers, "charkha.peers")
	for _, p := range peers {
		if p.Key == peer && p.Address != "" && p.Address != identity.Tunnel(room, peer).String() {
			n.t.Errorf("%s knows %s at %s, not only through the room", n.name(), peer.Short(), p.Address)
		}
	}
	return outgoing
}

// rooms waits until what a node says of the one room that it is in is as it should be.
func (n *Node) rooms(what string, ok func(replicate.Room) bool) {
	n.t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) { // the other side is a process
		var rooms []replicate.Room
		n.call(&rooms, "charkha.rooms")
		if len(rooms) == 1 && ok(rooms[0]) {
			return
		}
		if time.Since(began) > foundBound {
			n.t.Fatalf("%s should tell %s, and says %+v", n.name(), what, rooms)
		}
	}
}

// Two nodes that do not know where the other is find each other in a room and replicate through it; they come back after either
// side was away, and a stranger in the room is not let in.
func TestTwoNodesInARoom(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	room := Start(t, Config{Script: Room, NetworkKey: network})
	room.Ask(nil, "name", "Attic", "dusty")
	a, b := startNode(t, network), startNode(t, network)
	a.publishMany(300, 1)
	b.publishMany(300, 2)
	a.follow(b.ID)
	b.follow(a.ID)
	a.connect(room.Address)
	b.connect(room.Address)
	began := time.Now()
	a.through(room.ID, b.ID)
	b.through(room.ID, a.ID)
	t.Logf("connected through the room within %v", time.Since(began))
	everybodysFeeds(t, a, b)
	t.Logf("both feeds on both sides within %v", time.Since(began))
	a.says("live")
	b.says("live, too")
	everybodysFeeds(t, a, b)
	var here []identity.ID
	if room.Ask(&here, "here"); !slices.Contains(here, a.ID) || !slices.Contains(here, b.ID) {
		t.Errorf("in the room: %v", here)
	}
	if out, err := a.cli("rooms"); err != nil || !strings.Contains(out, "Attic") || !strings.Contains(out, b.ID.String()) {
		t.Errorf("charkha rooms: %v\n%s", err, out)
	}

	// The room goes away and comes back.
	room.Close()
	a.says("the room is gone")
	room = room.Restart()
	b.says("is it?")
	began = time.Now()
	everybodysFeeds(t, a, b)
	a.through(room.ID, b.ID)
	t.Logf("again within %v of the room's return", time.Since(began))

	// So does one of the two.
	b.stop()
	a.rooms("that the other left", func(r replicate.Room) bool { return !slices.Contains(r.Attendants, b.ID) })
	a.says("anybody here?")
	b.restart()
	began = time.Now()
	everybodysFeeds(t, a, b)
	t.Logf("again within %v of the other's return", time.Since(began))

	// A stranger who follows one of them is turned away, whether he runs Charkha or not.
	stranger, js := startNode(t, network), Start(t, Config{Script: DB2, NetworkKey: network, Rooms: true})
	stranger.follow(a.ID)
	js.Follow(a.ID)
	stranger.connect(room.Address)
	js.Connect(room.Address)
	js.Ask(nil, "waitMet", room.ID, a.ID)
	if err := js.Try(nil, "connect", identity.Tunnel(room.ID, a.ID)); err == nil {
		t.Error("a stranger with a JS peer is connected")
	}
	if err := stranger.try(nil, "conn.connect", identity.Tunnel(room.ID, a.ID).String()); err == nil {
		t.Error("a stranger is connected")
	} else {
		t.Logf("the stranger is told: %v", err)
	}
	a.rooms("who was turned away", func(r replicate.Room) bool {
		return slices.Contains(r.Turned, stranger.ID) && slices.Contains(r.Turned, js.ID)
	})
	if n := stranger.latest(a.ID) + js.Latest(a.ID); n != 0 {
		t.Errorf("strangers have %d messages", n)
	}
	// Until he is followed.
	a.follow(stranger.ID)
	began = time.Now()
	stranger.through(room.ID, a.ID)
	everybodysFeeds(t, a, stranger)
	t.Logf("the stranger is in within %v of the follow", time.Since(began))
}

// A node and a JS peer with ssb-room-client, which dials whom it knows in the room as apps do, or only when it is told to.
func TestANodeAndAJSPeerInARoom(t *testing.T) {
	t.Parallel()
	for _, auto := range []bool{false, true} {
		t.Run(map[bool]string{false: "charkha dials", true: "both dial"}[auto], func(t *testing.T) {
			t.Parallel()
			network := networkKey(t)
			room := Start(t, Config{Script: Room, NetworkKey: network})
			room.Ask(nil, "name", "Attic", "dusty")
			js := Start(t, Config{Script: DB2, NetworkKey: network, Rooms: true, Auto: auto})
			n := startNode(t, network)
			js.PublishMany(100, 1)
			n.publishMany(100, 2)
			js.Follow(n.ID)
			n.follow(js.ID)
			js.Connect(room.Address)
			n.connect(room.Address)
			began := time.Now()
			t.Logf("charkha dialled: %v", n.through(room.ID, js.ID))
			n.same(js, js.ID, js.Latest(js.ID))
			n.same(js, n.ID, n.latest(n.ID))
			t.Logf("both feeds on both sides within %v", time.Since(began))
			js.says("live")
			n.says("live, too")
			everybodysFeeds(t, n, js)

			if !auto { // it dials, now that we pause
				n.call(nil, "conn.disconnect", js.ID)
				js.WaitPeer(n.ID, false)
				js.Connect(identity.Tunnel(room.ID, n.ID))
				t.Logf("charkha dialled: %v", n.through(room.ID, js.ID))
				n.says("still here")
				js.says("me, too")
				everybodysFeeds(t, n, js)
			}

			room.Close()
			js.WaitPeer(room.ID, false)
			n.says("the room is gone")
			js.says("so it is")
			room = room.Restart()
			began = time.Now()
			js.Connect(room.Address) // ssb-conn by itself dials nothing on loopback
			everybodysFeeds(t, n, js)
			t.Logf("again within %v of the room's return", time.Since(began))
		})
	}
}
