package classic

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"charkha/identity"
	"charkha/internal/vectors"
)

// state is the author's previous message, as the sets give it.
type state struct {
	ID       string  `json:"id"`
	Sequence float64 `json:"sequence"`
}

// accept is ssb-validate's append: all of the checks on one message.
func accept(s *Scanner, raw []byte, st *state, key *[32]byte) (identity.MsgID, error) {
	m, err := s.Scan(raw)
	if err != nil {
		return identity.MsgID{}, err
	}
	var have int64
	var prev identity.MsgID
	if st != nil {
		have = int64(st.Sequence)
		prev, err = identity.ParseMsgID(st.ID)
		if err != nil && have != 0 {
			return m.Key, err
		}
	}
	if err := m.CheckNext(have, prev); err != nil {
		return m.Key, err
	}
	if !m.VerifySignature(key) {
		return m.Key, errors.New("bad signature")
	}
	return m.Key, nil
}

// hmacKey reads the key of a case; ok is false when it is not one.
func hmacKey(raw json.RawMessage) (key *[32]byte, ok bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, true
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != 32 {
		return nil, false
	}
	return (*[32]byte)(b), true
}

func TestVectorMessageValidation(t *testing.T) {
	type testCase struct {
		State   *state          `json:"state"`
		HMACKey json.RawMessage `json:"hmacKey"`
		Message json.RawMessage `json:"message"`
		Valid   bool            `json:"valid"`
		ID      string          `json:"id"`
		Error   string          `json:"error"`
		Src     string          `json:"src"`
	}
	cases := vectors.JSON[[]testCase](t, "message-validation", "cases.json")
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	var s Scanner
	for i, c := range cases {
		key, ok := hmacKey(c.HMACKey)
		id, err := accept(&s, c.Message, c.State, key)
		if got := ok && err == nil; got != c.Valid {
			t.Errorf("case %d (%s): valid %v (%v), want %v (%s)", i, c.Src, got, err, c.Valid, c.Error)
		} else if got && id.String() != c.ID {
			t.Errorf("case %d (%s): id %s, want %s", i, c.Src, id, c.ID)
		}
	}
}

func TestVectorLegacyMessages(t *testing.T) {
	type testCase struct {
		Source             string  `json:"source"`
		Value              string  `json:"value"`
		ID                 string  `json:"id"`
		Length             int     `json:"length_utf16"`
		SignatureOK        bool    `json:"signature_ok"`
		ValidateError      *string `json:"ssb_validate_error"`
		SignatureOKSwapped bool    `json:"signature_ok_if_author_sequence_swapped"`
		ValueSwapped       string  `json:"value_swapped"`
		IDSwapped          string  `json:"id_if_swapped"`
		ValidateSwapped    *string `json:"ssb_validate_error_if_swapped"`
	}
	var s Scanner
	check := func(source, value, id string, refused *string) {
		m, err := s.Scan([]byte(value))
		if err == nil {
			err = m.Standalone()
		}
		if err == nil && !m.VerifySignature(nil) {
			err = errors.New("bad signature")
		}
		if (err == nil) != (refused == nil) {
			why := "nothing"
			if refused != nil {
				why = *refused
			}
			t.Errorf("%s: error %v, want %s: %.200s", source, err, why, value)
		} else if err == nil && m.Key.String() != id {
			t.Errorf("%s: id %s, want %s", source, m.Key, id)
		}
	}
	for _, c := range vectors.JSONLines[testCase](t, "legacy-messages", "cases.jsonl") {
		check(c.Source, c.Value, c.ID, c.ValidateError)
		if c.ValueSwapped != "" {
			check(c.Source+" swapped", c.ValueSwapped, c.IDSwapped, c.ValidateSwapped)
		}
		// The id of what is refused is known too.
		pretty, err := Canonical(nil, []byte(c.Value))
		if err != nil {
			t.Errorf("%s: %v", c.Source, err)
			continue
		}
		if latin := AppendLatin1(nil, pretty); c.Length != 0 && len(latin) != c.Length {
			t.Errorf("%s: length %d, want %d", c.Source, len(latin), c.Length)
		} else if id := identity.MsgID(sha256.Sum256(latin)); c.ID != "" && id.String() != c.ID {
			t.Errorf("%s: id %s, want %s", c.Source, id, c.ID)
		}
	}
}

func TestVectorLegacyEncode(t *testing.T) {
	type testCase struct {
		Full  string `json:"full"`
		Input string `json:"input"`
		NoSig string `json:"nosig"`
		Key   string `json:"key"`
	}
	var s Scanner
	for i, c := range vectors.JSONLines[testCase](t, "legacy-encode", "cases.jsonl.gz") {
		var kvt struct{ Value json.RawMessage }
		if err := json.Unmarshal([]byte(c.Full), &kvt); err != nil {
			t.Fatal(err)
		}
		pretty, err := Canonical(nil, kvt.Value)
		if err != nil || string(pretty) != c.Input {
			t.Errorf("case %d: error %v, signing spelling\n%s\nwant\n%s", i, err, pretty, c.Input)
		}
		m, err := s.Scan(kvt.Value)
		if err != nil {
			t.Errorf("case %d: %v", i, err)
			continue
		}
		if string(m.Signed) != c.NoSig {
			t.Errorf("case %d: signed\n%s\nwant\n%s", i, m.Signed, c.NoSig)
		}
		if m.Key.String() != c.Key || string(m.Value) != string(kvt.Value) {
			t.Errorf("case %d: key %s, value %s", i, m.Key, m.Value)
		}
	}
}

// checkValue compares our spelling of a value with V8's.
func checkValue(t *testing.T, id string, input []byte, want string, length int, sum string) {
	t.Helper()
	got, err := Canonical(nil, input)
	if err != nil {
		t.Errorf("%s: refused: %v", id, err)
		return
	}
	if string(got) != want {
		t.Errorf("%s: spelling %q, want %q", id, got, want)
		return
	}
	latin := AppendLatin1(nil, got)
	if length >= 0 && len(latin) != length {
		t.Errorf("%s: %d UTF-16 units, want %d", id, len(latin), length)
	}
	if h := sha256.Sum256(latin); sum != "" && hex.EncodeToString(h[:]) != sum {
		t.Errorf("%s: hash %x, want %s", id, h, sum)
	}
	// Reading our own spellings again changes nothing.
	again, err := Canonical(nil, got)
	if err != nil || string(again) != want {
		t.Errorf("%s: spelled again: %q, %v", id, again, err)
	}
	compact, err := Compact(nil, input)
	if err == nil {
		again, err = Canonical(nil, compact)
	}
	if err != nil || string(again) != want {
		t.Errorf("%s: by way of the compact form: %q, %v", id, again, err)
	}
}

func TestVectorLegacyValue(t *testing.T) {
	type testCase struct {
		ID      string `json:"id"`
		Class   string `json:"class"`
		OK      bool   `json:"ok"`
		Input   []byte `json:"input_b64"`
		Signing []byte `json:"signing_b64"`
		Length  int    `json:"length"`
		Sum     string `json:"sha256"`
		V8      bool   `json:"v8_accepts"`
		V8Sign  string `json:"v8_signing"`
	}
	for _, c := range vectors.JSONLines[testCase](t, "legacy-value", "cases.jsonl.gz") {
		switch {
		case c.OK:
			checkValue(t, c.ID, c.Input, string(c.Signing), c.Length, c.Sum)
		case c.V8: // where the two differ, V8 is what the network runs
			checkValue(t, c.ID, c.Input, c.V8Sign, -1, "")
		default:
			if got, err := Canonical(nil, c.Input); err == nil {
				t.Errorf("%s (%s): accepted %q as %q", c.ID, c.Class, c.Input, got)
			}
		}
	}
}

func TestVectorJSONSyntax(t *testing.T) {
	type testCase struct {
		ID        string `json:"id"`
		Input     []byte `json:"input_b64"`
		ValidUTF8 bool   `json:"valid_utf8"`
		V8        bool   `json:"v8_accepts"`
		V8Sign    string `json:"v8_signing"`
		Length    int    `json:"v8_length"`
		Sum       string `json:"v8_sha256"`
	}
	for _, c := range vectors.JSONLines[testCase](t, "json-syntax", "cases.jsonl.gz") {
		if c.ValidUTF8 && c.V8 {
			checkValue(t, c.ID, c.Input, c.V8Sign, c.Length, c.Sum)
		} else if got, err := Canonical(nil, c.Input); err == nil {
			t.Errorf("%s: accepted %q as %q", c.ID, c.Input, got)
		}
	}
}

func TestVectorESNumber(t *testing.T) {
	type testCase struct {
		Bits string `json:"bits"`
		Text string `json:"text"`
	}
	for _, c := range vectors.JSONLines[testCase](t, "es-number", "cases.jsonl.gz") {
		bits, err := strconv.ParseUint(c.Bits, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		f := math.Float64frombits(bits)
		if got := string(AppendNumber(nil, f)); got != c.Text {
			t.Errorf("%s: %s, want %s", c.Bits, got, c.Text)
		}
		if got, err := Canonical(nil, []byte(c.Text)); err != nil || string(got) != c.Text {
			t.Errorf("%s read and written: %s, %v", c.Text, got, err)
		}
		if back, err := strconv.ParseFloat(c.Text, 64); err != nil || f != 0 && back != f {
			t.Errorf("%s reads as %v, want %v", c.Text, back, f)
		}
	}
}

// Where the validators differ, ours says what ssb-validate says.
func TestVectorLegacyProbes(t *testing.T) {
	type testCase struct {
		Name    string `json:"name"`
		Raw     string `json:"raw"`
		State   *state `json:"state"`
		Accepts struct {
			Validate bool `json:"ssb_validate"`
		} `json:"accepts"`
		MsgID    string `json:"msg_id"`
		Length   int    `json:"length_utf16"`
		Spelling string `json:"signing_encoding"`
	}
	var s Scanner
	for _, c := range vectors.JSONLines[testCase](t, "legacy-probes", "cases.jsonl") {
		id, err := accept(&s, []byte(c.Raw), c.State, nil)
		if (err == nil) != c.Accepts.Validate {
			t.Errorf("%s: %v, want accepted %v", c.Name, err, c.Accepts.Validate)
			continue
		}
		if err != nil {
			continue
		}
		if id.String() != c.MsgID {
			t.Errorf("%s: id %s, want %s", c.Name, id, c.MsgID)
		}
		m, err := s.Scan([]byte(c.Raw))
		if err != nil {
			t.Fatal(err)
		}
		if c.Spelling != "" && string(m.Signed) != c.Spelling {
			t.Errorf("%s: signed\n%s\nwant\n%s", c.Name, m.Signed, c.Spelling)
		}
		value := string(m.Value)
		if again, err := s.Scan([]byte(value)); err != nil || again.Key != id {
			t.Errorf("%s: its value %s reads back as %v", c.Name, value, err)
		}
	}
}

// feedLines are the messages of the sets of whole feeds.
func feedLines(t testing.TB, do func(where, key string, value []byte)) {
	t.Helper()
	line := func(set, name string) {
		vectors.Lines(t, set, name, func(n int, line []byte) {
			var kvt struct {
				Key   string
				Value json.RawMessage
			}
			if err := json.Unmarshal(line, &kvt); err != nil {
				t.Fatalf("%s/%s line %d: %v", set, name, n, err)
			}
			do(name+":"+strconv.Itoa(n), kvt.Key, kvt.Value)
		})
	}
	line("feeds-fixtures", "messages.jsonl.gz")
	files, err := filepath.Glob(filepath.Join(vectors.Dir(t, "feeds-real"), "*.jsonl.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("feeds-real: no feeds (%v)", err)
	}
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			t.Fatal(err)
		}
		line("feeds-real", filepath.Base(f))
	}
}

func TestVectorFeeds(t *testing.T) {
	t.Parallel()
	type head struct {
		seq int64
		key identity.MsgID
	}
	heads := map[identity.ID]head{}
	var s Scanner
	feedLines(t, func(where, key string, value []byte) {
		m, err := s.Scan(value)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			return
		}
		h := heads[m.Author]
		if err := m.CheckNext(h.seq, h.key); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		heads[m.Author] = head{m.Sequence, m.Key}
		if m.Key.String() != key {
			t.Errorf("%s: id %s, want %s", where, m.Key, key)
		}
		if string(m.Value) != string(value) {
			t.Errorf("%s: value\n%s\nwant\n%s", where, m.Value, value)
		}
		if !testing.Short() && !m.VerifySignature(nil) {
			t.Errorf("%s: bad signature", where)
		}
		author, seq, ok := Peek(value)
		if !ok || author != m.Author || seq != m.Sequence {
			t.Errorf("%s: peeked %v %v %d", where, ok, author, seq)
		}
		var want struct {
			Content   json.RawMessage
			Timestamp float64
		}
		if err := json.Unmarshal(value, &want); err != nil {
			t.Fatal(err)
		}
		var typ struct{ Type string }
		if want.Content[0] == '{' {
			if err := json.Unmarshal(want.Content, &typ); err != nil {
				t.Fatal(err)
			}
		}
		if string(m.Content) != string(want.Content) || string(m.Type) != typ.Type || m.Timestamp != want.Timestamp {
			t.Errorf("%s: fields %q %v, content %s", where, m.Type, m.Timestamp, m.Content)
		}
	})
	if len(heads) == 0 {
		t.Fatal("no feeds")
	}
}
