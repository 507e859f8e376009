package greylist

import (
	"context"
	"fmt"
	"maps"

	"sync"
	"time"
)

// counters count decisions by reason.
type counters struct {
	mu      sync.Mutex
	reasons map[string]int64
	waited  time.Duration
}

func (c *counters) count(d Decision) {
	reason := d.Reason
	switch {
	case !d.Pass && reason != "new":
		reason = "early-retry"
	case d.Delay > 0:
		reason = "triplet found, delayed"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reasons == nil {
		c.reasons = map[string]int64{}
	}
	c.reasons[reason]++
	c.waited += d.Delay
}

// Stats is what a Greylist has done since it was made, and what it knows.
type Stats struct {
	Decisions map[string]int64 `json:"decisions"` // by reason
	Waited    time.Duration    `json:"waited"`    // of all messages that came again
	Entries   map[string]int   `json:"entries"`   // by kind
}

// Stats counts.
func (g *Greylist) Stats(ctx context.Context) (Stats, error) {
	s := Stats{Entries: map[string]int{}}
	g.stats.mu.Lock()
	s.Decisions, s.Waited = maps.Clone(g.stats.reasons), g.stats.waited
	g.stats.mu.Unlock()
	for _, kind := range Kinds() {
		// After a Scan, Len is exact.
		if _, err := g.deps.Store.Scan(ctx, kind, "", 1); err != nil {
			return s, err
		}
		n, err := g.deps.Store.Len(ctx, kind)
		if err != nil {
			return s, err
		}
		s.Entries[kind.String()] = n
	}
	return s, nil
}

const (
	sweepPage   = 2000
	sweepEvery  = time.Hour
	maxPressure = 20 // 35 days halved that often are seconds
)

// WaitForSweep waits until it is time to sweep: every hour, and when the store
// gets full. It returns false when ctx ends.
func (s *Shared) WaitForSweep(ctx context.Context) bool {
	timer := time.NewTimer(sweepEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-s.pressure:
	}
	return true
}

// Run sweeps the store every hour, and when it gets full, until ctx ends.
func (g *Greylist) Run(ctx context.Context) {
	for g.WaitForSweep(ctx) {
		if err := g.Sweep(ctx); err != nil && ctx.Err() == nil {
			g.deps.Log.Warnf("greylist: sweep: %v", err)
		}
	}
}

// Sweep deletes what has expired. When there is still too much, ages are
// halved until a fifth of the room is free.
func (g *Greylist) Sweep(ctx context.Context) error {
	before, err := g.deps.Store.Len(ctx, Triplets)
	if err != nil {
		return err
	}
	left := 0
	for pressure := uint(0); pressure <= maxPressure; pressure++ {
		if left, err = g.sweep(ctx, Triplets, pressure); err != nil {
			return err
		}
		if left < g.set.MaxEntries-g.set.MaxEntries/10 {
			break
		}
	}
	if !g.set.Quiet && before > left {
		g.deps.Log.Infof("cleaning main database finished. before: %d, after: %d", before, left)
	}
	_, err = g.sweep(ctx, Clients, 0)
	return err
}

// sweep goes through a kind once and returns how many entries are left.
func (g *Greylist) sweep(ctx context.Context, kind Kind, pressure uint) (left int, err error) {
	now := g.deps.Now().Unix()
	for after := ""; ; {
		items, err := g.deps.Store.Scan(ctx, kind, after, sweepPage)
		if err != nil {
			return left, err
		}
		for _, item := range items {
			old := now-item.Last > seconds(g.set.MaxAge)
			if kind == Triplets {
				old = g.set.expired(item.Entry, now, pressure)
			}
			if !old {
				left++
			} else if err := g.deps.Store.Delete(ctx, kind, item.Key); err != nil {
				return left, err
			}
		}
		if len(items) < sweepPage {
			return left, nil
		}
		after = items[len(items)-1].Key
		if err := ctx.Err(); err != nil {
			return left, err
		}
	}
}

// LoadListed reads what the store lists as never to be greylisted. Call it at
// the start; Allow and Disallow keep it up to date.
func (g *Greylist) LoadListed(ctx context.Context) error {
	w := &Whitelist{}
	for kind, add := range map[Kind]func(string) error{ListedHost: w.AddClient, ListedRcpt: w.AddRecipient} {
		err := Each(ctx, g.deps.Store, kind, func(item Item) error {
			if err := add(item.Key); err != nil {
				g.deps.Log.Warnf("greylist: %s: %q: %v", kind, item.Key, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	g.own.Store(w)
	return nil
}

// Each calls yield for each item of a kind, in the order of keys.
func Each(ctx context.Context, store Store, kind Kind, yield func(Item) error) error {
	for after := ""; ; {
		items, err := store.Scan(ctx, kind, after, sweepPage)
		if err != nil {
			return err
		}
		for _, item := range items {
			if err := yield(item); err != nil {
				return err
			}
		}
		if len(items) < sweepPage {
			return nil
		}
		after = items[len(items)-1].Key
	}
}

// Allow puts a client or recipient, as in a whitelist file, on the list of the
// store.
func (g *Greylist) Allow(ctx context.Context, kind Kind, text string) error {
	trial := &Whitelist{}
	add := trial.AddClient
	if kind == ListedRcpt {
		add = trial.AddRecipient
	}
	if err := add(text); err != nil {
		return fmt.Errorf("%q %w", text, err)
	}
	now := g.deps.Now().Unix()
	if err := g.deps.Store.Put(ctx, kind, text, Entry{First: now, Last: now}); err != nil {
		return err
	}
	return g.LoadListed(ctx)
}

// Disallow takes it off again; it is an error when it is not there.
func (g *Greylist) Disallow(ctx context.Context, kind Kind, text string) error {
	if err := g.forget(ctx, kind, text); err != nil {
		return err
	}
	return g.LoadListed(ctx)
}

func (g *Greylist) forget(ctx context.Context, kind Kind, key string) error {
	_, found, err := g.deps.Store.Get(ctx, kind, key)
	if err == nil && !found {
		err = fmt.Errorf("%s: there is no entry %q", kind, key)
	}
	if err != nil {
		return err
	}
	return g.deps.Store.Delete(ctx, kind, key)
}

// release lets a triplet through at its next try.
func (g *Greylist) release(ctx context.Context, key string) error {
	e, found, err := g.deps.Store.Get(ctx, Triplets, key)
	if err == nil && !found {
		err = fmt.Errorf("there is no triplet %q", key)
	}
	if err != nil || e.passed() {
		return err
	}
	e.First = min(e.First, g.deps.Now().Unix()-seconds(g.set.Delay)-1)
	e.Last = e.First
	return g.deps.Store.Put(ctx, Triplets, key, e)
}
