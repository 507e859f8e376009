package smtp

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/sys/dns"
	"posthaste/internal/sys/maillog"
)

// host is one address to try.
type host struct {
	name       string
	ip         netip.Addr
	preference uint16
}

// finder turns a domain or host name into addresses to try, best first.
type finder struct {
	config Config
	dns    dns.Resolver
	log    *maillog.Logger
	// own reports whether an address is one of this system's
	// (inet_interfaces, proxy_interfaces).
	own func(netip.Addr) bool
}

// find returns hosts in order, or the status that answers for all recipients.
func (f *finder) find(ctx context.Context, n nexthop, detectLoop bool) ([]host, dsn.Status) {
	if n.bracketed || f.config.DisableDNS {
		hosts, status := f.hostAddresses(ctx, n.host, detectLoop)
		return f.order(hosts), status
	}
	return f.domain(ctx, n.host, detectLoop)
}

// domain follows RFC 5321 §5.1: mail exchangers, else the domain's address.
func (f *finder) domain(ctx context.Context, domain string, detectLoop bool) ([]host, dsn.Status) {
	records, _, err := f.dns.MX(ctx, domain)
	switch {
	case err == nil:
		return f.exchangers(ctx, domain, records, detectLoop)
	case errors.Is(err, dns.ErrNoHost), errors.Is(err, dns.ErrNoData):
	case errors.Is(err, dns.ErrInvalid):
		return nil, invalidReply(domain)
	case f.config.IgnoreMXError:
	default:
		return nil, lookupFailure(domain, "MX", err)
	}
	hosts, status := f.hostAddresses(ctx, domain, detectLoop)
	return f.order(hosts), status
}

// exchangers resolves MX records; those that cannot be used are left out with
// a warning, and only if none is left their trouble is the answer.
func (f *finder) exchangers(ctx context.Context, domain string, records []dns.MX, detectLoop bool) ([]host, dsn.Status) {
	slices.SortStableFunc(records, func(a, b dns.MX) int { return int(a.Preference) - int(b.Preference) })
	if len(records) == 1 && (records[0].Host == "" || records[0].Host == ".") {
		return nil, dsn.Newf(550, "5.1.0", "Domain %s does not accept mail (nullMX)", domain)
	}
	var hosts []host
	var last dsn.Status
	for _, mx := range records {
		if !f.usable(domain, mx.Host) {
			last = invalidReply(domain)
			continue
		}
		found, status := f.addresses(ctx, mx.Host, mx.Preference)
		hosts = append(hosts, found...)
		if !status.IsZero() && !last.Temporary() {
			last = status
		}
	}
	if len(hosts) == 0 {
		if last.Scope == dsn.Site { // lookups failed, as opposed to malformed names
			f.log.Warnf("no MX host for %s has a valid address record", domain)
		}
		if f.config.DeferIfNoMX && last.Permanent() {
			last = last.Soft()
		}
		return nil, last
	}
	best := hosts[0].preference
	if detectLoop {
		if at := slices.IndexFunc(hosts, func(h host) bool { return f.own(h.ip) }); at >= 0 {
			limit := hosts[at].preference
			hosts = slices.DeleteFunc(hosts, func(h host) bool { return h.preference >= limit })
			if len(hosts) == 0 || best == limit {
				return nil, loop(domain)
			}
		}
	}
	return f.order(hosts), dsn.Status{}
}

// usable checks the name in an MX record; a numeric one is used with a warning.
func (f *finder) usable(domain, name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		f.log.Warnf("numeric domain name in resource data of MX record for %s: %s", domain, name)
		return true
	}
	if gripe := addr.HostnameGripe(name); gripe != "" {
		f.log.Warnf("valid_hostname: %s", gripe)
		f.log.Warnf("malformed domain name in resource data of MX record for %s: %s", domain, name)
		return false
	}
	return true
}

// hostAddresses looks up one host, without mail exchangers.
func (f *finder) hostAddresses(ctx context.Context, name string, detectLoop bool) ([]host, dsn.Status) {
	hosts, status := f.addresses(ctx, name, 0)
	if detectLoop && slices.ContainsFunc(hosts, func(h host) bool { return f.own(h.ip) }) {
		return nil, loop(name)
	}
	if len(hosts) > 0 {
		return hosts, dsn.Status{}
	}
	return nil, status
}

// addresses looks up A and AAAA; a status comes only without any address, and
// is that of the last lookup, unless one was temporary.
func (f *finder) addresses(ctx context.Context, name string, preference uint16) ([]host, dsn.Status) {
	if ip, err := netip.ParseAddr(strings.TrimPrefix(strings.TrimPrefix(name, "IPv6:"), "ipv6:")); err == nil {
		return []host{{name: ip.String(), ip: ip, preference: preference}}, dsn.Status{}
	}
	if hosts := f.nativeAddresses(ctx, name, preference); len(hosts) > 0 {
		return hosts, dsn.Status{}
	}
	var hosts []host
	var status dsn.Status
	lookups := []struct {
		kind string
		ask  func(context.Context, string) ([]netip.Addr, dns.Answer, error)
	}{{"A", f.dns.A}, {"AAAA", f.dns.AAAA}}
	for _, lookup := range lookups {
		if !f.speaks(lookup.kind) {
			continue
		}
		ips, _, err := lookup.ask(ctx, name)
		for _, ip := range ips {
			hosts = append(hosts, host{name: name, ip: ip, preference: preference})
		}
		if err != nil && !status.Temporary() {
			status = lookupFailure(name, lookup.kind, err)
		}
	}
	return hosts, status
}

// nativeAddresses asks the system's host table when smtp_host_lookup (or
// disable_dns_lookups) says so.
func (f *finder) nativeAddresses(ctx context.Context, name string, preference uint16) []host {
	if !f.config.DisableDNS && !strings.Contains(f.config.HostLookup, "native") {
		return nil
	}
	ips, err := f.dns.LookupHost(ctx, name)
	if err != nil {
		return nil
	}
	var hosts []host
	for _, ip := range ips {
		hosts = append(hosts, host{name: name, ip: ip, preference: preference})
	}
	return hosts
}

// speaks reports whether inet_protocols allows the address family of a record type.
func (f *finder) speaks(kind string) bool {
	p := f.config.InetProtocols
	if p == "" || strings.Contains(p, "all") {
		return true
	}
	return strings.Contains(p, map[string]string{"A": "ipv4", "AAAA": "ipv6"}[kind])
}

// order shuffles hosts of equal preference, prefers an address family, and
// sees that the limit on addresses does not cut one family off
// (smtp_balance_inet_protocols).
func (f *finder) order(hosts []host) []host {
	if f.config.Randomize {
		rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	}
	family := func(h host) int {
		six := h.ip.Is6() && !h.ip.Is4In6()
		if six == (f.config.AddressPreference == "ipv6") {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(hosts, func(a, b host) int {
		if a.preference != b.preference {
			return int(a.preference) - int(b.preference)
		}
		if f.config.AddressPreference == "ipv4" || f.config.AddressPreference == "ipv6" {
			return family(a) - family(b)
		}
		return 0
	})
	limit := f.config.MXAddressLimit
	if limit <= 0 || len(hosts) <= limit {
		return hosts
	}
	if f.config.Balance && f.config.AddressPreference == "any" {
		hosts = balance(hosts, limit)
	}
	return hosts[:limit]
}

// balance moves the first address of a family that the limit would cut off
// completely to the last place inside the limit.
func balance(hosts []host, limit int) []host {
	six := hosts[0].ip.Is6()
	for _, h := range hosts[:limit] {
		if h.ip.Is6() != six {
			return hosts
		}
	}
	for i := limit; i < len(hosts); i++ {
		if other := hosts[i]; other.ip.Is6() != six {
			hosts = slices.Delete(hosts, i, i+1)
			return slices.Insert(hosts, limit-1, other)
		}
	}
	return hosts
}

func loop(domain string) dsn.Status {
	return dsn.Newf(550, "5.4.6", "mail for %s loops back to myself", domain)
}

func invalidReply(name string) dsn.Status {
	return dsn.Newf(550, "5.4.4", "Name service error for name=%s type=MX: %s", name, dns.Reason(dns.ErrInvalid))
}

// lookupFailure words a failed lookup; trouble with the name service is
// temporary, a definite "no" permanent.
func lookupFailure(name, kind string, err error) dsn.Status {
	code, enhanced := 450, "4.4.3"
	if errors.Is(err, dns.ErrNoHost) || errors.Is(err, dns.ErrNoData) || errors.Is(err, dns.ErrInvalid) {
		code, enhanced = 550, "5.4.4"
	}
	return dsn.Newf(code, enhanced, "Host or domain name not found. Name service error for name=%s type=%s: %s",
		name, kind, dns.Reason(err)).WithScope(dsn.Site)
}
