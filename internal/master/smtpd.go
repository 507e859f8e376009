package master

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"posthaste/internal/config"
	"posthaste/internal/config/maincf"
	"posthaste/internal/config/mastercf"
	"posthaste/internal/delivery/bounce"
	"posthaste/internal/inbound/smtpd"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/queue/trigger"
	"posthaste/internal/sys/maillog"
)

// startSMTPD runs smtpd(8) behind one socket. Settings that it cannot work
// with are fatal for the service alone: clients wait, and it is tried again.
func (g *generation) startSMTPD(view *config.View, service mastercf.Service, ln net.Listener) {
	log := g.system.logger(view, "smtpd")
	g.accepting.Add(1)
	accepted := sync.OnceFunc(g.accepting.Done)
	g.group.Go("smtpd "+service.Name, func(ctx context.Context) {
		defer accepted()
		defer ln.Close() // not at the end of the last session: a port that went with a reload is closed
		ln := g.awaitClient(ctx, ln)
		if ln == nil {
			return
		}
		b, _ := ln.(*begun)
		defer b.drop()
		server, err := g.smtpServer(view, service, log)
		for err != nil {
			log.Fatalf("%v", err)
			if !g.throttle(ctx, "smtpd") {
				return
			}
			server, err = g.smtpServer(view, service, log)
		}
		if err := server.Serve(g.listen, g.group, ln); err != nil {
			log.Warnf("accept connection: %v", err)
		}
		accepted()
		if conn := b.take(); conn != nil { // it came just before a reload
			_ = ln.Close()
			server.ServeConn(ctx, conn)
		}
	})
}

// crashed says what master(8) says about a server that cannot start, and is how
// long it waits before the next try.
func (g *generation) crashed(program string) time.Duration {
	var c struct {
		Directory string        `param:"daemon_directory"`
		Throttle  time.Duration `param:"service_throttle_time"`
	}
	if err := g.main.Fill(&c); err != nil {
		return time.Minute
	}
	log, path := g.system.logger(g.main, "master"), filepath.Join(c.Directory, program)
	log.Warnf("process %s pid %d exit status 1", path, os.Getpid())
	log.Warnf("%s: bad command startup -- throttling", path)
	return c.Throttle
}

// throttle waits before a service that cannot start is tried again. It reports
// whether it is to be.
func (g *generation) throttle(ctx context.Context, program string) bool {
	select {
	case <-time.After(g.crashed(program)):
		return true
	case <-ctx.Done():
	case <-g.listen.Done():
	}
	return false
}

func (g *generation) smtpServer(view *config.View, service mastercf.Service, log *maillog.Logger) (*smtpd.Server, error) {
	var c smtpd.Config
	if err := view.Fill(&c); err != nil {
		return nil, err
	}
	stressed, err := g.stressed(service, c)
	if err != nil {
		return nil, err
	}
	checker, err := g.checker(view, service, log)
	if err != nil {
		return nil, err
	}
	limit, err := view.Int("default_process_limit")
	if err != nil {
		return nil, err
	}
	intake, ok := g.cleanup(view)
	if !ok {
		return nil, errNoCleanup
	}
	server, err := smtpd.New(c, smtpd.Deps{
		Sink: smtpd.CleanupSink{Service: intake}, Checker: checker, Resolver: g.system.dns, Tables: g.tables.With(log),
		Rates: g.system.rates, ValidAddress: smtpd.Resolvable(g.resolver), OwnAddress: g.isInterface, Free: g.freeSpace, Flush: g.etrn,
		Notify: func(ctx context.Context, t smtpd.Transcript) {
			g.transcript(ctx, bounce.Transcript{Classes: t.Classes, Subject: t.Subject, Lines: t.Lines, Reason: t.Reason})
		},
		OnPanic:  func(value any, stack []byte) { g.system.panicked("smtpd session", value, stack) },
		OpenFile: g.system.env.OpenFile, Throttle: func() time.Duration { return g.crashed("smtpd") },
		Log: log,
	}, smtpd.Options{Service: service.Name, MaxProc: service.ProcessLimit(limit), Stress: stressed})
	if err != nil {
		return nil, err
	}
	g.keep(server)
	tellUnsupported(view, "smtpd_", log)
	return server, nil
}

// stressed are the settings with stress=yes, for when all sessions are in use
// (STRESS_README); nil if they are no others.
func (g *generation) stressed(service mastercf.Service, normal smtpd.Config) (*smtpd.Config, error) {
	service.Options = append(slices.Clone(service.Options), maincf.Setting{Name: "stress", Value: "yes"})
	view, err := g.snap.Service(service)
	if err != nil {
		return nil, err
	}
	var c smtpd.Config
	if err := view.Fill(&c); err != nil {
		return nil, err
	}
	if reflect.DeepEqual(c, normal) {
		return nil, nil
	}
	return &c, nil
}

// checker parses the restriction lists of a service.
func (g *generation) checker(view *config.View, service mastercf.Service, log *maillog.Logger) (*restrict.Checker, error) {
	var c restrict.Config
	if err := view.Fill(&c); err != nil {
		return nil, err
	}
	policies, err := g.policies(view, log)
	if err != nil {
		return nil, err
	}
	checker, err := restrict.New(c, restrict.Setup{
		Policies: policies,
		Log:      log, Tables: g.tables.With(log), Route: g.resolver, DNS: g.system.dns, Own: g.isInterface, Proxied: g.isProxied,
		OldDefault: oldDefault(view, log),
		Verifier:   g.verify,
		Parameter: func(name string) (string, bool) {
			if !view.Explicit(name) {
				return "", false
			}
			value, err := view.String(name)
			return value, err == nil
		},
		Position: func(param string) (string, int) {
			for _, o := range service.Options {
				if o.Name == param {
					return service.Path, service.Line
				}
			}
			s, ok := g.snap.MainFile().Get(param)
			if !ok {
				return "", 0
			}
			return g.snap.MainFile().Path, s.Line
		},
	})
	if err != nil {
		return nil, err
	}
	g.keep(checker)
	return checker, nil
}

func (g *generation) freeSpace(ctx context.Context) (int64, error) {
	status, err := g.system.store.Status(ctx)
	return status.FreeBytes, err
}

// etrn has the mail for a domain delivered (flush(8)).
func (g *generation) etrn(ctx context.Context, domain string) smtpd.Flushed {
	switch g.flush(ctx, trigger.Flush{Kind: trigger.SendSite, Site: domain}) {
	case trigger.OK:
		return smtpd.FlushOK
	case trigger.Deny:
		return smtpd.FlushDenied
	case trigger.Invalid:
		return smtpd.FlushBad
	}
	return smtpd.FlushFailed
}
