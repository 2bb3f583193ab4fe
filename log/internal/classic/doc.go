// Package classic is the classic message format of Secure Scuttlebutt: JSON that is signed in one exact spelling. Bytes in,
// values out; no store, no socket, no clock.
//
// # What is signed
//
// The reference implementation is JavaScript (npm ssb-validate 4.1.4): a message is what JSON.parse makes of the bytes, what is
// signed is JSON.stringify(message without signature, null, 2) as UTF-8, and the message's id is the SHA-256 over the low byte of
// each UTF-16 unit of JSON.stringify(message, null, 2), signature included. So a validator has to spell JSON as V8 does:
//
//   - of several equal keys in an object, the last value stands at the place of the first; keys that are array indices, "0" to
//     "4294967294" without leading zeros, stand first, in ascending order; all others keep their order;
//   - numbers go through an IEEE double and are printed as ECMA-262 Number::toString does; one that overflows is printed as
//     null, and -0 as 0;
//   - in strings only ", \ and what is below U+0020 is escaped, and a surrogate without its partner as \udXXX in lower case;
//   - an empty object or array stands on one line.
//
// # What is a message
//
// As ssb-validate says: exactly the keys previous, author, sequence, timestamp, hash, content, signature in this order, where author
// and sequence may be exchanged; author a feed id; sequence an int32; hash "sha256"; signature 88 characters of canonical base64,
// of which the first 64 bytes count and up to two more may follow, and ".sig.ed25519"; content an object whose type is a string of
// 3 to 52 UTF-16 units, or a string of canonical base64 followed by ".box" and anything but line ends; all of it, signature
// included, at most 8192 UTF-16 units in the spelling above. The timestamp's type is looked at in the first message of a feed only
// (CheckNext); Standalone looks at it always, as ssb-validate's checkInvalidOOO does for a message without its feed.
//
// # Where it differs from ssb-validate
//
// It refuses, and ssb-validate takes:
//
//   - bytes that are not UTF-8. A JS peer reads them with replacement characters in their place, and no signature was made over
//     those.
//   - more than 64 KiB of input, 256 KiB while it is spelled, or 4 MiB moved to bring keys in order: no message of 8192 units
//     needs that, unless it was written to be a burden.
//
// # The path of the data
//
// A Scanner reads the bytes once. It checks the JSON, writes the spelling that is signed and the compact one that is stored and
// sent on (Message.Value), and finds the fields, all into its own buffers: a message costs no allocation. Value is what
// JSON.stringify(message) gives and reads back as the same message. To keep that true, a timestamp that overflows is written
// 1e400 there: as null it would not be a number any more, and the first message of a feed must have one. Signatures are checked
// apart (Message.VerifySignature, or many at once over Message.Signed), since that costs twenty times what all the rest does.
package classic
