package log

import "sync/atomic"

// Intake appends what one source sends without a pause in two steps, so that a part of it is checked while the part before it is
// committed. Append does the same within one call.
type Intake struct {
	l     *Log
	ahead ahead
	open  atomic.Int64 // parts that are checked and not appended
}

// NewIntake begins to take in what a source sends.
func (l *Log) NewIntake() *Intake { return &Intake{l: l, ahead: ahead{}} }

// Checked is messages that were read and whose signatures were checked.
type Checked struct {
	in     *Intake
	pieces []*piece
	count  int
}

// Check reads messages and checks their signatures, on all cores. Not for several goroutines at once; others may append what was
// checked before. raws must not change before the messages are appended.
func (in *Intake) Check(raws [][]byte) *Checked {
	if in.open.Load() == 0 {
		clear(in.ahead) // all is in the log by now, or was refused
	}
	c := &Checked{in: in, count: len(raws)}
	for p := in.l.verify(&raws, in.ahead); p != nil; p = in.l.verify(&raws, in.ahead) {
		c.pieces = append(c.pieces, p)
	}
	in.open.Add(1)
	return c
}

// Append appends the messages, once, and as Log.Append does. What was checked first is to be appended first: what comes after it in
// the same feeds is a gap without it.
func (c *Checked) Append() ([]Result, error) {
	defer c.in.open.Add(-1)
	results := make([]Result, c.count)
	at := 0
	var err error
	for _, p := range c.pieces {
		if err == nil {
			if err = c.in.l.chain(p.ps, results[at:at+len(p.ps)]); err == nil {
				at += len(p.ps)
			}
		}
		p.free()
	}
	c.pieces = nil
	return results[:at], err
}
