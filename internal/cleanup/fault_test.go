package cleanup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
)

func oneRecipient() *envelope.Envelope {
	return &envelope.Envelope{Sender: "a@c.example", Recipients: []envelope.Recipient{{Address: "bob@example.com"}}}
}

func TestQueueFaults(t *testing.T) {
	t.Parallel()
	broken := errors.New("input/output error")
	content := "Subject: x\n\n" + strings.Repeat("line\n", 10000)
	for name, c := range map[string]struct {
		faults faults
		reply  string
	}{
		"begin":       {faults{failBegin: broken}, "451 4.3.0 Error: queue file write error"},
		"full":        {faults{failBegin: queue.ErrFull}, "452 4.3.1 Insufficient system storage"},
		"first write": {faults{failWrite: broken}, "451 4.3.0 Error: queue file write error"},
		"third write": {faults{failWrite: broken, failAfter: 2}, "451 4.3.0 Error: queue file write error"},
		"commit":      {faults{failClose: broken}, "451 4.3.0 Error: queue file write error"},
		"commit full": {faults{failClose: queue.ErrFull}, "452 4.3.1 Insufficient system storage"},
		"unknown":     {faults{failClose: queue.ErrUnknown}, "451 4.3.0 Error: queue file write error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil, nil)
			b.store.faults = c.faults
			_, status := b.svc.Submit(context.Background(), Options{Flags: External | Bounce}, oneRecipient(), strings.NewReader(content))
			if status.Reply() != c.reply {
				t.Errorf("answer %q, want %q", status.Reply(), c.reply)
			}
			if len(b.store.committed) != 0 || len(b.bouncer.notices) != 0 {
				t.Errorf("queued %d, reported %v", len(b.store.committed), b.bouncer.notices)
			}
			if removed := strings.Contains(b.log.String(), "removed (canceled)"); removed != (c.faults.failBegin == nil && name != "unknown") {
				t.Errorf("log:\n%s", b.log)
			}
		})
	}
}

func TestFailedContentIsNotQueued(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, nil)
	content := io.MultiReader(strings.NewReader("Subject: x\n\nhalf"), iotest.ErrReader(errors.New("gone")))
	_, status := b.svc.Submit(context.Background(), Options{Flags: Internal}, oneRecipient(), content)
	if !status.Temporary() || len(b.store.committed) != 0 || b.store.aborted != 1 {
		t.Errorf("%s, %d committed, %d aborted", status, len(b.store.committed), b.store.aborted)
	}
}

func TestFailedReportKeepsMailAtItsEntrance(t *testing.T) {
	t.Parallel()
	b := newBench(t, map[string]string{"header_checks": "t:re"}, map[string]*rules{"re": {name: "re", pattern: true, keys: []string{"^Subject"}, values: []string{"REJECT"}}})
	b.bouncer.err = errors.New("queue is full")
	_, status := b.svc.Submit(context.Background(), Options{Flags: External | Bounce}, oneRecipient(), strings.NewReader("Subject: x\n\n"))
	if !status.Temporary() {
		t.Errorf("answer %s", status)
	}
}

func TestAbortAndLateCalls(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, nil)
	ctx := context.Background()
	m, err := b.svc.Begin(ctx, Options{Flags: External})
	if err != nil {
		t.Fatal(err)
	}
	m.SetSender(ctx, "a@b")
	m.AddRecipient(ctx, envelope.Recipient{Address: "bob"})
	m.Abort()
	m.Abort()
	if _, err := m.Write([]byte("Subject: late\n")); err != nil {
		t.Error(err)
	}
	if status := m.Commit(ctx); !status.Temporary() {
		t.Errorf("commit after abort: %s", status)
	}
	if got := b.log.String(); got != "postfix/cleanup: A1B2C3: removed (canceled)" {
		t.Errorf("log:\n%s", got)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for param, value := range map[string]string{
		"canonical_classes": "header_sender, nonsense", "propagate_unmatched_extensions": "canonical, what",
		"non_empty_end_of_header_action": "shrug", "message_strip_characters": `\q`, "message_reject_characters": `\777`,
		"internal_mail_filter_classes": "bounce, all, nothing", "smtputf8_autodetect_classes": "nobody",
	} {
		_, err := New(setting(map[string]string{param: value}), Deps{})
		if err == nil || !strings.HasPrefix(err.Error(), param+": ") {
			t.Errorf("%s = %s: %v", param, value, err)
		}
	}
	b := newBench(t, map[string]string{"internal_mail_filter_classes": "bounce"}, nil)
	for source, want := range map[Source]Flags{
		SourceSMTPD: External, SourceSendmail: External | Bounce | DetectUTF8, SourceBounce: Internal | Filter | Milter,
		SourceNotify: Internal, SourceVerify: Internal | DetectUTF8, SourceForward: Internal | Bounce,
	} {
		if got := b.svc.Flags(source); got != want {
			t.Errorf("%s: %b, want %b", source, got, want)
		}
	}
	if _, err := External.Override("no_such_thing"); err == nil {
		t.Error("unknown override accepted")
	}
	if f, err := External.Override("no_address_mappings, no_milters no_unknown_recipient_checks"); f != Filter || err != nil {
		t.Errorf("override: %b %v", f, err)
	}
}

func FuzzSubmission(f *testing.F) {
	f.Add("Subject: x\nTo: a, b\n\nbody\n", "a@b", "c", uint8(5), uint8(0))
	f.Add("From x\nContent-Type: multipart/mixed; boundary=b\n\n--b\nX: y\n\nz\n--b--", "", "list", uint8(1), uint8(3))
	f.Add(" \nReceived: x\nResent-To: (a) b <c>;\n", "\"a b\"@c", "a!b%c", uint8(3), uint8(7))
	params := map[string]string{"virtual_alias_maps": "t:v", "recipient_delimiter": "+", "header_checks": "t:re", "mime_header_checks": "t:re",
		"body_checks": "t:re", "header_size_limit": "200", "line_length_limit": "64", "hopcount_limit": "20", "message_size_limit": "20000"}
	tables := map[string]*rules{
		"v":  {name: "v", keys: []string{"list@example.com", "@old.example"}, values: []string{"a, b, list", "@example.com"}},
		"re": {name: "re", pattern: true, keys: []string{"^X-P", "zap"}, values: []string{"PREPEND X-Q: 1", "REPLACE X: zip"}},
	}
	b := newBench(f, params, tables)
	f.Fuzz(func(t *testing.T, content, sender, rcpt string, piece, mode uint8) {
		send := func(piece int) string {
			b.store.committed, b.bouncer.notices = nil, nil
			ctx := context.Background()
			o := Options{Flags: External}
			if mode&1 != 0 {
				o.Flags |= Bounce | DetectUTF8
			}
			m, err := b.svc.Begin(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			m.Envelope().RewriteContext = []string{"local", "remote"}[mode>>1&1]
			m.SetSender(ctx, addr.Address(sender))
			m.AddRecipient(ctx, envelope.Recipient{Address: addr.Address(rcpt)})
			for rest := content; rest != ""; {
				n := min(piece, len(rest))
				_, _ = m.Write([]byte(rest[:n]))
				rest = rest[n:]
			}
			status := m.Commit(ctx)
			if status.OK() != (len(b.store.committed) == 1 || len(b.bouncer.notices) > 0) {
				t.Errorf("%s, but %d queued, %v", status, len(b.store.committed), b.bouncer.notices)
			}
			if strings.ContainsAny(status.Text(), "\r\n") {
				t.Errorf("answer %q", status.Text())
			}
			if len(b.store.committed) == 0 {
				return status.Reply()
			}
			out := b.store.committed[0].content.Bytes()
			if len(out) > 0 && out[len(out)-1] != '\n' {
				t.Errorf("no line end: %q", out)
			}
			if bytes.IndexByte(out, '\r') >= 0 {
				t.Errorf("stray CR: %q", out)
			}
			return status.Reply() + string(out)
		}
		whole := send(1 << 20)
		if parts := send(int(piece) + 1); parts != whole {
			t.Errorf("in pieces of %d\n%q\nas a whole\n%q", int(piece)+1, parts, whole)
		}
	})
}

// sink is a draft that keeps nothing.
type sink struct{ draft }

func (s *sink) Write(p []byte) (int, error)                                  { return len(p), nil }
func (s *sink) Commit(context.Context, *envelope.Envelope, queue.Name) error { return nil }

type sinkStore struct{ queue.Store }

func (sinkStore) Begin(context.Context, queue.Hint) (queue.Draft, error) { return &sink{}, nil }

// BenchmarkPassThrough is mail from outside in 16 KiB pieces, nothing to do.
func BenchmarkPassThrough(b *testing.B) {
	header := "Received: from c.example (client.example.net [198.51.100.7])\n\tby mail.example.com (Postfix) with ESMTP id A1\n\tfor <bob@example.com>; Thu, 05 Mar 2026 09:08:07 +0000 (UTC)\n"
	plain := "From: a@c.example\nTo: bob@example.com\nSubject: a message\nDate: Thu, 05 Mar 2026 09:08:07 +0000\nMessage-Id: <1@c.example>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n"
	line := "Some text that goes on for a while until the line is full enough.\n"
	for name, size := range map[string]int{"4k": 4 << 10, "1M": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			bench := newBench(b, nil, nil)
			bench.svc.deps.Store = sinkStore{}
			bench.svc.deps.Log = nil
			message := []byte(plain + strings.Repeat(line, (size-len(plain))/len(line)))
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			ctx := context.Background()
			for b.Loop() {
				m, _ := bench.svc.Begin(ctx, Options{Flags: External})
				m.Envelope().RewriteContext = "remote"
				m.SetSender(ctx, "a@c.example")
				m.AddRecipient(ctx, envelope.Recipient{Address: "bob@example.com"})
				m.Trace(ctx, []byte(header))
				for rest := message; len(rest) > 0; {
					n := min(16<<10, len(rest))
					_, _ = m.Write(rest[:n])
					rest = rest[n:]
				}
				if status := m.Commit(ctx); !status.OK() {
					b.Fatal(status)
				}
			}
		})
	}
}
