// Package muxrpc lets two programs call each other's methods over one connection, as JavaScript's muxrpc does. It knows
// calls, streams and limits, and nothing of Scuttlebutt.
//
// # What it keeps
//
// A [Conn] has one goroutine that reads (the one that called Run), one that writes, and one for each request of the other
// side that is being served. The invariants:
//
//   - The reading goroutine never waits for a handler, nor for the writer. The one exception is asked for: a patient stream.
//   - Everything that the other side can make us keep has a bound, and finished requests leave nothing behind but their
//     number in a window of fixed size.
//   - When Run returns, the transport is closed, every call and stream has ended, every handler has returned.
//
// # The way of the data
//
// In: read buffer -> frame header -> the request it belongs to -> its body, copied once into memory of that stream, where
// the receiver may keep it -> the stream's queue -> Recv or RecvBatch. A frame with the number of nobody is skipped.
//
// Out: Send copies a frame into the connection's write buffer and returns. The writer takes all that is there with one
// system call, and meanwhile the buffer fills again, so that frames gather by themselves under load and go out at once
// when there are few. When the buffer holds WriteBuffer bytes, Send waits: a remote that does not read stops those who
// write to it. Frames that the reading goroutine itself must send (refusals, answers to ends) never wait; a remote that
// causes a megabyte of them without reading any is cut off.
//
// Transports are TCP connections, boxes around them, or sockets. Nagle's algorithm must be off, or an async call to a JS
// peer takes 88 ms instead of under 1 ms; that is what Go's net package does with each TCP connection by itself, and a
// test here holds it to that.
//
// # What is declared once
//
// A [Method] stands in one place: name, kind, who may call it, a line of help, its arguments, its function. From the methods
// a [Registry] makes the manifest, the help that npm muxrpcli shows, and the checks of arguments, whose errors name the
// argument. Strangers are told of the methods that they may call, and get no help.
//
// # When a reader lags
//
// muxrpc has no flow control of its own: what the other side sends on a stream arrives whether or not its reader is ready.
// Up to StreamBuffer bytes wait per stream and ConnBuffer bytes per connection. Beyond that, the stream (of all streams,
// the one with most waiting) ends with [ErrLagging], here and there, and the others go on.
//
// A patient method or call instead stops the reading of the whole connection until its reader has taken something, so
// that TCP slows the other side down. Who receives from a patient stream must therefore not wait, between two receives,
// for anything that comes over the same connection: an answer to a call, or room to Send (the other side may be waiting in
// the same way, and then both stand still). Receive in one goroutine and send in another. As a last resort, a stream for
// which reading stood still for Patience ends like an impatient one.
//
// # How streams end
//
// Each side ends its direction with an end frame: true, or an error. JS keeps a stream until both have. On sources and
// sinks any end ends both directions, and is answered by itself. On a duplex a clean end is one direction's: Recv returns
// io.EOF and Send still works. JS's own duplex streams, however, take every end for the end of both directions and answer
// none: after CloseSend, do not wait for theirs for ever, but Close.
//
// An async call that is given up is announced with an error end under its own number. JS takes that for a new, bad request
// and answers with an error that goes nowhere here; Go peers stop working for it.
//
// # Facts of the protocol, and where they are from
//
//   - A header is one byte of flags, the body's length in 4 and the request's number in 4 bytes, big endian. Flags: bits
//     0-1 the body's type, 4 end or error, 8 stream (npm packet-stream-codec 1.2.0).
//   - Every frame with an empty body is a goodbye, whatever its header says, so none but the goodbye is ever sent (ibid.).
//     After it, JS ends what is open with "unexpected end of parent stream".
//   - Body type 3 ends the connection (ibid.). JS also hangs up on JSON that does not parse.
//   - Calls other than streams carry no type, sync methods are called as async ones (npm muxrpc 8, recorded in
//     muxrpc-transcripts). Names are arrays of strings; the first call of a JS client is a bare "manifest".
//   - Error texts that programs match on: "method:a,b is not in list of allowed methods", "no async:a,b" and the same with
//     source, sink, duplex (npm muxrpc 8, permissions.js and local-api.js). Permission is looked at first.
//   - Error objects are {name, message, stack}. The stack is left empty: it is nobody's business.
//   - Numbers are 32 bits and count upwards. JS never begins again; here both sides may, after 2^31-1.
//
// # What it does not do
//
// It does not encrypt, dial, or check that a JSON body of a stream is JSON: who receives it parses it anyway. It does not
// limit how fast requests come, how many calls this side makes, or how long the other side may be silent.
package muxrpc
