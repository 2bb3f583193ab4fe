package index

import (
	"encoding/binary"
	"errors"
	"iter"
	"math"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
	"charkha/log"
)

// timeline is the public posts by time. A post's time is what its author claims, or when it arrived, whichever is earlier: a
// claim of the future does not keep a post on top. A row is time, author, sequence -> nothing.
type timeline struct{}

func (timeline) name() string           { return "timeline" }
func (timeline) version() uint32        { return 2 }
func (timeline) prefix() byte           { return 'T' }
func (timeline) load(*badger.Txn) error { return nil }
func (timeline) begin()                 {}
func (timeline) committed()             {}
func (timeline) clear()                 {}

// post is the place of a post in the timeline.
type post struct {
	at     uint64 // the time, so that it sorts
	author identity.ID
	seq    int64
}

// postOf is where a message stands; false: it is no public post.
func postOf(m *message) (post, bool) {
	if m.Type() != "post" {
		return post{}, false
	}
	// Floats that are not negative sort like their bits. Claims before 1970 all stand at the end.
	at := max(0, min(m.Timestamp(), m.Received()))
	return post{math.Float64bits(at), m.Author(), m.Sequence()}, true
}

func (p post) key() []byte {
	key := binary.BigEndian.AppendUint64([]byte{timeline{}.prefix()}, p.at)
	return binary.BigEndian.AppendUint64(append(key, p.author[:]...), uint64(p.seq))
}

func parsePostKey(key []byte) (post, error) {
	if len(key) != 1+8+32+8 {
		return post{}, errRow
	}
	return post{binary.BigEndian.Uint64(key[1:]), identity.ID(key[9:41]), int64(binary.BigEndian.Uint64(key[41:]))}, nil
}

func (timeline) add(txn *badger.Txn, m *message) error {
	p, ok := postOf(m)
	if !ok {
		return nil
	}
	return txn.Set(p.key(), nil)
}

// timelineChunk is how many rows are read in one transaction: an open one keeps old files alive.
const timelineChunk = 200

// Timeline yields the public posts of the feeds in range, the newest first, at most limit of them; 0 is no limit. Range and
// blocks are those of when a post is yielded; what arrives meanwhile is in the next call's. An error ends it.
func (x *Index) Timeline(limit int) iter.Seq2[log.Message, error] {
	return func(yield func(log.Message, error) bool) {
		left := limit
		above := []byte{x.timeline.prefix() + 1} // rows below it are wanted
		chunk := make([]post, 0, timelineChunk)
		for {
			chunk = chunk[:0]
			err := x.look(func(txn *badger.Txn) error {
				it := txn.NewIterator(badger.IteratorOptions{Reverse: true, Prefix: []byte{x.timeline.prefix()}})
				defer it.Close()
				for it.Seek(above); it.Valid() && len(chunk) < timelineChunk; it.Next() {
					if string(it.Item().Key()) == string(above) {
						continue // the last of the chunk before
					}
					p, err := parsePostKey(it.Item().Key())
					if err != nil {
						return err
					}
					chunk = append(chunk, p)
				}
				return nil
			})
			if err != nil {
				yield(log.Message{}, err)
				return
			}
			if len(chunk) == 0 {
				return
			}
			for _, p := range chunk {
				if !x.Wanted(p.author) {
					continue
				}
				m, err := x.o.Log.At(p.author, p.seq)
				// A power cut may have taken a message out of the log, and it may have come again at another time.
				if errors.Is(err, log.ErrNotFound) {
					continue
				}
				if err != nil {
					yield(log.Message{}, err)
					return
				}
				if now, ok := postOf(&message{m, m.Type()}); !ok || now != p {
					continue
				}
				if !yield(m, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			above = chunk[len(chunk)-1].key()
		}
	}
}
