package ebt

import (
	"time"

	"charkha/identity"
)

// Claim is what a connected peer says of a feed.
type Claim struct {
	Peer     identity.ID
	Sequence int64     // that it has; None: it does not exchange the feed
	Asked    time.Time // when it was asked for what follows, or last sent some; zero: another one was, or nobody
	Stalled  bool      // it was asked, and let wait
	Refused  bool      // the log refused what it sent
	Blocked  bool      // the feed's author blocks it: the feed is not exchanged with it
	Sending  bool      // it asked us to send
	Asking   bool      // we asked it to send
	Sent     int64     // it has this, or it is on its way there
	Told     int64     // the head that we last told
}

// Claims tells what the connected peers say of a feed, in the order in which they came. Those that never spoke of it are left
// out.
func (b *Brain) Claims(id identity.ID) (claims []Claim) {
	f := b.feeds[id]
	if f == nil {
		return nil
	}
	for _, p := range b.order {
		c := Claim{Peer: p.id, Blocked: b.o.Blocks(id, p.id)}
		seq, said := p.clock[id]
		if !said && !c.Blocked {
			continue
		}
		c.Sequence = seq
		if x := p.feeds[f]; x != nil {
			c.Sending, c.Asking, c.Sent, c.Told = x.tx, x.rx, x.sent, x.told
		}
		if f.source == p {
			c.Asked = f.since
		}
		fail, failed := p.failed[f]
		c.Refused, c.Stalled = fail.refused, failed && !fail.refused && seq > f.head
		claims = append(claims, c)
	}
	return claims
}

// Missing counts what a peer says to have more of than we: the feeds, and their messages.
func (b *Brain) Missing(id identity.ID) (feeds int, messages int64) {
	if p := b.peers[id]; p != nil {
		for feed, seq := range p.clock {
			if f := b.feeds[feed]; f != nil && seq > f.head && b.shared(f, p) {
				feeds++
				messages += seq - f.head
			}
		}
	}
	return feeds, messages
}

// Stalled counts the feeds that a peer was asked for, says to have more of, and has let wait.
func (b *Brain) Stalled(id identity.ID) (feeds int) {
	if p := b.peers[id]; p != nil {
		for f, fail := range p.failed {
			if !fail.refused && p.clock[f.id] > f.head && b.shared(f, p) {
				feeds++
			}
		}
	}
	return feeds
}

// Behind counts what anybody connected says to have more of than we: the wanted feeds, and the messages that are missing of them.
func (b *Brain) Behind() (feeds int, messages int64) {
	most := map[*feed]int64{}
	for _, p := range b.order {
		for id, seq := range p.clock {
			if f := b.feeds[id]; f != nil && seq > f.head && b.shared(f, p) && !p.failed[f].refused {
				most[f] = max(most[f], seq)
			}
		}
	}
	for f, seq := range most {
		messages += seq - f.head
	}
	return len(most), messages
}
