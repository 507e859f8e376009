// Package super is what postsuper(1) does to the files of a queue: delete,
// hold, release, requeue and expire messages, and put the directories in
// order. It works on a spool that the mail system may be using at the same
// time: each step is one rename, removal or change of mode.
//
// Only the postsuper command uses it.
package super

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"posthaste/internal/queue"
	"posthaste/internal/queue/spool"
	"posthaste/internal/sys/vfs"
)

// Action is one kind of work.
type Action uint16

// Actions, each a bit.
const (
	Delete  Action = 1 << iota // -d
	Expire                     // -e
	Hold                       // -h
	Release                    // -H
	Requeue                    // -r
	Purge                      // -p
	Fix                        // -s, -S
)

// maxTempAge is how old a file that was never completed must be for Purge.
const maxTempAge = 7 * 24 * time.Hour

// kind is how a directory is treated.
type kind struct {
	message bool // else logs
	recurse bool
}

var kinds = map[string]kind{
	spool.Maildrop: {message: true}, "incoming": {true, true}, "active": {true, true}, "deferred": {true, true}, "hold": {true, true},
	spool.DeferLog: {recurse: true}, spool.BounceLog: {recurse: true}, spool.TraceLog: {recurse: true}, spool.FlushLog: {recurse: true},
}

// DefaultQueues is what is worked on when no directory is named: logs first,
// so that they are in place before their messages.
func DefaultQueues() []string {
	return []string{spool.DeferLog, spool.BounceLog, spool.TraceLog, spool.Maildrop, "incoming", "active", "deferred", "hold", spool.FlushLog}
}

// IsQueue reports a directory that may be named on the command line.
func IsQueue(name string) bool { _, ok := kinds[name]; return ok }

var logDirs = []string{spool.BounceLog, spool.DeferLog, spool.TraceLog}

// Super works on one queue directory.
type Super struct {
	Layout spool.Layout
	Queues []string // directories to work on
	Now    func() time.Time
	Info   func(format string, args ...any)
	Warn   func(format string, args ...any)

	// Counts says how many messages each action has changed.
	Counts map[Action]int
}

// done counts a message, and tells of it unless all were asked for.
func (s *Super) done(a Action, id queue.ID, what string) {
	s.Counts[a]++
	s.Info("%s: %s", id, what)
}

// ErrFile is a failure that ends the work; the queue is as it is.
var ErrFile = errors.New("queue file operation failed")

// Stream does actions to the queue ids in r, one a line.
func (s *Super) Stream(actions []Action, r io.Reader) error {
	in := bufio.NewScanner(r)
	for in.Scan() {
		for _, a := range actions {
			if err := s.One(a, in.Text()); err != nil {
				return err
			}
		}
	}
	return in.Err()
}

// One does an action to the message with a queue id.
func (s *Super) One(a Action, text string) error {
	if !plausible(text) {
		s.Warn("invalid mail queue id: %s", text)
		return nil
	}
	if !queue.IsID(text) {
		return nil // no file has such a name
	}
	id := queue.ID(text)
	for range 2 { // it may be moved while we look
		for _, name := range s.Queues {
			found, err := s.try(a, name, id)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrFile, err)
			}
			if found {
				return nil
			}
		}
	}
	return nil
}

// plausible is Postfix's grammar of queue ids, wider than ours.
func plausible(text string) bool {
	isName := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '_'
	}
	return text != "" && len(text) <= 100 && strings.IndexFunc(text, func(r rune) bool { return !isName(r) }) < 0
}

// try does an action to a message in one directory; found is false if it is
// not there or the action does not apply.
func (s *Super) try(a Action, name string, id queue.ID) (found bool, err error) {
	if !kinds[name].message || !applies(a, name) {
		return false, nil
	}
	path := s.Layout.Path(name, id)
	info, err := s.Layout.FS.Lstat(path)
	if err != nil || !spool.Ready(info) {
		return false, ignoreMissing(err)
	}
	return s.act(a, file{path, id, info})
}

// file is a message file.
type file struct {
	path string
	id   queue.ID
	info vfs.Info
}

// applies tells which directories an action looks at.
func applies(a Action, name string) bool {
	switch a {
	case Hold:
		return name != spool.Maildrop && name != "hold"
	case Release:
		return name == "hold"
	case Requeue, Expire:
		return name != spool.Maildrop
	}
	return true
}

func (s *Super) act(a Action, f file) (found bool, err error) {
	switch a {
	case Delete:
		if err := s.removeLogs(f.id); err != nil {
			return false, err
		}
		return s.result(a, f.id, "removed", s.Layout.FS.Remove(f.path))
	case Hold:
		return s.result(a, f.id, "placed on hold", s.Layout.Move(f.path, s.Layout.Path("hold", f.id)))
	case Release:
		return s.result(a, f.id, "released from hold", s.Layout.Move(f.path, s.Layout.Path("deferred", f.id)))
	case Requeue:
		to := s.Layout.Path(spool.Maildrop, f.id)
		found, err := s.result(a, f.id, "requeued", s.Layout.Move(f.path, to))
		if found {
			if err := s.Layout.FS.Chtimes(to, s.Now()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.Warn("%s: reset time stamps: %v", to, err)
			}
		}
		return found, err
	case Expire:
		if f.info.Mode&spool.ExpireMode != 0 {
			return true, nil
		}
		return s.result(a, f.id, "expired", s.Layout.FS.Chmod(f.path, f.info.Mode.Perm()|spool.ExpireMode))
	}
	return false, nil
}

func (s *Super) result(a Action, id queue.ID, what string, err error) (bool, error) {
	if err != nil {
		return false, ignoreMissing(err)
	}
	s.done(a, id, what)
	return true, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *Super) removeLogs(id queue.ID) error {
	for _, dir := range logDirs {
		if err := ignoreMissing(s.Layout.FS.Remove(s.Layout.Path(dir, id))); err != nil {
			return err
		}
	}
	return nil
}

// All does actions to everything in the directories; messages are counted and
// not named. Purge and Fix may be among them and are done first.
func (s *Super) All(actions Action) error {
	quiet := *s
	quiet.Info = func(string, ...any) {}
	for _, name := range s.Queues {
		w := &walk{s: &quiet, dir: name, kind: kinds[name], actions: actions}
		if err := s.Layout.WalkAll(name, w.visit); err != nil {
			return fmt.Errorf("%w: %w", ErrFile, err)
		}
		if actions&Fix != 0 {
			w.removeSubdirectories()
		}
	}
	return nil
}

// walk is the work on one directory.
type walk struct {
	s       *Super
	dir     string
	kind    kind
	actions Action
}

func (w *walk) visit(f spool.Found) error {
	fsys := w.s.Layout.FS
	info, err := fsys.Lstat(f.Path)
	if err != nil {
		return ignoreMissing(err)
	}
	switch {
	case info.Mode.IsDir():
		if err := ignoreMissing(fsys.Remove(f.Path)); err != nil {
			w.s.Warn("remove subdirectory %s: %v", f.Path, err)
		}
		return nil
	case w.actions&Delete != 0:
		err := fsys.Remove(f.Path)
		if err == nil && w.kind.message && spool.Ready(info) {
			w.s.Counts[Delete]++
		}
		return ignoreMissing(err)
	case !info.Mode.IsRegular(), w.stale(info):
		return ignoreMissing(fsys.Remove(f.Path))
	case w.dir == spool.FlushLog:
		return nil // named after sites
	case f.ID == "":
		w.s.Warn("bogus file name: %s", f.Path)
		return nil
	}
	return w.file(file{f.Path, f.ID, info})
}

func (w *walk) stale(info vfs.Info) bool {
	return w.actions&Purge != 0 && w.kind.message && !spool.Ready(info) && w.s.Now().Sub(info.ModTime) > maxTempAge
}

// file puts a file where it belongs, and does the rest to a message.
func (w *walk) file(f file) error {
	if want := w.s.Layout.Path(w.dir, f.id); w.actions&Fix != 0 && want != f.path {
		if err := w.s.Layout.Move(f.path, want); err != nil {
			return ignoreMissing(err)
		}
		f.path = want
		if w.kind.message {
			w.s.Counts[Fix]++
		}
	}
	if !w.kind.message || !spool.Ready(f.info) {
		return nil
	}
	for _, a := range []Action{Requeue, Expire, Hold, Release} {
		if w.actions&a == 0 || !applies(a, w.dir) {
			continue
		}
		if _, err := w.s.act(a, f); err != nil || a == Requeue || a == Hold {
			return err
		}
	}
	return nil
}

// removeSubdirectories removes the levels that are no longer wanted.
func (w *walk) removeSubdirectories() {
	if w.s.Layout.Depth(w.dir) > 0 {
		return
	}
	var remove func(dir string, depth int)
	remove = func(dir string, depth int) {
		var names []string
		_ = w.s.Layout.FS.ReadDir(dir, func(name string) bool { names = append(names, name); return true })
		slices.Sort(names)
		for _, name := range names {
			if path := dir + "/" + name; len(name) == 1 && depth < 3 {
				remove(path, depth+1)
				_ = w.s.Layout.FS.Remove(path)
			}
		}
	}
	if w.kind.recurse {
		remove(w.dir, 0)
	}
}
