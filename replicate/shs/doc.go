// Package shs makes a network connection private and tells who is at its other end: the secret handshake, then the box
// stream. It takes a net.Conn and gives a *Conn, which is one.
//
// Invariant: a *Conn in hand has a remote that proved to hold the key of Remote(), on the network of our network key. Its
// reader gives the bytes that the remote wrote, in order, and io.EOF only where the remote said goodbye: a connection cut
// by somebody on the way is an error.
//
// # Secret handshake, version 1
//
// Four messages, which show neither side's identity to anybody else (Dominic Tarr, "Designing a Secret Handshake", 2015;
// npm secret-handshake 1.1.21). The client has to know the server's key; the server learns the client's. a and b are X25519
// key pairs made for this connection, A and B the long-term keys, which sign as Ed25519 and are converted to X25519 for
// products; N is the network key; box is secretbox with an all-zero nonce.
//
//	1  client  64 bytes   hmac(N, a) a
//	2  server  64 bytes   hmac(N, b) b
//	3  client 112 bytes   box[sha256(N a·b a·B)](H = sig_A(N B sha256(a·b)) A)
//	4  server  80 bytes   box[sha256(N a·b a·B A·b)](sig_B(N H sha256(a·b)))
//
// hmac is HMAC-SHA-512 cut to 32 bytes. A side that refuses a message writes nothing more and closes the socket; so the
// other learns only that, and can merely guess the reason from the message after which it came (see the Err variables).
// Refused are, besides what does not verify: products that are zero, which points of small order give; long-term keys
// that libsodium does not convert (identity.ID.X25519); signatures that it does not accept (identity.Verify).
//
// # Box stream
//
// Each direction has its own key and 24-byte nonce, both results of the handshake. A packet is a box of 34 bytes, which
// holds the length of the body as two bytes and the body's 16-byte tag, then the body without its tag, at most 4096
// bytes. Every box takes the next nonce, a big-endian number that wraps around. A header of zeros says goodbye (npm
// pull-box-stream 1.0.13).
//
// That implementation takes a connection cut between header and body for a clean end; this one does not. It ignores what
// follows a goodbye; so does this one. It would take bodies longer than 4096 bytes; none sends them, and this one
// refuses them.
//
// # The way of the data
//
// Write seals straight from the caller's bytes into a buffer that holds 15 packets, and hands the socket all of it at once.
// Read asks the socket for as much as there is, and opens straight into the caller's bytes where a whole packet fits: give
// it 4096 bytes or more. Neither allocates. A connection that waits holds a read buffer of 8 KiB; one that is busy borrows
// one of 64 KiB.
//
// Who may connect, how many handshakes may be under way, and what is said inside is not decided here.
package shs
