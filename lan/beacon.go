package lan

import (
	"encoding/json"
	"errors"
	"strings"

	"golang.org/x/crypto/nacl/secretbox"

	"charkha/identity"
)

const (
	// maxBeacon bounds a beacon in bytes. One that must not be fragmented has under 1500; a longer one is not looked at.
	maxBeacon = 1500
	// maxAnnounced bounds the addresses of one peer in one packet, ours and theirs. The longest is under 120 bytes.
	maxAnnounced = 8
)

var errBeacon = errors.New("not a beacon")

// encodePlain is the packet for port 8008: the addresses in clear.
func encodePlain(addrs []identity.Address) []byte { return []byte(joined(addrs)) }

// decodePlain reads a packet from port 8008. It returns the addresses that can be dialled and the key they have in common;
// those of other keys are left out. Nothing in it is proven.
func decodePlain(packet []byte) (identity.ID, []identity.Address, error) {
	if len(packet) > maxBeacon {
		return identity.ID{}, nil, errBeacon
	}
	return addresses(string(packet))
}

// encodeSigned is the packet for port 26830 (npm ssb-lan): a secretbox of {"address":"..."}, with the network key as key and its
// first 24 bytes as nonce, and then the 64-byte signature of the same object written as JS does with an indent of two.
func encodeSigned(key identity.KeyPair, network *[32]byte, addrs []identity.Address) []byte {
	return sealed(key, network, joined(addrs))
}

func sealed(key identity.KeyPair, network *[32]byte, address string) []byte {
	sig := key.Sign(signedText(address))
	var nonce [24]byte
	copy(nonce[:], network[:])
	box := secretbox.Seal(nil, append(append([]byte(`{"address":`), quote(address)...), '}'), &nonce, network)
	return append(box, sig[:]...)
}

// decodeSigned opens a packet from port 26830. An error says that it is no beacon of this network; verified, that the owner of
// the key signed it.
func decodeSigned(network *[32]byte, packet []byte) (id identity.ID, addrs []identity.Address, verified bool, err error) {
	if len(packet) < 64+secretbox.Overhead || len(packet) > maxBeacon {
		return id, nil, false, errBeacon
	}
	box, sig := packet[:len(packet)-64], [64]byte(packet[len(packet)-64:])
	var nonce [24]byte
	copy(nonce[:], network[:])
	text, ok := secretbox.Open(nil, box, &nonce, network)
	if !ok {
		return id, nil, false, errBeacon
	}
	var fields map[string]json.RawMessage // not a struct: encoding/json would take "Address" for "address"
	var address string
	if json.Unmarshal(text, &fields) != nil || json.Unmarshal(fields["address"], &address) != nil {
		return id, nil, false, errBeacon
	}
	if id, addrs, err = addresses(address); err != nil {
		return id, nil, false, err
	}
	return id, addrs, identity.Verify(id, signedText(address), &sig), nil
}

// addresses reads what a packet announces: a multiserver address of one or more alternatives, or the older host:port:key.
// The key is that of the first alternative that can be dialled, as in JS.
func addresses(s string) (id identity.ID, addrs []identity.Address, err error) {
	if strings.Contains(s, "~") {
		m, err := identity.ParseMulti(s)
		if err != nil {
			return id, nil, err
		}
		addrs = m.Addresses()
	} else {
		a, err := identity.ParseAddress(s)
		if err != nil {
			return id, nil, err
		}
		addrs = []identity.Address{a}
	}
	kept := addrs[:0]
	for _, a := range addrs {
		switch {
		case a.Proto != "net" && a.Proto != "ws" && a.Proto != "wss", a.Port == 0: // no onion and no tunnel on a LAN
			continue
		case len(kept) == 0:
			id = a.Key
		case a.Key != id, len(kept) == maxAnnounced:
			continue
		}
		kept = append(kept, a)
	}
	if len(kept) == 0 {
		return id, nil, errBeacon
	}
	return id, kept, nil
}

func joined(addrs []identity.Address) string {
	var all identity.Multi
	for _, a := range addrs {
		all = append(all, a.Multi()...)
	}
	return all.String()
}

// signedText is what ssb-keys signs: JSON.stringify({address}, null, 2).
func signedText(address string) []byte {
	return append(append([]byte("{\n  \"address\": "), quote(address)...), "\n}"...)
}

// quote is JSON.stringify of a string that is ASCII without control characters, which a multiserver address always is.
func quote(s string) []byte {
	b := make([]byte, 0, len(s)+2)
	b = append(b, '"')
	for _, c := range []byte(s) {
		if c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, '"')
}
