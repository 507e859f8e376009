package master

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

// Files that the supervisor hands to its children.
const (
	controlFD  = 3 // mail process
	deliveryFD = 4 // mail process
	workFD     = 3 // delivery process
)

// MailProcess is the whole life of the mail process: it serves the control
// connection until the supervisor asks it to stop or is gone. The result is
// its exit status.
func MailProcess(ctx context.Context, configDir string) int {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
	control, err := linkTo(os.NewFile(controlFD, "control"))
	if err != nil {
		fmt.Fprintf(os.Stderr, "fatal: no control connection: %v; this process is started by postfix start\n", err)
		return 1
	}
	m := &mailProcess{dir: configDir, control: control, lent: make(chan lent, 1)}
	m.group = lifecycle.New(ctx, nil)
	defer m.group.Stop(time.Second)
	return m.serve(ctx)
}

type mailProcess struct {
	dir     string
	control *link
	group   *lifecycle.Group
	system  *System
	sink    *maillog.File

	borrow sync.Mutex // one request for a file at a time
	lent   chan lent
}

// lent is the answer to a request for a file.
type lent struct {
	file *os.File
	err  error
}

func (m *mailProcess) serve(ctx context.Context) int {
	for {
		msg, files, err := m.control.receive()
		if err != nil {
			m.stop() // the supervisor is gone: nobody is to be left behind
			if errors.Is(err, io.EOF) {
				return 0
			}
			return 1
		}
		switch msg.Op {
		case "configure":
			m.group.Go("configure", func(context.Context) {
				m.answer(m.configure(ctx, msg, files))
			})
		case "opened":
			m.opened(msg, files)
		case "stop":
			m.stop()
			return 0
		}
	}
}

func (m *mailProcess) answer(err error) {
	if err != nil {
		m.control.send(message{Op: "failed", Error: err.Error()})
		return
	}
	m.control.send(message{Op: "ready"})
}

// configure takes the log and the sockets that came along into use.
func (m *mailProcess) configure(ctx context.Context, msg message, files []*os.File) error {
	if msg.Log && len(files) > 0 {
		m.setLog(files[0])
		files = files[1:]
	}
	if len(files) != len(msg.Listeners) {
		return fmt.Errorf("%d sockets came for %d services", len(files), len(msg.Listeners))
	}
	if m.system == nil {
		var sink maillog.Sink
		if m.sink != nil {
			sink = m.sink
		}
		var err error
		delivery := os.NewFile(deliveryFD, "delivery")
		m.system, err = NewSystem(Environment{ConfigDir: m.dir, Sink: sink, Delivery: delivery, OpenFile: m.openFile})
		if err != nil {
			return err
		}
	}
	given := make([]Listener, len(files))
	for i, f := range files {
		given[i] = Listener{Service: msg.Listeners[i], File: f}
	}
	return m.system.Configure(ctx, given)
}

func (m *mailProcess) setLog(file *os.File) {
	if m.sink != nil {
		if old, ok := m.sink.Replace(file).(io.Closer); ok {
			old.Close()
		}
		return
	}
	host, _ := os.Hostname()
	m.sink = maillog.NewFile(file, shortHost(host))
	m.group.Go("log", m.sink.Run)
}

// openFile opens a file, with the supervisor's help where it may not.
func (m *mailProcess) openFile(path string) (*os.File, error) {
	file, err := os.Open(path)
	if !errors.Is(err, os.ErrPermission) {
		return file, err
	}
	m.borrow.Lock()
	defer m.borrow.Unlock()
	if m.control.send(message{Op: "open", Path: path}) != nil {
		return nil, err
	}
	select {
	case answer := <-m.lent:
		return answer.file, answer.err
	case <-time.After(readyLimit):
		return nil, err
	}
}

func (m *mailProcess) opened(msg message, files []*os.File) {
	answer := lent{err: fmt.Errorf("open %s: %w", msg.Path, os.ErrPermission)}
	if msg.Error == "" && len(files) == 1 {
		answer = lent{file: files[0]}
	}
	select {
	case m.lent <- answer:
	default:
		if answer.file != nil {
			answer.file.Close()
		}
	}
}

func (m *mailProcess) stop() {
	if m.system != nil {
		m.system.Stop(stopGrace)
	}
	if m.sink != nil {
		m.sink.Flush()
	}
}
