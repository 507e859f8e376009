package master

import (
	"context"
	"errors"
	"net"
	"strings"

	"posthaste/internal/config"
	"posthaste/internal/config/mastercf"
	"posthaste/internal/qmgr"
	"posthaste/internal/queue"
	"posthaste/internal/queue/showq"
	"posthaste/internal/queue/trigger"
	"posthaste/internal/table"
	"posthaste/internal/table/matchlist"
)

var errNoCleanup = errors.New("master.cf has no service as cleanup_service_name says")

// maxRequests bounds the requests of commands that are served at a time, for
// each socket.
const maxRequests = 50

// answerRequests accepts connections of commands until the generation ends.
func (g *generation) answerRequests(name string, ln net.Listener, answer func(ctx context.Context, conn net.Conn)) {
	slots := make(chan struct{}, maxRequests)
	g.group.Go(name+" stop", func(context.Context) {
		<-g.listen.Done()
		ln.Close()
	})
	g.group.Go(name, func(context.Context) {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			slots <- struct{}{}
			started := g.group.Go(name+" request", func(ctx context.Context) {
				defer func() { conn.Close(); <-slots }()
				answer(ctx, conn)
			})
			if !started {
				conn.Close()
				return
			}
		}
	})
}

// startTrigger serves the sockets that commands send single letters to.
func (g *generation) startTrigger(_ *config.View, service mastercf.Service, ln net.Listener) {
	loop := g.system.loop
	switch service.Program() {
	case "qmgr":
		g.answerRequests("qmgr trigger", ln, func(ctx context.Context, conn net.Conn) {
			request := trigger.Receive(conn)
			has := func(letter rune) bool { return strings.ContainsRune(request, letter) }
			var err error
			switch {
			case has(trigger.IgnoreTime), has(trigger.ForgetDead):
				err = loop.Flush(ctx)
			case has(trigger.ScanDeferred):
				err = loop.ScanDeferred(ctx)
			case has(trigger.ScanIncoming), has(trigger.Wakeup):
				err = loop.ScanIncoming(ctx)
			}
			if err != nil && ctx.Err() == nil {
				g.system.logger(g.main, "qmgr").Warnf("request %q: %v", request, err)
			}
		})
	case "flush":
		g.answerRequests("flush", ln, func(ctx context.Context, conn net.Conn) {
			trigger.Serve(conn, func(f trigger.Flush) trigger.Answer { return g.flush(ctx, f) })
		})
	}
}

// flush is flush(8): it has one message, or the mail for one site, delivered.
func (g *generation) flush(ctx context.Context, f trigger.Flush) trigger.Answer {
	switch f.Kind {
	case trigger.SendFile:
		if g.system.loop.FlushID(ctx, f.ID) != nil {
			return trigger.Fail
		}
		return trigger.OK
	case trigger.Purge, trigger.Refresh:
		return trigger.OK // there are no logs to clean: the queue manager knows the sites
	}
	var c struct {
		Domains string `param:"fast_flush_domains"`
		Parents string `param:"parent_domain_matches_subdomains"`
	}
	if err := g.main.Fill(&c); err != nil {
		return trigger.Fail
	}
	list := matchlist.NewDomains(g.tables, "fast_flush_domains", c.Domains, table.MatchesSubdomains(c.Parents, "fast_flush_domains"))
	defer list.Close()
	eligible, err := list.Match(ctx, f.Site)
	switch {
	case err != nil:
		return trigger.Fail
	case !eligible:
		return trigger.Deny
	case g.system.loop.FlushSite(ctx, f.Site) != nil:
		return trigger.Fail
	}
	return trigger.OK
}

// startShowq serves queue listings.
func (g *generation) startShowq(view *config.View, _ mastercf.Service, ln net.Listener) {
	log := g.system.logger(view, "showq")
	g.answerRequests("showq", ln, func(ctx context.Context, conn net.Conn) {
		if err := showq.Write(ctx, conn, activeStore{g.system.store, g.system.loop}, showq.Config{}); err != nil && ctx.Err() == nil {
			log.Warnf("listing: %v", err)
		}
	})
}

// activeStore is the store with the messages that the queue manager has in
// hand shown in the active queue.
type activeStore struct {
	queue.Store
	loop *qmgr.Loop
}

// Scan implements queue.Store.
func (s activeStore) Scan(ctx context.Context, f queue.Filter, fn func(queue.Summary) error) error {
	active, err := s.loop.Active(ctx)
	if err != nil {
		return err
	}
	return s.Store.Scan(ctx, f, func(m queue.Summary) error {
		if active[m.ID] && m.Queue == queue.Incoming {
			m.Queue = queue.Active
		}
		return fn(m)
	})
}
