package master

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// message goes between the supervisor and the mail process, with open files
// beside it. One message is one packet.
type message struct {
	Op        string   `json:"op"`        // configure, stop, ready, failed, open
	Listeners []string `json:"listeners"` // configure: keys of the files that follow
	Log       bool     `json:"log"`       // configure: the first file is the log
	Path      string   `json:"path"`      // open: what to open for reading
	Error     string   `json:"error"`     // failed, or the answer to open
}

// Bounds of one message.
const (
	maxMessage = 256 << 10
	maxFiles   = 250 // below the kernel's SCM_MAX_FD
)

// link is one end of the control connection.
type link struct{ conn *net.UnixConn }

// newLinks makes a connected pair; the second is for a child process.
func newLinks() (*link, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("control socket: %w", err)
	}
	ours, err := linkTo(os.NewFile(uintptr(fds[0]), "control"))
	if err != nil {
		unix.Close(fds[1])
		return nil, nil, err
	}
	return ours, os.NewFile(uintptr(fds[1]), "control"), nil
}

// linkTo wraps an inherited socket, and closes file.
func linkTo(file *os.File) (*link, error) {
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("control socket: not a UNIX-domain socket")
	}
	return &link{u}, nil
}

func (l *link) close() error { return l.conn.Close() }

// send passes a message and files; the files stay open here.
func (l *link) send(m message, files ...*os.File) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err = l.conn.WriteMsgUnix(data, rights, nil)
	return err
}

// receive reads one message with its files. io.EOF means the peer is gone.
func (l *link) receive() (message, []*os.File, error) {
	data, control := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(maxFiles*4))
	n, cn, flags, _, err := l.conn.ReadMsgUnix(data, control)
	if err != nil {
		return message{}, nil, err
	}
	files, err := receivedFiles(control[:cn])
	switch {
	case err != nil:
	case n == 0 && cn == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("control message is too long")
	}
	var m message
	if err == nil {
		err = json.Unmarshal(data[:n], &m)
	}
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		return message{}, nil, err
	}
	return m, files, nil
}

func receivedFiles(control []byte) ([]*os.File, error) {
	if len(control) == 0 {
		return nil, nil
	}
	parts, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, part := range parts {
		fds, err := unix.ParseUnixRights(&part)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}
