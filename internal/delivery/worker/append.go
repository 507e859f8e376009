package worker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// executor does the work in this process, as its own user. The zero value is
// ready for use.
type executor struct {
	mu    sync.Mutex
	paths map[string]chan struct{} // files being appended to here

	// temporaries tells files of one second and process apart until they have
	// their inode number for a name.
	temporaries atomic.Uint64

	// wrap, when not nil, stands between the text and the file, for tests.
	wrap func(io.Writer) io.Writer
}

// enter keeps appends to one path apart: fcntl locks do not hold between
// threads of one process.
func (x *executor) enter(ctx context.Context, path string) (leave func(), err error) {
	for {
		x.mu.Lock()
		if x.paths == nil {
			x.paths = map[string]chan struct{}{}
		}
		busy, held := x.paths[path]
		if !held {
			done := make(chan struct{})
			x.paths[path] = done
			x.mu.Unlock()
			return func() {
				x.mu.Lock()
				delete(x.paths, path)
				x.mu.Unlock()
				close(done)
			}, nil
		}
		x.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// append carries Append out.
func (x *executor) append(ctx context.Context, j *Append) (done Appended, err error) {
	leave, err := x.enter(ctx, j.Path)
	if err != nil {
		return done, err
	}
	defer leave()
	// Lock before opening, but do not leave lock files beside /dev/null.
	if info, err := os.Stat(j.Path); j.Locks&LockDot != 0 && (err != nil || info.Mode().IsRegular()) {
		unlock, err := dotLock(ctx, j)
		var why *Error
		switch {
		case err == nil:
			defer unlock()
		case errors.As(err, &why) && why.Kind != KindLocked && j.Locks&LockDotMayFail != 0:
			done.Warning = why.Text
		default:
			return done, err
		}
	}
	f, err := openForAppend(j)
	if err != nil {
		return done, err
	}
	defer f.Close()
	done.Offset, err = x.appendTo(ctx, f, j)
	return done, err
}

func (x *executor) appendTo(ctx context.Context, f *os.File, j *Append) (offset int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, failed(KindSystem, "cannot open file", err)
	}
	if err := acceptable(info, j); err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, x.write(f, j.Body, 0, 0)
	}
	if err := kernelLock(ctx, f, j); err != nil {
		return 0, err
	}
	// Another program may have written until we had the lock.
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, failed(KindSystem, "cannot open file", err)
	}
	err = x.write(f, j.Body, end, j.Limit)
	if err == nil {
		if syncErr := f.Sync(); syncErr != nil {
			err = failed(KindWrite, "error writing message", syncErr)
		}
	}
	if err != nil {
		restore(f, end, err)
	}
	return end, err
}

// restore puts the old size back, and says so when even that is impossible.
func restore(f *os.File, size int64, why error) {
	err := f.Truncate(size)
	var e *Error
	if err != nil && errors.As(why, &e) {
		e.Text += "; " + failed(KindSystem, "cannot restore the size of "+f.Name(), err).Text
	}
}

func acceptable(info os.FileInfo, j *Append) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	regular := info.Mode().IsRegular()
	switch {
	case j.RegularOnly && !regular:
		return &Error{Kind: KindNotRegular, Text: "destination " + j.Path + " is not a regular file"}
	case j.NoExec && regular && info.Mode().Perm()&0o111 != 0:
		return &Error{Kind: KindExecutable, Text: "file is executable"}
	case j.CheckOwner && (!ok || int(st.Uid) != j.Owner):
		return &Error{Kind: KindNotOwner, Text: "destination " + j.Path + " is not owned by recipient"}
	}
	return nil
}

// write copies the text, from offset start of a file that may grow to limit.
func (x *executor) write(f *os.File, body Body, start, limit int64) error {
	if body == nil {
		return nil
	}
	var to io.Writer = f
	if x.wrap != nil {
		to = x.wrap(to)
	}
	bounded := &boundedWriter{w: to, at: start, limit: limit}
	buffered := bufio.NewWriterSize(bounded, 32<<10)
	err := body(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	switch {
	case bounded.err != nil:
		return failed(KindWrite, "error writing message", bounded.err)
	case err != nil:
		return failed(KindSource, "error reading message", err)
	}
	return nil
}

// boundedWriter ends with EFBIG at limit and remembers what failed, so that
// trouble of the destination and of the source can be told apart.
type boundedWriter struct {
	w         io.Writer
	at, limit int64
	err       error
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.limit > 0 && b.at+int64(len(p)) > b.limit {
		b.err = syscall.EFBIG
		return 0, b.err
	}
	n, err := b.w.Write(p)
	b.at += int64(n)
	b.err = err
	return n, err
}
