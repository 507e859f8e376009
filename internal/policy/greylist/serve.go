package greylist

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

const (
	maxRequestLine  = 16 << 10
	maxRequestLines = 1000
	maxConnections  = 5000
	idleLimit       = time.Hour
)

// Server speaks Postfix's policy protocol (SMTPD_POLICY_README) for a
// Greylist.
type Server struct {
	Greylist *Greylist
	Log      *maillog.Logger
	Once     bool // one request in a connection, as Exim wants it
	Verbose  bool // log connections

	open atomic.Int64
}

// Serve answers connections until the listener is closed or the group stops.
func (s *Server) Serve(ctx context.Context, group *lifecycle.Group, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			// Out of files, or a client that is gone: others may be served.
			s.Log.Warnf("accept: %v", err)
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if s.open.Add(1) > maxConnections || !group.Go("policy client", func(ctx context.Context) { s.session(ctx, conn) }) {
			s.open.Add(-1)
			conn.Close()
		}
	}
}

func (s *Server) session(ctx context.Context, conn net.Conn) {
	defer s.open.Add(-1)
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if s.Verbose {
		s.Log.Infof("connect from %s", conn.RemoteAddr())
	}
	in, out := bufio.NewReaderSize(conn, maxRequestLine), bufio.NewWriter(conn)
	var r attributes
	var deadline time.Time
	for ctx.Err() == nil {
		if now := time.Now(); deadline.Sub(now) < idleLimit/2 {
			deadline = now.Add(idleLimit)
			if conn.SetDeadline(deadline) != nil {
				return
			}
		}
		if err := s.read(in, &r); err != nil {
			return
		}
		if action, ok := s.answer(ctx, &r); ok {
			out.WriteString("action=")
			out.WriteString(oneLine.Replace(action))
			out.WriteString("\n\n")
		}
		// Requests that wait already are answered together.
		if in.Buffered() == 0 && out.Flush() != nil || s.Once {
			out.Flush()
			return
		}
	}
}

var oneLine = strings.NewReplacer("\n", " ", "\r", " ")

// attributes are those of one request that matter. has tells which came.
type attributes struct {
	kind string
	Request
	has [4]bool
}

// required are the attributes without which there is no decision.
var required = [4]string{"client_address", "client_name", "sender", "recipient"}

// read reads a request up to its empty line.
func (s *Server) read(in *bufio.Reader, r *attributes) error {
	*r = attributes{}
	for range maxRequestLines {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = line[:len(line)-1]
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if len(line) == 0 {
			return nil
		}
		s.attribute(line, r)
	}
	return errors.New("too many attributes")
}

func (s *Server) attribute(line []byte, r *attributes) {
	at := bytes.IndexByte(line, '=')
	if at < 0 {
		s.Log.Warnf("ignoring garbage: <%.100s>", line)
		return
	}
	to, value := (*string)(nil), line[at+1:]
	switch string(line[:at]) {
	case "request":
		to = &r.kind
	case "instance":
		to = &r.Instance
	case "helo_name":
		to = &r.Helo
	case "etrn_domain":
		r.Enhanced = true // Postfix 2.3 or later
	case required[0]:
		to, r.has[0] = &r.ClientAddress, true
	case required[1]:
		to, r.has[1] = &r.ClientName, true
	case required[2]:
		to, r.has[2] = &r.Sender, true
	case required[3]:
		to, r.has[3] = &r.Recipient, true
	}
	if to != nil {
		*to = string(value)
	}
}

// answer is the action for a request; there is none for what is not a request
// of this protocol.
func (s *Server) answer(ctx context.Context, r *attributes) (action string, ok bool) {
	if r.kind != "smtpd_access_policy" {
		s.Log.Warnf("unrecognized request type: '%.100s'", r.kind)
		return "", false
	}
	for i, has := range r.has {
		if !has {
			s.Log.Warnf("attribute missing: %s", required[i])
			return "DUNNO", true
		}
	}
	return s.Greylist.Check(ctx, r.Request).Action, true
}
