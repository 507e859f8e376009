package worker

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// wire is one end of a socket pair that carries frames and descriptors.
type wire struct{ *net.UnixConn }

// socketPair makes two connected ends, closed on exec.
func socketPair() (a, b *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "worker socket"), os.NewFile(uintptr(fds[1]), "worker socket"), nil
}

// newWire takes a socket over; f is closed.
func newWire(f *os.File) (wire, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return wire{}, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return wire{}, fmt.Errorf("%s is not a Unix socket", f.Name())
	}
	return wire{u}, nil
}

// send writes a frame, with a descriptor when file is not nil.
func (w wire) send(frame []byte, file *os.File) error {
	if len(frame) > maxResponse {
		return errFrame
	}
	head := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(frame)), uint32(len(frame)))
	all := append(head, frame...)
	if file == nil {
		_, err := w.Write(all)
		return err
	}
	// The descriptor travels with the head, so that the receiver finds it there.
	n, _, err := w.WriteMsgUnix(all[:4], unix.UnixRights(int(file.Fd())), nil)
	if err != nil {
		return err
	}
	_, err = w.Write(all[n:])
	return err
}

// receive reads a frame of at most limit bytes and the descriptor that came
// with it, nil for none.
func (w wire) receive(limit int) (frame []byte, file *os.File, err error) {
	var head [4]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := w.ReadMsgUnix(head[:], oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return nil, nil, err
	}
	file, err = oneFile(oob[:oobn])
	if err == nil {
		_, err = io.ReadFull(w, head[n:])
	}
	if err == nil {
		size := binary.BigEndian.Uint32(head[:])
		if int64(size) > int64(limit) {
			err = fmt.Errorf("%w: %d bytes", errFrame, size)
		} else {
			frame = make([]byte, size)
			_, err = io.ReadFull(w, frame)
		}
	}
	if err != nil && file != nil {
		_ = file.Close()
		file = nil
	}
	return frame, file, err
}

// oneFile finds the descriptor in a control message. Others are closed.
func oneFile(oob []byte) (*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, errFrame
	}
	var found *os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if found != nil {
				_ = unix.Close(fd)
				continue
			}
			found = os.NewFile(uintptr(fd), "passed descriptor")
		}
	}
	return found, nil
}
