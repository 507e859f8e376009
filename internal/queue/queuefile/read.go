package queuefile

import (
	"io"
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
)

// Layout is what is to be known of a file besides its envelope.
type Layout struct {
	Size SizeRecord
	Place
	Content int64 // offset of the first content record
	End     int64 // offset behind all records
	Warned  bool  // there is a W record and the warning was sent
	Traced  bool  // the trace attribute was killed
}

// maxRecipients bounds the memory that one hostile file may take.
const maxRecipients = 1 << 20

type envelopeRecord struct {
	typ    byte
	text   string
	offset int64 // of the record
	start  int64 // of its data
}

// parser collects an envelope; attributes of the next recipient wait in next.
type parser struct {
	env    *envelope.Envelope
	layout *Layout
	next   envelope.Recipient
	sender bool
}

// Read reads the envelope of a complete queue file. It skips the content by
// its recorded size, so that large mail costs no more than small mail. Every
// error but those of src is ErrFormat: the file is damaged.
func Read(src io.ReaderAt) (*envelope.Envelope, *Layout, error) {
	r := NewReader(src, 0)
	defer r.Close()
	p := &parser{env: &envelope.Envelope{}, layout: &Layout{}}
	rec, err := r.Next()
	if err != nil {
		return nil, nil, cutOff(r, err)
	}
	size, ok := parseSize(rec.Data)
	if rec.Type != Size || !ok {
		return nil, nil, damaged(0, "no size record")
	}
	p.layout.Size = size
	if err := p.segment(r, Message); err != nil {
		return nil, nil, err
	}
	p.layout.Content = r.Offset()
	if size.DataOffset != r.Offset() {
		return nil, nil, damaged(r.Offset(), "content is said to begin at %d", size.DataOffset)
	}
	r.Goto(size.DataOffset + size.Data)
	rec, err = r.Next()
	if err != nil {
		return nil, nil, cutOff(r, err)
	}
	if rec.Type != Extra {
		return nil, nil, damaged(rec.Offset, "record %q where the content should end", rec.Type)
	}
	if err := p.segment(r, End); err != nil {
		return nil, nil, err
	}
	p.layout.End = r.high
	if !p.sender {
		return nil, nil, damaged(r.Offset(), "no sender")
	}
	p.env.SMTPUTF8 = size.Options&optSMTPUTF8 != 0
	p.finish()
	return p.env, p.layout, nil
}

func cutOff(r *Reader, err error) error {
	if err == io.EOF {
		return damaged(r.Offset(), "file ends early")
	}
	return err
}

// segment reads envelope records until one of type last.
func (p *parser) segment(r *Reader, last byte) error {
	for {
		rec, err := r.Next()
		if err != nil {
			return cutOff(r, err)
		}
		if rec.Type == last {
			return nil
		}
		if err := p.record(rec); err != nil {
			return err
		}
	}
}

func (p *parser) record(rec Record) error {
	e := &envelopeRecord{typ: rec.Type, text: string(rec.Data), offset: rec.Offset, start: rec.Offset + headerSize(len(rec.Data))}
	switch rec.Type {
	case From:
		if p.sender {
			return damaged(rec.Offset, "second sender")
		}
		p.sender = true
		if err := checkAddress(e); err != nil {
			return err
		}
		return SetText(p.env, e.typ, e.text)
	case Rcpt, Done, Cancelled:
		return p.recipient(e)
	case OrigRcpt:
		p.next.Original = addr.Address(e.text)
		return checkAddress(e)
	case DSNOrcpt:
		p.next.ORCPT = e.text
	case DSNNotify:
		p.next.Notify = notifyOf(e.text)
	case Warn:
		n, _ := number(rec.Data)
		p.layout.Warn, p.layout.Warned = e.start, n == 0
		if len(rec.Data) != warnWidth {
			p.layout.Warn = 0
		}
	case Attr:
		if strings.HasPrefix(e.text, "trace_flags=") {
			p.layout.Trace = e.offset
		}
		SetAttr(p.env, &p.next, e.text)
	case Killed:
		if name, _, _ := strings.Cut(e.text, "="); name == "trace_flags" {
			p.layout.Traced = true
		}
	case Message, Norm, Extra, End:
		return damaged(rec.Offset, "record %q in an envelope", rec.Type)
	default:
		return SetText(p.env, e.typ, e.text)
	}
	return nil
}

func notifyOf(text string) envelope.Notify {
	n, _ := number([]byte(text))
	return envelope.Notify(n & 15)
}

func (p *parser) recipient(e *envelopeRecord) error {
	if err := checkAddress(e); err != nil {
		return err
	}
	next := p.next
	p.next = envelope.Recipient{}
	if e.typ == Cancelled {
		return nil
	}
	if len(p.env.Recipients) >= maxRecipients {
		return damaged(e.offset, "more than %d recipients", maxRecipients)
	}
	next.Address = addr.Address(e.text)
	p.env.Recipients = append(p.env.Recipients, next)
	p.layout.Recipients = append(p.layout.Recipients, Mark{Offset: e.offset, Done: e.typ == Done})
	return nil
}

// checkAddress refuses line breaks and NUL: an address becomes part of a mbox
// line and of log files.
func checkAddress(e *envelopeRecord) error {
	if strings.ContainsAny(e.text, "\r\n\x00") {
		return damaged(e.offset, "control character in an address")
	}
	return nil
}

// finish fills in what a file does not tell directly.
func (p *parser) finish() {
	p.env.Inject = "pickup"
	if p.env.Client.Name != "" {
		p.env.Inject = "smtpd"
	}
}

// ReadDrop reads what a file of the maildrop directory says about sender and
// recipients, for a listing: no content, no other checks than of the format.
// Files that postsuper -r put there are ordinary queue files.
func ReadDrop(src io.ReaderAt) (*envelope.Envelope, error) {
	r := NewReader(src, 0)
	defer r.Close()
	p := &parser{env: &envelope.Envelope{}, layout: &Layout{}}
	for {
		rec, err := r.Next()
		if err != nil {
			return nil, cutOff(r, err)
		}
		switch rec.Type {
		case Message:
			if n := p.layout.Size.Data; n > 0 {
				r.Goto(r.Offset() + n)
				continue
			}
			if err := skipContent(r); err != nil {
				return nil, err
			}
		case Size:
			p.layout.Size, _ = parseSize(rec.Data)
		case Extra:
		case End:
			if !p.sender {
				return nil, damaged(rec.Offset, "no sender")
			}
			return p.env, nil
		default:
			if err := p.record(rec); err != nil {
				return nil, err
			}
		}
	}
}

func skipContent(r *Reader) error {
	for {
		rec, err := r.Next()
		if err != nil {
			return cutOff(r, err)
		}
		switch rec.Type {
		case Extra:
			return nil
		case Norm, Cont, Padding:
		default:
			return damaged(rec.Offset, "record %q in the content", rec.Type)
		}
	}
}
