package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// maxSecret bounds how much of a secret file is read. Those that SSB apps write have under 1,000 bytes.
const maxSecret = 64 << 10

// ErrExposed says that others on this computer can read a secret file.
var ErrExposed = errors.New("others on this computer can read it")

// secretFile is the JSON of a secret file. ssb-keys writes curve, public, private, id in this order.
type secretFile struct {
	Curve   string `json:"curve"`
	Public  string `json:"public"`
	Private string `json:"private"`
	ID      string `json:"id"`
}

// ParseSecret reads the contents of a secret file as any SSB app writes it: JSON, with or without comments that begin with '#' and
// run to the end of the line. The private key is 64 bytes, the seed and then the public key; a public key, or an id that begins with
// '@', that is also given must be the same, and the public key must be the one that the seed makes: signing with a pair that does
// not belong together gives the seed away. No error quotes any part of the secret.
func ParseSecret(b []byte) (KeyPair, error) {
	if len(b) > maxSecret {
		return KeyPair{}, fmt.Errorf("secret file: over %d bytes, so it is not one", maxSecret)
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	var text []byte
	for line := range bytes.Lines(b) {
		line, _, _ = bytes.Cut(line, []byte("#")) // no field's value can hold one
		text = append(append(text, line...), '\n')
	}
	var s secretFile
	if len(bytes.TrimSpace(text)) == 0 {
		return KeyPair{}, errors.New("secret file: no key in it")
	}
	var fields map[string]json.RawMessage // not the struct: encoding/json would take "Private" for "private"
	if json.Unmarshal(text, &fields) != nil || fields == nil {
		return KeyPair{}, errors.New("secret file: not the JSON that SSB apps write")
	}
	for name, field := range map[string]*string{"curve": &s.Curve, "public": &s.Public, "private": &s.Private, "id": &s.ID} {
		if raw := fields[name]; raw != nil && json.Unmarshal(raw, field) != nil {
			return KeyPair{}, fmt.Errorf("secret file: field %q is not a text", name)
		}
	}
	if s.Curve != "" && s.Curve != "ed25519" {
		return KeyPair{}, fmt.Errorf("secret file: curve %s: only ed25519 is known", clip(s.Curve))
	}
	if s.Private == "" {
		return KeyPair{}, errors.New("secret file: the private key is missing")
	}
	private, ok := decodeKey(s.Private)
	if !ok || len(private) != 64 {
		return KeyPair{}, errors.New("secret file: the private key is not the base64 of 64 bytes with the ending .ed25519")
	}
	k := FromSeed([32]byte(private[:32]))
	id := k.ID()
	if ID(private[32:]) != id {
		return KeyPair{}, errors.New("secret file: the two halves of the private key do not belong together")
	}
	if s.Public != "" {
		if public, ok := decodeKey(s.Public); !ok || len(public) != 32 || ID(public) != id {
			return KeyPair{}, fmt.Errorf("secret file: its public key does not belong to its private key, which is that of %s", id)
		}
	}
	// What has no sigil is not the id of today but what old versions wrote there; ssb-keys puts the public key in its place.
	if strings.HasPrefix(s.ID, "@") && s.ID != id.String() {
		return KeyPair{}, fmt.Errorf("secret file: its id is %s but its private key is that of %s", clip(s.ID), id)
	}
	return k, nil
}

// decodeKey reads base64 with the ending ".ed25519", which the oldest files leave out.
func decodeKey(s string) ([]byte, bool) {
	s = strings.TrimSuffix(s, ".ed25519")
	if strings.ContainsAny(s, "\r\n") { // encoding/base64 skips these
		return nil, false
	}
	b, err := strict.DecodeString(s)
	return b, err == nil
}

// LoadSecret reads the secret file at path. It refuses a file that others can read, except on Windows, where the mode
// says nothing, and wraps fs.ErrNotExist when there is none.
func LoadSecret(path string) (KeyPair, error) {
	f, err := os.Open(path)
	if err != nil {
		return KeyPair{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return KeyPair{}, err
	}
	if !st.Mode().IsRegular() {
		return KeyPair{}, fmt.Errorf("%s: not a regular file", path)
	}
	if mode := st.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return KeyPair{}, fmt.Errorf("%s: %w (its mode is %04o): run chmod 600 %s, and make a new identity if you do not trust them",
			path, ErrExposed, mode, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return KeyPair{}, fmt.Errorf("read %s: %w", path, err)
	}
	k, err := ParseSecret(b)
	if err != nil {
		return KeyPair{}, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// appendSecret appends the contents of k's secret file to b.
func appendSecret(b []byte, k KeyPair) []byte {
	text := func(key []byte) string { return string(strict.AppendEncode(nil, key)) + ".ed25519" }
	fields, err := json.MarshalIndent(secretFile{
		Curve: "ed25519", Public: text(k.private[32:]), Private: text(k.private[:]), ID: k.ID().String(),
	}, "", "  ")
	if err != nil {
		panic("identity: internal error: " + err.Error())
	}
	return fmt.Appendf(b, `# This file is your identity. Whoever has it can write in your name: show it to nobody.
#
# Use it on one device at a time and never edit it. Two devices that write with one
# key split your feed, and your friends can no longer follow you.
#
%s
#
# Only your public name may be shared:
#
#   %s
`, fields, k.ID())
}

// CreateSecret writes k as a new secret file at path that only its owner can read. An existing file is never touched: the
// error then wraps fs.ErrExist. When it returns nil, the file and its name are on disk.
func CreateSecret(path string, k KeyPair) error {
	if k.IsZero() {
		return errors.New("create a secret file: no key given")
	}
	// Written whole under another name and then linked to its own, which fails when that exists: a crash leaves either no
	// secret or all of it.
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".secret-*") // mode 0600
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	if err := writeSecret(f, k); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create %s: %w", path, fs.ErrExist)
	} else if err != nil { // a file system without hard links
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("create %s: %w", path, err)
		}
		if err := writeSecret(f, k); err != nil {
			return errors.Join(fmt.Errorf("create %s: %w", path, err), os.Remove(path))
		}
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("create %s: sync its folder: %w", path, err)
	}
	return nil
}

// writeSecret fills f, puts it on disk and closes it.
func writeSecret(f *os.File, k KeyPair) error {
	_, err := f.Write(appendSecret(nil, k))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
