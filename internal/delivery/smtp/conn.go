package smtp

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/wire/smtpproto"
)

const (
	maxReplyLine = 2048 // bytes of one line that are kept; RFC 5321 §4.5.3.1.5 asks for 512
	writeBuffer  = 16 << 10
)

// reply is one server reply, possibly of several lines.
type reply struct{ smtpproto.Reply }

func (r reply) ok() bool { return r.Code >= 200 && r.Code < 300 }

// text joins the lines, each with its code, as Postfix does in logs and reports.
func (r reply) text() string {
	var b strings.Builder
	for i, line := range r.Lines {
		sign := "-"
		if i == len(r.Lines)-1 {
			sign = " "
		}
		fmt.Fprintf(&b, "%d%s%s ", r.Code, sign, line)
	}
	return strings.TrimRight(b.String(), " ")
}

// status is the reply as an answer about a recipient. A 3xx reply out of place
// is no definite "no".
func (r reply) status() dsn.Status {
	if r.Code >= 300 && r.Code < 400 {
		return dsn.New(450, "4.5.0", r.text())
	}
	return dsn.New(r.Code, r.Enhanced, r.text())
}

// conn is the line discipline over one connection: buffered commands out,
// replies in, each exchange with its own time limit.
type conn struct {
	net.Conn
	in  *smtpproto.Reader
	out *bufio.Writer
}

func newConn(c net.Conn) *conn {
	return &conn{Conn: c, in: smtpproto.NewReader(c), out: bufio.NewWriterSize(c, writeBuffer)}
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
	r, err := smtpproto.ReadReply(c.in, maxReplyLine)
	return reply{r}, err
}

// isTimeout tells a silent server from a lost connection.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}
