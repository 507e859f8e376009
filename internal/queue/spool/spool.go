// Package spool is the queue.Store that Postfix users know: one file for a
// message below the queue directory, in Postfix's layout and file format, so
// that a site can take over a queue in place, and give it back.
//
//	incoming  committed, not yet seen by the queue manager
//	active    selected for delivery; goes back to incoming at start
//	deferred  to be tried again when the file's modification time has come
//	hold      kept until postsuper -H
//	corrupt   unreadable, kept for a human
//	defer     why recipients wait     (bouncelog, beside the file)
//	bounce    failures not reported   (bouncelog, beside the file)
//
// What a crash leaves, step by step:
//
//   - Commit: a file without the executable bit, which counts as absent, until
//     the data is on stable storage; then the whole message.
//   - Update: failures are logged before their recipients are marked, marks
//     are one byte each, a move is one rename, and comes last. A crash in
//     between leaves some recipients as before; they are tried again.
//   - Remove: the file goes first, its logs after it. A log without a file is
//     ignored, and cleaned up by postsuper.
//
// One process works on a spool; the queue commands may move, mark and delete
// files under its feet at any time, and it notices when it touches them.
//
// Callers: master makes it; see package queue for who uses it.
package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/vfs"
)

// Config is what main.cf says about the queue (postconf(5)).
type Config struct {
	LongIDs   bool          `param:"enable_long_queue_ids"`
	HashNames string        `param:"hash_queue_names"`
	HashDepth int           `param:"hash_queue_depth"`
	MinFree   int64         `param:"queue_minfree"`
	MaxSize   int64         `param:"message_size_limit"` // with the envelope, 0 for no limit
	WarnAfter time.Duration `param:"delay_warning_time"`
}

// Options make a Spool.
type Options struct {
	FS     vfs.FS // the queue directory
	Config Config
	Log    *maillog.Logger
	Now    func() time.Time // nil: the system clock
	PID    int              // part of long queue ids
	// SyncDirs makes Commit sync the directory too. It is not needed where
	// fsync of a new file also keeps its name; see NeedsDirSync.
	SyncDirs bool
	// Passive is for the queue commands: nothing is recovered at start, and
	// damaged files stay where they are.
	Passive bool
	// CacheBytes bounds the memory for fresh small messages, whose first
	// delivery then reads no disk; 0 is 32 MiB, negative none.
	CacheBytes int64
	// DraftBytes is how much content a draft keeps in memory; 0 is 256 KiB.
	DraftBytes int
}

const (
	defaultCache = 32 << 20
	defaultDraft = 256 << 10
	maxArrivals  = 4096
	staleDraft   = 24 * time.Hour
)

// errClosed is what a closed spool answers.
var errClosed = errors.New("spool: closed")

// Spool implements queue.Store.
type Spool struct {
	Layout
	log      *maillog.Logger
	now      func() time.Time
	o        Options
	config   atomic.Pointer[Config]
	ids      queue.IDs
	dirs     dirSyncs
	arrivals chan queue.ID

	mu      sync.Mutex
	entries map[queue.ID]*entry
	cache   cache
	drafts  map[*draft]struct{}
	closed  bool
}

var _ queue.Store = (*Spool)(nil)

// New opens a spool: it makes missing directories, moves the active queue back
// to incoming and removes drafts that a crash left a day ago.
func New(o Options) (*Spool, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCache
	}
	if o.DraftBytes == 0 {
		o.DraftBytes = defaultDraft
	}
	s := &Spool{
		Layout:   NewLayout(o.FS, o.Config),
		log:      o.Log,
		now:      o.Now,
		o:        o,
		arrivals: make(chan queue.ID, maxArrivals),
		entries:  map[queue.ID]*entry{},
		cache:    cache{limit: o.CacheBytes},
		drafts:   map[*draft]struct{}{},
	}
	s.config.Store(&o.Config)
	s.dirs.fs = o.FS
	if o.Passive {
		return s, nil
	}
	if err := s.recover(); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	return s, nil
}

// ErrLayout is returned by Configure when the subdirectories changed.
var ErrLayout = errors.New("queue: hash_queue_names or hash_queue_depth takes effect when the system is stopped and started")

// Configure makes other settings apply to messages to come. Where files lie
// does not change while the spool is open: then it returns ErrLayout, and the
// rest applies all the same.
func (s *Spool) Configure(c Config) error {
	s.config.Store(&c)
	if c.HashNames != s.o.Config.HashNames || c.HashDepth != s.o.Config.HashDepth {
		return ErrLayout
	}
	return nil
}

// recover brings the directories into shape after a stop or a crash.
func (s *Spool) recover() error {
	for _, dir := range Directories() {
		if err := s.FS.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := s.deactivate(); err != nil {
		return err
	}
	for _, name := range []queue.Name{queue.Incoming, queue.Hold} {
		if err := s.dropStale(name); err != nil {
			return err
		}
	}
	return nil
}

// deactivate moves active to incoming, as the queue manager of Postfix does at
// start: nobody works on these any more.
func (s *Spool) deactivate() error {
	return s.Walk(string(queue.Active), func(f Found) error {
		to := s.Path(string(queue.Incoming), f.ID)
		err := s.Move(f.Path, to)
		if err == nil {
			err = s.FS.Chtimes(to, s.now())
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warnf("rename %s to %s: %v", f.Path, to, err)
		}
		return nil
	})
}

// dropStale removes what was never committed and that nobody writes to.
func (s *Spool) dropStale(name queue.Name) error {
	return s.Walk(string(name), func(f Found) error {
		info, err := s.FS.Lstat(f.Path)
		if err != nil || !info.Mode.IsRegular() || Ready(info) || s.now().Sub(info.ModTime) < staleDraft {
			return nil
		}
		if err := s.FS.Remove(f.Path); err != nil {
			s.log.Warnf("remove stale file %s: %v", f.Path, err)
		}
		return nil
	})
}

// Claims implements queue.Store: everything is ours, for ever.
func (s *Spool) Claims(ctx context.Context) (<-chan queue.ClaimEvent, error) {
	events := make(chan queue.ClaimEvent, 1)
	events <- queue.ClaimEvent{Claim: queue.Claim{Epoch: 1}, Gained: true}
	return events, ctx.Err()
}

// Arrivals implements queue.Store.
func (s *Spool) Arrivals() <-chan queue.ID { return s.arrivals }

// Status implements queue.Store.
func (s *Spool) Status(ctx context.Context) (queue.Status, error) {
	if err := s.usable(ctx); err != nil {
		return queue.Status{}, err
	}
	free, err := s.FS.Free()
	if err != nil {
		return queue.Status{}, err
	}
	st := queue.Status{FreeBytes: free, Accepting: free > 0 && free >= s.config.Load().MinFree}
	if !st.Accepting {
		st.Reason = fmt.Sprintf("%d bytes free, queue_minfree = %d", free, s.config.Load().MinFree)
	}
	return st, nil
}

func (s *Spool) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	return nil
}

// Close implements queue.Store: drafts are given up, open messages end.
func (s *Spool) Close(context.Context) error {
	s.mu.Lock()
	s.closed = true
	var drafts []*draft
	for d := range s.drafts {
		drafts = append(drafts, d)
	}
	entries := s.entries
	s.entries = map[queue.ID]*entry{}
	s.mu.Unlock()
	for _, d := range drafts {
		d.Abort()
	}
	var err error
	for _, e := range entries {
		err = errors.Join(err, e.shut())
	}
	return err
}

// full turns a lack of space into queue.ErrFull, and keeps the cause.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("%w: %w", queue.ErrFull, err)
	}
	return err
}
