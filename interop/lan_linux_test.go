//go:build interop

package interop

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"charkha/identity"
	"charkha/internal/netns"
	"charkha/lan"
)

// startOn runs a node on a host of its own. It looks for neighbours there, as it does by itself.
func startOn(t *testing.T, network [32]byte, h *netns.Host, listen string) *Node {
	t.Helper()
	n := newNode(t, "--network-key", base64.StdEncoding.EncodeToString(network[:]))
	n.within = h.Do
	n.start(listen)
	return n
}

// config writes the node's config.toml, before it is started.
func (n *Node) config(text string) {
	n.t.Helper()
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "config.toml"), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// lanPeer runs an npm peer that looks for neighbours on a host. Without a host address it listens on loopback only, and announces
// nothing.
func lanPeer(t *testing.T, network [32]byte, script string, h *netns.Host, host string) *Peer {
	t.Helper()
	if script == Server {
		h.DefaultRoute("eth0") // ssb-local sends to 255.255.255.255
	}
	return Start(t, Config{Script: script, NetworkKey: network, LAN: true, Host: host, Port: 8008, Within: h.Do})
}

// All on one network find each other, and each ends with everybody's feed.
func TestNeighboursFindEachOther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		addrs  []string // of host %d
		listen string
		js     bool // npm peers announce themselves by IPv4 only
	}{
		{"ipv4", []string{"10.1.1.%d/24"}, "", true},
		{"ipv6 link-local", []string{"fe80::%d/64"}, "net::8008", false},
		{"ipv6", []string{"fd77::%d/64", "fe80::%d/64"}, "net::8008", false},
		{"both", []string{"10.1.2.%d/24", "fd78::%d/64", "fe80::%d/64"}, "net::8008", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			network, b := networkKey(t), netns.NewBridge(t)
			var all []anyone
			var nodes []*Node
			host := func() (h *netns.Host, addr string) {
				var addrs []string
				for _, a := range c.addrs {
					addrs = append(addrs, fmt.Sprintf(a, len(all)+1))
				}
				addr, _, _ = strings.Cut(addrs[0], "/")
				return b.Host("eth0", addrs...), addr
			}
			if c.js {
				for _, script := range []string{Server, DB2} {
					h, addr := host()
					all = append(all, lanPeer(t, network, script, h, addr))
				}
			}
			for len(all) < 4 {
				h, _ := host()
				n := startOn(t, network, h, c.listen)
				all, nodes = append(all, n), append(nodes, n)
			}
			up := time.Now()
			for _, n := range nodes {
				var others []identity.ID
				for _, a := range all {
					if a != anyone(n) {
						others = append(others, a.id())
					}
				}
				out := n.connected(others...)
				t.Logf("%s was connected with all %d within %v of the last one's start; dialled by it: %v", n.name(), len(others), time.Since(up), out)
			}
			up = time.Now()
			befriend(t, all...)
			t.Logf("each had everybody's feed within %v of the first follow", time.Since(up))
		})
	}
}

// Each side finds the other by itself: here only one of them can be found.
func TestNeighboursAreFoundInBothDirections(t *testing.T) {
	t.Parallel()
	for _, script := range []string{Server, DB2} {
		t.Run(map[string]string{Server: "ssb-local", DB2: "ssb-lan"}[script], func(t *testing.T) {
			t.Parallel()
			t.Run("charkha finds it", func(t *testing.T) {
				network, b := networkKey(t), netns.NewBridge(t)
				js := lanPeer(t, network, script, b.Host("eth0", "10.1.3.1/24"), "10.1.3.1")
				up := time.Now()
				n := newNode(t, "--network-key", base64.StdEncoding.EncodeToString(network[:]))
				n.config("listen = []")
				n.within = b.Host("eth0", "10.1.3.2/24").Do
				n.start("")
				if out := n.connected(js.ID); !out[js.ID] {
					t.Error("the peer dialled us")
				}
				t.Logf("found within %v", time.Since(up))
				befriend(t, n, js)
			})
			t.Run("it finds charkha", func(t *testing.T) {
				network, b := networkKey(t), netns.NewBridge(t)
				n := startOn(t, network, b.Host("eth0", "10.1.4.1/24"), "")
				up := time.Now()
				js := lanPeer(t, network, script, b.Host("eth0", "10.1.4.2/24"), "")
				js.Follow(n.ID) // else ssb-conn does not dial
				if out := n.connected(js.ID); out[js.ID] {
					t.Error("we dialled the peer")
				}
				t.Logf("found within %v", time.Since(up))
				befriend(t, n, js)
			})
		})
	}
}

// offline waits until a node has noticed that it is.
func offline(n *Node) {
	n.t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) { // the other side is a process
		var r lan.Report
		n.call(&r, "charkha.lan")
		if r.Problem != "" {
			return
		}
		if time.Since(began) > foundBound {
			n.t.Fatalf("without an interface, charkha says %+v", r)
		}
	}
}

// Who loses his network and comes back, at the same address or another, has everybody's news again, and everybody his.
func TestNeighboursThatComeBackAreFoundAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		back [2]string // interface and address when it is back
	}{
		{"cable", [2]string{"eth0", "10.1.5.1/24"}},
		{"another network", [2]string{"wlan0", "10.1.5.11/24"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			network, b := networkKey(t), netns.NewBridge(t)
			h := b.Host("eth0", "10.1.5.1/24")
			moves := startOn(t, network, h, "")
			stays := startOn(t, network, b.Host("eth0", "10.1.5.2/24"), "")
			js := lanPeer(t, network, DB2, b.Host("eth0", "10.1.5.3/24"), "10.1.5.3")
			moves.connected(stays.ID, js.ID)
			befriend(t, moves, stays, js)
			for round := range 2 {
				h.Unplug("eth0")
				moves.says("alone")
				stays.says("it is gone")
				offline(moves)
				h.Plug(c.back[0], c.back[1])
				back := time.Now()
				stays.waits(moves.ID, moves.has(moves.ID))
				moves.waits(stays.ID, stays.has(stays.ID))
				t.Logf("charkha has the news within %v", time.Since(back))
				everybodysFeeds(t, moves, stays, js)
				t.Logf("all have the news within %v", time.Since(back))
				if round == 0 { // and back where it was
					h.Unplug(c.back[0])
					h.Plug("eth0", "10.1.5.1/24")
				}
			}
		})
	}
}
