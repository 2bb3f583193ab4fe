package replicate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"charkha/identity"
)

// siege is a node with an honest peer and a hostile one.
type siege struct {
	t             *testing.T
	m             *memNet
	node, honest  *testNode
	hostile       *rawPeer
	victim, other *author // of wanted feeds
	book          *book
}

// besiege runs a test in which the node must go on serving and hearing the honest peer, whatever the hostile one does.
func besiege(t *testing.T, do func(s *siege)) {
	t.Helper()
	bubble(t, func(t *testing.T, m *memNet) {
		s := &siege{t: t, m: m, victim: newAuthor(8), other: newAuthor(9), book: &book{}}
		wanted := append(ids(1, 2), s.victim.id(), s.other.id())
		s.node = startNode(t, 1, newGraph(wanted...), nodeOptions{mem: m, book: s.book})
		s.honest = startNode(t, 2, newGraph(wanted...), nodeOptions{mem: m})
		s.node.connect(s.honest)
		s.hostile = dialRaw(t, m, testKey(3), s.node)
		do(s)
		s.node.publish(2)
		s.honest.publish(3)
		pass(15 * time.Second)
		s.honest.holds(s.node.id, 2)
		s.node.holds(s.honest.id, 3)
	})
}

// refused checks that the refusal was told, with a reason, in few lines.
func (s *siege) refused(texts ...string) {
	s.t.Helper()
	synctest.Wait()
	if got := s.book.find(append(texts, "message refused", s.hostile.key.ID().String())...); len(got) == 0 {
		s.t.Errorf("no refusal with %q was told; told were %q", texts, s.book.find("WARN"))
	}
	if got := s.book.find("WARN"); len(got) > 10 {
		s.t.Errorf("%d lines were logged", len(got))
	}
}

// cut checks whether the hostile peer was disconnected.
func (s *siege) cut(want bool) {
	s.t.Helper()
	pass(time.Second) // for the goodbyes
	if got := !s.hostile.connected(); got != want {
		s.t.Errorf("the hostile peer was disconnected: %v, want %v", got, want)
	}
}

func TestHostileNotes(t *testing.T) {
	fake := func(n int) identity.ID { return identity.ID{byte(n), byte(n >> 8), byte(n >> 16), 7, 7} }
	t.Run("values that are no notes", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			values := []string{"-2", "-9007199254740992", "9007199254740992", "9007199254740993", "1e300", "1e400", "-1e400", "0.5", "1.5",
				"-0", "null", "true", `"4"`, "{}", "[]", "18446744073709551616", "2147483648", "4294967297"}
			for _, v := range values {
				e.send(fmt.Appendf(nil, `{"%s":%s}`, s.victim.id(), v))
			}
			pass(time.Minute)
			s.cut(false)
			// What it says in the end counts.
			e.note(s.victim.id(), 2, true)
			e.send(s.victim.posts(2)...)
			pass(time.Second)
			s.node.holds(s.victim.id(), 2)
			if got := s.book.find("message refused"); len(got) != 0 {
				t.Errorf("%q", got)
			}
		})
	})
	t.Run("what is not JSON", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			bad := []string{`{"a":NaN}`, `{`, `[]`, `7`, `"x"`, `null`, `{"a":1`, "\xff\xfe", strings.Repeat("[", 50000), `{"previous":null}`[:9]}
			for _, b := range bad {
				e.send([]byte(b))
			}
			s.refused("neither notes nor a message")
			s.cut(false)
			for range maxInvalid {
				e.send([]byte(`{"a":`))
			}
			s.refused("neither notes nor a message", "count=100")
			s.cut(true)
			if err := fmt.Sprint(e.err); !strings.Contains(err, "invalid messages") {
				t.Errorf("the peer was told %q", err)
			}
		})
	})
	t.Run("too many entries", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			b := []byte{'{'}
			for n := 0; len(b) < maxNotesBody-20; n++ {
				b = fmt.Appendf(b, `"%x":1,`, n)
			}
			e.send(append(b[:len(b)-1], '}'))
			s.refused("more than 100000 entries")
			s.cut(false)
		})
	})
	t.Run("a body beyond the limit", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			e.send(bytes.Repeat([]byte{' '}, maxNotesBody+1))
			s.cut(true)
			t.Log(e.err)
		})
	})
	t.Run("a giant clock of feeds that nobody wants", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			const feeds = 60000
			b := []byte{'{'}
			for n := range feeds {
				b = fmt.Appendf(b, `"%s":2,`, fake(n))
			}
			e.send(append(b[:len(b)-1], '}'))
			pass(time.Second)
			s.cut(false)
			answers := 0
			for _, note := range e.notes {
				if note == -1 {
					answers++
				}
			}
			t.Logf("%d of %d feeds were answered", answers, feeds)
			if answers < 30000 {
				t.Errorf("%d of %d feeds were answered", answers, feeds)
			}
			e.note(s.victim.id(), 1, true)
			e.send(s.victim.posts(1)...)
			pass(time.Second)
			s.node.holds(s.victim.id(), 1)
		})
	})
	t.Run("giant clocks of a peer that does not read", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			s.hostile.valve.stop()
			for round := range 4 {
				b := []byte{'{'}
				for n := range 20000 {
					b = fmt.Appendf(b, `"%s":2,`, fake(round*20000+n))
				}
				e.send(append(b[:len(b)-1], '}'))
			}
			pass(time.Minute)
		})
	})
	t.Run("claims that are not kept", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			e.note(s.victim.id(), 1<<29, true)
			pass(time.Second)
			if !e.asked(s.victim.id()) {
				t.Error("who has more was not asked")
			}
			s.honest.hold(s.victim.posts(5)...)
			pass(30 * time.Second)
			s.node.holds(s.victim.id(), 5)
		})
	})
}

func TestHostileMessages(t *testing.T) {
	// Whatever is sent, the honest peer's copy of the feed arrives.
	fetched := func(s *siege, raws [][]byte) {
		s.t.Helper()
		s.honest.hold(raws...)
		pass(time.Minute)
		s.node.holds(s.victim.id(), int64(len(raws)))
	}
	t.Run("of feeds that nobody wants", func(t *testing.T) {
		besiege(t, func(s *siege) {
			stranger := newAuthor(77)
			e := s.hostile.ebt()
			e.note(stranger.id(), 5, true)
			e.send(stranger.posts(5)...)
			pass(time.Second)
			s.node.holds(stranger.id(), 0)
			if n, ok := e.noted(stranger.id()); !ok || n != -1 {
				t.Errorf("the note about it is %d", n)
			}
			s.cut(false)
		})
	})
	t.Run("with a wrong signature", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			raws := s.victim.posts(3)
			e.note(s.victim.id(), 3, true)
			pass(time.Second)
			if !e.asked(s.victim.id()) {
				t.Fatal("not asked")
			}
			wrong := bytes.Replace(raws[0], []byte("message 0"), []byte("massage 0"), 1)
			e.send(wrong, raws[1], raws[2])
			pass(time.Second)
			s.refused("signature", s.victim.id().String(), "seq=1", "status=invalid")
			s.node.holds(s.victim.id(), 0)
			if e.asked(s.victim.id()) {
				t.Error("asked still")
			}
			// Whatever it sends of the feed from now on is dropped unseen.
			for range 3 * maxInvalid {
				e.send(wrong)
			}
			e.send(raws...)
			pass(time.Second)
			s.node.holds(s.victim.id(), 0)
			s.refused("signature")
			s.cut(false)
			fetched(s, raws)
		})
	})
	t.Run("a flood of invalid ones", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			raws := s.victim.posts(3)
			wrong := bytes.Replace(raws[0], []byte("message 0"), []byte("massage 0"), 1)
			flood := make([][]byte, 2000)
			for i := range flood {
				flood[i] = wrong
			}
			e.send(flood...)
			pass(time.Second)
			s.refused("signature")
			fetched(s, raws)
		})
	})
	t.Run("bigger than any message", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			raws := s.victim.posts(3)
			for range 3 {
				e.send(append(raws[2], bytes.Repeat([]byte{' '}, 1<<20)...))
			}
			s.refused("a message of 1048", "seq=3")
			fetched(s, raws)
		})
	})
	t.Run("forked", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			behind bool // the other branch is not longer than what is held
		}{{"beyond the head", false}, {"behind the head", true}} {
			t.Run(c.name, func(t *testing.T) {
				besiege(t, func(s *siege) {
					branch := *s.victim
					s.honest.hold(s.victim.posts(3)...)
					pass(time.Second)
					s.node.holds(s.victim.id(), 3)
					other := []byte(nil)
					for n := range 4 {
						raw := branch.message(fmt.Sprintf(`{"type":"post","text":"the other branch %d"}`, n))
						if n == 3 || c.behind && n == 1 {
							other = raw
							break
						}
					}
					e := s.hostile.ebt()
					e.note(s.victim.id(), branch.seq, true)
					e.send(other)
					pass(time.Second)
					s.refused("status=fork", s.victim.id().String())
					if fork, ok := s.node.log.Forked(s.victim.id()); !ok || !bytes.Equal(fork.Value, other) {
						t.Errorf("the evidence is %+v", fork)
					}
					s.node.holds(s.victim.id(), 3)
					s.cut(false)
					// Other feeds of the same peer are taken.
					e.note(s.other.id(), 2, true)
					e.send(s.other.posts(2)...)
					pass(time.Second)
					s.node.holds(s.other.id(), 2)
				})
			})
		}
	})
	t.Run("with a gap", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			raws := s.victim.posts(8)
			e.note(s.victim.id(), 8, true)
			e.send(raws[0], raws[1], raws[4])
			pass(time.Second)
			s.node.holds(s.victim.id(), 2)
			if n, _ := e.noted(s.victim.id()); n != 2<<1 {
				t.Errorf("after a gap behind 2 the note is %d", n)
			}
			s.cut(false)
			e.send(raws[2], raws[3])
			pass(time.Second)
			s.node.holds(s.victim.id(), 5)
			fetched(s, raws)
		})
	})
	t.Run("out of order", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			raws := s.victim.posts(50)
			e.note(s.victim.id(), 50, true)
			for i := len(raws) - 1; i >= 0; i-- {
				e.send(raws[i])
			}
			pass(time.Second)
			s.node.holds(s.victim.id(), 50)
		})
	})
	t.Run("early ones without end", func(t *testing.T) {
		besiege(t, func(s *siege) {
			e := s.hostile.ebt()
			raws := s.victim.posts(3)
			padding := bytes.Repeat([]byte{' '}, 60000)
			for n := range 300 {
				e.send(append(bytes.Replace(raws[2], []byte(`"sequence":3`), fmt.Appendf(nil, `"sequence":%d`, 10+n), 1), padding...))
			}
			s.cut(false)
			e.send(raws...)
			pass(time.Second)
			s.node.holds(s.victim.id(), 3)
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.bodies > 20 {
				t.Errorf("%d times something was said because of early messages", e.bodies)
			}
		})
	})
}

// A peer that stops reading has what is written to it wait here, within bounds; the others go on.
func TestPeerThatDoesNotRead(t *testing.T) {
	besiege(t, func(s *siege) {
		e := s.hostile.ebt()
		e.note(s.victim.id(), 0, true)
		s.hostile.valve.stop()
		for range 50 {
			s.hostile.history(`{"id":"%s","live":true}`, s.victim.id())
		}
		raws := s.victim.posts(1000)
		s.honest.hold(raws...)
		pass(time.Minute)
		s.node.holds(s.victim.id(), 1000)
		for _, p := range s.node.Peers() {
			if p.ID == s.hostile.key.ID() && p.Sent > 400 {
				t.Errorf("%d messages wait for a peer that does not read", p.Sent)
			}
		}
	})
}

func TestManyHistoryStreams(t *testing.T) {
	besiege(t, func(s *siege) {
		s.honest.hold(s.victim.posts(5)...)
		pass(time.Second)
		var streams []*rawHistory
		for range 1200 {
			streams = append(streams, s.hostile.history(`{"id":"%s","live":true}`, s.victim.id()))
		}
		open, refused := 0, 0
		for _, h := range streams {
			switch err := h.ended(); {
			case err == nil:
				open++
			case strings.Contains(err.Error(), "too many requests"):
				refused++
			default:
				t.Errorf("a stream ended with %v", err)
			}
		}
		if open != 1024 || refused != 176 {
			t.Errorf("%d streams are open and %d were refused", open, refused)
		}
		s.honest.hold(s.victim.posts(1)...)
		pass(time.Second)
		if got := len(streams[0].messages()); got != 6 {
			t.Errorf("%d of 6 messages came", got)
		}
	})
}

// disguise writes an author's message so that another name stands in it first. Of equal keys the last one counts.
func disguise(raw []byte, by, as *author) []byte {
	name := func(a *author) string { return fmt.Sprintf(`"author":"%s",`, a.id()) }
	raw = bytes.Replace(raw, []byte(name(by)), []byte(name(as)), 1)
	return bytes.Replace(raw, []byte(`"hash"`), []byte(name(by)+`"hash"`), 1)
}

// A message of a feed that nobody wants does not come in under the name of one that was asked for.
func TestHostileNames(t *testing.T) {
	besiege(t, func(s *siege) {
		stranger := newAuthor(40)
		e := s.hostile.ebt()
		e.note(s.victim.id(), 5, true)
		pass(time.Second)
		if !e.asked(s.victim.id()) {
			s.t.Fatal("the victim's feed was not asked for")
		}
		for _, raw := range stranger.posts(3) {
			e.send(disguise(raw, stranger, s.victim))
		}
		pass(5 * time.Second)
		s.node.holds(stranger.id(), 0)
		e.send(s.victim.posts(2)...)
		pass(5 * time.Second)
		s.node.holds(s.victim.id(), 2)
	})
}

// A peer without EBT that sends something else than what it was asked for.
func TestHostileHistory(t *testing.T) {
	for _, c := range []struct {
		name   string
		give   func(victim, other *author) [][]byte
		told   string
		holds  int64
		asking int // how often the feed is asked for in ten minutes
	}{
		{"another feed", func(victim, other *author) [][]byte { return other.posts(1) }, "sent in its place", 0, 1},
		{"another feed in an odd spelling", func(victim, other *author) [][]byte {
			return [][]byte{bytes.Replace(other.posts(1)[0], []byte(`"sequence":1,`), []byte(`"sequence":1.0,`), 1)}
		}, "sent in its place", 0, 1},
		{"another feed behind the name of this one", func(victim, other *author) [][]byte {
			return [][]byte{disguise(other.posts(1)[0], other, victim)}
		}, "sent in its place", 0, 1},
		{"a wrong signature", func(victim, other *author) [][]byte {
			raws := victim.posts(3)
			raws[1] = bytes.Replace(raws[1], []byte("message"), []byte("massage"), 1)
			return raws
		}, "signature", 1, 1},
		{"no messages", func(victim, other *author) [][]byte { return [][]byte{[]byte(`7`), []byte(`{"value":7}`)} }, "status=invalid", 0, 1},
		{"not JSON", func(victim, other *author) [][]byte { return [][]byte{[]byte(`{"key`)} }, "status=invalid", 0, 1},
		{"out of order", func(victim, other *author) [][]byte {
			raws := victim.posts(3)
			return [][]byte{raws[2], raws[0], raws[1]}
		}, "", 3, 20},
		{"with keys and a sync", func(victim, other *author) [][]byte {
			raws := victim.posts(2)
			for i, raw := range raws {
				raws[i] = fmt.Appendf(nil, `{"key":"x","value":%s,"timestamp":1}`, raw)
			}
			return append(raws, []byte(`{"sync":true}`))
		}, "", 2, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			besiege(t, func(s *siege) {
				h := newHistoryPeer(s.t, 4)
				h.give(s.victim.id(), c.give(s.victim, s.other)...)
				s.hostile = h.accept(s.m, s.node)
				pass(10 * time.Minute)
				s.node.holds(s.victim.id(), c.holds)
				s.node.holds(s.other.id(), 0)
				if c.told != "" {
					s.refused(c.told)
				} else if got := s.book.find("message refused"); len(got) != 0 {
					t.Errorf("%q", got)
				}
				if n := h.asked(s.victim.id()); n > c.asking {
					t.Errorf("asked %d times", n)
				}
				if s.hostile.connected() != true {
					t.Error("disconnected")
				}
			})
		})
	}
}

// All options of createHistoryStream, as npm ssb-db serves them.
func TestHistoryOptions(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		node := startNode(t, 1, newGraph(), nodeOptions{mem: m})
		p := dialRaw(t, m, testKey(2), node)
		for i, c := range []struct {
			args string
			want string // sequences; k: with keys, v: values, s: sync
			live string // what follows after two more messages; "-": it ended
			err  string
		}{
			{`{"id":"ID"}`, "k1 k2 k3 k4 k5", "-", ""},
			{`{"id":"ID","seq":3}`, "k3 k4 k5", "-", ""},
			{`{"id":"ID","sequence":4}`, "k4 k5", "-", ""},
			{`{"id":"ID","sequence":4,"seq":1}`, "k4 k5", "-", ""},
			{`{"id":"ID","seq":0}`, "k1 k2 k3 k4 k5", "-", ""},
			{`{"id":"ID","seq":-7}`, "k1 k2 k3 k4 k5", "-", ""},
			{`{"id":"ID","seq":2.5}`, "k3 k4 k5", "-", ""},
			{`{"id":"ID","seq":6}`, "", "-", ""},
			{`{"id":"ID","seq":1e300}`, "", "-", ""},
			{`{"id":"ID","seq":-1e300,"limit":1}`, "k1", "-", ""},
			{`{"id":"ID","limit":2}`, "k1 k2", "-", ""},
			{`{"id":"ID","limit":-1}`, "k1 k2 k3 k4 k5", "-", ""},
			{`{"id":"ID","limit":-1e300}`, "k1 k2 k3 k4 k5", "-", ""},
			{`{"id":"ID","limit":1e300}`, "k1 k2 k3 k4 k5", "-", ""},
			{`{"id":"ID","limit":0}`, "", "-", ""},
			{`{"id":"ID","keys":false}`, "v1 v2 v3 v4 v5", "-", ""},
			{`{"id":"ID","values":false}`, "k k k k k", "-", ""},
			{`{"id":"ID","reverse":true,"limit":2}`, "k5 k4", "-", ""},
			{`{"id":"ID","reverse":true,"seq":4}`, "k5 k4", "-", ""},
			{`{"id":"ID","live":true}`, "k1 k2 k3 k4 k5", "k6 k7", ""},
			{`{"id":"ID","live":true,"seq":5,"keys":false}`, "v5", "v6 v7", ""},
			{`{"id":"ID","live":true,"seq":7}`, "", "k7", ""},
			{`{"id":"ID","live":true,"limit":6}`, "k1 k2 k3 k4 k5", "k6 -", ""},
			{`{"id":"ID","live":true,"limit":2}`, "k1 k2", "-", ""},
			{`{"id":"ID","live":true,"old":false}`, "", "k6 k7", ""},
			{`{"id":"ID","old":false}`, "", "k6 k7", ""},
			{`{"id":"ID","live":true,"reverse":true}`, "k5 k4 k3 k2 k1", "k6 k7", ""},
			{`{"id":"ID","live":true,"sync":true,"seq":5}`, "k5 s", "k6 k7", ""},
			{`{"id":"ID","live":null,"seq":null,"limit":null,"keys":null,"other":[{}]}`, "k1 k2 k3 k4 k5", "-", ""},
			{`"ID"`, "k1 k2 k3 k4 k5", "-", ""},
			{`"ID",4`, "k4 k5", "-", ""},
			{`"ID",5,true`, "k5", "k6 k7", ""},
			{`{"id":"@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.ed25519"}`, "", "-", ""},
			{``, "", "-", "id is missing"},
			{`{}`, "", "-", "id is missing"},
			{`null`, "", "-", "id is missing"},
			{`{"id":null}`, "", "-", "id is missing"},
			{`{"id":7}`, "", "-", "createHistoryStream"},
			{`{"id":"nobody"}`, "", "-", "createHistoryStream"},
			{`{"id":"%AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"}`, "", "-", "createHistoryStream"},
			{`"nobody"`, "", "-", "createHistoryStream"},
			{`7`, "", "-", "createHistoryStream"},
			{`[["ID"]]`, "", "-", "createHistoryStream"},
			{`{"id":"ID","seq":"4"}`, "", "-", "createHistoryStream"},
			{`{"id":"ID","limit":{}}`, "", "-", "createHistoryStream"},
			{`{"id":"ID","live":1}`, "", "-", "createHistoryStream"},
			{`{"id":"ID","seq":1e400}`, "", "-", "createHistoryStream"},
		} {
			author := newAuthor(byte(100 + i))
			node.hold(author.posts(5)...)
			args := strings.ReplaceAll(c.args, "ID", author.id().String())
			stream, err := p.conn.Source(t.Context(), "createHistoryStream", rawArgs(args)...)
			if err != nil {
				t.Fatal(err)
			}
			h := follow(stream)
			old := h.messages()
			if got := names(t, old); got != c.want {
				t.Errorf("%s: got %q, want %q", c.args, got, c.want)
			}
			if c.err != "" {
				if err := h.ended(); err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%s: ended with %v, want %q", c.args, err, c.err)
				}
				continue
			}
			node.hold(author.posts(2)...)
			got := names(t, h.messages()[len(old):])
			if err := h.ended(); err == io.EOF {
				got = strings.TrimSpace(got + " -")
			} else if err != nil {
				t.Errorf("%s: ended with %v", c.args, err)
			}
			if got != c.live {
				t.Errorf("%s: after two more messages got %q, want %q", c.args, got, c.live)
			}
			_ = stream.Close()
		}
	})
}

func rawArgs(args string) (all []any) {
	var list []json.RawMessage
	if err := json.Unmarshal([]byte("["+args+"]"), &list); err != nil {
		panic(err)
	}
	for _, a := range list {
		all = append(all, a)
	}
	return all
}

// names tells messages apart: k is with a key, v without, s is {"sync":true}; behind it the sequence.
func names(t *testing.T, bodies [][]byte) string {
	var out []string
	for _, b := range bodies {
		var m struct {
			Key      string
			Sync     bool
			Sequence int64
			Value    struct{ Sequence int64 }
		}
		switch {
		case b[0] == '"':
			out = append(out, "k")
		case json.Unmarshal(b, &m) != nil:
			t.Errorf("not JSON: %s", b)
		case m.Sync:
			out = append(out, "s")
		case m.Key != "":
			out = append(out, fmt.Sprint("k", m.Value.Sequence))
		default:
			out = append(out, fmt.Sprint("v", m.Sequence))
		}
	}
	return strings.Join(out, " ")
}
