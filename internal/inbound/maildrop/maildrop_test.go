package maildrop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
	"posthaste/internal/queue/queuefile"
	"posthaste/internal/sys/vfs/vfstest"
)

var now = time.Unix(1795378017, 963418000)

func newDrop(t testing.TB) (*vfstest.Mem, DropOptions) {
	mem := vfstest.New(1 << 24)
	for _, dir := range []string{Dir, "corrupt"} {
		if err := mem.Mkdir(dir, 0o730); err != nil {
			t.Fatal(err)
		}
	}
	_ = mem.SyncDir(".")
	return mem, DropOptions{FS: mem, UID: 2001, PID: 7, Now: func() time.Time { return now }, Guarded: true,
		Warn: func(format string, args ...any) { t.Logf(format, args...) }}
}

func records(m *Message, text string, recipients, found []addr.Address) []byte {
	var c queuefile.Content
	b := AppendContent(m.AppendRecipients(m.AppendHead(nil), recipients))
	b = c.Finish(c.Append(b, []byte(text)))
	return m.AppendTail(b, found)
}

func dropped(t testing.TB, mem *vfstest.Mem) (names []string) {
	t.Helper()
	_ = mem.ReadDir(Dir, func(name string) bool {
		if info, err := mem.Lstat(Dir + "/" + name); err == nil && info.Mode&0o700 == 0o700 {
			names = append(names, name)
		}
		return true
	})
	return names
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	mem, o := newDrop(t)
	m := &Message{Notify: envelope.NotifyNever}
	m.Envelope = envelope.Envelope{Sender: "bob", FullName: "Full N", Verp: "+=", Encoding: envelope.Encoding8bit, Trace: envelope.TraceReport,
		Return: envelope.ReturnHeaders, EnvID: "id", RewriteContext: "local"}
	const text = "Subject: x\n\nhello\n.\nno end"
	in := records(m, text, []addr.Address{"alice"}, []addr.Address{"x@y.example"})
	var out bytes.Buffer
	if err := Drop(bytes.NewReader(in), &out, o); err != nil {
		t.Fatal(err)
	}
	replies := NewReplies(&out)
	id, err := replies.Hello()
	reply, err2 := replies.Status()
	if err != nil || err2 != nil || !queue.IsID(id) || reply.Status != OK {
		t.Errorf("%q %+v %v %v", id, reply, err, err2)
	}
	f, err := mem.Crash(nil).Open(Dir + "/" + id)
	if err != nil {
		t.Fatal(err)
	}
	mail, err := Read(f, FromUser)
	if err != nil {
		t.Fatal(err)
	}
	want := m.Envelope
	want.Arrival = now
	want.Recipients = []envelope.Recipient{{Address: "alice", Notify: envelope.NotifyNever}, {Address: "x@y.example", Notify: envelope.NotifyNever}}
	if diff := cmp.Diff(want, mail.Envelope); diff != "" {
		t.Error(diff)
	}
	if got, err := io.ReadAll(mail.Content); err != nil || string(got) != text {
		t.Errorf("%q %v", got, err)
	}
}

// The files were written by Postfix 3.7.11.
func TestPostfixFiles(t *testing.T) {
	t.Parallel()
	names, _ := filepath.Glob("../../queue/spool/testdata/postfix/maildrop/*")
	if len(names) != 4 {
		t.Fatal(names)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		mail, err := Read(bytes.NewReader(data), FromSystem)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// postdrop passes the same records on, but for the time.
		mem, o := newDrop(t)
		if err := Drop(bytes.NewReader(data), io.Discard, o); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f, err := mem.Open(Dir + "/" + dropped(t, mem)[0])
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read(f, FromUser)
		if err != nil {
			t.Fatal(err)
		}
		again.Envelope.Arrival = mail.Envelope.Arrival
		if diff := cmp.Diff(mail.Envelope, again.Envelope); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A user may not say what is not his business.
func TestHostile(t *testing.T) {
	t.Parallel()
	head := func(extra ...byte) []byte { return append(queuefile.Append(nil, queuefile.From, "bob"), extra...) }
	tail := queuefile.Append(queuefile.Append(queuefile.Append(queuefile.Append(nil, 'R', "r"), 'M', ""), 'X', ""), 'E', "")
	for name, in := range map[string][]byte{
		"size record":     append(head(queuefile.Append(nil, queuefile.Size, "1 2 3 4 5 6")...), tail...),
		"pointer":         append(head(queuefile.AppendPointer(nil, 0)...), tail...),
		"done":            append(head(queuefile.Append(nil, queuefile.Done, "x")...), tail...),
		"filter":          append(head(queuefile.Append(nil, queuefile.Filter, "x")...), tail...),
		"redirect":        append(head(queuefile.Append(nil, queuefile.Redirect, "x")...), tail...),
		"line break":      append(head(queuefile.Append(nil, queuefile.Rcpt, "a\nFrom b")...), tail...),
		"nul":             append(head(queuefile.Append(nil, queuefile.Rcpt, "a\x00b")...), tail...),
		"type 0":          append(head(0, 0), tail...),
		"long length":     head('R', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"text in the end": append(bytes.TrimSuffix(append(head(), tail...), []byte("E\x00")), "N\x01xE\x00"...),
	} {
		mem, o := newDrop(t)
		var out bytes.Buffer
		err := Drop(bytes.NewReader(in), &out, o)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if names := dropped(t, mem); len(names) != 0 {
			t.Errorf("%s left %v", name, names)
		}
		full := append(queuefile.Append(nil, queuefile.Time, "1 1"), in...)
		if _, err := Read(bytes.NewReader(full), FromUser); err == nil {
			t.Errorf("%s: pickup accepts it", name)
		}
	}
	mem, o := newDrop(t)
	in := append(head(queuefile.Append(nil, queuefile.Attr, "client_address=1.2.3.4")...), tail...)
	if err := Drop(bytes.NewReader(in), io.Discard, o); err != nil {
		t.Error(err)
	}
	f, _ := mem.Open(Dir + "/" + dropped(t, mem)[0])
	mail, err := Read(f, FromUser)
	if err != nil || mail.Envelope.Client.Address != "" {
		t.Errorf("%+v %v", mail, err)
	}
}

func TestCutOffAndTooBig(t *testing.T) {
	t.Parallel()
	in := records(&Message{}, strings.Repeat("line\n", 1000), []addr.Address{"a"}, nil)
	for n := range len(in) {
		if n > 50 && n < len(in)-50 {
			continue
		}
		mem, o := newDrop(t)
		if err := Drop(bytes.NewReader(in[:n]), io.Discard, o); err == nil || len(dropped(t, mem)) > 0 {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	mem, o := newDrop(t)
	o.Limit = 4000
	var out bytes.Buffer
	if err := Drop(bytes.NewReader(in), &out, o); !errors.Is(err, ErrTooBig) || len(dropped(t, mem)) > 0 {
		t.Error(err)
	}
	replies := NewReplies(&out)
	_, _ = replies.Hello()
	if reply, err := replies.Status(); err != nil || reply.Status != TooBig {
		t.Errorf("%+v %v", reply, err)
	}
}

// Whatever call fails, nil means that the message survives a power cut, and an
// error that there is no message.
func TestFaults(t *testing.T) {
	t.Parallel()
	in := records(&Message{}, strings.Repeat("line\n", 10000), []addr.Address{"a"}, nil)
	for n := 1; n < 20; n++ {
		mem, o := newDrop(t)
		count := 0
		mem.Hook = func(string, string) error {
			if count++; count == n {
				return syscall.EIO
			}
			return nil
		}
		err := Drop(bytes.NewReader(in), io.Discard, o)
		mem.Hook = nil
		if kept := len(dropped(t, mem.Crash(nil))); (err == nil) != (kept == 1) {
			t.Errorf("call %d: %v, and %d files", n, err, kept)
		}
		if left := len(dropped(t, mem)); err != nil && left > 0 {
			t.Errorf("call %d: %v, but there is a message", n, err)
		}
	}
}

// Where users can reach files by name, names are not to be guessed.
func TestSecretNames(t *testing.T) {
	t.Parallel()
	mem, o := newDrop(t)
	o.Guarded = false
	in := records(&Message{}, "x\n", []addr.Address{"a"}, nil)
	for range 3 {
		if err := Drop(bytes.NewReader(in), io.Discard, o); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for _, name := range dropped(t, mem) {
		if !queue.IsID(name) || len(name) < 17 || len(name) > 20 || seen[name[10:]] {
			t.Errorf("name %s", name)
		}
		seen[name[10:]] = true
	}
	if len(seen) != 3 {
		t.Error(seen)
	}
}

func TestRequeued(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../queue/spool/testdata/postfix/hold/D28FD4A")
	if err != nil {
		t.Fatal(err)
	}
	mail, err := Read(bytes.NewReader(data), FromSystem)
	if err != nil {
		t.Fatal(err)
	}
	if mail.OrigID != "D28FD4A" || mail.Envelope.Client.Address != "198.51.100.7" || fmt.Sprint(mail.Envelope.Recipients[0].Address) != "u@later.example" {
		t.Errorf("%+v", mail)
	}
	if _, err := Read(bytes.NewReader(data), FromUser); err == nil {
		t.Error("a user hands in a queue file")
	}
}

func FuzzRead(f *testing.F) {
	names, _ := filepath.Glob("../../queue/spool/testdata/postfix/*/*")
	for _, name := range names {
		if data, err := os.ReadFile(name); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, trust := range []Trust{FromUser, FromSystem} {
			mail, err := Read(bytes.NewReader(data), trust)
			if err != nil {
				continue
			}
			for _, r := range mail.Envelope.Recipients {
				if strings.ContainsAny(string(r.Address), "\r\n\x00") {
					t.Fatalf("recipient %q", r.Address)
				}
			}
			_, _ = io.CopyN(io.Discard, mail.Content, 1<<20)
		}
		mem, o := newDrop(t)
		o.Warn = func(string, ...any) {}
		if err := Drop(bytes.NewReader(data), io.Discard, o); err != nil {
			return
		}
		file, err := mem.Open(Dir + "/" + dropped(t, mem)[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Read(file, FromUser); err != nil {
			t.Fatalf("postdrop accepts what pickup does not: %v", err)
		}
	})
}
