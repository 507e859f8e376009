package smtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"posthaste/internal/delivery/smtp/outgoing"
	"posthaste/internal/delivery/smtp/tlspolicy"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/sys/dns"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/wire/mailtls"
)

// Deps is what an agent needs of the rest of the system.
type Deps struct {
	DNS            dns.Resolver
	Log            *maillog.Logger
	Own            func(netip.Addr) bool // whether an address is this system's
	QueueDirectory string                // relative LMTP socket names start here
	LMTP           bool                  // speak LMTP
	Tables         *table.Opener         // nil: TLS policies are not looked up
	// IsLocal tells domains whose addresses generic(5) has by local part, too.
	IsLocal func(ctx context.Context, domain string) (bool, error)
	// OpenFile opens certificate files that only root may read; nil: os.Open.
	OpenFile func(path string) (*os.File, error)
}

// Agent delivers over SMTP or LMTP. Safe for concurrent use.
type Agent struct {
	config Config
	log    *maillog.Logger
	finder *finder
	lmtp   bool
	tls    *tlspolicy.Policies
	queue  string
	// outgoing changes addresses and content.
	outgoing *outgoing.Rewriter
	dial     func(ctx context.Context, network, local, remote string) (net.Conn, error)
}

// New makes an agent for one service of master.cf. The error names a setting
// that cannot be used.
func New(c Config, d Deps) (*Agent, error) {
	own := d.Own
	if own == nil {
		own = func(netip.Addr) bool { return false }
	}
	prefix := "smtp"
	if d.LMTP {
		prefix = "lmtp"
	}
	policies, err := tlspolicy.Open(c.TLS, prefix, d.Tables, mailtls.Deps{Log: d.Log, OpenFile: d.OpenFile})
	if err != nil {
		return nil, err
	}
	return &Agent{
		config: c, log: d.Log, lmtp: d.LMTP, tls: policies, queue: d.QueueDirectory, dial: dial,
		outgoing: outgoing.Open(c.Outgoing, prefix, d.Tables, d.IsLocal),
		finder:   &finder{config: c, dns: d.DNS, log: d.Log, own: own},
	}, nil
}

// Close closes the tables.
func (a *Agent) Close() error { return errors.Join(a.tls.Close(), a.outgoing.Close()) }

var _ transport.Agent = (*Agent)(nil)

func dial(ctx context.Context, network, local, remote string) (net.Conn, error) {
	var d net.Dialer
	if local != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
	}
	return d.DialContext(ctx, network, remote)
}

func (a *Agent) socketPath(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(a.queue, name)
}

// target is one place to connect to.
type target struct {
	host
	port   uint16
	socket string
	hop    nexthop
}

func (t target) where() string {
	if t.socket != "" {
		return t.name + "[" + t.socket + "]"
	}
	return fmt.Sprintf("%s[%s]", t.name, t.ip)
}

func (t target) relay() string {
	if t.socket != "" {
		return t.where()
	}
	return fmt.Sprintf("%s:%d", t.where(), t.port)
}

// delivery is one request under way.
type delivery struct {
	agent   *Agent
	request *transport.Request
	pending []transport.Recipient // without an answer yet
	last    dsn.Status            // why the last host was no good
	final   bool                  // there is no other host to try
	relay   string                // of the last session, "none" without
	done    map[int]bool          // indexes of answered recipients
	// utf8Header: the header of the message is not ASCII; nil until it matters.
	utf8Header *bool
	tls        string
}

// Deliver implements transport.Agent.
func (a *Agent) Deliver(ctx context.Context, r *transport.Request) {
	d := &delivery{agent: a, request: r, pending: r.Recipients, relay: "none", done: map[int]bool{}}
	targets := d.targets(ctx)
	sessions := 0
	for i, t := range targets {
		if len(d.pending) == 0 || ctx.Err() != nil {
			return
		}
		limit := a.config.MXSessionLimit
		d.final = i == len(targets)-1 || limit > 0 && sessions == limit-1
		if d.attempt(ctx, t) {
			sessions++
		}
		if limit > 0 && sessions >= limit {
			break
		}
	}
	if ctx.Err() != nil {
		return // no outcome: the queue manager defers
	}
	for _, rcpt := range d.pending {
		d.report(nil, rcpt, d.last)
	}
}

// targets finds what to connect to. Without any, last says why.
func (d *delivery) targets(ctx context.Context) []target {
	hops, err := parseNexthops(d.request.Nexthop, d.defaultPort(), d.agent.lmtp)
	if err == nil && !d.agent.lmtp {
		var fallback []nexthop
		fallback, err = parseNexthops(d.agent.config.FallbackRelay, d.defaultPort(), false)
		hops = append(hops, fallback...)
	}
	if err != nil {
		d.agent.log.Warnf("%v", err)
		d.last = dsn.Newf(450, "4.3.5", "Server configuration error")
		return nil
	}
	var targets []target
	for _, hop := range hops {
		if hop.socket != "" {
			targets = append(targets, target{host: host{name: d.agent.config.Myhostname}, socket: hop.socket, hop: hop})
			continue
		}
		port, err := portNumber(hop.port)
		if err != nil {
			d.agent.log.Warnf("%v", err)
			d.last = dsn.New(450, "4.3.5", "Server configuration error")
			continue
		}
		hosts, status := d.agent.finder.find(ctx, hop, port == 25 && !d.agent.lmtp)
		if !status.IsZero() {
			d.last = d.blame(hop, status)
		}
		for _, h := range hosts {
			targets = append(targets, target{host: h, port: port, hop: hop})
		}
	}
	return targets
}

// blame tells a destination of the mail that does not exist from a host that
// somebody configured: that is our own mistake, and the mail waits.
func (d *delivery) blame(hop nexthop, status dsn.Status) dsn.Status {
	c := &d.agent.config
	param := ""
	switch hop.text {
	case c.Relayhost:
		param = "relayhost"
	case c.FallbackRelay:
		param = "smtp_fallback_relay"
	}
	if param == "" || !status.Permanent() {
		return status
	}
	d.agent.log.Warnf("%s configuration problem", param)
	return dsn.New(450, "4.3.5", status.Text()).WithScope(status.Scope)
}

func (d *delivery) defaultPort() string {
	if d.agent.config.TCPPort != "" {
		return d.agent.config.TCPPort
	}
	return "smtp"
}

// attempt has one conversation; it reports whether a session came about.
func (d *delivery) attempt(ctx context.Context, t target) bool {
	policy, err := d.policy(ctx, t)
	if err != nil {
		d.last = dsn.New(450, "4.7.5", err.Error()).WithScope(dsn.Site)
		return false
	}
	d.tls = tlsStatus(policy.Level, tlsUnknown)
	s, err := d.agent.open(ctx, t, policy)
	if errors.Is(err, errPlaintext) && d.waitedLong() {
		s.quit()
		if s, err = d.agent.open(ctx, t, mailtls.Policy{}); s != nil {
			s.tls = tlsStatus(policy.Level, tlsWithout)
		}
	}
	if s == nil {
		d.siteFailed(nil, err)
		return false
	}
	defer s.quit()
	stop := context.AfterFunc(ctx, func() { s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err == nil {
		rcpts := d.pending
		d.pending = nil
		tx := &transaction{session: s, delivery: d, rcpts: rcpts}
		if err = tx.run(ctx); err != nil {
			d.keepUnanswered(rcpts)
		}
	}
	if err != nil && ctx.Err() == nil { // when we were cut off, the host is not to blame
		d.siteFailed(s, err)
	}
	return true
}

// policy is what TLS is wanted of a host. Sockets of this host need none.
func (d *delivery) policy(ctx context.Context, t target) (mailtls.Policy, error) {
	if t.socket != "" {
		return mailtls.Policy{}, nil
	}
	policy, err := d.agent.tls.For(ctx, tlspolicy.Destination{Nexthop: t.hop.text, Domain: t.hop.host, Host: t.name})
	if err != nil {
		d.agent.log.Warnf("TLS policy lookup for %s/%s: %v", t.hop.text, t.name, err)
	}
	return policy, err
}

// waitedLong reports whether mail has waited for so long that it had better go
// in the clear than not at all, where TLS is optional.
func (d *delivery) waitedLong() bool {
	r := d.request
	return r.Active.Sub(r.Envelope.Arrival) >= d.agent.config.MinBackoff
}

// keepUnanswered puts the recipients of a broken session back.
func (d *delivery) keepUnanswered(rcpts []transport.Recipient) {
	kept := map[int]bool{}
	for _, r := range d.pending {
		kept[r.Index] = true
	}
	for _, r := range rcpts {
		if !kept[r.Index] && !d.answered(r.Index) {
			d.pending = append(d.pending, r)
		}
	}
}

// siteFailed notes why a host was no good. Unless it was the last one that is
// only worth a line in the log.
func (d *delivery) siteFailed(s *session, err error) {
	var site siteError
	if !errors.As(err, &site) {
		site.status = dsn.Trouble(err, err.Error())
	}
	d.last = site.status
	if s == nil {
		return
	}
	if !d.final {
		if len(d.pending) > 0 {
			d.agent.log.Infof("%s: %s", d.request.ID, site.status.Text())
		}
		return
	}
	for _, rcpt := range d.pending {
		d.report(s, rcpt, site.status)
	}
	d.pending = nil
}

// fail answers for one recipient; a temporary refusal is left to the next
// host, if there is one.
func (d *delivery) fail(s *session, rcpt transport.Recipient, status dsn.Status) {
	if status.Temporary() && !d.final {
		d.agent.log.Infof("%s: %s", d.request.ID, status.Text())
		d.pending = append(d.pending, rcpt)
		d.last = status
		return
	}
	d.report(s, rcpt, status)
}

// failAll is fail for trouble that concerns the message, said once.
func (d *delivery) failAll(s *session, rcpts []transport.Recipient, status dsn.Status) {
	status = status.WithScope(dsn.Message)
	if status.Temporary() && !d.final {
		d.agent.log.Infof("%s: %s", d.request.ID, status.Text())
		d.pending = append(d.pending, rcpts...)
		d.last = status
		return
	}
	for _, rcpt := range rcpts {
		d.report(s, rcpt, status)
	}
}

func (d *delivery) sent(s *session, rcpt transport.Recipient, r reply) {
	d.report(s, rcpt, s.said(r))
}

// report hands an outcome to the queue manager. s is nil without a session.
func (d *delivery) report(s *session, rcpt transport.Recipient, status dsn.Status) {
	o := transport.Outcome{Index: rcpt.Index, Recipient: rcpt.Recipient, Status: status, Relay: d.relay, TLS: d.tls}
	if s != nil {
		o.Relay, o.TLS, o.Connected = s.relay, s.tls, s.connected
		o.Relayed = !s.has("DSN")
	}
	d.done[rcpt.Index] = true
	d.request.Report(o)
}

func (d *delivery) answered(index int) bool { return d.done[index] }
