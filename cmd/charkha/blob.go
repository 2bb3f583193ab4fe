package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"charkha/blob/boxs"
	"charkha/identity"
	"charkha/muxrpc"
)

const blobForms = "ID is &...=.sha256, the same as a URI, ssb:blob/sha256/...=, or a link to an encrypted blob, &...=.sha256?unbox=....boxs"

func (c *cli) blobCommand() *cobra.Command {
	cmd := group("blob", "keep, fetch and share blobs: pictures and other files that messages link")
	cmd.AddCommand(
		c.blobAddCommand(), c.blobGetCommand(), c.blobListCommand(), c.blobWantCommand(), c.blobWhyCommand(),
		c.blobCall("push ID", "offer a blob to all peers until three of them have it, also after a restart", "blobs.push", "pushed"),
		c.blobCall("rm ID", "remove a blob from this node, and do not let it come back unless you ask for it", "blobs.rm", "removed"),
		c.blobCall("pin ID", "never let a blob go that is here, whatever the budget", "charkha.pinBlob", "pinned"),
		c.blobCall("unpin ID", "let a pinned blob go again when the budget is full", "charkha.pinBlob", "unpinned", false),
	)
	return cmd
}

// parseBlob reads the id of a blob, or a link to one with its key.
func parseBlob(cmd *cobra.Command, text string) (identity.BlobID, *boxs.Key, error) {
	id, key, err := boxs.ParseLink(text)
	if err != nil {
		return id, nil, usage(cmd, fmt.Errorf("%w; a blob id looks like &...=.sha256 or ssb:blob/sha256/...=", err))
	}
	return id, key, nil
}

// blobCall is a command that does one thing with a blob.
func (c *cli) blobCall(use, short, method, done string, args ...any) *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: use, Short: short, Long: sentence(short, blobForms), Args: takes("ID"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			id, _, err := parseBlob(cmd, ids[0])
			if err != nil {
				return err
			}
			if err := c.call(cmd, nil, method, append([]any{id}, args...)...); err != nil {
				return err
			}
			if method == "blobs.push" {
				var here bool
				if err := c.call(cmd, &here, "blobs.has", id); err != nil {
					return err
				}
				if !here {
					note(cmd, "it is not here: it is offered once it is ('charkha blob want %s')", id)
				}
			}
			if c.json {
				return printJSON(cmd, map[string]identity.BlobID{done: id})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), done, id)
			return err
		},
	})
}

// transferBar shows how far bytes are, on a terminal. size -1 is unknown.
func transferBar(size int64, what string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetVisibility(term.IsTerminal(int(os.Stderr.Fd()))),
		progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true), progressbar.OptionSetDescription(what), progressbar.OptionClearOnFinish())
}

func (c *cli) blobAddCommand() *cobra.Command {
	var encrypt, push bool
	cmd := &cobra.Command{
		Use: "add FILE", Short: "keep a file as a blob, and print its id (FILE may be - for standard input)",
		Long: `Keep a file as a blob, and print its id. It stays until 'charkha blob rm'. Messages link it by the id; whoever
has the id can read it.

With --encrypt it is encrypted as other SSB apps do it, and its link with the key is printed: who has the link can
read it, and who passes it on cannot.`,
		Example: `  charkha blob add photo.jpg
  echo '{"type":"post","text":"look","mentions":[{"link":"&...=.sha256","name":"photo.jpg"}]}' | charkha publish`,
		Args: takes("FILE"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault // files
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if encrypt && args[0] == "-" {
				return usage(cmd, errors.New("--encrypt reads the file twice: standard input cannot be encrypted"))
			}
			file, size, err := open(cmd, args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			content, link := io.Reader(file), ""
			var key boxs.Key
			if encrypt {
				if key, err = boxs.KeyFor(file); err != nil {
					return err
				}
				if f, ok := file.(io.Seeker); !ok {
					err = errors.ErrUnsupported
				} else {
					_, err = f.Seek(0, io.SeekStart)
				}
				if err != nil {
					return fmt.Errorf("%s cannot be read twice, as --encrypt needs it: %w", args[0], cause(err))
				}
			}
			bar := transferBar(size, "add")
			defer bar.Close()
			content = io.TeeReader(content, bar)
			if encrypt {
				r, w := io.Pipe()
				plain := content
				go func() { w.CloseWithError(boxs.Seal(w, plain, key)) }() // ends when r is closed
				defer r.Close()
				content = r
			}
			var id identity.BlobID
			err = c.with(cmd.Context(), func(ctx context.Context, conn *muxrpc.Conn) (err error) {
				if id, err = sendBlob(ctx, conn, content); err == nil && push {
					err = ask(ctx, conn, nil, "blobs.push", id)
				}
				return err
			})
			if err != nil {
				err = fmt.Errorf("add %s: %w", args[0], err)
				if strings.Contains(err.Error(), "larger than allowed") {
					err = &hinted{err, "a larger --blob-max lets it in, at the next start; many peers take no more than 5 MiB, so it may not get far"}
				}
				return err
			}
			_ = bar.Close() // before the answer stands on the terminal
			if link = id.String(); encrypt {
				link = boxs.Link(id, key)
			}
			if c.json {
				return printJSON(cmd, map[string]string{"id": id.String(), "link": link})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), link)
			return err
		},
	}
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "encrypt it, and print the link that opens it")
	cmd.Flags().BoolVar(&push, "push", false, "offer it to all peers, too, until three of them have it")
	return c.jsonFlag(cmd)
}

// sendBlob gives the node a blob, and returns its id when it is on the node's disk.
func sendBlob(ctx context.Context, conn *muxrpc.Conn, content io.Reader) (id identity.BlobID, err error) {
	s, err := conn.Sink(ctx, "blobs.add")
	if err != nil {
		return id, plain(err)
	}
	h := sha256.New()
	buf := make([]byte, 64<<10)
	for {
		n, rerr := io.ReadFull(content, buf)
		h.Write(buf[:n])
		if n > 0 && s.Send(muxrpc.Body{Type: muxrpc.Binary, Data: buf[:n]}) != nil {
			break // Recv says why
		}
		if rerr == io.EOF || rerr == io.ErrUnexpectedEOF {
			s.CloseSend(nil)
			break
		}
		if rerr != nil {
			s.CloseSend(rerr)
			return id, rerr
		}
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		return id, plain(err)
	}
	return identity.BlobID(h.Sum(nil)), nil
}

// blobReader reads a blob from the node, and compares it with its id at the end.
type blobReader struct {
	s    *muxrpc.Stream
	id   identity.BlobID
	sum  hash.Hash
	rest []byte
}

func openBlob(ctx context.Context, conn *muxrpc.Conn, id identity.BlobID) (*blobReader, error) {
	s, err := conn.Open(ctx, muxrpc.CallOptions{Kind: muxrpc.Source, Patient: true}, "blobs.get", id)
	return &blobReader{s: s, id: id, sum: sha256.New()}, plain(err)
}

func (r *blobReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		body, err := r.s.Recv()
		if errors.Is(err, io.EOF) {
			if [32]byte(r.sum.Sum(nil)) != r.id {
				return 0, fmt.Errorf("the bytes are not those of %s: the node's disk, or its file, is damaged", r.id)
			}
			return 0, io.EOF
		}
		if err != nil {
			return 0, plain(err)
		}
		r.sum.Write(body.Data)
		r.rest = body.Data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (c *cli) blobGetCommand() *cobra.Command {
	var (
		output  string
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use: "get ID", Short: "print a blob, or write it to a file; one that is not here is fetched from peers",
		Long: `Print a blob, or write it to a file. One that is not here is asked for from peers, and waited for; see --timeout.
Given the link to an encrypted blob, with its key, it is decrypted.

` + blobForms + ".",
		Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, key, err := parseBlob(cmd, args[0])
			if err != nil {
				return err
			}
			if timeout < 0 {
				return usage(cmd, fmt.Errorf("--timeout %s: must not be negative", timeout))
			}
			get := func(w io.Writer) error {
				return c.with(cmd.Context(), func(ctx context.Context, conn *muxrpc.Conn) error {
					size, err := c.await(ctx, conn, id, timeout)
					if err != nil {
						return err
					}
					if output == "" {
						size = -1 // the bytes show how far it is where they are seen
					}
					return readBlob(ctx, conn, w, id, key, size)
				})
			}
			if output == "" {
				return get(cmd.OutOrStdout())
			}
			return writeFile(output, get)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write it to (default: standard output)")
	_ = cmd.MarkFlagFilename("output") // fails for a flag that is not there
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for one that is not here, such as 5m; 0: until it comes")
	return cmd
}

// readBlob writes a blob that the node has, decrypted if there is a key. With a size there is a progress bar.
func readBlob(ctx context.Context, conn *muxrpc.Conn, w io.Writer, id identity.BlobID, key *boxs.Key, size int64) error {
	blob, err := openBlob(ctx, conn, id)
	if err != nil {
		return err
	}
	content := io.Reader(blob)
	if size >= 0 {
		bar := transferBar(size, "get")
		defer bar.Close()
		content = io.TeeReader(content, bar)
	}
	if key == nil {
		_, err = io.Copy(w, content)
		return err
	}
	open, err := boxs.Open(content, *key)
	if err == nil {
		_, err = io.Copy(w, open)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	return nil
}

// writeFile makes a file that is there whole, or not at all. What is there and no file, such as /dev/null or a pipe, is written to.
func writeFile(name string, write func(io.Writer) error) (err error) {
	if to, err := filepath.EvalSymlinks(name); err == nil {
		name = to // the link stays
	}
	temp := ""
	st, err := os.Stat(name)
	var f *os.File
	switch {
	case err == nil && st.IsDir():
		return fmt.Errorf("%s is a folder; name a file in it", name)
	case err == nil && !st.Mode().IsRegular():
		f, err = os.OpenFile(name, os.O_WRONLY, 0)
	default:
		temp = filepath.Join(filepath.Dir(name), ".charkha-"+rand.Text())
		f, err = os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) // less what the umask takes
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, cause(err))
	}
	err = write(f)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("write %s: %w", name, cause(cerr))
	}
	if temp == "" {
		return err
	}
	if err == nil {
		if err = os.Rename(temp, name); err != nil {
			err = fmt.Errorf("write %s: %w", name, cause(err))
		}
	}
	if err != nil {
		err = errors.Join(err, os.Remove(temp))
	}
	return err
}

// cause is why a file was not made or moved, without the name that it had meanwhile.
func cause(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

func (c *cli) blobWantCommand() *cobra.Command {
	var timeout time.Duration
	const short = "ask peers for a blob, wait until it is here, and tell meanwhile how that goes"
	cmd := &cobra.Command{
		Use: "want ID", Short: short, Long: sentence(short, "An interrupt ends the waiting: the blob stays wanted until the node stops. "+blobForms), Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, _, err := parseBlob(cmd, args[0])
			if err != nil {
				return err
			}
			if timeout < 0 {
				return usage(cmd, fmt.Errorf("--timeout %s: must not be negative", timeout))
			}
			var bytes int64
			err = c.with(cmd.Context(), func(ctx context.Context, conn *muxrpc.Conn) (err error) {
				bytes, err = c.await(ctx, conn, id, timeout)
				return err
			})
			if err != nil {
				return err
			}
			if c.json {
				return printJSON(cmd, map[string]any{"id": id, "size": bytes})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", id, size(bytes))
			return err
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up waiting after this long, such as 30s (default: never)")
	return c.jsonFlag(cmd)
}

// blobState is the answer to charkha.blob.
type blobState struct {
	ID      identity.BlobID `json:"id"`
	Verdict string          `json:"verdict"`
	Text    string          `json:"text"`
	Hint    string          `json:"hint"`
	Here    *keptBlob       `json:"here"`
	Want    *wantedBlob     `json:"want"`
	Linked  []somebody      `json:"linkedBy"`
}

// await has the node fetch a blob, and returns its size when it is here. Meanwhile it tells on standard error how that goes.
func (c *cli) await(ctx context.Context, conn *muxrpc.Conn, id identity.BlobID, timeout time.Duration) (size int64, err error) {
	var here *int64
	if err := ask(ctx, conn, &here, "blobs.size", id); err != nil || here != nil {
		return deref(here), err
	}
	waiting, cancel := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		waiting, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	g, waiting := errgroup.WithContext(waiting)
	arrived := errors.New("arrived")
	g.Go(func() error {
		if err := ask(waiting, conn, nil, "blobs.want", id); err != nil {
			return err
		}
		return arrived // ends the other one
	})
	g.Go(func() error {
		c.tellOf(waiting, conn, id)
		return nil
	})
	err = g.Wait()
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		var b blobState
		if err := ask(ctx, conn, &b, "charkha.blob", id); err != nil {
			return 0, err
		}
		return 0, &hinted{fmt.Errorf("%s did not arrive within %s: %s", id, timeout, line(b.Text)), cmp.Or(line(b.Hint), "it stays wanted: 'charkha blob why "+id.String()+"' tells how it stands")}
	}
	if !errors.Is(err, arrived) {
		return 0, err
	}
	err = ask(ctx, conn, &here, "blobs.size", id)
	return deref(here), err
}

func deref(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// tellAfter is how long somebody waits before being told why: most blobs come sooner, and peers have to answer first.
const tellAfter = time.Second

// tellOf tells on standard error how a blob stands that is waited for, until ctx ends: a line when that changes, and a bar while bytes come.
func (c *cli) tellOf(ctx context.Context, conn *muxrpc.Conn, id identity.BlobID) {
	s, err := conn.Source(ctx, "charkha.watch", "blob", id)
	if err != nil {
		return // who waits is told why
	}
	states := make(chan blobState)
	go func() { // ends when s is closed
		defer close(states)
		for {
			body, err := s.Recv()
			if err != nil {
				return
			}
			var b blobState
			if json.Unmarshal(body.Data, &b) == nil && b.Want != nil { // else asked before it was wanted, or here
				states <- b
			}
		}
	}()
	defer func() {
		s.Close()
		for range states { // until it has ended
		}
	}()
	var bar *progressbar.ProgressBar
	defer func() {
		if bar != nil {
			_ = bar.Close() // only looks
		}
	}()
	said, text := "", ""
	soon := time.After(tellAfter)
	for {
		select {
		case b, ok := <-states:
			if !ok {
				return
			}
			if b.Verdict == "arriving" {
				text = ""
				if bar == nil {
					bar = transferBar(b.Want.Size, "fetch")
					fmt.Fprintf(os.Stderr, "fetching %s from %s\n", size(b.Want.Size), people(b.Want.From))
				}
				_ = bar.Set64(b.Want.Got)
				continue
			}
			text = line(b.Text)
		case <-soon:
			soon = nil
		}
		if soon == nil && text != "" && text != said {
			if bar != nil {
				_ = bar.Clear()
			}
			fmt.Fprintln(os.Stderr, text)
			said = text
		}
	}
}

func people(all []somebody) string {
	var names []string
	for _, p := range all {
		names = append(names, person(p.ID, p.Name))
	}
	return cmp.Or(strings.Join(names, ", "), "a peer")
}

func (c *cli) blobWhyCommand() *cobra.Command {
	const short = "tell how a blob stands: why it is here, or who has it and why it does not come"
	return c.explaining(&cobra.Command{
		Use: "why ID", Short: short, Long: sentence(short, blobForms), Args: takes("ID"),
	}, "blob", func(cmd *cobra.Command, args []string) ([]any, error) {
		id, _, err := parseBlob(cmd, args[0])
		return []any{id}, err
	}, printBlob)
}

func printBlob(w io.Writer, answer []byte) error {
	var b blobState
	if err := json.Unmarshal(answer, &b); err != nil {
		return err
	}
	tw := table(w)
	row := func(key, format string, args ...any) { fmt.Fprintf(tw, "%s\t%s\n", key, fmt.Sprintf(format, args...)) }
	row("blob", "%s", b.ID)
	row(b.Verdict, "%s", line(b.Text))
	if b.Hint != "" {
		row("", "%s", line(b.Hint))
	}
	if h := b.Here; h != nil {
		row("size", "%s", size(h.Size))
		row("came", "%s", humanize.Time(time.UnixMilli(h.TS)))
	}
	for i, p := range b.Linked {
		row(label("linked by", i), "%s", person(p.ID, p.Name))
	}
	if want := b.Want; want != nil {
		row("wanted", "%s", want.since())
		if want.Size >= 0 {
			row("size", "%s, of which %s have come", size(want.Size), size(want.Got))
		}
		for i, p := range want.From {
			row(label("who has it", i), "%s", person(p.ID, p.Name))
		}
		if want.Last != "" {
			row("last try", "%s", line(want.Last))
		}
	}
	return tw.Flush()
}

// somebody is api.Person.
type somebody struct {
	ID   identity.ID `json:"id"`
	Name string      `json:"name"`
}

// keptBlob is api.KeptBlob.
type keptBlob struct {
	ID     identity.BlobID `json:"id"`
	Size   int64           `json:"size"`
	TS     int64           `json:"ts"`
	Own    bool            `json:"own"`
	Pinned bool            `json:"pinned"`
	Author *somebody       `json:"author"`
	Peer   *somebody       `json:"peer"`
}

// reason is why it is kept.
func (k *keptBlob) reason() string {
	switch {
	case k.Own:
		return "mine"
	case k.Pinned:
		return "pinned"
	case k.Author != nil:
		return person(k.Author.ID, k.Author.Name)
	case k.Peer != nil:
		return "peer " + person(k.Peer.ID, k.Peer.Name)
	}
	return "-"
}

// wantedBlob is api.WantedBlob.
type wantedBlob struct {
	ID    identity.BlobID `json:"id"`
	Since time.Time       `json:"since"`
	Hops  int             `json:"hops"`
	Size  int64           `json:"size"`
	Got   int64           `json:"got"`
	Last  string          `json:"lastError"`
	From  []somebody      `json:"from"`
	For   []somebody      `json:"for"`
}

func (w *wantedBlob) since() string {
	if w.Hops > 1 {
		return fmt.Sprintf("for %s, %s", people(w.For), humanize.Time(w.Since))
	}
	return humanize.Time(w.Since)
}

func (c *cli) blobListCommand() *cobra.Command {
	var wanted bool
	cmd := &cobra.Command{
		Use: "ls", Short: "list the blobs that are here, or those that are wanted: size, and for whom",
		Long: `List the blobs that are here: id, size, when it came, and for whom it is kept: me, or the person who linked it, or
the peer who brought it or asked for it. With --wanted those that are not here: how much of it came, and who has it.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wanted {
				return c.listWants(cmd)
			}
			print := c.printer(cmd, func(w io.Writer, item []byte) error {
				var k keptBlob
				if err := json.Unmarshal(item, &k); err != nil {
					return err
				}
				_, err := fmt.Fprintf(w, "%s  %8s  %s  %s\n", k.ID, size(k.Size), stamp(float64(k.TS)), k.reason())
				return err
			})
			blobs, err := c.each(cmd, print, "charkha.blobs")
			if err == nil && blobs == 0 {
				note(cmd, "there are no blobs here")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&wanted, "wanted", false, "those that are not here, and wanted")
	return c.jsonFlag(cmd)
}

func (c *cli) listWants(cmd *cobra.Command) error {
	var answer json.RawMessage
	if err := c.call(cmd, &answer, "charkha.blobWants"); err != nil {
		return err
	}
	if c.json {
		return c.printLines(cmd, answer)
	}
	var wants []wantedBlob
	if err := json.Unmarshal(answer, &wants); err != nil {
		return err
	}
	if len(wants) == 0 {
		note(cmd, "no blob is wanted")
		return nil
	}
	tw := table(cmd.OutOrStdout())
	fmt.Fprintln(tw, "BLOB\tWANTED\tSIZE\tGOT\tWHO HAS IT\tLAST TRY")
	for _, w := range wants {
		all, got, has := "?", "-", "nobody"
		if w.Size >= 0 {
			all = size(w.Size)
		}
		if w.Got > 0 {
			got = size(w.Got)
		}
		if len(w.From) > 0 {
			has = people(w.From)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", w.ID, w.since(), all, got, has, line(w.Last))
	}
	return tw.Flush()
}
