package index

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"charkha/internal/killed"
	"charkha/log"
)

// childEnv names the folder in which a child builds an index until it is killed.
const childEnv = "CHARKHA_INDEX_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, rebuildForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

var killSelf = key(0).ID()

// rebuildForever builds the views of an index anew, one after the other, until it is killed or something is wrong. It prints a
// line before and after each commit.
func rebuildForever(dir string) error {
	l, err := log.Open(log.Options{Dir: filepath.Join(dir, "log")})
	if err != nil {
		return err
	}
	x, err := Open(Options{Dir: filepath.Join(dir, "index"), Log: l, Self: killSelf, Hops: 2, batch: 10, fault: func(view string, done bool) error {
		_, err := fmt.Println(view, done)
		return err
	}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { cancel(fmt.Errorf("run: %w", x.Run(ctx))) }()
	for n := 0; ; n++ {
		v := x.Views()[n%len(x.views)]
		if err := x.Rebuild(ctx, v.Name); err != nil && !errors.Is(err, errBuilding) {
			return errors.Join(err, context.Cause(ctx))
		}
		if n%3 == 0 {
			if err := x.Wait(ctx, l.Len()); err != nil {
				return errors.Join(err, context.Cause(ctx))
			}
		}
	}
}

// A process that builds views anew is killed at a random moment, 50 times in the same folder: each time the index goes on to
// the rows of one that is built from nothing.
func TestKilledWhileRebuilding(t *testing.T) {
	if testing.Short() {
		t.Skip("starts 50 processes")
	}
	dir := t.TempDir()
	open := func() *log.Log {
		t.Helper()
		l, err := log.Open(log.Options{Dir: filepath.Join(dir, "log")})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open()
	store(t, l, mixed(t, 10, 120)...)
	anew := start(t, Options{Log: l, Self: killSelf, Hops: 2}).caughtUp()
	want := dump(t, anew.Index)
	if err := errors.Join(anew.stop(), l.Close()); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 11))
	partly := 0
	for n := range 50 {
		killed.After(t, 1+rng.IntN(120), childEnv+"="+dir, nil, func(string) {})
		l := open()
		x, err := Open(Options{Dir: filepath.Join(dir, "index"), Log: l, Self: killSelf, Hops: 2})
		if err != nil {
			t.Fatalf("after kill %d: %v", n, err)
		}
		for _, v := range x.Views() {
			if v.At > 0 && v.At < l.Len() {
				partly++
			}
		}
		r := run(t, x).caughtUp()
		if diff := cmp.Diff(want, dump(t, x)); diff != "" {
			t.Errorf("rows after kill %d (-want +got):\n%s", n, diff)
		}
		if err := errors.Join(r.stop(), l.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if partly == 0 {
		t.Error("no view was ever killed half built")
	}
}
