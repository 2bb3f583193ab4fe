//go:build !amd64 || purego

package shs

const hasXor8 = false

func xor8(_, _ *byte, _ *[16][8]uint32) { panic("shs: internal error: no xor8") }
