package bounce

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
)

var update = flag.Bool("update", false, "rewrite the expected reports in testdata")

var start = time.Date(2026, 3, 5, 9, 8, 7, 0, time.UTC)

func config() Config {
	return Config{MyHostname: "mail.example.com", MailName: "Postfix", SMTPUTF8: true, SizeLimit: 50000,
		NotifyClasses: "resource, software", BounceRecipient: "postmaster", DoubleRecipient: "postmaster",
		DelayRecipient: "postmaster", ErrorRecipient: "postmaster", DoubleBounce: "double-bounce",
		HeaderFrom: "standard", DelayWarning: 4 * time.Hour, MaxLifetime: 5 * 24 * time.Hour}
}

// outbox is a Submit that keeps what it gets.
type outbox struct {
	text   strings.Builder
	n      int
	refuse dsn.Status
}

func (o *outbox) submit(_ context.Context, e *envelope.Envelope, compose Compose) (queue.ID, dsn.Status) {
	o.n++
	id := queue.ID(fmt.Sprintf("NEW%d", o.n))
	if !o.refuse.IsZero() {
		return id, o.refuse
	}
	var b bytes.Buffer
	if err := compose(id, &b); err != nil {
		fmt.Fprintf(&o.text, "==== cancelled: %v\n", err)
		return id, dsn.Trouble(err, "Error: queue file write error")
	}
	fmt.Fprintf(&o.text, "==== from=<%s> to=<%s> smtputf8=%v\n%s", e.Sender, e.Recipients[0].Address, e.SMTPUTF8, b.String())
	return id, dsn.New(250, "2.0.0", "Ok")
}

func service(c Config, o *outbox) (*Service, *maillog.Memory) {
	log := &maillog.Memory{}
	return New(c, Deps{Submit: o.submit, Log: maillog.New(log, "postfix/bounce", 1, nil), Now: func() time.Time { return start.Add(time.Minute) }}), log
}

const content = "Received: from client.example.net (client.example.net [198.51.100.7])\n\tby mail.example.com (Postfix) with ESMTP id QID1\n" +
	"\tfor <u@a.example>; Thu, 05 Mar 2026 09:08:07 +0000 (UTC)\nSubject: hi\nMessage-ID: <m1@x>\n\nhello\n"

func rcpt(address, original string) envelope.Recipient {
	return envelope.Recipient{Address: addr.Address(address), Original: addr.Address(original), ORCPT: "rfc822;" + original}
}

func notice(kind qmgr.NoticeKind, text string, results ...qmgr.Result) *qmgr.Notice {
	return &qmgr.Notice{Kind: kind, ID: "QID1", Size: int64(len(text)), Results: results,
		Envelope: &envelope.Envelope{Sender: "alice@mail.example.com", Arrival: start},
		Open:     func() io.ReadSeeker { return strings.NewReader(text) }}
}

var (
	refused = qmgr.Result{Recipient: rcpt("data@bad.example", "data@bad.example"), Relay: "bad.example[203.0.113.9]:25", Action: "failed",
		Status: dsn.New(550, "5.6.0", "host bad.example[203.0.113.9] said: 550 5.6.0 message refused (in reply to end of DATA command)").
			WithRemote(dsn.Remote{MTA: "bad.example", DiagType: "smtp", Diag: "550 5.6.0 message refused"})}
	unknown = qmgr.Result{Recipient: rcpt("nosuch@mail.example.com", "alias@mail.example.com"), Relay: "local", Action: "failed",
		Status: dsn.New(550, "5.1.1", `unknown user: "nosuch"`)}
	late = qmgr.Result{Recipient: rcpt("u@later.example", "u@later.example"), Action: "delayed",
		Status: dsn.New(450, "4.2.0", "host later.example[203.0.113.9] said: 450 4.2.0 not yet (in reply to RCPT TO command)").
			WithRemote(dsn.Remote{MTA: "later.example", DiagType: "smtp", Diag: "450 4.2.0 not yet"})}
	relayed = qmgr.Result{Recipient: rcpt("u@nodsn.example", "u@nodsn.example"), Relay: "nodsn.example[203.0.113.10]:25", Action: "relayed",
		Status: dsn.New(250, "2.0.0", "250 2.0.0 Ok: taken").WithRemote(dsn.Remote{MTA: "nodsn.example", DiagType: "smtp", Diag: "250 2.0.0 Ok: taken"})}
	mailbox = qmgr.Result{Recipient: rcpt("bob@mail.example.com", "bob"), Relay: "local", Action: "delivered",
		Status: dsn.New(250, "2.0.0", "delivered to mailbox")}
	expanded = qmgr.Result{Recipient: rcpt("both@mail.example.com", "both@mail.example.com"), Relay: "none", Action: "expanded",
		Status: dsn.New(250, "2.0.0", "alias expanded")}
)

func TestReports(t *testing.T) {
	t.Parallel()
	all := func(c *Config) { c.NotifyClasses = "bounce, 2bounce, delay, policy, protocol, resource, software" }
	with := func(n *qmgr.Notice, change func(*qmgr.Notice)) *qmgr.Notice { change(n); return n }
	never := refused
	never.Recipient.Notify = envelope.NotifyNever
	only := late
	only.Recipient.Notify = envelope.NotifyFailure
	utf8 := qmgr.Result{Recipient: envelope.Recipient{Address: "jé@utf.example", Original: "jé@utf.example", ORCPT: "utf-8;jé@utf.example"}, Action: "failed",
		Status: dsn.New(550, "5.6.7", "SMTPUTF8 is required, but was not offered by host utf.example[203.0.113.10]")}
	for _, test := range []struct {
		name   string
		config func(*Config)
		notice *qmgr.Notice
	}{
		{"failure", nil, notice(qmgr.NoticeFailure, content, refused, unknown)},
		{"failure-postmaster-copy", all, notice(qmgr.NoticeFailure, content, refused)},
		{"failure-large", nil, with(notice(qmgr.NoticeFailure, content, refused), func(n *qmgr.Notice) { n.Size = 50001 })},
		{"failure-headers-envid-8bit", func(c *Config) { c.SMTPUTF8 = false }, with(notice(qmgr.NoticeFailure, content, refused), func(n *qmgr.Notice) {
			n.Envelope.Return, n.Envelope.EnvID, n.Envelope.Encoding = envelope.ReturnHeaders, "env id", envelope.Encoding8bit
		})},
		{"failure-no-smtputf8", func(c *Config) { c.SMTPUTF8, c.HeaderFrom = false, "obsolete" }, notice(qmgr.NoticeFailure, content, refused)},
		{"failure-threaded", func(c *Config) { c.Threaded = true }, notice(qmgr.NoticeFailure, content, refused)},
		{"failure-never", nil, notice(qmgr.NoticeFailure, content, never)},
		{"failure-some-never", all, notice(qmgr.NoticeFailure, content, never, unknown)},
		{"failure-smtputf8", nil, with(notice(qmgr.NoticeFailure, "Subject: jé\n\njé\n", utf8), func(n *qmgr.Notice) { n.Envelope.SMTPUTF8 = true })},
		{"failure-verp", nil, with(notice(qmgr.NoticeFailure, content, refused, unknown), func(n *qmgr.Notice) { n.Envelope.Verp = "+=" })},
		{"failure-redacted", all, with(notice(qmgr.NoticeFailure, content, refused), func(n *qmgr.Notice) { n.Redact = true })},
		{"double-bounce", func(c *Config) { c.NotifyClasses = "2bounce" }, with(notice(qmgr.NoticeFailure, content, refused), func(n *qmgr.Notice) { n.Envelope.Sender = "" })},
		{"double-bounce-unwanted", nil, with(notice(qmgr.NoticeFailure, content, refused), func(n *qmgr.Notice) { n.Envelope.Sender = "" })},
		{"double-bounce-failed", all, with(notice(qmgr.NoticeFailure, content, refused), func(n *qmgr.Notice) { n.Envelope.Sender = "Double-Bounce@mail.example.com" })},
		{"delay", nil, notice(qmgr.NoticeDelay, content, late)},
		{"delay-postmaster-copy", all, notice(qmgr.NoticeDelay, content, late)},
		{"delay-not-wanted", nil, notice(qmgr.NoticeDelay, content, only)},
		{"delay-null-sender", all, with(notice(qmgr.NoticeDelay, content, late), func(n *qmgr.Notice) { n.Envelope.Sender = "" })},
		{"success", nil, notice(qmgr.NoticeSuccess, content, relayed, mailbox, expanded)},
		{"success-null-sender", nil, with(notice(qmgr.NoticeSuccess, content, mailbox), func(n *qmgr.Notice) { n.Envelope.Sender = "" })},
		{"verify", nil, notice(qmgr.NoticeVerify, content, qmgr.Result{Recipient: mailbox.Recipient, Status: dsn.New(250, "2.0.0", "delivers to mailbox"), Relay: "local", Action: "deliverable"},
			qmgr.Result{Recipient: unknown.Recipient, Status: unknown.Status, Relay: "local", Action: "undeliverable"})},
		{"hostile", nil, with(notice(qmgr.NoticeFailure, "no header here\n\nno newline at the end", qmgr.Result{Action: "failed",
			Recipient: envelope.Recipient{Address: "a b\r\nX: y@c.example", ORCPT: "rfc822;x\nSubject: injected"},
			Status:    dsn.New(550, "5.0.0", "line\nbreak").WithRemote(dsn.Remote{MTA: "m\nX: y", DiagType: "smtp", Diag: "550 a\r\n--QID1"})}),
			func(n *qmgr.Notice) { n.Envelope.EnvID = "a\r\nX: y" })},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, o := config(), &outbox{}
			if test.config != nil {
				test.config(&c)
			}
			s, log := service(c, o)
			if err := s.Notify(context.Background(), test.notice); err != nil {
				t.Fatal(err)
			}
			golden(t, test.name, o.text.String()+"==== log\n"+log.String()+"\n")
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTranscript(t *testing.T) {
	t.Parallel()
	c, o := config(), &outbox{}
	c.NotifyClasses = "policy,protocol"
	s, _ := service(c, o)
	session := Transcript{Classes: []string{"policy"}, Subject: "SMTP server: errors from client.example.net[198.51.100.7]",
		Lines: []string{"Out: 220 mail.example.com ESMTP Postfix", "In:  RCPT TO:<nosuch@mail.example.com>",
			"Out: 550 5.1.1 <nosuch@mail.example.com>: Recipient address rejected: User unknown in local recipient table"}}
	if err := s.Transcript(context.Background(), session); err != nil {
		t.Fatal(err)
	}
	session.Reason = "lost connection"
	if err := s.Transcript(context.Background(), session); err != nil {
		t.Fatal(err)
	}
	session.Classes = []string{"resource"}
	if err := s.Transcript(context.Background(), session); err != nil {
		t.Fatal(err)
	}
	golden(t, "transcript", o.text.String())
}

// TestRefused checks that a report that is not queued is an error, so that the
// queue manager asks again.
func TestRefused(t *testing.T) {
	t.Parallel()
	o := &outbox{refuse: dsn.New(451, "4.3.0", "Error: queue file write error")}
	s, log := service(config(), o)
	for _, kind := range []qmgr.NoticeKind{qmgr.NoticeFailure, qmgr.NoticeDelay, qmgr.NoticeSuccess, qmgr.NoticeVerify} {
		if err := s.Notify(context.Background(), notice(kind, content, refused)); err == nil {
			t.Errorf("kind %d: no error", kind)
		}
	}
	if !strings.Contains(log.String(), "QID1: sender notification failed to <alice@mail.example.com>: ") {
		t.Error(log)
	}
}

type broken struct{ *strings.Reader }

func (broken) Read([]byte) (int, error) { return 0, errors.New("input/output error") }

// TestUnreadable checks that a message that cannot be read is not half reported.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	o := &outbox{}
	s, _ := service(config(), o)
	n := notice(qmgr.NoticeFailure, content, refused)
	n.Open = func() io.ReadSeeker { return broken{strings.NewReader("")} }
	if err := s.Notify(context.Background(), n); err == nil || !strings.Contains(o.text.String(), "cancelled: input/output error") {
		t.Error(err, o.text.String())
	}
}

func TestTemplateFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "bounce.cf")
	text := "\n# comment\nfailure_template = <<XX\nCharset: iso-8859-1\nfrom: Post Master <pm>\nSubject: Oh no\n\nHello $myhostname $$5 ${known} $(known)! \\n\n $maximal_queue_lifetime_weeks $maximal_queue_lifetime_seconds\nXX\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, o, log := config(), &outbox{}, &maillog.Memory{}
	c.TemplateFile = file
	deps := Deps{Submit: o.submit, Log: maillog.New(log, "postfix/bounce", 1, nil), Now: func() time.Time { return start },
		Param: func(name string) (string, bool) { return "value", name == "known" }}
	s := New(c, deps)
	if err := s.Notify(context.Background(), notice(qmgr.NoticeFailure, content, refused)); err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(o.text.String(), file, "bounce.cf") + "==== log\n" + strings.ReplaceAll(log.String(), file, "bounce.cf") + "\n"
	golden(t, "template-file", got)
}

func TestTemplateErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"x = <<EOF\nEOF\n":                                 `bounce.cf, line 1: unknown template name "x"`,
		"\nfailure_template = text\n":                      `bounce.cf, line 2: want template_name = <<EOF, found "failure_template = text"`,
		"failure_template = <<EOF\nSubject: x\n":           `bounce.cf, line 2: template "failure_template" has no end marker "EOF"`,
		"failure_template = <<EOF\nReply-To: x\n\nEOF\n":   `bounce.cf, line 2: unknown template header "Reply-To"`,
		"failure_template = <<EOF\nSubject: \xe9\n\nEOF\n": `bounce.cf, line 2: header "Subject": only ASCII text is allowed`,
	} {
		if _, err := ParseTemplates(strings.NewReader(text), "bounce.cf", Templates{}); err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestBadTemplate checks that a report is sent in our words if the site's
// cannot be used.
func TestBadTemplate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"syntax": "nonsense\n", "name": "failure_template = <<EOF\n\n$nosuch\nEOF\n"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, o := config(), &outbox{}
		c.TemplateFile = file
		s, log := service(c, o)
		if err := s.Notify(context.Background(), notice(qmgr.NoticeFailure, content, refused)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(o.text.String(), "I'm sorry to have to inform you") || !strings.Contains(log.String(), "warning: ") || !strings.Contains(log.String(), file) {
			t.Errorf("%s: %s\n%s", name, log, o.text.String())
		}
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 90)
	for text, want := range map[string]string{
		"":                               "\n",
		"a b":                            "a b\n",
		strings.Repeat("abcd ", 16):      strings.Repeat("abcd ", 15) + "abcd\n",
		strings.Repeat("abcd ", 17):      strings.Repeat("abcd ", 15) + "abcd\n    abcd\n",
		"a " + long + " b":               "a\n    " + long + "\n    b\n",
		long:                             long + "\n",
		strings.Repeat("a", 78) + " b c": strings.Repeat("a", 78) + "\n    b c\n",
	} {
		var b strings.Builder
		if wrap(&b, "", text, wrapWidth); b.String() != want {
			t.Errorf("%q:\n%q, want\n%q", text, b.String(), want)
		}
	}
}

func FuzzTemplates(f *testing.F) {
	f.Add(DefaultText())
	f.Add("failure_template = <<EOF\nCharset: x\n\n$a ${b $(c) $$ $\nEOF\n")
	f.Fuzz(func(t *testing.T, text string) {
		ts, err := ParseTemplates(strings.NewReader(text), "x", Defaults(""))
		if err != nil {
			return
		}
		for _, one := range ts.all() {
			one.Expand(Values{Lookup: func(string) (string, bool) { return "v", true }})
		}
	})
}

func FuzzReport(f *testing.F) {
	f.Add("u@a.example", "said no", content)
	f.Add("", strings.Repeat("x ", 100), ":\n\n")
	f.Fuzz(func(t *testing.T, address, text, message string) {
		o := &outbox{}
		s, _ := service(config(), o)
		r := qmgr.Result{Recipient: envelope.Recipient{Address: addr.Address(address)}, Status: dsn.New(550, "5.0.0", text), Action: "failed"}
		n := notice(qmgr.NoticeFailure, message, r)
		if err := s.Notify(context.Background(), n); err != nil {
			t.Fatal(err)
		}
		// What is not returned content must not add lines of its own.
		head, _, _ := strings.Cut(o.text.String(), "Content-Description: Undelivered Message")
		if n := strings.Count(head, "\n--QID1."); n != 3 {
			t.Fatalf("%d boundaries", n)
		}
	})
}
