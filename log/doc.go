// Package log is the signed log: the feeds, verified and in order, on disk. Nothing else writes feeds. (Printing is log/slog.)
//
// # What holds
//
//   - A Message in hand was verified, stands in its feed's order, and is stored: only this package makes one.
//   - A feed's head is committed in the transaction of the record, of the id that leads to it, and of its place in the order
//     of arrival. The next sequence is never read from anywhere else.
//   - A message that is published is on disk, in the journal, before it is visible to anybody, and then Publish answers: losing
//     a message that somebody has seen would fork our own feed. What others wrote is synced now and then: peers can send it
//     again.
//   - A feed of which two messages, both signed by its author, contradict each other is forked: it stops there, and the other
//     message is kept as evidence.
//   - When a confirmed feed is found to have lost messages, it is closed for Publish until it is confirmed again.
//   - No offset is given twice, not even after a power cut: a follower's cursor never stands behind messages it did not see.
//   - A write error of the store is final: the log takes nothing more until it is opened again.
//
// # The path of the data
//
// Append: parse, canonical bytes, id and signatures on all cores, before any lock -> under the writer's lock, in order: is it
// the next one of its feed? -> one commit -> heads visible -> followers wake. A message that is there already costs no
// signature check.
//
// Follow is one loop: yield what is there from a cursor on, wait for more. There is no switch from old to live, so nothing
// falls in between, and a follower holds nothing but its cursor, so a slow one delays nobody. The messages that came last
// are kept in memory for followers that keep up.
//
// # On disk
//
// One Badger database. Authors have numbers; a message costs two keys and a share of a third:
//
//	m author seq        the record, in Badger's value log: when it came, its id, and what its JSON cannot be made from again
//	i id[:16]           author, seq
//	o first offset      runs of (author, seq, count): the order of arrival, some 25 runs a key
//	h author            head: seq, id
//	a author            feed id
//	f author            fork evidence
//	c feed id           the feed may be published to
//	s                   offset up to which everything was synced; offset below which no message comes any more
//	v                   version of this layout
//
// The records and the fork evidence lie in the value log, all else in the tree, whose write-ahead log makes a transaction
// whole or absent. After a power cut a key may be there and its record in the value log not (dgraph-io/badger#2000): Open
// reads what came since the last sync, and cuts each feed back to its last whole message. Offsets of what was cut stay empty,
// and after a crash a few hundred thousand are left out.
//
// Beside the database, the file "own" is the journal of what was published lately, and says how far the confirmed feeds had come
// (own.go). Open appends from it what the database has lost.
//
// Badger begins a new value log at each start. Small ones are merged, in the background (merge.go).
//
// What rots later in an older part of the value log is found when it is read, and that read says so: Options.Check reads
// everything in Open, and cuts back what is damaged.
//
// DESIGN.md beside this file says what was measured.
package log
