package scripting

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/internal/command/cli"
	"posthaste/internal/queue/trigger"
	"posthaste/internal/sys/maillog"
)

type site struct{ conf, queue string }

func newSite(t *testing.T) *site {
	// A socket's path must be short.
	dir, err := os.MkdirTemp("", "site")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &site{conf: dir, queue: dir}
	if err := os.Mkdir(filepath.Join(dir, "public"), 0o700); err != nil {
		t.Fatal(err)
	}
	main := "compatibility_level = 3.11\nmyhostname = mail.example.com\nmaillog_file = " + dir + "/log\nqueue_directory = " + dir + "\ndeliver_lock_attempts = 2\ndeliver_lock_delay = 1s\n"
	if err := os.WriteFile(filepath.Join(dir, "main.cf"), []byte(main), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) run(t *testing.T, f func(context.Context, *cli.Env) int, stdin string, args ...string) string {
	var out bytes.Buffer
	env := &cli.Env{Name: "tool", Args: append([]string{"-c", s.conf}, args...), Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &out,
		Getenv: func(string) string { return "" }}
	status := f(t.Context(), env)
	return fmt.Sprintf("%sexit %d", out.String(), status)
}

func TestPostlog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	conn, err := net.ListenPacket("unixgram", filepath.Join(s.queue, "public", "postlog"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, test := range []struct {
		args        []string
		stdin, want string
		logged      string
	}{
		{[]string{"hello", "world"}, "", "postfix/tool: hello world\nexit 0", "postfix/tool: hello world"},
		{[]string{"-p", "warn", "-t", "mine/x", "hello"}, "", "postfix/tool: warning: hello\nexit 0", "mine/x: warning: hello"},
		{[]string{"-p", "FATAL"}, "one\n", "postfix/tool: fatal: one\nexit 0", "postfix/tool: fatal: one"},
	} {
		if got := s.run(t, Postlog, test.stdin, test.args...); got != test.want {
			t.Errorf("%q: %s", test.args, got)
		}
		var buf [1000]byte
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, _, err := conn.ReadFrom(buf[:])
		line, ok := maillog.ParseDatagram(buf[:n], time.Now())
		if err != nil || !ok || line.Tag+": "+line.Text != test.logged {
			t.Errorf("%q: logged %q, %v", test.args, buf[:n], err)
		}
	}
	if got := s.run(t, Postlog, "", "-p", "loud", "x"); !strings.HasPrefix(got, "tool: fatal: unknown severity: loud\nexit 1") {
		t.Error(got)
	}
}

func TestPostkick(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const down = "tool: fatal: Cannot contact class public service qmgr - perhaps the mail system is down\nexit 1"
	if got := s.run(t, Postkick, "", "public", "qmgr", "I"); got != down {
		t.Error(got)
	}
	ln, err := net.Listen("unix", filepath.Join(s.queue, "public", "qmgr"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan string, 1)
	go func() {
		if conn, err := ln.Accept(); err == nil {
			got <- trigger.Receive(conn)
		}
	}()
	if text := s.run(t, Postkick, "", "public", "qmgr", "ID"); text != "exit 0" {
		t.Error(text)
	}
	if request := <-got; request != "ID" {
		t.Errorf("received %q", request)
	}
	if text := s.run(t, Postkick, "", "../public", "qmgr", "I"); !strings.HasSuffix(text, "exit 1") {
		t.Error(text)
	}
	if text := s.run(t, Postkick, "", "public"); !strings.HasSuffix(text, "class service request\nexit 1") {
		t.Error(text)
	}
}

func TestPostlock(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	box := filepath.Join(s.queue, "box")
	if got := s.run(t, Postlock, "", box, "/bin/sh", "-c", "ls "+box+".lock && exit 3"); got != box+".lock\nexit 3" {
		t.Error(got)
	}
	if _, err := os.Stat(box + ".lock"); err == nil {
		t.Error("lock file is left")
	}
	if err := os.WriteFile(box+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.run(t, Postlock, "", box, "true"); !strings.HasSuffix(got, "exit 75") {
		t.Error(got)
	}
	if got := s.run(t, Postlock, "", "-l", "fcntl", box, "true"); got != "exit 0" {
		t.Error(got)
	}
	if got := s.run(t, Postlock, "", "-l", "nonsense", box, "true"); !strings.HasSuffix(got, "exit 64") {
		t.Error(got)
	}
	if got := s.run(t, Postlock, "", "-l", "fcntl", box, "/nonexistent"); !strings.HasSuffix(got, "No such file or directory\nexit 75") {
		t.Error(got)
	}
}
