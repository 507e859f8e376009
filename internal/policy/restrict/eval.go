package restrict

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/policy/access"
)

// outcome is what one restriction, or a list of them, comes to.
type outcome uint8

const (
	dunno outcome = iota
	permit
	refuse
)

func (o outcome) String() string { return [...]string{"dunno", "permit", "reject"}[o] }

// kind says why a client is refused.
type kind uint8

const (
	byPolicy  kind = iota // the rules say so: warn_if_reject makes it a warning
	byTrouble             // broken configuration or table: never a mere warning
)

// maxDepth bounds classes and results inside each other.
const maxDepth = 100

// subject is what a list is about: how replies name it, and the restriction
// that a bare "type:table" stands for.
type subject struct {
	name  string // "user@example.com", without the angle brackets
	class string // access.Sender
	acl   string // "check_sender_access"; "" for none
}

// The classes of subjects, as replies name them.
const (
	classClient    = "Client host"
	classReverse   = "Unverified Client host"
	classHelo      = "Helo command"
	classSender    = access.Sender
	classRecipient = access.Recipient
	classEtrn      = "Etrn command"
	classData      = "Data command"
	classEndOfData = "End-of-data"
	classCert      = "Client certificate"
	classLogin     = "SASL login name"
	commandData    = "DATA"
	commandEnd     = "END-OF-MESSAGE"
)

// eval is one call of a Checker.
type eval struct {
	ctx   context.Context
	c     *Checker
	v     *View
	where string // "RCPT", for the log

	depth    int
	warn     int     // depth at which warn_if_reject was met, 0 for not
	ifReject pending // makes a permanent refusal temporary
	ifPermit pending // makes an acceptance a temporary refusal
	status   dsn.Status
	hangup   bool
	node     *node // being evaluated
	by       Item
	trace    []Step
	policies int // default actions of policy servers inside each other
}

// stage evaluates the list of a stage.
func (e *eval) stage(l *list, s subject) outcome {
	e.depth, e.warn, e.ifReject, e.by = 0, 0, pending{}, Item{}
	return e.list(l, s)
}

// list evaluates restrictions in order until one decides.
func (e *eval) list(l *list, s subject) outcome {
	if e.depth >= maxDepth {
		e.c.setup.Log.Warnf("restriction list %s causes unreasonable recursion", l.param)
		return e.configError()
	}
	outer := e.node
	e.depth++
	result := dunno
	for i := range l.nodes {
		if e.v.Actions.Discard {
			break
		}
		n := &l.nodes[i]
		if n.name == "warn_if_reject" {
			if e.warn == 0 {
				e.warn = e.depth
			}
			continue
		}
		e.node = n
		result = e.evaluate(n, s)
		if e.warn >= e.depth {
			e.warn = 0
		}
		if result != dunno || (e.ifPermit.active() && e.ifReject.active()) {
			break
		}
	}
	e.depth--
	e.node = outer
	if e.warn > e.depth {
		e.warn = 0
	}
	return result
}

func (e *eval) evaluate(n *node, s subject) (result outcome) {
	at := len(e.trace)
	if e.v.Explain {
		e.trace = append(e.trace, Step{Item: n.item(), Depth: e.depth - 1})
	}
	switch {
	case len(n.bad) > 0:
		for _, text := range n.bad {
			e.c.setup.Log.Warnf("%s", text)
		}
		if !n.skip {
			result = e.configError()
		}
	default:
		result = n.spec.check(e, n, s)
	}
	if e.v.Explain {
		e.trace[at].Result = result.String()
	}
	if result == permit && e.by == (Item{}) {
		e.by = n.item()
	}
	return result
}

// The causes of refusals that are not the client's fault; the log has the
// details.
var (
	errConfig = errors.New("restrict: the configuration cannot be used")
	errLookup = errors.New("restrict: a lookup failed")
)

// rejectf refuses the client, or only logs that with warn_if_reject.
func (e *eval) rejectf(code int, enhanced, format string, args ...any) outcome {
	return e.refuse(byPolicy, dsn.New(code, enhanced, fmt.Sprintf(format, args...)))
}

func (e *eval) refuse(why kind, status dsn.Status) outcome {
	warning := e.warn != 0 && why == byPolicy
	if status.Code() < 400 || status.Code() > 599 {
		e.c.setup.Log.Warnf("SMTP reply code configuration error: %s", status)
		status = dsn.New(450, "4.7.1", "Service unavailable")
	}
	status = status.WithText(access.ReplyText(status.Text()))
	if !warning && e.ifReject.active() && status.Permanent() {
		status = e.ifReject.status
		e.warn, e.ifReject = 0, pending{}
	}
	if e.c.cfg.SoftBounce {
		status = status.Soft()
	}
	if warning {
		e.event("reject_warning", status.Reply())
		return dunno
	}
	e.event("reject", status.Reply())
	e.status = status
	e.by = Item{}
	if e.node != nil {
		e.by = e.node.item()
	}
	return refuse
}

// configError answers for a configuration that cannot be used.
func (e *eval) configError() outcome {
	return e.refuse(byTrouble, dsn.New(451, "4.3.5", "Server configuration error").WithCause(errConfig))
}

// tryLater answers for a table or resolver that failed; it was logged there.
func (e *eval) tryLater(name string) outcome {
	return e.refuse(byTrouble, dsn.Trouble(errLookup, "<"+name+">: Temporary lookup failure"))
}

// deferIfPermit refuses for now what would be permitted; the first reason
// counts. With action "defer", or to be a warning only, it refuses at once.
func (e *eval) deferIfPermit(action string, status dsn.Status) outcome {
	if e.warn != 0 || strings.EqualFold(action, "defer") {
		return e.refuse(byPolicy, status)
	}
	if !e.ifPermit.active() {
		e.ifPermit.status = status
	}
	return dunno
}

// deferIfReject refuses for now what would be refused for good.
func (e *eval) deferIfReject(status dsn.Status) {
	if !e.ifReject.active() {
		e.ifReject.status = status.WithText(access.ReplyText(status.Text()))
	}
}

// event logs what happens to the client, with what is known about it.
func (e *eval) event(what, text string) {
	id := e.v.QueueID
	if id == "" {
		id = "NOQUEUE"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %s from %s: %s;", id, what, e.where, e.v.Client.NameAddr(), text)
	if e.v.HasSender {
		fmt.Fprintf(&b, " from=<%s>", e.v.Sender.External())
	}
	if e.v.HasRecipient {
		fmt.Fprintf(&b, " to=<%s>", e.v.Recipient.External())
	}
	if e.v.Protocol != "" {
		fmt.Fprintf(&b, " proto=%s", e.v.Protocol)
	}
	if e.v.Helo != "" {
		fmt.Fprintf(&b, " helo=<%s>", e.v.Helo)
	}
	b.WriteString(e.v.Login())
	e.c.setup.Log.Infof("%s", b.String())
}

// permitted is a permit that smtpd_log_access_permit_actions may want to see.
func (e *eval) permitted(action string, s subject, origin string) outcome {
	if e.c.logPermit.Empty() {
		return permit
	}
	if log, err := e.c.logPermit.Match(e.ctx, action); err == nil && log {
		e.event("permit", fmt.Sprintf("action=%s for %s=%s %s", action, s.class, s.name, origin))
	}
	return permit
}

// fix makes an enhanced code about addresses fit what the reply is about: a
// code about recipients makes no sense for a sender, nor for a host name.
func (e *eval) fix(enhanced, class string) string {
	fixed := access.FitEnhanced(enhanced, class)
	if fixed != enhanced {
		e.c.setup.Log.Infof("mapping DSN status %s into %s status %s", enhanced, class, fixed)
	}
	return fixed
}

// split takes an enhanced code off the front of text; without one it is def.
func split(def, text string) (enhanced, rest string) {
	enhanced, rest = dsn.SplitEnhanced(text)
	if enhanced == "" {
		enhanced = def
	}
	return enhanced, rest
}

// defaultTable is "type:table" in the place of a restriction.
func (e *eval) defaultTable(n *node, s subject) outcome {
	if s.acl == "" {
		e.c.setup.Log.Warnf("specify one of (check_client_access, check_reverse_client_hostname_access, check_helo_access, "+
			"check_sender_access, check_recipient_access, check_etrn_access) before %s restriction \"%s\"", s.class, n.name)
		return e.configError()
	}
	return e.c.specs[s.acl].check(e, n, s)
}

// subclass is a restriction class.
func (e *eval) subclass(n *node, s subject) outcome { return e.list(n.class, s) }
