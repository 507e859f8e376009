package restrict

import (
	"context"
	"strings"

	"posthaste/internal/mail/addr"
)

// Client evaluates smtpd_client_restrictions when a client connects. With
// smtpd_delay_reject it does nothing: Rcpt and Etrn do.
func (c *Checker) Client(ctx context.Context, v *View) Verdict {
	where := "CONNECT"
	if v.Client.Named {
		where = "XCLIENT"
	}
	e := c.eval(ctx, v, where)
	if c.cfg.DelayReject {
		return e.verdict(dunno)
	}
	return e.verdict(e.client())
}

// Helo evaluates smtpd_helo_restrictions at HELO and EHLO. With
// smtpd_delay_reject it does nothing: Rcpt and Etrn do.
func (c *Checker) Helo(ctx context.Context, v *View) Verdict {
	e := c.eval(ctx, v, v.HeloVerb)
	if c.cfg.DelayReject {
		return e.verdict(dunno)
	}
	return e.verdict(e.helo())
}

// Mail evaluates smtpd_sender_restrictions at MAIL. With smtpd_delay_reject it
// does nothing: Rcpt does.
func (c *Checker) Mail(ctx context.Context, v *View) Verdict {
	e := c.eval(ctx, v, "MAIL")
	if c.cfg.DelayReject {
		return e.verdict(dunno)
	}
	return e.verdict(e.mail())
}

// Rcpt evaluates smtpd_relay_restrictions and smtpd_recipient_restrictions for
// v.Recipient, after those that were delayed, and finds out whether the
// recipient exists.
func (c *Checker) Rcpt(ctx context.Context, v *View) Verdict {
	e := c.eval(ctx, v, "RCPT")
	return e.verdict(e.rcpt())
}

// Vrfy is Rcpt for the VRFY command.
func (c *Checker) Vrfy(ctx context.Context, v *View) Verdict {
	e := c.eval(ctx, v, "VRFY")
	return e.verdict(e.rcpt())
}

// Data evaluates smtpd_data_restrictions at DATA, or at the first BDAT.
func (c *Checker) Data(ctx context.Context, v *View) Verdict {
	e := c.eval(ctx, v, commandData)
	return e.verdict(e.message(c.stages.data, subject{name: commandData, class: classData}))
}

// EndOfData evaluates smtpd_end_of_data_restrictions when the message is
// complete.
func (c *Checker) EndOfData(ctx context.Context, v *View) Verdict {
	e := c.eval(ctx, v, commandEnd)
	return e.verdict(e.message(c.stages.endOfData, subject{name: commandEnd, class: classEndOfData}))
}

// Etrn evaluates smtpd_etrn_restrictions for v.ETRN, after those that were
// delayed.
func (c *Checker) Etrn(ctx context.Context, v *View) Verdict {
	e := c.eval(ctx, v, "ETRN")
	return e.verdict(e.etrn())
}

func (c *Checker) eval(ctx context.Context, v *View, where string) *eval {
	return &eval{ctx: ctx, c: c, v: v, where: where}
}

func (e *eval) verdict(result outcome) Verdict {
	out := Verdict{By: e.by, Trace: e.trace, Hangup: e.hangup}
	if result == refuse {
		out.Status = e.status
	}
	return out
}

// first is the earlier of two reasons to defer.
func first(p ...pending) pending {
	for _, reason := range p {
		if reason.active() {
			return reason
		}
	}
	return pending{}
}

func (e *eval) client() outcome {
	e.ifPermit = pending{}
	result := e.stage(e.c.stages.client, subject{e.v.Client.NameAddr(), classClient, "check_client_access"})
	e.v.memo.client = e.ifPermit
	return result
}

func (e *eval) helo() outcome {
	if e.v.Helo == "" {
		return dunno
	}
	m := &e.v.memo
	e.ifPermit = m.client
	result := e.stage(e.c.stages.helo, subject{e.v.Helo, classHelo, "check_helo_access"})
	m.helo = e.ifPermit
	return result
}

func (e *eval) mail() outcome {
	if !e.v.HasSender {
		return dunno
	}
	m := &e.v.memo
	e.ifPermit = first(m.client, m.helo)
	m.unlistedSender = false
	result := e.stage(e.c.stages.sender, subject{string(e.v.Sender), classSender, "check_sender_access"})
	m.sender = e.ifPermit
	if result != refuse && e.c.cfg.RejectUnlistedSender && e.v.Sender != "" && !m.unlistedSender && !e.v.Actions.Discard {
		result = e.unlistedSender()
	}
	return result
}

func (e *eval) rcpt() outcome {
	// RFC 5321 §4.5.1: a bare postmaster is always accepted.
	if strings.EqualFold(string(e.v.Recipient), "postmaster") {
		return dunno
	}
	m := &e.v.memo
	m.unlistedRecipient = false
	if e.c.cfg.DelayReject {
		for _, delayed := range []func() outcome{e.client, e.helo, e.mail} {
			if delayed() == refuse || e.hangup {
				return refuse
			}
		}
	}
	e.ifPermit = first(m.client, m.helo, m.sender)
	result := e.recipientLists()
	if result != refuse && e.ifPermit.active() {
		// Something temporary kept us from finding out whether to refuse.
		result = e.refuse(byPolicy, e.ifPermit.status)
	}
	if result != refuse && e.c.cfg.RejectUnlistedRcpt && !m.unlistedRecipient && !e.v.Actions.Discard {
		result = e.unlistedRecipient()
	}
	return result
}

// recipientLists evaluates the two lists about recipients in the configured
// order.
func (e *eval) recipientLists() outcome {
	lists := [2]*list{e.c.stages.recipient, e.c.stages.relay}
	if e.c.cfg.RelayBeforeRecipient {
		lists[0], lists[1] = lists[1], lists[0]
	}
	s := subject{string(e.v.Recipient), classRecipient, "check_recipient_access"}
	result := dunno
	for i, l := range lists {
		if result = e.stage(l, s); result == refuse {
			if i == 0 && l == e.c.stages.recipient {
				e.oldDefault("smtpd_relay_before_recipient_restrictions=no", "to reject recipient \"%s\" from client \"%s\"", e.v.Recipient, e.v.Client.NameAddr())
			}
			break
		}
	}
	return result
}

// message evaluates a list about the message as a whole. Its reason to defer
// does not inherit from the recipients: some were accepted.
func (e *eval) message(l *list, s subject) outcome {
	if e.v.RecipientCount > 1 {
		// It concerns all recipients: to name one would mislead.
		rcpt, has := e.v.Recipient, e.v.HasRecipient
		e.v.Recipient, e.v.HasRecipient = "", false
		defer func(rcpt addr.Address, has bool) { e.v.Recipient, e.v.HasRecipient = rcpt, has }(rcpt, has)
	}
	e.ifPermit = pending{}
	result := e.stage(l, s)
	if result != refuse && e.ifPermit.active() {
		result = e.refuse(byPolicy, e.ifPermit.status)
	}
	return result
}

func (e *eval) etrn() outcome {
	if e.c.cfg.DelayReject {
		for _, delayed := range []func() outcome{e.client, e.helo} {
			if delayed() == refuse || e.hangup {
				return refuse
			}
		}
	}
	e.ifPermit = first(e.v.memo.client, e.v.memo.helo)
	result := e.stage(e.c.stages.etrn, subject{e.v.ETRN, classEtrn, "check_etrn_access"})
	if result != refuse && e.ifPermit.active() {
		result = e.refuse(byPolicy, e.ifPermit.status)
	}
	return result
}
