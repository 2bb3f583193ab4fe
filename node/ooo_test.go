package node

import (
	"encoding/json"
	"strings"
	"testing"

	"charkha/identity"
)

// Single messages of feeds that are not fetched come from the peers that are connected, whoever dialled, and from nobody else.
func TestSingleMessagesFromPeers(t *testing.T) {
	t.Parallel()
	type answer struct {
		Key   identity.MsgID
		Value struct{ Content struct{ Text string } }
	}
	a, _ := begin(t, Config{Dir: t.TempDir(), Listen: []string{listen}, NewFeed: true})
	b, _ := begin(t, Config{Dir: t.TempDir(), Listen: []string{listen}, NewFeed: true})
	nodes := []*Node{a, b}
	var posted [2]answer
	for i, n := range nodes {
		raw, err := local(t, n).Async(t.Context(), "publish", map[string]string{"type": "post", "text": n.ID().String()})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &posted[i]); err != nil {
			t.Fatal(err)
		}
	}
	ask := map[string]any{"id": posted[1].Key, "timeout": 10}
	if _, err := local(t, a).Async(t.Context(), "ooo.get", ask); err == nil || !strings.Contains(err.Error(), "took more than timeout:10") {
		t.Errorf("alone: %v", err)
	}
	if _, err := local(t, b).Async(t.Context(), "conn.connect", a.Addresses()[0].String()); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{1, 0} { // when the one who dialled has an answer, the other knows of him
		n, other := nodes[i], posted[1-i]
		for range 2 { // it is not kept
			var got answer
			raw, err := local(t, n).Async(t.Context(), "ooo.get", other.Key)
			if err != nil || json.Unmarshal(raw, &got) != nil || got != other {
				t.Errorf("node %d gets %s, %v; want %+v", i, raw, err, other)
			}
		}
	}
}
