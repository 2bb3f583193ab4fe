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

// blobSize is the size of the blob that is exchanged: 50 MiB less one byte, because JS peers end the connection after a blob
// whose size is a multiple of 64 KiB.
const blobSize = 50<<20 - 1

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

// blobs sends one blob of 50 MiB from one process to another that is connected, and takes the time from the call that wants it
// until that is answered: then it is checked and on disk. Both of Charkha's processes are watched meanwhile.
func (r *run) blobs() error {
	const rounds = 5
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
	for range rounds {
		id, err := from.addBlob(blobSize)
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
		for i, name := range []string{"sender", "receiver"} {
			if grown := peaks[i]() - before[i]; err == nil {
				r.add("blobs, memory of the "+name, max(grown, 0), "MB more of anonymous memory")
			}
		}
		if err != nil {
			return err
		}
		r.add("blobs charkha", blobSize/1e6/took.Seconds(), "MB/s")
		r.add("blobs charkha, cpu", float64((from.cpu() - cpu[0] + to.cpu() - cpu[1]).Milliseconds()), "ms of CPU, both")
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
	for range rounds {
		var id identity.BlobID
		var took float64
		if err := peers[0].call(&id, "add", blobSize); err != nil {
			return err
		}
		if err := peers[1].call(&took, "want", id); err != nil {
			return err
		}
		r.add("blobs ssb-blobs", blobSize/1e6/took, "MB/s")
	}
	return nil
}
