package index

import (
	"encoding/binary"
	"iter"
	"math"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
	"charkha/log"
)

// timeline is the public posts by time. A post's time is what its author claims, or when it arrived, whichever is earlier: a
// claim of the future does not keep a post on top.
type timeline struct{}

func newTimeline() *timeline { return &timeline{} }

func (*timeline) name() string             { return "timeline" }
func (*timeline) version() uint32          { return 1 }
func (*timeline) prefix() byte             { return 'T' }
func (*timeline) load(_ *badger.Txn) error { return nil }
func (*timeline) committed()               {}
func (*timeline) clear()                   {}

func (t *timeline) add(txn *badger.Txn, m *log.Message) error {
	if m.Type() != "post" {
		return nil
	}
	// Floats that are not negative sort like their bits. Claims before 1970 all stand at the end.
	at := max(0, min(m.Timestamp(), m.Received()))
	key := binary.BigEndian.AppendUint64([]byte{t.prefix()}, math.Float64bits(at))
	key = binary.BigEndian.AppendUint64(key, uint64(m.Offset()))
	author := m.Author()
	value := binary.BigEndian.AppendUint64(author[:], uint64(m.Sequence()))
	return txn.Set(key, value)
}

// timelineChunk is how many rows are read in one transaction.
const timelineChunk = 200

// Timeline yields the public posts of the feeds in range, the newest first, at most limit of them; 0 is no limit. Range and
// blocks are those of when a post is yielded.
func (x *Index) Timeline(limit int) iter.Seq2[log.Message, error] {
	return func(yield func(log.Message, error) bool) {
		type row struct {
			author identity.ID
			seq    int64
		}
		left := limit
		from := []byte{x.timeline.prefix(), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		for from != nil {
			var chunk []row
			err := x.db.View(func(txn *badger.Txn) error {
				it := txn.NewIterator(badger.IteratorOptions{
					Reverse: true, Prefix: []byte{x.timeline.prefix()}, PrefetchValues: true, PrefetchSize: 100,
				})
				defer it.Close()
				after := from
				from = nil
				for it.Seek(after); it.Valid(); it.Next() {
					key := it.Item().KeyCopy(nil)
					if string(key) == string(after) {
						continue // the last of the chunk before
					}
					if err := it.Item().Value(func(v []byte) error {
						if len(v) != 40 {
							return errRow
						}
						chunk = append(chunk, row{identity.ID(v[:32]), int64(binary.BigEndian.Uint64(v[32:]))})
						return nil
					}); err != nil {
						return err
					}
					if len(chunk) == timelineChunk {
						from = key
						return nil
					}
				}
				return nil
			})
			if err != nil {
				yield(log.Message{}, err)
				return
			}
			for _, r := range chunk {
				if !x.Wanted(r.author) {
					continue
				}
				m, err := x.o.Log.At(r.author, r.seq)
				if !yield(m, err) || err != nil {
					return
				}
				if left--; left == 0 {
					return
				}
			}
		}
	}
}
