package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"charkha/identity"
	"charkha/muxrpc"
)

func (a *API) conn() []muxrpc.Method {
	return []muxrpc.Method{
		{Name: "conn.connect", Kind: muxrpc.Async, Doc: "connect to a multiserver address; answers when connected or says why not", Call: a.connect},
		{Name: "conn.disconnect", Kind: muxrpc.Async, Doc: "close the connection to an address or feed id", Call: a.disconnect},
		{Name: "address", Kind: muxrpc.Sync, Doc: "the multiserver addresses at which the node listens", Args: addressArgs, Call: a.address},
		{Name: "getAddress", Kind: muxrpc.Sync, Doc: "the same as address", Args: addressArgs, Call: a.address},
	}
}

func (a *API) connect(ctx context.Context, req *muxrpc.Request) (any, error) {
	var text string
	if err := req.Decode(&text); err != nil {
		return nil, err
	}
	addr, err := identity.ParseAddress(text)
	if err != nil {
		return nil, err
	}
	if addr.Key == a.Key.ID() {
		return nil, errors.New("that is this node's own address")
	}
	if a.Index.Blocks(a.Key.ID(), addr.Key) {
		return nil, fmt.Errorf("%s is blocked; following it ends that", addr.Key)
	}
	if err := a.Network.Connect(ctx, addr); ctx.Err() != nil {
		return nil, errStopping
	} else if err != nil {
		return nil, advise(err)
	}
	return addr.String(), nil
}

// advise adds to why a peer was not reached what to look at.
func advise(err error) error {
	var name *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w; is the peer running, and are host and port right?", err)
	case errors.As(err, &name):
		return fmt.Errorf("%w; is the host's name right?", err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%w; is the peer online, and does no firewall stand between?", err)
	}
	return err
}

func (a *API) disconnect(_ context.Context, req *muxrpc.Request) (any, error) {
	var text string
	if err := req.Decode(&text); err != nil {
		return nil, err
	}
	key, err := identity.ParseID(text)
	if err != nil {
		addr, err := identity.ParseAddress(text)
		if err != nil {
			return nil, fmt.Errorf("conn.disconnect: neither a feed id nor an address: %w", err)
		}
		key = addr.Key
	}
	return a.Network.Disconnect(key), nil
}

var addressArgs = []muxrpc.Arg{{Name: "scope", Type: "string", Optional: true, Doc: "for whom: device, local, private or public"}}

// address answers with the addresses for a scope joined by ";", or null when there are none.
func (a *API) address(_ context.Context, req *muxrpc.Request) (any, error) {
	var scope, text string
	if err := req.Decode(&scope); err != nil {
		return nil, err
	}
	all := a.Network.Addresses()
	if a.Addresses != nil {
		all = a.Addresses(scope)
	}
	for _, addr := range all {
		if text != "" {
			text += ";"
		}
		text += addr.String()
	}
	if text == "" {
		return nil, nil
	}
	return text, nil
}
