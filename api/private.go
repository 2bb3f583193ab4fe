package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/private"
)

func (a *API) privates() []muxrpc.Method {
	return []muxrpc.Method{
		{Name: "private.publish", Kind: muxrpc.Async, Doc: "publish content closed for some feeds; answers with the message", Args: args(
			need("content", "object", "what to publish; it should have a type"),
			may("recps", "any", "the feeds that can read it, at most 7; without them, those of the content's recps")), Call: a.privatePublish},
		{Name: "private.unbox", Kind: muxrpc.Sync, Doc: "what is in an encrypted text or message, or false when it is not for us", Args: args(
			may("boxed", "any", "the text, or the message as {key, value, timestamp}")), Call: a.privateUnbox},
	}
}

// Unbox opens a private message with a key: what is in it, in JSON; false: it is not for the key, or holds no JSON.
func Unbox(m *log.Message, key identity.KeyPair) (content []byte, ok bool) {
	if !m.Private() {
		return nil, false
	}
	return unboxText(m.Content(), key)
}

// unboxText opens a JSON text.
func unboxText(text []byte, key identity.KeyPair) (content []byte, ok bool) {
	if len(text) < 2 {
		return nil, false
	}
	// In the log's spelling no character of base64 is escaped. Programs may do that.
	inner := text[1 : len(text)-1]
	if bytes.IndexByte(inner, '\\') >= 0 {
		var s string
		if json.Unmarshal(text, &s) != nil {
			return nil, false
		}
		inner = []byte(s)
	}
	plain, ok := private.Unbox(inner, key)
	if !ok {
		return nil, false
	}
	return compact(plain)
}

// compact is JSON without white space; false: it is none.
func compact(text []byte) ([]byte, bool) {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return nil, false
	}
	return b.Bytes(), true
}

// decorated is a message's value as npm ssb-db shows an opened one: the content in its place, and behind the other fields that it was
// private, what it was, and with which key it opens (autobox.js, decorate).
func decorated(m log.Message, content []byte, key string) []byte {
	value, boxed := m.Value(), m.Content()
	at := bytes.Index(value, boxed) // what stands before it is shorter
	out := make([]byte, 0, len(value)+2*len(boxed)+len(content)+256)
	out = append(append(append(out, value[:at]...), content...), value[at+len(boxed):len(value)-1]...)
	out = append(append(out, `,"meta":{"original":{"content":`...), boxed...)
	out = append(out, `},"private":true`...)
	if key != "" {
		out = fmt.Appendf(out, `,"unbox":%q`, key)
	}
	out = append(append(out, `},"cyphertext":`...), boxed...)
	out = append(out, `,"private":true`...)
	if key != "" {
		out = fmt.Appendf(out, `,"unbox":%q`, key)
	}
	return append(out, '}')
}

// value is a message's value, opened when private is true and it is for us.
func (a *API) value(m log.Message, opened bool) []byte {
	if !opened || !m.Private() {
		return m.Value()
	}
	content, ok := Unbox(&m, a.Key)
	if !ok {
		return m.Value()
	}
	text := m.Content()
	key, ok := private.UnboxKey(text[1:len(text)-1], a.Key)
	if !ok {
		return m.Value()
	}
	return decorated(m, content, key.Text())
}

// shown is a message as {key, value, timestamp}, opened when private is true and it is for us.
func (a *API) shown(m log.Message, opened bool) []byte {
	if !opened || !m.Private() {
		return m.AppendKVT(nil)
	}
	return wrap(m, a.value(m, opened))
}

// wrap is {key, value, timestamp} around a value of the message's.
func wrap(m log.Message, value []byte) []byte {
	plain := m.AppendKVT(nil)
	at := bytes.Index(plain, m.Value())
	out := make([]byte, 0, len(plain)+len(value))
	out = append(append(out, plain[:at]...), value...)
	return append(out, plain[at+len(m.Value()):]...)
}

// withKey is a message's value opened with a key that somebody handed on; an error when it does not open it.
func withKey(m log.Message, text string) ([]byte, error) {
	key, err := private.ParseKey(text)
	if err != nil {
		return nil, err
	}
	if !m.Private() {
		return m.Value(), nil
	}
	var boxed string
	if err := json.Unmarshal(m.Content(), &boxed); err != nil {
		return nil, err
	}
	plain, ok := key.Unbox(boxed)
	if !ok {
		return nil, fmt.Errorf("%s: the key does not open it", m.Key())
	}
	content, ok := compact(plain)
	if !ok {
		return nil, fmt.Errorf("%s: what is in it is not JSON", m.Key())
	}
	return decorated(m, content, key.Text()), nil
}

// closed closes content for its recipients, if it names any.
func closed(content []byte) ([]byte, error) {
	if len(content) == 0 || content[0] != '{' {
		return content, nil
	}
	ids, ok, err := private.Recipients(content)
	if err != nil {
		return nil, err // never in the open what was meant to be private
	}
	if !ok {
		return content, nil
	}
	return box(content, ids)
}

func box(content []byte, ids []identity.ID) ([]byte, error) {
	content, ok := compact(content)
	if !ok {
		return nil, errors.New("the content is not JSON")
	}
	text, err := private.Box(content, ids)
	if err != nil {
		return nil, err
	}
	return json.Marshal(text)
}

func (a *API) privatePublish(_ context.Context, req *muxrpc.Request) (any, error) {
	var content, recps json.RawMessage
	if err := req.Decode(&content, &recps); err != nil {
		return nil, err
	}
	if len(content) == 0 || content[0] != '{' {
		return nil, errors.New("private.publish: the content is missing, or no object")
	}
	if len(recps) == 0 {
		if _, ok, err := private.Recipients(content); err != nil || !ok {
			return nil, errors.Join(errors.New("private.publish: the recipients are missing"), err)
		}
		boxed, err := closed(content)
		if err != nil {
			return nil, err
		}
		return a.sign(boxed)
	}
	ids, ok, err := private.Recipients(append(append([]byte(`{"recps":`), recps...), '}'))
	if err != nil || !ok {
		return nil, errors.Join(errors.New("private.publish: the recipients are missing"), err)
	}
	boxed, err := box(content, ids)
	if err != nil {
		return nil, err
	}
	return a.sign(boxed)
}

func (a *API) privateUnbox(_ context.Context, req *muxrpc.Request) (any, error) {
	var arg json.RawMessage
	if err := req.Decode(&arg); err != nil {
		return nil, err
	}
	if len(arg) > 0 && arg[0] == '"' {
		if content, ok := unboxText(arg, a.Key); ok {
			return json.RawMessage(content), nil
		}
		return undefined, nil
	}
	var kvt map[string]json.RawMessage
	var value struct {
		Content json.RawMessage `json:"content"`
	}
	if json.Unmarshal(arg, &kvt) != nil || json.Unmarshal(kvt["value"], &value) != nil || len(value.Content) == 0 || value.Content[0] != '"' {
		return undefined, nil
	}
	content, ok := unboxText(value.Content, a.Key)
	if !ok {
		return undefined, nil
	}
	opened := bytes.Replace(kvt["value"], value.Content, content, 1)
	opened, _ = compact(opened)
	opened = append(opened[:len(opened)-1], `,"private":true}`...)
	return json.RawMessage(bytes.Replace(arg, kvt["value"], opened, 1)), nil
}

// splitUnbox takes a message id apart that carries a key: "%...?unbox=KEY".
func splitUnbox(text string) (id, key string) {
	id, query, _ := strings.Cut(text, "?")
	for _, field := range strings.Split(query, "&") {
		if value, ok := strings.CutPrefix(field, "unbox="); ok {
			key = strings.NewReplacer(" ", "+", "%2B", "+", "%2F", "/", "%3D", "=").Replace(value)
		}
	}
	return id, key
}
