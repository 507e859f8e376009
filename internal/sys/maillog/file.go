package maillog

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

// maxBacklog bounds the lines that wait for a slow disk, in bytes; more are
// dropped and counted.
const maxBacklog = 4 << 20

// File is a Sink that writes lines as syslogd would:
// "Jan  2 15:04:05 host tag[pid]: text". Sessions only append to a buffer;
// Run writes it out.
type File struct {
	host string

	writing sync.Mutex // held while lines are written out
	mu      sync.Mutex
	out     io.Writer
	buffer  []byte
	dropped int
	wake    chan struct{}
}

// NewFile makes a sink onto out; host is the name in each line.
func NewFile(out io.Writer, host string) *File {
	return &File{host: host, out: out, wake: make(chan struct{}, 1)}
}

// Write implements Sink.
func (f *File) Write(l Line) {
	f.mu.Lock()
	if len(f.buffer) > maxBacklog {
		f.dropped++
	} else {
		f.buffer = AppendLine(f.buffer, l, f.host)
	}
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// AppendLine formats a line as syslogd writes it, with its line end.
func AppendLine(b []byte, l Line, host string) []byte {
	b = l.Time.AppendFormat(b, time.Stamp)
	b = append(b, ' ')
	b = append(b, host...)
	b = append(b, ' ')
	b = append(b, l.Tag...)
	b = append(b, '[')
	b = strconv.AppendInt(b, int64(l.PID), 10)
	b = append(b, "]: "...)
	b = append(b, l.Text...)
	return append(b, '\n')
}

// Run writes buffered lines out until ctx ends, and then what is left.
func (f *File) Run(ctx context.Context) {
	for {
		select {
		case <-f.wake:
			f.Flush()
		case <-ctx.Done():
			f.Flush()
			return
		}
	}
}

// Flush writes out what is buffered. Lines that cannot be written are lost:
// there is nobody to tell.
func (f *File) Flush() {
	f.writing.Lock()
	defer f.writing.Unlock()
	f.flush()
}

func (f *File) flush() {
	f.mu.Lock()
	data, dropped, out := f.buffer, f.dropped, f.out
	f.buffer, f.dropped = nil, 0
	f.mu.Unlock()
	if dropped > 0 {
		data = fmt.Appendf(data, "%s %s postfix/postlogd[%d]: warning: %d log lines were dropped: the log is too slow\n",
			time.Now().Format(time.Stamp), f.host, os.Getpid(), dropped)
	}
	if len(data) > 0 {
		out.Write(data)
	}
}

// Replace directs further lines to another file (log rotation) and returns
// the former one, which nobody writes to any more.
func (f *File) Replace(out io.Writer) io.Writer {
	f.writing.Lock()
	defer f.writing.Unlock()
	f.flush()
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.out
	f.out = out
	return old
}
