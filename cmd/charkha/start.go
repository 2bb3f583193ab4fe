package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"charkha/identity"
	"charkha/node"
	"charkha/replicate"
	"charkha/replicate/shs"
	"charkha/web"
)

func (c *cli) startCommand() *cobra.Command {
	var (
		listen, connect  []string
		ws               string
		masters          []string
		interfaces       []string
		hops             int
		network, hmac    string
		newFeed, logJSON bool
		noLAN, check     bool
		level            slog.Level
		blobBudget       byteSize = 2 << 30
		blobMax          byteSize = 5 << 20
		blobAuto         byteSize = 5 << 20
		blobRate         byteSize
	)
	cmd := &cobra.Command{
		Use:   "start",
		Short: "run the node until it is interrupted",
		Long: `Run the node until it is interrupted (Ctrl-C).

Every flag but --new-feed can stand in config.toml in the data folder, under its own name:
    hops = 3
    listen = ["net::8008"]`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, err := loadConfig(cmd, c.path)
			if err != nil {
				return startHint(err)
			}
			logger := newLogger(logJSON, level)
			// What libraries write to the standard logger is of use to developers only.
			slog.SetDefault(logger)
			slog.SetLogLoggerLevel(slog.LevelDebug)
			cfg := node.Config{
				Dir: c.path, Listen: listen, Hops: hops, NewFeed: newFeed, Check: check,
				NetworkKey: shs.MainNetwork, Logger: logger, LAN: !noLAN, Interfaces: interfaces,
				// Of several nodes on one computer the first has the usual port, and the others are none the worse.
				WS: ws, WSOptional: !cmd.Flags().Changed("ws"),
				BlobBudget: int64(blobBudget), BlobMax: int64(blobMax), BlobAuto: int64(blobAuto), BlobRate: int64(blobRate),
			}
			// All is looked at before the node makes its key and its folders.
			if hops < 0 {
				return set.bad("hops", fmt.Errorf("%d: must be 0 or more", hops))
			}
			if blobMax < 1 || blobMax > 1<<30 {
				return set.bad("blob-max", fmt.Errorf("%s: must be from 1B to 1GiB", &blobMax))
			}
			if blobRate > 0 && blobRate < 16<<10 {
				return set.bad("blob-rate", fmt.Errorf("%s: must be 0 or at least 16KiB", &blobRate))
			}
			if blobAuto == 0 {
				cfg.BlobAuto = -1
			}
			if network != "" {
				key, err := parseKey(network)
				if err != nil {
					return set.bad("network-key", err)
				}
				cfg.NetworkKey = *key
			}
			if hmac != "" {
				key, err := parseKey(hmac)
				if err != nil {
					return set.bad("hmac-key", err)
				}
				cfg.HMACKey = key
			}
			for _, text := range listen {
				if _, _, err := replicate.ParseListen(text); err != nil {
					return set.bad("listen", err)
				}
			}
			if ws != "" {
				if _, _, err := web.ParseListen(ws); err != nil {
					return set.bad("ws", err)
				}
			}
			for _, text := range masters {
				id, err := identity.ParseID(text)
				if err != nil {
					return set.bad("master", err)
				}
				cfg.Masters = append(cfg.Masters, id)
			}
			for _, text := range connect {
				addr, err := parsePeer(text)
				if err != nil {
					return set.bad("connect", err)
				}
				cfg.Connect = append(cfg.Connect, addr)
			}
			return c.start(cmd, cfg)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&listen, "listen", []string{"net::8008"}, "address to listen on, net:HOST:PORT, without HOST all that the computer has; may be given several times")
	f.StringVar(&ws, "ws", "ws://127.0.0.1:8989", "address for apps that connect by WebSocket, ws://HOST:PORT; \"\": none")
	f.StringArrayVar(&masters, "master", nil, "id of a key whose holder may do everything here, over the network too; may be given several times")
	f.StringArrayVar(&connect, "connect", nil, "multiserver address of a peer to keep dialling, net:HOST:PORT~shs:KEY; may be given several times")
	f.IntVar(&hops, "hops", 2, "whose feeds are fetched: 0 mine, 1 those I follow, 2 those they follow, ...")
	f.Var(&blobBudget, "blob-budget", "how much room the blobs of others may take, such as 500MB or 2GiB; 0: no limit. When it is full, those of people far away leave first, and then those opened longest ago")
	f.Var(&blobMax, "blob-max", "largest blob that is taken, up to 1GiB; other SSB programs take 5MiB")
	f.Var(&blobAuto, "blob-auto", "largest blob that is fetched because somebody in range links it; larger ones are when they are asked for, and 0 is none")
	f.Var(&blobRate, "blob-rate", "most bytes of blobs a second to each peer, and from each, such as 500KB; 0: no limit, they give way to messages anyway")
	f.StringVar(&network, "network-key", "", "key of the network, 32 bytes in base64 (default: the public network's)")
	f.StringVar(&hmac, "hmac-key", "", "key that the network's messages are signed with, 32 bytes in base64 (default: none)")
	f.BoolVar(&newFeed, "new-feed", false, "this key never published anywhere: let it, without fetching its feed first")
	f.BoolVar(&check, "check", false, "read every stored message and blob first; damaged feeds are cut back and damaged blobs set aside, so that peers send them again")
	f.BoolVar(&noLAN, "no-lan", false, "do not look for peers on the local network, nor announce this one there")
	f.StringArrayVar(&interfaces, "lan-interface", nil, "network interface to do that on, such as eth0; may be given several times (default: all that are up)")
	f.BoolVar(&logJSON, "log-json", false, "log JSON lines")
	f.TextVar(&level, "log-level", slog.LevelInfo, "least level that is logged: debug, info, warn or error")
	levels := cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("log-level", levels) // fails for a flag that is not there
	return cmd
}

// byteSize is a flag's number of bytes: "500MB", "2GiB", or plain bytes.
type byteSize int64

func (b *byteSize) Set(text string) error {
	n, err := humanize.ParseBytes(text)
	if err != nil || n > math.MaxInt64 {
		return errors.New("must be a number of bytes such as 5242880, 500MB or 2GiB")
	}
	*b = byteSize(n)
	return nil
}

func (b *byteSize) String() string { return strings.ReplaceAll(humanize.IBytes(uint64(*b)), " ", "") }
func (*byteSize) Type() string     { return "size" }

func parseKey(text string) (*[32]byte, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != 32 {
		return nil, errors.New("not 32 bytes in base64")
	}
	return (*[32]byte)(key), nil
}

// newLogger writes to standard error: coloured lines on a terminal, plain ones elsewhere, or JSON.
func newLogger(asJSON bool, level slog.Level) *slog.Logger {
	switch {
	case asJSON:
		return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	case term.IsTerminal(int(os.Stderr.Fd())):
		return slog.New(tint.NewTextHandler(os.Stderr, &tint.Options{Level: level, TimeFormat: time.TimeOnly}))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// gcPercent trades a little of the processor for memory: what a sync leaves behind is collected at half the size that Go waits for.
const gcPercent = 50

func (c *cli) start(cmd *cobra.Command, cfg node.Config) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	n, err := node.Open(cfg)
	if err != nil {
		return startHint(err)
	}
	defer func() {
		if cerr := n.Close(); err == nil {
			err = cerr
		}
	}()
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "id       %s\n", n.ID())
	for _, addr := range n.Addresses() {
		if addr.Proto == "ws" && cfg.WSOptional {
			continue // is not for peers, and the log tells it
		}
		fmt.Fprintf(out, "address  %s\n", addr)
	}
	fmt.Fprintf(out, "path     %s\n", cfg.Dir)
	if !n.Confirmed() {
		cfg.Logger.Warn("the secret was here before its feed: nothing is published until the feed was fetched from a peer; " +
			"start with --new-feed if the key never published anywhere")
	}
	return n.Run(cmd.Context())
}
