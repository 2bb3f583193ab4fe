package ebt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"

	"charkha/identity"
)

// None is the sequence of a feed that a peer does not replicate.
const None = -1

// maxSequence is the highest sequence that a note can say to JS.
const maxSequence = 1<<30 - 1

// Note is what is said about one feed.
type Note int64

// MakeNote says that we have a feed up to seq, and whether we want what follows. None says that we do not replicate it.
func MakeNote(seq int64, receive bool) Note {
	if seq == None {
		return None
	}
	n := Note(min(seq, maxSequence)) << 1
	if !receive {
		n |= 1
	}
	return n
}

// Sequence is how far the sender has the feed, None when it does not replicate it.
func (n Note) Sequence() int64 { return int64(n >> 1) }

// Receive reports whether the sender wants what follows.
func (n Note) Receive() bool { return n&1 == 0 }

// Replicate reports whether the sender replicates the feed.
func (n Note) Replicate() bool { return n != None }

// Notes is what a peer says about feeds.
type Notes map[identity.ID]Note

// ErrNotes says that bytes are not notes.
var ErrNotes = errors.New("not EBT notes")

// ParseNotes reads notes. What is not about a feed id of the classic form is left out, and so is what is not a number, as JS
// peers do (old ones asked for things that are no feeds). A number that is not an integer, or out of range, says None.
// most bounds the entries.
func ParseNotes(b []byte, most int) (Notes, error) {
	// Each entry has a colon. Counting them first keeps a body full of short keys from taking twenty times its size.
	if bytes.Count(b, []byte{':'}) > most+1 {
		return nil, fmt.Errorf("%w: more than %d entries", ErrNotes, most)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil || raw == nil {
		return nil, fmt.Errorf("%w: %v", ErrNotes, err)
	}
	// The form {clock: {...}} leaves room for other things beside it (epidemic-broadcast-trees, events.js).
	if inner, ok := raw["clock"]; ok && len(inner) > 0 && inner[0] == '{' {
		raw = nil
		if err := json.Unmarshal(inner, &raw); err != nil {
			return nil, fmt.Errorf("%w: %v", ErrNotes, err)
		}
	}
	notes := make(Notes, len(raw))
	for key, value := range raw {
		id, err := identity.ParseID(key)
		if err != nil {
			continue
		}
		f, err := strconv.ParseFloat(string(value), 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			continue
		}
		if f != math.Trunc(f) || f < None || f > maxSequence<<1|1 {
			notes[id] = None
		} else {
			notes[id] = Note(f)
		}
	}
	return notes, nil
}

// maxNotes is about the most bytes of one object of notes: peers may bound what they take as one body at 64 KiB.
const maxNotes = 32 << 10

// JSON yields the notes as JSON objects of a size that every peer takes. Empty notes are one empty object.
func (n Notes) JSON() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		b := []byte{'{'}
		for id, note := range n {
			if len(b) > maxNotes {
				if !yield(append(b, '}')) {
					return
				}
				b = append(b[:0], '{')
			}
			if len(b) > 1 {
				b = append(b, ',')
			}
			b = append(b, '"')
			b, _ = id.AppendText(b)
			b = append(b, `":`...)
			b = strconv.AppendInt(b, int64(note), 10)
		}
		yield(append(b, '}'))
	}
}

// Clock is how far a peer is known to have feeds; None: it does not replicate the feed.
type Clock map[identity.ID]int64
