package muxrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"charkha/internal/vectors"

	"github.com/google/go-cmp/cmp"
)

// packet is one recorded packet, or a remark.
type packet struct {
	Dir, Text, Bytes, Body string
	Flags                  byte
	Req                    int32
}

// transcripts returns the connections of all recordings: a remark ends one and begins the next.
func transcripts(t *testing.T) map[string][]packet {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(vectors.Dir(t, "muxrpc-transcripts"), "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	all := map[string][]packet{}
	for _, file := range files {
		name := filepath.Base(file)
		part := 0
		for _, p := range vectors.JSON[struct{ Packets []packet }](t, "muxrpc-transcripts", name).Packets {
			if p.Dir == "note" {
				part++
				continue
			}
			key := fmt.Sprintf("%s/%d", strings.TrimSuffix(name, ".json"), part)
			all[key] = append(all[key], p)
		}
	}
	return all
}

func TestVectorTranscriptsDecode(t *testing.T) {
	t.Parallel()
	for name, packets := range transcripts(t) {
		var wire []byte
		for i, p := range packets {
			raw := unhex(t, p.Bytes)
			h := parseHeader((*[headerSize]byte)(raw))
			if h.flags != p.Flags || h.req != p.Req || string(raw[headerSize:]) != p.Body || int(h.length) != len(p.Body) {
				t.Errorf("%s packet %d: got %+v", name, i, h)
			}
			if h.req > 0 && (!h.stream() || !h.end()) && strings.Contains(p.Body, `"name":[`) {
				n, _, kind, args, err := parseEnvelope(h, raw[headerSize:])
				if err != nil {
					t.Errorf("%s packet %d: %v", name, i, err)
					continue
				}
				var list []any
				var got, want any
				if err := json.Unmarshal(args, &list); err != nil {
					t.Fatal(err)
				}
				again, err := appendEnvelope(nil, n, kind, list)
				if err != nil || json.Unmarshal(again, &got) != nil || json.Unmarshal(raw[headerSize:], &want) != nil || !cmp.Equal(got, want) {
					t.Errorf("%s packet %d: %s\nis written as %s, %v", name, i, p.Body, again, err)
				}
			}
			wire = append(wire, raw...)
		}
		if n, again, err := readAll(bytes.NewReader(wire), 1<<20); n != len(packets) || err != io.EOF || !bytes.Equal(again, wire) {
			t.Errorf("%s: %d of %d packets, %v", name, n, len(packets), err)
		}
	}
}

// script is what one request did on one side, in order.
type script map[int32][]packet

// TestVectorTranscriptsReplay plays each side of a recording against a Conn that does what the other side did: the Conn
// must say, request by request, what was recorded. The order between requests does not count, nor do the ends that old
// packet-streams still sent for open streams on closing; error stacks were dropped.
func TestVectorTranscriptsReplay(t *testing.T) {
	t.Parallel()
	for name, packets := range transcripts(t) {
		for _, side := range []string{"send", "recv"} {
			synctest.Test(t, func(t *testing.T) { replay(t, name+" "+side, packets, side) })
		}
	}
}

func replay(t *testing.T, name string, packets []packet, side string) {
	// Split into what our side said, per request, and what it will hear. Requests are told apart by the number on our
	// side of the wire: the remote's request 1 is answered by us as -1.
	said, hears := script{}, script{}
	var order []packet // our requests, in order
	asked := map[int32]packet{}
	for _, p := range packets {
		if p.Req == 0 {
			continue
		}
		if p.Dir == side {
			if strings.Contains(p.Body, "unexpected end of parent stream") {
				continue
			}
			if p.Req > 0 && len(said[p.Req]) == 0 {
				order = append(order, p)
			}
			said[p.Req] = append(said[p.Req], p)
		} else {
			if p.Req > 0 && len(hears[-p.Req]) == 0 {
				asked[-p.Req] = p
			}
			hears[-p.Req] = append(hears[-p.Req], p)
		}
	}

	// What we serve: every method that the remote called here, saying what our side said. The kinds are those of the
	// requests; two calls of one method are told apart by the order they come in.
	var mu sync.Mutex
	answers := map[string][]int32{}
	var methods []Method
	for id, p := range asked {
		n, _, kind, _, err := parseEnvelope(header{flags: p.Flags}, []byte(p.Body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		answers[n] = append(answers[n], id)
		if len(answers[n]) > 1 || n == "manifest" {
			continue
		}
		m := Method{Name: n, Kind: kind}
		if kind == Async {
			m.Call = func(ctx context.Context, req *Request) (any, error) {
				mu.Lock()
				defer mu.Unlock()
				p := said[answers[n][0]][0]
				return json.RawMessage(p.Body), nil
			}
		} else {
			m.Stream = func(ctx context.Context, req *Request, s *Stream) error {
				for _, p := range said[-req.id(s)] {
					if p.Flags&flagEnd != 0 {
						if err := parseEnd(JSON, []byte(p.Body)); err != io.EOF {
							return err
						}
						return nil
					}
					if err := s.SendJSON([]byte(p.Body)); err != nil {
						return err
					}
				}
				<-ctx.Done()
				return ctx.Err()
			}
		}
		methods = append(methods, m)
	}
	x, y := net.Pipe()
	c := New(x, Options{Registry: registry(t, methods...)})
	ran := make(chan error, 1)
	go func() { ran <- c.Run(context.Background()) }()

	got := script{}
	gone := make(chan bool)
	go func() { // the remote listens
		defer close(gone)
		in := frameReader{r: y}
		for {
			h, err := in.header()
			if err != nil || h.length == 0 {
				return
			}
			body, err := in.bigBody(int(h.length))
			if err != nil {
				return
			}
			mu.Lock()
			got[h.req] = append(got[h.req], packet{Flags: h.flags, Req: h.req, Body: string(body)})
			mu.Unlock()
		}
	}()

	// Our side makes its calls; the remote's packets come in the recorded order, each after the request it belongs to.
	var calls sync.WaitGroup
	for _, p := range packets {
		if p.Req == 0 {
			continue
		}
		if p.Dir != side {
			if strings.Contains(p.Body, "unexpected end of parent stream") {
				continue
			}
			synctest.Wait()
			if _, err := y.Write(unhex(t, p.Bytes)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			continue
		}
		if len(order) == 0 || order[0].Bytes != p.Bytes || order[0].Req != p.Req {
			continue
		}
		order = order[1:]
		n, _, kind, args, err := parseEnvelope(header{flags: p.Flags}, []byte(p.Body))
		if err != nil {
			t.Fatal(err)
		}
		var list []json.RawMessage
		if err := json.Unmarshal(args, &list); err != nil {
			t.Fatal(err)
		}
		anys := make([]any, len(list))
		for i := range list {
			anys[i] = list[i]
		}
		s, err := c.Open(context.Background(), CallOptions{Kind: kind}, n, anys...)
		if err != nil {
			t.Fatal(err)
		}
		rest := said[p.Req][1:]
		want := hears[p.Req]
		calls.Go(func() {
			for _, p := range rest {
				if p.Flags&flagEnd == 0 {
					_ = s.SendJSON([]byte(p.Body)) // an error shows as a missing packet
				}
			}
			for {
				b, err := s.Recv()
				if err != nil {
					if len(want) > 0 && want[0].Flags&flagEnd == 0 {
						t.Errorf("%s: request %d: %v, but %s was sent", name, s.id, err, want[0].Body)
					}
					return
				}
				if len(want) == 0 || want[0].Body != string(b.Data) {
					t.Errorf("%s: request %d: received %s, want %v", name, s.id, b.Data, want)
					return
				}
				want = want[1:]
			}
		})
	}
	synctest.Wait()
	mu.Lock()
	for id, want := range said {
		if id < 0 && isManifest(asked[id]) {
			continue // our manifest is not theirs
		}
		have := got[id]
		if heard := hears[id]; len(have) == len(want)+1 && len(heard) > 0 && heard[len(heard)-1].Flags&flagEnd != 0 {
			// The recording side hung up inside the callback that told it of the end, before answering that.
			if last := have[len(want)]; last.Flags&flagEnd != 0 {
				have = have[:len(want)]
			}
		}
		if diff := cmp.Diff(meaning(t, want), meaning(t, have)); diff != "" {
			t.Errorf("%s: request %d: %s", name, id, diff)
		}
	}
	mu.Unlock()
	c.Close()
	<-gone
	calls.Wait()
	if err := <-ran; err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func isManifest(p packet) bool { return strings.Contains(p.Body, `["manifest"]`) }

// id is the number of a stream's request on the remote's side.
func (*Request) id(s *Stream) int32 { return -s.id }

// meaning is what packets say: flags and decoded bodies. An end that answers an error is true here and that error in JS.
func meaning(t *testing.T, packets []packet) []any {
	t.Helper()
	var all []any
	for _, p := range packets {
		var v any
		if err := json.Unmarshal([]byte(p.Body), &v); err != nil {
			t.Fatal(err)
		}
		if obj, ok := v.(map[string]any); ok && p.Flags&flagEnd != 0 {
			delete(obj, "stack")
		}
		all = append(all, p.Flags, v)
	}
	return all
}
