package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
)

// The blobs that are exchanged: 50 MiB, and 5 MiB, the most that JS peers take by themselves. Each less one byte, because JS peers end
// the connection after a blob whose size is a multiple of 64 KiB.
const (
	largeBlob = 50<<20 - 1
	usualBlob = 5<<20 - 1
)

// addBlob adds a blob of random bytes, over the local socket.
func (c *charkha) addBlob(size int) (id identity.BlobID, err error) {
	b := make([]byte, size)
	rand.Read(b)
	s, err := c.conn.Sink(context.Background(), "blobs.add")
	if err == nil {
		err = s.Send(muxrpc.Body{Data: b})
	}
	if err == nil {
		err = s.CloseSend(nil)
	}
	if err == nil {
		if _, err = s.Recv(); errors.Is(err, io.EOF) {
			return sha256.Sum256(b), nil
		}
	}
	return id, fmt.Errorf("blobs.add: %w", err)
}

// blobs sends blobs from one process to another that is connected, and takes the time from the call that wants one
// until that is answered: then it is checked and on disk. Both of Charkha's processes are watched meanwhile.
func (r *run) blobs() error {
	dir, remove := r.temp("blobs")
	defer remove()
	from, err := startCharkha(r.bin, filepath.Join(dir, "from"), "--blob-max", "64MiB")
	if err != nil {
		return err
	}
	defer from.stop()
	to, err := startCharkha(r.bin, filepath.Join(dir, "to"), "--blob-max", "64MiB")
	if err != nil {
		return err
	}
	defer to.stop()
	if err := to.connect(from.address); err != nil {
		return err
	}
	var peers [2]*peer
	for i := range peers {
		p, err := startRival(r.root, "blobs.js", map[string]any{"dir": filepath.Join(dir, strings.Repeat("js", i+1)), "blobs": 64 << 20})
		if err != nil {
			return err
		}
		defer p.stop()
		peers[i] = p
	}
	if err := peers[1].connect(peers[0].address); err != nil {
		return err
	}
	for _, size := range []int{usualBlob, largeBlob} {
		name := fmt.Sprintf("%d MiB", (size+1)>>20)
		for range 5 {
			if err := r.charkhaBlob(from, to, size, name); err != nil {
				return err
			}
			var id identity.BlobID
			var took float64
			if err := peers[0].call(&id, "add", size); err != nil {
				return err
			}
			if err := peers[1].call(&took, "want", id); err != nil {
				return err
			}
			r.add("blobs ssb-blobs, "+name, float64(size)/1e6/took, "MB/s")
		}
	}
	return nil
}

// charkhaBlob is one blob of blobs.
func (r *run) charkhaBlob(from, to *charkha, size int, name string) error {
	id, err := from.addBlob(size)
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // what adding left behind is cleared away
	before := [2]float64{}
	before[0], _ = from.memory()
	before[1], _ = to.memory()
	peaks := [2]func() float64{from.watch(), to.watch()}
	cpu := [2]time.Duration{from.cpu(), to.cpu()}
	began := time.Now()
	err = to.call(nil, "blobs.want", id)
	took := time.Since(began)
	for i, who := range []string{"sender", "receiver"} {
		if grown := peaks[i]() - before[i]; err == nil {
			r.add("blobs, memory of the "+who+", "+name, max(grown, 0), "MB more of anonymous memory")
		}
	}
	if err == nil {
		r.add("blobs charkha, "+name, float64(size)/1e6/took.Seconds(), "MB/s")
		r.add("blobs charkha, cpu, "+name, float64((from.cpu() - cpu[0] + to.cpu() - cpu[1]).Milliseconds()), "ms of CPU, both")
	}
	return err
}
