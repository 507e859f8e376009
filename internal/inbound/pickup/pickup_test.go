package pickup

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"posthaste/internal/cleanup"
	"posthaste/internal/inbound/maildrop"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
	"posthaste/internal/queue/queuefile"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/vfs/vfstest"
)

var now = time.Unix(1795378017, 0).UTC()

// fake is cleanup: it keeps what it was given.
type fake struct {
	env     envelope.Envelope
	text    bytes.Buffer
	answer  dsn.Status
	commits int
	aborts  int
}

func (f *fake) ID() queue.ID                                { return "ABCDEF0" }
func (f *fake) Envelope() *envelope.Envelope                { return &f.env }
func (f *fake) SetSender(_ context.Context, a addr.Address) { f.env.Sender = a }
func (f *fake) Write(p []byte) (int, error)                 { return f.text.Write(p) }
func (f *fake) Abort()                                      { f.aborts++ }
func (f *fake) Commit(context.Context) dsn.Status           { f.commits++; return f.answer }
func (f *fake) AddRecipient(_ context.Context, r envelope.Recipient) {
	f.env.Recipients = append(f.env.Recipients, r)
}

type fixture struct {
	fake
	mem   *vfstest.Mem
	log   maillog.Memory
	begin error
	*Pickup
}

const owner = 102

func newFixture(t *testing.T, cfg Config) *fixture {
	f := &fixture{mem: vfstest.New(1 << 24)}
	f.answer = dsn.New(250, "2.0.0", "Ok")
	for _, dir := range []string{"maildrop", "corrupt"} {
		if err := f.mem.Mkdir(dir, 0o730); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Hostname, cfg.MailName = "mail.example.com", "Postfix"
	var err error
	f.Pickup, err = New(cfg, Deps{FS: f.mem, Owner: owner, Log: maillog.New(&f.log, "postfix/pickup", 1, nil), Now: func() time.Time { return now },
		Flags: func(cleanup.Source) cleanup.Flags { return cleanup.External | cleanup.Bounce },
		Begin: func(context.Context, cleanup.Options) (Submission, error) { return &f.fake, f.begin }})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// put drops a message of a user; it returns its path.
func (f *fixture) put(t *testing.T, uid int) string {
	t.Helper()
	m := &maildrop.Message{}
	m.Envelope = envelope.Envelope{Sender: "bob", RewriteContext: "local", FullName: "Bob"}
	var c queuefile.Content
	b := maildrop.AppendContent(m.AppendRecipients(m.AppendHead(nil), []addr.Address{"alice"}))
	b = m.AppendTail(c.Append(b, []byte("Subject: x\n\nhello\n")), nil)
	var out bytes.Buffer
	o := maildrop.DropOptions{FS: f.mem, UID: uid, Now: func() time.Time { return now }, Guarded: true, Warn: func(string, ...any) {}}
	if err := maildrop.Drop(bytes.NewReader(b), &out, o); err != nil {
		t.Fatal(err)
	}
	id, err := maildrop.NewReplies(&out).Hello()
	if err != nil {
		t.Fatal(err)
	}
	f.mem.SetOwner("maildrop/"+id, uid)
	return "maildrop/" + id
}

func (f *fixture) exists(path string) bool {
	_, err := f.mem.Lstat(path)
	return err == nil
}

func TestTake(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Filter: "smtp:[127.0.0.1]:10025"})
	path := f.put(t, 2002)
	if n := f.Scan(t.Context()); n != 1 || f.commits != 1 || f.exists(path) {
		t.Errorf("took %d, %d commits", n, f.commits)
	}
	const want = "Received: by mail.example.com (Postfix, from userid 2002)\n\tid ABCDEF0; Sun, 22 Nov 2026 20:06:57 +0000 (UTC)\nSubject: x\n\nhello\n"
	if diff := cmp.Diff(want, strings.ReplaceAll(f.text.String(), localDate(), "Sun, 22 Nov 2026 20:06:57 +0000 (UTC)")); diff != "" {
		t.Error(diff)
	}
	wantEnv := envelope.Envelope{Sender: "bob", RewriteContext: "local", FullName: "Bob", Inject: "pickup", Filter: "smtp:[127.0.0.1]:10025",
		Arrival: now, Recipients: []envelope.Recipient{{Address: "alice"}}}
	if diff := cmp.Diff(wantEnv, f.env); diff != "" {
		t.Error(diff)
	}
	if f.log.String() != "postfix/pickup: ABCDEF0: uid=2002 from=<bob>" {
		t.Error(f.log.String())
	}
	if n := f.Scan(t.Context()); n != 0 || f.commits != 1 {
		t.Errorf("second scan took %d", n)
	}
}

func localDate() string { return now.Local().Format("Mon, 02 Jan 2006 15:04:05 -0700 (MST)") }

// A message stays until its commit said yes.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for answer, place := range map[dsn.Status]string{
		dsn.New(451, "4.3.0", "queue file write error"): "stays", dsn.New(452, "4.3.1", "Insufficient system storage"): "stays",
		dsn.New(550, "5.7.1", "no"): "corrupt",
	} {
		f := newFixture(t, Config{})
		path := f.put(t, 2002)
		f.answer = answer
		f.Scan(t.Context())
		if stays := f.exists(path); stays != (place == "stays") {
			t.Errorf("%v: stays %v", answer, stays)
		}
		if saved := f.exists("corrupt/" + strings.TrimPrefix(path, "maildrop/")); saved != (place == "corrupt") {
			t.Errorf("%v: saved %v", answer, saved)
		}
		if f.aborts == 0 {
			t.Error("not aborted")
		}
	}
	f := newFixture(t, Config{})
	path := f.put(t, 2002)
	f.begin = queue.ErrFull
	if f.Scan(t.Context()); !f.exists(path) {
		t.Error("lost while the disk is full")
	}
}

func TestHostileFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	write := func(name, data string) {
		file, err := f.mem.Create("maildrop/"+name, 0o700)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
		file.Close()
		f.mem.SetOwner("maildrop/"+name, 2002)
	}
	write("ABCDE01", "rubbish")
	write("not-an-id", "rubbish")
	write("ABCDE02", "T\x051 100S\x01xM\x00")
	if err := f.mem.Chmod("maildrop/ABCDE02", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.mem.Mkdir("maildrop/ABCDE03", 0o700); err != nil {
		t.Fatal(err)
	}
	good := f.put(t, 2002)
	if n := f.Scan(t.Context()); n != 1 || f.exists(good) {
		t.Errorf("took %d", n)
	}
	if !f.exists("corrupt/ABCDE01") || !f.exists("maildrop/ABCDE02") || !f.exists("maildrop/not-an-id") {
		t.Error("files are not where they belong")
	}
	if !strings.Contains(f.log.String(), "warning: uid=2002: unexpected or malformed record type 0") {
		t.Error(f.log.String())
	}
}

// The crash between commit and removal repeats a message, and loses none.
func TestFaults(t *testing.T) {
	t.Parallel()
	for n := 1; n < 12; n++ {
		f := newFixture(t, Config{})
		path := f.put(t, 2002)
		count := 0
		f.mem.Hook = func(string, string) error {
			if count++; count == n {
				return os.ErrPermission
			}
			return nil
		}
		f.Scan(t.Context())
		f.mem.Hook = nil
		if f.commits == 0 && !f.exists(path) {
			t.Errorf("call %d: lost", n)
		}
		f.Scan(t.Context())
		if f.commits == 0 || f.exists(path) {
			t.Errorf("call %d: not taken at the second scan", n)
		}
	}
}

func TestRequeued(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../queue/spool/testdata/postfix/deferred/9/9AF1046")
	if err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[int]string{owner: "postfix/pickup: ABCDEF0: uid=102 from=<list-owner@mail.example.com> orig_id=9AF1046", 2002: "record type 67"} {
		f := newFixture(t, Config{})
		file, err := f.mem.Create("maildrop/9AF1046", 0o700)
		if err != nil {
			t.Fatal(err)
		}
		_, err = file.Write(data)
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		f.mem.SetOwner("maildrop/9AF1046", uid)
		f.Scan(t.Context())
		if !strings.Contains(f.log.String(), want) {
			t.Errorf("uid %d: %s", uid, f.log.String())
		}
		if uid == owner && (len(f.env.Recipients) != 3 || f.env.Recipients[0].Original != "list@mail.example.com" || !f.env.Arrival.Equal(now)) {
			t.Errorf("%+v", f.env)
		}
	}
}
