package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"charkha/api"
	"charkha/blob"
	"charkha/identity"
	"charkha/index"
	"charkha/log"
	"charkha/replicate"
)

// openBlobs opens the store of blobs. Nobody else uses it while Open runs.
func (n *Node) openBlobs() (err error) {
	n.blobs, err = blob.Open(blob.Options{
		Dir: filepath.Join(n.cfg.Dir, "blobs"), Max: n.cfg.BlobMax, AutoMax: max(n.cfg.BlobAuto, 0), Budget: n.cfg.BlobBudget, Rank: n.rank, Check: n.cfg.Check, Logger: n.log,
	})
	return err
}

// rank is how far somebody is, for who leaves first when the budget for blobs is full.
func (n *Node) rank(author identity.ID) int {
	if hops, ok := n.index.Hops(author); ok && hops >= 0 {
		return hops
	}
	return -1
}

// blobWait is for how long a blob that somebody asks for over HTTP is waited for. JS nodes wait for ever; browsers have few
// connections to one host, and pages many pictures.
const blobWait = 2 * time.Minute

// webBlobs serves blobs over HTTP: one that is not here is fetched from peers while who asked waits.
type webBlobs struct {
	store *blob.Store
	want  func(ctx context.Context, id identity.BlobID, link string) error
}

func (w webBlobs) Open(ctx context.Context, id identity.BlobID, link string) (io.ReadSeekCloser, error) {
	r, err := w.store.Open(ctx, id)
	if !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	waiting, cancel := context.WithTimeout(ctx, blobWait)
	defer cancel()
	if err := w.want(waiting, id, link); err != nil && ctx.Err() != nil {
		return nil, err
	}
	return w.store.Open(ctx, id) // fs.ErrNotExist, too, if too many others are wanted
}

// Blobs that people in range link are fetched without being asked for: those of new messages at once, those of older ones the
// newest first, as long as there is room and few are waited for.
const (
	// linkRecent is how old a message may be for its blobs to be fetched as soon as it arrives. Those of older ones come by time: in
	// a sync the oldest messages arrive first, and all that they ever linked would be fetched, only to leave again.
	linkRecent = 14 * 24 * time.Hour
	// linkPause is the least time between two looks at what arrived.
	linkPause = 500 * time.Millisecond
	// linkSync is how many messages arrive between two looks in a sync: their blobs are found by time then, the newest first.
	linkSync = 2000
	// olderEvery is the time between two looks at older messages, olderLooked how many are looked at each time, and olderReach in all.
	olderEvery  = 5 * time.Second
	olderLooked = 2500
	olderReach  = 100_000
	// olderWaiting is how many blobs may be waited for when older ones are wanted, too: those that are wanted for longer than
	// olderPatience do not count, as nobody may have them any more.
	olderWaiting  = 500
	olderPatience = 10 * time.Minute
)

// fetchLinked has blobs fetched that people in range link, until ctx ends.
func (n *Node) fetchLinked(ctx context.Context) {
	at := n.feeds.Len()
	older := olderLinks{left: olderReach}
	for ctx.Err() == nil {
		if end := n.feeds.Len(); end > at {
			if end > at+linkSync || n.wishForNew(at, end) {
				older = olderLinks{left: olderReach, last: older.last}
			}
			at = end
		}
		wait, cancel := ctx, func() {}
		if older.left > 0 {
			if time.Since(older.last) >= olderEvery && n.index.Cursor() >= at && n.somebodyIsThere() && n.roomForOlder(time.Now()) {
				n.lookForOlder(ctx, &older)
			}
			wait, cancel = context.WithTimeout(ctx, olderEvery)
		}
		for range n.feeds.Follow(wait, at) {
			break // something arrived, or the time is over
		}
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(linkPause):
		}
	}
}

// wishForNew has blobs fetched that messages link which arrived between two places. old: some link blobs, and are not recent.
func (n *Node) wishForNew(from, to log.Offset) (old bool) {
	recent := float64(time.Now().Add(-linkRecent).UnixMilli())
	for m, err := range n.feeds.Arrivals(from, false) {
		if err != nil {
			n.log.Warn("blobs of new messages are not looked for", "err", err)
			return old
		}
		if m.Offset() >= to {
			return old
		}
		links := n.linked(&m)
		if len(links) > 0 && index.PointOf(&m).Time < recent {
			old = true
			continue
		}
		n.wish(links)
	}
	return old
}

// olderLinks is how far the look for blobs of older messages has come.
type olderLinks struct {
	behind *index.Point // of the last message that was looked at; nil: none was
	left   int          // messages to look at
	last   time.Time
}

// somebodyIsThere reports whether there is a peer to ask.
func (n *Node) somebodyIsThere() bool {
	return slices.ContainsFunc(n.network.Peers(), func(p replicate.Peer) bool { return p.State == replicate.Connected })
}

// roomForOlder reports whether a tenth of the budget is free, and not too many blobs are waited for.
func (n *Node) roomForOlder(now time.Time) bool {
	if u := n.blobs.Usage(); u.Budget > 0 && u.Free <= u.Budget/10 {
		return false
	}
	waiting := 0
	for _, w := range n.network.BlobWants() {
		if now.Sub(w.Since) < olderPatience {
			waiting++
		}
	}
	return waiting < olderWaiting
}

// lookForOlder has some blobs fetched of older messages.
func (n *Node) lookForOlder(ctx context.Context, older *olderLinks) {
	older.last = time.Now()
	var found []linkedBlob
	looked := 0
	for m, err := range n.index.Query(ctx, index.Query{Claimed: true, Reverse: true, Behind: older.behind, Limit: min(olderLooked, older.left)}) {
		if err != nil {
			n.log.Warn("blobs of older messages are not looked for", "err", err)
			break
		}
		looked++
		point := index.PointOf(&m)
		older.behind = &point
		for _, l := range n.linked(&m) {
			if _, here := n.blobs.Stat(l.id); !here && !n.blobs.Refused(l.id) {
				found = append(found, l)
			}
		}
		if len(found) >= olderWaiting {
			break
		}
	}
	if older.left -= looked; looked == 0 {
		older.left = 0
	}
	slices.Reverse(found) // what is wished last is fetched first
	n.wish(found)
}

// linkedBlob is a blob that a message links.
type linkedBlob struct {
	id  identity.BlobID
	why blob.Why
}

func (n *Node) wish(links []linkedBlob) {
	for _, l := range links {
		if n.blobs.Refused(l.id) {
			continue
		}
		n.network.WishBlob(l.id, l.why)
	}
}

// linked lists the blobs that a message links, if it is of somebody in range.
func (n *Node) linked(m *log.Message) (all []linkedBlob) {
	if !n.index.Wanted(m.Author()) {
		return nil
	}
	content := m.Content()
	if m.Private() {
		var ok bool
		if content, ok = api.Unbox(m, n.key); !ok {
			return nil
		}
	}
	own := m.Author() == n.key.ID()
	for _, id := range blobIDs(content) {
		all = append(all, linkedBlob{id, blob.Why{Own: own, Author: m.Author()}})
	}
	return all
}

// linkedMost is how many blobs of one message are fetched: more than fit into one as people write them.
const linkedMost = 50

// blobIDs finds the blobs that a content names, each once, wherever they stand: in mentions, as an image, in the text. In JSON as
// JSON.stringify makes it, no character of an id is escaped.
func blobIDs(content []byte) (ids []identity.BlobID) {
	const size = len("&47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=.sha256")
	for len(ids) < linkedMost {
		i := bytes.IndexByte(content, '&')
		if i < 0 || len(content) < i+size {
			return ids
		}
		content = content[i:]
		if id, err := identity.ParseBlobID(content[:size]); err == nil && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		content = content[1:]
	}
	return ids
}
