package api

import (
	"fmt"
	"slices"
	"testing"
)

// What a query by claimed time finds goes on behind what the index is asked for first.
func TestManyBacklinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.post("root")
	const n = 300
	contents := make([]string, n)
	for i := range contents {
		contents[i] = fmt.Sprintf(`{"type":"post","text":"%d","even":%t,"root":%q}`, i, i%2 == 0, root.Key)
	}
	_, raws := w.feed(31, contents...)
	w.add(raws)
	ask := func(content object, more object) (texts []string) {
		content["type"] = "post"
		more["query"] = []any{object{"$filter": object{"dest": root.Key, "value": object{"content": content}}}}
		return w.texts(w.all("backlinks.read", more))
	}
	for _, limit := range []int{1, 63, 64, 65, 150, 299, 300, 301} {
		for _, reverse := range []bool{false, true} {
			var all, even []string
			for i := range n {
				at := i
				if reverse {
					at = n - 1 - i
				}
				if len(all) < limit {
					all = append(all, fmt.Sprint(at))
				}
				if at%2 == 0 && len(even) < limit {
					even = append(even, fmt.Sprint(at))
				}
			}
			if got := ask(object{}, object{"limit": limit, "reverse": reverse}); !slices.Equal(got, all) {
				t.Errorf("limit %d, reverse %t: %v", limit, reverse, got)
			}
			// A filter that the index does not know: more is asked for until there are enough.
			if got := ask(object{"even": true}, object{"limit": limit, "reverse": reverse}); !slices.Equal(got, even) {
				t.Errorf("even, limit %d, reverse %t: %v", limit, reverse, got)
			}
		}
	}
}
