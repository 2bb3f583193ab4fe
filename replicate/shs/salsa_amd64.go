//go:build !purego

package shs

import "golang.org/x/sys/cpu"

var hasXor8 = cpu.X86.HasAVX2

// xor8 writes src XOR eight blocks of Salsa20 to dst, 512 bytes each. state has the words of each block, as before the rounds.
//
//go:noescape
func xor8(dst, src *byte, state *[16][8]uint32)
