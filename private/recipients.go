package private

import (
	"bytes"
	"encoding/json"
	"fmt"

	"charkha/identity"
)

// Recipients reads the field recps of a content object that is to be published: for whom it must be closed. ok is false when
// there is no such field, or when it is null: the message is public. Everything else that is not a list of one to seven
// feeds is ErrRecipients: what somebody meant to be private is never published in the open.
//
// A feed is an id, an ssb: URI of the classic format, or an object with such a text as its link, as mentions have it. A
// single one may stand without the array (npm ssb-db 20 autobox.js, ssb-box 1 format.js). JS peers publish content whose
// recps is "", 0 or false in the open; here these are errors. The order and repetitions are kept.
func Recipients(content json.RawMessage) (ids []identity.ID, ok bool, err error) {
	var fields map[string]json.RawMessage // of equal keys the last one counts, as in JS
	if err := json.Unmarshal(content, &fields); err != nil {
		return nil, false, fmt.Errorf("recps: the content is no object: %w", ErrRecipients)
	}
	recps, there := fields["recps"]
	if !there || string(bytes.TrimSpace(recps)) == "null" {
		return nil, false, nil
	}
	list := []json.RawMessage{recps}
	if bytes.HasPrefix(bytes.TrimSpace(recps), []byte("[")) {
		if err := json.Unmarshal(recps, &list); err != nil {
			return nil, false, fmt.Errorf("recps: %w: %w", err, ErrRecipients)
		}
	}
	if n := len(list); n == 0 || n > MaxRecipients {
		return nil, false, fmt.Errorf("recps: %d recipients, which must be 1 to %d: %w", n, MaxRecipients, ErrRecipients)
	}
	for _, raw := range list {
		id, err := recipient(raw)
		if err != nil {
			return nil, false, err
		}
		ids = append(ids, id)
	}
	return ids, true, nil
}

// recipient reads one entry of recps.
func recipient(raw json.RawMessage) (identity.ID, error) {
	var text string
	if json.Unmarshal(raw, &text) != nil || text == "" {
		var link map[string]json.RawMessage
		if json.Unmarshal(raw, &link) != nil || json.Unmarshal(link["link"], &text) != nil {
			return identity.ID{}, fmt.Errorf("recps: %s is neither a feed id nor a link to one: %w", clip(raw), ErrRecipients)
		}
	}
	if id, err := identity.ParseID(text); err == nil {
		return id, nil
	}
	if ref, err := identity.ParseURI(text); err == nil {
		if id, ok := ref.(identity.ID); ok {
			return id, nil
		}
	}
	return identity.ID{}, fmt.Errorf("recps: %s is not a feed id: %w", clip(raw), ErrRecipients)
}

// clip shortens a value for an error message.
func clip(raw []byte) string {
	if len(raw) > 80 {
		return string(raw[:80]) + "..."
	}
	return string(raw)
}
