package replicate

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"charkha/identity"
	"charkha/replicate/internal/ebt"
	"charkha/replicate/internal/sched"
)

// State is how a peer stands.
type State = sched.State

// The states of a Peer.
const (
	Connected = sched.Connected
	Dialling  = sched.Dialling
	Waiting   = sched.Waiting
	Blocked   = sched.Blocked
	Gone      = sched.Gone
)

// Peer is what is known of a connection, or of an address that may be dialled.
type Peer struct {
	ID       identity.ID       `json:"key"`
	Remote   string            `json:"remote,omitempty"`  // of connections: the other side's IP and port, or room and key
	Address  *identity.Address `json:"address,omitempty"` // as dialled, or to be dialled; missing when they dialled us
	Kind     Kind              `json:"kind"`              // "lan", "room", "pub" or "other"
	State    State             `json:"state"`
	Outgoing bool              `json:"outgoing"`
	Kept     bool              `json:"kept"`             // the operator said to dial it always
	Source   string            `json:"source,omitempty"` // who told of the address
	Since    time.Time         `json:"since,omitzero"`   // of the connection, of the attempt, of the waiting
	Until    time.Time         `json:"until,omitzero"`   // it is not dialled before
	Why      string            `json:"why,omitempty"`    // how it stands, in words
	Failures int               `json:"failures,omitempty"`

	// Of connections only.
	Via       string `json:"via,omitempty"` // "ebt" or "history"
	Received  int64  `json:"received"`      // messages stored
	Sent      int64  `json:"sent"`          // messages sent
	Refused   int64  `json:"refused"`       // messages that the log did not take
	BytesIn   int64  `json:"bytesIn"`
	BytesOut  int64  `json:"bytesOut"`
	Missing   int    `json:"missing"` // feeds of which it says to have more than we
	Stalled   int    `json:"stalled"` // of those, feeds that it was asked for and let wait
	Pinged    bool   `json:"pinged"`  // it answered a ping, and so the next two are known
	RTT       int64  `json:"rttMs"`
	Skew      int64  `json:"skewMs"`         // how far its clock is ahead of ours
	Room      bool   `json:"room,omitempty"` // it is a room that we are in
	LastError string `json:"lastError,omitempty"`
}

// Peers lists the connections first, then the addresses that may be dialled.
func (n *Network) Peers() []Peer {
	n.schedMu.Lock()
	statuses := n.sched.Statuses(n.o.Now())
	n.schedMu.Unlock()
	n.mu.Lock()
	sessions := make([]*session, 0, len(n.sessions))
	for _, s := range n.sessions {
		sessions = append(sessions, s)
	}
	n.mu.Unlock()
	connected := map[identity.ID]int{}
	var peers []Peer
	for _, s := range sessions {
		connected[s.id] = len(peers)
		peers = append(peers, s.peer())
	}
	for _, st := range statuses {
		if i, ok := connected[st.Address.Key]; ok {
			if p := &peers[i]; p.Address == nil || *p.Address == st.Address {
				p.Kind, p.Source, p.Why, p.LastError = st.Kind, st.Source, st.Why, st.LastError
				p.Kept = p.Kept || st.Kept
			}
			continue
		}
		peers = append(peers, Peer{
			ID: st.Address.Key, Address: &st.Address, Kind: st.Kind, State: st.State, Outgoing: true, Kept: st.Kept, Source: st.Source,
			Since: st.Since, Until: st.Until, Why: st.Why, Failures: st.Failures, LastError: st.LastError,
		})
	}
	slices.SortStableFunc(peers, func(a, b Peer) int {
		if (a.State == Connected) != (b.State == Connected) {
			if a.State == Connected {
				return -1
			}
			return 1
		}
		return compareIDs(a.ID, b.ID)
	})
	return peers
}

// peer describes the session.
func (s *session) peer() Peer {
	n := s.n
	stats := s.conn.Stats()
	n.brainMu.Lock()
	missing, _ := n.brain.Missing(s.id)
	stalled := n.brain.Stalled(s.id)
	n.brainMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	p := Peer{
		ID: s.id, Remote: s.remote, Kind: KindOther, State: Connected, Outgoing: s.outgoing, Since: s.since, Via: s.via,
		Received: s.received.Load(), Sent: s.sent.Load(), Refused: s.refused.Load(),
		BytesIn: stats.BytesIn, BytesOut: stats.BytesOut, Missing: missing, Stalled: stalled,
		Pinged: s.pinged, RTT: s.rtt.Milliseconds(), Skew: s.skew.Milliseconds(), Room: s.room != nil,
	}
	if s.outgoing {
		p.Address = &s.addr
	}
	return p
}

// Claim is what a connected peer says of a feed.
type Claim struct {
	Peer     identity.ID `json:"peer"`
	Sequence int64       `json:"sequence"`       // that it has; -1: it does not exchange the feed
	Asked    time.Time   `json:"asked,omitzero"` // when it was asked for what follows, or last sent some
	Stalled  bool        `json:"stalled"`        // it was asked, and let wait
	Refused  bool        `json:"refused"`        // our log refused what it sent
	Blocked  bool        `json:"blocked"`        // the feed's author blocks it: nothing of the feed is exchanged with it
	Sending  bool        `json:"sending"`        // it asked us to send
	Asking   bool        `json:"asking"`         // we asked it to send
	Sent     int64       `json:"sent"`           // it has this, or it is on its way there
	Told     int64       `json:"told"`           // the head that it was last told
}

// FeedState is how a feed stands with the connected peers.
type FeedState struct {
	Feed   identity.ID `json:"feed"`
	Wanted bool        `json:"wanted"`
	Head   int64       `json:"head"` // ours
	Claims []Claim     `json:"claims"`
}

// Feed tells how a feed stands with the connected peers. Peers without EBT say nothing of what they have.
func (n *Network) Feed(id identity.ID) FeedState {
	f := FeedState{Feed: id, Wanted: n.o.Graph.Wanted(id), Claims: []Claim{}}
	if head, ok := n.o.Log.Head(id); ok {
		f.Head = head.Sequence
	}
	n.brainMu.Lock()
	defer n.brainMu.Unlock()
	for _, c := range n.brain.Claims(id) {
		f.Claims = append(f.Claims, Claim(c))
	}
	return f
}

// Holder is a peer that says to hold a message.
type Holder struct {
	Peer      identity.ID `json:"peer"`
	Connected bool        `json:"connected"`
	Pub       bool        `json:"pub"` // a pub, as far as we know
}

// Holders lists the peers that hold a message: those whose vector clocks say so, connected or not (what they said is noted when they
// leave), and those connected ones that do not speak of it and show it when they are asked. That takes two seconds at most.
func (n *Network) Holders(ctx context.Context, feed identity.ID, seq int64) (holders []Holder) {
	if seq < 1 {
		return nil // no message: who has nothing would be a holder
	}
	known, connected := map[identity.ID]bool{}, map[identity.ID]bool{}
	n.brainMu.Lock()
	for _, c := range n.brain.Claims(feed) {
		if c.Sequence >= seq {
			known[c.Peer] = true
		}
	}
	n.brainMu.Unlock()
	for _, id := range n.askHolders(ctx, feed, seq, known) {
		known[id] = true
	}
	n.mu.Lock()
	for id := range n.sessions {
		connected[id] = true // it may have nothing of this feed any more: that counts
	}
	n.mu.Unlock()
	for id := range known {
		holders = append(holders, Holder{Peer: id, Connected: connected[id]})
		connected[id] = true
	}
	files, _ := filepath.Glob(filepath.Join(n.o.Dir, "ebt", "*.json"))
	for _, file := range files {
		id, err := clockOwner(file)
		if err != nil || connected[id] || id == n.self {
			continue
		}
		data, err := os.ReadFile(file)
		var clock ebt.Clock
		if err == nil && json.Unmarshal(data, &clock) == nil && clock[feed] >= seq {
			holders = append(holders, Holder{Peer: id})
		}
	}
	pubs := map[identity.ID]bool{}
	n.schedMu.Lock()
	for _, st := range n.sched.Statuses(n.o.Now()) {
		if st.Kind == KindPub {
			pubs[st.Address.Key] = true
		}
	}
	n.schedMu.Unlock()
	for i := range holders {
		holders[i].Pub = pubs[holders[i].Peer]
	}
	slices.SortFunc(holders, func(a, b Holder) int { return compareIDs(a.Peer, b.Peer) })
	return holders
}

// clockOwner is whose clock a file holds; see clockFile.
func clockOwner(file string) (identity.ID, error) {
	name := strings.TrimSuffix(filepath.Base(file), ".json")
	return identity.ParseID("@" + strings.NewReplacer("_", "/", "-", "+").Replace(name) + ".ed25519")
}
