package route

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/sys/maillog"
)

// Config is what main.cf says about resolving. The queue manager and smtpd use
// it as it is; verify(8) probes use VerifyConfig.
type Config struct {
	Rewrite RewriteConfig

	MyHostname            string `param:"myhostname"`
	MyDestination         string `param:"mydestination"`
	VirtualAliasDomains   string `param:"virtual_alias_domains"`
	VirtualMailboxDomains string `param:"virtual_mailbox_domains"`
	RelayDomains          string `param:"relay_domains"`
	ParentDomains         string `param:"parent_domain_matches_subdomains"`
	RelocatedMaps         string `param:"relocated_maps"`
	RelocatedPrefix       bool   `param:"relocated_prefix_enable"`

	ResolveDequoted      bool   `param:"resolve_dequoted_address"`
	ResolveNullDomain    bool   `param:"resolve_null_domain"`
	ResolveNumericDomain bool   `param:"resolve_numeric_domain"`
	AllowMinUser         bool   `param:"allow_min_user"`
	ShowTable            bool   `param:"show_user_unknown_table_name"`
	HelpfulWarnings      bool   `param:"helpful_warnings"`
	SMTPUTF8             bool   `param:"smtputf8_enable"`
	RecipientDelimiter   string `param:"recipient_delimiter"`
	OwnerRequest         bool   `param:"owner_request_special"`
	DoubleBounce         string `param:"double_bounce_sender"`
	NullTransportKey     string `param:"empty_address_default_transport_maps_lookup_key"`
	NullRelayhostKey     string `param:"empty_address_relayhost_maps_lookup_key"`

	Routing Routing
}

// Routing is the part of Config that address verification may have its own
// values for.
type Routing struct {
	LocalTransport   string `param:"local_transport"`
	VirtualTransport string `param:"virtual_transport"`
	RelayTransport   string `param:"relay_transport"`
	DefaultTransport string `param:"default_transport"`
	Relayhost        string `param:"relayhost"`
	SenderRelayhost  string `param:"sender_dependent_relayhost_maps"`
	SenderTransport  string `param:"sender_dependent_default_transport_maps"`
	TransportMaps    string `param:"transport_maps"`

	// names are the parameters' names for the log; nil for those above.
	names *[8]string
}

// VerifyRouting is Routing for address verification probes
// (ADDRESS_VERIFICATION_README, "Probe message routing").
type VerifyRouting struct {
	LocalTransport   string `param:"address_verify_local_transport"`
	VirtualTransport string `param:"address_verify_virtual_transport"`
	RelayTransport   string `param:"address_verify_relay_transport"`
	DefaultTransport string `param:"address_verify_default_transport"`
	Relayhost        string `param:"address_verify_relayhost"`
	SenderRelayhost  string `param:"address_verify_sender_dependent_relayhost_maps"`
	SenderTransport  string `param:"address_verify_sender_dependent_default_transport_maps"`
	TransportMaps    string `param:"address_verify_transport_maps"`
}

// Routing returns v as a Routing that names its own parameters in the log.
func (v VerifyRouting) Routing() Routing {
	var names [8]string
	for i, name := range routingNames {
		names[i] = "address_verify_" + name
	}
	return Routing{v.LocalTransport, v.VirtualTransport, v.RelayTransport, v.DefaultTransport,
		v.Relayhost, v.SenderRelayhost, v.SenderTransport, v.TransportMaps, &names}
}

// Differs reports whether probes are to be routed in another way than r.
func (v VerifyRouting) Differs(r Routing) bool {
	r.names = nil
	return r != Routing{v.LocalTransport, v.VirtualTransport, v.RelayTransport, v.DefaultTransport,
		v.Relayhost, v.SenderRelayhost, v.SenderTransport, v.TransportMaps, nil}
}

const (
	nameLocal = iota
	nameVirtual
	nameRelay
	nameDefault
	nameRelayhost
	nameSenderRelayhost
	nameSenderTransport
	nameTransportMaps
)

var routingNames = [8]string{"local_transport", "virtual_transport", "relay_transport", "default_transport",
	"relayhost", "sender_dependent_relayhost_maps", "sender_dependent_default_transport_maps", "transport_maps"}

func (r Routing) name(i int) string {
	if r.names != nil {
		return r.names[i]
	}
	return routingNames[i]
}

// Matcher is a list of names (internal/table/matchlist); a nil one matches nothing.
type Matcher interface {
	Match(ctx context.Context, name string) (bool, error)
}

// Finder looks an address up by the search order of its table; nil finds nothing.
type Finder func(ctx context.Context, key string) (value string, found bool, err error)

// Tables are the open lists and tables of a Config.
type Tables struct {
	MyDestination, VirtualAliasDomains, VirtualMailboxDomains, RelayDomains Matcher
	// SenderRelayhost, SenderTransport and Relocated search as
	// mail_addr_find(3): user+ext@domain, user@domain, @domain, and user for
	// local domains.
	SenderRelayhost, SenderTransport, Relocated Finder
	// Transport searches as transport(5), "*" included.
	Transport Finder
	// Own reports whether an address is one of inet_interfaces or proxy_interfaces.
	Own func(netip.Addr) bool
}

// Resolver turns a recipient into a Route. Safe for concurrent use.
type Resolver struct {
	cfg      Config
	tables   Tables
	rewriter *Rewriter
	log      *maillog.Logger
}

// NewResolver makes a resolver from opened tables; see Open.
func NewResolver(cfg Config, t Tables, log *maillog.Logger) *Resolver {
	return &Resolver{cfg: cfg, tables: t, rewriter: NewRewriter(cfg.Rewrite), log: log}
}

// Rewriter is the rewriter of the same configuration.
func (r *Resolver) Rewriter() *Rewriter { return r.rewriter }

// BadSyntax is the Problem of a recipient that no mail can be sent to.
var BadSyntax = dsn.New(550, "5.1.3", "bad address syntax")

// Resolve finds class, transport, nexthop and final recipient of rcpt, an
// address in internal form; sender selects the sender dependent settings. An
// error means "try again": a table failed, and the log says which.
//
// Recipients of the error and retry transports have their text, with its
// enhanced code, as Nexthop. Problem is set for addresses that are not valid.
func (r *Resolver) Resolve(ctx context.Context, sender, rcpt addr.Address) (Route, error) {
	f, local, err := r.stripLocal(ctx, rcpt)
	if err != nil {
		return Route{}, err
	}
	f, valid, becameLocal, err := r.checkDomain(ctx, f)
	if err != nil {
		return Route{}, err
	}
	route := Route{Recipient: f.address()}
	if !valid || (!r.cfg.AllowMinUser && strings.HasPrefix(string(route.Recipient), "-")) {
		route.Problem = BadSyntax
		return route, nil
	}
	route.Routed = strings.ContainsAny(f.local, "@!%")

	q := query{r: r, ctx: ctx, sender: string(sender), domain: f.domain, route: route}
	if local || becameLocal {
		err = q.local()
	} else {
		err = q.remote()
	}
	if err != nil {
		return Route{}, err
	}
	if err := q.override(); err != nil {
		return Route{}, err
	}
	return q.route, nil
}

// stripLocal strips domains that are ours off the address until one is not, or
// none is left: with the percent hack, bang paths or quoted routing,
// "user%far@here" is for far. The rest is for here (local) or for its domain.
func (r *Resolver) stripLocal(ctx context.Context, rcpt addr.Address) (f form, local bool, err error) {
	f = parse(rcpt)
	saved := r.cfg.MyHostname
	// Every round takes an operator away; the bound is for the day it does not.
	for range len(rcpt) + 100 {
		f.domain = trimDot(f.domain)
		if r.cfg.ResolveNullDomain && f.domain == "" {
			f.has = false
		}
		if f.has {
			if f.domain != "" {
				ours, err := r.IsLocal(ctx, f.domain)
				if err != nil {
					return form{}, false, err
				}
				if !ours {
					return f, false, nil
				}
			}
			saved, f.has, f.domain = f.domain, false, ""
		}
		next, more := r.nextHop(f)
		if !more {
			return form{f.local, saved, true}, true, nil
		}
		f = r.rewriter.rewrite(ContextLocal, next)
		if !f.has {
			// append_at_myorigin is off: nothing to strip, nothing to crack.
			return form{f.local, saved, true}, true, nil
		}
	}
	return form{}, false, fmt.Errorf("resolve <%s>: giving up", rcpt)
}

// nextHop finds the destination inside a local part: more is false when there
// is none. The result is not yet in standard form.
func (r *Resolver) nextHop(f form) (next form, more bool) {
	if f.local == "" {
		return form{local: "MAILER-DAEMON"}, true
	}
	bang := r.cfg.Rewrite.SwapBangPath && strings.Contains(f.local, "!")
	percent := r.cfg.Rewrite.PercentHack && strings.Contains(f.local, "%")
	if addr.IsDotString(f.local) {
		return f, bang || percent
	}
	if !r.cfg.ResolveDequoted {
		return f, false
	}
	// Quotes around routing do not hide it: the next host may look inside.
	if at := strings.LastIndexByte(f.local, '@'); at >= 0 {
		return form{f.local[:at], f.local[at+1:], true}, true
	}
	if percent {
		at := strings.LastIndexByte(f.local, '%')
		return form{f.local[:at], f.local[at+1:], true}, true
	}
	if bang {
		site, user, _ := strings.Cut(f.local, "!")
		return form{user, site, true}, true
	}
	return f, false
}

// IsLocal reports whether a domain is in mydestination, or an address literal
// of ours (inet_interfaces, proxy_interfaces).
func (r *Resolver) IsLocal(ctx context.Context, domain string) (bool, error) {
	if n := len(domain); n > 0 && domain[n-1] == '.' {
		domain = domain[:n-1]
	}
	if domain == "" || domain[len(domain)-1] == '.' {
		return false, nil
	}
	ours, err := r.match(ctx, r.tables.MyDestination, "mydestination", domain)
	if ours || err != nil {
		return ours, err
	}
	ip, ok := addr.ParseLiteral(domain)
	return ok && r.tables.Own != nil && r.tables.Own(ip), nil
}

// checkDomain tells whether the domain can be one. A bare address becomes a
// literal with resolve_numeric_domain.
func (r *Resolver) checkDomain(ctx context.Context, f form) (_ form, valid, local bool, err error) {
	if strings.HasPrefix(f.domain, "[") {
		_, ok := addr.ParseLiteral(f.domain)
		if text := strings.Trim(f.domain, "[]"); !ok && !strings.Contains(text, ":") {
			if gripe := addr.HostaddrGripe(text); gripe != "" {
				r.log.Warnf("valid_ipv4_hostaddr: %s", gripe)
			}
		}
		return f, ok, false, nil
	}
	if addr.ValidHostname(f.domain) && (r.cfg.SMTPUTF8 || addr.Address(f.domain).IsASCII()) {
		return f, true, false, nil
	}
	if _, err := netip.ParseAddr(f.domain); err != nil || !r.cfg.ResolveNumericDomain {
		return f, false, false, nil
	}
	f.domain = "[" + f.domain + "]"
	local, err = r.IsLocal(ctx, f.domain)
	return f, true, local, err
}

func (r *Resolver) match(ctx context.Context, m Matcher, param, domain string) (bool, error) {
	if m == nil {
		return false, nil
	}
	ok, err := m.Match(ctx, domain)
	if err != nil {
		r.log.Warnf("%s lookup failure", param)
		return false, err
	}
	return ok, nil
}
