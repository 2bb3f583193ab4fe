package mfr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// Limits of queries and of what they make.
const (
	maxQuery  = 256 << 10 // bytes of a query
	maxStages = 64
	maxDepth  = 128     // nesting of a query, and of arrays that are compared
	maxMade   = 8 << 20 // bytes that a stage makes of one value: {"$map":{"a":[],"b":[]}} doubles it
	rowSize   = 128     // what a group or a sorted value costs besides its bytes, about
)

// DefaultHeld is how many bytes the stages of a query may hold together when Run is not told.
const DefaultHeld = 64 << 20

// Errors of Parse and Run.
var (
	// ErrQuery says that a text is no query. The error around it names the stage.
	ErrQuery = errors.New("not a valid query")
	// ErrTooMuch says that a query would hold or make more than it may.
	ErrTooMuch = errors.New("the query needs too much memory")
	// ErrOrder says that values were to be ordered or grouped which have no order: objects.
	ErrOrder = errors.New("objects have no order")
)

// Query is a parsed query. It is safe for concurrent use.
type Query struct {
	stages  []stage
	filter  *rule // what the first stage filters by, if it does
	strange bool  // whether its values may be what JSON does not have: NaN, undefined
}

type stage struct {
	name   string
	fn     fn         // of $filter and $map
	reduce newReducer // of $reduce
	sort   *sorting   // of $sort
}

// Parse reads a query: an array of stages, or a JSON string with one in it, as command lines send it. Stages that are null,
// false, 0 or "" are left out. No query at all, undefined or null, is one of no stages, which gives everything.
//
// An object instead of the array counts as the one stage that it is, or else as what stands in one $filter. JS peers use such
// an object only to choose an index.
func Parse(raw json.RawMessage) (*Query, error) {
	if len(raw) > maxQuery {
		return nil, fmt.Errorf("a query of over %d bytes: %w", maxQuery, ErrQuery)
	}
	src := trim(raw)
	if src.kind() == text && json.Valid(src) {
		src = trim(src.text())
	}
	if len(src) == 0 {
		return &Query{}, nil
	}
	if !json.Valid(src) {
		return nil, fmt.Errorf("%s is no JSON: %w", clip(src), ErrQuery)
	}
	src = bytes.Clone(src)
	q, err := parseRule(src, 0)
	if err != nil {
		return nil, fmt.Errorf("query: %w: %w", err, ErrQuery)
	}
	stages := q.sub
	switch {
	case q.kind == null:
		return &Query{}, nil
	case q.kind == object && q.special():
		stages = []*rule{q}
	case q.kind == object:
		stages = []*rule{{kind: object, keys: []string{"$filter"}, sub: []*rule{q}}}
	case q.kind != array:
		return nil, fmt.Errorf("%s is no array of stages: %w", clip(src), ErrQuery)
	}
	if len(stages) > maxStages {
		return nil, fmt.Errorf("a query of %d stages, over %d: %w", len(stages), maxStages, ErrQuery)
	}
	query := &Query{}
	for i, rule := range stages {
		if !rule.v.truthy() && rule.v != nil {
			continue
		}
		s, err := parseStage(rule)
		if err != nil {
			return nil, fmt.Errorf("query stage %d%s: %w: %w", i, s.title(), err, ErrQuery)
		}
		if op, _ := rule.operators(); len(query.stages) == 0 && s.name == "$filter" && op == nil {
			query.filter = rule.get("$filter")
		}
		query.stages = append(query.stages, s)
		query.strange = query.strange || s.reduce != nil || rule.uses("$mod")
	}
	return query, nil
}

// parseStage reads a stage; its first key says which. Others beside it matter when they are operators, as in JS.
func parseStage(q *rule) (s stage, err error) {
	if q.kind != object || len(q.keys) == 0 {
		return s, fmt.Errorf("%s is no stage", clip(q.v))
	}
	s.name = q.keys[0]
	switch s.name {
	case "$filter", "$map":
		s.fn, _, err = q.make(false)
	case "$reduce":
		var of fn
		if of, s.reduce, err = q.make(true); err == nil && of != nil {
			err = errors.New("it stands beside an operator")
		}
	case "$sort":
		s.sort, err = q.sub[0].sort()
	default:
		err = errors.New("only $filter, $map, $reduce and $sort are stages")
	}
	return s, err
}

func (s stage) title() string {
	if s.name == "" {
		return ""
	}
	return " (" + clip([]byte(s.name)) + ")"
}

// Ends reports whether the query has a $reduce or $sort: then nothing comes out before the last value has gone in.
func (q *Query) Ends() bool {
	return slices.ContainsFunc(q.stages, func(s stage) bool { return s.reduce != nil || s.sort != nil })
}

// SortedBy gives the paths of the $sort that ends the query, each of one name at least; or nil when there is no such $sort, when
// it is reversed, or when it sorts by whole values. An index in that order makes it needless: see WithoutSort. (npm flumeview-links 2 and flumeview-query 8 take the last $sort for the wish for
// an index.)
func (q *Query) SortedBy() [][]string {
	if len(q.stages) == 0 {
		return nil
	}
	s := q.stages[len(q.stages)-1].sort
	if s == nil || s.reverse < len(s.paths) {
		return nil
	}
	all := [][]string{}
	for _, p := range s.paths {
		if len(p.props) == 0 {
			return nil
		}
		names := []string{}
		for _, prop := range p.props {
			names = append(names, prop.name)
		}
		all = append(all, names)
	}
	return all
}

// WithoutSort is the query without the $sort that ends it.
func (q *Query) WithoutSort() *Query {
	less := *q
	if n := len(q.stages); n > 0 && q.stages[n-1].sort != nil {
		less.stages = q.stages[:n-1]
	}
	return &less
}

// run is one run of a query.
type run struct {
	left int // bytes that may still be held
	made int // bytes that a stage has made of the value at hand
	err  error
}

// fail ends the run. Its first reason counts.
func (r *run) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// hold counts what is going to be held.
func (r *run) hold(n int) bool {
	if r.left -= n; r.left < 0 {
		r.fail(fmt.Errorf("more than it may hold for $reduce and $sort: %w", ErrTooMuch))
		return false
	}
	return true
}

// keep copies a value that is going to be held.
func (r *run) keep(v value) value { return r.replace(nil, v) }

// replace keeps v instead of what was held.
func (r *run) replace(held, v value) value {
	if bytes.Equal(held, v) {
		return held
	}
	r.left += len(held)
	if v.kind() == undefined || !r.hold(len(v)) {
		return nil
	}
	return bytes.Clone(v)
}

// Run sends values through the stages. Each must be JSON; what passes all stages unchanged comes out as the bytes that went in,
// without white space around them, and is valid as long as those. Results come as soon as they are there, but see Ends.
//
// held is how many bytes $reduce and $sort may hold together; 0 means DefaultHeld. The sequence ends behind an error: that of
// values, ErrTooMuch or ErrOrder. Run may be called many times, and runs while the result is walked through.
func (q *Query) Run(values iter.Seq2[json.RawMessage, error], held int) iter.Seq2[json.RawMessage, error] {
	if held <= 0 {
		held = DefaultHeld
	}
	return func(yield func(json.RawMessage, error) bool) {
		r := &run{left: held}
		stopped := false
		next := func(v value) bool {
			if r.err != nil || stopped {
				return false
			}
			if q.strange || len(v) == 0 {
				v = clean(v)
			}
			stopped = !yield(json.RawMessage(v), nil)
			return !stopped
		}
		var ends []func() bool // of the stages that hold something, the last stage first
		for _, s := range slices.Backward(q.stages) {
			var end func() bool
			if next, end = s.start(r, next); end != nil {
				ends = append(ends, end)
			}
		}
		for v, err := range values {
			if err != nil {
				yield(nil, err)
				return
			}
			if !next(trim(v)) {
				break
			}
		}
		for i := len(ends) - 1; i >= 0 && r.err == nil && !stopped; i-- {
			ends[i]()
		}
		if r.err != nil && !stopped {
			yield(nil, r.err)
		}
	}
}

// start gives the way into a stage, which is false when no more is wanted, and for one that holds values the function to be
// called after the last of them.
func (s stage) start(r *run, next func(value) bool) (in func(value) bool, end func() bool) {
	switch {
	case s.reduce != nil:
		var red reducer // none for no values: then nothing comes out
		in = func(v value) bool {
			if red == nil {
				red = s.reduce(value("null"))
			}
			r.made = 0
			red.add(r, v)
			return r.err == nil
		}
		return in, func() bool { return red == nil || emit(r, red, next) }
	case s.sort != nil:
		type item struct {
			v    value
			keys []value
		}
		var items []item
		in = func(v value) bool {
			if r.hold(rowSize * (1 + len(s.sort.paths))) {
				v = r.keep(v)
				items = append(items, item{v, s.sort.keys(v)})
			}
			return r.err == nil
		}
		return in, func() bool {
			slices.SortStableFunc(items, func(a, b item) int {
				if a.v == nil || b.v == nil { // undefined, which JS puts last without asking
					return len(b.v) - len(a.v)
				}
				c, err := s.sort.compare(a.keys, b.keys)
				if err != nil {
					r.fail(err)
				}
				return c
			})
			for _, item := range items {
				if r.err != nil || !next(item.v) {
					return false
				}
			}
			return true
		}
	case s.name == "$map":
		return func(v value) bool {
			r.made = 0
			if v = s.fn(r, v); r.err != nil {
				return false
			}
			return !v.truthy() || next(v)
		}, nil
	}
	return func(v value) bool {
		r.made = 0
		pass := s.fn(r, v).truthy()
		return r.err == nil && (!pass || next(v))
	}, nil
}
