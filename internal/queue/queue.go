// Package queue is the promise at the heart of the mail system: what was
// committed is kept until it was answered for.
//
// A Store keeps messages: an envelope and content that never change once
// committed, and a small mutable part (Meta: which queue, when next, what
// happened to each recipient). The store keeps, claims and lists; when to
// deliver is the queue manager's business. No engine's notion (file name,
// segment, subject) leaves an implementation.
//
// Promises, each with a test in queuetest:
//
//   - Draft.Commit returns nil only after envelope, content and Meta are on
//     stable storage. An error other than ErrUnknown means that the message
//     does not exist.
//   - Update and Remove are atomic: a crash leaves the state before or after.
//     With Lazy a crash may undo them, which repeats a delivery and never
//     loses one.
//   - Scan and Open never invent a message and never lose a committed one; an
//     unreadable one moves to Corrupt, and the rest goes on.
//
// Callers: cleanup (Begin), qmgr (all of it), bounce and the queue commands
// (Open, Scan, Update, Remove).
package queue

import (
	"context"
	"errors"
	"io"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
)

// ID names a message: unique in the store, in one of the two syntaxes of
// Postfix (postconf(5) enable_long_queue_ids).
type ID string

// Name is the queue that a message is in (QSHAPE_README).
type Name string

const (
	Incoming Name = "incoming"
	Active   Name = "active"
	Deferred Name = "deferred"
	Hold     Name = "hold"
	Corrupt  Name = "corrupt"
)

// Rev is the version of a message's mutable part.
type Rev uint64

// Durability says what a returned change survives.
type Durability uint8

const (
	Sync Durability = iota // on stable storage
	Lazy                   // a crash may undo it
)

// Claim is the right to change messages; stores with one owner give one that
// never expires.
type Claim struct{ Epoch uint64 }

var (
	ErrFull     = errors.New("queue: insufficient storage")      // answer 452
	ErrTooLarge = errors.New("queue: message is too large")      // message_size_limit
	ErrNotFound = errors.New("queue: no such message")           // gone, or never was
	ErrStale    = errors.New("queue: message was changed")       // Rev does not match
	ErrNotOwner = errors.New("queue: claim is no longer valid")  // drop the work
	ErrUnknown  = errors.New("queue: outcome of commit unknown") // may exist: answer 451
	ErrCorrupt  = errors.New("queue: damaged message")           // moved to Corrupt
)

// Hint tells Begin what to expect.
type Hint struct {
	Size int64 // expected content size in bytes, 0 if unknown
}

// Done is the final or latest answer about one recipient.
type Done struct {
	Recipient int        // index into Envelope.Recipients
	Status    dsn.Status // 2xx and 5xx end it; 4xx is the reason for the delay
}

// Meta is the mutable part of a message.
type Meta struct {
	Queue       Name
	NextAttempt time.Time
	Attempts    int
	Warned      bool // the delay warning was sent
	Traced      bool // the report that Envelope.Trace asks for was sent
	ForceExpire bool // postsuper -e
	// Pending lists the indexes of recipients without a final answer.
	Pending []int
	// Reasons holds the latest temporary answer per pending recipient, for
	// mailq and for the report on expiry.
	Reasons map[int]dsn.Status
	// Failed are final failures that no report was sent for yet.
	Failed []Done
}

// Change is one atomic modification; nil fields stay as they are.
type Change struct {
	Queue       *Name
	NextAttempt *time.Time
	Attempts    *int
	Warned      *bool
	Traced      *bool
	ForceExpire *bool
	Done        []Done // results to record
	Reported    bool   // the report on all Failed was handed in: forget them
}

// Message is an open message. Close it when done; it stays readable after a
// concurrent Remove.
type Message interface {
	ID() ID
	Envelope() *envelope.Envelope // shared, read only
	Meta() Meta                   // as of Open or the last Update through it
	Rev() Rev
	Size() int64            // content bytes, as Postfix counts them: lines ended by LF
	Content() io.ReadSeeker // lines ended by LF; each call an independent reader
	Close() error
}

// Draft is a message being received.
type Draft interface {
	ID() ID      // fixed at Begin; may be told to the client at once
	io.Writer    // content, lines ended by LF
	Size() int64 // content bytes so far
	Commit(ctx context.Context, e *envelope.Envelope, to Name) error
	Abort() // idempotent; a no-op after Commit
}

// Summary is one line of a listing.
type Summary struct {
	ID          ID
	Queue       Name // "maildrop" for mail that pickup has not seen
	Arrival     time.Time
	NextAttempt time.Time
	Size        int64
	Sender      addr.Address
	ForceExpire bool
	Recipients  []SummaryRecipient // only with Filter.Recipients
}

// SummaryRecipient is one undelivered recipient of a listing.
type SummaryRecipient struct {
	Address, Original addr.Address
	Reason            string // why it is delayed, or why it failed, or ""
	Failed            bool   // answered for, but no report was sent yet
}

// Filter selects what Scan reports.
type Filter struct {
	Queues     []Name // all when empty
	Recipients bool   // read envelopes and reasons
}

// ClaimEvent tells of partitions gained or lost; a local store sends one Gained.
type ClaimEvent struct {
	Claim  Claim
	Gained bool
}

// Status is the store's health.
type Status struct {
	FreeBytes int64
	Accepting bool
	Reason    string // why not
}

// Store keeps messages.
type Store interface {
	// Begin starts a message; ErrFull when space is short.
	Begin(ctx context.Context, h Hint) (Draft, error)
	// Open reads a message; ErrNotFound, or ErrCorrupt after moving it away.
	Open(ctx context.Context, id ID) (Message, error)
	// Update changes the mutable part; ErrStale if rev is not the current one.
	Update(ctx context.Context, c Claim, id ID, rev Rev, ch Change, d Durability) (Rev, error)
	// Remove ends a message; idempotent.
	Remove(ctx context.Context, c Claim, id ID, d Durability) error
	// Scan calls fn for each message, without holding anything up; it may be
	// slightly stale. fn's error ends it and is returned.
	Scan(ctx context.Context, f Filter, fn func(Summary) error) error
	// Claims tells what this process may work on.
	Claims(ctx context.Context) (<-chan ClaimEvent, error)
	// Arrivals hints at newly committed messages; the periodic Scan is the truth.
	Arrivals() <-chan ID
	// Status reports room and health.
	Status(ctx context.Context) (Status, error)
	// Close releases it; open messages and drafts end.
	Close(ctx context.Context) error
}
