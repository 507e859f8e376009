// Package rfc822 is the Internet message format: header fields, dates,
// message IDs, and a machine that walks through a message with its MIME parts
// without ever holding more than one header field of it.
//
// It refuses nothing: each byte of a message has a meaning, if only "body
// text". Memory is bounded by the limits that it is given. Callers are
// cleanup, the SMTP client and bounce.
package rfc822

import "bytes"

// Known is a header field that the mail system has an interest in.
type Known uint8

// The known fields; None is every other.
const (
	None Known = iota
	ApparentlyTo
	Bcc
	Cc
	ContentDescription
	ContentDisposition
	ContentID
	ContentLength
	ContentTransferEncoding
	ContentType
	Date
	DeliveredTo
	DispositionNotificationTo
	ErrorsTo
	From
	MailFollowupTo
	MessageID
	MIMEVersion
	Received
	ReplyTo
	ResentBcc
	ResentCc
	ResentDate
	ResentFrom
	ResentMessageID
	ResentReplyTo
	ResentSender
	ResentTo
	ReturnPath
	ReturnReceiptTo
	Sender
	To
)

// Trait says what a known field is about.
type Trait uint8

// Traits of known fields.
const (
	SenderAddress    Trait = 1 << iota // holds sender addresses
	RecipientAddress                   // holds recipient addresses
	Resent                             // one of the Resent- fields
)

var fields = [...]struct {
	name   string
	traits Trait
}{
	ApparentlyTo:              {"Apparently-To", RecipientAddress},
	Bcc:                       {"Bcc", RecipientAddress},
	Cc:                        {"Cc", RecipientAddress},
	ContentDescription:        {"Content-Description", 0},
	ContentDisposition:        {"Content-Disposition", 0},
	ContentID:                 {"Content-ID", 0},
	ContentLength:             {"Content-Length", 0},
	ContentTransferEncoding:   {"Content-Transfer-Encoding", 0},
	ContentType:               {"Content-Type", 0},
	Date:                      {"Date", 0},
	DeliveredTo:               {"Delivered-To", 0},
	DispositionNotificationTo: {"Disposition-Notification-To", SenderAddress},
	ErrorsTo:                  {"Errors-To", SenderAddress},
	From:                      {"From", SenderAddress},
	MailFollowupTo:            {"Mail-Followup-To", SenderAddress},
	MessageID:                 {"Message-Id", 0},
	MIMEVersion:               {"MIME-Version", 0},
	Received:                  {"Received", 0},
	ReplyTo:                   {"Reply-To", SenderAddress},
	ResentBcc:                 {"Resent-Bcc", RecipientAddress | Resent},
	ResentCc:                  {"Resent-Cc", RecipientAddress | Resent},
	ResentDate:                {"Resent-Date", Resent},
	ResentFrom:                {"Resent-From", SenderAddress | Resent},
	ResentMessageID:           {"Resent-Message-Id", Resent},
	ResentReplyTo:             {"Resent-Reply-To", RecipientAddress | Resent},
	ResentSender:              {"Resent-Sender", SenderAddress | Resent},
	ResentTo:                  {"Resent-To", RecipientAddress | Resent},
	ReturnPath:                {"Return-Path", SenderAddress},
	ReturnReceiptTo:           {"Return-Receipt-To", SenderAddress},
	Sender:                    {"Sender", SenderAddress},
	To:                        {"To", RecipientAddress},
}

// Name is the field's name in its usual spelling, "" for None.
func (k Known) Name() string { return fields[k].name }

// Has reports whether the field has one of the traits.
func (k Known) Has(t Trait) bool { return fields[k].traits&t != 0 }

// isMIME reports the fields of RFC 2045.
func (k Known) isMIME() bool {
	switch k {
	case ContentDescription, ContentDisposition, ContentID, ContentTransferEncoding, ContentType, MIMEVersion:
		return true
	}
	return false
}

// Lookup finds a field by name, without regard to case.
func Lookup(name []byte) Known {
	if len(name) < 2 || len(name) > len("Disposition-Notification-To") {
		return None
	}
	for k := Known(1); int(k) < len(fields); k++ {
		if len(fields[k].name) == len(name) && name[0]|0x20 == fields[k].name[0]|0x20 && equalFold(name, fields[k].name) {
			return k
		}
	}
	return None
}

// equalFold compares ASCII text without regard to case; both are equally long.
func equalFold(a []byte, b string) bool {
	for i := range a {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}

// FieldName returns the length of the field name at the beginning of a line
// and the index of the value behind its colon; 0, 0 if it is no header line.
// White space between name and colon is accepted (RFC 5322 §4.5).
func FieldName(line []byte) (name, value int) {
	for i, c := range line {
		switch {
		case c == ':':
			if name == 0 {
				name = i
			}
			if name == 0 {
				return 0, 0
			}
			return name, i + 1
		case c == ' ' || c == '\t':
			if i == 0 {
				return 0, 0
			}
			if name == 0 {
				name = i
			}
		case c < 33 || c > 126 || name != 0:
			return 0, 0
		}
	}
	return 0, 0
}

// IsField reports whether text begins with a header field name and a colon.
func IsField(text string) bool {
	name, _ := FieldName([]byte(text))
	return name > 0
}

// Value is the value of a header field as the log and the rules about it see
// it: what follows the colon, without white space around it.
func Value(field []byte) []byte {
	_, value := FieldName(field)
	return bytes.Trim(field[value:], " \t\r\n")
}

// foldWidth is where a rewritten address list goes on in the next line.
const foldWidth = 70

// FoldList joins a field name and the pieces of an address list to lines of
// up to 70 characters, as far as the pieces allow. Lines are separated by LF
// and continue with a tab.
func FoldList(name string, pieces []string) []byte {
	out := append(append(make([]byte, 0, 256), name...), ": "...)
	start := 0
	for i, piece := range pieces {
		if i > 0 {
			if len(out)-start+1+len(piece) < foldWidth {
				out = append(out, ' ')
			} else {
				start = len(out) + 1
				out = append(out, "\n\t"...)
				start++
			}
		}
		out = append(out, piece...)
	}
	return out
}
