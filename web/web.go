// Package web is the node's door for browsers and for programs that speak WebSocket: one port, where a WebSocket carries the
// same secret handshake as a TCP connection does elsewhere, and where single messages and blobs can be fetched with GET, as
// npm ssb-ws offers it.
//
//	any path, as a WebSocket        binary messages, of which only the bytes count: the secret handshake, then muxrpc
//	GET /msg/ID                     {"key": ID, "value": the message as it was signed}
//	GET /blobs/get/ID               the blob; ranges, ?contentType=TYPE, ?filename=NAME; ?unbox=KEY.boxs decrypts it (package boxs)
//
// ID is as encodeURIComponent gives it; of a blob's, nothing has to be encoded. Answers to GET are public: nobody has to say who
// they are, and only who brings a blob's key has that blob decrypted. That is why a message is fetched by its hash only, and
// nothing can be listed.
//
// # What strangers' pages can do
//
// Every page that the user's browser shows can reach a port of loopback. What holds:
//
//   - A WebSocket gives a page nothing without a key: it is the secret handshake that decides. So the Origin is not looked at,
//     and browser extensions, whose origins nobody can list, work (npm Patchfox is one).
//   - A blob that is not held may be fetched from peers because a page asks for it: see Blobs. So a page can have something
//     fetched, within the bounds that the node has for blobs, and find out whether it was here before.
//   - Blobs may be read by any page (Access-Control-Allow-Origin: *, as npm ssb-ws does), messages by none.
//   - A page whose host's name was pointed at loopback after it was loaded (DNS rebinding) is of the same origin as this port,
//     so where only loopback is listened at, a Host that is neither an IP nor localhost is refused.
//   - Blobs are other people's: HTML and SVG among them run no scripts and belong to no origin (Content-Security-Policy:
//     sandbox), types are not guessed again by the browser (nosniff), and scripts are sent as plain text.
//
// # Limits
//
// Connections in all and from one address, the size of headers and the time they may take, and the time for which a reader
// takes nothing all have bounds; what is over is closed. How many WebSockets may be in their secret handshake, and how many
// peers may be connected, is the business of who serves them. WebSocket compression is never agreed to.
//
// The package knows no messages, no blobs and no muxrpc: it is handed functions.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"charkha/blob/boxs"
	"charkha/identity"
)

// Options of a Server.
type Options struct {
	// Serve speaks with who connected by WebSocket, until the connection or ctx has ended. It owns conn. Nil: no WebSockets.
	Serve func(ctx context.Context, conn net.Conn)
	// Message returns the value of a message as it was signed. An error that is fs.ErrNotExist: it is not held.
	Message func(id identity.MsgID) ([]byte, error)
	// Blobs may be nil: no blob is held.
	Blobs  Blobs
	Logger *slog.Logger // nil: nothing is logged

	// MaxConns and MaxConnsAddress bound the connections, WebSockets included, in all and from one IP address (of IPv6: from
	// one /64): 0 is 1024 and 64. More of them are closed at once.
	MaxConns, MaxConnsAddress int
}

// Blobs is where blobs are kept.
type Blobs interface {
	// Open opens a blob for reading. An error that is fs.ErrNotExist: it is not held. It may wait for it, for as long as it likes
	// or until ctx ends, which is when who asks goes away. link is how a message links it that gives what was asked for: the id,
	// and the key behind it if there is one.
	Open(ctx context.Context, id identity.BlobID, link string) (io.ReadSeekCloser, error)
}

const (
	// headerTime is for a request's header and body, which nobody needs, to arrive.
	headerTime = 10 * time.Second
	// idleTime is how long a connection is kept between requests.
	idleTime = time.Minute
	// readerTime is how long a reader may take nothing of an answer.
	readerTime = 30 * time.Second
	// maxHeader bounds a request's header, in bytes; net/http adds 4 KiB to that.
	maxHeader = 8 << 10
	// closeTime is how long a close waits for the other side's, and for what it has not read.
	closeTime = 500 * time.Millisecond
)

// Server serves one listener.
type Server struct {
	o        Options
	loopback bool // only loopback is listened at

	mu      sync.Mutex
	stopped bool           // no request is begun any more
	active  sync.WaitGroup // requests and WebSockets
}

// New makes a server.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxConns <= 0 {
		o.MaxConns = 1024
	}
	if o.MaxConnsAddress <= 0 {
		o.MaxConnsAddress = 64
	}
	return &Server{o: o}
}

// ParseListen reads "ws://HOST:PORT", an address to listen on; "~shs" may stand after it. HOST may be empty or an IPv6 address in
// brackets, PORT 0 for any.
func ParseListen(addr string) (host, port string, err error) {
	hostport, ok := strings.CutPrefix(strings.TrimSuffix(addr, "~shs"), "ws://")
	if ok {
		host, port, err = net.SplitHostPort(hostport)
	}
	if !ok || err != nil || strings.ContainsAny(host, "/@?#~") {
		return "", "", fmt.Errorf("%q is not of the form ws://HOST:PORT", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", fmt.Errorf("%q: the port must be a number from 0 to 65535 (0: any that is free)", addr)
	}
	return host, port, nil
}

// rawConn is the key of a request's connection in its context.
type rawConn struct{}

// Run serves l, which it owns, until ctx ends and all that it started has ended. It returns nil then, or why l failed. It is
// called once.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if a, err := netip.ParseAddrPort(l.Addr().String()); err == nil {
		s.loopback = a.Addr().IsLoopback()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{
		Handler:           http.HandlerFunc(s.handle),
		ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, WriteTimeout: readerTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug), // what remotes do wrong
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ConnContext:    func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, rawConn{}, c) },
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	err := srv.Serve(&limited{Listener: l, o: s.o, from: map[string]int{}})
	if !stop() {
		err = nil
	}
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	cancel()
	srv.Close()
	s.active.Wait()
	return err
}

// handle serves one request, or a WebSocket until it ends.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return
	}
	s.active.Add(1)
	s.mu.Unlock()
	defer s.active.Done()

	w.Header().Set("X-Content-Type-Options", "nosniff")
	if s.o.Serve != nil && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		s.upgrade(w, r)
		return
	}
	if s.loopback && !namesLoopback(r.Host) {
		plain(w, http.StatusForbidden, "this node is asked by its IP address or as localhost only")
		return
	}
	// Not http.ServeMux: it cleans paths, and an id that is not percent-encoded may have two slashes in a row.
	if id, ok := strings.CutPrefix(r.URL.Path, "/msg/"); ok {
		if s.readOnly(w, r) {
			s.message(w, id)
		}
		return
	}
	if id, ok := strings.CutPrefix(r.URL.Path, "/blobs/get/"); ok {
		if s.readOnly(w, r) {
			s.blob(w, r, id)
		}
		return
	}
	plain(w, http.StatusNotFound, "nothing is here: this is an SSB node, for WebSockets with the secret handshake; "+
		"/msg/ID and /blobs/get/ID are answered, with ID as encodeURIComponent gives it")
}

// namesLoopback reports whether the host that a request was sent to is an IP or localhost.
func namesLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

// plain answers in words.
func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n")
}

func (s *Server) readOnly(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	plain(w, http.StatusMethodNotAllowed, "only GET and HEAD are answered here")
	return false
}

func (s *Server) message(w http.ResponseWriter, text string) {
	id, err := identity.ParseMsgID(text)
	if err != nil {
		plain(w, http.StatusBadRequest, "that is no message id; one is %...=.sha256, as encodeURIComponent gives it")
		return
	}
	value, err := s.o.Message(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		plain(w, http.StatusNotFound, "this node does not have that message")
		return
	case err != nil:
		s.o.Logger.Warn("message asked for over HTTP", "msg", id, "err", err)
		plain(w, http.StatusInternalServerError, "the message cannot be read; the node's log says why")
		return
	}
	key, _ := json.Marshal(id)
	w.Header().Set("Content-Type", "application/json")
	w.Write(fmt.Appendf(nil, `{"key":%s,"value":%s}`, key, value))
}

func (s *Server) blob(w http.ResponseWriter, r *http.Request, text string) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	h.Set("Referrer-Policy", "no-referrer")
	id, err := identity.ParseBlobID(text)
	if err != nil {
		plain(w, http.StatusBadRequest, "that is no blob id; one is &...=.sha256, as encodeURIComponent gives it")
		return
	}
	query := r.URL.Query()
	var key boxs.Key
	link := id.String()
	if query.Has("unbox") {
		if key, err = boxs.ParseKey(query.Get("unbox")); err != nil {
			plain(w, http.StatusBadRequest, "that is no key; unbox=KEY.boxs, as the link to the blob has it, is")
			return
		}
		link = boxs.Link(id, key)
	}
	var blob io.ReadSeekCloser
	if err = fs.ErrNotExist; s.o.Blobs != nil {
		blob, err = s.o.Blobs.Open(r.Context(), id, link)
	}
	w = patient{w, http.NewResponseController(w)} // the time for a whole answer may be over
	unreadable := func(err error) {
		s.o.Logger.Warn("blob asked for over HTTP", "blob", id, "err", err)
		plain(w, http.StatusInternalServerError, "the blob cannot be read; the node's log says why")
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		plain(w, http.StatusNotFound, "this node does not have that blob")
		return
	case r.Context().Err() != nil && err != nil:
		return // who asked went away
	case err != nil:
		unreadable(err)
		return
	}
	defer blob.Close()
	content, etag, cache := io.ReadSeeker(blob), id.String(), "public"
	if query.Has("unbox") {
		content, err = boxs.Open(blob, key)
		etag, cache = etag+" opened", "private"
	}
	typ := query.Get("contentType")
	if err == nil && typ == "" {
		typ, err = guess(content)
	}
	switch {
	case errors.Is(err, boxs.ErrDamaged):
		plain(w, http.StatusBadRequest, "this key does not open that blob")
		return
	case err != nil:
		unreadable(err)
		return
	}
	h.Set("Content-Type", harmless(typ))
	if name := query.Get("filename"); name != "" {
		if text := mime.FormatMediaType("inline", map[string]string{"filename": name}); text != "" {
			h.Set("Content-Disposition", text)
		}
	}
	h.Set("ETag", `"`+etag+`"`)
	h.Set("Cache-Control", cache+", max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, content)
}

// guess tells a blob's type by its beginning.
func guess(blob io.ReadSeeker) (string, error) {
	var head [512]byte
	n, err := io.ReadFull(blob, head[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	_, err = blob.Seek(0, io.SeekStart)
	return http.DetectContentType(head[:n]), err
}

// harmless is a content type that a browser may be told. What could be loaded as a script elsewhere is plain text; what is no
// type at all is bytes.
func harmless(typ string) string {
	name, params, err := mime.ParseMediaType(typ)
	if err != nil || !strings.Contains(name, "/") {
		return "application/octet-stream"
	}
	if strings.Contains(name, "script") || name == "application/wasm" || strings.Contains(name, "json") || name == "text/css" {
		return "text/plain; charset=utf-8"
	}
	if formatted := mime.FormatMediaType(name, params); formatted != "" {
		return formatted
	}
	return "application/octet-stream"
}

// patient lets an answer take as long as its reader goes on reading.
type patient struct {
	http.ResponseWriter
	deadline *http.ResponseController
}

func (p patient) Write(b []byte) (int, error) {
	_ = p.deadline.SetWriteDeadline(time.Now().Add(readerTime)) // without one the whole answer has WriteTimeout
	return p.ResponseWriter.Write(b)
}

// upgrade makes a WebSocket and serves it.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // of the Origin; see the package doc
	if err != nil {
		s.o.Logger.Debug("websocket", "err", err)
		return // and was answered
	}
	raw, _ := r.Context().Value(rawConn{}).(net.Conn)
	// Not the request's context, which says nothing once the connection is no longer net/http's.
	s.o.Serve(r.Context(), &socket{Conn: websocket.NetConn(context.Background(), ws, websocket.MessageBinary), ws: ws, raw: raw})
}

// socket is a WebSocket as a stream of bytes.
type socket struct {
	net.Conn
	ws  *websocket.Conn
	raw net.Conn
}

// Read ends with io.EOF also after a close without a reason, as browsers and npm ws send it.
func (s *socket) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if websocket.CloseStatus(err) == websocket.StatusNoStatusRcvd {
		err = io.EOF
	}
	return n, err
}

// Close says that it is closed, waits for the other side's word for no longer than closeTime, and closes the connection. Left to
// itself, NetConn would not say it while somebody reads, and else wait for 10 s.
func (s *socket) Close() error {
	late := time.AfterFunc(closeTime, func() { s.raw.Close() })
	defer late.Stop()
	_ = s.ws.Close(websocket.StatusNormalClosure, "") // that the other side went first is no error
	_ = s.Conn.Close()                                // for its timers: the connection is closed
	return nil
}

// limited is a listener that closes at once what is too many.
type limited struct {
	net.Listener
	o Options

	mu   sync.Mutex
	all  int
	from map[string]int // by address
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := origin(conn.RemoteAddr())
		l.mu.Lock()
		ok := l.all < l.o.MaxConns && l.from[from] < l.o.MaxConnsAddress
		if ok {
			l.all++
			l.from[from]++
		}
		l.mu.Unlock()
		if !ok {
			l.o.Logger.Debug("too many connections over HTTP", "from", from)
			conn.Close()
			continue
		}
		return &counted{Conn: conn, done: sync.OnceFunc(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.all--
			if l.from[from]--; l.from[from] == 0 {
				delete(l.from, from)
			}
		})}, nil
	}
}

// origin is whom a connection is counted for: its IP, of IPv6 the part that one household has.
func origin(addr net.Addr) string {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return addr.String()
	}
	ip := at.Addr().Unmap()
	if ip.Is6() {
		p, _ := ip.WithZone("").Prefix(64)
		return p.String()
	}
	return ip.String()
}

// counted is a connection that counts.
type counted struct {
	net.Conn
	done func()
}

func (c *counted) Close() error {
	defer c.done()
	return c.Conn.Close()
}
