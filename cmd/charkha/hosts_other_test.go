//go:build !linux

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func hosts(m *testing.M) testscript.TestingM { return m }
