package api

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"charkha/muxrpc"
)

// bare are the methods that take no argument.
var bare = strings.Fields(`whoami version getVectorClock progress status rebuild latest createSequenceStream createWriteStream
	conn.peers conn.stagedPeers conn.dbPeers conn.start conn.stop gossip.peers gossip.reconnect gossip.changes friends.graph friends.stream
	lan.start lan.stop lan.discoveredPeers names.get names.getImages names.dump replicate.changes roomClient.discoveredAttendants
	blobs.pushed blobs.changes blobs.createWants blobsPurge.stop blobsPurge.changes charkha.blobs charkha.blobWants
	ooo.stream charkha.import charkha.status charkha.peers charkha.rooms charkha.lan`)

func TestEveryArgumentIsDeclared(t *testing.T) {
	t.Parallel()
	var explained func(t *testing.T, method string, a muxrpc.Arg)
	explained = func(t *testing.T, method string, a muxrpc.Arg) {
		if a.Name == "" || a.Type == "" || a.Doc == "" {
			t.Errorf("%s: the argument %+v has no name, type or meaning", method, a)
		}
		for _, o := range a.Options {
			explained(t, method, o)
		}
	}
	left := slices.Clone(bare)
	for _, m := range (&API{}).Methods() {
		if m.Doc == "" {
			t.Errorf("%s says not what it does", m.Name)
		}
		if m.Kind == muxrpc.Group {
			continue
		}
		if at := slices.Index(left, m.Name); at >= 0 {
			left = slices.Delete(left, at, at+1)
			if len(m.Args) > 0 {
				t.Errorf("%s has arguments", m.Name)
			}
			continue
		}
		if len(m.Args) == 0 {
			t.Errorf("%s declares no arguments", m.Name)
		}
		for _, a := range m.Args {
			explained(t, m.Name, a)
		}
	}
	if len(left) > 0 {
		t.Errorf("there are no methods %v", left)
	}
}

// Every namespace says what it is, and help tells of each argument.
func TestHelp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, m := range w.api.Methods() {
		if m.Kind == muxrpc.Group {
			continue
		}
		folder, name, ok := strings.Cut(m.Name, ".")
		if !ok {
			folder, name = "", m.Name
		} else if !slices.ContainsFunc(groups, func(g [2]string) bool { return g[0] == folder }) {
			t.Errorf("help does not say what %s is", folder)
		}
		var help struct {
			Commands map[string]struct {
				Args map[string]struct{ Type, Description string }
			}
		}
		w.check(json.Unmarshal([]byte(w.call(strings.TrimPrefix(folder+".help", "."))), &help))
		for _, a := range m.Args {
			for _, each := range append([]muxrpc.Arg{a}, a.Options...) {
				if told := help.Commands[name].Args[each.Name]; told.Description != each.Doc && len(a.Options) == 0 {
					t.Errorf("%s: help tells of %s: %q", m.Name, each.Name, told.Description)
				}
			}
		}
	}
}
