package replicate

import (
	"context"
	"sync"

	"charkha/identity"
	"charkha/muxrpc"
)

// EachPeer calls do for each peer that is connected now, with the connection, each on a goroutine of its own, and returns when
// all have returned. What do opens on it ends with the connection.
func (n *Network) EachPeer(ctx context.Context, do func(ctx context.Context, peer identity.ID, conn *muxrpc.Conn)) {
	n.mu.Lock()
	all := make([]*session, 0, len(n.sessions))
	for _, s := range n.sessions {
		all = append(all, s)
	}
	n.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range all {
		wg.Go(func() { do(ctx, s.id, s.conn) })
	}
	wg.Wait()
}
