package api

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"charkha/identity"
	"charkha/replicate"
)

const elsewhere = "net:192.0.2.1:8008~shs:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// Addresses come and go in the forms of npm ssb-conn and ssb-gossip. The network does not run, so nobody is dialled.
func TestKnownAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addr, err := identity.ParseAddress(elsewhere)
	w.check(err)
	peers := func() (peers []gossipPeer) {
		t.Helper()
		w.check(json.Unmarshal([]byte(w.call("gossip.peers")), &peers))
		return peers
	}
	if len(peers()) != 0 || w.call("conn.dbPeers") != "[]" || w.call("gossip.get", addr.Key) != "false" {
		t.Error("somebody is known at the start")
	}
	staged := w.open("conn.stagedPeers")
	if got := w.recv(staged); got != "[]" {
		t.Errorf("staged: %s", got)
	}
	if got := w.call("conn.stage", elsewhere); got != "true" {
		t.Errorf("stage: %s", got)
	}
	if got := w.call("conn.stage", elsewhere); got != "false" {
		t.Errorf("stage again: %s", got)
	}
	if got := w.recv(staged); !strings.HasPrefix(got, `[["`+elsewhere+`",{"key":"`+addr.Key.String()) {
		t.Errorf("staged: %s", got)
	}
	if got := peers(); len(got) != 1 || got[0].Host != "192.0.2.1" || got[0].Port != 8008 || got[0].Key != addr.Key || got[0].State != "" {
		t.Errorf("peers: %+v", got)
	}
	for _, arg := range []any{addr.Key, map[string]any{"key": addr.Key}, elsewhere, map[string]any{"address": elsewhere}} {
		if got := w.call("gossip.get", arg); !strings.Contains(got, elsewhere) {
			t.Errorf("get %v: %s", arg, got)
		}
	}
	w.call("gossip.remove", addr.Key)
	if len(peers()) != 0 {
		t.Errorf("removed, but %v", peers())
	}
	for _, arg := range []any{elsewhere, map[string]any{"host": "192.0.2.1", "port": 8008, "key": addr.Key}, "192.0.2.1:8008:" + addr.Key.String()} {
		if got := w.call("gossip.add", arg, "manual"); !strings.Contains(got, elsewhere) {
			t.Errorf("add %v: %s", arg, got)
		}
	}
	if got := w.call("conn.dbPeers"); !strings.Contains(got, elsewhere) || strings.Count(got, "192.0.2.1") != 1 {
		t.Errorf("dbPeers: %s", got)
	}
	w.call("conn.forget", elsewhere)
	w.call("conn.remember", elsewhere, map[string]any{"type": "pub"})
	if got := w.call("conn.unstage", elsewhere); got != "true" {
		t.Errorf("unstage: %s", got)
	}
	if got := w.call("gossip.add", "net:192.0.2.1:1~shs:"+w.api.Key.ID().String()[1:45]); got != "null" {
		t.Errorf("our own address: %s", got)
	}
	for method, args := range map[string][]any{
		"gossip.add": {addr.Key}, "gossip.get": {}, "gossip.connect": {identity.ID{99}}, "conn.remember": {"nonsense"}, "conn.forget": {addr.Key},
		"conn.stage": {7},
	} {
		w.refused(method, args...)
	}
	if got := w.refused("gossip.connect", identity.ID{99}); !strings.Contains(got, "no known address for peer:") {
		t.Errorf("connect: %s", got)
	}
	w.call("conn.stop")
	w.call("conn.start")
	if got := w.call("gossip.disable", "local"); got != `"disabled gossip type local"` {
		t.Errorf("disable: %s", got)
	}
	if got := w.call("gossip.enable"); got != `"enabled gossip type global"` {
		t.Errorf("enable: %s", got)
	}
	w.call("gossip.reconnect")
	if got, want := w.call("multiserver.parse", elsewhere), `[[{"name":"net","data":["192.0.2.1","8008"]},{"name":"shs","data":["AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]}]]`; got != want {
		t.Errorf("parse: %s", got)
	}
}

func TestGossipChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	changes, staged := w.open("gossip.changes"), w.open("conn.stagedPeers")
	w.recv(staged)
	events := make(chan string, 1000)
	go func() { // ends with the connection
		for {
			body, err := changes.Recv()
			if err != nil {
				return
			}
			events <- string(body.Data)
		}
	}()
	// The stream may begin to look at any time: what happened before, it does not tell.
	next := func(do func(n int), want string) {
		t.Helper()
		for n := range 200 {
			do(n)
			w.recv(staged) // and so a while later
			select {
			case got := <-events:
				if !strings.HasPrefix(got, want) {
					t.Errorf("changes: %s, want %s", got, want)
				}
				return
			default:
			}
		}
		t.Errorf("no change was told, want %s", want)
	}
	addr := func(n int) string {
		return identity.Address{Proto: "net", Host: "192.0.2.1", Port: 8008, Key: identity.FromSeed([32]byte{byte(n), 5}).ID()}.String()
	}
	next(func(n int) { w.call("conn.stage", addr(n)) }, `{"type":"discover","peer":{"address":"net:192.0.2.1:8008~shs:`)
	// about is the next that is told of one. Those of before may be told with it, in any order, as they were all seen at once.
	about := func(addr string) string {
		t.Helper()
		for {
			got := <-events
			if strings.Contains(got, addr) {
				return got
			}
			if !strings.HasPrefix(got, `{"type":"discover"`) {
				t.Errorf("changes: %s", got)
			}
		}
	}
	w.call("conn.stage", addr(200))
	if got := about(addr(200)); !strings.HasPrefix(got, `{"type":"discover"`) {
		t.Errorf("changes: %s", got)
	}
	w.call("gossip.remove", addr(200))
	if got := about(addr(200)); !strings.HasPrefix(got, `{"type":"remove","peer":{"address":"`+addr(200)) {
		t.Errorf("changes: %s", got)
	}
}

// The shapes that ssb-conn and ssb-gossip give to connections.
func TestPeerShapes(t *testing.T) {
	t.Parallel()
	room, addr := identity.ID{8}, identity.Tunnel(identity.ID{8}, identity.ID{9})
	in := replicate.Peer{ID: identity.ID{1}, Remote: net.JoinHostPort("192.0.2.7", "4000"), State: replicate.Connected, Kind: replicate.KindOther, Pinged: true, RTT: 7, Skew: -3}
	through := replicate.Peer{ID: identity.ID{9}, Address: &addr, State: replicate.Dialling, Kind: replicate.KindRoom, Outgoing: true}
	server := replicate.Peer{ID: room, State: replicate.Connected, Kind: replicate.KindPub, Remote: "nothing"}
	if g := gossipOf(in); g.Host != "192.0.2.7" || g.Port != 4000 || g.State != "connected" || g.Client || g.Ping == nil || g.Ping.Skew != -3 || g.Source != "stored" {
		t.Errorf("%+v", g)
	}
	if g := gossipOf(through); g.State != "connecting" || !g.Client || g.Host != "" || g.Address != addr.String() {
		t.Errorf("%+v", g)
	}
	rooms := []replicate.Room{{ID: room, Name: "the room", Attendants: []identity.ID{{1}, {2}}}}
	var a API
	if c := a.connPeer(through, rooms); c.data.Type != "room-attendant" || c.data.Room == nil || *c.data.Room != room || c.data.RoomName != "the room" || c.data.State != "connecting" {
		t.Errorf("%+v", c)
	}
	if c := a.connPeer(server, rooms); c.data.Type != "room" || c.data.Name != "the room" || c.data.OnlineCount == nil || *c.data.OnlineCount != 2 {
		t.Errorf("%+v", c)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me, other := w.api.Key.ID(), identity.ID{7}
	upto := func() (ids []string) {
		for _, item := range w.all("replicate.upto") {
			var u struct {
				ID       identity.ID
				Sequence int64
			}
			w.check(json.Unmarshal([]byte(item), &u))
			ids = append(ids, fmt.Sprint(u.ID, u.Sequence))
		}
		slices.Sort(ids)
		return ids
	}
	w.post("x")
	if got := upto(); !slices.Equal(got, []string{fmt.Sprint(me, 1)}) {
		t.Errorf("upto: %v", got)
	}
	for _, args := range [][]any{{other, true}, {map[string]any{"id": other, "replicate": true}}, {other}} {
		w.call("replicate.request", args...)
		if got := upto(); len(got) != 2 {
			t.Errorf("requested with %v, and upto: %v", args, got)
		}
		w.call("ebt.request", other, false)
		if got := upto(); len(got) != 1 {
			t.Errorf("not requested any more, and upto: %v", got)
		}
	}
	w.call("ebt.request", other, true)
	w.call("ebt.forget", other)
	if got := upto(); len(got) != 1 {
		t.Errorf("forgotten, and upto: %v", got)
	}
	w.call("ebt.block", me, other, true)
	w.call("replicate.block", map[string]any{"from": me, "to": other, "block": false})
	for _, args := range [][]any{{}, {7}, {me}, {me, 7}} {
		w.refused("ebt.block", args...)
	}
	w.refused("ebt.request")
	w.refused("ebt.forget")
	if got, want := w.call("ebt.peerStatus"), fmt.Sprintf(`{"id":"%s","seq":1,"peers":{}}`, me); got != want {
		t.Errorf("peerStatus: %s, want %s", got, want)
	}
	live := w.open("replicate.upto", map[string]any{"live": true})
	w.recv(live)
	if got := w.recv(live); got != `{"sync":true}` {
		t.Errorf("upto: %s", got)
	}
	w.post("y")
	if got, want := w.recv(live), fmt.Sprintf(`{"id":"%s","sequence":2}`, me); got != want {
		t.Errorf("upto: %s, want %s", got, want)
	}
	if got := w.recv(w.open("replicate.changes")); !strings.Contains(got, `"feeds":1,"pendingPeers":0,"incompleteFeeds":0,"progress":2,"total":2`) {
		t.Errorf("changes: %s", got)
	}
	w.call("friends.hops") // waits for the index
	if got, want := w.call("progress"), `{"ebt":{"start":0,"current":2,"target":2},"indexes":{"start":0,"current":2,"target":2}}`; got != want {
		t.Errorf("progress: %s, want %s", got, want)
	}
	if got := w.call("status"); !strings.Contains(got, `"sync":{"plugins":{"index":1},"since":1,"sync":true}`) {
		t.Errorf("status: %s", got)
	}
}
