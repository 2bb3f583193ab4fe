//go:build interop && unix

package interop

import (
	"context"
	"encoding/json"
	"testing"

	"charkha/identity"
	"charkha/muxrpc"
	"charkha/node"
)

// A node and ssb-server give each other single messages of feeds that neither fetches, whoever of them dialled.
func TestOutOfOrder(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	for _, who := range []string{"the node dials", "ssb-server dials"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, network)
			p := Start(t, Config{Script: Server, NetworkKey: network, Apps: true})
			theirs := p.Publish(map[string]string{"type": "post", "text": "theirs"})
			ours := n.publish(map[string]string{"type": "post", "text": "ours"})
			if who == "the node dials" {
				n.connect(p.Address)
			} else {
				p.Connect(n.Address)
			}
			p.WaitPeer(n.ID, true)

			type answer struct {
				Key   identity.MsgID
				Value struct{ Content struct{ Text string } }
			}
			var got answer
			n.call(&got, "ooo.get", theirs)
			if got.Key != theirs || got.Value.Content.Text != "theirs" {
				t.Errorf("ooo.get of theirs: %+v", got)
			}
			got = answer{}
			n.call(&got, "get", map[string]any{"id": theirs, "ooo": true, "meta": true})
			if got.Key != theirs || got.Value.Content.Text != "theirs" {
				t.Errorf("get of theirs: %+v", got)
			}
			if have := n.latest(p.ID); have != 0 {
				t.Errorf("%d messages of theirs are kept", have)
			}
			if who == "the node dials" {
				return // ssb-ooo asks only those whom it dialled, unless they opened a stream
			}
			sock, err := node.DialLocal(t.Context(), p.config.Dir)
			if err != nil {
				t.Fatal(err)
			}
			conn := muxrpc.New(sock, muxrpc.Options{})
			done := make(chan struct{})
			go func() { defer close(done); _ = conn.Run(context.WithoutCancel(t.Context())) }() // ends with the connection
			t.Cleanup(func() { conn.Close(); <-done })
			raw, err := conn.Async(t.Context(), "ooo.get", ours)
			if err != nil {
				t.Fatal(err)
			}
			got = answer{}
			if err := json.Unmarshal(raw, &got); err != nil || got.Value.Content.Text != "ours" {
				t.Errorf("ssb-server's ooo.get of ours: %s, %v", raw, err)
			}
		})
	}
}
