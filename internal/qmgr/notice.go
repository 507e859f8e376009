package qmgr

import (
	"context"
	"io"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
)

// NoticeKind says which report a Notice is (bounce(5), the templates).
type NoticeKind uint8

const (
	NoticeFailure NoticeKind = iota // could not be delivered
	NoticeDelay                     // is still being tried
	NoticeSuccess                   // was delivered, relayed or expanded (RFC 3461)
	NoticeVerify                    // sendmail -v and -bv: what happened, or would
)

// Notice asks for a report to the sender of a message. The Bouncer knows who
// gets it: the sender, the postmaster, both or nobody.
type Notice struct {
	Kind     NoticeKind
	ID       queue.ID // of the message that is reported on
	Envelope *envelope.Envelope
	Size     int64                // content bytes
	Open     func() io.ReadSeeker // content; may be called again
	Results  []Result
	Redact   bool // return the header only, whatever the sender asked for
}

// Result is what became of one recipient.
type Result struct {
	Recipient envelope.Recipient
	Status    dsn.Status
	Relay     string // "local", "host[address]:port"; "none" or "" for none
	Action    string // RFC 3464 §2.3.3: failed, delayed, delivered, relayed, expanded; deliverable, undeliverable
}

// Bouncer composes reports and queues them. It is called concurrently. An
// error means that the report is not queued and is to be asked for again.
type Bouncer interface {
	Notify(ctx context.Context, n *Notice) error
}
