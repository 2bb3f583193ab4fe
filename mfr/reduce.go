package mfr

import (
	"fmt"
	"slices"
)

// reducer takes many values and makes one of them. What it keeps, it copies.
type reducer interface {
	add(r *run, v value)
	result(r *run) value
}

// newReducer makes a reducer that has seen nothing. JS starts the outermost one of a query with null and others with
// undefined, which makes a difference to $min and $max.
type newReducer func(start value) reducer

// reducers are the functions of npm map-filter-reduce simple/reduces.js.
var reducers = map[string]func(of fn) newReducer{
	"$count":   func(of fn) newReducer { return fold(of, count) },
	"$sum":     func(of fn) newReducer { return fold(of, sum) },
	"$product": func(of fn) newReducer { return fold(of, product) },
	"$min":     func(of fn) newReducer { return best(of, func(a, b float64) float64 { return min(a, b) }) },
	"$max":     func(of fn) newReducer { return best(of, func(a, b float64) float64 { return max(a, b) }) },
	"$collect": func(of fn) newReducer { return func(value) reducer { return &collection{of: of, items: value("[")} } },
}

func count(a float64, _ value) float64 { return a + 1 }

func sum(a float64, b value) float64 { return orElse(a, 0) + orElse(b.toNumber(), 0) }

func product(a float64, b value) float64 {
	if a = orElse(a, 1); !b.truthy() {
		return a
	}
	return a * b.toNumber()
}

// orElse is a || b of JS.
func orElse(a, b float64) float64 {
	if a == 0 || a != a {
		return b
	}
	return a
}

// folded is a number that each value changes.
type folded struct {
	of   fn
	step func(a float64, b value) float64
	n    float64
	any  bool
}

func fold(of fn, step func(a float64, b value) float64) newReducer {
	return func(value) reducer { return &folded{of: of, step: step} }
}

func (f *folded) add(r *run, v value) {
	f.any = true
	f.n = f.step(f.n, f.of(r, v))
}

func (f *folded) result(*run) value {
	if !f.any {
		return nil
	}
	return numberValue(f.n)
}

// extreme is the smallest or largest. The first value is kept as it is, and becomes a number with the second one.
type extreme struct {
	of       fn
	better   func(a, b float64) float64
	held     value
	n        float64 // instead of held, when isNumber
	isNumber bool
}

func best(of fn, better func(a, b float64) float64) newReducer {
	return func(start value) reducer { return &extreme{of: of, better: better, held: start} }
}

func (e *extreme) add(r *run, v value) {
	b := e.of(r, v)
	if !e.isNumber {
		if e.held.kind() == undefined {
			e.held = r.keep(b)
			return
		}
		e.n, e.isNumber = e.held.toNumber(), true
	}
	e.n = e.better(e.n, b.toNumber())
}

func (e *extreme) result(*run) value {
	if e.isNumber {
		return numberValue(e.n)
	}
	return e.held
}

// collection is an array of all values.
type collection struct {
	of    fn
	items value // an array that is not closed
}

func (c *collection) add(r *run, v value) {
	v = c.of(r, v)
	if len(c.items) > 1 {
		c.items = append(c.items, ',')
	}
	if len(v) == 0 {
		v = value("undefined")
	}
	if r.hold(len(v) + 1) {
		c.items = append(c.items, v...)
	}
}

func (c *collection) result(*run) value { return append(c.items, ']') }

// shape is an object of reducers, and of paths to group by.
type shape struct {
	keys []string
	subs []part
}

// part is one member of a shape: the last value of a function, a reducer, or a shape.
type part struct {
	of   fn
	make newReducer
	sub  *shape
}

// reduce is what stands under $reduce.
func (q *rule) reduce() (newReducer, error) {
	if q.kind != object || q.special() {
		f, make, err := q.make(true)
		if err == nil && f != nil {
			err = fmt.Errorf("%s is neither a reduce function nor an object of such", clip(q.v))
		}
		return make, err
	}
	var by []fn
	s, err := q.shape(&by)
	if err != nil {
		return nil, err
	}
	if len(by) == 0 {
		return func(value) reducer { return s.reducer() }, nil
	}
	return func(value) reducer { return &groups{by: by, shape: s} }, nil
}

// shape reads an object and adds its paths to by.
func (q *rule) shape(by *[]fn) (*shape, error) {
	s := &shape{keys: q.keys}
	for i, sub := range q.sub {
		var p part
		var err error
		if sub.kind == object && !sub.special() {
			p.sub, err = sub.shape(by)
		} else {
			p.of, p.make, err = sub.make(true)
		}
		if err != nil {
			return nil, within(q.keys[i], err)
		}
		if p.of != nil {
			*by = append(*by, p.of)
		}
		s.subs = append(s.subs, p)
	}
	return s, nil
}

func (s *shape) reducer() *filled {
	o := &filled{shape: s, subs: make([]reducer, len(s.subs))}
	for i, p := range s.subs {
		switch {
		case p.sub != nil:
			o.subs[i] = p.sub.reducer()
		case p.make != nil:
			o.subs[i] = p.make(nil)
		default:
			o.subs[i] = &latest{of: p.of}
		}
	}
	return o
}

// latest keeps the last value.
type latest struct {
	of   fn
	held value
}

func (l *latest) add(r *run, v value) {
	l.held = r.replace(l.held, l.of(r, v))
}

func (l *latest) result(*run) value { return l.held }

// filled fills one shape.
type filled struct {
	shape *shape
	subs  []reducer
}

func (o *filled) add(r *run, v value) {
	for _, sub := range o.subs {
		sub.add(r, v)
	}
}

func (o *filled) result(r *run) value {
	out := value("{")
	for i, sub := range o.subs {
		out = r.appendMember(out, append(quote([]byte(o.shape.keys[i])), ':'), sub.result(r))
	}
	return append(out, '}')
}

// groups fills one shape for each combination of what the paths lead to, in the order of compare.
type groups struct {
	by    []fn
	shape *shape
	rows  []*row
}

type row struct {
	keys []value // one for each path
	filled
}

func (g *groups) add(r *run, v value) {
	keys := make([]value, len(g.by))
	for i, f := range g.by {
		keys[i] = f(r, v)
	}
	low, high := 0, len(g.rows)-1
	for low <= high {
		mid := low + (high-low)/2
		c, err := compareKeys(g.rows[mid].keys, keys)
		if err != nil {
			r.fail(err)
			return
		}
		switch {
		case c < 0:
			low = mid + 1
		case c > 0:
			high = mid - 1
		default:
			g.rows[mid].put(r, keys, v)
			return
		}
	}
	if !r.hold(rowSize * (1 + len(keys))) {
		return
	}
	fresh := &row{keys: make([]value, len(keys)), filled: *g.shape.reducer()}
	g.rows = slices.Insert(g.rows, low, fresh)
	fresh.put(r, keys, v)
}

// put adds a value to a group. Its keys become those of the group: they need not be spelled like those before.
func (w *row) put(r *run, keys []value, v value) {
	for i, key := range keys {
		w.keys[i] = r.replace(w.keys[i], key)
	}
	w.add(r, v)
}

// compareKeys compares up to the first keys that are not the same one. Two equal arrays are not the same one, so what comes
// after them is not looked at; that is what JS does.
func compareKeys(a, b []value) (int, error) {
	for i := range a {
		if !equal(a[i], b[i]) {
			return compare(a[i], b[i])
		}
	}
	return 0, nil
}

func (g *groups) result(r *run) value {
	out := value("[")
	for i, row := range g.rows {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, row.result(r)...)
	}
	return append(out, ']')
}

// emit gives on what a $reduce stage has made: an array's elements, an object's values, or the one value.
func emit(r *run, red reducer, next func(value) bool) bool {
	switch red := red.(type) {
	case *groups:
		for _, row := range red.rows {
			r.made = 0
			if v := row.result(r); !next(v) {
				return false
			}
		}
		return true
	case *filled:
		for _, sub := range red.subs {
			r.made = 0
			if v := sub.result(r); !next(v) {
				return false
			}
		}
		return true
	case *collection:
		m := members{b: red.result(r)}
		for {
			_, v, ok := m.next(false)
			if !ok {
				return true
			}
			if !next(v) {
				return false
			}
		}
	}
	return next(red.result(r))
}

// sorting is a $sort stage.
type sorting struct {
	paths   []path
	reverse int // from which path on the order is reversed
}

type path struct {
	props []prop
	list  bool // written as an array
}

// sort is what stands under $sort, as npm compare-at-paths 1.0 reads it: a list of paths, each a name, a list of names, or
// {"$reverse": path}, which reverses all paths after it, too.
func (q *rule) sort() (*sorting, error) {
	if q.kind != array {
		return nil, fmt.Errorf("%s is no array of paths", clip(q.v))
	}
	s := &sorting{reverse: len(q.sub)}
	for i, sub := range q.sub {
		if sub.kind == object {
			if sub = sub.get("$reverse"); sub == nil {
				return nil, fmt.Errorf("%s is no path", clip(q.sub[i].v))
			}
			s.reverse = min(s.reverse, i)
		}
		p := path{list: sub.kind == array}
		switch sub.kind {
		case text, number:
			p.props = []prop{propOf(string(sub.v.toString()))}
		case array:
			for _, name := range sub.sub {
				p.props = append(p.props, propOf(string(name.v.toString())))
			}
		default:
			return nil, fmt.Errorf("%s is no path", clip(sub.v))
		}
		s.paths = append(s.paths, p)
	}
	return s, nil
}

// keys are what a value is sorted by. A path in an array that leads to null leads to undefined (npm libnested 1.5).
func (s *sorting) keys(v value) []value {
	keys := make([]value, len(s.paths))
	if v.kind() < array {
		return keys
	}
	for i, p := range s.paths {
		if keys[i] = v.at(p.props); p.list && keys[i].nullish() {
			keys[i] = nil
		}
	}
	return keys
}

// compare compares up to the first keys that differ.
func (s *sorting) compare(a, b []value) (int, error) {
	for i := range a {
		if c, err := compare(a[i], b[i]); c != 0 || err != nil {
			if i >= s.reverse {
				c = -c
			}
			return c, err
		}
	}
	return 0, nil
}
