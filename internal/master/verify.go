package master

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"posthaste/internal/cleanup"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/policy/verify"
	"posthaste/internal/qmgr/route"
)

// verifyCaches are the caches in files. They outlast generations, because two
// of them may be at work at a time.
type verifyCaches struct {
	mu   sync.Mutex
	open map[string]verify.Cache // by path
}

// get opens a cache, once. One that cannot be opened is replaced by one in
// memory.
func (c *verifyCaches) get(path, name string) (verify.Cache, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.open[path]; known != nil {
		return known, nil
	}
	cache, err := verify.Open(path, name)
	if err != nil {
		return verify.Memory(), err
	}
	if c.open == nil {
		c.open = map[string]verify.Cache{}
	}
	c.open[path] = cache
	return cache, nil
}

// Close closes all caches.
func (c *verifyCaches) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, cache := range c.open {
		errs = append(errs, cache.Close())
	}
	c.open = nil
	return errors.Join(errs...)
}

// verification makes verify(8) when somebody asks for the first time.
type verification struct {
	g    *generation
	once sync.Once
	made *verify.Service
	err  error
}

// Query implements restrict.Verifier.
func (v *verification) Query(ctx context.Context, a addr.Address) (restrict.Verification, error) {
	v.once.Do(v.make)
	if v.err != nil {
		return restrict.Verification{}, v.err
	}
	return v.made.Query(ctx, a)
}

// Probed is told by the queue manager; probes of a former process too.
func (v *verification) Probed(a addr.Address, s dsn.Status) {
	v.once.Do(v.make)
	if v.err == nil {
		v.made.Probed(a, s)
	}
}

func (v *verification) make() {
	g := v.g
	log := g.system.logger(g.main, "verify")
	var c verify.Config
	var place struct {
		Map     string `param:"address_verify_map"`
		DataDir string `param:"data_directory"`
	}
	if v.err = errors.Join(g.main.Fill(&c), g.main.Fill(&place)); v.err != nil {
		return
	}
	cache := verify.Memory()
	if name := strings.TrimSpace(place.Map); name != "" {
		// The file is our own, beside the one that Postfix would use.
		base := filepath.Base(name[strings.LastIndexByte(name, ':')+1:])
		var err error
		if cache, err = g.system.verified.get(filepath.Join(place.DataDir, base+".bbolt"), name); err != nil {
			log.Warnf("%v: results of address verification are not kept", err)
		}
	}
	v.made = verify.New(c, verify.Deps{Cache: cache, Log: log, Probe: g.probe})
}

// probe queues an address verification probe.
func (g *generation) probe(ctx context.Context, sender, recipient addr.Address) error {
	service, ok := g.cleanup(g.main)
	if !ok {
		return errNoCleanup
	}
	m, err := service.Begin(ctx, cleanup.Options{Flags: service.Flags(cleanup.SourceVerify), Origin: "local"})
	if err != nil {
		return err
	}
	defer m.Abort()
	now := time.Now()
	e := m.Envelope()
	e.Arrival, e.Inject, e.RewriteContext, e.Trace = now, "verify", "local", envelope.TraceProbe
	m.SetSender(ctx, sender)
	m.AddRecipient(ctx, envelope.Recipient{Address: recipient})
	host, _ := g.main.String("myhostname")
	name, _ := g.main.String("mail_name")
	date := now.Format("Mon, 02 Jan 2006 15:04:05 -0700 (MST)")
	m.Trace(ctx, fmt.Appendf(nil, "Received: by %s (%s)\n\tid %s; %s\n", host, name, m.ID(), date))
	fmt.Fprintf(m, "Date: %s\nFrom: %s\nTo: %s\nSubject: probe\n\n", date, sender.External(), recipient.External())
	if status := m.Commit(ctx); !status.OK() {
		return errors.New(status.Reply())
	}
	return nil
}

// probing resolves the recipients of probes, with the address_verify_
// parameters in place of the others.
func (g *generation) probing(c route.Config) error {
	var v route.VerifyRouting
	if err := g.main.Fill(&v); err != nil {
		return err
	}
	if !v.Differs(c.Routing) {
		return nil
	}
	c.Routing = v.Routing()
	resolver, lists := route.Open(c, g.tables.With(g.system.logger(g.main, "trivial-rewrite")), g.isOwn)
	g.probeResolver = resolver
	g.keep(lists)
	return nil
}
