// Package qmgr is the queue manager, qmgr(8): it decides what is delivered
// when, has it delivered, and sees every message to its end.
//
// It takes messages from the incoming queue and, when their time has come,
// from the deferred queue; resolves their recipients; hands them in groups to
// the agents of the transports; records what became of each; asks for reports;
// puts off what failed for now, and returns what is too old.
//
// One goroutine owns all state (Loop, package schedule). Work that may block -
// the store, the resolver, an agent, a report - is done by workers whose number
// is bounded by limits, and comes back as an event. Nothing waits per message.
//
// It promises that every recipient of a committed message ends in exactly one
// of delivered, bounced, discarded by rule, or still queued. What it cannot
// record it tries to record again before it lets the message go; a crash
// repeats a delivery but loses none. A recipient without an answer of its
// agent counts as deferred.
//
// BUGS: reports on success are kept in memory until all recipients of a
// message were tried; a crash loses them. If a message is taken up again after
// its report on failure could not be queued, the report names the recipients
// of the envelope, not what local(8) expanded them into.
//
// Master starts it; cleanup wakes it through the store's hints; commands reach
// it through Flush and its neighbours.
package qmgr

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/qmgr/schedule"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/queue"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

// Config is what the queue manager reads of main.cf (postconf(5)).
type Config struct {
	ActiveLimit    int           `param:"qmgr_message_active_limit"`
	RecipientLimit int           `param:"qmgr_message_recipient_limit"`
	QueueRunDelay  time.Duration `param:"queue_run_delay"`
	MinBackoff     time.Duration `param:"minimal_backoff_time"`
	MaxBackoff     time.Duration `param:"maximal_backoff_time"`
	MaxLifetime    time.Duration `param:"maximal_queue_lifetime"`
	BounceLifetime time.Duration `param:"bounce_queue_lifetime"`
	DelayWarning   time.Duration `param:"delay_warning_time"`
	ConfirmCleared bool          `param:"confirm_delay_cleared"`
	DeferTransport string        `param:"defer_transports"`
	TransportRetry time.Duration `param:"transport_retry_time"`
	Deadline       time.Duration `param:"qmgr_daemon_timeout"` // for store, resolver and report
	AgentDeadline  time.Duration `param:"daemon_timeout"`      // for one delivery
	SoftBounce     bool          `param:"soft_bounce"`
	Delimiter      string        `param:"recipient_delimiter"`
	OwnerSpecial   bool          `param:"owner_request_special"`
	DoubleBounce   string        `param:"double_bounce_sender"`
	MyHostname     string        `param:"myhostname"`
	DelayDigits    int           `param:"delay_logging_resolution_limit"`
	AddressFormat  string        `param:"info_log_address_format"`
}

// Resolver finds the way of a recipient. An error means try again.
type Resolver interface {
	Resolve(ctx context.Context, sender, recipient addr.Address) (route.Route, error)
}

// Service is what stands behind the name of a transport.
type Service struct {
	Agent  transport.Agent
	Limits schedule.Limits
	Log    *maillog.Logger             // tag of the agent, for its delivery lines
	Filter func(dsn.Status) dsn.Status // delivery_status_filter; nil for none
}

// Agents knows the transports of master.cf. It answers from memory.
type Agents interface {
	Agent(transport string) (Service, bool)
}

// Neighbours are the parts that come new with each reload.
type Neighbours struct {
	Resolver Resolver
	// Probing is the Resolver for address verification probes; nil for the
	// same.
	Probing Resolver
	Agents  Agents
	Bouncer Bouncer
	// Probed is told the answers to address verification probes (verify(8));
	// nil if nobody asks.
	Probed func(recipient addr.Address, s dsn.Status)
	// Released is called once, from the loop, when nothing uses these
	// neighbours any more: others have come, and all work with these has
	// ended. It must not block. nil if nobody asks.
	Released func()
}

// Deps are the parts that stay.
type Deps struct {
	Store    queue.Store
	Log      *maillog.Logger // tag postfix/qmgr
	RetryLog *maillog.Logger // tag postfix/error, for deliveries that no agent was asked for
	Now      func() time.Time
}

// ErrStopped is returned by requests to a Loop that has ended.
var ErrStopped = errors.New("qmgr: stopped")

// Loop is the queue manager. Its fields below mu belong to its goroutine.
type Loop struct {
	deps   Deps
	group  *lifecycle.Group
	events chan func()
	due    chan []candidate // from scans; read only while there is room
	ended  chan struct{}

	expansions expansions

	current   *settings
	claim     queue.Claim
	owned     bool // there is a claim to work under
	stopping  bool
	running   int // workers
	schedule  *schedule.Schedule
	limits    map[string]bool // transports whose limits the schedule knows
	active    map[queue.ID]*message
	byKey     map[schedule.Message]*message
	lastKey   schedule.Message
	rcpts     int // recipients of active messages
	backlog   backlog
	opening   int
	finishing int
	toFinish  []*message
	retries   []retry
	scans     scans
	complaint map[string]time.Time // when an unknown transport was last warned about
}

// settings is one configuration snapshot. Work that holds it goes on with its
// neighbours after others have come.
type settings struct {
	Config
	Neighbours
	log      transport.LogConfig
	deferred map[string]bool // defer_transports
	ext      addr.Extensions

	// These belong to the loop.
	users    int
	replaced bool
}

// hold keeps the neighbours of a snapshot from being released before the
// function that it returns has been called.
func (set *settings) hold() (release func()) {
	set.users++
	return func() {
		set.users--
		set.unused()
	}
}

func (set *settings) unused() {
	if set.replaced && set.users == 0 && set.Released != nil {
		set.Released()
	}
}

// New makes a Loop. Start sets it going.
func New(cfg Config, n Neighbours, d Deps) *Loop {
	if d.Now == nil {
		d.Now = time.Now
	}
	l := &Loop{
		deps: d, events: make(chan func(), 256), due: make(chan []candidate), ended: make(chan struct{}),
		schedule: schedule.New(cfg.MinBackoff), limits: map[string]bool{},
		active: map[queue.ID]*message{}, byKey: map[schedule.Message]*message{}, complaint: map[string]time.Time{},
	}
	l.backlog.waiting = map[queue.ID]bool{}
	l.use(cfg, n)
	return l
}

func (l *Loop) use(cfg Config, n Neighbours) {
	cur := &settings{Config: cfg, Neighbours: n, deferred: map[string]bool{},
		log: transport.LogConfig{Digits: cfg.DelayDigits, SoftBounce: cfg.SoftBounce, AddressFormat: cfg.AddressFormat},
		ext: addr.Extensions{Delimiters: cfg.Delimiter, OwnerRequest: cfg.OwnerSpecial, DoubleBounce: cfg.DoubleBounce}}
	for _, name := range table.SplitList(cfg.DeferTransport) {
		cur.deferred[name] = true
	}
	if cfg.BounceLifetime > cfg.MaxLifetime {
		l.deps.Log.Warnf("bounce_queue_lifetime is larger than maximal_queue_lifetime - adjusting bounce_queue_lifetime")
		cur.BounceLifetime = cfg.MaxLifetime
	}
	old := l.current
	l.current = cur
	if old != nil {
		old.replaced = true
		old.unused()
	}
	l.schedule.SetBackoff(cfg.MinBackoff)
	for name := range l.limits {
		delete(l.limits, name)
		l.prepare(name)
	}
}

// Start runs the loop and its workers in g, until g stops: then it takes up
// nothing new, lets deliveries end or be cut off, and records what they said.
func (l *Loop) Start(g *lifecycle.Group) error {
	claims, err := l.deps.Store.Claims(g.Context())
	if err != nil {
		return err
	}
	l.group = g
	if !g.Go("qmgr", func(context.Context) { l.run(claims) }) {
		return ErrStopped
	}
	return nil
}

// run is the loop. Whatever happens is an event; after each it starts what
// may start.
func (l *Loop) run(claims <-chan queue.ClaimEvent) {
	defer close(l.ended)
	arrivals, stopping := l.deps.Store.Arrivals(), l.group.Stopping()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for !l.stopping || l.running > 0 || len(l.toFinish) > 0 {
		due := l.due
		if l.stopping || l.backlog.full() {
			due = nil
		}
		timer.Reset(l.advance())
		select {
		case f := <-l.events:
			f()
		case id, ok := <-arrivals:
			if !ok {
				arrivals = nil
			} else {
				l.arrived(id)
			}
		case batch := <-due:
			l.backlog.add(batch)
		case event, ok := <-claims:
			if !ok {
				claims = nil
			} else {
				l.claimed(event)
			}
		case <-timer.C:
		case <-stopping:
			l.stopping, stopping = true, nil
		}
		l.drain()
	}
	for _, m := range l.active {
		if m.msg != nil {
			m.msg.Close()
		}
	}
}

// drain takes further events that are there already, before anything starts.
func (l *Loop) drain() {
	for range cap(l.events) {
		select {
		case f := <-l.events:
			f()
		default:
			return
		}
	}
}

func (l *Loop) claimed(e queue.ClaimEvent) {
	l.claim, l.owned = e.Claim, e.Gained
	if e.Gained {
		l.scans.want(scanIncoming, scanDeferred)
	}
}

// arrived takes a hint. When there is no room for it, a scan will find it.
func (l *Loop) arrived(id queue.ID) {
	if l.stopping {
		return
	}
	if l.backlog.full() {
		l.scans.want(scanIncoming)
		return
	}
	l.backlog.addFresh(id)
}

// advance starts all that may start, and returns how long nothing else will.
func (l *Loop) advance() time.Duration {
	now := l.deps.Now()
	wait := time.Hour
	if l.stopping || !l.owned {
		l.finishNext()
		return wait
	}
	l.retryDue(now)
	l.finishNext()
	l.openNext()
	l.dispatch(now)
	sooner := func(at time.Time, ok bool) {
		if ok {
			wait = max(min(wait, at.Sub(now)), time.Millisecond)
		}
	}
	sooner(l.scanDue(now), true)
	sooner(l.schedule.Wake(now))
	if len(l.retries) > 0 {
		sooner(l.retries[0].at, true)
	}
	return wait
}

// work runs f in a worker; then, which f returns, runs in the loop.
func (l *Loop) work(name string, f func(ctx context.Context) (then func())) {
	l.running++
	started := l.group.Go(name, func(ctx context.Context) {
		then := f(ctx)
		l.events <- func() {
			l.running--
			then()
		}
	})
	if !started {
		l.running-- // the group has ended, and with it this loop
	}
}

// safely runs f and makes a panic in it an error, so that one bad message does
// not take the others along.
func (l *Loop) safely(what string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			l.deps.Log.Panicf("%s: %v: %.2000s", what, v, debug.Stack())
			err = fmt.Errorf("qmgr: %s: panic: %v", what, v)
		}
	}()
	return f()
}

// do has the loop run f, and waits for it.
func (l *Loop) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case l.events <- func() { f(); close(done) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ended:
		return ErrStopped
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ended:
		return ErrStopped
	}
}

// Reconfigure makes new settings apply to all that starts from now on. What
// is under way goes on with the old ones.
func (l *Loop) Reconfigure(ctx context.Context, cfg Config, n Neighbours) error {
	return l.do(ctx, func() {
		l.use(cfg, n)
		l.scans.want(scanIncoming)
	})
}

// Flush tries all deferred mail now, also over defer_transports and to dead
// destinations (postqueue -f).
func (l *Loop) Flush(ctx context.Context) error {
	return l.do(ctx, func() {
		l.schedule.Alive()
		l.scans.want(scanIncoming)
		l.scans.flush = true
	})
}

// FlushID tries one message now (postqueue -i).
func (l *Loop) FlushID(ctx context.Context, id queue.ID) error {
	return l.do(ctx, func() {
		l.schedule.Alive()
		l.backlog.add([]candidate{{id: id, flush: true}})
	})
}

// FlushSite tries all mail for a recipient domain now (postqueue -s, ETRN).
func (l *Loop) FlushSite(ctx context.Context, domain string) error {
	return l.do(ctx, func() {
		l.schedule.Alive()
		l.scans.sites = append(l.scans.sites, domain)
	})
}

// ScanIncoming looks for new mail now, as it is done every queue_run_delay.
func (l *Loop) ScanIncoming(ctx context.Context) error {
	return l.do(ctx, func() { l.scans.want(scanIncoming) })
}

// ScanDeferred looks for deferred mail whose time has come now.
func (l *Loop) ScanDeferred(ctx context.Context) error {
	return l.do(ctx, func() { l.scans.want(scanDeferred) })
}

// Active names the messages that are being worked on, for listings.
func (l *Loop) Active(ctx context.Context) (map[queue.ID]bool, error) {
	ids := map[queue.ID]bool{}
	err := l.do(ctx, func() {
		for id := range l.active {
			ids[id] = true
		}
	})
	return ids, err
}
