package sched

import (
	"fmt"
	"slices"
	"time"

	"charkha/identity"
)

// State is how an address stands.
type State string

// The states of an address.
const (
	Connected State = "connected"  // its key is, over this address or otherwise
	Dialling  State = "connecting" // an attempt is under way, to this address or to another one of its key
	Waiting   State = "waiting"    // for Status.Until, or for a slot
	Blocked   State = "blocked"    // we block its key
	Gone      State = "gone"       // nobody says any more that it is there
)

// Status tells how an address stands, for people and programs.
type Status struct {
	Address   identity.Address `json:"address"`
	Kind      Kind             `json:"kind"`
	Source    string           `json:"source,omitempty"`
	Kept      bool             `json:"kept,omitempty"`
	State     State            `json:"state"`
	Since     time.Time        `json:"since,omitzero"` // of the connection, the attempt, the waiting
	Until     time.Time        `json:"until,omitzero"` // not dialled before
	Why       string           `json:"why"`            // in words
	Failures  int              `json:"failures,omitempty"`
	LastError string           `json:"lastError,omitempty"`
}

// Statuses tells of each known address how it stands, in the order in which they became known. Blocked keys are marked as
// such even if they are being dropped.
func (s *Scheduler) Statuses(now time.Time) []Status {
	var taken [kinds]int
	for _, p := range s.peers {
		if e := p.dialling; e != nil && !e.kept {
			taken[e.kind]++
		}
		if p.conn.takesSlot() {
			taken[p.conn.kind]++
		}
	}
	all := make([]Status, 0, len(s.entries))
	for _, e := range s.entries {
		all = append(all, s.status(now, e, taken[e.kind]))
	}
	return all
}

func (s *Scheduler) status(now time.Time, e *entry, taken int) Status {
	p := e.p
	t := Status{
		Address: e.addr, Kind: e.kind, Source: e.source, Kept: e.kept, State: Waiting, Since: e.changed,
		Failures: e.failures, LastError: e.err,
	}
	until := later(e.until, p.until)
	after := ""
	if e.failures > 0 {
		after = fmt.Sprintf(" after %s", times(e.failures, "failure"))
		if e.err != "" {
			after += ": " + e.err
		}
	}
	switch c := p.conn; {
	case s.o.Blocked(p.id):
		t.State, t.Why = Blocked, "its key is blocked: it is not dialled"
	case c != nil && c.dropping != "":
		t.State, t.Since, t.Why = Connected, c.since, "being disconnected: "+c.dropping
	case c != nil:
		t.State, t.Since = Connected, c.since
		t.Why = "connected for " + about(now.Sub(c.since))
		switch {
		case !c.outgoing:
			t.Why += ", they dialled"
		case c.via != e:
			t.Why += ", over another address"
		}
		if c.owes > 0 {
			t.Why += fmt.Sprintf("; it owes us %s and sent nothing for %s",
				times(c.owes, "feed"), about(now.Sub(c.waitsFrom())))
		} else if !c.news.IsZero() {
			t.Why += fmt.Sprintf("; it had news %s ago", about(now.Sub(c.news)))
		} else if c.mute {
			t.Why += "; it has said nothing yet"
		}
	case p.dialling == e:
		t.State, t.Why = Dialling, "being dialled for "+about(now.Sub(e.changed))
	case p.dialling != nil:
		t.State, t.Since, t.Why = Dialling, p.dialling.changed, "another address of the same key is being dialled"
	case !e.gone.IsZero() && !e.kept:
		t.State, t.Since, t.Why = Gone, e.gone, fmt.Sprintf("not seen for %s: it is dialled when it is back", about(now.Sub(e.gone)))
	case s.paused:
		t.Why = "dialling is paused by a local program" + after
	case now.Before(until):
		t.Until = until
		t.Why = fmt.Sprintf("waits for %s", about(until.Sub(now)))
		switch {
		case now.Before(p.penalty):
			t.Why += " because it did not send what it promised"
			if e.err != "" {
				t.Why += ": " + e.err
			}
		case after != "":
			t.Why += after
		case p.failures > 0:
			t.Why += " because other addresses of its key failed"
		default:
			t.Why += " since it was disconnected"
		}
	case e.kept:
		t.Why = "about to be dialled"
	case taken >= s.o.Slots[e.kind]:
		t.Since = p.waiting
		t.Why = fmt.Sprintf("waits for one of the %d slots for %s, all taken, since %s", s.o.Slots[e.kind], plural[e.kind], about(now.Sub(p.waiting)))
		if e.unproven() {
			t.Why += "; nobody has reached it yet, so it is tried when one is free, or as one of a few beside them"
		}
	default:
		t.Why = "about to be dialled"
	}
	return t
}

// Of tells how the addresses of one key stand.
func (s *Scheduler) Of(now time.Time, id identity.ID) []Status {
	return slices.DeleteFunc(s.Statuses(now), func(t Status) bool { return t.Address.Key != id })
}

var plural = [kinds]string{"neighbours", "peers in rooms", "pubs", "other peers"}

func times(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// about is a time as people say it.
func about(d time.Duration) string {
	switch {
	case d < time.Second:
		return "a moment"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
