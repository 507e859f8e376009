package restrict

import (
	"errors"
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/policy/mailhost"
	"posthaste/internal/sys/dns"
	"posthaste/internal/table"
)

// serverKind is which servers of a domain check_*_{a,mx,ns}_access is about.
type serverKind uint8

const (
	serverA serverKind = iota
	serverMX
	serverNS
)

func (k serverKind) String() string { return [...]string{"A", "MX", "NS"}[k] }

// maxServers and maxAddresses bound the work for a domain that anybody may
// have filled.
const (
	maxServers   = 100
	maxAddresses = 100
)

// serverAccess makes check_*_{a,mx,ns}_access of what pick finds.
func serverAccess(kind serverKind, pick selector) check {
	return func(e *eval, n *node, outer subject) outcome {
		name, s, ok := pick(e.v)
		if !ok {
			return dunno
		}
		s.acl = outer.acl
		return e.forbidOK(n, e.servers(n, kind, name, s), s.name)
	}
}

func (e *eval) servers(n *node, kind serverKind, name string, s subject) outcome {
	domain := name
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		domain = name[at+1:]
	}
	if strings.HasPrefix(domain, "[") {
		ip, ok := addr.ParseLiteral(domain)
		if !ok || kind == serverNS {
			return dunno
		}
		return e.result(n, e.byAddress(n.maps, ip.String()), s)
	}
	hosts, ok := e.serverNames(kind, domain, name)
	if !ok {
		return dunno
	}
	for _, host := range hosts {
		f := e.byDomain(n.maps, host)
		if !f.ok && f.err == nil {
			f = e.hostAddresses(n.maps, kind, host, s)
		}
		if f.ok || f.err != nil {
			return e.result(n, f, s)
		}
	}
	return dunno
}

// serverNames finds the hosts that serve a domain. Without MX record it is its
// own; without NS record, its parents' are asked for.
func (e *eval) serverNames(kind serverKind, domain, name string) ([]string, bool) {
	switch kind {
	case serverMX:
		mx, err := e.lookupMX(domain)
		switch {
		case mailhost.IsNullMX(mx):
			return nil, false
		case err == nil:
			var hosts []string
			for _, record := range mx {
				hosts = append(hosts, record.Host)
			}
			return e.bounded(kind, hosts, name), true
		case !mailhost.Definite(err):
			e.c.setup.Log.Warnf("Unable to look up %s host for %s: %s", kind, domain, mailhost.DNSText(err))
			return nil, false
		}
	case serverNS:
		return e.nameServers(domain, name)
	}
	return []string{domain}, true
}

func (e *eval) lookupMX(domain string) ([]dns.MX, error) {
	ascii, ok := e.dnsName(domain)
	if !ok {
		return nil, dns.ErrNoHost
	}
	mx, _, err := e.c.setup.DNS.MX(e.ctx, ascii)
	return mx, err
}

func (e *eval) nameServers(domain, name string) ([]string, bool) {
	shown := domain
	err := dns.ErrNoHost
	for next := domain; next != ""; {
		ascii, ok := e.dnsName(next)
		if !ok {
			break
		}
		var hosts []string
		hosts, _, err = e.c.setup.DNS.NS(e.ctx, ascii)
		if err == nil {
			return e.bounded(serverNS, hosts, name), true
		}
		if shown = next; !mailhost.Definite(err) || errors.Is(err, dns.ErrInvalid) {
			break
		}
		_, next, _ = strings.Cut(next, ".")
		if shown = next; shown == "" {
			shown = name
		}
	}
	e.c.setup.Log.Warnf("Unable to look up %s host for %s: %s", serverNS, shown, mailhost.DNSText(err))
	return nil, false
}

func (e *eval) bounded(kind serverKind, hosts []string, name string) []string {
	if len(hosts) > maxServers {
		e.c.setup.Log.Warnf("%s server count limit (%d) exceeded for %s -- ignoring the remainder", kind, maxServers, name)
		hosts = hosts[:maxServers]
	}
	return hosts
}

// hostAddresses looks the addresses of a host up in the table.
func (e *eval) hostAddresses(m *table.Maps, kind serverKind, host string, s subject) found {
	addresses, err := e.c.setup.DNS.LookupHost(e.ctx, host)
	if err != nil {
		if kind != serverA {
			e.c.setup.Log.Warnf("Unable to look up %s host %s for %s %s: %s", kind, host, s.class, s.name, mailhost.HostText(err))
		}
		return found{}
	}
	for i, ip := range addresses {
		if i >= maxAddresses {
			e.c.setup.Log.Warnf("%s server address count limit (%d) exceeded for %s %s -- ignoring the remainder", kind, maxAddresses, s.class, s.name)
			break
		}
		if f := e.byAddress(m, ip.Unmap().String()); f.ok || f.err != nil {
			return f
		}
	}
	return found{}
}
