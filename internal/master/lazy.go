package master

import (
	"context"
	"io"
	"sync"
	"time"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/sys/maillog"
)

// lazyAgent makes its agent when the first mail comes, as master(8) starts a
// delivery process: tables are opened, and complaints about settings are
// logged, only where there is mail. Settings that cannot be used keep the mail
// of this transport waiting, and are tried again after a while.
type lazyAgent struct {
	make  func() (transport.Agent, error)
	log   *maillog.Logger
	again time.Duration // service_throttle_time

	using sync.RWMutex // held for writing to close
	mu    sync.Mutex
	agent transport.Agent
	tried time.Time
}

var unavailable = dsn.New(450, "4.3.0", "mail transport unavailable")

// Deliver implements transport.Agent.
func (l *lazyAgent) Deliver(ctx context.Context, r *transport.Request) {
	l.using.RLock()
	defer l.using.RUnlock()
	agent := l.get()
	if agent == nil {
		for _, rcpt := range r.Recipients {
			r.Report(transport.Outcome{Index: rcpt.Index, Recipient: rcpt.Recipient, Status: unavailable.WithScope(dsn.Site), Relay: "none"})
		}
		return
	}
	agent.Deliver(ctx, r)
}

func (l *lazyAgent) get() transport.Agent {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.agent != nil || time.Since(l.tried) < l.again {
		return l.agent
	}
	l.tried = time.Now()
	agent, err := l.make()
	if err != nil {
		l.log.Fatalf("%v", err)
		return nil
	}
	l.agent = agent
	return agent
}

// Close closes the agent's tables when the last delivery has ended.
func (l *lazyAgent) Close() error {
	l.using.Lock()
	defer l.using.Unlock()
	if c, ok := l.agent.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
