package worker

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/strerror"
)

const shell = "/bin/sh"

// afterKill is how long the output of a killed command may stay open.
const afterKill = time.Second

// run carries Command out. The command leads a session of its own, so that
// all it started can be killed with it.
func (x *executor) run(ctx context.Context, j *Command) (Finished, error) {
	if j.Stdio != nil {
		return x.attach(ctx, j)
	}
	p, why, err := start(j)
	if err != nil {
		return Finished{}, err
	}
	if p == nil {
		return Finished{StartError: why}, nil
	}
	return p.finish(ctx, j)
}

// process is a running command with our ends of its pipes.
type process struct {
	*os.Process
	input, output *os.File
	timedOut      atomic.Bool
	gone          atomic.Bool
}

// start begins the command. why tells in Postfix's words that the program
// could not be started; err is trouble of our own.
func start(j *Command) (p *process, why string, err error) {
	if j.Dir != "" {
		if why := enterable(j.Dir); why != "" {
			return nil, why, nil
		}
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, "", failed(KindSystem, "cannot create pipe", err)
	}
	defer inR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		_ = inW.Close()
		return nil, "", failed(KindSystem, "cannot create pipe", err)
	}
	defer outW.Close()
	attr := &os.ProcAttr{
		Dir: j.Dir, Env: j.Env, Files: []*os.File{inR, outW, outW},
		Sys: &syscall.SysProcAttr{Setsid: true},
	}
	proc, why := launch(j, attr)
	if proc == nil {
		_ = inW.Close()
		_ = outR.Close()
		return nil, why, nil
	}
	return &process{Process: proc, input: inW, output: outR}, "", nil
}

func enterable(dir string) (why string) {
	if err := unix.Access(dir, unix.X_OK); err != nil {
		return "cannot change directory to \"" + dir + "\" for uid=" + itoa(os.Geteuid()) + " gid=" + itoa(os.Getegid()) + ": " + strerror.Text(err)
	}
	return ""
}

// launch executes Argv, or Line with the shell when there is no such program:
// it may be one of the shell's own commands.
func launch(j *Command, attr *os.ProcAttr) (p *os.Process, why string) {
	if len(j.Argv) > 0 {
		p, err := execute(j.Argv, attr)
		if err == nil {
			return p, ""
		}
		if j.Line == "" || strings.Contains(j.Argv[0], "/") || !errors.Is(err, syscall.ENOENT) {
			return nil, "execvp " + j.Argv[0] + ": " + strerror.Text(err)
		}
	}
	p, err := os.StartProcess(shell, []string{"sh", "-c", j.Line}, attr)
	if err != nil {
		return nil, "execl " + shell + ": " + strerror.Text(err)
	}
	return p, ""
}

// execute searches like execvp(3), in the PATH that the command will see. A
// file that is no program the kernel knows is a shell script.
func execute(argv []string, attr *os.ProcAttr) (*os.Process, error) {
	names := []string{argv[0]}
	if !strings.Contains(argv[0], "/") {
		names = nil
		for _, dir := range strings.Split(pathOf(attr.Env), ":") {
			if dir == "" {
				dir = "."
			}
			names = append(names, dir+"/"+argv[0])
		}
	}
	var result error = syscall.ENOENT
	for _, name := range names {
		p, err := os.StartProcess(name, argv, attr)
		if errors.Is(err, syscall.ENOEXEC) {
			p, err = os.StartProcess(shell, append([]string{"sh", name}, argv[1:]...), attr)
		}
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ENOTDIR) {
			result = err
		}
	}
	return nil, result
}

func pathOf(env []string) string {
	for _, pair := range env {
		if path, ok := strings.CutPrefix(pair, "PATH="); ok {
			return path
		}
	}
	return "/usr/bin:/bin"
}

// kill ends the command and everything in its session's process group, and
// lets go of the pipes, which some other process may still hold.
func (p *process) kill() {
	if !p.gone.Load() {
		_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	}
	_ = p.input.SetWriteDeadline(time.Now())
	_ = p.output.SetReadDeadline(time.Now().Add(afterKill))
}

// finish feeds the command, collects what it says, and waits for its end.
func (p *process) finish(ctx context.Context, j *Command) (Finished, error) {
	defer p.output.Close()
	defer context.AfterFunc(ctx, p.kill)()
	if j.TimeLimit > 0 {
		timer := time.AfterFunc(j.TimeLimit, func() {
			p.timedOut.Store(true)
			p.kill()
		})
		defer timer.Stop()
	}
	var input error
	feeder := lifecycle.New(context.Background(), nil)
	feeder.Go("command input", func(context.Context) { input = p.feed(j.Body) })
	output := collect(p.output, j.Output)
	state, err := p.Wait()
	p.gone.Store(true)
	// The command is gone: nobody will read the rest.
	_ = p.input.SetWriteDeadline(time.Now())
	feeder.Wait()
	if ctxErr := ctx.Err(); ctxErr != nil {
		return Finished{}, ctxErr
	}
	if err != nil {
		return Finished{}, failed(KindSystem, "cannot wait for command", err)
	}
	done := Finished{Output: output, TimedOut: p.timedOut.Load(), Exit: state.ExitCode()}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		done.Exit, done.Signal = 0, int(ws.Signal())
	}
	var source *Error
	if errors.As(input, &source) && source.Kind == KindSource {
		return done, source
	}
	if input != nil && !errors.Is(input, syscall.EPIPE) && !errors.Is(input, os.ErrDeadlineExceeded) {
		done.InputError = input.Error()
	}
	return done, nil
}

// feed writes the message. When the message itself cannot be had, the command
// is killed: it must not take half of it for the whole.
func (p *process) feed(body Body) error {
	defer p.input.Close()
	if body == nil {
		return nil
	}
	w := &boundedWriter{w: p.input}
	err := body(w)
	if w.err != nil {
		return w.err
	}
	if err != nil {
		p.kill()
		return failed(KindSource, "error reading message", err)
	}
	return nil
}

// collect keeps the first limit bytes and reads on to the end.
func collect(r io.Reader, limit int) []byte {
	kept := make([]byte, 0, min(limit, 512))
	buffer := make([]byte, 4096)
	for {
		n, err := r.Read(buffer)
		kept = append(kept, buffer[:min(n, limit-len(kept))]...)
		if err != nil {
			return kept
		}
	}
}
