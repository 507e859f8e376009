package qmgr

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"posthaste/internal/qmgr/schedule"
	"posthaste/internal/queue"
)

// retry is a message that could not be finished, and when to try again.
type retry struct {
	at time.Time
	m  *message
}

// retryDue brings back what waited for the store to recover.
func (l *Loop) retryDue(now time.Time) {
	for len(l.retries) > 0 && !l.retries[0].at.After(now) {
		l.toFinish = append(l.toFinish, l.retries[0].m)
		l.retries = l.retries[1:]
	}
}

// finishNext starts workers that end the pass of messages.
func (l *Loop) finishNext() {
	for len(l.toFinish) > 0 && l.finishing < maxWorkers {
		m := l.toFinish[0]
		l.toFinish = l.toFinish[1:]
		l.finishing++
		m.set = l.current // for a message may wait long, and its configuration go
		release := m.set.hold()
		claim := l.claim
		l.work("qmgr finish", func(ctx context.Context) func() {
			ctx, cancel := l.deadline(context.WithoutCancel(ctx), m.set.Deadline)
			defer cancel()
			err := l.safely(string(m.id)+": finish", func() error { return l.finish(ctx, claim, m) })
			return func() {
				l.finishing--
				release()
				l.finished(m, err)
			}
		})
	}
}

// finished lets a message go. If what became of it could not be recorded it
// stays and is finished again later: its recipients are not tried twice.
func (l *Loop) finished(m *message, err error) {
	if err != nil && !l.stopping && !errors.Is(err, queue.ErrNotOwner) {
		l.deps.Log.Warnf("%s: cannot record deliveries: %v", m.id, err)
		l.retries = append(l.retries, retry{l.deps.Now().Add(max(l.current.MinBackoff, time.Second)), m})
		slices.SortStableFunc(l.retries, func(a, b retry) int { return a.at.Compare(b.at) })
		return
	}
	l.schedule.Drop(m.key)
	l.forget(m)
}

// finish ends the pass of a message: reports, then removal, or deferral. Each
// step that succeeded is not done again if finish has to be called once more.
func (l *Loop) finish(ctx context.Context, claim queue.Claim, m *message) error {
	if m.gone {
		return nil
	}
	if m.cut { // stopped in the middle: no attempt, what is done is done
		if len(m.unrecorded) == 0 {
			return nil
		}
		return l.settle(ctx, claim, m, queue.Change{})
	}
	bounced := l.reportFailed(ctx, m)
	l.reportDone(ctx, m)
	now := l.deps.Now()
	if len(m.reasons) > 0 && bounced {
		word, expired := m.expired(now)
		if expired {
			bounced = l.returnExpired(ctx, m, word)
		} else {
			l.warn(ctx, m, now)
		}
	}
	if len(m.reasons) == 0 && bounced {
		if err := l.deps.Store.Remove(ctx, claim, m.id, queue.Lazy); err != nil && !errors.Is(err, queue.ErrNotFound) {
			return err
		}
		m.gone = true
		l.deps.Log.Infof("%s: removed", m.id)
		return nil
	}
	return l.postpone(ctx, claim, m, now)
}

// reportFailed asks for the non-delivery report. Without it the message stays.
func (l *Loop) reportFailed(ctx context.Context, m *message) bool {
	if len(m.failed) == 0 {
		return true
	}
	if err := l.notify(ctx, m, NoticeFailure, m.failed); err != nil {
		l.deps.Log.Infof("%s: status=deferred (bounce failed)", m.id)
		return false
	}
	m.failed = nil
	return true
}

// reportDone asks for the reports on success, and tells verify(8). Neither is
// worth keeping a message for.
func (l *Loop) reportDone(ctx context.Context, m *message) {
	done := m.done
	m.done = nil
	if len(done) == 0 {
		return
	}
	if m.probe() {
		for _, r := range done {
			l.probed(m, r)
		}
		return
	}
	kind := NoticeSuccess
	if m.verify() || m.traced() {
		kind = NoticeVerify
	}
	if err := l.notify(ctx, m, kind, done); err != nil {
		l.deps.Log.Warnf("%s: delivery status report: %v", m.id, err)
		return
	}
	m.meta.Traced = m.meta.Traced || m.traced()
}

// probed tells verify(8) about an address, by the name that was asked for and
// by what it became.
func (l *Loop) probed(m *message, r Result) {
	if m.set.Probed == nil {
		return
	}
	if original := r.Recipient.Original; original != "" && original != r.Recipient.Address {
		m.set.Probed(original, r.Status)
	}
	m.set.Probed(r.Recipient.Address, r.Status)
}

// returnExpired gives up on what is still delayed.
func (l *Loop) returnExpired(ctx context.Context, m *message, word string) bool {
	l.deps.Log.Infof("%s: from=<%s>, status=%s, returned to sender", m.id, m.set.log.Address(m.sender()), word)
	if err := l.notify(ctx, m, NoticeFailure, m.delayed("failed")); err != nil {
		l.deps.Log.Infof("%s: status=deferred (bounce failed)", m.id)
		return false
	}
	clear(m.reasons)
	return true
}

// warn tells the sender once that the message is late.
func (l *Loop) warn(ctx context.Context, m *message, now time.Time) {
	if !m.warnDue(now) {
		return
	}
	if err := l.notify(ctx, m, NoticeDelay, m.delayed("delayed")); err != nil {
		l.deps.Log.Warnf("%s: delay warning: %v", m.id, err)
		return
	}
	m.meta.Warned = true
}

func (l *Loop) notify(ctx context.Context, m *message, kind NoticeKind, results []Result) error {
	return m.set.Bouncer.Notify(ctx, &Notice{Kind: kind, ID: m.id, Envelope: m.env, Size: m.msg.Size(),
		Open: func() io.ReadSeeker { return m.msg.Content() }, Results: results})
}

// postpone moves a message to the deferred queue. The reasons go with it.
func (l *Loop) postpone(ctx context.Context, claim queue.Claim, m *message, now time.Time) error {
	next := schedule.NextAttempt(now, m.env.Arrival, m.set.MinBackoff, m.set.MaxBackoff)
	deferred, attempts := queue.Deferred, m.meta.Attempts+1
	change := queue.Change{Queue: &deferred, NextAttempt: &next, Attempts: &attempts, Warned: &m.meta.Warned, Traced: &m.meta.Traced, Reported: len(m.failed) == 0}
	for i := range m.env.Recipients {
		if r, ok := m.reasons[i]; ok {
			change.Done = append(change.Done, queue.Done{Recipient: i, Status: r.Status})
		}
	}
	return l.settle(ctx, claim, m, change)
}

// settle records a change together with all answers that are not recorded yet.
func (l *Loop) settle(ctx context.Context, claim queue.Claim, m *message, change queue.Change) error {
	change.Done = append(slices.Clone(m.unrecorded), change.Done...)
	if err := l.update(ctx, claim, m, change); err != nil {
		return err
	}
	m.unrecorded = nil
	return nil
}

// updateTries is how often a change is made again on what others changed.
const updateTries = 5

// update changes the mutable part of a message. If somebody else changed it -
// postsuper(1) - it is read again: a message that was put on hold stays there,
// and one that was removed is gone.
func (l *Loop) update(ctx context.Context, claim queue.Claim, m *message, change queue.Change) error {
	var err error
	for range updateTries {
		var rev queue.Rev
		rev, err = l.deps.Store.Update(ctx, claim, m.id, m.rev, change, queue.Lazy)
		switch {
		case err == nil:
			m.rev = rev
			return nil
		case errors.Is(err, queue.ErrNotFound):
			m.gone = true
			return nil
		case !errors.Is(err, queue.ErrStale):
			return err
		}
		fresh, openErr := l.deps.Store.Open(ctx, m.id)
		if errors.Is(openErr, queue.ErrNotFound) {
			m.gone = true
			return nil
		}
		if openErr != nil {
			return openErr
		}
		meta := fresh.Meta()
		m.rev = fresh.Rev()
		m.meta.ForceExpire = meta.ForceExpire
		fresh.Close()
		if meta.Queue == queue.Hold {
			change.Queue, change.NextAttempt = nil, nil
		}
	}
	return err
}
