package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// fillDisk mounts a disk of 1 MiB at dir, which only this process sees, and fills it.
func fillDisk(dir string) error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("%s: %w", noDisk, err)
	}
	if err := syscall.Mount("charkha", dir, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("%s: %w", noDisk, err)
	}
	s, err := Open(Options{Dir: filepath.Join(dir, "blobs")})
	if err != nil {
		return err
	}
	ctx := context.Background()
	small := data(1, 1000)
	if _, err := s.Add(ctx, bytes.NewReader(small), nil, Why{Own: true}); err != nil {
		return err
	}
	big := data(2, 2<<20)
	for range 2 { // what did not fit leaves its room
		if _, err := s.Add(ctx, bytes.NewReader(big), nil, Why{Own: true}); !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("add to a full disk: %w", err)
		}
		r, err := s.Receive(idOf(big), int64(len(big)), Why{})
		if err != nil {
			return err
		}
		_, err = r.WriteAt(big, 0)
		if !errors.Is(err, ErrFull) {
			return fmt.Errorf("receive on a full disk: %w", err)
		}
		if _, again := r.WriteAt(big[:1], 0); again == nil || again.Error() != err.Error() {
			return fmt.Errorf("after a failure: %w", again)
		}
		if _, err := r.Commit(ctx); !errors.Is(err, ErrFull) {
			return fmt.Errorf("commit on a full disk: %w", err)
		}
		if files, err := os.ReadDir(s.tmp); len(files) > 0 || err != nil {
			return fmt.Errorf("%v is left behind, %w", files, err)
		}
		if _, err := s.Add(ctx, bytes.NewReader(data(3, 300<<10)), nil, Why{Own: true}); err != nil {
			return err
		}
	}
	// No block is left for the records either: what they say is not lost, and who asks for more is told.
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return err
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 512))
	}
	refused := false
	for i := 0; i < 20000 && !refused; i++ {
		err := s.Pin(idOf(small), i%2 == 0)
		refused = err != nil
		if refused && !errors.Is(err, ErrFull) {
			return err
		}
	}
	if !refused {
		return errors.New("the records never needed room")
	}
	filler.Close()
	if err := os.Remove(filler.Name()); err != nil {
		return err
	}
	if err := s.Pin(idOf(small), true); err != nil {
		return fmt.Errorf("after there is room again: %w", err)
	}
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = Open(s.o); err != nil {
		return err
	}
	for _, b := range [][]byte{small, data(3, 300<<10)} {
		info, ok := s.Stat(idOf(b))
		if !ok || !info.Why.Own || info.Why.Pinned != (len(b) == 1000) {
			return fmt.Errorf("a blob that was acknowledged: %v, %+v", ok, info)
		}
	}
	return s.Close()
}

// noDisk begins the error when the system lets nobody mount a disk.
const noDisk = "NO DISK CAN BE MOUNTED"

// A disk that is full, which is a small one in memory. Who is not root mounts it as the root of a namespace of users.
func TestFullDisk(t *testing.T) {
	// Not in parallel: see TestKilledWhileAddingAndEvicting.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fullEnv+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
	case os.Getenv("CI") == "" && (errors.Is(err, syscall.EPERM) || bytes.Contains(out, []byte(noDisk))):
		t.Skipf("%s: %v %s", noDisk, err, out)
	default:
		t.Fatalf("%v\n%s", err, out)
	}
}
