package replicate

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
)

// What Peers tells of each peer in ten situations, and in which order.
func TestPeersTellsHowEachStands(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		author := newAuthor(8)
		node := startNode(t, 1, newGraph(append(ids(1, 2), author.id())...), nodeOptions{mem: m})
		friend := startNode(t, 2, newGraph(append(ids(1, 2), author.id())...), nodeOptions{mem: m})
		node.publish(4)
		friend.publish(6)
		friend.hold(author.posts(5)...)
		node.Offer(friend.addr, KindLAN, "beacon")
		pub := newHost(t, m, 10)
		node.Keep(pub.addr)
		node.Offer(pub.addr, KindPub, "operator")
		guest := dialRaw(t, m, testKey(11), node)
		node.Offer(far("nobody", 12), KindPub, "test")
		node.Keep(far("nobody", 13))
		slow := far("slow", 14)
		m.fault(slow.HostPort(), func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		node.Offer(slow, KindLAN, "beacon")
		node.block(node.id, testKey(15).ID(), true)
		node.Offer(far("blocked", 15), KindOther, "test")
		gone := far("gone", 16)
		node.Offer(gone, KindLAN, "beacon")
		pass(30 * time.Second)
		node.Withdraw(gone)
		// More than there are slots for.
		for n := range byte(5) {
			node.Offer(newHost(t, m, 30+n).addr, KindOther, "test")
		}
		e := guest.ebt()
		e.note(author.id(), 9, true)
		pass(25 * time.Second)

		peers := node.Peers()
		if !slices.IsSortedFunc(peers, func(a, b Peer) int {
			if a.State == Connected && b.State != Connected {
				return -1
			}
			if b.State == Connected && a.State != Connected {
				return 1
			}
			return compareIDs(a.ID, b.ID)
		}) {
			t.Error("not in order: connections first")
		}
		now := time.Now()
		for _, c := range []struct {
			name string
			id   identity.ID
			ok   func(p Peer) bool
		}{
			{"a friend on the network", friend.id, func(p Peer) bool {
				return p.State == Connected && p.Outgoing && *p.Address == friend.addr && p.Kind == KindLAN && p.Source == "beacon" && p.Via == "ebt" &&
					p.Received == 11 && p.Sent == 4 && p.BytesIn > 2000 && p.BytesOut > 1000 && p.Missing == 0 && p.Pinged &&
					p.Since.Equal(now.Add(-55*time.Second)) && strings.Contains(p.Why, "connected for 55 s")
			}},
			{"a kept one without EBT", pub.key.ID(), func(p Peer) bool {
				return p.State == Connected && p.Kept && p.Kind == KindPub && p.Via == "history" && !p.Pinged && !p.Room
			}},
			{"who dialled and owes a feed", guest.key.ID(), func(p Peer) bool {
				return p.State == Connected && !p.Outgoing && p.Address == nil && p.Missing == 1 && p.Stalled == 1 && p.Received == 0
			}},
			{"nobody there", testKey(12).ID(), func(p Peer) bool {
				return p.State == Waiting && p.Source == "test" && p.Failures > 1 && p.Until.After(now) && strings.Contains(p.LastError, errNobody.Error()) &&
					strings.Contains(p.Why, fmt.Sprintf("after %d failures: ", p.Failures))
			}},
			{"nobody there, kept", testKey(13).ID(), func(p Peer) bool { return p.Kept && p.Failures > 2 }},
			{"being dialled", slow.Key, func(p Peer) bool {
				return p.State == Dialling && strings.Contains(p.Why, "being dialled for 55 s") && p.Since.Equal(now.Add(-55*time.Second))
			}},
			{"blocked", testKey(15).ID(), func(p Peer) bool { return p.State == Blocked && strings.Contains(p.Why, "is blocked") }},
			{"fell silent", gone.Key, func(p Peer) bool { return p.State == Gone && strings.Contains(p.Why, "not seen for 25 s") }},
		} {
			i := slices.IndexFunc(peers, func(p Peer) bool { return p.ID == c.id })
			if i < 0 {
				t.Errorf("%s: not told", c.name)
			} else if !c.ok(peers[i]) {
				t.Errorf("%s: %+v", c.name, peers[i])
			}
		}
		waiting := 0
		for _, p := range peers {
			if p.State == Waiting && strings.Contains(p.Why, "waits for one of the 3 slots for other peers, all taken") {
				waiting++
			}
		}
		if waiting != 2 {
			t.Errorf("%d wait for a slot", waiting)
		}
		b, err := json.Marshal(peers)
		if err != nil || strings.Contains(string(b), "0001-01-01") {
			t.Errorf("as JSON: %s, %v", b, err)
		}
		for _, p := range peers {
			if p.ID == node.id {
				t.Error("we are a peer of ours")
			}
		}
	})
}

// What is told of a feed: what each peer claims, who was asked, let wait, sent nonsense, may not have it.
func TestFeedTellsWhoClaimsWhat(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		author, unwanted := newAuthor(8), newAuthor(9)
		raws := author.posts(9)
		node := startNode(t, 1, newGraph(author.id()), nodeOptions{mem: m, book: &book{}})
		node.hold(raws[:3]...)
		peers := map[string]*rawEBT{}
		for i, name := range []string{"has less", "has the same", "stalls", "refused", "does not want it", "blocked", "says nothing"} {
			key := testKey(byte(20 + i))
			if name == "blocked" {
				node.block(author.id(), key.ID(), true)
			}
			peers[name] = dialRaw(t, m, key, node).ebt()
		}
		peers["has less"].note(author.id(), 1, true)
		peers["has the same"].note(author.id(), 3, true)
		peers["does not want it"].send(fmt.Appendf(nil, `{"%s":-1}`, author.id()))
		peers["blocked"].note(author.id(), 9, true)
		forged := []byte(strings.Replace(string(raws[3]), "message 3", "massage 3", 1))
		peers["refused"].note(author.id(), 9, true)
		peers["refused"].send(forged)
		peers["stalls"].note(author.id(), 9, true)
		asked := time.Now()
		pass(5 * time.Second)
		f := node.Feed(author.id())
		if f.Feed != author.id() || !f.Wanted || f.Head != 3 {
			t.Errorf("%+v", f)
		}
		claim := func(name string) (c Claim, ok bool) {
			t.Helper()
			for _, c := range node.Feed(author.id()).Claims {
				if c.Peer == peers[name].key.ID() {
					return c, true
				}
			}
			return c, false
		}
		for _, c := range []struct {
			name string
			want Claim
		}{
			{"has less", Claim{Sequence: 3, Sending: true, Sent: 3, Told: 3}}, // it was sent what it lacks
			{"has the same", Claim{Sequence: 3, Sending: true, Sent: 3, Told: 3}},
			{"stalls", Claim{Sequence: 9, Asked: asked, Sending: true, Asking: true, Sent: 9, Told: 3}},
			{"refused", Claim{Sequence: 9, Refused: true, Sending: true, Sent: 9, Told: 3}},
			{"does not want it", Claim{Sequence: -1, Sent: -1, Told: 3}},
			{"blocked", Claim{Blocked: true}},
		} {
			c.want.Peer = peers[c.name].key.ID()
			got, ok := claim(c.name)
			if c.name == "has less" && got.Sequence == 1 {
				got.Sequence = 3 // it says what it has when it has it
			}
			if !ok || got != c.want {
				t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
			}
		}
		if c, ok := claim("says nothing"); ok {
			t.Errorf("who said nothing claims %+v", c)
		}
		pass(10 * time.Second)
		if c, _ := claim("stalls"); !c.Stalled {
			t.Errorf("after 15 s: %+v", c)
		}
		peers["stalls"].send(raws[3:]...)
		if c, _ := claim("stalls"); c.Stalled || node.Feed(author.id()).Head != 9 {
			t.Errorf("when it sent: %+v", c)
		}
		if f := node.Feed(unwanted.id()); f.Wanted || f.Head != 0 || f.Claims == nil || len(f.Claims) != 0 {
			t.Errorf("a feed that nobody knows: %+v", f)
		}
	})
}

// Who holds a message: peers that are connected by what they say, others by what they said, whatever stands in the files.
func TestHolders(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		author := newAuthor(8)
		node := startNode(t, 1, newGraph(author.id()), nodeOptions{mem: m})
		node.hold(author.posts(5)...)
		has := func(key byte, seq int64) *rawEBT {
			e := dialRaw(t, m, testKey(key), node).ebt()
			e.note(author.id(), seq, false)
			return e
		}
		// By their clocks: 10 has all, 11 some, 12 none; 13 left with all, and 14 left with all and is back with some.
		has(10, 5)
		has(11, 3)
		has(12, 0)
		left, back := has(13, 5), has(14, 5)
		left.conn.Close()
		back.conn.Close()
		pass(time.Second)
		has(14, 2)
		pub := newHost(t, m, 15, ebtMethod(map[identity.ID]int64{author.id(): 5}, nil))
		node.Offer(pub.addr, KindPub, "test")
		away := far("away", 13)
		node.Offer(away, KindPub, "test")
		pass(time.Second)

		dir := filepath.Join(node.dir, "ebt")
		name := func(key byte) string {
			return strings.NewReplacer("/", "_", "+", "-").Replace(testKey(key).ID().String()[1:45]) + ".json"
		}
		for file, text := range map[string]string{
			name(40):                    `{`,
			name(41):                    `[]`,
			name(42):                    `null`,
			name(43):                    `{"nobody":9}`,
			name(44):                    fmt.Sprintf(`{"%s":"9"}`, author.id()),
			name(45):                    fmt.Sprintf(`{"%s":1e300}`, author.id()),
			name(46):                    fmt.Sprintf(`{"%s":-1}`, author.id()),
			name(47):                    fmt.Sprintf(`{"%s":{"a":%s}}`, author.id(), strings.Repeat("[", 100000)),
			name(48):                    strings.Repeat("x", 1<<20),
			name(49):                    fmt.Sprintf(`{"%s":9007199254740991}`, author.id()),
			name(1):                     fmt.Sprintf(`{"%s":9}`, author.id()),
			"nobody.json":               fmt.Sprintf(`{"%s":9}`, author.id()),
			name(50) + ".new":           fmt.Sprintf(`{"%s":9}`, author.id()),
			"..json":                    `{}`,
			name(51)[:20] + "\xff.json": fmt.Sprintf(`{"%s":9}`, author.id()),
		} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, name(52)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(dir, name(53)), filepath.Join(dir, name(53))); err != nil {
			t.Log(err)
		}
		for _, c := range []struct {
			seq  int64
			want []Holder
		}{
			{5, []Holder{{testKey(10).ID(), true, false}, {testKey(13).ID(), false, true}, {testKey(15).ID(), true, true}, {testKey(49).ID(), false, false}}},
			{3, []Holder{{testKey(10).ID(), true, false}, {testKey(11).ID(), true, false}, {testKey(13).ID(), false, true}, {testKey(15).ID(), true, true},
				{testKey(49).ID(), false, false}}},
			{2, []Holder{{testKey(10).ID(), true, false}, {testKey(11).ID(), true, false}, {testKey(13).ID(), false, true}, {testKey(14).ID(), true, false},
				{testKey(15).ID(), true, true}, {testKey(49).ID(), false, false}}},
			{6, []Holder{{testKey(49).ID(), false, false}}},
			{1 << 60, nil},
			{0, nil},
			{-1, nil},
		} {
			slices.SortFunc(c.want, func(a, b Holder) int { return compareIDs(a.Peer, b.Peer) })
			if got := node.Holders(t.Context(), author.id(), c.seq); !slices.Equal(got, c.want) {
				t.Errorf("message %d is held by %+v, want %+v", c.seq, got, c.want)
			}
		}
		if got := node.Holders(t.Context(), newAuthor(77).id(), 1); len(got) != 0 {
			t.Errorf("a message of a feed that nobody knows is held by %+v", got)
		}
	})
}

// A peer that shows, when it is asked, something else than the message is no holder; nor is one that shows nothing.
func TestHoldersAreShown(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		author, other := newAuthor(8), newAuthor(9)
		raws, others := author.posts(3), other.posts(3)
		node := startNode(t, 1, newGraph(author.id()), nodeOptions{mem: m, book: &book{}})
		node.hold(raws...)
		shows := func(bodies ...[]byte) muxrpc.Method {
			return muxrpc.Method{Name: "createHistoryStream", Kind: muxrpc.Source, Stream: func(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
				for _, b := range bodies {
					if err := s.SendJSON(b); err != nil {
						return err
					}
				}
				<-ctx.Done()
				return nil
			}}
		}
		for i, method := range []muxrpc.Method{
			shows(raws[2]), shows(others[2]), shows(raws[1]), shows([]byte("7")), shows([]byte(`{"key`)), shows(), {Name: "nothing", Kind: muxrpc.Source,
				Stream: func(context.Context, *muxrpc.Request, *muxrpc.Stream) error { return nil }},
		} {
			if err := newHost(t, m, byte(20+i), method).dial(node); err != nil {
				t.Fatal(err)
			}
		}
		pass(2 * time.Second)
		begun := time.Now()
		got := node.Holders(t.Context(), author.id(), 3)
		if len(got) != 1 || got[0] != (Holder{testKey(20).ID(), true, false}) {
			t.Errorf("%+v", got)
		}
		if took := time.Since(begun); took > askHeldFor+time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
