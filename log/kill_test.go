package log

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"charkha/identity"
	"charkha/internal/killed"
	"charkha/log/internal/classic"
)

// childEnv names the folder in which a child publishes until it is killed, or measures memory.
const childEnv = "CHARKHA_LOG_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		do := publishForever
		if file := os.Getenv(memoryEnv); file != "" {
			do = func(dir string) error { return measureMemory(file, dir) }
		}
		if err := do(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var (
	killOwn   = key(1) // published to
	killOther = key(2) // appended
)

// publishForever opens a log, checks that what the lines on stdin say is there, and writes to it, until it is killed or
// something is wrong. On stdout it prints a line for each step that writes, and one for each message that the log acknowledged.
func publishForever(dir string) error {
	out := os.Stdout // not buffered: what was written is in the pipe when the process dies
	expected, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	l, err := Open(Options{Dir: dir, fault: func(step string, done bool) error {
		_, err := fmt.Fprintf(out, "step %s %t\n", step, done)
		return err
	}})
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(expected)) {
		var a ack
		if err := a.parse(strings.TrimSpace(line)); err != nil {
			return err
		}
		m, err := l.Get(a.key)
		if err != nil || m.Sequence() != a.seq || m.Author() != a.feed || m.Offset() != a.offset {
			return fmt.Errorf("%s/%d was acknowledged: %w", a.feed.Short(), a.seq, err)
		}
		if head, ok := l.Head(a.feed); !ok || head.Sequence < a.seq {
			return fmt.Errorf("%s/%d was acknowledged, the head is %d", a.feed.Short(), a.seq, head.Sequence)
		}
	}
	if err := l.Confirm(killOwn.ID()); err != nil {
		return err
	}
	for n := 0; ; n++ {
		head, _ := l.Head(killOwn.ID())
		m, err := l.Publish(killOwn, fmt.Appendf(nil, `{"type":"post","text":"number %d of process %d"}`, n, os.Getpid()))
		if err != nil {
			return err
		}
		if m.Sequence() != head.Sequence+1 || m.Previous() != head.Key {
			return fmt.Errorf("published %d after %d", m.Sequence(), head.Sequence)
		}
		fmt.Fprintf(out, "ack %v\n", &ack{m.Author(), m.Sequence(), m.Key(), m.Offset()})

		head, _ = l.Head(killOther.ID())
		var raws [][]byte
		var s classic.Scanner
		for range 1 + n%3 {
			raw, err := classic.Encode(killOther, nil, head.Key, head.Sequence+1, float64(head.Sequence), []byte(`{"type":"vote"}`))
			if err != nil {
				return err
			}
			c, err := s.Scan(raw)
			if err != nil {
				return err
			}
			head = Head{Sequence: c.Sequence, Key: c.Key}
			raws = append(raws, raw)
		}
		results, err := l.Append(raws)
		if err != nil {
			return err
		}
		for _, r := range results {
			m, err := l.Get(r.Key)
			if r.Status != Stored || err != nil {
				return fmt.Errorf("append %d: %s: %v, %v", r.Sequence, r.Status, r.Err, err)
			}
			fmt.Fprintf(out, "ack %v\n", &ack{m.Author(), m.Sequence(), m.Key(), m.Offset()})
		}
	}
}

// ack is a message that the log acknowledged.
type ack struct {
	feed   identity.ID
	seq    int64
	key    identity.MsgID
	offset Offset
}

func (a *ack) String() string { return fmt.Sprintf("%s %d %s %d", a.feed, a.seq, a.key, a.offset) }

func (a *ack) parse(line string) error {
	var feed, key string
	_, err := fmt.Sscanf(line, "%s %d %s %d", &feed, &a.seq, &key, &a.offset)
	if err == nil {
		a.feed, err = identity.ParseID(feed)
	}
	if err == nil {
		a.key, err = identity.ParseMsgID(key)
	}
	if err != nil {
		return fmt.Errorf("line %q: %w", line, err)
	}
	return nil
}

// A process that publishes, and takes in what somebody else wrote, is killed after a random number of steps, 200 times in the
// same folder: no acknowledged message is ever missing, no sequence is signed twice, no offset is given twice.
func TestKilledWhilePublishing(t *testing.T) {
	const rounds = 200
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir, w := t.TempDir(), newWorld()
	lastAcks, inOpen := "", 0
	for round := range rounds {
		var acks strings.Builder
		killed.After(t, 1+rng.IntN(60), childEnv+"="+dir, strings.NewReader(lastAcks), func(line string) {
			line, ok := strings.CutPrefix(line, "ack ")
			if !ok {
				return
			}
			var a ack
			if err := a.parse(line); err != nil {
				t.Fatal(err)
			}
			w.know(t, a.feed, a.seq, a.key)
			if key, ok := w.seen[a.offset]; ok && key != a.key {
				t.Errorf("offset %d was given to %s and %s", a.offset, key, a.key)
			}
			w.seen[a.offset] = a.key
			fmt.Fprintln(&acks, line)
		})
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
		if acks.Len() == 0 {
			inOpen++
		} else {
			lastAcks = acks.String()
		}
	}
	l := open(t, Options{Dir: dir})
	w.check(t, l)
	checkStore(t, l)
	if err := w.publish(t, l, killOwn, "at last"); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages acknowledged, %d children were killed before their first one", sum(w.place), inOpen)
	if sum(w.place) < rounds {
		t.Errorf("only %d messages were acknowledged", sum(w.place))
	}
}
