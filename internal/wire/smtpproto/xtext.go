package smtpproto

import (
	"strings"

	"posthaste/internal/mail/envelope"
)

const upperHex = "0123456789ABCDEF"

// EncodeXtext writes s as xtext (RFC 3461 §4).
func EncodeXtext(s string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && c != '+' && c != '=' }
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('+')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// DecodeXtext reads xtext; ErrSyntax for a "+" without two hex digits, and
// for NUL, encoded or not, which has no place in any of our texts. Other bytes
// outside the grammar pass.
func DecodeXtext(s string) (string, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return "", ErrSyntax
	}
	if strings.IndexByte(s, '+') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", ErrSyntax
		}
		high, ok1 := hexDigit(s[i+1])
		low, ok2 := hexDigit(s[i+2])
		if !ok1 || !ok2 || high|low == 0 {
			return "", ErrSyntax
		}
		b.WriteByte(high<<4 | low)
		i += 2
	}
	return b.String(), nil
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// notifyNames in the order in which they are written.
var notifyNames = [...]struct {
	name string
	bit  envelope.Notify
}{
	{"NEVER", envelope.NotifyNever},
	{"SUCCESS", envelope.NotifySuccess},
	{"FAILURE", envelope.NotifyFailure},
	{"DELAY", envelope.NotifyDelay},
}

// ParseNotify reads the value of NOTIFY (RFC 3461 §4.1); ErrSyntax for an
// unknown word, for none, and for NEVER together with another.
func ParseNotify(value string) (envelope.Notify, error) {
	var set envelope.Notify
	for word := range strings.SplitSeq(value, ",") {
		bit := envelope.Notify(0)
		for _, n := range notifyNames {
			if strings.EqualFold(word, n.name) {
				bit = n.bit
			}
		}
		if bit == 0 {
			return 0, ErrSyntax
		}
		set |= bit
	}
	if set&envelope.NotifyNever != 0 && set != envelope.NotifyNever {
		return 0, ErrSyntax
	}
	return set, nil
}

// FormatNotify writes the value of NOTIFY; "" for the zero set.
func FormatNotify(set envelope.Notify) string {
	var words []string
	for _, n := range notifyNames {
		if set&n.bit != 0 {
			words = append(words, n.name)
		}
	}
	return strings.Join(words, ",")
}

// ParseReturn reads the value of RET (RFC 3461 §4.3).
func ParseReturn(value string) (envelope.Return, error) {
	switch {
	case strings.EqualFold(value, "FULL"):
		return envelope.ReturnFull, nil
	case strings.EqualFold(value, "HDRS"):
		return envelope.ReturnHeaders, nil
	}
	return 0, ErrSyntax
}

// FormatReturn writes the value of RET; "" when none was given.
func FormatReturn(r envelope.Return) string {
	switch r {
	case envelope.ReturnFull:
		return "FULL"
	case envelope.ReturnHeaders:
		return "HDRS"
	}
	return ""
}
