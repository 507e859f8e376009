package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/text"
)

// me is a Host that does everything as the user of the test, remembering whom
// it was asked to be.
type me struct {
	worker.Host
	asked *[]worker.Rights
}

func newMe() me { return me{worker.InProcess(), &[]worker.Rights{}} }

func (h me) as(r worker.Rights) worker.Rights {
	*h.asked = append(*h.asked, r)
	return worker.Rights{UID: os.Geteuid(), GID: os.Getegid()}
}

func (h me) info(r worker.Rights, i worker.Info) worker.Info {
	if i.UID == os.Geteuid() {
		i.UID = r.UID
	}
	return i
}

func (h me) Append(ctx context.Context, r worker.Rights, j worker.Append) (worker.Appended, error) {
	return h.Host.Append(ctx, h.as(r), j)
}
func (h me) Maildir(ctx context.Context, r worker.Rights, j worker.Maildir) error {
	return h.Host.Maildir(ctx, h.as(r), j)
}
func (h me) Run(ctx context.Context, r worker.Rights, j worker.Command) (worker.Finished, error) {
	return h.Host.Run(ctx, h.as(r), j)
}
func (h me) Read(ctx context.Context, r worker.Rights, path string, limit int64) (worker.File, error) {
	f, err := h.Host.Read(ctx, h.as(r), path, limit)
	f.Info = h.info(r, f.Info)
	return f, err
}
func (h me) Stat(ctx context.Context, r worker.Rights, path string) (worker.Info, error) {
	i, err := h.Host.Stat(ctx, h.as(r), path)
	return h.info(r, i), err
}
func (h me) StatTarget(ctx context.Context, r worker.Rights, path string) (worker.Info, error) {
	i, err := h.Host.StatTarget(ctx, h.as(r), path)
	return h.info(r, i), err
}

// bench is a host with alice, bob and carol, and everything below dir.
type bench struct {
	t       *testing.T
	dir     string
	cfg     Config
	aliases map[string]string
	host    me
	log     maillog.Memory
	got     []transport.Outcome
	passed  []string
	queued  []*submission
	env     envelope.Envelope
	text    string
	refuse  dsn.Status // of submissions
}

func (b *bench) ByName(name string) (User, bool, error) {
	for i, n := range []string{"alice", "bob", "carol", "www"} {
		if n == name {
			return User{Name: n, UID: 2000 + i, GID: 2000 + i, Home: filepath.Join(b.dir, "home", n), Shell: "/bin/sh"}, true, nil
		}
	}
	if name == "broken" {
		return User{}, false, errors.New("directory service is down")
	}
	return User{}, false, nil
}

func (b *bench) ByUID(uid int) (User, bool, error) {
	if uid < 2000 || uid > 2003 {
		return User{}, false, nil
	}
	return b.ByName([]string{"alice", "bob", "carol", "www"}[uid-2000])
}

func (b *bench) Rewrite(_ context.Context, _ string, a addr.Address) addr.Address {
	if _, _, ok := a.Split(); ok {
		return a
	}
	return a + "@h.example"
}

func (b *bench) Resolve(_ context.Context, _, rcpt addr.Address) (route.Route, error) {
	r := route.Route{Transport: "smtp", Nexthop: rcpt.Domain(), Recipient: rcpt}
	switch rcpt.Domain() {
	case "h.example":
		r.Transport = "local"
	case "bad.example":
		r.Problem = route.BadSyntax
	case "broken.example":
		return r, errors.New("table failed")
	}
	return r, nil
}

type submission struct {
	b     *bench
	id    queue.ID
	env   envelope.Envelope
	text  strings.Builder
	state string
}

func (s *submission) ID() queue.ID                                { return s.id }
func (s *submission) Envelope() *envelope.Envelope                { return &s.env }
func (s *submission) SetSender(_ context.Context, a addr.Address) { s.env.Sender = a }
func (s *submission) AddRecipient(_ context.Context, r envelope.Recipient) {
	s.env.Recipients = append(s.env.Recipients, r)
}
func (s *submission) Trace(_ context.Context, headers []byte) { s.text.Write(headers) }
func (s *submission) Write(p []byte) (int, error)             { return s.text.Write(p) }
func (s *submission) Abort() {
	if s.state == "" {
		s.state = "aborted"
	}
}
func (s *submission) Commit(context.Context) dsn.Status {
	if !s.b.refuse.IsZero() {
		s.state = "refused"
		return s.b.refuse
	}
	s.state = "queued"
	return dsn.New(250, "2.0.0", "queued")
}

type mapTable map[string]string

func (m mapTable) Lookup(_ context.Context, key string) (string, bool, error) {
	v, ok := m[strings.ToLower(key)]
	return v, ok, nil
}
func (m mapTable) Fixed() bool  { return true }
func (m mapTable) Name() string { return "mem:aliases" }
func (m mapTable) Close() error { return nil }

func newBench(t *testing.T) *bench {
	b := &bench{t: t, dir: t.TempDir(), aliases: map[string]string{}, host: newMe(), text: "Subject: x\n\nhello\n"}
	for _, sub := range []string{"home/alice", "home/bob", "home/carol", "mail", "out"} {
		if err := os.MkdirAll(filepath.Join(b.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(b.dir, "mail"), 0o1777); err != nil {
		t.Fatal(err)
	}
	chars := "1234567890!@%-_=+:,./abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	b.cfg = Config{
		Hostname: "h.example", MailName: "Postfix", AliasMaps: "mem:aliases", DefaultPrivs: "www", Delimiter: "+",
		OwnerSpecial: true, KeepOriginal: true, Propagate: "canonical, virtual", DuplicateMax: 1000, StrictOwner: true,
		QueueDir: b.dir, Frozen: true, ForwardPath: "$home/.forward${recipient_delimiter}${extension}, $home/.forward",
		ForwardFilter: chars, CommandFilter: chars, DirFilter: chars,
		AllowCommands: "alias, forward", AllowFiles: "alias, forward", Prepend: "command, file, forward",
		SpoolDir: filepath.Join(b.dir, "mail"), SizeLimit: 100_000, MessageLimit: 50_000, Lock: "fcntl, dotlock", TimeLimit: 20 * time.Second,
		Export: "TZ", Import: "TZ=UTC",
	}
	b.cfg.Attempts, b.cfg.Delay, b.cfg.Stale = 2, time.Millisecond, time.Hour
	b.env.Sender = "a@client.example"
	return b
}

func (b *bench) write(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *bench) opener() *table.Opener {
	log := maillog.New(&b.log, "postfix/local", 1, nil)
	return table.NewOpener(table.Setup{Log: log, Types: []table.Type{
		{Name: "mem", Open: func(*table.Opener, string, table.Use) (table.Table, error) { return mapTable(b.aliases), nil }},
		{Name: "inline", Open: text.Inline}, {Name: "fail", Open: text.Fail},
	}})
}

func (b *bench) agent() *Agent {
	b.t.Helper()
	log := maillog.New(&b.log, "postfix/local", 1, nil)
	a, err := New(b.cfg, Deps{
		Host: b.host, Tables: b.opener(), Users: b, Resolver: b, Log: log,
		Submit: func(context.Context, int64) (Submission, error) {
			s := &submission{b: b, id: queue.ID(fmt.Sprintf("NEW%d", len(b.queued)+1))}
			b.queued = append(b.queued, s)
			return s, nil
		},
		Pass: func(_ context.Context, r *transport.Request) error {
			b.passed = append(b.passed, r.Transport+":"+r.Nexthop)
			if r.Transport == "nosuch" {
				return errors.New("no such transport")
			}
			r.Report(transport.Outcome{Index: r.Recipients[0].Index, Recipient: r.Recipients[0].Recipient, Status: dsn.New(250, "2.0.0", "taken"), Relay: r.Transport})
			return nil
		},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// deliver delivers to one recipient and returns the outcomes as lines.
func (b *bench) deliver(r envelope.Recipient) string {
	b.t.Helper()
	b.got, b.queued, b.passed = nil, nil, nil
	if !strings.Contains(string(r.Address), "@") {
		r.Address += "@h.example"
	}
	b.agent().Deliver(context.Background(), &transport.Request{
		ID: "OLD", Envelope: &b.env, Size: int64(len(b.text)), Open: func() io.ReadSeeker { return strings.NewReader(b.text) },
		Transport: "local", Nexthop: "h.example", Recipients: []transport.Recipient{{Recipient: r, Index: 5}},
		Report: func(o transport.Outcome) { b.got = append(b.got, o) },
	})
	var lines []string
	for _, o := range b.got {
		if o.Index != 5 {
			b.t.Errorf("outcome for recipient %d", o.Index)
		}
		line := string(o.Recipient.Address) + ": " + o.Status.Enhanced() + " " + o.Status.Text()
		if o.Relay != "local" {
			line += " via " + o.Relay
		}
		if o.Unlogged {
			line += fmt.Sprintf(" (report, expanded %v)", o.Expanded)
		}
		lines = append(lines, strings.ReplaceAll(strings.ReplaceAll(line, b.dir, "DIR"), "@h.example", ""))
	}
	for _, s := range b.queued {
		line := s.state + " from " + string(s.env.Sender) + " to"
		for _, r := range s.env.Recipients {
			line += " " + string(r.Address)
		}
		lines = append(lines, strings.ReplaceAll(line, "@h.example", ""))
	}
	return strings.Join(lines, "\n")
}

func (b *bench) want(rcpt addr.Address, want string) {
	b.t.Helper()
	if got := b.deliver(envelope.Recipient{Address: rcpt}); got != want {
		b.t.Errorf("%s:\n got %s\nwant %s\n log %s", rcpt, got, want, &b.log)
	}
}

// files lists what there is below dir, with contents; times are masked.
func (b *bench) files(sub string) string {
	b.t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(b.dir, sub), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		rel, _ := filepath.Rel(b.dir, path)
		found = append(found, rel+"\n"+string(content))
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	sort.Strings(found)
	all := strings.Join(found, "")
	all = regexp.MustCompile(`(?m)^(>?From \S+)  .*$`).ReplaceAllString(all, "$1  DATE")
	return regexp.MustCompile(`[0-9]+\.V\S+`).ReplaceAllString(all, "NAME")
}

const head = "From a@client.example  DATE\nReturn-Path: <a@client.example>\nX-Original-To: alice@h.example\nDelivered-To: alice@h.example\nSubject: x\n\nhello\n"

func TestMailbox(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.want("Alice", "Alice: 2.0.0 delivered to mailbox")
	if got := b.files("mail"); got != "mail/alice\n"+strings.ReplaceAll(head, "alice@", "Alice@")+"\n" {
		t.Errorf("mailbox: %q", got)
	}
	b.cfg.HomeMailbox = "Maildir/"
	b.want("alice", "alice: 2.0.0 delivered to maildir")
	_, message, _ := strings.Cut(head, "\n")
	if got := b.files("home"); got != "home/alice/Maildir/new/NAME\n"+message {
		t.Errorf("maildir: %q", got)
	}
	b.cfg.HomeMailbox = "sub/mbox"
	b.want("bob", "bob: 5.2.0 cannot update mailbox DIR/home/bob/sub/mbox for user bob. unable to create lock file DIR/home/bob/sub/mbox.lock: No such file or directory")
	b.cfg.HomeMailbox, b.cfg.SizeLimit, b.cfg.MessageLimit = "", 300, 200
	b.text = "Subject: x\n\n" + strings.Repeat("y", 180)
	b.want("alice", "alice: 5.2.2 cannot update mailbox DIR/mail/alice for user alice. error writing message: File too large")
	b.want("nosuch+x", `nosuch+x: 5.1.1 unknown user: "nosuch"`)
	b.want("+x", `+x: 5.1.1 unknown user: "+x"`)
	b.want("broken", "broken: 4.0.0 user lookup error")
	b.want("Postmaster", "Postmaster: 2.0.0 discarded")
}

func TestSettings(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.cfg.MailboxCommand = `cat > o; echo "$USER $EXTENSION $DOMAIN $HOME" >> o`
	b.want("alice+ext", `alice+ext: 2.0.0 delivered to command: cat > o; echo "$USER $EXTENSION $DOMAIN $HOME" >> o`)
	b.cfg.MailboxCommand = ""
	b.cfg.TransportMaps = "inline:{ {bob = smtp:[203.0.113.9]} }"
	b.want("bob", "bob: 2.0.0 taken via smtp")
	if len(b.passed) != 1 || b.passed[0] != "smtp:[203.0.113.9]" || !strings.Contains(b.log.String(), "OLD: passing <bob@h.example> to transport=smtp") {
		t.Errorf("passed %q, log %s", b.passed, &b.log)
	}
	b.cfg.TransportMaps = "fail:x"
	b.want("bob", "bob: 4.3.0 table lookup failure")
	b.cfg.TransportMaps, b.cfg.Transport = "", "nosuch"
	b.want("bob", "bob: 4.3.0 mail transport unavailable")
	b.cfg.Transport, b.cfg.Fallback = "", "lmtp:unix:/x"
	b.want("nosuch", "nosuch: 2.0.0 taken via lmtp")
	if b.passed[0] != "lmtp:unix:/x" {
		t.Errorf("passed %q", b.passed)
	}
	b.cfg.Fallback, b.cfg.LuserRelay = "", "$user+unknown@far.example"
	b.want("nosuch+ext", "nosuch+ext: 2.0.0 forwarded as NEW1\nqueued from a@client.example to nosuch+unknown@far.example")
	b.cfg.LuserRelay = "alice"
	b.want("nosuch", "alice: 2.0.0 delivered to mailbox")
	b.cfg.LuserRelay = "$user"
	b.want("nosuch", `nosuch: 5.1.1 unknown user: "nosuch"`)
	b.cfg.LuserRelay, b.cfg.AliasMaps = "", "fail:x"
	b.want("bob", "bob: 4.3.0 alias database unavailable")
	b.cfg.AliasMaps, b.cfg.RequireHome = "", true
	if err := os.Remove(filepath.Join(b.dir, "home/bob")); err != nil {
		t.Fatal(err)
	}
	b.want("bob", "bob: 4.3.0 cannot access home directory DIR/home/bob: No such file or directory")
}

func TestAliases(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for line := range strings.Lines(`cmd: "|echo hello; exit 0"
fails: |false
tempfail: "|echo not now; exit 75"
file: DIR/out/file
dir: DIR/out/dir/
devnull: /dev/null
inc: :include:DIR/members
incbad: :include:DIR/nosuch
increl: :include:members
inccmd: :include:DIR/cmdlist
owned: nosuch-local, alice
owner-owned: carol
remote: u@far.example, "quoted local"@far.example
comma: "|echo 'a, b'" , bob
selfref: \\selfref, alice
bob2: \\bob
loop1: loop2
loop2: loop1
dup: alice, alice, "alice"@h.example
mixed: "|exit 75", u@far.example, bob
empty: ,
bad: x@bad.example
broken: x@broken.example
tilde: ~/x
team: alice, bob
team+leads: carol
`) {
		name, value, _ := strings.Cut(strings.TrimSuffix(strings.ReplaceAll(line, "DIR", b.dir), "\n"), ": ")
		b.aliases[name] = value
	}
	b.write("members", "alice, bob\n# comment\ncarol\n")
	b.write("cmdlist", "|/bin/cat\n/tmp/x\n")
	for _, c := range [][2]string{
		{"cmd", "cmd: 2.0.0 delivered to command: echo hello; exit 0"},
		{"cmd+ext", "cmd+ext: 2.0.0 delivered to command: echo hello; exit 0"},
		{"fails", `fails: 5.3.0 Command died with status 1: "false"`},
		{"tempfail", "tempfail: 4.3.0 temporary failure. Command output: not now "},
		{"file", "file: 2.0.0 delivered to file: DIR/out/file"},
		{"dir", "dir: 2.0.0 delivered to maildir"},
		{"devnull", "devnull: 2.0.0 delivered to file: /dev/null"},
		{"inc", "inc: 2.0.0 forwarded as NEW1\nqueued from a@client.example to alice bob carol"},
		{"incbad", "incbad: 5.3.5 mail system configuration error"},
		{"increl", "increl: 5.3.5 mail system configuration error"},
		{"inccmd", "inccmd: 5.7.1 mail to command is restricted\ninccmd: 5.7.1 mail to file is restricted"},
		{"owned", "owned: 2.0.0 forwarded as NEW1\nqueued from owner-owned to nosuch-local alice"},
		{"remote", "remote: 2.0.0 forwarded as NEW1\nqueued from a@client.example to u@far.example quoted local@far.example"},
		{"comma", "comma: 2.0.0 delivered to command: echo 'a, b'\nbob: 2.0.0 delivered to mailbox"},
		{"selfref", "selfref: 5.1.1 unknown user: \"selfref\"\nalice: 2.0.0 delivered to mailbox"},
		{"bob2", "bob: 2.0.0 delivered to mailbox"},
		{"loop1", "loop2: 5.4.6 recipient nesting limit exceeded"},
		{"dup", "alice: 2.0.0 delivered to mailbox"},
		// Nothing is forwarded while a part must be tried again.
		{"mixed", "mixed: 4.3.0 temporary failure\nbob: 2.0.0 delivered to mailbox"},
		{"empty", "empty: 4.3.0 alias database unavailable"},
		{"bad", "bad: 5.1.3 bad recipient address syntax: x@bad.example"},
		{"broken", "broken: 4.3.0 address resolver failure"},
		{"tilde", "tilde: 5.3.5 mail system configuration error"},
		{"team", "alice: 2.0.0 delivered to mailbox\nbob: 2.0.0 delivered to mailbox"},
		{"team+leads", "carol: 2.0.0 delivered to mailbox"},
	} {
		b.want(addr.Address(c[0]), c[1])
	}
	b.cfg.ExpandOwner = true
	b.want("owned", "owned: 2.0.0 forwarded as NEW1\nqueued from carol to nosuch-local alice")
	b.cfg.Propagate = "alias"
	b.want("team+x", "alice+x: 2.0.0 delivered to mailbox\nbob+x: 2.0.0 delivered to mailbox")
	for _, as := range *b.host.asked {
		if as.UID == 0 && len(b.aliases) > 0 && as.Chroot != "" {
			t.Errorf("rights %+v", as)
		}
	}
	for _, want := range []string{
		"unable to lookup :include: file " + b.dir + "/nosuch: No such file or directory", ":include:members uses a relative path",
		"no recipient in alias lookup result for empty", "unknown home directory for: ~/x", "recipient nesting limit exceeded for loop2@h.example",
	} {
		if !strings.Contains(b.log.String(), "warning: "+want) {
			t.Errorf("no warning %q in\n%s", want, &b.log)
		}
	}
}

// TestRights: commands and files of root's aliases run as default_privs, those
// of a user's .forward as the user.
func TestRights(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.aliases["cmd"] = "|true"
	b.aliases["file"] = b.dir + "/out/file"
	for _, name := range []addr.Address{"cmd", "file"} {
		*b.host.asked = nil
		b.deliver(envelope.Recipient{Address: name})
		if got := *b.host.asked; len(got) != 1 || got[0] != (worker.Rights{UID: 2003, GID: 2003}) {
			t.Errorf("%s: with rights %+v", name, got)
		}
	}
	b.write("home/bob/.forward", "\"|true\"\n~/copy\n")
	*b.host.asked = nil
	b.want("bob", "bob: 2.0.0 delivered to command: true\nbob: 2.0.0 delivered to file: DIR/home/bob/copy")
	for _, as := range *b.host.asked {
		if as.UID != 2001 || as.GID != 2001 {
			t.Errorf("with rights %+v", as)
		}
	}
}

func TestForwardFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("home/alice/.forward", "bob@h.example\n")
	b.write("home/alice/.forward+list", "\\alice, u@far.example\n")
	b.write("home/carol/.forward", "\\carol\n\"|exit 0\"\n# comment\n"+b.dir+"/out/copy\n~/mine\n")
	b.want("alice", "alice: 2.0.0 forwarded as NEW1\nqueued from a@client.example to bob")
	text := b.queued[0].text.String()
	if !regexp.MustCompile(`^Received: by h\.example \(Postfix\)\n\tid NEW1; .*\nDelivered-To: alice@h\.example\nSubject: x\n\nhello\n$`).MatchString(text) {
		t.Errorf("forwarded %q", text)
	}
	b.want("alice+list", "alice+list: 2.0.0 forwarded as NEW1\nqueued from a@client.example to bob u@far.example")
	b.want("alice+other", "alice+other: 2.0.0 forwarded as NEW1\nqueued from a@client.example to bob")
	b.want("carol", "carol: 2.0.0 delivered to mailbox\ncarol: 2.0.0 delivered to command: exit 0\ncarol: 2.0.0 delivered to file: DIR/out/copy\ncarol: 2.0.0 delivered to file: DIR/home/carol/mine")
	b.write("home/alice/.forward", "alice@h.example\n")
	b.want("alice", "alice: 2.0.0 delivered to mailbox")
	b.write("home/alice/.forward", "# nobody\n\n")
	b.want("alice", "alice: 2.0.0 delivered to mailbox")
	path := b.write("home/alice/.forward", "bob\n")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	b.want("alice", "alice: 2.0.0 delivered to mailbox")
	if !strings.Contains(b.log.String(), "warning: file "+path+" is world writable") {
		t.Errorf("log %s", &b.log)
	}
	if err := errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path)); err != nil {
		t.Fatal(err)
	}
	b.want("alice", "alice: 2.0.0 delivered to mailbox")
	if !strings.Contains(b.log.String(), "warning: file "+path+" is not a regular file") {
		t.Errorf("log %s", &b.log)
	}
}

func TestLoop(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.text = "Delivered-To: ALICE@h.example\n\nx\n"
	b.want("alice", "alice: 5.4.6 mail forwarding loop for alice")
	b.aliases["fwd"] = "alice"
	b.want("fwd", "alice: 5.4.6 mail forwarding loop for alice")
}

func TestTrace(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.aliases["cmd"], b.aliases["file"], b.aliases["remote"] = `"|exit 1"`, "/nosuch/x", "u@far.example"
	b.env.Trace = envelope.TraceVerify
	b.want("alice", "alice: 2.0.0 delivers to mailbox")
	b.want("cmd", "cmd: 2.0.0 delivers to command: exit 1")
	b.want("file", "file: 2.0.0 delivers to file: /nosuch/x")
	b.want("remote", "u@far.example: 2.0.0 forwards to u@far.example")
	b.want("nosuch", `nosuch: 5.1.1 unknown user: "nosuch"`)
	b.env.Trace = envelope.TraceProbe
	b.want("remote", "remote: 2.0.0 aliased to u@far.example")
	b.write("home/alice/.forward", "bob\n")
	b.want("alice", "alice: 2.0.0 forward via file: DIR/home/alice/.forward")
	if got := b.files("mail"); got != "" {
		t.Errorf("something was delivered: %s", got)
	}
}

func TestSuccessReports(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.aliases["deep"], b.aliases["deep2"] = "deep2", "alice"
	b.aliases["list"], b.aliases["owner-list"] = "u@far.example", "carol"
	b.aliases["remote"] = "u@far.example"
	b.env.EnvID = "e1"
	ask := func(name addr.Address) string {
		return b.deliver(envelope.Recipient{Address: name, ORCPT: "rfc822;o@o.example", Notify: envelope.NotifySuccess | envelope.NotifyFailure})
	}
	if got := ask("deep"); got != "alice: 2.0.0 delivered to mailbox\ndeep: 2.0.0 alias expanded (report, expanded true)" {
		t.Error(got)
	}
	for _, o := range b.got {
		if (o.Recipient.Notify&envelope.NotifySuccess != 0) != o.Unlogged {
			t.Errorf("outcome %+v", o)
		}
	}
	if got := ask("list"); got != "list: 2.0.0 alias expanded (report, expanded false)\nlist: 2.0.0 forwarded as NEW1\nqueued from owner-list to u@far.example" {
		t.Error(got)
	}
	if s := b.queued[0]; s.env.EnvID != "" || s.env.Recipients[0].ORCPT != "" || s.env.Recipients[0].Notify != 0 || s.env.Recipients[0].Original != "" {
		t.Errorf("list got %+v", s.env)
	}
	if ask("remote"); b.queued[0].env.EnvID != "e1" || b.queued[0].env.Recipients[0].Notify != envelope.NotifyFailure || b.queued[0].env.Recipients[0].ORCPT == "" {
		t.Errorf("alias got %+v", b.queued[0].env)
	}
	if ask("alice"); b.got[0].Recipient.Notify&envelope.NotifySuccess == 0 {
		t.Errorf("mailbox: %+v", b.got)
	}
}

func TestForwardRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.aliases["remote"] = "u@far.example"
	b.refuse = dsn.New(451, "4.3.0", "queue file write error")
	b.want("remote", "remote: 4.3.0 unable to forward message\nrefused from a@client.example to u@far.example")
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b.agent().Deliver(ctx, &transport.Request{Envelope: &b.env, Open: func() io.ReadSeeker { return bytes.NewReader(nil) }, Transport: "local",
		Recipients: []transport.Recipient{{Recipient: envelope.Recipient{Address: "alice@h.example"}}},
		Report:     func(o transport.Outcome) { t.Errorf("outcome %+v", o) }})
}

func TestEnvironmentIsCensored(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.env.Sender = "`id`;$(x)@client.example"
	b.env.Client = envelope.Client{Helo: "a b\nc"}
	b.aliases["cmd"] = "\"|env > " + b.dir + "/out/env\""
	b.want("cmd", "cmd: 2.0.0 delivered to command: env > DIR/out/env")
	got := b.files("out")
	for _, want := range []string{"\nSENDER=_id____x_@client.example\n", "\nCLIENT_HELO=a_b_c\n", "\nTZ=UTC\n", "\nPATH=/usr/bin:/bin\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*Config){
		func(c *Config) { c.DefaultPrivs = "nosuch" }, func(c *Config) { c.Lock = "magic" },
		func(c *Config) { c.MessageLimit = c.SizeLimit + 1 }, func(c *Config) { c.MessageLimit = 0 },
	} {
		b := newBench(t)
		change(&b.cfg)
		if _, err := New(b.cfg, Deps{Users: b, Tables: b.opener(), Host: b.host}); err == nil {
			t.Error("accepted")
		}
	}
}

func TestPasswordFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "passwd")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := NewPasswordFile(path)
	if _, _, err := p.ByName("x"); err == nil {
		t.Error("no file is no error")
	}
	write("root:x:0:0::/root:/bin/sh\nbroken:line\n#c:x:1:1::/:/\n../x:x:5:5::/:/\nalice:x:2000:2001:A:/home/alice:/bin/sh\nalice:x:0:0::/:/\n")
	u, ok, err := p.ByName("alice")
	if want := (User{"alice", 2000, 2001, "/home/alice", "/bin/sh"}); !ok || err != nil || u != want {
		t.Errorf("%+v %v %v", u, ok, err)
	}
	for _, name := range []string{"broken", "../x", "#c", ""} {
		if _, ok, _ := p.ByName(name); ok {
			t.Errorf("%q is a user", name)
		}
	}
	write("bob:x:7:7::/:/\n")
	if u, ok, _ := p.ByUID(7); !ok || u.Name != "bob" {
		t.Errorf("after a change: %+v", u)
	}
}

func FuzzAlias(f *testing.F) {
	for _, s := range []string{`"|cmd 'a, b'", bob`, `\\bob, \alice`, ":include:/x", "a@b <c@d> (e) f: g;", "~/x, /y/", `""`, "fuzz", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		b := newBench(t)
		b.env.Trace = envelope.TraceVerify // nothing is really done
		b.aliases["fuzz"] = value
		if b.deliver(envelope.Recipient{Address: "fuzz"}); len(b.got) == 0 {
			t.Errorf("no answer for alias %q", value)
		}
		b.write("home/alice/.forward", value)
		if b.deliver(envelope.Recipient{Address: "alice"}); len(b.got) == 0 {
			t.Errorf("no answer for .forward %q", value)
		}
	})
}
