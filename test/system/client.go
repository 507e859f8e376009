package system

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"time"
)

// Client speaks SMTP step by step, and may misbehave.
type Client struct {
	Conn net.Conn
	in   *bufio.Reader
}

// Dial connects, and reads nothing yet.
func Dial(addr string) (*Client, error) {
	conn, err := net.DialTimeout("tcp", addr, Patience)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(2 * Patience))
	return &Client{Conn: conn, in: bufio.NewReader(conn)}, nil
}

// Close hangs up.
func (c *Client) Close() error { return c.Conn.Close() }

// Say sends text as it is.
func (c *Client) Say(text string) error {
	_, err := c.Conn.Write([]byte(text))
	return err
}

// Hear reads one reply, all its lines.
func (c *Client) Hear() (string, error) {
	var reply strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return reply.String() + line, err
		}
		reply.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimRight(reply.String(), "\r\n"), nil
		}
	}
}

// Ask sends a line and wants a reply that begins with want.
func (c *Client) Ask(line, want string) error {
	if err := c.Say(line + "\r\n"); err != nil {
		return err
	}
	return c.Want(line, want)
}

// Want reads a reply that begins with want; to is what it answers.
func (c *Client) Want(to, want string) error {
	reply, err := c.Hear()
	if err != nil {
		return fmt.Errorf("%s: %w", to, err)
	}
	if !strings.HasPrefix(reply, want) {
		return &UnexpectedReply{Line: to, Reply: reply}
	}
	return nil
}

// UnexpectedReply is an answer other than the one that was wanted.
type UnexpectedReply struct{ Line, Reply string }

func (e *UnexpectedReply) Error() string { return fmt.Sprintf("%.60s: %s", e.Line, e.Reply) }

// Hello connects and says EHLO.
func Hello(addr string) (*Client, error) {
	c, err := Dial(addr)
	if err != nil {
		return nil, err
	}
	if err = c.Want("connect", "220"); err == nil {
		err = c.Ask("EHLO client.test", "250")
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Envelope sends MAIL, RCPT and DATA.
func (c *Client) Envelope(from string, to ...string) error {
	if err := c.Ask("MAIL FROM:<"+from+">", "250"); err != nil {
		return err
	}
	for _, rcpt := range to {
		if err := c.Ask("RCPT TO:<"+rcpt+">", "250"); err != nil {
			return err
		}
	}
	return c.Ask("DATA", "354")
}

// Send has a message accepted. text has line ends of CR LF and no leading
// dots.
func (c *Client) Send(text, from string, to ...string) error {
	if err := c.Envelope(from, to...); err != nil {
		return err
	}
	if err := c.Say(text); err != nil {
		return err
	}
	return c.Ask(".", "250")
}
