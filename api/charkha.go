package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"charkha/identity"
	"charkha/log"
	"charkha/muxrpc"
)

func (a *API) charkha() []muxrpc.Method {
	return []muxrpc.Method{
		{Name: "charkha.timeline", Kind: muxrpc.Source, Doc: "public posts of people in range, newest first, as KVT with the author's name", Args: opts(may("limit", "integer", "most posts; -1 for all, as without it")), Stream: a.timeline},
		{Name: "charkha.wait", Kind: muxrpc.Async, Doc: "answers with the sequence held of a feed when it is high enough", Args: opts(
			need("id", "FeedId", "the feed"), need("seq", "integer", "the least sequence, 1 or more")), Call: a.wait},
		{Name: "charkha.import", Kind: muxrpc.Duplex, Doc: "signed messages in, counts of what became of them out", Stream: a.importMessages, Patient: true},
		{Name: "charkha.export", Kind: muxrpc.Source, Doc: "every message held as KVT in order of arrival, or one feed's", Args: opts(may("id", "FeedId", "only this feed, by sequence")), Stream: a.export},
	}
}

func (a *API) timeline(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	o := struct {
		Limit int `json:"limit"`
	}{Limit: -1}
	if err := req.Decode(&o); err != nil {
		return err
	}
	a.settle(ctx)
	for m, err := range limited(a.Index.Timeline(max(o.Limit, 0)), o.Limit) {
		if err != nil {
			return err
		}
		name, err := json.Marshal(a.Index.Name(m.Author()))
		if err != nil {
			return err
		}
		row := m.AppendKVT(nil)
		row = append(row[:len(row)-1], `,"name":`...)
		row = append(append(row, name...), '}')
		if err := s.SendJSON(row); err != nil {
			return err
		}
	}
	return nil
}

func (a *API) wait(ctx context.Context, req *muxrpc.Request) (any, error) {
	var o struct {
		ID  *identity.ID `json:"id"`
		Seq int64        `json:"seq"`
	}
	if err := req.Decode(&o); err != nil {
		return nil, err
	}
	if o.ID == nil || o.Seq < 1 {
		return nil, errors.New("the options id and seq (1 or more) are both needed")
	}
	for _, err := range a.arrivalsOf(ctx, *o.ID) {
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return nil, err
		}
		if head, _ := a.Log.Head(*o.ID); head.Sequence >= o.Seq {
			return head.Sequence, nil
		}
	}
	return nil, errStopping // or the caller went away, and nobody reads this
}

// Imported counts what became of imported messages.
type Imported struct {
	Stored    int64 `json:"stored"`
	Duplicate int64 `json:"duplicate"`
	Gap       int64 `json:"gap"`
	Fork      int64 `json:"fork"`
	Invalid   int64 `json:"invalid"`
}

// ImportReport is what charkha.import sends after each batch: the counts so far, and why messages were refused.
type ImportReport struct {
	Imported
	Refused []Refusal `json:"refused,omitempty"`
}

// Refusal is a message that was not stored. Number counts the messages of the import from 1.
type Refusal struct {
	Number   int64       `json:"number"`
	Status   string      `json:"status"`
	Feed     identity.ID `json:"feed,omitzero"`
	Sequence int64       `json:"sequence,omitempty"`
	Error    string      `json:"error"`
}

// importBatch is how many messages are appended at once.
const importBatch = 1024

// maxRefusals keeps a report well below the size of one muxrpc body; more refusals go into further reports.
const maxRefusals = 100

// send sends the report, in pieces when it names many refusals.
func (r ImportReport) send(s *muxrpc.Stream) error {
	refused := r.Refused
	for {
		r.Refused = refused[:min(len(refused), maxRefusals)]
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if err := s.SendJSON(data); err != nil {
			return err
		}
		if refused = refused[len(r.Refused):]; len(refused) == 0 {
			return nil
		}
	}
}

func (a *API) importMessages(ctx context.Context, _ *muxrpc.Request, s *muxrpc.Stream) error {
	var counts Imported
	number := int64(0)
	for {
		bodies, err := s.RecvBatch(importBatch)
		if len(bodies) > 0 {
			raws := make([][]byte, len(bodies))
			for i, b := range bodies {
				raws[i] = b.Data
			}
			report, aerr := a.append(raws, &counts, number)
			if aerr != nil {
				return aerr
			}
			number += int64(len(raws))
			if err := report.send(s); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return a.Log.Sync() // what was said to be stored outlives a power cut, once the import has ended
		}
		if ctx.Err() != nil {
			return errStopping
		}
		if err != nil {
			return err
		}
	}
}

func (a *API) append(raws [][]byte, counts *Imported, before int64) (ImportReport, error) {
	results, err := a.Log.Append(raws)
	if err != nil {
		return ImportReport{}, err
	}
	var report ImportReport
	for i, r := range results {
		switch r.Status {
		case log.Stored:
			counts.Stored++
			continue
		case log.Duplicate:
			counts.Duplicate++
			continue
		case log.Gap:
			counts.Gap++
		case log.Forked:
			counts.Fork++
		default:
			counts.Invalid++
		}
		why := Refusal{Number: before + int64(i) + 1, Status: r.Status.String(), Feed: r.Author, Sequence: r.Sequence}
		if r.Err != nil {
			why.Error = r.Err.Error()
		}
		report.Refused = append(report.Refused, why)
	}
	report.Imported = *counts
	return report, nil
}

func (a *API) export(_ context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
	var o struct {
		ID *identity.ID `json:"id"`
	}
	if err := req.Decode(&o); err != nil {
		return err
	}
	if o.ID != nil {
		return sendKVT(s, a.Log.Feed(*o.ID, log.Range{}))
	}
	return sendKVT(s, a.Log.Arrivals(0, false))
}
