package worker

import (
	"context"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"posthaste/internal/sys/strerror"
)

// attach runs a command whose standard streams are Stdio, and waits for it.
func (x *executor) attach(ctx context.Context, j *Command) (Finished, error) {
	if j.Dir != "" {
		if why := enterable(j.Dir); why != "" {
			return Finished{StartError: why}, nil
		}
	}
	attr := &os.ProcAttr{
		Dir: j.Dir, Env: j.Env, Files: []*os.File{j.Stdio, j.Stdio, j.Stdio},
		Sys: &syscall.SysProcAttr{Setsid: true},
	}
	proc, why := launch(j, attr)
	if proc == nil {
		return Finished{StartError: why}, nil
	}
	// The command's own copies are enough: the peer is to see the end of the
	// conversation when the command ends it.
	_ = j.Stdio.Close()
	var gone, timedOut atomic.Bool
	kill := func() {
		if !gone.Load() {
			_ = syscall.Kill(-proc.Pid, syscall.SIGKILL)
		}
	}
	defer context.AfterFunc(ctx, kill)()
	if j.TimeLimit > 0 {
		defer time.AfterFunc(j.TimeLimit, func() { timedOut.Store(true); kill() }).Stop()
	}
	state, err := proc.Wait()
	gone.Store(true)
	if ctxErr := ctx.Err(); ctxErr != nil {
		return Finished{}, ctxErr
	}
	if err != nil {
		return Finished{}, &Error{Text: "cannot wait for command: " + strerror.Text(err)}
	}
	done := Finished{TimedOut: timedOut.Load(), Exit: state.ExitCode()}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		done.Exit, done.Signal = 0, int(ws.Signal())
	}
	return done, nil
}
