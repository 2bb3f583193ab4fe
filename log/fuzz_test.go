package log

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"charkha/identity"
	"charkha/log/internal/classic"
)

// What is decoded from any bytes is encoded to the same bytes again, or made whole anew from what was decoded.
func FuzzRecord(f *testing.F) {
	w := &writer{k: key(1)}
	var s classic.Scanner
	for _, raw := range w.many(f, 3) {
		c, err := s.Scan(raw)
		if err != nil {
			f.Fatal(err)
		}
		at := cap(c.Value) - cap(c.Content)
		m := Message{
			key: c.Key, previous: c.Previous, author: c.Author, sequence: c.Sequence, timestamp: c.Timestamp, received: 7, offset: 9,
			value: c.Value, content: int32(at), after: int32(at + len(c.Content)),
		}
		rec, _ := appendRecord(nil, &m, &parts{signature: c.Signature, seqFirst: c.SequenceFirst}, nil)
		f.Add(rec)
		rec, _ = appendRecord(nil, &m, &parts{}, nil) // not what the value has: it is kept whole
		if rec[0] != recordWhole {
			f.Fatalf("flags %d", rec[0])
		}
		f.Add(rec)
	}
	f.Fuzz(func(t *testing.T, rec []byte) {
		m, err := decodeRecord(rec, key(1).ID(), 2)
		k, kerr := recordKey(rec)
		if err != nil {
			return
		}
		if kerr != nil || k != m.Key() {
			t.Errorf("key %s, %v, want %s", k, kerr, m.Key())
		}
		if len(m.Content()) == 0 {
			t.Error("no content")
		}
		again, _ := appendRecord(nil, &m, &parts{}, nil)
		m2, err := decodeRecord(again, key(1).ID(), 2)
		if err != nil || string(m2.AppendKVT(nil)) != string(m.AppendKVT(nil)) || string(m2.Content()) != string(m.Content()) {
			t.Errorf("%v\n%s\n%s", err, m.AppendKVT(nil), m2.AppendKVT(nil))
		}
	})
}

func FuzzRuns(f *testing.F) {
	f.Add(uint64(0), run{author: 1, seq: 2, count: 3}.append(run{author: 1 << 30, seq: 1 << 31, count: 1}.append(nil)))
	f.Fuzz(func(t *testing.T, first uint64, b []byte) {
		first >>= 1
		runs, err := parseRuns(Offset(first), b)
		if err != nil {
			return
		}
		var again []byte
		at := Offset(first)
		for _, r := range runs {
			if r.first != at || r.count < 1 || r.seq < 0 {
				t.Errorf("run %+v at %d", r, at)
			}
			at = r.end()
			again = r.append(again)
		}
		got, err := parseRuns(Offset(first), again)
		if err != nil || len(got) != len(runs) || len(again) > len(b) {
			t.Errorf("%x became %x: %v", b, again, err)
		}
	})
}

func FuzzJournal(f *testing.F) {
	w := &writer{k: key(1)}
	head := (&ownFeed{key(2).ID(), Head{Sequence: 1 << 40, Key: identity.MsgID{5}}}).appendEntry(nil)
	f.Add(head)
	f.Add(appendEntry(appendEntry(head, messageEntry, w.next(f, "one")), messageEntry, w.next(f, "two")))
	f.Add((&ownFeed{w.k.ID(), Head{Sequence: 1}}).appendEntry(appendEntry(nil, messageEntry, w.next(f, "void"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		feeds, messages, end := parseJournal(b)
		again, of, to := parseJournal(b[:end])
		if to != end || !slices.Equal(again, feeds) || len(of) != len(messages) {
			t.Errorf("%x is read differently without what follows", b)
		}
		for _, m := range messages {
			if _, ok := (&journal{feeds: feeds}).of(m.author); !ok {
				t.Errorf("%x has a message of no feed", b)
			}
		}
	})
}

// Neither tables nor logs of any bytes make a panic; a table of which a byte differs is not whole.
func FuzzDamage(f *testing.F) {
	dir := f.TempDir()
	l, err := Open(Options{Dir: dir})
	if err != nil {
		f.Fatal(err)
	}
	appendAll(f, l, (&writer{k: key(1)}).many(f, 3)...)
	for _, name := range logFiles(dir) {
		b, err := readLog(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[logHead:], 0, byte(0))
	}
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	tables, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
	if len(tables) == 0 {
		f.Fatal("no table")
	}
	whole, err := os.ReadFile(tables[0])
	if err != nil {
		f.Fatal(err)
	}
	if !wholeTable(whole) {
		f.Fatal("a whole table is not recognised")
	}
	f.Add(whole, 3, byte(1))
	f.Add(whole, len(whole)-1, byte(0x80))
	f.Fuzz(func(t *testing.T, b []byte, at int, bits byte) {
		wholeTable(b)
		if at >= 0 && at < len(whole) && bits != 0 {
			bad := bytes.Clone(whole)
			bad[at] ^= bits
			if wholeTable(bad) {
				t.Errorf("byte %d differs, and the table counts as whole", at)
			}
		}
		r := bufio.NewReader(bytes.NewReader(b))
		for left := int64(len(b)); ; {
			size, ok := entrySize(r, left)
			if !ok || size == 0 {
				return
			}
			if size < 0 || size > left {
				t.Fatalf("an entry of %d bytes, %d are left", size, left)
			}
			if _, err := r.Discard(int(size)); err != nil {
				t.Fatal(err)
			}
			left -= size
		}
	})
}
