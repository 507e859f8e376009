package submission

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"posthaste/internal/cleanup"
	"posthaste/internal/command/cli"
	"posthaste/internal/inbound/maildrop"
	"posthaste/internal/inbound/smtpd"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
	"posthaste/internal/queue/queuefile"
	"posthaste/internal/queue/trigger"
	"posthaste/internal/table"
	"posthaste/internal/table/all"
)

// smtp is "sendmail -bs": an SMTP session on standard input and output whose
// messages go to postdrop.
func (s *sendmail) smtp(ctx context.Context) int {
	var cfg smtpd.Config
	if err := s.View.Fill(&cfg); err != nil {
		return s.fatal("%v", err)
	}
	cfg.ForbidPipelining = false // programs write all of it at once
	log := s.Log.With(s.smtpdTag())
	if os.Geteuid() != 0 {
		log = nil // users do not write to the mail log
	}
	server, err := smtpd.New(cfg, smtpd.Deps{
		Sink:   dropSink{s},
		Tables: table.NewOpener(table.Setup{Log: s.Log, Types: all.Types()}),
		Log:    log,
		Flush:  s.etrn,
	}, smtpd.Options{Service: "smtpd", StandAlone: true})
	if err != nil {
		return s.fatal("%v", err)
	}
	defer server.Close()
	server.ServeStream(ctx, s.Stdin, s.Stdout)
	return 0
}

// etrn asks flush(8).
func (s *sendmail) etrn(ctx context.Context, domain string) smtpd.Flushed {
	answer, err := trigger.Ask(ctx, filepath.Join(s.c.QueueDir, "public", s.c.Flush), trigger.Flush{Kind: trigger.SendSite, Site: domain})
	switch {
	case err != nil:
		return smtpd.FlushFailed
	case answer == trigger.OK:
		return smtpd.FlushOK
	case answer == trigger.Deny:
		return smtpd.FlushDenied
	}
	return smtpd.FlushBad
}

func (s *sendmail) smtpdTag() string {
	name, err := s.View.String("syslog_name")
	if err != nil {
		name = "postfix"
	}
	return name + "/smtpd"
}

// dropSink takes messages of a stand-alone session.
type dropSink struct{ s *sendmail }

// Begin implements smtpd.Sink.
func (d dropSink) Begin(ctx context.Context, _ cleanup.Options) (smtpd.Submission, error) {
	process, err := d.s.startDrop(ctx)
	if err != nil {
		return nil, err
	}
	m := &dropMessage{drop: process, w: &writer{to: process}}
	m.env.RewriteContext = "local"
	return m, nil
}

// dropMessage is a message on its way to postdrop.
type dropMessage struct {
	drop    *dropProcess
	w       *writer
	env     envelope.Envelope
	content queuefile.Content
	begun   bool
	ended   bool
}

func (m *dropMessage) ID() queue.ID                 { return queue.ID(m.drop.id) }
func (m *dropMessage) Envelope() *envelope.Envelope { return &m.env }

func (m *dropMessage) SetSender(_ context.Context, a addr.Address) { m.env.Sender = a }

func (m *dropMessage) AddRecipient(_ context.Context, r envelope.Recipient) {
	m.env.Recipients = append(m.env.Recipients, r)
}

// Trace takes the headers in front of the content.
func (m *dropMessage) Trace(_ context.Context, headers []byte) { _, _ = m.Write(headers) }

func (m *dropMessage) Write(p []byte) (int, error) {
	m.begin()
	m.w.buf = m.content.Append(m.w.buf, p)
	if len(m.w.buf) > 32<<10 {
		m.w.flush()
	}
	return len(p), nil
}

// begin writes the envelope, which is complete when content comes.
func (m *dropMessage) begin() {
	if m.begun {
		return
	}
	m.begun = true
	head := maildrop.Message{Envelope: m.env}
	m.w.buf = head.AppendHead(m.w.buf)
	for _, r := range m.env.Recipients {
		m.w.buf = maildrop.AppendRecipient(m.w.buf, r)
	}
	m.w.buf = maildrop.AppendContent(m.w.buf)
}

// Commit ends the message.
func (m *dropMessage) Commit(context.Context) dsn.Status {
	m.begin()
	m.ended = true
	m.w.buf = m.content.Finish(m.w.buf)
	m.w.buf = (&maildrop.Message{}).AppendTail(m.w.buf, nil)
	m.w.flush()
	reply, err := m.drop.finish()
	switch {
	case err != nil:
		return dsn.Trouble(err, "Error: queue file write error")
	case reply.Status&maildrop.TooBig != 0:
		return dsn.New(552, "5.3.4", "Error: message file too big")
	case reply.Status != maildrop.OK:
		return dsn.Trouble(errors.New(reply.Reason), "Error: queue file write error: "+cli.Reason(errors.New(reply.Reason)))
	}
	return dsn.New(250, "2.0.0", "Ok")
}

// Discard implements smtpd.Submission; what a rule discards is not handed in.
func (m *dropMessage) Discard() { m.Abort() }

// Abort gives the message up.
func (m *dropMessage) Abort() {
	if !m.ended {
		m.ended = true
		m.drop.cancel()
	}
}
