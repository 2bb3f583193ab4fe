package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// SocketName is the unix socket in the data folder, where SSB programs look for it.
const SocketName = "socket"

// maxSocketPath is the longest path of a unix socket that every supported system takes (104 bytes on darwin, its end
// included).
const maxSocketPath = 103

// ErrNotRunning says that no node serves a data folder.
var ErrNotRunning = errors.New("no node is running here")

// DialLocal connects to the node that runs on a data folder.
func DialLocal(ctx context.Context, dir string) (net.Conn, error) {
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNotRunning)
	}
	return conn, err
}

// listenLocal listens on the socket of a data folder whose lock is held: a socket file that is there is a dead one. The socket
// is made in a folder of its own, so that nobody else reaches it before it has its mode.
func listenLocal(dir string) (_ net.Listener, err error) {
	private, err := os.MkdirTemp(dir, ".socket")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(private)) }()
	path, done, err := socketPath(private)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it moves: Close of the node removes it
	made := filepath.Join(private, SocketName)
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, filepath.Join(dir, SocketName))); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// socketPath gives a path to the socket that is short enough for the system: through a temporary link to the folder when
// its own path is too long. done removes the link.
func socketPath(dir string) (path string, done func(), err error) {
	if path = filepath.Join(dir, SocketName); len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", nil, err
	}
	tmp, err := os.MkdirTemp("", "charkha")
	if err != nil {
		return "", nil, err
	}
	link := filepath.Join(tmp, "d")
	if err := os.Symlink(abs, link); err != nil {
		os.Remove(tmp)
		return "", nil, fmt.Errorf("the path %s is too long for a unix socket: %w", dir, err)
	}
	return filepath.Join(link, SocketName), func() { os.RemoveAll(tmp) }, nil
}
