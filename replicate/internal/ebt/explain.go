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
		x := p.of(f)
		if x.is&isKnown == 0 && !c.Blocked {
			continue
		}
		c.Sequence = int64(x.has)
		if x.is&isOpen != 0 {
			c.Sending, c.Asking, c.Sent, c.Told = x.is&isTx != 0, x.is&isRx != 0, int64(x.sent), int64(x.told)
		}
		if f.source == p {
			c.Asked = f.since
		}
		fail, failed := p.failed[f]
		c.Refused, c.Stalled = fail.refused, failed && !fail.refused && c.Sequence > f.head
		claims = append(claims, c)
	}
	return claims
}

// Missing counts what a peer says to have more of than we: the feeds, and their messages.
func (b *Brain) Missing(id identity.ID) (feeds int, messages int64) {
	if p := b.peers[id]; p != nil {
		for i, x := range p.table {
			if f := b.list[i]; int64(x.has) > f.head && b.shared(f, p) {
				feeds++
				messages += int64(x.has) - f.head
			}
		}
	}
	return feeds, messages
}

// Stalled counts the feeds that a peer was asked for, says to have more of, and has let wait.
func (b *Brain) Stalled(id identity.ID) (feeds int) {
	if p := b.peers[id]; p != nil {
		return b.stalled(p)
	}
	return 0
}

func (b *Brain) stalled(p *peer) (feeds int) {
	for f, fail := range p.failed {
		if !fail.refused && p.has(f) > f.head && b.shared(f, p) {
			feeds++
		}
	}
	return feeds
}

// Laggard is a connected peer that lets us wait.
type Laggard struct {
	Peer    identity.ID
	Stalled int  // feeds that it was asked for, says to have more of, and has let wait
	Mute    bool // it has said nothing at all yet. The first notes are said even when they are empty
}

// Laggards tells which connected peers let us wait, in the order in which they came.
func (b *Brain) Laggards() (all []Laggard) {
	for _, p := range b.order {
		if l := (Laggard{p.id, b.stalled(p), !p.spoke}); l.Stalled > 0 || l.Mute {
			all = append(all, l)
		}
	}
	return all
}

// Behind counts what anybody connected says to have more of than we: the wanted feeds, and the messages that are missing of them.
func (b *Brain) Behind() (feeds int, messages int64) {
	most := map[*feed]int64{}
	for _, p := range b.order {
		for i, x := range p.table {
			if f := b.list[i]; int64(x.has) > f.head && b.shared(f, p) && !p.failed[f].refused {
				most[f] = max(most[f], int64(x.has))
			}
		}
	}
	for f, seq := range most {
		messages += seq - f.head
	}
	return len(most), messages
}
