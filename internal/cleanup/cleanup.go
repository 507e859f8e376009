// Package cleanup is cleanup(8): it turns an envelope and a content stream
// into one committed queue entry.
//
// On the way it adds missing headers, rewrites addresses, expands aliases,
// adds BCC recipients, removes duplicates and inspects content. Entrances
// (smtpd, pickup, qmqpd) and internal mail (bounce, local forwarding) use the
// same Submission. It promises that nothing is queued unless Commit said so,
// that trouble of ours (a table, the disk) is a 4xx answer, and that memory
// does not grow with the size of a message.
//
// Package rewrite below it maps addresses, package content inspects headers
// and body lines; the header lexer and the MIME machine are in mail/rfc822.
package cleanup

import (
	"context"
	"io"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

// Rewriter brings an address into standard form, as trivial-rewrite(8) does.
type Rewriter interface {
	// Rewrite works in the context "local", "invalid" or "remote"
	// (postconf(5) remote_header_rewrite_domain). An error means try again.
	Rewrite(ctx context.Context, rewriteContext string, a addr.Address) (addr.Address, error)
}

// Failure is a recipient that a Bouncer reports.
type Failure struct {
	Recipient envelope.Recipient
	Status    dsn.Status
}

// Bouncer sends reports about mail that was refused after its entrance could
// tell nobody: sendmail, forwarding (Flags Bounce). Package bounce is one.
type Bouncer interface {
	// Bounce returns the message to its sender. content may be cut off at
	// bounce_size_limit. It returns after the report is queued.
	Bounce(ctx context.Context, id queue.ID, e *envelope.Envelope, content io.Reader, failures []Failure) error
}

// Tracer keeps records for a delivery status notification on success, here
// about aliases that were expanded (RFC 3464, action "expanded").
type Tracer interface {
	// Expanded reports a recipient whose sender asked for success reports.
	Expanded(ctx context.Context, id queue.ID, e *envelope.Envelope, r envelope.Recipient) error
}

// Deps are the neighbours of a Service. Store, Rewriter and Tables must be
// there; without a Bouncer, refused mail is only answered.
type Deps struct {
	Store    queue.Store
	Rewriter Rewriter
	Tables   *table.Opener
	Bouncer  Bouncer
	Tracer   Tracer
	Log      *maillog.Logger // tag postfix/cleanup
	Now      func() time.Time
}

// Flags say what is done to a message, as CLEANUP_FLAG_* of Postfix.
type Flags uint16

const (
	Filter     Flags = 1 << iota // header and body checks
	BCC                          // always_bcc, sender_bcc_maps, recipient_bcc_maps
	Map                          // canonical, masquerade, virtual alias
	Milter                       // mail filter applications
	Bounce                       // report refusals to the sender
	DetectUTF8                   // SMTPUTF8 is found out from header and addresses
)

// External is what mail from outside gets before receive_override_options.
const External = Filter | BCC | Map | Milter

// Internal is what mail that we make ourselves gets.
const Internal = Map

// Options are the circumstances of one submission.
type Options struct {
	Flags  Flags
	Origin string // for the log: "name[address]", or "local"
	// Proto and Helo are for the log, "" for local mail.
	Proto, Helo string
	// Size is the expected size in bytes, 0 if unknown.
	Size int64
	// Log replaces the service's log, for a role with another tag.
	Log *maillog.Logger
}

// Service makes submissions. It is safe for concurrent use and belongs to one
// configuration snapshot.
type Service struct {
	cfg  Config
	deps Deps
}

// New makes a service and opens its tables. An error is a setting that cannot
// be used; a table that cannot be opened is none, but makes mail wait.
func New(cfg Config, deps Deps) (*Service, error) {
	return &Service{cfg: cfg, deps: deps}, nil
}

// Begin starts a message and reserves its queue ID. The caller ends it with
// Commit or Abort. The error is machinery trouble: queue.ErrFull is 452.
func (s *Service) Begin(ctx context.Context, o Options) (*Submission, error) {
	draft, err := s.deps.Store.Begin(ctx, queue.Hint{Size: o.Size})
	if err != nil {
		return nil, err
	}
	return &Submission{svc: s, opt: o, draft: draft}, nil
}

// Submission is one message on its way into the queue. One goroutine uses it.
//
// The order is: Envelope fields, SetSender, AddRecipient, Trace, Write, Commit.
// Trouble on the way is kept and answered by Commit, as in Postfix.
type Submission struct {
	svc   *Service
	opt   Options
	draft queue.Draft
	env   envelope.Envelope
}

// ID is the queue ID, fixed from the start.
func (m *Submission) ID() queue.ID { return m.draft.ID() }

// Envelope is to be filled by the entrance before SetSender: client facts,
// DSN parameters, rewrite context, filter. Commit completes it.
func (m *Submission) Envelope() *envelope.Envelope { return &m.env }

// SetSender sets the envelope sender, "" for the null sender.
func (m *Submission) SetSender(ctx context.Context, a addr.Address) {}

// AddRecipient adds a recipient with everything that it expands into. An
// empty Original means Address itself.
func (m *Submission) AddRecipient(ctx context.Context, r envelope.Recipient) {}

// Trace writes headers that the entrance puts before the message, such as
// Received: complete lines, each ended by LF.
func (m *Submission) Trace(ctx context.Context, headers []byte) {}

// Write takes content as it was received, lines ended by LF and split
// anywhere. The error only says that the rest is not worth sending.
func (m *Submission) Write(p []byte) (int, error) { return len(p), nil }

// Commit ends the message: 2xx is queued (or discarded by rule), everything
// else is not. The text of an answer is meant for an SMTP client.
func (m *Submission) Commit(ctx context.Context) dsn.Status { return dsn.Status{} }

// Abort drops the message; it does nothing after Commit.
func (m *Submission) Abort() {}

// Submit is Begin to Commit in one, for mail that is there as a whole.
func (s *Service) Submit(ctx context.Context, o Options, e *envelope.Envelope, content io.Reader) (queue.ID, dsn.Status) {
	return "", dsn.Status{}
}
