package qmgr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within runs f in virtual time, with a queue manager that is stopped after.
func within(t *testing.T, change func(*Config), f func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change)
		w.start()
		defer w.stop()
		f(t, w)
	})
}

// wait lets virtual time pass.
func wait(d time.Duration) { time.Sleep(d); synctest.Wait() }

func (w *world) wantLog(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(w.log.String(), line) {
			t.Errorf("no line %q in log:\n%s", line, w.log)
		}
	}
}

func (w *world) wantEmpty(t *testing.T) {
	t.Helper()
	for id, m := range w.store.messages {
		t.Errorf("%s is left: %+v\n%s", id, m.meta, w.log)
	}
}

func TestDelivered(t *testing.T) {
	within(t, nil, func(t *testing.T, w *world) {
		w.store.put(mail("s@x", "a@d.example", "b@d.example", "c@e.example", "u@local.example", "v@local.example"), queue.Incoming)
		wait(time.Second)
		w.wantEmpty(t)
		slices.Sort(w.agent.calls)
		want := []string{"local:local.example from=<s@x> u@local.example", "local:local.example from=<s@x> v@local.example",
			"smtp:d.example from=<s@x> a@d.example b@d.example", "smtp:e.example from=<s@x> c@e.example"}
		if !slices.Equal(w.agent.calls, want) {
			t.Errorf("%q", w.agent.calls)
		}
		w.wantLog(t, "postfix/qmgr: ID1: from=<s@x>, size=18, nrcpt=5 (queue active)",
			"postfix/local: ID1: to=<u@local.example>, relay=fake, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (delivered)",
			"postfix/qmgr: ID1: removed")
	})
}

// TestFiveDays follows a message that cannot be delivered through its life:
// the times of the attempts, the warning, the return.
func TestFiveDays(t *testing.T) {
	within(t, func(c *Config) { c.DelayWarning = 4 * time.Hour }, func(t *testing.T, w *world) {
		start := time.Now()
		id := w.store.put(mail("s@x", "later@d.example", "ok@d.example", "bad@d.example"), queue.Incoming)
		var attempts []time.Duration
		seen := 0
		for time.Since(start) < 6*24*time.Hour {
			wait(100 * time.Second)
			w.agent.mu.Lock()
			if n := w.agent.tries["later@d.example"]; n > seen {
				attempts, seen = append(attempts, time.Since(start).Round(100*time.Second)), n
			}
			w.agent.mu.Unlock()
		}
		w.wantEmpty(t)
		if w.agent.tries["ok@d.example"] != 1 || w.agent.tries["bad@d.example"] != 1 {
			t.Error("tried again", w.agent.tries)
		}
		want := fmt.Sprintf(`%[1]s failure: bad@d.example failed 5.1.1 (no such user)
%[1]s delay: later@d.example delayed 4.2.0 (not now)
%[1]s failure: later@d.example failed 4.2.0 (not now)`, id)
		if w.bouncer.String() != want {
			t.Errorf("%s\nwant\n%s", w.bouncer, want)
		}
		if len(attempts) < 100 || len(attempts) > 120 || attempts[1] > 700*time.Second {
			t.Error(len(attempts), attempts[:5])
		}
		for i, at := range attempts[1:] {
			if gap := at - attempts[i]; gap > 4400*time.Second || gap < 200*time.Second {
				t.Errorf("%v after the last attempt", gap)
			}
		}
		w.wantLog(t, "ID1: from=<s@x>, status=expired, returned to sender", "ID1: removed")
	})
}

func TestBounceLifetime(t *testing.T) {
	within(t, func(c *Config) { c.BounceLifetime = time.Hour }, func(t *testing.T, w *world) {
		w.store.put(mail("", "later@d.example"), queue.Incoming)
		kept := w.store.put(mail("s@x", "later@d.example"), queue.Incoming)
		wait(4 * time.Hour)
		w.wantLog(t, "ID1: from=<>, status=expired, returned to sender")
		if meta, ok := w.store.get(kept); !ok || meta.Queue != queue.Deferred || meta.Reasons[0].Text() != "not now" || meta.Attempts < 2 {
			t.Error(meta, ok)
		}
	})
}

func TestAnswersWithoutAgent(t *testing.T) {
	within(t, func(c *Config) { c.DeferTransport = "smtp, x" }, func(t *testing.T, w *world) {
		w.store.put(mail("s@x", "a@nosuch.example"), queue.Incoming)
		w.store.put(mail("s@x", "a@nosuch.example"), queue.Incoming)
		w.store.put(mail("s@x", "a@d.example"), queue.Incoming)
		w.store.put(mail("s@x", "a@malformed.example"), queue.Incoming)
		w.store.put(mail("s@x", "double-bounce@local.example", ""), queue.Incoming)
		wait(time.Second)
		w.wantLog(t, "postfix/qmgr: warning: connect to transport private/nosuch: No such file or directory",
			"postfix/error: ID1: to=<a@nosuch.example>, relay=none, delay=0, delays=0/0/0/0, dsn=4.3.0, status=deferred (mail transport unavailable)",
			"postfix/error: ID3: to=<a@d.example>, relay=none, delay=0, delays=0/0/0/0, dsn=4.3.2, status=deferred (deferred transport)",
			"postfix/error: ID4: to=<a@malformed.example>, relay=none, delay=0, delays=0/0/0/0, dsn=5.1.3, status=bounced (bad address syntax)",
			"postfix/qmgr: ID5: to=<double-bounce@local.example>, relay=none, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (undeliverable postmaster notification discarded)",
			"ID5: to=<>, relay=none, delay=0, delays=0/0/0/0, dsn=5.1.3, status=bounced (null recipient address)")
		if n := strings.Count(w.log.String(), "connect to transport"); n != 1 {
			t.Errorf("warned %d times", n)
		}
		if err := w.loop.Flush(context.Background()); err != nil { // overrides defer_transports
			t.Fatal(err)
		}
		wait(time.Second)
		if w.agent.sent["a@d.example"] != 1 {
			t.Error("flush did not deliver\n", w.log)
		}
	})
}

func TestResolverTrouble(t *testing.T) {
	within(t, nil, func(t *testing.T, w *world) {
		w.resolver.fail = errors.New("table is gone")
		w.store.put(mail("s@x", "a@d.example"), queue.Incoming)
		wait(time.Second)
		w.wantLog(t, "postfix/error: ID1: to=<a@d.example>, relay=none, delay=0, delays=0/0/0/0, dsn=4.3.0, status=deferred (address resolver failure)")
		w.resolver.fail = nil
		w.store.put(mail("s@x", "a@panic.example"), queue.Incoming)
		wait(700 * time.Second)
		if w.agent.sent["a@d.example"] != 1 || len(w.store.messages) != 1 {
			t.Error(w.log)
		}
		w.wantLog(t, "panic: ID2: open: resolver broke")
	})
}

func TestBrokenAgents(t *testing.T) {
	within(t, nil, func(t *testing.T, w *world) {
		w.store.put(mail("s@x", "panic@d.example", "silent@e.example", "wrong@f.example"), queue.Incoming)
		wait(time.Second)
		for _, rcpt := range []string{"panic@d.example", "silent@e.example", "wrong@f.example"} {
			w.wantLog(t, "postfix/error: ID1: to=<"+rcpt+">, relay=none, delay=0, delays=0/0/0/0, dsn=4.3.0, status=deferred (unknown mail transport error)")
		}
		w.wantLog(t, "postfix/smtp: panic: ID1: agent broke", "postfix/qmgr: warning: transport smtp failure",
			"postfix/qmgr: warning: ID1: transport smtp: answer about recipient 99 that was not asked for")
		if meta, _ := w.store.get("ID1"); meta.Queue != queue.Deferred || len(meta.Pending) != 3 {
			t.Error(meta)
		}
	})
}

// TestHangingAgent: a delivery that never ends is cut off at its deadline.
func TestHangingAgent(t *testing.T) {
	within(t, func(c *Config) { c.AgentDeadline = time.Hour }, func(t *testing.T, w *world) {
		w.store.put(mail("s@x", "hang@d.example"), queue.Incoming)
		wait(59 * time.Minute)
		if active, err := w.loop.Active(context.Background()); err != nil || !active["ID1"] {
			t.Error(active, err)
		}
		wait(2 * time.Minute)
		w.wantLog(t, "ID1: to=<hang@d.example>, relay=none, delay=3600, delays=0/3600/0/0, dsn=4.3.0, status=deferred (unknown mail transport error)")
	})
}

func TestDeadDestination(t *testing.T) {
	within(t, nil, func(t *testing.T, w *world) {
		var rcpts []addr.Address
		for i := range 600 {
			rcpts = append(rcpts, addr.Address(fmt.Sprintf("down-%d@d.example", i)))
		}
		w.store.put(mail("s@x", rcpts...), queue.Incoming)
		wait(time.Second)
		if n := len(w.agent.calls); n != 5 {
			t.Errorf("%d attempts", n)
		}
		if n := strings.Count(w.log.String(), "status=deferred (delivery temporarily suspended: connect: Connection refused)"); n != 350 {
			t.Errorf("%d suspended", n)
		}
		if meta, _ := w.store.get("ID1"); len(meta.Pending) != 600 || len(meta.Reasons) != 600 || meta.Queue != queue.Deferred {
			t.Error(len(meta.Pending), len(meta.Reasons), meta.Queue)
		}
		w.store.put(mail("s@x", "down-x@d.example"), queue.Incoming)
		wait(time.Second)
		w.wantLog(t, "postfix/error: ID2: to=<down-x@d.example>, relay=none, delay=0, delays=0/0/0/0, dsn=4.4.1, status=deferred (delivery temporarily suspended: connect: Connection refused)")
	})
}

func TestSoftBounce(t *testing.T) {
	within(t, func(c *Config) { c.SoftBounce = true }, func(t *testing.T, w *world) {
		w.store.put(mail("s@x", "bad@d.example"), queue.Incoming)
		wait(time.Second)
		w.wantLog(t, "dsn=4.1.1, status=SOFTBOUNCE (no such user)")
		if meta, _ := w.store.get("ID1"); meta.Queue != queue.Deferred || w.bouncer.String() != "" {
			t.Error(meta, w.bouncer)
		}
	})
}

func TestExpansion(t *testing.T) {
	within(t, nil, func(t *testing.T, w *world) {
		w.store.put(mail("s@x", "expand@local.example"), queue.Incoming)
		wait(time.Second)
		if meta, _ := w.store.get("ID1"); meta.Queue != queue.Deferred || w.bouncer.String() != "" {
			t.Error(meta, w.bouncer)
		}
		wait(700 * time.Second)
		w.wantEmpty(t)
		if got := w.bouncer.String(); got != "ID1 failure: part2@x failed 5.1.1 (no such user)" {
			t.Error(got)
		}
	})
}

func TestReportsOnSuccess(t *testing.T) {
	within(t, func(c *Config) { c.ConfirmCleared, c.DelayWarning = true, 100*time.Second }, func(t *testing.T, w *world) {
		e := mail("s@x", "a@d.example", "relayed@d.example", "remote@d.example", "b@d.example")
		for i := range 3 {
			e.Recipients[i].Notify = envelope.NotifySuccess
		}
		if err := w.loop.Expanded(context.Background(), "ID1", e, envelope.Recipient{Address: "list@d.example"}); err != nil {
			t.Fatal(err)
		}
		w.store.put(e, queue.Incoming)
		trace := mail("s@x", "a@d.example", "bad@d.example", "once@d.example")
		trace.Trace = envelope.TraceReport
		wait(time.Second)
		w.store.put(trace, queue.Incoming)
		wait(time.Second)
		verify := mail("s@x", "a@d.example", "bad@d.example", "later@d.example")
		verify.Trace = envelope.TraceVerify
		w.store.put(verify, queue.Incoming)
		probe := mail("s@x", "bad@d.example")
		probe.Trace = envelope.TraceProbe
		wait(time.Second)
		w.store.put(probe, queue.Incoming)
		wait(time.Second)
		w.store.put(mail("s@x", "once-x@d.example"), queue.Incoming)
		wait(1000 * time.Second)
		w.wantEmpty(t)
		const sent, bad, not = "2.0.0 (delivered)", "5.1.1 (no such user)", "4.2.0 (not now)"
		want := []string{
			"ID1 success: list@d.example expanded 2.0.0 (alias expanded); a@d.example delivered " + sent + "; relayed@d.example relayed " + sent,
			"ID2 failure: bad@d.example failed " + bad,
			"ID2 verify: a@d.example delivered " + sent + "; bad@d.example failed " + bad + "; once@d.example delayed " + not,
			"ID3 verify: a@d.example deliverable " + sent + "; bad@d.example undeliverable " + bad + "; later@d.example undeliverable " + not,
		}
		got := strings.Split(w.bouncer.String(), "\n")
		if len(got) < 4 || !slices.Equal(got[:4], want) {
			t.Errorf("%s", w.bouncer)
		}
		if !slices.Equal(w.probed, []string{"bad@d.example 5.1.1"}) {
			t.Error(w.probed)
		}
	})
}

func TestConfirmDelayCleared(t *testing.T) {
	within(t, func(c *Config) { c.ConfirmCleared, c.DelayWarning = true, 1*time.Second }, func(t *testing.T, w *world) {
		w.store.put(mail("s@x", "once@d.example"), queue.Incoming)
		wait(1000 * time.Second)
		if got := w.bouncer.String(); got != "ID1 delay: once@d.example delayed 4.2.0 (not now)\nID1 success: once@d.example delivered 2.0.0 (delivered)" {
			t.Error(got)
		}
	})
}

func TestFilterRedirectVERP(t *testing.T) {
	within(t, nil, func(t *testing.T, w *world) {
		filter := mail("s@x", "a@d.example", "b@local.example")
		filter.Filter = "smtp:[127.0.0.1]:10024"
		w.store.put(filter, queue.Incoming)
		wait(time.Second)
		domain := mail("s@x", "a@d.example")
		domain.Filter = "local:"
		w.store.put(domain, queue.Incoming)
		wait(time.Second)
		redirect := mail("s@x", "later@d.example", "b@d.example")
		redirect.Redirect = "other@e.example"
		w.store.put(redirect, queue.Incoming)
		wait(time.Second)
		verp := mail("owner@x", "a@local.example")
		verp.Verp = "+="
		w.store.put(verp, queue.Incoming)
		wait(time.Second)
		w.wantEmpty(t)
		want := []string{"smtp:[127.0.0.1]:10024 from=<s@x> a@d.example b@local.example", "local:d.example from=<s@x> a@d.example",
			"smtp:e.example from=<s@x> other@e.example", "local:local.example from=<owner+a=local.example@x> a@local.example"}
		if !slices.Equal(w.agent.calls, want) {
			t.Errorf("%q", w.agent.calls)
		}
	})
}

func TestPostsuper(t *testing.T) {
	within(t, nil, func(t *testing.T, w *world) {
		w.store.put(mail("s@x", "later@d.example"), queue.Incoming)
		w.store.put(mail("s@x", "later@d.example"), queue.Hold)
		w.store.put(mail("s@x", "later@d.example", "bad@d.example"), queue.Incoming)
		wait(time.Second)
		w.store.change("ID1", func(m *queue.Meta) { m.ForceExpire = true })
		if err := w.loop.ScanDeferred(context.Background()); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		if _, ok := w.store.get("ID1"); ok || w.agent.tries["later@d.example"] != 2 {
			t.Error(ok, w.agent.tries)
		}
		w.wantLog(t, "ID1: from=<s@x>, status=force-expired, returned to sender")
		w.store.change("ID2", func(m *queue.Meta) { m.Queue, m.ForceExpire = queue.Incoming, true })
		if err := w.loop.ScanIncoming(context.Background()); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		w.wantLog(t, "ID2: to=<later@d.example>, relay=none, delay=2, delays=2/0/0/0, dsn=4.7.0, status=deferred (message is administratively expired)",
			"ID2: from=<s@x>, status=force-expired, returned to sender")
	})
}

// TestChangedUnderWay: postsuper(1) changes messages while they are delivered.
func TestChangedUnderWay(t *testing.T) {
	within(t, nil, func(t *testing.T, w *world) {
		w.agent.delay = 10 * time.Second
		w.store.put(mail("s@x", "later@d.example"), queue.Incoming)
		w.store.put(mail("s@x", "later@d.example"), queue.Incoming)
		w.store.put(mail("s@x", "later@d.example"), queue.Incoming)
		wait(time.Second)
		w.store.change("ID1", func(m *queue.Meta) { m.Queue = queue.Hold })
		w.store.change("ID2", func(m *queue.Meta) { m.ForceExpire = true })
		w.store.mu.Lock()
		delete(w.store.messages, "ID3")
		w.store.mu.Unlock()
		wait(20 * time.Second)
		if meta, _ := w.store.get("ID1"); meta.Queue != queue.Hold || meta.Reasons[0].Text() != "not now" {
			t.Error(meta)
		}
		if meta, _ := w.store.get("ID2"); meta.Queue != queue.Deferred || !meta.ForceExpire {
			t.Error(meta)
		}
	})
}

func TestFlushRequests(t *testing.T) {
	within(t, nil, func(t *testing.T, w *world) {
		for _, a := range []addr.Address{"later@d.example", "later@e.example", "later@E.example"} {
			w.store.put(mail("s@x", a), queue.Incoming)
		}
		wait(time.Second)
		tries := func() string {
			w.agent.mu.Lock()
			defer w.agent.mu.Unlock()
			return fmt.Sprint(w.agent.tries)
		}
		step := func(err error, want string) {
			t.Helper()
			wait(time.Second)
			if err != nil || tries() != want {
				t.Errorf("%v %s, want %s", err, tries(), want)
			}
		}
		ctx := context.Background()
		step(nil, "map[later@E.example:1 later@d.example:1 later@e.example:1]")
		step(w.loop.FlushID(ctx, "ID1"), "map[later@E.example:1 later@d.example:2 later@e.example:1]")
		step(w.loop.FlushSite(ctx, "e.example"), "map[later@E.example:2 later@d.example:2 later@e.example:2]")
		step(w.loop.Flush(ctx), "map[later@E.example:3 later@d.example:3 later@e.example:3]")
		step(w.loop.ScanDeferred(ctx), "map[later@E.example:3 later@d.example:3 later@e.example:3]")
	})
}

// TestActiveLeftByCrash: what an earlier life left in the active queue is
// taken up, and reports on failures that it did not send are sent.
func TestActiveLeftByCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.store.put(mail("s@x", "a@d.example", "bad@d.example"), queue.Active)
		<-w.store.arrivals
		w.store.change("ID1", func(m *queue.Meta) {
			m.Pending, m.Failed = []int{0}, []queue.Done{{Recipient: 1, Status: dsn.New(550, "5.1.1", "no")}}
		})
		w.start()
		wait(time.Second)
		w.wantEmpty(t)
		if w.bouncer.String() != "ID1 failure: bad@d.example failed 5.1.1 (no)" || w.agent.tries["bad@d.example"] != 0 {
			t.Error(w.bouncer, w.agent.tries)
		}
		w.stop()
	})
}

// TestStop: what runs is let finish for a while; what is cut off stays as it
// was, and the next life delivers it without repeating the rest.
func TestStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.start()
		w.store.put(mail("s@x", "a@d.example", "bad@e.example", "hang@f.example"), queue.Incoming)
		w.store.put(mail("s@x", "later@d.example"), queue.Deferred)
		wait(time.Second)
		w.stop()
		if err := w.loop.Flush(context.Background()); !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
		meta, ok := w.store.get("ID1")
		if !ok || !slices.Equal(meta.Pending, []int{2}) || len(meta.Failed) != 1 || meta.Queue != queue.Incoming {
			t.Errorf("%+v", meta)
		}
		close(w.agent.hang)
		again := newWorld(t, nil)
		again.store.messages = w.store.messages
		again.start()
		wait(time.Second)
		if again.agent.tries["a@d.example"] != 0 || again.agent.tries["hang@f.example"] != 1 {
			t.Error(again.agent.tries)
		}
		if got := again.bouncer.String(); got != "" { // the pass is not over
			t.Error(got)
		}
		again.stop()
	})
}

// TestStoreTrouble: while the store cannot record, nothing is delivered twice;
// when it works again everything is recorded.
func TestStoreTrouble(t *testing.T) {
	for _, op := range []string{"update", "remove", "open", "scan"} {
		t.Run(op, func(t *testing.T) {
			within(t, nil, func(t *testing.T, w *world) {
				w.store.mu.Lock()
				w.store.fail = func(o string, _ queue.ID) error {
					if o == op {
						return errors.New("input/output error")
					}
					return nil
				}
				w.store.mu.Unlock()
				w.store.put(mail("s@x", "a@d.example"), queue.Incoming)
				w.store.put(mail("s@x", "b@d.example", "bad@d.example", "once@d.example"), queue.Incoming)
				wait(2000 * time.Second)
				w.store.mu.Lock()
				w.store.fail = nil
				w.store.mu.Unlock()
				wait(10000 * time.Second)
				w.wantEmpty(t)
				if w.agent.sent["a@d.example"] != 1 || w.agent.sent["b@d.example"] != 1 || w.agent.sent["once@d.example"] != 1 || w.bouncer.failed["bad@d.example"] != 1 {
					t.Errorf("%v %v\n%s", w.agent.sent, w.bouncer, w.log)
				}
			})
		})
	}
}

func TestBounceTrouble(t *testing.T) {
	within(t, nil, func(t *testing.T, w *world) {
		w.bouncer.fail = errors.New("no space")
		w.store.put(mail("s@x", "bad@d.example"), queue.Incoming)
		wait(time.Second)
		w.wantLog(t, "postfix/qmgr: ID1: status=deferred (bounce failed)")
		if meta, ok := w.store.get("ID1"); !ok || meta.Queue != queue.Deferred || len(meta.Failed) != 1 || len(meta.Pending) != 0 {
			t.Errorf("%+v", meta)
		}
		w.bouncer.mu.Lock()
		w.bouncer.fail = nil
		w.bouncer.mu.Unlock()
		wait(1000 * time.Second)
		w.wantEmpty(t)
		if w.bouncer.failed["bad@d.example"] != 1 || w.agent.tries["bad@d.example"] != 1 {
			t.Error(w.bouncer, w.agent.tries)
		}
	})
}

func TestActiveLimit(t *testing.T) {
	within(t, func(c *Config) { c.ActiveLimit = 3 }, func(t *testing.T, w *world) {
		w.agent.delay = 10 * time.Second
		for i := range 10 {
			w.store.put(mail("s@x", addr.Address(fmt.Sprintf("u%d@d%d.example", i, i))), queue.Incoming)
		}
		wait(time.Second)
		if active, err := w.loop.Active(context.Background()); err != nil || len(active) != 3 {
			t.Error(active, err)
		}
		wait(50 * time.Second)
		w.wantEmpty(t)
	})
}

func TestReconfigure(t *testing.T) {
	within(t, nil, func(t *testing.T, w *world) {
		w.agent.delay = 10 * time.Second
		w.store.put(mail("s@x", "bad@d.example"), queue.Incoming)
		wait(time.Second)
		cfg := w.cfg
		cfg.SoftBounce = true
		delete(w.agents, "local")
		if err := w.loop.Reconfigure(context.Background(), cfg, w.neighbours()); err != nil {
			t.Fatal(err)
		}
		w.store.put(mail("s@x", "bad-2@d.example", "u@local.example"), queue.Incoming)
		wait(20 * time.Second)
		w.wantLog(t, "ID1: to=<bad@d.example>, relay=fake, delay=10, delays=0/0/0/10, dsn=5.1.1, status=bounced",
			"ID2: to=<bad-2@d.example>, relay=fake, delay=10, delays=0/0/0/10, dsn=4.1.1, status=SOFTBOUNCE",
			"ID2: to=<u@local.example>, relay=none, delay=0, delays=0/0/0/0, dsn=4.3.0, status=deferred (mail transport unavailable)")
	})
}

// TestReleased: former neighbours are let go when nothing uses them any more,
// and not before.
func TestReleased(t *testing.T) {
	within(t, nil, func(t *testing.T, w *world) {
		var released atomic.Int32 // called from the loop
		n := w.neighbours()
		n.Released = func() { released.Add(1) }
		reconfigure := func(n Neighbours) {
			t.Helper()
			if err := w.loop.Reconfigure(context.Background(), w.cfg, n); err != nil {
				t.Fatal(err)
			}
		}
		reconfigure(n)
		w.agent.delay = 10 * time.Second
		w.store.put(mail("s@x", "ok@d.example"), queue.Incoming)
		wait(time.Second)
		reconfigure(w.neighbours())
		if wait(time.Second); released.Load() != 0 {
			t.Error("released while a delivery is under way")
		}
		if wait(20 * time.Second); released.Load() != 1 {
			t.Errorf("released %d times after the delivery", released.Load())
		}
	})
}

// TestEveryRecipientAnswered is the promise of the package: whatever agents,
// resolver and store do, every recipient is delivered once, or reported once,
// or still queued; and in the end none is queued.
func TestEveryRecipientAnswered(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		kinds := []string{"ok", "bad", "later", "once", "panic", "silent", "wrong", "down", "relayed"}
		var mails [][]addr.Address
		for i := range rapid.IntRange(1, 5).Draw(rt, "messages") {
			var rcpts []addr.Address
			for j := range rapid.IntRange(1, 6).Draw(rt, "recipients") {
				kind := rapid.SampledFrom(kinds).Draw(rt, "kind")
				domain := rapid.SampledFrom([]string{"a.example", "b.example", "local.example"}).Draw(rt, "domain")
				rcpts = append(rcpts, addr.Address(fmt.Sprintf("%s-%d-%d@%s", kind, i, j, domain)))
			}
			mails = append(mails, rcpts)
		}
		faults := rapid.SliceOfN(rapid.IntRange(0, 40), 0, 10).Draw(rt, "faults")
		restart := rapid.IntRange(0, 3).Draw(rt, "restart")
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.MaxLifetime, c.QueueRunDelay = 24*time.Hour, 1000*time.Second })
			calls := 0
			w.store.fail = func(op string, _ queue.ID) error {
				calls++
				if slices.Contains(faults, calls) {
					return errors.New("input/output error")
				}
				return nil
			}
			w.start()
			all := 0
			for _, rcpts := range mails {
				all += len(rcpts)
				w.store.put(mail("s@x", rcpts...), queue.Incoming)
			}
			for range restart {
				wait(400 * time.Second)
				w.stop()
				w.loop = New(w.cfg, w.neighbours(), w.loop.deps)
				w.start()
			}
			wait(30 * time.Hour)
			w.stop()
			w.wantEmpty(t)
			for _, rcpts := range mails {
				for _, r := range rcpts {
					n := w.agent.sent[r] + w.bouncer.failed[r]
					repeated := n > 1 && restart > 0 && len(faults) > 0 // stopped before it could be recorded
					if n != 1 && !repeated {
						t.Fatalf("%s: sent %d, reported %d\n%s\n%s", r, w.agent.sent[r], w.bouncer.failed[r], w.bouncer, w.log)
					}
				}
			}
		})
	})
}

// BenchmarkArrivals counts messages through the queue manager with an agent
// that does nothing.
func BenchmarkArrivals(b *testing.B) {
	w := newWorld(b, nil)
	w.store.arrivals = make(chan queue.ID, 4096)
	w.agents["smtp"] = Service{Agent: w.agent, Limits: limits()}
	w.loop = New(w.cfg, w.neighbours(), Deps{Store: w.store})
	w.start()
	envs := make([]*envelope.Envelope, 100)
	for i := range envs {
		envs[i] = mail("s@x", addr.Address(fmt.Sprintf("ok@d%d.example", i)))
	}
	n := 0
	for b.Loop() {
		w.store.put(envs[n%len(envs)], queue.Incoming)
		n++
		for {
			w.store.mu.Lock()
			left := len(w.store.messages)
			w.store.mu.Unlock()
			if left < 2000 {
				break
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	w.stop()
}
