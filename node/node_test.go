package node

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/replicate/shs"
)

var testNetwork = [32]byte{4, 2}

// begin opens a node and runs it until stop is called, which returns what Run and Close returned.
func begin(t *testing.T, cfg Config) (n *Node, stop func() error) {
	t.Helper()
	if cfg.NetworkKey == [32]byte{} {
		cfg.NetworkKey = testNetwork
	}
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return errors.Join(<-ran, n.Close())
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return n, stop
}

// attach speaks muxrpc over a connection until the test ends.
func attach(t *testing.T, conn net.Conn) *muxrpc.Conn {
	t.Helper()
	c := muxrpc.New(conn, muxrpc.Options{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(context.Background()) // until Close
	}()
	t.Cleanup(func() {
		c.Close()
		<-ended
	})
	return c
}

func local(t *testing.T, n *Node) *muxrpc.Conn {
	t.Helper()
	conn, err := DialLocal(t.Context(), n.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return attach(t, conn)
}

// remote connects to a node over the network, as the holder of a key.
func remote(t *testing.T, n *Node, key identity.KeyPair) *muxrpc.Conn {
	t.Helper()
	addr := n.Addresses()[0]
	socket, err := net.Dial("tcp", addr.HostPort())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := shs.Client(t.Context(), socket, shs.Config{Key: key, NetworkKey: testNetwork}, addr.Key)
	if err != nil {
		t.Fatal(err)
	}
	return attach(t, conn)
}

const listen = "net:127.0.0.1:0"

func post(t *testing.T, c *muxrpc.Conn, text string) error {
	t.Helper()
	_, err := c.Async(t.Context(), "publish", map[string]string{"type": "post", "text": text})
	return err
}

func status(t *testing.T, c *muxrpc.Conn) (st struct {
	Own struct {
		Sequence  int64
		Confirmed bool
	}
}) {
	t.Helper()
	answer, err := c.Async(t.Context(), "charkha.status")
	if err == nil {
		err = json.Unmarshal(answer, &st)
	}
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{NetworkKey: testNetwork}, "folder"},
		{Config{Dir: t.TempDir()}, "network key"},
		{Config{Dir: t.TempDir(), NetworkKey: testNetwork, Hops: -1}, "hops"},
		{Config{Dir: file, NetworkKey: testNetwork}, file},
		{Config{Dir: t.TempDir(), NetworkKey: testNetwork, Listen: []string{"net:127.0.0.1"}}, "net:127.0.0.1"},
		{Config{Dir: t.TempDir(), NetworkKey: testNetwork, Listen: []string{"onion:x:1"}}, "onion"},
		{Config{Dir: t.TempDir(), NetworkKey: testNetwork, Listen: []string{"net:127.0.0.1:70000"}}, "port"},
		{Config{Dir: t.TempDir(), NetworkKey: testNetwork, Connect: []identity.Address{{Proto: "onion", Host: "x", Port: 1}}}, "onion"},
	} {
		n, err := Open(c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want an error about %s", c.cfg, err, c.want)
		}
		if n != nil {
			t.Errorf("%+v: a node and an error", c.cfg)
		}
		if names, _ := os.ReadDir(c.cfg.Dir); len(names) != 0 {
			t.Errorf("%+v: left %v behind", c.cfg, names)
		}
	}
}

func TestOneNodeAFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, stop := begin(t, Config{Dir: dir})
	if _, err := Open(Config{Dir: dir, NetworkKey: testNetwork}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("the second node: %v", err)
	}
	// The first one is not disturbed by it.
	if err := post(t, local(t, n), "still here"); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := DialLocal(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
	again, _ := begin(t, Config{Dir: dir})
	if again.ID() != n.ID() {
		t.Errorf("the node is %s, and was %s", again.ID(), n.ID())
	}
	if err := post(t, local(t, again), "and again"); err != nil {
		t.Error(err)
	}
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no file modes here")
	}
	dir := t.TempDir()
	_, stop := begin(t, Config{Dir: dir})
	for name, want := range map[string]fs.FileMode{"secret": 0o600, "socket": 0o600, "log": 0o700, "index": 0o700} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if st.Mode().Perm() != want {
			t.Errorf("%s: mode %o, want %o", name, st.Mode().Perm(), want)
		}
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) > 7 {
		t.Errorf("the folder holds %v, %v", names, err)
	}
	var manifest map[string]any
	data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil || json.Unmarshal(data, &manifest) != nil || manifest["createHistoryStream"] != "source" || manifest["publish"] != "async" {
		t.Errorf("manifest.json: %v %v", manifest, err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir, NetworkKey: testNetwork}); err == nil || !strings.Contains(err.Error(), "secret") {
		t.Errorf("with a secret that others can read: %v", err)
	}
}

// A dead node's socket does not stop the next one; a path that is too long for a socket works.
func TestLocalSocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("a long name ", 10))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, SocketName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n, _ := begin(t, Config{Dir: dir})
	if err := post(t, local(t, n), "hello"); err != nil {
		t.Error(err)
	}
	if _, err := DialLocal(t.Context(), t.TempDir()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("where no node runs: %v", err)
	}
}

// Strangers get what is for peers, in the words that clients match on; the node's own key gets everything.
func TestWhoMayCallWhat(t *testing.T) {
	t.Parallel()
	n, _ := begin(t, Config{Dir: t.TempDir(), Listen: []string{listen}})
	stranger := remote(t, n, identity.FromSeed([32]byte{7}))
	for _, m := range n.peersRefused() {
		_, err := stranger.Async(t.Context(), m)
		if err == nil || !strings.Contains(err.Error(), "is not in list of allowed methods") {
			t.Errorf("a stranger calls %s: %v", m, err)
		}
	}
	s, err := stranger.Source(t.Context(), "createHistoryStream", map[string]any{"id": n.ID()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err == nil {
		t.Error("an empty feed has a message")
	}
	if got := status(t, local(t, n)).Own.Sequence; got != 0 {
		t.Errorf("the stranger published %d messages", got)
	}
	own := remote(t, n, n.key)
	if err := post(t, own, "from my other program"); err != nil {
		t.Errorf("with the node's own key: %v", err)
	}
}

// peersRefused are the async methods that are for local programs only.
func (n *Node) peersRefused() (names []string) {
	var manifest map[string]any
	data, err := os.ReadFile(filepath.Join(n.cfg.Dir, "manifest.json"))
	if err != nil || json.Unmarshal(data, &manifest) != nil {
		panic("no manifest")
	}
	var walk func(prefix string, m map[string]any)
	walk = func(prefix string, m map[string]any) {
		for name, kind := range m {
			if sub, ok := kind.(map[string]any); ok {
				walk(prefix+name+".", sub)
			} else if (kind == "async" || kind == "sync") && !isAnonymous(prefix+name) {
				names = append(names, prefix+name)
			}
		}
	}
	walk("", manifest)
	if len(names) < 10 {
		panic("the manifest names too few methods")
	}
	return names
}

// A key that was restored without its log publishes nothing until a peer gave the feed back.
func TestRestoredKey(t *testing.T) {
	t.Parallel()
	first, stop := begin(t, Config{Dir: t.TempDir()})
	friend, _ := begin(t, Config{Dir: t.TempDir(), Listen: []string{listen}, Hops: 1})
	c := local(t, first)
	if _, err := c.Async(t.Context(), "friends.follow", friend.ID()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := post(t, c, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	f := local(t, friend)
	if _, err := f.Async(t.Context(), "friends.follow", first.ID()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Async(t.Context(), "conn.connect", friend.Addresses()[0].String()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Async(t.Context(), "charkha.wait", map[string]any{"id": first.ID(), "seq": 6}); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	if err := identity.CreateSecret(filepath.Join(dir, "secret"), first.key); err != nil {
		t.Fatal(err)
	}
	restored, stop := begin(t, Config{Dir: dir})
	c = local(t, restored)
	if err := post(t, c, "too early"); err == nil || !strings.Contains(err.Error(), "--new-feed") {
		t.Errorf("before the feed was fetched: %v", err)
	}
	if st := status(t, c); st.Own.Confirmed || restored.Confirmed() {
		t.Errorf("before the feed was fetched: %+v", st)
	}
	if _, err := c.Async(t.Context(), "conn.connect", friend.Addresses()[0].String()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Async(t.Context(), "charkha.wait", map[string]any{"id": first.ID(), "seq": 6}); err != nil {
		t.Fatal(err)
	}
	for !restored.Confirmed() {
		runtime.Gosched()
	}
	if err := post(t, c, "back again"); err != nil {
		t.Fatal(err)
	}
	if got := status(t, c).Own.Sequence; got != 7 {
		t.Errorf("the feed goes on at %d, want 7", got)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// It stays so.
	again, _ := begin(t, Config{Dir: dir})
	if !again.Confirmed() {
		t.Error("not confirmed any more after a restart")
	}
}

func TestNewFeed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := identity.CreateSecret(filepath.Join(dir, "secret"), identity.FromSeed([32]byte{8})); err != nil {
		t.Fatal(err)
	}
	n, _ := begin(t, Config{Dir: dir, NewFeed: true})
	if err := post(t, local(t, n), "first"); err != nil {
		t.Error(err)
	}
}

// The operator's word that a key is new counts for nothing against what is known.
func TestNewFeedThatIsNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, stop := begin(t, Config{Dir: dir})
	c := local(t, n)
	for range 3 {
		if err := post(t, c, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.Source(t.Context(), "createUserStream", map[string]any{"id": n.ID(), "keys": false, "limit": 2})
	if err != nil {
		t.Fatal(err)
	}
	var part [][]byte
	for range 2 {
		body, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		part = append(part, body.Data)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// To say it of a feed that may be published to does no harm.
	_, stop = begin(t, Config{Dir: dir, NewFeed: true})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// The key elsewhere, with a part of its feed.
	restored := t.TempDir()
	if err := identity.CreateSecret(filepath.Join(restored, "secret"), n.key); err != nil {
		t.Fatal(err)
	}
	l, err := log.Open(log.Options{Dir: filepath.Join(restored, "log")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(part); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: restored, NetworkKey: testNetwork, NewFeed: true}); !errors.Is(err, ErrNotNew) || !strings.Contains(err.Error(), "without --new-feed") {
		t.Errorf("with a part of the feed: %v", err)
	}
	again, _ := begin(t, Config{Dir: restored})
	if err := post(t, local(t, again), "too early"); err == nil {
		t.Error("the feed was forked")
	}
}

func TestAnotherHMACKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, stop := begin(t, Config{Dir: dir, HMACKey: &[32]byte{1}})
	if err := post(t, local(t, n), "hello"); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, key := range []*[32]byte{nil, {2}} {
		if _, err := Open(Config{Dir: dir, NetworkKey: testNetwork, HMACKey: key}); !errors.Is(err, log.ErrNetwork) || !strings.Contains(err.Error(), "--hmac-key") {
			t.Errorf("with another HMAC key: %v", err)
		}
	}
}

// Whoever deletes the log and keeps the key is a restored one, too.
func TestDeletedLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, stop := begin(t, Config{Dir: dir})
	if err := post(t, local(t, n), "first"); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	n, _ = begin(t, Config{Dir: dir})
	if err := post(t, local(t, n), "first again"); err == nil {
		t.Error("the feed was forked")
	}
}

// The index may be deleted: it is built anew.
func TestDeletedIndex(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, stop := begin(t, Config{Dir: dir, Hops: 1})
	other := identity.ID{9}
	if _, err := local(t, n).Async(t.Context(), "friends.follow", other); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
		t.Fatal(err)
	}
	n, _ = begin(t, Config{Dir: dir, Hops: 1})
	answer, err := local(t, n).Async(t.Context(), "friends.isFollowing", map[string]any{"source": n.ID(), "dest": other})
	if err != nil || string(answer) != "true" {
		t.Errorf("after the index was deleted: %s %v", answer, err)
	}
}
