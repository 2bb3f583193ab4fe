package roomhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func parse(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// serve answers each path as its handler says, until the test ends.
func serve(t *testing.T, h http.HandlerFunc) *url.URL {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return parse(t, s.URL)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/get":
			fmt.Fprintf(w, `{"status":"successful","is":%q}`, r.Method+r.Header.Get("Accept")+r.Header.Get("Content-Type"))
		case "/post":
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, `{"is":%q}`, r.Method+r.Header.Get("Content-Type")+string(b))
		case "/refused":
			io.WriteString(w, `{"status":"error","error":"used\n up \u001b[31m`+strings.Repeat("x", 1000)+`"}`)
		case "/refused-404":
			w.WriteHeader(404)
			io.WriteString(w, `{"status":"failed"}`)
		case "/404":
			http.NotFound(w, r)
		case "/html":
			io.WriteString(w, "<html>")
		case "/array":
			io.WriteString(w, "[1]")
		case "/number":
			io.WriteString(w, `{"status":200,"is":7}`)
		case "/long":
			io.WriteString(w, `{"is":"`+strings.Repeat("x", maxAnswer)+`"}`)
		case "/cut":
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{`)
		case "/to":
			http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/referrer":
			fmt.Fprintf(w, `{"is":"from %s"}`, r.Header.Get("Referer"))
		}
	})
	for _, c := range []struct{ path, is, err string }{
		{"/get", "GETapplication/json", ""},
		{"/refused", "", "HOST said no: used up [31m" + strings.Repeat("x", maxText-len("used up [31m")) + "..."},
		{"/refused-404", "", "HOST said no, without a reason"},
		{"/404", "", "HOST answered: 404 Not Found"},
		{"/html", "", "HOST answered, but not with JSON: is that a room?"},
		{"/array", "", "HOST answered, but not with JSON: is that a room?"},
		{"/number", "", "HOST answered with JSON of another kind: is that a room?"},
		{"/long", "", "HOST answered with more than 65536 bytes, which is no answer to this question"},
		{"/cut", "", "ask HOST: unexpected EOF"},
		{"/loop", "", "ask HOST: more than 3 redirects: not an address that can be asked"},
		{"/to?to=/referrer", "from ", ""},
		{"/to?to=http://room.example/", "", `ask HOST: "http://room.example/" is not encrypted, only https is asked: not an address that can be asked`},
		{"/to?to=file:///etc/passwd", "", `ask HOST: "file:///etc/passwd" names no host: not an address that can be asked`},
		{"/to?to=gopher://room.example/", "", `ask HOST: "gopher://room.example/" is not https: not an address that can be asked`},
	} {
		u := parse(t, base.String()+c.path)
		var got struct{ Is string }
		err := Get(t.Context(), u, &got)
		text := ""
		if err != nil {
			text = strings.ReplaceAll(err.Error(), base.Host, "HOST")
		}
		if got.Is != c.is || text != c.err {
			t.Errorf("%s: %q, %q; want %q, %q", c.path, got.Is, text, c.is, c.err)
		}
		var refused *Refused
		if errors.As(err, &refused) != strings.HasPrefix(c.path, "/refused") {
			t.Errorf("%s: %#v", c.path, err)
		}
	}
	var got struct{ Is string }
	if err := Post(t.Context(), parse(t, base.String()+"/post"), map[string]int{"a": 1}, &got); err != nil || got.Is != `POSTapplication/json{"a":1}` {
		t.Errorf("post: %v, %v", got, err)
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	err = Get(t.Context(), parse(t, "http://"+addr+"/x?token=secret"), nil)
	if err == nil || err.Error() != addr+" cannot be reached: nobody listens there" {
		t.Errorf("closed port: %v", err)
	}
	plainHTTP := serve(t, func(http.ResponseWriter, *http.Request) {})
	err = Get(t.Context(), parse(t, "https://"+plainHTTP.Host), nil)
	if err == nil || err.Error() != plainHTTP.Host+" does not speak https there" {
		t.Errorf("https to an http server: %v", err)
	}
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	err = Get(t.Context(), parse(t, s.URL), nil)
	if err == nil || !strings.Contains(err.Error(), "cannot prove that it is") {
		t.Errorf("unknown certificate: %v", err)
	}
	hang := make(chan struct{})
	silent := serve(t, func(http.ResponseWriter, *http.Request) { <-hang })
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = Get(ctx, silent, nil)
	if err == nil || err.Error() != silent.Host+" did not answer in time" {
		t.Errorf("silence: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if err := Get(ctx, plainHTTP, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

func TestPlainWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{&url.Error{Op: "Get", URL: "https://h/?token=secret", Err: &net.DNSError{IsNotFound: true}}, "there is no host h"},
		{&url.Error{Op: "Get", URL: "https://h/?token=secret", Err: context.DeadlineExceeded}, "h did not answer in time"},
		{&url.Error{Op: "Get", URL: "https://h/?token=secret", Err: errors.New("so sad")}, "ask h: so sad"},
	} {
		if err := plain("h", c.err); err.Error() != c.want {
			t.Errorf("%v: %q, want %q", c.err, err, c.want)
		}
	}
}

func TestWhatMayBeAsked(t *testing.T) {
	t.Parallel()
	for s, ok := range map[string]bool{
		"https://room.example": true, "https://room.example:8443/x?y": true, "https://[::1]": true,
		"http://127.0.0.1:1": true, "http://[::1]:1": true, "http://localhost:1": true, "http://LocalHost": true,
		"http://room.example": false, "http://localhost.example": false, "http://127.0.0.1.example": false, "http://10.0.0.1": false,
		"ftp://localhost": false, "https:///x": false, "https://:80": false, "": false, "room.example": false, "https://me:you@room.example": false,
	} {
		u, err := url.Parse(s)
		if err == nil {
			err = CheckURL(u)
		}
		if (err == nil) != ok || err != nil && !errors.Is(err, ErrURL) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
