package table

import (
	"context"
	"net/netip"
	"strings"

	"posthaste/internal/mail/addr"
)

// Transport looks an address up in the order of transport(5): the address
// with and without extension, the domain, and its parents, which match as
// "example.com" when s.Keys has ParentDomains and as ".example.com" when not.
// The wild card "*" is the caller's next question (Wildcard), because other
// tables come between. a must have a domain.
func (m *Maps) Transport(ctx context.Context, a addr.Address, s Search) (Match, bool, error) {
	parents := s.Keys & ParentDomains
	if parents == 0 {
		parents = DotDomains
	}
	s.Keys = transportKeys | parents
	return m.Address(ctx, a, s)
}

// Wildcard looks "*" up, the last key of transport(5).
func (m *Maps) Wildcard(ctx context.Context) (value string, found bool, err error) {
	return m.find(ctx, "*", wholeKey)
}

// AccessDomain looks a host or domain name up in the order of access(5),
// "HOST NAME/ADDRESS PATTERNS": the name, then its parents. A name that is an
// address is tried whole only. parents is ParentDomains or DotDomains.
func (m *Maps) AccessDomain(ctx context.Context, name string, parents Keys) (Match, bool, error) {
	return m.accessDomain(ctx, name, parents, wholeKey)
}

func (m *Maps) accessDomain(ctx context.Context, name string, parents Keys, kind keyKind) (Match, bool, error) {
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		parents = 0
	}
	f := finder{maps: m, ctx: ctx}
	if f.domain(name, parents, kind) {
		return f.match, true, nil
	}
	return Match{}, false, f.err
}

// AccessHostAddress looks an IP address up in the order of access(5): the
// address, then the networks that are left when its last part is cut off at
// "." or ":", again and again.
func (m *Maps) AccessHostAddress(ctx context.Context, ip string) (Match, bool, error) {
	delimiter := "."
	if strings.Contains(ip, ":") {
		delimiter = ":"
	}
	f := finder{maps: m, ctx: ctx}
	kind := wholeKey
	for {
		if f.key(ip, kind) {
			return f.match, true, nil
		}
		cut := strings.LastIndex(ip, delimiter)
		if f.err != nil || cut < 0 {
			return Match{}, false, f.err
		}
		ip, kind = ip[:cut], partialKey
	}
}

// AccessAddress looks a mail address up in the order of access(5), "EMAIL
// ADDRESS PATTERNS": user+ext@domain, user@domain, the domain and its parents,
// user+ext@, user@. s.Keys is ParentDomains or DotDomains.
func (m *Maps) AccessAddress(ctx context.Context, a addr.Address, s Search) (Match, bool, error) {
	local, domain, hasDomain := a.Split()
	user, ext := s.split(local)
	f := finder{maps: m, ctx: ctx}
	at := ""
	if hasDomain {
		at = "@" + domain
	}
	if f.address(local, at, wholeKey) || (ext != "" && f.address(user, at, partialKey)) {
		return f.match, true, nil
	}
	if f.err != nil {
		return Match{}, false, f.err
	}
	if hasDomain {
		match, found, err := m.accessDomain(ctx, domain, s.Keys&(ParentDomains|DotDomains), partialKey)
		if found || err != nil {
			return match, found, err
		}
	}
	if f.address(local, "@", partialKey) || (ext != "" && f.address(user, "@", partialKey)) {
		return f.match, true, nil
	}
	return Match{}, false, f.err
}

// MatchesSubdomains reports whether parent_domain_matches_subdomains lists the
// feature, such as "smtpd_access_maps", and returns the Keys for it.
func MatchesSubdomains(list, feature string) Keys {
	for _, item := range SplitList(list) {
		if strings.EqualFold(item, feature) {
			return ParentDomains
		}
	}
	return DotDomains
}
