// Package schedule decides which delivery comes next.
//
// It keeps recipients in queues by transport and by destination (transport and
// nexthop), opens and closes a concurrency window per destination after the
// feedback of deliveries (SCHEDULER_README), caps each transport at its process
// limit, spaces deliveries by rate delays, and takes turns between messages
// and between destinations. It has no clock and does no I/O: the caller says
// what time it is.
//
// Promises: a recipient that was added comes out exactly once, of Next, of a
// Done that declares its destination dead, or of Drop. A destination never has
// more deliveries than its window, a transport never more than MaxProc. The
// cost of a step does not depend on how many messages wait.
//
// Only the queue manager's loop calls it; it is not safe for concurrent use.
package schedule

import (
	"time"

	"posthaste/internal/mail/dsn"
)

// Message names a message for the caller.
type Message uint64

// Destination is a transport with a nexthop (or a recipient, where deliveries
// are limited to one recipient): what has its own concurrency window.
type Destination struct {
	Transport string // service name in master.cf
	Name      string
}

// Recipients are recipients of one message for one destination.
type Recipients struct {
	Message     Message
	Destination Destination
	Indexes     []int
}

// Delivery is one delivery to be made: Next hands it out, Done takes it back.
type Delivery struct {
	Recipients
	dest *destination
}

// Result is what a delivery says about its destination.
type Result uint8

const (
	Answered   Result = iota // the destination is alive
	SiteFailed               // the destination as a whole did not work
	CutOff                   // nothing is known: the agent failed
)

// Schedule is the state of all queues.
type Schedule struct {
	backoff    time.Duration
	transports map[string]*transport
	order      ring[*transport] // each transport once; turns between them
	sleeping   sleepers
	waiting    int // recipients not handed out yet
}

// New makes an empty schedule. A dead destination is tried again after
// backoff (postconf(5) minimal_backoff_time).
func New(backoff time.Duration) *Schedule {
	return &Schedule{backoff: backoff, transports: map[string]*transport{}}
}

// SetBackoff changes how long destinations declared dead from now on stay so.
func (s *Schedule) SetBackoff(d time.Duration) { s.backoff = d }

// SetLimits sets the limits of a transport from the next step on. Deliveries
// that were handed out are not taken back.
func (s *Schedule) SetLimits(name string, l Limits) {
	t := s.transport(name)
	t.limits = l
	for _, d := range t.destinations {
		if max := l.concurrency(); max > 0 && d.window > float64(max) {
			d.window = float64(max)
		}
		d.grant()
	}
}

func (s *Schedule) transport(name string) *transport {
	t := s.transports[name]
	if t == nil {
		t = &transport{name: name, destinations: map[string]*destination{}, jobs: map[Message]*job{}}
		s.transports[name] = t
		s.order.push(t)
	}
	return t
}

// Add queues recipients. If their destination is dead it queues nothing and
// returns why it is dead.
func (s *Schedule) Add(r Recipients) (suspended dsn.Status, ok bool) {
	t := s.transport(r.Destination.Transport)
	d := t.destination(r.Destination.Name)
	if d.dead {
		return d.reason, false
	}
	p := t.job(r.Message).peer(d)
	p.indexes = append(p.indexes, r.Indexes...)
	s.waiting += len(r.Indexes)
	if p.place == nowhere {
		p.place = waiting
		d.waiting.push(p)
	}
	d.grant()
	return dsn.Status{}, true
}

// Next hands out a delivery that may start at now.
func (s *Schedule) Next(now time.Time) (*Delivery, bool) {
	s.wake(now)
	for range s.order.len() {
		t, _ := s.order.pop()
		s.order.push(t)
		if !t.free(now) {
			continue
		}
		if p := t.pick(); p != nil {
			return s.start(t, p, now), true
		}
	}
	return nil, false
}

func (s *Schedule) start(t *transport, p *peer, now time.Time) *Delivery {
	d := p.dest
	indexes := p.take(t.limits.Recipients)
	s.waiting -= len(indexes)
	d.granted--
	d.running++
	t.running++
	if delay := t.limits.TransportDelay; delay > 0 {
		t.notBefore = now.Add(delay)
	}
	if len(p.indexes) > 0 {
		p.place = waiting
		d.waiting.push(p)
	} else {
		p.forget()
	}
	d.grant()
	return &Delivery{Recipients{p.job.message, Destination{t.name, d.name}, indexes}, d}
}

// Done reports the end of a delivery. With SiteFailed, reason says why; if
// the destination is dead now, all that waited for it is returned and is no
// longer in the schedule.
func (s *Schedule) Done(del *Delivery, result Result, reason dsn.Status, now time.Time) []Recipients {
	d := del.dest
	d.running--
	d.transport.running--
	if delay := d.transport.limits.DestinationDelay; delay > 0 {
		d.notBefore = now.Add(delay)
		s.sleeping.add(d, d.notBefore)
	}
	var suspended []Recipients
	switch result {
	case Answered:
		d.positive()
	case SiteFailed:
		if d.negative() {
			d.dead, d.reason, d.wakesAt = true, reason, now.Add(s.backoff)
			s.sleeping.add(d, d.wakesAt)
			suspended = d.drain()
			for _, r := range suspended {
				s.waiting -= len(r.Indexes)
			}
		}
	}
	d.grant()
	d.release()
	return suspended
}

// Drop removes what waits of a message and returns it. Deliveries under way
// still need their Done.
func (s *Schedule) Drop(m Message) []Recipients {
	var all []Recipients
	for _, t := range s.transports {
		j := t.jobs[m]
		if j == nil {
			continue
		}
		for d, p := range j.peers {
			all = append(all, p.cancel())
			s.waiting -= len(all[len(all)-1].Indexes)
			d.grant()
			d.release()
		}
	}
	return all
}

// Alive revives all dead destinations and forgets rate delays, as a flush
// request does.
func (s *Schedule) Alive() {
	for _, t := range s.transports {
		t.notBefore = time.Time{}
		for _, d := range t.destinations {
			d.notBefore = time.Time{}
			d.revive()
			d.grant()
			d.release()
		}
	}
}

// Wake is when Next may have something to hand out that it has not now, apart
// from what Add and Done bring; false for never.
func (s *Schedule) Wake(now time.Time) (time.Time, bool) {
	at, ok := s.sleeping.first()
	for _, t := range s.transports {
		if t.notBefore.After(now) && t.ready.len() > 0 && (!ok || t.notBefore.Before(at)) {
			at, ok = t.notBefore, true
		}
	}
	return at, ok
}

// Waiting is the number of recipients that were added and not handed out.
func (s *Schedule) Waiting() int { return s.waiting }

// wake ends the sleep of destinations whose time has come.
func (s *Schedule) wake(now time.Time) {
	for {
		d, ok := s.sleeping.due(now)
		if !ok {
			return
		}
		if !d.wakesAt.IsZero() && !d.wakesAt.After(now) {
			d.wakesAt = time.Time{}
			d.revive()
		}
		if !d.notBefore.After(now) {
			d.notBefore = time.Time{}
		}
		d.grant()
		d.release()
	}
}
