package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"charkha/identity"
	"charkha/lan"
	"charkha/log"
	"charkha/muxrpc"
	"charkha/replicate"
)

// explain is how the node tells why something is here, or is not.
func (a *API) explain() []muxrpc.Method {
	return append(a.blobsExplained(), []muxrpc.Method{
		{Name: "charkha.status", Kind: muxrpc.Async, Doc: "what the node holds, wants and is connected to, and how far it is", Call: answer0(a.status)},
		{Name: "charkha.peers", Kind: muxrpc.Async, Doc: "connections and known addresses, as an array: how each stands, and why", Call: answer0(a.peers)},
		{Name: "charkha.why", Kind: muxrpc.Async, Doc: "is a feed wanted, who has more of it than we, and why does it not come", Args: args(feedArg), Call: answer1(a.why)},
		{Name: "charkha.heldBy", Kind: muxrpc.Async, Doc: "the peers that hold a message: as their vector clocks say, or as they show when asked", Args: args(need("msg", "MsgId", "the message")), Call: answer1(a.heldBy)},
		{Name: "charkha.rooms", Kind: muxrpc.Async, Doc: "the rooms that we are in, and who is there, as an array", Call: answer0(a.rooms)},
		{Name: "charkha.lan", Kind: muxrpc.Async, Doc: "where the local network is searched for peers, and what is heard there", Call: answer0(a.lan)},
		{Name: "charkha.watch", Kind: muxrpc.Source, Doc: "what another of these methods answers, and anew when it changes", Args: args(
			need("what", "string", "status, peers, why, heldBy, rooms, lan, blob or blobWants"), may("about", "any", "that method's argument")), Stream: a.watch},
	}...)
}

// answer0 and answer1 make a handler of a function with no argument, or one.
func answer0[A any](f func(context.Context) (A, error)) func(context.Context, *muxrpc.Request) (any, error) {
	return func(ctx context.Context, _ *muxrpc.Request) (any, error) { return f(ctx) }
}

func answer1[T, A any](f func(context.Context, T) (A, error)) func(context.Context, *muxrpc.Request) (any, error) {
	return func(ctx context.Context, req *muxrpc.Request) (any, error) {
		var arg T
		if err := req.Decode(&arg); err != nil {
			return nil, err
		}
		return f(ctx, arg)
	}
}

// Status is the answer to charkha.status.
type Status struct {
	ID        identity.ID        `json:"id"`
	Version   string             `json:"version"`
	Addresses []string           `json:"addresses"`
	Hops      int                `json:"hops"`
	Feeds     int                `json:"feeds"`     // held, ours included
	Wanted    int                `json:"wanted"`    // in range and not blocked
	Messages  int64              `json:"messages"`  // held
	Unindexed int64              `json:"unindexed"` // of these, not in the index yet
	Progress  replicate.Progress `json:"progress"`  // of the exchange with peers
	Own       OwnFeed            `json:"own"`
	Connected int                `json:"connected"` // peers with a working connection
	Forks     []ForkedFeed       `json:"forks"`
	Blobs     *BlobUsage         `json:"blobs,omitempty"`
	Warnings  []string           `json:"warnings"` // what the operator should look at, in words
}

// OwnFeed is where the node's own feed stands.
type OwnFeed struct {
	Sequence int64 `json:"sequence"`
	// Confirmed is false after a key was restored and until its feed was fetched: publishing is refused, as it could fork.
	Confirmed bool `json:"confirmed"`
}

// ForkedFeed is a feed of which two different messages with one sequence, or one predecessor, were seen, both signed by
// its author. The feed stops there.
type ForkedFeed struct {
	Feed     identity.ID    `json:"feed"`
	Sequence int64          `json:"sequence"`
	Kept     identity.MsgID `json:"kept"`
	Other    identity.MsgID `json:"other"`
}

func forked(f log.Fork) ForkedFeed {
	return ForkedFeed{Feed: f.Feed, Sequence: f.Sequence, Kept: f.Kept, Other: f.Other}
}

func (a *API) status(context.Context) (Status, error) {
	st := Status{
		ID: a.Key.ID(), Version: a.Version, Hops: a.Hops, Addresses: []string{}, Forks: []ForkedFeed{}, Warnings: []string{},
		Wanted: len(a.Index.WantedFeeds()), Progress: a.Network.Progress(),
		Own: OwnFeed{Confirmed: a.Log.Confirmed(a.Key.ID())}, Blobs: a.blobUsage(),
	}
	for _, addr := range a.Network.Addresses() {
		st.Addresses = append(st.Addresses, addr.String())
	}
	for feed, head := range a.Log.Heads() {
		st.Feeds++
		st.Messages += head.Sequence
		if feed == a.Key.ID() {
			st.Own.Sequence = head.Sequence
		}
	}
	if end, at := a.Log.Len(), a.Index.Cursor(); at < end {
		st.Unindexed = int64(end - at)
	}
	peers := a.Network.Peers()
	for _, p := range peers {
		if p.State == replicate.Connected {
			st.Connected++
		}
	}
	for _, f := range a.Log.Forks() {
		st.Forks = append(st.Forks, forked(f))
	}
	if !st.Own.Confirmed {
		st.Warnings = append(st.Warnings, unconfirmed)
	}
	if text := ourClock(peers); text != "" {
		st.Warnings = append(st.Warnings, text)
	}
	return st, nil
}

const unconfirmed = "publishing waits until this feed was fetched from a peer (or start with --new-feed, if its key never published)"

const (
	// skewed is how wrong a clock must be to be spoken of.
	skewed = time.Minute
	// agreeing peers say that our own clock is wrong.
	agreeing = 3
)

// ourClock says so when our clock is wrong, as far as several peers agree.
func ourClock(peers []replicate.Peer) string {
	var skews []int64
	for _, p := range peers {
		if p.State == replicate.Connected && p.Pinged {
			skews = append(skews, p.Skew)
		}
	}
	if len(skews) < agreeing {
		return ""
	}
	slices.Sort(skews)
	middle := time.Duration(skews[len(skews)/2]) * time.Millisecond
	agree := 0
	for _, s := range skews {
		if (time.Duration(s)*time.Millisecond - middle).Abs() < skewed {
			agree++
		}
	}
	if middle.Abs() < skewed || 2*agree <= len(skews) {
		return ""
	}
	return fmt.Sprintf("this computer's clock is probably wrong: those of %d of %d peers are %s", agree, len(skews), offset(middle))
}

// offset says where another clock is.
func offset(skew time.Duration) string {
	if skew < 0 {
		return about(-skew) + " behind ours"
	}
	return about(skew) + " ahead of ours"
}

// about is a time as people say it.
func about(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{365 * 24 * time.Hour, "years"}, {24 * time.Hour, "days"}, {time.Hour, "hours"}, {time.Minute, "min"}} {
		if n := (d + u.unit/2) / u.unit; n >= 2 {
			return fmt.Sprintf("%d %s", n, u.name)
		}
	}
	return fmt.Sprintf("%d s", (d+time.Second/2)/time.Second)
}

// Peer is an element of the answer to charkha.peers.
type Peer struct {
	replicate.Peer
	Name string `json:"name,omitempty"` // what people call it
	Note string `json:"note"`           // how it stands, in words
}

func (a *API) peers(context.Context) ([]Peer, error) {
	peers := []Peer{}
	for _, p := range a.Network.Peers() {
		peers = append(peers, Peer{p, a.Index.Name(p.ID), peerNote(p)})
	}
	return peers, nil
}

// peerNote says in words what is to be known of a peer.
func peerNote(p replicate.Peer) string {
	var notes []string
	if p.State != replicate.Connected {
		notes = append(notes, p.Why)
	}
	if p.Room {
		notes = append(notes, "a room")
	}
	if p.Stalled > 0 {
		notes = append(notes, fmt.Sprintf("it says to have more of %s and does not send it", plural(int64(p.Stalled), "feed")))
	}
	if p.Refused > 0 {
		notes = append(notes, fmt.Sprintf("%s from it refused: not valid", plural(p.Refused, "message")))
	}
	if skew := time.Duration(p.Skew) * time.Millisecond; skew.Abs() >= skewed {
		notes = append(notes, "its clock is "+offset(skew))
	}
	if p.LastError != "" && !strings.Contains(p.Why, p.LastError) {
		notes = append(notes, "before: "+p.LastError)
	}
	return strings.Join(notes, "; ")
}

func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Person is a feed and what people call it.
type Person struct {
	ID   identity.ID `json:"id"`
	Name string      `json:"name,omitempty"`
}

// maxPersons bounds how many are listed where there may be any number.
const maxPersons = 10

func (a *API) persons(ids []identity.ID) (all []Person, more int) {
	all = []Person{}
	for _, id := range ids {
		if len(all) == maxPersons {
			return all, len(ids) - maxPersons
		}
		all = append(all, Person{id, a.Index.Name(id)})
	}
	return all, 0
}

// Verdict is the one word for how a feed stands.
type Verdict string

// The verdicts, in the order in which they are looked for.
const (
	Own         Verdict = "own"          // our own feed
	Unconfirmed Verdict = "unconfirmed"  // our own, restored and not fetched: nothing may be published
	WeBlock     Verdict = "blocked"      // by us
	OutOfRange  Verdict = "out of range" // nobody near enough follows it, or somebody nearer blocks it
	Forked      Verdict = "forked"       // its author signed two histories: it stops there
	NoPeers     Verdict = "no peers"     // nobody is connected
	Arriving    Verdict = "arriving"     // somebody was asked, and has some time left to answer
	Refused     Verdict = "refused"      // what those have who have more is not valid
	Stalled     Verdict = "stalled"      // those who say to have more do not send it
	Withheld    Verdict = "withheld"     // the author blocks those who have more: they may not give it to us
	NobodyHas   Verdict = "nobody"       // no connected peer has anything of it
	Whole       Verdict = "whole"        // nobody connected has more than we
	Unknown     Verdict = "unknown"      // the connected peers do not say what they have
)

// FeedClaim is what a peer says of a feed.
type FeedClaim struct {
	replicate.Claim
	Name string `json:"name,omitempty"` // of the peer
}

// Why is the answer to charkha.why: how a feed stands, and what is in its way.
type Why struct {
	Feed      identity.ID `json:"feed"`
	Name      string      `json:"name,omitempty"`
	Verdict   Verdict     `json:"verdict"`
	Text      string      `json:"text"`           // the verdict in words
	Hint      string      `json:"hint,omitempty"` // what may be done
	Wanted    bool        `json:"wanted"`
	Hops      *int        `json:"hops"`      // distance, negative over a block; null: not known
	Through   []Person    `json:"through"`   // who in range follows it, the nearest first: at most 10
	BlockedBy []Person    `json:"blockedBy"` // who in range blocks it, the same
	Head      int64       `json:"head"`      // the sequence that we hold; 0: nothing
	Most      int64       `json:"most"`      // the highest that a connected peer says to have; 0: nobody has any
	Fork      *ForkedFeed `json:"fork"`      // null: not forked
	Claims    []FeedClaim `json:"claims"`    // of the connected peers that speak of it
	Silent    int         `json:"silent"`    // connected peers that say nothing of it
	Reach     []Peer      `json:"reach"`     // the author's own connection or addresses
}

func (a *API) why(ctx context.Context, feed identity.ID) (w Why, err error) {
	if feed.IsZero() {
		return w, errors.New("the feed id is missing, or nothing but zeros")
	}
	a.settle(ctx)
	state := a.Network.Feed(feed)
	w = Why{Feed: feed, Name: a.Index.Name(feed), Wanted: state.Wanted, Head: state.Head, Claims: []FeedClaim{}, Reach: []Peer{}}
	if d, ok := a.Index.Hops(feed); ok {
		w.Hops = &d
	}
	w.Through, _ = a.persons(a.Index.Followers(feed))
	w.BlockedBy, _ = a.persons(a.Index.Blockers(feed))
	if f, ok := a.Log.Forked(feed); ok {
		is := forked(f)
		w.Fork = &is
	}
	for _, c := range state.Claims {
		w.Claims = append(w.Claims, FeedClaim{c, a.Index.Name(c.Peer)})
		w.Most = max(w.Most, c.Sequence)
	}
	peers, _ := a.peers(ctx)
	connected, known := 0, 0
	for _, p := range peers {
		known++
		if p.State == replicate.Connected {
			connected++
			if !slices.ContainsFunc(w.Claims, func(c FeedClaim) bool { return c.Peer == p.ID }) {
				w.Silent++
			}
		}
		if p.ID == feed {
			w.Reach = append(w.Reach, p)
		}
	}
	w.judge(a, connected, known)
	return w, nil
}

// judge finds the verdict.
func (w *Why) judge(a *API, connected, known int) {
	self := a.Key.ID()
	say := func(v Verdict, format string, args ...any) { w.Verdict, w.Text = v, fmt.Sprintf(format, args...) }
	var asked, refused, stalled, withheld []string // those who have more than we, by what is with them
	holders := 0
	for _, c := range w.Claims {
		if c.Sequence >= w.Head && w.Head > 0 {
			holders++
		}
		if c.Sequence <= w.Head {
			continue
		}
		name := called(Person{c.Peer, c.Name})
		switch {
		case c.Blocked:
			withheld = append(withheld, name)
		case c.Refused:
			refused = append(refused, name)
		case c.Stalled:
			stalled = append(stalled, name)
		default:
			asked = append(asked, name)
		}
	}
	missing := plural(w.Most-w.Head, "message")
	switch {
	case w.Feed == self && !a.Log.Confirmed(self):
		say(Unconfirmed, "this is the node's own feed, restored from its key: publishing is closed until the feed was fetched from a peer, as it could fork")
		w.Hint = "connect to a peer that has the feed; or start with --new-feed, if the key never published"
		if w.Head > 0 {
			w.Text += fmt.Sprintf("; here is %s of it", plural(w.Head, "message"))
		}
	case w.Feed == self:
		say(Own, "this is the node's own feed, with %s; %s it whole", plural(w.Head, "message"), hold(holders))
	case a.Index.Blocks(self, w.Feed):
		say(WeBlock, "you block it: it is neither fetched nor shown")
		w.Hint = fmt.Sprintf("'charkha follow %s' ends that", w.Feed)
	case !w.Wanted:
		say(OutOfRange, "nobody within %s follows it, so it is not fetched", plural(int64(a.Hops-1), "hop"))
		if len(w.BlockedBy) > 0 {
			say(OutOfRange, "%s blocks it, who is as near as anybody who follows it, so it is not fetched", called(w.BlockedBy[0]))
		}
		if a.Hops <= 1 && len(w.BlockedBy) == 0 {
			say(OutOfRange, "you do not follow it, so it is not fetched")
		}
		w.Hint = fmt.Sprintf("'charkha follow %s' makes it wanted", w.Feed)
		if a.Index.Follows(self, w.Feed) && len(w.BlockedBy) == 0 {
			say(OutOfRange, "you follow it, but no feeds but your own are fetched")
			w.Hint = "the node was started with --hops 0"
		}
	case w.Fork != nil:
		say(Forked, "its author signed two different histories: at %d there are %s and %s. It stops there, here and at every peer that saw both",
			w.Fork.Sequence, w.Fork.Kept, w.Fork.Other)
		w.Hint = "only its author can help, with a new feed"
	case connected == 0:
		say(NoPeers, "it is wanted, and no peer is connected of whom to get it")
		w.Hint = "'charkha peers' says why not"
		if known == 0 {
			w.Hint = "no peer is known: 'charkha connect ADDR', 'charkha invite accept CODE', or one on the local network ('charkha doctor lan')"
		}
	case len(asked) > 0:
		say(Arriving, "%s to have %s more, and was asked: it should arrive soon", says(asked), missing)
	case len(stalled) > 0:
		say(Stalled, "%s to have %s more and did not send any when asked; another peer is asked when one has it", says(stalled), missing)
		w.Hint = "'charkha peers' tells how those connections are"
	case len(refused) > 0:
		say(Refused, "%s to have %s more, but what was sent is not valid, or does not follow what we hold", says(refused), missing)
		w.Hint = "the node's log names the message and what is wrong with it; another peer may have it right"
	case len(withheld) > 0:
		say(Withheld, "%s to have %s more, but its author blocks who has it: it does not go through them", says(withheld), missing)
	case w.Silent == connected:
		say(Unknown, "the %s that is connected says nothing of what it has", "peer")
		if connected > 1 {
			say(Unknown, "none of the %d connected peers says what it has", connected)
		}
		w.Text += fmt.Sprintf("; here is %s of the feed", plural(w.Head, "message"))
	case w.Most <= 0 && w.Head == 0:
		say(NobodyHas, "it is wanted, and nobody has it: none of the %s that is connected", plural(int64(connected), "peer"))
		if connected > 1 {
			say(NobodyHas, "it is wanted, and none of the %d connected peers has anything of it", connected)
		}
		w.Hint = "it comes when a peer has it: its author, or somebody who follows them"
	default:
		say(Whole, "nothing is missing, as far as the connected peers know: here is all up to message %d, and %s the same", w.Head, hold(holders))
	}
	if w.Verdict != WeBlock && w.Verdict != OutOfRange && w.Verdict != Own {
		for _, p := range w.Reach {
			if p.State != replicate.Connected && p.Address != nil && p.Address.Proto == "tunnel" {
				w.Hint = strings.TrimPrefix(w.Hint+". ", ". ") + fmt.Sprintf("Its author would be reached through a room (%s): %s", p.Address, p.Why)
				break
			}
		}
	}
}

func hold(n int) string {
	switch n {
	case 0:
		return "no connected peer is known to hold"
	case 1:
		return "1 connected peer holds"
	}
	return fmt.Sprintf("%d connected peers hold", n)
}

// called is the name of a person, and the id.
func called(p Person) string {
	if p.Name == "" {
		return p.ID.String()
	}
	return fmt.Sprintf("%s (%s)", p.Name, p.ID)
}

// says begins a sentence of several.
func says(who []string) string {
	if len(who) == 1 {
		return who[0] + " says"
	}
	return fmt.Sprintf("%s and %s say", who[0], plural(int64(len(who)-1), "other"))
}

// HeldBy is the answer to charkha.heldBy.
type HeldBy struct {
	Msg      identity.MsgID `json:"msg"`
	Feed     identity.ID    `json:"feed"`
	Sequence int64          `json:"sequence"`
	Count    int            `json:"count"` // of holders
	Pubs     int            `json:"pubs"`  // of them
	Text     string         `json:"text"`
	Holders  []MsgHolder    `json:"holders"`
}

// MsgHolder is a peer that holds a message.
type MsgHolder struct {
	replicate.Holder
	Name string `json:"name,omitempty"`
}

func (a *API) heldBy(ctx context.Context, id identity.MsgID) (h HeldBy, err error) {
	if id == (identity.MsgID{}) {
		return h, errors.New("the message id is missing, or nothing but zeros")
	}
	m, err := a.Log.Get(id)
	if errors.Is(err, log.ErrNotFound) {
		return h, fmt.Errorf("%s is not held here, so it is not known of which feed it is, and who has it", id)
	}
	if err != nil {
		return h, err
	}
	h = HeldBy{Msg: id, Feed: m.Author(), Sequence: m.Sequence(), Holders: []MsgHolder{}}
	for _, holder := range a.Network.Holders(ctx, h.Feed, h.Sequence) {
		h.Holders = append(h.Holders, MsgHolder{holder, a.Index.Name(holder.Peer)})
		h.Count++
		if holder.Pub {
			h.Pubs++
		}
	}
	switch h.Text = fmt.Sprintf("held by %s", plural(int64(h.Count), "peer")); h.Pubs {
	case 0:
	case 1:
		h.Text += ", 1 of them a pub"
	default:
		h.Text += fmt.Sprintf(", %d of them pubs", h.Pubs)
	}
	return h, nil
}

func (a *API) rooms(context.Context) ([]replicate.Room, error) {
	return append([]replicate.Room{}, a.Network.Rooms()...), nil
}

func (a *API) lan(context.Context) (lan.Report, error) { return a.LAN(), nil }

const (
	// watchLeast is the least time between two answers of charkha.watch, and watchMost that after which things are looked at even
	// when nothing is known to have changed: the answers speak of time, too.
	watchLeast = 250 * time.Millisecond
	watchMost  = 5 * time.Second
)

func (a *API) watch(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var what string
	var arg json.RawMessage
	if err := req.Decode(&what, &arg); err != nil {
		return err
	}
	i := slices.IndexFunc(a.explain(), func(m muxrpc.Method) bool { return m.Name == "charkha."+what && m.Call != nil })
	if i < 0 {
		return fmt.Errorf("charkha.watch: there is no %q to watch", what)
	}
	ask := a.explain()[i].Call
	once := &muxrpc.Request{Name: req.Name, Args: []byte("[]")}
	if len(arg) > 0 {
		once.Args = slices.Concat([]byte("["), arg, []byte("]"))
	}
	var last []byte
	for {
		changed, graph := a.Network.Changed(), a.Index.Changed()
		answer, err := ask(ctx, once)
		if err != nil {
			return err
		}
		data, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		if !bytes.Equal(data, last) {
			if err := s.SendJSON(data); err != nil {
				return err
			}
			last = data
		}
		most := watchMost
		if what == "blob" {
			most = watchLeast // bytes come
		}
		if !pause(ctx, watchLeast, nil, nil) || !pause(ctx, most, changed, graph) {
			return nil
		}
	}
}

// pause waits for a while, or until one of two things happens; false: ctx ended.
func pause(ctx context.Context, most time.Duration, a, b <-chan struct{}) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a:
	case <-b:
	case <-ctx.Done():
		return false
	}
	return true
}
