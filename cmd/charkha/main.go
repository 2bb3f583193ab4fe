// Command charkha is a Secure Scuttlebutt node and the command line for it.
//
// "charkha start" runs the node. Every other command is a client of a running node: it dials the unix socket in the data
// folder, calls one muxrpc method and prints the answer, for people, or as JSON with --json (one object a line where there
// may be several). What is not the answer (errors, notes, the log) goes to standard error.
//
// Exit status: 0 done, 1 the command could not do what it was asked for (a mistake in config.toml is one of the reasons), 2
// it was asked wrongly. Ctrl-C ends every command in order and with status 1, start with 0; a second one ends it at once.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:])) }

// run is main with an exit status.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal is the system's again, and kills
	root := newRoot(&interruptible{ctx: ctx, r: os.Stdin}, &interruptible{ctx: ctx, w: os.Stdout})
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "charkha: %v\n%s\n", err, usage.hint)
		return 2
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "charkha: interrupted")
		return 1
	}
	fmt.Fprintf(os.Stderr, "charkha: %v\n", err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintln(os.Stderr, hint)
	}
	return 1
}
