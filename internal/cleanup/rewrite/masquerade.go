package rewrite

import (
	"context"
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/table/matchlist"
)

// masquerade hides hosts inside of domains (postconf(5) masquerade_domains).
type masquerade struct {
	domains []string           // in lower case; "!" in front leaves its subdomains alone
	except  *matchlist.Strings // user names
	classes Class
}

// apply cuts an address's domain down to the first listed domain that it is
// in. A domain that is listed itself ends the search, unchanged. The error is
// that of the list of exceptions.
func (m masquerade) apply(ctx context.Context, a addr.Address) (addr.Address, error) {
	local, domain, has := a.Split()
	if len(m.domains) == 0 || !has {
		return a, nil
	}
	excepted, err := m.except.Match(ctx, local)
	if err != nil || excepted {
		return a, err
	}
	return m.cut(a, local, domain), nil
}

func (m masquerade) cut(a addr.Address, local, domain string) addr.Address {
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
