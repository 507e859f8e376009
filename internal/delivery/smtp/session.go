package smtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/sys/strerror"
	"posthaste/internal/wire/mailtls"
	"posthaste/internal/wire/smtpproto"
)

// features of a server, from its EHLO reply.
type features struct {
	esmtp     bool
	keywords  map[string]string // upper case keyword → arguments
	sizeLimit int64             // bytes, 0 for none
}

func (f features) has(keyword string) bool { _, ok := f.keywords[keyword]; return ok }

// session is one conversation with one host.
type session struct {
	agent *Agent
	conn  *conn
	name  string // host name, or our own for a UNIX-domain socket
	where string // "host[addr]", for messages
	relay string // "host[addr]:port", for the log
	tls   string // security level in force, as logged

	policy    mailtls.Policy
	encrypted bool // TLS is on

	features
	connected time.Time
	lost      bool // the connection is of no more use
}

// siteError is trouble with a host: another may do better.
type siteError struct{ status dsn.Status }

func (e siteError) Error() string { return e.status.String() }

// open connects to a host and shakes hands. The error is a siteError, with
// the connection closed.
func (a *Agent) open(ctx context.Context, t target, policy mailtls.Policy) (*session, error) {
	raw, err := a.connect(ctx, t)
	if err != nil {
		text := fmt.Sprintf("connect to %s: %s", t.relay(), strerror.Text(err))
		a.log.Infof("%s", text)
		return nil, siteError{dsn.New(450, "4.4.1", text).WithScope(dsn.Site)}
	}
	s := &session{agent: a, conn: newConn(raw), name: t.name, where: t.where(), relay: t.relay(), policy: policy, tls: tlsStatus(policy.Level, "")}
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if a.tls.Wrapped() && t.socket == "" {
		if err := s.wrap(ctx); err != nil {
			return s, err
		}
	}
	if err := s.greet(ctx); err != nil {
		return s, err
	}
	s.connected = time.Now()
	return s, nil
}

// connect dials within smtp_connect_timeout from the configured address.
func (a *Agent) connect(ctx context.Context, t target) (net.Conn, error) {
	if d := a.config.ConnectTimeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if t.socket != "" {
		return a.dial(ctx, "unix", "", a.socketPath(t.socket))
	}
	local := a.config.BindAddress
	if t.ip.Is6() {
		local = a.config.BindAddress6
	}
	return a.dial(ctx, "tcp", local, net.JoinHostPort(t.ip.String(), strconv.Itoa(int(t.port))))
}

// greet reads the greeting, says EHLO or HELO, and turns TLS on.
func (s *session) greet(ctx context.Context) error {
	c := s.agent.config
	s.conn.within(c.HeloTimeout)
	r, err := s.conn.receive()
	if err != nil {
		return s.broken(err, "receiving the initial server greeting")
	}
	if !r.ok() {
		return s.refused(r, c.Skip5xxGreeting)
	}
	if s.agent.lmtp {
		r, err = s.hello("LHLO", c.LHLOName)
		switch {
		case err != nil:
			return err
		case !r.ok():
			return s.refused(r, false)
		}
		return s.offered(ctx)
	}
	if c.AlwaysEHLO && !c.NeverEHLO || strings.Contains(r.text(), "ESMTP") {
		if r, err = s.hello("EHLO", c.HeloName); err != nil {
			return err
		}
		if r.ok() {
			return s.offered(ctx)
		}
		if r.Code == 421 {
			return s.refused(r, false)
		}
	}
	if r, err = s.hello("HELO", c.HeloName); err != nil {
		return err
	}
	if !r.ok() {
		return s.refused(r, false)
	}
	return s.offered(ctx)
}

// offered goes on after the server said what it can do.
func (s *session) offered(ctx context.Context) error {
	if s.encrypted {
		return nil
	}
	return s.secure(ctx)
}

// hello says EHLO, LHLO or HELO and notes what the server offers.
func (s *session) hello(verb, name string) (reply, error) {
	r, err := s.conn.ask(s.agent.config.HeloTimeout, "%s %s", verb, name)
	if err != nil {
		return r, s.broken(err, "performing the "+verb+" handshake")
	}
	s.features = features{}
	if r.ok() && verb != "HELO" {
		s.features = parseFeatures(r.Lines, s.agent.config.DiscardKeywords)
	}
	return r, nil
}

// parseFeatures reads the keywords of an EHLO reply (RFC 5321 §4.1.1.1).
func parseFeatures(lines []string, discard string) features {
	f := features{esmtp: true, keywords: map[string]string{}}
	ignored := strings.FieldsFunc(strings.ToUpper(discard), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
	for _, line := range lines[min(1, len(lines)):] {
		keyword, arguments, _ := strings.Cut(line, " ")
		keyword = strings.ToUpper(keyword)
		if !slices.Contains(ignored, keyword) {
			f.keywords[keyword] = arguments
		}
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(f.keywords["SIZE"]), 10, 64); err == nil && n > 0 {
		f.sizeLimit = n
	}
	return f
}

// refused is a host that does not want to talk to us.
func (s *session) refused(r reply, soften bool) error {
	status := s.said(r).WithText("host " + s.where + " refused to talk to me: " + r.text()).WithScope(dsn.Site)
	if soften {
		status = status.Soft()
	}
	return siteError{status}
}

// said is a server's reply as an answer, with its origin.
func (s *session) said(r reply) dsn.Status {
	return r.status().WithRemote(dsn.Remote{MTA: s.name, DiagType: "smtp", Diag: r.text()})
}

// inReply words a refusal of one command.
func (s *session) inReply(r reply, request string) dsn.Status {
	return s.said(r).WithText(fmt.Sprintf("host %s said: %s (in reply to %s)", s.where, r.text(), request))
}

// broken is a connection that broke in the given phase; it is of no more use.
func (s *session) broken(err error, phase string) error {
	s.lost = true
	status := dsn.Newf(450, "4.4.2", "lost connection with %s while %s", s.where, phase)
	switch {
	case isTimeout(err):
		status = dsn.Newf(450, "4.4.2", "conversation with %s timed out while %s", s.where, phase)
	case errors.Is(err, smtpproto.ErrSyntax), errors.Is(err, smtpproto.ErrEndless):
		status = dsn.Newf(450, "4.5.0", "Protocol error: host %s sent an invalid reply while %s", s.where, phase).
			WithRemote(dsn.Remote{DiagType: "x-unix", Diag: "Protocol error in SMTP server reply"})
	}
	return siteError{status.WithScope(dsn.Session)}
}

// quit ends the conversation politely.
func (s *session) quit() {
	defer s.conn.Close()
	if s.lost {
		return
	}
	c := s.agent.config
	s.conn.within(c.QuitTimeout)
	s.conn.command("QUIT")
	if c.SkipQuitResponse {
		s.conn.out.Flush()
		return
	}
	s.conn.receive()
}
