package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
	"charkha/replicate"
)

func (a *API) conn() []muxrpc.Method {
	kind := may("type", "string", "of which kind; they are not told apart")
	more := may("data", "any", "what else npm ssb-conn is told of the peer; it is not looked at")
	return []muxrpc.Method{
		{Name: "address", Kind: muxrpc.Sync, Doc: "the multiserver addresses at which the node listens, joined by ';'", Args: addressArgs, Call: a.address},
		{Name: "getAddress", Kind: muxrpc.Sync, Doc: "the same as address", Args: addressArgs, Call: a.address},
		{Name: "multiserver.address", Kind: muxrpc.Sync, Doc: "the same as address", Args: addressArgs, Call: a.address},
		{Name: "multiserver.parse", Kind: muxrpc.Sync, Doc: "the alternatives of an address, each an array of {name, data}", Args: args(need("address", "string", "a multiserver address")), Call: answer1(a.parseMulti)},

		{Name: "conn.connect", Kind: muxrpc.Async, Doc: "connect to an address; answers when connected or says why not", Args: args(addressArg, more), Call: a.connect},
		{Name: "conn.disconnect", Kind: muxrpc.Async, Doc: "close the connection to a peer", Args: args(peerArg), Call: a.disconnect},
		{Name: "conn.peers", Kind: muxrpc.Source, Doc: "[[address, {key, state, ...}], ...] of the connections, whole, with each change", Stream: a.connStream(inHub)},
		{Name: "conn.stagedPeers", Kind: muxrpc.Source, Doc: "the same of those who were found and are not connected", Stream: a.connStream(inStaging)},
		{Name: "conn.dbPeers", Kind: muxrpc.Sync, Doc: "the same of the addresses that are remembered, once", Call: answer0(a.dbPeers)},
		{Name: "conn.remember", Kind: muxrpc.Sync, Doc: "remember an address, and dial it when it is its turn", Args: args(peerArg, more), Call: a.told(func(addr identity.Address) any { a.Network.Offer(addr, replicate.KindOther, "stored"); return nil })},
		{Name: "conn.forget", Kind: muxrpc.Sync, Doc: "remember an address no longer", Args: args(peerArg), Call: a.told(func(addr identity.Address) any { a.Network.Forget(addr); return nil })},
		{Name: "conn.stage", Kind: muxrpc.Sync, Doc: "tell of an address that may be dialled; answers whether it was new", Args: args(peerArg, more), Call: a.told(a.stage)},
		{Name: "conn.unstage", Kind: muxrpc.Sync, Doc: "an address is not there any more; answers whether it was known", Args: args(peerArg), Call: a.told(a.unstage)},
		{Name: "conn.start", Kind: muxrpc.Sync, Doc: "dial peers again", Call: a.pause(false)},
		{Name: "conn.stop", Kind: muxrpc.Sync, Doc: "dial no more peers until conn.start", Call: a.pause(true)},

		{Name: "gossip.peers", Kind: muxrpc.Sync, Doc: "connections and known addresses, in the form of older programs", Call: answer0(a.gossipPeers)},
		{Name: "gossip.get", Kind: muxrpc.Sync, Doc: "one peer of gossip.peers", Args: args(peerArg), Call: a.gossipGet},
		{Name: "gossip.add", Kind: muxrpc.Sync, Doc: "remember an address; answers with the peer", Args: args(peerArg, may("source", "string", "how it was found; it is not kept")), Call: a.gossipAdd},
		{Name: "gossip.remove", Kind: muxrpc.Sync, Doc: "remember a peer's addresses no longer", Args: args(peerArg), Call: a.gossipRemove},
		{Name: "gossip.connect", Kind: muxrpc.Async, Doc: "connect to an address, or to a feed whose address is known", Args: args(peerArg), Call: a.gossipConnect},
		{Name: "gossip.disconnect", Kind: muxrpc.Async, Doc: "the same as conn.disconnect", Args: args(peerArg), Call: a.disconnect},
		{Name: "gossip.reconnect", Kind: muxrpc.Sync, Doc: "close all connections, and dial anew", Call: a.gossipReconnect},
		{Name: "gossip.enable", Kind: muxrpc.Sync, Doc: "dial peers", Args: args(kind), Call: a.gossipSwitch(false, "enabled")},
		{Name: "gossip.disable", Kind: muxrpc.Sync, Doc: "dial no peers", Args: args(kind), Call: a.gossipSwitch(true, "disabled")},
		{Name: "gossip.changes", Kind: muxrpc.Source, Doc: "{type, peer}: discover, remove, connect, connect-failure, disconnect", Stream: a.gossipChanges},
	}
}

// peerArgument reads an address or a feed id: as a text, or as {key}, {address} or {host, port, key}.
func peerArgument(req *muxrpc.Request) (addr identity.Address, key identity.ID, err error) {
	var arg json.RawMessage
	if err := req.Decode(&arg); err != nil {
		return addr, key, err
	}
	var text string
	if json.Unmarshal(arg, &text) != nil {
		var o struct {
			Address string `json:"address"`
			Host    string `json:"host"`
			Port    int    `json:"port"`
			Key     string `json:"key"`
		}
		if len(arg) == 0 || json.Unmarshal(arg, &o) != nil {
			return addr, key, fmt.Errorf("%s: neither an address nor a feed id", req.Name)
		}
		switch text = o.Key; {
		case o.Address != "":
			text = o.Address
		case o.Host != "":
			text = fmt.Sprintf("%s:%d:%s", o.Host, o.Port, o.Key)
		}
	}
	if key, err := identity.ParseID(text); err == nil {
		return addr, key, nil
	}
	multi, err := identity.ParseMulti(text)
	if err == nil {
		for _, alternative := range multi.Addresses() {
			if replicate.CanDial(alternative) == nil {
				return alternative, alternative.Key, nil
			}
		}
	}
	if addr, err = identity.ParseAddress(text); err != nil {
		return addr, key, fmt.Errorf("%s: neither a feed id nor an address: %w", req.Name, err)
	}
	return addr, addr.Key, nil
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
	return a.connectTo(ctx, addr)
}

func (a *API) connectTo(ctx context.Context, addr identity.Address) (any, error) {
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
	_, key, err := peerArgument(req)
	if err != nil {
		return nil, err
	}
	return a.Network.Disconnect(key), nil
}

var addressArgs = []muxrpc.Arg{{Name: "scope", Type: "string|object", Optional: true, Doc: "for whom: device, local, private or public; an object says nothing"}}

// address answers with the addresses for a scope joined by ";", or null when there are none. npm ssb-cli, told no scope, sends {}.
func (a *API) address(_ context.Context, req *muxrpc.Request) (any, error) {
	var arg any
	if err := req.Decode(&arg); err != nil {
		return nil, err
	}
	scope, _ := arg.(string)
	text := ""
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

// parseMulti takes an address apart as npm multiserver-address does.
func (a *API) parseMulti(_ context.Context, text string) (any, error) {
	multi, err := identity.ParseMulti(text)
	if err != nil {
		return nil, err
	}
	type part struct {
		Name string   `json:"name"`
		Data []string `json:"data"`
	}
	all := [][]part{}
	for _, alternative := range multi {
		var parts []part
		for _, p := range alternative {
			parts = append(parts, part{p.Name, append([]string{}, p.Data...)})
		}
		all = append(all, parts)
	}
	return all, nil
}

// connPeer is a peer as npm ssb-conn tells of it: [address, data].
type connPeer struct {
	addr string
	data connData
}

type connData struct {
	Key          identity.ID  `json:"key"`
	State        string       `json:"state,omitempty"` // "connected" or "connecting"
	Type         string       `json:"type,omitempty"`  // "lan", "room-attendant", "pub", "room"
	InferredType string       `json:"inferredType,omitempty"`
	Source       string       `json:"source,omitempty"`
	HubBirth     float64      `json:"hubBirth,omitempty"`   // ms
	HubUpdated   float64      `json:"hubUpdated,omitempty"` // ms
	StateChange  float64      `json:"stateChange,omitempty"`
	Failure      int          `json:"failure,omitempty"`
	Room         *identity.ID `json:"room,omitempty"`
	RoomName     string       `json:"roomName,omitempty"`
	Name         string       `json:"name,omitempty"`
	OnlineCount  *int         `json:"onlineCount,omitempty"`
	Ping         *connPing    `json:"ping,omitempty"`
	Autoconnect  bool         `json:"autoconnect,omitempty"`
}

type connPing struct {
	RTT  int64 `json:"rtt"`
	Skew int64 `json:"skew"`
}

// MarshalJSON implements json.Marshaler.
func (p connPeer) MarshalJSON() ([]byte, error) { return json.Marshal([]any{p.addr, p.data}) }

func ms(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli())
}

// remoteAddress is where a peer is, or seems to be when it dialled us.
func remoteAddress(p replicate.Peer) string {
	if p.Address != nil {
		return p.Address.String()
	}
	if host, port, err := net.SplitHostPort(p.Remote); err == nil {
		if n, err := strconv.Atoi(port); err == nil {
			return identity.Address{Proto: "net", Host: host, Port: n, Key: p.ID}.String()
		}
	}
	return p.Remote
}

func (a *API) connPeer(p replicate.Peer, rooms []replicate.Room) connPeer {
	d := connData{Key: p.ID, Source: p.Source, StateChange: ms(p.Since), Failure: p.Failures, Autoconnect: p.Kept}
	switch p.State {
	case replicate.Connected:
		d.State, d.HubBirth, d.HubUpdated = "connected", ms(p.Since), ms(p.Since)
	case replicate.Dialling:
		d.State = "connecting"
	}
	switch p.Kind {
	case replicate.KindLAN:
		d.Type = "lan"
	case replicate.KindRoom:
		d.Type = "room-attendant"
	case replicate.KindPub:
		d.Type = "pub"
	}
	d.InferredType = d.Type
	if p.Pinged {
		d.Ping = &connPing{p.RTT, p.Skew}
	}
	for _, r := range rooms {
		switch {
		case r.ID == p.ID:
			online := len(r.Attendants)
			d.Type, d.InferredType, d.Name, d.OnlineCount = "room", "room", r.Name, &online
		case p.Address != nil && p.Address.Proto == "tunnel" && p.Address.Room == r.ID:
			room := r.ID
			d.Room, d.RoomName = &room, r.Name
		}
	}
	return connPeer{remoteAddress(p), d}
}

// Where ssb-conn keeps a peer: the hub has the connections, staging who was found and is not connected.
func inHub(p replicate.Peer) bool {
	return p.State == replicate.Connected || p.State == replicate.Dialling
}
func inStaging(p replicate.Peer) bool { return p.State == replicate.Waiting }

func (a *API) connPeers(in func(replicate.Peer) bool) []connPeer {
	rooms := a.Network.Rooms()
	all := []connPeer{}
	for _, p := range a.Network.Peers() {
		if in(p) {
			all = append(all, a.connPeer(p, rooms))
		}
	}
	return all
}

func (a *API) connStream(in func(replicate.Peer) bool) func(context.Context, *muxrpc.Request, *muxrpc.Stream) error {
	return func(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
		var last string
		for {
			changed := a.Network.Changed()
			data, err := json.Marshal(a.connPeers(in))
			if err != nil {
				return err
			}
			if string(data) != last {
				if err := s.SendJSON(data); err != nil {
					return err
				}
				last = string(data)
			}
			if !pause(ctx, watchLeast, nil, nil) || !pause(ctx, time.Hour, changed, nil) {
				return nil
			}
		}
	}
}

// dbPeers are the addresses that outlive a restart: those of neighbours and of people in rooms do not.
func (a *API) dbPeers(context.Context) ([]connPeer, error) {
	return a.connPeers(func(p replicate.Peer) bool {
		return p.Address != nil && (p.Kind == replicate.KindPub || p.Kind == replicate.KindOther)
	}), nil
}

// told is a method that is told an address.
func (a *API) told(do func(identity.Address) any) func(context.Context, *muxrpc.Request) (any, error) {
	return func(_ context.Context, req *muxrpc.Request) (any, error) {
		addr, _, err := peerArgument(req)
		if err != nil {
			return nil, err
		}
		if addr.Key.IsZero() {
			return nil, fmt.Errorf("%s: a feed id is no address", req.Name)
		}
		return do(addr), nil
	}
}

func (a *API) knows(addr identity.Address) bool {
	return slices.ContainsFunc(a.Network.Peers(), func(p replicate.Peer) bool { return p.Address != nil && *p.Address == addr })
}

func (a *API) stage(addr identity.Address) any {
	known := a.knows(addr)
	kind := replicate.KindOther
	if addr.Proto == "tunnel" {
		kind = replicate.KindRoom
	}
	a.Network.Offer(addr, kind, "staged")
	return !known
}

func (a *API) unstage(addr identity.Address) any {
	known := a.knows(addr)
	a.Network.Withdraw(addr)
	return known
}

func (a *API) pause(stop bool) func(context.Context, *muxrpc.Request) (any, error) {
	return func(context.Context, *muxrpc.Request) (any, error) {
		a.Network.Pause(stop)
		return nil, nil
	}
}

// gossipPeer is a peer as npm ssb-gossip tells of it.
type gossipPeer struct {
	Address     string      `json:"address"`
	Key         identity.ID `json:"key"`
	Host        string      `json:"host,omitempty"`
	Port        int         `json:"port,omitempty"`
	Source      string      `json:"source"` // "pub", "local", "manual" or "stored"
	State       string      `json:"state,omitempty"`
	StateChange float64     `json:"stateChange,omitempty"` // ms
	Failure     int         `json:"failure"`
	Announcers  int         `json:"announcers"`
	Client      bool        `json:"client"` // we dialled
	Ping        *connPing   `json:"ping,omitempty"`
	Error       string      `json:"error,omitempty"`
}

func gossipOf(p replicate.Peer) gossipPeer {
	g := gossipPeer{
		Address: remoteAddress(p), Key: p.ID, StateChange: ms(p.Since), Failure: p.Failures, Announcers: 1, Client: p.Outgoing, Error: p.LastError,
	}
	if addr, err := identity.ParseAddress(g.Address); err == nil && addr.Proto == "net" {
		g.Host, g.Port = addr.Host, addr.Port
	}
	switch {
	case p.Kept, p.Source == "operator":
		g.Source = "manual"
	case p.Kind == replicate.KindLAN:
		g.Source = "local"
	case p.Source == replicate.FromMessage, p.Kind == replicate.KindPub:
		g.Source = "pub"
	default:
		g.Source = "stored"
	}
	switch p.State {
	case replicate.Connected:
		g.State = "connected"
	case replicate.Dialling:
		g.State = "connecting"
	}
	if p.Pinged {
		g.Ping = &connPing{p.RTT, p.Skew}
	}
	return g
}

func (a *API) gossipPeers(context.Context) ([]gossipPeer, error) {
	all := []gossipPeer{}
	for _, p := range a.Network.Peers() {
		all = append(all, gossipOf(p))
	}
	return all, nil
}

// gossipFind finds the peer with a key: its connection, or its first address.
func (a *API) gossipFind(key identity.ID) (p replicate.Peer, ok bool) {
	for _, p := range a.Network.Peers() {
		if p.ID == key {
			return p, true
		}
	}
	return p, false
}

func (a *API) gossipGet(_ context.Context, req *muxrpc.Request) (any, error) {
	_, key, err := peerArgument(req)
	if err != nil {
		return nil, err
	}
	if p, ok := a.gossipFind(key); ok {
		return gossipOf(p), nil
	}
	return undefined, nil
}

func (a *API) gossipAdd(_ context.Context, req *muxrpc.Request) (any, error) {
	addr, key, err := peerArgument(req)
	if err != nil {
		return nil, err
	}
	if addr.Key.IsZero() {
		return nil, fmt.Errorf("gossip.add: %s is a feed id, not an address", key)
	}
	if key == a.Key.ID() {
		return nil, nil // as npm ssb-gossip
	}
	a.Network.Offer(addr, replicate.KindOther, "manual")
	if p, ok := a.gossipFind(key); ok {
		return gossipOf(p), nil
	}
	return nil, nil
}

func (a *API) gossipRemove(_ context.Context, req *muxrpc.Request) (any, error) {
	_, key, err := peerArgument(req)
	if err != nil {
		return nil, err
	}
	for _, p := range a.Network.Peers() {
		if p.ID == key && p.Address != nil {
			a.Network.Forget(*p.Address)
		}
	}
	return nil, nil
}

func (a *API) gossipConnect(ctx context.Context, req *muxrpc.Request) (any, error) {
	addr, key, err := peerArgument(req)
	if err != nil {
		return nil, err
	}
	if addr.Key.IsZero() {
		p, ok := a.gossipFind(key)
		switch {
		case ok && p.State == replicate.Connected:
			return remoteAddress(p), nil
		case !ok || p.Address == nil:
			return nil, fmt.Errorf("no known address for peer:%s", key)
		}
		addr = *p.Address
	}
	return a.connectTo(ctx, addr)
}

func (a *API) gossipReconnect(context.Context, *muxrpc.Request) (any, error) {
	for _, p := range a.Network.Peers() {
		if p.State == replicate.Connected {
			a.Network.Disconnect(p.ID)
		}
	}
	a.Network.NetworkChanged()
	return nil, nil
}

func (a *API) gossipSwitch(stop bool, did string) func(context.Context, *muxrpc.Request) (any, error) {
	return func(_ context.Context, req *muxrpc.Request) (any, error) {
		what := "global"
		if err := req.Decode(&what); err != nil {
			return nil, err
		}
		a.Network.Pause(stop)
		return did + " gossip type " + what, nil
	}
}

// gossipChanges compares what it sees with what it saw: a change and its opposite in between are not told.
func (a *API) gossipChanges(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	type change struct {
		Type string     `json:"type"`
		Peer gossipPeer `json:"peer"`
	}
	var was map[identity.ID]gossipPeer
	for {
		changed := a.Network.Changed()
		now := map[identity.ID]gossipPeer{}
		for _, p := range a.Network.Peers() {
			if _, ok := now[p.ID]; !ok { // a connection comes before the other addresses of its key
				now[p.ID] = gossipOf(p)
			}
		}
		var all []change
		for id, p := range now {
			switch old, known := was[id]; {
			case was == nil:
			case p.State == "connected" && old.State != "connected":
				all = append(all, change{"connect", p})
			case !known:
				all = append(all, change{"discover", p})
			case old.State == "connected" && p.State != "connected":
				all = append(all, change{"disconnect", p})
			case p.Failure > old.Failure:
				all = append(all, change{"connect-failure", p})
			}
		}
		for id, p := range was {
			if _, ok := now[id]; ok {
				continue
			}
			if p.State == "connected" {
				p.State = ""
				all = append(all, change{"disconnect", p})
			}
			all = append(all, change{"remove", p})
		}
		was = now
		for _, c := range all {
			if err := sendJSON(s, c); err != nil {
				return err
			}
		}
		if !pause(ctx, watchLeast, nil, nil) || !pause(ctx, time.Hour, changed, nil) {
			return nil
		}
	}
}
