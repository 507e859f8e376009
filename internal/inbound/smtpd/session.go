package smtpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"posthaste/internal/inbound/peer"
	"posthaste/internal/inbound/smtpd/attr"
	"posthaste/internal/inbound/smtpd/auth"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/wire/mailtls"
	"posthaste/internal/wire/smtpproto"
)

// stream is a connection as the session uses it.
type stream interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Why a connection ended.
var (
	errTimeout  = errors.New("timeout")
	errLost     = errors.New("lost connection")
	errStopping = errors.New("shutdown")
)

// session is one connection.
type session struct {
	srv    *Server
	set    *settings
	ctx    context.Context
	log    *maillog.Logger
	serial int64
	in     *smtpproto.Reader

	stream   stream
	out      []byte    // replies that are not sent yet
	deaf     error     // why nothing more can be sent
	flushed  time.Time // when replies were sent last
	deadline time.Time // of the current request (smtpd_per_request_deadline)

	mu      sync.Mutex // guards what stop and abort touch
	between bool       // waiting for a command, no message under way
	stopped bool       // end when between messages
	aborted bool       // end now

	transfer bool // content is being read
	conn     conn
	view     restrict.View // what the restrictions know
	txn      txn
	rcpt     recipient
}

// conn is the state of a connection.
type conn struct {
	peer     peer.Client
	nameAddr string // "name[address]" for log and replies
	client   string // name for anvil
	counted  bool   // anvil counts this connection
	helo     string
	protocol string // SMTP or ESMTP
	login    envelope.Login
	tls      *mailtls.Info      // nil in the clear
	auth     *auth.Session      // nil: AUTH is not available
	discard  smtpproto.Keywords // not offered, and not understood
	bare     bareMode

	xforwardAllowed bool
	named           bool   // by XCLIENT
	denied          *reply // client restrictions said no

	earlyTalk bool // improper pipelining was logged
	bareLines int  // lines that ended in a bare LF
	errors    int
	junk      int
	trouble   errClass
	history   []string
	counts    [verbs + 1]struct{ total, good int }
	where     string // last state, for the log
	reason    string // why the session ended early
	messages  int64  // transactions so far
}

// txn is the state of a transaction, from MAIL to the end of the message.
// XFORWARD begins it before MAIL.
type txn struct {
	active    bool // MAIL was accepted
	sender    smtpproto.Path
	arrival   time.Time
	size      int64 // declared; after the message, received
	encoding  envelope.Encoding
	smtputf8  bool
	ret       envelope.Return
	envid     string
	verp      string
	rewrite   string
	forward   *attr.Forward // XFORWARD was used
	sub       Submission
	accepted  int // recipients
	overshoot int
	only      addr.Address // first recipient

	chunks *smtpproto.Chunks // BDAT was used
	failed bool              // a chunk was refused: the rest is discarded
	inflow *inflow
}

func (t *txn) queueID() queue.ID {
	if t.sub == nil {
		return ""
	}
	return t.sub.ID()
}

// recipient is the state of one RCPT command.
type recipient struct {
	path   smtpproto.Path
	notify envelope.Notify
	orcpt  string
}

// label is the queue ID for log lines, or NOQUEUE.
func (s *session) label() string {
	if id := s.txn.queueID(); id != "" {
		return string(id)
	}
	return "NOQUEUE"
}

// instance names session and transaction for policy servers.
func (s *session) instance() string {
	return strconv.FormatInt(int64(os.Getpid()), 16) + "." + strconv.FormatInt(s.serial, 16) + "." +
		strconv.FormatInt(s.srv.deps.Now().Unix(), 16) + "." + strconv.FormatInt(s.conn.messages, 16)
}

// run is the whole session.
func (s *session) run() {
	defer s.end()
	defer func() {
		if v := recover(); v != nil {
			s.conn.reason, s.conn.where = "", ""
			s.log.Panicf("session with %s: %v", s.conn.nameAddr, v)
			if s.srv.deps.OnPanic != nil {
				s.srv.deps.OnPanic(v, debug.Stack())
			}
			s.send(say("421 4.3.0 " + s.set.Hostname + " Error: internal error"))
			_ = s.flush()
		}
	}()
	s.conn.where, s.conn.protocol = "CONNECT", "SMTP"
	s.identify()
	s.log.Infof("connect from %s", s.conn.nameAddr)
	if err := s.wrap(); err != nil {
		s.broken(err)
		return
	}
	if err := s.admit(); err != nil {
		return
	}
	s.broken(s.talk())
}

// admit greets the client, or turns it away.
func (s *session) admit() error {
	if r := s.tooMany(); !r.isZero() {
		s.send(r)
		_ = s.flush()
		return errLost
	}
	if s.conn.tls == nil {
		if err := s.activate(); err != nil {
			return err
		}
	}
	r := s.judge(Checker.Client)
	if r.err != nil {
		return r.err
	}
	if r.isZero() {
		s.send(say("220 " + s.set.Banner))
		return nil
	}
	s.conn.denied = &r
	s.send(r)
	if r.code == "421" || r.code == "521" {
		_ = s.flush()
		return errLost
	}
	return nil
}

// talk answers commands until the session ends.
func (s *session) talk() error {
	for {
		if s.conn.errors >= s.set.HardErrors {
			s.conn.reason = "too many errors"
			s.send(say("421 4.7.0 " + s.set.Hostname + " Error: too many errors").mark(errProtocol))
			return s.flush()
		}
		s.waiting(s.txn.sub == nil && !s.txn.active)
		s.deadline = s.srv.deps.Now().Add(s.set.Timeout)
		line, err := s.in.ReadLine(s.set.LineLimit)
		s.waiting(false)
		if err != nil {
			return err
		}
		done, err := s.command(line)
		if done || err != nil {
			return errors.Join(err, s.flush())
		}
	}
}

// command answers one command line; done ends the session.
func (s *session) command(line smtpproto.Line) (done bool, err error) {
	text := string(line.Text)
	if i := strings.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	s.note("In:  " + discreet(text))
	if line.Truncated {
		s.log.Warnf("%s: request longer than %d: %.30s...", s.conn.nameAddr, s.set.LineLimit, text)
	}
	if line.BareLF && s.conn.bare >= bareNote {
		s.conn.bareLines++
		if s.conn.bare == bareReject {
			s.logReject(s.conn.where, "bare <LF> received")
			s.send(s.bareRefusal())
			return true, nil
		}
	}
	if s.set.SMTPUTF8 && !utf8.ValidString(text) {
		s.conn.errors++
		s.send(say("500 5.5.2 Error: bad UTF-8 syntax").mark(errProtocol))
		return false, nil
	}
	text = s.filtered(text)
	args := smtpproto.Tokens(text)
	if len(args) == 0 {
		s.conn.errors++
		s.send(say("500 5.5.2 Error: bad syntax").mark(errProtocol))
		return false, nil
	}
	if noop, err := s.set.noop.Match(s.ctx, args[0].Text); noop && err == nil {
		s.send(say("250 2.0.0 Ok"))
		s.junk()
		return false, nil
	}
	return s.dispatch(text, args)
}

func (s *session) bareRefusal() reply {
	return say(strconv.Itoa(s.set.BareNewlineCode) + " 5.5.2 " + s.set.Hostname + " Error: bare <LF> received").mark(errProtocol)
}

// filtered is the command after smtpd_command_filter.
func (s *session) filtered(text string) string {
	if s.set.filter == nil {
		return text
	}
	to, found, err := s.set.filter.Lookup(s.ctx, strings.TrimLeft(text, " \t"))
	switch {
	case err != nil:
		s.log.Warnf("%s: lookup error for \"%.100s\"", s.set.filter.Name(), text)
	case found:
		s.log.Infof("%s: replacing command \"%.100s\" with \"%.100s\"", s.conn.nameAddr, text, to)
		return to
	}
	return text
}

// junk counts a command that moves nothing forward.
func (s *session) junk() {
	s.conn.junk++
	if s.conn.junk-1 > s.set.JunkCommands {
		s.conn.errors++
	}
}

// dispatch finds the verb and runs it.
func (s *session) dispatch(text string, args []smtpproto.Token) (done bool, err error) {
	v := lookupVerb(args[0].Text)
	count := &s.conn.counts[v]
	count.total++
	if v == verbs {
		s.conn.where = "UNKNOWN"
		forbidden, _ := s.set.forbidden.Match(s.ctx, args[0].Text)
		if forbidden || smtpproto.IsHeader(args[0].Text) {
			s.log.Warnf("non-SMTP command from %s: %.100s", s.conn.nameAddr, text)
			s.send(say("221 2.7.0 Error: I can break rules, too. Goodbye."))
			return true, nil
		}
	}
	if d := s.conn.denied; d != nil && v != verbQuit {
		if d.code[1:] == "21" {
			s.send(*d)
			return false, nil
		}
		s.conn.errors++
		s.send(say("503 5.7.0 Error: access denied for " + s.conn.nameAddr))
		return false, nil
	}
	if v == verbs {
		s.conn.errors++
		s.send(say("500 5.5.2 Error: command not recognized").mark(errProtocol))
		return false, nil
	}
	verb := &commands[v]
	if s.set.tls.Required() && s.conn.tls == nil && verb.flags&flagPlain == 0 && !s.srv.opt.StandAlone {
		s.conn.errors++
		s.send(say("530 5.7.0 Must issue a STARTTLS command first"))
		return false, nil
	}
	s.conn.where = verb.name
	if s.talkedEarly(verb) && s.set.ForbidPipelining {
		s.conn.errors++
		s.send(say("554 5.5.0 Error: SMTP protocol synchronization").mark(errProtocol))
		return true, nil
	}
	r := verb.handle(s, args)
	for {
		if r.err != nil {
			return true, r.err
		}
		s.send(r)
		if r.then == nil {
			break
		}
		if r = r.then(); r.isZero() {
			break
		}
	}
	if r.failed() && !r.forgiven {
		s.conn.errors++
	} else {
		count.good++
	}
	if verb.flags&flagLimit != 0 {
		s.junk()
	}
	return r.close || r.code == "421" || r.code == "521" || v == verbQuit, nil
}

// talkedEarly reports, and logs once, input behind a command that must be the
// last one of a group (RFC 2920 §3.1), or behind any one without EHLO.
func (s *session) talkedEarly(verb *verb) bool {
	more := s.in.Buffered()
	if len(more) == 0 || (s.conn.protocol == "ESMTP" && verb.flags&flagLast == 0) {
		return false
	}
	if !s.conn.earlyTalk {
		s.conn.earlyTalk = true
		s.log.Infof("improper command pipelining after %s from %s: %s", verb.name, s.conn.nameAddr, escape(more[:min(len(more), 100)]))
	}
	return true
}

// escape writes bytes with C escapes for all that is not printable ASCII.
func escape(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		i := bytes.IndexByte([]byte("\a\b\f\n\r\t\v\\"), c)
		switch {
		case i >= 0:
			out.WriteByte('\\')
			out.WriteByte(`abfnrtv\`[i])
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&out, "\\%03o", c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// broken says why the connection ended, to the client if that makes sense.
func (s *session) broken(err error) {
	switch {
	case err == nil:
	case errors.Is(err, errStopping):
		s.send(say("421 4.3.2 " + s.set.Hostname + " Service shutting down"))
		_ = s.flush()
	case errors.Is(err, errHangup), errors.Is(err, errFatal):
	case errors.Is(err, errTimeout):
		s.conn.reason = "timeout"
		s.send(say("421 4.4.2 " + s.set.Hostname + " Error: timeout exceeded"))
		_ = s.flush()
	case errors.Is(err, smtpproto.ErrEndless):
		s.log.Warnf("%s: request longer than %d: too much to skip", s.conn.nameAddr, s.set.LineLimit)
		s.send(say("421 4.5.2 " + s.set.Hostname + " Error: line too long").mark(errProtocol))
		_ = s.flush()
	default:
		s.conn.reason = "lost connection"
	}
}

// end logs the end of the session and lets everything go.
func (s *session) end() {
	c := &s.conn
	if c.counted {
		s.srv.deps.Rates.Disconnected(s.srv.opt.Service, c.client)
	}
	if c.reason != "" && c.where != "" && !(c.where == afterMessage && c.reason == "lost connection") {
		where := c.where
		if verb, inside := strings.CutSuffix(where, " content"); inside {
			where = fmt.Sprintf("%s (%d bytes)", verb, s.txn.inflow.size()+int64(len(s.in.Buffered())))
		}
		s.log.Infof("%s: %s after %s from %s", s.label(), c.reason, where, c.nameAddr)
	}
	s.leave()
	line := "disconnect from " + c.nameAddr + s.tally()
	if c.bareLines > 0 && c.bare == bareNote {
		line += " notes=bare_lf"
	}
	s.log.Infof("%s", line)
}

// leave drops the message and reports to the postmaster; a panic there has no
// one else to meet.
func (s *session) leave() {
	defer s.in.Release()
	defer func() {
		if v := recover(); v != nil {
			s.log.Panicf("end of session with %s: %v", s.conn.nameAddr, v)
		}
	}()
	s.endTransaction()
	s.forget(0)
}

// tally counts the commands: " ehlo=1 rcpt=0/1 commands=1/2".
func (s *session) tally() string {
	var b strings.Builder
	total, good := 0, 0
	add := func(name string, good, total int) {
		fmt.Fprintf(&b, " %s=%d", name, good)
		if good != total || total == 0 {
			fmt.Fprintf(&b, "/%d", total)
		}
	}
	for v, n := range s.conn.counts {
		if n.total == 0 {
			continue
		}
		name := "unknown"
		if v < int(verbs) {
			name = strings.ToLower(commands[v].name)
		}
		add(name, n.good, n.total)
		total, good = total+n.total, good+n.good
	}
	add("commands", good, total)
	return b.String()
}

// endTransaction forgets the message; one that was not committed is gone.
func (s *session) endTransaction() {
	if s.txn.sub != nil {
		s.txn.sub.Abort()
	}
	s.txn = txn{}
	s.rcpt = recipient{}
	s.conn.login.Sender, s.view.SASLSender = "", ""
	s.view.NewTransaction()
}

// trouble is what machinery failures are answered with.
func trouble(err error) reply {
	if errors.Is(err, queue.ErrFull) {
		return say("452 4.3.1 Insufficient system storage").mark(errResource)
	}
	return statusReply(dsn.Trouble(err, "Error: queue file write error")).mark(errResource)
}
