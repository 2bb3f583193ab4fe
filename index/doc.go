// Package index is what the feeds mean: who follows and blocks whom, how far everybody is from us, what people are called, and
// the public timeline. All of it is made from the log and may be deleted at any time.
//
// # What holds
//
//   - A view's rows and its cursor are written in one transaction. The cursor holds the place in the log and the id of the
//     message before it: if that message is not there any more, or the view's version is another one, the view is built anew
//     from the first message, while the others go on.
//   - What is asked from memory (the graph, the names) changes after its rows are on disk.
//
// # The path of the data
//
// Each view follows the log on its own: it takes what is there, up to some thousand messages in one transaction, or a single one
// when it has caught up. A view is one file: contacts.go, names.go, timeline.go. It says what rows a message makes, and
// keeps in memory what has to be answered at once.
//
// # Facts
//
// Contacts are read as ssb-friends 5 does (npm, contacts.js): of content {type: "contact", contact: FEED}, anything true
// in blocking or flagged is a block, following === true is a follow, and everything else neither; for each pair the author's last
// word counts. Distances are those of layered-graph with dynamic-dijkstra: 0 ourselves, and a step more for each follow, up to
// the range; a block counts as minus one step more, having ended either as minus two. Of several, the one nearest to 0 counts, and
// a follow before a block. Only feeds at 0 and above are wanted, and only their follows count.
package index
