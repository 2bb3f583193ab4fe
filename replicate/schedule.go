package replicate

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"charkha/identity"
	"charkha/replicate/internal/ebt"
	"charkha/replicate/internal/sched"
)

// Kind says how a peer is reached. Each kind has slots of its own for the connections that we make.
type Kind = sched.Kind

// The kinds of addresses.
const (
	KindLAN   = sched.LAN   // a neighbour on the local network
	KindRoom  = sched.Room  // a peer reached through a room
	KindPub   = sched.Pub   // a pub or a room server
	KindOther = sched.Other // anything else
)

// FromMessage is the source of addresses that `pub` messages name: they are tried once before they are kept.
const FromMessage = sched.FromMessage

// Offer says that a peer may be reached at an address; source says who told so, for people. The scheduler dials it when it is its
// turn. It may be called before Run.
func (n *Network) Offer(addr identity.Address, kind Kind, source string) {
	if CanDial(addr) != nil || addr.Key == n.self {
		return
	}
	n.plan(func(s *sched.Scheduler, now time.Time) { s.Offer(now, addr, kind, source) })
}

// Withdraw says that nobody is at an address any more: a neighbour fell silent.
func (n *Network) Withdraw(addr identity.Address) {
	n.plan(func(s *sched.Scheduler, now time.Time) { s.Withdraw(now, addr) })
}

// Keep dials an address whenever there is no connection with its key, with growing pauses after failures. It may be called
// before Run.
func (n *Network) Keep(addr identity.Address) {
	n.plan(func(s *sched.Scheduler, now time.Time) { s.Keep(now, addr) })
}

// Forget drops an address: it is not dialled again unless somebody names it anew.
func (n *Network) Forget(addr identity.Address) {
	n.plan(func(s *sched.Scheduler, now time.Time) { s.Forget(now, addr) })
}

// NetworkChanged says that the computer's network is another than before: what waited is dialled anew.
func (n *Network) NetworkChanged() {
	n.plan(func(s *sched.Scheduler, now time.Time) { s.Woke(now) })
}

// plan tells the scheduler something, and has it asked what to do.
func (n *Network) plan(do func(s *sched.Scheduler, now time.Time)) {
	n.schedMu.Lock()
	do(n.sched, n.o.Now())
	n.schedMu.Unlock()
	select {
	case n.replan <- struct{}{}:
	default: // it will be
	}
	n.changed.wake()
}

// openSchedule makes the scheduler from what is remembered.
func (n *Network) openSchedule() {
	o := sched.Options{
		Self: n.self, Blocked: func(id identity.ID) bool { return n.o.Graph.Blocks(n.self, id) }, Known: n.o.Graph.Wanted,
		Incoming: n.o.MaxPeers, Least: n.o.RedialLeast, MostNear: n.o.RedialMost,
	}
	n.sched = sched.New(n.o.Now(), o, n.remembered())
}

// remembered reads conn.json, or a gossip.json that older programs left. A file that cannot be understood is put aside.
func (n *Network) remembered() []sched.Saved {
	for _, name := range []string{"conn.json", "gossip.json"} {
		file := filepath.Join(n.o.Dir, name)
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var saved []sched.Saved
		if err == nil {
			if saved, err = sched.Parse(data); err == nil {
				return saved
			}
		}
		if rerr := os.Rename(file, file+".damaged"); rerr != nil {
			err = errors.Join(err, rerr)
		}
		n.log.Warn("known peers cannot be read, the file is put aside as "+name+".damaged", "file", file, "err", err)
	}
	return nil
}

// remember writes conn.json when something changed.
func (n *Network) remember() {
	n.schedMu.Lock()
	data := sched.Marshal(n.sched.Saved())
	n.schedMu.Unlock()
	if bytes.Equal(data, n.rememberedLast) {
		return
	}
	if err := replaceFile(filepath.Join(n.o.Dir, "conn.json"), data); err != nil {
		n.log.Warn("known peers cannot be kept", "err", err)
		return
	}
	n.rememberedLast = data
}

const (
	rememberEvery = time.Minute
	lookEvery     = 5 * time.Second
	// sleptAfter is how much longer than lookEvery the clock moved when the computer slept.
	sleptAfter = 15 * time.Second
)

// Pause stops the dialling of peers, or goes on with it. Connections stay, and Connect works still.
func (n *Network) Pause(pause bool) {
	n.plan(func(s *sched.Scheduler, _ time.Time) { s.Pause(pause) })
}

// schedule dials and drops as the scheduler says, until ctx ends.
func (n *Network) schedule(ctx context.Context) {
	defer n.remember()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	wall := func() time.Time { return n.o.Now().Round(0) } // the monotonic clock may stand still in sleep
	looked, written := wall(), wall()
	for ctx.Err() == nil {
		n.schedMu.Lock()
		now := n.o.Now()
		dial, drop, again := n.sched.Next(now)
		n.schedMu.Unlock()
		for _, addr := range dial {
			if err := n.task(func() { n.dialScheduled(addr) }); err != nil {
				n.plan(func(s *sched.Scheduler, now time.Time) { s.Failed(now, addr, nil) })
			}
		}
		for _, d := range drop {
			n.drop(d)
		}
		var due <-chan time.Time
		var timer *time.Timer
		if !again.IsZero() {
			timer = time.NewTimer(max(again.Sub(now), time.Millisecond))
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-n.replan:
		case <-due:
		case <-look.C:
			if slept := wall().Sub(looked) - lookEvery; slept > sleptAfter {
				n.log.Info("the computer slept: peers are dialled anew", "for", slept.Round(time.Second))
				n.NetworkChanged()
			}
			looked = wall()
			if looked.Sub(written) >= rememberEvery {
				written = looked
				n.remember()
			}
			n.watch()
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// dialScheduled makes one attempt for the scheduler and tells it what became of it.
func (n *Network) dialScheduled(addr identity.Address) {
	err := n.Connect(n.ctx, addr)
	n.mu.Lock()
	s := n.sessions[addr.Key]
	n.mu.Unlock()
	switch {
	case err == nil && s != nil && s.outgoing && s.addr == addr:
		return // the session has told
	case n.ctx.Err() != nil:
		err = nil
	}
	if cause := errors.Unwrap(err); cause != nil {
		err = cause // the rest is the address, beside which it is shown
	}
	n.plan(func(s *sched.Scheduler, now time.Time) { s.Failed(now, addr, err) })
	if err != nil {
		n.log.Debug("peer cannot be reached", "peer", addr.Key, "err", err)
	}
}

// drop ends the connection with a peer, for a reason.
func (n *Network) drop(d sched.Drop) {
	n.mu.Lock()
	s := n.sessions[d.ID]
	n.mu.Unlock()
	if s != nil {
		_ = n.task(func() { s.end(errors.New(d.Why)) }) // stopped: all sessions end
	}
}

// watch tells the scheduler who lets us wait, and who says nothing.
func (n *Network) watch() {
	n.mu.Lock()
	sessions := make([]*session, 0, len(n.sessions))
	for _, s := range n.sessions {
		sessions = append(sessions, s)
	}
	n.mu.Unlock()
	laggards := map[identity.ID]ebt.Laggard{}
	n.brainMu.Lock()
	for _, l := range n.brain.Laggards() {
		laggards[l.Peer] = l
	}
	n.brainMu.Unlock()
	for _, s := range sessions {
		stalled, mute := laggards[s.id].Stalled, laggards[s.id].Mute
		if stalled > 0 || s.stalled {
			s.stalled = stalled > 0
			n.plan(func(b *sched.Scheduler, now time.Time) { b.Promised(now, s.id, stalled) })
		}
		if mute != s.mute {
			s.mute = mute
			n.plan(func(b *sched.Scheduler, now time.Time) { b.Mute(now, s.id, mute) })
		}
	}
}

// broadcast wakes all who wait for the next change of something.
type broadcast struct{ c chan chan struct{} }

func newBroadcast() broadcast {
	b := broadcast{make(chan chan struct{}, 1)}
	b.c <- nil
	return b
}

// wait returns a channel that is closed at the next wake.
func (b broadcast) wait() <-chan struct{} {
	w := <-b.c
	if w == nil {
		w = make(chan struct{})
	}
	b.c <- w
	return w
}

func (b broadcast) wake() {
	if w := <-b.c; w != nil {
		close(w)
	}
	b.c <- nil
}

// Changed returns a channel that is closed at the next change of what Peers, Feed, Holders and Progress tell. Wait a little before
// asking again: under load it changes all the time.
func (n *Network) Changed() <-chan struct{} { return n.changed.wait() }
