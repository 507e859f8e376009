package addr

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
)

// Limits of RFC 1035 §2.3.4.
const (
	maxHostname = 255
	maxLabel    = 63
)

// ValidHostname reports whether name can be a host or domain name: labels of
// letters, digits, "-" and "_", not all numeric, without empty labels or a
// trailing dot. Labels beyond ASCII are accepted when they convert (IDNA).
func ValidHostname(name string) bool {
	if !isASCII(name) {
		ascii, err := ToASCII(name)
		if err != nil {
			return false
		}
		name = ascii
	}
	if name == "" || len(name) > maxHostname {
		return false
	}
	numeric := true
	for label := range strings.SplitSeq(name, ".") {
		if !validLabel(label) {
			return false
		}
		if strings.Trim(label, "0123456789") != "" {
			numeric = false
		}
	}
	return !numeric
}

func validLabel(label string) bool {
	if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := 0; i < len(label); i++ {
		c := label[i] | 0x20
		if (c < 'a' || c > 'z') && (label[i] < '0' || label[i] > '9') && label[i] != '-' && label[i] != '_' {
			return false
		}
	}
	return true
}

// ValidHostaddr reports whether text is an IPv4 or IPv6 address without
// brackets, prefix or zone.
func ValidHostaddr(text string) bool {
	ip, err := netip.ParseAddr(text)
	return err == nil && ip.Zone() == ""
}

// ParseLiteral reads a domain literal, "[192.0.2.1]" or "[IPv6:2001:db8::1]"
// (RFC 5321 §4.1.3).
func ParseLiteral(domain string) (netip.Addr, bool) {
	if len(domain) < 2 || domain[0] != '[' || domain[len(domain)-1] != ']' {
		return netip.Addr{}, false
	}
	text := domain[1 : len(domain)-1]
	v6 := hasPrefixFold(text, "IPv6:")
	if v6 {
		text = text[len("IPv6:"):]
	}
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Zone() != "" || ip.Is6() != v6 {
		return netip.Addr{}, false
	}
	return ip, true
}

// ValidMailhost reports whether text may follow "@": a host name or a literal.
func ValidMailhost(text string) bool {
	if strings.HasPrefix(text, "[") {
		_, ok := ParseLiteral(text)
		return ok
	}
	return ValidHostname(text)
}

// ToASCII converts a domain to its A-label form for DNS and for peers without
// SMTPUTF8 (RFC 5890, UTS 46 non-transitional). ASCII names only lose nothing:
// they are returned unchanged, underscores and all.
func ToASCII(domain string) (string, error) {
	if isASCII(domain) {
		return domain, nil
	}
	return idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false),
		idna.StrictDomainName(false), idna.VerifyDNSLength(true)).ToASCII(domain)
}

// ToUnicode converts A-labels to U-labels, for comparing and for showing; a
// name that is no valid IDN is returned unchanged with an error.
func ToUnicode(domain string) (string, error) {
	if isASCII(domain) && !strings.Contains(strings.ToLower(domain), "xn--") {
		return domain, nil
	}
	text, err := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false),
		idna.StrictDomainName(false)).ToUnicode(domain)
	if err != nil {
		return domain, err
	}
	return text, nil
}

// Fold folds case so that two spellings of one address or domain compare
// equal: ASCII quickly, other text by Unicode's full case folding.
func Fold(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	return cases.Fold().String(s)
}

// IsASCII reports whether the address needs no SMTPUTF8.
func (a Address) IsASCII() bool { return isASCII(string(a)) }

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
