package smtpd

import (
	"fmt"
	"strconv"
	"strings"

	"posthaste/internal/inbound/peer"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/wire/smtpproto"
)

// Values of attributes that are not known (XCLIENT_README, XFORWARD_README).
const (
	unavailable = "[UNAVAILABLE]"
	tempUnavail = "[TEMPUNAVAIL]"
	maxHelo     = 255
	maxForward  = 255
	maxProtocol = 64
)

// xclientAllowed reports whether the client may pass for another one.
func (s *session) xclientAllowed() bool {
	ok, err := s.matches(s.set.xclient.Match)
	return ok && err == nil
}

// attribute is one "name=value" of XCLIENT or XFORWARD.
type attribute struct{ name, value string }

// attributes reads them; a reply is a refusal.
func attributes(args []smtpproto.Token) ([]attribute, reply) {
	var list []attribute
	for _, a := range args {
		name, value, _ := strings.Cut(a.Text, "=")
		if value == "" {
			return nil, syntaxError("501 5.5.4 Error: attribute=value expected")
		}
		decoded, err := smtpproto.DecodeXtext(value)
		if err != nil {
			return nil, syntaxError("501 5.5.4 Bad attribute value syntax: " + value)
		}
		list = append(list, attribute{strings.ToUpper(name), printable(decoded)})
	}
	return list, reply{}
}

// printable masks control characters.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
}

// delegated is what XCLIENT and XFORWARD have in common; a reply is a refusal.
func (s *session) delegated(args []smtpproto.Token, allowed bool) ([]attribute, reply) {
	verb := strings.ToUpper(args[0].Text)
	switch {
	case s.txn.active:
		return nil, syntaxError("503 5.5.1 Error: MAIL transaction in progress")
	case len(args) < 2:
		return nil, syntaxError("501 5.5.4 Syntax: " + verb + " attribute=value...")
	case !allowed:
		return nil, say("550 5.7.0 Error: insufficient authorization").mark(errPolicy)
	}
	return attributes(args[1:])
}

// xclient makes the session one of another client's, from the greeting on.
func (s *session) xclient(args []smtpproto.Token) reply {
	list, r := s.delegated(args, s.xclientAllowed())
	if !r.isZero() {
		return r
	}
	next := overrides{peer: s.conn.peer, login: s.conn.login, protocol: "SMTP"}
	for _, a := range list {
		known, ok := next.set(a)
		if !known {
			return syntaxError("501 5.5.4 Bad XCLIENT attribute name: " + a.name)
		}
		if !ok {
			return syntaxError(fmt.Sprintf("501 5.5.4 Bad %s syntax: %s", a.name, a.value))
		}
	}
	s.endTransaction()
	s.forget(0)
	s.conn.peer, s.conn.login = next.peer, next.login
	s.conn.helo, s.conn.protocol, s.conn.errors, s.conn.discard = next.helo, next.protocol, 0, 0
	s.conn.denied, s.conn.named = nil, true
	s.nameAddr()
	s.newView()
	if r := s.judge(Checker.Client); !r.isZero() {
		s.conn.denied = &r
		return r
	}
	return say("220 " + s.set.Banner)
}

// overrides is a client as XCLIENT describes it.
type overrides struct {
	peer           peer.Client
	login          envelope.Login
	helo, protocol string
}

// set applies one attribute. known is false for an unknown one, ok for a bad
// value.
func (o *overrides) set(a attribute) (known, ok bool) {
	known = true
	switch a.name {
	case "NAME":
		o.peer.Name, o.peer.NameStatus, ok = hostAttribute(a.value)
		if o.peer.NameStatus == peer.OK {
			o.peer.ReverseName, o.peer.ReverseStatus = o.peer.Name, peer.OK
		}
	case "REVERSE_NAME":
		o.peer.ReverseName, o.peer.ReverseStatus, ok = hostAttribute(a.value)
	case "ADDR":
		o.peer.Address, ok = addressAttribute(a.value)
	case "DESTADDR":
		o.peer.ServerAddress, ok = addressAttribute(a.value)
	case "PORT":
		o.peer.Port, ok = portAttribute(a.value)
	case "DESTPORT":
		o.peer.ServerPort, ok = portAttribute(a.value)
	case "HELO":
		ok = len(a.value) <= maxHelo
		if o.helo = neuter(a.value); strings.EqualFold(a.value, unavailable) {
			o.helo = ""
		}
	case "PROTO":
		o.protocol = strings.ToUpper(a.value)
		ok = o.protocol == "SMTP" || o.protocol == "ESMTP"
	case "LOGIN":
		ok = true
		if o.login = (envelope.Login{Method: "XCLIENT", Username: a.value}); strings.EqualFold(a.value, unavailable) {
			o.login = envelope.Login{}
		}
	default:
		return false, false
	}
	return known, ok
}

func hostAttribute(value string) (name string, status peer.Status, ok bool) {
	switch {
	case strings.EqualFold(value, unavailable):
		return peer.Unknown, peer.None, true
	case strings.EqualFold(value, tempUnavail):
		return peer.Unknown, peer.Temp, true
	}
	return value, peer.OK, addr.ValidHostname(value) && !addr.ValidHostaddr(value)
}

// addressAttribute reads "192.0.2.1" or "IPV6:2001:db8::1".
func addressAttribute(value string) (address string, ok bool) {
	if strings.EqualFold(value, unavailable) {
		return peer.Unknown, true
	}
	if len(value) > 5 && strings.EqualFold(value[:5], "IPV6:") {
		value = value[5:]
	}
	return value, addr.ValidHostaddr(value)
}

func portAttribute(value string) (port string, ok bool) {
	if strings.EqualFold(value, unavailable) {
		return peer.Unknown, true
	}
	n, err := strconv.ParseUint(value, 10, 16)
	return value, err == nil && n > 0
}

// xforward tells where mail came from before a content filter, for the log.
func (s *session) xforward(args []smtpproto.Token) reply {
	list, r := s.delegated(args, s.conn.xforwardAllowed)
	if !r.isZero() {
		return r
	}
	var f forward
	if s.txn.forward != nil {
		f = *s.txn.forward
	}
	for _, a := range list {
		if len(a.value) > maxForward {
			return syntaxError("501 5.5.4 Error: attribute value too long")
		}
		if r := f.set(a); !r.isZero() {
			return r
		}
	}
	s.txn.forward = &f
	return say("250 2.0.0 Ok")
}

// forward is an earlier client as XFORWARD describes it.
type forward struct {
	envelope.Origin
	source string // rewrite context, "" if not told
}

// set applies one attribute; a reply is a refusal.
func (o *forward) set(a attribute) reply {
	value := neuter(a.value)
	if strings.EqualFold(a.value, unavailable) {
		value = ""
	}
	bad := syntaxError(fmt.Sprintf("501 5.5.4 Bad %s syntax: %s", a.name, a.value))
	switch a.name {
	case "NAME":
		o.Name = value
	case "ADDR":
		if len(value) > 5 && strings.EqualFold(value[:5], "IPV6:") {
			value = value[5:]
		}
		if value != "" && !addr.ValidHostaddr(value) {
			return bad
		}
		o.Address = value
	case "PORT":
		if _, ok := portAttribute(a.value); !ok {
			return bad
		}
		o.Port = value
	case "PROTO":
		if len(value) > maxProtocol {
			return bad
		}
		o.Protocol = value
	case "HELO":
		o.Helo = value
	case "IDENT":
		o.QueueID = value
	case "SOURCE":
		o.source = strings.ToLower(value)
		if o.source != "local" && o.source != "remote" && o.source != "" {
			return bad
		}
	default:
		return syntaxError("501 5.5.4 Bad XFORWARD attribute name: " + a.name)
	}
	return reply{}
}
