package qmgr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/qmgr/schedule"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/queue"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

// memStore is a queue.Store in memory that can be told to fail.
type memStore struct {
	mu       sync.Mutex
	messages map[queue.ID]*memMessage
	arrivals chan queue.ID
	serial   int
	fail     func(op string, id queue.ID) error // nil for never
}

type memMessage struct {
	env     *envelope.Envelope
	meta    queue.Meta
	rev     queue.Rev
	content string
}

func newMemStore() *memStore {
	return &memStore{messages: map[queue.ID]*memMessage{}, arrivals: make(chan queue.ID, 100)}
}

func (s *memStore) put(e *envelope.Envelope, to queue.Name) queue.ID {
	s.mu.Lock()
	s.serial++
	id := queue.ID(fmt.Sprintf("ID%d", s.serial))
	m := &memMessage{env: e, meta: queue.Meta{Queue: to, Reasons: map[int]dsn.Status{}}, content: "Subject: x\n\nhello\n"}
	for i := range e.Recipients {
		m.meta.Pending = append(m.meta.Pending, i)
	}
	s.messages[id] = m
	s.mu.Unlock()
	select {
	case s.arrivals <- id:
	default:
	}
	return id
}

func (s *memStore) failing(op string, id queue.ID) error {
	if s.fail == nil {
		return nil
	}
	return s.fail(op, id)
}

func (s *memStore) get(id queue.ID) (queue.Meta, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.messages[id]
	if !ok {
		return queue.Meta{}, false
	}
	return copyMeta(m.meta), true
}

func (s *memStore) change(id queue.ID, f func(*queue.Meta)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.messages[id].meta)
	s.messages[id].rev++
}

func copyMeta(m queue.Meta) queue.Meta {
	m.Pending, m.Failed, m.Reasons = slices.Clone(m.Pending), slices.Clone(m.Failed), maps.Clone(m.Reasons)
	return m
}

func (s *memStore) Begin(context.Context, queue.Hint) (queue.Draft, error) {
	return nil, errors.New("not used")
}

func (s *memStore) Open(_ context.Context, id queue.ID) (queue.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failing("open", id); err != nil {
		return nil, err
	}
	m, ok := s.messages[id]
	if !ok {
		return nil, queue.ErrNotFound
	}
	return &memOpen{id, m.env, copyMeta(m.meta), m.rev, m.content}, nil
}

func (s *memStore) Update(ctx context.Context, _ queue.Claim, id queue.ID, rev queue.Rev, ch queue.Change, _ queue.Durability) (queue.Rev, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failing("update", id); err != nil {
		return 0, err
	}
	m, ok := s.messages[id]
	if !ok {
		return 0, queue.ErrNotFound
	}
	if m.rev != rev {
		return 0, queue.ErrStale
	}
	for _, d := range ch.Done {
		if d.Status.Temporary() {
			m.meta.Reasons[d.Recipient] = d.Status
			continue
		}
		m.meta.Pending = slices.DeleteFunc(m.meta.Pending, func(i int) bool { return i == d.Recipient })
		delete(m.meta.Reasons, d.Recipient)
		if d.Status.Permanent() {
			m.meta.Failed = append(m.meta.Failed, d)
		}
	}
	if ch.Reported {
		m.meta.Failed = nil
	}
	set(&m.meta.Queue, ch.Queue)
	set(&m.meta.NextAttempt, ch.NextAttempt)
	set(&m.meta.Attempts, ch.Attempts)
	set(&m.meta.Warned, ch.Warned)
	set(&m.meta.Traced, ch.Traced)
	set(&m.meta.ForceExpire, ch.ForceExpire)
	m.rev++
	return m.rev, nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (s *memStore) Remove(_ context.Context, _ queue.Claim, id queue.ID, _ queue.Durability) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failing("remove", id); err != nil {
		return err
	}
	delete(s.messages, id)
	return nil
}

func (s *memStore) Scan(_ context.Context, f queue.Filter, fn func(queue.Summary) error) error {
	s.mu.Lock()
	if err := s.failing("scan", ""); err != nil {
		s.mu.Unlock()
		return err
	}
	var all []queue.Summary
	for _, id := range slices.Sorted(maps.Keys(s.messages)) {
		m := s.messages[id]
		if !slices.Contains(f.Queues, m.meta.Queue) {
			continue
		}
		one := queue.Summary{ID: id, Queue: m.meta.Queue, NextAttempt: m.meta.NextAttempt, ForceExpire: m.meta.ForceExpire}
		if f.Recipients {
			for _, i := range m.meta.Pending {
				one.Recipients = append(one.Recipients, queue.SummaryRecipient{Address: m.env.Recipients[i].Address})
			}
		}
		all = append(all, one)
	}
	s.mu.Unlock()
	for _, one := range all {
		if err := fn(one); err != nil {
			return err
		}
	}
	return nil
}

func (s *memStore) Claims(context.Context) (<-chan queue.ClaimEvent, error) {
	c := make(chan queue.ClaimEvent, 1)
	c <- queue.ClaimEvent{Gained: true}
	return c, nil
}

func (s *memStore) Arrivals() <-chan queue.ID { return s.arrivals }
func (s *memStore) Status(context.Context) (queue.Status, error) {
	return queue.Status{Accepting: true}, nil
}
func (s *memStore) Close(context.Context) error { return nil }

type memOpen struct {
	id      queue.ID
	env     *envelope.Envelope
	meta    queue.Meta
	rev     queue.Rev
	content string
}

func (m *memOpen) ID() queue.ID                 { return m.id }
func (m *memOpen) Envelope() *envelope.Envelope { return m.env }
func (m *memOpen) Meta() queue.Meta             { return m.meta }
func (m *memOpen) Rev() queue.Rev               { return m.rev }
func (m *memOpen) Size() int64                  { return int64(len(m.content)) }
func (m *memOpen) Content() io.ReadSeeker       { return strings.NewReader(m.content) }
func (m *memOpen) Close() error                 { return nil }

// fakeAgent answers by the recipient's local part: see answerFor.
type fakeAgent struct {
	mu    sync.Mutex
	tries map[addr.Address]int
	sent  map[addr.Address]int
	calls []string
	delay time.Duration
	hang  chan struct{} // closed to let hanging deliveries go
}

func (a *fakeAgent) Deliver(ctx context.Context, r *transport.Request) {
	a.mu.Lock()
	var names []string
	for _, rcpt := range r.Recipients {
		a.tries[rcpt.Address]++
		names = append(names, string(rcpt.Address))
	}
	a.calls = append(a.calls, fmt.Sprintf("%s:%s from=<%s> %s", r.Transport, r.Nexthop, r.Envelope.Sender, strings.Join(names, " ")))
	a.mu.Unlock()
	if a.delay > 0 {
		select {
		case <-time.After(a.delay):
		case <-ctx.Done():
			return
		}
	}
	for _, rcpt := range r.Recipients {
		a.deliver(ctx, r, rcpt)
	}
}

func (a *fakeAgent) deliver(ctx context.Context, r *transport.Request, rcpt transport.Recipient) {
	kind, _, _ := strings.Cut(rcpt.Address.Local(), "-")
	o := transport.Outcome{Index: rcpt.Index, Recipient: rcpt.Recipient, Relay: "fake", Status: dsn.New(250, "2.0.0", "delivered")}
	a.mu.Lock()
	try := a.tries[rcpt.Address]
	a.mu.Unlock()
	switch kind {
	case "bad":
		o.Status = dsn.New(550, "5.1.1", "no such user")
	case "later":
		o.Status = dsn.New(450, "4.2.0", "not now")
	case "once":
		if try == 1 {
			o.Status = dsn.New(450, "4.2.0", "not now")
		}
	case "down":
		o.Status, o.Relay = dsn.New(451, "4.4.1", "connect: Connection refused").WithScope(dsn.Site), "none"
	case "panic":
		panic("agent broke")
	case "silent":
		return
	case "wrong":
		o.Index = 99
	case "hang":
		select {
		case <-ctx.Done():
		case <-a.hang:
		}
		return
	case "expand": // one part works, one fails for now, the first time
		o.Recipient.Address = "part1@x"
		r.Report(o)
		o.Recipient.Address = "part2@x"
		if try == 1 {
			o.Status = dsn.New(450, "4.2.0", "not now")
		} else {
			o.Status = dsn.New(550, "5.1.1", "no such user")
		}
	case "relayed":
		o.Relayed = true
	case "remote":
		o.Status = o.Status.WithRemote(dsn.Remote{MTA: "mx", DiagType: "smtp", Diag: "250 ok"})
	}
	if o.Status.OK() && kind != "expand" && kind != "wrong" {
		a.mu.Lock()
		a.sent[rcpt.Address]++
		a.mu.Unlock()
	}
	r.Report(o)
}

// fakeBouncer writes down what it is asked for.
type fakeBouncer struct {
	mu      sync.Mutex
	notices []string
	failed  map[addr.Address]int
	fail    error
}

func (b *fakeBouncer) Notify(_ context.Context, n *Notice) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	var all []string
	for _, r := range n.Results {
		all = append(all, fmt.Sprintf("%s %s %s (%s)", r.Recipient.Address, r.Action, r.Status.Enhanced(), r.Status.Text()))
		if n.Kind == NoticeFailure {
			b.failed[r.Recipient.Address]++
		}
	}
	kind := [...]string{"failure", "delay", "success", "verify"}[n.Kind]
	b.notices = append(b.notices, fmt.Sprintf("%s %s: %s", n.ID, kind, strings.Join(all, "; ")))
	return nil
}

func (b *fakeBouncer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.notices, "\n")
}

type fakeAgents map[string]Service

func (f fakeAgents) Agent(name string) (Service, bool) { s, ok := f[name]; return s, ok }

type fakeResolver struct {
	mu   sync.Mutex
	fail error
}

func (f *fakeResolver) Resolve(_ context.Context, _, rcpt addr.Address) (route.Route, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return route.Route{}, f.fail
	}
	r := route.Route{Transport: "smtp", Nexthop: rcpt.Domain(), Recipient: rcpt}
	switch rcpt.Domain() {
	case "local.example":
		r.Transport, r.Class = "local", route.ClassLocal
	case "nosuch.example":
		r.Transport = "nosuch"
	case "malformed.example":
		r.Problem = dsn.New(550, "5.1.3", "bad address syntax")
	case "panic.example":
		panic("resolver broke")
	}
	return r, nil
}

// bench is a queue manager with everything around it faked.
type world struct {
	t        testing.TB
	store    *memStore
	agent    *fakeAgent
	bouncer  *fakeBouncer
	resolver *fakeResolver
	log      *maillog.Memory
	loop     *Loop
	group    *lifecycle.Group
	agents   fakeAgents
	cfg      Config
	probed   []string
}

func defaults() Config {
	return Config{ActiveLimit: 20000, RecipientLimit: 20000, QueueRunDelay: 300 * time.Second, MinBackoff: 300 * time.Second,
		MaxBackoff: 4000 * time.Second, MaxLifetime: 5 * 24 * time.Hour, BounceLifetime: 5 * 24 * time.Hour,
		TransportRetry: time.Minute, Deadline: 1000 * time.Second, AgentDeadline: 18000 * time.Second,
		DoubleBounce: "double-bounce", MyHostname: "mail.example.com", DelayDigits: 2}
}

func limits() schedule.Limits {
	return schedule.Limits{Initial: 5, Concurrency: 20, Recipients: 50, MaxProc: 100, FailedCohorts: 1}
}

func newWorld(t testing.TB, change func(*Config)) *world {
	w := &world{t: t, store: newMemStore(), bouncer: &fakeBouncer{failed: map[addr.Address]int{}}, resolver: &fakeResolver{}, log: &maillog.Memory{}, cfg: defaults(),
		agent: &fakeAgent{tries: map[addr.Address]int{}, sent: map[addr.Address]int{}, hang: make(chan struct{})}}
	if change != nil {
		change(&w.cfg)
	}
	one := limits()
	one.Recipients = 1
	logger := maillog.New(w.log, "postfix/smtp", 1, nil)
	w.agents = fakeAgents{"smtp": {Agent: w.agent, Limits: limits(), Log: logger}, "local": {Agent: w.agent, Limits: one, Log: logger.With("postfix/local")}}
	w.loop = New(w.cfg, w.neighbours(), Deps{Store: w.store, Log: logger.With("postfix/qmgr"), RetryLog: logger.With("postfix/error")})
	return w
}

func (w *world) neighbours() Neighbours {
	return Neighbours{Resolver: w.resolver, Agents: w.agents, Bouncer: w.bouncer,
		Probed: func(a addr.Address, s dsn.Status) { w.probed = append(w.probed, string(a)+" "+s.Enhanced()) }}
}

func (w *world) start() {
	w.group = lifecycle.New(context.Background(), nil)
	if err := w.loop.Start(w.group); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stop() {
	if err := w.group.Stop(10 * time.Second); err != nil {
		w.t.Error(err)
	}
}

func mail(sender addr.Address, rcpts ...addr.Address) *envelope.Envelope {
	e := &envelope.Envelope{Sender: sender, Arrival: time.Now()}
	for _, r := range rcpts {
		e.Recipients = append(e.Recipients, envelope.Recipient{Address: r})
	}
	return e
}
