// Package sched is the brain that decides whom to dial and whom to let go. It does no I/O and has no clock: events and times
// go in, addresses to dial and connections to drop come out, and for each known address it can say in words how it stands.
// The same events, times and Options.Rand give the same actions, so that a simulated network can be run again by its seed.
//
// # What holds
//
//   - There is one connection with each key and one attempt at a time. While a key is connected, in whichever direction, none of
//     its addresses is dialled.
//   - Whoever Options.Blocked names is never dialled and is dropped after Recheck.
//   - Each kind of address (Kind) has slots of its own for the connections that we dial, so that many neighbours do not keep
//     us from a pub and many pubs not from a neighbour. Connections that others make have slots of their own again.
//   - An address that Keep was told is dialled whenever there is no connection, outside of the slots.
//   - Nobody starves: who waited longest comes first. Somebody who had news lately, and somebody who is known, is taken as
//     having waited longer (Options.Head), but by no more than that. When a kind's slots are all taken and others wait, the longest
//     connection without news gives its slot up; when all have news, the longest of all does, later.
//   - A failed address waits, longer after each failure, half of it by chance; so does a key over all of its addresses. Both
//     survive a restart (Saved). A connection that ended at once, without news, counts as a failure.
//   - A connection that owes feeds, and from which nothing was stored for Options.Watchdog, is dropped, and its key waits. When that
//     happens again, it is not admitted for a while either: a liar would else be back a moment later. Once is forgiven, for the
//     link may have died without a word.
//   - A peer that we dialled, and that takes our EBT call and says nothing for Options.Mute, is dropped, and its key waits as long.
//   - Every table has a bound. An address that never led anywhere goes first, of those the one that failed longest ago. A flood
//     of new ones pushes nobody out who is connected, kept, or ever was reached.
//
// # The path of the data
//
// The network reports addresses (Offer, Withdraw, Keep, Unkeep), what became of dials (Connected, Failed), what connections do
// (News, Promised, Mute, Disconnected) and what happened to the machine (Woke) or the block list (Recheck). Then it asks Next
// what to do and when to ask again. What Next gave to dial must end in Connected or Failed of that address; what it gave to drop
// in Disconnected.
//
// Addresses that `pub` messages name (source "pub") are unproven until a connection was made. They are tried when a slot is free
// and nobody is to come before them, and else one at a time beside the slots: nobody gives a slot up for an address that may lead
// nowhere, only for a peer that was reached. They are capped, not saved, and forgotten after a few failures, unless nobody can be
// reached. That the message's author is near enough is the caller's business.
//
// # The file
//
// Parse reads the conn.json of JS peers (npm ssb-conn-db 1.0.5: an object of multiserver address to data) and the older
// gossip.json (npm ssb-gossip: an array); Marshal writes the former. Fields and addresses that mean nothing here are written back.
//
// # What it does not do
//
// It looks for nobody, opens no socket and measures no connection. That an address speaks for a key is for the handshake to find
// out.
package sched
