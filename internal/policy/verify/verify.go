// Package verify is verify(8): it knows whether mail to an address can be
// delivered, and finds out with probe messages.
//
// A probe goes through the queue and the delivery agents like other mail, but
// is not delivered; what would have become of it is told by Probed. It promises
// that an address is not probed again while a probe is under way or its last
// result is fresh, that a failed probe does not displace a good result that is
// still valid, and that what it keeps is bounded.
//
// The restrictions ask it (reject_unverified_sender and _recipient), the queue
// manager answers it, and master hands both in.
package verify

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/sys/maillog"
)

// Config is what verify(8) reads of main.cf.
type Config struct {
	Sender          string        `param:"address_verify_sender"`
	SenderTTL       time.Duration `param:"address_verify_sender_ttl"`
	PositiveExpire  time.Duration `param:"address_verify_positive_expire_time"`
	PositiveRefresh time.Duration `param:"address_verify_positive_refresh_time"`
	NegativeCache   bool          `param:"address_verify_negative_cache"`
	NegativeExpire  time.Duration `param:"address_verify_negative_expire_time"`
	NegativeRefresh time.Duration `param:"address_verify_negative_refresh_time"`
	Cleanup         time.Duration `param:"address_verify_cache_cleanup_interval"`
	Pending         int           `param:"address_verify_pending_request_limit"`
}

// Deps is what a Service needs of the rest of the system.
type Deps struct {
	Cache Cache
	Log   *maillog.Logger // tag postfix/verify
	// Probe queues a probe message. Its error is trouble of ours.
	Probe func(ctx context.Context, sender, recipient addr.Address) error
	Now   func() time.Time
}

// Service answers for one configuration. Safe for concurrent use.
type Service struct {
	cfg  Config
	deps Deps

	mu      sync.Mutex
	pending map[addr.Address]time.Time // probes without an answer, and when they were sent
	look    time.Time                  // when the cache is to be cleaned
}

// New makes a service. The cache stays the caller's.
func New(cfg Config, deps Deps) *Service {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Service{cfg: cfg, deps: deps, pending: map[addr.Address]time.Time{}}
}

// probeTTL is how long a probe may take before another one is sent.
const probeTTL = 1000 * time.Second

// inProgress is the text about an address of which nothing is known yet.
const inProgress = "Address verification in progress"

// Query implements restrict.Verifier.
func (s *Service) Query(ctx context.Context, a addr.Address) (restrict.Verification, error) {
	now := s.deps.Now()
	s.clean(now)
	e, known := s.deps.Cache.get(string(a))
	if !known || s.expired(e, now) {
		e = entry{state: stateToDo, text: inProgress}
	}
	if now.Sub(e.probed) > probeTTL && s.stale(e, now) && s.begin(a, now) {
		if err := s.deps.Probe(ctx, s.sender(now), a); err != nil {
			s.end(a)
			return restrict.Verification{}, err
		}
		if !e.updated.IsZero() || s.cfg.NegativeCache {
			s.noteProbe(a, e, now)
		}
	}
	return restrict.Verification{State: public[e.state], Text: e.text}, nil
}

// noteProbe remembers that a probe was sent, unless it was answered already.
func (s *Service) noteProbe(a addr.Address, e entry, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, waiting := s.pending[a]; waiting {
		e.probed = now
		s.deps.Cache.put(string(a), e)
	}
}

var public = [...]restrict.VerificationState{
	stateOK: restrict.VerifyOK, stateDeferred: restrict.VerifyDeferred,
	stateBounced: restrict.VerifyBounced, stateToDo: restrict.VerifyPending,
}

// expired: what is known is too old to be said.
func (s *Service) expired(e entry, now time.Time) bool {
	if e.state == stateOK {
		return now.Sub(e.updated) > s.cfg.PositiveExpire
	}
	return now.Sub(e.updated) > s.cfg.NegativeExpire && now.Sub(e.probed) > probeTTL
}

// stale: what is known is to be found out again.
func (s *Service) stale(e entry, now time.Time) bool {
	if e.state == stateOK {
		return now.Sub(e.updated) > s.cfg.PositiveRefresh
	}
	return now.Sub(e.updated) > s.cfg.NegativeRefresh
}

// begin notes a probe; false means that one is under way, or that there are
// too many.
func (s *Service) begin(a addr.Address, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sent, waiting := s.pending[a]; waiting && now.Sub(sent) <= probeTTL {
		return false
	}
	if len(s.pending) >= max(s.cfg.Pending, 1) {
		for other, sent := range s.pending {
			if now.Sub(sent) > probeTTL {
				delete(s.pending, other)
			}
		}
	}
	if len(s.pending) >= max(s.cfg.Pending, 1) {
		s.deps.Log.Warnf("address_verify_pending_request_limit reached: %d; not probing <%s>", s.cfg.Pending, a.External())
		return false
	}
	s.pending[a] = now
	return true
}

func (s *Service) end(a addr.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, a)
}

// Probed takes the answer to a probe (qmgr.Neighbours.Probed).
func (s *Service) Probed(a addr.Address, status dsn.Status) {
	now := s.deps.Now()
	e := entry{state: stateDeferred, updated: now, text: status.Text()}
	switch {
	case status.OK():
		e.state = stateOK
	case status.Permanent():
		e.state = stateBounced
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, a)
	if e.state != stateOK {
		old, known := s.deps.Cache.get(string(a))
		if !s.cfg.NegativeCache || known && old.state == stateOK && !s.expired(old, now) {
			return
		}
	}
	s.deps.Cache.put(string(a), e)
}

// clean drops what has expired, when it is time to.
func (s *Service) clean(now time.Time) {
	if s.cfg.Cleanup <= 0 {
		return
	}
	s.mu.Lock()
	due := !now.Before(s.look)
	if due {
		s.look = now.Add(s.cfg.Cleanup)
	}
	s.mu.Unlock()
	if !due {
		return
	}
	retained, dropped, done := s.deps.Cache.sweep(now, s.cfg.Cleanup, func(e entry) bool { return !s.expired(e, now) })
	if done {
		s.deps.Log.Infof("cache %s full cleanup: retained=%d dropped=%d entries", s.deps.Cache.Name(), retained, dropped)
	}
}

// sender is the sender of probes. With address_verify_sender_ttl its local
// part changes with time.
func (s *Service) sender(now time.Time) addr.Address {
	name := s.cfg.Sender
	if name == "" || name == "<>" || s.cfg.SenderTTL <= 0 {
		return addr.Unquote(strings.Trim(name, "<>"))
	}
	epoch := strconv.FormatInt(now.Unix()/max(int64(s.cfg.SenderTTL.Seconds()), 1), 31)
	local, domain, found := strings.Cut(name, "@")
	if found {
		domain = "@" + domain
	}
	return addr.Unquote(local + epoch + domain)
}
