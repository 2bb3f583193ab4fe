package api

import (
	"context"
	"errors"
	"slices"
	"sync"

	"charkha/identity"
	"charkha/muxrpc"
)

// purges has the methods of npm ssb-blobs-purge 2. What leaves, and in which order, is the store's business: to start a purge is to give
// it a limit, and to stop it is to take that back.
func (a *API) purges() []muxrpc.Method {
	p := &purge{api: a, news: make(chan struct{})}
	return []muxrpc.Method{
		{Name: "blobsPurge.start", Kind: muxrpc.Sync, Doc: "let blobs of others go, now and from now on, that take more room than a limit", Args: opts(
			may("storageLimit", "number", "the limit in bytes, 10 GB if it is missing; one that the node was started with holds, too"), may("cpuMax", "number", "is not needed here"),
			may("maxPause", "number", "is not needed here")), Call: p.start},
		{Name: "blobsPurge.stop", Kind: muxrpc.Sync, Doc: "take that limit back", Call: p.stop},
		{Name: "blobsPurge.changes", Kind: muxrpc.Source, Doc: `{event: "resumed"}, {event: "deleted", blobId}, {event: "paused"} as it goes`, Stream: p.changes},
	}
}

// purgeLimit is npm ssb-blobs-purge's, in bytes.
const purgeLimit = 10e9

// maxPurged bounds the events that are kept for who is slow to read them; older ones are lost to him.
const maxPurged = 10_000

// purge is what of blobsPurge outlasts a call.
type purge struct {
	api *API

	working sync.Mutex // one start or stop at a time

	mu     sync.Mutex
	events []purgeEvent  // the last ones
	first  int           // number of events[0]
	news   chan struct{} // closed at the next event
}

type purgeEvent struct {
	Event  string          `json:"event"`
	BlobID identity.BlobID `json:"blobId,omitzero"`
}

func (p *purge) tell(events ...purgeEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, events...)
	if n := len(p.events) - maxPurged; n > 0 {
		p.events, p.first = slices.Clone(p.events[n:]), p.first+n
	}
	close(p.news)
	p.news = make(chan struct{})
}

func (p *purge) start(_ context.Context, req *muxrpc.Request) (any, error) {
	var o struct {
		StorageLimit *float64 `json:"storageLimit"`
	}
	if err := req.Decode(&o); err != nil {
		return nil, err
	}
	limit := int64(purgeLimit)
	if o.StorageLimit != nil {
		if !(*o.StorageLimit >= 0 && *o.StorageLimit < 1e18) {
			return nil, errors.New("blobsPurge.start: storageLimit is no number of bytes")
		}
		limit = max(int64(*o.StorageLimit), 1) // 0 would be no limit
	}
	if b := p.api.BlobBudget; b > 0 {
		limit = min(limit, b)
	}
	return nil, p.set(limit, true)
}

func (p *purge) stop(context.Context, *muxrpc.Request) (any, error) {
	return nil, p.set(p.api.BlobBudget, false)
}

// set changes the store's budget, and tells what left.
func (p *purge) set(budget int64, tell bool) error {
	store := p.api.Blobs
	if store == nil {
		return errNoBlobs
	}
	p.working.Lock()
	defer p.working.Unlock()
	var before []identity.BlobID
	if tell {
		for info := range store.All() {
			before = append(before, info.ID)
		}
		p.tell(purgeEvent{Event: "resumed"})
	}
	store.SetBudget(budget)
	if !tell {
		return nil
	}
	var left []purgeEvent
	for _, id := range before {
		if _, ok := store.Stat(id); !ok {
			left = append(left, purgeEvent{"deleted", id})
		}
	}
	p.tell(append(left, purgeEvent{Event: "paused"})...)
	return nil
}

func (p *purge) changes(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	p.mu.Lock()
	next := p.first + len(p.events)
	p.mu.Unlock()
	for {
		p.mu.Lock()
		next = max(next, p.first)
		events, news := slices.Clone(p.events[next-p.first:]), p.news
		p.mu.Unlock()
		for _, e := range events {
			if err := sendJSON(s, e); err != nil {
				return err
			}
		}
		next += len(events)
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		}
	}
}
