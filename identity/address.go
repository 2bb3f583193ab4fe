package identity

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxAddress bounds a multiserver address, in bytes. Those in use have under 300.
const maxAddress = 4096

// ErrAddress says that a text is not the kind of address that was asked for.
var ErrAddress = errors.New("not a valid address")

// Multi is a multiserver address in full: alternatives, best first, each a list of a protocol and the transforms on top
// of it. "net:h:1~shs:k;ws://h:2~shs:k" has two alternatives of two parts. ParseMulti(m.String()) gives m again, and
// for every text that ParseMulti takes, String gives that text again.
type Multi [][]Part

// Part is a protocol or transform with what it needs to know, unescaped: net with host and port, shs with a key.
type Part struct {
	Name string
	Data []string
}

// ParseMulti reads a multiserver address of any protocols. A name is two or more of a-z, 0-9 and '-', beginning with a
// letter; data is printable ASCII without the space, where '!' stands before a literal "!", "~", ":" or ";".
func ParseMulti(s string) (Multi, error) {
	if len(s) > maxAddress {
		return nil, fmt.Errorf("address %s: over %d bytes: %w", clip(s), maxAddress, ErrAddress)
	}
	var (
		multi Multi
		parts []Part
		part  Part
	)
	for i := 0; ; i++ {
		start := i
		for i < len(s) && (s[i] >= 'a' && s[i] <= 'z' || i > start && (s[i] == '-' || s[i] >= '0' && s[i] <= '9')) {
			i++
		}
		if i-start < 2 {
			return nil, fmt.Errorf("address %s: no protocol name at byte %d: %w", clip(s), start, ErrAddress)
		}
		part = Part{Name: s[start:i]}
		for i < len(s) && s[i] == ':' {
			var data string
			var ok bool
			if data, i, ok = scanData(s, i+1); !ok {
				return nil, fmt.Errorf("address %s: bad character at byte %d: %w", clip(s), i, ErrAddress)
			}
			part.Data = append(part.Data, data)
		}
		parts = append(parts, part)
		switch {
		case i == len(s):
			return append(multi, parts), nil
		case s[i] == ';':
			multi, parts = append(multi, parts), nil
		case s[i] != '~':
			return nil, fmt.Errorf("address %s: bad character at byte %d: %w", clip(s), i, ErrAddress)
		}
	}
}

// scanData reads one item of data from s[i:], unescaped, and says where it ended or what byte is wrong.
func scanData(s string, i int) (data string, end int, ok bool) {
	start, escaped := i, false
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '!':
			if i+1 == len(s) || !special(s[i+1]) {
				return "", i, false
			}
			escaped = true
			i++
		case special(c):
			goto end
		case c <= ' ' || c > '~':
			return "", i, false
		}
	}
end:
	if data = s[start:i]; escaped {
		b := make([]byte, 0, len(data))
		for j := 0; j < len(data); j++ {
			if data[j] == '!' {
				j++
			}
			b = append(b, data[j])
		}
		data = string(b)
	}
	return data, i, true
}

func special(c byte) bool { return c == '!' || c == '~' || c == ':' || c == ';' }

// String is the multiserver form.
func (m Multi) String() string {
	var b []byte
	for i, parts := range m {
		if i > 0 {
			b = append(b, ';')
		}
		for j, part := range parts {
			if j > 0 {
				b = append(b, '~')
			}
			b = append(b, part.Name...)
			for _, data := range part.Data {
				b = append(b, ':')
				for k := range len(data) {
					if special(data[k]) {
						b = append(b, '!')
					}
					b = append(b, data[k])
				}
			}
		}
	}
	return string(b)
}

// Addresses lists the alternatives that are an Address, in order.
func (m Multi) Addresses() []Address {
	var all []Address
	for _, parts := range m {
		if a, ok := addressOf(parts); ok {
			all = append(all, a)
		}
	}
	return all
}

// Address is where a peer can be reached and whom to expect there: one net~shs, ws~shs, onion~shs or tunnel~shs alternative
// of a multiserver address. It can be a map key. The zero value is no address.
//
// A tunnel leads to a peer who is in a room, over a connection with that room: it has a Room and a Key, and neither Host
// nor Port.
type Address struct {
	Proto string // "net", "ws", "wss", "onion" or "tunnel"; empty means net
	Host  string // a name or an IP, an IPv6 one without brackets
	Port  int    // 1 to 65535; 0 only to listen at a port of the system's choosing
	Room  ID     // the key of the room that a tunnel goes through; zero in all other kinds
	Key   ID     // the peer's feed
}

// Tunnel is the address of a peer in a room.
func Tunnel(room, peer ID) Address { return Address{Proto: "tunnel", Room: room, Key: peer} }

// HostPort is the form that package net dials. A tunnel has none: it is "".
func (a Address) HostPort() string {
	if a.Proto == "tunnel" {
		return ""
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(a.Port))
}

// Multi gives the address in its general form. The groups of an IPv6 host are items of their own: JS peers split at each
// colon and join what stands before the port, and those that know escaping do so too. A tunnel's items are the sigil forms
// of the room's and of the peer's id, as JS room clients write them (npm ssb-room-client 2, ssb-tunnel 2).
func (a Address) Multi() Multi {
	shs := Part{Name: "shs", Data: []string{strict.EncodeToString(a.Key[:])}}
	if a.Proto == "tunnel" {
		return Multi{{{Name: "tunnel", Data: []string{a.Room.String(), a.Key.String()}}, shs}}
	}
	data := append(strings.Split(a.Host, ":"), strconv.Itoa(a.Port))
	proto := a.Proto
	switch proto {
	case "":
		proto = "net"
	case "ws", "wss":
		data[0] = "//" + data[0]
	}
	return Multi{{{Name: proto, Data: data}, shs}}
}

// String is the multiserver form, "net:host:port~shs:base64" or "tunnel:@room:@peer~shs:base64".
func (a Address) String() string { return a.Multi().String() }

// MarshalText implements encoding.TextMarshaler.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Address) UnmarshalText(b []byte) (err error) { *a, err = ParseAddress(string(b)); return err }

// ParseAddress reads a multiserver address and returns its first alternative that is net, ws, wss, onion or tunnel with shs
// and nothing on top, or reads the older form "host:port:@key.ed25519", in which the host may begin with "ws://" or "wss://".
// The result's Proto is never empty.
func ParseAddress(s string) (Address, error) {
	if !strings.Contains(s, "~") {
		if i := strings.LastIndexByte(s, ':'); i >= 0 {
			if key, err := ParseID(s[i+1:]); err == nil {
				proto, rest := "net", s[:i]
				if scheme, _, ok := strings.Cut(rest, "://"); ok && (scheme == "ws" || scheme == "wss") {
					proto, rest = scheme, rest[len(scheme)+1:]
				}
				if a, ok := newAddress(proto, strings.Split(rest, ":"), key); ok {
					return a, nil
				}
			}
		}
		return Address{}, fmt.Errorf("address %s: not of the form net:HOST:PORT~shs:KEY: %w", clip(s), ErrAddress)
	}
	m, err := ParseMulti(s)
	if err != nil {
		return Address{}, err
	}
	for _, parts := range m {
		if a, ok := addressOf(parts); ok {
			return a, nil
		}
	}
	return Address{}, fmt.Errorf("address %s: no alternative net:HOST:PORT~shs:KEY in it: %w", clip(s), ErrAddress)
}

func addressOf(parts []Part) (Address, bool) {
	if len(parts) != 2 || parts[1].Name != "shs" || len(parts[1].Data) == 0 {
		return Address{}, false
	}
	key, ok := decodeID(parts[1].Data[0])
	if !ok {
		return Address{}, false
	}
	switch name := parts[0].Name; name {
	case "net", "onion", "ws", "wss":
		return newAddress(name, parts[0].Data, key)
	case "tunnel":
		return newTunnel(parts[0].Data, key)
	}
	return Address{}, false
}

// newTunnel checks a tunnel's items: room, peer, and in those of npm ssb-tunnel perhaps the instance of the peer, of which
// all but 0 are out of use. The peer's key stands in the address twice; they must agree.
func newTunnel(data []string, key ID) (Address, bool) {
	if len(data) != 2 && (len(data) != 3 || data[2] != "0") {
		return Address{}, false
	}
	room, err := ParseID(data[0])
	if err != nil {
		return Address{}, false
	}
	peer, err := ParseID(data[1])
	if err != nil || peer != key || room == key {
		return Address{}, false
	}
	return Tunnel(room, key), true
}

// newAddress checks host and port, which data holds split at every colon.
func newAddress(proto string, data []string, key ID) (Address, bool) {
	if len(data) < 2 {
		return Address{}, false
	}
	host, digits := strings.Join(data[:len(data)-1], ":"), data[len(data)-1]
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || len(digits) > 5 { // ParseUint takes no sign
		return Address{}, false
	}
	if proto == "ws" || proto == "wss" {
		host = strings.TrimPrefix(host, "//")
	}
	if h, ok := strings.CutPrefix(host, "["); ok {
		if host, ok = strings.CutSuffix(h, "]"); !ok || !strings.Contains(host, ":") {
			return Address{}, false
		}
	}
	if !validHost(host) {
		return Address{}, false
	}
	return Address{Proto: proto, Host: host, Port: int(port), Key: key}, true
}

// validHost takes an IP, an IPv6 zone included, or what may be a name in the domain name system or on a local network.
func validHost(host string) bool {
	if strings.Contains(host, ":") {
		_, err := netip.ParseAddr(host)
		return err == nil
	}
	if len(host) == 0 || len(host) > 253 {
		return false
	}
	name := strings.TrimSuffix(host, ".")
	if last := name[strings.LastIndexByte(name, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		ip, err := netip.ParseAddr(host) // what ends in a number is an IP or nothing
		return err == nil && ip.Is4()
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// decodeID reads the bare base64 of a feed's key.
func decodeID(s string) (ID, bool) {
	id, err := ParseID("@" + s + ".ed25519")
	return id, err == nil
}
