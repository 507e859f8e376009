package table

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"posthaste/internal/sys/strerror"
)

// Following is what was made from a file, made anew when the file changes. The
// file is looked at by lookups, a hundred times a second at most: who changes a
// table and then sends mail sees the new one, and there is no goroutine behind it. A new version that cannot be used is logged once and
// the last good one stays. Safe for concurrent use.
type Following[T any] struct {
	opener *Opener
	path   string
	load   func(*os.File) (T, error)

	next  atomic.Int64 // when to look again, Unix nanoseconds
	value atomic.Pointer[T]

	mu       sync.Mutex // one loads, the others go on with the old value
	seen     fs.FileInfo
	complain string // the last complaint, told once

	describe func(error) error // words a file that was removed; see Removable
	removed  atomic.Pointer[error]
}

// Removable makes a file that is removed later count as a table that cannot be
// opened, as in Postfix, until it is there again: Value returns what describe
// makes of the reason. Without it the last good version stays.
func (f *Following[T]) Removable(describe func(error) error) { f.describe = describe }

// Value is Get for files that may be removed.
func (f *Following[T]) Value() (T, error) {
	value := f.Get()
	if err := f.removed.Load(); err != nil {
		return value, *err
	}
	return value, nil
}

// lookAgain is how long a change may go unseen.
const lookAgain = 10 * time.Millisecond

// Follow opens path and loads it. load must not keep the file unless it makes
// it part of T: then the file is closed when T is garbage.
func Follow[T any](o *Opener, path string, load func(*os.File) (T, error)) (*Following[T], error) {
	f := &Following[T]{opener: o, path: path, load: load}
	if err := f.reload(); err != nil {
		return nil, err
	}
	f.next.Store(o.Now().Add(lookAgain).UnixNano())
	return f, nil
}

// Get returns the current value.
func (f *Following[T]) Get() T {
	now := f.opener.Now()
	if now.UnixNano() >= f.next.Load() && f.mu.TryLock() {
		f.look()
		f.next.Store(now.Add(lookAgain).UnixNano())
		f.mu.Unlock()
	}
	return *f.value.Load()
}

// look loads the file when it is not the one that was seen.
func (f *Following[T]) look() {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrPermission) {
		info, err = f.statOpen()
	}
	if err == nil && sameFile(info, f.seen) {
		f.removed.Store(nil)
		return
	}
	if f.describe != nil && errors.Is(err, fs.ErrNotExist) {
		f.lose(err)
		return
	}
	if err == nil {
		err = f.reload()
		if err == nil {
			f.removed.Store(nil)
			f.tellChange()
		}
	}
	complaint := ""
	if err != nil {
		complaint = strerror.Text(err)
	}
	if complaint != "" && complaint != f.complain {
		f.opener.Log().Warnf("%s: %s: keeping the last good version", f.path, complaint)
	}
	f.complain = complaint
}

func (f *Following[T]) tellChange() {
	if f.opener.subject != "" {
		f.opener.Log().Infof("table %s has changed -- restarting", f.opener.subject)
	}
}

// lose notes that the file was removed, once.
func (f *Following[T]) lose(err error) {
	if f.removed.Load() != nil {
		return
	}
	err = f.describe(err)
	f.removed.Store(&err)
	f.tellChange()
	f.opener.Log().Errorf("%s", err)
}

// statOpen looks at a file that only OpenFile can reach.
func (f *Following[T]) statOpen() (fs.FileInfo, error) {
	file, err := f.opener.OpenFile(f.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return file.Stat()
}

func (f *Following[T]) reload() error {
	file, err := f.opener.OpenFile(f.path)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	value, err := f.load(file)
	if err != nil {
		file.Close()
		return err
	}
	f.seen = info
	f.value.Store(&value)
	return nil
}

// OwnerID is the owner of the file that was loaded last, for Owner.
func (f *Following[T]) OwnerID() (uid int, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st, ok := f.seen.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
