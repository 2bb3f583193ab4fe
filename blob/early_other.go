//go:build !linux

package blob

import "os"

func writeEarly(*os.File, int64, int64) {}
