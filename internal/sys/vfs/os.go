//go:build unix

package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the file system of the operating system below a directory.
func Dir(root string) FS { return dir{root: root} }

type dir struct{ root string }

func (d dir) path(name string) string { return d.root + "/" + name }

// open goes around os.OpenFile: a queue file is a regular file, and the
// attempts to register it with the poller cost as much as the open itself.
func (d dir) open(name string, flags int, perm uint32) (File, error) {
	path := d.path(name)
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, perm)
		if err == nil {
			return &file{fd: fd, name: path}, nil
		}
		if err != unix.EINTR {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

func (d dir) Open(name string) (File, error)      { return d.regular(name, unix.O_RDONLY) }
func (d dir) OpenWrite(name string) (File, error) { return d.regular(name, unix.O_RDWR) }

func (d dir) regular(name string, flags int) (File, error) {
	f, err := d.open(name, flags, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode.IsRegular() {
		err = &fs.PathError{Op: "open", Path: d.path(name), Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d dir) Create(name string, perm fs.FileMode) (File, error) {
	return d.open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, uint32(perm.Perm()))
}

func (d dir) Rename(from, to string) error {
	from, to = d.path(from), d.path(to)
	if err := unix.Rename(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func (d dir) Remove(name string) error {
	path := d.path(name)
	err := unix.Unlink(path)
	if err == unix.EISDIR || err == unix.EPERM {
		if rmdir := unix.Rmdir(path); rmdir != unix.ENOTDIR {
			err = rmdir
		}
	}
	return wrap("remove", path, err)
}

func (d dir) Mkdir(name string, perm fs.FileMode) error {
	path := d.path(name)
	return wrap("mkdir", path, unix.Mkdir(path, uint32(perm.Perm())))
}

func (d dir) ReadDir(name string, fn func(entry string) bool) error {
	f, err := os.Open(d.path(name))
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(1024)
		for _, n := range names {
			if !fn(n) {
				return nil
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (d dir) Lstat(name string) (Info, error) {
	var st unix.Stat_t
	path := d.path(name)
	if err := unix.Lstat(path, &st); err != nil {
		return Info{}, wrap("lstat", path, err)
	}
	return info(&st), nil
}

func (d dir) Chmod(name string, perm fs.FileMode) error {
	path := d.path(name)
	return wrap("chmod", path, unix.Chmod(path, uint32(perm.Perm())))
}

func (d dir) Chtimes(name string, mtime time.Time) error {
	return os.Chtimes(d.path(name), mtime, mtime)
}

func (d dir) SyncDir(name string) error {
	f, err := d.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}

func (d dir) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.root, &st); err != nil {
		return 0, wrap("statfs", d.root, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

type file struct {
	fd   int
	name string
}

func (f *file) Write(p []byte) (int, error) {
	for done := 0; ; {
		n, err := unix.Write(f.fd, p[done:])
		done += max(n, 0)
		if done == len(p) {
			return done, nil
		}
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil && err != unix.EINTR {
			return done, wrap("write", f.name, err)
		}
	}
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	for done := 0; ; {
		n, err := unix.Pwrite(f.fd, p[done:], off+int64(done))
		done += max(n, 0)
		if done == len(p) {
			return done, nil
		}
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil && err != unix.EINTR {
			return done, wrap("write", f.name, err)
		}
	}
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	for done := 0; ; {
		if done == len(p) {
			return done, nil
		}
		n, err := unix.Pread(f.fd, p[done:], off+int64(done))
		done += max(n, 0)
		if err == nil && n == 0 {
			return done, io.EOF
		}
		if err != nil && err != unix.EINTR {
			return done, wrap("read", f.name, err)
		}
	}
}

func (f *file) Stat() (Info, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return Info{}, wrap("fstat", f.name, err)
	}
	return info(&st), nil
}

func (f *file) Chmod(perm fs.FileMode) error {
	return wrap("fchmod", f.name, unix.Fchmod(f.fd, uint32(perm.Perm())))
}

func (f *file) Truncate(size int64) error {
	return wrap("truncate", f.name, unix.Ftruncate(f.fd, size))
}

func (f *file) Sync() error { return wrap("fsync", f.name, unix.Fsync(f.fd)) }

func (f *file) Close() error {
	if f.fd < 0 {
		return fs.ErrClosed
	}
	fd := f.fd
	f.fd = -1
	return wrap("close", f.name, unix.Close(fd))
}

// Fd is the descriptor of a File that Dir opened, for passing it to a child
// process or another process; -1 for other files.
func Fd(f File) int {
	if f, ok := f.(*file); ok {
		return f.fd
	}
	return -1
}

func wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

func info(st *unix.Stat_t) Info {
	mode := fs.FileMode(st.Mode & 0o777)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	default:
		mode |= fs.ModeIrregular
	}
	sec, nsec := st.Mtim.Unix()
	return Info{Mode: mode, Size: st.Size, ModTime: time.Unix(sec, nsec), UID: int(st.Uid), Links: int(st.Nlink)}
}
