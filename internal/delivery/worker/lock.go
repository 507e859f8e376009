package worker

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dotLock creates path.lock. A lock file that is older than j.Stale is taken
// to be left behind.
func dotLock(ctx context.Context, j *Append) (unlock func(), err error) {
	name := j.Path + ".lock"
	for attempt := 1; ; attempt++ {
		fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			_ = unix.Close(fd)
			return func() { _ = os.Remove(name) }, nil
		}
		kind := KindSystem
		if errors.Is(err, syscall.EEXIST) {
			kind = KindLocked
		}
		why := failed(kind, "unable to create lock file "+name, err)
		if kind != KindLocked || attempt >= max(j.Attempts, 1) {
			return nil, why
		}
		if staleLock(name, j.Stale) {
			if os.Remove(name) == nil {
				continue
			}
		}
		if err := pause(ctx, j.Delay); err != nil {
			return nil, err
		}
	}
}

func staleLock(name string, age time.Duration) bool {
	info, err := os.Lstat(name)
	return err == nil && age > 0 && time.Since(info.ModTime()) > age
}

// kernelLock takes the kernel's locks on an open file.
func kernelLock(ctx context.Context, f *os.File, j *Append) error {
	if j.Locks&LockFlock != 0 {
		if err := retryLock(ctx, j, func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
			return err
		}
	}
	if j.Locks&LockFcntl != 0 {
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		return retryLock(ctx, j, func() error { return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock) })
	}
	return nil
}

func retryLock(ctx context.Context, j *Append, try func() error) error {
	for attempt := 1; ; attempt++ {
		err := try()
		if err == nil {
			return nil
		}
		held := errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES)
		if held {
			err = syscall.EAGAIN
		}
		if (!held && !errors.Is(err, syscall.EINTR)) || attempt >= max(j.Attempts, 1) {
			return failed(KindSystem, "unable to lock for exclusive access", err)
		}
		if err := pause(ctx, j.Delay); err != nil {
			return err
		}
	}
}
