//go:build unix

package main

import (
	"io/fs"
	"syscall"
)

// allocated is what a file takes on disk: Badger's files are sparse while they are open.
func allocated(st fs.FileInfo) int64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Blocks * 512
	}
	return st.Size()
}
