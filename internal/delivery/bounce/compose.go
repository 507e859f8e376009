package bounce

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr"
	"posthaste/internal/queue"
)

// dateFormat is RFC 5322 §3.3 with the zone name that Postfix adds.
const dateFormat = "Mon, 02 Jan 2006 15:04:05 -0700 (MST)"

// errNobody cancels a report that nobody who asked for one is in.
var errNobody = errors.New("bounce: no recipient wants this report")

// report is one report message on its way out.
type report struct {
	svc        *Service
	notice     *qmgr.Notice
	template   *Template
	results    []qmgr.Result // those to be told about
	to         addr.Address
	postmaster bool // a copy for the postmaster
	headers    bool // return no more than the header
	now        time.Time
	boundary   string
	encoding   string // Content-Transfer-Encoding, "" for none
	utf8       bool
}

// compose writes the message with the given queue ID.
func (r *report) compose(id queue.ID, out io.Writer) error {
	w := bufio.NewWriterSize(out, 16<<10)
	r.header(w, id)
	if len(r.results) == 0 {
		return errors.Join(errNobody, w.Flush())
	}
	if err := r.explanation(w); err != nil {
		return err
	}
	r.status(w)
	if err := r.original(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n--%s--\n", r.boundary)
	return w.Flush()
}

func (r *report) header(w *bufio.Writer, id queue.ID) {
	c := &r.svc.cfg
	subject, submitted := r.template.Subject, "auto-replied"
	if r.postmaster {
		submitted = "auto-generated"
		if r.template.PostmasterSubject != "" {
			subject = r.template.PostmasterSubject
		}
	}
	r.svc.trace(w, id, r.now)
	fmt.Fprintf(w, "From: %s\nSubject: %s\nTo: %s\n", r.template.From, subject, clean(r.to.External()))
	if c.Threaded {
		if ref := messageID(r.notice.Open()); ref != "" {
			fmt.Fprintf(w, "References: %s\nIn-Reply-To: %s\n", ref, ref)
		}
	}
	fmt.Fprintf(w, "Auto-Submitted: %s\nMIME-Version: 1.0\n", submitted)
	fmt.Fprintf(w, "Content-Type: multipart/report; report-type=delivery-status;\n\tboundary=\"%s\"\n", r.boundary)
	r.writeEncoding(w)
	w.WriteString("\nThis is a MIME-encapsulated message.\n")
}

func (r *report) writeEncoding(w *bufio.Writer) {
	if r.encoding != "" {
		w.WriteString("Content-Transfer-Encoding: " + r.encoding + "\n")
	}
}

func (r *report) part(w *bufio.Writer, description, contentType string) {
	fmt.Fprintf(w, "\n--%s\nContent-Description: %s\nContent-Type: %s\n", r.boundary, description, contentType)
}

// explanation is the part for people: the template and a line per recipient.
func (r *report) explanation(w *bufio.Writer) error {
	charset := r.template.Charset
	if r.svc.cfg.SMTPUTF8 && strings.EqualFold(charset, "us-ascii") {
		charset = "utf-8"
	}
	r.part(w, "Notification", "text/plain; charset="+charset)
	r.writeEncoding(w)
	w.WriteString("\n")
	if !r.postmaster {
		lines, err := r.svc.text(r.template)
		if err != nil {
			return err
		}
		for _, line := range lines {
			w.WriteString(line + "\n")
		}
	}
	for _, one := range r.results {
		rcpt := one.Recipient
		line := "<" + rcpt.Address.External() + ">"
		if rcpt.Original != "" && !strings.EqualFold(string(rcpt.Original), string(rcpt.Address)) {
			line += " (expanded from <" + rcpt.Original.External() + ">)"
		}
		w.WriteString("\n")
		wrap(w, "", clean(line+": "+r.reason(one)), wrapWidth)
	}
	return nil
}

// reason is the explanation; reports on success tell the way, too.
func (r *report) reason(one qmgr.Result) string {
	trace := r.notice.Kind == qmgr.NoticeSuccess || r.notice.Kind == qmgr.NoticeVerify
	if trace && one.Relay != "" && one.Relay != "none" {
		return "delivery via " + one.Relay + ": " + one.Status.Text()
	}
	return one.Status.Text()
}

// status is the part for machines (RFC 3464, RFC 6533).
func (r *report) status(w *bufio.Writer) {
	e, name := r.notice.Envelope, r.svc.cfg.MailName
	if r.utf8 {
		r.part(w, "Delivery report", "message/global-delivery-status")
		r.writeEncoding(w)
	} else {
		r.part(w, "Delivery report", "message/delivery-status")
	}
	fmt.Fprintf(w, "\nReporting-MTA: dns; %s\n", r.svc.cfg.MyHostname)
	if e.EnvID != "" {
		fmt.Fprintf(w, "Original-Envelope-Id: %s\n", clean(e.EnvID))
	}
	fmt.Fprintf(w, "X-%s-Queue-ID: %s\n", name, r.notice.ID)
	sender := r.sender()
	fmt.Fprintf(w, "X-%s-Sender: %s; %s\n", name, r.addressType(sender), clean(sender.External()))
	if !e.Arrival.IsZero() {
		fmt.Fprintf(w, "Arrival-Date: %s\n", e.Arrival.Format(dateFormat))
	}
	for _, one := range r.results {
		r.recipientStatus(w, one)
	}
}

func (r *report) recipientStatus(w *bufio.Writer, one qmgr.Result) {
	rcpt, remote := one.Recipient, one.Status.Remote
	fmt.Fprintf(w, "\nFinal-Recipient: %s; %s\n", r.addressType(rcpt.Address), clean(rcpt.Address.External()))
	switch {
	case rcpt.ORCPT != "":
		fmt.Fprintf(w, "Original-Recipient: %s\n", clean(rcpt.ORCPT))
	case rcpt.Original != "":
		fmt.Fprintf(w, "Original-Recipient: %s; %s\n", r.addressType(rcpt.Original), clean(rcpt.Original.External()))
	}
	fmt.Fprintf(w, "Action: %s\nStatus: %s\n", one.Action, one.Status.Enhanced())
	if remote.MTA != "" {
		fmt.Fprintf(w, "Remote-MTA: dns; %s\n", clean(remote.MTA))
	}
	if remote.DiagType != "" && remote.Diag != "" {
		wrap(w, "", "Diagnostic-Code: "+remote.DiagType+"; "+clean(remote.Diag), wrapWidth)
	} else {
		wrap(w, "", "Diagnostic-Code: X-"+r.svc.cfg.MailName+"; "+clean(r.reason(one)), wrapWidth)
	}
	if r.notice.Kind == qmgr.NoticeDelay {
		fmt.Fprintf(w, "Will-Retry-Until: %s\n", r.notice.Envelope.Arrival.Add(r.svc.cfg.MaxLifetime).Format(dateFormat))
	}
}

// sender is the sender of the message, the mail daemon for the null sender.
func (r *report) sender() addr.Address {
	if a := r.notice.Envelope.Sender; a != "" {
		return a
	}
	return addr.Address("MAILER-DAEMON@" + r.svc.cfg.MyHostname)
}

// addressType is the type of RFC 3461 or, in SMTPUTF8 mail, of RFC 6533.
func (r *report) addressType(a addr.Address) string {
	if r.utf8 && !a.IsASCII() {
		return "utf-8"
	}
	return "rfc822"
}

// original returns the message or its header, at most bounce_size_limit bytes.
func (r *report) original(w *bufio.Writer) error {
	limit := int64(r.svc.cfg.SizeLimit)
	headers := r.headers || limit > 0 && r.notice.Size > limit
	description := "Message"
	if r.notice.Kind == qmgr.NoticeFailure || r.notice.Kind == qmgr.NoticeDelay {
		description = "Undelivered Message"
	}
	contentType := map[bool]string{false: "message/rfc822", true: "message/global"}[r.utf8]
	if headers {
		description += " Headers"
		contentType = map[bool]string{false: "text/rfc822-headers", true: "message/global-headers"}[r.utf8]
	}
	r.part(w, description, contentType)
	r.writeEncoding(w)
	fmt.Fprintf(w, "\nReturn-Path: <%s>\n", clean(r.sender().External()))
	content := bufio.NewReaderSize(r.notice.Open(), 16<<10)
	if headers {
		return copyHeader(w, content, limit)
	}
	return copyAll(w, content)
}

// copyHeader copies lines up to the first that belongs to no header, and no
// more than limit bytes (0 is no limit).
func copyHeader(w *bufio.Writer, content *bufio.Reader, limit int64) error {
	var size int64
	start := true
	for {
		part, err := content.ReadSlice('\n')
		if len(part) > 0 && start && !headerLine(part) {
			return nil
		}
		if size += int64(len(part)); limit > 0 && size > limit && start {
			return nil
		}
		w.Write(part)
		start = err == nil
		switch {
		case err == io.EOF:
			return endLine(w, part)
		case err != nil && err != bufio.ErrBufferFull:
			return err
		}
	}
}

// headerLine reports whether a line can be of a header: a label with a colon,
// or a continuation.
func headerLine(line []byte) bool {
	if line[0] == ' ' || line[0] == '\t' {
		return true
	}
	for i, c := range line {
		if c == ':' {
			return i > 0
		}
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(line) >= 4096 // the colon may come behind what is buffered
}

func copyAll(w *bufio.Writer, content *bufio.Reader) error {
	var last []byte
	for {
		part, err := content.ReadSlice('\n')
		w.Write(part)
		if len(part) > 0 {
			last = append(last[:0], part[len(part)-1])
		}
		switch {
		case err == io.EOF:
			return endLine(w, last)
		case err != nil && err != bufio.ErrBufferFull:
			return err
		}
	}
}

func endLine(w *bufio.Writer, last []byte) error {
	if len(last) > 0 && last[len(last)-1] != '\n' {
		w.WriteByte('\n')
	}
	return nil
}

// maxThreadSearch bounds the header that is searched for a Message-ID.
const maxThreadSearch = 256 << 10

// messageID is the Message-ID of a message, or "".
func messageID(content io.Reader) string {
	lines := bufio.NewReader(io.LimitReader(content, maxThreadSearch))
	value, found := "", false
	for {
		line, err := lines.ReadString('\n')
		label, rest, ok := strings.Cut(line, ":")
		switch {
		case found && line != "" && (line[0] == ' ' || line[0] == '\t'):
			value += line
		case found || strings.TrimRight(line, "\r\n") == "":
			return singleID(value)
		case ok && strings.EqualFold(strings.TrimRight(label, " \t"), "message-id"):
			value, found = rest, true
		}
		if err != nil {
			return singleID(value)
		}
	}
}

// singleID is the message ID in a header value, or "" for anything else: it is
// put into a header of ours.
func singleID(value string) string {
	value = strings.TrimSpace(value)
	if len(value) > 500 || !strings.HasPrefix(value, "<") || !strings.HasSuffix(value, ">") || strings.ContainsAny(value, " \t\r\n") {
		return ""
	}
	return clean(value)
}

// clean makes text from outside fit into one line.
func clean(text string) string {
	if strings.IndexFunc(text, control) < 0 {
		return text
	}
	return strings.Map(func(r rune) rune {
		if control(r) {
			return '?'
		}
		return r
	}, text)
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// bodyEncoding is the Content-Transfer-Encoding of a report: text of ours may
// be UTF-8, and returned content is what it was declared as.
func bodyEncoding(smtputf8 bool, declared envelope.Encoding) string {
	switch {
	case smtputf8 || declared == envelope.Encoding8bit:
		return "8bit"
	case declared == envelope.Encoding7bit:
		return "7bit"
	}
	return ""
}
