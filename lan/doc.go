// Package lan finds SSB peers on the networks that this computer is plugged into, and is found by them.
//
// Three ways of announcing are in use, and all are spoken on every interface that is up, beacons every two seconds:
//
//   - plain: UDP port 8008, IPv4 broadcast, multiserver addresses in clear joined by ';' (npm ssb-local, and ssb-lan's legacy
//     packet). Anybody can write anything there.
//   - signed: UDP port 26830, a JSON object with the addresses in a secretbox keyed by the network key, and the announcer's
//     signature behind it (npm ssb-lan). IPv4 broadcast as JS peers do it; and the same packet to the IPv6 link-local
//     multicast group ff12::8073:7362 (transient, link scope, "ssb" in a group id that RFC 3307 leaves to applications), which
//     only Charkha knows.
//   - mdns: DNS-SD over multicast DNS, service _ssb._tcp.local, with "address=<multiserver address>" strings in TXT, announced
//     when they change and asked for once a minute or more often.
//
// The path of a beacon: a socket for each port, on all interfaces -> the source must be on the link, and within its budget
// (limiter) -> decoded and, when signed, verified, outside any lock -> hosts replaced (below) -> the table of neighbours ->
// Options.Found, when the address is new there; Options.Lost, when it was silent. That of a service: a browser of the library
// -> a host of it must be on a link of ours -> hosts replaced -> the table.
//
// What holds:
//
//   - A packet costs its sender nothing, and a source address can be lied about. So each source has a budget of packets,
//     sources together have one, the tables are capped, and a neighbour that signed is never pushed out by one that did not.
//     mdns does not tell its sources, and has a part of the table.
//   - Found hears of verified and of unverified addresses, once each until they were silent. Verified means that the owner of
//     the key in the address signed it for this network. A plain or mdns one is a candidate: who answers there must prove the
//     key in the secret handshake. Neither says that somebody is there: only dialling does. A beacon has no time in it, so a
//     signed one can be replayed.
//   - Only IP addresses of the link that a packet came from (of mdns: of a link of ours) are taken: no names, so that nobody makes us ask a name server,
//     and no address elsewhere, so that nobody points a whole network at a victim. A peer that announces an address of another
//     of its interfaces, as JS peers with several do, is looked for where its packet came from, with the port it announced;
//     that is not what it signed, so it counts as unverified.
//   - A link-local IPv6 address cannot be dialled without its zone, and an SSB address has no place for one. It is announced
//     bare, and the receiver adds the interface that the packet came in by: "fe80::1%eth0".
//   - Our own packets, known by our key, are never neighbours. They show that an interface sends.
//   - Only addresses of the interface that a beacon leaves by are in it; never a loopback or unix one. The TXT record of mdns is
//     the same on all interfaces, and has one address of each for each of IPv4 and IPv6.
//   - Interfaces are listed anew before each beacon; one that appears is announced on at once.
//   - A neighbour is forgotten after ten seconds without a beacon, as in ssb-local; one known by mdns alone when two browsers
//     did not tell of it, in some four minutes; and all that an interface heard when that is gone. That is no error.
//
// mDNS is spoken by github.com/libp2p/zeroconf/v2, the fork of github.com/grandcat/zeroconf that is kept: grandcat v1.0.0 stops
// asking after the first answer, forgets nothing that vanished, and races at shutdown. What v2.2.0 leaves to its caller is done
// here. It serves the interfaces that it was started with, so it is started anew when they, or what is announced, change. A
// browser tells of each service once, whichever interface and how often it is heard by, so it is replaced every two minutes to
// hear who is still there. It does not say where an answer came from, so that is found by the addresses of the host; a link-local
// address of a host that has no other says nothing when there are several interfaces, and is passed over: signed beacons find
// that one. It remembers what it told of for as long as the sender likes, and a packet of 60 kB can make it keep 66 MB: a
// browser that tells of more than 256 services is ended, and there is none for a minute.
//
// What it does not do: dial (that is the caller's), find anybody behind a router, or announce names.
//
// Known holes, all of mdns, which the library leaves open: its answers have no limit, so that a packet with many questions is
// answered many times and a flood of them costs a processor; questions that ask for unicast are answered to the address they
// claim to come from; port 5353 is bound to all addresses of the computer, so that unicast packets from elsewhere can name
// addresses on our links, which are dialled and must prove their key; and one packet may take some 200 MB for a moment, once a
// minute at most.
package lan
