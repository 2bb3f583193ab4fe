//go:build interop && unix

package interop

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"charkha/identity"
	"charkha/invite"
	"charkha/muxrpc"
	"charkha/replicate/shs"
)

// dial makes a muxrpc connection with a peer as somebody, until the test ends.
func dial(t *testing.T, network [32]byte, key identity.KeyPair, addr identity.Address, methods ...muxrpc.Method) *muxrpc.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	socket, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.HostPort())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := shs.Client(ctx, socket, shs.Config{Key: key, NetworkKey: network}, addr.Key)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, conn, methods...)
}

// serve speaks muxrpc over a connection until the test ends. The other side may call the methods that are for strangers.
func serve(t *testing.T, conn *shs.Conn, methods ...muxrpc.Method) *muxrpc.Conn {
	t.Helper()
	reg, err := muxrpc.NewRegistry(methods)
	if err != nil {
		t.Fatal(err)
	}
	c := muxrpc.New(conn, muxrpc.Options{Registry: reg, Anonymous: true, Peer: conn.Remote()})
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(context.Background()) }()
	t.Cleanup(func() { c.Close(); <-done })
	return c
}

// use is what a client does with a pub's invite.
func use(t *testing.T, network [32]byte, code string, feed identity.ID) error {
	t.Helper()
	i, err := invite.Parse(code)
	if err != nil {
		t.Fatal(err)
	}
	if i.Kind != invite.Pub {
		t.Fatalf("%s is an invite of the kind %s", i, i.Kind)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = dial(t, network, i.Key(), i.Address).Async(ctx, "invite.use", map[string]any{"feed": feed})
	return err
}

func TestInvitesOfSSBServer(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	pub := Start(t, Config{Script: Server, NetworkKey: network, Invites: true})
	var code string
	pub.Ask(&code, "createInvite", 2)
	// The pub follows whoever has the code.
	us := identity.FromSeed([32]byte{1}).ID()
	if err := use(t, network, "  \""+code+"\"\n", us); err != nil {
		t.Fatal(err)
	}
	follows := func(id identity.ID) bool {
		for _, m := range pub.Feed(pub.ID) {
			var v struct {
				Content struct {
					Type, Contact string
					Following     bool
				}
			}
			if err := json.Unmarshal(m.Value, &v); err != nil {
				t.Fatal(err)
			}
			if v.Content.Type == "contact" && v.Content.Contact == id.String() && v.Content.Following {
				return true
			}
		}
		return false
	}
	if !follows(us) {
		t.Error("the pub does not follow us")
	}
	refused := func(what, code string, feed any, words, means string) {
		t.Helper()
		i, err := invite.Parse(code)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err = dial(t, network, i.Key(), i.Address).Async(ctx, "invite.use", feed)
		var remote *muxrpc.RemoteError
		if !errors.As(err, &remote) || !strings.Contains(remote.Message, words) || invite.Explain(remote.Message) == remote.Message || !strings.Contains(invite.Explain(remote.Message), means) {
			t.Errorf("%s: %v, that is, %s; want %q, %q", what, err, invite.Explain(err.Error()), words, means)
		}
	}
	as := func(id identity.ID) any { return map[string]any{"feed": id} }
	refused("the same feed again", code, as(us), invite.AlreadyFollowing, "follows you already")
	refused("no feed", code, map[string]any{}, "feed to follow is missing", "which feed")
	// That did not count; the second use does, and is the last.
	them := identity.FromSeed([32]byte{2}).ID()
	if err := use(t, network, code, them); err != nil || !follows(them) {
		t.Errorf("second use: %v", err)
	}
	refused("used up", code, as(identity.FromSeed([32]byte{3}).ID()), "not in list of allowed methods", "or it was used up")
	unknown := code[:strings.IndexByte(code, '~')+1] + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	refused("unknown", unknown, as(us), "not in list of allowed methods", "does not know this invite")

	// A pub without invites, and somebody who is no pub.
	other := Start(t, Config{Script: Server, NetworkKey: network})
	refused("no plugin", other.Address.String()+":AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", as(us),
		"not in list of allowed methods", "does not know this invite")
	room := Start(t, Config{Script: Room, NetworkKey: network})
	var open string
	room.Ask(&open, "invite")
	i, err := invite.Parse(open)
	if err != nil || i.Kind != invite.Room || i.Address.Key != room.ID {
		t.Errorf("%s is %s, %v", open, i, err)
	}
}
