package api

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"charkha/identity"
	"charkha/muxrpc"
)

// duplex opens ooo.stream as a peer.
func (w *world) duplex() *muxrpc.Stream {
	w.Helper()
	s, err := w.conn.Duplex(w.Context(), "ooo.stream")
	w.check(err)
	return s
}

func (w *world) tell(s *muxrpc.Stream, text string, args ...any) {
	w.Helper()
	w.check(s.SendJSON(fmt.Appendf(nil, text, args...)))
}

func TestPeersAskForMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada, blocked := w.writer(21), identity.ID{9}
	hers := ada.say(post("hers"))
	ours := w.post("ours")
	ada.say(object{"type": "contact", "contact": blocked, "blocking": true})
	nothing := identity.MsgID{1}
	w.api.settle(w.Context()) // who blocks whom

	s := w.as(identity.ID{8}).duplex()
	// Nothing is asked for, so nothing is said first; what cannot be answered is passed over.
	w.tell(s, `{"%s":-1,"nonsense":-1,"%s":1,"%s":null,"%s":"x"}`, nothing, hers.Key, hers.Key, ours.Key)
	w.tell(s, `[7]`)
	w.tell(s, `{"%s":-3}`, hers.Key)
	if got, want := w.recv(s), fmt.Sprintf(`{"%s":%s}`, hers.Key, w.call("get", hers.Key)); got != want {
		t.Errorf("a peer who asks gets %s, want %s", got, want)
	}
	s = w.as(blocked).duplex()
	w.tell(s, `{"%s":-1}`, hers.Key)
	w.tell(s, `{"%s":-1}`, ours.Key)
	if got := w.recv(s); !strings.HasPrefix(got, fmt.Sprintf(`{"%s":`, ours.Key)) {
		t.Errorf("whom the author blocks gets %s", got)
	}
}

func TestAskForMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, raws := w.feed(22, `{"type":"post","text":"one"}`, `{"type":"post","text":"two"}`)
	two, id, err := w.api.Log.Verify(raws[1])
	w.check(err)
	_, other, err := w.api.Log.Verify(raws[0])
	w.check(err)

	mine := w.post("mine")
	early, late := w.as(identity.ID{8}).duplex(), w.as(identity.ID{7}).duplex()
	answers := make(chan string, 3)
	ask := func(method string, args ...any) {
		go func() {
			answer, err := w.conn.Async(w.Context(), method, args...)
			if err != nil {
				answer = []byte(err.Error())
			}
			answers <- string(answer)
		}()
	}
	ask("ooo.get", object{"id": id, "timeout": 60_000})
	want := fmt.Sprintf(`{"%s":-1}`, id)
	if got := w.recv(early); got != want {
		t.Fatalf("a peer is asked for %s, want %s", got, want)
	}
	if got := w.recv(late); got != want {
		t.Fatalf("the other is asked for %s, want %s", got, want)
	}
	// Who says something wrong is not believed.
	for _, wrong := range []string{string(raws[0]), `{}`, strings.Replace(string(two), "two", "too", 1), `null`, `-1`} {
		w.tell(early, `{"%s":%s}`, id, wrong)
	}
	w.tell(early, `{"%s":%s}`, other, raws[0]) // nobody asked for it
	w.tell(late, `{"%s":%s}`, id, two)
	w.tell(late, `{"%s":%s}`, id, two)
	// When this is answered, all of that was heard: nothing of it answers what is asked next.
	w.tell(late, `{"%s":-1}`, mine.Key)
	if got := w.recv(late); !strings.HasPrefix(got, fmt.Sprintf(`{"%s":{`, mine.Key)) {
		t.Errorf("a peer who asks meanwhile gets %s", got)
	}
	var got struct {
		Key   identity.MsgID
		Value json.RawMessage
		OOO   bool
	}
	w.check(json.Unmarshal([]byte(<-answers), &got))
	if got.Key != id || string(got.Value) != string(two) || !got.OOO {
		t.Errorf("ooo.get: %+v", got)
	}
	if text := w.refused("get", id); !strings.Contains(text, "Key not found") {
		t.Errorf("what was asked for is kept: %s", text)
	}

	// Who comes while something is wanted is asked, too; each once.
	ask("get", object{"id": id, "ooo": true})
	if got := w.recv(early); got != want {
		t.Fatalf("a peer is asked for %s, want %s", got, want)
	}
	ask("get", object{"id": id, "ooo": true, "meta": true})
	for waiting := 0; waiting < 2; runtime.Gosched() { // before the answer comes, which is for both
		w.api.wants.mu.Lock()
		waiting = w.api.wants.all[id].waiting
		w.api.wants.mu.Unlock()
	}
	new := w.as(identity.ID{6}).duplex()
	if got := w.recv(new); got != want {
		t.Fatalf("who has just come is asked for %s, want %s", got, want)
	}
	w.tell(new, `{"%s":%s}`, id, two)
	value, meta := <-answers, <-answers
	if strings.HasPrefix(value, `{"key"`) {
		value, meta = meta, value
	}
	if value != string(two) || !strings.HasPrefix(meta, fmt.Sprintf(`{"key":"%s","value":{`, id)) {
		t.Errorf("get with ooo: %s, with meta: %s", value, meta)
	}

	w.check(json.Unmarshal([]byte(w.call("ooo.get", object{"id": mine.Key})), &got))
	if got.Key != mine.Key || !got.OOO {
		t.Errorf("ooo.get of what is here: %+v", got)
	}
	if text := w.refused("ooo.get", object{"id": id, "timeout": 1}); text != "ooo.get: took more than timeout:1" {
		t.Errorf("ooo.get of what nobody shows: %s", text)
	}
	for _, arg := range []any{nil, object{}, "nonsense", 7} {
		if text := w.refused("ooo.get", arg); !strings.HasPrefix(text, "ooo.get: ") {
			t.Errorf("ooo.get of %v: %s", arg, text)
		}
	}
	w.api.wants.mu.Lock()
	defer w.api.wants.mu.Unlock()
	if len(w.api.wants.all) > 0 || w.api.wants.asking != nil {
		t.Errorf("still wanted: %v", w.api.wants.all)
	}
}

// So many messages are waited for, and no more.
func TestWaitingForManyMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var held []*want
	for i := range oooHeld {
		it, err := w.api.want(identity.MsgID{byte(i), 1})
		w.check(err)
		held = append(held, it)
	}
	if text := w.refused("ooo.get", identity.MsgID{200, 1}); !strings.Contains(text, "100 messages are waited for") {
		t.Errorf("one more: %s", text)
	}
	if text := w.refused("ooo.get", object{"id": identity.MsgID{1, 1}, "timeout": 1}); !strings.Contains(text, "timeout") {
		t.Errorf("one of them: %s", text)
	}
	for i, it := range held {
		w.api.wants.leave(identity.MsgID{byte(i), 1}, it)
	}
	if text := w.refused("ooo.get", object{"id": identity.MsgID{200, 1}, "timeout": 1}); !strings.Contains(text, "timeout") {
		t.Errorf("afterwards: %s", text)
	}
}
