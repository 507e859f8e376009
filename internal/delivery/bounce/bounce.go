// Package bounce is bounce(8): it composes reports about mail and queues them
// as new messages.
//
// Non-delivery, delay, success and verify reports go to the sender, in the
// format of RFC 3464; copies and double bounces go to the postmaster as
// notify_classes wants; transcripts of SMTP sessions go there too. A report is
// never answered by a report: what was sent with the null sender comes back as
// a double bounce, and a double bounce that fails is discarded with a warning.
//
// It promises that a nil error means the report is on stable storage, or that
// nobody is to get one. It keeps nothing of its own; which recipients failed
// is in the queue (queue.Meta). Memory does not grow with the message.
//
// The queue manager calls it through qmgr.Bouncer, cleanup for mail that it
// has to return, smtpd and smtp for transcripts. It reaches the front door
// through the Submit function that master hands in.
package bounce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
)

// Config is what reports depend on (postconf(5)).
type Config struct {
	MyHostname      string        `param:"myhostname"`
	MailName        string        `param:"mail_name"`
	SMTPUTF8        bool          `param:"smtputf8_enable"`
	TemplateFile    string        `param:"bounce_template_file"`
	SizeLimit       int           `param:"bounce_size_limit"`
	NotifyClasses   string        `param:"notify_classes"`
	BounceRecipient string        `param:"bounce_notice_recipient"`
	DoubleRecipient string        `param:"2bounce_notice_recipient"`
	DelayRecipient  string        `param:"delay_notice_recipient"`
	ErrorRecipient  string        `param:"error_notice_recipient"`
	DoubleBounce    string        `param:"double_bounce_sender"`
	Threaded        bool          `param:"enable_threaded_bounces"`
	NoVERP          bool          `param:"disable_verp_bounces"`
	HeaderFrom      string        `param:"header_from_format"`
	DelayWarning    time.Duration `param:"delay_warning_time"`
	MaxLifetime     time.Duration `param:"maximal_queue_lifetime"`
}

// Compose writes the content of a message that has the given queue ID, lines
// ended by LF, from its Received: header on. An error cancels the message.
type Compose func(id queue.ID, w io.Writer) error

// Submit queues a message of ours: a cleanup submission that commits what
// compose writes, or aborts when compose fails. The ID is that of the new
// message, also if it was aborted.
type Submit func(ctx context.Context, e *envelope.Envelope, compose Compose) (queue.ID, dsn.Status)

// Deps are the neighbours of a Service.
type Deps struct {
	Submit Submit
	Log    *maillog.Logger                  // tag postfix/bounce
	Param  func(name string) (string, bool) // main.cf, expanded, for template texts
	Now    func() time.Time                 // nil for the system clock
}

// Service composes reports with one set of settings. Safe for concurrent use.
type Service struct {
	cfg       Config
	deps      Deps
	templates Templates
	defaults  Templates
	classes   map[string]bool

	once sync.Map // warnings about templates that were logged
}

var _ qmgr.Bouncer = (*Service)(nil)

// New makes a service. A template file that cannot be used is warned about,
// and the built-in texts are sent instead: a report in other words is better
// than none.
func New(cfg Config, deps Deps) *Service {
	s := &Service{cfg: cfg, deps: deps, defaults: Defaults(cfg.HeaderFrom), classes: map[string]bool{}}
	if s.deps.Now == nil {
		s.deps.Now = time.Now
	}
	for _, class := range strings.FieldsFunc(strings.ToLower(cfg.NotifyClasses), func(r rune) bool { return r == ',' || r <= ' ' }) {
		s.classes[class] = true
	}
	s.templates = s.defaults
	if cfg.TemplateFile != "" {
		t, err := LoadTemplates(cfg.TemplateFile, s.defaults)
		if err != nil {
			deps.Log.Warnf("bounce_template_file: %v; using built-in templates", err)
		} else {
			s.templates = t
		}
	}
	return s
}

// LoadTemplates reads a template file (postconf(5) bounce_template_file).
func LoadTemplates(path string, defaults Templates) (Templates, error) {
	f, err := os.Open(path)
	if err != nil {
		return Templates{}, err
	}
	defer f.Close()
	return ParseTemplates(f, path, defaults)
}

// Wants reports whether the postmaster wants notices of a class
// (postconf(5) notify_classes).
func (s *Service) Wants(class string) bool { return s.classes[class] }

// DoubleBounceAddress is the sender of what must not be answered.
func (s *Service) DoubleBounceAddress() addr.Address {
	return addr.Address(s.cfg.DoubleBounce + "@" + s.cfg.MyHostname)
}

func (s *Service) isDoubleBounce(a addr.Address) bool {
	return strings.EqualFold(string(a), string(s.DoubleBounceAddress()))
}

// Notify implements qmgr.Bouncer.
func (s *Service) Notify(ctx context.Context, n *qmgr.Notice) error {
	switch n.Kind {
	case qmgr.NoticeFailure:
		return s.failure(ctx, n)
	case qmgr.NoticeDelay:
		return s.delay(ctx, n)
	default:
		return s.statusReport(ctx, n)
	}
}

// failure returns a message to its sender, and tells the postmaster.
func (s *Service) failure(ctx context.Context, n *qmgr.Notice) error {
	e := n.Envelope
	switch {
	case s.isDoubleBounce(e.Sender):
		s.deps.Log.Warnf("%s: undeliverable postmaster notification discarded", n.ID)
		return nil
	case e.Sender == "":
		if !s.classes["2bounce"] && !s.classes["bounce"] {
			return nil
		}
		return s.send(ctx, s.copy(n, &s.templates.Failure, s.cfg.DoubleRecipient), "postmaster non-delivery notification")
	}
	if err := s.toSender(ctx, n); err != nil {
		s.deps.Log.Infof("%s: sender notification failed to <%s>: %v", n.ID, e.Sender.External(), err)
		return err
	}
	if s.classes["bounce"] {
		r := s.copy(n, &s.templates.Failure, s.cfg.BounceRecipient)
		r.headers = true
		if err := s.send(ctx, r, "postmaster non-delivery notification"); err != nil {
			s.deps.Log.Warnf("%s: postmaster notice failed while bouncing to %s", n.ID, e.Sender.External())
		}
	}
	return nil
}

// toSender sends one report, or one per recipient with VERP.
func (s *Service) toSender(ctx context.Context, n *qmgr.Notice) error {
	e := n.Envelope
	wanted := filter(n.Results, envelope.NotifyFailure)
	if e.Verp == "" || s.cfg.NoVERP {
		return s.send(ctx, s.failureReport(n, wanted, e.Sender), "sender non-delivery notification")
	}
	for _, one := range wanted {
		to := transport.VERP(e.Sender, e.Verp, one.Recipient.Address)
		if err := s.send(ctx, s.failureReport(n, []qmgr.Result{one}, to), "sender non-delivery notification"); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) failureReport(n *qmgr.Notice, results []qmgr.Result, to addr.Address) *report {
	r := s.report(n, &s.templates.Failure, to)
	r.results = results
	r.headers = n.Envelope.Return == envelope.ReturnHeaders || n.Redact
	return r
}

// delay tells that a message is late. It is not critical.
func (s *Service) delay(ctx context.Context, n *qmgr.Notice) error {
	e := n.Envelope
	if s.isDoubleBounce(e.Sender) {
		return nil
	}
	if e.Sender != "" {
		r := s.report(n, &s.templates.Delay, e.Sender)
		r.results, r.headers = filter(n.Results, envelope.NotifyDelay), true
		if err := s.send(ctx, r, "sender delay notification"); err != nil {
			return err
		}
	}
	if s.classes["delay"] {
		r := s.copy(n, &s.templates.Delay, s.cfg.DelayRecipient)
		r.headers = true
		return s.send(ctx, r, "postmaster delay notification")
	}
	return nil
}

// statusReport reports what became of recipients that somebody asked about. For the
// null sender the postmaster is told, and nobody about a double bounce.
func (s *Service) statusReport(ctx context.Context, n *qmgr.Notice) error {
	e, template := n.Envelope, &s.templates.Success
	if n.Kind == qmgr.NoticeVerify {
		template = &s.templates.Verify
	}
	if s.isDoubleBounce(e.Sender) {
		s.deps.Log.Infof("%s: not sending trace/success notification for double-bounce message", n.ID)
		return nil
	}
	r := s.report(n, template, e.Sender)
	if e.Sender == "" {
		r.to = "postmaster"
	}
	r.headers = true
	return s.send(ctx, r, "sender delivery status notification")
}

// copy is a report for the postmaster; everybody is in it.
func (s *Service) copy(n *qmgr.Notice, t *Template, to string) *report {
	r := s.report(n, t, addr.Address(to))
	r.postmaster = true
	r.headers = n.Redact
	return r
}

func (s *Service) report(n *qmgr.Notice, t *Template, to addr.Address) *report {
	now := s.deps.Now()
	return &report{
		svc: s, notice: n, template: t, results: n.Results, to: to, now: now,
		boundary: fmt.Sprintf("%s.%d/%s", n.ID, now.Unix(), s.cfg.MyHostname),
		encoding: bodyEncoding(s.cfg.SMTPUTF8, n.Envelope.Encoding),
		utf8:     n.Envelope.SMTPUTF8,
	}
}

// filter keeps the recipients that want a report about cond (RFC 3461 §4.1).
func filter(all []qmgr.Result, cond envelope.Notify) []qmgr.Result {
	var wanted []qmgr.Result
	for _, r := range all {
		if r.Recipient.Notify == 0 || r.Recipient.Notify&cond != 0 {
			wanted = append(wanted, r)
		}
	}
	return wanted
}

// send queues a report. One that nobody wants is begun and cancelled, which
// leaves the same lines in the log as in Postfix.
func (s *Service) send(ctx context.Context, r *report, what string) error {
	var sender addr.Address
	if r.postmaster || r.notice.Envelope.Sender == "" {
		sender = s.DoubleBounceAddress()
	}
	e := &envelope.Envelope{
		Sender: sender, Recipients: []envelope.Recipient{{Address: r.to, Original: r.to}},
		Arrival: r.now, Inject: "bounce", RewriteContext: "local",
		SMTPUTF8: r.utf8 && !r.to.IsASCII() || r.utf8 && !r.ascii(),
	}
	if r.encoding == "8bit" {
		e.Encoding = envelope.Encoding8bit
	}
	var failed error
	id, status := s.deps.Submit(ctx, e, func(id queue.ID, w io.Writer) error {
		failed = r.compose(id, w)
		return failed
	})
	switch {
	case errors.Is(failed, errNobody):
	case failed != nil:
		return failed
	case !status.OK():
		return fmt.Errorf("bounce: %s", status.Reply())
	}
	if id != "" {
		s.deps.Log.Infof("%s: %s: %s", r.notice.ID, what, id)
	}
	return nil
}

// ascii reports whether nothing in the report needs SMTPUTF8 by address.
func (r *report) ascii() bool {
	for _, one := range r.results {
		if !one.Recipient.Address.IsASCII() {
			return false
		}
	}
	return r.notice.Envelope.Sender.IsASCII()
}

// trace writes the headers of a message that is made here.
func (s *Service) trace(w io.Writer, id queue.ID, now time.Time) {
	date := now.Format(dateFormat)
	fmt.Fprintf(w, "Received: by %s (%s)\n\tid %s; %s\nDate: %s\n", s.cfg.MyHostname, s.cfg.MailName, id, date, date)
}

// text is the expanded text of a template; a bad one is replaced by ours.
func (s *Service) text(t *Template) ([]string, error) {
	v := Values{Lookup: s.param, DelayTime: s.cfg.DelayWarning, MaxLifetime: s.cfg.MaxLifetime, Warnf: s.warnOnce}
	lines, err := t.Expand(v)
	if err == nil {
		return lines, nil
	}
	s.warnOnce("%v; using built-in template", err)
	return s.defaults.byName(t.Name).Expand(v)
}

func (t *Templates) byName(name string) *Template {
	if one := t.named(name + "_template"); one != nil {
		return one
	}
	return &t.Failure
}

// param finds a main.cf parameter. With SMTPUTF8 the host and domain are shown
// in Unicode (bounce(5)).
func (s *Service) param(name string) (string, bool) {
	value, ok := "", false
	if s.deps.Param != nil {
		value, ok = s.deps.Param(name)
	}
	if name == "myhostname" && !ok {
		value, ok = s.cfg.MyHostname, true
	}
	if s.cfg.SMTPUTF8 && (name == "myhostname" || name == "mydomain") {
		if u, err := addr.ToUnicode(value); err == nil {
			value = u
		}
	}
	return value, ok
}

func (s *Service) warnOnce(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if _, before := s.once.LoadOrStore(text, true); !before {
		s.deps.Log.Warnf("%s", text)
	}
}
