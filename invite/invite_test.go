package invite

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"charkha/identity"
	"charkha/internal/roomhttp"
	"charkha/internal/vectors"
)

var (
	pub  = identity.FromSeed([32]byte{1}).ID()
	feed = identity.FromSeed([32]byte{2}).ID()
	b64  = pub.String()[1:45]
	seed = [32]byte{7, 7, 0xff, 0xfe, 0xfb, 0xf0} // with '+' and '/' in its base64
	code = base64.StdEncoding.EncodeToString(seed[:])
)

func TestParse(t *testing.T) {
	t.Parallel()
	at := func(proto, host string, port int) identity.Address {
		return identity.Address{Proto: proto, Host: host, Port: port, Key: pub}
	}
	for in, want := range map[string]identity.Address{
		"pub.example:8008:" + pub.String() + "~" + code:                                                at("net", "pub.example", 8008),
		" \"pub.example:8008:" + pub.String() + "~" + code + "\"\r\n":                                  at("net", "pub.example", 8008),
		"<'`pub.example:8008:" + pub.String() + "~" + code + "`'>":                                     at("net", "pub.example", 8008),
		"“pub.example:8008:" + pub.String() + "~" + code + "”":                                         at("net", "pub.example", 8008),
		"pub.example:8008:" + pub.String() + "~" + code + "#https://pub.example":                       at("net", "pub.example", 8008),
		"::1:8008:" + pub.String() + "~" + code:                                                        at("net", "::1", 8008),
		"[2a03::1]:8008:" + pub.String() + "~" + code:                                                  at("net", "2a03::1", 8008),
		"abcdef.onion:8008:" + pub.String() + "~" + code:                                               at("onion", "abcdef.onion", 8008),
		"net:pub.example:8008~shs:" + b64 + ":" + code:                                                 at("net", "pub.example", 8008),
		"net:::1:8008~shs:" + b64 + ":" + code:                                                         at("net", "::1", 8008),
		"net:[::1]:8008~shs:" + b64 + ":" + code:                                                       at("net", "::1", 8008),
		"ws://pub.example:8989~shs:" + b64 + ":" + code:                                                at("ws", "pub.example", 8989),
		"wss://pub.example:443~shs:" + b64 + ":" + code + "#x":                                         at("wss", "pub.example", 443),
		"onion:abcdef.onion:8008~shs:" + b64 + ":" + code:                                              at("onion", "abcdef.onion", 8008),
		"ws://pub.example:80~shs:" + b64 + ";net:pub.example:8008~shs:" + b64 + ":" + code:             at("net", "pub.example", 8008),
		"net:pub.example:8008~shs:" + b64 + ";ws://pub.example:80~shs:" + b64 + ":" + code:             at("net", "pub.example", 8008),
		"unix:/a~noauth;net:pub.example:8008~shs:" + b64 + ":" + code:                                  at("net", "pub.example", 8008),
		"ssb:address/multiserver?multiserverAddress=" + url.QueryEscape("net:h.x:1~shs:"+b64+":"+code): at("net", "h.x", 1),
	} {
		got, err := Parse(in)
		if err != nil || got.Kind != Pub || got.Address != want || got.Key() != identity.FromSeed(seed) || got.Host() != want.HostPort() {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"net:room.example:8008~shs:" + b64 + ":" + openRoom, "net:room.example:8008~shs:" + b64 + ";ws://room.example:80~shs:" + b64 + ":" + openRoom,
		"room.example:8008:" + pub.String() + "~" + openRoom,
	} {
		got, err := Parse(in)
		if err != nil || got.Kind != Room || got.Address != at("net", "room.example", 8008) || !got.Key().IsZero() {
			t.Errorf("%s: %v, %v", in, got, err)
		}
		if a, err := Claim(t.Context(), got, feed); err != nil || a != got.Address {
			t.Errorf("%s: %v, %v", in, a, err)
		}
	}
	for in, host := range map[string]string{
		"https://room.example/join?token=abc":         "room.example",
		"HTTPS://room.example:8443/join?invite=abc#x": "room.example:8443",
		"http://127.0.0.1:3000/join?token=abc":        "127.0.0.1:3000",
		"ssb:experimental?action=claim-http-invite&invite=39c0ac&postTo=https%3A%2F%2Fscuttlebutt.eu%2Fclaiminvite": "scuttlebutt.eu",
		"ssb://experimental?action=join-room&invite=39c0ac&postTo=https%3A%2F%2Fscuttlebutt.eu%2Fx#y":               "scuttlebutt.eu",
		"ssb://experimental/?a;b&action=claim-http-invite&invite=%zz&postTo=https%3A%2F%2Fscuttlebutt.eu%2Fx":       "scuttlebutt.eu",
	} {
		got, err := Parse(in)
		if err != nil || got.Kind != HTTP || got.Host() != host || !got.Key().IsZero() {
			t.Errorf("%s: %v (%s), %v", in, got, got.Host(), err)
		}
	}
	for in, words := range map[string]string{
		"":                                      "it is empty",
		" \"":                                   "it is empty",
		strings.Repeat("x", maxCode+1):          "it is too long",
		"hello":                                 "it has not the form of one",
		"localhost:8008:" + pub.String():        "without the secret part",
		"pub.example:8008:" + pub.String():      "without the secret part",
		"net:pub.example:8008~shs:" + b64:       "without the secret part",
		"net:pub.example:8008~shs:" + b64 + ":": "is not complete",
		"net:pub.example:8008~shs:" + b64 + ":" + code[:43]:   "is not complete",
		"pub.example:8008:" + pub.String() + "~" + code[1:]:   "is not complete",
		"pub.example:8008:" + pub.String() + "~" + code + "x": "is not complete",
		":8008:" + pub.String() + "~" + code:                  "names no host",
		"pub.example:" + pub.String() + "~" + code:            "the address in it cannot be read",
		"pub.example:0:" + pub.String() + "~" + code:          "no address in it that can be used",
		"pub.example:99999:" + pub.String() + "~" + code:      "the address in it cannot be read",
		"unix:/a~noauth":                  "no address in it that can be used",
		"unix:/a~shs:" + b64 + ":" + code: "no address in it that can be used",
		"net:h.x:1~shs:" + b64 + ";net:h.x:1~shs:" + feed.String()[1:44] + ":" + code: "no address in it that can be used",
		identity.Tunnel(feed, pub).String() + ":" + code:                              "no address in it that can be used",
		pub.URI(): "a link to something else",
		"ssb:experimental?action=start-http-auth":                                       "a link to something else",
		"ssb:experimental?action=claim-http-invite&postTo=https%3A%2F%2Fh.x":            "no code in it",
		"ssb:experimental?action=claim-http-invite&invite=1":                            "where to claim it",
		"ssb:experimental?action=claim-http-invite&invite=1&postTo=%25":                 "where to claim it",
		"ssb:experimental?action=claim-http-invite&invite=1&postTo=http%3A%2F%2Fh.x":    "not https",
		"ssb:experimental?action=claim-http-invite&invite=1&postTo=file%3A%2F%2F%2Fetc": "not https",
		"ssb:experimental?action=%zz":                                                   "a link to something else",
		"http://room.example/join?token=abc":                                            "not https",
		"https:///join":                                                                 "not https",
		"https://room.example:x/join":                                                   "cannot be read",
	} {
		got, err := Parse(in)
		if err == nil || !errors.Is(err, ErrInvite) || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), code[:20]) {
			t.Errorf("%.100q: %v, %v; want %s", in, got, err, words)
		}
	}
}

// However an invite is printed, its secret stays in it.
func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"pub.example:8008:" + pub.String() + "~" + code, "https://room.example/join?token=" + code,
		"ssb:experimental?action=claim-http-invite&postTo=https%3A%2F%2Froom.example&invite=" + url.QueryEscape(code),
	} {
		i, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			if s := fmt.Sprintf(verb, i); strings.Contains(s, code[:10]) || strings.Contains(s, "0707") || strings.Contains(s, "7, 7") || !strings.HasPrefix(s, "invite to the") {
				t.Errorf("%s: %s", verb, s)
			}
		}
		if b, err := json.Marshal(i); err != nil || strings.Contains(string(b), code[:10]) {
			t.Errorf("%s, %v", b, err)
		}
	}
}

// What npm ssb-ref takes as an invite is one, or it is one of those that the doc of Parse names; and nothing else is.
func TestVectorInvites(t *testing.T) {
	t.Parallel()
	type refCase struct {
		S      string
		SSBRef struct {
			IsInvite       bool
			IsLegacyInvite bool
			ParseInvite    struct{ Invite, Key, Remote string }
		} `json:"ssb_ref"`
	}
	agreed, links := 0, 0
	for _, c := range vectors.JSON[[]refCase](t, "refs-and-addresses", "strings.json") {
		got, err := Parse(c.S)
		want := c.SSBRef.ParseInvite
		switch {
		case err == nil && got.Kind == HTTP && (strings.HasPrefix(c.S, "http") || strings.HasPrefix(c.S, "ssb:")):
			links++ // which ssb-ref does not know
		case c.SSBRef.IsLegacyInvite && strings.HasPrefix(c.S, ":"):
			if err == nil || !strings.Contains(err.Error(), "names no host") {
				t.Errorf("%s: %v, %v", c.S, got, err)
			}
		case c.SSBRef.IsInvite && !usable(want.Remote): // package identity says why
			if err == nil {
				t.Errorf("%s: %v", c.S, got)
			}
		case c.SSBRef.IsLegacyInvite:
			remote, rerr := identity.ParseAddress(want.Remote)
			if err != nil || rerr != nil || got.Kind != Pub || got.Address != remote || got.Address.Key.String() != want.Key {
				t.Errorf("%s: %v, %v; ssb-ref says %+v", c.S, got, err, want)
			}
			if again, err := Parse(want.Invite); err != nil || again != got {
				t.Errorf("%s, as ssb-ref writes it %s: %v, %v", c.S, want.Invite, again, err)
			}
			agreed++
		case err == nil:
			t.Errorf("%s is %v; ssb-ref says %+v", c.S, got, c.SSBRef)
		case c.SSBRef.IsInvite && !strings.Contains(err.Error(), "without the secret part") && !strings.Contains(err.Error(), "is not complete") && !strings.Contains(c.S, ":8008:~"):
			t.Errorf("%s: %v", c.S, err)
		case !errors.Is(err, ErrInvite):
			t.Errorf("%s: %v", c.S, err)
		}
	}
	if agreed == 0 || links == 0 {
		t.Errorf("%d pubs' invites and %d links were read", agreed, links)
	}
	uris := vectors.JSON[struct{ URIs []string }](t, "rooms2", "rooms2.json").URIs
	if len(uris) == 0 {
		t.Error("no URIs")
	}
	for _, s := range uris {
		if got, err := Parse(s); err != nil || got.Kind != HTTP || got.token == "" || got.postTo == "" {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
}

// usable reports whether an address of ssb-ref can be dialled.
func usable(remote string) bool {
	a, err := identity.ParseAddress(remote)
	return err == nil && a.Port != 0
}

func TestClaim(t *testing.T) {
	t.Parallel()
	room := "net:room.example:8008~shs:" + b64
	var base string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, q := r.URL.Path, r.URL.Query()
		switch {
		case path == "/join" && q.Get("encoding") != "json":
			fmt.Fprint(w, "<html>")
		case path == "/join" && q.Get("token") == "used":
			fmt.Fprint(w, `{"status":"failed","error":"roomdb: object not found"}`)
		case path == "/join" && q.Get("token") == "elsewhere":
			fmt.Fprint(w, `{"status":"success","invite":"x","postTo":"https://elsewhere.example/claim"}`)
		case path == "/join" && q.Get("token") == "plain":
			fmt.Fprint(w, `{"status":"success","invite":"x","postTo":"http://room.example/claim"}`)
		case path == "/join" && q.Get("token") == "empty":
			fmt.Fprint(w, `{}`)
		case path == "/join":
			fmt.Fprintf(w, `{"status":"success","invite":%q,"postTo":%q}`, q.Get("token"), base+"/claim")
		case path == "/claim":
			var body map[string]string
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" || len(body) != 2 || body["id"] != feed.String() {
				fmt.Fprintf(w, `{"status":"error","error":"%s %v"}`, r.Method, body)
				return
			}
			switch body["invite"] {
			case "good":
				fmt.Fprintf(w, `{"status":"successful","multiserverAddress":%q}`, room)
			case "no address":
				fmt.Fprint(w, `{"status":"successful"}`)
			case "banned":
				fmt.Fprint(w, `{"status":"error","error":"hub/web: this key has been banned"}`)
			case "odd":
				fmt.Fprint(w, `{"status":"error","error":"so \nsad"}`)
			default:
				fmt.Fprint(w, `{"status":"error","error":"rooms/web: item not found: invite"}`)
			}
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	base = s.URL
	host := strings.TrimPrefix(s.URL, "http://")
	want, _ := identity.ParseAddress(room)
	post := func(token, path string) string {
		return "ssb:experimental?" + url.Values{"action": {"claim-http-invite"}, "invite": {token}, "postTo": {base + path}}.Encode()
	}
	for _, in := range []string{base + "/join?token=good", post("good", "/claim")} {
		i, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Claim(t.Context(), i, feed); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	notKnown := host + ": the room does not know this invite, or it was used up: ask for a new one"
	for in, words := range map[string]string{
		base + "/join?token=used":           notKnown,
		base + "/join?token=unknown":        notKnown,
		post("unknown", "/claim"):           notKnown,
		post("banned", "/claim"):            host + ": the room does not let you in: your id is banned there",
		post("odd", "/claim"):               host + ": so sad",
		post("no address", "/claim"):        host + ` took the invite, but its answer holds no address of a room: ""`,
		post("good", "/elsewhere"):          host + " answered: 404 Not Found",
		base + "/other":                     host + " answered: 404 Not Found",
		post("good", "/join?token=x"):       host + " answered, but not with JSON: is that a room?",
		base + "/join?token=elsewhere":      host + " answered with an invite to another host, elsewhere.example",
		base + "/join?token=plain":          host + " answered with an invite that cannot be used: not a valid invite: it leads to a web address that is not https",
		base + "/join?token=empty":          host + " answered with an invite that cannot be used: not a valid invite: there is no code in it",
		"net:h.x:1~shs:" + b64 + ":" + code: "not a valid invite: it is not claimed over HTTP",
	} {
		i, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Claim(t.Context(), i, feed)
		if err == nil || err.Error() != words {
			t.Errorf("%s: %v, %v; want %s", in, got, err, words)
		}
		var no *roomhttp.Refused
		if saidNo := strings.HasPrefix(words, host+": "); errors.As(err, &no) != saidNo {
			t.Errorf("%s: %#v", in, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	i, _ := Parse(post("good", "/claim"))
	if _, err := Claim(ctx, i, feed); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

func TestSameSite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"room.example", "Room.example", true}, {"room.example", "join.room.example", true}, {"join.room.example", "room.example", true},
		{"room.example", "bedroom.example", false}, {"room.example", "room.example.com", false}, {"a.room.example", "b.room.example", false},
	} {
		if got := sameSite(c.a, c.b); got != c.want {
			t.Errorf("%s %s: %v", c.a, c.b, got)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		AlreadyFollowing:                                                    "the pub follows you already",
		"Error: invite has expired":                                         "used up",
		"invite not accepted: feed to follow is missing":                    "which feed",
		"method:invite,use is not in list of allowed methods":               "does not know this invite, or it was used up",
		"Key not found in database [@x.ed25519]":                            "does not know this invite",
		"no async:invite.use":                                               "gives no invites",
		"muxrpc: no such command: invite.use":                               "gives no invites",
		"Server has no public ip address, cannot create useable invitation": "nobody could use",
		"no address available for creating an invite,configuration needed":  "nobody could use",
		"client is blocked":                                                 "blocks",
		"invite not accepted":                                               "did not accept",
		"could not connect to server":                                       "cannot be reached",
		"hub/web: this key has been banned":                                 "banned",
		"rooms/web: item not found: invite":                                 "the room does not know this invite",
		"something that was never said here":                                "something that was never said here",
		"":                                                                  "",
	} {
		if got := Explain(text); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for _, k := range known {
		if k.words != strings.ToLower(k.words) || k.means == "" {
			t.Errorf("%q can never be found", k.words)
		}
	}
}

// FuzzParse: what is taken leads somewhere, and says so without its secret.
func FuzzParse(f *testing.F) {
	f.Add("pub.example:8008:" + pub.String() + "~" + code + "#x")
	f.Add("“net:::1:8008~shs:" + b64 + ":" + code + "”")
	f.Add("net:h.x:1~shs:" + b64 + ";ws://h.x:80~shs:" + b64 + ":" + openRoom)
	f.Add("https://room.example/join?token=abc")
	f.Add("ssb:experimental?action=claim-http-invite&invite=39c0ac&postTo=https%3A%2F%2Fscuttlebutt.eu%2Fclaiminvite")
	f.Fuzz(func(t *testing.T, s string) {
		i, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrInvite) || len(err.Error()) > 200 {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if i.Host() == "" || (i.Kind == Pub) == i.Key().IsZero() || (i.Kind == HTTP) != (i.Address == identity.Address{}) {
			t.Errorf("%q is %v", s, i)
		}
		if i.Kind == Pub {
			again, err := Parse(i.Address.String() + ":" + base64.StdEncoding.EncodeToString(i.seed[:]))
			if err != nil || again != i {
				t.Errorf("%q is %v, and that is %v, %v", s, i, again, err)
			}
		}
		if i.Kind == HTTP {
			if u, err := url.Parse(i.page + i.postTo); err != nil || roomhttp.CheckURL(u) != nil {
				t.Errorf("%q is asked at %s", s, u)
			}
		}
	})
}
