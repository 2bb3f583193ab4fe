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

	"charkha/identity"
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
		Args: takes("FILE"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault // files
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			file, size, err := open(cmd, args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			var total counts
			// An interrupt ends the reading only: what was sent by then is stored, and counted.
			err = c.with(context.WithoutCancel(cmd.Context()), func(ctx context.Context, conn *muxrpc.Conn) (err error) {
				total, err = importFrom(cmd.Context(), ctx, conn, file, size)
				return err
			})
			if errors.Is(err, context.Canceled) {
				err = errors.New("interrupted")
			}
			if err != nil && total != (counts{}) {
				err = fmt.Errorf("%w (%s stored before)", err, count(total.Stored, "message"))
			}
			if err != nil {
				return fmt.Errorf("import %s: %w", args[0], err)
			}
			if c.json {
				err = printJSON(cmd, total)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "stored %d\nduplicate %d\ngap %d\nfork %d\ninvalid %d\n",
					total.Stored, total.Duplicate, total.Gap, total.Fork, total.Invalid)
			}
			if refused := total.Gap + total.Fork + total.Invalid; err == nil && refused > 0 {
				return fmt.Errorf("import %s: refused %s", args[0], count(refused, "message"))
			}
			return err
		},
	})
}

// importFrom sends the messages of a file to the node and returns what became of them. It stops reading when reading ends;
// ctx is the connection's.
func importFrom(reading, ctx context.Context, conn *muxrpc.Conn, file io.Reader, size int64) (total counts, err error) {
	bar := progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetVisibility(term.IsTerminal(int(os.Stderr.Fd()))),
		progressbar.OptionShowBytes(true), progressbar.OptionSetDescription("import"), progressbar.OptionClearOnFinish())
	defer bar.Close()

	// When the node goes away, the next line of a slow file is not waited for.
	g, reading := errgroup.WithContext(reading)
	lines, err := lineReader(io.TeeReader(&interruptible{ctx: reading, r: file}, bar))
	if err != nil {
		return counts{}, err
	}
	s, err := conn.Open(ctx, muxrpc.CallOptions{Kind: muxrpc.Duplex, Patient: true}, "charkha.import")
	if err != nil {
		return counts{}, plain(err)
	}
	var (
		mu     sync.Mutex
		lineOf []int32                      // the line of each message that was sent: the node numbers messages, people want lines (under mu)
		local  int64                        // lines that hold no message: they are told here and not sent (the sender's, until Wait)
		told   = refusals{clear: bar.Clear} // both goroutines'
	)
	g.Go(func() error {
		// Also after an error: the node is to tell what became of the lines before.
		defer s.CloseSend(nil)
		for n := int32(1); ; n++ {
			line, err := lines.next()
			if reading.Err() != nil {
				return context.Cause(reading)
			}
			if err != nil && !errors.Is(err, errLongLine) {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			var raw []byte
			if err == nil {
				if line = bytes.TrimSpace(line); len(line) == 0 {
					continue
				}
				raw, err = messageOf(line)
			}
			if err != nil {
				local++
				told.tell("line %d: invalid: %v", n, err)
				continue
			}
			mu.Lock()
			lineOf = append(lineOf, n)
			mu.Unlock()
			if err := s.SendJSON(raw); err != nil {
				return plain(err)
			}
		}
	})
	g.Go(func() error { // total is its own, until Wait
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
					Number   int         `json:"number"`
					Status   string      `json:"status"`
					Feed     identity.ID `json:"feed"`
					Sequence int64       `json:"sequence"`
					Error    string      `json:"error"`
				} `json:"refused"`
			}
			if err := json.Unmarshal(body.Data, &report); err != nil {
				return err
			}
			total = report.counts
			for _, r := range report.Refused {
				mu.Lock()
				n := int32(0)
				if r.Number >= 1 && r.Number <= len(lineOf) {
					n = lineOf[r.Number-1]
				}
				mu.Unlock()
				what := ""
				if !r.Feed.IsZero() {
					what = fmt.Sprintf("message %d of %s: ", r.Sequence, r.Feed)
				}
				told.tell("line %d: %s: %s%s", n, r.Status, what, line(r.Error))
			}
		}
	})
	err = g.Wait()
	total.Invalid += local
	told.end()
	return total, err
}

// refusals tells of the first messages that were refused, and counts the others.
type refusals struct {
	clear func() error // takes the progress bar out of the way
	mu    sync.Mutex
	n     int64 // under mu
}

func (r *refusals) tell(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n++; r.n <= shownRefusals {
		_ = r.clear() // only looks
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}
}

func (r *refusals) end() {
	if more := r.n - shownRefusals; more > 0 {
		_ = r.clear() // only looks
		fmt.Fprintf(os.Stderr, "and %s\n", count(more, "more refusal"))
	}
}

// lines reads a file by lines.
type lines struct{ r *bufio.Reader }

// errLongLine is a line that was passed over.
var errLongLine = fmt.Errorf("over %d bytes are too long for a line", maxLine)

// lineReader reads lines, unpacked when the stream is gzipped, without the byte order mark that some programs begin with.
func lineReader(r io.Reader) (lines, error) {
	br := bufio.NewReaderSize(r, maxLine)
	if head, _ := br.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		zr, err := gzip.NewReader(br)
		if err != nil {
			return lines{}, err
		}
		br = bufio.NewReaderSize(zr, maxLine)
	}
	const mark = "\ufeff"
	if head, _ := br.Peek(len(mark)); string(head) == mark {
		br.Discard(len(mark))
	}
	return lines{br}, nil
}

// next returns the next line, which is valid until the next call. The error is errLongLine, io.EOF at the end, or the
// reader's; what stands between the last line and that is no line.
func (l lines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = l.r.ReadSlice('\n')
		}
		if err == nil || errors.Is(err, io.EOF) {
			err = errLongLine
		}
		return nil, err
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = nil
	}
	return line, err
}

// messageOf finds the signed message in a line: the value of a KVT, or the line itself. The bytes are the line's.
func messageOf(line []byte) ([]byte, error) {
	raw, err := memberOf(line, "value")
	if err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if len(raw) == 0 || raw[0] != '{' {
		raw = line
	}
	if len(raw) > maxRaw {
		return nil, fmt.Errorf("%d bytes are too long for a message", len(raw))
	}
	return raw, nil
}

// memberOf returns the value of the member of a JSON object with this name, of the last one when there are several; nil
// when there is none. It does not look into values further than it must to find their ends: what is a message is checked
// by the node, and what stands around it does not matter. Decoding the line takes twenty times as long.
func memberOf(object []byte, name string) (value []byte, err error) {
	b, i := object, 0
	space := func() {
		for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
			i++
		}
	}
	take := func(c byte) bool {
		space()
		if i < len(b) && b[i] == c {
			i++
			return true
		}
		return false
	}
	bad := func(wanted string) error {
		if i >= len(b) {
			return fmt.Errorf("it ends where %s should stand", wanted)
		}
		return fmt.Errorf("byte %d is %q where %s should stand", i+1, b[i], wanted)
	}
	if !take('{') {
		return nil, bad("{")
	}
	for more := !take('}'); more; {
		space()
		start := i
		if i = endOfText(b, i); i < 0 {
			i = start
			return nil, bad("a name")
		}
		found := isText(b[start:i], name)
		if !take(':') {
			return nil, bad(":")
		}
		space()
		start = i
		if i = endOfValue(b, i); i < 0 {
			i = start
			return nil, bad("a value")
		}
		if found {
			value = b[start:i]
		}
		if more = take(','); !more && !take('}') {
			return nil, bad("} or ,")
		}
	}
	if space(); i < len(b) {
		return nil, bad("the end")
	}
	return value, nil
}

// isText reports whether a JSON string is name, which needs no escapes but may be spelled with some.
func isText(quoted []byte, name string) bool {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1:len(quoted)-1]) == name
	}
	var text string
	return json.Unmarshal(quoted, &text) == nil && text == name
}

// endOfText returns where the string ends that begins at i, or -1 when there is none.
func endOfText(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	for i++; ; i++ {
		quote := bytes.IndexByte(b[i:], '"')
		if quote < 0 {
			return -1
		}
		start := i
		i += quote
		escapes := 0
		for j := i - 1; j >= start && b[j] == '\\'; j-- {
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
}

// endOfValue returns where the value ends that begins at i, or -1 when there is none.
func endOfValue(b []byte, i int) int {
	for depth, start := 0, i; i < len(b); {
		switch b[i] {
		case '"':
			if i = endOfText(b, i); i < 0 {
				return -1
			}
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return endOfScalar(start, i)
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return endOfScalar(start, i)
			}
		}
		i++
	}
	return -1
}

// endOfScalar is where a number, true, false or null ends, which has at least one byte.
func endOfScalar(start, end int) int {
	if end == start {
		return -1
	}
	return end
}

func (c *cli) exportCommand() *cobra.Command {
	var (
		feed   string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use: "export", Short: `print the signed messages held, as JSON lines {"key", "value", "timestamp"}`,
		Long: `Print the signed messages held, as JSON lines {"key", "value", "timestamp"}: all in the order in which they
arrived, or one feed's by sequence. The value stands byte for byte as it is stored and sent; timestamp is when it
arrived here. 'charkha import' reads it back.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if !asJSON {
				return usage(cmd, errors.New("--json=false: JSON is the only form there is"))
			}
			opts := map[string]any{}
			if feed != "" {
				id, err := parseFeed(cmd, feed)
				if err != nil {
					return err
				}
				opts["id"] = id
			}
			out := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
			messages, err := c.each(cmd, func(item []byte) error {
				out.Write(item)
				return out.WriteByte('\n')
			}, "charkha.export", opts)
			if err == nil {
				err = out.Flush()
			}
			switch {
			case err != nil || messages > 0:
			case feed != "":
				note(cmd, "no message of %s is held", opts["id"])
			default:
				note(cmd, "no messages are held")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&feed, "feed", "", "one feed only: its id, or the ssb: URI of it")
	cmd.Flags().BoolVar(&asJSON, "json", true, "JSON is the only form there is")
	return cmd
}
