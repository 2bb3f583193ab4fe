// Package rivals measures Charkha's wire beside github.com/ssbc/go-muxrpc/v2 and github.com/ssbc/go-secretstream, the Go
// packages that other nodes use, in one run on one machine:
//
//	cd bench/rivals && go test -run '^$' -bench . -cpu 1
//
// "direct" is the floor: the same frames through two bufio buffers, with no calls, no streams and no limits. cpu-ns/op is
// the processor time of the whole process, which other work on the machine disturbs less than the wall clock.
package rivals

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"testing"

	"charkha/identity"
	"charkha/muxrpc"
	"charkha/replicate/shs"

	rival "github.com/ssbc/go-muxrpc/v2"
	"github.com/ssbc/go-muxrpc/v2/typemux"
	"github.com/ssbc/go-secretstream"
	"github.com/ssbc/go-secretstream/secrethandshake"
	"go.mindeco.de/log"
)

// size is that of a usual message.
const size = 600

func message() []byte {
	return append(append([]byte(`"`), bytes.Repeat([]byte("x"), size-2)...), '"')
}

// wires are the transports that everyone is measured on.
var wires = []struct {
	name           string
	charkha, rival func(testing.TB) (client, server net.Conn)
}{
	{"tcp", tcp, tcp},
	{"box", charkhaBox, rivalBox},
}

func tcp(tb testing.TB) (net.Conn, net.Conn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() { conn, _ := l.Accept(); accepted <- conn }()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	b := <-accepted
	if b == nil {
		tb.Fatal("not accepted")
	}
	tb.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// both does what the two sides of a handshake do.
func both(tb testing.TB, client, server func(net.Conn) (net.Conn, error)) (net.Conn, net.Conn) {
	tb.Helper()
	x, y := tcp(tb)
	var b net.Conn
	failed := make(chan error, 1)
	go func() { var err error; b, err = server(y); failed <- err }()
	a, err := client(x)
	if err := errors.Join(err, <-failed); err != nil {
		tb.Fatal(err)
	}
	return a, b
}

func charkhaBox(tb testing.TB) (net.Conn, net.Conn) {
	me, they := identity.FromSeed([32]byte{1}), identity.FromSeed([32]byte{2})
	return both(tb, func(conn net.Conn) (net.Conn, error) {
		return shs.Client(tb.Context(), conn, shs.Config{Key: me, NetworkKey: shs.MainNetwork}, they.ID())
	}, func(conn net.Conn) (net.Conn, error) {
		return shs.Server(tb.Context(), conn, shs.Config{Key: they, NetworkKey: shs.MainNetwork})
	})
}

func rivalBox(tb testing.TB) (net.Conn, net.Conn) {
	pair := func(seed byte) secrethandshake.EdKeyPair {
		secret := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
		return secrethandshake.EdKeyPair{Public: secret.Public().(ed25519.PublicKey), Secret: secret}
	}
	me, they := pair(1), pair(2)
	client, err := secretstream.NewClient(me, shs.MainNetwork[:])
	if err != nil {
		tb.Fatal(err)
	}
	server, err := secretstream.NewServer(they, shs.MainNetwork[:])
	if err != nil {
		tb.Fatal(err)
	}
	return both(tb, client.ConnWrapper(they.Public), server.ConnWrapper())
}

// measure runs the benchmark body and reports the processor time beside the wall clock.
func measure(b *testing.B, run func()) {
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	run()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
}

func BenchmarkSource(b *testing.B) {
	for _, wire := range wires {
		b.Run(wire.name+"/direct", func(b *testing.B) { direct(b, wire.charkha) })
		b.Run(wire.name+"/charkha", func(b *testing.B) {
			call := charkha(b, wire.charkha)
			measure(b, func() {
				s, err := call.Open(b.Context(), muxrpc.CallOptions{Kind: muxrpc.Source, Patient: true}, "firehose", b.N)
				if err != nil {
					b.Fatal(err)
				}
				got := 0
				for {
					batch, err := s.RecvBatch(0)
					if err == io.EOF {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					for _, body := range batch {
						if len(body.Data) != size {
							b.Fatal(len(body.Data))
						}
						got++
					}
				}
				if got != b.N {
					b.Fatalf("got %d of %d", got, b.N)
				}
			})
		})
		b.Run(wire.name+"/go-muxrpc", func(b *testing.B) {
			call := goMuxrpc(b, wire.rival)
			measure(b, func() {
				src, err := call.Source(b.Context(), rival.TypeJSON, rival.Method{"firehose"}, b.N)
				if err != nil {
					b.Fatal(err)
				}
				got := 0
				for src.Next(b.Context()) {
					body, err := src.Bytes()
					if err != nil || len(body) != size {
						b.Fatal(len(body), err)
					}
					got++
				}
				if src.Err() != nil || got != b.N {
					b.Fatalf("got %d of %d, %v", got, b.N, src.Err())
				}
			})
		})
	}
}

func BenchmarkAsync(b *testing.B) {
	for _, wire := range wires {
		b.Run(wire.name+"/charkha", func(b *testing.B) {
			call := charkha(b, wire.charkha)
			measure(b, func() {
				for range b.N {
					if _, err := call.Async(b.Context(), "ping"); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
		b.Run(wire.name+"/go-muxrpc", func(b *testing.B) {
			call := goMuxrpc(b, wire.rival)
			measure(b, func() {
				for range b.N {
					var n int
					if err := call.Async(b.Context(), &n, rival.TypeJSON, rival.Method{"ping"}); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func charkha(b *testing.B, wire func(testing.TB) (net.Conn, net.Conn)) *muxrpc.Conn {
	x, y := wire(b)
	body := message()
	reg, err := muxrpc.NewRegistry([]muxrpc.Method{
		{Name: "firehose", Kind: muxrpc.Source, Stream: func(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
			var n int
			if err := req.Decode(&n); err != nil {
				return err
			}
			for range n {
				if err := s.SendJSON(body); err != nil {
					return err
				}
			}
			return nil
		}},
		{Name: "ping", Kind: muxrpc.Async, Call: func(context.Context, *muxrpc.Request) (any, error) { return 1, nil }},
	})
	if err != nil {
		b.Fatal(err)
	}
	client, server := muxrpc.New(x, muxrpc.Options{}), muxrpc.New(y, muxrpc.Options{Registry: reg})
	go client.Run(context.Background())
	go server.Run(context.Background())
	b.Cleanup(func() { client.Close(); server.Close() })
	return client
}

func goMuxrpc(b *testing.B, wire func(testing.TB) (net.Conn, net.Conn)) rival.Endpoint {
	x, y := wire(b)
	body := message()
	mux := typemux.New(log.NewNopLogger())
	mux.RegisterSource(rival.Method{"firehose"}, firehose(body))
	mux.RegisterAsync(rival.Method{"ping"}, typemux.AsyncFunc(func(context.Context, *rival.Request) (interface{}, error) { return 1, nil }))
	mux.RegisterAsync(rival.Method{"manifest"}, typemux.AsyncFunc(func(context.Context, *rival.Request) (interface{}, error) {
		return map[string]string{"firehose": "source", "ping": "async", "manifest": "sync"}, nil
	}))
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // Handle returns when the other side has answered its manifest call
		server := rival.Handle(rival.NewPacker(y), &mux, rival.WithContext(ctx), rival.WithLogger(log.NewNopLogger()), rival.WithIsServer(true))
		_ = server.(rival.Server).Serve()
	}()
	nothing := typemux.New(log.NewNopLogger())
	nothing.RegisterAsync(rival.Method{"manifest"}, typemux.AsyncFunc(func(context.Context, *rival.Request) (interface{}, error) { return map[string]string{}, nil }))
	client := rival.Handle(rival.NewPacker(x), &nothing, rival.WithContext(ctx), rival.WithLogger(log.NewNopLogger()))
	go client.(rival.Server).Serve()
	b.Cleanup(cancel)
	return client
}

type firehose []byte

func (body firehose) HandleSource(ctx context.Context, req *rival.Request, w *rival.ByteSink) error {
	var args []int
	if err := json.Unmarshal(req.RawArgs, &args); err != nil {
		return err
	}
	w.SetEncoding(rival.TypeJSON)
	for range args[0] {
		if _, err := w.Write(body); err != nil {
			return err
		}
	}
	return w.Close()
}

func direct(b *testing.B, wire func(testing.TB) (net.Conn, net.Conn)) {
	x, y := wire(b)
	body := message()
	measure(b, func() {
		go func() {
			w := bufio.NewWriterSize(y, 64<<10)
			var head [9]byte
			head[0] = 10
			binary.BigEndian.PutUint32(head[1:], size)
			for range b.N {
				w.Write(head[:])
				w.Write(body)
			}
			w.Flush()
		}()
		r := bufio.NewReaderSize(x, 64<<10)
		var head [9]byte
		got := make([]byte, size)
		for range b.N {
			if _, err := io.ReadFull(r, head[:]); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(r, got[:binary.BigEndian.Uint32(head[1:])]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
