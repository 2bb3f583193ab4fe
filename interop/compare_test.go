//go:build interop && unix

package interop

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"charkha/identity"
	"charkha/internal/vectors"
)

// Difference is an entry of differences.json: where the answers of a node and of npm ssb-server are known to differ, and why.
type Difference struct {
	Call      string `json:"call"` // as compare.js names it: the method and its arguments; * is any text
	At        string `json:"at"`   // the place in what was answered, such as answer.key or error.message; * is any text
	SSBServer string `json:"ssb-server,omitempty"`
	Charkha   string `json:"charkha,omitempty"` // what either answers there, in JSON or "absent"; * is any text, and none is anything
	Why       string `json:"why"`

	occurs int
}

// glob reports whether a text is as a pattern says, in which * is any text and all else is itself.
func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}

func (d *Difference) explains(call string, diff answerDiff) bool {
	return glob(d.Call, call) && glob(d.At, diff.at) && (d.SSBServer == "" || glob(d.SSBServer, diff.theirs)) && (d.Charkha == "" || glob(d.Charkha, diff.ours))
}

// absent is what stands where there is no field.
const absent = "absent"

// answerDiff is a place where two answers differ, with what stands there, in JSON.
type answerDiff struct{ at, theirs, ours string }

// differ compares two values as encoding/json gives them.
func differ(at string, theirs, ours any) (all []answerDiff) {
	switch t := theirs.(type) {
	case map[string]any:
		o, ok := ours.(map[string]any)
		if !ok {
			break
		}
		keys := maps.Clone(t)
		maps.Copy(keys, o)
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			place := strings.TrimPrefix(at+"."+k, ".")
			switch a, b := t[k], o[k]; {
			case !has(t, k):
				all = append(all, answerDiff{place, absent, text(b)})
			case !has(o, k):
				all = append(all, answerDiff{place, text(a), absent})
			default:
				all = append(all, differ(place, a, b)...)
			}
		}
		return all
	case []any:
		o, ok := ours.([]any)
		if !ok {
			break
		}
		if len(t) != len(o) {
			only := func(a, b []any) string {
				left := map[string]int{}
				for _, v := range b {
					left[text(v)]++
				}
				for _, v := range a {
					if left[text(v)]--; left[text(v)] < 0 {
						return fmt.Sprintf("%d, such as %s", len(a), text(v))
					}
				}
				return fmt.Sprint(len(a))
			}
			return []answerDiff{{at + ".length", only(t, o), only(o, t)}}
		}
		if a, b := texts(t), texts(o); !slices.Equal(a, b) {
			if slices.Sort(a); slices.Equal(a, sorted(b)) {
				return []answerDiff{{at + ".order", "one order", "another"}}
			}
		}
		for i := range t {
			if all = append(all, differ(fmt.Sprintf("%s.%d", at, i), t[i], o[i])...); len(all) > 20 {
				return all // more would say nothing more
			}
		}
		return all
	}
	if a, b := text(theirs), text(ours); a != b {
		return []answerDiff{{at, a, b}}
	}
	return nil
}

func has(m map[string]any, k string) bool { _, ok := m[k]; return ok }

func text(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // it was JSON
	}
	return strings.TrimSpace(b.String())
}

func texts(list []any) (all []string) {
	for _, v := range list {
		all = append(all, text(v))
	}
	return all
}

func sorted(list []string) []string { slices.Sort(list); return list }

// answers runs compare.js against a server, at the socket in its folder: over TCP each answer takes a JS client 40 ms and more.
func answers(t *testing.T, dir string, address identity.Address, keys json.RawMessage, network [32]byte, messages string) (order []string, all map[string]map[string]any) {
	t.Helper()
	arg, err := json.Marshal(map[string]any{
		"remote": fmt.Sprintf("unix:%s/socket~noauth:%s", dir, strings.TrimSuffix(address.Key.String()[1:], ".ed25519")), "port": address.Port, "dir": dir,
		"keys": keys, "shs": base64.StdEncoding.EncodeToString(network[:]), "messages": messages,
	})
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(folder(), "compare.js"), string(arg))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("compare.js with %s: %v\n%s", dir, err, stderr.String())
		return nil, nil
	}
	if stderr.Len() > 0 {
		t.Logf("compare.js with %s: %s", dir, stderr.String())
	}
	all = map[string]map[string]any{}
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, len(out)+1)
	for sc.Scan() {
		var line map[string]any
		if err := json.Unmarshal(sc.Bytes(), &line); err != nil {
			t.Error(err)
			return nil, nil
		}
		call, _ := line["call"].(string)
		for n := 2; all[call] != nil; n++ { // asked again
			call = fmt.Sprintf("%s (%d)", line["call"], n)
		}
		delete(line, "call")
		order, all[call] = append(order, call), line
	}
	return order, all
}

// A node answers npm ssb-client as npm ssb-server does, from the same messages: each difference stands in differences.json with its
// reason, and each that stands there occurs.
func TestAnswersAsSSBServer(t *testing.T) {
	t.Parallel()
	const set = "feeds-fixtures"
	data := vectors.Read(t, set, "messages.jsonl.gz")
	var secrets []struct{ Private string }
	var keys []json.RawMessage
	for _, into := range []any{&secrets, &keys} {
		if err := json.Unmarshal(vectors.Read(t, set, "secrets.json"), into); err != nil {
			t.Fatal(err)
		}
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(secrets[0].Private, ".ed25519"))
	if err != nil || len(secret) != 64 {
		t.Fatalf("the first secret of %s: %v, %d bytes", set, err, len(secret))
	}
	var values []json.RawMessage
	messages := filepath.Join(t.TempDir(), "messages.jsonl")
	if err := os.WriteFile(messages, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var m struct{ Value json.RawMessage }
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatal(err)
		}
		values = append(values, m.Value)
	}
	network := networkKey(t)

	began := time.Now()
	var theirs, ours map[string]map[string]any
	var order []string
	n := newNode(t, "--network-key", base64.StdEncoding.EncodeToString(network[:]), "--no-lan", "--new-feed")
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "secret"), keys[0], 0o600); err != nil {
		t.Fatal(err)
	}
	n.start("net:127.0.0.1:0")
	if out, err := n.cli("import", messages); err != nil {
		t.Fatalf("import: %v\n%s", err, out)
	}
	p := Start(t, Config{Script: Server, NetworkKey: network, Seed: (*[32]byte)(secret[:32]), Apps: true, Invites: true})
	for _, e := range p.AddRaw(values) {
		if e != "" {
			t.Fatalf("ssb-server takes a message of the fixtures not: %s", e)
		}
	}
	t.Logf("both hold the fixtures after %v", time.Since(began))
	var wait sync.WaitGroup
	wait.Go(func() { order, theirs = answers(t, p.config.Dir, p.Address, keys[0], network, messages) })
	wait.Go(func() { _, ours = answers(t, n.dir, n.Address, keys[0], network, messages) })
	wait.Wait()
	if t.Failed() {
		return
	}
	t.Logf("%d calls answered after %v", len(order), time.Since(began))

	known := []*Difference{}
	file, err := os.ReadFile(filepath.Join(vectors.Root(), "interop", "differences.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(file, &known); err != nil {
		t.Fatalf("differences.json: %v", err)
	}
	if path := os.Getenv("CHARKHA_COMPARE"); path != "" { // to look at
		data, _ := json.Marshal(map[string]any{"order": order, "theirs": theirs, "ours": ours})
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	compared := 0
	for _, call := range order {
		if ours[call] == nil {
			continue // the manifest's difference tells
		}
		compared++
		for _, diff := range differ("", theirs[call], ours[call]) {
			explained := false
			for _, d := range known {
				if d.explains(call, diff) {
					explained = true
					d.occurs++
				}
			}
			if !explained {
				t.Errorf("%s\n  at %s\n  ssb-server: %.300s\n  charkha:    %.300s", call, diff.at, diff.theirs, diff.ours)
			}
		}
	}
	for _, d := range known {
		if d.occurs == 0 {
			t.Errorf("differences.json: %q at %q does not differ any more", d.Call, d.At)
		}
		if d.Why == "" {
			t.Errorf("differences.json: %q at %q: why is missing", d.Call, d.At)
		}
	}
	if compared < 500 {
		t.Errorf("only %d calls compared", compared)
	}
	t.Logf("%d calls compared, %d kinds of differences explained, in %v", compared, len(known), time.Since(began))
}
