//go:build !linux

package blob

func fillDisk(string) error { return nil }
