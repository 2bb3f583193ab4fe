package private

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"charkha/identity"
	"charkha/internal/vectors"
)

// keyPair is the identity of a private key as the secret file has it: base64 of seed and public key, perhaps with a suffix.
func keyPair(t testing.TB, private string) identity.KeyPair {
	t.Helper()
	private, _, _ = strings.Cut(private, ".")
	b, err := base64.StdEncoding.DecodeString(private)
	if err != nil || len(b) != 64 {
		t.Fatalf("private key %q: %d bytes, %v", private, len(b), err)
	}
	key := identity.FromSeed([32]byte(b))
	if id := key.ID(); !bytes.Equal(id[:], b[32:]) {
		t.Fatalf("private key %q: not its own public half", private)
	}
	return key
}

func secrets(t testing.TB, set string) []identity.KeyPair {
	t.Helper()
	var keys []identity.KeyPair
	for _, s := range vectors.JSON[[]struct {
		Private string `json:"private"`
	}](t, set, "secrets.json") {
		keys = append(keys, keyPair(t, s.Private))
	}
	if len(keys) == 0 {
		t.Fatal("no secrets")
	}
	return keys
}

func equalJSON(t testing.TB, a, b []byte) bool {
	t.Helper()
	var buf [2]bytes.Buffer
	for i, raw := range [][]byte{a, b} {
		if err := json.Compact(&buf[i], raw); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	}
	return buf[0].String() == buf[1].String()
}

type boxed struct {
	Key       string          `json:"key"`
	Content   string          `json:"content"`
	Readers   []identity.ID   `json:"readers"`
	Plaintext json.RawMessage `json:"plaintext"`
}

// Each box is tried with each key: it opens for its readers and for nobody else, with the text, with bytes, and with the
// message's own key.
func TestVectorBoxes(t *testing.T) {
	t.Parallel()
	keys := secrets(t, "private-box")
	for _, c := range vectors.JSONLines[boxed](t, "private-box", "boxes.jsonl.gz") {
		for _, key := range keys {
			want := slices.Contains(c.Readers, key.ID())
			got, ok := Unbox(c.Content, key)
			if ok != want || ok && !equalJSON(t, got, c.Plaintext) {
				t.Errorf("%s with %s: %s, %v; want %s, %v", c.Key, key.ID(), got, ok, c.Plaintext, want)
			}
			if !want {
				continue
			}
			k, ok := UnboxKey([]byte(c.Content), key)
			if !ok {
				t.Errorf("%s with %s: no key", c.Key, key.ID())
			}
			if k, err := ParseKey(k.Text()); err != nil {
				t.Error(err)
			} else if got, ok := k.Unbox(c.Content); !ok || !equalJSON(t, got, c.Plaintext) {
				t.Errorf("%s with its own key: %s, %v", c.Key, got, ok)
			}
			if ids, ok, err := Recipients(got); err != nil || !ok || !slices.Contains(ids, key.ID()) {
				t.Errorf("%s: recipients %v, %v, %v", c.Key, ids, ok, err)
			}
		}
	}
}

func TestVectorSimple(t *testing.T) {
	t.Parallel()
	type simple struct {
		Text string `json:"cypher_text"`
		Msg  string `json:"msg"`
		Keys []struct {
			Secret string `json:"secret"`
		} `json:"keys"`
	}
	c := vectors.JSON[simple](t, "private-box", "simple.json")
	if len(c.Keys) == 0 {
		t.Fatal("no keys")
	}
	for _, k := range c.Keys {
		if got, ok := Unbox(c.Text+".box", keyPair(t, k.Secret)); !ok || string(got) != c.Msg {
			t.Errorf("%q, %v", got, ok)
		}
	}
}

// The private messages among the feeds of the fixtures open for somebody there, and say so in their recps.
func TestVectorFixtures(t *testing.T) {
	t.Parallel()
	keys := secrets(t, "feeds-fixtures")
	type message struct {
		Key   string `json:"key"`
		Value struct {
			Author  identity.ID     `json:"author"`
			Content json.RawMessage `json:"content"`
		} `json:"value"`
	}
	private := 0
	for _, m := range vectors.JSONLines[message](t, "feeds-fixtures", "messages.jsonl.gz") {
		var text string
		if json.Unmarshal(m.Value.Content, &text) != nil {
			continue
		}
		private++
		readers, recps := 0, 0
		for _, key := range keys {
			if plaintext, ok := Unbox(text, key); ok {
				readers++
				ids, _, err := Recipients(plaintext)
				if err != nil || !slices.Contains(ids, m.Value.Author) {
					t.Errorf("%s: recipients %v, %v", m.Key, ids, err)
				}
				recps = len(ids)
			}
		}
		if readers == 0 || readers != recps {
			t.Errorf("%s opens for %d of %d recipients", m.Key, readers, recps)
		}
	}
	if private == 0 {
		t.Fatal("no private messages")
	}
}

// What libsodium does not convert is no recipient; for whom it does convert, the slot opens.
func TestVectorConversion(t *testing.T) {
	t.Parallel()
	public := vectors.JSON[[]struct {
		Key   string `json:"ed25519_pk"`
		Valid bool   `json:"valid"`
	}](t, "ed25519-signing", "pk_to_x25519.json")
	secret := vectors.JSON[[]struct {
		Seed string `json:"seed"`
	}](t, "ed25519-signing", "sk_to_x25519.json")
	if len(public) == 0 || len(secret) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range public {
		id := identity.ID(unhex(t, c.Key))
		text, err := Box([]byte("{}"), []identity.ID{id})
		if c.Valid && err != nil {
			t.Errorf("%x: %v", id, err)
		}
		if !c.Valid && (!errors.Is(err, ErrRecipients) || !errors.Is(err, identity.ErrPoint) || text != "") {
			t.Errorf("%x: %q, %v; want a refusal", id, text, err)
		}
	}
	for _, c := range secret {
		key := identity.FromSeed([32]byte(unhex(t, c.Seed)))
		text, err := Box([]byte("{}"), []identity.ID{key.ID()})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := Unbox(text, key); !ok || string(got) != "{}" {
			t.Errorf("%s: %q, %v", c.Seed, got, ok)
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		t.Fatalf("%q: %d bytes, %v", s, len(b), err)
	}
	return b
}

type edges struct {
	Secrets []string `json:"secrets"`
	Cases   []struct {
		Name  string `json:"name"`
		Text  string `json:"text"`
		Opens []struct {
			Key       *string         `json:"key"`
			Plaintext json.RawMessage `json:"plaintext"`
		} `json:"opens"`
	} `json:"cases"`
}

func readEdges(t testing.TB) (e edges, keys []identity.KeyPair) {
	t.Helper()
	data, err := os.ReadFile("testdata/unbox.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	for _, s := range e.Secrets {
		keys = append(keys, keyPair(t, s))
	}
	if len(e.Cases) == 0 || len(keys) == 0 {
		t.Fatal("no cases")
	}
	return e, keys
}

// notContent are the cases that npm ssb-keys opens and Unbox does not, as no message can have such a content.
var notContent = []string{
	"suffix ", "suffix .", "suffix .bo", "suffix .foo", "suffix .foo.box", "suffix .Box", "URL alphabet", "no padding", "a line end inside",
	"suffix .box2", // could be one, but is another format
}

// At the edges of the format, the answers are those of npm ssb-keys.
func TestUnboxAsJS(t *testing.T) {
	t.Parallel()
	e, keys := readEdges(t)
	skipped := 0
	for _, c := range e.Cases {
		if slices.Contains(notContent, c.Name) {
			skipped++
			for _, key := range keys {
				if k, ok := UnboxKey(c.Text, key); ok {
					t.Errorf("%s: opens, with %s", c.Name, k.Text())
				}
			}
			continue
		}
		for i, want := range c.Opens {
			k, ok := UnboxKey(c.Text, keys[i])
			if ok != (want.Key != nil) || ok && k.Text() != *want.Key {
				t.Errorf("%s, person %d: key %s, %v; want %v", c.Name, i, k.Text(), ok, want.Key)
			}
			got, ok := Unbox(c.Text, keys[i])
			if ok && !json.Valid(got) {
				ok = false // JS peers parse at once
			}
			if opens := string(want.Plaintext) != "null"; ok != opens || ok && !equalJSON(t, got, want.Plaintext) {
				t.Errorf("%s, person %d: %q, %v; want %s", c.Name, i, got, ok, want.Plaintext)
			}
		}
	}
	if skipped != len(notContent) {
		t.Errorf("%d of %d exceptions are in the file", skipped, len(notContent))
	}
}

func TestBox(t *testing.T) {
	t.Parallel()
	var keys []identity.KeyPair
	var ids []identity.ID
	for i := range byte(9) {
		keys = append(keys, identity.FromSeed([32]byte{i}))
		ids = append(ids, keys[i].ID())
	}
	plaintext := []byte(`{"type":"post","text":"ü"}`)
	for n := 1; n <= MaxRecipients; n++ {
		text, err := Box(plaintext, ids[:n])
		if err != nil {
			t.Fatal(err)
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(text, ".box"))
		if err != nil || len(raw) != 24+32+49*n+16+len(plaintext) {
			t.Errorf("%d recipients: %d bytes, %v", n, len(raw), err)
		}
		for i, key := range keys {
			if got, ok := Unbox(text, key); ok != (i < n) || ok && !bytes.Equal(got, plaintext) {
				t.Errorf("%d recipients, person %d: %q, %v", n, i, got, ok)
			}
		}
		again, _ := Box(plaintext, ids[:n])
		if again == text {
			t.Error("the same twice")
		}
	}
	for _, n := range []int{0, 8, 9} {
		if text, err := Box(plaintext, ids[:n]); !errors.Is(err, ErrRecipients) || text != "" {
			t.Errorf("%d recipients: %q, %v", n, text, err)
		}
	}
	if text, err := Box(plaintext, []identity.ID{ids[0], {}}); !errors.Is(err, ErrRecipients) || text != "" {
		t.Errorf("a zero id: %q, %v", text, err)
	}
	if _, ok := Unbox("", identity.KeyPair{}); ok {
		t.Error("no key opens nothing")
	}
}

// Equal randomness gives equal messages; and when there is not enough of it, there is no message.
func TestBoxRandomness(t *testing.T) {
	t.Parallel()
	id := []identity.ID{identity.FromSeed([32]byte{1}).ID()}
	seed := bytes.Repeat([]byte{9}, 88)
	a, err := box(bytes.NewReader(seed), []byte("x"), id)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := box(iotest.OneByteReader(bytes.NewReader(seed)), []byte("x"), id); a != b {
		t.Errorf("%s\n%s", a, b)
	}
	for n := range len(seed) {
		if text, err := box(bytes.NewReader(seed[:n]), []byte("x"), id); err == nil || text != "" {
			t.Fatalf("a message from %d random bytes", n)
		}
	}
}

func TestKeyDoesNotPrint(t *testing.T) {
	t.Parallel()
	k := Key{1, 2, 3}
	if got := fmt.Sprintf("%v %x %#v %s", k, k, k, k); got != "private.Key private.Key private.Key private.Key" {
		t.Error(got)
	}
	for _, s := range []string{"", "AAAA", k.Text() + "AAAA", k.Text()[1:], "." + k.Text(), strings.Repeat("!", 44)} {
		if _, err := ParseKey(s); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if got, err := ParseKey(k.Text() + ".boxs"); err != nil || got != k {
		t.Errorf("%s, %v", got.Text(), err)
	}
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	a, b := identity.FromSeed([32]byte{1}).ID(), identity.FromSeed([32]byte{2}).ID()
	list := func(n int) string {
		return `{"recps":[` + strings.TrimSuffix(strings.Repeat(`"`+a.String()+`",`, n), ",") + `]}`
	}
	for content, want := range map[string][]identity.ID{
		`{"type":"post"}`:                                             nil,
		`{"type":"post","recps":null}`:                                nil,
		`{"Recps":["x"]}`:                                             nil,
		`{"x":{"recps":["x"]}}`:                                       nil,
		`{"recps":["` + a.String() + `"]}`:                            {a},
		` { "recps" : [ "` + a.String() + `" ] } `:                    {a},
		`{"recps":"` + a.String() + `"}`:                              {a},
		`{"recps":{"link":"` + a.String() + `","name":"al"}}`:         {a},
		`{"recps":[{"link":"` + b.String() + `"},"` + a.URI() + `"]}`: {b, a},
		`{"recps":["` + a.String() + `","` + a.String() + `"]}`:       {a, a},
		`{"recps":"x","recps":["` + b.String() + `"]}`:                {b},
		`{"recps":["x"],"recps":null}`:                                nil,
		list(7):                                                       {a, a, a, a, a, a, a},
	} {
		got, ok, err := Recipients(json.RawMessage(content))
		if err != nil || ok != (want != nil) || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, %v; want %v", content, got, ok, err, want)
		}
	}
	for _, content := range []string{
		"", "{", `"x"`, "[]", "1", list(0), list(8), list(10000),
		`{"recps":""}`, `{"recps":0}`, `{"recps":false}`, `{"recps":true}`, `{"recps":{}}`, `{"recps":"x"}`, `{"recps":[null]}`, `{"recps":[[]]}`,
		`{"recps":["` + a.String() + `",null]}`, `{"recps":["` + a.String() + `",""]}`, `{"recps":["` + a.String() + ` "]}`,
		`{"recps":[{"link":null}]}`, `{"recps":[{"link":{"link":"` + a.String() + `"}}]}`, `{"recps":[{"Link":"` + a.String() + `"}]}`,
		`{"recps":[["` + a.String() + `"]]}`, `{"recps":["%` + a.String()[1:45] + `.sha256"]}`, `{"recps":["%` + a.String()[1:45] + `.cloaked"]}`,
		`{"recps":["ssb:message/classic/` + a.URI()[len("ssb:feed/classic/"):] + `"]}`,
		`{"recps":["` + strings.Repeat("x", 10000) + `"]}`,
	} {
		ids, ok, err := Recipients(json.RawMessage(content))
		if !errors.Is(err, ErrRecipients) || ok || ids != nil {
			t.Errorf("%.80s: %v, %v, %v; want an error", content, ids, ok, err)
		}
		if err != nil && len(err.Error()) > 300 {
			t.Errorf("%.80s: an error of %d bytes", content, len(err.Error()))
		}
	}
}

// A message for others costs no allocation, however long it is.
func TestUnboxAllocations(t *testing.T) {
	content := strangers(t)
	key := identity.FromSeed([32]byte{99})
	for _, text := range content {
		if n := testing.AllocsPerRun(20, func() {
			if _, ok := Unbox(text, key); ok {
				t.Error("opened")
			}
		}); n != 0 {
			t.Errorf("%d characters: %v allocations", len(text), n)
		}
	}
}

// strangers are a short and a long message for seven others.
func strangers(t testing.TB) []string {
	t.Helper()
	var ids []identity.ID
	for i := range byte(7) {
		ids = append(ids, identity.FromSeed([32]byte{i}).ID())
	}
	var texts []string
	for _, n := range []int{100, 5000} {
		text, err := Box(bytes.Repeat([]byte("x"), n), ids)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	return texts
}

func FuzzUnbox(f *testing.F) {
	e, keys := readEdges(f)
	for _, c := range e.Cases {
		f.Add(c.Text, []byte{1})
	}
	f.Add(".box", []byte{})
	f.Add("====.box", bytes.Repeat([]byte{255}, 33))
	f.Fuzz(func(t *testing.T, text string, key []byte) {
		got, ok := Unbox(text, keys[0])
		same, okBytes := Unbox([]byte(text), keys[0])
		if ok != okBytes || !bytes.Equal(got, same) {
			t.Errorf("%q, %v as string; %q, %v as bytes", got, ok, same, okBytes)
		}
		if k, okKey := UnboxKey(text, keys[0]); ok && !okKey {
			t.Error("opened without a key")
		} else if body, okBody := k.Unbox(text); okKey && (okBody != ok || !bytes.Equal(got, body)) {
			t.Errorf("%q, %v with the message's key; %q, %v with ours", body, okBody, got, ok)
		}
		var k Key
		copy(k[:], key)
		if body, ok := k.Unbox(text); ok && len(body) > len(text) {
			t.Errorf("%d bytes from %d", len(body), len(text))
		}
		if k, err := ParseKey(text); err == nil && !strings.HasPrefix(text, k.Text()) && !strings.ContainsAny(text, "\r\n") {
			t.Errorf("%q is the key %q", text, k.Text())
		}
	})
}

func FuzzRecipients(f *testing.F) {
	id := identity.FromSeed([32]byte{1}).ID()
	f.Add([]byte(`{"recps":["` + id.String() + `",{"link":"` + id.String() + `"}]}`))
	f.Add([]byte(`{"recps":"` + id.URI() + `"}`))
	f.Add([]byte(`{"recps":null}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		ids, ok, err := Recipients(content)
		if ok != (len(ids) > 0) || ok && err != nil || len(ids) > MaxRecipients {
			t.Errorf("%v, %v, %v", ids, ok, err)
		}
	})
}

// A message for others is what an index meets most. Per operation: one message of 7 slots.
func BenchmarkUnboxOthers(b *testing.B) {
	texts := strangers(b)
	key := identity.FromSeed([32]byte{99})
	for _, text := range texts {
		b.Run(fmt.Sprintf("chars=%d", len(text)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := Unbox(text, key); ok {
					b.Fatal("opened")
				}
			}
		})
	}
}

func BenchmarkUnboxOurs(b *testing.B) {
	text := strangers(b)[0]
	key := identity.FromSeed([32]byte{6})
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := Unbox(text, key); !ok {
			b.Fatal("not opened")
		}
	}
}

func BenchmarkBox(b *testing.B) {
	var ids []identity.ID
	for i := range byte(7) {
		ids = append(ids, identity.FromSeed([32]byte{i}).ID())
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := box(rand.Reader, []byte(`{"type":"post"}`), ids); err != nil {
			b.Fatal(err)
		}
	}
}
