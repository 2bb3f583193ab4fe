package lan

import (
	"encoding/base32"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"charkha/identity"
)

const (
	serviceName = "_ssb._tcp.local."
	serviceEnum = "_services._dns-sd._udp.local." // RFC 6763 section 9
	textKey     = "address="                      // of the TXT strings that hold an address

	// mdnsTTL is how long others may remember our records, and the longest that we remember theirs.
	mdnsTTL = 120 * time.Second

	maxMDNS      = 9000 // bytes, RFC 6762 section 17
	maxQuestions = 16   // looked at in one packet
	maxRecords   = 64   // looked at in one packet

	cacheFlush = 1 << 15 // RFC 6762 section 10.2; in a question the wish for unicast
)

// instance is the first label of our service instance and host: base32 of the key, 52 characters, so that nobody else has it.
func instance(id identity.ID) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:]))
}

// encodeQuery asks who offers the service.
func encodeQuery() []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{})
	_ = b.StartQuestions()
	_ = b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(serviceName), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET})
	packet, err := b.Finish()
	if err != nil {
		panic("lan: internal error: " + err.Error())
	}
	return packet
}

// encodeAnswer announces all our records, with hosts as the addresses of the interface; a ttl of 0 takes them back. addrs is
// not empty.
func encodeAnswer(id identity.ID, addrs []identity.Address, hosts []netip.Addr, ttl time.Duration) ([]byte, error) {
	var (
		inst   = dnsmessage.MustNewName(instance(id) + "." + serviceName)
		host   = dnsmessage.MustNewName(instance(id) + ".local.")
		secs   = uint32(ttl / time.Second)
		shared = func(name string) dnsmessage.ResourceHeader {
			return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: secs}
		}
		unique = func(name dnsmessage.Name) dnsmessage.ResourceHeader {
			return dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET | cacheFlush, TTL: secs}
		}
		text []string
		err  error
	)
	for _, a := range addrs {
		if s := textKey + a.String(); len(s) <= 255 {
			text = append(text, s)
		}
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{Response: true, Authoritative: true})
	b.EnableCompression()
	add := func(e error) {
		if err == nil {
			err = e
		}
	}
	add(b.StartAnswers())
	add(b.PTRResource(shared(serviceName), dnsmessage.PTRResource{PTR: inst}))
	add(b.PTRResource(shared(serviceEnum), dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(serviceName)}))
	add(b.SRVResource(unique(inst), dnsmessage.SRVResource{Port: uint16(addrs[0].Port), Target: host}))
	add(b.TXTResource(unique(inst), dnsmessage.TXTResource{TXT: text}))
	for _, ip := range hosts {
		if ip.Is4() {
			add(b.AResource(unique(host), dnsmessage.AResource{A: ip.As4()}))
		} else {
			add(b.AAAAResource(unique(host), dnsmessage.AAAAResource{AAAA: ip.As16()}))
		}
	}
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

// mdnsPacket is what a packet of multicast DNS says about our service.
type mdnsPacket struct {
	asks  bool         // for records that we have, and does not know them
	finds []mdnsRecord // at most maxAnnounced
}

// mdnsRecord is the TXT record of an instance. The key is only claimed.
type mdnsRecord struct {
	id    identity.ID
	addrs []identity.Address
	ttl   time.Duration // 0: taken back
}

// decodeMDNS reads a packet. It says nothing of what is wrong with one: port 5353 is full of packets about other things.
func decodeMDNS(packet []byte, self identity.ID) (out mdnsPacket) {
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil || len(packet) > maxMDNS || h.OpCode != 0 || h.RCode != dnsmessage.RCodeSuccess {
		return out
	}
	var (
		inst = instance(self) + "." + serviceName
		host = instance(self) + ".local."
	)
	for n := 0; ; n++ {
		q, err := p.Question()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil || n == maxQuestions {
			return mdnsPacket{}
		}
		if h.Response {
			continue
		}
		if class := q.Class &^ cacheFlush; class != dnsmessage.ClassINET && class != dnsmessage.ClassANY {
			continue
		}
		any := q.Type == dnsmessage.TypeALL
		switch strings.ToLower(q.Name.String()) {
		case serviceName, serviceEnum:
			out.asks = out.asks || any || q.Type == dnsmessage.TypePTR
		case inst:
			out.asks = out.asks || any || q.Type == dnsmessage.TypeSRV || q.Type == dnsmessage.TypeTXT
		case host:
			out.asks = out.asks || any || q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeAAAA
		}
	}
	if !h.Response && !out.asks {
		return out
	}
	if !h.Response {
		for range maxRecords {
			rh, err := p.AnswerHeader()
			if err != nil {
				break
			}
			if rh.Type != dnsmessage.TypePTR || !strings.EqualFold(rh.Name.String(), serviceName) {
				if p.SkipAnswer() != nil {
					break
				}
				continue
			}
			r, err := p.PTRResource()
			if err != nil {
				break
			}
			if strings.EqualFold(r.PTR.String(), inst) && rh.TTL >= uint32(mdnsTTL/time.Second/2) {
				out.asks = false // RFC 6762 section 7.1
			}
		}
		return out
	}
	// The records that matter may stand in the answers or in the additional section.
	left := maxRecords
	texts := func(header func() (dnsmessage.ResourceHeader, error), skip func() error) bool {
		for {
			rh, err := header()
			if err == dnsmessage.ErrSectionDone {
				return true
			}
			if err != nil || left == 0 || len(out.finds) == maxAnnounced {
				return false
			}
			left--
			name := strings.ToLower(rh.Name.String())
			if rh.Type != dnsmessage.TypeTXT || rh.Class&^cacheFlush != dnsmessage.ClassINET || !strings.HasSuffix(name, "."+serviceName) {
				if skip() != nil {
					return false
				}
				continue
			}
			r, err := p.TXTResource()
			if err != nil {
				return false
			}
			if rec, ok := readText(r.TXT, rh.TTL); ok {
				out.finds = append(out.finds, rec)
			}
		}
	}
	if texts(p.AnswerHeader, p.SkipAnswer) && p.SkipAllAuthorities() == nil {
		texts(p.AdditionalHeader, p.SkipAdditional)
	}
	return out
}

// readText takes the strings of a TXT record that are addresses, with or without "address=" before them.
func readText(text []string, ttl uint32) (rec mdnsRecord, ok bool) {
	rec.ttl = min(time.Duration(ttl)*time.Second, mdnsTTL)
	for i, s := range text {
		if i == maxRecords || len(rec.addrs) == maxAnnounced {
			break
		}
		if len(s) >= len(textKey) && strings.EqualFold(s[:len(textKey)], textKey) {
			s = s[len(textKey):]
		}
		id, addrs, err := addresses(s)
		if err != nil || len(rec.addrs) > 0 && id != rec.id {
			continue
		}
		rec.id, rec.addrs = id, append(rec.addrs, addrs...)
	}
	rec.addrs = rec.addrs[:min(len(rec.addrs), maxAnnounced)]
	return rec, len(rec.addrs) > 0
}
