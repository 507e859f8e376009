package virtual

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"posthaste/internal/delivery/mailbox"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/text"
)

// asked is a Host that does everything as the user of the test.
type asked struct {
	worker.Host
	as []worker.Rights
}

func (h *asked) me(r worker.Rights) worker.Rights {
	h.as = append(h.as, r)
	return worker.Rights{UID: os.Geteuid(), GID: os.Getegid()}
}

func (h *asked) Append(ctx context.Context, r worker.Rights, j worker.Append) (worker.Appended, error) {
	return h.Host.Append(ctx, h.me(r), j)
}

func (h *asked) Maildir(ctx context.Context, r worker.Rights, j worker.Maildir) error {
	return h.Host.Maildir(ctx, h.me(r), j)
}

type dead struct{ worker.Host }

func (dead) Maildir(context.Context, worker.Rights, worker.Maildir) error {
	return errors.New("worker process of uid 2100: it died before it answered")
}

type bench struct {
	t    *testing.T
	dir  string
	cfg  Config
	host worker.Host
	log  maillog.Memory
	env  envelope.Envelope
	text string
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, dir: t.TempDir(), host: &asked{Host: worker.InProcess()}, text: "Subject: x\n\nFrom me\n"}
	b.env.Sender = "a@client.example"
	b.cfg = Config{
		Base: b.dir, MinimumUID: 100, Limit: 20_000, MessageLimit: 15_000, Lock: "fcntl, dotlock", StrictOwner: true,
		Delimiter: "+", KeepOriginal: true, GIDMaps: "static:2100",
		Maps: "inline:{ {info@example.com = example.com/info/Maildir/} {sales@example.com = sales} {deep@example.com = not/there/deep}" +
			" {rootish@example.com = r} {nouid@example.com = n} {own+ext@example.com = own/} {lost@example.com = l} {@example.org = catchall/} }",
		UIDMaps: "inline:{ {rootish@example.com = 0} {nouid@example.com = nonsense} {@example.com = 2100} {@example.org = 2100} {lost@example.com = 99} }",
	}
	b.cfg.Attempts, b.cfg.Delay = 1, time.Millisecond
	return b
}

func (b *bench) deliver(rcpts ...addr.Address) string {
	b.t.Helper()
	log := maillog.New(&b.log, "postfix/virtual", 1, nil)
	opener := table.NewOpener(table.Setup{Log: log, Types: []table.Type{{Name: "inline", Open: text.Inline}, {Name: "static", Open: text.Static}, {Name: "fail", Open: text.Fail}}})
	agent, err := New(b.cfg, Deps{Host: b.host, Tables: opener, Log: log})
	if err != nil {
		b.t.Fatal(err)
	}
	var lines []string
	r := &transport.Request{
		ID: "Q", Envelope: &b.env, Transport: "virtual", Open: func() io.ReadSeeker { return strings.NewReader(b.text) },
		Report: func(o transport.Outcome) {
			if o.Relay != "virtual" {
				b.t.Errorf("relay %q", o.Relay)
			}
			lines = append(lines, strings.ReplaceAll(o.Status.Enhanced()+" "+o.Status.Text(), b.dir, "DIR"))
		},
	}
	for i, a := range rcpts {
		r.Recipients = append(r.Recipients, transport.Recipient{Recipient: envelope.Recipient{Address: a}, Index: i})
	}
	agent.Deliver(context.Background(), r)
	if err := agent.Close(); err != nil {
		b.t.Error(err)
	}
	return strings.Join(lines, "\n")
}

func (b *bench) want(rcpt addr.Address, want string) {
	b.t.Helper()
	if got := b.deliver(rcpt); got != want {
		b.t.Errorf("%s: %q, want %q; log %s", rcpt, got, want, &b.log)
	}
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for rcpt, want := range map[addr.Address]string{
		"Info@Example.com":     "2.0.0 delivered to maildir",
		"info+ext@example.com": "2.0.0 delivered to maildir",
		"own+ext@example.com":  "2.0.0 delivered to maildir",
		"any@example.org":      "2.0.0 delivered to maildir",
		"sales@example.com":    "2.0.0 delivered to mailbox",
		"nosuch@example.com":   `5.1.1 unknown user: "nosuch@example.com"`,
		"own@example.com":      `5.1.1 unknown user: "own@example.com"`,
		"rootish@example.com":  "4.3.5 mail system configuration error",
		"nouid@example.com":    "4.3.5 mail system configuration error",
		"lost@example.com":     "4.3.5 mail system configuration error",
		"deep@example.com":     "4.2.0 delivery failed to mailbox DIR/not/there/deep: unable to create lock file DIR/not/there/deep.lock: No such file or directory",
	} {
		// The owner is checked against uid 2100, which the test is not.
		b.cfg.StrictOwner = false
		b.want(rcpt, want)
	}
	for _, want := range []string{"recipient rootish@example.com: bad uid 0 in virtual_uid_maps", "recipient nouid@example.com: bad uid nonsense in virtual_uid_maps", "recipient lost@example.com: bad uid 99 in virtual_uid_maps"} {
		if !strings.Contains(b.log.String(), "postfix/virtual: warning: "+want) {
			t.Errorf("no %q in %s", want, &b.log)
		}
	}
	mbox, err := os.ReadFile(filepath.Join(b.dir, "sales"))
	if err != nil || !regexp.MustCompile("^From a@client.example  .*\nReturn-Path: <a@client.example>\nX-Original-To: sales@example.com\nDelivered-To: sales@example.com\nSubject: x\n\n>From me\n\n$").Match(mbox) {
		t.Errorf("mbox %q, %v", mbox, err)
	}
	files, err := filepath.Glob(b.dir + "/example.com/info/Maildir/new/*." + mailbox.SystemName())
	if err != nil || len(files) != 2 {
		t.Errorf("maildir has %q, %v", files, err)
	}
	for _, as := range b.host.(*asked).as {
		if as != (worker.Rights{UID: 2100, GID: 2100}) {
			t.Errorf("rights %+v", as)
		}
	}
}

func TestTroubles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.cfg.StrictOwner = false
	b.text = "Subject: x\n\n" + strings.Repeat("0123456789\n", 1000)
	b.want("sales@example.com", "2.0.0 delivered to mailbox")
	b.want("sales@example.com", "5.2.2 delivery failed to mailbox DIR/sales: error writing message: File too large")
	b.text = "x\n"
	if err := os.WriteFile(b.dir+"/sales.lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.want("sales@example.com", "4.2.0 delivery failed to mailbox DIR/sales: unable to create lock file DIR/sales.lock: File exists")
	if err := os.Remove(b.dir + "/sales.lock"); err != nil {
		t.Fatal(err)
	}
	b.cfg.StrictOwner = true
	if os.Geteuid() == 0 { // in one process, everything belongs to its user
		b.host = worker.Host(&asked{Host: strict{worker.InProcess()}})
		b.want("sales@example.com", "4.2.0 delivery failed to mailbox DIR/sales: destination DIR/sales is not owned by recipient")
	}
	b.text = "Delivered-To: SALES@example.com\n\nx\n"
	b.want("sales@example.com", "5.4.6 mail forwarding loop for sales@example.com")
	b.text = "x\n"
	b.host = dead{}
	b.want("info@example.com", "4.3.0 maildir delivery failed: delivery is not possible now: worker process of uid 2100: it died before it answered")
	b.env.Trace = envelope.TraceVerify
	b.want("info@example.com", "2.0.0 delivers to maildir")
	b.want("sales@example.com", "2.0.0 delivers to mailbox")
	b.cfg.UIDMaps = "fail:x"
	b.want("info@example.com", "4.3.5 mail system configuration error")
	b.cfg.Maps = "fail:x"
	b.want("info@example.com", "4.3.5 mail system configuration error")
}

// strict fails like a Host that may not take the file for the recipient's.
type strict struct{ worker.Host }

func (strict) Append(_ context.Context, _ worker.Rights, j worker.Append) (worker.Appended, error) {
	return worker.Appended{}, &worker.Error{Kind: worker.KindNotOwner, Text: "destination " + j.Path + " is not owned by recipient"}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*Config){
		func(c *Config) { c.Base = "relative" }, func(c *Config) { c.Lock = "magic" },
		func(c *Config) { c.MessageLimit = c.Limit + 1 }, func(c *Config) { c.MessageLimit = 0 },
	} {
		b := newBench(t)
		change(&b.cfg)
		if _, err := New(b.cfg, Deps{Tables: table.NewOpener(table.Setup{})}); err == nil {
			t.Error("accepted")
		}
	}
}

// TestManyRecipients: each is answered for, in one call.
func TestManyRecipients(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if got := b.deliver("info@example.com", "nosuch@example.com", "a@example.org"); strings.Count(got, "\n") != 2 || strings.Count(got, "delivered to maildir") != 2 {
		t.Errorf("got %s", got)
	}
}

func TestStaticGroups(t *testing.T) {
	t.Parallel()
	if got := StaticGroups("static:8, hash:/etc/x static:0 static:x"); len(got) != 1 || got[0] != 8 {
		t.Errorf("got %v", got)
	}
}
