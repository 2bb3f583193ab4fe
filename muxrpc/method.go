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

	// Group is no method: it only has a Doc, for the namespace of this Name ("blobs"), or with no Name for all of it.
	Group Kind = "group"
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
	// Args are the arguments, in order. Where there are any, a call whose arguments do not fit is answered with an error, and
	// the function below is not called. What comes after them is ignored, as JS does.
	Args []Arg

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

// Registry is a fixed set of methods. It serves "manifest" itself, and for the callers who are no strangers "help" and the
// "help" of each namespace, in the form that npm muxrpcli reads.
type Registry struct {
	methods   []Method // sorted by name, without groups
	byName    map[string]*Method
	manifest  json.RawMessage
	anonymous json.RawMessage // the part of manifest that strangers may call
}

// NewRegistry joins lists of methods. It refuses a name that is taken twice, a name that is also the folder of another
// ("blobs" beside "blobs.get"), a method whose function does not fit its kind, and arguments that cannot be checked or told
// apart. Where a list has a "help" of its own, that is served.
func NewRegistry(lists ...[]Method) (*Registry, error) {
	r := &Registry{byName: map[string]*Method{}}
	r.methods = append(slices.Concat(lists...), Method{
		Name: "manifest", Kind: Sync, Anonymous: true, Doc: "the names and kinds of all methods",
		Call: func(_ context.Context, req *Request) (any, error) {
			if req.Conn.o.Anonymous {
				return r.anonymous, nil
			}
			return r.manifest, nil
		},
	})
	docs := map[string]string{} // of namespaces
	for _, m := range r.methods {
		if m.Kind != Group {
			continue
		}
		if _, twice := docs[m.Name]; twice || m.Doc == "" || m.Call != nil || m.Stream != nil {
			return nil, fmt.Errorf("muxrpc: group %q: it must be there once, with Doc and nothing else", m.Name)
		}
		docs[m.Name] = m.Doc
	}
	r.methods = slices.DeleteFunc(r.methods, func(m Method) bool { return m.Kind == Group })
	if err := r.addHelp(docs); err != nil {
		return nil, err
	}
	for name := range docs {
		return nil, fmt.Errorf("muxrpc: group %q has no methods", name)
	}
	slices.SortStableFunc(r.methods, func(a, b Method) int { return strings.Compare(a.Name, b.Name) })
	all, anonymous := tree{}, tree{}
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
		if err := validArgs(m.Args); err != nil {
			return nil, fmt.Errorf("muxrpc: method %q: %w", m.Name, err)
		}
		if r.byName[m.Name] != nil {
			return nil, fmt.Errorf("muxrpc: method %q is there twice", m.Name)
		}
		r.byName[m.Name] = m
		if err := all.add(m); err != nil {
			return nil, err
		}
		if m.Anonymous {
			_ = anonymous.add(m) // what fits in all does so in a part
		}
	}
	var err error
	if r.manifest, err = json.Marshal(all); err == nil {
		r.anonymous, err = json.Marshal(anonymous)
	}
	return r, err
}

// tree is a manifest that is being made: names to kinds, or to the trees of folders.
type tree map[string]any

func (t tree) add(m *Method) error {
	path := strings.Split(m.Name, ".")
	for n, part := range path {
		if part == "" {
			return fmt.Errorf("muxrpc: method %q: empty part of the name", m.Name)
		}
		if n == len(path)-1 {
			if t[part] != nil {
				return fmt.Errorf("muxrpc: %q is a method and a folder of methods", m.Name)
			}
			t[part] = string(m.Kind)
			break
		}
		if t[part] == nil {
			t[part] = tree{}
		}
		next, ok := t[part].(tree)
		if !ok {
			return fmt.Errorf("muxrpc: %q is a method and a folder of methods", strings.Join(path[:n+1], "."))
		}
		t = next
	}
	return nil
}

// Manifest returns the nested object of names and kinds that JS clients build their stubs from; strangers are told a part of
// it only. It must not be changed.
func (r *Registry) Manifest() json.RawMessage { return r.manifest }

// Methods returns all methods by name, "manifest" and "help" among them. The slice must not be changed.
func (r *Registry) Methods() []Method { return r.methods }

// Request is a call that the other side made.
type Request struct {
	Name string // dotted
	Kind Kind
	Args json.RawMessage // a JSON array
	Conn *Conn
	Peer any // Options.Peer

	declared []Arg // Method.Args
}

// Decode unmarshals the arguments, in order, into the values that dst points to. An argument that is missing or null
// leaves its value as it is; arguments beyond dst are ignored, as JS does. The errors are worded for the caller, and name
// the argument if the method declares it.
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
			what := fmt.Sprintf("%s: argument %d", r.Name, i+1)
			if i < len(r.declared) {
				what = fmt.Sprintf("%s: argument %s", r.Name, r.declared[i].Name)
			}
			if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
				if wrong.Field != "" {
					what += " " + wrong.Field
				}
				return fmt.Errorf("%s: a %s does not fit here", what, wrong.Value)
			}
			return fmt.Errorf("%s: %w", what, err)
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
