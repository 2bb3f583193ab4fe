package replicate

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"charkha/identity"
	"charkha/replicate/shs"
)

// far is an address of nobody.
func far(name string, key byte) identity.Address {
	return identity.Address{Proto: "net", Host: name, Port: 1, Key: testKey(key).ID()}
}

// A kept address is dialled again and again, after pauses that double, of which half is chance; forty nodes that lost the same
// pub do not all come back at once.
func TestRedialBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		node := startNode(t, 1, newGraph(), nodeOptions{mem: m, book: &book{}})
		var addrs []identity.Address
		for n := range byte(40) {
			addrs = append(addrs, far(string('a'+rune(n)), 100+n))
			node.Keep(addrs[n])
		}
		pass(20 * time.Minute)
		seen := map[time.Duration]bool{}
		for _, addr := range addrs {
			at := m.dialled(addr.HostPort())
			pause := node.o.RedialLeast
			for i := 1; i < len(at); i++ {
				got := at[i].Sub(at[i-1])
				if got < pause/2 || got > pause+time.Millisecond {
					t.Errorf("%s: the pause before attempt %d was %v, want %v to %v", addr, i, got, pause/2, pause)
				}
				if i == 5 {
					seen[got] = true
				}
				pause = min(2*pause, node.o.RedialMost)
			}
			if len(at) < 12 {
				t.Errorf("%s was dialled %d times in 20 minutes", addr, len(at))
			}
		}
		if len(seen) < len(addrs)/2 {
			t.Errorf("40 addresses have %d different pauses", len(seen))
		}
	})
}

// An address that can be reached again is reached; one that held long begins with the short pause again.
func TestRedialComesBack(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		node := startNode(t, 1, newGraph(), nodeOptions{mem: m})
		addr := identity.Address{Proto: "net", Host: "node", Port: 2, Key: testKey(2).ID()}
		node.Keep(addr)
		node.Keep(addr) // once is enough
		pass(5 * time.Minute)
		if p := node.Peers(); len(p) != 1 || p[0].State != Waiting || p[0].LastError == "" {
			t.Errorf("while it cannot be reached: %+v", p)
		}
		other := startNode(t, 2, newGraph(), nodeOptions{mem: m})
		pass(2 * time.Minute)
		if p := node.Peers(); len(p) != 1 || p[0].State != Connected {
			t.Fatalf("when it can be reached: %+v", p)
		}
		before := len(m.dialled(addr.HostPort()))
		pass(10 * time.Minute)
		if n := len(m.dialled(addr.HostPort())) - before; n != 0 {
			t.Errorf("dialled %d times while it was connected", n)
		}
		other.stop()
		pass(1500 * time.Millisecond)
		if n := len(m.dialled(addr.HostPort())) - before; n < 1 || n > 2 {
			t.Errorf("dialled %d times within 1.5 s after a connection that held long", n)
		}
	})
}

// What a dialled peer can do wrong ends the attempt with a reason, and leaves nothing open.
func TestDialFailures(t *testing.T) {
	closed := func(c net.Conn) func() bool {
		return func() bool {
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			buf := make([]byte, 1024)
			for {
				if _, err := c.Read(buf); err != nil {
					ne, ok := err.(net.Error)
					return !ok || !ne.Timeout()
				}
			}
		}
	}
	for _, c := range []struct {
		name string
		peer func(t *testing.T, c net.Conn) // what the other end does
		fail error                          // instead of a connection
		want error
		most time.Duration
	}{
		{name: "nobody listens", fail: errNobody, want: errNobody},
		{name: "hangs in the handshake", peer: func(*testing.T, net.Conn) {}, want: shs.ErrTimeout, most: shs.DefaultTimeout},
		{name: "hangs after the first message", peer: func(_ *testing.T, c net.Conn) { c.Read(make([]byte, 64)) }, want: shs.ErrTimeout, most: shs.DefaultTimeout},
		{name: "hangs up", peer: func(_ *testing.T, c net.Conn) { c.Close() }, want: shs.ErrRefused},
		{name: "speaks something else", peer: func(_ *testing.T, c net.Conn) {
			c.Read(make([]byte, 64))
			c.Write(make([]byte, 64))
		}, want: shs.ErrNetwork},
		{name: "has another key", peer: func(t *testing.T, c net.Conn) {
			if conn, err := shs.Server(t.Context(), c, shs.Config{Key: testKey(3), NetworkKey: testNetwork}); err == nil {
				conn.Close()
			}
		}, want: shs.ErrKey},
		{name: "is on another network", peer: func(t *testing.T, c net.Conn) {
			if conn, err := shs.Server(t.Context(), c, shs.Config{Key: testKey(2), NetworkKey: [32]byte{7}}); err == nil {
				conn.Close()
			}
		}, want: shs.ErrNetwork},
		{name: "does not admit us", peer: func(t *testing.T, c net.Conn) {
			refuse := func(identity.ID) error { return errBlocked }
			if conn, err := shs.Server(t.Context(), c, shs.Config{Key: testKey(2), NetworkKey: testNetwork, Admit: refuse}); err == nil {
				conn.Close()
			}
		}, want: shs.ErrRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memNet) {
				node := startNode(t, 1, newGraph(), nodeOptions{mem: m})
				addr := far("far", 2)
				var left func() bool
				m.fault(addr.HostPort(), func(context.Context) (net.Conn, error) {
					if c.fail != nil {
						return nil, c.fail
					}
					ours, theirs := net.Pipe()
					left = closed(theirs)
					go c.peer(t, theirs)
					return ours, nil
				})
				begun := time.Now()
				err := node.Connect(t.Context(), addr)
				if !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				t.Log(err)
				if took := time.Since(begun); took > c.most+time.Second {
					t.Errorf("it took %v", took)
				}
				if len(node.Peers()) != 0 {
					t.Errorf("%+v", node.Peers())
				}
				synctest.Wait()
				if left != nil && !left() {
					t.Error("the connection was left open")
				}
			})
		})
	}
}

// Dialling ends with the node, wherever it is; so does everything else that a node started: a bubble ends only when all of its
// goroutines have.
func TestRunEndsWhateverHangs(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		node := startNode(t, 1, newGraph(ids(2, 3)...), nodeOptions{mem: m})
		other := startNode(t, 2, newGraph(ids(1, 3)...), nodeOptions{mem: m})
		var ends []net.Conn
		m.fault(far("hangs", 50).HostPort(), func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			ends = append(ends, theirs)
			return ours, nil
		})
		m.fault(far("never", 51).HostPort(), func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		node.Keep(far("hangs", 50))
		node.Keep(far("never", 51))
		node.Keep(far("nobody", 52))
		node.connect(other)
		// A client that hangs in its handshake, a peer that reads nothing, one that is asked by history streams.
		silent, err := m.dial(t.Context(), node.addr.HostPort())
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		stuck := dialRaw(t, m, testKey(3), node)
		e := stuck.ebt()
		e.note(node.id, 0, true)
		for range 20 {
			stuck.history(`{"id":"%s","live":true}`, node.id)
		}
		stuck.valve.stop()
		h := newHistoryPeer(t, 4)
		h.accept(m, node)
		node.publish(300)
		pass(time.Second)
		begun := time.Now()
		node.stop()
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("stopping took %v", took)
		}
		for _, c := range ends {
			c.Close()
		}
		if err := node.Connect(t.Context(), other.addr); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
		node.Keep(far("late", 54))
		pass(time.Minute)
		if n := len(m.dialled(far("late", 54).HostPort())); n != 0 {
			t.Errorf("dialled %d times after the end", n)
		}
	})
}

// A peer's second address is tried when its first one, which somebody else is dialling, leads nowhere.
func TestAnotherAddressOfThePeer(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		node := startNode(t, 1, newGraph(ids(1, 2)...), nodeOptions{mem: m})
		other := startNode(t, 2, newGraph(ids(1, 2)...), nodeOptions{mem: m})
		stale := other.addr
		stale.Port = 9
		m.fault(stale.HostPort(), func(ctx context.Context) (net.Conn, error) {
			time.Sleep(time.Minute)
			return nil, errors.New("stale")
		})
		errs := make(chan error, 1)
		go func() { errs <- node.Connect(t.Context(), stale) }()
		synctest.Wait()
		if err := node.Connect(t.Context(), other.addr); err != nil {
			t.Errorf("the second address: %v", err)
		}
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "stale") {
			t.Errorf("the first address: %v", err)
		}
		onion := other.addr
		onion.Proto = "onion"
		if err := node.Connect(t.Context(), onion); err == nil || !strings.Contains(err.Error(), "onion") {
			t.Errorf("an address of another kind: %v", err)
		}
	})
}

// One connection is left when both sides dial at once, the same on both.
func TestBothDialAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		a := startNode(t, 1, newGraph(ids(1, 2)...), nodeOptions{mem: m})
		b := startNode(t, 2, newGraph(ids(1, 2)...), nodeOptions{mem: m})
		a.publish(5)
		b.publish(5)
		for range 10 {
			errs := make(chan error, 2)
			go func() { errs <- a.Connect(t.Context(), b.addr) }()
			go func() { errs <- b.Connect(t.Context(), a.addr) }()
			for range 2 {
				if err := <-errs; err != nil {
					t.Log(err)
				}
			}
			pass(time.Second)
			pa, pb := a.Peers(), b.Peers()
			if len(pa) != 1 || len(pb) != 1 || pa[0].Outgoing == pb[0].Outgoing {
				t.Fatalf("a has %+v, b has %+v", pa, pb)
			}
			a.Disconnect(b.id)
			pass(time.Second)
		}
		a.connect(b)
		pass(time.Second)
		a.holds(b.id, 5)
		b.holds(a.id, 5)
	})
}

// Connections that have not said who they are are bounded, in all and by address, and are dropped after a while; peers are
// bounded, too, but not those that we dial.
func TestConnectionsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, m *memNet) {
		node := startNode(t, 1, newGraph(), nodeOptions{mem: m, set: func(o *Options) { o.MaxPeers = 2 }})
		other := startNode(t, 9, newGraph(), nodeOptions{mem: m})
		var silent []net.Conn
		refused := 0
		for range 12 {
			c, err := m.dial(t.Context(), node.addr.HostPort())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			synctest.Wait()
			_ = c.SetWriteDeadline(time.Now().Add(time.Millisecond))
			if _, err := c.Write([]byte{1}); err != nil {
				refused++
			} else {
				silent = append(silent, c)
			}
		}
		if refused != 4 {
			t.Errorf("%d of 12 silent connections were refused, 8 are allowed from one address", refused)
		}
		pass(shs.DefaultTimeout + time.Second)
		for _, c := range silent {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
				t.Errorf("a silent connection is open still: %v", err)
			}
		}
		dialRaw(t, m, testKey(2), node)
		dialRaw(t, m, testKey(3), node)
		late, err := tryRaw(t, m, testKey(4), node)
		if err == nil {
			pass(time.Second)
			if late.connected() {
				t.Error("a third peer was let in, two are allowed")
			}
		}
		node.connect(other)
		pass(time.Second)
		if got := len(node.Peers()); got != 3 {
			t.Errorf("%d peers, want two and the one that we dialled", got)
		}
	})
}

// An attempt at something that is no WebSocket leaves no connection behind.
func TestNoWebSocketThere(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 16)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.Start()
	defer server.Close()
	node := startNode(t, 1, newGraph(), nodeOptions{})
	at := server.Listener.Addr().(*net.TCPAddr)
	addr := identity.Address{Proto: "ws", Host: at.IP.String(), Port: at.Port, Key: testKey(2).ID()}
	for range 3 {
		if err := node.Connect(t.Context(), addr); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("connected: %v", err)
		}
		select {
		case <-closed:
		case <-time.After(20 * time.Second):
			t.Fatal("the connection stays")
		}
	}
}
