package boxs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"charkha/identity"
	"charkha/internal/vectors"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type boxCase struct {
	ID         int        `json:"id"`
	Kind       string     `json:"kind"`
	What       string     `json:"what"`
	Key        hexBytes   `json:"key"`
	Nonce      hexBytes   `json:"nonce"`
	Writes     []hexBytes `json:"writes"`
	Ciphertext hexBytes   `json:"ciphertext"`
	Plain      hexBytes   `json:"plain_before_error"`
}

// What npm pull-box-stream wrote is opened, and written the same where it was cut the same; what is damaged gives what stands
// before the damage, and an error.
func TestVectors(t *testing.T) {
	t.Parallel()
	sealed, opened, bad := 0, 0, 0
	for _, c := range vectors.JSONLines[boxCase](t, "box-stream", "generated.jsonl.gz") {
		key, nonce := Key(c.Key), [24]byte(c.Nonce)
		var plain []byte
		same := true
		for i, w := range c.Writes {
			plain = append(plain, w...)
			same = same && (len(w)%maxBody == 0 || i == len(c.Writes)-1)
		}
		var want error
		switch c.Kind {
		case "ok":
			opened++
			if same {
				sealed++
				var b bytes.Buffer
				if err := seal(&b, iotest.HalfReader(bytes.NewReader(plain)), key, nonce); err != nil || !bytes.Equal(b.Bytes(), c.Ciphertext) {
					t.Errorf("%d: sealed otherwise, %v", c.ID, err)
				}
			}
		case "bad":
			bad++
			plain = c.Plain
			if c.What != "trailing-after-goodbye" {
				want = ErrDamaged // for a connection that is cut between header and body, too
			}
		default:
			t.Fatalf("kind %q", c.Kind)
		}
		r, err := open(bytes.NewReader(c.Ciphertext), key, nonce)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(iotest.OneByteReader(r))
		}
		if !bytes.Equal(got, plain) || !errors.Is(err, want) {
			t.Errorf("%d %s: %d bytes, %v; want %d, %v", c.ID, c.What, len(got), err, len(plain), want)
		}
	}
	if sealed < 10 || opened < 40 || bad < 10 {
		t.Errorf("%d sealed, %d opened, %d bad", sealed, opened, bad)
	}
}

// npmLink is what npm ssb-blob-files makes of npmContent: with npm pull-box-stream 1.0.13, 2026.
const npmLink = "&te3zUYOEpupimjJqyw+mFDHxINcmuNS0eYPhEg+k7Yc=.sha256?unbox=4+VT2PNlkEauQSOvRQf+i5gaRN3RYwFfXlp6g0i1K8I=.boxs"

var npmContent = strings.Repeat("charkha ", 625) + "end"

func TestLinkAsJSMakesIt(t *testing.T) {
	t.Parallel()
	key, err := KeyFor(strings.NewReader(npmContent))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Seal(&b, strings.NewReader(npmContent), key); err != nil {
		t.Fatal(err)
	}
	id := identity.BlobID(sha256.Sum256(b.Bytes()))
	if got := Link(id, key); got != npmLink {
		t.Errorf("%s, want %s", got, npmLink)
	}
	for _, text := range []string{npmLink, id.String() + "?unbox=" + strings.ReplaceAll(key.Text(), "+", " "), strings.TrimSuffix(npmLink, ".boxs")} {
		if gotID, got, err := ParseLink(text); err != nil || gotID != id || got == nil || *got != key {
			t.Errorf("%s: %s, %v", text, gotID, err)
		}
	}
	for _, text := range []string{id.String(), id.URI()} {
		if gotID, got, err := ParseLink(text); err != nil || gotID != id || got != nil {
			t.Errorf("%s: %s, %v, %v", text, gotID, got, err)
		}
	}
	for _, text := range []string{"", "&", id.String() + "?unbox=", id.String() + "?unbox=AAAA.boxs", npmLink + "x", identity.MsgID{1}.String(), identity.ID{1}.String(), identity.ID{1}.URI()} {
		if _, _, err := ParseLink(text); err == nil {
			t.Errorf("%q is taken for the link to a blob", text)
		}
	}
	if got := fmt.Sprintf("%v %s %+v", key, key, struct{ K Key }{key}); strings.Contains(got, key.Text()[:10]) || strings.Contains(got, fmt.Sprint(key[0], " ", key[1])) {
		t.Errorf("a key is printed: %s", got)
	}
	if _, err := Open(bytes.NewReader(b.Bytes()), Key{1}); !errors.Is(err, ErrDamaged) {
		t.Errorf("another key: %v", err)
	}
}

// chop encrypts with packets of any length, as writers do that do not fill them.
func chop(t *testing.T, plain []byte, key Key, rnd *rand.Rand) (boxed []byte) {
	for n := uint64(0); ; n += 2 {
		var part bytes.Buffer
		size := min(len(plain), 1+rnd.IntN(maxBody))
		// One packet and an end, of which the end is taken away unless it is the last.
		if err := seal(&part, bytes.NewReader(plain[:size]), key, *nonceOf(&[24]byte{}, n)); err != nil {
			t.Fatal(err)
		}
		if plain = plain[size:]; len(plain) == 0 {
			return append(boxed, part.Bytes()...)
		}
		boxed = append(boxed, part.Bytes()[:part.Len()-headerSize]...)
	}
}

// A reader can be asked for any part in any order.
func TestSeek(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		plain := make([]byte, rnd.IntN(5*maxBody))
		for i := range plain {
			plain[i] = byte(rnd.Uint32())
		}
		key := Key{byte(seed)}
		if r, err := Open(iotest.HalfReader(bytes.NewReader(chop(t, []byte("abc"), Key{}, rand.New(rand.NewPCG(1, 1))))), Key{}); err != nil {
			t.Error(err)
		} else if text, err := io.ReadAll(r); string(text) != "abc" || err != nil {
			t.Errorf("read forwards: %q, %v", text, err)
		} else if _, err := r.Seek(0, io.SeekStart); err != nil {
			t.Error(err)
		} else if _, err := r.Read(make([]byte, 1)); err == nil {
			t.Error("read backwards")
		}
		r, err := Open(bytes.NewReader(chop(t, plain, key, rnd)), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, plain); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// Every change of a byte is an error by the end, and nothing before it is wrong.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	plain := []byte(strings.Repeat("0123456789", 450)) // two packets
	var b bytes.Buffer
	if err := Seal(&b, bytes.NewReader(plain), Key{1}); err != nil {
		t.Fatal(err)
	}
	boxed := b.Bytes()
	check := func(what string, boxed []byte) {
		t.Helper()
		r, err := Open(bytes.NewReader(boxed), Key{1})
		var got []byte
		if err == nil {
			got, err = io.ReadAll(r)
		}
		if !errors.Is(err, ErrDamaged) || !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
	for i := range boxed {
		boxed[i] ^= 4
		check(fmt.Sprintf("byte %d", i), boxed)
		boxed[i] ^= 4
		check(fmt.Sprintf("cut at %d", i), boxed[:i])
	}
}

// What a disk cannot read is told as it is.
func TestErrorsOfTheReader(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	if err := Seal(io.Discard, iotest.ErrReader(broken), Key{}); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := KeyFor(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Error(err)
	}
	if r, err := Open(iotest.HalfReader(bytes.NewReader(chop(t, []byte("abc"), Key{}, rand.New(rand.NewPCG(1, 1))))), Key{}); err != nil {
		t.Error(err)
	} else if text, err := io.ReadAll(r); string(text) != "abc" || err != nil {
		t.Errorf("read forwards: %q, %v", text, err)
	} else if _, err := r.Seek(0, io.SeekStart); err != nil {
		t.Error(err)
	} else if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("read backwards")
	}
	r, err := Open(bytes.NewReader(chop(t, []byte("abc"), Key{}, rand.New(rand.NewPCG(1, 1)))), Key{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Seek(-1, io.SeekStart); err == nil {
		t.Error("before the beginning")
	}
	if n, err := r.Seek(100, io.SeekStart); n != 100 || err != nil {
		t.Error(n, err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d, %v", n, err)
	}
}

// Whatever is read: no panic, an end, and the same again after going back.
func FuzzOpen(f *testing.F) {
	var b bytes.Buffer
	if err := Seal(&b, strings.NewReader(npmContent), Key{}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes(), int64(5))
	f.Add(b.Bytes()[:100], int64(0))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, boxed []byte, at int64) {
		r, err := Open(bytes.NewReader(boxed), Key{})
		if err != nil {
			return
		}
		all, err := io.ReadAll(r)
		if err != nil || at < 0 || at > int64(len(all)) {
			return
		}
		if size, err := r.Seek(0, io.SeekEnd); err != nil || size != int64(len(all)) {
			t.Fatalf("%d bytes, and the end is at %d, %v", len(all), size, err)
		}
		if _, err := r.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(r); err != nil || !bytes.Equal(rest, all[at:]) {
			t.Fatalf("from %d: %d bytes, %v", at, len(rest), err)
		}
	})
}

func FuzzParseLink(f *testing.F) {
	f.Add(npmLink)
	f.Add(identity.BlobID{1}.URI())
	f.Fuzz(func(t *testing.T, text string) {
		id, key, err := ParseLink(text)
		if err != nil || key == nil {
			return
		}
		again, k, err := ParseLink(Link(id, *key))
		if err != nil || again != id || *k != *key {
			t.Fatalf("%s: %s, %v", text, again, err)
		}
	})
}
