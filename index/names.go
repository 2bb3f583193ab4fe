package index

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
)

// names is what people call people: the last name that each author gave each feed. A row is feed, author -> name. Nothing of it
// is kept in memory, which the many names that a hostile author makes up would fill.
type names struct{ stateless }

func (names) name() string    { return "names" }
func (names) version() uint32 { return 2 }
func (names) prefix() byte    { return 'N' }

func nameKey(feed, author identity.ID) []byte {
	return append(append([]byte{names{}.prefix()}, feed[:]...), author[:]...)
}

func (names) add(txn *badger.Txn, m *message) error {
	if m.Type() != "about" {
		return nil
	}
	feed, name, ok := parseAbout(m.Content())
	switch {
	case !ok:
		return nil
	case name == "":
		return txn.Delete(nameKey(feed, m.Author()))
	}
	return txn.Set(nameKey(feed, m.Author()), []byte(name))
}

// parseAbout reads what an about message says of a feed's name: one that can be shown, or "" for {remove: true}.
func parseAbout(content []byte) (feed identity.ID, name string, ok bool) {
	var fields map[string]json.RawMessage // not a struct: encoding/json would take "Name" for "name"
	if json.Unmarshal(content, &fields) != nil {
		return feed, "", false
	}
	if feed, ok = parseFeed(fields["about"]); !ok {
		return feed, "", false
	}
	value := fields["name"]
	if len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &name) == nil {
		name = cleanName(name)
		return feed, name, name != ""
	}
	var remove map[string]json.RawMessage
	return feed, "", json.Unmarshal(value, &remove) == nil && string(remove["remove"]) == "true"
}

// nameMost is how many characters of a name are kept.
const nameMost = 100

// cleanName makes a name one line that shows what it is: without control characters, those that turn the direction of writing
// around and those that cannot be seen, and of bounded length. "": nothing is left.
func cleanName(name string) string {
	var b strings.Builder
	left := nameMost
	space := false
	for _, r := range name {
		switch {
		case unicode.IsSpace(r):
			space = true
			continue
		case r == '\u200c' || r == '\u200d': // joiners: Persian and many emoji need them
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point), r == utf8.RuneError:
			continue
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
			left--
		}
		space = false
		if left <= 0 {
			break
		}
		b.WriteRune(r)
		left--
	}
	return strings.Trim(b.String(), " \u200c\u200d")
}

// Name is what a feed is called: by us, else by itself, else by most of the people in range; "": none of them gave it a name.
// A name has no control characters, is one line and at most 100 characters long. It is anybody's choice: only the id tells
// people apart.
func (x *Index) Name(feed identity.ID) string {
	name := ""
	err := x.look(func(txn *badger.Txn) error {
		for _, author := range []identity.ID{x.o.Self, feed} {
			item, err := txn.Get(nameKey(feed, author))
			if errors.Is(err, badger.ErrKeyNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			return item.Value(func(value []byte) error {
				name = string(value)
				return nil
			})
		}
		count := map[string]int{}
		return rows(txn, nameKey(feed, identity.ID{})[:33], func(key, value []byte) error {
			if len(key) != 32 || !x.Wanted(identity.ID(key)) {
				return nil
			}
			given := string(value)
			count[given]++
			// The smaller of two equally common ones, so that it does not change from call to call.
			if c := count[given] - count[name]; name == "" || c > 0 || c == 0 && given < name {
				name = given
			}
			return nil
		})
	})
	if err != nil {
		x.o.Logger.Error("name cannot be read", "feed", feed, "err", err)
		return ""
	}
	return name
}
