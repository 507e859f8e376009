package addr

import "fmt"

// HostnameGripe says, in the words of Postfix's log, why an ASCII name cannot
// be that of a host ("misplaced hyphen: a-.example"), or "" when it can.
func HostnameGripe(name string) string {
	if name == "" {
		return "empty hostname"
	}
	short := name[:min(len(name), 100)]
	label, numeric := 0, true
	for i := 0; i < len(name); i++ {
		c := name[i]
		atEnd := i+1 == len(name)
		switch {
		case c >= '0' && c <= '9', c == '_', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			numeric = numeric && c <= '9'
			if label++; label > maxLabel {
				return "hostname label too long: " + short
			}
		case c == '.':
			if label == 0 || atEnd {
				return "misplaced delimiter: " + short
			}
			label = 0
		case c == '-':
			numeric = false
			if label++; label == 1 || atEnd || name[i+1] == '.' {
				return "misplaced hyphen: " + short
			}
		default:
			return fmt.Sprintf("invalid character %d(decimal): %s", c, short)
		}
	}
	switch {
	case numeric:
		return "numeric hostname: " + short
	case len(name) > maxHostname:
		return fmt.Sprintf("bad length %d for %s...", len(name), short)
	}
	return ""
}
