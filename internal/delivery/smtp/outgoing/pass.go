package outgoing

import (
	"bytes"
	"context"
	"io"

	"posthaste/internal/cleanup/content"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/rfc822"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
)

// pass is one message on its way through a Rewriter.
type pass struct {
	r      *Rewriter
	ctx    context.Context
	id     queue.ID
	out    io.Writer
	walker *rfc822.Walker
	err    error // the first; nothing is written after it

	convert  bool   // 8-bit text is not allowed
	encoding bool   // the body of this part is being converted
	line     []byte // converted text of an unfinished line
}

func (p *pass) write(text []byte) {
	if p.err == nil && len(text) > 0 {
		_, p.err = p.out.Write(text)
	}
}

// Header implements rfc822.Events.
func (p *pass) Header(class rfc822.Class, field rfc822.Known, text []byte) {
	text, field = p.check(class, field, text)
	if text == nil || p.err != nil {
		return
	}
	if p.convert && field == rfc822.ContentTransferEncoding {
		switch rfc822.ParseTransfer(rfc822.Value(text)) {
		case rfc822.EightBit, rfc822.Binary:
			return // the end of the header brings another one
		}
	}
	if class == rfc822.Primary {
		text = p.rewrite(field, text)
	}
	p.write(text)
	p.write(newline)
}

var newline = []byte("\n")

// rewrite applies generic(5) to the addresses of a field; one in which nothing
// changes keeps its layout.
func (p *pass) rewrite(field rfc822.Known, text []byte) []byte {
	if p.r.generic.Empty() || !field.Has(rfc822.SenderAddress|rfc822.RecipientAddress) {
		return text
	}
	name, value := rfc822.FieldName(text)
	list := addr.ParseList(string(text[value:]), p.r.cfg.HeaderTokens)
	for _, box := range list.Mailboxes() {
		if box.Address() == "" {
			continue
		}
		a, err := p.r.Address(p.ctx, box.Address())
		if err != nil {
			p.fail(err)
			return text
		}
		if a != box.Address() {
			box.Set(a)
		}
	}
	if !list.Changed() {
		return text
	}
	return rfc822.FoldList(string(text[:name]), list.Lines())
}

func (p *pass) fail(err error) {
	if p.err == nil {
		p.err = SourceError{err}
	}
}

// check applies smtp_header_checks; nil text is a field that is to go.
func (p *pass) check(class rfc822.Class, field rfc822.Known, text []byte) ([]byte, rfc822.Known) {
	rule, found, err := p.r.inspector.Header(p.ctx, class, text)
	if err != nil {
		p.fail(err)
	}
	if err != nil || !found {
		return text, field
	}
	if rule.Action == "REPLACE" || rule.Action == "PREPEND" {
		if rule.Text != "" && !rfc822.IsField(rule.Text) {
			p.r.log.Warnf("bad %s header text \"%s\" in %s map -- need \"headername: headervalue\"", rule.Action, rule.Text, rule.Table)
			return text, field
		}
	}
	out, keep := p.act("header", text, rule)
	if !keep {
		return nil, field
	}
	if rule.Action == "REPLACE" {
		name, _ := rfc822.FieldName(out)
		field = rfc822.Lookup(out[:name])
	}
	return out, field
}

// act does what a rule says: the actions that make sense after a message was
// accepted (header_checks(5)).
func (p *pass) act(where string, text []byte, rule content.Rule) (out []byte, keep bool) {
	switch rule.Action {
	case "WARN":
		p.note("warning", where, text, rule.Text)
	case "INFO":
		p.note("info", where, text, rule.Text)
	case "REPLACE", "PREPEND":
		if rule.Text == "" {
			p.r.log.Warnf("%s action without text in %s map", rule.Action, rule.Table)
			return text, true
		}
		if rule.Action == "REPLACE" {
			p.note("replace", where, text, rule.Text)
			return []byte(rule.Text), true
		}
		p.note("prepend", where, text, rule.Text)
		p.write([]byte(rule.Text + "\n"))
	case "STRIP":
		p.note("strip", where, text, rule.Text)
		return nil, false
	case "IGNORE":
		return nil, false
	case "DUNNO", "OK":
	default:
		p.r.log.Warnf("unsupported command in %s map: %s", rule.Table, rule.Value)
	}
	return text, true
}

// maxNoted is how much of a text is logged.
const maxNoted = 200

func (p *pass) note(action, where string, text []byte, why string) {
	if why != "" {
		why = ": " + why
	}
	p.r.log.Infof("%s: %s: %s %s%s", p.id, action, where, maillog.Printable(string(text[:min(len(text), maxNoted)])), why)
}

// EndOfHeader implements rfc822.Events.
func (p *pass) EndOfHeader([]byte) {}

// Defect implements rfc822.Events; nothing is asked to be reported.
func (p *pass) Defect(rfc822.Problem, []byte) {}

// HeaderEnd implements rfc822.HeaderEnder: it decides about the body.
func (p *pass) HeaderEnd(composite rfc822.Composite, t rfc822.Transfer) {
	p.encoding = false
	if !p.convert || t != rfc822.EightBit && t != rfc822.Binary {
		return
	}
	to := rfc822.QuotedPrintable
	if composite {
		to = rfc822.SevenBit // its parts are converted
	}
	p.encoding = !bool(composite)
	p.write([]byte("Content-Transfer-Encoding: " + to.String() + "\n"))
}

// Boundary implements rfc822.HeaderEnder.
func (p *pass) Boundary() {
	p.endConversion()
	p.encoding = false
}

// Body implements rfc822.Events.
func (p *pass) Body(text []byte, offset int) {
	if p.err != nil {
		return
	}
	if p.r.inspector.Lines() {
		line, ended := bytes.CutSuffix(text, newline)
		rule, found, err := p.r.inspector.Body(p.ctx, line, offset)
		if err != nil {
			p.fail(err)
			return
		}
		if found {
			out, keep := p.act("body", line, rule)
			if !keep {
				return
			}
			text = append([]byte(nil), out...)
			if ended {
				text = append(text, '\n')
			}
		}
	}
	if !p.encoding {
		p.write(text)
		return
	}
	p.quote(text)
}

// critical is the length from which on a line of quoted-printable text is
// broken: RFC 2045 §6.7 allows 76 characters, and three may still come.
const critical = 72

const hexDigits = "0123456789ABCDEF"

func appendQuoted(b []byte, c byte) []byte { return append(b, '=', hexDigits[c>>4], hexDigits[c&15]) }

// quote writes text as quoted-printable: a line, or a piece of one.
func (p *pass) quote(text []byte) {
	line, ended := bytes.CutSuffix(text, newline)
	for _, c := range line {
		if len(p.line) > critical {
			p.write(append(p.line, '=', '\n'))
			p.line = p.line[:0]
		}
		if c < ' ' && c != '\t' || c == '=' || c > '~' {
			p.line = appendQuoted(p.line, c)
		} else {
			p.line = append(p.line, c)
		}
	}
	if ended {
		p.endLine()
		p.write(newline)
	}
}

// endLine writes the unfinished line; white space at its end would get lost.
func (p *pass) endLine() {
	if n := len(p.line) - 1; n >= 0 && (p.line[n] == ' ' || p.line[n] == '\t') {
		p.line = appendQuoted(p.line[:n], p.line[n])
	}
	p.write(p.line)
	p.line = p.line[:0]
}

func (p *pass) endConversion() {
	if len(p.line) > 0 {
		p.endLine()
	}
}
