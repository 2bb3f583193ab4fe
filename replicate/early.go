package replicate

import "charkha/identity"

const (
	// maxEarly and maxEarlyBytes bound what a connection's messages that came too early take while they wait.
	maxEarly      = 256
	maxEarlyBytes = 1 << 20
)

// early holds messages that came before their turn. When there are too many, all are dropped: they are asked for again.
type early struct {
	feeds map[identity.ID]map[int64][]byte
	count int
	bytes int
}

// put keeps a copy of a message.
func (e *early) put(author identity.ID, seq int64, raw []byte) {
	if e.count >= maxEarly || e.bytes+len(raw) > maxEarlyBytes {
		*e = early{}
	}
	feed := e.feeds[author]
	if feed == nil {
		if e.feeds == nil {
			e.feeds = map[identity.ID]map[int64][]byte{}
		}
		feed = map[int64][]byte{}
		e.feeds[author] = feed
	}
	if feed[seq] == nil {
		e.count++
		e.bytes += len(raw)
		feed[seq] = append([]byte(nil), raw...)
	}
}

// take appends the messages of a feed whose turn it is from next on to raws, and returns what is next then.
func (e *early) take(raws [][]byte, author identity.ID, next int64) ([][]byte, int64) {
	feed := e.feeds[author]
	for len(feed) > 0 {
		raw := feed[next]
		if raw == nil {
			break
		}
		raws = append(raws, raw)
		delete(feed, next)
		e.count--
		e.bytes -= len(raw)
		next++
	}
	if feed != nil && len(feed) == 0 {
		delete(e.feeds, author)
	}
	return raws, next
}
