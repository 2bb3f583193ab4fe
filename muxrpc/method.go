package muxrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Kind is how a method is called, in the words of a manifest.
type Kind string

// The kinds there are. Sync methods are called exactly like async ones; the word only tells JS programs that the method
// answers at once when it is called inside the same process.
const (
	Async  Kind = "async"
	Sync   Kind = "sync"
	Source Kind = "source"
	Sink   Kind = "sink"
	Duplex Kind = "duplex"
)

func (k Kind) streams() bool { return k == Source || k == Sink || k == Duplex }

// Method is something that the other side may call.
type Method struct {
	// Name is dotted: "blobs.get".
	Name string
	Kind Kind
	// Anonymous methods may be called by strangers; all others only on a connection that is not Options.Anonymous.
	Anonymous bool
	// Doc is one line for help. It may be empty.
	Doc string

	// Call answers async and sync methods. It runs on a goroutine of its own. ctx ends when the caller gives up or the
	// connection ends. The result is sent as JSON, except that a []byte is sent as binary and a string as text.
	Call func(ctx context.Context, req *Request) (any, error)

	// Stream serves source, sink and duplex methods. It runs on a goroutine of its own; when it returns, the stream ends:
	// cleanly after nil, with the error else. ctx ends when the other side aborts the stream or the connection ends.
	Stream func(ctx context.Context, req *Request, s *Stream) error

	// Patient says what happens when Stream does not receive as fast as the other side sends: reading of the whole
	// connection stops until it does. Without it the stream is ended with an error and the others go on.
	// See the package doc for what a patient handler must not do.
	Patient bool

	// MaxBody replaces Options.MaxBody for what is received on this method's streams, when it is not 0.
	MaxBody int
}

// Registry is a fixed set of methods. It serves "manifest" itself.
type Registry struct {
	methods  []Method // sorted by name
	byName   map[string]*Method
	manifest json.RawMessage
}

// NewRegistry joins lists of methods. It refuses a name that is taken twice, a name that is also the folder of another
// ("blobs" beside "blobs.get"), and a method whose function does not fit its kind.
func NewRegistry(lists ...[]Method) (*Registry, error) {
	r := &Registry{byName: map[string]*Method{}}
	r.methods = append(slices.Concat(lists...), Method{
		Name: "manifest", Kind: Sync, Anonymous: true, Doc: "the names and kinds of all methods",
		Call: func(context.Context, *Request) (any, error) { return r.manifest, nil },
	})
	slices.SortStableFunc(r.methods, func(a, b Method) int { return strings.Compare(a.Name, b.Name) })
	tree := map[string]any{}
	for i := range r.methods {
		m := &r.methods[i]
		switch {
		case m.Kind.streams() && (m.Stream == nil || m.Call != nil):
			return nil, fmt.Errorf("muxrpc: method %q: kind %s needs Stream and no Call", m.Name, m.Kind)
		case (m.Kind == Async || m.Kind == Sync) && (m.Call == nil || m.Stream != nil):
			return nil, fmt.Errorf("muxrpc: method %q: kind %s needs Call and no Stream", m.Name, m.Kind)
		case !m.Kind.streams() && m.Kind != Async && m.Kind != Sync:
			return nil, fmt.Errorf("muxrpc: method %q: unknown kind %q", m.Name, m.Kind)
		case m.MaxBody < 0:
			return nil, fmt.Errorf("muxrpc: method %q: negative MaxBody", m.Name)
		}
		if r.byName[m.Name] != nil {
			return nil, fmt.Errorf("muxrpc: method %q is there twice", m.Name)
		}
		r.byName[m.Name] = m
		folder, path := tree, strings.Split(m.Name, ".")
		for n, part := range path {
			if part == "" {
				return nil, fmt.Errorf("muxrpc: method %q: empty part of the name", m.Name)
			}
			if n == len(path)-1 {
				if folder[part] != nil {
					return nil, fmt.Errorf("muxrpc: %q is a method and a folder of methods", m.Name)
				}
				folder[part] = string(m.Kind)
				break
			}
			if folder[part] == nil {
				folder[part] = map[string]any{}
			}
			next, ok := folder[part].(map[string]any)
			if !ok {
				return nil, fmt.Errorf("muxrpc: %q is a method and a folder of methods", strings.Join(path[:n+1], "."))
			}
			folder = next
		}
	}
	var err error
	r.manifest, err = json.Marshal(tree)
	return r, err
}

// Manifest returns the nested object of names and kinds that JS clients build their stubs from. It must not be changed.
func (r *Registry) Manifest() json.RawMessage { return r.manifest }

// Methods returns all methods by name, "manifest" among them. The slice must not be changed.
func (r *Registry) Methods() []Method { return r.methods }

// Request is a call that the other side made.
type Request struct {
	Name string // dotted
	Kind Kind
	Args json.RawMessage // a JSON array
	Conn *Conn
	Peer any // Options.Peer
}

// Decode unmarshals the arguments, in order, into the values that dst points to. An argument that is missing or null
// leaves its value as it is; arguments beyond dst are ignored, as JS does. The errors are worded for the caller.
func (r *Request) Decode(dst ...any) error {
	var args []json.RawMessage
	if err := json.Unmarshal(r.Args, &args); err != nil {
		return fmt.Errorf("%s: arguments are no array", r.Name)
	}
	for i, arg := range args {
		if i == len(dst) {
			break
		}
		if string(arg) == "null" {
			continue
		}
		if err := json.Unmarshal(arg, dst[i]); err != nil {
			if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
				where := ""
				if wrong.Field != "" {
					where = " " + wrong.Field
				}
				return fmt.Errorf("%s: argument %d%s: a %s does not fit here", r.Name, i+1, where, wrong.Value)
			}
			return fmt.Errorf("%s: argument %d: %w", r.Name, i+1, err)
		}
	}
	return nil
}

// envelope is a request as it stands on the wire.
type envelope struct {
	Name json.RawMessage `json:"name"`
	Args json.RawMessage `json:"args"`
	Type json.RawMessage `json:"type"`
}

// parseEnvelope reads a request. name is dotted, for looking it up; shown is how JS shows the name in its errors: the
// parts of an array joined by commas, a string as it is.
func parseEnvelope(h header, body []byte) (name, shown string, kind Kind, args json.RawMessage, err error) {
	var e envelope
	if h.bodyType() != JSON || json.Unmarshal(body, &e) != nil {
		return "", "", "", nil, fmt.Errorf("invalid request, not a JSON object: %s", excerpt(body))
	}
	if json.Unmarshal(e.Name, &name) == nil && name != "" {
		shown = name
	} else {
		var path []string
		if json.Unmarshal(e.Name, &path) != nil || len(path) == 0 {
			return "", "", "", nil, fmt.Errorf("invalid request, name should be an array of strings, was: %s", excerpt(body))
		}
		name, shown = strings.Join(path, "."), strings.Join(path, ",")
	}
	args = e.Args
	if len(args) == 0 || string(args) == "null" {
		args = json.RawMessage("[]")
	}
	if args[0] != '[' {
		return "", "", "", nil, fmt.Errorf("invalid request, args should be array, was: %s", excerpt(body))
	}
	kind = Async // what JS makes of everything that is no stream, whatever its type says
	if h.stream() {
		var typ string
		_ = json.Unmarshal(e.Type, &typ) // what is no string is an unsupported type below
		if kind = Kind(typ); !kind.streams() {
			return "", "", "", nil, fmt.Errorf("unsupported stream type: %s", excerpt([]byte(typ)))
		}
	}
	return name, shown, kind, args, nil
}

// appendEnvelope writes a request as JS does: the name as an array, and a type only for streams.
func appendEnvelope(dst []byte, method string, kind Kind, args []any) ([]byte, error) {
	if args == nil {
		args = []any{}
	}
	path, err := marshal(strings.Split(method, "."))
	if err != nil {
		return dst, err
	}
	list, err := marshal(args)
	if err != nil {
		return dst, fmt.Errorf("muxrpc: arguments of %s: %w", method, err)
	}
	dst = append(append(dst, `{"name":`...), path...)
	dst = append(append(dst, `,"args":`...), list...)
	if kind.streams() {
		dst = append(append(append(dst, `,"type":"`...), kind...), '"')
	}
	return append(dst, '}'), nil
}

// marshal is json.Marshal that leaves <, > and & as they are: raw JSON inside v keeps its bytes.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// encodeResult turns what a Call returned into a body that is never empty.
func encodeResult(v any) (BodyType, []byte, error) {
	switch v := v.(type) {
	case nil:
		return JSON, []byte("null"), nil
	case []byte:
		if len(v) == 0 {
			return JSON, []byte(`""`), nil
		}
		return Binary, v, nil
	case string:
		if v == "" {
			return JSON, []byte(`""`), nil
		}
		return Text, []byte(v), nil
	case json.RawMessage:
		if len(v) == 0 {
			return JSON, []byte("null"), nil
		}
		if !json.Valid(v) {
			return 0, nil, errors.New("the result is broken JSON")
		}
		return JSON, v, nil
	}
	b, err := marshal(v)
	return JSON, b, err
}

func excerpt(b []byte) string {
	const most = 200
	if len(b) > most {
		return strings.ToValidUTF8(string(b[:most]), "?") + "..."
	}
	return strings.ToValidUTF8(string(b), "?")
}
