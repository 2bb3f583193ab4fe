// Command shs1 is one side of a secret handshake over standard input and output, as the conformance suite of npm shs1-test
// drives it: what it writes there besides the messages is, at the end, what the handshake agreed on. It fails when the
// other side does not behave.
//
//	shs1 NETWORK_KEY SERVER_SECRET SERVER_PUBLIC    is the server with that key
//	shs1 NETWORK_KEY SERVER_PUBLIC                  is a client, with a key made up, of the server with that key
//
// All in hex.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"charkha/identity"
	"charkha/replicate/shs"
)

func main() {
	outcome, err := run(os.Args[1:])
	if err == nil {
		_, err = os.Stdout.Write(outcome)
	}
	if err != nil {
		// The suite passes on what is said here, and half of what it tries has to be refused.
		if os.Getenv("SHS1_VERBOSE") != "" {
			fmt.Fprintln(os.Stderr, "shs1:", err)
		}
		os.Exit(1)
	}
}

// run shakes hands and returns sealing key, sealing nonce, opening key and opening nonce.
func run(args []string) ([]byte, error) {
	var bin [][]byte
	for _, arg := range args {
		b, err := hex.DecodeString(arg)
		if err != nil {
			return nil, err
		}
		bin = append(bin, b)
	}
	var log bytes.Buffer
	cfg := shs.Config{KeyLog: &log}
	var err error
	switch {
	case len(bin) == 3 && len(bin[0]) == 32 && len(bin[1]) == 64:
		cfg.NetworkKey = [32]byte(bin[0])
		cfg.Key = identity.FromSeed([32]byte(bin[1][:32]))
		if id := cfg.Key.ID(); !bytes.Equal(id[:], bin[2]) {
			return nil, fmt.Errorf("the secret key is that of %x, not of %x", id[:], bin[2])
		}
		_, err = shs.Server(context.Background(), stdio{}, cfg)
	case len(bin) == 2 && len(bin[0]) == 32 && len(bin[1]) == 32:
		cfg.NetworkKey = [32]byte(bin[0])
		if cfg.Key, err = identity.Generate(); err != nil {
			return nil, err
		}
		_, err = shs.Client(context.Background(), stdio{}, cfg, identity.ID(bin[1]))
	default:
		return nil, fmt.Errorf("usage: shs1 NETWORK_KEY [SERVER_SECRET] SERVER_PUBLIC, in hex")
	}
	if err != nil {
		return nil, err
	}
	_, keys, _ := strings.Cut(strings.TrimSpace(log.String()), " ")
	return hex.DecodeString(strings.ReplaceAll(keys, " ", ""))
}

// stdio is standard input and output as a socket.
type stdio struct{}

func (stdio) Read(p []byte) (int, error)       { return os.Stdin.Read(p) }
func (stdio) Write(p []byte) (int, error)      { return os.Stdout.Write(p) }
func (stdio) Close() error                     { return os.Stdin.Close() }
func (stdio) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "stdio"} }
func (stdio) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "stdio"} }
func (stdio) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (stdio) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (stdio) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
