package worker

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// maildir carries Maildir out: the file is written and synced in tmp, then
// linked into new, whose directory is synced, too.
func (x *executor) maildir(j *Maildir, now time.Time) error {
	dir := strings.TrimRight(j.Dir, "/") + "/"
	temporary := fmt.Sprintf("%stmp/%d.P%dQ%d.%s", dir, now.Unix(), os.Getpid(), x.temporaries.Add(1), j.Hostname)
	f, err := createTemporary(temporary, dir+"tmp")
	if err != nil {
		return failed(KindSystem, "create maildir file "+temporary, err)
	}
	// Whatever happens, nothing stays in tmp.
	defer os.Remove(temporary)
	final, err := x.fill(f, j, dir, now)
	if err != nil {
		return err
	}
	err = publish(temporary, final)
	if errors.Is(err, syscall.ENOENT) {
		if err = makeDirs(dir + "cur"); err == nil {
			err = makeDirs(dir + "new")
		}
		if err == nil {
			err = publish(temporary, final)
		}
	}
	if err != nil {
		return failed(KindSystem, "create maildir file "+final, err)
	}
	if err := syncDir(dir + "new"); err != nil {
		_ = os.Remove(final)
		return failed(KindWrite, "error writing message", err)
	}
	return nil
}

func createTemporary(name, dir string) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := os.OpenFile(name, flags, 0o600)
	if errors.Is(err, syscall.ENOENT) {
		if err := makeDirs(dir); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(name, flags, 0o600)
	}
	return f, err
}

// fill writes the file and returns the name that it shall have: unique on the
// host by device and inode, and in time by the clock.
func (x *executor) fill(f *os.File, j *Maildir, dir string, now time.Time) (final string, err error) {
	defer func() {
		if closeErr := f.Close(); closeErr != nil && err == nil {
			err = failed(KindWrite, "error writing message", closeErr)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return "", failed(KindSystem, "create maildir file "+f.Name(), err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", failed(KindSystem, "create maildir file "+f.Name(), syscall.ENOTSUP)
	}
	if err := x.write(f, j.Body, 0, j.Limit); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", failed(KindWrite, "error writing message", err)
	}
	return fmt.Sprintf("%snew/%d.V%xI%xM%d.%s", dir, now.Unix(), uint64(st.Dev), uint64(st.Ino), now.Nanosecond()/1000, j.Hostname), nil
}

// publish gives the file its final name without replacing anything. File
// systems without hard links get a rename: the name is unique anyway.
func publish(temporary, final string) error {
	err := os.Link(temporary, final)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) {
		return os.Rename(temporary, final)
	}
	return err
}

// makeDirs makes a directory with its parents, for the owner only.
func makeDirs(path string) error { return os.MkdirAll(path, 0o700) }

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	// Some network file systems cannot sync a directory, and need not.
	if errors.Is(err, syscall.EINVAL) {
		return nil
	}
	return err
}
