package replicate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"

	"charkha/identity"
	"charkha/replicate/shs"
)

// dialTimeout bounds the making of a TCP connection.
const dialTimeout = 15 * time.Second

// dialling is an attempt that others who want the same peer wait for.
type dialling struct {
	addr identity.Address
	done chan struct{}
	err  error // set before done is closed
}

// CanDial returns an error when addresses of this kind are not dialled.
func CanDial(addr identity.Address) error {
	switch addr.Proto {
	case "net", "", "tunnel", "ws", "wss":
		return nil
	}
	return fmt.Errorf("dial %s: addresses of the kind %q are not supported, only \"net\", \"tunnel\", \"ws\" and \"wss\"", addr, addr.Proto)
}

// Connect connects to an address, once Run has begun. It returns nil when the connection can be used, or is there already, and
// else says why not.
func (n *Network) Connect(ctx context.Context, addr identity.Address) error {
	if err := CanDial(addr); err != nil {
		return err
	}
	if addr.Key == n.self {
		return errors.New("that is our own key")
	}
	if n.o.Graph.Blocks(n.self, addr.Key) {
		return fmt.Errorf("%s: %w", addr.Key, errBlocked)
	}
	select {
	case <-n.running:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		n.mu.Lock()
		if n.stopped {
			n.mu.Unlock()
			return ErrStopped
		}
		if n.sessions[addr.Key] != nil {
			n.mu.Unlock()
			return nil
		}
		d := n.dialling[addr.Key]
		if d == nil {
			d = &dialling{addr: addr, done: make(chan struct{})}
			n.dialling[addr.Key] = d
			n.tasks.Go(func() { n.dial(d) })
		}
		n.mu.Unlock()
		select {
		case <-d.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if d.err == nil || d.addr == addr {
			return d.err
		}
		// Another address of the same peer did not lead there. This one has not been tried.
	}
}

// dial makes one attempt, and then serves the connection.
func (n *Network) dial(d *dialling) {
	s, err := n.reach(n.ctx, d.addr)
	n.mu.Lock()
	delete(n.dialling, d.addr.Key)
	n.mu.Unlock()
	d.err = err
	close(d.done)
	if s != nil {
		s.run(n.ctx)
	}
}

// reach dials and enters the connection. No session and no error: the peer reached us meanwhile.
func (n *Network) reach(ctx context.Context, addr identity.Address) (*session, error) {
	socket, err := n.dialSocket(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	conn, err := shs.Client(ctx, socket, shs.Config{Key: n.o.Key, NetworkKey: n.o.NetworkKey}, addr.Key)
	if err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.sessions[addr.Key] != nil {
			return nil, nil // they refuse it because they dialled us at the same time, and that one stays
		}
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	s := n.newSession(conn, addr, true)
	if err := n.enter(s); errors.Is(err, errOther) {
		conn.Close()
		return nil, nil
	} else if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return s, nil
}

// dialSocket makes the connection below the handshake.
func (n *Network) dialSocket(ctx context.Context, addr identity.Address) (net.Conn, error) {
	if addr.Proto == "tunnel" {
		return n.dialTunnel(ctx, addr)
	}
	if addr.Proto == "ws" || addr.Proto == "wss" {
		return n.dialWebSocket(ctx, addr)
	}
	return n.o.dial(ctx, addr.HostPort())
}

// dialWebSocket makes a WebSocket connection, as npm multiserver's ws plugin does: binary messages, one after the other.
func (n *Network) dialWebSocket(ctx context.Context, addr identity.Address) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	client := &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment,
			// What answers and is no WebSocket would else be waited for until it hangs up.
			DisableKeepAlives: true,
			DialContext:       func(ctx context.Context, _, hostport string) (net.Conn, error) { return n.o.dial(ctx, hostport) },
		},
		// A WebSocket is where it is said to be: whoever is there must not send us elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	url := url.URL{Scheme: addr.Proto, Host: addr.HostPort(), Path: "/"}
	c, resp, err := websocket.Dial(ctx, url.String(), &websocket.DialOptions{HTTPClient: client})
	if resp != nil && resp.Body != nil && err != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		return nil, err
	}
	c.SetReadLimit(maxWebSocketMessage)
	return websocket.NetConn(context.Background(), c, websocket.MessageBinary), nil // it ends when it is closed
}

// maxWebSocketMessage bounds a message of a peer: each holds a piece of the box stream, and those are some kilobytes.
const maxWebSocketMessage = 1 << 20
