package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"posthaste/internal/cleanup"
	"posthaste/internal/inbound/accept"
	"posthaste/internal/inbound/peer"
	"posthaste/internal/inbound/smtpd/auth"
	"posthaste/internal/inbound/starttls"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/matchlist"
	"posthaste/internal/wire/mailtls"
	"posthaste/internal/wire/smtpproto"
)

// stressTime is how long a service stays under stress after it had no free
// session (STRESS_README).
const stressTime = 1000 * time.Second

// Server serves the sessions of one service. Safe for concurrent use.
type Server struct {
	opt  Options
	deps Deps
	log  *maillog.Logger

	normal, stress *settings
	acceptor       *accept.Acceptor

	mu          sync.Mutex
	sessions    map[*session]struct{}
	users       int           // running Serves and sessions
	drained     chan struct{} // closed when users falls to 0
	serial      int64
	stopping    bool      // idle sessions end
	stressUntil time.Time // last shortage of sessions
}

// settings is a Config with its lists opened.
type settings struct {
	Config
	notify       errClass
	noop         *matchlist.Strings
	forbidden    *matchlist.Strings
	filter       table.Table
	discard      smtpproto.Keywords
	discardMaps  *table.Maps
	bare         bareMode
	bareExcept   *matchlist.Hosts
	verp         *matchlist.Hosts
	xclient      *matchlist.Hosts
	xforward     *matchlist.Hosts
	unlimited    *matchlist.Hosts
	networks     *matchlist.Hosts
	footerMaps   *table.Maps
	rejectFilter *table.Maps
	relayCerts   *table.Maps
	rewrite      []rewriteItem
	auth         *auth.Service
	tls          *starttls.Service
	flags        cleanup.Flags
}

// New makes a server and opens its tables. The error names a setting that
// cannot be used; a broken table is none, it answers "try again".
func New(cfg Config, deps Deps, opt Options) (*Server, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Sink == nil || deps.Tables == nil {
		return nil, errors.New("smtpd: needs a Sink and Tables")
	}
	s := &Server{opt: opt, deps: deps, log: deps.Log, sessions: map[*session]struct{}{}}
	var err error
	if s.normal, err = open(cfg, deps); err != nil {
		return nil, err
	}
	s.stress = s.normal
	if opt.Stress != nil {
		if s.stress, err = open(*opt.Stress, deps); err != nil {
			return nil, err
		}
	}
	s.acceptor = accept.New("smtpd "+opt.Service, opt.MaxProc, deps.Log)
	if cfg.MinFree > 0 && cfg.MessageLimit > 0 && float64(cfg.MinFree)/1.5 < float64(cfg.MessageLimit) {
		s.log.Warnf("queue_minfree(%d) should be at least 1.5*message_size_limit(%d)", cfg.MinFree, cfg.MessageLimit)
	}
	return s, nil
}

// open opens the lists and tables of a configuration.
func open(cfg Config, deps Deps) (*settings, error) {
	o := deps.Tables
	bare, err := parseBareMode(cfg.BareNewline)
	if err != nil {
		return nil, err
	}
	flags, err := cleanup.External.Override(cfg.ReceiveOverride)
	if err != nil {
		return nil, err
	}
	hosts := func(param, text string) *matchlist.Hosts {
		return matchlist.NewHosts(o, param, text, table.MatchesSubdomains(cfg.Parents, param))
	}
	s := &settings{
		Config: cfg, notify: parseClasses(cfg.NotifyClasses), bare: bare, flags: flags,
		noop:         matchlist.NewStrings(o, "smtpd_noop_commands", cfg.NoopCommands),
		forbidden:    matchlist.NewStrings(o, "smtpd_forbidden_commands", cfg.ForbiddenCommands),
		discard:      smtpproto.ParseKeywords(cfg.DiscardKeywords),
		discardMaps:  o.Maps("smtpd_discard_ehlo_keyword_address_maps", cfg.DiscardMaps, table.FoldedKeys),
		bareExcept:   hosts("smtpd_forbid_bare_newline_exclusions", cfg.BareNewlineExcept),
		verp:         hosts("smtpd_authorized_verp_clients", cfg.VerpClients),
		xclient:      hosts("smtpd_authorized_xclient_hosts", cfg.XclientHosts),
		xforward:     hosts("smtpd_authorized_xforward_hosts", cfg.XforwardHosts),
		unlimited:    hosts("smtpd_client_event_limit_exceptions", cfg.RateExceptions),
		networks:     hosts("mynetworks", cfg.MyNetworks),
		footerMaps:   o.Maps("smtpd_reject_footer_maps", cfg.RejectFooterMaps, table.Use{}),
		rejectFilter: o.Maps("smtpd_reject_filter_maps", cfg.RejectFilter, table.Use{}),
		relayCerts:   o.Maps("relay_clientcerts", cfg.RelayCerts, table.Use{Fold: true}),
	}
	if s.tls, err = starttls.Open(cfg.TLS, o, mailtls.Deps{Log: deps.Log, OpenFile: deps.OpenFile, Now: deps.Now}); err != nil {
		return nil, err
	}
	if s.auth, err = auth.Open(cfg.Auth, o, deps.Log); err != nil {
		return nil, err
	}
	if cfg.CommandFilter != "" {
		s.filter = o.Open(cfg.CommandFilter, table.Use{})
	}
	if s.rewrite, err = parseRewriteClients(cfg.RewriteClients, o); err != nil {
		return nil, err
	}
	return s, nil
}

// current is the settings for a new session; s.mu is held.
func (s *Server) current() *settings {
	now := s.deps.Now()
	if s.opt.MaxProc > 0 && len(s.sessions) >= s.opt.MaxProc {
		s.stressUntil = now.Add(stressTime)
	}
	if now.Before(s.stressUntil) {
		return s.stress
	}
	return s.normal
}

// Close closes the tables; call it when no session is left.
func (s *Server) Close() error {
	var errs []error
	for _, set := range []*settings{s.normal, s.stress} {
		for _, c := range set.closers() {
			errs = append(errs, c.Close())
		}
		if s.stress == s.normal {
			break
		}
	}
	return errors.Join(errs...)
}

func (s *settings) closers() []io.Closer {
	all := []io.Closer{
		s.noop, s.forbidden, s.discardMaps, s.bareExcept, s.verp, s.xclient, s.xforward,
		s.unlimited, s.networks, s.footerMaps, s.rejectFilter, s.relayCerts, s.tls, s.auth,
	}
	if s.filter != nil {
		all = append(all, s.filter)
	}
	for _, item := range s.rewrite {
		if item.table != nil {
			all = append(all, item.table)
		}
	}
	return all
}

// Serve accepts connections until ctx ends or g stops, and leaves ln open.
// Sessions run in g: when it begins to stop, those that are between messages
// end with 421, the others after their message; when its context ends, all do.
// While all sessions are in use, connections wait in the listener.
func (s *Server) Serve(ctx context.Context, g *lifecycle.Group, ln net.Listener) error {
	drained := s.enter()
	defer s.leave()
	g.Go("smtpd "+s.opt.Service+" stop", func(ctx context.Context) { s.watch(ctx, g, drained) })
	return s.acceptor.Serve(ctx, g, ln, s.ServeConn)
}

// crash notes that a session met a configuration that no session can work
// with: as when a server process dies, those that follow have to wait.
func (s *Server) crash() {
	if s.deps.Throttle == nil {
		return
	}
	s.acceptor.Hold(s.deps.Throttle())
}

// enter counts a Serve or a session; the channel closes after the last leave.
func (s *Server) enter() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users++; s.users == 1 {
		s.drained = make(chan struct{})
	}
	return s.drained
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users == 0 {
		close(s.drained)
	}
}

// watch ends sessions when the group stops.
func (s *Server) watch(ctx context.Context, g *lifecycle.Group, drained <-chan struct{}) {
	select {
	case <-g.Stopping():
	case <-ctx.Done():
	case <-drained:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for c := range s.sessions {
		c.stop()
	}
}

// ServeConn serves one connection and closes it. The session ends early when
// ctx does.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) {
	s.serve(ctx, conn, peer.Of(conn))
}

// ServeStream speaks SMTP on a pair of streams, as "sendmail -bs" does on
// standard input and output.
func (s *Server) ServeStream(ctx context.Context, in io.Reader, out io.Writer) {
	s.serve(ctx, pipe{in, out}, peer.Client{Address: "127.0.0.1"})
}

// pipe makes a connection without time limits of two streams.
type pipe struct {
	io.Reader
	io.Writer
}

func (pipe) SetReadDeadline(time.Time) error  { return nil }
func (pipe) SetWriteDeadline(time.Time) error { return nil }
func (pipe) Close() error                     { return nil }

func (s *Server) serve(ctx context.Context, conn stream, from peer.Client) {
	c := &session{srv: s, ctx: ctx, log: s.log, stream: conn, flushed: s.deps.Now()}
	c.in = smtpproto.NewReader(c)
	c.conn.peer = from
	s.mu.Lock()
	s.serial++
	c.serial = s.serial
	s.sessions[c] = struct{}{}
	c.set = s.current()
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		c.stop()
	}
	s.enter()
	unwatch := context.AfterFunc(ctx, c.abort)
	defer func() {
		unwatch()
		s.leave()
		s.mu.Lock()
		delete(s.sessions, c)
		s.mu.Unlock()
		c.stream.Close()
	}()
	c.run()
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// bareMode is smtpd_forbid_bare_newline.
type bareMode uint8

const (
	bareNo bareMode = iota
	bareNormalize
	bareNote
	bareReject
)

func parseBareMode(text string) (bareMode, error) {
	switch strings.ToLower(text) {
	case "no", "":
		return bareNo, nil
	case "normalize", "yes":
		return bareNormalize, nil
	case "note":
		return bareNote, nil
	case "reject":
		return bareReject, nil
	}
	return 0, fmt.Errorf("bad parameter value: 'smtpd_forbid_bare_newline = %s'", text)
}
