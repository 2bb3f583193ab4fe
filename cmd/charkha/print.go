package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"

	"charkha/identity"
)

// safe takes the control characters out of a text that somebody else wrote: in a terminal they could move the cursor or
// hide what follows. Line ends and tabs stay.
func safe(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		// Cf holds the direction overrides with which a text can be shown backwards.
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != '\u200d' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// line is safe on one line.
func line(text string) string { return strings.ReplaceAll(safe(text), "\n", " ") }

// message is what the human forms show of a KVT.
type message struct {
	Key   identity.MsgID `json:"key"`
	Name  string         `json:"name"`
	Value struct {
		Author    identity.ID     `json:"author"`
		Sequence  float64         `json:"sequence"`
		Timestamp float64         `json:"timestamp"`
		Content   json.RawMessage `json:"content"`
	} `json:"value"`
}

// stamp shows a claimed time in milliseconds, which may be anything.
func stamp(ms float64) string {
	if !(ms > -62e12 && ms < 253e12) { // years 1 to 9999
		return "(no date)       "
	}
	return time.UnixMilli(int64(ms)).Local().Format("2006-01-02 15:04")
}

// printPost prints a post: who and when, the text, its id.
func printPost(w io.Writer, item []byte) error {
	var m message
	if err := json.Unmarshal(item, &m); err != nil {
		return err
	}
	var content struct {
		Text string `json:"text"`
	}
	_ = json.Unmarshal(m.Value.Content, &content) // a post without a text is shown empty
	name := line(m.Name)
	if name == "" {
		name = "(no name)"
	}
	text := strings.ReplaceAll(safe(strings.TrimSpace(content.Text)), "\n", "\n    ")
	_, err := fmt.Fprintf(w, "%s  %s  %s\n    %s\n    %s\n", stamp(m.Value.Timestamp), name, m.Value.Author, text, m.Key)
	return err
}

// printRow prints a message on one line.
func printRow(w io.Writer, item []byte) error {
	var m message
	if err := json.Unmarshal(item, &m); err != nil {
		return err
	}
	what, detail := "private", ""
	var content struct {
		Type    string          `json:"type"`
		Text    string          `json:"text"`
		Contact string          `json:"contact"`
		Name    json.RawMessage `json:"name"`
	}
	if len(m.Value.Content) > 0 && m.Value.Content[0] == '{' {
		_ = json.Unmarshal(m.Value.Content, &content) // fields of other types than ours are not shown
		what = content.Type
		detail = content.Text + content.Contact + string(content.Name)
	}
	detail = line(detail)
	if r := []rune(detail); len(r) > 60 {
		detail = string(r[:59]) + "…"
	}
	_, err := fmt.Fprintf(w, "%6.0f  %s  %-8s %s  %s\n", m.Value.Sequence, stamp(m.Value.Timestamp), line(what), m.Key, detail)
	return err
}

// size is a number of bytes: "1.5 MiB".
func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

// count is a number of things: "1 feed", "2,000 feeds".
func count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return humanize.Comma(n) + " " + thing + "s"
}
