//go:build interop && unix && !linux

package interop

import "testing"

func runTests(m *testing.M) int { return m.Run() }
