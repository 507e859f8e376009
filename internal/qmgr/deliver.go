package qmgr

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/qmgr/schedule"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
)

// crashed is the answer for recipients that an agent left without one.
var crashed = dsn.New(450, "4.3.0", "unknown mail transport error")

// dispatch starts all deliveries that may start.
func (l *Loop) dispatch(now time.Time) {
	for {
		del, ok := l.schedule.Next(now)
		if !ok {
			return
		}
		m := l.byKey[del.Message]
		service, found := l.current.Agents.Agent(del.Destination.Transport)
		if !found { // it went with a reload
			l.complain(del.Destination.Transport)
			l.schedule.Done(del, schedule.CutOff, dsn.Status{}, now)
			for _, i := range del.Indexes {
				l.say(m, i, unavailable)
			}
			l.progress(m)
			continue
		}
		l.deliver(m, del, service)
	}
}

// deliver has an agent attempt a delivery.
func (l *Loop) deliver(m *message, del *schedule.Delivery, service Service) {
	set := l.current
	a := &attempt{loop: l, message: m, set: set, service: service, outcomes: map[int][]transport.Outcome{}, wanted: map[int]bool{}}
	a.request = m.request(del, l.deps.Now())
	a.request.Report = a.report
	for _, i := range del.Indexes {
		a.wanted[i] = true
	}
	release := set.hold()
	l.work("deliver "+del.Destination.Transport, func(ctx context.Context) func() {
		a.run(ctx, set.AgentDeadline)
		return func() {
			release()
			l.answered(a, del)
			l.progress(m)
		}
	})
}

// request is the order for an agent.
func (m *message) request(del *schedule.Delivery, now time.Time) *transport.Request {
	r := &transport.Request{
		ID: m.id, Envelope: m.env, Size: m.msg.Size(), Open: m.msg.Content,
		Transport: del.Destination.Transport, Active: m.active, Queued: now,
		Recipients: make([]transport.Recipient, 0, len(del.Indexes)),
	}
	for _, i := range del.Indexes {
		way := m.routed[i]
		r.Nexthop = way.nexthop
		r.Recipients = append(r.Recipients, transport.Recipient{Recipient: way.recipient, Index: i})
	}
	if m.env.Verp != "" && len(r.Recipients) == 1 {
		e := *m.env
		e.Sender = transport.VERP(e.Sender, e.Verp, r.Recipients[0].Address)
		r.Envelope = &e
	}
	return r
}

// attempt is one delivery under way.
type attempt struct {
	loop    *Loop
	message *message
	set     *settings
	service Service
	request *transport.Request
	wanted  map[int]bool
	crashed bool
	cutOff  bool // the agent was stopped

	mu       sync.Mutex
	ended    bool
	outcomes map[int][]transport.Outcome
}

// run calls the agent. A panic in it is trouble of this delivery only.
func (a *attempt) run(ctx context.Context, deadline time.Duration) {
	inner, cancel := a.loop.deadline(ctx, deadline)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			a.crashed = true
			a.service.Log.Panicf("%s: %v", a.request.ID, v)
			a.loop.deps.Log.Warnf("transport %s failure -- see a previous warning/fatal/panic logfile record for the problem description", a.request.Transport)
			a.loop.deps.Log.Warnf("%s: stack: %.2000s", a.request.ID, debug.Stack())
		}
		a.mu.Lock()
		a.ended = true
		a.mu.Unlock()
		a.cutOff = ctx.Err() != nil
	}()
	a.service.Agent.Deliver(inner, a.request)
}

// report takes an outcome from the agent: it is logged at once, and counts
// when the agent is done.
func (a *attempt) report(o transport.Outcome) {
	if !a.wanted[o.Index] || o.Status.IsZero() {
		a.loop.deps.Log.Warnf("%s: transport %s: answer about recipient %d that was not asked for", a.request.ID, a.request.Transport, o.Index)
		return
	}
	if o.Recipient.Address == "" {
		o.Recipient = a.message.routed[o.Index].recipient
	}
	if a.service.Filter != nil {
		o.Status = a.service.Filter(o.Status).WithScope(o.Status.Scope)
	}
	a.mu.Lock()
	late := a.ended
	if !late {
		a.outcomes[o.Index] = append(a.outcomes[o.Index], o)
	}
	a.mu.Unlock()
	if late {
		a.loop.deps.Log.Warnf("%s: transport %s: answer about recipient %d came too late", a.request.ID, a.request.Transport, o.Index)
	} else if !o.Expanded && !o.Unlogged {
		log := a.service.Log
		if o.Log != nil {
			log = o.Log
		}
		a.log(log, o)
	}
}

func (a *attempt) log(log *maillog.Logger, o transport.Outcome) {
	log.Infof("%s", a.set.log.Line(a.request, o, a.loop.deps.Now()))
}

// answered takes what a delivery brought: answers about the recipients, and
// about the destination.
func (l *Loop) answered(a *attempt, del *schedule.Delivery) {
	m, now := a.message, l.deps.Now()
	result, reason := schedule.Answered, dsn.Status{}
	for _, i := range del.Indexes {
		outcomes := a.outcomes[i]
		if len(outcomes) == 0 {
			result = schedule.CutOff
			if a.cutOff {
				m.open--
				m.cut = true
			} else {
				l.say(m, i, crashed)
			}
			continue
		}
		whole, results := a.sum(outcomes)
		if whole.Temporary() && whole.Scope == dsn.Site {
			result, reason = schedule.SiteFailed, whole
		}
		m.answer(i, whole, results)
	}
	for _, r := range l.schedule.Done(del, result, reason, now) {
		other := l.byKey[r.Message]
		l.suspend(other, r.Indexes, reason)
		if other != m {
			l.progress(other)
		}
	}
}

// sum makes one answer of the outcomes about a recipient: it is tried again
// if any part of it is temporary, and failed if any part did.
func (a *attempt) sum(outcomes []transport.Outcome) (whole dsn.Status, results []Result) {
	rank := func(s dsn.Status) int {
		switch {
		case s.Temporary():
			return 2
		case s.OK():
			return 0
		}
		return 1
	}
	best := -1
	for _, o := range outcomes {
		s := o.Status
		if a.set.SoftBounce && !a.message.verify() && !a.message.probe() {
			s = s.Soft()
		}
		r := Result{Recipient: o.Recipient, Status: s, Relay: o.Relay, Action: "delivered"}
		switch {
		case o.Expanded:
			r.Action = "expanded"
		case o.Relayed:
			r.Action = "relayed"
		case s.Remote.MTA != "":
			r.Action = "passed on" // to a system that reports success itself
		}
		if n := rank(s); n > best {
			best, whole = n, s
			results = append([]Result{r}, results...)
		} else {
			results = append(results, r)
		}
	}
	return whole, results
}

// say answers about a recipient without an agent, as error(8) would.
func (l *Loop) say(m *message, index int, s dsn.Status) {
	if m.set.SoftBounce && !m.verify() && !m.probe() {
		s = s.Soft()
	}
	log, rcpt := l.deps.RetryLog, m.recipient(index)
	if s.OK() {
		log = l.deps.Log
	}
	now := l.deps.Now()
	r := &transport.Request{ID: m.id, Envelope: m.env, Active: m.active, Queued: now}
	log.Infof("%s", m.set.log.Line(r, transport.Outcome{Recipient: rcpt, Status: s}, now))
	m.answer(index, s, []Result{{Recipient: rcpt, Status: s, Action: "delivered"}})
}

// progress does what is next for a message: more answers are to come, or the
// final ones so far are recorded, or it is finished.
func (l *Loop) progress(m *message) {
	switch {
	case m.recording:
	case m.open <= 0:
		m.recording = true
		l.toFinish = append(l.toFinish, m)
	case len(m.unrecorded) > 0:
		l.record(m)
	}
}

// record tells the store of final answers while others are still to come, so
// that a crash does not repeat deliveries.
func (l *Loop) record(m *message) {
	batch := m.unrecorded
	m.unrecorded, m.recording = nil, true
	claim := l.claim
	l.work("qmgr record", func(ctx context.Context) func() {
		ctx, cancel := l.deadline(context.WithoutCancel(ctx), m.set.Deadline)
		defer cancel()
		err := l.safely(string(m.id)+": record", func() error { return l.update(ctx, claim, m, queue.Change{Done: batch}) })
		return func() {
			m.recording = false
			if err != nil {
				l.deps.Log.Warnf("%s: cannot record deliveries: %v", m.id, err)
				m.unrecorded = append(batch, m.unrecorded...)
				if m.open > 0 {
					return // with the next answer
				}
			}
			l.progress(m)
		}
	})
}
