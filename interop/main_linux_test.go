//go:build interop

package interop

import (
	"testing"

	"charkha/internal/netns"
)

// runTests runs the tests where namespaces can be made.
func runTests(m *testing.M) int { return netns.Main(m) }
