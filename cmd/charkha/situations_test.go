//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"charkha/identity"
	"charkha/internal/netns"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/replicate/shs"
)

// situation is a node and what is asked of it.
type situation struct {
	*testing.T
	dir  string
	id   identity.ID
	addr identity.Address
}

// situate starts a node on loopback.
func situate(t *testing.T, dir string, args ...string) *situation {
	t.Helper()
	s := &situation{T: t, dir: dir}
	node := command(dir, append([]string{"start", "--listen", "net:127.0.0.1:0", "--ws", ""}, args...)...)
	ready, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	node.Stderr = &stderr
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		node.Process.Kill()
		node.Wait()
	})
	head := make([]byte, 4096)
	n := 0
	for !strings.Contains(string(head[:n]), "path ") {
		more, err := ready.Read(head[n:])
		if n += more; err != nil {
			t.Fatalf("the node did not start: %v\n%s%s", err, head[:n], stderr.String())
		}
	}
	var st struct {
		ID        identity.ID
		Addresses []identity.Address
	}
	s.decode(&st, "status", "--json")
	s.id, s.addr = st.ID, st.Addresses[0]
	return s
}

// run gives what a command prints, errors too.
func (s *situation) run(args ...string) string {
	s.Helper()
	out, err := command(s.dir, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	return string(out)
}

func (s *situation) decode(into any, args ...string) {
	s.Helper()
	if text := s.run(args...); json.Unmarshal([]byte(text), into) != nil {
		s.Fatalf("%v: %s", args, text)
	}
}

// tells wants a command to print what matches, in the order given.
func (s *situation) tells(args []string, patterns ...string) {
	s.Helper()
	text := s.run(args...)
	if !matches(text, patterns) {
		s.Errorf("charkha %s prints\n%s\nwant %q", strings.Join(args, " "), text, patterns)
		return
	}
	s.Logf("charkha %s\n%s", strings.Join(args, " "), text)
}

func matches(text string, patterns []string) bool {
	for _, p := range patterns {
		at := regexp.MustCompile(p).FindStringIndex(text)
		if at == nil {
			return false
		}
		text = text[at[1]:]
	}
	return true
}

// comesToTell watches what a command prints until it matches.
func (s *situation) comesToTell(args []string, patterns ...string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "charkha", append(args, "--watch", "--path", s.dir)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var text []byte
	chunk := make([]byte, 64<<10)
	for {
		n, err := out.Read(chunk)
		text = append(text, chunk[:n]...)
		parts := strings.Split(string(text), "\n--- ")
		for _, part := range parts {
			if matches(part, patterns) {
				s.Logf("charkha %s\n%s", strings.Join(args, " "), part)
				return
			}
		}
		text = []byte(parts[len(parts)-1])
		if err != nil {
			s.Fatalf("charkha %s --watch: %v; the last was\n%s\nwant %q", strings.Join(args, " "), err, text, patterns)
		}
	}
}

func (s *situation) follow(feed identity.ID) {
	s.Helper()
	if out := s.run("follow", feed.String()); !strings.HasPrefix(out, "%") {
		s.Fatal(out)
	}
}

// visitor is a peer that is no Charkha, connected with the node.
func (s *situation) visitor(key identity.KeyPair, methods ...muxrpc.Method) *muxrpc.Conn {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	socket, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr.HostPort())
	if err != nil {
		s.Fatal(err)
	}
	conn, err := shs.Client(ctx, socket, shs.Config{Key: key, NetworkKey: shs.MainNetwork}, s.id)
	if err != nil {
		s.Fatal(err)
	}
	reg, err := muxrpc.NewRegistry(methods)
	if err != nil {
		s.Fatal(err)
	}
	c := muxrpc.New(conn, muxrpc.Options{Registry: reg, Anonymous: true})
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(context.Background()) }()
	s.Cleanup(func() { c.Close(); <-done })
	return c
}

// claim opens EBT as a visitor and says to have a feed, of which it sends nothing.
func (s *situation) claim(c *muxrpc.Conn, feed identity.ID, seq int64) {
	s.Helper()
	stream, err := c.Open(s.Context(), muxrpc.CallOptions{Kind: muxrpc.Duplex, Patient: true}, "ebt.replicate", map[string]any{"version": 3})
	if err != nil {
		s.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil { // the accepting side speaks first
		s.Fatal(err)
	}
	if err := stream.SendJSON(fmt.Appendf(nil, `{"%s":%d}`, feed, seq<<1)); err != nil {
		s.Fatal(err)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for {
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	}()
	s.Cleanup(func() { c.Close(); <-drained })
}

func stranger(n byte) identity.KeyPair { return identity.FromSeed([32]byte{n, 11}) }

// twoHistories are two messages of one feed with the same sequence.
func twoHistories(t *testing.T) (feed identity.ID, lines []byte) {
	t.Helper()
	key := stranger(50)
	for _, text := range []string{"one", "other"} {
		l, err := log.Open(log.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Confirm(key.ID()); err != nil {
			t.Fatal(err)
		}
		m, err := l.Publish(key, fmt.Appendf(nil, `{"type":"post","text":%q}`, text))
		if err != nil {
			t.Fatal(err)
		}
		lines = append(append(lines, bytes.ReplaceAll(m.Value(), []byte("\n"), []byte(" "))...), '\n')
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return key.ID(), lines
}

// hosts runs the tests where networks of hosts can be made, if that is allowed.
func hosts(m *testing.M) testscript.TestingM { return onHosts{m} }

type onHosts struct{ *testing.M }

func (m onHosts) Run() int { return netns.Main(m.M) }

// What the node says in the situations in which people ask why nothing arrives.
func TestSituations(t *testing.T) {
	t.Parallel()
	for name, situation := range map[string]func(t *testing.T){
		"blocked": func(t *testing.T) {
			s, who := situate(t, t.TempDir()), stranger(1).ID()
			s.run("block", who.String())
			s.tells([]string{"why", who.String()}, `(?m)^blocked +you block it`, `charkha follow @`, `(?m)^wanted +no`, `(?m)^blocked by +`+regexp.QuoteMeta(s.id.String()))
			s.tells([]string{"connect", "net:127.0.0.1:9~shs:" + who.String()[1:45]}, `is blocked; following it ends that`)
		},
		"out of range": func(t *testing.T) {
			s, who := situate(t, t.TempDir()), stranger(2).ID()
			s.tells([]string{"why", who.String()}, `(?m)^out of range +nobody within 1 hop follows it, so it is not fetched`, `charkha follow @`, `(?m)^wanted +no`)
			one := situate(t, t.TempDir(), "--hops", "1")
			one.tells([]string{"why", who.String()}, `(?m)^out of range +you do not follow it`)
		},
		"nobody has it": func(t *testing.T) {
			s, who := situate(t, t.TempDir()), stranger(3).ID()
			s.follow(who)
			s.tells([]string{"why", who.String()}, `(?m)^no peers +it is wanted, and no peer is connected`, `no peer is known: 'charkha connect ADDR'`)
			other := situate(t, t.TempDir())
			other.follow(who) // and so speaks of it
			other.tells([]string{"connect", s.addr.String()}, `^connected to`)
			s.comesToTell([]string{"why", who.String()}, `(?m)^nobody +it is wanted, and nobody has it: none of the 1 peer`, `(?m)^wanted +yes, 1 hop away`, `(?m)^held here +0 messages`)
		},
		"peer stalled": func(t *testing.T) {
			s, who := situate(t, t.TempDir()), stranger(4).ID()
			s.follow(who)
			s.claim(s.visitor(stranger(40)), who, 100)
			peer := regexp.QuoteMeta(stranger(40).ID().String())
			s.comesToTell([]string{"why", who.String()}, `(?m)^arriving +`+peer+` says to have 100 messages more, and was asked`)
			s.tells([]string{"status"}, `(?m)^progress +0 %: 100 messages missing of 1 feed; .*nothing arrives at the moment`)
			s.comesToTell([]string{"why", who.String()}, `(?m)^stalled +`+peer+` says to have 100 messages more and did not send any when asked`,
				`(?m)^peers +`+peer+`: says to have 100 messages; it was asked for more, and sent nothing`)
			s.tells([]string{"peers"}, peer, `1 feed +.*it says to have more of 1 feed and does not send it`)
		},
		"forked": func(t *testing.T) {
			s := situate(t, t.TempDir())
			who, lines := twoHistories(t)
			file := filepath.Join(t.TempDir(), "fork.jsonl")
			if err := os.WriteFile(file, lines, 0o600); err != nil {
				t.Fatal(err)
			}
			s.follow(who)
			s.tells([]string{"import", file}, `(?m)^stored 1$`, `(?m)^fork 1$`)
			s.tells([]string{"why", who.String()}, `(?m)^forked +its author signed two different histories: at 1 there are %.* and %`, `only its author can help`)
			s.tells([]string{"status"}, `(?m)^FORKED +`+regexp.QuoteMeta(who.String()))
		},
		"wrong network key": func(t *testing.T) {
			s := situate(t, t.TempDir())
			other := situate(t, t.TempDir(), "--network-key", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=", "--connect", s.addr.String())
			other.tells([]string{"connect", s.addr.String()}, `network`)
			other.comesToTell([]string{"peers"}, regexp.QuoteMeta(s.id.String()), `other +waiting`, `most likely it has another network key`)
		},
		"clock skew": func(t *testing.T) {
			s := situate(t, t.TempDir())
			ahead := muxrpc.Method{Name: "gossip.ping", Kind: muxrpc.Duplex, Anonymous: true, Stream: func(_ context.Context, _ *muxrpc.Request, stream *muxrpc.Stream) error {
				for {
					if _, err := stream.Recv(); err != nil {
						return nil // the node hung up
					}
					if err := stream.SendJSON(fmt.Appendf(nil, "%d", time.Now().Add(3*time.Hour).UnixMilli())); err != nil {
						return err
					}
				}
			}}
			s.visitor(stranger(60), ahead)
			s.comesToTell([]string{"peers"}, regexp.QuoteMeta(stranger(60).ID().String()), `its clock is 3 hours ahead of ours`)
			// One clock may be wrong itself; three that agree are right.
			s.visitor(stranger(61), ahead)
			s.visitor(stranger(62), ahead)
			s.comesToTell([]string{"status"}, `(?m)^WARNING +this computer's clock is probably wrong: those of 3 of 3 peers are .* ahead of ours`)
		},
		"no LAN interface": func(t *testing.T) {
			host, dir := netns.NewBridge(t).Host(""), t.TempDir()
			if _, err := host.Start(command(dir, "start", "--listen", "net:0.0.0.0:8008")); err != nil {
				t.Fatal(err)
			}
			s := &situation{T: t, dir: dir}
			awaitNode(t, dir)
			s.comesToTell([]string{"doctor", "lan"}, `(?m)^PROBLEM +no interface is up but loopback`, `(?m)^lo +not used: loopback`)
			off := situate(t, t.TempDir())
			off.tells([]string{"doctor", "lan"}, `(?m)^PROBLEM +the node listens on loopback only`)
			no := situate(t, t.TempDir(), "--no-lan")
			no.tells([]string{"doctor", "lan"}, `(?m)^PROBLEM +switched off: the node was started with --no-lan`)
		},
		"room offline": func(t *testing.T) {
			room, who := stranger(7).ID(), stranger(8).ID()
			key := func(id identity.ID) string { return id.String()[1:45] }
			s := situate(t, t.TempDir(), "--connect", "net:127.0.0.1:"+freePorts(t, 1)[0]+"~shs:"+key(room),
				"--connect", fmt.Sprintf("tunnel:%s:%s~shs:%s", room, who, key(who)))
			s.follow(who)
			s.comesToTell([]string{"peers"}, regexp.QuoteMeta(room.String()), `waiting`, `connection refused`)
			s.comesToTell([]string{"why", who.String()}, `(?m)^no peers +it is wanted`, `Its author would be reached through a room .*not connected with the room @`+"[^ ]*ed25519")
			s.tells([]string{"rooms"}, `in no room`, `'charkha peers' says why`)
		},
		"own feed not confirmed": func(t *testing.T) {
			first := t.TempDir()
			was := situate(t, first)
			dir := t.TempDir()
			secret, err := os.ReadFile(filepath.Join(first, "secret"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "secret"), secret, 0o600); err != nil {
				t.Fatal(err)
			}
			s := situate(t, dir)
			if s.id != was.id {
				t.Fatal("another identity")
			}
			s.tells([]string{"why", s.id.String()}, `(?m)^unconfirmed +this is the node's own feed, restored from its key: publishing is closed`, `--new-feed`)
			s.tells([]string{"status"}, `(?m)^WARNING +publishing waits until this feed was fetched`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			situation(t)
		})
	}
}

// awaitNode waits until a node answers.
func awaitNode(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for command(dir, "whoami").Run() != nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal("the node did not start")
		}
	}
}

func TestHeldBy(t *testing.T) {
	t.Parallel()
	a, b := situate(t, t.TempDir()), situate(t, t.TempDir())
	a.follow(b.id)
	b.follow(a.id)
	b.tells([]string{"connect", a.addr.String()}, `^connected to`)
	a.comesToTell([]string{"peers"}, regexp.QuoteMeta(b.id.String()))
	a.tells([]string{"post", "--wait", "1", "--timeout", "50s", "hello"}, `^%.*\.sha256\nheld by 1 peer\n  `+regexp.QuoteMeta(b.id.String())+`\n$`)
	a.tells([]string{"post", "--wait", "2", "--timeout", "1s", "hello"}, `^%`, `held by [01] peers? within 1s, not by 2: the post is published`, `charkha held-by %`)
	a.tells([]string{"post", "--wait", "-1", "hello"}, `--wait -1: must not be negative`)
	a.tells([]string{"post", "--timeout", "1s", "hello"}, `--timeout is for --wait`)
	a.tells([]string{"held-by", "%AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=.sha256"}, `is not held here, so it is not known`)
	a.tells([]string{"held-by"}, `MSGID is missing`)
}
