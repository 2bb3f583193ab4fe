package room

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"charkha/identity"
	"charkha/muxrpc"
)

// MaxAttendants is how many people in a room are followed. Whoever comes when there are so many is not noticed before
// somebody left and the room tells of them again.
const MaxAttendants = 4096

const (
	maxList = 1 << 20 // bytes of one body with attendants
	maxName = 100     // bytes of a room's name for itself
	// pause is the least time between two changes that Follow reports. What comes meanwhile waits in the stream's buffer and is
	// one change then; a room that sends more than fits has its stream ended.
	pause           = 100 * time.Millisecond
	announceTimeout = 5 * time.Second
)

// ErrNotRoom says that the other side is no room.
var ErrNotRoom = errors.New("not a room")

// Room is the other side of a muxrpc connection, which may be a room. Its methods may be used by many goroutines at once.
type Room struct {
	conn     *muxrpc.Conn
	id, self identity.ID
}

// New is the client of the room at the other side of conn. id is the key that it proved to have, self is ours.
func New(conn *muxrpc.Conn, id, self identity.ID) *Room { return &Room{conn: conn, id: id, self: self} }

// Info is what a room says of itself.
type Info struct {
	Version     int      // 1 or 2
	Name        string   // may be empty
	Description string   // only old rooms have one
	Member      bool     // we are one; rooms of version 1 have none
	Features    []string // "alias", "httpInvite", ... ; none in version 1
}

// Detect asks the other side whether it is a room. The error wraps ErrNotRoom when it is none.
func (r *Room) Detect(ctx context.Context) (Info, error) {
	answer, err := r.conn.Async(ctx, "room.metadata")
	var remote *muxrpc.RemoteError
	if err == nil {
		var meta struct {
			Name       string
			Membership bool
			Features   []string
		}
		if err := json.Unmarshal(answer, &meta); err != nil || answer[0] != '{' {
			return Info{}, fmt.Errorf("room.metadata of %s is %.60q: %w", r.id.Short(), answer, ErrNotRoom)
		}
		info := Info{Version: 2, Name: clean(meta.Name), Member: meta.Membership}
		for _, f := range meta.Features[:min(len(meta.Features), 32)] {
			info.Features = append(info.Features, clean(f))
		}
		return info, nil
	}
	if !errors.As(err, &remote) {
		return Info{}, fmt.Errorf("ask %s whether it is a room: %w", r.id.Short(), err)
	}
	first := remote
	answer, err = r.conn.Async(ctx, "tunnel.isRoom")
	if errors.As(err, &remote) {
		if !missing(first) {
			return Info{}, fmt.Errorf("room.metadata of %s: %w", r.id.Short(), first) // a room in trouble
		}
		return Info{}, fmt.Errorf("%s: %w", r.id.Short(), ErrNotRoom)
	}
	if err != nil {
		return Info{}, fmt.Errorf("ask %s whether it is a room: %w", r.id.Short(), err)
	}
	var meta struct{ Name, Description string }
	switch {
	case string(answer) == "true":
	case len(answer) > 0 && answer[0] == '{' && json.Unmarshal(answer, &meta) == nil:
	default:
		return Info{}, fmt.Errorf("%s: %w", r.id.Short(), ErrNotRoom)
	}
	return Info{Version: 1, Name: clean(meta.Name), Description: clean(meta.Description)}, nil
}

// missing knows how peers say that they have no such method, or not for us: JS, go-ssb.
func missing(err *muxrpc.RemoteError) bool {
	for _, text := range []string{"not in list of allowed methods", "no async:", "no sync:", "no source:", "no such command", "not implemented on the client"} {
		if strings.Contains(err.Message, text) {
			return true
		}
	}
	return false
}

// clean makes one short line of a text that a room sent.
func clean(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029' || c >= '\u202a' && c <= '\u202e' || c >= '\u2066' && c <= '\u2069' {
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, "\ufffd"))
	for len(s) > maxName {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return strings.TrimSpace(s)
}

// Change is who came and who went. Nobody is in both.
type Change struct {
	Joined, Left []identity.ID
}

// Follow enters the room and reports who else is in it until ctx, the connection or the room ends it: first all who are there,
// then what changes, at most ten times a second. changed is called on Follow's goroutine, one call at a time, and may keep
// what it is given. We ourselves and the room are left out, and so is what is no id. Whoever was reported is as good as gone
// when Follow returns; that is not reported again. Follow returns nil when the room ended the stream.
func (r *Room) Follow(ctx context.Context, info Info, changed func(Change)) error {
	if info.Version == 2 {
		err := r.follow(ctx, "room.attendants", changed)
		var remote *muxrpc.RemoteError
		if !errors.As(err, &remote) || !missing(remote) {
			return err
		}
	}
	// Opening the list announces us in all rooms that run today; the calls are for those of ssb-tunnel, where it does not.
	// Some do not answer that.
	soon, cancel := context.WithTimeout(ctx, announceTimeout)
	_, err := r.conn.Async(soon, "tunnel.announce")
	cancel()
	var remote *muxrpc.RemoteError
	if err != nil && !errors.As(err, &remote) && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
		return fmt.Errorf("enter the room %s: %w", r.id.Short(), err)
	}
	return r.follow(ctx, "tunnel.endpoints", changed)
}

// Leave tells the room that we are not to be reached through it any more, while the connection stays.
func (r *Room) Leave(ctx context.Context) error {
	if _, err := r.conn.Async(ctx, "tunnel.leave"); err != nil {
		return fmt.Errorf("leave the room %s: %w", r.id.Short(), err)
	}
	return nil
}

func (r *Room) follow(ctx context.Context, method string, changed func(Change)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wrap := func(err error) error { return fmt.Errorf("%s of room %s: %w", method, r.id.Short(), err) }
	stream, err := r.conn.Open(ctx, muxrpc.CallOptions{Kind: muxrpc.Source, MaxBody: maxList}, method)
	if err != nil {
		return wrap(err)
	}
	defer stream.Close()
	reported := map[identity.ID]bool{}
	now := list{self: r.self, room: r.id, ids: map[identity.ID]bool{}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		batch, err := stream.RecvBatch(0)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return wrap(err)
		}
		for _, b := range batch {
			if err := now.apply(b.Data); err != nil {
				return wrap(err)
			}
		}
		if c := diff(reported, now.ids); len(c.Joined)+len(c.Left) > 0 {
			changed(c)
		}
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// list is who is in a room.
type list struct {
	self, room identity.ID
	ids        map[identity.ID]bool // at most MaxAttendants
}

var errList = errors.New("the room sent something else than who is in it")

// apply takes what a room sent: a whole list, or an event of room.attendants.
func (l *list) apply(b []byte) error {
	b = bytes.TrimSpace(b)
	if len(b) > 0 && b[0] == '[' {
		var ids []any
		if json.Unmarshal(b, &ids) != nil {
			return errList
		}
		l.replace(ids)
		return nil
	}
	var event struct {
		Type string `json:"type"`
		ID   any    `json:"id"`
		IDs  []any  `json:"ids"`
	}
	if len(b) == 0 || b[0] != '{' || json.Unmarshal(b, &event) != nil {
		return errList
	}
	switch event.Type {
	case "state":
		l.replace(event.IDs)
	case "joined":
		l.add(event.ID)
	case "left":
		if text, ok := event.ID.(string); ok {
			if id, err := identity.ParseID(text); err == nil {
				delete(l.ids, id)
			}
		}
	}
	return nil // events of a kind that is not known yet are none for us
}

func (l *list) replace(ids []any) {
	clear(l.ids)
	for _, id := range ids {
		l.add(id)
	}
}

func (l *list) add(v any) {
	text, ok := v.(string)
	if !ok || len(l.ids) >= MaxAttendants {
		return
	}
	if id, err := identity.ParseID(text); err == nil && id != l.self && id != l.room {
		l.ids[id] = true
	}
}

// diff makes old what now is and says what that changed, in order of the ids.
func diff(old, now map[identity.ID]bool) (c Change) {
	for id := range old {
		if !now[id] {
			c.Left = append(c.Left, id)
			delete(old, id)
		}
	}
	for id := range now {
		if !old[id] {
			c.Joined = append(c.Joined, id)
			old[id] = true
		}
	}
	for _, ids := range [][]identity.ID{c.Joined, c.Left} {
		slices.SortFunc(ids, func(a, b identity.ID) int { return slices.Compare(a[:], b[:]) })
	}
	return c
}
