package mfr

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// rule is a parsed part of a query.
type rule struct {
	v    value    // as it was written
	kind kind     // what v is
	keys []string // of an object, in the order in which JS walks through them
	sub  []*rule  // of an object, by key; of an array, its elements
}

// parseRule reads valid JSON. Of equal keys the last one counts, at the place of the first; keys that are indexes come before
// all others, in ascending order.
func parseRule(v value, depth int) (*rule, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	r := &rule{v: v, kind: v.kind()}
	if r.kind < array {
		return r, nil
	}
	at := map[string]int{}
	m := members{b: v}
	for {
		key, member, ok := m.next(r.kind == object)
		if !ok {
			break
		}
		sub, err := parseRule(member, depth+1)
		if err != nil {
			return nil, err
		}
		if r.kind == object {
			name := string(unescape(key))
			if i, twice := at[name]; twice {
				r.sub[i] = sub
				continue
			}
			at[name] = len(r.keys)
			r.keys = append(r.keys, name)
		}
		r.sub = append(r.sub, sub)
	}
	if r.kind == object {
		order := make([]int, len(r.keys))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(i, j int) int {
			return cmp.Compare(uint64(propOf(r.keys[i]).index), uint64(propOf(r.keys[j]).index)) // -1 becomes the largest
		})
		keys, sub := make([]string, len(order)), make([]*rule, len(order))
		for to, from := range order {
			keys[to], sub[to] = r.keys[from], r.sub[from]
		}
		r.keys, r.sub = keys, sub
	}
	return r, nil
}

// special reports whether one of an object's keys is an operator.
func (q *rule) special() bool {
	return slices.ContainsFunc(q.keys, func(k string) bool { return strings.HasPrefix(k, "$") })
}

// uses reports whether an object anywhere in q has a key.
func (q *rule) uses(key string) bool {
	return slices.Contains(q.keys, key) || slices.ContainsFunc(q.sub, func(sub *rule) bool { return sub.uses(key) })
}

func (q *rule) get(key string) *rule {
	if i := slices.Index(q.keys, key); i >= 0 {
		return q.sub[i]
	}
	return nil
}

// fn computes a value from a value. r is told when something becomes too large.
type fn func(r *run, v value) value

// make is make of npm map-filter-reduce make.js: a function from one value to another, or, where inReduce allows it, a
// reducer, which takes many. One of the two results is nil.
func (q *rule) make(inReduce bool) (fn, newReducer, error) {
	switch q.kind {
	case text:
		p := propOf(string(q.v.text()))
		return func(_ *run, v value) value { return v.get(p) }, nil, nil
	case number:
		f := parseNumber(q.v)
		if !isInteger(f) {
			break
		}
		if f >= 0 {
			p := propOf(string(appendNumber(nil, f)))
			return func(_ *run, v value) value { return v.get(p) }, nil, nil
		}
		length := propOf("length")
		return func(_ *run, v value) value { // from the end
			return v.get(propOf(string(appendNumber(nil, v.get(length).toNumber()+f))))
		}, nil, nil
	case boolean:
		if q.v[0] == 't' {
			return func(_ *run, v value) value { return v }, nil, nil
		}
	case array:
		steps := make([]fn, len(q.sub))
		for i, sub := range q.sub {
			step, _, err := sub.make(false)
			if err != nil {
				return nil, nil, err
			}
			steps[i] = step
		}
		return func(r *run, v value) value {
			for _, step := range steps {
				v = step(r, v)
			}
			return v
		}, nil, nil
	case object:
		f, err := q.operators()
		if f != nil || err != nil {
			return f, nil, err
		}
		for i, key := range q.keys {
			if reducers[key] != nil {
				if !inReduce {
					return nil, nil, fmt.Errorf("%s stands outside of $reduce", key)
				}
				of, _, err := q.sub[i].make(false)
				if err != nil {
					return nil, nil, fmt.Errorf("%s: %w", key, err)
				}
				return nil, reducers[key](of), nil
			}
		}
		for i, key := range q.keys {
			switch key {
			case "$filter":
				f, err := q.sub[i].filter()
				return f, nil, err
			case "$map":
				f, err := q.sub[i].project()
				return f, nil, err
			case "$reduce":
				if !inReduce {
					return nil, nil, fmt.Errorf("%s stands outside of $reduce", key)
				}
				red, err := q.sub[i].reduce()
				return nil, red, err
			}
		}
	}
	return nil, nil, fmt.Errorf("%s cannot be understood", clip(q.v))
}

// operators joins all known operators of an object with &&. What else the object has is left out. It is nil when there are
// none.
func (q *rule) operators() (fn, error) {
	var all []fn
	for i, key := range q.keys {
		f, err := operator(key, q.sub[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if f != nil {
			all = append(all, f)
		}
	}
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return all[0], nil
	}
	return func(r *run, v value) (result value) {
		for _, f := range all {
			if result = f(r, v); !result.truthy() {
				break
			}
		}
		return result
	}, nil
}

// operator is a function of npm map-filter-reduce simple/maps.js, or nil.
func operator(name string, arg *rule) (fn, error) {
	test := func(f func(v, arg value) bool) (fn, error) {
		a := arg.v
		return func(_ *run, v value) value { return boolValue(f(v, a)) }, nil
	}
	switch name {
	case "$lt":
		return test(func(v, arg value) bool { return less(v, arg, false) })
	case "$gt":
		return test(func(v, arg value) bool { return less(arg, v, false) })
	case "$lte":
		return test(func(v, arg value) bool { return less(v, arg, true) })
	case "$gte":
		return test(func(v, arg value) bool { return less(arg, v, true) })
	case "$eq":
		return test(equal)
	case "$ne":
		return test(func(v, arg value) bool { return !equal(v, arg) })
	case "$not":
		return test(func(v, _ value) bool { return !v.truthy() })
	case "$truthy":
		return test(func(v, _ value) bool { return v.truthy() })
	case "$is":
		return test(func(v, arg value) bool { return equal(v.typeof(), arg) })
	case "$int":
		return test(func(v, _ value) bool { return v.kind() == number && isInteger(parseNumber(v)) })
	case "$type":
		return func(_ *run, v value) value { return v.typeof() }, nil
	case "$mod":
		return mod(arg)
	case "$prefix":
		return prefix(arg)
	case "$in":
		return in(arg)
	case "$get":
		return get(arg)
	}
	return nil, nil
}

func isInteger(f float64) bool { return f == math.Trunc(f) && !math.IsInf(f, 0) }

func mod(arg *rule) (fn, error) {
	by := arg.v.toNumber()
	return func(_ *run, v value) value { return numberValue(math.Mod(v.toNumber(), by)) }, nil
}

func prefix(arg *rule) (fn, error) {
	switch arg.kind {
	case text:
		want := arg.v.text()
		return func(_ *run, v value) value { return boolValue(v.kind() == text && bytes.HasPrefix(v.text(), want)) }, nil
	case number, boolean: // compared with the whole text, by ==
		want := arg.v.toNumber()
		return func(_ *run, v value) value { return boolValue(v.kind() == text && v.toNumber() == want) }, nil
	case array:
		return func(_ *run, v value) value {
			if v.kind() != array {
				return vFalse
			}
			m := members{b: v}
			for _, want := range arg.sub {
				if _, member, ok := m.next(false); !ok || !equal(member, want.v) {
					return vFalse
				}
			}
			_, _, longer := m.next(false)
			return boolValue(longer)
		}, nil
	}
	return nil, fmt.Errorf("%s is neither a string nor an array", clip(arg.v))
}

// in gives what ~indexOf gives: 0 when there is nothing, else a number below 0.
func in(arg *rule) (fn, error) {
	switch arg.kind {
	case array:
		return func(_ *run, v value) value {
			for i, item := range arg.sub {
				if equal(v, item.v) {
					return numberValue(float64(-1 - i))
				}
			}
			return numberValue(0)
		}, nil
	case text:
		hay := arg.v.text()
		return func(_ *run, v value) value {
			i := bytes.Index(hay, v.toString())
			if i < 0 {
				return numberValue(0)
			}
			n := 0
			for u := (units{b: hay[:i]}); u.next() >= 0; {
				n++
			}
			return numberValue(float64(-1 - n))
		}, nil
	}
	return nil, fmt.Errorf("%s is neither an array nor a string", clip(arg.v))
}

func get(arg *rule) (fn, error) {
	switch {
	case arg.kind == text:
		f, _, err := arg.make(false)
		return f, err
	case arg.kind == array:
		props := make([]prop, len(arg.sub))
		for i, sub := range arg.sub {
			props[i] = propOf(string(sub.v.toString()))
		}
		return func(_ *run, v value) value { return v.at(props) }, nil
	case string(arg.v) == "true":
		return func(_ *run, v value) value { return v }, nil
	}
	return func(*run, value) value { return nil }, nil
}

// at follows a path.
func (v value) at(path []prop) value {
	for _, p := range path {
		v = v.get(p)
	}
	return v
}

// filter is what stands under $filter: literals, objects and arrays of filters, or operators. The function's result counts
// as true or false.
func (q *rule) filter() (fn, error) {
	if q.kind < array {
		if want := q.v; q.kind == text {
			s := string(want.text())
			return func(_ *run, v value) value {
				return boolValue(v.kind() == text && len(v) > 1 && sameString(v[1:len(v)-1], s))
			}, nil
		}
		return func(_ *run, v value) value { return boolValue(equal(v, q.v)) }, nil
	}
	if q.special() {
		f, _, err := q.make(false)
		return f, err
	}
	props, tests := make([]prop, len(q.sub)), make([]fn, len(q.sub))
	for i, sub := range q.sub {
		props[i] = prop{index: int64(i)}
		if q.kind == object {
			props[i] = propOf(q.keys[i])
		} else {
			props[i].name = string(appendNumber(nil, float64(i)))
		}
		var err error
		if tests[i], err = sub.filter(); err != nil {
			return nil, within(props[i].name, err)
		}
	}
	return func(r *run, v value) value {
		if v.nullish() {
			return vFalse
		}
		var few [8]value
		found := few[:0]
		found = v.gather(found, props)
		for i, test := range tests {
			if !test(r, found[i]).truthy() {
				return vFalse
			}
		}
		return vTrue
	}, nil
}

// gather appends v[p] for each of props to found, which is empty. It walks through an object once.
func (v value) gather(found []value, props []prop) []value {
	for range props {
		found = append(found, nil)
	}
	if v.kind() != object {
		for i, p := range props {
			found[i] = v.get(p)
		}
		return found
	}
	m := members{b: v}
	for {
		key, member, ok := m.next(true)
		if !ok {
			return found
		}
		for i := range props {
			if sameString(key, props[i].name) {
				found[i] = member
				break // the names differ
			}
		}
	}
}

// project is what stands under $map: an object whose values say how each member is made, or a function.
func (q *rule) project() (fn, error) {
	if q.kind != object || q.special() {
		f, _, err := q.make(false)
		return f, err
	}
	makers := make([]fn, len(q.sub))
	for i, sub := range q.sub {
		if string(sub.v) == "true" { // the member of the same name
			p := propOf(q.keys[i])
			makers[i] = func(_ *run, v value) value {
				if !v.truthy() {
					return v
				}
				return v.get(p)
			}
			continue
		}
		var err error
		if makers[i], err = sub.project(); err != nil {
			return nil, within(q.keys[i], err)
		}
	}
	keys := quoteAll(q.keys)
	return func(r *run, v value) value {
		if v.nullish() || len(makers) == 0 {
			return nil
		}
		out := value("{")
		for i, f := range makers {
			out = r.appendMember(out, keys[i], f(r, v))
		}
		return append(out, '}')
	}, nil
}

// quoteAll makes what stands in front of the members of an object.
func quoteAll(keys []string) []value {
	out := make([]value, len(keys))
	for i, k := range keys {
		out[i] = append(quote([]byte(k)), ':')
	}
	return out
}

// appendMember appends a member to an object that is being written, unless it is undefined.
func (r *run) appendMember(out, key, v value) value {
	if v.kind() == undefined {
		return out
	}
	if r.made += len(key) + len(v); r.made > maxMade {
		r.fail(fmt.Errorf("over %d bytes of one value: %w", maxMade, ErrTooMuch))
		return out
	}
	if len(out) > 1 {
		out = append(out, ',')
	}
	return append(append(out, key...), v...)
}

func within(name string, err error) error {
	return fmt.Errorf("%s: %w", clip(quote([]byte(name))), err)
}

// clip shortens a part of a query for an error message.
func clip[T ~[]byte](v T) string {
	if len(v) > 80 {
		return strings.ToValidUTF8(string(v[:80]), "") + "..."
	}
	return string(v)
}
