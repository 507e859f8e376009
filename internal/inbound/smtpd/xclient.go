package smtpd

import (
	"strings"

	"posthaste/internal/inbound/smtpd/attr"
	"posthaste/internal/wire/smtpproto"
)

// xclientAllowed reports whether the client may pass for another one.
func (s *session) xclientAllowed() bool {
	ok, err := s.matches(s.set.xclient.Match)
	return ok && err == nil
}

// delegated is what XCLIENT and XFORWARD have in common; a reply is a refusal.
func (s *session) delegated(args []smtpproto.Token, allowed bool) ([]attr.Attribute, reply) {
	verb := strings.ToUpper(args[0].Text)
	switch {
	case s.txn.active:
		return nil, syntaxError("503 5.5.1 Error: MAIL transaction in progress")
	case len(args) < 2:
		return nil, syntaxError("501 5.5.4 Syntax: " + verb + " attribute=value...")
	case !allowed:
		return nil, say("550 5.7.0 Error: insufficient authorization").mark(errPolicy)
	}
	list, err := attr.Parse(args[1:])
	if err != nil {
		return nil, syntaxError(err.Error())
	}
	return list, reply{}
}

// xclient makes the session one of another client's, from the greeting on.
func (s *session) xclient(args []smtpproto.Token) reply {
	list, r := s.delegated(args, s.xclientAllowed())
	if !r.isZero() {
		return r
	}
	next := attr.Client{Peer: s.conn.peer, Login: s.conn.login, Protocol: "SMTP"}
	for _, a := range list {
		if err := next.Set(a); err != nil {
			return syntaxError(err.Error())
		}
	}
	s.endTransaction()
	s.forget(0)
	s.conn.peer, s.conn.login = next.Peer, next.Login
	s.conn.helo, s.conn.protocol, s.conn.errors, s.conn.discard = next.Helo, next.Protocol, 0, 0
	s.conn.denied, s.conn.named = nil, true
	s.nameAddr()
	s.newView()
	if r := s.judge(Checker.Client); !r.isZero() {
		s.conn.denied = &r
		return r
	}
	return say("220 " + s.set.Banner)
}

// xforward tells where mail came from before a content filter, for the log.
func (s *session) xforward(args []smtpproto.Token) reply {
	list, r := s.delegated(args, s.conn.xforwardAllowed)
	if !r.isZero() {
		return r
	}
	var f attr.Forward
	if s.txn.forward != nil {
		f = *s.txn.forward
	}
	for _, a := range list {
		if err := f.Set(a); err != nil {
			return syntaxError(err.Error())
		}
	}
	s.txn.forward = &f
	return say("250 2.0.0 Ok")
}
