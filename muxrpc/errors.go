package muxrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Errors that calls and streams end with.
var (
	// ErrClosed: the connection was closed, by Close or by the other side's goodbye.
	ErrClosed = errors.New("muxrpc: connection is closed")
	// ErrEnded: the other side ended this stream, or this side already did; nothing more can be sent on it.
	ErrEnded = errors.New("muxrpc: stream has ended")
	// ErrLagging: more was received than this stream's reader took, beyond the buffer limits.
	ErrLagging = errors.New("muxrpc: stream ended because its reader lags behind")
)

// RemoteError is what the other side answered instead of a result, or ended a stream with.
type RemoteError struct {
	Name    string // "Error" when the remote gave none
	Message string // what programs match on
}

func (e *RemoteError) Error() string { return e.Message }

// parseEnd reads the body of an end frame. io.EOF is a clean end: true, or one of the values that say nothing.
func parseEnd(t BodyType, body []byte) error {
	switch t {
	case Text:
		return &RemoteError{Name: "Error", Message: string(body)}
	case Binary:
		return &RemoteError{Name: "Error", Message: excerpt(body)}
	}
	switch string(bytes.TrimSpace(body)) {
	case "true", "false", "null":
		return io.EOF
	}
	var text string
	if json.Unmarshal(body, &text) == nil {
		return &RemoteError{Name: "Error", Message: text}
	}
	var obj struct {
		Name    any `json:"name"`
		Message any `json:"message"`
	}
	e := &RemoteError{Name: "Error", Message: excerpt(body)}
	if json.Unmarshal(body, &obj) == nil {
		if s, ok := obj.Message.(string); ok {
			e.Message = s
		}
		if s, ok := obj.Name.(string); ok && s != "" {
			e.Name = s
		}
	}
	return e
}

// endBody is the body of an end frame: true after nil, else an error object without a stack, which is nobody's business.
func endBody(err error) []byte {
	if err == nil {
		return []byte("true")
	}
	out := struct {
		Name    string `json:"name"`
		Message string `json:"message"`
		Stack   string `json:"stack"`
	}{"Error", err.Error(), ""}
	if remote, ok := errors.AsType[*RemoteError](err); ok && remote.Name != "" {
		out.Name = remote.Name
	}
	b, merr := marshal(out)
	if merr != nil {
		return []byte(`{"name":"Error","message":"error","stack":""}`)
	}
	return b
}
