package log

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"

	"encoding/base64"

	"charkha/identity"
	"charkha/log/internal/classic"
)

// Offset is a place in the order of arrival, from 0 on. Some are empty: see the package doc.
type Offset uint64

// Head is the newest message of a feed.
type Head struct {
	Sequence int64
	Key      identity.MsgID
}

// Message is a stored message. Its bytes are shared: they may be kept but not changed.
type Message struct {
	key, previous  identity.MsgID
	author         identity.ID
	sequence       int64
	timestamp      float64
	received       float64
	offset         Offset
	value          []byte
	content, after int32 // the content is value[content:after]
}

// Key is the message's id.
func (m *Message) Key() identity.MsgID { return m.key }

// Author is the feed that the message belongs to.
func (m *Message) Author() identity.ID { return m.author }

// Sequence is the message's place in its feed, from 1 on.
func (m *Message) Sequence() int64 { return m.sequence }

// Previous is the id of the message before it, zero for the first.
func (m *Message) Previous() identity.MsgID { return m.previous }

// Timestamp is the time that the author claims, in milliseconds since 1970. It may be any number; 0 when it is none.
func (m *Message) Timestamp() float64 { return m.timestamp }

// Received is when the message was stored here, in milliseconds since 1970: unique, and rising with the offset.
func (m *Message) Received() float64 { return m.received }

// Offset is the message's place in the order of arrival.
func (m *Message) Offset() Offset { return m.offset }

// Value is the message as compact JSON, in the order of keys that was signed.
func (m *Message) Value() []byte { return m.value }

// Content is the content in Value: a JSON object, or a string when it is encrypted.
func (m *Message) Content() []byte { return m.value[m.content:m.after:m.after] }

// Private reports whether the content is encrypted.
func (m *Message) Private() bool { return m.value[m.content] == '"' }

// Type is content.type, "" when the content is encrypted.
func (m *Message) Type() string {
	if m.Private() {
		return ""
	}
	return classic.TypeOf(m.Content())
}

// AppendKVT appends the message as {"key","value","timestamp"}, the form in which SSB programs hand messages around;
// timestamp is Received.
func (m *Message) AppendKVT(dst []byte) []byte {
	dst = append(dst, `{"key":"`...)
	dst, _ = m.key.AppendText(dst)
	dst = append(dst, `","value":`...)
	dst = append(dst, m.value...)
	dst = append(dst, `,"timestamp":`...)
	dst = classic.AppendNumber(dst, m.received)
	return append(dst, '}')
}

// The first byte of a record.
const (
	recordWhole    = 1 << iota // the value follows as it is
	recordSeqFirst             // sequence stands before author
	recordNoPrev               // previous is null
)

// recordHead is the size of a record's fixed part: flags, received, offset, key.
const recordHead = 1 + 8 + 8 + 32

// errRecord says that a record's bytes are damaged.
var errRecord = errors.New("damaged record; open the log with Check, which cuts the feed back so that peers can send it again")

// parts is where the signed fields of a value stand, as a record keeps them.
type parts struct {
	signature [64]byte
	seqFirst  bool
}

// appendRecord appends the record of a message. What a classic message always says in the same way is left out when the
// value can be made again from the rest, which saves a third of the disk.
func appendRecord(dst []byte, m *Message, p *parts, scratch []byte) (rec, scratchOut []byte) {
	flags := byte(0)
	if p.seqFirst {
		flags |= recordSeqFirst
	}
	if m.previous.IsZero() {
		flags |= recordNoPrev
	}
	scratch, content, after := appendValue(scratch[:0], flags, m, &p.signature, m.Content())
	if string(scratch) != string(m.value) || content != int(m.content) || after != int(m.after) {
		flags = recordWhole
	}
	dst = append(dst, flags)
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(m.received))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.offset))
	dst = append(dst, m.key[:]...)
	if flags == recordWhole {
		dst = binary.BigEndian.AppendUint32(dst, uint32(m.content))
		dst = binary.BigEndian.AppendUint32(dst, uint32(m.after))
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(m.timestamp))
		dst = append(dst, m.previous[:]...)
		return append(dst, m.value...), scratch
	}
	if flags&recordNoPrev == 0 {
		dst = append(dst, m.previous[:]...)
	}
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(m.timestamp))
	dst = append(dst, p.signature[:]...)
	return append(dst, m.Content()...), scratch
}

// appendValue makes the value of a message from its fields.
func appendValue(dst []byte, flags byte, m *Message, sig *[64]byte, body []byte) (out []byte, content, after int) {
	dst = append(dst, `{"previous":`...)
	if flags&recordNoPrev != 0 {
		dst = append(dst, "null"...)
	} else {
		dst = append(dst, '"')
		dst, _ = m.previous.AppendText(dst)
		dst = append(dst, '"')
	}
	if flags&recordSeqFirst != 0 {
		dst = append(dst, `,"sequence":`...)
		dst = strconv.AppendInt(dst, m.sequence, 10)
	}
	dst = append(dst, `,"author":"`...)
	dst, _ = m.author.AppendText(dst)
	dst = append(dst, '"')
	if flags&recordSeqFirst == 0 {
		dst = append(dst, `,"sequence":`...)
		dst = strconv.AppendInt(dst, m.sequence, 10)
	}
	dst = append(dst, `,"timestamp":`...)
	dst = classic.AppendNumber(dst, m.timestamp)
	dst = append(dst, `,"hash":"sha256","content":`...)
	content = len(dst)
	dst = append(dst, body...)
	after = len(dst)
	dst = append(dst, `,"signature":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, sig[:])
	return append(dst, `.sig.ed25519"}`...), content, after
}

// valueOverhead is at least how much longer a value is than its content.
const valueOverhead = 400

// decodeRecord makes a message from its record. It copies what it keeps.
func decodeRecord(rec []byte, author identity.ID, sequence int64) (Message, error) {
	m := Message{author: author, sequence: sequence}
	if len(rec) < recordHead {
		return m, errRecord
	}
	flags := rec[0]
	m.received = math.Float64frombits(binary.BigEndian.Uint64(rec[1:]))
	m.offset = Offset(binary.BigEndian.Uint64(rec[9:]))
	m.key = identity.MsgID(rec[17:recordHead])
	rec = rec[recordHead:]
	if flags == recordWhole {
		if len(rec) < 4+4+8+32+2 {
			return m, errRecord
		}
		content, after := binary.BigEndian.Uint32(rec), binary.BigEndian.Uint32(rec[4:])
		m.timestamp = math.Float64frombits(binary.BigEndian.Uint64(rec[8:]))
		m.previous = identity.MsgID(rec[16:48])
		rec = rec[48:]
		if content >= after || uint64(after) > uint64(len(rec)) {
			return m, errRecord
		}
		m.value, m.content, m.after = append([]byte(nil), rec...), int32(content), int32(after)
		return m, nil
	}
	if flags&recordNoPrev == 0 {
		if len(rec) < 32 {
			return m, errRecord
		}
		m.previous = identity.MsgID(rec[:32])
		rec = rec[32:]
	}
	if len(rec) < 8+64+2 || flags&^(recordSeqFirst|recordNoPrev) != 0 {
		return m, errRecord
	}
	m.timestamp = math.Float64frombits(binary.BigEndian.Uint64(rec))
	sig := (*[64]byte)(rec[8:72])
	body := rec[72:]
	value, content, after := appendValue(make([]byte, 0, valueOverhead+len(body)), flags, &m, sig, body)
	m.value, m.content, m.after = value, int32(content), int32(after)
	return m, nil
}

// recordKey returns the message's id from a record, without decoding the rest.
func recordKey(rec []byte) (identity.MsgID, error) {
	if len(rec) < recordHead {
		return identity.MsgID{}, errRecord
	}
	return identity.MsgID(rec[17:recordHead]), nil
}
