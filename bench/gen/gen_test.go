package gen

import (
	"crypto/sha256"
	"encoding/json"
	"testing"

	"charkha/identity"
	"charkha/log"
)

func all(t *testing.T, o Options) (msgs []Message) {
	t.Helper()
	if err := Generate(o, func(m *Message) error {
		msgs = append(msgs, *m)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(msgs) != o.Messages {
		t.Fatalf("%d messages, want %d", len(msgs), o.Messages)
	}
	return msgs
}

func digest(msgs []Message) (sum [32]byte) {
	h := sha256.New()
	for i := range msgs {
		h.Write(msgs[i].AppendLine(nil))
	}
	return [32]byte(h.Sum(nil))
}

func TestSameSeedSameMessages(t *testing.T) {
	t.Parallel()
	o := Options{Messages: 6000, Authors: 50, Seed: 1}
	first := digest(all(t, o))
	if digest(all(t, o)) != first {
		t.Error("the same seed makes other messages")
	}
	o.Seed = 2
	if digest(all(t, o)) == first {
		t.Error("another seed makes the same messages")
	}
}

func TestMessagesAreGood(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Messages: 0, Authors: 1}, {Messages: 40, Authors: 1}, {Messages: 20000, Authors: 200, Seed: 7}} {
		msgs := all(t, o)
		l, err := log.Open(log.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var raws [][]byte
		types, bytes := map[string]int{}, 0
		for i := range msgs {
			raws = append(raws, msgs[i].Value)
			bytes += len(msgs[i].Value)
			var v struct {
				Value struct {
					Content json.RawMessage
				}
				Key identity.MsgID
			}
			if err := json.Unmarshal(msgs[i].AppendLine(nil), &v); err != nil || v.Key != msgs[i].ID {
				t.Fatalf("line %s: %v", msgs[i].AppendLine(nil), err)
			}
			var content struct{ Type string }
			if json.Unmarshal(v.Value.Content, &content) != nil {
				content.Type = "private"
			}
			types[content.Type]++
		}
		results, err := l.Append(raws)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			if r.Status != log.Stored || r.Key != msgs[i].ID || r.Author != msgs[i].Author || r.Sequence != msgs[i].Sequence {
				t.Fatalf("message %d: %+v", i, r)
			}
		}
		if o.Messages < 10000 {
			continue
		}
		for _, want := range []string{"post", "vote", "contact", "about", "channel", "pub", "private", "gathering"} {
			if types[want] == 0 {
				t.Errorf("no message of the type %s: %v", want, types)
			}
		}
		t.Logf("%d bytes a message, types %v", bytes/len(msgs), types)
		feeds := 0
		for range l.Heads() {
			feeds++
		}
		if feeds != o.Authors {
			t.Errorf("%d feeds, want %d", feeds, o.Authors)
		}
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Messages: -1, Authors: 1}, {Messages: 1}} {
		if err := Generate(o, func(*Message) error { return nil }); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func TestLongThreads(t *testing.T) {
	t.Parallel()
	answers := map[string]int{}
	for _, m := range all(t, Options{Messages: 30_000, Authors: 100, Seed: 3, Long: 3}) {
		var v struct{ Content struct{ Root string } }
		if json.Unmarshal(m.Value, &v) == nil && v.Content.Root != "" {
			answers[v.Content.Root]++
		}
	}
	long := 0
	for root, n := range answers {
		if n < 100 {
			continue
		}
		if long++; n != LongThread-1 {
			t.Errorf("%s has %d answers, want %d", root, n, LongThread-1)
		}
	}
	if long != 3 {
		t.Errorf("%d long threads, want 3", long)
	}
}
