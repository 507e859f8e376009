// Package spf decides whether a host may send mail for a domain, as the
// domain's owner published it: the Sender Policy Framework, RFC 7208.
//
// A Checker asks a dns.Resolver and nothing else. Its Answer is a Result with
// the reason, and, on request, each step that led there. It never fails: DNS
// trouble and time that ran out are TempError, a record that nobody can
// evaluate is PermError. The work for one check is bounded by the limits of
// RFC 7208, section 4.6.4, and by Timeout. What to do about a result is for
// the caller to decide: the smtpd restriction, the policy daemon (spf/policyd)
// and the spf command.
//
// Reasons are worded as those of the Perl module Mail::SPF: they appear in
// logs, headers and replies of the policy daemon that this one replaces.
package spf

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"posthaste/internal/sys/dns"
)

// Result is the result of a check, RFC 7208 section 2.6.
type Result uint8

const (
	None      Result = iota // nothing is published
	Neutral                 // the owner says nothing about this host
	Pass                    // the host may
	Fail                    // the host may not
	SoftFail                // the host probably may not
	TempError               // try again later
	PermError               // the record cannot be evaluated
)

// String is the result's name in header fields: "none", "softfail".
func (r Result) String() string {
	return [...]string{"none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"}[r]
}

// The limits of RFC 7208, section 4.6.4.
const (
	maxTerms       = 10 // include, a, mx, ptr, exists, redirect in one check
	maxNames       = 10 // hosts of an mx, names of a ptr
	defaultVoids   = 2
	defaultTimeout = 20 * time.Second
)

// Checker checks. Safe for concurrent use.
type Checker struct {
	DNS       dns.Resolver
	Receiver  string        // this host's name, for explanations; "" for not known
	Timeout   time.Duration // of one check; 0 is 20 seconds
	VoidLimit int           // look-ups without an answer; 0 is 2, negative is none at all
	Now       func() time.Time
}

// Scope is the identity that a check is about.
type Scope uint8

const (
	MailFrom Scope = iota
	Helo
)

// Query is one question: may IP send for this identity?
type Query struct {
	IP    netip.Addr
	Scope Scope
	// Sender is the MAIL FROM address. With scope Helo it does not matter;
	// when it is null, it is postmaster at the HELO name (section 2.4).
	Sender string
	Helo   string // HELO or EHLO name, "" when not known
	Trace  bool   // asks for Steps
}

// Answer is the answer to a Query.
type Answer struct {
	Query  Query // with IP as it was checked
	Result Result
	// Reason says why in a sentence without a period; it may quote what the
	// domain's owner wrote.
	Reason string
	// Domain is the domain that was asked about; Authority the one whose record
	// decided: another one after redirect=, or for errors inside an include.
	Domain, Authority string
	Depth             int    // how deep inside include and redirect that is
	Record            string // of Domain; "" when there is none
	// Term is the mechanism that matched, as "~all" or "ip4:192.0.2.0/24", or
	// as written the one with the error; "" when there is none.
	Term string
	// Explanation is what the domain's owner wants the sender to be told about
	// a Fail: printable ASCII; "" when there is none.
	Explanation string
	Lookups     int // terms that asked DNS
	Voids       int // look-ups without an answer
	Steps       []Step
}

// Step is one step of a check.
type Step struct {
	Depth  int    // 0 for the domain itself, more inside include and redirect
	Domain string // whose record it is about
	Term   string // as written; "" for finding the record
	Text   string // what came of it
	// Lookups and Voids are what has been used up so far.
	Lookups, Voids int
}

// Check answers a query.
func (c *Checker) Check(ctx context.Context, q Query) Answer {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	k := &check{Checker: c, ctx: ctx, trace: q.Trace, ip: q.IP.Unmap().WithZone(""), helo: q.Helo, voidLimit: c.VoidLimit}
	if k.voidLimit == 0 {
		k.voidLimit = defaultVoids
	}
	k.local, k.origin = identity(q)
	out := k.host(k.origin, 0)
	q.IP = k.ip
	answer := Answer{Query: q, Result: out.result, Reason: out.reason, Domain: k.origin, Authority: out.domain, Depth: out.depth, Record: k.record,
		Term: out.term, Lookups: k.lookups, Voids: k.voids, Steps: k.steps}
	if out.result == Fail && out.exp != nil {
		answer.Explanation = k.explain(out)
	}
	return answer
}

// identity divides what a query is about; a missing local part is postmaster
// (section 4.3).
func identity(q Query) (local, domain string) {
	sender := q.Sender
	if q.Scope == Helo || sender == "" {
		sender = "postmaster@" + q.Helo
	}
	at := strings.LastIndexByte(sender, '@')
	if at > 0 {
		local = sender[:at]
	} else {
		local = "postmaster"
	}
	return local, fold(sender[at+1:])
}

// fold is a domain in lower case without its trailing dot.
func fold(domain string) string { return strings.ToLower(strings.TrimSuffix(domain, ".")) }
