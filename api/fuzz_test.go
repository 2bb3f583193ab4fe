package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"charkha/identity"
	"charkha/muxrpc"
)

// FuzzArguments calls every method with arguments that no program would send: each answers in JSON or refuses, without a panic.
func FuzzArguments(f *testing.F) {
	w := newWorld(f)
	posted := w.post("something to read")
	var methods []muxrpc.Method
	for _, m := range w.api.Methods() {
		// The one reads no arguments, the other dials, and publishing syncs: too slow, and what is published is the log's.
		if m.Name != "charkha.import" && m.Name != "conn.connect" && m.Name != "publish" {
			methods = append(methods, m)
		}
	}
	id, msg := identity.ID{1}.String(), posted.Key.String()
	for i := range methods {
		for _, args := range []string{``, `null`, `7`, `"x"`, `[]`, `{}`, `{"id":"ID"}`, `"ID"`, `"ID",{"state":7}`, `"MSG"`, `{"id":"MSG","meta":true}`,
			`{"id":"ID","seq":0}`, `{"id":"ID","gt":1e300,"lt":-1e300,"limit":-5,"reverse":true,"keys":false}`, `{"source":"ID","dest":"ID"}`,
			`{"limit":9007199254740993}`, `{"live":true,"old":false,"limit":0}`, `"net:localhost:1~shs:x"`} {
			f.Add(uint8(i), []byte("["+strings.NewReplacer("ID", id, "MSG", msg).Replace(args)+"]"))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, args []byte) {
		var list []json.RawMessage
		if json.Unmarshal(args, &list) != nil {
			return // the connection refuses what is no array
		}
		anys := make([]any, len(list))
		for i := range list {
			anys[i] = list[i]
		}
		m := methods[int(which)%len(methods)]
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond) // live streams and waits have no end of their own
		defer cancel()
		check := func(body []byte, err error) {
			var remote *muxrpc.RemoteError
			if errors.As(err, &remote) && (remote.Message == "" || strings.Contains(remote.Message, "panic") || strings.Contains(remote.Message, "internal error")) {
				t.Fatalf("%s%s: %v", m.Name, args, err)
			}
			if err == nil && !json.Valid(body) {
				t.Fatalf("%s%s answers %q", m.Name, args, body)
			}
		}
		if m.Kind == muxrpc.Async || m.Kind == muxrpc.Sync {
			answer, err := w.conn.Async(ctx, m.Name, anys...)
			check(answer, err)
			return
		}
		s, err := w.conn.Source(ctx, m.Name, anys...)
		if ctx.Err() != nil {
			return // the computer is slow
		}
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for range 10 {
			body, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			check(body.Data, err)
			if err != nil {
				return
			}
		}
	})
}
