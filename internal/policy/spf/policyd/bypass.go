package policyd

import (
	"context"
	"fmt"
	"strings"

	"posthaste/internal/policy/spf"
)

// bypass finds out whether a client is not to be checked, and why not: the
// comment for the header.
func (r *request) bypass(ctx context.Context) string {
	switch {
	case r.inList("skip_addresses", r.c.Skip):
		return "SPF check N/A for local connections - "
	case r.inList("Whitelist", r.c.Whitelist):
		return "SPF skipped for whitelisted relay - "
	}
	ctx, cancel := context.WithTimeout(ctx, 3*r.c.WhiteLookup)
	defer cancel()
	switch {
	case r.isRelayDomain(ctx):
		return "SPF skipped for whitelisted relay domain - "
	case r.isRelayHELO(ctx):
		return "SPF skipped for whitelisted HELO domain - "
	case r.isRelayPTR(ctx):
		return "SPF skipped for PTR whitelisted relay domain - "
	}
	return ""
}

func (r *request) bypassHeader(comment string) string {
	detail := fmt.Sprintf("client-ip=%s; helo=%s; envelope-from=%s; receiver=%s", r.attr["client_address"], r.attr["helo_name"], r.sender, r.attr["recipient"])
	if strings.Contains(r.c.Header, "AR") {
		return fmt.Sprintf("Authentication-Results: %s; none (%s %s)", r.c.AuthservID, comment, detail)
	}
	return "X-Comment: " + comment + detail + " "
}

// items are the members of a list of the configuration.
func items(list string) []string {
	var all []string
	for _, item := range strings.Split(list, ",") {
		if item = strings.TrimSpace(item); item != "" {
			all = append(all, item)
		}
	}
	return all
}

// inList reports whether the client's address is in a list of networks. After
// one that is none, the rest of the list does not count.
func (r *request) inList(name, list string) bool {
	for _, item := range items(list) {
		n, err := network(item)
		if err != nil {
			if r.c.Debug >= 0 {
				r.Log.Infof("ERROR: %s in %s not IP network.  Message: %v. Aborting whitelist processing.", item, name, err)
			}
			return false
		}
		if n.Contains(r.ip) {
			return true
		}
	}
	return false
}

// isRelayDomain reports whether a domain of Domain_Whitelist says that the
// client may send for it.
func (r *request) isRelayDomain(ctx context.Context) bool {
	for _, domain := range items(r.c.DomainWhite) {
		checker := r.checker()
		checker.Timeout, checker.VoidLimit = r.c.WhiteLookup, r.c.VoidLimit
		if checker.Check(ctx, spf.Query{IP: r.ip, Sender: domain, Helo: domain}).Result == spf.Pass {
			return true
		}
	}
	return false
}

// isRelayHELO reports whether the HELO name is one of HELO_Whitelist and has
// the client's address. Trouble means no: it is checked as all others then.
func (r *request) isRelayHELO(ctx context.Context) bool {
	for _, domain := range items(r.c.HELOWhite) {
		if domain != r.attr["helo_name"] {
			continue
		}
		ask := r.DNS.AAAA
		if r.ip.Is4() {
			ask = r.DNS.A
		}
		found, _, _ := ask(ctx, domain)
		for _, ip := range found {
			if ip.Unmap() == r.ip {
				return true
			}
		}
	}
	return false
}

// isRelayPTR reports whether the client's first name ends as a domain of
// Domain_Whitelist_PTR.
func (r *request) isRelayPTR(ctx context.Context) bool {
	domains := items(r.c.PTRWhite)
	if len(domains) == 0 {
		return false
	}
	names, _, err := r.DNS.PTR(ctx, r.ip)
	if err != nil {
		return false
	}
	for _, domain := range domains {
		if strings.HasSuffix(names[0], domain) {
			return true
		}
	}
	return false
}
