package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"charkha/identity"
	"charkha/node"
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

func newRoot() *cobra.Command {
	c := &cli{}
	root := &cobra.Command{
		Use:   "charkha",
		Short: "a Secure Scuttlebutt node",
		Long: `Charkha is a Secure Scuttlebutt (SSB) node: it keeps signed feeds, gossips them with other
SSB peers, and serves local programs.

'charkha start' runs the node. Every other command talks to the running node.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       node.Version(),
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			err := fmt.Errorf("there is no command %q", args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))
			}
			return usage(cmd, err)
		},
	}
	root.SetFlagErrorFunc(usage)
	root.PersistentFlags().StringVar(&c.path, "path", defaultPath(), "data folder of the node (or set CHARKHA_PATH)")
	root.AddCommand(
		c.startCommand(), c.whoamiCommand(), c.statusCommand(), c.peersCommand(),
		c.postCommand(), c.publishCommand(), c.followCommand(), c.unfollowCommand(), c.blockCommand(),
		c.connectCommand(), c.timelineCommand(), c.feedCommand(), c.getCommand(), c.waitCommand(),
		c.importCommand(), c.exportCommand(),
	)
	for _, cmd := range root.Commands() {
		if check := cmd.Args; check != nil {
			cmd.Args = func(cmd *cobra.Command, args []string) error { return usage(cmd, check(cmd, args)) }
		}
	}
	return root
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

// jsonFlag adds --json to a command that prints data.
func (c *cli) jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON, one object a line")
	return cmd
}

// noFiles keeps the shell from offering file names where an id is wanted.
func noFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
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
		return id, usage(cmd, fmt.Errorf("%w; a feed id looks like @...=.ed25519", err))
	}
	return id, nil
}

// loadConfig gives the flags that were not set on the command line the values that config.toml in the data folder has for
// them. A key that no flag has is an error.
func loadConfig(cmd *cobra.Command, dir string) error {
	file := filepath.Join(dir, "config.toml")
	var conf map[string]any
	if _, err := toml.DecodeFile(file, &conf); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for key, value := range conf {
		flag := cmd.LocalNonPersistentFlags().Lookup(key)
		if flag == nil || key == "help" {
			return fmt.Errorf("%s: there is no setting %q; 'charkha start --help' lists them", file, key)
		}
		if flag.Changed {
			continue
		}
		if err := setFlag(cmd, flag, value); err != nil {
			return fmt.Errorf("%s: %s: %w", file, key, err)
		}
	}
	return nil
}

func setFlag(cmd *cobra.Command, flag *pflag.Flag, value any) error {
	if list, ok := value.([]any); ok {
		if _, ok := flag.Value.(pflag.SliceValue); !ok {
			return errors.New("one value is wanted, not a list")
		}
		for _, v := range list {
			if err := cmd.Flags().Set(flag.Name, fmt.Sprint(v)); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd.Flags().Set(flag.Name, fmt.Sprint(value))
}
