package api

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"charkha/identity"
	"charkha/muxrpc"
)

// unread are the methods of npm ssb-unread 1.1: which messages somebody has read, on this computer.
func (a *API) unread() []muxrpc.Method {
	msg := args(need("msg", "MsgId", "the message"))
	r := &readMarks{}
	if a.Dir != "" {
		r.file = filepath.Join(a.Dir, "unread", "read")
	}
	return []muxrpc.Method{
		{Name: "unread.isRead", Kind: muxrpc.Async, Doc: "whether a message was marked as read", Args: msg, Call: r.isRead},
		{Name: "unread.markRead", Kind: muxrpc.Async, Doc: "mark a message as read", Args: msg, Call: r.markRead},
	}
}

// marksMost is how many messages are remembered as read, at 32 bytes on disk and some 80 in memory. Those that were read first are
// forgotten, a quarter at once.
const marksMost = 200_000

// readMarks is the messages that were read: in a file their ids one after the other, in the order in which they were read. It is
// read when somebody asks. It is not synced: a power cut may take the latest away.
type readMarks struct {
	file string // "" for none; fixed

	mu     sync.Mutex
	loaded bool
	marks  map[identity.MsgID]bool
	order  []identity.MsgID
}

// load reads the file. The caller holds mu.
func (r *readMarks) load() error {
	if r.loaded {
		return nil
	}
	var data []byte
	if r.file != "" {
		var err error
		if data, err = os.ReadFile(r.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if whole := len(data) / 32 * 32; whole < len(data) { // the last one was written in part
			if err := os.Truncate(r.file, int64(whole)); err != nil {
				return err
			}
			data = data[:whole]
		}
	}
	r.marks = make(map[identity.MsgID]bool, len(data)/32)
	for ; len(data) > 0; data = data[32:] {
		r.add(identity.MsgID(data[:32]))
	}
	r.loaded = true
	return nil
}

func (r *readMarks) add(id identity.MsgID) {
	if !r.marks[id] {
		r.marks[id] = true
		r.order = append(r.order, id)
	}
}

// markID reads the argument of both methods.
func markID(req *muxrpc.Request) (id identity.MsgID, err error) {
	if err = req.Decode(&id); err == nil && id.IsZero() {
		err = errors.New(req.Name + ": the message's id is missing")
	}
	return id, err
}

func (r *readMarks) isRead(_ context.Context, req *muxrpc.Request) (any, error) {
	id, err := markID(req)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.load(); err != nil {
		return nil, err
	}
	return r.marks[id], nil
}

func (r *readMarks) markRead(_ context.Context, req *muxrpc.Request) (any, error) {
	id, err := markID(req)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.load(); err != nil {
		return nil, err
	}
	if r.marks[id] {
		return undefined, nil
	}
	r.add(id)
	full := len(r.order) > marksMost
	if full {
		for _, old := range r.order[:marksMost/4] {
			delete(r.marks, old)
		}
		r.order = slices.Clone(r.order[marksMost/4:])
	}
	switch {
	case r.file == "":
	case full:
		err = r.rewrite()
	default:
		err = r.write(r.file, os.O_APPEND, id[:])
	}
	return undefined, err
}

// write writes data to a file, how being os.O_APPEND or os.O_TRUNC.
func (r *readMarks) write(file string, how int, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, how|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// rewrite writes all marks anew.
func (r *readMarks) rewrite() error {
	var data []byte
	for _, id := range r.order {
		data = append(data, id[:]...)
	}
	if err := r.write(r.file+".new", os.O_TRUNC, data); err != nil {
		return err
	}
	return os.Rename(r.file+".new", r.file)
}
