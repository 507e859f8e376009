package transport

import (
	"strings"

	"posthaste/internal/mail/addr"
)

// VERP is the sender address of a message for one recipient, when the sender
// asked for variable envelope return paths (VERP_README): with the delimiters
// "+=", owner@list and user@site give owner+user=site@list. Addresses without
// a domain, and delimiters that are not two characters, give the sender as is.
func VERP(sender addr.Address, delimiters string, recipient addr.Address) addr.Address {
	local, domain, ok := sender.Split()
	if !ok || len(delimiters) != 2 {
		return sender
	}
	user, site, hasSite := recipient.Split()
	var b strings.Builder
	b.WriteString(local)
	b.WriteByte(delimiters[0])
	b.WriteString(user)
	if hasSite {
		b.WriteByte(delimiters[1])
		b.WriteString(site)
	}
	b.WriteByte('@')
	b.WriteString(domain)
	return addr.Address(b.String())
}
