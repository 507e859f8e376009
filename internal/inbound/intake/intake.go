// Package intake is the beginning of message content as it comes from a
// network: what must be mended there before it follows our Received header.
//
// An mbox "From " line at the beginning becomes a header, and a body that
// begins with a blank is kept from continuing our header. smtpd and qmqpd send
// content through it.
package intake

import (
	"bytes"
	"io"
)

// maxLine is how far a first line is looked at for "From ".
const maxLine = 2048

// Writer passes content on to a message.
type Writer struct {
	to      io.Writer
	settled bool   // the beginning is over
	inFrom  bool   // inside a converted "From " line
	pending []byte // start of the first line, not decided yet
}

// New passes content on to a message. Errors of to are not looked at: a
// Submission keeps them for Commit.
func New(to io.Writer) *Writer { return &Writer{to: to} }

// Write takes content, lines ended by LF and split anywhere.
func (w *Writer) Write(p []byte) {
	for !w.settled && len(p) > 0 {
		if w.inFrom {
			i := bytes.IndexByte(p, '\n') + 1
			if i == 0 {
				w.pass(p)
				return
			}
			w.pass(p[:i])
			p, w.inFrom = p[i:], false
			continue
		}
		w.pending = append(w.pending, p...)
		p = w.decide(false)
	}
	if len(p) > 0 {
		w.pass(p)
	}
}

// decide looks at the first line, and returns what is to be read on; nil while
// it is too short to tell, unless it is all there is.
func (w *Writer) decide(all bool) []byte {
	line := w.pending
	rest := bytes.TrimLeft(line[:min(len(line), maxLine)], ">")
	if len(rest) < len("From ") && len(line) < maxLine && bytes.IndexByte(rest, '\n') < 0 && !all {
		return nil
	}
	w.pending = nil
	if bytes.HasPrefix(rest, []byte("From ")) {
		w.pass([]byte("X-Mailbox-Line: "))
		w.inFrom = true
		return line
	}
	w.settled = true
	if line[0] == ' ' || line[0] == '\t' {
		w.pass([]byte("\n"))
	}
	return line
}

// End passes on what was held back.
func (w *Writer) End() {
	if len(w.pending) == 0 {
		return
	}
	if rest := w.decide(true); len(rest) > 0 {
		w.Write(rest)
	}
}

func (w *Writer) pass(p []byte) { _, _ = w.to.Write(p) }
