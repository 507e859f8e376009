package cleanup

import (
	"fmt"
	"strings"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/rfc822"
)

// EndOfHeader adds the header fields that are missing (RFC 6409 §8), for mail
// that is ours or with always_add_missing_headers.
func (e *events) EndOfHeader(bad []byte) {
	m := (*Submission)(e)
	if m.writing() {
		_, ours := m.headerContext()
		if ours || m.svc.cfg.AlwaysAdd {
			m.addMessageID()
		}
		if !m.has(rfc822.MessageID) {
			m.infof("message-id=<>")
		}
		if ours || m.svc.cfg.AlwaysAdd {
			m.addDate()
			m.addFrom()
			m.addDestination()
		}
	}
	if len(bad) > 0 {
		m.badEnd(bad)
	}
	m.flush()
}

// resentName is a field name with "Resent-" in front for resent mail.
func (m *Submission) resentName(name string) string {
	if m.resent {
		return "Resent-" + name
	}
	return name
}

func (m *Submission) lacks(plain, resent rfc822.Known) bool {
	if m.resent {
		return !m.has(resent)
	}
	return !m.has(plain)
}

func (m *Submission) arrival() time.Time {
	if m.env.Arrival.IsZero() {
		return m.svc.deps.Now()
	}
	return m.env.Arrival
}

func (m *Submission) addMessageID() {
	if !m.lacks(rfc822.MessageID, rfc822.ResentMessageID) {
		return
	}
	cfg := &m.svc.cfg
	id := rfc822.NewMessageID(m.arrival(), string(m.ID()), cfg.MyHostname, cfg.LongQueueIDs)
	m.headerLine(m.resentName("Message-Id") + ": <" + id + ">")
	if m.resent {
		m.infof("resent-message-id=<%s>", id)
		m.headers |= 1 << rfc822.ResentMessageID
		return
	}
	m.infof("message-id=<%s>", id)
	m.headers |= 1 << rfc822.MessageID
}

func (m *Submission) addDate() {
	if m.lacks(rfc822.Date, rfc822.ResentDate) {
		m.headerLine(m.resentName("Date") + ": " + rfc822.FormatDate(m.arrival().In(m.svc.deps.Now().Location())))
	}
}

func (m *Submission) addFrom() {
	if !m.lacks(rfc822.From, rfc822.ResentFrom) {
		return
	}
	name := m.resentName("From") + ": "
	sender := m.env.Sender
	if sender == "" {
		m.headerLine(name + "MAILER-DAEMON")
		return
	}
	full := m.env.FullName
	switch {
	case full == "":
		m.headerLine(name + sender.External())
	case m.svc.cfg.HeaderFrom == "obsolete":
		m.headerLine(name + sender.External() + " (" + rfc822.EncodeComment(full, m.svc.cfg.NameCharset) + ")")
	default:
		m.headerLine(name + rfc822.EncodePhrase(full, m.svc.cfg.NameCharset) + " <" + sender.External() + ">")
	}
}

// addDestination adds undisclosed_recipients_header when no recipient shows.
func (m *Submission) addDestination() {
	text := m.svc.cfg.Undisclosed
	if text == "" || m.has(rfc822.To, rfc822.ResentTo, rfc822.Cc, rfc822.ResentCc) {
		return
	}
	if !rfc822.IsField(text) {
		m.log.Warnf("bad undisclosed_recipients_header header text \"%s\" -- need \"headername: headervalue\"", text)
		return
	}
	m.headerLine(text)
}

// badEnd handles a header that ended without an empty line (postconf(5)
// non_empty_end_of_header_action). The empty line is added in any case.
func (m *Submission) badEnd(line []byte) {
	const text = "message header was not terminated by empty line"
	switch m.svc.cfg.EndOfHeader {
	case fixAddHeader:
		m.headerLine("MIME-Error: " + text)
	case fixReject:
		m.infof("reject: mime-error %s: %s from %s;%s", text, clip(line), m.opt.Origin, m.parties())
		m.fails |= failContent
		m.reason = "5.6.0 " + text
	}
}

// parties is the end of a log line about content: who sends what to whom.
func (m *Submission) parties() string {
	var b strings.Builder
	fmt.Fprintf(&b, " from=<%s>", m.logAddress(m.env.Sender))
	if m.recipient != "" {
		fmt.Fprintf(&b, " to=<%s>", m.logAddress(m.recipient))
	}
	if m.opt.Proto != "" {
		b.WriteString(" proto=" + m.opt.Proto)
	}
	if m.opt.Helo != "" {
		b.WriteString(" helo=<" + m.opt.Helo + ">")
	}
	return b.String()
}

func (m *Submission) logAddress(a addr.Address) string { return m.svc.cfg.Log.Address(a) }
