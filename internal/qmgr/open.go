package qmgr

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/qmgr/schedule"
	"posthaste/internal/queue"
)

// maxWorkers bounds the workers that open messages, and those that finish
// them: enough to hide the latency of tables and disks.
const maxWorkers = 32

// openNext takes up messages while there is room in the active queue.
func (l *Loop) openNext() {
	for l.opening < maxWorkers && len(l.active) < max(l.current.ActiveLimit, 1) &&
		(l.rcpts < l.current.RecipientLimit || len(l.active) == 0) {
		c, ok := l.backlog.next()
		if !ok {
			return
		}
		if l.active[c.id] != nil {
			continue
		}
		l.lastKey++
		m := &message{id: c.id, key: l.lastKey, flush: c.flush, set: l.current, active: l.deps.Now(), reasons: map[int]Result{}}
		l.active[m.id] = m
		l.opening++
		release := m.set.hold()
		l.work("qmgr open", func(ctx context.Context) func() {
			ctx, cancel := l.deadline(ctx, m.set.Deadline)
			defer cancel()
			var p plan
			err := l.safely(string(m.id)+": open", func() error { p = l.open(ctx, m); return nil })
			return func() {
				l.opening--
				release()
				p.ok = p.ok && err == nil
				l.opened(m, p)
			}
		})
	}
}

func (l *Loop) deadline(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// plan is what is to be done about an opened message.
type plan struct {
	ok      bool
	groups  []schedule.Recipients
	answers []answer // of recipients that no agent is asked for
}

// answer is what we say about a recipient without asking an agent.
type answer struct {
	index     int
	status    dsn.Status
	transport string // that does not exist, "" for other trouble
	known     bool   // the answer of an earlier attempt: not to be logged again
}

// opened puts a message into the schedule.
func (l *Loop) opened(m *message, p plan) {
	if !p.ok || l.stopping {
		l.forget(m)
		return
	}
	l.byKey[m.key] = m
	l.rcpts += len(m.routed)
	m.open = len(m.routed)
	l.deps.Log.Infof("%s: from=<%s>, size=%d, nrcpt=%d (queue active)", m.id, m.set.log.Address(m.sender()), m.msg.Size(), len(m.env.Recipients))
	for _, a := range p.answers {
		if a.transport != "" {
			l.complain(a.transport)
		}
		if a.known {
			m.answer(a.index, a.status, []Result{{Recipient: m.recipient(a.index), Status: a.status}})
		} else {
			l.say(m, a.index, a.status)
		}
	}
	for _, g := range p.groups {
		l.prepare(g.Destination.Transport)
		if reason, ok := l.schedule.Add(g); !ok {
			l.suspend(m, g.Indexes, reason)
		}
	}
	l.progress(m)
}

// prepare tells the schedule the limits of a transport, once per settings.
func (l *Loop) prepare(name string) {
	if l.limits[name] {
		return
	}
	l.limits[name] = true
	s, _ := l.current.Agents.Agent(name)
	l.schedule.SetLimits(name, s.Limits)
}

// suspend answers for recipients of a destination that is dead.
func (l *Loop) suspend(m *message, indexes []int, reason dsn.Status) {
	reason = reason.WithText("delivery temporarily suspended: " + reason.Text())
	for _, i := range indexes {
		l.say(m, i, reason)
	}
}

// forget takes a message out of the active queue.
func (l *Loop) forget(m *message) {
	delete(l.active, m.id)
	if l.byKey[m.key] != nil {
		delete(l.byKey, m.key)
		l.rcpts -= len(m.routed)
	}
	if m.msg != nil {
		m.msg.Close()
	}
}

// open reads a message and finds the way of its recipients.
func (l *Loop) open(ctx context.Context, m *message) plan {
	msg, err := l.deps.Store.Open(ctx, m.id)
	switch {
	case errors.Is(err, queue.ErrNotFound):
		return plan{}
	case err != nil:
		l.deps.Log.Warnf("%s: open: %v", m.id, err)
		return plan{}
	}
	m.msg, m.env, m.meta, m.rev = msg, msg.Envelope(), msg.Meta(), msg.Rev()
	if !l.wanted(m) {
		return plan{}
	}
	for _, d := range m.meta.Failed {
		if d.Recipient < len(m.env.Recipients) {
			m.failed = append(m.failed, Result{Recipient: m.env.Recipients[d.Recipient], Status: d.Status, Action: "failed"})
		}
	}
	m.done = l.expansions.take(m.id)
	return l.route(ctx, m)
}

// wanted reports whether a message is to be worked on now: the scan that
// found it may be stale.
func (l *Loop) wanted(m *message) bool {
	switch m.meta.Queue {
	case queue.Incoming, queue.Active:
		return true
	case queue.Deferred:
		return m.flush || m.meta.ForceExpire || !m.meta.NextAttempt.After(m.active)
	}
	return false
}

// route finds the way of all recipients without a final answer.
func (l *Loop) route(ctx context.Context, m *message) plan {
	p := plan{ok: true}
	m.routed = make(map[int]routed, len(m.meta.Pending))
	groups := map[schedule.Destination]int{}
	stands := m.standsForAll()
	for _, i := range m.meta.Pending {
		if i < 0 || i >= len(m.env.Recipients) {
			l.deps.Log.Warnf("%s: recipient %d of %d is pending", m.id, i, len(m.env.Recipients))
			continue
		}
		rcpt := m.env.Recipients[i]
		if m.env.Redirect != "" {
			if i != stands { // the one redirected copy stands for all
				m.unrecorded = append(m.unrecorded, queue.Done{Recipient: i, Status: dsn.New(250, "2.0.0", "redirected")})
				continue
			}
			rcpt.Address = m.env.Redirect
		}
		way, destination, problem := l.way(ctx, m, i, rcpt)
		m.routed[i] = way
		if !problem.IsZero() {
			_, known := m.meta.Reasons[i]
			p.answers = append(p.answers, answer{i, problem, destination.Transport, known && m.meta.ForceExpire})
			continue
		}
		g, ok := groups[destination]
		if !ok {
			g = len(p.groups)
			groups[destination] = g
			p.groups = append(p.groups, schedule.Recipients{Message: m.key, Destination: destination})
		}
		p.groups[g].Indexes = append(p.groups[g].Indexes, i)
	}
	for _, g := range p.groups {
		m.sortByAddress(g.Indexes)
	}
	return p
}

// standsForAll is the recipient in whose name a redirected message is
// delivered: the first in the order of addresses.
func (m *message) standsForAll() int {
	first := -1
	for _, i := range m.meta.Pending {
		if i >= 0 && i < len(m.env.Recipients) && (first < 0 || m.env.Recipients[i].Address < m.env.Recipients[first].Address) {
			first = i
		}
	}
	return first
}

// sortByAddress puts recipients in the order in which Postfix hands them to an
// agent: by domain, then by address.
func (m *message) sortByAddress(indexes []int) {
	slices.SortStableFunc(indexes, func(a, b int) int {
		x, y := m.routed[a].recipient.Address, m.routed[b].recipient.Address
		if c := strings.Compare(addr.Fold(x.Domain()), addr.Fold(y.Domain())); c != 0 {
			return c
		}
		return strings.Compare(string(x), string(y))
	})
}

// way is the way of one recipient, or why it has none.
func (l *Loop) way(ctx context.Context, m *message, index int, rcpt envelope.Recipient) (routed, schedule.Destination, dsn.Status) {
	none := schedule.Destination{}
	way := routed{recipient: rcpt}
	if rcpt.Address == "" {
		return way, none, dsn.New(550, "5.1.3", "null recipient address")
	}
	if m.meta.ForceExpire {
		if reason, ok := m.meta.Reasons[index]; ok {
			return way, none, reason
		}
		return way, none, dsn.New(450, "4.7.0", "message is administratively expired")
	}
	name, problem := "", dsn.Status{}
	if m.env.Filter != "" && !m.verify() && !m.probe() {
		name, way.nexthop = filterWay(m, rcpt.Address)
	} else if name, problem = l.resolve(ctx, m, &way); !problem.IsZero() {
		return way, none, problem
	}
	if m.set.deferred[name] && !m.flush {
		return way, none, dsn.New(450, "4.3.2", "deferred transport")
	}
	service, ok := m.set.Agents.Agent(name)
	if !ok {
		return way, schedule.Destination{Transport: name}, unavailable
	}
	destination := schedule.Destination{Transport: name, Name: addr.Fold(way.nexthop)}
	if service.Limits.Recipients == 1 {
		// One recipient per delivery: concurrency is per user, not per host.
		user, _ := m.set.ext.Split(way.recipient.Address.Local())
		destination.Name = user + "@" + destination.Name
	}
	return way, destination, dsn.Status{}
}

// unavailable is the answer for a transport that master.cf does not have.
var unavailable = dsn.New(450, "4.3.0", "mail transport unavailable")

// resolve asks the resolver, and answers for what it does.
func (l *Loop) resolve(ctx context.Context, m *message, way *routed) (name string, problem dsn.Status) {
	resolver := m.set.Resolver
	if m.probe() && m.set.Probing != nil {
		resolver = m.set.Probing
	}
	r, err := resolver.Resolve(ctx, m.env.Sender, way.recipient.Address)
	if err != nil {
		return "", dsn.Trouble(err, "address resolver failure")
	}
	way.nexthop = r.Nexthop
	if r.Recipient != "" {
		way.recipient.Address = r.Recipient
	}
	if !r.Problem.IsZero() {
		return "", r.Problem
	}
	if way.recipient.Address == "" {
		return "", dsn.New(550, "5.1.3", "null recipient address")
	}
	if l.doubleBounce(m, r.Class == route.ClassLocal, way.recipient.Address) {
		return "", dsn.New(250, "2.0.0", "undeliverable postmaster notification discarded")
	}
	return r.Transport, dsn.Status{}
}

// doubleBounce: mail for the local double-bounce address is discarded, so that
// a host without local delivery works, too.
func (l *Loop) doubleBounce(m *message, local bool, a addr.Address) bool {
	return local && m.set.DoubleBounce != "" && strings.EqualFold(a.Local(), m.set.DoubleBounce)
}

// filterWay is where content_filter or FILTER sends a recipient; without a
// nexthop that is the recipient's domain.
func filterWay(m *message, rcpt addr.Address) (name, nexthop string) {
	name, nexthop, _ = strings.Cut(m.env.Filter, ":")
	if nexthop == "" {
		nexthop = rcpt.Domain()
	}
	if nexthop == "" {
		nexthop = m.set.MyHostname
	}
	return name, nexthop
}

// complain warns about a transport that cannot be reached, once per
// transport_retry_time.
func (l *Loop) complain(name string) {
	now := l.deps.Now()
	if last, ok := l.complaint[name]; ok && now.Sub(last) < l.current.TransportRetry {
		return
	}
	if len(l.complaint) > 1000 {
		clear(l.complaint)
	}
	l.complaint[name] = now
	l.deps.Log.Warnf("connect to transport private/%s: No such file or directory", name)
}
