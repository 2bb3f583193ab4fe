// Package api is what local programs may ask of the node: the muxrpc methods served on the unix socket and to callers that
// hold the node's own key.
//
// A namespace is a file: db.go and read.go (the message database), query.go (map-filter-reduce), private.go, friends.go (the follow
// graph), about.go (profiles and names), threads.go, search.go, conn.go (connections), replicate.go, invite.go, room.go, lan.go, blobs.go, purge.go (a limit for blobs), and for what no
// other SSB node offers explain.go and blobwhy.go (how the node stands, and why) and charkha.go (the timeline, waiting, import and export). A
// method's name, kind, handler, arguments and help line stand in one place, and the manifest is generated from them. What remote peers may
// call lives in package replicate; the methods here are refused to them, but for PeerMethods.
//
// The package keeps no state of its own, but for what was read (unread.go) and what peers are being asked for (ooo.go). A handler
// reads its arguments, asks log, index or replicate, and gives the answer in the forms that SSB programs know: messages as
// {key, value, timestamp} ("KVT"), the value byte for byte as it was signed.
package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"time"

	"charkha/blob"
	"charkha/identity"
	"charkha/index"
	"charkha/lan"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/replicate"
)

// API is the rooms that the methods speak for. All fields are set once, before Methods is called.
type API struct {
	Key     identity.KeyPair
	Log     *log.Log
	Index   *index.Index
	Network *replicate.Network
	LAN     func() lan.Report // how the search of the local network goes
	Dir     string            // what was read is kept there, in unread/read; "": it is forgotten when the node ends
	// Addresses are where the node listens for who is in a scope: device, local, private or public; "" is device. Nil: what
	// Network says, for all of them.
	Addresses func(scope string) []identity.Address
	Hops      int // the replication range, for status
	// Blobs is nil when no blobs are kept. BlobMax is the most bytes of one blob, and BlobBudget that of all that may leave again, 0 for
	// no limit: as the operator said.
	Blobs               *blob.Store
	BlobMax, BlobBudget int64
	Version             string // what version() answers

	wants wants // ooo.get's

	settleFor time.Duration // replaces indexWait, for tests on slow machines
}

// Methods returns the methods of every namespace, for local programs. It is called once.
func (a *API) Methods() []muxrpc.Method {
	var all []muxrpc.Method
	all = append(all, a.db()...)
	all = append(all, a.friends()...)
	all = append(all, a.conn()...)
	all = append(all, a.replication()...)
	all = append(all, a.privates()...)
	all = append(all, a.reads()...)
	all = append(all, a.queries()...)
	all = append(all, a.threads()...)
	all = append(all, a.about()...)
	all = append(all, a.search()...)
	all = append(all, a.neighbours()...)
	all = append(all, a.explain()...)
	all = append(all, a.invites()...)
	all = append(all, a.room()...)
	all = append(all, a.charkha()...)
	all = append(all, a.blobs()...)
	all = append(all, a.purges()...)
	all = append(all, a.unread()...)
	all = append(all, a.outOfOrder()...)
	all = append(all, a.PeerMethods()...)
	for _, g := range groups {
		all = append(all, muxrpc.Method{Kind: muxrpc.Group, Name: g[0], Doc: g[1]})
	}
	return all
}

// groups are what help says of the namespaces.
var groups = [][2]string{
	{"about", "what people say of feeds and messages"},
	{"aboutSelf", "what feeds say of themselves"},
	{"backlinks", "what refers to something"},
	{"blobs", "files that messages link, by the hash of their bytes"},
	{"blobsPurge", "a limit for how much room blobs take"},
	{"charkha", "what no other node has: how this one stands and why, import and export"},
	{"conn", "peers and addresses"},
	{"ebt", "which feeds are exchanged with whom"},
	{"friends", "who follows and blocks whom"},
	{"gossip", "peers and addresses, for older programs"},
	{"httpInviteClient", "invites of rooms"},
	{"invite", "invites of pubs"},
	{"lan", "peers in the local network"},
	{"links2", "references"},
	{"meme", "images by their names"},
	{"multiserver", "multiserver addresses"},
	{"names", "what people call each other"},
	{"ooo", "single messages from connected peers"},
	{"partialReplication", "parts of feeds, for programs that keep few"},
	{"plugins", "there are none"},
	{"private", "messages that only their recipients can read"},
	{"query", "messages through map-filter-reduce"},
	{"replicate", "which feeds are fetched, for older programs"},
	{"roomClient", "rooms that we are in"},
	{"search", "messages by words, as npm ssb-search finds them"},
	{"search2", "messages by words, the newest first"},
	{"suggest", "people by the beginning of their names"},
	{"tangle", "the ends of threads"},
	{"tangles", "threads, as go-ssb has them"},
	{"threads", "posts and what they are answered with"},
	{"unread", "what was read"},
}

// indexWait is how long an answer from the index waits for it to know what the log has: who has just published wants to see
// it. During a long sync the answer is what is indexed so far.
const indexWait = time.Second

// errStopping answers calls that wait while the node stops.
var errStopping = errors.New("the node stopped before that; start it, and try again")

// settle waits for the index.
func (a *API) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(a.settleFor, indexWait))
	defer cancel()
	_ = a.Index.Wait(ctx, a.Log.Len()) // late is no failure
}

// sendKVT sends messages as {key, value, timestamp} until they end.
func sendKVT(s *muxrpc.Stream, msgs iter.Seq2[log.Message, error]) error {
	for m, err := range msgs {
		if err != nil {
			return err
		}
		if err := s.SendJSON(m.AppendKVT(nil)); err != nil {
			return err
		}
	}
	return nil
}

// kvt is a message as JSON {key, value, timestamp}.
func kvt(m log.Message) json.RawMessage { return m.AppendKVT(nil) }

// limited cuts a sequence after n messages; n < 0 is no limit, as in JS.
func limited(msgs iter.Seq2[log.Message, error], n int) iter.Seq2[log.Message, error] {
	if n < 0 {
		return msgs
	}
	return func(yield func(log.Message, error) bool) {
		left := n
		if left == 0 {
			return
		}
		for m, err := range msgs {
			if !yield(m, err) {
				return
			}
			if left--; left == 0 {
				return
			}
		}
	}
}
