package cleanup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"posthaste/internal/cleanup/rewrite"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/mail/rfc822"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
)

// Submission is one message on its way into the queue. One goroutine uses it.
//
// The order is: Envelope fields, SetSender, AddRecipient, Trace, Write, Commit.
// Trouble on the way is kept and answered by Commit, as in Postfix.
type Submission struct {
	svc   *Service
	opt   Options
	log   *maillog.Logger
	draft queue.Draft
	env   envelope.Envelope
	// ctx is that of Begin: Write must look up header checks, and has the
	// shape of io.Writer.
	ctx  context.Context
	job  *rewrite.Job
	done bool

	flags     Flags
	fails     failure
	reason    string
	discard   bool
	recipient addr.Address // the first one, for the log
	copies    []addr.Address
	expanded  []envelope.Recipient
	seen      map[string]struct{}

	walker   *rfc822.Walker
	front    front
	headers  uint64 // bit set of rfc822.Known that were seen
	resent   bool
	hops     int
	defects  rfc822.Problem
	pending  []byte // header lines to be written
	size     int64
	returned *bytes.Buffer // what a report may return, with Bounce
	rejected bool          // message_reject_characters was seen
	scratch  []byte
	line     []byte
}

// pendingLimit is how many bytes of header are collected before a write.
const pendingLimit = 16 << 10

func newSubmission(ctx context.Context, s *Service, o Options, draft queue.Draft) *Submission {
	m := &Submission{svc: s, opt: o, log: s.deps.Log, draft: draft, ctx: ctx, flags: o.Flags}
	if o.Log != nil {
		m.log = o.Log
	}
	m.job = s.mapper.Job(func(text string) { m.warnf("%s", text) })
	m.front.first = true
	return m
}

// ID is the queue ID, fixed from the start.
func (m *Submission) ID() queue.ID { return m.draft.ID() }

// Envelope is to be filled by the entrance before SetSender: client facts,
// DSN parameters, rewrite context, filter. Commit completes it.
func (m *Submission) Envelope() *envelope.Envelope { return &m.env }

// infof logs a line that begins with the queue ID.
func (m *Submission) infof(format string, args ...any) {
	m.log.Infof("%s: %s", m.ID(), fmt.Sprintf(format, args...))
}

func (m *Submission) warnf(format string, args ...any) {
	m.log.Warnf("%s: %s", m.ID(), fmt.Sprintf(format, args...))
}

// writing reports whether output still matters. With Bounce it does after a
// permanent refusal too, because the report returns the message.
func (m *Submission) writing() bool {
	fatal := m.fails
	if m.flags&Bounce != 0 {
		fatal &= temporary
	}
	return fatal == 0 && !m.discard
}

// emit writes finished content.
func (m *Submission) emit(p []byte) {
	if !m.writing() || len(p) == 0 {
		return
	}
	m.size += int64(len(p))
	if limit := m.svc.cfg.MessageLimit; limit > 0 && m.size > limit {
		if m.fails&failSize == 0 {
			m.warnf("queue file size limit exceeded")
		}
		m.fails |= failSize
		return
	}
	m.keep(p)
	if _, err := m.draft.Write(p); err != nil {
		m.warnf("write queue file: %v", err)
		m.fails |= failWrite
	}
}

// keep remembers what a report may return: with Bounce, and for aliases that
// are reported on, at most bounce_size_limit.
func (m *Submission) keep(p []byte) {
	if m.flags&Bounce == 0 && len(m.expanded) == 0 {
		return
	}
	if m.returned == nil {
		m.returned = &bytes.Buffer{}
	}
	if room := m.svc.cfg.BounceSize - m.returned.Len(); room > 0 {
		m.returned.Write(p[:min(len(p), room)])
	}
}

// flush writes the header lines that wait.
func (m *Submission) flush() {
	m.emit(m.pending)
	m.pending = m.pending[:0]
}

// headerLine queues one complete header line or folded header for output.
func (m *Submission) headerLine(text string) {
	if !m.writing() {
		return
	}
	if m.svc.cfg.ReplaceStray {
		text = strings.ReplaceAll(text, "\r", " ")
	}
	for {
		// A line that a rule made does not begin a new field.
		line, rest, more := strings.Cut(text, "\n")
		m.pending = append(append(m.pending, line...), '\n')
		if !more {
			break
		}
		if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
			m.pending = append(m.pending, '\t')
		}
		text = rest
	}
	if len(m.pending) >= pendingLimit {
		m.flush()
	}
}

// Commit ends the message: 2xx is queued (or discarded by rule, or returned to
// its sender), everything else is not. The text of an answer is meant for an
// SMTP client.
func (m *Submission) Commit(ctx context.Context) dsn.Status {
	if m.done {
		return dsn.Trouble(errors.New("cleanup: message was ended before"), "Error: internal error")
	}
	m.endContent()
	m.addCopies(ctx)
	if m.writing() && len(m.env.Recipients) == 0 {
		m.fails |= failRecipients
	}
	switch {
	case m.fails != 0:
		return m.refuse(ctx)
	case m.discard:
		m.remove("discarded")
		return result(0, "")
	}
	to := queue.Incoming
	if m.env.Hold {
		to = queue.Hold
	}
	if m.env.Arrival.IsZero() {
		m.env.Arrival = m.svc.deps.Now()
	}
	err := m.draft.Commit(ctx, &m.env, to)
	if errors.Is(err, queue.ErrTooLarge) {
		m.warnf("queue file size limit exceeded")
		m.svc.deps.Log.Warnf("mail_stream_cleanup: close error")
		m.remove("canceled")
		return reply(failSize, "")
	}
	if err != nil {
		m.warnf("write queue file: %v", err)
		if errors.Is(err, queue.ErrUnknown) {
			m.done = true // it may be there; a repeated message is not a loss
		}
		m.remove("canceled")
		return writeError(err)
	}
	m.done = true
	m.reportExpanded(ctx)
	return result(0, "")
}

// addTrouble turns what the rewriter ran into into failures.
func (m *Submission) addTrouble() {
	t := m.job.Trouble()
	if t&rewrite.Lookup != 0 {
		m.fails |= failWrite
	}
	if t&rewrite.Expansion != 0 {
		m.fails |= failDefer
		m.reason = "4.6.0 Alias expansion error"
	}
}

// refuse answers a message that is not accepted, or returns it to its sender.
func (m *Submission) refuse(ctx context.Context) dsn.Status {
	if m.flags&Bounce == 0 || m.fails&temporary != 0 || m.svc.deps.Bouncer == nil {
		m.remove("canceled")
		return reply(m.fails, m.reason)
	}
	status := result(m.fails, m.reason)
	if err := m.bounce(ctx, status); err != nil {
		m.warnf("bounce message: %v", err)
		m.remove("canceled")
		return writeError(err)
	}
	m.remove("discarded")
	return result(0, "")
}

// remove drops the draft and logs it, unless that was done.
func (m *Submission) remove(how string) {
	if m.done {
		return
	}
	m.done = true
	m.draft.Abort()
	m.infof("removed (%s)", how)
}

// Abort drops the message; it does nothing after Commit.
func (m *Submission) Abort() {
	if limit := m.svc.cfg.MessageLimit; limit > 0 && m.size >= limit && !m.done {
		// With its envelope the file would be too large.
		m.svc.deps.Log.Warnf("mail_stream_cleanup: close error")
	}
	m.remove("canceled")
}
