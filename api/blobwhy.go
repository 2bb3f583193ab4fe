package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"charkha/blob"
	"charkha/identity"
	"charkha/index"
	"charkha/muxrpc"
	"charkha/replicate"
)

// blobsExplained is what no other node tells of blobs: what charkha.watch may ask again and again.
func (a *API) blobsExplained() []muxrpc.Method {
	return []muxrpc.Method{
		{Name: "charkha.blob", Kind: muxrpc.Async, Doc: "is a blob here and why, who has it, and why does it not come", Args: args(need("blob", "BlobId", "the blob")), Call: answer1(a.blobState)},
		{Name: "charkha.blobWants", Kind: muxrpc.Async, Doc: "the blobs that are wanted, as an array: for whom, who has them, and how far they are", Call: answer0(a.blobWants)},
	}
}

// KeptBlob is a blob that is here.
type KeptBlob struct {
	ID     identity.BlobID `json:"id"`
	Size   int64           `json:"size"`             // bytes
	TS     int64           `json:"ts"`               // when it came, in ms since 1970
	Own    bool            `json:"own"`              // it was added here, so it stays
	Pinned bool            `json:"pinned"`           // it was asked to stay
	Author *Person         `json:"author,omitempty"` // for whose message it is kept
	Peer   *Person         `json:"peer,omitempty"`   // who brought it, or asked for it
}

func (a *API) kept(info blob.Info) KeptBlob {
	return KeptBlob{info.ID, info.Size, info.Stored.UnixMilli(), info.Why.Own, info.Why.Pinned, a.somebody(info.Why.Author), a.somebody(info.Why.Peer)}
}

// somebody is a person, or nil for the zero id.
func (a *API) somebody(id identity.ID) *Person {
	if id.IsZero() {
		return nil
	}
	return &Person{id, a.Index.Name(id)}
}

// WantedBlob is a blob that is wanted.
type WantedBlob struct {
	replicate.BlobWant
	From []Person `json:"from"` // connected peers who say to have it
	For  []Person `json:"for"`  // peers who want it, too, a few of them
}

func (a *API) wanted(w replicate.BlobWant) WantedBlob {
	from, _ := a.persons(w.Sources)
	askers, _ := a.persons(w.Askers)
	return WantedBlob{w, from, askers}
}

func (a *API) blobWants(context.Context) ([]WantedBlob, error) {
	all := []WantedBlob{}
	for _, w := range a.Network.BlobWants() {
		all = append(all, a.wanted(w))
	}
	return all, nil
}

func (a *API) keptBlobs(_ context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	for info := range a.Blobs.All() {
		if err := sendJSON(s, a.kept(info)); err != nil {
			return err
		}
	}
	return nil
}

func (a *API) pinBlob(_ context.Context, req *muxrpc.Request) (any, error) {
	var id identity.BlobID
	pinned := true
	if err := req.Decode(&id, &pinned); err != nil {
		return nil, err
	}
	if err := a.Blobs.Pin(id, pinned); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s is not here", id)
	} else if err != nil {
		return nil, err
	}
	return nil, nil
}

// BlobVerdict is the one word for how a blob stands.
type BlobVerdict string

// The verdicts on a blob, in the order in which they are looked for.
const (
	BlobHere     BlobVerdict = "here"
	BlobRefused  BlobVerdict = "refused"  // removed by hand
	BlobUnwanted BlobVerdict = "unwanted" // not here, and not asked for
	BlobNoPeers  BlobVerdict = "noPeers"  // wanted, and nobody is connected
	BlobTooLarge BlobVerdict = "tooLarge" // who has it says so
	BlobArriving BlobVerdict = "arriving" // bytes have come
	BlobFailing  BlobVerdict = "failing"  // somebody has it, and it did not work out so far
	BlobFound    BlobVerdict = "found"    // somebody has it: it is its turn soon
	BlobNobody   BlobVerdict = "nobody"   // wanted, and no connected peer says to have it
)

// BlobState is the answer to charkha.blob.
type BlobState struct {
	ID       identity.BlobID `json:"id"`
	Verdict  BlobVerdict     `json:"verdict"`
	Text     string          `json:"text"`           // the verdict in words
	Hint     string          `json:"hint,omitempty"` // what to do about it
	Refused  bool            `json:"refused"`        // it was removed by hand, and comes only if somebody asks for it
	Here     *KeptBlob       `json:"here,omitempty"`
	Want     *WantedBlob     `json:"want,omitempty"`
	LinkedBy []Person        `json:"linkedBy"` // who linked it, the first ones
}

func (a *API) blobState(ctx context.Context, id identity.BlobID) (b BlobState, err error) {
	if a.Blobs == nil {
		return b, errNoBlobs
	}
	b = BlobState{ID: id, Refused: a.Blobs.Refused(id)}
	a.settle(ctx)
	authors, err := a.linkers(ctx, id, "", maxPersons)
	if err != nil {
		return b, err
	}
	b.LinkedBy, _ = a.persons(authors)
	if info, ok := a.stat(id); ok {
		here := a.kept(info)
		b.Here = &here
	} else {
		wants := a.Network.BlobWants()
		if i := slices.IndexFunc(wants, func(w replicate.BlobWant) bool { return w.ID == id }); i >= 0 {
			w := a.wanted(wants[i])
			b.Want = &w
		}
	}
	connected := 0
	for _, p := range a.Network.Peers() {
		if p.State == replicate.Connected {
			connected++
		}
	}
	a.judgeBlob(&b, connected)
	return b, nil
}

// judgeBlob finds the verdict on a blob.
func (a *API) judgeBlob(b *BlobState, connected int) {
	say := func(v BlobVerdict, format string, args ...any) { b.Verdict, b.Text = v, fmt.Sprintf(format, args...) }
	w := b.Want
	switch {
	case b.Here != nil:
		switch {
		case b.Here.Own:
			say(BlobHere, "it is here, added by a program on this computer: it stays")
		case b.Here.Pinned:
			say(BlobHere, "it is here, and pinned: it stays")
		case b.Here.Author != nil:
			say(BlobHere, "it is here, because %s linked it", called(*b.Here.Author))
		case b.Here.Peer != nil:
			say(BlobHere, "it is here, and came from or for %s", called(*b.Here.Peer))
		default:
			say(BlobHere, "it is here")
		}
	case w == nil && b.Refused:
		say(BlobRefused, "it was removed from this node, and does not come back by itself")
		b.Hint = fmt.Sprintf("'charkha blob want %s' asks the peers for it", b.ID)
	case w == nil:
		say(BlobUnwanted, "it is not here, and was not asked for since the node started, or is no longer; or it left to make room for others")
		b.Hint = fmt.Sprintf("'charkha blob want %s' asks the peers for it", b.ID)
	case connected == 0:
		say(BlobNoPeers, "it is wanted, and no peer is connected of whom to get it")
		b.Hint = "'charkha peers' says why not"
	case a.BlobMax > 0 && w.Size > a.BlobMax:
		say(BlobTooLarge, "it has %d bytes, as %s, more than the %d that the node takes", w.Size, saysWho(w.From), a.BlobMax)
		b.Hint = "a larger --blob-max lets it in, at the next start"
	case w.Got > 0 && w.Size > 0:
		say(BlobArriving, "%d of %d bytes have come from %s", w.Got, w.Size, listed(w.From))
	case len(w.From) > 0 && w.Last != "":
		say(BlobFailing, "%s to have it, and it did not come so far: %s", saysWho(w.From), w.Last)
		b.Hint = fmt.Sprintf("'charkha blob want %s' tries it now, and takes what is larger than --blob-auto, too", b.ID)
	case len(w.From) > 0:
		say(BlobFound, "%s to have it, and is asked for it when it is its turn", saysWho(w.From))
	default:
		say(BlobNobody, "the peer that is connected was asked, and does not have it so far")
		if connected > 1 {
			say(BlobNobody, "the %d connected peers were asked, and none has it so far", connected)
		}
		if w.Last != "" {
			b.Text += "; before: " + w.Last
		}
		b.Hint = "it comes when a peer has it: peers ask theirs, too"
	}
	if w != nil && w.Hops > 1 && len(w.For) > 0 {
		b.Text += fmt.Sprintf("; it is wanted for %s", listed(w.For))
	}
}

func listed(people []Person) string {
	switch len(people) {
	case 0:
		return "a peer"
	case 1:
		return called(people[0])
	}
	return fmt.Sprintf("%s and %s", called(people[0]), plural(int64(len(people)-1), "other"))
}

func saysWho(people []Person) string {
	if len(people) > 1 {
		return listed(people) + " say"
	}
	return listed(people) + " says"
}

// linkers lists who linked a blob, first those who are nearest and then those who did so first, at most some. Of links with a key
// the index knows the whole link only: they are found if it is given.
func (a *API) linkers(ctx context.Context, id identity.BlobID, link string, most int) ([]identity.ID, error) {
	const looked = 100 // messages
	var found []identity.ID
	seen := map[identity.ID]bool{}
	where := index.Refers(id.String())
	if link != "" {
		where = index.Or(where, index.Refers(link))
	}
	for m, err := range a.Index.Query(ctx, index.Query{Where: where.Private(true), Limit: looked}) {
		if err != nil {
			return nil, err
		}
		if !seen[m.Author()] {
			seen[m.Author()] = true
			found = append(found, m.Author())
		}
	}
	hops := func(id identity.ID) int {
		if n, ok := a.Index.Hops(id); ok && n >= 0 {
			return n
		}
		return 1 << 20
	}
	slices.SortStableFunc(found, func(x, y identity.ID) int { return cmp.Compare(hops(x), hops(y)) })
	return found[:min(len(found), most)], nil
}

// BlobUsage is how much room blobs take, in bytes.
type BlobUsage struct {
	Blobs   int64     `json:"blobs"` // how many are here
	Bytes   int64     `json:"bytes"`
	Own     int64     `json:"own"`     // of those that stay: own and pinned ones
	Budget  int64     `json:"budget"`  // for the others; 0: no limit
	Evicted int64     `json:"evicted"` // blobs that left for others since the node started
	Wanted  int       `json:"wanted"`  // blobs that are not here
	Authors []BytesOf `json:"authors"` // for whose messages blobs are kept: those with most
	Peers   []BytesOf `json:"peers"`   // who brought blobs, or asked for them: those with most
}

// BytesOf is how many bytes count for somebody.
type BytesOf struct {
	Person
	Bytes int64 `json:"bytes"`
}

// blobUsage is nil when no blobs are kept.
func (a *API) blobUsage() *BlobUsage {
	if a.Blobs == nil {
		return nil
	}
	u := a.Blobs.Usage()
	return &BlobUsage{Blobs: u.Blobs, Bytes: u.Bytes, Own: u.Own, Budget: u.Budget, Evicted: u.Evicted, Wanted: len(a.Network.BlobWants()),
		Authors: a.mostBytes(u.Authors), Peers: a.mostBytes(u.Peers)}
}

// mostBytes lists those with most bytes, but for nobody.
func (a *API) mostBytes(of map[identity.ID]int64) []BytesOf {
	all := []BytesOf{}
	for _, id := range slices.SortedFunc(maps.Keys(of), func(x, y identity.ID) int {
		return cmp.Or(cmp.Compare(of[y], of[x]), slices.Compare(x[:], y[:]))
	}) {
		if len(all) == maxPersons {
			break
		}
		if !id.IsZero() {
			all = append(all, BytesOf{Person{id, a.Index.Name(id)}, of[id]})
		}
	}
	return all
}
