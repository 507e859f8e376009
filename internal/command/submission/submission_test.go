package submission

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"posthaste/internal/command/cli"
	"posthaste/internal/queue/queuefile"
)

// TestMain is postdrop when sendmail runs this program under that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "postdrop" {
		env := &cli.Env{Name: "postdrop", Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}
		os.Exit(Postdrop(context.Background(), env))
	}
	os.Exit(m.Run())
}

type site struct {
	t     *testing.T
	conf  string
	queue string
	ran   []string
}

func newSite(t *testing.T, settings ...string) *site {
	s := &site{t: t, conf: t.TempDir(), queue: t.TempDir()}
	if err := os.Mkdir(filepath.Join(s.queue, "maildrop"), 0o730); err != nil {
		t.Fatal(err)
	}
	main := "compatibility_level = 3.11\nmyhostname = mail.example.com\nmynetworks = 127.0.0.0/8\nqueue_directory = " + s.queue +
		"\ncommand_directory = " + s.conf + "\n" + strings.Join(settings, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(s.conf, "main.cf"), []byte(main), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// run calls sendmail; it returns what a terminal would show, and the status.
func (s *site) run(stdin string, args ...string) string {
	s.t.Helper()
	var out, errors bytes.Buffer // postdrop writes to the second at the same time
	env := &cli.Env{Name: "sendmail", Args: append([]string{"-C", s.conf}, args...), Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errors,
		Getenv: func(string) string { return "" }}
	status := Sendmail(s.t.Context(), env, Host{Run: func(_ context.Context, name string, args []string) int {
		s.ran = append(s.ran, name+" "+strings.ReplaceAll(strings.Join(args, " "), s.conf, "DIR"))
		return 0
	}})
	return fmt.Sprintf("%s%sexit %d", out.String(), errors.String(), status)
}

// take shows the message in the maildrop, and removes it.
func (s *site) take() string {
	s.t.Helper()
	names, _ := filepath.Glob(filepath.Join(s.queue, "maildrop", "*"))
	if len(names) != 1 {
		return fmt.Sprintf("%d messages", len(names))
	}
	f, err := os.Open(names[0])
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	var b strings.Builder
	r := queuefile.NewReader(f, 0)
	for {
		rec, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			s.t.Fatal(err)
		}
		if rec.Type != queuefile.Time && rec.Type != queuefile.FullName {
			fmt.Fprintf(&b, "%c%s|", rec.Type, rec.Data)
		}
	}
	if info, _ := f.Stat(); info.Mode().Perm() != 0o744 {
		s.t.Errorf("mode %v", info.Mode())
	}
	os.Remove(names[0])
	return b.String()
}

func TestSendmail(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if text := s.run("x\n", "a"); text != "exit 0" {
		t.Fatal(text)
	}
	first := s.take()
	me, _, _ := strings.Cut(strings.TrimPrefix(first, "Arewrite_context=local|S"), "|")
	const local = "Arewrite_context=local|"
	for _, test := range []struct {
		args  []string
		stdin string
		want  string
	}{
		{[]string{"alice"}, "Subject: x\n\nhello\n", local + "S" + me + "|Ralice|M|NSubject: x|N|Nhello|X|E|"},
		{[]string{"-f", "x@y.example", "-oi", "a,b", "c d@e"}, "one\n.\ntwo", local + "Sx@y.example|Ra|Rb|Rc|Rd@e|M|None|N.|Ltwo|X|E|"},
		{[]string{"-r", "x@y", "--", "-a"}, "one\n.\ntwo", local + "Sx@y|R-a|M|None|X|E|"},
		{[]string{"-f", "", "a"}, "", local + "S|Ra|M|X|E|"},
		{[]string{"-f", "<>", "a"}, "From x\n>>From y\nz\nFrom z\n", local + "S|Ra|M|Nz|NFrom z|X|E|"},
		{[]string{"-f", "b", "-G", "-B8BITMIME", "-Nnever", "-Rhdrs", "-Vid1", "a"}, "x\r\ny\r\n",
			"Arewrite_context=remote|Sb|Aencoding=8bit|Aret_flags=2|Aenvelope_id=id1|Anotify_flags=1|Ra|M|Nx|Ny|X|E|"},
		{[]string{"-f", "b", "-XV", "-N", "success,delay", "a"}, "x\n", local + "Sb|V+=|Anotify_flags=10|Ra|M|Nx|X|E|"},
		{[]string{"-f", "b", "-XV#=", "-oem", "-om", "-odq", "-L", "tag", "a"}, "x\n", local + "Sb|V#=|Ra|M|Nx|X|E|"},
		{[]string{"-f", "b", "-t"}, "From: a@b\nTo: alice, \"B\" <bob@x>,\n  (c) carol@x\nCc: d\nBcc: e@x\nX-To: no\n\nTo: not\n",
			local + "Sb|M|NFrom: a@b|NTo: alice, \"B\" <bob@x>,|N  (c) carol@x|NCc: d|NBcc: e@x|NX-To: no|N|NTo: not|X|Ralice|Rbob@x|Rcarol@x|Rd|Re@x|E|"},
		{[]string{"-f", "b", "-t", "x"}, "To: y\nResent-To: z\n", local + "Sb|Rx|M|NTo: y|NResent-To: z|X|Rz|E|"},
		{[]string{"-f", "b", "-ti"}, "Subject: x\nTo: last", local + "Sb|M|NSubject: x|LTo: last|X|Rlast|E|"},
	} {
		if text := s.run(test.stdin, test.args...); text != "exit 0" {
			t.Errorf("%q: %s", test.args, text)
		}
		if diff := cmp.Diff(test.want, s.take()); diff != "" {
			t.Errorf("%q: %s", test.args, diff)
		}
	}
}

func TestReports(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if text := s.run("x\n", "-f", "b", "-v", "a"); text != "Mail Delivery Status Report will be mailed to <b>.\nexit 0" {
		t.Error(text)
	}
	if got := s.take(); got != "Arewrite_context=local|Sb|Atrace_flags=1024|Ra|M|Nx|X|E|" {
		t.Error(got)
	}
	if text := s.run("", "-f", "b", "-bv", "a", "c@d"); text != "Mail Delivery Status Report will be mailed to <b>.\nexit 0" {
		t.Error(text)
	}
	if got := s.take(); got != "Arewrite_context=local|Sb|Atrace_flags=512|Ra|Rc@d|M|NFrom: b|NSubject: probe|LTo:|N\ta,|N\tc@d|X|E|" {
		t.Error(got)
	}
}

func TestTrouble(t *testing.T) {
	t.Parallel()
	s := newSite(t, "message_size_limit = 100")
	uid := os.Getuid()
	for _, test := range []struct {
		args  []string
		stdin string
		want  string
	}{
		{[]string{"-f", "b"}, "x\n", fmt.Sprintf("sendmail: fatal: b(%d): Recipient addresses must be specified on the command line or via the -t option\nexit 75", uid)},
		{[]string{"-f", "b", "-t"}, "x\n", fmt.Sprintf("sendmail: fatal: b(%d): No recipient addresses found in message header\nexit 75", uid)},
		{[]string{"-Z"}, "", "sendmail: invalid option -- 'Z'\nsendmail: invalid option -- 'Z'\nsendmail: fatal: usage: sendmail [options]\nexit 75"},
		{[]string{"-bx"}, "", "sendmail: fatal: unsupported: -bx\nexit 75"},
		{[]string{"-bt"}, "", "sendmail: fatal: unsupported: -bt\nexit 75"},
		{[]string{"-bs", "a"}, "", "sendmail: fatal: stand-alone mode requires no recipient\nexit 75"},
		{[]string{"-f", "b", "a"}, strings.Repeat("x", 200), fmt.Sprintf("postdrop: warning: uid=%d: File too large\nsendmail: warning: mail_stream_cleanup: close error\nsendmail: fatal: b(%d): message file too big\nexit 75", uid, uid)},
		{[]string{"-f", "a b c", "alice"}, "x", "sendmail: warning: -f option specified malformed sender: a b c\nexit 0"},
	} {
		if diff := cmp.Diff(test.want, s.run(test.stdin, test.args...)); diff != "" {
			t.Errorf("%q: %s", test.args, diff)
		}
	}
	if got := s.take(); got != "Arewrite_context=local|Sa|Ralice|M|Lx|X|E|" {
		t.Error(got)
	}
	if err := os.RemoveAll(filepath.Join(s.queue, "maildrop")); err != nil {
		t.Fatal(err)
	}
	if text := s.run("x\n", "-f", "b", "a"); !strings.HasSuffix(text, "exit 75") {
		t.Error(text)
	}
}

func TestOtherModes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, args := range [][]string{{"-bp"}, {"-q"}, {"-qRsite.example"}, {"-qIABCDEF"}, {"-bi"}, {"-I"}, {"-oA/etc/x", "-bi"}, {"-bd"}, {"-q5m"}, {"-bH"}} {
		if text := s.run("", args...); text != "exit 0" {
			t.Errorf("%q: %s", args, text)
		}
	}
	want := []string{"postqueue -c DIR -p", "postqueue -c DIR -f", "postqueue -c DIR -s site.example", "postqueue -c DIR -i ABCDEF", "newaliases -c DIR",
		"newaliases -c DIR", "postalias -c DIR /etc/x", "postfix -c DIR start"}
	if diff := cmp.Diff(want, s.ran); diff != "" {
		t.Error(diff)
	}
}

func TestStandAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	text := s.run("EHLO x.example\r\nMAIL FROM:<bob@example.com>\r\nRCPT TO:<alice@example.com> NOTIFY=NEVER\r\nDATA\r\nSubject: -bs\r\n\r\n..dot\r\n.\r\nMAIL FROM:<>\r\nQUIT\r\n", "-bs")
	if !strings.Contains(text, "250 2.0.0 Ok: queued as ") || !strings.HasSuffix(text, "221 2.0.0 Bye\r\nexit 0") {
		t.Error(text)
	}
	got := s.take()
	if !strings.Contains(got, "|Sbob@example.com|") || !strings.Contains(got, "|NSubject: -bs|N|N.dot|X|E|") || !strings.Contains(got, "|M|NReceived: from x.example") ||
		!strings.Contains(got, "Anotify_flags=1|") || !strings.Contains(got, "|Ralice@example.com|") {
		t.Error(got)
	}
}

func TestNotAllowed(t *testing.T) {
	t.Parallel()
	s := newSite(t, "authorized_submit_users = !static:all")
	if text := s.run("x\n", "-f", "b", "a"); !strings.Contains(text, "is not allowed to submit mail\nexit 75") {
		t.Error(text)
	}
}

// Whatever the header, extraction ends, and gives no line breaks.
func FuzzHeader(f *testing.F) {
	f.Add("To: a, b\nCc: <c@d>\n\nTo: x\n", 7)
	f.Add("To: (((((\n Bcc: \"\n", 1)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		h := &header{limit: 1000, tokens: 100}
		for rest := text; rest != ""; {
			n := max(1, min(len(rest), cut))
			piece := rest[:n]
			rest = rest[n:]
			line, ends := strings.CutSuffix(piece, "\n")
			h.piece([]byte(line), ends)
		}
		for _, r := range h.recipients() {
			if strings.ContainsAny(string(r), "\x00") && !strings.Contains(text, "\x00") {
				t.Fatalf("%q", r)
			}
		}
		if len(h.line) > 1000 || len(h.field) > 2001 {
			t.Fatal("no limit")
		}
	})
}

// A slow writer is waited for, and a long line is cut, not lost.
func TestLongLines(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r, w := io.Pipe()
	go func() {
		for range 3 {
			_, _ = io.WriteString(w, strings.Repeat("y", 3000))
			time.Sleep(time.Millisecond)
		}
		_, _ = io.WriteString(w, "\n.\n")
	}()
	var out bytes.Buffer
	env := &cli.Env{Name: "sendmail", Args: []string{"-C", s.conf, "-f", "b", "a"}, Stdin: r, Stdout: &out, Stderr: &out, Getenv: func(string) string { return "" }}
	if status := Sendmail(t.Context(), env, Host{}); status != 0 {
		t.Fatal(out.String())
	}
	if got := s.take(); strings.Count(got, "y") != 9000 || !strings.HasSuffix(got, "|X|E|") {
		t.Errorf("%.200s ... %d", got, strings.Count(got, "y"))
	}
}
