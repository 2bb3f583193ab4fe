package lan

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"charkha/identity"
)

// Report says what a LAN does and hears. It is made for `charkha doctor lan`, and is plain JSON.
type Report struct {
	Key        identity.ID `json:"key"`
	Problem    string      `json:"problem,omitempty"` // why nobody can be found, or find us, in words for people
	Interfaces []Interface `json:"interfaces"`        // by name
	Neighbours []Neighbour `json:"neighbours"`        // the newest last
	Sockets    []Socket    `json:"sockets"`
	Dropped    Dropped     `json:"dropped"`
}

// Interface is one of the computer's, used or not.
type Interface struct {
	Name      string             `json:"name"`
	Up        bool               `json:"up"`
	Unused    string             `json:"unused,omitempty"`    // why it is not used: "loopback", "down", ...
	Addresses []string           `json:"addresses"`           // IP/bits
	Announced []identity.Address `json:"announced"`           // what others are told there
	LastSent  time.Time          `json:"lastSent,omitzero"`   // the last beacon
	SendError string             `json:"sendError,omitempty"` // of the last beacon
	// When our own packets were last heard there, by means. One that never was: the network, or a firewall, swallows it, or
	// nothing is announced. IPv4 and IPv6 are not told apart. By mdns it is on one of the interfaces only, and every two minutes.
	HeardOurselves map[Means]time.Time `json:"heardOurselves"`
}

// Neighbour is an address that others announce.
type Neighbour struct {
	Address   identity.Address `json:"address"`
	Key       identity.ID      `json:"key"`
	By        []Means          `json:"by"`
	Verified  bool             `json:"verified"` // signed by Key; else who answers there has to prove it
	Interface string           `json:"interface"`
	Source    string           `json:"source,omitempty"` // the IP that the last packet came from, which mdns does not tell
	Last      time.Time        `json:"last"`
}

// Socket is one that is listened at.
type Socket struct {
	Means  Means  `json:"means"`
	Family string `json:"family"` // "ipv4" or "ipv6"
	Port   int    `json:"port"`
	Error  string `json:"error,omitempty"` // why it is not there
}

// Dropped counts packets, and services told of by mdns, that were not taken, since Run began.
type Dropped struct {
	Budget  uint64 `json:"budget"`  // their source, or all new sources together, sent too many; or too many services of mdns
	OffLink uint64 `json:"offLink"` // from an address that is on no network of the interface, or by an interface not in use
	Garbage uint64 `json:"garbage"` // not beacons; on port 26830 also those of another network key; services without an address
	Forged  uint64 `json:"forged"`  // beacons with a wrong signature
}

// Neighbours lists who was heard of and is not silent, the newest last.
func (l *LAN) Neighbours() []Neighbour {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Neighbour{}
	for _, n := range l.table.m {
		if now.After(n.until) {
			continue
		}
		x := Neighbour{Address: n.addr, Key: n.addr.Key, Verified: n.verified, Interface: n.ifName, Last: n.last}
		if n.src.IsValid() {
			x.Source = n.src.String()
		}
		for i, m := range allMeans {
			if n.by[i] {
				x.By = append(x.By, m)
			}
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Neighbour) int {
		return cmp.Or(a.Last.Compare(b.Last), strings.Compare(a.Address.String(), b.Address.String()))
	})
	return out
}

// Report tells how things stand. Before Run it says so as the problem.
func (l *LAN) Report() Report {
	r := Report{Key: l.self, Neighbours: l.Neighbours(), Interfaces: []Interface{}, Sockets: []Socket{}}
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, err := range l.errs {
		x := Socket{Means: s.means, Family: s.family(), Port: s.port}
		if err != nil {
			x.Error = err.Error()
		}
		r.Sockets = append(r.Sockets, x)
	}
	for f, err := range l.mdnsErrs {
		x := Socket{Means: MDNS, Family: families[f], Port: mdnsPort}
		if err != nil {
			x.Error = err.Error()
		}
		r.Sockets = append(r.Sockets, x)
	}
	slices.SortFunc(r.Sockets, func(a, b Socket) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Family, b.Family))
	})
	for _, ifi := range l.others {
		r.Interfaces = append(r.Interfaces, Interface{
			Name: ifi.name, Up: ifi.flags&net.FlagUp != 0, Unused: l.skip(ifi), Addresses: texts(ifi.prefixes), HeardOurselves: map[Means]time.Time{},
			Announced: []identity.Address{},
		})
	}
	for _, st := range l.ifaces {
		x := Interface{
			Name: st.name, Up: true, Addresses: texts(st.prefixes), Announced: append([]identity.Address{}, st.announced...),
			LastSent: st.sent, HeardOurselves: map[Means]time.Time{},
		}
		if st.sendErr != nil {
			x.SendError = strings.ReplaceAll(st.sendErr.Error(), "\n", "; ")
		}
		for i, m := range allMeans {
			if !st.own[i].IsZero() {
				x.HeardOurselves[m] = st.own[i]
			}
		}
		r.Interfaces = append(r.Interfaces, x)
	}
	slices.SortFunc(r.Interfaces, func(a, b Interface) int { return strings.Compare(a.Name, b.Name) })
	r.Dropped = Dropped{l.counters.budget, l.counters.offLink, l.counters.garbage, l.counters.forged}
	r.Problem = l.problem(r)
	return r
}

func texts(prefixes []netip.Prefix) []string {
	out := []string{}
	for _, p := range prefixes {
		out = append(out, p.String())
	}
	return out
}

// problem finds the first thing that is in the way. Callers hold mu.
func (l *LAN) problem(r Report) string {
	if l.listErr != nil {
		return fmt.Sprintf("the interfaces cannot be listed: %v", l.listErr)
	}
	if !l.ran {
		return "not running"
	}
	if len(l.ifaces) == 0 {
		return cmp.Or(l.absent(r), "no interface is up but loopback")
	}
	if len(r.Sockets) > 0 && !slices.ContainsFunc(r.Sockets, func(s Socket) bool { return s.Error == "" }) {
		return "no port can be listened at: " + r.Sockets[0].Error
	}
	announced, addressed, failed := false, false, ""
	for _, x := range r.Interfaces {
		announced = announced || len(x.Announced) > 0
		addressed = addressed || x.Unused == "" && len(x.Addresses) > 0
		if x.SendError != "" && x.Unused == "" {
			failed = fmt.Sprintf("announcing on %s: %s", x.Name, x.SendError)
		}
	}
	switch {
	case !addressed:
		return "no interface that is up has an address yet"
	case !announced:
		return "nothing is announced: the node listens nowhere that others on these networks can reach"
	}
	return cmp.Or(failed, l.absent(r))
}

// absent says which of the interfaces that were chosen cannot be used.
func (l *LAN) absent(r Report) string {
	for _, name := range l.o.Interfaces {
		i := slices.IndexFunc(r.Interfaces, func(x Interface) bool { return x.Name == name })
		switch {
		case i < 0:
			return fmt.Sprintf("there is no interface %s", name)
		case r.Interfaces[i].Unused != "":
			return fmt.Sprintf("interface %s is %s", name, r.Interfaces[i].Unused)
		}
	}
	return ""
}
