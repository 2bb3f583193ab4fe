//go:build interop && unix

package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"charkha/identity"
	"charkha/internal/vectors"
	"charkha/muxrpc"
	"charkha/node"
)

// builtAt names, in the environment, the charkha command that TestMain built. It is built before the tests may be put into a
// network namespace, where the go command could fetch nothing.
const builtAt = "CHARKHA_INTEROP_BINARY"

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if os.Getenv(builtAt) == "" {
		dir, err := os.MkdirTemp("", "charkha-interop")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin := filepath.Join(dir, "charkha")
		cmd := exec.Command("go", "build", "-o", bin, "./cmd/charkha")
		cmd.Dir = vectors.Root()
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build charkha: %v\n%s", err, out)
			return 1
		}
		os.Setenv(builtAt, bin)
	}
	return runTests(m)
}

// Node is a running `charkha start`.
type Node struct {
	ID      identity.ID
	Address identity.Address

	t      *testing.T
	dir    string
	args   []string
	within func(start func() error) error // as of Config
	cmd    *exec.Cmd
	stderr tail
	ended  chan struct{}

	conn *muxrpc.Conn // of a local program
}

// startNode runs a node on loopback until the test ends. The address stays the same over Restart.
func startNode(t *testing.T, network [32]byte, args ...string) *Node {
	t.Helper()
	n := newNode(t, append([]string{"--network-key", base64.StdEncoding.EncodeToString(network[:]), "--no-lan"}, args...)...)
	n.start("net:127.0.0.1:0")
	return n
}

// newNode makes a node that is yet to be started, and ends with the test.
func newNode(t *testing.T, args ...string) *Node {
	t.Helper()
	n := &Node{
		t: t, dir: filepath.Join(t.TempDir(), "charkha"), args: args, ended: make(chan struct{}),
		within: func(start func() error) error { return start() },
	}
	close(n.ended)
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Logf("what charkha logged:\n%s", n.stderr.String())
		}
	})
	return n
}

// start starts the node. listen is where it listens, "" for where it does by itself.
func (n *Node) start(listen string) {
	n.t.Helper()
	// The port for WebSockets is the same for all.
	n.cmd = exec.Command(os.Getenv(builtAt), append([]string{"start", "--path", n.dir, "--ws", ""}, n.args...)...)
	if listen != "" {
		n.cmd.Args = append(n.cmd.Args, "--listen", listen)
	}
	n.cmd.Stderr = &n.stderr
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.within(n.cmd.Start); err != nil {
		n.t.Fatal(err)
	}
	sc := bufio.NewScanner(out)
	ready := false
	for !ready && err == nil && sc.Scan() {
		key, value, _ := strings.Cut(sc.Text(), " ")
		value = strings.TrimSpace(value)
		switch key {
		case "id":
			n.ID, err = identity.ParseID(value)
		case "address":
			n.Address, err = identity.ParseAddress(value)
		case "path":
			ready = true
		}
	}
	n.ended = make(chan struct{})
	go func() {
		io.Copy(io.Discard, out)
		n.cmd.Wait() // how it ended is in ProcessState
		close(n.ended)
	}()
	if !ready {
		n.kill()
		n.t.Fatalf("charkha did not start: %v\n%s", err, n.stderr.String())
	}
	sock, err := node.DialLocal(n.t.Context(), n.dir)
	if err != nil {
		n.t.Fatal(err)
	}
	n.conn = muxrpc.New(sock, muxrpc.Options{MaxBody: 64 << 20})
	go n.conn.Run(context.WithoutCancel(n.t.Context())) // ends with the connection
}

func (n *Node) kill() {
	select {
	case <-n.ended:
	default:
		n.cmd.Process.Kill()
		<-n.ended
	}
}

// stop interrupts the node, which must end well within two seconds.
func (n *Node) stop() {
	n.t.Helper()
	began := time.Now()
	if err := n.cmd.Process.Signal(os.Interrupt); err != nil {
		n.t.Fatal(err)
	}
	<-n.ended
	if took := time.Since(began); took > 2*time.Second || !n.cmd.ProcessState.Success() {
		n.t.Errorf("stopped after %v: %v", took, n.cmd.ProcessState)
	}
}

// restart starts the node again with its data and at its address.
func (n *Node) restart() {
	n.t.Helper()
	n.start(fmt.Sprintf("net:127.0.0.1:%d", n.Address.Port))
}

// call calls an async method.
func (n *Node) call(result any, method string, args ...any) {
	n.t.Helper()
	if err := n.try(result, method, args...); err != nil {
		n.t.Fatalf("%s: %v", method, err)
	}
}

func (n *Node) try(result any, method string, args ...any) error {
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	answer, err := n.conn.Async(ctx, method, args...)
	if err != nil || result == nil {
		return err
	}
	return json.Unmarshal(answer, result)
}

func (n *Node) publish(content any) identity.MsgID {
	n.t.Helper()
	var kvt struct{ Key identity.MsgID }
	n.call(&kvt, "publish", content)
	return kvt.Key
}

// publishMany publishes messages of the types that clients write, some with odd contents.
func (n *Node) publishMany(count int, seed uint64) {
	n.t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	var last identity.MsgID
	for i := range count {
		var content any
		switch i % 7 {
		case 0, 1:
			content = map[string]any{"type": "post", "text": fmt.Sprintf("post %d with <html> & ünïcode 🧶 \u2028 %s", i, strings.Repeat("x", rng.IntN(300))),
				"mentions": []any{map[string]any{"link": n.ID, "name": "me"}}}
		case 2:
			content = map[string]any{"type": "vote", "vote": map[string]any{"link": last, "value": 1, "expression": "Like"}}
		case 3:
			content = map[string]any{"type": "about", "about": n.ID, "name": fmt.Sprint("charkha ", i)}
		case 4:
			content = json.RawMessage(fmt.Sprintf(`{"type":"odd","n":[1.0,1e21,1e-7,-0,%d.5,{},[]],"10":1,"2":{"b":1,"a":2},"empty":""}`, i))
		case 5:
			content = map[string]any{"type": "channel", "channel": "interop", "subscribed": i%2 == 0}
		case 6:
			content = json.RawMessage(`"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(i)}, 99)) + `.box"`)
		}
		last = n.publish(content)
	}
}

func (n *Node) follow(id identity.ID) {
	n.t.Helper()
	n.call(nil, "friends.follow", id)
}

func (n *Node) connect(to identity.Address) {
	n.t.Helper()
	n.call(nil, "conn.connect", to.String())
}

func (n *Node) latest(id identity.ID) (seq int64) {
	n.t.Helper()
	clock := map[identity.ID]int64{}
	n.call(&clock, "getVectorClock")
	return clock[id]
}

// logs waits until the node has logged a text.
func (n *Node) logs(text string) {
	n.t.Helper()
	for until := time.Now().Add(time.Minute); !strings.Contains(n.stderr.String(), text); {
		if time.Now().After(until) {
			n.t.Fatalf("charkha does not log %q", text)
		}
		n.latest(n.ID) // passes the time
	}
}

func (n *Node) wait(id identity.ID, seq int64) {
	n.t.Helper()
	n.call(nil, "charkha.wait", map[string]any{"id": id, "seq": seq})
}

func (n *Node) feed(id identity.ID) (feed []Message) {
	n.t.Helper()
	s, err := n.conn.Open(n.t.Context(), muxrpc.CallOptions{Kind: muxrpc.Source, Patient: true}, "createUserStream", map[string]any{"id": id})
	if err != nil {
		n.t.Fatal(err)
	}
	for {
		body, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return feed
		}
		if err != nil {
			n.t.Fatal(err)
		}
		var m Message
		if err := json.Unmarshal(body.Data, &m); err != nil {
			n.t.Fatal(err)
		}
		feed = append(feed, m)
	}
}

// cli runs a command of the command line against the node.
func (n *Node) cli(args ...string) (string, error) {
	cmd := exec.Command(os.Getenv(builtAt), append([]string{"--path", n.dir}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// same checks that the node and a peer have the same feed, byte by byte, and that the reference validator finds it good.
func (n *Node) same(p *Peer, id identity.ID, length int64) {
	n.t.Helper()
	n.wait(id, length)
	p.WaitFeed(id, length, time.Minute)
	left, right := n.feed(id), p.Feed(id)
	if int64(len(left)) != length || int64(len(right)) != length {
		n.t.Fatalf("feed %s has %d messages in charkha and %d in the peer, want %d", id.Short(), len(left), len(right), length)
	}
	values := make([]json.RawMessage, len(left))
	for i := range left {
		if left[i].Key != right[i].Key || !bytes.Equal(left[i].Value, right[i].Value) {
			n.t.Fatalf("feed %s differs at %d:\n%s %s\n%s %s", id.Short(), i+1, left[i].Key, left[i].Value, right[i].Key, right[i].Value)
		}
		values[i] = left[i].Value
	}
	// Theirs: the reference validator over our copy. Ours: charkha verified each message when it took it in.
	for i, key := range p.Verify(values) {
		if key != left[i].Key {
			n.t.Errorf("feed %s, message %d: id %s, want %s", id.Short(), i+1, key, left[i].Key)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
