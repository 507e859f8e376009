package spool

import (
	"testing"

	"posthaste/internal/queue"
	"posthaste/internal/queue/queuetest"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/vfs"
	"posthaste/internal/sys/vfs/vfstest"
)

var postfixDefaults = Config{HashNames: "deferred, defer", HashDepth: 1}

func open(t testing.TB, o Options) *Spool {
	t.Helper()
	log := &maillog.Memory{}
	o.Log = maillog.New(log, "postfix/qmgr", 1, nil)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if text := log.String(); text != "" && !t.Failed() {
			t.Error("logged: " + text)
		}
	})
	return s
}

func TestMemory(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t testing.TB) queuetest.Backend {
		mem := vfstest.New(1 << 30)
		return queuetest.Backend{
			Open: func(t testing.TB) queue.Store { return open(t, Options{FS: mem, Config: postfixDefaults, PID: 7}) },
			Fill: func() { mem.SetSpace(0) },
		}
	})
}

func TestDisk(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t testing.TB) queuetest.Backend {
		dir := vfs.Dir(t.TempDir())
		c := Config{HashNames: "incoming active deferred defer bounce", HashDepth: 2, LongIDs: true}
		return queuetest.Backend{
			Slow: true,
			Open: func(t testing.TB) queue.Store {
				return open(t, Options{FS: dir, Config: c, SyncDirs: true, CacheBytes: 200 << 10})
			},
		}
	})
}
