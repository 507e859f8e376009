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
	if c.EmptySender == "" {
		c.EmptySender = "MAILER-DAEMON"
	}
	out := bufio.NewWriterSize(w, 32<<10)
	var line []byte
	err := store.Scan(ctx, queue.Filter{Recipients: true}, func(s queue.Summary) error {
		line = appendMessage(line[:0], &s, c)
		_, err := out.Write(line)
		return err
	})
	return errors.Join(err, out.Flush())
}

// appendMessage writes the members in Postfix's order and with its blanks.
func appendMessage(b []byte, s *queue.Summary, c Config) []byte {
	b = fmt.Appendf(b, `{"queue_name": "%s", "queue_id": "%s", "arrival_time": %d, "message_size": %d, "forced_expire": %t, "sender": `,
		s.Queue, s.ID, max(0, s.Arrival.Unix()), s.Size, s.ForceExpire)
	b = appendText(b, c.external(s.Sender))
	b = append(b, `, "recipients": [`...)
	for i, r := range s.Recipients {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, `{"orig_address": `...)
		b = appendText(b, r.Original.External())
		b = append(b, `, "address": `...)
		b = appendText(b, c.external(r.Address))
		if r.Reason != "" {
			b = append(b, `, "`...)
			b = append(b, map[bool]string{false: "delay", true: "bounce"}[r.Failed]...)
			b = append(b, `_reason": `...)
			b = appendText(b, r.Reason)
		}
		b = append(b, '}')
	}
	return append(b, "]}\n"...)
}

func (c Config) external(a addr.Address) string {
	if a == "" {
		return c.EmptySender
	}
	return a.External()
}

// appendText writes a JSON string.
func appendText(b []byte, text string) []byte {
	b = append(b, '"')
	for _, r := range maillog.Printable(text) {
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
	out := bufio.NewWriterSize(w, 32<<10)
	count, sum := 0, int64(0)
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), maxLine)
	for in.Scan() {
		var m Message
		if err := json.Unmarshal(in.Bytes(), &m); err != nil {
			return errors.Join(ErrFormat, out.Flush())
		}
		if count == 0 {
			out.WriteString(s.header())
		}
		s.message(out, &m)
		count++
		sum += m.Size
	}
	if count == 0 {
		out.WriteString("Mail queue is empty\n")
	} else {
		plural := "s"
		if count == 1 {
			plural = ""
		}
		fmt.Fprintf(out, "-- %d Kbytes in %d Request%s.\n", sum/1024, count, plural)
	}
	return errors.Join(in.Err(), out.Flush())
}

func (s Style) header() string {
	if s.Long {
		return "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
	}
	return "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
}

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
		if reason != "" && reason != last {
			fmt.Fprintf(out, "%*s(%s)\n", max(0, reasonWidth-len(reason)), "", reason)
			last = reason
		}
		out.WriteString(indent + r.Address + "\n")
	}
	out.WriteByte('\n')
}
