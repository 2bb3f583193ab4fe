package replicate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
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
	// maxWantsBody is the most bytes of one body on blobs.createWants: JS peers say all that they want in one, at some 60 bytes a
	// blob.
	maxWantsBody = 4 << 20
	// maxWantsEntries bounds the blobs that one body may name.
	maxWantsEntries = 100_000
	// wantsBurst is how many entries a peer may say on blobs.createWants at once, and wantsRate how many a second from then on:
	// each costs some microseconds. What it says beyond waits to be read, and when too much does, no more is heard from it.
	wantsBurst = 100_000
	wantsRate  = 20_000
	// fetchBatch is how many chunks of a blob are taken from a stream at once.
	fetchBatch = 32
)

// ErrTooManyWants says that so many blobs are waited for that no more can be wanted.
var ErrTooManyWants = errors.New("too many blobs are waited for already")

// blobs is the exchange of blobs: the hands of the brain in package wants.
type blobs struct {
	n     *Network
	store *blob.Store

	parsing sync.Mutex // one list of wants is taken apart at a time: it may be large

	mu       sync.Mutex // never held over I/O; Store.Stat is none
	brain    *wants.Brain
	whys     map[identity.BlobID]blob.Why // of own wants
	waiting  map[identity.BlobID]*waiting
	readers  map[identity.ID]*reader
	jobs     map[uint64]*fetching
	finished []*finished // of Pushed
	stopped  bool

	replan chan struct{} // has one when the brain should be asked what to do
	saved  chan struct{} // has one when pushes should be written
	over   chan struct{} // closed when it has stopped

	writing sync.Mutex
	noted   string // what push.json holds; under writing
}

// waiting is those who wait for a blob.
type waiting struct {
	count int
	here  chan struct{} // closed when it has arrived or was forgotten
}

// reader is a peer that reads what we say on blobs.createWants.
type reader struct {
	wake chan struct{} // has one when there may be something to say
	gone chan struct{} // closed when another call took its place
}

// fetching is a job of the brain. Its fields but open are under blobs.mu; what is under Once is fixed after it.
type fetching struct {
	open  sync.Once
	in    *blob.Receiving
	err   error // why there is no in
	users int   // goroutines that use in
	gets  map[uint64]context.CancelFunc
	drop  bool // when there are no users any more
	ended bool
}

// finished is a follower of Pushed.
type finished struct {
	news chan struct{}
	list []wants.Pushed
}

// maxFinished bounds what waits for a follower of Pushed; the oldest goes.
const maxFinished = 1024

func (n *Network) newBlobs() *blobs {
	x := &blobs{
		n: n, store: n.o.Blobs,
		whys: map[identity.BlobID]blob.Why{}, waiting: map[identity.BlobID]*waiting{}, readers: map[identity.ID]*reader{},
		jobs:   map[uint64]*fetching{},
		replan: make(chan struct{}, 1), saved: make(chan struct{}, 1), over: make(chan struct{}),
	}
	x.brain = wants.New(wants.Options{
		Have: func(id identity.BlobID) (int64, bool) {
			if id == emptyBlob {
				return 0, true
			}
			info, ok := x.store.Stat(id)
			return info.Size, ok
		},
		Max: n.o.BlobMax, Sympathy: n.o.BlobSympathy, Rate: n.o.BlobRate,
	})
	x.loadPushes()
	return x
}

// emptyBlob is the blob of no bytes, which everybody has.
var emptyBlob = identity.BlobID(sha256.Sum256(nil))

// event tells the brain something, wakes those for whose peers there is something new, and has it asked what to do.
func (x *blobs) event(do func(b *wants.Brain, now time.Time)) {
	x.mu.Lock()
	do(x.brain, x.n.o.Now())
	x.after()
	x.mu.Unlock()
	x.again()
	x.n.changed.wake()
}

func (x *blobs) again() {
	select {
	case x.replan <- struct{}{}:
	default: // it will be
	}
}

// after does what follows each call of the brain. mu is held.
func (x *blobs) after() {
	for _, id := range x.brain.Woken() {
		if r := x.readers[id]; r != nil {
			r.look()
		}
	}
	for _, id := range x.brain.Forgotten() {
		x.forgot(id)
	}
	pushed := x.brain.Pushed()
	if len(pushed) == 0 {
		return
	}
	for _, f := range x.finished {
		f.list = append(f.list, pushed...)
		if over := len(f.list) - maxFinished; over > 0 {
			f.list = f.list[over:]
		}
		select {
		case f.news <- struct{}{}:
		default:
		}
	}
	x.savePushes()
}

func (r *reader) look() {
	select {
	case r.wake <- struct{}{}:
	default: // it is awake already
	}
}

// forgot ends the waiting for a blob that is there, or not wanted any more. mu is held.
func (x *blobs) forgot(id identity.BlobID) {
	delete(x.whys, id)
	if w := x.waiting[id]; w != nil {
		delete(x.waiting, id)
		close(w.here)
	}
}

// WantBlob wants a blob and returns nil when it is there. It ends with ctx and with the network; the blob stays wanted until it
// is there, until ForgetBlob, or until so many others are that it goes. why is what the blob is kept for.
func (n *Network) WantBlob(ctx context.Context, id identity.BlobID, why blob.Why) error {
	x := n.blobs
	if x == nil {
		return errNoBlobs
	}
	if id == emptyBlob {
		_, err := x.store.Add(ctx, strings.NewReader(""), &id, why)
		return err
	}
	x.mu.Lock()
	if _, ok := x.store.Stat(id); ok || x.stopped {
		x.mu.Unlock()
		if ok {
			return nil
		}
		return ErrStopped
	}
	w := x.waiting[id]
	if w == nil {
		w = &waiting{here: make(chan struct{})}
		x.waiting[id] = w
	}
	w.count++
	taken := x.brain.Want(n.o.Now(), id, true)
	if taken {
		x.whys[id] = why
	} else {
		x.unwait(id, w)
	}
	x.after()
	x.mu.Unlock()
	x.again()
	n.changed.wake()
	if !taken {
		return ErrTooManyWants
	}
	err := ErrStopped
	select {
	case <-w.here:
		if _, ok := x.store.Stat(id); !ok {
			return fmt.Errorf("blob %s: it is not wanted any more", id)
		}
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-x.over:
	}
	x.mu.Lock()
	x.unwait(id, w)
	x.mu.Unlock()
	return err
}

// unwait is one who waits no more. mu is held.
func (x *blobs) unwait(id identity.BlobID, w *waiting) {
	if w.count--; w.count == 0 && x.waiting[id] == w {
		delete(x.waiting, id)
		x.brain.Unwait(id)
	}
}

var errNoBlobs = errors.New("this node keeps no blobs")

// WishBlob wants a blob without waiting. What was wished last is fetched first. When too many are wished, the one wished longest
// ago is forgotten. Before it is fetched, the store is asked whether it is worth its room (Store.Objection).
func (n *Network) WishBlob(id identity.BlobID, why blob.Why) {
	x := n.blobs
	if x == nil || id == emptyBlob {
		return
	}
	if _, ok := x.store.Stat(id); ok {
		return
	}
	x.event(func(b *wants.Brain, now time.Time) {
		if b.Want(now, id, false) {
			x.whys[id] = why
		}
		if _, ok := x.store.Stat(id); ok { // it came meanwhile
			delete(x.whys, id)
		}
	})
}

// ForgetBlob wants a blob no longer, and pushes it no longer. Who waits for it gets an error.
func (n *Network) ForgetBlob(id identity.BlobID) {
	if x := n.blobs; x != nil {
		x.event(func(b *wants.Brain, now time.Time) {
			b.Forget(now, id)
			b.Unpush(id)
			x.forgot(id)
		})
		x.savePushes()
	}
}

// PushBlob has a blob advertised to all peers, now and after restarts, until three of them have it. It need not be here yet.
func (n *Network) PushBlob(_ context.Context, id identity.BlobID) error {
	x := n.blobs
	if x == nil {
		return errNoBlobs
	}
	if id == emptyBlob {
		return nil // everybody has it
	}
	taken := false
	x.event(func(b *wants.Brain, _ time.Time) { taken = b.Push(id, nil) })
	if !taken {
		return errors.New("too many blobs are pushed already")
	}
	return x.writePushes()
}

// Pushed yields each pushed blob that enough peers have from now on, and how many have it, until ctx ends.
func (n *Network) Pushed(ctx context.Context) iter.Seq2[identity.BlobID, int] {
	x := n.blobs
	f := &finished{news: make(chan struct{}, 1)}
	if x != nil {
		x.mu.Lock()
		x.finished = append(x.finished, f)
		x.mu.Unlock()
	}
	return func(yield func(identity.BlobID, int) bool) {
		if x == nil {
			return
		}
		defer func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.finished = slices.DeleteFunc(x.finished, func(g *finished) bool { return g == f })
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case <-x.over:
				return
			case <-f.news:
			}
			x.mu.Lock()
			list := f.list
			f.list = nil
			x.mu.Unlock()
			for _, p := range list {
				if !yield(p.ID, p.Peers) {
					return
				}
			}
		}
	}
}

// BlobWant is a blob that we want, and how it goes.
type BlobWant struct {
	ID      identity.BlobID `json:"id"`
	Since   time.Time       `json:"since"`
	Hops    int             `json:"hops"`              // 1: for ourselves; more: for peers who asked, from so far away
	Sources []identity.ID   `json:"sources,omitempty"` // connected peers who say to have it; those it comes from first
	Askers  []identity.ID   `json:"askers,omitempty"`  // peers who want it, too, a few of them
	Size    int64           `json:"size"`              // bytes, as the peers say; -1: not known
	Got     int64           `json:"got"`               // bytes that have come
	Last    string          `json:"lastError,omitempty"`
}

// BlobWants lists the blobs that are wanted: those for ourselves first, in the order in which they are fetched when somebody has
// them.
func (n *Network) BlobWants() []BlobWant {
	x := n.blobs
	if x == nil {
		return nil
	}
	x.mu.Lock()
	all := x.brain.Wants()
	x.mu.Unlock()
	list := make([]BlobWant, len(all))
	for i, w := range all {
		list[i] = BlobWant{ID: w.ID, Since: w.Since, Hops: w.Hops, Sources: w.From, Askers: w.Askers, Size: w.Size, Got: w.Got, Last: w.Last}
	}
	return list
}

// run exchanges blobs until ctx ends. What it started ends with the tasks of the network.
func (x *blobs) run(ctx context.Context) {
	var g sync.WaitGroup
	defer g.Wait()
	g.Go(func() {
		// With those that are there: one may have come between a want and now.
		for info := range x.store.Follow(ctx, true) {
			x.mu.Lock()
			x.brain.Stored(x.n.o.Now(), info.ID, info.Size)
			x.forgot(info.ID)
			x.after()
			x.mu.Unlock()
			x.again()
			x.n.changed.wake()
		}
	})
	g.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-x.saved:
				if err := x.writePushes(); err != nil {
					x.n.log.Warn("what is pushed cannot be kept", "err", err)
				}
			}
		}
	})
	for ctx.Err() == nil {
		x.mu.Lock()
		now := x.n.o.Now()
		actions, again := x.brain.Next(now)
		x.after()
		x.mu.Unlock()
		for _, a := range actions {
			x.act(ctx, a)
		}
		if len(actions) > 0 {
			x.n.changed.wake()
		}
		var due <-chan time.Time
		var timer *time.Timer
		if !again.IsZero() {
			timer = time.NewTimer(max(again.Sub(now), time.Millisecond))
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-x.replan:
		case <-due:
		}
		if timer != nil {
			timer.Stop()
		}
	}
	x.stop()
}

// stop ends all fetching. Who waits is told.
func (x *blobs) stop() {
	x.mu.Lock()
	x.stopped = true
	close(x.over)
	var unused []*fetching
	for _, f := range x.jobs {
		f.drop = true
		for _, cancel := range f.gets {
			cancel()
		}
		if f.users == 0 && !f.ended {
			f.ended = true
			unused = append(unused, f)
		}
	}
	x.mu.Unlock()
	for _, f := range unused {
		f.abort()
	}
	if err := x.writePushes(); err != nil {
		x.n.log.Warn("what is pushed cannot be kept", "err", err)
	}
}

func (f *fetching) abort() {
	if f.in != nil {
		f.in.Abort()
	}
}

// act does what the brain wants.
func (x *blobs) act(ctx context.Context, a wants.Action) {
	switch a.Act {
	case wants.Get:
		gctx, cancel := context.WithCancel(ctx)
		x.mu.Lock()
		f := x.jobs[a.Job]
		if f == nil {
			f = &fetching{gets: map[uint64]context.CancelFunc{}}
			x.jobs[a.Job] = f
		}
		f.users++
		f.gets[a.Out] = cancel
		if f.drop {
			cancel()
		}
		x.mu.Unlock()
		if err := x.n.task(func() { x.get(gctx, a, f) }); err != nil {
			x.got(a, f, wants.Gone, nil)
		}
	case wants.Stop:
		x.mu.Lock()
		if f := x.jobs[a.Job]; f != nil && f.gets[a.Out] != nil {
			f.gets[a.Out]()
		}
		x.mu.Unlock()
	case wants.Commit:
		x.mu.Lock()
		f := x.jobs[a.Job]
		f.users++
		x.mu.Unlock()
		if err := x.n.task(func() { x.commit(ctx, a, f) }); err != nil {
			x.leave(a.Job, f)
		}
	case wants.Drop:
		x.mu.Lock()
		f := x.jobs[a.Job]
		if f == nil { // nothing of it was begun
			x.brain.Dropped(x.n.o.Now(), a.Job)
			x.mu.Unlock()
			x.again()
			return
		}
		f.drop = true
		for _, cancel := range f.gets {
			cancel()
		}
		f.users++
		x.mu.Unlock()
		x.leave(a.Job, f)
	}
}

// leave is one who uses a job's file no more. The last one of a dropped job throws it away.
func (x *blobs) leave(job uint64, f *fetching) {
	x.mu.Lock()
	f.users--
	last := f.drop && f.users == 0 && !f.ended
	if last {
		f.ended = true
		delete(x.jobs, job)
	}
	x.mu.Unlock()
	if !last {
		return
	}
	f.abort()
	x.event(func(b *wants.Brain, now time.Time) { b.Dropped(now, job) })
}

// got tells the brain how a Get ended.
func (x *blobs) got(a wants.Action, f *fetching, r wants.Result, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	x.mu.Lock()
	f.gets[a.Out]()
	delete(f.gets, a.Out)
	x.mu.Unlock()
	x.event(func(b *wants.Brain, now time.Time) { b.Got(now, a.Out, r, why) })
	x.leave(a.Job, f)
}

// get fetches one piece of a blob, or all of it.
func (x *blobs) get(ctx context.Context, a wants.Action, f *fetching) {
	f.open.Do(func() { f.in, f.err = x.receive(a) })
	if f.err != nil {
		r := wants.Local
		if errors.Is(f.err, blob.ErrFull) || errors.Is(f.err, blob.ErrTooLarge) || errors.Is(f.err, blob.ErrRefused) {
			r = wants.NoRoom
		}
		x.got(a, f, r, f.err)
		return
	}
	x.n.mu.Lock()
	s := x.n.sessions[a.Peer]
	x.n.mu.Unlock()
	if s == nil {
		x.got(a, f, wants.Gone, nil)
		return
	}
	r, err := s.getBlob(ctx, a, f.in, func(n int) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.brain.Progress(x.n.o.Now(), a.Out, int64(n))
	})
	if err != nil && ctx.Err() == nil {
		x.n.log.Debug("blob not fetched", "peer", a.Peer, "blob", a.ID, "err", err)
	}
	x.got(a, f, r, err)
}

// receive makes room for a blob.
func (x *blobs) receive(a wants.Action) (*blob.Receiving, error) {
	x.mu.Lock()
	why, own := x.whys[a.ID]
	x.mu.Unlock()
	if !own {
		why = blob.Why{Peer: a.Asker} // who asked for it, not who gave it
	} else if why.Peer.IsZero() {
		why.Peer = a.Peer
	}
	if !a.Waited {
		if err := x.store.Objection(a.ID, a.Size, why); err != nil {
			return nil, err
		}
	}
	return x.store.Receive(a.ID, a.Size, why)
}

// commit checks and keeps what was fetched.
func (x *blobs) commit(ctx context.Context, a wants.Action, f *fetching) {
	_, err := f.in.Commit(ctx)
	r, why := wants.OK, ""
	if err != nil {
		why = err.Error()
		switch {
		case errors.Is(err, blob.ErrWrongHash):
			r = wants.Wrong
			x.n.log.Warn("a peer sent other bytes than those of the blob", "blob", a.ID, "err", err)
		case errors.Is(err, blob.ErrFull):
			r = wants.NoRoom
		default:
			r = wants.Local
			if ctx.Err() == nil {
				x.n.log.Warn("a blob that came cannot be kept", "blob", a.ID, "err", err)
			}
		}
	}
	x.mu.Lock()
	f.users--
	f.ended = true // Commit leaves nothing behind
	delete(x.jobs, a.Job)
	x.mu.Unlock()
	x.event(func(b *wants.Brain, now time.Time) {
		b.Committed(now, a.Job, r, why)
		if r == wants.OK {
			x.forgot(a.ID)
		}
	})
}

var (
	errTooMuch = errors.New("it sent more bytes than it said to have")
	errTooFew  = errors.New("it sent fewer bytes than it said to have")
	errNoBytes = errors.New("it sent something else than bytes")
)

// getBlob fetches bytes [From, To) from the peer and writes them down. progress is called with the size of each chunk.
func (s *session) getBlob(ctx context.Context, a wants.Action, in *blob.Receiving, progress func(n int)) (wants.Result, error) {
	method, args := "blobs.getSlice", map[string]any{"id": a.ID, "start": a.From, "end": a.To}
	if a.Whole {
		method, args = "blobs.get", map[string]any{"key": a.ID, "max": s.n.o.BlobMax}
	}
	stream, err := s.conn.Open(ctx, muxrpc.CallOptions{Kind: muxrpc.Source, Patient: true}, method, args)
	if err != nil {
		return s.lost(err), err
	}
	defer stream.Close()
	at := a.From
	for {
		chunks, err := stream.RecvBatch(fetchBatch)
		for _, c := range chunks {
			if c.Type != muxrpc.Binary {
				return wants.Failed, errNoBytes
			}
			if int64(len(c.Data)) > a.To-at {
				return wants.Failed, errTooMuch
			}
			if _, err := in.WriteAt(c.Data, at); err != nil {
				return wants.Local, err
			}
			at += int64(len(c.Data))
			progress(len(c.Data))
			c.Release()
		}
		if errors.Is(err, io.EOF) {
			if at < a.To {
				return wants.Failed, errTooFew
			}
			return wants.OK, nil
		}
		if err != nil {
			var remote *muxrpc.RemoteError
			if errors.As(err, &remote) && !a.Whole && at == a.From && noSlices(remote.Message) {
				return wants.NoSlice, err
			}
			return s.lost(err), err
		}
	}
}

// noSlices reports whether an error is that of a peer that does not serve blobs.getSlice: "no source:blobs.getSlice", or
// "method:blobs,getSlice is not in list of allowed methods".
func noSlices(message string) bool {
	return strings.Contains(message, "getSlice") &&
		(strings.HasPrefix(message, "no source:") || strings.Contains(message, "not in list of allowed methods"))
}

// lost tells whether a call failed because the connection ended.
func (s *session) lost(err error) wants.Result {
	select {
	case <-s.conn.Done():
		return wants.Gone
	default:
	}
	if errors.Is(err, muxrpc.ErrClosed) {
		return wants.Gone
	}
	return wants.Failed
}

// hearBlobs listens to what the peer wants and has, until the connection ends or the peer does not know how.
func (s *session) hearBlobs(ctx context.Context) {
	x := s.n.blobs
	stream, err := s.conn.Open(ctx, muxrpc.CallOptions{Kind: muxrpc.Source, MaxBody: maxWantsBody}, "blobs.createWants")
	if err == nil {
		defer stream.Close()
		err = x.hear(ctx, s, stream)
	}
	if err != nil && ctx.Err() == nil {
		s.n.log.Debug("the peer says nothing of blobs", "peer", s.id, "err", err)
	}
}

func (x *blobs) hear(ctx context.Context, s *session, stream *muxrpc.Stream) error {
	began, entries := x.n.o.Now(), 0
	for {
		if early := time.Duration(entries-wantsBurst)*(time.Second/wantsRate) - x.n.o.Now().Sub(began); early > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(early):
			}
		}
		body, err := stream.Recv()
		if err != nil {
			return err
		}
		x.parsing.Lock()
		said, err := wants.Parse(body.Data, maxWantsEntries)
		x.parsing.Unlock()
		if err != nil {
			return err
		}
		entries += len(said)
		for len(said) > 0 {
			room := 0
			x.mu.Lock()
			if room = min(x.brain.Room(s.id), len(said)); room > 0 {
				x.brain.Heard(x.n.o.Now(), s.id, said[:room])
				x.after()
			}
			x.mu.Unlock()
			said = said[room:]
			x.again()
			if room > 0 {
				continue
			}
			select { // it must read some answers first
			case <-ctx.Done():
				return ctx.Err()
			case <-s.blobRoom:
			}
		}
		x.n.changed.wake()
	}
}

// createWants serves blobs.createWants: what we want, and of what the peer wants, what we have.
func (x *blobs) createWants(ctx context.Context, req *muxrpc.Request, stream *muxrpc.Stream) error {
	s, ok := req.Peer.(*session)
	if !ok {
		return errors.New("blobs.createWants is for peers")
	}
	r := &reader{wake: make(chan struct{}, 1), gone: make(chan struct{})}
	x.mu.Lock()
	if old := x.readers[s.id]; old != nil {
		close(old.gone)
	}
	x.readers[s.id] = r
	x.brain.Open(s.id)
	x.after()
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.readers[s.id] == r {
			delete(x.readers, s.id)
			x.brain.Close(s.id)
		}
	}()
	for {
		x.mu.Lock()
		var said []wants.Entry
		more := x.readers[s.id] == r
		if more {
			said, more = x.brain.Say(s.id)
		}
		x.mu.Unlock()
		if more {
			if err := stream.SendJSON(wants.JSON(said)); err != nil {
				return err
			}
			select {
			case s.blobRoom <- struct{}{}:
			default:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.gone:
			return nil
		case <-r.wake:
		}
	}
}

// The file of what is pushed: {blob: [who has it]}.

func (x *blobs) pushFile() string { return filepath.Join(x.n.o.Dir, "blobs", "push.json") }

// loadPushes takes up what was pushed when the node stopped.
func (x *blobs) loadPushes() {
	data, err := os.ReadFile(x.pushFile())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var pushes map[identity.BlobID][]identity.ID
	if err == nil {
		err = json.Unmarshal(data, &pushes)
	}
	if err != nil {
		x.n.log.Warn("what was pushed is not known any more", "err", err)
		return
	}
	for id, has := range pushes {
		x.brain.Push(id, has)
	}
	x.brain.Pushed()
	x.noted = string(data)
}

// savePushes has them written soon.
func (x *blobs) savePushes() {
	select {
	case x.saved <- struct{}{}:
	default:
	}
}

// writePushes writes what is pushed, when it is another than before.
func (x *blobs) writePushes() error {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.mu.Lock()
	pushes := x.brain.Pushing()
	x.mu.Unlock()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // & stays &
	err := enc.Encode(pushes)
	data := out.Bytes()
	if err != nil || string(data) == x.noted {
		return err
	}
	if err = replaceFile(x.pushFile(), data); err == nil {
		x.noted = string(data)
	}
	return err
}
