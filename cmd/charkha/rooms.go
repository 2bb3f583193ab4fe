package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"charkha/identity"
	"charkha/muxrpc"
)

func (c *cli) inviteCommand() *cobra.Command {
	cmd := group("invite", "use invites to pubs and rooms")
	const short = "claim an invite, follow its pub, and connect to it"
	cmd.AddCommand(c.jsonFlag(&cobra.Command{
		Use: "accept CODE", Short: short,
		Long: sentence(short, `CODE is HOST:PORT:@KEY.ed25519~SEED or net:HOST:PORT~shs:KEY:SEED (a pub's, or an open room's), or the link or web address of a
room's invite. Put it in quotes. One that is refused, or whose host is not reached, was not used up`),
		Example: "  charkha invite accept 'pub.example:8008:@MkDtWNkmh1fT7X6yMYc2SHxTJLB5Ltyi4cuoPn7hWAs=.ed25519~zYh...='",
		Args:    takes("CODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var answer json.RawMessage
			if err := c.call(cmd, &answer, "charkha.acceptInvite", args[0]); err != nil {
				return err
			}
			if c.json {
				return printJSON(cmd, answer)
			}
			var got struct {
				Kind      string            `json:"kind"`
				Address   string            `json:"address"`
				Already   bool              `json:"already"`
				Published []json.RawMessage `json:"published"`
				Connected bool              `json:"connected"`
				Problem   string            `json:"problem"`
			}
			if err := json.Unmarshal(answer, &got); err != nil {
				return err
			}
			addr, err := identity.ParseAddress(got.Address)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			switch {
			case got.Kind != "pub" && got.Connected && got.Problem != "":
				return fmt.Errorf("connected to %s, but %s", addr, line(got.Problem))
			case got.Kind != "pub":
				fmt.Fprintf(out, "the room %s is open to you\n", addr.Key)
			case got.Already:
				fmt.Fprintf(out, "the pub %s followed you already, so the invite was not used up\n", addr.Key)
			default:
				fmt.Fprintf(out, "the pub %s follows you now\n", addr.Key)
			}
			if len(got.Published) > 0 {
				fmt.Fprintln(out, "you follow it, too")
			}
			if got.Connected {
				fmt.Fprintln(out, "connected to", addr)
			} else {
				fmt.Fprintf(out, "not connected yet, it is tried again: %s\n", line(got.Problem))
			}
			return nil
		},
	}))
	return cmd
}

func (c *cli) roomsCommand() *cobra.Command {
	return c.explaining(&cobra.Command{
		Use: "rooms", Short: "list the rooms that the node is in, and who is there", Args: takes(),
	}, "rooms", noArgument, printRooms)
}

func (c *cli) aliasCommand() *cobra.Command {
	cmd := group("alias", "names in rooms, by which others find you")
	const roomForm = "ROOM is the room's id, as 'charkha rooms' lists it"
	register, revoke, list := "give your feed a name in a room, and print its web address", "give a name up", "list the names of a feed in a room"
	cmd.AddCommand(
		c.jsonFlag(&cobra.Command{
			Use: "register ROOM NAME", Short: register, Long: sentence(register, roomForm), Args: takes("ROOM", "NAME"),
			RunE: func(cmd *cobra.Command, args []string) error {
				room, err := parseFeed(cmd, args[0])
				if err != nil {
					return err
				}
				var page string
				if err := c.call(cmd, &page, "roomClient.registerAlias", room, args[1]); err != nil {
					return err
				}
				if c.json {
					return printJSON(cmd, map[string]string{"alias": args[1], "url": page})
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), page)
				return err
			},
		}),
		c.jsonFlag(&cobra.Command{
			Use: "revoke ROOM NAME", Short: revoke, Long: sentence(revoke, roomForm), Args: takes("ROOM", "NAME"),
			RunE: func(cmd *cobra.Command, args []string) error {
				room, err := parseFeed(cmd, args[0])
				if err != nil {
					return err
				}
				if err := c.call(cmd, nil, "roomClient.revokeAlias", room, args[1]); err != nil {
					return err
				}
				if c.json {
					return printJSON(cmd, map[string]string{"revoked": args[1]})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is no longer yours\n", line(args[1]))
				return err
			},
		}),
		c.jsonFlag(&cobra.Command{
			Use: "list ROOM [ID]", Short: list, Long: sentence(list, roomForm+"; without an ID your own names are listed"),
			Args: func(cmd *cobra.Command, args []string) error {
				if len(args) > 1 {
					return takes("ROOM", "ID")(cmd, args)
				}
				return takes("ROOM")(cmd, args)
			},
			RunE: func(cmd *cobra.Command, args []string) error {
				var ids []any
				for _, text := range args {
					id, err := parseFeed(cmd, text)
					if err != nil {
						return err
					}
					ids = append(ids, id)
				}
				names := []string{}
				if err := c.call(cmd, &names, "charkha.aliases", ids...); err != nil {
					return err
				}
				if c.json {
					return printJSON(cmd, names)
				}
				if len(names) == 0 {
					note(cmd, "none")
				}
				for _, name := range names {
					fmt.Fprintln(cmd.OutOrStdout(), line(name))
				}
				return nil
			},
		}),
	)
	return cmd
}

// isAlias reports whether a text is where an alias leads, and no multiserver address.
func isAlias(text string) bool {
	lower := strings.ToLower(text)
	return strings.HasPrefix(lower, "https://") || strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "ssb:experimental?") ||
		strings.HasPrefix(lower, "ssb://experimental")
}

func (c *cli) connectAlias(cmd *cobra.Command, text string) error {
	var id identity.ID
	err := c.with(cmd.Context(), func(ctx context.Context, conn *muxrpc.Conn) error {
		return ask(ctx, conn, &id, "roomClient.consumeAliasUri", text)
	})
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(cmd, map[string]any{"connected": id})
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), "connected to", id)
	return err
}
