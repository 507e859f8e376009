package sasl

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/strerror"
)

const (
	maxLine       = 16 << 10 // bytes of one line of the server
	maxHandshake  = 1000     // lines of a greeting
	maxStray      = 1000     // lines about other requests, for one answer
	maxIdle       = 32       // idle connections kept
	maxMechanisms = 100
)

// The words of Postfix for what is in its way.
const (
	reasonLost    = "Connection lost to authentication server"
	reasonConnect = "Can't connect to authentication server"
)

// Dovecot is an auth service of Dovecot. Connections are kept for the next
// authentication; one is used by one conversation at a time.
type Dovecot struct {
	network, address string
	path             string // as configured, for the log
	log              *maillog.Logger
	dial             func(ctx context.Context, network, address string) (net.Conn, error)

	mu     sync.Mutex
	idle   []*dovecotConn
	closed bool
}

// NewDovecot makes a client of the service at path: "inet:host:port", or a
// socket, with or without "unix:", relative to queueDir.
func NewDovecot(path, queueDir string, log *maillog.Logger) *Dovecot {
	d := &Dovecot{path: path, log: log, dial: new(net.Dialer).DialContext, network: "unix"}
	if rest, ok := strings.CutPrefix(path, "inet:"); ok {
		d.network, d.address = "tcp", rest
		return d
	}
	d.address = strings.TrimPrefix(path, "unix:")
	if !filepath.IsAbs(d.address) {
		d.address = filepath.Join(queueDir, d.address)
	}
	return d
}

// Mechanisms implements Authenticator. What is in the way was logged.
func (d *Dovecot) Mechanisms(ctx context.Context) ([]Mechanism, error) {
	conn, err := d.take(ctx)
	if err != nil {
		return nil, err
	}
	mechanisms := conn.mechanisms
	d.put(conn)
	return mechanisms, nil
}

// Begin implements Authenticator.
func (d *Dovecot) Begin(ctx context.Context, r Request) (Conversation, Step) {
	for try := 0; ; try++ {
		conn, err := d.take(ctx)
		if err != nil {
			return nil, Step{Outcome: Temporary, Reason: reasonConnect}
		}
		reused := conn.requests > 0
		conn.requests++
		talk := &dovecotTalk{server: d, conn: conn, id: strconv.FormatUint(uint64(conn.requests), 10)}
		step := talk.exchange(ctx, talk.request(r))
		// A server that was restarted since is no trouble.
		if step.Outcome == Temporary && talk.silent && reused && try == 0 && ctx.Err() == nil {
			d.forget()
			continue
		}
		if step.Outcome != More {
			return nil, step
		}
		return talk, step
	}
}

// Close closes the idle connections; those in use are closed after use.
func (d *Dovecot) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.forget()
	return nil
}

// forget closes the idle connections.
func (d *Dovecot) forget() {
	d.mu.Lock()
	idle := d.idle
	d.idle = nil
	d.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}

// take returns an idle connection that still is one, or a new one.
func (d *Dovecot) take(ctx context.Context) (*dovecotConn, error) {
	for {
		d.mu.Lock()
		n := len(d.idle)
		if n == 0 {
			d.mu.Unlock()
			return d.connect(ctx)
		}
		conn := d.idle[n-1]
		d.idle = d.idle[:n-1]
		d.mu.Unlock()
		if alive(conn.Conn) {
			return conn, nil
		}
		conn.Close()
	}
}

func (d *Dovecot) put(conn *dovecotConn) {
	d.mu.Lock()
	keep := !d.closed && len(d.idle) < maxIdle
	if keep {
		d.idle = append(d.idle, conn)
	}
	d.mu.Unlock()
	if !keep {
		conn.Close()
	}
}

// connect opens a connection and shakes hands.
func (d *Dovecot) connect(ctx context.Context) (*dovecotConn, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	raw, err := d.dial(ctx, d.network, d.address)
	if err != nil {
		d.log.Warnf("SASL: Connect to Dovecot auth socket '%s' failed: %s", d.path, strerror.Text(err))
		return nil, err
	}
	conn := &dovecotConn{Conn: raw, in: bufio.NewReaderSize(raw, maxLine)}
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	err = conn.shakeHands()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		d.log.Warnf("SASL: handshake with Dovecot auth socket '%s' failed: %s", d.path, strerror.Text(err))
		return nil, err
	}
	return conn, nil
}

// dovecotConn is one connection after the handshake.
type dovecotConn struct {
	net.Conn
	in         *bufio.Reader
	mechanisms []Mechanism
	requests   int
}

// errTooLong is a server that does not end its line.
var errTooLong = errors.New("line too long")

func (c *dovecotConn) readLine() (string, error) {
	line, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errTooLong
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("connection closed")
		}
		return "", err
	}
	return string(line[:len(line)-1]), nil
}

// shakeHands tells who we are and reads what the server offers. Dovecot
// refuses a second client with the same number, and one process of ours has
// many connections: the number is a random one.
func (c *dovecotConn) shakeHands() error {
	_ = c.SetDeadline(time.Now().Add(exchangeTimeout))
	var number [4]byte
	if _, err := rand.Read(number[:]); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "VERSION\t1\t1\nCPID\t%d\n", binary.BigEndian.Uint32(number[:])>>1|1); err != nil {
		return err
	}
	version := false
	for range maxHandshake {
		line, err := c.readLine()
		if err != nil {
			return err
		}
		fields := strings.Split(line, "\t")
		switch fields[0] {
		case "VERSION":
			if len(fields) < 3 || fields[1] != "1" {
				return fmt.Errorf("protocol version mismatch: %.40q", line)
			}
			version = true
		case "MECH":
			if m, ok := parseMechanism(fields[1:]); ok && len(c.mechanisms) < maxMechanisms {
				c.mechanisms = append(c.mechanisms, m)
			}
		case "DONE":
			if !version {
				return errors.New("no protocol version")
			}
			return c.SetDeadline(time.Time{})
		}
	}
	return errors.New("endless greeting")
}

// parseMechanism reads the fields of a MECH line. A name that could not be
// said in an EHLO reply is none.
func parseMechanism(fields []string) (Mechanism, bool) {
	if len(fields) == 0 || fields[0] == "" || len(fields[0]) > 64 {
		return Mechanism{}, false
	}
	m := Mechanism{Name: strings.ToUpper(fields[0])}
	for _, c := range []byte(m.Name) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return Mechanism{}, false
		}
	}
	for _, f := range fields[1:] {
		m.Properties |= propertyNames[strings.ToLower(f)]
	}
	return m, true
}

// dovecotTalk is a Conversation.
type dovecotTalk struct {
	server *Dovecot
	conn   *dovecotConn // nil when it is over
	id     string
	silent bool // the server broke off before it said anything
}

// request is the AUTH line; the response comes last, as the protocol demands.
func (t *dovecotTalk) request(r Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "AUTH\t%s\t%s\tservice=%s\tnologin", t.id, oneField(r.Mechanism), oneField(r.Service))
	for _, f := range []struct{ name, value string }{
		{"lip", r.Peer.ServerAddress}, {"rip", r.Peer.ClientAddress},
		{"lport", r.Peer.ServerPort}, {"rport", r.Peer.ClientPort},
	} {
		if f.value != "" {
			b.WriteString("\t" + f.name + "=" + oneField(f.value))
		}
	}
	if r.Peer.Encrypted {
		b.WriteString("\tsecured")
	}
	if r.Peer.Certified {
		b.WriteString("\tvalid-client-cert")
	}
	if r.HasInitial {
		b.WriteString("\tresp=" + oneField(r.Initial))
	}
	return b.String() + "\n"
}

// oneField keeps a value from becoming two.
func oneField(value string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, value)
}

// Next implements Conversation.
func (t *dovecotTalk) Next(ctx context.Context, response string) Step {
	if t.conn == nil {
		return Step{Outcome: Temporary, Reason: reasonLost}
	}
	return t.exchange(ctx, "CONT\t"+t.id+"\t"+oneField(response)+"\n")
}

// Close implements Conversation. The server still waits for a response: the
// connection is not used again.
func (t *dovecotTalk) Close() {
	if t.conn != nil {
		t.conn.Close()
		t.conn = nil
	}
}

// exchange sends one line and waits for its answer.
func (t *dovecotTalk) exchange(ctx context.Context, line string) Step {
	_ = t.conn.SetDeadline(time.Now().Add(exchangeTimeout))
	stop := context.AfterFunc(ctx, func() { t.conn.SetDeadline(time.Unix(1, 0)) })
	step, err := t.answer(line)
	switch {
	case !stop() || err != nil:
		if err == nil {
			err = ctx.Err()
		}
		t.server.log.Warnf("SASL: Dovecot auth socket '%s': %s", t.server.path, strerror.Text(err))
		t.Close()
		return Step{Outcome: Temporary, Reason: reasonLost}
	case step.Outcome != More:
		_ = t.conn.SetDeadline(time.Time{})
		t.server.put(t.conn)
		t.conn = nil
	}
	return step
}

func (t *dovecotTalk) answer(line string) (Step, error) {
	t.silent = true
	if _, err := io.WriteString(t.conn, line); err != nil {
		return Step{}, err
	}
	for range maxStray {
		line, err := t.conn.readLine()
		if err != nil {
			return Step{}, err
		}
		t.silent = false
		step, ok, err := parseAnswer(line, t.id)
		if ok || err != nil {
			return step, err
		}
	}
	return Step{}, errors.New("no answer among many lines")
}

// parseAnswer reads OK, CONT and FAIL lines about the request id; ok is false
// for any other line.
func parseAnswer(line, id string) (step Step, ok bool, err error) {
	verb, rest, _ := strings.Cut(line, "\t")
	about, rest, _ := strings.Cut(rest, "\t")
	if about != id {
		return step, false, nil
	}
	switch verb {
	case "CONT":
		if !ValidBase64(rest) {
			return step, false, errors.New("challenge is not base64")
		}
		return Step{Outcome: More, Challenge: rest}, true, nil
	case "OK":
		step = parseFields(rest, Done)
		if step.Username == "" {
			return step, false, errors.New("missing user name in a positive answer")
		}
		return step, true, nil
	case "FAIL":
		return parseFields(rest, Failed), true, nil
	}
	return step, false, nil
}

// parseFields reads "user=", "reason=" and what makes a failure temporary.
func parseFields(text string, outcome Outcome) Step {
	step := Step{Outcome: outcome}
	for field := range strings.SplitSeq(text, "\t") {
		name, value, _ := strings.Cut(field, "=")
		switch {
		case name == "user":
			step.Username = maillog.Printable(unescape(value))
		case outcome != Failed:
		case name == "reason":
			step.Reason = maillog.Printable(unescape(value))
		case name == "temp", name == "code" && value == "temp_fail":
			step.Outcome = Temporary
		}
	}
	return step
}

// unescape reads Dovecot's escapes: \001 and a letter.
func unescape(text string) string {
	return strings.NewReplacer("\x010", "\x00", "\x011", "\x01", "\x01t", "\t", "\x01n", "\n", "\x01r", "\r").Replace(text)
}
