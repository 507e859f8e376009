package qmgr

import (
	"context"
	"sync"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
)

// expansions are alias expansions that cleanup made and a sender wants to
// hear of, until the message is taken up.
type expansions struct {
	mu   sync.Mutex
	byID map[queue.ID][]Result
	n    int
}

// expansionLimit bounds what is kept; more are not reported.
const expansionLimit = 10000

// Expanded tells that a recipient whose sender asked for success reports was
// replaced by others (RFC 3464 action "expanded"). Call it before the message
// is committed; the report goes out with the others.
func (l *Loop) Expanded(_ context.Context, id queue.ID, _ *envelope.Envelope, r envelope.Recipient) error {
	x := &l.expansions
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.byID == nil || x.n >= expansionLimit {
		// What is left over belongs to messages that were never committed.
		x.byID, x.n = map[queue.ID][]Result{}, 0
	}
	x.byID[id] = append(x.byID[id], Result{Recipient: r, Relay: "none", Action: "expanded",
		Status: dsn.New(250, "2.0.0", "alias expanded")})
	x.n++
	return nil
}

func (x *expansions) take(id queue.ID) []Result {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := x.byID[id]
	delete(x.byID, id)
	x.n -= len(all)
	return all
}
