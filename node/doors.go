package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"charkha/identity"
	"charkha/log"
	"charkha/replicate"
	"charkha/web"
)

// openWeb listens where Config.WS says.
func (n *Node) openWeb() error {
	if n.cfg.WS == "" {
		return nil
	}
	host, port, err := web.ParseListen(n.cfg.WS)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil && n.cfg.WSOptional {
		n.log.Warn("apps cannot reach this node by WebSocket; does another node have the address? see --ws", "addr", n.cfg.WS, "err", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", n.cfg.WS, err)
	}
	n.webListener, n.webHost = l, host
	n.web = web.New(web.Options{Serve: n.serveWeb, Message: n.publicMessage, Blobs: webBlobs{n.blobs, n.api.WantLinked}, Logger: n.log})
	n.log.Info("apps can connect by WebSocket", "addr", n.webAddress())
	return nil
}

// serveWeb serves who came by WebSocket: with the node's own key or a master's as a local program, else as a peer.
func (n *Node) serveWeb(ctx context.Context, conn net.Conn) {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := n.network.ServePeer(ctx, conn); err != nil && ctx.Err() == nil {
		n.log.Debug("websocket turned away", "err", err)
	}
}

// publicMessage is a message as everybody may see it.
func (n *Node) publicMessage(id identity.MsgID) ([]byte, error) {
	m, err := n.feeds.Get(id)
	if errors.Is(err, log.ErrNotFound) {
		return nil, fs.ErrNotExist
	}
	return m.Value(), err
}

// webAddress is where the door for WebSockets can be dialled.
func (n *Node) webAddress() identity.Address {
	host, port, _ := net.SplitHostPort(n.webListener.Addr().String())
	p, _ := strconv.Atoi(port)
	if n.webHost != "" && net.ParseIP(n.webHost) == nil {
		host = n.webHost // a name
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		for _, addr := range n.network.Addresses() {
			if ip, err := netip.ParseAddr(addr.Host); err == nil && !ip.IsLoopback() {
				host = addr.Host
				break
			}
		}
	}
	return identity.Address{Proto: "ws", Host: host, Port: p, Key: n.key.ID()}
}

// addressesFor are the addresses at which the node can be reached in a scope, as npm multiserver knows them: "public" from
// everywhere, "local" and "private" from the same network, "device" and "" from the same computer, too. There are none in others.
func (n *Node) addressesFor(scope string) (all []identity.Address) {
	for _, addr := range n.Addresses() {
		if reaches(addr, scope) {
			all = append(all, addr)
		}
	}
	return all
}

// reaches reports whether an address of ours is for a scope. Names with a dot are taken for public.
func reaches(addr identity.Address, scope string) bool {
	ip, err := netip.ParseAddr(addr.Host)
	isIP := err == nil
	switch scope {
	case "", "device":
		return true
	case "local", "private":
		return isIP && !ip.IsLoopback() || !isIP && addr.Host != "localhost"
	case "public":
		return isIP && ip.IsGlobalUnicast() && !ip.IsPrivate() || !isIP && strings.Contains(addr.Host, ".")
	}
	return false
}

// Addresses are where the node listens: for peers, and then, if that door is open, for WebSockets.
func (n *Node) Addresses() []identity.Address {
	all := n.network.Addresses()
	if n.webListener != nil {
		all = append(all, n.webAddress())
	}
	return all
}

// checkDoors looks at what Config says of doors.
func (cfg *Config) checkDoors() error {
	for _, addr := range cfg.Listen {
		if _, _, err := replicate.ParseListen(addr); err != nil {
			return fmt.Errorf("node: listen: %w", err)
		}
	}
	if cfg.WS != "" {
		if _, _, err := web.ParseListen(cfg.WS); err != nil {
			return fmt.Errorf("node: ws: %w", err)
		}
	}
	return nil
}
