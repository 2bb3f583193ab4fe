package api

import (
	"strings"
	"testing"

	"charkha/identity"
	"charkha/lan"
)

func TestNeighbours(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got := w.refused("lan.start"); !strings.Contains(got, "off") {
		t.Errorf("start: %s", got)
	}
	if got := w.refused("lan.stop"); !strings.Contains(got, "--no-lan") {
		t.Errorf("stop: %s", got)
	}
	addr, err := identity.ParseAddress(elsewhere)
	w.check(err)
	w.api.LAN = func() lan.Report { return lan.Report{Neighbours: []lan.Neighbour{{Address: addr, Verified: true}}} }
	if got, want := w.recv(w.open("lan.discoveredPeers")), `{"address":"`+elsewhere+`","verified":true}`; got != want {
		t.Errorf("discovered: %s, want %s", got, want)
	}
	if got := w.call("lan.start"); got != "null" {
		t.Errorf("start: %s", got)
	}
	for _, method := range []string{"plugins.enable", "plugins.disable"} {
		if got := w.refused(method, "x"); !strings.Contains(got, "not supported") {
			t.Errorf("%s: %s", method, got)
		}
	}
	if _, err := w.open("plugins.install", "x").Recv(); err == nil || !strings.Contains(err.Error(), "not supported") {
		t.Errorf("install: %v", err)
	}
}
