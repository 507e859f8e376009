package super

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"posthaste/internal/queue"
	"posthaste/internal/queue/queuetest"
	"posthaste/internal/queue/spool"
	"posthaste/internal/sys/vfs/vfstest"
)

type fixture struct {
	Super
	mem   *vfstest.Mem
	lines []string
	store *spool.Spool
	ids   []queue.ID
}

var config = spool.Config{HashNames: "deferred defer", HashDepth: 1}

// newFixture has four messages: incoming, active, deferred and hold.
func newFixture(t *testing.T) *fixture {
	f := &fixture{mem: vfstest.New(1 << 30)}
	var err error
	if f.store, err = spool.New(spool.Options{FS: f.mem, Config: config}); err != nil {
		t.Fatal(err)
	}
	if err := f.mem.Mkdir("maildrop", 0o730); err != nil {
		t.Fatal(err)
	}
	for _, name := range []queue.Name{queue.Incoming, queue.Active, queue.Deferred, queue.Hold} {
		d, err := f.store.Begin(t.Context(), queue.Hint{})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Commit(t.Context(), queuetest.Envelope(1), queue.Incoming); err != nil {
			t.Fatal(err)
		}
		m, err := f.store.Open(t.Context(), d.ID())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.store.Update(t.Context(), queue.Claim{}, d.ID(), m.Rev(), queue.Change{Queue: &name}, queue.Lazy); err != nil {
			t.Fatal(err)
		}
		m.Close()
		f.ids = append(f.ids, d.ID())
	}
	say := func(kind string) func(string, ...any) {
		return func(format string, args ...any) {
			line := kind + fmt.Sprintf(format, args...)
			for i, id := range f.ids {
				line = strings.ReplaceAll(line, string(id), fmt.Sprintf("ID%d", i))
			}
			f.lines = append(f.lines, line)
		}
	}
	f.Super = Super{Layout: spool.NewLayout(f.mem, config), Queues: DefaultQueues(), Now: time.Now,
		Info: say(""), Warn: say("warning: "), Counts: map[Action]int{}}
	return f
}

// where tells the directory of each message, "#" marks forced expiry.
func (f *fixture) where(t *testing.T) string {
	var list []string
	for _, id := range f.ids {
		place := "-"
		for _, dir := range []string{"maildrop", "incoming", "active", "deferred", "hold"} {
			if info, err := f.mem.Lstat(f.Layout.Path(dir, id)); err == nil {
				place = dir
				if info.Mode&spool.ExpireMode != 0 {
					place += "#"
				}
			}
		}
		list = append(list, place)
	}
	return strings.Join(list, " ")
}

func TestOne(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		action Action
		want   string
		lines  []string
	}{
		{Delete, "- - - -", []string{"ID0: removed", "ID1: removed", "ID2: removed", "ID3: removed"}},
		{Hold, "hold hold hold hold", []string{"ID0: placed on hold", "ID1: placed on hold", "ID2: placed on hold"}},
		{Release, "incoming active deferred deferred", []string{"ID3: released from hold"}},
		{Requeue, "maildrop maildrop maildrop maildrop", []string{"ID0: requeued", "ID1: requeued", "ID2: requeued", "ID3: requeued"}},
		{Expire, "incoming# active# deferred# hold#", []string{"ID0: expired", "ID1: expired", "ID2: expired", "ID3: expired"}},
	} {
		f := newFixture(t)
		for range 2 { // the second time there is nothing to do, or nothing to say
			for _, id := range f.ids {
				if err := f.One(test.action, string(id)); err != nil {
					t.Error(err)
				}
			}
			if test.action == Delete || test.action == Requeue {
				break
			}
		}
		if got := f.where(t); got != test.want {
			t.Errorf("action %d: %s, want %s", test.action, got, test.want)
		}
		if diff := cmp.Diff(test.lines, f.lines); diff != "" {
			t.Errorf("action %d: %s", test.action, diff)
		}
		if f.Counts[test.action] != len(test.lines) {
			t.Errorf("action %d: counted %d", test.action, f.Counts[test.action])
		}
	}
}

func TestAll(t *testing.T) {
	t.Parallel()
	for actions, want := range map[Action]string{
		Delete: "- - - -", Hold: "hold hold hold hold", Release: "incoming active deferred deferred", Requeue: "maildrop maildrop maildrop maildrop",
		Expire: "incoming# active# deferred# hold#", Expire | Release: "incoming# active# deferred# deferred#",
	} {
		f := newFixture(t)
		if err := f.All(actions); err != nil {
			t.Error(err)
		}
		if got := f.where(t); got != want || len(f.lines) > 0 {
			t.Errorf("action %d: %s, want %s; said %v", actions, got, want, f.lines)
		}
	}
	f := newFixture(t)
	f.Queues = []string{"deferred"}
	if err := f.All(Delete); err != nil || f.where(t) != "incoming active - hold" || f.Counts[Delete] != 1 {
		t.Errorf("%s %v %v", f.where(t), f.Counts, err)
	}
}

// No text becomes a path unless it is a queue id.
func TestBadIDs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bad := []string{"", "..", "../hold/x", "a b", strings.Repeat("A", 1000), "x\x00"}
	if err := f.Stream([]Action{Delete}, strings.NewReader(strings.Join(bad, "\n")+"\nNOSUCHID1\n"+string(f.ids[0])+"\n")); err != nil {
		t.Error(err)
	}
	if f.where(t) != "- active deferred hold" || len(f.lines) != len(bad)+1 {
		t.Errorf("%s %q", f.where(t), f.lines)
	}
}

func TestFixAndPurge(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	put := func(path string, perm fs.FileMode, age time.Duration) {
		file, err := f.mem.Create(path, perm)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		if err := f.mem.Chtimes(path, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	put("incoming/ABCDE01", 0o600, 8*24*time.Hour)
	put("incoming/ABCDE02", 0o600, time.Hour)
	put("incoming/ABCDE03", 0o700, 8*24*time.Hour)
	put("hold/not-an-id", 0o700, 0)
	f.Layout = spool.NewLayout(f.mem, spool.Config{HashNames: "incoming", HashDepth: 2})
	if err := f.All(Fix | Purge); err != nil {
		t.Fatal(err)
	}
	if got := f.where(t); got != "incoming active deferred hold" {
		t.Errorf("after a change of hash_queue_names: %s", got)
	}
	var left []string
	_ = f.Layout.Walk("incoming", func(found spool.Found) error { left = append(left, found.Path); return nil })
	if text := fmt.Sprint(left); len(left) != 3 || strings.Contains(text, "ABCDE01") || !strings.Contains(text, "incoming/A/B/ABCDE02") {
		t.Errorf("left %v", left)
	}
	if diff := cmp.Diff([]string{"warning: bogus file name: hold/not-an-id"}, f.lines); diff != "" {
		t.Error(diff)
	}
	n := 0
	_ = f.mem.ReadDir("deferred", func(name string) bool { n += len(name); return true })
	if n != len(f.ids[2]) {
		t.Errorf("deferred still has subdirectories (%d)", n)
	}
}
