// Package checkspf is the restriction check_spf: SPF (RFC 7208) inside the SMTP
// server, without a policy daemon.
//
// A Gate is made once for each smtpd service from its parameters, and is given
// to package restrict as a policy by the name check_spf. It checks the HELO
// name and the sender, answers with an access(5) action, and gives a message
// that is let through a header field, once. Clients of our own, logged in, our
// backup MX hosts and trusted forwarders are not checked.
//
// Its Results are remembered for a short while, and shared: greylisting asks
// the same question about the same client.
package checkspf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/policy/access"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/policy/spf"
	"posthaste/internal/sys/dns"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/matchlist"
)

// Name is what restriction lists call it.
const Name = "check_spf"

// Config is what main.cf says about it.
type Config struct {
	Fail       string        `param:"posthaste_spf_fail_action"`
	SoftFail   string        `param:"posthaste_spf_softfail_action"`
	PermError  string        `param:"posthaste_spf_permerror_action"`
	TempError  string        `param:"posthaste_spf_temperror_action"`
	RejectCode int           `param:"posthaste_spf_reject_code"`
	CheckHelo  bool          `param:"posthaste_spf_check_helo"`
	Header     string        `param:"posthaste_spf_header"`
	AuthservID string        `param:"posthaste_spf_authserv_id"`
	BackupMX   bool          `param:"posthaste_spf_backup_mx"`
	Forwarders string        `param:"posthaste_spf_trusted_forwarders"`
	Exempt     string        `param:"posthaste_spf_exempt_domains"`
	Timeout    time.Duration `param:"posthaste_spf_timeout"`
	VoidLimit  int           `param:"posthaste_spf_void_limit"`

	MyHostname    string `param:"myhostname"`
	MyNetworks    string `param:"mynetworks"`
	ParentDomains string `param:"parent_domain_matches_subdomains"`
}

// Setup is what a Gate works with.
type Setup struct {
	DNS    dns.Resolver
	Tables *table.Opener
	Log    *maillog.Logger
	// Results are the ones to share; nil for its own.
	Results *Results
}

// action is what is done about a result.
type action uint8

const (
	letPass action = iota
	warn           // only log it
	postpone
	reject
)

var actions = map[string]action{"dunno": letPass, "warn": warn, "defer": postpone, "reject": reject}

// header is which field a message gets.
type header uint8

const (
	noHeader header = iota
	receivedSPF
	authResults
)

var headers = map[string]header{"none": noHeader, "received-spf": receivedSPF, "authentication-results": authResults}

// Gate is the restriction of one service. Safe for concurrent use.
type Gate struct {
	cfg        Config
	setup      Setup
	actions    map[spf.Result]action
	header     header
	networks   *matchlist.Hosts
	forwarders *matchlist.Hosts
	exempt     *matchlist.Domains
	results    *Results
	checker    *spf.Checker
}

// New makes a gate. The error names a parameter whose value cannot be used.
func New(c Config, s Setup) (*Gate, error) {
	g := &Gate{cfg: c, setup: s, actions: map[spf.Result]action{}, results: s.Results}
	for _, a := range []struct {
		result      spf.Result
		param, text string
	}{
		{spf.Fail, "posthaste_spf_fail_action", c.Fail}, {spf.SoftFail, "posthaste_spf_softfail_action", c.SoftFail},
		{spf.PermError, "posthaste_spf_permerror_action", c.PermError}, {spf.TempError, "posthaste_spf_temperror_action", c.TempError},
	} {
		known := false
		if g.actions[a.result], known = actions[strings.ToLower(a.text)]; !known {
			return nil, fmt.Errorf("bad value \"%s\" of %s: specify reject, defer, warn or dunno", a.text, a.param)
		}
	}
	known := false
	if g.header, known = headers[strings.ToLower(c.Header)]; !known {
		return nil, fmt.Errorf("bad value \"%s\" of posthaste_spf_header: specify received-spf, authentication-results or none", c.Header)
	}
	if c.RejectCode < 500 || c.RejectCode > 599 {
		return nil, fmt.Errorf("bad value %d of posthaste_spf_reject_code: specify 500 to 599", c.RejectCode)
	}
	if g.results == nil {
		g.results = NewResults()
	}
	voids := c.VoidLimit
	if voids <= 0 {
		voids = -1
	}
	g.checker = &spf.Checker{DNS: s.DNS, Receiver: c.MyHostname, Timeout: c.Timeout, VoidLimit: voids}
	g.networks = matchlist.NewHosts(s.Tables, "mynetworks", c.MyNetworks, table.MatchesSubdomains(c.ParentDomains, "mynetworks"))
	g.forwarders = matchlist.NewHosts(s.Tables, "posthaste_spf_trusted_forwarders", c.Forwarders, table.DotDomains)
	g.exempt = matchlist.NewDomains(s.Tables, "posthaste_spf_exempt_domains", c.Exempt, table.DotDomains)
	return g, nil
}

// Close closes tables.
func (g *Gate) Close() error {
	return errors.Join(g.networks.Close(), g.forwarders.Close(), g.exempt.Close())
}

// Policy is the restriction; where is the protocol state.
func (g *Gate) Policy(ctx context.Context, v *restrict.View, where string) string {
	ip, err := netip.ParseAddr(v.Client.Address)
	if err != nil || v.Helo == "" && !v.HasSender {
		return "DUNNO"
	}
	skipped, err := g.skips(ctx, v)
	switch {
	case err != nil:
		g.setup.Log.Warnf("%s: %v", Name, err)
		return "DEFER_IF_PERMIT 4.3.0 Temporary lookup failure"
	case skipped:
		return "DUNNO"
	}
	answers := g.answers(ctx, v, ip)
	for _, a := range answers {
		if text := g.act(ctx, v, &a); text != "" {
			return text
		}
	}
	return g.prepend(v, where, answers)
}

// skips reports whether a client or sender is not to be checked.
func (g *Gate) skips(ctx context.Context, v *restrict.View) (bool, error) {
	if v.SASLUsername != "" {
		return true, nil
	}
	for _, list := range []*matchlist.Hosts{g.networks, g.forwarders} {
		if in, err := list.Match(ctx, v.Client.Name, v.Client.Address); in || err != nil {
			return in, err
		}
	}
	if domain := v.Sender.Domain(); v.HasSender && domain != "" {
		return g.exempt.Match(ctx, domain)
	}
	return false, nil
}

// answers checks the identities: the HELO name, and the sender if it is not
// null.
func (g *Gate) answers(ctx context.Context, v *restrict.View, ip netip.Addr) []spf.Answer {
	var list []spf.Answer
	null := !v.HasSender || v.Sender == ""
	if v.Helo != "" && (null || g.cfg.CheckHelo) {
		list = append(list, g.results.check(ctx, g.checker, spf.Query{IP: ip, Scope: spf.Helo, Helo: v.Helo}))
		if r := list[0].Result; r == spf.Fail && g.actions[r] == reject {
			return list // the sender cannot change that
		}
	}
	if !null {
		list = append(list, g.results.check(ctx, g.checker, spf.Query{IP: ip, Sender: sender(v.Sender), Helo: v.Helo}))
	}
	return list
}

// Answer is what SPF says about a message: about its sender, or the HELO name
// when that is null. It is for other policies that want to know.
func (g *Gate) Answer(ctx context.Context, ip netip.Addr, from addr.Address, helo string) spf.Answer {
	if from == "" {
		return g.results.check(ctx, g.checker, spf.Query{IP: ip, Scope: spf.Helo, Helo: helo})
	}
	return g.results.check(ctx, g.checker, spf.Query{IP: ip, Sender: sender(from), Helo: helo})
}

// sender is the address that is looked up: with an internationalised domain in
// the form that DNS has.
func sender(a addr.Address) string {
	if ascii, err := addr.ToASCII(a.Domain()); err == nil && ascii != "" {
		return a.Local() + "@" + ascii
	}
	return string(a)
}

// act is what is done about a result; "" for nothing. A softfail, permerror or
// temperror of the HELO name is not held against a sender.
func (g *Gate) act(ctx context.Context, v *restrict.View, a *spf.Answer) string {
	do := g.actions[a.Result]
	if a.Query.Scope == spf.Helo && a.Result != spf.Fail && v.HasSender && v.Sender != "" {
		do = letPass
	}
	if do == letPass || g.isBackup(ctx, v, a.Query.IP) {
		return ""
	}
	text := fmt.Sprintf("SPF %s for %s: %s", a.Result, a.Query.Identity(), a.Comment())
	if a.Explanation != "" {
		text += "; " + a.Domain + " explains: " + a.Explanation
	}
	text = access.ReplyText(text)
	enhanced := "7.23"
	if a.Result == spf.TempError || a.Result == spf.PermError {
		enhanced = "7.24"
	}
	switch do {
	case warn:
		return "WARN " + text
	case postpone:
		return "DEFER_IF_PERMIT 4." + enhanced + " " + text
	}
	return fmt.Sprintf("%d 5.%s %s", g.cfg.RejectCode, enhanced, text)
}

// maxMX bounds the look-ups about a recipient's domain.
const maxMX = 10

// isBackup reports whether the client is an MX host of the recipient's domain:
// it hands on what others sent.
func (g *Gate) isBackup(ctx context.Context, v *restrict.View, ip netip.Addr) bool {
	domain, err := addr.ToASCII(v.Recipient.Domain())
	if !g.cfg.BackupMX || err != nil || domain == "" || domain[0] == '[' {
		return false
	}
	hosts, _, err := g.setup.DNS.MX(ctx, domain)
	if err != nil {
		return false
	}
	ask := g.setup.DNS.A
	if !ip.Is4() {
		ask = g.setup.DNS.AAAA
	}
	for _, h := range hosts[:min(len(hosts), maxMX)] {
		if h.Host == "" || h.Host == "." {
			continue
		}
		found, _, _ := ask(ctx, h.Host)
		if slices.ContainsFunc(found, func(a netip.Addr) bool { return a.Unmap() == ip }) {
			return true
		}
	}
	return false
}

// prepend gives the message its header field, once: about the sender or, if
// there is nothing to say about it, the HELO name.
func (g *Gate) prepend(v *restrict.View, where string, answers []spf.Answer) string {
	if g.header == noHeader || len(answers) == 0 || !v.HasSender || where == "END-OF-MESSAGE" {
		return "DUNNO"
	}
	a := &answers[len(answers)-1]
	if a.Result == spf.None && answers[0].Result != spf.None {
		a = &answers[0]
	}
	line := a.ReceivedSPF(g.cfg.MyHostname)
	if g.header == authResults {
		line = a.AuthenticationResults(g.cfg.AuthservID)
	}
	if slices.Contains(v.Actions.Prepend, line) {
		return "DUNNO"
	}
	return "PREPEND " + line
}
