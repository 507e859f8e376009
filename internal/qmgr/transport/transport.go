// Package transport is the contract between the queue manager and the
// delivery agents behind the transports of master.cf.
//
// The queue manager groups recipients with the same transport and nexthop
// into a Request; an Agent attempts each of them once and reports an Outcome
// for each. The agent decides nothing about retries, bounces or the queue. A
// recipient without an outcome counts as deferred: an agent that fails loses
// nothing.
package transport

import (
	"context"
	"io"
	"time"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
)

// Request is one delivery attempt: some recipients of one message that share
// a transport and a nexthop.
type Request struct {
	ID         queue.ID
	Envelope   *envelope.Envelope   // shared, read only
	Size       int64                // content bytes
	Open       func() io.ReadSeeker // content, lines ended by LF; may be called again
	Transport  string               // service name in master.cf
	Nexthop    string
	Recipients []Recipient

	Active time.Time // when the message entered the active queue
	Queued time.Time // when this attempt was handed to the agent

	// Report logs an outcome and takes it to the queue manager. Safe for
	// concurrent use; never blocks on I/O of a peer.
	Report func(Outcome)
}

// Recipient is one recipient of a Request.
type Recipient struct {
	envelope.Recipient
	Index int // in Envelope.Recipients
}

// Outcome is the answer about one recipient. An agent that expands a
// recipient (local(8) aliases) may report several for the same Index: the
// recipient is deferred if any of them is temporary.
type Outcome struct {
	Index     int
	Recipient envelope.Recipient // as logged and reported; may differ from the request's after expansion
	Status    dsn.Status
	Relay     string    // "host[addr]:port", "local", "none", a transport name
	ConnUse   int       // uses of a cached connection, 0 or 1 for none
	TLS       string    // tls= of the log line, as in "may:none"; "" for none
	Connected time.Time // when the connection was up; zero if there was none
	Begun     time.Time // when the agent took up this recipient; zero: Request.Queued
	// Relayed: passed on to a system without DSN support (RFC 3461 "relayed").
	Relayed bool
	// Expanded: replaced by others that are answered for separately ("expanded").
	Expanded bool
	// Unlogged: for delivery reports only, without a log line. Expanded
	// outcomes have none either.
	Unlogged bool
	// Log replaces the log of the request's agent, when that passed the
	// recipient on to another one; nil does not.
	Log *maillog.Logger
}

// Agent carries out deliveries of one kind. One agent serves all services of
// its program; it is called concurrently.
type Agent interface {
	// Deliver attempts each recipient once and reports each outcome before
	// it returns. It honours ctx: what is cut off is left without outcome.
	Deliver(ctx context.Context, r *Request)
}
