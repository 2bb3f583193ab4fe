package replicate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"charkha/blob"
	"charkha/identity"
	"charkha/internal/vectors"
	"charkha/muxrpc"
)

// blobNode is a testNode that keeps blobs.
type blobNode struct {
	*testNode
	store *blob.Store
}

// startBlobs starts a node that keeps blobs of up to most bytes; 0: 5 MiB.
func startBlobs(t testing.TB, n byte, most int64, o nodeOptions) *blobNode {
	t.Helper()
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	store, err := blob.Open(blob.Options{Dir: filepath.Join(o.dir, "blobs"), Max: most})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	set := o.set
	o.set = func(p *Options) {
		p.Blobs, p.BlobMax = store, most
		if set != nil {
			set(p)
		}
	}
	return &blobNode{startNode(t, n, newGraph(), o), store}
}

// bytesOf makes n bytes that look like no others.
func bytesOf(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 77}).Read(b)
	return b
}

func idOf(b []byte) identity.BlobID { return sha256.Sum256(b) }

// add adds a blob of the node's own.
func (n *blobNode) add(b []byte) identity.BlobID {
	n.t.Helper()
	info, err := n.store.Add(n.t.Context(), bytes.NewReader(b), nil, blob.Why{Own: true})
	if err != nil {
		n.t.Fatal(err)
	}
	return info.ID
}

// want wants a blob and waits until it is there.
func (n *blobNode) want(id identity.BlobID, within time.Duration) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), within)
	defer cancel()
	if err := n.WantBlob(ctx, id, blob.Why{}); err != nil {
		n.t.Fatalf("%s wants %s: %v; %+v", n.id.Short(), id, err, n.BlobWants())
	}
}

// has checks that the node holds a blob whole.
func (n *blobNode) has(b []byte) {
	n.t.Helper()
	id := idOf(b)
	r, err := n.store.Read(id)
	if err != nil {
		n.t.Errorf("%s: %s: %v", n.id.Short(), id, err)
		return
	}
	defer r.Close()
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil || !bytes.Equal(got, b) {
		n.t.Errorf("%s: %s is %d bytes, not the %d that were added, %v", n.id.Short(), id, len(got), len(b), err)
	}
}

// Blobs of all sizes go from one node to another over a real connection, those that are wanted first and those that are there
// first.
func TestBlobsBetweenTwoNodes(t *testing.T) {
	a, b := startBlobs(t, 1, 20<<20, nodeOptions{}), startBlobs(t, 2, 20<<20, nodeOptions{})
	var all [][]byte
	for i, size := range []int{1, 100, 65535, 65536, 65537, 131072, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5 << 20, 20 << 20} {
		all = append(all, bytesOf(uint64(i), size))
	}
	for _, c := range all[:6] {
		a.add(c)
	}
	for _, c := range all {
		b.WishBlob(idOf(c), blob.Why{})
	}
	b.connect(a.testNode)
	b.want(idOf(all[0]), time.Minute)
	for _, c := range all[6:] {
		a.add(c)
	}
	for _, c := range all {
		b.want(idOf(c), time.Minute)
		b.has(c)
	}
	if left := b.BlobWants(); len(left) != 0 {
		t.Errorf("still wanted: %+v", left)
	}
}

// wantedOf are the wants that a node tells of.
func (n *blobNode) wanted() map[identity.BlobID]int {
	all := map[identity.BlobID]int{}
	for _, w := range n.BlobWants() {
		all[w.ID] = w.Hops
	}
	return all
}

// tidy checks that nothing half-written is left.
func (n *blobNode) tidy() {
	n.t.Helper()
	synctest.Wait()
	if left, err := os.ReadDir(filepath.Join(n.dir, "blobs", "tmp")); err != nil || len(left) != 0 {
		n.t.Errorf("left in tmp: %v, %v", left, err)
	}
}

// A blob is wanted before it exists anywhere, by a node that nobody with it knows: those between carry it, as far as sympathy
// goes.
func TestBlobThroughOthers(t *testing.T) {
	for _, c := range []struct {
		name    string
		between int
		arrives bool
	}{{"one between", 1, true}, {"two between", 2, true}, {"three between", 3, false}} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				var chain []*blobNode
				for i := range c.between + 2 {
					chain = append(chain, startBlobs(t, byte(i+1), 0, nodeOptions{mem: m}))
					if i > 0 {
						chain[i].connect(chain[i-1].testNode)
					}
				}
				b := bytesOf(1, 300_000)
				first, last := chain[0], chain[len(chain)-1]
				first.WishBlob(idOf(b), blob.Why{})
				pass(time.Second)
				for i, n := range chain {
					want := i + 1
					if i > 2 {
						want = 0
					}
					if got := n.wanted()[idOf(b)]; got != want {
						t.Errorf("node %d wants it at distance %d, want %d", i, got, want)
					}
				}
				last.add(b)
				pass(time.Minute)
				if _, ok := first.store.Stat(idOf(b)); ok != c.arrives {
					t.Errorf("arrived: %v, want %v", ok, c.arrives)
				}
				if c.arrives {
					first.has(b)
					if info, _ := chain[1].store.Stat(idOf(b)); info.Why.Peer != first.id {
						t.Errorf("what was carried for the first counts for %s", info.Why.Peer.Short())
					}
				}
				for _, n := range chain {
					n.tidy()
				}
			})
		})
	}
}

// What is pushed goes to three who did not ask, and survives a restart until it has.
func TestPushBlob(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		a := startBlobs(t, 1, 0, nodeOptions{mem: m})
		b := bytesOf(1, 1000)
		id := a.add(b)
		if err := a.PushBlob(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		first := startBlobs(t, 2, 0, nodeOptions{mem: m})
		first.connect(a.testNode)
		pass(time.Second)
		first.has(b)
		a.stop()
		if err := a.store.Close(); err != nil {
			t.Fatal(err)
		}

		a = startBlobs(t, 1, 0, nodeOptions{mem: m, dir: a.dir})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		type done struct {
			id    identity.BlobID
			peers int
		}
		pushed := make(chan done, 10)
		all := a.Pushed(ctx)
		var following sync.WaitGroup
		following.Go(func() {
			for id, peers := range all {
				pushed <- done{id, peers}
			}
		})
		for n := range byte(3) {
			if n == 1 && len(pushed) != 0 { // one before the restart, one after
				t.Error("two were enough")
			}
			p := startBlobs(t, 3+n, 0, nodeOptions{mem: m})
			p.connect(a.testNode)
			pass(time.Second)
			if n < 2 {
				p.has(b)
			} else if len(p.wanted()) != 0 {
				t.Error("it is pushed still")
			}
		}
		cancel()
		following.Wait()
		if len(pushed) != 1 || <-pushed != (done{id, 3}) {
			t.Error("it was not told that it is pushed")
		}
		if file, err := os.ReadFile(filepath.Join(a.dir, "blobs", "push.json")); err != nil || string(file) != "{}\n" {
			t.Errorf("push.json: %s, %v", file, err)
		}
	})
}

func TestWantBlobEnds(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		a := startBlobs(t, 1, 0, nodeOptions{mem: m})
		id := idOf(bytesOf(1, 10))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.WantBlob(ctx, id, blob.Why{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("at the end of its time: %v", err)
		}
		if len(a.BlobWants()) != 1 {
			t.Error("it is not wanted any more")
		}
		ended := make(chan error, 3)
		wait := func() { ended <- a.WantBlob(t.Context(), id, blob.Why{}) }
		go wait()
		synctest.Wait()
		a.ForgetBlob(id)
		if err := <-ended; err == nil || len(a.BlobWants()) != 0 {
			t.Errorf("forgotten: %v, %v", err, a.BlobWants())
		}
		go wait()
		synctest.Wait()
		if _, err := a.store.Add(t.Context(), bytes.NewReader(bytesOf(1, 10)), nil, blob.Why{}); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("added here: %v", err)
		}
		empty := identity.BlobID(sha256.Sum256(nil))
		if err := a.WantBlob(t.Context(), empty, blob.Why{}); err != nil {
			t.Errorf("the blob of no bytes: %v", err)
		}
		id = idOf(bytesOf(2, 10))
		go wait()
		synctest.Wait()
		a.stop()
		if err := <-ended; !errors.Is(err, ErrStopped) {
			t.Errorf("stopped: %v", err)
		}
		if err := a.WantBlob(t.Context(), id, blob.Why{}); !errors.Is(err, ErrStopped) {
			t.Errorf("after the stop: %v", err)
		}
	})
	bubble(t, func(t *testing.T, m *memNet) {
		n := startNode(t, 1, newGraph(), nodeOptions{mem: m})
		if err := n.WantBlob(t.Context(), idOf(nil), blob.Why{}); err == nil {
			t.Error("a node without blobs has one")
		}
		if n.BlobMethods() != nil || n.BlobWants() != nil || n.PushBlob(t.Context(), idOf(nil)) == nil {
			t.Error("a node without blobs does as if")
		}
		n.WishBlob(idOf(nil), blob.Why{})
		n.ForgetBlob(idOf(nil))
		// A peer that keeps none, and one that does, get along.
		a := startBlobs(t, 2, 0, nodeOptions{mem: m})
		a.WishBlob(idOf(bytesOf(1, 10)), blob.Why{})
		a.connect(n)
		pass(time.Second)
		if p, ok := a.peer(n.id); !ok || p.State != Connected {
			t.Error("they are not connected any more")
		}
	})
}

// What is removed while it is pushed is not asked for from everybody, now and after restarts.
func TestForgetPushedBlob(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		a := startBlobs(t, 1, 0, nodeOptions{mem: m})
		id := a.add(bytesOf(1, 1000))
		if err := a.PushBlob(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := a.store.Remove(id); err != nil {
			t.Fatal(err)
		}
		a.ForgetBlob(id)
		b := startBlobs(t, 2, 0, nodeOptions{mem: m})
		b.connect(a.testNode)
		pass(time.Second)
		if w := b.BlobWants(); len(w) != 0 {
			t.Errorf("others were told of it: %+v", w)
		}
		if file, err := os.ReadFile(a.blobs.pushFile()); err != nil || string(file) != "{}\n" {
			t.Errorf("push.json: %s, %v", file, err)
		}
	})
}

// A node that stops in the middle of a blob leaves nothing half-written, and has the rest later.
func TestStopWhileFetching(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		a := startBlobs(t, 1, 0, nodeOptions{mem: m})
		stuck := newBlobPeer(t, bytesOf(1, 3_000_000))
		stuck.give = func(ctx context.Context, r getRequest, s *muxrpc.Stream) error {
			if r.start > 0 {
				<-ctx.Done()
			}
			return s.Send(muxrpc.Body{Data: stuck.b[r.start:r.end]})
		}
		a.WishBlob(stuck.id(), blob.Why{})
		dialRaw(t, m, testKey(5), a.testNode, stuck.methods()...)
		pass(5 * time.Second)
		if w := a.BlobWants(); len(w) != 1 || w[0].Got == 0 || w[0].Size != 3_000_000 || len(w[0].Sources) != 1 {
			t.Errorf("%+v", w)
		}
		a.stop()
		a.tidy()
	})
}

// Messages wait for no blob: over a link of 1 MB/s on which a large blob goes, what is published is there within half a second.
func TestBlobsGiveWayToMessages(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		a := startBlobs(t, 1, 100<<20, nodeOptions{mem: m})
		slow := nodeOptions{mem: m, set: func(o *Options) {
			dial := o.dial
			o.dial = func(ctx context.Context, hostport string) (net.Conn, error) {
				conn, err := dial(ctx, hostport)
				if err != nil {
					return nil, err
				}
				return &slowConn{Conn: conn, rate: 1_000_000}, nil
			}
		}}
		b := startBlobs(t, 2, 100<<20, slow)
		for _, n := range []*blobNode{a, b} {
			n.graph.change(func() { n.graph.wanted[a.id], n.graph.wanted[b.id] = true, true })
		}
		var all []identity.BlobID
		for i := range 6 {
			all = append(all, a.add(bytesOf(uint64(i), 20_000_000)))
		}
		b.connect(a.testNode)
		for _, id := range all {
			b.WishBlob(id, blob.Why{})
		}
		pass(3 * time.Second)
		for i := range int64(20) {
			a.publish(1)
			began := time.Now()
			for b.head(a.id) < i+1 {
				pass(10 * time.Millisecond)
				if time.Since(began) > 5*time.Second {
					t.Fatalf("message %d is not there after 5 s", i)
				}
			}
			if took := time.Since(began); took > 500*time.Millisecond {
				t.Errorf("message %d took %v", i, took)
			}
			pass(300 * time.Millisecond)
		}
		got := int64(0)
		for _, w := range b.BlobWants() {
			got += w.Got
		}
		t.Logf("meanwhile %d bytes of blobs came", got)
		if got < 5_000_000 {
			t.Errorf("only %d bytes of blobs came", got)
		}
	})
}

// slowConn reads some bytes a second.
type slowConn struct {
	net.Conn
	rate int
}

func (c *slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.rate))
	return n, err
}

// With a rate, blobs are no faster.
func TestBlobRate(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		limit := nodeOptions{mem: m, set: func(o *Options) { o.BlobRate = 100_000 }}
		a, b := startBlobs(t, 1, 0, limit), startBlobs(t, 2, 0, nodeOptions{mem: m})
		b.connect(a.testNode)
		for i, to := range []*blobNode{a, b} { // it holds in both directions
			from := []*blobNode{b, a}[i]
			id := from.add(bytesOf(uint64(i), 2_000_000))
			began := time.Now()
			to.want(id, time.Minute)
			if took := time.Since(began); took < 15*time.Second || took > 30*time.Second {
				t.Errorf("2 MB came in %v", took)
			}
		}
	})
}

// blobPeer is a peer of which the test says what it has and gives.
type blobPeer struct {
	t    *testing.T
	b    []byte // the blob that it has
	give giver

	mu   sync.Mutex
	says []string // bodies on createWants
	news chan struct{}
	gets []getRequest
}

// giver answers blobs.get and getSlice.
type giver = func(ctx context.Context, r getRequest, s *muxrpc.Stream) error

type getRequest struct {
	id         identity.BlobID
	start, end int64
	whole      bool
}

func newBlobPeer(t *testing.T, b []byte) *blobPeer {
	p := &blobPeer{t: t, b: b, news: make(chan struct{}, 1)}
	p.say(fmt.Sprintf(`{"%s":%d}`, p.id(), len(b)))
	p.give = func(_ context.Context, r getRequest, s *muxrpc.Stream) error {
		return s.Send(muxrpc.Body{Data: p.b[r.start:r.end]})
	}
	return p
}

func (p *blobPeer) id() identity.BlobID { return idOf(p.b) }

func (p *blobPeer) say(body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.says = append(p.says, body)
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// asked lists what it was asked for.
func (p *blobPeer) asked() []getRequest {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.gets)
}

func (p *blobPeer) methods() []muxrpc.Method {
	get := func(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
		a, err := parseBlobArgs(req)
		if err != nil {
			return err
		}
		r := getRequest{id: a.id, end: int64(len(p.b)), whole: a.start == nil}
		if !r.whole {
			r.start, r.end = int64(*a.start), int64(*a.end)
		}
		p.mu.Lock()
		p.gets = append(p.gets, r)
		p.mu.Unlock()
		return p.give(ctx, r, s)
	}
	return []muxrpc.Method{
		{Name: "blobs.createWants", Kind: muxrpc.Source, Anonymous: true, Stream: func(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
			for i := 0; ; {
				p.mu.Lock()
				says := p.says[i:]
				p.mu.Unlock()
				for _, body := range says {
					if err := s.SendJSON([]byte(body)); err != nil {
						return err
					}
				}
				i += len(says)
				select {
				case <-ctx.Done():
					return nil
				case <-p.news:
				}
			}
		}},
		{Name: "blobs.get", Kind: muxrpc.Source, Anonymous: true, Stream: get},
		{Name: "blobs.getSlice", Kind: muxrpc.Source, Anonymous: true, Stream: get},
	}
}

// The calls that recorded JS peers made are answered as they answered, and ours are as theirs.
func TestVectorBlobCalls(t *testing.T) {
	type packet struct {
		Dir, Body string
		Flags     byte
		Req       int32
	}
	packets := vectors.JSON[struct{ Packets []packet }](t, "muxrpc-transcripts", "calls.json").Packets
	answer := func(req int32) string {
		for _, p := range packets {
			if p.Dir == "recv" && p.Req == -req {
				return p.Body
			}
		}
		t.Fatal("no answer is recorded")
		return ""
	}
	bubble(t, func(t *testing.T, m *memNet) {
		a := startBlobs(t, 1, 0, nodeOptions{mem: m})
		var asked json.RawMessage
		other := muxrpc.Method{Name: "blobs.createWants", Kind: muxrpc.Source, Anonymous: true, Stream: func(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
			asked = req.Args
			return s.SendJSON([]byte("{}"))
		}}
		p := dialRaw(t, m, testKey(5), a.testNode, other)
		compared := 0
		var wants *rawHistory
		for _, sent := range packets {
			var call struct {
				Name []string
				Args json.RawMessage
				Type string
			}
			if sent.Dir != "send" || sent.Req <= 0 || json.Unmarshal([]byte(sent.Body), &call) != nil || len(call.Name) != 2 || call.Name[0] != "blobs" {
				continue
			}
			compared++
			var args []any
			if err := json.Unmarshal(call.Args, &args); err != nil {
				t.Fatal(err)
			}
			switch call.Name[1] {
			case "createWants":
				stream, err := p.conn.Source(t.Context(), "blobs.createWants", args...)
				if err != nil {
					t.Fatal(err)
				}
				wants = follow(stream)
				if got := wants.messages(); len(got) != 1 || string(got[0]) != answer(sent.Req) {
					t.Errorf("createWants says %q at first, recorded was %q", got, answer(sent.Req))
				}
				if string(asked) != string(call.Args) {
					t.Errorf("we ask with %s, they with %s", asked, call.Args)
				}
			case "has":
				if got, err := p.conn.Async(t.Context(), "blobs.has", args...); err != nil || string(got) != answer(sent.Req) {
					t.Errorf("has: %s, %v; recorded was %s", got, err, answer(sent.Req))
				}
				// It is taken for a want, and passed on.
				var id string
				for _, b := range wants.messages()[1:] {
					id += string(b)
				}
				if want := fmt.Sprintf(`{"%s":-2}`, args[0]); id != want {
					t.Errorf("after has, %q is said, recorded was %q", id, want)
				}
			case "get":
				stream, err := p.conn.Source(t.Context(), "blobs.get", args...)
				if err != nil {
					t.Fatal(err)
				}
				var want struct{ Message string }
				if err := json.Unmarshal([]byte(answer(sent.Req)), &want); err != nil {
					t.Fatal(err)
				}
				if _, err := stream.Recv(); err == nil || err.Error() != want.Message {
					t.Errorf("get: %v, recorded was %s", err, want.Message)
				}
			}
		}
		if compared != 3 {
			t.Errorf("%d calls were compared", compared)
		}
	})
}

// What peers may ask about blobs, in all the forms that JS peers use.
func TestBlobMethods(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		a := startBlobs(t, 1, 0, nodeOptions{mem: m})
		b := bytesOf(1, 200_000)
		id := a.add(b)
		missing := idOf(nil)
		missing[0]++
		p := dialRaw(t, m, testKey(5), a.testNode)
		fill := strings.NewReplacer("ID", id.String(), "MISSING", missing.String(), "EMPTY", idOf(nil).String())
		args := func(text string) []any {
			var list []any
			if err := json.Unmarshal([]byte("["+fill.Replace(text)+"]"), &list); err != nil {
				t.Fatal(err)
			}
			return list
		}
		for _, c := range []struct {
			method, args string
			from, to     int // what comes
			err          string
		}{
			{"blobs.get", `"ID"`, 0, len(b), ""},
			{"blobs.get", `{"key":"ID","max":5242880}`, 0, len(b), ""},
			{"blobs.get", `{"id":"ID","size":200000}`, 0, len(b), ""},
			{"blobs.get", `{"hash":"ID"}`, 0, len(b), ""},
			{"blobs.get", `{"hash":"MISSING","key":"MISSING","id":"ID"}`, 0, len(b), ""},
			{"blobs.get", `"EMPTY"`, 0, 0, ""},
			{"blobs.get", `{"key":"ID","max":199999}`, 0, 0, "incorrect file length, requested:199999 file was:200000 for file:ID"},
			{"blobs.get", `{"key":"ID","size":1}`, 0, 0, "incorrect file length"},
			{"blobs.get", `"MISSING"`, 0, 0, "could not get blob"},
			{"blobs.get", `"../../secret"`, 0, 0, "blobs.get"},
			{"blobs.get", `{"key":"../../secret"}`, 0, 0, "blobs.get"},
			{"blobs.get", `"/etc/passwd"`, 0, 0, "blobs.get"},
			{"blobs.get", `"&../../../../../../../../../../../../../../../../.sha256"`, 0, 0, "blobs.get"},
			{"blobs.get", `"%AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"`, 0, 0, "blobs.get"},
			{"blobs.get", `"@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.ed25519"`, 0, 0, "blobs.get"},
			{"blobs.get", `"&AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.blake2s"`, 0, 0, "blobs.get"},
			{"blobs.get", `{}`, 0, 0, "blobs.get"},
			{"blobs.get", `{"id":{"id":"ID"}}`, 0, 0, "blobs.get"},
			{"blobs.get", ``, 0, 0, "blobs.get"},
			{"blobs.get", `7`, 0, 0, "blobs.get"},
			{"blobs.getSlice", `{"id":"ID","start":0,"end":1}`, 0, 1, ""},
			{"blobs.getSlice", `{"id":"ID","start":70000,"end":140001}`, 70000, 140001, ""},
			{"blobs.getSlice", `{"key":"ID","start":199999,"end":1e300}`, 199999, 200000, ""},
			{"blobs.getSlice", `{"id":"ID","start":-5,"end":3}`, 0, 3, ""},
			{"blobs.getSlice", `{"id":"ID","start":5,"end":3}`, 0, 0, ""},
			{"blobs.getSlice", `{"id":"ID","start":1e300,"end":1e301}`, 0, 0, ""},
			{"blobs.getSlice", `{"id":"ID","start":0,"end":5,"max":100}`, 0, 0, "incorrect file length"},
			{"blobs.getSlice", `{"id":"ID","end":5}`, 0, 0, "{start} must be a number"},
			{"blobs.getSlice", `{"id":"ID","start":5}`, 0, 0, "{end} must be a number"},
			{"blobs.getSlice", `{"id":"ID","start":"0","end":5}`, 0, 0, "blobs.getSlice"},
			{"blobs.getSlice", `"ID"`, 0, 0, "{start} must be a number"},
			{"blobs.getSlice", `{"id":"../../secret","start":0,"end":5}`, 0, 0, "blobs.getSlice"},
		} {
			stream, err := p.conn.Open(t.Context(), muxrpc.CallOptions{Kind: muxrpc.Source}, c.method, args(c.args)...)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			for err == nil {
				var body muxrpc.Body
				if body, err = stream.Recv(); err == nil {
					if body.Type != muxrpc.Binary || len(body.Data) > blobChunk {
						t.Errorf("%s(%s) sends %d bytes as %s", c.method, c.args, len(body.Data), body.Type)
					}
					got = append(got, body.Data...)
				}
			}
			if c.err == "" && (err != io.EOF || !bytes.Equal(got, b[c.from:c.to])) {
				t.Errorf("%s(%s): %d bytes, %v; want %d", c.method, c.args, len(got), err, c.to-c.from)
			}
			if c.err != "" && (len(got) > 0 || !strings.Contains(fmt.Sprint(err), fill.Replace(c.err))) {
				t.Errorf("%s(%s): %d bytes, %v; want %q", c.method, c.args, len(got), err, c.err)
			}
		}
		for _, c := range []struct{ method, args, want string }{
			{"blobs.has", `"ID"`, "true"}, {"blobs.has", `["ID","MISSING","EMPTY"]`, "[true,false,true]"}, {"blobs.has", `{"id":"ID"}`, "true"},
			{"blobs.has", `[]`, "[]"}, {"blobs.has", `"../../secret"`, "invalid id"}, {"blobs.has", `["ID","../../secret"]`, "invalid id:../../secret"},
			{"blobs.has", `[["ID"]]`, "blobs.has"}, {"blobs.has", ``, "blobs.has"}, {"blobs.has", `{"key":"ID"}`, "invalid id"},
			{"blobs.size", `"ID"`, "200000"}, {"blobs.size", `["ID","MISSING","EMPTY"]`, "[200000,null,0]"}, {"blobs.size", `"../../secret"`, "invalid id"},
		} {
			got, err := p.conn.Async(t.Context(), c.method, args(c.args)...)
			if err != nil {
				got = []byte(err.Error())
			}
			if string(got) != c.want && (err == nil || !strings.Contains(string(got), c.want)) {
				t.Errorf("%s(%s): %s, want %s", c.method, c.args, got, c.want)
			}
		}
		stream, err := p.conn.Source(t.Context(), "blobs.changes")
		if err != nil {
			t.Fatal(err)
		}
		changes := follow(stream)
		synctest.Wait()
		more := a.add(bytesOf(2, 5))
		if got := changes.messages(); len(got) != 1 || string(got[0]) != more.String() {
			t.Errorf("changes: %q", got)
		}
	})
}

// A peer that serves blobs.get and no slices, as some that are not JS, is asked for the whole of a large blob.
func TestBlobWithoutSlices(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		a := startBlobs(t, 1, 60<<20, nodeOptions{mem: m})
		p := newBlobPeer(t, bytesOf(1, 7_000_000))
		a.WishBlob(p.id(), blob.Why{})
		methods := slices.DeleteFunc(p.methods(), func(m muxrpc.Method) bool { return m.Name == "blobs.getSlice" })
		dialRaw(t, m, testKey(5), a.testNode, methods...)
		pass(time.Second)
		a.has(p.b)
		if asked := p.asked(); len(asked) != 1 || !asked[0].whole {
			t.Errorf("it was asked for %+v", asked)
		}
	})
}

// hasNot checks that a blob is not held.
func (n *blobNode) hasNot(id identity.BlobID) {
	n.t.Helper()
	if _, err := n.store.Read(id); !errors.Is(err, fs.ErrNotExist) {
		n.t.Errorf("%s has %s: %v", n.id.Short(), id, err)
	}
}
