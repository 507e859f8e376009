package spool

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
	"posthaste/internal/queue/queuefile"
	"posthaste/internal/sys/vfs"
)

// entry is what this process knows of one message. All open Messages of an id
// share it.
type entry struct {
	id     queue.ID
	env    *envelope.Envelope
	layout *queuefile.Layout
	refs   int // open messages and calls under way; guarded by Spool.mu

	mu     sync.Mutex
	file   vfs.File // for reading the content; nil when mem has it all
	mem    []byte   // the whole file
	queue  queue.Name
	next   time.Time
	force  bool
	warned bool
	traced bool
	tries  int
	// pending has one element a recipient; hash combines those that are true.
	pending []bool
	hash    uint64
	reasons map[int]dsn.Status
	failed  []queue.Done
	logs    logSizes
	gone    bool // removed
}

// logSizes tells which logs there are, and their sizes.
type logSizes struct{ deferred, bounced int64 }

// source is where the content is read from.
func (e *entry) source() io.ReaderAt {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mem != nil {
		return bytes.NewReader(e.mem)
	}
	return e.file
}

// shut closes the file.
func (e *entry) shut() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file == nil {
		return nil
	}
	err := e.file.Close()
	e.file = nil
	e.mem = []byte{}
	return err
}

// setPending starts a message's recipients.
func (e *entry) setPending(marks []queuefile.Mark) {
	e.pending = make([]bool, len(marks))
	for i, m := range marks {
		if !m.Done {
			e.pending[i] = true
			e.hash ^= mix(uint64(i) + 1)
		}
	}
}

// finish takes a recipient off the pending ones.
func (e *entry) finish(i int) {
	if e.pending[i] {
		e.pending[i] = false
		e.hash ^= mix(uint64(i) + 1)
	}
	delete(e.reasons, i)
}

// mix spreads the bits of n (the finaliser of SplitMix64).
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// rev is made of the state itself, so that it is the same for whoever opens
// the message, in whatever process.
func (e *entry) rev() queue.Rev {
	h := e.hash
	for _, c := range e.queue {
		h = mix(h ^ uint64(c))
	}
	h = mix(h ^ uint64(e.next.Unix()))
	h = mix(h ^ uint64(e.tries)<<8 ^ uint64(len(e.failed))<<32)
	for i, flag := range []bool{e.warned, e.traced, e.force} {
		if flag {
			h = mix(h ^ uint64(i))
		}
	}
	return queue.Rev(h)
}

func (e *entry) meta() queue.Meta {
	m := queue.Meta{Queue: e.queue, NextAttempt: e.next, Attempts: e.tries, Warned: e.warned, Traced: e.traced, ForceExpire: e.force}
	for i, is := range e.pending {
		if is {
			m.Pending = append(m.Pending, i)
		}
	}
	if len(e.reasons) > 0 {
		m.Reasons = make(map[int]dsn.Status, len(e.reasons))
		for i, s := range e.reasons {
			m.Reasons[i] = s
		}
	}
	m.Failed = slices.Clone(e.failed)
	return m
}

// searchOrder is where a message is looked for.
var searchOrder = []queue.Name{queue.Incoming, queue.Active, queue.Deferred, queue.Hold}

// acquire finds a message and counts the caller as its user; release ends it.
func (s *Spool) acquire(id queue.ID) (*entry, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, errClosed
	}
	if e := s.entries[id]; e != nil {
		e.refs++
		s.mu.Unlock()
		return e, nil
	}
	s.mu.Unlock()
	if !queue.IsID(string(id)) {
		return nil, queue.ErrNotFound
	}
	e, err := s.find(id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.entries[id]; other != nil { // somebody was faster
		other.refs++
		_ = e.shut()
		return other, nil
	}
	e.refs = 1
	s.entries[id] = e
	return e, nil
}

func (s *Spool) release(e *entry) {
	s.mu.Lock()
	e.refs--
	last := e.refs == 0 && !e.cached(s)
	if last && s.entries[e.id] == e {
		delete(s.entries, e.id)
	}
	s.mu.Unlock()
	if last {
		_ = e.shut()
	}
}

// drop forgets what is known of a message: the next user reads it again.
func (s *Spool) drop(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[e.id] == e {
		delete(s.entries, e.id)
	}
	s.cache.remove(e)
}

// find opens and reads a message wherever it is. The queue commands may move
// it meanwhile, so it looks twice.
func (s *Spool) find(id queue.ID) (*entry, error) {
	for range 2 {
		for _, name := range searchOrder {
			e, err := s.load(name, id)
			if err == nil || !errors.Is(err, fs.ErrNotExist) {
				return e, err
			}
		}
	}
	return nil, queue.ErrNotFound
}

// load reads one file. fs.ErrNotExist: it is not there, or not committed.
func (s *Spool) load(name queue.Name, id queue.ID) (*entry, error) {
	path := s.Path(string(name), id)
	f, err := s.FS.Open(path)
	if err != nil {
		return nil, err
	}
	e, err := s.read(f, name, id)
	if err != nil {
		f.Close()
	}
	if errors.Is(err, queuefile.ErrFormat) {
		return nil, s.corrupt(path, id, err)
	}
	return e, err
}

// smallFile is read as a whole, so that no descriptor stays open for it.
const smallFile = 16 << 10

func (s *Spool) read(f vfs.File, name queue.Name, id queue.ID) (*entry, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !Ready(info) {
		return nil, fs.ErrNotExist
	}
	e := &entry{id: id, queue: name, file: f, next: info.ModTime.Truncate(time.Second), force: info.Mode&ExpireMode != 0}
	src := io.ReaderAt(f)
	if info.Size <= smallFile {
		e.mem = make([]byte, info.Size)
		if n, err := f.ReadAt(e.mem, 0); err != nil && (err != io.EOF || n < len(e.mem)) {
			return nil, err
		}
		src = bytes.NewReader(e.mem)
	}
	e.env, e.layout, err = queuefile.Read(src)
	if err != nil {
		return nil, err
	}
	e.warned, e.traced = e.layout.Warned, e.layout.Traced
	e.setPending(e.layout.Recipients)
	e.readTrailer(src)
	s.readLogs(e)
	if e.mem != nil {
		e.file = nil
		f.Close()
	}
	return e, nil
}

// corrupt moves a damaged file out of the way.
func (s *Spool) corrupt(path string, id queue.ID, cause error) error {
	if s.o.Passive {
		s.log.Warnf("%s: %v", path, cause)
		return queue.ErrCorrupt
	}
	s.log.Warnf("saving corrupt file %q from queue %q to queue %q: %v", id, parent(path), queue.Corrupt, cause)
	if err := s.Move(path, s.Path(string(queue.Corrupt), id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warnf("rename %s: %v", path, err)
	}
	return queue.ErrCorrupt
}

// cache keeps fresh small messages in memory until their first attempt is
// over. Guarded by Spool.mu.
type cache struct {
	limit, used int64
	fifo        []*entry
	in          map[*entry]bool
}

func (e *entry) cached(s *Spool) bool { return s.cache.in[e] }

// add keeps e, and returns what has to go for it.
func (c *cache) add(e *entry) (out []*entry) {
	size := int64(len(e.mem))
	if size == 0 || size > c.limit/16 {
		return []*entry{e}
	}
	if c.in == nil {
		c.in = map[*entry]bool{}
	}
	c.in[e] = true
	c.fifo = append(c.fifo, e)
	c.used += size
	for c.used > c.limit {
		old := c.fifo[0]
		c.fifo = c.fifo[1:]
		if c.in[old] {
			c.remove(old)
			out = append(out, old)
		}
	}
	return out
}

func (c *cache) remove(e *entry) {
	if c.in[e] {
		delete(c.in, e)
		c.used -= int64(len(e.mem))
	}
	for len(c.fifo) > 0 && !c.in[c.fifo[0]] {
		c.fifo[0] = nil
		c.fifo = c.fifo[1:]
	}
}
