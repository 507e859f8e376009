package addr

import "fmt"

// HostaddrGripe says, in the words of Postfix's log, why text cannot be an
// IPv4 address ("invalid octet value: 192.0.2.256"), or "" when it can.
func HostaddrGripe(text string) string {
	if text == "" {
		return "empty address"
	}
	short := text[:min(len(text), 100)]
	octets, digits, value := 0, 0, 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c >= '0' && c <= '9':
			if digits == 0 {
				octets, value = octets+1, 0
			}
			digits++
			if value = value*10 + int(c-'0'); value > 255 {
				return "invalid octet value: " + short
			}
		case c == '.':
			if digits == 0 || i+1 == len(text) {
				return "misplaced dot: " + short
			}
			if octets == 1 && value == 0 {
				return "bad initial octet value: " + short
			}
			digits = 0
		default:
			return fmt.Sprintf("invalid character %d(decimal): %s", c, short)
		}
	}
	if octets != 4 {
		return "invalid octet count: " + short
	}
	return ""
}

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
