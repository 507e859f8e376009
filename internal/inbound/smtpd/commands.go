package smtpd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"posthaste/internal/inbound/smtpd/attr"
	"posthaste/internal/mail/addr"
	"posthaste/internal/wire/smtpproto"
)

// flags of a command.
type flags uint8

const (
	flagLimit flags = 1 << iota // counts as junk: moves no mail
	flagLast                    // nothing may be sent ahead behind it
	flagPlain                   // goes without TLS where that is required
)

// verb is one command.
type verb struct {
	name   string
	handle func(s *session, args []smtpproto.Token) reply
	flags  flags
}

// verbID is an index into commands; the log counts in this order.
type verbID int

const (
	verbHelo verbID = iota
	verbEhlo
	verbStarttls
	verbAuth
	verbMail
	verbRcpt
	verbData
	verbBdat
	verbRset
	verbNoop
	verbVrfy
	verbEtrn
	verbQuit
	verbXclient
	verbXforward
	verbHelp
	verbs // and: unknown
)

var commands = [verbs]verb{
	verbHelo:     {"HELO", (*session).helo, flagLimit | flagLast | flagPlain},
	verbEhlo:     {"EHLO", (*session).ehlo, flagLimit | flagLast | flagPlain},
	verbStarttls: {"STARTTLS", (*session).starttls, flagPlain},
	verbAuth:     {"AUTH", (*session).auth, 0},
	verbMail:     {"MAIL", (*session).mail, 0},
	verbRcpt:     {"RCPT", (*session).recipient, 0},
	verbData:     {"DATA", (*session).data, flagLast},
	verbBdat:     {"BDAT", (*session).bdat, 0},
	verbRset:     {"RSET", (*session).rset, flagLimit},
	verbNoop:     {"NOOP", (*session).noop, flagLimit | flagLast | flagPlain},
	verbVrfy:     {"VRFY", (*session).vrfy, flagLimit | flagLast},
	verbEtrn:     {"ETRN", (*session).etrn, flagLimit},
	verbQuit:     {"QUIT", (*session).quit, flagPlain},
	verbXclient:  {"XCLIENT", (*session).xclient, flagLimit},
	verbXforward: {"XFORWARD", (*session).xforward, flagLimit},
	verbHelp:     {"HELP", (*session).help, flagLimit | flagPlain},
}

func lookupVerb(word string) verbID {
	for id := range commands {
		if strings.EqualFold(word, commands[id].name) {
			return verbID(id)
		}
	}
	return verbs
}

// Replies that several commands share.
func syntaxError(text string) reply { return say(text).mark(errProtocol) }

func needHelo() reply { return say("503 5.5.1 Error: send HELO/EHLO first").mark(errPolicy) }

// greet is what HELO and EHLO have in common.
func (s *session) greet(verb string, args []smtpproto.Token) reply {
	if len(args) < 2 {
		return syntaxError("501 Syntax: " + verb + " hostname")
	}
	name := smtpproto.JoinTokens(args[1:])
	v := &s.view
	was, wasVerb := v.Helo, v.HeloVerb
	v.NewGreeting()
	v.Helo, v.HeloVerb = name, verb
	if r := s.judge(Checker.Helo); !r.isZero() {
		v.Helo, v.HeloVerb = was, wasVerb
		return r
	}
	s.endTransaction()
	s.forget(s.set.HistoryFlush)
	s.conn.helo = attr.Neuter(name)
	v.Helo = s.conn.helo
	return reply{}
}

func (s *session) helo(args []smtpproto.Token) reply {
	if r := s.greet("HELO", args); !r.isZero() {
		return r
	}
	s.conn.protocol, s.view.Protocol = "SMTP", "SMTP"
	return say("250 " + s.set.Hostname)
}

func (s *session) ehlo(args []smtpproto.Token) reply {
	if r := s.greet("EHLO", args); !r.isZero() {
		return r
	}
	s.conn.protocol, s.view.Protocol = "ESMTP", "ESMTP"
	s.conn.discard = s.discarded()
	if words := s.conn.discard.String(); words != "" && s.conn.discard&smtpproto.KeywordSilent == 0 {
		s.log.Infof("discarding EHLO keywords: %s", words)
	}
	return reply{code: "250", lines: s.keywords()}
}

func (s *session) rset(args []smtpproto.Token) reply {
	if len(args) != 1 {
		return syntaxError("501 5.5.4 Syntax: RSET")
	}
	s.endTransaction()
	s.forget(s.set.HistoryFlush)
	return say("250 2.0.0 Ok")
}

func (s *session) noop([]smtpproto.Token) reply { return say("250 2.0.0 Ok") }

func (s *session) quit([]smtpproto.Token) reply { return say("221 2.0.0 Bye") }

// help lists every command that the program knows, offered now or not.
func (s *session) help([]smtpproto.Token) reply {
	return say("214 2.0.0 Commands: AUTH BDAT DATA EHLO ETRN HELO HELP MAIL NOOP QUIT RCPT RSET STARTTLS VRFY XCLIENT XFORWARD")
}

func (s *session) vrfy(args []smtpproto.Token) reply {
	if s.set.DisableVrfy {
		return say("502 5.5.1 VRFY command is disabled").mark(errPolicy)
	}
	option := ""
	if s.set.SMTPUTF8 {
		option = " [SMTPUTF8]"
		if n := len(args); n > 2 && strings.EqualFold(args[n-1].Text, "SMTPUTF8") {
			args = args[:n-1]
		}
	}
	if len(args) < 2 {
		return syntaxError("501 5.5.4 Syntax: VRFY address" + option)
	}
	text := smtpproto.JoinTokens(args[1:])
	path, ok := s.address(addressArgument{verb: "VRFY", text: text})
	if !ok {
		return syntaxError("501 5.1.3 Bad recipient address syntax")
	}
	defer s.about(path.Address)()
	if r := s.judge(Checker.Vrfy); !r.isZero() {
		return r
	}
	return say("252 2.0.0 " + text)
}

func (s *session) etrn(args []smtpproto.Token) reply {
	switch {
	case s.set.HeloRequired && s.conn.helo == "":
		return say("503 Error: send HELO/EHLO first").mark(errPolicy)
	case s.txn.active:
		return syntaxError("503 Error: MAIL transaction in progress")
	case len(args) != 2:
		return syntaxError("500 Syntax: ETRN domain")
	}
	domain := args[1].Text
	if c := domain[0] | 0x20; (c < 'a' || c > 'z') && (domain[0] < '0' || domain[0] > '9') {
		domain = domain[1:]
	}
	if !addr.ValidHostname(domain) {
		return syntaxError("501 Error: invalid parameter syntax")
	}
	if s.srv.opt.StandAlone {
		s.log.Warnf("do not use ETRN in \"sendmail -bs\" mode")
		return say("458 Unable to queue messages")
	}
	s.view.ETRN = domain
	if r := s.judge(Checker.Etrn); !r.isZero() {
		return r
	}
	result := FlushDenied
	if s.srv.deps.Flush != nil {
		result = s.srv.deps.Flush(s.ctx, domain)
	}
	switch result {
	case FlushOK:
		return say("250 Queuing started")
	case FlushDenied:
		s.log.Warnf("reject: ETRN %.100s... from %s", domain, s.conn.nameAddr)
		return say("459 <" + domain + ">: service unavailable")
	case FlushBad:
		s.log.Warnf("bad ETRN %.100s... from %s", domain, s.conn.nameAddr)
	default:
		s.log.Warnf("unable to talk to fast flush service")
	}
	return say("458 Unable to queue messages")
}

// discarded is the keywords that this client is not to see.
func (s *session) discarded() smtpproto.Keywords {
	if !s.set.discardMaps.Empty() {
		text, found, err := s.set.discardMaps.Lookup(s.ctx, s.conn.peer.Address)
		if err != nil {
			s.log.Warnf("smtpd_discard_ehlo_keyword_address_maps: %s lookup error, offering as little as possible", s.conn.peer.Address)
			return ^smtpproto.KeywordSilent
		}
		if found {
			return smtpproto.ParseKeywords(text)
		}
	}
	return s.set.discard
}

// keywords is the reply to EHLO.
func (s *session) keywords() []string {
	lines := []string{s.set.Hostname}
	size := "SIZE"
	if s.set.MessageLimit > 0 {
		size = "SIZE " + strconv.FormatInt(s.set.MessageLimit, 10)
	}
	verp, _ := s.matches(s.set.verp.Match)
	type keyword struct {
		bit     smtpproto.Keywords
		offered bool
		text    string
	}
	var offers []keyword
	for _, text := range s.conn.auth.Keywords() {
		offers = append(offers, keyword{smtpproto.KeywordAUTH, true, text})
	}
	secured := s.conn.tls != nil
	for _, k := range slices.Concat([]keyword{
		{smtpproto.KeywordPIPELINING, true, "PIPELINING"},
		{smtpproto.KeywordSIZE, true, size},
		{smtpproto.KeywordVRFY, !s.set.DisableVrfy, "VRFY"},
		{smtpproto.KeywordETRN, true, "ETRN"},
		{smtpproto.KeywordSTARTTLS, !s.srv.opt.StandAlone && s.set.tls.Offered() && !secured, "STARTTLS"},
	}, offers, []keyword{
		{smtpproto.KeywordXVERP, verp, "XVERP"},
		{smtpproto.KeywordXCLIENT, s.xclientAllowed(), "XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT"},
		{smtpproto.KeywordXFORWARD, s.conn.xforwardAllowed, "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT"},
		{smtpproto.KeywordENHANCEDSTATUSCODES, true, "ENHANCEDSTATUSCODES"},
		{smtpproto.Keyword8BITMIME, true, "8BITMIME"},
		{smtpproto.KeywordDSN, true, "DSN"},
		{smtpproto.KeywordSMTPUTF8, s.set.SMTPUTF8, "SMTPUTF8"},
		{smtpproto.KeywordCHUNKING, true, "CHUNKING"},
		{smtpproto.KeywordREQUIRETLS, s.set.RequireTLS && secured, "REQUIRETLS"},
	}) {
		if k.offered && s.conn.discard&k.bit == 0 {
			lines = append(lines, k.text)
		}
	}
	return lines
}

// unsupported is the reply to an unknown parameter of MAIL or RCPT.
func unsupported(option string) reply {
	return syntaxError(fmt.Sprintf("555 5.5.4 Unsupported option: %s", option))
}
