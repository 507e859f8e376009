package worker

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func (x *executor) stat(path string) (Info, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Info{}, failed(KindSystem, path, err)
	}
	return facts(info), nil
}

func (x *executor) statTarget(path string) (Info, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Info{}, failed(KindSystem, path, err)
	}
	return facts(info), nil
}

func facts(info fs.FileInfo) Info {
	f := Info{UID: -1, GID: -1, Mode: info.Mode(), Size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		f.UID, f.GID = int(st.Uid), int(st.Gid)
	}
	return f
}

// read reads a regular file that is not longer than limit.
func (x *executor) read(path string, limit int64) (File, error) {
	// Without O_NONBLOCK, opening a FIFO would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return File{}, failed(KindSystem, path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return File{}, failed(KindSystem, path, err)
	}
	file := File{Info: facts(info)}
	if !info.Mode().IsRegular() {
		return file, &Error{Kind: KindNotRegular, Text: path + " is not a regular file"}
	}
	file.Data, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return file, failed(KindSystem, path, err)
	}
	if int64(len(file.Data)) > limit {
		file.Data = nil
		return file, &Error{Kind: KindTooLarge, Text: fmt.Sprintf("%s is larger than %d bytes", path, limit)}
	}
	return file, nil
}
