// Package gen makes feeds for measurements: the same ones from the same seed, on every machine.
//
// They are like those of a network of people: few write most (a Zipf law), who follows whom is a small world (neighbours on a
// ring, some far friends), two of five messages are votes, a third posts with replies, mentions, hashtags and images, one in
// twenty is private; a share of the clocks gives fractions of milliseconds, and contents hold the numbers that people's
// programs write. Messages come in the order in which somebody connected to all would have got them, so that a feed's
// messages are in order and refer only to what came before.
package gen

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"

	"charkha/identity"
	"charkha/log"
)

// Version changes when the same options make other messages than before.
const Version = 2

// Options say what is made.
type Options struct {
	Messages int
	Authors  int
	Seed     uint64
	// Long is how many threads get LongThread messages each, soon after their beginning. Without it no thread of a hundred thousand
	// messages has more than 70. With 0 the messages are those of older versions.
	Long int
}

// LongThread is how many messages a long thread has, the one that began it among them.
const LongThread = 200

// Message is a generated message.
type Message struct {
	ID        identity.MsgID
	Author    identity.ID
	Sequence  int64
	Timestamp float64 // milliseconds since 1970
	Value     []byte  // as it is signed, stored and sent
}

// AppendLine appends the message as {"key", "value", "timestamp"} and a newline, which every SSB stack can read.
func (m *Message) AppendLine(dst []byte) []byte {
	dst = fmt.Appendf(dst, `{"key":"%s","value":`, m.ID)
	dst = append(dst, m.Value...)
	return fmt.Appendf(dst, ",\"timestamp\":%d}\n", int64(m.Timestamp)+100)
}

// Key returns an author's key pair, 0 being the first.
func (o Options) Key(author int) identity.KeyPair {
	var seed [32]byte
	copy(seed[:], "charkha bench")
	binary.LittleEndian.PutUint64(seed[16:], o.Seed)
	binary.LittleEndian.PutUint64(seed[24:], uint64(author))
	return identity.FromSeed(seed)
}

// window is how many messages are signed at once. A message refers to those of earlier windows.
const window = 4096

// Generate makes the messages and gives them to emit in their order, until emit fails.
func Generate(o Options, emit func(*Message) error) error {
	if o.Messages < 0 || o.Authors < 1 {
		return fmt.Errorf("generate %d messages of %d authors: 0 and 1 at least are needed", o.Messages, o.Authors)
	}
	g := newGenerator(o)
	for done := 0; done < o.Messages; done += window {
		msgs, err := g.window(min(window, o.Messages-done))
		if err != nil {
			return err
		}
		for i := range msgs {
			if err := emit(&msgs[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

type generator struct {
	o       Options
	rng     *rand.Rand
	zipf    *rand.Zipf
	authors []author
	joined  int
	clock   float64
	posts   []post                  // of earlier windows, the latest in a ring
	long    []long                  // threads that are growing
	begun   int                     // long threads so far
	roots   map[identity.MsgID]bool // of those
	made    int
}

type author struct {
	key      identity.KeyPair
	name     string
	seq      int64
	prev     identity.MsgID
	duties   []string // contents that come before anything else: who it is, whom it follows
	fraction bool     // its program's clock gives fractions of milliseconds
	skew     float64
}

type post struct {
	id, root identity.MsgID
	author   int
}

// long is a thread that many answer.
type long struct {
	root, last post // its first message, and one of the latest
	left       int  // answers still to come
}

const (
	remembered  = 2000 // posts that may be replied to
	longAtATime = 5    // long threads that grow side by side
	longShare   = 10   // one of so many posts goes to one of them
)

func newGenerator(o Options) *generator {
	rng := rand.New(rand.NewPCG(o.Seed, 0xC4A2))
	g := &generator{o: o, rng: rng, roots: map[identity.MsgID]bool{}, authors: make([]author, o.Authors), clock: 1.5e12}
	if o.Authors > 1 {
		g.zipf = rand.NewZipf(rng, 1.15, 6, uint64(o.Authors-1))
	}
	for i := range g.authors {
		g.authors[i].key = o.Key(i)
		g.authors[i].name = names[i%len(names)]
		if i >= len(names) {
			g.authors[i].name += fmt.Sprint(i / len(names))
		}
		g.authors[i].fraction = rng.IntN(12) == 0
		if rng.IntN(30) == 0 {
			g.authors[i].skew = float64(rng.IntN(7200_000) - 3600_000)
		}
	}
	// The ring is not in the order of activity.
	ring := rng.Perm(o.Authors)
	for at, a := range ring {
		me := &g.authors[a]
		me.duties = append(me.duties, marshal(map[string]any{"type": "about", "about": me.key.ID(), "name": me.name,
			"description": g.words(5 + rng.IntN(20)), "image": map[string]any{"link": g.blob(), "size": rng.IntN(90000), "type": "image/jpeg"}}))
		for step := 1; step <= min(6, o.Authors-1); step++ {
			friend := ring[(at+step)%o.Authors]
			if rng.IntN(5) == 0 {
				friend = rng.IntN(o.Authors)
			}
			if friend != a {
				me.duties = append(me.duties, g.follow(friend))
			}
		}
	}
	return g
}

// window makes and signs the next n messages.
func (g *generator) window(n int) ([]Message, error) {
	msgs := make([]Message, n)
	contents := make([]string, n)
	isPost := make([]bool, n)
	roots := make([]identity.MsgID, n)
	whose := make([]int, n)
	queue := make([][]int, g.o.Authors) // of each author, places in msgs
	for i := range msgs {
		a := g.next()
		whose[i] = a
		queue[a] = append(queue[a], i)
		g.clock += 1 + float64(g.rng.IntN(40_000))
		msgs[i].Timestamp = g.clock + g.authors[a].skew
		if g.authors[a].fraction {
			msgs[i].Timestamp += float64(g.rng.IntN(10_000)) / 10_000
		}
		contents[i], isPost[i], roots[i] = g.content(a)
	}

	work := make(chan int, g.o.Authors)
	for a := range queue {
		if len(queue[a]) > 0 {
			work <- a
		}
	}
	close(work)
	var wg sync.WaitGroup
	errs := make([]error, runtime.GOMAXPROCS(0))
	for w := range errs {
		wg.Go(func() {
			for a := range work {
				me := &g.authors[a]
				for _, i := range queue[a] {
					value, id, err := log.Sign(me.key, nil, me.prev, me.seq+1, msgs[i].Timestamp, []byte(contents[i]))
					if err != nil {
						errs[w] = fmt.Errorf("message %d, %s: %w", g.made+i, contents[i], err)
						return
					}
					me.seq, me.prev = me.seq+1, id
					msgs[i].ID, msgs[i].Author, msgs[i].Sequence, msgs[i].Value = id, me.key.ID(), me.seq, value
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	for i := range msgs {
		if isPost[i] {
			p := post{id: msgs[i].ID, root: roots[i], author: whose[i]}
			switch {
			case g.lengthen(p): // nobody else answers it, so that the thread ends with the length that was asked for
			case len(g.posts) < remembered:
				g.posts = append(g.posts, p)
			default:
				g.posts[g.rng.IntN(remembered)] = p
			}
		}
	}
	g.made += n
	return msgs, nil
}

// lengthen makes a post that begins a thread the beginning of a long one, if one is wanted, or the latest of its long thread. It
// says whether the post is in one.
func (g *generator) lengthen(p post) bool {
	if p.root.IsZero() && g.begun < g.o.Long && len(g.long) < longAtATime {
		g.begun++
		g.long = append(g.long, long{p, p, LongThread - 1})
		g.roots[p.id] = true
		return true
	}
	for i := range g.long {
		if g.long[i].root.id == p.root {
			g.long[i].last = p
		}
	}
	return g.roots[p.root]
}

// answered chooses the post that a new one answers, and says in which thread.
func (g *generator) answered() (p post, root identity.MsgID) {
	r := g.rng
	if len(g.long) > 0 && r.IntN(longShare) == 0 {
		i := r.IntN(len(g.long))
		p, root = g.long[i].last, g.long[i].root.id
		if g.long[i].left--; g.long[i].left == 0 {
			g.long = slices.Delete(g.long, i, i+1)
		}
		return p, root
	}
	p = g.posts[r.IntN(len(g.posts))]
	if root = p.root; root.IsZero() {
		root = p.id
	}
	return p, root
}

// next chooses who writes: people join during the first fifth.
func (g *generator) next() int {
	if g.joined < g.o.Authors && (g.joined == 0 || g.rng.IntN(max(g.o.Messages/5/g.o.Authors, 1)) == 0) {
		g.joined++
		return g.joined - 1
	}
	if g.zipf == nil {
		return 0
	}
	for {
		if a := int(g.zipf.Uint64()); a < g.joined {
			return a
		}
	}
}

// content makes what an author writes next; root is the thread that a post is in, zero for a new one.
func (g *generator) content(a int) (content string, isPost bool, root identity.MsgID) {
	me := &g.authors[a]
	if len(me.duties) > 0 {
		content, me.duties = me.duties[0], me.duties[1:]
		return content, false, root
	}
	r := g.rng
	switch k := r.IntN(1000); {
	case k < 50:
		box := make([]byte, 150+r.IntN(700))
		for i := range box {
			box[i] = byte(r.Uint32())
		}
		return `"` + base64.StdEncoding.EncodeToString(box) + `.box"`, false, root
	case k < 450 && len(g.posts) > 0:
		p := g.posts[r.IntN(len(g.posts))]
		vote := map[string]any{"link": p.id, "value": 1, "expression": []string{"Like", "💖", "👍", "yup", "Star"}[r.IntN(5)]}
		return marshal(map[string]any{"type": "vote", "vote": vote}), false, root
	case k < 540:
		return g.contact(), false, root
	case k < 570:
		return marshal(map[string]any{"type": "about", "about": g.someone(), "name": names[r.IntN(len(names))]}), false, root
	case k < 600:
		return marshal(map[string]any{"type": "channel", "channel": tags[r.IntN(len(tags))], "subscribed": r.IntN(4) > 0}), false, root
	case k < 605:
		return marshal(map[string]any{"type": "pub", "address": map[string]any{"host": fmt.Sprintf("pub%d.example", r.IntN(50)), "port": 8008, "key": g.someone()}}), false, root
	case k < 620:
		return g.odd(), false, root
	}
	return g.post()
}

func (g *generator) post() (content string, isPost bool, root identity.MsgID) {
	r := g.rng
	text := g.words(int(math.Exp(3.4 + 0.9*r.NormFloat64())))
	mentions := []any{}
	fields := []string{`"type":"post"`}
	if len(g.posts) > 0 && r.IntN(3) > 0 {
		var p post
		p, root = g.answered()
		fields = append(fields, fmt.Sprintf(`"root":"%s","branch":"%s"`, root, p.id))
		if r.IntN(4) == 0 {
			who := g.authors[p.author]
			text = fmt.Sprintf("[@%s](%s) %s", who.name, who.key.ID(), text)
			mentions = append(mentions, map[string]any{"link": who.key.ID(), "name": who.name})
		}
	} else {
		text = "# " + g.words(3) + "\n\n" + text
		if r.IntN(8) == 0 {
			fields = append(fields, fmt.Sprintf(`"channel":%q`, tags[r.IntN(len(tags))]))
		}
	}
	if r.IntN(8) == 0 {
		tag := tags[r.IntN(len(tags))]
		text += " #" + tag
		mentions = append(mentions, map[string]any{"link": "#" + tag})
	}
	if r.IntN(12) == 0 {
		blob := g.blob()
		text += fmt.Sprintf("\n\n![photo.jpg](%s)", blob)
		mentions = append(mentions, map[string]any{"link": blob, "name": "photo.jpg", "size": 20_000 + r.IntN(3_000_000), "type": "image/jpeg"})
	}
	fields = append(fields, `"text":`+marshal(text), `"mentions":`+marshal(mentions))
	return "{" + strings.Join(fields, ",") + "}", true, root
}

func (g *generator) contact() string {
	switch k := g.rng.IntN(50); {
	case k == 0:
		return marshal(map[string]any{"type": "contact", "contact": g.someone(), "following": false, "blocking": true})
	case k < 6:
		return marshal(map[string]any{"type": "contact", "contact": g.someone(), "following": false})
	}
	return g.follow(g.rng.IntN(g.o.Authors))
}

func (g *generator) follow(a int) string {
	return fmt.Sprintf(`{"type":"contact","contact":"%s","following":true}`, g.o.Key(a).ID())
}

// odd makes contents of other programs, with numbers in the many forms that they write.
func (g *generator) odd() string {
	r := g.rng
	switch r.IntN(3) {
	case 0:
		return fmt.Sprintf(`{"type":"gathering","title":%q,"startDateTime":{"epoch":%d,"bias":-60,"silent":false},"position":[%v,%v]}`,
			g.words(2), 1500000000000+r.Int64N(1e11), r.Float64()*180-90, r.Float64()*360-180)
	case 1:
		return fmt.Sprintf(`{"type":"chess_move","ply":%d,"orig":"e2","dest":"e4","clock":[%v,1e21,1e-7,0.1,5e-324],"fen":null}`, r.IntN(80), r.ExpFloat64()*1e5)
	}
	return fmt.Sprintf(`{"type":"bookclub-update","2":"two","1":{"rating":%v,"shelves":[[],{},true]},"rating":%d.50}`, r.Float64()*5, r.IntN(5))
}

func (g *generator) someone() identity.ID { return g.authors[g.rng.IntN(max(g.joined, 1))].key.ID() }

func (g *generator) blob() string {
	var id identity.BlobID
	for i := range id {
		id[i] = byte(g.rng.Uint32())
	}
	return id.String()
}

func (g *generator) words(n int) string {
	var b strings.Builder
	for range min(n, 900) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		w := words[int(float64(len(words))*math.Pow(g.rng.Float64(), 2))]
		if g.rng.IntN(40) == 0 {
			w += ".\n"
		}
		b.WriteString(w)
	}
	return b.String()
}

// marshal writes JSON as JSON.stringify would, without HTML's escapes.
func marshal(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // maps and strings of our own
	}
	return strings.TrimSuffix(b.String(), "\n")
}

var (
	names = strings.Fields("ada bashir chandra dorothy emeka farida grace hugo ines jun kofi lena mei nadia omar pia quentin rosa sami tove uma viktor wangari xiu yara zeno")
	tags  = strings.Fields("gardening ssb solarpunk music bicycles bread sailing books new-people permaculture radio cats")
	words = strings.Fields(`the and to of a in is it that for you on with this was as be are have we not they at from or what one
		all would there their will about so if out up when can my people like time no just into some them see other than then now
		garden boat network feed friend message letter bread winter island solar café naïve über größe señor piñata 日本 привет 🌱 🧶 ⛵
		thinking building sharing because although perhaps yesterday tomorrow beautiful together community protocol gossip offline
		bicycle kitchen workshop library neighbour mountain river harvest spinning wheel thread cotton loom weaving cloth`)
)
