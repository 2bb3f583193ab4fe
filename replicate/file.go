package replicate

import (
	"errors"
	"os"
	"path/filepath"
)

// replaceFile writes a file, in a folder that it makes, so that it is there as it was or as it shall be: on disk before it gets its name, or
// a power cut would leave an empty one. Two must not write the same file at once.
func replaceFile(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
