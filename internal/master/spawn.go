package master

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"

	"posthaste/internal/config"
	"posthaste/internal/config/mastercf"
	"posthaste/internal/delivery/pipe"
	"posthaste/internal/inbound/spawn"
	"posthaste/internal/sys/maillog"
)

// startSpawn runs spawn(8) behind one socket.
func (g *generation) startSpawn(view *config.View, service mastercf.Service, ln net.Listener) {
	log := g.system.logger(view, "spawn")
	g.group.Go("spawn "+service.Name, func(ctx context.Context) {
		commands, err := g.spawnService(view, service, log)
		for err != nil {
			log.Fatalf("%v", err)
			if !g.throttle(ctx, "spawn") {
				return
			}
			commands, err = g.spawnService(view, service, log)
		}
		commands.Serve(g.listen, g.group, ln)
	})
}

func (g *generation) spawnService(view *config.View, service mastercf.Service, log *maillog.Logger) (*spawn.Service, error) {
	var c spawn.Config
	if err := view.Fill(&c); err != nil {
		return nil, err
	}
	if err := view.FillTransport(service.Name, &c); err != nil {
		return nil, err
	}
	limit, err := view.Int("default_process_limit")
	if err != nil {
		return nil, err
	}
	owner, err := view.String("mail_owner")
	if err != nil {
		return nil, err
	}
	settings, err := spawn.ParseSettings(service.Args, pipe.Users{User: user.Lookup, Group: user.LookupGroup, Owner: owner})
	if err != nil {
		return nil, fmt.Errorf("%s/master.cf: line %d: service %s: %w", g.snap.Dir(), service.Line, service.Name, err)
	}
	return spawn.New(c, settings, spawn.Deps{Host: g.system.workers, Log: log, Getenv: os.LookupEnv, Limit: service.ProcessLimit(limit)}), nil
}
