package spool

import (
	"errors"
	"syscall"
	"testing"

	"posthaste/internal/queue"
	"posthaste/internal/queue/queuetest"
	"posthaste/internal/sys/vfs"
	"posthaste/internal/sys/vfs/vfstest"
)

// reopen opens what a fault left, as the next process would.
func reopen(t *testing.T, fsys vfs.FS) *Spool {
	t.Helper()
	s, err := New(Options{FS: fsys, Config: postfixDefaults, SyncDirs: true, DraftBytes: 2048})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// calls counts the file system calls of a run without faults.
func calls(t *testing.T) int {
	mem := vfstest.New(1 << 30)
	s := reopen(t, mem)
	n := 0
	mem.After = func(string, string) { n++ }
	l := &queuetest.Ledger{Large: 6000}
	l.Work(t.Context(), s)
	mem.After = nil
	if l.Acknowledged() != 5 {
		t.Fatalf("%d messages acknowledged", l.Acknowledged())
	}
	l.Check(t, reopen(t, mem.Kill()), false)
	return n
}

// The power goes out after each call of a run in turn: whatever was not
// synced is lost, or some of it, or (a killed process) none.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	total := calls(t)
	for n := 1; n <= total; n++ {
		for seed := range uint64(8) {
			mem := vfstest.New(1 << 30)
			s := reopen(t, mem)
			var left *vfstest.Mem
			var cut *queuetest.Ledger
			l := &queuetest.Ledger{Large: 6000}
			count := 0
			mem.Hook = func(string, string) error {
				if left != nil {
					return syscall.EIO
				}
				return nil
			}
			mem.After = func(string, string) {
				if count++; count != n {
					return
				}
				switch seed {
				case 0:
					left = mem.Crash(nil)
				case 1:
					left = mem.Kill()
				default:
					left = mem.Crash(queuetest.Dice(uint64(n)<<8 | seed))
				}
				cut = l
			}
			l.Work(t.Context(), s)
			if left == nil {
				continue // ids share a subdirectory by chance: fewer calls
			}
			cut.Check(t, reopen(t, left), true)
			if t.Failed() {
				t.Fatalf("after call %d of %d, seed %d", n, total, seed)
			}
		}
	}
}

// The n-th call fails, and nothing else does; then the power goes out, too.
func TestFaults(t *testing.T) {
	t.Parallel()
	total := calls(t)
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC, vfstest.ErrShort} {
		for n := 1; n <= total; n++ {
			mem := vfstest.New(1 << 30)
			s := reopen(t, mem)
			count := 0
			mem.Hook = func(string, string) error {
				if count++; count == n {
					return fault
				}
				return nil
			}
			l := &queuetest.Ledger{Large: 6000}
			l.Work(t.Context(), s)
			mem.Hook = nil
			l.Check(t, reopen(t, mem.Kill()), false)
			l.Check(t, reopen(t, mem.Crash(nil)), true)
			if t.Failed() {
				t.Fatalf("%v at call %d of %d", fault, n, total)
			}
		}
	}
}

// From the n-th call on, everything that writes fails.
func TestDeadDisk(t *testing.T) {
	t.Parallel()
	total := calls(t)
	for n := 1; n <= total; n++ {
		mem := vfstest.New(1 << 30)
		s := reopen(t, mem)
		count := 0
		mem.Hook = func(op, _ string) error {
			if count++; count >= n && op != "open" && op != "read" && op != "lstat" && op != "fstat" {
				return syscall.EROFS
			}
			return nil
		}
		l := &queuetest.Ledger{Large: 6000}
		l.Work(t.Context(), s)
		mem.Hook = nil
		l.Check(t, reopen(t, mem.Crash(nil)), true)
		if t.Failed() {
			t.Fatalf("dead from call %d of %d", n, total)
		}
	}
}

// A sync that failed is not tried again for the same message.
func TestFailedSyncIsFinal(t *testing.T) {
	t.Parallel()
	mem := vfstest.New(1 << 30)
	s := reopen(t, mem)
	syncs := 0
	mem.Hook = func(op, _ string) error {
		if op == "fsync" {
			syncs++
			return syscall.EIO
		}
		return nil
	}
	d, err := s.Begin(t.Context(), queue.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(t.Context(), queuetest.Envelope(1), "incoming"); !errors.Is(err, syscall.EIO) {
		t.Errorf("commit: %v", err)
	}
	if err := d.Commit(t.Context(), queuetest.Envelope(1), "incoming"); !errors.Is(err, syscall.EIO) {
		t.Errorf("second commit: %v", err)
	}
	if syncs != 1 {
		t.Errorf("%d syncs", syncs)
	}
}
