// Package invite reads the codes that let a person into a pub or a room, and claims those that are claimed over HTTP. It says
// in plain words why a server refuses one.
//
// There are four kinds of code, all of them still handed around:
//
//   - host:port:@key.ed25519~seed and net:host:port~shs:key:seed (also ws, wss, onion): a pub's. Whoever has the seed may call
//     invite.use({feed}) once, or some times, in a connection with the key pair that the seed makes; the pub then follows that
//     feed (npm ssb-invite 2 and 3). That call is made by others; here is the address and the key for it.
//   - the second form with a seed that everybody knows: an open room's (npm ssb-room 1). There is nothing to claim: the room is
//     open to our own key.
//   - ssb:experimental?action=claim-http-invite&invite=...&postTo=...: an HTTP invite (SIP 5). Our id and the code are
//     posted there, and the answer is the address of a room that now knows us.
//   - https://room.example/join?token=...: the web page of an HTTP invite, which has a form for programs.
//
// What holds: an Invite in hand is well-formed, and does not print its secret; neither does an error of Parse. Nothing but https
// is spoken, except with this machine. Codes that npm ssb-ref 2.16 takes are taken, but for those that cannot be used: see Parse.
package invite

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"charkha/identity"
	"charkha/internal/roomhttp"
)

// maxCode bounds a code, in bytes.
const maxCode = 8192

// ErrInvite says that a text is no invite.
var ErrInvite = errors.New("not a valid invite")

// Kind says what is done with an invite.
type Kind string

// The kinds there are.
const (
	Pub  Kind = "pub"  // call invite.use at Address with Key
	Room Kind = "room" // an open room: connect with Address with our own key
	HTTP Kind = "http" // Claim it
)

// Invite is an invite that was read. The zero value is none.
type Invite struct {
	Kind    Kind
	Address identity.Address // of the pub or open room; Claim finds out that of a room with HTTP invites

	seed   [32]byte // Pub
	page   string   // HTTP: where to ask for token and postTo, when they are not known
	postTo string
	token  string
}

// openRoom is the seed of all invites to open rooms (npm ssb-room and ssb-room-client, utils.js).
const openRoom = "SSB+Room+PSK3TLYC2T86EHQCUHBUHASCASE18JBV24="

// Key is the identity that may call invite.use. Only an invite of kind Pub has one.
func (i Invite) Key() identity.KeyPair {
	if i.Kind != Pub {
		return identity.KeyPair{}
	}
	return identity.FromSeed(i.seed)
}

// Host is the machine that the invite leads to first: a name or an IP, with a port where there is one.
func (i Invite) Host() string {
	if i.Kind != HTTP {
		return i.Address.HostPort()
	}
	u, err := url.Parse(i.page + i.postTo) // one of them is empty
	if err != nil {
		return ""
	}
	return u.Host
}

// String says what the invite leads to, without what is secret in it.
func (i Invite) String() string {
	switch i.Kind {
	case Pub, Room:
		return fmt.Sprintf("invite to the %s %s", i.Kind, i.Address)
	case HTTP:
		return "invite to the room at " + i.Host()
	}
	return "no invite"
}

// Format keeps every fmt verb from printing the secret.
func (i Invite) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(i.String())) }

// Parse reads a code of any kind, with white space, quotes or angle brackets around it, as it was copied from somewhere. What
// follows a '#' in a pub's code is left out. The errors wrap ErrInvite and say what is wrong in plain words, without the code.
//
// It takes what npm ssb-ref takes as an invite, except that there has to be a seed (ssb-ref takes an address without), a host
// (ssb-ref reads "localhost" for none, because pubs that do not know their address write such codes), and an address that
// package identity takes.
func Parse(text string) (Invite, error) {
	text = strings.Trim(text, " \t\r\n\v\f\u00a0\u200b\ufeff\"'`<>“”‘’«»")
	lower := strings.ToLower(text)
	switch {
	case text == "":
		return Invite{}, bad("it is empty")
	case len(text) > maxCode:
		return Invite{}, bad("it is too long")
	case strings.HasPrefix(lower, "http://"), strings.HasPrefix(lower, "https://"):
		return parsePage(text)
	case strings.HasPrefix(text, "ssb:"):
		if query, ok := identity.ParseExperimental(text); ok {
			return parseExperimental(query)
		}
		ref, err := identity.ParseURI(text)
		if m, ok := ref.(identity.Multi); err == nil && ok {
			return parseMulti(m)
		}
		return Invite{}, bad("it is a link to something else")
	}
	text, _, _ = strings.Cut(text, "#")
	if m, err := identity.ParseMulti(text); err == nil && (len(m) > 1 || len(m[0]) > 1) {
		return parseMulti(m)
	}
	return parseLegacy(text) // or a word, or an address of the older form at a host without a dot
}

func bad(why string) error { return fmt.Errorf("%w: %s", ErrInvite, why) }

// parseLegacy reads host:port:@key.ed25519~seed.
func parseLegacy(text string) (Invite, error) {
	addr, seed, ok := strings.Cut(text, "~")
	if !ok {
		if _, err := identity.ParseAddress(text); err == nil {
			return Invite{}, bad("it is an address, without the secret part that an invite ends with")
		}
		return Invite{}, bad("it has not the form of one: HOST:PORT:@KEY.ed25519~SEED, net:HOST:PORT~shs:KEY:SEED, or a link")
	}
	if strings.HasPrefix(addr, ":") && !strings.HasPrefix(addr, "::") {
		return Invite{}, bad("it names no host; the pub that made it does not know its own address")
	}
	a, err := identity.ParseAddress(addr)
	if err != nil {
		return Invite{}, bad("the address in it cannot be read")
	}
	if strings.HasSuffix(a.Host, ".onion") {
		a.Proto = "onion" // as npm ssb-invite reads it
	}
	return newInvite(a, seed)
}

// parseMulti reads net:host:port~shs:key:seed. Where there are several alternatives, the seed may stand in any: open rooms
// write it after the last.
func parseMulti(m identity.Multi) (Invite, error) {
	addrs := m.Addresses()
	for _, parts := range m {
		for _, part := range parts {
			if part.Name != "shs" || len(part.Data) < 2 {
				continue
			}
			for _, proto := range []string{"net", ""} { // what can be dialled most simply first
				for _, a := range addrs {
					if (a.Proto == proto || proto == "") && a.Multi()[0][1].Data[0] == part.Data[0] {
						return newInvite(a, part.Data[1])
					}
				}
			}
			return Invite{}, bad("there is no address in it that can be used")
		}
	}
	if len(addrs) > 0 {
		return Invite{}, bad("it is an address, without the secret part that an invite ends with")
	}
	return Invite{}, bad("there is no address in it that can be used")
}

func newInvite(a identity.Address, seed string) (Invite, error) {
	if a.Proto == "tunnel" || a.Port == 0 {
		return Invite{}, bad("there is no address in it that can be used")
	}
	if seed == openRoom {
		return Invite{Kind: Room, Address: a}, nil
	}
	b, err := base64.StdEncoding.Strict().DecodeString(seed)
	if err != nil || len(b) != 32 || len(seed) != 44 {
		return Invite{}, bad("its secret part, the last one, is not complete")
	}
	return Invite{Kind: Pub, Address: a, seed: [32]byte(b)}, nil
}

// parsePage takes the web page of an invite.
func parsePage(text string) (Invite, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Invite{}, bad("the web address cannot be read")
	}
	if err := checkURL(u); err != nil {
		return Invite{}, err
	}
	query := u.Query()
	query.Set("encoding", "json")
	u.RawQuery, u.Fragment = query.Encode(), ""
	return Invite{Kind: HTTP, page: u.String()}, nil
}

// checkURL is roomhttp's, in words without the code.
func checkURL(u *url.URL) error {
	if roomhttp.CheckURL(u) != nil {
		return bad("it leads to a web address that is not https")
	}
	return nil
}

// parseExperimental reads ssb:experimental?action=claim-http-invite. join-room was its name in drafts.
func parseExperimental(query url.Values) (Invite, error) {
	if action := query.Get("action"); action != "claim-http-invite" && action != "join-room" {
		return Invite{}, bad("it is a link to something else")
	}
	return newPost(query.Get("invite"), query.Get("postTo"))
}

func newPost(token, postTo string) (Invite, error) {
	if token == "" {
		return Invite{}, bad("there is no code in it")
	}
	u, err := url.Parse(postTo)
	if err != nil || postTo == "" {
		return Invite{}, bad("it does not say where to claim it")
	}
	if err := checkURL(u); err != nil {
		return Invite{}, err
	}
	u.Fragment = ""
	return Invite{Kind: HTTP, postTo: u.String(), token: token}, nil
}

// Claim claims an HTTP invite for a feed and returns the address of the room that is open to it now. It takes at most some
// twenty seconds. The errors are in plain words. An open room's invite needs no claiming: its address is the answer. A pub's
// is claimed by calling invite.use.
func Claim(ctx context.Context, i Invite, feed identity.ID) (identity.Address, error) {
	switch i.Kind {
	case Room:
		return i.Address, nil
	case HTTP:
	default:
		return identity.Address{}, bad("it is not claimed over HTTP")
	}
	if i.page != "" {
		next, err := ask(ctx, i.page)
		if err != nil {
			return identity.Address{}, err
		}
		i = next
	}
	u, err := url.Parse(i.postTo)
	if err != nil {
		return identity.Address{}, err
	}
	var answer struct {
		Address string `json:"multiserverAddress"`
	}
	body := struct {
		ID     identity.ID `json:"id"`
		Invite string      `json:"invite"`
	}{feed, i.token}
	if err := roomhttp.Post(ctx, u, body, &answer); err != nil {
		return identity.Address{}, plain(err)
	}
	a, err := identity.ParseAddress(answer.Address)
	if err != nil || a.Port == 0 || a.Proto == "tunnel" {
		return identity.Address{}, fmt.Errorf("%s took the invite, but its answer holds no address of a room: %.100q", u.Host, answer.Address)
	}
	return a, nil
}

// ask gets an invite's code and where to post it from its web page.
func ask(ctx context.Context, page string) (Invite, error) {
	u, err := url.Parse(page)
	if err != nil {
		return Invite{}, err
	}
	var answer struct{ Invite, PostTo string }
	if err := roomhttp.Get(ctx, u, &answer); err != nil {
		return Invite{}, plain(err)
	}
	i, err := newPost(answer.Invite, answer.PostTo)
	if err != nil {
		return Invite{}, fmt.Errorf("%s answered with an invite that cannot be used: %w", u.Host, err)
	}
	// Who makes the page decides who learns our id and gets the code, but a page that leads elsewhere is no page of a room.
	if post, err := url.Parse(i.postTo); err != nil || !sameSite(u.Hostname(), post.Hostname()) {
		return Invite{}, fmt.Errorf("%s answered with an invite to another host, %s", u.Host, i.Host())
	}
	return i, nil
}

// sameSite reports whether two hosts are one, or one is below the other.
func sameSite(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	return a == b || strings.HasSuffix(a, "."+b) || strings.HasSuffix(b, "."+a)
}

// plain puts a room's no into plain words.
func plain(err error) error {
	var no *roomhttp.Refused
	if !errors.As(err, &no) {
		return err
	}
	if no.Text == "" {
		return err
	}
	return &refusal{host: no.Host, text: Explain(no.Text), err: err}
}

// refusal is a room's no in plain words.
type refusal struct {
	host, text string
	err        error
}

func (e *refusal) Error() string { return e.host + ": " + e.text }
func (e *refusal) Unwrap() error { return e.err }
