package qmgr

import (
	"context"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/queue"
	"posthaste/internal/queue/spool"
	"posthaste/internal/sys/vfs/vfstest"
)

// TestWithSpool runs the queue manager on the store that sites use: first
// attempt, deferral, restart, and the report on what failed.
func TestWithSpool(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := vfstest.New(1 << 30)
		open := func() *spool.Spool {
			s, err := spool.New(spool.Options{FS: files, Config: spool.Config{HashNames: "deferred, defer", HashDepth: 1}, PID: 7})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		w := newWorld(t, func(c *Config) { c.DelayWarning = time.Hour })
		live := func(store queue.Store) {
			deps := w.loop.deps
			deps.Store = store
			w.loop = New(w.cfg, w.neighbours(), deps)
			w.start()
		}
		store := open()
		live(store)
		for _, rcpts := range [][]addr.Address{{"a@d.example", "once@d.example"}, {"bad@d.example"}, {"later@d.example", "b@local.example"}} {
			commit(t, store, rcpts...)
		}
		wait(time.Second)
		if got := list(t, store); !slices.Equal(got, []queue.Name{queue.Deferred, queue.Deferred}) {
			t.Fatal(got, w.log)
		}
		for range 3 {
			wait(2000 * time.Second)
			w.stop()
			if err := store.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			store = open()
			live(store)
		}
		wait(6 * 24 * time.Hour)
		w.stop()
		if got := list(t, store); len(got) != 0 {
			t.Error(got, w.log)
		}
		for _, r := range []addr.Address{"a@d.example", "once@d.example", "b@local.example", "bad@d.example", "later@d.example"} {
			if w.agent.sent[r]+w.bouncer.failed[r] != 1 {
				t.Errorf("%s: sent %d, reported %d", r, w.agent.sent[r], w.bouncer.failed[r])
			}
		}
		if len(w.bouncer.notices) != 3 { // one failure, one warning, one expiry
			t.Error(w.bouncer)
		}
	})
}

func commit(t testing.TB, s queue.Store, rcpts ...addr.Address) {
	t.Helper()
	d, err := s.Begin(context.Background(), queue.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d, "Subject: x\n\nhello\n"); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(context.Background(), mail("s@x", rcpts...), queue.Incoming); err != nil {
		t.Fatal(err)
	}
}

func list(t testing.TB, s queue.Store) (all []queue.Name) {
	t.Helper()
	err := s.Scan(context.Background(), queue.Filter{}, func(m queue.Summary) error {
		all = append(all, m.Queue)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
