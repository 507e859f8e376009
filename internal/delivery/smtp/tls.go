package smtp

import (
	"crypto/tls"

	"posthaste/internal/mail/dsn"
)

// securityLevel is the TLS level of an agent (postconf(5)
// smtp_tls_security_level, with the older smtp_use_tls and smtp_enforce_tls).
func securityLevel(c Config) string {
	switch {
	case c.TLSLevel != "":
		return c.TLSLevel
	case c.EnforceTLS:
		return "encrypt"
	case c.UseTLS:
		return "may"
	}
	return "none"
}

// secure turns TLS on as the level asks: with "may" a server that does not
// offer it, or refuses, is talked to in the clear.
func (s *session) secure() error {
	level := s.agent.level
	if level == "none" {
		return nil
	}
	if !s.has("STARTTLS") {
		if level == "may" {
			s.tls = "may:none"
			return nil
		}
		s.tls = "!" + level
		return siteError{dsn.Newf(450, "4.7.4", "TLS is required, but was not offered by host %s", s.where).WithScope(dsn.Site)}
	}
	r, err := s.conn.ask(s.agent.config.HeloTimeout, "STARTTLS")
	if err != nil {
		return s.broken(err, "performing the STARTTLS handshake")
	}
	if !r.ok() {
		if level == "may" {
			s.tls = "may:none"
			return nil
		}
		s.tls = "!" + level
		return siteError{s.said(r).WithText("TLS is required, but host " + s.where + " refused to start TLS: " + r.text()).WithScope(dsn.Site)}
	}
	return s.handshake()
}

// handshake is opportunistic: the certificate is not checked, as at levels
// "may" and "encrypt" of TLS_README.
func (s *session) handshake() error {
	s.conn.within(s.agent.config.HeloTimeout)
	c := tls.Client(s.conn.Conn, &tls.Config{ServerName: s.name, InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		s.lost = true
		s.tls = "!" + s.agent.level
		return siteError{dsn.New(450, "4.7.5", "Cannot start TLS: handshake failure").WithScope(dsn.Session)}
	}
	s.conn = newConn(c)
	r, err := s.hello("EHLO", s.agent.config.HeloName)
	if err != nil {
		return err
	}
	if !r.ok() {
		return s.refused(r, false)
	}
	s.tls = s.agent.level
	return nil
}
