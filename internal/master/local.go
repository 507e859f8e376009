package master

import (
	"context"
	"fmt"
	"os"

	"posthaste/internal/cleanup"
	"posthaste/internal/config"
	"posthaste/internal/config/mastercf"
	"posthaste/internal/delivery/local"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/sys/maillog"
)

// addresses joins the two halves of trivial-rewrite(8).
type addresses struct {
	*route.Rewriter
	*route.Resolver
}

// makeLocal makes local(8). What it forwards comes back in at the front door;
// what it passes to another transport goes to that transport's agent.
func makeLocal(g *generation, view *config.View, _ mastercf.Service, log *maillog.Logger) (transport.Agent, error) {
	var c local.Config
	if err := view.Fill(&c); err != nil {
		return nil, err
	}
	return local.New(c, local.Deps{
		Host: g.system.workers, Tables: g.tables, Users: local.NewNameService(),
		Resolver: addresses{g.resolver.Rewriter(), g.resolver},
		Submit: func(ctx context.Context, size int64) (local.Submission, error) {
			service, ok := g.cleanup(view)
			if !ok {
				return nil, errNoCleanup
			}
			return service.Begin(ctx, cleanup.Options{Flags: service.Flags(cleanup.SourceForward), Origin: "local", Size: size})
		},
		Pass: func(ctx context.Context, r *transport.Request) error {
			other, ok := g.agents[r.Transport]
			if !ok {
				return fmt.Errorf("no transport %q in master.cf", r.Transport)
			}
			report := r.Report
			r.Report = func(o transport.Outcome) {
				o.Log = other.Log
				report(o)
			}
			other.Agent.Deliver(ctx, r)
			return nil
		},
		Notify: local.ComsatNotify, Log: log, Getenv: os.LookupEnv,
	})
}
