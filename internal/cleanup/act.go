package cleanup

import (
	"strings"

	"posthaste/internal/cleanup/content"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/rfc822"
	"posthaste/internal/sys/maillog"
)

// place is what a rule was about, a word of the log.
type place string

const (
	inHeader  place = "header"
	inBody    place = "body"
	inContent place = "content"
)

// verdict is what becomes of the text that a rule was about.
type verdict uint8

const (
	kept verdict = iota
	dropped
	replaced
)

// disallowed is the rule behind message_reject_characters.
var disallowed = content.Rule{Table: "character reject", Value: "REJECT disallowed character", Action: "REJECT", Text: "disallowed character"}

// act does what a rule of header_checks(5) or body_checks(5) says. The text is
// the new one when the verdict is replaced.
func (m *Submission) act(where place, text []byte, r content.Rule) (string, verdict) {
	switch r.Action {
	case "REJECT":
		m.reject(where, text, r)
	case "WARN":
		m.logAction("warning", where, text, r.Text)
	case "INFO":
		m.logAction("info", where, text, r.Text)
	case "FILTER":
		m.filter(where, text, r)
	case "PASS":
		m.logAction("pass", where, text, r.Text)
		m.flags &^= Filter | Milter
	case "DISCARD":
		m.logAction("discard", where, text, r.Text)
		m.discard = true
		m.flags &^= Filter | Milter
	case "HOLD":
		m.hold(where, text, r)
	case "PREPEND":
		m.prepend(where, text, r)
	case "REPLACE":
		return m.replace(where, text, r)
	case "REDIRECT", "BCC":
		m.readdress(where, text, r)
	case "STRIP":
		m.logAction("strip", where, text, r.Text)
		return "", dropped
	case "IGNORE":
		return "", dropped
	case "DUNNO", "OK":
	default:
		m.log.Warnf("unknown command in %s map: %s", r.Table, r.Value)
	}
	return "", kept
}

// logAction writes "QID: action: header TEXT from ORIGIN; from=... : why".
func (m *Submission) logAction(action string, where place, text []byte, why string) {
	if why != "" {
		why = ": " + why
	}
	origin := m.opt.Origin
	if origin == "" {
		origin = "unknown"
	}
	m.infof("%s: %s %s from %s;%s%s", action, where, clip(text), origin, m.parties(), why)
}

func (m *Submission) reject(where place, text []byte, r content.Rule) {
	reason := "5.7.1 message content rejected"
	if r.Text != "" {
		reason = r.Text
		switch given, _ := dsn.SplitEnhanced(r.Text); {
		case given == "":
			reason = "5.7.1 " + r.Text
		case given[0] == '2':
			m.log.Warnf("bad DSN action in %s -- need 4.x.x or 5.x.x", r.Text)
			reason = "4" + r.Text[1:]
		}
	}
	reason = maillog.Printable(reason) // it becomes an SMTP reply
	m.reason = reason
	m.fails |= failContent
	if reason[0] == '4' {
		m.fails = m.fails&^failContent | failDefer
	}
	m.flags &^= Filter | Milter
	m.logAction("reject", where, text, reason)
}

func (m *Submission) filter(where place, text []byte, r content.Rule) {
	switch {
	case r.Text == "":
		m.log.Warnf("missing FILTER command argument in %s map", r.Table)
	case !strings.Contains(r.Text, ":"):
		m.log.Warnf("bad FILTER command %s in %s -- need transport:destination", r.Text, r.Table)
	default:
		m.env.Filter = r.Text
		m.logAction("filter", where, text, r.Text)
	}
}

func (m *Submission) hold(where place, text []byte, r content.Rule) {
	if m.env.Hold || m.discard {
		return
	}
	m.logAction("hold", where, text, r.Text)
	m.env.Hold = true
	m.env.HoldReason = r.Text
}

func (m *Submission) prepend(where place, text []byte, r content.Rule) {
	switch {
	case r.Text == "":
		m.log.Warnf("PREPEND action without text in %s map", r.Table)
	case where == inHeader && !rfc822.IsField(r.Text):
		m.log.Warnf("bad PREPEND header text \"%s\" in %s map -- need \"headername: headervalue\"", r.Text, r.Table)
	default:
		m.logAction("prepend", where, text, r.Text)
		if where == inHeader {
			m.headerLine(r.Text)
		} else {
			m.emit(m.stray([]byte(r.Text + "\n")))
		}
	}
}

func (m *Submission) replace(where place, text []byte, r content.Rule) (string, verdict) {
	switch {
	case r.Text == "":
		m.log.Warnf("REPLACE action without text in %s map", r.Table)
	case where == inHeader && !rfc822.IsField(r.Text):
		m.log.Warnf("bad REPLACE header text \"%s\" in %s map -- need \"headername: headervalue\"", r.Text, r.Table)
	default:
		m.logAction("replace", where, text, r.Text)
		return r.Text, replaced
	}
	return "", kept
}

// readdress is REDIRECT and BCC.
func (m *Submission) readdress(where place, text []byte, r content.Rule) {
	redirect := r.Action == "REDIRECT"
	switch {
	case redirect && !strings.Contains(r.Text, "@"):
		m.log.Warnf("bad REDIRECT target \"%s\" in %s map -- need user@domain", r.Text, r.Table)
	case !strings.Contains(r.Text, "@"):
		m.log.Warnf("bad BCC address \"%s\" in %s map -- need user@domain", r.Text, r.Table)
	case redirect:
		m.env.Redirect = addr.Unquote(r.Text)
		m.logAction("redirect", where, text, r.Text)
		m.flags &^= Filter | Milter
	default:
		m.copies = append(m.copies, addr.Unquote(r.Text))
		m.logAction("bcc", where, text, r.Text)
	}
}
