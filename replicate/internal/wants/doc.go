// Package wants is the brain of the exchange of blobs: which blobs are wanted from whom, who is told what, and which piece is
// fetched from which peer. It does no I/O and has no clock: events and times go in, things to say and pieces to fetch come out. A
// simulator runs many brains in one test.
//
// # The protocol
//
// As npm ssb-blobs 1.2 and 2.0 speak it. Each of two peers opens the other's blobs.createWants and hears objects {blob: number}
// on it. A negative number is a want and its distance: -1 is for oneself, -2 for somebody who said -1, and so on. A positive
// one says "I have it" and its size in bytes. Who hears a want and has the blob answers so, at once or when it arrives. Who has
// it not wants it, too, as far as his sympathy goes (3 by default: -1 and -2 are passed on as -2 and -3), and says so to
// everybody, to the one who asked as well: for one who pushes a blob says that he wants it, and has it. What somebody said to
// have is then fetched with blobs.get {key, max} or in pieces with blobs.getSlice {id, start, end}; end is the first byte that
// is not wanted.
//
// JS peers end the whole connection after they sent a blob or slice whose length is a multiple of 64 KiB (observed with
// multiblob 1.13, pull-file 1.1 and packet-stream-codec 1.2: they end it with an empty frame, which is a goodbye). So nobody is
// asked for such a length.
//
// # What holds
//
//   - A blob is fetched by one job at a time, for the size that a peer told. What comes is looked at by whoever commits the job: a
//     wrong hash is the fault of the peer, if it was one; if there were several, the blob is fetched from one at a time from then on.
//   - Who does not give what he said to have, or not in time, is asked for that blob again only a little later, and after three
//     times only every ten minutes; who lied about it, never again on that connection. For some minutes he is asked for other
//     blobs only if nobody else has them. The next one who has it is asked meanwhile.
//   - Small blobs are fetched whole, larger ones in pieces from several peers at once.
//   - Own wants that somebody waits for come first, then own wishes, the newest first, then what strangers asked for.
//   - What has not come from a peer in a while, or far too slowly while others have it, is fetched elsewhere.
//   - No peer is asked for more than Options.Rate bytes a second, nor for more than some MiB that are under way.
//
// # Bounds
//
// Everything is counted, and each table has a rule when it is full:
//
//	own wants            8192   the one wished longest ago that nobody waits for is forgotten (Forgotten)
//	pushed blobs         1024   no more are taken
//	strangers' wants     4096, 256 a stranger   the stranger with the most loses the oldest; all are forgotten after a day
//	what a peer asked    4096, 65536 in all     the peer's own oldest goes; in all, the oldest of the peer with the most
//	answers to a peer    1024   no more is heard from it until it has read some (Room)
//	who has a wanted blob  16   who failed gives way; others are asked again when all have failed
//	blobs being fetched    64, those included that are being checked and stored
//	pieces under way       64, 8 a peer, 4 MiB a peer, 32 MiB in all
//
// Of the blobs and pieces, and of the bytes, peers that never gave anything get half at most: however many stall, others are
// asked.
//
// What all peers are told is one list with a place in it for each peer: a peer that does not read costs nothing but that place.
//
// # What it does not do
//
// It does not know what is worth keeping: whoever starts a job may refuse it (NoRoom). It says nothing of blobs that nobody
// asked for, which JS peers do.
package wants
