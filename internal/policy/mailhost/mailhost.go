// Package mailhost says what DNS knows about the host names and domains that
// clients give: whether they exist, and whether they take mail.
//
// DNS trouble is never a "no". The texts are those of Postfix's log and
// replies, which programs match on. Package restrict uses it.
package mailhost

import (
	"context"
	"errors"

	"posthaste/internal/sys/dns"
)

// Existence is what DNS says about a name.
type Existence uint8

const (
	Exists    Existence = iota
	Missing             // no such name, or no such record
	Unknown             // DNS trouble: ask again later
	NullMX              // takes no mail (RFC 7505)
	Malformed           // a reply that makes no sense
)

// Definite reports whether err is a "no" and not trouble.
func Definite(err error) bool {
	return errors.Is(err, dns.ErrNoHost) || errors.Is(err, dns.ErrNoData) || errors.Is(err, dns.ErrInvalid)
}

// asked is the state after one of several lookups about a name: trouble with
// one does not count when another finds something.
func (x Existence) asked(err error) Existence {
	switch {
	case err == nil:
		return Exists
	case !Definite(err):
		return Unknown
	case x == Unknown:
		return x
	}
	return Missing
}

// Host looks for A, AAAA and MX records of a name in A-label form, as
// reject_unknown_helo_hostname does (postconf(5)).
func Host(ctx context.Context, r dns.Resolver, name string) Existence {
	x := addresses(ctx, r, name, Missing)
	if x != Exists {
		_, _, err := r.MX(ctx, name)
		x = x.asked(err)
	}
	return x
}

// Domain looks for MX, A and AAAA records of a name in A-label form, as
// reject_unknown_sender_domain does (postconf(5)).
func Domain(ctx context.Context, r dns.Resolver, name string) Existence {
	mx, _, err := r.MX(ctx, name)
	switch {
	case IsNullMX(mx):
		return NullMX
	case errors.Is(err, dns.ErrInvalid):
		return Malformed
	case err == nil:
		return Exists
	}
	return addresses(ctx, r, name, Missing.asked(err))
}

func addresses(ctx context.Context, r dns.Resolver, name string, x Existence) Existence {
	_, _, err := r.A(ctx, name)
	if x = x.asked(err); x != Exists {
		_, _, err = r.AAAA(ctx, name)
		x = x.asked(err)
	}
	return x
}

// IsNullMX recognizes a domain that takes no mail (RFC 7505).
func IsNullMX(mx []dns.MX) bool {
	return len(mx) == 1 && (mx[0].Host == "" || mx[0].Host == ".")
}

// DNSText is a DNS failure in the words of hstrerror(3).
func DNSText(err error) string {
	switch {
	case errors.Is(err, dns.ErrNoHost):
		return "Host not found"
	case errors.Is(err, dns.ErrNoData):
		return "Host found but no data record of requested type"
	case errors.Is(err, dns.ErrInvalid):
		return "Malformed or unexpected name server reply"
	}
	return "Host not found, try again"
}

// HostText is a failed host lookup in the words of gai_strerror(3).
func HostText(err error) string {
	switch {
	case errors.Is(err, dns.ErrNoHost), errors.Is(err, dns.ErrInvalid):
		return "Name or service not known"
	case errors.Is(err, dns.ErrNoData):
		return "No address associated with hostname"
	}
	return "Temporary failure in name resolution"
}
