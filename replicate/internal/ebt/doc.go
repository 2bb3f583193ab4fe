// Package ebt is the brain of epidemic broadcast trees, version 3: who sends whose messages to whom. It does no I/O and has
// no clock: events and times go in, notes and ranges of messages to send come out. A simulator runs hundreds of brains in
// one test.
//
// # The protocol
//
// Two peers hold one duplex stream. On it go messages, as bare values, and notes: JSON objects {feed: number} where -1 says "I
// do not replicate this feed", and anything else is (sequence << 1 | flag): "I have it up to sequence", and with flag 0 "send me
// what follows", with flag 1 "do not" (npm epidemic-broadcast-trees 9.0.4, v3.js). JS computes with 32-bit shifts, so a
// sequence of 2^30 and more cannot be said; no feed is that long.
//
// The accepting side sends its notes first; the dialling side waits for them, so that a peer who does not speak the protocol
// can refuse before it is sent a long list. Each side remembers, for each peer, the last sequence that the peer is known to
// have of each feed, across connections: what is equal to one's own is left out of the first notes. So silence about a feed
// means "as before".
//
// # What this brain does
//
//   - A wanted feed is asked from one peer at a time, its source, but after a stall (below). The others are told where we are and not to send; they tell
//     us when they have more.
//   - The source changes when another peer has more and the source has nothing new, when the source goes or sends what the log
//     refuses, and when it owes us messages and none came for StallAfter. A peer that stalled is not asked for the feed again
//     for a while, unless nobody else has it; one whose message was refused is not asked on this connection. When one stalled,
//     two more are asked beside the next source until any of them sends something, which makes it the source: else some who
//     claim what they have not would cost such a time each, one after the other. Who let us wait with any feed, on this connection or one before, is for some
//     minutes asked only for what nobody else has, and gives way at once to anybody else who has more. A source that sends other
//     things meanwhile is not doubted, but the feed is asked from somebody else who has it.
//   - Messages go to whoever asked, from where they said they are, once. What a peer sent us is not sent back.
//   - Notes are gathered for each peer and leave together; that we got ahead in a feed that the peer gets elsewhere is
//     said at most every LazyEvery.
//   - Who sent us messages is told, a second after the last of them, that we have them: else it does not know who holds what it
//     sent, and at the next connection both sides would say all of it anew. JS peers understand such a note and send none.
//   - Who says that it has less of a feed than we sent it, and wants no more, is told once more what we have, StallAfter later: it
//     may have lost messages. ssb-db2 8 does, when two peers send it the same at once, and would never ask again.
//   - A feed is exchanged with a peer only if it is wanted and its author does not block the peer.
//   - Of feeds that are not wanted it is kept that a peer asked for them, of a thousand: they are answered with -1, as long as the
//     answers are taken, and sent if they are wanted soon after, for JS peers do not ask again. Nor is it remembered how far a peer has a feed that is not exchanged with it, so that the feed is spoken
//     of when it is wanted again: the peer takes our -1 for lasting.
package ebt
