package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"charkha/identity"
)

// explaining is a command that prints the answer to a charkha.* method, and with --watch each that follows.
func (c *cli) explaining(cmd *cobra.Command, what string, arg func(cmd *cobra.Command, args []string) ([]any, error), print func(w io.Writer, answer []byte) error) *cobra.Command {
	var watch bool
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		with, err := arg(cmd, args)
		if err != nil {
			return err
		}
		if c.json {
			print = func(_ io.Writer, answer []byte) error { return c.printLines(cmd, answer) }
		}
		if !watch {
			var answer json.RawMessage
			if err := c.call(cmd, &answer, "charkha."+what, with...); err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), answer)
		}
		show := func(answer []byte) error { return print(cmd.OutOrStdout(), answer) }
		if !c.json {
			show = printChanges(cmd.OutOrStdout(), print)
		}
		if _, err := c.each(cmd, show, "charkha.watch", append([]any{what}, with...)...); err != nil {
			return err
		}
		return errStopped // it ends it in order then
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "go on, and print it again when it changes, until interrupted")
	return c.jsonFlag(cmd)
}

// printChanges prints each answer that does not read as the one before: much of what changes is not for people.
func printChanges(w io.Writer, print func(w io.Writer, answer []byte) error) func(answer []byte) error {
	var last []byte
	return func(answer []byte) error {
		var text bytes.Buffer
		if err := print(&text, answer); err != nil || bytes.Equal(text.Bytes(), last) {
			return err
		}
		if last != nil {
			fmt.Fprintf(w, "\n--- %s\n", time.Now().Format(time.TimeOnly))
		}
		last = text.Bytes()
		_, err := w.Write(last)
		return err
	}
}

// printLines prints JSON, the elements of an array on a line each.
func (c *cli) printLines(cmd *cobra.Command, answer []byte) error {
	var items []json.RawMessage
	if json.Unmarshal(answer, &items) != nil {
		items = []json.RawMessage{answer}
	}
	for _, item := range items {
		if err := printJSON(cmd, item); err != nil {
			return err
		}
	}
	return nil
}

func noArgument(*cobra.Command, []string) ([]any, error) { return nil, nil }

func (c *cli) statusCommand() *cobra.Command {
	return c.explaining(&cobra.Command{
		Use: "status", Short: "print what the node holds, wants and is connected to, and how far it is", Args: takes(),
	}, "status", noArgument, printStatus)
}

func (c *cli) peersCommand() *cobra.Command {
	const short = "list connections and known addresses: how each stands, and why"
	return c.explaining(&cobra.Command{
		Use: "peers", Short: short, Args: takes(),
		Long: sentence(short, `KIND is lan (a neighbour on the local network), room (reached through a room), pub (a pub or a room) or other. IN and OUT are what
came over the connection and went. MISSING are the feeds of which the peer says to have more than we`),
	}, "peers", noArgument, printPeers)
}

func (c *cli) whyCommand() *cobra.Command {
	const short = "tell how a feed stands, and why it does not arrive"
	return c.explaining(&cobra.Command{
		Use: "why ID", Short: short, Long: sentence(short, feedForms), Args: takes("ID"),
	}, "why", func(cmd *cobra.Command, args []string) ([]any, error) {
		feed, err := parseFeed(cmd, args[0])
		return []any{feed}, err
	}, printWhy)
}

func (c *cli) heldByCommand() *cobra.Command {
	const short = "list the peers that say to hold a message"
	return c.explaining(&cobra.Command{
		Use: "held-by MSGID", Short: short, Long: sentence(short, msgForms+".\nOnly peers that speak EBT say what they hold"), Args: takes("MSGID"),
	}, "heldBy", func(cmd *cobra.Command, args []string) ([]any, error) {
		msg, err := parseMsg(cmd, args[0])
		return []any{msg}, err
	}, printHeldBy)
}

func (c *cli) doctorCommand() *cobra.Command {
	cmd := group("doctor", "look for what is in the way")
	cmd.AddCommand(c.explaining(&cobra.Command{
		Use: "lan", Short: "tell how the search for peers on the local network goes", Args: takes(),
	}, "lan", noArgument, printLAN))
	return cmd
}

// group is a command that is nothing but others.
func group(use, short string) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return noCommand(cmd, args[0])
	}
	return cmd
}

// table lines columns up.
func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

func printStatus(w io.Writer, answer []byte) error {
	var st struct {
		ID        identity.ID `json:"id"`
		Version   string      `json:"version"`
		Addresses []string    `json:"addresses"`
		Hops      int64       `json:"hops"`
		Feeds     int64       `json:"feeds"`
		Wanted    int64       `json:"wanted"`
		Messages  int64       `json:"messages"`
		Unindexed int64       `json:"unindexed"`
		Progress  progress    `json:"progress"`
		Own       struct {
			Sequence int64 `json:"sequence"`
		} `json:"own"`
		Connected int `json:"connected"`
		Forks     []struct {
			Feed     identity.ID    `json:"feed"`
			Sequence int64          `json:"sequence"`
			Kept     identity.MsgID `json:"kept"`
			Other    identity.MsgID `json:"other"`
		} `json:"forks"`
		Blobs *struct {
			Blobs, Bytes, Own, Budget, Evicted, Wanted int64
			Authors, Peers                             []bytesOf
		} `json:"blobs"`
		Warnings []string `json:"warnings"`
	}
	if err := json.Unmarshal(answer, &st); err != nil {
		return err
	}
	tw := table(w)
	row := func(key, format string, args ...any) { fmt.Fprintf(tw, "%s\t%s\n", key, fmt.Sprintf(format, args...)) }
	row("id", "%s", st.ID)
	for _, a := range st.Addresses {
		row("address", "%s", a)
	}
	row("messages", "%s of %s", humanize.Comma(st.Messages), count(st.Feeds, "feed"))
	row("wanted", "%s within %s", count(st.Wanted, "feed"), count(st.Hops, "hop"))
	row("progress", "%s", st.Progress.text(st.Unindexed, st.Connected))
	if st.Unindexed > 0 {
		row("index", "%s behind", count(st.Unindexed, "message"))
	} else {
		row("index", "up to date")
	}
	row("own feed", "%s", count(st.Own.Sequence, "message"))
	row("peers", "%d connected", st.Connected)
	if b := st.Blobs; b != nil {
		text := fmt.Sprintf("%s, %s", count(b.Blobs, "blob"), size(b.Bytes))
		if b.Own > 0 {
			text += fmt.Sprintf(", of which %s stay", size(b.Own))
		}
		if b.Budget > 0 {
			text += fmt.Sprintf("; others may take %s", size(b.Budget))
		}
		if b.Evicted > 0 {
			text += fmt.Sprintf("; %s left to make room", humanize.Comma(b.Evicted))
		}
		if b.Wanted > 0 {
			text += fmt.Sprintf("; %s wanted", humanize.Comma(b.Wanted))
		}
		row("blobs", "%s", text)
		for i, p := range b.Authors {
			row(label("  by author", i), "%s %s", size(p.Bytes), person(p.ID, p.Name))
		}
		for i, p := range b.Peers {
			row(label("  by peer", i), "%s %s", size(p.Bytes), person(p.ID, p.Name))
		}
	}
	for _, f := range st.Forks {
		row("FORKED", "%s at %d: %s and %s; the feed stops there", f.Feed, f.Sequence, f.Kept, f.Other)
	}
	for _, text := range st.Warnings {
		row("WARNING", "%s", text)
	}
	return tw.Flush()
}

// bytesOf is api.BytesOf.
type bytesOf struct {
	somebody
	Bytes int64 `json:"bytes"`
}

// progress is replicate.Progress.
type progress struct {
	Feeds    int64   `json:"feeds"`
	Missing  int64   `json:"missing"`
	Fetched  int64   `json:"fetched"`
	Verified int64   `json:"verified"`
	Rate     float64 `json:"rate"`
	Left     float64 `json:"leftSec"`
}

// text is one line of how far the node is.
func (p progress) text(unindexed int64, connected int) string {
	if p.Missing == 0 && unindexed == 0 {
		if connected == 0 {
			return "nobody is connected, so it is not known what is missing"
		}
		return "up to date, as far as the connected peers say"
	}
	// A message has three steps to go: it is fetched, verified, and indexed. The figure is the last one's, so that it never
	// claims too much.
	done := max(p.Verified-unindexed, 0)
	all := max(p.Verified, done+unindexed) + p.Missing
	text := fmt.Sprintf("%.0f %%: %s missing of %s", math.Floor(100*float64(done)/float64(all)), count(p.Missing, "message"), count(p.Feeds, "feed"))
	text += fmt.Sprintf("; %s fetched, %s verified, %s to be indexed", humanize.Comma(p.Fetched), humanize.Comma(p.Verified), humanize.Comma(unindexed))
	if p.Missing == 0 {
		return text
	}
	if p.Rate < 0.05 {
		return text + "; nothing arrives at the moment"
	}
	text += fmt.Sprintf("; %s/s", humanize.CommafWithDigits(p.Rate, 1))
	if p.Left > 0 && p.Left < 1e6 {
		text += fmt.Sprintf(", about %s left", (time.Duration(p.Left) * time.Second).Round(time.Second))
	}
	return text
}

// peer is an element of charkha.peers.
type peer struct {
	Key      identity.ID `json:"key"`
	Name     string      `json:"name"`
	Address  string      `json:"address"`
	Kind     string      `json:"kind"`
	State    string      `json:"state"`
	Outgoing bool        `json:"outgoing"`
	Kept     bool        `json:"kept"`
	Since    time.Time   `json:"since"`
	Via      string      `json:"via"`
	Received int64       `json:"received"`
	Sent     int64       `json:"sent"`
	BytesIn  uint64      `json:"bytesIn"`
	BytesOut uint64      `json:"bytesOut"`
	Missing  int64       `json:"missing"`
	Note     string      `json:"note"`
}

// person is a feed's id, and its name when there is one.
func person(id identity.ID, name string) string {
	if name = line(name); name == "" {
		return id.String()
	}
	if r := []rune(name); len(r) > 24 {
		name = string(r[:23]) + "…"
	}
	return id.String() + " " + name
}

func printPeers(w io.Writer, answer []byte) error {
	var peers []peer
	if err := json.Unmarshal(answer, &peers); err != nil {
		return err
	}
	if len(peers) == 0 {
		_, err := fmt.Fprintln(w, "no peers; 'charkha connect ADDR' makes a connection, 'charkha invite accept CODE' too, and 'charkha doctor lan' tells of the local network")
		return err
	}
	tw := table(w)
	fmt.Fprintln(tw, "PEER\tKIND\tSTATE\tSINCE\tIN\tOUT\tMISSING\tADDRESS, NOTE")
	for _, p := range peers {
		state := p.State
		in, out, missing := "-", "-", "-"
		if state == "connected" {
			direction := "in"
			if p.Outgoing {
				direction = "out"
			}
			state += ", " + cmp.Or(strings.Join(strings.Fields(direction+" "+p.Via), ", "))
			in, out = traffic(p.BytesIn, p.Received), traffic(p.BytesOut, p.Sent)
			missing = "none"
			if p.Missing > 0 {
				missing = count(p.Missing, "feed")
			} else if p.Via != "ebt" {
				missing = "?" // it does not say what it has
			}
		}
		since := "-"
		if !p.Since.IsZero() {
			since = humanize.Time(p.Since)
		}
		note := slices.DeleteFunc([]string{p.Address, line(p.Note)}, func(s string) bool { return s == "" })
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", person(p.Key, p.Name), p.Kind, state, since, in, out, missing, strings.Join(note, ": "))
	}
	return tw.Flush()
}

// traffic is bytes and messages.
func traffic(bytes uint64, messages int64) string {
	return fmt.Sprintf("%s, %s", humanize.Bytes(bytes), strings.Replace(count(messages, "message"), "message", "msg", 1))
}

func printWhy(w io.Writer, answer []byte) error {
	var y struct {
		Feed    identity.ID `json:"feed"`
		Name    string      `json:"name"`
		Verdict string      `json:"verdict"`
		Text    string      `json:"text"`
		Hint    string      `json:"hint"`
		Wanted  bool        `json:"wanted"`
		Hops    *int64      `json:"hops"`
		Through []struct {
			ID   identity.ID `json:"id"`
			Name string      `json:"name"`
		} `json:"through"`
		BlockedBy []struct {
			ID   identity.ID `json:"id"`
			Name string      `json:"name"`
		} `json:"blockedBy"`
		Head   int64 `json:"head"`
		Claims []struct {
			Peer     identity.ID `json:"peer"`
			Name     string      `json:"name"`
			Sequence int64       `json:"sequence"`
			Asked    time.Time   `json:"asked"`
			Stalled  bool        `json:"stalled"`
			Refused  bool        `json:"refused"`
			Blocked  bool        `json:"blocked"`
		} `json:"claims"`
		Silent int64  `json:"silent"`
		Reach  []peer `json:"reach"`
	}
	if err := json.Unmarshal(answer, &y); err != nil {
		return err
	}
	tw := table(w)
	row := func(key, format string, args ...any) { fmt.Fprintf(tw, "%s\t%s\n", key, fmt.Sprintf(format, args...)) }
	row("feed", "%s", person(y.Feed, y.Name))
	row(y.Verdict, "%s", line(y.Text))
	if y.Hint != "" {
		row("", "%s", line(y.Hint))
	}
	wanted := "no"
	if y.Wanted {
		wanted = "yes"
	}
	switch {
	case y.Hops == nil:
		wanted += ", nobody in range speaks of it"
	case *y.Hops == 0:
		wanted += ", it is ours"
	case *y.Hops > 0:
		wanted += ", " + count(*y.Hops, "hop") + " away"
	}
	row("wanted", "%s", wanted)
	if y.Hops != nil && *y.Hops == 0 {
		y.Through = nil
	}
	for i, p := range y.Through {
		row(label("through", i), "%s", person(p.ID, p.Name))
	}
	for i, p := range y.BlockedBy {
		row(label("blocked by", i), "%s", person(p.ID, p.Name))
	}
	row("held here", "%s", count(y.Head, "message"))
	for i, c := range y.Claims {
		state := "says to have " + count(max(c.Sequence, 0), "message")
		switch {
		case c.Sequence < 0:
			state = "does not exchange it"
		case c.Blocked:
			state += "; the author blocks it, so nothing of the feed goes to it or comes from it"
		case c.Refused:
			state += "; what it sent was refused"
		case c.Stalled:
			state += "; it was asked for more, and sent nothing"
		case !c.Asked.IsZero() && c.Sequence > y.Head:
			state += "; it was asked for more, or last sent some, " + humanize.Time(c.Asked)
		}
		row(label("peers", i), "%s: %s", person(c.Peer, c.Name), state)
	}
	if y.Silent > 0 {
		text := "1 peer says nothing of it"
		if y.Silent > 1 {
			text = count(y.Silent, "peer") + " say nothing of it"
		}
		row(label("peers", len(y.Claims)), "%s", text)
	}
	for i, p := range y.Reach {
		row(label("its author", i), "%s", strings.Join(slices.DeleteFunc([]string{p.State, p.Address, line(p.Note)}, func(s string) bool { return s == "" }), ": "))
	}
	return tw.Flush()
}

// label is the label of the first of several rows.
func label(text string, i int) string {
	if i > 0 {
		return ""
	}
	return text
}

func printHeldBy(w io.Writer, answer []byte) error {
	var h struct {
		Text    string `json:"text"`
		Holders []struct {
			Peer      identity.ID `json:"peer"`
			Name      string      `json:"name"`
			Connected bool        `json:"connected"`
			Pub       bool        `json:"pub"`
		} `json:"holders"`
	}
	if err := json.Unmarshal(answer, &h); err != nil {
		return err
	}
	fmt.Fprintln(w, h.Text)
	for _, p := range h.Holders {
		text := person(p.Peer, p.Name)
		if p.Pub {
			text += ", a pub"
		}
		if !p.Connected {
			text += ", not connected now"
		}
		fmt.Fprintln(w, "  "+text)
	}
	return nil
}

func printLAN(w io.Writer, answer []byte) error {
	var r struct {
		Problem    string `json:"problem"`
		Interfaces []struct {
			Name           string               `json:"name"`
			Unused         string               `json:"unused"`
			Addresses      []string             `json:"addresses"`
			Announced      []string             `json:"announced"`
			LastSent       time.Time            `json:"lastSent"`
			SendError      string               `json:"sendError"`
			HeardOurselves map[string]time.Time `json:"heardOurselves"`
		} `json:"interfaces"`
		Neighbours []struct {
			Address   string    `json:"address"`
			By        []string  `json:"by"`
			Verified  bool      `json:"verified"`
			Interface string    `json:"interface"`
			Last      time.Time `json:"last"`
		} `json:"neighbours"`
		Sockets []struct {
			Means, Family, Error string
			Port                 int
		} `json:"sockets"`
		Dropped map[string]uint64 `json:"dropped"`
	}
	if err := json.Unmarshal(answer, &r); err != nil {
		return err
	}
	tw := table(w)
	row := func(key, format string, args ...any) { fmt.Fprintf(tw, "%s\t%s\n", key, fmt.Sprintf(format, args...)) }
	if r.Problem != "" {
		row("PROBLEM", "%s", line(r.Problem))
	}
	for _, i := range r.Interfaces {
		if i.Unused != "" {
			row(i.Name, "not used: %s", i.Unused)
			continue
		}
		row(i.Name, "%s", cmp.Or(strings.Join(i.Addresses, " "), "no address"))
		for _, a := range i.Announced {
			row("", "announced: %s", a)
		}
		if i.SendError != "" {
			row("", "PROBLEM: sending failed: %s", line(i.SendError))
		}
		var heard []string
		for _, means := range []string{"plain", "signed", "mdns"} {
			if at, ok := i.HeardOurselves[means]; ok {
				heard = append(heard, fmt.Sprintf("%s %s", means, humanize.Time(at)))
			}
		}
		switch {
		case len(heard) > 0:
			row("", "we hear ourselves: %s", strings.Join(heard, ", "))
		case !i.LastSent.IsZero():
			row("", "we do NOT hear ourselves: the network or a firewall may swallow what is sent")
		}
	}
	for _, s := range r.Sockets {
		if s.Error != "" {
			row("port", "UDP %d over %s (%s) cannot be listened at: %s", s.Port, s.Family, s.Means, line(s.Error))
		}
	}
	if len(r.Interfaces) > 0 && len(r.Neighbours) == 0 {
		row("neighbours", "none is heard")
	}
	for i, n := range r.Neighbours {
		proof := "not proven until it is connected"
		if n.Verified {
			proof = "signed"
		}
		row(label("neighbours", i), "%s by %s on %s, %s, last heard %s", n.Address, strings.Join(n.By, ", "), n.Interface, proof, humanize.Time(n.Last))
	}
	var dropped []string
	for what, words := range map[string]string{"budget": "too many", "offLink": "from elsewhere", "garbage": "not understood or of another network", "forged": "with a wrong signature"} {
		if n := r.Dropped[what]; n > 0 {
			dropped = append(dropped, fmt.Sprintf("%s %s", humanize.Comma(int64(n)), words))
		}
	}
	if slices.Sort(dropped); len(dropped) > 0 {
		row("dropped", "packets: %s", strings.Join(dropped, ", "))
	}
	return tw.Flush()
}

// printRooms prints the rooms that we are in.
func printRooms(w io.Writer, answer []byte) error {
	var rooms []struct {
		Key        identity.ID   `json:"key"`
		Name       string        `json:"name"`
		Version    int           `json:"version"`
		Member     bool          `json:"member"`
		Features   []string      `json:"features"`
		Attendants []identity.ID `json:"attendants"`
		TurnedAway []identity.ID `json:"turnedAway"`
	}
	if err := json.Unmarshal(answer, &rooms); err != nil {
		return err
	}
	if len(rooms) == 0 {
		_, err := fmt.Fprintln(w, "in no room; 'charkha connect ADDR' or 'charkha invite accept CODE' leads into one, and 'charkha peers' says why a known one is not reached")
		return err
	}
	var b bytes.Buffer
	for _, r := range rooms {
		fmt.Fprintf(&b, "%s: version %d", person(r.Key, r.Name), r.Version)
		if r.Version > 1 && !r.Member {
			b.WriteString(", you are not a member")
		}
		if len(r.Features) > 0 {
			fmt.Fprintf(&b, ", %s", line(strings.Join(r.Features, " ")))
		}
		fmt.Fprintf(&b, "\n  %s in it\n", count(int64(len(r.Attendants)), "person"))
		for _, id := range r.Attendants {
			fmt.Fprintf(&b, "  %s\n", id)
		}
		if len(r.TurnedAway) > 0 {
			fmt.Fprintf(&b, "  turned away, as you do not follow them:\n")
		}
		for _, id := range r.TurnedAway {
			fmt.Fprintf(&b, "  %s\n", id)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}
