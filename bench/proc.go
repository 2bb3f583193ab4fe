package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
	"charkha/node"
)

// network is the key of a network that only measurements use.
var network = base64.StdEncoding.EncodeToString([]byte("charkha measures; nobody is here"))

// process is a node under measurement.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	log   *os.File
}

func (p *process) start(cmd *exec.Cmd, logFile string) (stdout io.ReadCloser, err error) {
	p.cmd, p.ended = cmd, make(chan struct{})
	if err := os.MkdirAll(filepath.Dir(logFile), 0o755); err != nil {
		return nil, err
	}
	if p.log, err = os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return nil, err
	}
	cmd.Stderr = p.log
	if stdout, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return stdout, cmd.Start()
}

func (p *process) reap() {
	p.cmd.Wait() // how it ended is in ProcessState
	p.log.Close()
	close(p.ended)
}

// stop interrupts the process and waits for its end.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not stop", p.cmd.Path)
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("%s: %v, see %s", p.cmd.Path, p.cmd.ProcessState, p.log.Name())
	}
	return nil
}

// memory returns a process's anonymous and file-backed memory in MB.
func (p *process) memory() (anon, file float64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(status)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "RssAnon: %f", &kb); err == nil {
			anon = kb / 1024
		}
		if _, err := fmt.Sscanf(line, "RssFile: %f", &kb); err == nil {
			file = kb / 1024
		}
	}
	return anon, file
}

// cpu is the processor time that the process has used.
func (p *process) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

// watch samples the anonymous memory until the function that it returns is called, which gives the most that was seen.
func (p *process) watch() (peak func() float64) {
	stop, done, most := make(chan struct{}), make(chan struct{}), 0.0
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			anon, _ := p.memory()
			most = max(most, anon)
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func() float64 { close(stop); <-done; return most }
}

// charkha is a running `charkha start`.
type charkha struct {
	process
	dir     string
	bin     string
	id      identity.ID
	address string
	conn    *muxrpc.Conn
	ready   time.Duration // from the start of the process to its first answer
}

// startCharkha starts a node; args are more flags.
func startCharkha(bin, dir string, args ...string) (*charkha, error) {
	c := &charkha{dir: dir, bin: bin}
	began := time.Now()
	args = append([]string{"start", "--path", dir, "--listen", "net:127.0.0.1:0", "--network-key", network, "--no-lan", "--hops", "1"}, args...)
	out, err := c.start(exec.Command(bin, args...), dir+".log")
	if err != nil {
		return nil, err
	}
	sc := bufio.NewScanner(out)
	ready := false
	for !ready && sc.Scan() {
		key, value, _ := strings.Cut(sc.Text(), " ")
		switch value = strings.TrimSpace(value); key {
		case "address":
			c.address = value
		case "path":
			ready = true
		}
	}
	go func() {
		io.Copy(io.Discard, out)
		c.reap()
	}()
	if !ready {
		return nil, fmt.Errorf("charkha did not start, see %s.log", dir)
	}
	sock, err := node.DialLocal(context.Background(), dir)
	if err != nil {
		return nil, err
	}
	c.conn = muxrpc.New(sock, muxrpc.Options{MaxBody: 64 << 20})
	go c.conn.Run(context.Background()) // until the node ends
	var me struct{ ID identity.ID }
	if err := c.call(&me, "whoami"); err != nil {
		return nil, err
	}
	c.ready, c.id = time.Since(began), me.ID
	return c, nil
}

func (c *charkha) call(result any, method string, args ...any) error {
	answer, err := c.conn.Async(context.Background(), method, args...)
	if err == nil && result != nil {
		err = json.Unmarshal(answer, result)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

func (c *charkha) load(file string) error {
	out, err := exec.Command(c.bin, "--path", c.dir, "import", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("import: %w: %s", err, out)
	}
	return nil
}

func (c *charkha) request(ids []identity.ID) error {
	for _, id := range ids {
		if err := c.call(nil, "friends.follow", id); err != nil {
			return err
		}
	}
	return nil
}

func (c *charkha) connect(address string) error { return c.call(nil, "conn.connect", address) }

type status struct {
	Messages  int64
	Unindexed int64
	Own       struct{ Sequence int64 }
}

func (c *charkha) count() (int64, error) {
	var st status
	err := c.call(&st, "charkha.status")
	return st.Messages - st.Own.Sequence, err
}

// take waits until n messages of others are held.
func (c *charkha) take(n int64) error {
	for {
		have, err := c.count()
		if err != nil || have >= n {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// settled waits until the index has read the log.
func (c *charkha) settled() error {
	for {
		var st status
		if err := c.call(&st, "charkha.status"); err != nil || st.Unindexed == 0 {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// peer is a running JS peer that answers a JSON line to each.
type peer struct {
	process
	id      identity.ID
	address string

	mu   sync.Mutex
	in   io.WriteCloser
	next int
	wait map[int]chan answer
}

type answer struct {
	Req    int
	Result json.RawMessage
	Error  string
}

func startPeer(root, dir string) (*peer, error) {
	return startRival(root, "db2.js", map[string]any{"dir": dir})
}

// startRival starts a script of bench/js; of its config dir is needed.
func startRival(root, script string, config map[string]any) (*peer, error) {
	dir := config["dir"].(string)
	config["shs"] = network
	arg, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("node", "--max-old-space-size=8192", filepath.Join(root, "bench/js", script), string(arg))
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(root, "interop/js/node_modules"))
	p := &peer{wait: map[int]chan answer{}}
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.start(cmd, dir+".log")
	if err != nil {
		return nil, err
	}
	lines := bufio.NewReader(out)
	var ready struct {
		Ready   bool
		ID      identity.ID
		Address string
	}
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil || !ready.Ready {
		return nil, fmt.Errorf("the JS peer did not start, see %s.log: %w", dir, err)
	}
	p.id, p.address = ready.ID, ready.Address
	go func() {
		defer p.reap()
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				break
			}
			var a answer
			if json.Unmarshal(line, &a) != nil {
				continue
			}
			p.mu.Lock()
			if w := p.wait[a.Req]; w != nil {
				w <- a
			}
			delete(p.wait, a.Req)
			p.mu.Unlock()
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, w := range p.wait {
			w <- answer{Error: "the JS peer ended"}
		}
	}()
	return p, nil
}

func (p *peer) call(result any, cmd string, args ...any) error {
	w := make(chan answer, 1)
	p.mu.Lock()
	p.next++
	req := p.next
	p.wait[req] = w
	line, err := json.Marshal(map[string]any{"req": req, "cmd": cmd, "args": args})
	if err == nil {
		_, err = p.in.Write(append(line, '\n'))
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	a := <-w
	if a.Error != "" {
		return fmt.Errorf("%s: %s", cmd, a.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(a.Result, result)
}

func (p *peer) load(file string) error          { return p.call(nil, "load", file) }
func (p *peer) request(ids []identity.ID) error { return p.call(nil, "request", ids) }
func (p *peer) connect(address string) error    { return p.call(nil, "connect", address) }
func (p *peer) take(n int64) error              { return p.call(nil, "take", n) }

// stop ends the peer by the end of its stdin.
func (p *peer) stop() error {
	p.in.Close()
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.cmd.Process.Kill()
		<-p.ended
	}
	return nil
}

func diskSize(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if st, err := d.Info(); err == nil {
				n += allocated(st)
			}
		}
		return nil
	})
	return n
}
