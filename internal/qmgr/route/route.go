// Package route is trivial-rewrite(8): it brings addresses into standard form
// and resolves a recipient into class, transport, nexthop and recipient.
//
// smtpd asks it before it accepts a recipient, cleanup while it rewrites, the
// queue manager before it schedules: one parse, one answer, so that what was
// checked is what is routed. An error is machinery trouble ("try again"); a
// definite "no" is a Route with Problem set, or to the error transport.
package route

import (
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
)

// Class is the address class of a recipient domain (ADDRESS_CLASS_README).
type Class uint8

const (
	ClassDefault Class = iota
	ClassLocal
	ClassVirtualAlias
	ClassVirtualMailbox
	ClassRelay
)

// Route is where one recipient goes.
type Route struct {
	Class     Class
	Transport string       // service name in master.cf, or "error"/"retry"
	Nexthop   string       // destination for the transport; error text for error
	Recipient addr.Address // in standard form, to be delivered to
	// Problem is a definite refusal found while resolving (malformed
	// address, user has moved); zero for none.
	Problem dsn.Status
	// Routed: the local part has user@domain routing that was not stripped
	// (RESOLVE_FLAG_ROUTED): not to be relayed for strangers.
	Routed bool
}
