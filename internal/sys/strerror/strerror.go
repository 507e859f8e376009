// Package strerror puts system errors in the words of strerror(3), which
// stand in replies, bounces and log lines that people and programs match on.
// Every room that reports a failed system call uses it.
package strerror

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"unicode"
)

// special are the errors whose words differ from Go's by more than the case
// of the first letter.
var special = map[syscall.Errno]string{
	syscall.EIO:          "Input/output error",
	syscall.ENOSPC:       "No space left on device",
	syscall.EHOSTUNREACH: "No route to host",
	syscall.ENETUNREACH:  "Network is unreachable",
	syscall.ETIMEDOUT:    "Connection timed out",
}

// Text is the error in strerror(3)'s words if there is a system error inside,
// else its own text. A timeout is "Connection timed out".
func Text(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if text, ok := special[errno]; ok {
			return text
		}
		return capital(errno.Error())
	}
	var timeout net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return special[syscall.ETIMEDOUT]
	case errors.Is(err, fs.ErrNotExist):
		return "No such file or directory"
	case errors.Is(err, fs.ErrPermission):
		return "Permission denied"
	}
	return err.Error()
}

func capital(s string) string {
	r := []rune(s)
	if len(r) == 0 {
		return s
	}
	return string(unicode.ToUpper(r[0])) + strings.TrimPrefix(s, string(r[0]))
}
