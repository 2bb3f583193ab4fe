package index

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"unicode/utf16"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
	"charkha/log"
)

// key makes a fixed key pair.
func key(n int) identity.KeyPair {
	return identity.FromSeed([32]byte{byte(n), byte(n >> 8), byte(n >> 16), 'i'})
}

// author signs the messages of one feed.
type author struct {
	k    identity.KeyPair
	seq  int64
	prev identity.MsgID
}

func newAuthor(n int) *author { return &author{k: key(n)} }

func newAuthors(n int) []*author {
	all := make([]*author, n)
	for i := range all {
		all[i] = newAuthor(i)
	}
	return all
}

func (a *author) id() identity.ID { return a.k.ID() }

// signAt makes the next message with a claimed timestamp, both it and the content spelled as JSON.stringify does.
func (a *author) signAt(t testing.TB, timestamp, content string) []byte {
	t.Helper()
	prev := "null"
	if a.seq > 0 {
		prev = `"` + a.prev.String() + `"`
	}
	a.seq++
	compact := fmt.Sprintf(`{"previous":%s,"author":"%s","sequence":%d,"timestamp":%s,"hash":"sha256","content":%s}`,
		prev, a.id(), a.seq, timestamp, content)
	var signed bytes.Buffer
	if err := json.Indent(&signed, []byte(compact), "", "  "); err != nil {
		t.Fatal(err)
	}
	sig := a.k.Sign(signed.Bytes())
	whole := fmt.Sprintf("%s,\n  \"signature\": \"%s.sig.ed25519\"\n}",
		bytes.TrimSuffix(signed.Bytes(), []byte("\n}")), base64.StdEncoding.EncodeToString(sig[:]))
	h := sha256.New()
	for _, u := range utf16.Encode([]rune(whole)) {
		h.Write([]byte{byte(u)})
	}
	a.prev = identity.MsgID(h.Sum(nil))
	return []byte(whole)
}

func (a *author) sign(t testing.TB, content string) []byte {
	t.Helper()
	return a.signAt(t, fmt.Sprint(1700000000000+a.seq), content)
}

// Contents as apps write them.
func contentFollow(to identity.ID) string {
	return fmt.Sprintf(`{"type":"contact","contact":"%s","following":true}`, to)
}

func contentUnfollow(to identity.ID) string {
	return fmt.Sprintf(`{"type":"contact","contact":"%s","following":false}`, to)
}

func contentBlock(to identity.ID) string {
	return fmt.Sprintf(`{"type":"contact","contact":"%s","following":false,"blocking":true}`, to)
}

func contentUnblock(to identity.ID) string {
	return fmt.Sprintf(`{"type":"contact","contact":"%s","blocking":false}`, to)
}

func contentAbout(of identity.ID, name string) string {
	return fmt.Sprintf(`{"type":"about","about":"%s","name":%s}`, of, name)
}

func contentPost(text string) string {
	return fmt.Sprintf(`{"type":"post","text":%q}`, text)
}

func openLog(t testing.TB) *log.Log {
	t.Helper()
	l, err := log.Open(log.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// store appends messages, all of which the log must take.
func store(t testing.TB, l *log.Log, raws ...[]byte) {
	t.Helper()
	results, err := l.Append(raws)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Status != log.Stored {
			t.Fatalf("message %d is %s: %v\n%s", i, r.Status, r.Err, raws[i])
		}
	}
}

// running is an index that follows its log.
type running struct {
	*Index
	t     testing.TB
	ended chan struct{} // closed when Run has returned
	stop  func() error  // ends Run, closes the index, and returns what Run returned
}

// start opens an index and runs it until the test ends, or stop is called.
func start(t testing.TB, o Options) *running {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	x, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, x)
}

func run(t testing.TB, x *Index) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Index: x, t: t, ended: make(chan struct{})}
	var err error
	go func() {
		err = x.Run(ctx)
		close(r.ended)
	}()
	r.stop = sync.OnceValue(func() error {
		cancel()
		<-r.ended
		if cerr := x.Close(); cerr != nil {
			t.Error(cerr)
		}
		return err
	})
	t.Cleanup(func() { _ = r.stop() })
	return r
}

// caughtUp waits until everything in the log is in the index.
func (r *running) caughtUp() *running {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	waited := make(chan error, 1)
	go func() { waited <- r.Wait(ctx, r.o.Log.Len()) }()
	select {
	case err := <-waited:
		if err != nil {
			r.t.Fatal(err)
		}
	case <-r.ended:
		r.t.Fatalf("Run has ended: %v", r.stop())
	}
	return r
}

// dump is all rows of an index, the cursors among them.
func dump(t testing.TB, x *Index) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := x.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			all[string(it.Item().Key())] = string(value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func subdir(t testing.TB) string { return filepath.Join(t.TempDir(), "index") }
