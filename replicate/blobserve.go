package replicate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"charkha/blob"
	"charkha/identity"
	"charkha/muxrpc"
	"charkha/replicate/internal/wants"
)

const (
	// blobChunk is the size of the pieces in which a blob is sent, as JS peers do.
	blobChunk = 64 << 10
	// maxServed is how many blobs are sent to one peer at once; more that it asks for wait.
	maxServed = 4
	// giveWay is how long a chunk of a blob waits at most for messages to the same peer.
	giveWay = 50 * time.Millisecond
	// readMost is how long a peer may take to read one chunk.
	readMost = 2 * time.Minute
)

var blobChunks = sync.Pool{New: func() any { return new([blobChunk]byte) }}

// BlobMethods returns what peers may call about blobs; nothing without Options.Blobs. The methods of the same names that local
// programs call are others.
func (n *Network) BlobMethods() []muxrpc.Method {
	x := n.blobs
	if x == nil {
		return nil
	}
	one := []muxrpc.Arg{{Name: "id", Type: "BlobId|object", Doc: "or an object with it as id, key or hash, and perhaps its size, and max"}}
	some := []muxrpc.Arg{{Name: "id", Type: "BlobId|array|object", Doc: "or an array of them"}}
	return []muxrpc.Method{
		{Name: "blobs.get", Kind: muxrpc.Source, Anonymous: true, Args: one, Stream: x.serveGet, Doc: "the bytes of a blob"},
		{Name: "blobs.getSlice", Kind: muxrpc.Source, Anonymous: true, Args: one, Stream: x.serveSlice,
			Doc: "the bytes from start up to end of a blob, {id, start, end}"},
		{Name: "blobs.has", Kind: muxrpc.Async, Anonymous: true, Args: some, Call: x.serveHas,
			Doc: "whether blobs are here; those that are not are wanted for the caller"},
		{Name: "blobs.size", Kind: muxrpc.Async, Anonymous: true, Args: some, Call: x.serveSize,
			Doc: "the sizes of blobs in bytes, null for one that is not here"},
		{Name: "blobs.changes", Kind: muxrpc.Source, Anonymous: true, Stream: x.serveChanges,
			Doc: "the id of each blob that arrives from now on"},
		{Name: "blobs.createWants", Kind: muxrpc.Source, Anonymous: true, Stream: x.createWants,
			Doc: "{blob: -distance} of blobs that are wanted here, {blob: size} of those that the caller wants and that are here"},
	}
}

// sending says that messages go to the peer, until done is called: blobs give way to them.
func (s *session) sending() (done func()) {
	s.mu.Lock()
	if s.busy++; s.busy == 1 {
		s.quiet = make(chan struct{})
	}
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.busy--; s.busy == 0 {
			close(s.quiet)
		}
	}
}

// giveWay waits while messages go to the peer, but not for long: a blob is not held up for ever either.
func (s *session) giveWay(ctx context.Context) {
	s.mu.Lock()
	busy, quiet := s.busy > 0, s.quiet
	s.mu.Unlock()
	if !busy {
		return
	}
	timer := time.NewTimer(giveWay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-quiet:
	case <-timer.C:
	}
}

// pacer bounds the bytes a second that go to a peer.
type pacer struct {
	rate int64 // 0: no bound
	free time.Time
}

// take returns when n more bytes may go.
func (p *pacer) take(now time.Time, n int) time.Duration {
	if p.rate <= 0 {
		return 0
	}
	if p.free.Before(now) {
		p.free = now
	}
	wait := p.free.Sub(now)
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	return wait
}

// sliceTurns has the slices that a peer asks for of one blob sent one after the other, the first bytes first, so that they arrive
// in an order in which they can be hashed as they come.
type sliceTurns struct {
	mu    sync.Mutex
	blobs map[identity.BlobID][]*slice // that are being sent; the slices that wait
}

type slice struct {
	from int64
	turn chan struct{}
}

// wait waits for the turn of a slice. done must be called then.
func (q *sliceTurns) wait(ctx context.Context, id identity.BlobID, from int64) (done func(), err error) {
	q.mu.Lock()
	waiting, busy := q.blobs[id]
	if !busy {
		if q.blobs == nil {
			q.blobs = map[identity.BlobID][]*slice{}
		}
		q.blobs[id] = nil
		q.mu.Unlock()
		return func() { q.next(id) }, nil
	}
	s := &slice{from, make(chan struct{})}
	q.blobs[id] = append(waiting, s)
	q.mu.Unlock()
	select {
	case <-s.turn:
		return func() { q.next(id) }, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	at := slices.Index(q.blobs[id], s)
	if at >= 0 {
		q.blobs[id] = slices.Delete(q.blobs[id], at, at+1)
	}
	q.mu.Unlock()
	if at < 0 {
		q.next(id) // its turn had come meanwhile
	}
	return nil, ctx.Err()
}

// next gives the turn to the slice with the first bytes.
func (q *sliceTurns) next(id identity.BlobID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := -1
	for i, s := range q.blobs[id] {
		if first < 0 || s.from < q.blobs[id][first].from {
			first = i
		}
	}
	if first < 0 {
		delete(q.blobs, id)
		return
	}
	close(q.blobs[id][first].turn)
	q.blobs[id] = slices.Delete(q.blobs[id], first, first+1)
}

// blobArgs is the argument of get and getSlice.
type blobArgs struct {
	id         identity.BlobID
	size, max  *float64
	start, end *float64
}

// parseBlobArgs reads a blob id, or {id|key|hash, size, max, start, end}.
func parseBlobArgs(req *muxrpc.Request) (a blobArgs, err error) {
	var first json.RawMessage
	if err := req.Decode(&first); err != nil {
		return a, err
	}
	var text string
	if len(first) > 0 && first[0] == '{' {
		var o struct {
			ID    *string  `json:"id"`
			Key   *string  `json:"key"`
			Hash  *string  `json:"hash"`
			Size  *float64 `json:"size"`
			Max   *float64 `json:"max"`
			Start *float64 `json:"start"`
			End   *float64 `json:"end"`
		}
		if err := json.Unmarshal(first, &o); err != nil {
			return a, fmt.Errorf("%s: %w", req.Name, err)
		}
		for _, t := range []*string{o.Hash, o.Key, o.ID} {
			if t != nil && *t != "" {
				text = *t
			}
		}
		a = blobArgs{size: o.Size, max: o.Max, start: o.Start, end: o.End}
	} else if err := json.Unmarshal(first, &text); err != nil {
		return a, fmt.Errorf("%s: a blob id is needed", req.Name)
	}
	if a.id, err = identity.ParseBlobID(text); err != nil {
		return a, fmt.Errorf("%s: %w", req.Name, err)
	}
	return a, nil
}

// errNoBlob is what npm multiblob answers.
var errNoBlob = errors.New("could not get blob")

func (x *blobs) serveGet(ctx context.Context, req *muxrpc.Request, stream *muxrpc.Stream) error {
	a, err := parseBlobArgs(req)
	if err != nil {
		return err
	}
	a.start, a.end = nil, nil
	return x.serve(ctx, req, stream, a)
}

func (x *blobs) serveSlice(ctx context.Context, req *muxrpc.Request, stream *muxrpc.Stream) error {
	a, err := parseBlobArgs(req)
	if err == nil && a.start == nil {
		err = errors.New("multiblob.getSlice: {start} must be a number")
	}
	if err == nil && a.end == nil {
		err = errors.New("multiblob.getSlice: {end} must be a number")
	}
	if err != nil {
		return err
	}
	return x.serve(ctx, req, stream, a)
}

// serve sends a blob or a part of it. The streams of one peer take turns chunk by chunk, give way to messages, and are no faster
// together than Options.BlobRate.
func (x *blobs) serve(ctx context.Context, req *muxrpc.Request, stream *muxrpc.Stream, a blobArgs) error {
	s, ok := req.Peer.(*session)
	if !ok {
		return fmt.Errorf("%s is for peers", req.Name)
	}
	if a.id == emptyBlob {
		return nil
	}
	if a.start != nil {
		done, err := s.slices.wait(ctx, a.id, int64(max(0, min(*a.start, 1<<40))))
		if err != nil {
			return nil
		}
		defer done()
	}
	select {
	case s.serving <- struct{}{}:
		defer func() { <-s.serving }()
	case <-ctx.Done():
		return nil
	}
	r, err := x.store.Read(a.id)
	if err != nil {
		return errNoBlob
	}
	defer r.Close()
	size := float64(r.Size())
	mismatch := func(want float64) error {
		return fmt.Errorf("incorrect file length, requested:%v file was:%v for file:%s", want, size, a.id)
	}
	if a.size != nil && *a.size != size {
		return mismatch(*a.size)
	}
	if a.max != nil && *a.max < size {
		return mismatch(*a.max)
	}
	from, to := int64(0), r.Size()
	if a.start != nil {
		from = int64(math.Ceil(max(0, min(*a.start, size))))
		to = int64(max(0, min(*a.end, size)))
	}
	slow := time.AfterFunc(readMost, func() { stream.Close() })
	defer slow.Stop()
	for from < to {
		n, err := x.chunk(ctx, s, stream, r, from, min(to-from, blobChunk))
		if err != nil {
			return err
		}
		from += n
		slow.Reset(readMost)
	}
	return nil
}

// chunk sends the next bytes of a blob when it is its turn.
func (x *blobs) chunk(ctx context.Context, s *session, stream *muxrpc.Stream, r *blob.Reader, from, n int64) (int64, error) {
	select {
	case s.blobTurn <- struct{}{}:
		defer func() { <-s.blobTurn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	s.giveWay(ctx)
	if wait := s.blobPace.take(x.n.o.Now(), int(n)); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	buf := blobChunks.Get().(*[blobChunk]byte)
	defer blobChunks.Put(buf)
	if _, err := io.ReadFull(io.NewSectionReader(r, from, n), buf[:n]); err != nil {
		x.n.log.Warn("a blob cannot be read", "err", err)
		return 0, errNoBlob
	}
	return n, stream.Send(muxrpc.Body{Type: muxrpc.Binary, Data: buf[:n]})
}

// parseBlobIDs reads a blob id, {id}, or an array of ids.
func parseBlobIDs(req *muxrpc.Request) (ids []identity.BlobID, one bool, err error) {
	var first json.RawMessage
	if err := req.Decode(&first); err != nil {
		return nil, false, err
	}
	texts := []string{""}
	switch {
	case len(first) > 0 && first[0] == '[':
		if err := json.Unmarshal(first, &texts); err != nil {
			return nil, false, fmt.Errorf("%s: %w", req.Name, err)
		}
	case len(first) > 0 && first[0] == '{':
		var o struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(first, &o); err != nil {
			return nil, false, fmt.Errorf("%s: %w", req.Name, err)
		}
		texts[0], one = o.ID, true
	default:
		if err := json.Unmarshal(first, &texts[0]); err != nil {
			return nil, false, fmt.Errorf("%s: a blob id is needed", req.Name)
		}
		one = true
	}
	ids = make([]identity.BlobID, len(texts))
	for i, text := range texts {
		if ids[i], err = identity.ParseBlobID(text); err != nil {
			return nil, false, fmt.Errorf("invalid id:%s", strings.ToValidUTF8(text[:min(len(text), 100)], ""))
		}
	}
	return ids, one, nil
}

// serveHas answers whether blobs are here. As with npm ssb-blobs, which takes that for the question of an old peer, those that
// are not are wanted for the caller.
func (x *blobs) serveHas(_ context.Context, req *muxrpc.Request) (any, error) {
	ids, one, err := parseBlobIDs(req)
	if err != nil {
		return nil, err
	}
	has := make([]bool, len(ids))
	var missing []wants.Entry
	for i, id := range ids {
		_, has[i] = x.store.Stat(id)
		if has[i] = has[i] || id == emptyBlob; !has[i] {
			missing = append(missing, wants.Entry{ID: id, N: -1})
		}
	}
	if s, ok := req.Peer.(*session); ok && len(missing) > 0 {
		x.event(func(b *wants.Brain, now time.Time) {
			b.Heard(now, s.id, missing[:min(len(missing), b.Room(s.id))])
		})
	}
	if one {
		return has[0], nil
	}
	return has, nil
}

func (x *blobs) serveSize(_ context.Context, req *muxrpc.Request) (any, error) {
	ids, one, err := parseBlobIDs(req)
	if err != nil {
		return nil, err
	}
	sizes := make([]*int64, len(ids))
	for i, id := range ids {
		if info, ok := x.store.Stat(id); ok || id == emptyBlob {
			sizes[i] = &info.Size
		}
	}
	if one {
		return sizes[0], nil
	}
	return sizes, nil
}

func (x *blobs) serveChanges(ctx context.Context, _ *muxrpc.Request, stream *muxrpc.Stream) error {
	for info := range x.store.Follow(ctx, false) {
		if err := stream.Send(muxrpc.Body{Type: muxrpc.Text, Data: []byte(info.ID.String())}); err != nil {
			return err
		}
	}
	return nil
}
