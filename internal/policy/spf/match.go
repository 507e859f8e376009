package spf

import (
	"net/netip"
	"strings"

	"posthaste/internal/policy/mailhost"
)

// match reports whether a mechanism matches (section 5).
func (k *check) match(at frame, t *term) (bool, *stop) {
	switch t.kind {
	case all:
		return true, nil
	case ip4, ip6:
		return t.network.Contains(k.ip), nil
	}
	if err := k.count(at); err != nil {
		return false, err
	}
	name := at.domain
	if t.target != nil {
		name = k.expandDomain(t.target, at.domain)
	}
	switch t.kind {
	case include:
		return k.include(at, t, fold(name))
	case a:
		return k.matchHost(at, t, name)
	case mx:
		return k.matchMX(at, t, name)
	case ptr:
		return k.matchPTR(at, name)
	}
	found, err := look(k, k.DNS.A, name)
	if err != nil && !isVoid(err) {
		return false, k.trouble(at, err, "A", name)
	}
	return len(found) > 0, k.void(at, err)
}

func (k *check) include(at frame, t *term, name string) (bool, *stop) {
	k.step(at, t.written, "record of %s", name)
	out := k.host(name, at.depth+1)
	switch out.result {
	case Pass:
		return true, nil
	case None:
		err := at.stop(PermError, "Included domain '%s' has no applicable sender policy", name)
		err.term = t.text
		return false, err
	case TempError, PermError:
		return false, &stop{out}
	}
	return false, nil
}

// addresses looks up a host's addresses of the client's family.
func (k *check) addresses(name string) (found []netip.Addr, kind string, err error) {
	if k.ip.Is4() {
		found, err = look(k, k.DNS.A, name)
		return found, "A", err
	}
	found, err = look(k, k.DNS.AAAA, name)
	return found, "AAAA", err
}

// matchHost reports whether the client is near one of a host's addresses.
func (k *check) matchHost(at frame, t *term, name string) (bool, *stop) {
	found, kind, err := k.addresses(name)
	if err != nil && !isVoid(err) {
		return false, k.trouble(at, err, kind, name)
	}
	if err := k.void(at, err); err != nil {
		return false, err
	}
	bits := t.bits4
	if !k.ip.Is4() {
		bits = t.bits6
	}
	for _, ip := range found {
		if network, err := ip.Prefix(bits); err == nil && network.Contains(k.ip) {
			return true, nil
		}
	}
	return false, nil
}

func (k *check) matchMX(at frame, t *term, name string) (bool, *stop) {
	hosts, err := look(k, k.DNS.MX, name)
	if err != nil && !isVoid(err) {
		return false, k.trouble(at, err, "MX", name)
	}
	if err := k.void(at, err); err != nil {
		return false, err
	}
	if mailhost.IsNullMX(hosts) {
		return false, nil
	}
	for i, h := range hosts {
		if i >= maxNames {
			return false, at.stop(PermError, "Maximum MX hosts limit (%d) exceeded", maxNames)
		}
		if matched, err := k.matchHost(at, t, h.Host); matched || err != nil {
			return matched, err
		}
	}
	return false, nil
}

// names are the client's names in PTR records, and which of them were found to
// have its address.
type names struct {
	list []string
	err  error
	own  map[string]bool
}

// clientNames looks up the client's names; more than the limit are ignored.
func (k *check) clientNames() *names {
	if k.names == nil {
		list, _, err := k.DNS.PTR(k.ctx, k.ip)
		k.names = &names{list: list[:min(len(list), maxNames)], err: err, own: map[string]bool{}}
	}
	return k.names
}

// isOwn reports whether a name has the client's address; trouble means that it
// has not. The error of the look-up is for counting.
func (k *check) isOwn(n *names, name string) (bool, error) {
	name = fold(name)
	if own, known := n.own[name]; known {
		return own, nil
	}
	found, _, err := k.addresses(name)
	for _, ip := range found {
		if ip.Unmap() == k.ip {
			n.own[name] = true
			return true, nil
		}
	}
	n.own[name] = false
	return false, err
}

// matchPTR reports whether the client has a validated name in a domain.
func (k *check) matchPTR(at frame, domain string) (bool, *stop) {
	n := k.clientNames()
	if n.err != nil {
		return false, k.void(at, n.err)
	}
	for _, name := range n.list {
		if !isWithin(name, domain) {
			continue
		}
		own, err := k.isOwn(n, name)
		if own {
			return true, nil
		}
		if err := k.void(at, err); err != nil {
			return false, err
		}
	}
	return false, nil
}

// isWithin reports whether a name is a domain or in it.
func isWithin(name, domain string) bool {
	name, domain = fold(name), fold(domain)
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// validatedName is the macro "p": the domain itself if the client has that
// name, else a name in it, else any validated name (section 7.3).
func (k *check) validatedName(domain string) string {
	n := k.clientNames()
	best := ""
	for _, name := range n.list {
		own, _ := k.isOwn(n, name)
		switch {
		case !own:
		case fold(name) == fold(domain):
			return name
		case best == "" || isWithin(name, domain) && !isWithin(best, domain):
			best = name
		}
	}
	return orUnknown(best)
}
