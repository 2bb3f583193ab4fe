package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"charkha/identity"
	"charkha/muxrpc"
)

func (c *cli) postCommand() *cobra.Command {
	var (
		wait    int
		timeout time.Duration
	)
	const short = "publish a post and print its message id"
	cmd := &cobra.Command{
		Use: "post TEXT", Short: short,
		Long: sentence(short, "With --wait it returns when so many peers say that they hold it. The post is published either way: when the time is over before that,\n"+
			"the exit status is 1, and peers get it whenever they connect"),
		Args: func(_ *cobra.Command, args []string) error {
			if strings.TrimSpace(strings.Join(args, "")) == "" {
				return errors.New("TEXT is missing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case wait < 0:
				return usage(cmd, fmt.Errorf("--wait %d: must not be negative", wait))
			case timeout < 0:
				return usage(cmd, fmt.Errorf("--timeout %s: must not be negative", timeout))
			case timeout > 0 && wait == 0:
				return usage(cmd, errors.New("--timeout is for --wait"))
			}
			content := struct {
				Type string `json:"type"`
				Text string `json:"text"`
			}{"post", strings.Join(args, " ")}
			id, err := c.publishing(cmd, "publish", content)
			if err != nil || wait == 0 {
				return err
			}
			return c.awaitHolders(cmd, id, wait, timeout)
		},
	}
	cmd.Flags().IntVar(&wait, "wait", 0, "return when so many peers hold it")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up waiting after this long, such as 30s (default: never)")
	return c.jsonFlag(cmd)
}

// awaitHolders waits until so many peers say that they hold a message, and tells which.
func (c *cli) awaitHolders(cmd *cobra.Command, id identity.MsgID, want int, timeout time.Duration) error {
	ctx := cmd.Context()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var last struct {
		Count int    `json:"count"`
		Text  string `json:"text"`
	}
	var answer json.RawMessage
	err := c.with(ctx, func(ctx context.Context, conn *muxrpc.Conn) error {
		s, err := conn.Open(ctx, muxrpc.CallOptions{Kind: muxrpc.Source, Patient: true, MaxBody: maxAnswer}, "charkha.watch", "heldBy", id)
		if err != nil {
			return plain(err)
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		for last.Count < want {
			body, err := s.Recv()
			if err != nil {
				return plain(err)
			}
			answer = body.Data
			if err := json.Unmarshal(answer, &last); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case last.Count >= want:
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &hinted{
			fmt.Errorf("%s within %s, not by %d: the post is published, and peers get it when they connect",
				cmp.Or(last.Text, "held by 0 peers"), timeout, want), // the node may have said nothing yet
			fmt.Sprintf("'charkha held-by %s' tells who has it", id),
		}
	case ctx.Err() != nil:
		return context.Cause(ctx) // not that the connection is closed, which we did
	default:
		return err
	}
	if c.json {
		return printJSON(cmd, answer)
	}
	return printHeldBy(cmd.OutOrStdout(), answer)
}
