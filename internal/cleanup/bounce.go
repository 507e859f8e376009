package cleanup

import (
	"bytes"
	"context"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/transport"
)

// bounce returns a refused message to its sender, with one log line for each
// recipient, as if it had been queued and failed.
func (m *Submission) bounce(ctx context.Context, status dsn.Status) error {
	now := m.svc.deps.Now()
	if m.env.Arrival.IsZero() {
		m.env.Arrival = now
	}
	recipients := m.env.Recipients
	if len(recipients) == 0 {
		recipients = []envelope.Recipient{{Address: addr.Address("unknown")}}
	}
	var failures []Failure
	for _, r := range recipients {
		failures = append(failures, Failure{Recipient: r, Status: status})
	}
	err := m.svc.deps.Bouncer.Bounce(ctx, m.ID(), &m.env, bytes.NewReader(m.returned.Bytes()), failures)
	if err != nil {
		return err
	}
	request := &transport.Request{ID: m.ID(), Envelope: &m.env, Queued: now, Active: now}
	for _, r := range recipients {
		m.log.Infof("%s", m.svc.cfg.Log.Line(request, transport.Outcome{Recipient: r, Status: status}, now))
	}
	return nil
}
