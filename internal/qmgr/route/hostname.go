package route

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// literal reads an address literal "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC
// 5321 §4.1.3).
func literal(domain string) (netip.Addr, bool) {
	n := len(domain)
	if n < 2 || domain[0] != '[' || domain[n-1] != ']' {
		return netip.Addr{}, false
	}
	text := domain[1 : n-1]
	const tag = "ipv6:"
	v6 := len(text) >= len(tag) && strings.EqualFold(text[:len(tag)], tag)
	if v6 {
		text = text[len(tag):]
	}
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Zone() != "" || ip.Is4() == v6 {
		return netip.Addr{}, false
	}
	return ip, true
}

const (
	maxLabel    = 63  // RFC 1035 §2.3.4
	maxHostname = 255 // RFC 1035 §2.3.4
)

// validHostname reports whether name has the form of a host name: labels of
// letters, digits, "_" and inner "-", and not all digits (a bare address is
// not a name). With utf8ok, U-labels are measured as A-labels.
func validHostname(name string, utf8ok bool) bool {
	if strings.IndexFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
		if !utf8ok || !utf8.ValidString(name) {
			return false
		}
		ascii, err := idna.New(idna.MapForLookup(), idna.StrictDomainName(false)).ToASCII(name)
		if err != nil {
			return false
		}
		name = ascii
	}
	if name == "" || len(name) > maxHostname {
		return false
	}
	nonNumeric := false
	for _, label := range strings.Split(name, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			switch c := label[i]; {
			case c >= '0' && c <= '9':
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '-':
				nonNumeric = true
			default:
				return false
			}
		}
	}
	return nonNumeric
}
