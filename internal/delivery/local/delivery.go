package local

import (
	"context"
	"fmt"
	"strings"
	"time"

	"posthaste/internal/delivery/mailbox"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/transport"
)

// maxLevel bounds the nesting of an expansion.
const maxLevel = 100

// origin says what listed a destination; it decides whether commands and files
// are allowed.
type origin string

const (
	fromSender  origin = ""
	fromAlias   origin = "alias"
	fromForward origin = "forward"
	fromInclude origin = "include"
)

// delivery is the work for one recipient of a request.
type delivery struct {
	agent *Agent
	ctx   context.Context
	r     *transport.Request
	index int
	begun time.Time
	seen  mailbox.Delivered // Delivered-To headers
	done  map[string]bool   // duplicate filter, in lower case

	answered bool
	forwards []*forward
}

// mail is what is being delivered at one point of the expansion. It is copied
// from level to level, so that a change holds further down only.
type mail struct {
	level  int
	rcpt   envelope.Recipient
	sender addr.Address

	user, local, domain string // in lower case
	extension           string // without delimiter
	unmatched           string // extension that no lookup has used yet

	owner     addr.Address // forwarder: who answers for this expansion
	delivered addr.Address // for Delivered-To
	from      string       // the name that was expanded to this
	origin    origin
	anew      bool // a mailing list: DSN parameters are not passed on
	who       identity
}

// identity is with whose rights files and commands are used.
type identity struct {
	worker.Rights
	home, shell string
}

// result is whether a part of the work is settled; false means try again.
type result = bool

const settled, tryAgain result = true, false

// complete delivers to the recipient, then hands the forwards in, or drops
// them if something has to be tried again.
func (d *delivery) complete(m mail) {
	ok := d.recipient(m)
	if d.ctx.Err() != nil {
		return
	}
	if ok {
		ok = d.submitAll(m)
	}
	if ok && !d.answered {
		// An empty list has nobody to answer for it.
		d.answer(m, dsn.FromEnhanced("2.0.0", "expanded to no recipient"))
	}
}

// answer reports what became of m.
func (d *delivery) answer(m mail, s dsn.Status) result {
	if d.ctx.Err() != nil && !s.OK() {
		return tryAgain
	}
	d.answered = true
	d.r.Report(transport.Outcome{Index: d.index, Recipient: m.rcpt, Status: s, Relay: d.r.Transport, Begun: d.begun})
	return !s.Temporary()
}

func (d *delivery) fail(m mail, enhanced, format string, args ...any) result {
	return d.answer(m, dsn.FromEnhanced(enhanced, fmt.Sprintf(format, args...)))
}

func (d *delivery) sent(m mail, format string, args ...any) result {
	return d.fail(m, "2.0.0", format, args...)
}

func (d *delivery) warn(format string, args ...any) { d.agent.deps.Log.Warnf(format, args...) }

// configurationError is the answer to what the postmaster or the user wrote.
func (d *delivery) configurationError(m mail) result {
	return d.fail(m, "5.3.5", "mail system configuration error")
}

func (d *delivery) traceOnly() bool { return mailbox.TraceOnly(d.r.Envelope) }

// before reports whether this was done already, and remembers it. A full
// filter forgets nothing but learns nothing either.
func (d *delivery) before(format string, args ...any) bool {
	key := addr.Fold(fmt.Sprintf(format, args...))
	if d.done[key] {
		return true
	}
	if limit := d.agent.cfg.DuplicateMax; limit <= 0 || len(d.done) < limit {
		d.done[key] = true
	}
	return false
}

func (d *delivery) wasDone(format string, args ...any) bool {
	return d.done[addr.Fold(fmt.Sprintf(format, args...))]
}

// recipient delivers to an address that is local.
func (d *delivery) recipient(m mail) result {
	m.level++
	if m.level > maxLevel {
		d.warn("recipient nesting limit exceeded for %s", m.rcpt.Address)
		return d.fail(m, "5.4.6", "recipient nesting limit exceeded")
	}
	if d.before("recipient %d %s", m.level, m.rcpt.Address) {
		return settled
	}
	if d.seen.Has(m.rcpt.Address) {
		return d.fail(m, "5.4.6", "mail forwarding loop for %s", m.rcpt.Address.External())
	}
	if m.delivered == "" {
		m.delivered = m.rcpt.Address
	}
	local, domain, ok := addr.Address(addr.Fold(string(m.rcpt.Address))).Split()
	if !ok {
		d.warn("no @ in recipient address: %s", m.rcpt.Address)
	}
	m.local, m.domain = local, domain
	user, extension := d.agent.ext.Split(m.local)
	m.user, m.extension = user, ""
	if extension != "" {
		m.extension = extension[1:] // without its delimiter
	}
	if strings.Contains(m.extension, "/") {
		d.warn("%s: address with illegal extension: %s", d.r.ID, m.local)
		m.extension = ""
	}
	m.unmatched = m.extension
	if m.user == "" {
		return d.fail(m, "5.1.3", "null username in \"%s\"", m.rcpt.Address)
	}
	return d.choose(m)
}

// choose is the order of the ways to deliver: alias, forwarding to another
// local user, .forward, mailbox.
func (d *delivery) choose(m mail) result {
	m.level++
	if rest, ok := strings.CutPrefix(string(m.rcpt.Address), `\`); ok {
		// \user: straight to the mailbox.
		m.rcpt.Address, m.local, m.user = addr.Address(rest), strings.TrimPrefix(m.local, `\`), strings.TrimPrefix(m.user, `\`)
		return d.mailboxOrUnknown(m)
	}
	m.unmatched = ""
	if ok, done := d.alias(m, m.local); done {
		return ok
	}
	if m.extension != "" {
		if d.agent.propagate["alias"] {
			m.unmatched = m.extension
		}
		if ok, done := d.alias(m, m.user); done {
			return ok
		}
		m.unmatched = m.extension
	}
	// Mail that somebody forwards to another local user becomes a message of
	// its own, with its own records in the queue. That goes for all addresses
	// of :include: files, too.
	if m.owner != "" && !strings.EqualFold(string(m.owner), m.user) || m.origin == fromInclude {
		return d.indirect(m)
	}
	if d.agent.cfg.RequireHome {
		if ok, done := d.home(m); done {
			return ok
		}
	}
	if ok, done := d.dotForward(m); done {
		return ok
	}
	return d.mailboxOrUnknown(m)
}

func (d *delivery) mailboxOrUnknown(m mail) result {
	if ok, done := d.mailbox(m); done {
		return ok
	}
	return d.unknown(m)
}

// lookupUser finds a user in the password file. done means that this failed
// and was answered.
func (d *delivery) lookupUser(m mail) (u User, found, done bool) {
	u, found, err := d.agent.deps.Users.ByName(m.user)
	if err != nil {
		d.warn("error looking up passwd info for %s: %v", m.user, err)
		d.fail(m, "4.0.0", "user lookup error")
		return u, false, true
	}
	return u, found, false
}

// home makes mail wait for a home directory that is not there (NFS).
func (d *delivery) home(m mail) (ok result, done bool) {
	u, found, failed := d.lookupUser(m)
	if failed || !found {
		return tryAgain, failed
	}
	_, err := d.agent.deps.Host.StatTarget(d.ctx, u.Rights(), u.Home)
	if err == nil {
		return settled, false
	}
	return d.fail(m, "4.3.0", "cannot access home directory %s", errorText(u.Home, err)), true
}
