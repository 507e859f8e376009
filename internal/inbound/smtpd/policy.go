package smtpd

import (
	"context"
	"errors"

	"posthaste/internal/mail/addr"
	"posthaste/internal/policy/restrict"
)

// Checker is the restriction lists; *restrict.Checker is one. It owns their
// delay (smtpd_delay_reject), the texts and log lines of refusals and the
// checks of unlisted addresses.
type Checker interface {
	Client(ctx context.Context, v *restrict.View) restrict.Verdict
	Helo(ctx context.Context, v *restrict.View) restrict.Verdict
	Mail(ctx context.Context, v *restrict.View) restrict.Verdict
	Rcpt(ctx context.Context, v *restrict.View) restrict.Verdict
	Data(ctx context.Context, v *restrict.View) restrict.Verdict
	EndOfData(ctx context.Context, v *restrict.View) restrict.Verdict
	Etrn(ctx context.Context, v *restrict.View) restrict.Verdict
	Vrfy(ctx context.Context, v *restrict.View) restrict.Verdict
}

// errHangup is a rule that ends the session without a reply.
var errHangup = errors.New("hangup")

// newView makes the view of the connection, when it begins and at XCLIENT.
func (s *session) newView() {
	p := &s.conn.peer
	s.view = restrict.View{
		Client: restrict.Client{
			Name: p.Name, NameStatus: restrict.NameStatus(p.NameStatus),
			ReverseName: p.ReverseName, ReverseStatus: restrict.NameStatus(p.ReverseStatus),
			Address: p.Address, Port: p.Port, ShowPort: s.set.PortLogging, Named: s.conn.named,
		},
		ServerAddress: p.ServerAddress, ServerPort: p.ServerPort,
		SASLMethod: s.conn.login.Method, SASLUsername: s.conn.login.Username, SASLSender: s.conn.login.Sender,
		Protocol: s.conn.protocol, Helo: s.conn.helo, TLS: tlsView(s.conn.tls),
	}
}

// about names the recipient that the next question is about. The returned
// function goes back to the first one that was accepted.
func (s *session) about(a addr.Address) (back func()) {
	v := &s.view
	was, has := v.Recipient, v.HasRecipient
	v.Recipient, v.HasRecipient = a, true
	return func() { v.Recipient, v.HasRecipient = was, has }
}

// judge asks one of the restrictions; a zero reply means go on.
func (s *session) judge(ask func(Checker, context.Context, *restrict.View) restrict.Verdict) reply {
	if s.srv.deps.Checker == nil || s.srv.opt.StandAlone {
		return reply{}
	}
	s.view.IllegalPipelining = s.conn.earlyTalk
	s.view.QueueID = string(s.txn.queueID())
	s.view.RecipientCount = s.txn.accepted
	verdict := ask(s.srv.deps.Checker, s.ctx, &s.view)
	switch {
	case verdict.Hangup:
		return reply{err: errHangup}
	case !verdict.Refused():
		return reply{}
	case verdict.Status.Cause() != nil:
		return statusReply(verdict.Status).mark(errSoftware)
	}
	return statusReply(verdict.Status).mark(errPolicy)
}

// logReject writes the line of a refusal that is not the restrictions'.
func (s *session) logReject(stage, text string) {
	v := &s.view
	line := s.label() + ": reject: " + stage + " from " + s.conn.nameAddr + ": " + text + ";"
	if v.HasSender {
		line += " from=<" + v.Sender.External() + ">"
	}
	if v.HasRecipient && s.txn.accepted <= 1 {
		line += " to=<" + v.Recipient.External() + ">"
	}
	if s.conn.protocol != "" {
		line += " proto=" + s.conn.protocol
	}
	if s.conn.helo != "" {
		line += " helo=<" + s.conn.helo + ">"
	}
	line += v.Login()
	s.log.Infof("%s", line)
}
