package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"posthaste/internal/sys/lifecycle"
)

// socketFD is where a worker finds its socket.
const socketFD = 3

// Hook serves as a worker process and never returns, if this process was
// started as one; else it does nothing. Every main function calls it first,
// and so does TestMain of tests with workers.
func Hook() {
	setup, ok := os.LookupEnv(workerVariable)
	if !ok {
		return
	}
	if err := serveProcess(setup); err != nil {
		fmt.Fprintln(os.Stderr, "posthaste worker:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// workerSetup is the text of workerVariable: rights and mail spool directory.
func workerSetup(as Rights, spool string) string {
	return fmt.Sprintf("%x:%s", as.encode(), spool)
}

func parseWorkerSetup(text string) (as Rights, spool string, err error) {
	digits, spool, _ := strings.Cut(text, ":")
	var rights []byte
	if _, err := fmt.Sscanf(digits, "%x", &rights); err != nil {
		return as, "", err
	}
	as, err = decodeRights(rights)
	return as, spool, err
}

func serveProcess(setup string) error {
	as, spool, err := parseWorkerSetup(setup)
	if err != nil {
		return err
	}
	if as.Chroot != "" {
		if err := enterChroot(as); err != nil {
			return err
		}
	}
	if err := verifyRights(as); err != nil {
		return err
	}
	syscall.Umask(0o077)
	debug.SetGCPercent(50) // there may be many of us
	conn, err := newWire(os.NewFile(socketFD, "worker socket"))
	if err != nil {
		return err
	}
	defer conn.Close()
	s := &server{conn: conn, x: &executor{}}
	if as.UID == 0 {
		s.fence = rootFence(spool)
	}
	for {
		err := s.one()
		if errors.Is(err, io.EOF) {
			return nil // the mail process has no more work
		}
		if err != nil {
			return err
		}
	}
}

// enterChroot changes the root and then drops all rights for good.
func enterChroot(as Rights) error {
	if err := os.Chdir(as.Chroot); err != nil {
		return err
	}
	if err := syscall.Chroot("."); err != nil {
		return os.NewSyscallError("chroot", err)
	}
	if err := syscall.Setgroups([]int{as.GID}); err != nil {
		return os.NewSyscallError("setgroups", err)
	}
	if err := syscall.Setgid(as.GID); err != nil {
		return os.NewSyscallError("setgid", err)
	}
	return os.NewSyscallError("setuid", syscall.Setuid(as.UID))
}

// verifyRights makes sure that the rights are the promised ones, and that
// there is no way back.
func verifyRights(as Rights) error {
	if os.Getuid() != as.UID || os.Geteuid() != as.UID || os.Getgid() != as.GID || os.Getegid() != as.GID {
		return fmt.Errorf("started as uid %d/%d gid %d/%d instead of uid %d gid %d",
			os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), as.UID, as.GID)
	}
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	for _, g := range groups {
		if g != as.GID {
			return fmt.Errorf("started with group %d", g)
		}
	}
	if as.UID != 0 && (syscall.Setuid(0) == nil || syscall.Setgid(0) == nil && as.GID != 0) {
		return errors.New("rights of root can be had again")
	}
	return protect()
}

// server is the worker's side of a connection: one request at a time.
type server struct {
	conn  wire
	x     *executor
	fence *fence
}

func (s *server) one() error {
	frame, file, err := s.conn.receive(maxRequest)
	if err != nil {
		return err
	}
	if file != nil {
		defer file.Close()
	}
	r, err := decodeRequest(frame)
	if err != nil {
		return err
	}
	if (r.piped || r.op == opAttach) != (file != nil) {
		return errFrame
	}
	if r.op == opAttach {
		r.command.Stdio = file
	}
	body := r.source(file)
	r.append.Body, r.maildir.Body, r.command.Body = body, body, body
	answer, err := s.perform(r)
	if err != nil {
		return err
	}
	if file != nil {
		_ = file.Close() // whoever still writes must not wait for us
	}
	return s.conn.send(answer.encode(r.op), nil)
}

// source is the message of a request. It can be had once.
func (r *request) source(file *os.File) Body {
	switch {
	case r.size < 0:
		return nil
	case file == nil:
		return func(w io.Writer) error {
			_, err := io.Copy(w, bytes.NewReader(r.inline))
			return err
		}
	}
	return func(w io.Writer) error {
		_, err := io.CopyN(w, file, r.size)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
}

// perform does the job. It stops when the mail process goes away.
func (s *server) perform(r *request) (*response, error) {
	answer := &response{}
	if s.fence != nil {
		if err := s.fence.allows(r); err != nil {
			answer.err = &Error{Errno: syscall.EACCES, Text: err.Error()}
			return answer, nil
		}
	}
	ctx, stop := s.whileConnected()
	err := s.do(ctx, r, answer)
	if stopErr := stop(); stopErr != nil {
		return nil, stopErr
	}
	if err != nil && !errors.As(err, &answer.err) {
		answer.err = &Error{Text: err.Error()}
	}
	return answer, nil
}

func (s *server) do(ctx context.Context, r *request, answer *response) (err error) {
	switch r.op {
	case opAppend:
		answer.appended, err = s.x.append(ctx, &r.append)
	case opMaildir:
		err = s.x.maildir(&r.maildir, time.Now())
	case opRun, opAttach:
		answer.finished, err = s.x.run(ctx, &r.command)
	case opRead:
		answer.file, err = s.x.read(r.path, r.limit)
	case opStat:
		answer.file.Info, err = s.x.stat(r.path)
	case opStatTarget:
		answer.file.Info, err = s.x.statTarget(r.path)
	}
	return err
}

// whileConnected gives a context that ends when the peer closes, or speaks out
// of turn, before stop is called. stop then says so.
func (s *server) whileConnected() (ctx context.Context, stop func() error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	watch := lifecycle.New(context.Background(), nil)
	watch.Go("connection", func(context.Context) {
		var b [1]byte
		_, err := s.conn.Read(b[:])
		if err == nil {
			err = errFrame
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			cancel(err)
		}
	})
	return ctx, func() error {
		_ = s.conn.SetReadDeadline(time.Now())
		watch.Wait()
		_ = s.conn.SetReadDeadline(time.Time{})
		defer cancel(nil)
		return context.Cause(ctx)
	}
}
