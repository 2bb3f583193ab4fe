// Package room is the client of rooms: servers that keep no feeds, and through which people reach each other who could not
// otherwise. It finds out whether the other side of a muxrpc connection is a room, follows who is there, opens tunnels to
// them and accepts theirs, and looks after aliases.
//
// What holds: a tunnel is a net.Conn that the room can read, change and end at will. So a connection is only somebody's when
// the secret handshake was done inside of it, and the origin that a room names is a hint until then. Nothing that a room sends
// can grow memory: attendants, tunnels and what waits in a tunnel have bounds. The scheduler, the handshake and the
// decision whom to let in are above.
//
// # The way of the data
//
// Written: Write -> a queue of 64 KiB -> the tunnel's writer -> frames of one duplex stream -> the room -> the peer. Read: the
// stream -> the tunnel's reader -> a queue of 256 KiB -> Read. When nobody reads, the queue fills, then the stream's
// buffer, then the whole connection with the room waits, because muxrpc cannot stop one stream alone; after
// muxrpc.Options.Patience the tunnel is ended. Whoever has a tunnel must go on reading it.
//
// # Facts, and where they are from
//
//   - A room is known by room.metadata (rooms 2: go-ssb-room, SIP 7) or by tunnel.isRoom (npm ssb-room 1), which answers true,
//     or {name, description} once somebody named the room. npm ssb-room refuses room.metadata as "not in list of allowed
//     methods", and peers who are no rooms refuse both, or answer isRoom with false (npm ssb-room's client part).
//   - tunnel.endpoints gives the whole list, again on each change and every ten seconds; room.attendants gives {type: "state",
//     ids}, then {type: "joined" or "left", id}. Opening either announces us, in npm ssb-room and go-ssb-room. In both we are
//     in the list ourselves. A go-ssb-room that is not open refuses both to those who are no members.
//   - tunnel.connect({portal, target}) is answered by bytes or by an error end: "could not connect to: ..." (npm ssb-room), "no
//     such endpoint" (go-ssb-room). There is no sign of success but the peer's handshake.
//   - The room calls tunnel.connect({portal, target, origin}) here. Older go-ssb-rooms name themselves as the origin.
//   - JS peers take an end of one direction for the end of both, and answer none: there is no half-closed tunnel.
//   - An alias is signed as "=room-alias-registration:ROOM:USER:ALIAS". go-ssb-room gives the signature without the suffix
//     ".sig.ed25519", and in URIs in the URL alphabet of base64.
package room
