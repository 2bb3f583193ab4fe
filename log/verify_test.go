package log

import (
	"bytes"
	"testing"

	"charkha/identity"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	raws := generate(t, 50, 3)
	l := open(t, Options{})
	keyed := open(t, Options{HMACKey: &[32]byte{1}})
	for _, raw := range raws {
		value, id, err := l.Verify(append(append([]byte(" "), raw...), '\n'))
		if err != nil || !bytes.Equal(value, raw) {
			t.Fatalf("%s: %v, %s", raw, err, value)
		}
		if _, _, err := keyed.Verify(raw); err == nil {
			t.Fatal("a message of another network is taken")
		}
		if _, err := l.Get(id); err == nil {
			t.Fatal("it is stored")
		}
		bent := bytes.Replace(raw, []byte(`"sequence":`), []byte(`"sequence":1`), 1)
		if _, _, err := l.Verify(bent); err == nil {
			t.Fatalf("%s is taken", bent)
		}
	}
	value, id, err := Sign(identity.FromSeed([32]byte{4}), &[32]byte{1}, identity.MsgID{}, 1, 1.5e12, []byte(`{"type":"post","text":"keyed"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, gotID, err := keyed.Verify(value); err != nil || gotID != id || !bytes.Equal(got, value) {
		t.Errorf("with a key: %v, %s", err, got)
	}
	for _, raw := range []string{"", "{}", "7", "nonsense"} {
		if _, _, err := l.Verify([]byte(raw)); err == nil {
			t.Errorf("%q is taken", raw)
		}
	}
}
