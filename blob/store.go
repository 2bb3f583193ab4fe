package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"charkha/identity"
)

const (
	// DefaultMax is the most bytes of one blob unless Options.Max says otherwise: what JS peers take, too.
	DefaultMax = 5 << 20

	// limit is the most that Options.Max may be.
	limit = 1 << 30
)

// Why nothing was stored, or not read. What is not there is fs.ErrNotExist; a store that was closed is os.ErrClosed.
var (
	ErrTooLarge  = errors.New("the blob is larger than allowed")
	ErrWrongHash = errors.New("the bytes are not those of the blob")
	ErrFull      = errors.New("no room for the blob") // in the budget, by the order of leaving; or on the disk
	ErrRefused   = errors.New("the blob was removed here, and nobody asks for it")
)

// Options for Open.
type Options struct {
	Dir string // holds everything; made when it is not there

	// Max is the most bytes of one blob, at most 1 GiB; 0 is DefaultMax. What is there already stays.
	Max int64
	// Budget is the most bytes of all blobs that may leave again, those that are being received included; 0: no limit. Own and
	// pinned blobs do not count. A blob counts in whole blocks of 4 KiB, one at least, as on disk. See "The budget" above.
	Budget int64
	// AutoMax is the most bytes of a blob that nobody here asked for; 0: as Max. See Objection.
	AutoMax int64
	// Rank tells how far an author is, in hops: 0 is me, -1 is out of range or unknown. nil: all are -1. It is called by Receive,
	// Add, Objection and Trim when the budget is full, once for each author of whom something is there, and no lock is held.
	Rank func(author identity.ID) int

	// Check makes Open read every blob. One that is damaged, or cannot be read, is set aside in the folder damaged, and not there
	// any more, so that it can be fetched again.
	Check bool

	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged

	fault    func(step, path string, done bool) error // see disk
	noSync   bool
	bulkFrom int64                               // the size from which on a blob is large, and
	bulkSize int                                 // how much of one is written at once; 0: as the constants of these names
	direct   func(path string) (*os.File, error) // nil: openDirect
	slack    int64                               // how many more records may be written than are needed twice, before all are written anew; 0: some thousand
}

// Why is why a blob is kept, and for whom it counts. Zero ids are nobody.
type Why struct {
	Own    bool        // it was added here, and perhaps nobody else has it: it leaves only by Remove
	Pinned bool        // it was asked to stay: it leaves only by Remove, or after Pin(id, false)
	Author identity.ID // who linked it
	Peer   identity.ID // who brought it

	// Asked: a person here asked for it now, so that room is made among all that may leave, whoever linked it. It is about the
	// call only: nothing remembers it.
	Asked bool
}

// Info is what is known of a blob that is there.
type Info struct {
	ID     identity.BlobID
	Size   int64     // bytes
	Stored time.Time // when it came, to the ms
	Why    Why
}

// Usage tells how much room blobs take, in bytes.
type Usage struct {
	Bytes  int64 // of all blobs
	Blobs  int64 // how many there are
	Own    int64 // of those that never leave: own and pinned ones
	Budget int64 // for the others; 0: no limit
	// Free is what of the budget nobody uses, in whole blocks of 4 KiB; math.MaxInt64 when there is no limit.
	Free int64
	// Authors and Peers tell of how many bytes somebody is the author, or the peer who brought them. The zero id is nobody.
	Authors, Peers map[identity.ID]int64
	Evicted        int64 // how many blobs left for others since Open
}

// Store keeps blobs. Its methods may be called at the same time.
//
// Locks, in the order in which they are taken: room, one of shards, change, mu. Only mu is never held over work on files.
type Store struct {
	o    Options // fixed after Open, but Budget, which is under mu
	log  *slog.Logger
	disk disk
	lock *flock.Flock
	tmp  string // folder of half-written files

	// room is held by who makes room.
	room sync.Mutex
	// shards are held by who makes or removes the file of a blob, or changes what is written of it, by the first byte of its id.
	shards [256]sync.Mutex
	made   [256]bool // the folder is there, and its name on disk; each under its shard
	// change is held for reading from before a record is appended until memory says the same, so that who holds it for
	// writing can write all records anew.
	change sync.RWMutex
	known  journal

	// bulks has one for each large blob that is written in pieces of bulkSize.
	bulks chan struct{}

	// refusing is held by who changes what is refused.
	refusing sync.Mutex

	mu      sync.Mutex
	closed  bool
	slots   map[identity.BlobID]uint32
	entries []entry
	unused  []uint32 // of entries
	people  people
	order   []arrival // in which blobs came; may name some that left
	arrived uint64    // number of the last arrival
	news    chan struct{}
	bytes   int64 // of all
	fixed   int64 // of those that never leave
	leaving int64 // of those that may leave, and of what is being received: as the budget counts them
	evicted int64
	refused []identity.BlobID // in the order in which they were
	unsure  [256]bool         // folders in which names went away since they were synced
}

// entry is a blob in memory.
type entry struct {
	id             identity.BlobID
	stored, opened int64  // ms
	seq            uint64 // of its arrival; 0: the slot is unused
	size           uint32
	author, peer   uint32 // people
	prev, next     uint32 // neighbours in the list of its person, by last use, oldest first; 0 is none
	own, pinned    bool
}

// arrival names the blob that came as number seq; it left when that slot holds another number.
type arrival struct {
	seq  uint64
	slot uint32
}

func (e *entry) stays() bool { return e.own || e.pinned }

// used is when the blob was last of use to somebody.
func (e *entry) used() int64 { return max(e.stored, e.opened) }

// Open opens the store in a folder, or makes one. What does not belong there (half-written files, wrong names, symbolic links,
// blobs that are not what their name says) is removed and told in the log. A file with a right name of which nothing
// is known is hashed, and pinned when it is what its name says: so a folder of blobs of a JS peer can be copied here.
func Open(o Options) (*Store, error) {
	if o.Max == 0 {
		o.Max = DefaultMax
	}
	if o.Max < 0 || o.Max > limit || o.Budget < 0 {
		return nil, fmt.Errorf("blob: at most %d bytes a blob and %d in all cannot be: at most 1 GiB a blob", o.Max, o.Budget)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rank == nil {
		o.Rank = func(identity.ID) int { return -1 }
	}
	if o.slack == 0 {
		o.slack = 4096
	}
	if o.bulkFrom == 0 {
		o.bulkFrom = bulkFrom
	}
	if o.bulkSize == 0 {
		o.bulkSize = bulkSize
	}
	if o.direct == nil {
		o.direct = openDirect
	}
	s := &Store{o: o, log: o.Logger, disk: disk{o.fault, o.noSync}, tmp: filepath.Join(o.Dir, "tmp"), news: make(chan struct{}),
		slots: map[identity.BlobID]uint32{}, entries: make([]entry, 1), bulks: make(chan struct{}, maxBulks)}
	s.people.init()
	s.known = journal{disk: s.disk, path: filepath.Join(o.Dir, "known")}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	// The folder may be new, and everything would go with its name.
	if err := s.disk.syncDir(filepath.Dir(filepath.Clean(o.Dir))); err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("blob: %w", err)
	}
	s.lock = flock.New(filepath.Join(o.Dir, "lock"))
	if ok, err := s.lock.TryLock(); err != nil || !ok {
		return nil, errors.Join(err, fmt.Errorf("blob: another process uses %s", o.Dir))
	}
	if err := errors.Join(s.load(), s.loadRefused()); err != nil {
		return nil, errors.Join(fmt.Errorf("blob: %w", err), s.known.close(), s.lock.Unlock())
	}
	return s, nil
}

// Close makes what is known durable. Followers end. Files that were opened for reading stay open, and what is being received
// cannot be committed any more.
func (s *Store) Close() error {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.news)
	s.mu.Unlock()
	return errors.Join(s.syncFolders(), s.known.close(), s.lock.Unlock())
}

// syncFolders makes durable that files are gone. change is held for writing.
func (s *Store) syncFolders() error {
	s.mu.Lock()
	unsure := s.unsure
	clear(s.unsure[:])
	s.mu.Unlock()
	var errs []error
	for n, is := range unsure {
		if !is {
			continue
		}
		if err := s.disk.syncDir(s.folder(byte(n))); err != nil {
			errs = append(errs, err)
			s.mu.Lock()
			s.unsure[n] = true
			s.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// begin is called before a record is appended, and end when memory says the same. Between them nobody writes all records anew.
func (s *Store) begin() error {
	for {
		s.change.RLock()
		s.mu.Lock()
		closed, held := s.closed, int64(len(s.slots))
		s.mu.Unlock()
		if closed {
			s.change.RUnlock()
			return os.ErrClosed
		}
		if s.known.broken() == nil && s.known.records() <= 2*held+s.o.slack {
			return nil
		}
		s.change.RUnlock()
		if err := s.compact(); err != nil {
			return err
		}
	}
}

func (s *Store) end() { s.change.RUnlock() }

// compact writes all records anew.
func (s *Store) compact() error {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	closed, held := s.closed, int64(len(s.slots))
	s.mu.Unlock()
	if closed {
		return os.ErrClosed
	}
	if s.known.broken() == nil && s.known.records() <= 2*held+s.o.slack/2 {
		return nil // somebody else did
	}
	return s.rewrite()
}

// rewrite writes all records, in order of arrival. change is held for writing, or nobody else has the store yet. A blob that
// left must not come back by a power cut after its record is gone.
func (s *Store) rewrite() error {
	if err := s.syncFolders(); err != nil {
		return err
	}
	return s.known.rewrite(func(yield func(*record) bool) {
		for at := 0; ; at += 512 {
			s.mu.Lock()
			var some []record
			for _, a := range s.order[min(at, len(s.order)):min(at+512, len(s.order))] {
				if s.entries[a.slot].seq == a.seq {
					some = append(some, s.record(a.slot))
				}
			}
			end := at >= len(s.order)
			s.mu.Unlock()
			if end {
				return
			}
			for i := range some {
				if !yield(&some[i]) {
					return
				}
			}
		}
	})
}

// record is what is to be written of a blob. mu is held.
func (s *Store) record(slot uint32) record {
	e := &s.entries[slot]
	return record{id: e.id, size: int64(e.size), stored: e.stored, opened: e.opened, own: e.own, pinned: e.pinned,
		author: s.people.all[e.author].id, peer: s.people.all[e.peer].id}
}

// put takes a blob into memory, as the one that came last. mu is held.
func (s *Store) put(r *record) uint32 {
	var slot uint32
	if n := len(s.unused); n > 0 {
		slot, s.unused = s.unused[n-1], s.unused[:n-1]
	} else {
		slot = uint32(len(s.entries))
		s.entries = append(s.entries, entry{})
	}
	s.arrived++
	s.entries[slot] = r.entry(&s.people, s.arrived)
	s.slots[r.id] = slot
	s.order = append(s.order, arrival{s.arrived, slot})
	s.count(slot, 1)
	return slot
}

// take takes a blob out of memory. mu is held.
func (s *Store) take(slot uint32) {
	e := &s.entries[slot]
	s.count(slot, -1)
	s.people.release(e.author)
	s.people.release(e.peer)
	delete(s.slots, e.id)
	*e = entry{}
	s.unused = append(s.unused, slot)
	if len(s.order) > 2*len(s.slots)+1024 {
		s.order = slices.DeleteFunc(s.order, func(a arrival) bool { return s.entries[a.slot].seq != a.seq })
	}
}

// count adds a blob to the sums and to its list, or takes it out of both. mu is held.
func (s *Store) count(slot uint32, sign int64) {
	e := &s.entries[slot]
	n := sign * int64(e.size)
	s.bytes += n
	s.people.all[e.author].authored += n
	s.people.all[e.peer].brought += n
	if e.stays() {
		s.fixed += n
		return
	}
	p := s.people.account(accountOf(e.author, e.peer))
	p.bytes += sign * cost(int64(e.size))
	s.leaving += sign * cost(int64(e.size))
	if sign > 0 {
		s.link(p, slot)
	} else {
		s.unlink(p, slot)
	}
}

func (s *Store) info(slot uint32) Info {
	r := s.record(slot)
	return r.info()
}

func (r *record) info() Info {
	return Info{ID: r.id, Size: r.size, Stored: time.UnixMilli(r.stored),
		Why: Why{Own: r.own, Pinned: r.pinned, Author: r.author, Peer: r.peer}}
}

// Stat tells of a blob whether it is there, without touching the disk.
func (s *Store) Stat(id identity.BlobID) (Info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, ok := s.slots[id]
	if !ok {
		return Info{}, false
	}
	return s.info(slot), true
}

// All tells of all blobs that are there as it begins, sorted by id. One that leaves meanwhile may be left out.
func (s *Store) All() iter.Seq[Info] {
	return func(yield func(Info) bool) {
		s.mu.Lock()
		ids := make([]identity.BlobID, 0, len(s.slots))
		for id := range s.slots {
			ids = append(ids, id)
		}
		s.mu.Unlock()
		slices.SortFunc(ids, func(a, b identity.BlobID) int { return slices.Compare(a[:], b[:]) })
		for _, id := range ids {
			if info, ok := s.Stat(id); ok && !yield(info) {
				return
			}
		}
	}
}

// Follow tells of each blob that arrives after the call, in order, until ctx or the store ends; with old of those that are there,
// in the order in which they came, and then of what arrives: nothing falls in between. One that left before its turn is left out.
// A follower holds no more than some hundred infos, however slow it is.
func (s *Store) Follow(ctx context.Context, old bool) iter.Seq[Info] {
	s.mu.Lock()
	begin := s.arrived
	s.mu.Unlock()
	if old {
		begin = 0
	}
	return func(yield func(Info) bool) {
		for cursor := begin; ; {
			s.mu.Lock()
			var some []Info
			i := sort.Search(len(s.order), func(i int) bool { return s.order[i].seq > cursor })
			for ; i < len(s.order) && len(some) < 256; i++ {
				a := s.order[i]
				cursor = a.seq
				if s.entries[a.slot].seq == a.seq {
					some = append(some, s.info(a.slot))
				}
			}
			closed, news, more := s.closed, s.news, cursor < s.arrived
			s.mu.Unlock()
			for _, info := range some {
				if ctx.Err() != nil || !yield(info) {
					return
				}
			}
			if closed || ctx.Err() != nil {
				return
			}
			if len(some) > 0 && more {
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-news:
			}
		}
	}
}

// Usage tells how much room the blobs take.
func (s *Store) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := Usage{Bytes: s.bytes, Blobs: int64(len(s.slots)), Own: s.fixed, Budget: s.o.Budget, Free: math.MaxInt64, Evicted: s.evicted,
		Authors: map[identity.ID]int64{}, Peers: map[identity.ID]int64{}}
	if s.o.Budget > 0 {
		u.Free = max(0, s.o.Budget-s.leaving)
	}
	for i := range s.people.all {
		p := &s.people.all[i]
		if p.authored > 0 {
			u.Authors[p.id] = p.authored
		}
		if p.brought > 0 {
			u.Peers[p.id] = p.brought
		}
	}
	return u
}

// Pin makes a blob stay, or lets it leave again. It is durable when Pin returns. fs.ErrNotExist: it is not there.
func (s *Store) Pin(id identity.BlobID, pinned bool) error {
	s.shards[id[0]].Lock()
	defer s.shards[id[0]].Unlock()
	_, err := s.mark(id, func(r *record) { r.pinned = pinned })
	return err
}

// mark changes what is written of a blob that is there. Its shard is held.
func (s *Store) mark(id identity.BlobID, change func(*record)) (Info, error) {
	if err := s.begin(); err != nil {
		return Info{}, err
	}
	defer s.end()
	s.mu.Lock()
	slot, ok := s.slots[id]
	if !ok {
		s.mu.Unlock()
		return Info{}, fmt.Errorf("blob %s: %w", id, fs.ErrNotExist)
	}
	r := s.record(slot)
	s.mu.Unlock()
	old := r
	if change(&r); r == old {
		return r.info(), nil
	}
	if err := s.known.append(&r, r.own != old.own || r.pinned != old.pinned); err != nil {
		return Info{}, fmt.Errorf("blob %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.entries[slot] // nobody else removes it: the shard is held
	s.count(slot, -1)
	author, peer := s.people.use(r.author), s.people.use(r.peer)
	s.people.release(e.author)
	s.people.release(e.peer)
	e.author, e.peer, e.own, e.pinned, e.opened = author, peer, r.own, r.pinned, max(e.opened, r.opened)
	s.count(slot, 1)
	return s.info(slot), nil
}

// Remove removes a blob, whatever it is kept for. fs.ErrNotExist: it is not there. It is durable when Remove returns.
func (s *Store) Remove(id identity.BlobID) error {
	s.shards[id[0]].Lock()
	defer s.shards[id[0]].Unlock()
	if err := s.drop(id); err != nil {
		return err
	}
	return s.disk.syncDir(s.folder(id[0]))
}

// drop removes a blob, and the folder that it was in is not synced. Its shard is held.
func (s *Store) drop(id identity.BlobID) error {
	s.change.RLock()
	defer s.change.RUnlock()
	s.mu.Lock()
	_, ok := s.slots[id]
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return os.ErrClosed
	}
	if !ok {
		return fmt.Errorf("blob %s: %w", id, fs.ErrNotExist)
	}
	err := s.disk.remove(s.path(id))
	if err != nil {
		if _, serr := os.Lstat(s.path(id)); !errors.Is(serr, fs.ErrNotExist) {
			return fmt.Errorf("blob %s: %w", id, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsure[id[0]] = true
	s.take(s.slots[id])
	return err
}
