package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"charkha/identity"
	"charkha/internal/killed"
)

const (
	childEnv = "CHARKHA_BLOB_TEST_CHILD" // names the folder in which a child adds and evicts until it is killed
	fullEnv  = "CHARKHA_BLOB_TEST_FULL"  // names the folder over which a child mounts a small disk
)

func TestMain(m *testing.M) {
	for env, do := range map[string]func(string) error{childEnv: addForever, fullEnv: fillDisk} {
		if dir := os.Getenv(env); dir != "" {
			if err := do(dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

func killOptions(dir string) Options {
	// Shares are of 3 blocks, and of the near ones each keeps within it.
	return Options{Dir: dir, Max: 2 * block, Budget: 24 * block, Rank: hops, slack: 40}
}

// addForever adds blobs to a store until the process is killed. For what was acknowledged it prints a line "ack WHO ID", and
// before one is given up a line "drop ID"; for each step that writes it prints a line, too.
func addForever(dir string) error {
	out := os.Stdout // not buffered: what was written is in the pipe when the process dies
	o := killOptions(dir)
	o.fault = func(step, path string, done bool) error {
		_, err := fmt.Fprintf(out, "step %s\n", step)
		return err
	}
	s, err := Open(o)
	if err != nil {
		return err
	}
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
	bytesOf := func() []byte {
		b := make([]byte, 8+rng.IntN(2*block-8))
		for i := range b[:8] {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	var near [2]*identity.BlobID
	for info := range s.All() { // of earlier children, together they might be more than a share
		if hops(info.Why.Author) == 1 && !info.Why.Own && !info.Why.Pinned {
			fmt.Fprintf(out, "drop %s\n", info.ID)
			if err := s.Remove(info.ID); err != nil {
				return err
			}
		}
	}
	for n := 0; ; n++ {
		// What comes from far flows through, by Add and in pieces.
		b, why := bytesOf(), byAuthor(300+n%3)
		if n%2 == 0 {
			_, err = s.Add(ctx, bytes.NewReader(b), nil, why)
		} else {
			var r *Receiving
			if r, err = s.Receive(idOf(b), int64(len(b)), why); err == nil {
				_, err = r.WriteAt(b[5:], 5)
				_, werr := r.WriteAt(b[:5], 0)
				_, cerr := r.Commit(ctx)
				err = errors.Join(err, werr, cerr)
			}
		}
		if err != nil {
			return err
		}
		switch n % 7 {
		case 0: // own ones stay
			b := bytesOf()
			info, err := s.Add(ctx, bytes.NewReader(b), nil, Why{Own: true})
			if err != nil {
				return err
			}
			if info.ID != idOf(b) {
				return fmt.Errorf("%s was added as %s", idOf(b), info.ID)
			}
			fmt.Fprintf(out, "ack own %s\n", info.ID)
		case 2, 4: // what near ones linked stays while it is within their shares
			i := n % 7 / 4
			if old := near[i]; old != nil {
				fmt.Fprintf(out, "drop %s\n", *old)
				if err := s.Remove(*old); err != nil {
					return err
				}
			}
			info, err := s.Add(ctx, bytes.NewReader(bytesOf()), nil, byAuthor(100+i))
			if err != nil {
				return err
			}
			near[i] = &info.ID
			fmt.Fprintf(out, "ack near %s\n", info.ID)
		case 5: // pinned after it came
			b := bytesOf()
			info, err := s.Add(ctx, bytes.NewReader(b), nil, byAuthor(102))
			if err != nil {
				return err
			}
			if err := s.Pin(info.ID, true); err != nil {
				return err
			}
			fmt.Fprintf(out, "ack pinned %s\n", info.ID)
		case 6:
			for info := range s.All() {
				if f, err := s.Open(ctx, info.ID); err != nil {
					return err
				} else if err := f.Close(); err != nil {
					return err
				}
			}
		}
	}
}

// A process that adds blobs, and lets others leave for them, is killed after a random number of steps, 200 times in the same
// folder: every blob that it acknowledged and that may not leave is there and whole, and still own or pinned.
func TestKilledWhileAddingAndEvicting(t *testing.T) {
	const rounds = 200
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := quick(t)
	must := map[identity.BlobID]string{}
	acks, inOpen := 0, 0
	for round := range rounds {
		before := acks
		killed.After(t, 1+rng.IntN(150), childEnv+"="+dir, nil, func(line string) {
			kind, rest, _ := strings.Cut(line, " ")
			who, text, _ := strings.Cut(rest, " ")
			switch kind {
			case "ack":
				id, err := identity.ParseBlobID(text)
				if err != nil {
					t.Fatal(err)
				}
				must[id] = who
				acks++
			case "drop":
				id, err := identity.ParseBlobID(who)
				if err != nil {
					t.Fatal(err)
				}
				delete(must, id)
			}
		})
		if acks == before {
			inOpen++
		}
		if round%20 < 19 {
			continue
		}
		s := open(t, killOptions(dir))
		check(t, s)
		within(t, s)
		for id, who := range must {
			info, ok := s.Stat(id)
			if !ok || who == "own" && !info.Why.Own || who == "pinned" && !info.Why.Pinned {
				t.Errorf("round %d: a blob that is %s is there: %v, %+v", round, who, ok, info.Why)
				continue
			}
			if idOf(read(t, s, id)) != id {
				t.Errorf("%s is not whole", id)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			return
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "sha256", "*", "*")); len(files) == 0 {
		t.Error("nothing is there")
	}
	t.Logf("%d blobs acknowledged, %d children were killed before their first one", acks, inOpen)
	if acks < rounds {
		t.Errorf("only %d blobs were acknowledged", acks)
	}
}
