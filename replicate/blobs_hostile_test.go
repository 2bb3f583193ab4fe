package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"charkha/blob"
	"charkha/identity"
	"charkha/muxrpc"
)

// blobSiege is a node that wants a blob that a hostile peer says to have.
type blobSiege struct {
	t            *testing.T
	m            *memNet
	node, honest *blobNode
	hostile      *blobPeer
	peer         *rawPeer // the hostile one's connection
	book         *book
	kept         []byte // held by the node from the beginning
}

// besiegeBlobs runs a test in which a blob of some bytes is wanted that a hostile peer says to have; do says what it gives. Then
// an honest peer that has it connects: the blob must arrive within a time from then on, other blobs must go both ways meanwhile,
// and so must messages.
func besiegeBlobs(t *testing.T, size int, within time.Duration, do func(s *blobSiege)) {
	t.Helper()
	bubble(t, func(t *testing.T, m *memNet) {
		s := &blobSiege{t: t, m: m, book: &book{}, kept: bytesOf(99, 1000)}
		s.node = startBlobs(t, 1, 60<<20, nodeOptions{mem: m, book: s.book})
		s.honest = startBlobs(t, 2, 60<<20, nodeOptions{mem: m})
		for _, n := range []*blobNode{s.node, s.honest} {
			n.graph.change(func() { n.graph.wanted[s.node.id], n.graph.wanted[s.honest.id] = true, true })
		}
		s.node.add(s.kept)
		s.hostile = newBlobPeer(t, bytesOf(1, size))
		s.node.WishBlob(s.hostile.id(), blob.Why{})
		do(s)
		s.peer = dialRaw(t, m, testKey(5), s.node.testNode, s.hostile.methods()...)
		pass(time.Second)
		s.node.hasNot(s.hostile.id())
		s.honest.add(s.hostile.b)
		theirs := bytesOf(50, 100_000)
		s.honest.add(theirs)
		s.node.connect(s.honest.testNode)
		s.node.WishBlob(idOf(theirs), blob.Why{})
		s.honest.WishBlob(idOf(s.kept), blob.Why{})
		s.node.publish(2)
		s.honest.publish(3)
		pass(5 * time.Second)
		s.honest.holds(s.node.id, 2)
		s.node.holds(s.honest.id, 3)
		s.node.has(theirs)
		s.honest.has(s.kept)
		pass(within)
		s.node.has(s.hostile.b)
		s.node.has(s.kept)
		s.node.tidy()
		for _, level := range []string{"WARN", "ERROR"} {
			if got := s.book.find("level=" + level); len(got) > 3 {
				t.Errorf("%d lines were logged: %q", len(got), got[:3])
			}
		}
	})
}

func TestHostileBlobs(t *testing.T) {
	inPieces := map[string]bool{"wrong bytes": true, "endless bytes": true, "a stall in the middle": true, "wrong bytes, and a stall": true, "300 bytes a second": true}
	for _, size := range []int{300_000, 3_000_000} {
		for _, c := range []struct {
			name   string
			within time.Duration
			give   func(s *blobSiege) giver
		}{
			{"wrong bytes", time.Minute, func(s *blobSiege) giver {
				return func(_ context.Context, r getRequest, stream *muxrpc.Stream) error {
					return stream.Send(muxrpc.Body{Data: bytesOf(77, int(r.end-r.start))})
				}
			}},
			{"one wrong byte", time.Minute, func(s *blobSiege) giver {
				wrong := bytes.Clone(s.hostile.b)
				wrong[len(wrong)/2] ^= 1
				return func(_ context.Context, r getRequest, stream *muxrpc.Stream) error {
					return stream.Send(muxrpc.Body{Data: wrong[r.start:r.end]})
				}
			}},
			{"endless bytes", time.Minute, func(s *blobSiege) giver {
				return func(_ context.Context, r getRequest, stream *muxrpc.Stream) error {
					for {
						if err := stream.Send(muxrpc.Body{Data: s.hostile.b[:blobChunk]}); err != nil {
							return err
						}
					}
				}
			}},
			{"endless frames of one byte", time.Minute, func(s *blobSiege) giver {
				return func(_ context.Context, r getRequest, stream *muxrpc.Stream) error {
					for {
						if err := stream.Send(muxrpc.Body{Data: []byte{7}}); err != nil {
							return err
						}
					}
				}
			}},
			{"too few bytes", time.Minute, func(s *blobSiege) giver {
				return func(_ context.Context, r getRequest, stream *muxrpc.Stream) error {
					return stream.Send(muxrpc.Body{Data: s.hostile.b[r.start : r.end-1]})
				}
			}},
			{"no bytes", time.Minute, func(s *blobSiege) giver {
				return func(context.Context, getRequest, *muxrpc.Stream) error { return nil }
			}},
			{"an error", time.Minute, func(s *blobSiege) giver {
				return func(context.Context, getRequest, *muxrpc.Stream) error { return errors.New("no source:blobs.getSlice") }
			}},
			{"JSON", time.Minute, func(s *blobSiege) giver {
				return func(_ context.Context, r getRequest, stream *muxrpc.Stream) error {
					return stream.SendJSON([]byte(`{"bytes":"yes"}`))
				}
			}},
			{"nothing", time.Minute, func(s *blobSiege) giver {
				return func(ctx context.Context, _ getRequest, _ *muxrpc.Stream) error {
					<-ctx.Done()
					return nil
				}
			}},
			{"a stall in the middle", time.Minute, func(s *blobSiege) giver {
				return func(ctx context.Context, r getRequest, stream *muxrpc.Stream) error {
					err := stream.Send(muxrpc.Body{Data: s.hostile.b[r.start : (r.start+r.end)/2]})
					<-ctx.Done()
					return err
				}
			}},
			{"wrong bytes, and a stall", 2 * time.Minute, func(s *blobSiege) giver {
				return func(ctx context.Context, r getRequest, stream *muxrpc.Stream) error {
					err := stream.Send(muxrpc.Body{Data: bytesOf(77, int(r.end-r.start)/2)})
					<-ctx.Done()
					return err
				}
			}},
			{"a byte a second", 3 * time.Minute, func(s *blobSiege) giver {
				return func(ctx context.Context, r getRequest, stream *muxrpc.Stream) error {
					for ctx.Err() == nil {
						if err := stream.Send(muxrpc.Body{Data: []byte{7}}); err != nil {
							return err
						}
						time.Sleep(time.Second)
					}
					return nil
				}
			}},
			{"300 bytes a second", 5 * time.Minute, func(s *blobSiege) giver {
				return func(ctx context.Context, r getRequest, stream *muxrpc.Stream) error {
					for at := r.start; ctx.Err() == nil && at+300 < r.end; at += 300 {
						if err := stream.Send(muxrpc.Body{Data: s.hostile.b[at : at+300]}); err != nil {
							return err
						}
						time.Sleep(time.Second)
					}
					return nil
				}
			}},
		} {
			if size > 1<<20 && !inPieces[c.name] {
				continue
			}
			t.Run(fmt.Sprint(c.name, ", ", size), func(t *testing.T) {
				besiegeBlobs(t, size, c.within, func(s *blobSiege) { s.hostile.give = c.give(s) })
			})
		}
	}
	for name, say := range map[string]string{"too large a size": "300001", "too small a size": "299999", "one byte": "1", "the largest size": "62914560",
		"a size beyond all": "1e300", "no number": `"x"`, "no size": "0"} {
		t.Run(name, func(t *testing.T) {
			besiegeBlobs(t, 300_000, time.Minute, func(s *blobSiege) {
				s.hostile.says = []string{fmt.Sprintf(`{"%s":%s}`, s.hostile.id(), say)}
				s.hostile.give = func(_ context.Context, r getRequest, stream *muxrpc.Stream) error {
					for at := r.start; at < r.end; at += blobChunk {
						if err := stream.Send(muxrpc.Body{Data: make([]byte, min(r.end-at, blobChunk))}); err != nil {
							return err
						}
					}
					return nil
				}
			})
		})
	}
}

// Of several at once who have it, one lies.
func TestHostileAmongSeveral(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		node := startBlobs(t, 1, 60<<20, nodeOptions{mem: m})
		b := bytesOf(1, 20<<20)
		id := idOf(b)
		for n := byte(2); n < 5; n++ {
			honest := startBlobs(t, n, 60<<20, nodeOptions{mem: m})
			honest.add(b)
			node.connect(honest.testNode)
		}
		liar := newBlobPeer(t, b)
		liar.give = func(_ context.Context, r getRequest, s *muxrpc.Stream) error {
			return s.Send(muxrpc.Body{Data: bytesOf(77, int(r.end-r.start))})
		}
		dialRaw(t, m, testKey(9), node.testNode, liar.methods()...)
		synctest.Wait()
		node.WishBlob(id, blob.Why{})
		liar.say(fmt.Sprintf(`{"%s":%d}`, id, len(b)))
		pass(2 * time.Minute)
		node.has(b)
		if len(liar.asked()) == 0 {
			t.Error("the liar was not asked")
		}
		node.tidy()
	})
}

// grown runs do and fails when the memory in use is more than most bytes larger afterwards.
func grown(t *testing.T, most int64, do func()) {
	t.Helper()
	use := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := use()
	do()
	if more := use() - before; more > most {
		t.Errorf("%d bytes more are in use", more)
	} else {
		t.Logf("%d bytes more are in use", more)
	}
}

// A million wants of blobs that nobody has, many peers' worth of haves that nobody asked for, and what is no list of wants.
func TestHostileWants(t *testing.T) {
	fake := func(n int) identity.BlobID { return identity.BlobID{byte(n), byte(n >> 8), byte(n >> 16), 5} }
	flood := func(count int, value string) (bodies []string) {
		var b []byte
		for i := range count {
			b = fmt.Appendf(b, `,"%s":%s`, fake(i), value)
			if i%20_000 == 19_999 || i == count-1 {
				b[0] = '{'
				bodies = append(bodies, string(b)+"}")
				b = b[:0]
			}
		}
		return bodies
	}
	for _, c := range []struct {
		name   string
		bodies []string
	}{
		{"a million wants", flood(1_000_000, "-1")},
		{"wants from afar", flood(40_000, "-9007199254740993")},
		{"very many haves", flood(200_000, "1000")},
		{"no object", []string{`[]`}},
		{"a deep body", []string{`{"a":` + string(bytes.Repeat([]byte{'['}, 60_000))}},
		{"very many entries", []string{"{" + string(bytes.Repeat([]byte(`"":1,`), 200_000)) + `"":1}`}},
		{"other kinds", []string{`{"../../secret":5,"../../secret":-1,"@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.ed25519":-1}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			besiegeBlobs(t, 300_000, time.Minute, func(s *blobSiege) {
				s.hostile.says = nil
				grown(s.t, 8<<20, func() {
					p := dialRaw(s.t, s.m, testKey(6), s.node.testNode, s.hostile.methods()...)
					for _, body := range c.bodies {
						s.hostile.say(body)
						synctest.Wait()
					}
					pass(time.Second)
					if !p.connected() {
						t.Log("the hostile peer was disconnected")
					}
				})
				if n := len(s.node.BlobWants()); n > 300 {
					t.Errorf("%d blobs are wanted", n)
				}
			})
		})
	}
}

// A want for every blob that the node holds, by a peer that does not read the answers, and then does.
func TestHostileWantsOfAllThatIsHeld(t *testing.T) {
	besiegeBlobs(t, 300_000, time.Minute, func(s *blobSiege) {
		s.hostile.says = nil
		const count = 1200 // more than wait for a peer that does not read
		var body []byte
		for i := range count {
			id := s.node.add(fmt.Appendf(nil, "blob %d", i))
			body = fmt.Appendf(body, `,"%s":-1`, id)
		}
		body[0] = '{'
		asker := newBlobPeer(s.t, nil)
		asker.says = []string{string(body) + "}"}
		p := dialRaw(s.t, s.m, testKey(6), s.node.testNode, asker.methods()...)
		stream, err := p.conn.Source(s.t.Context(), "blobs.createWants")
		if err != nil {
			s.t.Fatal(err)
		}
		synctest.Wait()
		p.valve.stop()
		pass(10 * time.Second)
		p.valve.read()
		got := follow(stream)
		pass(time.Second)
		answers := 0
		for _, b := range got.messages() {
			answers += bytes.Count(b, []byte(`":`)) - bytes.Count(b, []byte(`":-`))
		}
		if answers != count {
			s.t.Errorf("%d answers, want %d: %v", answers, count, got.ended())
		}
	})
}

// A peer that asks for everything at once and reads nothing takes a bounded amount of memory and few files, and nobody else
// waits.
func TestHostileGets(t *testing.T) {
	besiegeBlobs(t, 300_000, time.Minute, func(s *blobSiege) {
		s.hostile.says = nil
		id := s.node.add(bytesOf(5, 10<<20))
		p := dialRaw(s.t, s.m, testKey(6), s.node.testNode)
		grown(s.t, 16<<20, func() { // the peer's own buffers are among it
			for i := range 1000 {
				if _, err := p.conn.Source(s.t.Context(), []string{"blobs.get", "blobs.createWants", "blobs.changes"}[min(i/900, i%3)], id); err != nil {
					s.t.Fatal(err)
				}
			}
			p.valve.stop()
			pass(10 * time.Second)
		})
		// and one that reads is served
		q := dialRaw(s.t, s.m, testKey(7), s.node.testNode)
		stream, err := q.conn.Open(s.t.Context(), muxrpc.CallOptions{Kind: muxrpc.Source, Patient: true}, "blobs.get", id)
		if err != nil {
			s.t.Fatal(err)
		}
		got := follow(stream)
		pass(time.Second)
		n := 0
		for _, b := range got.messages() {
			n += len(b)
		}
		if n != 10<<20 {
			s.t.Errorf("%d bytes, %v", n, got.ended())
		}
		p.valve.read()
	})
}

// A peer that comes and goes in the middle of a blob, again and again.
func TestHostileComesAndGoes(t *testing.T) {
	besiegeBlobs(t, 300_000, time.Minute, func(s *blobSiege) {
		var gone atomic.Int64
		s.hostile.give = func(ctx context.Context, r getRequest, stream *muxrpc.Stream) error {
			err := stream.Send(muxrpc.Body{Data: s.hostile.b[:1000]})
			gone.Add(1)
			<-ctx.Done()
			return err
		}
		for i := range byte(20) {
			p := dialRaw(s.t, s.m, testKey(100+i), s.node.testNode, s.hostile.methods()...)
			pass(time.Second)
			p.conn.Close()
			pass(time.Second)
		}
		if gone.Load() < 20 {
			s.t.Errorf("asked %d times", gone.Load())
		}
	})
}
