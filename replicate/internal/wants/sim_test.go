package wants

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"charkha/identity"
)

// Random events, by their seed.
func TestRandomEvents(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		script := make([]byte, 400)
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		runScript(t, script)
	}
}

// world is many brains that talk in virtual time.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Time
	queue events
	seq   int
	nodes []*simNode
	gets  int // pieces asked for
}

type event struct {
	at  time.Time
	seq int
	do  func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(e any)   { *q = append(*q, e.(event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now.Add(d), w.seq, do})
}

// simNode is a node of a world. What a hostile one gives is wrong, or never comes.
type simNode struct {
	*bench
	w       *world
	n       int
	links   map[int]bool
	hostile string // "", "wrong", "stalls", "short"
	bad     map[uint64]bool
	planned time.Time
}

func (w *world) add(hostile string) *simNode {
	s := &simNode{bench: newBench(w.t, Options{Max: 100 << 20}), w: w, n: len(w.nodes), links: map[int]bool{}, hostile: hostile, bad: map[uint64]bool{}}
	w.nodes = append(w.nodes, s)
	return s
}

const (
	latency = 50 * time.Millisecond
	simSize = 3 << 19 // of each blob
)

func (w *world) link(a, b int) {
	for _, p := range [][2]int{{a, b}, {b, a}} {
		s := w.nodes[p[0]]
		s.links[p[1]] = true
		s.Connect(w.now, peerID(p[1]))
		s.Open(peerID(p[1]))
	}
	w.nodes[a].act()
	w.nodes[b].act()
}

// hear is what another node said.
func (s *simNode) hear(from int, said []Entry) {
	if s.hostile != "" { // it has all that anybody wants
		for i, e := range said {
			if e.N < 0 {
				said[i].N = simSize
			}
		}
		s.w.after(latency, func() { s.w.nodes[from].hear(s.n, said) })
		return
	}
	s.Heard(s.w.now, peerID(from), said)
	s.act()
}

// act does what the brain says.
func (s *simNode) act() {
	if s.hostile != "" {
		return
	}
	s.now = s.w.now
	for again := true; again; {
		again = false
		actions, later := s.Next(s.w.now)
		for _, a := range actions {
			again = true
			switch a.Act {
			case Get:
				s.gets[a.Out] = a
				s.w.gets++
				s.get(a)
			case Stop:
				if g, ok := s.gets[a.Out]; ok {
					s.fail(g, Failed)
				}
			case Drop:
				for _, g := range s.gets {
					if g.Job == a.Job {
						s.fail(g, Failed)
					}
				}
				s.dropped(a)
			case Commit:
				r := OK
				if s.bad[a.Job] {
					r = Wrong
				}
				s.commit(a, r)
				s.check()
			}
		}
		if !later.IsZero() && later != s.planned {
			s.planned = later
			s.w.after(later.Sub(s.w.now), s.act)
		}
	}
	for n := range s.links {
		for {
			said, ok := s.Say(peerID(n))
			if !ok {
				break
			}
			s.w.after(latency, func() { s.w.nodes[n].hear(s.n, said) })
		}
	}
}

// get fetches a piece.
func (s *simNode) get(a Action) {
	from := s.w.nodes[int(a.Peer[0])|int(a.Peer[1])<<8]
	took := 2*latency + time.Duration(a.To-a.From)*time.Microsecond // a MB/s
	s.w.after(took, func() {
		if _, ok := s.gets[a.Out]; !ok {
			return // stopped
		}
		size, held := from.held[a.ID]
		switch {
		case from.hostile == "stalls":
			return
		case from.hostile == "short" || from.hostile == "" && (!held || size != a.Size):
			s.Progress(s.w.now, a.Out, (a.To-a.From)/2)
			s.fail(a, Failed)
		default:
			if from.hostile == "wrong" || a.Size != simSize {
				s.bad[a.Job] = true
			}
			s.give(a)
		}
		s.act()
	})
}

func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.queue) > 0 && !w.queue[0].at.After(end) {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
	w.now = end
}

// distances counts the links from a node to the others, over honest ones.
func (w *world) distances(from int) map[int]int {
	far := map[int]int{from: 0}
	for next := []int{from}; len(next) > 0; next = next[1:] {
		for n := range w.nodes[next[0]].links {
			if _, seen := far[n]; !seen && w.nodes[n].hostile == "" {
				far[n] = far[next[0]] + 1
				next = append(next, n)
			}
		}
	}
	return far
}

// In a network of sixty nodes, a sixth of which say to have everything and give what is wrong, late or nothing, every blob that
// is wanted arrives where it is within the reach of sympathy, also when it is wanted before it exists, and pushed blobs come to
// be on other nodes.
func TestSimulatedNetwork(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 7)), now: epoch}
			for i := range 60 {
				w.add([]string{"", "", "", "", "", map[int]string{0: "wrong", 1: "stalls", 2: "short"}[i/6%3]}[i%6])
			}
			for i := range 60 {
				w.link(i, (i+1)%60)
				for range 2 {
					if j := w.rng.IntN(60); j != i && !w.nodes[i].links[j] {
						w.link(i, j)
					}
				}
			}
			w.run(time.Second)
			honest := func() int {
				for {
					if n := w.rng.IntN(60); w.nodes[n].hostile == "" {
						return n
					}
				}
			}
			type wish struct {
				by, at int
				id     identity.BlobID
			}
			var reachable []wish
			for i := range 40 {
				by, at, id := honest(), honest(), blobID(i)
				add := func() {
					w.nodes[at].held[id] = simSize
					w.nodes[at].Stored(w.now, id, simSize)
					w.nodes[at].act()
				}
				if i%2 == 0 {
					add()
				} else {
					w.after(time.Duration(w.rng.IntN(60))*time.Second, add)
				}
				w.nodes[by].Want(w.now, id, false)
				w.nodes[by].act()
				if d, ok := w.distances(by)[at]; ok && d <= 3 {
					reachable = append(reachable, wish{by, at, id})
				}
			}
			pushed := blobID(1000)
			pusher := honest()
			w.nodes[pusher].held[pushed] = simSize
			w.nodes[pusher].Push(pushed, nil)
			w.nodes[pusher].act()
			w.run(20 * time.Minute)
			for _, v := range reachable {
				if _, ok := w.nodes[v.by].held[v.id]; !ok {
					t.Errorf("node %d has not got what is %d links away: %+v", v.by, w.distances(v.by)[v.at], w.nodes[v.by].Wants())
				}
			}
			copies := 0
			for _, s := range w.nodes {
				if _, ok := s.held[pushed]; ok {
					copies++
				}
				s.check()
			}
			if copies < 2 {
				t.Errorf("what is pushed is on %d nodes", copies)
			}
			t.Logf("%d of 40 were within reach; %d pieces were asked for; what was pushed is on %d nodes", len(reachable), w.gets, copies)
			if len(reachable) < 20 {
				t.Error("that tests nothing")
			}
		})
	}
}
