// Package showq is showq(8) and the listings of postqueue(1): one message of
// the queue is one line of JSON, as of "postqueue -j", and the traditional
// listing is made from those lines.
//
// The running mail system serves the lines on the socket public/showq; when
// it is down, the superuser's postqueue makes them from the queue directory.
// Text of others (addresses, reasons) is made printable before it is sent.
//
// Callers: master (Serve), the postqueue, mailq and sendmail commands.
package showq

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"posthaste/internal/mail/addr"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
)

// Config is for Write.
type Config struct {
	EmptySender string `param:"empty_address_recipient"` // shown for the null sender
}

// Message is one line (postqueue(1) JSON OBJECT FORMAT).
type Message struct {
	Queue       string      `json:"queue_name"`
	ID          string      `json:"queue_id"`
	Arrival     int64       `json:"arrival_time"` // seconds since 1970
	Size        int64       `json:"message_size"`
	ForceExpire bool        `json:"forced_expire"`
	Sender      string      `json:"sender"`
	Recipients  []Recipient `json:"recipients"`
}

// Recipient is one that was not delivered to yet.
type Recipient struct {
	Original     string `json:"orig_address"`
	Address      string `json:"address"`
	DelayReason  string `json:"delay_reason,omitempty"`
	BounceReason string `json:"bounce_reason,omitempty"`
}

// Write lists a store, a line for each message.
func Write(ctx context.Context, w io.Writer, store queue.Store, c Config) error {
	out := bufio.NewWriterSize(w, 32<<10)
	var line []byte
	err := each(ctx, store, c, func(m *Message) error {
		line = appendMessage(line[:0], m)
		_, err := out.Write(line)
		return err
	})
	return errors.Join(err, out.Flush())
}

// List makes the traditional listing of a store.
func List(ctx context.Context, w io.Writer, store queue.Store, c Config, s Style) error {
	l := listing{style: s, out: bufio.NewWriterSize(w, 32<<10)}
	err := each(ctx, store, c, func(m *Message) error {
		l.message(m)
		return nil
	})
	return errors.Join(err, l.end())
}

func each(ctx context.Context, store queue.Store, c Config, fn func(*Message) error) error {
	if c.EmptySender == "" {
		c.EmptySender = "MAILER-DAEMON"
	}
	return store.Scan(ctx, queue.Filter{Recipients: true}, func(s queue.Summary) error {
		m := c.message(&s)
		return fn(&m)
	})
}

// message takes what is shown, made printable.
func (c Config) message(s *queue.Summary) Message {
	m := Message{Queue: string(s.Queue), ID: string(s.ID), Arrival: max(0, s.Arrival.Unix()), Size: s.Size, ForceExpire: s.ForceExpire,
		Sender: c.external(s.Sender), Recipients: make([]Recipient, len(s.Recipients))}
	for i, from := range s.Recipients {
		r := &m.Recipients[i]
		r.Original, r.Address = maillog.Printable(from.Original.External()), c.external(from.Address)
		if reason := strings.TrimRight(maillog.Printable(from.Reason), " "); from.Failed {
			r.BounceReason = reason
		} else {
			r.DelayReason = reason
		}
	}
	return m
}

// appendMessage writes the members in Postfix's order and with its blanks.
func appendMessage(b []byte, m *Message) []byte {
	b = fmt.Appendf(b, `{"queue_name": "%s", "queue_id": "%s", "arrival_time": %d, "message_size": %d, "forced_expire": %t, "sender": `,
		m.Queue, m.ID, m.Arrival, m.Size, m.ForceExpire)
	b = append(appendText(b, m.Sender), `, "recipients": [`...)
	for i, r := range m.Recipients {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendText(append(b, `{"orig_address": `...), r.Original)
		b = appendText(append(b, `, "address": `...), r.Address)
		if r.DelayReason != "" {
			b = appendText(append(b, `, "delay_reason": `...), r.DelayReason)
		}
		if r.BounceReason != "" {
			b = appendText(append(b, `, "bounce_reason": `...), r.BounceReason)
		}
		b = append(b, '}')
	}
	return append(b, "]}\n"...)
}

func (c Config) external(a addr.Address) string {
	if a == "" {
		return c.EmptySender
	}
	return maillog.Printable(a.External())
}

// appendText writes a JSON string; text is printable.
func appendText(b []byte, text string) []byte {
	b = append(b, '"')
	for _, r := range text {
		if r == '"' || r == '\\' {
			b = append(b, '\\')
		}
		b = utf8.AppendRune(b, r)
	}
	return append(b, '"')
}

// maxLine bounds one line: a message with a million recipients still fits.
const maxLine = 256 << 20

// ErrFormat is given for a line that is not a Message.
var ErrFormat = errors.New("malformed showq server response")

// Copy passes lines on as they are, for -j.
func Copy(w io.Writer, r io.Reader) error {
	_, err := io.Copy(w, r)
	return err
}

// Style is the layout of a traditional listing.
type Style struct {
	Long bool           // for long queue ids
	Zone *time.Location // of arrival times
}

// Format makes the traditional listing of the lines in r.
func Format(w io.Writer, r io.Reader, s Style) error {
	l := listing{style: s, out: bufio.NewWriterSize(w, 32<<10)}
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), maxLine)
	for in.Scan() {
		var m Message
		if err := json.Unmarshal(in.Bytes(), &m); err != nil {
			return errors.Join(ErrFormat, l.out.Flush())
		}
		l.message(&m)
	}
	return errors.Join(in.Err(), l.end())
}

// listing is a traditional listing being written.
type listing struct {
	style Style
	out   *bufio.Writer
	count int
	sum   int64
}

func (l *listing) message(m *Message) {
	if l.count == 0 {
		l.out.WriteString(l.style.header())
	}
	l.style.message(l.out, m)
	l.count++
	l.sum += m.Size
}

func (l *listing) end() error {
	if l.count == 0 {
		l.out.WriteString("Mail queue is empty\n")
		return l.out.Flush()
	}
	plural := "s"
	if l.count == 1 {
		plural = ""
	}
	fmt.Fprintf(l.out, "-- %d Kbytes in %d Request%s.\n", l.sum/1024, l.count, plural)
	return l.out.Flush()
}

func (s Style) header() string {
	if s.Long {
		return "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
	}
	return "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
}

// noReason is for a recipient without a reason behind one that has one.
const noReason = "reason unavailable"

// reasonWidth is where reasons end, when they are short enough.
const reasonWidth = 76

func (s Style) message(out *bufio.Writer, m *Message) {
	id := m.ID
	switch m.Queue {
	case "active":
		id += "*"
	case "hold":
		id += "!"
	}
	if m.ForceExpire {
		id += "#"
	}
	zone := s.Zone
	if zone == nil {
		zone = time.Local
	}
	arrival := time.Unix(m.Arrival, 0).In(zone).Format(time.ANSIC)
	if s.Long {
		fmt.Fprintf(out, "%-17s %8d %.19s %s\n", id, m.Size, arrival, m.Sender)
	} else {
		fmt.Fprintf(out, "%-11s %7d %.20s %s\n", id, m.Size, arrival, m.Sender)
	}
	indent := strings.Repeat(" ", map[bool]int{false: 41, true: 47}[s.Long])
	last := ""
	for _, r := range m.Recipients {
		reason := r.DelayReason + r.BounceReason
		if reason == "" && last != "" {
			reason = noReason
		}
		if reason != last {
			fmt.Fprintf(out, "%*s(%s)\n", max(0, reasonWidth-len(reason)), "", reason)
			last = reason
		}
		out.WriteString(indent + r.Address + "\n")
	}
	out.WriteByte('\n')
}
