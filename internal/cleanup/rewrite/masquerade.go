package rewrite

import (
	"slices"
	"strings"

	"posthaste/internal/mail/addr"
)

// masquerade hides hosts inside of domains (postconf(5) masquerade_domains).
type masquerade struct {
	domains []string // in lower case; "!" in front leaves its subdomains alone
	except  []string // user names, folded
	classes Class
}

// apply cuts an address's domain down to the first listed domain that it is
// in. A domain that is listed itself ends the search, unchanged.
func (m masquerade) apply(a addr.Address) addr.Address {
	if len(m.domains) == 0 {
		return a
	}
	local, domain, has := a.Split()
	if !has || slices.Contains(m.except, addr.Fold(local)) {
		return a
	}
	folded := addr.Fold(domain)
	for _, item := range m.domains {
		parent := strings.TrimLeft(item, "!")
		if folded == parent {
			return a
		}
		if !strings.HasSuffix(folded, "."+parent) {
			continue
		}
		if (len(item)-len(parent))%2 == 1 {
			return a
		}
		return addr.Address(local + "@" + parent)
	}
	return a
}
