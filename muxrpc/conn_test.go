package muxrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
)

// pair runs two connections over a pipe until the test ends.
func pair(t testing.TB, a, b Options) (*Conn, *Conn) {
	t.Helper()
	x, y := net.Pipe()
	return run(t, x, a), run(t, y, b)
}

// run runs a connection until the test ends.
func run(t testing.TB, rwc io.ReadWriteCloser, o Options) *Conn {
	t.Helper()
	c := New(rwc, o)
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(context.Background()) }()
	t.Cleanup(func() { c.Close(); <-done })
	return c
}

func registry(t testing.TB, methods ...Method) *Registry {
	t.Helper()
	r, err := NewRegistry(methods)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var demo = []Method{
	{Name: "echo", Kind: Async, Call: func(_ context.Context, req *Request) (any, error) { return req.Args, nil }},
	{Name: "fail", Kind: Async, Call: func(context.Context, *Request) (any, error) { return nil, errors.New("so sad") }},
	{Name: "count.to", Kind: Source, Stream: func(ctx context.Context, req *Request, s *Stream) error {
		var n int
		if err := req.Decode(&n); err != nil {
			return err
		}
		for i := range n {
			if err := s.SendJSON(fmt.Append(nil, i)); err != nil {
				return err
			}
		}
		return nil
	}},
	{Name: "sum", Kind: Sink, Stream: func(ctx context.Context, req *Request, s *Stream) error {
		for {
			b, err := s.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if string(b.Data) == `"bad"` {
				return errors.New("bad number")
			}
		}
	}},
	{Name: "double", Kind: Duplex, Stream: func(ctx context.Context, req *Request, s *Stream) error {
		for {
			b, err := s.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			b.Data = append(b.Data, b.Data...)
			if err := s.Send(b); err != nil {
				return err
			}
		}
	}},
}

func TestCallsOfEveryKind(t *testing.T) {
	t.Parallel()
	a, _ := pair(t, Options{}, Options{Registry: registry(t, demo...)})
	ctx := t.Context()
	got, err := a.Async(ctx, "echo", 1, "a<b", nil, json.RawMessage(`{"x": 2}`))
	if err != nil || string(got) != `[1,"a<b",null,{"x":2}]` {
		t.Errorf("echo: %s, %v", got, err)
	}
	_, err = a.Async(ctx, "fail")
	if remote, ok := errors.AsType[*RemoteError](err); !ok || remote.Message != "so sad" || remote.Name != "Error" {
		t.Errorf("fail: %v", err)
	}
	s, err := a.Source(ctx, "count.to", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		b, err := s.Recv()
		if err != nil || string(b.Data) != fmt.Sprint(i) || b.Type != JSON {
			t.Fatalf("number %d: %v %q, %v", i, b.Type, b.Data, err)
		}
	}
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
	s, err = a.Sink(ctx, "sum")
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := s.SendJSON([]byte("7")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CloseSend(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("sink: %v", err)
	}
	s, err = a.Duplex(ctx, "double")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := s.Send(Body{Text, fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
		if b, err := s.Recv(); err != nil || string(b.Data) != fmt.Sprint(i, i)[:1]+fmt.Sprint(i) || b.Type != Text {
			t.Errorf("double: %v, %v", b, err)
		}
	}
	if err := s.CloseSend(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("duplex: %v", err)
	}
}

// What is released comes back with other bytes; what is not stays as it was.
func TestRelease(t *testing.T) {
	t.Parallel()
	const bodies = 300
	sizes := []int{maxBinary, maxBinary - 1, 100, maxBinary, maxBlock}
	body := func(i int) []byte { return bytes.Repeat([]byte{byte(i + 1)}, sizes[i%len(sizes)]) }
	m := Method{Name: "give", Kind: Source, Stream: func(_ context.Context, _ *Request, s *Stream) error {
		for i := range bodies {
			if err := s.Send(Body{Type: Binary, Data: body(i)}); err != nil {
				return err
			}
		}
		return nil
	}}
	c, _ := pair(t, Options{}, Options{Registry: registry(t, m)})
	s, err := c.Open(t.Context(), CallOptions{Kind: Source, Patient: true}, "give")
	if err != nil {
		t.Fatal(err)
	}
	kept := map[int][]byte{}
	for i := range bodies {
		b, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Data, body(i)) {
			t.Fatalf("body %d is another", i)
		}
		if i%7 == 0 {
			kept[i] = b.Data
		} else {
			b.Release()
		}
	}
	for i, data := range kept {
		if !bytes.Equal(data, body(i)) {
			t.Errorf("body %d changed", i)
		}
	}
}
