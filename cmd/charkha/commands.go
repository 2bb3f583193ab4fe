package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"charkha/identity"
	"charkha/muxrpc"
)

func (c *cli) whoamiCommand() *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "whoami", Short: "print the node's feed id", Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var me struct {
				ID identity.ID `json:"id"`
			}
			if err := c.call(cmd, &me, "whoami"); err != nil {
				return err
			}
			if c.json {
				return printJSON(cmd, me)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), me.ID)
			return err
		},
	})
}

// publishing calls a method that publishes, and prints the new message's id.
func (c *cli) publishing(cmd *cobra.Command, method string, args ...any) (id identity.MsgID, err error) {
	var msg json.RawMessage
	if err := c.call(cmd, &msg, method, args...); err != nil {
		return id, err
	}
	var kvt struct {
		Key identity.MsgID `json:"key"`
	}
	if err := json.Unmarshal(msg, &kvt); err != nil {
		return id, err
	}
	if c.json {
		return kvt.Key, printJSON(cmd, msg)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), kvt.Key)
	return kvt.Key, err
}

func (c *cli) publishCommand() *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "publish", Short: "publish the content JSON that stands on standard input, and print its message id",
		Example: `  echo '{"type":"vote","vote":{"link":"%...=.sha256","value":1}}' | charkha publish`,
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			const most = 64 << 10 // far above what a message can hold
			content, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), most+1))
			if err != nil {
				return err
			}
			if len(content) > most {
				return fmt.Errorf("the content on standard input is longer than %d bytes; a message holds about 8000", most)
			}
			content = bytes.TrimSpace(content)
			if len(content) == 0 {
				return errors.New("there is no content on standard input")
			}
			if !json.Valid(content) {
				var v any
				return fmt.Errorf("the content on standard input is not JSON: %w", json.Unmarshal(content, &v))
			}
			if content[0] != '{' && content[0] != '"' {
				return errors.New(`the content on standard input is not an object {"type": ...}, nor an encrypted text`)
			}
			_, err = c.publishing(cmd, "publish", json.RawMessage(content))
			return err
		},
	})
}

// How ids may be written, for the help of commands that take one.
const (
	feedForms = "ID is @...=.ed25519 or the same as a URI, ssb:feed/ed25519/...="
	msgForms  = "MSGID is %...=.sha256 or the same as a URI, ssb:message/sha256/...="
)

// sentence makes a command's long help of its short one.
func sentence(short, more string) string {
	return strings.ToUpper(short[:1]) + short[1:] + ".\n\n" + more + "."
}

// edgeCommand is follow, unfollow or block: they differ in the method and state only.
func (c *cli) edgeCommand(verb, short, method string, state bool) *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: verb + " ID", Short: short, Long: sentence(short, feedForms), Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			feed, err := parseFeed(cmd, args[0])
			if err != nil {
				return err
			}
			_, err = c.publishing(cmd, method, feed, map[string]bool{"state": state})
			return err
		},
	})
}

func (c *cli) followCommand() *cobra.Command {
	return c.edgeCommand("follow", "publish that you follow a feed; it is fetched from now on", "friends.follow", true)
}

func (c *cli) unfollowCommand() *cobra.Command {
	return c.edgeCommand("unfollow", "publish that you no longer follow a feed", "friends.follow", false)
}

func (c *cli) blockCommand() *cobra.Command {
	return c.edgeCommand("block", "publish that you block a feed; it is neither fetched nor served what is yours", "friends.block", true)
}

func (c *cli) connectCommand() *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "connect ADDR|ALIAS", Short: "connect to a peer; returns when connected, or says why not",
		Long: sentence("connect to a peer; returns when connected, or says why not", "ALIAS is the web address of a person's alias in a room, "+
			"or its ssb: URI: the room is connected to, and the person through it"),
		Example: "  charkha connect net:192.168.1.20:8008~shs:EMovhfIrFk4NihAKnRNhrfRaqIhBv1Wj8pTxJNgvCCY=\n" +
			"  charkha connect https://alice.room.example",
		Args: takes("ADDR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if isAlias(args[0]) {
				return c.connectAlias(cmd, args[0])
			}
			addr, err := parsePeer(args[0])
			if err != nil {
				return usage(cmd, err)
			}
			if err := c.call(cmd, nil, "conn.connect", addr.String()); err != nil {
				return err
			}
			if c.json {
				return printJSON(cmd, map[string]string{"connected": addr.String()})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "connected to", addr.Key)
			return err
		},
	})
}

func (c *cli) timelineCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "timeline", Short: "print the newest public posts of the people in range", Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usage(cmd, fmt.Errorf("--limit %d: must be 1 or more", limit))
			}
			first := true
			print := c.printer(cmd, func(w io.Writer, item []byte) error {
				if !first {
					fmt.Fprintln(w)
				}
				first = false
				return printPost(w, item)
			})
			posts, err := c.each(cmd, print, "charkha.timeline", map[string]int{"limit": limit})
			if err == nil && posts == 0 {
				note(cmd, "there are no posts of people in range yet")
			}
			return err
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 30, "how many posts")
	return c.jsonFlag(cmd)
}

func (c *cli) feedCommand() *cobra.Command {
	var (
		limit   int
		reverse bool
	)
	cmd := &cobra.Command{
		Use: "feed ID", Short: "print a feed's messages, oldest first",
		Long: sentence("print a feed's messages, oldest first", feedForms), Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			feed, err := parseFeed(cmd, args[0])
			if err != nil {
				return err
			}
			opts := map[string]any{"id": feed, "reverse": reverse}
			if cmd.Flags().Changed("limit") {
				if limit < 1 {
					return usage(cmd, fmt.Errorf("--limit %d: must be 1 or more", limit))
				}
				opts["limit"] = limit
			}
			messages, err := c.each(cmd, c.printer(cmd, printRow), "createUserStream", opts)
			if err == nil && messages == 0 {
				note(cmd, "no message of %s is held", feed)
			}
			return err
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "how many messages (default: all)")
	cmd.Flags().BoolVar(&reverse, "reverse", false, "newest first")
	return c.jsonFlag(cmd)
}

func (c *cli) getCommand() *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "get MSGID", Short: "print a message", Long: sentence("print a message", msgForms), Args: takes("MSGID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseMsg(cmd, args[0])
			if err != nil {
				return err
			}
			var msg json.RawMessage
			if err := c.call(cmd, &msg, "get", map[string]any{"id": id, "meta": true}); err != nil {
				if strings.Contains(err.Error(), "not found in database") { // the words are npm ssb-db's, for programs
					return fmt.Errorf("get %s: message not found", id)
				}
				return err
			}
			if c.json {
				return printJSON(cmd, msg)
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, msg, "", "  "); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), safe(pretty.String()))
			return err
		},
	})
}

func (c *cli) waitCommand() *cobra.Command {
	var (
		feed    string
		seq     int64
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use: "wait --feed ID --seq N", Short: "wait until the node holds a message of a feed", Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if feed == "" || seq < 1 {
				return usage(cmd, errors.New("--feed ID and --seq N (1 or more) are both needed"))
			}
			id, err := parseFeed(cmd, feed)
			if err != nil {
				return err
			}
			if timeout < 0 {
				return usage(cmd, fmt.Errorf("--timeout %s: must not be negative", timeout))
			}
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			var have int64
			err = c.with(ctx, func(ctx context.Context, conn *muxrpc.Conn) error {
				if err := noteRange(ctx, cmd, conn, id, seq); err != nil {
					return err
				}
				return ask(ctx, conn, &have, "charkha.wait", map[string]any{"id": id, "seq": seq})
			})
			if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
				return fmt.Errorf("%s: message %d did not arrive within %s", id, seq, timeout)
			}
			if err != nil {
				return err
			}
			if c.json {
				return printJSON(cmd, map[string]any{"id": id, "sequence": have})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %d\n", id, have)
			return err
		},
	}
	cmd.Flags().StringVar(&feed, "feed", "", "feed id, or the ssb: URI of one")
	cmd.Flags().Int64Var(&seq, "seq", 0, "sequence number to wait for")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after this long, such as 30s (default: never)")
	return c.jsonFlag(cmd)
}

// noteRange says so when a message is waited for that nobody asks peers for.
func noteRange(ctx context.Context, cmd *cobra.Command, conn *muxrpc.Conn, feed identity.ID, seq int64) error {
	var held struct {
		Sequence int64 `json:"sequence"`
	}
	if err := ask(ctx, conn, &held, "getFeedState", feed); err != nil {
		return err
	}
	if held.Sequence >= seq {
		return nil
	}
	var hops map[identity.ID]int
	if err := ask(ctx, conn, &hops, "friends.hops"); err != nil {
		return err
	}
	switch distance, known := hops[feed]; {
	case known && distance < 0:
		note(cmd, "%s is blocked, so it is not fetched from peers; 'charkha follow %[1]s' ends that", feed)
	case !known:
		note(cmd, "%s is not in range, so it is not fetched from peers until you 'charkha follow %[1]s'", feed)
	}
	return nil
}

// note tells people, beside the answer, what they may not expect.
func note(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
}

// printer prints each item of a stream, as JSON or in the form for people.
func (c *cli) printer(cmd *cobra.Command, human func(io.Writer, []byte) error) func([]byte) error {
	out := cmd.OutOrStdout()
	return func(item []byte) error {
		if c.json {
			_, err := fmt.Fprintf(out, "%s\n", item)
			return err
		}
		return human(out, item)
	}
}

func printJSON(cmd *cobra.Command, v any) error {
	if raw, ok := v.(json.RawMessage); ok {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", raw)
		return err
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// open opens a file to import, "-" being standard input.
func open(cmd *cobra.Command, name string) (r io.ReadCloser, size int64, err error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), -1, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}
