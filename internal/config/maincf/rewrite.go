package maincf

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// Suffix is that of the temporary file beside the file that is edited.
const Suffix = ".tmp"

// Rewrite replaces the file at path by what change makes of its text: through
// a temporary file that is complete and on stable storage before it takes the
// name, with the owner and mode of the original. Two editors at a time wait
// for each other. The error has Postfix's words; the file is then unchanged.
func Rewrite(path string, change func(text []byte) ([]byte, error)) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // keep a link to the file a link
	}
	temporary, err := lockTemporary(path + Suffix)
	if err != nil {
		return fmt.Errorf("open %s%s: %s", path, Suffix, Reason(err))
	}
	defer temporary.Close()
	if err := replace(path, temporary, change); err != nil {
		_ = os.Remove(temporary.Name())
		return err
	}
	return nil
}

func replace(path string, temporary *os.File, change func([]byte) ([]byte, error)) error {
	text, info, err := readAll(path)
	if err != nil {
		return fmt.Errorf("open %s for reading: %s", path, Reason(err))
	}
	if text, err = change(text); err != nil {
		return err
	}
	failed := func(err error) error { return fmt.Errorf("close %s%s: %s", path, Suffix, Reason(err)) }
	if _, err := temporary.Write(text); err != nil {
		return failed(err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		// Only root may give a file away; others keep their own.
		if err := temporary.Chown(int(owner.Uid), int(owner.Gid)); err != nil && os.Geteuid() == 0 {
			return failed(err)
		}
	}
	if err := temporary.Chmod(info.Mode().Perm()); err != nil {
		return failed(err)
	}
	if err := temporary.Sync(); err != nil {
		return failed(err)
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return failed(err)
	}
	return syncDir(filepath.Dir(path))
}

func readAll(path string) ([]byte, os.FileInfo, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > MaxFile {
		return nil, nil, syscall.EFBIG
	}
	text, err := io.ReadAll(io.LimitReader(file, MaxFile))
	return text, info, err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s: %s", path, Reason(err))
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync %s: %s", path, Reason(err))
	}
	return nil
}

// lockTemporary opens the file for exclusive use, empty. Whoever held it
// before may have renamed it away: then it opens the name again.
func lockTemporary(path string) (*os.File, error) {
	for range 100 {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
			file.Close()
			return nil, err
		}
		mine, err1 := file.Stat()
		named, err2 := os.Lstat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, named) {
			if err := file.Truncate(0); err != nil {
				file.Close()
				return nil, err
			}
			return file, nil
		}
		file.Close()
	}
	return nil, syscall.EAGAIN
}
