package qmgr

import (
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/schedule"
	"posthaste/internal/queue"
)

// message is one message in the active queue. A worker that opens, records or
// finishes it has it to itself; at all other times the loop has.
type message struct {
	id    queue.ID
	key   schedule.Message
	flush bool

	msg    queue.Message
	env    *envelope.Envelope
	meta   queue.Meta // as of opening
	rev    queue.Rev
	set    *settings // as of opening
	active time.Time // when it was taken up

	routed map[int]routed // the way of each recipient that is tried
	open   int            // recipients without an answer in this pass
	cut    bool           // some were cut off: the pass does not count

	unrecorded []queue.Done   // final answers that the store does not know yet
	recording  bool           // a worker tells it
	reasons    map[int]Result // why recipients are delayed, by index
	failed     []Result       // to be reported to the sender
	done       []Result       // success, or all of a verify report
	gone       bool           // somebody removed the message, or took it over
}

// routed is one recipient with its way.
type routed struct {
	recipient envelope.Recipient
	nexthop   string
}

// verify: nothing is delivered, the sender gets a report on what would happen.
func (m *message) verify() bool { return m.env.Trace == envelope.TraceVerify }

// probe: nothing is delivered, verify(8) is told what would happen.
func (m *message) probe() bool { return m.env.Trace == envelope.TraceProbe }

// traced: the sender wants a report on the first attempt (sendmail -v).
func (m *message) traced() bool { return m.env.Trace == envelope.TraceReport && !m.meta.Traced }

// answer takes the final or temporary answer about recipient index. results
// are what is reported: several if an agent expanded the recipient.
func (m *message) answer(index int, s dsn.Status, results []Result) {
	m.open--
	final := !s.Temporary()
	if m.verify() || m.probe() {
		final = true // there is no second attempt
	}
	if final {
		m.unrecorded = append(m.unrecorded, queue.Done{Recipient: index, Status: s})
		delete(m.reasons, index)
	} else {
		m.reasons[index] = results[0]
	}
	for _, r := range results {
		m.note(r, s)
	}
}

// note files one result under the reports that it belongs to. whole is the
// answer about the recipient that it is part of.
func (m *message) note(r Result, whole dsn.Status) {
	verify := m.verify() || m.probe()
	if verify || m.traced() || r.Status.OK() && m.wantsSuccess(r) {
		traced := r
		traced.Action = action(r, verify)
		m.done = append(m.done, traced)
	}
	if !verify && r.Status.Permanent() && whole.Permanent() {
		r.Action = "failed"
		m.failed = append(m.failed, r)
	}
}

// wantsSuccess: the sender asked to be told (RFC 3461), and no next hop does
// it; or the delay was reported and its end is to be.
func (m *message) wantsSuccess(r Result) bool {
	if m.set.ConfirmCleared && m.meta.Warned && (r.Recipient.Notify == 0 || r.Recipient.Notify&envelope.NotifyDelay != 0) {
		return true
	}
	return r.Recipient.Notify&envelope.NotifySuccess != 0 && r.Action != "passed on"
}

func action(r Result, verify bool) string {
	switch {
	case verify && r.Status.OK():
		return "deliverable"
	case verify:
		return "undeliverable"
	case r.Status.Temporary():
		return "delayed"
	case !r.Status.OK():
		return "failed"
	case r.Action == "passed on":
		return "relayed"
	}
	return r.Action
}

// nullSender: it is a bounce, with a lifetime of its own.
func (m *message) nullSender() bool { return m.env.Sender == "" }

// expired reports whether a message that is not delivered yet is too old.
func (m *message) expired(now time.Time) (word string, yes bool) {
	life := m.set.MaxLifetime
	if m.nullSender() {
		life = m.set.BounceLifetime
	}
	if !m.env.Arrival.IsZero() && !now.Before(m.env.Arrival.Add(life)) {
		return "expired", true
	}
	return "force-expired", m.meta.ForceExpire
}

// warnDue reports whether the sender is to be told of the delay now.
func (m *message) warnDue(now time.Time) bool {
	return m.set.DelayWarning > 0 && !m.meta.Warned && !m.env.Arrival.IsZero() && !now.Before(m.env.Arrival.Add(m.set.DelayWarning-time.Second))
}

// delayed are the recipients without final answer, with reasons, in order.
func (m *message) delayed(action string) []Result {
	var all []Result
	for i := range m.env.Recipients {
		if r, ok := m.reasons[i]; ok {
			r.Action = action
			all = append(all, r)
		}
	}
	return all
}

// recipient is the recipient of an index as routed, or as in the envelope.
func (m *message) recipient(index int) envelope.Recipient {
	if r, ok := m.routed[index]; ok {
		return r.recipient
	}
	return m.env.Recipients[index]
}

// sender is for the log.
func (m *message) sender() addr.Address { return m.env.Sender }
