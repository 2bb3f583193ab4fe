package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"charkha/identity"
	"charkha/muxrpc"
)

// room has the methods of npm ssb-room-client.
func (a *API) room() []muxrpc.Method {
	roomArg, alias := need("room", "FeedId", "the room's id"), need("alias", "string", "the name")
	return []muxrpc.Method{
		{Name: "roomClient.registerAlias", Kind: muxrpc.Async, Doc: "give our feed a name in a room that we are in; answers with its web address", Args: args(roomArg, alias), Call: a.registerAlias},
		{Name: "roomClient.revokeAlias", Kind: muxrpc.Async, Doc: "give a name in a room up", Args: args(roomArg, alias), Call: a.revokeAlias},
		{Name: "roomClient.consumeAliasUri", Kind: muxrpc.Async, Doc: "connect to the person who has an alias; answers with the feed id", Args: args(need("uri", "string", "the URI or web address of the alias")), Call: a.consumeAlias},
		{Name: "roomClient.discoveredAttendants", Kind: muxrpc.Source, Doc: "{address, key, room, roomName} of each who is or comes into a room that we are in", Stream: a.discoveredAttendants},
		{Name: "charkha.aliases", Kind: muxrpc.Async, Doc: "the names that a feed has in a room; not all rooms tell", Args: args(roomArg, may("feed", "FeedId", "the feed; ours, if it is missing")), Call: a.aliases},
	}
}

// roomAnd reads a room's id and the text after it.
func roomAnd(req *muxrpc.Request, what string) (room identity.ID, text string, err error) {
	if err := req.Decode(&room, &text); err != nil {
		return room, "", err
	}
	if room.IsZero() || text == "" {
		return room, "", fmt.Errorf("%s: the room's id and the %s are both needed", req.Name, what)
	}
	return room, text, nil
}

func (a *API) registerAlias(ctx context.Context, req *muxrpc.Request) (any, error) {
	room, alias, err := roomAnd(req, "alias")
	if err != nil {
		return nil, err
	}
	page, err := a.Network.RegisterAlias(ctx, room, alias)
	if err != nil {
		return nil, err
	}
	return page.String(), nil
}

func (a *API) revokeAlias(ctx context.Context, req *muxrpc.Request) (any, error) {
	room, alias, err := roomAnd(req, "alias")
	if err != nil {
		return nil, err
	}
	return true, a.Network.RevokeAlias(ctx, room, alias)
}

func (a *API) aliases(ctx context.Context, req *muxrpc.Request) (any, error) {
	var room identity.ID
	of := a.Key.ID()
	if err := req.Decode(&room, &of); err != nil {
		return nil, err
	}
	if room.IsZero() {
		return nil, errors.New("charkha.aliases: the room's id is missing")
	}
	names, err := a.Network.Aliases(ctx, room, of)
	return append([]string{}, names...), err
}

func (a *API) consumeAlias(ctx context.Context, req *muxrpc.Request) (any, error) {
	var text string
	if err := req.Decode(&text); err != nil {
		return nil, err
	}
	if text == "" {
		return nil, errors.New("roomClient.consumeAliasUri: the alias is missing")
	}
	id, err := a.Network.ConnectAlias(ctx, text)
	if ctx.Err() != nil {
		return nil, errStopping
	}
	if err != nil {
		return nil, advise(err)
	}
	return id, nil
}

func (a *API) discoveredAttendants(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	type attendant struct {
		Address identity.Address `json:"address"`
		Key     identity.ID      `json:"key"`
		Room    identity.ID      `json:"room"`
		Name    string           `json:"roomName"`
	}
	told := map[attendant]bool{}
	for {
		changed := a.Network.Changed()
		there := map[attendant]bool{}
		for _, r := range a.Network.Rooms() {
			for _, id := range r.Attendants {
				if id == a.Key.ID() {
					continue
				}
				at := attendant{identity.Tunnel(r.ID, id), id, r.ID, r.Name}
				there[at] = true
				if told[at] {
					continue
				}
				data, err := json.Marshal(at)
				if err != nil {
					return err
				}
				if err := s.SendJSON(data); err != nil {
					return err
				}
			}
		}
		told = there // who leaves and comes back is told again
		if !pause(ctx, watchLeast, nil, nil) || !pause(ctx, watchMost, changed, nil) {
			return nil
		}
	}
}
