// Package trigger is how commands ask the running mail system to do
// something: single letters to the queue manager and to pickup, and the
// requests of flush(8), as in Postfix.
//
// Sockets are accessible to local users, so a server believes nothing it
// reads, and reads little and not for long. Callers: the postqueue, sendmail,
// postdrop, postsuper and postkick commands send; master receives.
package trigger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"posthaste/internal/queue"
)

// Requests to the queue manager (qmgr(8)) and to pickup.
const (
	ScanDeferred  = 'D'
	ScanIncoming  = 'I'
	IgnoreTime    = 'F' // with the scans: whatever the time of the next attempt
	ForgetDead    = 'A' // forget which destinations were dead
	Wakeup        = 'W' // the periodic one
	FlushAll      = "FADI"
	PickupAll     = "W"
	maxTrigger    = 4096
	maxField      = 4096
	serverTimeout = 10 * time.Second
)

// Send connects to a socket and writes a request. Postfix ends it with NUL.
func Send(ctx context.Context, path, request string) error {
	conn, err := dial(ctx, path)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.WriteString(conn, request+"\x00")
	return err
}

// clientTimeout is trigger_timeout's default; a caller's ctx may be shorter.
const clientTimeout = 10 * time.Second

func dial(ctx context.Context, path string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(clientTimeout))
}

// Receive reads a request from a connection and closes it. It gives what came
// before an error, as a client that went away meant what it said.
func Receive(conn net.Conn) string {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(serverTimeout))
	var request []byte
	var buf [256]byte
	for len(request) < maxTrigger {
		n, err := conn.Read(buf[:])
		request = append(request, buf[:n]...)
		if err != nil || n > 0 && buf[n-1] == 0 {
			break
		}
	}
	return strings.Trim(string(request), "\x00")
}

// Answer is what flush(8) says.
type Answer int

// Answers of flush(8).
const (
	Fail    Answer = -1 // trouble
	OK      Answer = 0
	Invalid Answer = 1 // bad request
	Deny    Answer = 2 // not configured for this destination
)

// Flush is a request to flush(8).
type Flush struct {
	Kind string // SendSite, SendFile, Purge or Refresh
	Site string
	ID   queue.ID
}

// Kinds of Flush.
const (
	SendSite = "send_site"
	SendFile = "send_file"
	Purge    = "purge"
	Refresh  = "refresh"
)

const flushProtocol = "queue_flush_protocol"

// ErrProtocol is given for what is not the expected protocol.
var ErrProtocol = errors.New("trigger: unexpected data")

// Ask sends a request to flush(8) and returns its answer.
func Ask(ctx context.Context, path string, f Flush) (Answer, error) {
	conn, err := dial(ctx, path)
	if err != nil {
		return Fail, err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	hello, err := readAttributes(in)
	if err != nil {
		return Fail, err
	}
	if hello["protocol"] != flushProtocol {
		return Fail, ErrProtocol
	}
	request := []string{"request", f.Kind}
	if f.Site != "" {
		request = append(request, "site", f.Site)
	}
	if f.ID != "" {
		request = append(request, "queue_id", string(f.ID))
	}
	if err := writeAttributes(conn, request...); err != nil {
		return Fail, err
	}
	reply, err := readAttributes(in)
	if err != nil {
		return Fail, err
	}
	answer := Fail
	if _, err := fmt.Sscan(reply["status"], &answer); err != nil {
		return Fail, ErrProtocol
	}
	return answer, nil
}

// Serve is the server's side of one request.
func Serve(conn net.Conn, do func(Flush) Answer) error {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(serverTimeout))
	if err := writeAttributes(conn, "protocol", flushProtocol); err != nil {
		return err
	}
	attr, err := readAttributes(bufio.NewReader(conn))
	if err == io.EOF && len(attr) == 0 {
		return nil // a wakeup
	}
	if err != nil {
		return err
	}
	f := Flush{Kind: attr["request"], Site: attr["site"], ID: queue.ID(attr["queue_id"])}
	return writeAttributes(conn, "status", fmt.Sprint(int(f.answer(do))))
}

func (f Flush) answer(do func(Flush) Answer) Answer {
	switch {
	case f.Kind == SendSite && f.Site != "":
	case f.Kind == SendFile && queue.IsID(string(f.ID)):
	case f.Kind == SendFile && f.ID != "":
		return OK // there is no such message, which is not the client's fault
	case f.Kind == Purge, f.Kind == Refresh:
	default:
		return Invalid
	}
	return do(f)
}

// maxAttributes bounds one request.
const maxAttributes = 10

// readAttributes reads names and values that end with NUL, up to an empty
// name.
func readAttributes(in *bufio.Reader) (map[string]string, error) {
	attr := map[string]string{}
	for range maxAttributes {
		name, err := field(in)
		if err != nil || name == "" {
			return attr, err
		}
		if attr[name], err = field(in); err != nil {
			return attr, err
		}
	}
	return attr, ErrProtocol
}

func field(in *bufio.Reader) (string, error) {
	var text []byte
	for len(text) < maxField {
		c, err := in.ReadByte()
		if err != nil {
			return "", err
		}
		if c == 0 {
			return string(text), nil
		}
		text = append(text, c)
	}
	return "", ErrProtocol
}

func writeAttributes(w io.Writer, fields ...string) error {
	_, err := io.WriteString(w, strings.Join(fields, "\x00")+"\x00\x00")
	return err
}
