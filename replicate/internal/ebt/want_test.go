package ebt

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"charkha/identity"
)

// Feeds that come to be wanted and no longer, blocks that come and go, and links that break: when all is wanted and nothing
// blocked in the end, everything arrives, whatever was said before, and stays.
func TestWantsAndBlocksComeAndGo(t *testing.T) {
	for range 40 {
		s := newSim(t, rand.Uint64(), 5)
		const feeds = 4
		wants := map[int][]int{}
		for n, node := range s.nodes {
			for f := range feeds {
				wants[n] = append(wants[n], f)
				if s.rng.IntN(2) == 0 {
					s.want(node, f)
				}
			}
		}
		pick := func() *simNode { return s.nodes[s.rng.IntN(len(s.nodes))] }
		for range 150 {
			switch node := pick(); s.rng.IntN(8) {
			case 0:
				s.connect(node, pick())
			case 1:
				s.disconnect(node, pick())
			case 2, 3:
				node.brain.Want(s.now, id(s.rng.IntN(feeds)), s.rng.IntN(2) == 0)
				s.wake(node)
			case 4, 5:
				s.publish(s.nodes[s.rng.IntN(feeds)], int64(1+s.rng.IntN(3)))
			case 6:
				author := id(s.rng.IntN(feeds))
				if node.blocks[author] == nil {
					node.blocks[author] = map[identity.ID]bool{}
				}
				peer := id(pick().n)
				node.blocks[author][peer] = !node.blocks[author][peer]
				node.brain.Recheck(s.now)
				s.wake(node)
			case 7:
				s.run(time.Duration(s.rng.IntN(8000)) * time.Millisecond)
			}
		}
		for n, node := range s.nodes {
			clear(node.blocks)
			node.brain.Recheck(s.now)
			for f := range feeds {
				s.want(node, f)
			}
			s.wake(node)
			s.connect(node, s.nodes[(n+1)%len(s.nodes)])
		}
		s.run(time.Minute)
		if m := s.missing(wants); m > 0 {
			t.Fatalf("%d feeds are not whole", m)
		}
		// What is published now arrives too: nobody believes that somebody does not want it.
		for f := range feeds {
			s.publish(s.nodes[f], 1)
		}
		s.run(30 * time.Second)
		if m := s.missing(wants); m > 0 {
			t.Fatalf("%d feeds stopped", m)
		}
	}
}

// A peer that does not take its answers gets no more of them than are bounded.
func TestAnswersAreBounded(t *testing.T) {
	b := New(Options{Self: id(0)})
	b.Connect(epoch, id(1), nil, false)
	for round := range 10 {
		notes := Notes{}
		for i := range 10000 {
			notes[id(1000+round*10000+i)] = MakeNote(5, true)
		}
		b.Notes(epoch, id(1), notes)
	}
	if n := len(b.peers[id(1)].notes); n > maxAnswers {
		t.Errorf("%d answers wait", n)
	}
	b.Next(epoch, id(1))
	b.Notes(epoch, id(1), Notes{id(7): MakeNote(5, true)})
	if notes, _, _ := b.Next(epoch, id(1)); notes[id(7)] != None {
		t.Errorf("when the answers were taken the next are %v", notes)
	}
}

// What could not be sent is sent when there is more, and not before.
func TestUnsentWaitsForNews(t *testing.T) {
	b := New(Options{Self: id(0), MaxRange: 10})
	b.Want(epoch, id(5), true)
	b.Stored(epoch, id(5), 25, identity.ID{})
	b.Connect(epoch, id(1), nil, false)
	b.Notes(epoch, id(1), Notes{id(5): MakeNote(0, true)})
	_, send, _ := b.Next(epoch, id(1))
	if send != (Send{Feed: id(5), From: 1, To: 10}) {
		t.Fatalf("%+v", send)
	}
	b.Unsent(id(1), id(5), 4)
	if _, send, _ := b.Next(epoch, id(1)); send.To != 0 {
		t.Fatalf("%+v at once again", send)
	}
	b.Stored(epoch, id(5), 26, identity.ID{})
	if _, send, _ := b.Next(epoch, id(1)); send.From != 4 {
		t.Fatalf("%+v after news", send)
	}
}

// After a refusal, what the peer sends of the feed is not looked at, and the feed is not asked from it when it is wanted anew.
func TestRefusedIsDropped(t *testing.T) {
	b := New(Options{Self: id(0)})
	b.Want(epoch, id(5), true)
	b.Connect(epoch, id(1), nil, false)
	b.Notes(epoch, id(1), Notes{id(5): MakeNote(9, true)})
	if !b.Received(epoch, id(1), id(5), 1) {
		t.Fatal("what was asked for is not looked at")
	}
	b.Refused(epoch, id(1), id(5))
	if b.Received(epoch, id(1), id(5), 2) {
		t.Error("looked at after a refusal")
	}
	b.Want(epoch, id(5), false)
	b.Next(epoch, id(1))
	b.Want(epoch, id(5), true)
	if notes, _, _ := b.Next(epoch, id(1)); notes[id(5)].Receive() {
		t.Errorf("asked again with %v", notes)
	}
	if b.Received(epoch, id(1), id(5), 1) {
		t.Error("looked at after it was wanted anew")
	}
}

// A peer is mute until it says anything, even that there is nothing to say.
func TestMute(t *testing.T) {
	b := New(Options{Self: id(0)})
	for n := 1; n <= 3; n++ {
		b.Connect(epoch, id(n), nil, n > 1)
	}
	b.Notes(epoch, id(1), Notes{})
	b.Received(epoch, id(2), id(9), 1)
	if got := b.Laggards(); !slices.Equal(got, []Laggard{{id(3), 0, true}}) {
		t.Errorf("these let us wait: %+v", got)
	}
}

// Stalled feeds are owed once, however long nobody asks what is owed.
func TestOwedIsBounded(t *testing.T) {
	b := New(Options{Self: id(0)})
	notes := Notes{}
	for f := range 10 {
		b.Want(epoch, id(5+f), true)
		notes[id(5+f)] = MakeNote(9, true)
	}
	b.Connect(epoch, id(1), nil, false)
	b.Notes(epoch, id(1), notes)
	for minute := range 100 {
		b.Tick(epoch.Add(time.Duration(minute) * time.Minute))
	}
	if owed := b.Owed(id(1)); len(owed) != 10 {
		t.Errorf("%d feeds are owed, want 10", len(owed))
	}
	if owed := b.Owed(id(1)); len(owed) != 0 {
		t.Errorf("%d feeds are owed a second time", len(owed))
	}
}
