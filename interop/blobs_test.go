//go:build interop && unix

package interop

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
)

// blobMost is the largest blob where more than the 5 MiB of JS peers is configured.
const blobMost = 60 << 20

// eachBlobs runs a scenario against each JS stack, with peers and a node that take blobs of up to blobMost bytes.
func eachBlobs(t *testing.T, do func(t *testing.T, peer Config)) {
	for _, script := range []string{Server, DB2} {
		t.Run(strings.TrimSuffix(script, ".js"), func(t *testing.T) {
			t.Parallel()
			do(t, Config{Script: script, NetworkKey: networkKey(t), Blobs: blobMost})
		})
	}
}

func startBlobNode(t *testing.T, network [32]byte) *Node {
	t.Helper()
	return startNode(t, network, "--blob-max", strconv.Itoa(blobMost))
}

// addBlobs adds blobs of random bytes.
func (n *Node) addBlobs(count, size int) (ids []identity.BlobID) {
	n.t.Helper()
	b := make([]byte, size)
	for range count {
		rand.Read(b)
		n.addBlob(b)
		ids = append(ids, sha256.Sum256(b))
	}
	return ids
}

// wantBlobs wants blobs, and returns a function that waits until all are there, and reads them.
func (n *Node) wantBlobs(ids []identity.BlobID) (wait func(within time.Duration)) {
	ctx, cancel := context.WithCancel(n.t.Context())
	here := make(chan error, len(ids))
	for _, id := range ids {
		go func() {
			_, err := n.conn.Async(ctx, "blobs.want", id)
			here <- err
		}()
	}
	return func(within time.Duration) {
		n.t.Helper()
		defer cancel()
		timeout := time.After(within)
		for i := range ids {
			select {
			case err := <-here:
				if err != nil {
					n.t.Fatalf("blobs.want: %v", err)
				}
			case <-timeout:
				n.t.Fatalf("%d of %d blobs came within %v", i, len(ids), within)
			}
		}
		for _, id := range ids {
			s, err := n.conn.Open(ctx, muxrpc.CallOptions{Kind: muxrpc.Source, Patient: true}, "blobs.get", id)
			if err != nil {
				n.t.Fatal(err)
			}
			hash := sha256.New()
			for err == nil {
				var b muxrpc.Body
				b, err = s.Recv()
				hash.Write(b.Data)
			}
			if !errors.Is(err, io.EOF) || identity.BlobID(hash.Sum(nil)) != id {
				n.t.Errorf("blobs.get %s: %v, or other bytes", id, err)
			}
		}
	}
}

// AddBlobs adds blobs of random bytes.
func (p *Peer) AddBlobs(count, size int) (ids []identity.BlobID) {
	p.t.Helper()
	p.Ask(&ids, "addBlobs", count, size)
	return ids
}

// WantBlobs wants blobs and does not wait.
func (p *Peer) WantBlobs(ids []identity.BlobID) {
	p.t.Helper()
	p.Ask(nil, "wantBlobs", ids)
}

// WaitBlobs waits until all blobs are there, and reads them.
func (p *Peer) WaitBlobs(ids []identity.BlobID, within time.Duration) {
	p.t.Helper()
	var wrong []string
	p.Ask(&wrong, "waitBlobs", ids, within.Milliseconds())
	if len(wrong) > 0 {
		p.t.Errorf("these blobs have other bytes: %v", wrong)
	}
}

// A thousand small blobs, and large ones, go both ways, whoever dials. JS peers end the connection after a blob whose size is a
// multiple of 64 KiB, unless it is asked for in slices: sizes on both sides of that are among them.
func TestBlobsBothWays(t *testing.T) {
	t.Parallel()
	eachBlobs(t, func(t *testing.T, c Config) {
		for _, dial := range []string{"charkha dials", "charkha is dialled"} {
			t.Run(dial, func(t *testing.T) {
				p, n := Start(t, c), startBlobNode(t, c.NetworkKey)
				theirs, ours := p.AddBlobs(1000, 3000), n.addBlobs(1000, 3000)
				for _, size := range []int{1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128 << 10, 1 << 20, 5 << 20, 50 << 20} {
					theirs = append(theirs, p.AddBlobs(1, size)...)
					ours = append(ours, n.addBlobs(1, size)...)
				}
				p.WantBlobs(ours)
				wait := n.wantBlobs(theirs)
				if dial == "charkha dials" {
					n.connect(p.Address)
				} else {
					p.Connect(n.Address)
				}
				began := time.Now()
				wait(time.Minute)
				there := time.Since(began)
				p.WaitBlobs(ours, time.Minute)
				t.Logf("1,008 blobs came in %v, and had gone after %v", there, time.Since(began))
				// They are connected still: nothing ended the connection.
				var peers []identity.ID
				if p.Ask(&peers, "peers"); len(peers) != 1 || peers[0] != n.ID {
					t.Errorf("the peer is connected with %v", peers)
				}
			})
		}
	})
}

// With what both sides take by default: JS peers take less than 5 MiB, Charkha as much as that.
func TestBlobsByDefault(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	p, n := Start(t, Config{Script: Server, NetworkKey: network}), startNode(t, network)
	ours := n.addBlobs(1, 5<<20-1)
	theirs := p.AddBlobs(1, 5<<20)
	p.WantBlobs(ours)
	n.connect(p.Address)
	n.wantBlobs(theirs)(time.Minute)
	p.WaitBlobs(ours, time.Minute)
}

// A blob is wanted before it exists anywhere, while both are connected.
func TestBlobWantedBeforeItExists(t *testing.T) {
	t.Parallel()
	eachBlobs(t, func(t *testing.T, c Config) {
		p, n := Start(t, c), startBlobNode(t, c.NetworkKey)
		other := startBlobNode(t, c.NetworkKey) // knows neither, makes the bytes
		n.connect(p.Address)
		for _, size := range []int{1000, 2 << 20} {
			ids := other.addBlobs(2, size)
			first, second := ids[:1], ids[1:]
			p.WantBlobs(first)
			wait := n.wantBlobs(second)
			p.Ask(nil, "addBytes", other.bytes(second[0])) // now the peer has it
			wait(time.Minute)
			n.addBlob(other.bytes(first[0]))
			p.WaitBlobs(first, time.Minute)
		}
	})
}

// A blob goes through a third peer who does not want it: through Charkha between two JS peers, and through a JS peer between two
// Charkhas; also one that two are between. None has a size that JS peers cannot give each other.
func TestBlobThroughThird(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"server.js charkha db2.js", "db2.js charkha server.js", "charkha server.js charkha", "charkha db2.js charkha",
		"server.js charkha charkha db2.js", "charkha server.js db2.js charkha"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			network := networkKey(t)
			type end struct {
				p *Peer
				n *Node
			}
			var ends []end
			for i, name := range strings.Fields(way) {
				var e end
				if name == "charkha" {
					e.n = startBlobNode(t, network)
				} else {
					e.p = Start(t, Config{Script: name, NetworkKey: network, Blobs: blobMost})
				}
				if i > 0 {
					last := ends[i-1]
					to := func() identity.Address {
						if last.n != nil {
							return last.n.Address
						}
						return last.p.Address
					}()
					if e.n != nil {
						e.n.connect(to)
					} else {
						e.p.Connect(to)
					}
				}
				ends = append(ends, e)
			}
			first, last := ends[0], ends[len(ends)-1]
			add := func(e end) []identity.BlobID {
				if e.n != nil {
					return append(e.n.addBlobs(20, 5000), e.n.addBlobs(1, 3<<20+1)...)
				}
				return append(e.p.AddBlobs(20, 5000), e.p.AddBlobs(1, 3<<20+1)...)
			}
			get := func(e end, ids []identity.BlobID) {
				if e.n != nil {
					e.n.wantBlobs(ids)(time.Minute)
				} else {
					e.p.WantBlobs(ids)
					e.p.WaitBlobs(ids, time.Minute)
				}
			}
			get(last, add(first))
			get(first, add(last))
		})
	}
}

// What is pushed is on three peers who never asked for it.
func TestBlobPush(t *testing.T) {
	t.Parallel()
	network := networkKey(t)
	n := startBlobNode(t, network)
	ours := n.addBlobs(1, 100_000)
	n.call(nil, "blobs.push", ours[0])
	var peers []*Peer
	for i, script := range []string{Server, DB2, Server} {
		p := Start(t, Config{Script: script, NetworkKey: network, Blobs: blobMost, Seed: &[32]byte{byte(i), 5}})
		p.Connect(n.Address)
		p.WaitBlobs(ours, time.Minute)
		peers = append(peers, p)
	}
	// and the other way
	theirs := peers[0].AddBlobs(1, 100_000)
	peers[0].Ask(nil, "pushBlob", theirs[0])
	for until := time.Now().Add(time.Minute); ; {
		var has bool
		if n.call(&has, "blobs.has", theirs[0]); has {
			break
		}
		if time.Now().After(until) {
			t.Fatal("what a peer pushes does not come")
		}
	}
	for _, p := range peers[1:] { // Charkha carries it on
		p.WaitBlobs(theirs, time.Minute)
	}
}

// bytes reads a blob.
func (n *Node) bytes(id identity.BlobID) (b []byte) {
	n.t.Helper()
	s, err := n.conn.Open(n.t.Context(), muxrpc.CallOptions{Kind: muxrpc.Source, Patient: true}, "blobs.get", id)
	for err == nil {
		var body muxrpc.Body
		body, err = s.Recv()
		b = append(b, body.Data...)
	}
	if !errors.Is(err, io.EOF) {
		n.t.Fatal(err)
	}
	return b
}

// addBlob adds a blob, through the socket as apps do.
func (n *Node) addBlob(b []byte) {
	n.t.Helper()
	s, err := n.conn.Sink(n.t.Context(), "blobs.add")
	if err == nil {
		err = s.Send(muxrpc.Body{Data: b})
	}
	if err == nil {
		err = s.CloseSend(nil)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		n.t.Fatalf("blobs.add: %v", err)
	}
}
