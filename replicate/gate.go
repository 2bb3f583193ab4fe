package replicate

import (
	"encoding/json"

	"charkha/identity"
	"charkha/log"
)

// gate decides which messages of a feed may go to a peer: none while its author blocks the peer. A block that stands in the
// feed but that the graph has not taken in yet counts too, so that what follows it does not slip through.
type gate struct {
	n          *Network
	feed, peer identity.ID
	looked     int64 // contact messages up to here were looked at
}

// open reports whether m may go.
func (g *gate) open(m *log.Message) (bool, error) {
	if g.n.o.Graph.Blocks(g.feed, g.peer) {
		return false, nil
	}
	if m.Sequence() <= g.looked || !contactBlocks(m, g.peer) {
		return true, nil
	}
	// The author blocks the peer here. Was that taken back since? The newest word counts.
	head := m.Sequence()
	for later, err := range g.n.o.Log.Feed(g.feed, log.Range{From: m.Sequence(), Reverse: true}) {
		if err != nil {
			return false, err
		}
		head = max(head, later.Sequence())
		if contactOf(&later) == g.peer {
			if contactBlocks(&later, g.peer) {
				return false, nil
			}
			break
		}
	}
	g.looked = head
	return true, nil
}

// contactOf is whom a contact message is about, the zero ID when m is none.
func contactOf(m *log.Message) identity.ID {
	if m.Type() != "contact" {
		return identity.ID{}
	}
	fields := fieldsOf(m)
	text, _ := fields["contact"].(string)
	id, err := identity.ParseID(text)
	if err != nil {
		return identity.ID{}
	}
	return id
}

// fieldsOf decodes the content of m. Not into a struct: encoding/json would take "Blocking" for "blocking".
func fieldsOf(m *log.Message) (fields map[string]any) {
	_ = json.Unmarshal(m.Content(), &fields) // it is an object: the log has it
	return fields
}

// contactBlocks reports whether m says that its author blocks somebody.
func contactBlocks(m *log.Message, who identity.ID) bool {
	if contactOf(m) != who {
		return false
	}
	fields := fieldsOf(m)
	return truthy(fields["blocking"]) || truthy(fields["flagged"])
}

// truthy is JavaScript's truth of a decoded JSON value.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	}
	return true
}
