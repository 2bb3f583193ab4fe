package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
	"charkha/log/internal/classic"
)

// journal is a file beside the store, named own: the messages that were published since the store was last synced, and how far
// each feed that this log publishes to has come.
//
// It makes Publish quick: one small write into room that was allocated before, synced while the message is checked and handed to
// Badger, in place of both of Badger's files. And it makes Publish safe where Badger is not: bytes that rot in the middle of its
// write-ahead log take everything behind them without a trace. Open takes from here what the store has lost; where that is not
// enough, the feed is closed for Publish, because the next sequence would be signed a second time.
//
// Format: entries, then zeros. An entry is the CRC-32C of the rest, the length of its body in 4 bytes, a kind, and the body: for
// a head the feed's id, the sequence in 8 bytes and the key; for a message its bytes. Heads are written when they are on
// disk already, and are not synced; a head makes the messages of its feed that stand before it void. What does not begin with a whole entry
// is the end. When the file is full the store is synced, and a new file takes its place.
type journal struct {
	dir    string
	least  int64      // size of a new file
	file   *os.File   // under write
	end    int64      // where the next entry begins; under write
	size   int64      // of the file; under write
	feeds  []ownFeed  // under write
	unkept []ownEntry // messages that were read by open, in order; nil once Open is done
}

// ownFeed is how far a feed had come.
type ownFeed struct {
	id   identity.ID
	head Head
}

// ownEntry is a message in the journal.
type ownEntry struct {
	author identity.ID
	head   Head // that the feed has with it
	raw    []byte
}

const (
	journalSize = 1 << 20 // some thousand messages
	journalHead = 4 + 4 + 1
	ownHead     = 32 + 8 + 32

	headEntry    = 'h'
	messageEntry = 'm'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendEntry(dst []byte, kind byte, body ...[]byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, journalHead)...)
	for _, b := range body {
		dst = append(dst, b...)
	}
	e := dst[at:]
	binary.BigEndian.PutUint32(e[4:], uint32(len(e)-journalHead))
	e[8] = kind
	binary.BigEndian.PutUint32(e, crc32.Checksum(e[4:], castagnoli))
	return dst
}

func (f *ownFeed) appendEntry(dst []byte) []byte {
	return appendEntry(dst, headEntry, f.id[:], binary.BigEndian.AppendUint64(nil, uint64(f.head.Sequence)), f.head.Key[:])
}

// parseJournal reads entries up to the first that is not whole: the feeds, the messages that no head makes void, and where
// the next entry begins.
func parseJournal(b []byte) (feeds []ownFeed, messages []ownEntry, end int) {
	var j journal
	var s classic.Scanner
	for {
		e := b[end:]
		if len(e) < journalHead {
			return j.feeds, messages, end
		}
		size := uint64(binary.BigEndian.Uint32(e[4:])) + journalHead
		if size > uint64(len(e)) || crc32.Checksum(e[4:size], castagnoli) != binary.BigEndian.Uint32(e) {
			return j.feeds, messages, end
		}
		body := e[journalHead:size]
		switch {
		case e[8] == headEntry && len(body) == ownHead:
			id := identity.ID(body[:32])
			j.set(id, Head{Sequence: int64(binary.BigEndian.Uint64(body[32:])), Key: identity.MsgID(body[40:])})
			kept := messages[:0]
			for _, m := range messages {
				if m.author != id {
					kept = append(kept, m)
				}
			}
			messages = kept
		case e[8] == messageEntry:
			m, err := s.Scan(body)
			if err != nil {
				return j.feeds, messages, end
			}
			head := Head{Sequence: m.Sequence, Key: m.Key}
			j.set(m.Author, head)
			messages = append(messages, ownEntry{m.Author, head, body})
		default:
			return j.feeds, messages, end
		}
		end += int(size)
	}
}

func (j *journal) set(id identity.ID, head Head) {
	for i := range j.feeds {
		if j.feeds[i].id == id {
			j.feeds[i].head = head
			return
		}
	}
	j.feeds = append(j.feeds, ownFeed{id, head})
}

// of returns the head that is noted for a feed.
func (j *journal) of(id identity.ID) (head Head, ok bool) {
	for _, f := range j.feeds {
		if f.id == id {
			return f.head, true
		}
	}
	return Head{}, false
}

func (j *journal) path() string { return filepath.Join(j.dir, "own") }

// open reads the journal, or makes one. A tail that is not whole, as a power cut may leave it, is cleared.
func (j *journal) open(dir string, size int) error {
	j.dir, j.least = dir, int64(size)
	b, err := os.ReadFile(j.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	feeds, messages, end := parseJournal(b)
	j.feeds, j.unkept = feeds, messages
	j.end, j.size = int64(end), int64(len(b))
	for _, c := range b[end:] {
		if c != 0 {
			return j.write(b[:end], 0)
		}
	}
	if j.size < j.least {
		return j.write(b[:end], 0)
	}
	j.file, err = os.OpenFile(j.path(), os.O_RDWR, 0o600)
	return err
}

// write makes a new file of entries, with room for one with a body of so many bytes, and puts it in the place of the old one.
func (j *journal) write(entries []byte, room int) (err error) {
	next := j.path() + ".new"
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	// Zeros are written, not only reserved: later writes then change nothing but these blocks, which is what makes a sync quick.
	size := max(j.least, 2*int64(len(entries)+journalHead+room))
	b := make([]byte, size)
	copy(b, entries)
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := errors.Join(j.close(), os.Rename(next, j.path()), syncDir(j.dir)); err != nil {
		return err
	}
	if j.file, err = os.OpenFile(j.path(), os.O_RDWR, 0o600); err != nil {
		return err
	}
	j.end, j.size = int64(len(entries)), size
	return nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	f := j.file
	j.file = nil
	return f.Close()
}

// put writes an entry. The caller moves end when it is done.
func (j *journal) put(entry []byte) error {
	_, err := j.file.WriteAt(entry, j.end)
	return err
}

// roomInJournal makes room for an entry with a body of n bytes: the store is synced, and the heads are all that stays. The
// writer's lock is held. An error is final.
func (l *Log) roomInJournal(n int) error {
	if l.own.end+journalHead+int64(n) <= l.own.size {
		return nil
	}
	all, err := l.syncAll()
	if err == nil {
		var entries []byte
		if !all { // some of Badger's files cannot be synced now: nothing may leave the journal
			entries = make([]byte, l.own.end)
			_, err = l.own.file.ReadAt(entries, 0)
		} else {
			for i := range l.own.feeds {
				entries = l.own.feeds[i].appendEntry(entries)
			}
		}
		if err == nil {
			err = l.step("new journal", func() error { return l.own.write(entries, n) })
		}
	}
	if err != nil {
		err = fmt.Errorf("log: make room in %s: %w", l.own.path(), err)
		l.fail(err)
	}
	return err
}

// journalMessage makes an own message durable while its writer, who holds the lock, goes on; wait tells what became of it. The
// writer calls it before it gives the lock up.
func (l *Log) journalMessage(raw []byte) (wait func() error) {
	done := make(chan error, 1)
	entry := appendEntry(nil, messageEntry, raw)
	go func() {
		done <- l.step("journal", func() error {
			if err := l.own.put(entry); err != nil {
				return err
			}
			return syncData(l.own.file)
		})
	}()
	return sync.OnceValue(func() error { return <-done })
}

// noteOwn notes the head of a confirmed feed, which is on disk. The writer's lock is held. An error is final.
func (l *Log) noteOwn(id identity.ID, head Head) error {
	if had, ok := l.own.of(id); ok && had == head {
		return nil
	}
	if err := l.roomInJournal(ownHead); err != nil {
		return err
	}
	entry := (&ownFeed{id, head}).appendEntry(nil)
	if err := l.step("note", func() error { return l.own.put(entry) }); err != nil {
		err = fmt.Errorf("log: note the head of %s: %w", id.Short(), err)
		l.fail(err)
		return err
	}
	l.own.end += int64(len(entry))
	l.own.set(id, head)
	return nil
}

// Published returns how far a feed had come that this log published to, as far as it remembers: more than what it holds after
// damage took messages of it. 0: it never did.
func (l *Log) Published(id identity.ID) int64 {
	l.write.Lock()
	defer l.write.Unlock()
	head, _ := l.own.of(id)
	return head.Sequence
}

// shortFeeds are the feeds whose stored messages are not what the journal says.
func (l *Log) shortFeeds() (short []ownFeed) {
	for _, f := range l.own.feeds {
		if f.head.Sequence == 0 {
			continue
		}
		n, head := l.numberOf(f.id)
		if head >= f.head.Sequence {
			key, err := l.keyAt(n, f.head.Sequence)
			if err == nil && key == f.head.Key {
				continue
			}
			if err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
				l.o.Logger.Debug("message is damaged", "feed", f.id, "seq", f.head.Sequence, "err", err)
			}
		}
		short = append(short, f)
	}
	return short
}

// restoreOwn appends what the store lost of feeds, as far as the journal has it, and closes those for Publish that are not
// whole then.
func (l *Log) restoreOwn(short []ownFeed) error {
	for _, f := range short {
		head, _ := l.Head(f.id)
		var raws [][]byte
		for _, m := range l.own.unkept {
			if m.author == f.id && m.head.Sequence == head.Sequence+int64(len(raws))+1 {
				raws = append(raws, m.raw)
			}
		}
		// Another history is no reason to note a fork: a peer's evidence would be.
		if len(raws) == 0 || !l.follows(raws[0], head) {
			continue
		}
		results, err := l.Append(raws)
		if err != nil {
			return err
		}
		n := 0
		for _, r := range results {
			if r.Status == Stored {
				n++
			}
		}
		l.o.Logger.Warn("own messages that the store had lost were taken from the journal", "feed", f.id, "seq", head.Sequence+int64(n), "messages", n)
	}
	for _, f := range l.shortFeeds() {
		n, head := l.numberOf(f.id)
		l.o.Logger.Warn("messages of an own feed were lost: nothing is published before the feed was fetched from a peer",
			"feed", f.id, "seq", head, "had", f.head.Sequence)
		if !l.Confirmed(f.id) {
			continue
		}
		if err := l.update("unconfirm", func(txn *badger.Txn) error { return txn.Delete(confirmKey(f.id)) }); err != nil {
			return err
		}
		l.feeds[n].confirmed = false
	}
	return l.sync()
}

// follows reports whether a raw message is the next one after a head.
func (l *Log) follows(raw []byte, head Head) bool {
	var s classic.Scanner
	m, err := s.Scan(raw)
	return err == nil && m.CheckNext(head.Sequence, head.Key) == nil
}

// syncDir makes the names in a folder durable. Windows has no such call, and needs none for a rename.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil && runtime.GOOS != "windows" {
		return err
	}
	return nil
}
