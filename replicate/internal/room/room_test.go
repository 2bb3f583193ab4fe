package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
)

func key(n byte) identity.KeyPair { return identity.FromSeed([32]byte{n}) }

// The peers of these tests.
var (
	self, peer, portal = key(1).ID(), key(2).ID(), key(3).ID()
)

// connect makes a connection between a side that is called and one that calls.
func connect(t testing.TB, served muxrpc.Options, methods ...muxrpc.Method) (caller, callee *muxrpc.Conn) {
	t.Helper()
	reg, err := muxrpc.NewRegistry(methods)
	if err != nil {
		t.Fatal(err)
	}
	served.Registry = reg
	a, b := net.Pipe()
	caller, callee = muxrpc.New(a, muxrpc.Options{}), muxrpc.New(b, served)
	for _, c := range []*muxrpc.Conn{caller, callee} {
		done := make(chan struct{})
		go func() { defer close(done); _ = c.Run(context.Background()) }()
		t.Cleanup(func() { c.Close(); <-done })
	}
	return caller, callee
}

// room is what New makes of the calling side of a connection with somebody who has methods, and allows them to strangers.
func roomOf(t testing.TB, methods ...muxrpc.Method) *Room {
	t.Helper()
	for i := range methods {
		methods[i].Anonymous = true
	}
	caller, _ := connect(t, muxrpc.Options{Anonymous: true}, methods...)
	return New(caller, portal, self)
}

func answer(name, text string) muxrpc.Method {
	return muxrpc.Method{Name: name, Kind: muxrpc.Async, Call: func(context.Context, *muxrpc.Request) (any, error) {
		if why, ok := strings.CutPrefix(text, "error "); ok {
			return nil, errors.New(why)
		}
		return json.RawMessage(text), nil
	}}
}

// source sends bodies, then stays until the reader goes, or ends at once if the last is "end".
func source(name string, bodies ...string) muxrpc.Method {
	return muxrpc.Method{Name: name, Kind: muxrpc.Source, Stream: func(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
		for _, b := range bodies {
			if b == "end" {
				return nil
			}
			if b == "pause" {
				time.Sleep(2 * pause) // synctest's
				continue
			}
			if why, ok := strings.CutPrefix(b, "error "); ok {
				return errors.New(why)
			}
			if err := s.SendJSON([]byte(b)); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return nil
	}}
}

func TestDetect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		methods []muxrpc.Method
		want    Info
		notRoom bool
		err     string
	}{
		{name: "nobody"}, // both calls are refused
		{
			name:    "go-ssb-room",
			methods: []muxrpc.Method{answer("room.metadata", `{"name":"room.example","membership":true,"features":["tunnel","room1","alias"]}`)},
			want:    Info{Version: 2, Name: "room.example", Member: true, Features: []string{"tunnel", "room1", "alias"}},
		},
		{
			name:    "text that a terminal would obey",
			methods: []muxrpc.Method{answer("room.metadata", `{"name":"a\u001b[31m\nb`+strings.Repeat("é", 100)+`"}`)},
			want:    Info{Version: 2, Name: "a[31mb" + strings.Repeat("é", (maxName-6)/2)},
		},
		{name: "npm ssb-room without a name", methods: []muxrpc.Method{answer("tunnel.isRoom", `true`)}, want: Info{Version: 1}},
		{
			name:    "npm ssb-room with a name",
			methods: []muxrpc.Method{answer("tunnel.isRoom", `{"name":"Attic","description":"dusty"}`)},
			want:    Info{Version: 1, Name: "Attic", Description: "dusty"},
		},
		{name: "Patchwork", methods: []muxrpc.Method{answer("tunnel.isRoom", `false`)}, notRoom: true},
		{name: "Charkha", methods: (&Server{}).Methods(), notRoom: true},
		{name: "null", methods: []muxrpc.Method{answer("tunnel.isRoom", `null`)}, notRoom: true},
		{name: "number", methods: []muxrpc.Method{answer("tunnel.isRoom", `7`)}, notRoom: true},
		{name: "metadata is a list", methods: []muxrpc.Method{answer("room.metadata", `[]`)}, notRoom: true},
		{name: "metadata of other types", methods: []muxrpc.Method{answer("room.metadata", `{"name":7}`)}, notRoom: true},
		{
			name:    "npm ssb-room-client",
			methods: []muxrpc.Method{answer("room.metadata", `error not implemented on the client`), answer("tunnel.isRoom", `error no`)}, notRoom: true,
		},
		{
			name:    "a room in trouble",
			methods: []muxrpc.Method{answer("room.metadata", `error database is locked`)},
			err:     "room.metadata of " + portal.Short() + ": database is locked",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := roomOf(t, c.methods...).Detect(t.Context())
			switch {
			case c.err != "":
				if err == nil || err.Error() != c.err || errors.Is(err, ErrNotRoom) {
					t.Errorf("%v, want %s", err, c.err)
				}
			case c.want.Version == 0:
				if !errors.Is(err, ErrNotRoom) {
					t.Errorf("%v, %v: want ErrNotRoom", got, err)
				}
			default:
				if err != nil || !reflect.DeepEqual(got, c.want) {
					t.Errorf("%+v, %v; want %+v", got, err, c.want)
				}
			}
		})
	}
}

func TestDetectGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := roomOf(t, muxrpc.Method{Name: "room.metadata", Kind: muxrpc.Async, Call: func(ctx context.Context, _ *muxrpc.Request) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Detect(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNotRoom) {
			t.Errorf("silence: %v", err)
		}
	})
}

func quoted(ids ...identity.ID) string {
	b, _ := json.Marshal(ids)
	return string(b)
}

func event(kind string, id identity.ID) string { return fmt.Sprintf(`{"type":%q,"id":%q}`, kind, id) }

// followed runs Follow until it ends and returns what it reported. synctest's time.
func followed(t *testing.T, version int, methods ...muxrpc.Method) (changes []Change, err error) {
	t.Helper()
	r := roomOf(t, methods...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = r.Follow(ctx, Info{Version: version}, func(c Change) { changes = append(changes, c) })
	return changes, err
}

func TestFollow(t *testing.T) {
	t.Parallel()
	a, b, c := key(10).ID(), key(11).ID(), key(12).ID()
	ids := func(ids ...identity.ID) []identity.ID {
		slices.SortFunc(ids, func(a, b identity.ID) int { return slices.Compare(a[:], b[:]) })
		return ids
	}
	for _, x := range []struct {
		name    string
		version int
		methods []muxrpc.Method
		want    []Change
		err     string // "" for nil
	}{
		{
			name: "version 2", version: 2,
			methods: []muxrpc.Method{source("room.attendants", `{"type":"state","ids":`+quoted(a, self, b, portal)+"}\n", "pause",
				event("joined", c), "pause", event("left", a), event("joined", self), "pause", event("left", a), "end")},
			want: []Change{{Joined: ids(a, b)}, {Joined: ids(c)}, {Left: ids(a)}},
		},
		{
			name: "version 1", version: 1,
			methods: []muxrpc.Method{answer("tunnel.announce", `null`), source("tunnel.endpoints", quoted(self, a, b), "pause",
				quoted(self, a, b), "pause", quoted(c, self), "pause", `[]`, "end")},
			want: []Change{{Joined: ids(a, b)}, {Joined: ids(c), Left: ids(a, b)}, {Left: ids(c)}},
		},
		{
			name: "version 1 without announce", version: 1,
			methods: []muxrpc.Method{source("tunnel.endpoints", quoted(a), "end")},
			want:    []Change{{Joined: ids(a)}},
		},
		{
			name: "version 2 that has only the older list", version: 2,
			methods: []muxrpc.Method{source("tunnel.endpoints", quoted(a), "end")},
			want:    []Change{{Joined: ids(a)}},
		},
		{
			name: "announce is not answered", version: 1,
			methods: []muxrpc.Method{
				{Name: "tunnel.announce", Kind: muxrpc.Async, Call: func(ctx context.Context, _ *muxrpc.Request) (any, error) {
					<-ctx.Done()
					return nil, nil
				}},
				source("tunnel.endpoints", quoted(a), "end"),
			},
			want: []Change{{Joined: ids(a)}},
		},
		{
			name: "what is no id", version: 2,
			methods: []muxrpc.Method{source("room.attendants", `{"type":"state","ids":["@x",7,null,{},"`+a.String()+`","`+a.String()+`",[[]]]}`,
				`{"type":"joined","id":{}}`, `{"type":"left"}`, `{"type":"joined"}`, `{"type":"moved","id":1}`, `{}`, "end")},
			want: []Change{{Joined: ids(a)}},
		},
		{
			name: "in and out between two reports", version: 2,
			methods: []muxrpc.Method{source("room.attendants", `{"type":"state","ids":[]}`, event("joined", a), event("left", a), "pause", "end")},
		},
		{
			name: "something else", version: 2, methods: []muxrpc.Method{source("room.attendants", `7`)},
			err: "room.attendants of room " + portal.Short() + ": " + errList.Error(),
		},
		{
			name: "no members' business", version: 2,
			methods: []muxrpc.Method{source("room.attendants", `error external user are not allowed to enumerate members`)},
			err:     "room.attendants of room " + portal.Short() + ": external user are not allowed to enumerate members",
		},
		{
			name: "neither list", version: 2,
			err: "tunnel.endpoints of room " + portal.Short() + ": method:tunnel,endpoints is not in list of allowed methods",
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, err := followed(t, x.version, x.methods...)
				if text := fmt.Sprint(err); text != x.err && (err != nil || x.err != "") {
					t.Errorf("error %q, want %q", text, x.err)
				}
				// A report may be earlier or later by what the transport does: what matters is who came and went in which order.
				if !reflect.DeepEqual(got, x.want) {
					t.Errorf("changes %v, want %v", got, x.want)
				}
			})
		})
	}
}

func many(from, n int) []identity.ID {
	ids := make([]identity.ID, n)
	for i := range ids {
		ids[i] = identity.ID{1, byte((from + i) >> 16), byte((from + i) >> 8), byte(from + i)}
	}
	return ids
}

// A room cannot make us keep, or report, more people than there is room for.
func TestFollowIsBounded(t *testing.T) {
	t.Parallel()
	t.Run("a long list", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			got, err := followed(t, 1, source("tunnel.endpoints", quoted(many(0, 3*MaxAttendants)...), "pause", quoted(many(MaxAttendants, 10)...), "end"))
			if err != nil || len(got) != 2 || len(got[0].Joined) != MaxAttendants || len(got[1].Left) != MaxAttendants || len(got[1].Joined) != 10 {
				t.Errorf("%d changes, %v", len(got), err)
			}
		})
	})
	t.Run("a million ids", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			list := `["` + identity.ID{1}.String() + `"` + strings.Repeat(`,"`+identity.ID{1}.String()+`"`, 1_000_000) + `]`
			got, err := followed(t, 1, source("tunnel.endpoints", list))
			if err == nil || len(got) != 0 {
				t.Errorf("%d changes, %v", len(got), err)
			}
		})
	})
	t.Run("everybody comes and goes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			events := muxrpc.Method{Name: "room.attendants", Kind: muxrpc.Source, Stream: func(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
				for i := 0; ; i++ {
					if err := s.SendJSON([]byte(event("joined", many(i, 1)[0]))); err != nil {
						return err
					}
				}
			}}
			began := time.Now()
			got, err := followed(t, 2, events)
			people := map[identity.ID]bool{}
			for _, c := range got {
				for _, id := range c.Joined {
					people[id] = true
				}
			}
			if !errors.Is(err, muxrpc.ErrLagging) || len(people) > MaxAttendants || len(got) > 2+int(time.Since(began)/pause) {
				t.Errorf("%d people, %d changes in %v, %v", len(people), len(got), time.Since(began), err)
			}
		})
	})
}

func TestFollowEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := roomOf(t, source("room.attendants", `{"type":"state","ids":[]}`))
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, errors.New("enough"))
		defer cancel()
		if err := r.Follow(ctx, Info{Version: 2}, func(Change) {}); err == nil || !strings.Contains(err.Error(), "enough") {
			t.Errorf("%v", err)
		}
	})
}

func TestLeave(t *testing.T) {
	t.Parallel()
	if err := roomOf(t, answer("tunnel.leave", `true`)).Leave(t.Context()); err != nil {
		t.Error(err)
	}
	if err := roomOf(t).Leave(t.Context()); err == nil {
		t.Error("no such method, no error")
	}
}

func FuzzList(f *testing.F) {
	a := key(10).ID()
	f.Add([]byte(quoted(a, self)))
	f.Add([]byte(`{"type":"state","ids":` + quoted(a, portal) + `}`))
	f.Add([]byte(event("left", a)))
	f.Add([]byte(` {"type":"joined","id":["x"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := list{self: self, room: portal, ids: map[identity.ID]bool{a: true}}
		if err := l.apply(b); err != nil && !errors.Is(err, errList) {
			t.Errorf("%q: %v", b, err)
		}
		if l.ids[self] || l.ids[portal] || len(l.ids) > MaxAttendants {
			t.Errorf("%q: %v", b, l.ids)
		}
		old := map[identity.ID]bool{peer: true}
		c := diff(old, l.ids)
		if !maps.Equal(old, l.ids) || len(c.Joined) > len(l.ids) || len(c.Left) > 1 {
			t.Errorf("%q: %v, then %v", b, c, old)
		}
	})
}
