package identity

import (
	"bytes"
	stded25519 "crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"charkha/internal/vectors"
)

// hexBytes is a byte string written in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.AppendDecode(nil, b)
	return err
}

type signatureCase struct {
	ID      json.Number `json:"id"`
	Key     hexBytes    `json:"pk"`
	Msg     hexBytes    `json:"msg_hex"`
	Sig     hexBytes    `json:"sig"`
	Answers struct {
		Libsodium bool `json:"libsodium_1_0_18"`
	} `json:"answers"`
}

func TestVectorVerify(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"ed25519-speccheck", "ed25519-cctv", "ed25519-zip215", "ed25519-wycheproof"} {
		t.Run(set, func(t *testing.T) {
			cases := vectors.JSON[[]signatureCase](t, set, "cases.json")
			if len(cases) == 0 {
				t.Fatal("no cases")
			}
			for _, c := range cases {
				// What has another length never reaches Verify: its types do not hold it. (libsodium's binding for JS
				// ignores what follows the 64th byte; package classic cuts that off.)
				got := len(c.Key) == 32 && len(c.Sig) == 64 && Verify(ID(c.Key), c.Msg, (*[64]byte)(c.Sig))
				want := c.Answers.Libsodium && len(c.Sig) == 64
				if got != want {
					t.Errorf("case %s: Verify says %v, libsodium %v", c.ID, got, want)
				}
			}
		})
	}
}

func TestVectorSign(t *testing.T) {
	t.Parallel()
	type signCase struct {
		Seed hexBytes `json:"seed"`
		Key  hexBytes `json:"pk"`
		Msg  hexBytes `json:"msg_hex"`
		Sig  hexBytes `json:"sig"`
	}
	cases := vectors.JSON[[]signCase](t, "ed25519-signing", "sign.json")
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		k := FromSeed([32]byte(c.Seed))
		if id := k.ID(); !bytes.Equal(id[:], c.Key) {
			t.Fatalf("seed %x makes %x, want %x", c.Seed, id, c.Key)
		}
		sig := k.Sign(c.Msg)
		if !bytes.Equal(sig[:], c.Sig) {
			t.Errorf("seed %x: signature %x, want %x", c.Seed, sig, c.Sig)
		}
		if !Verify(k.ID(), c.Msg, &sig) {
			t.Errorf("seed %x: own signature refused", c.Seed)
		}
		for _, bit := range []int{0, 255, 256, 511} {
			bent := sig
			bent[bit/8] ^= 1 << (bit % 8)
			if Verify(k.ID(), c.Msg, &bent) {
				t.Errorf("seed %x: signature with bit %d flipped accepted", c.Seed, bit)
			}
		}
	}
}

func TestVectorX25519(t *testing.T) {
	t.Parallel()
	type publicCase struct {
		Key   hexBytes `json:"ed25519_pk"`
		Want  hexBytes `json:"x25519_pk"`
		Valid bool     `json:"valid"`
	}
	public := vectors.JSON[[]publicCase](t, "ed25519-signing", "pk_to_x25519.json")
	if len(public) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range public {
		got, err := ID(c.Key).X25519()
		if c.Valid && (err != nil || !bytes.Equal(got[:], c.Want)) {
			t.Errorf("%x: %x, %v; want %x", c.Key, got, err, c.Want)
		}
		if !c.Valid && !errors.Is(err, ErrPoint) {
			t.Errorf("%x: %v, want a refusal", c.Key, err)
		}
	}
	type secretCase struct {
		Seed hexBytes `json:"seed"`
		Want hexBytes `json:"x25519_sk"`
	}
	secret := vectors.JSON[[]secretCase](t, "ed25519-signing", "sk_to_x25519.json")
	if len(secret) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range secret {
		if got := FromSeed([32]byte(c.Seed)).X25519(); !bytes.Equal(got[:], c.Want) {
			t.Errorf("seed %x: %x, want %x", c.Seed, got, c.Want)
		}
	}
}

func TestVectorSecretFiles(t *testing.T) {
	t.Parallel()
	const set = "secret-files"
	files, err := os.ReadDir(vectors.Dir(t, set))
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, f := range files {
		if f.Name() == "PROVENANCE.md" {
			continue
		}
		data := vectors.Read(t, set, f.Name())
		k, err := ParseSecret(data)
		// Whether a file must be taken is worked out anew: a private key of 64 bytes, seed and public key, and no other
		// public key beside it.
		private := keyIn(data, "private", 64)
		if private != nil && !bytes.Equal(stded25519.NewKeyFromSeed(private[:32]), private) {
			private = nil
		}
		if private != nil && bytes.Contains(data, []byte(`"public"`)) && !bytes.Equal(keyIn(data, "public", 32), private[32:]) {
			private = nil
		}
		if private == nil {
			if err == nil {
				t.Errorf("%s: accepted as %s", f.Name(), k.ID())
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", f.Name(), err)
			continue
		}
		read++
		checkSecret(t, f.Name(), data, k)
	}
	if read == 0 {
		t.Error("no secret file was read")
	}
}

// keyIn finds a key of a length in a secret file, nil when there is none.
func keyIn(data []byte, field string, length int) []byte {
	m := regexp.MustCompile(`"` + field + `":\s*"([A-Za-z0-9+/=]+)\.ed25519"`).FindSubmatch(data)
	if m == nil {
		return nil
	}
	key, err := base64.StdEncoding.DecodeString(string(m[1]))
	if err != nil || len(key) != length {
		return nil
	}
	return key
}

func TestVectorFixtureSecrets(t *testing.T) {
	t.Parallel()
	all := vectors.JSON[[]json.RawMessage](t, "feeds-fixtures", "secrets.json")
	if len(all) == 0 {
		t.Fatal("no cases")
	}
	for i, data := range all {
		k, err := ParseSecret(data)
		if err != nil {
			t.Errorf("secret %d: %v", i, err)
			continue
		}
		checkSecret(t, strconv.Itoa(i), data, k)
	}
}

// checkSecret compares what was read with what the file says of itself, and takes it through our own file.
func checkSecret(t *testing.T, name string, data []byte, k KeyPair) {
	t.Helper()
	if !bytes.Contains(data, []byte(`"`+k.ID().String()+`"`)) {
		t.Errorf("%s: read as %s, which the file does not say", name, k.ID())
	}
	path := filepath.Join(t.TempDir(), "secret")
	if err := CreateSecret(path, k); err != nil {
		t.Fatal(err)
	}
	if again, err := LoadSecret(path); err != nil || again != k {
		t.Errorf("%s: written and read again: %v, %v", name, again, err)
	}
}

// refCase is one string with the answers of the npm packages. A predicate that is absent is false; a value is of the type
// the package returned.
type refCase struct {
	S      string `json:"s"`
	SSBRef struct {
		IsFeedID     bool            `json:"isFeedId"`
		IsMsgID      bool            `json:"isMsgId"`
		IsBlobID     bool            `json:"isBlobId"`
		IsLink       bool            `json:"isLink"`
		IsAddress    bool            `json:"isAddress"`
		ParseLink    json.RawMessage `json:"parseLink"`
		ParseAddress json.RawMessage `json:"parseAddress"`
	} `json:"ssb_ref"`
	URI2 *struct {
		Is                   []string        `json:"is"`
		ToFeedSigil          json.RawMessage `json:"toFeedSigil"`
		ToMessageSigil       json.RawMessage `json:"toMessageSigil"`
		ToBlobSigil          json.RawMessage `json:"toBlobSigil"`
		ToMultiserverAddress json.RawMessage `json:"toMultiserverAddress"`
		FromFeedSigil        *string         `json:"fromFeedSigil"`
		FromMessageSigil     *string         `json:"fromMessageSigil"`
		FromBlobSigil        *string         `json:"fromBlobSigil"`
	} `json:"ssb_uri2"`
	Multiserver struct {
		Check  bool            `json:"check"`
		Decode json.RawMessage `json:"decode"`
	} `json:"multiserver_address"`
}

func refCases(t *testing.T) []refCase {
	cases := vectors.JSON[[]refCase](t, "refs-and-addresses", "strings.json")
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	return cases
}

// text reads a raw answer that is a string, else "".
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// loose finds what ssb-ref takes for a reference because the dot in its regular expressions is any character and a feed
// may end in sha256 too: rule 1 of the package doc.
var loose = regexp.MustCompile(`(?s)^(?:@[A-Za-z0-9+/]{43}=(?:.sha256|[^.]ed25519)|[%&][A-Za-z0-9+/]{43}=[^.]sha256)(?:\?.*)?$`)

func TestVectorRefs(t *testing.T) {
	t.Parallel()
	for _, c := range refCases(t) {
		if loose.MatchString(c.S) {
			if _, _, err := ParseLink(c.S); err == nil {
				t.Errorf("%q is a reference, against rule 1", c.S)
			}
			continue
		}
		feed, feedErr := ParseID(c.S)
		msg, msgErr := ParseMsgID(c.S)
		blob, blobErr := ParseBlobID(c.S)
		for _, p := range []struct {
			name string
			err  error
			want bool
			out  string
		}{
			{"feed", feedErr, c.SSBRef.IsFeedID, feed.String()},
			{"message", msgErr, c.SSBRef.IsMsgID, msg.String()},
			{"blob", blobErr, c.SSBRef.IsBlobID, blob.String()},
		} {
			if got := p.err == nil; got != p.want {
				t.Errorf("%q is a %s id: %v, ssb-ref says %v", c.S, p.name, got, p.want)
			}
			if p.err == nil && p.out != c.S {
				t.Errorf("%q prints as %q", c.S, p.out)
			}
			if p.err != nil && !errors.Is(p.err, ErrRef) {
				t.Errorf("%q: error %v is not ErrRef", c.S, p.err)
			}
		}
		ref, query, err := ParseLink(c.S)
		if got := err == nil; got != c.SSBRef.IsLink {
			t.Errorf("%q is a link: %v, ssb-ref says %v", c.S, got, c.SSBRef.IsLink)
		}
		var link struct {
			Link  string         `json:"link"`
			Query map[string]any `json:"query"`
		}
		if err != nil || json.Unmarshal(c.SSBRef.ParseLink, &link) != nil {
			continue
		}
		if ref.String() != link.Link {
			t.Errorf("%q links to %q, ssb-ref says %q", c.S, ref, link.Link)
		}
		if len(query) != len(link.Query) {
			t.Errorf("%q: query %v, ssb-ref says %v", c.S, query, link.Query)
		}
		for name, want := range link.Query {
			if s, ok := want.(string); ok && (len(query[name]) != 1 || query[name][0] != s) {
				t.Errorf("%q: %s is %q, ssb-ref says %q", c.S, name, query[name], s)
			}
		}
	}
}

func TestVectorURIs(t *testing.T) {
	t.Parallel()
	for _, c := range refCases(t) {
		if c.URI2 == nil {
			if _, err := ParseURI(c.S); err == nil {
				t.Errorf("%q is a URI", c.S)
			}
			continue
		}
		for _, from := range []*string{c.URI2.FromFeedSigil, c.URI2.FromMessageSigil, c.URI2.FromBlobSigil} {
			ref, query, err := ParseLink(c.S)
			if err != nil || query != nil || from == nil {
				continue // ssb-uri2 converts what is no id as well
			}
			if got := ref.URI(); got != *from {
				t.Errorf("%q as a URI is %q, ssb-uri2 says %q", c.S, got, *from)
			}
			if again, err := ParseURI(*from); err != nil || again.String() != c.S {
				t.Errorf("%q back is %v, %v", *from, again, err)
			}
		}
		ref, err := ParseURI(c.S)
		want := text(c.URI2.ToFeedSigil) + text(c.URI2.ToMessageSigil) + text(c.URI2.ToBlobSigil)
		if want == "" && strings.Contains(" "+strings.Join(c.URI2.Is, " ")+" ", " isAddressSSBURI ") {
			want = text(c.URI2.ToMultiserverAddress)
		}
		if want == "" || want == "throws" {
			if err == nil {
				t.Errorf("%q reads as %s, which ssb-uri2 refuses", c.S, ref)
			}
			continue
		}
		_, _, linkErr := ParseLink(want)
		_, multiErr := ParseMulti(want)
		switch {
		case err == nil && ref.String() != want:
			t.Errorf("%q reads as %s, ssb-uri2 says %s", c.S, ref, want)
		case err != nil && linkErr != nil && multiErr != nil:
			// Rule 2: what it names is no reference.
		case err != nil && linkErr == nil && partsOf(c.S) != 3:
			// Rule 2: there is something between the format and the key.
		case err != nil && strings.ContainsAny(c.S, " \t\r\n"):
			// Rule 2: white space in it.
		case err != nil:
			t.Errorf("%q: %v, ssb-uri2 says %s", c.S, err, want)
		}
		if err == nil {
			if again, err := ParseURI(ref.URI()); err != nil || again.String() != ref.String() {
				t.Errorf("%q printed as %q reads as %v, %v", c.S, ref.URI(), again, err)
			}
		}
	}
}

// partsOf counts the parts of the path of an ssb: URI.
func partsOf(uri string) int {
	path, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(uri, "ssb:"), "//"), "?")
	path, _, _ = strings.Cut(path, "#")
	return 1 + strings.Count(path, ":") + strings.Count(path, "/")
}

func TestVectorMultiserver(t *testing.T) {
	t.Parallel()
	for _, c := range refCases(t) {
		m, err := ParseMulti(c.S)
		if got := err == nil; got != c.Multiserver.Check && len(c.S) <= maxAddress {
			t.Errorf("%q is a multiserver address: %v (%v), multiserver-address says %v", c.S, got, err, c.Multiserver.Check)
		}
		if err != nil {
			continue
		}
		if got := m.String(); got != c.S {
			t.Errorf("%q prints as %q", c.S, got)
		}
		var want [][]struct {
			Name string   `json:"name"`
			Data []string `json:"data"`
		}
		if json.Unmarshal(c.Multiserver.Decode, &want) != nil {
			continue
		}
		flat := func(b []byte, name string, data []string) []byte {
			return append(b, "|"+name+"="+strings.Join(data, ",")...)
		}
		var got, exp []byte
		for _, parts := range m {
			got = append(got, ';')
			for _, p := range parts {
				got = flat(got, p.Name, p.Data)
			}
		}
		for _, parts := range want {
			exp = append(exp, ';')
			for _, p := range parts {
				exp = flat(exp, p.Name, p.Data)
			}
		}
		if !bytes.Equal(got, exp) {
			t.Errorf("%q decodes as %s, multiserver-address says %s", c.S, got, exp)
		}
	}
}

func TestVectorAddresses(t *testing.T) {
	t.Parallel()
	agreed, tunnels := 0, 0
	for _, c := range refCases(t) {
		got, err := ParseAddress(c.S)
		if got.Proto == "tunnel" {
			tunnels++
		}
		// What ssb-ref says: parseAddress for multiserver addresses; for the older form, where parseAddress splits
		// anything at all at its colons, isAddress decides.
		var want struct {
			Host string  `json:"host"`
			Port float64 `json:"port"`
			Key  string  `json:"key"`
		}
		known := json.Unmarshal(c.SSBRef.ParseAddress, &want) == nil && want.Key != "" &&
			(strings.Contains(c.S, "~") || c.SSBRef.IsAddress)
		host := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(want.Host, "wss:"), "ws:"), "//")
		switch {
		case err == nil && known && host == got.Host && want.Port == float64(got.Port) && want.Key == got.Key.String():
			agreed++
		case err != nil && !known:
		case known && stricter(c.S, host) && (err != nil || strings.Contains(c.S, ";")):
		case err == nil && !known && wider(c.S, got):
		default:
			t.Errorf("%q is %v, %v; ssb-ref says %s", c.S, got, err, c.SSBRef.ParseAddress)
		}
		if err == nil {
			if again, err := ParseAddress(got.String()); err != nil || again != got {
				t.Errorf("%q prints as %q and reads again as %v, %v", c.S, got, again, err)
			}
			if m, err := ParseMulti(got.String()); err != nil || m.String() != got.String() {
				t.Errorf("%q prints as %q, which is %v, %v", c.S, got, m, err)
			}
		}
	}
	if agreed == 0 || tunnels == 0 {
		t.Errorf("%d addresses and %d tunnels were read", agreed, tunnels)
	}
}

var (
	netLike = regexp.MustCompile(`^(?:net|wss?|onion)$`)
	looseV4 = regexp.MustCompile(`^(?:\d{1,3}\.){3}\d{1,3}$`)
	// The host of an address that is not for WebSockets.
	schemeInside = regexp.MustCompile(`(?:^|;)(?:net|onion):wss?:`)

	looseV6 = regexp.MustCompile(`(?i)^(?:::)?(?:(?:(?:\d{1,3}\.){3}(?:\d{1,3}))?(?:[0-9a-f]){0,4}:{0,2}){1,8}(?:::)?$`)
)

// stricter holds the addresses that ssb-ref takes and we refuse: rules 3 and 4 of the package doc, and 1 in the older
// form. It looks at the alternative that ssb-ref chose.
func stricter(s, host string) bool {
	if (looseV4.MatchString(host) || looseV6.MatchString(host)) && !parseIP(host).IsValid() || schemeInside.MatchString(s) {
		return true // rule 3: the host
	}
	if !strings.Contains(s, "~") {
		parts := strings.Split(s, ":")
		return len(parts) < 3 || loose.MatchString(parts[len(parts)-1]) || badPort(parts[len(parts)-2])
	}
	m, err := ParseMulti(s)
	if err != nil {
		return false
	}
	for _, parts := range m {
		if len(parts) > 1 && netLike.MatchString(parts[0].Name) && strings.HasPrefix(parts[1].Name, "shs") {
			return len(parts) > 2 || parts[1].Name != "shs" || // rule 4
				badPort(parts[0].Data[len(parts[0].Data)-1]) // rule 3: the port
		}
	}
	return false
}

func parseIP(s string) netip.Addr {
	ip, _ := netip.ParseAddr(s)
	return ip
}

func badPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err != nil || n < 0 || n > 65535 || len(s) > 5 || strings.Trim(s, "0123456789") != ""
}

// wider holds the addresses that we take and ssb-ref refuses: rules 5 to 7 of the package doc.
func wider(s string, got Address) bool {
	if got.Proto == "tunnel" { // rule 7
		start := "tunnel:" + got.Room.String() + ":" + got.Key.String()
		return strings.HasPrefix(s, start+"~shs:") || strings.HasPrefix(s, start+":0~shs:")
	}
	if rest, ok := strings.CutPrefix(s, got.Proto+":"); ok && strings.HasPrefix(got.Proto, "ws") && !strings.HasPrefix(rest, "//") {
		return true // rule 6
	}
	return strings.Contains(s, ";") || // rule 5
		!strings.Contains(got.Host, ".") || strings.Contains(got.Host, "_") || strings.Contains(got.Host, "--") ||
		strings.Contains(got.Host[strings.LastIndexByte(got.Host, '.'):], "-") || strings.Contains(got.Host, "%") || strings.HasSuffix(got.Host, ".") // rule 6
}
