// Package accept takes connections for a server: as many at a time as
// master.cf allows, until the server is stopped or another configuration takes
// the listener over.
//
// It promises that connections beyond the limit wait in the listener, that an
// error of accept(2) ends nothing, and that a server that met a configuration
// it cannot work with is left alone for a while, as master(8) throttles a
// process that dies. smtpd uses it.
package accept

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

// Acceptor takes the connections of one service. Safe for concurrent use.
type Acceptor struct {
	name  string
	slots chan struct{} // nil for no limit
	log   *maillog.Logger

	mu   sync.Mutex
	held time.Time // no connection is served before
}

// New makes an acceptor. name is the service's, for its goroutines; limit is
// how many connections are served at a time, 0 for no limit.
func New(name string, limit int, log *maillog.Logger) *Acceptor {
	a := &Acceptor{name: name, log: log}
	if limit > 0 {
		a.slots = make(chan struct{}, limit)
	}
	return a
}

// Hold lets connections wait for d before they are served.
func (a *Acceptor) Hold(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = time.Now().Add(d)
}

// Serve accepts connections until ctx ends or g stops, and leaves ln open.
// Each is served in g.
func (a *Acceptor) Serve(ctx context.Context, g *lifecycle.Group, ln net.Listener, serve func(context.Context, net.Conn)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	woken := make(chan struct{})
	unblock := context.AfterFunc(ctx, func() {
		defer close(woken)
		setDeadline(ln, time.Unix(1, 0))
	})
	defer func() {
		if !unblock() {
			<-woken
		}
		setDeadline(ln, time.Time{})
	}()
	g.Go(a.name+" accept", func(context.Context) {
		select {
		case <-g.Stopping():
		case <-ctx.Done():
		}
		cancel()
	})
	for a.acquire(ctx) {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			if !a.start(g, conn, serve) {
				return nil
			}
			continue
		case ctx.Err() != nil:
		case errors.Is(err, net.ErrClosed):
			err = fmt.Errorf("accept: %w", err)
			a.release()
			return err
		default:
			a.log.Warnf("accept connection: %v", err)
			wait(ctx, g, time.Second)
		}
		a.release()
	}
	return nil
}

// start serves one connection, when it is time to.
func (a *Acceptor) start(g *lifecycle.Group, conn net.Conn, serve func(context.Context, net.Conn)) bool {
	started := g.Go(a.name, func(ctx context.Context) {
		defer a.release()
		for {
			a.mu.Lock()
			left := time.Until(a.held)
			a.mu.Unlock()
			if left <= 0 {
				break
			}
			if !wait(ctx, g, left) {
				conn.Close()
				return
			}
		}
		serve(ctx, conn)
	})
	if !started {
		a.release()
		conn.Close()
	}
	return started
}

// wait reports whether the time went by before the end of all.
func wait(ctx context.Context, g *lifecycle.Group, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-g.Stopping():
	}
	return false
}

// setDeadline wakes Accept up, for the listeners that can.
func setDeadline(ln net.Listener, t time.Time) {
	if l, ok := ln.(interface{ SetDeadline(time.Time) error }); ok {
		_ = l.SetDeadline(t)
	}
}

func (a *Acceptor) acquire(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	if a.slots == nil {
		return true
	}
	select {
	case a.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (a *Acceptor) release() {
	if a.slots != nil {
		<-a.slots
	}
}
