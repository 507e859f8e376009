package mailqueue

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"posthaste/internal/command/cli"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
	"posthaste/internal/queue/showq"
	"posthaste/internal/queue/spool"
	"posthaste/internal/queue/trigger"
	"posthaste/internal/sys/vfs"
)

// site is a mail system that is down, with two messages; each test may start
// parts of it.
type site struct {
	t     *testing.T
	dir   string
	ids   []queue.ID
	store *spool.Spool
}

func newSite(t *testing.T, settings ...string) *site {
	dir, err := os.MkdirTemp("", "q") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &site{t: t, dir: dir}
	main := "compatibility_level = 3.11\nmyhostname = mail.example.com\nmynetworks = 127.0.0.0/8\nrelay_domains = later.example\nqueue_directory = " + dir +
		"\n" + strings.Join(settings, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(dir, "main.cf"), []byte(main), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"public", "maildrop"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.store, err = spool.New(spool.Options{FS: vfs.Dir(dir), Config: spool.Config{HashNames: "deferred, defer", HashDepth: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []queue.Name{queue.Deferred, queue.Hold} {
		s.submit(to)
	}
	return s
}

func (s *site) submit(to queue.Name) {
	s.t.Helper()
	d, err := s.store.Begin(s.t.Context(), queue.Hint{})
	if err != nil {
		s.t.Fatal(err)
	}
	fmt.Fprintf(d, "From: <a@example.com>\nSubject: %s\n\nbody\n", to)
	env := &envelope.Envelope{Sender: "sender@example.com", Arrival: time.Unix(1795378010, 0), RewriteContext: "local",
		Recipients: []envelope.Recipient{{Address: "u@later.example", Original: "alias@example.com"}}}
	if err := d.Commit(s.t.Context(), env, to); err != nil {
		s.t.Fatal(err)
	}
	m, err := s.store.Open(s.t.Context(), d.ID())
	if err != nil {
		s.t.Fatal(err)
	}
	defer m.Close()
	done := []queue.Done{{Recipient: 0, Status: dsn.New(450, "4.4.1", "connect to later.example: refused")}}
	if _, err := s.store.Update(s.t.Context(), queue.Claim{}, d.ID(), m.Rev(), queue.Change{Done: done}, queue.Lazy); err != nil {
		s.t.Fatal(err)
	}
	s.ids = append(s.ids, d.ID())
}

// run calls a command; queue ids and the directory are masked.
func (s *site) run(f func(context.Context, *cli.Env) int, stdin string, args ...string) string {
	s.t.Helper()
	var out bytes.Buffer
	env := &cli.Env{Name: "tool", Args: append([]string{"-c", s.dir}, args...), Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &out,
		Getenv: func(string) string { return "" }}
	status := f(s.t.Context(), env)
	return s.mask(fmt.Sprintf("%sexit %d", out.String(), status))
}

func (s *site) mask(text string) string {
	for i, id := range s.ids {
		text = strings.ReplaceAll(text, string(id), fmt.Sprintf("ID%d", i))
	}
	text = strings.ReplaceAll(text, time.Unix(1795378010, 0).Format(time.ANSIC), "CTIME")
	return strings.ReplaceAll(strings.ReplaceAll(text, time.Unix(1795378010, 0).Format(time.ANSIC)[:20], "CTIME "), s.dir, "DIR")
}

const listing = `-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------
ID0      50 CTIME  sender@example.com
                                           (connect to later.example: refused)
                                         u@later.example

ID1!      46 CTIME  sender@example.com
                                           (connect to later.example: refused)
                                         u@later.example

-- 0 Kbytes in 2 Requests.
exit 0`

const lines = `{"queue_name": "deferred", "queue_id": "ID0", "arrival_time": 1795378010, "message_size": 50, "forced_expire": false, "sender": "sender@example.com", "recipients": [{"orig_address": "alias@example.com", "address": "u@later.example", "delay_reason": "connect to later.example: refused"}]}
{"queue_name": "hold", "queue_id": "ID1", "arrival_time": 1795378010, "message_size": 46, "forced_expire": false, "sender": "sender@example.com", "recipients": [{"orig_address": "alias@example.com", "address": "u@later.example", "delay_reason": "connect to later.example: refused"}]}
exit 0`

func TestListing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const down = "tool: warning: Mail system is down -- accessing queue directly (Connect to the Postfix showq service: No such file or directory)\n"
	if diff := cmp.Diff(down+listing, s.run(Postqueue, "", "-p")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(down+lines, s.run(Postqueue, "", "-j")); diff != "" {
		t.Error(diff)
	}
	ln, err := net.Listen("unix", filepath.Join(s.dir, "public", "showq"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = showq.Write(context.Background(), conn, s.store, showq.Config{})
			conn.Close()
		}
	}()
	if diff := cmp.Diff(listing, s.run(Postqueue, "", "-p")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(lines, s.run(Postqueue, "", "-j")); diff != "" {
		t.Error(diff)
	}
}

func TestFlush(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const down = "tool: fatal: Cannot flush mail queue - mail system is down\nexit 69"
	const refused = "tool: warning: connect to public/flush: No such file or directory\n" + down
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-f"}, down}, {[]string{"-i", "ABCDEF0"}, refused}, {[]string{"-s", "later.example"}, refused},
		{[]string{"-s", "other.example"}, "tool: fatal: Flush service is not configured for destination \"other.example\"\nexit 69"},
		{[]string{"-s", "bad..name"}, "tool: fatal: Cannot flush mail queue - invalid destination: \"bad..name\"\nexit 69"},
		{[]string{"-i", "../x"}, "tool: fatal: Cannot flush queue ID - invalid name: \"../x\"\nexit 69"},
		{nil, "tool: fatal: " + postqueueUsage + "\nexit 69"},
		{[]string{"-p", "-f"}, "tool: fatal: " + postqueueUsage + "\nexit 69"},
		{[]string{"-x"}, "tool: invalid option -- 'x'\ntool: fatal: " + postqueueUsage + "\nexit 69"},
	} {
		if diff := cmp.Diff(test.want, s.run(Postqueue, "", test.args...)); diff != "" {
			t.Errorf("%q: %s", test.args, diff)
		}
	}
	requests := make(chan string, 10)
	for _, name := range []string{"qmgr", "pickup", "flush"} {
		ln, err := net.Listen("unix", filepath.Join(s.dir, "public", name))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				if name != "flush" {
					requests <- name + " " + trigger.Receive(conn)
					continue
				}
				_ = trigger.Serve(conn, func(f trigger.Flush) trigger.Answer {
					requests <- f.Kind + " " + f.Site + string(f.ID)
					return trigger.OK
				})
			}
		}()
	}
	for _, args := range [][]string{{"-f"}, {"-i", "ABCDEF0"}, {"-s", "later.example"}, {"-i", "NOSUCHID1"}} {
		if got := s.run(Postqueue, "", args...); got != "exit 0" {
			t.Errorf("%q: %s", args, got)
		}
	}
	var got []string
	for range 4 {
		got = append(got, <-requests)
	}
	slices.Sort(got) // each server is on its own
	if diff := cmp.Diff([]string{"pickup W", "qmgr FADI", "send_file ABCDEF0", "send_site later.example"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPostcat(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	id := string(s.ids[1])
	const header = "From: <a@example.com>\nSubject: hold\n"
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-qh", id}, header + "exit 0"}, {[]string{"-qb", id}, "\nbody\nexit 0"}, {[]string{"-qbh", id}, header + "\nbody\nexit 0"},
		{[]string{"-qd", "-h", id}, " 78 From: <a@example.com>\n 78 Subject: hold\nexit 0"},
		{[]string{"-h", filepath.Join(s.dir, "hold", id)}, header + "exit 0"},
		{[]string{"-q", "NOSUCHID1"}, "tool: fatal: open queue file NOSUCHID1: No such file or directory\nexit 1"},
		{[]string{"-q", "../hold/" + id}, "tool: fatal: bad mail queue ID: ../hold/ID1\nexit 1"},
		{[]string{"/nonexistent"}, "tool: fatal: open /nonexistent: No such file or directory\nexit 1"},
		{[]string{"-z"}, "tool: invalid option -- 'z'\ntool: fatal: " + postcatUsage + "\nexit 1"},
	} {
		got := s.run(Postcat, "", test.args...)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q: %s", test.args, diff)
		}
	}
	got := s.run(Postcat, "", filepath.Join(s.dir, "main.cf"))
	if !strings.Contains(got, "tool: warning: DIR/main.cf: ") || !strings.HasSuffix(got, "tool: fatal: record read error\nexit 1") {
		t.Error(got)
	}
	got = s.run(Postcat, "", "-q", id)
	if !strings.Contains(got, "*** ENVELOPE RECORDS hold/ID1 ***\nmessage_size:") || !strings.Contains(got, "message_arrival_time: CTIME\n") ||
		!strings.HasSuffix(got, "original_recipient: alias@example.com\nrecipient: u@later.example\n*** MESSAGE CONTENTS hold/ID1 ***\n"+header+"\nbody\n*** HEADER EXTRACTED hold/ID1 ***\n*** MESSAGE FILE END hold/ID1 ***\nexit 0") {
		t.Error(got)
	}
}

func TestPostsuper(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	zero, one := string(s.ids[0]), string(s.ids[1])
	for _, test := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"", []string{"-h", zero}, "tool: ID0: placed on hold\ntool: Placed on hold: 1 message\nexit 0"},
		{zero + "\n" + one + "\n", []string{"-H", "-"}, "tool: ID0: released from hold\ntool: ID1: released from hold\ntool: Released from hold: 2 messages\nexit 0"},
		{"", []string{"-e", zero}, "tool: ID0: expired\ntool: Force-expired: 1 message\nexit 0"},
		{"", []string{"-h", "ALL"}, "tool: Placed on hold: 2 messages\nexit 0"},
		{zero + "\n" + one + "\n", []string{"-f", "-"}, "tool: ID0: released from hold\ntool: ID1: expired\ntool: ID1: released from hold\ntool: Force-expired: 1 message\ntool: Released from hold: 2 messages\nexit 0"},
		{"", []string{"-d", "a b", "-d", "NOSUCHID1"}, "tool: warning: invalid mail queue id: a b\ntool: Deleted: 0 messages\nexit 0"},
		{"", []string{"-r", zero, "deferred"}, "tool: ID0: requeued\ntool: Requeued: 1 message\nexit 0"},
		{"", []string{"-d", "ALL", "nosuch"}, "tool: fatal: invalid directory name: nosuch\nexit 1"},
		{"", []string{"-d", "ALL", "deferred"}, "tool: Deleted: 1 message\nexit 0"},
		{"", nil, "exit 0"},
		{"", []string{"-z"}, "tool: invalid option -- 'z'\ntool: fatal: " + postsuperUsage + "\nexit 1"},
	} {
		if diff := cmp.Diff(test.want, s.run(Postsuper, test.stdin, test.args...)); diff != "" {
			t.Errorf("%q: %s", test.args, diff)
		}
	}
	if got, _ := filepath.Glob(filepath.Join(s.dir, "*", "*", zero)); len(got) != 1 {
		// its log of delays is left, as in Postfix, for the requeued message
		t.Errorf("%v", got)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "maildrop", zero)); err != nil {
		t.Error(err)
	}
}

func TestPostsuperIsForTheOwnerOfTheQueue(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 && !owns(t.TempDir()) {
		t.Error("one's own directory is not one's own")
	}
	if os.Getuid() != 0 && owns("/") {
		t.Error("root's directory is everybody's")
	}
}
