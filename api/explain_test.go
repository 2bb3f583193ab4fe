package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"charkha/identity"
	"charkha/replicate"
)

// judged is what a Why with these claims says, on a node that holds seq messages of the feed and has some peers.
func judged(w *world, feed identity.ID, head int64, connected int, claims ...replicate.Claim) Why {
	y := Why{Feed: feed, Wanted: true, Head: head}
	for _, c := range claims {
		y.Claims = append(y.Claims, FeedClaim{Claim: c})
		y.Most = max(y.Most, c.Sequence)
	}
	y.Silent = connected - len(claims)
	y.judge(w.api, connected, connected)
	return y
}

// Most verdicts need real peers, see the situations that cmd/charkha tests; here are all combinations of what peers say.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	feed, one, two := identity.ID{7}, identity.ID{1}, identity.ID{2}
	for _, c := range []struct {
		name      string
		head      int64
		connected int
		claims    []replicate.Claim
		want      Verdict
		text      string
	}{
		{"nobody connected", 3, 0, nil, NoPeers, "no peer is connected"},
		{"the peers say nothing", 3, 2, nil, Unknown, "none of the 2 connected peers says what it has; here is 3 messages"},
		{"the peer says nothing", 0, 1, nil, Unknown, "the peer that is connected says nothing"},
		{"they have none", 0, 2, []replicate.Claim{{Peer: one}, {Peer: two, Sequence: -1}}, NobodyHas, "none of the 2 connected peers has anything of it"},
		{"one has more", 3, 1, []replicate.Claim{{Peer: one, Sequence: 5}}, Arriving, one.String() + " says to have 2 messages more, and was asked"},
		{"two have more, one is slow", 3, 2, []replicate.Claim{{Peer: one, Sequence: 9, Stalled: true}, {Peer: two, Sequence: 5}}, Arriving, two.String()},
		{"both are slow", 3, 2, []replicate.Claim{{Peer: one, Sequence: 9, Stalled: true}, {Peer: two, Sequence: 5, Stalled: true}}, Stalled, "and 1 other say to have 6 messages more"},
		{"what it has is not valid", 3, 1, []replicate.Claim{{Peer: one, Sequence: 4, Refused: true}}, Refused, "1 message more, but what was sent is not valid"},
		{"its author blocks who has it", 3, 1, []replicate.Claim{{Peer: one, Sequence: 4, Blocked: true}}, Withheld, "its author blocks who has it"},
		{"all have the same", 3, 3, []replicate.Claim{{Peer: one, Sequence: 3}, {Peer: two, Sequence: 3}}, Whole, "up to message 3, and 2 connected peers hold the same"},
		{"they have less", 3, 1, []replicate.Claim{{Peer: one, Sequence: 2}}, Whole, "no connected peer is known to hold the same"},
	} {
		if y := judged(w, feed, c.head, c.connected, c.claims...); y.Verdict != c.want || !strings.Contains(y.Text, c.text) {
			t.Errorf("%s: %s: %s; want %s: %s", c.name, y.Verdict, y.Text, c.want, c.text)
		}
	}
	if y := judged(w, w.api.Key.ID(), 3, 1, replicate.Claim{Peer: one, Sequence: 3}); y.Verdict != Own || !strings.Contains(y.Text, "3 messages; 1 connected peer holds it whole") {
		t.Errorf("own: %+v", y)
	}
}

func TestOurClock(t *testing.T) {
	t.Parallel()
	const hour = int64(3600 * 1000)
	for _, c := range []struct {
		skews []int64
		want  string
	}{
		{nil, ""},
		{[]int64{hour, hour}, ""}, // too few
		{[]int64{hour, hour + 3000, hour - 20000}, "3 of 3 peers are 60 min ahead of ours"},
		{[]int64{-50 * hour, 7, -50 * hour, -50 * hour}, "3 of 4 peers are 2 days behind ours"},
		{[]int64{1000, -1000, hour, 30000}, ""},
		{[]int64{hour, 2 * hour, 3 * hour}, ""}, // they do not agree
	} {
		var peers []replicate.Peer
		for _, s := range c.skews {
			peers = append(peers, replicate.Peer{State: replicate.Connected, Pinged: true, Skew: s})
		}
		peers = append(peers, replicate.Peer{State: replicate.Connected}, replicate.Peer{State: replicate.Waiting, Pinged: true, Skew: hour})
		if got := ourClock(peers); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v: %q, want %q", c.skews, got, c.want)
		}
	}
}

func TestAbout(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		61 * time.Second: "61 s", 3*time.Hour - time.Second: "3 hours", 40 * time.Minute: "40 min", 100 * 24 * time.Hour: "100 days",
		20 * 365 * 24 * time.Hour: "20 years",
	} {
		if got := about(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got := w.call("charkha.lan"); !strings.Contains(got, `"problem":"off"`) {
		t.Errorf("lan: %s", got)
	}
	for _, method := range []string{"peers", "rooms"} {
		if got := w.call("charkha." + method); got != "[]" {
			t.Errorf("%s: %s", method, got)
		}
	}
	status := w.open("charkha.watch", "status")
	var st Status
	w.check(json.Unmarshal([]byte(w.recv(status)), &st))
	if st.Messages != 0 || st.ID != w.api.Key.ID() {
		t.Errorf("status: %+v", st)
	}
	held := w.open("charkha.watch", "heldBy", w.post("x").Key)
	if got := w.recv(held); !strings.Contains(got, `"text":"held by 0 peers"`) {
		t.Errorf("held by: %s", got)
	}
	who, _ := w.feed(9)
	why := w.open("charkha.watch", "why", who)
	var y Why
	w.check(json.Unmarshal([]byte(w.recv(why)), &y))
	if y.Verdict != OutOfRange {
		t.Errorf("why: %+v", y)
	}
	w.call("friends.follow", who)
	for y.Verdict == OutOfRange {
		w.check(json.Unmarshal([]byte(w.recv(why)), &y))
	}
	if y.Verdict != NoPeers || len(y.Through) != 1 || y.Through[0].ID != w.api.Key.ID() || y.Hops == nil || *y.Hops != 1 {
		t.Errorf("after following: %+v", y)
	}
	for st.Messages != 2 {
		w.check(json.Unmarshal([]byte(w.recv(status)), &st))
	}
	for _, args := range [][]any{{}, {"watch"}, {"nothing"}, {"heldBy"}, {"why"}, {"why", "x"}, {"heldBy", identity.MsgID{9}}} {
		if _, err := w.open("charkha.watch", args...).Recv(); err == nil {
			t.Errorf("watch%v has an answer", args)
		}
	}
}

func TestInvitesAreRefusedInWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seed := strings.Repeat("A", 43) + "="
	other := strings.TrimSuffix(identity.FromSeed([32]byte{3}).ID().String()[1:], ".ed25519")
	self := strings.TrimSuffix(w.api.Key.ID().String()[1:], ".ed25519")
	for _, method := range []string{"invite.accept", "charkha.acceptInvite"} {
		for code, want := range map[string]string{
			"":         "",
			"nonsense": "not a valid invite",
			"net:127.0.0.1:1~shs:" + self + ":" + seed:  "this node itself",
			"net:127.0.0.1:1~shs:" + other + ":" + seed: "running",
		} {
			if got := w.refused(method, code); !strings.Contains(got, want) {
				t.Errorf("%s %q: %q, want %q", method, code, got, want)
			}
		}
	}
	if got := w.refused("httpInviteClient.claim", fmt.Sprintf("net:127.0.0.1:1~shs:%s:%s", other, seed)); !strings.Contains(got, "not claimed over HTTP") {
		t.Errorf("claim: %s", got)
	}
	if got := w.refused("invite.accept", map[string]string{"invite": "nonsense"}); !strings.Contains(got, "not a valid invite") {
		t.Errorf("as an object: %s", got)
	}
	// An invite may be used once: not for a node that cannot say that it follows the pub.
	w.api.Key = identity.FromSeed([32]byte{2})
	if got := w.refused("invite.accept", "net:127.0.0.1:1~shs:"+other+":"+seed); !strings.Contains(got, "the invite was not used") {
		t.Errorf("unconfirmed: %s", got)
	}
	room := identity.ID{4}
	for _, call := range [][]any{
		{"roomClient.registerAlias", room, "alice"}, {"roomClient.revokeAlias", room, "alice"}, {"charkha.aliases", room},
	} {
		if got := w.refused(call[0].(string), call[1:]...); !strings.Contains(got, "not connected with the room") {
			t.Errorf("%v: %s", call, got)
		}
	}
	for _, call := range [][]any{{"roomClient.registerAlias", room}, {"roomClient.revokeAlias"}, {"charkha.aliases"}, {"roomClient.consumeAliasUri"}} {
		if got := w.refused(call[0].(string), call[1:]...); !strings.Contains(got, "needed") && !strings.Contains(got, "missing") {
			t.Errorf("%v: %s", call, got)
		}
	}
}
