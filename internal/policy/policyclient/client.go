// Package policyclient asks policy servers (SMTPD_POLICY_README): attributes as
// "name=value" lines, an empty line, and "action=..." for an answer.
//
// A Client serves one server and keeps idle connections for reuse; requests
// may run concurrently, each on its own connection. A request is tried again
// on a new connection before it fails. What failure means (the default
// action) is decided by the caller, package restrict; the reason is logged
// here.
package policyclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/strerror"
)

const (
	maxLine  = 4096 // bytes of one reply line; Postfix' line_length_limit is half of it
	maxLines = 100  // of one reply
	maxIdle  = 64   // idle connections kept per server
)

// Attribute is one line of a request.
type Attribute struct{ Name, Value string }

// Client asks one policy server. Safe for concurrent use.
type Client struct {
	server Server
	log    *maillog.Logger
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	now    func() time.Time

	mu     sync.Mutex
	idle   []*connection
	closed bool
}

// connection is one connection to the server, owned by one request at a time.
type connection struct {
	net.Conn
	reader   *bufio.Reader
	opened   time.Time
	requests int
	expire   *time.Timer
}

// New makes a client. Paths of unix servers are relative to queueDir.
func New(s Server, queueDir string, log *maillog.Logger) *Client {
	if s.network == "unix" && !filepath.IsAbs(s.address) {
		s.address = filepath.Join(queueDir, s.address)
	}
	return &Client{server: s, log: log, dial: new(net.Dialer).DialContext, now: time.Now}
}

// Server is the server this client asks.
func (c *Client) Server() Server { return c.server }

// Close closes idle connections; those in use are closed after use.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.idle {
		conn.expire.Stop()
		conn.Close()
	}
	c.idle = nil
	return nil
}

// Ask sends a request and returns the action of the answer. An error means
// that no attempt was answered; it was logged.
func (c *Client) Ask(ctx context.Context, request []Attribute) (action string, err error) {
	text := encode(request)
	for try := 1; ; try++ {
		action, err = c.attempt(ctx, text)
		if err == nil {
			return action, nil
		}
		last := try >= c.server.Settings.TryLimit || ctx.Err() != nil
		// A server that closed an idle connection is no news.
		if last || !errors.Is(err, errLost) {
			c.log.Warnf("problem talking to server %s: %s", c.server.Name(), strerror.Text(err))
		}
		if last {
			return "", fmt.Errorf("policy server %s: %w", c.server.Name(), err)
		}
		if err := pause(ctx, c.server.Settings.RetryDelay); err != nil {
			return "", err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errLost is a connection that ended instead of an answer.
var errLost = errors.New("Connection reset by peer") //nolint:staticcheck // the words of the log

func (c *Client) attempt(ctx context.Context, text string) (string, error) {
	conn, err := c.take(ctx)
	if err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	action, err := conn.exchange(text, time.Now().Add(c.server.Settings.Timeout))
	if !stop() || err != nil {
		conn.Close()
		return action, err
	}
	c.put(conn)
	return action, nil
}

// take returns an idle connection, or a new one.
func (c *Client) take(ctx context.Context) (*connection, error) {
	c.mu.Lock()
	for len(c.idle) > 0 {
		conn := c.idle[len(c.idle)-1]
		c.idle = c.idle[:len(c.idle)-1]
		if conn.expire.Stop() && c.usable(conn) {
			c.mu.Unlock()
			return conn, nil
		}
		conn.Close()
	}
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, c.server.Settings.Timeout)
	defer cancel()
	raw, err := c.dial(ctx, c.server.network, c.server.address)
	if err != nil {
		c.log.Warnf("connect to %s: %s", c.server.Name(), strerror.Text(err))
		return nil, err
	}
	return &connection{Conn: raw, reader: bufio.NewReader(raw), opened: c.now()}, nil
}

func (c *Client) usable(conn *connection) bool {
	s := c.server.Settings
	return (s.MaxTTL <= 0 || c.now().Sub(conn.opened) < s.MaxTTL) &&
		(s.RequestLimit <= 0 || conn.requests < s.RequestLimit)
}

// put keeps a connection for the next request.
func (c *Client) put(conn *connection) {
	conn.requests++
	conn.SetDeadline(time.Time{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= maxIdle || !c.usable(conn) {
		conn.Close()
		return
	}
	conn.expire = time.AfterFunc(c.server.Settings.MaxIdle, func() { c.drop(conn) })
	c.idle = append(c.idle, conn)
}

// drop closes a connection that was idle for too long.
func (c *Client) drop(conn *connection) {
	c.mu.Lock()
	for i, other := range c.idle {
		if other == conn {
			c.idle = append(c.idle[:i], c.idle[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	conn.Close()
}

// exchange sends a request and reads the reply.
func (conn *connection) exchange(text string, deadline time.Time) (string, error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return "", lost(err)
	}
	action, err := readReply(conn.reader)
	if err != nil {
		return "", lost(err)
	}
	if conn.reader.Buffered() > 0 {
		return "", errors.New("unexpected data behind the reply")
	}
	return action, nil
}

// lost tells a broken connection from other trouble.
func lost(err error) error {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("Connection timed out") //nolint:staticcheck // the words of the log
	case errors.Is(err, errMalformed):
		return err
	}
	return errLost
}

var errMalformed = errors.New("malformed reply")

// readReply reads attributes up to an empty line and returns the action.
func readReply(r *bufio.Reader) (action string, err error) {
	found := false
	for range maxLines {
		line, err := readLine(r)
		if err != nil {
			return "", err
		}
		if line == "" {
			if !found {
				return "", fmt.Errorf("%w: no action", errMalformed)
			}
			return action, nil
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return "", fmt.Errorf("%w: no \"=\" in \"%.100s\"", errMalformed, line)
		}
		if strings.TrimSpace(name) == "action" && !found {
			action, found = strings.TrimSpace(value), true
		}
	}
	return "", fmt.Errorf("%w: more than %d lines", errMalformed, maxLines)
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(line) > maxLine {
		return "", fmt.Errorf("%w: line is too long", errMalformed)
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r"), nil
}

// encode writes a request. Line breaks and NUL cannot be part of a value: a
// client could add attributes of its own with them.
func encode(request []Attribute) string {
	var b strings.Builder
	for _, a := range request {
		b.WriteString(a.Name)
		b.WriteByte('=')
		b.WriteString(clean.Replace(a.Value))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.String()
}

var clean = strings.NewReplacer("\n", " ", "\r", " ", "\x00", " ")
