package cleanup

import (
	"context"
	"strconv"
	"strings"

	"posthaste/internal/cleanup/rewrite"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/route"
)

// SetSender sets the envelope sender, "" for the null sender. An envelope
// address without domain is a local one, wherever it comes from.
func (m *Submission) SetSender(ctx context.Context, a addr.Address) {
	a = m.job.Standard(ctx, route.ContextLocal, a)
	if m.flags&Map != 0 {
		a = m.job.Map(ctx, rewrite.EnvelopeSender, a)
	}
	m.env.Sender = a
	m.noteUTF8([]byte(a))
	if m.flags&BCC != 0 {
		m.copyTo(ctx, m.job.SenderBCC(ctx, a))
	}
	m.addTrouble()
}

// AddRecipient adds a recipient with everything that it expands into. An
// empty Original means Address itself.
func (m *Submission) AddRecipient(ctx context.Context, r envelope.Recipient) {
	if r.Original == "" {
		r.Original = r.Address
	}
	r.Address = m.recipientForm(ctx, r.Address)
	if r.ORCPT == "" {
		r.ORCPT = envelope.ORCPT(r.Address)
	}
	m.noteUTF8([]byte(r.Address))
	m.recipient = r.Address
	m.expand(ctx, r)
	if m.flags&BCC != 0 {
		m.copyTo(ctx, m.job.RecipientBCC(ctx, r.Address))
	}
	m.addTrouble()
}

func (m *Submission) recipientForm(ctx context.Context, a addr.Address) addr.Address {
	a = m.job.Standard(ctx, route.ContextLocal, a)
	if m.flags&Map != 0 {
		a = m.job.Map(ctx, rewrite.EnvelopeRecipient, a)
	}
	return a
}

// copyTo adds a BCC recipient. The sender is not told what happens to it.
func (m *Submission) copyTo(ctx context.Context, a addr.Address) {
	if a != "" {
		form := m.recipientForm(ctx, a)
		m.expand(ctx, envelope.Recipient{Original: a, Address: form, ORCPT: envelope.ORCPT(form), Notify: envelope.NotifyNever})
	}
}

// addCopies adds the recipients that are known at the end: always_bcc, and
// those of BCC actions.
func (m *Submission) addCopies(ctx context.Context) {
	if m.flags&BCC != 0 && m.recipient != "" && m.svc.cfg.AlwaysBCC != "" {
		m.copyTo(ctx, addr.Unquote(m.svc.cfg.AlwaysBCC))
	}
	for _, a := range m.copies {
		m.copyTo(ctx, a)
	}
	m.addTrouble()
}

// expand adds what the aliases make of a recipient. An alias answers the
// wish for a report on success: its members are none of the sender's business
// (RFC 3461 §5.2.7).
func (m *Submission) expand(ctx context.Context, r envelope.Recipient) {
	if m.flags&Map == 0 {
		m.add(r)
		return
	}
	members := m.job.Expand(ctx, r.Address)
	if r.Notify&envelope.NotifySuccess != 0 && (len(members) > 1 || members[0] != r.Address) {
		m.expanded = append(m.expanded, r)
		r.Notify &^= envelope.NotifySuccess
		if r.Notify == 0 {
			r.Notify = envelope.NotifyNever
		}
	}
	for _, a := range members {
		r.Address = a
		m.add(r)
	}
}

// add appends a recipient unless it is there already.
func (m *Submission) add(r envelope.Recipient) {
	key := addr.Fold(string(r.Address))
	if m.svc.cfg.KeepOriginal {
		key = strings.Join([]string{key, addr.Fold(string(r.Original)), addr.Fold(r.ORCPT), strconv.Itoa(int(r.Notify))}, "\n")
	}
	if _, dup := m.seen[key]; dup {
		return
	}
	if limit := m.svc.cfg.DuplicateLimit; limit <= 0 || len(m.seen) < limit {
		if m.seen == nil {
			m.seen = map[string]struct{}{}
		}
		m.seen[key] = struct{}{}
	}
	if !m.svc.cfg.KeepOriginal {
		r.Original = r.Address
	}
	m.env.Recipients = append(m.env.Recipients, r)
}

// noteUTF8 remembers that text needs SMTPUTF8, where that is found out and
// not asked for.
func (m *Submission) noteUTF8(text []byte) {
	if m.flags&DetectUTF8 == 0 || m.env.SMTPUTF8 {
		return
	}
	for _, c := range text {
		if c >= 0x80 {
			m.env.SMTPUTF8 = true
			return
		}
	}
}
