package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"charkha/identity"
	"charkha/node"
	"charkha/replicate"
)

// usageError is a command that was asked wrongly: exit status 2.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err: err, hint: fmt.Sprintf("usage: %s\nsee '%s --help'", cmd.UseLine(), cmd.CommandPath())}
}

// cli is what the commands share.
type cli struct {
	path string // the data folder
	json bool
}

// newRoot makes the commands, which read from in and write to out.
func newRoot(in io.Reader, out io.Writer) *cobra.Command {
	c := &cli{}
	root := &cobra.Command{
		Use:   "charkha",
		Short: "a Secure Scuttlebutt node",
		Long: `Charkha is a Secure Scuttlebutt (SSB) node: it keeps signed feeds, gossips them with other
SSB peers, and serves local programs.

'charkha start' runs the node. Every other command talks to the running node.

A feed ID is @...=.ed25519, a MSGID %...=.sha256; the ssb: URIs of both are taken, too.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       node.Version(),
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return noCommand(cmd, args[0])
		},
	}
	root.SetIn(in)
	root.SetOut(out)
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().StringVar(&c.path, "path", defaultPath(), "data folder of the node (or set CHARKHA_PATH)")
	_ = root.MarkPersistentFlagDirname("path") // fails for a flag that is not there
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.AddCommand(
		c.startCommand(), c.whoamiCommand(), c.statusCommand(), c.peersCommand(), c.whyCommand(), c.heldByCommand(), c.doctorCommand(),
		c.inviteCommand(), c.roomsCommand(), c.aliasCommand(),
		c.postCommand(), c.publishCommand(), c.followCommand(), c.unfollowCommand(), c.blockCommand(),
		c.connectCommand(), c.timelineCommand(), c.feedCommand(), c.getCommand(), c.waitCommand(),
		c.importCommand(), c.exportCommand(), c.blobCommand(),
	)
	for _, cmd := range root.Commands() {
		for _, cmd := range append(cmd.Commands(), cmd) {
			check := cmd.Args
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return usage(cmd, err)
				}
				return c.checkPath(cmd)
			}
		}
	}
	root.SetHelpCommand(helpCommand())
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		// Cobra's own prints its help and is content with any argument.
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = root.RunE
		for _, shell := range cmd.Commands() {
			shell.Args = func(cmd *cobra.Command, args []string) error { return usage(cmd, takes()(cmd, args)) }
		}
	}
	return root
}

// noCommand says that a command has no such subcommand.
func noCommand(cmd *cobra.Command, name string) error {
	err := fmt.Errorf("there is no command %q", strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name())+" "+name))
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))
	}
	return usage(cmd, err)
}

// helpCommand is cobra's help, but for asking about a command that is not there, which is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "print the help of a command",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			if about, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
				for _, sub := range about.Commands() {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return usage(cmd, err)
			}
			if len(rest) > 0 {
				return noCommand(about, rest[0])
			}
			about.InitDefaultHelpFlag() // so that the help lists it
			return about.Help()
		},
	}
}

// takes wants the named arguments and no others.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s is missing", names[len(args)])
		case len(args) > len(names) && len(names) == 0:
			return fmt.Errorf("%q: %s takes no arguments", args[0], cmd.Name())
		case len(args) > len(names):
			return fmt.Errorf("%q: only %s is taken", args[len(names)], strings.Join(names, " "))
		}
		return nil
	}
}

// flagError says what a flag takes.
func flagError(cmd *cobra.Command, err error) error {
	var bad *pflag.InvalidValueError
	if errors.As(err, &bad) {
		err = fmt.Errorf("--%s %s: %w", bad.GetFlag().Name, bad.GetValue(), wanted(err))
	}
	return usage(cmd, err)
}

// wanted replaces the error of a value that a flag does not take: that one names the function that could not parse it.
func wanted(err error) error {
	var bad *pflag.InvalidValueError
	if errors.As(err, &bad) {
		flag := bad.GetFlag()
		if flag.Name == "log-level" {
			return errors.New("must be debug, info, warn or error")
		}
		switch flag.Value.Type() {
		case "int", "int64":
			return errors.New("must be a whole number")
		case "bool":
			return errors.New("must be true or false")
		case "duration":
			return errors.New("must be a duration such as 30s or 5m")
		}
		return bad.Unwrap()
	}
	return err
}

// defaultPath is $CHARKHA_PATH, or .charkha in the home folder.
func defaultPath() string {
	if p := os.Getenv("CHARKHA_PATH"); p != "" {
		return p
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ".charkha"
	}
	return filepath.Join(home, ".charkha")
}

// checkPath refuses what cannot be a data folder, before something else fails over it in other words.
func (c *cli) checkPath(cmd *cobra.Command) error {
	if c.path == "" {
		return usage(cmd, errors.New("--path is empty; it names the data folder"))
	}
	if st, err := os.Stat(c.path); err == nil && !st.IsDir() {
		return &hinted{fmt.Errorf("%s is a file, not a folder", c.path), "name the node's data folder with --path"}
	}
	return nil
}

// jsonFlag adds --json to a command that prints data.
func (c *cli) jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON, one object a line")
	return cmd
}

// parseFeed reads a feed id given as sigil or ssb: URI.
func parseFeed(cmd *cobra.Command, text string) (identity.ID, error) {
	id, err := identity.ParseID(text)
	if err != nil {
		if ref, uerr := identity.ParseURI(text); uerr == nil {
			if feed, ok := ref.(identity.ID); ok {
				return feed, nil
			}
		}
		return id, usage(cmd, fmt.Errorf("%w; a feed id looks like @...=.ed25519 or ssb:feed/ed25519/...=", err))
	}
	return id, nil
}

// parseMsg reads a message id given as sigil or ssb: URI.
func parseMsg(cmd *cobra.Command, text string) (identity.MsgID, error) {
	id, err := identity.ParseMsgID(text)
	if err != nil {
		if ref, uerr := identity.ParseURI(text); uerr == nil {
			if msg, ok := ref.(identity.MsgID); ok {
				return msg, nil
			}
		}
		return id, usage(cmd, fmt.Errorf("%w; a message id looks like %%...=.sha256 or ssb:message/sha256/...=", err))
	}
	return id, nil
}

// parsePeer reads the address of a peer: the first of its alternatives that can be dialled.
func parsePeer(text string) (identity.Address, error) {
	multi, err := identity.ParseMulti(text)
	if ref, uerr := identity.ParseURI(text); uerr == nil {
		m, ok := ref.(identity.Multi)
		if !ok {
			return identity.Address{}, fmt.Errorf("%s is no address", text)
		}
		multi, err, text = m, nil, m.String()
	}
	if err == nil {
		for _, addr := range multi.Addresses() {
			if replicate.CanDial(addr) == nil && (addr.Port != 0 || addr.Proto == "tunnel") {
				return addr, nil
			}
		}
	}
	addr, err := identity.ParseAddress(text)
	switch {
	case err != nil:
		return addr, err
	case addr.Port == 0 && addr.Proto != "tunnel":
		return addr, fmt.Errorf("%s: port 0 cannot be dialled", addr)
	case replicate.CanDial(addr) != nil:
		return addr, fmt.Errorf("%s: addresses of the kind %q cannot be dialled, only net:HOST:PORT~shs:KEY, ws://HOST:PORT~shs:KEY and tunnel:ROOM:PEER~shs:KEY can", addr, addr.Proto)
	}
	return addr, nil
}
