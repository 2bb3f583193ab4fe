//go:build interop && unix

package interop

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"charkha/identity"
)

func networkKey(t *testing.T) (key [32]byte) {
	t.Helper()
	if _, err := rand.Read(key[:]); err != nil {
		t.Fatal(err)
	}
	return key
}

// sameFeed checks that two peers have the same feed of a length, byte by byte, and that each finds all of the other's copy
// good.
func sameFeed(t *testing.T, a, b *Peer, id identity.ID, length int64) {
	t.Helper()
	a.WaitFeed(id, length, time.Minute)
	b.WaitFeed(id, length, time.Minute)
	left, right := a.Feed(id), b.Feed(id)
	if int64(len(left)) != length || int64(len(right)) != length {
		t.Fatalf("feed %s has %d and %d messages, want %d", id.Short(), len(left), len(right), length)
	}
	var values []json.RawMessage
	for i := range left {
		if left[i].Key != right[i].Key || !bytes.Equal(left[i].Value, right[i].Value) {
			t.Fatalf("feed %s differs at %d:\n%s %s\n%s %s", id.Short(), i+1, left[i].Key, left[i].Value, right[i].Key, right[i].Value)
		}
		values = append(values, left[i].Value)
	}
	for _, p := range []*Peer{a, b} {
		for i, key := range p.Verify(values) {
			if key != left[i].Key {
				t.Errorf("feed %s, message %d: id %s, want %s", id.Short(), i+1, key, left[i].Key)
			}
		}
	}
}

// The peers among themselves: what is wrong here is not Charkha.
func TestPeersExchangeFeeds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		dials, other string
	}{
		{"ssb-server dials ssb-db2", Server, DB2},
		{"ssb-db2 dials ssb-server", DB2, Server},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			network := networkKey(t)
			a := Start(t, Config{Script: c.dials, NetworkKey: network})
			b := Start(t, Config{Script: c.other, NetworkKey: network, Seed: &[32]byte{7}})
			if want := identity.FromSeed([32]byte{7}).ID(); b.ID != want || b.Address.Key != want {
				t.Errorf("seeded peer is %s at %s, want %s", b.ID, b.Address, want)
			}
			a.Follow(b.ID)
			b.Follow(a.ID)
			ofA, ofB := a.PublishMany(30, 1), b.PublishMany(30, 2)
			a.Connect(b.Address)
			b.WaitPeer(a.ID, true)
			sameFeed(t, a, b, a.ID, ofA)
			sameFeed(t, a, b, b.ID, ofB)

			b.Close()
			a.WaitPeer(b.ID, false)
			ofA = a.PublishMany(5, 3)
			b = b.Restart()
			a.Connect(b.Address)
			sameFeed(t, a, b, a.ID, ofA)
			a.Disconnect(b.ID)
			b.WaitPeer(a.ID, false)
		})
	}
}

func TestHostilePeerIsRefused(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	author := Start(t, Config{Script: Server, NetworkKey: network})
	author.PublishMany(5, 1)
	var values []json.RawMessage
	for _, m := range author.Feed(author.ID) {
		values = append(values, m.Value)
	}
	good := Start(t, Config{Script: Server, NetworkKey: network})
	good.Follow(author.ID)
	bent := bytes.Replace(values[3], []byte(`"signature":"`), []byte(`"signature":"A`), 1)
	liar := Start(t, Config{Script: Hostile, NetworkKey: network})
	liar.Offer(author.ID, []json.RawMessage{values[0], values[1], values[2], bent, values[4]})
	good.Connect(liar.Address)
	good.WaitFeed(author.ID, 3, time.Minute)
	if errs := good.AddRaw([]json.RawMessage{bent, values[3], values[4]}); errs[0] == "" || errs[1] != "" || errs[2] != "" {
		t.Errorf("bent, good, good: %q", errs)
	}
	if n := good.Latest(author.ID); n != 5 {
		t.Errorf("%d messages, want 5", n)
	}
}

func TestPeerErrors(t *testing.T) {
	t.Parallel()
	p := Start(t, Config{Script: Server, NetworkKey: networkKey(t), HistoryOnly: true})
	if err := p.Try(nil, "nonsense"); err == nil || !strings.Contains(err.Error(), "no command") {
		t.Errorf("unknown command: %v", err)
	}
	if err := p.Try(nil, "waitFeed", p.ID, 1, 20); err == nil || !strings.Contains(err.Error(), "not within") {
		t.Errorf("a message that never comes: %v", err)
	}
	var feed []Message
	if p.Ask(&feed, "feed", p.ID); len(feed) != 0 {
		t.Errorf("a new peer has %v", feed)
	}
	key := p.Publish(map[string]any{"type": "post", "text": "hi"})
	if feed := p.Feed(p.ID); len(feed) != 1 || feed[0].Key != key || !slices.Equal(p.Verify([]json.RawMessage{feed[0].Value}), []identity.MsgID{key}) {
		t.Errorf("published %s, the feed is %v", key, feed)
	}
	p.Kill()
	if err := p.Try(nil, "whoami"); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("after the end: %v", err)
	}
}
