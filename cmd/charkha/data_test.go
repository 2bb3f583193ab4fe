package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// byDecoding is memberOf as encoding/json has it.
func byDecoding(object []byte, name string) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return nil, err
	}
	if members == nil {
		return nil, errors.New("null")
	}
	return members[name], nil
}

// FuzzMemberOf holds that of any JSON the same value is found as by decoding it all; of what is no JSON, nothing is asked but
// to come to an end.
func FuzzMemberOf(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { } `, `{"value":{"a":1}}`, `{"key":"%x","value":{"content":{"value":"{}\"]"}},"timestamp":1.5}`,
		`{"value":1,"value":{"b":[{}]}}`, `{"v\u0061lue":{}}`, `{"value\\":{},"\"":[],"value":"\\"}`, `{"Value":{}}`,
		`{"a":true,"b":null,"value":-1e9}`, `{ "a" : [ ] , "value" : { } }` + "\r\n", `{"value":"\u007b"}`, `[]`, `"value"`, `null`, `1`, ``,
		`{`, `{"`, `{"a`, `{"a\"`, `{"a"`, `{"a":`, `{"a":}`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a":{]}`, `{"a":[}`, `{"value":{}}x`, `{,}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got, err := memberOf(line, "value")
		if !json.Valid(line) {
			return
		}
		want, werr := byDecoding(line, "value")
		if (err != nil) != (werr != nil) || !bytes.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q, %v", line, got, err, want, werr)
		}
	})
}

func TestMessageOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, want, err string }{
		{line: `{"key":"%","value":{"author":"@"},"timestamp":1}`, want: `{"author":"@"}`},
		{line: `{"author":"@","content":{"value":{}}}`, want: `{"author":"@","content":{"value":{}}}`},
		{line: `{"value":"text"}`, want: `{"value":"text"}`},
		{line: `not json`, err: "byte 1 is 'n' where { should stand"},
		{line: `[{"value":{}}]`, err: "byte 1 is '[' where { should stand"},
		{line: `{"key":"%","value":{"author":`, err: "byte 20 is '{' where a value should stand"},
		{line: `{"key":"%" "value":{}}`, err: `byte 12 is '"' where } or , should stand`},
		{line: `{"key"`, err: "it ends where : should stand"},
		{line: `{} {}`, err: "byte 4 is '{' where the end should stand"},
		{line: `{"value":{"text":"` + strings.Repeat("x", maxRaw) + `"}}`, err: "65547 bytes are too long for a message"},
	} {
		got, err := messageOf([]byte(c.line))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%.40s: %v, want an error that says %s", c.line, err, c.err)
			}
		} else if err != nil || string(got) != c.want {
			t.Errorf("%.40s: %s, %v; want %s", c.line, got, err, c.want)
		}
	}
}

// Lines are counted alike however long they are, and the error of the reader comes after all whole lines.
func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxLine)
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		in   io.Reader
		want []string // "long" for a line that is too long
		err  error
	}{
		{"none", strings.NewReader(""), nil, io.EOF},
		{"an end without a line's end", strings.NewReader("a\nb"), []string{"a\n", "b"}, io.EOF},
		{"a byte order mark", strings.NewReader("\ufeffa\n\ufeffb\n"), []string{"a\n", "\ufeffb\n"}, io.EOF},
		{"in small pieces", iotest.OneByteReader(strings.NewReader("\ufeffa\n\nb\n")), []string{"a\n", "\n", "b\n"}, io.EOF},
		{"long ones", strings.NewReader("a\n" + long + "\n" + long + long + "\nb\n"), []string{"a\n", "long", "long", "b\n"}, io.EOF},
		{"the longest", strings.NewReader(long[1:] + "\nb\n"), []string{long[1:] + "\n", "b\n"}, io.EOF},
		{"a long one at the end", strings.NewReader("a\n" + long + "x"), []string{"a\n", "long"}, io.EOF},
		{"broken", io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)), []string{"a\n"}, broken},
		{"broken in a long one", io.MultiReader(strings.NewReader("a\n"+long+"x"), iotest.ErrReader(broken)), []string{"a\n"}, broken},
	} {
		lines, err := lineReader(c.in)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for {
			var line []byte
			line, err = lines.next()
			if errors.Is(err, errLongLine) {
				line = []byte("long")
			} else if err != nil {
				break
			}
			got = append(got, string(line))
		}
		if !errors.Is(err, c.err) || strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%s: %d lines, %v; want %d lines, %v", c.name, len(got), err, len(c.want), c.err)
		}
	}
}

func BenchmarkMessageOf(b *testing.B) {
	data := []byte(`{"key":"%xeL+HkQPLiCu3nDNmLLbCfT+1lqByd6HMhXWZlRue90=.sha256","value":{"previous":null,` +
		`"author":"@e3FWEsmGSWoa4oeJ9zQWR/aIXW7KXEvUzgkskxRl4Jk=.ed25519","sequence":1,"timestamp":1500000003371,"hash":"sha256",` +
		`"content":{"type":"post","text":"` + strings.Repeat("is with the thinking they ", 10) + `"},` +
		`"signature":"Q+SzHex81cVuqk4uMyj3gku0V+YlJE+1djxqPiG3J3xjkP/QD4yADu4tYwrE1smA01S2AJCrdWH29nsW1PMsAw==.sig.ed25519"},` +
		`"timestamp":1500000003371}`)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := messageOf(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := byDecoding(data, "value"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
