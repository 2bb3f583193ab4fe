package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"charkha/identity"
	"charkha/index"
	"charkha/invite"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/replicate"
)

func (a *API) invites() []muxrpc.Method {
	code := args(either(need("code", "string|object", "the invite, or an object"), may("invite", "string", "the invite")))
	return []muxrpc.Method{
		{Name: "invite.accept", Kind: muxrpc.Async, Doc: "claim an invite and follow its pub; answers with the messages published, as an array", Args: code, Call: a.inviteAccept},
		{Name: "httpInviteClient.claim", Kind: muxrpc.Async, Doc: "claim a room's HTTP invite; answers with the room's address", Args: code, Call: a.claim},
		{Name: "charkha.acceptInvite", Kind: muxrpc.Async, Doc: "claim an invite of any kind, and tell what came of it: {kind, address, already, published, connected, problem}", Args: args(need("code", "string", "the invite")), Call: answer1(a.accept)},
	}
}

// Accepted is the answer to charkha.acceptInvite.
type Accepted struct {
	Kind      invite.Kind       `json:"kind"`    // "pub", "room" or "http", a room's too
	Address   identity.Address  `json:"address"` // of the pub or room
	Already   bool              `json:"already"` // the pub followed us before: the invite was not needed
	Published []json.RawMessage `json:"published"`
	Connected bool              `json:"connected"`
	Problem   string            `json:"problem,omitempty"` // why there is no connection yet, though the invite was accepted; or what is wrong with it
}

// inviteTime bounds the claiming of an invite.
const inviteTime = 30 * time.Second

// inviteCode reads the argument of invite.accept: the code, or {invite: code}.
func inviteCode(req *muxrpc.Request) (code string, err error) {
	var arg json.RawMessage
	if err := req.Decode(&arg); err != nil {
		return "", err
	}
	var in struct {
		Invite string `json:"invite"`
	}
	if json.Unmarshal(arg, &code) != nil && json.Unmarshal(arg, &in) == nil {
		code = in.Invite
	}
	if code == "" {
		return "", errors.New(req.Name + ": the invite code is missing")
	}
	return code, nil
}

func (a *API) inviteAccept(ctx context.Context, req *muxrpc.Request) (any, error) {
	code, err := inviteCode(req)
	if err != nil {
		return nil, err
	}
	accepted, err := a.accept(ctx, code)
	return accepted.Published, err
}

func (a *API) claim(ctx context.Context, req *muxrpc.Request) (any, error) {
	code, err := inviteCode(req)
	if err != nil {
		return nil, err
	}
	i, err := invite.Parse(code)
	if err != nil {
		return nil, err
	}
	if i.Kind != invite.HTTP {
		return nil, fmt.Errorf("%s is not claimed over HTTP", i)
	}
	accepted, err := a.accept(ctx, code)
	return accepted.Address.String(), err
}

// accept claims an invite. An error says that it was not accepted; what fails afterwards is told as the Problem.
func (a *API) accept(ctx context.Context, code string) (got Accepted, err error) {
	got.Published = []json.RawMessage{}
	i, err := invite.Parse(code)
	if err != nil {
		return got, err
	}
	got.Kind, got.Address = i.Kind, i.Address
	claim, cancel := context.WithTimeout(ctx, inviteTime)
	defer cancel()
	switch i.Kind {
	case invite.HTTP:
		if got.Address, err = invite.Claim(claim, i, a.Key.ID()); err != nil {
			return got, err
		}
	case invite.Pub:
		if got.Already, err = a.use(claim, i); err != nil {
			return got, err
		}
		if got.Published, err = a.befriend(ctx, i.Address); err != nil {
			return got, fmt.Errorf("the pub follows you now, but that you follow it could not be published: %w", err)
		}
	}
	a.Network.Offer(got.Address, replicate.KindPub, "invite")
	if err := a.Network.Connect(claim, got.Address); err != nil {
		got.Problem = advise(err).Error()
		return got, nil
	}
	got.Connected = true
	if i.Kind != invite.Pub && a.Network.AwaitRoom(claim, got.Address.Key) != nil {
		got.Problem = "it does not say that it is a room"
	}
	return got, nil
}

// use calls invite.use at a pub, as the invite's own key. It reports whether the pub followed us before.
func (a *API) use(ctx context.Context, i invite.Invite) (already bool, err error) {
	self := a.Key.ID()
	switch {
	case i.Address.Key == self:
		return false, errors.New("this is an invite of this node itself")
	case a.Index.Blocks(self, i.Address.Key):
		return false, fmt.Errorf("%s is blocked; following it ends that", i.Address.Key)
	case !a.Log.Confirmed(self):
		// An invite may be used once: not for a node that cannot publish that it follows the pub.
		return false, fmt.Errorf("%w: the invite was not used; %s", log.ErrUnconfirmed, unconfirmed)
	}
	err = a.Network.CallAs(ctx, i.Key(), i.Address, func(ctx context.Context, conn *muxrpc.Conn) error {
		_, err := conn.Async(ctx, "invite.use", map[string]identity.ID{"feed": self})
		return err
	})
	var remote *muxrpc.RemoteError
	switch {
	case err == nil:
		return false, nil
	case errors.As(err, &remote):
		if strings.Contains(remote.Message, invite.AlreadyFollowing) {
			return true, nil
		}
		return false, fmt.Errorf("%s: %s", i.Address.HostPort(), invite.Explain(remote.Message))
	case errors.Is(err, context.DeadlineExceeded):
		return false, fmt.Errorf("%s did not answer within %s", i.Address.HostPort(), inviteTime)
	}
	if means := invite.Explain(err.Error()); means != err.Error() {
		return false, fmt.Errorf("%s: %s (%w)", i.Address.HostPort(), means, err)
	}
	return false, advise(err)
}

// befriend publishes that we follow a pub, and where it is, as npm ssb-invite does; what was published before is not again.
func (a *API) befriend(ctx context.Context, pub identity.Address) (published []json.RawMessage, err error) {
	a.settle(ctx)
	published = []json.RawMessage{}
	publish := func(content any) error {
		data, err := json.Marshal(content)
		if err != nil {
			return err
		}
		msg, err := a.sign(data)
		if err == nil {
			published = append(published, msg)
		}
		return err
	}
	if !a.Index.Follows(a.Key.ID(), pub.Key) {
		type follow struct {
			Type       string      `json:"type"`
			Contact    identity.ID `json:"contact"`
			Following  bool        `json:"following"`
			Autofollow bool        `json:"autofollow"`
		}
		if err := publish(follow{"contact", pub.Key, true, true}); err != nil {
			return published, err
		}
	}
	if pub.Proto != "net" {
		return published, nil // the message has no room for another
	}
	announced, err := a.announced(ctx, pub)
	if err != nil || announced {
		return published, err
	}
	type place struct {
		Host string      `json:"host"`
		Port int         `json:"port"`
		Key  identity.ID `json:"key"`
	}
	return published, publish(struct {
		Type    string `json:"type"`
		Address place  `json:"address"`
	}{"pub", place{pub.Host, pub.Port, pub.Key}})
}

// announced reports whether our own feed says already where a pub is.
func (a *API) announced(ctx context.Context, pub identity.Address) (bool, error) {
	for m, err := range a.Index.Query(ctx, index.Query{Where: index.And(index.By(a.Key.ID()), index.OfType("pub"))}) {
		if err != nil {
			return false, err
		}
		var said struct {
			Address struct {
				Host string      `json:"host"`
				Port int         `json:"port"`
				Key  identity.ID `json:"key"`
			} `json:"address"`
		}
		if json.Unmarshal(m.Content(), &said) == nil && said.Address.Host == pub.Host && said.Address.Port == pub.Port && said.Address.Key == pub.Key {
			return true, nil
		}
	}
	return false, nil
}
