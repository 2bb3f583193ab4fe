// Package vectors finds the outside conformance vectors that tests run against.
//
// A set is a folder. It is looked for in $CHARKHA_VECTORS/SET when that variable is set, else in testdata/vectors/SET of
// this repository (sets whose licence allows copying them), else in ../shared/vectors/SET beside it (copyleft sets and
// real people's posts, which are never copied). A set that cannot be found skips its test loudly, and fails it in CI.
package vectors

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Root is the folder of this repository's go.mod.
func Root() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		panic("vectors: internal error: no caller information")
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Dir returns the folder of a set, or ends the test: skipped with a loud line, failed when $CI is set.
func Dir(t testing.TB, set string) string {
	t.Helper()
	var tried []string
	if env := os.Getenv("CHARKHA_VECTORS"); env != "" {
		tried = append(tried, filepath.Join(env, set))
	} else {
		tried = append(tried,
			filepath.Join(Root(), "testdata", "vectors", set),
			filepath.Join(filepath.Dir(Root()), "shared", "vectors", set))
	}
	for _, dir := range tried {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir
		}
	}
	const say = "VECTORS MISSING: set %q is in none of %s; set CHARKHA_VECTORS to the folder that holds the sets"
	if os.Getenv("CI") != "" {
		t.Fatalf(say, set, strings.Join(tried, ", "))
	}
	t.Skipf(say, set, strings.Join(tried, ", "))
	return ""
}

// Read returns a file of a set, unpacked when its name ends in .gz.
func Read(t testing.TB, set, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(Dir(t, set), name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".gz") {
		zr, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%s/%s: %v", set, name, err)
		}
		if data, err = io.ReadAll(zr); err != nil {
			t.Fatalf("%s/%s: %v", set, name, err)
		}
	}
	return data
}

// Lines calls do with each non-empty line of a (gzipped) file of a set and fails the test when there is none. The bytes
// are only valid during the call.
func Lines(t testing.TB, set, name string, do func(n int, line []byte)) {
	t.Helper()
	sc := bufio.NewScanner(bytes.NewReader(Read(t, set, name)))
	sc.Buffer(nil, 64<<20)
	n := 0
	for sc.Scan() {
		if len(bytes.TrimSpace(sc.Bytes())) == 0 {
			continue
		}
		n++
		do(n, sc.Bytes())
	}
	if err := sc.Err(); err != nil {
		t.Fatalf("%s/%s: %v", set, name, err)
	}
	if n == 0 {
		t.Fatalf("%s/%s: no cases", set, name)
	}
}

// JSONLines decodes each line of a file of a set into a T and fails the test when there is none.
func JSONLines[T any](t testing.TB, set, name string) []T {
	t.Helper()
	var all []T
	Lines(t, set, name, func(n int, line []byte) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%s/%s line %d: %v", set, name, n, err)
		}
		all = append(all, v)
	})
	return all
}

// JSON decodes a file of a set that holds one JSON value.
func JSON[T any](t testing.TB, set, name string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(Read(t, set, name), &v); err != nil {
		t.Fatalf("%s/%s: %v", set, name, err)
	}
	return v
}
