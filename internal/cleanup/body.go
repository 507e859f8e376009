package cleanup

import (
	"bytes"
	"context"

	"posthaste/internal/mail/rfc822"
)

// front is the beginning of the message as it was received, where mbox From
// lines are looked for.
type front struct {
	first  bool   // the next byte begins the first line
	inFrom bool   // inside of a From line
	held   []byte // too little to tell
}

// fromLimit is how many ">" in front of "From " are looked at.
const fromLimit = 64

// Trace writes headers that the entrance puts before the message, such as
// Received: complete lines, each ended by LF.
func (m *Submission) Trace(ctx context.Context, headers []byte) {
	m.ctx = ctx
	m.walk().Write(headers)
}

// Write takes content as it was received, lines ended by LF and split
// anywhere. It never fails: trouble is answered by Commit.
func (m *Submission) Write(p []byte) (int, error) {
	n := len(p)
	if m.done {
		return n, nil
	}
	if len(m.svc.strip) > 0 {
		p = m.strip(p)
	}
	for m.front.first && len(p) > 0 {
		p = m.atFront(p)
	}
	if len(p) > 0 {
		m.walk().Write(p)
	}
	return n, nil
}

// walk returns the walker, made when the envelope is complete.
func (m *Submission) walk() *rfc822.Walker {
	if m.walker == nil {
		m.walker = rfc822.NewWalker(m.walkOptions(), (*events)(m))
	}
	return m.walker
}

func (m *Submission) walkOptions() rfc822.Options {
	cfg := &m.svc.cfg
	o := rfc822.Options{
		LineLimit: cfg.LineLimit, HeaderLimit: cfg.HeaderSize, MaxBoundary: cfg.BoundaryLength, Nesting: cfg.Nesting,
		NoMIME: cfg.NoMIME, Parts: cfg.Detect8bit,
	}
	o.Lines = m.svc.reject != ""
	if m.flags&Filter == 0 {
		return o
	}
	o.Lines = o.Lines || m.svc.inspector.Lines()
	if cfg.Strict8bit || cfg.Strict7bitHeaders {
		o.Report |= rfc822.EightBitHeader
	}
	if cfg.Strict8bit || cfg.Strict8bitBody {
		o.Report |= rfc822.EightBitBody
	}
	if cfg.StrictMIMEEncoding {
		o.Report |= rfc822.BadEncoding
	}
	if o.Report != 0 || m.svc.inspector.Parts() {
		o.Parts = true
		o.Report |= rfc822.TooDeep
	}
	return o
}

// atFront looks at the beginning of a line at the front of the message and
// returns what is left of p. "From " lines of mailboxes become a header; a
// first line that begins with white space is no continuation of ours.
func (m *Submission) atFront(p []byte) []byte {
	if m.front.inFrom {
		end := bytes.IndexByte(p, '\n') + 1
		if end == 0 {
			end = len(p)
		} else {
			m.front.inFrom = false
		}
		m.walk().Write(p[:end])
		return p[end:]
	}
	held := append(m.front.held, p...)
	text := bytes.TrimLeft(held, ">")
	skipped := len(held) - len(text)
	word := []byte("From ")
	if len(text) < len(word) && bytes.HasPrefix(word, text) && skipped < fromLimit {
		m.front.held = held
		return nil
	}
	m.front.held = nil
	if skipped < fromLimit && bytes.HasPrefix(text, word) {
		m.walk().Write([]byte("X-Mailbox-Line: "))
		m.front.inFrom = true
		return held
	}
	m.front.first = false
	if held[0] == ' ' || held[0] == '\t' {
		m.walk().Write([]byte("\n"))
	}
	return held
}

// endContent ends the content: what was held back, the header if there was
// nothing else, the last line.
func (m *Submission) endContent() {
	w := m.walk()
	w.Write(m.front.held)
	m.front.held = nil
	w.Close()
	m.flush()
	if m.defects != 0 {
		m.refuseDefects()
	}
}

// strip drops unwanted characters (postconf(5) message_strip_characters).
func (m *Submission) strip(p []byte) []byte {
	if indexAnyByte(p, string(m.svc.strip)) < 0 {
		return p
	}
	m.scratch = m.scratch[:0]
	for _, c := range p {
		if bytes.IndexByte(m.svc.strip, c) < 0 {
			m.scratch = append(m.scratch, c)
		}
	}
	return m.scratch
}

// screen refuses a message with unwanted characters (postconf(5)
// message_reject_characters).
func (m *Submission) screen(text []byte) {
	if m.rejected || m.svc.reject == "" || indexAnyByte(text, m.svc.reject) < 0 {
		return
	}
	m.rejected = true
	m.act(inContent, bytes.TrimSuffix(text, []byte("\n")), disallowed)
}

func indexAnyByte(p []byte, set string) int {
	first := -1
	for i := range len(set) {
		if n := bytes.IndexByte(p, set[i]); n >= 0 && (first < 0 || n < first) {
			first = n
		}
	}
	return first
}

// stray replaces stray CR characters by spaces, where lines are not supposed
// to have any: other mailers might take them for line ends. p is not changed.
func (m *Submission) stray(p []byte) []byte {
	if !m.svc.cfg.ReplaceStray || bytes.IndexByte(p, '\r') < 0 {
		return p
	}
	m.line = append(m.line[:0], p...)
	for i, c := range m.line {
		if c == '\r' {
			m.line[i] = ' '
		}
	}
	return m.line
}

// events receives what the walker finds.
type events Submission

// Body handles text outside of headers.
func (e *events) Body(text []byte, offset int) {
	m := (*Submission)(e)
	m.screen(text)
	if len(m.pending) > 0 {
		m.flush()
	}
	if m.flags&Filter == 0 || !m.svc.inspector.Lines() {
		m.emit(m.stray(text))
		return
	}
	line, end := bytes.CutSuffix(text, []byte("\n"))
	rule, found, err := m.svc.inspector.Body(m.ctx, line, offset)
	if err != nil {
		m.lookupFailed(rule.Table)
	}
	if !found {
		m.emit(m.stray(text))
		return
	}
	switch out, verdict := m.act(inBody, line, rule); {
	case verdict == dropped:
		return
	case verdict == replaced && end:
		m.emit(m.stray([]byte(out + "\n")))
	case verdict == replaced:
		m.emit(m.stray([]byte(out)))
	default:
		m.emit(m.stray(text))
	}
}

// Defect notes what strict settings refuse.
func (e *events) Defect(p rfc822.Problem, text []byte) {
	m := (*Submission)(e)
	if m.flags&Filter == 0 || p == rfc822.HeaderTooLong {
		return
	}
	if m.defects&p == 0 {
		m.infof("reject: mime-error %s: %s from %s;%s", defectText(p), clip(text), m.opt.Origin, m.parties())
	}
	m.defects |= p
}

func defectText(p rfc822.Problem) string {
	switch {
	case p&rfc822.TooDeep != 0:
		return "MIME nesting exceeds safety limit"
	case p&rfc822.EightBitHeader != 0:
		return "improper use of 8-bit data in message header"
	case p&rfc822.EightBitBody != 0:
		return "improper use of 8-bit data in message body"
	}
	return "invalid message/* or multipart/* encoding domain"
}

func (m *Submission) refuseDefects() {
	m.fails |= failContent
	m.reason = "5.6.0 " + defectText(m.defects)
}
