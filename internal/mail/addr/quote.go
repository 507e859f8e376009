package addr

import "strings"

// specials822 are the characters that make a local part need quotes in a
// header (RFC 5322 §3.2.3, without "." which has its own rules).
const specials822 = "()<>@,;:\\\"[]"

// IsDotString reports whether a local part needs no quotes in RFC 5322 form:
// atoms separated by single dots. 8-bit text counts as atom text (RFC 6531).
func IsDotString(local string) bool {
	if local == "" || local[0] == '.' || local[len(local)-1] == '.' {
		return false
	}
	for i := 0; i < len(local); i++ {
		c := local[i]
		if c <= ' ' || c == 0x7f || strings.IndexByte(specials822, c) >= 0 {
			return false
		}
		if c == '.' && local[i+1] == '.' {
			return false
		}
	}
	return true
}

// QuoteLocal is a local part as headers, tables and logs show it: in quotes
// unless it is a dot-string.
func QuoteLocal(local string) string {
	if IsDotString(local) {
		return local
	}
	return quoteText(local)
}

func quoteText(text string) string {
	var b strings.Builder
	b.Grow(len(text) + 2)
	b.WriteByte('"')
	for i := 0; i < len(text); i++ {
		if c := text[i]; c == '"' || c == '\\' || c == '\r' || c == '\n' {
			b.WriteByte('\\')
		}
		b.WriteByte(text[i])
	}
	b.WriteByte('"')
	return b.String()
}

// QuoteLocalSMTP is a local part as it travels in SMTP commands (RFC 5321
// §4.1.2 Local-part). It differs from QuoteLocal in nothing that both allow;
// quotes hold only what may be sent.
func QuoteLocalSMTP(local string) string { return QuoteLocal(local) }

// External is the address with its local part quoted where RFC 5322 wants it;
// the null address is "".
func (a Address) External() string {
	if a == "" {
		return ""
	}
	local, domain, has := a.Split()
	if !has {
		return QuoteLocal(local)
	}
	return QuoteLocal(local) + "@" + domain
}

// Unquote reads the RFC 5322 or RFC 5321 form of one bare address, without
// angle brackets, comments or white space between its parts. What is not
// properly quoted is taken as it is.
func Unquote(text string) Address {
	if strings.IndexByte(text, '"') < 0 && strings.IndexByte(text, '\\') < 0 {
		return Address(text)
	}
	at := lastUnquotedAt(text)
	if at < 0 {
		return Address(unquoteText(text))
	}
	return Address(unquoteText(text[:at]) + text[at:])
}

// lastUnquotedAt is the index of the last "@" outside of quotes, or -1.
func lastUnquotedAt(text string) int {
	at, quoted := -1, false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			quoted = !quoted
		case '@':
			if !quoted {
				at = i
			}
		}
	}
	return at
}

// unquoteText drops quotes, and backslashes that quote something.
func unquoteText(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			continue
		case '\\':
			i++
			if i == len(text) {
				return b.String()
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
