package rfc822

import "bytes"

// Transfer is a content transfer encoding (RFC 2045 §6).
type Transfer uint8

// Transfer encodings; the zero value is that of text without a header.
const (
	SevenBit Transfer = iota
	EightBit
	Binary
	Base64
	QuotedPrintable
	OtherTransfer
)

var transferNames = [...]string{"7bit", "8bit", "binary", "base64", "quoted-printable", "other"}

// String is the encoding's name in a header.
func (t Transfer) String() string { return transferNames[t] }

// ParseTransfer reads the value of a Content-Transfer-Encoding: field.
func ParseTransfer(value []byte) Transfer {
	p := mimeScanner{rest: value}
	word := p.word()
	for t, name := range transferNames[:OtherTransfer] {
		if len(word) == len(name) && equalFold(word, name) {
			return Transfer(t)
		}
	}
	return OtherTransfer
}

// mediaKind is what matters of a content type.
type mediaKind uint8

const (
	mediaOther mediaKind = iota
	mediaMultipart
	mediaDigest
	mediaMessage // a whole message, with a header of its own
	mediaPartial // another message/ type
)

// parseType reads a Content-Type: value: its kind, and the boundary with at
// most limit bytes; nil if there is none.
func parseType(value []byte, limit int) (mediaKind, []byte) {
	p := mimeScanner{rest: value}
	major := p.word()
	if !p.char('/') {
		return mediaOther, nil
	}
	minor := p.word()
	switch {
	case isWord(major, "message"):
		if isWord(minor, "rfc822") || isWord(minor, "global") || isWord(minor, "external-body") {
			return mediaMessage, nil
		}
		return mediaPartial, nil
	case !isWord(major, "multipart"):
		return mediaOther, nil
	}
	kind := mediaMultipart
	if isWord(minor, "digest") {
		kind = mediaDigest
	}
	return kind, p.boundary(limit)
}

func isWord(word []byte, name string) bool { return len(word) == len(name) && equalFold(word, name) }

// mimeScanner reads tokens of RFC 2045 §5.1.
type mimeScanner struct{ rest []byte }

// boundary looks through the parameters.
func (p *mimeScanner) boundary(limit int) []byte {
	for p.find(';') {
		name := p.word()
		if !isWord(name, "boundary") || !p.char('=') {
			continue
		}
		value := append([]byte(nil), p.word()...)
		return value[:min(len(value), limit)]
	}
	return nil
}

func (p *mimeScanner) space() {
	for len(p.rest) > 0 {
		switch p.rest[0] {
		case ' ', '\t', '\r', '\n':
			p.rest = p.rest[1:]
		case '(':
			p.comment()
		default:
			return
		}
	}
}

func (p *mimeScanner) comment() {
	depth := 0
	for i := 0; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			depth--
			if depth == 0 {
				p.rest = p.rest[i+1:]
				return
			}
		}
	}
	p.rest = nil
}

func (p *mimeScanner) char(c byte) bool {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// find skips to behind the next c outside of quotes.
func (p *mimeScanner) find(c byte) bool {
	for len(p.rest) > 0 {
		p.space()
		if p.char(c) {
			return true
		}
		if len(p.rest) > 0 && len(p.word()) == 0 && len(p.rest) > 0 {
			p.rest = p.rest[1:]
		}
	}
	return false
}

// word is a token or a quoted string without its quotes, maybe empty.
func (p *mimeScanner) word() []byte {
	p.space()
	if len(p.rest) > 0 && p.rest[0] == '"' {
		return p.quoted()
	}
	end := bytes.IndexAny(p.rest, " \t\r\n()<>@,;:\\\"/[]?=")
	if end < 0 {
		end = len(p.rest)
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	return word
}

func (p *mimeScanner) quoted() []byte {
	var out []byte
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '"':
			p.rest = p.rest[i+1:]
			return out
		case '\\':
			if i++; i == len(p.rest) {
				p.rest = nil
				return out
			}
			out = append(out, p.rest[i])
		case '\r', '\n':
		default:
			out = append(out, c)
		}
	}
	p.rest = nil
	return out
}
