package macro

import (
	"strconv"
	"strings"
)

// Unescape replaces \t, \40 and the like, as smtpd_expansion_filter has them.
func Unescape(text string) string {
	const letters, values = "abfnrtv", "\a\b\f\n\r\t\v"
	var out []byte
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			out = append(out, text[i])
			continue
		}
		i++
		if at := strings.IndexByte(letters, text[i]); at >= 0 {
			out = append(out, values[at])
			continue
		}
		end := i
		for end < len(text) && end < i+3 && text[end] >= '0' && text[end] <= '7' {
			end++
		}
		if n, err := strconv.ParseUint(text[i:end], 8, 8); err == nil {
			out = append(out, byte(n))
			i = end - 1
			continue
		}
		out = append(out, text[i])
	}
	return string(out)
}
