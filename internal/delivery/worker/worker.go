// Package worker acts on behalf of a user: it appends to mailboxes, writes
// Maildir files, runs commands and reads small files such as .forward.
//
// A Host is what the delivery agents see. InProcess does everything as the
// user that the process runs as. Remote hands the work to worker processes,
// one or more for each user: the delivery process (Main), which is root and
// tiny, starts them with their rights dropped for good and passes a socket to
// the mail process, which then talks to the worker itself. So the privileged
// process sees numbers of users and groups, and never a byte of mail; and a
// worker trusts nobody with more than its user may do anyway.
//
// Promises: a file is either changed completely and on stable storage, or has
// its old size; a request that a dead worker leaves behind is an error, which
// the agents turn into a deferral; nothing that a peer sends is believed
// without limits.
//
// Callers: local, virtual, pipe (Host); master (Main, NewRemote); every main
// function (Hook).
package worker

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"posthaste/internal/sys/strerror"
)

// Rights are whose rights are used: one user and one group, no other groups.
type Rights struct {
	UID, GID int
	// Chroot is a directory that becomes the root before rights are dropped
	// (pipe(8) chroot=); "" for none.
	Chroot string
}

// Body writes the text to be delivered. It may be called more than once and
// writes the same each time. nil writes nothing.
type Body func(w io.Writer) error

// Locks is a set of locking methods, postconf(5) mailbox_delivery_lock.
type Locks uint8

const (
	LockFcntl Locks = 1 << iota
	LockFlock
	LockDot
	// LockDotMayFail goes on without a lock file that cannot be created,
	// unless somebody else holds it.
	LockDotMayFail
)

// Append adds a message to a file.
type Append struct {
	Path     string
	Locks    Locks
	Attempts int           // deliver_lock_attempts
	Delay    time.Duration // deliver_lock_delay
	Stale    time.Duration // stale_lock_time
	Limit    int64         // bytes that the file may grow to, 0 for no limit

	RegularOnly bool // refuse anything but a regular file (ErrNotRegular)
	NoExec      bool // refuse a regular file that is executable (ErrExecutable)
	CheckOwner  bool // refuse a file whose owner is not Owner (ErrNotOwner)
	Owner       int
	// Give makes a new file belong to OwnerUID and OwnerGID: for mail spool
	// directories that only root may write to.
	Give               bool
	OwnerUID, OwnerGID int

	Body Body
}

// Appended is the result of Append.
type Appended struct {
	Offset  int64  // where the message begins
	Warning string // to be logged, "" for none
}

// Maildir adds a message to a Maildir.
type Maildir struct {
	Dir      string // with or without trailing slash
	Hostname string // for the file name
	Limit    int64  // bytes, 0 for no limit
	Body     Body
}

// Command runs a program with the message as its standard input.
type Command struct {
	// Argv is executed as it is; argv[0] without "/" is searched in Env's PATH.
	Argv []string
	// Line is given to /bin/sh -c when Argv is empty, or names no program.
	Line string
	Env  []string
	Dir  string // working directory, "" for the process's own
	// TimeLimit ends the command's process group with SIGKILL; 0 for none.
	TimeLimit time.Duration
	Output    int // how much of the output is kept, in bytes
	Body      Body
	// Stdio becomes standard input, output and error, in place of Body and
	// Output: a connection that the command is to serve (spawn(8)). Run may
	// close it, and returns when the command has ended.
	Stdio *os.File
}

// Finished is how a command ended. StartError means that it never began.
type Finished struct {
	Exit       int
	Signal     int // 0 when it exited by itself
	Output     []byte
	TimedOut   bool
	StartError string // as in "execvp /no/such: No such file or directory"
	InputError string // why the message could not be written, "" for none
}

// Info are the facts about a file that decide whether it is believed.
type Info struct {
	UID, GID int
	Mode     fs.FileMode
	Size     int64
}

// File is a small file that was read.
type File struct {
	Info
	Data []byte
}

// Host acts as a user. Safe for concurrent use. Errors are *Error when the
// attempt was made; any other error means that it could not be made and says
// nothing about the destination.
type Host interface {
	Append(ctx context.Context, as Rights, j Append) (Appended, error)
	Maildir(ctx context.Context, as Rights, j Maildir) error
	Run(ctx context.Context, as Rights, j Command) (Finished, error)
	// Read reads a regular file of at most limit bytes.
	Read(ctx context.Context, as Rights, path string, limit int64) (File, error)
	// Stat does not follow a symbolic link.
	Stat(ctx context.Context, as Rights, path string) (Info, error)
	// StatTarget follows symbolic links.
	StatTarget(ctx context.Context, as Rights, path string) (Info, error)
}

// Kind divides the errors of a delivery.
type Kind uint8

const (
	KindSystem     Kind = iota // a system call failed: see Errno
	KindLocked                 // somebody else holds the lock file
	KindNotRegular             // Append.RegularOnly
	KindNotOwner               // Append.CheckOwner
	KindExecutable             // Append.NoExec
	KindTooLarge               // Read: more than limit bytes
	KindWrite                  // writing the message failed: see Errno
	KindSource                 // the message could not be read
	kinds
)

// Error is a delivery that failed. Text is complete, in Postfix's words:
// "unable to create lock file /var/mail/x.lock: Permission denied".
type Error struct {
	Kind  Kind
	Errno syscall.Errno
	Text  string
}

func (e *Error) Error() string { return e.Text }

// Unwrap gives the system error.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// failed makes an Error of kind from a system error; what precedes its words.
func failed(kind Kind, what string, err error) *Error {
	e := &Error{Kind: kind, Text: what + ": " + strerror.Text(err)}
	errors.As(err, &e.Errno)
	return e
}

// ErrBusy means that no worker was free before the context ended.
var ErrBusy = errors.New("no worker process is free")
