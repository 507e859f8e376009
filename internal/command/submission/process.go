package submission

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"

	"posthaste/internal/inbound/maildrop"
)

// dropProcess is a postdrop(1) that waits for records.
type dropProcess struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies *maildrop.Replies
	id      string
	err     error
}

// startDrop runs postdrop: the set-gid one if there is one, else ourselves
// under that name. It has a queue id then.
func (s *sendmail) startDrop(ctx context.Context) (*dropProcess, error) {
	path := s.helper("postdrop")
	if path == "" {
		own, err := os.Executable()
		if err != nil {
			return nil, err
		}
		path = own
	}
	cmd := exec.CommandContext(ctx, path, "-r")
	cmd.Args[0] = "postdrop"
	cmd.Stderr = s.Stderr
	if s.flagC != "" {
		cmd.Args = append(cmd.Args, "-c", s.flagC)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	d := &dropProcess{cmd: cmd, in: in, replies: maildrop.NewReplies(out)}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if d.id, err = d.replies.Hello(); err != nil {
		d.cancel()
		return nil, err
	}
	return d, nil
}

// Write implements io.Writer. The first error is kept for finish: postdrop
// has said why.
func (d *dropProcess) Write(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.in.Write(p)
	d.err = err
	return n, err
}

// finish reads the answer.
func (d *dropProcess) finish() (maildrop.Reply, error) {
	reply, err := d.replies.Status()
	_ = d.in.Close()
	if werr := d.cmd.Wait(); err == nil && werr != nil && reply.Status == maildrop.OK {
		err = werr
	}
	if err != nil && d.err != nil {
		err = errors.Join(err, d.err)
	}
	return reply, err
}

// cancel ends the input before its end: postdrop removes what it has.
func (d *dropProcess) cancel() {
	_ = d.in.Close()
	_, _ = d.replies.Status()
	_ = d.cmd.Wait()
}

// process runs another command with our streams and returns its status.
func (s *sendmail) process(ctx context.Context, path string, args []string) int {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.Stdin, s.Stdout, s.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return s.fatal("%s: %v", path, err)
	}
	return 0
}
