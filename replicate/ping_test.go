package replicate

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"charkha/muxrpc"
	"charkha/replicate/shs"
)

// A peer from which nothing comes is dropped, with a reason; one that answers anything at all stays.
func TestSilentPeer(t *testing.T) {
	t.Parallel()
	for _, reads := range []bool{false, true} {
		t.Run(fmt.Sprintf("reads %v", reads), func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				node := startNode(t, 1, newGraph(), nodeOptions{mem: m, book: &book{}})
				silent := newHost(t, m, 2)
				over := make(chan struct{})
				silent.talk = func(conn *shs.Conn) {
					go func() {
						<-over
						conn.Close()
					}()
					if !reads {
						<-over
					}
					_, _ = io.Copy(io.Discard, conn)
				}
				node.Offer(silent.addr, KindOther, "test")
				pass(quietMost + answerMost - time.Second)
				if p, _ := node.peer(silent.key.ID()); p.State != Connected {
					t.Fatalf("dropped too soon: %+v", p)
				}
				// The first ping, at the beginning, is waited for as well.
				pass(answerMost + 2*time.Second)
				p, _ := node.peer(silent.key.ID())
				if p.State == Connected && p.Since.Before(time.Now().Add(-time.Minute)) {
					t.Errorf("it is connected still: %+v", p)
				}
				if p.LastError != errSilent.Error() {
					t.Errorf("the reason is %q", p.LastError)
				}
				close(over)
			})
		})
	}
}

// A peer that falls silent after it talked is dropped as well.
func TestPeerFallsSilent(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		book := &book{}
		node := startNode(t, 1, newGraph(), nodeOptions{mem: m, book: book})
		p := dialRaw(t, m, testKey(2), node, pingMethod(func() []byte { return []byte("1") }))
		pass(10 * time.Minute)
		if !p.connected() {
			t.Fatal("dropped while it answered")
		}
		p.valve.stop()
		begun := time.Now()
		for p.connected() && time.Since(begun) < time.Hour {
			pass(time.Second)
			if _, ok := node.peer(p.key.ID()); !ok {
				break
			}
		}
		if took := time.Since(begun); took < quietMost || took > 2*quietMost+answerMost+2*time.Second {
			t.Errorf("it was dropped after %v", took)
		}
		if got := book.find("disconnected", "fell silent", p.key.ID().String()); len(got) != 1 {
			t.Errorf("told: %q", got)
		}
	})
}

// A peer that has nothing to say, and answers pings or that it knows none, stays, and is not bothered more than needed.
func TestQuietPeerStays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		methods []muxrpc.Method
	}{
		{"answers pings", []muxrpc.Method{pingMethod(func() []byte { return []byte("1e12") })}},
		{"knows no ping", nil},
		{"answers with garbage", []muxrpc.Method{pingMethod(func() []byte { return []byte(`{"a":[]}`) })}},
		{"answers with nothing", []muxrpc.Method{pingMethod(func() []byte { return []byte(`null`) })}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				node := startNode(t, 1, newGraph(), nodeOptions{mem: m, book: &book{}})
				quiet := newHost(t, m, 2, c.methods...)
				node.Offer(quiet.addr, KindOther, "test")
				guest := dialRaw(t, m, testKey(3), node, c.methods...)
				pass(20 * time.Minute)
				if all := quiet.all(); len(all) != 1 || !all[0].until.IsZero() || !guest.connected() {
					t.Errorf("%+v, guest connected: %v", all, guest.connected())
				}
				if p, _ := node.peer(quiet.key.ID()); p.BytesIn > 20*600 || p.BytesOut > 20*600 {
					t.Errorf("twenty idle minutes cost %d and %d bytes", p.BytesIn, p.BytesOut)
				}
			})
		})
	}
}

// pullPing is npm pull-ping, the remote's side: what it does when a number comes, and when its time is over.
type pullPing struct {
	mu     sync.Mutex
	stream *muxrpc.Stream
	serve  bool // it served and awaits our answer
	got    []string
	at     []time.Time
	sent   int
}

func (p *pullPing) ping() {
	p.mu.Lock()
	p.serve = true
	p.sent++
	p.mu.Unlock()
	_ = p.stream.SendJSON(fmt.Append(nil, time.Now().UnixMilli()))
}

// sink takes what comes until the stream ends.
func (p *pullPing) sink(timeout time.Duration) {
	var timer *time.Timer
	for {
		b, err := p.stream.Recv()
		if err != nil {
			if timer != nil {
				timer.Stop()
			}
			return
		}
		p.mu.Lock()
		p.got, p.at = append(p.got, string(b.Data)), append(p.at, time.Now())
		served := p.serve
		p.serve = false
		p.mu.Unlock()
		if served {
			continue
		}
		p.mu.Lock()
		p.sent++
		p.mu.Unlock()
		_ = p.stream.SendJSON(fmt.Append(nil, time.Now().UnixMilli()))
		timer = time.AfterFunc(timeout, p.ping)
	}
}

// The volley as JS peers play it: they serve, we answer; from then on each side serves in turn, some minutes after it answered.
func TestPingVolley(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"gossip.ping", "conn.ping"} {
		t.Run(method, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				node := startNode(t, 1, newGraph(), nodeOptions{mem: m})
				raw := dialRaw(t, m, testKey(2), node)
				stream, err := raw.conn.Duplex(t.Context(), method, map[string]any{"timeout": volleyEvery.Milliseconds()})
				if err != nil {
					t.Fatal(err)
				}
				p := &pullPing{stream: stream}
				begun := time.Now()
				go p.sink(volleyEvery)
				p.ping()
				pass(time.Hour + time.Second)
				p.mu.Lock()
				defer p.mu.Unlock()
				// One rally at the beginning and one every five minutes, each a number from either side.
				if len(p.got) != 13 || p.sent != 13 {
					t.Fatalf("got %d numbers, sent %d in an hour: %v", len(p.got), p.sent, p.at)
				}
				for i, text := range p.got {
					ms, err := strconv.ParseInt(text, 10, 64)
					if at := begun.Add(time.Duration(i) * volleyEvery); err != nil || !p.at[i].Equal(at) || ms != at.UnixMilli() {
						t.Errorf("number %d is %s at %v, %v", i, text, p.at[i], err)
					}
				}
				if err := stream.CloseSend(nil); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if _, err := stream.Recv(); err != io.EOF {
					t.Errorf("the stream ends with %v", err)
				}
			})
		})
	}
}

// What a remote does wrong with the volley costs it the stream at most.
func TestHostilePing(t *testing.T) {
	t.Parallel()
	open := func(s *siege) *muxrpc.Stream {
		s.t.Helper()
		stream, err := s.hostile.conn.Duplex(s.t.Context(), "gossip.ping", 7)
		if err != nil {
			s.t.Fatal(err)
		}
		return stream
	}
	t.Run("a flood", func(t *testing.T) {
		besiege(t, func(s *siege) {
			stream := open(s)
			answers := follow(stream)
			for range 20000 {
				if stream.SendJSON([]byte("1")) != nil {
					break
				}
			}
			pass(time.Minute)
			if got := len(answers.messages()); got > 20000 {
				t.Errorf("%d answers", got)
			}
			s.cut(false)
		})
	})
	t.Run("a flood that reads nothing", func(t *testing.T) {
		besiege(t, func(s *siege) {
			stream := open(s)
			s.hostile.valve.stop()
			go func() {
				for range 200000 {
					if stream.SendJSON([]byte("1")) != nil {
						break
					}
				}
			}()
			pass(time.Minute)
			if p, _ := s.node.peer(s.hostile.key.ID()); p.BytesOut > 1<<20 {
				t.Errorf("%d bytes were written to who reads nothing", p.BytesOut)
			}
			pass(5 * time.Minute)
			if p, ok := s.node.peer(s.hostile.key.ID()); ok {
				t.Errorf("who reads and says nothing any more is connected still: %+v", p)
			}
			s.hostile.valve.read()
		})
	})
	t.Run("garbage", func(t *testing.T) {
		besiege(t, func(s *siege) {
			stream := open(s)
			answers := follow(stream)
			sent := 0
			for _, b := range []string{`"x"`, `null`, `{}`, `[[[]]]`, `1e400`, `-1`, `{`, "\xff", strings.Repeat("[", 50000)} {
				if stream.SendJSON([]byte(b)) == nil {
					sent++
				}
				if stream.Send(muxrpc.Body{Type: muxrpc.Binary, Data: bytes.Repeat([]byte{0}, 100)}) == nil {
					sent++
				}
			}
			pass(time.Second)
			if got := len(answers.messages()); got != sent {
				t.Errorf("%d answers to %d numbers: %v", got, sent, answers.ended())
			}
			s.cut(false)
		})
	})
	t.Run("a thousand volleys", func(t *testing.T) {
		besiege(t, func(s *siege) {
			for range 1000 {
				if err := open(s).SendJSON([]byte("1")); err != nil {
					t.Fatal(err)
				}
			}
			pass(12 * time.Minute)
			s.cut(false)
		})
	})
}

// What a peer says of its clock is told within bounds, whatever it says; what it does not say is not told.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	now := func(ahead time.Duration) func() []byte {
		return func() []byte { return fmt.Append(nil, time.Now().Add(ahead).UnixMilli()) }
	}
	text := func(s string) func() []byte { return func() []byte { return []byte(s) } }
	const bound = maxSkew / 1e6
	for _, c := range []struct {
		name        string
		answer      func() []byte
		after       time.Duration // it takes so long to answer
		least, most int64         // ms
		unknown     bool
	}{
		{name: "right", answer: now(0)},
		{name: "slow", answer: now(-100 * time.Millisecond), after: 200 * time.Millisecond},
		{name: "three hours ahead", answer: now(3 * time.Hour), least: 3 * 3600e3, most: 3 * 3600e3},
		{name: "two days behind", answer: now(-48 * time.Hour), least: -48 * 3600e3, most: -48 * 3600e3},
		{name: "1e300", answer: text("1e300"), least: bound, most: bound},
		{name: "-1e300", answer: text("-1e300"), least: -bound, most: -bound},
		{name: "-1", answer: text("-1"), least: -bound, most: -1000},
		{name: "1e400", answer: text("1e400"), unknown: true},
		{name: "a text", answer: text(`"12"`), unknown: true},
		{name: "null", answer: text("null"), unknown: true},
		{name: "an object", answer: text(`{"now":1}`), unknown: true},
		{name: "nothing", answer: text(""), unknown: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				node := startNode(t, 1, newGraph(), nodeOptions{mem: m})
				peer := newHost(t, m, 2, pingMethod(func() []byte {
					time.Sleep(c.after)
					return c.answer()
				}))
				node.connectHost(peer)
				pass(3 * time.Minute)
				p, _ := node.peer(peer.key.ID())
				if p.State != Connected || p.Pinged == c.unknown {
					t.Fatalf("%+v", p)
				}
				if p.Skew < c.least || p.Skew > c.most || p.RTT != c.after.Milliseconds() && !c.unknown {
					t.Errorf("its clock is %d ms ahead, want %d to %d; it is %d ms away", p.Skew, c.least, c.most, p.RTT)
				}
			})
		})
	}
}
