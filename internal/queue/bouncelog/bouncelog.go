// Package bouncelog reads and writes the log files of delivery trouble that
// lie beside queue files, in Postfix's format: defer/ID has why recipients
// wait, bounce/ID has final failures that no report was sent for yet.
//
// An entry is a line for human eyes, then name=value lines, then an empty
// line. Readers accept any bytes: what does not look like an entry is passed
// over, as the log is not what mail is lost by.
//
// Callers: spool, bounce.
package bouncelog

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/sys/maillog"
)

// Entry is the answer about one recipient.
type Entry struct {
	envelope.Recipient
	Offset int64 // of its record in the queue file, 0 if unknown
	Status dsn.Status
	Action string // "delayed", "failed", "delivered" ... (RFC 3464 §2.3.3)
}

// Append adds an entry to b.
func Append(b []byte, e Entry) []byte {
	recipient := maillog.Printable(e.Address.External())
	reason := maillog.Printable(e.Status.Text())
	b = append(b, "\n<"+recipient+">: "+reason+"\n"...)
	attr := func(name, value string) {
		b = append(b, name+"="+maillog.Printable(value)+"\n"...)
	}
	attr("recipient", recipient)
	if e.Original != "" && !strings.EqualFold(string(e.Original), string(e.Address)) {
		attr("original_recipient", e.Original.External())
	}
	if e.Offset > 0 {
		attr("offset", strconv.FormatInt(e.Offset, 10))
	}
	if e.ORCPT != "" {
		attr("dsn_orig_rcpt", e.ORCPT)
	}
	if e.Notify != 0 {
		attr("notify_flags", strconv.Itoa(int(e.Notify)))
	}
	attr("status", e.Status.Enhanced())
	attr("action", e.Action)
	if r := e.Status.Remote; r.Diag != "" {
		attr("diag_type", r.DiagType)
		attr("diag_text", r.Diag)
	}
	if mta := e.Status.Remote.MTA; mta != "" {
		attr("mta_type", "dns")
		attr("mta_mname", mta)
	}
	attr("reason", reason)
	return append(b, '\n')
}

// maxEntries bounds what one hostile log may cost.
const maxEntries = 1 << 20

// maxLine is the longest line that is looked at; the rest of a longer one is
// passed over.
const maxLine = 64 << 10

// Read calls fn for each entry, oldest first, until it returns false. An error
// is one of r.
func Read(r io.Reader, fn func(Entry) bool) error {
	in := bufio.NewReaderSize(r, 4096)
	var d draft
	for n := 0; n < maxEntries; {
		line, err := readLine(in)
		if err != nil && err != io.EOF {
			return err
		}
		if line != "" {
			d.line(line)
		}
		if (line == "" || err == io.EOF) && d.begun {
			n++
			if !fn(d.entry()) {
				return nil
			}
			d = draft{}
		}
		if err == io.EOF {
			return nil
		}
	}
	return nil
}

func readLine(in *bufio.Reader) (string, error) {
	var text []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(text) < maxLine {
			text = append(text, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return strings.TrimRight(string(text), "\n"), err
	}
}

// draft is an entry whose end was not seen yet.
type draft struct {
	Entry
	begun          bool
	status, reason string
	remote         dsn.Remote
}

func (d *draft) line(line string) {
	if strings.HasPrefix(line, "<") {
		if head, text, ok := strings.Cut(line, ">: "); ok {
			d.begun = true
			d.Address, d.reason = addr.Unquote(head[1:]), text
		}
		return
	}
	name, value, ok := strings.Cut(line, "=")
	if !ok {
		return
	}
	value = strings.TrimRight(value, " ")
	switch name {
	case "recipient":
		d.Address, d.begun = addr.Unquote(value), true
	case "original_recipient":
		d.Original = addr.Unquote(value)
	case "offset":
		d.Offset, _ = strconv.ParseInt(value, 10, 64)
	case "dsn_orig_rcpt":
		d.ORCPT = value
	case "notify_flags":
		n, _ := strconv.Atoi(value)
		d.Notify = envelope.Notify(n & 15)
	case "status":
		d.status = value
	case "action":
		d.Action = value
	case "diag_type":
		d.remote.DiagType = value
	case "diag_text":
		d.remote.Diag = value
	case "mta_mname":
		d.remote.MTA = value
	case "reason":
		d.reason = value
	}
}

func (d *draft) entry() Entry {
	if d.status == "" {
		d.status = "4.0.0"
		if d.Action == "failed" {
			d.status = "5.0.0"
		}
	}
	d.Status = dsn.FromEnhanced(d.status, d.reason).WithRemote(d.remote)
	return d.Entry
}
