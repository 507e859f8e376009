package mailbox

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/addr"
)

var noon = time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)

func TestForm(t *testing.T) {
	t.Parallel()
	mbox := MboxForm
	mbox.Sender, mbox.Time, mbox.OriginalTo, mbox.DeliveredTo = "a b@x.example", noon, "Orig@y.example", "rcpt@y.example"
	null := MboxForm
	null.Time = noon
	pipe := Form{ReturnPath: true, NullSender: MailerDaemon, EOL: "\r\n", QuoteDot: true}
	for _, c := range []struct {
		name       string
		form       Form
		text, want string
	}{
		{"mbox", mbox, "Subject: x\n\nFrom me\n>From me\n From me\nlast\n", "From \"a b\"@x.example  Thu Mar  5 12:00:00 2026\n" +
			"Return-Path: <\"a b\"@x.example>\nX-Original-To: Orig@y.example\nDelivered-To: rcpt@y.example\n" +
			"Subject: x\n\n>From me\n>From me\n From me\nlast\n\n"},
		{"null sender", null, "x\n", "From MAILER-DAEMON  Thu Mar  5 12:00:00 2026\nReturn-Path: <>\nx\n\n"},
		{"no line end", null, "x", "From MAILER-DAEMON  Thu Mar  5 12:00:00 2026\nReturn-Path: <>\nx\n\n"},
		{"maildir", MaildirForm, "From x\n", "Return-Path: <>\nFrom x\n"},
		{"pipe", pipe, ".\n..a\nx.\n", "Return-Path: <MAILER-DAEMON>\r\n..\r\n...a\r\nx.\r\n"},
		{"nothing", Form{}, "", ""},
		{"address with line ends", Form{DeliveredTo: "a\nX: y@z"}, "", "Delivered-To: \"a\\?X: y\"@z\n"},
	} {
		var got strings.Builder
		if err := c.form.Write(&got, strings.NewReader(c.text)); err != nil || got.String() != c.want {
			t.Errorf("%s: %v\n got %q\nwant %q", c.name, err, got.String(), c.want)
		}
	}
}

func TestFormLongLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("From ", 100_000)
	var got bytes.Buffer
	form := Form{QuoteFrom: true, QuoteDot: true}
	if err := form.Write(&got, iotest.HalfReader(strings.NewReader(long+"\nFrom x\n"))); err != nil || got.String() != ">"+long+"\n>From x\n" {
		t.Errorf("%v, %d bytes", err, got.Len())
	}
	broken := io.MultiReader(strings.NewReader("abc\n"), iotest.ErrReader(errors.New("disk is gone")))
	if err := form.Write(io.Discard, broken); err == nil {
		t.Error("a message that cannot be read is taken for complete")
	}
}

func TestReadDelivered(t *testing.T) {
	t.Parallel()
	text := "From x\nReceived: by a\n b\nDelivered-To: One@X.example\nDELIVERED-TO :\n two@x.example \nSubject: x\n\nDelivered-To: three@x.example\n"
	seen, err := ReadDelivered(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[addr.Address]bool{"one@x.example": true, "TWO@x.example": true, "three@x.example": false, "": false} {
		if seen.Has(a) != want {
			t.Errorf("%s: %v", a, !want)
		}
	}
	if seen, err := ReadDelivered(strings.NewReader("Delivered-To: \"a b\"@x.example")); err != nil || !seen.Has("a b@x.example") {
		t.Errorf("quoted: %v, %v", seen, err)
	}
	if _, err := ReadDelivered(iotest.ErrReader(errors.New("disk is gone"))); err == nil {
		t.Error("no error")
	}
}

func FuzzForm(f *testing.F) {
	f.Add("Subject: x\n\nFrom y\n.\n", true)
	f.Add("Delivered-To: a\n b\n\n", false)
	f.Fuzz(func(t *testing.T, text string, quote bool) {
		form := Form{QuoteFrom: quote, QuoteDot: quote}
		var got strings.Builder
		if err := form.Write(&got, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		if quote && (strings.HasPrefix(got.String(), "From ") || strings.Contains(got.String(), "\nFrom ")) {
			t.Errorf("a From_ line in %q", got.String())
		}
		if !quote && strings.TrimSuffix(got.String(), "\n") != strings.TrimSuffix(text, "\n") {
			t.Errorf("%q became %q", text, got.String())
		}
		if _, err := ReadDelivered(strings.NewReader(text)); err != nil {
			t.Error(err)
		}
	})
}

func TestTrouble(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{&worker.Error{Errno: syscall.ENOENT, Text: "cannot"}, "550 5.2.0 p: cannot"},
		{&worker.Error{Kind: worker.KindLocked, Errno: syscall.EEXIST, Text: "cannot"}, "450 4.2.0 p: cannot"},
		{&worker.Error{Errno: syscall.EAGAIN, Text: "cannot"}, "450 4.2.0 p: cannot"},
		{&worker.Error{Kind: worker.KindWrite, Errno: syscall.EFBIG, Text: "cannot"}, "550 5.2.2 p: cannot"},
		{&worker.Error{Kind: worker.KindWrite, Errno: syscall.ENOSPC, Text: "cannot"}, "450 4.3.0 p: cannot"},
		{&worker.Error{Kind: worker.KindWrite, Errno: syscall.EIO, Text: "cannot"}, "450 4.3.0 p: cannot"},
		{&worker.Error{Kind: worker.KindSource, Text: "cannot"}, "450 4.3.0 p: cannot"},
		{&worker.Error{Kind: worker.KindExecutable, Text: "cannot"}, "550 5.7.1 p: cannot"},
		{&worker.Error{Kind: worker.KindNotOwner, Text: "cannot"}, "450 4.2.0 p: cannot"},
		{errors.New("worker died"), "450 4.3.0 p: delivery is not possible now: worker died"},
	} {
		if got := Trouble(c.err, "5.2.0", "p: ").String(); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		done worker.Finished
		err  error
		want string // "" for success
		diag string
		said string
	}{
		{done: worker.Finished{Output: []byte("all well\n")}, said: "all well"},
		{done: worker.Finished{Exit: 67}, want: "550 5.1.1 user unknown", diag: "user unknown"},
		{done: worker.Finished{Exit: 75, Output: []byte("one\ntwo\n")}, want: "450 4.3.0 temporary failure. Command output: one two ", diag: "one two"},
		{done: worker.Finished{Exit: 1}, want: `550 5.3.0 Command died with status 1: "cmd"`, diag: "unknown mail system error 1"},
		{done: worker.Finished{Exit: 1, Output: []byte("4.7.99 my text\n")}, want: "450 4.7.99 my text ", diag: "my text"},
		{done: worker.Finished{Exit: 75, Output: []byte("5.7.99 my text\n")}, want: "550 5.7.99 my text ", diag: "my text"},
		{done: worker.Finished{Exit: 75, Output: []byte("x 5.7.99 my text\n")}, want: "450 4.3.0 temporary failure. Command output: x 5.7.99 my text ", diag: "x 5.7.99 my text"},
		{done: worker.Finished{Output: []byte("5.7.99 my text\n")}, said: "5.7.99 my text"},
		{done: worker.Finished{Signal: 9, Output: []byte("x\n")}, want: `450 4.3.0 Command died with signal 9: "cmd". Command output: x `, diag: "x"},
		{done: worker.Finished{TimedOut: true, Signal: 9, Output: []byte("wait\n")}, want: `550 5.3.0 Command time limit exceeded: "cmd". Command output: wait `, diag: "wait"},
		{done: worker.Finished{StartError: "execvp /x: No such file or directory"}, want: "450 4.3.0 temporary failure. Command output: local: fatal: execvp /x: No such file or directory ", diag: "local: fatal: execvp /x: No such file or directory"},
		{done: worker.Finished{StartError: `cannot change directory to "/x" for uid=1 gid=1: No such file or directory`}, want: "450 4.3.0 temporary failure", diag: "temporary failure"},
		{err: errors.New("worker died"), want: "450 4.3.0 delivery is not possible now: worker died"},
	} {
		v := Judge(c.done, c.err, "cmd", "local")
		if c.want == "" {
			if !v.Status.IsZero() || v.Output != c.said {
				t.Errorf("%+v: %+v", c.done, v)
			}
			continue
		}
		if v.Status.String() != c.want || v.Status.Remote.Diag != c.diag {
			t.Errorf("%+v:\n got %q diag %q\nwant %q diag %q", c.done, v.Status, v.Status.Remote.Diag, c.want, c.diag)
		}
	}
	codes := map[int]byte{71: '4', 75: '4'}
	for code := 1; code < 128; code++ {
		want, ok := codes[code]
		if !ok {
			want = '5'
		}
		if got := Judge(worker.Finished{Exit: code}, nil, "cmd", "pipe").Status.Enhanced()[0]; got != want {
			t.Errorf("exit code %d is %c", code, got)
		}
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	getenv := func(name string) (string, bool) {
		v, ok := map[string]string{"TZ": "UTC", "LANG": "de", "HOME": "/root"}[name]
		return v, ok
	}
	got := Export("TZ MAIL_CONFIG, LANG { X = y z }", "MAIL_CONFIG TZ LANG=C", getenv)
	if strings.Join(got, ";") != "TZ=UTC;LANG=C;X = y z" {
		t.Errorf("got %q", got)
	}
}

func TestParseLocks(t *testing.T) {
	t.Parallel()
	if l, err := ParseLocks("fcntl, dotlock"); err != nil || l != worker.LockFcntl|worker.LockDot {
		t.Errorf("%v %v", l, err)
	}
	if _, err := ParseLocks("fcntl, nosuch"); err == nil {
		t.Error("no error")
	}
}
