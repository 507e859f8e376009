package bounce

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
)

// Transcript is a session that the postmaster may want to know about.
type Transcript struct {
	// Classes are those of postconf(5) notify_classes that the session had
	// trouble in: data, policy, protocol, resource, software.
	Classes []string
	Subject string   // "SMTP server: errors from client.example[192.0.2.1]", without mail_name
	Lines   []string // "Out: 220 ...", "In:  EHLO ..."
	Reason  string   // why the session was ended, "" if it was not
}

// transcriptWidth is where lines of a session are folded, without the space
// before each.
const transcriptWidth = 78

// Transcript mails a session to error_notice_recipient if one of its classes
// is wanted (postconf(5) notify_classes). The error is that it is not queued.
func (s *Service) Transcript(ctx context.Context, t Transcript) error {
	wanted := false
	for _, class := range t.Classes {
		wanted = wanted || s.classes[class]
	}
	if !wanted {
		return nil
	}
	now, to := s.deps.Now(), addr.Address(s.cfg.ErrorRecipient)
	e := &envelope.Envelope{
		Sender: s.DoubleBounceAddress(), Recipients: []envelope.Recipient{{Address: to, Original: to}},
		Arrival: now, Inject: "bounce", RewriteContext: "local",
	}
	_, status := s.deps.Submit(ctx, e, func(id queue.ID, out io.Writer) error {
		w := bufio.NewWriter(out)
		s.trace(w, id, now)
		fmt.Fprintf(w, "From: %s\nTo: %s\nSubject: %s %s\n\nTranscript of session follows.\n\n",
			s.named("MAILER-DAEMON", "Mail Delivery System"), s.named(s.cfg.ErrorRecipient, "Postmaster"), s.cfg.MailName, clean(t.Subject))
		for _, line := range t.Lines {
			wrap(w, " ", clean(line), transcriptWidth)
		}
		w.WriteString("\n")
		if t.Reason != "" {
			fmt.Fprintf(w, "Session aborted, reason: %s\n", clean(t.Reason))
		}
		w.WriteString("\nFor other details, see the local mail logfile\n")
		return w.Flush()
	})
	if !status.OK() {
		return fmt.Errorf("bounce: transcript: %s", status.Reply())
	}
	return nil
}

// named is an address with a name, in the form of header_from_format.
func (s *Service) named(address, name string) string {
	if s.cfg.HeaderFrom == "obsolete" {
		return address + " (" + name + ")"
	}
	return name + " <" + address + ">"
}
