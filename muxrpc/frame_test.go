package muxrpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"charkha/internal/vectors"

	"github.com/google/go-cmp/cmp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readAll cuts a byte stream into frames and writes them again.
func readAll(r io.Reader, most int) (frames int, again []byte, err error) {
	in := frameReader{r: r}
	for {
		h, err := in.header()
		if err != nil {
			return frames, again, err
		}
		if int64(h.length) > int64(most) {
			return frames, again, fmt.Errorf("%d bytes", h.length)
		}
		body, err := in.bigBody(int(h.length))
		if err != nil {
			return frames, again, err
		}
		frames++
		again = appendFrame(again, h.flags, h.req, body)
	}
}

func TestVectorCodec(t *testing.T) {
	t.Parallel()
	type packet struct {
		ID          int
		Kind        string
		Req         int32
		Stream, End bool
		Type        string
		Length      *uint32
		Body        string          `json:"body_hex"`
		Header      string          `json:"header_hex"`
		Value       json.RawMessage `json:"value"`
	}
	types := map[string]BodyType{"binary": Binary, "string": Text, "json": JSON}
	packets := vectors.JSON[[]packet](t, "muxrpc-codec", "packets.json")
	if len(packets) == 0 {
		t.Fatal("no packets")
	}
	for _, p := range packets {
		head := unhex(t, p.Header)
		h := parseHeader((*[headerSize]byte)(head))
		body := unhex(t, p.Body)
		if p.Kind == "goodbye" {
			if h != (header{}) || !bytes.Equal(appendFrame(nil, 0, 0, nil), head) {
				t.Errorf("packet %d: goodbye is %x", p.ID, head)
			}
			continue
		}
		length := uint32(len(body))
		if p.Length != nil {
			length = *p.Length
		}
		typ, ok := types[p.Type]
		if !ok || h.req != p.Req || h.stream() != p.Stream || h.end() != p.End || h.bodyType() != typ || h.length != length {
			t.Errorf("packet %d: got %+v, want %+v", p.ID, h, p)
		}
		if p.Kind == "header-only" {
			continue
		}
		flags := byte(typ)
		if p.Stream {
			flags |= flagStream
		}
		if p.End {
			flags |= flagEnd
		}
		whole := append(head, body...)
		if got := appendFrame(nil, flags, p.Req, body); !bytes.Equal(got, whole) {
			t.Errorf("packet %d: encoded %x, want %x", p.ID, got, whole)
		}
		for name, r := range map[string]io.Reader{
			"whole": bytes.NewReader(whole), "bytewise": iotest.OneByteReader(bytes.NewReader(whole)), "data with EOF": iotest.DataErrReader(bytes.NewReader(whole)),
		} {
			if n, again, err := readAll(r, 1<<20); n != 1 || err != io.EOF || !bytes.Equal(again, whole) {
				t.Errorf("packet %d, %s: %d frames %x, %v", p.ID, name, n, again, err)
			}
		}
		if typ == JSON && len(p.Value) > 0 {
			var got, want any
			if json.Unmarshal(body, &got) != nil || json.Unmarshal(p.Value, &want) != nil || !cmp.Equal(got, want) {
				t.Errorf("packet %d: body %s, want %s", p.ID, body, p.Value)
			}
		}
	}
}

func TestFrameReaderTellsCuts(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte("0123456789"), 20_000)
	whole := appendFrame(appendFrame(nil, data, 1, []byte("abc")), data, 2, long)
	for _, cut := range []int{0, 12, len(whole)} {
		if _, _, err := readAll(bytes.NewReader(whole[:cut]), 1<<20); err != io.EOF {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	for _, cut := range []int{1, 8, 9, 11, 13, 20, 21, 22, 80_000, len(whole) - 1} {
		if _, _, err := readAll(bytes.NewReader(whole[:cut]), 1<<20); err != io.ErrUnexpectedEOF {
			t.Errorf("cut at %d: %v", cut, err)
		}
		in := frameReader{r: bytes.NewReader(whole[:cut])}
		if err := in.skip(int64(len(whole))); err != io.ErrUnexpectedEOF {
			t.Errorf("skip, cut at %d: %v", cut, err)
		}
	}
	if _, err := (&frameReader{r: silent{}}).header(); err != io.ErrNoProgress {
		t.Errorf("a reader that gives nothing: %v", err)
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

// A length in a header takes no memory before its body comes.
func TestBodiesTakeMemoryAsTheyCome(t *testing.T) {
	in := frameReader{r: strings.NewReader("only this")}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := in.bigBody(1 << 30)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; err != io.ErrUnexpectedEOF || took > 1<<20 {
		t.Errorf("%d bytes, %v", took, err)
	}
}

func FuzzFrameReader(f *testing.F) {
	f.Add(appendFrame(nil, data, 1, []byte("{}")), uint8(1))
	f.Add(appendFrame(appendFrame(nil, data, -7, []byte("abc")), 0, 0, nil), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		n, again, err := readAll(&pieces{in, int(piece)}, 1<<14)
		if err == nil {
			t.Fatal("no end")
		}
		if !bytes.Equal(in[:len(again)], again) {
			t.Errorf("%d frames, written again, differ", n)
		}
		if err == io.EOF && len(again) != len(in) {
			t.Errorf("%d of %d bytes, then a clean end", len(again), len(in))
		}
	})
}

// pieces gives its bytes in pieces of n, or all at once when n is 0.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(dst []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	if p.n > 0 && len(dst) > p.n {
		dst = dst[:p.n]
	}
	n := copy(dst, p.b)
	p.b = p.b[n:]
	return n, nil
}

// FuzzConn lets a remote say anything at all: the connection must come to its end, with every handler returned, within
// its bounds, and what it says back must be frames.
func FuzzConn(f *testing.F) {
	hello := func(flags byte, id int32, body string) []byte { return appendFrame(nil, flags, id, []byte(body)) }
	f.Add(bytes.Join([][]byte{
		hello(call, 1, `{"name":["echo"],"args":[1]}`), hello(data, 2, `{"name":["count","to"],"args":[9],"type":"source"}`),
		hello(end, 2, "true"), hello(data, 3, `{"name":["double"],"args":[],"type":"duplex"}`), hello(dataText, 3, "abc"),
		hello(data, -1, "{}"), hello(dataBin, -2, "x"), hello(end, -1, errorBody("no")), hello(end, 3, "true"), make([]byte, 9),
	}, nil))
	f.Add(bytes.Join([][]byte{hello(data, 3, `{"name":"sum","args":[],"type":"sink"}`), hello(data, 3, "1"), hello(call, 3, "1")}, nil))
	f.Add(bytes.Join([][]byte{hello(call, -3, `"x"`), hello(callErr, -1, "true"), hello(callErr, 1, "true")}, nil))
	reg := registry(f, append(demo, Method{Name: "sit", Kind: Duplex, Patient: true, MaxBody: 5000, Stream: func(ctx context.Context, _ *Request, s *Stream) error {
		<-ctx.Done()
		return ctx.Err()
	}})...)
	f.Fuzz(func(t *testing.T, in []byte) {
		if bytes.Contains(in, []byte("count")) {
			return // would only count for long
		}
		x, y := net.Pipe()
		c := New(x, Options{Registry: reg, MaxBody: 1000, StreamBuffer: 2000, ConnBuffer: 5000, MaxStreams: 4, Patience: 10 * time.Millisecond, CloseTimeout: 50 * time.Millisecond})
		ran := make(chan error, 1)
		go func() { ran <- c.Run(context.Background()) }()
		read := make(chan error, 1)
		go func() { _, _, err := readAll(y, 1<<20); read <- err }()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		async := make(chan error, 1)
		go func() { _, err := c.Async(ctx, "m"); async <- err }()
		source, err := c.Source(ctx, "m")
		if err == nil {
			go func() {
				for {
					if _, err := source.RecvBatch(1); err != nil {
						return
					}
				}
			}()
			if d, err := c.Open(ctx, CallOptions{Kind: Duplex, Patient: true}, "m"); err == nil {
				_ = d.SendJSON([]byte("1"))
			}
		}
		_, _ = y.Write(in)
		c.mu.Lock()
		if c.buffered > 5000+1000+frameCost || len(c.theirs) > 4 || len(c.ours) > 3 {
			t.Errorf("%d bytes, %d streams", c.buffered, len(c.theirs))
		}
		c.mu.Unlock()
		y.Close()
		<-ran
		<-async
		if err := <-read; err == nil || strings.Contains(err.Error(), "bytes") {
			t.Errorf("wrote no frames: %v", err)
		}
		c.mu.Lock()
		if len(c.theirs) != 0 {
			t.Errorf("%d requests are kept", len(c.theirs))
		}
		c.mu.Unlock()
	})
}

// A source of small messages costs less than one allocation per message, both sides together.
func TestStreamAllocations(t *testing.T) {
	a, _ := pair(t, Options{}, Options{Registry: firehose(t)})
	const n = 50_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s, err := a.Open(t.Context(), CallOptions{Kind: Source, Patient: true}, "firehose", n)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for {
		batch, err := s.RecvBatch(0)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got += len(batch)
	}
	runtime.ReadMemStats(&after)
	if each := float64(after.Mallocs-before.Mallocs) / n; got != n || each > 0.5 {
		t.Errorf("%d messages, %.2f allocations each", got, each)
	}
}

// Bodies may be kept: what comes later does not touch them, and appending to one does not touch the next.
func TestBodiesMayBeKept(t *testing.T) {
	t.Parallel()
	a, _ := pair(t, Options{}, Options{Registry: registry(t, demo...)})
	s, err := a.Open(t.Context(), CallOptions{Kind: Source, Patient: true}, "count.to", 20_000)
	if err != nil {
		t.Fatal(err)
	}
	var kept [][]byte
	for {
		batch, err := s.RecvBatch(1 + len(kept)%7)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batch {
			kept = append(kept, b.Data)
			_ = append(b.Data, "overwritten?"...)
		}
	}
	for i, b := range kept {
		if string(b) != fmt.Sprint(i) {
			t.Fatalf("body %d is %q now", i, b)
		}
	}
	if len(kept) != 20_000 {
		t.Errorf("%d bodies", len(kept))
	}
}
