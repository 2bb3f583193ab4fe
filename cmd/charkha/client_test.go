package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"charkha/muxrpc"
	"charkha/node"
)

// What goes wrong outside of the program comes with what to do about it.
func TestHints(t *testing.T) {
	t.Parallel()
	system := func(op string, no syscall.Errno) error {
		return fmt.Errorf("around: %w", &net.OpError{Op: op, Net: "x", Err: os.NewSyscallError("call", no)})
	}
	file := func(no syscall.Errno) error { return &fs.PathError{Op: "mkdir", Path: "/x", Err: no} }
	for _, c := range []struct {
		name string
		err  error
		want string // in the hint
	}{
		{"the port is in use", startHint(system("listen", syscall.EADDRINUSE)), "another port with --listen"},
		{"a low port", startHint(system("listen", syscall.EACCES)), "below 1024"},
		{"an address of others", startHint(system("listen", syscall.EADDRNOTAVAIL)), "0.0.0.0"},
		{"a name that nobody has", startHint(&net.OpError{Op: "listen", Err: &net.DNSError{}}), "0.0.0.0"},
		{"a folder of others", startHint(file(syscall.EACCES)), "--path"},
		{"a disk that cannot be written", startHint(file(syscall.EROFS)), "--path"},
		{"a full disk", startHint(file(syscall.ENOSPC)), "--path"},
		{"a node of others", system("dial", syscall.EACCES), "another user"},
		{"no node", fmt.Errorf("x: %w", node.ErrNotRunning), "charkha start"},
		{"the node went away", plain(fmt.Errorf("x: %w", muxrpc.ErrClosed)), "charkha start"},
		{"the node was killed", plain(system("read", syscall.ECONNRESET)), "charkha start"},
		{"something else", startHint(errors.New("x")), ""},
		{"the node's answer", plain(&muxrpc.RemoteError{Message: "x"}), ""},
	} {
		hint := hintFor(c.err)
		if (hint == "") != (c.want == "") || !strings.Contains(hint, c.want) {
			t.Errorf("%s: %v: the hint is %q, want one with %q", c.name, c.err, hint, c.want)
		}
	}
}

func TestParsePeer(t *testing.T) {
	t.Parallel()
	const key = "~shs:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for _, c := range []struct{ text, want, err string }{
		{text: "net:example.org:8008" + key, want: "net:example.org:8008" + key},
		{text: "onion:x.onion:1" + key + ";net:example.org:8008" + key, want: "net:example.org:8008" + key},
		{text: "net:example.org:0" + key + ";net:example.org:8008" + key, want: "net:example.org:8008" + key},
		{text: "example.org:8008:@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.ed25519", want: "net:example.org:8008" + key},
		{text: "ssb:address/multiserver?multiserverAddress=net%3Aexample.org%3A8008~shs%3AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D",
			want: "net:example.org:8008" + key},
		{text: "onion:example.onion:8008" + key, err: `kind "onion" cannot be dialled`},
		{text: "wss://example.org:443" + key, want: "wss://example.org:443" + key},
		{text: "net:example.org:0" + key, err: "port 0"},
		{text: "net:example.org:8008", err: "not of the form"},
		{text: "ssb:feed/ed25519/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", err: "is no address"},
		{text: "", err: "not of the form"},
	} {
		got, err := parsePeer(c.text)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want an error that says %s", c.text, err, c.err)
			}
		} else if err != nil || got.String() != c.want {
			t.Errorf("%s: %s, %v; want %s", c.text, got, err, c.want)
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 feeds", 1: "1 feed", 2: "2 feeds", 2000: "2,000 feeds"} {
		if got := count(n, "feed"); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// What --watch prints is printed again only when it reads differently.
func TestPrintChanges(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	show := printChanges(&out, func(w io.Writer, answer []byte) error {
		_, err := fmt.Fprintf(w, "%c\n", answer[0])
		return err
	})
	for _, answer := range []string{"a1", "a2", "b3", "b4"} {
		if err := show([]byte(answer)); err != nil {
			t.Fatal(err)
		}
	}
	if got := regexp.MustCompile(`\d\d:\d\d:\d\d`).ReplaceAllString(out.String(), "now"); got != "a\n\n--- now\nb\n" {
		t.Errorf("printed %q", got)
	}
}
