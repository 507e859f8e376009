package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"posthaste/internal/sys/lifecycle"
)

// maxHire bounds a request to the delivery process; slotWait is how long it
// waits for a worker to end when there are too many.
const (
	maxHire  = 8 << 10
	slotWait = 5 * time.Second
)

// Main is the delivery process: it serves the socket fd, whose other end the
// mail process has, until that is closed or ctx ends. It must run as root, with
// Policy.Environ in its environment. All that it does is to check numbers and
// to start workers.
func Main(ctx context.Context, fd uintptr) error {
	policy, err := policySource(os.Getenv)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("the delivery process needs to be root")
	}
	conn, err := newWire(os.NewFile(fd, "delivery socket"))
	if err != nil {
		return err
	}
	return serveHires(ctx, conn, policy)
}

func serveHires(ctx context.Context, conn wire, policy func() (Policy, error)) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	p, err := policy()
	if err != nil {
		return err
	}
	if p.MaxWorkers <= 0 {
		p.MaxWorkers = defaultMaximum
	}
	o := &office{policy: policy, workers: lifecycle.New(context.Background(), nil), slots: make(chan struct{}, p.MaxWorkers)}
	for {
		frame, file, err := conn.receive(maxHire)
		if file != nil {
			_ = file.Close()
		}
		if err != nil {
			return endOf(ctx, err)
		}
		if err := o.answer(conn, frame); err != nil {
			return endOf(ctx, err)
		}
	}
}

// endOf tells an ordinary end from trouble.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// office starts workers and knows how many there are.
type office struct {
	policy  func() (Policy, error)
	workers *lifecycle.Group
	slots   chan struct{}
}

// answer sends the socket of a new worker, or why there is none.
func (o *office) answer(conn wire, frame []byte) error {
	as, err := decodeRights(frame)
	var policy Policy
	if err == nil {
		policy, err = o.policy()
	}
	if err == nil {
		err = policy.check(as)
	}
	var socket *os.File
	if err == nil {
		socket, err = o.hire(as, policy.SpoolDir)
	}
	if err != nil {
		return conn.send([]byte(err.Error()), nil)
	}
	defer socket.Close()
	return conn.send(nil, socket)
}

// hire starts a worker and returns the mail process's end of its socket.
func (o *office) hire(as Rights, spool string) (*os.File, error) {
	// A worker whose connection was closed may need a moment to end.
	timer := time.NewTimer(slotWait)
	defer timer.Stop()
	select {
	case o.slots <- struct{}{}:
	case <-timer.C:
		return nil, fmt.Errorf("%d worker processes are running already", cap(o.slots))
	}
	ours, theirs, err := socketPair()
	if err != nil {
		<-o.slots
		return nil, err
	}
	defer theirs.Close()
	p, err := startWorker(as, spool, theirs)
	if err != nil {
		<-o.slots
		_ = ours.Close()
		return nil, fmt.Errorf("start worker process: %w", err)
	}
	o.workers.Go("worker "+itoa(as.UID), func(context.Context) {
		_, _ = p.Wait() // how it ended is the mail process's business
		<-o.slots
	})
	return ours, nil
}

func startWorker(as Rights, spool string, socket *os.File) (*os.Process, error) {
	binary, err := ownBinary()
	if err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	attr := &os.ProcAttr{
		Dir:   "/",
		Env:   []string{workerVariable + "=" + workerSetup(as, spool), "PATH=/usr/bin:/bin", "GOTRACEBACK=none"},
		Files: []*os.File{null, null, os.Stderr, socket},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	if as.Chroot == "" {
		// The rights are gone before the first instruction of the worker. With
		// a chroot it drops them itself, because this binary is not inside.
		attr.Sys.Credential = &syscall.Credential{Uid: uint32(as.UID), Gid: uint32(as.GID), Groups: []uint32{uint32(as.GID)}}
	}
	return os.StartProcess(binary, []string{"posthaste-worker"}, attr)
}

// idleDefault is how long a worker without work is kept.
const idleDefault = 100 * time.Second
