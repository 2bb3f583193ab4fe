//go:build interop && unix

package interop

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"charkha/identity"
	"charkha/internal/vectors"
)

// each runs a scenario against each JS stack, over EBT, and where it says so over history streams, too.
func each(t *testing.T, history bool, do func(t *testing.T, peer Config)) {
	for _, c := range []struct {
		name        string
		script      string
		historyOnly bool
	}{
		{"ssb-server", Server, false},
		{"ssb-db2", DB2, false},
		{"ssb-server without EBT", Server, true},
		{"ssb-db2 without EBT", DB2, true},
	} {
		if c.historyOnly && !history {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			do(t, Config{Script: c.script, NetworkKey: networkKey(t), HistoryOnly: c.historyOnly})
		})
	}
}

// Each side follows the other and both publish: both end with the same bytes, whoever dials; and what is published then is on
// the other side within a second.
func TestBothWays(t *testing.T) {
	t.Parallel()
	each(t, true, func(t *testing.T, c Config) {
		for _, dial := range []string{"charkha dials", "charkha is dialled"} {
			t.Run(dial, func(t *testing.T) {
				count := 1000
				if c.HistoryOnly {
					count = 200
				}
				p, n := Start(t, c), startNode(t, c.NetworkKey)
				n.follow(p.ID)
				p.Follow(n.ID)
				n.publishMany(count, 1)
				theirs := p.PublishMany(count, 1)
				ours := n.latest(n.ID)
				if dial == "charkha dials" {
					n.connect(p.Address)
				} else {
					p.Connect(n.Address)
				}
				n.same(p, n.ID, ours)
				n.same(p, p.ID, theirs)

				// live
				for i := range 3 {
					began := time.Now()
					n.publish(map[string]any{"type": "post", "text": fmt.Sprint("live ", i)})
					ours++
					p.WaitFeed(n.ID, ours, time.Minute)
					there := time.Since(began)
					began = time.Now()
					p.Publish(map[string]any{"type": "post", "text": fmt.Sprint("live ", i)})
					theirs++
					n.wait(p.ID, theirs)
					t.Logf("a published message was there after %v, back after %v", there, time.Since(began))
				}
				n.same(p, n.ID, ours)
				n.same(p, p.ID, theirs)
			})
		}
	})
}

// On a network whose messages are signed with a key, they are exchanged; a peer without that key takes none of ours, nor we its.
func TestHMACNetwork(t *testing.T) {
	t.Parallel()
	network, key := networkKey(t), [32]byte{7, 7, 7}
	p := Start(t, Config{Script: Server, NetworkKey: network, HMACKey: &key})
	n := startNode(t, network, "--hmac-key", base64.StdEncoding.EncodeToString(key[:]))
	n.follow(p.ID)
	p.Follow(n.ID)
	n.publishMany(50, 1)
	theirs := p.PublishMany(50, 1)
	n.connect(p.Address)
	n.same(p, n.ID, n.latest(n.ID))
	n.same(p, p.ID, theirs)

	other := Start(t, Config{Script: Server, NetworkKey: network})
	n.follow(other.ID)
	other.Follow(n.ID)
	n.connect(other.Address)
	n.logs("invalid signature")
	if got := n.latest(other.ID); got != 0 {
		t.Errorf("%d messages of another network were taken", got)
	}
	if got := other.Latest(n.ID); got != 0 {
		t.Errorf("another network took %d messages", got)
	}
}

// Messages that were published while the other side was away arrive after it came back.
func TestRestarts(t *testing.T) {
	t.Parallel()
	each(t, false, func(t *testing.T, c Config) {
		p := Start(t, c)
		n := startNode(t, c.NetworkKey, "--connect", p.Address.String())
		n.follow(p.ID)
		p.Follow(n.ID)
		n.publishMany(50, 1)
		theirs := p.PublishMany(50, 1)
		ours := n.latest(n.ID)
		n.same(p, n.ID, ours)
		n.same(p, p.ID, theirs)

		n.stop()
		theirs = p.PublishMany(20, 2)
		n.restart() // it dials
		n.same(p, p.ID, theirs)

		p.Close()
		n.publishMany(20, 3)
		ours = n.latest(n.ID)
		p = p.Restart() // it is dialled again
		n.same(p, n.ID, ours)
		theirs = p.PublishMany(5, 4)
		n.same(p, p.ID, theirs)

		p.Kill()
		n.publishMany(5, 5)
		ours = n.latest(n.ID)
		p = p.Restart()
		n.same(p, n.ID, ours)
	})
}

// Charkha carries a third author's feed between two peers who never meet.
func TestCarriesBetweenPeers(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	a := Start(t, Config{Script: Server, NetworkKey: network})
	b := Start(t, Config{Script: DB2, NetworkKey: network})
	n := startNode(t, network)
	n.follow(a.ID)
	n.follow(b.ID)
	b.Follow(a.ID)
	a.Follow(n.ID)
	ofA := a.PublishMany(100, 1)
	n.connect(a.Address)
	n.wait(a.ID, ofA)
	n.connect(b.Address)
	n.same(b, a.ID, ofA)
	n.same(a, a.ID, ofA)
	a.Publish(map[string]any{"type": "post", "text": "one more"})
	n.same(b, a.ID, ofA+1)
	// The other way, where a knows b only through us.
	b.Follow(n.ID)
	ofB := b.PublishMany(30, 2)
	a.Follow(b.ID)
	n.same(a, b.ID, ofB)
}

// The whole set of fixtures, imported on one side, arrives on the other.
func TestFixturesArriveWhole(t *testing.T) {
	t.Parallel()
	var values []json.RawMessage
	heads := map[identity.ID]int64{}
	vectors.Lines(t, "feeds-fixtures", "messages.jsonl.gz", func(_ int, line []byte) {
		var kvt struct{ Value json.RawMessage }
		if err := json.Unmarshal(line, &kvt); err != nil {
			t.Fatal(err)
		}
		var v struct {
			Author   identity.ID
			Sequence int64
		}
		if err := json.Unmarshal(kvt.Value, &v); err != nil {
			t.Fatal(err)
		}
		values = append(values, kvt.Value)
		heads[v.Author] = v.Sequence
	})
	file := vectors.Dir(t, "feeds-fixtures") + "/messages.jsonl.gz"
	each(t, false, func(t *testing.T, c Config) {
		t.Run("from charkha", func(t *testing.T) {
			p, n := Start(t, c), startNode(t, c.NetworkKey)
			out, err := n.cli("import", file)
			if err != nil || !strings.Contains(out, fmt.Sprintf("stored %d\n", len(values))) {
				t.Fatalf("import: %v\n%s", err, out)
			}
			for id := range heads {
				n.follow(id)
				p.Follow(id)
			}
			p.Follow(n.ID)
			n.connect(p.Address)
			for id, seq := range heads {
				n.same(p, id, seq)
			}
		})
		t.Run("to charkha", func(t *testing.T) {
			p, n := Start(t, c), startNode(t, c.NetworkKey)
			for i, why := range p.AddRaw(values) {
				if why != "" {
					t.Fatalf("the peer refuses line %d: %s", i+1, why)
				}
			}
			for id := range heads {
				n.follow(id)
				p.Follow(id)
			}
			n.connect(p.Address)
			for id, seq := range heads {
				n.same(p, id, seq)
			}
		})
	})
}

// A hostile peer sends a corrupted, a forked and an out-of-order message: each is refused with the reason, and an honest peer
// is served as before.
func TestHostilePeer(t *testing.T) {
	t.Parallel()
	for _, history := range []bool{false, true} {
		t.Run(map[bool]string{false: "EBT", true: "history"}[history], func(t *testing.T) {
			t.Parallel()
			network := networkKey(t)
			honest := Start(t, Config{Script: DB2, NetworkKey: network})
			hostile := Start(t, Config{Script: Hostile, NetworkKey: network, HistoryOnly: history})
			// Victims whose feeds the hostile peer has: one peer writes them, and is never met.
			writers := map[string]*Peer{}
			feeds := map[string][]json.RawMessage{}
			for i, name := range []string{"corrupted", "forked", "swapped"} {
				w := Start(t, Config{Script: DB2, NetworkKey: network, Seed: &[32]byte{byte(i + 1), 99}})
				w.PublishMany(5, i)
				writers[name] = w
				for _, m := range w.Feed(w.ID) {
					feeds[name] = append(feeds[name], m.Value)
				}
			}
			// The same key writes another feed elsewhere.
			other := Start(t, Config{Script: DB2, NetworkKey: network, Seed: &[32]byte{2, 99}})
			other.PublishMany(5, 77)
			var fork []json.RawMessage
			for _, m := range other.Feed(other.ID) {
				fork = append(fork, m.Value)
			}

			n := startNode(t, network)
			n.follow(honest.ID)
			honest.Follow(n.ID)
			for _, w := range writers {
				n.follow(w.ID)
			}
			n.connect(honest.Address)
			ofHonest := honest.PublishMany(50, 9)
			n.wait(honest.ID, ofHonest)

			third := len(feeds["corrupted"]) / 2
			corrupted := append([]json.RawMessage(nil), feeds["corrupted"]...)
			corrupted[third] = json.RawMessage(strings.Replace(string(corrupted[third]), `"timestamp":1`, `"timestamp":2`, 1))
			hostile.Offer(writers["corrupted"].ID, corrupted)
			swapped := append([]json.RawMessage(nil), feeds["swapped"]...)
			swapped[1], swapped[2] = swapped[2], swapped[1]
			hostile.Offer(writers["swapped"].ID, swapped)
			hostile.Offer(writers["forked"].ID, append(append([]json.RawMessage(nil), feeds["forked"]...), fork...))
			n.connect(hostile.Address)

			// What was whole before the damage is taken, the rest is not; what only came in another order is put in order.
			n.wait(writers["corrupted"].ID, int64(third))
			n.wait(writers["forked"].ID, 1)
			if !history {
				n.wait(writers["swapped"].ID, int64(len(swapped)))
			} else {
				n.wait(writers["swapped"].ID, 1)
			}
			// and meanwhile, with the honest one, both ways
			for i := range 5 {
				honest.Publish(map[string]any{"type": "post", "text": fmt.Sprint("still here ", i)})
				n.publish(map[string]any{"type": "post", "text": fmt.Sprint("still here ", i)})
			}
			n.same(honest, honest.ID, ofHonest+5)
			n.same(honest, n.ID, n.latest(n.ID))

			if got := n.latest(writers["corrupted"].ID); got != int64(third) {
				t.Errorf("the corrupted feed was taken up to %d, want %d", got, third)
			}
			var status struct {
				Forks []struct{ Feed identity.ID }
			}
			n.call(&status, "charkha.status")
			if len(status.Forks) != 1 || status.Forks[0].Feed != writers["forked"].ID {
				t.Errorf("forks: %+v", status.Forks)
			}
			log := n.stderr.String()
			for _, reason := range []string{"invalid signature", "forked"} {
				if !strings.Contains(log, reason) {
					t.Errorf("the log does not say %q", reason)
				}
			}
			out, err := n.cli("status")
			if err != nil || !strings.Contains(out, "FORKED") {
				t.Errorf("status: %v\n%s", err, out)
			}
		})
	}
}

// A key that was restored from a backup gets its feed back from a peer before it may publish, and goes on where it was.
func TestRestoredKeyDoesNotFork(t *testing.T) {
	t.Parallel()
	each(t, true, func(t *testing.T, c Config) {
		p, n := Start(t, c), startNode(t, c.NetworkKey)
		n.follow(p.ID)
		p.Follow(n.ID)
		n.publishMany(20, 1)
		ours := n.latest(n.ID)
		n.connect(p.Address)
		n.same(p, n.ID, ours)
		n.stop()

		restored := startRestored(t, n)
		if err := restored.try(nil, "publish", map[string]string{"type": "post", "text": "too early"}); err == nil {
			t.Fatal("published before the feed was fetched")
		} else if !strings.Contains(err.Error(), "--new-feed") {
			t.Errorf("refused without the remedy: %v", err)
		}
		restored.connect(p.Address)
		restored.wait(n.ID, ours)
		var confirmed struct{ Own struct{ Confirmed bool } }
		for until := time.Now().Add(time.Minute); !confirmed.Own.Confirmed && time.Now().Before(until); {
			restored.call(&confirmed, "charkha.status")
		}
		restored.publish(map[string]string{"type": "post", "text": "I am back"})
		restored.same(p, n.ID, ours+1)
	})
}

// startRestored starts a node with another's key and nothing else.
func startRestored(t *testing.T, n *Node) *Node {
	t.Helper()
	r := newNode(t, n.args...)
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	copyFile(t, n.dir+"/secret", r.dir+"/secret")
	r.start("net:127.0.0.1:0")
	return r
}
