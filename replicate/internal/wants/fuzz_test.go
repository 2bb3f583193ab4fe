package wants

import (
	"testing"
	"time"
)

// Whatever happens, in whatever order, the tables keep their bounds and agree with each other, and what is asked for can be asked
// for.
func FuzzBrain(f *testing.F) {
	f.Add([]byte{0, 1, 1, 1, 2, 0, 3, 1, 0, 6, 10, 10, 10, 11, 11})
	f.Add([]byte{0, 0, 1, 0, 0, 1, 1, 1, 2, 5, 3, 0x10, 5, 3, 0x11, 5, 10, 12, 0, 12, 1, 13, 0, 10, 14, 0, 14, 1})
	f.Add([]byte{2, 1, 2, 2, 2, 3, 0, 1, 1, 1, 3, 1, 1, 3, 1, 2, 3, 1, 3, 9, 200, 10, 12, 2, 9, 255, 10, 8, 1})
	f.Add([]byte{0, 0, 1, 0, 4, 0, 7, 4, 0, 8, 5, 7, 7, 1, 10, 2, 7, 10})
	f.Fuzz(runScript)
}

func runScript(t *testing.T, script []byte) {
	x := newBench(t, Options{Max: 20 << 20, Rate: int64(len(script)%3) * 100_000})
	connected := map[int]bool{}
	at := 0
	next := func() int {
		if at >= len(script) {
			return 0
		}
		at++
		return int(script[at-1])
	}
	for at < len(script) && at < 4000 {
		switch op := next(); op % 16 {
		case 0:
			p := next() % 4
			x.Connect(x.now, peerID(p))
			connected[p] = true
		case 1:
			x.Open(peerID(next() % 4))
		case 2:
			x.Want(x.now, blobID(next()%8), op > 100)
		case 3: // a peer has something
			p := next()
			x.heard(p%4, Entry{blobID(next() % 8), []int64{100, 65536, 1 << 20, 5 << 20, 20<<20 + 1}[p/4%5]})
		case 4: // or wants it
			p := next()
			x.heard(p%4, Entry{blobID(next() % 8), -int64(p/4%5) - 1})
		case 5:
			x.Unwait(blobID(next() % 8))
		case 6:
			x.Forget(x.now, blobID(next()%8))
		case 7:
			id := blobID(next() % 8)
			x.held[id] = 100
			x.Stored(x.now, id, 100)
		case 8:
			p := next() % 4
			x.Disconnect(x.now, peerID(p))
			connected[p] = false
		case 9:
			x.now = x.now.Add(time.Duration(next()*next()) * 100 * time.Millisecond)
		case 10:
			for _, a := range x.next() {
				if a.Act != Get {
					continue
				}
				if x.Brain.jobs[a.Job] == nil || x.Brain.outs[a.Out] == nil {
					t.Fatalf("%+v: of nothing", a)
				}
			}
		case 11:
			p := next() % 4
			for range 5 {
				x.Say(peerID(p))
			}
		case 12: // something under way ends
			n, r := next(), Result(next()%7)
			for id, a := range x.gets {
				if int(id)%4 != n%4 {
					continue
				}
				if r == OK {
					x.give(a)
				} else {
					x.Progress(x.now, a.Out, min(int64(n)*100, a.To-a.From))
					x.fail(a, r)
				}
			}
		case 13:
			r := Result(next() % 7)
			for _, a := range x.jobs {
				if a.Act == Drop {
					busy := false
					for _, g := range x.gets {
						busy = busy || g.Job == a.Job
					}
					if !busy {
						x.dropped(a)
					}
				} else {
					x.commit(a, r)
				}
			}
		case 14:
			x.Close(peerID(next() % 4))
		case 15:
			id := blobID(next() % 8)
			if op < 128 {
				x.Push(id, nil)
			} else {
				x.Unpush(id)
			}
		}
		x.check()
	}
}
