package smtpproto

import (
	"strings"

	"posthaste/internal/mail/dsn"
)

// AddFooter adds the lines of a footer to those of a refusal (postconf(5)
// smtpd_reject_footer): "\c" at its start goes on with the last line, "\n"
// starts another one. Each line gets the enhanced code of the reply.
func AddFooter(lines []string, footer string) []string {
	if len(lines) == 0 {
		return nil
	}
	enhanced, _ := dsn.SplitEnhanced(lines[len(lines)-1])
	if enhanced != "" {
		enhanced += " "
	}
	lines = append([]string(nil), lines...)
	parts := strings.Split(footer, `\n`)
	if rest, joined := strings.CutPrefix(parts[0], `\c`); joined {
		lines[len(lines)-1] += rest
		parts = parts[1:]
	}
	for _, part := range parts {
		lines = append(lines, enhanced+strings.TrimLeft(part, " \t"))
	}
	return lines
}

// ExpandFooter replaces $name, ${name} and $(name) in a footer template; "$$"
// is a "$". unknown is the first name that has no value; there is no text
// then.
func ExpandFooter(template string, value func(name string) (string, bool)) (text, unknown string) {
	var b strings.Builder
	for i := 0; i < len(template); {
		if template[i] != '$' {
			b.WriteByte(template[i])
			i++
			continue
		}
		name, next := footerName(template, i+1)
		i = next
		if name == "" {
			b.WriteByte('$')
			continue
		}
		v, found := value(name)
		if !found {
			return "", name
		}
		b.WriteString(v)
	}
	return b.String(), ""
}

// footerName reads the name behind a "$"; "" for none.
func footerName(s string, i int) (name string, next int) {
	if i < len(s) && s[i] == '$' {
		return "", i + 1
	}
	for _, pair := range []string{"{}", "()"} {
		if i < len(s) && s[i] == pair[0] {
			if end := strings.IndexByte(s[i:], pair[1]); end > 0 {
				return s[i+1 : i+end], i + end + 1
			}
		}
	}
	end := i
	for end < len(s) && (s[end] == '_' || s[end]|0x20 >= 'a' && s[end]|0x20 <= 'z' || s[end] >= '0' && s[end] <= '9') {
		end++
	}
	return s[i:end], end
}
