package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
)

// outOfOrder are the methods of npm ssb-ooo 1.3: single messages, wherever they are in their feeds, from the peers that are connected.
//
// The protocol is that of npm gossip-query. Both sides of ooo.stream say {"%id": -1} of a message that they want (ssb-ooo
// -2 and less of one that somebody wants from them), and {"%id": value} of one that they were asked for. Here nobody is asked on
// behalf of others, and what a peer wants and is not here is forgotten: he is not told when it comes.
func (a *API) outOfOrder() []muxrpc.Method {
	return []muxrpc.Method{
		{Name: "ooo.get", Kind: muxrpc.Async, Doc: "a message as {key, value, timestamp, ooo}, from the connected peers if it is not here; then it is checked, and not kept", Args: args(
			either(need("msg", "MsgId|object", "the message's id, or an object"), may("id", "MsgId", "the message's id"),
				may("timeout", "number", "how long to wait for peers, in ms: 5,000"))), Call: a.oooGet},
	}
}

// oooPeers is what peers call of it.
func (a *API) oooPeers() []muxrpc.Method {
	return []muxrpc.Method{{Name: "ooo.stream", Kind: muxrpc.Duplex, Anonymous: true, Doc: "{id: -1} of messages that are wanted, {id: value} of those that are here",
		Stream: func(_ context.Context, req *muxrpc.Request, s *muxrpc.Stream) error { return a.converse(req, s) }}}
}

const (
	oooTime = 5 * time.Second  // for which peers are waited for, unless another time is asked for
	oooMost = 60 * time.Second // the longest time
	oooHeld = 100              // messages that are waited for at once; who asks for more is told so
)

// wants are the messages that ooo.get waits for. The zero value is ready.
type wants struct {
	mu      sync.Mutex
	all     map[identity.MsgID]*want
	changed chan struct{} // closed when there are more; nil: nobody looks
	asking  *asking       // nil when nothing is wanted
}

// want is a message that somebody waits for. value is set before found is closed.
type want struct {
	waiting int // calls of ooo.get
	found   chan struct{}
	value   json.RawMessage
}

// asking is the streams that were opened because something is wanted. They end with the last want.
type asking struct {
	end   context.CancelFunc
	ended chan struct{}
}

// want wants a message, and begins to ask for it.
func (a *API) want(id identity.MsgID) (*want, error) {
	w := &a.wants
	w.mu.Lock()
	defer w.mu.Unlock()
	it := w.all[id]
	if it == nil {
		if len(w.all) == oooHeld {
			return nil, fmt.Errorf("%d messages are waited for already", oooHeld)
		}
		if w.all == nil {
			w.all = map[identity.MsgID]*want{}
		}
		it = &want{found: make(chan struct{})}
		w.all[id] = it
		if w.changed != nil {
			close(w.changed)
			w.changed = nil
		}
	}
	it.waiting++
	if w.asking == nil {
		ctx, cancel := context.WithCancel(context.Background())
		run := &asking{cancel, make(chan struct{})}
		w.asking = run
		go func() { // ends before the last one who waits returns
			defer close(run.ended)
			a.Network.EachPeer(ctx, func(ctx context.Context, _ identity.ID, conn *muxrpc.Conn) {
				if s, err := conn.Duplex(ctx, "ooo.stream"); err == nil {
					_ = a.converse(nil, s) // peers without it say so
				}
			})
		}()
	}
	return it, nil
}

// leave wants it no longer.
func (w *wants) leave(id identity.MsgID, it *want) {
	w.mu.Lock()
	if it.waiting--; it.waiting == 0 {
		delete(w.all, id)
	}
	var last *asking
	if len(w.all) == 0 {
		last, w.asking = w.asking, nil
	}
	w.mu.Unlock()
	if last != nil {
		last.end()
		<-last.ended
	}
}

// now is what is wanted, and a channel that is closed when there is more.
func (w *wants) now() (all map[identity.MsgID]*want, more <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all = map[identity.MsgID]*want{}
	for id, it := range w.all {
		if it.value == nil {
			all[id] = it
		}
	}
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return all, w.changed
}

// wanted reports whether somebody still waits for a message.
func (w *wants) wanted(id identity.MsgID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[id] != nil && w.all[id].value == nil
}

func (w *wants) found(id identity.MsgID, value []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if it := w.all[id]; it != nil && it.value == nil {
		it.value = value
		close(it.found)
	}
}

// converse is one end of ooo.stream. Without req it was opened by us.
func (a *API) converse(req *muxrpc.Request, s *muxrpc.Stream) error {
	ctx, cancel := context.WithCancel(s.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.Close() // so that nothing is sent any more
	defer cancel()
	wg.Go(func() {
		var said map[identity.MsgID]*want // what is wanted again later is asked for again
		for {
			all, more := a.wants.now()
			for id, it := range all {
				if said[id] != it && s.SendJSON(fmt.Appendf(nil, `{"%s":-1}`, id)) != nil {
					return // whoever receives learns why
				}
			}
			said = all
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		body, err := s.Recv()
		if err != nil {
			return ctxEnd(ctx, err)
		}
		if err := a.answer(req, s, body.Data); err != nil {
			return err
		}
	}
}

// answer answers what a peer wants, and takes what it shows. What is neither is passed over, as in npm gossip-query.
func (a *API) answer(req *muxrpc.Request, s *muxrpc.Stream, body []byte) error {
	fields := fieldsOf(body)
	for _, text := range slices.Sorted(maps.Keys(fields)) {
		id, err := identity.ParseMsgID(text)
		if err != nil {
			continue
		}
		said := fields[text]
		var hops float64
		switch {
		case said[0] == '{':
			if a.wants.wanted(id) {
				if value, is, err := a.Log.Verify(said); err == nil && is == id {
					a.wants.found(id, value)
				}
			}
		case json.Unmarshal(said, &hops) == nil && hops < 0:
			m, err := a.Log.Get(id)
			if err != nil || req != nil && a.hidden(req, m.Author()) {
				continue
			}
			if err := s.SendJSON(fmt.Appendf(nil, `{"%s":%s}`, id, m.Value())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *API) oooGet(ctx context.Context, req *muxrpc.Request) (any, error) {
	var arg json.RawMessage
	var o struct {
		ID      identity.MsgID `json:"id"`
		Timeout *float64       `json:"timeout"`
	}
	if err := req.Decode(&arg); err != nil {
		return nil, err
	}
	var err error
	if text := textIn(arg); text != "" {
		o.ID, err = identity.ParseMsgID(text)
	} else if len(arg) > 0 {
		err = json.Unmarshal(arg, &o)
	}
	if err == nil && o.ID.IsZero() {
		err = errors.New("the message's id is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.Name, err)
	}
	m, err := a.Log.Get(o.ID)
	if err == nil {
		return json.RawMessage(withFields(kvt(m), "ooo", true)), nil
	}
	wait := oooTime
	if o.Timeout != nil {
		wait = time.Duration(min(max(*o.Timeout, 0), float64(oooMost/time.Millisecond))) * time.Millisecond
	}
	value, err := a.ask(ctx, o.ID, wait)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, fmt.Errorf("ooo.get: took more than timeout:%d", wait.Milliseconds()) // as npm ssb-ooo says it
	}
	return outside(o.ID, value), nil
}

// outside is a message that is not in the log as {key, value, timestamp, ooo}.
func outside(id identity.MsgID, value []byte) json.RawMessage {
	return fmt.Appendf(nil, `{"key":"%s","value":%s,"timestamp":%d,"ooo":true}`, id, value, time.Now().UnixMilli())
}

// ask asks the connected peers for a message, and waits so long; nil: it did not come.
func (a *API) ask(ctx context.Context, id identity.MsgID, wait time.Duration) (json.RawMessage, error) {
	it, err := a.want(id)
	if err != nil {
		return nil, err
	}
	defer a.wants.leave(id, it)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-it.found:
		return it.value, nil
	case <-timer.C:
		return nil, nil
	case <-ctx.Done():
		return nil, errStopping
	}
}
