package schedule

import (
	"cmp"
	"slices"
	"time"

	"posthaste/internal/mail/dsn"
)

// transport is one service of master.cf with its destinations and jobs.
type transport struct {
	name         string
	limits       Limits
	running      int
	notBefore    time.Time // transport rate delay
	destinations map[string]*destination
	jobs         map[Message]*job
	ready        ring[*job] // jobs with a granted peer, each once
}

// free reports whether another delivery may start.
func (t *transport) free(now time.Time) bool {
	return (t.limits.MaxProc <= 0 || t.running < t.limits.MaxProc) && !t.notBefore.After(now)
}

// pick takes the next granted peer: jobs take turns, and in a job its
// destinations do. A small message so waits for one delivery of each large
// one at most; preemption by size (SCHEDULER_README) would reorder ready.
func (t *transport) pick() *peer {
	for {
		j, ok := t.ready.pop()
		if !ok {
			return nil
		}
		p, ok := j.next()
		if !ok {
			j.ready = false
			continue
		}
		if j.granted.len() > 0 {
			t.ready.push(j)
		} else {
			j.ready = false
		}
		return p
	}
}

func (t *transport) destination(name string) *destination {
	d := t.destinations[name]
	if d == nil {
		d = &destination{transport: t, name: name, peers: map[*peer]struct{}{}, window: float64(t.limits.initial())}
		t.destinations[name] = d
	}
	return d
}

func (t *transport) job(m Message) *job {
	j := t.jobs[m]
	if j == nil {
		j = &job{transport: t, message: m, peers: map[*destination]*peer{}}
		t.jobs[m] = j
	}
	return j
}

// job is what a message has for one transport.
type job struct {
	transport *transport
	message   Message
	peers     map[*destination]*peer
	granted   ring[*peer]
	ready     bool // in transport.ready
}

func (j *job) peer(d *destination) *peer {
	p := j.peers[d]
	if p == nil {
		p = &peer{job: j, dest: d}
		j.peers[d] = p
		d.peers[p] = struct{}{}
	}
	return p
}

// next takes a granted peer, skipping those that were cancelled.
func (j *job) next() (*peer, bool) {
	for {
		p, ok := j.granted.pop()
		if !ok || p.place == granted {
			return p, ok
		}
	}
}

// place is where a peer is queued. Rings are not searched: a peer that is
// cancelled is marked, and skipped when it comes up.
type place uint8

const (
	nowhere place = iota
	waiting       // for room in its destination's window
	granted       // has room, waits for its job's turn
)

// peer is what a message has for one destination.
type peer struct {
	job     *job
	dest    *destination
	indexes []int
	place   place
}

// take removes up to limit recipients; 0 is no limit.
func (p *peer) take(limit int) []int {
	n := len(p.indexes)
	if limit > 0 && n > limit {
		n = limit
	}
	head := p.indexes[:n:n]
	p.indexes = p.indexes[n:]
	return head
}

// forget removes an empty peer, and its job with the last one.
func (p *peer) forget() {
	p.place = nowhere
	delete(p.dest.peers, p)
	delete(p.job.peers, p.dest)
	if len(p.job.peers) == 0 {
		delete(p.job.transport.jobs, p.job.message)
	}
}

// cancel takes all recipients out and gives a granted place back.
func (p *peer) cancel() Recipients {
	r := Recipients{p.job.message, Destination{p.dest.transport.name, p.dest.name}, p.indexes}
	if p.place == granted {
		p.dest.granted--
	}
	p.indexes = nil
	p.forget()
	return r
}

// destination is a transport and nexthop with its concurrency window.
type destination struct {
	transport *transport
	name      string
	waiting   ring[*peer]
	peers     map[*peer]struct{} // with recipients, waiting or granted
	granted   int                // places in the window that peers hold
	running   int                // deliveries

	window  float64 // allowed deliveries at once; whole steps
	success float64 // positive feedback towards the next step
	failure float64 // negative feedback, as in SCHEDULER_README
	cohorts float64 // pseudo-cohorts failed in a row

	dead      bool
	reason    dsn.Status // why dead
	wakesAt   time.Time  // end of dead
	notBefore time.Time  // destination rate delay
}

// rounding is what sums of feedback may miss.
const rounding = 1e-9

// grant gives free places in the window to peers in order of waiting.
func (d *destination) grant() {
	if d.dead || !d.notBefore.IsZero() {
		return
	}
	room := int(d.window)
	if d.transport.limits.DestinationDelay > 0 {
		room = 1
	}
	for d.granted+d.running < room {
		p, ok := d.waiting.pop()
		if !ok {
			return
		}
		if p.place != waiting {
			continue
		}
		p.place = granted
		d.granted++
		j := p.job
		j.granted.push(p)
		if !j.ready {
			j.ready = true
			d.transport.ready.push(j)
		}
	}
}

// drain takes out everything that waits for the destination.
func (d *destination) drain() []Recipients {
	var all []Recipients
	for p := range d.peers {
		all = append(all, p.cancel())
	}
	d.waiting = ring[*peer]{}
	slices.SortFunc(all, func(a, b Recipients) int { return cmp.Compare(a.Message, b.Message) })
	return all
}

// release forgets an idle destination; as in Postfix its window goes with it.
func (d *destination) release() {
	if len(d.peers) == 0 && d.running == 0 && !d.dead && d.notBefore.IsZero() {
		delete(d.transport.destinations, d.name)
	}
}

// revive ends the state dead; what concurrency is best now is anyone's guess.
func (d *destination) revive() {
	if !d.dead {
		return
	}
	d.dead, d.reason, d.wakesAt = false, dsn.Status{}, time.Time{}
	d.window = float64(max(d.running, d.transport.limits.initial()))
	d.success, d.failure, d.cohorts = 0, 0, 0
}

// positive is the feedback of a delivery that reached the destination. The
// window stays within reach of the real concurrency, or negative feedback
// would be without effect.
func (d *destination) positive() {
	d.cohorts = 0
	if d.dead {
		d.revive()
		return
	}
	l := &d.transport.limits
	limit := float64(l.concurrency())
	busy := float64(d.running + 1) // the delivery that just ended counts
	if (limit > 0 && d.window >= limit) || d.window >= busy+float64(l.initial()) {
		return
	}
	d.success += l.Positive.value(d.window)
	for d.success >= 1-rounding {
		d.window++
		d.success--
		d.failure = 0
	}
	if limit > 0 && d.window > limit {
		d.window = limit
	}
}

// negative is the feedback of a delivery that did not reach the destination;
// it returns true when the destination is to be declared dead.
func (d *destination) negative() bool {
	if d.dead {
		return false
	}
	l := &d.transport.limits
	d.cohorts += 1 / d.window
	if l.FailedCohorts > 0 && d.cohorts >= l.FailedCohorts-rounding {
		return true
	}
	// Negative feedback acts at the start of its cycle, positive at the end.
	d.failure -= l.Negative.value(d.window)
	for d.failure < -rounding {
		d.window--
		d.success = 0
		d.failure++
	}
	if d.window < 1 {
		d.window = 1
	}
	return false
}
