package room

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"charkha/identity"
	"charkha/internal/roomhttp"
	"charkha/muxrpc"
)

const (
	maxAlias   = 63   // bytes of an alias, which is a label in the domain name system
	maxText    = 8192 // bytes of a URL or URI
	maxAliases = 1000 // of one person in one room
)

// ErrAlias says that there is no good alias: its name cannot be one, or its signature is not right.
var ErrAlias = errors.New("not a valid alias")

// CheckAlias returns an error when rooms would refuse a name: it has to be 1 to 63 of a-z and 0-9 (go-ssb-room). Aliases that
// others have are not measured by this: some rooms register more.
func CheckAlias(name string) error {
	if name == "" || len(name) > maxAlias || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return fmt.Errorf("alias %.80q: it must be 1 to %d of the letters a to z and digits: %w", name, maxAlias, ErrAlias)
	}
	return nil
}

// signedText is what the owner of an alias signs (rooms2, chapter Alias).
func signedText(room, user identity.ID, alias string) []byte {
	return fmt.Appendf(nil, "=room-alias-registration:%s:%s:%s", room, user, alias)
}

const sigSuffix = ".sig.ed25519"

// RegisterAlias gives our feed a name in the room, and returns the address of its web page.
func (r *Room) RegisterAlias(ctx context.Context, key identity.KeyPair, name string) (*url.URL, error) {
	if err := CheckAlias(name); err != nil {
		return nil, err
	}
	sig := key.Sign(signedText(r.id, key.ID(), name))
	answer, err := r.conn.Async(ctx, "room.registerAlias", name, base64.StdEncoding.EncodeToString(sig[:])+sigSuffix)
	if err != nil {
		return nil, fmt.Errorf("register the alias %s: %w", name, noAliases(err))
	}
	var text string
	if json.Unmarshal(answer, &text) == nil && len(text) <= maxText {
		if !strings.Contains(text, "://") { // as rooms of SIP 7 may, "alias.room.example"
			text = "https://" + text
		}
		if u, err := url.Parse(text); err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") {
			return u, nil
		}
	}
	return nil, fmt.Errorf("register the alias %s: the room's answer is no web address: %.100q", name, answer)
}

// noAliases puts into plain words that a room does not know what we call.
func noAliases(err error) error {
	var remote *muxrpc.RemoteError
	if errors.As(err, &remote) && missing(remote) {
		return fmt.Errorf("this room does not do that, as rooms of version 1 do not: %w", err)
	}
	return err
}

// RevokeAlias gives a name up.
func (r *Room) RevokeAlias(ctx context.Context, name string) error {
	if _, err := r.conn.Async(ctx, "room.revokeAlias", name); err != nil {
		return fmt.Errorf("revoke the alias %s: %w", clean(name), noAliases(err))
	}
	return nil
}

// ListAliases returns the names that a feed has in the room, sorted; not all rooms tell.
func (r *Room) ListAliases(ctx context.Context, of identity.ID) ([]string, error) {
	answer, err := r.conn.Async(ctx, "room.listAliases", of)
	if err != nil {
		return nil, fmt.Errorf("list the aliases of %s: %w", of.Short(), noAliases(err))
	}
	var names []string
	if err := json.Unmarshal(answer, &names); err != nil || len(names) > maxAliases {
		return nil, fmt.Errorf("list the aliases of %s: the room's answer is no list of names: %.100q", of.Short(), answer)
	}
	for i := range names {
		names[i] = clean(names[i])
	}
	slices.Sort(names)
	return names, nil
}

// Alias is a person's name in a room, signed by that person.
type Alias struct {
	Name string
	Room identity.Address // where the room is, and its key
	User identity.ID
}

// Address is where the person is reached, once we are connected with the room.
func (a Alias) Address() identity.Address { return identity.Tunnel(a.Room.Key, a.User) }

// claim is an alias as it travels: in JSON, and with the same names in the query of a URI.
type claim struct {
	Address   string `json:"multiserverAddress"`
	RoomID    string `json:"roomId"`
	UserID    string `json:"userId"`
	Alias     string `json:"alias"`
	Signature string `json:"signature"`
}

// ParseAliasURI reads "ssb:experimental?action=consume-alias&..." and checks the signature.
func ParseAliasURI(uri string) (Alias, error) {
	query, ok := identity.ParseExperimental(uri)
	if !ok || len(uri) > maxText || query.Get("action") != "consume-alias" {
		return Alias{}, fmt.Errorf("%.100q is no URI of an alias: %w", uri, ErrAlias)
	}
	return claim{query.Get("multiserverAddress"), query.Get("roomId"), query.Get("userId"), query.Get("alias"), query.Get("signature")}.check()
}

// check makes an alias of what somebody claims.
func (c claim) check() (Alias, error) {
	bad := func(what, value string) (Alias, error) {
		return Alias{}, fmt.Errorf("%s %.100q: %w", what, value, ErrAlias)
	}
	room, err := identity.ParseID(c.RoomID)
	if err != nil {
		return bad("room", c.RoomID)
	}
	user, err := identity.ParseID(c.UserID)
	if err != nil {
		return bad("person", c.UserID)
	}
	if c.Alias == "" || len(c.Alias) > maxAlias || clean(c.Alias) != c.Alias {
		return bad("name", c.Alias)
	}
	addr, err := identity.ParseAddress(c.Address)
	if err != nil || addr.Proto == "tunnel" || addr.Port == 0 {
		return bad("room's address", c.Address)
	}
	if addr.Key != room {
		return Alias{}, fmt.Errorf("alias %s: the room's address is not that of the room %s: %w", c.Alias, room.Short(), ErrAlias)
	}
	sig, ok := parseSignature(c.Signature)
	if !ok {
		return bad("signature", c.Signature)
	}
	if !identity.Verify(user, signedText(room, user, c.Alias), sig) {
		return Alias{}, fmt.Errorf("alias %s: %s did not sign that this is their name in the room %s: %w", c.Alias, user.Short(), room.Short(), ErrAlias)
	}
	return Alias{Name: c.Alias, Room: addr, User: user}, nil
}

// parseSignature takes a signature as rooms write it: with the suffix or without, in either alphabet of base64.
func parseSignature(s string) (*[64]byte, bool) {
	s = strings.TrimSuffix(s, sigSuffix)
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	var b [66]byte
	if len(s) != base64.RawStdEncoding.EncodedLen(64) || strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	if n, err := base64.RawStdEncoding.Strict().Decode(b[:], []byte(s)); err != nil || n != 64 {
		return nil, false
	}
	return (*[64]byte)(b[:64]), true
}

// ResolveAlias finds out who has an alias: from its web address, "https://alice.room.example" or "https://room.example/alice"
// ("https://" may be left out), which it asks, or from an ssb: URI, which says all. The person's signature is checked, so a room
// cannot give a name to somebody who did not take it; it can deny that there is one. The error says why in plain words; a
// room's own no is a *roomhttp.Refused.
func ResolveAlias(ctx context.Context, text string) (Alias, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxText {
		return Alias{}, fmt.Errorf("%.100q...: %w", text, ErrAlias)
	}
	if strings.HasPrefix(text, "ssb:") {
		return ParseAliasURI(text)
	}
	u, name, err := aliasURL(text)
	if err != nil {
		return Alias{}, err
	}
	var c claim
	if err := roomhttp.Get(ctx, u, &c); err != nil {
		return Alias{}, fmt.Errorf("alias %s: %w", name, err)
	}
	alias, err := c.check()
	if err != nil {
		return Alias{}, fmt.Errorf("%s answered: %w", u.Host, err)
	}
	if !strings.EqualFold(alias.Name, name) {
		return Alias{}, fmt.Errorf("%s was asked for the alias %s and answered with %s: %w", u.Host, name, alias.Name, ErrAlias)
	}
	return alias, nil
}

// aliasURL is where a room is asked for an alias, and the alias: the last part of the path, or, without one, the first label of
// the host.
func aliasURL(text string) (u *url.URL, name string, err error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err = url.Parse(text)
	if err != nil {
		return nil, "", fmt.Errorf("%.100q is no web address: %w", text, ErrAlias)
	}
	if err := roomhttp.CheckURL(u); err != nil {
		return nil, "", err
	}
	if path := strings.Trim(u.Path, "/"); path != "" {
		name = path[strings.LastIndexByte(path, '/')+1:]
	} else if first, rest, ok := strings.Cut(u.Hostname(), "."); ok && strings.Trim(rest, ".0123456789") != "" {
		name = first
	}
	if name == "" || len(name) > maxAlias || clean(name) != name {
		return nil, "", fmt.Errorf("%.100q names no alias: %w", text, ErrAlias)
	}
	query := u.Query()
	query.Set("encoding", "json")
	u.RawQuery, u.Fragment = query.Encode(), ""
	return u, name, nil
}
