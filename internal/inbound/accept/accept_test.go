package accept

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// flaky fails at first, as with no file descriptor left.
type flaky struct {
	net.Listener
	failures atomic.Int32
}

func (f *flaky) SetDeadline(t time.Time) error { return f.Listener.(*net.TCPListener).SetDeadline(t) }
func (f *flaky) Accept() (net.Conn, error) {
	if f.failures.Add(-1) >= 0 {
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

type service struct {
	*Acceptor
	ln      *flaky
	group   *lifecycle.Group
	log     *maillog.Memory
	cancel  context.CancelFunc
	ended   chan error
	release chan struct{} // each lets one connection end
}

func start(t *testing.T, limit, failures int) *service {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{ln: &flaky{Listener: ln}, group: lifecycle.New(context.Background(), nil), log: &maillog.Memory{}, ended: make(chan error, 1), release: make(chan struct{}, 10)}
	s.ln.failures.Store(int32(failures))
	s.Acceptor = New("test", limit, maillog.New(s.log, "t", 1, nil))
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		s.ended <- s.Serve(ctx, s.group, s.ln, func(ctx context.Context, c net.Conn) {
			defer c.Close()
			fmt.Fprintln(c, "hello")
			select {
			case <-s.release:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() { cancel(); ln.Close(); s.group.Stop(time.Second) })
	return s
}

// hello reports whether a new connection is served within the time.
func (s *service) hello(t *testing.T, within time.Duration) bool {
	t.Helper()
	c, err := net.Dial("tcp", s.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(within))
	line, _ := bufio.NewReader(c).ReadString('\n')
	return line == "hello\n"
}

func TestLimit(t *testing.T) {
	t.Parallel()
	s := start(t, 2, 0)
	for range 2 {
		if !s.hello(t, 5*time.Second) {
			t.Fatal("not served")
		}
	}
	if s.hello(t, 50*time.Millisecond) {
		t.Error("a third one at a time")
	}
	s.release <- struct{}{}
	s.release <- struct{}{}
	if !s.hello(t, 5*time.Second) {
		t.Error("not served after the others")
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	s := start(t, 0, 0)
	s.Hold(300 * time.Millisecond)
	began := time.Now()
	if !s.hello(t, 5*time.Second) || time.Since(began) < 200*time.Millisecond {
		t.Errorf("served after %v", time.Since(began))
	}
	s.Hold(time.Hour)
	go func() { time.Sleep(20 * time.Millisecond); s.group.Stop(time.Second) }()
	if s.hello(t, 5*time.Second) {
		t.Error("served at the end")
	}
}

func TestTroubleWithAccept(t *testing.T) {
	t.Parallel()
	s := start(t, 1, 1)
	if !s.hello(t, 10*time.Second) || !strings.Contains(s.log.String(), "accept connection: too many open files") {
		t.Errorf("log: %s", s.log)
	}
}

// The listener is left open for who comes after.
func TestHandingOver(t *testing.T) {
	t.Parallel()
	s := start(t, 0, 0)
	if !s.hello(t, 5*time.Second) {
		t.Fatal("not served")
	}
	s.cancel()
	if err := <-s.ended; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	again := make(chan error, 1)
	go func() {
		again <- New("next", 0, nil).Serve(ctx, s.group, s.ln, func(_ context.Context, c net.Conn) { fmt.Fprintln(c, "hello"); c.Close() })
	}()
	if !s.hello(t, 5*time.Second) {
		t.Error("not served by the next")
	}
	s.ln.Close()
	if err := <-again; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
