//go:build interop && unix

package interop

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"charkha/identity"
)

// content is what contact and pub messages say.
type content struct {
	Type      string `json:"type"`
	Contact   string `json:"contact"`
	Following bool   `json:"following"`
	Pub       bool   `json:"pub"`
	Address   struct {
		Host string
		Port int
		Key  string
	} `json:"address"`
}

func contents(t *testing.T, feed []Message) (all []content) {
	t.Helper()
	for _, m := range feed {
		var v struct{ Content json.RawMessage }
		if err := json.Unmarshal(m.Value, &v); err != nil {
			t.Fatal(err)
		}
		var c content
		if v.Content[0] == '"' { // private
			continue
		}
		if err := json.Unmarshal(v.Content, &c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// invited checks what an accepted invite leads to: they follow each other, the node says where the pub is, they are connected, and
// what either says arrives.
func (n *Node) invited(pub *Peer) {
	n.t.Helper()
	if !slices.Contains(contents(n.t, pub.Feed(pub.ID)), content{Type: "contact", Contact: n.ID.String(), Following: true, Pub: true}) {
		n.t.Error("the pub does not follow the node")
	}
	place := content{Type: "pub"}
	place.Address.Host, place.Address.Port, place.Address.Key = pub.Address.Host, pub.Address.Port, pub.ID.String()
	ours := contents(n.t, n.feed(n.ID))
	for _, want := range []content{{Type: "contact", Contact: pub.ID.String(), Following: true}, place} {
		if !slices.Contains(ours, want) {
			n.t.Errorf("the node did not publish %+v, but %+v", want, ours)
		}
	}
	n.connected(pub.ID)
	n.says("thank you")
	pub.says("welcome")
	n.same(pub, n.ID, n.latest(n.ID))
	n.same(pub, pub.ID, pub.Latest(pub.ID))
}

// The invites of npm ssb-invite, in each form that there is, lead to a pub that carries our feed.
func TestAcceptedInvites(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	pub := Start(t, Config{Script: Server, NetworkKey: network, Invites: true})
	var legacy, twice, modern, multi string
	pub.Ask(&multi, "createInvite", 1)
	pub.Ask(&legacy, "createInvite", 1)
	pub.Ask(&twice, "createInvite", 2)
	pub.Ask(&modern, "createInvite", map[string]any{"modern": true})

	t.Run("as JS programs do", func(t *testing.T) {
		n := startNode(t, network)
		var published []json.RawMessage
		n.call(&published, "invite.accept", legacy)
		if len(published) != 2 {
			t.Errorf("published %s", published)
		}
		n.invited(pub)
	})
	t.Run("on the command line, again and again", func(t *testing.T) {
		n := startNode(t, network)
		n.publishMany(50, 1)
		for i, want := range []string{"follows you now", "followed you already", "followed you already"} {
			out, err := n.cli("invite", "accept", " '"+twice+"'\n")
			if err != nil || !strings.Contains(out, want) || !strings.Contains(out, "connected to") {
				t.Errorf("time %d: %v\n%s", i+1, err, out)
			}
		}
		n.invited(pub)
		other := startNode(t, network)
		if out, err := other.cli("invite", "accept", twice); err != nil {
			t.Errorf("the second use, by another: %v\n%s", err, out)
		}
		other.invited(pub)
		n.waits(other.ID, other.latest(other.ID)) // the pub's friends are within our range
	})
	// What ssb-invite calls modern leads to a WebSocket. There is no pub message of it: those have room for host and port alone.
	t.Run("modern", func(t *testing.T) {
		n := startNode(t, network)
		if !strings.HasPrefix(modern, "ws:") {
			t.Fatalf("the modern invite is %s", modern)
		}
		out, err := n.cli("invite", "accept", modern)
		if err != nil || !strings.Contains(out, "follows you now") || !strings.Contains(out, "connected to ws:") {
			t.Errorf("%v\n%s", err, out)
		}
		if ours := contents(t, n.feed(n.ID)); len(ours) != 1 || ours[0].Contact != pub.ID.String() || !ours[0].Following {
			t.Errorf("the node published %+v", ours)
		}
		n.connected(pub.ID)
		n.says("thank you")
		n.same(pub, n.ID, n.latest(n.ID))
	})
	t.Run("multiserver", func(t *testing.T) {
		n := startNode(t, network)
		seed := multi[strings.LastIndexByte(multi, '~')+1:]
		if out, err := n.cli("invite", "accept", pub.Address.String()+":"+seed); err != nil || !strings.Contains(out, "follows you now") {
			t.Errorf("%v\n%s", err, out)
		}
		n.invited(pub)
	})
}

// Each refusal is told in words that say what to do, and leaves nothing behind.
func TestRefusedInvites(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	pub := Start(t, Config{Script: Server, NetworkKey: network, Invites: true})
	var used, good string
	pub.Ask(&used, "createInvite", 1)
	pub.Ask(&good, "createInvite", 1)
	if err := use(t, network, used, identity.FromSeed([32]byte{1}).ID()); err != nil {
		t.Fatal(err)
	}
	plain := Start(t, Config{Script: Server, NetworkKey: network})
	nobody := identity.Address{Proto: "net", Host: "127.0.0.1", Port: 1, Key: pub.ID} // a port that others are not given
	other := nobody
	other.Port = pub.Address.Port
	other.Key = plain.ID
	const seed = ":AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

	n, elsewhere := startNode(t, network), startNode(t, networkKey(t))
	for _, c := range []struct {
		what string
		n    *Node
		code string
		want string
	}{
		{"used up", n, used, "it was used up: ask for a new one"},
		{"unknown", n, pub.Address.String() + seed, "does not know this invite"},
		{"no pub", n, plain.Address.String() + seed, "does not know this invite"},
		{"nobody there", n, nobody.String() + seed, "is the peer running"},
		{"another key", n, other.String() + seed, "its key is not"},
		{"another network", elsewhere, good, "network"},
		{"its own", n, n.Address.String() + seed, "this node itself"},
		{"no secret", n, pub.Address.String(), "without the secret part"},
		{"no invite", n, "hello", "has not the form of one"},
	} {
		before := c.n.latest(c.n.ID)
		out, err := c.n.cli("invite", "accept", c.code)
		t.Logf("%s: %s", c.what, out)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s, want %q", c.what, err, out, c.want)
		}
		if c.n.latest(c.n.ID) != before {
			t.Errorf("%s: something was published", c.what)
		}
		if err := c.n.try(nil, "invite.accept", c.code); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, as JS programs do: %v, want %q", c.what, err, c.want)
		}
	}
	// Someone whom we block gets nothing from us.
	n.call(nil, "publish", map[string]any{"type": "contact", "contact": pub.ID, "following": false, "blocking": true})
	if out, err := n.cli("invite", "accept", good); err == nil || !strings.Contains(out, "is blocked") {
		t.Errorf("a blocked pub: %v\n%s", err, out)
	}
	// After all that, the invite is good.
	last := startNode(t, network)
	if out, err := last.cli("invite", "accept", good); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	last.invited(pub)
}

// The invite of an open room lets the node in.
func TestInviteOfARoom(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	room := Start(t, Config{Script: Room, NetworkKey: network})
	room.Ask(nil, "name", "Attic", "dusty")
	var code string
	room.Ask(&code, "invite")
	n := startNode(t, network)
	out, err := n.cli("invite", "accept", code)
	if err != nil || !strings.Contains(out, "is open to you") || !strings.Contains(out, "connected to") {
		t.Fatalf("%v\n%s", err, out)
	}
	room.Ask(nil, "waitHere", n.ID)
	if n := n.latest(n.ID); n != 0 {
		t.Errorf("%d messages were published", n)
	}
}
