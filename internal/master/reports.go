package master

import (
	"context"
	"fmt"
	"time"

	"posthaste/internal/cleanup"
	"posthaste/internal/delivery/bounce"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
)

// submitReport queues a report: what bounce(8) composes comes back in at the
// front door.
func (g *generation) submitReport(ctx context.Context, e *envelope.Envelope, compose bounce.Compose) (queue.ID, dsn.Status) {
	service, ok := g.cleanup(g.main)
	if !ok {
		return "", dsn.Trouble(fmt.Errorf("master.cf has no cleanup service"), "queue file write error")
	}
	source := cleanup.SourceBounce
	if e.Sender != "" {
		source = cleanup.SourceNotify
	}
	m, err := service.Begin(ctx, cleanup.Options{Flags: service.Flags(source), Origin: "local"})
	if err != nil {
		return "", dsn.Trouble(err, "queue file write error")
	}
	defer m.Abort()
	*m.Envelope() = *e
	m.Envelope().Recipients = nil
	m.SetSender(ctx, e.Sender)
	for _, r := range e.Recipients {
		m.AddRecipient(ctx, r)
	}
	if err := compose(m.ID(), m); err != nil {
		return m.ID(), dsn.Trouble(err, "queue file write error")
	}
	return m.ID(), m.Commit(ctx)
}

// transcript mails a session with errors to the postmaster.
func (g *generation) transcript(ctx context.Context, t bounce.Transcript) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := g.bounce.Transcript(ctx, t); err != nil {
		g.system.logger(g.main, "smtpd").Warnf("postmaster notification: %v", err)
	}
}
