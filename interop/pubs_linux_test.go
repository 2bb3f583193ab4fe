//go:build interop

package interop

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"charkha/internal/netns"
)

// A friend of ours who was never told where the pub is that we accepted an invite of learns it from our feed, and connects. This
// needs addresses other than those on loopback, which nobody believes.
func TestFriendsFindAnnouncedPubs(t *testing.T) {
	t.Parallel()
	network, b := networkKey(t), netns.NewBridge(t)
	start := func(addr string) *Node {
		n := newNode(t, "--network-key", base64.StdEncoding.EncodeToString(network[:]), "--no-lan")
		n.within = b.Host("eth0", addr+"/24").Do
		n.start("")
		return n
	}
	pub := Start(t, Config{Script: Server, NetworkKey: network, Invites: true, Host: "10.1.6.1", Within: b.Host("eth0", "10.1.6.1/24").Do})
	n, friend := start("10.1.6.2"), start("10.1.6.3")
	friend.follow(n.ID)
	friend.connect(n.Address)
	var code string
	pub.Ask(&code, "createInvite", 2)
	for i, want := range []string{"follows you now", "followed you already", "followed you already"} {
		out, err := n.cli("invite", "accept", code)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("time %d: %v\n%s", i+1, err, out)
		}
		if seq := n.latest(n.ID); seq != 2 {
			t.Fatalf("time %d: %d messages, want the follow and where the pub is, once", i+1, seq)
		}
	}
	began := time.Now()
	n.invited(pub)
	n.follow(friend.ID)
	friend.connected(pub.ID)
	t.Logf("the friend is connected with the pub within %v", time.Since(began))
	everybodysFeeds(t, friend, n, pub)
}
