package index

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"charkha/identity"
)

var pubKey = key(50).ID()

func contentPub(host string, port int, k identity.ID) string {
	return fmt.Sprintf(`{"type":"pub","address":{"host":%q,"port":%d,"key":"%s"}}`, host, port, k)
}

func TestParsePub(t *testing.T) {
	t.Parallel()
	b64 := strings.TrimSuffix(pubKey.String()[1:], ".ed25519")
	for content, want := range map[string]string{
		contentPub("pub.example", 8008, pubKey):                                                             "net:pub.example:8008~shs:" + b64,
		contentPub("192.0.2.1", 1, pubKey):                                                                  "net:192.0.2.1:1~shs:" + b64,
		contentPub("10.1.2.3", 8008, pubKey):                                                                "net:10.1.2.3:8008~shs:" + b64,
		contentPub("2001:db8::1", 8008, pubKey):                                                             "net:2001:db8::1:8008~shs:" + b64,
		`{"type":"pub","address":"net:pub.example:8008~shs:` + b64 + `"}`:                                   "net:pub.example:8008~shs:" + b64,
		`{"type":"pub","address":"pub.example:8008:` + pubKey.String() + `"}`:                               "net:pub.example:8008~shs:" + b64,
		`{"type":"pub","address":"ws:pub.example:8989~shs:` + b64 + `"}`:                                    "",
		`{"type":"pub","address":"tunnel:` + pubKey.String() + `:` + pubKey.String() + `~shs:` + b64 + `"}`: "",
		contentPub("localhost", 8008, pubKey):                                                               "",
		contentPub("LOCALHOST.", 8008, pubKey):                                                              "",
		contentPub("127.0.0.1", 8008, pubKey):                                                               "",
		contentPub("::1", 8008, pubKey):                                                                     "",
		contentPub("0.0.0.0", 8008, pubKey):                                                                 "",
		contentPub("169.254.1.1", 8008, pubKey):                                                             "",
		contentPub("224.0.0.1", 8008, pubKey):                                                               "",
		contentPub("fe80::1%eth0", 8008, pubKey):                                                            "",
		contentPub("", 8008, pubKey):                                                                        "",
		contentPub("pub.example", 0, pubKey):                                                                "",
		contentPub("pub.example", 65536, pubKey):                                                            "",
		contentPub("pub.example", -1, pubKey):                                                               "",
		contentPub("a b", 8008, pubKey):                                                                     "",
		contentPub("pub.example:1~shs:x", 8008, pubKey):                                                     "",
		`{"type":"pub","address":{"host":"pub.example","port":"8008","key":"` + pubKey.String() + `"}}`:     "",
		`{"type":"pub","address":{"host":"pub.example","port":8008,"key":"@x.ed25519"}}`:                    "",
		`{"type":"pub","address":{"Host":"pub.example","port":8008,"key":"` + pubKey.String() + `"}}`:       "",
		`{"type":"pub","address":null}`:                                                                     "",
		`{"type":"pub"}`:                                                                                    "",
	} {
		addr, ok := parsePub([]byte(content))
		got := ""
		if ok {
			got = addr.String()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", content, got, want)
		}
	}
}

func FuzzParsePub(f *testing.F) {
	f.Add([]byte(contentPub("pub.example", 8008, pubKey)))
	f.Add([]byte(`{"type":"pub","address":"pub.example:8008:` + pubKey.String() + `"}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		addr, ok := parsePub(content)
		if !ok {
			return
		}
		again, err := identity.ParseAddress(addr.String())
		if err != nil || again != addr || addr.Port < 1 || addr.Port > 65535 || addr.Host == "" {
			t.Errorf("%q: %+v, read again %+v, %v", content, addr, again, err)
		}
	})
}

func TestPubsOfPeopleWhoAreNear(t *testing.T) {
	t.Parallel()
	people := newAuthors(4) // us, followed, two follows away, unknown
	l := openLog(t)
	x := start(t, Options{Log: l, Self: people[0].id(), Hops: 2})
	changed := x.PubsChanged()
	store(t, l, people[0].sign(t, contentFollow(people[1].id())), people[1].sign(t, contentFollow(people[2].id())))
	for i, p := range people {
		store(t, l, p.sign(t, contentPub(fmt.Sprintf("pub%d.example", i), 8008, key(60+i).ID())))
	}
	x.caughtUp()
	<-changed
	hosts := func(hops int) (hosts []string) {
		all, err := x.Pubs(hops)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			hosts = append(hosts, a.Pub.Host)
		}
		return hosts
	}
	for hops, want := range [][]string{{"pub0.example"}, {"pub0.example", "pub1.example"}, {"pub0.example", "pub1.example", "pub2.example"}} {
		if diff := cmp.Diff(want, hosts(hops)); diff != "" {
			t.Errorf("within %d hops (-want +got):\n%s", hops, diff)
		}
	}
	// The last word of an author counts, for each pub.
	changed = x.PubsChanged()
	store(t, l, people[1].sign(t, contentPub("moved.example", 8008, key(61).ID())), people[1].sign(t, contentPub("more.example", 8008, key(70).ID())))
	x.caughtUp()
	<-changed
	if got := hosts(1); len(got) != 3 || !strings.Contains(strings.Join(got, " "), "moved.example") || strings.Contains(strings.Join(got, " "), "pub1.example") {
		t.Errorf("after the pub moved: %v", got)
	}
	// One person fills no more than his part.
	for i := range 2 * maxAnnouncementsAuthor {
		store(t, l, people[1].sign(t, contentPub("flood.example", 8008, key(1000+i).ID())))
	}
	x.caughtUp()
	if got := len(hosts(1)); got != 1+maxAnnouncementsAuthor {
		t.Errorf("%d announcements, want %d of one and 1 of the other", got, maxAnnouncementsAuthor)
	}
	checkSame(t, x)
	store(t, l, people[0].sign(t, contentBlock(people[1].id())))
	x.caughtUp()
	if got := hosts(1); len(got) != 1 {
		t.Errorf("of a blocked person: %v", got)
	}
}

func TestFollowersAndBlockers(t *testing.T) {
	t.Parallel()
	people := newAuthors(5)
	id := func(n int) identity.ID { return people[n].id() }
	l := openLog(t)
	x := start(t, Options{Log: l, Self: id(0), Hops: 2})
	store(t, l,
		people[0].sign(t, contentFollow(id(1))), people[0].sign(t, contentFollow(id(2))),
		people[1].sign(t, contentFollow(id(3))), people[2].sign(t, contentBlock(id(3))),
		people[4].sign(t, contentFollow(id(3))), people[4].sign(t, contentBlock(id(1)))) // 4 is nobody to us
	x.caughtUp()
	if diff := cmp.Diff([]identity.ID{id(1)}, x.Followers(id(3))); diff != "" {
		t.Errorf("followers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]identity.ID{id(2)}, x.Blockers(id(3))); diff != "" {
		t.Errorf("blockers (-want +got):\n%s", diff)
	}
	if got := x.Blockers(id(1)); got != nil {
		t.Errorf("of those who are nobody to us: %v", got)
	}
	if got := x.Followers(key(99).ID()); got != nil {
		t.Errorf("of one never heard of: %v", got)
	}
	// The nearest first.
	store(t, l, people[0].sign(t, contentFollow(id(3))))
	x.caughtUp()
	if got := x.Followers(id(3)); len(got) != 2 || got[0] != id(0) {
		t.Errorf("followers: %v", got)
	}
}
