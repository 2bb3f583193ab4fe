package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"

	"github.com/spf13/cobra"

	"charkha/muxrpc"
	"charkha/node"
)

// maxAnswer bounds one answer of our own node: a clock or a list of peers may be long.
const maxAnswer = 64 << 20

// with dials the running node and calls do with the connection.
func (c *cli) with(ctx context.Context, do func(context.Context, *muxrpc.Conn) error) error {
	sock, err := node.DialLocal(ctx, c.path)
	if err != nil {
		return err
	}
	conn := muxrpc.New(sock, muxrpc.Options{MaxBody: maxAnswer})
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- conn.Run(ctx) }()
	err = do(ctx, conn)
	conn.Close()
	cancel()
	<-ended
	return err
}

// call calls one async method and decodes its answer into result, unless that is nil.
func (c *cli) call(cmd *cobra.Command, result any, method string, args ...any) error {
	return c.with(cmd.Context(), func(ctx context.Context, conn *muxrpc.Conn) error {
		return ask(ctx, conn, result, method, args...)
	})
}

// ask is call on a connection that is there.
func ask(ctx context.Context, conn *muxrpc.Conn, result any, method string, args ...any) error {
	answer, err := conn.Async(ctx, method, args...)
	if err != nil {
		return plain(err)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("the node answered %s with something else than was expected: %w", method, err)
	}
	return nil
}

// each calls a source and gives do each item. It returns how many there were.
func (c *cli) each(cmd *cobra.Command, do func(item []byte) error, method string, args ...any) (items int, err error) {
	err = c.with(cmd.Context(), func(ctx context.Context, conn *muxrpc.Conn) error {
		s, err := conn.Open(ctx, muxrpc.CallOptions{Kind: muxrpc.Source, Patient: true, MaxBody: maxAnswer}, method, args...)
		if err != nil {
			return plain(err)
		}
		for {
			body, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return plain(err)
			}
			if err := do(body.Data); err != nil {
				return err
			}
			items++
		}
	})
	return items, err
}

// errStopped says that the node went away in the middle.
var errStopped = errors.New("the node stopped before the answer was complete")

// plain makes an error of the connection one for people: what the node answered with is meant for them already.
func plain(err error) error {
	var remote *muxrpc.RemoteError
	var op *net.OpError
	switch {
	case errors.As(err, &remote):
		return errors.New(remote.Message)
	case errors.Is(err, muxrpc.ErrClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &op):
		return errStopped
	}
	return err
}

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// hintFor says what to do about an error, if anything is known.
func hintFor(err error) string {
	var with *hinted
	var op *net.OpError
	switch {
	case errors.As(err, &with):
		return with.hint
	case errors.Is(err, node.ErrNotRunning):
		return "start one with 'charkha start', or say with --path where it keeps its data"
	case errors.Is(err, errStopped):
		return "its log says why; 'charkha start' starts it again"
	case errors.As(err, &op) && op.Op == "dial" && errors.Is(err, fs.ErrPermission):
		return "the node belongs to another user: run this as that user, or name your own data folder with --path"
	}
	return ""
}

// startHint adds to an error of a node that does not start what to do about it, if anything is known.
func startHint(err error) error {
	var op *net.OpError
	var name *net.DNSError
	listen := errors.As(err, &op) && op.Op == "listen"
	switch {
	case listen && errors.Is(err, syscall.EADDRINUSE):
		return &hinted{err, "another program listens there: stop it, or name another port with --listen net:HOST:PORT"}
	case listen && errors.Is(err, fs.ErrPermission):
		return &hinted{err, "ports below 1024 are often the administrator's alone: name a higher one with --listen net:HOST:PORT"}
	case listen && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.As(err, &name)):
		return &hinted{err, "this computer has no such address: --listen net:0.0.0.0:PORT listens on all that it has"}
	case errors.Is(err, fs.ErrPermission):
		return &hinted{err, "run this as the user who owns the data folder, or name another folder with --path"}
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOSPC):
		return &hinted{err, "the node must write to its data folder: name another with --path"}
	}
	return err
}
