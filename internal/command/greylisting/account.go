package greylisting

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"posthaste/internal/command/cli"
)

// giveUpRoot makes the process that of --user and --group, and gives them the
// socket and the file with the process id.
func (d *daemon) giveUpRoot() error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup(d.user)
	if err != nil {
		return fmt.Errorf("No such user %q", d.user) //nolint:staticcheck // the words of the original
	}
	g, err := user.LookupGroup(d.group)
	if err != nil {
		return fmt.Errorf("No such group %q", d.group) //nolint:staticcheck // the words of the original
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(g.Gid)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("account %s:%s has no number", d.user, d.group)
	}
	for _, path := range []string{d.pidFile, d.socketPath()} {
		if path != "" {
			if err := os.Lchown(path, uid, gid); err != nil {
				return err
			}
		}
	}
	if err := syscall.Setgroups([]int{gid}); err != nil {
		return os.NewSyscallError("setgroups", err)
	}
	if err := syscall.Setgid(gid); err != nil {
		return os.NewSyscallError("setgid", err)
	}
	return os.NewSyscallError("setuid", syscall.Setuid(uid))
}

func (d *daemon) socketPath() string {
	if d.inet != "" {
		return ""
	}
	return d.unix
}

// backgroundVariable tells the process that it is the one in the background.
const backgroundVariable = "POSTGREY_BACKGROUND"

// readyMark ends what the process in the background has to say.
const readyMark = "\x00"

// background starts this command again, in a session of its own, and waits
// until it is ready or has failed.
func background(env *cli.Env) int {
	self, err := os.Executable()
	if err != nil {
		return env.Fatal(exitError, "%v", err)
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return env.Fatal(exitError, "%v", err)
	}
	defer ready.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return env.Fatal(exitError, "%v", err)
	}
	process, err := os.StartProcess(self, append([]string{"postgrey"}, env.Args...), &os.ProcAttr{
		Env: append(os.Environ(), backgroundVariable+"=yes"), Files: []*os.File{null, null, theirs}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	theirs.Close()
	null.Close()
	if err != nil {
		return env.Fatal(exitError, "%v", err)
	}
	// What it has to say, until it lets go of its standard error.
	said, _ := io.ReadAll(ready)
	complaints, isReady := bytes.CutSuffix(said, []byte(readyMark))
	env.Stderr.Write(complaints)
	if isReady {
		return 0
	}
	state, err := process.Wait()
	if err != nil {
		return exitError
	}
	return max(state.ExitCode(), exitUsage)
}

// detach lets go of standard error: whoever started the process need not wait
// any more.
func detach() {
	io.WriteString(os.Stderr, readyMark)
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		unix.Dup2(int(null.Fd()), int(os.Stderr.Fd()))
		null.Close()
	}
}
