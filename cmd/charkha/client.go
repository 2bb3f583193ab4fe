package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

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
	})
}

// each calls a source and gives do each item.
func (c *cli) each(cmd *cobra.Command, do func(item []byte) error, method string, args ...any) error {
	return c.with(cmd.Context(), func(ctx context.Context, conn *muxrpc.Conn) error {
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
		}
	})
}

// plain takes the wrapping off an error that the node answered with: its text is meant for people.
func plain(err error) error {
	var remote *muxrpc.RemoteError
	if errors.As(err, &remote) {
		return errors.New(remote.Message)
	}
	return err
}

// hintFor says what to do about an error.
func hintFor(err error) string {
	if errors.Is(err, node.ErrNotRunning) {
		return "start one with 'charkha start', or say with --path where it keeps its data"
	}
	return ""
}
