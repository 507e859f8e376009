package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Limits bound the workers of a Remote.
type Limits struct {
	Workers int           // living workers, 0 means 100
	Idle    time.Duration // how long a worker without work is kept, 0 means 100 s
}

// Remote is the Host that hands the work to worker processes.
type Remote struct {
	limits Limits
	slots  chan struct{} // one for each worker at work
	// attached has one for each worker whose command serves a connection.
	attached chan struct{}

	hiring sync.Mutex // held over a question to the delivery process
	office wire

	mu     sync.Mutex
	idle   []*remoteWorker // longest idle first
	closed bool
}

// remoteWorker is the connection to one worker.
type remoteWorker struct {
	as    Rights
	conn  wire
	used  bool // has served before
	timer *time.Timer
}

// NewRemote makes a Host from the mail process's end of the socket to the
// delivery process. It takes socket over.
func NewRemote(socket *os.File, limits Limits) (*Remote, error) {
	conn, err := newWire(socket)
	if err != nil {
		return nil, err
	}
	if limits.Workers <= 0 {
		limits.Workers = 100
	}
	if limits.Idle <= 0 {
		limits.Idle = idleDefault
	}
	return &Remote{limits: limits, office: conn, slots: make(chan struct{}, limits.Workers),
		attached: make(chan struct{}, max(limits.Workers/2, 1))}, nil
}

// SocketPair makes the two ends of the socket between the mail process
// (NewRemote) and the delivery process (Main). Both are closed on exec.
func SocketPair() (mail, delivery *os.File, err error) { return socketPair() }

// Close lets all workers go. Requests under way end first.
func (r *Remote) Close() error {
	r.mu.Lock()
	r.closed = true
	idle := r.idle
	r.idle = nil
	r.mu.Unlock()
	for _, w := range idle {
		w.timer.Stop()
		_ = w.conn.Close()
	}
	return r.office.Close()
}

func (r *Remote) Append(ctx context.Context, as Rights, j Append) (Appended, error) {
	answer, err := r.request(ctx, as, &request{op: opAppend, append: j}, j.Body)
	return answer.appended, err
}

func (r *Remote) Maildir(ctx context.Context, as Rights, j Maildir) error {
	_, err := r.request(ctx, as, &request{op: opMaildir, maildir: j}, j.Body)
	return err
}

func (r *Remote) Run(ctx context.Context, as Rights, j Command) (Finished, error) {
	if j.Stdio != nil {
		return r.attach(ctx, as, j)
	}
	answer, err := r.request(ctx, as, &request{op: opRun, command: j}, j.Body)
	return answer.finished, err
}

// attach runs a command on a connection. Such commands may live long: they
// get half of the workers at most, so that mail is delivered beside them.
func (r *Remote) attach(ctx context.Context, as Rights, j Command) (Finished, error) {
	select {
	case r.attached <- struct{}{}:
	case <-ctx.Done():
		return Finished{}, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
	defer func() { <-r.attached }()
	answer, err := r.request(ctx, as, &request{op: opAttach, command: j}, nil)
	return answer.finished, err
}

func (r *Remote) Read(ctx context.Context, as Rights, path string, limit int64) (File, error) {
	answer, err := r.request(ctx, as, &request{op: opRead, path: path, limit: min(limit, maxRead)}, nil)
	return answer.file, err
}

func (r *Remote) Stat(ctx context.Context, as Rights, path string) (Info, error) {
	answer, err := r.request(ctx, as, &request{op: opStat, path: path}, nil)
	return answer.file.Info, err
}

func (r *Remote) StatTarget(ctx context.Context, as Rights, path string) (Info, error) {
	answer, err := r.request(ctx, as, &request{op: opStatTarget, path: path}, nil)
	return answer.file.Info, err
}

// request has a worker do one thing. A worker that was idle may be dead by
// now; one that did not get the request is replaced once.
func (r *Remote) request(ctx context.Context, as Rights, q *request, body Body) (*response, error) {
	nothing := &response{}
	if err := q.measure(body); err != nil {
		return nothing, failed(KindSource, "error reading message", err)
	}
	frame := q.encode()
	if len(frame) > maxRequest {
		return nothing, fmt.Errorf("request of %d bytes is too large for a worker process", len(frame))
	}
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nothing, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
	defer func() { <-r.slots }()
	for {
		w, err := r.worker(ctx, as)
		if err != nil {
			return nothing, err
		}
		answer, sent, err := w.exchange(ctx, q, frame, body)
		if err == nil {
			r.release(w)
			if answer.err != nil {
				return answer, answer.err
			}
			return answer, nil
		}
		_ = w.conn.Close()
		if ctx.Err() != nil {
			return nothing, ctx.Err()
		}
		if !sent && w.used {
			continue
		}
		return nothing, fmt.Errorf("worker process of uid %d: %w", as.UID, err)
	}
}

// measure finds out how long the message is, and keeps it when it is short.
func (q *request) measure(body Body) error {
	q.size = -1
	if body == nil {
		return nil
	}
	m := &measurer{}
	if err := body(m); err != nil {
		return err
	}
	q.size = m.size
	if m.size <= maxInline {
		q.inline = m.start.Bytes()
	} else {
		q.piped = true
	}
	return nil
}

type measurer struct {
	start bytes.Buffer
	size  int64
}

func (m *measurer) Write(p []byte) (int, error) {
	m.size += int64(len(p))
	if m.size <= maxInline {
		return m.start.Write(p)
	}
	m.start.Reset()
	return len(p), nil
}

// worker finds an idle worker or has one started.
func (r *Remote) worker(ctx context.Context, as Rights) (*remoteWorker, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, errors.New("the delivery process is shutting down")
	}
	for i := len(r.idle) - 1; i >= 0; i-- {
		if w := r.idle[i]; w.as == as {
			r.idle = append(r.idle[:i], r.idle[i+1:]...)
			r.mu.Unlock()
			w.timer.Stop()
			w.used = true
			return w, nil
		}
	}
	var evicted *remoteWorker
	if len(r.idle) > 0 && len(r.idle)+len(r.slots) > r.limits.Workers {
		evicted = r.idle[0]
		r.idle = r.idle[1:]
	}
	r.mu.Unlock()
	if evicted != nil {
		evicted.timer.Stop()
		_ = evicted.conn.Close()
	}
	return r.hire(ctx, as)
}

// hire asks the delivery process for a new worker.
func (r *Remote) hire(ctx context.Context, as Rights) (*remoteWorker, error) {
	r.hiring.Lock()
	defer r.hiring.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := r.office.send(as.encode(), nil); err != nil {
		return nil, fmt.Errorf("delivery process: %w", err)
	}
	refusal, socket, err := r.office.receive(maxHire)
	if err != nil {
		return nil, fmt.Errorf("delivery process: %w", err)
	}
	if socket == nil {
		return nil, fmt.Errorf("delivery process: %s", refusal)
	}
	conn, err := newWire(socket)
	if err != nil {
		return nil, fmt.Errorf("delivery process: %w", err)
	}
	return &remoteWorker{as: as, conn: conn}, nil
}

// release keeps a worker for the next request.
func (r *Remote) release(w *remoteWorker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = w.conn.Close()
		return
	}
	w.timer = time.AfterFunc(r.limits.Idle, func() { r.retire(w) })
	r.idle = append(r.idle, w)
}

func (r *Remote) retire(w *remoteWorker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, other := range r.idle {
		if other == w {
			r.idle = append(r.idle[:i], r.idle[i+1:]...)
			_ = w.conn.Close()
			return
		}
	}
}

// exchange sends a request and reads the answer. sent is false when the worker
// certainly did not get it.
func (w *remoteWorker) exchange(ctx context.Context, q *request, frame []byte, body Body) (answer *response, sent bool, err error) {
	// Closing the connection makes the worker stop what it does.
	defer context.AfterFunc(ctx, func() { _ = w.conn.Close() })()
	if q.piped {
		err = w.sendPiped(ctx, frame, body)
	} else {
		err = w.conn.send(frame, q.command.Stdio)
	}
	if err != nil {
		return nil, false, err
	}
	reply, file, err := w.conn.receive(maxResponse)
	if file != nil {
		_ = file.Close()
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it died before it answered")
	}
	if err != nil {
		return nil, true, err
	}
	answer, err = decodeResponse(q.op, reply)
	return answer, true, err
}

// sendPiped passes a pipe along and writes the message to it. The worker
// closes its end when it needs no more; its answer says why.
func (w *remoteWorker) sendPiped(ctx context.Context, frame []byte, body Body) error {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ours.Close()
	defer context.AfterFunc(ctx, func() { _ = ours.SetWriteDeadline(time.Now()) })()
	err = w.conn.send(frame, theirs)
	_ = theirs.Close()
	if err != nil {
		return err
	}
	// Too little text is an error at the worker's end, which counts.
	_ = body(ours)
	return nil
}
