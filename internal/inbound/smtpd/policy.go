package smtpd

import (
	"context"

	"posthaste/internal/inbound/peer"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
)

// View is what restrictions may know about a session. It is valid during the
// call; addresses are in internal form.
type View struct {
	Stage string // as in the log: CONNECT, EHLO, MAIL, RCPT, DATA, END-OF-MESSAGE, ETRN, VRFY ...
	Peer  peer.Client
	// NameAddr is the client in the log, "name[address]".
	NameAddr string
	Helo     string
	Protocol string // SMTP or ESMTP
	Login    envelope.Login

	// The transaction, as far as it got.
	QueueID        queue.ID // "" before there is one
	HasSender      bool
	Sender         addr.Address
	Recipient      addr.Address // of RCPT and VRFY; of DATA when there is only one
	HasRecipient   bool
	RecipientCount int   // accepted so far
	Size           int64 // declared, or received after the message
	SMTPUTF8       bool
	Encoding       envelope.Encoding
	EtrnDomain     string
	EarlyTalk      bool   // improper pipelining was seen (reject_unauth_pipelining)
	Instance       string // names the session and transaction for policy servers
}

// Verdict is the answer of the restrictions, and what they want done to the
// message. Actions of several verdicts of one transaction add up.
type Verdict struct {
	// Status refuses with 4xx or 5xx; anything else goes on.
	Status dsn.Status
	// Logged: the refusal is in the log already.
	Logged bool

	Hold     string       // reason to hold the message, "" for none
	Discard  bool         // accept and forget
	Filter   string       // transport:nexthop
	Redirect addr.Address // replaces all recipients
	Prepend  []string     // headers to put before the message, without line end
	BCC      []addr.Address
}

// Checker is the restriction lists (package restrict). It owns their delay
// (smtpd_delay_reject), the texts and the checks of unlisted addresses.
type Checker interface {
	Client(ctx context.Context, v *View) Verdict
	Helo(ctx context.Context, v *View) Verdict
	Mail(ctx context.Context, v *View) Verdict
	Rcpt(ctx context.Context, v *View) Verdict
	Data(ctx context.Context, v *View) Verdict
	EndOfData(ctx context.Context, v *View) Verdict
	Etrn(ctx context.Context, v *View) Verdict
	Vrfy(ctx context.Context, v *View) Verdict
}

// refused reports whether the verdict ends the command.
func (v *Verdict) refused() bool { return v.Status.Temporary() || v.Status.Permanent() }

// view describes the session to the restrictions.
func (s *session) view(stage string) *View {
	v := &View{
		Stage: stage, Peer: s.conn.peer, NameAddr: s.conn.nameAddr, Helo: s.conn.helo, Protocol: s.conn.protocol,
		QueueID: s.txn.queueID(), HasSender: s.txn.active, Sender: s.txn.sender.Address,
		RecipientCount: s.txn.accepted, Size: s.txn.size, SMTPUTF8: s.txn.smtputf8, Encoding: s.txn.encoding,
		Login: s.conn.login, EarlyTalk: s.conn.earlyTalk, Instance: s.instance(),
	}
	if s.txn.accepted == 1 {
		v.Recipient, v.HasRecipient = s.txn.only, true
	}
	return v
}

// judge asks one of the restrictions; a zero reply means go on.
func (s *session) judge(ask func(Checker, context.Context, *View) Verdict, v *View) reply {
	if s.srv.deps.Checker == nil || s.srv.opt.StandAlone {
		return reply{}
	}
	verdict := ask(s.srv.deps.Checker, s.ctx, v)
	if verdict.refused() {
		if !verdict.Logged {
			s.logReject("reject", v, verdict.Status.Reply())
		}
		class := errPolicy
		if verdict.Status.Cause() != nil {
			class = errSoftware
		}
		return statusReply(verdict.Status).mark(class)
	}
	s.txn.actions.add(verdict)
	return reply{}
}

// add joins the actions of another verdict; the last one given counts.
func (a *Verdict) add(b Verdict) {
	if b.Hold != "" {
		a.Hold = b.Hold
	}
	a.Discard = a.Discard || b.Discard
	if b.Filter != "" {
		a.Filter = b.Filter
	}
	if b.Redirect != "" {
		a.Redirect = b.Redirect
	}
	a.Prepend = append(a.Prepend, b.Prepend...)
	a.BCC = append(a.BCC, b.BCC...)
}

// logReject writes the line of a refusal, log_whatsup of Postfix.
func (s *session) logReject(what string, v *View, text string) {
	id := string(v.QueueID)
	if id == "" {
		id = "NOQUEUE"
	}
	line := id + ": " + what + ": " + v.Stage + " from " + v.NameAddr + ": " + text + ";"
	if v.HasSender {
		line += " from=<" + v.Sender.External() + ">"
	}
	if v.HasRecipient {
		line += " to=<" + v.Recipient.External() + ">"
	}
	if v.Protocol != "" {
		line += " proto=" + v.Protocol
	}
	if v.Helo != "" {
		line += " helo=<" + v.Helo + ">"
	}
	if v.Login.Username != "" {
		line += " sasl_username=<" + v.Login.Username + ">"
	}
	s.log.Infof("%s", line)
}
