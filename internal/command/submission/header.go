package submission

import (
	"bytes"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/rfc822"
)

// header collects the recipients that a message names (sendmail -t): To, Cc
// and Bcc, or their Resent- forms when there is any of these.
type header struct {
	limit  int // bytes of one field that are looked at
	tokens int
	done   bool
	line   []byte // the line so far
	field  []byte // the field so far
	plain  []addr.Address
	resent []addr.Address
}

// piece takes a piece of a line; ends tells that the line ends with it.
func (h *header) piece(text []byte, ends bool) {
	if h.done {
		return
	}
	if room := h.limit - len(h.line); room > 0 {
		h.line = append(h.line, text[:min(len(text), room)]...)
	}
	if ends {
		h.endLine()
	}
}

func (h *header) endLine() {
	line := h.line
	switch {
	case len(line) > 0 && (line[0] == ' ' || line[0] == '\t') && len(h.field) > 0:
		if room := h.limit - len(h.field); room > 0 {
			h.field = append(append(h.field, '\n'), line[:min(len(line), room)]...)
		}
	case isField(line):
		h.endField()
		h.field = append(h.field, line...)
	default:
		h.endField()
		h.done = true
	}
	h.line = h.line[:0]
}

func isField(line []byte) bool {
	name, _ := rfc822.FieldName(line)
	return name > 0
}

// endField takes the addresses of a complete field.
func (h *header) endField() {
	name, value := rfc822.FieldName(h.field)
	if name > 0 {
		to := h.list(bytes.ToLower(h.field[:name]))
		if to != nil {
			for _, box := range addr.ParseList(string(h.field[value:]), h.tokens).Mailboxes() {
				*to = append(*to, box.Address())
			}
		}
	}
	h.field = h.field[:0]
}

func (h *header) list(name []byte) *[]addr.Address {
	switch string(name) {
	case "to", "cc", "bcc":
		return &h.plain
	case "resent-to", "resent-cc", "resent-bcc":
		return &h.resent
	}
	return nil
}

// recipients ends the header, and gives what was found.
func (h *header) recipients() []addr.Address {
	if !h.done {
		if len(h.line) > 0 {
			h.endLine()
		}
		h.endField()
		h.done = true
	}
	if len(h.resent) > 0 {
		return h.resent
	}
	return h.plain
}
