package master

import (
	"context"
	"net"
	"sync"
	"time"
)

// awaitClient waits for the first connection and gives a listener that begins
// with it; nil when the service is to end. Like master(8) it makes a service
// when that is needed: settings that cannot be used are no trouble before.
func (g *generation) awaitClient(ctx context.Context, ln net.Listener) net.Listener {
	timed, ok := ln.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return ln
	}
	accepted := make(chan struct{})
	woken := make(chan struct{})
	g.group.Go("wait for a client", func(context.Context) {
		defer close(woken)
		select {
		case <-g.listen.Done():
		case <-ctx.Done():
		case <-accepted:
			return
		}
		_ = timed.SetDeadline(time.Unix(1, 0))
	})
	conn, err := ln.Accept()
	close(accepted)
	<-woken
	if err != nil {
		return nil
	}
	return &begun{Listener: ln, deadline: timed.SetDeadline, first: conn}
}

// begun is a listener whose first connection was accepted already.
type begun struct {
	net.Listener
	deadline func(time.Time) error

	mu    sync.Mutex
	first net.Conn
}

// Accept implements net.Listener.
func (b *begun) Accept() (net.Conn, error) {
	if conn := b.take(); conn != nil {
		return conn, nil
	}
	return b.Listener.Accept()
}

// take gives the first connection to one caller; there may be none.
func (b *begun) take() net.Conn {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	conn := b.first
	b.first = nil
	return conn
}

// SetDeadline bounds Accept.
func (b *begun) SetDeadline(t time.Time) error { return b.deadline(t) }

// drop closes the first connection if nobody took it.
func (b *begun) drop() {
	if conn := b.take(); conn != nil {
		_ = conn.Close()
	}
}
