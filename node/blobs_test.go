package node

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"charkha/blob"
	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
)

// add keeps a blob, as a program does.
func add(t *testing.T, c *muxrpc.Conn, content string) identity.BlobID {
	t.Helper()
	s, err := c.Sink(t.Context(), "blobs.add")
	if err != nil {
		t.Fatal(err)
	}
	for rest := content; len(rest) > 0; {
		n := min(len(rest), 60_000)
		if err := s.Send(muxrpc.Body{Type: muxrpc.Binary, Data: []byte(rest[:n])}); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	s.CloseSend(nil)
	if _, err := s.Recv(); err != io.EOF {
		t.Fatal(err)
	}
	return sha256.Sum256([]byte(content))
}

func publish(t *testing.T, c *muxrpc.Conn, content string) {
	t.Helper()
	if _, err := c.Async(t.Context(), "publish", json.RawMessage(content)); err != nil {
		t.Fatal(err)
	}
}

// has waits until a blob is here.
func has(t *testing.T, n *Node, id identity.BlobID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for info := range n.blobs.Follow(ctx, true) {
		if info.ID == id {
			return
		}
	}
	t.Errorf("blob %s does not come; wanted are %+v", id, n.network.BlobWants())
}

func follow(t *testing.T, c *muxrpc.Conn, who identity.ID) {
	t.Helper()
	publish(t, c, fmt.Sprintf(`{"type":"contact","contact":%q,"following":true}`, who))
}

// Pictures of those whom we follow come by themselves, wherever a message names them, those of strangers when they are asked for.
func TestLinkedBlobsArrive(t *testing.T) {
	t.Parallel()
	alice, _ := begin(t, Config{Dir: t.TempDir(), Listen: []string{listen}})
	hers := local(t, alice)
	before := add(t, hers, "from before")
	publish(t, hers, fmt.Sprintf(`{"type":"post","text":"before","mentions":[{"link":%q,"name":"a.png"}]}`, before))
	secret := add(t, hers, "not linked")

	dir := t.TempDir()
	bob, stop := begin(t, Config{Dir: dir, Hops: 1, Connect: alice.Addresses()[:1]})
	follow(t, local(t, bob), alice.ID())
	has(t, bob, before)
	image, text := add(t, hers, "an image"), add(t, hers, strings.Repeat("in the text ", 100_000))
	publish(t, hers, fmt.Sprintf(`{"type":"about","about":%q,"image":{"link":%q}}`, alice.ID(), image))
	publish(t, hers, fmt.Sprintf(`{"type":"post","text":"![look](%s?unbox=x)"}`, text))
	has(t, bob, image)
	has(t, bob, text)
	for _, id := range []identity.BlobID{before, image, text} {
		if info, _ := bob.blobs.Stat(id); info.Why.Author != alice.ID() || info.Why.Own || info.Why.Peer != alice.ID() {
			t.Errorf("%+v", info)
		}
	}
	if _, here := bob.blobs.Stat(secret); here {
		t.Error("what nobody linked was fetched")
	}
	// A program asks for that one.
	if answer, err := local(t, bob).Async(t.Context(), "blobs.want", secret); string(answer) != "true" || err != nil {
		t.Errorf("%s %v", answer, err)
	}
	has(t, bob, secret)

	// What left while the node was away is looked for among older messages.
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	bob, stop = begin(t, Config{Dir: dir, Hops: 1})
	for _, id := range []identity.BlobID{before, image, secret} {
		if err := bob.blobs.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	bob, _ = begin(t, Config{Dir: dir, Hops: 1, Connect: alice.Addresses()[:1]})
	has(t, bob, image)
	has(t, bob, before)
	if _, here := bob.blobs.Stat(secret); here {
		t.Error("what nobody linked was fetched again")
	}
}

// Of what older messages link, the newest are wanted first, some at a time, and no more than there is room for.
func TestOlderBlobsNewestFirst(t *testing.T) {
	t.Parallel()
	n, err := Open(Config{Dir: t.TempDir(), NetworkKey: testNetwork, BlobBudget: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	indexed := make(chan error, 1)
	go func() { indexed <- n.index.Run(ctx) }()
	defer func() {
		cancel()
		if err := errors.Join(<-indexed, n.Close()); err != nil {
			t.Error(err)
		}
	}()
	const posts, each = 15, 40
	named := func(post, k int) identity.BlobID { return identity.BlobID{byte(post), byte(k), 1} }
	for p := range posts {
		var text strings.Builder
		for k := range each {
			text.WriteString(named(p, k).String())
		}
		if _, err := n.feeds.Publish(n.key, fmt.Appendf(nil, `{"type":"post","text":%q}`, text.String())); err != nil {
			t.Fatal(err)
		}
	}
	refused := named(14, 3)
	if err := errors.Join(n.index.Wait(t.Context(), n.feeds.Len()), n.blobs.Refuse(refused, true)); err != nil {
		t.Fatal(err)
	}
	order := func() (all []identity.BlobID) {
		for _, w := range n.network.BlobWants() {
			all = append(all, w.ID)
		}
		return all
	}
	older := olderLinks{left: olderReach}
	n.lookForOlder(t.Context(), &older)
	wants := order()
	if len(wants) < olderWaiting || len(wants) > olderWaiting+each || wants[0][0] != posts-1 || !slices.IsSortedFunc(wants, func(a, b identity.BlobID) int { return int(b[0]) - int(a[0]) }) {
		t.Errorf("%d are wanted, first %v", len(wants), wants[:3])
	}
	if slices.Contains(wants, refused) {
		t.Error("what is refused is wanted")
	}
	if n.roomForOlder(time.Now()) {
		t.Errorf("with %d wanted, there is room for more", len(wants))
	}
	if !n.roomForOlder(time.Now().Add(olderPatience)) {
		t.Error("what nobody has keeps all else out")
	}
	if n.somebodyIsThere() {
		t.Error("somebody is there")
	}
	for _, id := range wants {
		n.network.ForgetBlob(id)
	}
	if !n.roomForOlder(time.Now()) {
		t.Error("no room, and nothing is wanted")
	}
	n.lookForOlder(t.Context(), &older)
	if rest := order(); len(rest) != posts*each-len(wants)-1 || rest[len(rest)-1][0] != 0 {
		t.Errorf("%d came before, and then %d", len(wants), len(rest))
	}
	if n.lookForOlder(t.Context(), &older); older.left != 0 {
		t.Errorf("at the end %d are left to look at", older.left)
	}
	// A full budget has no room for what is old.
	if _, err := n.blobs.Add(t.Context(), strings.NewReader(strings.Repeat("x", 1000_000)), nil, blob.Why{}); err != nil {
		t.Fatal(err)
	}
	for _, id := range order() {
		n.network.ForgetBlob(id)
	}
	if n.roomForOlder(time.Now()) {
		t.Errorf("room in %+v", n.blobs.Usage())
	}
}

// A full budget keeps what is new and near; what left is fetched again when somebody asks for it, over HTTP, too.
func TestBlobBudget(t *testing.T) {
	t.Parallel()
	alice, _ := begin(t, Config{Dir: t.TempDir(), Listen: []string{listen}})
	hers := local(t, alice)
	const size, budget = 100_000, 500_000
	bob, _ := begin(t, Config{Dir: t.TempDir(), Hops: 1, WS: listenWS, BlobBudget: budget, BlobMax: 200_000, Connect: alice.Addresses()[:1]})
	follow(t, local(t, bob), alice.ID())
	var ids []identity.BlobID
	for i := range 12 {
		id := add(t, hers, strings.Repeat(string(rune('a'+i)), size))
		publish(t, hers, fmt.Sprintf(`{"type":"post","text":"","mentions":[{"link":%q}]}`, id))
		ids = append(ids, id)
		has(t, bob, id)
	}
	u := bob.blobs.Usage()
	if u.Bytes > budget || u.Evicted < 7 || u.Budget != budget {
		t.Errorf("%+v", u)
	}
	first := ids[0]
	if _, here := bob.blobs.Stat(first); here {
		t.Fatal("the first one is still here")
	}
	resp, err := http.Get("http://" + bob.webAddress().HostPort() + "/blobs/get/" + url.QueryEscape(first.String()))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != strings.Repeat("a", size) || err != nil || resp.StatusCode != 200 {
		t.Errorf("%s: %d bytes, %v", resp.Status, len(body), err)
	}
	if u := bob.blobs.Usage(); u.Bytes > budget {
		t.Errorf("%+v", u)
	}
	large := add(t, hers, strings.Repeat("x", 200_001))
	publish(t, hers, fmt.Sprintf(`{"type":"post","text":"","mentions":[{"link":%q}]}`, large))
	small := add(t, hers, "small")
	publish(t, hers, fmt.Sprintf(`{"type":"post","text":"","mentions":[{"link":%q}]}`, small))
	has(t, bob, small)
	if _, here := bob.blobs.Stat(large); here {
		t.Error("more than the node takes was fetched")
	}
}

// Old messages that arrive now do not have all their blobs fetched at once: those come by time, as others that were here.
func TestBlobsOfOldMessages(t *testing.T) {
	t.Parallel()
	alice, _ := begin(t, Config{Dir: t.TempDir(), Listen: []string{listen}})
	bob, _ := begin(t, Config{Dir: t.TempDir(), Hops: 1})
	carol := identity.FromSeed([32]byte{8})
	follow(t, local(t, bob), carol.ID())
	id := add(t, local(t, alice), "an old picture")
	old := float64(time.Now().Add(-2 * linkRecent).UnixMilli())
	raw, _, err := log.Sign(carol, nil, identity.MsgID{}, 1, old, fmt.Appendf(nil, `{"type":"post","text":"","mentions":[{"link":%q}]}`, id))
	if err != nil {
		t.Fatal(err)
	}
	from := bob.feeds.Len()
	if results, err := bob.feeds.Append([][]byte{raw}); err != nil || results[0].Status != log.Stored {
		t.Fatal(results, err)
	}
	if err := bob.index.Wait(t.Context(), bob.feeds.Len()); err != nil {
		t.Fatal(err)
	}
	if !bob.wishForNew(from, bob.feeds.Len()) || len(bob.network.BlobWants()) != 0 {
		t.Errorf("wanted at once: %+v", bob.network.BlobWants())
	}
	if err := bob.network.Connect(t.Context(), alice.Addresses()[0]); err != nil {
		t.Fatal(err)
	}
	has(t, bob, id)
}

// What is fetched without being asked for has a bound of its own, which may be nothing at all.
func TestBlobAuto(t *testing.T) {
	t.Parallel()
	alice, _ := begin(t, Config{Dir: t.TempDir(), Listen: []string{listen}})
	hers := local(t, alice)
	some, _ := begin(t, Config{Dir: t.TempDir(), Hops: 1, BlobAuto: 1000, Connect: alice.Addresses()[:1]})
	none, _ := begin(t, Config{Dir: t.TempDir(), Hops: 1, BlobAuto: -1, Connect: alice.Addresses()[:1]})
	for _, n := range []*Node{some, none} {
		follow(t, local(t, n), alice.ID())
	}
	large, small := add(t, hers, strings.Repeat("x", 1001)), add(t, hers, strings.Repeat("x", 1000))
	for _, id := range []identity.BlobID{large, small} {
		publish(t, hers, fmt.Sprintf(`{"type":"post","text":"","mentions":[{"link":%q}]}`, id))
	}
	has(t, some, small)
	for id, n := range map[identity.BlobID]*Node{large: some, small: none} {
		if _, here := n.blobs.Stat(id); here {
			t.Error("fetched, and nobody asked for it")
		}
		if answer, err := local(t, n).Async(t.Context(), "blobs.want", id); string(answer) != "true" || err != nil {
			t.Errorf("asked for: %s %v", answer, err)
		}
	}
	if wants := none.network.BlobWants(); len(wants) != 0 {
		t.Errorf("%+v", wants)
	}
}

// Who goes away waits no longer; the store says what it has when the wait is over.
func TestWebBlobsWait(t *testing.T) {
	t.Parallel()
	n, _ := begin(t, Config{Dir: t.TempDir()})
	id := identity.BlobID{1}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := webBlobs{n.blobs, n.api.WantLinked}
	if _, err := w.Open(ctx, id, id.String()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.want = func(ctx context.Context, _ identity.BlobID, _ string) error {
		if at, ok := ctx.Deadline(); !ok || time.Until(at) > blobWait {
			t.Error("the wait has no end")
		}
		return context.DeadlineExceeded
	}
	if _, err := w.Open(t.Context(), id, id.String()); err == nil || !strings.Contains(err.Error(), fs.ErrNotExist.Error()) {
		t.Error(err)
	}
}

func TestBlobIDs(t *testing.T) {
	t.Parallel()
	a, b := identity.BlobID{1}.String(), identity.BlobID{0xff, 0xff}.String()
	for _, c := range []struct {
		content string
		want    []string
	}{
		{`{"type":"post","text":"hello & goodbye"}`, nil},
		{`{"mentions":[{"link":"` + a + `","name":"x"},{"link":"` + b + `?unbox=abc.boxs"},"` + a + `"]}`, []string{a, b}},
		{`{"text":"&&` + a + `&` + b[1:] + `"}`, []string{a, b}},
		{`"` + a[:50], nil}, {``, nil}, {`&`, nil}, {a, []string{a}}, {a[:51] + `x`, nil},
		{strings.Replace(a, "sha256", "sha512", 1), nil}, {strings.Replace(a, "A=", "B=", 1), nil},
	} {
		var got []string
		for _, id := range blobIDs([]byte(c.content)) {
			got = append(got, id.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.content, got, c.want)
		}
	}
	var many strings.Builder
	for i := range 200 {
		many.WriteString(identity.BlobID{byte(i), 1}.String())
	}
	if got := blobIDs([]byte(many.String())); len(got) != linkedMost {
		t.Errorf("%d blobs of one message", len(got))
	}
}
