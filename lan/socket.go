package lan

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	plainPort  = 8008
	signedPort = 26830
)

// signedGroup is where signed beacons go over IPv6: transient, link-local scope, a dynamic group id (RFC 3307 section 4.3).
var signedGroup = netip.MustParseAddr("ff12::8073:7362")

// socket is one that receives beacons on all interfaces, and sends to its group when it has one. All but receive belongs to Run.
type socket struct {
	means Means
	v6    bool
	port  int
	group netip.Addr // of IPv6, joined on each interface; not valid for IPv4 broadcast

	conn   net.PacketConn // nil when it cannot be had
	p4     *ipv4.PacketConn
	p6     *ipv6.PacketConn
	joined map[int]bool // by interface index
}

func newSockets() []*socket {
	return []*socket{
		{means: Plain, port: plainPort},
		{means: Signed, port: signedPort},
		{means: Signed, port: signedPort, v6: true, group: signedGroup},
	}
}

var families = [2]string{ipv4Family: "ipv4", ipv6Family: "ipv6"}

func (s *socket) family() string {
	if s.v6 {
		return families[ipv6Family]
	}
	return families[ipv4Family]
}

// open binds the socket, so that other programs, and other nodes, on this computer can listen there too.
func (s *socket) open(ctx context.Context) error {
	lc := net.ListenConfig{Control: shareAddress}
	network, host := "udp4", "0.0.0.0"
	if s.v6 {
		network, host = "udp6", "::"
	}
	conn, err := lc.ListenPacket(ctx, network, net.JoinHostPort(host, fmt.Sprint(s.port)))
	if err != nil {
		return err
	}
	s.joined = map[int]bool{}
	// Where the system cannot tell the interface of a packet (Windows), it is found by the source's network.
	if s.v6 {
		s.p6 = ipv6.NewPacketConn(conn)
		_ = s.p6.SetControlMessage(ipv6.FlagInterface, true)
	} else {
		s.p4 = ipv4.NewPacketConn(conn)
		_ = s.p4.SetControlMessage(ipv4.FlagInterface, true)
	}
	s.conn = conn
	return nil
}

// join makes the socket hear its group on ifi, if it has one; it may be called again and again.
func (s *socket) join(ifi netif) error {
	if s.conn == nil || !s.group.IsValid() || s.joined[ifi.index] {
		return nil
	}
	if err := s.p6.JoinGroup(ifi.system(), &net.UDPAddr{IP: s.group.AsSlice()}); err != nil {
		return fmt.Errorf("join %s: %w", s.group, err)
	}
	s.joined[ifi.index] = true
	return nil
}

// leave forgets an interface that is gone, or is not used any more.
func (s *socket) leave(ifi netif) {
	if s.conn == nil || !s.joined[ifi.index] {
		return
	}
	delete(s.joined, ifi.index)
	_ = s.p6.LeaveGroup(ifi.system(), &net.UDPAddr{IP: s.group.AsSlice()}) // an interface that is gone has left
}

// send multicasts a packet to the socket's group on one interface.
func (s *socket) send(packet []byte, ifi netif) error {
	_, err := s.p6.WriteTo(packet, nil, &net.UDPAddr{IP: s.group.AsSlice(), Port: s.port, Zone: ifi.name})
	return err
}

// receive reads one packet: how long it is, where it is from, and by which interface it came, 0 when the system does not say.
func (s *socket) receive(b []byte) (n int, src netip.Addr, ifIndex int, err error) {
	var from net.Addr
	if s.v6 {
		var cm *ipv6.ControlMessage
		if n, cm, from, err = s.p6.ReadFrom(b); cm != nil {
			ifIndex = cm.IfIndex
		}
	} else {
		var cm *ipv4.ControlMessage
		if n, cm, from, err = s.p4.ReadFrom(b); cm != nil {
			ifIndex = cm.IfIndex
		}
	}
	if err != nil {
		return 0, netip.Addr{}, 0, err
	}
	udp, ok := from.(*net.UDPAddr)
	if !ok {
		return n, netip.Addr{}, ifIndex, nil
	}
	return n, udp.AddrPort().Addr().Unmap(), ifIndex, nil
}

// sender broadcasts from one IPv4 address of an interface. A socket of its own for each address, and never from the port that
// is listened at: JS peers on this computer take packets from that port for their own.
type sender struct {
	conn net.PacketConn
	p4   *ipv4.PacketConn
	to   netip.Addr
}

func newSender(ctx context.Context, p netip.Prefix) (*sender, error) {
	to, ok := broadcast(p)
	if !ok {
		return nil, fmt.Errorf("network %s has no broadcast address", p)
	}
	var lc net.ListenConfig // package net allows broadcasting on each UDP socket
	conn, err := lc.ListenPacket(ctx, "udp4", netip.AddrPortFrom(p.Addr(), 0).String())
	if err != nil {
		return nil, err
	}
	return &sender{conn: conn, p4: ipv4.NewPacketConn(conn), to: to}, nil
}

func (s *sender) send(packet []byte, port int, from netip.Addr, ifi netif) error {
	// Two interfaces may be in one network, so the interface is named, too.
	_, err := s.p4.WriteTo(packet, &ipv4.ControlMessage{IfIndex: ifi.index, Src: from.AsSlice()}, &net.UDPAddr{IP: s.to.AsSlice(), Port: port})
	return err
}

// listInterfaces asks the system.
func listInterfaces() ([]netif, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	out := make([]netif, 0, len(all))
	for _, i := range all {
		n := netif{index: i.Index, name: i.Name, flags: i.Flags}
		addrs, err := i.Addrs()
		if err != nil {
			continue // gone meanwhile
		}
		for _, a := range addrs {
			ipnet, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, ok := netip.AddrFromSlice(ipnet.IP)
			ones, _ := ipnet.Mask.Size()
			if ip = ip.Unmap(); ok && ones <= ip.BitLen() {
				n.prefixes = append(n.prefixes, netip.PrefixFrom(ip, ones))
			}
		}
		out = append(out, n)
	}
	return out, nil
}
