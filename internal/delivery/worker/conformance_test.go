package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Hook()
	os.Exit(m.Run())
}

// place is where a Host under test may work, and with whose rights.
type place struct {
	host Host
	as   Rights
	dir  string
}

// chown makes a file the user's own.
func (p place) own(t *testing.T, path string) string {
	t.Helper()
	if os.Geteuid() == 0 {
		if err := os.Chown(path, p.as.UID, p.as.GID); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func (p place) write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return p.own(t, path)
}

func text(s string) Body {
	return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
}

func contents(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wantError(t *testing.T, err error, kind Kind, errno syscall.Errno, pattern string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T), want a *Error", err, err)
	}
	if e.Kind != kind || e.Errno != errno || !regexp.MustCompile("^"+pattern+"$").MatchString(e.Text) {
		t.Fatalf("error kind %d errno %d %q, want kind %d errno %d %q", e.Kind, e.Errno, e.Text, kind, errno, pattern)
	}
}

func TestInProcess(t *testing.T) {
	t.Parallel()
	conform(t, func(t *testing.T) place {
		return place{InProcess(), Rights{UID: os.Geteuid(), GID: os.Getegid()}, t.TempDir()}
	})
}

func TestRemote(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can start workers of other users")
	}
	remote := startRemote(t, Policy{MinGID: 100}, Limits{})
	conform(t, func(t *testing.T) place {
		dir := t.TempDir()
		p := place{remote, Rights{UID: 54321, GID: 54321}, dir}
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		p.own(t, dir)
		return p
	})
}

// startRemote serves workers from this process until the test ends.
func startRemote(t *testing.T, policy Policy, limits Limits) *Remote {
	t.Helper()
	mail, delivery, err := SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := newWire(delivery)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	source := func() (Policy, error) { return policy, nil }
	go func() { done <- serveHires(context.Background(), conn, source) }()
	remote, err := NewRemote(mail, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = remote.Close()
		if err := <-done; err != nil {
			t.Errorf("delivery process: %v", err)
		}
	})
	return remote
}

// conform is what every Host must do.
func conform(t *testing.T, fresh func(t *testing.T) place) {
	for name, test := range map[string]func(*testing.T, place){
		"append": conformAppend, "append refused": conformAppendRefused, "append limit": conformAppendLimit,
		"append locked": conformAppendLocked, "append special": conformAppendSpecial, "append concurrent": conformAppendConcurrent,
		"append large": conformAppendLarge, "append source fails": conformSourceFails,
		"maildir": conformMaildir, "maildir trouble": conformMaildirTrouble,
		"run": conformRun, "run not started": conformRunNotStarted, "run time limit": conformRunTimeLimit,
		"run cancelled": conformRunCancelled, "run attached": conformRunAttached, "run input": conformRunInput,
		"read": conformRead, "stat": conformStat,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fresh(t))
		})
	}
}

func conformAppend(t *testing.T, p place) {
	ctx := context.Background()
	path := filepath.Join(p.dir, "mbox")
	for i, want := range []int64{0, 4, 8} {
		done, err := p.host.Append(ctx, p.as, Append{Path: path, Locks: LockFcntl | LockFlock | LockDot, Attempts: 1, RegularOnly: true, CheckOwner: true, Owner: p.as.UID, Body: text("abc\n")})
		if err != nil || done.Offset != want || done.Warning != "" {
			t.Fatalf("append %d: %+v, %v; want offset %d", i, done, err, want)
		}
	}
	if got := contents(t, path); got != "abc\nabc\nabc\n" {
		t.Errorf("file holds %q", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 || facts(info).UID != p.as.UID || facts(info).GID != p.as.GID {
		t.Errorf("file is %v %+v, %v", info.Mode(), facts(info), err)
	}
	if _, err := os.Lstat(path + ".lock"); !os.IsNotExist(err) {
		t.Errorf("lock file is left behind: %v", err)
	}
}

func conformAppendRefused(t *testing.T, p place) {
	ctx := context.Background()
	missing := filepath.Join(p.dir, "no", "such")
	_, err := p.host.Append(ctx, p.as, Append{Path: missing, Locks: LockDot, Body: text("x")})
	wantError(t, err, KindSystem, syscall.ENOENT, "unable to create lock file "+missing+".lock: No such file or directory")
	done, err := p.host.Append(ctx, p.as, Append{Path: missing, Locks: LockDot | LockDotMayFail, Body: text("x")})
	wantError(t, err, KindSystem, syscall.ENOENT, "cannot create file exclusively: No such file or directory")
	if done.Warning != "unable to create lock file "+missing+".lock: No such file or directory" {
		t.Errorf("warning %q", done.Warning)
	}
	_, err = p.host.Append(ctx, p.as, Append{Path: p.dir, Body: text("x")})
	wantError(t, err, KindSystem, syscall.EISDIR, "cannot open file: Is a directory")

	program := p.write(t, "program", "#!", 0o700)
	_, err = p.host.Append(ctx, p.as, Append{Path: program, NoExec: true, Body: text("x")})
	wantError(t, err, KindExecutable, 0, "file is executable")

	file := p.write(t, "file", "old", 0o600)
	if err := os.Link(file, file+"2"); err != nil {
		t.Fatal(err)
	}
	_, err = p.host.Append(ctx, p.as, Append{Path: file, Body: text("x")})
	wantError(t, err, KindSystem, syscall.EPERM, "file has 2 hard links")
	if got := contents(t, file); got != "old" {
		t.Errorf("file holds %q", got)
	}
	link := filepath.Join(p.dir, "link")
	target := p.write(t, "target", "", 0o600)
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(link, max(p.as.UID, 1), -1); os.Geteuid() == 0 && err != nil {
		t.Fatal(err)
	}
	_, err = p.host.Append(ctx, p.as, Append{Path: link, Body: text("x")})
	wantError(t, err, KindSystem, syscall.EPERM, "file is a symbolic link")
}

func conformAppendLimit(t *testing.T, p place) {
	path := p.write(t, "mbox", "12345", 0o600)
	_, err := p.host.Append(context.Background(), p.as, Append{Path: path, Limit: 9, Body: text("67890")})
	wantError(t, err, KindWrite, syscall.EFBIG, "error writing message: File too large")
	if got := contents(t, path); got != "12345" {
		t.Errorf("file holds %q", got)
	}
	if _, err := p.host.Append(context.Background(), p.as, Append{Path: path, Limit: 10, Body: text("67890")}); err != nil {
		t.Error(err)
	}
}

func conformAppendLocked(t *testing.T, p place) {
	path := p.write(t, "mbox", "", 0o600)
	lock := p.write(t, "mbox.lock", "", 0o600)
	job := Append{Path: path, Locks: LockDot | LockDotMayFail, Attempts: 2, Delay: time.Millisecond, Stale: time.Hour, Body: text("x")}
	_, err := p.host.Append(context.Background(), p.as, job)
	wantError(t, err, KindLocked, syscall.EEXIST, "unable to create lock file "+lock+": File exists")

	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(lock, long, long); err != nil {
		t.Fatal(err)
	}
	if _, err := p.host.Append(context.Background(), p.as, job); err != nil {
		t.Errorf("stale lock file: %v", err)
	}

	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	job.Locks = LockFlock
	_, err = p.host.Append(context.Background(), p.as, job)
	wantError(t, err, KindSystem, syscall.EAGAIN, "unable to lock for exclusive access: Resource temporarily unavailable")
	if got := contents(t, path); got != "x" {
		t.Errorf("file holds %q", got)
	}
}

func conformAppendSpecial(t *testing.T, p place) {
	ctx := context.Background()
	all := LockFcntl | LockFlock | LockDot | LockDotMayFail
	if done, err := p.host.Append(ctx, p.as, Append{Path: "/dev/null", Locks: all, Limit: 1, Body: text("xxx")}); err != nil || done.Warning != "" {
		t.Errorf("/dev/null: %+v, %v", done, err)
	}
	if _, err := os.Stat("/dev/full"); err == nil {
		_, err := p.host.Append(ctx, p.as, Append{Path: "/dev/full", Locks: all, Body: text("xxx")})
		wantError(t, err, KindWrite, syscall.ENOSPC, "error writing message: No space left on device")
	}
	_, err := p.host.Append(ctx, p.as, Append{Path: "/dev/null", RegularOnly: true, Body: text("x")})
	wantError(t, err, KindNotRegular, 0, "destination /dev/null is not a regular file")
	fifo := filepath.Join(p.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p.own(t, fifo)
	_, err = p.host.Append(ctx, p.as, Append{Path: fifo, Body: text("x")})
	wantError(t, err, KindSystem, syscall.ENXIO, "cannot open file: .*")
}

func conformAppendConcurrent(t *testing.T, p place) {
	path := filepath.Join(p.dir, "mbox")
	const n = 8
	errs := make(chan error, n)
	for i := range n {
		go func() {
			line := strings.Repeat(fmt.Sprint(i), 10_000) + "\n"
			_, err := p.host.Append(context.Background(), p.as, Append{Path: path, Locks: LockFcntl | LockDot, Attempts: 1000, Delay: time.Millisecond, Body: text(line)})
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	lines := strings.Split(strings.TrimSuffix(contents(t, path), "\n"), "\n")
	if len(lines) != n {
		t.Fatalf("%d lines, want %d", len(lines), n)
	}
	for _, line := range lines {
		if line != strings.Repeat(line[:1], 10_000) {
			t.Errorf("messages are mixed: %.20q", line)
		}
	}
}

func conformAppendLarge(t *testing.T, p place) {
	path := filepath.Join(p.dir, "mbox")
	large := bytes.Repeat([]byte("0123456789abcde\n"), 20_000)
	calls := 0
	_, err := p.host.Append(context.Background(), p.as, Append{Path: path, Body: func(w io.Writer) error {
		calls++
		_, err := io.Copy(w, bytes.NewReader(large))
		return err
	}})
	if err != nil || contents(t, path) != string(large) || calls > 2 {
		t.Errorf("error %v, %d bytes, %d calls", err, len(contents(t, path)), calls)
	}
	// A worker that refuses at once must not leave the writer waiting.
	_, err = p.host.Append(context.Background(), p.as, Append{Path: p.dir, Body: text(string(large))})
	wantError(t, err, KindSystem, syscall.EISDIR, "cannot open file: Is a directory")
}

// conformSourceFails: a message that cannot be read to its end is not
// delivered in part.
func conformSourceFails(t *testing.T, p place) {
	mbox := p.write(t, "mbox", "old\n", 0o600)
	for _, size := range []int{10, 200_000} {
		calls := 0
		body := func(w io.Writer) error {
			// The second time, the message turns out to be shorter.
			calls++
			if _, err := io.WriteString(w, strings.Repeat("x", size/calls)); err != nil {
				return err
			}
			return errors.New("disk is gone")
		}
		_, err := p.host.Append(context.Background(), p.as, Append{Path: mbox, Body: body})
		var e *Error
		if !errors.As(err, &e) || e.Kind != KindSource {
			t.Errorf("size %d: error %v", size, err)
		}
		if got := contents(t, mbox); got != "old\n" {
			t.Errorf("size %d: file holds %d bytes", size, len(got))
		}
	}
	calls := 0
	shorter := func(w io.Writer) error {
		calls++
		if _, err := io.WriteString(w, strings.Repeat("x", 200_000/calls)); err != nil || calls == 1 {
			return err
		}
		return errors.New("disk is gone")
	}
	_, err := p.host.Append(context.Background(), p.as, Append{Path: mbox, Body: shorter})
	if _, local := p.host.(*inProcess); local {
		return // it needed only one call
	}
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindSource || contents(t, mbox) != "old\n" {
		t.Errorf("error %v, file holds %d bytes", err, len(contents(t, mbox)))
	}
}

func conformMaildir(t *testing.T, p place) {
	dir := filepath.Join(p.dir, "a", "Maildir") + "/"
	for range 3 {
		if err := p.host.Maildir(context.Background(), p.as, Maildir{Dir: dir, Hostname: "mail.example.com", Body: text("abc\n")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"tmp", "cur", "new"} {
		info, err := os.Stat(dir + sub)
		if err != nil || info.Mode() != os.ModeDir|0o700 || facts(info).UID != p.as.UID {
			t.Errorf("%s: %v, %v", sub, info, err)
		}
	}
	names, err := os.ReadDir(dir + "new")
	if err != nil || len(names) != 3 {
		t.Fatalf("new has %v, %v", names, err)
	}
	for _, name := range names {
		if !regexp.MustCompile(`^[0-9]+\.V[0-9a-f]+I[0-9a-f]+M[0-9]+\.mail\.example\.com$`).MatchString(name.Name()) {
			t.Errorf("name %q", name.Name())
		}
		if got := contents(t, dir+"new/"+name.Name()); got != "abc\n" {
			t.Errorf("file holds %q", got)
		}
	}
	if left, err := os.ReadDir(dir + "tmp"); err != nil || len(left) != 0 {
		t.Errorf("tmp has %v, %v", left, err)
	}
}

func conformMaildirTrouble(t *testing.T, p place) {
	file := p.write(t, "file", "", 0o600)
	err := p.host.Maildir(context.Background(), p.as, Maildir{Dir: file, Hostname: "h", Body: text("x")})
	wantError(t, err, KindSystem, syscall.ENOTDIR, "create maildir file "+file+"/tmp/.*: Not a directory")
	dir := filepath.Join(p.dir, "box")
	err = p.host.Maildir(context.Background(), p.as, Maildir{Dir: dir, Hostname: "h", Limit: 2, Body: text("abc")})
	wantError(t, err, KindWrite, syscall.EFBIG, "error writing message: File too large")
	for _, sub := range []string{"/tmp", "/new"} {
		if left, err := os.ReadDir(dir + sub); err == nil && len(left) != 0 {
			t.Errorf("%s has %v", sub, left)
		}
	}
}

func conformRun(t *testing.T, p place) {
	env := []string{"PATH=/usr/bin:/bin", "WORD=a b"}
	for _, c := range []struct {
		name   string
		job    Command
		exit   int
		signal int
		output string
	}{
		{"shell", Command{Line: `echo "$WORD"; cat; pwd; exit 7`, Dir: "/"}, 7, 0, "a b\nmessage\n/\n"},
		{"argv", Command{Argv: []string{"cat", "-"}}, 0, 0, "message\n"},
		{"argv with path", Command{Argv: []string{"/bin/sh", "-c", "exit 75"}}, 75, 0, ""},
		{"shell's own", Command{Argv: []string{"exit", "3"}, Line: "exit 3"}, 3, 0, ""},
		{"signal", Command{Line: "kill -9 $$"}, 0, 9, ""},
		{"stderr", Command{Line: "echo no >&2; exit 1"}, 1, 0, "no\n"},
		{"long output", Command{Line: "yes 0123456 | head -100000", Output: 16}, 0, 0, "0123456\n0123456\n"},
		{"reads nothing", Command{Line: "exit 0"}, 0, 0, ""},
		{"mask", Command{Line: "umask"}, 0, 0, "0077\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, local := p.host.(*inProcess); local && c.name == "mask" {
				t.Skip("the mask of this process is not ours to set")
			}
			c.job.Env, c.job.Body = env, text("message\n")
			if c.job.Output == 0 {
				c.job.Output = 100
			}
			done, err := p.host.Run(context.Background(), p.as, c.job)
			if err != nil || done.Exit != c.exit || done.Signal != c.signal || string(done.Output) != c.output || done.StartError != "" || done.InputError != "" || done.TimedOut {
				t.Errorf("got %+v %q, %v", done, done.Output, err)
			}
		})
	}
	done, err := p.host.Run(context.Background(), p.as, Command{Line: "id -u; id -g; id -G", Env: env, Output: 100})
	want := fmt.Sprintf("%d\n%d\n%[2]d\n", p.as.UID, p.as.GID)
	if _, remote := p.host.(*Remote); remote && (err != nil || string(done.Output) != want) {
		t.Errorf("runs as %q, %v; want %q", done.Output, err, want)
	}
}

// conformRunAttached: a command has a connection as its standard streams.
func conformRunAttached(t *testing.T, p place) {
	run := func(ctx context.Context, c Command, talk func(peer *net.UnixConn)) (Finished, error) {
		ours, theirs, err := SocketPair()
		if err != nil {
			t.Fatal(err)
		}
		peer, err := newWire(ours)
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		c.Env, c.Stdio = []string{"PATH=/usr/bin:/bin"}, theirs
		talked := make(chan struct{})
		go func() { defer close(talked); talk(peer.UnixConn) }()
		done, err := p.host.Run(ctx, p.as, c)
		_ = theirs.Close()
		<-talked
		return done, err
	}
	done, err := run(context.Background(), Command{Line: "read a; echo got $a; echo trouble >&2; exit 4"}, func(peer *net.UnixConn) {
		_, _ = io.WriteString(peer, "question\n")
		if answer, err := io.ReadAll(peer); err != nil || string(answer) != "got question\ntrouble\n" {
			t.Errorf("the command answered %q, %v", answer, err)
		}
	})
	if err != nil || done.Exit != 4 || done.Signal != 0 || done.TimedOut {
		t.Errorf("got %+v, %v", done, err)
	}
	quiet := func(*net.UnixConn) {}
	if done, err := run(context.Background(), Command{Argv: []string{"/no/such"}}, quiet); err != nil || done.StartError == "" {
		t.Errorf("a program that does not exist: %+v, %v", done, err)
	}
	if done, err := run(context.Background(), Command{Line: "sleep 60", TimeLimit: 50 * time.Millisecond}, quiet); err != nil || !done.TimedOut || done.Signal != 9 {
		t.Errorf("time limit: %+v, %v", done, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := run(ctx, Command{Line: "sleep 60"}, quiet); err == nil {
		t.Error("a command went on after its context")
	}
	if done, err := run(context.Background(), Command{Line: "read a; exit 3"}, func(peer *net.UnixConn) { _ = peer.Close() }); err != nil || done.Exit != 3 {
		t.Errorf("after the peer was gone: %+v, %v", done, err)
	}
}

func conformRunNotStarted(t *testing.T, p place) {
	for _, c := range []struct {
		job  Command
		want string
	}{
		{Command{Argv: []string{"/no/such"}, Line: "/no/such"}, "execvp /no/such: No such file or directory"},
		{Command{Argv: []string{"nosuchcommand"}}, "execvp nosuchcommand: No such file or directory"},
		{Command{Argv: []string{"/etc"}}, "execvp /etc: Permission denied"},
		{Command{Argv: []string{"true"}, Dir: "/no/such"}, fmt.Sprintf("cannot change directory to \"/no/such\" for uid=%d gid=%d: No such file or directory", p.as.UID, p.as.GID)},
	} {
		done, err := p.host.Run(context.Background(), p.as, c.job)
		if err != nil || done.StartError != c.want {
			t.Errorf("%+v: %+v, %v", c.job, done, err)
		}
	}
}

func conformRunTimeLimit(t *testing.T, p place) {
	begun := time.Now()
	done, err := p.host.Run(context.Background(), p.as, Command{Line: "echo wait; sleep 100 & sleep 100", TimeLimit: 100 * time.Millisecond, Output: 100, Body: text(strings.Repeat("x", 300_000))})
	if err != nil || !done.TimedOut || string(done.Output) != "wait\n" || time.Since(begun) > 20*time.Second {
		t.Errorf("got %+v, %v after %v", done, err, time.Since(begun))
	}
}

func conformRunCancelled(t *testing.T, p place) {
	mark := filepath.Join(p.dir, "pid")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := p.host.Run(ctx, p.as, Command{Line: "echo $$ > " + mark + ".new; mv " + mark + ".new " + mark + "; sleep 100", Output: 10})
		result <- err
	}()
	pid := 0
	waitUntil(t, func() bool {
		b, err := os.ReadFile(mark)
		if err == nil {
			_, err = fmt.Sscan(string(b), &pid)
		}
		return err == nil
	})
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	waitUntil(t, func() bool { return syscall.Kill(-pid, 0) != nil })
}

func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("waited in vain")
}

// conformRunInput: a command never takes half of a message for the whole.
func conformRunInput(t *testing.T, p place) {
	mark := filepath.Join(p.dir, "all")
	body := func(w io.Writer) error {
		if _, err := io.WriteString(w, "half"); err != nil {
			return err
		}
		return errors.New("disk is gone")
	}
	_, err := p.host.Run(context.Background(), p.as, Command{Line: "cat >/dev/null && echo whole > " + mark, Body: body})
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindSource {
		t.Errorf("error %v", err)
	}
}

func conformRead(t *testing.T, p place) {
	path := p.write(t, "forward", "bob\n", 0o644)
	f, err := p.host.Read(context.Background(), p.as, path, 4)
	if err != nil || string(f.Data) != "bob\n" || f.UID != p.as.UID || f.GID != p.as.GID || f.Mode != 0o644 || f.Size != 4 {
		t.Errorf("got %+v, %v", f, err)
	}
	_, err = p.host.Read(context.Background(), p.as, path, 3)
	wantError(t, err, KindTooLarge, 0, path+" is larger than 3 bytes")
	_, err = p.host.Read(context.Background(), p.as, path+"x", 3)
	wantError(t, err, KindSystem, syscall.ENOENT, ".*: No such file or directory")
	f, err = p.host.Read(context.Background(), p.as, p.dir, 3)
	wantError(t, err, KindNotRegular, 0, ".* is not a regular file")
	fifo := filepath.Join(p.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p.own(t, fifo)
	_, err = p.host.Read(context.Background(), p.as, fifo, 3)
	wantError(t, err, KindNotRegular, 0, ".* is not a regular file")
	large := p.write(t, "large", strings.Repeat("y", 300_000), 0o600)
	if f, err := p.host.Read(context.Background(), p.as, large, 1<<20); err != nil || len(f.Data) != 300_000 {
		t.Errorf("read %d bytes, %v", len(f.Data), err)
	}
}

func conformStat(t *testing.T, p place) {
	path := p.write(t, "file", "12", 0o640)
	link := filepath.Join(p.dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	info, err := p.host.Stat(context.Background(), p.as, link)
	if err != nil || info.Mode&os.ModeSymlink == 0 {
		t.Errorf("got %+v, %v", info, err)
	}
	info, err = p.host.StatTarget(context.Background(), p.as, link)
	if err != nil || info.Mode != 0o640 || info.Size != 2 || info.UID != p.as.UID {
		t.Errorf("got %+v, %v", info, err)
	}
	_, err = p.host.StatTarget(context.Background(), p.as, path+"x")
	wantError(t, err, KindSystem, syscall.ENOENT, ".*: No such file or directory")
}
