package checkspf

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"posthaste/internal/policy/spf"
)

const (
	remember   = time.Minute // as long as a session with many recipients takes
	maxResults = 10_000
)

// Results remembers answers for a minute, so that a message with many
// recipients, and greylisting, do not ask DNS again. TempError is not
// remembered. Safe for concurrent use.
type Results struct {
	now func() time.Time

	mu    sync.Mutex
	known map[question]remembered
}

// question is what an answer depends on.
type question struct {
	ip           netip.Addr
	scope        spf.Scope
	sender, helo string
}

type remembered struct {
	answer  spf.Answer
	expires time.Time
}

// NewResults makes an empty memory.
func NewResults() *Results {
	return &Results{now: time.Now, known: map[question]remembered{}}
}

// check is checker.Check, or what is remembered of it.
func (r *Results) check(ctx context.Context, checker *spf.Checker, q spf.Query) spf.Answer {
	key := question{q.IP.Unmap().WithZone(""), q.Scope, q.Sender, q.Helo}
	r.mu.Lock()
	known, ok := r.known[key]
	r.mu.Unlock()
	if ok && r.now().Before(known.expires) {
		return known.answer
	}
	answer := checker.Check(ctx, q)
	if answer.Result != spf.TempError {
		r.put(key, answer)
	}
	return answer
}

func (r *Results) put(key question, answer spf.Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if len(r.known) >= maxResults {
		for key, old := range r.known {
			if !now.Before(old.expires) {
				delete(r.known, key)
			}
		}
	}
	if len(r.known) >= maxResults {
		clear(r.known) // a flood: it is a memory of a minute
	}
	r.known[key] = remembered{answer, now.Add(remember)}
}

// Check answers whether a client may send for a MAIL FROM address or, when
// that is null, for the HELO name; from memory if it can. Greylisting uses it.
func (g *Gate) Check(ctx context.Context, ip netip.Addr, sender, helo string) spf.Answer {
	q := spf.Query{IP: ip, Sender: sender, Helo: helo}
	if sender == "" {
		q = spf.Query{IP: ip, Scope: spf.Helo, Helo: helo}
	}
	return g.results.check(ctx, g.checker, q)
}
