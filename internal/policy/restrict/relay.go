package restrict

import (
	"fmt"
	"sort"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/policy/mailhost"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/sys/dns"
)

type routeKey struct{ sender, rcpt addr.Address }

type routeResult struct {
	route route.Route
	err   error
}

// maxRoutes bounds what a session remembers.
const maxRoutes = 200

// resolve routes an address as it would be delivered. Results are remembered,
// as several restrictions ask about the same; an error was logged.
func (e *eval) resolve(from, a addr.Address) (route.Route, error) {
	m := &e.v.memo
	key := routeKey{from, a}
	if r, ok := m.routes[key]; ok && r.err == nil {
		return r.route, nil
	}
	standard := e.c.setup.Route.Rewriter().Rewrite(e.ctx, route.ContextLocal, a)
	r, err := e.c.setup.Route.Resolve(e.ctx, from, standard)
	if m.routes == nil || len(m.routes) >= maxRoutes {
		m.routes = map[routeKey]routeResult{}
	}
	m.routes[key] = routeResult{r, err}
	return r, err
}

// peer is the address at the other end of the one that a check is about.
func (e *eval) peer(class string) addr.Address {
	if class == classSender {
		return e.v.Recipient
	}
	return e.v.Sender
}

// final reports whether mail of a class is for this system itself.
func final(c route.Class) bool {
	return c == route.ClassLocal || c == route.ClassVirtualAlias || c == route.ClassVirtualMailbox
}

// authorized reports whether anybody may send to a destination.
func (e *eval) authorized(r route.Route) bool {
	if r.Routed && !e.c.cfg.AllowUntrusted {
		// user@elsewhere@here: who knows where it will end.
		return false
	}
	if r.Class == route.ClassRelay {
		e.oldDefault("relay_domains=$mydestination", "to accept mail for address \"%s\"", r.Recipient)
		e.oldDefault("relay_domains=$mydestination", "to accept mail for domain \"%s\"", r.Recipient.Domain())
		return true
	}
	return final(r.Class)
}

// oldDefault has a decision logged that a newer compatibility_level may change.
func (e *eval) oldDefault(setting, format string, args ...any) {
	if e.c.setup.OldDefault != nil {
		e.c.setup.OldDefault(setting, fmt.Sprintf(format, args...))
	}
}

func (e *eval) permitDestination(a addr.Address, s subject) outcome {
	r, err := e.resolve(e.v.Sender, a)
	switch {
	case err != nil:
		return e.tryLater(string(a))
	case !e.authorized(r):
		return dunno
	}
	return e.permitted("permit_auth_destination", s, "")
}

func (e *eval) rejectDestination(a addr.Address, _ subject) outcome {
	return e.unauthorized(a, e.c.cfg.Codes.Relay)
}

func (e *eval) deferDestination(a addr.Address, _ subject) outcome {
	return e.unauthorized(a, e.c.cfg.Codes.Relay-100)
}

func (e *eval) unauthorized(a addr.Address, code int) outcome {
	r, err := e.resolve(e.v.Sender, a)
	switch {
	case err != nil:
		return e.tryLater(string(a))
	case e.authorized(r):
		return dunno
	}
	return e.rejectf(code, "5.7.1", "<%s>: Relay access denied", a)
}

// permitBackup permits destinations that this system is a backup MX host for:
// it is listed, but not among the best.
func (e *eval) permitBackup(a addr.Address, s subject) outcome {
	e.c.mxBackupWarned.Do(func() {
		e.c.setup.Log.Warnf("support for restriction \"permit_mx_backup\" will be removed from Postfix; instead, specify \"relay_domains\"")
	})
	r, err := e.resolve(e.v.Sender, a)
	if err != nil {
		return e.tryLater(string(a))
	}
	if r.Routed && !e.c.cfg.AllowUntrusted {
		return dunno
	}
	if final(r.Class) || r.Class == route.ClassRelay {
		return e.permitted("permit_mx_backup", s, "")
	}
	domain, ok := e.dnsName(r.Recipient.Domain())
	if !ok {
		return dunno
	}
	hosts, _, err := e.c.setup.DNS.MX(e.ctx, domain)
	if err != nil {
		if !mailhost.Definite(err) {
			e.deferIfReject(dsn.Newf(450, "4.4.4", "<%s>: %s rejected: Unable to look up mail exchanger information: %s", s.name, s.class, mailhost.DNSText(err)))
		}
		return dunno
	}
	if mailhost.IsNullMX(hosts) || !e.isBackup(hosts, s) {
		return dunno
	}
	return e.permitted("permit_mx_backup", s, "")
}

// isBackup divides the MX hosts into the best ones and the others.
func (e *eval) isBackup(hosts []dns.MX, s subject) bool {
	hosts = append([]dns.MX(nil), hosts...)
	sort.SliceStable(hosts, func(i, j int) bool { return hosts[i].Preference < hosts[j].Preference })
	best := sort.Search(len(hosts), func(i int) bool { return hosts[i].Preference > hosts[0].Preference })
	if e.isAmong(hosts[:best], s) || !e.isAmong(hosts[best:], s) {
		return false
	}
	return e.c.mxBackup.Empty() || e.allTrusted(hosts[:best], s)
}

// isAmong reports whether one of the hosts is this system, by name or else by
// address.
func (e *eval) isAmong(hosts []dns.MX, s subject) bool {
	for _, h := range hosts {
		if local, err := e.c.setup.Route.IsLocal(e.ctx, h.Host); err == nil && local {
			return true
		}
	}
	for _, h := range hosts {
		addresses, err := e.c.setup.DNS.LookupHost(e.ctx, h.Host)
		if err != nil {
			e.deferIfReject(dsn.Newf(450, "4.4.4", "<%s>: %s rejected: Unable to look up mail exchanger host %s: %s", s.name, s.class, h.Host, mailhost.HostText(err)))
			continue
		}
		for _, ip := range addresses {
			if e.c.isMine(ip) {
				return true
			}
		}
	}
	return false
}

// allTrusted reports whether all addresses of the hosts are in
// permit_mx_backup_networks.
func (e *eval) allTrusted(hosts []dns.MX, s subject) bool {
	for _, h := range hosts {
		addresses, err := e.c.setup.DNS.LookupHost(e.ctx, h.Host)
		if err != nil {
			e.deferIfReject(dsn.Newf(450, "4.4.4", "<%s>: %s rejected: Unable to look up host %s as mail exchanger: %s", s.name, s.class, h.Host, mailhost.HostText(err)))
			return false
		}
		for _, ip := range addresses {
			trusted, err := e.c.mxBackup.Match(e.ctx, h.Host, ip.Unmap().String())
			if err != nil {
				e.deferIfReject(dsn.Newf(450, "4.4.4", "<%s>: %s rejected: Unable to verify host %s as mail exchanger", s.name, s.class, h.Host))
			}
			if err != nil || !trusted {
				return false
			}
		}
	}
	return true
}
