package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func testKey(n byte) KeyPair { return FromSeed([32]byte{n, 1: 'k'}) }

func TestKeyPairDoesNotPrintItsSecret(t *testing.T) {
	t.Parallel()
	k := testKey(7)
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "key", k)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "key", k, "in", struct{ K KeyPair }{k})
	inJSON, err := json.Marshal(map[string]any{"k": k, "p": &k})
	if err != nil {
		t.Fatal(err)
	}
	all := logged.String() + string(inJSON) +
		fmt.Sprintf("%v %+v %#v %s %x %X %q %d %v", k, k, k, k, k, k, k, k, struct{ K KeyPair }{k})
	for _, secret := range []string{
		fmt.Sprintf("%x", k.private[:32]), fmt.Sprintf("%X", k.private[:32]), strict.EncodeToString(k.private[:]),
		strings.Trim(fmt.Sprint(k.private[:8]), "[]"), string(k.private[:32]),
	} {
		if strings.Contains(all, secret) {
			t.Errorf("the secret is in %s", all)
		}
	}
	if !strings.Contains(all, k.ID().String()) {
		t.Error("the public id is not printed")
	}
}

func TestGenerateMakesAnotherKeyEachTime(t *testing.T) {
	t.Parallel()
	a, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	if a == b || a.IsZero() || b.IsZero() {
		t.Fatal("two generated keys are the same")
	}
	msg := []byte("hello")
	sig := a.Sign(msg)
	if !Verify(a.ID(), msg, &sig) || Verify(b.ID(), msg, &sig) || Verify(a.ID(), msg[:4], &sig) {
		t.Error("a signature holds for the wrong key or message")
	}
}

func TestVerifyOfKeysThatShareASlot(t *testing.T) {
	t.Parallel()
	byFirst := map[byte]KeyPair{}
	var a, b KeyPair
	for i := 0; a.IsZero(); i++ {
		k := FromSeed([32]byte{byte(i), byte(i >> 8)})
		first := k.ID()[0]
		if other, ok := byFirst[first]; ok {
			a, b = other, k
		}
		byFirst[first] = k
	}
	for range 3 {
		for _, k := range []KeyPair{a, b} {
			sig := k.Sign([]byte("m"))
			if !Verify(k.ID(), []byte("m"), &sig) {
				t.Error("own signature refused")
			}
			for _, o := range []KeyPair{a, b} {
				if o != k && Verify(o.ID(), []byte("m"), &sig) {
					t.Error("a signature holds for another key in the same slot")
				}
			}
		}
	}
}

func TestVerifyAllocatesNothingForAKnownKey(t *testing.T) {
	k := testKey(1)
	msg := bytes.Repeat([]byte("m"), 600)
	sig := k.Sign(msg)
	id := k.ID()
	Verify(id, msg, &sig)
	// The hash state of crypto/sha512 is the library's own.
	if n := testing.AllocsPerRun(100, func() {
		if !Verify(id, msg, &sig) {
			t.Fatal("refused")
		}
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func TestSecretFileIsReadBack(t *testing.T) {
	t.Parallel()
	k := testKey(2)
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	if err := CreateSecret(path, k); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && st.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", st.Mode())
	}
	got, err := LoadSecret(path)
	if err != nil || got != k {
		t.Errorf("read back %v, %v", got, err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestCreateSecretNeverTouchesWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"file":          func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"folder":        func(path string) error { return os.Mkdir(path, 0o700) },
		"dangling link": func(path string) error { return os.Symlink(filepath.Join(dir, "nowhere"), path) },
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(path)
		if err := CreateSecret(path, testKey(3)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v, want fs.ErrExist", name, err)
		}
		after, err := os.Lstat(path)
		if err != nil || after.Mode() != before.Mode() || after.Size() != before.Size() {
			t.Errorf("%s: changed from %v to %v, %v", name, before, after, err)
		}
	}
	if err := CreateSecret(filepath.Join(dir, "no", "such", "folder"), testKey(3)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a missing folder: %v", err)
	}
	if err := CreateSecret(filepath.Join(dir, "zero"), KeyPair{}); err == nil {
		t.Error("the zero key was written")
	}
}

func TestLoadSecretRefusesWhatOthersCanRead(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("file modes say nothing on Windows")
	}
	path := filepath.Join(t.TempDir(), "secret")
	if err := CreateSecret(path, testKey(4)); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o620, 0o601} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadSecret(path)
		if !errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadSecret(path); err != nil {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}

func TestLoadSecretSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := LoadSecret(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := LoadSecret(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("folder: %v", err)
	}
}

func TestParseSecret(t *testing.T) {
	t.Parallel()
	k, other := testKey(5), testKey(6)
	text := func(b []byte) string { return strict.EncodeToString(b) + ".ed25519" }
	private, public, id := text(k.private[:]), text(k.private[32:]), k.ID().String()
	mixed := append(append([]byte{}, k.private[:32]...), other.private[32:]...)
	file := func(curve, public, private, id string) string {
		b, _ := json.Marshal(secretFile{Curve: curve, Public: public, Private: private, ID: id})
		return string(b)
	}
	for _, c := range []struct{ name, file, wrong string }{
		{"all fields", file("ed25519", public, private, id), ""},
		{"comments between the lines", "# a\n{\"private\": # here too\n\"" + private + "\"\n # b\n}\n#", ""},
		{"carriage returns", "# a\r\n{\r\n\"private\":\"" + private + "\"\r\n}\r\n# b", ""},
		{"byte order mark", "\xef\xbb\xbf" + file("ed25519", public, private, id), ""},
		{"only the private key", `{"private":"` + private + `"}`, ""},
		{"unknown fields", `{"x":[1],"private":"` + private + `","feedFormat":"classic"}`, ""},
		{"no ending", `{"private":"` + strings.TrimSuffix(private, ".ed25519") + `"}`, ""},
		{"empty", "", "no key in it"},
		{"only comments", "# {}\n", "no key in it"},
		{"broken", file("ed25519", public, private, id)[:40], "not the JSON"},
		{"two values", file("ed25519", public, private, id) + "{}", "not the JSON"},
		{"id without a sigil", file("ed25519", public, private, id[1:]), ""},
		{"id of another kind", file("ed25519", public, private, "2Qf5b4vVnQK3T5hF2nQyYQ==.blake2s"), ""},
		{"names in other letters", `{"private":"` + private + `","Private":[1],"PUBLIC":"x","ID":2}`, ""},
		{"only a name in other letters", `{"Private":"` + private + `"}`, "private key is missing"},
		{"an array", "[]", "not the JSON"},
		{"null", "null", "not the JSON"},
		{"a number as key", `{"private":1}`, "private"},
		{"another curve", file("k256", public, private, id), "only ed25519"},
		{"no private key", file("ed25519", public, "", id), "private key is missing"},
		{"short private key", file("ed25519", public, text(k.private[:32]), id), "64 bytes"},
		{"private key of another alphabet", file("", "", strings.Repeat("-", 86)+"==.ed25519", ""), "64 bytes"},
		{"halves of two keys", file("ed25519", text(other.private[32:]), text(mixed), other.ID().String()), "do not belong together"},
		{"public key of another", file("ed25519", text(other.private[32:]), private, id), "does not belong"},
		{"id of another", file("ed25519", public, private, other.ID().String()), "but its private key is that of"},
		{"too long", strings.Repeat("#\n", maxSecret), "over"},
	} {
		got, err := ParseSecret([]byte(c.file))
		if c.wrong == "" {
			if err != nil || got != k {
				t.Errorf("%s: %v, %v", c.name, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.wrong)
		}
		if err != nil && strings.Contains(err.Error(), private[:12]) {
			t.Errorf("%s: the error quotes the secret: %v", c.name, err)
		}
	}
}

// What follows the format does not count in the URI of an address, as npm ssb-uri2 2.4 reads it.
func TestParseAddressURI(t *testing.T) {
	t.Parallel()
	const want = "net:h.x:1~shs:k"
	for _, s := range []string{
		"ssb:address/multiserver?multiserverAddress=net%3Ah.x%3A1~shs%3Ak", "ssb:address/multiserver/?multiserverAddress=" + want,
		"ssb:address:multiserver:?a=b&multiserverAddress=" + want + "&multiserverAddress=net:other~shs", "ssb://address/multiserver/x?multiserver%41ddress=" + want + "#x",
	} {
		if ref, err := ParseURI(s); err != nil || ref.String() != want {
			t.Errorf("%s: %v, %v", s, ref, err)
		}
	}
	for _, s := range []string{
		"ssb://address:multiserver?multiserverAddress=" + want, "ssb:address/multi?multiserverAddress=" + want, "ssb:address/multiserver?multiserverAddress=",
		"ssb:address/multiserver#?multiserverAddress=" + want, "ssb:address/multiserver",
	} {
		if ref, err := ParseURI(s); err == nil {
			t.Errorf("%s: %v", s, ref)
		}
	}
}

// A query that is not UTF-8 reads as in node: U+FFFD for each byte that begins nothing, and for each character that breaks off.
func TestParseLinkLossy(t *testing.T) {
	t.Parallel()
	id := BlobID{1}.String()
	for in, want := range map[string]string{
		"%ed%a0%80": "\ufffd\ufffd\ufffd", "%f8%80": "\ufffd\ufffd", "%e2%82": "\ufffd", "%e2%82%41": "\ufffdA", "%f0%9f%98": "\ufffd", "%c3%c3": "\ufffd\ufffd",
		"%f0%9f%98%80": "\U0001f600", "%ef%bf%bd%ef": "\ufffd\ufffd", "%c0%af": "\ufffd\ufffd", "%f4%90%80": "\ufffd\ufffd\ufffd",
	} {
		if _, query, err := ParseLink(id + "?a=" + in); err != nil || query.Get("a") != want {
			t.Errorf("%s: %q, %v; want %q", in, query, err, want)
		}
	}
}

func TestParseExperimental(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"ssb:experimental?", "ssb://experimental?", "ssb://experimental/?", "ssb://experimental/x?"} {
		query, ok := ParseExperimental(s + "a=b+c%2B&&x&a=%zz;d#e=f")
		if !ok || len(query) != 2 || query.Get("a") != "b c+" || query["a"][1] != "%zz;d" || !query.Has("x") {
			t.Errorf("%s: %q, %v", s, query, ok)
		}
	}
	for _, s := range []string{"", "ssb:experimental", "ssb:experimental/?a=b", "ssb:experimentals?a=b", "ssb://experimentals?a=b", "ssb:experimental#?a=b",
		"ssb:experimental?" + strings.Repeat("a", 4*maxAddress)} {
		if query, ok := ParseExperimental(s); ok {
			t.Errorf("%.40s: %q", s, query)
		}
	}
}

func TestParseMulti(t *testing.T) {
	t.Parallel()
	m, err := ParseMulti("net:h!:!!x:80~shs:k:seed;unix:/a!~b!;c~noauth;tunnel::x")
	if err != nil {
		t.Fatal(err)
	}
	want := Multi{
		{{Name: "net", Data: []string{"h:!x", "80"}}, {Name: "shs", Data: []string{"k", "seed"}}},
		{{Name: "unix", Data: []string{"/a~b;c"}}, {Name: "noauth"}},
		{{Name: "tunnel", Data: []string{"", "x"}}},
	}
	if fmt.Sprint(m) != fmt.Sprint(want) || len(m) != len(want) {
		t.Errorf("%v, want %v", m, want)
	}
	for _, s := range []string{
		"", "n", "Net:x", "net:", "ne~", "net;", ";net", "net~~shs", "net:a b", "net:é", "net:!x", "net:!", "net:a\x7f",
		"net:a\n", "1net", "-net", "net:a~:b", strings.Repeat("net;", 1<<16) + "net",
	} {
		_, err := ParseMulti(s)
		if ok := s == "net:"; ok != (err == nil) {
			t.Errorf("%.40q: %v", s, err)
		}
		if err != nil && (!errors.Is(err, ErrAddress) || len(err.Error()) > 300) {
			t.Errorf("%.40q: error %v", s, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	key := testKey(8).ID()
	b64 := key.String()[1:45]
	for _, c := range []struct{ in, out, dial string }{
		{"net:1.2.3.4:8008~shs:" + b64, "", "1.2.3.4:8008"},
		{"net:raspberrypi:8008~shs:" + b64, "", "raspberrypi:8008"},
		{"net:::1:8008~shs:" + b64, "", "[::1]:8008"},
		{"net:!:!:1:8008~shs:" + b64, "net:::1:8008~shs:" + b64, "[::1]:8008"},
		{"net:[::1]:8008~shs:" + b64, "net:::1:8008~shs:" + b64, "[::1]:8008"},
		{"net:fe80::1%eth0:8008~shs:" + b64, "", "[fe80::1%eth0]:8008"},
		{"ws://pub.example:80~shs:" + b64, "", "pub.example:80"},
		{"ws:pub.example:80~shs:" + b64, "ws://pub.example:80~shs:" + b64, "pub.example:80"},
		{"wss://pub.example:443~shs:" + b64 + ";net:pub.example:8008~shs:" + b64, "wss://pub.example:443~shs:" + b64, "pub.example:443"},
		{"unix:/a~noauth;net:h.x:1~shs:" + b64, "net:h.x:1~shs:" + b64, "h.x:1"},
		{"net:h.x:1~shs:" + b64 + "~gzip;net:h.x:2~shs:" + b64, "net:h.x:2~shs:" + b64, "h.x:2"},
		{"onion:abcdef.onion:8008~shs:" + b64, "", "abcdef.onion:8008"},
		{"pub.example:8008:" + key.String(), "net:pub.example:8008~shs:" + b64, "pub.example:8008"},
		{"::1:8008:" + key.String(), "net:::1:8008~shs:" + b64, "[::1]:8008"},
		{"wss://pub.example:443:" + key.String(), "wss://pub.example:443~shs:" + b64, "pub.example:443"},
	} {
		a, err := ParseAddress(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if c.out == "" {
			c.out = c.in
		}
		if a.String() != c.out || a.HostPort() != c.dial || a.Key != key {
			t.Errorf("%s: %s %s %s", c.in, a, a.HostPort(), a.Key)
		}
	}
	for _, s := range []string{
		"", "~", "net:h.x:1~shs:", "net:h.x:1~shs", "net:h.x:1", "net~shs:" + b64, "net:1~shs:" + b64, "net::1~shs:" + b64,
		"net:h.x:~shs:" + b64, "net:h.x:-1~shs:" + b64, "net:h.x:+1~shs:" + b64, "net:h.x:65536~shs:" + b64,
		"net:h.x:000001~shs:" + b64, "net:1.2.3:1~shs:" + b64, "net:999.1.1.1:1~shs:" + b64, "net:[h.x]:1~shs:" + b64,
		"net:[::1:1~shs:" + b64, "net:-h:1~shs:" + b64, "net:h..x:1~shs:" + b64, "net:h/x:1~shs:" + b64,
		"net:h.x:1~noauth", "net:h.x:1~shs2:" + b64, "net:h.x:1~shs:" + b64 + "~gzip", "net:h.x:1~shs:" + b64[:43] + "A",
		"h.x:1:" + key.String() + "~", "net://h.x:1:" + key.String(), "h.x:" + key.String(), "h.x:1:" + b64, key.String(), "tunnel:" + key.String() + ":" + key.String() + "~shs:" + b64,
	} {
		if a, err := ParseAddress(s); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v, %v", s, a, err)
		}
	}
	room := testKey(9).ID()
	tunnel := "tunnel:" + room.String() + ":" + key.String()
	for _, s := range []string{tunnel + "~shs:" + b64, tunnel + ":0~shs:" + b64, "unix:/a~noauth;" + tunnel + "~shs:" + b64} {
		a, err := ParseAddress(s)
		if err != nil || a != Tunnel(room, key) || a.String() != tunnel+"~shs:"+b64 || a.HostPort() != "" {
			t.Errorf("%s is %v, %v, to dial at %q", s, a, err, a.HostPort())
		}
	}
	for _, s := range []string{
		"tunnel:" + room.String() + "~shs:" + b64, tunnel + ":1~shs:" + b64, tunnel + ":~shs:" + b64, tunnel + ":0:0~shs:" + b64,
		"tunnel:" + key.String() + ":" + room.String() + "~shs:" + b64, "tunnel:" + room.String() + ":" + b64 + "~shs:" + b64, tunnel + "~noauth",
		"tunnel~shs:" + b64, tunnel + "~shs:" + b64 + "~gzip", "tunnel:" + room.String()[1:] + ":" + key.String() + "~shs:" + b64,
	} {
		if a, err := ParseAddress(s); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v, %v", s, a, err)
		}
	}
	if got := (Address{Host: "h", Port: 1, Key: key}).String(); got != "net:h:1~shs:"+b64 {
		t.Errorf("no protocol prints as %s", got)
	}
	m, err := ParseMulti("net:a:1~shs:" + b64 + ";unix:/x~noauth;ws://b:2~shs:" + b64)
	if err != nil {
		t.Fatal(err)
	}
	if all := m.Addresses(); len(all) != 2 || all[0].Host != "a" || all[1].Host != "b" {
		t.Errorf("addresses %v", all)
	}
}

func TestIDsAsTextInJSON(t *testing.T) {
	t.Parallel()
	in := struct {
		F ID
		M MsgID
		B BlobID
		A Address
	}{testKey(9).ID(), MsgID{1}, BlobID{2}, Address{Proto: "net", Host: "::1", Port: 8008, Key: testKey(9).ID()}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	out := in
	out.F, out.M, out.B, out.A = ID{}, MsgID{}, BlobID{}, Address{}
	if err := json.Unmarshal(b, &out); err != nil || out != in {
		t.Errorf("%s: %v, %v", b, out, err)
	}
	if err := json.Unmarshal([]byte(`{"F":"@AA==.ed25519"}`), &out); !errors.Is(err, ErrRef) {
		t.Errorf("short id: %v", err)
	}
}

func TestErrorsQuoteOnlyTheStart(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	_, e1 := ParseID(long)
	_, e2 := ParseURI("ssb:" + long)
	_, e3 := ParseAddress(long)
	_, e4 := ParseAddress("net:" + long[:100] + "~shs:" + long[:4000])
	_, _, e5 := ParseLink("%" + long)
	for i, err := range []error{e1, e2, e3, e4, e5} {
		if err == nil || len(err.Error()) > 300 {
			t.Errorf("case %d: %.400v", i, err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	k := testKey(1)
	msg := bytes.Repeat([]byte("m"), 600)
	sig := k.Sign(msg)
	id := k.ID()
	b.Run("same key", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !Verify(id, msg, &sig) {
				b.Fatal("refused")
			}
		}
	})
	b.Run("another key each time", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			keys[id[0]].Store(nil)
			if !Verify(id, msg, &sig) {
				b.Fatal("refused")
			}
		}
	})
}

func BenchmarkSign(b *testing.B) {
	k := testKey(1)
	msg := bytes.Repeat([]byte("m"), 600)
	for b.Loop() {
		k.Sign(msg)
	}
}
