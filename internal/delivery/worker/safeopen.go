package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// openTries bounds the race between a file that is not there for open and is
// there for create.
const openTries = 50

// openForAppend opens or creates path without being led astray: no hard links,
// and symbolic links only where root made them. It does not block on a FIFO.
func openForAppend(j *Append) (*os.File, error) {
	var err error
	for range openTries {
		var f *os.File
		f, err = openExisting(j.Path)
		if err == nil || !errors.Is(err, syscall.ENOENT) {
			return f, err
		}
		f, err = createNew(j)
		if err == nil || !errors.Is(err, syscall.EEXIST) {
			return f, err
		}
	}
	return nil, err
}

func openExisting(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, failed(KindSystem, "cannot open file", err)
	}
	if err := inspect(path, fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	// Writes must wait for room again: only the opening may not block.
	if err := unix.SetNonblock(fd, false); err != nil {
		_ = unix.Close(fd)
		return nil, failed(KindSystem, "cannot open file", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// inspect compares what was opened with what the name says.
func inspect(path string, fd int) error {
	var opened, named unix.Stat_t
	if err := unix.Fstat(fd, &opened); err != nil {
		return failed(KindSystem, "cannot open file", err)
	}
	if err := unix.Lstat(path, &named); err != nil {
		return failed(KindSystem, "file status changed unexpectedly", err)
	}
	if opened.Mode&unix.S_IFMT == unix.S_IFREG && opened.Nlink > 1 {
		return &Error{Errno: syscall.EPERM, Text: fmt.Sprintf("file has %d hard links", opened.Nlink)}
	}
	if named.Mode&unix.S_IFMT == unix.S_IFLNK {
		if named.Uid != 0 || !onlyRootWrites(filepath.Dir(path)) {
			return &Error{Errno: syscall.EPERM, Text: "file is a symbolic link"}
		}
		return nil
	}
	if opened.Dev != named.Dev || opened.Ino != named.Ino {
		return &Error{Errno: syscall.EPERM, Text: "file status changed unexpectedly"}
	}
	return nil
}

func onlyRootWrites(dir string) bool {
	var st unix.Stat_t
	return unix.Stat(dir, &st) == nil && st.Uid == 0 && st.Mode&(unix.S_IWGRP|unix.S_IWOTH) == 0
}

func createNew(j *Append) (*os.File, error) {
	flags := unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC
	fd, err := unix.Open(j.Path, flags, 0o600)
	if err != nil {
		return nil, failed(KindSystem, "cannot create file exclusively", err)
	}
	f := os.NewFile(uintptr(fd), j.Path)
	if j.Give {
		if err := f.Chown(j.OwnerUID, j.OwnerGID); err != nil {
			_ = f.Close()
			_ = os.Remove(j.Path)
			return nil, failed(KindSystem, "cannot change file ownership", err)
		}
	}
	return f, nil
}
