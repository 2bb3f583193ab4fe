// Package identity says who and what: keys, feed, message and blob ids, signatures, the secret file, and addresses. It
// knows no other package of this module and does no I/O but the secret file's.
//
// An ID, MsgID, BlobID or Address in hand was read from its one canonical spelling (or made here), so equal values are
// equal references and all of them can be map keys. Text becomes such a value once, at the edge, and text again on the way
// out: ParseX(x.String()) == x.
//
// Verify answers as libsodium 1.0.18 does, on every input. Nearly all SSB nodes verify with that library, and a feed
// travels only through nodes that accept all of it: a verifier that took more could be handed a message that splits the
// feed in two, one that took less would cut off its own owner. Its rule is RFC 8032 without the cofactor and with R
// compared as bytes; S below the group order; R and the public key not of small order in any spelling; the public key
// spelled canonically (libsodium src/libsodium/crypto_sign/ed25519/ref10/open.c and ed25519_ref10.c). Batch verification
// as libraries offer it is cofactored and accepts more; VerifyAll, the one for many signatures, answers as Verify does.
//
// The secret key does not print, and leaves the package only through CreateSecret and KeyPair.X25519.
//
// # References
//
// Ids are taken and refused as by isFeedId, isMsgId, isBlobId and isLink of npm ssb-ref 2.16, ssb: URIs as by ssb-uri2
// 2.4, multiserver addresses as by multiserver-address 1.0, except, on purpose:
//
//  1. The dot before a suffix is a dot, and a feed ends in ".ed25519". The regular expressions of ssb-ref take any
//     character there and a feed that ends in sha256. Nobody writes such ids, and two spellings would be two feeds.
//  2. A URI's data is the canonical base64url of 32 bytes directly after the format, without white space. ssb-uri2
//     takes any text of that alphabet as the last part, whatever stands in front of it, and ignores line breaks; what it
//     makes of that is mostly no valid sigil. An address in a URI has to be one. Feed formats other than classic are
//     not references here (yet).
//  3. In an Address, the port is decimal digits up to 65535 and the host is an IP or a name. ssb-ref takes "", "1e3",
//     "-1" and 65536 as ports, and as IPs what merely looks like some ("999.1.1.1", "", "net:1.2.3.4:8008:" as a host
//     with a colon), and in front of the host of a net address "ws://".
//  4. Address is a protocol plus exactly shs: nothing on top ("~gzip") and no other version ("shs2"), which could not be
//     spoken. ssb-ref looks no further than the beginning of the name.
//  5. When the first alternative of a multiserver address cannot be used, the next one is tried; ssb-ref gives up.
//  6. Host names of a local network are fine: without a dot, with underscores and hyphens in any label, IPv6 with a
//     zone or in brackets, a dot at the end. ssb-ref wants what could be a registered domain. It also wants "//" in front of
//     the host of a ws or wss address, which may be missing here.
//  7. A tunnel through a room is an Address: the ids of room and peer in their sigil forms, the peer's key again after shs.
//     parseAddress of ssb-ref does not know tunnels; npm ssb-room-client 2 and ssb-tunnel 2 write and read them so. The
//     latter has a number behind the peer's id, which must be 0.
//
// Addresses and URIs have a bound on their length; the libraries have none.
package identity
