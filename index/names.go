package index

import (
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dgraph-io/badger/v4"

	"charkha/identity"
)

// names is what people say of people: the last name, image and description that each author gave each feed. A row is feed,
// field, author -> text. Nothing of it is kept in memory, which the many names that a hostile author makes up would fill.
type names struct{ stateless }

func (names) name() string    { return "names" }
func (names) version() uint32 { return 3 }
func (names) prefix() byte    { return 'N' }
func (names) kind() string    { return "about" }

// Field is what people say of people.
type Field byte

// The fields of an about message that are kept.
const (
	FieldName        Field = 'n' // one line, see Name
	FieldImage       Field = 'i' // the id of a blob
	FieldDescription Field = 'd' // at most 2,000 characters, line ends among them
)

var fields = []struct {
	field Field
	key   string
	clean func(value json.RawMessage) string // "": it says nothing
}{
	{FieldName, "name", func(value json.RawMessage) string { return cleanName(textOf(value)) }},
	{FieldImage, "image", blobOf},
	{FieldDescription, "description", func(value json.RawMessage) string { return cleanText(textOf(value)) }},
}

func nameKey(feed identity.ID, field Field, author identity.ID) []byte {
	key := append(append([]byte{names{}.prefix()}, feed[:]...), byte(field))
	return append(key, author[:]...)
}

func (names) add(txn *badger.Txn, m *message) error {
	feed, said, ok := aboutOf(m.Content())
	if !ok {
		return nil
	}
	for _, f := range fields {
		text, ok := fieldOf(said[f.key], f.clean)
		var err error
		switch key := nameKey(feed, f.field, m.Author()); {
		case !ok:
		case text == "":
			err = txn.Delete(key)
		default:
			err = txn.Set(key, []byte(text))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// aboutOf reads whom an about message is about, and what it says.
func aboutOf(content []byte) (feed identity.ID, said map[string]json.RawMessage, ok bool) {
	// Not a struct: encoding/json would take "Name" for "name".
	if json.Unmarshal(content, &said) != nil {
		return feed, nil, false
	}
	feed, ok = parseFeed(said["about"])
	return feed, said, ok
}

// fieldOf is what a field says: a text that can be shown, or "" for {remove: true}.
func fieldOf(value json.RawMessage, clean func(json.RawMessage) string) (text string, ok bool) {
	if len(value) == 0 {
		return "", false
	}
	var parts map[string]json.RawMessage
	if value[0] == '{' && json.Unmarshal(value, &parts) == nil && string(parts["remove"]) == "true" {
		return "", true
	}
	text = clean(value)
	return text, text != ""
}

// parseAbout reads what an about message says of a feed's name.
func parseAbout(content []byte) (feed identity.ID, name string, ok bool) {
	feed, said, ok := aboutOf(content)
	if !ok {
		return feed, "", false
	}
	name, ok = fieldOf(said["name"], fields[0].clean)
	return feed, name, ok
}

// textOf is a JSON string, or "".
func textOf(value json.RawMessage) (text string) {
	if value[0] != '"' || json.Unmarshal(value, &text) != nil {
		return ""
	}
	return text
}

// blobOf is the id of a blob, as a string or as {link}, or "".
func blobOf(value json.RawMessage) string {
	text := value
	if value[0] == '{' {
		var parts map[string]json.RawMessage
		if json.Unmarshal(value, &parts) != nil || len(parts["link"]) == 0 {
			return ""
		}
		text = parts["link"]
	}
	// What follows a question mark says how to read it.
	name, _, _ := strings.Cut(textOf(text), "?")
	id, err := identity.ParseBlobID(name)
	if err != nil {
		return ""
	}
	return id.String()
}

// textMost is how many characters of a description are kept.
const textMost = 2000

// cleanText takes out of a text what cannot be seen but for spaces and line ends, as cleanName does.
func cleanText(text string) string {
	var b strings.Builder
	left := textMost
	for _, r := range text {
		if r != '\n' && r != '\u200c' && r != '\u200d' &&
			(unicode.In(r, unicode.Cc, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point) || r == utf8.RuneError) {
			continue
		}
		if left--; left < 0 {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
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
func (x *Index) Name(feed identity.ID) string { return x.logged(feed, FieldName) }

func (x *Index) logged(feed identity.ID, field Field) string {
	text, err := x.social(feed, field)
	if err != nil {
		x.o.Logger.Error("name cannot be read", "feed", feed, "err", err)
		return ""
	}
	return text
}

// Profile is what is said of a feed, each by the rule of Name.
type Profile struct {
	Name        string
	Image       string // the id of a blob, or ""
	Description string
}

// Profile is what is said of a feed.
func (x *Index) Profile(feed identity.ID) (p Profile, err error) {
	for _, f := range []struct {
		field Field
		text  *string
	}{{FieldName, &p.Name}, {FieldImage, &p.Image}, {FieldDescription, &p.Description}} {
		if *f.text, err = x.social(feed, f.field); err != nil {
			return Profile{}, err
		}
	}
	return p, nil
}

// social is what is said of a feed: by us, else by itself, else by most of the people in range.
func (x *Index) social(feed identity.ID, field Field) (text string, err error) {
	err = x.look(func(txn *badger.Txn) error {
		for _, author := range []identity.ID{x.o.Self, feed} {
			item, err := txn.Get(nameKey(feed, field, author))
			if errors.Is(err, badger.ErrKeyNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			return item.Value(func(value []byte) error {
				text = string(value)
				return nil
			})
		}
		count := map[string]int{}
		return rows(txn, nameKey(feed, field, identity.ID{})[:34], func(key, value []byte) error {
			if len(key) != 32 || !x.Wanted(identity.ID(key)) {
				return nil
			}
			given := string(value)
			count[given]++
			// The smaller of two equally common ones, so that it does not change from call to call.
			if c := count[given] - count[text]; text == "" || c > 0 || c == 0 && given < text {
				text = given
			}
			return nil
		})
	})
	if err != nil {
		return "", err
	}
	return text, nil
}

// Said is what somebody last said of somebody.
type Said struct {
	Feed, Author identity.ID
	Field        Field
	Text         string
}

// Said yields what everybody said of a feed, whether in range or not; of the zero feed, of all feeds, in the order of their ids. It
// is as of one moment: whoever reads slowly keeps old files of the index alive. An error ends it.
func (x *Index) Said(feed identity.ID) iter.Seq2[Said, error] {
	return func(yield func(Said, error) bool) {
		prefix := []byte{names{}.prefix()}
		if !feed.IsZero() {
			prefix = append(prefix, feed[:]...)
		}
		n := len(prefix) - 1
		enough := errors.New("enough")
		err := x.look(func(txn *badger.Txn) error {
			return rows(txn, prefix, func(key, value []byte) error {
				whole := append(feed[:n:n], key...)
				if len(whole) != 32+1+32 {
					return errRow
				}
				said := Said{identity.ID(whole), identity.ID(whole[33:]), Field(whole[32]), string(value)}
				if !yield(said, nil) {
					return enough
				}
				return nil
			})
		})
		if err != nil && !errors.Is(err, enough) {
			yield(Said{}, err)
		}
	}
}
