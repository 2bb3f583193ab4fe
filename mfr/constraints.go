package mfr

import (
	"encoding/json"
	"math"
	"slices"
)

// Constraint is what the first $filter of a query demands of one path. Every value that passes the filter satisfies all its
// constraints, but not the other way round: they choose an index, and Run does the rest.
//
// Gt, Gte, Lt and Lte compare as JS does, which makes numbers of other types where the other side is a number: they say
// something about an index only where all values have the type of the bound. All other demands say what the type is.
type Constraint struct {
	Path             []string          // names of members; those of arrays are their indexes
	Eq               json.RawMessage   // the value: a string, number, boolean or null. Nil: any
	In               []json.RawMessage // one of these, which are such values. Nil: any
	Prefix           string            // what the value, a string, begins with. Empty: anything
	Gt, Gte, Lt, Lte json.RawMessage   // bounds. Nil: none
}

// Constraints are the demands of the first stage when it is a $filter, in the order in which they stand there, one for each
// path. It is empty for a query that begins otherwise.
func (q *Query) Constraints() []Constraint {
	if q.filter == nil {
		return nil
	}
	return constraints(q.filter, nil, nil)
}

// Constraint is the one for a path; without demands when there is none.
func (q *Query) Constraint(path ...string) Constraint {
	for _, c := range q.Constraints() {
		if slices.Equal(c.Path, path) {
			return c
		}
	}
	return Constraint{Path: path}
}

func constraints(q *rule, path []string, all []Constraint) []Constraint {
	c := Constraint{Path: slices.Clone(path)}
	switch {
	case q.kind < array:
		c.Eq = json.RawMessage(q.v)
		return append(all, c)
	case !q.special():
		for i, sub := range q.sub {
			name := string(appendNumber(nil, float64(i)))
			if q.kind == object {
				name = q.keys[i]
			}
			all = constraints(sub, append(path, name), all)
		}
		return all
	}
	demands := false
	for i, key := range q.keys {
		arg := q.sub[i]
		basic := arg.kind < array
		switch {
		case key == "$eq" && basic:
			c.Eq = json.RawMessage(arg.v)
		case key == "$in" && arg.kind == array:
			c.In = []json.RawMessage{}
			for _, item := range arg.sub {
				if item.kind < array {
					c.In = append(c.In, json.RawMessage(item.v))
				}
			}
		case key == "$prefix" && arg.kind == text:
			c.Prefix = string(arg.v.text())
		case key == "$gt" && basic:
			c.Gt = json.RawMessage(arg.v)
		case key == "$gte" && basic:
			c.Gte = json.RawMessage(arg.v)
		case key == "$lt" && basic:
			c.Lt = json.RawMessage(arg.v)
		case key == "$lte" && basic:
			c.Lte = json.RawMessage(arg.v)
		default:
			continue
		}
		demands = true
	}
	if demands {
		all = append(all, c)
	}
	return all
}

// Text is the string that the value must be.
func (c Constraint) Text() (s string, ok bool) {
	if v := value(c.Eq); v.kind() == text {
		return string(v.text()), true
	}
	return "", false
}

// Range is the least and the greatest number that the value can be, where all values of its path are numbers. It is infinite
// without bounds; ok is false when no bound is a number. Both ends belong to it, for Gt and Lt, too.
func (c Constraint) Range() (low, high float64, ok bool) {
	low, high = math.Inf(-1), math.Inf(1)
	for i, bound := range [...]json.RawMessage{c.Eq, c.Gt, c.Gte, c.Eq, c.Lt, c.Lte} {
		v := value(bound)
		if v.kind() != number {
			continue
		}
		ok = true
		if f := parseNumber(v); i < 3 {
			low = max(low, f)
		} else {
			high = min(high, f)
		}
	}
	return low, high, ok
}
