package maincf

import (
	"errors"
	"strings"
	"syscall"
)

// Reason words an error of the system as strerror(3) does: without the call
// and path, and beginning with a capital letter.
func Reason(err error) string {
	var number syscall.Errno
	text := err.Error()
	if errors.As(err, &number) {
		text = number.Error()
	}
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
