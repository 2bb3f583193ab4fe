//go:build interop && unix

package interop

import (
	"strings"
	"testing"
)

// JS peers do not say what arrived; they show it when they are asked. A Charkha says it.
func TestPostWaitsForHolders(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	n, other := startNode(t, network), startNode(t, network)
	peers := map[string]*Peer{"ssb-server": Start(t, Config{Script: Server, NetworkKey: network}), "ssb-db2": Start(t, Config{Script: DB2, NetworkKey: network})}
	other.follow(n.ID)
	other.connect(n.Address)
	for _, p := range peers {
		p.Follow(n.ID)
		n.connect(p.Address)
	}
	out, err := n.cli("post", "--wait", "3", "--timeout", "60s", "who has it?")
	if err != nil || !strings.Contains(out, "held by 3 peers") {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, p := range peers {
		if !strings.Contains(out, p.ID.String()) {
			t.Errorf("%s is not among those who have it:\n%s", name, out)
		}
	}
	id, _, _ := strings.Cut(out, "\n")
	if again, err := n.cli("held-by", id); err != nil || !strings.HasPrefix(again, "held by 3 peers") {
		t.Errorf("%v\n%s", err, again)
	}
}
