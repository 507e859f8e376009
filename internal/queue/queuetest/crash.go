package queuetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
)

// Ledger remembers what a store promised during a run that faults interrupt.
type Ledger struct {
	Large int // size of a message that does not fit into memory; 0 is 400 KiB

	entries []*record
	err     error // a broken promise seen during the run
}

// record is what is known of one message from the outside.
type record struct {
	id   queue.ID
	text string
	n    int // recipients

	committed bool // Commit returned nil
	refused   bool // Commit said that the message does not exist
	removing  bool // Remove was called
	removed   bool // Remove with Sync returned nil

	queue   queue.Name // the last durable move; "" if a later one is open
	touched map[int]bool
	final   map[int]bool // done, durable
	failed  map[int]bool // failed, durable, not reported
}

// Work runs a fixed sequence of submissions and deliveries. Errors are
// expected; what they promise is noted.
func (l *Ledger) Work(ctx context.Context, s queue.Store) {
	if l.Large == 0 {
		l.Large = 400 << 10
	}
	a := l.commit(ctx, s, "a", 100, 2, queue.Incoming)
	b := l.commit(ctx, s, "b", 1000, 1, queue.Hold)
	c := l.commit(ctx, s, "c", l.Large, 3, queue.Incoming)
	l.deliver(ctx, s, a, queue.Sync)
	l.deliver(ctx, s, c, queue.Lazy)
	l.remove(ctx, s, b, queue.Sync)
	d := l.commit(ctx, s, "d", l.Large, 2, queue.Hold)
	l.abort(ctx, s, l.Large)
	l.deliver(ctx, s, a, queue.Lazy)
	l.remove(ctx, s, c, queue.Lazy)
	l.commit(ctx, s, "e", 10, 1, queue.Incoming)
	l.deliver(ctx, s, d, queue.Sync)
	l.remove(ctx, s, a, queue.Sync)
}

func (l *Ledger) commit(ctx context.Context, s queue.Store, name string, size, n int, to queue.Name) *record {
	text := strings.Repeat(name+" 0123456789 abcdefghijklmnopqrst\n", size/32+1)
	r := &record{text: text, n: n, touched: map[int]bool{}, final: map[int]bool{}, failed: map[int]bool{}}
	d, err := s.Begin(ctx, queue.Hint{})
	if err != nil {
		return r
	}
	r.id = d.ID()
	l.entries = append(l.entries, r)
	for rest := text; rest != ""; {
		n := min(len(rest), 50000, max(1000, len(text)/3))
		if _, err := io.WriteString(d, rest[:n]); err != nil {
			r.refused = true
			d.Abort()
			return r
		}
		rest = rest[n:]
	}
	err = d.Commit(ctx, crashEnvelope(n), to)
	r.committed = err == nil
	r.refused = err != nil && !errors.Is(err, queue.ErrUnknown)
	if r.committed {
		r.queue = to
	}
	return r
}

func crashEnvelope(n int) *envelope.Envelope {
	e := Envelope(n)
	e.Sender = "crash@example.com"
	return e
}

func (l *Ledger) abort(ctx context.Context, s queue.Store, size int) {
	d, err := s.Begin(ctx, queue.Hint{})
	if err != nil {
		return
	}
	_, _ = io.WriteString(d, strings.Repeat("line\n", size/5))
	l.entries = append(l.entries, &record{id: d.ID(), refused: true})
	d.Abort()
}

// deliver answers for the first pending recipient with a failure, for the
// second with success, and defers the rest.
func (l *Ledger) deliver(ctx context.Context, s queue.Store, r *record, d queue.Durability) {
	if !r.committed || r.removing {
		return
	}
	m, err := s.Open(ctx, r.id)
	if err != nil {
		if errors.Is(err, queue.ErrNotFound) || errors.Is(err, queue.ErrCorrupt) {
			l.err = fmt.Errorf("committed %s: %w", r.id, err)
		}
		return
	}
	defer m.Close()
	active, deferred := queue.Active, queue.Deferred
	r.queue = ""
	rev, err := s.Update(ctx, queue.Claim{}, r.id, m.Rev(), queue.Change{Queue: &active}, queue.Lazy)
	if err != nil {
		return
	}
	ch := queue.Change{Queue: &deferred}
	var final, failed []int
	for i, p := range m.Meta().Pending {
		st := delay("busy")
		switch i {
		case 0:
			st = failure("no")
			failed = append(failed, p)
			final = append(final, p)
		case 1:
			st = dsn.New(250, "2.0.0", "ok")
			final = append(final, p)
		}
		ch.Done = append(ch.Done, queue.Done{Recipient: p, Status: st})
	}
	for _, p := range final {
		r.touched[p] = true
	}
	if _, err := s.Update(ctx, queue.Claim{}, r.id, rev, ch, d); err != nil || d == queue.Lazy {
		return
	}
	r.queue = deferred
	for _, p := range final {
		r.final[p] = true
	}
	for _, p := range failed {
		r.failed[p] = true
	}
}

func (l *Ledger) remove(ctx context.Context, s queue.Store, r *record, d queue.Durability) {
	if r.id == "" {
		return
	}
	r.removing = true
	err := s.Remove(ctx, queue.Claim{}, r.id, d)
	r.removed = err == nil && d == queue.Sync
}

// Acknowledged is the number of messages that the store took responsibility
// for during the run.
func (l *Ledger) Acknowledged() (n int) {
	for _, r := range l.entries {
		if r.committed {
			n++
		}
	}
	return n
}

// Check compares a store that was opened after the fault with what was
// promised before it. died tells that the run was cut off: what was under way
// then may have happened or not.
func (l *Ledger) Check(t testing.TB, s queue.Store, died bool) {
	t.Helper()
	if l.err != nil {
		t.Error(l.err)
	}
	known := map[queue.ID]bool{}
	for _, r := range l.entries {
		known[r.id] = true
		m, err := s.Open(t.Context(), r.id)
		if err != nil {
			// A cut in the middle of Commit may leave a damaged file: it is
			// put away, and nobody was told that it is a message.
			halfWritten := died && !r.committed && errors.Is(err, queue.ErrCorrupt)
			if !errors.Is(err, queue.ErrNotFound) && !halfWritten {
				t.Errorf("%s: %v", r.id, err)
			}
			if r.committed && !r.removing {
				t.Errorf("%s was committed and is lost", r.id)
			}
			continue
		}
		if r.removed {
			t.Errorf("%s was removed and is back", r.id)
		}
		if r.refused && !died {
			t.Errorf("%s was refused and is there", r.id)
		}
		r.check(t, m)
		m.Close()
	}
	err := s.Scan(t.Context(), queue.Filter{Recipients: true}, func(sum queue.Summary) error {
		if !known[sum.ID] {
			t.Errorf("nobody sent %s", sum.ID)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func (r *record) check(t testing.TB, m queue.Message) {
	t.Helper()
	var text strings.Builder
	if _, err := io.Copy(&text, m.Content()); err != nil || text.String() != r.text {
		t.Errorf("%s: content differs (%d bytes of %d): %v", r.id, text.Len(), len(r.text), err)
	}
	if e := m.Envelope(); e.Sender != "crash@example.com" || len(e.Recipients) != r.n {
		t.Errorf("%s: envelope %+v", r.id, e)
	}
	meta := m.Meta()
	for i := range r.n {
		pending := slices.Contains(meta.Pending, i)
		if !pending && !r.touched[i] {
			t.Errorf("%s: recipient %d is lost", r.id, i)
		}
		if pending && r.final[i] {
			t.Errorf("%s: recipient %d is delivered again after a durable answer", r.id, i)
		}
		reported := !slices.ContainsFunc(meta.Failed, func(d queue.Done) bool { return d.Recipient == i })
		if reported && r.failed[i] {
			t.Errorf("%s: the failure of recipient %d is lost", r.id, i)
		}
	}
	if r.queue != "" && meta.Queue != r.queue {
		t.Errorf("%s: in %s, was put into %s", r.id, meta.Queue, r.queue)
	}
}
