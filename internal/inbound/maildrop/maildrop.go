// Package maildrop is local submission on its way into the queue: what
// sendmail(1) says about a message, how postdrop(1) puts that into a file of
// the maildrop directory, and how pickup(8) reads the file.
//
// It is the records of package queuefile all the way, from a pipe of an
// untrusted user into a file that he owns. A file is complete when it has the
// mode of one. Nothing in it is believed but what a user may say about his own
// mail; only files of the mail system itself (postsuper -r) are read as queue
// files.
//
// Callers: the sendmail and postdrop commands, pickup.
package maildrop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue/queuefile"
)

// Message is what sendmail(1) knows of a message.
type Message struct {
	envelope.Envelope                 // Sender, FullName, Verp, Encoding, Trace, Return, EnvID, RewriteContext
	Notify            envelope.Notify // for every recipient
}

// AppendHead adds the envelope without recipients. They follow, and then
// AppendContent.
func (m *Message) AppendHead(b []byte) []byte {
	b = appendAttr(b, "rewrite_context", m.RewriteContext)
	if m.FullName != "" {
		b = queuefile.Append(b, queuefile.FullName, m.FullName)
	}
	b = queuefile.Append(b, queuefile.From, string(m.Sender))
	if m.Verp != "" {
		b = queuefile.Append(b, queuefile.Verp, m.Verp)
	}
	b = appendAttr(b, "encoding", map[envelope.Encoding]string{envelope.Encoding7bit: "7bit", envelope.Encoding8bit: "8bit"}[m.Encoding])
	if m.Trace != envelope.TraceNone {
		b = appendAttr(b, "trace_flags", map[envelope.Trace]string{envelope.TraceVerify: "512", envelope.TraceReport: "1024"}[m.Trace])
	}
	if m.Return != envelope.ReturnDefault {
		b = appendAttr(b, "ret_flags", strconv.Itoa(int(m.Return)))
	}
	return appendAttr(b, "envelope_id", m.EnvID)
}

// AppendContent begins the content.
func AppendContent(b []byte) []byte { return queuefile.Append(b, queuefile.Message, "") }

// AppendTail ends the content, and adds the recipients found in it.
func (m *Message) AppendTail(b []byte, recipients []addr.Address) []byte {
	b = queuefile.Append(b, queuefile.Extra, "")
	b = m.AppendRecipients(b, recipients)
	return queuefile.Append(b, queuefile.End, "")
}

// AppendRecipients adds recipients with the message's Notify.
func (m *Message) AppendRecipients(b []byte, recipients []addr.Address) []byte {
	for _, r := range recipients {
		b = AppendRecipient(b, envelope.Recipient{Address: r, Notify: m.Notify})
	}
	return b
}

// AppendRecipient adds one recipient; Original is not a user's business.
func AppendRecipient(b []byte, r envelope.Recipient) []byte {
	if r.Notify != 0 {
		b = appendAttr(b, "notify_flags", strconv.Itoa(int(r.Notify)))
	}
	b = appendAttr(b, "dsn_orig_rcpt", r.ORCPT)
	return queuefile.Append(b, queuefile.Rcpt, string(r.Address))
}

func appendAttr(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return queuefile.Append(b, queuefile.Attr, name+"="+value)
}

// Status is what postdrop(1) says at the end (CLEANUP_STAT_* of Postfix).
type Status int

// Statuses.
const (
	OK         Status = 0
	BadInput   Status = 1 << 0
	WriteError Status = 1 << 1
	TooBig     Status = 1 << 2
)

// Reply is the answer of postdrop(1).
type Reply struct {
	QueueID string
	Status  Status
	Reason  string
}

const protocol = "postdrop_protocol"

// ErrReply is given for an answer that is none.
var ErrReply = errors.New("maildrop: no answer from postdrop")

// writeHello tells the queue id as soon as there is a file.
func writeHello(w io.Writer, id string) error {
	_, err := fmt.Fprintf(w, "protocol\x00%s\x00queue_id\x00%s\x00\x00", protocol, id)
	return err
}

func writeStatus(w io.Writer, s Status, reason string) error {
	_, err := fmt.Fprintf(w, "status\x00%d\x00reason\x00%s\x00\x00", int(s), reason)
	return err
}

// maxReply bounds the answer of a postdrop.
const maxReply = 64 << 10

// Replies reads the answer of postdrop(1): Hello, then Status.
type Replies struct {
	in   *bufio.Reader
	attr map[string]string
}

// NewReplies reads from r.
func NewReplies(r io.Reader) *Replies {
	return &Replies{in: bufio.NewReader(io.LimitReader(r, maxReply)), attr: map[string]string{}}
}

// Hello waits until there is a file, and gives its queue id.
func (r *Replies) Hello() (string, error) {
	err := r.group()
	if err != nil || r.attr["protocol"] != protocol {
		return "", ErrReply
	}
	return r.attr["queue_id"], nil
}

// Status waits for the end.
func (r *Replies) Status() (Reply, error) {
	if err := r.group(); err != nil {
		return Reply{}, ErrReply
	}
	status, err := strconv.Atoi(r.attr["status"])
	if err != nil {
		return Reply{}, ErrReply
	}
	return Reply{QueueID: r.attr["queue_id"], Status: Status(status), Reason: r.attr["reason"]}, nil
}

// group reads names and values up to an empty name.
func (r *Replies) group() error {
	for {
		name, err := r.in.ReadString(0)
		if err != nil || name == "\x00" {
			return err
		}
		value, err := r.in.ReadString(0)
		if err != nil {
			return err
		}
		r.attr[strings.TrimSuffix(name, "\x00")] = strings.TrimSuffix(value, "\x00")
	}
}
