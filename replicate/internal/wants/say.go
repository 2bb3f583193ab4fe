package wants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"charkha/identity"
)

// Entry is what is said of one blob: N below 0 is a want and its distance, above 0 the size of what the sender has.
type Entry struct {
	ID identity.BlobID
	N  int64
}

// ErrWants says that bytes are not what blobs.createWants gives.
var ErrWants = errors.New("not wants of blobs")

const maxInteger = 1 << 53

// Parse reads what a peer says on blobs.createWants. What is not a blob id, and numbers that are not integers, are left out, as
// JS peers do. Of two entries with one id the last counts. most bounds the entries.
func Parse(b []byte, most int) ([]Entry, error) {
	// Each entry has a colon. Counting them first keeps a body full of short keys from taking twenty times its size.
	if bytes.Count(b, []byte{':'}) > most {
		return nil, fmt.Errorf("%w: more than %d entries", ErrWants, most)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil || raw == nil {
		return nil, fmt.Errorf("%w: %v", ErrWants, err)
	}
	said := make([]Entry, 0, len(raw))
	for key, value := range raw {
		id, err := identity.ParseBlobID(key)
		if err != nil {
			continue
		}
		f, err := strconv.ParseFloat(string(value), 64)
		if err != nil || f != math.Trunc(f) || f == 0 { // an error, too, for what is infinite in JS, and so no integer
			continue
		}
		said = append(said, Entry{id, int64(max(-maxInteger, min(f, maxInteger)))})
	}
	slices.SortFunc(said, func(a, b Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) }) // the same body, the same order
	return said, nil
}

// JSON writes entries as one object.
func JSON(said []Entry) []byte {
	b := make([]byte, 0, 2+64*len(said))
	b = append(b, '{')
	for i, e := range said {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b, _ = e.ID.AppendText(b)
		b = append(b, `":`...)
		b = strconv.AppendInt(b, e.N, 10)
	}
	return append(b, '}')
}
