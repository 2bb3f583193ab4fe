package room

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"charkha/identity"
	"charkha/internal/roomhttp"
	"charkha/internal/vectors"
	"charkha/muxrpc"
)

// rooms2 is the vector set of that name, as far as it is about aliases.
type rooms2 struct {
	Registrations []struct {
		Room, User identity.ID
		Alias      string
		String     string
		Seed       string `json:"user_seed_hex"`
		Signature  string
		URI        string
	} `json:"alias_registration"`
	Names []struct {
		Alias string
		Valid bool
	} `json:"alias_names"`
}

func TestVectorAliases(t *testing.T) {
	t.Parallel()
	v := vectors.JSON[rooms2](t, "rooms2", "rooms2.json")
	if len(v.Registrations) == 0 || len(v.Names) == 0 {
		t.Fatal("no cases")
	}
	signatures, uris := 0, 0
	for _, c := range v.Registrations {
		text := signedText(c.Room, c.User, c.Alias)
		if string(text) != c.String {
			t.Errorf("%s signs %q, want %q", c.Alias, text, c.String)
		}
		if c.Signature == "" {
			continue
		}
		signatures++
		sig, ok := parseSignature(c.Signature)
		if !ok || !identity.Verify(c.User, text, sig) {
			t.Errorf("%s: signature %s is not good", c.Alias, c.Signature)
		}
		if c.Seed != "" {
			seed, err := hex.DecodeString(c.Seed)
			if err != nil {
				t.Fatal(err)
			}
			if made := identity.FromSeed([32]byte(seed)).Sign(text); made != *sig {
				t.Errorf("%s: another signature %x", c.Alias, made)
			}
		}
		if c.URI == "" {
			continue
		}
		uris++
		got, err := ParseAliasURI(c.URI)
		if err != nil || got.Name != c.Alias || got.User != c.User || got.Room.Key != c.Room || got.Address() != identity.Tunnel(c.Room, c.User) {
			t.Errorf("%s: %+v, %v", c.URI, got, err)
		}
		// One bit elsewhere is somebody else's alias, or nobody's.
		for _, other := range []string{
			strings.Replace(c.URI, "alias=bob", "alias=bab", 1), strings.Replace(c.URI, "consume-alias", "start-http-auth", 1),
			strings.Replace(c.URI, "EiEgn", "EiEgm", 1), strings.Replace(c.URI, "roomId", "room", 1), strings.Replace(c.URI, "shs%3Azz", "shs%3Azy", 1),
			strings.Replace(c.URI, "%3A8008", "", 1), strings.Replace(c.URI, "ssb:", "xsb:", 1), c.URI + strings.Repeat("x", maxText),
		} {
			if a, err := ParseAliasURI(other); err == nil || !errors.Is(err, ErrAlias) || len(err.Error()) > 300 {
				t.Errorf("%.300s is %v, %v", other, a, err)
			}
		}
	}
	if signatures == 0 || uris == 0 {
		t.Errorf("%d signatures, %d URIs", signatures, uris)
	}
	for _, c := range v.Names {
		if err := CheckAlias(c.Alias); (err == nil) != c.Valid || err != nil && !errors.Is(err, ErrAlias) {
			t.Errorf("name %q: %v, want valid: %v", c.Alias, err, c.Valid)
		}
	}
	if CheckAlias("") == nil || CheckAlias(strings.Repeat("a", 64)) == nil || CheckAlias(strings.Repeat("a", 63)) != nil {
		t.Error("lengths of names")
	}
}

// aliasRoom is a room's side of aliases, as go-ssb-room answers.
func aliasRoom() []muxrpc.Method {
	return []muxrpc.Method{
		{Name: "room.registerAlias", Kind: muxrpc.Async, Call: func(_ context.Context, req *muxrpc.Request) (any, error) {
			var name, sig string
			if err := req.Decode(&name, &sig); err != nil {
				return nil, err
			}
			b, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(sig, ".sig.ed25519"))
			if err != nil || len(b) != 64 || !strings.HasSuffix(sig, ".sig.ed25519") {
				return nil, errors.New("registerAlias: bad signature encoding")
			}
			if !identity.Verify(self, signedText(portal, self, name), (*[64]byte)(b)) {
				return nil, errors.New("registerAlias: invalid signature")
			}
			switch name {
			case "taken":
				return nil, errors.New("registerAlias: could not register alias: already taken")
			case "odd":
				return true, nil
			case "bare":
				return "bare.room.example", nil
			}
			return "https://" + name + ".room.example", nil
		}},
		{Name: "room.revokeAlias", Kind: muxrpc.Async, Call: func(_ context.Context, req *muxrpc.Request) (any, error) {
			var name string
			if err := req.Decode(&name); err != nil || name != "alice" {
				return nil, errors.New("revokeAlias: not your alias")
			}
			return true, nil
		}},
		{Name: "room.listAliases", Kind: muxrpc.Async, Call: func(_ context.Context, req *muxrpc.Request) (any, error) {
			var id identity.ID
			if err := req.Decode(&id); err != nil || id != self {
				return map[string]int{"a": 1}, err
			}
			return []string{"b\x1b", "alice"}, nil
		}},
	}
}

func TestAliasesInARoom(t *testing.T) {
	t.Parallel()
	r := roomOf(t, aliasRoom()...)
	for name, want := range map[string]string{"alice": "https://alice.room.example", "bare": "https://bare.room.example"} {
		if u, err := r.RegisterAlias(t.Context(), key(1), name); err != nil || u.String() != want {
			t.Errorf("%s: %v, %v", name, u, err)
		}
	}
	for name, words := range map[string]string{"taken": "already taken", "odd": "no web address", "Alice": "must be 1 to 63"} {
		if u, err := r.RegisterAlias(t.Context(), key(1), name); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, %v", name, u, err)
		}
	}
	if _, err := r.RegisterAlias(t.Context(), key(2), "alice"); err == nil {
		t.Error("registered with another's signature")
	}
	if err := r.RevokeAlias(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
	if err := r.RevokeAlias(t.Context(), "bob"); err == nil {
		t.Error("revoked somebody else's")
	}
	if names, err := r.ListAliases(t.Context(), self); err != nil || !slices.Equal(names, []string{"alice", "b"}) {
		t.Errorf("%q, %v", names, err)
	}
	if names, err := r.ListAliases(t.Context(), peer); err == nil {
		t.Errorf("no list is %q", names)
	}
}

func TestRoomWithoutAliases(t *testing.T) {
	t.Parallel()
	r := roomOf(t)
	_, register := r.RegisterAlias(t.Context(), key(1), "alice")
	_, list := r.ListAliases(t.Context(), self)
	for _, err := range []error{register, list, r.RevokeAlias(t.Context(), "alice")} {
		if err == nil || !strings.Contains(err.Error(), "rooms of version 1 do not") {
			t.Errorf("%v", err)
		}
	}
}

func TestResolveAlias(t *testing.T) {
	t.Parallel()
	good := func(name string) claim {
		sig := key(2).Sign(signedText(portal, peer, name))
		return claim{
			Address: "net:room.example:8008~shs:" + portal.String()[1:45], RoomID: portal.String(), UserID: peer.String(), Alias: name,
			Signature: base64.StdEncoding.EncodeToString(sig[:]), // without a suffix, as go-ssb-room writes it
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := good("bob")
		switch strings.TrimRight(r.URL.Path, "/") {
		case "/bob", "/alias/bob", "/bobby":
		case "/Upper":
			c = good("Upper")
		case "/suffix":
			c = good("suffix")
			c.Signature = strings.NewReplacer("+", "-", "/", "_").Replace(c.Signature) + sigSuffix
		case "/forged":
			c = good("forged")
			c.UserID = self.String()
		case "/elsewhere":
			c = good("elsewhere")
			c.Address = "net:room.example:8008~shs:" + peer.String()[1:45]
		case "/nowhere":
			c = good("nowhere")
			c.Address = "unix:/x~noauth"
		case "/long":
			c = good(strings.Repeat("l", 64))
		case "/nobody":
			fmt.Fprint(w, `{"status":"error","error":"aliases: failed to resolve name"}`)
			return
		default:
			http.NotFound(w, r)
			return
		}
		if r.URL.Query().Get("encoding") != "json" {
			fmt.Fprint(w, "<html>")
			return
		}
		json.NewEncoder(w).Encode(struct {
			Status string `json:"status"`
			claim
		}{"successful", c})
	}))
	defer s.Close()
	for path, name := range map[string]string{"/bob": "bob", "/alias/bob/": "bob", "/bob?x=y#z": "bob", "/Upper": "Upper", "/suffix": "suffix"} {
		a, err := ResolveAlias(t.Context(), " "+s.URL+path+"\n")
		if err != nil || a.Name != name || a.Address() != identity.Tunnel(portal, peer) || a.Room.HostPort() != "room.example:8008" {
			t.Errorf("%s: %+v, %v", path, a, err)
		}
	}
	host := strings.TrimPrefix(s.URL, "http://")
	for path, words := range map[string]string{
		"/bobby":     host + " was asked for the alias bobby and answered with bob",
		"/forged":    "did not sign that this is their name",
		"/elsewhere": "the room's address is not that of the room",
		"/nowhere":   "room's address",
		"/long":      "name",
		"/nobody":    "alias nobody: " + host + " said no: aliases: failed to resolve name",
		"/other":     "404 Not Found",
		"/":          "names no alias",
		"":           "names no alias",
	} {
		a, err := ResolveAlias(t.Context(), s.URL+path)
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %+v, %v; want %s", path, a, err, words)
		}
		var no *roomhttp.Refused
		if errors.As(err, &no) != (path == "/nobody") {
			t.Errorf("%s: %#v", path, err)
		}
	}
	for _, text := range []string{"", "http://bob.room.example", "ftp://x/y", "ssb:experimental?action=consume-alias", "%", strings.Repeat("a", maxText+1), "https://bob", "https://1.2.3.4/"} {
		if a, err := ResolveAlias(t.Context(), text); err == nil {
			t.Errorf("%.50q is %v", text, a)
		}
	}
	sig := good("bob")
	query := url.Values{
		"action": {"consume-alias"}, "multiserverAddress": {sig.Address}, "roomId": {sig.RoomID}, "userId": {sig.UserID}, "alias": {"bob"},
		"signature": {strings.NewReplacer("+", "-", "/", "_").Replace(sig.Signature)},
	}
	for _, prefix := range []string{"ssb:experimental?", "ssb://experimental?", "ssb://experimental/?a;b&"} {
		if a, err := ResolveAlias(t.Context(), prefix+query.Encode()); err != nil || a.Name != "bob" {
			t.Errorf("%s: %v, %v", prefix, a, err)
		}
	}
}

func TestWhereAnAliasIsAsked(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"alice.room.example":                 "alice https://alice.room.example?encoding=json",
		"https://alice.room.example":         "alice https://alice.room.example?encoding=json",
		"https://alice.room.example/":        "alice https://alice.room.example/?encoding=json",
		"room.example/alice":                 "alice https://room.example/alice?encoding=json",
		"https://room.example/alias/alice/":  "alice https://room.example/alias/alice/?encoding=json",
		"https://room.example/alice?a=1&b#c": "alice https://room.example/alice?a=1&b=&encoding=json",
		"http://127.0.0.1:3000/alice":        "alice http://127.0.0.1:3000/alice?encoding=json",
	} {
		u, name, err := aliasURL(in)
		if err != nil || name+" "+u.String() != want {
			t.Errorf("%s: %s %s, %v; want %s", in, name, u, err, want)
		}
	}
}

func FuzzAliasURI(f *testing.F) {
	f.Add("ssb:experimental?action=consume-alias&multiserverAddress=net%3Ascuttlebutt.eu%3A8008~shs%3Azz%2Bn7zuFc4wofIgKeEpXgB%2B%2FXQZB43Xj2rrWyD0QM2M%3D&alias=bob&roomId=%40zz%2Bn7zuFc4wofIgKeEpXgB%2B%2FXQZB43Xj2rrWyD0QM2M%3D.ed25519&userId=%40yVQxFxzeRQ13DQ813hf8G20U5z5I%2FnkNDliKeSs%2FIpU%3D.ed25519&signature=EiEgn%2Fh2lKoaz28ggKBod6havJNKapRKCmXQ%2Ft%2F4KS1gY4T6zPXWhw6kTaglt8vDJZW%2BjJRJvfB4Rryhl0njCg%3D%3D.sig.ed25519")
	f.Add("alice.room.example")
	f.Add("http://[::1]:1/x?;&%zz")
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseAliasURI(s); err == nil {
			if a.Name == "" || a.Room.Key.IsZero() || a.Address().Room != a.Room.Key || strings.ContainsAny(a.Name, "\x1b\n") {
				t.Errorf("%q is %+v", s, a)
			}
		} else if !errors.Is(err, ErrAlias) {
			t.Errorf("%q: %v", s, err)
		}
		if u, name, err := aliasURL(s); err == nil {
			if name == "" || roomhttp.CheckURL(u) != nil || u.Query().Get("encoding") != "json" {
				t.Errorf("%q is asked at %s for %q", s, u, name)
			}
		}
	})
}
