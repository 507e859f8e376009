// Package vfs is the file system as the durable parts of the mail system use
// it: a dozen operations on names below one directory, so that a test can fail
// the n-th call or cut the power after it (package vfstest).
//
// Names are relative, separated by "/", and never leave the directory; who
// makes them from text of others validates that first. Errors are
// *fs.PathError or *fs.LinkError, so errors.Is works with fs.ErrNotExist,
// fs.ErrExist and syscall numbers.
//
// Durability is the caller's business: data and mode of a file survive a power
// cut after File.Sync, a name after FS.SyncDir. A failed Sync must never be
// repeated: the kernel may have dropped what it could not write.
//
// It is used by the queue, the maildrop and the queue commands.
package vfs

import (
	"io"
	"io/fs"
	"time"
)

// Info is what lstat(2) tells about a name.
type Info struct {
	Mode    fs.FileMode
	Size    int64
	ModTime time.Time
	UID     int
	Links   int
}

// File is an open file. Reads and writes at offsets are safe for concurrent
// use; Write appends at the file's own position and is not.
type File interface {
	io.Writer
	io.ReaderAt
	io.WriterAt
	Stat() (Info, error)
	Chmod(perm fs.FileMode) error
	Truncate(size int64) error
	Sync() error // data and inode on stable storage; never call it again after an error
	Close() error
}

// FS is a directory tree.
type FS interface {
	// Open opens a regular file for reading; it does not follow a symbolic
	// link at the end of the name and does not block on a named pipe.
	Open(name string) (File, error)
	// OpenWrite opens an existing regular file for reading and writing.
	OpenWrite(name string) (File, error)
	// Create makes a new file for reading and writing; fs.ErrExist if there
	// is anything of that name.
	Create(name string, perm fs.FileMode) (File, error)
	// Rename moves a file, replacing one of the new name.
	Rename(from, to string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	Mkdir(name string, perm fs.FileMode) error
	// ReadDir calls fn for each name in a directory, in no order, until it
	// returns false.
	ReadDir(name string, fn func(entry string) bool) error
	// Lstat describes a name without following a symbolic link.
	Lstat(name string) (Info, error)
	Chmod(name string, perm fs.FileMode) error
	// Chtimes sets the modification time, with at least second resolution.
	Chtimes(name string, mtime time.Time) error
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// Free is the space that an unprivileged writer may still use, in bytes.
	Free() (int64, error)
}
