package replicate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/replicate/shs"
)

// memNet is a network in memory, for tests inside a synctest bubble: there, time passes when nobody has anything to do, and
// synctest.Wait returns when everything that was sent has arrived and was dealt with.
type memNet struct {
	mu sync.Mutex
	at map[string]*memListener
	// faults, by host:port, are what dialling meets instead of a listener.
	faults map[string]func(ctx context.Context) (net.Conn, error)
	dials  map[string][]time.Time
}

func newMemNet() *memNet {
	return &memNet{
		at: map[string]*memListener{}, faults: map[string]func(context.Context) (net.Conn, error){}, dials: map[string][]time.Time{},
	}
}

var errNobody = errors.New("connection refused")

func (m *memNet) dial(ctx context.Context, hostport string) (net.Conn, error) {
	m.mu.Lock()
	l, fault := m.at[hostport], m.faults[hostport]
	m.dials[hostport] = append(m.dials[hostport], time.Now())
	m.mu.Unlock()
	if fault != nil {
		return fault(ctx)
	}
	if l == nil {
		return nil, errNobody
	}
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, errNobody
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (m *memNet) fault(hostport string, f func(context.Context) (net.Conn, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults[hostport] = f
}

func (m *memNet) dialled(hostport string) []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]time.Time(nil), m.dials[hostport]...)
}

// forget drops what was taken down.
func (m *memNet) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.dials)
}

func (m *memNet) listen(hostport string) *memListener {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := &memListener{m: m, name: hostport, conns: make(chan net.Conn), closed: make(chan struct{})}
	m.at[hostport] = l
	return l
}

// memListener implements net.Listener and its own net.Addr.
type memListener struct {
	m      *memNet
	name   string
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		if l.m.at[l.name] == l {
			delete(l.m.at, l.name)
		}
	})
	return nil
}

func (l *memListener) Addr() net.Addr  { return l }
func (l *memListener) Network() string { return "mem" }
func (l *memListener) String() string  { return l.name }

// bubble runs a test in a synctest bubble. It fails when a goroutine is left at the end.
func bubble(t *testing.T, do func(t *testing.T, m *memNet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { do(t, newMemNet()) })
}

// pass lets time pass, and then everything that it set off.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// head is the sequence that a node holds a feed up to.
func (n *testNode) head(feed identity.ID) int64 {
	h, _ := n.log.Head(feed)
	return h.Sequence
}

// holds checks that a node holds a feed up to a sequence.
func (n *testNode) holds(feed identity.ID, seq int64) {
	n.t.Helper()
	if got := n.head(feed); got != seq {
		n.t.Errorf("%s holds %d messages of %s, want %d", n.id.Short(), got, feed.Short(), seq)
	}
}

// hold appends messages to a node's log as if they had come from somewhere.
func (n *testNode) hold(raws ...[]byte) {
	n.t.Helper()
	results, err := n.log.Append(raws)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, r := range results {
		if r.Err != nil {
			n.t.Fatal(r.Err)
		}
	}
}

// block makes the node's graph say that an author blocks a peer, or no longer.
func (n *testNode) block(author, peer identity.ID, blocks bool) {
	n.graph.change(func() { n.graph.blocks[[2]identity.ID{author, peer}] = blocks })
}

// author signs messages without any log.
type author struct {
	key      identity.KeyPair
	previous string
	seq      int64
}

func newAuthor(n byte) *author { return &author{key: testKey(n), previous: "null"} }

func (a *author) id() identity.ID { return a.key.ID() }

// message signs content as the next message.
func (a *author) message(content string) []byte {
	a.seq++
	raw, id := sign(a.key, a.previous, strconv.FormatInt(a.seq, 10), content)
	a.previous = strconv.Quote(id.String())
	return raw
}

// posts signs n posts.
func (a *author) posts(n int) (raws [][]byte) {
	for i := range n {
		raws = append(raws, a.message(fmt.Sprintf(`{"type":"post","text":"message %d"}`, i)))
	}
	return raws
}

// contact signs a contact message.
func (a *author) contact(whom identity.ID, blocking bool) []byte {
	return a.message(fmt.Sprintf(`{"type":"contact","contact":"%s","blocking":%v}`, whom, blocking))
}

// sign makes a message of ASCII content.
func sign(key identity.KeyPair, previous, sequence, content string) (raw []byte, id identity.MsgID) {
	compact := fmt.Sprintf(`{"previous":%s,"author":"%s","sequence":%s,"timestamp":1500000000000,"hash":"sha256","content":%s`,
		previous, key.ID(), sequence, content)
	pretty := func(compact string) []byte {
		var out bytes.Buffer
		if err := json.Indent(&out, []byte(compact), "", "  "); err != nil {
			panic(err)
		}
		return out.Bytes()
	}
	sig := key.Sign(pretty(compact + "}"))
	compact += `,"signature":"` + base64.StdEncoding.EncodeToString(sig[:]) + `.sig.ed25519"}`
	return []byte(compact), sha256.Sum256(pretty(compact))
}

// rawPeer is a peer of which the test says every word.
type rawPeer struct {
	t    *testing.T
	key  identity.KeyPair
	conn *muxrpc.Conn
	// valve stops the reading of the connection, as if the peer hung.
	valve *valve
	done  chan error
}

type valve struct {
	net.Conn
	mu   sync.Mutex
	open chan struct{} // closed while it is open
}

func newValve(conn net.Conn) *valve {
	v := &valve{Conn: conn}
	v.read()
	return v
}

func (v *valve) Read(b []byte) (int, error) {
	n, err := v.Conn.Read(b)
	v.mu.Lock()
	open := v.open
	v.mu.Unlock()
	<-open
	return n, err
}

// stop lets one more packet through at most.
func (v *valve) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open = make(chan struct{})
}

func (v *valve) read() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open == nil {
		v.open = make(chan struct{})
	}
	select {
	case <-v.open:
	default:
		close(v.open)
	}
}

// dialRaw connects to a node as key, serving methods.
func dialRaw(t *testing.T, m *memNet, key identity.KeyPair, to *testNode, methods ...muxrpc.Method) *rawPeer {
	t.Helper()
	p, err := tryRaw(t, m, key, to, methods...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryRaw(t *testing.T, m *memNet, key identity.KeyPair, to *testNode, methods ...muxrpc.Method) (*rawPeer, error) {
	t.Helper()
	socket, err := m.dial(t.Context(), to.addr.HostPort())
	if err != nil {
		return nil, err
	}
	conn, err := shs.Client(t.Context(), socket, shs.Config{Key: key, NetworkKey: testNetwork}, to.id)
	if err != nil {
		return nil, err
	}
	return runRaw(t, key, conn, methods...), nil
}

func runRaw(t *testing.T, key identity.KeyPair, conn net.Conn, methods ...muxrpc.Method) *rawPeer {
	r, err := muxrpc.NewRegistry(methods)
	if err != nil {
		t.Fatal(err)
	}
	v := newValve(conn)
	p := &rawPeer{t: t, key: key, conn: muxrpc.New(v, muxrpc.Options{Registry: r}), valve: v, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { p.done <- p.conn.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		v.read()
		<-p.done
	})
	return p
}

// connected reports whether the node still has the connection.
func (p *rawPeer) connected() bool {
	synctest.Wait()
	select {
	case <-p.conn.Done():
		return false
	default:
		return true
	}
}

// rawEBT is an open EBT stream of a raw peer, and what came over it.
type rawEBT struct {
	*rawPeer
	stream *muxrpc.Stream

	mu       sync.Mutex
	notes    map[string]int64
	bodies   int            // of notes
	entries  int            // in them
	messages map[string]int // by feed
	err      error          // how it ended
}

// ebt opens EBT and takes down what comes.
func (p *rawPeer) ebt() *rawEBT {
	p.t.Helper()
	stream, err := p.conn.Open(p.t.Context(), muxrpc.CallOptions{Kind: muxrpc.Duplex, Patient: true, MaxBody: maxNotesBody},
		"ebt.replicate", ebtOptions{Version: 3, Format: "classic"})
	if err != nil {
		p.t.Fatal(err)
	}
	e := &rawEBT{rawPeer: p, stream: stream, notes: map[string]int64{}, messages: map[string]int{}}
	go e.take()
	synctest.Wait()
	return e
}

func (e *rawEBT) take() {
	for {
		b, err := e.stream.Recv()
		e.mu.Lock()
		if err != nil {
			e.err = err
			e.mu.Unlock()
			return
		}
		var msg struct{ Author string }
		notes := map[string]int64{}
		if json.Unmarshal(b.Data, &notes) == nil {
			e.bodies++
			e.entries += len(notes)
			for id, n := range notes {
				e.notes[id] = n
			}
		} else if json.Unmarshal(b.Data, &msg) == nil {
			e.messages[msg.Author]++
		} else {
			e.t.Errorf("neither notes nor a message: %.100s", b.Data)
		}
		e.mu.Unlock()
	}
}

// send sends bodies. An end of the stream meanwhile is no failure.
func (e *rawEBT) send(bodies ...[]byte) {
	for _, b := range bodies {
		if err := e.stream.SendJSON(b); err != nil {
			break
		}
	}
	synctest.Wait()
}

// note says that the peer has a feed up to seq.
func (e *rawEBT) note(feed identity.ID, seq int64, receive bool) {
	n := seq << 1
	if !receive {
		n |= 1
	}
	e.send(fmt.Appendf(nil, `{"%s":%d}`, feed, n))
}

// got is how many messages of a feed came.
func (e *rawEBT) got(feed identity.ID) int {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.messages[feed.String()]
}

// noted is the last note about a feed.
func (e *rawEBT) noted(feed identity.ID) (note int64, ok bool) {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	note, ok = e.notes[feed.String()]
	return note, ok
}

// asked reports whether the last note about a feed asks for messages.
func (e *rawEBT) asked(feed identity.ID) bool {
	n, ok := e.noted(feed)
	return ok && n >= 0 && n&1 == 0
}

// book takes down what is logged.
type book struct {
	mu    sync.Mutex
	lines []string
}

func (b *book) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(line))
	return len(line), nil
}

// find returns the lines that have all of the texts.
func (b *book) find(texts ...string) (found []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
next:
	for _, line := range b.lines {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}

// rawHistory is an open createHistoryStream of a raw peer, and what came over it.
type rawHistory struct {
	mu     sync.Mutex
	bodies [][]byte
	err    error // how it ended: io.EOF is clean
}

// history calls createHistoryStream with arguments that are given as JSON.
func (p *rawPeer) history(format string, args ...any) *rawHistory {
	p.t.Helper()
	stream, err := p.conn.Source(p.t.Context(), "createHistoryStream", json.RawMessage(fmt.Sprintf(format, args...)))
	if err != nil {
		p.t.Fatal(err)
	}
	h := follow(stream)
	synctest.Wait()
	return h
}

// follow takes down what comes on a stream.
func follow(stream *muxrpc.Stream) *rawHistory {
	h := &rawHistory{}
	go func() {
		for {
			b, err := stream.Recv()
			h.mu.Lock()
			if err != nil {
				h.err = err
				h.mu.Unlock()
				return
			}
			h.bodies = append(h.bodies, b.Data)
			h.mu.Unlock()
		}
	}()
	return h
}

// messages returns what came until now.
func (h *rawHistory) messages() [][]byte {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bodies
}

// ended returns how the stream ended, nil when it is open.
func (h *rawHistory) ended() error {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// historyPeer serves createHistoryStream, and nothing else, from what it is told to have.
type historyPeer struct {
	t   *testing.T
	key identity.KeyPair

	mu    sync.Mutex
	feeds map[identity.ID][][]byte
	news  chan struct{} // closed when there is more
	live  map[identity.ID]int
	calls map[identity.ID]int
}

func newHistoryPeer(t *testing.T, n byte) *historyPeer {
	return &historyPeer{
		t: t, key: testKey(n), feeds: map[identity.ID][][]byte{}, news: make(chan struct{}),
		live: map[identity.ID]int{}, calls: map[identity.ID]int{},
	}
}

// add appends messages to the feeds that they say they are of.
func (h *historyPeer) add(raws ...[]byte) {
	for _, raw := range raws {
		author, _, _ := log.Peek(raw)
		h.give(author, raw)
	}
}

// give appends anything to a feed.
func (h *historyPeer) give(feed identity.ID, raws ...[]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.feeds[feed] = append(h.feeds[feed], raws...)
	close(h.news)
	h.news = make(chan struct{})
}

// open is how many live streams of a feed are open.
func (h *historyPeer) open(feed identity.ID) int {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.live[feed]
}

// asked is how often a feed was asked for.
func (h *historyPeer) asked(feed identity.ID) int {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[feed]
}

func (h *historyPeer) method() muxrpc.Method {
	return muxrpc.Method{Name: "createHistoryStream", Kind: muxrpc.Source, Anonymous: true,
		Stream: func(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
			var o struct {
				ID   identity.ID
				Seq  int
				Live bool
			}
			if err := req.Decode(&o); err != nil {
				return err
			}
			h.mu.Lock()
			h.calls[o.ID]++
			if o.Live {
				h.live[o.ID]++
			}
			h.mu.Unlock()
			defer func() {
				h.mu.Lock()
				defer h.mu.Unlock()
				if o.Live {
					h.live[o.ID]--
				}
			}()
			for next := max(o.Seq, 1); ; {
				h.mu.Lock()
				var more [][]byte
				if feed := h.feeds[o.ID]; next <= len(feed) {
					more = feed[next-1:]
				}
				news := h.news
				h.mu.Unlock()
				for _, raw := range more {
					if err := s.SendJSON(raw); err != nil {
						return err
					}
				}
				next += len(more)
				if !o.Live {
					return nil
				}
				select {
				case <-news:
				case <-ctx.Done():
					return nil
				}
			}
		}}
}

// accept listens, has the node dial, and serves the connection.
func (h *historyPeer) accept(m *memNet, node *testNode) *rawPeer {
	h.t.Helper()
	return acceptRaw(h.t, m, h.key, node, h.method())
}

// acceptRaw listens as key, has a node dial, and serves it methods.
func acceptRaw(t *testing.T, m *memNet, key identity.KeyPair, node *testNode, methods ...muxrpc.Method) *rawPeer {
	t.Helper()
	addr := identity.Address{Proto: "net", Host: "raw", Port: 1, Key: key.ID()}
	l := m.listen(addr.HostPort())
	defer l.Close()
	connected := make(chan error, 1)
	go func() { connected <- node.Connect(t.Context(), addr) }()
	socket, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := shs.Server(t.Context(), socket, shs.Config{Key: key, NetworkKey: testNetwork})
	if err != nil {
		t.Fatal(err)
	}
	p := runRaw(t, key, conn, methods...)
	if err := <-connected; err != nil {
		t.Fatal(err)
	}
	return p
}

// host is a peer that can be dialled, as often as one likes, and of which the test says what it serves.
type host struct {
	t    *testing.T
	m    *memNet
	key  identity.KeyPair
	addr identity.Address
	// talk, if set, has the connection instead of muxrpc.
	talk func(conn *shs.Conn)

	methods []muxrpc.Method
	l       *memListener
	running sync.WaitGroup

	mu    sync.Mutex
	conns []*hosted // all that ever were
}

// hosted is a connection with a host.
type hosted struct {
	*muxrpc.Conn // nil when the host talks
	id           identity.ID
	since        time.Time
	until        time.Time // zero: it is open
	shs          *shs.Conn
	dials        bool // the host dialled
}

// newHost begins to listen. Methods find the connection's *hosted in Request.Peer.
func newHost(t *testing.T, m *memNet, key byte, methods ...muxrpc.Method) *host {
	t.Helper()
	h := &host{t: t, m: m, key: testKey(key), methods: methods}
	h.addr = identity.Address{Proto: "net", Host: "host", Port: int(key), Key: h.key.ID()}
	h.listen()
	t.Cleanup(h.stop)
	return h
}

func (h *host) listen() {
	l := h.m.listen(h.addr.HostPort())
	h.l = l
	h.running.Go(func() {
		for {
			socket, err := l.Accept()
			if err != nil {
				return
			}
			h.running.Go(func() {
				if conn, err := shs.Server(context.Background(), socket, shs.Config{Key: h.key, NetworkKey: testNetwork}); err == nil {
					h.serve(conn, false)
				}
			})
		}
	})
}

// dial connects to a node.
func (h *host) dial(to *testNode) error {
	socket, err := h.m.dial(context.Background(), to.addr.HostPort())
	if err != nil {
		return err
	}
	conn, err := shs.Client(context.Background(), socket, shs.Config{Key: h.key, NetworkKey: testNetwork}, to.id)
	if err != nil {
		return err
	}
	h.running.Go(func() { h.serve(conn, true) })
	return nil
}

func (h *host) serve(conn *shs.Conn, dials bool) {
	c := &hosted{id: conn.Remote(), since: time.Now(), shs: conn, dials: dials}
	if h.talk == nil {
		r, err := muxrpc.NewRegistry(h.methods)
		if err != nil {
			h.t.Error(err)
			return
		}
		c.Conn = muxrpc.New(conn, muxrpc.Options{Registry: r, Peer: c})
	}
	h.mu.Lock()
	h.conns = append(h.conns, c)
	h.mu.Unlock()
	if h.talk != nil {
		h.talk(conn)
		conn.Close()
	} else {
		_ = c.Run(context.Background())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c.until = time.Now()
}

// stop closes all and listens no more, until listen.
func (h *host) stop() {
	h.l.Close()
	h.mu.Lock()
	conns := append([]*hosted(nil), h.conns...)
	h.mu.Unlock()
	for _, c := range conns {
		c.shs.Close()
	}
	h.running.Wait()
}

// open lists the connections that are open; all of them lists those that were, too.
func (h *host) open() (open []*hosted) {
	for _, c := range h.all() {
		if c.until.IsZero() {
			open = append(open, &c)
		}
	}
	return open
}

func (h *host) all() (all []hosted) {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		all = append(all, *c)
	}
	return all
}

// ebtMethod serves EBT: it says notes, and then does, if that is not nil, as long as the stream lives.
func ebtMethod(notes map[identity.ID]int64, do func(ctx context.Context, s *muxrpc.Stream)) muxrpc.Method {
	return muxrpc.Method{Name: "ebt.replicate", Kind: muxrpc.Duplex, Patient: true, MaxBody: maxNotesBody, Anonymous: true,
		Stream: func(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
			said := map[identity.ID]int64{}
			for id, seq := range notes {
				said[id] = seq << 1
			}
			body, err := json.Marshal(said)
			if err == nil {
				err = s.SendJSON(body)
			}
			if err != nil {
				return err
			}
			var doing sync.WaitGroup
			ctx, cancel := context.WithCancel(ctx)
			defer doing.Wait()
			defer cancel()
			if do != nil {
				doing.Go(func() { do(ctx, s) })
			}
			for {
				if _, err := s.Recv(); err != nil {
					return nil
				}
			}
		}}
}

// pingMethod serves gossip.ping with what answer says.
func pingMethod(answer func() []byte) muxrpc.Method {
	return muxrpc.Method{Name: "gossip.ping", Kind: muxrpc.Duplex, Anonymous: true,
		Stream: func(_ context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
			for {
				if _, err := s.Recv(); err != nil {
					return nil
				}
				if err := s.SendJSON(answer()); err != nil {
					return err
				}
			}
		}}
}

// wallClock is a clock for Options.Now that can jump.
type wallClock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *wallClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *wallClock) jump(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += by
}

// peer is what a node tells of a peer, and whether it tells of one.
func (n *testNode) peer(id identity.ID) (p Peer, ok bool) {
	synctest.Wait()
	for _, p := range n.Peers() {
		if p.ID == id {
			return p, true
		}
	}
	return p, false
}

// connectHost has a node connect to a host.
func (n *testNode) connectHost(to *host) {
	n.t.Helper()
	if err := n.Connect(n.t.Context(), to.addr); err != nil {
		n.t.Fatal(err)
	}
	synctest.Wait()
}
