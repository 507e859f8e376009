package smtp

import (
	"context"
	"errors"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/wire/mailtls"
)

// Where a session stands with TLS, behind the level in tls= of the log.
const (
	tlsWithout = ":none" // the level allowed it, the server did not
	tlsUnknown = "?"     // it did not come to that
)

// tlsStatus is tls= of the log line.
func tlsStatus(level mailtls.Level, suffix string) string {
	if level == mailtls.LevelNone {
		return "none"
	}
	return level.String() + suffix
}

// errPlaintext is a handshake that failed where TLS is optional: on a new
// connection the mail may go in the clear.
var errPlaintext = errors.New("plaintext is allowed")

// tlsRequired fails because there is no TLS as the policy wants it.
func (s *session) tlsRequired(status dsn.Status) error {
	s.tls = "!" + s.policy.Level.String()
	return siteError{status.WithScope(dsn.Site)}
}

// secure turns TLS on as the policy asks: with "may" a server that does not
// offer it, or refuses, is talked to in the clear.
func (s *session) secure(ctx context.Context) error {
	level := s.policy.Level
	if level == mailtls.LevelNone {
		if s.agent.tls.NoteOffer() && s.has("STARTTLS") {
			s.agent.log.Infof("Host offered STARTTLS: [%s]", s.name)
		}
		return nil
	}
	optional := level == mailtls.LevelMay
	client := s.agent.tls.Client()
	switch {
	case optional && (!s.has("STARTTLS") || client == nil):
		s.tls = tlsStatus(level, tlsWithout)
		return nil
	case !s.has("STARTTLS"):
		return s.tlsRequired(dsn.Newf(450, "4.7.4", "TLS is required, but was not offered by host %s", s.where))
	case client == nil:
		return s.tlsRequired(dsn.New(450, "4.7.5", "TLS is required, but our TLS engine is unavailable"))
	}
	r, err := s.conn.ask(s.agent.config.HeloTimeout, "STARTTLS")
	if err != nil {
		return s.broken(err, "performing the STARTTLS handshake")
	}
	if !r.ok() {
		if optional {
			s.tls = tlsStatus(level, tlsWithout)
			return nil
		}
		return s.tlsRequired(s.said(r).WithText("TLS is required, but host " + s.where + " refused to start TLS: " + r.text()))
	}
	if err := s.handshake(ctx, client); err != nil {
		return err
	}
	verb, name := "EHLO", s.agent.config.HeloName
	if s.agent.lmtp {
		verb, name = "LHLO", s.agent.config.LHLOName
	}
	r, err = s.hello(verb, name)
	if err != nil {
		return err
	}
	if !r.ok() {
		return s.refused(r, false)
	}
	return nil
}

// wrap begins the conversation with TLS (postconf(5) smtp_tls_wrappermode).
func (s *session) wrap(ctx context.Context) error {
	client := s.agent.tls.Client()
	if client == nil {
		s.lost = true
		return s.tlsRequired(dsn.New(450, "4.7.5", "TLS is required, but our TLS engine is unavailable"))
	}
	return s.handshake(ctx, client)
}

// handshake leaves nothing of what the server said before it. A server with
// the wrong certificate still gets a QUIT.
func (s *session) handshake(ctx context.Context, client *mailtls.Client) error {
	level := s.policy.Level
	c, info, err := client.Handshake(ctx, s.conn.Conn, s.policy, s.relay)
	if err != nil {
		s.lost = true
		s.tls = "!" + level.String()
		failure := siteError{dsn.New(450, "4.7.5", "Cannot start TLS: handshake failure").WithScope(dsn.Session)}
		if level == mailtls.LevelMay && ctx.Err() == nil {
			return errors.Join(failure, errPlaintext)
		}
		return failure
	}
	s.conn = newConn(c)
	s.encrypted = true
	if level >= mailtls.LevelFingerprint && !info.Matched {
		return s.tlsRequired(dsn.New(450, "4.7.5", "Server certificate not verified"))
	}
	s.tls = level.String()
	return nil
}
