package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"time"

	"charkha/blob"
	"charkha/identity"
	"charkha/muxrpc"
	"charkha/replicate"
)

// blobs has the methods of npm ssb-blobs 1.2 and 2.0 for local programs; what peers may call is package replicate's. A blob is named
// by its id, or by {id}, {key} or {hash}.
func (a *API) blobs() []muxrpc.Method {
	names := []muxrpc.Arg{may("id", "BlobId", "the blob"), may("key", "BlobId", "the same"), may("hash", "BlobId", "the same")}
	fits := []muxrpc.Arg{may("size", "number", "an error, unless it has this size in bytes"), may("max", "number", "an error, if it is larger, in bytes")}
	one := args(either(need("blob", "BlobId|object", "a blob id, or an object"), names...))
	some := args(either(need("blobs", "BlobId|array|object", "a blob id, an array of them, or an object"), names...))
	methods := []muxrpc.Method{
		{Name: "blobs.add", Kind: muxrpc.Sink, Doc: "keep the bytes that are sent; ends with an error if they are too many, or not those of the id",
			Args: args(either(may("blob", "BlobId|object", "the id that the bytes must have, or an object"), names...)), Stream: a.blobsAdd, Patient: true},
		{Name: "blobs.get", Kind: muxrpc.Source, Doc: "the bytes of a blob that is here",
			Args: args(either(one[0], slices.Concat(names, fits)...)), Stream: a.blobsGet},
		{Name: "blobs.getSlice", Kind: muxrpc.Source, Doc: "some of the bytes of a blob that is here",
			Args: opts(slices.Concat(names, fits, args(need("start", "number", "the first byte"), need("end", "number", "the first byte after them")))...), Stream: a.blobsGet},
		{Name: "blobs.has", Kind: muxrpc.Async, Doc: "whether a blob is here; of an array, an array", Args: some, Call: a.blobsHas},
		{Name: "blobs.size", Kind: muxrpc.Async, Doc: "the size of a blob in bytes, null if it is not here; of an array, an array", Args: some, Call: a.blobsSize},
		{Name: "blobs.meta", Kind: muxrpc.Async, Doc: "{id, size, ts} of a blob that is here", Args: one, Call: a.blobsMeta},
		{Name: "blobs.want", Kind: muxrpc.Async, Doc: "fetch a blob from peers; answers true when it is here, however long that takes", Args: one, Call: a.blobsWant},
		{Name: "blobs.push", Kind: muxrpc.Async, Doc: "offer a blob to all peers until three have it, also after a restart", Args: one, Call: a.blobsPush},
		{Name: "blobs.pushed", Kind: muxrpc.Source, Doc: "{key, peers} of each pushed blob that so many peers have by now", Stream: a.blobsPushed},
		{Name: "blobs.rm", Kind: muxrpc.Async, Doc: "remove a blob, and do not let it come again unless somebody asks for it", Args: one, Call: a.blobsRemove},
		{Name: "blobs.ls", Kind: muxrpc.Source, Doc: "the ids of the blobs that are here", Args: opts(
			may("meta", "boolean|number", "{id, size, ts} instead"), may("long", "boolean|number", "the same"), may("size", "boolean|number", "the same"),
			may("live", "boolean", "go on with what comes"), oldArg, may("sync", "boolean", "false: no {sync: true} between what is there and what comes")), Stream: a.blobsList},
		{Name: "blobs.changes", Kind: muxrpc.Source, Doc: "the id of each blob that arrives", Stream: a.blobsChanges},
		{Name: "blobs.createWants", Kind: muxrpc.Source, Doc: "{blob: -distance} of what is wanted, {blob: size} of what of that arrived", Stream: a.blobsWants},
		{Name: "charkha.blobs", Kind: muxrpc.Source, Doc: "the blobs that are here: {id, size, ts, own, pinned, author, peer}", Stream: a.keptBlobs},
		{Name: "charkha.pinBlob", Kind: muxrpc.Async, Doc: "never let a blob go that is here, or again like others", Args: args(need("blob", "BlobId", "the blob"), may("pinned", "boolean", "false: like others")), Call: a.pinBlob},
	}
	for i := range methods {
		m := &methods[i]
		if call := m.Call; call != nil {
			m.Call = func(ctx context.Context, req *muxrpc.Request) (any, error) {
				if a.Blobs == nil {
					return nil, errNoBlobs
				}
				return call(ctx, req)
			}
		}
		if stream := m.Stream; stream != nil {
			m.Stream = func(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
				if a.Blobs == nil {
					return errNoBlobs
				}
				return stream(ctx, req, s)
			}
		}
	}
	return methods
}

var (
	errNoBlobs = errors.New("this node keeps no blobs")
	// errNoBlob and errNoStat are what npm multiblob says: of a blob that is named by its id, and by an object.
	errNoBlob = errors.New("could not get blob")
	errNoStat = errors.New("stat failed")
	// emptyBlob is the blob of no bytes: everybody has it.
	emptyBlob, _ = identity.ParseBlobID("&47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=.sha256")
)

// blobChunk is how many bytes are sent at once: what one body can hold.
const blobChunk = 64 << 10

// blobArg is how a blob is named, and what of it is asked for.
type blobArg struct {
	id         identity.BlobID
	object     bool // it stood in an object
	size, max  *float64
	start, end *float64
}

// readBlobArg reads a blob id, or {id|key|hash, size, max, start, end}; ok is false when it is missing.
func readBlobArg(raw json.RawMessage) (b blobArg, ok bool, err error) {
	if len(raw) == 0 || string(raw) == "null" {
		return b, false, nil
	}
	var o struct {
		ID    string   `json:"id"`
		Key   string   `json:"key"`
		Hash  string   `json:"hash"`
		Size  *float64 `json:"size"`
		Max   *float64 `json:"max"`
		Start *float64 `json:"start"`
		End   *float64 `json:"end"`
	}
	if b.object = raw[0] == '{'; b.object {
		err = json.Unmarshal(raw, &o)
	} else {
		err = json.Unmarshal(raw, &o.ID)
	}
	if err != nil {
		return b, true, err
	}
	text := cmp.Or(o.ID, o.Key, o.Hash)
	if b.id, err = identity.ParseBlobID(text); err != nil {
		return b, true, fmt.Errorf("invalid id:%.100q", text)
	}
	b.size, b.max, b.start, b.end = o.Size, o.Max, o.Start, o.End
	return b, true, nil
}

// blobOf reads the argument of a method about one blob.
func blobOf(req *muxrpc.Request) (b blobArg, err error) {
	var raw json.RawMessage
	if err := req.Decode(&raw); err != nil {
		return b, err
	}
	b, ok, err := readBlobArg(raw)
	if err == nil && !ok {
		err = errors.New("a blob id is needed")
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", req.Name, err)
	}
	return b, err
}

// blobsOf reads the argument of a method about one blob or several.
func blobsOf(req *muxrpc.Request) (ids []identity.BlobID, one bool, err error) {
	var raw json.RawMessage
	if err := req.Decode(&raw); err != nil {
		return nil, false, err
	}
	list := []json.RawMessage{raw}
	if len(raw) > 0 && raw[0] == '[' {
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, false, err
		}
	} else {
		one = true
	}
	for _, raw := range list {
		b, ok, err := readBlobArg(raw)
		if err == nil && !ok {
			err = errors.New("a blob id is needed")
		}
		if err != nil {
			return nil, one, fmt.Errorf("%s: %w", req.Name, err)
		}
		ids = append(ids, b.id)
	}
	return ids, one, nil
}

// sinkReader reads the bytes that are sent on a stream.
type sinkReader struct {
	s    *muxrpc.Stream
	rest []byte
}

func (r *sinkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		body, err := r.s.Recv()
		if err != nil {
			return 0, err
		}
		if body.Type == muxrpc.JSON {
			return 0, errors.New("a blob is sent as bytes, not as JSON")
		}
		r.rest = body.Data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (a *API) blobsAdd(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var raw json.RawMessage
	if err := req.Decode(&raw); err != nil {
		return err
	}
	var want *identity.BlobID
	if b, ok, err := readBlobArg(raw); err != nil {
		return fmt.Errorf("%s: %w", req.Name, err)
	} else if ok {
		want = &b.id
	}
	info, err := a.Blobs.Add(ctx, &sinkReader{s: s}, want, blob.Why{Own: true, Author: a.Key.ID()})
	if err != nil {
		return err
	}
	return a.Blobs.Refuse(info.ID, false)
}

func (a *API) blobsGet(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	b, err := blobOf(req)
	if err != nil {
		return err
	}
	if b.id == emptyBlob {
		return nil
	}
	r, err := a.Blobs.Open(ctx, b.id)
	switch {
	case errors.Is(err, fs.ErrNotExist) && b.object:
		return errNoStat
	case errors.Is(err, fs.ErrNotExist):
		return errNoBlob
	case err != nil:
		return err
	}
	defer r.Close()
	end, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	size := float64(end)
	if b.size != nil && *b.size != size || b.max != nil && *b.max < size {
		wanted := b.size
		if wanted == nil || *wanted == size {
			wanted = b.max
		}
		return fmt.Errorf("incorrect file length, requested:%v file was:%v for file:%s", *wanted, size, b.id)
	}
	from := int64(0)
	if req.Name == "blobs.getSlice" {
		from = int64(math.Ceil(max(0, min(*b.start, size))))
		end = int64(max(0, min(*b.end, size)))
	}
	if _, err := r.Seek(from, io.SeekStart); err != nil {
		return err
	}
	buf := make([]byte, min(blobChunk, max(end-from, 0)))
	for from < end {
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), end-from)])
		if err != nil {
			return fmt.Errorf("%w: %w", errNoBlob, err)
		}
		if err := s.Send(muxrpc.Body{Type: muxrpc.Binary, Data: buf[:n]}); err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// stat is what is known of a blob that is here.
func (a *API) stat(id identity.BlobID) (blob.Info, bool) {
	info, ok := a.Blobs.Stat(id)
	if !ok && id == emptyBlob {
		return blob.Info{ID: id, Stored: time.UnixMilli(0)}, true
	}
	return info, ok
}

func (a *API) blobsHas(_ context.Context, req *muxrpc.Request) (any, error) {
	ids, one, err := blobsOf(req)
	if err != nil {
		return nil, err
	}
	has := make([]bool, len(ids))
	for i, id := range ids {
		_, has[i] = a.stat(id)
	}
	if one {
		return has[0], nil
	}
	return has, nil
}

func (a *API) blobsSize(_ context.Context, req *muxrpc.Request) (any, error) {
	ids, one, err := blobsOf(req)
	if err != nil {
		return nil, err
	}
	sizes := make([]*int64, len(ids))
	for i, id := range ids {
		if info, ok := a.stat(id); ok {
			sizes[i] = &info.Size
		}
	}
	if one {
		return sizes[0], nil
	}
	return sizes, nil
}

// blobMeta is what blobs.meta, and blobs.ls with meta, tell.
type blobMeta struct {
	ID   identity.BlobID `json:"id"`
	Size int64           `json:"size"` // bytes
	TS   int64           `json:"ts"`   // when it came, in ms since 1970
}

func metaOf(info blob.Info) blobMeta { return blobMeta{info.ID, info.Size, info.Stored.UnixMilli()} }

func (a *API) blobsMeta(_ context.Context, req *muxrpc.Request) (any, error) {
	b, err := blobOf(req)
	if err != nil {
		return nil, err
	}
	info, ok := a.stat(b.id)
	if !ok {
		return nil, errNoBlob
	}
	return metaOf(info), nil
}

// author is for whom a blob counts that somebody here asks for: who linked it, the nearest one that the index knows.
func (a *API) author(ctx context.Context, id identity.BlobID, link string) (author identity.ID) {
	if authors, err := a.linkers(ctx, id, link, 1); err == nil && len(authors) > 0 {
		author = authors[0]
	}
	return author
}

// WantLinked fetches a blob for somebody who did not say who they are, such as a web page, and returns when it is here or ctx ends.
// link is how messages link it. Only for one that somebody in range linked do others leave that a person here may want more, so
// that no page can empty the store; one that was removed by hand is an error that is fs.ErrNotExist.
func (a *API) WantLinked(ctx context.Context, id identity.BlobID, link string) error {
	if _, ok := a.stat(id); ok {
		return nil
	}
	if a.Blobs.Refused(id) {
		return fmt.Errorf("blob %s was removed: %w", id, fs.ErrNotExist)
	}
	author := a.author(ctx, id, link)
	return a.Network.WantBlob(ctx, id, blob.Why{Author: author, Asked: a.Index.Wanted(author)})
}

func (a *API) blobsWant(ctx context.Context, req *muxrpc.Request) (any, error) {
	b, err := blobOf(req)
	if err != nil {
		return nil, err
	}
	if err := a.Blobs.Refuse(b.id, false); err != nil {
		return nil, err
	}
	if _, ok := a.stat(b.id); ok {
		return true, nil
	}
	err = a.Network.WantBlob(ctx, b.id, blob.Why{Author: a.author(ctx, b.id, ""), Asked: true})
	if errors.Is(err, replicate.ErrStopped) {
		err = errStopping
	}
	if err != nil {
		return nil, err
	}
	return true, nil
}

func (a *API) blobsPush(ctx context.Context, req *muxrpc.Request) (any, error) {
	b, err := blobOf(req)
	if err != nil {
		return nil, err
	}
	return false, a.Network.PushBlob(ctx, b.id) // what npm muxrpc makes of no answer
}

func (a *API) blobsPushed(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	type pushed struct {
		Key   identity.BlobID `json:"key"`
		Peers int             `json:"peers"`
	}
	for id, peers := range a.Network.Pushed(ctx) {
		if err := sendJSON(s, pushed{id, peers}); err != nil {
			return err
		}
	}
	return nil
}

func (a *API) blobsRemove(_ context.Context, req *muxrpc.Request) (any, error) {
	b, err := blobOf(req)
	if err != nil {
		return nil, err
	}
	// First, so that it does not come again in between.
	_, here := a.Blobs.Stat(b.id)
	wanted := slices.ContainsFunc(a.Network.BlobWants(), func(w replicate.BlobWant) bool { return w.ID == b.id })
	if !here && !wanted {
		return nil, fmt.Errorf("blob %s is not here", b.id)
	}
	if err := a.Blobs.Refuse(b.id, true); err != nil {
		return nil, err
	}
	a.Network.ForgetBlob(b.id)
	if err := a.Blobs.Remove(b.id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return false, nil // as blobsPush
}

func (a *API) blobsList(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o struct {
		Meta json.RawMessage `json:"meta"`
		Long json.RawMessage `json:"long"`
		Size json.RawMessage `json:"size"`
		Live bool            `json:"live"`
		Old  *bool           `json:"old"`
		Sync *bool           `json:"sync"`
	}
	if err := req.Decode(&o); err != nil {
		return err
	}
	long := truthy(o.Meta) || truthy(o.Long) || truthy(o.Size)
	send := func(info blob.Info) error {
		if long {
			return sendJSON(s, metaOf(info))
		}
		return sendText(s, info.ID.String())
	}
	// npm pull-live: without what is old there is only what comes.
	old := o.Old == nil || *o.Old
	live := o.Live || !old
	news := a.Blobs.Follow(ctx, false)
	sent := map[identity.BlobID]bool{}
	if old {
		for info := range a.Blobs.All() {
			if err := send(info); err != nil {
				return err
			}
			if live {
				sent[info.ID] = true
			}
		}
	}
	if !live {
		return nil
	}
	if old && (o.Sync == nil || *o.Sync) {
		if err := s.SendJSON([]byte(`{"sync":true}`)); err != nil {
			return err
		}
	}
	for info := range news {
		if sent[info.ID] {
			continue // it came between Follow and All
		}
		sent = nil // all that follows came later
		if err := send(info); err != nil {
			return err
		}
	}
	return nil
}

func (a *API) blobsChanges(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	for info := range a.Blobs.Follow(ctx, false) {
		if err := sendText(s, info.ID.String()); err != nil {
			return err
		}
	}
	return nil
}

func sendText(s *muxrpc.Stream, text string) error {
	return s.Send(muxrpc.Body{Type: muxrpc.Text, Data: []byte(text)})
}

// blobsWants tells a program what a peer is told: what is wanted, and what of that came.
func (a *API) blobsWants(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	told := map[identity.BlobID]int64{}
	for first := true; ; first = false {
		changed := a.Network.Changed()
		now, news := map[identity.BlobID]int64{}, map[identity.BlobID]int64{}
		for _, w := range a.Network.BlobWants() {
			hops := -int64(w.Hops)
			if now[w.ID] = hops; told[w.ID] != hops {
				news[w.ID] = hops
			}
		}
		for id := range told {
			if _, still := now[id]; !still {
				if info, ok := a.stat(id); ok {
					news[id] = info.Size
				}
			}
		}
		if told = now; first || len(news) > 0 {
			if err := sendJSON(s, news); err != nil {
				return err
			}
		}
		if !pause(ctx, watchLeast, nil, nil) || !pause(ctx, watchMost, changed, nil) {
			return nil
		}
	}
}
