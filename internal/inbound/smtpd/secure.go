package smtpd

import (
	"errors"
	"net"
	"strings"

	"posthaste/internal/inbound/smtpd/auth"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/policy/rate"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/wire/mailtls"
	"posthaste/internal/wire/sasl"
	"posthaste/internal/wire/smtpproto"
)

// errFatal ends a session that the configuration makes impossible. The service
// is not tried again for a while.
var errFatal = errors.New("fatal")

// fatal is a configuration that no session can work with.
func (s *session) fatal(err error) error {
	s.log.Fatalf("%v", err)
	s.srv.crash()
	return errFatal
}

// starttls answers STARTTLS; the handshake follows the reply (RFC 3207).
func (s *session) starttls(args []smtpproto.Token) reply {
	switch {
	case len(args) != 1:
		return syntaxError("501 5.5.4 Syntax: STARTTLS")
	case s.conn.tls != nil:
		return syntaxError("554 5.5.1 Error: TLS already active")
	case !s.set.tls.Offered() || s.srv.opt.StandAlone || s.conn.discard&smtpproto.KeywordSTARTTLS != 0:
		return syntaxError("502 5.5.1 Error: command not implemented")
	case !s.set.tls.Ready():
		return say("454 4.7.0 TLS not available due to local problem").mark(errSoftware)
	}
	r := say("220 2.0.0 Ready to start TLS")
	r.then = s.secure
	return r
}

// secure makes the connection a TLS one and forgets what the client said
// before: somebody else may have said it (RFC 3207 §4.2). The reply is zero
// unless the session is to end.
func (s *session) secure() reply {
	if err := s.flush(); err != nil {
		return reply{err: err}
	}
	raw, ok := s.stream.(net.Conn)
	if !ok {
		return reply{err: errLost}
	}
	secured, info, err := s.set.tls.Handshake(s.ctx, raw, s.conn.nameAddr)
	if err != nil {
		return reply{err: errLost}
	}
	s.mu.Lock()
	s.stream = secured
	s.mu.Unlock()
	s.in.Reset(s)
	if s.ctx.Err() != nil {
		return reply{err: errStopping}
	}
	s.conn.tls = info
	s.forgetGreeting()
	if !info.Resumed {
		if n, over := s.overRate(rate.NewTLS, s.set.TLSRate); over {
			s.log.Warnf("New TLS session rate limit exceeded: %d from %s for service %s", n, s.conn.nameAddr, s.srv.opt.Service)
			return s.turnAway("421 4.7.0 " + s.set.Hostname + " Error: too many new TLS sessions from " + s.conn.nameAddr)
		}
	}
	if reason := s.set.tls.Untrusted(info); reason != "" {
		s.log.Infof("NOQUEUE: abort: TLS from %s: %s", s.conn.nameAddr, reason)
		return s.turnAway("421 4.7.1 " + s.set.Hostname + " Error: " + reason)
	}
	if err := s.activate(); err != nil {
		return reply{err: err}
	}
	return reply{}
}

func (s *session) turnAway(text string) reply {
	s.send(say(text).mark(errPolicy))
	_ = s.flush()
	return reply{err: errHangup}
}

// forgetGreeting is the part of a session that a new one begins without.
func (s *session) forgetGreeting() {
	s.endTransaction()
	s.conn.helo = ""
	s.newView()
}

// wrap begins the session with TLS (postconf(5) smtpd_tls_wrappermode).
func (s *session) wrap() error {
	if !s.set.tls.Wrapped() || s.srv.opt.StandAlone {
		return nil
	}
	if !s.set.tls.Ready() {
		s.log.Warnf("Wrapper-mode request dropped from %s for service %s. TLS context initialization failed. "+
			"For details see earlier warnings in your logs.", s.conn.nameAddr, s.srv.opt.Service)
		return errLost
	}
	return s.secure().err
}

// activate makes AUTH available, as far as this connection may use it.
func (s *session) activate() error {
	s.conn.auth, s.conn.login = nil, envelope.Login{}
	if s.srv.opt.StandAlone {
		return nil
	}
	p := &s.conn.peer
	known := func(text string) string {
		if text == "unknown" {
			return ""
		}
		return text
	}
	active, err := s.set.auth.Activate(s.ctx, p.Name, sasl.Peer{
		ServerAddress: known(p.ServerAddress), ServerPort: known(p.ServerPort),
		ClientAddress: known(p.Address), ClientPort: known(p.Port),
		Encrypted: s.conn.tls != nil, Certified: s.conn.tls != nil && s.conn.tls.Trusted,
	})
	if err != nil {
		return s.fatal(err)
	}
	s.conn.auth = active
	return nil
}

// auth logs a client in (RFC 4954).
func (s *session) auth(args []smtpproto.Token) reply {
	if n, over := s.overRate(rate.Auth, s.set.AuthRate); over {
		s.log.Warnf("AUTH command rate limit exceeded: %d from %s for service %s", n, s.conn.nameAddr, s.srv.opt.Service)
		return say("450 4.7.1 Error: too many AUTH commands from " + s.conn.peer.Address).mark(errPolicy)
	}
	switch {
	case s.set.HeloRequired && s.conn.helo == "":
		return needHelo()
	case s.conn.auth == nil || s.conn.discard&smtpproto.KeywordAUTH != 0:
		return syntaxError("503 5.5.1 Error: authentication not enabled")
	case s.txn.active:
		return syntaxError("503 5.5.1 Error: MAIL transaction in progress")
	case s.conn.login.Username != "":
		return syntaxError("503 5.5.1 Error: already authenticated")
	case len(args) < 2 || len(args) > 3:
		return syntaxError("501 5.5.4 Syntax: AUTH mechanism")
	}
	attempt := auth.Attempt{Mechanism: args[1].Text, NameAddr: s.conn.nameAddr}
	if len(args) == 3 {
		attempt.Initial, attempt.HasInitial = args[2].Text, true
	}
	login, text, err := s.conn.auth.Authenticate(s.ctx, asker{s}, attempt)
	if err != nil {
		return reply{err: err}
	}
	s.conn.login = login
	s.view.SASLMethod, s.view.SASLUsername, s.view.SASLSender = login.Method, login.Username, ""
	return say(text)
}

// asker is the session as the AUTH command sees it.
type asker struct{ s *session }

// Ask implements auth.Client. What the client answers may be a password: the
// transcript does not have it.
func (a asker) Ask(challenge string) (response string, tooLong bool, err error) {
	s := a.s
	s.send(reply{code: "334", lines: []string{challenge}})
	s.deadline = s.srv.deps.Now().Add(s.set.Timeout)
	line, err := s.in.ReadLine(s.conn.auth.ResponseLimit())
	if err != nil {
		return "", false, err
	}
	s.note("In:  (response)")
	return string(line.Text), line.Truncated, nil
}

// discreet is a command without the secret in it, for the transcript.
func discreet(text string) string {
	if len(text) < 5 || !strings.EqualFold(text[:5], "AUTH ") {
		return text
	}
	words := strings.Fields(text)
	if len(words) < 3 {
		return text
	}
	return words[0] + " " + words[1] + " (response)"
}

// authParameter reads MAIL ... AUTH=.
func (s *session) authParameter(value string) reply {
	if s.conn.auth == nil {
		return reply{} // of no use without SASL, but no fault either
	}
	if s.conn.login.Sender != "" {
		return syntaxError("503 5.5.4 Error: multiple AUTH= options")
	}
	if value != "<>" {
		s.conn.login.Sender = maillog.Printable(value)
	}
	return reply{}
}

// tlsView is what the restrictions know about the encryption.
func tlsView(i *mailtls.Info) restrict.TLS {
	if i == nil {
		return restrict.TLS{}
	}
	return restrict.TLS{
		Active: true, Trusted: i.Trusted, HasCertificate: i.HasCertificate, Subject: i.Subject, Issuer: i.Issuer,
		Fingerprint: i.Fingerprint, PubkeyFingerprint: i.PublicKey, Protocol: i.Protocol, Cipher: i.Cipher, KeySize: i.Bits,
	}
}
