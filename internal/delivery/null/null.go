// Package null is the delivery agents that deliver nothing: error(8) bounces,
// retry(8) defers and discard(8) throws away, each for the reason that the
// nexthop states.
//
// They promise an outcome for every recipient and touch nothing. Master makes
// one for each service; the queue manager calls them like any other agent.
package null

import (
	"context"
	"time"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/sys/maillog"
)

// Kind is what becomes of the mail.
type Kind uint8

const (
	Error   Kind = iota // bounce, error(8)
	Retry               // defer, the same program as service "retry"
	Discard             // discard(8)
)

// kinds: the class of the answer, the words for an empty nexthop, and the name
// of the function that Postfix's warning blames.
var kinds = [...]struct {
	class, text, blame string
	code               int
}{
	Error:   {"5", "Address is undeliverable", "bounce_append", 550},
	Retry:   {"4", "Address is undeliverable", "defer_append", 450},
	Discard: {"2", "discarded", "sent", 250},
}

// Agent is an agent of one kind. The log's tag is that of the program:
// postfix/error or postfix/discard.
type Agent struct {
	kind Kind
	log  *maillog.Logger
	now  func() time.Time
}

// New makes an agent. now may be nil for the system clock.
func New(kind Kind, log *maillog.Logger, now func() time.Time) *Agent {
	if now == nil {
		now = time.Now
	}
	return &Agent{kind: kind, log: log, now: now}
}

// Deliver implements transport.Agent.
func (a *Agent) Deliver(_ context.Context, r *transport.Request) {
	begun := a.now()
	status := a.status(r.Nexthop)
	for _, rcpt := range r.Recipients {
		r.Report(transport.Outcome{Index: rcpt.Index, Recipient: rcpt.Recipient, Status: status, Relay: "none", Begun: begun})
	}
}

// status takes code and text from the nexthop. A code of another class than
// the agent's is ignored.
func (a *Agent) status(nexthop string) dsn.Status {
	k := kinds[a.kind]
	enhanced, text := dsn.SplitEnhanced(nexthop)
	if enhanced != "" && enhanced[:1] != k.class {
		a.log.Warnf("%s: ignoring dsn code %q", k.blame, enhanced)
		enhanced = ""
	}
	if enhanced == "" {
		enhanced = k.class + ".0.0"
	}
	if text == "" {
		text = k.text
	}
	return dsn.New(k.code, enhanced, text)
}
