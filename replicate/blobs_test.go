package replicate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"charkha/blob"
	"charkha/identity"
)

// blobNode is a testNode that keeps blobs.
type blobNode struct {
	*testNode
	store *blob.Store
}

// startBlobs starts a node that keeps blobs of up to most bytes; 0: 5 MiB.
func startBlobs(t *testing.T, n byte, most int64, o nodeOptions) *blobNode {
	t.Helper()
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	store, err := blob.Open(blob.Options{Dir: filepath.Join(o.dir, "blobs"), Max: most})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	set := o.set
	o.set = func(p *Options) {
		p.Blobs, p.BlobMax = store, most
		if set != nil {
			set(p)
		}
	}
	return &blobNode{startNode(t, n, newGraph(), o), store}
}

// bytesOf makes n bytes that look like no others.
func bytesOf(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 77}).Read(b)
	return b
}

func idOf(b []byte) identity.BlobID { return sha256.Sum256(b) }

// add adds a blob of the node's own.
func (n *blobNode) add(b []byte) identity.BlobID {
	n.t.Helper()
	info, err := n.store.Add(n.t.Context(), bytes.NewReader(b), nil, blob.Why{Own: true})
	if err != nil {
		n.t.Fatal(err)
	}
	return info.ID
}

// want wants a blob and waits until it is there.
func (n *blobNode) want(id identity.BlobID, within time.Duration) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), within)
	defer cancel()
	if err := n.WantBlob(ctx, id, blob.Why{}); err != nil {
		n.t.Fatalf("%s wants %s: %v; %+v", n.id.Short(), id, err, n.BlobWants())
	}
}

// has checks that the node holds a blob whole.
func (n *blobNode) has(b []byte) {
	n.t.Helper()
	id := idOf(b)
	r, err := n.store.Read(id)
	if err != nil {
		n.t.Errorf("%s: %s: %v", n.id.Short(), id, err)
		return
	}
	defer r.Close()
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil || !bytes.Equal(got, b) {
		n.t.Errorf("%s: %s is %d bytes, not the %d that were added, %v", n.id.Short(), id, len(got), len(b), err)
	}
}

// Blobs of all sizes go from one node to another over a real connection, those that are wanted first and those that are there first.
func TestBlobsBetweenTwoNodes(t *testing.T) {
	a, b := startBlobs(t, 1, 20<<20, nodeOptions{}), startBlobs(t, 2, 20<<20, nodeOptions{})
	var all [][]byte
	for i, size := range []int{1, 100, 65535, 65536, 65537, 131072, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5 << 20, 20 << 20} {
		all = append(all, bytesOf(uint64(i), size))
	}
	for _, c := range all[:6] {
		a.add(c)
	}
	for _, c := range all {
		b.WishBlob(idOf(c), blob.Why{})
	}
	b.connect(a.testNode)
	b.want(idOf(all[0]), time.Minute)
	for _, c := range all[6:] {
		a.add(c)
	}
	for _, c := range all {
		b.want(idOf(c), time.Minute)
		b.has(c)
	}
	if left := b.BlobWants(); len(left) != 0 {
		t.Errorf("still wanted: %+v", left)
	}
}
