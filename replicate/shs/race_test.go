//go:build race

package shs

const raceEnabled = true
