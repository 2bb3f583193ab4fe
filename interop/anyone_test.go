//go:build interop && unix

package interop

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"charkha/identity"
	"charkha/replicate"
)

// anyone is a peer of either kind.
type anyone interface {
	id() identity.ID
	name() string
	has(feed identity.ID) int64
	follows(feed identity.ID)
	says(text string)
	waits(feed identity.ID, seq int64)
}

func (n *Node) id() identity.ID                   { return n.ID }
func (n *Node) name() string                      { return "charkha " + n.ID.Short() }
func (n *Node) has(feed identity.ID) int64        { return n.latest(feed) }
func (n *Node) follows(feed identity.ID)          { n.follow(feed) }
func (n *Node) says(text string)                  { n.publish(map[string]string{"type": "post", "text": text}) }
func (n *Node) waits(feed identity.ID, seq int64) { n.t.Helper(); n.wait(feed, seq) }

func (p *Peer) id() identity.ID            { return p.ID }
func (p *Peer) name() string               { return p.config.Script + " " + p.ID.Short() }
func (p *Peer) has(feed identity.ID) int64 { return p.Latest(feed) }
func (p *Peer) follows(feed identity.ID)   { p.Follow(feed) }
func (p *Peer) says(text string)           { p.Publish(map[string]string{"type": "post", "text": text}) }
func (p *Peer) waits(feed identity.ID, seq int64) {
	p.t.Helper()
	p.WaitFeed(feed, seq, time.Minute)
}

// foundBound is how long peers may take to find each other. What they take is told: nearly always under five seconds.
const foundBound = time.Minute

// connected waits until a node is connected with others, and tells who dialled.
func (n *Node) connected(to ...identity.ID) (outgoing map[identity.ID]bool) {
	n.t.Helper()
	began := time.Now()
	for {
		var peers []struct {
			Key      identity.ID
			State    replicate.State
			Outgoing bool
			Address  string
			Source   string
			Note     string
		}
		n.call(&peers, "charkha.peers")
		outgoing = map[identity.ID]bool{}
		for _, p := range peers {
			if p.State == replicate.Connected && slices.Contains(to, p.Key) {
				outgoing[p.Key] = p.Outgoing
			}
		}
		if len(outgoing) == len(to) {
			return outgoing
		}
		if time.Since(began) > foundBound {
			var lan, rooms json.RawMessage
			n.call(&lan, "charkha.lan")
			n.call(&rooms, "charkha.rooms")
			n.t.Fatalf("%s is connected with %d of %d; it knows %+v\nlan: %s\nrooms: %s", n.name(), len(outgoing), len(to), peers, lan, rooms)
		}
		time.Sleep(20 * time.Millisecond) // the other side is a process
	}
}

// befriend has all follow each other and say something, and checks that each ends with everybody's feed.
func befriend(t *testing.T, all ...anyone) {
	t.Helper()
	for _, a := range all {
		for _, b := range all {
			if a != b {
				a.follows(b.id())
			}
		}
		a.says("here is " + a.name())
	}
	everybodysFeeds(t, all...)
}

func everybodysFeeds(t *testing.T, all ...anyone) {
	t.Helper()
	for _, author := range all {
		seq := author.has(author.id())
		for _, a := range all {
			a.waits(author.id(), seq)
		}
	}
}
