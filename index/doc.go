// Package index is what the feeds mean: who follows and blocks whom, how far everybody is from us, what people are called, which
// messages are of a type, by an author, about something, in a thread or have a word. All of it is made from the log and may be
// deleted at any time.
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
// The log is read once for all views that have come equally far, the front, and the next piece is read while one is written. The light
// views (contacts, names, pubs) look at one type of message each and share a transaction; the large ones (messages, links, words)
// have one each, of up to a thousand messages. A few messages that arrive are written to all views in one. A view that is behind,
// because it is built anew, reads the log on its own, and joins the others when it is where they are.
//
// In a sync the large views leave the front and rest, for it needs the processor, and whom it asks for depends on contacts alone: when
// 0.3 seconds have passed in which less came they catch up, on one processor if somebody waits for answers. Of a sync that does not end
// they take in some after 30 seconds. The front waits up to 10 ms for more when it has caught up. A view is one file:
//
//	contacts.go   who follows and blocks whom, and distances: in memory, replication asks for each message
//	names.go      names, images, descriptions
//	pubs.go       addresses of pubs
//	messages.go   places, times, authors, types, threads
//	links.go      what refers to what; hashtags and channels
//	words.go      full text
//
// Most of it is sets of places in the order of arrival (sets.go). Query (query.go) combines them, in either order, by time or
// arrival, in pages, live; threads.go reads threads, votes and hashtags. Queries read some hundred places in a transaction,
// close it, and fetch the messages, up to 64 at once, from the log or from those that were shown lately: a slow reader holds no more
// than these. Blocks count when a message is yielded. DESIGN.md says what rows there are, what was measured, and what was not taken.
//
// In memory are the graph, the authors' numbers (some 100 bytes each), 16 bytes for 1,024 messages, at most 16 MB of columns, and
// the tails of the 5,000 sets that were written last in each of three views (5 MB), and 8 MB of messages that were shown lately, with
// 512 that begin threads.
//
// What an encrypted message says is indexed if Options.Unbox opens it: apart from what is public, and in clear on this disk.
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
// References are those of ssb-backlinks (emit-links.js) and, of them, those of ssb-msgs (indexLinks); channels are normalised as
// ssb-ref does; threads are those of ssb-threads. A message's time is the earlier one of claim and arrival, and 0 for claims
// before 1970: ssb-db's createFeedStream differs in that it takes a claim of 0 for none.
package index
