package greylist

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"posthaste/internal/mail/addr"
)

// SPF says whether a client may send for a domain (RFC 7208).
type SPF interface {
	// Authorized answers for the MAIL FROM address, or the HELO name when that
	// is null: the domain that was asked about, and what it says.
	Authorized(ctx context.Context, ip netip.Addr, sender, helo string) (domain string, r SPFResult)
}

// SPFResult is what of SPF matters here.
type SPFResult uint8

const (
	SPFUnknown SPFResult = iota // no answer now
	SPFNone                     // the domain says nothing about this client
	SPFPass
	SPFFail // fail or softfail
)

// Provider is by what, besides its network, a client is recognised when it
// tries again.
type Provider uint8

const (
	BySPF Provider = 1 << iota // a domain whose SPF record authorises it
	ByPTR                      // the registered domain of its verified name
)

// ParseProviders reads a list of "spf" and "ptr".
func ParseProviders(words []string) (Provider, error) {
	var p Provider
	for _, word := range words {
		switch strings.ToLower(word) {
		case "spf":
			p |= BySPF
		case "ptr":
			p |= ByPTR
		default:
			return 0, fmt.Errorf("unknown provider %q: expected spf or ptr", word)
		}
	}
	return p, nil
}

// Sign is something that makes a client suspicious.
type Sign struct {
	Name string // "ptr", "generic_ptr", "helo", "spf_fail", "no_spf", "dnsbl", "no_dnswl"
	Zone string // of a DNS list
}

// ParseSigns reads a list of signs: names, and "dnsbl:zone", "no_dnswl:zone".
func ParseSigns(words []string) ([]Sign, error) {
	var signs []Sign
	for _, word := range words {
		name, zone, _ := strings.Cut(word, ":")
		name = strings.ToLower(name)
		switch name {
		case "ptr", "generic_ptr", "helo", "spf_fail", "no_spf":
			if zone != "" {
				return nil, fmt.Errorf("sign %q takes no argument", word)
			}
		case "dnsbl", "no_dnswl":
			if zone == "" {
				return nil, fmt.Errorf("sign %q needs a DNS list: %s:domain", word, name)
			}
		default:
			return nil, fmt.Errorf("unknown sign %q: expected ptr, generic_ptr, helo, spf_fail, no_spf, dnsbl:domain or no_dnswl:domain", word)
		}
		signs = append(signs, Sign{name, zone})
	}
	return signs, nil
}

// examination is what is found out about a client, at most once each.
type examination struct {
	*check
	asked  bool
	domain string
	spf    SPFResult
}

func (c *check) examine() *examination { return &examination{check: c} }

func (x *examination) authorized() (string, SPFResult) {
	if !x.asked && x.deps.SPF != nil {
		x.asked = true
		x.domain, x.spf = x.deps.SPF.Authorized(x.ctx, x.ip, x.r.Sender, x.r.Helo)
	}
	return x.domain, x.spf
}

// unsuspicious reports that none of the signs shows. Without signs, everybody
// is suspicious.
func (x *examination) unsuspicious(signs []Sign) bool {
	for _, s := range signs {
		if x.shows(s) {
			return false
		}
	}
	return len(signs) > 0
}

// shows reports whether a client shows a sign. What cannot be found out now is
// no sign.
func (x *examination) shows(s Sign) bool {
	switch s.Name {
	case "ptr":
		return x.r.ClientName == "" || x.r.ClientName == "unknown"
	case "generic_ptr":
		return isGeneric(x.r.ClientName, x.ip)
	case "helo":
		return badHelo(x.r.Helo, x.ip)
	case "spf_fail":
		_, r := x.authorized()
		return r == SPFFail
	case "no_spf":
		_, r := x.authorized()
		return r == SPFFail || r == SPFNone
	case "dnsbl":
		return x.deps.Listed != nil && x.deps.Listed(x.ctx, s.Zone, x.ip)
	case "no_dnswl":
		return x.deps.Listed == nil || !x.deps.Listed(x.ctx, s.Zone, x.ip)
	}
	return false
}

// providers are the names under which other addresses of the same provider
// are found.
func (x *examination) providers() []string {
	var names []string
	if x.set.Providers&BySPF != 0 {
		if domain, r := x.authorized(); r == SPFPass && domain != "" {
			names = append(names, "spf:"+strings.ToLower(domain))
		}
	}
	if x.set.Providers&ByPTR != 0 && !isGeneric(x.r.ClientName, x.ip) {
		name := strings.ToLower(strings.TrimSuffix(x.r.ClientName, "."))
		if domain, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil && name != "unknown" && domain != name {
			names = append(names, "ptr:"+domain)
		}
	}
	return names
}

// isGeneric reports a host name made of the address, as access providers give
// them to their customers: with two or more of its last octets in it.
func isGeneric(name string, ip netip.Addr) bool {
	if !ip.Is4() {
		return false
	}
	words := map[string]bool{}
	for _, word := range strings.FieldsFunc(name, func(r rune) bool { return r < '0' || r > '9' }) {
		words[strings.TrimLeft(word, "0")] = true
		for len(word) == 12 || len(word) == 6 || len(word) == 9 { // 192000002001
			words[strings.TrimLeft(word[:3], "0")] = true
			word = word[3:]
		}
	}
	found := 0
	octets := ip.As4()
	for i, octet := range octets {
		if !slices.Contains(octets[:i], octet) && words[strings.TrimLeft(itoa(int64(octet)), "0")] {
			found++
		}
	}
	return found >= 2 || strings.Contains(strings.ToLower(name), fmt.Sprintf("%02x%02x%02x%02x", octets[0], octets[1], octets[2], octets[3]))
}

// badHelo reports a greeting that no mail server sends: no full host name, or
// the address of somebody else.
func badHelo(helo string, ip netip.Addr) bool {
	if literal, ok := addr.ParseLiteral(helo); ok {
		return literal.Unmap() != ip
	}
	if _, err := netip.ParseAddr(helo); err == nil {
		return true
	}
	name := strings.TrimSuffix(helo, ".")
	return !strings.Contains(name, ".") || !addr.ValidHostname(name) || strings.HasSuffix(strings.ToLower(name), ".localdomain")
}
