// Package replicate exchanges feeds with peers: it accepts and dials connections, and moves messages over them.
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
// # What it does not do
//
// Nobody is looked for: addresses come from elsewhere.
package replicate
