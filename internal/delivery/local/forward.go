package local

import (
	"fmt"
	"io"
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
)

func addrOf(user string) addr.Address { return addr.Address(user) }

// forward is a message that will be submitted: all recipients that have the
// same forwarder and sender.
type forward struct {
	delivered, sender addr.Address
	anew              bool
	recipients        []envelope.Recipient
}

// indirect takes the recipient out of this delivery and into a new message.
func (d *delivery) indirect(m mail) result {
	if d.before("indirect %s", m.rcpt.Address) {
		return settled
	}
	if d.traceOnly() {
		return d.sent(m, "forwards to %s", m.rcpt.Address)
	}
	for _, f := range d.forwards {
		if f.delivered == m.delivered && f.sender == m.sender && f.anew == m.anew {
			f.recipients = append(f.recipients, m.rcpt)
			return settled
		}
	}
	d.forwards = append(d.forwards, &forward{m.delivered, m.sender, m.anew, []envelope.Recipient{m.rcpt}})
	return settled
}

// submitAll hands the forwards in. m is the recipient as it came.
func (d *delivery) submitAll(m mail) result {
	ok := settled
	for _, f := range d.forwards {
		status := d.submit(f)
		answer := m
		if status.OK() {
			// The new message, or the report on the alias, tells the rest.
			answer.rcpt.Notify = withoutSuccess(m.rcpt.Notify)
		}
		if !d.answer(answer, status) {
			ok = tryAgain
		}
	}
	return ok
}

var cannotForward = dsn.FromEnhanced("4.3.0", "unable to forward message")

func (d *delivery) submit(f *forward) dsn.Status {
	s, err := d.agent.deps.Submit(d.ctx, d.r.Size)
	if err != nil {
		d.warn("%s: unable to forward message: %v", d.r.ID, err)
		return cannotForward
	}
	defer s.Abort()
	d.fillEnvelope(s.Envelope(), f)
	s.SetSender(d.ctx, f.sender)
	for _, r := range f.recipients {
		s.AddRecipient(d.ctx, r)
	}
	now := d.agent.deps.Now()
	trace := fmt.Sprintf("Received: by %s (%s)\n\tid %s; %s\n", d.agent.cfg.Hostname, d.agent.cfg.MailName, s.ID(),
		now.Format("Mon, 02 Jan 2006 15:04:05 -0700 (MST)"))
	if d.agent.prepend["forward"] {
		trace += "Delivered-To: " + addr.Fold(f.delivered.External()) + "\n"
	}
	s.Trace(d.ctx, []byte(trace))
	if _, err := io.Copy(s, d.r.Open()); err != nil {
		d.warn("%s: unable to forward message: %v", d.r.ID, err)
		return cannotForward
	}
	status := s.Commit(d.ctx)
	if status.OK() {
		return dsn.FromEnhanced("2.0.0", "forwarded as "+string(s.ID()))
	}
	d.warn("%s: forwarded message was not accepted: %s", d.r.ID, status)
	if status.Permanent() && !strings.HasPrefix(status.Enhanced(), "5.3") {
		return status.WithText("message content rejected: " + status.Text())
	}
	return cannotForward
}

// fillEnvelope carries over what is known of the message. A mailing list is a
// new submission as far as DSN goes.
func (d *delivery) fillEnvelope(e *envelope.Envelope, f *forward) {
	old := d.r.Envelope
	e.Encoding, e.SMTPUTF8 = old.Encoding, old.SMTPUTF8
	e.Client, e.Login, e.Origin = old.Client, old.Login, old.Origin
	e.RewriteContext = old.RewriteContext
	e.Arrival = d.agent.deps.Now()
	e.Inject = "local"
	if old.Trace == envelope.TraceReport {
		e.Trace = old.Trace
	}
	if !f.anew {
		e.EnvID, e.Return = old.EnvID, old.Return
	}
}
