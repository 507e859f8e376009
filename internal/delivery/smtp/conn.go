package smtp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"posthaste/internal/mail/dsn"
)

// Limits on what a server may make us read.
const (
	maxReplyLine  = 2048 // bytes of one line that are kept; RFC 5321 §4.5.3.1.5 asks for 512
	maxReplyLines = 100  // lines of one reply
	writeBuffer   = 16 << 10
)

// reply is one server reply, possibly of several lines.
type reply struct {
	code  int
	lines []string
}

// text joins the lines as Postfix does in logs and reports.
func (r reply) text() string { return strings.Join(r.lines, " ") }

func (r reply) ok() bool { return r.code >= 200 && r.code < 300 }

// status is the reply as an answer about a recipient. A 3xx reply out of place
// is no definite "no".
func (r reply) status() dsn.Status {
	if r.code >= 300 && r.code < 400 {
		return dsn.New(450, "4.5.0", r.text())
	}
	enhanced, _ := dsn.SplitEnhanced(r.body())
	if enhanced == "" || enhanced[0]-'0' != byte(r.code/100) {
		return dsn.New(r.code, "0.0.0", r.text())
	}
	return dsn.New(r.code, enhanced, r.text())
}

// body is the first line behind the code.
func (r reply) body() string {
	if len(r.lines) == 0 || len(r.lines[0]) < 4 {
		return ""
	}
	return r.lines[0][4:]
}

// errProtocol is a reply that is none.
var errProtocol = errors.New("Protocol error")

// conn is the line discipline over one connection: buffered commands out,
// replies in, each exchange with its own time limit.
type conn struct {
	net.Conn
	in  *bufio.Reader
	out *bufio.Writer
}

func newConn(c net.Conn) *conn {
	return &conn{Conn: c, in: bufio.NewReaderSize(c, 4096), out: bufio.NewWriterSize(c, writeBuffer)}
}

// within sets the time limit for the next exchange.
func (c *conn) within(d time.Duration) { c.SetDeadline(time.Now().Add(d)) }

func (c *conn) command(format string, args ...any) {
	fmt.Fprintf(c.out, format+"\r\n", args...)
}

// ask sends one command and reads its reply.
func (c *conn) ask(limit time.Duration, format string, args ...any) (reply, error) {
	c.within(limit)
	c.command(format, args...)
	return c.receive()
}

// receive flushes what was written and reads one reply.
func (c *conn) receive() (reply, error) {
	if err := c.out.Flush(); err != nil {
		return reply{}, err
	}
	var r reply
	for len(r.lines) < maxReplyLines {
		line, err := c.line()
		if err != nil {
			return r, err
		}
		code, more, ok := parseReplyLine(line)
		if !ok || r.code != 0 && code != r.code {
			return reply{}, errProtocol
		}
		r.code, r.lines = code, append(r.lines, line)
		if !more {
			return r, nil
		}
	}
	return reply{}, errProtocol
}

// line reads one line; what is too long is cut off, not kept.
func (c *conn) line() (string, error) {
	var kept []byte
	for {
		part, err := c.in.ReadSlice('\n')
		if room := maxReplyLine - len(kept); room > 0 {
			kept = append(kept, part[:min(room, len(part))]...)
		}
		if err == nil {
			return strings.TrimRight(string(kept), "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
}

func parseReplyLine(line string) (code int, more, ok bool) {
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, false, false
	}
	code, err := strconv.Atoi(line[:3])
	if err != nil || code < 200 || code > 599 {
		return 0, false, false
	}
	return code, len(line) > 3 && line[3] == '-', true
}

// isTimeout tells a silent server from a lost connection.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// isEnd reports that the server hung up.
func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
