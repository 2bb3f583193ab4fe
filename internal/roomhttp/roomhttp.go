// Package roomhttp asks the web side of a room or pub for JSON: aliases and HTTP invites (SIP 5 and 7). It makes one request,
// within ten seconds, and tells in plain words why there is no answer.
//
// What holds: nothing but https is spoken, save for plain http with this machine itself; a redirect obeys the same rule, and
// three of them are enough; no more than 64 KiB of an answer are read; no cookie and no referrer is kept or sent.
//
// It does not know what the answers mean. Rooms say no with HTTP status 200 and {"status": "error" or "failed", "error": "..."}
// (go-ssb-room 2, npm ssb-http-invite-client 1): that is the one thing that is read here, as *Refused.
package roomhttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	timeout      = 10 * time.Second // of a whole exchange, as in npm ssb-room-client and ssb-http-invite-client
	maxAnswer    = 64 << 10         // bytes
	maxRedirects = 3
	maxText      = 300 // bytes of an error that a room words
)

// ErrURL says that a URL is not one that may be asked.
var ErrURL = errors.New("not an address that can be asked")

// Refused is a room's no.
type Refused struct {
	Host string
	Text string // the room's words, on one line; they may be empty
}

func (e *Refused) Error() string {
	if e.Text == "" {
		return e.Host + " said no, without a reason"
	}
	return fmt.Sprintf("%s said no: %s", e.Host, e.Text)
}

// CheckURL returns an error that wraps ErrURL unless u is https, or http on this machine's loopback.
func CheckURL(u *url.URL) error {
	switch {
	case u.Host == "" || u.Hostname() == "":
		return fmt.Errorf("%.200q names no host: %w", u.Redacted(), ErrURL)
	case u.User != nil:
		return fmt.Errorf("%.200q holds a user name: %w", u.Redacted(), ErrURL)
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && Loopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("%.200q is not encrypted, only https is asked: %w", u.Redacted(), ErrURL)
	}
	return fmt.Errorf("%.200q is not https: %w", u.Redacted(), ErrURL)
}

// Loopback reports whether a host is this machine.
func Loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Get asks for JSON and decodes it into result.
func Get(ctx context.Context, u *url.URL, result any) error {
	return ask(ctx, http.MethodGet, u, nil, result)
}

// Post sends JSON, and decodes the JSON that is answered into result.
func Post(ctx context.Context, u *url.URL, body, result any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return ask(ctx, http.MethodPost, u, b, result)
}

func ask(ctx context.Context, method string, u *url.URL, body []byte, result any) error {
	if err := CheckURL(u); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%.200q: %w", u.Redacted(), ErrURL)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json") // exactly this: go-ssb-room compares the whole text
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: maxAnswer}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects: %w", maxRedirects, ErrURL)
		}
		next.Header.Del("Referer") // an invite may be in it
		if next.URL.Scheme == "http" && !Loopback(u.Hostname()) {
			return fmt.Errorf("it leads on to %.200q, which is not https: %w", next.URL.Redacted(), ErrURL)
		}
		return CheckURL(next.URL)
	}}
	resp, err := client.Do(req)
	if err != nil {
		return plain(u.Host, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return plain(u.Host, err)
	}
	if len(answer) > maxAnswer {
		return fmt.Errorf("%s answered with more than %d bytes, which is no answer to this question", u.Host, maxAnswer)
	}
	return read(u.Host, resp, answer, result)
}

// read tells a no from an answer.
func read(host string, resp *http.Response, answer []byte, result any) error {
	var outcome struct {
		Status any `json:"status"` // programs that are not rooms may have a number here
		Error  any `json:"error"`
	}
	jsonErr := json.Unmarshal(answer, &outcome)
	status, _ := outcome.Status.(string)
	if text, ok := outcome.Error.(string); jsonErr == nil && (ok && text != "" && status != "successful" || status == "error" || status == "failed") {
		return &Refused{Host: host, Text: clean(text)}
	}
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return fmt.Errorf("%s answered: %d %s", host, resp.StatusCode, http.StatusText(resp.StatusCode))
	case jsonErr != nil:
		return fmt.Errorf("%s answered, but not with JSON: is that a room?", host)
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("%s answered with JSON of another kind: is that a room?", host)
	}
	return nil
}

// clean makes one short line of a text that somebody else wrote, with nothing in it that a terminal would obey.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "..."
	}
	return s
}

// plain says in plain words why there is no answer. The error wraps err.
func plain(host string, err error) error {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var timed net.Error
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err // its text begins with the whole URL, in which the invite may be
	}
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &dns) && dns.IsNotFound:
		return words{"there is no host " + host, err}
	case errors.As(err, &timed) && timed.Timeout():
		return words{host + " did not answer in time", err}
	case errors.As(err, &cert):
		return words{fmt.Sprintf("%s cannot prove that it is %s: %v", host, host, cert.Err), err}
	case errors.Is(err, http.ErrSchemeMismatch):
		return words{host + " does not speak https there", err}
	case errors.Is(err, syscall.ECONNREFUSED):
		return words{host + " cannot be reached: nobody listens there", err}
	}
	return fmt.Errorf("ask %s: %w", host, err)
}

// words is an error in other words.
type words struct {
	text string
	err  error
}

func (w words) Error() string { return w.text }
func (w words) Unwrap() error { return w.err }
