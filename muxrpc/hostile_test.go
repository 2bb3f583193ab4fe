package muxrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	call     = byte(JSON)              // an async request or its answer
	callErr  = flagEnd | byte(JSON)    // the error of one
	data     = flagStream | byte(JSON) // a stream's request or body
	end      = flagEnd | data          // a stream's end
	dataBin  = flagStream | byte(Binary)
	dataText = flagStream | byte(Text)
)

// remote is the other side of a connection under test, in raw frames. It is used inside a synctest bubble.
type remote struct {
	t    *testing.T
	conn net.Conn
	in   frameReader
	c    *Conn
	ran  chan error // what Run returned
}

// against runs test with a Conn and its raw remote in a synctest bubble, where goroutines that stay behind are failures.
func against(t *testing.T, o Options, test func(t *testing.T, r *remote)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		x, y := net.Pipe()
		r := &remote{t: t, conn: y, in: frameReader{r: y}, c: New(x, o), ran: make(chan error, 1)}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { r.ran <- r.c.Run(ctx) }()
		test(t, r)
		y.Close()
		cancel()
		<-r.c.Done()
	})
}

func (r *remote) send(flags byte, req int32, body string) {
	r.t.Helper()
	if _, err := r.conn.Write(appendFrame(nil, flags, req, []byte(body))); err != nil {
		r.t.Errorf("remote sends request %d: %v", req, err)
	}
}

// want reads the next frame and compares it; JSON by value.
func (r *remote) want(flags byte, req int32, body string) {
	r.t.Helper()
	h, err := r.in.header()
	if err != nil {
		r.t.Fatalf("remote waits for %d %d %s: %v", flags, req, body, err)
	}
	got := make([]byte, h.length)
	if err := r.in.body(got); err != nil {
		r.t.Fatal(err)
	}
	if h.flags != flags || h.req != req || string(got) != body {
		r.t.Fatalf("remote got flags %d request %d %s\nwant flags %d request %d %s", h.flags, h.req, got, flags, req, body)
	}
}

func (r *remote) wantGoodbye() {
	r.t.Helper()
	h, err := r.in.header()
	if err != nil || h != (header{}) {
		r.t.Fatalf("remote waits for goodbye: %+v, %v", h, err)
	}
}

// wantRun waits for the end of Run and compares its error's text, or part of it.
func (r *remote) wantRun(part string) {
	r.t.Helper()
	err := <-r.ran
	r.ran <- err
	if part == "" && err != nil || part != "" && (err == nil || !strings.Contains(err.Error(), part)) {
		r.t.Errorf("Run: got %v, want %q", err, part)
	}
}

func errorBody(message string) string {
	b, _ := marshal(message)
	return `{"name":"Error","message":` + string(b) + `,"stack":""}`
}

func source(name string, args string) string {
	return fmt.Sprintf(`{"name":["%s"],"args":%s,"type":"source"}`, name, args)
}

func TestLimitsOfBodies(t *testing.T) {
	t.Parallel()
	for _, flags := range []byte{call, data, dataBin, dataText, end, byte(Binary), callErr} {
		for _, req := range []int32{1, -1, 0, 1<<31 - 1, -1 << 31} {
			against(t, Options{MaxBody: 1000}, func(t *testing.T, r *remote) {
				head := appendFrame(nil, flags, req, nil)
				copy(head[1:5], []byte{0xff, 0xff, 0xff, 0xff})
				go r.conn.Write(head)
				r.wantRun(fmt.Sprintf("request %d: a body of 4294967295 bytes is over the limit of 1000", req))
			})
		}
	}
	long := strings.Repeat("x", 2000)
	reg := registry(t, Method{Name: "take", Kind: Sink, MaxBody: 2000, Stream: func(ctx context.Context, req *Request, s *Stream) error {
		b, err := s.Recv()
		if err != nil || string(b.Data) != long {
			return fmt.Errorf("got %d bytes, %v", len(b.Data), err)
		}
		return nil
	}})
	against(t, Options{MaxBody: 1000, Registry: reg}, func(t *testing.T, r *remote) {
		r.send(data, 1, `{"name":["take"],"args":[],"type":"sink"}`)
		r.send(dataText, 1, long)
		r.want(end, -1, "true")
		r.send(data, 2, `{"name":["take"],"args":[],"type":"sink"}`)
		go r.conn.Write(appendFrame(nil, dataText, 2, []byte(long+"x"))[:20])
		r.wantRun("request 2: a body of 2001 bytes is over the limit of 2000")
	})
	// What comes late for a stream that has ended is skipped, however large the stream's bodies could be.
	against(t, Options{MaxBody: 1000, Registry: reg}, func(t *testing.T, r *remote) {
		r.send(data, 1, `{"name":["take"],"args":[],"type":"sink"}`)
		r.send(dataText, 1, long)
		r.want(end, -1, "true")
		r.send(dataText, 1, long)
		r.send(data, 2, `{"name":["take"],"args":[],"type":"sink"}`)
		r.send(dataText, 2, long)
		r.want(end, -2, "true")
		go r.conn.Write(appendFrame(nil, dataText, 1, []byte(long+"x"))[:20])
		r.wantRun("request 1: a body of 2001 bytes is over the limit of 2000")
	})
	against(t, Options{MaxBody: 1000}, func(t *testing.T, r *remote) {
		for range 2 {
			opened := make(chan *Stream)
			go func() {
				s, err := r.c.Open(context.Background(), CallOptions{Kind: Source, MaxBody: 2000}, "give")
				if err != nil {
					t.Error(err)
				}
				opened <- s
			}()
			h, err := r.in.header()
			if err != nil {
				t.Fatal(err)
			}
			if err := r.in.skip(int64(h.length)); err != nil {
				t.Fatal(err)
			}
			s := <-opened
			go s.Close()
			r.want(end, h.req, "true")
			r.send(dataText, -h.req, long)
		}
	})
}

func TestUnknownBodyTypeEndsTheConnection(t *testing.T) {
	t.Parallel()
	against(t, Options{}, func(t *testing.T, r *remote) {
		go r.send(flagStream|3, -1, "x")
		r.wantRun("request -1: unknown body type 3")
	})
}

func TestHighFlagBitsAreIgnored(t *testing.T) {
	t.Parallel()
	against(t, Options{Registry: registry(t, demo...)}, func(t *testing.T, r *remote) {
		r.send(0xf0|call, 1, `{"name":["echo"],"args":[1]}`)
		r.want(call, -1, "[1]")
	})
}

// JS takes every frame without a body for a goodbye.
func TestEveryEmptyBodyIsGoodbye(t *testing.T) {
	t.Parallel()
	for _, flags := range []byte{0, call, data, end, dataText, flagStream | 3} {
		against(t, Options{}, func(t *testing.T, r *remote) {
			r.send(flags, 7, "")
			r.wantGoodbye()
			r.wantRun("")
		})
	}
}

func TestRequestsAsTheyAreSent(t *testing.T) {
	t.Parallel()
	reg := registry(t, append(demo,
		Method{Name: "now", Kind: Sync, Anonymous: true, Call: func(context.Context, *Request) (any, error) { return 7, nil }},
		Method{Name: "a.b", Kind: Async, Call: func(_ context.Context, req *Request) (any, error) { return req.Args, nil }},
		Method{Name: "nothing", Kind: Async, Call: func(context.Context, *Request) (any, error) { return nil, nil }},
		Method{Name: "text", Kind: Async, Call: func(context.Context, *Request) (any, error) { return "hé", nil }},
		Method{Name: "empty.text", Kind: Async, Call: func(context.Context, *Request) (any, error) { return "", nil }},
		Method{Name: "empty.bytes", Kind: Async, Call: func(context.Context, *Request) (any, error) { return []byte{}, nil }},
		Method{Name: "bytes", Kind: Async, Call: func(context.Context, *Request) (any, error) { return []byte{1, 2}, nil }},
		Method{Name: "broken", Kind: Async, Call: func(context.Context, *Request) (any, error) { return json.RawMessage("{"), nil }},
		Method{Name: "panics", Kind: Async, Call: func(context.Context, *Request) (any, error) { panic("our mistake") }},
		Method{Name: "raw", Kind: Async, Call: func(context.Context, *Request) (any, error) {
			return map[string]any{"a": json.RawMessage(`"<&>"`)}, nil
		}},
	)...)
	long := strings.Repeat("z", 300)
	cases := []struct {
		anonymous bool
		flags     byte
		body      string
		wantFlags byte
		want      string
	}{
		{false, call, `{"name":["echo"],"args":[1,null]}`, call, `[1,null]`},
		{false, call, `{"name":["echo"],"args":[],"type":"async"}`, call, `[]`},
		{false, call, `{"name":["echo"]}`, call, `[]`},
		{false, call, `{"name":["echo"],"args":null}`, call, `[]`},
		{false, call, `{"name":"echo","args":[2]}`, call, `[2]`},
		{false, call, `{"name":"a.b","args":[3]}`, call, `[3]`},
		{false, call, `{"name":["a","b"],"args":[4]}`, call, `[4]`},
		{false, call, `{"name":["now"],"args":[],"type":"sync"}`, call, `7`},
		{false, call, `{"name":["now"],"args":[]}`, call, `7`},
		{false, call, `{"name":["nothing"],"args":[]}`, call, `null`},
		{false, call, `{"name":["text"],"args":[]}`, byte(Text), `hé`},
		{false, call, `{"name":["empty","text"],"args":[]}`, call, `""`},
		{false, call, `{"name":["empty","bytes"],"args":[]}`, call, `""`},
		{false, call, `{"name":["bytes"],"args":[]}`, byte(Binary), "\x01\x02"},
		{false, call, `{"name":["raw"],"args":[]}`, call, `{"a":"<&>"}`},
		{false, call, `{"name":["broken"],"args":[]}`, callErr, errorBody("the result is broken JSON")},
		{false, call, `{"name":["panics"],"args":[]}`, callErr, errorBody("internal error")},
		{false, call, `{"name":["fail"],"args":[]}`, callErr, errorBody("so sad")},
		{false, call, `{"name":["blobs","get"],"args":[]}`, callErr, errorBody("no async:blobs,get")},
		{false, call, `{"name":"blobs.get","args":[]}`, callErr, errorBody("no async:blobs.get")},
		{false, call, `{"name":["count","to"],"args":[],"type":"source"}`, callErr, errorBody("no async:count,to")},
		{false, data, `{"name":["count","from"],"args":[],"type":"source"}`, end, errorBody("no source:count,from")},
		{false, data, `{"name":["echo"],"args":[],"type":"duplex"}`, end, errorBody("no duplex:echo")},
		{false, data, `{"name":["sum"],"args":[],"type":"source"}`, end, errorBody("no source:sum")},
		{false, data, `{"name":["now"],"args":[],"type":"sync"}`, end, errorBody("unsupported stream type: sync")},
		{false, data, `{"name":["now"],"args":[]}`, end, errorBody("unsupported stream type: ")},
		{false, call, `{"name":["echo"],"args":{}}`, callErr, errorBody(`invalid request, args should be array, was: {"name":["echo"],"args":{}}`)},
		{false, call, `{"name":[1],"args":[]}`, callErr, errorBody(`invalid request, name should be an array of strings, was: {"name":[1],"args":[]}`)},
		{false, call, `{"name":[],"args":[]}`, callErr, errorBody(`invalid request, name should be an array of strings, was: {"name":[],"args":[]}`)},
		{false, call, `{"args":[]}`, callErr, errorBody(`invalid request, name should be an array of strings, was: {"args":[]}`)},
		{false, call, `not json`, callErr, errorBody(`invalid request, not a JSON object: not json`)},
		{false, byte(Binary), "\xff\xfe", callErr, errorBody("invalid request, not a JSON object: ?")},
		{false, dataText, "hello", end, errorBody("invalid request, not a JSON object: hello")},
		{false, call, `{"name":["` + long + `"],"args":[]}`, callErr, errorBody("no async:" + long[:200] + "...")},
		{true, call, `{"name":["now"],"args":[]}`, call, `7`},
		{true, call, `{"name":["echo"],"args":[]}`, callErr, errorBody("method:echo is not in list of allowed methods")},
		{true, call, `{"name":["a","b"],"args":[]}`, callErr, errorBody("method:a,b is not in list of allowed methods")},
		{true, call, `{"name":["nobody","knows"],"args":[]}`, callErr, errorBody("method:nobody,knows is not in list of allowed methods")},
		{true, data, `{"name":["count","to"],"args":[1],"type":"source"}`, end, errorBody("method:count,to is not in list of allowed methods")},
		{true, data, `{"name":["now"],"args":[],"type":"source"}`, end, errorBody("no source:now")},
	}
	for _, tt := range cases {
		against(t, Options{Registry: reg, Anonymous: tt.anonymous, Logger: slog.New(slog.DiscardHandler)}, func(t *testing.T, r *remote) {
			r.send(tt.flags, 5, tt.body)
			r.want(tt.wantFlags, -5, tt.want)
			manifest := string(reg.Manifest())
			if tt.anonymous {
				manifest = `{"manifest":"sync","now":"sync"}` // what strangers may call
			}
			r.send(call, 6, `{"name":["manifest"],"args":[]}`)
			r.want(call, -6, manifest)
		})
	}
}

func TestEndHandshake(t *testing.T) {
	t.Parallel()
	endless := Method{Name: "endless", Kind: Source, Stream: func(ctx context.Context, req *Request, s *Stream) error {
		<-ctx.Done()
		if err := s.SendJSON([]byte("1")); err == nil {
			t.Error("a source sends after it was aborted")
		}
		return ctx.Err()
	}}
	reg := registry(t, append(demo, endless)...)
	against(t, Options{Registry: reg}, func(t *testing.T, r *remote) {
		r.send(data, 1, `{"name":["count","to"],"args":[2],"type":"source"}`)
		r.want(data, -1, "0")
		r.want(data, -1, "1")
		r.want(end, -1, "true")
		r.send(end, 1, "true")
		r.send(end, 1, "true") // and late ones
		r.send(data, 1, "7")

		r.send(data, 2, source("endless", "[]"))
		r.send(end, 2, "true")
		r.want(end, -2, "true")

		r.send(data, 3, source("endless", "[]"))
		r.send(end, 3, errorBody("go away"))
		r.want(end, -3, "true")

		r.send(data, 4, `{"name":["double"],"args":[],"type":"duplex"}`)
		r.send(dataText, 4, "a")
		r.want(dataText, -4, "aa")
		r.send(end, 4, "true")
		r.want(end, -4, "true")

		r.send(data, 5, `{"name":["double"],"args":[],"type":"duplex"}`)
		r.send(end, 5, errorBody("broken"))
		r.want(end, -5, "true")

		r.send(data, 6, `{"name":["sum"],"args":[],"type":"sink"}`)
		r.send(data, 6, "1")
		r.send(end, 6, "true")
		r.want(end, -6, "true")

		r.send(data, 7, `{"name":["sum"],"args":[],"type":"sink"}`)
		r.send(data, 7, `"bad"`)
		r.want(end, -7, errorBody("bad number"))
		r.send(data, 7, `1`)
		r.send(end, 7, `true`)

		r.wantNothingKept()
	})
}

// wantNothingKept checks that finished requests leave nothing behind.
func (r *remote) wantNothingKept() {
	r.t.Helper()
	synctest.Wait()
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if len(r.c.ours)+len(r.c.theirs)+r.c.buffered != 0 {
		r.t.Errorf("kept: %d calls of ours, %d of theirs, %d bytes", len(r.c.ours), len(r.c.theirs), r.c.buffered)
	}
}

func TestOwnCallsAreEndedAsJSExpects(t *testing.T) {
	t.Parallel()
	against(t, Options{}, func(t *testing.T, r *remote) {
		ctx := context.Background()
		s, err := r.c.Source(ctx, "blobs.changes", map[string]any{"live": true})
		if err != nil {
			t.Fatal(err)
		}
		r.want(data, 1, `{"name":["blobs","changes"],"args":[{"live":true}],"type":"source"}`)
		r.send(dataText, -1, "x")
		r.send(end, -1, "true")
		r.want(end, 1, "true")
		if b, err := s.Recv(); err != nil || string(b.Data) != "x" || b.Type != Text {
			t.Errorf("got %v, %v", b, err)
		}
		if _, err := s.Recv(); err != io.EOF {
			t.Errorf("got %v", err)
		}
		if err := s.SendJSON([]byte("1")); err == nil {
			t.Error("sent on a source")
		}

		s, _ = r.c.Source(ctx, "x")
		r.want(data, 2, source("x", "[]"))
		r.send(data, -2, "1")
		r.send(end, -2, errorBody("could not get blob"))
		r.want(end, 2, "true")
		synctest.Wait()
		if b, err := s.Recv(); err != nil || string(b.Data) != "1" {
			t.Errorf("got %v, %v", b, err)
		}
		_, err = s.Recv()
		if e, ok := errors.AsType[*RemoteError](err); !ok || e.Message != "could not get blob" {
			t.Errorf("got %v", err)
		}

		s, _ = r.c.Sink(ctx, "y")
		r.want(data, 3, `{"name":["y"],"args":[],"type":"sink"}`)
		r.send(end, -3, errorBody("too much")) // a remote may end a sink, too
		r.want(end, 3, "true")
		synctest.Wait()
		if err := s.SendJSON([]byte("1")); err == nil || err.Error() != "too much" {
			t.Errorf("got %v", err)
		}
		if _, err := s.Recv(); err == nil || err.Error() != "too much" {
			t.Errorf("got %v", err)
		}

		s, _ = r.c.Duplex(ctx, "z")
		r.want(data, 4, `{"name":["z"],"args":[],"type":"duplex"}`)
		r.send(end, -4, "true")
		if _, err := s.Recv(); err != io.EOF {
			t.Errorf("got %v", err)
		}
		s.SendJSON([]byte("5"))
		r.want(data, 4, "5")
		s.CloseSend(nil)
		r.want(end, 4, "true")

		s, _ = r.c.Duplex(ctx, "z")
		r.want(data, 5, `{"name":["z"],"args":[],"type":"duplex"}`)
		s.CloseSend(nil)
		r.want(end, 5, "true")
		r.send(data, -5, "1")
		if _, err := s.Recv(); err != nil {
			t.Error(err)
		}
		s.Close()
		s.Close()
		if _, err := s.Recv(); err != ErrEnded {
			t.Errorf("got %v", err)
		}
		r.wantNothingKept()
	})
}

func TestCancelledCallsTellTheOtherSide(t *testing.T) {
	t.Parallel()
	against(t, Options{}, func(t *testing.T, r *remote) {
		for i, kind := range []Kind{Async, Source, Duplex, Sink} {
			id := int32(i + 1)
			ctx, cancel := context.WithCancelCause(context.Background())
			ended := make(chan error)
			go func() {
				if kind == Async {
					_, err := r.c.Async(ctx, "m", id)
					ended <- err
					return
				}
				s, err := r.c.Open(ctx, CallOptions{Kind: kind}, "m", id)
				if err == nil {
					_, err = s.Recv()
				}
				ended <- err
			}()
			if kind == Async {
				r.want(call, id, fmt.Sprintf(`{"name":["m"],"args":[%d]}`, id))
			} else {
				r.want(data, id, fmt.Sprintf(`{"name":["m"],"args":[%d],"type":"%s"}`, id, kind))
			}
			why := errors.New("no longer wanted")
			cancel(why)
			switch kind {
			case Async:
				r.want(callErr, id, errorBody("no longer wanted"))
				r.send(callErr, -id, errorBody("invalid request")) // what JS makes of it
			case Source:
				r.want(end, id, "true")
				r.send(data, -id, "1") // what was under way
				r.send(end, -id, "true")
			default:
				r.want(end, id, errorBody("no longer wanted"))
				r.send(end, -id, "true")
			}
			if err := <-ended; err != why {
				t.Errorf("%s: %v", kind, err)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := r.c.Async(ctx, "m"); err != context.Canceled {
			t.Error(err)
		}
		r.wantNothingKept()
	})
	given := make(chan error, 1)
	reg := registry(t, Method{Name: "slow", Kind: Async, Call: func(ctx context.Context, _ *Request) (any, error) {
		<-ctx.Done()
		given <- context.Cause(ctx)
		return nil, ctx.Err()
	}})
	against(t, Options{Registry: reg}, func(t *testing.T, r *remote) {
		r.send(call, 1, `{"name":["slow"],"args":[]}`)
		r.send(callErr, 1, errorBody("no longer wanted"))
		if err := <-given; err == nil || err.Error() != "no longer wanted" {
			t.Error(err)
		}
		r.wantNothingKept()
	})
}

func TestFramesForNobodyAreSkipped(t *testing.T) {
	t.Parallel()
	against(t, Options{Registry: registry(t, demo...)}, func(t *testing.T, r *remote) {
		big := strings.Repeat("e", 60<<10)
		r.send(end, 77, big) // an end for a request that never was
		r.send(end, -77, big)
		r.send(callErr, -1<<31, big)
		r.send(data, -5, big)
		r.send(call, -6, "{}")
		r.send(call, 0, `["event",{"okay":true}]`)
		r.send(end, 0, `true`)
		r.send(call, 78, `{"name":["echo"],"args":[1]}`)
		r.want(call, -78, "[1]")
		r.send(call, 76, `{"name":["echo"],"args":[2]}`) // overtaken on its way
		r.want(call, -76, "[2]")
		r.wantNothingKept()
	})
}

func TestErrorBodiesOfAnyForm(t *testing.T) {
	t.Parallel()
	cases := []struct {
		flags      byte
		body, want string
	}{
		{callErr, errorBody("it broke"), "it broke"},
		{callErr, `{"message":"m","name":7,"stack":null}`, "m"},
		{callErr, `{"message":["m"]}`, `{"message":["m"]}`},
		{callErr, `"just text"`, "just text"},
		{callErr, `true`, "the call ended without a result"},
		{callErr, `null`, "the call ended without a result"},
		{callErr, `[1]`, `[1]`},
		{callErr, `not json`, `not json`},
		{flagEnd | byte(Text), "Error: x", "Error: x"},
		{flagEnd | byte(Binary), "\x00\xff", "\x00?"},
		{end, errorBody("as a stream"), "as a stream"},
	}
	against(t, Options{}, func(t *testing.T, r *remote) {
		for i, tt := range cases {
			ended := make(chan error)
			go func() { _, err := r.c.Async(context.Background(), "m"); ended <- err }()
			r.want(call, int32(i+1), `{"name":["m"],"args":[]}`)
			r.send(tt.flags, -int32(i+1), tt.body)
			err := <-ended
			if e, ok := errors.AsType[*RemoteError](err); !ok || e.Message != tt.want || e.Name != "Error" {
				t.Errorf("%s: got %v, want %s", tt.body, err, tt.want)
			}
		}
		r.wantNothingKept()
	})
}

func TestResultsOfEveryType(t *testing.T) {
	t.Parallel()
	against(t, Options{}, func(t *testing.T, r *remote) {
		for i, tt := range []struct {
			flags      byte
			body, want string
		}{{call, `{"a": 1}`, `{"a": 1}`}, {byte(Text), "a\"<é", `"a\"<é"`}, {byte(Binary), "\x00\x01\x02", `"AAEC"`}} {
			got := make(chan string)
			go func() { b, err := r.c.Async(context.Background(), "m"); got <- fmt.Sprint(string(b), err) }()
			r.want(call, int32(i+1), `{"name":["m"],"args":[]}`)
			r.send(tt.flags, -int32(i+1), tt.body)
			r.send(tt.flags, -int32(i+1), tt.body) // a second answer goes nowhere
			if got := <-got; got != tt.want+"<nil>" {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		}
		r.wantNothingKept()
	})
}

func TestNumbersInUseAreRefused(t *testing.T) {
	t.Parallel()
	slow := Method{Name: "slow", Kind: Async, Call: func(ctx context.Context, _ *Request) (any, error) { <-ctx.Done(); return nil, ctx.Err() }}
	reg := registry(t, append(demo, slow)...)
	again := func(first, second byte, firstBody string) {
		against(t, Options{Registry: reg}, func(t *testing.T, r *remote) {
			r.send(first, 1, firstBody)
			go r.conn.Write(appendFrame(nil, second, 1, []byte(`{"name":["echo"],"args":[]}`)))
			r.wantRun("request 1: its number is in use")
		})
	}
	again(call, call, `{"name":["slow"],"args":[]}`)
	again(call, data, `{"name":["slow"],"args":[]}`)
	again(data, call, `{"name":["double"],"args":[],"type":"duplex"}`)
	against(t, Options{Registry: reg}, func(t *testing.T, r *remote) {
		r.send(call, 1, `{"name":["echo"],"args":[]}`)
		r.want(call, -1, "[]")
		r.send(call, 1, `{"name":["echo"],"args":[]}`)
		r.want(callErr, -1, errorBody("a request with this number was made before"))
	})
}

func TestMaxStreams(t *testing.T) {
	t.Parallel()
	var waiting chan struct{}
	reg := registry(t, Method{Name: "wait", Kind: Source, Stream: func(ctx context.Context, req *Request, s *Stream) error {
		select {
		case <-waiting:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	against(t, Options{Registry: reg, MaxStreams: 3}, func(t *testing.T, r *remote) {
		waiting = make(chan struct{})
		for id := range int32(3) {
			r.send(data, id+1, source("wait", "[]"))
		}
		r.send(data, 4, source("wait", "[]"))
		r.want(end, -4, errorBody("too many requests at once on this connection, the limit is 3"))
		r.send(call, 5, `{"name":["manifest"],"args":[]}`)
		r.want(callErr, -5, errorBody("too many requests at once on this connection, the limit is 3"))
		waiting <- struct{}{}
		h, err := r.in.header()
		if err != nil || h.flags != end {
			t.Fatal(h, err)
		}
		r.in.skip(int64(h.length))
		synctest.Wait()
		r.send(call, 6, `{"name":["manifest"],"args":[]}`)
		r.want(call, -6, string(reg.Manifest()))
	})
}

// What running requests hold of their arguments is bounded, too.
func TestArgumentsOfRunningRequestsAreBounded(t *testing.T) {
	t.Parallel()
	hold := Method{Name: "hold", Kind: Async, Call: func(ctx context.Context, req *Request) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	against(t, Options{Registry: registry(t, append(demo, hold)...), ConnBuffer: 50_000}, func(t *testing.T, r *remote) {
		long := `{"name":["hold"],"args":["` + strings.Repeat("x", 20_000) + `"]}`
		r.send(call, 1, long)
		r.send(call, 2, long)
		r.send(call, 3, long)
		r.want(callErr, -3, errorBody("too many arguments at once on this connection, the limit is 50000 bytes"))
		r.send(call, 4, `{"name":["echo"],"args":[]}`)
		r.want(call, -4, "[]")
		r.send(callErr, 1, "true")
		synctest.Wait()
		r.send(call, 5, long)
		synctest.Wait()
		r.send(call, 6, `{"name":["echo"],"args":[6]}`)
		r.want(call, -6, "[6]")
	})
}

// A reader that does not take what it gets loses its stream; the others go on.
func TestLaggingStreamIsEnded(t *testing.T) {
	t.Parallel()
	var stuck, result chan error
	reg := registry(t, append(demo, Method{Name: "lag", Kind: Sink, Stream: func(ctx context.Context, req *Request, s *Stream) error {
		<-ctx.Done()
		_, err := s.Recv()
		result <- err
		return errors.Join(err, <-stuck)
	}})...)
	against(t, Options{Registry: reg, StreamBuffer: 10_000}, func(t *testing.T, r *remote) {
		stuck, result = make(chan error), make(chan error, 1)
		r.send(data, 1, `{"name":["lag"],"args":[],"type":"sink"}`)
		body := strings.Repeat("1", 936)
		for range 10 {
			r.send(data, 1, body)
		}
		r.send(data, 2, `{"name":["double"],"args":[],"type":"duplex"}`)
		r.send(dataText, 2, "x")
		r.want(dataText, -2, "xx")
		go r.send(data, 1, body)
		r.want(end, -1, errorBody(ErrLagging.Error()))
		if err := <-result; err != ErrLagging {
			t.Errorf("got %v", err)
		}
		r.send(data, 1, body)
		r.send(dataText, 2, "y")
		r.want(dataText, -2, "yy")
		close(stuck)
		r.send(end, 2, "true")
		r.want(end, -2, "true")
		r.wantNothingKept()
	})
}

// Many streams that lag a little use up the connection's budget: the one with the most waiting pays.
func TestConnectionBudget(t *testing.T) {
	t.Parallel()
	hold := Method{Name: "hold", Kind: Sink, Stream: func(ctx context.Context, req *Request, s *Stream) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}}
	against(t, Options{Registry: registry(t, append(demo, hold)...), StreamBuffer: 50_000, ConnBuffer: 96_500}, func(t *testing.T, r *remote) {
		body := strings.Repeat("1", 1000-frameCost)
		for id := int32(1); id <= 4; id++ {
			r.send(data, id, `{"name":["hold"],"args":[],"type":"sink"}`)
			for range 20 + id {
				r.send(data, id, body)
			}
		}
		r.send(data, 9, `{"name":["double"],"args":[],"type":"duplex"}`)
		for range 2 {
			r.send(data, 1, body)
			r.send(data, 2, body)
			r.send(data, 3, body)
		}
		go r.send(data, 9, "1"+body+"1")
		r.want(end, -3, errorBody(ErrLagging.Error()))
		r.want(data, -9, "1"+body+"11"+body+"1")
		r.c.mu.Lock()
		if r.c.buffered > 96_500 || r.c.buffered < 50_000 {
			t.Errorf("%d bytes wait", r.c.buffered)
		}
		r.c.mu.Unlock()
	})
}

// A patient stream stops the reading of the whole connection instead, until its reader goes on.
func TestPatientStreamPushesBack(t *testing.T) {
	t.Parallel()
	var take chan int
	patient := Method{Name: "patient", Kind: Sink, Patient: true, Stream: func(ctx context.Context, req *Request, s *Stream) error {
		total := 0
		for want := range take {
			for total < want {
				batch, err := s.RecvBatch(3)
				if err != nil {
					return err
				}
				if len(batch) > 3 {
					return fmt.Errorf("a batch of %d", len(batch))
				}
				total += len(batch)
			}
		}
		_, err := s.Recv()
		return err
	}}
	o := Options{Registry: registry(t, append(demo, patient)...), StreamBuffer: 10_000}
	against(t, o, func(t *testing.T, r *remote) {
		take = make(chan int)
		r.send(data, 1, `{"name":["patient"],"args":[],"type":"sink"}`)
		sent := make(chan int, 1)
		go func() {
			for range 100 {
				r.send(data, 1, strings.Repeat("1", 936))
			}
			r.send(call, 2, `{"name":["echo"],"args":[]}`)
			sent <- 1
		}()
		synctest.Wait()
		r.c.mu.Lock()
		if r.c.buffered > 10_000 || r.c.buffered < 9_000 {
			t.Errorf("%d bytes wait", r.c.buffered)
		}
		r.c.mu.Unlock()
		select {
		case <-sent:
			t.Error("reading went on")
		default:
		}
		take <- 60
		take <- 100
		r.want(call, -2, "[]")
		close(take)
		r.send(end, 1, errorBody("enough"))
		r.want(end, -1, "true")
		r.wantNothingKept()
	})
	// It is not waited for without end.
	o.Patience = time.Minute
	against(t, o, func(t *testing.T, r *remote) {
		take = make(chan int)
		defer close(take)
		r.send(data, 1, `{"name":["patient"],"args":[],"type":"sink"}`)
		start := time.Now()
		go func() {
			for range 11 {
				r.send(data, 1, strings.Repeat("1", 936))
			}
			r.send(call, 2, `{"name":["echo"],"args":[]}`)
		}()
		r.want(end, -1, errorBody(ErrLagging.Error()))
		if d := time.Since(start); d != time.Minute {
			t.Errorf("ended after %v", d)
		}
		r.want(call, -2, "[]")
	})
	// A connection that closes meanwhile does not wait.
	against(t, o, func(t *testing.T, r *remote) {
		take = make(chan int)
		defer close(take)
		r.send(data, 1, `{"name":["patient"],"args":[],"type":"sink"}`)
		go io.Copy(r.conn, bytes.NewReader(bytes.Repeat(appendFrame(nil, data, 1, make([]byte, 936)), 20)))
		synctest.Wait()
		start := time.Now()
		r.c.Close()
		if d := time.Since(start); d > time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

// A remote that does not read stops who writes to it, and nobody else.
func TestRemoteThatDoesNotRead(t *testing.T) {
	t.Parallel()
	var got chan string
	flood := Method{Name: "flood", Kind: Source, Stream: func(ctx context.Context, req *Request, s *Stream) error {
		for {
			if err := s.SendJSON(bytes.Repeat([]byte("1"), 1000)); err != nil {
				return err
			}
		}
	}}
	tell := Method{Name: "tell", Kind: Sink, Stream: func(ctx context.Context, req *Request, s *Stream) error {
		for {
			b, err := s.Recv()
			if err != nil {
				return nil
			}
			got <- string(b.Data)
		}
	}}
	against(t, Options{Registry: registry(t, flood, tell)}, func(t *testing.T, r *remote) {
		got = make(chan string, 1)
		for id := int32(1); id < 10; id++ {
			r.send(data, id, source("flood", "[]"))
		}
		synctest.Wait()
		r.send(data, 10, `{"name":["tell"],"args":[],"type":"sink"}`)
		r.send(data, 10, "7")
		if s := <-got; s != "7" {
			t.Error(s)
		}
		r.send(end, 3, "true") // one of the writers that wait is told to stop
		synctest.Wait()
		r.c.wmu.Lock()
		if n := len(r.c.wbuf); n > 66<<10 || n < 64<<10 {
			t.Errorf("%d bytes wait to be written", n)
		}
		r.c.wmu.Unlock()
		r.c.mu.Lock()
		if len(r.c.theirs) != 9 {
			t.Errorf("%d streams", len(r.c.theirs))
		}
		r.c.mu.Unlock()
		start := time.Now()
		r.c.Close()
		if d := time.Since(start); d != 500*time.Millisecond {
			t.Errorf("closed after %v", d)
		}
		r.wantRun("")
	})
	// One that asks and asks and does not read the refusals is cut off.
	against(t, Options{}, func(t *testing.T, r *remote) {
		go func() {
			for id := int32(1); ; id++ {
				if _, err := r.conn.Write(appendFrame(nil, call, id, []byte(`{"name":["x"],"args":[]}`))); err != nil {
					return
				}
			}
		}()
		r.wantRun("does not read the answers")
	})
}

// Whatever way a connection dies, calls, streams and handlers end with an error and no goroutine stays behind.
func TestDyingConnectionEndsEverything(t *testing.T) {
	t.Parallel()
	deaths := []struct {
		name string
		die  func(r *remote)
		want string // what Run says
	}{
		{"cut between frames", func(r *remote) { r.conn.Close() }, "without goodbye"},
		{"cut inside a header", func(r *remote) { r.conn.Write([]byte{2, 0, 0}); r.conn.Close() }, "unexpected EOF"},
		{"cut inside a body", func(r *remote) { r.conn.Write(appendFrame(nil, call, -1, []byte("xxx"))[:10]); r.conn.Close() }, "unexpected EOF"},
		{"goodbye", func(r *remote) { r.conn.Write(make([]byte, 9)) }, ""},
		{"close", func(r *remote) { r.c.Close() }, ""},
		{"garbage", func(r *remote) { r.conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }, "unknown body type 3"},
	}
	for _, death := range deaths {
		ended := make(chan error, 1)
		hold := Method{Name: "hold", Kind: Duplex, Stream: func(ctx context.Context, req *Request, s *Stream) error {
			_, err := s.Recv()
			<-ctx.Done()
			ended <- err
			return err
		}}
		against(t, Options{Registry: registry(t, hold)}, func(t *testing.T, r *remote) {
			go io.Copy(io.Discard, r.conn)
			results := make(chan error)
			go func() { _, err := r.c.Async(context.Background(), "m"); results <- err }()
			for _, kind := range []Kind{Source, Duplex} {
				s, err := r.c.Open(context.Background(), CallOptions{Kind: kind}, "m")
				if err != nil {
					t.Fatal(err)
				}
				go func() { _, err := s.Recv(); results <- err }()
			}
			r.send(data, 1, `{"name":["hold"],"args":[],"type":"duplex"}`)
			synctest.Wait()
			death.die(r)
			for range 3 {
				if err := <-results; err == nil || err == io.EOF {
					t.Errorf("%s: a call ended with %v", death.name, err)
				}
			}
			if err := <-ended; err == nil || err == io.EOF {
				t.Errorf("%s: a handler's stream ended with %v", death.name, err)
			}
			r.wantRun(death.want)
			if _, err := r.c.Async(context.Background(), "m"); err == nil {
				t.Errorf("%s: a call after the end succeeded", death.name)
			}
			r.wantNothingKept()
		})
	}
}

func TestEndOfContextSaysGoodbye(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, y := net.Pipe()
		r := &remote{t: t, conn: y, in: frameReader{r: y}, c: New(x, Options{}), ran: make(chan error, 1)}
		ctx, cancel := context.WithCancel(context.Background())
		go func() { r.ran <- r.c.Run(ctx) }()
		synctest.Wait()
		if err := r.c.Run(ctx); err == nil {
			t.Error("Run runs twice")
		}
		cancel()
		r.wantGoodbye()
		r.conn.Write(make([]byte, 9))
		r.wantRun("context canceled")
	})
}

func TestCloseWithoutRun(t *testing.T) {
	t.Parallel()
	x, y := net.Pipe()
	c := New(x, Options{})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-c.Done()
	if _, err := y.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the transport is open: %v", err)
	}
	if err := c.Run(context.Background()); err == nil {
		t.Error("Run after Close succeeded")
	}
	if _, err := c.Async(context.Background(), "m"); err != ErrClosed {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	against(t, Options{}, func(t *testing.T, r *remote) {
		s, err := r.c.Duplex(context.Background(), "d")
		if err != nil {
			t.Fatal(err)
		}
		long := strings.Repeat("b", 150<<10)
		go func() {
			s.Send(Body{Binary, nil})
			s.Send(Body{Text, []byte("t")})
			s.Send(Body{Text, nil})
			s.Send(Body{Binary, []byte(long)})
			if err := s.SendJSON(nil); err == nil {
				t.Error("sent empty JSON")
			}
			s.CloseSend(errors.New("with < and >"))
			s.CloseSend(nil)
			if err := s.SendJSON([]byte("1")); err != ErrEnded {
				t.Errorf("sent after the end: %v", err)
			}
		}()
		r.want(data, 1, `{"name":["d"],"args":[],"type":"duplex"}`)
		r.want(dataText, 1, "t")
		r.want(data, 1, `""`)
		r.want(dataBin, 1, long[:64<<10])
		r.want(dataBin, 1, long[:64<<10])
		r.want(dataBin, 1, long[128<<10:])
		r.want(end, 1, errorBody("with < and >"))
		r.send(dataBin, -1, "xyz")
		synctest.Wait()
		got := r.c.Stats()
		want := Stats{BytesIn: 12, MessagesIn: 1, MessagesOut: 7, BytesOut: 7*9 + 45 + 1 + 2 + 150<<10 + int64(len(errorBody("with < and >")))}
		if got.BytesIn != want.BytesIn || got.MessagesIn != want.MessagesIn || got.MessagesOut != want.MessagesOut || got.BytesOut < 150<<10 {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestNumbersBeginAgain(t *testing.T) {
	t.Parallel()
	against(t, Options{}, func(t *testing.T, r *remote) {
		first, _ := r.c.Source(context.Background(), "m")
		r.want(data, 1, source("m", "[]"))
		r.c.mu.Lock()
		r.c.next = 1<<31 - 2
		r.c.mu.Unlock()
		for _, id := range []int32{1<<31 - 1, 2, 3} {
			s, err := r.c.Source(context.Background(), "m")
			if err != nil {
				t.Fatal(err)
			}
			r.want(data, id, source("m", "[]"))
			s.Close()
			r.want(end, id, "true")
		}
		first.Close()
		r.want(end, 1, "true")
		r.wantNothingKept()
	})
}

func TestWindow(t *testing.T) {
	t.Parallel()
	const top = 1<<31 - 1
	type step struct {
		id  int32
		new bool
	}
	for name, steps := range map[string][]step{
		"rising":           {{1, true}, {2, true}, {3, true}, {2, false}, {1, false}, {3, false}},
		"overtaken":        {{5, true}, {3, true}, {3, false}, {4, true}, {5, false}, {6, true}},
		"far below":        {{5000, true}, {5000 - 1024, false}, {5000 - 1023, true}, {5000 - 1023, false}},
		"jump":             {{1, true}, {1024, true}, {2, true}, {3000, true}, {1, false}, {2999, true}, {2500, true}, {1024, false}},
		"around the top":   {{top - 1, true}, {top, true}, {1, true}, {2, true}, {top, false}, {top - 1, false}, {top - 2, true}, {2, false}, {2000, true}, {1, false}},
		"around, overtook": {{top - 3, true}, {3, true}, {top, true}, {1, true}, {top, false}, {2, true}, {1, false}},
	} {
		var w window
		for i, s := range steps {
			if got := w.use(s.id); got != s.new {
				t.Errorf("%s: step %d, number %d: new %v, want %v", name, i, s.id, got, s.new)
			}
		}
	}
}

// Calls leave nothing behind, however many were made.
func TestFinishedCallsCostNothing(t *testing.T) {
	t.Parallel()
	a, b := pair(t, Options{}, Options{Registry: registry(t, demo...)})
	for range 3000 {
		if _, err := a.Async(t.Context(), "echo", 1); err != nil {
			t.Fatal(err)
		}
		s, err := a.Source(t.Context(), "count.to", 1)
		if err != nil {
			t.Fatal(err)
		}
		if batch, err := s.RecvBatch(0); err != nil || len(batch) != 1 {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != io.EOF {
			t.Fatal(err)
		}
	}
	a.Async(t.Context(), "echo") // after it, the ends before it were handled
	a.mu.Lock()
	if len(a.ours) != 0 {
		t.Errorf("%d calls are kept", len(a.ours))
	}
	a.mu.Unlock()
	b.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.buffered != 0 {
		t.Errorf("%d bytes are kept", b.buffered)
	}
}

// What arrived before the end can still be taken after it.
func TestReceivedBeforeTheEnd(t *testing.T) {
	t.Parallel()
	against(t, Options{}, func(t *testing.T, r *remote) {
		whole, _ := r.c.Source(context.Background(), "whole")
		cut, _ := r.c.Source(context.Background(), "cut")
		r.want(data, 1, source("whole", "[]"))
		r.want(data, 2, source("cut", "[]"))
		r.send(data, -1, "1")
		r.send(data, -1, "2")
		r.send(end, -1, "true")
		r.want(end, 1, "true")
		r.send(data, -2, "3")
		r.conn.Close()
		r.wantRun("without goodbye")
		for _, want := range []string{"1", "2"} {
			if b, err := whole.Recv(); err != nil || string(b.Data) != want {
				t.Errorf("got %s, %v", b.Data, err)
			}
		}
		if _, err := whole.Recv(); err != io.EOF {
			t.Errorf("got %v", err)
		}
		if b, err := cut.Recv(); err != nil || string(b.Data) != "3" {
			t.Errorf("got %s, %v", b.Data, err)
		}
		if _, err := cut.Recv(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
		r.wantNothingKept()
	})
}
