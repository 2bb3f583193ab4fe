// Package index is what the feeds mean: who follows and blocks whom, how far everybody is from us, what people are called, and
// the public timeline, and where people say that pubs are. All of it is made from the log and may be deleted at any time.
//
// # What holds
//
//   - A view's rows and its cursor are written in one transaction. The cursor holds the place in the log and the id of the
//     message before it: if that message is not there, if the view's version is another one, or if a row that is loaded is
//     damaged, the view is built anew from the first message, while the others go on.
//   - A row depends on its message alone, so that it may be written again: after a power cut the log may have lost messages
//     that a view saw, and get them again at other places.
//   - What is asked from memory (the graph) changes after its rows are on disk.
//   - What is shown of a message comes from the log, not from a row.
//
// A known hole: rows are not synced. After a power cut the store may have lost a transaction and kept a later one, if both fell
// into the seconds before, and they were in different files of some megabytes. Deleting the folder mends that.
//
// # The path of the data
//
// The log is read once for all views that have come equally far. Each writes what is there in a transaction of its own, up to
// some thousand messages, or a single one when it has caught up. A view that is behind, because it is built anew, reads
// the log on its own, and joins the others when it is where they are. A view is one file: contacts.go, names.go, timeline.go, pubs.go. It says what rows a message makes, and
// keeps in memory what must be answered at once: the graph, of which replication asks for each message. Names and the
// timeline are read from disk.
//
// # Facts
//
// Contacts are read as ssb-friends 5 does (npm, contacts.js): of content {type: "contact", contact: FEED}, anything true
// in blocking or flagged is a block, following === true is a follow, and everything else neither; for each pair the author's last
// word counts. Distances are those of layered-graph with dynamic-dijkstra: 0 ourselves, and a step more for each follow, up to
// the range; a block counts as minus one step more, having ended either as minus two. Of several, the one nearest to 0 counts, and
// a follow before a block. Only feeds at 0 and above are wanted, and only the edges of those below the range count. Encrypted
// contact messages are not read.
//
// Names are those of ssb-about: ours, else the feed's own, else what most say; other than there, only people in range have
// a voice, and a name is cleaned before it is kept.
//
// Pubs are read from messages {type: "pub", address}, the address being {host, port, key} or a text, as npm ssb-invite writes
// and ssb-conn reads them.
//
// Measured on two idle cores of an AMD EPYC: an index is built at 140,000 messages/s, half of them contacts; a message that
// arrives is in it after 17 us; a name takes 17 us, a timeline of 50 posts 0.12 ms (BenchmarkBuild, BenchmarkLive, BenchmarkRead).
package index
