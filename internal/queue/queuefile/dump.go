package queuefile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"posthaste/internal/mail/rfc822"
)

// Show selects what Dump writes (postcat(1)).
type Show uint8

// Parts and additions, each a bit.
const (
	ShowEnvelope Show = 1 << iota // -e
	ShowHeader                    // -h
	ShowBody                      // -b
	ShowOffset                    // -o
	ShowType                      // -d
	ShowRaw                       // -r: do not follow pointers
	ShowLabels                    // -v: name the type of content records, too
)

// ErrNotQueueFile is given for a file that does not begin as one.
var ErrNotQueueFile = errors.New("input is not a valid queue file")

// labels are the names of record types in a dump.
var labels = map[byte]string{
	Size: "message_size", Time: "message_arrival_time", CreateTime: "queue_file_create_time", FullName: "sender_fullname",
	Inspector: "content_inspector", From: "sender", Done: "done_recipient", Rcpt: "recipient", OrigRcpt: "original_recipient",
	Cancelled: "canceled_recipient", Warn: "warning_message_time", Attr: "named_attribute", Killed: "killed_record", Redirect: "redirect_to",
	Flags: "cleanup_flags", Delay: "cleanup_delay", Norm: "regular_text", Padding: "padding", ReturnRcpt: "return_receipt_to",
	ErrorsTo: "errors_to", Priority: "priority", Pointer: "pointer_record", Verp: "verp_delimiters", DSNRet: "dsn_return_flags",
	DSNEnvID: "dsn_envelope_id", DSNOrcpt: "dsn_original_recipient", DSNNotify: "dsn_notify_flags", MilterCount: "milter_recipient_count",
}

// beginnings are the types that a queue file may begin with.
const beginnings = "MCTcFILSDRO/WVA>K<ion"

// DumpOptions are for Dump.
type DumpOptions struct {
	Name   string // in the headings
	Offset int64  // where to begin
	Show   Show
	Zone   *time.Location // of times; nil: the local one
}

// dump is one Dump under way.
type dump struct {
	DumpOptions
	out  *bufio.Writer
	part Show // which part the reading is in
	last byte // type of the record before
	text bool // an unterminated text was written
}

// Dump writes a queue file as postcat(1) does.
func Dump(w io.Writer, src io.ReaderAt, o DumpOptions) error {
	var first [1]byte
	if n, _ := src.ReadAt(first[:], 0); n > 0 && !strings.Contains(beginnings, string(first[:])) {
		return ErrNotQueueFile
	}
	if o.Zone == nil {
		o.Zone = time.Local
	}
	d := &dump{DumpOptions: o, out: bufio.NewWriter(w), part: ShowEnvelope}
	if o.Offset == 0 && o.Show&ShowEnvelope != 0 {
		fmt.Fprintf(d.out, "*** ENVELOPE RECORDS %s ***\n", o.Name)
	}
	r := NewReader(src, o.Offset)
	defer r.Close()
	r.Raw = o.Show&ShowRaw != 0
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return d.out.Flush()
		}
		if err != nil {
			return errors.Join(err, d.out.Flush())
		}
		d.record(rec)
		if rec.Type == End && !r.Raw {
			return d.out.Flush()
		}
	}
}

func (d *dump) record(rec Record) {
	if rec.Type == Padding && d.Show&ShowRaw == 0 {
		return
	}
	isText := rec.Type == Norm || rec.Type == Cont && d.part != ShowEnvelope
	visible := d.part
	switch {
	case rec.Type == Message:
		visible, d.part = ShowEnvelope, ShowHeader
	case rec.Type == Extra:
		visible, d.part = ShowEnvelope, ShowEnvelope
	case isText && d.part == ShowHeader && d.last != Cont && !isHeader(rec.Data):
		visible, d.part = ShowBody, ShowBody
	}
	d.last = 0
	if isText {
		d.last = rec.Type
	}
	if d.Show&visible == 0 {
		return
	}
	if d.text && !isText {
		d.out.WriteByte('\n')
	}
	if !d.text || !isText {
		d.prefix(rec)
	}
	d.text = false
	if isText {
		d.content(rec)
		return
	}
	d.envelope(rec)
}

// isHeader tells a header line from the begin of a body.
func isHeader(line []byte) bool {
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
		return true
	}
	name, _ := rfc822.FieldName(line)
	return name > 0
}

func (d *dump) prefix(rec Record) {
	if d.Show&ShowOffset != 0 {
		fmt.Fprintf(d.out, "%9d ", rec.Offset)
	}
	if d.Show&ShowType != 0 {
		fmt.Fprintf(d.out, "%3d ", rec.Type)
	}
}

func (d *dump) content(rec Record) {
	if d.Show&ShowLabels != 0 {
		label := "regular_text: "
		if rec.Type == Cont {
			label = "unterminated_text: "
		}
		d.out.WriteString(label)
	}
	d.out.Write(rec.Data)
	if rec.Type == Norm || d.Show&ShowLabels != 0 {
		d.out.WriteByte('\n')
		return
	}
	d.text = true
}

func (d *dump) envelope(rec Record) {
	text := string(rec.Data)
	switch rec.Type {
	case Message:
		fmt.Fprintf(d.out, "*** MESSAGE CONTENTS %s ***\n", d.Name)
	case Extra:
		fmt.Fprintf(d.out, "*** HEADER EXTRACTED %s ***\n", d.Name)
	case End:
		fmt.Fprintf(d.out, "*** MESSAGE FILE END %s ***\n", d.Name)
	case Time, Warn, CreateTime:
		d.time(labels[rec.Type], text)
	case Filter:
		fmt.Fprintf(d.out, "content_filter: %s\n", text)
	case Attr:
		if value, ok := strings.CutPrefix(text, "create_time="); ok {
			d.time("create_time", value)
			return
		}
		fallthrough
	default:
		label := labels[rec.Type]
		if label == "" {
			label = "unknown_record_type"
		}
		fmt.Fprintf(d.out, "%s: %s\n", label, text)
	}
}

func (d *dump) time(label, text string) {
	seconds, _, _ := strings.Cut(strings.TrimLeft(text, " "), " ")
	n, _ := number([]byte(seconds))
	fmt.Fprintf(d.out, "%s: %s\n", label, time.Unix(n, 0).In(d.Zone).Format(time.ANSIC))
}
