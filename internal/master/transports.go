package master

import (
	"fmt"
	"os"
	"os/user"

	"posthaste/internal/config"
	"posthaste/internal/config/mastercf"
	"posthaste/internal/delivery/null"
	"posthaste/internal/delivery/pipe"
	"posthaste/internal/delivery/smtp"
	"posthaste/internal/delivery/virtual"
	"posthaste/internal/qmgr"
	"posthaste/internal/qmgr/schedule"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/sys/maillog"
)

// agentMaker makes the agent of one service.
type agentMaker func(g *generation, view *config.View, service mastercf.Service, log *maillog.Logger) (transport.Agent, error)

// agents are the programs of master.cf that deliver mail.
func agents() map[string]agentMaker {
	return map[string]agentMaker{
		"smtp": makeSMTP, "lmtp": makeLMTP, "virtual": makeVirtual, "local": makeLocal, "pipe": makePipe,
		"error": makeError, "discard": makeDiscard,
	}
}

// transports prepares the delivery agents of master.cf.
func (g *generation) transports() error {
	makers := agents()
	throttle, err := g.main.Duration("service_throttle_time")
	if err != nil {
		return err
	}
	for _, service := range g.snap.Services() {
		program := service.Program()
		make, ok := makers[program]
		if !ok || service.Type != "unix" && service.Type != "fifo" {
			continue
		}
		view, err := g.snap.Service(service)
		if err != nil {
			return err
		}
		log := g.system.logger(view, program)
		limits, err := g.limits(view, service)
		if err != nil {
			return err
		}
		agent := &lazyAgent{log: log, again: throttle, make: func() (transport.Agent, error) { return make(g, view, service, log) }}
		g.keep(agent)
		g.agents[service.Name] = qmgr.Service{Agent: agent, Limits: limits, Log: log}
	}
	return nil
}

// limits are the scheduler's settings for a transport.
func (g *generation) limits(view *config.View, service mastercf.Service) (schedule.Limits, error) {
	var l schedule.Settings
	if err := view.FillTransport(service.Name, &l); err != nil {
		return schedule.Limits{}, err
	}
	limit, err := view.Int("default_process_limit")
	if err != nil {
		return schedule.Limits{}, err
	}
	return l.Limits(service.ProcessLimit(limit))
}

func makeSMTP(g *generation, view *config.View, _ mastercf.Service, log *maillog.Logger) (transport.Agent, error) {
	var c smtp.Config
	if err := view.Fill(&c); err != nil {
		return nil, err
	}
	if told := oldDefault(view, log); told != nil {
		told("smtp_tls_security_level=(empty)", "")
	}
	tellUnsupported(view, "smtp_", log)
	return smtp.New(c, g.smtpDeps(log))
}

func makeLMTP(g *generation, view *config.View, _ mastercf.Service, log *maillog.Logger) (transport.Agent, error) {
	var c smtp.Config
	if err := view.FillAs(&c, "smtp_", "lmtp_"); err != nil {
		return nil, err
	}
	var err error
	if c.LHLOName, err = view.String("lmtp_lhlo_name"); err != nil {
		return nil, err
	}
	tellUnsupported(view, "lmtp_", log)
	d := g.smtpDeps(log)
	d.LMTP = true
	return smtp.New(c, d)
}

func (g *generation) smtpDeps(log *maillog.Logger) smtp.Deps {
	queue, _ := g.main.String("queue_directory")
	return smtp.Deps{DNS: g.system.dns, Log: log, Own: g.isOwn, IsLocal: g.resolver.IsLocal, QueueDirectory: queue, Tables: g.tables.With(log), OpenFile: g.system.env.OpenFile}
}

func makeVirtual(g *generation, view *config.View, _ mastercf.Service, log *maillog.Logger) (transport.Agent, error) {
	var c virtual.Config
	if err := view.Fill(&c); err != nil {
		return nil, err
	}
	return virtual.New(c, virtual.Deps{Host: g.system.workers, Tables: g.tables, Log: log})
}

func makePipe(g *generation, view *config.View, service mastercf.Service, log *maillog.Logger) (transport.Agent, error) {
	var c pipe.Config
	if err := view.Fill(&c); err != nil {
		return nil, err
	}
	if err := view.FillTransport(service.Name, &c); err != nil {
		return nil, err
	}
	owner, err := view.String("mail_owner")
	if err != nil {
		return nil, err
	}
	settings, err := pipe.ParseSettings(service.Args, pipe.Users{User: user.Lookup, Group: user.LookupGroup, Owner: owner})
	if err != nil {
		return nil, fmt.Errorf("%s/master.cf: line %d: service %s: %w", g.snap.Dir(), service.Line, service.Name, err)
	}
	return pipe.New(c, settings, pipe.Deps{Host: g.system.workers, Log: log, Getenv: os.LookupEnv}), nil
}

// makeError serves error(8) and its other name, retry.
func makeError(_ *generation, _ *config.View, service mastercf.Service, log *maillog.Logger) (transport.Agent, error) {
	kind := null.Error
	if service.Name == "retry" {
		kind = null.Retry
	}
	return null.New(kind, log, nil), nil
}

func makeDiscard(_ *generation, _ *config.View, _ mastercf.Service, log *maillog.Logger) (transport.Agent, error) {
	return null.New(null.Discard, log, nil), nil
}
