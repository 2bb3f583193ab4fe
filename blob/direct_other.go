//go:build !linux

package blob

import (
	"errors"
	"os"
)

// openDirect: elsewhere all goes through the page cache.
func openDirect(string) (*os.File, error) { return nil, errors.ErrUnsupported }
