package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"charkha/muxrpc"
)

// maxLine is the longest line that import reads: far above a message and what stands around it.
const maxLine = 1 << 20

// maxRaw is the longest message that is sent to the node: the size of one muxrpc body. The format allows far less.
const maxRaw = 64 << 10

// shownRefusals is how many refused messages import tells about, one by one.
const shownRefusals = 20

type counts struct {
	Stored    int64 `json:"stored"`
	Duplicate int64 `json:"duplicate"`
	Gap       int64 `json:"gap"`
	Fork      int64 `json:"fork"`
	Invalid   int64 `json:"invalid"`
}

func (c *cli) importCommand() *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "import FILE", Short: "append signed messages from a file of JSON lines (.jsonl, .jsonl.gz, or - for standard input)",
		Long: `Append signed messages from a file of JSON lines, each a message or {"key", "value", ...} around one,
as 'charkha export' and other SSB programs write them. The file may be gzipped. Every message is verified; a feed's
messages must stand in order. Prints how many were stored, were there already (duplicate), came before what they
follow (gap), contradict what is held (fork) or are not valid messages (invalid). Fails when any was refused.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, size, err := open(cmd, args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			var total counts
			err = c.with(cmd.Context(), func(ctx context.Context, conn *muxrpc.Conn) (err error) {
				total, err = importFrom(ctx, conn, file, size)
				return err
			})
			if err != nil {
				return fmt.Errorf("import %s: %w (stored before: %d)", args[0], err, total.Stored)
			}
			if c.json {
				err = printJSON(cmd, total)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "stored %d\nduplicate %d\ngap %d\nfork %d\ninvalid %d\n",
					total.Stored, total.Duplicate, total.Gap, total.Fork, total.Invalid)
			}
			if refused := total.Gap + total.Fork + total.Invalid; err == nil && refused > 0 {
				return fmt.Errorf("import %s: %d messages were refused", args[0], refused)
			}
			return err
		},
	})
}

// importFrom sends the messages of a file to the node and returns what became of them.
func importFrom(ctx context.Context, conn *muxrpc.Conn, file io.Reader, size int64) (counts, error) {
	bar := progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetVisibility(term.IsTerminal(int(os.Stderr.Fd()))),
		progressbar.OptionShowBytes(true), progressbar.OptionSetDescription("import"), progressbar.OptionClearOnFinish())
	defer bar.Close()

	lines, err := lineReader(io.TeeReader(file, bar))
	if err != nil {
		return counts{}, err
	}
	s, err := conn.Open(ctx, muxrpc.CallOptions{Kind: muxrpc.Duplex, Patient: true}, "charkha.import")
	if err != nil {
		return counts{}, plain(err)
	}
	var (
		mu     sync.Mutex
		lineOf []int32 // the line of each message that was sent: the node numbers messages, people want lines (under mu)
		local  int64   // lines that hold no message: they are told here and not sent (the sender's, until Wait)
		total  counts  // the receiver's, until Wait
		g      errgroup.Group
	)
	g.Go(func() (err error) {
		defer func() {
			if cerr := s.CloseSend(err); err == nil {
				err = cerr
			}
		}()
		for n := int32(1); lines.Scan(); n++ {
			if len(bytes.TrimSpace(lines.Bytes())) == 0 {
				continue
			}
			raw, why := messageOf(lines.Bytes())
			if why != nil {
				if local++; local <= shownRefusals {
					bar.Clear()
					fmt.Fprintf(os.Stderr, "line %d: invalid: %v\n", n, why)
				}
				continue
			}
			mu.Lock()
			lineOf = append(lineOf, n)
			mu.Unlock()
			if err := s.SendJSON(raw); err != nil {
				return plain(err)
			}
		}
		if errors.Is(lines.Err(), bufio.ErrTooLong) {
			return fmt.Errorf("a line is longer than %d bytes", maxLine)
		}
		return lines.Err()
	})
	g.Go(func() error {
		shown := 0
		for {
			body, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return plain(err)
			}
			var report struct {
				counts
				Refused []struct {
					Number int    `json:"number"`
					Status string `json:"status"`
					Error  string `json:"error"`
				} `json:"refused"`
			}
			if err := json.Unmarshal(body.Data, &report); err != nil {
				return err
			}
			total = report.counts
			for _, r := range report.Refused {
				if shown++; shown > shownRefusals {
					break
				}
				mu.Lock()
				n := int32(0)
				if r.Number >= 1 && r.Number <= len(lineOf) {
					n = lineOf[r.Number-1]
				}
				mu.Unlock()
				bar.Clear()
				fmt.Fprintf(os.Stderr, "line %d: %s: %s\n", n, r.Status, line(r.Error))
			}
		}
	})
	err = g.Wait()
	total.Invalid += local
	return total, err
}

// lineReader reads lines, unpacked when the stream is gzipped.
func lineReader(r io.Reader) (*bufio.Scanner, error) {
	br := bufio.NewReaderSize(r, 1<<16)
	r = br
	if head, _ := br.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, err
		}
		r = zr
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 1<<16), maxLine)
	return lines, nil
}

// messageOf finds the signed message in a line: the value of a KVT, or the line itself. The bytes are only valid until the
// next line is read.
func messageOf(line []byte) (json.RawMessage, error) {
	var kvt struct {
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(line, &kvt); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	raw := json.RawMessage(bytes.TrimSpace(line))
	if len(kvt.Value) > 0 && kvt.Value[0] == '{' {
		raw = kvt.Value
	}
	if len(raw) > maxRaw {
		return nil, fmt.Errorf("%d bytes are too long for a message", len(raw))
	}
	return raw, nil
}

func (c *cli) exportCommand() *cobra.Command {
	var feed string
	cmd := &cobra.Command{
		Use: "export", Short: `print the signed messages held, as JSON lines {"key", "value", "timestamp"}`,
		Long: `Print the signed messages held, as JSON lines {"key", "value", "timestamp"}: all in the order in which they
arrived, or one feed's by sequence. The value stands byte for byte as it is stored and sent; timestamp is when it
arrived here. 'charkha import' reads it back.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			opts := map[string]any{}
			if feed != "" {
				id, err := parseFeed(cmd, feed)
				if err != nil {
					return err
				}
				opts["id"] = id
			}
			out := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
			err = c.each(cmd, func(item []byte) error {
				out.Write(item)
				return out.WriteByte('\n')
			}, "charkha.export", opts)
			return errors.Join(err, out.Flush())
		},
	}
	cmd.Flags().StringVar(&feed, "feed", "", "one feed only")
	cmd.Flags().Bool("json", true, "JSON is the only form there is")
	return cmd
}
