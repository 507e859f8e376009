package sasl

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// alive reports whether the other end of an idle connection is still there and
// silent. A connection that cannot be looked at counts as alive.
func alive(c net.Conn) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	ok = true
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		n, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		// A byte is no answer to anything: the server is out of step.
		ok = n < 0 && (err == unix.EAGAIN || err == unix.EWOULDBLOCK || err == unix.EINTR)
		return true
	})
	return err == nil && ok
}
