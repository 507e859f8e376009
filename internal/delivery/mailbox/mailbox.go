// Package mailbox is the form that a message has in a mailbox or on the
// standard input of a command, and what is said when it cannot be put there.
//
// It is pure: it reads a message and writes text. Carrying that to a file with
// a user's rights is package worker's business. Statuses and their words are
// those of mail_copy(3), mbox_open(3) and pipe_command(3) of Postfix, which
// people's log filters match on.
//
// Callers: local, virtual, pipe.
package mailbox

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/transport"
)

// Form says what a message looks like; the zero value changes nothing. The
// order of the additions is: From_ line, Return-Path, X-Original-To,
// Delivered-To, message, blank line.
type Form struct {
	From       bool // mbox separator line "From sender  date"
	ReturnPath bool
	// OriginalTo and DeliveredTo are header values, "" for no header.
	OriginalTo, DeliveredTo addr.Address

	QuoteFrom bool   // ">" before lines that begin with "From "
	QuoteDot  bool   // "." before lines that begin with "."
	BlankLine bool   // at the end
	EOL       string // line end, "" for "\n"

	Sender     addr.Address
	NullSender string // stands for the Sender "" in the From_ line and Return-Path
	Time       time.Time
}

// MailerDaemon stands for the null sender in From_ lines that have no NullSender.
const MailerDaemon = "MAILER-DAEMON"

// MboxForm is a message in a mailbox file, MaildirForm one in a file of its own
// (both without the addresses).
var (
	MboxForm    = Form{From: true, ReturnPath: true, QuoteFrom: true, BlankLine: true}
	MaildirForm = Form{ReturnPath: true}
)

// maxLine is how much of a line is looked at at once; a longer line is copied
// in pieces.
const maxLine = 64 << 10

// Write writes the message in content, lines ended by LF, in form f.
func (f *Form) Write(w io.Writer, content io.Reader) error {
	out := bufio.NewWriterSize(w, 16<<10)
	eol := f.EOL
	if eol == "" {
		eol = "\n"
	}
	if _, err := out.WriteString(f.head(eol)); err != nil {
		return err
	}
	in := bufio.NewReaderSize(content, maxLine)
	atStart := true
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			atStart = f.line(out, line, atStart, eol)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if !atStart {
		_, _ = out.WriteString(eol)
	}
	if f.BlankLine {
		_, _ = out.WriteString(eol)
	}
	return out.Flush()
}

// line writes a line or a piece of one, and reports whether it was ended.
// bufio.Writer keeps the first error for Flush.
func (f *Form) line(out *bufio.Writer, line []byte, atStart bool, eol string) (ended bool) {
	if atStart {
		switch {
		case f.QuoteFrom && bytes.HasPrefix(line, []byte("From ")):
			_ = out.WriteByte('>')
		case f.QuoteDot && line[0] == '.':
			_ = out.WriteByte('.')
		}
	}
	text, ended := bytes.CutSuffix(line, []byte("\n"))
	_, _ = out.Write(text)
	if ended {
		_, _ = out.WriteString(eol)
	}
	return ended
}

// head is what precedes the message.
func (f *Form) head(eol string) string {
	var b strings.Builder
	if f.From {
		sender := f.Sender.External()
		if sender == "" {
			sender = f.NullSender
		}
		if sender == "" {
			sender = MailerDaemon
		}
		b.WriteString("From " + oneLine(sender) + "  " + f.Time.Format(time.ANSIC) + eol)
	}
	if f.ReturnPath {
		sender := f.Sender.External()
		if sender == "" {
			sender = f.NullSender
		}
		b.WriteString("Return-Path: <" + oneLine(sender) + ">" + eol)
	}
	if f.OriginalTo != "" {
		b.WriteString("X-Original-To: " + oneLine(f.OriginalTo.External()) + eol)
	}
	if f.DeliveredTo != "" {
		b.WriteString("Delivered-To: " + oneLine(f.DeliveredTo.External()) + eol)
	}
	return b.String()
}

// oneLine keeps an address from starting a line of its own.
func oneLine(s string) string {
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	if utf8.ValidString(s) && strings.IndexFunc(s, control) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if control(r) {
			return '?'
		}
		return r
	}, s)
}

// Body is the text of a message in form f, for package worker.
func (f Form) Body(open func() io.ReadSeeker) func(io.Writer) error {
	return func(w io.Writer) error { return f.Write(w, open()) }
}

// Sender is the envelope sender of a message as one recipient sees it: with
// VERP_README's delimiters, the recipient is part of it.
func Sender(e *envelope.Envelope, rcpt addr.Address) addr.Address {
	if e.Verp == "" {
		return e.Sender
	}
	return transport.VERP(e.Sender, e.Verp, rcpt)
}

// TraceOnly reports that nothing is to be delivered: the submitter or verify(8)
// only asks what would happen.
func TraceOnly(e *envelope.Envelope) bool {
	return e.Trace == envelope.TraceVerify || e.Trace == envelope.TraceProbe
}

// Original is the address for X-Original-To and $original_recipient. keep is
// postconf(5) enable_original_recipient.
func Original(r envelope.Recipient, keep Keep) addr.Address {
	if r.Original == "" && keep == KeepOriginal {
		return r.Address
	}
	return r.Original
}

// Keep says whether original recipients are remembered.
type Keep bool

const (
	ForgetOriginal Keep = false
	KeepOriginal   Keep = true
)
