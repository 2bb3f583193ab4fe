package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
)

// neighbours has the methods of npm ssb-lan, and those of ssb-plugins, which have nothing to do here.
func (a *API) neighbours() []muxrpc.Method {
	plugin := args(may("name", "string", "the plugin"), may("opts", "any", "options"))
	var noPlugins = func(context.Context, *muxrpc.Request) (any, error) { return nil, errNoPlugins }
	return []muxrpc.Method{
		{Name: "lan.start", Kind: muxrpc.Sync, Doc: "look for neighbours: it is done from the start, unless the node was started with --no-lan", Call: a.lanStart},
		{Name: "lan.stop", Kind: muxrpc.Sync, Doc: "is not supported: --no-lan is for the start", Call: func(context.Context, *muxrpc.Request) (any, error) {
			return nil, errors.New("lan.stop is not supported: start the node with --no-lan")
		}},
		{Name: "lan.discoveredPeers", Kind: muxrpc.Source, Doc: "{address, verified} of each neighbour that is found", Stream: a.discoveredPeers},
		{Name: "plugins.install", Kind: muxrpc.Source, Doc: "is not supported", Args: plugin, Stream: func(context.Context, *muxrpc.Request, *muxrpc.Stream) error { return errNoPlugins }},
		{Name: "plugins.uninstall", Kind: muxrpc.Source, Doc: "is not supported", Args: plugin, Stream: func(context.Context, *muxrpc.Request, *muxrpc.Stream) error { return errNoPlugins }},
		{Name: "plugins.enable", Kind: muxrpc.Async, Doc: "is not supported", Args: plugin, Call: noPlugins},
		{Name: "plugins.disable", Kind: muxrpc.Async, Doc: "is not supported", Args: plugin, Call: noPlugins},
	}
}

var errNoPlugins = errors.New("not supported: this node has no plugins; see 'charkha start --help' for what can be switched")

func (a *API) lanStart(context.Context, *muxrpc.Request) (any, error) {
	if r := a.LAN(); r.Problem != "" {
		return nil, fmt.Errorf("lan.start: %s", r.Problem)
	}
	return nil, nil
}

// neighboursEvery is how often it is looked for new neighbours to tell of.
const neighboursEvery = time.Second

func (a *API) discoveredPeers(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	type found struct {
		Address  identity.Address `json:"address"`
		Verified bool             `json:"verified"`
	}
	told := map[found]bool{}
	for {
		there := map[found]bool{}
		for _, n := range a.LAN().Neighbours {
			f := found{n.Address, n.Verified}
			there[f] = true
			if told[f] {
				continue
			}
			data, err := json.Marshal(f)
			if err != nil {
				return err
			}
			if err := s.SendJSON(data); err != nil {
				return err
			}
		}
		told = there // who goes and comes back is told again
		if !pause(ctx, neighboursEvery, nil, nil) {
			return nil
		}
	}
}
