package sched

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"charkha/identity"
)

// Saved is what is remembered of an address across restarts: an entry of conn.json.
type Saved struct {
	Text        string           // the address as the file has it
	Address     identity.Address // zero: not one that we understand; it is only written back
	Type        string           // of npm ssb-conn: "lan", "pub", "room", "room-attendant", "internet", ...; may be empty
	Kind        Kind             // follows from Type and Source
	Source      string
	Birth       time.Time // when it was first known
	StateChange time.Time // when it was last dialled, connected or disconnected
	News        time.Time // when its peer last had messages that we stored; a field of our own, "news"
	Failures    int       // attempts that failed since the last one that did not
	Duration    Duration  // of its connections, in ms; a failure counts as 0
	// Extra are the other fields of the entry, to be written back.
	Extra map[string]json.RawMessage
}

// Duration is npm statistics' running account of some numbers.
type Duration struct {
	Mean  float64 `json:"mean"`
	Stdev float64 `json:"stdev"`
	Count float64 `json:"count"`
	Sum   float64 `json:"sum"`
	Sqsum float64 `json:"sqsum"`
}

func (d *Duration) add(v float64) {
	d.Count++
	d.Sum += v
	d.Sqsum += v * v
	d.Mean = d.Sum / d.Count
	d.Stdev = math.Sqrt(max(0, d.Sqsum/d.Count-d.Mean*d.Mean))
	if math.IsInf(d.Sqsum, 0) || math.IsNaN(d.Sqsum) {
		*d = Duration{} // nonsense was read
	}
}

// proven reports whether there ever was a connection.
func (v *Saved) proven() bool {
	return v.Duration.Mean > 0 || !v.StateChange.IsZero() && v.Failures == 0
}

// ErrFile says that bytes are neither a conn.json nor a gossip.json.
var ErrFile = errors.New("neither a conn.json nor a gossip.json")

// maxSaved bounds the entries that are read.
const maxSaved = 20_000

// Parse reads a conn.json, or a gossip.json: an array of objects with an "address", or with host, port and key, those of
// neighbours left out. What follows the first JSON value is ignored, as ssb-conn-db does with a file whose end is broken; an entry
// that is no object is left out. No bytes are no entries.
func Parse(data []byte) ([]Saved, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	var raw json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	var all []Saved
	if raw[0] == '[' {
		var old []json.RawMessage
		if err := json.Unmarshal(raw, &old); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFile, err)
		}
		for _, r := range old {
			if v, ok := parseGossip(r); ok && len(all) < maxSaved {
				all = append(all, v)
			}
		}
		return all, nil
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil || entries == nil {
		return nil, fmt.Errorf("%w: %v", ErrFile, err)
	}
	texts := make([]string, 0, len(entries))
	for text := range entries {
		texts = append(texts, text)
	}
	slices.Sort(texts)
	for _, text := range texts {
		var fields map[string]json.RawMessage
		if text != "" && json.Unmarshal(entries[text], &fields) == nil && fields != nil && len(all) < maxSaved {
			all = append(all, parseEntry(text, fields))
		}
	}
	return all, nil
}

// parseGossip reads an element of a gossip.json. One without an address has host, port and key.
func parseGossip(raw json.RawMessage) (Saved, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return Saved{}, false
	}
	delete(fields, "state") // of a process that is no more
	text := take[string](fields, "address")
	if text == "" {
		var port json.Number // a number or its text
		_ = json.Unmarshal(fields["port"], &port)
		host, _ := peek[string](fields, "host")
		key, _ := peek[string](fields, "key")
		text = host + ":" + port.String() + ":" + key
	}
	addr, err := identity.ParseAddress(text)
	if err != nil {
		return Saved{}, false
	}
	v := parseEntry(addr.String(), fields)
	return v, v.Kind != LAN
}

func peek[T any](fields map[string]json.RawMessage, name string) (v T, ok bool) {
	ok = fields[name] != nil && json.Unmarshal(fields[name], &v) == nil
	return v, ok
}

// take reads a field that we know and removes it from the rest, unless it is of another type.
func take[T any](fields map[string]json.RawMessage, name string) T {
	v, ok := peek[T](fields, name)
	if !ok {
		var zero T
		return zero
	}
	delete(fields, name)
	return v
}

func takeTime(fields map[string]json.RawMessage, name string) time.Time {
	ms, ok := peek[float64](fields, name)
	if !ok || ms <= 0 || ms > 1<<52 {
		return time.Time{}
	}
	delete(fields, name)
	return time.UnixMilli(int64(ms))
}

func parseEntry(text string, fields map[string]json.RawMessage) Saved {
	v := Saved{Text: text, Extra: fields}
	addr, err := identity.ParseAddress(text)
	if err != nil {
		return v
	}
	v.Address = addr
	if key, ok := peek[string](fields, "key"); ok {
		if id, err := identity.ParseID(key); err == nil && id == addr.Key {
			delete(fields, "key") // it is written anew
		}
	}
	v.Type = take[string](fields, "type")
	v.Source = take[string](fields, "source")
	v.Birth = takeTime(fields, "birth")
	v.StateChange = takeTime(fields, "stateChange")
	v.News = takeTime(fields, "news")
	if f, ok := peek[float64](fields, "failure"); ok && f >= 0 {
		v.Failures = int(min(f, maxFailures))
		delete(fields, "failure")
	}
	v.Duration = take[Duration](fields, "duration")
	v.Kind = kindOf(v.Type, v.Source)
	return v
}

// kindOf is what an entry's type, or else its source, says (npm ssb-conn 6, conn-scheduler).
func kindOf(typ, source string) Kind {
	switch typ {
	case "lan", "bt":
		return LAN
	case "room-attendant", "room-endpoint", "room-attendant-alias":
		return Room
	case "pub", "room":
		return Pub
	case "":
		switch source {
		case "local":
			return LAN
		case "pub":
			return Pub
		}
	}
	return Other
}

var typeOf = [kinds]string{LAN: "lan", Room: "room-attendant", Pub: "pub", Other: "internet"}

// Marshal writes a conn.json.
func Marshal(all []Saved) []byte {
	out := make(map[string]map[string]json.RawMessage, len(all))
	for _, v := range all {
		text := v.Text
		if text == "" {
			text = v.Address.String()
		}
		fields := make(map[string]json.RawMessage, len(v.Extra)+8)
		for name, raw := range v.Extra {
			fields[name] = raw
		}
		if out[text] = fields; v.Address.Key.IsZero() {
			continue
		}
		put := func(name string, value any) {
			if raw, err := json.Marshal(value); err == nil {
				fields[name] = raw
			}
		}
		putTime := func(name string, t time.Time) {
			if !t.IsZero() {
				fields[name] = strconv.AppendInt(nil, t.UnixMilli(), 10)
			}
		}
		if _, ok := fields["key"]; !ok {
			put("key", v.Address.Key)
		}
		if v.Type != "" {
			put("type", v.Type)
		}
		if v.Source != "" {
			put("source", v.Source)
		}
		putTime("birth", v.Birth)
		putTime("stateChange", v.StateChange)
		putTime("news", v.News)
		if _, ok := fields["failure"]; !ok && !v.StateChange.IsZero() {
			put("failure", v.Failures)
		}
		if v.Duration.Count > 0 {
			put("duration", v.Duration)
		}
	}
	b, _ := json.MarshalIndent(out, "", "  ") // of plain values and JSON
	return append(b, '\n')
}

// Saved returns what is to be remembered across restarts: the addresses that led somewhere and those that are kept, told by the
// operator, or were in the file. Neighbours and peers in rooms are found anew, as JS peers do, unless they are kept.
func (s *Scheduler) Saved() []Saved {
	all := slices.Clone(s.foreign)
	for _, e := range s.entries {
		fromFile := e.saved != nil
		switch {
		case e.kept, fromFile && e.source != FromMessage:
		case e.kind == LAN, e.kind == Room, e.unproven(), !e.gone.IsZero():
			continue
		}
		v := Saved{Text: e.addr.String()}
		if fromFile {
			v = *e.saved
		}
		v.Duration = e.duration
		v.Address, v.Kind, v.Source = e.addr, e.kind, e.source
		if v.Type == "" && v.Source == "" || v.Type != "" && kindOf(v.Type, v.Source) != e.kind || v.Type == "" && kindOf("", v.Source) != e.kind {
			v.Type = typeOf[e.kind]
		}
		v.Birth, v.StateChange, v.News, v.Failures = e.birth, e.changed, e.news, e.failures
		if c := e.p.conn; c != nil && c.via == e {
			v.Failures = 0 // those of before it was reached say nothing after a restart
		}
		all = append(all, v)
	}
	slices.SortStableFunc(all, func(a, b Saved) int { return strings.Compare(a.Text, b.Text) })
	return all
}
