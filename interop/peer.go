//go:build unix

package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"charkha/identity"
)

// The scripts of js/.
const (
	Server  = "server.js"  // npm ssb-server
	DB2     = "db2.js"     // secret-stack with ssb-db2
	Hostile = "hostile.js" // sends what it is told to
	Room    = "room.js"    // npm ssb-room
)

// Config says what peer to start. Script and NetworkKey are needed.
type Config struct {
	Script      string
	NetworkKey  [32]byte
	HMACKey     *[32]byte // not for DB2
	Dir         string    // where it keeps its data; a folder of the test's own when empty
	Seed        *[32]byte // of its identity; a new one when nil
	Host        string    // where it listens: 127.0.0.1 when empty; another only Within
	Port        int       // 0: any free one; LAN needs 8008
	Hops        int       // 0: two
	HistoryOnly bool      // replicates with createHistoryStream, without EBT
	Blobs       int64     // most bytes of a blob that is taken in; 0: that of the plugin, 5 MiB, and DB2 takes none
	Rooms       bool      // DB2: is a client of rooms
	Invites     bool      // Server: makes and takes invites
	Apps        bool      // Server: has the plugins that apps ask for
	Auto        bool      // DB2: dials whom it hears of, as apps do
	LAN         bool      // DB2, with ssb-lan, and Server, with ssb-local: find peers by themselves, and with a Host are found; only Within

	// Within runs what starts the peer there where it is to be, in a network of the test's own: Host.Do of package netns. nil: here.
	Within func(start func() error) error
}

// Peer is a running peer. Its methods end the test when they fail; Try does not. They may be called at the same time from
// the test's goroutine only, as testing.TB.FailNow wants it, but Try from any.
type Peer struct {
	ID      identity.ID
	Address identity.Address

	t      testing.TB
	config Config // with Dir and Port filled in
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	ended  chan struct{} // closed when the process is gone and all it said was read
	stderr tail

	mu      sync.Mutex
	next    int                  // last request number
	waiting map[int]chan<- reply // nil when the process has ended
}

type reply struct {
	Req     int             `json:"req"`
	Result  json.RawMessage `json:"result"`
	Error   string          `json:"error"`
	Ready   bool            `json:"ready"`
	ID      string          `json:"id"`
	Address string          `json:"address"`
}

// startTimeout and askTimeout are for machines that run all tests at once.
const (
	startTimeout = 60 * time.Second
	askTimeout   = 2 * time.Minute
)

// folder is the folder of the scripts.
func folder() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		panic("interop: internal error: no caller information")
	}
	return filepath.Join(filepath.Dir(file), "js")
}

// Start runs a peer until the test ends.
func Start(t testing.TB, c Config) *Peer {
	t.Helper()
	if _, err := os.Stat(filepath.Join(folder(), "node_modules")); err != nil {
		t.Fatal("the npm peers are not installed: run `make interop-peers` (npm ci)")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("the npm peers need node: %v", err)
	}
	if c.Dir == "" {
		c.Dir = filepath.Join(t.TempDir(), strings.TrimSuffix(c.Script, ".js"))
	}
	config := map[string]any{"dir": c.Dir, "shs": c.NetworkKey[:], "port": c.Port, "ebt": !c.HistoryOnly} // []byte is base64 in JSON
	if c.HMACKey != nil {
		config["sign"] = c.HMACKey[:]
	}
	if c.Seed != nil {
		config["seed"] = c.Seed[:]
	}
	if c.Hops != 0 {
		config["hops"] = c.Hops
	}
	if c.Blobs != 0 {
		config["blobs"] = c.Blobs
	}
	if c.Rooms {
		config["rooms"] = true
	}
	if c.Invites {
		config["invites"] = true
	}
	if c.Apps {
		config["apps"] = true
	}
	if c.Auto {
		config["auto"] = true
	}
	if c.LAN {
		config["lan"] = true
	}
	if c.Host != "" {
		config["host"] = c.Host
	}
	within := c.Within
	if config["apart"] = within != nil; within == nil {
		within = func(start func() error) error { return start() }
	}
	arg, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}

	p := &Peer{t: t, config: c, ended: make(chan struct{}), waiting: map[int]chan<- reply{}}
	p.cmd = exec.Command(node, filepath.Join(folder(), c.Script), string(arg))
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stderr = &p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := within(p.cmd.Start); err != nil {
		t.Fatal(err)
	}
	ready := make(chan reply, 1)
	go p.read(stdout, ready)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("what %s said:\n%s", c.Script, p.stderr.String())
		}
	})

	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case r := <-ready:
		if p.ID, err = identity.ParseID(r.ID); err == nil {
			p.Address, err = identity.ParseAddress(r.Address)
		}
		if err != nil {
			t.Fatalf("start %s: %v", c.Script, err)
		}
		p.config.Port = p.Address.Port
	case <-p.ended:
		t.Fatalf("start %s: it ended: %v", c.Script, p.cmd.ProcessState)
	case <-timer.C:
		t.Fatalf("start %s: not ready within %v", c.Script, startTimeout)
	}
	return p
}

// read hands each line to whoever waits for it, until the process has said all.
func (p *Peer) read(stdout io.Reader, ready chan<- reply) {
	in := bufio.NewReaderSize(stdout, 1<<20)
	for {
		line, err := in.ReadBytes('\n') // a whole feed is one line
		if err != nil {
			break
		}
		var r reply
		if err := json.Unmarshal(line, &r); err != nil {
			fmt.Fprintf(&p.stderr, "not a line of JSON on standard output: %.200q\n", line)
			continue
		}
		if r.Ready {
			ready <- r
			continue
		}
		p.mu.Lock()
		to, ok := p.waiting[r.Req]
		delete(p.waiting, r.Req)
		p.mu.Unlock()
		if ok {
			to <- r // has room for one
		}
	}
	_ = p.cmd.Wait() // how it ended is in ProcessState
	p.mu.Lock()
	p.waiting = nil
	p.mu.Unlock()
	close(p.ended)
}

// Try gives a command and puts its result into result, unless that is nil.
func (p *Peer) Try(result any, command string, args ...any) error {
	answer := make(chan reply, 1)
	p.mu.Lock()
	if p.waiting == nil {
		p.mu.Unlock()
		return fmt.Errorf("%s %s: it has ended", p.config.Script, command)
	}
	p.next++
	req := p.next
	p.waiting[req] = answer
	line, err := json.Marshal(map[string]any{"req": req, "cmd": command, "args": slices.Concat([]any{}, args)})
	if err == nil {
		_, err = p.stdin.Write(append(line, '\n'))
	}
	if err != nil {
		delete(p.waiting, req)
	}
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s %s: %w", p.config.Script, command, err)
	}

	timer := time.NewTimer(askTimeout)
	defer timer.Stop()
	var r reply
	select {
	case r = <-answer:
	case <-p.ended:
		select { // it may have answered before it ended
		case r = <-answer:
		default:
			return fmt.Errorf("%s %s: it ended: %v", p.config.Script, command, p.cmd.ProcessState)
		}
	case <-timer.C:
		return fmt.Errorf("%s %s: no answer within %v", p.config.Script, command, askTimeout)
	}
	if r.Error != "" {
		return fmt.Errorf("%s %s: %s", p.config.Script, command, r.Error)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return fmt.Errorf("%s %s: result %.200s: %w", p.config.Script, command, r.Result, err)
	}
	return nil
}

// Ask is Try that ends the test on an error.
func (p *Peer) Ask(result any, command string, args ...any) {
	p.t.Helper()
	if err := p.Try(result, command, args...); err != nil {
		p.t.Fatal(err)
	}
}

// Close lets the peer put down its data and end.
func (p *Peer) Close() {
	p.t.Helper()
	p.Ask(nil, "close")
	<-p.ended
}

// Kill ends the peer at once, with all processes it started.
func (p *Peer) Kill() {
	select {
	case <-p.ended: // its number may be somebody else's by now
	default:
		if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			p.t.Errorf("kill %s: %v", p.config.Script, err)
		}
		<-p.ended
	}
}

// Restart starts the peer again that was closed or killed, with its data and at its address.
func (p *Peer) Restart() *Peer {
	p.t.Helper()
	return Start(p.t, p.config)
}

// Message is one message of a feed. Value is what JSON.stringify makes of it, without white space.
type Message struct {
	Key   identity.MsgID
	Value json.RawMessage
}

// Publish writes a message of the peer's own.
func (p *Peer) Publish(content any) (key identity.MsgID) {
	p.t.Helper()
	p.Ask(&key, "publish", content)
	return key
}

// PublishMany writes n messages of mixed types, all that clients write and some odd ones, and returns the sequence of the
// last. The same seed gives the same contents, save for private ones.
func (p *Peer) PublishMany(n, seed int) (sequence int64) {
	p.t.Helper()
	p.Ask(&sequence, "publishMany", n, map[string]any{"seed": seed})
	return sequence
}

// Follow publishes that the peer follows id.
func (p *Peer) Follow(id identity.ID) {
	p.t.Helper()
	p.Ask(nil, "follow", id)
}

// Block publishes that the peer blocks id.
func (p *Peer) Block(id identity.ID) {
	p.t.Helper()
	p.Ask(nil, "block", id)
}

// Connect dials an address and returns when that peer is connected.
func (p *Peer) Connect(to identity.Address) {
	p.t.Helper()
	p.Ask(nil, "connect", to)
}

// Disconnect closes the connections to id.
func (p *Peer) Disconnect(id identity.ID) {
	p.t.Helper()
	p.Ask(nil, "disconnect", id)
}

// WaitPeer waits until id is, or is no longer, connected.
func (p *Peer) WaitPeer(id identity.ID, connected bool) {
	p.t.Helper()
	p.Ask(nil, "waitPeer", id, connected, time.Minute.Milliseconds())
}

// Latest is the sequence of the last message that the peer has of a feed, 0 for none.
func (p *Peer) Latest(id identity.ID) (sequence int64) {
	p.t.Helper()
	p.Ask(&sequence, "latest", id)
	return sequence
}

// WaitFeed waits until the peer has a message of a feed.
func (p *Peer) WaitFeed(id identity.ID, sequence int64, within time.Duration) {
	p.t.Helper()
	p.Ask(nil, "waitFeed", id, sequence, within.Milliseconds())
}

// Feed is all that the peer has of a feed, in order.
func (p *Peer) Feed(id identity.ID) (feed []Message) {
	p.t.Helper()
	p.Ask(&feed, "feed", id)
	return feed
}

// AddRaw gives the peer signed messages to keep, and returns what it has against each, "" for nothing.
func (p *Peer) AddRaw(values []json.RawMessage) []string {
	p.t.Helper()
	var errs []*string
	p.Ask(&errs, "addRaw", values)
	out := make([]string, len(errs))
	for i, e := range errs {
		if e != nil {
			out[i] = *e
		}
	}
	return out
}

// Verify has the reference validator check whole feeds, each from its first message on, and returns the ids.
func (p *Peer) Verify(values []json.RawMessage) (keys []identity.MsgID) {
	p.t.Helper()
	p.Ask(&keys, "verify", values)
	return keys
}

// Offer makes a hostile peer serve values as a feed, in that order, whatever they are.
func (p *Peer) Offer(feed identity.ID, values []json.RawMessage) {
	p.t.Helper()
	p.Ask(nil, "offer", feed, values)
}

// tail keeps the last of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte // under mu
}

func (w *tail) Write(b []byte) (int, error) {
	const most = 64 << 10
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, b...)
	if len(w.buf) > 2*most {
		w.buf = append(w.buf[:0], w.buf[len(w.buf)-most:]...)
	}
	return len(b), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.buf)
}
