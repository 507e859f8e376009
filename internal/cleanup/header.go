package cleanup

import (
	"bytes"

	"posthaste/internal/cleanup/rewrite"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/mail/rfc822"
	"posthaste/internal/qmgr/route"
)

// Header handles one header field.
func (e *events) Header(class rfc822.Class, field rfc822.Known, text []byte) {
	m := (*Submission)(e)
	m.screen(text)
	text, field = m.checkHeader(class, field, text)
	if text == nil {
		return
	}
	m.noteUTF8(text)
	if field == rfc822.ContentTransferEncoding && m.svc.cfg.Detect8bit {
		m.noteEncoding(rfc822.Value(text))
	}
	if class != rfc822.Primary {
		m.writeHeader(text)
		return
	}
	m.count(field, text)
	switch {
	case !m.writing():
	case m.dropped(field, text):
		if field.Has(rfc822.Resent) {
			m.resent = true
		}
	default:
		if field.Has(rfc822.Resent) {
			m.resent = true
		}
		m.writeHeader(m.rewriteHeader(field, text))
	}
}

// checkHeader applies header checks. It returns what the field became, nil if
// it is to go.
func (m *Submission) checkHeader(class rfc822.Class, field rfc822.Known, text []byte) ([]byte, rfc822.Known) {
	if m.flags&Filter == 0 {
		return text, field
	}
	rule, found, err := m.svc.inspector.Header(m.ctx, class, text)
	if err != nil {
		m.lookupFailed(rule.Table)
	}
	if !found {
		return text, field
	}
	out, verdict := m.act(inHeader, text, rule)
	switch verdict {
	case dropped:
		return nil, field
	case replaced:
		name, _ := rfc822.FieldName([]byte(out))
		return []byte(out), rfc822.Lookup([]byte(out)[:name])
	}
	return text, field
}

func (m *Submission) lookupFailed(title string) {
	m.warnf("%s map lookup problem -- message not accepted, try again later", title)
	m.fails |= failWrite
}

// count remembers which primary fields were there, and logs and counts some.
func (m *Submission) count(field rfc822.Known, text []byte) {
	if field == rfc822.None {
		return
	}
	m.headers |= 1 << field
	switch field {
	case rfc822.MessageID:
		m.infof("message-id=%s", rfc822.Value(text))
	case rfc822.ResentMessageID:
		m.infof("resent-message-id=%s", rfc822.Value(text))
	case rfc822.Received:
		m.hops++
		if m.hops == m.svc.cfg.HopLimit {
			m.warnf("message rejected: hopcount exceeded")
			m.fails |= failHops
		}
	}
}

func (m *Submission) has(fields ...rfc822.Known) bool {
	for _, f := range fields {
		if m.headers&(1<<f) != 0 {
			return true
		}
	}
	return false
}

// dropped reports fields that are not to be kept (message_drop_headers).
func (m *Submission) dropped(field rfc822.Known, text []byte) bool {
	if field != rfc822.None {
		return m.svc.drop[field]
	}
	if len(m.svc.dropOther) == 0 {
		return false
	}
	name, _ := rfc822.FieldName(text)
	return m.svc.dropOther[string(bytes.ToLower(text[:name]))]
}

// noteEncoding lets a header say that the message is 8-bit; what the sender
// declared is only overridden towards 8-bit.
func (m *Submission) noteEncoding(value []byte) {
	switch rfc822.ParseTransfer(value) {
	case rfc822.EightBit, rfc822.Binary:
		m.env.Encoding = envelope.Encoding8bit
	case rfc822.SevenBit, rfc822.QuotedPrintable, rfc822.Base64:
		if m.env.Encoding == envelope.EncodingUnknown {
			m.env.Encoding = envelope.Encoding7bit
		}
	}
}

// headerContext is the context in which header addresses are rewritten; false
// when headers of this client's mail are left alone.
func (m *Submission) headerContext() (string, bool) {
	if m.env.RewriteContext != route.ContextRemote {
		return route.ContextLocal, true
	}
	return route.ContextRemote, m.svc.cfg.RemoteRewriteDomain != ""
}

// rewriteHeader rewrites the addresses of a sender or recipient field. A field
// in which nothing changes keeps its layout.
func (m *Submission) rewriteHeader(field rfc822.Known, text []byte) []byte {
	where, ok := m.headerContext()
	if !ok || !field.Has(rfc822.SenderAddress|rfc822.RecipientAddress) {
		return text
	}
	class := rewrite.HeaderSender
	if field.Has(rfc822.RecipientAddress) {
		class = rewrite.HeaderRecipient
	}
	name, value := rfc822.FieldName(text)
	list := addr.ParseList(string(text[value:]), m.svc.cfg.HeaderTokens)
	for _, box := range list.Mailboxes() {
		if box.Address() == "" {
			continue
		}
		a := m.job.Standard(m.ctx, where, box.Address())
		if m.flags&Map != 0 {
			a = m.job.Map(m.ctx, class, a)
		}
		box.Set(a)
	}
	m.addTrouble()
	if !list.Changed() {
		return text
	}
	return rfc822.FoldList(string(text[:name]), list.Lines())
}

// writeHeader writes a field, shortened to header_size_limit: at the end of a
// line if that loses little, else anywhere.
func (m *Submission) writeHeader(text []byte) {
	limit := m.svc.cfg.HeaderSize
	if limit > 0 && len(text) > limit {
		end := bytes.LastIndexByte(text[:limit+1], '\n')
		if end < limit-limit/10 {
			end = limit
		}
		text = text[:end]
	}
	m.headerLine(string(text))
}
