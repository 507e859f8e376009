// Package smtpd is smtpd(8): the SMTP server's sessions.
//
// A Server belongs to one line of master.cf and one configuration. It accepts
// connections, knows each client by name, answers commands from one table,
// asks the restrictions, and hands sender, recipients and content on to
// cleanup. The same session speaks on standard input and output for
// "sendmail -bs"; it only has another Sink.
//
// Promises: 250 after the final dot means that Commit said so. A session that
// ends early leaves nothing behind. No input makes memory grow: lines,
// recipients, history and discarded bytes are bounded. A panic ends its
// session with 421 and nothing else. Every reply, its text and its log line are
// those of Postfix.
//
// A session's state is in three structs by lifetime: conn, txn (a message),
// rcpt (a recipient). Handlers return a reply and never write. TLS and SASL are
// in packages of their own (starttls, auth); Milter finds its place in the table
// of commands.
package smtpd

import (
	"context"
	"net/netip"
	"os"
	"time"

	"posthaste/internal/cleanup"
	"posthaste/internal/inbound/peer"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/policy/rate"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

// Submission is one message on its way in; *cleanup.Submission is one.
type Submission interface {
	ID() queue.ID
	Envelope() *envelope.Envelope
	SetSender(ctx context.Context, a addr.Address)
	AddRecipient(ctx context.Context, r envelope.Recipient)
	Trace(ctx context.Context, headers []byte)
	Write(p []byte) (int, error)
	Commit(ctx context.Context) dsn.Status
	Discard()
	Abort()
}

// Sink begins submissions.
type Sink interface {
	Begin(ctx context.Context, o cleanup.Options) (Submission, error)
}

// CleanupSink is the Sink into cleanup.
type CleanupSink struct{ Service *cleanup.Service }

// Begin starts a message in cleanup.
func (c CleanupSink) Begin(ctx context.Context, o cleanup.Options) (Submission, error) {
	o.Flags |= c.Service.Flags(cleanup.SourceSMTPD) & cleanup.DetectUTF8
	sub, err := c.Service.Begin(ctx, o)
	if err != nil {
		return nil, err
	}
	return sub, nil
}

// Flushed is what became of an ETRN request (flush(8)).
type Flushed uint8

const (
	FlushOK     Flushed = iota
	FlushDenied         // not a domain of fast_flush_domains
	FlushBad            // not a domain
	FlushFailed         // the service cannot be reached
)

// Transcript is a session with errors, for the postmaster.
type Transcript struct {
	Classes []string // of notify_classes: bounce, policy, protocol, resource, software
	Subject string   // without mail_name
	Lines   []string // "Out: 220 ...", "In:  EHLO ..."
	Reason  string   // why it was ended, "" if it was not
}

// Deps are the neighbours of a Server. Sink and Tables must be there.
type Deps struct {
	Sink     Sink
	Checker  Checker       // nil permits everything
	Resolver peer.Resolver // nil: every client is "unknown"
	Tables   *table.Opener
	Rates    *rate.Counter // nil: no limits

	// ValidAddress tells whether mail can be sent to an address at all, by
	// resolving it; nil looks at the syntax only.
	ValidAddress func(ctx context.Context, sender, a addr.Address) bool
	// OwnAddress tells whether an address is one of inet_interfaces.
	OwnAddress func(netip.Addr) bool
	// Free is the room in the queue's file system, in bytes; nil: enough.
	Free func(ctx context.Context) (int64, error)
	// Flush carries out ETRN; nil refuses.
	Flush func(ctx context.Context, domain string) Flushed
	// Notify mails a transcript to the postmaster; nil keeps none. It must
	// not wait for the mail to be queued for longer than it takes.
	Notify func(ctx context.Context, t Transcript)
	// OpenFile opens certificate files that only root may read; nil: os.Open.
	OpenFile func(path string) (*os.File, error)
	// Throttle says what master(8) says about a server that died, and for how
	// long no session is to begin; nil: no time.
	Throttle func() time.Duration
	// OnPanic is told of a panic in a session, for the log; may be nil.
	OnPanic func(value any, stack []byte)

	Log *maillog.Logger // tag postfix/smtpd
	Now func() time.Time
}

// Options are the server's place in master.cf.
type Options struct {
	Service string  // for anvil and the log: the first field, "smtp" or "10025"
	MaxProc int     // most sessions at a time, 0 for no limit
	Stress  *Config // settings with stress=yes, nil if they are the same
	// StandAlone is "sendmail -bs": no restrictions, limits or client name.
	StandAlone bool
}
