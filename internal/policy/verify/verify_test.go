package verify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/sys/maillog"
)

// bench is a service with a clock of its own.
type bench struct {
	*Service
	t      *testing.T
	now    time.Time
	probes []string
	fail   error
	log    *maillog.Memory
}

func newBench(t *testing.T, cache Cache, change func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Unix(1_000_000_000, 0), log: &maillog.Memory{}}
	c := Config{Sender: "double-bounce", PositiveExpire: 31 * 24 * time.Hour, PositiveRefresh: 7 * 24 * time.Hour,
		NegativeCache: true, NegativeExpire: 3 * 24 * time.Hour, NegativeRefresh: 3 * time.Hour, Cleanup: 12 * time.Hour, Pending: 3}
	if change != nil {
		change(&c)
	}
	b.Service = New(c, Deps{Cache: cache, Log: maillog.New(b.log, "verify", 1, nil), Now: func() time.Time { return b.now },
		Probe: func(_ context.Context, sender, recipient addr.Address) error {
			b.probes = append(b.probes, string(sender+" "+recipient))
			return b.fail
		}})
	return b
}

// ask queries and checks the answer and how many probes there were so far.
func (b *bench) ask(a addr.Address, want restrict.VerificationState, text string, probes int) {
	b.t.Helper()
	v, err := b.Query(context.Background(), a)
	if err != nil || v.State != want || v.Text != text || len(b.probes) != probes {
		b.t.Errorf("%s: state %d %q, %v, %d probes; want state %d %q, %d probes", a, v.State, v.Text, err, len(b.probes), want, text, probes)
	}
}

var (
	yes   = dsn.New(250, "2.1.5", "250 2.1.5 Ok")
	later = dsn.New(450, "4.2.1", "not now")
	no    = dsn.New(550, "5.1.1", "no such user")
)

// eachCache runs a test with every kind of cache.
func eachCache(t *testing.T, test func(t *testing.T, c Cache)) {
	t.Run("memory", func(t *testing.T) { t.Parallel(); test(t, Memory()) })
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		c, err := Open(filepath.Join(t.TempDir(), "cache"), "btree:cache")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		test(t, c)
	})
}

func TestLifeOfAnAddress(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, c Cache) {
		b := newBench(t, c, nil)
		b.ask("u@a.example", restrict.VerifyPending, inProgress, 1)
		b.ask("u@a.example", restrict.VerifyPending, inProgress, 1) // one probe at a time
		b.now = b.now.Add(probeTTL + time.Second)
		b.ask("u@a.example", restrict.VerifyPending, inProgress, 2) // the answer got lost
		b.Probed("u@a.example", yes)
		b.ask("u@a.example", restrict.VerifyOK, "250 2.1.5 Ok", 2)
		b.now = b.now.Add(8 * 24 * time.Hour)
		b.ask("u@a.example", restrict.VerifyOK, "250 2.1.5 Ok", 3) // refreshed in the background
		b.Probed("u@a.example", no)                                // does not displace a good result
		b.ask("u@a.example", restrict.VerifyOK, "250 2.1.5 Ok", 3)
		b.now = b.now.Add(24 * 24 * time.Hour)
		b.ask("u@a.example", restrict.VerifyPending, inProgress, 4) // expired
		b.Probed("u@a.example", no)
		b.ask("u@a.example", restrict.VerifyBounced, "no such user", 4)
		b.now = b.now.Add(4 * time.Hour)
		b.ask("u@a.example", restrict.VerifyBounced, "no such user", 5)
		b.Probed("u@a.example", later)
		b.ask("u@a.example", restrict.VerifyDeferred, "not now", 5)
	})
}

func TestWithoutNegativeCache(t *testing.T) {
	t.Parallel()
	b := newBench(t, Memory(), func(c *Config) { c.NegativeCache = false })
	b.ask("u@a.example", restrict.VerifyPending, inProgress, 1)
	b.Probed("u@a.example", no)
	b.ask("u@a.example", restrict.VerifyPending, inProgress, 2)
}

func TestProbeCannotBeQueued(t *testing.T) {
	t.Parallel()
	b := newBench(t, Memory(), nil)
	b.fail = errors.New("disk full")
	if _, err := b.Query(context.Background(), "u@a.example"); !errors.Is(err, b.fail) {
		t.Errorf("error %v", err)
	}
	b.fail = nil
	b.ask("u@a.example", restrict.VerifyPending, inProgress, 2) // at once
}

func TestPendingProbesAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, Memory(), nil)
	for i, a := range []addr.Address{"a@x", "b@x", "c@x"} {
		b.ask(a, restrict.VerifyPending, inProgress, i+1)
	}
	b.ask("d@x", restrict.VerifyPending, inProgress, 3)
	if !strings.Contains(b.log.String(), "address_verify_pending_request_limit") {
		t.Error("the limit is not logged")
	}
	b.Probed("a@x", yes)
	b.ask("d@x", restrict.VerifyPending, inProgress, 4)
}

func TestCleanup(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, c Cache) {
		b := newBench(t, c, nil)
		b.Probed("good@x", yes)
		b.Probed("bad@x", no)
		b.ask("good@x", restrict.VerifyOK, "250 2.1.5 Ok", 0)
		b.now = b.now.Add(6 * time.Hour)
		b.ask("good@x", restrict.VerifyOK, "250 2.1.5 Ok", 0)
		b.now = b.now.Add(5 * 24 * time.Hour)
		b.ask("good@x", restrict.VerifyOK, "250 2.1.5 Ok", 0)
		want := "verify: cache " + c.Name() + " full cleanup: retained=2 dropped=0 entries\nverify: cache " + c.Name() + " full cleanup: retained=1 dropped=1 entries"
		if b.log.String() != want {
			t.Errorf("log:\n%s\nwant:\n%s", b.log, want)
		}
	})
}

func TestSender(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sender string
		ttl    time.Duration
		want   addr.Address
	}{
		{"double-bounce", 0, "double-bounce"}, {"", time.Hour, ""}, {"<>", time.Hour, ""},
		{"probe", time.Hour, "probe9a1h"}, {"probe@a.example", time.Hour, "probe9a1h@a.example"},
	} {
		b := newBench(t, Memory(), func(c *Config) { c.Sender, c.SenderTTL = test.sender, test.ttl })
		if got := b.sender(b.now); got != test.want {
			t.Errorf("%s: %s, want %s", test.sender, got, test.want)
		}
	}
}

func TestFileIsKeptAndReplacedWhenDamaged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cache")
	c, err := Open(path, "x")
	if err != nil {
		t.Fatal(err)
	}
	c.put("u@a", entry{state: stateOK, updated: time.Unix(5, 0), text: "a:b"})
	c.Close()
	if c, err = Open(path, "x"); err != nil {
		t.Fatal(err)
	}
	if e, ok := c.get("u@a"); !ok || e.text != "a:b" || e.updated.Unix() != 5 || !e.probed.IsZero() {
		t.Errorf("got %+v %v", e, ok)
	}
	if other, err := Open(path, "x"); err == nil {
		other.Close()
		t.Error("opened twice")
	}
	c.Close()
	if err := os.WriteFile(path, []byte(strings.Repeat("garbage", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = Open(path, "x"); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.get("u@a"); ok {
		t.Error("a damaged file has answers")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0:1:2:text")
	f.Add("9:1:2:text")
	f.Add(":::")
	f.Fuzz(func(t *testing.T, text string) {
		if e, ok := parse(text); ok {
			if again, ok := parse(e.encode()); !ok || again.state != e.state || !again.updated.Equal(e.updated) {
				t.Errorf("%q becomes %q", text, e.encode())
			}
		}
	})
}
