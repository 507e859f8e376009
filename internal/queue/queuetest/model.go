package queuetest

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/queue"
)

func envelopeAddress(i int) addr.Address { return addr.Address(fmt.Sprintf("r%d@example.com", i)) }

// testConcurrency lets many deliver at once what many others submit.
func testConcurrency(t *testing.T, f *fixture) {
	const senders, each = 8, 30
	var wait sync.WaitGroup
	for n := range senders {
		wait.Go(func() {
			for i := range each {
				text := fmt.Sprintf("Subject: %d.%d\n\n%s\n", n, i, strings.Repeat("x", 100*i))
				id := commit(t, f.store, Envelope(2), text, queue.Incoming)
				work(t, f, id, text)
			}
		})
	}
	wait.Go(func() {
		for range 20 {
			_ = f.store.Scan(t.Context(), queue.Filter{Recipients: true}, func(queue.Summary) error { return nil })
		}
	})
	wait.Wait()
	if got := list(t, f.store); len(got) != senders*each/3 {
		t.Errorf("%d messages are left", len(got))
	}
}

// work takes a message through a delivery; every third stays deferred.
func work(t *testing.T, f *fixture, id queue.ID, text string) {
	m := open(t, f.store, id)
	defer m.Close()
	if got := content(t, m); got != text {
		t.Errorf("%s has %q", id, got)
	}
	active, deferred, at := queue.Active, queue.Deferred, time.Unix(1795400000, 0)
	rev, err := f.store.Update(t.Context(), f.claim, id, m.Rev(), queue.Change{Queue: &active}, queue.Lazy)
	if err != nil {
		t.Error(err)
		return
	}
	if len(text)/100%3 != 0 {
		err = f.store.Remove(t.Context(), f.claim, id, queue.Lazy)
	} else {
		_, err = f.store.Update(t.Context(), f.claim, id, rev, queue.Change{Queue: &deferred, NextAttempt: &at,
			Done: []queue.Done{{Recipient: 0, Status: delay("busy")}, {Recipient: 1, Status: failure("no")}}}, queue.Lazy)
	}
	if err != nil {
		t.Error(err)
	}
}

// modelMessage is what the model knows of a message.
type modelMessage struct {
	text    string
	queue   queue.Name
	next    time.Time
	tries   int
	warned  bool
	expire  bool
	pending map[int]bool
	reasons map[int]string
	failed  map[int]string
}

// testModel compares random runs with a map.
func testModel(t *testing.T, fresh func(t testing.TB) Backend) {
	rapid.Check(t, func(r *rapid.T) {
		f := &fixture{b: fresh(t)}
		f.store = f.b.Open(t)
		m := &model{t: t, f: f, messages: map[queue.ID]*modelMessage{}}
		r.Repeat(map[string]func(*rapid.T){
			"commit": m.commit,
			"update": m.update,
			"remove": m.remove,
			"reopen": func(*rapid.T) {
				f.reopen(t)
				for _, msg := range m.messages {
					if msg.queue == queue.Active {
						msg.queue, msg.next = queue.Incoming, time.Time{}
					}
				}
			},
			"": m.check,
		})
		_ = f.store.Close(t.Context())
	})
}

type model struct {
	t        *testing.T
	f        *fixture
	messages map[queue.ID]*modelMessage
}

func (m *model) pick(r *rapid.T) queue.ID {
	if len(m.messages) == 0 {
		r.Skip("empty")
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(m.messages))).Draw(r, "id")
}

func (m *model) commit(r *rapid.T) {
	text := strings.Repeat(rapid.StringMatching(`[a-z ]{0,9}\n?`).Draw(r, "text"), rapid.SampledFrom([]int{1, 1, 1, 10, 10, 10, 100, 1000, 1000, 45000}).Draw(r, "times"))
	n := rapid.IntRange(0, 4).Draw(r, "recipients")
	to := rapid.SampledFrom([]queue.Name{queue.Incoming, queue.Hold}).Draw(r, "to")
	id := commit(m.t, m.f.store, Envelope(n), text, to)
	msg := &modelMessage{text: text, queue: to, pending: map[int]bool{}, reasons: map[int]string{}, failed: map[int]string{}}
	for i := range n {
		msg.pending[i] = true
	}
	m.messages[id] = msg
}

func (m *model) remove(r *rapid.T) {
	id := m.pick(r)
	if err := m.f.store.Remove(m.t.Context(), m.f.claim, id, queue.Durability(rapid.IntRange(0, 1).Draw(r, "durability"))); err != nil {
		r.Fatal(err)
	}
	delete(m.messages, id)
}

func (m *model) update(r *rapid.T) {
	id := m.pick(r)
	msg := m.messages[id]
	var ch queue.Change
	if rapid.Bool().Draw(r, "move") {
		msg.queue = rapid.SampledFrom([]queue.Name{queue.Incoming, queue.Active, queue.Deferred, queue.Hold}).Draw(r, "queue")
		ch.Queue = &msg.queue
	}
	if rapid.Bool().Draw(r, "when") {
		msg.next = time.Unix(1795378010+int64(rapid.IntRange(0, 1e6).Draw(r, "next")), 0)
		ch.NextAttempt = &msg.next
	}
	if rapid.Bool().Draw(r, "tries") {
		msg.tries++
		ch.Attempts = &msg.tries
	}
	if yes := true; rapid.Bool().Draw(r, "flags") {
		msg.warned, msg.expire = true, true
		ch.Warned, ch.ForceExpire = &yes, &yes
	}
	ch.Reported = rapid.IntRange(0, 3).Draw(r, "reported") == 0
	if ch.Reported {
		clear(msg.failed)
	}
	for i := range 4 {
		text := rapid.StringMatching(`[a-z]{1,20}`).Draw(r, "reason")
		kind := rapid.IntRange(0, 4).Draw(r, "outcome")
		if msg.pending[i] && kind < 3 {
			ch.Done = append(ch.Done, queue.Done{Recipient: i, Status: msg.answer(i, kind, text, ch.Reported)})
		}
	}
	o, err := m.f.store.Open(m.t.Context(), id)
	if err != nil {
		r.Fatal(err)
	}
	if rapid.Bool().Draw(r, "early") {
		o.Close()
	}
	if _, err := m.f.store.Update(m.t.Context(), m.f.claim, id, o.Rev(), ch, queue.Durability(rapid.IntRange(0, 1).Draw(r, "durability"))); err != nil {
		r.Fatal(err)
	}
	o.Close()
}

func (msg *modelMessage) answer(i, kind int, text string, reported bool) dsn.Status {
	if kind == 0 {
		msg.reasons[i] = text
		return delay(text)
	}
	delete(msg.pending, i)
	delete(msg.reasons, i)
	if kind == 1 {
		return dsn.New(250, "2.0.0", text)
	}
	if !reported {
		msg.failed[i] = text
	}
	return failure(text)
}

func (m *model) check(r *rapid.T) {
	if got := list(m.t, m.f.store); !slices.Equal(got, slices.Sorted(maps.Keys(m.messages))) {
		r.Fatalf("store has %v, model %v", got, slices.Sorted(maps.Keys(m.messages)))
	}
	for id, want := range m.messages {
		o, err := m.f.store.Open(m.t.Context(), id)
		if err != nil {
			r.Fatal(id, err)
		}
		if len(want.text) < 20000 || len(m.messages) == 1 {
			var text strings.Builder
			if _, err := io.Copy(&text, o.Content()); err != nil || text.String() != want.text {
				r.Fatalf("%s: content differs, %v", id, err)
			}
		}
		got := o.Meta()
		o.Close()
		if got.Queue != want.queue || got.Attempts != want.tries || got.Warned != want.warned || got.ForceExpire != want.expire || !want.next.IsZero() && !got.NextAttempt.Equal(want.next) {
			r.Fatalf("%s: store has %+v, model %+v", id, got, want)
		}
		if !slices.Equal(got.Pending, slices.Sorted(maps.Keys(want.pending))) {
			r.Fatalf("%s: store has %+v, model %+v", id, got, want)
		}
		if !sameTexts(got, want) {
			r.Fatalf("%s: store has %+v, model %+v", id, got, want)
		}
	}
}

func sameTexts(got queue.Meta, want *modelMessage) bool {
	reasons, failed := map[int]string{}, map[int]string{}
	for i, s := range got.Reasons {
		reasons[i] = s.Text()
	}
	for _, d := range got.Failed {
		failed[d.Recipient] = d.Status.Text()
	}
	return maps.Equal(reasons, want.reasons) && maps.Equal(failed, want.failed)
}

// Dice are reproducible random numbers for one test case.
func Dice(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
