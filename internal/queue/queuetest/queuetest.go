// Package queuetest holds the promises of package queue as tests: one
// conformance suite for every Store, a model that a random run is compared
// with, and a ledger that says what may and what must be there after a crash.
//
// A Store's own test is a call of Run, and a loop over its faults around
// Work and Ledger.Check.
package queuetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
)

// Backend is one storage, empty at first.
type Backend struct {
	// Open opens the storage; called again after the store before it was
	// closed.
	Open func(t testing.TB) queue.Store
	// Fill leaves no room for more; nil if it cannot be done.
	Fill func()
	// Slow keeps the long random run away from a storage that syncs for real.
	Slow bool
}

// Run checks every promise on fresh storages.
func Run(t *testing.T, fresh func(t testing.TB) Backend) {
	tests := map[string]func(*testing.T, *fixture){
		"Commit":      testCommit,
		"Abort":       testAbort,
		"Large":       testLarge,
		"Reopen":      testReopen,
		"Move":        testMove,
		"Done":        testDone,
		"Flags":       testFlags,
		"Reported":    testReported,
		"Stale":       testStale,
		"Remove":      testRemove,
		"Scan":        testScan,
		"Arrivals":    testArrivals,
		"Claims":      testClaims,
		"Full":        testFull,
		"Cancelled":   testCancelled,
		"Closed":      testClosed,
		"Concurrency": testConcurrency,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fixture{b: fresh(t)}
			f.store = f.b.Open(t)
			test(t, f)
			if err := f.store.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("Model", func(t *testing.T) {
		t.Parallel()
		if fresh(t).Slow {
			t.Skip("slow storage")
		}
		testModel(t, fresh)
	})
}

type fixture struct {
	b     Backend
	store queue.Store
	claim queue.Claim
}

func (f *fixture) reopen(t *testing.T) {
	t.Helper()
	if err := f.store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.store = f.b.Open(t)
}

// Envelope makes an envelope with n recipients that uses what a store keeps.
func Envelope(n int) *envelope.Envelope {
	e := &envelope.Envelope{
		Sender: "sender@example.com", Return: envelope.ReturnHeaders, EnvID: "id", Encoding: envelope.Encoding8bit,
		Arrival: time.Unix(1795378010, 123456000), RewriteContext: "remote", Inject: "smtpd",
		Client: envelope.Client{Name: "client.example", ReverseName: "client.example", Address: "192.0.2.7", Port: "1234", Helo: "helo.example", Protocol: "ESMTP"},
		Login:  envelope.Login{Method: "PLAIN", Username: "user", Sender: "sender"},
		Filter: "smtp:[127.0.0.1]",
	}
	e.Origin = envelope.Origin{Client: e.Client, QueueID: "ABCDEF0"}
	e.Origin.ReverseName = ""
	for i := range n {
		r := envelope.Recipient{Address: envelopeAddress(i), Original: "alias@example.com", ORCPT: "rfc822;alias@example.com"}
		if i%2 == 1 {
			r.Notify = envelope.NotifyFailure | envelope.NotifyDelay
		}
		e.Recipients = append(e.Recipients, r)
	}
	return e
}

func commit(t testing.TB, s queue.Store, e *envelope.Envelope, text string, to queue.Name) queue.ID {
	t.Helper()
	d, err := s.Begin(t.Context(), queue.Hint{Size: int64(len(text))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d, text); err != nil {
		t.Fatal(err)
	}
	if d.Size() != int64(len(text)) {
		t.Errorf("draft size %d, not %d", d.Size(), len(text))
	}
	if err := d.Commit(t.Context(), e, to); err != nil {
		t.Fatal(err)
	}
	return d.ID()
}

func open(t testing.TB, s queue.Store, id queue.ID) queue.Message {
	t.Helper()
	m, err := s.Open(t.Context(), id)
	if err != nil {
		t.Fatalf("open %s: %v", id, err)
	}
	return m
}

func content(t testing.TB, m queue.Message) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := io.Copy(&b, m.Content()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (f *fixture) update(t testing.TB, id queue.ID, ch queue.Change, d queue.Durability) queue.Meta {
	t.Helper()
	m := open(t, f.store, id)
	defer m.Close()
	rev, err := f.store.Update(t.Context(), f.claim, id, m.Rev(), ch, d)
	if err != nil {
		t.Fatal(err)
	}
	again := open(t, f.store, id)
	defer again.Close()
	if again.Rev() != rev {
		t.Error("Update did not return the new revision")
	}
	return again.Meta()
}

func testCommit(t *testing.T, f *fixture) {
	const text = "Subject: x\n\nbody\n.\nno line end"
	e := Envelope(3)
	id := commit(t, f.store, e, text, queue.Incoming)
	if !queue.IsID(string(id)) {
		t.Errorf("%q is not a queue id", id)
	}
	m := open(t, f.store, id)
	defer m.Close()
	if m.ID() != id || m.Size() < int64(len(text)) {
		t.Errorf("id %s, size %d", m.ID(), m.Size())
	}
	if diff := cmp.Diff(e, m.Envelope()); diff != "" {
		t.Error(diff)
	}
	one, two := m.Content(), m.Content()
	if _, err := one.Seek(9, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(one)
	all, err2 := io.ReadAll(two)
	if err != nil || err2 != nil || string(rest) != text[9:] || string(all) != text {
		t.Errorf("content %q and %q, %v %v", rest, all, err, err2)
	}
	meta := m.Meta()
	if meta.Queue != queue.Incoming || !slices.Equal(meta.Pending, []int{0, 1, 2}) || len(meta.Reasons)+len(meta.Failed) > 0 || meta.Attempts != 0 {
		t.Errorf("fresh message has %+v", meta)
	}
	held := commit(t, f.store, e, text, queue.Hold)
	if held == id {
		t.Error("id given twice")
	}
	h := open(t, f.store, held)
	defer h.Close()
	if h.Meta().Queue != queue.Hold {
		t.Errorf("held message is in %s", h.Meta().Queue)
	}
}

func testAbort(t *testing.T, f *fixture) {
	for _, size := range []int{10, 3 << 20} {
		d, err := f.store.Begin(t.Context(), queue.Hint{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write(bytes.Repeat([]byte("line\n"), size/5)); err != nil {
			t.Fatal(err)
		}
		d.Abort()
		d.Abort()
		if err := d.Commit(t.Context(), Envelope(1), queue.Incoming); err == nil {
			t.Error("commit after abort")
		}
		if _, err := f.store.Open(t.Context(), d.ID()); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("open after abort: %v", err)
		}
	}
	d, _ := f.store.Begin(t.Context(), queue.Hint{})
	if err := d.Commit(t.Context(), Envelope(1), queue.Incoming); err != nil {
		t.Fatal(err)
	}
	d.Abort()
	if err := d.Commit(t.Context(), Envelope(1), queue.Incoming); err == nil {
		t.Error("second commit")
	}
	open(t, f.store, d.ID()).Close()
	unfinished, _ := f.store.Begin(t.Context(), queue.Hint{})
	_, _ = unfinished.Write(bytes.Repeat([]byte("line\n"), 1<<20))
	f.reopen(t)
	if got := list(t, f.store); len(got) != 1 || got[0] != d.ID() {
		t.Errorf("%v in the store, only %s was committed", got, d.ID())
	}
}

func list(t testing.TB, s queue.Store, queues ...queue.Name) (ids []queue.ID) {
	t.Helper()
	err := s.Scan(t.Context(), queue.Filter{Queues: queues}, func(sum queue.Summary) error {
		ids = append(ids, sum.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

func testLarge(t *testing.T, f *fixture) {
	text := strings.Repeat("0123456789 the quick brown fox\n", 60000) + strings.Repeat("long", 5000) + "\n\nend"
	id := commit(t, f.store, Envelope(2), text, queue.Incoming)
	m := open(t, f.store, id)
	defer m.Close()
	if diff := cmp.Diff(Envelope(2), m.Envelope()); diff != "" {
		t.Error(diff)
	}
	if got := content(t, m); got != text {
		t.Errorf("%d bytes of content, not %d", len(got), len(text))
	}
	meta := f.update(t, id, queue.Change{Done: []queue.Done{{Recipient: 1, Status: dsn.New(250, "2.0.0", "ok")}}}, queue.Sync)
	if !slices.Equal(meta.Pending, []int{0}) {
		t.Errorf("pending %v", meta.Pending)
	}
	f.reopen(t)
	again := open(t, f.store, id)
	defer again.Close()
	if got := content(t, again); got != text || !slices.Equal(again.Meta().Pending, []int{0}) {
		t.Errorf("%d bytes of content, pending %v", len(got), again.Meta().Pending)
	}
	held := commit(t, f.store, Envelope(2), text, queue.Hold)
	if got := list(t, f.store, queue.Hold); !slices.Equal(got, []queue.ID{held}) {
		t.Errorf("hold has %v", got)
	}
}

func testReopen(t *testing.T, f *fixture) {
	const text = "Subject: x\n\nbody\n"
	id := commit(t, f.store, Envelope(2), text, queue.Incoming)
	first := open(t, f.store, id)
	rev := first.Rev()
	first.Close()
	f.reopen(t)
	m := open(t, f.store, id)
	defer m.Close()
	if diff := cmp.Diff(Envelope(2), m.Envelope()); diff != "" {
		t.Error(diff)
	}
	if content(t, m) != text || m.Rev() != rev {
		t.Errorf("content %q, rev %d then %d", content(t, m), rev, m.Rev())
	}
}

func testMove(t *testing.T, f *fixture) {
	id := commit(t, f.store, Envelope(1), "x\n", queue.Incoming)
	at := time.Unix(1795400000, 0)
	for _, to := range []queue.Name{queue.Active, queue.Deferred, queue.Active, queue.Hold, queue.Deferred, queue.Incoming, queue.Deferred} {
		for _, d := range []queue.Durability{queue.Lazy, queue.Sync} {
			meta := f.update(t, id, queue.Change{Queue: &to, NextAttempt: &at}, d)
			if meta.Queue != to || !meta.NextAttempt.Equal(at) {
				t.Errorf("%s: %+v", to, meta)
			}
			if got := list(t, f.store, to); !slices.Equal(got, []queue.ID{id}) {
				t.Errorf("%s lists %v", to, got)
			}
			at = at.Add(time.Minute)
		}
	}
	f.reopen(t)
	m := open(t, f.store, id)
	defer m.Close()
	if got := m.Meta(); got.Queue != queue.Deferred || !got.NextAttempt.Equal(at.Add(-time.Minute)) {
		t.Errorf("after reopen: %+v", got)
	}
	nowhere := queue.Name("../x")
	if _, err := f.store.Update(t.Context(), f.claim, id, m.Rev(), queue.Change{Queue: &nowhere}, queue.Lazy); err == nil {
		t.Error("moved to ../x")
	}
}

func failure(text string) dsn.Status {
	return dsn.New(550, "5.1.1", text).WithRemote(dsn.Remote{MTA: "mx.example", DiagType: "smtp", Diag: "550 " + text})
}

func delay(text string) dsn.Status { return dsn.New(450, "4.4.1", text) }

func testDone(t *testing.T, f *fixture) {
	id := commit(t, f.store, Envelope(5), "x\n", queue.Incoming)
	deferred, tries := queue.Deferred, 2
	meta := f.update(t, id, queue.Change{Queue: &deferred, Attempts: &tries, Done: []queue.Done{
		{Recipient: 0, Status: dsn.New(250, "2.0.0", "ok")}, {Recipient: 1, Status: failure("no such user")},
		{Recipient: 2, Status: delay("busy")}, {Recipient: 3, Status: delay("busy too")}}}, queue.Sync)
	want := queue.Meta{Queue: deferred, NextAttempt: meta.NextAttempt, Attempts: 2, Pending: []int{2, 3, 4},
		Reasons: map[int]dsn.Status{2: delay("busy"), 3: delay("busy too")}, Failed: []queue.Done{{Recipient: 1, Status: failure("no such user")}}}
	check := func(when string, got queue.Meta) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(dsn.Status{})); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	check("at once", meta)
	f.reopen(t)
	m := open(t, f.store, id)
	check("after reopen", m.Meta())
	m.Close()
	meta = f.update(t, id, queue.Change{Done: []queue.Done{
		{Recipient: 3, Status: delay("later")}, {Recipient: 4, Status: failure("gone")}, {Recipient: 0, Status: failure("too late")}}}, queue.Lazy)
	want.Pending, want.Reasons[3] = []int{2, 3}, delay("later")
	want.Failed = append(want.Failed, queue.Done{Recipient: 4, Status: failure("gone")})
	check("second update", meta)
	f.reopen(t)
	m = open(t, f.store, id)
	check("second reopen", m.Meta())
	m.Close()
	checkListed(t, f, id)
	if _, err := f.store.Update(t.Context(), f.claim, id, m.Rev(), queue.Change{Done: []queue.Done{{Recipient: 5}}}, queue.Lazy); err == nil {
		t.Error("result for a sixth recipient")
	}
}

func checkListed(t *testing.T, f *fixture, id queue.ID) {
	t.Helper()
	got := map[string]string{}
	err := f.store.Scan(t.Context(), queue.Filter{Recipients: true}, func(sum queue.Summary) error {
		for _, r := range sum.Recipients {
			got[fmt.Sprint(sum.ID == id, " ", r.Address, " ", r.Failed)] = r.Reason
		}
		return nil
	})
	want := map[string]string{"true r2@example.com false": "busy", "true r3@example.com false": "later",
		"true r1@example.com true": "no such user", "true r4@example.com true": "gone"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func testFlags(t *testing.T, f *fixture) {
	e := Envelope(1)
	e.Trace = envelope.TraceReport
	id := commit(t, f.store, e, "x\n", queue.Incoming)
	yes := true
	meta := f.update(t, id, queue.Change{Warned: &yes}, queue.Sync)
	if !meta.Warned || meta.ForceExpire || meta.Traced {
		t.Errorf("%+v", meta)
	}
	meta = f.update(t, id, queue.Change{ForceExpire: &yes, Traced: &yes}, queue.Lazy)
	if !meta.Warned || !meta.ForceExpire || !meta.Traced {
		t.Errorf("%+v", meta)
	}
	f.reopen(t)
	m := open(t, f.store, id)
	defer m.Close()
	if meta := m.Meta(); !meta.Warned || !meta.ForceExpire || !meta.Traced {
		t.Errorf("after reopen: %+v", meta)
	}
}

func testReported(t *testing.T, f *fixture) {
	id := commit(t, f.store, Envelope(3), "x\n", queue.Incoming)
	f.update(t, id, queue.Change{Done: []queue.Done{{Recipient: 1, Status: failure("no")}}}, queue.Sync)
	meta := f.update(t, id, queue.Change{Reported: true, Done: []queue.Done{{Recipient: 2, Status: failure("no")}}}, queue.Sync)
	if len(meta.Failed) != 0 || !slices.Equal(meta.Pending, []int{0}) {
		t.Errorf("%+v", meta)
	}
	f.reopen(t)
	m := open(t, f.store, id)
	defer m.Close()
	if meta := m.Meta(); len(meta.Failed) != 0 || !slices.Equal(meta.Pending, []int{0}) {
		t.Errorf("after reopen: %+v", meta)
	}
}

func testStale(t *testing.T, f *fixture) {
	id := commit(t, f.store, Envelope(2), "x\n", queue.Incoming)
	m := open(t, f.store, id)
	defer m.Close()
	rev := m.Rev()
	other := open(t, f.store, id)
	if other.Rev() != rev {
		t.Error("unchanged message has two revisions")
	}
	other.Close()
	hold := queue.Hold
	if _, err := f.store.Update(t.Context(), f.claim, id, rev, queue.Change{Queue: &hold}, queue.Lazy); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Update(t.Context(), f.claim, id, rev, queue.Change{Queue: &hold}, queue.Lazy); !errors.Is(err, queue.ErrStale) {
		t.Errorf("old revision: %v", err)
	}
	for _, id := range []queue.ID{"0123456789AB", "../../../etc/passwd", "", "4jXg8H4Tnpz20"} {
		if _, err := f.store.Open(t.Context(), id); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("open %q: %v", id, err)
		}
		if _, err := f.store.Update(t.Context(), f.claim, id, 1, queue.Change{}, queue.Lazy); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("update %q: %v", id, err)
		}
		if err := f.store.Remove(t.Context(), f.claim, id, queue.Lazy); err != nil {
			t.Errorf("remove %q: %v", id, err)
		}
	}
}

func testRemove(t *testing.T, f *fixture) {
	text := strings.Repeat("line\n", 100000)
	for _, d := range []queue.Durability{queue.Lazy, queue.Sync} {
		id := commit(t, f.store, Envelope(1), text, queue.Incoming)
		m := open(t, f.store, id)
		if err := f.store.Remove(t.Context(), f.claim, id, d); err != nil {
			t.Fatal(err)
		}
		if got := content(t, m); got != text {
			t.Errorf("removed message gives %d bytes", len(got))
		}
		if _, err := f.store.Update(t.Context(), f.claim, id, m.Rev(), queue.Change{}, queue.Lazy); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("update of a removed message: %v", err)
		}
		m.Close()
		if _, err := f.store.Open(t.Context(), id); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("removed message: %v", err)
		}
		if err := f.store.Remove(t.Context(), f.claim, id, d); err != nil {
			t.Errorf("second remove: %v", err)
		}
	}
	id := commit(t, f.store, Envelope(2), "x\n", queue.Incoming)
	f.update(t, id, queue.Change{Done: []queue.Done{{Recipient: 0, Status: failure("no")}, {Recipient: 1, Status: delay("no")}}}, queue.Sync)
	if err := f.store.Remove(t.Context(), f.claim, id, queue.Sync); err != nil {
		t.Fatal(err)
	}
	f.reopen(t)
	if got := list(t, f.store); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

func testScan(t *testing.T, f *fixture) {
	want := map[queue.ID]queue.Name{}
	at := time.Unix(1795400000, 0)
	for _, name := range []queue.Name{queue.Incoming, queue.Active, queue.Deferred, queue.Hold} {
		for range 3 {
			id := commit(t, f.store, Envelope(2), "x\n", queue.Incoming)
			f.update(t, id, queue.Change{Queue: &name, NextAttempt: &at}, queue.Lazy)
			want[id] = name
		}
	}
	got := map[queue.ID]queue.Name{}
	err := f.store.Scan(t.Context(), queue.Filter{Recipients: true}, func(s queue.Summary) error {
		got[s.ID] = s.Queue
		e := Envelope(2)
		if !s.Arrival.Equal(e.Arrival) || !s.NextAttempt.Equal(at) || s.Sender != e.Sender || s.Size < 2 || len(s.Recipients) != 2 || s.ForceExpire {
			t.Errorf("%+v", s)
		}
		for i, r := range s.Recipients {
			if r.Address != e.Recipients[i].Address || r.Original != e.Recipients[i].Original || r.Reason != "" {
				t.Errorf("%+v", r)
			}
		}
		return nil
	})
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	stop := errors.New("stop")
	n := 0
	err = f.store.Scan(t.Context(), queue.Filter{Queues: []queue.Name{queue.Deferred}}, func(s queue.Summary) error {
		n++
		if s.Queue != queue.Deferred || !s.NextAttempt.Equal(at) {
			t.Errorf("%+v", s)
		}
		return stop
	})
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("%v after %d calls", err, n)
	}
}

func testArrivals(t *testing.T, f *fixture) {
	id := commit(t, f.store, Envelope(1), "x\n", queue.Incoming)
	select {
	case got := <-f.store.Arrivals():
		if got != id {
			t.Errorf("%s arrived, not %s", got, id)
		}
	default:
		t.Error("no arrival")
	}
	for range 10000 { // nobody listens, and nothing blocks
		commit(t, f.store, Envelope(0), "", queue.Hold)
		break
	}
	select {
	case got := <-f.store.Arrivals():
		t.Errorf("held %s arrived", got)
	default:
	}
}

func testClaims(t *testing.T, f *fixture) {
	events, err := f.store.Claims(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if e := <-events; !e.Gained {
		t.Errorf("%+v", e)
	}
	st, err := f.store.Status(t.Context())
	if err != nil || !st.Accepting || st.FreeBytes <= 0 {
		t.Errorf("%+v %v", st, err)
	}
}

func testFull(t *testing.T, f *fixture) {
	if f.b.Fill == nil {
		t.Skip("cannot be filled")
	}
	id := commit(t, f.store, Envelope(2), "x\n", queue.Incoming)
	small, err := f.store.Begin(t.Context(), queue.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	large, err := f.store.Begin(t.Context(), queue.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	f.b.Fill()
	_, _ = io.WriteString(small, "x\n")
	if err := small.Commit(t.Context(), Envelope(1), queue.Incoming); !errors.Is(err, queue.ErrFull) {
		t.Errorf("commit: %v", err)
	}
	if _, err := large.Write(bytes.Repeat([]byte("line\n"), 1<<20)); !errors.Is(err, queue.ErrFull) {
		t.Errorf("write: %v", err)
	}
	if err := large.Commit(t.Context(), Envelope(1), queue.Incoming); !errors.Is(err, queue.ErrFull) {
		t.Errorf("commit after a failed write: %v", err)
	}
	if _, err := f.store.Begin(t.Context(), queue.Hint{}); !errors.Is(err, queue.ErrFull) {
		t.Errorf("begin: %v", err)
	}
	if st, err := f.store.Status(t.Context()); err != nil || st.Accepting || st.Reason == "" {
		t.Errorf("%+v %v", st, err)
	}
	if got := list(t, f.store); !slices.Equal(got, []queue.ID{id}) {
		t.Errorf("%v", got)
	}
	// A full disk must not keep mail from leaving.
	active := queue.Active
	f.update(t, id, queue.Change{Queue: &active, Done: []queue.Done{{Recipient: 0, Status: dsn.New(250, "2.0.0", "ok")}}}, queue.Lazy)
	if err := f.store.Remove(t.Context(), f.claim, id, queue.Sync); err != nil {
		t.Error(err)
	}
}

func testCancelled(t *testing.T, f *fixture) {
	id := commit(t, f.store, Envelope(1), "x\n", queue.Incoming)
	ctx, cancel := context.WithCancel(t.Context())
	d, err := f.store.Begin(ctx, queue.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := d.Commit(ctx, Envelope(1), queue.Incoming); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v", err)
	}
	if _, err := f.store.Begin(ctx, queue.Hint{}); !errors.Is(err, context.Canceled) {
		t.Errorf("begin: %v", err)
	}
	if _, err := f.store.Open(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	if got := list(t, f.store); !slices.Equal(got, []queue.ID{id}) {
		t.Errorf("%v", got)
	}
}

func testClosed(t *testing.T, f *fixture) {
	id := commit(t, f.store, Envelope(1), "x\n", queue.Incoming)
	d, err := f.store.Begin(t.Context(), queue.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	old := f.store
	f.reopen(t)
	if err := d.Commit(t.Context(), Envelope(1), queue.Incoming); err == nil {
		t.Error("draft of a closed store was committed")
	}
	if _, err := old.Open(t.Context(), id); err == nil {
		t.Error("closed store opened a message")
	}
	if got := list(t, f.store); !slices.Equal(got, []queue.ID{id}) {
		t.Errorf("%v", got)
	}
}
