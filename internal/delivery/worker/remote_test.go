package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can start workers of other users")
	}
}

var someone = Rights{UID: 54321, GID: 54321}

// workerPID asks a worker for its number: the parent of a command.
func workerPID(t *testing.T, h Host, as Rights) int {
	t.Helper()
	done, err := h.Run(context.Background(), as, Command{Line: "echo $PPID", Output: 20})
	if err != nil {
		t.Fatal(err)
	}
	pid := 0
	if _, err := fmt.Sscan(string(done.Output), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestWorkersAreReused(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := startRemote(t, Policy{MinGID: 100}, Limits{})
	first, second := workerPID(t, r, someone), workerPID(t, r, someone)
	other := workerPID(t, r, Rights{UID: 54322, GID: 54322})
	if first != second || first == other {
		t.Errorf("workers %d, %d; of another user %d", first, second, other)
	}
}

func TestIdleWorkersEnd(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := startRemote(t, Policy{MinGID: 100}, Limits{Idle: 10 * time.Millisecond})
	pid := workerPID(t, r, someone)
	waitUntil(t, func() bool { return syscall.Kill(pid, 0) != nil })
}

func TestWorkersAreBounded(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := startRemote(t, Policy{MinGID: 100, MaxWorkers: 3}, Limits{Workers: 2})
	errs := make(chan error)
	const n = 10
	for i := range n {
		go func() {
			_, err := r.Run(context.Background(), Rights{UID: 54330 + i, GID: 54330}, Command{Line: "true"})
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	block, cancel := context.WithCancel(context.Background())
	started := make(chan struct{})
	for range 2 {
		go func() {
			_, _ = r.Run(block, someone, Command{Line: "cat", Body: func(w io.Writer) error { started <- struct{}{}; return nil }})
			errs <- nil
		}()
		<-started
	}
	waitUntil(t, func() bool { return len(r.slots) == 2 })
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer stop()
	if _, err := r.Stat(ctx, someone, "/"); err == nil {
		t.Log("a worker was free after all")
	} else if !errors.Is(err, ErrBusy) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	cancel()
	<-errs
	<-errs
}

func TestWorkerKilledWhileIdle(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := startRemote(t, Policy{MinGID: 100}, Limits{})
	pid := workerPID(t, r, someone)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return syscall.Kill(pid, 0) != nil })
	if _, err := r.Stat(context.Background(), someone, "/"); err != nil {
		t.Errorf("the next request failed: %v", err)
	}
}

func TestWorkerKilledInMidRequest(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := startRemote(t, Policy{MinGID: 100}, Limits{})
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chown(dir, someone.UID, someone.GID)); err != nil {
		t.Fatal(err)
	}
	pid := workerPID(t, r, someone)
	calls := 0
	body := func(w io.Writer) error {
		// The first call measures; in the middle of the second, the worker dies.
		calls++
		half := bytes.Repeat([]byte("x"), 200_000)
		if _, err := w.Write(half); err != nil {
			return err
		}
		if calls == 2 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_, err := w.Write(half)
		return err
	}
	err := r.Maildir(context.Background(), someone, Maildir{Dir: dir, Hostname: "h", Body: body})
	var e *Error
	if err == nil || errors.As(err, &e) {
		t.Errorf("error %v: says something about the destination", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "new")); err == nil && len(left) > 0 {
		t.Errorf("half a message is in new: %v", left)
	}
	if err := r.Maildir(context.Background(), someone, Maildir{Dir: dir, Hostname: "h", Body: text("next")}); err != nil {
		t.Errorf("the next delivery failed: %v", err)
	}
}

func TestDeliveryProcessGone(t *testing.T) {
	t.Parallel()
	mail, delivery, err := SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewRemote(mail, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := delivery.Close(); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := r.Stat(context.Background(), someone, "/"); err == nil || errors.As(err, &e) {
		t.Errorf("error %v", err)
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	if os.Geteuid() == 0 {
		if err := os.Chown(spool, 0, 8); err != nil {
			t.Fatal(err)
		}
	}
	p := Policy{MinGID: 100, SpoolDir: spool, Pairs: []Rights{{UID: 33, GID: 42}}, Chroots: []string{"/jail"}, Groups: []int{12, 0}}
	for _, c := range []struct {
		as Rights
		ok bool
	}{
		{Rights{UID: 2100, GID: 2100}, true},
		{Rights{UID: 2100, GID: 42}, false},
		{Rights{UID: 2100, GID: 12}, true},
		{Rights{UID: 2100, GID: 0}, false},
		{Rights{UID: 33, GID: 42}, true},
		{Rights{UID: 33, GID: 33}, true}, // from the password file
		{Rights{UID: 0, GID: 0}, true},
		{Rights{UID: 0, GID: 2100}, false},
		{Rights{UID: 2100, GID: 2100, Chroot: "/jail"}, true},
		{Rights{UID: 2100, GID: 2100, Chroot: "/"}, false},
		{Rights{UID: 0, GID: 0, Chroot: "/jail"}, false},
		{Rights{UID: 2100, GID: 8}, os.Geteuid() == 0},
	} {
		if err := p.check(c.as); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.as, err)
		}
	}
}

// TestRootIsFenced: a worker of root does next to nothing.
func TestRootIsFenced(t *testing.T) {
	t.Parallel()
	needRoot(t)
	spool, outside := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "shadow")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startRemote(t, Policy{SpoolDir: spool}, Limits{})
	ctx, root := context.Background(), Rights{}
	refused := func(what string, err error) {
		t.Helper()
		var e *Error
		if !errors.As(err, &e) || e.Errno != syscall.EACCES {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := r.Run(ctx, root, Command{Line: "id"})
	refused("command", err)
	_, err = r.Read(ctx, root, secret, 100)
	refused("read", err)
	_, err = r.Read(ctx, root, "/etc/shadow", 1<<20)
	refused("read shadow", err)
	_, err = r.Append(ctx, root, Append{Path: secret, Body: text("x")})
	refused("append", err)
	_, err = r.Append(ctx, root, Append{Path: spool + "/../" + filepath.Base(outside) + "/shadow", Body: text("x")})
	refused("append around the corner", err)
	_, err = r.Append(ctx, root, Append{Path: spool + "/x", Give: true, OwnerUID: 0, Body: text("x")})
	refused("give to root", err)
	sub := filepath.Join(spool, "sub")
	if err := errors.Join(os.Mkdir(sub, 0o755), os.Chown(sub, someone.UID, someone.GID)); err != nil {
		t.Fatal(err)
	}
	_, err = r.Append(ctx, root, Append{Path: sub + "/x", Body: text("x")})
	refused("append in a user's directory", err)
	err = r.Maildir(ctx, root, Maildir{Dir: outside, Hostname: "h", Body: text("x")})
	refused("maildir", err)

	if _, err := r.Append(ctx, root, Append{Path: spool + "/user", Give: true, OwnerUID: someone.UID, OwnerGID: someone.GID, Body: text("x")}); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(spool + "/user")
	if err != nil || facts(info).UID != someone.UID || facts(info).GID != someone.GID || info.Mode() != 0o600 {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestNoRightsWithoutDeliveryProcess(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := InProcess()
	dir := t.TempDir()
	if _, err := h.Append(context.Background(), someone, Append{Path: dir + "/x", Body: text("x")}); err == nil {
		t.Error("root wrote a user's mailbox")
	}
	if _, err := os.Stat(dir + "/x"); err == nil {
		t.Error("there is a file")
	}
}

// failing lets n bytes through and then fails.
type failing struct {
	w   io.Writer
	n   int
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	if len(p) <= f.n {
		f.n -= len(p)
		return f.w.Write(p)
	}
	n, _ := f.w.Write(p[:f.n])
	f.n = 0
	return n, f.err
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, room := range []int{0, 1, 70_000} {
		x := &executor{wrap: func(w io.Writer) io.Writer { return &failing{w, room, syscall.ENOSPC} }}
		dir := t.TempDir()
		mbox := filepath.Join(dir, "mbox")
		if err := os.WriteFile(mbox, []byte("old\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		body := text(strings.Repeat("x", 100_000))
		_, err := x.append(context.Background(), &Append{Path: mbox, Locks: LockFcntl | LockDot, Body: body})
		wantError(t, err, KindWrite, syscall.ENOSPC, "error writing message: No space left on device")
		if got := contents(t, mbox); got != "old\n" {
			t.Errorf("room for %d: mailbox holds %d bytes", room, len(got))
		}
		err = x.maildir(&Maildir{Dir: dir + "/box", Hostname: "h", Body: body}, time.Now())
		wantError(t, err, KindWrite, syscall.ENOSPC, "error writing message: No space left on device")
		for _, sub := range []string{"/box/tmp", "/box/new"} {
			if left, err := os.ReadDir(dir + sub); err == nil && len(left) > 0 {
				t.Errorf("room for %d: %s has %v", room, sub, left)
			}
		}
	}
}

func TestHostileFrames(t *testing.T) {
	t.Parallel()
	good := (&request{op: opRead, path: "/x", limit: 1, size: -1}).encode()
	if _, err := decodeRequest(good); err != nil {
		t.Fatal(err)
	}
	huge := &encoder{}
	huge.num(int64(opRead))
	huge.num(math.MaxInt64)
	minus := &encoder{}
	minus.num(int64(opRead))
	minus.num(-1)
	for name, frame := range map[string][]byte{
		"empty": nil, "cut off": good[:len(good)-1], "trailing": append(append([]byte{}, good...), 0),
		"no such operation": bytes.Replace(good, []byte{0, 0, 0, 0, 0, 0, 0, byte(opRead)}, []byte{0, 0, 0, 0, 0, 0, 0, 99}, 1),
		"huge length":       huge.b, "negative length": minus.b,
		"NUL in a path":      (&request{op: opRead, path: "/x\x00", size: -1}).encode(),
		"size without text":  (&request{op: opMaildir, size: 3}).encode(),
		"text and pipe":      (&request{op: opMaildir, size: 3, inline: []byte("abc"), piped: true}).encode(),
		"limit out of range": (&request{op: opRead, limit: maxRead + 1, size: -1}).encode(),
	} {
		if _, err := decodeRequest(frame); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, as := range []Rights{{UID: -1, GID: 1}, {UID: 1, GID: -1}} {
		if _, err := decodeRights(as.encode()); !errors.Is(err, errFrame) {
			t.Errorf("%+v: %v", as, err)
		}
	}
}

// TestHostileStream: what is no frame ends a worker, and it neither hangs nor
// reserves memory for it.
func TestHostileStream(t *testing.T) {
	t.Parallel()
	for name, bytes := range map[string]string{
		"huge frame": "\xff\xff\xff\xff", "half a head": "\x00\x00", "half a frame": "\x00\x00\x00\x10abc", "garbage": "\x00\x00\x00\x03abc",
	} {
		a, b, err := SocketPair()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := newWire(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(a, bytes); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := (&server{conn: conn, x: &executor{}}).one(); err == nil {
			t.Errorf("%s: accepted", name)
		}
		_ = conn.Close()
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range []*request{
		{op: opAppend, append: Append{Path: "/x", Attempts: 3}, size: 1, inline: []byte("x")},
		{op: opMaildir, maildir: Maildir{Dir: "/x/", Hostname: "h"}, size: 9, piped: true},
		{op: opRun, command: Command{Argv: []string{"a", "b"}, Env: []string{"A=b"}, Output: 10}, size: -1},
		{op: opStat, path: "/x", size: -1},
	} {
		f.Add(byte(r.op), r.encode())
	}
	f.Add(byte(opRun), (&response{finished: Finished{Output: []byte("x")}}).encode(opRun))
	f.Add(byte(opRead), (&response{err: &Error{Text: "no"}, file: File{Data: []byte("x")}}).encode(opRead))
	f.Fuzz(func(t *testing.T, op byte, frame []byte) {
		if r, err := decodeRequest(frame); err == nil && !bytes.Equal(r.encode(), frame) {
			t.Errorf("request %q is not what it was", frame)
		}
		if r, err := decodeResponse(operation(op), frame); err == nil && !bytes.Equal(r.encode(operation(op)), frame) {
			t.Errorf("response %q is not what it was", frame)
		}
		if as, err := decodeRights(frame); err == nil && !bytes.Equal(as.encode(), frame) {
			t.Errorf("rights %q are not what they were", frame)
		}
	})
}

func TestPolicySource(t *testing.T) {
	t.Parallel()
	want := Policy{MinGID: 100, Pairs: []Rights{{UID: 1, GID: 2}}, SpoolDir: "/var/mail"}
	env := func(text string) func(string) string {
		_, value, _ := strings.Cut(text, "=")
		return func(string) string { return value }
	}
	source, err := policySource(env(want.Environ()))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := source(); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, %v", got, err)
	}
	f, err := NewPolicyFile(want)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := syscall.Dup(int(f.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if source, err = policySource(env(f.Environ(fd))); err != nil {
		t.Fatal(err)
	}
	if err := f.Set(Policy{MinGID: 7}); err != nil {
		t.Fatal(err)
	}
	if got, err := source(); err != nil || got.MinGID != 7 || got.SpoolDir != "" {
		t.Errorf("after a change: %+v, %v", got, err)
	}
	if err := f.File().Truncate(3); err != nil {
		t.Fatal(err)
	}
	if _, err := source(); err == nil {
		t.Error("half a policy is obeyed")
	}
	for _, bad := range []string{"X=", "X=fd:1", "X=fd:x", "X={"} {
		if _, err := policySource(env(bad)); err == nil {
			t.Errorf("%q is a policy", bad)
		}
	}
}
