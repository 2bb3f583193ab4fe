package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
)

// ownNote is a small file beside the store that says how far the confirmed feeds had come. After damage to the store, say
// bytes that rotted in the middle of Badger's write-ahead log, everything behind them is gone without a trace, and the next
// Publish would sign a sequence a second time. The note tells, and closes the feed for Publish.
//
// It is written after the message was synced, and not synced itself: what it says was always on disk before. It is empty
// or of an earlier time when a power cut took it.
//
// Format: CRC-32C of the rest; then for each feed the id, the sequence in 8 bytes, and the key of the head.
type ownNote struct {
	file  *os.File
	feeds []ownFeed // under write
}

type ownFeed struct {
	id   identity.ID
	head Head
}

const ownSize = 32 + 8 + 32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (o *ownNote) open(dir string) (err error) {
	if o.file, err = os.OpenFile(filepath.Join(dir, "own"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	b, err := io.ReadAll(o.file)
	if err != nil {
		return err
	}
	o.feeds = parseOwn(b)
	return nil
}

// parseOwn returns nothing when the note is damaged.
func parseOwn(b []byte) (feeds []ownFeed) {
	if len(b) < 4 || (len(b)-4)%ownSize != 0 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return nil
	}
	for b = b[4:]; len(b) > 0; b = b[ownSize:] {
		feeds = append(feeds, ownFeed{
			id:   identity.ID(b[:32]),
			head: Head{Sequence: int64(binary.BigEndian.Uint64(b[32:])), Key: identity.MsgID(b[40:ownSize])},
		})
	}
	return feeds
}

func (o *ownNote) append(dst []byte) []byte {
	dst = append(dst, 0, 0, 0, 0)
	for _, f := range o.feeds {
		dst = append(dst, f.id[:]...)
		dst = binary.BigEndian.AppendUint64(dst, uint64(f.head.Sequence))
		dst = append(dst, f.head.Key[:]...)
	}
	binary.BigEndian.PutUint32(dst, crc32.Checksum(dst[4:], castagnoli))
	return dst
}

func (o *ownNote) set(id identity.ID, head Head) {
	for i := range o.feeds {
		if o.feeds[i].id == id {
			o.feeds[i].head = head
			return
		}
	}
	o.feeds = append(o.feeds, ownFeed{id, head})
}

func (o *ownNote) close() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}

// noteOwn notes the head of a confirmed feed, which is on disk. The writer's lock is held. An error is final.
func (l *Log) noteOwn(id identity.ID, head Head) error {
	l.own.set(id, head)
	err := l.step("note", func() error {
		_, err := l.own.file.WriteAt(l.own.append(nil), 0)
		return err
	})
	if err != nil {
		err = fmt.Errorf("log: note the head of %s: %w", id.Short(), err)
		l.fail(err)
	}
	return err
}

// Published returns how far a feed had come that this log published to, as far as it remembers: more than what it holds after
// damage took messages of it. 0: it never did.
func (l *Log) Published(id identity.ID) int64 {
	l.write.Lock()
	defer l.write.Unlock()
	for _, f := range l.own.feeds {
		if f.id == id {
			return f.head.Sequence
		}
	}
	return 0
}

// checkOwn closes confirmed feeds for Publish that are not what the note says. lost reports that there are such feeds.
func (l *Log) checkOwn() (lost bool, err error) {
	for _, f := range l.own.feeds {
		n, head := l.numberOf(f.id)
		if f.head.Sequence == 0 {
			continue
		}
		if head >= f.head.Sequence {
			key, err := l.keyAt(n, f.head.Sequence)
			if err == nil && key == f.head.Key {
				continue
			}
			if err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
				l.o.Logger.Debug("message is damaged", "feed", f.id, "seq", f.head.Sequence, "err", err)
			}
		}
		lost = true
		l.o.Logger.Warn("messages of an own feed were lost: nothing is published before the feed was fetched from a peer",
			"feed", f.id, "seq", head, "had", f.head.Sequence)
		if !l.Confirmed(f.id) {
			continue
		}
		if err := l.update("unconfirm", func(txn *badger.Txn) error { return txn.Delete(confirmKey(f.id)) }); err != nil {
			return lost, err
		}
		l.feeds[n].confirmed = false
	}
	return lost, nil
}
