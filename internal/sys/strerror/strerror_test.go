package strerror

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

func TestText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("dial: %w", os.NewSyscallError("connect", syscall.ECONNREFUSED)), "Connection refused"},
		{&fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT}, "No such file or directory"},
		{&fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}, "Permission denied"},
		{syscall.EIO, "Input/output error"},
		{syscall.ENOSPC, "No space left on device"},
		{fs.ErrNotExist, "No such file or directory"},
		{os.ErrDeadlineExceeded, "Connection timed out"},
		{errors.New("own words"), "own words"},
	} {
		if got := Text(c.err); got != c.want {
			t.Errorf("Text(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}
