package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"posthaste/internal/queue"
	"posthaste/internal/sys/vfs"
)

// Update implements queue.Store.
func (s *Spool) Update(ctx context.Context, _ queue.Claim, id queue.ID, rev queue.Rev, ch queue.Change, d queue.Durability) (queue.Rev, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	e, err := s.acquire(id)
	if err != nil {
		return 0, err
	}
	defer s.release(e)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return 0, queue.ErrNotFound
	}
	if e.rev() != rev {
		return 0, queue.ErrStale
	}
	u, err := newUpdate(s, e, &ch, d)
	if err != nil {
		return 0, err
	}
	if err := u.run(); err != nil {
		e.gone = true // what is known of it is no longer true
		s.drop(e)
		return 0, s.explain(id, full(err))
	}
	if e.queue == queue.Deferred || e.queue == queue.Hold {
		s.uncache(e)
	}
	return e.rev(), nil
}

// explain tells a message that was moved or removed under our feet from
// trouble with the disk.
func (s *Spool) explain(id queue.ID, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("queue: %w", err)
	}
	for _, name := range searchOrder {
		if _, err := s.FS.Lstat(s.Path(string(name), id)); err == nil {
			return queue.ErrStale
		}
	}
	return queue.ErrNotFound
}

func (s *Spool) uncache(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.remove(e)
}

// update is one Update under way, with the entry locked.
type update struct {
	s       *Spool
	e       *entry
	ch      *queue.Change
	d       queue.Durability
	path    string // where the file is now
	done    []queue.Done
	failed  []queue.Done // those of done that a report is due for
	delayed []queue.Done
	marks   bool // the file itself changes
}

func newUpdate(s *Spool, e *entry, ch *queue.Change, d queue.Durability) (*update, error) {
	u := &update{s: s, e: e, ch: ch, d: d, path: s.Path(string(e.queue), e.id)}
	if ch.Queue != nil && !slices.Contains(searchOrder, *ch.Queue) && *ch.Queue != queue.Corrupt {
		return nil, fmt.Errorf("queue: no queue named %q", *ch.Queue)
	}
	seen := map[int]bool{}
	for _, r := range ch.Done {
		if r.Recipient < 0 || r.Recipient >= len(e.pending) {
			return nil, fmt.Errorf("queue: %s has no recipient %d", e.id, r.Recipient)
		}
		switch {
		case !e.pending[r.Recipient] || seen[r.Recipient]:
		case r.Status.Temporary():
			u.delayed = append(u.delayed, r)
		default:
			seen[r.Recipient] = true
			u.done = append(u.done, r)
			if r.Status.Permanent() && !ch.Reported {
				u.failed = append(u.failed, r)
			}
		}
	}
	return u, nil
}

// run makes the change durable step by step; see the package comment for what
// a crash in between leaves.
func (u *update) run() error {
	u.apply()
	if err := u.s.logBounces(u.e, u.failed, u.d); err != nil {
		return err
	}
	if err := u.s.logDelays(u.e, u.delayed, u.d); err != nil {
		return err
	}
	if err := u.file(); err != nil {
		return err
	}
	if err := u.move(); err != nil {
		return err
	}
	if u.ch.Reported && u.e.logs.bounced > 0 {
		u.e.logs.bounced = 0
		return u.s.removeLog(BounceLog, u.e.id, u.d)
	}
	return nil
}

// apply makes the change in memory.
func (u *update) apply() {
	e, ch := u.e, u.ch
	for _, r := range u.done {
		e.finish(r.Recipient)
	}
	for _, r := range u.delayed {
		if e.pending[r.Recipient] {
			e.setReason(r.Recipient, r.Status)
		}
	}
	e.failed = append(e.failed, u.failed...)
	if ch.Reported {
		e.failed = nil
	}
	if ch.Attempts != nil {
		e.tries = min(*ch.Attempts, maxAttempts)
	}
	if ch.Warned != nil {
		e.warned = *ch.Warned
	}
	if ch.Traced != nil {
		e.traced = *ch.Traced
	}
	if ch.ForceExpire != nil {
		e.force = *ch.ForceExpire
	}
	if ch.NextAttempt != nil {
		e.next = ch.NextAttempt.Truncate(time.Second)
	}
	u.marks = len(u.done) > 0 || ch.Attempts != nil || ch.Warned != nil || ch.Traced != nil
}

// file changes marks, mode and time of the queue file.
func (u *update) file() error {
	mode := u.ch.ForceExpire != nil
	times := u.marks || u.ch.NextAttempt != nil
	if !mode && !times {
		return nil
	}
	f, err := u.s.FS.OpenWrite(u.path)
	if err != nil {
		return err
	}
	err = u.change(f, mode)
	if err == nil && times {
		// Marks touch the time, which is when the next attempt is due.
		err = u.s.FS.Chtimes(u.path, u.e.next)
	}
	if err == nil && u.d == queue.Sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func (u *update) change(f vfs.File, mode bool) error {
	if u.marks {
		if err := u.e.mark(f, u.ch, u.done); err != nil {
			return err
		}
	}
	if !mode {
		return nil
	}
	perm := readyMode
	if u.e.force {
		perm |= ExpireMode
	}
	return f.Chmod(perm)
}

// move renames the file to its new queue.
func (u *update) move() error {
	if u.ch.Queue == nil || *u.ch.Queue == u.e.queue {
		return nil
	}
	to := u.s.Path(string(*u.ch.Queue), u.e.id)
	if err := u.s.Move(u.path, to); err != nil {
		return err
	}
	u.e.queue = *u.ch.Queue
	if u.d != queue.Sync {
		return nil
	}
	if err := u.s.dirs.sync(parent(to)); err != nil {
		return err
	}
	return u.s.dirs.sync(parent(u.path))
}

func (s *Spool) removeLog(dir string, id queue.ID, d queue.Durability) error {
	path := s.Path(dir, id)
	err := s.FS.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && d == queue.Sync {
		err = s.dirs.sync(parent(path))
	}
	return err
}

// Remove implements queue.Store.
func (s *Spool) Remove(ctx context.Context, _ queue.Claim, id queue.ID, d queue.Durability) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if !queue.IsID(string(id)) {
		return nil
	}
	s.mu.Lock()
	e := s.entries[id]
	s.mu.Unlock()
	fresh := false
	order := searchOrder
	if e != nil {
		e.mu.Lock()
		e.gone = true
		fresh = e.logs == logSizes{}
		order = append([]queue.Name{e.queue}, searchOrder...)
		e.mu.Unlock()
		s.drop(e)
	}
	if err := s.unlink(order, id, d); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	if fresh {
		return nil
	}
	var err error
	for _, dir := range []string{DeferLog, BounceLog, TraceLog} {
		err = errors.Join(err, s.removeLog(dir, id, queue.Lazy))
	}
	if err != nil {
		s.log.Warnf("%s: remove logs: %v", id, err)
	}
	return nil
}

// unlink removes the file wherever it is; none at all is fine.
func (s *Spool) unlink(order []queue.Name, id queue.ID, d queue.Durability) error {
	for _, name := range order {
		path := s.Path(string(name), id)
		err := s.FS.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && d == queue.Sync {
			err = s.dirs.sync(parent(path))
		}
		return err
	}
	return nil
}
