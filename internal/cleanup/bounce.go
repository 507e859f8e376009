package cleanup

import (
	"bytes"
	"context"
	"io"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr"
	"posthaste/internal/qmgr/transport"
)

// notice is a report about this message; its content is what was kept of it.
func (m *Submission) notice(kind qmgr.NoticeKind, results []qmgr.Result) *qmgr.Notice {
	var content []byte
	if m.returned != nil {
		content = m.returned.Bytes()
	}
	return &qmgr.Notice{
		Kind: kind, ID: m.ID(), Envelope: &m.env, Size: m.size, Results: results,
		Open: func() io.ReadSeeker { return bytes.NewReader(content) },
	}
}

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
	var results []qmgr.Result
	for _, r := range recipients {
		results = append(results, qmgr.Result{Recipient: r, Status: status, Relay: "none", Action: "failed"})
	}
	notice := m.notice(qmgr.NoticeFailure, results)
	// What was refused for its content is not sent around any more.
	notice.Redact = m.fails&failContent != 0
	err := m.svc.deps.Bouncer.Notify(ctx, notice)
	if err != nil {
		return err
	}
	request := &transport.Request{ID: m.ID(), Envelope: &m.env, Queued: now, Active: now}
	for _, r := range recipients {
		m.log.Infof("%s", m.svc.cfg.Log.Line(request, transport.Outcome{Recipient: r, Status: status}, now))
	}
	return nil
}

// reportExpanded tells senders who asked for it that their recipient was an
// alias; nothing more will be said about its members' success.
//
// DEVIATION: Postfix joins this with reports on other recipients of the
// message, because its trace file is read once, at the end.
func (m *Submission) reportExpanded(ctx context.Context) {
	if len(m.expanded) == 0 || m.svc.deps.Bouncer == nil {
		return
	}
	var results []qmgr.Result
	for _, r := range m.expanded {
		results = append(results, qmgr.Result{
			Recipient: r, Status: dsn.New(250, "2.0.0", "alias expanded"), Relay: "none", Action: "expanded",
		})
	}
	if err := m.svc.deps.Bouncer.Notify(ctx, m.notice(qmgr.NoticeSuccess, results)); err != nil {
		m.warnf("report of alias expansion: %v", err)
	}
}
