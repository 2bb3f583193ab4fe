package web

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"charkha/blob/boxs"
	"charkha/identity"
)

var (
	messageID = identity.MsgID{0xff, 0xff, 0xff, 0xff, 0xfb} // "%/////...": with what paths do not like
	blobID    = identity.BlobID{0xff, 0xff, 0xff, 0xff, 0xfb}
)

const value = `{"previous":null,"author":"@a","sequence":1,"content":{"type":"post","text":"<b>&"}}`

// message is Options.Message for tests: it holds messageID.
func message(id identity.MsgID) ([]byte, error) {
	switch id {
	case messageID:
		return []byte(value), nil
	case identity.MsgID{9}:
		return nil, errors.New("secret detail")
	}
	return nil, fs.ErrNotExist
}

// blobs are kept in memory. One that is an error cannot be opened.
type blobs map[identity.BlobID]any

type openBlob struct {
	io.ReadSeeker
	closed *bool
}

func (o openBlob) Close() error { *o.closed = true; return nil }

func (b blobs) Open(_ context.Context, id identity.BlobID, link string) (io.ReadSeekCloser, error) {
	if got, _, err := boxs.ParseLink(link); got != id || err != nil {
		return nil, fmt.Errorf("the link %q is not one to %s", link, id)
	}
	switch v := b[id].(type) {
	case string:
		return openBlob{strings.NewReader(v), new(bool)}, nil
	case io.ReadSeekCloser:
		return v, nil
	case error:
		return nil, v
	}
	return nil, fs.ErrNotExist
}

// begin serves a port of loopback until the test ends, and returns where.
func begin(t *testing.T, o Options) (hostport string) {
	t.Helper()
	if o.Message == nil {
		o.Message = message
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- New(o).Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// echo is Options.Serve that sends back what it is sent.
func echo(_ context.Context, conn net.Conn) {
	defer conn.Close()
	_, _ = io.Copy(conn, conn)
}

// request asks as an HTTP client does; header is "Name: value" lines.
func request(t *testing.T, method, to, header string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(header) {
		name, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if req.Header.Set(name, v); name == "Host" {
			req.Host = v
		}
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestParseListen(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"ws://127.0.0.1:8989":     "127.0.0.1 8989",
		"ws://127.0.0.1:8989~shs": "127.0.0.1 8989",
		"ws://[::1]:0":            "::1 0",
		"ws://:8989":              " 8989",
		"ws://localhost:65535":    "localhost 65535",
		"ws://localhost":          "error",
		"ws://localhost:65536":    "error",
		"ws://localhost:http":     "error",
		"wss://localhost:8989":    "error",
		"net:127.0.0.1:8989":      "error",
		"ws://x/y:8989":           "error",
		"ws://u@x:8989":           "error",
		"ws://x:8989/":            "error",
		"":                        "error",
	} {
		host, port, err := ParseListen(addr)
		got := host + " " + port
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", addr, got, want)
		}
	}
}

func TestGetMessage(t *testing.T) {
	t.Parallel()
	at := "http://" + begin(t, Options{}) + "/msg/"
	want := `{"key":"` + messageID.String() + `","value":` + value + `}`
	half := strings.ReplaceAll(messageID.String(), "%", "%25") // only what must be encoded is: slashes in a row stay
	if !strings.Contains(half, "//") {
		t.Fatal("the id has no two slashes")
	}
	for _, id := range []string{url.QueryEscape(messageID.String()), half} {
		resp, body := request(t, "GET", at+id, "")
		if resp.StatusCode != 200 || body != want || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s %s", id, resp.Status, body)
		}
		if h := resp.Header; h.Get("Access-Control-Allow-Origin") != "" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", id, h)
		}
	}
	if resp, body := request(t, "HEAD", at+half, ""); resp.StatusCode != 200 || body != "" || resp.ContentLength != int64(len(want)) {
		t.Errorf("HEAD: %s %q %d", resp.Status, body, resp.ContentLength)
	}
	for id, want := range map[string]struct {
		status int
		body   string
	}{
		url.QueryEscape(identity.MsgID{1}.String()): {404, "does not have that message"},
		url.QueryEscape(identity.MsgID{9}.String()): {500, "the node's log says why"},
		url.QueryEscape(blobID.String()):            {400, "no message id"},
		"x":                                         {400, "no message id"},
		"":                                          {400, "no message id"},
		"%":                                         {400, ""},
	} {
		resp, body := rawGet(t, strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/msg/"), "/msg/"+id)
		if resp.StatusCode != want.status || !strings.Contains(body, want.body) || strings.Contains(body, "secret") || strings.Contains(body, "<") {
			t.Errorf("%q: %s %s", id, resp.Status, body)
		}
		if typ := resp.Header.Get("Content-Type"); !strings.HasPrefix(typ, "text/plain") {
			t.Errorf("%q: %s", id, typ)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		for _, path := range []string{"/msg/", "/blobs/get/"} {
			resp, _ := request(t, method, strings.TrimSuffix(at, "/msg/")+path+half, "")
			if resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s: %s %v", method, resp.Status, resp.Header)
			}
		}
	}
	for _, path := range []string{"/", "/blobs/add", "/blobs/get", "/msg", "/favicon.ico", "/../msg/x"} {
		if resp, body := rawGet(t, strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/msg/"), path); resp.StatusCode != 404 || !strings.Contains(body, "/msg/ID") {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
}

// rawGet asks for a path that an HTTP client would clean.
func rawGet(t *testing.T, hostport, path string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", hostport)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, hostport)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

const svg = `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`

func TestGetBlob(t *testing.T) {
	t.Parallel()
	page, broken, png := identity.BlobID{2}, identity.BlobID{3}, "\x89PNG\r\n\x1a\n"+strings.Repeat("x", 100<<10)
	held := blobs{blobID: png, page: "<html><script>alert(1)</script>", broken: errors.New("secret detail")}
	at := "http://" + begin(t, Options{Blobs: held}) + "/blobs/get/"
	get := func(id identity.BlobID, query, header string) (*http.Response, string) {
		return request(t, "GET", at+url.QueryEscape(id.String())+query, header)
	}
	for _, id := range []string{url.QueryEscape(blobID.String()), blobID.String()} {
		resp, body := request(t, "GET", at+id, "")
		if resp.StatusCode != 200 || body != png || resp.ContentLength != int64(len(png)) {
			t.Errorf("%s: %s, %d bytes", id, resp.Status, len(body))
		}
		for name, want := range map[string]string{
			"Content-Type": "image/png", "Access-Control-Allow-Origin": "*", "Accept-Ranges": "bytes",
			"Cache-Control": "public, max-age=31536000, immutable", "ETag": `"` + blobID.String() + `"`,
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", id, name, got, want)
			}
		}
	}
	for _, c := range []struct {
		id            identity.BlobID
		query, header string
		status        int
		body, extra   string
	}{
		{blobID, "", "Range: bytes=1-3", 206, "PNG", "Content-Range: bytes 1-3/102408"},
		{blobID, "", "Range: bytes=-2", 206, "xx", "Content-Range: bytes 102406-102407/102408"},
		{blobID, "", "Range: bytes=200000-", 416, "*", "Content-Range: bytes */102408"},
		{blobID, "", `If-None-Match: "` + blobID.String() + `"`, 304, "", ""},
		{page, "", "", 200, held[page].(string), "Content-Type: text/html; charset=utf-8"},
		{page, "?contentType=image/svg%2Bxml", "", 200, held[page].(string), "Content-Type: image/svg+xml"},
		{page, "?contentType=text/javascript", "", 200, held[page].(string), "Content-Type: text/plain; charset=utf-8"},
		{page, "?contentType=application/ecmascript", "", 200, held[page].(string), "Content-Type: text/plain; charset=utf-8"},
		{page, "?contentType=text/css", "", 200, held[page].(string), "Content-Type: text/plain; charset=utf-8"},
		{page, "?contentType=a%0d%0aSet-Cookie:%20x=y", "", 200, held[page].(string), "Content-Type: application/octet-stream"},
		{page, "?contentType=%22", "", 200, held[page].(string), "Content-Type: application/octet-stream"},
		{page, "?filename=a%0d%0aX:%20%22y.png", "", 200, held[page].(string), ""},
		{page, "?filename=photo.png", "", 200, held[page].(string), "Content-Disposition: inline; filename=photo.png"},
		{page, "?unbox=AAAA.boxs", "", 400, "that is no key; unbox=KEY.boxs, as the link to the blob has it, is\n", "Cache-Control: no-store"},
		{page, "?unbox=" + boxs.Key{1}.Text(), "", 400, "this key does not open that blob\n", "Cache-Control: no-store"},
		{broken, "", "", 500, "the blob cannot be read; the node's log says why\n", ""},
		{identity.BlobID{7}, "", "", 404, "this node does not have that blob\n", "Cache-Control: no-store"},
	} {
		resp, body := get(c.id, c.query, c.header)
		if resp.StatusCode != c.status || c.body != "*" && body != c.body {
			t.Errorf("%s %s: %s %.80q", c.query, c.header, resp.Status, body)
		}
		if name, want, ok := strings.Cut(c.extra, ": "); ok && resp.Header.Get(name) != want {
			t.Errorf("%s %s: %s is %q, want %q", c.query, c.header, name, resp.Header.Get(name), want)
		}
		h := resp.Header
		if csp := h.Get("Content-Security-Policy"); !strings.HasSuffix(csp, "; sandbox") || !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "script") {
			t.Errorf("%s %s: policy %q", c.query, c.header, csp)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X") != "" || h.Get("Set-Cookie") != "" {
			t.Errorf("%s %s: %v", c.query, c.header, h)
		}
	}
	if resp, body := request(t, "GET", at+url.QueryEscape(messageID.String()), ""); resp.StatusCode != 400 || !strings.Contains(body, "no blob id") {
		t.Errorf("%s %s", resp.Status, body)
	}
	// A node without a store has none.
	if resp, _ := request(t, "GET", "http://"+begin(t, Options{})+"/blobs/get/"+url.QueryEscape(blobID.String()), ""); resp.StatusCode != 404 {
		t.Error(resp.Status)
	}
}

// An SVG is told by what is asked for only: it is never guessed, and runs nothing in any case.
func TestGuess(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		svg: "text/plain; charset=utf-8", "": "text/plain; charset=utf-8", "\x00\x01": "application/octet-stream",
		"GIF89a": "image/gif", "%PDF-1.4": "application/pdf", "<!DOCTYPE HTML>": "text/html; charset=utf-8",
	} {
		r := strings.NewReader(content)
		typ, err := guess(r)
		if left, _ := io.ReadAll(r); typ != want || err != nil || string(left) != content {
			t.Errorf("%q: %s %v", content, typ, err)
		}
	}
}

func TestBlobsAreClosed(t *testing.T) {
	t.Parallel()
	closed := new(bool)
	at := begin(t, Options{Blobs: blobs{blobID: openBlob{strings.NewReader("x"), closed}}})
	resp, _ := request(t, "GET", "http://"+at+"/blobs/get/"+url.QueryEscape(blobID.String()), "")
	if resp.StatusCode != 200 || !*closed {
		t.Errorf("%s, closed %t", resp.Status, *closed)
	}
}

// A blob is decrypted for who brings its key, whole or in part; what is damaged ends the answer before its end.
func TestUnbox(t *testing.T) {
	t.Parallel()
	plain := "\x89PNG\r\n\x1a\n" + strings.Repeat("0123456789", 10<<10)
	key, err := boxs.KeyFor(strings.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	var boxed bytes.Buffer
	if err := boxs.Seal(&boxed, strings.NewReader(plain), key); err != nil {
		t.Fatal(err)
	}
	damaged, cut := identity.BlobID{5}, identity.BlobID{6}
	bent := bytes.Clone(boxed.Bytes())
	bent[len(bent)/2] ^= 1
	held := blobs{blobID: boxed.String(), damaged: string(bent), cut: boxed.String()[:boxed.Len()/2]}
	at := begin(t, Options{Blobs: held})
	to := func(id identity.BlobID, query string) string {
		return "http://" + at + "/blobs/get/" + url.QueryEscape(id.String()) + "?unbox=" + query
	}
	for _, c := range []struct {
		query, header, body, extra string
		status                     int
	}{
		{url.QueryEscape(key.Text()), "", plain, "Content-Type: image/png", 200},
		{key.Text(), "", plain, "Cache-Control: private, max-age=31536000, immutable", 200}, // as links have it, with "+" in it
		{key.Text() + "&contentType=text/html", "", plain, "Content-Type: text/html", 200},
		{key.Text(), "Range: bytes=50000-50009", plain[50000:50010], fmt.Sprintf("Content-Range: bytes 50000-50009/%d", len(plain)), 206},
		{key.Text(), "Range: bytes=-7", plain[len(plain)-7:], "", 206},
	} {
		resp, body := request(t, "GET", to(blobID, c.query), c.header)
		name, want, _ := strings.Cut(c.extra, ": ")
		if resp.StatusCode != c.status || body != c.body || name != "" && resp.Header.Get(name) != want || resp.ContentLength != int64(len(c.body)) {
			t.Errorf("%s %s: %s, %d bytes, %s %q", c.query, c.header, resp.Status, len(body), name, resp.Header.Get(name))
		}
	}
	if resp, body := request(t, "GET", to(cut, key.Text()), ""); resp.StatusCode < 400 || len(body) > 100 {
		t.Errorf("a blob that is cut: %s, %d bytes", resp.Status, len(body))
	}
	resp, err := http.Get(to(damaged, key.Text()))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil || !strings.HasPrefix(plain, string(got)) {
		t.Errorf("a damaged blob: %s, %d bytes, %v", resp.Status, len(got), err)
	}
}

// awaited is a blob that arrives when it is sent, or that the store stops waiting for.
type awaited struct {
	arrives chan string
	gone    chan error // why a wait ended without it
}

func (a *awaited) begin() { a.arrives, a.gone = make(chan string), make(chan error, 1) } // in the bubble

func (a *awaited) Open(ctx context.Context, _ identity.BlobID, _ string) (io.ReadSeekCloser, error) {
	select {
	case text, ok := <-a.arrives:
		if !ok {
			return nil, fs.ErrNotExist
		}
		return openBlob{strings.NewReader(text), new(bool)}, nil
	case <-ctx.Done():
		a.gone <- ctx.Err()
		return nil, ctx.Err()
	}
}

// A blob that is not there is waited for, for as long as its store likes and who asked is there.
func TestWaitForBlob(t *testing.T) {
	t.Parallel()
	ask := "GET /blobs/get/" + url.QueryEscape(blobID.String()) + " HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for name, c := range map[string]struct {
		status int
		body   string
	}{"arrives": {200, "here"}, "given up": {404, "this node does not have that blob\n"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &awaited{}
			inBubble(t, Options{Blobs: store}, func(t *testing.T, m *memory) {
				store.begin()
				conn := m.dial()
				defer conn.Close()
				for range 2 { // the connection is as good as before
					io.WriteString(conn, ask)
					time.Sleep(5 * time.Minute)
					synctest.Wait()
					select {
					case err := <-store.gone:
						t.Fatalf("the wait ended: %v", err)
					default:
					}
					if c.status == 200 {
						store.arrives <- c.body
					} else if store.arrives != nil {
						close(store.arrives)
					}
					resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					if resp.StatusCode != c.status || string(body) != c.body || err != nil {
						t.Errorf("%s %q %v", resp.Status, body, err)
					}
					if c.status != 200 {
						return
					}
				}
			})
		})
	}
	t.Run("who asked leaves", func(t *testing.T) {
		t.Parallel()
		store := &awaited{}
		inBubble(t, Options{Blobs: store}, func(t *testing.T, m *memory) {
			store.begin()
			conn := m.dial()
			io.WriteString(conn, ask)
			time.Sleep(time.Minute)
			conn.Close()
			if err := <-store.gone; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	})
	t.Run("the node stops", func(t *testing.T) {
		t.Parallel()
		store := &awaited{}
		inBubble(t, Options{Blobs: store}, func(t *testing.T, m *memory) {
			store.begin()
			conn := m.dial()
			defer conn.Close()
			io.WriteString(conn, ask)
			time.Sleep(time.Minute)
		})
		if len(store.gone) != 1 {
			t.Error("the wait goes on")
		}
	})
}

// A page that points its name at loopback after it was loaded is not answered; WebSockets, which need a key, are.
func TestRebinding(t *testing.T) {
	t.Parallel()
	at := begin(t, Options{Serve: echo})
	_, port, _ := net.SplitHostPort(at)
	for host, want := range map[string]int{
		"127.0.0.1:" + port: 200, "localhost:" + port: 200, "LOCALHOST": 200, "[::1]:" + port: 200, "127.0.0.1": 200,
		"evil.example": 403, "evil.example:" + port: 403, "127.0.0.1.evil.example": 403, "localhost.evil.example": 403,
	} {
		resp, body := request(t, "GET", "http://"+at+"/msg/"+url.QueryEscape(messageID.String()), "Host: "+host)
		if resp.StatusCode != want || want == 403 && strings.Contains(body, "author") {
			t.Errorf("%s: %s %s", host, resp.Status, body)
		}
	}
	ws, _, err := websocket.Dial(t.Context(), "ws://"+at, &websocket.DialOptions{Host: "evil.example"})
	if err != nil {
		t.Fatal(err)
	}
	ws.CloseNow()
	if !namesLoopback("[fe80::1]") || namesLoopback("") || namesLoopback("a:b:c") {
		t.Error("hosts are misread")
	}
}

// dial connects by WebSocket as a page of an origin does.
func dial(t *testing.T, hostport, path, origin string) *websocket.Conn {
	t.Helper()
	ws, resp, err := websocket.Dial(t.Context(), "ws://"+hostport+path, &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {origin}}, CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != "" {
		t.Errorf("compression is agreed to: %s", got)
	}
	t.Cleanup(func() { ws.CloseNow() })
	return ws
}

// Any path and any origin is right; messages are bytes, however they are cut.
func TestWebSocketIsAStream(t *testing.T) {
	t.Parallel()
	at := begin(t, Options{Serve: echo})
	for path, origin := range map[string]string{"": "http://evil.example", "/": "moz-extension://x", "/msg/x": "null", "/~shs:x": ""} {
		ws := dial(t, at, path, origin)
		conn := websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
		var sent bytes.Buffer
		go func() {
			for n := range 200 {
				if _, err := conn.Write(bytes.Repeat([]byte{byte(n)}, n*n%5000)); err != nil {
					t.Error(err)
				}
			}
		}()
		for n := range 200 {
			sent.Write(bytes.Repeat([]byte{byte(n)}, n*n%5000))
		}
		got := make([]byte, sent.Len())
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent.Bytes()) {
			t.Fatalf("%s: %v", path, err)
		}
	}
	// Text is no binary message.
	ws := dial(t, at, "", "")
	if err := ws.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Errorf("after a text: %v", err)
	}
	// What is no WebSocket in spite of its header is told so.
	if resp, _ := request(t, "GET", "http://"+at+"/", "Upgrade: websocket"); resp.StatusCode != http.StatusUpgradeRequired {
		t.Error(resp.Status)
	}
	if resp, _ := request(t, "GET", "http://"+begin(t, Options{})+"/", "Upgrade: websocket\nConnection: Upgrade"); resp.StatusCode != 404 {
		t.Errorf("where there are no WebSockets: %s", resp.Status)
	}
}

// Both sides are told when the other one closes.
func TestWebSocketCloses(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	at := begin(t, Options{Serve: func(_ context.Context, conn net.Conn) {
		defer conn.Close()
		_, err := conn.Read(make([]byte, 1))
		ended <- err
	}})
	var ws *websocket.Conn
	for _, why := range []websocket.StatusCode{websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusNoStatusRcvd} {
		ws = dial(t, at, "", "")
		_ = ws.Close(why, "") // its error may be our close's
		if err := <-ended; err != io.EOF {
			t.Errorf("the remote closed with %v: %v", why, err)
		}
	}
	reading := make(chan struct{})
	at = begin(t, Options{Serve: func(_ context.Context, conn net.Conn) {
		var both sync.WaitGroup
		both.Go(func() { close(reading); _, err := conn.Read(make([]byte, 1)); ended <- err })
		<-reading
		conn.Close()
		conn.Close() // does nothing
		both.Wait()
	}})
	ws = dial(t, at, "", "")
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("we closed: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("Read goes on after Close")
	}
}

// memory is a listener of pipes, for the clock of a synctest bubble.
type memory struct {
	conns chan net.Conn
	ends  chan struct{}
	once  sync.Once
}

func newMemory() *memory { return &memory{conns: make(chan net.Conn), ends: make(chan struct{})} }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.ends:
		return nil, net.ErrClosed
	}
}
func (m *memory) Close() error   { m.once.Do(func() { close(m.ends) }); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8989} }

func (m *memory) dial() net.Conn {
	a, b := net.Pipe()
	m.conns <- a
	return b
}

// inBubble runs a server whose clock the test has.
func inBubble(t *testing.T, o Options, test func(t *testing.T, m *memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Message = message
		m := newMemory()
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- New(o).Run(ctx, m) }()
		test(t, m)
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// closedAfter reads until the remote hangs up, and returns how long that took.
func closedAfter(conn net.Conn) time.Duration {
	begun := time.Now()
	_, _ = io.Copy(io.Discard, conn)
	return time.Since(begun)
}

// Who says nothing, sends his header a byte at a time, announces a body that never comes, or keeps a connection for nothing is cut off.
func TestSlowRemotes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		send string
		drip bool
		most time.Duration
	}{
		"says nothing":    {"", false, headerTime},
		"half a header":   {"GET /msg/x HTTP/1.1\r\nHost: 127.0.0.1\r\nX-", false, headerTime},
		"a slow header":   {"GET /msg/x HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", true, headerTime},
		"a missing body":  {"GET /msg/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n", false, headerTime + idleTime},
		"a slow body":     {"GET /msg/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n", true, headerTime + idleTime},
		"nothing further": {"GET /msg/x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", false, idleTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, Options{}, func(t *testing.T, m *memory) {
				conn := m.dial()
				var sender sync.WaitGroup
				sender.Go(func() {
					_, err := io.WriteString(conn, c.send)
					for c.drip && err == nil {
						_, err = io.WriteString(conn, "a")
						time.Sleep(time.Second)
					}
				})
				if got := closedAfter(conn); got > c.most+time.Second {
					t.Errorf("cut off after %s", got)
				}
				conn.Close()
				sender.Wait()
			})
		})
	}
}

// Who does not read an answer is cut off; who reads slowly, but goes on, gets all of it however long that takes.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("y", 1<<20)
	o := Options{Blobs: blobs{blobID: long}}
	ask := "GET /blobs/get/" + url.QueryEscape(blobID.String()) + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	inBubble(t, o, func(t *testing.T, m *memory) {
		conn := m.dial()
		io.WriteString(conn, ask)
		time.Sleep(readerTime + time.Second)
		if got, _ := io.ReadAll(conn); len(got) > 64<<10 {
			t.Errorf("%d bytes are there still", len(got))
		}
		conn.Close()
	})
	inBubble(t, o, func(t *testing.T, m *memory) {
		conn := m.dial()
		io.WriteString(conn, ask)
		begun := time.Now()
		slow := readerFunc(func(b []byte) (int, error) {
			time.Sleep(2 * time.Second)
			return conn.Read(b[:min(len(b), 8<<10)])
		})
		resp, err := http.ReadResponse(bufio.NewReader(slow), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != long || time.Since(begun) < 2*readerTime {
			t.Errorf("%d bytes after %s: %v", len(got), time.Since(begun), err)
		}
		conn.Close()
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestLargeHeaders(t *testing.T) {
	t.Parallel()
	at := begin(t, Options{Serve: echo})
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n")
		for err == nil { // as many as are taken
			_, err = fmt.Fprintf(conn, "X-%[1]d: %0100[1]d\r\n", 7)
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatalf("%v %v", resp, err)
	}
	conn.Close()
}

// Sockets that are too many are closed at once, and those that are there go on; when some end, others may come.
func TestManySockets(t *testing.T) {
	t.Parallel()
	at := begin(t, Options{Serve: echo, MaxConnsAddress: 3})
	var open []*websocket.Conn
	for range 3 {
		open = append(open, dial(t, at, "", ""))
	}
	refused := func() bool {
		conn, err := net.Dial("tcp", at)
		if err != nil {
			return true
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /msg/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		got, _ := io.ReadAll(conn)
		return len(got) == 0
	}
	for range 10 {
		if !refused() {
			t.Fatal("a fourth connection is served")
		}
	}
	if err := open[0].Write(t.Context(), websocket.MessageBinary, []byte("still here")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := open[0].Read(t.Context()); err != nil || string(got) != "still here" {
		t.Errorf("%s %v", got, err)
	}
	if err := open[1].Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	for refused() { // until the server has seen it
	}
	at = begin(t, Options{Serve: echo, MaxConns: 1})
	dial(t, at, "", "")
	if !refused() {
		t.Error("a second connection is served")
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:5": "127.0.0.1", "[::ffff:10.0.0.1]:5": "10.0.0.1",
		"[2001:db8:1:2:3:4:5:6]:5": "2001:db8:1:2::/64", "[fe80::1%eth0]:5": "fe80::/64",
	} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := origin(a); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
}

// Empty messages say nothing. Close does not wait for who does not read: not while a write to him is under way, nor when he
// does not answer the close.
func TestHostileWebSockets(t *testing.T) {
	t.Parallel()
	var closing chan time.Duration
	o := Options{Serve: func(_ context.Context, conn net.Conn) {
		var writer sync.WaitGroup
		_, err := io.ReadFull(conn, make([]byte, 1))
		if err != nil {
			t.Error(err)
		}
		writer.Go(func() { _, _ = conn.Write(make([]byte, 1<<20)) })
		synctest.Wait() // the writer waits for the remote
		begun := time.Now()
		conn.Close()
		closing <- time.Since(begun)
		writer.Wait()
	}}
	inBubble(t, o, func(t *testing.T, m *memory) {
		closing = make(chan time.Duration, 1)
		client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return m.dial(), nil
		}}}
		ws, _, err := websocket.Dial(t.Context(), "ws://localhost", &websocket.DialOptions{HTTPClient: &client})
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if err := ws.Write(t.Context(), websocket.MessageBinary, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := ws.Write(t.Context(), websocket.MessageBinary, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if took := <-closing; took > closeTime {
			t.Errorf("Close waited %s for who does not read", took)
		}
		ws.CloseNow()
	})
}

// The end of Run's context ends requests and WebSockets, and Run waits for them.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	begun, ended := make(chan struct{}), false
	o := Options{Message: message, Serve: func(ctx context.Context, conn net.Conn) {
		close(begun)
		<-ctx.Done()
		conn.Close()
		ended = true
	}}
	ran := make(chan error, 1)
	go func() { ran <- New(o).Run(ctx, l) }()
	ws := dial(t, l.Addr().String(), "", "")
	closed := ws.CloseRead(t.Context())
	<-begun
	cancel()
	if err := <-ran; err != nil || !ended {
		t.Errorf("%v, WebSocket ended %t", err, ended)
	}
	<-closed.Done()
	// A listener that fails is told.
	l, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := New(o).Run(t.Context(), l); err == nil {
		t.Error("a closed listener is no error")
	}
}

func FuzzParseListen(f *testing.F) {
	for _, addr := range []string{"ws://127.0.0.1:8989~shs", "ws://[::1]:0", "ws://:1", "wss://x:1", "ws://[::1%lo]:7"} {
		f.Add(addr)
	}
	f.Fuzz(func(t *testing.T, addr string) {
		host, port, err := ParseListen(addr)
		if err != nil {
			return
		}
		if again, port2, err := ParseListen("ws://" + net.JoinHostPort(host, port)); err != nil || again != host || port2 != port {
			t.Errorf("%q: %q %q, then %q %q %v", addr, host, port, again, port2, err)
		}
	})
}

// Whatever is asked for, what a page could run or take for its own is not what comes out.
func FuzzHarmless(f *testing.F) {
	for _, typ := range []string{"image/png", "text/html; charset=utf-8", "text/javascript", "a/b;c=\"d\"", "x", "\r\n"} {
		f.Add(typ)
	}
	f.Fuzz(func(t *testing.T, typ string) {
		got := harmless(typ)
		if strings.ContainsAny(got, "\r\n\x00") || strings.Contains(strings.Split(strings.ToLower(got), ";")[0], "script") || harmless(got) != got {
			t.Errorf("%q became %q, then %q", typ, got, harmless(got))
		}
	})
}
