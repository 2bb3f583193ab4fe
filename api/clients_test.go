package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"charkha/identity"
)

// Tests of what programs from npm call in ways of their own; interop/README.md lists those that were tried.

// npm ssb-cli sends {} where its user gave nothing.
func TestAddressOfNoScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.api.Addresses = func(scope string) []identity.Address {
		if scope != "" {
			return nil
		}
		return []identity.Address{{Host: "::1", Port: 8008, Key: w.api.Key.ID()}}
	}
	if got := w.call("address", map[string]any{}); got != w.call("address") || got == "null" || w.call("address", "public") != "null" {
		t.Errorf("address {}: %s", got)
	}
}

// npm patchcore lists channels from all references that begin with "#".
func TestBacklinksOfNoSingleDest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	publish := func(content map[string]any) string {
		var m struct{ Key string }
		w.check(json.Unmarshal([]byte(w.call("publish", content)), &m))
		return m.Key
	}
	one := publish(map[string]any{"type": "post", "text": "one", "channel": "Spinning", "mentions": []any{map[string]any{"link": "#cotton"}}})
	two := publish(map[string]any{"type": "post", "text": "two", "channel": "spinning", "root": one})
	three := publish(map[string]any{"type": "post", "text": "three", "channel": "cotton", "recps": []any{w.api.Key.ID()}})
	publish(map[string]any{"type": "note"})

	rows := func(query string) (all []string) {
		for _, row := range w.all("backlinks.read", map[string]any{"query": json.RawMessage(query)}) {
			var r struct{ Key, Dest string }
			w.check(json.Unmarshal([]byte(row), &r))
			all = append(all, r.Dest+" "+r.Key)
		}
		return all
	}
	me := w.api.Key.ID().String()
	spins := []string{"#spinning " + one, "#cotton " + one, "#spinning " + two, one + " " + two, "#cotton " + three, me + " " + three}
	if got := rows(`[]`); !slices.Equal(got, spins) {
		t.Errorf("all references: %q, want %q", got, spins)
	}
	tags := slices.DeleteFunc(slices.Clone(spins), func(s string) bool { return s[0] != '#' })
	if got := rows(`[{"$filter":{"dest":{"$prefix":"#"}}}]`); !slices.Equal(got, tags) {
		t.Errorf("hashtags: %q, want %q", got, tags)
	}
	if got := w.all("backlinks.read", map[string]any{"query": json.RawMessage(
		`[{"$filter":{"dest":{"$prefix":"#"}}},{"$reduce":{"id":"dest","count":{"$count":true}}}]`)}); !slices.Equal(got,
		[]string{`{"id":"#cotton","count":2}`, `{"id":"#spinning","count":2}`}) {
		t.Errorf("channels: %s", got)
	}
	var four string
	live := w.since("backlinks.read", map[string]any{"old": false, "live": true, "query": json.RawMessage(`[{"$filter":{"dest":{"$prefix":"#"}}}]`)},
		func() string {
			return fmt.Sprintf(`"key":%q`, publish(map[string]any{"type": "post", "text": "tick", "channel": "tick"}))
		},
		func() { four = publish(map[string]any{"type": "post", "text": "four", "channel": "new", "root": one}) })
	if len(live) != 1 || !strings.Contains(live[0], four) || !strings.Contains(live[0], `"dest":"#new"`) {
		t.Errorf("live: %s", live)
	}
}
