package api

import (
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
