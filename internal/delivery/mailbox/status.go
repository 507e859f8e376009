package mailbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/dsn"
)

// ParseLocks reads postconf(5) mailbox_delivery_lock or virtual_mailbox_lock.
func ParseLocks(text string) (worker.Locks, error) {
	var locks worker.Locks
	for _, name := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }) {
		switch strings.ToLower(name) {
		case "fcntl":
			locks |= worker.LockFcntl
		case "flock":
			locks |= worker.LockFlock
		case "dotlock":
			locks |= worker.LockDot
		default:
			return 0, fmt.Errorf("unknown mailbox locking method %q", name)
		}
	}
	return locks, nil
}

// Locking is how mailbox files are locked, by main.cf.
type Locking struct {
	Attempts int           `param:"deliver_lock_attempts"`
	Delay    time.Duration `param:"deliver_lock_delay"`
	Stale    time.Duration `param:"stale_lock_time"`
}

// Trouble is the Status of a delivery to a file that failed; usual is the
// enhanced code of failures that nothing better is known about, and prefix
// stands before the reason. What cannot be attempted at all, or is trouble of
// this host, is temporary.
func Trouble(err error, usual, prefix string) dsn.Status {
	var e *worker.Error
	if !errors.As(err, &e) {
		text := "delivery is not possible now: " + err.Error()
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			text = "delivery was interrupted"
		}
		return dsn.FromEnhanced("4.3.0", prefix+text)
	}
	return dsn.FromEnhanced(enhanced(e, usual), prefix+e.Text)
}

// enhanced is the code of mbox_dsn(3).
func enhanced(e *worker.Error, usual string) string {
	switch e.Kind {
	case worker.KindLocked, worker.KindNotOwner:
		return "4.2.0"
	case worker.KindExecutable:
		return "5.7.1"
	case worker.KindSource:
		return "4.3.0"
	}
	switch e.Errno {
	case syscall.EAGAIN, syscall.ESTALE:
		return "4.2.0"
	case syscall.EDQUOT, syscall.EFBIG:
		return "5.2.2"
	case syscall.ENOSPC, syscall.EIO, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.EROFS, syscall.EINTR, syscall.ENOLCK:
		return "4.3.0"
	}
	if e.Kind == worker.KindWrite {
		return "5.3.0"
	}
	return usual
}
