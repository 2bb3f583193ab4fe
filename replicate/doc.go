// Package replicate exchanges feeds and blobs with peers: it accepts and dials connections, and moves messages and blobs over them.
//
// # What holds
//
//   - One slow or hostile peer costs only itself. Its messages are taken in on its own goroutine; what it does not read stops
//     only what is sent to it; all that it can make us keep is bounded.
//   - Nothing of a feed goes to somebody whom the feed's author blocks, and nothing is exchanged with somebody whom we block.
//   - What is asked for is what the Graph wants. What nobody wants is dropped before a signature is checked.
//   - There is one connection with each key.
//
// # The path of the data
//
// Accept, or dial -> secret handshake -> our own key: the local registry; anybody else: the peers' -> one muxrpc connection ->
// the dialling side opens ebt.replicate (version 3, classic). Where a peer has no EBT, both sides ask with createHistoryStream.
//
// In: RecvBatch drains what is there -> author and sequence are found without parsing -> is it wanted, and new? -> log.Append,
// which verifies a batch on all cores -> the results go to the brain (package ebt). A batch is what came while the last one
// was written, so batches grow under load and nothing waits when there is none; a slow disk stops the reading of the
// connection. A message that comes too early waits in a small window for those before it, which are asked for again.
//
// Out: the brain knows who wants what from where; each connection has one goroutine that takes ranges from it, reads them
// from the log, and sends the stored bytes. One follower of the log tells the brain, and live history streams, what is new.
//
// The brain is behind one lock, which is never held over I/O. What a peer was last known to have is kept in a file, so that
// the next connection says only what changed.
//
// Whom to dial, and whom to let go, is for the scheduler (package sched), behind another such lock: it is told of addresses
// (Offer, Keep, the attendants of rooms) and of what became of connections, and remembers in conn.json. A peer from whom nothing
// comes for a minute is pinged, and dropped when it does not answer.
//
// A peer that we dialled and that says it is a room is entered: those in it whom we follow are dialled through tunnels, and may
// reach us so. A tunnel is a net.Conn like any other; who is at its end, the handshake inside of it tells.
//
// # Blobs
//
// Each side opens blobs.createWants of the other. What is heard there goes to a third brain (package wants), behind a lock of
// its own; it says what peers are told, and which piece of which blob is fetched from whom: blobs.get or blobs.getSlice ->
// chunks as they come -> blob.Receiving writes and hashes them -> when all are there, its Commit checks the hash and stores the
// blob, or leaves nothing behind -> the store's follower tells the brain, whoever brought it -> those who asked are told.
//
//   - Blobs never delay messages by more than what is in the connection: what is sent to one peer takes turns, a chunk of 64
//     KiB at a time, and waits while messages go to the same peer, though not for ever; the kernel is given no more than it
//     soon sends (on Linux); what is asked of a peer is half a second's worth.
//   - All pieces of what is received are bounded by the size that was told and by room that the store made for it before.
//     Nothing is looked at before the whole hash is right.
//   - One blob is fetched once at a time, and when somebody lies, stalls or is slow, others who have it are asked.
//   - What is wanted for a stranger counts for him in the store (Why.Peer), not for who gave it.
//
// What is pushed stands in blobs/push.json, with the peers who have it by now.
//
// # What it does not do
//
// Nobody is looked for: addresses come from elsewhere.
package replicate
