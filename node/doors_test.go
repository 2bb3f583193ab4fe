package node

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/replicate/shs"
)

const listenWS = "ws://127.0.0.1:0"

// wsRemote connects to a node by WebSocket, as the holder of a key.
func wsRemote(t *testing.T, n *Node, key identity.KeyPair) *muxrpc.Conn {
	t.Helper()
	addr := n.webAddress()
	ws, _, err := websocket.Dial(t.Context(), "ws://"+addr.HostPort(), nil)
	if err != nil {
		t.Fatal(err)
	}
	socket := websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
	conn, err := shs.Client(t.Context(), socket, shs.Config{Key: key, NetworkKey: testNetwork}, addr.Key)
	if err != nil {
		t.Fatal(err)
	}
	return attach(t, conn)
}

// anonymous is what strangers may call: the list of ssb-server and its usual plugins, as patterns for package path.
var anonymous = []string{
	"manifest", "createHistoryStream", "ebt.replicate", "ebt.replicateFormat", "ebt.clock",
	"blobs.has", "blobs.get", "blobs.getSlice", "blobs.changes", "blobs.createWants", "blobs.size",
	"gossip.ping", "conn.ping",
	"tunnel.connect", "tunnel.ping", "tunnel.isRoom", "tunnel.announce", "tunnel.leave", "tunnel.endpoints",
	"room.*", "httpAuth.*", "ooo.stream", "partialReplication.*",
}

func isAnonymous(name string) bool {
	if strings.HasSuffix(name, ".help") {
		return false
	}
	for _, pattern := range anonymous {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// methods reads a manifest: names to kinds.
func methods(t *testing.T, c *muxrpc.Conn) map[string]muxrpc.Kind {
	t.Helper()
	answer, err := c.Async(t.Context(), "manifest")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]muxrpc.Kind{}
	var walk func(prefix string, raw json.RawMessage)
	walk = func(prefix string, raw json.RawMessage) {
		var folder map[string]json.RawMessage
		if err := json.Unmarshal(raw, &folder); err != nil {
			t.Fatal(err)
		}
		for name, v := range folder {
			var kind muxrpc.Kind
			if json.Unmarshal(v, &kind) == nil {
				all[prefix+name] = kind
			} else {
				walk(prefix+name+".", v)
			}
		}
	}
	walk("", answer)
	return all
}

// refusal calls a method and returns the words with which the call is refused before a handler sees it, or nil. What a method answers
// at once is no refusal, and it is not waited for longer than for the answer to another call that is made after it.
func refusal(t *testing.T, c *muxrpc.Conn, name string, kind muxrpc.Kind, args ...any) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := c.Open(ctx, muxrpc.CallOptions{Kind: kind}, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	// Calls are refused in the order in which they come, by the goroutine that reads.
	if _, err := c.Async(ctx, "no such method"); err == nil {
		t.Fatal("a method that does not exist answers")
	}
	s.Close() // keeps the error that came first
	_, err = s.Recv()
	var remote *muxrpc.RemoteError
	if errors.As(err, &remote) && (strings.HasPrefix(remote.Message, "method:") || strings.HasPrefix(remote.Message, "no ")) {
		return err
	}
	return nil
}

// Every method that the node has, whoever registered it, is called by strangers through every door that they can reach, and refused
// in the exact words that clients match on, but for those that are for everybody.
func TestStrangers(t *testing.T) {
	t.Parallel()
	n, _ := begin(t, Config{Dir: t.TempDir(), Listen: []string{listen}, WS: listenWS})
	all := methods(t, local(t, n))
	if len(all) < 40 {
		t.Fatalf("the manifest names %d methods", len(all))
	}
	kinds := map[muxrpc.Kind]int{}
	for door, stranger := range map[string]*muxrpc.Conn{
		"net": remote(t, n, identity.FromSeed([32]byte{7})),
		"ws":  wsRemote(t, n, identity.FromSeed([32]byte{8})),
	} {
		for name, kind := range all {
			kinds[kind]++
			want := "method:" + strings.ReplaceAll(name, ".", ",") + " is not in list of allowed methods"
			for _, as := range []muxrpc.Kind{kind, muxrpc.Async, muxrpc.Source, muxrpc.Sink, muxrpc.Duplex} {
				if isAnonymous(name) {
					if err := refusal(t, stranger, name, kind, map[string]any{}); err != nil {
						t.Errorf("%s: %s is for everybody: %v", door, name, err)
					}
				} else if err := refusal(t, stranger, name, as, map[string]any{}); err == nil || err.Error() != want {
					t.Errorf("%s: a stranger calls %s as %s: %v", door, name, as, err)
				}
			}
		}
		for _, name := range []string{"auth", "close", "config", "help", "blobs.help", "nothing", "invite.use", "getAddress"} {
			want := "method:" + strings.ReplaceAll(name, ".", ",") + " is not in list of allowed methods"
			if _, err := stranger.Async(t.Context(), name); err == nil || err.Error() != want {
				t.Errorf("%s: a stranger calls %s: %v", door, name, err)
			}
		}
		told := methods(t, stranger)
		for name, kind := range told {
			if !isAnonymous(name) || all[name] != kind {
				t.Errorf("%s: a stranger is told of %s", door, name)
			}
		}
		for name := range all {
			if isAnonymous(name) && told[name] == "" {
				t.Errorf("%s: a stranger is not told of %s", door, name)
			}
		}
	}
	for _, kind := range []muxrpc.Kind{muxrpc.Async, muxrpc.Sync, muxrpc.Source, muxrpc.Duplex} {
		if kinds[kind] == 0 {
			t.Errorf("no method is %s", kind)
		}
	}
	if got := status(t, local(t, n)).Own.Sequence; got != 0 {
		t.Errorf("the strangers published %d messages", got)
	}
}

// The unix socket, the node's own key and the master keys get every method, through every door; other keys of ours do not.
func TestMasters(t *testing.T) {
	t.Parallel()
	master := identity.FromSeed([32]byte{5})
	n, _ := begin(t, Config{Dir: t.TempDir(), Listen: []string{listen}, WS: listenWS, Masters: []identity.ID{{1}, master.ID()}})
	all := methods(t, local(t, n))
	for door, c := range map[string]*muxrpc.Conn{
		"unix": local(t, n), "net, own key": remote(t, n, n.key), "ws, own key": wsRemote(t, n, n.key),
		"net, master": remote(t, n, master), "ws, master": wsRemote(t, n, master),
	} {
		if told := methods(t, c); len(told) != len(all) {
			t.Errorf("%s: is told of %d methods, there are %d", door, len(told), len(all))
		}
		for name, kind := range all {
			// Called as what it is not, a method is found, and does nothing.
			as := muxrpc.Source
			if kind == as {
				as = muxrpc.Duplex
			}
			want := fmt.Sprintf("no %s:%s", as, strings.ReplaceAll(name, ".", ","))
			if err := refusal(t, c, name, as); err == nil || err.Error() != want {
				t.Errorf("%s: %s: %v", door, name, err)
			}
		}
		if err := post(t, c, door); err != nil {
			t.Errorf("%s: publish: %v", door, err)
		}
		help, err := c.Async(t.Context(), "help")
		var usage struct {
			Description string
			Commands    map[string]struct{ Type muxrpc.Kind }
		}
		if err != nil || json.Unmarshal(help, &usage) != nil || usage.Commands["publish"].Type != muxrpc.Async || usage.Description == "" {
			t.Errorf("%s: help: %s %v", door, help, err)
		}
	}
	if got := status(t, local(t, n)).Own.Sequence; got != 5 {
		t.Errorf("%d messages were published", got)
	}
	// Several programs may hold one key at a time.
	again := wsRemote(t, n, master)
	if _, err := again.Async(t.Context(), "whoami"); err != nil {
		t.Error(err)
	}
}

// A master who is blocked is a master still: the operator's word in the settings counts.
func TestBlockedMaster(t *testing.T) {
	t.Parallel()
	master, other := identity.FromSeed([32]byte{5}), identity.FromSeed([32]byte{6})
	n, _ := begin(t, Config{Dir: t.TempDir(), WS: listenWS, Masters: []identity.ID{master.ID()}})
	c := local(t, n)
	for _, id := range []identity.ID{master.ID(), other.ID()} {
		if _, err := c.Async(t.Context(), "publish", map[string]any{"type": "contact", "contact": id, "blocking": true}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		changed := n.index.Changed()
		if n.index.Blocks(n.ID(), other.ID()) && n.index.Blocks(n.ID(), master.ID()) {
			break
		}
		<-changed
	}
	if _, err := wsRemote(t, n, master).Async(t.Context(), "whoami"); err != nil {
		t.Error(err)
	}
	addr := n.webAddress()
	ws, _, err := websocket.Dial(t.Context(), "ws://"+addr.HostPort(), nil)
	if err != nil {
		t.Fatal(err)
	}
	socket := websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
	if _, err := shs.Client(t.Context(), socket, shs.Config{Key: other, NetworkKey: testNetwork}, addr.Key); !errors.Is(err, shs.ErrRefused) {
		t.Errorf("who is blocked comes by WebSocket: %v", err)
	}
}

// A wrong network key gets nowhere, and neither does who says no handshake at all.
func TestWebSocketNeedsTheHandshake(t *testing.T) {
	t.Parallel()
	n, _ := begin(t, Config{Dir: t.TempDir(), Listen: []string{listen}, WS: listenWS})
	addr := n.webAddress()
	dial := func() net.Conn {
		ws, _, err := websocket.Dial(t.Context(), "ws://"+addr.HostPort(), &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"http://evil.example"}}})
		if err != nil {
			t.Fatal(err)
		}
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
	}
	if _, err := shs.Client(t.Context(), dial(), shs.Config{Key: n.key, NetworkKey: [32]byte{1}}, addr.Key); !errors.Is(err, shs.ErrNetwork) {
		t.Errorf("with another network key: %v", err)
	}
	page := dial()
	if _, err := page.Write([]byte(strings.Repeat(`{"name":["whoami"],"args":[],"type":"async"}`, 20))); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(page); len(got) > 0 {
		t.Errorf("a page that says no handshake got %q, %v", got, err)
	}
	// Pages that open WebSockets and wait keep out neither the programs that come to the other port nor those at the socket: of
	// 30 that say nothing 8 may stay, and the others are turned away.
	turnedAway := make(chan error)
	for range 30 {
		page := dial()
		defer page.Close()
		go func() {
			_, err := page.Read(make([]byte, 1))
			turnedAway <- err
		}()
	}
	for range 30 - 8 {
		if err := <-turnedAway; err != io.EOF {
			t.Errorf("a page that says nothing: %v", err)
		}
	}
	go func() {
		for range 8 {
			<-turnedAway
		}
	}()
	if _, err := remote(t, n, n.key).Async(t.Context(), "whoami"); err != nil {
		t.Error(err)
	}
	if err := post(t, local(t, n), "still here"); err != nil {
		t.Error(err)
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	n, _ := begin(t, Config{Dir: t.TempDir(), WS: listenWS})
	c := local(t, n)
	published, err := c.Async(t.Context(), "publish", map[string]any{"type": "post", "text": "a <b> & c"})
	if err != nil {
		t.Fatal(err)
	}
	var kvt struct {
		Key   string          `json:"key"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(published, &kvt); err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + n.webAddress().HostPort() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	code, body := get("/msg/" + url.QueryEscape(kvt.Key))
	if want := fmt.Sprintf(`{"key":%q,"value":%s}`, kvt.Key, kvt.Value); code != 200 || body != want {
		t.Errorf("%d %s, want %s", code, body, want)
	}
	if code, body := get("/msg/" + url.QueryEscape(identity.MsgID{1}.String())); code != 404 {
		t.Errorf("a message that is not there: %d %s", code, body)
	}
	// A blob that is not here is waited for: it may come from a program, too.
	const text = "a blob of a program"
	id := identity.BlobID(sha256.Sum256([]byte(text)))
	var answered sync.WaitGroup
	answered.Go(func() {
		if code, body := get("/blobs/get/" + url.QueryEscape(id.String())); code != 200 || body != text {
			t.Errorf("a blob: %d %s", code, body)
		}
	})
	for len(n.network.BlobWants()) == 0 {
		<-n.network.Changed()
	}
	add(t, local(t, n), text)
	answered.Wait()
	if _, err := n.publicMessage(identity.MsgID{1}); errors.Is(err, log.ErrNotFound) || err == nil {
		t.Error(err)
	}
}

// Nodes reach each other over WebSockets, too: some pubs' addresses and invites are of that kind.
func TestNodesOverWebSockets(t *testing.T) {
	t.Parallel()
	a, _ := begin(t, Config{Dir: t.TempDir(), WS: listenWS})
	b, _ := begin(t, Config{Dir: t.TempDir(), Hops: 1})
	if err := post(t, local(t, a), "over a web socket"); err != nil {
		t.Fatal(err)
	}
	c := local(t, b)
	for _, call := range [][]any{{"friends.follow", a.ID()}, {"conn.connect", a.webAddress().String()}, {"charkha.wait", map[string]any{"id": a.ID(), "seq": 1}}} {
		if _, err := c.Async(t.Context(), call[0].(string), call[1:]...); err != nil {
			t.Fatalf("%v: %v", call, err)
		}
	}
	wrong := a.webAddress()
	wrong.Key = identity.FromSeed([32]byte{99}).ID()
	if _, err := c.Async(t.Context(), "conn.connect", wrong.String()); err == nil {
		t.Error("connected with somebody else's key")
	}
}

// A second node on one computer starts without the usual port, and says so; where the address was asked for, it does not start.
func TestTakenAddress(t *testing.T) {
	t.Parallel()
	first, _ := begin(t, Config{Dir: t.TempDir(), WS: listenWS})
	taken := "ws://" + first.webAddress().HostPort()
	var said strings.Builder
	logger := slog.New(slog.NewTextHandler(&said, nil))
	n, stop := begin(t, Config{Dir: t.TempDir(), WS: taken, WSOptional: true, Logger: logger})
	if len(n.Addresses()) != 0 {
		t.Errorf("it listens at %v", n.Addresses())
	}
	if err := post(t, local(t, n), "hello"); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "apps cannot reach this node by WebSocket") || !strings.Contains(said.String(), taken) {
		t.Errorf("it said: %s", said.String())
	}
	if _, err := Open(Config{Dir: t.TempDir(), NetworkKey: testNetwork, WS: taken}); err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("with an address that was asked for: %v", err)
	}
	if _, err := Open(Config{Dir: t.TempDir(), NetworkKey: testNetwork, WS: "wss://x:1"}); err == nil || !strings.Contains(err.Error(), "ws://HOST:PORT") {
		t.Errorf("with a wrong address: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	n, _ := begin(t, Config{Dir: t.TempDir(), Listen: []string{listen}, WS: listenWS})
	all := n.Addresses()
	if len(all) != 2 || all[0].Proto != "net" || all[1].Proto != "ws" || all[1].Port == 0 || all[1].Host != "127.0.0.1" || all[1].Key != n.ID() {
		t.Fatal(all)
	}
	both, _ := json.Marshal(all[0].String() + ";" + all[1].String())
	c := local(t, n)
	for _, method := range []string{"address", "getAddress"} {
		for scope, want := range map[any]string{nil: string(both), "device": string(both), "local": "null", "private": "null", "public": "null", "x": "null"} {
			if got, err := c.Async(t.Context(), method, scope); err != nil || string(got) != want {
				t.Errorf("%s(%v): %s %v", method, scope, got, err)
			}
		}
		if _, err := c.Async(t.Context(), method, 7); err == nil || !strings.Contains(err.Error(), "argument scope") {
			t.Errorf("%s(7): %v", method, err)
		}
	}
	for host, want := range map[string]string{
		"localhost": "device", "127.0.0.1": "device", "::1": "device", "192.168.1.5": "device local", "fe80::1": "device local",
		"nas": "device local", "pub.example": "device local public", "1.2.3.4": "device local public", "2001:db8::1": "device local public",
	} {
		var in []string
		for _, scope := range []string{"device", "local", "public"} {
			if reaches(identity.Address{Proto: "net", Host: host, Port: 1}, scope) {
				in = append(in, scope)
			}
		}
		if got := strings.Join(in, " "); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
	n, _ = begin(t, Config{Dir: t.TempDir(), WS: "ws://localhost:0"})
	if got := n.Addresses(); len(got) != 1 || got[0].Host != "localhost" {
		t.Error(got)
	}
}
