// Package lan finds SSB peers on the networks that this computer is plugged into, and is found by them.
//
// Three ways of announcing are in use, and all are spoken on every interface that is up, every two seconds:
//
//   - plain: UDP port 8008, IPv4 broadcast, multiserver addresses in clear joined by ';' (npm ssb-local, and ssb-lan's legacy
//     packet). Anybody can write anything there.
//   - signed: UDP port 26830, a JSON object with the addresses in a secretbox keyed by the network key, and the announcer's
//     signature behind it (npm ssb-lan). IPv4 broadcast as JS peers do it; and the same packet to the IPv6 link-local
//     multicast group ff12::8073:7362 (transient, link scope, "ssb" in a group id that RFC 3307 leaves to applications), which
//     only Charkha knows.
//   - mdns: DNS-SD over multicast DNS, service _ssb._tcp.local, with "address=<multiserver address>" strings in TXT, asked for
//     and announced in growing intervals as RFC 6762 wants it, not every two seconds.
//
// The path of a packet: a socket for each port, on all interfaces -> the source must be on the link, and within its budget
// (limiter) -> decoded and, when signed, verified, outside any lock -> hosts replaced (below) -> the table of neighbours ->
// Options.Found, when the address is new there; Options.Lost, when it was silent.
//
// What holds:
//
//   - A packet costs its sender nothing, and a source address can be lied about. So each source has a budget of packets,
//     sources together have one, the tables are capped, and a neighbour that signed is never pushed out by one that did not.
//   - Found hears of verified and of unverified addresses, once each until they were silent. Verified means that the owner of
//     the key in the address signed it for this network. A plain or mdns one is a candidate: who answers there must prove the
//     key in the secret handshake. Neither says that somebody is there: only dialling does. A beacon has no time in it, so a
//     signed one can be replayed.
//   - Only IP addresses of the link that a packet came from are taken: no names, so that nobody makes us ask a name server,
//     and no address elsewhere, so that nobody points a whole network at a victim. A peer that announces an address of another
//     of its interfaces, as JS peers with several do, is looked for where its packet came from, with the port it announced;
//     that is not what it signed, so it counts as unverified.
//   - A link-local IPv6 address cannot be dialled without its zone, and an SSB address has no place for one. It is announced
//     bare, and the receiver adds the interface that the packet came in by: "fe80::1%eth0".
//   - Our own packets, known by our key, are never neighbours. They show that an interface sends.
//   - Only addresses of the interface that a packet leaves by are in it; never a loopback or unix one.
//   - Interfaces are listed anew before each beacon; one that appears is announced on at once.
//   - A neighbour is forgotten after ten seconds without a beacon, as in ssb-local; one known by mdns alone when its records
//     expire, two minutes at most; and all that an interface heard when that is gone. That is no error.
//
// mDNS is written here, on golang.org/x/net/dns/dnsmessage, and not with github.com/grandcat/zeroconf or its fork
// github.com/libp2p/zeroconf/v2. grandcat v1.0.0 stops asking after the first answer, forgets nothing that vanished, and races
// at shutdown. libp2p v2.2.0 mends these, but serves the interfaces it was started with, gives no way to know by which
// interface an answer came, prints with the standard log, and has no limits against a hostile neighbour: measured, one answer
// packet of 62 kB made it allocate 182 MB and keep 66 MB, and one query of 1.2 kB made it send 400 packets: anybody in the same
// café could end the node. The tests let it find this node and be found. What is needed of
// the protocol is small; what is left out is this: no probing and no conflicts (the name is made of the key), no delay before
// an answer (an interface gets one in a second at most, over each of IPv4 and IPv6), answers by multicast only (also to queries that ask for unicast; to
// queries from another port than 5353 there is none), and no known answers in our queries.
//
// What it does not do: dial (that is the caller's), find anybody behind a router, or announce names.
//
// A known hole: the mDNS socket is bound to all addresses of the computer, as most programs do it, so that a unicast packet to
// port 5353 reaches one of the programs that share the port, and which is up to the system.
package lan
