package identity

import (
	"bytes"
	stded25519 "crypto/ed25519"
	"errors"
	"testing"
)

// FuzzRefs: whatever is taken prints as it was read, and no text is two kinds of id.
func FuzzRefs(f *testing.F) {
	f.Add(testKey(1).ID().String())
	f.Add(MsgID{1}.String() + "?unbox=a+b%20%zz&&=&x")
	f.Add(BlobID{1}.String())
	f.Add("@" + testKey(1).ID().String()[1:44] + "\n.ed25519")
	f.Fuzz(func(t *testing.T, s string) {
		kinds := 0
		if id, err := ParseID(s); err == nil {
			kinds++
			same(t, s, id)
		}
		if id, err := ParseMsgID([]byte(s)); err == nil {
			kinds++
			same(t, s, id)
		}
		if id, err := ParseBlobID(s); err == nil {
			kinds++
			same(t, s, id)
		}
		if kinds > 1 {
			t.Errorf("%q is %d kinds of id", s, kinds)
		}
		ref, query, err := ParseLink(s)
		if kinds == 1 && (err != nil || query != nil || ref.String() != s) {
			t.Errorf("%q as a link is %v, %v, %v", s, ref, query, err)
		}
		if err == nil && (len(s) < len(ref.String()) || s[:len(ref.String())] != ref.String()) {
			t.Errorf("%q links to %s", s, ref)
		}
	})
}

func same(t *testing.T, s string, ref Ref) {
	t.Helper()
	if ref.String() != s {
		t.Errorf("%q prints as %q", s, ref)
	}
	if again, err := ParseURI(ref.URI()); err != nil || again.String() != s {
		t.Errorf("%q as %q reads again as %v, %v", s, ref.URI(), again, err)
	}
}

// FuzzURI: whatever is taken prints as a URI that reads as the same thing.
func FuzzURI(f *testing.F) {
	f.Add(testKey(1).ID().URI())
	f.Add("ssb://message/sha256/" + MsgID{9}.URI()[20:])
	f.Add("ssb:blob:sha256:" + BlobID{9}.URI()[17:] + "?a#b")
	f.Add(addressURI + "net%3Ah%3A1~shs%3Ax")
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseURI(s)
		if err != nil {
			if !errors.Is(err, ErrRef) && !errors.Is(err, ErrAddress) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		again, err := ParseURI(ref.URI())
		if err != nil || again.String() != ref.String() || again.URI() != ref.URI() {
			t.Errorf("%q is %s, printed as %s reads as %v, %v", s, ref, ref.URI(), again, err)
		}
	})
}

// FuzzMulti: an address that is taken prints byte by byte as it came.
func FuzzMulti(f *testing.F) {
	f.Add("net:h!:!!x:80~shs:k:seed;unix:/a!~b!;c~noauth;tunnel::x")
	f.Add("ws://h:1~shs:" + testKey(1).ID().String()[1:45])
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMulti(s)
		if err != nil {
			if !errors.Is(err, ErrAddress) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if got := m.String(); got != s {
			t.Errorf("%q prints as %q", s, got)
		}
		for _, a := range m.Addresses() {
			if again, err := ParseAddress(a.String()); err != nil || again != a {
				t.Errorf("%q has %v, which reads again as %v, %v", s, a, again, err)
			}
		}
	})
}

// FuzzAddress: an address that is taken prints as one that reads as the same.
func FuzzAddress(f *testing.F) {
	key := testKey(1).ID().String()
	f.Add("net:::1:8008~shs:" + key[1:45])
	f.Add("net:fe80::1%eth0:8008~shs:" + key[1:45])
	f.Add("wss://a.b:443~shs:" + key[1:45] + ":seed")
	f.Add("a.b:1:" + key)
	f.Add("tunnel:" + testKey(2).ID().String() + ":" + key + ":0~shs:" + key[1:45])
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			if !errors.Is(err, ErrAddress) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if again, err := ParseAddress(a.String()); err != nil || again != a {
			t.Errorf("%q is %v, which reads again as %v, %v", s, a, again, err)
		}
		ref, err := ParseURI(a.Multi().URI())
		if err != nil || ref.String() != a.String() {
			t.Errorf("%q as a URI reads as %v, %v", s, ref, err)
		}
	})
}

// FuzzSecret: what is taken signs for the id it names, and no error lets a key out.
func FuzzSecret(f *testing.F) {
	f.Add(appendSecret(nil, testKey(1)))
	f.Add([]byte(`{"private":"`))
	f.Add([]byte("#\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseSecret(b)
		if err != nil {
			return
		}
		sig := k.Sign(b)
		if !Verify(k.ID(), b, &sig) {
			t.Errorf("%q gives a key whose signatures do not hold", b)
		}
		if again, err := ParseSecret(appendSecret(nil, k)); err != nil || again != k {
			t.Errorf("written and read again: %v, %v", again, err)
		}
	})
}

// FuzzVerify: no input panics, and what is accepted the standard library accepts as well, which is libsodium's rule
// without its refusals.
func FuzzVerify(f *testing.F) {
	k := testKey(1)
	sig := k.Sign([]byte("m"))
	id := k.ID()
	f.Add(id[:], []byte("m"), sig[:])
	f.Add(make([]byte, 32), []byte{}, make([]byte, 64))
	f.Fuzz(func(t *testing.T, key, msg, sig []byte) {
		if len(key) != 32 || len(sig) != 64 {
			return
		}
		std := stded25519.Verify(key, msg, sig)
		got := Verify(ID(key), msg, (*[64]byte)(sig))
		clean := !smallOrder((*[32]byte)(key)) && canonicalY((*[32]byte)(key)) && !smallOrder((*[32]byte)(sig[:32]))
		if got != (std && clean) {
			t.Errorf("key %x msg %x sig %x: %v; the standard library says %v", key, msg, sig, got, std)
		}
		// A signature made on the spot, with the fuzzer's bytes as seed: the accepting side is hit as well.
		pair := FromSeed([32]byte(key))
		good := pair.Sign(msg)
		if !Verify(pair.ID(), msg, &good) {
			t.Errorf("seed %x msg %x: own signature refused", key, msg)
		}
		if copy(good[32:], sig[32:]); !bytes.Equal(good[32:], sig[32:]) || Verify(pair.ID(), msg, &good) != stded25519.Verify(pair.private[32:], msg, good[:]) {
			t.Errorf("seed %x msg %x: disagreement on S %x", key, msg, sig[32:])
		}
		if x, err := ID(key).X25519(); err == nil && x == [32]byte{} {
			t.Errorf("key %x converts to zero", key)
		}
	})
}
