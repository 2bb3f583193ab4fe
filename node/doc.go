// Package node puts the rooms together: it is the one place that knows everybody.
//
// Open takes the lock of the data folder, reads or makes the key, opens the log and the index, and listens; Run works until
// its context ends; Close flushes everything. A node is a value like any other, so that a test runs several in one process.
//
// What is decided here and nowhere else:
//
//   - A key that is made here may publish at once. A key that was found, beside a log that does not know it, may not: it may
//     have published elsewhere, and a second message 1 forks the feed for ever. It may once replicate has fetched the feed
//     from a peer, or when the operator says that it never published (Config.NewFeed).
//   - A failing store ends the node. A failing index is told and ends it too; it can be deleted and is built anew.
//   - Local programs come in by the unix socket, where the file's permissions are the lock, or over the wire or a WebSocket
//     with the node's own key or one of Config.Masters; all of them get every method. Everybody else gets what package
//     replicate offers to peers, by whatever door.
//   - Blobs that messages of people in range link are fetched without being asked for (blobs.go): of recent messages when they arrive, of
//     older ones the newest first, while a tenth of the budget is free and few are waited for. What was removed by hand does not come
//     again that way.
package node
