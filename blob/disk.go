package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"
)

// disk does what changes files, one step at a time. Reading does not go through it.
type disk struct {
	// fault is called before and after each step; an error stands for a failure of the step before or after it took effect.
	// Only tests set it. path is the file or folder that the step is about, and of a rename its new name.
	fault func(step, path string, done bool) error
	// noSync leaves out what takes most of the time of tests that look at the steps.
	noSync bool
}

func (d disk) step(name, path string, do func() error) error {
	if d.fault != nil {
		if err := d.fault(name, path, false); err != nil {
			return err
		}
	}
	err := do()
	if err == nil && d.fault != nil {
		err = d.fault(name, path, true)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// create makes a file for writing and reading. With flag os.O_EXCL it must not be there, with os.O_TRUNC it is emptied.
func (d disk) create(path string, flag int) (f *os.File, err error) {
	err = d.step("create", path, func() error {
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|flag, 0o600)
		return err
	})
	if err != nil && f != nil {
		err = errors.Join(err, f.Close(), os.Remove(path))
		f = nil
	}
	return f, err
}

// early is after how many bytes the system is asked to begin writing them to disk: the sync of 50 MiB then takes 5 ms, not 25,
// because most of them are there.
const early = 4 << 20

func (d disk) writeAt(f *os.File, p []byte, off int64) error {
	return d.step("write", f.Name(), func() error {
		_, err := f.WriteAt(p, off)
		if from, to := off/early*early, (off+int64(len(p)))/early*early; err == nil && from < to && !d.noSync {
			writeEarly(f, from, to-from)
		}
		return err
	})
}

func (d disk) sync(f *os.File) error {
	return d.step("sync", f.Name(), func() error {
		if d.noSync {
			return nil
		}
		return f.Sync()
	})
}

func (d disk) rename(from, to string) error {
	return d.step("rename", to, func() error { return os.Rename(from, to) })
}

// remove removes a file. One that is not there is no error.
func (d disk) remove(path string) error {
	return d.step("remove", path, func() error {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// mkdir makes a folder whose parent is there. The parent is not synced.
func (d disk) mkdir(path string) error {
	return d.step("mkdir", path, func() error { return os.Mkdir(path, 0o700) })
}

// syncDir makes the names in a folder durable.
func (d disk) syncDir(path string) error {
	return d.step("sync folder", path, func() error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if d.noSync {
			return f.Close()
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil && runtime.GOOS != "windows" {
			return err
		}
		return nil
	})
}
