// Package blob keeps blobs: pictures and other files, named by the SHA-256 of their bytes, that messages link to.
//
// # What holds
//
//   - A blob that is there is whole: its bytes were hashed while they were written, were synced, and then were given their name in
//     one step. Nothing else ever gets a name.
//   - What Add or Commit acknowledged is on disk, as is why it is kept: an own blob is never lost, nor the mark that it is own. A
//     power cut or a kill at any moment leaves a blob whole or absent.
//   - A refused blob (wrong bytes, too many, not enough, cancelled, a full disk) leaves nothing behind; where it cannot be
//     removed at once, the next start does it.
//   - Neither the size of a blob nor what a peer sends moves memory: everything is streamed, in pieces of 128 KiB, and those of
//     four large blobs at once that come in, of 1 MiB.
//   - A name comes from an id of 32 bytes, never from a text, so that no request can lead out of the folder.
//
// # The path of the data
//
// Add: read, hash and write a file in tmp, sync it -> room in the budget -> a record of why it is kept, synced -> rename into
// sha256 -> sync that folder -> visible, followers wake.
//
// Receive: room in the budget -> a file in tmp -> WriteAt by one peer or several. Each byte is written once; what the beginning
// has without holes is hashed at once, so that Commit has nothing left to hash -> then as Add. What comes in order of a blob of
// 8 MiB and more is gathered and written past the page cache (bulk.go).
//
// Read: an open file, read in any ranges. Sizes and all else of Stat come from memory.
//
// # The budget
//
// Own and pinned blobs never leave by themselves, and Options.Budget is not about them. When it is full the others leave in this
// order:
//
//  1. What an author has over a share: an eighth of the budget (one blob of the largest size at least, half of the
//     budget at most). Free room may be used beyond it; that is lent. What I am the author of has no such limit.
//  2. Farther authors' before nearer ones', by Options.Rank: unknown ones first, mine last. A blob without an author is unknown,
//     and counts for the share of the peer who brought it.
//  3. What was not opened, or did not come, for longest. Being read by a peer (Read) does not count.
//
// A blob that comes makes room only among those that leave before it, and one whose author is over the share only among that
// author's and those of authors at least as far who hold still more. Else it gets ErrFull, and nobody leaves. So a crowd from far
// away cannot push out what near ones linked, and one person cannot push out others, whatever comes. What a person here asks for
// now (Why.Asked) takes room from all.
//
// A blob counts in whole blocks of 4 KiB, as on disk. That bounds how many there are: 2 GiB hold half a million at most.
//
// # On disk
//
//	sha256/ab/cdef...   the blobs, by their ids in hexadecimal, as npm multiblob keeps them
//	tmp/                half-written files, under random names; emptied by Open
//	damaged/            what Options.Check found to be damaged, under the ids in hexadecimal; nobody reads it
//	known               why each is kept, since when, and when it was opened last (journal.go)
//	refused             the ids of what nobody here wants again, one a line (refuse.go)
//	lock                held while the store is open
//
// The files are the truth about what is there, and "known" only says why. It is a row of records of 128 bytes, each with a
// checksum, appended and synced before the blob gets its name, and written anew, in one rename, when most of it is old. Chosen
// over a database, because nothing needs to be looked up in it and losing one record must not cost others; over files beside each
// blob, because that would double the syncs and the files; over JSON that is written anew each time, because that is slow for
// many. A blob that leaves needs no record: without its file a record means nothing. When a blob was opened is written once an
// hour, and not synced.
//
// When records were damaged by the disk, blobs of which nothing is known any more are hashed again and pinned, because they may
// be the only copies: so may be what somebody copies here from a JS peer. One hole: where an older record of the same blob is
// whole, it is taken for the last one, though the damaged one may have made the blob own.
//
// # What was measured
//
// On 2 cores of a server, with a disk that syncs in half a ms: Open takes 0.5 s for 300,000 blobs of 5,000 authors, whose names
// are in the cache of the system, and 5 ms for 1,000. A blob takes 180 bytes of memory. 50 MiB are received in pieces of 64 KiB
// at 520 to 680 MB/s, of which Commit is 1 ms, all of it the disk's: the rest is there already. Adding 1 kB takes 0.8 ms, in a full store of 100,000 blobs of
// 5,000 authors 1.3 ms.
//
// # What it does not do
//
// It does not speak with peers (package replicate), and knows no messages: who linked a blob, and how far they are, is told to
// it. It does not encrypt. It reads again what it stored with Options.Check alone: else a file that rots is refused by peers, who
// hash it, and not found out here. Two processes cannot use one folder. On Windows a blob that is being read cannot leave.
package blob
