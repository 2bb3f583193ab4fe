// Package charkha_test holds what is true of the whole tree: who may import whom, and that the pages at its root tell
// the truth.
package charkha_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"charkha/internal/vectors"
)

// rooms lists, for each package of this module, the packages of this module that its non-test files may import. An arrow
// only falls: ARCHITECTURE.md draws the floors. A package that is not listed fails the test.
const rooms = `
	identity                        :
	muxrpc                          :
	mfr                             :
	private                         : identity
	blob/boxs                       : identity
	log/internal/classic            : identity
	log                             : identity log/internal/classic
	lan                             : identity
	web                             : identity blob/boxs
	blob                            : identity
	replicate/shs                   : identity
	replicate/internal/ebt          : identity
	replicate/internal/sched        : identity
	replicate/sim                   : identity replicate/internal/ebt replicate/internal/sched
	replicate/internal/wants        : identity
	replicate/internal/room         : identity muxrpc internal/roomhttp
	invite                          : identity internal/roomhttp
	replicate                       : identity log muxrpc blob replicate/shs replicate/internal/ebt replicate/internal/sched replicate/internal/wants replicate/internal/room
	index                           : identity log
	api                             : identity log muxrpc replicate index lan invite private mfr blob
	node                            : identity log muxrpc replicate replicate/shs index api lan web blob
	cmd/charkha                     : identity muxrpc node replicate replicate/shs web blob/boxs
	interop                         : identity
	interop/internal/shs1           : identity replicate/shs
	bench/gen                       : identity log
	bench                           : identity log muxrpc index node api bench/gen
	internal/netns                  :
internal/killed                 :
	internal/vectors                :
	internal/roomhttp               :
`

// pure lists packages that compute and nothing else, and what they must not reach for, themselves.
var pure = map[string][]string{
	"log/internal/classic":     {"net", "os", "time", "github.com/dgraph-io/badger/v4"},
	"mfr":                      {"net", "os", "time", "github.com/dgraph-io/badger/v4"},
	"private":                  {"net", "os", "time", "github.com/dgraph-io/badger/v4"},
	"replicate/internal/ebt":   {"net", "os", "github.com/dgraph-io/badger/v4"},
	"replicate/internal/sched": {"net", "os", "github.com/dgraph-io/badger/v4"},
	"replicate/internal/wants": {"net", "os", "github.com/dgraph-io/badger/v4"},
}

// clocks are what a pure package must not call of package time.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}

// forbidden are packages that nobody here imports. Printing is log/slog: our own log is the signed one.
var forbidden = []string{"log"}

func TestImportsOnlyFall(t *testing.T) {
	allowed := map[string][]string{}
	for line := range strings.Lines(rooms) {
		room, deps, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok {
			allowed[strings.TrimSpace(room)] = strings.Fields(deps)
		}
	}
	found := map[string]bool{}
	err := filepath.WalkDir(vectors.Root(), func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case ".git", "testdata", "node_modules", "tools", "rivals":
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		rel, _ := filepath.Rel(vectors.Root(), file)
		room := path.Dir(filepath.ToSlash(rel))
		test := strings.HasSuffix(file, "_test.go")
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if _, isPure := pure[room]; isPure && !test {
			ast.Inspect(f, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clocks, sel.Sel.Name) {
						t.Errorf("%s calls time.%s, but %s is told the time", rel, sel.Sel.Name, room)
					}
				}
				return true
			})
		}
		deps, known := allowed[room]
		if !known && !test {
			t.Errorf("%s: package %s is not in the list of rooms", rel, room)
			return nil
		}
		found[room] = true
		for _, spec := range f.Imports {
			imp, _ := strconv.Unquote(spec.Path.Value)
			if slices.Contains(forbidden, imp) {
				t.Errorf("%s imports %q, which nothing here may", rel, imp)
			}
			if test {
				continue
			}
			if slices.Contains(pure[room], imp) {
				t.Errorf("%s imports %q, but %s is pure", rel, imp, room)
			}
			if own, ok := strings.CutPrefix(imp, "charkha/"); ok && !slices.Contains(deps, own) {
				t.Errorf("%s imports %s, which %s may not", rel, own, room)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for room := range allowed {
		if !found[room] {
			t.Errorf("the list of rooms names %s, which does not exist", room)
		}
	}
}
