package master

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"posthaste/internal/cleanup"
	"posthaste/internal/config"
	"posthaste/internal/delivery/bounce"
	"posthaste/internal/qmgr"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/table"
	"posthaste/internal/table/all"
)

// generation is the roles made from one snapshot of the configuration.
type generation struct {
	system *System
	snap   *config.Snapshot
	main   *config.View
	group  *lifecycle.Group // its sessions and listeners
	listen context.Context  // ends when it is to take nothing new
	retire context.CancelFunc
	// accepting are the loops that take connections of clients.
	accepting sync.WaitGroup
	released  chan struct{} // closed when the queue manager does without it
	own       []netip.Addr  // of inet_interfaces
	proxy     []netip.Addr  // of proxy_interfaces

	tables   *table.Opener
	resolver *route.Resolver
	cleanups map[string]*cleanup.Service
	bounce   *bounce.Service
	verify   *verification
	// probeResolver is for address verification probes; nil: resolver.
	probeResolver *route.Resolver
	agents        map[string]qmgr.Service

	mu      sync.Mutex
	closers []io.Closer
}

// newGeneration reads the configuration and builds what all roles share, and
// the delivery agents. Listening roles are built by serve.
func newGeneration(s *System) (*generation, error) {
	snap, err := config.Load(s.env.ConfigDir)
	if err != nil {
		return nil, err
	}
	g := &generation{system: s, snap: snap, main: snap.Main(), cleanups: map[string]*cleanup.Service{}, agents: map[string]qmgr.Service{}}
	g.verify = &verification{g: g}
	g.group = lifecycle.New(context.Background(), s.panicked)
	g.released = make(chan struct{})
	g.listen, g.retire = context.WithCancel(g.group.Context())
	for _, build := range []func() error{g.openTables, g.ownAddresses, g.routing, g.reports, g.cleanupServices, g.transports} {
		if err := build(); err != nil {
			g.close()
			return nil, err
		}
	}
	return g, nil
}

// keep has c closed at the end of the generation. Services start side by side.
func (g *generation) keep(c io.Closer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closers = append(g.closers, c)
}

func (g *generation) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range slices.Backward(g.closers) {
		c.Close()
	}
}

// unlisten ends listening, and waits until no loop takes connections any more:
// a client that comes after a reload is to meet the new configuration.
func (g *generation) unlisten() {
	g.retire()
	ended := make(chan struct{})
	g.system.core.Go("listeners of a former generation", func(context.Context) {
		defer close(ended)
		g.accepting.Wait()
	})
	select {
	case <-ended:
	case <-time.After(unlistenLimit):
	}
}

// unlistenLimit is for loops that are busy otherwise, such as with a table.
const unlistenLimit = time.Second

// drain ends listening, waits for sessions and deliveries, and closes the
// tables. They go on as they began: nobody notices a reload. ctx or stopping
// ends the wait.
func (g *generation) drain(ctx context.Context, stopping <-chan struct{}) {
	g.retire()
	ended := make(chan struct{})
	g.system.core.Go("sessions of a former generation", func(context.Context) {
		defer close(ended)
		g.group.Wait()
		select {
		case <-g.released:
		case <-stopping:
		}
	})
	limit := time.NewTimer(drainLimit)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
	case <-stopping:
	}
	stop := context.AfterFunc(ctx, func() { g.group.Stop(time.Second) })
	defer stop()
	g.group.Stop(stopGrace)
	g.close()
}

// drainLimit is how long sessions of a former configuration may go on.
const drainLimit = 30 * time.Minute

func (g *generation) openTables() error {
	var c struct {
		Default string `param:"default_database_type"`
		Proxy   string `param:"proxy_read_maps"`
		UTF8    bool   `param:"smtputf8_enable"`
	}
	if err := g.main.Fill(&c); err != nil {
		return err
	}
	allowed := map[string]bool{}
	for _, spec := range config.SplitWords(c.Proxy) {
		allowed[strings.TrimPrefix(spec, "proxy:")] = strings.HasPrefix(spec, "proxy:")
	}
	g.tables = table.NewOpener(table.Setup{
		Log: g.system.logger(g.main, "master"), Types: all.Types(), DefaultType: c.Default, UTF8: c.UTF8,
		OpenFile:     g.system.env.OpenFile,
		ProxyAllowed: func(spec string) bool { return allowed[spec] },
	})
	return nil
}

// ownAddresses are those of inet_interfaces and proxy_interfaces.
func (g *generation) ownAddresses() error {
	prefixes, err := g.main.Interfaces()
	if err != nil {
		return err
	}
	for _, p := range prefixes {
		g.own = append(g.own, p.Addr())
	}
	proxies, err := g.main.Words("proxy_interfaces")
	for _, word := range proxies {
		if ip, perr := netip.ParseAddr(word); perr == nil {
			g.proxy = append(g.proxy, ip.Unmap())
		}
	}
	return err
}

// isOwn reports whether mail to an address comes to this host.
func (g *generation) isOwn(ip netip.Addr) bool { return g.isInterface(ip) || g.isProxied(ip) }

func (g *generation) isInterface(ip netip.Addr) bool {
	return slices.Contains(g.own, ip.Unmap().WithZone(""))
}

func (g *generation) isProxied(ip netip.Addr) bool {
	return slices.Contains(g.proxy, ip.Unmap().WithZone(""))
}

func (g *generation) routing() error {
	var c route.Config
	if err := g.main.Fill(&c); err != nil {
		return err
	}
	c.Rewrite.OldDefault = oldDefault(g.main, g.system.logger(g.main, "trivial-rewrite"))
	resolver, lists := route.Open(c, g.tables.With(g.system.logger(g.main, "trivial-rewrite")), g.isOwn)
	g.resolver = resolver
	g.keep(lists)
	return g.probing(c)
}

// reports makes bounce(8), whose mail re-enters through cleanup.
func (g *generation) reports() error {
	var c bounce.Config
	if err := g.main.Fill(&c); err != nil {
		return err
	}
	g.bounce = bounce.New(c, bounce.Deps{
		Log:    g.system.logger(g.main, "bounce"),
		Submit: g.submitReport,
		Param: func(name string) (string, bool) {
			value, err := g.main.String(name)
			return value, err == nil && g.main.Known(name)
		},
	})
	return nil
}

// neighbours are what the queue manager needs of a generation.
func (g *generation) neighbours() qmgr.Neighbours {
	n := qmgr.Neighbours{Resolver: g.resolver, Agents: g, Bouncer: g.bounce, Probed: g.verify.Probed,
		Released: func() { close(g.released) }}
	if g.probeResolver != nil {
		n.Probing = g.probeResolver
	}
	return n
}

// Agent implements qmgr.Agents.
func (g *generation) Agent(name string) (qmgr.Service, bool) {
	s, ok := g.agents[name]
	return s, ok
}

// cleanupServices makes one service for each cleanup entry of master.cf.
func (g *generation) cleanupServices() error {
	for _, service := range g.snap.Services() {
		if service.Program() != "cleanup" {
			continue
		}
		view, err := g.snap.Service(service)
		if err != nil {
			return err
		}
		var c cleanup.Config
		if err := view.Fill(&c); err != nil {
			return err
		}
		log := g.system.logger(view, "cleanup")
		made, err := cleanup.New(c, cleanup.Deps{
			Store: g.system.store, Standard: g.resolver.Rewriter(), Search: g.resolver.Search(), Tables: g.tables.With(log),
			Bouncer: g.bounce, Log: log,
		})
		if err != nil {
			return err
		}
		g.cleanups[service.Name] = made
		g.keep(made)
	}
	return nil
}

// cleanup is the service that a role hands its mail to (postconf(5)
// cleanup_service_name).
func (g *generation) cleanup(view *config.View) (*cleanup.Service, bool) {
	name, err := view.String("cleanup_service_name")
	if err != nil {
		return nil, false
	}
	s, ok := g.cleanups[name]
	return s, ok
}
