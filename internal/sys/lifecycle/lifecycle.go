// Package lifecycle owns every goroutine of the program: each has a name, a
// context and somebody who waits for it.
//
// A Group stops in two phases: Stop first closes Stopping (take no new work),
// and after a grace period cancels the context of all. No other package uses
// the go statement (a test reads the source and fails).
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"time"
)

// Group is a set of goroutines that end together.
type Group struct {
	ctx      context.Context
	cancel   context.CancelFunc
	stopping chan struct{}
	onPanic  func(name string, value any, stack []byte)

	mu      sync.Mutex
	running map[string]int
	stopped bool
	wait    sync.WaitGroup
}

// New makes a group whose goroutines see a context derived from ctx. onPanic
// is told of a panic in one of them; nil lets the panic end the process.
func New(ctx context.Context, onPanic func(name string, value any, stack []byte)) *Group {
	ctx, cancel := context.WithCancel(ctx)
	return &Group{ctx: ctx, cancel: cancel, stopping: make(chan struct{}), onPanic: onPanic, running: map[string]int{}}
}

// Go runs f in a goroutine named after its work. After Stop has finished it
// does nothing and returns false.
func (g *Group) Go(name string, f func(ctx context.Context)) bool {
	g.mu.Lock()
	if g.stopped {
		g.mu.Unlock()
		return false
	}
	g.running[name]++
	g.wait.Add(1)
	g.mu.Unlock()
	go g.run(name, f)
	return true
}

func (g *Group) run(name string, f func(ctx context.Context)) {
	defer g.ended(name)
	if g.onPanic != nil {
		defer func() {
			if v := recover(); v != nil {
				g.onPanic(name, v, debug.Stack())
			}
		}()
	}
	f(g.ctx)
}

func (g *Group) ended(name string) {
	g.mu.Lock()
	if g.running[name]--; g.running[name] == 0 {
		delete(g.running, name)
	}
	g.mu.Unlock()
	g.wait.Done()
}

// Context is cancelled in the second phase of Stop.
func (g *Group) Context() context.Context { return g.ctx }

// Stopping is closed in the first phase of Stop: take no new work.
func (g *Group) Stopping() <-chan struct{} { return g.stopping }

// ErrHeld is returned by Stop when goroutines did not end in time.
var ErrHeld = errors.New("lifecycle: still running")

// Stop ends the group: no new work, after grace cancel, after grace again
// give up and name who is left.
func (g *Group) Stop(grace time.Duration) error {
	g.mu.Lock()
	select {
	case <-g.stopping:
	default:
		close(g.stopping)
	}
	g.mu.Unlock()
	defer g.cancel()
	if g.waitFor(grace) {
		return nil
	}
	g.cancel()
	if g.waitFor(grace) {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrHeld, strings.Join(g.Running(), ", "))
}

// Wait blocks until no goroutine is left, without asking any to stop.
func (g *Group) Wait() { g.wait.Wait() }

func (g *Group) waitFor(d time.Duration) bool {
	done := make(chan struct{})
	go func() {
		g.wait.Wait()
		close(done)
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		g.mu.Lock()
		g.stopped = len(g.running) == 0
		g.mu.Unlock()
		return true
	case <-timer.C:
		return false
	}
}

// Running names what is still running, with counts.
func (g *Group) Running() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	for name, n := range g.running {
		if n > 1 {
			name = fmt.Sprintf("%s (%d)", name, n)
		}
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
